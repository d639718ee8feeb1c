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

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

__all__ = ["Design", "Exact", "Program", "cross_over"]

# The proximal weights of rows, effects and the constant.
# Smaller ones magnify rounding, larger ones take more rounds; a table that fails with one is tried with the next.
_ROW_PROXIMAL = (1e-6, 1e-5, 1e-4)
_EFFECT_PROXIMAL = 0.02
_LINEAR_BELOW = 1e-5  # a ridge below this does not make the path steady: the effects get their proximal term
_CONSTANT_PROXIMAL = 1e-6
# The perturbation of what holds already, in units of the table's range: it breaks ties between breakpoints.
_PERTURBATION = 1e-6
# The path ends here: what is left of the perturbation lies below rounding.
_END = 1 - 1e-13
_SAME_TIME = 1e-10
_ROUNDS = 40
_STILL = 1e-13  # the proximal terms have vanished once they move no row and no effect by more than this
_FINISHED = 1e-11  # where rounding keeps them from that, this will do
_BORDERS = 40  # so many changes of the sets border a factor before the equations are factored again
_SNAP = 1e-9  # effects below this share of the largest are rounding, where no row needs them


class Design(Protocol):
    """The matrix Z, rows by effects, as an operator."""

    def synthesis(self, effects: Tensor) -> Tensor:
        """``Z x`` for ``x [..., effects]``: ``[..., rows]``."""
        ...

    def adjoint(self, dual: Tensor) -> Tensor:
        """``Z' y`` for ``y [..., rows]``: ``[..., effects]``."""
        ...

    def entries(self, rows: Tensor, effects: Tensor) -> Tensor:
        """The entries of Z at the given rows and effects, ``[len(rows), len(effects)]`` float64."""
        ...


@dataclass(frozen=True)
class Program:
    """One table's problem with its effects in one dimension.

    Attributes:
        design: The matrix Z.
        values: ``[rows]``.
        slack: ``[rows]``; 0 where a row must be met exactly.
        weights: ``[effects]``; infinite where an effect does not exist.
        ridge: The factor of the squares.
        has_constant: Whether a constant without a price is added to every row.
        live: bool ``[rows]``, False for a row that does not count.
    """

    design: Design
    values: Tensor
    slack: Tensor
    weights: Tensor
    ridge: float
    has_constant: bool
    live: Tensor


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


def cross_over(program: Program, effects: Tensor, constant: float, dual: Tensor, max_pivots: int) -> Exact:
    """The exact solution of a program, from an approximate one.

    Args:
        program: The problem.
        effects: ``[effects]``, nonzero where an effect is taken to be in the support.
        constant: The approximate constant.
        dual: ``[rows]``, nonzero where a row with slack is taken to be active.
        max_pivots: Stop after so many breakpoints.

    Returns:
        The solution, exact to rounding if ``finished``.
    """
    pivots = 0
    nearest, least = None, float("inf")
    for row_proximal in _ROW_PROXIMAL:
        path = _Path(program, effects, constant, dual, row_proximal)
        for _ in range(_ROUNDS):
            path.recentre()
            more, reached = path.follow(max_pivots)
            pivots += more
            moved = path.moved()
            if reached and moved < least:
                nearest, least = path.result(pivots, False), moved
            if not reached or (moved <= _STILL and not path.snap()):
                break
        if reached and moved <= _FINISHED:
            path.polish()
            return path.result(pivots, True)
        if more >= max_pivots:  # too far away, whatever the proximal weight
            break
    return path.result(pivots, False) if nearest is None else nearest


