"""Interactions averaged over several baselines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from captum_lkn._common.messages import kind_of, some_of
from captum_lkn.decomposition.decompose import decompose
from captum_lkn.interactions import Interactions, InteractionsBatch

__all__ = ["average_baselines"]

_SHARED = ("model", "layer", "score", "target")


def average_baselines(found: Sequence[InteractionsBatch]) -> InteractionsBatch:
    """The interactions of the mean value table, over the same samples under several baselines.

    What a single baseline brings in by chance is averaged out before anything is extracted. The mean tables are
    decomposed anew: the mean of sparse effects would be less sparse than each.

    Args:
        found: Interactions of the same samples, one batch a baseline, of one model, layer, score and target and
            with the same settings.

    Returns:
        One batch, decomposed with the options of the given ones; its provenance lists the baselines.

    Raises:
        TypeError: Something else than batches of interactions.
        ValueError: No batch, or batches that are not of the same samples, players, questions or settings.

    Example:
        >>> from captum_lkn import AndOrInteraction
        >>> method = AndOrInteraction(lambda x: x.prod(1), score="logit", noise=0)
        >>> x = torch.tensor([[2.0, 2.0]])
        >>> mean = average_baselines([method.attribute(x, baselines=b) for b in (0, 1)])
        >>> mean[0].values  # of [0, 0, 0, 4] and [1, 2, 2, 4]
        tensor([0.5000, 1.0000, 1.0000, 4.0000], dtype=torch.float64)
        >>> print(mean[0].top(1)[0])
        0 & 1  +2.50
    """
    given: Any = found
    if isinstance(given, InteractionsBatch) or not isinstance(given, Sequence):
        raise TypeError(f"found must be a list of InteractionsBatch, one a baseline; got {kind_of(found)}")
    for i, batch in enumerate(found):
        if not isinstance(batch, InteractionsBatch):
            raise TypeError(f"found[{i}] must be an InteractionsBatch; got {kind_of(batch)}")
    if not found:
        raise ValueError("found is empty: give the interactions under at least one baseline")
    if len({len(batch) for batch in found}) > 1:
        raise ValueError(f"the batches have {[len(batch) for batch in found]} samples: they must be the same ones")
    return InteractionsBatch(_mean(i, versions) for i, versions in enumerate(zip(*found, strict=True)))


def _mean(place: int, versions: Sequence[Interactions]) -> Interactions:
    """One sample, under several baselines."""
    first = versions[0]
    for other in versions[1:]:
        if other.players != first.players:
            raise ValueError(
                f"sample {place} has the players {some_of(first.players)} in the first batch and "
                f"{some_of(other.players)} in another: averages are over baselines of the same players"
            )
        for key in _SHARED:
            mine, others = first.provenance.get(key), other.provenance.get(key)
            if mine != others:
                raise ValueError(
                    f"sample {place} has the {key} {mine} in the first batch and {others} in another: averages are "
                    "over baselines alone"
                )
        if other.options != first.options:
            raise ValueError(
                f"sample {place} has the options {first.options} in the first batch and {other.options} in another: "
                "decompose all with the same"
            )
    values = torch.stack([one.values for one in versions]).mean(0)
    part = decompose(values, options=first.options)
    used: list[Any] = [one.provenance.get("forwards", 0) for one in versions]
    provenance = {
        **first.provenance,
        "baseline": [one.provenance.get("baseline") for one in versions],
        "forwards": sum(used),
    }
    return Interactions.from_decomposition(first.players, values, part, provenance, first.layout)
