import itertools
import json
import math
import warnings

import numpy as np
import pytest
import torch
import transformers
from captum.attr import ShapleyValues
from forwards import data_parallel, normal
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import BERT, made

from captum_lkn import ExactShapleyValues, Fixed, SelectOutput
from captum_lkn.players.players import Players, players_from_mask

QUARTERS = torch.tensor([[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]])


def all_masks(n):
    return torch.tensor(list(itertools.product([False, True], repeat=n)))


def naive_masked(x, baseline, ids, present):
    """One masked sample, scalar by scalar: `present` holds the ids that stay."""
    out = x.clone().reshape(-1)
    flat_baseline, flat_ids = baseline.reshape(-1), ids.reshape(-1)
    for k in range(len(out)):
        if int(flat_ids[k]) != -1 and int(flat_ids[k]) not in present:
            out[k] = flat_baseline[k]
    return out.reshape(x.shape)


# ---------------------------------------------------------------- masked copies


@st.composite
def games(draw):
    """One or two inputs, baselines, and per-sample masks with background, ids shared and ids missing."""
    batch = draw(st.integers(1, 3))
    shapes = draw(st.lists(st.lists(st.integers(1, 3), max_size=2), min_size=1, max_size=2))
    ids = draw(st.integers(1, 4))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    inputs = tuple(torch.randn(batch, *shape, generator=generator) for shape in shapes)
    baselines = tuple(torch.randn(x.shape, generator=generator) for x in inputs)
    masks = tuple(torch.randint(-1, ids, x.shape, generator=generator) for x in inputs)
    return inputs, baselines, masks


@given(games())
def test_masked_copies_equal_a_loop_over_scalars(game):
    inputs, baselines, masks = game
    used = [sorted({int(i) for mask in masks for i in mask[b].reshape(-1)} - {-1}) for b in range(len(inputs[0]))]
    if not all(used):
        with pytest.raises(ValueError, match=r"sample \d has no player"):
            players_from_mask(inputs, baselines, masks)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        players = players_from_mask(inputs, baselines, masks)
    assert players.sizes == tuple(map(len, used))
    for sample, ids in enumerate(used):
        assert players.labels[sample] == tuple(map(str, ids))
        patterns = all_masks(len(ids))
        copies = players.masked(sample, patterns)
        for row, pattern in enumerate(patterns.tolist()):
            present = {i for i, here in zip(ids, pattern, strict=True) if here}
            for copy, x, baseline, mask in zip(copies, inputs, baselines, masks, strict=True):
                expected = naive_masked(x[sample], baseline[sample], mask[sample], present)
                assert torch.equal(copy[row], expected)


@settings(max_examples=30, deadline=None)
@given(games())
def test_spread_equals_a_loop_over_scalars(game):
    inputs, baselines, masks = game
    # one more scalar, owned by an id of its own, so that every sample has a player
    inputs, baselines = (*inputs, torch.ones(len(inputs[0]))), (*baselines, torch.zeros(len(inputs[0])))
    masks = (*masks, torch.full((len(inputs[0]),), 4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        players = players_from_mask(inputs, baselines, masks)
    for sample, labels in enumerate(players.labels):
        values = torch.arange(1.0, len(labels) + 1)
        by_id = {int(label): float(value) for label, value in zip(labels, values, strict=True)} | {-1: 0.0}
        for out, mask in zip(players.spread(sample, values), masks, strict=True):
            assert out.shape == (1, *mask.shape[1:])
            assert out.reshape(-1).tolist() == [by_id[int(i)] for i in mask[sample].reshape(-1)]


class Recorder:
    """A forward function that keeps what it was fed, one set of samples a place in the batch."""

    def __init__(self, batch):
        self.fed = [set() for _ in range(batch)]

    def __call__(self, *inputs):
        for sample, fed in enumerate(self.fed):
            fed.add(tuple(tuple(x[sample].reshape(-1).tolist()) for x in inputs))
        return sum(x.reshape(len(x), -1).double().sum(1) for x in inputs)


def fed_by_captum(inputs, baselines, feature_mask, batch):
    recorder = Recorder(batch)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ShapleyValues(recorder).attribute(inputs, baselines=baselines, feature_mask=feature_mask)
    return recorder.fed


X = torch.arange(1.0, 33.0).reshape(2, 4, 4)
SMALL = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])


