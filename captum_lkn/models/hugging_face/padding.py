"""Padding in the batches of a Hugging Face model: which tokens are real, where a text begins, what padding may answer.

With these a sample's numbers do not depend on its batch-mates.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from typing import Any, Final, Literal

import torch
from torch import Tensor, nn

from captum_lkn.models.hugging_face.facts import (
    first_position,
    is_encoder_decoder,
    is_hugging_face,
    padding_token,
    parameters_of,
    special_tokens,
    takes_token_ids,
)
from captum_lkn.models.wrappers import unwrapped, without_adapter

__all__ = [
    "Tower",
    "mask_of_tower",
    "real_tokens",
    "text_starts",
    "text_without_mask",
    "tower_of",
    "with_position_ids",
    "without_answers_in_padding",
]

Tower = Literal["text", "decoder", "no text"]
"""A part of a Hugging Face model, by its tokens: those of the text, a decoder's own, or those of images or sound."""
_NO_TEXT: Final = ("pixel_values", "input_features", "input_values")


def real_tokens(mask: Any) -> Tensor | None:
    """Return which tokens are real, bool ``[R, T]``, by an attention mask.

    Args:
        mask: ``[R, T]``, not 0 at real tokens; or ``[R, heads, queries, T]``, True or at least 0 where a query sees a
            token (an additive mask holds a large negative number elsewhere). A token that no query sees is padding.

    Returns:
        None where it is neither.

    Example:
        >>> hidden = torch.zeros(1, 1, 3, 3).index_fill(3, torch.tensor([2]), -1e9)
        >>> real_tokens(hidden)
        tensor([[ True,  True, False]])
    """
    if not isinstance(mask, Tensor) or mask.dim() not in (2, 4):
        return None
    if mask.dim() == 2:
        return mask != 0
    seen = mask > -1.0 if mask.is_floating_point() else mask != 0
    return seen.any(2).any(1)


def text_without_mask(model: Any, keywords: Mapping[str, Any]) -> Tensor | None:
    """Return which tokens are a text's own by the padding token at its ends, where there is no attention mask.

    Args:
        model: The model, without wrappers.
        keywords: The arguments of a forward, without a mask of players.

    Returns:
        Bool ``[R, T]``. None where an attention mask is given or not taken, where there are no token ids or no padding
        token, or where a row consists of it.
    """
    ids, pad = keywords.get("input_ids"), padding_token(model)
    taken = takes_token_ids(model) and "attention_mask" in parameters_of(model)
    if not taken or keywords.get("attention_mask") is not None or pad is None:
        return None
    if not isinstance(ids, Tensor) or ids.dim() != 2 or ids.is_floating_point():
        return None
    is_text = ids != pad
    if not bool(is_text.any(1).all()):
        return None
    spare = int(pad in special_tokens(model))  # GPT-2's padding token is its start and its end, too: one is the text's
    index = torch.arange(ids.shape[1], device=ids.device)
    first = text_starts(is_text)[:, None] - spare
    last = (index * is_text).amax(1, keepdim=True) + spare
    return (index >= first) & (index <= last)


def tower_of(model: Any, module: nn.Module) -> Tower:
    """Return the part of a Hugging Face model that a module is of, by the tokens that the part has.

    Args:
        model: Any model, possibly with wrappers.
        module: One of its modules.

    Returns:
        ``"decoder"`` in the decoder of an encoder-decoder, whose tokens are its own; ``"no text"`` in an encoder of
        images or sound; ``"text"`` in all else, and in models that are not of Hugging Face.
    """
    model = without_adapter(unwrapped(model))
    if not is_hugging_face(model):
        return "text"
    towers = _modules_around(model, module)
    if any(part is not model and _takes_no_text(part) for part in towers):
        return "no text"
    decoder = getattr(model.base_model, "decoder", None)
    return "decoder" if is_encoder_decoder(model) and any(part is decoder for part in towers) else "text"


