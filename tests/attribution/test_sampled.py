"""Interactions from sampled masks, for the output."""

import warnings

import matplotlib.pyplot as plt
import pytest
import torch

from captum_lkn import AndOrInteraction, SampledBatch, SampledInteractions, compare_models, players_from_mask


def either_and_both(x):
    """Return 2 for either x1 or x30, 3 for x7 with x8 and x9, and 1 for x2."""
    return 2 * torch.maximum(x[:, 1], x[:, 30]) + 3 * x[:, 7] * x[:, 8] * x[:, 9] + x[:, 2]


@pytest.fixture(scope="module")
def method():
    return AndOrInteraction(either_and_both, score="logit")


@pytest.fixture(scope="module")
def found(method):
    return method.attribute(torch.ones(1, 40), n_samples=800)


def test_effects_errors_and_values_of_players(found):
    (one,) = found
    assert [(x.name, round(x.effect, 6)) for x in one.top()] == [("7 & 8 & 9", 3.0), ("1 | 30", 2.0), ("2", 1.0)]
    assert one.r_squared == pytest.approx((1.0, 1.0), abs=1e-9)
    assert one.masks == (700, 50, 50)
    assert float(one.errors.max()) < 1e-9
    expected = torch.zeros(40, dtype=torch.float64)
    expected[[7, 8, 9, 1, 30, 2]] = 1.0
    assert torch.allclose(one.shapley_values(), expected)
    expected[[7, 8, 9]] = 3 / 4
    assert torch.allclose(one.banzhaf_values(), expected)
    assert one.interaction_index()[(1, 30)] == pytest.approx(-2.0)
    assert torch.allclose(found.attributions()[0].double(), one.shapley_values())
    assert [x.name for x in one.salient(0.4)] == ["7 & 8 & 9", "1 | 30"]
    assert one.effect(1, 30, kind="or") == pytest.approx(2.0)
    assert one.provenance["sampling"] == {"n_samples": 800, "seed": 0, "max_effects": None}


def test_r_squared_is_printed_first(found):
    assert str(found[0]).startswith("R^2 1.000 at 50 fresh uniform masks, 1.000 at 50 of all sizes")
    assert "7 & 8 & 9  +3.00" in str(found[0])
    assert "0  R^2 1.000" in str(found)
    assert "R^2 1.000" in found[0]._repr_html_()
    assert ">1.000</td>" in found._repr_html_()


def test_masks_that_give_the_same_copy_are_evaluated_once():
    x = torch.zeros(1, 40)  # a table's counts, most of which are 0 as their baselines are
    x[0, [1, 7, 8, 9, 2, 30]] = 1.0
    rows = []

    def forward(x):
        rows.append(len(x))
        return either_and_both(x)

    method = AndOrInteraction(forward, score="logit")
    (one,) = method.attribute(x, n_samples=800)
    assert sum(rows) <= 2**6 + 7  # of the unmasked sample and of the checks seven
    assert [(x.name, round(x.effect, 6)) for x in one.top()] == [("7 & 8 & 9", 3.0), ("1 | 30", 2.0), ("2", 1.0)]
    assert (
        method.plan(x, n_samples=800, perturbations_per_eval=9).forwards
        == (method.attribute(x, n_samples=800, perturbations_per_eval=9)[0].provenance["forwards"])
    )
    few = x[:, :12]
    rows.clear()
    (one,) = AndOrInteraction(lambda x: forward(torch.cat([x, 0 * x, 0 * x], 1)), score="logit").attribute(few)
    assert sum(rows) <= 2**5 + 7
    copies = torch.tensor([[s >> i & 1 for i in range(12)] for s in range(1 << 12)]) * few
    assert torch.equal(one.values, either_and_both(torch.cat([copies, 0 * copies, 0 * copies], 1)).double())


def test_files_and_frames(found, tmp_path):
    pytest.importorskip("pandas", reason="pandas is an extra")
    found.save(tmp_path / "batch.safetensors")
    found[0].save(tmp_path / "one.safetensors")
    for again in (
        SampledBatch.load(tmp_path / "batch.safetensors")[0],
        SampledInteractions.load(tmp_path / "one.safetensors"),
    ):
        assert again.to_frame().equals(found[0].to_frame())
        assert torch.equal(again.refits, found[0].refits)
        assert (again.r_squared, again.masks, again.options) == (found[0].r_squared, found[0].masks, found[0].options)
        assert torch.equal(again.attributions(), found[0].attributions())
    frame = found.to_frame()
    assert frame[["order", "kind"]].values.tolist() == [[3, "and"], [2, "or"], [1, "and"]]
    assert frame.error.max() < 1e-9


@pytest.mark.parametrize("name", ["bars", "network", "ranking", "sentence", "strength", "upset", "waterfall"])
def test_pictures(found, name):
    fig, _ = getattr(found[0].plot, name)()
    plt.close(fig)


def test_a_sample_with_few_players_is_decomposed_as_without_sampling(method):
    x = torch.ones(1, 31)
    mask = torch.full((1, 31), -1)
    mask[0, [1, 7, 8, 9, 30]] = torch.arange(5)
    sampled = method.attribute(x, feature_mask=mask, n_samples=32)[0]
    exact = method.attribute(x, feature_mask=mask)[0]
    assert torch.equal(sampled.effects.values, exact.effects.values)
    assert torch.equal(sampled.effects.members, exact.effects.members)
    assert (sampled.v_empty, sampled.v_full) == (exact.v_empty, exact.v_full)
    assert sampled.r_squared[0] == pytest.approx(exact.fidelity(0).r_squared)
    assert sampled.errors.isnan().all()