@pytest.mark.parametrize(
    ("inputs", "baselines", "feature_mask"),
    [
        (X, None, QUARTERS),
        (X, -1, QUARTERS[None]),
        (X, 0.5, QUARTERS.repeat(2, 1, 1)),
        (X, -X, torch.tensor([0, 1, 1, 2])),
        (X, -X[:1], torch.tensor([[0], [1], [1], [2]])),
        (SMALL, None, None),
        (SMALL, None, torch.tensor([[0, 1, 1], [1, 1, 0]])),
        ((SMALL, X), (7.0, -X), (torch.tensor([0, 0, 1]), QUARTERS)),
        ((SMALL, -SMALL), None, None),
        ((SMALL,), (torch.zeros(1, 3),), (torch.tensor([[0, 1, 0]]),)),
        (torch.tensor([[5, 6, 7]]), 103, torch.tensor([[0, 1, 1]])),
        (torch.tensor([[True, False, True]]), None, None),
    ],
)
def test_masked_copies_are_those_that_captum_feeds(inputs, baselines, feature_mask):
    players = players_from_mask(inputs, baselines, feature_mask)
    expected = fed_by_captum(inputs, baselines, feature_mask, len(players))
    for sample, n in enumerate(players.sizes):
        copies = players.masked(sample, all_masks(n))
        ours = {tuple(tuple(copy[m].reshape(-1).tolist()) for copy in copies) for m in range(2**n)}
        assert ours == expected[sample]


def test_hand_computed_copies_with_background():
    x = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    players = players_from_mask(x, -1.0, torch.tensor([[0, -1, 1, 0]]))
    (copies,) = players.masked(0, torch.tensor([[False, False], [True, False], [False, True], [True, True]]))
    assert copies.tolist() == [[-1, 2, -1, -1], [1, 2, -1, 4], [-1, 2, 3, -1], [1, 2, 3, 4]]
    assert players.spread(0, torch.tensor([0.5, 2.0]))[0].tolist() == [[0.5, 0, 2, 0.5]]


def test_inf_and_nan_do_not_leak():
    x = torch.tensor([[1.0, float("inf"), float("nan")]])
    players = players_from_mask(x, torch.tensor([[float("nan"), 0.0, float("inf")]]), None)
    (copies,) = players.masked(0, torch.tensor([[True, False, False], [False, True, True]]))
    assert torch.equal(copies[0], torch.tensor([1.0, 0.0, float("inf")]))
    assert copies[1].isnan().tolist() == [True, False, True]
    assert copies[1, 1] == float("inf")


@pytest.mark.parametrize(
    "dtype",
    [
        torch.float64,
        torch.float16,
        torch.bfloat16,
        torch.uint8,
        torch.int8,
        torch.int32,
        torch.int64,
        torch.bool,
    ],
)
def test_every_dtype_stays(dtype):
    players = players_from_mask(torch.ones(1, 2, dtype=dtype))
    (copies,) = players.masked(0, torch.tensor([[True, False]]))
    assert copies.dtype == players.baselines[0].dtype == dtype
    assert copies.tolist() == [[1, 0]]


def test_large_integers_are_exact():
    players = players_from_mask(torch.tensor([[2**62 + 1, 2**53 + 1]]), 2**62 + 3)
    (copies,) = players.masked(0, torch.tensor([[True, False]]))
    assert copies.tolist() == [[2**62 + 1, 2**62 + 3]]


def test_no_masks_give_no_copies():
    assert players_from_mask(X).masked(0, torch.zeros(0, 16, dtype=torch.bool))[0].shape == (0, 4, 4)


# ---------------------------------------------------------------- feature masks


def test_default_numbers_scalars_on_over_the_inputs():
    players = players_from_mask((torch.zeros(2, 2), torch.zeros(2, 0), torch.zeros(2, 2, 2)))
    assert players.sizes == (6, 6)
    assert players.labels[1] == ("0", "1", "2", "3", "4", "5")
    assert [owner[1].reshape(-1).tolist() for owner in players.owners] == [[0, 1], [], [2, 3, 4, 5]]


def test_one_scalar_a_sample():
    players = players_from_mask(torch.tensor([1.0, 2.0]))
    assert players.sizes == (1, 1)
    assert players.masked(1, all_masks(1))[0].tolist() == [0.0, 2.0]
    assert players.spread(1, torch.tensor([3.0]))[0].tolist() == [3.0]


