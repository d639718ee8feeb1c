"""The dimension of an output that holds the classes."""

import warnings

import pytest
import torch

from captum_lkn.outputs.dimensions import check_class_dim, find_class_dim, is_map
from captum_lkn.outputs.scores import binary_log_odds, log_odds, logit, margin, resolve_score

IDS = torch.zeros(2, 7, dtype=torch.int64)
EMBEDDINGS = torch.zeros(2, 7, 16)
SIGNAL = torch.zeros(2, 3, 7)
IMAGES = torch.zeros(2, 3, 8, 9)


def found(shape, x, score=log_odds, counts=()):
    """Return the dimension, where it is sure."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return find_class_dim(torch.zeros(shape), [x], score, counts)


@pytest.mark.parametrize(
    ("shape", "x", "dim"),
    [
        ((2,), IDS, 1),
        ((2, 5), IDS, 1),
        ((2, 7, 5), IDS, 2),
        ((2, 5, 8, 9), IMAGES, 1),
        ((2, 8, 9, 5), IMAGES, 3),
        ((2, 1, 8, 9), IMAGES, 1),
        ((2, 5, 1, 1), IMAGES, 1),
        ((2, 5, 4, 8, 9), torch.zeros(2, 3, 4, 8, 9), 1),
    ],
)
def test_positions_of_the_inputs_tell_where_the_classes_are(shape, x, dim):
    assert found(shape, x) == dim


@pytest.mark.parametrize(
    ("shape", "dim"),
    [((2, 5, 4, 6), 1), ((2, 4, 6, 5), 3), ((2, 4, 5), 2), ((2, 5, 4), 1), ((2, 8, 5), 2), ((2, 2, 5), 2)],
)
def test_a_number_of_classes_tells_where_the_classes_are(shape, dim):
    assert found(shape, IMAGES, counts=(5, 2, 50000)) == dim


@pytest.mark.parametrize("score", [log_odds, margin, resolve_score(lambda z, y: z[:, 0])], ids=lambda s: s.name)
@pytest.mark.parametrize(
    ("shape", "x"),
    [
        *(((2, *shape), IDS) for shape in [(7, 7), (5, 4), (16, 16), (5, 7), (2, 7)]),
        ((2, 3, 4), torch.zeros(2, 4)),  # tasks, and as many classes as the table has columns
        ((2, 4, 3), torch.zeros(2, 4)),
        ((2, 3, 4), torch.zeros(2, 4, dtype=torch.int64)),
        ((2, 5, 9), IMAGES),  # the width alone is not the positions of an image
        ((2, 8, 5), IMAGES),
        ((2, 7, 7), SIGNAL),
    ],
)
def test_three_dimensions_that_may_be_read_either_way_are_refused(score, shape, x):
    said = r"may be \[B, classes, positions\] or .*SelectOutput\(model, class_dim=1\).*score=\"logit\"$"
    with pytest.raises(ValueError, match=said):
        found(shape, x, score)


def test_two_rows_before_positions_may_be_start_and_end_whatever_number_of_classes_a_model_states():
    with pytest.raises(ValueError, match=r"may be \[B, classes, positions\]"):
        found((2, 2, 7), IDS, counts=(2, 50000))


@pytest.mark.parametrize("score", [log_odds, margin], ids=lambda s: s.name)
@pytest.mark.parametrize(
    ("shape", "x"),
    [
        ((2, 8, 9), IMAGES),
        ((2, 8, 8), torch.zeros(2, 3, 8, 8)),
        ((2, 8, 9), torch.zeros(2, 8, 9, 3)),
        ((2, 4, 8, 9), torch.zeros(2, 1, 4, 8, 9)),
    ],
)
def test_a_map_has_no_classes(score, shape, x):
    assert is_map(torch.zeros(shape), [x])
    said = r'the height and width of the image, and no dimension of classes.*score="logit".*class_dim=1\)'
    with pytest.raises(ValueError, match=said):
        found(shape, x, score)
    assert found(shape, x, logit) in (1, len(shape) - 1)


@pytest.mark.parametrize("shape", [(2, 3, 8, 9), (2, 1, 8, 9), (2, 9, 8), (2, 8), (2, 8, 9, 3)])
def test_classes_of_pixels_are_not_a_map(shape):
    assert not is_map(torch.zeros(shape), [IMAGES])


@pytest.mark.parametrize("score", [logit, binary_log_odds, log_odds.for_outputs("labels")], ids=lambda s: s.name)
@pytest.mark.parametrize("shape", [(2, 7, 7), (2, 5, 4), (2, 5, 4, 6)])
def test_a_score_of_one_column_needs_no_dimension(score, shape):
    assert found(shape, IDS, score) in (1, len(shape) - 1)


def test_images_of_another_size_have_their_classes_second_and_a_warning_tells_it():
    with pytest.warns(UserWarning, match=r"takes the second dimension of the output float32 \[2, 5, 4, 4\].*5 classes"):
        assert find_class_dim(torch.zeros(2, 5, 4, 4), [IMAGES], log_odds) == 1


@pytest.mark.parametrize(
    ("shape", "x", "which"),
    [
        ((2, 7, 5), EMBEDDINGS, "last"),
        ((2, 5, 7), EMBEDDINGS, "second"),
        ((2, 5, 7), SIGNAL, "second"),
        ((2, 7, 5), SIGNAL, "last"),
    ],
)
def test_tokens_of_embeddings_may_as_well_be_channels_and_a_warning_tells_it(shape, x, which):
    said = rf'takes the {which} dimension of the output float32 \[2, ., .\] for them, 5 classes.*score="logit"'
    with pytest.warns(UserWarning, match=said):
        assert find_class_dim(torch.zeros(shape), [x], log_odds) == (1 if which == "second" else 2)


@pytest.mark.parametrize(("given", "dim"), [(1, 1), (3, 3), (-1, 3), (-3, 1)])
def test_a_given_dimension_counts_from_either_end(given, dim):
    assert check_class_dim(given, torch.zeros(2, 3, 4, 5)) == dim


@pytest.mark.parametrize(("given", "shape"), [(4, (2, 3, 4, 5)), (-4, (2, 3, 4, 5)), (2, (2, 3)), (-2, (2, 3))])
def test_a_given_dimension_that_the_output_does_not_have(given, shape):
    with pytest.raises(ValueError, match=rf"class_dim must be a dimension behind the batch .*; got {given}$"):
        check_class_dim(given, torch.zeros(shape))


def test_an_output_without_columns_has_one():
    assert check_class_dim(1, torch.zeros(2)) == check_class_dim(-1, torch.zeros(2, 3)) == 1
