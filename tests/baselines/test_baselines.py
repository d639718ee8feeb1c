import json
import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
import torch
from forwards import Recording, assert_tables, naive_table, normal, plain
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import BERT
from transformers import (
    AlbertConfig,
    AlbertForSequenceClassification,
    BartConfig,
    BartForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    DebertaConfig,
    DebertaForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
    MPNetConfig,
    MPNetForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
    XLNetConfig,
    XLNetForSequenceClassification,
)

from captum_lkn import (
    AndOrInteraction,
    DecompositionOptions,
    Interactions,
    InteractionsBatch,
    Layer,
    decompose,
    players_from_mask,
    table_players,
)
from captum_lkn.baselines import (
    LearnedBaseline,
    average_baselines,
    compare_baselines,
    learn_baseline,
    mean_embedding,
    players_as_embeddings,
)
from captum_lkn.decomposition import Effects

DISTIL = {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 16, "max_position_embeddings": 32}
GPT2 = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32}
XLNET = {"d_model": 16, "n_layer": 2, "n_head": 2, "d_inner": 16}
SMALL = {"vocab_size": 50, "num_labels": 3, "initializer_range": 0.5}
FAMILIES = {
    "bert": (BertForSequenceClassification, BertConfig, BERT),
    "distilbert": (DistilBertForSequenceClassification, DistilBertConfig, SMALL | DISTIL),
    "roberta": (RobertaForSequenceClassification, RobertaConfig, BERT | {"pad_token_id": 1}),
    "mpnet": (MPNetForSequenceClassification, MPNetConfig, BERT | {"pad_token_id": 1}),
    "electra": (ElectraForSequenceClassification, ElectraConfig, BERT | {"embedding_size": 8}),
    "albert": (AlbertForSequenceClassification, AlbertConfig, BERT | {"embedding_size": 8}),
    "deberta": (DebertaForSequenceClassification, DebertaConfig, BERT),
    "xlnet": (XLNetForSequenceClassification, XLNetConfig, SMALL | XLNET | {"pad_token_id": 0}),
    "gpt2": (GPT2ForSequenceClassification, GPT2Config, SMALL | GPT2 | {"pad_token_id": 0}),
    "llama": (LlamaForSequenceClassification, LlamaConfig, BERT | {"pad_token_id": 0}),
}
LAST_TOKEN = ("gpt2", "llama")
IDS = torch.tensor([[7, 12, 30, 41, 2], [9, 8, 44, 2, 0]])
MASK = torch.tensor([[0, 1, 2, 2, -1]])


