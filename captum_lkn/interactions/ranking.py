"""Effects as lists: the strongest first, or summed up by order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from captum_lkn._common.formats import effect_format, percent
from captum_lkn.decomposition.lattice import n_players, orders
from captum_lkn.interactions.rendering import joined

__all__ = ["Interaction", "Kind", "OrderStrength", "by_order", "count_above", "largest_effect", "ranked"]

Kind: TypeAlias = Literal["and", "or"]
KINDS: tuple[Kind, Kind] = ("and", "or")


class Interaction(NamedTuple):
    """One effect: what the model's score owes to a set of players, beyond what it owes to other sets.

    Attributes:
        kind: ``"and"``: it counts when all members are present; ``"or"``: when at least one is. Single
            players, of which both would say the same, are ``"and"``.
        members: The numbers of its players, ascending.
        players: Their labels.
        order: How many they are.
        effect: In the units of the score.
        support: The share of draws of noise in which it stayed salient, with the same sign; None where that was not
            measured.

    Example:
        >>> print(Interaction("and", (0, 3), ("not", "good"), 2, -2.314))
        not & good  -2.31
        >>> print(Interaction("or", (1, 2), ("bad", "dull"), 2, 1.2, support=0.8))
        bad | dull  +1.20  (in 80 % of draws)
    """

    kind: Kind
    members: tuple[int, ...]
    players: tuple[str, ...]
    order: int
    effect: float
    support: float | None = None

    def __str__(self) -> str:
        drawn = "" if self.support is None else f"  (in {percent(self.support)} of draws)"
        return f"{joined(self.kind, self.players)}  {effect_format(self.effect).format(self.effect)}{drawn}"


class OrderStrength(NamedTuple):
    """All effects of one kind and order, summed up.

    Attributes:
        kind: ``"and"`` or ``"or"``.
        order: The number of players in each set.
        nonzero: How many effects are not exactly 0.
        strength: The sum of their absolute values.
        positive: The sum of the positive ones.
        negative: The sum of the negative ones, at most 0.
    """

    kind: Kind
    order: int
    nonzero: int
    strength: float
    positive: float
    negative: float


def ranked(
    players: Sequence[str],
    and_effects: Tensor,
    or_effects: Tensor,
    *,
    kind: Kind | None = None,
    above: float = 0.0,
    limit: int | None = None,
) -> list[Interaction]:
    """The effects of nonempty sets, the strongest first.

    Of equally strong ones the lower order comes first, then AND before OR, then the earlier players. The
    answer thus depends on nothing but the effects.

    Args:
        players: n labels.
        and_effects: ``[2^n]``.
        or_effects: ``[2^n]``.
        kind: Only effects of this kind; None takes both.
        above: Only effects whose absolute value is greater than this.
        limit: At most so many; None takes all.

    Returns:
        A list of interactions.
    """
    n = len(players)
    both = torch.stack([and_effects, or_effects])
    chosen = _above(both, above)
    if kind is not None:
        chosen[1 - KINDS.index(kind)] = False
    of_kind, subset = chosen.nonzero(as_tuple=True)  # AND before OR, each by ascending index
    effect = both[of_kind, subset]
    place = orders(n)[subset].argsort(stable=True)
    place = place[effect[place].abs().argsort(descending=True, stable=True)][:limit]
    found = []
    for k, index, value in zip(of_kind[place].tolist(), subset[place].tolist(), effect[place].tolist(), strict=True):
        members = tuple(i for i in range(n) if index >> i & 1)
        found.append(Interaction(KINDS[k], members, tuple(players[i] for i in members), len(members), value))
    return found


def count_above(and_effects: Tensor, or_effects: Tensor, above: float) -> int:
    """How many interactions :func:`ranked` finds above a threshold, without making them."""
    return int(_above(torch.stack([and_effects, or_effects]), above).sum())


def by_order(and_effects: Tensor, or_effects: Tensor) -> list[OrderStrength]:
    """Sum up the effects of each kind and order, from order 1 to n, AND first."""
    n = n_players(and_effects)
    size = orders(n)
    rows = []
    for kind, effects in zip(KINDS, (and_effects, or_effects), strict=True):
        for order in range(1, n + 1):
            here = effects[size == order]
            positive, negative = float(here.clamp(min=0).sum()), float(here.clamp(max=0).sum())
            nonzero = int(here.count_nonzero())
            rows.append(OrderStrength(kind, order, nonzero, positive - negative, positive, negative))
    return rows


def largest_effect(and_effects: Tensor, or_effects: Tensor) -> float:
    """The largest absolute effect of a nonempty set."""
    return float(torch.stack([and_effects, or_effects])[:, 1:].abs().max())


def _above(both: Tensor, threshold: float) -> Tensor:
    """Which effects are stronger than a threshold; the empty set's never count."""
    chosen = both.abs() > threshold
    chosen[:, 0] = False
    return chosen