class _Path:
    """The perturbed problem, its solution, and the sets that determine it."""

    def __init__(self, program: Program, effects: Tensor, constant: float, dual: Tensor, row_proximal: float) -> None:
        self.program = program
        self.exists = torch.isfinite(program.weights)
        self.equal = (program.slack == 0) & program.live
        self.x = torch.where(self.exists, effects, torch.zeros_like(effects))
        self.y = torch.where(program.live, dual, torch.zeros_like(dual))
        self.constant = torch.as_tensor(constant, dtype=dual.dtype, device=dual.device)
        self.sign = self.x.sign()
        self.side = torch.where(self.equal, torch.zeros_like(self.y), self.y.sign())
        self.proximal = _EFFECT_PROXIMAL if program.ridge < _LINEAR_BELOW else 0.0
        self.curvature = program.ridge + self.proximal
        # Relative to the curvature, so that the equations are conditioned alike whatever the ridge.
        self.row_proximal = row_proximal / self.curvature
        self.equations: _Equations | None = None
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
        constant = _CONSTANT_PROXIMAL * (self.constant - self.centre_constant).abs()
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

    def _equations(self) -> _Equations:
        """The equations on the present sets, factored anew only where the sets have changed."""
        if self.equations is None:
            self.equations = _Equations(self)
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

    def polish(self) -> None:
        """Meet the active rows to the last digit: a small ridge magnifies the rounding of the dual vector."""
        p = self.program
        equations = self._equations()
        rows, effects, z = equations.rows, equations.effects, equations.matrix
        target = (p.values - self.side * p.slack)[rows] - self.constant
        for _ in range(2):
            missed = target - p.design.synthesis(self.x)[rows]
            self.x[effects] += z.T @ equations.solve(missed.unsqueeze(-1)).squeeze(-1) / self.curvature

    def result(self, pivots: int, finished: bool) -> Exact:
        """The present solution."""
        return Exact(self.x.clone(), float(self.constant), self.y.clone(), pivots, finished)


def _breakpoint(line: Tensor) -> Tensor:
    """Return the t from which ``line[0] + t line[1]``, which must not be negative, is; infinite where it never is."""
    start, slope = line
    return torch.where(slope < 0, -start / slope, torch.full_like(start, torch.inf))


