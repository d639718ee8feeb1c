"""Hugging Face models: called by keyword, without a cache, whatever their outputs are made of."""

import ast
from pathlib import Path

import pytest
import torch
from forwards import assert_tables, naive_table, normal, plain, record
from tiny_models import BERT, made
from transformers import (
    BartConfig,
    BartForSequenceClassification,
    BatchEncoding,
    BatchFeature,
    BertConfig,
    BertForMultipleChoice,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    CLIPConfig,
    CLIPModel,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    ViTConfig,
    ViTForImageClassification,
)

import captum_lkn
from captum_lkn import AndOrInteraction, ExactShapleyValues, SelectOutput, image_players, players_from_mask

GPT2 = {
    "vocab_size": 50,
    "n_embd": 16,
    "n_layer": 2,
    "n_head": 2,
    "n_positions": 32,
    "num_labels": 3,
    "pad_token_id": 0,
    "initializer_range": 0.5,
}
DISTIL = {
    "vocab_size": 50,
    "dim": 16,
    "n_layers": 2,
    "n_heads": 2,
    "hidden_dim": 16,
    "max_position_embeddings": 32,
    "num_labels": 2,
    "initializer_range": 0.5,
}
VIT = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "image_size": 8,
    "patch_size": 4,
    "num_labels": 3,
    "initializer_range": 0.5,
}
BART = {
    "vocab_size": 50,
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 16,
    "decoder_ffn_dim": 16,
    "max_position_embeddings": 32,
    "num_labels": 3,
    "pad_token_id": 1,
    "eos_token_id": 2,
    "init_std": 0.5,
}

IDS = torch.tensor([[7, 12, 30, 41], [9, 8, 44, 0]])
ATTENTION = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
MASK = torch.tensor([[0, 1, 2, -1]])
ASKED = {"baselines": 3, "feature_mask": MASK}


@pytest.fixture
def bert():
    return made(BertForSequenceClassification, BertConfig, **BERT, pad_token_id=49)  # which IDS does not have


def expected(model, score=lambda z, b: z[0, 1], **constants):
    """The tables of IDS, the plain way."""
    with torch.no_grad():
        return [
            naive_table(
                lambda ids, b=b: score(
                    model(input_ids=ids, **{k: v[b : b + 1] for k, v in constants.items()}).logits, b
                ),
                (IDS,),
                (torch.full_like(IDS, 3),),
                (MASK.expand(2, 4),),
                b,
            )
            for b in range(2)
        ]


TEXT_MODELS = {
    "bert": (BertForSequenceClassification, BertConfig, BERT),
    "distilbert": (DistilBertForSequenceClassification, DistilBertConfig, DISTIL),
    "gpt2": (GPT2ForSequenceClassification, GPT2Config, GPT2),
    "bart": (BartForSequenceClassification, BartConfig, BART),
}


@pytest.mark.parametrize("return_dict", [True, False])
@pytest.mark.parametrize("form", ["mapping", "BatchEncoding", "keyword", "position"])
@pytest.mark.parametrize("name", ["bert", "distilbert", "gpt2"])
def test_tables_of_text_models(name, form, return_dict):
    model_class, config_class, config = TEXT_MODELS[name]
    model = made(model_class, config_class, **config)
    tables = expected(model, attention_mask=ATTENTION)
    model.config.return_dict = return_dict or name == "gpt2"  # GPT-2 itself fails without, whatever its caller says
    calls = record(model)
    inputs, further = IDS, None
    if form in ("mapping", "BatchEncoding"):
        inputs = {"input_ids": IDS, "attention_mask": ATTENTION}
        inputs = inputs if form == "mapping" else BatchEncoding(inputs)
    else:
        further = {"attention_mask": ATTENTION} if form == "keyword" else (ATTENTION,)
    asked = {**ASKED, "target": 1, "additional_forward_args": further, "perturbations_per_eval": 3}
    if name == "gpt2" and form == "position":
        advice = r"second positional.* is (past_key_values|cache), its cache.*\"attention_mask\""
        with pytest.raises(TypeError, match=advice):
            plain(model).attribute(inputs, **asked)
        assert not calls
        return
    assert_tables(plain(model).attribute(inputs, **asked), tables)
    assert all(args == () for args, _ in calls)
    assert all(kwargs["attention_mask"].shape == kwargs["input_ids"].shape for _, kwargs in calls)
    assert model.config.return_dict == (return_dict or name == "gpt2")


@pytest.mark.parametrize("name", ["gpt2", "bart"])
def test_no_cache_is_kept(name):
    model_class, config_class, config = TEXT_MODELS[name]
    model = made(model_class, config_class, **config)
    assert model.config.use_cache
    calls = record(model)
    ids = IDS.clone()
    ids[:, -1] = 2  # Bart reads at its end token
    found = plain(model).attribute(ids, **ASKED, target=0)
    assert all(kwargs["use_cache"] is False for _, kwargs in calls)
    assert model.config.use_cache
    assert max(one.values.std() for one in found) > 1e-3
    calls.clear()
    plain(model).attribute(ids, **ASKED, target=0, additional_forward_args={"use_cache": True})
    assert all(kwargs["use_cache"] is True for _, kwargs in calls)  # whoever asks for one, gets it