def test_gaps_are_renumbered_with_a_warning_at_the_caller():
    with pytest.warns(UserWarning, match=r"has no 0, 1, 2, 4. The players are renumbered") as caught:
        players = players_from_mask(torch.zeros(1, 3), feature_mask=torch.tensor([[5, 3, 5]]))
    assert caught[0].filename == __file__
    assert players.labels == (("3", "5"),)
    assert players.owners[0].tolist() == [[1, 0, 1]]


def test_a_huge_gap_is_named_in_part():
    with pytest.warns(UserWarning, match=r"has no 1, 2, 3, 4, 5, 6, 7, 8 and 999999999991 more"):
        players = players_from_mask(torch.zeros(1, 2), feature_mask=torch.tensor([[0, 10**12]]))
    assert players.sizes == (2,)


def test_samples_may_have_fewer_players_without_a_warning():
    mask = torch.tensor([[0, 1, 2, 2], [0, 1, -1, -1], [2, -1, -1, 1]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        players = players_from_mask(torch.zeros(3, 4), feature_mask=mask, player_names=["a", "b", "c"])
    assert players.sizes == (3, 2, 2)
    assert players.labels == (("a", "b", "c"), ("a", "b"), ("b", "c"))
    assert players.owners[0].tolist() == [[0, 1, 2, 2], [0, 1, -1, -1], [1, -1, -1, 0]]


def test_a_mask_for_all_beside_a_mask_a_sample():
    masks = (torch.tensor([[0, 1]]), torch.tensor([[2], [1]]))
    players = players_from_mask((torch.zeros(2, 2), torch.zeros(2, 1)), feature_mask=masks)
    assert players.sizes == (3, 2)
    assert [owner.tolist() for owner in players.owners] == [[[0, 1], [0, 1]], [[2], [1]]]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32])
def test_any_integer_mask(dtype):
    players = players_from_mask(X, feature_mask=QUARTERS.to(dtype))
    assert players.owners[0].dtype == torch.int64
    assert torch.equal(players.owners[0], QUARTERS.expand(2, 4, 4))


def test_broadcast_masks_and_baselines_take_no_memory():
    x = torch.zeros(8, 3, 16, 16)
    players = players_from_mask(x, 0.5, torch.arange(256).reshape(1, 16, 16))
    assert players.owners[0].shape == players.baselines[0].shape == x.shape
    assert players.owners[0].untyped_storage().nbytes() == 256 * 8
    assert players.baselines[0].untyped_storage().nbytes() == 4


def test_every_scalar_of_a_large_image():
    players = players_from_mask(torch.zeros(4, 3, 224, 224))
    assert players.sizes == (3 * 224 * 224,) * 4
    assert players.labels[0] is players.labels[3]


# ---------------------------------------------------------------- forms of the inputs


def test_tuple_form_is_remembered():
    assert players_from_mask((SMALL,)).is_tuple
    assert not players_from_mask(SMALL).is_tuple
    assert players_from_mask(SMALL).names is None


@pytest.mark.parametrize(
    ("entries", "masked"),
    [
        ({"input_ids": torch.ones(1, 2).long(), "pixel_values": torch.ones(1, 2)}, ("input_ids",)),
        ({"inputs_embeds": torch.ones(1, 2), "pixel_values": torch.ones(1, 2)}, ("pixel_values",)),
        (
            {"inputs_embeds": torch.ones(1, 2), "other": torch.ones(1, 2), "input_ids": None},
            ("inputs_embeds",),
        ),
        ({"a": torch.ones(1, 2), "n": torch.ones(1).long(), "flag": True, "b": torch.ones(1, 3)}, ("a", "b")),
        ({"input_ids": Fixed(torch.ones(3, 2).long()), "pixel_values": torch.ones(1, 2)}, ("pixel_values",)),
        ({"a": torch.ones(1, 2), "b": Fixed(torch.ones(1, 3))}, ("a",)),
    ],
)
def test_what_is_masked_of_a_mapping(entries, masked):
    players = players_from_mask(entries)
    assert players.names == masked
    assert list(players.constants) == [name for name in entries if name not in masked]
    assert players.is_tuple == (len(masked) > 1)


