"""Measures of interactions against sets and loops of plain Python."""

import math
from statistics import mean, stdev

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from captum_lkn import (
    AndOrInteraction,
    Interactions,
    InteractionsBatch,
    KnowledgeChange,
    decompose,
    players_from_mask,
    table_players,
)
from captum_lkn.decomposition import Effects
from captum_lkn.evaluation import fidelity, generalization, sparsity, stability, transferable
from captum_lkn.evaluation.bootstrap import Resampling, bootstrap

N = 3
SETS = [(kind, tuple(i for i in range(N) if s >> i & 1)) for kind in ("and", "or") for s in range(1, 1 << N)]
SETS = [(kind, members) for kind, members in SETS if kind == "and" or len(members) > 1]
NUMBERS = st.one_of(st.just(0.0), st.floats(-4, 4).filter(lambda x: abs(x) > 1e-3))
ROW = st.lists(NUMBERS, min_size=len(SETS), max_size=len(SETS))
SAMPLES = st.lists(ROW, min_size=1, max_size=2)
PAIRS = st.integers(1, 2).flatmap(lambda b: st.tuples(*(st.lists(ROW, min_size=b, max_size=b),) * 2))


def batch(samples, **provenance):
    found = []
    for numbers in samples:
        effects = Effects.of(N, [(*one, x) for one, x in zip(SETS, numbers, strict=True)], constant=0.3)
        found.append(
            Interactions(tuple("abc"), effects, effects.reconstruction, kappa=0.0, gap=0.0, provenance=provenance)
        )
    return InteractionsBatch(found)


def salient_sets(samples, tau=0.05, k=None):
    """Return by sample a dict of the salient sets, or of the k strongest; the largest is that of the data set."""
    top = max(abs(x) for numbers in samples for x in numbers)
    found = []
    for numbers in samples:
        every = dict(zip(SETS, numbers, strict=True))
        if k is None:
            found.append({one: x for one, x in every.items() if abs(x) > tau * top})
        else:
            rank = sorted(every, key=lambda one: (-abs(every[one]), len(one[1]), one[0] == "or", one[1]))
            found.append({one: every[one] for one in rank[:k] if every[one]})
    return found


def groups():
    """Yield the place of each number of a result, and the sets that belong to it."""
    for row, kinds in enumerate((("and",), ("or",), ("and", "or"))):
        for column, orders in enumerate([*([m] for m in range(1, N + 1)), range(1, N + 1)]):
            yield row, column, {one for one in SETS if one[0] in kinds and len(one[1]) in orders}


@pytest.mark.parametrize("k", [None, 4])
@given(PAIRS)
def test_the_iou_is_that_of_python_sets(k, pair):
    ours = generalization(*map(batch, pair), k=k, resamples=10).samples
    sets = [salient_sets(samples, k=k) for samples in pair]
    for row, column, group in groups():
        for b in range(len(pair[0])):
            one, two = (set(side[b]) & group for side in sets)
            expected = len(one & two) / len(one | two) if one | two else math.nan
            assert float(ours[b, row, column]) == pytest.approx(expected, nan_ok=True)


@pytest.mark.filterwarnings("ignore:.*is 0 in all samples:UserWarning")
@given(PAIRS)
def test_the_weighted_index_is_that_of_loops(pair):
    given_batches = [batch(samples) for samples in pair]
    ours = generalization(*given_batches, weighted=True, resamples=10).samples
    sets = [salient_sets(samples) for samples in pair]
    units = [mean(abs(one.v_full - one.v_empty) for one in of) for of in given_batches]
    if min(units) < 1e-6:
        return
    for row, column, group in groups():
        for b in range(len(pair[0])):
            shared = whole = 0.0
            for one in (set(sets[0][b]) | set(sets[1][b])) & group:
                x, y = (samples[b][SETS.index(one)] / unit for samples, unit in zip(pair, units, strict=True))
                shared += min(abs(x), abs(y)) if x * y > 0 else 0.0
                whole += max(abs(x), abs(y)) if x * y > 0 else abs(x) + abs(y)
            assert float(ours[b, row, column]) == pytest.approx(shared / whole if whole else math.nan, nan_ok=True)


