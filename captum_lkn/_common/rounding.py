"""Which differences between two computations of the same values are rounding."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["agree"]


def agree(some: Tensor, others: Tensor, dtype: torch.dtype) -> bool:
    """Whether two ways to compute values came to the same: kernels for other shapes round differently.

    Args:
        some: ``[R, ...]``.
        others: The same values, computed in another way.
        dtype: What the forward computes in, some units of whose last place do not count.

    Returns:
        True where they differ by no more than rounding; False also where one is NaN.

    Example:
        >>> values = torch.tensor([0.0, 1.0, 2.0])
        >>> agree(values, values + 1e-6, torch.float32), agree(values, values + 0.1, torch.float32)
        (True, False)
    """
    eps = torch.finfo(dtype if dtype.is_floating_point else torch.float32).eps
    allowed = 1e-3 * (some.amax(0) - some.amin(0)) + min(100 * eps, 0.02) * some.abs().amax(0)
    return bool(((some - others).abs().amax(0) <= allowed).all())
