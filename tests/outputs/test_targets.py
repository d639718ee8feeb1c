import json

import numpy as np
import pytest
import torch
from captum._utils.common import _select_targets
from hypothesis import given, settings
from hypothesis import strategies as st

from captum_lkn.outputs.scores import binary_log_odds, logit
from captum_lkn.outputs.targets import resolve_target


def chosen(target, output, **options):
    """The explained number of each sample: one masked copy a sample, read with the logit."""
    return logit(*resolve_target(target, output, **options).select(output, torch.arange(len(output))))


# ---------------------------------------------------------------- Captum's kinds


@pytest.mark.parametrize(
    ("shape", "target"),
    [
        ((3, 5), 2),
        ((3, 5), torch.tensor(2)),
        ((3, 5), torch.tensor([2])),
        ((3, 5), torch.tensor([[2]])),
        ((3, 5), torch.tensor([4, 0, 2])),
        ((3, 5), torch.tensor([4, 0, 2], dtype=torch.int32)),
        ((3, 5), [4, 0, 2]),
        ((3, 5), (4,)),
        ((3, 5), [(4,), (0,), (2,)]),
        ((1, 5), [3]),
        ((1, 5), torch.tensor([3])),
        ((3, 1), 0),
        ((3, 1), [0, 0, 0]),
        ((3, 4, 5), (3, 1)),
        ((3, 4, 5), [(3, 1), (0, 0), (1, 4)]),
        ((3, 4, 1), (3, 0)),
        ((3, 2, 4, 5), (1, 3, 4)),
        ((3, 2, 4, 5), [(1, 3, 4), (0, 0, 0), (1, 2, 3)]),
        ((1, 4, 5), [(3, 1)]),
        ((3,), None),
    ],
)
def test_captums_kinds_select_what_captum_selects(shape, target):
    output = torch.randn(shape, dtype=torch.float64)
    expected = (
        _select_targets(output, target.long()) if isinstance(target, torch.Tensor) else _select_targets(output, target)
    )
    assert torch.equal(chosen(target, output), expected)


@st.composite
def cases(draw):
    """An output of any shape, and a target a sample in Captum's form."""
    shape = draw(st.lists(st.integers(1, 4), min_size=2, max_size=4))
    entries = [tuple(draw(st.integers(0, size - 1)) for size in shape[1:]) for _ in range(shape[0])]
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    return torch.randn(shape, generator=generator, dtype=torch.float64), entries


@settings(max_examples=100, deadline=None)
@given(cases())
def test_any_target_selects_what_captum_selects(case):
    output, entries = case
    assert torch.equal(chosen(entries, output), _select_targets(output, entries))
    assert torch.equal(chosen(entries[0], output), _select_targets(output, entries[0]))
    if output.dim() == 2:
        classes = [c for (c,) in entries]
        assert torch.equal(chosen(classes, output), _select_targets(output, classes))


@settings(max_examples=100, deadline=None)
@given(cases(), st.data())
def test_masked_copies_are_read_at_their_own_samples_target(case, data):
    output, entries = case
    samples = data.draw(st.lists(st.integers(0, len(output) - 1), max_size=8))
    copies = torch.randn(len(samples), *output.shape[1:])
    rows, classes = resolve_target(entries, output).select(copies, torch.tensor(samples, dtype=torch.int64))
    assert rows.shape == (len(samples), output.shape[-1])
    for r, sample in enumerate(samples):
        *position, c = entries[sample]
        assert torch.equal(rows[r], copies[(r, *position)])
        assert classes[r] == c


# ---------------------------------------------------------------- beyond Captum's kinds


@pytest.mark.parametrize(
    "target",
    [
        np.int64(2),
        np.int32(2),
        np.uint8(2),
        np.array(2),
        np.array([2]),
        np.array([2, 2, 2]),
        np.array([2, 2, 2], dtype=np.uint16),
        [np.int64(2), torch.tensor(2), np.array(2)],
        torch.tensor(2, dtype=torch.uint8),
    ],
)
def test_integers_of_numpy_and_in_tensors_are_accepted(target):
    target = resolve_target(target, torch.zeros(3, 5))
    assert target.describe() == [2, 2, 2]
    assert target.classes.dtype == target.positions.dtype == torch.int64


@pytest.mark.parametrize("output", [torch.tensor([1.0, 2.0]), torch.tensor([[1.0], [2.0]])])
@pytest.mark.parametrize("target", [None, 0, [0, 0], torch.tensor([0, 0]), (0,), "predicted"])
def test_one_output_a_sample_needs_no_target_and_takes_0(output, target):
    resolved = resolve_target(target, output)
    rows, classes = resolved.select(output, torch.arange(2))
    assert rows.tolist() == [[1.0], [2.0]]
    assert classes.tolist() == [0, 0]
    assert resolved.n_outputs == 1


