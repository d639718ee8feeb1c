"""Combinations of words over the samples of a batch."""

from __future__ import annotations

from captum_lkn._common.messages import count_of
from captum_lkn.interactions.batch import AnyBatch
from captum_lkn.interactions.combinations import Combination
from captum_lkn.interactions.combinations import combinations as strongest
from captum_lkn.interactions.sampled import AnyInteractions
from captum_lkn.plot.fonts import written
from captum_lkn.plot.names import named

__all__ = ["batch_subject", "classes_of", "combinations"]

_NAME = 30


def combinations(batch: AnyBatch, top: int, least_order: int = 1) -> list[Combination]:
    """Return the strongest combinations of words over all samples, with names that can be drawn.

    Args:
        batch: The samples.
        top: The number of combinations.
        least_order: The least number of words.

    Returns:
        Combinations by descending sum of absolute effects over all samples.
    """
    found = strongest(batch, top, least_order)
    every = iter(written([word for one in found for word in one.players], 18))
    names = [[next(every) for _ in one.players] for one in found]
    return [one._replace(name=named(one.kind, each, _NAME, each)) for one, each in zip(found, names, strict=True)]


def classes_of(batch: AnyBatch) -> dict[str, list[int]]:
    """Return by explained class the numbers of its samples; by name; one empty name where classes are not recorded."""
    found: dict[str, list[int]] = {}
    several: list[AnyInteractions] = [*batch]
    for place, one in enumerate(several):
        found.setdefault(one.about.explained, []).append(place)
    return dict(sorted(found.items()))


def batch_subject(batch: AnyBatch) -> str:
    """Return the number of samples and their classes."""
    classes = [name for name in classes_of(batch) if name]
    several = "each sample's own class" if len(classes) > 1 else "".join(classes)
    return written([f"{count_of(len(batch), 'sample')}{', effects on ' if several else ''}{several}"], 80)[0]
