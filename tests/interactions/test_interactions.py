import copy
import math
import pickle
import sys

import numpy as np
import oracles
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from captum_lkn.decomposition import Effects, decompose, indices
from captum_lkn.interactions import InputLayout, Interaction, Interactions, InteractionsBatch

WORDS = ("not", "a", "single", "good", "scene", "here", "ever")
CPU = torch.device("cpu")


def table(numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def from_values(v, gamma=None, players=None, **further):
    """Interactions of a value table, through the brute-force transforms."""
    ands, ors = oracles.and_or_effects(v, gamma or [0.0] * len(v))
    players = players or WORDS[: oracles.n_of(v)]
    effects = Effects.from_tables(table(ands), table(ors))
    # Values that gamma dwarfs are lost to rounding.
    lost = 1e-12 * max(map(abs, gamma)) if gamma else 0.0
    return Interactions(players, effects, table(v), **{"kappa": lost, "gap": 0.0} | further)


def from_effects(ands, ors, players=None, **further):
    """Interactions of given effects, with the value table that they add up to."""
    v = [oracles.reconstruct(ands, ors, t) for t in range(len(ands))]
    players = players or WORDS[: oracles.n_of(v)]
    effects = Effects.from_tables(table(ands), table(ors))
    return Interactions(players, effects, table(v), **{"kappa": 0.0, "gap": 0.0} | further)


def random_table(n, seed):
    return torch.randn(2**n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).tolist()


def random_interactions(n, seed=0, **further):
    return from_values(random_table(n, seed), random_table(n, seed + 1000), **further)


def parts(**changes):
    """The arguments of a valid object of two players, with changes."""
    valid = {
        "players": ("not", "good"),
        "effects": Effects.from_tables(table([0.5, 0.0, 1.5, -3.0]), table([0.0] * 4)),
        "values": table([0.5, 0.5, 2.0, -1.0]),
        "kappa": 0.0,
        "gap": 0.0,
    }
    return valid | changes


tables = st.integers(1, 5).flatmap(lambda n: st.lists(st.floats(-1e3, 1e3, width=32), min_size=2**n, max_size=2**n))


@st.composite
def decompositions(draw):
    v = draw(tables)
    gamma = draw(st.lists(st.floats(-1e3, 1e3, width=32), min_size=len(v), max_size=len(v)))
    return from_values(v, gamma)


def close(expected, tolerance=1e-9):
    return pytest.approx(expected, rel=tolerance, abs=tolerance)


# ---------------------------------------------------------------- what the effects add up to


@given(decompositions())
def test_all_effects_add_up_to_the_score_of_the_sample(found):
    total = float(found.and_effects.sum() + found.or_effects.sum())
    assert total == pytest.approx(found.v_full, abs=1e-7)


@given(decompositions())
def test_predict_reconstructs_every_mask(found):
    n = found.n_players
    masks = torch.tensor([[t >> i & 1 for i in range(n)] for t in range(2**n)]).bool()
    expected = [oracles.reconstruct(found.and_effects.tolist(), found.or_effects.tolist(), t) for t in range(2**n)]
    assert found.predict(masks).tolist() == pytest.approx(expected, abs=1e-7)
    assert found.predict(masks).tolist() == pytest.approx(found.values.tolist(), abs=1e-7)
    assert found.residual < 1e-7


@given(decompositions())
def test_shapley_values_add_up_to_full_minus_empty(found):
    assert float(found.shapley_values().sum()) == pytest.approx(found.v_full - found.v_empty, abs=1e-7)


@given(decompositions())
def test_shapley_values_share_each_effect_equally_among_its_players(found):
    expected = [0.0] * found.n_players
    for one in found.top(None):
        for i in one.members:
            expected[i] += one.effect / one.order
    assert found.shapley_values().tolist() == pytest.approx(expected, abs=1e-7)


def test_a_hand_computed_game():
    # 2 for the first word, 1 for either of the last two, -4 for the first two together
    found = from_effects([0.5, 2.0, 0.0, -4.0, 0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0])
    assert found.values.tolist() == [0.5, 2.5, 1.5, -0.5, 1.5, 3.5, 1.5, -0.5]
    assert [str(one) for one in found.top()] == ["not & a  -4.00", "not  +2.00", "a | single  +1.00"]
    assert found.shapley_values().tolist() == close([0.0, -1.5, 0.5])
    assert found.predict(torch.tensor([True, False, True])).item() == 3.5


def test_predict_reads_masks_in_the_players_order():
    found = from_values([0.0, 1.0, 10.0, 11.0, 100.0, 101.0, 110.0, 111.0])
    masks = torch.tensor([[True, False, False], [False, True, True]])
    assert found.predict(masks).tolist() == close([1.0, 110.0])
    assert found.predict(masks[0]).shape == ()
    found.predict(masks[0]).zero_()  # a copy: the next answer is the same
    assert found.predict(masks[0]).item() == close(1.0)
    assert found.predict(masks[:0]).shape == (0,)
    assert found.predict(masks).dtype == torch.float64


def test_predict_answers_from_the_effects_and_residual_says_how_far_off_they_are():
    exact = random_interactions(4)
    off = exact.values.clone()
    off[5] += 0.25
    found = Interactions(exact.players, exact.effects, off, kappa=0.25, gap=0.0)
    mask = torch.tensor([True, False, True, False])
    assert found.predict(mask).item() == close(exact.values[5].item())
    assert found.residual == close(0.25)


# ---------------------------------------------------------------- indices of the table


@given(tables)
def test_indices_equal_their_definitions(v):
    found = from_values(v)
    n = found.n_players
    assert found.shapley_values().tolist() == pytest.approx(oracles.shapley_values(v), abs=1e-7)
    assert found.banzhaf_values().tolist() == pytest.approx(oracles.banzhaf_values(v), abs=1e-7)
    index = found.interaction_index(n)
    assert len(index) == 2**n - 1
    for members, value in index.items():
        subset = sum(1 << i for i in members)
        assert value == pytest.approx(oracles.shapley_interaction_index(v, subset), abs=1e-7)


def test_indices_are_of_the_table_not_of_what_the_noise_term_left():
    exact = random_interactions(4)
    v = random_table(4, 77)
    found = Interactions(exact.players, exact.effects, table(v), kappa=9.0, gap=0.0)
    assert found.shapley_values().tolist() == close(oracles.shapley_values(v))
    assert found.banzhaf_values().tolist() == close(oracles.banzhaf_values(v))
    assert found.interaction_index()[0, 3] == close(oracles.shapley_interaction_index(v, 0b1001))


def test_interaction_index_holds_the_sets_up_to_its_order_single_players_first():
    found = random_interactions(4)
    assert list(found.interaction_index()) == [
        *((i,) for i in range(4)),
        *[(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)],
    ]
    singles = found.interaction_index(1)
    assert list(singles.values()) == close(found.shapley_values().tolist())
    assert len(found.interaction_index(9)) == 15
    with pytest.raises(ValueError, match="at least 1; got 0"):
        found.interaction_index(0)


def test_indices_agree_with_shapiq():
    shapiq = pytest.importorskip("shapiq", reason="shapiq is not installed: pip install shapiq")
    n = 5
    found = random_interactions(n, seed=3)
    v = found.values.numpy()

    def game(coalitions):
        return v[(np.asarray(coalitions, dtype=int) << np.arange(n)).sum(axis=1)]

    computer = shapiq.ExactComputer(game, n_players=n)
    peers = {"SV": found.shapley_values(), "BV": found.banzhaf_values()}
    for name, ours in peers.items():
        theirs = computer(name, order=1)
        assert [float(theirs[(i,)]) for i in range(n)] == close(ours.tolist())
    theirs = computer("SII", order=3)
    for members, value in found.interaction_index(3).items():
        assert float(theirs[members]) == close(value)


def test_indices_of_a_batch_of_tables_are_those_of_each():
    batch = torch.randn(2, 3, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for function in (indices.shapley_values, indices.banzhaf_values, indices.shapley_interaction_index):
        together = function(batch)
        assert together.shape[:2] == (2, 3)
        assert torch.allclose(together[1, 2], function(batch[1, 2]), atol=1e-13)
    assert indices.shapley_values(batch.float()).dtype == torch.float32
    assert indices.shapley_values(batch[:0]).shape == (0, 3, 5)


def test_shapley_values_of_no_players_are_none():
    assert indices.shapley_values(torch.zeros(3, 1)).shape == (3, 0)


def test_shapley_values_keep_their_digits_on_large_tables():
    n = 16
    weights = torch.arange(1.0, n + 1, dtype=torch.float64)
    masks = (torch.arange(2**n).unsqueeze(-1) >> torch.arange(n) & 1).double()
    assert torch.allclose(indices.shapley_values(masks @ weights), weights, atol=1e-12, rtol=0)


# ---------------------------------------------------------------- lists of interactions


def test_top_sorts_by_strength_and_breaks_ties_by_order_then_kind_then_players():
    ands = [9.0, 1.0, -1.0, 2.0, 1.0, 1.0, 0.0, -3.0]
    ors = [0.0, 0.0, 0.0, -1.0, 0.0, 1.0, 1.0, 0.0]
    found = from_effects(ands, ors)
    assert [(one.kind, one.members, one.effect) for one in found.top()] == [
        ("and", (0, 1, 2), -3.0),
        ("and", (0, 1), 2.0),
        ("and", (0,), 1.0),
        ("and", (1,), -1.0),
        ("and", (2,), 1.0),
        ("and", (0, 2), 1.0),
        ("or", (0, 1), -1.0),
        ("or", (0, 2), 1.0),
        ("or", (1, 2), 1.0),
    ]
    assert found.top(2) == found.top()[:2]
    assert found.top(0) == []
    assert found.top(np.int64(1)) == found.top(1)
    assert [one.members for one in found.top(kind="or")] == [(0, 1), (0, 2), (1, 2)]
    assert all(one.kind == "and" for one in found.top(None, kind="and"))
    assert found.top(1) == [Interaction("and", (0, 1, 2), ("not", "a", "single"), 3, -3.0)]


def test_top_leaves_out_the_empty_set_and_zeros():
    assert from_effects([7.0, 0.0, -0.0, 0.0], [0.0] * 4).top() == []


@given(decompositions())
def test_top_of_everything_holds_every_nonzero_effect_once(found):
    everything = found.top(None)
    seen = {(one.kind, sum(1 << i for i in one.members)): one.effect for one in everything}
    assert len(seen) == len(everything)
    for kind, effects in (("and", found.and_effects.tolist()), ("or", found.or_effects.tolist())):
        assert {s: e for (k, s), e in seen.items() if k == kind} == {s: e for s, e in enumerate(effects) if s and e}
    strengths = [abs(one.effect) for one in everything]
    assert strengths == sorted(strengths, reverse=True)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"k": -1}, ValueError, "at least 0; got -1"),
        ({"k": 2.5}, TypeError, r"whole number or None; got 2\.5"),
        ({"k": True}, TypeError, "got True"),
        ({"kind": "AND"}, ValueError, '"and", "or" or None; got \'AND\''),
    ],
)
def test_top_refuses(arguments, error, message):
    with pytest.raises(error, match=message):
        random_interactions(2).top(**arguments)


