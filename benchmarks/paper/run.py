"""The steps of a run, in one or several processes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from multiprocessing import get_context

import torch

from benchmarks.paper import data, practice
from benchmarks.paper.experiments import measure, measure_pair
from benchmarks.paper.settings import PAIRS, TASKS
from benchmarks.paper.store import Store
from benchmarks.paper.tasks import Task

__all__ = ["run"]

EXAMPLES = {"decision": ("movies-minilm",), "overfitting": ("mnist-mlp7",), "rounding": ("movies-minilm",)}
"""The examples of ``practice`` with the tasks that they need."""


def run(store: Store, only: Sequence[str] | None = None, jobs: int = 1) -> None:
    """Run the steps that have no results yet: tasks first, pairs of their networks afterwards."""
    names = only or store.size.tasks or list(TASKS)
    missing = {name: what for name in names if (what := _missing(name, store))}
    if not only:
        store.step("missing", lambda: sorted(set(missing.values())))
    for text in sorted(set(missing.values())):
        print(f"left out: {text}")
    there = [name for name in names if name not in missing]
    pairs = [(a, b) for a, b in PAIRS if a in there and b.partition("@")[0] in there]
    examples = [name for name, needed in EXAMPLES.items() if set(needed) <= set(there)]
    if jobs == 1:
        for name in there:
            run_task(store, name)
        for pair in pairs:
            run_pair(store, pair)
        for name in examples:
            run_example(store, name)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_worker) as pool:
        for work, names in ((run_task, there), (run_pair, pairs), (run_example, examples)):
            list(pool.map(work, repeat(store), names))


def run_task(store: Store, name: str) -> None:
    """Run the steps of a task; one that cannot be explained, such as a network that learned nothing, stops no other."""
    try:
        measure(Task(name, store))
    except ValueError as error:
        print(f"stopped: {name}: {error}")


def run_pair(store: Store, pair: tuple[str, str]) -> None:
    """Run the step of a pair of networks."""
    first, second = pair
    try:
        store.step(f"pair.{first}.{second}", lambda: measure_pair(Task(first, store), Task(second, store)))
    except ValueError as error:
        print(f"stopped: {first} and {second}: {error}")


def run_example(store: Store, name: str) -> None:
    """Run the step of an example of use."""
    store.step(f"practice.{name}", lambda: getattr(practice, name)(store))


def _worker() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", UserWarning)


def _missing(name: str, store: Store) -> str | None:
    """Return what is said of a task whose data are not there; None where they are."""
    try:
        Task(name, store)
    except data.Missing as what:
        return str(what)
    return None
