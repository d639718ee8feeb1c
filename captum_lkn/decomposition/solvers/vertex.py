"""From an optimum of a linear program to a vertex of its optimal face.

Without a ridge the optimum need not be unique, and an interior point or a proximal method ends inside the optimal face.
There the columns of the support, on the rows that are met or missed by exactly their slack, depend on each other. A
combination of them that adds up to 0 can be subtracted at no cost until an effect becomes 0 or a further row reaches
its slack (the primal push phase of a crossover, Megiddo 1991). A vertex is left once none depends on the others, and
its effects are the one solution of linear equations, without rounding of the search. This is for rows with slack, of
which few bind; ``simplex`` is for rows that must all be met.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from captum_lkn.decomposition.solvers.equations import Program
from captum_lkn.decomposition.solvers.narrow import without_slack
from captum_lkn.decomposition.solvers.problem import Lattice, Problem
from captum_lkn.decomposition.solvers.simplex import independent_rows

__all__ = ["at_vertex", "program_of", "to_vertex"]

_MAX_COLUMNS = 2500  # the decomposition of more columns takes longer than all else
_MAX_ENTRIES = 1 << 25  # of the columns of the support at all rows, beyond 13 players: 256 MB
_PIECE = 500  # of a larger support so many columns at a time, at least
_AT_SLACK = 1e-9  # rows nearer to their slack than this, in units of the table's range, are at it;
_OF_SLACK = 1e-4  # with little slack only those nearer than this share of it. Effects below that share are rounding
_DEPENDENT = 1e-9  # singular values below this share of the largest are 0
_ROUNDING = 1e-10  # effects below this share of the largest are 0 where the rows do not need them
_MET = 1e-12  # by how much a row may be missed at the end
_FEASIBLE = 1e-11  # the same for the rows that took no part
_TELLING_ROWS = 1 << 13  # with more rows than this, so many by chance show which columns depend on each other
_UNUSED = 1e-4  # effects below this share of the largest are alike when the first basis is chosen
_SMALL = 1e-9  # entries of a direction below this share of its largest are rounding
_FLAT = 1e-11  # a slope below this share of the terms that it is the sum of is rounding
_SAFE = 0.1  # the least pivot, as a share of the largest


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
        x = x.masked_fill(x.abs() < _rounding(program, x), 0)
        pushed = _push(program, x, free)
        if pushed is None:
            return None
        x, free = pushed
        solved = _solve(program, x, free)
        if solved is None:
            return None
        solution, free = solved
        kept = solution * x.sign() > _rounding(program, solution)
        done = bool((kept == (x != 0)).all())
        x = solution * kept
        if done:
            break
    missed = (program.values - free - program.design.synthesis(x)).abs() - program.slack
    return (x, float(free)) if float(missed[program.live].amax()) < _MET else None


def at_vertex(problem: Problem, effects: Tensor, constant: float) -> tuple[Tensor, float]:
    """Effects ``[2, 2^n]`` and constant of an optimum of one linear program of many players, moved to a vertex.

    Where rounding or the size of the equations prevents it, they stay as they are.
    """
    if not bool(problem.slack.any()):
        return _at_vertex_without_slack(problem, effects), 0.0
    if int((effects != 0).sum()) * len(problem.values) > _MAX_ENTRIES:
        return effects, constant
    vertex = to_vertex(program_of(problem), effects.flatten(), constant)
    return (effects, constant) if vertex is None else (vertex[0].view_as(effects), vertex[1])


def _at_vertex_without_slack(problem: Problem, effects: Tensor) -> Tensor:
    """Move effects to a vertex by some of the rows.

    Columns that are independent on some rows are independent; that the others are met too is checked at the end.
    """
    program = program_of(without_slack(problem))  # without slack the constant is 0 at free ends, too
    if int(program.live.sum()) > _TELLING_ROWS:
        program = replace(program, live=_telling_rows(problem, effects))
    vertex = to_vertex(program, effects.flatten(), 0.0)
    if vertex is None:
        return effects
    moved = vertex[0].view_as(effects)
    return moved if float(problem.excess(moved)[1:].abs().amax()) < _FEASIBLE else effects


def _telling_rows(problem: Problem, effects: Tensor) -> Tensor:
    """Some rows, bool ``[2^n]``: sets of AND effects, complements of sets of OR effects, and others by chance."""
    size = len(problem.values)
    rows = torch.zeros(size, dtype=torch.bool, device=effects.device)
    rows[torch.randperm(size, generator=torch.Generator("cpu").manual_seed(0), device="cpu")[:_TELLING_ROWS]] = True
    ands, ors = (effects != 0).unbind()
    rows |= ands | ors.flip(-1)
    rows[0] = False
    return rows


def program_of(problem: Problem) -> Program:
    """One table's problem as the crossover reads it."""
    live = torch.ones_like(problem.slack, dtype=torch.bool)
    live[0] = not problem.pinned
    weights = problem.weights.flatten()
    design = Lattice(problem.n)
    return Program(design, problem.values, problem.slack, weights, problem.ridge, not problem.pinned, live)


