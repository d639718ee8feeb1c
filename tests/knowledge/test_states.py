import gc
import re
import weakref
from contextlib import contextmanager
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from torch import nn

from captum_lkn import AndOrInteraction, KnowledgeChange, compare_models, players_from_mask, text_players
from captum_lkn.knowledge.states import _check_classes, _State

X = torch.tensor([[1.0, 2.0, -1.0], [0.5, -1.0, 2.0], [2.0, 1.0, 1.0], [-1.0, 1.5, 0.5]])


class Net(nn.Module):
    def __init__(self, hidden=8):
        super().__init__()
        with torch.random.fork_rng(devices=[]):  # other weights may give outputs that look like probabilities
            torch.manual_seed(3)
            self.layers = nn.Sequential(nn.Linear(3, hidden), nn.Tanh(), nn.Linear(hidden, 2))

    def forward(self, x):
        return self.layers(x)


@pytest.fixture(scope="module")
def checkpoints():
    """Return the weights of a tiny training run: class 1 where the first two columns have one sign."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        net, found = Net(), {}
        optimiser = torch.optim.Adam(net.parameters(), 0.05)
        for step in range(121):
            if step in (0, 20, 120):
                found[f"step {step}"] = {name: value.clone() for name, value in net.state_dict().items()}
            x = torch.randn(64, 3)
            loss = nn.functional.cross_entropy(net(x), (x[:, 0] * x[:, 1] > 0).long())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return found


def loaded(weights):
    net = Net()
    net.load_state_dict(weights)
    return net.eval()


@pytest.fixture(scope="module")
def trained(checkpoints):
    loaders = {name: partial(loaded, weights) for name, weights in checkpoints.items()}
    return compare_models(loaders, X, target=1, reference="step 120", noun="checkpoint", kappa=0.02)


def test_checkpoints_are_compared_as_if_each_were_extracted_by_itself(checkpoints, trained):
    alone = KnowledgeChange(
        {
            name: AndOrInteraction(loaded(weights), kappa=0.02).attribute(X, target=1)
            for name, weights in checkpoints.items()
        },
        reference="step 120",
    )
    assert trained.states == alone.states == ("step 0", "step 20")
    for name in trained:
        assert torch.equal(trained[name].samples.overlap, alone[name].samples.overlap)
    complete = [float(trained[name].over_orders().completeness[0, 0]) for name in trained]
    assert complete[0] < complete[1]  # the product is learned


def test_texts_frames_and_files_know_what_a_state_is(trained, tmp_path):
    path = tmp_path / "run.safetensors"
    trained.with_noise_ceiling(draws=2).save(path)
    again = KnowledgeChange.load(path)
    assert again.noun == "checkpoint"
    assert str(again).count("checkpoint") >= 4
    assert "layer" not in str(again) + repr(again)
    frame = again.to_frame()
    assert list(frame["checkpoint"].cat.categories) == ["step 0", "step 20"]
    assert 0 < frame["completeness_ceiling_all_orders"].iloc[0] <= 1
    assert list(again.sensitivity({}).to_frame().columns[:2]) == ["convention", "checkpoint"]
    with pytest.raises(ValueError, match="there is no checkpoint 'step 30' here"):
        again.salient("step 30")
    assert "checkpoint" in str(again.plot.flow().fig.axes[-1].get_xlabel() + again.plot.matrix().ax.get_ylabel())


def test_the_reference_is_loaded_first_and_one_model_at_a_time_is_in_memory():
    alive, order = [], []

    def load(name):
        gc.collect()
        assert all(ref() is None for ref in alive)
        net = Net().eval()
        alive.append(weakref.ref(net))
        order.append(name)
        return net

    change = compare_models({name: partial(load, name) for name in "abc"}, X[:1], target=0, reference="c", noise=0)
    assert order == ["c", "a", "b"]
    assert list(change.interactions) == ["a", "b", "c"]


def test_a_context_manager_undoes_what_it_changed():
    net = Net().eval()
    before = net.layers[0].weight.detach().clone()

    @contextmanager
    def pruned():
        kept = net.layers[0].weight.detach().clone()
        with torch.no_grad():
            net.layers[0].weight[:, 2] = 0
        try:
            yield net
        finally:
            with torch.no_grad():
                net.layers[0].weight.copy_(kept)

    change = compare_models({"whole": net, "pruned": pruned}, X, target=1, reference="whole", noise=0)
    assert torch.equal(net.layers[0].weight, before)
    assert all(2 not in one.members for found in change.salient("pruned") for one in found)
    assert any(2 in one.members for found in change.salient("whole") for one in found)
    with pytest.raises(ValueError, match="target"):
        compare_models({"whole": net, "pruned": pruned}, X, target=9, reference="pruned", noise=0)
    assert torch.equal(net.layers[0].weight, before)  # after an error as well


def test_the_class_is_the_one_that_the_reference_predicts():
    def up(x):
        return torch.stack([0 * x[:, 0], x.sum(1)], 1)

    change = compare_models({"up": up, "down": lambda x: -up(x)}, X, reference="up")
    predicted = [int(row.sum() > 0) for row in X]
    assert [one.provenance["target"] for one in change.interactions["down"]] == predicted
    assert "model" not in change.provenance  # they have different names
    assert "up" not in str(change).splitlines()[1]
    assert change["down"].over_orders().completeness[0, 0] == 0  # all signs differ


def test_classes_in_another_order_are_refused():
    batch = AndOrInteraction(Net().eval(), noise=0).attribute(X[:1], target=1)
    names = {"a": ("bad", "good"), "b": ("good", "bad"), "c": ("LABEL_0", "LABEL_1"), "d": ("bad", "good")}
    states = {name: _State(batch, own) for name, own in names.items()}
    _check_classes({name: states[name] for name in "acd"}, "a")
    with pytest.raises(ValueError, match="'good' is output 1 of 'a' and output 0 of 'b'"):
        _check_classes(states, "a")


def test_models_may_have_players_of_their_own():
    """As two tokenizers give: the same two words are two columns of one model, and four of the other."""
    two = players_from_mask(torch.tensor([[1.0, 2.0]]), player_names=["a", "b"])
    four = players_from_mask(
        torch.tensor([[1.0, 0.0, 2.0, 0.0]]), feature_mask=torch.tensor([0, 0, 1, 1]), player_names=["a", "b"]
    )
    models = {"two": lambda x: x.prod(1), "four": lambda x: x[:, 0] * x[:, 2]}
    change = compare_models(models, {"two": two, "four": four}, target=None, reference="two", score="logit")
    assert change["four"].completeness[0, 1] == 1
    with pytest.raises(ValueError, match="inputs must have Players for each model, two, four; got two"):
        compare_models(models, {"two": two}, reference="two")
    other = players_from_mask(torch.ones(1, 3), feature_mask=torch.tensor([0, 0, 1]), player_names=["a", "c"])
    with pytest.raises(ValueError, match="has the players a, b at 'two' and a, c at 'four'"):
        compare_models(models, {"two": two, "four": [other]}, target=None, reference="two", score="logit")


def test_estimators_are_compared_and_loaded():
    x = np.random.default_rng(0).normal(size=(200, 3))
    y = (x[:, 0] * x[:, 1] > 0).astype(int)
    forest = RandomForestClassifier(20, random_state=0).fit(x, y)
    models = {"linear": LogisticRegression().fit(x, y), "forest": lambda: forest}
    options = {"target": 1, "reference": "forest", "score": "prob", "kappa": 0.02}
    change = compare_models(models, players_from_mask(torch.tensor(x[:2])), **options)
    assert change.interactions["forest"][0].effect(0, 1) != 0
    assert float(change["linear"].completeness[0, 1]) < 0.2  # of the pairs


def test_an_adapter_on_and_off(sentiment):
    peft = pytest.importorskip("peft", reason="peft is not installed, which makes the adapter")
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=sentiment[1].vocab_size,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
    )
    base = BertForSequenceClassification(config)
    model = peft.get_peft_model(base, peft.LoraConfig(r=2, target_modules=["query"], init_lora_weights=False)).eval()

    @contextmanager
    def without():
        with model.disable_adapter():
            yield model

    players = text_players(sentiment[1], "not a good scene")
    change = compare_models({"base": without, "tuned": model}, players, target=1, reference="tuned", noise=0)
    values = {name: batch[0].values for name, batch in change.interactions.items()}
    assert not torch.allclose(values["base"], values["tuned"])
    plain = AndOrInteraction(model, noise=0).attribute(players, target=1)
    assert torch.equal(values["tuned"], plain[0].values)  # the adapter is on again


def test_a_model_whose_arguments_all_have_defaults_is_a_model():
    class Optional:
        def __call__(self, x=None):
            return x.sum(1)

    model = Optional()
    loaders = {"a": model, "b": lambda model=model: model, "c": partial(lambda model=None: model, model=model)}
    change = compare_models(loaders, X[:1], target=None, reference="a", score="logit", noise=0)
    assert all(torch.equal(change.interactions[name][0].values, change.interactions["a"][0].values) for name in "bc")


def test_an_error_names_its_model():
    def failing(x):
        raise RuntimeError("out of memory")

    for model, told in [(failing, r"models\['b'\]\."), (lambda: 1 / 0, r"models\['b'\], which was called without")]:
        with pytest.raises((RuntimeError, ZeroDivisionError)) as caught:
            compare_models({"a": Net().eval(), "b": model}, X[:1], reference="a")
        assert re.search(f"This is of {told}", "\n".join([str(caught.value), *getattr(caught.value, "__notes__", [])]))


def test_the_noun_is_checked_before_the_models_run():
    with pytest.raises(ValueError, match="noun must be a word"):
        compare_models(dict.fromkeys("ab", lambda: 1 / 0), X[:1], reference="a", noun="two words")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"models": [Net()]}, "models must be a mapping"),
        ({"models": {"a": Net()}}, "models must be at least two; got a"),
        ({"models": {"a": Net(), "b": 3}}, "got 'b': 3"),
        (
            {"models": {"a": Net().eval(), "b": lambda: 3}},
            r"models\['b'\] takes no arguments, so that it must return a model",
        ),
        ({"reference": "output"}, "there is no model 'output' here"),
        ({"noun": "two words"}, "noun must be a word"),
    ],
)
def test_what_does_not_fit_is_refused(given, message):
    arguments = {
        "models": {"a": Net().eval(), "b": Net().eval()},
        "inputs": X[:1],
        "target": 0,
        "reference": "a",
        "noise": 0,
    }
    with pytest.raises((TypeError, ValueError), match=message):
        compare_models(**arguments | given)