def mask_of_tower(tower: Tower, model: Any, keywords: Mapping[str, Any], mask: Tensor | None) -> Tensor | None:
    """Return which tokens of a module's output are real: a decoder and an encoder of images have tokens of their own.

    Args:
        tower: The part that the module is of, by :func:`tower_of`.
        model: Any model, possibly with wrappers.
        keywords: The arguments of the forward.
        mask: The real tokens of the text, bool ``[R, T]``, by ``attention_mask``; None: all.

    Returns:
        Bool ``[R, T]``; None: all are real.
    """
    if tower != "decoder":
        return mask if tower == "text" else None
    given, ids = keywords.get("decoder_attention_mask"), keywords.get("decoder_input_ids")
    if given is not None:
        return real_tokens(given)
    if isinstance(ids, Tensor):
        pad = padding_token(without_adapter(unwrapped(model)))  # it may also be the first token
        return None if pad is None else (ids != pad).flip(1).to(torch.uint8).cummax(1)[0].flip(1).bool()
    if mask is None or keywords.get("decoder_inputs_embeds") is not None:
        return None
    return torch.cat([torch.ones_like(mask[:, :1]), mask[:, :-1]], 1)  # the text itself, one place further right


def _modules_around(model: nn.Module, module: nn.Module) -> list[nn.Module]:
    """Return a module and all that contain it, under each of its names."""
    named = dict(model.named_modules(remove_duplicate=False))
    paths = [name.split(".") if name else [] for name, one in named.items() if one is module]
    return [named[".".join(path[:length])] for path in paths for length in range(len(path) + 1)]


def _takes_no_text(module: nn.Module) -> bool:
    names = inspect.signature(module.forward).parameters
    return any(name in names for name in _NO_TEXT) and "input_ids" not in names and "attention_mask" not in names


def text_starts(mask: Tensor) -> Tensor:
    """Return the position of each text's first token, int64 ``[R]``, by a mask ``[R, T]`` that is not 0 at tokens."""
    return (mask != 0).to(torch.uint8).argmax(1)


def with_position_ids(model: Any, keywords: Mapping[str, Any], unmasked: Mapping[str, Tensor]) -> Mapping[str, Any]:
    """Return arguments with ``position_ids`` that begin at the first token of texts with padding on the left.

    A model with absolute positions (GPT-2) counts padding otherwise, so that its answer depends on the length of the
    longest text in the batch. Models that derive positions from the padding token (RoBERTa) need none.

    Args:
        model: The model, without wrappers and without an adapter.
        keywords: The arguments of a forward.
        unmasked: By keyword, the masked inputs without a mask: a word that is removed moves no other one.

    Returns:
        The same arguments where no text is padded on the left, or the model takes no ``position_ids``.
    """
    mask = unmasked.get("attention_mask", keywords.get("attention_mask"))
    if not isinstance(mask, Tensor) or mask.dim() != 2 or bool((mask[:, 0] != 0).all()):
        return keywords
    takes = takes_token_ids(model) and "position_ids" in parameters_of(model) and not is_encoder_decoder(model)
    if not takes or keywords.get("position_ids") is not None or first_position(model) != 0:
        return keywords
    positions = torch.arange(mask.shape[1], device=mask.device) - text_starts(mask)[:, None]
    return {**keywords, "position_ids": positions.clamp_min(0)}


def without_answers_in_padding(returned: Any, keywords: Mapping[str, Any], unmasked: Mapping[str, Tensor]) -> Any:
    """Return the output of a model that answers questions, with -inf for padding, where no answer begins or ends.

    Args:
        returned: By the model. Without ``start_logits`` and ``end_logits`` it is returned as it is.
        keywords: The arguments of the forward.
        unmasked: By keyword, the masked inputs without a mask.

    Returns:
        The same kind of output.
    """
    ends = [getattr(returned, name, None) for name in ("start_logits", "end_logits")]
    real = real_tokens(unmasked.get("attention_mask", keywords.get("attention_mask")))
    if real is None or bool(real.all()):
        return returned
    answered = copy.copy(returned)
    for name, end in zip(("start_logits", "end_logits"), ends, strict=True):
        if not isinstance(end, Tensor) or end.shape != real.shape:
            return returned
        answered[name] = end.masked_fill(~real.to(end.device), -torch.inf)
    return answered
