"""Outputs that the effects reproduce: all of them, and the strongest alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor

from captum_lkn._common.accessors import Accessor
from captum_lkn._common.arguments import checked
from captum_lkn._common.checks import check_numbers, is_whole
from captum_lkn._common.formats import percent
from captum_lkn._common.frames import import_pandas
from captum_lkn._common.messages import count_of, kind_of
from captum_lkn.decomposition import lattice
from captum_lkn.decomposition.effects import TAU
from captum_lkn.evaluation.bootstrap import CONFIDENCE, RESAMPLES, Resampling, bootstrap, shown_interval
from captum_lkn.evaluation.saved import Saved
from captum_lkn.evaluation.text import Tabular
from captum_lkn.interactions import Interactions, InteractionsBatch

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FidelityCurve", "fidelity", "strongest_alone"]

_TOP: Final = 60
_SHOWN: Final = (0, 1, 2, 5, 10, 20, 50, 100, 200)


@checked()
@dataclass(frozen=True, eq=False, repr=False)
class FidelityCurve(Tabular, Saved):
    """Agreement of the outputs with what the strongest effects alone add up to; made by :func:`fidelity`.

    Attributes:
        r_squared: float64 ``[B, k + 1]``: for each sample R^2 over its 2^n outputs of the 0 to k strongest effects
            with the constant v(empty). Where a sample has fewer effects, the last number goes on.
        largest_miss: float64 ``[B, k + 1]``: the largest absolute miss of an output, as a share of their range.
        matching_error: float64 ``[B]``: the same of all effects together.
        salient: int64 ``[B]``: the number of the salient effects.
        salient_r_squared: float64 ``[B]``: R^2 of these alone.
        resampling: The settings of the bootstrap.
    """

    r_squared: Tensor
    largest_miss: Tensor
    matching_error: Tensor
    salient: Tensor
    salient_r_squared: Tensor

    _text_columns = 0
    plot = Accessor("captum_lkn.plot.accessors", "FIDELITY")
    """Pictures as methods, such as ``found.plot.curve()``; see :mod:`captum_lkn.plot`."""

    def intervals(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the mean of R^2 over the samples and both ends of its interval, ``[k + 1]`` each."""
        return bootstrap(self.r_squared, None, self.resampling)

    def to_frame(self) -> pd.DataFrame:
        """Return a row for each number of effects.

        Returns:
            A DataFrame with the columns effects (0 to k), r_squared (the mean over the samples), low, high (the ends of
            its interval) and largest_miss (the mean).

        Raises:
            ImportError: If pandas is not installed.
        """
        mean, low, high = (one.tolist() for one in self.intervals())
        columns = {"r_squared": mean, "low": low, "high": high, "largest_miss": self.largest_miss.mean(0).tolist()}
        return import_pandas().DataFrame({"effects": range(len(mean)), **columns})

    def _check(self) -> None:
        check_numbers("r_squared", self.r_squared, (None, None))
        count, size = self.r_squared.shape
        check_numbers("largest_miss", self.largest_miss, (count, size))
        check_numbers("matching_error", self.matching_error, (count,))
        check_numbers("salient", self.salient, (count,), torch.int64)
        check_numbers("salient_r_squared", self.salient_r_squared, (count,))

    def _caption(self) -> list[str]:
        count = len(self.salient)
        alone = bootstrap(self.salient_r_squared, None, self.resampling)
        error = self.matching_error
        return [
            f"Fidelity over {count_of(count, 'sample')}; means, {self.resampling.stated(count)}",
            f"all effects: outputs missed by up to {percent(float(error.mean()))} of their range on average, "
            f"{percent(float(error.max()))} at most",
            f"{float(self.salient.double().mean()):.1f} salient effects alone: R^2 {shown_interval(alone)}",
        ]

    def _table(self) -> tuple[list[str], list[list[str]]]:
        numbers = torch.stack(self.intervals(), -1).tolist()
        misses = self.largest_miss.mean(0).tolist()
        shown = [k for k in _SHOWN if k < len(numbers)]
        if shown[-1] < len(numbers) - 1:
            shown.append(len(numbers) - 1)
        rows = [[str(k), shown_interval(numbers[k]), percent(misses[k])] for k in shown]
        return ["strongest effects", "R^2", "largest miss"], rows


