"""Interactions that two models, or two layers, have in common."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from captum_lkn._common.accessors import Accessor
from captum_lkn._common.checks import check_flag, is_whole
from captum_lkn._common.warn import warn
from captum_lkn.decomposition.effects import TAU, Effects
from captum_lkn.evaluation.bootstrap import CONFIDENCE, RESAMPLES, Resampling
from captum_lkn.evaluation.by_order import ByOrder, chosen, highest_order, sums_by_order
from captum_lkn.interactions import InteractionsBatch
from captum_lkn.knowledge.checks import check_interactions
from captum_lkn.knowledge.comparison import Scope, check_salience, normaliser, shared, thresholds

__all__ = ["Generalization", "generalization"]


@dataclass(frozen=True, eq=False, repr=False)
class Generalization(ByOrder):
    """The share of interactions that two models, or two layers, have in common; made by :func:`generalization`.

    Attributes:
        tau: The threshold of salience.
        scope: Over what the largest effect is taken.
        k: The number of the strongest effects that were compared instead; None: the salient ones were.
        weighted: Whether effects count by their strength and sign.
    """

    tau: float = TAU
    scope: Scope = "dataset"
    k: int | None = None
    weighted: bool = False

    plot = Accessor("captum_lkn.plot.accessors", "BY_ORDER")
    """Pictures as methods, such as ``found.plot.by_order()``; see :mod:`captum_lkn.plot`."""

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

    Args:
        first: The interactions of one.
        second: Those of the other, for the same samples, players, score and classes.
        tau: The threshold of salience.
        scope: Over what the largest effect is taken: ``"dataset"`` or ``"sample"``.
        k: Compare the k strongest effects of each sample, all kinds and orders together, instead of the salient ones.
        weighted: Whether effects count by their strength and sign.
        confidence: The probability of the interval, by the bootstrap over samples.
        resamples: The number of its resamples.
        seed: Their seed.

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
    check_interactions({"first": first, "second": second})
    units = [_unit(name, batch) if weighted else 1.0 for name, batch in (("first", first), ("second", second))]
    effects = [[one.effects for one in batch] for batch in (first, second)]
    limits = [thresholds(each, tau, scope) for each in effects]
    highest, found = highest_order(first), []
    for a, b, limit_a, limit_b in zip(*effects, *limits, strict=True):
        sets = chosen(a, limit_a, k), chosen(b, limit_b, k)
        found.append(_weighted(a, b, sets, units, highest) if weighted else _iou(*sets, highest))
    return Generalization(
        torch.stack(found), tau=float(tau), scope=scope, k=k, weighted=weighted, resampling=resampling
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


def _unit(name: str, batch: InteractionsBatch) -> float:
    """Return the mean |v(N) - v(empty)|; NaN, with a warning, where it is 0, so that nothing is known."""
    unit = normaliser([one.values for one in batch], max(one.epsilon for one in batch))
    if not unit:
        warn(
            f"|v(N) - v(empty)| of {name} is 0 in all samples, so that its effects have no unit in which they can be "
            "compared: the weighted index is NaN. Take weighted=False, or samples where masking changes the score"
        )
    return unit or float("nan")
