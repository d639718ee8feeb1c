import numpy as np
import oracles
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from captum_lkn.decomposition import Effects, decompose
from captum_lkn.decomposition.refit import fidelity_of, refit_effects

numbers = st.floats(-10, 10, width=32)


@st.composite
def supports(draw):
    """A table, and effects of any of its sets."""
    n = draw(st.integers(1, 4))
    v = draw(st.lists(numbers, min_size=2**n, max_size=2**n))
    chosen = draw(st.lists(st.sampled_from(oracles.effects_of(n)), min_size=1, max_size=8, unique=True))
    amounts = draw(st.lists(numbers.filter(bool), min_size=len(chosen), max_size=len(chosen)))
    return v, dict(zip(chosen, amounts, strict=True))


def sparse(n, amounts, constant=0.0):
    named = [("or" if is_or else "and", [i for i in range(n) if s >> i & 1], x) for (s, is_or), x in amounts.items()]
    return Effects.of(n, named, constant)


def table(v):
    return torch.tensor(v, dtype=torch.float64)


@given(supports(), st.booleans())
def test_a_refit_is_the_least_squares_solution_nearest_to_what_was_there(given_, pin_ends):
    v, amounts = given_
    n = oracles.n_of(v)
    start = sparse(n, amounts, v[0])
    found = refit_effects(start, table(v), pin_ends=pin_ends)
    expected, constant = oracles.least_squares(v, list(amounts), list(amounts.values()), pin_ends)
    asked = sparse(n, dict(zip(amounts, range(1, 9), strict=False)))
    places = [int(x) - 1 for x in asked.values]
    assert found.members.equal(start.members)
    assert found.is_or.equal(start.is_or)
    # Squared, as in normal equations, the condition of 15 dependent columns costs half of the digits.
    assert found.values.numpy() == pytest.approx(np.array(expected)[places], rel=1e-6, abs=1e-6)
    assert found.constant == pytest.approx(constant, rel=1e-6, abs=1e-6)


@given(supports())
def test_a_refit_keeps_the_ends_and_is_nearer_to_the_values_than_any_start_that_does(given_):
    v, amounts = given_
    found = refit_effects(sparse(oracles.n_of(v), amounts), table(v))
    assert float(found.reconstruction[0]) == pytest.approx(v[0], abs=1e-12)
    assert float(found.reconstruction[-1]) == pytest.approx(v[-1], abs=1e-9)
    again = refit_effects(found, table(v))
    assert again.values.numpy() == pytest.approx(found.values.numpy(), abs=1e-7)


def test_a_refit_takes_the_shrinkage_of_planted_effects_away():
    planted = sparse(5, {(0b00011, False): 2.0, (0b01100, True): -1.5, (0b10000, False): 1.0}, 0.3)
    shrunk = Effects(5, 0.3, planted.members, planted.is_or, 0.8 * planted.values)
    assert refit_effects(shrunk, planted.reconstruction).values.numpy() == pytest.approx(planted.values.numpy())


def test_a_refit_of_the_salient_effects_of_a_planted_game_is_what_was_planted():
    amounts = {(0b000011, False): 1.4, (0b001100, False): 0.9, (0b110000, False): 1.1, (0b000001, False): 0.6}
    planted = sparse(6, amounts, 1.3)
    found = decompose(planted.reconstruction).effects
    refitted = refit_effects(found.select(found.salient()), planted.reconstruction)
    errors = [
        float(sum((a - b).abs().sum() for a, b in zip(x.tables(), planted.tables(), strict=True)))
        for x in (found, refitted)
    ]
    assert errors[0] > 0.15 * 4.0  # a share of all effects, which the noise term takes away
    assert errors[1] < 1e-9


def test_no_effects_have_nothing_to_fit_but_a_free_constant():
    none = sparse(2, {})
    assert refit_effects(none, table([1.0, 2.0, 3.0, 6.0])).constant == 1.0
    assert refit_effects(none, table([1.0, 2.0, 3.0, 6.0]), pin_ends=False).constant == 3.0


def test_fidelity_counts_squares_and_the_largest_miss():
    found = fidelity_of(sparse(2, {(1, False): 1.0}), table([0.0, 1.0, 1.0, 0.0]))
    assert found == (1, pytest.approx(1 - 2 / 1), 1.0)
    assert fidelity_of(sparse(2, {}, 4.0), table([4.0] * 4)).r_squared == 1
    assert fidelity_of(sparse(2, {}, 4.0), table([3.0] * 4)).r_squared == -np.inf
