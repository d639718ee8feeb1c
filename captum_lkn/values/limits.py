"""Limits of masked evaluation: players of a sample, rows of a forward, memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from captum_lkn._common.checks import is_whole
from captum_lkn._common.limits import MAX_PLAYERS
from captum_lkn._common.messages import some_of
from captum_lkn.models.layers import Layer
from captum_lkn.models.model import Model
from captum_lkn.players.players import Players

__all__ = [
    "check_perturbations",
    "check_sizes",
    "check_whole_batch",
    "rows_per_forward",
]

# Rows of a forward where the user does not say: about this many scalars of floating input, or tokens. A CPU computes
# a few images faster than many, whose activations leave its caches: EfficientNet-Lite0 4 at 27 ms each, 32 at 64 to 79.
_SCALARS, _SCALARS_CPU = 1 << 22, 1 << 19
_TOKENS = 1 << 13
_ROWS = (4, 2048)


def rows_per_forward(model: Model, players: Players, perturbations_per_eval: int | None) -> int:
    """Return the most rows of a forward: given by the user for each sample, or by a rule from the inputs' size."""
    if perturbations_per_eval is None:
        tokens, scalars = _sizes(players)
        device = model.device or players.inputs[0].device
        room = _SCALARS_CPU if device.type == "cpu" else _SCALARS
        rows = min(_TOKENS // max(tokens, 1), room // max(scalars, 1))
        return min(max(rows, _ROWS[0]), _ROWS[1])
    check_perturbations(perturbations_per_eval)
    return int(perturbations_per_eval) * len(players)


def check_perturbations(perturbations_per_eval: Any) -> None:
    """Check that ``perturbations_per_eval`` is None or a number of masks."""
    if perturbations_per_eval is None:
        return
    if not is_whole(perturbations_per_eval):
        raise TypeError(f"perturbations_per_eval must be an int or None; got {perturbations_per_eval!r}")
    if perturbations_per_eval < 1:
        raise ValueError(f"perturbations_per_eval must be at least 1; got {perturbations_per_eval}")


def _sizes(players: Players) -> tuple[int, int]:
    """Return the numbers of tokens and of other scalars that the forward function gets of a sample."""
    one = tuple(x[:1] for x in players.inputs)
    given = one if players.decode is None else players.decode(one)
    parts = list(given.values()) if isinstance(given, Mapping) else list(given)
    # A table's columns, whatever they hold; the pixels of an image, the letters of a text.
    tokens = sum(x.numel() for x in parts if isinstance(x, Tensor) and not x.is_floating_point())
    rest = [x for x in parts if not isinstance(x, Tensor)]
    sizes = [len(x[0]) if isinstance(x, list) and isinstance(x[0], str) else np.size(x) for x in rest]
    return tokens, sum(x.numel() for x in parts if isinstance(x, Tensor) and x.is_floating_point()) + sum(sizes)


def check_sizes(players: Players) -> None:
    """Check that no sample has more players than can be evaluated."""
    n = max(players.sizes)
    if n <= MAX_PLAYERS:
        return
    bytes_needed = f"{8 * 2**n:.3g} bytes" if n < 1000 else f"8 * 2^{n} bytes"
    suggested = max(4000, 100 * n)
    raise ValueError(
        f"sample {players.sizes.index(n)} has n = {n} players: its table would hold 2^{n} values ({bytes_needed}), "
        f"each one forward; at most n = {MAX_PLAYERS} are evaluated. Give attribute n_samples={suggested}, the masks "
        "to sample, let select_players(model, players, k=12) choose the strongest, group scalars by feature_mask, or "
        "leave some words or patches as background (id -1)"
    )


def check_whole_batch(players: Players, perturbations_per_eval: int | None, layers: Sequence[Layer]) -> None:
    """Check that a forward with one value for the whole batch can be evaluated: all samples are masked alike."""
    if layers:
        raise ValueError(
            f"the forward gives one value for the whole batch, and layer {layers[0].label!r} is read row by row: use a "
            "forward that gives a row a sample"
        )
    if not all(bool((owner == owner[:1]).all()) for owner in players.owners):
        raise ValueError(
            "the forward gives one value for the whole batch, so the players must be the same in all samples: give "
            f"a feature_mask whose first dimension is 1; got samples with {some_of(players.sizes)} players"
        )
    if perturbations_per_eval not in (None, 1):
        raise ValueError(
            "the forward gives one value for the whole batch, so masks cannot share a forward: use "
            f"perturbations_per_eval=1; got {perturbations_per_eval}"
        )
