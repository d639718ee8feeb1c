"""One effect with the labels of its players, and lists of these, the strongest first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from captum_lkn._common.formats import effect_format, percent
from captum_lkn.decomposition.effects import KINDS, Effects, Kind
from captum_lkn.interactions.rendering import error_text, joined

__all__ = ["Interaction", "ranked"]


class Interaction(NamedTuple):
    """One effect: what the model's score owes to a set of players, beyond what it owes to other sets.

    Attributes:
        kind: ``"and"``: it counts when all members are present; ``"or"``: when at least one is. Effects of single
            players, for which both are the same, are ``"and"``.
        members: The numbers of its players, ascending.
        players: Their labels, repeated ones told apart (``is[1]``, ``is[2]``).
        order: The number of players.
        effect: In the units of the score.
        selection_frequency: The share of noisy draws in which it stayed salient, with the same sign; None where that
            was not measured.
        error: The standard error of an effect that was fitted to sampled masks; None for effects of all 2^n masks.

    Example:
        >>> print(Interaction("and", (0, 3), ("not", "good"), 2, -2.314))
        not & good  -2.31
        >>> print(Interaction("or", (1, 2), ("bad", "dull"), 2, 1.2, selection_frequency=0.8))
        bad | dull  +1.20  (in 80 % of draws)
    """

    kind: Kind
    members: tuple[int, ...]
    players: tuple[str, ...]
    order: int
    effect: float
    selection_frequency: float | None = None
    error: float | None = None

    @property
    def name(self) -> str:
        """The players as one name, such as ``not & good``."""
        return joined(self.kind, self.players)

    def __str__(self) -> str:
        share = self.selection_frequency
        drawn = "" if share is None else f"  (in {percent(share)} of draws)"
        number = effect_format(self.effect).format(self.effect)
        return f"{self.name}  {number}{error_text(self.error, self.effect)}{drawn}"


def ranked(
    labels: Sequence[str],
    effects: Effects,
    limit: int | None = None,
    frequencies: Sequence[float] | None = None,
    errors: Sequence[float] | None = None,
) -> list[Interaction]:
    """List effects that are not exactly 0, the strongest first.

    Args:
        labels: One of each player.
        effects: The effects; see :meth:`captum_lkn.decomposition.Effects.strongest` for how ties are broken.
        limit: The largest number of them; None takes all.
        frequencies: The selection frequency of each effect, in the effects' own order.
        errors: The standard error of each effect, in that order.

    Returns:
        A list of interactions.
    """
    places = effects.strongest()[:limit]
    members = [tuple(row.nonzero().flatten().tolist()) for row in effects.members[places]]
    found = zip(places.tolist(), members, effects.is_or[places].tolist(), effects.values[places].tolist(), strict=True)
    return [
        Interaction(
            KINDS[is_or],
            numbers,
            tuple(labels[i] for i in numbers),
            len(numbers),
            effect,
            None if frequencies is None else frequencies[place],
            None if errors is None else errors[place],
        )
        for place, numbers, is_or, effect in found
        if effect
    ]
