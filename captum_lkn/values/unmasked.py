"""Outputs of the unmasked samples, on which the target is resolved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from captum_lkn._common.messages import shape_of
from captum_lkn._common.warn import warn
from captum_lkn.models.products import WatchedProducts
from captum_lkn.models.session import as_written
from captum_lkn.values.scoring import ScoredForwards

__all__ = ["Unmasked", "run_unmasked"]


class Unmasked(NamedTuple):
    """Outputs of the unmasked samples.

    Attributes:
        output: ``[B, ...]``, or ``[1, ...]`` of the whole batch.
        of_layers: Of each forward the logits of each layer.
        class_dim: The dimension of the classes, where the forward states it.
        dtypes: The dtypes of matrix products.
    """

    output: Tensor
    of_layers: tuple[tuple[Tensor, ...], ...]
    class_dim: int | None
    dtypes: set[torch.dtype]


def run_unmasked(scored: ScoredForwards) -> Unmasked:
    """Run the unmasked samples, and find out whether the forward gives one value for the whole batch.

    Args:
        scored: The forwards, which are told.

    Returns:
        Their outputs.

    Raises:
        ValueError: The forward returns neither one row a sample nor one value or row for the whole batch.
    """
    with as_written(), WatchedProducts() as watched:  # what torch compiles in such a context stays uncompiled
        parts = scored.forwards.run(*scored.forwards.everyone(), scored.unscored)
    output = _output(scored, [part.tensor for part, _ in parts])
    return Unmasked(output, tuple(kept for _, kept in parts), parts[0][0].class_dim, watched.dtypes)


def _output(scored: ScoredForwards, parts: Sequence[Tensor]) -> Tensor:
    """Return the output of the unmasked samples, ``[B, ...]``, or ``[1, ...]`` of the whole batch."""
    first, batch = parts[0], len(scored.forwards.players)
    one_value = first.dim() == 0 or len(first) == 1
    if min(batch, scored.forwards.rows) > 1 and (one_value or _repeats_one_value(scored, parts)):
        scored.forwards.take_for_whole_batch(scored.reader.layers)
        return first[:1] if first.dim() else first[None]
    # A forward of one row may have dropped its first dimension, as .squeeze() does.
    output = torch.cat([x if x.dim() and (batch > 1 or len(x) == 1) else x[None] for x in parts])
    if len(output) != batch:
        raise ValueError(
            f"the forward returned {shape_of(output)} for {batch} samples: expected one row a sample, or one value "
            "or one row [1, ...] for the whole batch"
        )
    return output


def _repeats_one_value(scored: ScoredForwards, parts: Sequence[Tensor]) -> bool:
    """Return whether several samples have one value for the whole batch, which is repeated in each row.

    Then the rows of a forward are equal, also where a half of the samples is masked, and another than unmasked.
    """
    unmasked = parts[0]
    if len(parts) > 1 or not _rows_are_equal(unmasked):
        return False
    samples, masks = scored.forwards.everyone()
    masks[::2] = False
    masked = scored.unscored(samples, masks)[0].tensor
    if masked.shape != unmasked.shape or not _rows_are_equal(masked) or torch.equal(masked, unmasked):
        return False
    warn(
        f"the forward gives the same value in each of the {len(unmasked)} rows, and another one where some samples "
        "are masked: it is taken for one value for the whole batch, and all samples are masked alike"
    )
    return True


def _rows_are_equal(output: Tensor) -> bool:
    return bool((output == output[:1]).all())