def test_salient_is_strictly_above_a_share_of_the_largest_effect_of_both_kinds():
    # exact in binary: the threshold is 0.25 * 8 = 2; the empty set's 99 counts for nothing
    found = from_effects([99.0, 2.0, 2.5, 0.0], [0.0, 0.0, 0.0, -8.0])
    assert [one.effect for one in found.salient(0.25)] == [-8.0, 2.5]
    assert [one.effect for one in found.salient()] == [-8.0, 2.5, 2.0]
    assert [one.effect for one in found.salient(2.5, relative=False)] == [-8.0]
    assert found.salient(0.0) == found.top(None)
    assert from_effects([1.0, 0.0], [0.0, 0.0]).salient() == []


@pytest.mark.parametrize("tau", [-0.1, math.nan])
def test_salient_refuses(tau):
    with pytest.raises(ValueError, match=f"tau must be at least 0; got {tau}"):
        random_interactions(2).salient(tau)


def test_by_order_sums_up_each_kind_and_order():
    found = from_effects([9.0, 1.0, -2.0, 4.0], [0.0, 0.0, 0.0, -0.5])
    assert found.by_order() == [
        ("and", 1, 2, 3.0, 1.0, -2.0),
        ("and", 2, 1, 4.0, 4.0, 0.0),
        ("or", 1, 0, 0.0, 0.0, 0.0),
        ("or", 2, 1, 0.5, 0.0, -0.5),
    ]


