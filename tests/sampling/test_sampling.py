"""Effects from sampled masks, against planted games, the decomposition of all masks and enumeration."""

import itertools
import math

import pytest
import torch

from captum_lkn.decomposition import DecompositionOptions, Effects, decompose, indices, lattice
from captum_lkn.sampling.exchange import exchange, exchangeable
from captum_lkn.sampling.fit import fit_sampled
from captum_lkn.sampling.masks import MaskPlan, least_samples, plan_masks
from captum_lkn.sampling.players import banzhaf_weights, jackknife_errors, pair_weights, shapley_weights
from captum_lkn.sampling.refit import eliminate, independent, least_squares, products
from captum_lkn.sampling.small import boost, fit_with_small
from captum_lkn.sampling.terms import Masks, activity


def planted(n, seed, count=15, highest=4):
    """Return a game of AND and OR effects of up to four players, none of a set twice."""
    drawn = torch.Generator().manual_seed(seed)
    sets = {}
    while len(sets) < count:
        order = int(torch.randint(1, highest + 1, (1,), generator=drawn))
        players = tuple(sorted(torch.randperm(n, generator=drawn)[:order].tolist()))
        is_or = order > 1 and bool(torch.randint(0, 2, (1,), generator=drawn))
        size = float(0.5 + 1.5 * torch.rand(1, generator=drawn)) * (1 if torch.rand(1, generator=drawn) < 0.5 else -1)
        sets.setdefault(players, ("or" if is_or else "and", players, size))
    return Effects.of(n, sets.values())


def score(game, masks):
    """Sum up the effects set by set, in a loop that shares nothing with the library."""
    values = torch.zeros(len(masks), dtype=torch.float64)
    for members, is_or, effect in zip(game.members, game.is_or, game.values, strict=True):
        own = masks[:, members]
        values += effect * (own.any(1) if is_or else own.all(1))
    return values


def fitted(game, n_samples, error=0.0, *, seed=0, **options):
    plan = plan_masks(game.n, n_samples, torch.Generator().manual_seed(seed))
    drawn = torch.Generator().manual_seed(seed + 1)
    values = tuple(score(game, masks) for masks in plan)
    deviation = error * values[0].std()
    noisy = tuple(own + deviation * torch.randn(len(own), generator=drawn, dtype=torch.float64) for own in values)
    return fit_sampled(plan, noisy, DecompositionOptions(**options))


def all_masks_plan(n):
    every = lattice.members(torch.arange(1 << n), n)
    none = torch.zeros(0, n, dtype=torch.bool)
    return MaskPlan(torch.cat([every[:1], every[-1:], every[1:-1]]), none, none)


@pytest.mark.parametrize("n", [13, 21, 70, 200])
def test_masks_differ_and_see_all_sizes(n):
    plan = plan_masks(n, 3000, torch.Generator().manual_seed(0))
    assert [len(masks) for masks in plan] == [2700, 150, 150]
    assert len({tuple(row) for row in torch.cat(plan).tolist()}) == 3000
    assert plan.fit[:2].sum(1).tolist() == [0, n]
    assert set(plan.fit.sum(1).tolist()) >= set(range(3, n - 2))
    again = plan_masks(n, 3000, torch.Generator().manual_seed(0))
    assert all(map(torch.equal, plan, again))
    assert not torch.equal(plan.fit, plan_masks(n, 3000, torch.Generator().manual_seed(1)).fit)


def test_no_more_masks_than_there_are():
    plan = plan_masks(8, 300, torch.Generator().manual_seed(0))
    assert [len(masks) for masks in plan] == [256, 0, 0]
    assert lattice.subset_index(plan.fit).sort().values.tolist() == list(range(256))


def test_planted_effects_of_forty_players_are_all_found():
    game = planted(40, seed=3)
    found = fitted(game, 3000, 0.01, pin_ends=False)
    assert torch.equal(found.effects.members, game.members)
    assert torch.equal(found.effects.is_or, game.is_or)
    apart = (found.effects.values - game.values) / jackknife_errors(found.refits)
    assert float(apart.square().mean()) < 4  # standard errors are of the size of the errors
    assert min(found.r_squared) > 0.999