class _Equations:
    """The optimality conditions on given sets, factored once and bordered as the sets change.

    With S the support, A the active rows, c the curvature (ridge and proximal term) and d the proximal weight of the
    rows, the effects are ``x_S = (Z_AS' y_A - b_S) / c``, so that the rows need ``(Z_AS Z_AS' / c + d) y_A = r``. That
    matrix is factored. An effect or a row that enters or leaves adds one unknown at the border, with a column of its
    own; the Schur complement of the border is small and is solved anew each time. The unknowns are deviations from
    the centre, which are small, so that the proximal weight does not magnify rounding. All right-hand sides are
    ``[2, ...]``: at the start of the line, and their slope along it.
    """

    def __init__(self, path: _Path) -> None:
        self.path = path
        self.factor()

    def factor(self) -> None:
        path = self.path
        self.rows = ((path.side != 0) | path.equal).nonzero().squeeze(-1)
        self.effects = (path.sign != 0).nonzero().squeeze(-1)
        # The signs and sides that the factored equations hold.
        self.base_sign, self.base_side = path.sign.clone(), path.side.clone()
        self.matrix = z = path.program.design.entries(self.rows, self.effects)
        self.by_rows = len(self.rows) <= len(self.effects)
        gram = z @ z.T if self.by_rows else z.T @ z
        gram.diagonal().add_(path.row_proximal * path.curvature)
        self.root, failed = torch.linalg.cholesky_ex(gram)
        shift = 1e-15 * float(gram.diagonal().amax()) if len(gram) else 0.0
        while int(failed):  # the proximal term makes the matrix regular, but rounding may undo that
            gram.diagonal().add_(shift)
            self.root, failed = torch.linalg.cholesky_ex(gram)
            shift *= 10
        self.rebase()

    def rebase(self) -> None:
        """Solve the factored equations for the path's present data, on the sets that were factored."""
        path, z = self.path, self.matrix
        self.offset = self._offset(self.effects)
        centre = path.centre_y[self.rows]
        target = self._target(self.rows) + self.offset @ z.T / path.curvature
        target[0] -= z @ (z.T @ centre) / path.curvature + path.row_proximal * centre + path.centre_constant
        self.base = self.solve(target.T)
        self.border: list[tuple[str, int]] = []
        self.columns, self.solved = z.new_zeros(len(self.rows), 0), z.new_zeros(len(self.rows), 0)
        self.corner, self.right = z.new_zeros(0, 0), z.new_zeros(0, 2)
        if path.program.has_constant:
            balance = torch.stack([path.balance, -path.balance])
            self._append("constant", 0, z.new_ones(len(self.rows)), -_CONSTANT_PROXIMAL, balance)

    @property
    def current(self) -> bool:
        """True where the factored sets are the path's."""
        path = self.path
        return bool((self.base_sign == path.sign).all() & (self.base_side == path.side).all())

    def _offset(self, effects: Tensor) -> Tensor:
        """B of the given effects, ``[2, k]``."""
        path = self.path
        offset = path.sign[effects] * torch.stack([weights[effects] for weights in path.weights])
        offset[0] -= path.proximal * path.centre_x[effects]
        return offset

    def _target(self, rows: Tensor) -> Tensor:
        """R of the given rows without what the effects contribute, ``[2, k]``."""
        path = self.path
        at_slack = path.side[rows] * torch.stack([slack[rows] for slack in path.slack])
        target = torch.stack([values[rows] for values in path.values]) - at_slack
        target[0] += path.row_proximal * path.centre_y[rows]
        return target

    def solve(self, right: Tensor) -> Tensor:
        """The solution ``[rows, k]`` of the factored equations for ``right [rows, k]``, refined once."""
        c, d, z = self.path.curvature, self.path.row_proximal, self.matrix
        solution = self._solve_once(right)
        return solution + self._solve_once(right - z @ (z.T @ solution) / c - d * solution)

    def _solve_once(self, right: Tensor) -> Tensor:
        c, d, z = self.path.curvature, self.path.row_proximal, self.matrix
        if self.by_rows:  # the factor is that of c times the matrix
            return c * torch.cholesky_solve(right, self.root)
        return (right - z @ torch.cholesky_solve(z.T @ right, self.root)) / d

    def toggle_effect(self, position: int) -> None:
        """An effect has entered or left the support."""
        path = self.path
        sign = float(path.sign[position])
        known = ("in", position), ("out", position)
        if sign == 0:
            if not self._remove(known[0]):
                self._append_effect(known[1], path.curvature, self.base_sign[position])
        elif float(self.base_sign[position]) != sign or not self._remove(known[1]):
            self._append_effect(known[0], -path.curvature, path.sign[position])

    def _append_effect(self, key: tuple[str, int], corner: float, sign: Tensor) -> None:
        path = self.path
        one = torch.tensor([key[1]], device=self.matrix.device)
        column = path.program.design.entries(self.rows, one).squeeze(-1)
        right = sign * torch.stack([weights[key[1]] for weights in path.weights])
        right[0] -= path.proximal * path.centre_x[key[1]]
        self._append(*key, column, corner, right)

    def toggle_row(self, row: int) -> None:
        """A row has entered or left the active ones."""
        path = self.path
        side = float(path.side[row])
        if side == 0:
            if not self._remove(("active", row)):
                column = (self.rows == row).to(self.matrix.dtype)
                self._append("idle", row, column, 0.0, self.right.new_zeros(2))
        elif float(self.base_side[row]) != side or not self._remove(("idle", row)):
            one = torch.tensor([row], device=self.matrix.device)
            entries = path.program.design.entries(one, self.effects).squeeze(0)
            corner = float(entries @ entries) / path.curvature + path.row_proximal
            right = self._target(one).squeeze(-1) + self.offset @ entries / path.curvature
            right[0] -= path.centre_constant
            self._append("active", row, self.matrix @ entries / path.curvature, corner, right)

    def _remove(self, key: tuple[str, int]) -> bool:
        if key not in self.border:
            return False
        index = self.border.index(key)
        keep = [i for i in range(len(self.border)) if i != index]
        del self.border[index]
        self.columns, self.solved, self.right = self.columns[:, keep], self.solved[:, keep], self.right[keep]
        self.corner = self.corner[keep][:, keep]
        return True

    def _append(self, kind: str, index: int, column: Tensor, corner: float, right: Tensor) -> None:
        if len(self.border) >= _BORDERS:
            self.factor()
            return
        path = self.path
        right = right.clone()
        right[0] -= column @ path.centre_y[self.rows]
        coupling = self._coupling(kind, index)
        solved = self.solve(column.unsqueeze(-1))
        row = coupling - self.columns.T @ solved.squeeze(-1)
        own = corner - float(column @ solved.squeeze(-1))
        size = len(self.border)
        schur = self.corner.new_empty(size + 1, size + 1)
        schur[:size, :size], schur[size, :size], schur[:size, size], schur[size, size] = self.corner, row, row, own
        self.corner = schur
        self.border.append((kind, index))
        self.columns = torch.cat([self.columns, column.unsqueeze(-1)], dim=1)
        self.solved = torch.cat([self.solved, solved], dim=1)
        self.right = torch.cat([self.right, right.unsqueeze(0)])

    def _coupling(self, kind: str, index: int) -> Tensor:
        """The entries between a new unknown of the border and those that are there."""
        result = self.matrix.new_zeros(len(self.border))
        device, path = self.matrix.device, self.path
        others = [i for kind_, i in self.border if kind_ in ("in", "out")]
        where = [n for n, (kind_, _) in enumerate(self.border) if kind_ in ("in", "out")]
        rows = [i for kind_, i in self.border if kind_ == "active"]
        where_rows = [n for n, (kind_, _) in enumerate(self.border) if kind_ == "active"]
        one = torch.tensor([index], device=device)
        design = path.program.design
        if kind == "active":
            if others:
                result[where] = design.entries(one, torch.tensor(others, device=device)).squeeze(0)
            if rows:
                mine = design.entries(one, self.effects).squeeze(0)
                theirs = design.entries(torch.tensor(rows, device=device), self.effects)
                result[where_rows] = theirs @ mine / path.curvature
            for n, (kind_, _) in enumerate(self.border):
                if kind_ == "constant":
                    result[n] = 1
        elif kind in ("in", "out") and rows:
            result[where_rows] = design.entries(torch.tensor(rows, device=device), one).squeeze(-1)
        return result

    def solution(self) -> tuple[Tensor, Tensor, Tensor]:
        """Dual vector ``[2, rows]``, effects ``[2, effects]`` and constant ``[2]`` on the present sets."""
        path, program = self.path, self.path.program
        deviation = self.base
        constant = self.right.new_zeros(2)
        y = path.y.new_zeros(2, len(path.y))
        if self.border:
            extra, singular = torch.linalg.solve_ex(self.corner, self.right - self.columns.T @ self.base)
            if int(singular):
                extra = torch.full_like(extra, torch.nan)  # the path ends here
            deviation = self.base - self.solved @ extra
        y[:, self.rows] = deviation.T
        y[0, self.rows] += path.centre_y[self.rows]
        for n, (kind, index) in enumerate(self.border):
            if kind == "idle":
                y[:, index] = 0
            elif kind == "constant":
                constant = extra[n].clone()
        for n, (kind, index) in enumerate(self.border):
            if kind == "active":
                y[:, index] = extra[n]
        constant[0] += path.centre_constant
        support = (path.sign != 0).nonzero().squeeze(-1)
        x = path.x.new_zeros(2, len(path.x))
        x[:, support] = (program.design.adjoint(y)[:, support] - self._offset(support)) / path.curvature
        return y, x, constant
