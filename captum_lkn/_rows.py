"""The stream of rows that masked evaluation sends through a model, cut into forwards."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Iterator
from typing import TypeAlias

import torch
from torch import Tensor

from captum_lkn.players import Players

Piece: TypeAlias = tuple[int, int, int]
"""A sample, and a range of its subsets."""

# Rows of a forward where the user does not say: about this many scalars of floating input, or tokens.
_SCALARS = 1 << 22
_TOKENS = 1 << 13
_ROWS = (8, 2048)


def count(pieces: list[Piece]) -> int:
    """How many rows they are."""
    return sum(stop - start for _, start, stop in pieces)


def cut(pieces: list[Piece], rows: Callable[[], int]) -> Iterator[list[Piece]]:
    """The same subsets in parts of at most so many; how many is asked anew for each part."""
    part: list[Piece] = []
    room = rows()
    for sample, begin, stop in pieces:
        start = begin
        while start < stop:
            end = min(stop, start + room)
            part.append((sample, start, end))
            room -= end - start
            start = end
            if not room:
                yield part
                part, room = [], rows()
    if part:
        yield part


def samples_of(pieces: list[Piece]) -> Tensor:
    """Which sample each row belongs to."""
    return torch.cat([torch.full((stop - start,), sample) for sample, start, stop in pieces])


def rows_per_forward(players: Players, perturbations_per_eval: int | None) -> int:
    """How many rows a forward has at most: what the user says for each sample, or a rule from the inputs' size."""
    if perturbations_per_eval is None:
        tokens = sum(x[0].numel() for x in players.inputs if not x.is_floating_point())
        scalars = sum(x[0].numel() for x in players.inputs if x.is_floating_point())
        rows = min(_TOKENS // max(tokens, 1), _SCALARS // max(scalars, 1))
        return min(max(rows, _ROWS[0]), _ROWS[1])
    if isinstance(perturbations_per_eval, bool) or not isinstance(perturbations_per_eval, numbers.Integral):
        raise TypeError(f"perturbations_per_eval must be an int or None; got {perturbations_per_eval!r}")
    if perturbations_per_eval < 1:
        raise ValueError(f"perturbations_per_eval must be at least 1; got {perturbations_per_eval}")
    return int(perturbations_per_eval) * len(players)


def out_of_memory(error: RuntimeError) -> bool:
    """Whether an error says that memory has run out, on whatever device."""
    return isinstance(error, torch.cuda.OutOfMemoryError) or any(
        text in str(error).lower() for text in ("out of memory", "can't allocate memory", "not enough memory")
    )
