"""Checks of the parts of a comparison of states."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

import torch

from captum_lkn._common.checks import is_number
from captum_lkn._common.messages import kind_of, some_of
from captum_lkn._common.warn import warn
from captum_lkn.decomposition.effects import KINDS, Effects
from captum_lkn.interactions import InteractionsBatch, SampledBatch
from captum_lkn.interactions.about import other_sample
from captum_lkn.interactions.batch import AnyBatch
from captum_lkn.interactions.sampled import AnyInteractions
from captum_lkn.knowledge.comparison import Scope, thresholds

__all__ = [
    "amplified_states",
    "check_accuracies",
    "check_draws",
    "check_interactions",
    "check_label",
    "check_noun",
    "warn_of_normalisers",
]

# A state is warned of whose salient effects add up to more than so many times its normaliser, and to more than so many
# times those of the other states. In the demo these are 2 to 4, and 12 at the one block that changes little as a whole.
_LARGE = 10
_TIMES = 3


def check_noun(noun: Any) -> None:
    """Check that the name for a state is a word: it stands in texts and names a column of data frames."""
    if not isinstance(noun, str) or not noun.isidentifier():
        raise ValueError(f'noun must be a word for one state, such as "checkpoint"; got {noun!r}')


def check_label(label: Any, interactions: Mapping[str, Any], noun: str = "layer") -> str:
    """Return the label of a state, which must be among those of the interactions."""
    if label not in interactions:
        close = difflib.get_close_matches(str(label), interactions, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"there is no {noun} {label!r} here{hint}; there are {some_of(list(interactions))}")
    return str(label)


def check_interactions(interactions: Any) -> None:
    """Check that all states have batches that answer one question: of the same samples, players, score and class.

    Warn where they were extracted under other baselines or with another noise, as far as both record it: effects may
    differ by that alone. Values of inputs are not recorded.
    """
    if not isinstance(interactions, Mapping):
        raise TypeError(
            "interactions must be a mapping from label to InteractionsBatch or SampledBatch; got "
            f"{kind_of(interactions)}"
        )
    for label, batch in interactions.items():
        if not isinstance(label, str) or not isinstance(batch, InteractionsBatch | SampledBatch):
            raise TypeError(f"interactions must map labels to InteractionsBatch; got {label!r}: {kind_of(batch)}")
    if len({type(batch) for batch in interactions.values()}) > 1:
        raise TypeError(
            "interactions must all be from all masks or all from sampled ones; got both. Give n_samples for each state "
            "or for none"
        )
    for label, batch in interactions.items():
        first = next(iter(interactions))
        if len(batch) != len(interactions[first]):
            raise ValueError(
                f"interactions must be of the same samples; got {len(interactions[first])} at {first!r} and "
                f"{len(batch)} at {label!r}"
            )
        for place, (one, other) in enumerate(zip(interactions[first], batch, strict=True)):
            _check_question(place, first, one, label, other)
    _warn_of_conditions(interactions)


def check_accuracies(accuracies: Any) -> None:
    """Check that the accuracies of probes are pairs of numbers by the label of their state."""
    if not isinstance(accuracies, Mapping):
        raise TypeError(f"accuracies must be a mapping from label to two numbers; got {kind_of(accuracies)}")
    for label, both in accuracies.items():
        if not isinstance(both, tuple) or len(both) != 2 or not all(map(is_number, both)):
            raise TypeError(f"accuracies must be (training, held out), two numbers; got {both!r} of {label!r}")


def check_draws(
    drawn: Mapping[str, Sequence[Sequence[Effects]]],
    interactions: Mapping[str, AnyBatch],
    labels: Iterable[str],
) -> None:
    """Check that the draws under noise are those of the samples of all states that are compared."""
    for label in labels:
        players = [one.n_players for one in interactions[label]]
        if label not in drawn or [{draw.n for draw in one} for one in drawn[label]] != [{n} for n in players]:
            raise ValueError(
                f"the draws of the noise ceiling must be of the samples that are compared; those of {label!r} are not. "
                "Measure it anew with with_noise_ceiling()"
            )


def _check_question(place: int, first: str, one: AnyInteractions, label: str, other: AnyInteractions) -> None:
    """Check that two states' interactions of a sample answer one question."""
    if differing := other_sample(one, other):
        name, mine, theirs = differing
        raise ValueError(
            f"interactions must answer one question; sample {place} has the {name} {mine} at {first!r} and {theirs} at "
            f"{label!r}. Extract both for the same {name}"
        )


