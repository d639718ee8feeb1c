"""Comparison of two computations of the same values, up to rounding."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Precision", "agree", "no_autocast", "precision_in_force"]


class Precision(NamedTuple):
    """Precision of the matrix products of a forward.

    Attributes:
        name: For messages, such as ``"torch.float32"`` or ``"TF32"``.
        eps: The distance from 1 to the next number.
        reduced: Whether it is coarser than float32.
        advice: A way to a higher precision; empty where there is none to give.
    """

    name: str
    eps: float
    reduced: bool = False
    advice: str = ""


_LOW = (torch.float16, torch.bfloat16)
_TF32_EPS = 2.0**-10


def precision_in_force(dtype: torch.dtype, device: torch.device, *, convolutions: bool = False) -> Precision:
    """Return the precision of matrix products: a dtype says little where autocast or TF32 are on.

    Args:
        dtype: The coarsest dtype of parameters and output.
        device: The device of the forward.
        convolutions: Whether the model has convolutions, for which CUDA uses TF32 by default.

    Returns:
        The precision.

    Example:
        >>> precision_in_force(torch.float32, torch.device("cpu")).reduced
        False
        >>> with torch.autocast("cpu", dtype=torch.bfloat16):
        ...     precision_in_force(torch.float32, torch.device("cpu")).name
        'torch.bfloat16 autocast'
    """
    if dtype != torch.float64 and torch.is_autocast_enabled(device.type):
        low = torch.get_autocast_dtype(device.type)
        return Precision(f"{low} autocast", torch.finfo(low).eps, True, "leave torch.autocast")
    if dtype in _LOW:
        return Precision(str(dtype), torch.finfo(dtype).eps, True, "call .float() on the model")
    if not dtype.is_floating_point:
        dtype = torch.float32
    if dtype == torch.float32:
        wanted = torch.get_float32_matmul_precision()
        highest = 'call torch.set_float32_matmul_precision("highest")'
        if device.type == "cuda" and wanted != "highest":
            return Precision("TF32", _TF32_EPS, True, highest)
        if device.type == "cuda" and convolutions and torch.backends.cudnn.allow_tf32:
            return Precision("TF32", _TF32_EPS, True, "set torch.backends.cudnn.allow_tf32 = False")
        if device.type == "cpu" and wanted == "medium":
            return Precision("bfloat16 matrix products", torch.finfo(torch.bfloat16).eps, True, highest)
    return Precision(str(dtype), torch.finfo(dtype).eps)


@contextmanager
def no_autocast() -> Iterator[None]:
    """Compute in the dtypes of the tensors, also inside ``torch.autocast``; usable as a decorator."""
    with ExitStack() as stack:
        for device in ("cpu", "cuda", "mps", "xpu"):
            if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        yield


def agree(some: Tensor, others: Tensor, eps: float) -> bool:
    """Return whether two computations of the same values agree: kernels round differently at other batch sizes.

    Args:
        some: ``[R, ...]``.
        others: The same values, computed in another way.
        eps: The rounding unit of the forward; a hundred of them are allowed, at most 2 %.

    Returns:
        True if they differ by no more than rounding; False if one of them is NaN.

    Example:
        >>> values, eps = torch.tensor([0.0, 1.0, 2.0]), torch.finfo(torch.float32).eps
        >>> agree(values, values + 1e-6, eps), agree(values, values + 0.1, eps)
        (True, False)
    """
    allowed = 1e-3 * (some.amax(0) - some.amin(0)) + min(100 * eps, 0.02) * some.abs().amax(0)
    return bool(((some - others).abs().amax(0) <= allowed).all())
