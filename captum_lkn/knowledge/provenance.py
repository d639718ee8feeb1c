"""The origin of a comparison: what its samples have in common, without what belongs to one table alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from captum_lkn.interactions import InteractionsBatch
from captum_lkn.interactions.about import About

__all__ = ["shared_provenance", "without_layer"]

_OF_ONE_TABLE = ("layer", "pool", "readout", "target", "text", "steps", "stopped")


def shared_provenance(samples: InteractionsBatch) -> dict[str, Any]:
    """Return the entries that all samples share, their number, and the class of each.

    Args:
        samples: The samples of one layer.

    Returns:
        The entries by name; ``samples`` and ``targets`` besides.
    """
    shared = {
        name: value
        for name, value in samples[0].provenance.items()
        if name not in _OF_ONE_TABLE and all(one.provenance.get(name) == value for one in samples)
    }
    return {**shared, "samples": len(samples), "targets": [one.provenance.get("target") for one in samples]}


def without_layer(about: About) -> About:
    """Leave out the layer of a sample's table, since a comparison is about several.

    Args:
        about: The model, score, class and text of a sample.

    Returns:
        The same without its layer.
    """
    return replace(about, origin=tuple(part for part in about.origin if part[0] != "layer"))