@given(decompositions())
def test_by_order_adds_up_to_the_list(found):
    for row in found.by_order():
        effects = [one.effect for one in found.top(None, row.kind) if one.order == row.order]
        assert row.nonzero == len(effects)
        assert row.strength == pytest.approx(sum(map(abs, effects)), rel=1e-9)
        assert row.positive + row.negative == pytest.approx(sum(effects), rel=1e-9, abs=1e-7)


# ---------------------------------------------------------------- attributions


def test_attributions_are_each_scalars_players_shapley_value():
    owners = torch.tensor([[0, 0, -1], [1, 2, 2]])
    layout = InputLayout((owners,), False, (torch.float32,), CPU)
    found = random_interactions(3, layout=layout)
    phi = oracles.shapley_values(found.values.tolist())
    expected = [[phi[0], phi[0], 0.0], [phi[1], phi[2], phi[2]]]
    assert isinstance(found.attributions(), torch.Tensor)
    assert found.attributions().dtype == torch.float32
    assert torch.allclose(found.attributions(), torch.tensor(expected))


def test_attributions_keep_tuple_form_shapes_and_dtypes_and_share_players_across_inputs():
    image = torch.tensor([[0, 1], [1, -1]]).expand(3, 2, 2)
    layout = InputLayout(
        (image, torch.tensor(1), torch.zeros(0, 4, dtype=torch.int64)),
        True,
        (torch.float16, torch.float64, torch.bfloat16),
        CPU,
    )
    found = from_values([0.0, 1.0, 2.0, 3.0], layout=layout)
    first, second, third = found.attributions()
    assert (first.shape, first.dtype) == ((3, 2, 2), torch.float16)
    assert first[2].tolist() == [[1.0, 2.0], [2.0, 0.0]]
    assert (second.shape, second.dtype, second.item()) == ((), torch.float64, 2.0)
    assert (third.shape, third.dtype) == ((0, 4), torch.bfloat16)
    first[0] = 7.0  # memory of its own, not an expanded view
    assert first[1].tolist() == [[1.0, 2.0], [2.0, 0.0]]


