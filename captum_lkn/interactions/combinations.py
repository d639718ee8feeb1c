"""Combinations of players over the samples of a batch."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any, NamedTuple

from captum_lkn.decomposition.effects import TAU, Kind
from captum_lkn.interactions.batch import Batch

__all__ = ["Combination", "combinations"]

_SIGNS = {"and": " & ", "or": " | "}


class Combination(NamedTuple):
    """One set of words, of any sample that has them.

    Attributes:
        name: The words as one name, such as ``not & good``.
        players: The words.
        kind: ``"and"`` or ``"or"``.
        samples: The numbers of the samples that have all these words.
        effects: The effect in each of them; 0 where there is none. Of repeated words the sum.
        salient: The number of these samples where the effect is salient.
    """

    name: str
    players: tuple[str, ...]
    kind: Kind
    samples: tuple[int, ...]
    effects: tuple[float, ...]
    salient: int

    @property
    def mean(self) -> float:
        """The mean effect over the samples that have the words."""
        return sum(self.effects) / len(self.effects)


def combinations(batch: Batch[Any], top: int, least_order: int = 1) -> list[Combination]:
    """Return the strongest combinations of words over all samples, the same words in any order and case.

    Args:
        batch: The samples.
        top: The number of combinations.
        least_order: The least number of words.

    Returns:
        Combinations by descending sum of absolute effects over all samples.
    """
    effects: dict[tuple[Kind, tuple[str, ...]], dict[int, float]] = defaultdict(dict)
    shown: dict[tuple[Kind, tuple[str, ...]], tuple[str, ...]] = {}
    limits = [TAU * one.effects.largest for one in batch]
    for place, one in enumerate(batch):
        for found in one.top(None):
            if found.order >= least_order:
                words = tuple(one.players[i].strip() for i in found.members)
                key = found.kind, tuple(sorted(word.casefold() for word in words))
                shown.setdefault(key, words)
                effects[key][place] = effects[key].get(place, 0.0) + found.effect
    words_of = [Counter(player.strip().casefold() for player in one.players) for one in batch]
    ranked = sorted(effects, key=lambda key: -sum(map(abs, effects[key].values())))[:top]
    made = []
    for key in ranked:
        having = tuple(place for place, known in enumerate(words_of) if not Counter(key[1]) - known)
        values = tuple(effects[key].get(place, 0.0) for place in having)
        salient = sum(abs(value) > limits[place] for place, value in zip(having, values, strict=True))
        made.append(Combination(_SIGNS[key[0]].join(shown[key]), shown[key], key[0], having, values, salient))
    return made
