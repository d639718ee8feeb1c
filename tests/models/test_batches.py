"""A sample's numbers do not depend on its batch-mates: alone, and padded beside a longer text, on either side."""

import pytest
import torch
import transformers
from forwards import plain
from test_families import GPT, SMALL, TEXT, XLNET
from tiny_models import made

from captum_lkn import LayerAndOrInteraction, answer_span, players_from_mask
from captum_lkn.models.layers import Layer

SHORT = [7, 12, 30, 41]
LONG = [9, 8, 44, 21, 5, 33, 17]
OWNERS = [-1, 0, 1, 2]
PAD, ABSENT = 0, 3
BART = {"vocab_size": 60, "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "num_labels": 3, "init_std": 0.5}
BART |= {f"{side}_{what}": 2 for side in ("encoder", "decoder") for what in ("attention_heads", "ffn_dim")}

XLNET_QA = XLNET | {"initializer_range": 0.5, "num_labels": 2}
HEADS = {
    "classes of tokens": ("BertForTokenClassification", "BertConfig", SMALL, (2, 1)),
    "masked words": ("BertForMaskedLM", "BertConfig", SMALL, (2, 11)),
    "next words": ("GPT2LMHeadModel", "GPT2Config", GPT | {"initializer_range": 0.5}, (2, 11)),
    "start of an answer": ("BertForQuestionAnswering", "BertConfig", SMALL | {"num_labels": 2}, (0, 1)),
    "end of an answer": (
        "XLNetForQuestionAnsweringSimple",
        "XLNetConfig",
        XLNET_QA,
        (1, 2),
    ),
}


def batches(side, pad=PAD, words=SHORT, mates=LONG):
    """The short text alone, and beside a longer one."""
    gap = len(mates) - len(words)
    fill = (lambda row, value: row + [value] * gap) if side == "right" else (lambda row, value: [value] * gap + row)
    alone = (torch.tensor([words]), torch.ones(1, len(words), dtype=torch.long), torch.tensor([OWNERS]))
    mate_owners = [0, 1, *[-1] * (len(mates) - 2)]
    batch = (
        torch.tensor([fill(words, pad), mates]),
        torch.tensor([fill([1] * len(words), 0), [1] * len(mates)]),
        torch.tensor([fill(OWNERS, -1), mate_owners]),
    )
    return alone, batch


def assert_same(method, alone, batch, target, absent=ABSENT, moved=None):
    found = [
        method.attribute(
            {"input_ids": ids, "attention_mask": mask}, absent, one, feature_mask=owners, perturbations_per_eval=3
        )[0].values
        for (ids, mask, owners), one in ((alone, target), (batch, target if moved is None else moved))
    ]
    torch.testing.assert_close(*found, atol=2e-5, rtol=1e-4)
    assert float(found[0].std()) > 1e-3


def model_of(family, table=TEXT):
    model_class, config_class, settings = table[family][:3]
    return made(getattr(transformers, model_class), getattr(transformers, config_class), **settings)


SIDES = [
    (family, side)
    for family in TEXT
    for side in {"gpt2": ("left", "right"), "llama": ("left", "right"), "xlnet": ("left",)}.get(family, ("right",))
]


@pytest.mark.parametrize(("family", "side"), SIDES)
@pytest.mark.parametrize("absent", [PAD, ABSENT])
def test_a_classifier(family, absent, side):
    model = model_of(family)
    pad = model.config.pad_token_id if model.config.pad_token_id is not None else PAD
    assert_same(plain(model, score="log_odds"), *batches(side, pad), 1, absent)


@pytest.mark.parametrize(("family", "side"), [("bert", "left"), ("distilbert", "left"), ("xlnet", "right")])
def test_padding_where_a_classifier_reads_is_refused(family, side):
    _, batch = batches(side)
    with pytest.raises(ValueError, match=r"reads the (first|last) position of a text.* pad on the"):
        plain(model_of(family)).attribute(dict(zip(("input_ids", "attention_mask"), batch, strict=False)), ABSENT, 1)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("family", TEXT)
def test_padding_without_an_attention_mask_is_warned_of_where_it_counts(family, side, recwarn):
    model = model_of(family)
    pad = model.config.pad_token_id
    alone, batch = batches(side, pad)
    method = plain(model)
    short = method.attribute({"input_ids": alone[0]}, ABSENT, 1, feature_mask=alone[2])[0]
    assert not [w for w in recwarn if "attention_mask" in str(w.message)]
    beside = method.attribute({"input_ids": batch[0]}, ABSENT, 1, feature_mask=batch[2])[0]
    told = [str(w.message) for w in recwarn if "got no attention_mask" in str(w.message)]
    if family in ("gpt2", "llama") and side == "right":  # a decoder, whose words do not see what is behind them
        assert not told
        torch.testing.assert_close(beside.values, short.values, atol=1e-5, rtol=1e-5)
    else:
        assert len(told) == 1
        assert f"{beside.v_full:.6g} with 3 tokens of padding" in told[0]
        assert f"{short.v_full:.6g} without" in told[0]
        assert f"{type(model).__name__} got no attention_mask" in told[0]
        assert "Give attention_mask=, 1 at real tokens" in told[0]


def test_a_text_that_begins_or_ends_with_the_padding_token_is_not_taken_for_padded(recwarn):
    """GPT-2 has one token for padding, start and end."""
    settings = GPT | {"pad_token_id": 1, "bos_token_id": 1, "eos_token_id": 1, "initializer_range": 0.5}
    model = made(transformers.GPT2ForSequenceClassification, transformers.GPT2Config, **settings)
    for ids in ([[1, *SHORT]], [[*SHORT, 1]], [[1, *SHORT], LONG[:5]]):
        plain(model).attribute(
            {"input_ids": torch.tensor(ids)}, ABSENT, 1, feature_mask=torch.tensor([[-1, 0, 1, *[-1] * 2]])
        )
    assert not [w for w in recwarn if "attention_mask" in str(w.message)]
    padded = {"input_ids": torch.tensor([[1, 1, 1, *SHORT], LONG])}
    with pytest.warns(UserWarning, match="with 2 tokens of padding.* got no attention_mask"):
        plain(model).attribute(padded, ABSENT, 1, feature_mask=torch.tensor([[-1, -1, -1, 0, 1, -1, -1]]))


@pytest.mark.parametrize(("family", "side"), SIDES)
def test_a_block_of_a_classifier(family, side):
    model, layer = model_of(family), TEXT[family][3]
    weights = torch.randn(16, 3, generator=torch.Generator().manual_seed(0))
    pad = model.config.pad_token_id if model.config.pad_token_id is not None else PAD
    for pool in ("auto", "mean", "last"):
        method = LayerAndOrInteraction(model, Layer(layer, pool=pool), probe=lambda f: f @ weights, kind="and", noise=0)
        assert_same(method, *batches(side, pad), 1)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("head", HEADS)
def test_a_head(head, side):
    target = HEADS[head][3]
    moved = target
    if side == "left" and isinstance(target, tuple):  # the text begins three places later
        at = 1 if "answer" in head else 0
        moved = tuple(t + 3 * (i == at) for i, t in enumerate(target))
    moved = [moved, moved] if isinstance(moved, tuple) else moved
    assert_same(plain(model_of(head, HEADS), score="log_odds"), *batches(side), target, moved=moved)


def test_an_answer_as_a_whole():
    model = model_of("start of an answer", HEADS)
    assert_same(plain(answer_span(model, 1, 2)), *batches("right"), None)


def test_an_encoder_with_a_decoder():
    settings = BART | {"pad_token_id": 1, "eos_token_id": 2, "max_position_embeddings": 40}
    model = made(transformers.BartForSequenceClassification, transformers.BartConfig, **settings)
    alone, batch = batches("right", 1, words=[7, 12, 30, 2], mates=[9, 8, 44, 21, 5, 33, 2])
    owners = torch.tensor([[0, 1, 2, -1]])
    batch_owners = torch.cat([torch.nn.functional.pad(owners, (0, 3), value=-1), torch.tensor([[0, 1, *[-1] * 5]])])
    assert_same(plain(model), (*alone[:2], owners), (*batch[:2], batch_owners), 1)


@pytest.mark.parametrize(("family", "side"), [one for one in SIDES if one[0] in ("bert", "gpt2", "llama", "roberta")])
def test_removed_words(family, side):
    from dataclasses import replace

    model = model_of(family)
    pad = model.config.pad_token_id
    found = []
    for ids, mask, owners in batches(side, pad):
        players = players_from_mask((mask,), 0, owners)
        players = replace(players, names=("attention_mask",), constants={"input_ids": ids}, is_tuple=False)
        found.append(plain(model).attribute(players, target=1)[0].values)
    torch.testing.assert_close(*found, atol=2e-5, rtol=1e-4)
