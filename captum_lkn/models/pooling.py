"""Pooling: from a layer's output to one row of numbers a sample.

============= ===================================== ==================================================
pool          ``[R, T, D]`` (tokens)                ``[R, C, H, W]`` and the like
============= ===================================== ==================================================
``"flatten"`` ``[R, T * D]``                        ``[R, C * H * W]``
``"mean"``    the mean over the real tokens         the mean over space, ``[R, C]``
``"cls"``     the first token                       refused
``"last"``    the last real token                   refused
a function    its result, ``[R, D]``                the same
``"auto"``    as the model's head takes tokens,     flattened; the mean over space where that would be
              see below                             over 2^16 numbers
============= ===================================== ==================================================

Where the output that is explained is one token's, ``"auto"`` reads that token. Else it does what the model's head does,
as one forward shows: it takes the first token, the last, a mean, or several of these side by side (see
:mod:`captum_lkn.models.head_pooling`). ``[R, D]`` stays as it is. Padding never counts: a token is real where the
attention mask is not 0. Convolutions over one dimension put out maps ``[R, C, T]``; ``"cls"``, ``"last"``, and
``"auto"`` where the head takes tokens, read them as T tokens.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias, get_args

import torch
from torch import Tensor

from captum_lkn._common.checks import is_one_of
from captum_lkn._common.messages import kind_of, shape_of

__all__ = [
    "LAMBDA",
    "Named",
    "Part",
    "Pool",
    "RememberedFunction",
    "check_pool",
    "is_same_function",
    "name_of",
    "pooled",
]

Named = Literal["auto", "flatten", "mean", "cls", "last"]
Pool: TypeAlias = Named | Callable[[Tensor], Tensor]
"""A pooling, from a layer's output ``[R, ...]`` to a feature ``[R, D]``."""

Part: TypeAlias = str | Tensor
"""Tokens that a head reads: one of ``"cls"``, ``"last"``, ``"very last"``, ``"mean"``, ``"rest"`` (the mean over all
but the first) and ``"flatten"``, the name of a known place, or weights ``[T]``."""

_MOST_FLAT = 1 << 16
_NO_PLACES: Final[Mapping[str, Tensor]] = MappingProxyType({})

LAMBDA: Final = "<lambda>"
"""The name of every lambda, which tells none from another."""


def check_pool(pool: Any) -> None:
    """Check a pooling.

    Args:
        pool: A name or a function.

    Raises:
        ValueError: It is neither.
    """
    if not callable(pool) and not is_one_of(pool, get_args(Named)):
        raise ValueError(f"pool must be one of {', '.join(get_args(Named))}, or a function; got {pool!r}")


def name_of(function: Callable[..., Any]) -> str:
    """Return the name under which a function is recorded."""
    while isinstance(function, functools.partial):
        function = function.func
    return str(getattr(function, "__name__", type(function).__name__))


class RememberedFunction:
    """Placeholder for a function of which a file holds the name.

    Args:
        name: The name.
    """

    def __init__(self, name: str) -> None:
        self.__name__ = name

    def __call__(self, output: Any) -> Tensor:
        """Raise an error: the function itself is needed.

        Raises:
            ValueError: Always.
        """
        raise ValueError(
            f"the layer was read by the function {self.__name__!r}, and the file holds its name only. Give the "
            "layer with the function itself"
        )


def is_same_function(one: Any, other: Any) -> bool:
    """Return whether two functions are the same; where a file holds the name of one, whether their names are.

    A lambda out of a file is not taken for any other, since all have one name.

    Example:
        >>> is_same_function(torch.sum, torch.sum), is_same_function(lambda x: x, lambda x: -x)
        (True, False)
        >>> is_same_function(RememberedFunction("sum"), torch.sum)
        True
    """
    if isinstance(one, RememberedFunction) or isinstance(other, RememberedFunction):
        return one is other or (name_of(one) == name_of(other) != LAMBDA)
    return bool(one == other)  # bound methods are made anew at each use, and are equal


