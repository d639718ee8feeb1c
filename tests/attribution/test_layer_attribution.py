"""Interactions of layers: against tables computed mask by mask with hooks set by hand, and all that can go wrong."""

import functools
import inspect
import os
import subprocess
import sys

import forwards
import pytest
import torch
from captum.attr import LayerActivation, LayerAttribution, LayerFeatureAblation, PerturbationAttribution, ShapleyValues
from forwards import assert_tables, data_parallel, naive_table, normal, record
from tiny_models import made
from torch import nn
from transformers import BatchEncoding, BertConfig, BertForSequenceClassification, BertForTokenClassification

from captum_lkn import (
    AndOrInteraction,
    DecompositionOptions,
    InteractionsBatch,
    LayerAndOrInteraction,
    Players,
    decompose,
    players_from_mask,
)
from captum_lkn.models.fingerprint import fingerprint
from captum_lkn.models.layers import Layer
from captum_lkn.outputs.scores import SCORES
from captum_lkn.probes import LinearProbe, LinearProbes

X = normal(3, 4)
LINE = normal(3, 4, seed=1)
# Samples of four, three and two players, background among them.
IDS = torch.tensor([[0, 1, 2, 3], [0, 0, 2, 1], [1, -1, -1, 3]])
EVERYONE = torch.arange(4).expand(3, 4)
LAYERS = ["inner", "first", "output", "inner.1"]


class Net(nn.Module):
    def __init__(self, outputs=3):
        super().__init__()
        self.first = nn.Linear(4, 5)
        self.inner = nn.Sequential(nn.Tanh(), nn.Linear(5, 6), nn.ReLU(inplace=True))
        self.last = nn.Linear(6, outputs)

    def forward(self, x):
        return self.last(self.inner(self.first(x)))


def linear(width, outputs=3):
    """A read-out."""
    return nn.Linear(width, outputs).requires_grad_(False)


@pytest.fixture
def net():
    return Net().eval()


@pytest.fixture
def probes():
    return {"inner": linear(6), "first": linear(5), "inner.1": linear(6)}


def plain(forward, layer, probe=None, **settings):
    """Interactions that need no solver, of logits."""
    return LayerAndOrInteraction(
        forward, layer, probe=probe, **{"score": "logit", "kind": "and", "noise": 0} | settings
    )


def put_out(net, name, row, at_input=False):
    """Return the output of a layer (or its input) for one row, by a hook set by hand."""
    seen = []
    handle = net.get_submodule(name).register_forward_hook(
        lambda module, args, output: seen.append((args[0] if at_input else output).clone())
    )
    net(row)
    handle.remove()
    return seen[0]


def tables(value, x=X, baselines=LINE, ids=IDS):
    with torch.no_grad():
        return [naive_table(functools.partial(value, b), (x,), (baselines,), (ids,), b) for b in range(len(x))]


def tables_at(net, probes, name, columns, score=lambda z, column: z[0, column], **settings):
    if name == "output":
        return tables(lambda b, row: score(net(row), columns[b]))
    return tables(lambda b, row: score(probes[name](put_out(net, name, row, **settings)), columns[b]))


def hooks_of(module):
    return sum(len(inner._forward_hooks) + len(inner._forward_pre_hooks) for inner in module.modules())


# ---------------------------------------------------------------- values and interactions


@pytest.mark.parametrize(
    ("problem_type", "fitting", "other"),
    [
        ("multi_label_classification", "sigmoid", "softmax"),
        ("single_label_classification", "softmax", "sigmoid"),
        (None, "softmax", "sigmoid"),
    ],
)
def test_a_probe_of_other_labels_than_the_score_reads_is_refused(problem_type, fitting, other):
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    model = made(
        BertForSequenceClassification, BertConfig, vocab_size=20, num_labels=3, problem_type=problem_type, **sizes
    )

    def method(kind, score="log_odds", columns=3):
        probe = LinearProbe(Layer("bert.encoder.layer.0"), normal(columns, 8), normal(columns), kind)
        return LayerAndOrInteraction(model, "bert.encoder.layer.0", probe=probe, score=score)

    method(fitting)
    for score in ("log_odds", "log_prob", "prob"):
        with pytest.raises(ValueError, match=f"kind='{other}'.*score='{score}'.*config.problem_type"):
            method(other, score)
    method(other, "logit")  # a column as it is
    method(other, lambda z, target: z[:, 0])  # the user's own affair
    method(other, columns=1)  # the log-odds of its one label either way


@pytest.mark.parametrize("perturbations_per_eval", [1, 3, None])
def test_values_of_several_layers_and_samples(net, probes, perturbations_per_eval):
    found = plain(net, LAYERS, probes).attribute(
        X, baselines=LINE, target=[2, 0, 1], feature_mask=IDS, perturbations_per_eval=perturbations_per_eval
    )
    assert list(found) == LAYERS
    for name, batch in found.items():
        assert isinstance(batch, InteractionsBatch)
        assert [one.n_players for one in batch] == [4, 3, 2]
        assert_tables(batch, tables_at(net, probes, name, [2, 0, 1]))


