"""Conformance checks for users' models, scores and players."""

import pytest
import torch
import transformers
from forwards import normal
from tiny_models import made
from torch import nn
from transformers import BertConfig, BertForSequenceClassification, BertForTokenClassification

from captum_lkn import Layer, Players, SelectOutput, check_model, check_players, check_score, players_from_mask
from captum_lkn.outputs.score import Score
from captum_lkn.outputs.scores import SCORES
from captum_lkn.outputs.targets import Target

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
    assert [check.holds for check in checks] == [True] * 8
    assert capsys.readouterr().out.count("ok ") == 8
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
        "layers are read where the head reads",  # padding as well
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


@pytest.mark.parametrize("change", ["requires_grad", "config", "random state"])
def test_what_a_call_must_leave_as_it_was(change):
    class Changing(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight, self.config = nn.Parameter(torch.ones(4)), {"calls": 0}

        def forward(self, x):
            if change == "requires_grad":
                self.weight.requires_grad_(False)
            elif change == "config":
                self.config["calls"] += 1
            else:
                torch.manual_seed(torch.initial_seed() + 1)
            return x @ self.weight

    with torch.random.fork_rng(devices=[]):
        checks = check_model(Changing().eval(), X, target=None, score="logit", verbose=False)
    # A session restores the random state itself.
    assert failing(checks) == ["the model is left as it was"] * (change != "random state")


def test_an_error_is_told_once():
    checks = check_model(lambda x: x, X, target=7, verbose=False)
    assert len(failing(checks)) == 1
    assert "target must be 0 to 3" in checks[0].detail
    assert [check.detail for check in checks[1:5]] == ["the same error"] * 4


def test_probabilities_given_to_a_score_of_logits():
    checks = check_model(lambda x: x.softmax(1), X, verbose=False)
    assert any("probabilities" in check.detail for check in checks)


READING, PLACE = "layers are read where the head reads", "the score reads the target's place in the output"
TEXT = {"input_ids": IDS, "attention_mask": (IDS != 0).long()}


def check_named(name, *args, **settings):
    """One of the checks of a model."""
    checks = check_model(*args, **settings, verbose=False)
    return next(check for check in checks if check.name == name)


class Encoder(nn.Module):
    """Two blocks over tokens, and a head that reads them in one of several ways."""

    def __init__(self, head):
        super().__init__()
        self.table = nn.Embedding(20, 8)
        block = nn.TransformerEncoderLayer(8, 2, 8, batch_first=True)
        self.encoder = nn.TransformerEncoder(block, 2, enable_nested_tensor=False)
        self.head, self.top = head, nn.Linear(8, 3)

    def forward(self, ids, keep):
        h = self.encoder(self.table(ids), src_key_padding_mask=~keep)
        return self.top(self.head(h, keep))


HEADS = {
    "first": lambda h, keep: h[:, 0],
    "last": lambda h, keep: h[torch.arange(len(h)), keep.sum(1) - 1],
    "mean": lambda h, keep: (h * keep[..., None]).sum(1) / keep.sum(1, keepdim=True),
    "all but the first": lambda h, keep: (h[:, 1:] * keep[:, 1:, None]).sum(1) / (keep.sum(1, keepdim=True) - 1),
}


@pytest.fixture(scope="module", params=HEADS)
def encoder(request):
    torch.manual_seed(0)
    return request.param, Encoder(HEADS[request.param]).eval()


def reading(model, **settings):
    keep = IDS != 0
    return check_named(READING, model, IDS, baselines=1, target=1, additional_forward_args=keep, **settings)


def test_layers_are_read_where_the_head_reads(encoder, monkeypatch):
    name, model = encoder
    assert reading(model).holds
    for pool in ("cls", "last", "mean"):
        own = {"first": "cls"}.get(name, name)
        found = reading(model, layer=Layer("encoder.layers.1", pool=pool))
        assert found.holds is (pool == own)
        assert found.holds or f"pool={pool!r} takes token" in found.detail
    # A fault in the library is found as well.
    monkeypatch.setattr("captum_lkn.models.head_reading.HeadReading.of", lambda *_: ("very last",))
    assert reading(model).holds is False


def test_a_layer_behind_which_tokens_are_mixed(encoder):
    name, model = encoder  # all real tokens of the first block reach the head
    assert reading(model, layer="encoder.layers.0").holds is (name == "mean")


@pytest.mark.filterwarnings("ignore:the forward does not tell what the head")
def test_a_layer_that_counts_for_nothing():
    found = reading(Idle().eval())
    assert found.holds is None
    assert "'blocks.0' has no influence on the output" in found.detail


class Idle(nn.Module):
    """A block whose tokens are not used."""

    def __init__(self):
        super().__init__()
        self.table, self.top = nn.Embedding(20, 8), nn.Linear(8, 3)
        self.blocks = nn.ModuleList([nn.Linear(8, 8)])

    def forward(self, ids, keep):
        h = self.table(ids)
        self.blocks[0](h)
        return self.top(h[:, 0])


@pytest.mark.parametrize(
    ("head", "family", "target"),
    [
        ("ForTokenClassification", "Bert", (1, 2)),
        ("ForMaskedLM", "Bert", (2, 11)),
        ("LMHeadModel", "GPT2", (2, 11)),
        ("ForSequenceClassification", "GPT2", 1),
        ("ForSequenceClassification", "Bart", 1),
    ],
)
def test_the_checks_hold_for_other_heads(head, family, target):
    sizes = SIZES | {"initializer_range": 0.3, "num_labels": 3, "pad_token_id": 0, "eos_token_id": 2, "bos_token_id": 1}
    if family == "GPT2":
        sizes |= {"n_embd": 16, "n_layer": 2, "n_head": 2}
    if family == "Bart":
        sizes |= {"d_model": 16, "decoder_ffn_dim": 8, "encoder_ffn_dim": 8, "encoder_layers": 1, "decoder_layers": 1}
        sizes |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "init_std": 0.3}
        for name in ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"):
            sizes.pop(name)
    ids = torch.tensor([[3, 4, 5, 6, 2], [8, 9, 2, 0, 0]])
    model = made(getattr(transformers, family + head), getattr(transformers, f"{family}Config"), **sizes)
    example = {"input_ids": ids, "attention_mask": (ids != 0).long()}
    owners = torch.tensor([[0, 1, 2, 3, -1], [0, 1, -1, -1, -1]])
    checks = check_model(model, example, baselines=7, target=target, feature_mask=owners, verbose=False)
    assert [str(check) for check in checks if not check.holds] == []


