"""The third stage: from an approximate optimum to the exact one, by a parametric active-set method.

The solution of the sparse AND-OR problem is determined by two sets: the effects that are not 0 (the support), with
their signs, and the rows that are missed by exactly their slack (the active rows), with their sides. The optimality
conditions are then linear equations. An approximate solution names both sets nearly right. It is the *exact*
solution of a perturbed problem, whose weights, values and slacks differ a little; from there the data move on a
straight line back to those of the problem. The solution moves on a piecewise linear path. At each breakpoint one
effect or one row enters or leaves the sets, which is a bordering of the factored equations; at the end of the line
the sets are right, and so are all zeros. This is the online active-set strategy of Ferreau, Bock and Diehl (2008),
"An online active set strategy to overcome the limitations of explicit MPC".

A small proximal term on the dual vector keeps the equations regular where active rows depend on each other (tables
of integers), one on the effects where there is no ridge. Both vanish at the end, since the path is followed again
around the last solution until it stays where it is (proximal method of multipliers).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from captum_lkn.decomposition.solvers.equations import CONSTANT_PROXIMAL, Design, Equations, Program

__all__ = ["Design", "Exact", "Program", "cross_over"]

# The proximal weights of rows and effects; that of the constant is the equations'.
# Smaller ones magnify rounding, larger ones take more rounds; a table that fails with one is tried with the next.
_ROW_PROXIMAL = (1e-6, 1e-5, 1e-4)
_LEAST_ROW_PROXIMAL, _LEAST_EFFECT_PROXIMAL = 1e-11, 2e-5
_SLOW = 0.5  # a round that leaves more than this share of the proximal terms is slow
_EFFECT_PROXIMAL = 0.02
_LINEAR_BELOW = 1e-5  # a ridge below this does not make the path steady: the effects get their proximal term
# The perturbation of what holds already, in units of the table's range: it breaks ties between breakpoints.
_PERTURBATION = 1e-6
# The path ends here: what is left of the perturbation lies below rounding.
_END = 1 - 1e-13
_SAME_TIME = 1e-10
_ROUNDS = 40
_PATHS = 3  # all paths together take at most so many times the pivots of one
_STILL = 1e-13  # the proximal terms have vanished once they move no row and no effect by more than this
_FINISHED = 1e-11  # where rounding keeps them from that, this will do
_OF_DUAL = 3e-15  # the rounding of what presses an effect; divided by a small ridge it is that of the effect
# By how much an active row may be missed at the end, and how often that is corrected: twice at least, so that effects
# which are whole numbers come out whole.
_POLISHED, _LEAST_POLISHES, _POLISHES = 1e-14, 2, 4
_VIOLATED = 1e-7  # by how much a sign, a side or a weight may be violated at the end, which the certificate measures
_MET = 1e-11  # by how much an active row may be missed there
_SNAPS = 2
_SNAP = 1e-9  # effects below this share of the largest are rounding, where no row needs them


@dataclass(frozen=True)
class Exact:
    """The end of the path.

    Attributes:
        effects: ``[effects]``, exactly 0 outside the support.
        constant: The constant; 0 where there is none.
        dual: ``[rows]``.
        pivots: How often an effect or a row entered or left.
        finished: Whether the end was reached within the allowed number of pivots.
    """

    effects: Tensor
    constant: float
    dual: Tensor
    pivots: int
    finished: bool


def cross_over(
    program: Program,
    effects: Tensor,
    constant: float,
    dual: Tensor,
    max_pivots: int,
    solve_on: Callable[[Tensor, Tensor], Exact | None] | None = None,
) -> Exact:
    """The exact solution of a program, from an approximate one.

    Args:
        program: The problem.
        effects: ``[effects]``, nonzero where an effect is taken to be in the support.
        constant: The approximate constant.
        dual: ``[rows]``, nonzero where a row with slack is taken to be active.
        max_pivots: Stop a path after so many breakpoints, and all after three times as many.
        solve_on: Solves without proximal terms on the sets that effects and a dual vector name, at the end of a path;
            it returns None where the equations are singular, and more rounds are needed.

    Returns:
        The solution, exact to rounding if ``finished``.
    """
    pivots = 0
    nearest, least = None, float("inf")
    for row_proximal, proximal in _proximal_weights(program.ridge):
        path = _Path(program, effects, constant, dual, row_proximal, proximal)
        before, snaps = float("inf"), 0
        for round_ in range(_ROUNDS):
            path.recentre()
            more, reached = path.follow(max_pivots)
            pivots += more
            if reached and round_ == 0 and solve_on is not None:
                found = solve_on(path.x, path.y)
                if found is not None:
                    return replace(found, pivots=pivots)
            moved = path.moved()
            far = max(moved, path.violation())
            if reached and far < least:
                nearest, least = path.result(pivots, False), far
            if not reached or pivots >= _PATHS * max_pivots:
                break
            slow = moved > _SLOW * before
            before = moved
            if moved <= _STILL or (slow and moved <= path.finished):
                # A program's rounding is the vertex's to remove. An effect at its threshold may come back each time.
                snap = program.ridge > 0 and snaps < _SNAPS and path.snap()
                snaps += snap
                if not snap and not path.tightened():
                    break
            elif slow:
                path.loosen()
        if reached and moved <= path.finished:
            path.snap()
            path.polish()
            if path.snap():  # what the rows that are met to the last digit do not need
                path.polish()
            if path.violation() <= _VIOLATED and path.missed() <= _MET:
                return path.result(pivots, True)
        if pivots >= _PATHS * max_pivots or more >= max_pivots:  # too far away, whatever the proximal weight
            break
    return path.result(pivots, False) if nearest is None else nearest


def _proximal_weights(ridge: float) -> list[tuple[float, float]]:
    """Return the weights of rows and effects to try; a small ridge may do without that of the effects."""
    without = [(rows, 0.0) for rows in _ROW_PROXIMAL]
    if ridge >= _LINEAR_BELOW:
        return without
    with_ = [(rows, _EFFECT_PROXIMAL) for rows in _ROW_PROXIMAL]
    return [without[0], *with_] if ridge > 0 else with_


class _Path:
    """The perturbed problem, its solution, and the sets that determine it."""

    def __init__(
        self, program: Program, effects: Tensor, constant: float, dual: Tensor, row_proximal: float, proximal: float
    ) -> None:
        self.program = program
        self.exists = torch.isfinite(program.weights)
        self.equal = (program.slack == 0) & program.live
        self.x = torch.where(self.exists, effects, torch.zeros_like(effects))
        self.y = torch.where(program.live, dual, torch.zeros_like(dual))
        self.constant = torch.as_tensor(constant, dtype=dual.dtype, device=dual.device)
        self.sign = self.x.sign()
        self.side = torch.where(self.equal, torch.zeros_like(self.y), self.y.sign())
        self.proximal = proximal
        self.curvature = program.ridge + self.proximal
        # Relative to the curvature, so that the equations are conditioned alike whatever the ridge.
        self.row_proximal = self.first_row_proximal = row_proximal / self.curvature
        self.equations: Equations | None = None
        self.noise = torch.Generator(device=dual.device).manual_seed(0)

    def recentre(self) -> None:
        """Perturb the data so that the present solution is exact, with the proximal terms centred on it."""
        p, x, y = self.program, self.x, self.y
        self.centre_x, self.centre_y, self.centre_constant = x.clone(), y.clone(), self.constant.clone()
        support, active = self.sign != 0, (self.side != 0) | self.equal
        sums = p.design.adjoint(y)
        missed = p.values - self.constant - p.design.synthesis(x)
        slope = sums - p.ridge * x
        # Data at the start of the line (first) and how they change along it (second).
        free = torch.maximum(p.weights, sums.abs() + self._noise(x))
        weights = torch.where(support, slope * self.sign, free)
        slack = torch.where(active, p.slack, torch.maximum(p.slack, missed.abs() + self._noise(y)))
        values = torch.where(active, p.values - missed + self.side * p.slack, p.values)
        huge = torch.where(self.exists, weights, torch.full_like(weights, 1e300))
        self.weights = huge, torch.where(self.exists, p.weights - weights, torch.zeros_like(weights))
        self.slack = slack, p.slack - slack
        self.values = values, p.values - values
        self.balance = y.sum()  # what the dual vector sums to; moves to 0

    def _noise(self, like: Tensor) -> Tensor:
        random = torch.rand(like.shape, generator=self.noise, dtype=like.dtype, device=like.device)
        return _PERTURBATION * (0.5 + random)

    def moved(self) -> float:
        """The size of the proximal terms at the present solution."""
        rows = self.row_proximal * (self.y - self.centre_y).abs().amax()
        effects = self.proximal * (self.x - self.centre_x).abs().amax()
        constant = CONSTANT_PROXIMAL * (self.constant - self.centre_constant).abs()
        return float(torch.stack([rows, effects, constant]).amax())

    def follow(self, max_pivots: int) -> tuple[int, bool]:
        """Move along the path to its end; the number of breakpoints, and whether the end was reached."""
        p = self.program
        time, pivots = 0.0, 0
        # What enters and leaves at one time is at its threshold to rounding: it may do so once, so that ties end.
        toggled: dict[int, int] = {}
        barred: list[int] = []
        equations = self._equations()
        while True:
            y, x, constant = equations.solution()
            sums, rows = p.design.adjoint(y), p.design.synthesis(x)
            off, idle = (self.sign == 0) & self.exists, (self.side == 0) & ~self.equal & p.live
            proximal = self.row_proximal * y
            proximal[0] -= self.row_proximal * self.centre_y
            missed = torch.stack(self.values) - constant.unsqueeze(-1) - rows - proximal
            sums[0] += self.proximal * self.centre_x
            weights, slack = torch.stack(self.weights), torch.stack(self.slack)
            never = torch.full_like(self.x, torch.inf), torch.full_like(self.y, torch.inf)
            leave = torch.where(self.sign != 0, _breakpoint(self.sign * x), never[0])
            enter = torch.where(off, torch.minimum(_breakpoint(weights - sums), _breakpoint(weights + sums)), never[0])
            release = torch.where(self.side != 0, _breakpoint(self.side * y), never[1])
            hit = torch.where(idle, torch.minimum(_breakpoint(slack - missed), _breakpoint(slack + missed)), never[1])
            events = torch.cat([torch.minimum(leave, enter), torch.minimum(release, hit)])
            events[barred] = torch.inf
            first = int(events.argmin())
            when = max(float(events[first]), time)
            if when > time + _SAME_TIME:
                toggled, barred = {}, []
            toggled[first] = toggled.get(first, 0) + 1
            if toggled[first] >= 2:
                barred.append(first)
            lost = not bool(x.isfinite().all())
            if when >= _END or pivots >= max_pivots or lost:
                if not lost:
                    self.x, self.y, self.constant = (t[0] + min(when, 1.0) * t[1] for t in (x, y, constant))
                return pivots, when >= _END and not lost
            time, pivots = when, pivots + 1
            effects = len(self.x)
            if first < effects:
                position = first
                if self.sign[position] != 0:
                    self.sign[position] = 0
                else:
                    self.sign[position] = torch.sign(sums[0, position] + when * sums[1, position])
                equations.toggle_effect(position)
            else:
                row = first - effects
                if self.side[row] != 0:
                    self.side[row] = 0
                else:
                    self.side[row] = torch.sign(missed[0, row] + when * missed[1, row])
                equations.toggle_row(row)

    def _equations(self) -> Equations:
        """The equations on the present sets, factored anew only where the sets have changed."""
        if self.equations is None:
            # A proxy: matrices in a cycle of references would stay until the garbage collector comes by.
            self.equations = Equations(weakref.proxy(self))
        elif self.equations.current:
            self.equations.rebase()
        else:
            self.equations.factor()
        return self.equations

    def snap(self) -> bool:
        """Take effects out of the support that are rounding; whether there were any."""
        rounding = (self.x != 0) & (self.x.abs() < _SNAP * self.x.abs().amax())
        self.x, self.sign = self.x.masked_fill(rounding, 0), self.sign.masked_fill(rounding, 0)
        return bool(rounding.any())

    def loosen(self) -> None:
        """Divide a proximal weight by ten: where rows or effects depend on each other, it limits each round's move."""
        product = self.row_proximal * self.curvature
        rows = self.row_proximal * (self.y - self.centre_y).abs().amax()
        if self.proximal * (self.x - self.centre_x).abs().amax() > rows:
            self.proximal = max(self.proximal / 10, _LEAST_EFFECT_PROXIMAL)
            self.curvature = self.program.ridge + self.proximal
        else:
            product = max(product / 10, _LEAST_ROW_PROXIMAL)
        self.row_proximal = product / self.curvature
        self.equations = None

    def tightened(self) -> bool:
        """Return the rows' proximal weight to the first if a smaller one has magnified the rounding of the dual vector.

        Where rows depend on each other, only that weight determines the dual vector along some directions; effects that
        are out of the support may then be pressed beyond their weight at the end of a path without having entered.
        """
        wrong = self.row_proximal < self.first_row_proximal and self.violation() > _VIOLATED
        if wrong:
            self.row_proximal, self.equations = self.first_row_proximal, None
        return wrong

    def violation(self) -> float:
        """Return by how much the signs and the sides are wrong, or an effect is pressed beyond its weight."""
        pressed = self.program.design.adjoint(self.y).abs() - self.program.weights
        pressed = pressed[self.exists & (self.sign == 0)]
        over = [-self.sign * self.x, -self.side * self.y, pressed]
        return max(float(entries.amax()) if len(entries) else 0.0 for entries in over)

    @property
    def finished(self) -> float:
        """The largest move by the proximal terms that the end allows."""
        return max(_FINISHED, _OF_DUAL / self.curvature)

    def polish(self) -> None:
        """Meet the active rows to the last digit: a small ridge magnifies the rounding of the dual vector."""
        p = self.program
        equations = self._equations()
        rows, effects, z = equations.rows, equations.effects, equations.matrix
        target = (p.values - self.side * p.slack)[rows]
        ones = equations.solve(torch.ones_like(target).unsqueeze(-1)).squeeze(-1)
        for number in range(_POLISHES if len(rows) else 0):
            missed = target - self.constant - p.design.synthesis(self.x)[rows]
            if number >= _LEAST_POLISHES and float(missed.abs().amax()) < _POLISHED:
                break
            step = equations.solve(missed.unsqueeze(-1)).squeeze(-1)
            if p.has_constant:  # the dual vector still adds up to 0
                constant = step.sum() / ones.sum()
                self.constant, step = self.constant + constant, step - constant * ones
            self.x[effects] += z.T @ step / self.curvature

    def missed(self) -> float:
        """Return by how much an active row is missed; rows may contradict each other on the sets."""
        p, rows = self.program, (self.side != 0) | self.equal
        missed = p.values - self.side * p.slack - self.constant - p.design.synthesis(self.x)
        return float(missed[rows].abs().amax()) if bool(rows.any()) else 0.0

    def result(self, pivots: int, finished: bool) -> Exact:
        """The present solution."""
        return Exact(self.x.clone(), float(self.constant), self.y.clone(), pivots, finished)


def _breakpoint(line: Tensor) -> Tensor:
    """Return the t from which ``line[0] + t line[1]``, which must not be negative, is; infinite where it never is."""
    start, slope = line
    return torch.where(slope < 0, -start / slope, torch.full_like(start, torch.inf))
