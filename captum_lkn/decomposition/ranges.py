"""Ranges of effects: the values that an effect takes over all explanations of a table that cost about the same.

With x_j fixed to t, let g(t) be the least cost of an explanation. g is convex, so the values of x_j at which the cost
stays within a budget are an interval. A feasible dual vector of the problem with x_j fixed to t is one for every other
t, too, and what it certifies there is a line in t: a tangent of g if the vector is optimal. Where such a line meets the
budget no explanation lies further out (Kelley's cutting planes in one dimension); a chord between two explanations
bounds the end from inside. Newton's method goes from tangent to tangent: two or three interior points for an end, each
started from the optimum of the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import torch
from torch import Tensor

from captum_lkn.decomposition import lattice
from captum_lkn.decomposition.checks import largest_deviation
from captum_lkn.decomposition.decompose import build_problem
from captum_lkn.decomposition.effects import Effects
from captum_lkn.decomposition.options import DecompositionOptions
from captum_lkn.decomposition.solvers import dispatch
from captum_lkn.decomposition.solvers.problem import adjoint, balanced

__all__ = ["Interval", "cost_of", "effect_intervals"]

_FIXED: Final = 30.0
"""The factor of the weight of an effect that is fixed: above every multiplier, it keeps the effect there."""

_TOLERANCE: Final = 1e-6
_ROUNDS: Final = 8
_FINE: Final = 0.01  # of the largest effect: an end is known well enough


class Interval(NamedTuple):
    """Certified bounds of an effect.

    Attributes:
        low: The effect is at least this in every explanation within the budget.
        high: The effect is at most this.
    """

    low: float
    high: float


def cost_of(effects: Effects, order_weight: float) -> float:
    r"""Return ``sum of w_S |I(S)|`` over all effects, with ``w_S = 1 + order_weight (|S| - 1)``.

    Args:
        effects: The effects.
        order_weight: The additional weight of a set for each player beyond the first.
    """
    return float((_weights(effects, order_weight) * effects.values.abs()).sum())


def effect_intervals(
    effects: Effects, values: Tensor, chosen: Sequence[int], *, slack: float, options: DecompositionOptions
) -> list[Interval]:
    """Return the interval of each chosen effect, over all explanations that cost at most ``1 + slack`` times these.

    Args:
        effects: An explanation of the table, within the kappa of the options.
        values: The table, float64 ``[2^n]`` on the CPU.
        chosen: The places of the effects in ``effects``.
        slack: The share of the cost that is added to the budget.
        options: The options of the explanations. Neither ``or_weight`` nor ``ridge`` counts as cost, since they decide
            between explanations of the same cost.

    Returns:
        One interval for each.
    """
    if not chosen:
        return []
    neutral = options.replace(or_weight=1.0, ridge=0.0, tolerance=_TOLERANCE)
    return _Search(effects, values, list(chosen), slack, neutral).run()


@dataclass
class _Side:
    """One end of one interval, in distances from the effect that was found, growing outwards.

    ``known`` are explanations: (distance, cost). ``inner`` is within the interval, nothing beyond ``outer`` is.
    """

    row: int
    sign: float
    known: list[tuple[float, float]]
    budget: float
    outer: float
    inner: float = 0.0

    def add(self, at: float, cost: float) -> None:
        """Use an explanation of this cost: on the chord to another one there are explanations, too."""
        self.known.append((at, cost))
        inside = max(one for one in self.known if one[1] <= self.budget)
        beyond = [one for one in self.known if one[1] > self.budget and one[0] > inside[0]]
        self.inner = max(self.inner, inside[0])
        for a, high in beyond:
            self.inner = max(self.inner, inside[0] + (a - inside[0]) * (self.budget - inside[1]) / (high - inside[1]))
        self.outer = max(self.outer, self.inner)


class _Search:
    """The search for both ends of several intervals, all points of a round in one batch.

    Everything is in the problem's unit.
    """

    def __init__(
        self, effects: Effects, values: Tensor, chosen: list[int], slack: float, options: DecompositionOptions
    ) -> None:
        tables = values.unsqueeze(0)
        kappa = largest_deviation(tables, tables.shape[:1], options.noise, options.kappa)
        self.problem, unit = build_problem(tables, kappa, options)
        self.unit, self.n = float(unit), effects.n
        size = 1 << self.n
        self.found = [one / self.unit for one in effects.values[chosen].tolist()]
        subsets = lattice.subset_index(effects.members[chosen])
        self.places = (effects.is_or[chosen].long() * size + subsets).tolist()
        self.weights = self.problem.weights.flatten()[self.places].tolist()
        self.fine = _FINE * effects.largest / self.unit
        cost = cost_of(effects, options.order_weight) / self.unit
        self.budget = (1 + slack) * cost
        one = torch.zeros(len(chosen), 2 * size, dtype=torch.float64, device="cpu")
        one[torch.arange(len(chosen), device="cpu"), self.places] = 1.0
        self.tables = lattice.reconstruct(*one.view(-1, 2, size).unbind(1))
        self.sides = [
            # |x_j| alone costs its weight: nothing lies further out.
            _Side(row, sign, [(0.0, cost)], self.budget, self.budget / weight + sign * -found)
            for row, (found, weight) in enumerate(zip(self.found, self.weights, strict=True))
            for sign in (-1.0, 1.0)
        ]

    def run(self) -> list[Interval]:
        # The least cost of all, whose dual vector bounds g for every effect.
        best = dispatch.solve_nearly(self.problem, _TOLERANCE, None)
        self.start = best
        both = best.effects.flatten()
        reached = float(self.problem.penalty(best.effects)[0])
        for side in self.sides:
            self._cut(side, best.dual[0])
            there = side.sign * (float(both[self.places[side.row]]) - self.found[side.row])
            if there > 0:
                side.add(there, reached)
        for round_ in range(_ROUNDS):
            open_ = [side for side in self.sides if side.outer - side.inner > self.fine]
            if not open_:
                break
            self._evaluate([(side, self._next(side, round_)) for side in open_])
        return [self._interval(row) for row in range(len(self.places))]

    def _next(self, side: _Side, round_: int) -> float:
        """Return the next distance: near the effect, then where the tangent meets the budget, or between the bounds."""
        if round_ == 0:
            return min(side.outer, max(2 * side.inner, 0.01 * self.budget / float(self.weights[side.row])))
        return side.outer if round_ % 3 else (side.inner + side.outer) / 2

    def _interval(self, row: int) -> Interval:
        low, high = self.sides[2 * row], self.sides[2 * row + 1]
        return Interval(self.unit * (self.found[row] - low.outer), self.unit * (self.found[row] + high.outer))

    def _evaluate(self, asked: list[tuple[_Side, float]]) -> None:
        """Solve with effects fixed at distances of sides, and use what the solutions say."""
        rows = torch.tensor([side.row for side, _ in asked], device="cpu")
        fixed = [self.found[side.row] + side.sign * at for side, at in asked]
        amount = torch.tensor(fixed, dtype=torch.float64, device="cpu").unsqueeze(-1)
        values = self.problem.values - amount * self.tables[rows]
        weights = self.problem.weights.flatten().repeat(len(asked), 1)
        for i, (side, _) in enumerate(asked):
            weights[i, self.places[side.row]] *= _FIXED
        rest = replace(
            self.problem,
            values=values,
            slack=self.problem.slack.expand(len(asked), -1),
            weights=weights.view(len(asked), 2, -1),
        )
        solved = dispatch.solve_nearly(rest, _TOLERANCE, self.start)
        own = self.problem.penalty(solved.effects).tolist()  # with the fixed effect's own weight
        flat = solved.effects.flatten(1)
        for i, (side, _) in enumerate(asked):
            weight, left = self.weights[side.row], float(flat[i, self.places[side.row]])
            cost = own[i] + weight * (abs(fixed[i] + left) - abs(left))
            at = side.sign * (fixed[i] + left - self.found[side.row])
            if at > 0:
                side.add(at, cost)
            self._cut(side, solved.dual[i])

    def _cut(self, side: _Side, dual: Tensor) -> None:
        """Bound the end by what a dual vector certifies: g(t) is at least level - slope t + weight |t|."""
        place, weight = self.places[side.row], self.weights[side.row]
        dual = balanced(dual)
        sums = adjoint(dual).flatten()
        pressed = sums.abs() / self.problem.weights.flatten()
        pressed[place] = 0.0  # a fixed effect is not a variable
        fit = 1 / float(pressed.amax().clamp_min(1.0))
        slope = side.sign * fit * float(sums[place])
        level = fit * float((self.problem.values[0] * dual).sum() - (self.problem.slack[0] * dual.abs()).sum())
        end = _end(level, slope, weight, self.budget)
        side.outer = max(side.inner, min(side.outer, end - side.sign * self.found[side.row]))


def _end(level: float, slope: float, weight: float, budget: float) -> float:
    """The largest t with ``level - slope t + weight |t|`` within the budget."""
    if level <= budget:
        return (budget - level) / (weight - slope) if weight > slope else float("inf")
    if slope > weight:
        return float("inf")
    return (level - budget) / (slope + weight) if slope + weight < 0 else float("-inf")


def _weights(effects: Effects, order_weight: float) -> Tensor:
    weights: Tensor = 1 + order_weight * (effects.orders.double() - 1)
    return weights
