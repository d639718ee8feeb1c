"""Real tokens under any name of the mask, and the token that a head reads where its place depends on the row."""

import pytest
import torch
import transformers
from test_families import SMALL
from tiny_models import made
from torch import nn

from captum_lkn import AndOrInteraction, LayerAndOrInteraction, logit_lens
from captum_lkn.models.arguments import Arguments
from captum_lkn.models.hugging_face.padding import tower_of
from captum_lkn.models.layers import Layer, find_layers
from captum_lkn.models.model import Model
from captum_lkn.models.reading import LayerReader
from captum_lkn.outputs.heads import SelectOutput

IDS = torch.tensor([[3, 5, 7, 2, 0, 0], [4, 4, 6, 8, 9, 1]])
PADDING = IDS == 0


class Texts(nn.Module):
    """A transformer of torch's own, whose padding mask has any name."""

    def __init__(self, nested=False, call="keyword"):
        super().__init__()
        self.words, self.out, self.call = nn.Embedding(12, 8), nn.Linear(8, 2), call
        block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.encoder = nn.TransformerEncoder(block, 2, enable_nested_tensor=nested)

    def forward(self, ids, silent):
        x = self.words(ids)
        if self.call == "keyword":
            x = self.encoder(x, src_key_padding_mask=silent)
        elif self.call == "position":
            x = self.encoder(x, None, silent)
        else:  # additive
            x = self.encoder(x, src_key_padding_mask=torch.zeros(silent.shape).masked_fill(silent, -torch.inf))
        return self.out(x[:, 0])


def texts(**settings):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Texts(**settings).eval()


def read_one(forward, layer, *inputs, unmasked=None, **keywords):
    model = Model(forward)
    with model.session(), LayerReader(model, find_layers(model, layer)) as reader:
        return reader(Arguments(inputs, keywords=keywords, unmasked=unmasked))[1][0]


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("call", ["keyword", "position", "additive"])
@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("layer", ["words", "encoder.layers.0", "encoder.layers.1", "encoder"])
def test_the_padding_mask_of_a_transformer_of_torch(layer, nested, call):
    net = texts(nested=nested, call=call)
    with torch.no_grad():
        states = [net.words(IDS)]
        for block in net.encoder.layers:
            states.append(block(states[-1], src_key_padding_mask=PADDING))
    expected = states[{"words": 0, "encoder.layers.0": 1, "encoder.layers.1": 2, "encoder": 2}[layer]]
    found = read_one(net, Layer(layer, pool="mean"), IDS, silent=PADDING)
    by_hand = torch.stack([expected[0, :4].mean(0), expected[1].mean(0)])
    torch.testing.assert_close(found, by_hand, atol=1e-5, rtol=1e-4)
    last = read_one(net, Layer(layer, pool="last"), IDS, silent=PADDING)
    torch.testing.assert_close(last, torch.stack([expected[0, 3], expected[1, 5]]), atol=1e-5, rtol=1e-4)


class Mean(nn.Module):
    """A mean over real tokens, which it is told in one way; `reads` is the share of padding that counts as well."""

    def __init__(self, kind, reads=0.0):
        super().__init__()
        torch.manual_seed(0)
        self.words, self.mix, self.out = nn.Embedding(12, 8), nn.Linear(8, 8), nn.Linear(8, 2)
        self.kind, self.reads = kind, reads

    def forward(self, ids, marks=None):
        real = self.real(ids, marks).float()[..., None] + self.reads
        x = self.mix(torch.tanh(self.words(ids)))
        return self.out((x * real).sum(1) / real.sum(1))

    def real(self, ids, marks):
        if self.kind == "lengths":
            return torch.arange(ids.shape[1]) < marks.reshape(-1, 1)
        if self.kind == "own":
            return ids != 0
        return marks == 0 if self.kind == "padding" else marks > 0