@pytest.mark.filterwarnings("ignore:.*is 0 in all samples:UserWarning")
@given(PAIRS, st.sampled_from([{}, {"k": 3}, {"weighted": True}, {"scope": "sample"}]))
def test_the_index_is_symmetric_between_0_and_1_and_1_of_itself(pair, options):
    one, two = map(batch, pair)
    there, back = (generalization(*both, resamples=20, **options) for both in ((one, two), (two, one)))
    assert torch.allclose(there.samples, back.samples, equal_nan=True)
    known = there.samples[~there.samples.isnan()]
    assert bool(((known >= -1e-12) & (known <= 1 + 1e-12)).all())
    own = generalization(one, one, resamples=20, **options).samples
    assert torch.allclose(own[~own.isnan()], own.new_ones(()))
    low, high = there.intervals
    known = (~there.samples.isnan()).sum(0) > 1  # a single sample has no interval
    assert torch.equal(known, ~low.isnan())
    assert bool((low[known] <= high[known]).all())


def test_the_noise_ceiling_is_the_index_of_each_with_its_own_draws():
    torch.manual_seed(0)
    tables = torch.randn(2, 2, 8, dtype=torch.float64)
    both = [
        InteractionsBatch(Interactions.from_decomposition(("a", "b", "c"), v, decompose(v, kappa=0.2)) for v in part)
        for part in tables
    ]
    found = generalization(*both, ceiling_draws=2, resamples=20)
    drawn = KnowledgeChange({"1": both[1], "output": both[0]}).with_noise_ceiling(draws=2).noise_ceiling.effects
    for place in range(2):
        indices = []
        for own, draws in ((both[0], drawn["output"]), (both[1], drawn["1"])):
            top = max(one.effects.largest for one in own)
            clean = _sets(own[place].effects, 0.05 * top)
            for draw in range(2):
                again = _sets(draws[place][draw], 0.05 * max(sample[draw].largest for sample in draws))
                indices.append(len(clean & again) / len(clean | again))
        assert float(found.ceiling[place, 2, -1]) == pytest.approx(mean(indices))
    assert "ceiling" in repr(found)
    assert "ceiling" in found.to_frame()
    assert len(found.plot.by_order().ax.lines) > len(generalization(*both, resamples=20).plot.by_order().ax.lines)
    with pytest.raises(ValueError, match="ceiling_draws must be"):
        generalization(*both, ceiling_draws=-1)


def _sets(effects, limit):
    rows = zip(effects.is_or.tolist(), map(tuple, effects.members.tolist()), effects.values.tolist(), strict=True)
    return {(kind, members) for kind, members, value in rows if abs(value) > limit and any(members)}


def test_interactions_of_other_questions_are_not_compared():
    one = batch([[1.0] * len(SETS)], target=0)
    with pytest.raises(ValueError, match="has the target 0 at 'first' and 1 at 'second'"):
        generalization(one, batch([[1.0] * len(SETS)], target=1))
    for options, message in [
        ({"k": 0}, "k must be"),
        ({"k": True}, "k must be"),
        ({"confidence": 1.5}, "confidence must be"),
        ({"tau": 2}, "tau"),
    ]:
        with pytest.raises(ValueError, match=message):
            generalization(one, one, **options)
    with pytest.raises(TypeError, match="resamples"):
        generalization(one, one, resamples=2.5)
    with pytest.raises(TypeError, match="weighted must be True or False; got 'no'"):
        generalization(one, one, weighted="no")


@pytest.mark.parametrize(
    ("mine", "theirs", "name"),
    [
        ({"baseline": "0"}, {"baseline": "-3"}, "baseline 0"),
        ({"decomposition": {"noise": 0.0}}, {"decomposition": {"noise": 0.1}}, "noise 0.0"),
        ({"baseline": "0"}, {}, None),
        ({"baseline": "[MASK]", "tokenizer": "a"}, {"baseline": "<mask>", "tokenizer": "b"}, None),
    ],
)
def test_other_conditions_are_warned_of_where_both_are_known(mine, theirs, name, recwarn):
    row = [[1.0] * len(SETS)]
    generalization(batch(row, **mine), batch(row, **theirs), resamples=2)
    found = [str(one.message) for one in recwarn]
    assert [f"sample 0 has the {name} at 'first'" in text for text in found] == [True] * (name is not None)


def test_shares_are_known_where_the_unit_is_0():
    found = AndOrInteraction(lambda x: x[:, 0] - x[:, 1], score="logit", noise=0).attribute(torch.ones(2, 2))
    with pytest.warns(UserWarning, match="'model' is 0 in all samples, so that its strengths"):
        split = transferable(found, found)
    row = next(row for row in split.rows() if row.kind == "both" and row.order is None)
    assert (row.share, row.low, row.transferable) == (1.0, 1.0, 2.0)
    assert math.isnan(row.transferable_positive)
    assert "(2.0 of 2.0)" in repr(split)
    with pytest.warns(UserWarning, match="of first is 0 in all samples, so that its effects have no unit"):
        generalization(found, found, weighted=True)


