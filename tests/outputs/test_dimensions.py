"""The dimension of an output that holds the classes."""

import warnings

import pytest
import torch

from captum_lkn.outputs.dimensions import check_class_dim, find_class_dim
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
        ((2, 5, 7), IDS, 1),
        ((2, 5, 7), SIGNAL, 1),
        ((2, 7, 5), SIGNAL, 2),
        ((2, 5, 8, 9), IMAGES, 1),
        ((2, 8, 9, 5), IMAGES, 3),
        ((2, 1, 8, 9), IMAGES, 1),
        ((2, 5, 1, 1), IMAGES, 1),
        ((2, 5, 4, 8, 9), torch.zeros(2, 3, 4, 8, 9), 1),
    ],
)
def test_positions_of_the_inputs_tell_where_the_classes_are(shape, x, dim):
    assert found(shape, x) == dim


@pytest.mark.parametrize(("shape", "dim"), [((2, 5, 4, 6), 1), ((2, 4, 6, 5), 3), ((2, 4, 5), 2), ((2, 5, 4), 1)])
def test_a_number_of_classes_tells_where_the_classes_are(shape, dim):
    assert found(shape, IMAGES, counts=(5, 50000)) == dim


@pytest.mark.parametrize("score", [log_odds, margin, resolve_score(lambda z, y: z[:, 0])], ids=lambda s: s.name)
@pytest.mark.parametrize("shape", [(2, 7, 7), (2, 5, 4), (2, 16, 16)])
def test_three_dimensions_that_may_be_read_either_way_are_refused(score, shape):
    with pytest.raises(ValueError, match=r"may be \[B, classes, positions\] or .*SelectOutput\(model, class_dim=1\)"):
        found(shape, IDS, score)


@pytest.mark.parametrize("score", [logit, binary_log_odds, log_odds.for_outputs("labels")], ids=lambda s: s.name)
@pytest.mark.parametrize("shape", [(2, 7, 7), (2, 5, 4), (2, 5, 4, 6)])
def test_a_score_of_one_column_needs_no_dimension(score, shape):
    assert found(shape, IDS, score) in (1, len(shape) - 1)


def test_images_of_another_size_have_their_classes_second_and_a_warning_tells_it():
    with pytest.warns(UserWarning, match=r"takes the second dimension of the output float32 \[2, 5, 4, 4\].*5 classes"):
        assert find_class_dim(torch.zeros(2, 5, 4, 4), [IMAGES], log_odds) == 1


def test_tokens_of_embeddings_may_as_well_be_channels_and_a_warning_tells_it():
    with pytest.warns(UserWarning, match=r"takes the last dimension of the output float32 \[2, 7, 5\].*5 classes"):
        assert find_class_dim(torch.zeros(2, 7, 5), [EMBEDDINGS], log_odds) == 2


@pytest.mark.parametrize(("given", "dim"), [(1, 1), (3, 3), (-1, 3), (-3, 1)])
def test_a_given_dimension_counts_from_either_end(given, dim):
    assert check_class_dim(given, torch.zeros(2, 3, 4, 5)) == dim


@pytest.mark.parametrize(("given", "shape"), [(4, (2, 3, 4, 5)), (-4, (2, 3, 4, 5)), (2, (2, 3)), (-2, (2, 3))])
def test_a_given_dimension_that_the_output_does_not_have(given, shape):
    with pytest.raises(ValueError, match=rf"class_dim must be a dimension behind the batch .*; got {given}$"):
        check_class_dim(given, torch.zeros(shape))


def test_an_output_without_columns_has_one():
    assert check_class_dim(1, torch.zeros(2)) == check_class_dim(-1, torch.zeros(2, 3)) == 1
