"""Caches of keys and values of `transformers`, and the logits that are read behind them."""

from __future__ import annotations

import inspect
from typing import Any, TypeAlias

from torch import Tensor

__all__ = ["KeysValues", "filled_cache", "kept_logits", "keys_and_values"]

KeysValues: TypeAlias = list[tuple[Tensor, Tensor]]
"""Keys and values of each layer, ``[rows, heads, tokens, size]``."""


def filled_cache(known: KeysValues) -> Any:
    """Return a cache of `transformers` that holds keys and values."""
    from transformers import DynamicCache

    cache = DynamicCache()
    for layer, (keys, values) in enumerate(known):
        cache.update(keys, values, layer)
    return cache


def keys_and_values(cache: Any) -> KeysValues:
    """Return what a cache of `transformers` holds."""
    return [(layer.keys, layer.values) for layer in cache.layers]


def kept_logits(model: Any, keep: Tensor | int, **arguments: Any) -> Tensor:
    """Return the logits of a causal model at some positions, without ``[rows, tokens, vocabulary]`` in memory.

    Args:
        model: A causal model of `transformers`.
        keep: The positions, int64 ``[K]``, or the number of last ones.
        **arguments: The other arguments of its forward.

    Returns:
        ``[rows, K, V]``.
    """
    if "logits_to_keep" in inspect.signature(model.forward).parameters:
        logits: Tensor = model(**arguments, logits_to_keep=keep, return_dict=True).logits
        return logits
    everywhere: Tensor = model(**arguments, return_dict=True).logits
    return everywhere[:, -keep:] if isinstance(keep, int) else everywhere[:, keep]
