"""Conformance checks for users' models, scores and players."""

import pytest
import torch
from forwards import normal
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from captum_lkn import Players, check_model, check_players, check_score, players_from_mask
from captum_lkn.outputs.score import Score
from captum_lkn.outputs.scores import SCORES

X = normal(3, 4)
IDS = torch.tensor([[3, 4, 5, 6, 7], [8, 9, 3, 0, 0]])
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24, "vocab_size": 60}


def failing(checks):
    return [check.name for check in checks if check.holds is False]


def bert(**config):
    torch.manual_seed(0)
    return BertForSequenceClassification(BertConfig(**SIZES, **config)).eval()


def test_a_sound_model_of_text_holds_in_all(capsys):
    example = {"input_ids": IDS, "attention_mask": (IDS != 0).long()}
    checks = check_model(bert(), example, baselines=1)
    assert [check.holds for check in checks] == [True] * 6
    assert capsys.readouterr().out.count("ok ") == 6
    assert check_model(bert(), example, baselines=1, verbose=False) == checks
    assert not capsys.readouterr().out


def test_a_text_model_that_counts_padding():
    inner = bert()

    class Mean(nn.Module):
        config, main_input_name = inner.config, "input_ids"

        def __init__(self):
            super().__init__()
            self.inner = inner

        def forward(self, input_ids, attention_mask=None):
            hidden = self.inner.bert(input_ids, attention_mask).last_hidden_state.mean(1)
            return self.inner.classifier(hidden)

    example = {"input_ids": IDS, "attention_mask": (IDS != 0).long()}
    checks = check_model(Mean().eval(), example, baselines=1, verbose=False)
    assert failing(checks) == [
        "masked copies give the same values together and alone, and finite ones",
        "padding of the batch does not change a sample",
    ]
    assert "with 2 tokens of padding" in next(check.detail for check in checks if check.holds is False)


@pytest.mark.parametrize(
    ("forward", "name"),
    [
        (lambda x: x.sum(1) + torch.rand(len(x)), "the same inputs give the same values again"),
        (lambda x: (x - x.mean(0)).square().sum(1), "a sample has the same values without the others"),
        (lambda x: x.sum(), "the unmasked forward gives one row a sample, and the target fits"),
        (lambda x: x.abs().log().sum(1), "masked copies give the same values together and alone, and finite ones"),
    ],
    ids=["random", "batch statistics", "one value", "not finite"],
)
def test_what_does_not_hold_is_named(forward, name):
    checks = check_model(forward, X, target=None, score="logit", verbose=False)
    assert name in failing(checks)
    assert all(check.detail for check in checks if check.holds is False)


def test_a_model_that_changes_itself():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x):
            self.calls += 1
            return x.sum(1)

    checks = check_model(Counting().eval(), X, target=None, score="logit", verbose=False)
    assert failing(checks) == ["the model is left as it was"]


def test_probabilities_given_to_a_score_of_logits():
    checks = check_model(lambda x: x.softmax(1), X, verbose=False)
    assert any("probabilities" in check.detail for check in checks)


@pytest.mark.parametrize("score", sorted(SCORES))
def test_the_named_scores_hold(score):
    columns = 1 if score == "binary_log_odds" else 3
    assert not failing(check_score(score, columns, verbose=False))


@pytest.mark.parametrize(
    ("score", "name"),
    [
        (lambda z, y: z[:, 0] - z[:, 0].mean(), "a row has the same score without the others"),
        (lambda z, y: z, "one real number a row"),
        (lambda z, y: z[:, 0].add_(1), "outputs and targets are not written to"),
        (lambda z, y: z.exp().sum(1), "large outputs have finite scores"),
        (lambda z, y: torch.rand(len(z)), "the same rows give the same scores again"),
        (Score("first", lambda z, y: z[:, 0], "classes"), "one column is scored by its value"),
        (Score("third", lambda z, y: z[:, 2] - z[:, 0], "classes"), "one column is scored by its value"),
        (Score("own", lambda z, y: z.gather(1, y[:, None])[:, 0], "classes"), "the same shift of all logits changes"),
    ],
    ids=["mean", "shape", "in place", "overflow", "random", "not of labels", "of three", "no classes"],
)
def test_scores_that_do_not_hold(score, name):
    assert any(found.startswith(name) for found in failing(check_score(score, verbose=False)))


def test_a_softmax_of_the_only_column_is_pointed_out():
    def of_row(z, y):
        return z.log_softmax(1).gather(1, y[:, None])[:, 0]

    one = {check.name: check for check in check_score(of_row, verbose=False)}["one column is scored by its value"]
    assert one.holds is None
    assert "any output [B, 1] scores 0" in one.detail
    assert not failing(check_score(Score("of classes", of_row, "classes"), verbose=False))


def test_players_that_hold_and_that_do_not():
    mask = torch.tensor([[0, 1, 1, -1], [0, 0, 2, 1], [-1, 0, 1, 1]])
    assert not failing(check_players(players_from_mask(X, normal(3, 4, seed=1), mask), verbose=False))
    idle = Players((X,), (0 * X,), (torch.zeros(3, 4).long(),), (("a", "b"), ("a", "a"), ("a",)))
    assert failing(check_players(idle, verbose=False)) == [
        "each player owns a part of the inputs",
        "labels tell the players of a sample apart",
    ]

    class Leaking(Players):
        def masked_rows(self, samples, masks, baselines=None):
            return tuple(x + (~masks).any(1)[:, None] for x in super().masked_rows(samples, masks, baselines))

    leaking = Leaking((X,), (0 * X,), (torch.arange(4).expand(3, 4),), (tuple("abcd"),) * 3)
    assert "a player alone changes its own part" in failing(check_players(leaking, verbose=False))