def test_a_tuple_of_one_stays_a_tuple():
    layout = InputLayout((torch.tensor([0, 1]),), True, (torch.float32,), CPU)
    (only,) = from_values([0.0, 1.0, 2.0, 3.0], layout=layout).attributions()
    assert only.tolist() == [1.0, 2.0]


def test_attributions_lie_on_the_layouts_device():
    layout = InputLayout((torch.tensor([0, 1]),), False, (torch.float32,), torch.device("meta"))
    attributions = from_values([0.0, 1.0, 2.0, 3.0], layout=layout).attributions()
    assert attributions.device.type == "meta"
    assert attributions.shape == (2,)


def test_attributions_without_a_layout_say_what_to_do():
    with pytest.raises(ValueError, match=r"layout=None.*take shapley_values"):
        random_interactions(2).attributions()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (((torch.tensor([0]),), False, (), CPU), ValueError, "1 owners and 0 dtypes"),
        (((), True, (), CPU), ValueError, "0 owners and 0 dtypes"),
        (((torch.tensor([0]),) * 2, False, (torch.float32,) * 2, CPU), ValueError, "give is_tuple=True"),
        (((torch.tensor([0.0]),), False, (torch.float32,), CPU), TypeError, "int64 tensors; got float32"),
        (((torch.tensor([0]),), False, (torch.int64,), CPU), TypeError, "floating dtype; got torch.int64"),
        (
            ((torch.tensor([-2]),), False, (torch.float32,), CPU),
            ValueError,
            "-1 or a player's number; got -2",
        ),
    ],
)
def test_a_layout_refuses(arguments, error, message):
    with pytest.raises(error, match=message):
        InputLayout(*arguments)


def test_a_layout_refuses_values_that_are_too_few():
    layout = InputLayout((torch.tensor([0, 2]),), False, (torch.float32,), CPU)
    with pytest.raises(ValueError, match=r"at least 3 players; got \[2\]"):
        layout.spread(torch.zeros(2))


# ---------------------------------------------------------------- what makes no sense


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"players": ["not", "good"]}, TypeError, r"tuple of strings.*got \['not', 'good'\]"),
        ({"players": "ab"}, TypeError, "tuple of strings.*got 'ab'"),
        ({"players": ("not", 3)}, TypeError, r"got \('not', 3\)"),
        ({"players": ()}, ValueError, "players must have at least one label"),
        (
            {"players": ("a", "b", "c")},
            ValueError,
            "effects must be of the players; got n = 2 and 3 labels",
        ),
        ({"values": table([0.0] * 8)}, ValueError, r"values must be .* = \[4\] for 2 players; got \[8\]"),
        ({"values": torch.zeros(1, 4).double()}, ValueError, r"got \[1, 4\]"),
        ({"effects": torch.zeros(4)}, TypeError, r"effects must be Effects; got float32 \[4\].*from_tables"),
        ({"options": {"noise": 0.1}}, TypeError, "options must be a DecompositionOptions; got a dict"),
        ({"values": torch.zeros(4, dtype=torch.float64, device="meta")}, TypeError, "on meta"),
        ({"values": table([0.0, 0.0, math.nan, 0.0])}, ValueError, "values must be finite; got nan at index 2"),
        ({"kappa": -0.1}, ValueError, r"kappa must be at least 0 and finite; got -0\.1"),
        ({"kappa": math.inf}, ValueError, "kappa must be at least 0 and finite; got inf"),
        ({"kappa": None}, TypeError, "kappa must be a number; got None"),
        ({"gap": math.nan}, ValueError, "gap must be at least 0; got nan"),
        ({"provenance": {"noise": math.nan}}, ValueError, r"provenance\['noise'\] must be finite"),
        ({"provenance": {"model": torch.nn}}, TypeError, r"provenance\['model'\] must be .*got a module"),
    ],
)
def test_interactions_refuse(changes, error, message):
    with pytest.raises(error, match=message):
        Interactions(**parts(**changes))


