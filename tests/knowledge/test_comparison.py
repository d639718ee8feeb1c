import math

import numpy as np
import oracles
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from captum_lkn import Interactions, InteractionsBatch, decompose
from captum_lkn.decomposition import Effects
from captum_lkn.knowledge.comparison import compare, normaliser, shared, thresholds
from captum_lkn.knowledge.noise_ceiling import measure_noise_ceiling, own_comparison
from captum_lkn.knowledge.salience import selection_frequencies

NAMES = ("all", "reference_all", "overlap", "forgotten", "new", "salient", "reference_salient")


def effects(ands, ors=None):
    both = torch.tensor([ands, ors or [0.0] * len(ands)], dtype=torch.float64)
    return Effects.from_tables(*both)


def scaled(one, factor):
    return Effects(one.n, one.constant, one.members, one.is_or, factor * one.values)


# ---------------------------------------------------------------- brute force: plain Python over sets


def brute_force(layer, reference, tau=0.05, scope="dataset", literal_eq6=False):
    """Section 5 of docs/method.md, one set after the other; lists of samples of (ands, ors)."""

    def limits(samples):
        tops = [max(abs(x) for kind in sample for x in kind[1:]) for sample in samples]
        return [tau * (max(tops) if scope == "dataset" else top) for top in tops]

    highest = max(len(ands) - 1 for ands, _ in layer).bit_length()
    sums = [{name: [[0.0] * highest for _ in range(2)] for name in NAMES} for _ in layer]
    for found, a, b, limit_a, limit_b in zip(sums, layer, reference, limits(layer), limits(reference), strict=True):
        for kind in range(2):
            for s in range(1, len(a[kind])):
                order = bin(s).count("1") - 1
                x, y = a[kind][s], b[kind][s]
                in_a, in_b = abs(x) > limit_a, abs(y) > limit_b
                common = math.copysign(min(abs(x), abs(y)), x) if x * y > 0 else 0.0
                if not literal_eq6 and not (in_a and in_b):
                    common = 0.0
                if in_a:
                    found["all"][kind][order] += abs(x)
                    found["forgotten"][kind][order] += abs(x - common)
                    found["salient"][kind][order] += 1
                if in_b:
                    found["reference_all"][kind][order] += abs(y)
                    found["new"][kind][order] += abs(y - common)
                    found["reference_salient"][kind][order] += 1
                if in_a and in_b:
                    found["overlap"][kind][order] += abs(common)
    return sums


def over_samples(sums, part, whole, kind, order, ratio):
    pairs = [(one[part][kind][order], one[whole][kind][order]) for one in sums]
    if ratio == "sum":
        top, bottom = (sum(column) for column in zip(*pairs, strict=True))
        return top / bottom if bottom else math.nan
    shares = [top / bottom for top, bottom in pairs if bottom]
    return sum(shares) / len(shares) if shares else math.nan


# Sixteenths are exact in binary, and far from the thresholds' own rounding.
number = st.integers(-32, 32).map(lambda k: k / 16)


def one_sample(n):
    def kind(sets):
        return st.tuples(*(st.one_of(st.just(0.0), number) if s in sets else st.just(0.0) for s in range(2**n)))

    return st.tuples(kind(range(2**n)), kind([s for s in range(2**n) if oracles.size(s) > 1]))


@st.composite
def two_layers(draw):
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    return tuple([draw(one_sample(n)) for n in sizes] for _ in range(2))


def tensors(samples):
    return [effects(*sample) for sample in samples]


@given(
    two_layers(),
    st.sampled_from([0.0, 0.05, 0.3]),
    st.sampled_from(["dataset", "sample"]),
    st.booleans(),
    st.sampled_from(["sum", "mean"]),
)
def test_every_quantity_is_that_of_brute_force(layers, tau, scope, literal_eq6, ratio):
    expected = brute_force(*layers, tau=tau, scope=scope, literal_eq6=literal_eq6)
    found = compare(*map(tensors, layers), tau=tau, scope=scope, literal_eq6=literal_eq6, ratio=ratio)
    for name in NAMES:
        one_each = torch.tensor([one[name] for one in expected], dtype=torch.float64)
        torch.testing.assert_close(getattr(found.samples, name).double(), one_each, atol=1e-12, rtol=1e-12)
        torch.testing.assert_close(getattr(found, name).double(), one_each.sum(0), atol=1e-12, rtol=1e-12)
    for name, part, whole in (("completeness", "overlap", "reference_all"), ("redundancy", "forgotten", "all")):
        for kind in range(2):
            for order in range(found.all.shape[1]):
                share = over_samples(expected, part, whole, kind, order, ratio)
                assert float(getattr(found, name)[kind, order]) == pytest.approx(share, abs=1e-12, nan_ok=True)


