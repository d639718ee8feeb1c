"""Families of Hugging Face models, tiny and with random weights: tables of the output and of a block, by hand."""

import warnings
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
import transformers
from forwards import assert_tables, data_parallel, naive_table, normal, plain, record
from tiny_models import made

from captum_lkn import ExactShapleyValues, LayerAndOrInteraction, players_from_mask
from captum_lkn.decomposition.indices import shapley_values
from captum_lkn.models.layers import Layer
from captum_lkn.models.model import Model

SMALL = {
    "vocab_size": 60,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 40,
    "num_labels": 3,
    "initializer_range": 0.5,  # outputs that depend on the inputs, though nothing was trained
}
GPT = {"vocab_size": 60, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 40, "num_labels": 3}
DISTIL = {"vocab_size": 60, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 16, "max_position_embeddings": 40}
XLNET = {"vocab_size": 60, "d_model": 16, "n_layer": 2, "n_head": 2, "d_inner": 16, "num_labels": 3}
PATCHES = {"image_size": 8, "patch_size": 4, "num_channels": 3}
VISION = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16, **PATCHES}
RESNET = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic", "num_labels": 3}

# Family: classifier, configuration, its settings, a layer, and the token that a read-out of it sees.
TEXT = {
    "bert": ("BertForSequenceClassification", "BertConfig", SMALL, "bert.encoder.layer.0", "first"),
    "distilbert": (
        "DistilBertForSequenceClassification",
        "DistilBertConfig",
        DISTIL | {"num_labels": 3, "initializer_range": 0.5},
        "distilbert.transformer.layer.0",
        "first",
    ),
    "roberta": ("RobertaForSequenceClassification", "RobertaConfig", SMALL, "roberta.encoder.layer.0", "first"),
    "electra": ("ElectraForSequenceClassification", "ElectraConfig", SMALL, "electra.encoder.layer.0", "first"),
    "deberta-v2": (
        "DebertaV2ForSequenceClassification",
        "DebertaV2Config",
        SMALL | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False},
        "deberta.encoder.layer.0",
        "first",
    ),
    "xlnet": (
        "XLNetForSequenceClassification",
        "XLNetConfig",
        XLNET | {"initializer_range": 0.5},
        "transformer.layer.0",
        "last",
    ),
    "gpt2": (
        "GPT2ForSequenceClassification",
        "GPT2Config",
        GPT | {"pad_token_id": 0, "initializer_range": 0.5},
        "transformer.h.0",
        "last",
    ),
    "llama": (
        "LlamaForSequenceClassification",
        "LlamaConfig",
        SMALL | {"num_key_value_heads": 1, "pad_token_id": 0},
        "model.layers.0",
        "last",
    ),
}
IMAGES = {
    "vit": ("ViTForImageClassification", "ViTConfig", VISION | {"num_labels": 3, "initializer_range": 0.5}),
    "resnet": ("ResNetForImageClassification", "ResNetConfig", RESNET),
    "clip": (
        "CLIPForImageClassification",
        "CLIPConfig",
        {"vision_config": VISION, "text_config": SMALL, "num_labels": 3, "projection_dim": 16},
    ),
    "siglip": ("SiglipForImageClassification", "SiglipConfig", {"vision_config": VISION, "num_labels": 3}),
}

IDS = torch.tensor([[7, 12, 30, 41, 5], [9, 8, 44, 0, 0]])
ATTENTION = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
WHOLE = torch.tensor([[7, 12, 30, 41, 15], [9, 8, 44, 17, 6]])  # without padding
WORDS = torch.tensor([[-1, 0, 1, 1, 2], [-1, 0, 1, -1, -1]])  # the second sentence has two words
ABSENT = 3


def loaded(family, families=TEXT):
    model_class, config_class, settings = families[family][:3]
    return made(getattr(transformers, model_class), getattr(transformers, config_class), **settings)


def tables_by_hand(value, ids=IDS, words=WORDS, absent=ABSENT):
    """The tables of two sentences: `value` takes one row of ids and the sentence's number."""
    with torch.no_grad():
        return [
            naive_table(lambda row, b=b: value(row, b), (ids,), (torch.full_like(ids, absent),), (words,), b)
            for b in range(len(ids))
        ]


