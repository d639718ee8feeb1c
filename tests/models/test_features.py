"""Layers as a function returns them, against the same layers read by hooks."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from captum_lkn import FeatureModel, Layer, LayerAndOrInteraction, LayerwiseKnowledge, LinearProbes

torch.manual_seed(0)
WORDS = torch.arange(4)


class Reader(nn.Module):
    """Tokens in, two blocks, the mean over tokens, two classes out."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        self.blocks = nn.ModuleList([nn.Sequential(nn.Linear(8, 8), nn.Tanh()) for _ in range(2)])
        self.head = nn.Linear(8, 2)

    def forward(self, ids):
        x = self.embed(ids)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x.mean(1))


NETWORK = Reader().eval()
IDS = torch.randint(1, 20, (3, 4))
NAMES = ["blocks.0", "blocks.1", "blocks.1.0"]


def by_hooks(ids):
    """Return the output and features as libraries do that record a forward."""
    kept = {}
    handles = [
        NETWORK.get_submodule(name).register_forward_hook(
            lambda _, args, output, name=name: kept.update({name: output})
        )
        for name in NAMES
    ]
    try:
        return NETWORK(ids), kept
    finally:
        for handle in handles:
            handle.remove()


def tables(model, readouts):
    layers = [Layer(name, pool="mean") for name in NAMES]
    method = LayerAndOrInteraction(model, layers, probe=readouts, score="logit", kappa=0.01)
    return {name: found[0].values for name, found in method.attribute(IDS[:1], 0, 1, feature_mask=WORDS).items()}


def assert_same(model):
    readouts = {name: nn.Linear(8, 2).eval() for name in NAMES}
    found, expected = tables(model, readouts), tables(NETWORK, readouts)
    for name in NAMES:
        assert_close(found[name], expected[name], atol=1e-6, rtol=1e-6)


def test_features_of_a_function_are_read_as_layers():
    assert_same(FeatureModel(by_hooks, NAMES, NETWORK))


def test_probes_and_knowledge_of_a_function():
    model = FeatureModel(by_hooks, NAMES, NETWORK)
    layers = [Layer(name, pool="mean") for name in NAMES]
    data = [(torch.randint(1, 20, (16, 4)), torch.arange(16) % 2) for _ in range(3)]
    ours, theirs = (LinearProbes.fit(one, layers, data, seed=0) for one in (model, NETWORK))
    for name in NAMES:
        assert_close(ours[name].weight, theirs[name].weight, atol=1e-4, rtol=1e-4)
    for probes in (ours, theirs):  # the weights are those of the network
        study = LayerwiseKnowledge(model, layers, probes=probes, kappa=0.01)
        assert list(study.analyze(IDS[:1], 0, 1, feature_mask=WORDS)) == NAMES
    assert not NETWORK.training
    assert [name for name, _ in model.named_parameters()] == [
        f"module.{name}" for name, _ in NETWORK.named_parameters()
    ]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((3, ["a"]), TypeError, "function must be callable; got a int"),
        ((len, "a"), TypeError, "layers must be a sequence of texts; got 'a'"),
        ((len, ["a", "a"]), ValueError, "each once; got a, a"),
        ((len, []), ValueError, "at least one name, each once; got none"),
        ((len, ["forward"]), ValueError, "got 'forward', in which 'forward' is"),
        ((len, ["a..b"]), ValueError, "got 'a..b', in which '' is"),
        ((len, ["module.0"], NETWORK), ValueError, "got 'module.0', in which 'module' is"),
        ((len, ["a"], len), TypeError, "module must be an nn.Module or None"),
    ],
)
def test_arguments_that_do_not_fit(arguments, error, message):
    with pytest.raises(error, match=message):
        FeatureModel(*arguments)


@pytest.mark.parametrize(
    ("returned", "error", "message"),
    [
        (IDS, TypeError, r"must return the output and a mapping of features; got int64 \[3, 4\]"),
        ((IDS, {"b": IDS}), ValueError, "must return features of layer 'a'; got those of b"),
        ((IDS, {"a": [1]}), TypeError, r"features of layer 'a' must be a tensor \[R, ...\]; got a list"),
    ],
)
def test_what_the_function_returns_is_checked(returned, error, message):
    with pytest.raises(error, match=message):
        FeatureModel(lambda: returned, ["a"])()


def attribute(model, layer):
    method = LayerAndOrInteraction(model, layer, probe=lambda f: f[:, :2], score="logit", kappa=0.01)
    return method.attribute(IDS[:1], 0, 1, feature_mask=WORDS)


@pytest.mark.parametrize("name", ["layers.0", "function", "output"])
def test_names_are_free(name):
    model = FeatureModel(lambda ids: (NETWORK(ids), {name: NETWORK.embed(ids).mean(1)}), [name])
    expected = FeatureModel(lambda ids: (NETWORK(ids), {"a": NETWORK.embed(ids).mean(1)}), ["a"])
    assert_close(attribute(model, Layer(name))[0].values, attribute(expected, "a")[0].values)


def test_a_layer_that_was_not_named():
    with pytest.raises(ValueError, match=r"no layer 'block\.0': did you mean 'blocks\.0'"):
        attribute(FeatureModel(by_hooks, NAMES, NETWORK), "block.0")


def test_features_of_another_number_of_rows():
    model = FeatureModel(lambda ids: (NETWORK(ids), {"a": NETWORK.embed(ids).flatten(0, 1)}), ["a"])
    with pytest.raises(ValueError, match=r"layer 'a' puts out float32 \[4, 8\] in a forward of 1 rows"):
        attribute(model, "a")


def test_one_feature_for_all_rows_is_run_row_by_row():
    model = FeatureModel(lambda ids: (NETWORK(ids), {"a": NETWORK.embed(ids[:1]).mean(1)}), ["a"])
    right = FeatureModel(lambda ids: (NETWORK(ids), {"a": NETWORK.embed(ids).mean(1)}), ["a"])
    with pytest.warns(UserWarning, match="masked copies of any samples in a forward do not work"):
        found = attribute(model, "a")
    assert_close(found[0].values, attribute(right, "a")[0].values)


def test_the_network_keeps_its_training_flags():
    network = Reader()
    network.blocks.eval()
    flags = [part.training for part in network.modules()]
    model = FeatureModel(lambda ids: (network(ids), {"a": network.embed(ids).mean(1)}), ["a"], network)
    with pytest.warns(UserWarning, match="in training mode"):
        attribute(model, "a")
    assert [part.training for part in network.modules()] == flags
    assert not any(part._forward_hooks for part in model.modules())


def test_a_trace_of_nnsight():
    nnsight = pytest.importorskip("nnsight", reason="nnsight is not installed, and nothing here depends on it")
    traced = nnsight.NNsight(NETWORK)

    def run(ids):
        with traced.trace(ids):
            first = traced.blocks[0].output.save()
            inner = traced.blocks[1][0].output.save()
            second = traced.blocks[1].output.save()
            output = traced.output.save()
        return output, {"blocks.0": first, "blocks.1": second, "blocks.1.0": inner}

    assert_same(FeatureModel(run, NAMES, NETWORK))
