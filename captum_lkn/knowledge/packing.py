"""A comparison of layers as tensors and JSON, the way :mod:`captum_lkn._common.files` takes them.

The interactions of all layers lie end to end, layer by layer, as those of one batch do; the draws behind them, of which
only the effects that are not 0 are kept, with their places.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from captum_lkn.interactions import Interactions, InteractionsBatch
from captum_lkn.interactions.packing import pack, unpack
from captum_lkn.knowledge.luck import Luck

if TYPE_CHECKING:
    from captum_lkn.knowledge.change import KnowledgeChange

__all__ = ["pack_change", "unpack_change"]

_PLACES, _EFFECTS = "luck.places", "luck.effects"


def pack_change(change: KnowledgeChange) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A comparison as tensors by name, and metadata."""
    tensors, metadata = pack([one for batch in change.interactions.values() for one in batch])
    if change.luck:
        drawn = torch.cat([one.flatten() for label in change.interactions for one in change.luck.effects[label]])
        tensors[_PLACES] = drawn.nonzero().squeeze(-1)
        tensors[_EFFECTS] = drawn[tensors[_PLACES]]
    options = ("layers", "against", "tau", "scope", "printed", "ratio", "accuracies", "target_source")
    return tensors, metadata | {
        "labels": list(change.interactions),
        "options": {name: getattr(change, name) for name in options},
        "luck": change.luck.settings() if change.luck else None,
    }


def unpack_change(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that make the comparison anew."""
    labels = metadata["labels"]
    samples = [Interactions(**arguments) for arguments in unpack(tensors, metadata)]
    options = dict(metadata["options"])
    return options | {
        "interactions": dict(zip(labels, map(InteractionsBatch, _split(samples, len(labels))), strict=True)),
        "layers": tuple(options["layers"]),
        "accuracies": {label: tuple(both) for label, both in options["accuracies"].items()},
        "luck": _unpack_luck(tensors, metadata["luck"], labels, [len(one.values) for one in samples]),
    }


def _unpack_luck(
    tensors: Mapping[str, Tensor], settings: Mapping[str, Any] | None, labels: Sequence[str], sizes: Sequence[int]
) -> Luck | None:
    if settings is None:
        return None
    rest = dict(settings)
    draws = rest.pop("draws")
    lengths = [draws * 2 * size for size in sizes]
    flat = torch.zeros(sum(lengths), dtype=torch.float64)
    flat[tensors[_PLACES]] = tensors[_EFFECTS]
    drawn = [part.reshape(draws, 2, -1).clone() for part in torch.split(flat, lengths)]
    return Luck(dict(zip(labels, map(tuple, _split(drawn, len(labels))), strict=True)), **rest)


def _split(things: Sequence[Any], parts: int) -> list[Sequence[Any]]:
    size = len(things) // parts
    return [things[i * size : (i + 1) * size] for i in range(parts)]