def fidelity(
    found: Interactions | InteractionsBatch,
    top: int = _TOP,
    *,
    tau: float = TAU,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> FidelityCurve:
    """Measure how well effects reproduce the outputs for all 2^n masks: all of them, and the strongest alone.

    Args:
        found: The interactions of one or several samples.
        top: The largest number of effects.
        tau: The threshold of salience, as a share of the largest effect of each sample.
        confidence: The probability of the interval, by the bootstrap over samples.
        resamples: The number of its resamples.
        seed: Their seed.

    Returns:
        R^2 and the largest miss by the number of effects: print it, or take ``to_frame()``.

    Raises:
        TypeError: Something is not of its type.
        ValueError: An option is out of range.

    Example:
        >>> from captum_lkn import AndOrInteraction
        >>> method = AndOrInteraction(lambda x: 3 * x[:, 0] + x[:, 1] * x[:, 2], score="logit", noise=0)
        >>> fidelity(method.attribute(torch.ones(1, 3)))
        Fidelity over 1 sample; means, no intervals
          all effects: outputs missed by up to 0 % of their range on average, 0 % at
          most
          2.0 salient effects alone: R^2 1.00
          strongest effects    R^2  largest miss
          0                  -1.26         100 %
          1                   0.90          25 %
          2                   1.00           0 %
    """
    given: Any = found
    if not isinstance(given, Interactions | InteractionsBatch):
        raise TypeError(f"found must be Interactions or an InteractionsBatch; got {kind_of(found)}")
    samples: Sequence[Interactions] = [found] if isinstance(found, Interactions) else found
    if not is_whole(top) or top < 0:
        raise ValueError(f"top must be a whole number, at least 0; got {top!r}")
    resampling = Resampling(confidence, resamples, seed).check()
    longest = min(top, max(len(one.effects) for one in samples))
    curves = [strongest_alone(one, longest) for one in samples]
    padded = [torch.cat([one, one[:, -1:].expand(2, longest + 1 - one.shape[1])], 1) for one in curves]
    spans = [float(one.values.max() - one.values.min()) for one in samples]
    salient = [one.fidelity(tau) for one in samples]
    explained, misses = torch.stack(padded, 1)
    return FidelityCurve(
        explained,
        misses,
        matching_error=_float64(
            [one.residual / span if span else 0.0 for one, span in zip(samples, spans, strict=True)]
        ),
        salient=torch.tensor([one.effects for one in salient], device="cpu"),
        salient_r_squared=_float64([one.r_squared for one in salient]),
        resampling=resampling,
    )


def strongest_alone(found: Interactions, top: int) -> Tensor:
    """Return R^2 and the largest miss relative to the range, of the 0 to k strongest effects of one sample.

    Args:
        found: The interactions.
        top: The largest k; there are fewer where there are fewer effects.

    Returns:
        float64 ``[2, k + 1]``.
    """
    values, subsets = found.values, torch.arange(len(found.values), device="cpu")
    spread = float((values - values.mean()).square().sum())
    span = float(values.max() - values.min())
    effects, left = found.effects, values - found.effects.constant
    bits = lattice.subset_index(effects.members)
    explained, errors = [_r2(left, spread)], [_relative(left, span)]
    for place in effects.strongest()[:top].tolist():
        own = int(bits[place])
        inside = (subsets & own) != 0 if bool(effects.is_or[place]) else (subsets & own) == own
        left = left - float(effects.values[place]) * inside
        explained.append(_r2(left, spread))
        errors.append(_relative(left, span))
    return _float64([explained, errors])


def _r2(left: Tensor, spread: float) -> float:
    return 1 - float(left.square().sum()) / spread if spread else 1.0


def _relative(left: Tensor, span: float) -> float:
    return float(left.abs().max()) / span if span else 0.0


def _float64(numbers: list[float] | list[list[float]]) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64, device="cpu")
