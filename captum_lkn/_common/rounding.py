"""Comparison of two computations of the same values, up to rounding."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

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
_REDUCED = {"tf32": ("TF32", 2.0**-10), "bf16": ("bfloat16 matrix products", torch.finfo(torch.bfloat16).eps)}
# From torch 2.9 on each backend has a setting, which the older functions set as well.
_BY_NAME = hasattr(torch.backends.cuda.matmul, "fp32_precision")


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
    if dtype == torch.float32:
        setting = _setting_of_products(device.type)
        if setting is None and convolutions and device.type == "cuda":
            setting = _setting_of_cuda_convolutions()
        if setting is not None:
            reduced, older, place = setting
            name, eps = _REDUCED[reduced]
            return Precision(name, eps, True, older if _has_older_settings() else f'set {place} = "ieee"')
    return Precision(str(dtype), torch.finfo(dtype).eps)


class _Setting(NamedTuple):
    """A setting under which float32 is not computed in float32."""

    reduced: str  # a key of _REDUCED
    older: str  # advice to those who use torch's older settings
    place: str  # the attribute that holds it, from torch 2.9 on


def _setting_of_products(device: str) -> _Setting | None:
    """Return the setting under which matrix products are computed in less than float32; None where they are not."""
    backends: Any = torch.backends
    older = 'call torch.set_float32_matmul_precision("highest")'
    if device == "cuda":
        wanted = backends.cuda.matmul.fp32_precision if _BY_NAME else torch.get_float32_matmul_precision()
        place = "torch.backends.cuda.matmul.fp32_precision"
        return _Setting("tf32", older, place) if wanted in ("tf32", "high", "medium") else None
    if device == "cpu":
        wanted = backends.mkldnn.matmul.fp32_precision if _BY_NAME else torch.get_float32_matmul_precision()
        place = "torch.backends.mkldnn.matmul.fp32_precision"
        return _Setting("bf16", older, place) if wanted in ("bf16", "medium") else None
    return None


def _setting_of_cuda_convolutions() -> _Setting | None:
    cudnn: Any = torch.backends.cudnn
    if not (cudnn.conv.fp32_precision == "tf32" if _BY_NAME else cudnn.allow_tf32):
        return None
    return _Setting("tf32", "set torch.backends.cudnn.allow_tf32 = False", "torch.backends.cudnn.conv.fp32_precision")


def _has_older_settings() -> bool:
    """Return whether torch's older settings can be used: reading them fails once ``fp32_precision`` was set."""
    try:
        torch.get_float32_matmul_precision()
        _ = torch.backends.cudnn.allow_tf32
    except RuntimeError:
        return False
    return True


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
