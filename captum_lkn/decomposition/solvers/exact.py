"""From ADMM's iterate to the optimum: the interior point for a batch, then the crossover.

If the interior point's steps become short, it starts anew from the middle of the feasible points: ADMM's iterate of a
dense table can be so far from the optimum that no step leads away from it. Tables with little slack come by way of the
optimum without.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from captum_lkn.decomposition.solvers import admm
from captum_lkn.decomposition.solvers.crossover import cross_over
from captum_lkn.decomposition.solvers.guess import solve_guessed
from captum_lkn.decomposition.solvers.narrow import narrow, without_slack
from captum_lkn.decomposition.solvers.point import Point
from captum_lkn.decomposition.solvers.problem import Problem, relative_gap
from captum_lkn.decomposition.solvers.run import (
    BY_ROWS_MAX_PLAYERS,
    CERTAIN,
    FEASIBLE,
    LAST,
    PIVOTS,
    PREVIEW,
    Run,
    Solution,
)
from captum_lkn.decomposition.solvers.vertex import program_of, to_vertex

__all__ = ["Solution", "solve"]

# With less slack than this, in units of the table's range, steps are lost in rounding: the optimum without slack first.
_STIFF_BELOW = 1e-6
# By how many slacks the optimum with slack may differ from that without, and the ridge of the narrow table at least.
_NARROW = ((1e4, 1e-2), (1e3, 1e-3), (1e5, 1e-2))
_NARROW_PROGRAM = ((1e4, 1e-6), (1e5, 1e-6))
_NARROW_WARM_UP = 400  # steps of ADMM
_OF_SLACK = 1e-4  # effects below this share of the slack are rounding


def solve(
    problem: Problem, effects: Tensor, dual: Tensor, tolerance: float, *, to_the_end: bool = True
) -> list[Solution]:
    """An optimum of each table, from an approximate one.

    Args:
        problem: ``values [B, 2^n]``.
        effects: ``[B, 2, 2^n]``, roughly optimal; need not be feasible.
        dual: ``[B, 2^n]``, roughly optimal.
        tolerance: The relative gap to stop at; above 1e-3, the effects need not be exact.
        to_the_end: False: the effects need not be exact whatever the tolerance.

    Returns:
        One solution a table; its effects are feasible to rounding.
    """
    enough = problem.slack.amax(-1) > _STIFF_BELOW
    wanted = tolerance if tolerance > PREVIEW or not to_the_end else min(CERTAIN, tolerance)
    found: dict[int, Solution] = {}
    for chosen in (enough, ~enough):
        rows = chosen.nonzero().squeeze(-1)
        if not len(rows):
            continue
        part, exact = problem[rows], chosen is not enough
        posed = without_slack(part) if exact else part
        by_rows = exact or (problem.pinned and problem.n <= BY_ROWS_MAX_PLAYERS)
        start = partial(Point, exact=exact, by_rows=by_rows)
        solutions = _by_interior(start, posed, effects[rows], dual[rows], tolerance, to_the_end)
        for i, row in enumerate(rows.tolist()):
            found[row] = _with_slack(problem[rows[i : i + 1]], solutions[i], wanted) if exact else solutions[i]
    return [found[row] for row in range(len(dual))]


def _by_interior(
    start: Callable[..., Point],
    problem: Problem,
    effects: Tensor,
    dual: Tensor,
    tolerance: float,
    to_the_end: bool = True,
    last: int = LAST,
) -> list[Solution]:
    """The interior point from near the optimum, and from afar where that leads nowhere."""
    run = Run(start(problem, effects, dual), problem, tolerance, to_the_end, last)
    solutions = run.run()
    for table in run.stuck:  # one by one, since these systems are large
        some = torch.tensor([table], device=dual.device)
        point = start(problem[some], effects[some], dual[some], cold=True)
        new = Run(point, problem[some], tolerance, to_the_end, last, cold=True).run()[0]
        steps = new.steps + solutions[table].steps
        if not solutions[table].gap <= new.gap:
            solutions[table] = new
        solutions[table].steps = steps
    return solutions


def _with_slack(problem: Problem, start: Solution, wanted: float) -> Solution:
    """The optimum of one table, ``values [1, 2^n]``, that has little slack, from the one without; up to a gap."""
    if start.dual is None or not bool(problem.slack.any()):
        return start
    x, y = start.effects.unsqueeze(0), start.dual.unsqueeze(0)
    best = _certified(problem, x, 0.0, y, start.steps)
    ways: list[Callable[[Problem, Tensor, Tensor, int], Solution | None]] = [
        _on_same_sets,
        *(partial(_by_narrow, how=how) for how in (_NARROW if problem.ridge else _NARROW_PROGRAM)),
    ]
    for way in ways:
        if best.gap <= wanted:
            return best
        new = way(problem, x, y, start.steps)
        if new is not None and new.gap < best.gap:
            best = new
    if best.gap <= wanted:
        return best
    new = _by_crossover(problem, best, y[0] if best.dual is None else best.dual)
    return new if new.gap < best.gap else best


def _certified(problem: Problem, effects: Tensor, constant: float, dual: Tensor, steps: int) -> Solution:
    """Effects ``[1, 2, 2^n]``, feasible to rounding, with their certificate."""
    free = min(max(constant, -float(problem.slack[0, 0])), float(problem.slack[0, 0]))
    if not float(problem.excess(effects, constant)[:, 1:].abs().amax()) < FEASIBLE:
        effects = problem.without_rounding(problem.repaired(effects, free), free)
    bound = problem.bound(dual)
    gap = float(relative_gap(problem.penalty(effects), bound))
    return Solution(effects[0], free, gap, float(bound), steps, dual[0])


def _on_same_sets(problem: Problem, effects: Tensor, dual: Tensor, steps: int) -> Solution | None:
    """The solution where the optimum without slack has no ties: the rows' sides are the signs of its dual vector."""
    found = solve_guessed(problem, effects, dual) if problem.ridge else None
    if found is None or not bool(found.optimal):
        return None
    return _certified(problem, found.effects, float(found.constant), found.dual, steps)