def test_batch_encoding_with_mask_and_baseline_by_name():
    transformers = pytest.importorskip("transformers")
    encoding = transformers.BatchEncoding(
        {"input_ids": torch.tensor([[101, 5, 6, 102]]), "attention_mask": torch.ones(1, 4).long()}
    )
    ids = torch.tensor([[-1, 0, 1, -1]])
    by_name = players_from_mask(encoding, {"input_ids": 103}, {"input_ids": ids}, ["five", "six"])
    plain = players_from_mask(encoding, 103, ids, ["five", "six"])
    for players in (by_name, plain):
        assert players.names == ("input_ids",)
        assert players.constants["attention_mask"] is encoding["attention_mask"]
        assert players.masked(0, torch.tensor([[False, True]]))[0].tolist() == [[101, 103, 6, 102]]


def test_names_for_each_sample():
    players = players_from_mask(
        torch.zeros(2, 2), feature_mask=torch.tensor([[0, 1], [0, -1]]), player_names=[["a", "a"], ["b"]]
    )
    assert players.labels == (("a", "a"), ("b",))


def test_inputs_that_require_grad_are_detached():
    x = torch.nn.Parameter(torch.ones(1, 2))
    players = players_from_mask(x, x * 2)
    assert not players.inputs[0].requires_grad
    assert not players.baselines[0].requires_grad
    assert type(players.inputs[0]) is torch.Tensor


@pytest.mark.parametrize(
    ("x", "baseline", "value"),
    [
        (torch.ones(1, 2).long(), 3.0, 3),
        (torch.ones(1, 2).long(), np.int64(3), 3),
        (torch.ones(1, 2), np.float32(0.5), 0.5),
        (torch.ones(1, 2), 3, 3.0),
        (torch.tensor([[1.0, -math.inf]]), -math.inf, -math.inf),  # as of a mask that is added to scores
        (torch.ones(1, 2), torch.tensor(2.0, dtype=torch.float64), 2.0),
        (torch.ones(1, 2), torch.tensor([[2]]), 2.0),
        (torch.ones(1, 2).bool(), True, True),
        (torch.ones(1, 2).bool(), 1, True),
        (torch.ones(1, 2).bool(), torch.tensor([[True, True]]), True),
    ],
)
def test_baselines_that_fit(x, baseline, value):
    (filled,) = players_from_mask(x, baseline).baselines
    assert filled.dtype == x.dtype
    assert filled.tolist() == [[value, value]]


def test_a_baseline_for_each_channel():
    x = torch.zeros(2, 3, 2, 2)
    means = torch.tensor([1.0, 2.0, 3.0]).reshape(1, 3, 1, 1)
    (filled,) = players_from_mask(x, means).baselines
    assert torch.equal(filled, means.expand(2, 3, 2, 2))


def test_description_goes_into_json():
    players = players_from_mask((SMALL, X), (0.5, X))
    assert json.loads(json.dumps(players.description)) == {
        "players": "every scalar",
        "baseline": "0.5, float32 [2, 4, 4]",
    }


def test_sizes_are_counted_once():
    players = players_from_mask(X)
    assert players.sizes == (16, 16)
    assert players.sizes is players.sizes  # with 8,000 samples, counting at each use took seconds


def test_repr_is_for_reading():
    players = players_from_mask({"input_ids": torch.ones(10, 12).long(), "attention_mask": torch.ones(10, 12)})
    lines = repr(players).splitlines()
    assert lines[0] == "Players of 10 samples; masked: input_ids int64 [10, 12]; constant: attention_mask"
    assert lines[1] == "  sample 0, 12 players: 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | and 4 more"
    assert lines[-1] == "  and 2 more"
    assert len(lines) == 10


# ---------------------------------------------------------------- for Captum's own methods


@pytest.mark.parametrize("ids", [[[0, 1, -1, 0]], [[0, 1, -1, 0], [1, -1, -1, 0]], [[0, 1, 2, 3]]], ids=str)
def test_captum_takes_players_as_its_own_arguments(ids):
    x = normal(2, 4)
    players = players_from_mask(x, normal(2, 4, seed=1), torch.tensor(ids))

    def forward(rows):
        return rows.prod(1) + rows[:, 0] * rows[:, 3].exp()

    theirs = ShapleyValues(forward).attribute(**players.captum_arguments())
    torch.testing.assert_close(theirs, ExactShapleyValues(forward).attribute(players).to(theirs), atol=1e-5, rtol=1e-5)


