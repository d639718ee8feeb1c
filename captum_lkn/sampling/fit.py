"""Sparse AND and OR effects of values at sampled masks.

Terms are selected one by one, the terms that the others make needless are dropped, and the rest is fitted by least
squares. A term is worth its place if it takes more than the best of as many terms of pure noise would (the risk
inflation criterion of Foster and George, "The risk inflation criterion for multiple regression", 1994). Weights of
orders and of OR are those of the decomposition of all 2^n values, and so is what may be missed: once no value is missed
by more than a quarter of kappa, no more terms are added.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

import torch
from torch import Tensor

from captum_lkn._common.rounding import no_autocast
from captum_lkn.decomposition import lattice
from captum_lkn.decomposition.decompose import decompose
from captum_lkn.decomposition.effects import Effects
from captum_lkn.decomposition.options import DecompositionOptions
from captum_lkn.sampling.candidates import searched
from captum_lkn.sampling.exchange import exchange, exchangeable
from captum_lkn.sampling.masks import MaskPlan
from captum_lkn.sampling.pool import Pool
from captum_lkn.sampling.refit import Products, eliminate, least_squares, products
from captum_lkn.sampling.small import count_steps, fit_with_small, small_terms
from captum_lkn.sampling.terms import Masks, Term, activity, members_of, terms_of

__all__ = ["SampledFit", "fit_sampled", "select_terms"]

_FOLDS: Final = 10
_ROUNDS: Final = 2
_ASIDE: Final = 5  # one mask in so many says how many small effects help
_MARGIN: Final = 4  # of kappa to what is missed at the masks that are seen: at the others more may be missed
_SURE: Final = 2.0  # standard errors by which the lower threshold must improve the prediction of those masks
_EXCESS: Final = 1.4  # so many times the terms that may stay are selected, before the worst are dropped
_MASKS_PER_EFFECT: Final = 10
_ALONE: Final = 0.9  # share of the variance that players alone explain where selection begins with all of them;
# of two sentences it was .64 and .65, of planted games of 30 to 200 players .48 to .72
_MOST_EXCHANGED: Final = 60  # every exchange solves for all terms: of 150 it would take longer than all else


@dataclass(frozen=True, eq=False)
class SampledFit:
    """Effects of one sample from values at sampled masks.

    Attributes:
        effects: The effects; the constant is v(empty) where the ends are pinned.
        refits: Float64 ``[F, k]``, the effects in the order of ``effects``, each time without one of F parts of the
            masks; ``[0, k]`` where all 2^n masks were evaluated.
        selected: The terms that were selected one by one; those of `effects` that are not among them are small ones.
        r_squared: R^2 at masks that were not used to fit: of uniform ones, and of all sizes.
        deviation: The root mean square of what the effects miss at the masks that were used.
    """

    effects: Effects
    refits: Tensor
    selected: list[Term]
    r_squared: tuple[float, float]
    deviation: float


@no_autocast()
def fit_sampled(
    plan: MaskPlan,
    values: tuple[Tensor, Tensor, Tensor],
    options: DecompositionOptions,
    *,
    max_effects: int | None = None,
    start: Sequence[Term] = (),
) -> SampledFit:
    """Fit effects to values, and test them.

    Args:
        plan: The masks, from :func:`captum_lkn.sampling.masks.plan_masks`; the first to fit is empty, the second full.
        values: Float64, for each of the three kinds of masks.
        options: The weights of terms, `kappa` or `noise`, `kind` and `pin_ends`.
        max_effects: The largest number of effects; None: one for ten masks, or one for each player if these are more.
        start: Terms to begin with; those that turn out needless are dropped.

    Returns:
        The fit. Where the masks to fit are all 2^n there are, it is the decomposition of the table.

    Example:
        >>> from captum_lkn.sampling.masks import plan_masks
        >>> plan = plan_masks(30, 1000, torch.Generator().manual_seed(0))
        >>> def score(masks):  # players 3 and 7 together, and 2 for either 11 or 20
        ...     x = masks.double()
        ...     return x[:, 3] * x[:, 7] + 2 * torch.maximum(x[:, 11], x[:, 20])
        >>> found = fit_sampled(plan, tuple(map(score, plan)), DecompositionOptions())
        >>> found.effects.values.round(decimals=3).tolist(), found.effects.is_or.tolist()
        ([1.0, 2.0], [False, True])
    """
    masks, own = plan.fit, values[0]
    n = masks.shape[1]
    if len(masks) == 1 << n:
        return _decomposed(masks, own, options)
    v_empty, v_full = float(own[0]), float(own[1])
    kappa = options.noise * abs(v_full - v_empty) if options.kappa is None else options.kappa
    enough = kappa / _MARGIN
    most = max(n, len(masks) // _MASKS_PER_EFFECT) if max_effects is None else max_effects
    steps, small = 0, list[Term]()
    least = 2 * math.log(searched(n, options)[0])
    if max_effects is None:
        least, steps = _first_look(masks, own, options, enough, most, start)
    terms = select_terms(masks, own, options, enough=enough, most=most, start=start, least=least)
    if steps:
        small = small_terms(Masks.of(masks), own, terms, options, enough=enough, steps=steps)
    every = [*terms, *small]
    wide = Masks.of(masks, torch.float64)
    ends = (v_empty, v_full) if options.pin_ends else None

    def fitted(known: Products) -> Tensor:
        return fit_with_small(known, small, options, steps, ends) if small else least_squares(known, ends)

    whole = products(wide, every, own)
    found = fitted(whole)
    fold = torch.arange(len(masks), device="cpu") % _FOLDS
    parts = [
        fitted(whole - products(Masks(*(x[fold == f] for x in wide)), every, own[fold == f])) for f in range(_FOLDS)
    ]
    effects, refits = _ordered(n, every, found, torch.stack(parts))
    missed = own - effects.predict(masks)
    return SampledFit(
        effects,
        refits,
        terms,
        (_r_squared(effects, plan.uniform, values[1]), _r_squared(effects, plan.all_sizes, values[2])),
        float(missed.square().mean().sqrt()),
    )


def select_terms(
    masks: Tensor,
    values: Tensor,
    options: DecompositionOptions,
    *,
    enough: float,
    most: int,
    start: Sequence[Term] = (),
    least: float,
    rounds: int = _ROUNDS,
) -> list[Term]:
    """Select the terms whose effects explain values.

    Args:
        masks: Bool ``[m, n]``.
        values: Float64 ``[m]``.
        options: The weights and kinds of terms.
        enough: Terms are added until no value is missed by more than this.
        most: The largest number of terms.
        start: Terms to begin with. Without any these are all players where they alone explain almost everything: of
            many players that all count a little, each moves less than the best of all pairs does by chance.
        least: A term stays if the square of its t-value is above this.
        rounds: How often all of it is done.

    Returns:
        The terms.
    """
    spread = float(values.std())
    if len(values) < 2 or spread <= 1e-12 * float(values.abs().max()):
        return []
    scaled = (values - values.mean()) / spread  # the pool computes in float32
    narrow, wide = Masks.of(masks), Masks.of(masks, torch.float64)
    terms = list(start) or _single_players(wide, scaled)
    enough = max(enough / spread, 1e-5)
    for again in range(rounds):
        pool = Pool(narrow, scaled, options)
        pool.start(terms)
        if terms and not again:
            pool.grow()  # steps look for sets at every eighth term, and the first may be another one
        while len(pool.terms) < math.ceil(_EXCESS * most) and pool.worst > enough:
            if not pool.step(least):
                break
        known = products(wide, pool.terms, scaled)
        kept = eliminate(known, pool.terms, options, least=least, most=most)
        before, terms = terms, [pool.terms[place] for place in kept]
        if options.kind != "and" and len(terms) <= _MOST_EXCHANGED:
            every = list(dict.fromkeys([*terms, *chain.from_iterable(map(exchangeable, terms))]))
            terms = exchange(products(wide, every, scaled), every, terms, options, least)
        if set(before) == set(terms):
            break
    return terms


def _single_players(masks: Masks, scaled: Tensor) -> list[Term]:
    """Return all players as terms if they alone explain almost all of values with mean 0 and variance 1, or none."""
    alone: list[Term] = [((player,), False) for player in range(masks.present.shape[1])]
    known = products(masks, alone, scaled)
    explained = float(least_squares(known, None) @ known.towards)
    return alone if explained >= _ALONE * known.squares else []


def _first_look(
    masks: Tensor, values: Tensor, options: DecompositionOptions, enough: float, most: int, start: Sequence[Term]
) -> tuple[float, int]:
    """Select terms at a part of the masks, and choose by the others the threshold and the number of small steps.

    Returns:
        The least square of the t-values, and the number of steps of small effects.
    """
    aside = torch.arange(len(masks), device="cpu") % _ASIDE == _ASIDE - 1
    low, high = (2 * math.log(count) for count in searched(masks.shape[1], options))
    used, own = Masks.of(masks[~aside], torch.float64), values[~aside]
    terms = select_terms(masks[~aside], own, options, enough=enough, most=most, start=start, least=low, rounds=1)
    known = products(used, terms, own)
    places = eliminate(known, terms, options, least=high, most=most)
    fewer = [terms[place] for place in places]
    few = known[torch.tensor([0, *(place + 1 for place in places)], device="cpu")]
    rest = Masks.of(masks[aside], torch.float64)
    missed, less = (
        (values[aside] - found[0] - found[1:] @ activity(rest, those)).square()
        for found, those in ((least_squares(few, None), fewer), (least_squares(known, None), terms))
    )
    better = missed - less
    sure = float(better.mean()) > _SURE * float(better.std()) * len(better) ** -0.5
    terms, least = (terms, low) if sure else (fewer, high)
    return least, count_steps(Masks.of(masks), values, aside, terms, options, enough=enough)


def _ordered(n: int, terms: Sequence[Term], found: Tensor, refits: Tensor) -> tuple[Effects, Tensor]:
    """Return the effects, and the refits in their order, which need not be that of the terms."""
    members, is_or = members_of(terms, n)
    places = torch.arange(1, len(terms) + 1, dtype=torch.float64, device="cpu")
    order = Effects(n, 0.0, members, is_or, places).values.long() - 1
    effects = Effects(n, float(found[0]), members, is_or, found[1:].clone())
    return effects, refits[:, 1:][:, order]


def _r_squared(effects: Effects, masks: Tensor, values: Tensor, weights: Tensor | None = None) -> float:
    """Return R^2 over masks; NaN where there are none, or where their values are all the same."""
    if not len(values):
        return math.nan
    shares = torch.full_like(values, 1 / len(values)) if weights is None else weights / weights.sum()
    missed = (shares * (values - effects.predict(masks)).square()).sum()
    spread = (shares * (values - (shares * values).sum()).square()).sum()
    return float(1 - missed / spread) if spread > 0 else math.nan


def _decomposed(masks: Tensor, values: Tensor, options: DecompositionOptions) -> SampledFit:
    """Return the decomposition of a table, whose masks are in any order."""
    n = masks.shape[1]
    table = torch.empty_like(values)
    table[lattice.subset_index(masks)] = values
    effects = decompose(table, options=options).effects
    sizes = masks.sum(1)
    inner = (sizes > 0) & (sizes < n)
    of_size = sizes.bincount(minlength=n + 1).double()
    by_size = torch.where(inner, 1 / of_size[sizes], 0.0)
    missed = values - effects.predict(masks)
    return SampledFit(
        effects,
        effects.values.new_zeros(0, len(effects)),
        terms_of(effects),
        (_r_squared(effects, masks, values), _r_squared(effects, masks, values, by_size) if n > 1 else math.nan),
        float(missed.square().mean().sqrt()),
    )
