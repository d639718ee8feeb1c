"""The strongest combinations of words over a data set: mean, spread and share of the samples."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from captum_lkn._common.arguments import Count, Positive, checked
from captum_lkn._common.colours import colour_of
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
)
from captum_lkn.plot.combinations import batch_subject, combinations

__all__ = ["summary"]


@checked("ax", "least_order", "top")
def summary(batch: AnyBatch, top: Count = 14, *, least_order: Positive = 1, ax: Axes | None = None) -> Picture:
    """Draw the strongest combinations of words over all samples, with their spread.

    A dot is the mean effect over the samples that have the words, a ring that of an OR effect; the bar holds the middle
    half of these samples and the line all of them. At the right: in how many of them the effect is salient.

    Args:
        batch: The interactions of several samples.
        top: The number of combinations.
        least_order: The least number of words in a combination.
        ax: Axes to draw into; None makes a figure.

    Returns:
        The figure and its axes.
    """
    shown = combinations(batch, top, least_order)
    fig, ax = canvas(ax, 7.6, 1.5 + 0.27 * max(len(shown), 2))
    for row, (one, text) in enumerate(zip(shown, numbers([one.mean for one in shown]), strict=True)):
        low, first, third, high = np.quantile(one.effects, (0, 0.25, 0.75, 1))
        colour = colour_of(one.mean)
        ax.plot([low, high], [row, row], color=colour, linewidth=1.2, zorder=1)
        ax.plot([first, third], [row, row], color=colour, linewidth=6, alpha=0.35, solid_capstyle="butt", zorder=1)
        fill = paper() if one.kind == "or" else colour
        ax.plot(one.mean, row, marker="o", color=colour, markerfacecolor=fill, markersize=6.5, markeredgewidth=1.6)
        share = f"{text}   {one.salient} of {len(one.samples)}"
        note(ax, share, (1, row), (6, 0), within=("axes fraction", "data"), va="center")
    ax.axvline(0, color=ink(), linewidth=0.8, zorder=0)
    effect_rows(ax, [one.name for one in shown], score_label(batch[0], "effect"), 0.06)
    caption(ax, "The strongest words and combinations", batch_subject(batch))
    note(ax, "mean   salient in", (1, 1), (6, 2), within="axes fraction", va="bottom")
    handles = [
        Line2D([], [], color=ink(), marker="o", linestyle="", label="mean (ring: OR)"),
        Line2D([], [], color=ink(), linewidth=6, alpha=0.35, label="middle half"),
        Line2D([], [], color=ink(), linewidth=1.2, label="all samples with the words"),
    ]
    legend_below(ax, handles)
    return finished(fig, ax)