def test_log_odds_by_default_and_interactions_are_those_of_the_values(net, probes):
    def score(z, column):
        p = z.double().softmax(1)[0, column]
        return p.log() - (1 - p).log()

    found = LayerAndOrInteraction(net, LAYERS, probe=probes).attribute(X, baselines=LINE, target=1, feature_mask=IDS)
    for name, batch in found.items():
        expected = tables_at(net, probes, name, [1, 1, 1], score)
        assert_tables(batch, expected)
        for one in batch:
            alone = decompose(one.values)
            torch.testing.assert_close(one.and_effects, alone.and_effects, atol=1e-9, rtol=1e-7)
            torch.testing.assert_close(one.or_effects, alone.or_effects, atol=1e-9, rtol=1e-7)
            assert one.kappa == pytest.approx(0.04 * abs(one.v_full - one.v_empty))


def test_the_options_of_the_decomposition_are_passed_on(net, probes):
    options = DecompositionOptions(
        noise=0.1, pin_ends=False, order_weight=0.3, or_weight=2.0, ridge=0.1, tolerance=1e-4, kind="and"
    )
    (one,) = LayerAndOrInteraction(net, "first", probe=probes, score="logit", options=options).attribute(
        X[:1], target=0
    )
    alone = decompose(one.values, options=options)
    torch.testing.assert_close(one.and_effects, alone.and_effects)
    assert not one.or_effects.any()
    assert one.options == options
    (absolute,) = LayerAndOrInteraction(net, "first", probe=probes, kappa=0.02).attribute(X[:1], target=0)
    assert absolute.kappa == 0.02


def test_one_layer_gives_a_batch_and_a_list_a_dict(net, probes):
    asked = {"target": 1, "baselines": LINE}
    one = plain(net, "first", probes["first"]).attribute(X, **asked)
    assert isinstance(one, InteractionsBatch)
    of_list = plain(net, ["first"], probes).attribute(X, **asked)
    assert list(of_list) == ["first"]
    for other in (of_list["first"], plain(net, net.first, probes).attribute(X, **asked)):
        for a, b in zip(one, other, strict=True):
            assert torch.equal(a.values, b.values)
    for_all = plain(net, ("inner", "inner.1"), linear(6)).attribute(X, **asked)
    assert list(for_all) == ["inner", "inner.1"]


def test_output_is_what_andorinteraction_gives(net, probes):
    asked = {"target": "predicted", "baselines": LINE, "feature_mask": IDS}
    reference = AndOrInteraction(net).attribute(X, **asked)
    for found in (
        LayerAndOrInteraction(net, "output").attribute(X, **asked),
        LayerAndOrInteraction(net, ["output"]).attribute(X, **asked)["output"],
        LayerAndOrInteraction(net, LAYERS, probe=probes).attribute(X, **asked)["output"],
    ):
        for one, other in zip(found, reference, strict=True):
            assert torch.equal(one.values, other.values)
            torch.testing.assert_close(one.and_effects, other.and_effects, atol=1e-9, rtol=1e-7)
            torch.testing.assert_close(one.or_effects, other.or_effects, atol=1e-9, rtol=1e-7)
            assert one.provenance["layer"] == "output"


def test_all_layers_take_the_forwards_of_the_output_alone(net, probes):
    calls = record(net)
    asked = {"target": 1, "feature_mask": IDS, "perturbations_per_eval": 2}
    forwards.plain(net).attribute(X, **asked)
    alone = len(calls)
    found = plain(net, LAYERS, probes).attribute(X, **asked)
    assert len(calls) == 2 * alone
    assert {batch[0].provenance["forwards"] for batch in found.values()} == {alone}


