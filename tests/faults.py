"""Calls of everything public that runs code of the user, and faults that are put into that code at a chosen place.

Each call reports where it runs the user's code: a forward, a module inside it, a hook, a read-out, a score, a pooling,
a loader, a tokenizer, a file that is read or written. A fault is an exception at the k-th time of one such place.
"""

import collections
import contextlib
import functools
import os
import random
import signal
import sys
import tempfile
import threading
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import numpy as np
import safetensors.torch
import torch
import transformers
from forwards import normal
from model_state import assert_unchanged, state_of
from small_studies import bytes_of
from tiny_models import BERT, made, tiny_causal
from tiny_tokenizers import word_level
from torch import nn

import captum_lkn as lkn
from captum_lkn import evaluation, interop, studies
from captum_lkn.models.hugging_face.pretrained import load_classifier
from captum_lkn.models.session import _FLAGS, _LOCK

# ---------------------------------------------------------------- faults


class Stop(BaseException):
    """An exception of the user that is no `Exception`."""


KINDS = {
    "RuntimeError": RuntimeError,
    "ValueError": ValueError,
    "KeyboardInterrupt": KeyboardInterrupt,
    "SystemExit": SystemExit,
    "MemoryError": MemoryError,
    "OutOfMemoryError": torch.cuda.OutOfMemoryError,
    "StopIteration": StopIteration,
    "GeneratorExit": GeneratorExit,
    "Stop": Stop,
}


class Fault:
    """Counts the places of the user's code that are reached, and raises an error at one of them."""

    def __init__(self):
        self.disarm()

    def disarm(self):
        self.counts, self.place, self.error = collections.Counter(), None, None

    def arm(self, point, number, error):
        self.disarm()
        self.place, self.error = (point, number), error

    def __call__(self, point):
        self.counts[point] += 1
        if (point, self.counts[point]) == self.place:
            raise self.error


REACHED = Fault()


def reporting(function, point):
    """Return a function that reports each call."""

    @functools.wraps(function)
    def reported(*args, **kwargs):
        REACHED(point)
        return function(*args, **kwargs)

    return reported


# ---------------------------------------------------------------- models and their parts


class Inner(nn.Linear):
    def forward(self, x):
        REACHED("module")
        return super().forward(x)


class Probe(nn.Linear):
    def forward(self, x):
        REACHED("read-out")
        return super().forward(x)


