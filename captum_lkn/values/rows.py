"""Rows of masked copies, in the order in which they are evaluated, and parts of them.

The rows come from one generator, of all 2^n masks or of sampled ones, which evaluation and plan consume. Masks that
give the same copy have one row. A part of the rows begins and ends where a forward does, so that its forwards are those
of the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import torch
from torch import Tensor

from captum_lkn.sampling.masks import MaskPlan
from captum_lkn.values.copies import Copies, copies_of_all, copies_of_sampled
from captum_lkn.values.evaluator import Evaluator
from captum_lkn.values.forwards import MaskedForwards

__all__ = ["WHOLE", "Part", "all_copies", "evaluate_copies", "evaluate_rows", "rows_of", "sampled_copies"]

_PENDING: Final = 1 << 20  # values that wait on another device than the CPU before they are fetched
_LEAST: Final = 64  # rows of a part but the last: as many as tell probabilities from logits


class Part(NamedTuple):
    """One of several parts of the masks of a sample.

    Attributes:
        number: Its number, from 0.
        parts: The number of parts.
    """

    number: int
    parts: int

    def rows(self, total: int, together: int) -> range:
        """Return the rows of the part.

        The parts share the forwards of the whole as evenly as can be; where these are few, the last parts are empty.

        Args:
            total: The number of rows of the whole.
            together: The number of rows that have a forward together.

        Example:
            >>> [Part(number, 3).rows(1000, 100) for number in range(3)]
            [range(0, 400), range(400, 700), range(700, 1000)]
        """
        unit = together * -(-_LEAST // together)
        units = -(-total // unit)
        start, stop = (-(-units * number // self.parts) for number in (self.number, self.number + 1))
        return range(min(unit * start, total), min(unit * stop, total))


WHOLE: Final = Part(0, 1)
"""All masks of a sample."""


def rows_of(
    evaluated: Evaluator | MaskedForwards, copies: Copies, part: Part = WHOLE
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield copies, as many at a time as are evaluated together.

    Args:
        evaluated: What evaluates them, whose rows of a forward may become fewer meanwhile.
        copies: The copies.
        part: The part of them that is wanted.

    Yields:
        The samples, int64 ``[R]``, and the masks, bool ``[R, n]``.
    """
    wanted = part.rows(copies.total, evaluated.planned_rows)
    start = wanted.start
    while start < wanted.stop:
        # Where a forward has all samples in their order, many rows of each are wanted at a time.
        stop = wanted.stop if evaluated.aligned else min(start + evaluated.rows, wanted.stop)
        yield copies.take(range(start, stop))
        start = stop


def all_copies(evaluated: Evaluator | MaskedForwards, left: Sequence[int]) -> Copies:
    """Return the copies of all masks of some samples."""
    return copies_of_all(evaluated.players, left, evaluated.whole_batch)


def sampled_copies(
    evaluated: Evaluator | MaskedForwards, plan_of: Mapping[int, MaskPlan], in_order: bool = False
) -> Copies:
    """Return the copies of the sampled masks of all samples; see :func:`captum_lkn.values.copies.copies_of_sampled`."""
    return copies_of_sampled(evaluated.players, plan_of, evaluated.whole_batch, in_order)


def evaluate_copies(evaluator: Evaluator, copies: Copies, advance: Callable[[int], object] | None = None) -> Tensor:
    """Evaluate copies, and return the values of all masks that they stand for, as :func:`evaluate_rows` does."""
    values = copies.spread(evaluate_rows(evaluator, rows_of(evaluator, copies), copies.total, advance))
    if advance is not None and copies.masks > copies.total:
        advance(copies.masks - copies.total)
    return values


def evaluate_rows(
    evaluator: Evaluator,
    blocks: Iterable[tuple[Tensor, Tensor]],
    total: int,
    advance: Callable[[int], object] | None = None,
) -> Tensor:
    """Evaluate rows, and check that their values are finite.

    Args:
        evaluator: What evaluates them.
        blocks: Samples and masks, as many at a time as are evaluated together.
        total: The number of rows of all blocks.
        advance: Called with the number of rows that are done.

    Returns:
        Float64 ``[total, L]``, on the CPU.

    Raises:
        ValueError: A value is not finite; and what :meth:`Evaluator.values` raises.
    """
    values = torch.empty(total, evaluator.unmasked.shape[1], dtype=torch.float64, device="cpu")
    pending: list[tuple[Tensor, Tensor, Tensor]] = []
    start = stop = 0
    for samples, masks in blocks:
        pending.append((samples, masks, evaluator.values(samples, masks, advance=advance)))
        stop += len(samples)
        # Fetching values waits for the device: seldom, where it is not the CPU.
        if stop < total and pending[-1][2].device.type != "cpu" and (stop - start) * values.shape[1] < _PENDING:
            continue
        together, shown, found = map(torch.cat, zip(*pending, strict=True))
        values[start:stop] = found.to(values)
        evaluator.check_finite(together, shown, values[start:stop])
        start, pending = stop, []
    return values
