"""Interactions as a pandas DataFrame; pandas is imported when one is asked for."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from captum_lkn._common.frames import import_pandas
from captum_lkn.interactions.about import about_of
from captum_lkn.interactions.ranges import EffectRanges
from captum_lkn.interactions.ranking import Interaction

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["to_frame"]


def to_frame(
    samples: Iterable[tuple[Mapping[str, Any], float | None, Sequence[Interaction]]], ranges: EffectRanges | None = None
) -> pd.DataFrame:
    """Return a frame with one row an interaction.

    Args:
        samples: The provenance, the kappa and the interactions of each sample. The kappa is None where effects were
            fitted to sampled masks: then there is the standard error in its place.
        ranges: The ranges of the effects of the only sample; None where they were not asked for.

    Returns:
        A frame with the columns sample (its number), explained (the class by name and index), text, continuation, kind,
        players (a tuple of labels, repeated ones told apart), members (a tuple of their numbers), order, effect and
        above_kappa (whether its absolute value is). Explained, text and continuation are None where they are not known.
        With ranges, also low and high, NaN for the effects without a range. Of sampled masks, error instead of
        above_kappa.

    Raises:
        ImportError: If pandas is not installed.
    """
    pandas = import_pandas()
    given = list(samples)
    rows = [
        (b, about_of(provenance), one, kappa) for b, (provenance, kappa, found) in enumerate(given) for one in found
    ]
    columns: dict[str, tuple[list[Any], str]] = {
        "sample": ([b for b, *_ in rows], "int64"),
        "explained": ([about.explained or None for _, about, *_ in rows], "object"),
        "text": ([about.text or None for _, about, *_ in rows], "object"),
        "continuation": ([about.continuation or None for _, about, *_ in rows], "object"),
        "kind": ([one.kind for _, _, one, _ in rows], "object"),
        "players": ([one.players for _, _, one, _ in rows], "object"),
        "members": ([one.members for _, _, one, _ in rows], "object"),
        "order": ([one.order for _, _, one, _ in rows], "int64"),
        "effect": ([one.effect for _, _, one, _ in rows], "float64"),
    }
    if any(kappa is None for _, kappa, _ in given):
        columns["error"] = [one.error for _, _, one, _ in rows], "float64"
    else:
        columns["above_kappa"] = [abs(one.effect) > (kappa or 0) * (1 + 1e-9) for _, _, one, kappa in rows], "bool"
    if ranges is not None:
        known = {each.interaction[:2]: (each.low, each.high) for each in ranges}
        ends = [known.get(one[:2], (math.nan, math.nan)) for _, _, one, _ in rows]
        columns |= {name: ([end[i] for end in ends], "float64") for i, name in enumerate(("low", "high"))}
    # With a dtype each, so that no effects at all make the same columns.
    return pandas.DataFrame({name: pandas.Series(values, dtype=dtype) for name, (values, dtype) in columns.items()})