class Net(nn.Module):
    """Some parts are in training mode, one draws random numbers, one weight has a gradient and one needs none."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(Inner(3, 4), nn.Dropout(0.5), nn.BatchNorm1d(4), nn.Tanh())
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        REACHED("forward")
        torch.rand(1)
        return self.head(self.body(x))


def hooked(module):
    module.register_forward_hook(lambda *_: REACHED("hook"))
    module.register_forward_pre_hook(lambda *_: REACHED("hook"))


@functools.cache
def net():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Net().train()
    model.body[0].eval()
    model.head.weight.requires_grad_(False)
    model.head.bias.grad = torch.ones(2)
    hooked(model.body[3])
    return model


@functools.cache
def probe():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return Probe(4, 2).train()


@functools.cache
def bert():
    model = made(transformers.BertForSequenceClassification, transformers.BertConfig, **BERT).train()
    model.forward = reporting(model.forward, "forward")
    hooked(model.bert.encoder.layer[0])
    return model


@functools.cache
def gpt2():
    config = {"vocab_size": 60, "n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 40, "num_labels": 3}
    model = made(transformers.GPT2ForSequenceClassification, transformers.GPT2Config, **config, pad_token_id=0).train()
    hooked(model.transformer.h[0])
    return model


@functools.cache
def causal():
    model = tiny_causal("gpt2")
    hooked(model.transformer.h[0])
    return model


@functools.cache
def tokenizer():
    found = word_level()
    kind = type(found)
    found.__class__ = type("Reporting", (kind,), {"__call__": reporting(kind.__call__, "tokenizer")})
    return found


def score(output, target):
    REACHED("score")
    return output.gather(1, target.reshape(-1, 1))[:, 0]


def pool(output):
    REACHED("pooling")
    return output[:, :4]


class Loader:
    """Labelled batches."""

    def __len__(self):
        return 2

    def __iter__(self):
        torch.randperm(24)  # as a loader that shuffles
        x = normal(24, 3)
        for rows in torch.arange(24).split(12):
            REACHED("loader")
            yield x[rows], (x[rows, 0] > 0).long()


X = normal(2, 3)
IDS = torch.tensor([[7, 12, 30, 0]])
OWN = torch.tensor([[0, 1, -1, -1]])
PLAIN = {"score": score, "kind": "and", "noise": 0}
LAYERS = [lkn.Layer("body.0", pool=pool), "body.3", "output"]
READ = {"body.0": probe(), "body.3": probe()}


def layered(**options):
    return lkn.LayerAndOrInteraction(net(), LAYERS, probe=READ, **PLAIN | options)


def knowledge():
    return lkn.LayerwiseKnowledge(net(), LAYERS, probes=READ, score=score)


def players():
    return lkn.players_from_mask(X)


def prompt():
    return lkn.players_from_mask({"input_ids": torch.tensor([[5, 6, 7, 8]])}, baselines=1)


@functools.cache
def found():
    return lkn.AndOrInteraction(lambda x: x.prod(1, keepdim=True), kind="and", noise=0).attribute(X, target=0)


def game(coalitions):
    REACHED("forward")
    return coalitions.sum(1).astype(float)


def loaded(folder):
    kinds = (transformers.AutoModelForSequenceClassification, transformers.AutoTokenizer)
    with contextlib.ExitStack() as patches:
        for kind in kinds:
            patches.enter_context(
                mock.patch.object(kind, "from_pretrained", reporting(kind.from_pretrained, "from_pretrained"))
            )
        load_classifier(classifier())


@functools.cache
def _folder():
    return tempfile.TemporaryDirectory(prefix="faults-")  # removed when Python ends


@functools.cache
def classifier():
    """Return a folder with a saved classifier and its tokenizer."""
    folder = Path(_folder().name, "classifier")
    made(transformers.BertForSequenceClassification, transformers.BertConfig, **BERT).save_pretrained(folder)
    word_level().save_pretrained(folder)
    return folder


@functools.cache
def saved():
    """Return a folder with a saved result, saved probes and a study."""
    folder = Path(_folder().name, "saved")
    folder.mkdir()
    found().save(folder / "found.safetensors")
    lkn.LinearProbes([lkn.LinearProbe(lkn.Layer("0"), torch.ones(2, 3), torch.ones(2))]).save(
        folder / "probes.safetensors"
    )
    studies.run_study(lkn.AndOrInteraction(lambda x: x, score="logit", **{"kind": "and", "noise": 0}), players(),
                      folder / "study", target=0, version="1")  # fmt: skip
    return folder


def reading(work):
    """Report each file that is read, and each step of reading it."""

    def call(folder):
        with (
            mock.patch.object(Path, "read_bytes", reporting(Path.read_bytes, "file")),
            mock.patch.object(safetensors.torch, "load", reporting(safetensors.torch.load, "file")),
        ):
            return work(saved())

    return call


def writing(work):
    """Report each step of writing a file."""

    def call(folder):
        with (
            mock.patch.object(os, "fsync", reporting(os.fsync, "file")),
            mock.patch.object(os, "replace", reporting(os.replace, "file")),
        ):
            return work(folder)

    return call


def study(folder):
    done = studies.run_study(lkn.AndOrInteraction(net(), **PLAIN), samples(), folder / "study", target=1, version="1")
    return done.interactions


def samples():
    return [lkn.players_from_mask(normal(1, 3, seed=seed)) for seed in range(3)]


def planned(folder):
    layered().plan(X, target=1)


def continuation(folder):
    one = lkn.Continuation.predicted(causal(), prompt())
    return lkn.AndOrInteraction(one, score="logit", kind="and", noise=0).attribute(prompt())


def to_layer_embedding(folder):
    given = lkn.players_from_mask({"input_ids": IDS}, baselines=1, feature_mask=OWN)
    with mock.patch.object(bert().get_input_embeddings(), "forward", reporting_embedding()):
        return lkn.players_as_embeddings(bert(), given, lkn.mean_embedding(bert(), {"input_ids": IDS})).baselines[0]


def reporting_embedding():
    return reporting(type(bert().get_input_embeddings()).forward.__get__(bert().get_input_embeddings()), "module")


def two_models(folder):
    loaders = {"a": lambda: net(), "b": reporting(net, "loader")}
    return lkn.compare_models(loaders, X, target=1, reference="b", **PLAIN).interactions["a"]


def compared(folder):
    method = lkn.AndOrInteraction(net(), **PLAIN)
    lkn.compare_baselines(method, {"a": (X, 0), "b": (X, 1)}, target=1)


def fit(folder):
    return lkn.LinearProbes.fit(net(), ["body.0", lkn.Layer("body.3", pool=pool)], Loader(), penalties=[1.0])["body.0"]


WORK = {
    "AndOrInteraction": lambda _: lkn.AndOrInteraction(net(), **PLAIN).attribute(X, target=1),
    "AndOrInteraction, sampled": lambda _: lkn.AndOrInteraction(net(), score=score).attribute(
        X, target=1, n_samples=20
    ),
    "LayerAndOrInteraction": lambda _: layered().attribute(X, target=1, perturbations_per_eval=3),
    "ExactShapleyValues": lambda _: lkn.ExactShapleyValues(net(), score=score).attribute(X, target=1),
    "LayerwiseKnowledge": lambda _: knowledge().analyze(X, target=1).interactions["body.0"],
    "LayerwiseKnowledge.fit_probes": lambda _: lkn.LayerwiseKnowledge(net(), ["body.0"]).fit_probes(
        Loader(), penalties=[1.0]
    ) and None,
    "LinearProbes.fit": fit,
    "learn_baseline": lambda _: lkn.learn_baseline(net(), players(), target=1, score=score, steps=2).vector,
    "learn_baseline, in parts": lambda _: lkn.learn_baseline(
        net(), players(), target=1, score=score, steps=1, perturbations_per_eval=2
    ).vector,
    "select_players": lambda _: lkn.select_players(net(), players(), k=2, target=1, score=score).owners[0],
    "plan": planned,
    "run_study": writing(study),
    "stability": lambda _: evaluation.stability(
        layered_output(), X, target=1, draws=2, resamples=5
    ) and None,
    "compare_models": two_models,
    "compare_baselines": compared,
    "check_model": lambda _: str(lkn.check_model(net(), X, score=score, verbose=False)),
    "check_score": lambda _: str(lkn.check_score(score, verbose=False)),
    "logit_lens": lambda _: lkn.logit_lens(bert()) and None,
    "Continuation": continuation,
    "BERT": lambda _: lkn.AndOrInteraction(bert(), score="logit", kind="and", noise=0).attribute(
        IDS, 1, 1, feature_mask=OWN
    ),
    "GPT-2": lambda _: lkn.AndOrInteraction(gpt2(), score="logit", kind="and", noise=0).attribute(
        IDS, 0, 1, feature_mask=OWN
    ),
    "embeddings": to_layer_embedding,
    "value_function": lambda _: interop.value_function(net(), players(), sample=0, target=1, score=score)(
        np.eye(3, dtype=bool)
    ) is None,
    "explain_game": lambda _: interop.explain_game(game, 3, kind="and", noise=0) and None,
    "text_players": lambda _: lkn.text_players(tokenizer(), "not a good scene").owners[0],
    "load_classifier": loaded,
    "Interactions.load": reading(lambda folder: lkn.InteractionsBatch.load(folder / "found.safetensors")),
    "LinearProbes.load": reading(lambda folder: lkn.LinearProbes.load(folder / "probes.safetensors") and None),
    "load_study": reading(lambda folder: studies.load_study(folder / "study").interactions),
    "save": writing(lambda folder: found().save(folder / "found.safetensors")),
}  # fmt: skip


def layered_output():
    return lkn.AndOrInteraction(net(), **PLAIN)


MODELS = (net, probe, bert, gpt2, causal)


# ---------------------------------------------------------------- what must be as before


def surroundings():
    """Return the state of the process that a call must leave as it was."""
    modules = torch.nn.modules.module
    return {
        "torch's random state": torch.get_rng_state().numpy().tobytes(),
        "NumPy's random state": str(np.random.get_state(legacy=False)).encode(),  # noqa: NPY002
        "Python's random state": random.getstate(),
        "default dtype": torch.get_default_dtype(),
        "default device": torch.get_default_device(),
        "gradients": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "autocast": (torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "threads of torch": torch.get_num_threads(),
        "matrix products": torch.get_float32_matmul_precision(),
        "hooks of all modules": [len(getattr(modules, name)) for name in dir(modules) if name.startswith("_global_")
                                 and isinstance(getattr(modules, name), dict)],
        "modes": (torch._C._len_torch_dispatch_stack(), torch._C._len_torch_function_stack()),
        "sessions": (dict(_FLAGS), _LOCK._is_owned()),
        "warnings": (list(warnings.filters), warnings.showwarning),
        "logs": (transformers.logging.get_verbosity(), transformers.utils.logging.is_progress_bar_enabled()),
        "open files": sorted(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None,
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "streams": (sys.stdout, sys.stderr, sys.stdin, sys.excepthook, sys.displayhook),
        "Ctrl-C": signal.getsignal(signal.SIGINT),
        # Idle threads of a pool, in which transformers reads weights, end with the pool.
        "threads": sorted(thread.name for thread in threading.enumerate()
                          if not thread.name.startswith(("tqdm_monitor", "ThreadPoolExecutor"))),
    }  # fmt: skip


@dataclass
class Found:
    """All that must be as it was: models, process, files."""

    folder: Path
    models: dict = field(default_factory=dict)

    def __post_init__(self):
        self.models = {make.__name__: (state_of(make()), config_of(make())) for make in MODELS}
        self.process = surroundings()
        self.files = bytes_of(self.folder) | (bytes_of(Path(_folder().name)))

    def check(self, *, files=True):
        """Check that everything is as it was."""
        now = surroundings()
        changed = {name: (before, now[name]) for name, before in self.process.items() if before != now[name]}
        assert not changed, changed
        for make in MODELS:
            state, config = self.models[make.__name__]
            assert_unchanged(dict(state), make())
            assert config == config_of(make())
        if files:
            assert self.files == bytes_of(self.folder) | bytes_of(Path(_folder().name))


def config_of(model):
    return model.config.to_dict() if hasattr(model, "config") else None


def numbers(result):
    """Return the numbers of a result of a call, as tensors."""
    if result is None or isinstance(result, (bool, str)):
        return []
    if isinstance(result, dict):
        return [one for each in result.values() for one in numbers(each)]
    if isinstance(result, torch.Tensor):
        return [result.detach()]
    if isinstance(result, tuple):
        return list(result)
    if isinstance(result, lkn.LinearProbe):
        return [result.weight, result.bias]
    return [one.values if isinstance(one, lkn.Interactions) else one.effects.values for one in result]