def test_interactions_refuse_a_layout_of_more_players():
    layout = InputLayout((torch.tensor([0, 5]),), False, (torch.float32,), CPU)
    with pytest.raises(ValueError, match="the layout has 6 players or more, but 2 have labels"):
        Interactions(**parts(layout=layout))


@pytest.mark.parametrize(
    ("masks", "error", "message"),
    [
        ([[True, False]], TypeError, r"got a list: give torch\.tensor\(masks\)"),
        (torch.tensor([[1, 0]]), TypeError, r"got int64 \[1, 2\]: convert 0 and 1 with masks\.bool\(\)"),
        (torch.ones(3, 3).bool(), ValueError, r"must be \[m, 2\] or \[2\], one entry a player; got \[3, 3\]"),
        (torch.ones(1, 1, 2).bool(), ValueError, r"got \[1, 1, 2\]"),
        (torch.tensor(True), ValueError, r"got \[\]"),
    ],
)
def test_predict_refuses(masks, error, message):
    with pytest.raises(error, match=message):
        Interactions(**parts()).predict(masks)


def test_fields_cannot_be_set():
    found = Interactions(**parts())
    with pytest.raises(AttributeError):
        found.kappa = 1.0


def test_numbers_and_provenance_take_the_form_that_a_file_gives_back():
    found = Interactions(**parts(kappa=np.float32(0.5), gap=torch.tensor(0.25), provenance={"shape": (1, 2)}))
    assert type(found.kappa) is float
    assert type(found.gap) is float
    assert found.provenance == {"shape": [1, 2]}


def test_interactions_can_be_copied_and_pickled():
    found = random_interactions(3)
    for other in (copy.deepcopy(found), pickle.loads(pickle.dumps(found))):
        assert torch.equal(other.and_effects, found.and_effects)
        assert repr(other) == repr(found)


# ---------------------------------------------------------------- batches


def make_batch(*sizes, layouts=None):
    layouts = layouts or [None] * len(sizes)
    return InteractionsBatch(
        random_interactions(n, seed, layout=layout) for seed, (n, layout) in enumerate(zip(sizes, layouts, strict=True))
    )


def test_a_batch_is_a_sequence():
    batch = make_batch(2, 3, 4)
    assert len(batch) == 3
    assert [found.n_players for found in batch] == [2, 3, 4]
    assert batch[-1] is batch[2]
    assert batch[np.int64(1)] is batch[1]
    assert isinstance(batch[1:], InteractionsBatch)
    assert list(batch[1:]) == [batch[1], batch[2]]
    assert batch[0] in batch
    assert batch.index(batch[1]) == 1
    assert [found.n_players for found in reversed(batch)] == [4, 3, 2]
    with pytest.raises(IndexError, match="no sample 3 in a batch of 3 samples"):
        batch[3]
    with pytest.raises(ValueError, match="samples must be at least one"):
        batch[3:]


@pytest.mark.parametrize(
    ("samples", "error", "message"),
    [
        ([], ValueError, "samples must be at least one; got none"),
        (["not"], TypeError, "sample 0 must be an Interactions; got a str"),
        (Interactions(**parts()), TypeError, "got a Interactions. Give a list"),
        (3, TypeError, "got a int. Give a list"),
    ],
)
def test_a_batch_refuses(samples, error, message):
    with pytest.raises(error, match=message):
        InteractionsBatch(samples)


def test_attributions_of_a_batch_have_the_inputs_shape():
    first = InputLayout((torch.tensor([[0, 1, 2]]),), False, (torch.float32,), CPU)
    second = InputLayout((torch.tensor([[1, -1, 0]]),), False, (torch.float32,), CPU)
    batch = make_batch(3, 2, layouts=[first, second])
    attributions = batch.attributions()
    assert (attributions.shape, attributions.dtype) == ((2, 1, 3), torch.float32)
    assert torch.equal(attributions[1], batch[1].attributions())
    assert torch.allclose(attributions[0, 0].double(), batch.shapley_values()[0])
    assert [phi.shape for phi in batch.shapley_values()] == [(3,), (2,)]