def _warn_of_conditions(interactions: Mapping[str, Sequence[AnyInteractions]]) -> None:
    """Warn of the first state whose samples were extracted under other conditions than those of the first one."""
    first = next(iter(interactions), "")
    for label, batch in interactions.items():
        for place, (one, other) in enumerate(zip(interactions[first], batch, strict=True)):
            mine, theirs = _conditions(one.provenance), _conditions(other.provenance)
            if mine["tokenizer"] != theirs["tokenizer"]:  # their tokens for an absent player differ by need
                mine.pop("baseline"), theirs.pop("baseline")
            for name in mine:
                known = mine[name] is not None and theirs[name] is not None
                if name != "tokenizer" and known and mine[name] != theirs[name]:
                    warn(
                        f"interactions are compared that were extracted under different conditions; sample {place} has "
                        f"the {name} {mine[name]} at {first!r} and {theirs[name]} at {label!r}, so that their effects "
                        f"may differ by that alone. Extract both with the same {name}"
                    )
                    return


def _conditions(provenance: Mapping[str, Any]) -> dict[str, Any]:
    recorded = provenance.get("decomposition")
    options = recorded if isinstance(recorded, Mapping) else {}
    own = {name: provenance.get(name) for name in ("baseline", "background", "tokenizer")}
    return own | {name: options.get(name) for name in ("noise", "kappa")}


def amplified_states(
    normalisers: Mapping[str, float], interactions: Mapping[str, AnyBatch], tau: float, scope: Scope
) -> set[str]:
    """Return the states whose normaliser is so small that dividing by it dwarfs the other states' effects.

    Args:
        normalisers: By state what its effects are divided by.
        interactions: By state the interactions of all samples.
        tau: The threshold of salience.
        scope: Over what the largest effect is taken.

    Returns:
        Labels of states; those of a normaliser of 0 are not among them.
    """
    return set(_amplified(_strengths(normalisers, interactions, tau, scope)))


def warn_of_normalisers(
    normalisers: Mapping[str, float],
    interactions: Mapping[str, AnyBatch],
    reference: str,
    *,
    noun: str,
    tau: float,
    scope: Scope,
    literal_eq6: bool,
    ratio: str,
) -> None:
    """Warn of states whose normaliser is 0, or small against their salient effects.

    The salient effects of a state add up to r times its normaliser. Where r is several times that of the other states,
    the state changes little as a whole while its effects cancel, and its ratios are mostly that division: two states
    share at most the smaller sum, so that redundancy, a ratio of sums over the samples, is at least 1 - R / r (R of the
    reference) for each kind, whichever the effects. Redundancy is that ratio where ``ratio`` is
    ``"sum"`` and Eq. 6 is not taken literally.
    """
    for label, unit in normalisers.items():
        if not unit:
            warn(
                f"|v(N) - v(empty)| of {label!r} is 0 in all samples, so that its effects cannot be compared with "
                f"those of another {noun}: its strengths are NaN. Choose samples, or a {noun}, where masking changes "
                "the score"
            )
    strengths = _strengths(normalisers, interactions, tau, scope)
    known = strengths.get(reference) if ratio == "sum" and not literal_eq6 else None
    for label, (strength, others) in _amplified(strengths).items():
        bounds = _bounds(strengths[label], known) if known and label != reference else []
        meaning = "completeness seems low" if label == reference else " and ".join(bounds) or "redundancy seems high"
        warn(
            f"the salient effects of {label!r} add up to {strength:.1f} times its mean |v(N) - v(empty)|, those of the "
            f"other {noun}s to {others:.1f} times theirs (median): by this division alone {meaning}. Take more "
            "samples, or samples where masking all players changes its score more"
        )


def _strengths(
    normalisers: Mapping[str, float], interactions: Mapping[str, AnyBatch], tau: float, scope: Scope
) -> dict[str, dict[str, float]]:
    """Return by state and kind the sum of the salient effects in normalisers, the mean over the samples."""
    strengths = {}
    for label, unit in normalisers.items():
        effects = [one.effects for one in interactions[label]]
        if unit:
            salient = zip(effects, thresholds(effects, tau, scope), strict=True)
            sums = [one.sum_by_order(one.values.abs() * one.above(limit), one.n).sum(-1) for one, limit in salient]
            means = torch.stack(sums).mean(0) / unit
            strengths[label] = dict(zip(KINDS, means.tolist(), strict=True))
    return strengths


def _amplified(strengths: Mapping[str, Mapping[str, float]]) -> dict[str, tuple[float, float]]:
    """Return the strength of each state that dwarfs the others, with the median of these."""
    whole = {label: sum(of_kinds.values()) for label, of_kinds in strengths.items()}
    found = {}
    for label, strength in whole.items():
        others = [other for name, other in whole.items() if name != label]
        if others and strength > max(_LARGE, _TIMES * median(others)):
            found[label] = strength, median(others)
    return found


def _bounds(strength: Mapping[str, float], reference: Mapping[str, float]) -> list[str]:
    """Return what the strengths alone say of a state's redundancy, for the kinds of which they say something."""
    return [
        f"the redundancy of {kind.upper()} effects is at least {1 - reference[kind] / strength[kind]:.0%}"
        for kind in KINDS
        if strength[kind] > reference[kind]
    ]
