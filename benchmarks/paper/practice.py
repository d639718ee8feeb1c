"""Three examples of use: the layer of a decision, overfitting against learning, a model before and after rounding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from benchmarks.paper.networks import build
from benchmarks.paper.statistics import Orders, curves_of, estimate, resampled
from benchmarks.paper.store import Store
from benchmarks.paper.tasks import Task
from benchmarks.paper.training import accuracy, batches_of, train
from captum_lkn import AndOrInteraction, KnowledgeChange, LayerwiseKnowledge, compare_models, text_players
from captum_lkn.demo import LAYERS, load_sentiment_bert, load_sentiment_probes
from captum_lkn.evaluation import transferable

__all__ = ["decision", "overfitting", "rounding"]

SENTENCE = "it never fails to surprise"
FEW = 300
EPOCHS = (1, 4, 15, 60)
BITS = (8, 4)


def decision(store: Store) -> dict[str, Any]:
    """Find the block at which the demo's BERT decides on a sentence with a negation."""
    model, tokenizer = load_sentiment_bert()
    study = LayerwiseKnowledge(model, LAYERS, probes=load_sentiment_probes())
    change = study.analyze(text_players(tokenizer, SENTENCE), target=1)
    change = change.with_noise_ceiling(draws=store.size.ceiling_draws)
    _save(store, "practice_decision", change.plot.heatmap())
    ceiling = _together(change.own[change.reference])
    shares = {label: _together(change[label]) for label in change}
    strongest = change.salient(change.reference)[0][0]
    return {
        "sentence": SENTENCE,
        "completeness": shares,
        "ceiling": ceiling,
        "scores": {label: [float(one.v_empty), float(one.v_full)] for label, (one,) in change.interactions.items()},
        "block": next((label for label, share in shares.items() if share > ceiling / 2), None),
        "strongest": {"players": list(strongest.players), "kind": strongest.kind, "effect": float(strongest.effect)},
    }


def _together(comparison: Any) -> float:
    """Return the completeness over all orders of both kinds."""
    return float(comparison.overlap.sum() / comparison.reference_all.sum())


def overfitting(store: Store) -> dict[str, Any]:
    """Train a perceptron on few digits, and split what each checkpoint knows by what two held-out networks know."""
    task = Task("mnist-mlp7", store)
    found = {seed: _few(task, seed) for seed in range(3)}
    players, classes = task.samples
    last = f"epoch {EPOCHS[-1]}"
    change = compare_models(
        {name: partial(_loaded, task, weights) for name, weights in found[0].items()},
        players, target=classes, reference=last, noun="checkpoint",
    )  # fmt: skip
    held_out: dict[str, Any] = {
        f"start {seed}": AndOrInteraction(_loaded(task, found[seed][last])).attribute(players, target=classes)
        for seed in (1, 2)
    }
    split = transferable(change, held_out)
    _save(store, "practice_overfitting", split.plot.strengths())
    orders = Orders(change.interactions[last][0].n_players)
    rows = {}
    for name, weights in found[0].items():
        model = _loaded(task, weights)
        x, y = task.data.train[:FEW], task.data.train_labels[:FEW]
        sums = split.sums[name].sum(1)[:, 2, :-1]  # over the samples, AND and OR together
        one = split[name]
        rows[name] = {
            "train": accuracy(model, batches_of(x, y, 256)),
            "test": accuracy(model, batches_of(task.data.test[:1000], task.data.test_labels[:1000], 256)),
            **{
                f"{group} share": float(sums[0, places].sum() / sums[1, places].sum())
                for group, places in (("low", orders.low), ("high", orders.high), ("all", slice(None)))
            },
            "transferable": float(one.transferable_strength[:, 2, -1].mean()),
            "other": float(one.other_strength[:, 2, -1].mean()),
        }
    return {"rows": rows, "training samples": FEW, "samples": len(players)}


def _few(task: Task, seed: int) -> dict[str, Mapping[str, Any]]:
    """Train on a few samples that no other seed gets; return the weights at some epochs."""
    x, y = (part[seed * FEW : (seed + 1) * FEW] for part in (task.data.train, task.data.train_labels))
    path = task.store.work / f"few-{seed}.pt"
    model = _network(task, seed)
    train(model, lambda epoch: batches_of(x, y, 32, seed=epoch), EPOCHS[-1], 1e-3, path, keep=EPOCHS)
    return {
        f"epoch {epoch}": torch.load(path.with_name(f"few-{seed}.epoch-{epoch}.pt"), weights_only=True)["model"]
        for epoch in EPOCHS
    }


def _network(task: Task, seed: int) -> nn.Module:
    classes = int(task.data.train_labels.max()) + 1
    return build("mlp7", task.data.train.shape[1:], classes, task.size.width, seed)


def _loaded(task: Task, weights: Mapping[str, Any]) -> nn.Module:
    model = _network(task, 0)
    model.load_state_dict(weights)
    return model.eval()


def rounding(store: Store) -> dict[str, Any]:
    """Compare the demo's BERT with copies whose weights are rounded to few bits."""
    task = Task("movies-minilm", store)
    model = task.model
    players, classes = task.samples
    loaders = {f"{bits} bits": partial(_rounded, model, bits) for bits in BITS}
    change = compare_models({**loaders, "32 bits": model}, players, target=classes, reference="32 bits")
    change = change.with_noise_ceiling(draws=store.size.ceiling_draws)
    _save(store, "practice_rounding", change.plot.completeness())
    counts = resampled(change.n_samples, store.size.resamples)
    orders = Orders(change.interactions["32 bits"][0].n_players)
    curves, found = curves_of(change), {}
    for place, bits in enumerate(BITS):
        with _rounded(model, bits):
            right = task.accuracy()
        found[f"{bits} bits"] = {
            "accuracy": right,
            **{
                group: estimate(curves.completeness(counts, getattr(orders, group))[:, place])[:3]
                for group in ("low", "high", "shown")
            },
            "first": _first_difference(change, f"{bits} bits"),
        }
    return {"rows": found, "accuracy": task.accuracy(), "ceiling": _together(change.own["32 bits"])}


def _first_difference(change: KnowledgeChange, label: str) -> dict[str, Any]:
    """Return the strongest salient interaction of the reference that another model does not have."""
    best: dict[str, Any] = {}
    others = change.salient(label)
    for place, sample in enumerate(change.salient(change.reference)):
        known = {(one.kind, one.members, one.effect > 0) for one in others[place]}
        for one in sample:
            new = (one.kind, one.members, one.effect > 0) not in known
            if new and abs(one.effect) > abs(best.get("effect", 0.0)):
                best = {"sample": place, "players": list(one.players), "kind": one.kind, "effect": float(one.effect)}
    return best


@contextmanager
def _rounded(model: nn.Module, bits: int) -> Iterator[nn.Module]:
    """Round the weights of all linear layers to so many bits a number, row by row, and restore them."""
    kept = {name: part.weight.detach().clone() for name, part in model.named_modules() if isinstance(part, nn.Linear)}
    try:
        with torch.no_grad():
            for name in kept:
                weight = model.get_submodule(name).weight
                step = weight.abs().amax(1, keepdim=True).clamp(min=1e-12) / (2 ** (bits - 1) - 1)
                weight.copy_((weight / step).round() * step)
        yield model
    finally:
        with torch.no_grad():
            for name, weight in kept.items():
                model.get_submodule(name).weight.copy_(weight)


def _save(store: Store, name: str, picture: Any) -> None:
    folder = store.results / "figures"
    folder.mkdir(exist_ok=True)
    picture.fig.savefig(folder / f"{name}.png", dpi=100)
