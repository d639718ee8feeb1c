import json

import numpy as np
import pytest
import torch
from captum._utils.common import _select_targets
from hypothesis import given
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


@given(cases())
def test_any_target_selects_what_captum_selects(case):
    output, entries = case
    assert torch.equal(chosen(entries, output), _select_targets(output, entries))
    assert torch.equal(chosen(entries[0], output), _select_targets(output, entries[0]))
    if output.dim() == 2:
        classes = [c for (c,) in entries]
        assert torch.equal(chosen(classes, output), _select_targets(output, classes))


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


def test_predicted_at_a_single_position():
    output = torch.tensor([[0.0, 3.0, 1.0], [5.0, 3.0, 5.0]])
    assert resolve_target("predicted", output[:, :, None, None], class_dim=1).describe() == [[1, 0, 0], [0, 0, 0]]
    assert resolve_target("predicted", output[:, None]).describe() == [[0, 1], [0, 0]]


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


# ---------------------------------------------------------------- the dimension of the classes


def dense_cases():
    """Outputs with two positions, and where their classes are."""
    return st.tuples(
        st.lists(st.integers(1, 4), min_size=3, max_size=4), st.integers(1, 3), st.integers(0, 2**31), st.data()
    )


@given(dense_cases())
def test_rows_are_taken_along_the_dimension_of_the_classes(case):
    shape, class_dim, seed, data = case
    class_dim = min(class_dim, len(shape) - 1)
    output = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    entries = [tuple(data.draw(st.integers(0, size - 1)) for size in shape[1:]) for _ in range(shape[0])]
    target = resolve_target(entries, output, class_dim=class_dim)
    assert torch.equal(logit(*target.select(output, torch.arange(len(output)))), _select_targets(output, entries))
    assert target.describe() == [list(entry) for entry in entries]
    assert target.n_outputs == shape[class_dim]
    rows, classes = target.select(output, torch.arange(len(output)))
    for sample, entry in enumerate(entries):
        every = [(*entry[: class_dim - 1], c, *entry[class_dim:]) for c in range(shape[class_dim])]
        assert rows[sample].tolist() == [float(output[(sample, *one)]) for one in every]
        assert classes[sample] == entry[class_dim - 1]


def test_the_parts_of_a_dense_target():
    target = resolve_target((2, 4, 5), torch.zeros(2, 3, 6, 7), class_dim=1)
    assert (target.shape, target.class_dim, target.n_outputs, target.position_sizes) == ((3, 6, 7), 0, 3, (6, 7))
    assert target.classes.tolist() == [2, 2]
    assert target.positions.tolist() == [[4, 5], [4, 5]]


def test_a_negative_dimension_counts_from_the_end():
    output = torch.zeros(2, 4, 3)
    assert resolve_target((3, 2), output, class_dim=-1).class_dim == 1
    assert resolve_target((3, 2), output, class_dim=-2).class_dim == 0


@pytest.mark.parametrize(
    ("shape", "target"),
    [((3, 5, 1), 2), ((3, 5, 1, 1), 2), ((3, 5, 1), torch.tensor(2)), ((3, 5, 4, 1), (2, 3)), ((3, 5, 1, 1), (2, 0))],
)
def test_last_dimensions_of_size_1_may_be_left_out_as_in_captum(shape, target):
    output = torch.randn(shape, dtype=torch.float64)
    assert torch.equal(chosen(target, output), _select_targets(output, target).flatten())


def test_a_binary_column_may_have_positions():
    output = torch.tensor([[[[2.0, -3.0]]]])
    resolved = resolve_target((1, 0, 1), output, binary=True, class_dim=1)
    assert binary_log_odds(*resolved.select(output, torch.arange(1))).tolist() == [-3.0]
    assert resolve_target(None, torch.tensor([[[[2.0]]]]), binary=True, class_dim=1).describe() == [[1, 0, 0]]


# ---------------------------------------------------------------- targets in words


