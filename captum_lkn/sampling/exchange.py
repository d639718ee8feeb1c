"""Exchange terms for those of the other kind, where fewer terms then explain the same.

``i | j`` is the same function as i plus j minus ``i & j``. Selection takes one of the two for what it explains at that
time, and may need several terms afterwards for what one of the other kind says alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Final

import torch

from captum_lkn.decomposition.options import DecompositionOptions
from captum_lkn.sampling.refit import ROUNDING, Products, eliminate, least_squares
from captum_lkn.sampling.terms import Term

__all__ = ["exchange", "exchangeable"]

_LARGEST: Final = 4  # an OR effect of five players is a sum of 31 AND effects
_PASSES: Final = 3


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
    used, missed = list(terms), _missed(known, [places[term] for term in terms])
    for _ in range(_PASSES):
        before = list(used)
        for term in before:
            others = [one for one in exchangeable(term) if one in places]
            if term not in used or not others:
                continue
            tried = list(dict.fromkeys([*(one for one in used if one != term), *others]))
            own = known[torch.tensor([0, *(places[one] + 1 for one in tried)], device="cpu")]
            kept = [tried[place] for place in eliminate(own, tried, options, least=least, most=len(used))]
            now = _missed(known, [places[one] for one in kept])
            noise = missed / max(known.count - len(used) - 1, 1)
            if now < missed + least * noise * (len(used) - len(kept)) - 1e-9 * noise:
                used, missed = kept, now
        if used == before:
            break
    return used


def _missed(known: Products, places: Sequence[int]) -> float:
    """Return the sum of squares that terms leave."""
    own = known[torch.tensor([0, *(place + 1 for place in places)], device="cpu")]
    return max(own.squares - float(least_squares(own, None) @ own.towards), ROUNDING * own.squares)