def pooled(
    output: Tensor,
    pool: Pool,
    tokens: Sequence[Part],
    mask: Tensor | None,
    *,
    explained: Tensor | None = None,
    places: Mapping[str, Tensor] = _NO_PLACES,
    channels_second: bool = False,
    where: str,
) -> Tensor:
    """Pool a layer's output to one feature a row.

    Args:
        output: A layer's output, ``[R, ...]``.
        pool: The pooling.
        tokens: The meaning of ``"auto"`` for ``[R, T, D]``: what the head takes, side by side; empty where that is
            not known, and all of ``[R, C, T]`` is taken.
        mask: The attention mask, ``[R, T]``; None means that all tokens are real.
        explained: Bool ``[R, T]``, for each row the token whose output is explained, which ``"auto"`` then takes; None
            where the model has one output for all tokens.
        places: Known places by name, each bool ``[R, T]``, with one token in each row.
        channels_second: Whether the output is ``[R, C, T]``, if it has three dimensions.
        where: The layer's name in an error.

    Returns:
        ``[R, D]``.

    Raises:
        TypeError: A function returned no tensor.
        ValueError: The output has no such tokens, or the attention mask does not fit it.

    Example:
        >>> output = torch.tensor([[[1.0], [3.0], [9.0]]])
        >>> pooled(output, "mean", ["mean"], torch.tensor([[1, 1, 0]]), where="layer 'block'")
        tensor([[2.]])
    """
    if callable(pool):
        feature: Any = pool(output)
        if not isinstance(feature, Tensor):
            raise TypeError(f"pool of {where} returned {kind_of(feature)}: it must return a tensor [R, D]")
        if feature.dim() != 2 or len(feature) != len(output):
            raise ValueError(
                f"pool of {where} made {shape_of(feature)} of {shape_of(output)}: it must return [R, D], a row of "
                "numbers for each of the R rows"
            )
        return feature
    if output.dim() <= 2:
        return output.reshape(len(output), -1)
    if output.dim() == 3:
        each = output.transpose(1, 2) if channels_second else output
        if pool == "auto" and explained is not None and explained.shape == each.shape[:2]:
            return each[explained.to(output.device)]
        parts: Sequence[Part] = tokens if pool == "auto" else [pool]
        if not parts:
            parts = ["flatten" if output[0].numel() <= _MOST_FLAT else "mean"]
        if list(parts) == ["flatten"]:
            _refuse_padding(mask, where)
            return output.flatten(1)
        return torch.cat([_pooled_tokens(each, part, mask, places, where) for part in parts], 1)
    if pool == "auto":
        pool = "flatten" if math.prod(output.shape[1:]) <= _MOST_FLAT else "mean"
    if pool == "flatten":
        return output.flatten(1)
    if pool == "mean":
        return output.flatten(2).mean(2)
    raise ValueError(
        f"pool={pool!r} needs tokens [R, T, D]; {where} puts out {shape_of(output)}: give 'flatten' or 'mean'"
    )


def _refuse_padding(mask: Tensor | None, where: str) -> None:
    if mask is not None and not bool(mask.all()):
        raise ValueError(f"pool='flatten' would count padding, which {where} has here: give 'mean', 'cls' or 'last'")


def _pooled_tokens(output: Tensor, pool: Part, mask: Tensor | None, places: Mapping[str, Tensor], where: str) -> Tensor:
    if isinstance(pool, Tensor):
        return torch.einsum("rtd,t->rd", output, pool.to(output))
    if pool == "cls":
        return output[:, 0]
    if pool == "very last":
        return output[:, -1]
    if pool in places and places[pool].shape == output.shape[:2]:
        return output[places[pool].to(output.device)]
    if mask is not None and mask.shape != output.shape[:2]:
        if not bool(mask.all()):
            raise ValueError(
                f"{where} puts out {shape_of(output)}, and the attention mask is {shape_of(mask)}: which of its tokens "
                "are padding is not known; give a function as pool"
            )
        mask = None
    real = torch.ones_like(output[..., 0], dtype=torch.bool) if mask is None else mask.to(output.device) > 0
    if pool != "mean" and pool != "rest":  # the last real one, also for a place that is not known here
        index = torch.arange(1, output.shape[1] + 1, device=output.device)
        return output[torch.arange(len(output), device=output.device), (index * real).argmax(1)]
    if pool == "rest" and output.shape[1] > 1:
        output, real = output[:, 1:], real[:, 1:]
    # Selected, not multiplied, since padding may hold anything; summed in float32 at least, since float16 overflows.
    dtype = output.dtype if output.is_floating_point() else torch.get_default_dtype()
    kept = output.masked_fill(~real[..., None], 0)
    total = kept.sum(1, dtype=torch.promote_types(dtype, torch.float32))
    return (total / real.sum(1, keepdim=True).clamp_min(1)).to(dtype)
