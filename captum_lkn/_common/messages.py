"""Parts of messages: a thing's kind and shape, a count with its noun, the first few of many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

__all__ = ["SHOWN", "count_of", "dtype_of", "kind_of", "shape_of", "some_of"]

SHOWN = 8
"""How many ids, labels or samples a message names before it says how many more there are."""


def dtype_of(x: Tensor) -> str:
    return str(x.dtype).removeprefix("torch.")


def shape_of(x: Tensor) -> str:
    return str(list(x.shape))


def kind_of(thing: Any) -> str:
    """A tensor's dtype and shape, another thing's type: for messages."""
    return f"{dtype_of(thing)} {shape_of(thing)}" if isinstance(thing, Tensor) else f"a {type(thing).__name__}"


def count_of(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def some_of(things: Sequence[Any], separator: str = ", ") -> str:
    """The first few, and how many more there are."""
    more = [f"and {len(things) - SHOWN} more"] if len(things) > SHOWN else []
    return separator.join([*map(str, things[:SHOWN]), *more])
