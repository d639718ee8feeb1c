"""The origin of a comparison: what its samples and states have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from captum_lkn.interactions.about import About
from captum_lkn.interactions.batch import AnyBatch

__all__ = ["shared_about", "shared_provenance"]

_OF_ONE_TABLE = ("layer", "pool", "readout", "target", "text", "steps", "stopped")


def shared_provenance(states: Sequence[AnyBatch]) -> dict[str, Any]:
    """Return the entries that all samples of all states share, the number of samples, and the class of each.

    Args:
        states: The samples of each state.

    Returns:
        The entries by name; ``samples`` and ``targets`` besides.
    """
    first = states[0]
    shared = {
        name: value
        for name, value in first[0].provenance.items()
        if name not in _OF_ONE_TABLE and all(one.provenance.get(name) == value for batch in states for one in batch)
    }
    return {**shared, "samples": len(first), "targets": [one.provenance.get("target") for one in first]}


def shared_about(states: Sequence[AnyBatch]) -> list[About]:
    """Return what each sample is about, without a model or a layer in which the states differ.

    Args:
        states: The samples of each state, the first those whose classes and texts are taken.

    Returns:
        One for each sample.
    """
    found = []
    for several in zip(*states, strict=True):
        each = [one.about for one in several]
        origin = tuple(
            part for part in each[0].origin if part[0] != "layer" and all(part in other.origin for other in each)
        )
        found.append(replace(each[0], origin=origin))
    return found