def _rounding(program: Program, x: Tensor) -> float:
    """Return the size below which effects are 0 where the rows do not need them."""
    of_largest = _ROUNDING * float(x.abs().amax())
    slack = float(program.slack.amax())
    return min(of_largest, _OF_SLACK * slack) if slack else of_largest


def _columns(program: Program, support: Tensor, rows: Tensor) -> Tensor:
    """The columns of some effects at some rows; the last one is the constant's, where there is one."""
    columns = program.design.entries(rows, support)
    if program.has_constant:
        columns = torch.cat([columns, columns.new_ones(len(rows), 1)], dim=1)
    return columns


def _missed(program: Program, x: Tensor, free: Tensor) -> Tensor:
    return program.values - free - program.design.synthesis(x)


def _at_slack(program: Program, missed: Tensor) -> Tensor:
    near = torch.where(program.slack > 0, (_OF_SLACK * program.slack).clamp_max(_AT_SLACK), torch.inf)
    return (missed.abs() >= program.slack - near) & program.live


def _push(program: Program, x: Tensor, free: Tensor) -> tuple[Tensor, Tensor] | None:
    """Move until no column of the support depends on the others; None where more are left than can be decomposed.

    The optimal face of a sparse table can have an interior where all effects are nonzero (12 players: 8,178), of which
    few columns are independent. So a large support is reduced piece by piece, from the largest effects on.
    """
    waiting = x.abs().argsort(descending=True, stable=True)[: int((x != 0).sum())]
    support = waiting[:0]
    piece = len(waiting) if len(waiting) <= _MAX_COLUMNS else _PIECE
    while len(waiting):
        support, waiting = torch.cat([support, waiting[:piece]]), waiting[piece:]
        if len(support) > _MAX_COLUMNS:
            return None
        x, free = _push_among(program, x, free, support.sort().values)
        support = support[x[support] != 0]
        piece = max(_PIECE, len(support))
    return x, free


