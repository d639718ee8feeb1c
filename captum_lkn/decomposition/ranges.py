"""Ranges of effects: the values that an effect takes over all explanations of a table that cost about the same.

With x_j fixed to t, let g(t) be the least cost of an explanation. g is convex, so the values of x_j at which the cost
stays within a budget are an interval, and two kinds of lines enclose its ends. A line through two points of g lies
above g between them: where it meets the budget there is an explanation within the budget. Beyond them it lies below g:
where it meets the budget there is none further out. Each point is one decomposition of the table less t times the
effect's own table, whose gap certifies both sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import torch
from torch import Tensor

from captum_lkn.decomposition import lattice
from captum_lkn.decomposition.decompose import decompose
from captum_lkn.decomposition.effects import Effects
from captum_lkn.decomposition.options import DecompositionOptions

__all__ = ["Interval", "cost_of", "effect_intervals"]

_FIXED: Final = 30.0
"""The factor of the weight of an effect that is fixed: above every multiplier, it keeps the effect there."""

_TOLERANCE: Final = 1e-7
_ROUNDS: Final = 8
_APART: Final = 1e-7
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
    neutral = options.replace(or_weight=1.0, ridge=0.0, tolerance=_TOLERANCE)
    search = _Search(effects, values, list(chosen), slack, neutral)
    return search.run()


@dataclass
class _Side:
    """One end of one interval, in units of its direction: distances from the effect that was found, growing outwards.

    ``points`` are (distance, lower bound of g, upper bound of g). ``inner`` is within the interval, nothing beyond
    ``outer`` is.
    """

    row: int
    sign: float
    points: list[tuple[float, float, float]]
    budget: float
    outer: float
    inner: float = 0.0

    @property
    def place(self) -> int:
        """The place of this side among all: the low and the high end of each interval follow each other."""
        return 2 * self.row + (self.sign > 0)

    def refine(self) -> None:
        """Move both bounds of the end as far as the points allow."""
        self.points.sort()
        inside = [p for p in self.points if p[2] <= self.budget]
        outside = [p for p in self.points if p[1] > self.budget]
        self.inner = max(self.inner, inside[-1][0])
        if outside:
            self.outer = min(self.outer, outside[0][0])
            # The chord from the last explanation inside to the first outside: on it there are explanations, too.
            (a, _, low), (b, _, high) = inside[-1], outside[0]
            self.inner = max(self.inner, a + (b - a) * (self.budget - low) / (high - low))
        # Lines through two points, from an upper bound to a lower one, lie below g beyond the second.
        for first in range(len(self.points)):
            for second in range(first + 1, len(self.points)):
                (a, _, low), (b, high, _) = self.points[first], self.points[second]
                if high > low and b - a > _APART * self.budget:  # nearer ones differ by rounding
                    self.outer = min(self.outer, max(b, a + (b - a) * (self.budget - low) / (high - low)))
        self.outer = max(self.outer, self.inner)


class _Search:
    """The search for both ends of several intervals, all points of a round in one batch."""

    def __init__(
        self, effects: Effects, values: Tensor, chosen: list[int], slack: float, options: DecompositionOptions
    ) -> None:
        self.effects, self.values, self.options = effects, values, options
        self.cost = cost_of(effects, options.order_weight)
        self.budget = (1 + slack) * self.cost
        self.places = chosen
        self.found = effects.values[chosen].tolist()
        self.weights = _weights(effects, options.order_weight)[chosen].tolist()
        self.fine = _FINE * effects.largest
        self.index = (effects.is_or[chosen].long(), lattice.subset_index(effects.members[chosen]))
        one = torch.zeros(len(chosen), 2, len(values), dtype=torch.float64, device="cpu")
        one[torch.arange(len(chosen), device="cpu"), self.index[0], self.index[1]] = 1.0
        self.tables = lattice.reconstruct(one[:, 0], one[:, 1])
        self.sides = [
            # |x_j| alone costs its weight: nothing lies further out.
            _Side(row, sign, [(0.0, 0.0, self.cost)], self.budget, self.budget / weight + sign * -found)
            for row, (found, weight) in enumerate(zip(self.found, self.weights, strict=True))
            for sign in (-1.0, 1.0)
        ]

    def run(self) -> list[Interval]:
        if not self.places:
            return []
        least = [self.budget / weight * 2e-3 for weight in self.weights]
        first = [(side, scale * least[side.row]) for side in self.sides for scale in (1.0, 16.0)]
        first += [(side, abs(self.found[side.row])) for side in self.sides if side.sign * self.found[side.row] < 0]
        self._evaluate(first)
        for _ in range(_ROUNDS):
            open_ = [side for side in self.sides if side.outer - side.inner > self.fine]
            if not open_:
                break
            self._evaluate([(side, 0.7 * side.inner + 0.3 * side.outer) for side in open_])
        return [self._interval(row) for row in range(len(self.places))]

    def _interval(self, row: int) -> Interval:
        low, high = self.sides[2 * row], self.sides[2 * row + 1]
        return Interval(self.found[row] - low.outer, self.found[row] + high.outer)

    def _evaluate(self, asked: list[tuple[_Side, float]]) -> None:
        """Compute g at distances of sides, one decomposition each."""
        rows = torch.tensor([side.row for side, _ in asked], device="cpu")
        fixed = torch.tensor(
            [self.found[side.row] + side.sign * at for side, at in asked], dtype=torch.float64, device="cpu"
        )
        cost = torch.ones(len(asked), 2, len(self.values), dtype=torch.float64, device="cpu")
        every = torch.arange(len(asked), device="cpu")
        cost[(every, self.index[0][rows], self.index[1][rows])] = _FIXED
        rest = decompose(
            self.values - fixed.unsqueeze(-1) * self.tables[rows],
            cost=cost,
            kappa=self.options.kappa,
            options=self.options,
        )
        both = torch.stack([rest.and_effects, rest.or_effects], dim=1)
        moved = both[(every, self.index[0][rows], self.index[1][rows])]
        order = lattice.orders(self.effects.n, device="cpu").double()
        prices = (1 + self.options.order_weight * (order - 1)) * (order > 0)
        own = torch.tensor(self.weights, dtype=torch.float64, device="cpu")[rows]
        others = (prices * both.abs()).sum((1, 2)) - own * moved.abs()
        bound = (others + _FIXED * own * moved.abs()) / (1 + rest.gap) + own * fixed.abs()
        upper = others + own * (fixed + moved).abs()
        for place, (side, at) in enumerate(asked):
            there = side.sign * (float(fixed[place] + moved[place]) - self.found[side.row])
            if float(moved[place]) == 0:
                side.points.append((at, float(bound[place]), float(upper[place])))
            else:  # the explanation lies elsewhere, the bound holds here
                side.points.append((at, float(bound[place]), float("inf")))
                if there > 0:
                    side.points.append((there, 0.0, float(upper[place])))
        for place in {side.place for side, _ in asked}:
            self.sides[place].refine()


def _weights(effects: Effects, order_weight: float) -> Tensor:
    weights: Tensor = 1 + order_weight * (effects.orders.double() - 1)
    return weights
