import math

import oracles
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from captum_lkn.decomposition import Effects, decompose

number = st.one_of(st.just(0.0), st.floats(-8, 8, width=16))


@st.composite
def sparse(draw, n=None):
    """Effects as plain tables: a list of AND effects and one of OR effects, first order merged."""
    n = draw(st.integers(1, 4)) if n is None else n
    ands = draw(st.lists(number, min_size=2**n, max_size=2**n))
    ors = [draw(number) if oracles.size(s) > 1 else 0.0 for s in range(2**n)]
    return ands, ors


def effects(ands, ors):
    return Effects.from_tables(*torch.tensor([ands, ors], dtype=torch.float64))


@given(sparse())
def test_tables_come_back(tables):
    found = effects(*tables)
    assert [table.tolist() for table in found.tables()] == [list(side) for side in tables]
    assert len(found) == sum(x != 0 for side in tables for x in side[1:])


@given(sparse())
def test_predictions_are_eq_3(tables):
    found = effects(*tables)
    expected = [oracles.reconstruct(*tables, t) for t in range(len(tables[0]))]
    masks = torch.tensor([[t >> i & 1 for i in range(found.n)] for t in range(2**found.n)]).bool()
    assert found.predict(masks).tolist() == pytest.approx(expected, abs=1e-9)
    assert found.reconstruction.tolist() == pytest.approx(expected, abs=1e-9)
    assert found.predict(masks[-1]).shape == ()


@given(sparse())
def test_sums_by_order_are_those_of_the_tables(tables):
    ands, ors = tables
    found = effects(ands, ors)
    for row in found.by_order():
        side = ors if row.kind == "or" else ands
        here = [x for s, x in enumerate(side) if oracles.size(s) == row.order]
        assert row.nonzero == sum(x != 0 for x in here)
        assert row.strength == pytest.approx(sum(map(abs, here)))
        assert row.positive == pytest.approx(sum(x for x in here if x > 0))
        assert row.negative == pytest.approx(sum(x for x in here if x < 0))
    assert found.sum_by_order(torch.ones(len(found)), 6).shape == (2, 6)


@given(sparse(3), sparse(3))
def test_the_sets_of_other_effects_are_looked_up(one, other):
    here, there = effects(*one), effects(*other)
    expected = [
        one[is_or][sum(1 << i for i, inside in enumerate(row) if inside)]
        for is_or, row in zip(there.is_or.tolist(), there.members.tolist(), strict=True)
    ]
    assert here.at(there).tolist() == expected


@given(sparse(), st.sampled_from([0.0, 0.05, 0.5]))
def test_salience_is_a_share_of_the_largest_of_both_kinds(tables, tau):
    found = effects(*tables)
    sides = [abs(x) for side in tables for x in side[1:]]
    assert found.largest == max(sides)
    assert int(found.salient(tau).sum()) == sum(x > tau * max(sides) for x in sides)
    assert int(found.salient(tau, largest=2 * max(sides)).sum()) == sum(x > 2 * tau * max(sides) for x in sides)


# ---------------------------------------------------------------- many players


SETS = [("and", (0,), 2.0), ("and", (3, 199), -1.5), ("or", (61, 62, 150), 0.5), ("or", (3, 199), 4.0)]


def test_two_hundred_players():
    found = Effects.of(200, SETS, constant=0.25)
    masks = torch.zeros(5, 200, dtype=torch.bool)
    masks[1, 0] = masks[2, 3] = masks[3, 150] = True
    masks[4] = True
    assert found.predict(masks).tolist() == [0.25, 2.25, 4.25, 0.75, 5.25]
    assert found.predict(masks[4]).tolist() == 5.25
    assert sorted(found.orders.tolist()) == [1, 2, 2, 3]
    assert found.values[found.strongest()].tolist() == [4.0, 2.0, -1.5, 0.5]
    with pytest.raises(ValueError, match="at most 20 players; got n = 200"):
        found.tables()


@pytest.mark.parametrize("n", [200, 61, 62, 63, 125])
def test_the_order_in_which_sets_are_given_does_not_matter(n):
    sets = [(kind, tuple(i for i in members if i < n) or (1, 2), x) for kind, members, x in SETS]
    sets = [(kind, members if kind == "and" or len(members) > 1 else (*members, 1), x) for kind, members, x in sets]
    one, other = Effects.of(n, sets), Effects.of(n, sets[::-1])
    for part in ("members", "is_or", "values", "orders"):
        assert torch.equal(getattr(one, part), getattr(other, part))
    assert torch.equal(one.at(other), one.values)
    assert one.is_or.tolist() == sorted(one.is_or.tolist())  # AND before OR


@given(sparse())
def test_few_players_and_many_have_the_same_form(tables):
    few = effects(*tables)
    members = torch.zeros(len(few), 200, dtype=torch.bool)
    members[:, 190 : 190 + few.n] = few.members
    many = Effects(200, few.constant, members, few.is_or, few.values)
    assert torch.equal(many.values, few.values)  # the order is the same
    assert torch.equal(many.strongest(), few.strongest())
    masks = torch.tensor([[t >> i & 1 for i in range(few.n)] for t in range(2**few.n)]).bool()
    far = torch.zeros(len(masks), 200, dtype=torch.bool)
    far[:, 190 : 190 + few.n] = masks
    torch.testing.assert_close(many.predict(far), few.predict(masks), atol=1e-9, rtol=0)


