"""Forward selection of terms out of a pool that grows with them.

The term is added that takes most of the residual: the largest correlation with it of the part of its column that is
orthogonal to the terms before (order-recursive matching pursuit), divided by the weight of the term.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from captum_lkn.decomposition.options import DecompositionOptions
from captum_lkn.sampling.candidates import LEAST_COUNT, extensions, relatives, scan
from captum_lkn.sampling.terms import Masks, Term, activity, price

__all__ = ["Pool"]

_MOST_NUMBERS: Final = 1 << 26  # of the pool's columns, in float32: 256 MB
_DEPENDENT: Final = 1e-4  # a column with less than this share of its square outside the others is left alone
_EVERY: Final = 8  # steps between two scans
_NEIGHBOURS: Final = 40


class Pool:
    """Candidates with their columns, and the terms that were selected.

    Args:
        masks: Float32 ``[m, n]`` and the complements.
        values: Float ``[m]``.
        options: The weights and kinds of terms.

    Attributes:
        terms: The selected terms, in their order.
        residual: Float ``[m]``: the values without what the selected terms and a constant explain.
    """

    def __init__(self, masks: Masks, values: Tensor, options: DecompositionOptions) -> None:
        self.masks, self.options = masks, options
        m, self.n = masks.present.shape
        self.terms: list[Term] = []
        self.residual = (values - values.mean()).to(masks.present)
        self._directions = masks.present.new_full((1, m), m**-0.5)
        self._used = 1
        capacity = max(2 * self.n + 1000, min(_MOST_NUMBERS // m, 6000))
        self._columns = masks.present.new_empty(capacity, m)
        self._squares, self._own, self._sums, self._prices = (masks.present.new_zeros(capacity) for _ in range(4))
        self._candidates: list[Term] = []
        self._known: set[Term] = set()
        self._add([((i,), False) for i in range(self.n)])

    @property
    def worst(self) -> float:
        """The largest absolute residual."""
        return float(self.residual.abs().max())

    @property
    def _basis(self) -> Tensor:
        return self._directions[: self._used]

    def start(self, terms: Sequence[Term]) -> None:
        """Select given terms, without choosing."""
        self._add(terms)
        places = {term: place for place, term in enumerate(self._candidates)}
        for term in terms:
            self._select(places[term])

    def grow(self) -> None:
        """Add candidates that correlate with the residual: by a scan, and around the selected terms."""
        self._trim()
        self._add(scan(self.masks, self.residual, self.options))
        self._add(extensions(self.masks, self.residual, self.terms, self.options, 2 * _NEIGHBOURS))
        self._add(relatives(self.terms, self.options))

    def step(self, least: float) -> bool:
        """Select one more term.

        Args:
            least: The square of its t-value must be above this.

        Returns:
            False if there is none.
        """
        if len(self.terms) % _EVERY == 0:
            self.grow()
        used = slice(0, len(self._candidates))
        free = (self._own[used] > _DEPENDENT * self._squares[used]) & (self._own[used] > LEAST_COUNT / 4)
        gains = torch.where(free, self._sums[used].square() / self._own[used].clamp(min=1e-6), 0.0)
        place = int((gains / self._prices[used].square()).argmax())
        rest = float(self.residual.square().sum()) - float(gains[place])
        freedom = len(self.residual) - len(self._basis) - 1
        if freedom < 1 or float(gains[place]) * freedom <= least * max(rest, 1e-12):
            return False
        self._select(place)
        self._add(relatives(self.terms[-1:], self.options))
        self._add(extensions(self.masks, self.residual, self.terms[-1:], self.options, _NEIGHBOURS))
        return True

    def _select(self, place: int) -> None:
        direction = self._columns[place].clone()
        basis = self._basis
        for _ in range(2):  # twice, since once leaves rounding
            direction -= (basis @ direction) @ basis
        length = direction.norm()
        if float(length.square()) <= _DEPENDENT * float(self._squares[place]):
            return
        direction /= length
        if self._used == len(self._directions):
            self._directions = torch.cat([self._directions, torch.empty_like(self._directions)])
        self._directions[self._used] = direction
        self._used += 1
        self.residual = self.residual - direction * (direction @ self.residual)
        used = slice(0, len(self._candidates))
        # Both products in one pass: reading the columns takes most of the time.
        along, sums = (self._columns[used] @ torch.stack([direction, self.residual], 1)).unbind(1)
        self._own[used] -= along.square()
        self._sums[used] = sums
        self._own[place] = 0.0
        self.terms.append(self._candidates[place])

    def _add(self, terms: Sequence[Term]) -> None:
        new = [term for term in dict.fromkeys(terms) if term not in self._known]
        start = len(self._candidates)
        new = new[: len(self._columns) - start]
        if not new:
            return
        self._known.update(new)
        self._candidates += new
        part = slice(start, start + len(new))
        columns = self._columns[part]
        columns.copy_(activity(self.masks, new))
        columns -= columns.mean(1, keepdim=True)
        self._squares[part] = columns.square().sum(1)
        self._own[part] = self._squares[part] - (columns @ self._basis.T).square().sum(1)
        self._sums[part] = columns @ self.residual
        prices = [price(len(players), is_or, self.options) for players, is_or in new]
        self._prices[part] = torch.tensor(prices, device="cpu")

    def _trim(self) -> None:
        """Forget the worse candidates where the pool is almost full."""
        count, capacity = len(self._candidates), len(self._columns)
        if count <= capacity // 2:
            return
        gains = self._sums[:count].square() / self._own[:count].clamp(min=1.0) / self._prices[:count].square()
        kept = gains.argsort(descending=True)[: capacity // 4].sort().values
        for numbers in (self._columns, self._squares, self._own, self._sums, self._prices):
            numbers[: len(kept)] = numbers[kept]
        self._candidates = [self._candidates[place] for place in kept.tolist()]
        self._known = set(self._candidates) | set(self.terms)
