"""Ctrl-C at any line of this library leaves the model, the random state and the other shared states as found."""

import functools
import gc
import linecache
import random
import sys
import warnings

import pytest
import torch
from forwards import normal, plain
from model_state import assert_unchanged, state_of
from tiny_models import BERT, made
from torch import nn
from transformers import BertConfig, BertForSequenceClassification, GPT2Config, GPT2ForSequenceClassification

import captum_lkn
from captum_lkn import LayerAndOrInteraction, LinearProbes, logit_lens
from captum_lkn.models import session

X = normal(2, 3)
IDS = torch.tensor([[7, 12, 30, 0]])
OWN = torch.tensor([[0, 1, -1, -1]])


class Net(nn.Module):
    """Some parts are in training mode, one draws random numbers."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.BatchNorm1d(4))
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        torch.rand(1)
        return self.head(self.body(x))


def net():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Net().train()
    net.body[0].eval()
    return net


def gpt2():
    config = {"vocab_size": 60, "n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 40, "num_labels": 3}
    return made(GPT2ForSequenceClassification, GPT2Config, **config, pad_token_id=0).train()


def layers(model):
    method = LayerAndOrInteraction(
        model, ["body.0", "output"], probe=lambda f: f[:, :2], score="logit", kind="and", noise=0
    )
    method.attribute(X, target=1, perturbations_per_eval=3)


WORK = {
    "layers": (net, layers),
    "probes": (net, lambda model: LinearProbes.fit(model, "body.0", [(normal(8, 3), torch.arange(8) % 2)])),
    "padding token": (gpt2, lambda model: plain(model).attribute(IDS, 0, 1, feature_mask=OWN)),
    "logit lens": (lambda: made(BertForSequenceClassification, BertConfig, **BERT).train(), logit_lens),
}


@functools.cache
def opens_a_block(file, line):
    """A tracer sees the line of a `with` once more before the exit, where no Ctrl-C can come: a lock would stay."""
    return linecache.getline(file, line).lstrip().startswith("with ")


class Interrupt:
    """Raise KeyboardInterrupt at one line that runs in this library: the one with the given number."""

    def __init__(self, number):
        self.number, self.lines, self.folder = number, [], captum_lkn.__path__[0]

    def calls(self, frame, event, arg):
        return self.in_frame if frame.f_code.co_filename.startswith(self.folder) else None

    def in_frame(self, frame, event, arg):
        if event == "line" and not opens_a_block(frame.f_code.co_filename, frame.f_lineno):
            self.lines.append((frame.f_code.co_filename, frame.f_lineno))
            if len(self.lines) == self.number:
                sys.settrace(None)
                raise KeyboardInterrupt
        return self.in_frame


def interrupted(number, work):
    """The lines that ran, and whether the interrupt came."""
    interrupt, outer = Interrupt(number), sys.gettrace()
    sys.settrace(interrupt.calls)
    try:
        work()
    except KeyboardInterrupt:
        return interrupt.lines, True
    finally:
        sys.settrace(outer)
    return interrupt.lines, False


# Here the model is changed and restored: each line is interrupted, and a sample of the lines elsewhere.
CHANGES = ("models/session.py", "models/reading.py")
SAMPLE = 25


def places(lines, full):
    """Choose the numbers of lines to interrupt: each line of the files above when it first runs, and a sample."""
    first, last = {}, {}
    for number, line in enumerate(lines, start=1):
        first.setdefault(line, number)
        last[line] = number
    if full:
        return sorted({*first.values(), *last.values()})
    inside = [number for (file, _), number in first.items() if file.endswith(CHANGES)]
    return sorted({*inside, *random.Random(0).sample([*last.values()], SAMPLE)})


@pytest.fixture
def quick_collection():
    """Spare the garbage collection all that was there before, which takes a quarter of a second each time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.slow
@pytest.mark.parametrize("name", WORK)
def test_an_interrupt_at_any_line_leaves_nothing(name, full, quick_collection):
    make, work = WORK[name]
    model = make()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        work(model)  # modules that are imported late are there
        lines, _ = interrupted(None, lambda: work(model))
        for number in places(lines, full):
            before, drawn = state_of(model), torch.get_rng_state()
            seen, came = interrupted(number, lambda: work(model))
            gc.collect()
            assert came, (number, len(lines), len(seen), lines[number - 1])
            assert_unchanged(before, model)
            assert torch.equal(drawn, torch.get_rng_state()), seen[-1]
            assert not session._FLAGS, seen[-1]
            assert not session._LOCK._is_owned(), seen[-1]
            assert torch.is_grad_enabled(), seen[-1]
