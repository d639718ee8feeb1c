"""Which solver solves which table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from captum_lkn import lattice
from captum_lkn._warn import warn
from captum_lkn.solvers import admm, highs, interior
from captum_lkn.solvers.problem import Problem, relative_gap

# Up to here the interior point finishes what ADMM began; beyond, its systems outgrow memory and patience.
_INTERIOR_MAX_PLAYERS = 13
_WARM_UP_STEPS = 200
_FIRST_ORDER_STEPS = 3000
# ADMM works on this many values at a time, which stay in the processor's cache.
_CHUNK = 1 << 16
# Up to so many players the matrices are so small that a second thread costs more than it brings, and where other
# processes keep the cores busy, up to a hundred times more.
_ONE_THREAD_MAX_PLAYERS = 9


@dataclass
class Found:
    """Solutions of K tables in the problem's unit, filled in as they come."""

    effects: Tensor  # [K, 2, 2^n]
    constant: Tensor  # [K, 1]
    bound: Tensor  # [K]
    steps: Tensor  # [K]
    stopped: list[str]


def solve(problem: Problem, tolerance: float, solver: str) -> Found:
    """Solve each of K tables by the solver that its size calls for.

    Args:
        problem: ``values [K, 2^n]``.
        tolerance: The relative gap to stop at.
        solver: ``"auto"`` or ``"highs"``.

    Returns:
        The solutions, in the problem's unit.
    """
    tables, size = problem.values.shape
    found = Found(
        problem.values.new_zeros(tables, 2, size),
        # The middle of the range is the only constant that can do without effects, if any can.
        _middle(problem),
        problem.values.new_zeros(tables),
        torch.zeros(tables, dtype=torch.int64, device=problem.values.device),
        ["converged"] * tables,
    )
    nothing_needed = problem.excess(found.effects, found.constant).abs().amax(-1) == 0
    with _threads_for(problem.n):
        for chunk in (~nothing_needed).nonzero().squeeze(-1).split(max(1, _CHUNK // size)):  # type: ignore[no-untyped-call]
            part = Problem(problem.values[chunk], problem.slack[chunk], problem.weights, problem.ridge, problem.pinned)
            if solver == "highs":
                _by_highs(part, found, chunk)
            elif torch.isinf(problem.weights[1]).all() and not bool((part.slack > 0).any()):
                # AND effects alone that reproduce every value: there is one way.
                found.effects[chunk, 0] = lattice.and_transform(part.values)
                found.bound[chunk] = part.penalty(found.effects[chunk])
            elif problem.n <= _INTERIOR_MAX_PLAYERS:
                _by_interior(part, found, chunk, tolerance)
            else:
                _by_admm(part, found, chunk, tolerance)
    return found


def _middle(problem: Problem) -> Tensor:
    if problem.pinned:
        return problem.values.new_zeros(len(problem.values), 1)
    middle = (problem.values.amax(-1, keepdim=True) + problem.values.amin(-1, keepdim=True)) / 2
    needless = (problem.values - middle).abs().amax(-1, keepdim=True) <= problem.slack[:, :1]
    return torch.where(needless, middle, torch.zeros_like(middle))


def _by_interior(problem: Problem, found: Found, chunk: Tensor, tolerance: float) -> None:
    """ADMM for all tables at once, then an interior point for each."""
    warm = next(admm.iterate(problem, _WARM_UP_STEPS, torch.float32))
    for row, table in enumerate(chunk.tolist()):
        solution = interior.solve(problem[row], warm.effects[row], warm.dual[row], tolerance)
        found.effects[table] = solution.effects
        found.constant[table] = solution.constant
        found.bound[table] = solution.bound
        found.steps[table] = _WARM_UP_STEPS + solution.steps
        found.stopped[table] = solution.reason


def _by_admm(problem: Problem, found: Found, chunk: Tensor, tolerance: float) -> None:
    """ADMM alone. A table keeps the first iterate that is good enough, whatever its batch-mates still need."""
    every = 100
    best = torch.full_like(found.bound[chunk], torch.inf)
    for steps, now in enumerate(admm.iterate(problem, every, torch.float64), start=1):
        constant = now.constant.clamp(-problem.slack[:, :1], problem.slack[:, :1])
        effects = problem.repaired(now.effects, constant)
        bound = torch.maximum(found.bound[chunk], problem.bound(now.dual))
        gap = relative_gap(problem.penalty(effects), bound)
        better = (gap < best) & (best > tolerance)
        best = torch.where(better, gap, best)
        found.effects[chunk[better]] = effects[better]
        found.constant[chunk[better]] = constant[better]
        found.bound[chunk[better]] = bound[better]
        found.steps[chunk[better]] = steps * every
        if bool((best <= tolerance).all()) or steps * every >= _FIRST_ORDER_STEPS:
            break
    for table, gap in zip(chunk.tolist(), best.tolist(), strict=True):
        found.stopped[table] = "converged" if gap <= tolerance else "steps"


def _by_highs(problem: Problem, found: Found, chunk: Tensor) -> None:
    if problem.ridge:
        warn(
            "HiGHS minimises the weighted sum without its ridge; the gap reported is of the sum with it. "
            "Give ridge=0 for the linear program",
        )
    for row, table in enumerate(chunk.tolist()):
        effects, constant, dual, steps = highs.solve(problem[row])
        found.effects[table] = problem[row].repaired(effects, constant)
        found.constant[table] = constant
        found.bound[table] = problem[row].bound(dual)
        found.steps[table] = steps


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
