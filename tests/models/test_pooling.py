"""Pooling: rows of numbers made by hand, and padding that may hold anything."""

import functools

import pytest
import torch
from forwards import data_parallel, normal
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import made
from torch import nn
from transformers import (
    BartConfig,
    BartForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
    ModernBertConfig,
    ModernBertForSequenceClassification,
    ResNetConfig,
    ResNetForImageClassification,
    SwinConfig,
    SwinForImageClassification,
    ViTConfig,
    ViTForImageClassification,
    Wav2Vec2Config,
    Wav2Vec2ForSequenceClassification,
)

from captum_lkn.models.arguments import Arguments
from captum_lkn.models.hugging_face.head import token_read_by_head
from captum_lkn.models.layers import Layer, find_layers
from captum_lkn.models.model import Model
from captum_lkn.models.pooling import name_of, pooled
from captum_lkn.models.reading import LayerReader

WHERE = "layer 'x'"
TOKENS = normal(3, 4, 2)
RIGHT = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]])
LEFT = RIGHT.flip(1)
HOLES = torch.tensor([[1, 0, 1, 0], [0, 1, 0, 1], [0, 0, 1, 0]])
GARBAGE = [float("nan"), float("inf"), -float("inf"), 3e38]

SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


def pool(output, how, mask=None, tokens="mean"):
    return pooled(output, how, [tokens], mask, where=WHERE)


def by_hand(output, how, mask):
    """The definition, number by number."""
    rows = []
    for row, real in zip(output.tolist(), mask.tolist(), strict=True):
        kept = [token for token, is_real in zip(row, real, strict=True) if is_real]
        if how == "mean":
            rows.append([sum(numbers) / len(kept) for numbers in zip(*kept, strict=True)])
        else:
            rows.append(kept[-1])
    return torch.tensor(rows)


# ---------------------------------------------------------------- each pooling


@pytest.mark.parametrize("how", ["mean", "last"])
@pytest.mark.parametrize("mask", [RIGHT, LEFT, HOLES, RIGHT.bool(), LEFT.float(), torch.ones(3, 4)])
def test_padding_does_not_count(how, mask):
    torch.testing.assert_close(pool(TOKENS, how, mask), by_hand(TOKENS, how, mask))
    torch.testing.assert_close(pool(TOKENS, "auto", mask, tokens=how), by_hand(TOKENS, how, mask))


@pytest.mark.parametrize("how", ["mean", "last"])
@pytest.mark.parametrize("mask", [RIGHT, LEFT, HOLES])
@pytest.mark.parametrize("garbage", GARBAGE)
def test_padding_may_hold_anything(how, mask, garbage):
    dirty = TOKENS.clone()
    dirty[mask == 0] = garbage
    assert torch.equal(pool(dirty, how, mask), pool(TOKENS, how, mask))


@given(st.integers(1, 4), st.integers(1, 6), st.integers(1, 3), st.data())
def test_a_row_does_not_depend_on_others(rows, length, width, data):
    output = normal(rows, length, width, seed=data.draw(st.integers(0, 99)))
    # a real token in each row
    mask = torch.tensor(
        [
            data.draw(st.lists(st.booleans(), min_size=length, max_size=length).filter(any), label="real")
            for _ in range(rows)
        ]
    )
    for how in ("mean", "last"):
        together = pool(output, how, mask)
        torch.testing.assert_close(together, by_hand(output, how, mask), atol=1e-5, rtol=1e-5)
        for i in range(rows):
            alone = pool(output[i : i + 1][:, mask[i]], how)
            torch.testing.assert_close(together[i : i + 1], alone, atol=1e-6, rtol=1e-5)


def test_without_a_mask_all_tokens_are_real():
    torch.testing.assert_close(pool(TOKENS, "mean"), TOKENS.mean(1))
    assert torch.equal(pool(TOKENS, "last"), TOKENS[:, -1])


@pytest.mark.parametrize("mask", [None, RIGHT, LEFT])
def test_the_first_token(mask):
    assert torch.equal(pool(TOKENS, "cls", mask), TOKENS[:, 0])


def test_flattened_tokens():
    for mask in (None, torch.ones(3, 4)):
        assert torch.equal(pool(TOKENS, "flatten", mask), TOKENS.reshape(3, 8))
    with pytest.raises(ValueError, match="pool='flatten' would count padding, which layer 'x' has here: give 'mean'"):
        pool(TOKENS, "flatten", RIGHT)