def _by_narrow(
    problem: Problem, effects: Tensor, dual: Tensor, steps: int, *, how: tuple[float, float]
) -> Solution | None:
    """The solution by way of a table with smaller effects."""
    table = narrow(problem, effects, *how)
    warm = next(admm.iterate(table.problem, _NARROW_WARM_UP, torch.float32))
    # By effects also where the rows are fewer: they depend on each other, and few effects are in play.
    start = partial(Point, exact=False, by_rows=False)
    solution = _by_interior(start, table.problem, warm.effects, warm.dual, CERTAIN, last=1)[0]
    wide = table.widened(solution.effects.unsqueeze(0), solution.constant)
    if wide is None or solution.dual is None:
        return None
    if not problem.ridge:
        vertex = to_vertex(program_of(problem[0]), wide[0].flatten(), wide[1])
        wide = wide if vertex is None else (vertex[0].view(1, 2, -1), vertex[1])
    return _certified(problem, *wide, solution.dual.unsqueeze(0), steps + solution.steps)


def _by_crossover(problem: Problem, near: Solution, dual: Tensor) -> Solution:
    """The solution by pivots from one that is near; of a program, a vertex."""
    program = program_of(problem[0])
    effects = near.effects.masked_fill(near.effects.abs() < _OF_SLACK * problem.slack.amax(), 0).flatten()
    found = cross_over(program, effects, near.constant, dual, LAST * PIVOTS)
    vertex = None if problem.ridge else to_vertex(program, found.effects, found.constant)
    x, constant = (found.effects, found.constant) if vertex is None else vertex
    x = x.view(1, 2, -1)
    return _certified(problem, x, constant, found.dual.unsqueeze(0), near.steps + found.pivots)