@given(two_layers(), st.sampled_from(["dataset", "sample"]))
def test_eq_8_holds_and_ratios_are_shares(layers, scope):
    found = compare(*map(tensors, layers), scope=scope)
    torch.testing.assert_close(found.all, found.overlap + found.forgotten, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(found.reference_all, found.overlap + found.new, atol=1e-12, rtol=1e-12)
    for share in (found.completeness, found.redundancy):
        known = share[~share.isnan()]
        assert ((known >= 0) & (known <= 1 + 1e-12)).all()


@given(two_layers(), st.sampled_from([0.25, 3.0, 1e6]))
def test_the_unit_takes_a_scale_out(layers, factor):
    layer, reference = map(tensors, layers)
    plain = compare(layer, reference)
    other = compare([scaled(one, factor) for one in layer], reference, units=(factor, 1.0))
    for name in NAMES:
        torch.testing.assert_close(getattr(other, name), getattr(plain, name), atol=1e-12, rtol=1e-12)


@given(two_layers())
def test_swapping_layer_and_reference_swaps_new_and_forgotten(layers):
    there, back = compare(*map(tensors, layers)), compare(*map(tensors, reversed(layers)))
    for one, other in (("overlap", "overlap"), ("forgotten", "new"), ("all", "reference_all")):
        torch.testing.assert_close(getattr(there, one), getattr(back, other), atol=1e-12, rtol=1e-12)


# ---------------------------------------------------------------- cases by hand


def test_the_literal_form_breaks_eq_8_where_a_set_is_salient_on_one_side_only():
    layer, final = effects([0.0, 1 / 2, 1 / 2, 0.0]), effects([0.0, 1 / 101, 100 / 101, 0.0])
    exact, literal = compare([layer], [final]), compare([layer], [final], literal_eq6=True)
    assert float(exact.overlap[0, 0]) == float(literal.overlap[0, 0]) == 1 / 2
    assert float(exact.forgotten[0, 0]) == 1 / 2
    assert float(literal.forgotten[0, 0]) == pytest.approx(
        1 / 2 - 1 / 101
    )  # the first set is salient in the layer alone
    assert float(literal.all[0, 0]) != pytest.approx(float(literal.overlap[0, 0] + literal.forgotten[0, 0]))
    assert float(exact.reference_all[0, 0]) == pytest.approx(100 / 101)


def test_a_layer_against_itself_is_complete_and_not_redundant():
    layer = effects([5.0, 1.0, 0.0, -2.0], [0.0, 0.0, 0.0, 0.5])
    found = compare([layer], [layer])
    assert found.completeness.tolist() == [[1.0, 1.0], [pytest.approx(math.nan, nan_ok=True), 1.0]]
    assert found.redundancy[0].tolist() == [0.0, 0.0]


def test_opposite_signs_share_nothing():
    layer = effects([0.0, 1.0, 2.0, -2.0], [0.0, 0.0, 0.0, 0.5])
    found = compare([layer], [scaled(layer, -1.0)])
    assert not found.overlap.any()
    torch.testing.assert_close(found.forgotten, found.all)
    assert found.completeness[0].tolist() == [0.0, 0.0]


def test_and_effects_and_or_effects_of_the_same_set_are_not_shared():
    found = compare([effects([0.0, 0.0, 0.0, 1.0])], [effects([0.0] * 4, [0.0, 0.0, 0.0, 1.0])])
    assert not found.overlap.any()


def test_the_empty_set_never_counts():
    huge = effects([1e9, 1.0, 0.0, 0.0])
    assert thresholds([huge], 0.05, "dataset") == [0.05]
    assert huge.above(0.0).tolist() == [True]  # the constant is not among the sets


def test_the_threshold_is_one_for_and_and_or_together():
    one = effects([0.0, 0.04, 0.06, 0.0], [0.0, 0.0, 0.0, 1.0])
    assert thresholds([one], 0.05, "sample") == [0.05]
    assert one.salient().tolist() == [False, True, True]


def test_scopes_differ_where_one_sample_is_weaker():
    weak, strong = effects([0.0, 0.01, 0.0, 0.0]), effects([0.0, 1.0, 0.0, 0.0])
    for scope, expected in (("dataset", [0, 1]), ("sample", [1, 1])):
        found = compare([weak, strong], [weak, strong], scope=scope)
        assert found.samples.salient.sum((1, 2)).tolist() == expected


def test_samples_of_different_sizes_have_nothing_in_orders_beyond_their_own():
    one, two = effects([0.0, 1.0]), effects([0.0, 1.0, 0.0, 2.0])
    found = compare([one, two], [one, two], ratio="mean")
    assert found.all.tolist() == [[2.0, 2.0], [0.0, 0.0]]
    assert found.completeness[0].tolist() == [1.0, 1.0]  # 0 / 0 of the first sample is left out of the mean
    assert found.completeness[1].isnan().all()


def test_all_orders_together_are_sums_before_the_ratio():
    layer, reference = effects([0.0, 1.0, 0.0, 1.0]), effects([0.0, 1.0, 0.0, 3.0])
    assert compare([layer], [reference]).over_orders().completeness[0].tolist() == [0.5]


def test_a_unit_of_zero_gives_nan():
    layer = effects([0.0, 1.0, 0.0, 1.0])
    found = compare([layer], [layer], units=(0.0, 1.0))
    for share in (found.completeness, found.redundancy, found.overlap):
        assert share.isnan().all()
    assert found.salient[0].tolist() == [1, 1]  # which are salient does not depend on the unit


def test_shared_is_eq_6():
    a, b = torch.tensor([2.0, -3.0, 1.0, 0.0]), torch.tensor([0.5, -4.0, -1.0, 2.0])
    assert shared(a, b).tolist() == [0.5, -3.0, 0.0, 0.0]


def test_the_normaliser_is_the_mean_change_and_zero_where_that_is_rounding():
    tables = [torch.tensor([0.0, 9.0, 9.0, -1.0]), torch.tensor([1.0, 4.0])]
    assert normaliser([one.double() for one in tables]) == 2.0
    # in float32 the last difference is rounding; in float64 it is one
    still = [torch.tensor([5.0, 0.0, 5.0 + 1e-7], dtype=torch.float64)]
    assert normaliser(still, torch.finfo(torch.float32).eps) == 0.0
    assert normaliser(still) == pytest.approx(1e-7)
    assert normaliser([1e7 + torch.tensor([0.0, 9.0, 1.0], dtype=torch.float64)]) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"tau": -0.1}, ValueError, "tau must be a share"),
        ({"tau": 2}, ValueError, "tau must be a share"),
        ({"tau": "much"}, TypeError, "tau must be a number"),
        ({"scope": "all"}, ValueError, "scope must be 'dataset' or 'sample'; got 'all'"),
        ({"ratio": "median"}, ValueError, "ratio must be 'sum' or 'mean'; got 'median'"),
        ({"literal_eq6": 1}, TypeError, "literal_eq6 must be True or False"),
    ],
)
def test_options_are_checked(options, error, message):
    with pytest.raises(error, match=message):
        compare([effects([0.0, 1.0])], [effects([0.0, 1.0])], **options)


