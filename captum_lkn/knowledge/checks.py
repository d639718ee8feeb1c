"""Checks of the parts of a comparison of layers."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from captum_lkn._common.messages import kind_of, some_of
from captum_lkn.interactions import InteractionsBatch

__all__ = ["check_interactions", "check_label"]


def check_label(label: Any, interactions: Mapping[str, Any]) -> str:
    """Return the label of a layer, which must be among those of the interactions."""
    if label not in interactions:
        close = difflib.get_close_matches(str(label), interactions, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"there is no layer {label!r} here{hint}; there are {some_of(list(interactions))}")
    return str(label)


def check_interactions(interactions: Any) -> None:
    """Check that all layers have batches, of the same samples and players."""
    if not isinstance(interactions, Mapping):
        raise TypeError(f"interactions must be a mapping from layer to InteractionsBatch; got {kind_of(interactions)}")
    players: dict[str, list[tuple[str, ...]]] = {}
    for label, batch in interactions.items():
        if not isinstance(label, str) or not isinstance(batch, InteractionsBatch):
            raise TypeError(f"interactions must map labels to InteractionsBatch; got {label!r}: {kind_of(batch)}")
        players[label] = [one.players for one in batch]
    for label, found in players.items():
        first = next(iter(players))
        if found != players[first]:
            raise ValueError(
                f"layer {label!r} has {len(found)} samples, {first!r} {len(players[first])}, or their players differ: "
                "compare layers on the same samples, with the same players"
            )