LENGTHS = torch.tensor([4, 6])
MARKS = {
    "valid": ~PADDING,
    "integers": (~PADDING).long() * 3,
    "padding": PADDING.float(),
    "lengths": LENGTHS,
    "lengths in a column": LENGTHS[:, None],
    "own": None,
}


@pytest.mark.parametrize(
    ("kind", "side"), [(k, s) for k in MARKS for s in ("right", "left") if s == "right" or "lengths" not in k]
)
def test_padding_is_found_whatever_marks_it(kind, side):
    """A layer is pooled as for each text alone, by hand."""
    net = Mean(kind.split(" in")[0]).eval()
    ids, marks = (x if x is None or side == "right" else x.flip(1) for x in (IDS, MARKS[kind]))
    given = () if marks is None else (marks,)
    model, hidden = Model(net), net.mix(torch.tanh(net.words(ids))).detach()
    alone = [row[text != 0] for row, text in zip(hidden, ids, strict=True)]
    expected = {"mean": torch.stack([x.mean(0) for x in alone]), "last": torch.stack([x[-1] for x in alone])}
    for pool in ("auto", "mean", "last"):
        with model.session(), LayerReader(model, find_layers(model, Layer("mix", pool=pool))) as reader:
            for _ in range(2):  # the second time it is known
                found = reader(Arguments((ids,), positional=given))[1][0]
                torch.testing.assert_close(found, expected["mean" if pool == "auto" else pool])


@pytest.mark.parametrize("marks", [LENGTHS, ~PADDING], ids=["lengths", "valid"])
def test_padding_that_counts_in_spite_of_its_marks_is_refused(marks):
    net = Mean("lengths" if marks is LENGTHS else "valid", reads=0.1).eval()
    with pytest.raises(ValueError, match=r"'(lengths|valid)' does not tell which of its tokens are padding.*attention"):
        read_one(
            lambda ids, **named: net(ids, *named.values()),
            net.mix,
            IDS,
            **{"lengths" if marks is LENGTHS else "valid": marks},
        )


