"""Check that results under several baselines are of the same sample."""

from __future__ import annotations

import torch

from captum_lkn._common.rounding import agree
from captum_lkn.interactions import Interactions

__all__ = ["check_same_sample"]


def check_same_sample(place: int, one: Interactions, other: Interactions, names: tuple[str, str]) -> None:
    """Check that two results have the same v(N), which does not depend on the baseline.

    Args:
        place: The number of the sample.
        one: Its interactions under one baseline.
        other: Those under another baseline.
        names: The names of the two baselines.

    Raises:
        ValueError: The scores of the unmasked inputs differ by more than rounding.
    """
    if "selection" in one.provenance or "selection" in other.provenance:
        return  # players that were left out may be masked for good, so that v(N) depends on the baseline
    largest = max(float(found.values.abs().max()) for found in (one, other))
    mine, theirs = (torch.tensor([0.0, largest, found.v_full], device="cpu") for found in (one, other))
    if not agree(mine, theirs, max(one.epsilon, other.epsilon)):
        raise ValueError(
            f"the results must be of the same samples; the score of the unmasked sample {place} is {one.v_full:.4g} "
            f"under {names[0]} and {other.v_full:.4g} under {names[1]}. Give the same inputs and the same model to all"
        )
