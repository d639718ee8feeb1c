"""The token that the head of a Hugging Face model reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

import torch
from torch import Tensor, nn

from captum_lkn.models.hugging_face.facts import (
    closing_tokens,
    is_decoder,
    is_encoder_decoder,
    is_hugging_face,
    padding_token,
    takes_token_ids,
)

__all__ = [
    "check_padding_side",
    "has_time_first",
    "last_token",
    "pools_at_last_token",
    "reads_last_position",
    "token_places",
    "token_read_by_head",
]

_ATTENDS_BOTH_WAYS: Final = ("xlnet",)  # as a classifier, though its language model predicts next words
_TIME_FIRST: Final = ("xlnet",)
_CLASS_TOKENS: Final = ("cls_token", "class_embedding")


def token_read_by_head(model: Any) -> Literal["cls", "last", "mean"]:
    """Return the pooling that stands for the token a head reads; ``"mean"`` for anything but a Hugging Face model.

    Causal models and those with a decoder read the last real token, text encoders the first. Encoders of images and
    of sound read the first where they have a class token, else the mean.

    Args:
        model: A model without wrappers, or None.
    """
    if not is_hugging_face(model):
        return "mean"
    if not takes_token_ids(model):  # images and sound
        names = [name for name, _ in model.named_parameters()] if isinstance(model, nn.Module) else []
        return "cls" if any(name.endswith(_CLASS_TOKENS) for name in names) else "mean"
    pooling = getattr(model.config, "classifier_pooling", None)  # ModernBERT
    if pooling in ("cls", "mean"):
        return "mean" if pooling == "mean" else "cls"
    return "last" if is_decoder(model) else "cls"


def pools_at_last_token(model: Any) -> bool:
    """Return whether a classifier reads at the last token that is not the padding token, as GPT-2's and Llama's do."""
    return (
        _classifies_sequences(model)
        and not is_encoder_decoder(model)
        and getattr(model.config, "model_type", "") not in _ATTENDS_BOTH_WAYS
        and is_decoder(model)
    )


def _classifies_sequences(model: Any) -> bool:
    """Return whether a model is a classifier of sequences, or derived from one: with a loss of its own, for example."""
    return any(base.__name__.endswith("ForSequenceClassification") for base in type(model).__mro__)


def token_places(model: Any, keywords: Mapping[str, Any], unmasked: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return places in a text at which a head may read, one token in each row, bool ``[R, T]``.

    Args:
        model: A Hugging Face model, without wrappers.
        keywords: The arguments of a forward.
        unmasked: By keyword, the masked inputs without a mask.

    Returns:
        By name: ``"text end"``, where a classifier like GPT-2's reads, the last token that is not padding in the
        unmasked text; ``"end token"``, the first one, and ``"largest id"``, where heads of CLIP's kind read.
    """
    inputs = keywords.get("input_ids")
    inputs = keywords.get("inputs_embeds") if inputs is None else inputs
    if not isinstance(inputs, Tensor) or inputs.dim() < 2:
        return {}
    index = torch.arange(inputs.shape[1], device=inputs.device)
    if pools_at_last_token(model):
        return {"text end": index == last_token(model, keywords, unmasked)[:, None]}
    if inputs.dim() != 2 or inputs.is_floating_point():
        return {}
    found = {"largest id": index == inputs.argmax(1, keepdim=True)}
    ends = torch.isin(inputs, torch.tensor(sorted(closing_tokens(model)), dtype=inputs.dtype, device=inputs.device))
    if bool(ends.any(1).all()):
        found["end token"] = index == ends.to(torch.uint8).argmax(1, keepdim=True)
    return found


def reads_last_position(model: Any) -> bool:
    """Return whether a classifier of sequences reads the last position, padding or not, as XLNet's does."""
    return _classifies_sequences(model) and getattr(model.config, "model_type", "") in _ATTENDS_BOTH_WAYS


def check_padding_side(model: Any, keywords: Mapping[str, Any], unmasked: Mapping[str, Tensor]) -> None:
    """Check that a classifier of sequences does not read padding, whatever its batch-mates are.

    Encoders read the first position, XLNet the last one, padding or not.

    Raises:
        ValueError: A text is padded there.
    """
    mask = unmasked.get("attention_mask", keywords.get("attention_mask"))
    if not isinstance(mask, Tensor) or mask.dim() != 2 or not takes_token_ids(model):
        return
    if not _classifies_sequences(model) or pools_at_last_token(model):
        return
    last = reads_last_position(model)
    if not last and token_read_by_head(model) != "cls":
        return
    if bool((mask[:, -1 if last else 0] == 0).any()):
        side, other = ("right", "left") if last else ("left", "right")
        raise ValueError(
            f"{type(model).__name__} reads the {'last' if last else 'first'} position of a text, which is padding "
            f'here: pad on the {other} instead of the {side}, tokenizer.padding_side = "{other}"'
        )


def last_token(model: Any, keywords: Mapping[str, Any], unmasked: Mapping[str, Tensor]) -> Tensor:
    """Return the position of the last token that is not padding, int64 ``[R]``, in the unmasked text.

    Where tokens are removed by the attention mask, it is the last one that is left. Embeddings, and texts of a model
    without a padding token, end at the last position.

    Args:
        model: A classifier, see :func:`pools_at_last_token`.
        keywords: The arguments of a forward.
        unmasked: By keyword, the masked inputs without a mask.
    """
    ids, pad = keywords.get("input_ids"), padding_token(model)
    if not isinstance(ids, Tensor):
        embeds: Tensor = keywords["inputs_embeds"]
        return torch.full((len(embeds),), embeds.shape[1] - 1, device=embeds.device)
    text = unmasked.get("input_ids", ids)
    real = torch.ones_like(text, dtype=torch.bool) if pad is None else text != pad
    if "attention_mask" in unmasked:
        real = real & (keywords["attention_mask"] != 0)
    return (torch.arange(ids.shape[1], device=ids.device) * real).amax(1)


def has_time_first(model: Any, module: nn.Module) -> bool:
    """Return whether a module inside a Hugging Face model puts out ``[T, R, D]``, as all inside XLNet do."""
    if getattr(getattr(model, "config", None), "model_type", "") not in _TIME_FIRST:
        return False
    return module is not model.base_model and any(module is inner for inner in model.base_model.modules())
