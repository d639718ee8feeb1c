"""Forwards that short samples of a study share: players of one form become a batch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor

from captum_lkn.attribution.base import OF_SAMPLES
from captum_lkn.players.players import Players

__all__ = ["form_of", "joined_players", "rows_of_each"]

# Samples with as many masks are evaluated by themselves: their checks take little, and ranks may divide their masks.
_PLAYERS: Final = 10
_TOKENS_CPU: Final = 1 << 11  # of a forward: a CPU computes 256 rows of a short sentence 15 % faster than 1,024


def form_of(players: Players) -> tuple[Any, ...] | None:
    """Return what players of one sample must have in common to share forwards; None: they share none.

    Lengths are among it, so that no sample is padded for another one.
    """
    constants = players.constants.values()
    rows = all(isinstance(value, Tensor) and value.dim() > 0 and len(value) == 1 for value in constants)
    if players.sizes[0] >= _PLAYERS or players.background or players.decode is not None or not rows:
        return None
    tensors = (*players.inputs, *players.baselines, *players.owners, *constants)
    shapes = tuple((tuple(x.shape), str(x.dtype), str(x.device)) for x in tensors)
    common = {name: value for name, value in players.description.items() if name not in OF_SAMPLES}
    own = tuple(sorted(set(players.description).intersection(OF_SAMPLES)))
    names = players.names, tuple(players.constants), players.is_tuple
    return players.sizes[0], names, shapes, own, json.dumps(common, sort_keys=True, default=str)


def joined_players(several: Sequence[Players]) -> Players:
    """Return players of one sample each, which have one form, as a batch."""
    first = several[0]
    if len(several) == 1:
        return first
    own = [name for name in first.description if name in OF_SAMPLES]
    return Players(
        tuple(map(torch.cat, zip(*(one.inputs for one in several), strict=True))),
        tuple(map(torch.cat, zip(*(one.baselines for one in several), strict=True))),
        tuple(map(torch.cat, zip(*(one.owners for one in several), strict=True))),
        tuple(labels for one in several for labels in one.labels),
        first.names,
        {name: torch.cat([one.constants[name] for one in several]) for name in first.constants},
        first.is_tuple,
        {**first.description, **{name: [value for one in several for value in one.description[name]] for name in own}},
    )


def rows_of_each(players: Players, rows: int | None, device: torch.device | None) -> int | None:
    """Return ``perturbations_per_eval`` of a batch, whose forwards have no more rows than those of one sample.

    Args:
        players: The batch.
        rows: The rows of a forward that the user gave; None: by a rule.
        device: The device of the model, if it has one.
    """
    first = players.inputs[0]
    if rows is None and (device or first.device).type == "cpu" and not first.is_floating_point():
        rows = max(_TOKENS_CPU // max(first[0].numel(), 1), len(players))
    return None if rows is None else rows // len(players)