def test_an_image_classifier():
    model = made(ViTForImageClassification, ViTConfig, **VIT)
    pixels = normal(2, 3, 8, 8)
    quarters = torch.tensor([[0, 1], [2, -1]]).repeat_interleave(4, 0).repeat_interleave(4, 1)
    calls = record(model)
    found = plain(model).attribute(pixels, target="predicted", feature_mask=quarters, baselines=0.5)
    with torch.no_grad():
        classes = model(pixel_values=pixels).logits.argmax(1).tolist()
        everywhere = quarters.expand(2, 3, 8, 8)
        tables = [
            naive_table(
                lambda x, b=b: model(pixel_values=x).logits[0, classes[b]],
                (pixels,),
                (torch.full_like(pixels, 0.5),),
                (everywhere,),
                b,
            )
            for b in range(2)
        ]
    assert_tables(found, tables)
    assert all(args == () for args, _ in calls)
    assert found.attributions().shape == pixels.shape
    named = BatchFeature({"pixel_values": pixels})
    again = plain(model).attribute(named, target="predicted", feature_mask={"pixel_values": quarters}, baselines=0.5)
    assert_tables(again, tables)
    assert [one.provenance["target"] for one in again] == classes
    with pytest.raises(ValueError, match=r"n = 192 players.*feature_mask"):
        plain(model).attribute(pixels, target=0)


def test_embeddings_are_passed_as_embeddings(bert):
    vectors, calls = normal(2, 4, 16), record(bert)
    words = torch.arange(4).reshape(1, 4, 1)
    for inputs in (vectors, {"inputs_embeds": vectors}):
        found = plain(bert).attribute(inputs, target=2, feature_mask=words)
        assert set(calls[-1][1]) == {"inputs_embeds"}
        assert found.attributions().shape == vectors.shape
        with torch.no_grad():
            full = bert(inputs_embeds=vectors).logits[:, 2].double()
        torch.testing.assert_close(torch.tensor([one.v_full for one in found]).double(), full, atol=1e-5, rtol=1e-5)


def test_token_ids_in_floats_are_refused():
    model = made(BertForSequenceClassification, BertConfig, **BERT)
    with pytest.raises(TypeError, match=r"must be token ids, integers \[B, T\].*got float32 \[1, 3\]. Give ids.long"):
        plain(model).attribute(torch.tensor([[5.0, 6.0, 7.0]]), target=1)


def test_targets_of_every_token():
    model = made(BertForTokenClassification, BertConfig, **BERT, pad_token_id=49)
    found = plain(model).attribute(IDS, **ASKED, target=[(2, 1), (0, 2)])
    assert_tables(found, expected(model, lambda z, b: z[0, 2 - 2 * b, 1 + b]))
    with pytest.raises(ValueError, match=r"must be indices for an output with positions.*Give target=\(0, 0\)"):
        plain(model).attribute(IDS, **ASKED, target="predicted")


@pytest.mark.parametrize("score", ["log_odds", "log_prob", "prob", "margin"])
def test_scores(bert, score):
    def by_hand(z, b):
        p = z.double().softmax(1)[0, 1]
        others = z.double()[0, [0, 2]]
        return {
            "log_odds": (p / (1 - p)).log(),
            "log_prob": p.log(),
            "prob": p,
            "margin": z.double()[0, 1] - others.max(),
        }[score]

    assert_tables(plain(bert, score=score).attribute(IDS, **ASKED, target=1), expected(bert, by_hand))


# ---------------------------------------------------------------- what does not fit


def test_a_model_without_a_head_is_refused():
    model = made(BertModel, BertConfig, **BERT)
    calls = record(model)
    said = r"got a BaseModelOutputWithPooling\w* with last_hidden_state, pooler_output\. The model has no head"
    with pytest.raises(TypeError, match=said):
        AndOrInteraction(model).attribute(IDS, **ASKED, target=0)
    assert len(calls) == 1
    found = plain(lambda ids: model(ids).pooler_output).attribute(IDS, **ASKED, target=5)
    assert len(found) == 2


def test_several_outputs_want_a_target(bert):
    calls = record(bert)
    with pytest.raises(ValueError, match=r'the 3 values a sample.*; got None.*target=0 to 2.*target="predicted"'):
        AndOrInteraction(bert).attribute(IDS, **ASKED)
    assert len(calls) == 1


def test_a_model_in_half_precision(bert):
    with pytest.warns(UserWarning, match=r"BertForSequenceClassification computes in torch.bfloat16.*\.float\(\)"):
        found = plain(bert.bfloat16()).attribute(IDS, **ASKED, target=1)
    assert found[0].values.dtype == torch.float64
    assert_tables(found, expected(bert))


def test_a_model_in_double_precision(bert):
    found = ExactShapleyValues(bert.double()).attribute(IDS, **ASKED, target=1)
    assert found.dtype == torch.get_default_dtype()  # of what attributions to integers have
    tables = expected(bert)
    torch.testing.assert_close(found.sum(1).double(), torch.stack([t[-1] - t[0] for t in tables]), atol=1e-5, rtol=1e-5)


