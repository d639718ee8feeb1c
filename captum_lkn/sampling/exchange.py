"""Exchange terms for those of the other kind, where fewer or smaller effects then explain the same.

``i | j`` is the same function as i plus j minus ``i & j``. Selection takes one of the two for what it explains at that
time, and may need several terms afterwards for what one of the other kind says alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Final

import torch

from captum_lkn.decomposition.options import DecompositionOptions
from captum_lkn.sampling.refit import ROUNDING, Products, eliminate, independent, least_squares
from captum_lkn.sampling.terms import Term, price

__all__ = ["exchange", "exchangeable"]

_LARGEST: Final = 4  # an OR effect of five players is a sum of 31 AND effects
_PASSES: Final = 3
_EQUAL: Final = 1e-4  # share by which sums differ that are taken for equal


def exchangeable(term: Term) -> list[Term]:
    """Return the terms that take the place of one: that of the other kind, and those of its smaller sets.

    Example:
        >>> exchangeable(((0, 1), False))
        [((0, 1), True), ((0,), False), ((1,), False)]
    """
    players, is_or = term
    if not 1 < len(players) <= _LARGEST:
        return []
    smaller = [part for order in range(1, len(players)) for part in combinations(players, order)]
    return [(players, not is_or), *((part, is_or and len(part) > 1) for part in smaller)]


def exchange(
    known: Products, every: Sequence[Term], terms: Sequence[Term], options: DecompositionOptions, least: float
) -> list[Term]:
    """Exchange terms one by one as long as there are fewer afterwards, or as many that miss less.

    Of as many that miss the same those are taken that have the smaller weighted sum of absolute effects, which the
    decomposition of all masks minimises.

    Args:
        known: The products of all terms that may be wanted.
        every: These terms.
        terms: The terms in use.
        options: Their weights.
        least: As for :func:`captum_lkn.sampling.refit.eliminate`.

    Returns:
        The terms, no more than before.
    """
    places = {term: place for place, term in enumerate(every)}
    used = list(terms)
    missed, size = _left(known, used, places, options)
    for _ in range(_PASSES):
        before = list(used)
        for term in before:
            others = [one for one in exchangeable(term) if one in places]
            if term not in used or not others:
                continue
            # The new term first, then those in use: of terms that depend on each other the first ones are tried.
            tried = list(dict.fromkeys([others[0], *(one for one in used if one != term), *others[1:]]))
            own = known[torch.tensor([0, *(places[one] + 1 for one in tried)], device="cpu")]
            free = independent(own.gram)
            own, tried = own[free], [tried[place - 1] for place in free.tolist() if place]
            kept = [tried[place] for place in eliminate(own, tried, options, least=least, most=len(used))]
            now, less = _left(known, kept, places, options)
            noise = missed / max(known.count - len(used) - 1, 1)
            gain = missed + least * noise * (len(used) - len(kept)) - now
            equal = len(used) == len(kept) and abs(gain) <= _EQUAL * noise
            if (less < (1 - _EQUAL) * size) if equal else gain > 0:
                used, missed, size = kept, now, less
        if used == before:
            break
    return used


def _left(
    known: Products, terms: Sequence[Term], places: dict[Term, int], options: DecompositionOptions
) -> tuple[float, float]:
    """Return the sum of squares that terms leave, and the weighted sum of their absolute effects."""
    own = known[torch.tensor([0, *(places[term] + 1 for term in terms)], device="cpu")]
    found = least_squares(own, None)
    prices = found.new_tensor([price(len(players), is_or, options) for players, is_or in terms])
    return max(own.squares - float(found @ own.towards), ROUNDING * own.squares), float(prices @ found[1:].abs())
