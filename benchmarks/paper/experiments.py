"""Measurements of each task: layers, claims, controls, stability."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.paper.claims import kappa_conditions, layer_conditions, sample_conditions, sparsity_conditions
from benchmarks.paper.settings import CONVENTIONS, IOU_ONLY, VIEWS, View
from benchmarks.paper.statistics import (
    Curves,
    Orders,
    curves_of,
    estimate,
    mean_over,
    named,
    resampled,
    share_of,
)
from benchmarks.paper.tasks import Task
from captum_lkn import (
    AndOrInteraction,
    DecompositionOptions,
    InteractionsBatch,
    KnowledgeChange,
    LayerwiseKnowledge,
    decompose,
    logit_lens,
)
from captum_lkn.evaluation import fidelity, generalization, sparsity, stability
from captum_lkn.knowledge import compare

__all__ = ["controls", "measure", "measure_pair", "output_of"]

_JOINT_SAMPLES, _JOINT_PRICE, _JOINT_TOLERANCE = 4, 0.1, 1e-3


def measure(task: Task) -> None:
    """Run the steps of a task."""
    step = task.store.step
    step(f"network.{task.name}", lambda: _network(task))
    if task.spec.network in IOU_ONLY:
        return
    step(f"layers.{task.name}", lambda: _layers(task))
    step(f"claims.{task.name}", lambda: _claims(task, _change(task)))
    step(f"sparsity.{task.name}", lambda: _sparsity(task, _change(task)))
    step(f"stability.{task.name}", lambda: _stability(task))
    step(f"controls.{task.name}", lambda: controls(task, _change(task)))
    step(f"joint.{task.name}", lambda: _joint(_change(task)))


def _network(task: Task) -> dict[str, Any]:
    return {
        "parameters": sum(one.numel() for one in task.model.parameters()),
        "accuracy": task.accuracy(),
        "samples": len(task.samples[0]),
        "players": len(task.samples[0][0].labels[0]),
    }


# ---------------------------------------------------------------- layers and claims


def _file(task: Task) -> Path:
    return task.store.work / f"{task.name}.safetensors"


def _change(task: Task) -> KnowledgeChange:
    return KnowledgeChange.load(_file(task))


def _layers(task: Task) -> dict[str, Any]:
    """Fit probes, extract the interactions of all layers with their noise ceiling, and keep both."""
    if not _file(task).exists():
        study = LayerwiseKnowledge(task.model, task.layers, probes=task.probes())
        players, classes = task.samples
        found = study.analyze(players, target=classes)
        found.with_noise_ceiling(draws=task.size.ceiling_draws).save(_file(task))
    change = _change(task)
    curves, orders, counts = (
        curves_of(change),
        Orders(change.interactions["output"][0].n_players),
        _counts(task, change),
    )
    return {
        "layers": list(change),
        "probes": dict(zip(change, task.probe_accuracy(), strict=True)),
        "normalisers": change.normalisers,
        "strengths": curves.strength(counts[:1], slice(None))[0],
        "strengths_by_order": torch.stack([mean_over(one.T, counts[:1])[0] for one in curves.all]),
        "completeness": _ends(curves, orders, counts, "completeness"),
        "redundancy": _ends(curves, orders, counts, "redundancy"),
        "ceiling": {
            group: float(_ceiling(change, getattr(orders, group), counts)[0]) for group in ("low", "high", "shown")
        },
        "gap": max(one.gap for batch in change.interactions.values() for one in batch),
    }


def _counts(task: Task, change: KnowledgeChange) -> Tensor:
    return resampled(change.n_samples, task.size.resamples)


def _ends(curves: Curves, orders: Orders, counts: Tensor, quantity: str) -> dict[str, Any]:
    """Return a share of each layer in low, high and all shown orders, with intervals."""
    return {
        group: [estimate(one)[:3] for one in getattr(curves, quantity)(counts, getattr(orders, group)).unbind(1)]
        for group in ("low", "high", "shown")
    }


def _ceiling(change: KnowledgeChange, orders: slice, counts: Tensor) -> Tensor:
    """Return the share of itself that the output finds again under noise, ``[R]``."""
    own = change.own[change.reference].samples
    parts = (one.sum(1)[:, orders].sum(1) for one in (own.overlap, own.reference_all))
    return share_of(*(part[None] for part in parts), counts)[:, 0]


def _again(change: KnowledgeChange, view: View, made: dict[str, KnowledgeChange]) -> KnowledgeChange:
    """Return a comparison under other conventions; each is decomposed once."""
    name = f"{view.convention} {'refitted' if view.refit else ''}"
    if name not in made:
        batches = {label: _decomposed(batch, view) for label, batch in change.interactions.items()}
        made[name] = KnowledgeChange(batches)
    return made[name].compare(**dict(view.options))


def _decomposed(batch: InteractionsBatch, view: View) -> InteractionsBatch:
    options = CONVENTIONS[view.convention]
    found = batch.decompose(**options) if options else batch
    return found.refit() if view.refit else found


def _claims(task: Task, change: KnowledgeChange) -> dict[str, Any]:
    """Return the numbers of claims C2 to C5 under each reading, and of C8."""
    players, counts = change.interactions["output"][0].n_players, _counts(task, change)
    ceiling = _ceiling(change, Orders(players).high, counts)
    made: dict[str, KnowledgeChange] = {}
    found: dict[str, Any] = {}
    for name, view in VIEWS.items():
        curves = curves_of(_again(change, view, made), view.kind)
        found[name] = {k: named(v) for k, v in layer_conditions(curves, players, counts, ceiling).items()}
    kappas = {name: curves_of(_again(change, View(name), made)) for name in CONVENTIONS if name.startswith("kappa")}
    default = curves_of(change)
    found["default"]["C8"] = named(kappa_conditions(default, kappas, players, counts))
    orders = Orders(players)
    return {
        "views": found,
        "kappa": {
            name: {
                quantity: getattr(curves, quantity)(counts[:1], orders.shown)[0]
                for quantity in ("completeness", "redundancy")
            }
            for name, curves in {"kappa 0.04": default, **kappas}.items()
        },
    }


def _sparsity(task: Task, change: KnowledgeChange) -> dict[str, Any]:
    """Return the numbers of C1 at the output, under the readings that change them."""
    batch, counts = change.interactions[change.reference], _counts(task, change)
    found: dict[str, Any] = {"views": {}, "salient": {}}
    for name, view in VIEWS.items():
        options = dict(view.options)
        if view.kind is not None or options.keys() - {"scope"}:
            continue
        own = _decomposed(batch, view)
        few, faithful = sparsity(own, **options), fidelity(own)
        numbers = few.salient, few.possible, few.salient_dividends, faithful.salient_r_squared
        found["views"][name] = {"C1": named(sparsity_conditions(*numbers, counts))}
        found["salient"][name] = named(
            {
                "salient": estimate(mean_over(few.salient.double(), counts)),
                "dividends": estimate(mean_over(few.salient_dividends.double(), counts)),
                "r_squared": estimate(mean_over(faithful.salient_r_squared, counts)),
            }
        )
        if name == "default":
            found["possible"] = float(few.possible.double().mean())
            found["curves"] = {
                "effects": few.strengths.nanmean(0)[:100],
                "dividends": few.dividends.nanmean(0)[:100],
            }
    return found


# ---------------------------------------------------------------- stability and pairs


def _stability(task: Task) -> dict[str, Any]:
    """Return the numbers of C7 and C9, under the default and the paper's program."""
    players, classes, sd = task.noisy_samples()
    n, counts = len(players[0].labels[0]), resampled(len(players), task.size.resamples)
    found: dict[str, Any] = {"views": {}, "sd": sd, "draws": task.size.draws, "samples": len(players)}
    for name in ("default", "the paper's program"):  # each draw is extracted anew, which takes long
        method = AndOrInteraction(task.model, options=DecompositionOptions(**CONVENTIONS[name]))
        steady = stability(method, players, target=classes, sd=sd, draws=task.size.draws)
        found["views"][name] = {
            claim: named(sample_conditions(claim, numbers[:, 2, :-1], n, counts))
            for claim, numbers in (("C7", steady.samples), ("C9", steady.input_noise))
        }
        if name == "default":
            found["by_order"] = [row[2:5] for row in steady.rows() if row.kind == "both"]
            noise = torch.stack(steady.input_noise_by_order(), -1)[2]
            found["input_noise"] = noise
    return found


