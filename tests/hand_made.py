"""Result objects whose parts do not fit each other, made from good ones by changing one field at a time.

A changed object must be refused when it is made, by an error that names the field, or it can be used. What can be no
such field, such as text for a number or half of a tensor, must be refused.
"""

import collections
import dataclasses
import tempfile
import warnings

import torch
from bad_input import judged
from fuzzed_files import MEASURES, tabulate, use
from small_studies import make_layered, make_samples
from torch import nn

import captum_lkn as lkn
from captum_lkn import evaluation
from captum_lkn.decomposition import Effects
from captum_lkn.interactions.layout import InputLayout
from captum_lkn.knowledge import Sensitivity
from captum_lkn.outputs import Target, resolve_target
from captum_lkn.studies import StrongestCombinations, StudySummary, run_study


def objects():
    """Return one good object of each class, by the class's name."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    x = torch.randn(40, 3)
    players = lkn.players_from_mask(x[:2])
    method = lkn.AndOrInteraction(net)
    found = method.attribute(players, target=0)
    other = lkn.AndOrInteraction(nn.Sequential(net[0], net[2]).eval()).attribute(players, target=0)
    probes = lkn.LinearProbes.fit(net, ["0", "1"], [(x, torch.arange(40) % 3)], penalties=[0.1])
    layers = lkn.LayerwiseKnowledge(net, ["0", "1"], probes=probes).analyze(players, target=0)
    layers = layers.with_noise_ceiling(draws=2)
    sampled = lkn.AndOrInteraction(lambda x: x[:, 0] * x[:, 1] + x[:, 2:].sum(1), score="logit").attribute(
        torch.ones(1, 24), n_samples=400
    )
    made = [
        found[0],
        found[0].effects,
        found[0].layout,
        found[0].options,
        found,
        sampled[0],
        sampled,
        layers,
        layers.noise_ceiling,
        layers["0"],
        next(iter(probes.values())),
        probes,
        players,
        lkn.learn_baseline(lambda x: x[:, 0], players, target=None, score="logit", steps=2),
        lkn.decompose(found[0].values),
        lkn.compare_baselines(method, {"a": (x[:2], 0), "b": (x[:2], 1)}, target=0),
        layers.sensitivity(),
        found[0].effect_ranges(2),
        resolve_target([2, 0], torch.zeros(2, 3)).named(["a", "b", "c"]),
        method.plan(players, target=0),
        *study_parts(),
        evaluation.fidelity(found, resamples=20),
        evaluation.generalization(found, other, ceiling_draws=1, resamples=20),
        evaluation.sparsity(found, resamples=20),
        evaluation.stability(method, x[:2], target=0, draws=2, resamples=20),
        evaluation.transferable(layers, other, resamples=20),
    ]
    return {type(one).__name__: one for one in made}


def study_parts():
    """Return a study, whose files are gone, with the tables that are made of it."""
    with tempfile.TemporaryDirectory() as folder:
        done = run_study(make_layered(), make_samples(2), folder, target=1)
        return done, done.summary(resamples=20), done.strongest(3, layer="hidden", resamples=20)


HALF = "\ud800"
_NUMBERS = {"text": "0.1", "None": None, "NaN": float("nan"), "True": True, "complex": 1j, "a list": [0.1]}
_LOOSE_NUMBERS = {"infinity": float("inf"), "-1": -1, "2**70": 2**70, "1e300": 1e300}


def _tensors(good):
    """Return tensors that cannot stand for another one, and some that may."""
    must = {
        "a list": good.tolist(),
        "None": None,
        "text": "x",
        "half": good[: len(good) // 2] if good.dim() and len(good) > 1 else good[None],
        "a dimension more": good[None],
        "meta": good.to("meta"),
        "sparse": good.to_sparse() if good.dim() else None,
        "complex": good.to(torch.complex64),
        "another dtype": good.to(torch.int8 if good.dtype != torch.int8 else torch.float32),
    }
    if good.is_floating_point() and good.numel():
        for name, number in (("NaN", float("nan")), ("infinity", float("inf"))):
            wrong = good.clone()
            wrong.view(-1)[-1] = number
            must[name] = wrong
    return must, {"float32": good.float(), "negative": -good if good.dtype != torch.bool else ~good}


def changes(good):
    """Return values for a field that holds `good`: those that must be refused, and those that may be."""
    if isinstance(good, torch.Tensor):
        return _tensors(good)
    if isinstance(good, bool):
        return {"text": "False", "None": None, "a number": 2}, {}
    if isinstance(good, int | float):
        return _NUMBERS, _LOOSE_NUMBERS
    if isinstance(good, str):
        return {"a number": 3, "None": None, "bytes": b"x", "half a character": HALF}, {"empty": "", "other": "x"}
    if isinstance(good, collections.abc.Mapping):
        return (
            {"None": None, "a list": [1], "text": "x", "a number for a key": {3: object()}},
            {"empty": {}, "objects": {"a": object()}, "one fewer": dict(list(good.items())[1:])},
        )
    if isinstance(good, tuple):
        inner, _ = changes(good[0]) if good else ({}, {})
        return (
            {"None": None, "a number": 3, "objects": (object(),) * max(1, len(good))}
            | {f"{name} inside": (value, *good[1:]) for name, value in inner.items()},
            {"empty": (), "one fewer": good[1:], "one more": (*good, *good[:1]), "turned": good[::-1]},
        )
    if good is None:
        return {"a number": 3, "text": "x", "an object": object()}, {}
    return {"a number": 3, "text": "x", "an object": object()}, {"None": None}


REFUSE_NOT = {
    # field: what may be there after all
    ("Interactions", "gap"): {"infinity"},
    ("Decomposition", "gap"): {"infinity"},
    ("DecompositionOptions", "kappa"): {"a number"},
    ("DecompositionOptions", "max_steps"): {"a number"},
    ("NoiseCeiling", "value_noise"): {"a number"},
    ("Generalization", "k"): {"a number"},
    ("Generalization", "ceiling"): {"None", "NaN"},
    ("Generalization", "samples"): {"NaN"},
    ("Stability", "samples"): {"NaN"},
    ("Stability", "input_noise"): {"NaN"},
    ("Sparsity", "dividends"): {"NaN"},
    ("LinearProbe", "penalty"): {"NaN"},
    ("LinearProbe", "accuracy"): {"NaN inside"},
    ("InputLayout", "owners"): {"half inside", "a dimension more inside"},  # of another input
    ("SampledInteractions", "r_squared"): {"NaN inside"},  # of values that do not differ
    ("SampledInteractions", "refits"): {"half"},  # fewer parts of the masks
    ("LearnedBaseline", "vector"): {"half", "a dimension more"},
    ("Target", "indices"): {"half"},  # fewer samples
    **{("Plan", name): {"a number"} for name in ("n_samples", "tokens", "plain_tokens")},
    ("Players", "inputs"): {"NaN inside", "infinity inside"},  # which trees read
    ("Players", "baselines"): {"NaN inside", "infinity inside"},
}


def rows(made):
    """Return class, field, the name of the value, the value, and whether it must be refused."""
    found = []
    for name, good in made.items():
        for field in parts(good):
            must, may = changes(getattr(good, field))
            free = REFUSE_NOT.get((name, field), set())
            found += [(name, field, key, value, key not in free) for key, value in must.items()]
            found += [(name, field, key, value, False) for key, value in may.items()]
    return found


def parts(good):
    """Return the fields that make an object."""
    return [each.name for each in dataclasses.fields(good) if each.init] if dataclasses.is_dataclass(good) else []


def outcome(good, field, value):
    """Return ``"refused"``, ``"used"``, or what went wrong."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            made = dataclasses.replace(good, **{field: value})
        except Exception as error:
            said = [judged(error, each, value) for each in (field, *parts(good))]
            return "refused" if "clear" in said else said[0]
        try:
            used(made)
        except Exception as error:
            return f"made, and fails later: {type(error).__name__}: {error}"
    return "used"


def used(made):
    """Do with an object what users do."""
    if isinstance(made, lkn.LinearProbe):
        made(torch.zeros(1, made.weight.shape[1]))
    elif isinstance(made, lkn.Players):
        made.masked(0, torch.ones(1, made.sizes[0], dtype=torch.bool))
    elif isinstance(made, Effects):
        made.predict(torch.ones(1, made.n, dtype=torch.bool))
    elif isinstance(made, InputLayout):
        made.spread(torch.zeros(made.n_players))
    elif isinstance(made, Target):
        made.select(torch.zeros(1, *made.shape), torch.zeros(1, dtype=torch.int64))
        made.texts()
    elif isinstance(made, Sensitivity):
        made.spread()
        tabulate(made)
    elif isinstance(made, (StudySummary, StrongestCombinations)):
        tabulate(made)
    elif isinstance(made, (lkn.Interactions, lkn.SampledInteractions, lkn.KnowledgeChange, *MEASURES)):
        use(made)
    repr(made)
    if hasattr(made, "_repr_html_"):
        made._repr_html_()
