"""One model in two threads: each gets what it gets alone, and the model is left as found."""

import sys
import threading
import warnings

import pytest
import torch
from forwards import normal, plain
from model_state import assert_unchanged, state_of
from tiny_models import BERT, made
from torch import nn
from transformers import BertConfig, BertForSequenceClassification, GPT2Config, GPT2ForSequenceClassification

from captum_lkn import LayerAndOrInteraction, logit_lens
from captum_lkn.models.layers import Layer
from captum_lkn.models.session import evaluation

ROUNDS = 3
FIRST, SECOND = normal(1, 6, seed=1), normal(3, 6, seed=2)
IDS = torch.tensor([[7, 12, 30, 41, 5], [9, 8, 44, 0, 0]])
OWN = torch.tensor([[-1, 0, 1, 1, 2], [-1, 0, 1, -1, -1]])


@pytest.fixture(autouse=True)
def _many_switches():
    """Threads are switched as often as the interpreter can, so that what is shared is met."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of training mode, which threads would print in any order
        yield
    sys.setswitchinterval(interval)


@pytest.fixture
def net():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [nn.Linear(6, 8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2)]
        return nn.Sequential(*layers).eval()


def output(model, inputs, target, **asked):
    return lambda: [one.values for one in plain(model).attribute(inputs, target=target, **asked)]


def at_layer(model, layer, inputs, target, **asked):
    method = LayerAndOrInteraction(model, layer, probe=lambda f: f[:, :2], score="logit", kind="and", noise=0)
    return lambda: [one.values for one in method.attribute(inputs, target=target, **asked)]


def assert_as_alone(model, jobs):
    """Run the jobs alone, then at once, several times."""
    expected = [job() for job in jobs]
    before, random = state_of(model), torch.get_rng_state()
    for _ in range(ROUNDS):
        found = [None] * len(jobs)

        def run(place, found=found):
            try:
                found[place] = jobs[place]()
            except BaseException as error:
                found[place] = error

        threads = [threading.Thread(target=run, args=(place,)) for place in range(len(jobs))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for one, alone in zip(found, expected, strict=True):
            if isinstance(one, BaseException):
                raise one
            assert all(torch.equal(a, b) for a, b in zip(one, alone, strict=True))
        assert_unchanged(dict(before), model)
        assert torch.equal(random, torch.get_rng_state())


@pytest.mark.parametrize("training", [False, True])
def test_outputs(net, training):
    net.train(training)
    few = {"perturbations_per_eval": 2}
    assert_as_alone(net, [output(net, FIRST, 0, **few), output(net, SECOND, 1, **few)])


def test_one_method_in_two_threads(net):
    method = plain(net)
    jobs = [lambda x=x: [one.values for one in method.attribute(x, target=1)] for x in (FIRST, SECOND)]
    assert_as_alone(net, jobs)


@pytest.mark.parametrize("layer", ["3", Layer("3", call_index=0), Layer("3", input=True)], ids=str)
def test_layers(net, layer):
    few = {"perturbations_per_eval": 4}
    assert_as_alone(net, [at_layer(net, layer, FIRST, 0, **few), at_layer(net, layer, SECOND, 1, **few)])


def test_a_layer_beside_forwards_of_the_user(net):
    def forwards():
        with torch.no_grad():
            return [net(FIRST) for _ in range(200)]

    assert_as_alone(net, [at_layer(net, "3", SECOND, 0, perturbations_per_eval=4), forwards])


def test_a_model_and_a_part_of_it(net):
    net.train()
    part = net[3:]
    few = {"perturbations_per_eval": 1}
    assert_as_alone(net, [output(net, FIRST, 0, **few), output(part, normal(1, 8), 1, **few)])


@pytest.mark.filterwarnings("ignore")
def test_layers_of_a_compiled_model(net):
    if torch.__version__.startswith("2.4."):
        pytest.skip("torch 2.4 now and then ends the process where two threads call a compiled model")
    compiled = torch.compile(net, backend="eager")
    net[0].compile(backend="eager")
    jobs = [at_layer(compiled, "3", FIRST, 0), at_layer(compiled, "0", SECOND, 1)]
    assert_as_alone(net, jobs)


def test_a_classifier_whose_padding_token_stands_for_absent_words():
    config = {"vocab_size": 60, "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 40, "num_labels": 3}
    model = made(GPT2ForSequenceClassification, GPT2Config, **config, pad_token_id=0, initializer_range=0.5)
    jobs = [
        output(model, IDS[:1], 0, baselines=0, feature_mask=OWN[:1], perturbations_per_eval=2),
        output(model, IDS, 1, baselines=0, feature_mask=OWN, perturbations_per_eval=2),
    ]
    assert_as_alone(model, jobs)
    assert model.config.pad_token_id == 0


def test_a_logit_lens_is_found_beside_forwards_of_the_user():
    model = made(BertForSequenceClassification, BertConfig, **BERT)

    def forwards():
        with torch.no_grad():
            return [model(IDS).logits for _ in range(20)]

    def lens():
        feature = normal(3, 16)
        with torch.no_grad():
            return [logit_lens(model)(feature)]

    assert_as_alone(model, [lens, forwards])


def test_many_sessions(net):
    """Sessions that open and close in other threads do not disturb one that looks at the flags."""
    errors = []

    def run():
        try:
            for _ in range(400):
                with evaluation(net, "the model"):
                    pass
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert not net.training
