"""Precision of the matrix products that a forward computes, whatever dtype it returns."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["WatchedProducts"]

_PRODUCTS: Final = ("mm", "mv", "dot", "conv", "linear", "matmul", "attention", "transformer", "rnn", "lstm", "gru")
"""Parts of the names of operations that sum products."""


class WatchedProducts(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Context in which the dtypes of matrix products, convolutions and attentions are noted.

    An autocast inside a function is seen here, and neither in its parameters nor in what it returns.

    Attributes:
        dtypes: Those of the products so far.

    Example:
        >>> def forward(x):
        ...     with torch.autocast("cpu", torch.bfloat16):
        ...         return (x @ x).float()
        >>> with WatchedProducts() as watched:
        ...     forward(torch.ones(2, 2)).dtype
        torch.float32
        >>> watched.dtypes
        {torch.bfloat16}
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.dtypes: set[torch.dtype] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Note the dtypes of one operation, and run it."""
        if any(part in func.__name__ for part in _PRODUCTS):
            self.dtypes |= {x.dtype for x in args if isinstance(x, Tensor) and x.is_floating_point()}
        return func(*args, **(kwargs or {}))
