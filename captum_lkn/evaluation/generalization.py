"""Interactions that two models, or two layers, have in common."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from captum_lkn._common.accessors import Accessor
from captum_lkn._common.arguments import checked
from captum_lkn._common.checks import check_flag, check_numbers, is_whole
from captum_lkn.decomposition.effects import TAU, Effects
from captum_lkn.evaluation.bootstrap import CONFIDENCE, RESAMPLES, Resampling, bootstrap, shown_interval
from captum_lkn.evaluation.by_order import ByOrder, chosen, highest_order, sums_by_order, unit_of
from captum_lkn.evaluation.saved import check_count
from captum_lkn.interactions import InteractionsBatch
from captum_lkn.knowledge.checks import check_interactions
from captum_lkn.knowledge.comparison import Scope, check_salience, shared, thresholds
from captum_lkn.knowledge.noise_ceiling import measure_noise_ceiling

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Generalization", "generalization"]


_MOST_DRAWS = 10**6
_NO_UNIT: Final = (
    "its effects have no unit in which they can be compared: the weighted index is NaN. Take weighted=False, or "
    "samples where masking changes the score"
)


@checked()
@dataclass(frozen=True, eq=False, repr=False)
class Generalization(ByOrder):
    """The share of interactions that two models, or two layers, have in common; made by :func:`generalization`.

    Attributes:
        tau: The threshold of salience.
        scope: Over what the largest effect is taken.
        k: The number of the strongest effects that were compared instead; None: the salient ones were.
        weighted: Whether effects count by their strength and sign.
        ceiling: The share that each has in common with itself under noise, the mean of both, as `samples`; None where
            no draws were taken.
        draws: The number of draws.
    """

    tau: float = TAU
    scope: Scope = "dataset"
    k: int | None = None
    weighted: bool = False
    ceiling: Tensor | None = None
    draws: int = 0

    plot = Accessor("captum_lkn.plot.accessors", "BY_ORDER")
    """Pictures as methods, such as ``found.plot.by_order()``; see :mod:`captum_lkn.plot`."""

    def ceiling_by_order(self) -> tuple[Tensor, Tensor, Tensor] | None:
        """Return the mean of the ceiling over the samples, and both ends of its interval; None where there is none.

        Returns:
            ``[3, m + 1]`` each, with the rows and columns of ``values``.
        """
        return None if self.ceiling is None else bootstrap(self.ceiling, None, self.resampling)

    def to_frame(self) -> pd.DataFrame:
        """Return the rows as a data frame.

        Returns:
            A DataFrame with the columns of :class:`captum_lkn.evaluation.OrderRow`, and ``ceiling``, its mean, where
            draws were taken.

        Raises:
            ImportError: If pandas is not installed.
        """
        frame, found = super().to_frame(), self.ceiling_by_order()
        return frame if found is None else frame.assign(ceiling=found[0].flatten().tolist())

    def _table(self) -> tuple[list[str], list[list[str]]]:
        header, rows = super()._table()
        found = self.ceiling_by_order()
        if found is None:
            return header, rows
        both = found[0][2].tolist()
        shown = [shown_interval([both[-1 if row[0] == "all" else int(row[0]) - 1], math.nan, math.nan]) for row in rows]
        return [*header, "ceiling"], [[*row, one] for row, one in zip(rows, shown, strict=True)]

    def _check(self) -> None:
        super()._check()
        check_salience(self.tau, self.scope)
        check_flag("weighted", self.weighted)
        check_count("draws", self.draws, 0)
        if self.k is not None:
            check_count("k", self.k, 1)
        if self.ceiling is not None:
            check_numbers("ceiling", self.ceiling, tuple(self.samples.shape), nan=True)

    def _title(self) -> str:
        what = "salient" if self.k is None else f"{self.k} strongest"
        measure = "Weighted Jaccard index" if self.weighted else "Intersection over union"
        return f"{measure} of the {what} interactions"


def generalization(
    first: InteractionsBatch,
    second: InteractionsBatch,
    *,
    tau: float = TAU,
    scope: Scope = "dataset",
    k: int | None = None,
    weighted: bool = False,
    ceiling_draws: int = 0,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Generalization:
    r"""Compare the interactions of two models for one task, or of two layers, by kind and order.

    For order m, with Omega the salient interactions of that order (Eq. 9 of Cheng et al., "Layerwise Change of
    Knowledge in Neural Networks", ICML 2024)::

        IoU^m = |Omega_first^m and Omega_second^m| / |Omega_first^m or Omega_second^m|,   mean over the samples

    A sample whose union is empty is left out. The weighted form is the Jaccard index of strengths::

        sum of min(|x|, |y|) where the signs of x and y are equal / sum of max(|x|, |y|), or |x| + |y| where they differ

    over the union, with the effects x and y of both, salient or not, in units of their own mean \|v(N) - v(empty)\|.

    **Noise ceiling.** A set that is hardly found again in the same model under a little noise on its values cannot be
    found in another one. With `ceiling_draws` each of the two is also compared with its own tables decomposed under
    noise, as :meth:`captum_lkn.KnowledgeChange.with_noise_ceiling` does: a share near this ceiling is a full agreement.

    Args:
        first: The interactions of one.
        second: Those of the other, for the same samples, players, score and classes.
        tau: The threshold of salience.
        scope: Over what the largest effect is taken: ``"dataset"`` or ``"sample"``.
        k: Compare the k strongest effects of each sample, all kinds and orders together, instead of the salient ones.
        weighted: Whether effects count by their strength and sign.
        ceiling_draws: The number of draws of the noise ceiling, each as costly as the extraction of both; 0: none.
        confidence: The probability of the interval, by the bootstrap over samples.
        resamples: The number of its resamples.
        seed: The seed of resamples and draws.

    Returns:
        The shares by kind and order, between 0 and 1: print it, or take ``to_frame()``.

    Raises:
        TypeError: Something is not of its type.
        ValueError: The two answer different questions, or an option is out of range.

    Warns:
        UserWarning: `weighted`, and the mean \|v(N) - v(empty)\| of one is 0, so that the index is NaN; baselines or
            options of the extraction differ.

    Example:
        >>> from captum_lkn import AndOrInteraction
        >>> x = torch.ones(1, 3)
        >>> def with_two(x):
        ...     return x[:, 0] + x[:, 1] * x[:, 2]
        >>> def with_one(x):
        ...     return x[:, 0] + x[:, 1]
        >>> both = [AndOrInteraction(f, score="logit", noise=0).attribute(x) for f in (with_two, with_one)]
        >>> generalization(*both)
        Intersection over union of the salient interactions
          means over 1 sample, no intervals
          order   AND  OR  both
          1      0.50   -  0.50
          2      0.00   -  0.00
          all    0.33   -  0.33
    """
    check_salience(tau, scope)
    resampling = Resampling(confidence, resamples, seed).check()
    if k is not None and (not is_whole(k) or k < 1):
        raise ValueError(f"k must be a whole number, at least 1, or None; got {k!r}")
    check_flag("weighted", weighted)
    if not is_whole(ceiling_draws) or not 0 <= ceiling_draws <= _MOST_DRAWS:
        raise ValueError(f"ceiling_draws must be a whole number from 0 to {_MOST_DRAWS}; got {ceiling_draws!r}")
    check_interactions({"first": first, "second": second})
    units = [
        unit_of(name, batch, _NO_UNIT) if weighted else 1.0 for name, batch in (("first", first), ("second", second))
    ]
    highest = highest_order(first)

    def compared(a: Sequence[Effects], b: Sequence[Effects], units: list[float]) -> Tensor:
        limits = [thresholds(each, tau, scope) for each in (a, b)]
        found = []
        for x, y, limit_x, limit_y in zip(a, b, *limits, strict=True):
            sets = chosen(x, limit_x, k), chosen(y, limit_y, k)
            found.append(_weighted(x, y, sets, units, highest) if weighted else _iou(*sets, highest))
        return torch.stack(found)

    effects = [[one.effects for one in batch] for batch in (first, second)]
    ceiling = None
    if ceiling_draws:
        drawn = measure_noise_ceiling({"0": first, "1": second}, draws=ceiling_draws, seed=seed).effects
        again = [
            compared(effects[place], draw, [units[place]] * 2)
            for place in range(2)
            for draw in zip(*drawn[str(place)], strict=True)
        ]
        ceiling = torch.stack(again).nanmean(0)
    return Generalization(
        compared(effects[0], effects[1], units),
        tau=float(tau),
        scope=scope,
        k=None if k is None else int(k),
        weighted=bool(weighted),
        ceiling=ceiling,
        draws=int(ceiling_draws),
        resampling=resampling,
    )


def _iou(a: Effects, b: Effects, highest: int) -> Tensor:
    """Return the IoU of two samples' sets by kind and order; 0 / 0 is NaN."""
    both = sums_by_order(a, (b.at(a) != 0).double(), highest)
    first, second = (sums_by_order(one, torch.ones_like(one.values), highest) for one in (a, b))
    return both / (first + second - both)


def _weighted(a: Effects, b: Effects, sets: tuple[Effects, Effects], units: list[float], highest: int) -> Tensor:
    """Return the weighted Jaccard index over the union of two samples' sets, with the effects of both."""
    sums: Tensor = torch.zeros(2, 3, highest + 1, dtype=torch.float64, device="cpu")
    missing = sets[1].select(sets[0].at(sets[1]) == 0)  # each set of the union once
    for one in (sets[0], missing):
        x, y = a.at(one) / units[0], b.at(one) / units[1]
        common = shared(x, y).abs()
        sums[0] += sums_by_order(one, common, highest)
        sums[1] += sums_by_order(one, x.abs() + y.abs() - common, highest)
    return sums[0] / sums[1]