def test_captum_gets_constants_in_the_order_of_the_models_parameters():
    """Tokenizers return token types before the attention mask, and models take them behind it."""
    ids, types, mask = torch.tensor([[3, 1, 2, 7]]), torch.tensor([[0, 1, 1, 0]]), torch.tensor([[1, 1, 1, 0]])
    entries = {"input_ids": ids, "token_type_ids": types, "attention_mask": mask}
    players = players_from_mask(entries, 9, torch.tensor([0, 1, 2, -1]))
    model = made(transformers.BertForSequenceClassification, transformers.BertConfig, **BERT)

    def by_keyword(rows):  # the oracle: Captum itself, with one argument by position
        return model(rows, attention_mask=mask.expand(len(rows), -1), token_type_ids=types.expand(len(rows), -1)).logits

    arguments = players.captum_arguments(model)
    assert list(arguments) == ["inputs", "baselines", "feature_mask", "additional_forward_args"]
    expected = ShapleyValues(by_keyword).attribute(
        ids, arguments["baselines"], 0, feature_mask=arguments["feature_mask"]
    )
    for whole in (model, data_parallel(model), SelectOutput(model)):
        arguments = players.captum_arguments(whole)
        found = ShapleyValues(lambda *every: model(*every).logits).attribute(**arguments, target=0)
        torch.testing.assert_close(found, expected)
    two = players_from_mask((SMALL, X)).captum_arguments()
    assert all(isinstance(value, tuple) and len(value) == 2 for value in two.values())


def test_captum_gets_a_masked_attention_mask_first():
    """Words that are removed: what is masked is the model's second parameter."""
    ids, mask = torch.tensor([[3, 1, 2, 7]]), torch.tensor([[1, 1, 1, 1]])
    owners = torch.tensor([[0, 1, 2, -1]])
    players = Players((mask,), (mask * 0,), (owners,), (("a", "b", "c"),), ("attention_mask",), {"input_ids": ids})
    model = made(transformers.BertForSequenceClassification, transformers.BertConfig, **BERT)
    with pytest.raises(
        TypeError, match=r"takes input_ids, attention_mask, .* pass what is masked first, attention_mask"
    ):
        players.captum_arguments(model)

    def forward(attention_mask, input_ids):
        return model(input_ids, attention_mask).logits

    def by_hand(attention_mask):
        return model(ids.expand(len(attention_mask), -1), attention_mask).logits

    found = ShapleyValues(forward).attribute(**players.captum_arguments(forward), target=1)
    present = torch.tensor([[0, 0, 0, 1]])  # without any word
    expected = ShapleyValues(by_hand).attribute(mask, present, 1, feature_mask=torch.tensor([[0, 1, 2, 3]]))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (None, r"have names \(x, power\), and Captum's methods pass them by position: give the model"),
        (lambda *every: every[0], "takes no argument with a name by position"),
        (
            lambda power, x: x,
            r"takes power, x by position, .* first, x: give .* lambda x, power: model\(x=x, power=power",
        ),
        (lambda x, *, power: x, "does not take power by position; it takes x"),
        (lambda x, scale, power: x, "needs scale, which the players do not have"),
    ],
)
def test_names_that_captum_cannot_pass(forward, message):
    with pytest.raises(TypeError, match=message):
        players_from_mask({"x": torch.ones(1, 2), "power": 2}).captum_arguments(forward)


# ---------------------------------------------------------------- errors

