"""Parts of messages: the type and shape of a value, a count with its noun, the first few of many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

__all__ = ["SHOWN", "count_of", "dtype_of", "kind_of", "shape_of", "some_of"]

SHOWN = 8
"""Number of ids, labels or samples that a message names; of more it gives the count."""


def dtype_of(x: Tensor) -> str:
    """Return the name of a tensor's dtype, such as ``float32``."""
    return str(x.dtype).removeprefix("torch.")


def shape_of(x: Tensor) -> str:
    """Return a tensor's shape, such as ``[2, 3]``; rows of a nested tensor have no common one."""
    return f"nested, {x.size(0)} rows" if x.is_nested else str(list(x.shape))


def kind_of(thing: Any) -> str:
    """Return a tensor's dtype and shape, or the type of another value.

    Example:
        >>> import torch
        >>> kind_of(torch.ones(2, 3)), kind_of("text")
        ('float32 [2, 3]', 'a str')
    """
    return f"{dtype_of(thing)} {shape_of(thing)}" if isinstance(thing, Tensor) else f"a {type(thing).__name__}"


def count_of(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless the number is 1."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def some_of(things: Sequence[Any], separator: str = ", ") -> str:
    """Return the first few values, and the number of the others.

    Example:
        >>> some_of(range(10))
        '0, 1, 2, 3, 4, 5, 6, 7, and 2 more'
    """
    more = [f"and {len(things) - SHOWN} more"] if len(things) > SHOWN else []
    return separator.join([*map(str, things[:SHOWN]), *more])
