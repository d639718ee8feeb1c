"""Layers: what a name means, and what is read while a model runs, against hooks made by hand."""

import functools
import json

import pytest
import torch
from forwards import data_parallel, normal
from tiny_models import made
from torch import nn
from transformers import (
    AlbertConfig,
    AlbertForSequenceClassification,
    BartConfig,
    BartForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    ViTConfig,
    ViTForImageClassification,
    XLNetConfig,
    XLNetForSequenceClassification,
)

from captum_lkn.models.arguments import Arguments
from captum_lkn.models.fingerprint import fingerprint
from captum_lkn.models.layers import Layer, find_layers
from captum_lkn.models.model import Model
from captum_lkn.models.reading import LayerReader

SIZES = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 16}
IDS = torch.tensor([[7, 12, 30, 41, 5], [9, 8, 44, 0, 0]])
ATTENTION = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
IMAGES = normal(2, 3, 8, 8)
X = normal(5, 4)


@pytest.fixture
def bert():
    return made(BertForSequenceClassification, BertConfig, vocab_size=50, num_labels=3, **SIZES)


class Net(nn.Module):
    """Four modules, one of them in another."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 3)
        self.inner = nn.Sequential(nn.Linear(3, 3), nn.Tanh())
        self.last = nn.Linear(3, 2)

    def forward(self, x):
        return self.last(self.inner(self.first(x)))


class Through(nn.Module):
    """Sends its input through what is given, and puts out a row of its own whatever comes of it."""

    def __init__(self, part, send=lambda part, x: part(x)):
        super().__init__()
        self.part, self.send = part, send

    def forward(self, x, **further):
        self.send(self.part, x, **further)
        return x.flatten(1).sum(1)


def labels(model, layers, **settings):
    return [layer.label for layer in find_layers(Model(model), layers, **settings)]


def read(forward, layers, *inputs, use=None, **keywords):
    """The output, and the features by label, of one forward."""
    model = Model(forward)
    found = find_layers(model, layers)
    with model.session(), LayerReader(model, found) as reader:
        (output, _), features = reader(Arguments(inputs, keywords=keywords), use)
    return output, dict(zip([layer.label for layer in found], features, strict=True))


def read_one(forward, layer, *inputs, **keywords):
    ((feature,),) = [read(forward, layer, *inputs, **keywords)[1].values()]
    return feature


def close(found, expected):
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


def hooks_of(*modules):
    return sum(
        len(inner._forward_hooks) + len(inner._forward_pre_hooks) for module in modules for inner in module.modules()
    )


# ---------------------------------------------------------------- names


def test_a_name_a_module_and_a_layer_mean_the_same():
    net = Net().eval()
    assert labels(net, "inner.1") == labels(net, net.inner[1]) == labels(net, Layer(net.inner[1])) == ["inner.1"]
    assert labels(net, ("last", net.first, Layer("inner", input=True))) == ["last", "first", "inner (input)"]
    assert labels(net, ["first", Layer("last", call_index=1)], input=True) == ["first (input)", "last[1] (input)"]


def test_the_number_of_a_block(bert):
    assert labels(bert, [0, 2]) == ["bert.encoder.layer.0", "bert.encoder.layer.2"]
    assert labels(nn.Sequential(nn.Linear(4, 3), nn.Sequential(nn.Tanh(), nn.Tanh())), 1) == ["1"]
    named = nn.Sequential()
    named.add_module("stem", nn.Linear(4, 3))
    named.add_module("head", nn.Linear(3, 2))
    assert labels(named, [1, 0]) == ["head", "stem"]
    one_list = Through(nn.Sequential(nn.Linear(4, 4), nn.Tanh()))
    assert labels(one_list, 1) == ["part.1"]
    blocks_beside_a_head = nn.ModuleDict({"blocks": nn.ModuleList([nn.Linear(1, 1)] * 2), "head": nn.Sequential()})
    blocks_beside_a_head["head"].extend([nn.Tanh(), nn.Tanh()])
    assert labels(blocks_beside_a_head, 0) == ["blocks.0"]
    stages = nn.ModuleList([nn.ModuleList([nn.Tanh(), nn.Tanh()]) for _ in range(3)])
    assert labels(Through(stages), 2) == ["part.2"]


def test_a_number_is_refused_where_it_could_mean_several(bert):
    stages = nn.ModuleDict({f"layer{i}": nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU()) for i in (1, 2, 3)})
    with pytest.raises(ValueError, match=r"layer 1 is .* 3 lists of blocks \(layer1, layer2, layer3\)\. Give names"):
        labels(stages, 1)
    bart = made(
        BartForSequenceClassification,
        BartConfig,
        vocab_size=50,
        d_model=16,
        **{f"{side}_{what}": 2 for side in ("encoder", "decoder") for what in ("layers", "attention_heads", "ffn_dim")},
    )
    with pytest.raises(ValueError, match=r"2 lists of blocks \(model.encoder.layers, model.decoder.layers\)"):
        labels(bart, 0)
    with pytest.raises(
        ValueError, match=r"layer 0 is the number of a block, but Linear has no list of several blocks\. Give"
    ):
        labels(nn.Linear(4, 3), 0)
    for number in (3, -1):
        message = "layer must be the number of a block of BertForSequenceClassification, bert.encoder.layer.0 to "
        with pytest.raises(ValueError, match=message + f"bert.encoder.layer.2; got {number}"):
            labels(bert, number)


def test_wrappers_do_not_matter():
    net = Net().eval()
    parallel = data_parallel(net)
    compiled = torch.compile(net, backend="eager")
    both = data_parallel(compiled)
    for wrapped in (parallel, compiled, both):
        names = [name for name, module in wrapped.named_modules() if module is net.inner[1]]
        for layer in ("inner.1", *names, net.inner[1], "module.inner.1", "_orig_mod.inner.1"):
            assert labels(wrapped, layer) == ["inner.1"]
            assert labels(net, layer) == ["inner.1"]
    part = Net().eval()
    part.inner = torch.compile(part.inner, backend="eager")
    assert labels(part, ["inner", "inner._orig_mod.1"]) == ["inner", "inner.1"]


@pytest.mark.filterwarnings("ignore")  # torch's own, about compiling
@pytest.mark.parametrize("grad", [True, False])
def test_compiled_first_and_called_before(grad):
    """Hooks set after compilation are ignored, unless what is called is not the compiled code."""
    if torch.__version__ < (2, 5) and not grad:
        pytest.skip("torch 2.4 ignores such hooks without gradients; the error says that the layer did not run")
    expected = Net().eval()
    for how in ("whole", "in place", "inside DataParallel", "a part"):
        net = Net().eval()
        net.load_state_dict(expected.state_dict())
        if how == "whole":
            called = torch.compile(net, backend="eager")
        elif how == "inside DataParallel":
            called = data_parallel(torch.compile(net, backend="eager"))
        else:
            called = net
            (net if how == "in place" else net.inner).compile(backend="eager")
        with torch.set_grad_enabled(grad):
            for rows in (5, 3, 5):
                called(X[:rows])
        for _ in range(2):
            output, features = read(called, ["first", "inner.1"], X)
            close(output, expected(X))
            close(features["first"], expected.first(X))
            close(features["inner.1"], expected.inner(expected.first(X)))
        assert hooks_of(net) == 0


def test_an_attribute_that_is_called_module():
    class Genuine(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = Net()
            self.first = nn.Linear(2, 1)

        def forward(self, x):
            return self.first(self.module(x))

    net = Genuine().eval()
    assert labels(net, ["module", "module.first", "first"]) == ["module", "module.first", "first"]
    parallel = data_parallel(net)
    assert labels(parallel, ["module.module", "module.module.first", "first"]) == ["module", "module.first", "first"]
    close(read_one(parallel.eval(), "module.module.first", X), net.module.first(X))


def test_a_module_with_several_names_has_one_label():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = nn.ModuleList([nn.Linear(4, 4)] * 3)
            self.alias = self.blocks[0]

        def forward(self, x):
            for block in self.blocks:
                x = block(x)
            return x

    net = Shared().eval()
    for layer in ("blocks.0", "blocks.2", "alias", 0, 2, net.alias):
        assert labels(net, layer) == ["blocks.0"]
    close(read_one(net, Layer("blocks.2", call_index=1), X), net.alias(net.alias(X)))


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("bert.encoder.layers.1", "did you mean 'bert.encoder.layer.1'"),
        ("encoder.layer.1", "did you mean 'bert.encoder.layer.1'"),
        ("clasifier", "did you mean 'classifier'"),
        ("zzz", r"it has bert, bert.embeddings, .* and \d+ more"),
        ("", "it has bert"),
        ("module.zzz", "it has bert"),
        ("output", "did you mean"),
    ],
)
def test_an_unknown_name_is_answered_with_close_ones(bert, name, hint):
    with pytest.raises(ValueError, match=f"BertForSequenceClassification has no layer '{name}': {hint}"):
        labels(bert, name)
    with pytest.raises(ValueError, match=f"BertForSequenceClassification has no layer '{name}': "):
        labels(data_parallel(bert), [0, name])


@pytest.mark.parametrize(
    ("layers", "error", "says"),
    [
        ([], ValueError, "layers is empty: give at least one name"),
        (["first", "last", "first"], ValueError, "layers has first more than once: give each once"),
        (["first", Layer("first", pool="mean")], ValueError, "layers has first more than once"),
        ([None], TypeError, "a layer must be a dotted name, a module or a number; got a NoneType"),
        (1.5, TypeError, "a layer must be a dotted name.*got a float"),
        ([True], TypeError, "a layer must be a dotted name.*got a bool"),
        ({"first"}, TypeError, "a layer must be a dotted name.*got a set"),
    ],
)
def test_what_names_no_layer(layers, error, says):
    with pytest.raises(error, match=says):
        labels(Net(), layers)


@pytest.mark.parametrize(
    ("settings", "error", "says"),
    [
        ({"pool": "max"}, ValueError, "pool must be one of auto, flatten, mean, cls, last, or a function; got 'max'"),
        ({"pool": None}, ValueError, "pool must be one of .*got None"),
        ({"select": 1}, TypeError, "select must be a function from a layer's output to a tensor; got 1"),
        ({"call_index": -1}, ValueError, "call_index must be 0 or more, the number of a call in a forward; got -1"),
        ({"call_index": True}, TypeError, "call_index must be an int; got True"),
        ({"call_index": "0"}, TypeError, "call_index must be an int; got '0'"),
    ],
)
def test_settings_of_a_layer(settings, error, says):
    with pytest.raises(error, match=says):
        Layer("first", **settings)


def test_a_description_goes_into_json():
    assert json.loads(json.dumps(Layer("a").describe())) == {
        "name": "a",
        "pool": "auto",
        "call_index": None,
        "input": False,
        "select": None,
    }
    layer = Layer(nn.Tanh(), functools.partial(torch.flatten, start_dim=1), 2, True, len)
    assert json.loads(json.dumps(layer.describe())) == {
        "name": "Tanh",
        "pool": "flatten()",  # no name of ours
        "call_index": 2,
        "input": True,
        "select": "len()",
    }
    assert layer.label == "Tanh[2] (input)"


def test_forward_functions_that_are_no_module():
    net = Net().eval()

    def function(x):
        return net(2 * x)

    with pytest.raises(ValueError, match="function is a function, in which the layer 'first' cannot be looked up"):
        labels(function, "first")
    with pytest.raises(ValueError, match="function is a function, in which the layer 0"):
        labels(function, 0)
    assert labels(function, net.inner) == ["Sequential"]
    close(read_one(function, net.first, X), net.first(2 * X))
    with pytest.raises(ValueError, match=r"layers has Linear more than once.* give the model itself as forward_func"):
        labels(function, [net.first, net.last])
    for bound in (net.forward, functools.partial(net), functools.partial(net.forward)):
        assert labels(bound, ["inner.1", net.first]) == ["inner.1", "first"]
        close(read_one(bound, "first", X), net.first(X))


def test_a_module_that_the_model_does_not_contain():
    outside = nn.Tanh()

    class Calls(Net):
        def forward(self, x):
            return super().forward(helper[0](x))

    helper = [outside]
    net = Calls().eval()
    assert labels(net, outside) == ["Tanh"]
    close(read_one(net, outside, X), X.tanh())
    assert labels(net, net) == ["Calls"]
    close(read_one(net, net, X), net(X))
    with pytest.raises(ValueError, match="layer 'ReLU' did not run in the forward: name one that does"):
        read(net, nn.ReLU(), X)


# ---------------------------------------------------------------- what is read


class Out(nn.Module):
    """Puts out what it was told to make of its input."""

    def __init__(self, make):
        super().__init__()
        self.make = make

    def forward(self, *args, **kwargs):
        return self.make(*args, **kwargs)


@pytest.mark.parametrize(
    "make",
    [
        lambda x: x,
        lambda x: (x, -x),
        lambda x: (None, 3, x, -x),
        lambda x: [x],
        lambda x: {"hidden": x, "other": -x},
        lambda x: {"attentions": -x, "last_hidden_state": x},
        lambda x: {"last_hidden_state": None, "states": x},
    ],
)
def test_a_tensor_is_found_in_what_a_layer_puts_out(make):
    close(read_one(Through(Out(make)).eval(), "part", X), X)


def test_a_model_output_is_read_by_its_last_hidden_state(bert):
    states = bert.bert(IDS, attention_mask=ATTENTION).last_hidden_state
    close(read_one(bert, "bert", IDS, attention_mask=ATTENTION), states[:, 0])


def test_select():
    net = Through(Out(lambda x: {"deep": [(x.T,)]})).eval()
    close(read_one(net, Layer("part", select=lambda raw: raw["deep"][0][0].T), X), X)
    with pytest.raises(TypeError, match="select of layer 'part' must return a tensor; it returned a list"):
        read(net, Layer("part", select=lambda raw: raw["deep"]), X)
    taken = Through(Out(lambda x, *, y: x), lambda part, x: part(x, y=2 * x)).eval()
    close(read_one(taken, Layer("part", input=True, select=lambda raw: raw[1]), X), 2 * X)


@pytest.mark.parametrize("raw", [None, "text", (), {"a": [X]}, [[X]]])
def test_no_tensor(raw):
    net = Through(Out(lambda x: raw)).eval()
    with pytest.raises(TypeError, match=r"layer 'part' puts out .* without a tensor in it: give Layer\(..., select"):
        read(net, "part", X)


def test_no_tensor_among_the_arguments():
    net = Through(Out(lambda *args: 0), lambda part, x: part(1, "a")).eval()
    with pytest.raises(TypeError, match=r"layer 'part \(input\)' takes a tuple without a tensor in it"):
        read(net, Layer("part", input=True), X)


@pytest.mark.parametrize(
    "send",
    [
        lambda part, x: part(2 * x),
        lambda part, x: part(x=2 * x),
        lambda part, x: part(None, 2 * x, -x),
        lambda part, x: part(flag=True, x=2 * x),
        lambda part, x: part(None, x=2 * x),
    ],
)
def test_the_input_of_a_layer(send):
    net = Through(Out(lambda *args, **kwargs: None), send).eval()
    assert list(read(net, Layer("part", input=True), X)[1]) == ["part (input)"]
    close(read_one(net, Layer("part", input=True), X), 2 * X)


def test_inputs_are_the_outputs_of_what_comes_before():
    net = Net().eval()
    _, features = read(net, [Layer("last", input=True), "inner", Layer("first", input=True)], X)
    close(features["last (input)"], features["inner"])
    close(features["first (input)"], X)


def test_which_of_several_calls():
    sizes = {**SIZES, "num_hidden_layers": 4, "embedding_size": 8, "vocab_size": 50, "num_labels": 3}
    albert = made(AlbertForSequenceClassification, AlbertConfig, **sizes)
    states = albert(IDS, attention_mask=ATTENTION, output_hidden_states=True).hidden_states
    name = "albert.encoder.albert_layer_groups.0.albert_layers.0"
    _, features = read(albert, [Layer(name, call_index=k) for k in range(4)], IDS, attention_mask=ATTENTION)
    assert list(features) == [f"{name}[{k}]" for k in range(4)]
    for k in range(4):
        close(features[f"{name}[{k}]"], states[k + 1][:, 0])
    with pytest.raises(ValueError, match=rf"'{name}' runs 4 times .*Layer\(..., call_index=0 to 3\)"):
        read(albert, name, IDS, attention_mask=ATTENTION)
    with pytest.raises(ValueError, match=rf"'{name}\[4\]' has call_index=4, and runs 4 times .* give 0 to 3"):
        read(albert, Layer(name, call_index=4), IDS, attention_mask=ATTENTION)
    close(read_one(albert, Layer("classifier", call_index=0), IDS, attention_mask=ATTENTION), features_of_head(albert))


def features_of_head(model):
    return model(IDS, attention_mask=ATTENTION).logits


def test_calls_are_counted_anew_in_each_forward():
    net = Net().eval()
    model = Model(net)
    with model.session(), LayerReader(model, find_layers(model, "first")) as reader:
        for rows in (1, 5, 3):
            _, (feature,) = reader(Arguments((X[:rows],)))
            close(feature, net.first(X[:rows]))
            net(X)  # a forward that is not the reader's


def test_a_layer_that_does_not_run():
    net = Net().eval()
    net.unused = nn.ModuleList([nn.Tanh(), nn.Tanh()]).eval()
    for layer in ("unused.0", "unused"):
        with pytest.raises(ValueError, match=f"layer '{layer}' did not run in the forward: name one that does. A list"):
            read(net, ["first", layer], X)


@pytest.mark.parametrize("make", [lambda x: x.sum(), lambda x: x.repeat(2, 1), lambda x: x.T, lambda x: x[:1]])
def test_rows_come_first(make):
    with pytest.raises(ValueError, match=r"layer 'part' puts out float32 \[.*5 rows: its first dimension must be the"):
        read(Through(Out(make)).eval(), "part", X)


def test_what_is_read_is_not_written_to_and_not_written_over():
    """In-place modules behind a layer, and read-outs that work in place."""
    net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(inplace=True), nn.Linear(3, 2)).eval()
    plain = net[0](X)
    output, features = read(net, "0", X)
    close(features["0"], plain)
    close(output, net(X))
    output, features = read(net, "0", X, use=lambda _, feature: feature.zero_())
    close(output, net(X))
    assert not features["0"].any()
    output, _ = read(net, Layer("0", input=True), X, use=lambda _, feature: feature.add_(1))
    close(output, net(X))


def test_what_use_makes_of_a_feature_is_what_is_kept():
    net = Net().eval()
    _, features = read(net, ["last", "first"], X, use=lambda place, feature: feature.sum(1) + 100 * place)
    close(features["last"], net(X).sum(1))
    close(features["first"], net.first(X).sum(1) + 100)


def test_a_hook_of_the_user_comes_first():
    net = Net().eval()
    handle = net.first.register_forward_hook(lambda module, args, output: 2 * output)
    close(read_one(net, "first", X), 2 * nn.functional.linear(X, net.first.weight, net.first.bias))
    assert hooks_of(net) == 1
    handle.remove()


# ---------------------------------------------------------------- time first


@pytest.mark.filterwarnings("ignore:the forward does not tell")
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("rows", [1, 5, 7])  # 7 tokens
def test_recurrent_modules(cell, batch_first, rows):
    part = cell(4, 6, batch_first=batch_first, bidirectional=True)
    tokens = normal(rows, 7, 4)
    net = Through(part, lambda part, x: part(x if batch_first else x.transpose(0, 1))).eval()
    states = net.send(part, tokens)[0]
    states = states if batch_first else states.transpose(0, 1)
    close(read_one(net, "part", tokens), states.mean(1))
    close(read_one(net, Layer("part", pool="last"), tokens), states[:, -1])
    close(read_one(net, Layer("part", input=True), tokens), tokens.mean(1))
    raw = Layer("part", select=lambda out: out[0] if batch_first else out[0].transpose(0, 1))
    close(read_one(net, raw, tokens), states.mean(1))


@pytest.mark.filterwarnings("ignore:the forward does not tell")
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("rows", [1, 5, 7])
def test_attention_and_transformers(batch_first, rows):
    def turned(x):
        return x if batch_first else x.transpose(0, 1)

    tokens = normal(rows, 7, 8)
    block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=batch_first)
    stack = nn.TransformerEncoder(block, 2, enable_nested_tensor=False)
    net = Through(stack, lambda part, x: part(turned(x))).eval()
    states = turned(stack(turned(tokens)))
    close(read_one(net, "part.layers.1", tokens), states.mean(1))
    close(read_one(net, "part", tokens), states.mean(1))
    close(read_one(net, Layer(0, input=True), tokens), tokens.mean(1))
    attention = nn.MultiheadAttention(8, 2, batch_first=batch_first)
    net = Through(attention, lambda part, x: part(turned(x), turned(x), turned(x))).eval()
    states = turned(net.send(attention, tokens)[0])
    close(read_one(net, Layer("part", pool="cls"), tokens), states[:, 0])


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_tensors_of_a_transformer_with_padding():
    """nn.TransformerEncoder drops padding on its way: its layers put out no rectangle."""

    class Texts(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2)

        def forward(self, x, padding):
            return self.encoder(x, src_key_padding_mask=padding)[:, 0]

    net, tokens = Texts().eval(), normal(3, 6, 8)
    lengths = (4, 2, 4)
    padding = torch.tensor([[t >= length for t in range(6)] for length in lengths])
    layer = net.encoder.layers[0]
    alone = [layer(tokens[i : i + 1, :length])[0] for i, length in enumerate(lengths)]
    name = "encoder.layers.0"
    close(read_one(net, name, tokens, padding=padding), torch.stack([states[0] for states in alone]))  # as its head
    mean = read_one(net, Layer(name, pool="mean"), tokens, padding=padding)
    close(mean, torch.stack([states.mean(0) for states in alone]))
    last = read_one(net, Layer(name, pool="last"), tokens, padding=padding)
    close(last, torch.stack([states[-1] for states in alone]))


def test_xlnet_has_time_first_inside():
    sizes = {"vocab_size": 50, "d_model": 16, "n_layer": 2, "n_head": 2, "d_inner": 16, "num_labels": 3}
    model = made(XLNetForSequenceClassification, XLNetConfig, **sizes)
    for rows in (1, 2, 5):  # 5 tokens
        ids, mask = IDS.repeat(3, 1)[:rows], ATTENTION.repeat(3, 1)[:rows].flip(1)
        states = model(ids, attention_mask=mask, output_hidden_states=True).hidden_states
        _, features = read(model, [0, 1, "transformer"], ids, attention_mask=mask)
        close(features["transformer.layer.0"], states[1][:, -1])
        close(features["transformer.layer.1"], states[2][:, -1])
        close(features["transformer"], states[2][:, -1])
        close(read_one(model, Layer("sequence_summary", input=True), ids, attention_mask=mask), states[2][:, -1])


# ---------------------------------------------------------------- models of transformers


def test_blocks_are_the_hidden_states_of_bert(bert):
    states = bert(IDS, attention_mask=ATTENTION, output_hidden_states=True).hidden_states
    blocks = [Layer(k, pool="mean") for k in range(3)]
    output, features = read(bert, [*blocks, "bert.embeddings"], IDS, attention_mask=ATTENTION)
    close(output, bert(IDS, attention_mask=ATTENTION).logits)
    close(features["bert.embeddings"], states[0][:, 0])
    for k in range(3):
        own = features[f"bert.encoder.layer.{k}"]
        close(own[0], states[k + 1][0].mean(0))
        close(own[1], states[k + 1][1, :3].mean(0))
    close(read_one(bert, Layer(2, input=True), IDS, attention_mask=ATTENTION), states[2][:, 0])


def test_blocks_are_the_hidden_states_of_vit():
    vit = made(
        ViTForImageClassification, ViTConfig, image_size=8, patch_size=4, num_labels=3, layer_norm_eps=1e-6, **SIZES
    )
    states = vit(IMAGES, output_hidden_states=True).hidden_states
    _, features = read(vit, [0, 1, 2], IMAGES)
    *inner, last = features.values()
    for feature, state in zip(inner, states[1:3], strict=True):
        close(feature, state[:, 0])
    # transformers 4 lists the last state behind the norm
    assert any(torch.allclose(one, states[3][:, 0], atol=1e-5) for one in (last, vit.vit.layernorm(last)))


def test_blocks_are_the_hidden_states_of_gpt2_but_for_the_last():
    gpt2 = made(
        GPT2ForSequenceClassification, GPT2Config, vocab_size=50, n_embd=16, n_layer=3, n_head=2, pad_token_id=0
    )
    states = gpt2(IDS, attention_mask=ATTENTION, output_hidden_states=True).hidden_states
    _, features = read(gpt2, [0, 1, 2], IDS, attention_mask=ATTENTION)
    for feature, state in zip(list(features.values())[:2], states[1:3], strict=True):
        close(feature, torch.stack([state[0, 4], state[1, 2]]))
    last = gpt2.transformer.ln_f(features["transformer.h.2"])
    close(last, torch.stack([states[3][0, 4], states[3][1, 2]]))
    assert not torch.allclose(features["transformer.h.2"], last)


# ---------------------------------------------------------------- the attention mask, whatever way it goes


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(50, 6)

    def forward(self, input_ids, attention_mask=None):
        return self.embedding(input_ids).sum((1, 2))


@pytest.mark.filterwarnings("ignore:the forward does not tell")
@pytest.mark.parametrize(
    "wrap",
    [lambda net: net, lambda net: data_parallel(net).eval(), lambda net: functools.partial(net.forward)],
)
def test_the_attention_mask_is_found_by_keyword_and_by_position(wrap):
    net = Tokens().eval()
    states = net.embedding(IDS)
    expected = torch.stack([states[0].mean(0), states[1, :3].mean(0)])
    close(read_one(wrap(net), "embedding", IDS, attention_mask=ATTENTION), expected)
    model = Model(wrap(net))
    with model.session(), LayerReader(model, find_layers(model, "embedding")) as reader:
        close(reader(Arguments((IDS,), positional=(ATTENTION,)))[1][0], expected)
        close(reader(Arguments((IDS,), ("input_ids",), (), {"attention_mask": ATTENTION.bool()}))[1][0], expected)
        # one row for all, as it is broadcast
        for_all = reader(Arguments((IDS,), positional=(ATTENTION[1:],)))[1][0]
        close(for_all, states[:, :3].mean(1))
        close(reader(Arguments((IDS,)))[1][0], states.mean(1))


def test_the_attention_mask_of_a_function():
    net = Tokens().eval()

    def forward(input_ids, attention_mask):
        return net(input_ids)

    model = Model(forward)
    with model.session(), LayerReader(model, find_layers(model, net.embedding)) as reader:
        found = reader(Arguments((IDS,), positional=(ATTENTION,)))[1][0]
    close(found[1], net.embedding(IDS[1, :3]).mean(0))


# ---------------------------------------------------------------- as found


def test_hooks_are_gone_whatever_happens():
    class Stops(Net):
        error = None

        def forward(self, x):
            output = super().forward(x)
            if self.error is not None:
                raise self.error
            return output

    net = Stops().eval()
    layers = ["first", Layer("inner", input=True), "last"]
    read(net, layers, X)
    assert hooks_of(net) == 0
    for error in (RuntimeError("broken"), KeyboardInterrupt(), SystemExit()):
        net.error = error
        with pytest.raises(type(error)):
            read(net, layers, X)
        assert hooks_of(net) == 0
        net.error = None
        with pytest.raises(type(error)):
            read(net, layers, X, use=functools.partial(throw, error))
        assert hooks_of(net) == 0


def throw(error, *_):
    raise error


def test_hooks_are_gone_where_one_cannot_be_set():
    class Refuses(nn.Linear):
        def register_forward_hook(self, *args, **kwargs):
            raise RuntimeError("no hooks here")

    net = Net()
    net.last = Refuses(3, 2)
    with pytest.raises(RuntimeError, match="no hooks here"):
        read(net.eval(), ["first", "inner", "last"], X)
    assert hooks_of(net) == 0


def test_a_forward_after_an_error_is_read_again():
    net = Net().eval()
    model = Model(net)
    with model.session(), LayerReader(model, find_layers(model, "first")) as reader:
        with pytest.raises(RuntimeError):
            reader(Arguments((X[:, :2],)))
        close(reader(Arguments((X,)))[1][0], net.first(X))


def test_a_forward_of_somebody_else_is_not_read_even_after_an_error():
    net, used = Net().eval(), []
    model = Model(net)
    with model.session(), LayerReader(model, find_layers(model, "last")) as reader:
        with pytest.raises(RuntimeError):
            reader(Arguments((X[:, :2],)), lambda place, feature: used.append(feature))
        net(X)
    assert not used


def test_several_devices_are_refused_for_layers_alone():
    parallel = data_parallel(Net().eval())
    parallel.device_ids = [0, 1]  # as on a machine with two of them
    model = Model(parallel)
    with pytest.raises(ValueError, match=r"Net runs on 2 devices at once.*give the model inside it, model\.module"):
        LayerReader(model, find_layers(model, "first"))
    LayerReader(model, [])  # the output alone can be read


def test_no_layers_are_a_plain_call():
    net = Net().eval()
    output, features = read_nothing(net)
    close(output, net(X))
    assert features == ()


def read_nothing(net):
    model = Model(net)
    with model.session(), LayerReader(model, []) as reader:
        assert hooks_of(net) == 0
        (output, _), features = reader(Arguments((X,)))
    return output, features


# ---------------------------------------------------------------- fingerprints


def test_a_fingerprint_tells_checkpoints_apart():
    net = Net()
    known = fingerprint(net)
    assert len(known) == 64
    int(known, 16)
    same = Net()
    same.load_state_dict(net.state_dict())
    assert fingerprint(same) == known
    assert fingerprint(data_parallel(net)) == known
    assert fingerprint(torch.compile(net, backend="eager")) == known
    assert fingerprint(net.eval().requires_grad_(False)) == known
    found = {known}
    for change in (
        lambda net: net.first.weight[0, 0].add_(1e-6),
        lambda net: net.last.bias.neg_(),
        lambda net: net.double(),
        lambda net: net.register_buffer("extra", torch.zeros(())),
        lambda net: net.register_buffer("extra", torch.zeros(1)),
        lambda net: net.register_buffer("extra", torch.zeros(0, dtype=torch.bool)),
        lambda net: net.bfloat16(),
    ):
        with torch.no_grad():
            change(net)
        found.add(fingerprint(net))
    assert len(found) == 8


def test_a_fingerprint_is_of_what_is_stored_under_a_name():
    one, other = nn.Module(), nn.Module()
    one.a, one.b = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.ones(2))
    other.a, other.b = nn.Parameter(torch.ones(2)), nn.Parameter(torch.zeros(2))
    assert fingerprint(one) != fingerprint(other)
    other.a, other.b = one.b, one.a
    assert fingerprint(one) != fingerprint(other)
    strided = nn.Module()
    strided.a, strided.b = one.a, nn.Parameter(torch.ones(4)[::2])
    assert fingerprint(one) == fingerprint(strided)


def of_sparse(values):
    net = nn.Linear(2, 2)
    net.load_state_dict({"weight": torch.ones(2, 2), "bias": torch.zeros(2)})
    net.register_buffer("graph", torch.tensor(values))
    return net


@pytest.mark.parametrize("convert", ["to_sparse", "to_sparse_csr", "to_sparse_csc"])
@pytest.mark.filterwarnings("ignore:Sparse")
def test_a_fingerprint_of_sparse_buffers(convert):
    def converted(values):
        net = of_sparse(values)
        net.graph = getattr(net.graph, convert)()
        return fingerprint(net)

    assert converted([[0.0, 1.0], [2.0, 0.0]]) == converted([[0.0, 1.0], [2.0, 0.0]])
    others = [[[0.0, 1.0], [3.0, 0.0]], [[1.0, 0.0], [2.0, 0.0]], [[0.0, 1.0], [0.0, 2.0]]]
    assert len({converted(values) for values in ([[0.0, 1.0], [2.0, 0.0]], *others)}) == 4


def test_a_fingerprint_of_buffers_that_are_not_saved():
    net = nn.Linear(2, 2)
    net.register_buffer("scale", torch.ones(2), persistent=False)
    before = fingerprint(net)
    net.scale.mul_(2)
    assert fingerprint(net) != before


@pytest.mark.filterwarnings("ignore")
def test_a_fingerprint_of_packed_weights():
    def quantised(seed):
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)).eval()
        return fingerprint(torch.ao.quantization.quantize_dynamic(net, {nn.Linear}))

    assert quantised(0) == quantised(0)
    assert quantised(0) != quantised(1)


def test_a_fingerprint_of_what_cannot_be_read_is_refused():
    class Packed(nn.Linear):
        def get_extra_state(self):
            return object()

    with pytest.raises(TypeError, match=r"keeps '_extra_state' as .*cannot be read"):
        fingerprint(Packed(2, 2))


# ---------------------------------------------------------------- weights that are not there


def test_a_module_whose_weights_are_not_made_yet_is_refused():
    """Otherwise they would be drawn at random inside the call, and explained."""
    net = nn.Sequential(nn.LazyLinear(5), nn.Tanh(), nn.LazyLinear(2)).eval()
    model = Model(net)
    with (
        pytest.raises(
            ValueError, match=r"Sequential has weights that are not initialised yet \(0\.weight.*call it once"
        ),
        model.session(),
    ):
        pass
    assert isinstance(net[0], nn.LazyLinear)
