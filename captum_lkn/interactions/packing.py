"""Samples as tensors and JSON, the way :mod:`captum_lkn._common.files` takes them.

The effects of all samples are stored end to end, sparsely, as are the value tables; layouts and options that samples
share are stored once. Sets are packed to one bit a player, owners to one byte each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count, repeat
from typing import Any

import numpy as np
import torch
from torch import Tensor

from captum_lkn._common.warn import warn
from captum_lkn.decomposition.effects import Effects
from captum_lkn.decomposition.options import DecompositionOptions
from captum_lkn.interactions.layout import InputLayout

__all__ = ["only", "pack", "pack_effects", "pack_sampled", "unpack", "unpack_effects", "unpack_sampled"]

_NUMBERS = ("kappa", "gap", "epsilon")
_SAMPLED_NUMBERS = ("v_empty", "v_full", "deviation", "epsilon")
_BYTE = 127


def pack(samples: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Turn samples, each the arguments of ``Interactions`` by name, into tensors by name and metadata."""
    tensors, metadata = _pack(samples, _NUMBERS, ("players", "provenance", "refitted"))
    return tensors | {"values": torch.cat([one["values"] for one in samples])}, metadata


def pack_sampled(samples: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Turn samples, each the arguments of ``SampledInteractions`` by name, into tensors by name and metadata."""
    tensors, metadata = _pack(samples, _SAMPLED_NUMBERS, ("players", "provenance", "masks"))
    refits = {f"refits.{b}": one["refits"].contiguous() for b, one in enumerate(samples)}
    r_squared = torch.tensor([one["r_squared"] for one in samples], dtype=torch.float64, device="cpu")
    return tensors | refits | {"r_squared": r_squared}, metadata


def _pack(
    samples: Sequence[Mapping[str, Any]], numbers: Sequence[str], names: Sequence[str]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Turn effects, layouts, options, and arguments that are numbers or go into JSON, into tensors and metadata."""
    tensors = pack_effects([one["effects"] for one in samples], "effects")
    for name in numbers:  # as tensors, since JSON has no infinity, and a gap may be infinite
        tensors[name] = torch.tensor([one[name] for one in samples], dtype=torch.float64, device="cpu")
    layouts: dict[Any, int] = {}
    descriptions: list[dict[str, Any]] = []
    options: dict[DecompositionOptions, int] = {}
    entries = []
    for one in samples:
        place, layout = None, one["layout"]
        if layout is not None:
            # A byte each, where that numbers all players.
            dtype = torch.int8 if len(one["players"]) <= _BYTE else torch.int32
            owners = [owner.cpu().to(dtype).contiguous() for owner in layout.owners]
            key = _description(layout), tuple((owner.shape, owner.numpy().tobytes()) for owner in owners)
            place = layouts.setdefault(key, len(layouts))
            if place == len(descriptions):
                descriptions.append(dict(key[0]))
                tensors |= {f"layout.{place}.owners.{i}": owner for i, owner in enumerate(owners)}
        number = options.setdefault(one["options"], len(options))
        entries.append({**{name: one[name] for name in names}, "layout": place, "options": number})
    stored = [each.to_dict() for each in options]
    return tensors, {"samples": entries, "layouts": descriptions, "options": stored}


def unpack(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the arguments that make each sample anew: what :func:`pack` was given."""
    samples = _unpack(tensors, metadata, _NUMBERS)
    values = torch.split(tensors["values"], [1 << len(sample["players"]) for sample in samples])
    return [
        # in files of the first version nothing is refitted
        {**sample, "values": own, "refitted": entry.get("refitted", False)}
        for sample, own, entry in zip(samples, values, metadata["samples"], strict=True)
    ]


def unpack_sampled(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the arguments that make each sample anew: what :func:`pack_sampled` was given."""
    return [
        {
            **sample,
            "refits": tensors[f"refits.{b}"],
            "r_squared": tuple(tensors["r_squared"][b].tolist()),
            "masks": tuple(metadata["samples"][b]["masks"]),
        }
        for b, sample in enumerate(_unpack(tensors, metadata, _SAMPLED_NUMBERS))
    ]


def _unpack(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any], numbers: Sequence[str]) -> list[dict[str, Any]]:
    """Return what :func:`_pack` was given, but for what only one kind of samples has."""
    layouts = list(map(_layout, repeat(tensors), metadata["layouts"], count()))
    options = [DecompositionOptions(**each) for each in metadata["options"]]
    samples = metadata["samples"]
    effects = unpack_effects(tensors, "effects", [len(sample["players"]) for sample in samples])
    return [
        {
            "players": tuple(sample["players"]),
            "effects": effects[b],
            "provenance": sample["provenance"],
            "layout": None if sample["layout"] is None else layouts[sample["layout"]],
            "options": options[sample["options"]],
            **{name: float(tensors[name][b]) for name in numbers},
        }
        for b, sample in enumerate(samples)
    ]


def only(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the one sample of a file that holds one."""
    if len(samples) != 1:
        raise ValueError(f"it holds {len(samples)} samples, not one")
    return samples[0]


def pack_effects(several: Sequence[Effects], name: str) -> dict[str, Tensor]:
    """Turn effects into tensors whose names begin with ``name``, end to end."""
    sets = [np.packbits(one.members.numpy(), axis=1, bitorder="little").reshape(-1) for one in several]
    return {
        f"{name}.count": torch.tensor([len(one) for one in several], device="cpu"),
        f"{name}.constant": torch.tensor([one.constant for one in several], dtype=torch.float64, device="cpu"),
        f"{name}.sets": torch.from_numpy(np.concatenate([*sets, np.zeros(0, np.uint8)])),
        f"{name}.is_or": torch.cat([one.is_or for one in several]),
        f"{name}.values": torch.cat([one.values for one in several]),
    }


def unpack_effects(tensors: Mapping[str, Tensor], name: str, players: Sequence[int]) -> list[Effects]:
    """Return the effects that :func:`pack_effects` was given; ``players`` is the number of players of each."""
    counts = tensors[f"{name}.count"].tolist()
    widths = [-(-n // 8) for n in players]
    sets = torch.split(tensors[f"{name}.sets"], [k * width for k, width in zip(counts, widths, strict=True)])
    found = []
    for n, k, width, packed, constant, is_or, values in zip(
        players,
        counts,
        widths,
        sets,
        tensors[f"{name}.constant"].tolist(),
        torch.split(tensors[f"{name}.is_or"], counts),
        torch.split(tensors[f"{name}.values"], counts),
        strict=True,
    ):
        bits = np.unpackbits(packed.reshape(k, width).numpy(), axis=1, count=n, bitorder="little")
        found.append(Effects(n, constant, torch.from_numpy(bits).bool(), is_or.clone(), values.clone()))
    return found


def _description(layout: InputLayout) -> tuple[tuple[str, Any], ...]:
    return (
        ("is_tuple", layout.is_tuple),
        ("dtypes", tuple(str(dtype).removeprefix("torch.") for dtype in layout.dtypes)),
        ("device", str(layout.device)),
    )


def _layout(tensors: Mapping[str, Tensor], description: Mapping[str, Any], place: int) -> InputLayout:
    dtypes = tuple(getattr(torch, name) for name in description["dtypes"])
    owners = tuple(tensors[f"layout.{place}.owners.{i}"].long() for i in range(len(dtypes)))
    return InputLayout(owners, description["is_tuple"], dtypes, _present_device(description["device"]))


def _present_device(name: str) -> torch.device:
    """Return the device of that name, or the CPU where this machine lacks it."""
    device = torch.device(name)
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):  # which one depends on how torch was built
        warn(f"this machine does not have the device {name} of the attributions: they will be on the CPU")
        return torch.device("cpu")
    return device