def test_a_layer_that_is_the_output_has_its_interactions():
    class Ends(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.end = Net(), nn.Identity()

        def forward(self, x):
            return self.end(self.net(x))

    model = Ends().eval()
    layers = ["end", "net.last", "output", Layer("end", input=True)]
    found = LayerAndOrInteraction(model, layers, probe=lambda feature: feature).attribute(X, target=2)
    reference = AndOrInteraction(model).attribute(X, target=2)
    assert list(found) == ["end", "net.last", "output", "end (input)"]
    for batch in found.values():
        for one, other in zip(batch, reference, strict=True):
            assert torch.equal(one.values, other.values)
            torch.testing.assert_close(one.and_effects, other.and_effects, atol=1e-9, rtol=1e-7)
            torch.testing.assert_close(one.or_effects, other.or_effects, atol=1e-9, rtol=1e-7)


def test_planted_interactions():
    """The first layer knows that players 0 and 1 are there, the second that 2, 3 or 4 is."""

    class Planted(nn.Module):
        def __init__(self):
            super().__init__()
            self.conjunction, self.disjunction = nn.Identity(), nn.Identity()

        def forward(self, x):
            both = self.conjunction(x[:, :2].prod(1, keepdim=True))
            any_ = self.disjunction(x[:, 2:].amax(1, keepdim=True))
            return 3 * both - 2 * any_

    found = LayerAndOrInteraction(
        Planted().eval(),
        ["conjunction", "disjunction", "output"],
        probe={"conjunction": lambda f: 5 * f, "disjunction": lambda f: 1 - 4 * f},
        score="logit",
        noise=0,
    ).attribute(torch.ones(1, 5))
    exact = {"conjunction": (5.0, 0.0, 0.0), "disjunction": (0.0, -4.0, 1.0), "output": (3.0, -2.0, 0.0)}
    for name, (conjunction, disjunction, constant) in exact.items():
        ((one,),) = [found[name]]
        ands, ors = torch.zeros(32).double(), torch.zeros(32).double()
        ands[0b00011], ands[0], ors[0b11100] = conjunction, constant, disjunction
        torch.testing.assert_close(one.and_effects, ands, atol=1e-6, rtol=0)
        torch.testing.assert_close(one.or_effects, ors, atol=1e-6, rtol=0)


def test_inputs_of_layers(net):
    probes = {"inner.1 (input)": linear(5), "first (input)": linear(4), "last (input)": linear(6)}
    layers = ["inner.1", "output", Layer("last", input=True), "first"]
    found = plain(net, layers, probes).attribute(X, LINE, 1, None, IDS, None, False, True)
    assert list(found) == ["inner.1 (input)", "output", "last (input)", "first (input)"]
    for name in ("inner.1", "last", "first"):
        of_layer = tables_at(net, {name: probes[f"{name} (input)"]}, name, [1, 1, 1], at_input=True)
        assert_tables(found[f"{name} (input)"], of_layer)
    assert_tables(found["output"], tables_at(net, {}, "output", [1, 1, 1]))
    single = plain(net, "last", linear(6))
    assert isinstance(single.attribute(X, target=0, attribute_to_layer_input=True), InteractionsBatch)


@pytest.mark.parametrize(
    ("score", "of_logits"),
    [
        ("logit", lambda z: z[2]),
        ("log_odds", lambda z: z[2] - z[:2].logsumexp(0)),
        ("log_prob", lambda z: z.log_softmax(0)[2]),
        ("prob", lambda z: z.softmax(0)[2]),
        ("margin", lambda z: z[2] - z[:2].max()),
        (lambda output, target: output[:, 0] * target, lambda z: 2 * z[0]),
    ],
)
def test_every_score_is_of_the_read_out(net, probes, score, of_logits):
    found = plain(net, "first", probes, score=score).attribute(X, baselines=LINE, target=2, feature_mask=IDS)
    expected = tables_at(net, probes, "first", [2, 2, 2], lambda z, column: of_logits(z[0].double()))
    assert_tables(found, expected)


@pytest.mark.parametrize(("target", "sign"), [(None, 1), (1, 1), (0, -1), ("predicted", None)])
def test_one_column(target, sign):
    net, probe = Net(1).eval(), linear(5, 1)
    found = plain(net, "first", probe, score="binary_log_odds").attribute(X, target=target, baselines=LINE)
    signs = [sign or (1 if net(x[None]).item() > 0 else -1) for x in X]
    expected = tables(lambda b, row: signs[b] * probe(put_out(net, "first", row)), ids=EVERYONE)
    assert_tables(found, expected)


@pytest.mark.parametrize(
    ("target", "columns"),
    [(2, [2, 2, 2]), ([0, 2, 1], [0, 2, 1]), (torch.tensor([1, 1, 0]), [1, 1, 0]), ((1,), [1, 1, 1])],
)
def test_kinds_of_target(net, probes, target, columns):
    found = plain(net, "inner", probes).attribute(X, baselines=LINE, target=target, feature_mask=IDS)
    assert_tables(found, tables_at(net, probes, "inner", columns))


def test_the_predicted_class_is_the_models_not_the_layers(net):
    predicted = net(X).argmax(1).tolist()
    found = plain(net, "first", {"first": linear(5)}).attribute(X, target="predicted")
    assert [one.provenance["target"] for one in found] == predicted


def test_players_made_beforehand(net, probes):
    players = players_from_mask(X, LINE, IDS, player_names=["a", "b", "c", "d"])
    found = plain(net, "inner", probes).attribute(players, target=1)
    assert [one.players for one in found] == [("a", "b", "c", "d"), ("a", "b", "c"), ("b", "d")]
    assert_tables(found, tables_at(net, probes, "inner", [1, 1, 1]))
    named = plain(net, ["inner"], probes).attribute(X, target=1, player_names=list("wxyz"))["inner"]
    assert named[0].players == ("w", "x", "y", "z")


def test_further_arguments_go_row_by_row():
    class Scaled(Net):
        def forward(self, x, scale, shift=0):
            return super().forward(x * scale + shift)

    net, scale, shift = Scaled().eval(), normal(3, 1, seed=7), normal(3, 4, seed=8)
    probe = linear(6)
    expected = tables(lambda b, row: probe(net.inner(net.first(row * scale[b] + shift[b])))[0, 1], ids=EVERYONE)
    by_position = plain(net, "inner", probe).attribute(X, LINE, 1, (scale, shift), perturbations_per_eval=2)
    assert_tables(by_position, expected)
    by_keyword = plain(net, "inner", probe).attribute(X, LINE, 1, {"shift": shift, "scale": scale})
    assert_tables(by_keyword, expected)


def test_what_a_result_remembers(net, probes):
    def mean_of_squares(h):
        return h**2

    layers = [Layer("first", pool=mean_of_squares), "inner", "output"]
    found = plain(net, layers, probes | {"inner": lambda f: f[:, :3]}).attribute(X, target=0)
    remembered = {name: batch[0].provenance for name, batch in found.items()}
    assert remembered["first"]["layer"] == "first"
    assert remembered["first"]["pool"] == "mean_of_squares()"
    assert remembered["first"]["readout"] == "Linear"
    assert remembered["inner"]["readout"] == "<lambda>"
    assert "readout" not in remembered["output"]
    assert {entry["model"] for entry in remembered.values()} == {"Net"}


# ---------------------------------------------------------------- a model of transformers

BERT = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
BERT |= {"num_labels": 3, "initializer_range": 0.5}
TEXT = torch.tensor([[7, 12, 30, 41], [9, 8, 44, 0]])
ATTENTION = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
WORDS = torch.tensor([[0, 1, 2, -1]])


@pytest.mark.parametrize("pool", ["auto", "mean", "last", "cls"])
def test_a_batch_encoding_with_padding(pool):
    model, probe = made(BertForSequenceClassification, BertConfig, **BERT), linear(16)
    encoding = BatchEncoding({"input_ids": TEXT, "attention_mask": ATTENTION})
    found = plain(model, [Layer(1, pool=pool), "output"], probe).attribute(
        encoding, baselines=3, target=1, feature_mask=WORDS, perturbations_per_eval=3
    )
    lengths = ATTENTION.sum(1)
    token = {"auto": lambda h, b: h[:, 0], "cls": lambda h, b: h[:, 0]}
    token |= {"mean": lambda h, b: h[:, : lengths[b]].mean(1), "last": lambda h, b: h[:, lengths[b] - 1]}

    def at_layer(b, ids):
        states = model(input_ids=ids, attention_mask=ATTENTION[b : b + 1], output_hidden_states=True).hidden_states[2]
        return probe(token[pool](states, b))[0, 1]

    asked = {"x": TEXT, "baselines": torch.full_like(TEXT, 3), "ids": WORDS.expand(2, 4)}
    assert_tables(found["bert.encoder.layer.1"], tables(at_layer, **asked))
    at_output = tables(lambda b, ids: model(ids, ATTENTION[b : b + 1]).logits[0, 1], **asked)
    assert_tables(found["output"], at_output)


def test_a_head_with_an_output_a_token():
    """A layer is read where the output is explained; a pooling that is named stays what it is."""
    model, probe = made(BertForTokenClassification, BertConfig, **BERT), linear(16)
    asked = {"x": TEXT, "baselines": torch.full_like(TEXT, 3), "ids": WORDS.expand(2, 4)}
    layers, targets = [0, Layer(1, pool="cls"), "output"], [(1, 2), (3, 0)]
    found = plain(model, layers, {f"bert.encoder.layer.{i}": probe for i in (0, 1)}).attribute(
        TEXT, 3, targets, {"attention_mask": torch.ones_like(TEXT)}, WORDS
    )

    def states(layer, b, ids, token):
        return probe(model(ids, output_hidden_states=True).hidden_states[layer][:, token])[0, targets[b][1]]

    assert_tables(found["output"], tables(lambda b, ids: model(ids).logits[0][targets[b]], **asked))
    at_target = tables(lambda b, ids: states(1, b, ids, targets[b][0]), **asked)
    assert_tables(found["bert.encoder.layer.0"], at_target)
    assert_tables(found["bert.encoder.layer.1"], tables(lambda b, ids: states(2, b, ids, 0), **asked))


def test_a_list_of_players_is_one_stream(net, probes, capsys):
    parts = [players_from_mask(X[:2], -1.0), players_from_mask(X[2:, :3], feature_mask=torch.tensor([0, 1, 1]))]
    ends = nn.Linear(3, 2).requires_grad_(False).eval()

    class Either(nn.Module):
        def forward(self, x):
            return ends(x[:, :3])

    method = AndOrInteraction(Either().eval(), score="logit", noise=0)
    found = method.attribute(parts, target=[0, 1, 1], show_progress=True)
    shown = capsys.readouterr().err.replace("\r", "\n")
    assert shown.count("AND-OR interactions:") == shown.count("/36")  # 2 samples of 4 players, one of 2
    each = [*method.attribute(parts[0], target=[0, 1]), *method.attribute(parts[1], target=1)]
    assert len(found) == 3
    for one, expected in zip(found, each, strict=True):
        assert torch.equal(one.values, expected.values)
        torch.testing.assert_close(one.and_effects, expected.and_effects, atol=1e-9, rtol=0)
        assert one.provenance["target"] == expected.provenance["target"]


def test_a_tuple_of_players_is_refused(net):
    several = players_from_mask(X[:1]), players_from_mask(X[:1])
    with pytest.raises(TypeError, match="got a tuple of Players"):
        AndOrInteraction(net).attribute(several, target=0)


def removable():
    """Words whose absence is a 0 in the attention mask."""
    return Players(
        inputs=(torch.ones_like(TEXT),),
        baselines=(torch.zeros_like(TEXT),),
        owners=(WORDS.expand(2, 4),),
        labels=(("a", "b", "c"),) * 2,
        names=("attention_mask",),
        constants={"input_ids": TEXT},
    )


def test_words_removed_under_a_head_with_an_output_a_token():
    model = made(BertForTokenClassification, BertConfig, **BERT)
    players = removable()
    found = AndOrInteraction(model, score="logit", kind="and", noise=0).attribute(players, target=(3, 1))
    assert found[0].provenance["evaluation"] == "plain"  # the output has a place for each token
    asked = {"x": torch.ones_like(TEXT), "baselines": torch.zeros_like(TEXT), "ids": WORDS.expand(2, 4)}
    expected = tables(lambda b, mask: model(TEXT[b : b + 1], attention_mask=mask).logits[0, 3, 1], **asked)
    assert_tables(found, expected)


def test_functions_that_count_on_positions_where_words_are_removed():
    """Tokens of words that the attention mask removes need not be computed; then none stands where it stood."""
    model, probe = made(BertForSequenceClassification, BertConfig, **BERT), linear(64)
    players = removable()
    asked = {"x": torch.ones_like(TEXT), "baselines": torch.zeros_like(TEXT), "ids": WORDS.expand(2, 4)}

    def states(b, mask):
        return model(TEXT[b : b + 1], mask, output_hidden_states=True).hidden_states[1]

    flattened = plain(model, [Layer(0, pool=lambda h: h.flatten(1))], probe).attribute(players, target=1)
    expected = tables(lambda b, mask: probe(states(b, mask).flatten(1))[0, 1], **asked)
    assert_tables(flattened["bert.encoder.layer.0"], expected)
    third_token = Layer(0, select=lambda out: (out[0] if isinstance(out, tuple) else out)[:, 2])  # transformers 4 and 5
    third = plain(model, [third_token], lambda f: f[:, :3]).attribute(players, target=1)
    assert_tables(third["bert.encoder.layer.0"], tables(lambda b, mask: states(b, mask)[0, 2, 1], **asked))
    cls = plain(model, [0], lambda f: f[:, :3]).attribute(players, target=1)
    assert_tables(cls["bert.encoder.layer.0"], tables(lambda b, mask: states(b, mask)[0, 0, 1], **asked))


# ---------------------------------------------------------------- Captum's class


def test_it_is_captums_layer_and_perturbation_attribution(net, probes):
    method = LayerAndOrInteraction(net, "first", probe=probes)
    assert isinstance(method, LayerAttribution)
    assert isinstance(method, PerturbationAttribution)
    assert method.forward_func is net
    assert method.layer == "first"
    assert method.device_ids is None
    assert method.has_convergence_delta()
    assert method.get_name()


def positional(function):
    parameters = list(inspect.signature(function).parameters.values())
    return [(p.name, p.default) for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]


def test_positions_are_captums():
    own = positional(LayerAndOrInteraction.__init__)
    assert own == positional(LayerActivation.__init__) == positional(LayerFeatureAblation.__init__)
    attribute = positional(LayerAndOrInteraction.attribute)
    known = positional(ShapleyValues.attribute)
    assert [name for name, _ in attribute] == [*(name for name, _ in known), "attribute_to_layer_input"]
    defaults = dict(known) | dict(positional(LayerFeatureAblation.attribute)) | {"perturbations_per_eval": None}
    assert all(default == defaults[name] for name, default in attribute if name != "self")


def test_the_function_inside_the_decorators_can_be_called(net, probes):
    """As TCAV does with the layer method that it is given."""
    method = plain(net, "first", probes)
    reached = method.attribute.__wrapped__(method, X, target=1, attribute_to_layer_input=False)
    for one, other in zip(reached, method.attribute(X, target=1), strict=True):
        assert torch.equal(one.values, other.values)


def test_convergence_delta_of_a_batch_and_of_a_dict(net, probes):
    method = LayerAndOrInteraction(net, LAYERS, probe=probes, kind="and")
    found = method.attribute(X, target=1, feature_mask=IDS)
    deltas = method.compute_convergence_delta(found)
    assert list(deltas) == LAYERS
    for name, delta in deltas.items():
        assert delta.efficiency.abs().max() < 1e-9
        assert delta.matching.tolist() == [one.residual for one in found[name]]
    single = method.compute_convergence_delta(found["first"], None, X)
    assert torch.equal(single.matching, deltas["first"].matching)
    for wrong in (X, {"first": X}):
        with pytest.raises(TypeError, match=r"attributions must be the InteractionsBatch .*got Tensor"):
            method.compute_convergence_delta(wrong)


# ---------------------------------------------------------------- what cannot be


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({"probe": None}, ValueError, r"layer 'first' has no classes of its own: give probe=.*LinearProbes.fit"),
        ({"probe": {}}, ValueError, "probe has no read-out for layer 'first', it has none: fit one"),
        ({"probe": {"last": len}}, ValueError, "probe has no read-out for layer 'first', it has last: fit one"),
        ({"probe": {"first": None}}, ValueError, "layer 'first' has no classes of its own"),
        ({"probe": {"first": "mean"}}, TypeError, "the read-out of layer 'first' must be callable; got a str"),
        ({"probe": 3}, TypeError, "the read-out of layer 'first' must be callable; got a int"),
        ({"layer": "frist"}, ValueError, "Net has no layer 'frist': did you mean 'first'"),
        ({"layer": []}, ValueError, "layers is empty"),
        ({"layer": ["first", "first"]}, ValueError, "layers has first more than once"),
        ({"layer": ["output", "first", "output"]}, ValueError, "layer has 'output', .*, more than once: give it once"),
        ({"layer": None}, TypeError, "a layer must be a dotted name, a module or a number; got a NoneType"),
        ({"device_ids": [0, 1]}, ValueError, "device_ids has 2 devices: layers are read on one"),
        ({"score": "logodds"}, ValueError, "score must be one of .*got 'logodds'"),
        ({"noise": -1}, ValueError, "noise must be a finite number >= 0; got -1"),
        ({"kind": "or"}, ValueError, "kind"),
        ({"forward_func": 3}, TypeError, "forward_func must be an nn.Module, a function or an estimator; got a int"),
        ({"layers": "first"}, TypeError, "unexpected keyword argument 'layers'"),
    ],
)
def test_what_is_refused_at_once(net, given, error, says):
    with pytest.raises(error, match=says):
        LayerAndOrInteraction(**{"forward_func": net, "layer": "first", "probe": linear(5)} | given)


