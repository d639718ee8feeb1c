"""Made-up inputs of a Hugging Face model, on which its head is watched and a logit lens is tried."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor

from captum_lkn.models.arguments import Arguments
from captum_lkn.models.hugging_face.facts import (
    closing_tokens,
    image_shape,
    number_of_positions,
    padding_token,
    takes_token_ids,
    vocabulary_size,
)
from captum_lkn.models.hugging_face.head import pools_at_last_token, reads_last_position

__all__ = ["made_up_inputs"]

_ROWS: Final = 3  # texts
_LENGTH: Final = 6  # tokens of the longest text; the others have 4 and 2
_WORDS: Final = 64


def made_up_inputs(model: Any) -> tuple[Arguments, Arguments] | None:
    """Make up inputs: one token or image, and a batch of different ones, in which texts differ in length.

    Args:
        model: The model, without wrappers.

    Returns:
        None for a model that takes neither token ids nor images of a known size.
    """
    weight = next(model.parameters())
    if takes_token_ids(model):
        # Neither the padding token nor an end token, by which a head may find its place.
        special = {padding_token(model), *closing_tokens(model)}
        usable = [token for token in range(min(vocabulary_size(model), _WORDS)) if token not in special]
        limit = number_of_positions(model) or _LENGTH
        ids = [usable[(7 * place + 1) % len(usable)] for place in range(_ROWS * _LENGTH)]
        rows = [ids[_LENGTH * row :][: max(1, min(_LENGTH - 2 * row, limit))] for row in range(_ROWS)]
        return _texts([rows[0][:1]], model, weight.device), _texts(rows, model, weight.device)
    shape = image_shape(model)
    if model.main_input_name != "pixel_values" or shape is None:
        return None
    count = shape[0] * shape[1] * shape[2]
    flat = torch.stack([torch.linspace(-1, 1, count, device="cpu"), torch.linspace(0, 9, count, device="cpu").sin()])
    images = flat.to(weight).reshape(2, *shape)
    return Arguments((images[:1],), ("pixel_values",)), Arguments((images,), ("pixel_values",))


def _texts(rows: Sequence[Sequence[int]], model: Any, device: torch.device) -> Arguments:
    """Return a batch of texts, padded on the right, unless the head reads the last position whatever stands there."""
    longest, pad = max(map(len, rows)), padding_token(model)
    turn = -1 if reads_last_position(model) else 1
    padded = [[*row, *[0 if pad is None else pad] * (longest - len(row))][::turn] for row in rows]
    mask = [([1] * len(row) + [0] * (longest - len(row)))[::turn] for row in rows]
    if pad is None and pools_at_last_token(model):  # it refuses a batch
        padded, mask = padded[:1], mask[:1]
    ids: Tensor = torch.tensor(padded, device=device)
    return Arguments((ids,), ("input_ids",), keywords={"attention_mask": torch.tensor(mask, device=device)})
