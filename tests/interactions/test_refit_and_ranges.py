import math

import pytest
import torch

from captum_lkn.decomposition import Effects, decompose
from captum_lkn.interactions import Interactions, InteractionsBatch

WORDS = ("not", "good", "scene")


def decomposed(v, **options):
    v = torch.as_tensor(v, dtype=torch.float64)
    return Interactions.from_decomposition(WORDS[: len(v).bit_length() - 1], v, decompose(v, **options))


@pytest.fixture(scope="module")
def noisy():
    """A table of two planted effects with noise, and its decomposition."""
    planted = Effects.of(3, [("and", (0, 1), 3.0), ("and", (2,), -1.0)], constant=0.5)
    noise = 0.02 * torch.randn(8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return decomposed(planted.reconstruction + noise, kappa=0.15)


def test_a_refit_keeps_the_sets_takes_the_shrinkage_away_and_says_so(noisy):
    found = noisy.refit()
    assert [(one.name, round(one.effect, 1)) for one in found.top(None)] == [("not & good", 3.0), ("scene", -1.0)]
    assert abs(noisy.effect("not", "good")) < 2.95
    assert found.refitted
    assert math.isinf(found.gap)
    assert found.predict(torch.ones(3).bool()).item() == pytest.approx(noisy.v_full)
    lines = repr(found).splitlines()
    assert lines[-2].startswith("  refitted by least squares: R^2 ")
    assert lines[-1] == "  (kappa 0.15 does not bound it); nothing certified"
    assert "refitted" in found._repr_html_()
    assert "refitted" not in repr(noisy)


def test_a_refit_of_a_refit_changes_nothing(noisy):
    found = noisy.refit()
    assert found.refit().effects.values.tolist() == pytest.approx(found.effects.values.tolist())


def test_effects_that_a_refit_makes_small_are_dropped():
    v = torch.tensor([0.0, 0.0, 1.0, 1.0], dtype=torch.float64)
    shrunk = Effects.of(2, [("and", (0,), 0.1), ("and", (1,), 0.8), ("and", (0, 1), 0.1)])
    found = Interactions(("a", "b"), shrunk, v, kappa=0.2, gap=0.0).refit()
    assert [(one.name, one.effect) for one in found.top(None)] == [("b", 1.0)]


def test_a_refit_of_free_ends_fits_the_constant():
    found = decomposed([0.3, 1.0, 1.0, 1.2], kappa=0.2, pin_ends=False).refit()
    mean = found.values.mean().item()
    assert found.predict(torch.tensor([[False, False], [True, False], [False, True], [True, True]])).mean() == (
        pytest.approx(mean)
    )


def test_a_batch_is_refitted_sample_by_sample(noisy):
    batch = InteractionsBatch([noisy, noisy]).refit(tau=0.1)
    assert [one.refitted for one in batch] == [True, True]
    assert batch[1].effects.values.equal(noisy.refit(0.1).effects.values)


def test_refitted_effects_come_back_from_a_file(noisy, tmp_path):
    noisy.refit().save(tmp_path / "refitted.safetensors")
    assert Interactions.load(tmp_path / "refitted.safetensors").refitted
    noisy.save(tmp_path / "found.safetensors")
    assert not Interactions.load(tmp_path / "found.safetensors").refitted


def test_fidelity_is_that_of_the_salient_effects_alone(noisy):
    everything, salient = noisy.fidelity(0.0), noisy.fidelity(0.5)
    assert everything.effects == len(noisy.effects)
    assert everything.largest_miss == pytest.approx(noisy.residual)
    assert salient.effects == 1
    assert salient.r_squared < everything.r_squared
    one = Effects.of(3, [("and", (0, 1), noisy.effect("not", "good"))], constant=noisy.v_empty)
    assert salient.largest_miss == pytest.approx(float((noisy.values - one.reconstruction).abs().max()))


def test_salient_effects_up_to_kappa_can_be_left_out():
    v = torch.tensor([0.0, 2.0, 0.2, 2.2], dtype=torch.float64)
    found = Interactions(("a", "b"), Effects.of(2, [("and", (0,), 2.0), ("and", (1,), 0.2)]), v, kappa=0.2, gap=0.0)
    assert [one.name for one in found.salient()] == ["a", "b"]
    assert [one.name for one in found.salient(above_kappa=True)] == ["a"]
    assert [one.name for one in found.salient(0.1, relative=False, above_kappa=True)] == ["a"]
    assert "salient (above 5 % of the largest): 2 effects, 1 above kappa, against 2^2" in repr(found)
    pytest.importorskip("pandas", reason="pandas is not installed: pip install 'captum-lkn[frame]'")
    assert found.to_frame()["above_kappa"].tolist() == [True, False]


def test_ranges_mark_what_a_convention_decides():
    found = decomposed([0.0, 1.0, -0.5, 2.5], noise=0, or_weight=1.1, ridge=0.02)
    ranges = found.effect_ranges()
    # not +1 - t, good -.5 - t, not & good +2 + t, not | good t cost the same for t from -.5 to 0
    assert [one.interaction.name for one in ranges] == ["not & good", "not", "good"]
    for one, (low, high) in zip(ranges, [(1.5, 2.0), (1.0, 1.5), (-0.5, 0.0)], strict=True):
        assert one.low == pytest.approx(low, abs=0.03)
        assert one.high == pytest.approx(high, abs=0.03)
        assert one.low <= low + 1e-6
        assert one.high >= high - 1e-6
    assert [one.contains_zero for one in ranges] == [False, False, True]
    lines = repr(ranges).splitlines()
    assert lines[0] == "Effects over all explanations that cost at most 0.1 % more"
    assert [line.endswith("*") for line in lines[1:4]] == [False, False, True]
    assert lines[-1] == "  * may be 0 or of the other sign: a convention decides, not the values"
    assert str(ranges[2]).endswith("] *")
    pytest.importorskip("pandas", reason="pandas is not installed: pip install 'captum-lkn[frame]'")
    frame = found.to_frame(found.effect_ranges(1))
    assert frame["low"].isna().tolist() == [False, True, True]
    assert frame["high"][0] == ranges[0].high


def test_ranges_are_those_of_effects_that_reproduce_the_values(noisy):
    with pytest.raises(ValueError, match=r"within kappa = 0.15; got a miss of .* before refit"):
        Interactions(WORDS, Effects.of(3, []), noisy.values, kappa=0.15, gap=0.0, refitted=True).effect_ranges()
    assert len(noisy.effect_ranges(0)) == 0


@pytest.mark.parametrize(
    ("arguments", "error"), [({"k": -1}, ValueError), ({"k": 1.5}, TypeError), ({"slack": math.inf}, ValueError)]
)
def test_ranges_refuse(noisy, arguments, error):
    with pytest.raises(error):
        noisy.effect_ranges(**arguments)
