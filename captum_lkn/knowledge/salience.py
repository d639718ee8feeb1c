"""The salient interactions of a state, and how often noisy draws find them again."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from captum_lkn.decomposition.effects import Effects
from captum_lkn.interactions import Interaction
from captum_lkn.interactions.batch import AnyBatch
from captum_lkn.interactions.ranking import ranked
from captum_lkn.knowledge.comparison import Scope, thresholds

__all__ = ["salient_interactions", "selection_frequencies"]


def salient_interactions(
    batch: AnyBatch, drawn: Sequence[Sequence[Effects]] | None, *, tau: float, scope: Scope
) -> list[list[Interaction]]:
    """List the salient interactions of each sample of a state, the strongest first, in the units of the score.

    Args:
        batch: The samples of one state.
        drawn: The effects of each sample in all draws; None where none were taken, and then no frequency is known.
        tau: The threshold of salience.
        scope: Over what the largest effect is taken.

    Returns:
        For each sample its interactions, with their selection frequencies.
    """
    effects = [one.effects for one in batch]
    shares = selection_frequencies(effects, drawn, tau=tau, scope=scope) if drawn else None
    found = []
    for place, (one, limit) in enumerate(zip(batch, thresholds(effects, tau, scope), strict=True)):
        chosen = one.effects.above(limit)
        frequencies = shares[place][chosen].tolist() if shares else None
        found.append(ranked(one.labels, one.effects.select(chosen), frequencies=frequencies))
    return found


def selection_frequencies(
    effects: Sequence[Effects], drawn: Sequence[Sequence[Effects]], *, tau: float, scope: Scope
) -> list[Tensor]:
    """Return the share of draws in which each effect is salient with its own sign.

    Args:
        effects: The effects of each sample.
        drawn: The effects of each sample in all draws.
        tau: The threshold of salience, in each draw.
        scope: Over what the largest effect is taken.

    Returns:
        float64 ``[k]`` for each sample.
    """
    totals = [torch.zeros_like(one.values) for one in effects]
    for draw in zip(*drawn, strict=True):
        for total, one, noisy, limit in zip(totals, effects, draw, thresholds(draw, tau, scope), strict=True):
            again = noisy.at(one)
            total += (again.abs() > limit) & (again.sign() == one.values.sign())
    return [total / len(drawn[0]) for total in totals]