def test_samples_of_different_sizes_and_seeds(method):
    x = torch.ones(2, 40)
    mask = torch.arange(40).repeat(2, 1)
    mask[1, 35:] = -1
    found = method.attribute(x, feature_mask=mask, n_samples=600)
    alone = method.attribute(x[1:], feature_mask=mask[1:], n_samples=600)
    assert [one.n_players for one in found] == [40, 35]
    assert torch.equal(found[1].effects.values, alone[0].effects.values)
    one, two = (method.attribute(x[:1], n_samples=600, seed=seed)[0] for seed in (0, 1))
    assert torch.equal(one.effects.values, found[0].effects.values)
    assert not torch.equal(one.refits, two.refits)


def test_few_effects_are_warned_of(method):
    with pytest.warns(UserWarning, match=r"R\^2 at fresh masks is below 0.9 for sample 0 \(as low as -?0\.\d\d\)"):
        found = method.attribute(torch.ones(1, 40), n_samples=600, max_effects=1)
    assert len(found[0].effects) == 1


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, ValueError, r"at most n = 20 are evaluated. Give attribute n_samples=4000.*select_players"),
        ({"n_samples": 499}, ValueError, "n_samples must be at least 500 for 40 players; got 499"),
        ({"n_samples": 4e3}, TypeError, "n_samples must be a whole number; got 4000.0"),
        ({"n_samples": 600, "seed": -1}, ValueError, "seed must be at least 0; got -1"),
        ({"n_samples": 600, "max_effects": 0}, ValueError, "max_effects must be at least 1; got 0"),
        ({"max_effects": 10}, ValueError, "max_effects must be None without n_samples; got 10"),
    ],
)
def test_wrong_arguments(method, options, error, message):
    with pytest.raises(error, match=message):
        method.attribute(torch.ones(1, 40), **options)


def test_a_value_that_is_not_finite():
    broken = AndOrInteraction(lambda x: x.sum(1) / (1 - x[:, 0] * (1 - x[:, 1])), score="logit")
    with pytest.raises(ValueError, match=r"the value of sample 0 is .*inf.* with"):
        broken.attribute(torch.ones(1, 30), n_samples=500)


def test_a_forward_with_one_value_for_the_batch_and_players():
    def whole(x):
        return either_and_both(x).sum()[None]

    found = AndOrInteraction(whole, score="logit").attribute(torch.ones(2, 40), n_samples=500)
    assert [round(one.effect, 5) for one in found[0].top()] == [6.0, 4.0, 2.0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        listed = AndOrInteraction(either_and_both, score="logit").attribute(
            [players_from_mask(torch.ones(1, 40))], n_samples=500
        )
    assert listed[0].v_full == 6.0


@pytest.fixture(scope="module")
def pair():
    def score(x):
        return 2 * x[:, 3] * x[:, 4] + torch.maximum(x[:, 1], x[:, 8]) * x.amax(1) - x[:, 5]

    return AndOrInteraction(score, score="logit").attribute(torch.ones(2, 30), n_samples=500)


def test_pages_and_pictures_of_sampled_masks(pair, tmp_path):
    pair.report(tmp_path / "batch.html")
    pair[0].report(tmp_path / "one.html")
    for name in ("batch", "one"):
        assert "3 &amp; 4" in (tmp_path / f"{name}.html").read_text()
    assert "fresh uniform masks" in (tmp_path / "one.html").read_text()
    assert "R^2" in (tmp_path / "batch.html").read_text()
    for name in ("bars", "beeswarm", "summary"):
        assert getattr(pair.plot, name)().fig is not None


def test_shapiq_gets_the_effects_of_sampled_masks(pair):
    pytest.importorskip("shapiq", reason="shapiq is an extra of its own")
    one = pair[0]
    moebius = one.to_shapiq("Moebius")
    for masks in (torch.ones(1, 30), torch.eye(30)[[1, 8]].amax(0)[None], torch.eye(30)[3:5].amax(0)[None]):
        present = set(masks[0].nonzero().flatten().tolist())
        value = sum(v for members, v in moebius.interactions.items() if set(members) <= present)
        assert value == pytest.approx(float(one.predict(masks.bool())[0]))
    shapley = one.to_shapiq("SV")
    expected = one.shapley_values()
    assert [shapley[(i,)] for i in range(30)] == pytest.approx(expected.tolist())
    assert one.to_shapiq("k-SII", 2)[(3, 4)] == pytest.approx(2.0, abs=0.1)
    with pytest.raises(ValueError, match="of must be 'effects' for effects from sampled masks"):
        one.to_shapiq(of="values")
    with pytest.raises(ValueError, match="computes from Moebius coefficients for order 2; got 'XII'"):
        one.to_shapiq("XII")


def test_values_that_are_not_finite_at_some_masks_are_named():
    def hole(x):
        return x.sum(1) + torch.where(x[:, 7] + x[:, 9] == 0, torch.nan, 0.0)

    with pytest.raises(ValueError, match=r"the value of sample 0 is nan with .*look at what the model returns"):
        AndOrInteraction(hole, score="logit").attribute(torch.ones(1, 30), n_samples=500)


def test_models_are_compared_at_sampled_masks():
    models = {"base": lambda x: x[:, 3] + x[:, 4], "tuned": lambda x: x[:, 3] + 2 * x[:, 4] * x[:, 5]}
    change = compare_models(
        models, torch.ones(1, 30), target=None, reference="tuned", score="logit", n_samples=500, seed=1
    )
    assert change["base"].completeness[0, :2].tolist() == pytest.approx([1.0, 0.0], abs=1e-6)
    assert change.interactions["base"][0].provenance["sampling"]["seed"] == 1