def test_arguments_that_mark_something_else_mark_no_padding():
    """Kinds of tokens, and numbers of classes as small as lengths."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.words, self.kinds, self.out = nn.Embedding(12, 8), nn.Embedding(2, 8), nn.Linear(8, 2)

        def forward(self, ids, kinds, label):
            return self.out(torch.tanh(self.words(ids) + self.kinds(kinds)).mean(1)) * label[:, None]

    net = Net().eval()
    ids, kinds = IDS[1:].repeat(2, 1), torch.tensor([[0, 0, 1, 1, 1, 1], [0, 0, 0, 0, 1, 1]])
    found = read_one(net, Layer("words", pool="mean"), ids, kinds=kinds, label=torch.tensor([1, 2]))
    torch.testing.assert_close(found, net.words(ids).mean(1))


def test_padding_is_that_of_the_unmasked_text():
    """Absent words are the padding token, by which the model finds the end."""
    net = Mean("own").eval()
    owners = torch.where(PADDING, -1, torch.arange(6).expand(2, 6)).clamp_max(3)
    method = LayerAndOrInteraction(
        net, Layer("words", pool="mean"), probe=lambda f: f[:, :2], score="logit", kind="and"
    )
    together = method.attribute(IDS, 0, 1, feature_mask=owners)
    alone = method.attribute(IDS[:1, :4], 0, 1, feature_mask=owners[:1, :4])
    torch.testing.assert_close(together[0].values, alone[0].values)


class Translation(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(12, 8)
        self.t = nn.Transformer(8, 2, 1, 1, 16, batch_first=True)
        self.out = nn.Linear(8, 2)

    def forward(self, ids, target, **masks):
        return self.out(self.t(self.words(ids), self.words(target), **masks)[:, 0])


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("given", [True, False])
def test_a_decoder_has_the_mask_of_its_own_tokens(given):
    net = Translation().eval()
    of_target = torch.tensor([[False] * 5 + [True], [False] * 3 + [True] * 3])
    masks = {"src_key_padding_mask": PADDING, "memory_key_padding_mask": PADDING}
    if given:
        masks["tgt_key_padding_mask"] = of_target
    for layer in ("t.decoder.layers.0", "t.decoder", "t.decoder.layers.0.multihead_attn", "t.encoder.layers.0"):
        kept = []
        handle = net.get_submodule(layer).register_forward_hook(lambda m, a, out, kept=kept: kept.append(out))
        with torch.no_grad():
            net(IDS, IDS, **masks)
        handle.remove()
        out = kept[0][0] if isinstance(kept[0], tuple) else kept[0]
        out = out.to_padded_tensor(0.0) if out.is_nested else out
        padding = PADDING if "encoder" in layer else of_target if given else torch.zeros_like(PADDING)
        expected = torch.stack([row[~hidden].mean(0) for row, hidden in zip(out, padding, strict=True)])
        found = read_one(net, Layer(layer, pool="mean"), IDS, target=IDS, **masks)
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    with pytest.raises(ValueError, match="several padding masks of that shape"):
        read_one(net, Layer("words", pool="mean", call_index=1), IDS, target=IDS, **masks)


@pytest.mark.parametrize("kind", ["additive", "bool"])
def test_a_mask_of_four_dimensions(kind):
    model = made(transformers.BertForSequenceClassification, transformers.BertConfig, **SMALL)
    seen = ~PADDING[:, None, None].expand(2, 1, 6, 6)
    mask = seen if kind == "bool" else torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)
    plain_mask = (~PADDING).long()
    try:
        model(IDS, attention_mask=mask)
    except ValueError as error:
        pytest.skip(f"BERT of this release of transformers takes no such mask: {error}")
    for pool in ("mean", "last", "auto"):
        layer = Layer(1, pool=pool)
        found = read_one(model, layer, IDS, attention_mask=mask)
        torch.testing.assert_close(found, read_one(model, layer, IDS, attention_mask=plain_mask), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("given", ["2-D", "4-D", "none", "none, in the text"])
def test_a_decoder_is_read_where_its_head_reads(given):
    settings = SMALL | {"num_key_value_heads": 1, "pad_token_id": 0}
    model = made(transformers.LlamaForSequenceClassification, transformers.LlamaConfig, **settings)
    hidden = torch.full((6, 6), torch.finfo(torch.float32).min).triu(1)[None, None].repeat(2, 1, 1, 1)
    hidden = hidden.masked_fill(PADDING[:, None, None], torch.finfo(torch.float32).min)
    masks = {"2-D": (~PADDING).long(), "4-D": hidden, "none, in the text": torch.ones_like(IDS)}
    keywords = {"attention_mask": masks[given]} if given in masks else {}
    lens = logit_lens(model)
    feature = read_one(model, 1, IDS, **keywords)
    with torch.no_grad():
        torch.testing.assert_close(lens(feature), model(IDS, **keywords).logits, atol=1e-5, rtol=1e-4)
    owners = torch.tensor([[0, 1, 2, -1, -1, -1]]).expand(2, 6)
    method = LayerAndOrInteraction(model, ["model.layers.1", "output"], probe=lens, noise=0, kind="and")
    found = method.attribute(IDS, 0, 1, keywords or None, feature_mask=owners)  # absent words are the padding token
    for block, output in zip(found["model.layers.1"], found["output"], strict=True):
        torch.testing.assert_close(block.values, output.values, atol=1e-4, rtol=1e-4)


TOWERS = {
    "clip": (transformers.CLIPTextModelWithProjection, transformers.CLIPTextConfig, {"eos_token_id": 50}),
    "clip, old": (transformers.CLIPTextModelWithProjection, transformers.CLIPTextConfig, {"eos_token_id": 2}),
    "siglip": (transformers.SiglipTextModel, transformers.SiglipTextConfig, {}),
}


@pytest.mark.parametrize("name", TOWERS)
def test_a_text_tower_is_read_where_it_pools(name):
    model_class, config_class, more = TOWERS[name]
    sizes = {key: value for key, value in SMALL.items() if key not in ("num_labels", "initializer_range")}
    model = made(model_class, config_class, **sizes, pad_token_id=1, bos_token_id=49, **more)
    ids = torch.tensor([[49, 7, 12, 50, 1, 1], [49, 8, 9, 30, 31, 50]])
    mask = (ids != 1).long()
    at = [5, 5] if name == "siglip" else [3, 5]
    with torch.no_grad():
        states = model(ids, attention_mask=mask, output_hidden_states=True).hidden_states[1]
    block = next(n for n, _ in model.named_modules() if n.endswith("layers.0"))
    selected = SelectOutput(model, lambda output: output[1 if name == "siglip" else 0])  # a tower returns no logits
    found = read_one(selected, block, ids, attention_mask=mask)
    torch.testing.assert_close(found, torch.stack([states[b, at[b]] for b in range(2)]), atol=1e-5, rtol=1e-4)


def test_a_class_derived_from_a_classifier_has_its_numbers():
    """Its reading position is kept as well, where the masks put padding tokens at the end."""
    sizes = {"vocab_size": 20, "n_positions": 8, "n_embd": 8, "n_layer": 1, "n_head": 2}
    tokens = {"pad_token_id": 0, "bos_token_id": 18, "eos_token_id": 19}

    class WithOwnLoss(transformers.GPT2ForSequenceClassification):
        pass

    classes = transformers.GPT2ForSequenceClassification, WithOwnLoss
    original, derived = (made(each, transformers.GPT2Config, **sizes, **tokens) for each in classes)
    assert torch.equal(original.score.weight, derived.score.weight)
    ids = torch.tensor([[3, 5, 7]])
    tables = [AndOrInteraction(model).attribute(ids, 0, target=1)[0].values for model in (original, derived)]
    assert torch.equal(*tables)


@pytest.mark.parametrize("given", ["mask", "ids", "neither"])
def test_the_decoder_of_a_translator_has_its_own_padding(given):
    sizes = {"vocab_size": 50, "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "init_std": 0.5}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    tokens = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2}
    model = made(transformers.BartModel, transformers.BartConfig, **sizes, **heads, **tokens)
    forward = SelectOutput(model, lambda output: output.last_hidden_state[:, 0])
    target = torch.tensor([[2, 9, 9, 0, 0, 0], [2, 8, 8, 8, 8, 0]])
    keywords = {"attention_mask": (~PADDING).long()}
    real = {"mask": target != 9, "ids": target != 0}.get(
        given, torch.cat([torch.ones(2, 1), ~PADDING[:, :-1]], 1).bool()
    )
    if given != "neither":
        keywords["decoder_input_ids"] = target
    if given == "mask":
        keywords["decoder_attention_mask"] = real.long()
    with torch.no_grad():
        states = model(IDS, **keywords, output_hidden_states=True)
    for layer, hidden, own in (
        ("decoder", states.decoder_hidden_states, real),
        ("encoder", states.encoder_hidden_states, ~PADDING),
    ):
        found = read_one(forward, Layer(f"{layer}.layers.0", pool="mean"), IDS, **keywords)
        expected = torch.stack([row[kept].mean(0) for row, kept in zip(hidden[1], own, strict=True)])
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_an_encoder_of_images_has_no_padding_of_the_text():
    """Four patches and a class token are as many as the tokens of the text."""
    text = {key: value for key, value in SMALL.items() if key not in ("num_labels", "initializer_range")}
    image = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.CLIPConfig(
        text_config=text | {"eos_token_id": 9}, vision_config=image | {"image_size": 4, "patch_size": 2}
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.CLIPModel(config).eval()
    ids, pixels = torch.tensor([[3, 9, 0, 0, 0], [3, 4, 5, 6, 9]]), torch.rand(2, 3, 4, 4)
    kept = []
    handle = model.vision_model.encoder.layers[0].register_forward_hook(lambda m, a, out: kept.append(out))
    mask = (ids != 0).long()
    with torch.no_grad():
        model(ids, pixels, mask)
    handle.remove()
    out = kept[0] if isinstance(kept[0], torch.Tensor) else kept[0][0]
    forward = SelectOutput(model, lambda output: output.logits_per_text)
    layer = Layer("vision_model.encoder.layers.0", pool="mean")
    found = read_one(forward, layer, ids, pixel_values=pixels, attention_mask=mask)
    torch.testing.assert_close(found, out.mean(1), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("batch", [2, 3])
def test_a_recurrent_layer_over_packed_sequences(batch):
    """With two directions and two rows, its last state has a first dimension of the rows."""

    class Packed(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.words, self.out = nn.Embedding(12, 8), nn.Linear(8, 2)
            self.gru = nn.GRU(8, 4, batch_first=True, bidirectional=True)

        def forward(self, ids, lengths):
            packed = nn.utils.rnn.pack_padded_sequence(self.words(ids), lengths, True, enforce_sorted=False)
            return self.out(self.gru(packed)[1].transpose(0, 1).flatten(1))

    net = Packed().eval()
    ids, lengths = torch.cat([IDS, IDS])[:batch], torch.cat([LENGTHS, LENGTHS])[:batch]
    for layer in ("gru", "words"):
        module = net.get_submodule(layer)
        for pool in ("mean", "last"):
            found = read_one(net, Layer(layer, pool=pool), ids, lengths=lengths)
            for row, length in enumerate(lengths.tolist()):
                words = net.words(ids[row : row + 1, :length])
                states = module(words)[0][0] if layer == "gru" else words[0]
                torch.testing.assert_close(found[row], states.mean(0) if pool == "mean" else states[-1])


def test_parts_of_a_model_by_their_tokens():
    """A module that is shared is found under each of its names."""
    sizes = {"vocab_size": 12, "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 2, "num_heads": 2}
    net = made(transformers.T5ForConditionalGeneration, transformers.T5Config, **sizes)
    assert tower_of(net, net.encoder.block[0]) == "text"
    assert tower_of(net, net.decoder.block[1].layer[0]) == "decoder"
    net.decoder.add_module("shared", net.encoder.block[1])
    assert tower_of(net, net.encoder.block[1]) == "decoder"
    vision = {
        name: SMALL[name] for name in ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    }
    clip = made(
        transformers.CLIPModel,
        transformers.CLIPConfig,
        vision_config=vision | {"image_size": 8, "patch_size": 4},
        text_config=SMALL,
    )
    assert tower_of(clip, clip.vision_model.encoder.layers[0]) == "no text"
    assert tower_of(clip, clip.text_model.encoder.layers[0]) == "text"
    assert tower_of(nn.Sequential(nn.Linear(2, 2)), nn.Linear(2, 2)) == "text"


def test_modules_are_not_walked_in_each_forward(monkeypatch):
    """On a network of hundreds of modules that took a tenth of an analysis."""
    net, walks, walk = (
        made(transformers.BertForSequenceClassification, transformers.BertConfig, **SMALL),
        [],
        nn.Module.named_modules,
    )
    monkeypatch.setattr(nn.Module, "named_modules", lambda *args, **kwargs: walks.append(1) or walk(*args, **kwargs))
    model = Model(net)
    arguments = Arguments((IDS,), keywords={"attention_mask": (~PADDING).long()})
    with model.session(), LayerReader(model, find_layers(model, "bert.encoder.layer.0")) as reader:
        reader(arguments)
        walks.clear()
        reader(arguments)
    assert not walks
