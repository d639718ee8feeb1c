"""Lack of memory, as Python and torch report it."""

from __future__ import annotations

import torch

__all__ = ["out_of_memory"]

_TEXTS = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that memory has run out, on any device.

    Args:
        error: The error. Python and NumPy raise ``MemoryError``, torch an error of its own on a GPU and a plain
            ``RuntimeError`` on the CPU and in cuBLAS, which only the text tells from others.

    Example:
        >>> out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"))
        True
        >>> out_of_memory(RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"))
        False
    """
    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error).lower() for text in _TEXTS)
