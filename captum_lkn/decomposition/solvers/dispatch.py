"""Choice of the solver for each table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from captum_lkn._common.progress import Bar
from captum_lkn._common.warn import warn
from captum_lkn.decomposition import lattice
from captum_lkn.decomposition.solvers import admm, equality, exact, first_order, generation, highs, vertex
from captum_lkn.decomposition.solvers.narrow import without_slack
from captum_lkn.decomposition.solvers.point import LARGE_MIN_PLAYERS
from captum_lkn.decomposition.solvers.problem import Problem, relative_gap
from captum_lkn.decomposition.solvers.run import BY_ROWS_MAX_PLAYERS

__all__ = ["Found", "solve", "solve_nearly"]

# Up to here all effects and rows take part in the interior point; beyond, its systems are too large.
_INTERIOR_MAX_PLAYERS = 13
# Without slack, tables of 7, 8, 9 and 10 players whose answer is sparse take 36, 38, 70 and 44 ms instead of 59, 70,
# 127 and 561 of the interior point. That another is not sparse is seen after 20 to 50 ms, up to 100 with 10 players,
# where the interior point takes .5 to 1 s.
_SPARSE_MIN_PLAYERS = 9
_TIGHT = 1e-5  # with less slack than this, in units of the table's range, values are met exactly beyond 13 players
_MET = 1e-12  # by how much a value may be missed beyond its slack without effects: rounding of table and slack
_EXACT = 1e-6  # the gap by which these are accepted, if the tolerance is not below
_WARM_UP_STEPS = 300
_WARM_UP_STEPS_LARGE = 2000  # from 11 players on, where 1,600 more take less time than one step of the interior point
# There a higher relaxation, too, which comes nearer.
_WARM_UP_RELAXATION_LARGE = 1.9
_WARM_UP_STEPS_SMALL = 200  # where all effects take part in the interior point anyway
# From 7 to 10 players: a higher penalty, and a lower share of it for the tables, name the effects in play in fewer
# steps. On its way to a small gap such a penalty is slower.
_WARM_UP_PENALTY, _WARM_UP_SHARE = 120.0, 0.05
# Random perceptrons took at most 7,500 steps to a gap of 1e-3 with 14 players, and 12,100 to 1e-2 with 16.
# From 17 players on the steps are so long that half as many must do for each further player.
_FIRST_ORDER_STEPS = 20_000
_FIRST_ORDER_STEPS_MAX_PLAYERS = 16
_ROUGH_STEPS = 50  # of ADMM before the exact method on few effects and rows
# ADMM works on this many values at a time, on a processor as many as stay in its cache.
_CHUNK, _CHUNK_CPU = 1 << 16, 1 << 14
_TOGETHER_CPU = 1 << 13  # the same of the interior point, which keeps a factor for each table
# Up to so many players one thread works alone: for such small matrices a second one brings next to nothing, and where
# other processes keep the cores busy, waiting for it costs up to a hundred times more.
_ONE_THREAD_MAX_PLAYERS = 10


@dataclass
class Found:
    """Solutions of K tables in the problem's unit, filled in as they come."""

    effects: Tensor  # [K, 2, 2^n]
    constant: Tensor  # [K, 1]
    bound: Tensor  # [K]
    dual: Tensor  # [K, 2^n], a dual vector; what the bound may be of
    steps: Tensor  # [K]
    out_of_steps: Tensor  # bool [K], whether the number of steps ended the search