def test_probes_of_another_layer_or_checkpoint_are_refused(net):
    def probe(**settings):
        known = {"layer": Layer("first"), "fingerprint": fingerprint(net), "model": "Net"}
        return LinearProbe(weight=normal(3, 5), bias=normal(3), **(known | settings))

    own = probe()
    expected = tables_at(net, {"first": lambda h: own(h)}, "first", [1, 1, 1])
    for form in (own, {"first": own}, LinearProbes([own])):
        assert_tables(plain(net, "first", form).attribute(X, LINE, 1, feature_mask=IDS), expected)
    assert_tables(plain(data_parallel(net).eval(), "first", own).attribute(X, LINE, 1, feature_mask=IDS), expected)
    for layer in ("inner.1", Layer("first", pool="mean"), Layer("first", call_index=0), Layer("first", input=True)):
        with pytest.raises(ValueError, match="the probe of layer 'first' was fitted to a layer with"):
            plain(net, layer, own)
    with pytest.raises(
        ValueError, match="the probe of layer 'first' was fitted to a layer with name 'first', not 'last'"
    ):
        plain(net, ["first", "last"], own)
    with pytest.raises(ValueError, match="was fitted to a layer with input False, not True"):
        plain(net, "first", own).attribute(X, target=0, attribute_to_layer_input=True)
    for other in (probe(fingerprint="0" * 64), {"first": probe(fingerprint="0" * 64)}):
        with pytest.raises(ValueError, match=r"fitted to a Net with weights of SHA-256 000000000000\.\.\."):
            plain(net, "first", other)
    plain(net, "first", probe(fingerprint=""))  # told not to mind