def output_of(task: Task) -> InteractionsBatch:
    """Return the interactions of a task's output, from its comparison of layers where that is there."""
    if _file(task).exists():
        return _change(task).interactions["output"]
    path = task.store.work / f"{task.name}.output.safetensors"
    if path.exists():
        return InteractionsBatch.load(path)
    players, classes = task.samples
    found: Any = AndOrInteraction(task.model).attribute(players, target=classes)
    found.save(path)
    return found


def measure_pair(first: Task, second: Task) -> dict[str, Any]:
    """Return the numbers of C6 for two networks."""
    batches = [output_of(one) for one in (first, second)]
    n, counts = batches[0][0].n_players, resampled(len(batches[0]), first.size.resamples)
    found: dict[str, Any] = {"accuracies": [first.accuracy(), second.accuracy()], "views": {}, "by_order": {}}
    for name, view in VIEWS.items():
        options = dict(view.options)
        if options.keys() - {"scope"}:
            continue
        draws = first.size.ceiling_draws if name == "default" else 0
        shared = generalization(*(_decomposed(one, view) for one in batches), ceiling_draws=draws, **options)
        row = 2 if view.kind is None else view.kind
        if shared.ceiling is not None:
            found["ceiling"] = torch.stack(shared.ceiling_by_order(), -1)[2]
        numbers = shared.samples[:, row, :-1]
        found["views"][name] = {"C6": named(sample_conditions("C6", numbers, n, counts))}
        found["by_order"][name] = [estimate(mean_over(one, counts))[:3] for one in shared.samples[:, row].unbind(1)]
    return found


