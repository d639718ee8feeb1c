"""Calls of everything public that work, each with the arguments that it needs."""

import functools
import importlib.util
import inspect
import pathlib
import tempfile

import torch
from forwards import normal
from plot_results import batch, change, sentence
from tiny_models import BERT, made, tiny_causal
from tiny_tokenizers import chat_like, word_level
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

import captum_lkn as lkn
from captum_lkn import evaluation, interop, knowledge, outputs, studies
from captum_lkn.decomposition import Effects, indices, lattice
from captum_lkn.plot import accessors

X = normal(2, 3)
# ---------------------------------------------------------------- calls that work

with torch.random.fork_rng(devices=[]):
    torch.manual_seed(0)
    NET = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).eval()
PLAIN = {"kind": "and", "noise": 0}
PLAYERS = lkn.players_from_mask(X)


@functools.cache
def bert():
    return made(BertForSequenceClassification, BertConfig, **BERT)


@functools.cache
def causal():
    return tiny_causal("gpt2")


@functools.cache
def tokenizer():
    return word_level()


@functools.cache
def found():
    return lkn.AndOrInteraction(NET, **PLAIN).attribute(X, target=0)


@functools.cache
def sampled():
    return lkn.AndOrInteraction(NET).attribute(X, target=0, n_samples=20)


@functools.cache
def prompt():
    return lkn.players_from_mask({"input_ids": torch.tensor([[5, 6, 7]])}, baselines=1)


def labelled():
    return [(normal(20, 3), torch.arange(20) % 2)]


def method():
    return lkn.AndOrInteraction(NET, **PLAIN)


def layered():
    return lkn.LayerAndOrInteraction(NET, "0", probe=NET[2], **PLAIN)


def states():
    return lkn.LayerwiseKnowledge(NET, ["0"], probes=NET[2], **PLAIN)


@functools.cache
def probe():
    (one,) = lkn.LinearProbes.fit(NET, ["0"], labelled(), penalties=[1.0]).values()
    return one


def probes():
    return lkn.LinearProbes([probe()])


TABLE = normal(8).double()
ZERO = torch.zeros(2, dtype=torch.float64)
ATTRIBUTE = {"inputs": X, "target": 0}
RESAMPLED = {"resamples": 10}


# Extras without which a call ends at its first line.
_NEEDED = {
    "Interactions.to_frame": "pandas",
    "interop.to_networkx": "networkx",
    "interop.to_shapiq": "shapiq",
}
_MISSING = {extra for extra in _NEEDED.values() if importlib.util.find_spec(extra) is None}


