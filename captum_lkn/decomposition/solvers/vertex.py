"""From an optimum of a linear program to a vertex of its optimal face.

Without a ridge the optimum need not be unique, and an interior point or a proximal method ends inside the optimal face.
There the columns of the support, on the rows that are met or missed by exactly their slack, depend on each other. A
combination of them that adds up to 0 can be subtracted at no cost until an effect becomes 0 or a further row reaches
its slack (the primal push phase of a crossover, Megiddo 1991). A vertex is left once none depends on the others, and
its effects are the one solution of linear equations, without rounding of the search. This is for rows with slack, of
which few bind; ``simplex`` is for rows that must all be met.
"""

from __future__ import annotations

import torch
from torch import Tensor

from captum_lkn.decomposition.solvers.equations import Program

__all__ = ["to_vertex"]

_MAX_COLUMNS = 2500  # the decomposition of more columns takes longer than all else
_AT_SLACK = 1e-9  # rows nearer to their slack than this, in units of the table's range, are at it
_DEPENDENT = 1e-9  # singular values below this share of the largest are 0
_ROUNDING = 1e-10  # effects below this share of the largest are 0 where the rows do not need them
_MET = 1e-12  # by how much a row may be missed at the end


def to_vertex(program: Program, effects: Tensor, constant: float) -> tuple[Tensor, float] | None:
    """Move an optimum to a vertex without raising its cost.

    Args:
        program: The problem, without a ridge.
        effects: ``[effects]``, optimal to about 1e-9.
        constant: The constant; 0 where there is none.

    Returns:
        Effects and constant of the vertex, or None where rounding or the size of the equations prevents it.
    """
    x, free = effects.clone(), torch.as_tensor(constant, dtype=effects.dtype, device=effects.device)
    for _ in range(3):
        x = x.masked_fill(x.abs() < _ROUNDING * x.abs().amax(), 0)
        if int((x != 0).sum()) > _MAX_COLUMNS:
            return None
        x, free = _push(program, x, free)
        solved = _solve(program, x, free)
        if solved is None:
            return None
        solution, free = solved
        kept = solution * x.sign() > _ROUNDING * solution.abs().amax()
        done = bool((kept == (x != 0)).all())
        x = solution * kept
        if done:
            break
    missed = (program.values - free - program.design.synthesis(x)).abs() - program.slack
    return (x, float(free)) if float(missed[program.live].amax()) < _MET else None


def _columns(program: Program, x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """The support, and its columns at some rows; the last one is the constant's, where there is one."""
    support = x.nonzero().squeeze(-1)
    columns = program.design.entries(rows, support)
    if program.has_constant:
        columns = torch.cat([columns, columns.new_ones(len(rows), 1)], dim=1)
    return support, columns


def _missed(program: Program, x: Tensor, free: Tensor) -> Tensor:
    return program.values - free - program.design.synthesis(x)


def _at_slack(program: Program, missed: Tensor) -> Tensor:
    return (missed.abs() >= program.slack - _AT_SLACK) & program.live


def _push(program: Program, x: Tensor, free: Tensor) -> tuple[Tensor, Tensor]:
    """Subtract combinations of columns that add up to 0 where rows bind, until none is left."""
    missed = _missed(program, x, free)
    bound = _at_slack(program, missed)
    support, columns = _columns(program, x, bound.nonzero().squeeze(-1))
    moves = _null_space(columns)  # [columns, moves]
    if not moves.shape[1]:
        return x, free
    idle = (~bound & program.live).nonzero().squeeze(-1)
    _, at_idle = _columns(program, x, idle)
    effects, sign, price = x[support], x[support].sign(), program.weights[support]
    missed, slack = missed[idle], program.slack[idle]
    rest = at_idle @ moves  # by how much each combination raises the idle rows
    count = len(support)
    alive, waiting = torch.ones_like(effects, dtype=torch.bool), torch.ones_like(missed, dtype=torch.bool)
    while moves.shape[1]:
        move, rise = moves[:, 0], rest[:, 0]
        if float((price * sign * move[:count]).sum()) > 0:  # never upwards, even by rounding
            move, rise = -move, -rise
        scale = move.abs().amax()
        falling = alive & (sign * move[:count] < -1e-9 * scale)
        until_zero = torch.where(falling, -effects / move[:count], torch.inf)
        room = torch.where(rise > 0, slack + missed, slack - missed).clamp_min(0)
        until_slack = torch.where(waiting & (rise.abs() > 1e-9 * scale), room / rise.abs(), torch.inf)
        first = torch.cat([until_zero, until_slack])
        which = int(first.argmin())
        length = first[which]
        if not bool(length.isfinite()):
            break
        effects, missed = effects + length * move[:count], missed - length * rise
        free = free + length * move[count] if program.has_constant else free
        # The others are freed of what this one moved to its end.
        others = moves[:, 1:]
        if which < count:
            alive[which], effects[which] = False, 0.0
            factors = others[which] / move[which]
        else:
            waiting[which - count] = False
            factors = rest[which - count, 1:] / rise[which - count]
        moves = others - move.unsqueeze(1) * factors
        rest = rest[:, 1:] - rise.unsqueeze(1) * factors
        if moves.shape[1]:
            order = moves.abs().amax(0).argsort(descending=True)  # the best determined one first
            moves, rest = moves[:, order], rest[:, order]
            size = moves.abs().amax(0)
            moves, rest = moves / size.clamp_min(1e-300), rest / size.clamp_min(1e-300)
            moves, rest = moves[:, size > 1e-9], rest[:, size > 1e-9]
    result = torch.zeros_like(x)
    result[support] = effects * alive
    return result, free


def _null_space(columns: Tensor) -> Tensor:
    """An orthonormal basis of the combinations of columns that add up to 0, ``[columns, combinations]``."""
    count = columns.shape[1]
    if len(columns) >= count:
        gram = columns.T @ columns
        root, failed = torch.linalg.cholesky_ex(gram)
        if not int(failed) and float(root.diagonal().amin()) > 1e-4:
            return columns.new_zeros(count, 0)
    if not len(columns):
        return torch.eye(count, dtype=columns.dtype, device=columns.device)
    if len(columns) > count:  # the same right singular vectors, and no square matrix of all rows
        columns = torch.linalg.qr(columns, mode="r").R
    _, singular, right = torch.linalg.svd(columns, full_matrices=True)
    rank = int((singular > _DEPENDENT * singular[0]).sum())
    basis: Tensor = right[rank:].T
    return basis


def _solve(program: Program, x: Tensor, free: Tensor) -> tuple[Tensor, Tensor] | None:
    """The effects on the support of x that meet the rows which bind, by least squares."""
    missed = _missed(program, x, free)
    rows = _at_slack(program, missed).nonzero().squeeze(-1)
    support, columns = _columns(program, x, rows)
    target = program.values[rows] - program.slack[rows] * missed[rows].sign()
    if not columns.shape[1]:
        return x, free
    if len(rows) < columns.shape[1]:
        return None
    q, r = torch.linalg.qr(columns)
    if float(r.diagonal().abs().amin()) < _DEPENDENT:
        return None
    solution = target.new_zeros(columns.shape[1])
    for _ in range(3):
        step = torch.linalg.solve_triangular(r, (q.T @ (target - columns @ solution)).unsqueeze(1), upper=True)
        solution = solution + step.squeeze(1)
    result = torch.zeros_like(x)
    result[support] = solution[: len(support)]
    return result, solution[-1] if program.has_constant else free
