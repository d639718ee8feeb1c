"""Verdicts of all claims from the files of results, by the rules of ``claims``."""

from __future__ import annotations

from typing import Any

from benchmarks.paper.claims import CLAIMS, EXCEPTED, overall, verdict
from benchmarks.paper.store import Store

__all__ = ["VERDICTS", "conditions", "overall_verdicts", "verdicts"]

VERDICTS = ("reproduced", "in part", "not", "untested")
_STEPS = {"C1": "sparsity", "C6": "pair", "C7": "stability", "C9": "stability"}


def conditions(store: Store, claim: str) -> dict[str, dict[str, Any]]:
    """Return the numbers of a claim: by task or pair, by reading, by condition."""
    results = store.all(_STEPS.get(claim, "claims"))
    return {
        name: {view: claims[claim] for view, claims in data["views"].items() if claim in claims}
        for name, data in results.items()
    }


def verdicts(store: Store) -> dict[str, dict[str, dict[str, str]]]:
    """Return the verdict of each claim, by task or pair and by reading."""
    return {
        claim: {
            name: {view: verdict(numbers.values()) for view, numbers in views.items()}
            for name, views in conditions(store, claim).items()
        }
        for claim in CLAIMS
    }


def overall_verdicts(store: Store) -> dict[str, dict[str, str]]:
    """Return the verdict of each claim over the tasks on which the paper makes it, by reading."""
    found: dict[str, dict[str, str]] = {}
    for claim, tasks in verdicts(store).items():
        counted = {name: views for name, views in tasks.items() if name not in EXCEPTED.get(claim, ())}
        readings = dict.fromkeys(view for views in counted.values() for view in views)
        found[claim] = {
            view: overall([views[view] for views in counted.values() if view in views]) for view in readings
        }
    return found