def test_other_samples_or_players_are_refused():
    with pytest.raises(ValueError, match="the same samples and players"):
        compare([effects([0.0, 1.0])], [effects([0.0, 1.0, 0.0, 0.0])])
    with pytest.raises(ValueError, match="the same samples and players"):
        compare([effects([0.0, 1.0])], [])


# ---------------------------------------------------------------- noise ceiling


def extracted(*tables, **options):
    """Interactions as an attribution class makes them, of value tables."""

    def one(table):
        found = decompose(table, **options)
        n = len(table).bit_length() - 1
        return Interactions.from_decomposition(tuple(f"p{i}" for i in range(n)), table, found)

    return InteractionsBatch([one(table) for table in tables])


def table(n, seed):
    values = torch.randn(2**n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    values[-1] = values[0] + 3
    return values


@pytest.fixture(scope="module")
def batch():
    return extracted(table(4, 0), table(3, 1), table(4, 2))


def sparse(batch):
    return [one.effects for one in batch]


def drawn(batch, **options):
    """The draws of the first sample."""
    return measure_noise_ceiling({"a": batch}, **options).effects["a"][0]


def own(batch, ceiling, **options):
    return own_comparison(
        sparse(batch), ceiling.effects["a"], **{"tau": 0.05, "scope": "dataset", "ratio": "sum"} | options
    )


def test_without_noise_and_jitter_a_layer_finds_all_of_itself(batch):
    ceiling = measure_noise_ceiling({"a": batch}, draws=2, value_noise=0.0, jitter=0.0)
    complete = own(batch, ceiling).completeness
    torch.testing.assert_close(complete[~complete.isnan()], torch.ones(7, dtype=torch.float64))
    shares = selection_frequencies(sparse(batch), ceiling.effects["a"], tau=0.05, scope="dataset")
    limits = thresholds(sparse(batch), 0.05, "dataset")
    for share, one, limit in zip(shares, sparse(batch), limits, strict=True):
        assert torch.equal(share, one.above(limit).double())


def test_noise_lowers_what_is_found_again(batch):
    small, large = (measure_noise_ceiling({"a": batch}, draws=4, value_noise=noise) for noise in (0.003, 0.3))
    one, other = (own(batch, ceiling).over_orders().completeness.sum() for ceiling in (small, large))
    assert 0 < float(other) < float(one) < 2
    shares = torch.cat(selection_frequencies(sparse(batch), large.effects["a"], tau=0.05, scope="dataset"))
    assert set((4 * shares).tolist()) <= {0.0, 1.0, 2.0, 3.0, 4.0}
    assert 0 < float(shares[(shares > 0)].mean()) < 1


@pytest.mark.slow
@pytest.mark.parametrize("scope", ["dataset", "sample"])
@pytest.mark.parametrize("ratio", ["sum", "mean"])
def test_what_is_found_again_is_a_share(batch, scope, ratio):
    complete = own(batch, measure_noise_ceiling({"a": batch}, draws=3), scope=scope, ratio=ratio).completeness
    known = complete[~complete.isnan()]
    assert len(known) > 3
    assert ((known >= 0) & (known <= 1)).all()


def same(one, other):
    return one.constant == other.constant and torch.equal(one.values, other.values)


def test_draws_are_those_of_the_seed_and_depend_on_no_other_layer(batch):
    alone = measure_noise_ceiling({"a": batch}, draws=2, seed=3)
    beside = measure_noise_ceiling({"b": batch[:1], "a": batch}, draws=2, seed=3)
    other = measure_noise_ceiling({"a": batch}, draws=2, seed=4)
    for x, y, z in zip(alone.effects["a"], beside.effects["a"], other.effects["a"], strict=True):
        assert all(map(same, x, y))
        assert not any(map(same, x, z))


def test_draws_differ_and_follow_the_noise_that_was_asked_for(batch):
    ceiling = measure_noise_ceiling({"a": batch}, draws=6, value_noise=0.02)
    for one, draws in zip(batch, ceiling.effects["a"], strict=True):
        assert not same(draws[0], draws[1])
        noise = torch.tensor([draw.constant - one.v_empty for draw in draws])
        # with pinned ends the empty effect is the noisy v(empty) itself
        deviation = 0.02 * abs(one.v_full - one.v_empty)
        assert float(noise.abs().max()) < 5 * deviation
        assert float(noise.abs().max()) > deviation / 10


def test_the_default_noise_is_a_quarter_of_kappa_and_one_percent_where_kappa_is_0():
    for noise in (0.04, 0.0):
        one = extracted(table(3, 1), noise=noise)
        for default, asked in zip(drawn(one, draws=3), drawn(one, draws=3, value_noise=0.01), strict=True):
            torch.testing.assert_close(default.tables(), asked.tables(), atol=1e-6, rtol=0)
            assert default.constant != one[0].v_empty
    other = extracted(table(3, 1), noise=0.08)
    pair = drawn(other, draws=1)[0].tables(), drawn(other, draws=1, value_noise=0.02)[0].tables()
    torch.testing.assert_close(*pair, atol=1e-6, rtol=0)


def test_draws_keep_the_options_of_the_extraction():
    ands_only = extracted(table(3, 1), kind="and", noise=0.1)
    assert not any(draw.is_or.any() for draw in drawn(ands_only, draws=2))


@pytest.mark.parametrize("kappa", [0.0, 0.3])
def test_without_noise_and_jitter_a_layer_finds_all_of_itself_again(kappa):
    # AND effects alone, with no word about how they were made: dividends, and a sparse decomposition
    v = table(3, 1)
    found = decompose(v, kappa=kappa, kind="and")
    by_hand = Interactions(("a", "b", "c"), found.effects, v, kappa=kappa, gap=float(found.gap))
    draws = drawn(InteractionsBatch([by_hand]), draws=2, value_noise=0.0, jitter=0.0)
    again = own_comparison([found.effects], [draws], tau=0.05, scope="dataset", ratio="sum")
    known = again.completeness[0][~again.completeness[0].isnan()]
    torch.testing.assert_close(known, torch.ones_like(known), atol=1e-6, rtol=0)
    assert len(known) == 3 or kappa


def test_jitter_alone_moves_an_answer_that_is_not_unique():
    # 1[i] + 1[j] = 1[i and j] + 1[i or j]: under the paper's program both cost the same
    additive = torch.tensor([0.0, 1.0, 1.0, 2.0], dtype=torch.float64)
    program = extracted(additive, order_weight=0.0, or_weight=1.0, ridge=0.0, noise=0.0)
    ands = torch.stack([draw.tables()[0] for draw in drawn(program, draws=20, jitter=0.1)])
    singles, pairs = ands[:, 1] > 0.5, ands[:, 3] > 0.5
    assert (singles != pairs).all()
    assert 0 < int(singles.sum()) < 20


def test_the_random_state_is_not_touched(batch):
    before = torch.random.get_rng_state()
    measure_noise_ceiling({"a": batch[:1]}, draws=1)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"draws": 0}, ValueError, "draws must be at least 1; got 0"),
        ({"draws": 2.0}, TypeError, "draws must be a whole number"),
        ({"seed": -1}, ValueError, "seed must be from 0"),
        ({"seed": None}, TypeError, "seed must be a whole number"),
        ({"value_noise": -1.0}, ValueError, "value_noise must be at least 0"),
        ({"value_noise": "big"}, TypeError, "value_noise must be a number"),
        ({"jitter": 1.0}, ValueError, "jitter must be a share of each weight"),
        ({"jitter": math.inf}, ValueError, "jitter must be at least 0 and finite"),
    ],
)
def test_options_of_ceiling_are_checked(batch, options, error, message):
    with pytest.raises(error, match=message):
        measure_noise_ceiling({"a": batch}, **options)