IDS = torch.ones(2, 3).long()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"inputs": np.ones((1, 2))},
            TypeError,
            "must be a tensor, a tuple of tensors or a mapping; got a ndarray",
        ),
        ({"inputs": [SMALL]}, TypeError, "tuple of tensors or a mapping; got a list"),
        ({"inputs": (SMALL, "x")}, TypeError, "input 1 must be a tensor; got a str"),
        (
            {"inputs": SMALL.to(torch.complex64)},
            TypeError,
            r"0 must be real; got complex64 \[2, 3\].*view_as_real",
        ),
        ({"inputs": SMALL.to_sparse()}, TypeError, "must be dense; got layout torch.sparse_coo"),
        ({"inputs": ()}, ValueError, "at least one tensor; got an empty tuple"),
        ({"inputs": torch.tensor(1.0)}, ValueError, r"must have a batch dimension.*x\[None\]"),
        ({"inputs": torch.ones(0, 3)}, ValueError, r"at least one sample; got shapes \[0, 3\]"),
        ({"inputs": (SMALL, X[:1])}, ValueError, r"first dimension, the batch; got shapes \[2, 3\], \[1, 4, 4\]"),
        ({"inputs": {"labels": IDS}}, ValueError, r"entries \['labels'\], none of which can be masked"),
        ({"inputs": {"input_ids": [1, 2]}}, TypeError, "got a list. Call the tokenizer .*return_tensors"),
        ({"inputs": {"input_ids": SMALL}}, TypeError, r"inputs\['input_ids'\] must hold integers; got float32"),
        ({"baselines": True}, TypeError, "baseline 0 is bool, its input float32"),
        ({"baselines": torch.ones(2, 3).bool()}, TypeError, "baseline 0 is bool, its input float32"),
        ({"baselines": 1j}, TypeError, "must be a tensor or a number; got a complex"),
        ({"baselines": torch.ones(2, 3) * 1j}, TypeError, "baseline 0 is complex64"),
        ({"baselines": "zero"}, TypeError, "must be a tensor or a number; got a str"),
        ({"baselines": [0.0]}, TypeError, "must be a tensor or a number; got a list"),
        ({"baselines": (0, 0)}, ValueError, "baselines must have one entry an input; got 2 for 1"),
        ({"baselines": {"input_ids": 0}}, TypeError, "baselines is a mapping and inputs is not"),
        ({"baselines": torch.ones(3)}, ValueError, r"shape \[3\], its input \[2, 3\].*one of \[1, 3\]"),
        ({"baselines": torch.ones(2, 1)}, ValueError, r"shape \[2, 1\], its input \[2, 3\]"),
        ({"baselines": torch.ones(1, 2)}, ValueError, r"shape \[1, 2\], its input \[2, 3\]"),
        ({"baselines": 1e39}, ValueError, r"1e\+39, is not a value of its input's dtype, float32"),
        ({"baselines": 2**70}, ValueError, f"{2**70}, which no integer dtype holds"),
        (
            {"inputs": IDS, "baselines": 0.5},
            ValueError,
            "0.5, is not a value of its input's dtype, int64. Round it",
        ),
        ({"inputs": IDS, "baselines": float("nan")}, ValueError, "nan, is not a value"),
        ({"inputs": IDS, "baselines": torch.ones(2, 3) / 2}, ValueError, r"float32 \[2, 3\], is not a value"),
        (
            {"inputs": IDS.byte(), "baselines": 300},
            ValueError,
            "300, is not a value of its input's dtype, uint8",
        ),
        ({"inputs": IDS.byte(), "baselines": -1}, ValueError, "-1, is not a value of its input's dtype, uint8"),
        ({"inputs": IDS.bool(), "baselines": 2}, ValueError, "2, is not a value of its input's dtype, bool"),
        (
            {"inputs": {"input_ids": IDS}, "baselines": {"ids": 0}},
            ValueError,
            r"names of the masked inputs, \['input_ids'\]; got \['ids'\]",
        ),
        (
            {"feature_mask": torch.zeros(2, 3)},
            TypeError,
            r"must hold integers; got float32 \[2, 3\].*\.long\(\)",
        ),
        ({"feature_mask": torch.zeros(2, 3).bool()}, TypeError, "must hold integers; got bool"),
        ({"feature_mask": [0, 1, 2]}, TypeError, "feature_mask 0 must be a tensor; got a list"),
        ({"feature_mask": IDS[:, :2]}, ValueError, r"feature_mask 0 has shape \[2, 2\], its input \[2, 3\]"),
        ({"feature_mask": IDS[None]}, ValueError, r"has shape \[1, 2, 3\], its input \[2, 3\]"),
        ({"feature_mask": (IDS, IDS)}, ValueError, "feature_mask must have one entry an input; got 2 for 1"),
        (
            {"inputs": (SMALL, X), "feature_mask": IDS},
            ValueError,
            "feature_mask must have one entry .*1 for 2",
        ),
        ({"feature_mask": {"x": IDS}}, TypeError, "feature_mask is a mapping and inputs is not"),
        (
            {"feature_mask": torch.tensor([0, -2, 1])},
            ValueError,
            "must hold ids from 0, or -1 for background.*got -2",
        ),
        ({"feature_mask": torch.tensor([[0, 1, 0], [-1, -1, -1]])}, ValueError, "sample 1 has no player"),
        ({"inputs": torch.ones(1, 0)}, ValueError, "sample 0 has no player"),
        ({"player_names": "abc"}, TypeError, "player_names must be a sequence of labels; got a str"),
        ({"player_names": 3}, TypeError, "player_names must be a sequence of labels; got a int"),
        ({"player_names": ["a", "b"]}, ValueError, r"got 2 labels for 3 ids \(0, 1, 2\)"),
        ({"player_names": [["a", "b", "c"]]}, ValueError, "one list a sample; got 1 for 2 samples"),
        (
            {"player_names": [["a", "b", "c"], ["a"]]},
            ValueError,
            r"player_names\[1\] must have one label a player; got 1 for 3",
        ),
        ({"player_names": [["a", "b", "c"], "abc"]}, TypeError, r"player_names\[1\] must be .*got 'abc'"),
        ({"player_names": [1, 2]}, TypeError, r"player_names\[0\] must be a sequence of str; got 1"),
    ],
)
def test_errors_quote_what_was_given(arguments, error, message):
    with pytest.raises(error, match=message):
        players_from_mask(**{"inputs": SMALL, **arguments})


