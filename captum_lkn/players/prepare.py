"""Turn Captum's arguments into players and the arguments of an unmasked forward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from captum_lkn._common.messages import kind_of
from captum_lkn.interactions import InputLayout
from captum_lkn.models.arguments import Arguments
from captum_lkn.players.interpretable import interpretable_players, is_interpretable
from captum_lkn.players.players import Players, players_from_mask
from captum_lkn.players.tables import DataFrameLike, is_table, table_players

__all__ = ["Baselines", "FeatureMask", "Inputs", "PlayerNames", "layout_of", "prepare"]

_Array: TypeAlias = np.ndarray[Any, Any]
Inputs: TypeAlias = Tensor | tuple[Tensor, ...] | Mapping[str, Any] | Players | DataFrameLike | _Array
Baselines: TypeAlias = (
    Tensor | float | tuple[Tensor | float, ...] | Mapping[str, Tensor | float] | DataFrameLike | _Array | None
)
FeatureMask: TypeAlias = Tensor | tuple[Tensor, ...] | Mapping[str, Tensor] | None
PlayerNames: TypeAlias = Sequence[str] | Sequence[Sequence[str]] | None


def prepare(
    inputs: Inputs,
    baselines: Baselines,
    additional: Any,
    feature_mask: FeatureMask,
    player_names: PlayerNames,
    tokenizer: Any = None,
) -> tuple[Players, Arguments]:
    """Turn the arguments of `attribute` into players.

    Args:
        inputs: As in :meth:`AndOrInteraction.attribute`, like all that follows.
        baselines: The replacements of absent players.
        additional: ``additional_forward_args``.
        feature_mask: The player of each scalar.
        player_names: Their labels.
        tokenizer: That of the forward function, for a ``TextTemplateInput`` of Captum; None: it has none.

    Returns:
        The players, and the arguments of an unmasked forward.

    Raises:
        TypeError: An argument of the wrong type.
        ValueError: An argument that does not fit.
    """
    given: Any = inputs
    absent: Any = baselines
    names: Any = player_names
    if isinstance(inputs, Players) or is_interpretable(given):
        own = {"baselines": baselines, "feature_mask": feature_mask, "player_names": player_names}
        extra = [name for name, value in own.items() if value is not None]
        if extra:
            own_kind = f"an input of kind {type(inputs).__name__}, whose features have"
            what = "Players, which have" if isinstance(inputs, Players) else own_kind
            raise ValueError(f"inputs are {what} their own {', '.join(own)}. Leave out {', '.join(extra)}")
        players = inputs if isinstance(inputs, Players) else interpretable_players(given, tokenizer)
    elif is_table(given):
        if feature_mask is not None:
            raise ValueError("feature_mask must be None for a table. Give table_players(..., columns=) for its players")
        if baselines is None:
            raise TypeError(
                f"baselines must be a background for {kind_of(inputs)}, rows that replace absent columns, such as a "
                "part of the training data; got None. For a single baseline, give one row"
            )
        players = table_players(given, absent, names=names)
    elif isinstance(inputs, tuple) and any(isinstance(one, Players) for one in inputs):
        raise TypeError("inputs must be Players or a list of Players; got a tuple of Players. Give a list")
    else:
        players = players_from_mask(given, absent, feature_mask, player_names)
    keywords, positional = dict(players.constants), ()
    if isinstance(additional, Mapping):
        keywords |= additional
    elif additional is not None:
        positional = additional if isinstance(additional, tuple) else (additional,)
    return players, Arguments(players.inputs, players.names, positional, keywords, decode=players.decode)


def layout_of(players: Players, sample: int) -> InputLayout:
    """Return the map from the players of a sample back to its inputs, for attributions."""
    # At least float32: attributions are in units of the output, which half inputs need not be able to hold.
    dtypes = tuple(
        torch.promote_types(x.dtype, torch.float32) if x.is_floating_point() else torch.get_default_dtype()
        for x in players.inputs
    )
    owners = tuple(owner[sample] for owner in players.owners)
    return InputLayout(owners, players.is_tuple, dtypes, players.inputs[0].device)
