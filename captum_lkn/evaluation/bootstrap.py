"""Means over samples, with intervals by the bootstrap."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import torch
from torch import Tensor

from captum_lkn._common.checks import is_number, is_whole

__all__ = ["CONFIDENCE", "RESAMPLES", "Resampling", "bootstrap", "shown_interval"]

CONFIDENCE: Final = 0.95
RESAMPLES: Final = 2000

_MOST: Final = 1_000_000  # more than anybody needs; torch has quantiles of up to 16 million numbers


class Resampling(NamedTuple):
    """Settings of the bootstrap.

    Attributes:
        confidence: The probability of the interval.
        resamples: The number of resamples.
        seed: Their seed; torch's own random state is not touched.
    """

    confidence: float = CONFIDENCE
    resamples: int = RESAMPLES
    seed: int = 0

    def check(self) -> Resampling:
        """Return the settings, or raise an error where one is out of range.

        Raises:
            TypeError: A setting is not a number.
            ValueError: A setting is out of range.
        """
        if not is_number(self.confidence) or not is_whole(self.resamples) or not is_whole(self.seed):
            raise TypeError(
                "confidence must be a number, resamples and seed whole numbers; got "
                f"{self.confidence!r}, {self.resamples!r} and {self.seed!r}"
            )
        if not 0 < self.confidence < 1 or not 1 <= self.resamples <= _MOST or not 0 <= self.seed < 1 << 63:
            raise ValueError(
                f"confidence must be between 0 and 1, resamples from 1 to {_MOST:,}, seed from 0 to 2^63 - 1; got "
                f"{self.confidence}, {self.resamples} and {self.seed}"
            )
        return self

    def stated(self, samples: int) -> str:
        """Return the words for the intervals over so many samples; a single one has none."""
        return f"{100 * self.confidence:g} % intervals" if samples > 1 else "no intervals"


def bootstrap(parts: Tensor, wholes: Tensor | None, settings: Resampling) -> tuple[Tensor, Tensor, Tensor]:
    """Return means over samples, or ratios of sums, with percentile intervals.

    Args:
        parts: float64 ``[B, ...]``; entries that are NaN are left out.
        wholes: None for means; or float64 of the same shape, for the ratio of the sums of both.
        settings: The settings.

    Returns:
        The values and both ends of the intervals, ``[...]`` each. A value is NaN where no sample has one, an end where
        fewer than two have: of a single sample nothing can be said about others.

    Example:
        >>> mean, low, high = bootstrap(torch.tensor([1.0, 2.0, math.nan, 3.0]).double(), None, Resampling())
        >>> float(mean), float(low), float(high)
        (2.0, 1.0, 3.0)
    """
    flat = parts.reshape(len(parts), -1)
    known = ~flat.isnan()
    below = known.to(flat.dtype) if wholes is None else torch.where(known, wholes.reshape(flat.shape), 0.0)
    above = torch.where(known, flat, 0.0)
    generator = torch.Generator("cpu").manual_seed(settings.seed)
    drawn = torch.randint(len(flat), (settings.resamples, len(flat)), generator=generator, device="cpu")
    counts = flat.new_zeros(settings.resamples, len(flat)).scatter_add_(1, drawn, flat.new_ones(drawn.shape))
    means = (counts @ above) / (counts @ below)
    tail = (1 - settings.confidence) / 2
    low, high = torch.nanquantile(means, means.new_tensor([tail, 1 - tail]), dim=0)
    value = above.sum(0) / below.sum(0)
    single = (known & (below != 0)).sum(0) < 2
    low, high = (torch.where(single, math.nan, end) for end in (low, high))
    return value.reshape(parts.shape[1:]), low.reshape(parts.shape[1:]), high.reshape(parts.shape[1:])


def shown_interval(numbers: Sequence[float] | Sequence[Tensor], form: str = ".2f") -> str:
    """Return a number with its interval, from these three numbers.

    Example:
        >>> shown_interval([0.5, 0.25, 0.75]), shown_interval([0.5, math.nan, math.nan]), shown_interval([math.nan] * 3)
        ('0.50 [0.25, 0.75]', '0.50', '-')
    """
    value, low, high = map(float, numbers)
    if math.isnan(value):
        return "-"
    return f"{value:{form}}" if math.isnan(low) else f"{value:{form}} [{low:{form}}, {high:{form}}]"
