"""Properties of the indices by their definitions, for tables with large, small and tied numbers."""

import math

import oracles
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from captum_lkn.decomposition import decompose, indices, lattice

TABLES = st.integers(1, 4).flatmap(
    lambda n: st.lists(st.floats(-8, 8, width=32), min_size=2**n, max_size=2**n).map(
        lambda numbers: torch.tensor(numbers, dtype=torch.float64)
    )
)
INDICES = {
    "AND effects": lattice.and_transform,
    "OR effects": lambda v: lattice.or_transform(v - v[..., :1]),  # the constant is no effect
    "Shapley values": lambda v: on_singles(v, indices.shapley_values),
    "Banzhaf values": lambda v: on_singles(v, indices.banzhaf_values),
    "Shapley interaction index": lambda v: indices.shapley_interaction_index(v, order=3),
}
EACH = pytest.mark.parametrize("index", INDICES.values(), ids=INDICES)


def on_singles(v, values):
    """Return values of players at the entries of their sets."""
    result = torch.zeros_like(v)
    result[..., [1 << i for i in range(lattice.n_players(v))]] = values(v)
    return result


def close(one, other, scale=1.0):
    torch.testing.assert_close(one, other, rtol=0, atol=1e-12 * max(scale, 1.0))


@EACH
@given(TABLES, st.data(), st.floats(-3, 3), st.floats(-3, 3))
def test_indices_are_linear(index, one, data, a, b):
    other = torch.tensor(data.draw(st.permutations(one.tolist())), dtype=torch.float64)
    close(index(a * one + b * other), a * index(one) + b * index(other), 1000)


@EACH
@given(TABLES, st.data())
def test_indices_follow_the_names_of_the_players(index, table, data):
    n = lattice.n_players(table)
    order = data.draw(st.permutations(range(n)))
    renamed = lattice.subset_index(lattice.masks(n)[:, order])
    close(index(table[renamed]), index(table)[renamed], 100)


@EACH
@given(TABLES)
def test_a_player_without_influence_has_no_index_and_changes_no_other(index, table):
    more = torch.cat([table, table])  # one player more, who changes nothing
    close(index(more)[len(table) :], torch.zeros_like(table), 100)
    close(index(more)[1 : len(table)], index(table)[1:], 100)


@EACH
@given(TABLES, st.integers(0, 3))
def test_players_of_the_same_part_have_the_same_index(index, table, pair):
    n = lattice.n_players(table)
    i, j = pair % n, (pair + 1) % n
    order = list(range(n))
    order[i], order[j] = order[j], order[i]
    swapped = lattice.subset_index(lattice.masks(n)[:, order])
    found = index((table + table[swapped]) / 2)
    close(found, found[swapped], 100)


@given(TABLES)
def test_effects_and_shapley_values_add_up_to_the_whole(table):
    change = table[-1] - table[0]
    close(lattice.and_transform(table)[1:].sum(), change, 100)
    close(lattice.or_transform(table)[1:].sum(), change, 100)
    close(indices.shapley_values(table).sum(), change, 100)


@given(TABLES)
def test_or_effects_are_and_effects_of_the_dual_game(table):
    dual = table[-1] - table.flip(0)  # what is lost without the players
    close(lattice.or_transform(table)[1:], lattice.and_transform(dual)[1:], 100)


# ---------------------------------------------------------------- hard tables

HARD = {
    "normal": lambda n, g: torch.randn(2**n, generator=g, dtype=torch.float64),
    "whole numbers with ties": lambda n, g: torch.randint(-2, 3, (2**n,), generator=g).double(),
    "one value": lambda n, g: torch.eye(2**n, dtype=torch.float64)[2 ** (n - 1)],
    "constant": lambda n, g: torch.full((2**n,), 3.7, dtype=torch.float64),
    "all and nobody": lambda n, g: torch.eye(2**n, dtype=torch.float64)[[0, -1]].sum(0),
}


@pytest.mark.parametrize("scale", [1e-150, 1e-12, 1.0, 1e12, 1e150])
@pytest.mark.parametrize("offset", [0.0, 1e6, 1e15, -1e15])
@pytest.mark.parametrize("name", HARD)
def test_effects_give_the_values_of_hard_tables(name, offset, scale):
    """Up to 4 units in the last place of the largest number: with an offset of 1e15 a unit is 1/8."""
    generator = torch.Generator().manual_seed(0)
    for n in (2, 4, 6):
        table = scale * (HARD[name](n, generator) + offset)
        rounding = 4 * math.ulp(float(table.abs().max())) + 1e-13 * float(table.max() - table.min())
        for back in (
            lattice.and_inverse(lattice.and_transform(table)),
            lattice.or_inverse(lattice.or_transform(table)),
        ):
            assert float((back - table).abs().max()) <= rounding


@pytest.mark.parametrize("offset", [0.0, 1e15])
@pytest.mark.parametrize("name", HARD)
@pytest.mark.filterwarnings("ignore")
def test_decompositions_of_hard_tables_stay_within_kappa(name, offset):
    for scale in (1e-12, 1e12):
        table = scale * (HARD[name](4, torch.Generator().manual_seed(0)) + offset)
        rounding = 4 * math.ulp(float(table.abs().max()))
        for options in ({}, {"kind": "and", "noise": 0.0}):
            found = decompose(table, **options)
            missed = (lattice.reconstruct(found.and_effects, found.or_effects) - table).abs().max()
            allowed = float(found.kappa) * (1 + 1e-9) + 1e-12 * float(table.max() - table.min()) + rounding
            assert float(missed) <= allowed, (scale, options)


@settings(max_examples=15)
@given(TABLES, st.sampled_from(["and", "and-or"]), st.sampled_from([0.0, 0.15]), st.booleans())
@pytest.mark.filterwarnings("ignore")
def test_the_gap_is_never_below_the_true_excess(table, kind, order_weight, pin_ends):
    """Against the linear program written out for SciPy's HiGHS."""
    kappa = 0.05
    found = decompose(table, kappa=kappa, kind=kind, order_weight=order_weight, pin_ends=pin_ends, ridge=0, or_weight=1)
    least, *_ = oracles.sparse_optimum(table.tolist(), kappa, pin_ends, order_weight, kind)
    size = lattice.orders(lattice.n_players(table))
    price = 1 + order_weight * (size - 1).clamp(min=0)
    reached = float((price * (found.and_effects.abs() + found.or_effects.abs()))[1:].sum())
    assert reached <= least * (1 + float(found.gap)) + 1e-6
