"""Solve a batch of tables on guessed sets of effects and rows, and check the optimality conditions.

The solution is determined by the effects that are not 0, with their signs, and the rows that are missed by exactly
their slack, with their sides (see ``crossover``). Near the optimum a guess of both is nearly right. On guessed sets
the conditions are linear equations, with one Cholesky factorisation; what the solution violates then says which effects
and rows to change (primal-dual active set method, Hintermueller, Ito and Kunisch 2003). A few such changes end at the
exact solution for most tables. From 11 players on the changes border the first factor. It may also cycle: what is left
is the crossover's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from captum_lkn.decomposition.solvers.bordered import Factored
from captum_lkn.decomposition.solvers.newton import (
    WRITTEN_OUT_MAX_ROWS,
    all_rows_gram,
    chosen_positions,
    chosen_rows_gram,
)
from captum_lkn.decomposition.solvers.point import LARGE_MIN_PLAYERS
from captum_lkn.decomposition.solvers.problem import Problem, adjoint, synthesis

__all__ = ["Guess", "solve_guessed"]

_SMALL = 64  # in tables of up to so many values, taking rows and effects out costs more than they do
_ROUNDS = 6
_FEW = 16  # from more changes than this the sets do not recover
# From so many values on, changes of the sets border the factor of the first round, up to a number of changes.
_LARGE = 1 << LARGE_MIN_PLAYERS
_BORDER, _ROUNDS_LARGE, _FEW_LARGE = 100, 12, 32
_VIOLATED = 1e-10  # what counts as a violation, in units of the table's range and of the weights
_ROUNDING = 1e-9  # effects below this share of the largest are taken out of the support
# Of a gram matrix's diagonal, as a share: rows that depend on each other make it singular. In a large table such sets
# are no guess, and with 3,000 rows a solution with 1e-10 is not exact after two corrections.
_SHIFT, _SHIFT_LARGE = 1e-10, 1e-14
_REFINED = 2  # how often a solution is corrected for it
_MET = 1e-12  # by how much an active row may be missed at the end


@dataclass(frozen=True)
class Guess:
    """Solutions on guessed sets.

    Attributes:
        effects: ``[B, 2, 2^n]``, exactly 0 outside the support.
        constant: ``[B]``.
        dual: ``[B, 2^n]``.
        optimal: bool ``[B]``: the conditions of the optimum hold; False: the other entries mean nothing.
        rounds: int64 ``[B]``, how often it was solved.
    """

    effects: Tensor
    constant: Tensor
    dual: Tensor
    optimal: Tensor
    rounds: Tensor


def solve_guessed(problem: Problem, effects: Tensor, dual: Tensor) -> Guess:
    """Solve on the sets that approximate solutions name, and correct the sets.

    Args:
        problem: ``values [B, 2^n]``.
        effects: ``[B, 2, 2^n]``, nonzero where an effect is taken to be in the support.
        dual: ``[B, 2^n]``, nonzero where a row with slack is taken to be active.

    Returns:
        The solutions.
    """
    size = dual.shape[-1]
    result = Guess(
        torch.zeros_like(effects),
        dual.new_zeros(len(dual)),
        torch.zeros_like(dual),
        torch.zeros(len(dual), dtype=torch.bool, device=dual.device),
        torch.zeros(len(dual), dtype=torch.int64, device=dual.device),
    )
    equal = problem.slack == 0
    if problem.pinned:
        equal[:, 0] = False
    sign = effects.sign().flatten(1)
    side = torch.where(equal, torch.zeros_like(dual), dual.sign())
    if problem.pinned:
        side[:, 0] = 0
    open_ = torch.arange(len(dual), device=dual.device)
    weights = problem.weights.expand(len(dual), 2, size).flatten(1)
    least = torch.full_like(open_, _FEW + 1)  # changes in the last round
    factored: Factored | None = None
    y = dual
    for _ in range(_ROUNDS_LARGE if size >= _LARGE else _ROUNDS):
        support, active = (sign != 0).sum(-1), ((side != 0) | equal).sum(-1)
        some = (support > 0) & (active > 0)  # without an effect or a row there is nothing to solve for
        if size >= _LARGE:  # more rows than unknowns depend on each other, and are not bordered
            some &= active <= support + (not problem.pinned)
        if not bool(some.all()):
            keep = some.nonzero().squeeze(-1)
            problem, weights, equal, open_ = problem[keep], weights[keep], equal[keep], open_[keep]
            sign, side, least, y = sign[keep], side[keep], least[keep], y[keep]
        if not len(open_):
            break
        result.rounds[open_] += 1
        x, constant, y, exact, factored = _solve(problem, weights, equal, sign, side, y, factored)
        sums = adjoint(y).flatten(1)
        missed = problem.values - constant.unsqueeze(-1) - synthesis(x.view(len(x), 2, size))
        over = sums.abs() > weights * (1 + _VIOLATED)
        beyond = missed.abs() > problem.slack + _VIOLATED
        if problem.pinned:
            beyond[:, 0] = False
        rounding = _ROUNDING * x.abs().amax(-1, keepdim=True)
        new_sign = torch.where(sign * x > rounding, sign, torch.where((sign == 0) & over, sums.sign(), 0.0))
        new_side = torch.where(side * y > 0, side, torch.where((side == 0) & beyond & ~equal, missed.sign(), 0.0))
        changes = (new_sign != sign).sum(-1) + (new_side != side).sum(-1)
        done = ((changes == 0) & exact).nonzero().squeeze(-1)
        if len(done):
            at = open_[done]
            result.effects[at], result.constant[at] = x[done].view(-1, 2, size), constant[done]
            result.dual[at] = y[done]
            result.optimal[at] = True
        # Changes that do not become fewer seldom end at the optimum; in a large table it costs little to go on.
        fewer = changes <= _FEW_LARGE if size >= _LARGE else changes < least
        keep = ((changes > 0) & fewer).nonzero().squeeze(-1)
        problem, weights, equal, open_ = problem[keep], weights[keep], equal[keep], open_[keep]
        sign, side, least, y = new_sign[keep], new_side[keep], changes[keep], y[keep]
    return result


def _solve(
    problem: Problem,
    weights: Tensor,
    equal: Tensor,
    sign: Tensor,
    side: Tensor,
    near: Tensor,
    factored: Factored | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Factored | None]:
    """The solution of the linear equations: effects, constant, dual vector, and whether the rows are met.

    Rows may depend on each other. Then many dual vectors solve the equations, and the nearest to ``near`` is found: the
    square of a row's change counts as often as effects reach the row. For one large table it takes and returns the
    equations that are factored.
    """
    rows = (side != 0) | equal
    every = bool(rows[:, 1:].all())  # their gram matrix is a matter of look-ups then
    sets: _Sets
    if every or side.shape[-1] <= _SMALL:
        sets = _All(rows, sign != 0)
    else:
        sets = (_Many if int(rows.sum(-1).amax()) > WRITTEN_OUT_MAX_ROWS else _Few)(rows, sign != 0)
    z, zt = sets.synthesis, sets.adjoint
    there = sets.there.to(side.dtype)
    target = sets.rows(problem.values - side * problem.slack)
    price = sets.columns(torch.where(sign != 0, sign * weights, torch.zeros_like(sign)))
    rho = problem.ridge

    def product(y: Tensor) -> Tensor:
        result = z(zt(y))
        return result if problem.pinned else result + there * y.sum(-1, keepdim=True)

    solve, regular, factored = _equations(problem, sets, rows, sign != 0, factored)

    # x = (Z' y - price) / rho and Z x + c = target, with sum y = 0 where the constant c is free.
    right = z(price) + rho * target
    y = sets.rows(near)
    for _ in range(_REFINED):
        y = y + solve(right - product(y))
    constant = target.new_zeros(len(target), 1)
    if not problem.pinned:
        ones = solve(there)
        ones = ones + solve(there - product(ones))
        factor = y.sum(-1, keepdim=True) / ones.sum(-1, keepdim=True)
        constant, y = factor / rho, y - factor * ones
    goal = target - constant * there
    pull = zt(y) - price
    x = pull / rho
    for _ in range(_REFINED):  # a small ridge magnifies the rounding of the dual vector
        x = x + zt(solve(goal - z(x)))
    short = (goal - z(x)).abs().amax(-1)
    off = (pull - rho * x).abs().amax(-1)
    exact = regular & (short < _MET) & (off < _VIOLATED)
    return sets.effects(x), constant.squeeze(-1), sets.dual(y), exact, factored


def _equations(
    problem: Problem, sets: _Sets, rows: Tensor, support: Tensor, factored: Factored | None
) -> tuple[Callable[[Tensor], Tensor], Tensor, Factored | None]:
    """A function that solves the equations of the chosen rows, whether they are regular, and what is factored."""
    if factored is not None and factored.changes(rows[0], support[0]) <= _BORDER:
        on_all = factored.on(rows[0], support[0])

        def solve_on(right: Tensor) -> Tensor:
            return sets.rows(on_all(sets.dual(right)[0]).unsqueeze(0))

        return solve_on, torch.ones_like(rows[:, 0]), factored
    there = sets.there.to(problem.values.dtype)
    gram = sets.gram()
    if not problem.pinned:  # sum y = 0: this changes nothing, but makes a row of zeros, the empty set's, regular
        gram.add_(there.unsqueeze(-1) * there.unsqueeze(-2))
    shift = _SHIFT_LARGE if rows.shape[-1] >= _LARGE else _SHIFT
    gram.diagonal(dim1=-2, dim2=-1).mul_(1 + shift).add_(1 - there)
    root, failed = torch.linalg.cholesky_ex(gram)
    if len(rows) == 1 and rows.shape[-1] >= _LARGE and not int(failed):
        factored = Factored(root[0], rows[0], support[0], problem.pinned)

    def solve(right: Tensor) -> Tensor:
        half = torch.linalg.solve_triangular(root, right.unsqueeze(-1), upper=False)
        solution: Tensor = torch.linalg.solve_triangular(root.mT, half, upper=True)
        return solution.squeeze(-1)

    return solve, failed == 0, factored


class _Rows:
    """The chosen rows of large tables, apart."""

    def __init__(self, rows: Tensor) -> None:
        """Take a bool mask ``[B, 2^n]``."""
        self.size = rows.shape[-1]
        self._rows, self.there = chosen_positions(rows)

    def rows(self, table: Tensor) -> Tensor:
        """The chosen entries of a table ``[B, 2^n]``, 0 at the padding."""
        return table.gather(1, self._rows) * self.there

    def dual(self, y: Tensor) -> Tensor:
        """The vector among all rows, ``[B, 2^n]``."""
        return y.new_zeros(len(y), self.size).scatter_add_(1, self._rows, y * self.there)


class _Few(_Rows):
    """The chosen rows and effects of large tables, apart: vectors of those alone, and Z written out."""

    def __init__(self, rows: Tensor, effects: Tensor) -> None:
        """Take bool masks ``[B, 2^n]`` and ``[B, 2 * 2^n]``."""
        super().__init__(rows)
        self._columns, self._column_there = chosen_positions(effects)
        sets = (self._columns & (self.size - 1)).int()
        # [S subset of T] = [T & S == S], and [S meets T] = not [T & S == 0].
        is_or = (self._columns >= self.size) & self._column_there
        wanted = torch.where(is_or, torch.zeros_like(sets), sets).unsqueeze(-2)
        z = (self._rows.int().unsqueeze(-1) & sets.unsqueeze(-2)).eq(wanted).ne(is_or.unsqueeze(-2)).double()
        self.z = z.mul_(self.there.unsqueeze(-1)).mul_(self._column_there.unsqueeze(-2))

    def columns(self, effects: Tensor) -> Tensor:
        """The chosen entries of effects ``[B, 2 * 2^n]``, 0 at the padding."""
        return effects.gather(1, self._columns) * self._column_there

    def synthesis(self, x: Tensor) -> Tensor:
        """Z x, at the chosen rows."""
        return (self.z @ x.unsqueeze(-1)).squeeze(-1)

    def adjoint(self, y: Tensor) -> Tensor:
        """Z' y, at the chosen effects."""
        return (self.z.mT @ y.unsqueeze(-1)).squeeze(-1)

    def gram(self) -> Tensor:
        """The lower triangle of Z Z', 0 at the padding; what is above the diagonal is undefined."""
        return self.z @ self.z.mT

    def effects(self, x: Tensor) -> Tensor:
        """The vector among all effects, ``[B, 2 * 2^n]``."""
        return x.new_zeros(len(x), 2 * self.size).scatter_add_(1, self._columns, x)


