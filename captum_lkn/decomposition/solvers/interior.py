"""The second stage: a primal-dual interior point for a batch of tables, over the few effects in play.

Mehrotra's predictor-corrector method. Every effect in play is the difference of two nonnegative parts; every row
that has slack keeps its distances from both ends of it. Effects that the dual vector prices above their weight join
as it goes, so that the result is an optimum over all effects although the linear systems only know some.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from captum_lkn.decomposition import lattice
from captum_lkn.decomposition.solvers.newton import Columns, Factor, SampledColumns, all_rows_gram
from captum_lkn.decomposition.solvers.problem import Problem, adjoint

__all__ = ["Point"]

_START = 0.15  # the first barrier, relative to the sum that is minimised
_NEAR = 0.97  # an effect starts in play when the dual vector presses it to this share of its weight
_KEEP = 0.5  # the same for an effect that ADMM left nonzero
_ADMIT = 200  # how many effects may join in a step
_ADMIT_SAMPLED = 10  # the same where only some rows count: a dual vector of few rows presses many effects
_START_SAMPLED = 400  # effects in play at the start there
_KEEP_OFF = 0.995  # the share of the way to the nearest bound that a step may go


class Point:
    """Primal and dual unknowns of a batch of tables, and the step that improves them.

    ``parts [B, 2, k]`` are the positive and negative part of each effect in play, ``prices [B, 2, k]`` their
    multipliers; ``distances [B, 2, m]`` those of each row with slack from its lower and upper end, ``multipliers
    [B, 2, m]`` theirs, so that the dual vector is the difference of the multipliers there. All of them stay positive,
    and the product of each with its multiplier goes to 0.
    """

    def __init__(
        self,
        problem: Problem,
        effects: Tensor,
        dual: Tensor,
        *,
        exact: bool,
        by_rows: bool,
        sample: Tensor | None = None,
    ) -> None:
        """Start near an approximate optimum.

        Args:
            problem: ``values [B, 2^n]``.
            effects: ``[B, 2, 2^n]``, roughly optimal; need not be feasible.
            dual: ``[B, 2^n]``, roughly optimal.
            exact: Whether every row is to be met exactly, whatever its slack.
            by_rows: Whether to solve for rows instead of effects; with slack only where the ends are pinned.
            sample: For one table, the only rows that count, ascending, with both ends; None: all.
        """
        self.n, self.sample, self.exact, self.by_rows = problem.n, sample, exact, by_rows
        if sample is not None:
            values, slack = problem.values[:, sample], problem.slack[:, sample]
            problem, dual = Problem(values, slack, problem.weights, problem.ridge, problem.pinned), dual[:, sample]
        self.problem = problem
        size = dual.shape[-1]
        # Rows with slack, and rows that must be met exactly: all nonempty ones, the full set, or none.
        self.rows = slice(1, 1) if exact else slice(1, size - 1) if problem.pinned else slice(0, size)
        self.ends = slice(1, size) if exact else slice(size - 1, size) if problem.pinned else slice(0, 0)
        self.slack = problem.slack[:, self.rows]
        self.weights = problem.weights.expand(len(dual), 2, 1 << self.n).flatten(1)
        self.constant = problem.values.new_zeros(len(dual))
        self.end_dual = dual[:, self.ends].clone()
        self.signs = dual.new_tensor([[1.0], [-1.0]])
        self._start(effects.flatten(1), dual)

    def _start(self, effects: Tensor, dual: Tensor) -> None:
        sums = self.adjoint(dual).flatten(1)
        pressed = sums.abs() / self.weights
        exists = torch.isfinite(self.weights)
        if self.by_rows:
            in_play = exists
        else:
            in_play = exists & ((pressed > _NEAR) | (effects != 0) & (pressed > _KEEP))
            if self.sample is not None:
                least = pressed.topk(min(_START_SAMPLED, pressed.shape[1])).values[:, -1:]
                in_play &= pressed > least
            in_play[:, : in_play.shape[1] // 2] |= lattice.orders(self.n, device=dual.device) == 1
        self.columns = self._columns(in_play)
        x, weights = self._at(effects), self._at(self.weights)
        total = (weights * x.abs()).sum(-1)
        self.count = 2 * (self.columns.inside.sum(-1) + self.slack.shape[1])
        self.barrier = _START * total.clamp_min(1e-3) / self.count
        self.parts, self.prices = self._centre(x, weights, self._at(sums), self.barrier)
        # The rows start where the barrier alone would put them for this dual vector.
        y, mu, slack = dual[:, self.rows], self.barrier.unsqueeze(-1), self.slack
        root = (mu * mu + (y * slack).square()).sqrt()
        offset = y * slack.square() / (mu + root)
        self.distances = torch.stack([slack + offset, slack - offset], dim=1).maximum(slack.unsqueeze(1) * 1e-3)
        self.multipliers = mu.unsqueeze(-1) / self.distances

    def adjoint(self, dual: Tensor) -> Tensor:
        """Z' y for ``y [B, rows]``: ``[B, 2, 2^n]``."""
        if self.sample is None:
            return adjoint(dual)
        everywhere = dual.new_zeros(len(dual), 1 << self.n)
        everywhere[:, self.sample] = dual
        return adjoint(everywhere)

    def _columns(self, in_play: Tensor) -> Columns:
        return Columns(in_play, self.n) if self.sample is None else SampledColumns(in_play, self.n, self.sample)

    def _at(self, flat: Tensor) -> Tensor:
        """The entries in play of ``[B, 2 * 2^n]``, 0 at the padding."""
        return flat.gather(1, self.columns.positions).masked_fill(~self.columns.inside, 0)

    def _centre(self, x: Tensor, weights: Tensor, sums: Tensor, barrier: Tensor) -> tuple[Tensor, Tensor]:
        """Parts and prices near the path for effects x whose columns the dual vector presses with ``sums``."""
        slope = weights.unsqueeze(1) + self.signs * (self.problem.ridge * x - sums).unsqueeze(1)
        part = (self.signs * x.unsqueeze(1)).clamp_min(0)
        mu = barrier.view(-1, 1, 1)
        price = slope.maximum((mu / part.clamp_min(1e-12)).minimum(mu.sqrt()))
        return part.maximum(mu / price), price

    @property
    def x(self) -> Tensor:
        """The effects in play, ``[B, k]``."""
        return (self.parts[:, 0] - self.parts[:, 1]) * self.columns.inside

    def __len__(self) -> int:
        return len(self.end_dual)

    def keep(self, rows: Tensor) -> None:
        """Go on with some of the tables, an index tensor, alone."""
        self.problem = self.problem[rows]
        self.columns = self.columns[rows]
        for name in ("slack", "weights", "constant", "end_dual", "count", "barrier", "parts", "prices"):
            setattr(self, name, getattr(self, name)[rows])
        self.distances, self.multipliers = self.distances[rows], self.multipliers[rows]

    def refresh(self) -> None:
        """Compute the dual vector, its sums, and what each row misses, at this point."""
        self.dual = torch.zeros_like(self.problem.values)
        self.dual[:, self.rows] = self.multipliers[:, 1] - self.multipliers[:, 0]
        self.dual[:, self.ends] = self.end_dual
        self.sums = self.adjoint(self.dual)  # of the nonempty sets, for which the entry of the empty set is nothing
        self._measure()

    def _measure(self) -> None:
        self.missed = self.problem.values - self.constant.unsqueeze(-1) - self.columns.synthesis(self.x)
        self.missed[:, : self.rows.start] = 0

    def _products(self) -> tuple[Tensor, Tensor]:
        inside = self.columns.inside.unsqueeze(1)
        return self.parts * self.prices * inside, self.distances * self.multipliers

    def distance(self) -> Tensor:
        """The complementarity products and the infeasibility against the sum that is minimised, ``[B]``."""
        products = sum(p.sum((-2, -1)) for p in self._products())
        total = (self._at(self.weights) * self.x.abs()).sum(-1)
        return products / total.clamp_min(1e-300)

    def guess(self) -> tuple[Tensor, Tensor]:
        """Effects ``[B, 2, 2^n]`` and dual vectors ``[B, 2^n]``, 0 where the multipliers say so."""
        support = (self.parts > self.prices).any(1)
        dual = self.dual.clone()
        if not self.exact:
            active = (self.multipliers > self.distances).any(1)
            dual[:, self.rows] = dual[:, self.rows] * active
        return self.columns.spread(self.x * support), dual

    def admit(self) -> None:
        """Take effects into play that the dual vector presses beyond their weight."""
        if self.by_rows:
            return
        pressed = self.sums.flatten(1).abs() / self.weights
        pressed.scatter_(1, self.columns.positions, 0.0)
        pressed[:, 0] = 0
        new = pressed > 1
        if not bool(new.any()):
            return
        limit = _ADMIT if self.sample is None else _ADMIT_SAMPLED
        most = pressed.topk(min(limit, pressed.shape[1]), dim=1).values[:, -1:]
        new &= pressed >= most
        outside = torch.where(new, self.sums.flatten(1), torch.zeros_like(pressed))
        parts, prices = self._centre(
            torch.zeros_like(outside), torch.where(new, self.weights, torch.ones_like(pressed)), outside, self.barrier
        )
        was = torch.zeros_like(new).scatter_(1, self.columns.positions, True)
        was[:, 0] = False
        for old, full in ((self.parts, parts), (self.prices, prices)):
            full.scatter_(2, self.columns.positions.unsqueeze(1).expand_as(old), old)
        self.columns = self._columns(was | new)
        self.count = 2 * (self.columns.inside.sum(-1) + self.slack.shape[1])
        index = self.columns.positions.unsqueeze(1).expand(-1, 2, -1)
        outside_play = ~self.columns.inside.unsqueeze(1)
        self.parts = parts.gather(2, index).masked_fill(outside_play, 1.0)
        self.prices = prices.gather(2, index).masked_fill(outside_play, 1.0)
        self._measure()

    def advance(self) -> None:
        """One predictor-corrector step."""
        system = _System(self)
        product = self._products()
        mu = sum(p.sum((-2, -1)) for p in product) / self.count
        probe = system.direction(-product[0], -product[1])
        primal, dual = (t.view(-1, 1, 1) for t in self._lengths(probe, 1.0))
        inside = self.columns.inside.unsqueeze(1)
        after = (self.parts + primal * probe.parts) * (self.prices + dual * probe.prices) * inside
        rows = (self.distances + primal * probe.distances) * (self.multipliers + dual * probe.multipliers)
        after = (after.sum((-2, -1)) + rows.sum((-2, -1))) / self.count
        self.barrier = mu * ((after / mu) ** 3).clamp(0, 1)
        target = self.barrier.view(-1, 1, 1)
        step = system.direction(
            target - product[0] - probe.parts * probe.prices,
            target - product[1] - probe.distances * probe.multipliers,
        )
        primal, dual = self._lengths(step, _KEEP_OFF)
        self.constant = self.constant + primal * step.constant
        self.end_dual = self.end_dual + dual.unsqueeze(-1) * step.end_dual
        primal, dual = primal.view(-1, 1, 1), dual.view(-1, 1, 1)
        self.parts = self.parts + primal * step.parts
        self.distances = self.distances + primal * step.distances
        self.prices = self.prices + dual * step.prices
        self.multipliers = self.multipliers + dual * step.multipliers

    def _lengths(self, step: _Step, share: float) -> tuple[Tensor, Tensor]:
        primal = _reach((self.parts, step.parts), (self.distances, step.distances), share)
        dual = _reach((self.prices, step.prices), (self.multipliers, step.multipliers), share)
        # With a ridge the effects appear in the dual equations: one length for both.
        both = torch.minimum(primal, dual)
        return (both, both) if self.problem.ridge else (primal, dual)


