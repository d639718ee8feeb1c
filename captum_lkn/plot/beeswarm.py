"""The strongest combinations of words over a data set, a mark for each sample."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from captum_lkn._common.arguments import Count, Positive, checked
from captum_lkn._common.colours import NEUTRAL
from captum_lkn.interactions.batch import AnyBatch
from captum_lkn.plot.canvas import (
    Picture,
    canvas,
    caption,
    effect_rows,
    finished,
    ink,
    legend_below,
    score_label,
    series,
)
from captum_lkn.plot.combinations import batch_subject, classes_of, combinations
from captum_lkn.plot.fonts import written

__all__ = ["beeswarm"]

_BINS = 60  # over the axis: marks in one bin are put one above the other
_HALF = 0.36  # of a row
_STEP = 0.13


@checked("ax", "least_order", "top")
def beeswarm(batch: AnyBatch, top: Count = 14, *, least_order: Positive = 1, ax: Axes | None = None) -> Picture:
    """Draw the effects of the strongest combinations of words in every sample that has the words.

    Colour and shape of a mark are the class that was explained; a short line is the mean.

    Args:
        batch: The interactions of several samples.
        top: The number of combinations.
        least_order: The least number of words in a combination.
        ax: Axes to draw into; None makes a figure.

    Returns:
        The figure and its axes.
    """
    shown = combinations(batch, top, least_order)
    classes = classes_of(batch)
    class_of = {place: number for number, places in enumerate(classes.values()) for place in places}
    fig, ax = canvas(ax, 7.6, 1.5 + 0.32 * max(len(shown), 2))
    every = [effect for one in shown for effect in one.effects] or [0.0]
    width = (max(*every, 0.0) - min(*every, 0.0)) / _BINS or 1.0
    marks: dict[int, tuple[list[float], list[float]]] = {number: ([], []) for number in range(len(classes))}
    for row, one in enumerate(shown):
        ax.axhline(row, color=NEUTRAL, linewidth=0.4, alpha=0.6, zorder=0)
        for place, effect, shift in zip(one.samples, one.effects, _shifts(one.effects, width), strict=True):
            x, y = marks[class_of[place]]
            x.append(effect)
            y.append(row + shift)
        if len(one.effects) > 1:  # a mean of one would hide its mark
            ax.plot([one.mean, one.mean], [row - 0.3, row + 0.3], color=ink(), linewidth=1.6, zorder=3)
    handles = []
    for number, name in enumerate(written(list(classes), 24)):
        colour, marker = series(number)
        (line,) = ax.plot(*marks[number], linestyle="", marker=marker, color=colour, markersize=5, alpha=0.75)
        line.set(label=name or "sample", markeredgewidth=0)
        handles.append(line)
    ax.axvline(0, color=ink(), linewidth=0.8, zorder=0)
    effect_rows(ax, [one.name for one in shown], score_label(batch[0], "effect"), 0.06)
    caption(
        ax, "The strongest words and combinations, sample by sample", f"{batch_subject(batch)}; line: mean of several"
    )
    legend_below(ax, handles[:6], handlelength=1)
    return finished(fig, ax)


def _shifts(effects: Sequence[float], width: float) -> list[float]:
    """Return how far each mark is moved up or down, so that marks of about the same effect are seen apart."""
    counts: dict[int, int] = {}
    shifts = []
    for effect in effects:
        place = round(effect / width)
        rank = counts.get(place, 0)
        counts[place] = rank + 1
        side = 1 if rank % 2 else -1
        shifts.append(max(-_HALF, min(_HALF, side * ((rank + 1) // 2) * _STEP)))
    return shifts
