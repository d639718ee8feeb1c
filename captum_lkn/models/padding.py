"""Padding masks of a forward, whose meaning is known: which tokens of a layer's output are real.

There are two: an argument ``attention_mask``, and the padding masks of torch's own transformer modules, seen when they
are called. Others are found by :mod:`captum_lkn.models.unnamed_padding`.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn

from captum_lkn._common.messages import shape_of
from captum_lkn.models.hugging_face.padding import real_tokens

__all__ = ["PaddingMasks", "argument_names", "attention_mask", "masked_modules"]

# The parameter that holds a module's padding mask, and its place among the positional arguments.
_PADDING: Final[Mapping[type[nn.Module], tuple[str, int]]] = {
    nn.Transformer: ("src_key_padding_mask", 5),
    nn.TransformerEncoder: ("src_key_padding_mask", 2),
    nn.TransformerEncoderLayer: ("src_key_padding_mask", 2),
    nn.TransformerDecoder: ("tgt_key_padding_mask", 4),
    nn.TransformerDecoderLayer: ("tgt_key_padding_mask", 4),
    nn.MultiheadAttention: ("key_padding_mask", 3),
}
_DECODERS: Final = (nn.TransformerDecoder, nn.TransformerDecoderLayer)


def masked_modules(root: nn.Module | None) -> tuple[nn.Module, ...]:
    """Return the modules of torch that may be given a padding mask."""
    return () if root is None else tuple(m for m in root.modules() if isinstance(m, tuple(_PADDING)))


def attention_mask(function: Any, positional: Sequence[Any], keywords: Mapping[str, Any], rows: int) -> Tensor | None:
    """Return the real tokens, bool ``[R, T]``, of a forward that takes an ``attention_mask``; else None."""
    named = dict(zip(argument_names(function), positional, strict=False)) | dict(keywords)
    mask = real_tokens(named.get("attention_mask"))
    return mask.expand(rows, -1) if mask is not None and len(mask) == 1 else mask


class PaddingMasks:
    """Padding masks that modules of torch were given in one forward."""

    def __init__(self) -> None:
        self._masks: dict[nn.Module, Tensor] = {}

    def see(self, module: nn.Module, positional: Sequence[Any], keywords: Mapping[str, Any]) -> None:
        """Take the padding mask out of the arguments of a module from :func:`masked_modules`."""
        name, place = next(found for kind, found in _PADDING.items() if isinstance(module, kind))
        mask = keywords.get(name, positional[place] if len(positional) > place else None)
        tokens = positional[0] if positional else next(iter(keywords.values()), None)
        if isinstance(module, nn.MultiheadAttention) and _key(positional, keywords) is not tokens:
            return  # the mask is that of other tokens than those that it puts out
        if isinstance(mask, Tensor) and mask.dim() == 2:
            self._masks[module] = mask == 0  # True, or minus infinity, is padding
        elif isinstance(module, _DECODERS) and isinstance(tokens, Tensor) and tokens.dim() == 3:
            layer: Any = module.layers[0] if isinstance(module, nn.TransformerDecoder) else module
            rows = tokens if layer.self_attn.batch_first else tokens.transpose(0, 1)
            self._masks[module] = torch.ones_like(rows[..., 0], dtype=torch.bool)  # and not the encoder's

    def around(self, module: nn.Module, output: Tensor) -> Tensor | None:
        """Return the real tokens by the mask of the innermost module around a layer; see :meth:`beside`."""
        fitting = [owner for owner, mask in self._masks.items() if mask.shape == output.shape[:2]]
        around = [owner for owner in fitting if any(inner is module for inner in owner.modules())]
        return self._masks[min(around, key=lambda owner: len(list(owner.modules())))] if around else None

    def beside(self, output: Tensor, where: str) -> Tensor | None:
        """Return the real tokens, bool ``[R, T]``, of a layer's output ``[R, T, D]``, by the masks of other modules.

        Args:
            output: The layer's output.
            where: Its name in errors.

        Returns:
            None if no module was given a mask of that shape.

        Raises:
            ValueError: Modules were given different masks.
        """
        masks = [mask for mask in self._masks.values() if mask.shape == output.shape[:2]]
        if any(not bool((mask == masks[0]).all()) for mask in masks):
            raise ValueError(
                f"{where} puts out {shape_of(output)}, and the model has several padding masks of that shape: which "
                "of its tokens are padding is not known; give a function as pool"
            )
        return masks[0] if masks else None


def _key(positional: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
    """Return the keys of an attention."""
    return keywords.get("key", positional[1] if len(positional) > 1 else None)


def argument_names(function: Any) -> list[str]:
    """Return the names of a forward's arguments by position; none where they are not known."""
    try:
        called = function.forward if isinstance(function, nn.Module) else function
        return list(inspect.signature(called).parameters)
    except (TypeError, ValueError):  # a builtin
        return []
