"""Inputs that a Hugging Face model has no weights for, refused before they reach it.

On a GPU such an input ends the process.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from captum_lkn._common.messages import shape_of
from captum_lkn.models.hugging_face.facts import (
    number_of_channels,
    number_of_positions,
    number_of_token_types,
    parameters_of,
    token_embedding,
)

__all__ = ["Limits"]


class Limits:
    """The limits of one model's inputs.

    Args:
        model: The model, without wrappers and without an adapter.
        name: Its name in errors.
    """

    def __init__(self, model: Any, name: str) -> None:
        self.model = model
        self.name = name

    def check(self, keywords: Mapping[str, Any]) -> None:
        """Refuse arguments that the model has no weights for.

        Args:
            keywords: The arguments of a forward.

        Raises:
            ValueError: Token ids or types beyond their tables, more tokens than positions, a row whose attention mask
                shows no token, images with another number of channels.
        """
        ids, embeds = keywords.get("input_ids"), keywords.get("inputs_embeds")
        if isinstance(ids, Tensor) and not ids.is_floating_point() and ids.numel():
            self._check_ids(ids)
        self._check_token_types(keywords.get("token_type_ids"))
        if keywords.get("position_ids") is None:
            # The last dimension, or that before the features: multiple choice has [B, choices, tokens].
            if isinstance(ids, Tensor) and ids.dim() > 1:
                self._check_length(ids.shape[-1])
            elif isinstance(embeds, Tensor) and embeds.dim() > 2:
                self._check_length(embeds.shape[-2])
        mask = keywords.get("attention_mask")
        if isinstance(mask, Tensor) and mask.dim() == 2 and not bool((mask != 0).any(1).all()):
            raise ValueError(
                "the attention mask of a masked copy shows no token, and nothing is left to read: keep one word at "
                "least as background, such as by words=, or replace absent words by a token, with baseline="
            )
        pixels = keywords.get("pixel_values")
        if isinstance(pixels, Tensor) and pixels.dim() == 4:
            self._check_channels(pixels)

    def _check_ids(self, ids: Tensor) -> None:
        size = getattr(self._embedding, "num_embeddings", None)
        if size is None:
            return
        low, high = (int(end) for end in torch.aminmax(ids))
        if low < 0 or high >= size:
            raise ValueError(
                f"input_ids must be from 0 to {size - 1}, the tokens of {self.name}; got {low} to {high}: the "
                "tokenizer, or the baseline, belongs to another model. Load model and tokenizer from one checkpoint"
            )

    def _check_token_types(self, types: Any) -> None:
        size = self.token_types
        if size is None or not isinstance(types, Tensor) or not types.numel():
            return
        low, high = (int(end) for end in torch.aminmax(types))
        if low < 0 or high >= size:
            raise ValueError(
                f"token_type_ids must be from 0 to {size - 1}, the kinds of token of {self.name}; got {low} to "
                f"{high}: leave token_type_ids out, or give a model that was trained on pairs of texts"
            )

    def _check_length(self, length: int) -> None:
        limit = self._positions
        if limit is not None and length > limit:
            raise ValueError(
                f"the input has {length} tokens, and {self.name} has {limit} positions: shorten the text; nothing is "
                "truncated here"
            )

    def _check_channels(self, pixels: Tensor) -> None:
        channels = number_of_channels(self.model)
        if channels is not None and pixels.shape[1] != channels:
            raise ValueError(
                f"pixel_values is {shape_of(pixels)}, and {self.name} takes images of {channels} channels: give "
                f"[B, {channels}, height, width], as the model's image processor does"
            )

    def explain(self, error: ValueError, keywords: Mapping[str, Any]) -> ValueError | None:
        """Return a clearer error for an image of another size than the model was made for.

        Args:
            error: The error of the forward.
            keywords: The arguments of the forward.

        Returns:
            An error with the way out; None where the image is not the cause.
        """
        pixels = keywords.get("pixel_values")
        size = getattr(self._vision, "image_size", None)
        if not isinstance(pixels, Tensor) or size is None:
            return None
        wanted = [size, size] if isinstance(size, int) else list(size)
        if list(pixels.shape[-2:]) == wanted:
            return None
        interpolate = (
            ', or give additional_forward_args={"interpolate_pos_encoding": True}'
            if "interpolate_pos_encoding" in parameters_of(self.model)
            else ""
        )
        return ValueError(
            f"pixel_values is {shape_of(pixels)}, and {self.name} was made for images of {wanted}: resize them, as "
            f"the model's image processor does{interpolate} (the model says: {error})"
        )

    @property
    def _vision(self) -> Any:
        """The configuration of the part that takes images."""
        return getattr(self.model.config, "vision_config", self.model.config)

    @functools.cached_property
    def _embedding(self) -> Any:
        return token_embedding(self.model)

    @functools.cached_property
    def token_types(self) -> int | None:
        """The size of the model's table of token types; None where there is none."""
        return number_of_token_types(self.model)

    @functools.cached_property
    def _positions(self) -> int | None:
        return number_of_positions(self.model)