class _Many(_Rows):
    """Many chosen rows of large tables, apart, and vectors of all effects, 0 where they are not chosen."""

    def __init__(self, rows: Tensor, effects: Tensor) -> None:
        super().__init__(rows)
        self._chosen = effects

    def columns(self, effects: Tensor) -> Tensor:
        return effects * self._chosen

    def synthesis(self, x: Tensor) -> Tensor:
        return self.rows(synthesis(x.view(len(x), 2, -1)))

    def adjoint(self, y: Tensor) -> Tensor:
        return adjoint(self.dual(y)).flatten(1) * self._chosen

    def gram(self) -> Tensor:
        """The lower triangle of Z Z', 0 at the padding; what is above the diagonal is undefined."""
        gram = chosen_rows_gram(self._chosen.double().view(len(self._chosen), 2, -1), self._rows)
        return gram.mul_(self.there.unsqueeze(-1)).mul_(self.there.unsqueeze(-2))

    def effects(self, x: Tensor) -> Tensor:
        return x


class _All:
    """The same as vectors of all rows and effects, 0 where they are not chosen: no padding, and no matrix Z."""

    def __init__(self, rows: Tensor, effects: Tensor) -> None:
        self.there, self._chosen = rows, effects

    def rows(self, table: Tensor) -> Tensor:
        return table * self.there

    def columns(self, effects: Tensor) -> Tensor:
        return effects * self._chosen

    def synthesis(self, x: Tensor) -> Tensor:
        return synthesis(x.view(len(x), 2, -1)) * self.there

    def adjoint(self, y: Tensor) -> Tensor:
        return adjoint(y).flatten(1) * self._chosen

    def gram(self) -> Tensor:
        """The lower triangle of Z Z', 0 where a row is not chosen; what is above the diagonal is undefined."""
        n = self.there.shape[-1].bit_length() - 1
        chosen = self._chosen.double().view(len(self._chosen), 2, -1)
        gram = torch.nn.functional.pad(all_rows_gram(chosen, n), (1, 0, 1, 0))
        return gram.mul_(self.there.unsqueeze(-1)).mul_(self.there.unsqueeze(-2))

    def effects(self, x: Tensor) -> Tensor:
        return x

    def dual(self, y: Tensor) -> Tensor:
        return y * self.there


_Sets: TypeAlias = _Few | _Many | _All
