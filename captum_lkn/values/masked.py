"""Masked copies under given masks, and what a model makes of them.

The steps of an evaluation, which :mod:`captum_lkn.values.tables` takes for all 2^n masks; and those who need few masks
(:mod:`captum_lkn.values.selection`) or gradients (:mod:`captum_lkn.baselines`), which stay on where they are on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TypeAlias

import torch
from torch import Tensor

from captum_lkn._common.messages import kind_of
from captum_lkn.models.model import Arguments, Model
from captum_lkn.outputs.scores import Score
from captum_lkn.outputs.targets import Target
from captum_lkn.players.players import Players

__all__ = ["Batch", "batches", "copies", "outputs", "values"]

Batch: TypeAlias = list[tuple[int, Tensor]]
"""What goes into one forward: samples, each with bool masks ``[M, n]``."""


def batches(masks: Sequence[Tensor], rows: int) -> Iterator[Batch]:
    """Cut the masks of all samples, one stream, into forwards.

    Args:
        masks: For each sample bool ``[M, n]``; M and n may differ.
        rows: At most so many masks in a forward.

    Yields:
        What goes into one forward.

    Example:
        >>> masks = [torch.ones(3, 2, dtype=torch.bool), torch.ones(2, 4, dtype=torch.bool)]
        >>> [[(sample, len(part)) for sample, part in batch] for batch in batches(masks, 4)]
        [[(0, 3), (1, 1)], [(1, 1)]]
    """
    batch: Batch = []
    room = rows
    for sample, waiting in enumerate(masks):
        rest = waiting
        while len(rest):
            part, rest = rest[:room], rest[room:]
            batch.append((sample, part))
            room -= len(part)
            if not room:
                yield batch
                batch, room = [], rows
    if batch:
        yield batch


def copies(players: Players, arguments: Arguments, batch: Batch) -> Arguments:
    """What one forward gets.

    Args:
        players: Who can be absent.
        arguments: The unmasked inputs, and all else the forward gets.
        batch: Which samples, under which masks.

    Returns:
        The arguments of the masked copies, one row a mask.
    """
    parts = [players.masked(sample, masks) for sample, masks in batch]
    inputs = tuple(torch.cat(rows) for rows in zip(*parts, strict=True))
    return replace(arguments, inputs=inputs, unmasked=players.inputs).rows(_samples(batch), len(players))


def outputs(model: Model, players: Players, arguments: Arguments, batch: Batch) -> Tensor:
    """One forward.

    Args:
        model: What to call, inside its ``session()``.
        players: Who can be absent.
        arguments: The unmasked inputs, and all else the forward gets.
        batch: Which samples, under which masks.

    Returns:
        The output, one row a mask.

    Raises:
        ValueError: The forward returned another number of rows.
    """
    given = copies(players, arguments, batch)
    output, rows = model(given), len(given.inputs[0])
    if output.dim() == 0 or len(output) != rows:
        raise ValueError(
            f"the forward of {rows} masked copies returned {kind_of(output)}: expected one row a copy; give a "
            "forward that answers row by row"
        )
    return output


def values(model: Model, players: Players, arguments: Arguments, target: Target, score: Score, batch: Batch) -> Tensor:
    """One forward, and the score of each of its rows.

    Args:
        model: As in :func:`outputs`, like the next two.
        players: Who can be absent.
        arguments: The unmasked inputs, and all else the forward gets.
        target: Which output is scored.
        score: From outputs and targets to values.
        batch: Which samples, under which masks.

    Returns:
        Float64 ``[R]`` on the CPU, in the order of the batch.

    Raises:
        TypeError: The score returns something else than a tensor.
        ValueError: The forward returned another number of rows, or the score another shape.
    """
    output = outputs(model, players, arguments, batch)
    return score(*target.select(output, _samples(batch))).cpu().double()


def _samples(batch: Batch) -> Tensor:
    """Which sample each row belongs to."""
    return torch.cat([torch.full((len(masks),), sample) for sample, masks in batch])