def made(name="bert"):
    model_class, config_class, config = FAMILIES[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return model_class(config_class(**config)).eval()


def words(pad=0, side="right"):
    """Three words in each of two texts, of which the second is padded."""
    ids, mask = IDS.clone(), MASK.expand(2, 5).clone()
    if side == "left":
        ids[1], mask[1] = ids[1].roll(1), mask[1].roll(1)
    ids[ids == 0] = pad
    return players_from_mask({"input_ids": ids, "attention_mask": (ids != pad).long()}, 3, mask)


@pytest.fixture
def bert():
    return made()


def test_embeddings_of_a_decoder_without_a_padding_token():
    model = made("gpt2")
    model.config.pad_token_id = None
    players = players_from_mask({"input_ids": torch.tensor([[7, 12, 30], [9, 8, 44]])}, 3)
    embedded = players_as_embeddings(model, players, 3)
    expected = plain(model).attribute(players, target=1)
    assert_tables(plain(model).attribute(embedded, target=1), [one.values for one in expected])
    assert model.config.pad_token_id is None


def test_words_that_are_removed_have_no_embedding(bert):
    players = words()
    mask = players.constants["attention_mask"]
    removed = replace(
        players, inputs=(mask,), baselines=(0 * mask,), names=("attention_mask",), constants={"input_ids": IDS}
    )
    with pytest.raises(TypeError, match=r"removed by the attention_mask.*without removal=True"):
        players_as_embeddings(bert, removed)


# ---------------------------------------------------------------- embeddings


READ_AT_PADDING = {
    *((name, "left") for name in ("bert", "distilbert", "roberta", "mpnet", "electra", "albert", "deberta")),
    ("xlnet", "right"),
}


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("name", FAMILIES)
def test_the_embedding_of_a_token_does_what_the_token_does(name, side):
    model = made(name)
    players = words(model.config.pad_token_id or 0, side)
    if (name, side) in READ_AT_PADDING:
        with pytest.raises(ValueError, match="position of a text, which is padding here"):
            plain(model).attribute(players, target=1)
        return
    if name in LAST_TOKEN and side == "right":
        with pytest.raises(
            ValueError,
            match=r"for the embeddings of the tokens differ from those for their ids.*one text at a time, pad on the",
        ):
            players_as_embeddings(model, players, 3)
        players = players_from_mask({"input_ids": IDS[:1]}, 3, MASK)
    embedded = players_as_embeddings(model, players, 3)
    found = plain(model).attribute(embedded, target=1)
    expected = plain(model).attribute(players, target=1)
    assert min(one.values.std() for one in expected) > 1e-3
    assert_tables(found, [one.values for one in expected])
    assert found[0].players == expected[0].players
    assert found[0].provenance["baseline"] == "embedding of token 3"
    if name in ("roberta", "mpnet"):  # padding on the right does not move their positions
        assert "position_ids" not in embedded.constants


def test_a_model_that_cannot_take_embeddings():
    config = {"encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "d_model": 16, "pad_token_id": 1, "eos_token_id": 2}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_layers": 1, "decoder_layers": 1}
    bart = BartForSequenceClassification(BartConfig(vocab_size=50, **config, **heads)).eval()
    players = players_from_mask({"input_ids": IDS[:1]}, 3, MASK)
    with pytest.raises(ValueError, match="BartForSequenceClassification cannot be called with inputs_embeds: Passing"):
        players_as_embeddings(bart, players)


@pytest.mark.parametrize("form", ["mean", "vector", "positions"])
def test_absent_tokens_get_the_vector(bert, form):
    vectors = bert.get_input_embeddings().weight.detach()
    baseline = {"mean": "mean", "vector": normal(16), "positions": normal(5, 16)}[form]
    absent = vectors.mean(0) if form == "mean" else baseline
    players = players_as_embeddings(bert, words(), baseline)
    x, attention = vectors[IDS], (IDS != 0).long()
    tables = [
        naive_table(
            lambda row, b=b: bert(inputs_embeds=row, attention_mask=attention[b : b + 1]).logits[0, 2].detach(),
            (x,),
            (absent.expand(2, 5, 16),),
            (MASK[..., None].expand(2, 5, 16),),
            b,
        )
        for b in range(2)
    ]
    found = plain(bert).attribute(players, target=2)
    assert_tables(found, tables)
    assert found.attributions().shape == (2, 5, 16)
    assert players.owners[0].stride()[-1] == 0  # one owner for all numbers of an embedding, without a copy


def test_embeddings_of_positional_ids_and_of_a_module_that_is_not_hugging_face(bert):
    attention = (IDS != 0).long()
    positional = players_as_embeddings(bert, players_from_mask(IDS, 3, MASK), 3)
    found = plain(bert).attribute(positional, target=1, additional_forward_args=attention)
    assert_tables(found, [one.values for one in plain(bert).attribute(words(), target=1)])

    class Bag(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.table = torch.nn.Embedding(50, 4, _weight=normal(50, 4))

        def get_input_embeddings(self):
            return self.table

        def forward(self, input_ids=None, inputs_embeds=None, scale=None):
            x = self.table(input_ids) if inputs_embeds is None else inputs_embeds
            return x.prod(1).sum(1) * scale

    bag, scale = Bag().eval(), torch.tensor([2.0, 3.0])
    more = {"scale": scale}
    players = players_as_embeddings(bag, players_from_mask(IDS, 3, MASK), 3, additional_forward_args=more)
    assert players.names == ("inputs_embeds",)
    found = plain(bag).attribute(players, additional_forward_args=more)
    expected = plain(bag).attribute(IDS, 3, feature_mask=MASK, additional_forward_args=more)
    assert_tables(found, [one.values for one in expected])


@pytest.mark.parametrize("ids", [[[1.9]], [[True, False]]])
def test_ids_that_are_not_integers_have_no_embedding(bert, ids):
    with pytest.raises(TypeError, match="input_ids must hold integers; got"):
        mean_embedding(bert, {"input_ids": ids})


def test_a_mask_of_another_shape_than_the_ids_is_refused(bert):
    with pytest.raises(ValueError, match=r"attention_mask must have the shape of input_ids, \[2\]; got \[2, 2\]"):
        mean_embedding(bert, {"input_ids": [1, 2], "attention_mask": [[1, 0], [1, 1]]})


def test_the_mean_of_a_data_set_counts_real_tokens_alone(bert):
    vectors = bert.get_input_embeddings().weight.detach()
    first = {"input_ids": [[2, 7, 7, 0]], "attention_mask": [[1, 1, 1, 0]], "special_tokens_mask": [[1, 0, 0, 1]]}
    second = {"input_ids": torch.tensor([[5, 6], [6, 0]]), "attention_mask": torch.tensor([[1, 1], [1, 0]])}
    whole = torch.stack([vectors[i] for i in (7, 7, 5, 6, 6)]).mean(0)
    torch.testing.assert_close(mean_embedding(bert, [first, (second, torch.zeros(2))]), whole)
    torch.testing.assert_close(mean_embedding(bert, (entry for entry in [first, second])), whole)
    torch.testing.assert_close(mean_embedding(bert, {"input_ids": torch.tensor([4, 8])}), vectors[[4, 8]].mean(0))
    assert mean_embedding(bert, first).requires_grad is False


@pytest.mark.parametrize(
    ("baseline", "error", "said"),
    [
        ("median", ValueError, "baseline must be \"mean\", a token id or a tensor.*got 'median'"),
        (50, ValueError, "baseline 50 is not a token id: give one from 0 to 49"),
        (-1, ValueError, "baseline -1 is not a token id"),
        (True, TypeError, "got a bool"),
        (None, TypeError, "got a NoneType"),
        (torch.tensor(3), TypeError, r"got int64 \[\]"),
        (torch.zeros(5), ValueError, r"shape \[5\]: give one vector \[16\], or one a position, \[5, 16\]"),
        (torch.zeros(2, 5, 16), ValueError, r"shape \[2, 5, 16\]"),
        (torch.full((16,), math.nan), ValueError, "holds inf or nan"),
    ],
)
def test_embeddings_that_do_not_fit(bert, baseline, error, said):
    with pytest.raises(error, match=said):
        players_as_embeddings(bert, words(), baseline)


def test_what_has_no_embeddings(bert):
    with pytest.raises(TypeError, match=r"model must have get_input_embeddings\(\).*got a Linear"):
        players_as_embeddings(torch.nn.Linear(2, 2), words())
    with pytest.raises(TypeError, match="players must be Players; got int64"):
        players_as_embeddings(bert, IDS)
    with pytest.raises(TypeError, match=r"of one tensor of token ids \[B, T\]; theirs are of float32 \[1, 2\]"):
        players_as_embeddings(bert, players_from_mask(torch.zeros(1, 2)))
    with pytest.raises(TypeError, match="data must be an encoding or an iterable of encodings; got a str"):
        mean_embedding(bert, "a text")
    with pytest.raises(TypeError, match=r"data holds int64 \[2, 5\]: give mappings with input_ids"):
        mean_embedding(bert, [IDS])
    with pytest.raises(ValueError, match="data has no token"):
        mean_embedding(bert, [])
    with pytest.raises(ValueError, match="token ids from 3 to 50, the model embeds 0 to 49"):
        mean_embedding(bert, {"input_ids": [[3, 50]]})


def test_embeddings_leave_the_model_as_it_was_found(bert):
    before = {name: p.clone() for name, p in bert.named_parameters()}
    bert.train()
    with pytest.warns(UserWarning, match="training mode"):
        players = players_as_embeddings(bert, words())
    assert bert.training
    assert all(torch.equal(before[name], p) and p.grad is None for name, p in bert.named_parameters())
    assert not players.inputs[0].requires_grad
    assert not players.baselines[0].requires_grad


# ---------------------------------------------------------------- averages


def test_the_mean_table_is_decomposed():
    def forward(x):
        return x.prod(1) + torch.maximum(x[:, 0], x[:, 1])

    x = normal(2, 3)
    options = DecompositionOptions(noise=0.1, kind="and", order_weight=0.3)
    method = AndOrInteraction(forward, score="logit", options=options)
    found = [method.attribute(x, baselines=b) for b in (0.0, 1.0, -2.0)]
    mean = average_baselines(found)
    for i, one in enumerate(mean):
        table = (found[0][i].values + found[1][i].values + found[2][i].values) / 3
        torch.testing.assert_close(one.values, table)
        alone = decompose(one.values, options=options)
        assert torch.equal(one.and_effects, alone.and_effects)
        assert not one.or_effects.any()
        assert one.provenance["baseline"] == ["0.0", "1.0", "-2.0"]
        assert one.kappa == pytest.approx(0.1 * abs(one.v_full - one.v_empty))
        assert one.epsilon == 2**-23  # of the forwards, not of the mean
    shapley = sum(batch.attributions() for batch in found) / 3
    torch.testing.assert_close(mean.attributions(), shapley)  # they are linear in the table


def by_hand(*effects):
    """Interactions with these AND effects, of {0}, {1}, {0, 1}, {2} and so on."""
    and_effects, or_effects = torch.zeros(2, 8, dtype=torch.float64)
    and_effects[1 : 1 + len(effects)] = torch.tensor(effects, dtype=torch.float64)
    values = torch.zeros(8, dtype=torch.float64)  # v(N) is the same under all baselines
    effects = Effects.from_tables(and_effects, or_effects)
    return Interactions(("a", "b", "c"), effects, values, kappa=0.0, gap=0.0, refitted=True)


def test_averages_of_things_that_do_not_belong_together():
    x = torch.ones(2, 2)

    def asked(score="logit", inputs=x, **more):
        return AndOrInteraction(lambda x: x, score=score, noise=0).attribute(inputs, **{"target": 1} | more)

    for other, said in [
        (asked(target=0), "sample 0 has the target 1 in the first batch and 0 in another"),
        (asked(score="margin"), "sample 0 has the score logit in the first batch and margin"),
        (asked(inputs=x[:1]), r"the batches must hold the same samples; got \[2, 1\] samples"),
        (asked(player_names=["p", "q"]), "has the players 0, 1 in the first batch and p, q in another"),
        (asked(inputs=10 * x), "score of the unmasked sample 0 is 1 under the first baseline and 10 under another"),
    ]:
        with pytest.raises(ValueError, match=said):
            average_baselines([asked(), other])
    with pytest.raises(ValueError, match="found must hold the interactions under at least one baseline"):
        average_baselines([])
    with pytest.raises(TypeError, match=r"found must be a list of InteractionsBatch.*got a Inter"):
        average_baselines(asked())
    with pytest.raises(TypeError, match=r"found\[1\] must be an InteractionsBatch; got a int"):
        average_baselines([asked(), 3])


# ---------------------------------------------------------------- learning


def test_the_strength_at_the_start_and_at_the_end_against_all_masks():
    def forward(x):
        return (x[:, 0] - 0.5) * (x[:, 1] - 0.5) * (x[:, 2] + 1)

    def strength(baseline):
        total = 0.0
        for sample in range(2):
            v = naive_table(forward, (x,), (baseline.expand(2, 3),), (torch.arange(3).expand(2, 3),), sample)
            for s in range(1, 8):
                sub = [t for t in range(8) if t & s == t]
                total += abs(sum((-1) ** (bin(s).count("1") - bin(t).count("1")) * float(v[t]) for t in sub))
        return total / 2

    x = torch.tensor([[1.0, 2.0, 1.0], [2.0, -1.0, 0.0]])
    players = players_from_mask(x, 0.0)
    found = learn_baseline(forward, players, target=None, score="logit", steps=60)
    assert found.vector.shape == (3,)
    assert found.history[0] == pytest.approx(strength(torch.zeros(1, 3)), rel=1e-5)
    assert found.history[found.best] == pytest.approx(strength(found.vector[None]), rel=1e-5)
    assert found.history[found.best] == min(found.history) < 0.7 * found.history[0]
    assert found.fell == pytest.approx(1 - min(found.history) / found.history[0])
    assert len(found.history) == len(found.reach) == 61
    again = learn_baseline(forward, found.apply(players), target=None, score="logit", steps=1)
    assert again.history[0] == min(found.history)
    assert all(a >= b - 1e-9 for a, b in zip(found.history, found.reach, strict=True))


def test_the_labels_of_a_multi_label_head_are_learnt_each_by_itself():
    model = made()
    model.config.problem_type = "multi_label_classification"
    players = players_as_embeddings(model, words())
    strengths = [
        learn_baseline(model, players, target=1, score=score, steps=1).history for score in ("log_odds", "logit")
    ]
    assert strengths[0] == pytest.approx(strengths[1], rel=1e-5)


def test_a_colour_is_learnt_for_images():
    images = normal(2, 3, 4, 4).abs()
    quarters = torch.tensor([[0, 1], [2, 3]]).repeat_interleave(2, 0).repeat_interleave(2, 1)
    players = players_from_mask(images, 0.0, quarters)

    def forward(x):
        return x.mean((1, 2, 3)) ** 2

    found = learn_baseline(forward, players, target=None, score="logit", steps=5)
    assert found.vector.shape == (3, 1, 1)
    applied = found.apply(players)
    assert applied.baselines[0].shape == images.shape
    assert torch.equal(applied.baselines[0][1, :, 3, 2], found.vector[:, 0, 0])
    assert applied.description["baseline"] == "learned [3, 1, 1]"
    for shape in [(1,), (3, 4, 4), (1, 4, 4)]:
        found = learn_baseline(forward, players, target=None, score="logit", steps=1, shape=shape)
        assert found.vector.shape == shape
    for shape in [(2, 1, 1), (4, 3, 1), (1, 3, 4, 4)]:
        with pytest.raises(ValueError, match=r"does not broadcast to one sample of \[2, 3, 4, 4\]"):
            learn_baseline(forward, players, target=None, score="logit", shape=shape)


def test_an_embedding_is_learnt_and_the_model_left_as_it_was_found(bert):
    players = players_as_embeddings(bert, words(), 3)
    bert.get_input_embeddings().weight.requires_grad_(False)
    flags = {name: p.requires_grad for name, p in bert.named_parameters()}
    before = {name: p.clone() for name, p in bert.named_parameters()}
    state = torch.get_rng_state()
    found = learn_baseline(bert, players, score="logit", steps=8)
    assert found.vector.shape == (16,)
    assert 0 < found.fell < 1
    vectors = bert.get_input_embeddings().weight
    assert found.history[0] == learn_baseline(bert, players, score="logit", steps=1).history[0]
    with torch.no_grad():
        classes = bert(inputs_embeds=vectors[IDS], attention_mask=(IDS != 0).long()).logits.argmax(1).tolist()
    assert found.provenance["target"] == classes
    assert {name: p.requires_grad for name, p in bert.named_parameters()} == flags
    assert all(torch.equal(before[name], p) and p.grad is None for name, p in bert.named_parameters())
    assert torch.equal(state, torch.get_rng_state())
    assert not found.vector.requires_grad
    # the strength under the learnt vector, as the method finds it
    after = plain(bert).attribute(players_as_embeddings(bert, words(), found.vector), target="predicted")
    strength = sum(float(one.and_effects[1:].abs().sum()) for one in after) / 2
    assert strength == pytest.approx(min(found.history), rel=1e-4)


def test_masks_in_several_forwards_have_the_same_gradients(bert):
    players = players_as_embeddings(bert, words(), 3)
    whole = learn_baseline(bert, players, score="logit", steps=3)
    calls = Recording(bert.forward)
    parts = learn_baseline(lambda **kw: calls(**kw), players, score="logit", steps=3, perturbations_per_eval=1)
    assert max(calls.rows) == 2
    torch.testing.assert_close(parts.vector, whole.vector, atol=1e-5, rtol=1e-4)
    assert parts.history == pytest.approx(whole.history, rel=1e-4)


def test_a_learned_baseline_comes_back_as_it_was_saved(tmp_path):
    players = players_from_mask(normal(3, 2))
    found = learn_baseline(lambda x: x.prod(1), players, target=None, score="logit", steps=4)
    found.save(tmp_path / "it.safetensors")
    loaded = LearnedBaseline.load(tmp_path / "it.safetensors")
    assert torch.equal(loaded.vector, found.vector)
    assert (loaded.history, loaded.reach, loaded.provenance) == (found.history, found.reach, found.provenance)
    assert repr(loaded) == repr(found)
    assert repr(found).startswith("LearnedBaseline [2]: strength ")


class Untrained(torch.nn.Module):
    @torch.no_grad()
    def forward(self, x):
        return x.sum(1)


@pytest.mark.parametrize(
    ("changed", "error", "said"),
    [
        ({"players": torch.ones(1, 2)}, TypeError, r"players must be Players; got float32 \[1, 2\]"),
        ({"players": words()}, TypeError, r"got int64 \[2, 5\].*players_as_embeddings"),
        ({"players": players_from_mask(torch.ones(1, 11))}, ValueError, r"n = 11 players.*select_players"),
        ({"players": table_players(torch.ones(1, 2), torch.eye(2))}, TypeError, "got a table with a background"),
        ({"steps": 0}, ValueError, "steps must be an int, at least 1; got 0"),
        ({"learning_rate": 0}, ValueError, "learning_rate must be a positive number.*got 0"),
        ({"learning_rate": math.inf}, ValueError, "learning_rate must be a positive number.*got inf"),
        ({"forward_func": Untrained().eval()}, ValueError, "no gradient.*differentiable forward"),
        (
            {"forward_func": lambda x: x.sum(1).log()},
            ValueError,
            "the value of sample 0 is -inf with the players .. present",
        ),
        ({"forward_func": lambda x: x.sum()}, ValueError, "one value for the whole batch of 2 samples"),
        ({"forward_func": lambda x: x.softmax(1), "target": 0, "score": "log_odds"}, ValueError, "probabilit"),
    ],
)
def test_what_cannot_be_learnt_from(changed, error, said):
    asked = {
        "forward_func": lambda x: x.sum(1),
        "players": players_from_mask(torch.ones(2, 2)),
        "target": None,
        "score": "logit",
    }
    with pytest.raises(error, match=said):
        learn_baseline(**asked | changed)


def test_a_vector_for_other_inputs():
    found = LearnedBaseline(torch.zeros(3), (1.0,), (1.0,))
    with pytest.raises(ValueError, match=r"the baseline \[3\] does not broadcast to inputs \[1, 2\]"):
        found.apply(players_from_mask(torch.ones(1, 2)))
    assert found.fell == 0


# ---------------------------------------------------------------- comparison


class Given:
    """A method that has its answers ready."""

    def __init__(self, answers):
        self.answers, self.asked = answers, []

    def attribute(self, inputs, baselines=None, target=None, **more):
        self.asked.append((baselines, target, more))
        return self.answers[baselines]


X = torch.ones(1, 3)


def compared(answers, **more):
    return compare_baselines(Given(answers), {name: (X, name) for name in answers}, **more)


def test_agreement_by_hand():
    #          a     b    a&b    c    a&c   b&c
    one = by_hand(4.0, -2.0, 1.0, 0.0, 0.1, 0.0)  # salient: a, b, a&b (above 0.2)
    two = by_hand(8.0, 2.0, 0.0, 1.0, 0.0, 0.3)  # salient: a, b, c (above 0.4)
    found = compared({"one": InteractionsBatch([one]), "two": InteractionsBatch([two])}, k=2)
    (agreement,) = found.agreements
    assert agreement[:2] == ("one", "two")
    assert agreement.salient_jaccard == 2 / 4
    assert agreement.top_jaccard == 1.0  # a and b
    assert agreement.equal_signs == 1 / 2
    # a, b, a&b, c: ranks 4 1 3 2 of (4, -2, 1, 0), ranks 4 3 1 2 of (8, 2, 0, 1)
    assert agreement.rank_correlation == pytest.approx(1 - 6 * (0 + 4 + 4 + 0) / (4 * 15))
    more = compared({"one": InteractionsBatch([one]), "two": InteractionsBatch([two])}, k=3)
    assert more.agreements[0].top_jaccard == 2 / 4


def test_a_baseline_agrees_with_itself_and_undefined_samples_are_left_out():
    some, none = by_hand(3.0, -1.0, 2.0), by_hand()
    batch = InteractionsBatch([some, none])
    (agreement,) = compared({"x": batch, "y": batch}).agreements
    assert agreement[2:] == (1.0, 1.0, 1.0, pytest.approx(1.0))
    (agreement,) = compared({"x": InteractionsBatch([none]), "y": InteractionsBatch([none])}).agreements
    assert all(math.isnan(number) for number in agreement[2:])
    assert "nan" in str(compared({"x": InteractionsBatch([none]), "y": InteractionsBatch([none])}))


EFFECT = st.integers(-3, 3).map(float)


@given(st.lists(st.tuples(EFFECT, EFFECT), min_size=7, max_size=7), st.integers(1, 7))
def test_agreement_against_sets_and_scipy(pairs, k):
    first, second = zip(*pairs, strict=True)
    answers = {"x": InteractionsBatch([by_hand(*first)]), "y": InteractionsBatch([by_hand(*second)])}
    (agreement,) = compared(answers, k=k, tau=0.4).agreements

    def salient(effects):
        return {i for i, e in enumerate(effects) if abs(e) > 0.4 * max(map(abs, effects))}

    a, b = salient(first), salient(second)
    expected = [len(a & b) / len(a | b) if a | b else math.nan]
    signs = [first[i] * second[i] > 0 for i in a & b]
    expected.append(sum(signs) / len(signs) if signs else math.nan)
    union = sorted(a | b)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of constant inputs, which have no correlation
        ranks = [first[i] for i in union], [second[i] for i in union]
        rank = scipy.stats.spearmanr(*ranks)[0] if len(union) > 1 else math.nan
    got = [agreement.salient_jaccard, agreement.equal_signs, agreement.rank_correlation]
    assert got == pytest.approx([*expected, float(rank)], nan_ok=True)


def test_one_call_asks_for_all_baselines_alike():
    x = normal(2, 3)
    calls = Given({})
    calls.attribute = lambda *positional, **named: (
        calls.asked.append((positional, named)) or InteractionsBatch([by_hand(1.0), by_hand(2.0)])
    )
    players = players_from_mask(x, 2.0)
    found = compare_baselines(
        calls, {"zero": (x, 0), "one": (x, 1), "two": players}, "predicted", perturbations_per_eval=4
    )
    assert [positional[1:] for positional, _ in calls.asked] == [(0,), (1,), ()]
    assert calls.asked[2][0][0] is players
    assert all(named == {"target": "predicted", "perturbations_per_eval": 4} for _, named in calls.asked)
    assert [one[:2] for one in found.agreements] == [("zero", "one"), ("zero", "two"), ("one", "two")]
    frame = found.to_frame()
    assert list(frame.columns) == [
        "first",
        "second",
        "salient_jaccard",
        "top_jaccard",
        "equal_signs",
        "rank_correlation",
    ]
    assert frame["second"].tolist() == ["one", "two", "two"]
    assert str(found).splitlines()[0] == "2 samples under 3 baselines; means:"


def test_baselines_that_change_much_and_little():
    def forward(x):
        return x.prod(1) + x[:, 0]

    x = normal(3, 4).abs() + 1
    method = AndOrInteraction(forward, score="logit", noise=0)
    found = compare_baselines(method, {"zero": (x, 0.0), "near": (x, 0.001), "far": (x, -3.0)}, k=5)
    near, far = (one.salient_jaccard for one in found.agreements[:2])
    assert near == 1.0 > far


@pytest.mark.parametrize(
    ("changed", "error", "said"),
    [
        ({"method": 3}, TypeError, "method must have attribute.*got a int"),
        ({"baselines": [X, X]}, TypeError, "baselines must be a mapping"),
        ({"baselines": {}}, ValueError, "baselines has no entry: give at least two"),
        ({"baselines": {"one": (X, 0)}}, ValueError, "baselines has one: give at least two"),
        ({"baselines": {1: (X, 0), "b": (X, 1)}}, TypeError, "has the name 1: give str"),
        ({"baselines": {"a": X, "b": (X, 1)}}, TypeError, r"baselines\['a'\] must be Players or \(inputs, baselines\)"),
        ({"k": 0}, ValueError, "k must be a whole number, at least 1; got 0"),
        ({"tau": -1}, ValueError, "tau must be at least 0"),
        (
            {"baselines": {"a": (X, 0), "b": players_from_mask(torch.ones(1, 2))}},
            ValueError,
            "baseline 'b' has other players than 'a'",
        ),
        ({"baselines": {"a": (X, 0), "b": (10 * X, 0)}}, ValueError, "under 'a' and .* under 'b'"),
    ],
)
def test_comparisons_that_do_not_fit(changed, error, said):
    method = AndOrInteraction(lambda x: x.sum(1), score="logit", noise=0)
    asked = {"method": method, "baselines": {"a": (X, 0), "b": (X, 0.5)}} | changed
    with pytest.raises(error, match=said):
        compare_baselines(**asked)


def test_a_method_that_answers_with_something_else():
    with pytest.raises(TypeError, match=r"method\.attribute returned a dict: give a method that returns an Inter"):
        compared({"x": {}, "y": {}})


def test_whole_numbers_of_numpy_are_taken_everywhere(tmp_path):
    method = AndOrInteraction(lambda x: x.prod(1), score="logit", noise=0)
    given = {"a": (X, 0.0), "b": (X, 0.5)}
    assert str(compare_baselines(method, given, k=np.int64(3))) == str(compare_baselines(method, given, k=3))
    options = {"target": None, "score": "logit", "learning_rate": np.float32(0.5)}
    found = learn_baseline(lambda x: x.prod(1), players_from_mask(X), steps=np.int64(2), **options)
    found.save(tmp_path / "found.safetensors")
    assert found.provenance["steps"] == 2
    layer = Layer(np.int64(3), call_index=np.int32(1))
    assert json.loads(json.dumps(layer.describe()))["name"] == 3
    assert layer.label == "3[1]"


def test_warnings_of_an_average_name_its_samples():
    method = AndOrInteraction(lambda x: x[:, 0] - x[:, 1], score="logit")
    with pytest.warns(UserWarning, match=r"kappa is 0 in 1 of 1 tables \(sample 0\)"):
        found = [method.attribute(torch.ones(1, 2), baselines=b) for b in (0.0, 0.5)]
    with pytest.warns(UserWarning, match=r"kappa is 0 in 1 of 1 tables \(sample 0, the mean of 2 baselines\)"):
        average_baselines(found)


@pytest.mark.filterwarnings("ignore:.* computes in torch")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_baseline_is_learned_in_half_precision(dtype):
    """The median, as in float32: steps of Adam are far below the rounding of these dtypes."""
    x = torch.tensor([[0.0], [1.0], [5.0]])
    linear = torch.nn.Linear(1, 1, bias=False).eval()
    with torch.no_grad():
        linear.weight.fill_(1.0)
    found = learn_baseline(linear.to(dtype), players_from_mask(x.to(dtype)), target=None, score="logit", steps=60)
    assert found.vector.dtype == torch.float32
    assert float(found.vector) == pytest.approx(1.0, abs=0.1)


def test_a_baseline_is_learned_in_inference_mode():
    linear = torch.nn.Linear(2, 1).eval()
    outside = learn_baseline(linear, players_from_mask(torch.eye(2)), target=None, score="logit", steps=5)
    with torch.inference_mode():
        found = learn_baseline(linear, players_from_mask(torch.eye(2)), target=None, score="logit", steps=5)
        made_here = torch.nn.Linear(2, 1).eval()
        with pytest.raises(ValueError, match=r"weights that were made in torch\.inference_mode"):
            learn_baseline(made_here, players_from_mask(torch.eye(2)), target=None, score="logit", steps=5)
    assert found.history == outside.history