def test_attributions_of_a_batch_keep_the_tuple_form():
    layout = InputLayout((torch.tensor([0]), torch.tensor([[1]])), True, (torch.float32, torch.float64), CPU)
    left, right = make_batch(2, 2, 2, layouts=[layout] * 3).attributions()
    assert (left.shape, left.dtype) == ((3, 1), torch.float32)
    assert (right.shape, right.dtype) == ((3, 1, 1), torch.float64)


def test_attributions_that_cannot_be_stacked_say_why():
    layouts = [InputLayout((torch.arange(n),), False, (torch.float32,), CPU) for n in (2, 3)]
    with pytest.raises(
        ValueError, match=r"inputs must be alike to stack .*\[3\] on cpu in sample 1 and .*\[2\] on cpu in sample 0"
    ):
        make_batch(2, 3, layouts=layouts).attributions()
    with pytest.raises(ValueError, match="layout=None"):
        make_batch(2, 3).attributions()


# ---------------------------------------------------------------- frames


def test_to_frame_lists_the_nonzero_effects():
    pd = pytest.importorskip("pandas", reason="pandas is not installed: pip install 'captum-lkn[frame]'")
    found = from_effects([9.0, 1.0, 0.0, -2.0], [0.0, 0.0, 0.0, 1.5])
    expected = pd.DataFrame(
        {
            "sample": [0, 0, 0],
            **{name: pd.Series([None] * 3, dtype="object") for name in ("explained", "text", "continuation")},
            "kind": pd.Series(["and", "or", "and"], dtype="object"),
            "players": [("not", "a"), ("not", "a"), ("not",)],
            "members": [(0, 1), (0, 1), (0,)],
            "order": [2, 2, 1],
            "effect": [-2.0, 1.5, 1.0],
            "above_kappa": [True] * 3,
        }
    )
    pd.testing.assert_frame_equal(found.to_frame(), expected)


def test_to_frame_of_a_batch_numbers_the_samples():
    pytest.importorskip("pandas", reason="pandas is not installed: pip install 'captum-lkn[frame]'")
    nothing = from_effects([1.0, 0.0], [0.0, 0.0])
    batch = InteractionsBatch([random_interactions(2), nothing, random_interactions(3)])
    frame = batch.to_frame()
    assert list(frame.columns) == [
        "sample", "explained", "text", "continuation", "kind", "players", "members", "order", "effect", "above_kappa",
    ]  # fmt: skip
    assert frame["sample"].value_counts().to_dict() == {0: 4, 2: 7 + 4}
    assert frame[frame["sample"] == 2]["effect"].tolist() == [one.effect for one in batch[2].top(None)]
    empty = nothing.to_frame()
    assert (empty.dtypes == frame.dtypes).all()
    assert len(empty) == 0


def test_without_pandas_to_frame_gives_the_pip_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"pip install 'captum-lkn\[frame\]'"):
        random_interactions(2).to_frame()


# ---------------------------------------------------------------- what a reader sees


def readable():
    ands, ors = [0.0] * 32, [0.0] * 32
    ands[0], ands[0b01000], ands[0b01001], ands[0b00101], ands[0b10000] = 0.4, 2.1, -3.02, -1.2, 0.05
    ors[0b11000] = 0.53
    return from_effects(
        ands,
        ors,
        kappa=0.14,
        gap=0.0004,
        provenance={
            "model": "BertForSequenceClassification",
            "score": "log_odds",
            "target": 1,
            "explained": "positive (1)",
            "predicted": True,
            "text": "not a single good scene",
            "steps": 9,
        },
    )


def test_the_text_of_interactions():
    assert repr(readable()).splitlines() == [
        "Interactions of 5 players: not, a, single, good, scene",
        "  model BertForSequenceClassification, score log_odds",
        "  explained: positive (1), which the model predicts",
        "  text: not a single good scene",
        "  v(empty) = +0.40  ->  v(N) = -1.14",
        "  not & good    -3.02  ##########|",
        "  good          +2.10            |#######",
        "  not & single  -1.20        ####|",
        "  good | scene  +0.53            |##",
        "  scene         +0.05            |",
        "  salient (above 5 % of the largest): 4 effects, against 2^5 = 32 outputs",
        "  outputs reproduced within rounding (kappa 0.14); at most 0.04 % above the optimum",
    ]


def test_the_text_says_where_nothing_was_found_or_certified():
    text = repr(from_effects([1.0, 0.0], [0.0, 0.0], gap=math.inf))
    assert "no effects: the score does not depend on the players" in text
    assert "nothing certified" in text
    assert "no effects" in repr(InteractionsBatch([from_effects([1.0, 0.0], [0.0, 0.0])]))