# ---------------------------------------------------------------- weights of each table's own


def cheapest(v, kappa, cost):
    """The minimum with the prices of ``cost``, written out for SciPy."""
    existing = oracles.effects_of(3)
    z = np.array(oracles.synthesis_matrix(3, existing))
    prices = [float(cost[int(is_or), s]) for s, is_or in existing]
    slack = np.array(oracles.slack_of(v, kappa, True))
    distance = np.array(v) - v[0]
    return linprog(
        prices * 2,
        A_ub=np.vstack([np.hstack([z, -z]), np.hstack([-z, z])]),
        b_ub=np.concatenate([distance + slack, slack - distance]),
        method="highs",
    ).fun


def test_the_cost_of_each_table_is_its_own():
    tables = torch.stack([table(3, seed) for seed in range(4)])
    cost = 0.3 + torch.rand(4, 2, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = decompose(tables, cost=cost, order_weight=0.0, or_weight=1.0, ridge=0.0, noise=0.05)
    paid = (cost * torch.stack([found.and_effects, found.or_effects], dim=1).abs())[..., 1:].sum((1, 2))
    for v, kappa, own_cost, own_paid in zip(tables.tolist(), found.kappa.tolist(), cost, paid.tolist(), strict=True):
        assert own_paid == pytest.approx(cheapest(v, kappa, own_cost), rel=2e-5)
    assert (found.gap <= 1e-5).all()


@pytest.mark.parametrize("shape", [(8,), (2, 8), (1, 8), (4, 2, 8), (4, 1, 8)])
def test_a_cost_of_1_changes_nothing(shape):
    tables = torch.stack([table(3, seed) for seed in range(4)])
    plain, same = decompose(tables), decompose(tables, cost=torch.ones(shape))
    assert torch.equal(plain.and_effects, same.and_effects)
    assert torch.equal(plain.or_effects, same.or_effects)


def test_what_costs_more_is_used_less():
    either = torch.tensor([0.0, 1.0, 1.0, 1.0], dtype=torch.float64)  # the OR of both; or 1[0] + 1[1] - 1[0 and 1]
    cost = torch.ones(2, 4)
    cost[1] = 10
    assert not decompose(either, noise=0.0, cost=cost).or_effects.any()
    assert decompose(either, noise=0.0).or_effects[3] == 1


@pytest.mark.parametrize(
    ("cost", "error", "message"),
    [
        (torch.ones(3), ValueError, r"cost must be .* broadcasts to \[5, 2, 8\]; got \[3\]"),
        (torch.ones(4, 2, 8), ValueError, "cost must be .*so that it broadcasts"),
        (torch.zeros(8), ValueError, "cost must be from 1e-10 to 1e\\+10 everywhere"),
        (torch.full((8,), math.inf), ValueError, "cost must be from 1e-10 to 1e\\+10 everywhere"),
        (torch.full((8,), math.nan), ValueError, "cost must be from 1e-10 to 1e\\+10 everywhere"),
        (torch.ones(8).long(), TypeError, "cost must be a floating tensor"),
        ([1.0] * 8, TypeError, "cost must be a floating tensor"),
    ],
)
def test_a_cost_that_does_not_fit_is_refused(cost, error, message):
    with pytest.raises(error, match=message):
        decompose(torch.zeros(5, 8), cost=cost)
