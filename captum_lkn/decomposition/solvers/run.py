"""The steps of the interior point for a batch of tables, and the end of each: a guess, a crossover, a vertex.

A table is handed to the crossover when the interior point has come near; if that does not end, the interior point goes
on to a third of the distance, later to a thirtieth.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from captum_lkn.decomposition.solvers import interior
from captum_lkn.decomposition.solvers.crossover import Exact, cross_over
from captum_lkn.decomposition.solvers.guess import solve_guessed
from captum_lkn.decomposition.solvers.point import UNKNOWNS, Point
from captum_lkn.decomposition.solvers.problem import Problem, relative_gap
from captum_lkn.decomposition.solvers.simplex import to_optimal_vertex
from captum_lkn.decomposition.solvers.vertex import program_of, to_vertex

__all__ = ["BY_ROWS_MAX_PLAYERS", "CERTAIN", "FEASIBLE", "LAST", "PIVOTS", "PREVIEW", "Run", "Solution"]

BY_ROWS_MAX_PLAYERS = 6  # up to here the rows are the smaller system
_MAX_STEPS = 80
FEASIBLE = 1e-11  # what a row may be missed by, in units of the table's range
PREVIEW = 1e-3  # a tolerance above this is a preview
_CROSS_OVER = 5e-6  # from this relative gap on, few effects and rows are in the wrong set
_CROSS_OVER_LARGE = 1e-5  # the same from 11 players on, where a step takes longer than corrections of the sets
# Where all rows of a large table are met exactly, a pivot costs as much as a step, and many are needed from afar; not
# in a linear program, which has pivots of its own.
_CROSS_OVER_EXACT = 1e-8
_ROOM = 1e-3  # with less slack than this, in units of the range, sets are named later
CERTAIN = 1e-9  # the gap of an exact optimum is rounding
PIVOTS = 100
_PIVOTS_PER_ROW = 5  # of the simplex method, at most 2 to move effects that are not of the first basis
LAST = 20  # times as many pivots where the interior point has come to its end
_LOOK = 30  # a certificate is computed once the point is within this many tolerances
_SHORT, _SHORT_STEPS = 0.1, 3  # after so many steps below this length a table needs another start
_AFAR = 1e-4  # a distance from which the crossover takes longer than another start
_STALLED_AFTER = 25  # steps without getting nearer
_GUESSES = 2  # how often the sets are guessed before the crossover
_TRIES = 4  # crossovers of one table


@dataclass
class Solution:
    """Solution of one table.

    Attributes:
        effects: ``[2, 2^n]``.
        constant: The empty effect, in the problem's unit; 0 where the ends are pinned.
        gap: The certified relative gap.
        bound: The certified lower bound of the minimum.
        steps: Steps of the interior point and of the crossover.
        dual: ``[2^n]``, the dual vector of the bound; None where none was found.
        out_of_steps: Whether the number of steps ended the search.
        sparse: Whether the effects solve the equations of an active set; in a linear program, of a vertex.
    """

    effects: Tensor
    constant: float
    gap: float
    bound: float
    steps: int
    dual: Tensor | None = None
    out_of_steps: bool = False
    sparse: bool = False


class Run:
    """The steps of one batch, from which tables leave as they are done."""

    def __init__(
        self,
        point: Point,
        problem: Problem,
        tolerance: float,
        to_the_end: bool,
        last: int = LAST,
        *,
        cold: bool = False,
    ) -> None:
        self.point, self.problem, self.tolerance = point, problem, tolerance
        self.last, self.cold = last, cold
        self.stuck: list[int] = []  # the tables that need another start
        self.short = [0] * len(point)  # how many short steps in a row
        self.lost = [False] * len(point)  # whether rounding prevents further steps
        self.limited = [False] * len(point)  # whether the simplex method needs more pivots than it may take
        self.preview = tolerance > PREVIEW or not to_the_end
        # Feasible, if nothing else: what comes back where nothing better is found.
        nothing = problem.repaired(problem.values.new_zeros(len(point), 2, 1 << problem.n))
        self.solutions = [Solution(x, 0.0, float("inf"), 0.0, 0) for x in nothing]
        self.open = list(range(len(point)))  # the table of each row of the point
        near = _CROSS_OVER_LARGE if point.large and problem.ridge else _CROSS_OVER
        if point.exact and problem.n > BY_ROWS_MAX_PLAYERS and problem.ridge:
            near = _CROSS_OVER_EXACT
        # Little slack changes the sum little: which rows bind is seen later.
        slack = problem.slack.amax(-1).tolist()
        self.near = [near if point.exact else near * min(1.0, room / _ROOM) for room in slack]
        # A program's point lies between vertices: its sets cannot be guessed.
        self.tries = [0 if problem.ridge else _GUESSES] * len(point)
        self.nearest = [(float("inf"), 0)] * len(point)

    def run(self) -> list[Solution]:
        """Step until all tables are done."""
        for step in range(_MAX_STEPS):
            self.point.refresh()
            last = step == _MAX_STEPS - 1
            done = self._look(step, last)
            if len(done) == len(self.open):
                break
            if done:
                stay = [row for row in range(len(self.open)) if row not in set(done)]
                self.open = [self.open[row] for row in stay]
                kept = torch.tensor(stay, device=self.point.dual.device)
                self.point.keep(kept)
                self.problem = self.problem[kept]
                self.point.refresh()
            self.point.admit()
            self._advance()
        return self.solutions

    def _advance(self) -> None:
        """One step; a table whose equations are singular stays where it was, and that was its last step."""
        before = [getattr(self.point, name) for name in UNKNOWNS]
        interior.advance(self.point)
        after = [getattr(self.point, name) for name in UNKNOWNS]
        lost = ~torch.stack([t.flatten(1).sum(-1) if t.dim() > 1 else t for t in after]).sum(0).isfinite()
        if bool(lost.any()):
            for name, old, new in zip(UNKNOWNS, before, after, strict=True):
                setattr(self.point, name, torch.where(lost.view(-1, *[1] * (old.dim() - 1)), old, new))
            for row in lost.nonzero().squeeze(-1).tolist():
                self.lost[self.open[row]] = True

    def _look(self, step: int, last: bool) -> list[int]:
        """The rows of the point whose tables are done."""
        distances = self.point.distance().tolist()
        lengths = self.point.length.tolist()
        stalled, stuck = [], []
        for row, table in enumerate(self.open):
            best, _when = self.nearest[table]
            if distances[row] < 0.95 * best:
                self.nearest[table] = distances[row], step
            # NaN counts as no progress.
            stalled.append(last or self.lost[table] or step - self.nearest[table][1] >= _STALLED_AFTER)
            self.short[table] = self.short[table] + 1 if not lengths[row] > _SHORT else 0
            far = not min(best, distances[row]) < _AFAR
            if not self.cold and (self.short[table] >= _SHORT_STEPS or (stalled[row] and far)):
                stuck.append(row)
                self.solutions[table].steps = step
        self._certify(stuck, step)  # for the other start may lead no further
        self.stuck += [self.open[row] for row in stuck]
        rows = [row for row in range(len(self.open)) if row not in stuck]
        if self.preview:
            wanted = [row for row in rows if distances[row] <= _LOOK * self.tolerance or stalled[row]]
            self._certify(wanted, step)
            done = [row for row in wanted if self.solutions[self.open[row]].gap <= self.tolerance]
        else:
            wanted = [row for row in rows if distances[row] <= self.near[self.open[row]] or stalled[row]]
            done = self._guess(wanted, step)
            wanted = [row for row in wanted if row not in done]
            late = [row for row in wanted if stalled[row] or self.tries[self.open[row]] >= _GUESSES]
            done += self._cross_over(late, distances, stalled, step)
            for row in wanted:
                self.tries[self.open[row]] += 1
                self.near[self.open[row]] = distances[row] / (30 if row in late else 3)
            # Where the crossover failed, the point's own effects may have to do.
            tried = [row for row in rows if self.tries[self.open[row]] > _GUESSES and row not in done]
            self._certify(tried, step)
        for row in rows:
            self.solutions[self.open[row]].out_of_steps = (last or self.limited[self.open[row]]) and row not in done
        return sorted({*done, *stuck, *(row for row in rows if stalled[row])})

    def _certify(self, rows: list[int], step: int) -> None:
        """Keep the point's own effects, made feasible, where that is better."""
        if not rows:
            return
        index = torch.tensor(rows, device=self.point.dual.device)
        p = self.point
        problem = self.problem[index]
        constant = p.constant[index].unsqueeze(-1).clamp(-problem.slack[:, :1], problem.slack[:, :1])
        effects = problem.without_rounding(problem.repaired(p.columns.spread(p.x)[index], constant), constant)
        bound = problem.bound(p.dual[index], p.sums[index])
        gap = relative_gap(problem.penalty(effects), bound).tolist()
        for i, row in enumerate(rows):
            self._offer(row, Solution(effects[i], float(constant[i]), gap[i], float(bound[i]), step, p.dual[row]))

    def _offer(self, row: int, new: Solution) -> None:
        """Keep the better effects and the better bound of those known and those new, whose gap is updated.

        Sparse effects with a gap that is rounding are better than others with a smaller one: the point's own effects
        are all nonzero, and of a linear program they can be optimal, too.
        """
        kept = self.solutions[self.open[row]]
        certain = min(self.tolerance, CERTAIN)
        if kept.dual is None and new.sparse and new.gap <= certain:  # the usual end; a comparison takes .2 ms
            self.solutions[self.open[row]] = replace(new, steps=max(kept.steps, new.steps))
            return
        kept.steps = max(kept.steps, new.steps)
        if kept.dual is None or new.bound > kept.bound:
            kept.bound, kept.dual = new.bound, new.dual
        one = self.problem[row]
        bound = one.values.new_tensor(kept.bound)
        for solution in (kept, new):
            solution.gap = float(relative_gap(one.penalty(solution.effects), bound))
        prefer_kept, prefer_new = (solution.sparse and solution.gap <= certain for solution in (kept, new))
        if prefer_new > prefer_kept or (prefer_new == prefer_kept and new.gap < kept.gap):
            kept.effects, kept.constant, kept.gap, kept.sparse = new.effects, new.constant, new.gap, new.sparse

    def _guess(self, rows: list[int], step: int) -> list[int]:
        """Solve tables on the sets that the point names; those for which that is the optimum."""
        rows = [row for row in rows if self.tries[self.open[row]] < _GUESSES]
        if not rows:
            return []
        effects, dual = self.point.guess()
        done = []
        # One by one where their systems are: padded to others' sets, a table's equations would round otherwise.
        for some in torch.split(torch.tensor(rows, device=dual.device), len(rows) if self.point.together else 1):
            problem = self.problem[some]
            found = solve_guessed(problem, effects[some], dual[some])
            bound = problem.bound(found.dual)
            gap = relative_gap(problem.penalty(found.effects), bound)
            exact = (found.optimal & (gap <= min(self.tolerance, CERTAIN))).tolist()
            numbers = [t.tolist() for t in (found.constant, gap, bound)]  # one by one they take longer than a step
            for i, (row, constant, own_gap, own_bound) in enumerate(zip(some.tolist(), *numbers, strict=True)):
                if exact[i]:
                    new = Solution(found.effects[i], constant, own_gap, own_bound, step, found.dual[i], sparse=True)
                    self._offer(row, new)
                    done.append(row)
        return done

    def _cross_over(self, rows: list[int], distances: list[float], stalled: list[bool], step: int) -> list[int]:
        done = []
        if rows:
            effects, dual = self.point.guess()
        for row in rows:
            table = self.open[row]
            if not bool(effects[row].isfinite().all() & dual[row].isfinite().all()):
                continue
            budget = self.last * PIVOTS if stalled[row] else PIVOTS
            one = self.problem[row]
            found, vertex = self._pivoted(row, effects[row], dual[row], budget)
            self.limited[table] |= self.point.exact and not one.ridge and not found.finished
            effects_, constant = (found.effects, found.constant) if vertex is None else vertex
            x = effects_.view(2, -1)
            sparse = vertex is not None if not one.ridge and not self.point.exact else found.finished
            if not float(one.excess(x, constant)[1:].abs().amax()) < FEASIBLE:
                sparse = False
                constant = min(max(constant, -float(one.slack[0])), float(one.slack[0]))
                x = one.without_rounding(one.repaired(x, constant), constant)
            bound = one.bound(found.dual)
            gap = float(relative_gap(one.penalty(x), bound))
            self.solutions[table].steps += found.pivots
            new = Solution(x, constant, gap, float(bound), step + found.pivots, found.dual, sparse=sparse)
            self._offer(row, new)
            certain = new.gap <= min(self.tolerance, CERTAIN)
            if certain or (self.tries[table] >= _GUESSES + _TRIES - 1 and self.solutions[table].gap <= self.tolerance):
                done.append(row)
        unfinished = [row for row in range(len(self.open)) if stalled[row] and row not in done]
        self._certify(unfinished, step)
        return done

    def _pivoted(
        self, row: int, effects: Tensor, dual: Tensor, budget: int
    ) -> tuple[Exact, tuple[Tensor, float] | None]:
        """The end of the pivots from guessed effects and dual vector; of a program, a vertex of its optimal face."""
        one = self.problem[row]
        program = program_of(one)
        if one.ridge:
            alone = self.problem[torch.tensor([row], device=dual.device)]
            constant = float(self.point.constant[row])
            return cross_over(program, effects.flatten(), constant, dual, budget, partial(_solve_on, alone)), None
        if self.point.exact:
            own = self.point.columns.spread(self.point.x)[row].flatten()
            return to_optimal_vertex(program, own, _PIVOTS_PER_ROW * len(one.values)), None
        found = cross_over(program, effects.flatten(), float(self.point.constant[row]), dual, budget)
        return found, to_vertex(program, found.effects, found.constant)


def _solve_on(problem: Problem, effects: Tensor, dual: Tensor) -> Exact | None:
    """The solution of one table where the sets that effects and a dual vector name lead to it."""
    found = solve_guessed(problem, effects.view(1, 2, -1), dual.unsqueeze(0))
    if not bool(found.optimal):
        return None
    return Exact(found.effects.flatten(), float(found.constant), found.dual[0], 0, True)
