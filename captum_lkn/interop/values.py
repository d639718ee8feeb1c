"""Results as shapiq's interaction values, and back."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from torch import Tensor

from captum_lkn._common.arguments import checked
from captum_lkn._common.checks import is_one_of, is_whole
from captum_lkn._common.limits import MAX_PLAYERS
from captum_lkn._common.messages import kind_of
from captum_lkn.decomposition import lattice
from captum_lkn.decomposition.effects import Effects
from captum_lkn.decomposition.options import DecompositionOptions
from captum_lkn.interactions import Interactions, SampledInteractions

if TYPE_CHECKING:
    from shapiq import InteractionValues

__all__ = ["from_shapiq", "to_shapiq"]

_ADDITIVE: Final = ("Moebius", "k-SII", "STII", "FSII", "FBII", "SV")
"""Indices whose values add up to a game: the value of the players T is the sum over all sets inside T."""

_FIRST_ORDER: Final = ("SV", "BV")


@checked("found", "index")
def to_shapiq(
    found: Interactions | SampledInteractions,
    index: str = "k-SII",
    order: int | None = None,
    *,
    of: Literal["values", "effects"] | None = None,
) -> InteractionValues:
    """Return a result as shapiq's interaction values, which all plots of shapiq take.

    Args:
        found: The interactions of one sample.
        index: An index that shapiq's ``ExactComputer`` computes: ``"Moebius"``, ``"SII"``, ``"k-SII"``, ``"STII"``,
            ``"FSII"``, ``"FBII"``, ``"BII"``, ``"SV"``, ``"BV"`` and more.
        order: The largest number of players in a set. None: all of them for ``"Moebius"``, 1 for values of single
            players, else 2.
        of: ``"values"``: the index of the value table, exactly, whatever the effects are. ``"effects"``: that of the
            table that the AND and OR effects add up to. None: the values, where all masks were evaluated; effects from
            sampled masks have no table, and their indices are those that shapiq finds in the Moebius coefficients of
            the effects (``MoebiusConverter``). shapiq has no OR effects: an OR effect is the sum of AND
            effects of all sets inside, with alternating signs.

    Returns:
        The ``InteractionValues``, not estimated but for sampled masks. Those of ``"Moebius"`` leave out what is
        exactly 0.

    Raises:
        ImportError: shapiq is not installed.
        TypeError: `order` is not a whole number.
        ValueError: shapiq does not have the index; an order out of range; another word for `of`, or ``"values"`` for
            effects from sampled masks.

    Example:
        >>> import torch
        >>> from captum_lkn import AndOrInteraction
        >>> found = AndOrInteraction(lambda x: x[:, 0] * x[:, 1] + x[:, 2], score="logit").attribute(torch.ones(1, 3))
        >>> found[0].to_shapiq("Moebius").interactions
        {(): 0.0, (2,): 1.0, (0, 1): 1.0}
        >>> values = found[0].to_shapiq("k-SII", order=2)
        >>> round(float(values[(0, 1)]), 6), values.index
        (1.0, 'k-SII')
    """
    shapiq = _shapiq()
    if of is not None and not is_one_of(of, ("values", "effects")):
        raise ValueError(f'of must be "values" or "effects"; got {of!r}')
    n = found.n_players
    largest = n if index == "Moebius" else 1 if index in _FIRST_ORDER else min(2, n)
    if order is not None and not is_whole(order):
        raise TypeError(f"order must be a whole number or None; got {order!r}")
    if order is not None and not 1 <= order <= n:
        raise ValueError(f"order must be from 1 to {n}, the number of players; got {order}")
    highest = largest if order is None else int(order)
    if isinstance(found, SampledInteractions):
        if of == "values":
            raise ValueError("of must be 'effects' for effects from sampled masks, which have no value table")
        return _of_effects(shapiq, found.effects, index, highest)
    table = found.effects.reconstruction if of == "effects" else found.values
    if index == "Moebius":
        return _moebius(shapiq, table, highest)
    values = table.numpy()
    places = 1 << np.arange(n)
    try:
        exact = shapiq.ExactComputer(lambda coalitions: values[coalitions @ places], n)
        return exact(index=index, order=highest)
    except ValueError as error:
        raise ValueError(
            f"index must be one that shapiq computes for order {highest}; got {index!r} ({error})"
        ) from error


@checked()
def from_shapiq(
    values: InteractionValues,
    players: Sequence[str] | None = None,
) -> Interactions:
    """Return shapiq's interaction values as a result with AND effects.

    The effects are the values, and the value table is the game that they add up to: the value of the players T is the
    sum over all sets inside T. For ``"Moebius"`` of all orders this is the game itself, for the others the game of that
    order which shapiq's index describes. ``explain_game`` finds AND and OR effects of a game.

    Args:
        values: Interaction values of an index that adds up in this way: ``"Moebius"``, ``"k-SII"``, ``"STII"``,
            ``"FSII"``, ``"FBII"`` or ``"SV"``; at most 20 players.
        players: A label a player. None: their numbers.

    Returns:
        The interactions; nothing is certified, since nothing was decomposed.

    Raises:
        TypeError: `values` is something else.
        ValueError: Another index, too many players, or another number of labels.

    Example:
        >>> from shapiq import InteractionValues
        >>> values = InteractionValues(
        ...     {(0,): 1.0, (0, 1): -3.0},
        ...     index="Moebius",
        ...     n_players=2,
        ...     min_order=0,
        ...     max_order=2,
        ...     baseline_value=0.5,
        ... )
        >>> found = from_shapiq(values, ["good", "not"])
        >>> [str(one) for one in found.top()], found.v_full
        (['good & not  -3.00', 'good  +1.00'], -1.5)
    """
    shapiq = _shapiq()
    if not isinstance(values, shapiq.InteractionValues):
        raise TypeError(f"values must be shapiq's InteractionValues; got {kind_of(values)}")
    n, given = values.n_players, dict(values.interactions)
    if values.index not in _ADDITIVE:
        raise ValueError(
            f"values must be of an index whose values add up to a game, {', '.join(_ADDITIVE)}; got {values.index}"
        )
    if n > MAX_PLAYERS:
        raise ValueError(f"values must have at most {MAX_PLAYERS} players, since a table has 2^n values; got {n}")
    labels = tuple(map(str, range(n))) if players is None else tuple(players)
    if len(labels) != n:
        raise ValueError(f"players must have one label a player, {n}; got {len(labels)}")
    constant = float(given.pop((), values.baseline_value))
    effects = Effects.of(n, [("and", members, float(value)) for members, value in given.items()], constant)
    origin = {"model": "shapiq", "score": values.index, "estimated": bool(values.estimated)}
    return Interactions(
        players=labels,
        effects=effects,
        values=effects.reconstruction,
        kappa=0.0,
        gap=float("inf"),
        provenance=origin,
        options=DecompositionOptions(kappa=0.0, kind="and"),
    )


def _moebius(shapiq: Any, table: Tensor, order: int) -> Any:
    dividends = lattice.and_transform(table)
    kept = (dividends != 0) & (lattice.orders(lattice.n_players(table), device="cpu") <= order)
    kept[0] = True
    sets = kept.nonzero().flatten()
    n = lattice.n_players(table)
    members = [tuple(row.nonzero().flatten().tolist()) for row in lattice.members(sets, n)]
    found = sorted(zip(members, dividends[sets].tolist(), strict=True), key=lambda one: (len(one[0]), one[0]))
    return shapiq.InteractionValues(
        dict(found),
        index="Moebius",
        n_players=n,
        min_order=0,
        max_order=order,
        estimated=False,
        baseline_value=float(table[0]),
    )


def _of_effects(shapiq: Any, effects: Effects, index: str, order: int) -> Any:
    """Return an index of sparse effects of any number of players."""
    from shapiq.game_theory.moebius_converter import MoebiusConverter

    found: dict[tuple[int, ...], float] = {(): effects.constant}
    for row, is_or, effect in zip(effects.members, effects.is_or.tolist(), effects.values.tolist(), strict=True):
        members = tuple(row.nonzero().flatten().tolist())
        for size in range(1 if is_or else len(members), len(members) + 1):
            own = effect * (-1) ** (size + 1) if is_or else effect
            for some in combinations(members, size):
                found[some] = found.get(some, 0.0) + own
    largest = max(map(len, found))
    kept = {some: value for some, value in found.items() if index != "Moebius" or len(some) <= order}
    moebius = shapiq.InteractionValues(
        kept,
        index="Moebius",
        n_players=effects.n,
        min_order=0,
        max_order=min(order, largest) if index == "Moebius" else largest,
        estimated=True,
        baseline_value=effects.constant,
    )
    if index == "Moebius":
        return moebius
    try:
        return MoebiusConverter(moebius)(index=index, order=order)
    except ValueError as error:
        raise ValueError(
            f"index must be one that shapiq computes from Moebius coefficients for order {order}; got {index!r} "
            f"({error})"
        ) from error


def _shapiq() -> Any:
    try:
        import shapiq
    except ImportError as error:
        raise ImportError("shapiq is needed: pip install 'captum-lkn[shapiq]'") from error
    return shapiq