def calls():
    """Return calls that work where what they need is installed: the function, and the arguments that it needs."""
    one, several, layers = sentence(), batch(), change()
    one.save(SCRATCH / "one.safetensors")
    probes().save(SCRATCH / "probes.safetensors")
    studies.run_study(method(), PLAYERS, SCRATCH / "study", target=0)
    sample = sampled()[0]
    effects = Effects.from_tables(ZERO, ZERO)
    table = {
        "AndOrInteraction": (lkn.AndOrInteraction, {"forward_func": NET}),
        "AndOrInteraction.attribute": (method().attribute, ATTRIBUTE),
        "AndOrInteraction.compute_convergence_delta": (method().compute_convergence_delta, {"attributions": found()}),
        "Continuation": (lkn.Continuation, {"model": causal(), "continuation": [3]}),
        "Continuation.predicted": (lkn.Continuation.predicted, {"model": causal(), "players": prompt()}),
        "Continuation.describe_prompt": (
            lkn.Continuation(causal(), [3]).describe_prompt,
            {"players": prompt(), "sample": 0},
        ),
        "Continuation.layer": (lkn.Continuation(causal(), [3]).layer, {"name": "transformer.h.0"}),
        "Continuation.lens": (lkn.Continuation(causal(), [3]).lens, {}),
        "DecompositionOptions": (lkn.DecompositionOptions, {}),
        "DecompositionOptions.replace": (with_names(lkn.DecompositionOptions().replace, lkn.DecompositionOptions), {}),
        "ExactShapleyValues": (lkn.ExactShapleyValues, {"forward_func": NET}),
        "ExactShapleyValues.attribute": (lkn.ExactShapleyValues(NET).attribute, ATTRIBUTE),
        "FeatureModel": (lkn.FeatureModel, {"function": lambda x: (x, {"a": x}), "layers": ["a"]}),
        "Interactions": (
            lkn.Interactions,
            {"players": ("a",), "effects": effects, "values": ZERO, "kappa": 0.0, "gap": 0.0},
        ),
        "Interactions.top": (one.top, {}),
        "Interactions.interaction_index": (one.interaction_index, {}),
        "Interactions.salient": (one.salient, {}),
        "Interactions.fidelity": (one.fidelity, {}),
        "Interactions.refit": (one.refit, {}),
        "Interactions.effect_ranges": (lkn.AndOrInteraction(NET).attribute(X[:1], target=0)[0].effect_ranges, {"k": 1}),
        "Interactions.predict": (one.predict, {"masks": torch.ones(2, 5, dtype=torch.bool)}),
        "Interactions.to_frame": (one.to_frame, {}),
        "Interactions.summary": (one.summary, {}),
        "Interactions.save": (one.save, {"path": SCRATCH / "one.safetensors"}),
        "Interactions.load": (lkn.Interactions.load, {"path": SCRATCH / "one.safetensors"}),
        "Interactions.report": (one.report, {"path": SCRATCH / "one.html"}),
        "InteractionsBatch": (lkn.InteractionsBatch, {"samples": [one]}),
        "InteractionsBatch.refit": (several.refit, {}),
        "InteractionsBatch.decompose": (with_names(found().decompose, lkn.DecompositionOptions), PLAIN),
        "InteractionsBatch.report": (several.report, {"path": SCRATCH / "two.html"}),
        "KnowledgeChange": (lkn.KnowledgeChange, {"interactions": layers.interactions}),
        "KnowledgeChange.compare": (layers.compare, {}),
        "KnowledgeChange.between": (layers.between, {"state": "encoder.0", "reference": "output"}),
        "KnowledgeChange.with_noise_ceiling": (states().analyze(X, target=0).with_noise_ceiling, {"draws": 1}),
        "KnowledgeChange.sensitivity": (
            states().analyze(X, target=0).sensitivity,
            {"conventions": {"AND": {"kind": "and"}}},
        ),
        "KnowledgeChange.salient": (layers.salient, {"state": "output"}),
        "KnowledgeChange.report": (layers.report, {"path": SCRATCH / "three.html"}),
        "Layer": (lkn.Layer, {"name": "0"}),
        "LayerAndOrInteraction": (lkn.LayerAndOrInteraction, {"forward_func": NET, "layer": "0", "probe": NET[2]}),
        "LayerAndOrInteraction.attribute": (layered().attribute, ATTRIBUTE),
        "LayerwiseKnowledge": (lkn.LayerwiseKnowledge, {"forward_func": NET, "layers": ["0"]}),
        "LayerwiseKnowledge.fit_probes": (
            with_names(states().fit_probes, lkn.LinearProbes.fit, "model", "layers"),
            {"dataloader": labelled(), "penalties": [1.0]},
        ),
        "LayerwiseKnowledge.analyze": (states().analyze, ATTRIBUTE),
        "LinearProbe": (lkn.LinearProbe, {"layer": lkn.Layer("0"), "weight": torch.ones(2, 3), "bias": torch.ones(2)}),
        "LinearProbe.predict": (probe().predict, {"features": normal(2, 4)}),
        "LinearProbe.check": (probe().check, {"layer": lkn.Layer("0")}),
        "LinearProbes": (lkn.LinearProbes, {"probes": [probe()]}),
        "LinearProbes.fit": (
            lkn.LinearProbes.fit,
            {"model": NET, "layers": ["0"], "dataloader": labelled(), "penalties": [1.0]},
        ),
        "LinearProbes.check": (probes().check, {"module": NET}),
        "LinearProbes.load": (lkn.LinearProbes.load, {"path": SCRATCH / "probes.safetensors"}),
        "Players": (
            lkn.Players,
            {
                "inputs": (X,),
                "baselines": (X,),
                "owners": (torch.arange(3).expand(2, 3),),
                "labels": (("a", "b", "c"),) * 2,
            },
        ),
        "Players.masked": (PLAYERS.masked, {"sample": 0, "masks": torch.ones(2, 3, dtype=torch.bool)}),
        "Players.masked_rows": (
            PLAYERS.masked_rows,
            {"samples": torch.tensor([0, 1]), "masks": torch.ones(2, 3, dtype=torch.bool)},
        ),
        "Players.spread": (PLAYERS.spread, {"sample": 0, "values": torch.ones(3)}),
        "SampledBatch": (lkn.SampledBatch, {"samples": [sample]}),
        "SampledInteractions": (
            lkn.SampledInteractions,
            {
                "players": sample.players,
                "effects": sample.effects,
                "refits": sample.refits,
                "r_squared": sample.r_squared,
                "v_empty": 0.0,
                "v_full": 1.0,
            },
        ),
        "SampledInteractions.top": (sample.top, {}),
        "SampledInteractions.salient": (sample.salient, {}),
        "SampledInteractions.predict": (sample.predict, {"masks": torch.ones(2, 3, dtype=torch.bool)}),
        "SampledInteractions.summary": (sample.summary, {}),
        "Score": (lkn.Score, {"name": "x", "function": lambda output, target: output[:, 0]}),
        "SelectOutput": (lkn.SelectOutput, {"model": NET}),
        "answer_span": (lkn.answer_span, {"model": NET, "start": 0, "end": 1}),
        "average_baselines": (lkn.average_baselines, {"found": [found(), found()]}),
        "check_model": (lkn.check_model, {"forward_func": NET, "example": X, "verbose": False}),
        "check_players": (lkn.check_players, {"players": PLAYERS, "verbose": False}),
        "check_score": (lkn.check_score, {"score": "logit", "verbose": False}),
        "compare_baselines": (
            lkn.compare_baselines,
            {"method": method(), "baselines": {"a": (X, 0), "b": (X, 1)}, "target": 0},
        ),
        "compare_models": (
            lkn.compare_models,
            {"models": {"a": NET, "b": NET}, "inputs": X, "target": 0, "reference": "b", **PLAIN},
        ),
        "decompose": (lkn.decompose, {"values": TABLE, "kind": "and", "kappa": 0.1}),
        "image_players": (lkn.image_players, {"image": normal(3, 4, 4), "grid": 2}),
        "image_players of segments": (
            lkn.image_players,
            {"image": normal(3, 4, 4), "segments": torch.arange(4).repeat(4, 1)},
        ),
        "image_players of patches": (
            lkn.image_players,
            {
                "image": normal(3, 4, 4),
                "patch_size": 2,
                "baseline": "blur",
                "foreground": ["r0c0", "r0c1"],
                "player_names": ["a", "b"],
            },
        ),
        "learn_baseline": (lkn.learn_baseline, {"forward_func": NET, "players": PLAYERS, "target": 0, "steps": 1}),
        "logit_lens": (lkn.logit_lens, {"model": bert()}),
        "mean_embedding": (lkn.mean_embedding, {"model": bert(), "data": {"input_ids": torch.tensor([[3, 4, 5]])}}),
        "players_as_embeddings": (lkn.players_as_embeddings, {"model": bert(), "players": prompt()}),
        "players_from_mask": (lkn.players_from_mask, {"inputs": X}),
        "prompt_players": (lkn.prompt_players, {"tokenizer": chat(), "prompt": "a good user", "baseline": "^"}),
        "select_players": (lkn.select_players, {"forward_func": NET, "players": PLAYERS, "k": 2, "target": 0}),
        "table_players": (lkn.table_players, {"rows": X, "background": X}),
        "text_players": (lkn.text_players, {"tokenizer": tokenizer(), "text": "not a good scene"}),
        "evaluation.fidelity": (evaluation.fidelity, {"found": found(), **RESAMPLED}),
        "evaluation.generalization": (evaluation.generalization, {"first": found(), "second": found(), **RESAMPLED}),
        "evaluation.sparsity": (evaluation.sparsity, {"found": found(), **RESAMPLED}),
        "evaluation.stability": (
            evaluation.stability,
            {"method": method(), "inputs": X, "target": 0, "draws": 2, **RESAMPLED},
        ),
        "evaluation.transferable": (
            evaluation.transferable,
            {"found": {"a": found(), "b": found()}, "held_out": {"a": found(), "b": found()}, **RESAMPLED},
        ),
        "interop.explain_game": (
            interop.explain_game,
            {"game": lambda c: c.sum(1).astype(float), "n_players": 3, **PLAIN},
        ),
        "interop.to_networkx": (interop.to_networkx, {"found": one}),
        "interop.to_shapiq": (interop.to_shapiq, {"found": one}),
        "interop.value_function": (interop.value_function, {"forward_func": NET, "players": PLAYERS, "target": 0}),
        "knowledge.compare": (knowledge.compare, {"state": [one.effects], "reference": [one.effects]}),
        "studies.load_study": (studies.load_study, {"folder": SCRATCH / "study"}),
        "studies.merge": (studies.merge, {"folders": [SCRATCH / "study"]}),
        "studies.run_study": (fresh_study, {"method": method(), "samples": PLAYERS, "target": 0}),
        "outputs.resolve_target": (outputs.resolve_target, {"target": 0, "output": normal(2, 2)}),
    }
    for name in lattice.__all__:
        function = getattr(lattice, name)
        good = {
            "n": 3,
            "table": TABLE,
            "effects": TABLE,
            "and_effects": TABLE,
            "or_effects": TABLE,
            "subsets": torch.arange(3),
            "masks": torch.ones(2, 3, dtype=torch.bool),
        }
        wanted = inspect.signature(function).parameters
        table[f"lattice.{name}"] = (function, {name: good[name] for name in wanted if name in good})
    for name in indices.__all__:
        table[f"indices.{name}"] = (getattr(indices, name), {"values": TABLE})
    pictures = {
        "Interactions": (one, accessors.INTERACTIONS),
        "InteractionsBatch": (several, accessors.INTERACTIONS_BATCH),
        "KnowledgeChange": (layers, accessors.CHANGE),
    }
    for owner, (result, functions) in pictures.items():
        for name in functions:
            if name not in ("patches", "emergence"):
                table[f"{owner}.plot.{name}"] = (getattr(result.plot, name), {})
    return {name: call for name, call in table.items() if _NEEDED.get(name, "torch") not in _MISSING}


@functools.wraps(studies.run_study)
def fresh_study(**given):
    """Run a study in a folder of its own, unless one is given."""
    return studies.run_study(**({"out": tempfile.mkdtemp(dir=SCRATCH)} | given))


def with_names(function, like, *without):
    """Return a function of keyword arguments with the parameters of another one."""

    @functools.wraps(function)
    def call(**kwargs):
        return function(**kwargs)

    found = inspect.signature(like)
    own = [p.replace(kind=p.KEYWORD_ONLY) for n, p in found.parameters.items() if n not in without]
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is not parameter.VAR_KEYWORD:
            own = [p for p in own if p.name != name] + [parameter.replace(kind=parameter.KEYWORD_ONLY)]
    call.__signature__ = found.replace(parameters=own)
    return call


@functools.cache
def chat():
    return chat_like()


_FOLDER = tempfile.TemporaryDirectory(prefix="bad-input-")  # removed when Python ends
SCRATCH = pathlib.Path(_FOLDER.name)