def test_one_output_a_sample_may_be_wrapped_in_further_dimensions():
    assert resolve_target(None, torch.zeros(2, 1, 1)).describe() == [[0, 0], [0, 0]]


def test_a_column_may_come_back_with_or_without_its_dimension():
    target = resolve_target(None, torch.zeros(2))
    assert target.select(torch.zeros(4, 1), torch.tensor([0, 0, 1, 1]))[0].shape == (4, 1)


def test_predicted_is_the_largest_output_the_first_of_equals():
    output = torch.tensor([[0.0, 3.0, 1.0], [5.0, 3.0, 5.0], [-3.0, -2.0, -1.0]])
    target = resolve_target("predicted", output)
    assert target.describe() == [1, 0, 2]
    assert target.predicted
    assert not resolve_target([1, 0, 2], output).predicted


@pytest.mark.parametrize("output", [torch.tensor([2.0, -1.0]), torch.tensor([[2.0], [-1.0]])])
@pytest.mark.parametrize(
    ("target", "classes", "score"),
    [
        (None, [1, 1], [2.0, -1.0]),
        (1, [1, 1], [2.0, -1.0]),
        (0, [0, 0], [-2.0, 1.0]),
        ([0, 1], [0, 1], [-2.0, -1.0]),
        ("predicted", [1, 0], [2.0, 1.0]),
    ],
)
def test_a_binary_column_has_the_classes_0_and_1(output, target, classes, score):
    resolved = resolve_target(target, output, binary=True)
    assert resolved.describe() == classes
    assert resolved.n_outputs == 1
    assert binary_log_odds(*resolved.select(output, torch.arange(2))).tolist() == score


def test_binary_changes_nothing_where_there_are_several_columns():
    output = torch.tensor([[0.0, 3.0, 1.0]])
    assert resolve_target("predicted", output, binary=True).describe() == [1]
    assert resolve_target(2, output, binary=True).describe() == [2]


def test_a_target_is_described_in_numbers_that_json_can_hold():
    assert json.dumps(resolve_target(np.int64(1), torch.zeros(2, 3)).describe()) == "[1, 1]"
    positions = resolve_target([(1, 0), (3, 2)], torch.zeros(2, 4, 3)).describe()
    assert json.dumps(positions) == "[[1, 0], [3, 2]]"


def test_a_target_knows_its_output():
    target = resolve_target((1, 2), torch.zeros(2, 4, 3))
    assert target.shape == (4, 3)
    assert target.n_outputs == 3
    assert target.positions.tolist() == [[1], [1]]


