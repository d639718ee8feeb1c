"""Padding masks of a forward, under any name: which tokens of a layer's output are real.

Two sources are known: an argument ``attention_mask``, and the padding masks of torch's own transformer modules, seen
when they are called. An argument whose name speaks of a mask, and whose meaning is not known, is refused
where padding would count.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Final

from torch import Tensor, nn

from captum_lkn._common.messages import shape_of
from captum_lkn.models.hugging_face.padding import real_tokens

__all__ = ["PaddingMasks", "attention_mask", "masked_modules", "unknown_mask"]

# The parameter that holds a module's padding mask, and its place among the positional arguments.
_PADDING: Final[Mapping[type[nn.Module], tuple[str, int]]] = {
    nn.Transformer: ("src_key_padding_mask", 5),
    nn.TransformerEncoder: ("src_key_padding_mask", 2),
    nn.TransformerEncoderLayer: ("src_key_padding_mask", 2),
    nn.TransformerDecoder: ("tgt_key_padding_mask", 4),
    nn.TransformerDecoderLayer: ("tgt_key_padding_mask", 4),
    nn.MultiheadAttention: ("key_padding_mask", 3),
}
_WORDS: Final = ("mask", "pad")


def masked_modules(root: nn.Module | None) -> tuple[nn.Module, ...]:
    """Return the outermost modules of torch that may be given a padding mask."""
    found: list[nn.Module] = []
    inside: set[int] = set()
    for module in () if root is None else root.modules():
        if isinstance(module, tuple(_PADDING)) and id(module) not in inside:
            found.append(module)
            inside.update(id(inner) for inner in module.modules())
    return tuple(found)


def attention_mask(function: Any, positional: Sequence[Any], keywords: Mapping[str, Any], rows: int) -> Tensor | None:
    """Return the real tokens, bool ``[R, T]``, of a forward that takes an ``attention_mask``; else None."""
    mask = real_tokens(_named(function, positional, keywords).get("attention_mask"))
    return mask.expand(rows, -1) if mask is not None and len(mask) == 1 else mask


def unknown_mask(function: Any, positional: Sequence[Any], keywords: Mapping[str, Any], length: int) -> str | None:
    """Return the name of an argument that may be a padding mask of `length` tokens, if there is one."""
    for name, value in _named(function, positional, keywords).items():
        named = isinstance(value, Tensor) and any(word in name for word in _WORDS)
        if named and value.shape[1:] == (length,) and bool((value != value[:1, :1]).any()):
            return name
    return None


class PaddingMasks:
    """Padding masks that modules of torch were given in one forward."""

    def __init__(self) -> None:
        self._masks: dict[nn.Module, Tensor] = {}

    def see(self, module: nn.Module, positional: Sequence[Any], keywords: Mapping[str, Any]) -> None:
        """Take the padding mask out of the arguments of a module from :func:`masked_modules`."""
        name, place = next(found for kind, found in _PADDING.items() if isinstance(module, kind))
        mask = keywords.get(name, positional[place] if len(positional) > place else None)
        if isinstance(mask, Tensor) and mask.dim() == 2:
            self._masks[module] = mask == 0  # True, or minus infinity, is padding

    def of(self, module: nn.Module, output: Tensor, where: str) -> Tensor | None:
        """Return the real tokens, bool ``[R, T]``, of a layer's output ``[R, T, D]``.

        Args:
            module: The layer's module. The mask of a module around it comes before others.
            output: Its output.
            where: Its name in errors.

        Returns:
            None if no module was given a mask of that shape.

        Raises:
            ValueError: Modules beside it were given different masks.
        """
        fitting = {owner: mask for owner, mask in self._masks.items() if mask.shape == output.shape[:2]}
        around = [mask for owner, mask in fitting.items() if any(inner is module for inner in owner.modules())]
        masks = around or list(fitting.values())
        if any(not bool((mask == masks[0]).all()) for mask in masks):
            raise ValueError(
                f"{where} puts out {shape_of(output)}, and the model has several padding masks of that shape: which "
                "of its tokens are padding is not known; give a function as pool"
            )
        return masks[0] if masks else None


def _named(function: Any, positional: Sequence[Any], keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a forward by their names."""
    try:
        called = function.forward if isinstance(function, nn.Module) else function
        names = list(inspect.signature(called).parameters)
    except (TypeError, ValueError):  # a builtin has none that are known
        names = []
    return dict(zip(names, positional, strict=False)) | dict(keywords)
