"""The token that the head of a Hugging Face model reads."""

from __future__ import annotations

from typing import Any, Final, Literal

from torch import nn

from captum_lkn.models.hugging_face.facts import is_decoder, is_encoder_decoder, is_hugging_face, takes_token_ids

__all__ = ["has_time_first", "pools_at_last_token", "token_read_by_head"]

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
        type(model).__name__.endswith("ForSequenceClassification")
        and not is_encoder_decoder(model)
        and getattr(model.config, "model_type", "") not in _ATTENDS_BOTH_WAYS
        and is_decoder(model)
    )


def has_time_first(model: Any, module: nn.Module) -> bool:
    """Return whether a module inside a Hugging Face model puts out ``[T, R, D]``, as all inside XLNet do."""
    if getattr(getattr(model, "config", None), "model_type", "") not in _TIME_FIRST:
        return False
    return module is not model.base_model and any(module is inner for inner in model.base_model.modules())
