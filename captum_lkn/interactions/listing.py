"""Lists and sums of effects, whatever the values are."""

from __future__ import annotations

from functools import cached_property
from typing import SupportsIndex

import torch
from torch import Tensor

from captum_lkn._common.arguments import checked
from captum_lkn._common.checks import is_one_of
from captum_lkn.decomposition.effects import KINDS, Effects, Kind
from captum_lkn.interactions.checks import check_count
from captum_lkn.interactions.labels import distinct_labels, player_numbers
from captum_lkn.interactions.order_strengths import OrderStrengths
from captum_lkn.interactions.ranking import Interaction, ranked

__all__ = ["EffectLists"]


class EffectLists:
    """Part of a result that depends on its effects alone.

    Attributes:
        players: n labels.
        effects: The effects in their sparse form.
    """

    players: tuple[str, ...]
    effects: Effects

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The labels; repeated ones are told apart, such as ``is[1]`` and ``is[2]``."""
        return distinct_labels(self.players)

    @property
    def and_effects(self) -> Tensor:
        """The AND effects as a table, float64 ``[2^n]``: bit i of the index = player i; entry 0 is v(empty)."""
        return self.effects.tables()[0]

    @property
    def or_effects(self) -> Tensor:
        """The OR effects as a table; 0 for the empty set and for single players, whose effects are AND effects."""
        return self.effects.tables()[1]

    @checked()
    def effect(self, *players: str | SupportsIndex, kind: Kind = "and") -> float:
        """Return the effect of one set of players.

        Args:
            *players: Their labels or numbers, in any order. A label that several players have needs its number:
                ``"is[2]"``, see `labels`.
            kind: ``"and"`` or ``"or"``; of a single player both are the same.

        Returns:
            The effect in the units of the score; 0 where the set has none.

        Raises:
            TypeError: If a player is neither a label nor a number.
            ValueError: If there is no such player or kind, or no player was given.
        """
        if not is_one_of(kind, KINDS):
            raise ValueError(f'kind must be "and" or "or"; got {kind!r}')
        members = player_numbers(players, self.players, self.labels)
        if not members:
            raise ValueError("players must be one or more: give labels or numbers")
        asked = Effects.of(len(self.players), [(kind if len(members) > 1 else "and", members, 1.0)])
        return float(self.effects.at(asked))

    def top(self, k: SupportsIndex | None = 10, kind: Kind | None = None) -> list[Interaction]:
        """The k strongest interactions.

        Args:
            k: How many at most; None takes all. There are fewer where fewer are not exactly 0.
            kind: ``"and"`` or ``"or"``; None takes both.

        Returns:
            Interactions of nonempty sets, by descending absolute effect; of equally strong ones the lower
            order first, then AND before OR, then the earlier players.

        Raises:
            TypeError: If `k` is no whole number.
            ValueError: If `k` is negative, or there is no such kind.
        """
        limit = check_count(k)
        if kind is None:
            return self._listed(torch.ones_like(self.effects.is_or), limit)
        if not is_one_of(kind, KINDS):
            raise ValueError(f'kind must be "and", "or" or None; got {kind!r}')
        return self._listed(self.effects.is_or == (kind == "or"), limit)

    def _listed(self, chosen: Tensor, limit: int | None = None) -> list[Interaction]:
        """List the effects that bool ``[k]`` holds, the strongest first."""
        return ranked(self.labels, self.effects.select(chosen), limit)

    def by_order(self) -> OrderStrengths:
        """Number and strength of the effects by kind and order.

        Returns:
            A list of 2n rows: AND from order 1 to n, then OR (whose order 1 is empty, being merged into AND).
            ``pandas.DataFrame(found.by_order())`` makes a table of it.
        """
        return OrderStrengths(self.effects.by_order())

    @property
    def n_salient(self) -> int:
        """The number of salient interactions, at the paper's threshold."""
        return int(self.effects.salient().sum())