def test_a_model_in_training_mode(bert):
    tables = expected(bert)
    with pytest.warns(UserWarning, match="BertForSequenceClassification is in training mode"):
        found = plain(bert.train()).attribute(IDS, **ASKED, target=1)
    assert_tables(found, tables)
    assert all(module.training for module in bert.modules())


@pytest.mark.parametrize("form", ["mapping", "players"])
def test_named_inputs_with_a_further_argument_by_position(bert, form):
    inputs = {"input_ids": IDS}
    if form == "players":
        inputs = players_from_mask(inputs, 3, MASK)
    asked = ASKED if form == "mapping" else {}
    with pytest.raises(TypeError, match=r"the inputs go by keyword \(input_ids\).*must be a mapping such as"):
        plain(bert).attribute(inputs, **asked, target=1, additional_forward_args=(ATTENTION,))


def test_too_many_arguments_by_position(bert):
    with pytest.raises(TypeError, match="argument"):
        plain(bert).attribute(IDS, **ASKED, target=1, additional_forward_args=(ATTENTION, *[None] * 40))


class Wrapper(torch.nn.Module):
    """As parameter-efficient fine-tuning wraps a model: its forward takes whatever comes."""

    main_input_name = "input_ids"

    def __init__(self, model):
        super().__init__()
        self.model, self.config = model, model.config

    def forward(self, *args, **kwargs):
        return self.model(*args, **kwargs)


def test_a_wrapper_that_takes_whatever_comes_is_told_by_keyword(bert):
    wrapper = Wrapper(bert).eval()
    with pytest.raises(TypeError, match="give additional_forward_args as a mapping"):
        plain(wrapper).attribute(IDS, **ASKED, target=1, additional_forward_args=ATTENTION)
    named = {"attention_mask": ATTENTION}
    found = plain(wrapper).attribute(IDS, **ASKED, target=1, additional_forward_args=named)
    assert_tables(found, expected(bert, attention_mask=ATTENTION))


def test_the_masked_input_given_twice(bert):
    with pytest.raises((TypeError, ValueError), match="input_ids"):
        plain(bert).attribute(IDS, **ASKED, target=1, additional_forward_args={"input_ids": IDS})


def test_tokens_of_multiple_choice_are_on_the_last_dimension():
    model = made(BertForMultipleChoice, BertConfig, **BERT | {"max_position_embeddings": 6})
    ids = torch.arange(1 * 8 * 5).reshape(1, 8, 5)
    owners = torch.tensor([0, 1, 2, 2, 2])
    found = plain(model).attribute({"input_ids": ids}, baselines=4, target=1, feature_mask=owners)  # 8 choices
    absent, masks = torch.full_like(ids, 4), owners.expand(1, 8, 5)
    with torch.no_grad():
        expected = naive_table(lambda x: model(input_ids=x).logits[0, 1], (ids,), (absent,), (masks,), 0)
    assert_tables(found, [expected])
    with pytest.raises(ValueError, match="the input has 7 tokens, and BertForMultipleChoice has 6 positions"):
        plain(model).attribute({"input_ids": torch.ones(1, 3, 7).long()}, target=1, feature_mask=torch.zeros(7).long())


@pytest.mark.parametrize("as_mapping", [True, False])
def test_pixels_of_a_model_with_two_towers(as_mapping):
    tower = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = tower | {"vocab_size": 20, "max_position_embeddings": 8, "eos_token_id": 19, "bos_token_id": 18}
    vision = tower | {"image_size": 16, "patch_size": 8}
    clip = made(CLIPModel, CLIPConfig, text_config=text, vision_config=vision, projection_dim=8)
    ids, pixels = torch.tensor([[3, 4, 19], [5, 6, 19]]), normal(1, 3, 16, 16)
    players = image_players({"pixel_values": pixels} if as_mapping else pixels, grid=2)
    found = plain(SelectOutput(clip, lambda output: output.logits_per_image)).attribute(
        players, target=0, additional_forward_args={"input_ids": ids}
    )
    with torch.no_grad():
        expected = naive_table(
            lambda x: clip(input_ids=ids, pixel_values=x).logits_per_image[0, 0],
            players.inputs,
            players.baselines,
            players.owners,
            0,
        )
    assert_tables(found, [expected])


def test_token_types_beyond_the_table(bert):
    calls = record(bert)
    with pytest.raises(ValueError, match=r"token_type_ids must be from 0 to 1, .*got 0 to 2: leave token_type_ids out"):
        plain(bert).attribute({"input_ids": IDS, "token_type_ids": IDS % 3}, **ASKED, target=1)
    assert not calls


def test_only_one_package_reads_configurations():
    root = Path(captum_lkn.__file__).parent
    readers = set()
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            named = isinstance(node, ast.Attribute) and node.attr == "config"
            asked = isinstance(node, ast.Call) and any(
                isinstance(argument, ast.Constant) and argument.value == "config" for argument in node.args
            )
            if named or asked:
                readers.add(path.parent.relative_to(root).as_posix())
    assert readers == {"models/hugging_face"}
