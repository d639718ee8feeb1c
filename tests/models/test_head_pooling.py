"""Tokens that heads read, as one forward shows it: against poolings written down by hand."""

import warnings

import pytest
import torch
import transformers
from forwards import normal
from tiny_models import made
from torch import nn

from captum_lkn.models.arguments import Arguments
from captum_lkn.models.layers import Layer, find_layers
from captum_lkn.models.model import Model
from captum_lkn.models.reading import LayerReader

TOKENS = normal(3, 5, 8)
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0]])


def read_one(model, layer, inputs, **keywords):
    model = Model(model)
    with model.session(), LayerReader(model, find_layers(model, layer)) as reader:
        return reader(Arguments((inputs,), keywords=keywords))[1][0]


def masked_mean(states, mask):
    return torch.stack([row[real.bool()].mean(0) for row, real in zip(states, mask, strict=True)])


class Pools(nn.Module):
    """A block, a norm and a head that takes what a function makes of the tokens."""

    def __init__(self, pool, width):
        super().__init__()
        self.block, self.norm, self.pool = nn.Linear(8, 8), nn.LayerNorm(8), pool
        self.head = nn.Linear(width, 2)

    def forward(self, x, attention_mask=None):
        states = x + self.block(x)
        return self.head(self.pool(self.norm(states), attention_mask))


POOLINGS = {
    "first": (8, lambda h, m: h[:, 0]),
    "mean": (8, lambda h, m: h.mean(1)),
    "sum": (8, lambda h, m: h.sum(1)),
    "all but the first": (8, lambda h, m: h[:, 1:].mean(1)),
    "very last": (8, lambda h, m: h[:, -1]),
    "first and others": (16, lambda h, m: torch.cat([h[:, 0], h[:, 1:].mean(1)], 1)),
    "two of them": (8, lambda h, m: (h[:, 0] + h[:, 1]) / 2),
    "uneven": (8, lambda h, m: torch.einsum("rtd,t->rd", h, torch.tensor([0.5, 0.2, 0.1, 0.1, 0.1]))),
    "all": (40, lambda h, m: h.flatten(1)),
}


@pytest.mark.parametrize("name", POOLINGS)
def test_a_layer_is_pooled_as_the_head_does(name):
    width, pool = POOLINGS[name]
    net = Pools(pool, width).eval()
    expected = pool(net.block(TOKENS), None) / (5 if name == "sum" else 1)  # a sum is a mean in another unit
    torch.testing.assert_close(read_one(net, "block", TOKENS), expected)


@pytest.mark.parametrize("name", ["mean", "last", "first", "all but the first"])
def test_padding_does_not_count(name):
    def pool(h, mask):
        last = mask.sum(1) - 1
        others = torch.cat([torch.zeros_like(mask[:, :1]), mask[:, 1:]], 1)
        return {
            "mean": lambda: (h * mask[..., None]).sum(1) / mask.sum(1, keepdim=True),
            "last": lambda: h[torch.arange(len(h)), last],
            "first": lambda: h[:, 0],
            "all but the first": lambda: (h * others[..., None]).sum(1) / others.sum(1, keepdim=True),
        }[name]()

    net = Pools(pool, 8).eval()
    found = read_one(net, "block", TOKENS, attention_mask=MASK)
    torch.testing.assert_close(found, pool(net.block(TOKENS), MASK))