def test_labels_cannot_break_the_text():
    found = from_values([0.0, 1.0, 2.0, 7.0], players=("two\nlines", "\x1b[31mred"))
    assert r"two\nlines & \x1b[31mred" in repr(found)
    assert "\x1b" not in repr(found) + str(found.top(1)[0]) + found._repr_html_()
    assert len(repr(found).splitlines()) == len(repr(from_values([0.0, 1.0, 2.0, 7.0])).splitlines())


def test_long_and_wide_labels_stay_aligned():
    found = from_effects([0.0, 1.0, 2.0, -7.0], [0.0] * 4, players=("好的", "a very long label " * 5))
    lines = [line for line in repr(found).splitlines() if line.endswith(("|", "#"))]
    assert len(lines) == 3
    # a wide letter is one character in two columns; the axis of the bars is the last |
    columns = {line.rindex("|") + line.count("好") + line.count("的") for line in lines}
    assert len(columns) == 1
    assert max(map(len, lines)) < 80


def test_the_text_of_a_batch_is_a_line_a_sample():
    batch = InteractionsBatch([readable()] * 12)
    lines = repr(batch).splitlines()
    assert lines[0] == "InteractionsBatch of 12 samples"
    assert lines[1:5] == [
        "  model BertForSequenceClassification, score log_odds",
        "  explained: positive (1), which the model predicts",
        "  0  positive (1); v +0.40 -> -1.14; not & good -3.02; 4 salient of 2^5",
        "     not a single good scene",
    ]
    assert len(lines) == 24
    assert lines[-1] == "  ... and 2 more"
    assert repr(batch[:1]).splitlines()[0] == "InteractionsBatch of 1 sample"


def test_html_is_escaped():
    found = from_effects([0.0, 0.0, 0.0, 7.0], [0.0] * 4, players=("<script>", 'a & "b"'))
    for html in (found._repr_html_(), InteractionsBatch([found])._repr_html_()):
        assert "<script>" not in html
        assert "&lt;script&gt; &amp; a &amp; &quot;b&quot;" in html
        assert "<table>" in html


def test_html_of_a_long_batch_says_that_it_is_cut():
    html = InteractionsBatch([readable()] * 12)._repr_html_()
    assert "12 samples, the first 10" in html
    assert html.count("<tr>") == 11


# ---------------------------------------------------------------- repeated, long and unknown labels


REPEATED = ("it", "is", "what", "it", "is")


def test_repeated_labels_are_told_apart_everywhere():
    ands = [0.0] * 32
    ands[0b00010], ands[0b10000], ands[0b10010] = 1.0, 2.0, 3.0
    found = from_effects(ands, [0.0] * 32, players=REPEATED)
    assert found.labels == ("it[1]", "is[1]", "what", "it[2]", "is[2]")
    assert found.players == REPEATED
    assert [str(one) for one in found.top()] == ["is[1] & is[2]  +3.00", "is[2]  +2.00", "is[1]  +1.00"]
    for text in (repr(found), found._repr_html_(), repr(InteractionsBatch([found]))):
        assert "is[2]" in text
    frame = found.to_frame()
    assert not frame.duplicated(["sample", "kind", "players"]).any()
    assert frame.members.tolist() == [(1, 4), (4,), (1,)]


def test_a_label_that_looks_like_a_numbered_one_stays_unique():
    labels = from_values([0.0] * 8, players=("is", "is[1]", "is")).labels
    assert len(set(labels)) == 3
    assert labels[1] == "is[1]"


def test_one_effect_is_looked_up_by_its_players():
    found = from_effects([0.5, 2.0, 0.0, -4.0, 0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0])
    assert found.effect("not", "a") == found.effect("a", "not") == found.effect(0, np.int64(1)) == -4.0
    assert found.effect("not") == found.effect("not", kind="or") == 2.0
    assert found.effect("a", "single") == 0.0
    assert found.effect("a", "single", kind="or") == 1.0
    assert from_effects([0.0, 0.0, 1.5, 0.0], [0.0] * 4, players=("is", "is")).effect("is[2]") == 1.5