class NetWithOutputLayer(nn.Module):
    """A layer called output, and behind it another: x -> 2x -> 2x + 1."""

    def __init__(self):
        super().__init__()
        self.output, self.final = nn.Linear(2, 2, bias=False), nn.Linear(2, 2)
        with torch.no_grad():
            self.output.weight.copy_(2 * torch.eye(2))
            self.final.weight.copy_(torch.eye(2))
            self.final.bias.fill_(1)

    def forward(self, x):
        return self.final(self.output(x))


def test_a_layer_called_output_and_the_models_own_output():
    net, x = NetWithOutputLayer().eval(), torch.tensor([[3.0, 5.0]])

    def hundredfold(feature):
        return 100 * feature

    found = plain(net, [Layer("output"), "output"], {"output (layer)": hundredfold}).attribute(x, target=1)
    assert {label: one[0].v_full for label, one in found.items()} == {"output (layer)": 1000, "output": 11}
    assert found["output (layer)"][0].provenance["layer"] == "output (layer)"
    assert plain(net, Layer("output"), hundredfold).attribute(x, target=0)[0].v_full == 600
    assert plain(net, "output").attribute(x, target=0)[0].v_full == 7
    assert plain(net, ["final", "output"], {"final": hundredfold}).attribute(x, target=0)["output"][0].v_full == 7