def test_the_bootstrap_is_that_of_scipy():
    numbers = torch.tensor([0.1, 0.5, 0.2, 0.9, 0.4, 0.3, 0.8], dtype=torch.float64)
    value, low, high = bootstrap(numbers, None, Resampling(0.9, 20_000, 1))
    theirs = stats.bootstrap((numbers.numpy(),), np.mean, confidence_level=0.9, n_resamples=20_000, method="percentile")
    assert float(value) == pytest.approx(float(numbers.mean()))
    ends = list(theirs.confidence_interval)
    assert [float(low), float(high)] == pytest.approx(
        ends, abs=0.03
    )  # means come in steps of 1 / 70, and are drawn anew
    parts = torch.stack([numbers, torch.full_like(numbers, math.nan)], 1)
    ratio = bootstrap(parts, torch.full_like(parts, 2.0), Resampling(resamples=50))
    assert float(ratio[0][0]) == pytest.approx(float(numbers.mean()) / 2)
    assert all(bool(one[1].isnan()) for one in ratio)
    before = torch.random.get_rng_state()
    assert torch.equal(bootstrap(numbers, None, Resampling())[1], bootstrap(numbers, None, Resampling())[1])
    assert torch.equal(torch.random.get_rng_state(), before)


# ---------------------------------------------------------------- stability


def test_stability_is_the_mean_over_the_deviation_of_new_extractions():
    """A linear part, whose ratio is known, and a product; the draws are made again here, one after the other."""
    x = torch.tensor([[1.0, 2.0, 1.0], [1.0, -1.0, 3.0]])
    method = AndOrInteraction(lambda x: 2 * x[:, 0] + x[:, 1] * x[:, 2], score="logit", noise=0)
    found = stability(method, x, target=None, sd=0.1, draws=6, seed=5)
    generator = torch.Generator().manual_seed(5)
    draws = [x + 0.1 * torch.randn(x.shape, generator=generator) for _ in range(6)]
    for b in range(2):
        linear = [2 * float(draw[b, 0]) for draw in draws]
        product = [float(draw[b, 1] * draw[b, 2]) for draw in draws]
        expected = [abs(mean(one)) / stdev(one) for one in (linear, product)]
        assert found.samples[b, 0, :2].tolist() == pytest.approx(expected, rel=1e-4)
        assert float(found.samples[b, 2, -1]) == pytest.approx(mean(expected), rel=1e-4)
        noise = [draw[b] - x[b] for draw in draws]
        sizes = [[float(e[s].norm() / x[b][s].norm()) for e in noise] for s in ([0], [1, 2])]
        assert found.input_noise[b, 0, :2].tolist() == pytest.approx([mean(one) for one in sizes], rel=1e-4)
    assert bool(found.samples[:, :, 2].isnan().all())
    frame = found.to_frame().set_index(["kind", "order"])
    assert frame.loc[("and", 1), "input_noise"] == pytest.approx(float(found.input_noise[:, 0, 0].mean()))


def test_stability_keeps_sets_and_classes_of_the_clean_samples_and_the_baselines():
    """Near the border of two classes noise changes the prediction, which must not change the question."""
    x = torch.tensor([[0.02, -0.01, 0.0]])
    players = players_from_mask(x, baselines=torch.tensor([[0.5, 0.5, 0.5]]))
    seen = []

    def model(x):
        seen.append(x)
        return torch.stack([x.sum(1), -x.sum(1)], 1)

    found = stability(AndOrInteraction(model, noise=0), [players], sd=0.5, draws=4, seed=1)
    assert bool(found.values[0, 0].isfinite())
    every = torch.cat(seen)
    assert bool((every == 0.5).any(0).all())  # absent players still are what they were
    again = stability(AndOrInteraction(model, noise=0), [players], sd=0.5, draws=4, seed=1)
    assert torch.allclose(found.samples, again.samples, equal_nan=True)
    fixed = stability(AndOrInteraction(model, noise=0), [players], target=0, sd=0.5, draws=4, seed=1)
    assert torch.allclose(found.samples, fixed.samples, equal_nan=True)  # class 0 is the one of the clean sample
    noisy = torch.cat(seen)
    assert bool((noisy[(noisy != 0.5).all(1)].sum(1) < 0).any())  # some draws would be of the other class


