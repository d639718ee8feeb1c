"""Outputs as models return them: with positions, of labels, of any shape that Captum takes."""

import pytest
import torch
import transformers
from forwards import assert_tables, naive_table, plain
from tiny_models import BERT, made
from torch import nn

HALVES = torch.tensor([[0, 0, 1, 1]] * 4)


@pytest.fixture(autouse=True)
def _same_numbers():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def odds(z, k):
    """The log-odds of class k, through the probability."""
    p = z.double().softmax(-1)[k]
    return float((p / (1 - p)).log())


def table_of(value, x, players, baseline=0.0):
    with torch.no_grad():
        absent = torch.full_like(x, baseline)
        return naive_table(value, (x,), (absent,), (players.expand(x.shape),), 0)


# ---------------------------------------------------------------- classes of pixels and frames


def test_pixels_are_scored_over_their_classes():
    net, x = nn.Conv2d(1, 3, 3, padding=1).eval(), torch.randn(1, 1, 4, 4)
    found = plain(net, score="log_odds").attribute(x, target=(1, 2, 3), feature_mask=HALVES)
    assert_tables(found, [table_of(lambda row: odds(net(row)[0, :, 2, 3], 1), x, HALVES)])
    assert found[0].provenance["target"] == [1, 2, 3]
    assert found[0].provenance["explained"] == "class 1 at (2, 3)"


@pytest.mark.parametrize("score", ["log_odds", "log_prob", "prob", "binary_log_odds"])
@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_the_numbers_of_classes_are_no_logits(score, shape):
    x = torch.tensor([[0.0, 3.0, 1.0], [2.0, 0.0, 0.0]])
    message = r'reads logits, and the output int64 \[2.*\] is whole numbers.* give score="logit"'
    with pytest.raises(ValueError, match=message):
        plain(lambda x: x.argmax(1).view(shape), score=score).attribute(x)
    found = plain(lambda x: x.argmax(1).view(shape)).attribute(x)
    assert [float(one.v_full) for one in found] == [1.0, 0.0]


@pytest.mark.parametrize(("logit", "holds"), [(0.5, True), (-0.5, False)])
def test_labels_are_predicted_where_they_are_more_likely_than_not(logit, holds):
    settings = BERT | {"problem_type": "multi_label_classification", "num_labels": 3}
    model = made(transformers.BertForSequenceClassification, transformers.BertConfig, **settings)
    with torch.no_grad():
        model.classifier.bias += logit - model(torch.tensor([[5, 6, 7]])).logits.max()
    (found,) = plain(model, score="log_odds").attribute(torch.tensor([[5, 6, 7]]), 3, target="predicted")
    assert found.about.predicted is holds
    assert found.provenance["target"] == int(model(torch.tensor([[5, 6, 7]])).logits.argmax())