def solve(problem: Problem, tolerance: float, max_steps: int | None, solver: str, bar: tqdm[Any]) -> Found:
    """Solve each of K tables by the solver that its size calls for.

    Args:
        problem: ``values [K, 2^n]``.
        tolerance: The relative gap to stop at.
        max_steps: The largest number of first-order steps beyond 13 players; None: chosen by the number of players.
        solver: ``"auto"`` or ``"highs"``.
        bar: Counts the tables that are solved.

    Returns:
        The solutions, in the problem's unit.
    """
    tables, size = problem.values.shape
    found = _nothing(problem)
    left = problem.excess(found.effects, found.constant).abs().amax(-1) > _MET
    if problem.ands_only:
        # AND effects alone that reproduce every value: there is one way.
        only = left & (problem.slack <= 0).all(-1)
        found.effects[:, 0] = torch.where(
            only.unsqueeze(-1), lattice.and_transform(problem.values), found.effects[:, 0]
        )
        found.effects = problem.without_rounding(found.effects)
        found.bound += torch.where(only, problem.penalty(found.effects), torch.zeros_like(found.bound))
        left &= ~only
    with _threads_for(problem.n):
        # Chunks of all tables, solved or not: whom a table is computed with depends on no values.
        together = max(1, (_CHUNK_CPU if left.device.type == "cpu" else _CHUNK) // size)
        for chunk in torch.split(torch.arange(tables, device=left.device), together):
            bar.update(int((~left[chunk]).sum()))
            if solver == "highs":
                _by_highs(problem, found, chunk[left[chunk]].tolist(), bar)
            elif problem.n <= _INTERIOR_MAX_PLAYERS:
                _without_slack(problem, found, chunk, left, tolerance, bar)
                _by_interior(problem, found, chunk, left, tolerance, bar)
            else:
                for table in chunk[left[chunk]].tolist():
                    left[table] = not _by_generation(problem, found, table, tolerance)
                    bar.update(int(not left[table]))
                _by_admm(problem, found, chunk[left[chunk]], tolerance, max_steps or _first_order_steps(problem.n), bar)
    return found


def _nothing(problem: Problem) -> Found:
    """No effects, and no bound."""
    tables, size = problem.values.shape
    return Found(
        problem.values.new_zeros(tables, 2, size),
        # The middle of the range is the only constant that can do without effects, if any can.
        _middle(problem),
        problem.values.new_zeros(tables),
        torch.zeros_like(problem.values),
        torch.zeros(tables, dtype=torch.int64, device=problem.values.device),
        torch.zeros(tables, dtype=torch.bool, device=problem.values.device),
    )


def _middle(problem: Problem) -> Tensor:
    if problem.pinned:
        return problem.values.new_zeros(len(problem.values), 1)
    middle = (problem.values.amax(-1, keepdim=True) + problem.values.amin(-1, keepdim=True)) / 2
    needless = (problem.values - middle).abs().amax(-1, keepdim=True) <= problem.slack[:, :1] + _MET
    return torch.where(needless, middle, torch.zeros_like(middle))


def _without_slack(
    problem: Problem, found: Found, chunk: Tensor, left: Tensor, tolerance: float, bar: tqdm[Any]
) -> None:
    """Try what is faster than the interior point where a table has no slack and a sparse answer."""
    if problem.n < _SPARSE_MIN_PLAYERS:
        return
    for table in chunk[left[chunk] & (problem.slack[chunk] <= 0).all(-1)].tolist():
        if _by_generation(problem, found, table, min(tolerance, _EXACT)):
            left[table] = False
            bar.update()


def _by_interior(problem: Problem, found: Found, chunk: Tensor, left: Tensor, tolerance: float, bar: tqdm[Any]) -> None:
    """ADMM for all tables of a chunk at once, then an interior point for each that is left."""
    if not bool(left[chunk].any()):
        return
    open_ = chunk[left[chunk]]
    part = problem[open_]
    if BY_ROWS_MAX_PLAYERS < problem.n < LARGE_MIN_PLAYERS:
        warm_up = _WARM_UP_STEPS
        warm = next(admm.iterate(part, warm_up, torch.float32, penalty=_WARM_UP_PENALTY, share=_WARM_UP_SHARE))
    elif problem.n >= LARGE_MIN_PLAYERS:
        warm_up = _WARM_UP_STEPS_LARGE
        warm = next(admm.iterate(part, warm_up, torch.float32, relaxation=_WARM_UP_RELAXATION_LARGE))
    else:
        warm_up = _WARM_UP_STEPS_SMALL
        warm = next(admm.iterate(part, warm_up, torch.float32))
    for some in torch.split(torch.arange(len(open_), device=open_.device), _batch(problem)):
        solutions = exact.solve(part[some], warm.effects[some], warm.dual[some], tolerance)
        _take(found, open_[some].tolist(), solutions, warm_up)
        bar.update(len(some))


def _take(found: Found, tables: list[int], solutions: list[exact.Solution], before: int) -> None:
    for table, solution in zip(tables, solutions, strict=True):
        found.effects[table] = solution.effects
        found.constant[table] = solution.constant
        found.bound[table] = solution.bound
        if solution.dual is not None:
            found.dual[table] = solution.dual
        found.steps[table] = before + solution.steps
        found.out_of_steps[table] = solution.out_of_steps


def solve_nearly(problem: Problem, tolerance: float, start: Found | None) -> Found:
    """Solve each of K tables up to a gap, with effects that need not be exact.

    Args:
        problem: ``values [K, 2^n]``.
        tolerance: The relative gap to stop at.
        start: The solution of one similar table, from which all start; None: as in :func:`solve`.

    Returns:
        The solutions, with dual vectors.
    """
    if start is None or problem.n > _INTERIOR_MAX_PLAYERS:
        with Bar(disable=True) as bar:
            return solve(problem, tolerance, None, "auto", bar)
    found = _nothing(problem)
    with _threads_for(problem.n):
        for some in torch.split(torch.arange(len(problem.values), device=found.steps.device), _batch(problem)):
            first, dual = (one.expand(len(some), *one.shape[1:]) for one in (start.effects, start.dual))
            solutions = exact.solve(problem[some], first, dual, tolerance, to_the_end=False)
            _take(found, some.tolist(), solutions, 0)
    return found


def _batch(problem: Problem) -> int:
    """Return the number of tables that the interior point works on at a time."""
    if problem.n <= BY_ROWS_MAX_PLAYERS:
        return 256
    if problem.values.device.type != "cpu":
        return 64
    # Beyond, each table has a system of its own, and these take the time.
    return max(1, _TOGETHER_CPU >> problem.n) if problem.n <= _ONE_THREAD_MAX_PLAYERS else 1


def _by_generation(problem: Problem, found: Found, table: int, tolerance: float) -> bool:
    """Try what costs no search, then the methods for few effects; True if the tolerance is reached.

    The effects that are left in ``found`` are feasible in any case.
    """
    one = problem[table]
    free = generation.free_solutions(one)
    costs = torch.stack([one.penalty(effects) for effects in free])
    found.effects[table], found.constant[table] = free[int(costs.argmin())], 0.0
    found.dual[table] = generation.shapley_dual(one, free[0])
    found.bound[table] = one.bound(found.dual[table])
    if _gap(one, found, table) <= tolerance:
        return True
    index = torch.tensor([table], device=problem.values.device)
    rough = next(admm.iterate(problem[index], _ROUGH_STEPS, torch.float32))
    sparse: equality.Sparse | generation.Generated | None
    tight = float(one.slack.amax()) < _TIGHT
    if tight:
        sparse, constant = equality.solve(without_slack(one), rough.dual[0]), 0.0
    else:
        sparse = generation.solve(one, rough.effects[0], rough.dual[0])
        constant = min(max(sparse.constant, -float(one.slack[0])), float(one.slack[0]))
    if sparse is None:
        return False
    found.steps[table] = _ROUGH_STEPS + sparse.steps
    effects = sparse.effects
    if not one.ridge and not (tight and bool(one.slack.any())):
        effects, constant = vertex.at_vertex(one, effects, constant)
    # Rounding is not repaired: it would make exact zeros nonzero.
    if not float(one.excess(effects, constant)[1:].abs().amax()) < 1e-9:
        effects = one.repaired(effects, constant)
    if one.penalty(effects) < one.penalty(found.effects[table]):
        found.effects[table], found.constant[table] = effects, constant
    bound = one.bound(sparse.dual)
    if bound > found.bound[table]:
        found.bound[table], found.dual[table] = bound, sparse.dual
    return _gap(one, found, table) <= tolerance


def _gap(one: Problem, found: Found, table: int) -> float:
    """The certified gap of a table's present solution."""
    return float(relative_gap(one.penalty(found.effects[table]), found.bound[table]))


def _first_order_steps(n: int) -> int:
    """Return how many steps ADMM takes at most on a table of n players."""
    return _FIRST_ORDER_STEPS >> max(0, n - _FIRST_ORDER_STEPS_MAX_PLAYERS)


def _by_admm(problem: Problem, found: Found, tables: Tensor, tolerance: float, max_steps: int, bar: tqdm[Any]) -> None:
    """ADMM alone, table by table, from what is known of each."""
    for table in tables.tolist():
        one = problem[tables.new_tensor([table])]
        at = slice(table, table + 1)
        known = found.effects[at], found.constant[at], found.bound[at], found.dual[at]
        best = first_order.Nearly(*known, gap=_gap(problem[table], found, table))
        first_order.solve(one, best, tolerance, max_steps, bar)
        found.effects[table], found.constant[table] = best.effects[0], best.constant[0]
        found.bound[table], found.dual[table] = best.bound[0], best.dual[0]
        found.steps[table] += best.steps
        found.out_of_steps[table] = best.gap > tolerance
        bar.update()


def _by_highs(problem: Problem, found: Found, tables: list[int], bar: tqdm[Any]) -> None:
    if problem.ridge and tables:
        warn(
            "HiGHS minimises the weighted sum without its ridge; the gap reported is of the sum with it. "
            "Give ridge=0 for the linear program"
        )
    for table in tables:
        effects, constant, dual, steps = highs.solve(problem[table])
        found.effects[table] = problem[table].repaired(effects, constant)
        found.constant[table] = constant
        found.bound[table] = problem[table].bound(dual)
        found.dual[table] = dual
        found.steps[table] = steps
        bar.update()


@contextmanager
def _threads_for(n: int) -> Iterator[None]:
    """One thread for small tables; torch's setting is restored behind it."""
    threads = torch.get_num_threads()
    if n <= _ONE_THREAD_MAX_PLAYERS and threads > 1:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