def test_what_noise_cannot_be_added_to_is_refused():
    method = AndOrInteraction(lambda x: x.sum(1), score="logit")
    with pytest.raises(TypeError, match="inputs must be a tensor to get noise; got a table"):
        stability(method, table_players(pd.DataFrame({"a": [1.0], "b": ["x"]}), pd.DataFrame({"a": [0.0], "b": ["y"]})))
    half = torch.tensor([[60.0, 70.0, 0.5]], dtype=torch.float16)  # spaced by 0.03, 0.06 and 0.0005
    with pytest.raises(ValueError, match=r"sd must be above the spacing of the inputs in torch.float16.*67%"):
        stability(method, half, target=None, sd=0.02)
    with pytest.warns(UserWarning, match="sd must be above the spacing.*33%"):
        stability(method, half, target=None, sd=0.05, draws=2)
    with pytest.raises(TypeError, match="inputs must be floating to get noise; got int64"):
        stability(method, torch.ones(1, 3, dtype=torch.int64), target=None)
    for options, message in [({"sd": 0.0}, "sd must be"), ({"draws": 1}, "draws must be")]:
        with pytest.raises(ValueError, match=message):
            stability(method, torch.ones(1, 3), target=None, **options)
    with pytest.raises(TypeError, match="method must have attribute"):
        stability(lambda x: x, torch.ones(1, 3))


def test_an_effect_that_noise_does_not_change_is_left_out():
    method = AndOrInteraction(lambda x: (x > 0).double().sum(1), score="logit", noise=0)
    found = stability(method, torch.ones(1, 2), target=None, draws=3)
    assert bool(found.values.isnan().all())
    assert "Stability" in repr(found)


# ---------------------------------------------------------------- fidelity and sparsity


def table(seed, n=N):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1 << n, generator=generator, dtype=torch.float64)


def extracted(seeds, n=N, **options):
    return InteractionsBatch(
        Interactions.from_decomposition(tuple("abcdef"[:n]), table(seed, n), decompose(table(seed, n), **options))
        for seed in seeds
    )


def test_fidelity_is_that_of_the_strongest_effects_added_up():
    found = extracted([1, 2], noise=0.1)
    curve = fidelity(found, top=4)
    for b, one in enumerate(found):
        values, span = one.values.tolist(), float(one.values.max() - one.values.min())
        for k in range(5):
            predicted = []
            for subset in range(1 << N):
                active = {i for i in range(N) if subset >> i & 1}
                total = one.v_empty
                for each in one.top(k):
                    members = set(each.members)
                    total += each.effect * (members <= active if each.kind == "and" else bool(members & active))
                predicted.append(total)
            misses = [v - p for v, p in zip(values, predicted, strict=True)]
            r2 = 1 - sum(e * e for e in misses) / sum((v - mean(values)) ** 2 for v in values)
            assert float(curve.r_squared[b, k]) == pytest.approx(r2, abs=1e-6)
            assert float(curve.largest_miss[b, k]) == pytest.approx(max(map(abs, misses)) / span, abs=1e-6)
        assert float(curve.matching_error[b]) == pytest.approx(one.residual / span)
        assert int(curve.salient[b]) == one.n_salient
        assert float(curve.salient_r_squared[b]) == pytest.approx(one.fidelity().r_squared)
    assert fidelity(found[0], top=0).r_squared.shape == (1, 1)
    frame = curve.to_frame()
    assert list(frame.columns) == ["effects", "r_squared", "low", "high", "largest_miss"]
    assert (frame["low"] <= frame["r_squared"]).all()
    with pytest.raises(TypeError, match="found must be Interactions or an InteractionsBatch; got a list"):
        fidelity([found[0]])


def test_sparsity_counts_effects_and_dividends():
    found = extracted([3, 4], noise=0.05)
    both = sparsity(found)
    strongest = max(one.effects.largest for one in found)
    dividends = []
    for one in found:
        v = one.values.tolist()
        subs = [[t for t in range(1 << N) if t & s == t] for s in range(1 << N)]
        dividends.append(
            [sum((-1) ** (bin(s).count("1") - bin(t).count("1")) * v[t] for t in subs[s]) for s in range(1, 1 << N)]
        )
    top = max(abs(x) for sample in dividends for x in sample)
    for b, one in enumerate(found):
        assert int(both.salient[b]) == sum(abs(each.effect) > 0.05 * strongest for each in one.top(None))
        assert int(both.salient_dividends[b]) == sum(abs(x) > 0.05 * top for x in dividends[b])
        ranked = sorted(map(abs, dividends[b]), reverse=True)
        assert both.dividends[b].tolist() == pytest.approx([x / ranked[0] for x in ranked])
        mine = [abs(each.effect) / one.effects.largest for each in one.top(None)]
        assert both.strengths[b, : len(mine)].tolist() == pytest.approx(mine)
    assert list(both.to_frame().columns) == ["rank", "strength", "dividend"]