# ---------------------------------------------------------------- controls


def controls(task: Task, change: KnowledgeChange) -> dict[str, Any]:
    """Return what must show no completeness, and what the noise ceiling, neighbours and other read-outs tell."""
    orders, counts = Orders(change.interactions["output"][0].n_players), _counts(task, change)

    def completeness(of: KnowledgeChange | dict[str, Any]) -> list[Any]:
        found = curves_of(of).completeness(counts, orders.shown)
        return [estimate(one)[:3] for one in found.unbind(1)]

    players, classes = task.samples

    def analyzed(model: nn.Module, probes: Any) -> KnowledgeChange:
        return LayerwiseKnowledge(model, task.layers, probes=probes).analyze(players, target=classes)

    shuffled = analyzed(task.model, task.probes(shuffle_labels=True))
    untrained: Any = task.build(task.seed + 100, random=True)
    if not task.is_text:  # logits within 0 and 1 are taken for probabilities; a common shift changes no log-odds
        untrained[-1].bias.data -= 10
    blank = analyzed(untrained, task.probes(untrained))
    other = {**{layer: blank.interactions[layer] for layer in blank}, "output": change.interactions["output"]}
    labels = [*change, change.reference]
    found = {
        "trained": completeness(change),
        "random labels": completeness(shuffled),
        "untrained, its own output": completeness(blank),
        "untrained, the trained output": completeness(KnowledgeChange(other)),
        "neighbours": [completeness(change.between(a, b))[0] for a, b in itertools.pairwise(labels)],
        "ceiling": float(_ceiling(change, orders.shown, counts)[0]),
        "above noise": _above_noise(change),
    }
    lens = _lens(task)
    if lens is not None:
        found["logit lens"] = completeness(analyzed(task.model, lens))
    return found


def _above_noise(change: KnowledgeChange) -> dict[str, list[float]]:
    """Return the shares of "new" and "forgotten" that noise does not explain, by layer."""
    found: dict[str, list[float]] = {"new": [], "forgotten": []}
    again = change.own[change.reference].over_orders().samples
    ceiling = float(again.overlap.sum() / again.reference_all.sum())
    for layer, one in change.items():
        new = 1 - float(one.overlap.sum() / one.reference_all.sum())
        own = change.own[layer].over_orders().samples
        floor = 1 - float(own.overlap.sum() / own.reference_all.sum())
        forgotten = float(one.forgotten.sum() / one.all.sum())
        found["new"].append(max(0.0, 1 - (1 - ceiling) / new) if new else 0.0)
        found["forgotten"].append(max(0.0, 1 - floor / forgotten) if forgotten else 0.0)
    return found


def _lens(task: Task) -> Any | None:
    """Return the logit lens, where all layers have the width of the head."""
    if task.spec.network == "mlp7":
        return logit_lens(task.model, modules=["head"])
    if task.spec.network in ("minilm", "xlnet"):
        return logit_lens(task.model)
    return None


def _joint(change: KnowledgeChange) -> dict[str, Any]:
    """Return the completeness of the layers where all are decomposed jointly, and where each is by itself."""
    labels, count = [*change, change.reference], min(_JOINT_SAMPLES, change.n_samples)
    some = {label: [change.interactions[label][place] for place in range(count)] for label in labels}
    units = [change.normalisers[label] for label in labels]
    tables = torch.stack([torch.stack([one.values for one in some[label]]) for label in labels])
    jointly = decompose(
        tables / torch.tensor(units, dtype=torch.float64).view(-1, 1, 1),
        options=some[change.reference][0].options.replace(tolerance=_JOINT_TOLERANCE),
        joint=_JOINT_PRICE,
    )
    effects = {
        "independent": ([[one.effects for one in some[label]] for label in labels], units),
        "joint": ([[one[place].effects for place in range(count)] for one in jointly], [1.0] * len(labels)),
    }
    found: dict[str, Any] = {"samples": count, "gap": float(jointly.gap.max())}
    for name, (each, scales) in effects.items():
        compared = [
            compare(one, each[-1], units=(scale, scales[-1])) for one, scale in zip(each[:-1], scales, strict=False)
        ]
        found[name] = {
            "completeness": [float(one.overlap.sum() / one.reference_all.sum()) for one in compared],
            "redundancy": [float(one.forgotten.sum() / one.all.sum()) for one in compared],
            "salient": int(compared[-1].reference_salient.sum()) / count,
        }
    return found