@dataclass(frozen=True)
class _Step:
    parts: Tensor
    prices: Tensor
    distances: Tensor
    multipliers: Tensor
    constant: Tensor
    end_dual: Tensor


class _System:
    """The linearised conditions at a point, factored once for predictor and corrector."""

    def __init__(self, point: Point) -> None:
        self.point = p = point
        columns, problem = p.columns, p.problem
        self.inside = columns.inside.unsqueeze(1)
        pressed = (problem.ridge * p.x - columns.take(p.sums)).unsqueeze(1)
        self.price_gap = (p._at(p.weights).unsqueeze(1) + p.signs * pressed - p.prices) * self.inside
        self.offset = (p.distances[:, 0] - p.distances[:, 1]) / 2
        self.row_gap = p.missed[:, p.rows] - self.offset
        self.inverse_curvature = (p.parts / p.prices).sum(1)
        curvature = 1 / self.inverse_curvature + problem.ridge
        self.stiffness = (p.multipliers / p.distances).sum(1)
        if p.by_rows:
            self.column_weights = columns.spread(columns.inside / curvature)
            gram = all_rows_gram(self.column_weights, p.n)
            if not p.exact:
                gram.diagonal(dim1=-2, dim2=-1)[:, :-1].add_(1 / self.stiffness)
            self.factor = Factor(gram)
            return
        everywhere = torch.zeros_like(problem.values)
        everywhere[:, p.rows] = self.stiffness
        matrix = columns.gram(everywhere)
        matrix.diagonal(dim1=-2, dim2=-1).add_(torch.where(columns.inside, curvature, torch.ones_like(curvature)))
        self.factor = Factor(matrix)
        # One more unknown borders the system: the multiplier of the full set's row, or the free constant.
        inside = columns.inside.double()
        self.border = inside if problem.pinned else columns.take(p.adjoint(everywhere))
        self.corner = torch.zeros_like(p.constant) if problem.pinned else self.stiffness.sum(-1)
        self.bordered = self.factor.solve(self.border)

    def direction(self, products: Tensor, row_products: Tensor) -> _Step:
        """The step that changes the complementarity products by the given amounts, to first order."""
        p = self.point
        pull = (products - self.price_gap * p.parts) * self.inside
        right = (p.signs * pull / p.prices).sum(1) / self.inverse_curvature
        solve = self._by_rows if p.by_rows else self._by_effects
        x, rows, constant, end_dual = solve(right, row_products)
        towards = (x / self.inverse_curvature - right).unsqueeze(1)
        parts = (pull + p.signs * towards * p.parts) / p.prices * self.inside
        distances = p.signs * rows.unsqueeze(1)
        return _Step(
            parts,
            (products - p.prices * parts) / p.parts * self.inside,
            distances,
            (row_products - p.multipliers * distances) / p.distances,
            constant,
            end_dual,
        )

    def _by_effects(self, right: Tensor, row_products: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        p = self.point
        push = (-p.signs * row_products / p.distances).sum(1)
        on_rows = torch.zeros_like(p.problem.values)
        on_rows[:, p.rows] = self.stiffness * self.row_gap + push
        x = self.factor.solve(right + p.columns.take(p.adjoint(on_rows)))
        aim = p.missed[:, -1] if p.problem.pinned else on_rows.sum(-1) + p.dual.sum(-1)
        border = (self.border * x).sum(-1) - aim
        border = border / ((self.border * self.bordered).sum(-1) - self.corner)
        x = x - border.unsqueeze(-1) * self.bordered
        constant = torch.zeros_like(border) if p.problem.pinned else border
        end_dual = -border.unsqueeze(-1) if p.problem.pinned else p.end_dual
        return x, self.row_gap - constant.unsqueeze(-1) - p.columns.synthesis(x)[:, p.rows], constant, end_dual

    def _by_rows(self, right: Tensor, row_products: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        p = self.point
        give = p.columns.take(self.column_weights)
        target = p.missed[:, 1:] - p.columns.synthesis(give * right)[:, 1:]
        if not p.exact:
            push = (-p.signs * row_products / p.distances).sum(1)
            target[:, :-1] += push / self.stiffness - self.offset
        dual = torch.zeros_like(p.problem.values)
        dual[:, 1:] = self.factor.solve(target)
        x = give * (right + p.columns.take(p.adjoint(dual)))
        rows = self.row_gap if p.exact else self.row_gap - p.columns.synthesis(x)[:, p.rows]
        return x, rows, torch.zeros_like(p.constant), dual[:, p.ends]


def _reach(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor], share: float) -> Tensor:
    """Return how far a step of each table can go, at most 1, before one of the values reaches 0; a share of it."""
    fastest = torch.stack([_fastest(*first), _fastest(*second)]).amax(0)
    return torch.where(fastest <= share, torch.ones_like(fastest), share / fastest)


def _fastest(value: Tensor, step: Tensor) -> Tensor:
    return (-step / value).flatten(1).amax(-1) if value.numel() else value.new_zeros(len(value))
