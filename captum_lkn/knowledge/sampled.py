"""States whose effects were fitted to sampled masks, so that they have no value tables."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from captum_lkn.interactions import Interactions, InteractionsBatch
from captum_lkn.interactions.batch import AnyBatch
from captum_lkn.interactions.sampled import AnyInteractions
from captum_lkn.knowledge.comparison import normaliser

__all__ = ["batch_normaliser", "with_tables"]


def batch_normaliser(batch: AnyBatch) -> float:
    r"""Return the mean of \|v(N) - v(empty)\| over the samples of a state, 0 where that is rounding."""
    return normaliser([_known_values(one) for one in batch], max(one.epsilon for one in batch))


def _known_values(one: AnyInteractions) -> Tensor:
    """Return the value table of a sample; of sampled masks v(empty) and v(N), which stand at its ends."""
    if isinstance(one, Interactions):
        return one.values
    return torch.tensor([one.v_empty, one.v_full], dtype=torch.float64, device="cpu")


def with_tables(interactions: Mapping[str, AnyBatch], purpose: str) -> dict[str, InteractionsBatch]:
    """Return the states if all of them have value tables, which are decomposed again.

    Raises:
        ValueError: The effects of one were fitted to sampled masks.
    """
    found = {label: batch for label, batch in interactions.items() if isinstance(batch, InteractionsBatch)}
    if len(found) < len(interactions):
        raise ValueError(
            f"{purpose} decomposes tables of all 2^n values again, and these effects were fitted to sampled masks. "
            "Take the standard errors of the effects, or compare the results of several seeds; or let select_players "
            "choose so few players that all masks can be evaluated"
        )
    return found
