"""Turn Captum's arguments into players and the arguments of an unmasked forward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from captum_lkn.interactions import InputLayout
from captum_lkn.models.arguments import Arguments
from captum_lkn.players.players import Players, players_from_mask

__all__ = ["Baselines", "FeatureMask", "Inputs", "PlayerNames", "layout_of", "prepare"]

Inputs: TypeAlias = Tensor | tuple[Tensor, ...] | Mapping[str, Any] | Players
Baselines: TypeAlias = Tensor | float | tuple[Tensor | float, ...] | Mapping[str, Tensor | float] | None
FeatureMask: TypeAlias = Tensor | tuple[Tensor, ...] | Mapping[str, Tensor] | None
PlayerNames: TypeAlias = Sequence[str] | Sequence[Sequence[str]] | None


def prepare(
    inputs: Inputs, baselines: Baselines, additional: Any, feature_mask: FeatureMask, player_names: PlayerNames
) -> tuple[Players, Arguments]:
    """Turn the arguments of `attribute` into players.

    Args:
        inputs: As in :meth:`AndOrInteraction.attribute`, like all that follows.
        baselines: The replacements of absent players.
        additional: ``additional_forward_args``.
        feature_mask: The player of each scalar.
        player_names: Their labels.

    Returns:
        The players, and the arguments of an unmasked forward.

    Raises:
        TypeError: An argument of the wrong type.
        ValueError: An argument that does not fit.
    """
    if isinstance(inputs, Players):
        given = {"baselines": baselines, "feature_mask": feature_mask, "player_names": player_names}
        extra = [name for name, value in given.items() if value is not None]
        if extra:
            raise ValueError(
                f"inputs are Players, which have their own {', '.join(given)}. Leave out {', '.join(extra)}"
            )
        players = inputs
    elif isinstance(inputs, tuple) and any(isinstance(one, Players) for one in inputs):
        raise TypeError("inputs must be Players or a list of Players; got a tuple of Players. Give a list")
    else:
        players = players_from_mask(inputs, baselines, feature_mask, player_names)
    keywords, positional = dict(players.constants), ()
    if isinstance(additional, Mapping):
        keywords |= additional
    elif additional is not None:
        positional = additional if isinstance(additional, tuple) else (additional,)
    return players, Arguments(players.inputs, players.names, positional, keywords)


def layout_of(players: Players, sample: int) -> InputLayout:
    """Return the map from the players of a sample back to its inputs, for attributions."""
    # At least float32: attributions are in units of the output, which half inputs need not be able to hold.
    dtypes = tuple(
        torch.promote_types(x.dtype, torch.float32) if x.is_floating_point() else torch.get_default_dtype()
        for x in players.inputs
    )
    owners = tuple(owner[sample] for owner in players.owners)
    return InputLayout(owners, players.is_tuple, dtypes, players.inputs[0].device)