@pytest.mark.parametrize("frozen", [True, False])
def test_two_heads_that_take_two_tokens_and_a_branch_that_is_not_used(frozen):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.block, self.one, self.two, self.unused = (nn.Linear(8, 8) for _ in range(4))

        def forward(self, x):
            states = self.block(x)
            self.unused(states.mean(1))
            return self.one(states[:, 0]) + self.two(torch.tanh(self.two(states[:, 3])))

    net = Two().eval().requires_grad_(not frozen)
    states = net.block(TOKENS)
    torch.testing.assert_close(read_one(net, "block", TOKENS), torch.cat([states[:, 0], states[:, 3]], 1))
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize("taken", ["output", "state"])
@pytest.mark.parametrize("batch_first", [True, False])
def test_a_recurrent_model_is_read_at_its_last_step(taken, batch_first):
    class Reads(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.head = nn.LSTM(8, 6, batch_first=batch_first), nn.Linear(6, 2)

        def forward(self, x):
            states, (last, _) = self.lstm(x if batch_first else x.transpose(0, 1))
            states = states if batch_first else states.transpose(0, 1)
            return self.head(states[:, -1] if taken == "output" else last[-1])

    net = Reads().eval()
    for rows in (1, 3, 5):  # of 5 tokens
        tokens = normal(rows, 5, 8)
        states = net.lstm(tokens if batch_first else tokens.transpose(0, 1))[0]
        expected = states[:, -1] if batch_first else states[-1]
        torch.testing.assert_close(read_one(net, "lstm", tokens), expected)


@pytest.mark.parametrize("pool", [lambda h: (h.softmax(1) * h).sum(1), lambda h: h.amax(1)], ids=["attention", "max"])
def test_a_pooling_that_is_no_fixed_sum_is_told(pool):
    net = Pools(lambda h, _: pool(h), 8).eval()
    with pytest.warns(match=r"head of Pools takes of the tokens of layer 'block', so that pool='auto' takes the mean"):
        found = read_one(net, "block", TOKENS)
    torch.testing.assert_close(found, net.block(TOKENS).mean(1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_one(net, Layer("block", pool="mean"), TOKENS)


def test_forwards_under_inference_mode_and_of_another_length():
    net = Pools(POOLINGS["two of them"][1], 8).eval()
    model = Model(net)
    with torch.inference_mode(), model.session(), LayerReader(model, find_layers(model, "block")) as reader:
        for tokens in (normal(3, 5, 8), normal(2, 7, 8)):
            found = reader(Arguments((tokens,)))[1][0]
            torch.testing.assert_close(found, net.block(tokens)[:, :2].mean(1))


# ---------------------------------------------------------------- convolutions over one dimension


class Signals(nn.Module):
    def __init__(self, head):
        super().__init__()
        self.body = nn.Sequential(nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4), nn.ReLU(), nn.Conv1d(4, 6, 3), nn.ReLU())
        self.head = head

    def forward(self, x):
        return self.head(self.body(x))


SIGNAL = normal(3, 2, 10)
HEADS = {
    "average": (lambda: (nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(6, 2)), lambda h: h.mean(2)),
    "flat": (lambda: (nn.Flatten(), nn.Linear(36, 2)), lambda h: h.flatten(1)),
    "maximum": (lambda: (nn.AdaptiveMaxPool1d(1), nn.Flatten(), nn.Linear(6, 2)), lambda h: h.flatten(1)),
}


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("layer", ["body", "body.3", "body.4"])
def test_channels_of_a_convolution_are_second(name, layer):
    head, pool = HEADS[name]
    net = Signals(nn.Sequential(*head())).eval()
    states = net.body[:4](SIGNAL) if layer == "body.3" else net.body(SIGNAL)
    torch.testing.assert_close(read_one(net, layer, SIGNAL), pool(states))
    torch.testing.assert_close(read_one(net, Layer(layer, pool="mean"), SIGNAL), states.mean(2))
    torch.testing.assert_close(read_one(net, Layer(layer, pool="last"), SIGNAL), states[:, :, -1])
    torch.testing.assert_close(read_one(net, Layer(layer, pool="flatten"), SIGNAL), states.flatten(1))


def test_as_many_frames_as_channels():
    net = Signals(nn.Sequential(nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(6, 2))).eval()
    square = normal(3, 2, 10)  # 6 frames of 6 channels
    assert net.body(square).shape == (3, 6, 6)
    torch.testing.assert_close(read_one(net, "body", square), net.body(square).mean(2))


# ---------------------------------------------------------------- models of transformers

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16, "num_labels": 3}
IMAGES = SMALL | {"image_size": 8, "patch_size": 4}
FAMILIES = {
    "vit": ("ViTForImageClassification", "ViTConfig", {}, lambda h: h[:, 0]),
    "beit": ("BeitForImageClassification", "BeitConfig", {}, lambda h: h[:, 1:].mean(1)),
    "beit, first": (
        "BeitForImageClassification",
        "BeitConfig",
        {"use_mean_pooling": False},
        lambda h: h[:, 0],
    ),
    "dinov2": (
        "Dinov2ForImageClassification",
        "Dinov2Config",
        {"mlp_ratio": 1},
        lambda h: torch.cat([h[:, 0], h[:, 1:].mean(1)], 1),
    ),
    "deit": (
        "DeiTForImageClassificationWithTeacher",
        "DeiTConfig",
        {},
        lambda h: torch.cat([h[:, 0], h[:, 1]], 1),
    ),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_blocks_of_image_classifiers(name):
    model_class, config_class, sizes, pool = FAMILIES[name]
    model = made(getattr(transformers, model_class), getattr(transformers, config_class), **IMAGES, **sizes)
    pixels = normal(2, 3, 8, 8)
    with torch.no_grad():
        states = model(pixels, output_hidden_states=True).hidden_states[1]
    torch.testing.assert_close(read_one(model, 0, pixels), pool(states))
