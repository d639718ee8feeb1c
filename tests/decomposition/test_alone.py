"""Tables that are decomposed together give what each gives alone, bit for bit: studies that were killed rely on it."""

import warnings

import pytest
import torch
from solver_problems import random

from captum_lkn.decomposition import decompose
from captum_lkn.decomposition.lattice import masks
from captum_lkn.decomposition.solvers.newton import Factor

COUNT = 6
KAPPAS = torch.tensor([0.05, 0.0, 1e-8, 0.2, 1e-8, 0.0], dtype=torch.float64)
SETTINGS = {
    "default": {"kappa": 0.05},
    "free constant": {"kappa": 0.05, "pin_ends": False},
    "AND": {"kappa": 0.05, "kind": "and"},
    "exact": {"kappa": 0.0},
    "linear program": {"kappa": 0.05, "order_weight": 0, "or_weight": 1, "ridge": 0},
    "a kappa each": {"kappa": KAPPAS},
    "a kappa each, free constant": {"kappa": KAPPAS, "pin_ends": False},
    "a kappa each, linear program": {"kappa": KAPPAS, "order_weight": 0, "or_weight": 1, "ridge": 0},
}


def maximum(x):
    """Values of a network with a maximum over the players, as in the tests of studies."""
    return (torch.tanh(x.unsqueeze(-1) * random(4, seed=1)).prod(-2) + x.amax(-1, True)) @ random(4, seed=2)


def rectified(x):
    return torch.relu(x @ random(x.shape[-1], 8, seed=3) + 0.3) @ random(8, seed=4)


def rounded(x):
    """Few different values: many solutions have rows and effects that are at their bounds by chance."""
    return (torch.round(4 * x.sum(-1)) / 4).clamp(-1, 1)


LONG = {"a kappa each, free constant", "a kappa each, linear program"}  # a minute of the processor
EACH = [pytest.param(name, marks=pytest.mark.slow) if name in LONG else name for name in SETTINGS]


@pytest.mark.parametrize("setting", EACH)
@pytest.mark.parametrize("n", range(1, 9))
@pytest.mark.parametrize("values", [maximum, rectified, rounded])
def test_a_table_among_others_has_the_effects_that_it_has_alone(values, n, setting):
    tables = values(masks(n) * random(COUNT, 1, n, seed=n))
    shared = SETTINGS[setting]
    kappas = shared["kappa"] if isinstance(shared["kappa"], torch.Tensor) else [shared["kappa"]] * COUNT
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tables without noise
        together = decompose(tables, **shared)
        alone = [decompose(one, **shared | {"kappa": own}) for one, own in zip(tables, kappas, strict=True)]
    for name in ("and_effects", "or_effects", "gap"):
        assert torch.equal(getattr(together, name), torch.stack([getattr(one, name) for one in alone])), name


@pytest.mark.parametrize("shared", [{}, {"kind": "and"}, {"pin_ends": False}], ids=["AND-OR", "AND", "free constant"])
@pytest.mark.parametrize("n", [7, 8, pytest.param(9, marks=pytest.mark.slow), pytest.param(10, marks=pytest.mark.slow)])
def test_a_table_has_the_same_effects_among_any_others(n, shared):
    """Their effects in play, steps and corrections differ; some are eliminated by rows, some have no slack."""
    given = [
        values(masks(n) * random(2, 1, n, seed=seed)) for seed in (n, 7) for values in (maximum, rectified, rounded)
    ]
    tables = torch.cat([*given, random(2, 2**n)])
    kappas = torch.tensor([0.1, 0.02, 0.3, 0.05, 1e-3, 0.2, 0.0]).double().repeat(2) * (
        tables.amax(-1) - tables.amin(-1)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tables without noise
        alone = [decompose(one, kappa=own, **shared) for one, own in zip(tables, kappas, strict=True)]
        for places in (range(14), [13, 2, 6, 5, 9], [0, 12]):
            together = decompose(tables[list(places)], kappa=kappas[list(places)], **shared)
            for name in ("and_effects", "or_effects", "gap", "steps"):
                expected = torch.stack([getattr(alone[place], name) for place in places])
                assert torch.equal(getattr(together, name), expected), name


@pytest.mark.parametrize("size", [5, 15, 31, 40])
def test_a_factor_among_others_solves_as_it_does_alone(size):
    root = random(4, size, size)
    matrix, right = root @ root.mT + 0.1 * torch.eye(size), random(4, size, seed=1)
    together = Factor(matrix.clone(), to_lines=True).solve(right)
    for i in range(4):
        alone = Factor(matrix[i : i + 1].clone(), to_lines=True)
        assert torch.equal(alone.solve(right[i : i + 1])[0], together[i])