def _push_among(program: Program, x: Tensor, free: Tensor, support: Tensor) -> tuple[Tensor, Tensor]:
    """Move along combinations of the given columns that add up to 0 where rows bind, until none is left.

    Each combination consists of one dependent column and of columns of a basis. All dependent effects shrink together,
    as far as an effect of the basis or a further row allows. What stops them takes the place of one of them, so that
    there are as many steps as what stops them, not as dependent columns.
    """
    missed = _missed(program, x, free)
    bound = _at_slack(program, missed)
    columns = _columns(program, support, bound.nonzero().squeeze(-1))
    count = len(support)
    effects = torch.cat([x[support], free.reshape(1)]) if program.has_constant else x[support]
    moves, dependent = _combinations(columns, effects, count)  # [columns, combinations]
    waiting = ~bound & program.live
    sign, price = x[support].sign(), program.weights[support]
    while moves.shape[1]:
        # At the optimum all may shrink. Elsewhere, those whose cost would rise grow instead, after the others.
        falls = effects[dependent].sign() * ((price * sign) @ moves[:count])
        going = falls >= -_FLAT * (price @ moves[:count].abs())
        shrink = bool(going.any())
        going = going if shrink else ~going
        towards = effects[dependent] * going
        direction = moves @ (-towards if shrink else towards)
        rises = program.design.synthesis(torch.zeros_like(x).index_put_((support,), direction[:count]))
        rises = rises + direction[count] if program.has_constant else rises
        least = _SMALL * direction.abs().amax()
        falling = sign * direction[:count] < -least
        falling[dependent[going]] = False  # these end together
        until_zero = torch.where(falling, -effects[:count] / direction[:count], torch.inf).clamp_min(0)
        room = torch.where(rises > 0, program.slack + missed, program.slack - missed).clamp_min(0)
        until_slack = torch.where(waiting & (rises.abs() > least), room / rises.abs(), torch.inf)
        first = torch.cat([until_zero, until_slack])
        which = int(first.argmin())
        length = float(first[which])
        if shrink and length >= 1:
            effects, missed = effects + direction, missed - rises
            effects[dependent[going]] = 0.0
            moves, dependent = moves[:, ~going], dependent[~going]
            continue
        if length == float("inf"):
            break
        effects, missed = effects + length * direction, missed - length * rises
        if which < count:
            effects[which] = 0.0
            moves, dependent = _exchanged(moves, dependent, moves[which].clone(), effects)
            moves[which] = 0.0
        else:
            waiting[which - count] = False
            row = _columns(program, support, support.new_tensor([which - count]))
            moves, dependent = _exchanged(moves, dependent, row.squeeze(0) @ moves, effects)
    result = x.index_put((support,), effects[:count])
    return result, effects[count] if program.has_constant else free


def _exchanged(moves: Tensor, dependent: Tensor, pivots: Tensor, effects: Tensor) -> tuple[Tensor, Tensor]:
    """Free all combinations but one of what has stopped them; the dependent column of that one joins the basis."""
    size = pivots.abs()
    # Dividing by large entries is safe; of those, the largest effect is the least likely to become 0.
    safe = size > _SAFE * size.amax()
    joins = int(torch.where(safe, effects[dependent].abs(), -1.0).argmax())
    moves.addr_(moves[:, joins].clone(), pivots / pivots[joins], alpha=-1)
    keep = torch.arange(len(pivots), device=pivots.device) != joins
    return moves[:, keep], dependent[keep]


def _combinations(columns: Tensor, effects: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The combinations of columns that add up to 0, each with one dependent column, of which it has 1.

    Args:
        columns: ``[rows, columns]``.
        effects: ``[columns]``, those on the columns; small ones become dependent.
        count: The number of effects; a column beyond is the constant's, which is part of the basis.

    Returns:
        The combinations ``[columns, combinations]`` and their dependent columns.
    """
    if not len(columns):
        everything = torch.eye(columns.shape[1], dtype=columns.dtype, device=columns.device)
        return everything[:, :count].contiguous(), torch.arange(count, device=columns.device)
    basis = _null_space(columns)
    size = effects.abs() / effects.abs().amax()
    size[count:] = 1 / _UNUSED
    dependent = independent_rows(basis / (size + _UNUSED).unsqueeze(1))
    moves = torch.linalg.solve(basis[dependent].T, basis.T).T.contiguous()
    moves[dependent] = torch.eye(len(dependent), dtype=moves.dtype, device=moves.device)
    return moves, dependent


def _null_space(columns: Tensor) -> Tensor:
    """An orthonormal basis of the combinations of columns that add up to 0, ``[columns, combinations]``."""
    count = columns.shape[1]
    if len(columns) >= count:
        gram = columns.T @ columns
        root, failed = torch.linalg.cholesky_ex(gram)
        if not int(failed) and float(root.diagonal().amin()) > 1e-4:
            return columns.new_zeros(count, 0)
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
    support = x.nonzero().squeeze(-1)
    if not len(support):
        return x, free
    columns = _columns(program, support, rows)
    target = program.values[rows] - program.slack[rows] * missed[rows].sign()
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
