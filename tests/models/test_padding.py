"""Real tokens under any name of the mask, and the token that a head reads where its place depends on the row."""

import pytest
import torch
import transformers
from test_families import SMALL
from tiny_models import made
from torch import nn

from captum_lkn import AndOrInteraction, LayerAndOrInteraction, logit_lens
from captum_lkn.models.arguments import Arguments
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


@pytest.mark.filterwarnings("ignore:the forward does not tell")
def test_a_mask_whose_meaning_is_not_known_is_refused():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.words = nn.Embedding(12, 8)

        def forward(self, ids, padding):
            return (self.words(ids) * ~padding[..., None]).sum((1, 2))

    net = Own().eval()
    with pytest.raises(ValueError, match=r"whether 'padding' marks its padding or its real tokens.*attention_mask"):
        read_one(net, "words", IDS, padding=PADDING)
    torch.testing.assert_close(read_one(net, Layer("words", pool="cls"), IDS, padding=PADDING), net.words(IDS)[:, 0])
    assert read_one(net, "words", IDS, padding=torch.zeros_like(PADDING)).shape == (2, 8)  # nothing is padding


@pytest.mark.parametrize("kind", ["additive", "bool"])
def test_a_mask_of_four_dimensions(kind):
    model = made(transformers.BertForSequenceClassification, transformers.BertConfig, **SMALL)
    seen = ~PADDING[:, None, None].expand(2, 1, 6, 6)
    mask = seen if kind == "bool" else torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)
    plain_mask = (~PADDING).long()
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
