"""Find terms that may explain a residual, without looking at all 2^n sets.

The covariance of a term with the residual is a sum over masks of a product of columns. For all pairs at once it is one
matrix product, and so it is for all sets that have one player more than given ones. So pairs are searched completely,
and larger sets from the best smaller ones on: what acts together shows in its parts, because masks are random.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import torch
from torch import Tensor

from captum_lkn.decomposition.options import DecompositionOptions
from captum_lkn.sampling.terms import Masks, Term, price

__all__ = ["LEAST_COUNT", "extensions", "relatives", "scan", "searched"]

LEAST_COUNT: Final = 8
"""A term must count in so many masks, and be missed in so many."""

_LARGEST_ORDER: Final = 6  # of a scan; terms in use grow beyond it by one player at a time
_BEAM: Final = 60  # sets of each order that larger ones are made of
_KINDS: Final = (False, True)


def scan(masks: Masks, residual: Tensor, options: DecompositionOptions, *, orders: int = _LARGEST_ORDER) -> list[Term]:
    """Return the terms that correlate best with a residual, by order and kind.

    Args:
        masks: The masks.
        residual: Float ``[m]`` with mean 0.
        options: Their weights divide the correlations; with ``kind="and"`` there are no OR terms.
        orders: The largest order.

    Returns:
        The best pairs of all, and from them on for each order the best of those that have one player more.
    """
    n = masks.present.shape[1]
    found: list[Term] = []
    for is_or in _kinds(options):
        side = masks.side(is_or)
        scores = _scores(side.T @ (residual[:, None] * side), side.T @ side, len(residual), price(2, is_or, options))
        beam: list[tuple[int, ...]] = [(place // n, place % n) for place in _best(scores.triu(1), 5 * _BEAM)]
        found += [(pair, is_or) for pair in beam]
        for order in range(3, min(orders, n) + 1):
            beam = _extended(side, residual, beam[:_BEAM], price(order, is_or, options), 2 * _BEAM)
            found += [(players, is_or) for players in beam]
    return found


def searched(n: int, options: DecompositionOptions) -> tuple[int, int]:
    """Return the number of players and pairs of both kinds, and the number of all terms that a scan looks at.

    Example:
        >>> searched(40, DecompositionOptions(kind="and"))
        (820, 9580)
    """
    kinds = len(_kinds(options))
    larger = sum(_BEAM * (n - order + 1) for order in range(3, min(_LARGEST_ORDER, n) + 1))
    pairs = n + n * (n - 1) // 2 * kinds
    return pairs, pairs + larger * kinds


def extensions(
    masks: Masks, residual: Tensor, terms: Sequence[Term], options: DecompositionOptions, most: int
) -> list[Term]:
    """Return the best terms that have one player more than given ones, of their own and of the other kind."""
    found: list[Term] = []
    for is_or in _kinds(options):
        by_order: dict[int, list[tuple[int, ...]]] = {}
        for players in dict.fromkeys(players for players, _ in terms):
            by_order.setdefault(len(players), []).append(players)
        for order, sets in sorted(by_order.items()):
            grown = _extended(masks.side(is_or), residual, sets, price(order + 1, is_or, options), most)
            found += [(players, is_or) for players in grown]
    return found


def relatives(terms: Iterable[Term], options: DecompositionOptions) -> list[Term]:
    """Return the terms of the same players in the other kind, and those with one player less, of both kinds."""
    found: list[Term] = []
    for players, is_or in terms:
        if len(players) > 1 and options.kind != "and":
            found.append((players, not is_or))
        for left in range(len(players) if len(players) > 1 else 0):
            less = players[:left] + players[left + 1 :]
            found += [(less, kind) for kind in _kinds(options) if not kind or len(less) > 1]
    return list(dict.fromkeys(found))


def _kinds(options: DecompositionOptions) -> tuple[bool, ...]:
    return _KINDS[:1] if options.kind == "and" else _KINDS


def _extended(
    side: Tensor, residual: Tensor, sets: Sequence[tuple[int, ...]], weight: float, most: int
) -> list[tuple[int, ...]]:
    """Return the best sets with one player more than given ones of one order."""
    if not sets:
        return []
    index = torch.tensor(sets, device="cpu")
    columns = side[:, index[:, 0]]
    for place in range(1, index.shape[1]):
        columns = columns * side[:, index[:, place]]
    scores = _scores((columns * residual[:, None]).T @ side, columns.T @ side, len(residual), weight)
    scores.scatter_(1, index, 0.0)
    n = side.shape[1]
    grown = (tuple(sorted((*sets[place // n], place % n))) for place in _best(scores, 3 * most))
    return list(dict.fromkeys(grown))[:most]


def _scores(sums: Tensor, counts: Tensor, m: int, weight: float) -> Tensor:
    """Return correlations by the sums of the residual where a product of columns is 1, divided by a weight."""
    variance = counts * (1 - counts / m)
    enough = (counts >= LEAST_COUNT) & (m - counts >= LEAST_COUNT)
    return torch.where(enough, sums.abs() / variance.clamp(min=1).sqrt() / weight, torch.zeros_like(sums))


def _best(scores: Tensor, most: int) -> list[int]:
    """Return the places of the best scores above 0 in a flattened tensor, the best first."""
    flat = scores.flatten()
    values, places = flat.topk(min(most, len(flat)))
    return places[values > 0].tolist()
