"""Curves over layers and orders, with the bootstrap over samples.

The bootstrap is a matrix of counts: each row says how often each sample was drawn, the first row takes each once. A
statistic is a function of such a matrix, so that numbers, intervals and tests come from one expression.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from captum_lkn import KnowledgeChange
from captum_lkn.knowledge import Comparison

__all__ = ["Curves", "Estimate", "Orders", "curves_of", "estimate", "mean_over", "named", "resampled", "share_of"]

_TAIL = 0.025
_LEAST = 3
"""Samples that must have a value: of one or two nothing can be said about others."""


class Orders(NamedTuple):
    """Groups of orders: low ones are up to three tenths of the players, rounded; high ones up to the fifth last.

    The paper's figures leave out the four highest orders.
    """

    players: int

    @property
    def low(self) -> slice:
        """Orders 1 to 2 of 8 players, 1 to 3 of 10."""
        return slice(0, self._cut)

    @property
    def high(self) -> slice:
        """Orders 3 to 4 of 8 players, 4 to 6 of 10."""
        return slice(self._cut, max(self.players - 4, self._cut + 1))

    @property
    def shown(self) -> slice:
        """Both."""
        return slice(0, self.high.stop)

    @property
    def _cut(self) -> int:
        return max(1, round(0.3 * self.players))


class Estimate(NamedTuple):
    """A number with the ends of its 95 % interval and the share of resamples at or below 0, one-sided.

    All are NaN where too few samples have a value.
    """

    value: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Curves:
    """Strengths by state, sample and order, the reference last.

    Attributes:
        layers: The labels of the compared states.
        all: ``[L + 1, B, m]``, the strength of each state, in its own units.
        overlap: ``[L, B, m]``.
        forgotten: ``[L, B, m]``.
        ratio: ``"sum"`` or ``"mean"``, how ratios over samples are taken.
    """

    layers: tuple[str, ...]
    all: Tensor
    overlap: Tensor
    forgotten: Tensor
    ratio: str

    def strength(self, counts: Tensor, orders: slice) -> Tensor:
        """Return the mean strength of each state in these orders, ``[R, L + 1]``."""
        return mean_over(self.all[..., orders].sum(-1), counts)

    def share(self, counts: Tensor, orders: slice, of: slice) -> Tensor:
        """Return the share of some orders in the strength of others, ``[R, L + 1]``."""
        return share_of(self.all[..., orders].sum(-1), self.all[..., of].sum(-1), counts, self.ratio)

    def completeness(self, counts: Tensor, orders: slice) -> Tensor:
        """Return the completeness of each layer, ``[R, L]``."""
        reference = self.all[-1:, :, orders].sum(-1).expand(len(self.layers), -1)
        return share_of(self.overlap[..., orders].sum(-1), reference, counts, self.ratio)

    def redundancy(self, counts: Tensor, orders: slice) -> Tensor:
        """Return the redundancy of each layer, ``[R, L]``."""
        return share_of(self.forgotten[..., orders].sum(-1), self.all[:-1, :, orders].sum(-1), counts, self.ratio)


def curves_of(change: KnowledgeChange | Mapping[str, Comparison], kind: int | None = None) -> Curves:
    """Return the strengths of a comparison, of one kind or of both together."""
    layers = tuple(change)
    samples = [change[layer].samples for layer in layers]

    def stack(parts: list[Tensor]) -> Tensor:
        together = torch.stack(parts)
        return together.sum(2) if kind is None else together[:, :, kind]

    return Curves(
        layers,
        stack([*(one.all for one in samples), samples[-1].reference_all]),
        stack([one.overlap for one in samples]),
        stack([one.forgotten for one in samples]),
        change[layers[0]].ratio,
    )


def resampled(samples: int, resamples: int, seed: int = 0) -> Tensor:
    """Return how often each sample is drawn, ``[1 + R, B]``; in the first row each once."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(samples, (resamples, samples), generator=generator)
    counts = torch.zeros(resamples, samples, dtype=torch.float64).scatter_add_(
        1, drawn, torch.ones(drawn.shape, dtype=torch.float64)
    )
    return torch.cat([torch.ones(1, samples, dtype=torch.float64), counts])


def mean_over(numbers: Tensor, counts: Tensor) -> Tensor:
    """Return weighted means of ``[K, B]`` or ``[B]``, without NaN: ``[R, K]`` or ``[R]``."""
    columns = numbers.double().movedim(-1, 0)
    known = ~columns.isnan()
    means = (counts @ columns.nan_to_num(0.0)) / (counts @ known.double())
    return torch.where(known.sum(0) < min(_LEAST, len(columns)), math.nan, means)


def share_of(part: Tensor, whole: Tensor, counts: Tensor, ratio: str = "sum") -> Tensor:
    """Return ratios of ``[K, B]``: of sums over the samples, or means of the samples' ratios; ``[R, K]``."""
    if ratio == "mean":
        return mean_over(part / whole, counts)
    shares = (counts @ part.mT) / (counts @ whole.mT)
    return torch.where((whole != 0).sum(1) < min(_LEAST, whole.shape[1]), math.nan, shares)


def estimate(found: Tensor) -> Estimate:
    """Return the estimate of a statistic from its values ``[1 + R]``, the first on all samples."""
    value, rest = float(found[0]), found[1:][~found[1:].isnan()]
    if value != value or 2 * len(rest) < len(found) - 1 or len(rest) < 2:
        return Estimate(*[float("nan")] * 4)
    low, high = torch.quantile(rest, torch.tensor([_TAIL, 1 - _TAIL], dtype=rest.dtype)).tolist()
    return Estimate(value, low, high, (1 + int((rest <= 0).sum())) / (1 + len(rest)))


def named(estimates: Mapping[str, Estimate]) -> dict[str, Any]:
    """Return estimates as JSON holds them."""
    return {name: one._asdict() for name, one in estimates.items()}