def test_sparsity_counts_the_effects_that_there_can_be():
    method = AndOrInteraction(lambda x: x.prod(1), score="logit", noise=0, kind="and")
    ands = sparsity(method.attribute(torch.ones(2, 3)))
    assert ands.possible.tolist() == [7, 7]
    assert sparsity(extracted([1, 2], kappa=0.02)).possible.tolist() == [11, 11]
    constant = AndOrInteraction(lambda x: x[:, 0] * 0, score="logit", kappa=0.0).attribute(torch.ones(1, 2))
    assert "nan" not in repr(sparsity(constant))


def test_samples_may_have_different_numbers_of_players():
    found = InteractionsBatch([*extracted([1], n=2, noise=0.0), *extracted([2], n=3, noise=0.0)])
    both = sparsity(found, scope="sample")
    assert both.dividends.isnan().sum(1).tolist() == [4, 0]
    assert "of 2 to 3 players" in repr(both)
    assert generalization(found, found).values[2, -1] == 1
    assert fidelity(found).r_squared.shape[0] == 2


# ---------------------------------------------------------------- transfer


@pytest.mark.filterwarnings("ignore:.*is 0 in all samples:UserWarning")
@given(PAIRS, SAMPLES, st.sampled_from([0.5, 1.0]))
def test_what_transfers_is_salient_elsewhere_with_the_same_sign(pair, third, at_least):
    own, other = pair
    third = [third[b % len(third)] for b in range(len(own))]
    one = batch(own)
    unit = mean(abs(each.v_full - each.v_empty) for each in one)
    split = transferable(one, {"a": batch(other), "b": batch(third)}, at_least=at_least, resamples=10)
    mine, theirs = salient_sets(own), [salient_sets(other), salient_sets(third)]
    for row, column, group in groups():
        for b in range(len(own)):
            sets = set(mine[b]) & group
            shares = {s: mean(s in of[b] and of[b][s] * mine[b][s] > 0 for of in theirs) for s in sets}
            kept = {s for s in sets if shares[s] >= at_least}
            parts = split["model"]
            assert float(parts.transferable[b, row, column]) == len(kept)
            assert float(parts.other[b, row, column]) == len(sets - kept)
            if unit > 1e-6:
                strength = sum(abs(mine[b][s]) for s in sets - kept) / unit
                assert float(parts.other_strength[b, row, column]) == pytest.approx(strength)
                positive = sum(max(mine[b][s], 0) for s in kept) / unit
                assert float(parts.transferable_positive[b, row, column]) == pytest.approx(positive)


def test_states_of_a_comparison_are_split_each():
    def of(function):
        return AndOrInteraction(function, score="logit", noise=0).attribute(torch.ones(2, 3))

    clean, noisy = of(lambda x: x[:, 0] + x[:, 1]), of(lambda x: x[:, 0] + x[:, 1] - x[:, 0] * x[:, 1] * x[:, 2])
    change = KnowledgeChange({"step 1": noisy, "step 2": clean}, reference="step 2", noun="checkpoint")
    split = transferable(change, clean)
    assert list(split) == ["step 1", "step 2"]
    assert [one.players for one in split.interactions("step 1", transferable=False)[0]] == [("0", "1", "2")]
    frame = split.to_frame()
    shares = frame[(frame["kind"] == "both") & frame["order"].isna()].set_index("checkpoint")["share"]
    assert shares.to_dict() == pytest.approx({"step 1": 2 / 3, "step 2": 1.0})
    assert "checkpoint" in repr(split)
    with pytest.raises(ValueError, match="there is no checkpoint 'step 3' here"):
        split.interactions("step 3")
    with pytest.raises(TypeError, match="held_out must be an InteractionsBatch"):
        transferable(change, [clean])
    with pytest.raises(ValueError, match="at_least must be"):
        transferable(change, clean, at_least=0)


# ---------------------------------------------------------------- text


def test_results_print_and_escape():
    one = batch([[1.0, -2.0, 0.5, 0.3, 0.2, 0.1, 0.9, 1.0, 0.0, 0.0, 0.4]])
    results = [
        generalization(one, one),
        stability(AndOrInteraction(lambda x: x.sum(1), score="logit"), torch.ones(1, 3), target=None, draws=2),
        fidelity(one),
        sparsity(one),
        transferable({"<b>": one}, one),
    ]
    for found in results:
        assert max(map(len, repr(found).splitlines())) <= 80
        page = found._repr_html_()
        assert page.startswith("<table>")
        assert "<b>" not in page
        assert len(found.to_frame()) > 0
