"""Pooling: from what a layer puts out to one row of numbers a sample.

============  ==========================================================================================
pool          ``[R, T, D]`` (tokens)                ``[R, C, H, W]`` and the like
============  ==========================================================================================
``"flatten"`` ``[R, T * D]``                        ``[R, C * H * W]``
``"mean"``    the mean over the real tokens         the mean over space, ``[R, C]``
``"cls"``     the first token, whatever it is       refused
``"last"``    the last real token                   refused
a function    what it makes of it, ``[R, D]``       the same
``"auto"``    of a Hugging Face model the token     flattened; the mean over space where that would be
              that its head reads, else the mean    over 2^16 numbers
============  ==========================================================================================

Where the output that is explained is one token's, ``"auto"`` reads that token. ``[R, D]`` stays as it is. Padding
never counts: a token is real where the attention mask says so, the one mask that is known here.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor

from captum_lkn._common.messages import kind_of, shape_of
from captum_lkn.models.hugging_face import is_decoder, is_hugging_face
from captum_lkn.models.model import Model

__all__ = ["Pool", "check_pool", "name_of", "pooled", "token_read_by_head"]

Named = Literal["auto", "flatten", "mean", "cls", "last"]
Pool: TypeAlias = Named | Callable[[Tensor], Tensor]
"""How a layer's output ``[R, ...]`` becomes a feature ``[R, D]``."""

_MOST_FLAT = 1 << 16


def check_pool(pool: Any) -> None:
    """Check a pooling.

    Args:
        pool: A name or a function.

    Raises:
        ValueError: It is neither.
    """
    if not callable(pool) and pool not in get_args(Named):
        raise ValueError(f"pool must be one of {', '.join(get_args(Named))}, or a function; got {pool!r}")


def name_of(function: Callable[..., Any]) -> str:
    """The name by which a function is remembered."""
    while isinstance(function, functools.partial):
        function = function.func
    return str(getattr(function, "__name__", type(function).__name__))


def pooled(
    output: Tensor, pool: Pool, tokens: Named, mask: Tensor | None, *, explained: Tensor | None = None, where: str
) -> Tensor:
    """The feature of each row.

    Args:
        output: ``[R, ...]``, what a layer puts out.
        pool: How to pool it.
        tokens: What ``"auto"`` means for ``[R, T, D]``; see :func:`token_read_by_head`.
        mask: ``[R, T]``, the attention mask; None: all tokens are real.
        explained: Bool ``[R, T]``, for each row the token whose output is explained, which ``"auto"`` then takes; None
            where the model has one output for all tokens.
        where: What to call the layer in an error.

    Returns:
        ``[R, D]``.

    Raises:
        TypeError: A function returned no tensor.
        ValueError: The output has no such tokens, or the attention mask does not fit it.

    Example:
        >>> output = torch.tensor([[[1.0], [3.0], [9.0]]])
        >>> pooled(output, "mean", "mean", torch.tensor([[1, 1, 0]]), where="layer 'block'")
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
        if pool == "auto" and explained is not None and explained.shape == output.shape[:2]:
            return output[explained.to(output.device)]
        return _pooled_tokens(output, tokens if pool == "auto" else pool, mask, where)
    if pool == "auto":
        pool = "flatten" if math.prod(output.shape[1:]) <= _MOST_FLAT else "mean"
    if pool == "flatten":
        return output.flatten(1)
    if pool == "mean":
        return output.flatten(2).mean(2)
    raise ValueError(
        f"pool={pool!r} needs tokens [R, T, D]; {where} puts out {shape_of(output)}: give 'flatten' or 'mean'"
    )


def _pooled_tokens(output: Tensor, pool: Named, mask: Tensor | None, where: str) -> Tensor:
    if pool == "flatten":
        if mask is not None and not bool(mask.all()):
            raise ValueError(
                f"pool='flatten' would count padding, which {where} has here: give 'mean', 'cls' or 'last'"
            )
        return output.flatten(1)
    if pool == "cls":
        return output[:, 0]
    if mask is not None and mask.shape != output.shape[:2]:
        if not bool(mask.all()):
            raise ValueError(
                f"{where} puts out {shape_of(output)}, and the attention mask is {shape_of(mask)}: which of its tokens "
                "are padding is not known; give a function as pool"
            )
        mask = None
    real = torch.ones_like(output[..., 0], dtype=torch.bool) if mask is None else mask.to(output.device) > 0
    if pool == "last":
        places = torch.arange(1, output.shape[1] + 1, device=output.device)
        return output[torch.arange(len(output), device=output.device), (places * real).argmax(1)]
    # Selected, not multiplied, since padding may hold anything; summed in float32 at least, since float16 overflows.
    dtype = output.dtype if output.is_floating_point() else torch.get_default_dtype()
    kept = output.masked_fill(~real[..., None], 0)
    total = kept.sum(1, dtype=torch.promote_types(dtype, torch.float32))
    return (total / real.sum(1, keepdim=True).clamp_min(1)).to(dtype)


def token_read_by_head(model: Model) -> Named:
    """What ``"auto"`` means for tokens: in a Hugging Face model the token that a head reads, else the mean.

    Causal models and those with a decoder read the last real token, encoders of texts the first; encoders of images
    and of sound the first where they have a class token.

    Args:
        model: Any.

    Returns:
        ``"cls"``, ``"last"`` or ``"mean"``.
    """
    # Also the model inside a function of it, such as a continuation's.
    function: Any = model.eager.forward_func if model.is_hugging_face else model.module
    if not is_hugging_face(function):
        return "mean"
    config = function.config
    if getattr(function, "main_input_name", "") != "input_ids":  # images and sound
        names = (name for name, _ in model.module.named_parameters()) if model.module is not None else ()
        return "cls" if any(name.endswith(("cls_token", "class_embedding")) for name in names) else "mean"
    if (pooling := getattr(config, "classifier_pooling", None)) in ("cls", "mean"):  # ModernBERT
        return "mean" if pooling == "mean" else "cls"
    return "last" if is_decoder(config) else "cls"
