"""Rows of masked copies, in the order in which they are evaluated, and parts of them.

The rows of all 2^n masks or of sampled ones come from one generator each, which evaluation and plan consume. A part of
them begins and ends where a forward does, so that its forwards are those of the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from captum_lkn.decomposition import lattice
from captum_lkn.sampling.masks import MaskPlan
from captum_lkn.values.evaluator import Evaluator
from captum_lkn.values.forwards import MaskedForwards

__all__ = ["WHOLE", "Part", "all_rows", "evaluate_rows", "sampled_rows"]

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


def all_rows(
    evaluated: Evaluator | MaskedForwards, left: Sequence[int], part: Part = WHOLE
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield all masks of some samples, one sample after the other, as many at a time as are evaluated together.

    Args:
        evaluated: What evaluates them, whose rows of a forward may become fewer meanwhile.
        left: The samples.
        part: The part of the rows that is wanted.

    Yields:
        The samples, int64 ``[R]``, and the masks, bool ``[R, n]``.
    """
    sizes = torch.tensor(evaluated.players.sizes, device="cpu")[list(left)]
    chosen, counts = torch.tensor(left, device="cpu"), 1 << sizes
    ends = counts.cumsum(0)
    columns = int(sizes.max())
    for rows in _together(evaluated, int(ends[-1]), part):
        index = torch.arange(rows.start, rows.stop, device="cpu")
        place = torch.searchsorted(ends, index, right=True)
        yield chosen[place], lattice.members(index - ends[place] + counts[place], columns)


def sampled_rows(
    evaluated: Evaluator | MaskedForwards, plan_of: Mapping[int, MaskPlan], part: Part = WHOLE
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the sampled masks of all samples, one sample after the other; see :func:`all_rows`.

    Args:
        evaluated: What evaluates them.
        plan_of: The masks by the number of players.
        part: The part of the rows that is wanted.

    Yields:
        The samples, int64 ``[R]``, and the masks, bool ``[R, n]``.
    """
    sizes = evaluated.players.sizes
    every = [torch.cat(plan_of[n]) for n in (sizes[:1] if evaluated.whole_batch else sizes)]
    masks = torch.cat([pad(own, (0, max(sizes) - own.shape[1])) for own in every])
    counts = torch.tensor([len(own) for own in every], device="cpu")
    samples = torch.arange(len(every), device="cpu").repeat_interleave(counts)
    for rows in _together(evaluated, len(masks), part):
        yield samples[rows.start : rows.stop], masks[rows.start : rows.stop]


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


def _together(evaluated: Evaluator | MaskedForwards, total: int, part: Part) -> Iterator[range]:
    """Yield the rows that are evaluated together, one range after the other."""
    wanted = part.rows(total, evaluated.planned_rows)
    start = wanted.start
    while start < wanted.stop:
        # Where a forward has all samples in their order, many rows of each are wanted at a time.
        stop = wanted.stop if evaluated.aligned else min(start + evaluated.rows, wanted.stop)
        yield range(start, stop)
        start = stop