@pytest.mark.parametrize(
    ("layer", "probe"),
    [
        ("output", lambda f: f),
        (["final", "output"], lambda f: f),
        ("output", {"output": lambda f: f}),
        (["final", "output"], {"final": lambda f: f, "output (layer)": lambda f: f}),
    ],
)
def test_a_read_out_for_either_output_is_refused(layer, probe):
    with pytest.raises(
        ValueError, match=r"also has a layer of that name.*give layer=Layer\('output'\), whose label is"
    ):
        plain(NetWithOutputLayer().eval(), layer, probe)


@pytest.mark.parametrize("probe", [linear(3), {"output": linear(3)}])
def test_a_read_out_for_the_models_own_output_is_refused(net, probe):
    with pytest.raises(ValueError, match="probe has a read-out for 'output', the model's own output, which is scored"):
        plain(net, "output", probe)


def test_the_models_own_output_given_twice(net):
    with pytest.raises(ValueError, match="layer has 'output', the model's own output, more than once"):
        plain(net, ["output", "output"])


def test_a_missing_read_out_of_the_inputs(net, probes):
    method = plain(net, ["first", "inner"], probes)
    with pytest.raises(ValueError, match=r"no read-out for layer 'first \(input\)', it has inner, first, inner.1"):
        method.attribute(X, target=0, attribute_to_layer_input=True)


