"""The second stage: a primal-dual interior point for one table, over the few effects in play.

Mehrotra's predictor-corrector method. Every effect in play is the difference of two nonnegative parts; every
row that has slack lies between two walls. Effects that the dual vector prices above their weight join as it
goes, so that the result is an optimum over all effects although the linear systems only know some.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from captum_lkn.decomposition import lattice
from captum_lkn.decomposition.solvers.crossover import Program, cross_over
from captum_lkn.decomposition.solvers.newton import Columns, Factor, all_rows_gram
from captum_lkn.decomposition.solvers.problem import Lattice, Problem, adjoint, relative_gap

__all__ = ["Solution", "solve"]

_MAX_STEPS = 80
_START = 0.15  # the first barrier, relative to the sum that is minimised
_NEAR = 0.97  # an effect starts in play when the dual vector presses it to this share of its weight
_KEEP = 0.5  # the same for an effect that ADMM left nonzero
_ADMIT = 200  # how many effects may join in a step
_KEEP_OFF = 0.995  # the share of the way to the nearest wall that a step may go
_FEASIBLE = 1e-11  # what a row may be missed by, in units of the table's range
# Slack below this, in units of the table's range, is not used: the walls would be too near to step between. The bound
# counts it all the same. Below the second figure that is tried where the steps got nowhere.
_EXACT_BELOW = 1e-7
_NARROW = 1e-4
_PREVIEW = 1e-3  # a tolerance above this is a preview
_CROSS_OVER = 1e-5  # from this relative gap on, few effects and rows are in the wrong set
_PIVOTS = 100
_CERTAIN = 1e-9  # the gap of an exact optimum is rounding
_LOOK = 30  # a certificate is computed once the point is within this many tolerances
_STALLED_AFTER = 40  # steps without a better gap


@dataclass(frozen=True)
class Solution:
    """What came out for one table.

    Attributes:
        effects: ``[2, 2^n]``.
        constant: The empty effect, in the problem's unit; 0 where the ends are pinned.
        bound: The certified lower bound of the minimum.
        steps: Steps of the interior point.
        reason: Why it stopped: ``"converged"``, ``"stalled"`` (numerical limit) or ``"steps"``.
    """

    effects: Tensor
    constant: float
    bound: float
    steps: int
    reason: str


def solve(problem: Problem, effects: Tensor, dual: Tensor, tolerance: float) -> Solution:
    """An optimum of one table, from an approximate one.

    Args:
        problem: One table, ``values [2^n]``.
        effects: ``[2, 2^n]``, roughly optimal; need not be feasible.
        dual: ``[2^n]``, a roughly optimal dual vector.
        tolerance: The relative gap to stop at.

    Returns:
        The solution; its effects are feasible to rounding.
    """
    slack = float(problem.slack.max())
    solution = _solve(_Point(problem, effects, dual, exact=slack <= _EXACT_BELOW), tolerance)
    if solution.reason != "converged" and _EXACT_BELOW < slack < _NARROW:
        exact = _solve(_Point(problem, effects, dual, exact=True), tolerance)
        return max(solution, exact, key=lambda one: one.bound / float(problem.penalty(one.effects)))
    return solution


def _solve(point: _Point, tolerance: float) -> Solution:
    problem = point.problem
    # Feasible, if nothing else: what comes back where the numbers end before the first certificate.
    best = _Candidate(problem.repaired(problem.values.new_zeros(2, 1 << problem.n)), 0.0, float("inf"), 0.0)
    best_step, pivots, step = 0, 0, 0
    near = _CROSS_OVER if tolerance <= _PREVIEW else 0.0
    reason = "steps"
    for step in range(_MAX_STEPS):
        point.refresh()
        distance = point.distance()
        if distance <= near:
            exact, more = point.optimum(_PIVOTS)
            pivots += more
            if exact.gap <= min(tolerance, _CERTAIN):
                return _solution(exact, step + pivots, "converged")
            best = min(best, exact, key=lambda one: one.gap)
            near = distance / 100
        if distance > _LOOK * tolerance and step < _MAX_STEPS - 1:
            best_step = step  # too far from the optimum for a certificate to be worth its transforms
        else:
            candidate = point.candidate()
            if candidate.gap < best.gap:
                best, best_step = candidate, step
            if best.gap <= tolerance and tolerance > _PREVIEW:
                return _solution(best, step, "converged")
        if step - best_step >= _STALLED_AFTER:
            reason = "stalled"
            break
        point.admit()
        point.advance()
    if tolerance <= _PREVIEW:
        exact, more = point.optimum(20 * _PIVOTS)
        pivots += more
        best = min(best, exact, key=lambda one: one.gap)
    return _solution(best, step + pivots, "converged" if best.gap <= tolerance else reason)


@dataclass(frozen=True)
class _Candidate:
    """A feasible solution with its certificate."""

    effects: Tensor
    constant: float
    gap: float
    bound: float


def _solution(candidate: _Candidate, steps: int, reason: str) -> Solution:
    return Solution(candidate.effects, candidate.constant, candidate.bound, steps, reason)


class _Point:
    """Primal and dual unknowns of one table, and the step that improves them.

    ``parts [2, k]`` are the positive and negative part of each effect in play, ``prices [2, k]`` their
    multipliers; ``walls [2, m]`` the distances of each row with slack from its lower and upper wall,
    ``forces [2, m]`` their multipliers, so that the dual vector is the difference of the forces there. All of
    them stay positive, and the product of each with its multiplier goes to 0.
    """

    def __init__(self, problem: Problem, effects: Tensor, dual: Tensor, exact: bool) -> None:
        self.problem = problem
        size = 1 << problem.n
        self.exact = exact
        # Rows with slack, and rows that must be met exactly: all nonempty ones, the full set, or none.
        self.rows = slice(1, 1) if self.exact else slice(1, size - 1) if problem.pinned else slice(0, size)
        self.ends = slice(1, size) if self.exact else slice(size - 1, size) if problem.pinned else slice(0, 0)
        self.slack = problem.slack[self.rows]
        self.constant = problem.values.new_zeros(())
        self.end_dual = dual[self.ends].clone()
        self.weights = problem.weights.flatten()
        self.signs = dual.new_tensor([[1.0], [-1.0]])
        self._start(effects, dual)

    def _start(self, effects: Tensor, dual: Tensor) -> None:
        sums = adjoint(dual).flatten()
        pressed = sums.abs() / self.weights
        nonzero = (effects.flatten() != 0) & torch.isfinite(self.weights)
        in_play = nonzero & (pressed > _KEEP) | (pressed > _NEAR) | torch.isfinite(self.weights) & self.exact
        in_play[: in_play.numel() // 2] |= _singles(self.problem.n, dual.device)
        self.columns = Columns(in_play.nonzero().squeeze(-1), self.problem.n)
        x = effects.flatten()[self.columns.positions]
        total = (self.weights[self.columns.positions] * x.abs()).sum()
        count = 2 * (len(self.columns) + len(self.slack))
        self.barrier = float(_START * total.clamp_min(1e-3) / count)
        self.parts, self.prices = self._centre(self.columns.positions, x, sums)
        # The rows start where the barrier alone would put them for this dual vector.
        y = dual[self.rows]
        mu, slack = self.barrier, self.slack
        root = (mu * mu + (y * slack).square()).sqrt()
        offset = y * slack.square() / (mu + root)
        self.walls = torch.stack([slack + offset, slack - offset]).maximum(slack * 1e-3)
        self.forces = mu / self.walls

    def _centre(self, positions: Tensor, x: Tensor, sums: Tensor) -> tuple[Tensor, Tensor]:
        """Parts and prices near the path for effects x whose columns the dual vector presses with ``sums``."""
        slope = self.weights[positions] + self.signs * (self.problem.ridge * x - sums[positions])
        part = (self.signs * x).clamp_min(0)
        price = slope.maximum((self.barrier / part.clamp_min(1e-12)).clamp_max(self.barrier**0.5))
        return part.maximum(self.barrier / price), price

    @property
    def x(self) -> Tensor:
        """The effects in play, ``[k]``."""
        return self.parts[0] - self.parts[1]

    def refresh(self) -> None:
        """The dual vector, its sums, and what each row misses, at this point."""
        self.dual = self.problem.values.new_zeros(self.problem.values.shape)
        self.dual[self.rows] = self.forces[1] - self.forces[0]
        self.dual[self.ends] = self.end_dual
        self.sums = adjoint(self.dual)  # of the nonempty sets, for which the entry of the empty set is nothing
        self._measure()

    def _measure(self) -> None:
        self.missed = self.problem.values - self.constant - self.columns.synthesis(self.x)
        self.missed[: self.rows.start] = 0

    def distance(self) -> float:
        """The complementarity products against the sum that is minimised: about the relative gap."""
        products = (self.parts * self.prices).sum() + (self.walls * self.forces).sum()
        total = (self.weights[self.columns.positions] * self.x.abs()).sum()
        return float(products / total)

    def candidate(self) -> _Candidate:
        """The effects made feasible, with what the dual vector certifies for them."""
        constant = self.constant.clamp(-self.problem.slack[0], self.problem.slack[0])
        repaired = self.problem.repaired(self.columns.spread(self.x), constant)
        bound = self.problem.bound(self.dual, self.sums)
        gap = relative_gap(self.problem.penalty(repaired), bound)
        return _Candidate(repaired, float(constant), float(gap), float(bound))

    def optimum(self, max_pivots: int) -> tuple[_Candidate, int]:
        """The exact optimum that the point heads for, from the sets that its multipliers name; and the pivots."""
        problem = self.problem
        x = torch.where((self.parts > self.prices).any(0), self.x, torch.zeros_like(self.x))
        dual = self.dual.clone()
        at_wall = (self.forces > self.walls).any(0)
        dual[self.rows] = torch.where(at_wall, dual[self.rows], torch.zeros_like(dual[self.rows]))
        live = torch.ones_like(dual, dtype=torch.bool)
        live[0] = not problem.pinned
        program = Program(
            Lattice(problem.n),
            problem.values,
            problem.slack,
            self.weights,
            problem.ridge,
            not problem.pinned,
            live,
        )
        found = cross_over(program, self.columns.spread(x).flatten(), float(self.constant), dual, max_pivots)
        effects, constant = found.effects.view(2, -1), found.constant
        if not found.finished or not float(problem.excess(effects, constant)[1:].abs().amax()) < _FEASIBLE:
            constant = float(torch.as_tensor(constant).clamp(-problem.slack[0], problem.slack[0]))
            effects = problem.repaired(effects, constant)
        bound = float(problem.bound(found.dual))
        gap = float(relative_gap(problem.penalty(effects), effects.new_tensor(bound)))
        return _Candidate(effects, constant, gap if gap == gap else float("inf"), bound), found.pivots

    def admit(self) -> None:
        """Take effects into play that the dual vector presses beyond their weight."""
        pressed = self.sums.flatten().abs() / self.weights
        pressed[self.columns.positions] = 0
        new = (pressed > 1).nonzero().squeeze(-1)
        if not len(new):
            return
        if len(new) > _ADMIT:
            new = new[pressed[new].topk(_ADMIT).indices]
        parts, prices = self._centre(new, torch.zeros_like(pressed[new]), self.sums.flatten())
        positions, order = torch.cat([self.columns.positions, new]).sort()
        self.columns = Columns(positions, self.problem.n)
        self.parts = torch.cat([self.parts, parts], dim=1)[:, order]
        self.prices = torch.cat([self.prices, prices], dim=1)[:, order]
        self._measure()

    def advance(self) -> None:
        """One predictor-corrector step."""
        system = self._system()
        product = self.parts * self.prices, self.walls * self.forces
        count = product[0].numel() + product[1].numel()
        mu = (product[0].sum() + product[1].sum()) / count
        probe = system.direction(-product[0], -product[1])
        primal, dual = self._lengths(probe, 1.0)
        after = ((self.parts + primal * probe.parts) * (self.prices + dual * probe.prices)).sum()
        after = after + ((self.walls + primal * probe.walls) * (self.forces + dual * probe.forces)).sum()
        self.barrier = float(mu * ((after / count / mu) ** 3).clamp_max(1))
        step = system.direction(
            self.barrier - product[0] - probe.parts * probe.prices,
            self.barrier - product[1] - probe.walls * probe.forces,
        )
        primal, dual = self._lengths(step, _KEEP_OFF)
        self.parts = self.parts + primal * step.parts
        self.walls = self.walls + primal * step.walls
        self.constant = self.constant + primal * step.constant
        self.prices = self.prices + dual * step.prices
        self.forces = self.forces + dual * step.forces
        self.end_dual = self.end_dual + dual * step.end_dual

    def _lengths(self, step: _Step, share: float) -> tuple[float, float]:
        primal = _reach((self.parts, step.parts), (self.walls, step.walls), share)
        dual = _reach((self.prices, step.prices), (self.forces, step.forces), share)
        # With a ridge the effects appear in the dual equations: one length for both.
        return (min(primal, dual),) * 2 if self.problem.ridge else (primal, dual)

    def _system(self) -> _System:
        return _System(self)


@dataclass(frozen=True)
class _Step:
    parts: Tensor
    prices: Tensor
    walls: Tensor
    forces: Tensor
    constant: Tensor
    end_dual: Tensor


class _System:
    """The linearised conditions at a point, factored once for predictor and corrector."""

    def __init__(self, point: _Point) -> None:
        self.point = p = point
        columns, problem = p.columns, p.problem
        weights = p.weights[columns.positions]
        self.price_gap = weights + p.signs * (problem.ridge * p.x - columns.take(p.sums)) - p.prices
        self.offset = (p.walls[0] - p.walls[1]) / 2
        self.row_gap = p.missed[p.rows] - self.offset
        self.give = (p.parts / p.prices).sum(0)
        curvature = 1 / self.give + problem.ridge
        if p.exact:
            self.column_weights = columns.spread(1 / curvature)
            self.factor = Factor(all_rows_gram(self.column_weights, problem.n))
            return
        self.stiffness = (p.forces / p.walls).sum(0)
        everywhere = torch.zeros_like(problem.values)
        everywhere[p.rows] = self.stiffness
        matrix = columns.gram(everywhere)
        matrix.diagonal().add_(curvature)
        self.factor = Factor(matrix)
        # One more unknown borders the system: the multiplier of the full set's row, or the free constant.
        self.border = torch.ones_like(curvature) if problem.pinned else columns.take(adjoint(everywhere))
        self.corner = problem.values.new_zeros(()) if problem.pinned else self.stiffness.sum()
        self.bent = self.factor.solve(self.border)

    def direction(self, products: Tensor, row_products: Tensor) -> _Step:
        """The step that changes the complementarity products by the given amounts, to first order."""
        p = self.point
        pull = products - self.price_gap * p.parts
        right = (p.signs * pull / p.prices).sum(0) / self.give
        if p.exact:
            x, end_dual = self._by_rows(right)
            rows, constant = self.row_gap, torch.zeros_like(p.constant)
        else:
            x, rows, constant, end_dual = self._by_effects(right, row_products)
        towards = x / self.give - right
        parts = (pull + p.signs * towards * p.parts) / p.prices
        walls = p.signs * rows
        return _Step(
            parts,
            (products - p.prices * parts) / p.parts,
            walls,
            (row_products - p.forces * walls) / p.walls,
            constant,
            end_dual,
        )

    def _by_effects(self, right: Tensor, row_products: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        p = self.point
        push = (-p.signs * row_products / p.walls).sum(0)
        on_rows = torch.zeros_like(p.problem.values)
        on_rows[p.rows] = self.stiffness * self.row_gap + push
        x = self.factor.solve(right + p.columns.take(adjoint(on_rows)))
        aim = p.missed[-1] if p.problem.pinned else on_rows.sum() + p.dual.sum()
        bordering = (self.border @ x - aim) / (self.border @ self.bent - self.corner)
        x = x - bordering * self.bent
        constant = torch.zeros_like(bordering) if p.problem.pinned else bordering
        end_dual = -bordering.expand(1) if p.problem.pinned else p.end_dual
        return x, self.row_gap - constant - p.columns.synthesis(x)[p.rows], constant, end_dual

    def _by_rows(self, right: Tensor) -> tuple[Tensor, Tensor]:
        p = self.point
        give = p.columns.take(self.column_weights)
        end_dual = self.factor.solve((p.missed - p.columns.synthesis(give * right))[1:])
        everywhere = torch.zeros_like(p.problem.values)
        everywhere[1:] = end_dual
        return give * (right + p.columns.take(adjoint(everywhere))), end_dual


def _reach(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor], share: float) -> float:
    """How far a step can go, at most 1, before one of the values reaches 0; a share of it."""
    fastest = max(float((-step / value).max()) if value.numel() else 0.0 for value, step in (first, second))
    return 1.0 if fastest <= share else share / fastest


def _singles(n: int, device: torch.device) -> Tensor:
    return lattice.orders(n, device=device) == 1