# ---------------------------------------------------------------- of a decomposition


def test_a_decomposition_gives_its_effects():
    tables = torch.randn(2, 3, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = decompose(tables, kappa=0.1)
    one = found[1][2].effects
    assert torch.equal(one.tables()[0], found.and_effects[1, 2])
    assert torch.equal(one.tables()[1], found.or_effects[1, 2])
    torch.testing.assert_close(one.reconstruction, found.reconstruct()[1, 2])
    with pytest.raises(ValueError, match=r"effects are those of one table; .*\[2, 3\].*found\[i\]\.effects"):
        _ = found.effects


# ---------------------------------------------------------------- refusals


def parts(**changes):
    valid = {
        "n": 2,
        "constant": 0.0,
        "members": torch.tensor([[True, True]]),
        "is_or": torch.tensor([True]),
        "values": torch.ones(1, dtype=torch.float64),
    }
    return valid | changes


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"values": torch.ones(1)}, TypeError, r"values must be a float64 tensor on the CPU; got float32 \[1\]"),
        ({"members": [[True, True]]}, TypeError, "members must be a bool tensor on the CPU; got a list"),
        ({"n": 3}, ValueError, r"members must be \[k, n\] = \[k, 3\].*got \[1, 2\]"),
        ({"is_or": torch.tensor([True, False])}, ValueError, r"is_or and values \[k\]; got"),
        ({"values": torch.full((1,), math.nan, dtype=torch.float64)}, ValueError, "values must be finite"),
        ({"members": torch.tensor([[True, False]])}, ValueError, "two where is_or is True.*merge_first_order"),
        ({"members": torch.zeros(1, 2, dtype=torch.bool)}, ValueError, "members must have a player in each set"),
    ],
    ids=lambda value: ", ".join(value) if isinstance(value, dict) else None,
)
def test_parts_that_do_not_fit_are_refused(changes, error, says):
    with pytest.raises(error, match=says):
        Effects(**parts(**changes))


def test_a_set_appears_once_with_each_kind():
    with pytest.raises(ValueError, match="each set must appear once"):
        Effects.of(3, [("and", (0, 1), 1.0), ("and", (1, 0), 2.0)])
    assert len(Effects.of(3, [("and", (0, 1), 1.0), ("or", (1, 0), 2.0)])) == 2


@pytest.mark.parametrize("one", [("xor", (0, 1), 1.0), ("and", (0, 3), 1.0), ("and", (-1,), 1.0)], ids=str)
def test_kinds_and_players_that_do_not_exist_are_refused(one):
    with pytest.raises(ValueError, match="kind must be 'and' or 'or', players numbers from 0 to 2"):
        Effects.of(3, [one])


@pytest.mark.parametrize(
    ("ands", "ors", "error", "says"),
    [
        ([0.0] * 4, [0.0] * 8, ValueError, r"or_effects must be \[2\^n\] = \[4\] for 2 players; got \[8\]"),
        ([0.0] * 4, [0.0, 1.0, 0.0, 0.0], ValueError, "merge_first_order"),
        ([0.0] * 4, [1.0, 0.0, 0.0, 0.0], ValueError, "or_effects must be 0 for the empty set"),
        ([math.inf, 0.0], [0.0, 0.0], ValueError, "and_effects must be finite; got inf at index 0"),
    ],
    ids=["length", "first order", "empty set", "infinite"],
)
def test_tables_that_do_not_fit_are_refused(ands, ors, error, says):
    with pytest.raises(error, match=says):
        Effects.from_tables(torch.tensor(ands, dtype=torch.float64), torch.tensor(ors, dtype=torch.float64))
    with pytest.raises(TypeError, match="and_effects must be a float64 tensor on the CPU; got a list"):
        Effects.from_tables([0.0, 1.0], [0.0, 0.0])


def test_what_does_not_belong_to_the_players_is_refused():
    two, three = Effects.of(2, [("or", (0, 1), 5.0)]), Effects.of(3, [("and", (0, 1, 2), 1.0)])
    with pytest.raises(ValueError, match="as many players, n = 2; got n = 3"):
        two.at(three)
    with pytest.raises(ValueError, match=r"\[m, n\] or \[n\] with n = 2; got \[1, 3\]"):
        two.predict(torch.ones(1, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match="each once; got 'and', "):
        Effects.of(2, [("and", (0, 0), 1.0)])
    with pytest.raises(ValueError, match="must be finite"):
        Effects.of(2, [], constant=float("nan"))


def test_the_reconstruction_is_a_copy():
    one = Effects.of(1, [("and", (0,), 1.0)])
    one.reconstruction.add_(5)
    assert one.predict(torch.tensor([True])).item() == 1.0