@pytest.mark.parametrize("family", ["GPT2", "Bert"])
def test_a_position_moves_with_padding_on_the_left(family):
    sizes = SIZES | {"n_embd": 16, "n_layer": 2, "n_head": 2} if family == "GPT2" else SIZES
    head, target = ("LMHeadModel", (4, 11)) if family == "GPT2" else ("ForMaskedLM", (3, 7))
    model = made(
        getattr(transformers, family + head),
        getattr(transformers, f"{family}Config"),
        **sizes | {"initializer_range": 0.3, "pad_token_id": 0, "eos_token_id": 2, "bos_token_id": 1},
    )
    ids = IDS.flip(1)
    example = {"input_ids": ids, "attention_mask": (ids != 0).long()}
    owners = torch.tensor([[0, 1, 2, 3, 4], [-1, -1, 0, 1, 2]])
    padding = "padding of the batch does not change a sample"
    assert check_named(padding, model, example, baselines=5, target=target, feature_mask=owners).holds


def test_a_head_that_reads_all_tokens_as_classes_is_pointed_out():
    reader = made(transformers.BertForQuestionAnswering, BertConfig, **SIZES, num_labels=2, initializer_range=0.3)
    with pytest.warns(UserWarning, match="the forward does not tell what the head"):
        checks = check_model(reader, TEXT, baselines=1, target=(0, 1), verbose=False)
    (found,) = [check for check in checks if check.holds is False]
    assert found.name == READING
    assert "of sample 0, the head reads tokens 0, 1, 2" in found.detail


def test_the_place_of_the_target_is_checked(monkeypatch):
    torch.manual_seed(0)
    tagger = BertForTokenClassification(BertConfig(**SIZES, num_labels=3)).eval()
    settings = {"baselines": 1, "target": (1, 2)}
    assert check_named(PLACE, tagger, TEXT, **settings).holds
    with monkeypatch.context() as patched:
        patched.setattr("captum_lkn.models.model.Model.class_dim", lambda *_: 1)
        found = check_named(PLACE, tagger, TEXT, **settings)
    assert found.holds is False
    assert "compares 5 columns, and the model states 3 or 60" in found.detail
    with monkeypatch.context() as patched:
        select = Target.select
        patched.setattr(Target, "select", lambda self, output, samples: select(self, output.flip(1), samples))
        found = check_named(PLACE, tagger, TEXT, **settings)
    assert found.holds is False
    assert "the values differ" in found.detail


@pytest.mark.filterwarnings("ignore:.*compares classes")
def test_a_dimension_of_classes_that_is_guessed_is_pointed_out():
    conv = nn.Conv1d(2, 3, 3, padding=1).eval()
    found = check_named(PLACE, conv, normal(2, 2, 6), target=(1, 4))
    assert found.holds is False
    assert "compares classes, and takes the second dimension" in found.detail
    assert check_named(PLACE, SelectOutput(conv, class_dim=1), normal(2, 2, 6), target=(1, 4)).holds


@pytest.mark.parametrize("score", sorted(SCORES))
def test_the_named_scores_hold(score):
    checks = check_score(score, verbose=False)
    assert not failing(checks)
    assert checks[0].holds
    if score != "binary_log_odds":
        assert not failing(check_score(score, 5, verbose=False))


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