WRONG = [
    (
        lambda f: f[:, :2],
        ValueError,
        r"read-out of layer 'first' must return logits \[\d, 3\], a row.*got float32 \[\d, 2\]",
    ),
    (lambda f: f[:, 0], ValueError, r"read-out of layer 'first' must return logits \[\d, C\].*got float32 \[\d\]"),
    (lambda f: f[:1, :3], ValueError, r"read-out of layer 'first' must return logits \[3, C\].*got float32 \[1, 3\]"),
    (
        lambda f: f[:, :3].tolist(),
        TypeError,
        r"read-out of layer 'first' must return logits \[3, C\]; got a list",
    ),
    (lambda f: None, TypeError, r"read-out of layer 'first' must return logits \[3, C\]; got a NoneType"),
    (lambda f: f[:, :3] / 0 * 0, ValueError, r"value of sample 0 at layer 'first' is nan with the players \{0, 1, 2"),
    (lambda f: f[:, :3].softmax(1), ValueError, r"at layer 'first', score=\"log_odds\" reads logits, and the output"),
]


@pytest.mark.parametrize(("probe", "error", "says"), WRONG)
def test_read_outs_that_do_not_fit(net, probe, error, says):
    calls = record(net)
    with pytest.raises(error, match=says):
        LayerAndOrInteraction(net, ["output", "first"], probe=probe).attribute(X, target=0)
    assert len(calls) <= 2  # the samples, and a few masks
    assert hooks_of(net) == 0


def test_not_finite_for_some_masks_alone(net):
    spoiled = X[0] * torch.tensor([0, 1, 1, 0])
    alone = net.first(spoiled)

    def probe(f):
        return torch.where((f - alone).abs().amax(1, keepdim=True) < 1e-6, torch.inf, f[:, :3])

    with pytest.raises(ValueError, match=r"sample 0 at layer 'first' is inf with the players \{1, 2\} .*mask 6 of 16"):
        plain(net, ["first", "output"], probe).attribute(X, target=0)


def test_probabilities_of_the_model_do_not_matter_where_it_is_not_read(probes):
    class Ends(Net):
        def forward(self, x):
            return super().forward(x).softmax(1)

    net = Ends().eval()
    LayerAndOrInteraction(net, "first", probe=probes).attribute(X, target=0)
    with pytest.raises(ValueError, match=r'^score="log_odds" reads logits'):
        LayerAndOrInteraction(net, ["first", "output"], probe=probes).attribute(X, target=0)


def test_one_value_for_the_batch_has_no_layers():
    class Total(Net):
        def forward(self, x):
            return super().forward(x).sum()

    net = Total(1).eval()
    for x in (X, X[:1]):
        with pytest.raises(ValueError, match="one value for the whole batch, and layer 'first' is read row by row"):
            plain(net, ["output", "first"], linear(5, 1)).attribute(x)
    assert len(plain(net, ["output"]).attribute(X)["output"]) == 1


