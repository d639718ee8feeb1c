"""Interactions averaged over several baselines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from captum_lkn._common.messages import count_of, kind_of, some_of
from captum_lkn.baselines.samples import check_same_sample
from captum_lkn.decomposition.decompose import decompose
from captum_lkn.interactions import Interactions, InteractionsBatch
from captum_lkn.interactions.about import other_question

__all__ = ["average_baselines"]


def average_baselines(found: Sequence[InteractionsBatch]) -> InteractionsBatch:
    """Decompose the mean of the value tables of the same samples under several baselines.

    The influence of a single baseline is averaged out before the decomposition. Averaging the effects instead would
    give a less sparse result than each of them.

    Args:
        found: Interactions of the same samples, one batch a baseline, of one model, layer, score and target and
            with the same settings.

    Returns:
        One batch, decomposed with the options of the given ones; its provenance lists the baselines.

    Raises:
        TypeError: An entry is not an :class:`InteractionsBatch`.
        ValueError: There is no batch, or the batches differ in samples, players, model, layer, score, target or
            options.

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
        raise TypeError(f"found must be a list of InteractionsBatch, one for each baseline; got {kind_of(found)}")
    for i, batch in enumerate(found):
        if not isinstance(batch, InteractionsBatch):
            raise TypeError(f"found[{i}] must be an InteractionsBatch; got {kind_of(batch)}")
    if not found:
        raise ValueError("found must hold the interactions under at least one baseline; got an empty list")
    if len({len(batch) for batch in found}) > 1:
        raise ValueError(f"the batches must hold the same samples; got {[len(batch) for batch in found]} samples")
    return InteractionsBatch(_mean(i, versions) for i, versions in enumerate(zip(*found, strict=True)))


def _mean(place: int, versions: Sequence[Interactions]) -> Interactions:
    """Average one sample over its versions under several baselines."""
    first = versions[0]
    for other in versions[1:]:
        if other.players != first.players:
            raise ValueError(
                f"sample {place} has the players {some_of(first.players)} in the first batch and "
                f"{some_of(other.players)} in another. Give the same players under several baselines"
            )
        differing = other_question(first.provenance, other.provenance) or _other_place(first, other)
        if differing:
            name, mine, others = differing
            raise ValueError(
                f"sample {place} has the {name} {mine} in the first batch and {others} in another. Only the baselines "
                "may differ"
            )
        check_same_sample(place, first, other, ("the first baseline", "another"))
        if other.options != first.options:
            raise ValueError(
                f"sample {place} has the options {first.options} in the first batch and {other.options} in another. "
                "Use the same options for all"
            )
    values = torch.stack([one.values for one in versions]).mean(0)
    names = [f"sample {place}, the mean of {count_of(len(versions), 'baseline')}"]
    part = decompose(values, options=first.options, names=names)
    used: list[Any] = [one.provenance.get("forwards", 0) for one in versions]
    provenance = {
        **first.provenance,
        "baseline": [one.provenance.get("baseline") for one in versions],
        "forwards": sum(used),
    }
    epsilon = max(one.epsilon for one in versions)
    return Interactions.from_decomposition(first.players, values, part, provenance, first.layout, epsilon)


def _other_place(first: Interactions, other: Interactions) -> tuple[str, Any, Any] | None:
    """Return the model or layer in which two results differ, with both values."""
    for name in ("model", "layer"):
        mine, others = first.provenance.get(name), other.provenance.get(name)
        if mine != others:
            return name, mine, others
    return None