def test_a_target_in_words():
    output = torch.zeros(2, 2)
    target = resolve_target([1, 0], output)
    assert target.texts() == ["class 1", "class 0"]
    assert target.named(["negative", "positive"]).texts() == ["positive (1)", "negative (0)"]
    assert target.named([], "label").texts() == ["label 1", "label 0"]
    assert target.named(["of", "another", "head"]).texts() == ["class 1", "class 0"]
    assert resolve_target(None, torch.zeros(2)).texts() == ["output", "output"]
    assert resolve_target(None, torch.zeros(1)).named(["stars"]).texts() == ["stars"]
    pair = resolve_target([0, 1], output[:, :1], binary=True)
    assert pair.named(["no", "yes"]).texts() == ["no (0)", "yes (1)"]
    assert pair.texts() == ["class 0", "class 1"]


def test_a_position_in_words():
    names = ["sky", "road", "car"]
    assert resolve_target((2, 4, 5), torch.zeros(1, 3, 6, 7), class_dim=1).named(names).texts() == ["car (2) at (4, 5)"]
    assert resolve_target([(4, 1)], torch.zeros(1, 6, 3)).named(names).texts() == ["road (1) at position 4"]


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (True, "target must have integers for indices; got True. For a bool write 1"),
        (np.True_, "For a bool write 1"),
        ([0, False], r"target\[1\] must have integers for indices; got False. For a bool write 0"),
        ((True,), r"target must have integers for indices; got \(True,\)"),
        (torch.tensor(True), r"target must be the indices of outputs, integers; got a tensor of bool \[\]$"),
        (torch.tensor([True, False]), r"a tensor of bool \[2\]$"),
        (np.array([True, False]), r"a NumPy array of bool \[2\]$"),
        ([torch.tensor(True), 0], r"target\[0\] must be .*; got a tensor of bool"),
        (1.0, "target must be an int, a tuple of ints.*; got 1.0, a float"),
        (np.float32(1), "a float32$"),
        ([0, 1.5], r"target\[1\] must be .*; got 1.5, a float"),
        (torch.tensor([0.0, 1.0]), r"got a tensor of float32 \[2\]. Convert it with .long\(\)"),
        (np.array([0.0, 1.0]), r"got a NumPy array of float64 \[2\]. Convert it with .astype\(int\)"),
        (np.array(["0", "1"]), "a NumPy array of <U1"),
        (slice(0, 1), "a slice$"),
        ((slice(0, 1),), "with a slice in it$"),
        ({}, "got {}, a dict"),
        ([[0], [1]], r"target\[0\] must be an int.*; got \[0\], a list"),
        ([0, None], r"target\[1\] must be .*; got None, a NoneType"),
    ],
    ids=str,
)
def test_targets_of_another_type_are_refused(target, message):
    with pytest.raises(TypeError, match=message):
        resolve_target(target, torch.zeros(2, 3))


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (3, r"target must be 0 to 2, for the output \[2, 3\]; got 3$"),
        (-1, "target must be 0 to 2.*; got -1. Negative indices do not count from the end here"),
        ([0, 7], r"target\[1\] must be 0 to 2.*; got 7"),
        (torch.tensor([0, -3]), r"target\[1\] must be .*; got -3"),
        (np.int64(3), "got .*3"),
        (2**70, "must be 0 to 2, for"),
        ([0], "target must have one entry a sample, 2, or be an int for all of them; got 1"),
        ([], "target must have one entry a sample, 2.*; got 0"),
        (torch.tensor([0, 1, 2]), "target must have one entry a sample, 2.*; got 3"),
        (np.array([0, 1, 2]), "target must have one entry a sample, 2.*; got 3"),
        (
            torch.zeros(2, 1, dtype=torch.int64),
            r"must have one dimension, an index a sample; got a tensor of int64 \[2, 1\]",
        ),
        (np.zeros((2, 3), dtype=int), r"must have one dimension.*; got a NumPy array of int64 \[2, 3\]"),
        (
            (0, 1),
            r"target must have 1 index.* of the output \[2, 3\] .*; got \(0, 1\). Give an int, or a list of ints",
        ),
        ((), r"target must have 1 index.*; got \(\)"),
        ([(0,), (1, 2)], r"target\[1\] must have 1 index.*; got \(1, 2\)"),
        ("predict", "target must be an int.*; got 'predict'. Did you mean 'predicted'.$"),
        ("positive", "target must be an int.*\"predicted\" or None; got 'positive'$"),
        (
            None,
            r"target must select one of the 3 values a sample of the output float32 \[2, 3\]; got None. Give target=0 "
            r'to 2.*target="predicted"',
        ),
    ],
    ids=str,
)
def test_targets_that_do_not_fit_two_dimensions_are_refused(target, message):
    with pytest.raises(ValueError, match=message):
        resolve_target(target, torch.zeros(2, 3))


