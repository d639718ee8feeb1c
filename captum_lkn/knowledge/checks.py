"""Checks of the parts of a comparison of layers."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from statistics import median
from typing import Any

from captum_lkn._common.messages import kind_of, some_of
from captum_lkn._common.warn import warn
from captum_lkn.interactions import InteractionsBatch
from captum_lkn.knowledge.comparison import Scope, thresholds

__all__ = ["amplified_layers", "check_interactions", "check_label", "warn_of_normalisers"]

# A layer is warned of whose salient effects add up to more than so many times its normaliser, and to more than so many
# times those of the other layers. In the demo these are 2 to 4, and 12 at the one block that changes little as a whole.
_LARGE = 10
_TIMES = 3


def check_label(label: Any, interactions: Mapping[str, Any]) -> str:
    """Return the label of a layer, which must be among those of the interactions."""
    if label not in interactions:
        close = difflib.get_close_matches(str(label), interactions, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"there is no layer {label!r} here{hint}; there are {some_of(list(interactions))}")
    return str(label)


def check_interactions(interactions: Any) -> None:
    """Check that all layers have batches, of the same samples and players."""
    if not isinstance(interactions, Mapping):
        raise TypeError(f"interactions must be a mapping from layer to InteractionsBatch; got {kind_of(interactions)}")
    players: dict[str, list[tuple[str, ...]]] = {}
    for label, batch in interactions.items():
        if not isinstance(label, str) or not isinstance(batch, InteractionsBatch):
            raise TypeError(f"interactions must map labels to InteractionsBatch; got {label!r}: {kind_of(batch)}")
        players[label] = [one.players for one in batch]
    for label, found in players.items():
        first = next(iter(players))
        if found != players[first]:
            raise ValueError(
                f"layer {label!r} has {len(found)} samples, {first!r} {len(players[first])}, or their players differ: "
                "compare layers on the same samples, with the same players"
            )


def amplified_layers(
    normalisers: Mapping[str, float], interactions: Mapping[str, InteractionsBatch], tau: float, scope: Scope
) -> set[str]:
    """Return the layers whose normaliser is so small that dividing by it dwarfs the other layers' effects.

    Args:
        normalisers: By layer what its effects are divided by.
        interactions: By layer the interactions of all samples.
        tau: The threshold of salience.
        scope: Over what the largest effect is taken.

    Returns:
        Labels of layers; those of a normaliser of 0 are not among them.
    """
    return set(_amplified(_strengths(normalisers, interactions, tau, scope)))


def warn_of_normalisers(
    normalisers: Mapping[str, float],
    interactions: Mapping[str, InteractionsBatch],
    reference: str,
    tau: float,
    scope: Scope,
) -> None:
    """Warn of layers whose normaliser is 0, or small against their salient effects.

    The salient effects of a layer add up to r times its normaliser. Where r is several times that of the other layers,
    the layer changes little as a whole while its effects cancel, and its ratios are mostly that division: two layers
    share at most the smaller sum, so that redundancy is at least 1 - R / r (R of the reference), whichever the effects.
    """
    for label, unit in normalisers.items():
        if not unit:
            warn(
                f"|v(N) - v(empty)| of {label!r} is 0 in all samples, so that its effects cannot be compared with "
                "those of another layer: its strengths are NaN. Choose samples, or a layer, where masking changes the "
                "score"
            )
    strengths = _strengths(normalisers, interactions, tau, scope)
    for label, (strength, others) in _amplified(strengths).items():
        if label == reference:
            bound = "completeness seems low"
        else:
            bound = f"its redundancy is at least {max(0.0, 1 - strengths.get(reference, 0.0) / strength):.0%}"
        warn(
            f"the salient effects of {label!r} add up to {strength:.1f} times its mean |v(N) - v(empty)|, those of the "
            f"other layers to {others:.1f} times theirs (median): by this division alone {bound}, whichever "
            "effects there are. Take more samples, or samples where masking all players changes its score more"
        )


def _strengths(
    normalisers: Mapping[str, float], interactions: Mapping[str, InteractionsBatch], tau: float, scope: Scope
) -> dict[str, float]:
    """Return by layer the sum of its salient effects in normalisers, the mean over the samples."""
    strengths: dict[str, float] = {}
    for label, unit in normalisers.items():
        effects = [one.effects for one in interactions[label]]
        if unit:
            salient = zip(effects, thresholds(effects, tau, scope), strict=True)
            total = sum(float(one.values[one.above(limit)].abs().sum()) for one, limit in salient)
            strengths[label] = total / unit / len(effects)
    return strengths


def _amplified(strengths: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    """Return the strength of each layer that dwarfs the others, with the median of these."""
    found = {}
    for label, strength in strengths.items():
        others = [other for name, other in strengths.items() if name != label]
        if others and strength > max(_LARGE, _TIMES * median(others)):
            found[label] = strength, median(others)
    return found
