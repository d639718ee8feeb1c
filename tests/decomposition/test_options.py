import dataclasses
import inspect

import oracles
import pytest
import torch

from captum_lkn.decomposition import DecompositionOptions, decompose


def table(seed=0, n=5):
    return torch.randn(1 << n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_every_option_is_a_keyword_of_decompose():
    names = {field.name for field in dataclasses.fields(DecompositionOptions)}
    assert names | {"values", "options", "cost", "solver", "names", "show_progress", "joint"} == set(
        inspect.signature(decompose).parameters
    )


def test_options_at_once_are_the_same_as_one_by_one():
    chosen = {"noise": 0.1, "pin_ends": False, "order_weight": 0.3, "or_weight": 2.0, "ridge": 0.1, "kind": "and-or"}
    together, apart = decompose(table(), options=DecompositionOptions(**chosen)), decompose(table(), **chosen)
    assert torch.equal(together.and_effects, apart.and_effects)
    assert torch.equal(together.or_effects, apart.or_effects)
    assert together.options == apart.options == DecompositionOptions(**chosen)


def test_a_keyword_replaces_what_the_options_say():
    options = DecompositionOptions(kappa=0.3, kind="and")
    assert decompose(table(), options=options, kind="and-or").options == options.replace(kind="and-or")
    found = decompose(table(), options=options, noise=0.0)  # else the kappa of the options would win over it
    assert found.options.noise == 0
    assert found.options.kappa is None
    assert float(found.kappa) == 0
    assert float(decompose(table(), options=options, noise=0.0, kappa=0.2).kappa) == 0.2


def test_a_kappa_for_each_table_goes_with_options():
    found = decompose(
        torch.stack([table(), table(1)]), options=DecompositionOptions(kind="and"), kappa=torch.tensor([0.1, 0.2])
    )
    assert found.kappa.tolist() == pytest.approx([0.1, 0.2])
    assert found.options == DecompositionOptions(kind="and")


def test_options_come_back_from_a_dict_and_can_be_keys():
    options = DecompositionOptions(noise=0, or_weight=2)
    assert DecompositionOptions(**options.to_dict()) == options
    assert {options: 1}[DecompositionOptions(noise=0.0, or_weight=2.0)] == 1
    assert isinstance(options.noise, float)


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({"noise": -1}, ValueError, "noise must be a finite number >= 0; got -1"),
        ({"ridge": float("inf")}, ValueError, "ridge must be a finite number >= 0; got inf"),
        ({"kappa": "x"}, TypeError, "kappa must be a finite number >= 0; got 'x'"),
        ({"largest_gap": -1}, ValueError, "largest_gap must be a finite number >= 0; got -1"),
        ({"max_steps": 0}, ValueError, "max_steps must be None or a whole number >= 1; got 0"),
        ({"max_steps": 2.5}, TypeError, "max_steps must be None or a whole number >= 1; got 2.5"),
        ({"or_weight": 0}, ValueError, "or_weight must be a finite number above 0; got 0"),
        ({"tolerance": 0}, ValueError, "tolerance must be a finite number above 0; got 0.*1e-6"),
        ({"pin_ends": "yes"}, TypeError, "pin_ends must be True or False; got 'yes'"),
        ({"kind": "or"}, ValueError, "kind must be 'and-or' or 'and'; got 'or'"),
        ({"ridge": 1e11}, ValueError, r"ridge must be at most 1e\+10; got 1"),
        ({"or_weight": 1e-11}, ValueError, "or_weight must be at least 1e-10; got 1e-11"),
    ],
    ids=str,
)
def test_a_bad_option_is_refused_when_it_is_made(given, error, says):
    with pytest.raises(error, match=says):
        DecompositionOptions(**given)


def test_options_of_another_type_are_refused():
    with pytest.raises(TypeError, match=r"options must be a DecompositionOptions; got dict.*noise=0\.02"):
        decompose(table(), options={"noise": 0.1})


# ---------------------------------------------------------------- the weight of OR effects


@pytest.mark.parametrize("or_weight", [0.5, 1.0, 1.5, 4.0])
def test_the_weight_of_or_effects_is_in_the_minimum_and_in_its_certificate(or_weight):
    v = table(3, 4)
    kappa = 0.05
    found = decompose(v, kappa=kappa, order_weight=0.15, ridge=0.0, or_weight=or_weight, tolerance=1e-8)
    optimum, _, _ = oracles.sparse_optimum(v.tolist(), kappa, order_weight=0.15, or_weight=or_weight)
    size = torch.tensor([oracles.size(s) for s in range(16)])
    weights = 1 + 0.15 * (size - 1)
    price = (weights * (found.and_effects.abs() + or_weight * found.or_effects.abs()))[1:].sum()
    assert float(price) == pytest.approx(optimum, rel=1e-6)
    assert float(found.gap) <= 1e-8


def test_a_weight_above_one_takes_a_tie_to_the_and_effect():
    either = torch.tensor([0.0, 1.0, 1.0, 1.0], dtype=torch.float64)  # the OR of two, or both of them less their AND
    assert float(decompose(either, noise=0.0).or_effects[3]) == pytest.approx(1)
    assert not decompose(either, noise=0.0, or_weight=4.0).or_effects.any()


@pytest.mark.parametrize("kappa", [1e3, 1e12, 1e300])
def test_a_kappa_beyond_all_values_binds_nothing(kappa):
    v = table(1)
    found = decompose(v, kappa=kappa)
    assert float(found.objective) == pytest.approx(abs(float(v[-1] - v[0])), rel=1e-5)
    assert bool(found.converged)
    assert float(found.kappa) == kappa
