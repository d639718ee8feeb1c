"""Samples as tensors and JSON, the way :mod:`captum_lkn._common.files` takes them.

The tables of all samples lie end to end, each 2^n long; layouts and options that samples share are stored
once, owners in one byte each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count, repeat
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from captum_lkn._common.warn import warn
from captum_lkn.decomposition.options import DecompositionOptions
from captum_lkn.interactions.layout import InputLayout

if TYPE_CHECKING:
    from captum_lkn.interactions.sample import Interactions

__all__ = ["pack", "unpack"]

_TABLES = ("and_effects", "or_effects", "values")
_NUMBERS = ("kappa", "gap")


def pack(samples: Sequence[Interactions]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Samples as tensors by name, and metadata."""
    tensors = {name: torch.cat([getattr(one, name) for one in samples]) for name in _TABLES}
    for name in _NUMBERS:  # as tensors, since JSON has no infinity, and a gap may be infinite
        tensors[name] = torch.tensor([getattr(one, name) for one in samples], dtype=torch.float64)
    layouts: dict[Any, int] = {}
    descriptions: list[dict[str, Any]] = []
    options: dict[DecompositionOptions, int] = {}
    entries = []
    for one in samples:
        place = None
        if one.layout is not None:
            # A byte each: no table has the 2^128 entries of as many players as a byte cannot number.
            owners = [owner.cpu().to(torch.int8).contiguous() for owner in one.layout.owners]
            key = _description(one.layout), tuple((owner.shape, owner.numpy().tobytes()) for owner in owners)
            place = layouts.setdefault(key, len(layouts))
            if place == len(descriptions):
                descriptions.append(dict(key[0]))
                tensors |= {f"layout.{place}.owners.{i}": owner for i, owner in enumerate(owners)}
        number = options.setdefault(one.options, len(options))
        entries.append({"players": one.players, "provenance": one.provenance, "layout": place, "options": number})
    stored = [each.to_dict() for each in options]
    return tensors, {"samples": entries, "layouts": descriptions, "options": stored}


def unpack(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The arguments that make each sample anew."""
    layouts = list(map(_layout, repeat(tensors), metadata["layouts"], count()))
    options = [DecompositionOptions(**each) for each in metadata["options"]]
    samples = metadata["samples"]
    sizes = [1 << len(sample["players"]) for sample in samples]
    tables = {name: torch.split(tensors[name], sizes) for name in _TABLES}
    return [
        {
            "players": tuple(sample["players"]),
            "provenance": sample["provenance"],
            "layout": None if sample["layout"] is None else layouts[sample["layout"]],
            "options": options[sample["options"]],
            # Clones: a view would keep the tables of all samples alive as long as one of them.
            **{name: tables[name][b].clone() for name in _TABLES},
            **{name: float(tensors[name][b]) for name in _NUMBERS},
        }
        for b, sample in enumerate(samples)
    ]


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
    """The device of that name, or the CPU where this machine lacks it."""
    device = torch.device(name)
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):  # which one depends on how torch was built
        warn(
            f"the attributions lay on {name}, which this machine does not have: they will be on the CPU",
        )
        return torch.device("cpu")
    return device
