"""Checks of what users give. They take anything, so that a type checker does not call them redundant."""

from __future__ import annotations

import numbers
from typing import Any

import torch
from torch import Tensor

__all__ = ["is_floating", "is_number", "is_tensor_of", "is_whole"]


def is_whole(value: Any) -> bool:
    """Return True for an int of Python or NumPy, and False for a bool.

    Example:
        >>> is_whole(3), is_whole(True), is_whole(3.0)
        (True, False, False)
    """
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Return True for a real number of Python or NumPy, and False for a bool.

    Example:
        >>> is_number(3.5), is_number(True), is_number("3.5")
        (True, False, False)
    """
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def is_floating(value: Any) -> bool:
    """Return True for a tensor of a floating dtype.

    Example:
        >>> is_floating(torch.ones(2)), is_floating(torch.ones(2, dtype=torch.int64)), is_floating(1.0)
        (True, False, False)
    """
    return isinstance(value, Tensor) and value.is_floating_point()


def is_tensor_of(value: Any, dtype: torch.dtype) -> bool:
    """Return True for a tensor of this dtype.

    Example:
        >>> is_tensor_of(torch.ones(2, dtype=torch.bool), torch.bool), is_tensor_of([True], torch.bool)
        (True, False)
    """
    return isinstance(value, Tensor) and value.dtype == dtype
