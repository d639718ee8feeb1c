"""Interactions of a model, or of its layers or checkpoints, that held-out models have as well, and the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor

from captum_lkn._common.messages import kind_of
from captum_lkn.decomposition.effects import TAU, Effects
from captum_lkn.evaluation.bootstrap import CONFIDENCE, RESAMPLES, Resampling
from captum_lkn.evaluation.by_order import highest_order, sums_by_order, unit_of
from captum_lkn.evaluation.transfer import ONE, Transfer, TransferStrengths, check_share
from captum_lkn.interactions import Interaction, InteractionsBatch
from captum_lkn.interactions.ranking import ranked
from captum_lkn.knowledge import KnowledgeChange
from captum_lkn.knowledge.checks import check_interactions
from captum_lkn.knowledge.comparison import Scope, check_salience, thresholds

__all__ = ["transferable"]

States: TypeAlias = InteractionsBatch | Mapping[str, InteractionsBatch] | KnowledgeChange
"""One model's interactions, those of several models, layers or checkpoints by label, or a comparison of these."""
_NO_UNIT: Final = (
    "its strengths, which are in units of it, are NaN; numbers and shares are known. Choose samples where masking "
    "changes the score"
)


def transferable(
    found: States,
    held_out: States,
    *,
    at_least: float = 1.0,
    tau: float = TAU,
    scope: Scope = "dataset",
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Transfer:
    r"""Split the salient interactions of a model into those that held-out models have as well, and the rest.

    A salient interaction *transfers* if it is salient, with the same sign, in a share of the held-out models: models
    for the same task that were trained on other data, from another start, or with another architecture. What is learned
    from the task transfers; what a model made up from its own training samples does not. The strengths by order show
    which orders generalise, and the signs whether the rest cancels. Given several states, such as the checkpoints of a
    training run or the layers of a network, the same is done for each.

    Args:
        found: The interactions of a model; those of several layers, checkpoints or models by label; or a comparison
            (:class:`captum_lkn.KnowledgeChange`), whose states are taken, the reference included.
        held_out: The interactions of the held-out models: of one, or of several by label. Samples, players, score and
            classes must be the same.
        at_least: The share of held-out models in which an interaction must be salient; 1: in all.
        tau: The threshold of salience.
        scope: Over what the largest effect is taken: ``"dataset"`` or ``"sample"``.
        confidence: The probability of the interval, by the bootstrap over samples.
        resamples: The number of its resamples.
        seed: Their seed.

    Returns:
        Numbers and strengths by state, kind and order: print it, or take ``to_frame()``.

    Raises:
        TypeError: Something is not of its type.
        ValueError: The interactions answer different questions, or an option is out of range.

    Warns:
        UserWarning: The mean \|v(N) - v(empty)\| of a state is 0, so that its strengths are NaN; numbers and shares
            are known.

    Example:
        >>> from captum_lkn import AndOrInteraction
        >>> def of(function):
        ...     return AndOrInteraction(function, score="logit", noise=0).attribute(torch.ones(1, 3))
        >>> overfitted = of(lambda x: 2 * x[:, 0] + x[:, 1] - x[:, 0] * x[:, 1] * x[:, 2])
        >>> held_out = {"a": of(lambda x: x[:, 0] + x[:, 1]), "b": of(lambda x: x[:, 0] - x[:, 1])}
        >>> split = transferable(overfitted, held_out)
        >>> split.interactions("model")[0][0].players, split["model"].other[0, 2].tolist()
        (('0',), [1.0, 0.0, 1.0, 2.0])
        >>> split
        Share of the strength of salient interactions that transfer: salient with the
          same sign in at least 100 % of 2 held-out models; 1 sample, no intervals; in
          brackets the numbers of a sample
          order  model  share        number
          1      model   0.67  (1.0 of 2.0)
          3      model   0.00  (0.0 of 1.0)
          all    model   0.50  (1.0 of 3.0)
    """
    check_salience(tau, scope)
    resampling = Resampling(confidence, resamples, seed).check()
    check_share("at_least", at_least)
    states, others = _states("found", found), _states("held_out", held_out)
    check_interactions(
        {f"found {label}": batch for label, batch in states.items()}
        | {f"held out {label}": batch for label, batch in others.items()}
    )
    known = [_salient(batch, tau, scope) for batch in others.values()]
    strengths, sums, shares = {}, {}, {}
    for label, batch in states.items():
        own = _salient(batch, tau, scope)
        each = [_shares(one, [of[place] for of in known]) for place, one in enumerate(own)]
        highest = highest_order(batch)
        parts = [_strengths(one, share >= at_least, highest) for one, share in zip(own, each, strict=True)]
        counts, raw = (torch.stack(part, 1) for part in zip(*parts, strict=True))
        strengths[label] = TransferStrengths(*counts, *(raw / unit_of(repr(label), batch, _NO_UNIT)))
        transfer, other = raw[0] - raw[1], raw[2] - raw[3]
        sums[label] = torch.stack([transfer, transfer + other])
        shares[label] = tuple(
            tuple(_listed(sample.labels, one, share)) for sample, one, share in zip(batch, own, each, strict=True)
        )
    noun = found.noun if isinstance(found, KnowledgeChange) else ONE
    return Transfer(strengths, sums, shares, len(others), float(at_least), noun, resampling=resampling)


def _states(name: str, given: Any) -> dict[str, InteractionsBatch]:
    """Return batches by label."""
    if isinstance(given, InteractionsBatch):
        return {ONE: given}
    if isinstance(given, KnowledgeChange):
        return {label: given.interactions[label] for label in dict.fromkeys((*given.states, given.reference))}
    if not isinstance(given, Mapping) or not given:
        raise TypeError(
            f"{name} must be an InteractionsBatch, a mapping from labels to such, or a KnowledgeChange; got "
            f"{kind_of(given)}"
        )
    return dict(given)


def _salient(batch: InteractionsBatch, tau: float, scope: Scope) -> list[Effects]:
    effects = [one.effects for one in batch]
    return [one.select(one.above(limit)) for one, limit in zip(effects, thresholds(effects, tau, scope), strict=True)]


def _shares(own: Effects, others: list[Effects]) -> Tensor:
    """Return for each effect the share of others that have it with the same sign, ``[k]``."""
    return torch.stack([other.at(own).sign() == own.values.sign() for other in others]).double().mean(0)


def _strengths(own: Effects, transfers: Tensor, highest: int) -> tuple[Tensor, Tensor]:
    """Return the parts of :class:`TransferStrengths` for one sample: its numbers, and its sums in the score's unit."""
    effects = own.values
    both = (transfers.double(), (~transfers).double())
    counts = [sums_by_order(own, part, highest) for part in both]
    sums = [
        sums_by_order(own, signed * part, highest)
        for part in both
        for signed in (effects.clamp(min=0), effects.clamp(max=0))
    ]
    return torch.stack(counts), torch.stack(sums)


def _listed(labels: tuple[str, ...], own: Effects, shares: Tensor) -> list[tuple[Interaction, float]]:
    """Return the interactions with their shares, the strongest first."""
    order = own.strongest()
    return list(zip(ranked(labels, own), shares[order].tolist(), strict=True))