def test_rows_that_influence_each_other_at_a_layer_alone():
    class Centred(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Identity()

        def forward(self, x):
            self.layer(x - x.mean(0))
            return x[:, :1]

    net = Centred().eval()
    plain(net, "output").attribute(X)
    with pytest.raises(ValueError, match="rows of a batch influence each other"):
        plain(net, "layer", lambda f: f[:, :1]).attribute(X)


def test_a_read_out_that_writes_changes_nothing_else(net, probes):
    def careless(f):
        f.neg_()
        return f[:, :3]

    found = plain(net, ["first", "inner", "output"], probes | {"first": careless}).attribute(
        X, LINE, 1, feature_mask=IDS
    )
    for name in ("inner", "output"):
        assert_tables(found[name], tables_at(net, probes, name, [1, 1, 1]))
    assert_tables(found["first"], tables_at(net, {"first": lambda f: -f[:, :3]}, "first", [1, 1, 1]))


def test_values_are_of_the_layer_before_in_place_modules(net):
    """In float64 nothing is copied on the way to the table."""
    net = net.double()
    x, line = X.double(), LINE.double()
    found = plain(net, ["inner.1"], lambda f: f[:, :3], score=lambda z, target: z[:, 1]).attribute(x, line, 0)
    expected = tables(lambda b, row: net.inner[1](net.first(row).tanh())[0, 1], x, line, EVERYONE)
    assert any((table < 0).any() for table in expected)
    assert_tables(found["inner.1"], expected)


# ---------------------------------------------------------------- the model as it was found


def state_of(net):
    flags = [(module.training, len(module._forward_hooks), len(module._forward_pre_hooks)) for module in net.modules()]
    parameters = [(p.data_ptr(), p.requires_grad, p.device, p.grad) for p in net.parameters()]
    return flags, parameters, {k: v.clone() for k, v in net.state_dict().items()}, torch.get_rng_state().clone()


def assert_as_found(net, before):
    after = state_of(net)
    assert after[:2] == before[:2]
    assert all(torch.equal(after[2][name], value) for name, value in before[2].items())
    assert torch.equal(after[3], before[3])


@pytest.mark.filterwarnings("ignore:Net is in training mode")
def test_the_model_is_left_as_found(net, probes):
    net.inner.train()
    net.first.weight.requires_grad_(False)
    net.inner[1].register_forward_hook(lambda module, args, output: output + 0 * torch.rand(1))  # a hook that stays
    before = state_of(net)
    method = plain(net, LAYERS, probes)
    method.attribute(X, target=1)
    assert_as_found(net, before)
    with pytest.raises(ValueError, match="target must be 0"):
        method.attribute(X, target=7)
    assert_as_found(net, before)


@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt(), ValueError("bad")])
@pytest.mark.parametrize("where", ["forward", "read-out", "pool", "select", "score"])
@pytest.mark.parametrize("call", [1, 3, 9])
def test_the_model_is_left_as_found_after_an_error(net, probes, error, where, call):
    calls = []

    def counting(function):
        def counted(*args):
            calls.append(1)
            if len(calls) >= call:
                raise error
            return function(*args)

        return counted

    layer, score = Layer("first"), "logit"
    if where == "forward":
        net.last.forward = counting(net.last.forward)
    elif where == "read-out":
        probes["first"] = counting(probes["first"])
    elif where == "score":
        score = counting(SCORES["logit"])
    else:
        layer = Layer("first", **{where: counting(lambda h: h)})
    before = state_of(net)
    with pytest.raises(type(error)):
        plain(net, [layer, "inner", "output"], probes, score=score).attribute(X, target=1, perturbations_per_eval=1)
    assert len(calls) - call in (0, 1)  # where a forward fails, another kind of it is tried
    assert_as_found(net, before)


@pytest.mark.parametrize("where", ["forward", "read-out"])
def test_memory_that_runs_out(net, probes, where):
    def scarce(function):
        def limited(x):
            if len(x) > 5:
                raise RuntimeError("CUDA out of memory. Tried to allocate")
            return function(x)

        return limited

    expected = {name: tables_at(net, probes, name, [1, 1, 1]) for name in LAYERS}
    if where == "forward":
        net.inner[1].forward = scarce(net.inner[1].forward)
    else:
        probes["first"] = scarce(probes["first"])
    before = state_of(net)
    with pytest.warns(UserWarning, match="out of memory with .* masked copies in a forward"):
        found = plain(net, LAYERS, probes).attribute(X, LINE, 1, feature_mask=IDS)
    assert_as_found(net, before)
    for name, batch in found.items():
        assert_tables(batch, expected[name])


def test_no_gradients_in_read_outs(net):
    seen = []

    def probe(f):
        seen.append((f.requires_grad, torch.is_grad_enabled(), torch.is_inference_mode_enabled()))
        return f[:, :3]

    with torch.enable_grad():
        plain(net, "first", probe).attribute(X.clone().requires_grad_(), target=0)
    assert set(seen) == {(False, False, False)}


# ---------------------------------------------------------------- memory

# getrusage would tell the parent's peak, which a process inherits.
MEASURE = """
import torch
from torch import nn
from captum_lkn import LayerAndOrInteraction

WIDTH, LAYERS, TOKENS, PLAYERS = 64, 12, 32, 10

class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(100, WIDTH)
        blocks = [nn.TransformerEncoderLayer(WIDTH, 2, WIDTH, batch_first=True) for _ in range(LAYERS)]
        self.blocks, self.head = nn.ModuleList(blocks), nn.Linear(WIDTH, 2)

    def forward(self, ids):
        states = self.embedding(ids)
        for block in self.blocks:
            states = block(states)
        return self.head(states[:, 0])

def megabytes():
    (peak,) = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]
    return int(peak) / 1024

def read(layers):
    method = LayerAndOrInteraction(net, layers, probe=nn.Linear(WIDTH, 2), score="logit", kind="and", noise=0)
    return method.attribute(ids, baselines=1, target=1, feature_mask=mask)

net = Encoder().eval()
ids = torch.arange(TOKENS)[None] + 5
mask = torch.where(torch.arange(TOKENS) < PLAYERS, torch.arange(TOKENS), -1)[None]
read([0, "output"])  # the first forward with gradients loads 30 MB of code, whatever its size
alone = megabytes()
assert len(read([*range(LAYERS), "output"])) == LAYERS + 1
print(alone, megabytes())
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="only Linux tells a process's own peak of memory")
def test_layers_cost_no_memory():
    """The outputs of twelve layers on all masks would be 100 MB here: a number a mask is kept of them."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", MEASURE],
        capture_output=True,
        text=True,
        check=True,
        # With a fixed threshold glibc gives freed blocks back, whatever was freed before, so the peak varies little.
        env={**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "1000000"},
    )
    alone, together = map(float, done.stdout.split())
    assert together - alone < 50, done.stdout  # about 22 were measured: the outputs of one forward are 25 MB