def padding_first(family, tensor):
    """XLNet pads in front, so that what it reads, the last position, is a token."""
    return tensor.flip(1) if family == "xlnet" else tensor


@pytest.mark.parametrize("family", TEXT)
def test_the_output_of_a_text_classifier(family):
    model = loaded(family)
    ids, attention, words = (padding_first(family, x) for x in (IDS, ATTENTION, WORDS))

    def value(row, b):
        return model(input_ids=row, attention_mask=attention[b : b + 1]).logits[0, 2]

    tables = tables_by_hand(value, ids, words)
    inputs = {"input_ids": ids, "attention_mask": attention}
    found = plain(model).attribute(inputs, ABSENT, 2, feature_mask=words, perturbations_per_eval=3)
    assert_tables(found, tables)
    assert min(float(table.std()) for table in tables) > 1e-3
    shares = ExactShapleyValues(model).attribute(inputs, ABSENT, 2, feature_mask=words)
    for share, table, own in zip(shares, tables, words, strict=True):
        by_player = shapley_values(table)
        expected = torch.stack([by_player[p] if p >= 0 else by_player.new_zeros(()) for p in own.tolist()])
        torch.testing.assert_close(share.double(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", TEXT)
def test_a_block_of_a_text_classifier(family):
    """By `hidden_states`, whose entry k is what block k - 1 puts out, but for a last norm."""
    model, readout = loaded(family), torch.nn.Linear(16, 3)
    layer, reads = TEXT[family][3:]
    ids, attention, words = (padding_first(family, x) for x in (IDS, ATTENTION, WORDS))

    def value(row, b):
        mask = attention[b : b + 1]
        states = model(input_ids=row, attention_mask=mask, output_hidden_states=True).hidden_states[1]
        states = states.transpose(0, 1) if states.shape[0] != 1 else states
        place = 0 if reads == "first" else int(mask[0].nonzero().max())
        return readout(states[:, place])[0, 1]

    tables = tables_by_hand(value, ids, words)
    method = LayerAndOrInteraction(model, layer, probe=readout, score="logit", kind="and", noise=0)
    found = method.attribute(
        {"input_ids": ids, "attention_mask": attention}, ABSENT, 1, feature_mask=words, perturbations_per_eval=3
    )
    assert_tables(found, tables)
    assert min(float(table.std()) for table in tables) > 1e-3


def test_the_shared_block_of_albert():
    config = SMALL | {"embedding_size": 8, "num_hidden_groups": 1}
    model = made(transformers.AlbertForSequenceClassification, transformers.AlbertConfig, **config)
    block = "albert.encoder.albert_layer_groups.0.albert_layers.0"
    readout = torch.nn.Linear(16, 3)
    inputs = {"input_ids": IDS, "attention_mask": ATTENTION}
    for call in (0, 1):

        def value(row, b, call=call):
            mask = ATTENTION[b : b + 1]
            states = model(input_ids=row, attention_mask=mask, output_hidden_states=True).hidden_states
            return readout(states[call + 1][:, 0])[0, 1]

        layer = Layer(block, call_index=call)
        method = LayerAndOrInteraction(model, layer, probe=readout, score="logit", kind="and", noise=0)
        found = method.attribute(inputs, ABSENT, 1, feature_mask=WORDS)
        assert_tables(found, tables_by_hand(value))
    with pytest.raises(ValueError, match=r"runs 2 times in a forward.*call_index=0 to 1"):
        LayerAndOrInteraction(model, block, probe=readout).attribute(inputs, ABSENT, 1, feature_mask=WORDS)


@pytest.mark.parametrize("family", ["bert", "roberta", "xlnet", "deberta-v2"])
def test_a_pair_of_sentences(family):
    model_class, config_class, settings = TEXT[family][:3]
    settings = settings | {"type_vocab_size": 2} if family != "xlnet" else settings
    model = made(getattr(transformers, model_class), getattr(transformers, config_class), **settings)
    segments = torch.tensor([[0, 0, 0, 1, 1], [0, 0, 1, 1, 1]])

    def value(row, b):
        return model(input_ids=row, token_type_ids=segments[b : b + 1]).logits[0, 0]

    words = torch.tensor([[0, 1, -1, 2, 3]]).expand(2, 5)
    tables = tables_by_hand(value, WHOLE, words)
    found = plain(model).attribute({"input_ids": WHOLE, "token_type_ids": segments}, ABSENT, 0, feature_mask=words)
    assert_tables(found, tables)
    alone = plain(model).attribute({"input_ids": WHOLE}, ABSENT, 0, feature_mask=words)
    assert float((alone[0].values - found[0].values).abs().max()) > 1e-3  # the segments do matter


@pytest.mark.parametrize("family", IMAGES)
def test_the_output_of_an_image_classifier(family):
    model = loaded(family, IMAGES)
    quarters = torch.tensor([[0, 1], [2, -1]]).repeat_interleave(4, 0).repeat_interleave(4, 1)
    pixels = normal(2, 3, 8, 8)
    with torch.no_grad():
        for parameter in model.parameters():  # CLIP's and SigLIP's start too small to be told from rounding
            parameter.mul_(3.0 if family in ("clip", "siglip") else 1.0)
        tables = [
            naive_table(
                lambda x, b=b: model(pixel_values=x).logits[0, b],
                (pixels,),
                (torch.full_like(pixels, 0.5),),
                (quarters.expand(2, 3, 8, 8),),
                b,
            )
            for b in range(2)
        ]
    found = plain(model).attribute(pixels, 0.5, [0, 1], feature_mask=quarters)
    assert_tables(found, tables)
    assert min(float(table.std()) for table in tables) > 1e-4


@pytest.mark.parametrize(("family", "reads"), [("vit", "class token"), ("clip", "patches"), ("resnet", "map")])
def test_a_block_of_an_image_classifier(family, reads):
    model = loaded(family, IMAGES)
    blocks = {"vit": ("vit.layers.0", "vit.encoder.layer.0"), "clip": ("vision_model.encoder.layers.0",)}
    names = dict(model.named_modules())
    layer = next(name for name in blocks.get(family, ("resnet.encoder.stages.0",)) if name in names)
    pixels = normal(1, 3, 8, 8)
    quarters = torch.tensor([[0, 1], [2, -1]]).repeat_interleave(4, 0).repeat_interleave(4, 1)
    kept = []
    hook = names[layer].register_forward_hook(lambda _, args, out: kept.append(out if torch.is_tensor(out) else out[0]))
    with torch.no_grad():
        model(pixel_values=pixels)
        pooled = {
            "class token": lambda states: states[:, 0],
            "patches": lambda states: states[:, 1:].mean(1),  # the class token is not read
            "map": lambda states: states.flatten(1),
        }[reads]
        readout = torch.nn.Linear(pooled(kept[-1]).numel(), 3)

        def value(x):
            model(pixel_values=x)
            return readout(pooled(kept[-1]))[0, 1]

        table = naive_table(value, (pixels,), (torch.zeros_like(pixels),), (quarters.expand(1, 3, 8, 8),), 0)
    hook.remove()
    method = LayerAndOrInteraction(model, layer, probe=readout, score="logit", kind="and", noise=0)
    assert_tables(method.attribute(pixels, 0, 1, feature_mask=quarters), [table])


# ---------------------------------------------------------------- reading at the last token


DECODERS = pytest.mark.parametrize("family", ["gpt2", "llama"])


def compiled(model):
    skip_old_masks()
    return torch.compile(model, backend="eager")


def compiled_in_place(model):
    skip_old_masks()
    model.compile(backend="eager")
    return model


def skip_old_masks():
    if torch.__version__ < (2, 5):
        pytest.skip("transformers writes into the expanded masks that it makes for torch 2.4, which cannot be compiled")


def with_hooks_of_accelerate(model):
    hooks = pytest.importorskip("accelerate.hooks", reason="accelerate is an extra of its own: pip install accelerate")
    hooks.add_hook_to_module(model, hooks.ModelHook())
    return model


def adapted(model):
    peft = pytest.importorskip("peft", reason="peft is an extra of its own: pip install peft")
    target = "c_attn" if hasattr(model, "transformer") else "q_proj"
    settings = {"task_type": "SEQ_CLS", "target_modules": [target], "fan_in_fan_out": target == "c_attn"}
    return peft.get_peft_model(model, peft.LoraConfig(**settings)).eval()


WRAPPERS = {
    "DataParallel": lambda model: data_parallel(model).eval(),
    "compile": compiled,
    "compile in place": compiled_in_place,
    "DataParallel of compiled": lambda model: data_parallel(compiled(model)).eval(),
    "accelerate": with_hooks_of_accelerate,
    "peft": adapted,
}


@DECODERS
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("mask", [True, False])
def test_a_padding_token_in_the_place_of_words_does_not_move_the_reading(family, side, mask):
    """By the outputs of all tokens, of which the classifier picks one."""
    model = loaded(family)
    turn = (lambda x: x.flip(1)) if side == "left" else (lambda x: x)
    ids, words = turn(IDS), turn(WORDS)
    given = {"attention_mask": turn(ATTENTION)} if mask else {}
    if mask and side == "left":  # positions begin at the first token, whatever the longest text in the batch is
        given["position_ids"] = (given["attention_mask"].cumsum(1) - 1).clamp_min(0)
    every_token = []
    hook = model.score.register_forward_hook(lambda _, args, out: every_token.append(out))

    def value(row, b):
        model(input_ids=row, **{name: tensor[b : b + 1] for name, tensor in given.items()})
        return every_token[-1][0, int(turn(ATTENTION)[b].nonzero().max()), 2]

    tables = tables_by_hand(value, ids, words, absent=0)
    hook.remove()
    with torch.no_grad():
        own = model(input_ids=ids, **given).logits[:, 2].double()
    given.pop("position_ids", None)
    told = pytest.warns(UserWarning, match="got no attention_mask") if side == "left" and not mask else nullcontext()
    with told:
        found = plain(model).attribute({"input_ids": ids, **given}, 0, 2, feature_mask=words, perturbations_per_eval=3)
    assert_tables(found, tables)
    own_output = torch.stack([table[-1] for table in tables])
    torch.testing.assert_close(own_output, own, atol=1e-5, rtol=1e-5)  # v(N) is the model's own output
    assert model.config.pad_token_id == 0


@DECODERS
def test_a_decoder_without_a_padding_token(family):
    model_class, config_class, settings = TEXT[family][:3]
    settings = {**settings, "pad_token_id": None}
    model = made(getattr(transformers, model_class), getattr(transformers, config_class), **settings)
    ids, words = IDS[:1], WORDS[:1]
    found = plain(model).attribute(ids, ABSENT, 1, feature_mask=words)
    assert_tables(found, tables_by_hand(lambda row, b: model(input_ids=row).logits[0, 1], ids, words))
    assert model.config.pad_token_id is None


@DECODERS
def test_a_removed_token_is_not_read_from(family):
    """The classifier reads at the last token that is left, as if the others had never been there."""
    model = loaded(family)
    ids, words = IDS[:1], torch.tensor([[-1, 0, 1, 2, 0]])  # the last token goes, too
    mask = torch.ones_like(ids)

    def value(shown, b):
        left = shown[0].nonzero().flatten()
        return model(input_ids=ids[:, left], position_ids=left[None]).logits[0, 2]

    tables = tables_by_hand(value, mask, words, absent=0)
    players = players_from_mask((mask,), 0, words)
    players = replace(players, names=("attention_mask",), constants={"input_ids": ids}, is_tuple=False)
    assert_tables(plain(model).attribute(players, target=2), tables)
    assert model.config.pad_token_id == 0


def test_a_copy_without_a_token_is_refused():
    mask = torch.ones_like(IDS[:1])
    players = players_from_mask((mask,), 0, torch.zeros_like(mask))
    players = replace(players, names=("attention_mask",), constants={"input_ids": IDS[:1]}, is_tuple=False)
    with pytest.raises(ValueError, match=r"attention mask of a masked copy shows no token.*words=.*baseline="):
        plain(loaded("gpt2")).attribute(players, target=2)


def test_padding_that_a_player_owns_does_not_move_the_reading():
    model = loaded("gpt2")
    ids = torch.tensor([[7, 12, 30, 0]])
    words = torch.tensor([[0, 1, -1, 1]])
    attention = (ids != 0).long()

    def value(row, b):
        return model(input_ids=row[:, :3], attention_mask=attention[:, :3]).logits[0, 1]

    found = plain(model).attribute({"input_ids": ids, "attention_mask": attention}, 5, 1, feature_mask=words)
    assert_tables(found, tables_by_hand(value, ids, words, absent=5))


@DECODERS
@pytest.mark.parametrize("wrap", [*WRAPPERS])
def test_the_reading_is_fixed_without_a_change_to_the_model(family, wrap):
    """The configuration is never written to, not even during a forward, and wrappers are looked through."""
    model, seen = loaded(family), set()
    expected = plain(model).attribute(WHOLE, 0, 1, feature_mask=WORDS)
    model.base_model.register_forward_pre_hook(lambda *_: seen.add(model.config.pad_token_id))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch about compiling
        found = plain(WRAPPERS[wrap](model)).attribute(WHOLE, 0, 1, feature_mask=WORDS)
    assert_tables(found, [one.values for one in expected])
    assert seen <= {0}


def test_a_forward_that_cannot_be_called_for_a_copy_is_refused():
    model = loaded("gpt2")
    record(model)
    with pytest.raises(ValueError, match=r"forward of GPT2ForSequenceClassification was replaced by .*baseline="):
        plain(model).attribute(WHOLE, 0, 1, feature_mask=WORDS)


# ---------------------------------------------------------------- heads whose outputs are not classes


@pytest.mark.parametrize("score", ["log_odds", "log_prob", "prob", "margin"])
def test_the_labels_of_a_multi_label_head_are_scored_each_by_itself(score):
    """`margin` says what it compares, and compares it here too."""
    config = SMALL | {"problem_type": "multi_label_classification"}
    model = made(transformers.BertForSequenceClassification, transformers.BertConfig, **config)

    def value(row, b):
        z = model(input_ids=row).logits[0].double()
        p = z[1].sigmoid()
        by_hand = {"log_odds": z[1], "log_prob": p.log(), "prob": p, "margin": z[1] - max(z[0], z[2])}
        return by_hand[score]

    assert_tables(
        plain(model, score=score).attribute(WHOLE, ABSENT, 1, feature_mask=WORDS), tables_by_hand(value, WHOLE)
    )


def test_a_layer_of_a_multi_label_head():
    config = SMALL | {"problem_type": "multi_label_classification"}
    model = made(transformers.BertForSequenceClassification, transformers.BertConfig, **config)
    readout = torch.nn.Linear(16, 3)

    def value(row, b):
        return readout(model(input_ids=row, output_hidden_states=True).hidden_states[1][:, 0])[0, 1]

    method = LayerAndOrInteraction(model, 0, probe=readout, score="log_odds", kind="and", noise=0)
    assert_tables(method.attribute(WHOLE, ABSENT, 1, feature_mask=WORDS), tables_by_hand(value, WHOLE))


@pytest.mark.parametrize(
    ("problem", "labels", "kind"),
    [("multi_label_classification", 3, "labels"), ("regression", 1, "values"), (None, 3, "classes")],
)
def test_heads_that_say_what_they_are(problem, labels, kind):
    config = SMALL | {"num_labels": labels, "problem_type": problem}
    model = made(transformers.BertForSequenceClassification, transformers.BertConfig, **config)
    assert Model(model).output_kind == kind
    found = plain(model).attribute(WHOLE, ABSENT, 0, feature_mask=WORDS)
    assert_tables(found, tables_by_hand(lambda row, b: model(input_ids=row).logits[0, 0], WHOLE))


def test_a_regression_needs_no_target_and_no_other_score():
    config = SMALL | {"num_labels": 1, "problem_type": "regression"}
    model = made(transformers.BertForSequenceClassification, transformers.BertConfig, **config)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = plain(model, score="log_odds").attribute(WHOLE, ABSENT, feature_mask=WORDS)
    assert_tables(found, tables_by_hand(lambda row, b: model(input_ids=row).logits[0, 0], WHOLE))
