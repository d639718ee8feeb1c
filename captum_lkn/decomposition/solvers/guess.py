"""Solve a batch of tables on guessed sets of effects and rows, and check the optimality conditions.

The solution is determined by the effects that are not 0, with their signs, and the rows that are missed by exactly
their slack, with their sides (see ``crossover``). Near the optimum a guess of both is nearly right. On guessed sets
the conditions are linear equations, one Cholesky factorisation for all tables of a batch; what the solution violates
then says which effects and rows to change (primal-dual active set method, Hintermueller, Ito and Kunisch 2003). A
few such changes end at the exact solution for most tables. It may also cycle: what is left is the crossover's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from captum_lkn.decomposition.solvers.problem import Problem, adjoint, synthesis

__all__ = ["Guess", "solve_guessed"]

_SMALL = 64  # tables of up to so many values are padded to one width, so that batch-mates do not change their bits
_SMALL_WIDTH = 96
_ROUNDS = 6
_FEW = 16  # from more changes than this the sets do not recover
_VIOLATED = 1e-10  # what counts as a violation, in units of the table's range and of the weights
_ROUNDING = 1e-9  # effects below this share of the largest are taken out of the support
_MET = 1e-12  # by how much an active row may be missed at the end


@dataclass(frozen=True)
class Guess:
    """Solutions on guessed sets.

    Attributes:
        effects: ``[B, 2, 2^n]``, exactly 0 outside the support.
        constant: ``[B]``.
        dual: ``[B, 2^n]``.
        optimal: bool ``[B]``: the conditions of the optimum hold; False: the other entries mean nothing.
        rounds: int64 ``[B]``, how many factorisations it took.
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
    least = torch.full_like(open_, _FEW + 1)
    for _ in range(_ROUNDS):
        support = (sign != 0).sum(-1)
        few = ((side != 0) | equal).sum(-1) <= support + (not problem.pinned)
        if size <= _SMALL:
            few &= support <= _SMALL_WIDTH
        if not bool(few.all()):  # more rows than unknowns: they depend on each other
            keep = few.nonzero().squeeze(-1)
            problem, weights, equal = problem[keep], weights[keep], equal[keep]
            sign, side, open_, least = sign[keep], side[keep], open_[keep], least[keep]
        if not len(open_):
            break
        result.rounds[open_] += 1
        x, constant, y, exact = _solve(problem, weights, equal, sign, side)
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
        # Changes that do not become fewer lead nowhere.
        keep = ((changes > 0) & (changes < least)).nonzero().squeeze(-1)
        problem, weights, equal, open_ = problem[keep], weights[keep], equal[keep], open_[keep]
        sign, side, least = new_sign[keep], new_side[keep], changes[keep]
    return result


def _solve(
    problem: Problem, weights: Tensor, equal: Tensor, sign: Tensor, side: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The solution of the linear equations: effects, constant, dual vector, and whether the rows are met."""
    size = side.shape[-1]
    rows, row_there = _positions((side != 0) | equal, size <= _SMALL)
    columns, column_there = _positions(sign != 0, size <= _SMALL)
    sets = (columns & (size - 1)).int()
    # [S subset of T] = [T & S == S], and [S meets T] = not [T & S == 0].
    is_or = (columns >= size) & column_there
    wanted = torch.where(is_or, torch.zeros_like(sets), sets)
    z = (rows.int().unsqueeze(-1) & sets.unsqueeze(-2)).eq(wanted.unsqueeze(-2)).ne(is_or.unsqueeze(-2)).to(side.dtype)
    there = row_there.to(z.dtype)
    z.mul_(there.unsqueeze(-1)).mul_(column_there.unsqueeze(-2))
    gram = z @ z.mT
    if not problem.pinned:  # sum y = 0: this changes nothing, but makes a row of zeros, the empty set's, regular
        gram.add_(there.unsqueeze(-1) * there.unsqueeze(-2))
    gram.diagonal(dim1=-2, dim2=-1).add_((~row_there).to(z.dtype))
    root, failed = torch.linalg.cholesky_ex(gram)
    target = (problem.values - side * problem.slack).gather(1, rows) * there
    # Padding points at position 0, whose weight is infinite.
    price = torch.where(column_there, sign.gather(1, columns) * weights.gather(1, columns), 0.0)
    rho = problem.ridge

    def product(y: Tensor) -> Tensor:
        result = _times(z, _times(z.mT, y))
        return result if problem.pinned else result + there * y.sum(-1, keepdim=True)

    def solve(right: Tensor) -> Tensor:
        return torch.cholesky_solve(right.unsqueeze(-1), root).squeeze(-1)

    # x = (Z' y - price) / rho and Z x + c = target, with sum y = 0 where the constant c is free.
    right = _times(z, price) + rho * target
    y = solve(right)
    y = y + solve(right - product(y))
    constant = target.new_zeros(len(target), 1)
    if not problem.pinned:
        ones = solve(there)
        ones = ones + solve(there - product(ones))
        factor = y.sum(-1, keepdim=True) / ones.sum(-1, keepdim=True)
        constant, y = factor / rho, y - factor * ones
    goal = target - constant * there
    x = (_times(z.mT, y) - price) / rho
    for _ in range(2):  # a small ridge magnifies the rounding of the dual vector
        x = x + _times(z.mT, solve(goal - _times(z, x)))
    short = (goal - _times(z, x)).abs().amax(-1)
    off = (_times(z.mT, y) - price - rho * x).abs().amax(-1)
    exact = (failed == 0) & (short < _MET) & (off < _VIOLATED)
    effects = side.new_zeros(len(side), 2 * size).scatter_add_(1, columns, x)
    dual = torch.zeros_like(side).scatter_add_(1, rows, y * there)
    return effects, constant.squeeze(-1), dual, exact


def _times(matrix: Tensor, vector: Tensor) -> Tensor:
    """Matrices ``[B, m, k]`` times vectors ``[B, k]``; the bits of one do not depend on how many there are."""
    if matrix.shape[-1] * matrix.shape[-2] > _SMALL * _SMALL_WIDTH:
        return (matrix @ vector.unsqueeze(-1)).squeeze(-1)
    return (matrix * vector.unsqueeze(-2)).sum(-1)


def _positions(chosen: Tensor, small: bool) -> tuple[Tensor, Tensor]:
    """The chosen positions of each table ``[B, k]``, ascending, 0 at the padding, and where there is none."""
    counts, size = chosen.sum(-1), chosen.shape[-1]
    width = min(size, _SMALL_WIDTH) if small else max(1, int(counts.max()))
    order = chosen.to(torch.uint8).argsort(dim=-1, descending=True, stable=True)[:, :width]
    there = torch.arange(order.shape[-1], device=chosen.device) < counts.unsqueeze(-1)
    return order * there, there