def test_selection_keeps_the_outputs_dtype_and_gradient():
    output = torch.randn(2, 4, 3, dtype=torch.bfloat16, requires_grad=True)
    rows, _ = resolve_target((1, 2), output).select(output, torch.arange(2))
    assert rows.dtype == torch.bfloat16
    rows.sum().backward()
    assert output.grad.sum() == 6


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_target_goes_where_the_output_is():
    output = torch.randn(2, 4, 3)
    expected = resolve_target([(1, 2), (0, 0)], output).select(output, torch.arange(2))
    target = resolve_target([(1, 2), (0, 0)], output.cuda())
    assert target.classes.is_cuda
    for resolved in (target, resolve_target([(1, 2), (0, 0)], output)):
        for found, wanted in zip(resolved.select(output.cuda(), torch.arange(2)), expected, strict=True):
            assert found.is_cuda
            assert torch.equal(found.cpu(), wanted)


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (True, "target is True, with a bool for an index: write 1 for that output"),
        (np.True_, "with a bool for an index: write 1"),
        ([0, False], r"target\[1\] is False, with a bool for an index: write 0"),
        ((True,), r"target is \(True,\), with a bool"),
        (torch.tensor(True), r"target is a tensor of bool \[\]: give the indices of outputs, as integers"),
        (torch.tensor([True, False]), r"target is a tensor of bool \[2\]"),
        (np.array([True, False]), r"target is a NumPy array of bool \[2\]"),
        ([torch.tensor(True), 0], r"target\[0\] is a tensor of bool"),
        (1.0, "target is 1.0, a float: give an int, a tuple of ints"),
        (np.float32(1), "a float32: give an int"),
        ([0, 1.5], r"target\[1\] is 1.5, a float"),
        (
            torch.tensor([0.0, 1.0]),
            r"a tensor of float32 \[2\]: give .* as integers, such as .long\(\) makes",
        ),
        (np.array([0.0, 1.0]), r"a NumPy array of float64 \[2\]: give .*such as .astype\(int\) makes"),
        (np.array(["0", "1"]), "a NumPy array of <U1"),
        (slice(0, 1), "a slice: give an int"),
        ((slice(0, 1),), "with a slice in it: give an int"),
        ({}, "target is {}, a dict"),
        ([[0], [1]], r"target\[0\] is \[0\], a list: give an int, a tuple of ints"),
        ([0, None], r"target\[1\] is None, a NoneType"),
    ],
)
def test_targets_of_another_type_are_refused(target, message):
    with pytest.raises(TypeError, match=message):
        resolve_target(target, torch.zeros(2, 3))


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (3, r"target is 3, out of range: the output \[2, 3\] has 3 outputs to choose from: give 0 to 2$"),
        (-1, "target is -1, out of range.*give 0 to 2; negative indices do not count from the end here"),
        ([0, 7], r"target\[1\] is 7, out of range"),
        (torch.tensor([0, -3]), r"target\[1\] is -3, out of range"),
        (np.int64(3), "out of range"),
        (2**70, "out of range"),
        ([0], "target has length 1 for 2 samples: give one a sample, or an int for all of them"),
        ([], "target has length 0 for 2 samples"),
        (torch.tensor([0, 1, 2]), "target has length 3 for 2 samples"),
        (np.array([0, 1, 2]), "target has length 3 for 2 samples"),
        (
            torch.zeros(2, 1, dtype=torch.int64),
            r"a tensor of int64 \[2, 1\]: give one dimension, an index a sample",
        ),
        (np.zeros((2, 3), dtype=int), r"a NumPy array of int64 \[2, 3\]: give one dimension"),
        (
            (0, 1),
            r"target is \(0, 1\), 2 indices; the output \[2, 3\] takes 1,.*give an int, or a list of ints",
        ),
        ((), r"target is \(\), 0 indices"),
        ([(0,), (1, 2)], r"target\[1\] is \(1, 2\), 2 indices"),
        ("predict", "target 'predict' is not known; did you mean 'predicted'.; give an int"),
        ("positive", "target 'positive' is not known; give an int.*\"predicted\" or None"),
        (
            None,
            r'target is None.*float32 \[2, 3\] has 3 values a sample: give target=0 to 2.*target="predicted"',
        ),
    ],
)
def test_targets_that_do_not_fit_two_dimensions_are_refused(target, message):
    with pytest.raises(ValueError, match=message):
        resolve_target(target, torch.zeros(2, 3))


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            1,
            r"target is 1, 1 index; the output \[2, 4, 3\] takes 2.*give a tuple such as \(0, 0\), or a list",
        ),
        ([0, 1], r"target\[0\] is 0, 1 index"),
        (torch.tensor([0, 1]), r"target\[0\] is 0, 1 index"),
        ((0, 1, 2), "3 indices"),
        ([(0, 1)], "target has length 1 for 2 samples: give one a sample, or a tuple for all of them"),
        (
            [(0, 1), (0, 3)],
            r"target\[1\] is \(0, 3\), out of range.*has 3 outputs to choose from: give 0 to 2",
        ),
        ((4, 0), r"target is \(4, 0\), out of range: .* has 4 positions in dimension 1: give 0 to 3"),
        ((-1, 0), r"target is \(-1, 0\), out of range.*negative indices"),
        (
            "predicted",
            r'"predicted" needs one row of outputs a sample; the output is float32 \[2, 4, 3\]: give',
        ),
        (
            None,
            r"float32 \[2, 4, 3\] has 12 values a sample: give target=\(0, 0\), an index for each dimension",
        ),
    ],
)
def test_targets_that_do_not_fit_further_dimensions_are_refused(target, message):
    with pytest.raises(ValueError, match=message):
        resolve_target(target, torch.zeros(2, 4, 3))


@pytest.mark.parametrize("output", [torch.zeros(2), torch.zeros(2, 1)])
def test_class_1_of_one_column_is_answered_with_the_binary_score(output):
    with pytest.raises(ValueError, match=r'has 1 output to choose from: give 0; if .* score="binary_log_odds"'):
        resolve_target(1, output)
    with pytest.raises(ValueError, match=r"has one column for 2 classes: give 0 to 1$"):
        resolve_target(2, output, binary=True)


@pytest.mark.parametrize("output", [torch.tensor(1.0), torch.zeros(0, 3), torch.zeros(2, 0)])
def test_an_output_without_values_is_refused(output):
    with pytest.raises(ValueError, match=r"must be a tensor \[B, ...\] with at least one value; got float32"):
        resolve_target(0, output)


def test_an_output_that_is_no_tensor_is_refused():
    with pytest.raises(TypeError, match=r"the output must be a tensor \[B, ...\]; got a dict"):
        resolve_target(0, {"logits": torch.zeros(2, 3)})


@pytest.mark.parametrize("output", [torch.zeros(2, 3), torch.zeros(4, 5), torch.zeros(4), torch.tensor(1.0)])
def test_masked_copies_must_come_back_in_the_samples_shape(output):
    target = resolve_target(0, torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"forward of 4 masked copies returned float32 .*has the shape \[3\]"):
        target.select(output, torch.tensor([0, 0, 1, 1]))