@pytest.mark.parametrize(
    ("players", "options", "error", "says"),
    [
        (("good",), {}, ValueError, r"there is no player 'good'; there are it\[1\], is\[1\], what"),
        (("is",), {}, ValueError, r"'is' is the label of several players: give one of \['is\[1\]', 'is\[2\]'\]"),
        ((5,), {}, ValueError, "number must be from 0 to 4; got 5"),
        ((0, "it[1]"), {}, ValueError, "each player must be given once"),
        ((), {}, ValueError, "players must be one or more"),
        ((1.5,), {}, TypeError, "labels or numbers; got 1.5"),
        (("what",), {"kind": "xor"}, ValueError, "kind must be .* got 'xor'"),
    ],
    ids=str,
)
def test_players_that_are_not_there_are_refused(players, options, error, says):
    with pytest.raises(error, match=says):
        from_values([0.0] * 32, players=REPEATED).effect(*players, **options)


def test_long_labels_and_texts_fit_the_terminal():
    players = tuple(f"document {i} {'lorem ipsum ' * 700}" for i in range(5))
    about = {"explained": "a class with a very long name " * 5, "text": "lorem ipsum " * 700, "model": "M" * 90}
    found = from_values(random_table(5, 0), players=players, provenance=about)
    for text in (repr(found), repr(InteractionsBatch([found, found]))):
        assert max(map(len, text.splitlines())) <= 80


# ---------------------------------------------------------------- what results are about


def test_samples_of_several_classes_are_told_apart():
    def one(explained, predicted, text):
        about = {"model": "Net", "score": "log_odds", "explained": explained, "predicted": predicted, "text": text}
        return from_values([0.0, 1.0, 2.0, 7.0], provenance=about)

    batch = InteractionsBatch([one("negative (0)", True, "not good"), one("positive (1)", True, "not bad")])
    text = repr(batch)
    assert "explained: the classes that the model predicts (negative (0): 1" in text
    for part in ("negative (0); v ", "not good", "positive (1); v ", "not bad"):
        assert part in text
        assert part.removesuffix("; v ") in batch._repr_html_()
    frame = batch.to_frame()
    assert frame.groupby("sample").explained.first().tolist() == ["negative (0)", "positive (1)"]
    assert frame.groupby("sample").text.first().tolist() == ["not good", "not bad"]
    given = InteractionsBatch([one("negative (0)", False, ""), one("positive (1)", True, "")])
    assert "the classes given, or predicted in 1 of 2 samples" in " ".join(repr(given).split())


def test_a_continuation_is_shown_with_its_tokens():
    about = {"model": "Llama", "continuation": {"text": " Paris", "ids": [7, 42]}}
    found = from_values([0.0, 1.0, 2.0, 7.0], provenance=about)
    for text in (repr(found), repr(InteractionsBatch([found]))):
        assert "continuation: ' Paris' (tokens 7, 42)" in text
    assert set(found.to_frame().continuation) == {"' Paris' (tokens 7, 42)"}
    unknown = from_values([0.0, 1.0, 2.0, 7.0], provenance={"continuation": {"text": None, "ids": [7]}})
    assert "continuation: tokens 7" in repr(unknown)


def test_the_only_output_of_a_continuation_is_named_by_the_continuation():
    about = {"explained": "output", "predicted": True, "continuation": {"text": " Paris", "ids": [7]}}
    found = from_values([0.0, 1.0, 2.0, 7.0], provenance=about)
    assert "explained" not in repr(found)
    assert found.about.question == "' Paris' (tokens 7)"
    assert any("' Paris' (tokens 7): v(∅)" in text.get_text() for text in found.plot.waterfall().ax.texts)


def test_values_are_copied_and_are_those_that_were_decomposed():
    v, other = table([0.0, 1.0, 2.0, 7.0]), table([0.0, 5.0, 2.0, 7.0])
    found = Interactions.from_decomposition(("a", "b"), v, decompose(v, noise=0))
    v.zero_()
    assert found.v_full == 7.0
    with pytest.raises(ValueError, match=r"reproduce every value within kappa = 0\.28.* got a miss of"):
        Interactions.from_decomposition(("a", "b"), other, decompose(found.values))
    with pytest.raises(ValueError, match=r"values must be"):
        Interactions.from_decomposition(("a", "b"), other[:2], decompose(found.values))


@pytest.mark.parametrize("tau", ["0.1", True])
def test_only_numbers_are_thresholds(tau):
    with pytest.raises(TypeError, match="tau must be a number"):
        random_interactions(2).salient(tau)


def test_indices_of_many_players_keep_the_digits_of_half_precision():
    additive = (torch.arange(2**12)[:, None] >> torch.arange(12) & 1).double() @ torch.full((12,), 0.0625).double()
    assert indices.shapley_values(additive.half()).tolist() == [0.0625] * 12
    assert indices.banzhaf_values(additive.half()).tolist() == [0.0625] * 12