@pytest.mark.parametrize(
    ("target", "hint"),
    [
        ("Dog", r"got 'Dog'. The class 'dog' is target=1$"),
        ("bird", r"got 'bird'. The class 'bird' is target=2$"),
        ("predict", r"got 'predict'. Did you mean 'predicted'.$"),
        ("house", "got 'house'$"),
    ],
)
def test_the_name_of_a_class_as_target_is_answered_by_its_index(target, hint):
    with pytest.raises(ValueError, match=hint):
        resolve_target(target, torch.zeros(2, 3), class_names=["cat", "dog", "bird"])


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            1,
            r"target must have 2 indices, one for each dimension of the output \[2, 4, 3\] behind the batch; got 1. "
            r"Give a tuple such as \(0, 0\), or a list",
        ),
        ([0, 1], r"target\[0\] must have 2 indices.*; got 0"),
        (torch.tensor([0, 1]), r"target\[0\] must have 2 indices.*; got 0"),
        ((0, 1, 2), r"2 indices.*; got \(0, 1, 2\)"),
        ([(0, 1)], "target must have one entry a sample, 2, or be a tuple for all of them; got 1"),
        ([(0, 1), (0, 3)], r"target\[1\] must be 0 to 2 in place 1, for the output \[2, 4, 3\]; got \(0, 3\)"),
        ((4, 0), r"target must be 0 to 3 in place 0, for the output \[2, 4, 3\]; got \(4, 0\)"),
        ((-1, 0), r"got \(-1, 0\). Negative indices"),
        ("predicted", r'must be indices for an output with positions, float32 \[2, 4, 3\]; got "predicted". Give'),
        (
            None,
            r"one of the 12 values a sample of the output float32 \[2, 4, 3\]; got None. Give target=\(0, 0\), an "
            "index for each dimension",
        ),
    ],
    ids=str,
)
def test_targets_that_do_not_fit_further_dimensions_are_refused(target, message):
    with pytest.raises(ValueError, match=message):
        resolve_target(target, torch.zeros(2, 4, 3))


@pytest.mark.parametrize("output", [torch.zeros(2), torch.zeros(2, 1)], ids=["[B]", "[B, 1]"])
def test_class_1_of_one_column_is_answered_with_the_binary_score(output):
    with pytest.raises(ValueError, match=r'must be 0, for .*; got 1. If .* score="binary_log_odds"'):
        resolve_target(1, output)
    with pytest.raises(ValueError, match=r"must be 0 to 1, for .*; got 2$"):
        resolve_target(2, output, binary=True)


@pytest.mark.parametrize("output", [torch.tensor(1.0), torch.zeros(0, 3), torch.zeros(2, 0)])
def test_an_output_without_values_is_refused(output):
    with pytest.raises(ValueError, match=r"must be a tensor \[B, ...\] with at least one value; got float32"):
        resolve_target(0, output)


def test_an_output_that_is_no_tensor_is_refused():
    with pytest.raises(TypeError, match=r"output must be a tensor \[B, ...\]; got a dict"):
        resolve_target(0, {"logits": torch.zeros(2, 3)})


@pytest.mark.parametrize("output", [torch.zeros(2, 3), torch.zeros(4, 5), torch.zeros(4), torch.tensor(1.0)])
def test_masked_copies_must_come_back_in_the_samples_shape(output):
    target = resolve_target(0, torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"forward of 4 masked copies must return .*\[3\] that.*; got float32"):
        target.select(output, torch.tensor([0, 0, 1, 1]))
