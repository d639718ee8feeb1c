"""A comparison of states as tensors and JSON, the way :mod:`captum_lkn._common.files` takes them.

The interactions of all states lie end to end, state by state, as those of one batch do. So do the draws under noise, of
the states for which they were taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from captum_lkn.interactions import Interactions, InteractionsBatch, SampledBatch, SampledInteractions
from captum_lkn.interactions.batch import AnyBatch
from captum_lkn.interactions.packing import pack, pack_effects, pack_sampled, unpack, unpack_effects, unpack_sampled
from captum_lkn.knowledge.noise_ceiling import NoiseCeiling

__all__ = ["pack_change", "unpack_change"]

_DRAWN = "noise_ceiling"


def pack_change(parts: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Turn a comparison, given as the arguments of ``KnowledgeChange`` by name, into tensors and metadata."""
    options = dict(parts)
    interactions: Mapping[str, AnyBatch] = options.pop("interactions")
    ceiling: NoiseCeiling | None = options.pop("noise_ceiling")
    sampled = isinstance(next(iter(interactions.values())), SampledBatch)
    parts_of = [one.parts() for batch in interactions.values() for one in batch]
    tensors, metadata = pack_sampled(parts_of) if sampled else pack(parts_of)
    if ceiling is not None:
        drawn = [draw for of_state in ceiling.effects.values() for draws in of_state for draw in draws]
        tensors |= pack_effects(drawn, _DRAWN)
    return tensors, metadata | {
        "labels": list(interactions),
        "sampled": sampled,
        "change": options,
        "noise_ceiling": ceiling and ceiling.settings() | {"states": list(ceiling.effects)},
    }


def unpack_change(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that make the comparison anew: what :func:`pack_change` was given."""
    labels = metadata["labels"]
    sampled = metadata.get("sampled", False)  # not in files of the first version
    batch_of: Any = SampledBatch if sampled else InteractionsBatch
    samples: list[Any]
    if sampled:
        samples = [SampledInteractions(**arguments) for arguments in unpack_sampled(tensors, metadata)]
    else:
        samples = [Interactions(**arguments) for arguments in unpack(tensors, metadata)]
    options = dict(metadata["change"])
    return options | {
        "interactions": dict(zip(labels, map(batch_of, _split(samples, len(labels))), strict=True)),
        "states": tuple(options["states"]),
        "accuracies": {label: tuple(both) for label, both in options["accuracies"].items()},
        "noise_ceiling": _unpack_ceiling(
            tensors, metadata["noise_ceiling"], [one.n_players for one in samples[: len(samples) // len(labels)]]
        ),
    }


def _unpack_ceiling(
    tensors: Mapping[str, Tensor], settings: Mapping[str, Any] | None, players: Sequence[int]
) -> NoiseCeiling | None:
    """Return the draws; ``players`` are the numbers of players of the samples, the same in every state."""
    if settings is None:
        return None
    rest = dict(settings)
    draws, labels = rest.pop("draws"), rest.pop("states")
    # Compared before the list is made: the number may be any, and the list as long.
    if (held := len(tensors[f"{_DRAWN}.count"])) != len(labels) * len(players) * draws:
        raise ValueError(f"it holds {held} draws, not {draws} of {len(players)} samples in {len(labels)} states")
    flat = unpack_effects(tensors, _DRAWN, [n for _ in labels for n in players for _ in range(draws)])
    drawn = [tuple(flat[i : i + draws]) for i in range(0, len(flat), draws)]
    return NoiseCeiling(dict(zip(labels, map(tuple, _split(drawn, len(labels))), strict=True)), **rest)


def _split(things: Sequence[Any], parts: int) -> list[Sequence[Any]]:
    """Cut a sequence into equal parts."""
    size = len(things) // parts
    return [things[i * size : (i + 1) * size] for i in range(parts)]
