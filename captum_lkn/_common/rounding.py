"""Comparison of two computations of the same values, up to rounding."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["agree"]


def agree(some: Tensor, others: Tensor, dtype: torch.dtype) -> bool:
    """Return whether two computations of the same values agree: kernels round differently at other batch sizes.

    Args:
        some: ``[R, ...]``.
        others: The same values, computed in another way.
        dtype: The dtype of the forward; differences of some units in its last place are allowed.

    Returns:
        True if they differ by no more than rounding; False if one of them is NaN.

    Example:
        >>> values = torch.tensor([0.0, 1.0, 2.0])
        >>> agree(values, values + 1e-6, torch.float32), agree(values, values + 0.1, torch.float32)
        (True, False)
    """
    eps = torch.finfo(dtype if dtype.is_floating_point else torch.float32).eps
    allowed = 1e-3 * (some.amax(0) - some.amin(0)) + min(100 * eps, 0.02) * some.abs().amax(0)
    return bool(((some - others).abs().amax(0) <= allowed).all())