@pytest.mark.parametrize("how", ["auto", "flatten", "mean", "cls", "last"])
def test_a_row_of_numbers_stays_as_it_is(how):
    rows = TOKENS[:, 0]
    assert torch.equal(pool(rows, how, RIGHT), rows)
    assert torch.equal(pool(rows[:, 0], how), rows[:, :1])


def test_maps():
    maps, deep = normal(2, 3, 4, 5), normal(2, 3, 2, 2, 2)
    for output in (maps, deep):
        assert torch.equal(pool(output, "flatten"), output.flatten(1))
        assert torch.equal(pool(output, "auto"), output.flatten(1))
        torch.testing.assert_close(pool(output, "mean"), output.flatten(2).mean(2))
        for how in ("cls", "last"):
            message = rf"pool='{how}' needs tokens \[R, T, D\]; layer 'x' puts out \[2, 3, .*give 'flatten' or 'mean'"
            with pytest.raises(ValueError, match=message):
                pool(output, how)


def test_large_maps_are_averaged():
    flat = torch.ones(1, 64, 32, 32)  # 2^16 numbers
    assert pool(flat, "auto").shape == (1, 1 << 16)
    large = normal(1, 65, 32, 32)
    torch.testing.assert_close(pool(large, "auto"), large.mean((2, 3)))
    assert pool(large, "flatten").shape == (1, 65 << 10)
    assert pool(torch.ones(1, 300, 300), "auto").shape == (1, 300)  # tokens are another matter


def test_a_function():
    torch.testing.assert_close(pool(TOKENS, lambda h: h[:, 1], RIGHT), TOKENS[:, 1])
    torch.testing.assert_close(
        pool(normal(2, 3, 4, 4), functools.partial(torch.amax, dim=(2, 3))), normal(2, 3, 4, 4).amax((2, 3))
    )
    with pytest.raises(TypeError, match=r"pool of layer 'x' returned a tuple: it must return a tensor \[R, D\]"):
        pool(TOKENS, lambda h: (h[:, 0], h[:, 1]))
    for wrong in (lambda h: h, lambda h: h[0], lambda h: h.sum(), lambda h: h[:, :, 0].T):
        with pytest.raises(ValueError, match=r"pool of layer 'x' made .* of \[3, 4, 2\]: it must return \[R, D\]"):
            pool(TOKENS, wrong)