@pytest.mark.parametrize("n", [6, 9])
def test_all_masks_are_decomposed_as_a_table(n):
    table = torch.randn(1 << n, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
    plan = all_masks_plan(n)
    options = DecompositionOptions(kappa=0.2)
    found = fit_sampled(plan, (table[lattice.subset_index(plan.fit)], table[:0], table[:0]), options)
    exact = decompose(table, options=options).effects
    assert torch.equal(found.effects.members, exact.members)
    assert torch.equal(found.effects.values, exact.values)
    missed = table - exact.reconstruction
    assert found.r_squared[0] == pytest.approx(1 - float(missed.var() / table.var()), abs=1e-2)
    assert jackknife_errors(found.refits).isnan().all()


@pytest.mark.parametrize("seed", range(3))
def test_most_masks_explain_all_as_sparsely_as_the_decomposition(seed):
    game, every = planted(9, seed, count=6, highest=3), lattice.members(torch.arange(1 << 9), 9)
    exact = decompose(score(game, every), noise=0.0).effects
    found = fitted(game, 450, noise=0.0).effects
    assert len(found) <= len(exact)
    assert torch.allclose(found.predict(every), score(game, every), atol=1e-9)


def test_terms_are_exchanged_where_fewer_of_the_other_kind_say_the_same():
    masks = plan_masks(30, 800, torch.Generator().manual_seed(0)).fit
    game = Effects.of(30, [("or", (0, 1), -0.75), ("or", (0, 2), 0.7), ("and", (2,), -1.9)])
    terms = [((1,), False), ((2,), False), ((0, 1), False), ((0, 2), False)]  # all but player 0, of -.05
    every = list(dict.fromkeys([*terms, *itertools.chain.from_iterable(map(exchangeable, terms))]))
    known = products(Masks.of(masks, torch.float64), every, score(game, masks))
    found = exchange(known, every, terms, DecompositionOptions(), least=15.0)
    assert sorted(found) == [((0, 1), True), ((0, 2), True), ((2,), False)]


def test_terms_that_depend_on_each_other_are_exchanged():
    """Nine functions of three players and the constant, of which only eight are independent."""
    masks = plan_masks(30, 800, torch.Generator().manual_seed(0)).fit
    game = Effects.of(30, [("or", (0, 1, 2), -1.5), ("and", (1,), -0.8)])
    terms = [((1,), False), ((0, 2), False), ((0, 1, 2), False), ((0, 1), True), ((1, 2), True)]
    every = list(dict.fromkeys([*terms, *itertools.chain.from_iterable(map(exchangeable, terms))]))
    known = products(Masks.of(masks, torch.float64), every, score(game, masks))
    assert sorted(exchange(known, every, terms, DecompositionOptions(), least=15.0)) == [
        ((0, 1, 2), True),
        ((1,), False),
    ]


def test_of_equal_sums_the_smaller_effects_are_taken():
    masks = plan_masks(30, 800, torch.Generator().manual_seed(0)).fit
    game = Effects.of(30, [("and", (0,), 1.6), ("and", (1,), -1.8), ("or", (0, 1), 2.0)])
    terms = [((0,), False), ((1,), False), ((0, 1), False)]  # 3.6, .2 and -2 say the same
    every = list(dict.fromkeys([*terms, *itertools.chain.from_iterable(map(exchangeable, terms))]))
    known = products(Masks.of(masks, torch.float64), every, score(game, masks))
    found = exchange(known, every, terms, DecompositionOptions(), least=15.0)
    assert sorted(found) == [((0,), False), ((0, 1), True), ((1,), False)]


def test_columns_are_independent_of_those_before_them():
    generator = torch.Generator().manual_seed(0)
    columns = torch.randn(7, 50, generator=generator, dtype=torch.float64)
    columns[3] = columns[0] - 2 * columns[1]
    columns[5] = columns[4] + columns[3]
    kept = independent(columns @ columns.T)
    assert kept.tolist() == [0, 1, 2, 4, 6]
    assert torch.linalg.matrix_rank(columns[kept]) == torch.linalg.matrix_rank(columns)


def test_boosting_moves_to_least_squares():
    generator = torch.Generator().manual_seed(0)
    columns = torch.randn(6, 90, generator=generator, dtype=torch.float64)
    values = torch.randn(90, generator=generator, dtype=torch.float64)
    gram = columns @ columns.T
    places, moves = boost(lambda place, _: gram[place], gram.diagonal(), columns @ values, torch.ones(6), 2000)
    found = torch.zeros(6, dtype=torch.float64).index_add_(0, places, moves)
    assert torch.allclose(found, torch.linalg.lstsq(columns.T, values[:, None]).solution[:, 0], atol=1e-6)
    first = int((columns @ values / columns.norm(dim=1)).abs().argmax())
    assert int(places[0]) == first


def test_selected_effects_are_fitted_to_what_small_ones_leave():
    masks = plan_masks(30, 800, torch.Generator().manual_seed(0)).fit
    terms = [((0,), False), ((1, 2), False), ((3, 4), True), ((5, 6), False)]
    values = torch.randn(len(masks), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    wide = Masks.of(masks, torch.float64)
    known = products(wide, terms, values)
    for ends in (None, (1.0, 4.0)):
        found = fit_with_small(known, terms[2:], DecompositionOptions(), 40, ends)
        small = found[3:] @ activity(wide, terms[2:])
        left = None if ends is None else (ends[0], ends[1] - float(found[3:].sum()))
        assert torch.allclose(found[:3], least_squares(products(wide, terms[:2], values - small), left))
    assert float(found.sum()) == pytest.approx(4.0)


def many_small(n, seed):
    """Return the values of ten strong effects and of up to 200 small ones."""
    strong = planted(n, seed, count=10)
    drawn = torch.Generator().manual_seed(seed + 100)
    sets = [tuple(sorted(torch.randperm(n, generator=drawn)[:2].tolist())) for _ in range(200)]
    sizes = (0.12 * torch.randn(200, generator=drawn)).tolist()
    listed = [("and", pair, size) for pair, size in dict(zip(sets, sizes, strict=True)).items()]
    weak = Effects.of(n, listed)

    def values(masks):
        return score(strong, masks) + score(weak, masks)

    return values


def test_many_small_effects_predict_where_there_are_many():
    game, plan = many_small(21, 0), plan_masks(21, 1200, torch.Generator().manual_seed(0))
    values = tuple(game(masks) for masks in plan)
    found = fit_sampled(plan, values, DecompositionOptions(noise=0.0))
    alone = fit_sampled(plan, values, DecompositionOptions(noise=0.0), max_effects=len(found.selected))
    assert len(found.effects) > len(found.selected)
    assert len(alone.effects) <= len(found.selected)
    assert 1 - min(found.r_squared) < 0.8 * (1 - min(alone.r_squared))
    ends = found.effects.predict(plan.fit[:2])
    assert torch.allclose(ends, values[0][:2])
    assert found.refits.shape == (10, len(found.effects))


@pytest.mark.parametrize("seed", [103, 104, 106])
def test_values_with_noise_get_no_small_effects(seed):
    game = planted(30, seed)
    found = fitted(game, 2500, 0.02)
    assert len(found.effects) == len(found.selected)


@pytest.mark.parametrize("error", [0.0, 0.01])
def test_many_players_that_all_count_a_little_are_found_as_players(error):
    """Each moves less than the best of 11,000 pairs does by chance, so that pairs were found in their place."""
    weights = 0.5 + torch.rand(150, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    game = Effects.of(150, [*(("and", (i,), w) for i, w in enumerate(weights.tolist())), ("and", (3, 8), 3.0)])
    found = fitted(game, 1800, error, kappa=0.1, pin_ends=False)
    assert min(found.r_squared) > 0.99
    assert torch.equal(found.effects.members, game.members)
    assert torch.allclose(found.effects.values, game.values, atol=20 * error + 1e-6)


def test_standard_errors_cover_the_planted_effects():
    """Over games and masks, about 95 % of effects lie within two standard errors."""
    apart = []
    for seed in range(6):
        game = planted(25, seed)
        found = fitted(game, 1500, 0.05, seed=seed, pin_ends=False)
        if torch.equal(found.effects.members, game.members) and torch.equal(found.effects.is_or, game.is_or):
            apart.append((found.effects.values - game.values) / jackknife_errors(found.refits))
    assert len(apart) >= 4
    within = (torch.cat(apart).abs() < 2).double().mean()
    assert 0.85 < float(within) < 1


def test_and_effects_alone():
    game = Effects.of(24, [("or", (2, 5), 1.0)])
    found = fitted(game, 600, kind="and").effects
    assert not found.is_or.any()
    assert found.values.tolist() == pytest.approx([1.0, 1.0, -1.0])


def test_ends_are_exact_where_they_are_pinned():
    plan = plan_masks(30, 500, torch.Generator().manual_seed(0))
    values = tuple(torch.tanh(masks.double().sum(1) / 5 - 3) + masks[:, 3].double() for masks in plan)
    effects = fit_sampled(plan, values, DecompositionOptions()).effects
    assert effects.predict(plan.fit[:2]).tolist() == pytest.approx(values[0][:2].tolist(), abs=1e-9)
    free = fit_sampled(plan, values, DecompositionOptions(pin_ends=False)).effects
    assert abs(float(free.predict(plan.fit[:2])[1]) - float(values[0][1])) > 1e-6


def test_a_score_that_does_not_depend_on_the_players():
    plan = plan_masks(25, 400, torch.Generator().manual_seed(0))
    found = fit_sampled(plan, tuple(torch.full((len(masks),), 2.0).double() for masks in plan), DecompositionOptions())
    assert len(found.effects) == 0
    assert found.effects.constant == 2.0
    assert all(map(math.isnan, found.r_squared))


def test_least_squares_are_those_of_the_columns():
    masks = plan_masks(30, 400, torch.Generator().manual_seed(0)).fit
    terms = [((0,), False), ((1, 2), False), ((3, 4, 5), True), ((6, 7), True)]
    wide = Masks.of(masks, torch.float64)
    values = torch.randn(len(masks), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    columns = torch.cat([torch.ones(1, len(masks), dtype=torch.float64), activity(wide, terms)]).T
    expected = torch.linalg.lstsq(columns, values[:, None]).solution[:, 0]
    assert torch.allclose(least_squares(products(wide, terms, values), None), expected)
    ends = least_squares(products(wide, terms, values), (1.0, 4.0))
    assert float(ends[0]) == 1.0
    assert float(ends.sum()) == pytest.approx(4.0)
    # No solution with these ends is better: moving along any direction that keeps them does not help.
    for i, j in itertools.combinations(range(1, 5), 2):
        moved = ends.clone()
        moved[i] += 1e-3
        moved[j] -= 1e-3
        assert (values - columns @ moved).square().sum() > (values - columns @ ends).square().sum()


def test_elimination_drops_the_terms_that_cost_least():
    masks = plan_masks(20, 1000, torch.Generator().manual_seed(0)).fit
    terms = [((0,), False), ((1, 2), False), ((3, 4), False), ((5, 6), True)]
    wide = Masks.of(masks, torch.float64)
    values = activity(wide, terms[:3]).T @ torch.tensor([2.0, 1.0, 0.5], dtype=torch.float64)
    values = values + 0.01 * torch.randn(len(masks), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    known = products(wide, terms, values)
    assert eliminate(known, terms, DecompositionOptions(), least=15.0, most=10) == [0, 1, 2]
    assert eliminate(known, terms, DecompositionOptions(), least=15.0, most=2) == [0, 1]


@pytest.mark.parametrize("seed", range(2))
def test_values_of_players_are_those_of_the_table(seed):
    game = planted(7, seed, count=8, highest=4)
    table = score(game, lattice.members(torch.arange(1 << 7), 7))
    assert torch.allclose(shapley_weights(game) @ game.values, indices.shapley_values(table))
    assert torch.allclose(banzhaf_weights(game) @ game.values, indices.banzhaf_values(table))
    index = indices.shapley_interaction_index(table, 2)
    pairs, weights = pair_weights(game)
    found = torch.zeros_like(index)
    found[(1 << pairs).sum(1)] = weights @ game.values
    of_pairs = lattice.orders(7) == 2
    assert torch.allclose(found[of_pairs], index[of_pairs])


def test_the_least_number_of_masks_grows_with_the_players():
    assert least_samples(200) > least_samples(21) > 10 * 21