@pytest.mark.parametrize(
    ("masks", "error", "message"),
    [
        (torch.ones(1, 3), TypeError, r"must be a bool tensor, .*got float32 \[1, 3\]"),
        ([[True] * 3], TypeError, "must be a bool tensor, .*got a list"),
        (torch.ones(3).bool(), ValueError, r"must be \[M, 3\], sample 0 has 3 players; got \[3\]"),
        (torch.ones(1, 2).bool(), ValueError, r"must be \[M, 3\], sample 0 has 3 players; got \[1, 2\]"),
    ],
)
def test_masks_are_checked(masks, error, message):
    with pytest.raises(error, match=message):
        players_from_mask(SMALL).masked(0, masks)


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        (torch.ones(3).long(), TypeError, r"must be a floating tensor, .*got int64 \[3\]"),
        (torch.ones(2), ValueError, r"must be \[3\], sample 0 has 3 players; got \[2\]"),
    ],
)
def test_values_are_checked(values, error, message):
    with pytest.raises(error, match=message):
        players_from_mask(SMALL).spread(0, values)


@pytest.mark.parametrize("sample", [-1, 2])
def test_samples_are_checked(sample):
    players = players_from_mask(SMALL)
    with pytest.raises(ValueError, match=f"sample must be between 0 and 1; got {sample}"):
        players.masked(sample, torch.ones(1, 3).bool())
    with pytest.raises(ValueError, match=f"sample must be between 0 and 1; got {sample}"):
        players.spread(sample, torch.ones(3))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"baselines": ()}, r"must be equally many; got \[1, 0, 1, 1\]"),
        ({"names": ("a", "b")}, r"must be equally many; got \[1, 1, 1, 2\]"),
        (
            {"owners": (torch.zeros(2, 2).long(),)},
            r"shape \[2, 3\], its baseline \[2, 3\], its owners \[2, 2\]",
        ),
        ({"labels": (("a", "b", "c"),)}, "and 1 samples have labels"),
        ({"baselines": (SMALL.double(),)}, "float32 with a baseline of float64"),
        ({"owners": (torch.tensor([[0, 1, 2], [0, 1, 3]]),)}, r"owners must be -1 or .*\(3, 3\)"),
        ({"owners": (torch.tensor([[0, 1, -2]]).expand(2, 3),)}, "owners must be -1 or a player's number"),
    ],
)
def test_parts_that_do_not_fit_together(changed, message):
    parts = {
        "inputs": (SMALL,),
        "baselines": (torch.zeros(2, 3),),
        "owners": (torch.arange(3).expand(2, 3),),
        "labels": (("a", "b", "c"), ("a", "b", "c")),
    }
    Players(**parts)
    with pytest.raises(ValueError, match=message):
        Players(**{**parts, **changed})
