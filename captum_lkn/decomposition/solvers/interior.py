"""The second stage: the steps of a primal-dual interior point, for a batch of tables.

Mehrotra's predictor-corrector method; ``point`` holds the unknowns.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from captum_lkn.decomposition.solvers.newton import (
    WHOLE_MAX_PLAYERS,
    Factor,
    Factors,
    all_rows_gram,
    reached_and_missed,
)
from captum_lkn.decomposition.solvers.point import Point

__all__ = ["advance"]

# With so many effects in play a step is corrected: random perceptrons of 10 players take 80 to 90 % of the time.
_WIDE = 500
# A shorter step tells of a point that is badly centred: a CNN's table of 38 effects took fourteen steps to no end, and
# .7 s from another start; corrected, it takes .1 s.
_SHORT = 0.1
_CORRECTORS = 5
# How much further a corrector is to lead, the least share of that which is worth another one, and what the products
# may be as shares of the barrier.
_FURTHER, _WORTH = 0.2, 0.1
_LEAST_PRODUCT, _LARGEST_PRODUCT = 0.1, 10.0
_STIFF = 1.0  # a row that is stiffer than this moves as its multipliers say
_SUMS = 1 << 16  # so many sums over patterns are made at a time: they stay in the cache
_KEEP_OFF = 0.995  # the share of the way to the nearest bound that a step may go


def advance(point: Point) -> None:
    """Take one predictor-corrector step from a refreshed point."""
    system = _System(point)
    mu = point.total(point.products) / point.count
    probe = system.direction(-point.products)
    primal, dual = (t.view(-1, 1, 1) for t in _lengths(point, probe, 1.0))
    after = (point.primal + primal * probe.primal) * (point.multipliers + dual * probe.multipliers)
    after = point.total(point.only_inside(after)) / point.count
    point.barrier = mu * ((after / mu) ** 3).clamp(0, 1)
    second_order = torch.addcmul(point.products, probe.primal, probe.multipliers)
    wanted = point.only_inside(point.barrier.view(-1, 1, 1) - second_order)
    step = system.direction(wanted)
    primal, dual = _lengths(point, step, _KEEP_OFF)
    worth = point.large | (point.in_play >= _WIDE)
    if not point.by_rows:
        worth = worth | (primal.minimum(dual) < _SHORT)
    step, primal, dual = _corrected(system, wanted, step, primal, dual, worth)
    dual = _within_reach(point, step, dual)
    point.length = primal.maximum(dual)
    point.constant = point.constant + primal * step.constant
    point.end_dual = point.end_dual + dual.unsqueeze(-1) * step.end_dual
    point.primal = torch.addcmul(point.primal, primal.view(-1, 1, 1), step.primal)
    point.multipliers = torch.addcmul(point.multipliers, dual.view(-1, 1, 1), step.multipliers)


def _corrected(
    system: _System, wanted: Tensor, step: _Step, primal: Tensor, dual: Tensor, worth: Tensor
) -> tuple[_Step, Tensor, Tensor]:
    """Return a step that goes further, with its lengths (multiple centrality correctors, Gondzio 1996).

    What would be far from the barrier a little beyond the end of the step is moved towards it. With a warm start
    and slack, tables of 12 players take 8 or 9 steps instead of 11 or 12. Each table, bool ``worth [B]``, is corrected
    until it goes no further, whatever others need.
    """
    point = system.point
    mu = point.barrier.view(-1, 1, 1)
    for _ in range(_CORRECTORS):
        if not bool(worth.any()):
            break
        beyond = ((length + _FURTHER).clamp(max=1.0).view(-1, 1, 1) for length in (primal, dual))
        to_primal, to_dual = beyond
        products = (point.primal + to_primal * step.primal) * (point.multipliers + to_dual * step.multipliers)
        off = products.clamp(_LEAST_PRODUCT * mu, _LARGEST_PRODUCT * mu) - products
        wanted = wanted + point.only_inside(off.maximum(-_LARGEST_PRODUCT * mu))
        system.keep(worth)
        new = system.direction(wanted)
        new_primal, new_dual = _lengths(point, new, _KEEP_OFF)
        worth = worth & (new_primal + new_dual > primal + dual + _WORTH * _FURTHER)
        step = new.where(worth, step)
        primal, dual = torch.where(worth, new_primal, primal), torch.where(worth, new_dual, dual)
    return step, primal, dual


def _within_reach(point: Point, step: _Step, length: Tensor) -> Tensor:
    """Return the dual length at which no effect out of play is pressed by one weight more, at most the given one.

    Effects in play that are too few to meet the rows let the dual vector grow without bound. Random tables of AND
    effects alone were left with a dual infeasibility of 1e5, and all later steps were short.
    """
    if point.by_rows:
        return length
    sums = point.sums.flatten(1)
    change = point.adjoint(point.dual_of(step.multipliers, step.end_dual)).flatten(1)
    point.aimed = sums + length.unsqueeze(-1) * change
    room = sums.abs().maximum(point.weights) + point.weights - sums * change.sign()
    fastest = change.abs() / room
    fastest.scatter_(1, point.columns.positions, 0.0)
    fastest[:, 0] = 0
    length = length.minimum(1 / fastest.amax(-1))
    if point.sample is not None:  # the transforms are what takes the time
        point.next_sums = torch.add(sums, length.unsqueeze(-1) * change).view_as(point.sums)
    return length


def _lengths(point: Point, step: _Step, share: float) -> tuple[Tensor, Tensor]:
    """Return how far primal and dual unknowns can go, at most 1, before one reaches 0; a share of it.

    The ridge ties the dual equations to the effects, but weakly: what two lengths leave of them the next step
    makes up for. One length for both takes a fifth more steps.
    """
    fastest = [
        torch.div(change, value).neg_().flatten(1).amax(-1)
        for value, change in ((point.primal, step.primal), (point.multipliers, step.multipliers))
    ]
    primal, dual = (torch.where(f <= share, torch.ones_like(f), share / f) for f in fastest)
    return primal, dual


@dataclass(frozen=True)
class _Step:
    primal: Tensor
    multipliers: Tensor
    constant: Tensor
    end_dual: Tensor

    def where(self, chosen: Tensor, other: _Step) -> _Step:
        """This step for the tables that are chosen, bool ``[B]``, and another one for the rest."""
        cubes, rows = chosen.view(-1, 1, 1), chosen.view(-1, 1)
        return _Step(
            torch.where(cubes, self.primal, other.primal),
            torch.where(cubes, self.multipliers, other.multipliers),
            torch.where(chosen, self.constant, other.constant),
            torch.where(rows, self.end_dual, other.end_dual),
        )


class _System:
    """The linearised conditions at a point, factored once for predictor and corrector."""

    def __init__(self, point: Point) -> None:
        self.point = p = point
        columns, problem, k = p.columns, p.problem, p.width
        pressed = (problem.ridge * p.x - columns.take(p.sums)).unsqueeze(1)
        gap = p.prices.unsqueeze(1) + p.signs * pressed - p.multipliers[..., :k]
        parts, distances = p.primal[..., :k], p.primal[..., k:]
        self.gap_times_parts = gap * parts
        self.share = parts / p.multipliers[..., :k]
        self.offset = (distances[:, 0] - distances[:, 1]) / 2
        self.row_gap = p.missed[:, p.rows] - self.offset
        self.inverse_curvature = self.share.sum(1)
        self.curvature = 1 / self.inverse_curvature + problem.ridge
        self.stiffness = (p.multipliers[..., k:] / distances).sum(1)
        wide = self._wide()
        self.factor: Factor | Factors = Factors([])
        self.row_factor: Factor | Factors = Factors([])
        if any(wide):
            self.column_weights = columns.spread(columns.only_inside(1 / self.curvature))
            self.row_factor = self._factor_of_rows(wide)
        if not all(wide):
            self.row_weights = torch.zeros_like(problem.values)
            self.row_weights[:, p.rows] = self.stiffness
            self.factor = self._factor_of_effects(wide)
            # One more unknown borders the system: the multiplier of the full set's row, or the free constant.
            self.border = columns.inside.double() if problem.pinned else p.pressing(self.row_weights)
            corner = torch.zeros_like(p.constant) if problem.pinned else self.stiffness.sum(-1)
            self.bordered = self.factor.solve(self.border)
            self.denominator = columns.total(self.border * self.bordered) - corner
        self.by_rows = any(wide)
        self.mixed = torch.tensor(wide, device=p.dual.device) if any(wide) != all(wide) else None

    def _wide(self) -> list[bool]:
        """Return for each table whether it is eliminated by rows.

        Where the rows are fewer than the effects in play: tables with little slack have most effects in play.
        """
        p = self.point
        rows = p.problem.values.shape[-1] if p.problem.pinned and p.sample is None else math.inf
        wide = [p.by_rows or number >= rows for number in p.in_play.tolist()]
        return [any(wide)] * len(wide) if p.together else wide

    def _factor_of_rows(self, wide: list[bool]) -> Factor | Factors:
        def system(tables: slice) -> Tensor:
            gram = all_rows_gram(self.column_weights[tables], self.point.n)
            if not self.point.exact:
                gram.diagonal(dim1=-2, dim2=-1)[:, :-1].add_(1 / self.stiffness[tables])
            return gram

        every = slice(None)
        if self.point.together:
            return Factor(system(every), to_lines=self.point.n <= WHOLE_MAX_PLAYERS)
        return Factors([(i, every, Factor(system(slice(i, i + 1)))) for i in range(len(wide)) if wide[i]])

    def _factor_of_effects(self, wide: list[bool]) -> Factor | Factors:
        def factor(gram: Tensor, curvature: Tensor) -> Factor:
            gram.diagonal(dim1=-2, dim2=-1).add_(curvature)
            return Factor(gram, to_lines=self.point.n <= WHOLE_MAX_PLAYERS)

        columns = self.point.columns
        if self.point.together:
            return factor(columns.gram(self.row_weights), self.curvature)
        apart, parts = columns.apart(), []
        for some in torch.split(
            torch.arange(len(wide), device=self.row_weights.device), max(1, _SUMS // 3**self.point.n)
        ):
            sums = reached_and_missed(self.row_weights[some])
            for place, i in enumerate(some.tolist()):
                if not wide[i]:
                    mine, own = apart[i]
                    gram = own.gram_of(sums[place : place + 1])
                    parts.append((i, mine, factor(gram, self.curvature[i, mine])))
        return Factors(parts)

    def keep(self, tables: Tensor) -> None:
        """Solve from here on for some tables, bool ``[B]``; other tables' directions mean nothing."""
        for factor in (self.row_factor, self.factor):
            if isinstance(factor, Factors):
                factor.keep(tables.tolist())

    def direction(self, products: Tensor) -> _Step:
        """The step that changes the complementarity products ``[B, 2, k + m]`` by so much, to first order.

        The products are 0 at the padding of the columns, and so is the step.
        """
        p, k = self.point, self.point.width
        pull = (products[..., :k] - self.gap_times_parts) / p.multipliers[..., :k]
        right = (pull[:, 0] - pull[:, 1]) / self.inverse_curvature
        push = products[..., k:] / p.primal[..., k:]
        solve = self._solve_by_rows if self.by_rows else self._solve_by_effects
        given = right, push[:, 1] - push[:, 0]
        x, rows, constant, end_dual = solve(*given)
        if self.mixed is not None:
            both = zip((x, rows, constant, end_dual), self._solve_by_effects(*given), strict=True)
            x, rows, constant, end_dual = (
                torch.where(self.mixed.view(-1, *[1] * (one.dim() - 1)), one, other) for one, other in both
            )
        towards = (x / self.inverse_curvature - right).unsqueeze(1)
        parts = torch.addcmul(pull, p.signs * towards, self.share)
        primal = torch.cat([parts, p.signs * rows.unsqueeze(1)], dim=-1)
        multipliers = (products - p.multipliers * primal) / p.primal
        return _Step(primal, multipliers, constant, end_dual)

    def _solve_by_effects(self, right: Tensor, push: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        p = self.point
        on_rows = torch.zeros_like(p.problem.values)
        on_rows[:, p.rows] = self.stiffness * self.row_gap + push
        x = self.factor.solve(right + p.pressing(on_rows))
        aim = p.missed[:, -1] if p.problem.pinned else on_rows.sum(-1) + p.dual.sum(-1)
        border = p.columns.total(self.border * x) - aim
        border = border / self.denominator
        x = x - border.unsqueeze(-1) * self.bordered
        constant = torch.zeros_like(border) if p.problem.pinned else border
        end_dual = -border.unsqueeze(-1) if p.problem.pinned else p.end_dual
        return x, self.row_gap - constant.unsqueeze(-1) - p.columns.synthesis(x)[:, p.rows], constant, end_dual

    def _solve_by_rows(self, right: Tensor, push: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        p = self.point
        column_weights = p.columns.take(self.column_weights)
        target = p.missed[:, 1:] - p.columns.synthesis(column_weights * right)[:, 1:]
        if not p.exact:
            target[:, :-1] += push / self.stiffness - self.offset
        dual = torch.zeros_like(p.problem.values)
        dual[:, 1:] = self.row_factor.solve(target)
        x = column_weights * (right + p.columns.take(p.adjoint(dual)))
        if p.exact:
            return x, self.row_gap, torch.zeros_like(p.constant), dual[:, p.ends]
        # A row that binds moves little, and its multipliers much: from the dual vector its move is exact.
        rows = self.row_gap - p.columns.synthesis(x)[:, p.rows]
        rows = torch.where(self.stiffness > _STIFF, (dual[:, p.rows] - push) / self.stiffness, rows)
        return x, rows, torch.zeros_like(p.constant), dual[:, p.ends]