def test_a_mask_of_another_length():
    for how in ("mean", "last"):
        with pytest.raises(
            ValueError, match=r"layer 'x' puts out \[3, 4, 2\], and the attention mask is \[3, 8\]: which"
        ):
            pool(TOKENS, how, RIGHT.repeat(1, 2))
        assert torch.equal(pool(TOKENS, how, torch.ones(3, 8)), pool(TOKENS, how))  # no padding: nothing to know
    assert torch.equal(pool(TOKENS, "cls", RIGHT.repeat(1, 2)), TOKENS[:, 0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_does_not_overflow(dtype):
    large = torch.full((2, 900, 3), 200.0, dtype=dtype)
    mask = torch.ones(2, 900)
    mask[1, 301:] = 0
    found = pool(large, "mean", mask)
    assert found.dtype == dtype
    assert torch.equal(found, torch.full((2, 3), 200.0, dtype=dtype))
    assert pool(large, "last", mask).dtype == dtype


def test_double_precision_stays():
    exact = TOKENS.double() + 1e-12
    found = pool(exact, "mean", RIGHT)
    assert found.dtype == torch.float64
    torch.testing.assert_close(
        found - pool(TOKENS.double(), "mean", RIGHT), torch.full((3, 2), 1e-12).double(), atol=1e-15, rtol=0
    )


def test_integers_have_a_mean():
    torch.testing.assert_close(pool(torch.tensor([[[1], [2]]]), "mean"), torch.tensor([[1.5]]))


def test_names_of_functions():
    assert name_of(torch.flatten) == "flatten"
    assert name_of(functools.partial(functools.partial(torch.flatten, start_dim=1))) == "flatten"
    assert name_of(nn.Tanh()) == "Tanh"


# ---------------------------------------------------------------- what "auto" means


TEXTS = {
    "bert": (BertForSequenceClassification, BertConfig, {}, "cls"),
    "distilbert": (DistilBertForSequenceClassification, DistilBertConfig, {}, "cls"),
    "modernbert": (
        ModernBertForSequenceClassification,
        ModernBertConfig,
        {"classifier_pooling": "mean", "global_attn_every_n_layers": 1},
        "mean",
    ),
    "gpt2": (GPT2ForSequenceClassification, GPT2Config, {"n_embd": 16, "n_layer": 1, "n_head": 2}, "last"),
    "llama": (LlamaForSequenceClassification, LlamaConfig, {}, "last"),
    "bart": (
        BartForSequenceClassification,
        BartConfig,
        {"d_model": 16}
        | {f"{side}_{what}": 2 for side in ("encoder", "decoder") for what in ("layers", "attention_heads", "ffn_dim")},
        "last",
    ),
}


@pytest.mark.parametrize("name", TEXTS)
def test_the_token_that_the_head_of_a_text_model_reads(name):
    model_class, config_class, sizes, token = TEXTS[name]
    sizes = {"vocab_size": 50, "pad_token_id": 0, "eos_token_id": 2, "bos_token_id": 1, **SIZES, **sizes}
    model = made(model_class, config_class, **sizes)
    assert token_read_by_head(model) == token
    assert token_read_by_head(Model(data_parallel(model)).inner) == token
    assert token_read_by_head(lambda **inputs: model(**inputs)) == "mean"  # of a function nothing is known


@pytest.mark.parametrize(
    ("model_class", "config_class", "sizes", "token"),
    [
        (ViTForImageClassification, ViTConfig, {"image_size": 8, "patch_size": 4, **SIZES}, "cls"),
        (
            SwinForImageClassification,
            SwinConfig,
            {"image_size": 8, "patch_size": 2, "embed_dim": 8, "depths": [1], "num_heads": [2], "window_size": 2},
            "mean",
        ),
        (
            ResNetForImageClassification,
            ResNetConfig,
            {"embedding_size": 4, "hidden_sizes": [4], "depths": [1]},
            "mean",
        ),
        (
            Wav2Vec2ForSequenceClassification,
            Wav2Vec2Config,
            {"conv_dim": (4,), "conv_kernel": (3,), "conv_stride": (2,), "classifier_proj_size": 4}
            | {"num_conv_pos_embeddings": 2, "num_conv_pos_embedding_groups": 1, **SIZES},
            "mean",
        ),
    ],
    ids=["vit", "swin", "resnet", "wav2vec2"],
)
def test_the_token_that_the_head_of_another_model_reads(model_class, config_class, sizes, token):
    assert token_read_by_head(made(model_class, config_class, **sizes)) == token


def features(model, layers, inputs, **keywords):
    model = Model(model)
    with model.session(), LayerReader(model, find_layers(model, layers)) as reader:
        return reader(Arguments((inputs,), keywords=keywords))[1]


def test_swin_and_resnet_as_they_come():
    images = normal(2, 3, 8, 8)
    swin = made(
        SwinForImageClassification,
        SwinConfig,
        image_size=8,
        patch_size=2,
        embed_dim=8,
        depths=[1, 1],
        num_heads=[1, 2],
        window_size=2,
    )
    states = swin(images, output_hidden_states=True).hidden_states
    (first, second) = features(swin, [0, 1], images)
    torch.testing.assert_close(first, states[1].mean(1))
    torch.testing.assert_close(second, states[2].mean(1))
    resnet = made(
        ResNetForImageClassification,
        ResNetConfig,
        embedding_size=4,
        hidden_sizes=[4, 8],
        depths=[1, 1],
        layer_type="basic",
    )
    states = resnet(images, output_hidden_states=True).hidden_states
    (flat, mean) = features(resnet, ["resnet.encoder.stages.0", Layer("resnet.encoder.stages.1", pool="mean")], images)
    torch.testing.assert_close(flat, states[1].flatten(1))
    torch.testing.assert_close(mean, states[2].mean((2, 3)))


@pytest.mark.parametrize("padding", ["left", "right"])
def test_a_causal_model_padded_on_either_side(padding):
    model = made(
        GPT2ForSequenceClassification, GPT2Config, vocab_size=50, n_embd=16, n_layer=2, n_head=2, pad_token_id=0
    )
    text = torch.tensor([7, 9, 11])
    alone = features(model, 0, text[None], attention_mask=torch.ones(1, 3))[0]
    fill = torch.zeros(2, dtype=torch.long)
    ids = torch.cat([text, fill] if padding == "right" else [fill, text])[None]
    mask = (ids != 0).long()
    positions = (mask.cumsum(1) - 1).clamp_min(0)
    padded = features(model, 0, ids, attention_mask=mask, position_ids=positions)[0]
    torch.testing.assert_close(padded, alone, atol=1e-6, rtol=1e-5)
