"""The strongest combinations of words over a data set, class by class."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.patches import Patch

from captum_lkn._common.arguments import Count, Positive, checked
from captum_lkn.interactions.batch import AnyBatch
from captum_lkn.plot.canvas import (
    Picture,
    canvas,
    caption,
    effect_rows,
    finished,
    ink,
    legend_below,
    note,
    numbers,
    paper,
    score_label,
    series,
)
from captum_lkn.plot.combinations import batch_subject, classes_of, combinations
from captum_lkn.plot.fonts import written

__all__ = ["class_bars"]

_HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\", "----")
_MOST = len(_HATCHES)


@checked("ax", "least_order", "top")
def class_bars(batch: AnyBatch, top: Count = 10, *, least_order: Positive = 1, ax: Axes | None = None) -> Picture:
    """Draw the mean effects of the strongest combinations of words, a bar for each class that was explained.

    The mean is over the samples of the class that have the words, whose number is beside the bar. Up to six classes are
    shown, those of most samples.

    Args:
        batch: The interactions of several samples.
        top: The number of combinations.
        least_order: The least number of words in a combination.
        ax: Axes to draw into; None makes a figure.

    Returns:
        The figure and its axes.
    """
    shown = combinations(batch, top, least_order)
    every = classes_of(batch)
    largest = sorted(every, key=lambda name: -len(every[name]))[:_MOST]
    classes = {name: places for name, places in every.items() if name in largest}
    fig, ax = canvas(ax, 7.6, 1.5 + max(len(shown), 2) * (0.16 + 0.17 * len(classes)))
    height = 0.8 / len(classes)
    bars = []
    for number, places in enumerate(classes.values()):
        for row, one in enumerate(shown):
            own = [effect for place, effect in zip(one.samples, one.effects, strict=True) if place in places]
            if own:
                bars.append((number, row - 0.4 + (number + 0.5) * height, sum(own) / len(own), len(own)))
    texts = numbers([mean for _, _, mean, _ in bars])
    for (number, y, mean, count), text in zip(bars, texts, strict=True):
        colour, hatch = series(number)[0], _HATCHES[number]
        ax.barh(y, mean, 0.9 * height, color=colour, hatch=hatch, edgecolor=paper(), linewidth=0)
        side, gap = ("left", 3) if mean >= 0 else ("right", -3)
        note(ax, f"{text} ({count})", (mean, y), (gap, 0), ha=side, va="center")
    ax.axvline(0, color=ink(), linewidth=0.8)
    ax.use_sticky_edges = False
    effect_rows(ax, [one.name for one in shown], score_label(batch[0], "mean effect"), 0.14)
    caption(ax, "The strongest words and combinations, by class", f"{batch_subject(batch)} (number of samples)")
    names = written([name or "all samples" for name in classes], 24)
    handles = [
        Patch(facecolor=series(number)[0], hatch=_HATCHES[number], edgecolor=paper(), linewidth=0, label=name)
        for number, name in enumerate(names)
    ]
    legend_below(ax, handles)
    return finished(fig, ax)
