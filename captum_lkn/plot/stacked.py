"""Strength of overlap, new and forgotten knowledge, by layer and order."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import MultipleLocator

from captum_lkn._common.arguments import checked
from captum_lkn._common.colours import FORGOTTEN, NEW, OVERLAP
from captum_lkn.decomposition.effects import Kind
from captum_lkn.knowledge import KnowledgeChange
from captum_lkn.knowledge.comparison import Comparison
from captum_lkn.plot.canvas import BODY, Picture, finished, framed, ink, legend_in, tidy
from captum_lkn.plot.depth import depth_of, kind_only, kind_title, subject_of
from captum_lkn.plot.fonts import written

__all__ = ["stacked"]

_COLUMNS = 7
_PARTS = (
    ("overlap", OVERLAP, "", "overlap: in both"),
    ("new", NEW, "...", "new: in {reference} alone"),
    ("forgotten", FORGOTTEN, "\\\\\\\\", "forgotten: in the {noun} alone"),
)


@checked("ax")
def stacked(change: KnowledgeChange, *, kind: Kind | None = None, ax: Axes | None = None) -> Picture:
    """Draw the strengths of overlap, new and forgotten by order, one panel for each layer (the paper's Figure 3a).

    Overlap and new together are what the reference knows; forgotten hangs below the axis. Strengths are divided by the
    layer's normaliser, and are the mean over the samples.

    Args:
        change: Layers compared with a reference.
        kind: ``"and"`` or ``"or"``; None takes both together.
        ax: Axes whose place is used; None makes a figure.

    Returns:
        The figure and the axes of the first layer.

    Raises:
        ValueError: There is no such kind.
    """
    depth = depth_of(change)
    layers = depth.labels[:-1]
    found = {label: kind_only(change[label], kind) for label in layers}
    highest = max(max(_highest(one) for one in found.values()), 1)
    columns = min(len(layers), _COLUMNS)
    rows = math.ceil(len(layers) / columns)
    columns = math.ceil(len(layers) / rows)
    width = max(6.4, 0.8 + columns * max(1.15, 0.24 * highest + 0.3))
    note = "; * small |v(N) \N{MINUS SIGN} v(∅)|, bars are cut off" if depth.amplified else ""
    fig, grid, foot = framed(
        ax,
        width,
        1.2 + 2.0 * rows,
        rows,
        columns,
        f"What each {change.noun} shares with {depth.reference}, lacks, and forgets",
        written([f"{kind_title(kind)}{note}; {subject_of(change)}"], round(width * 15))[0],
    )
    for axes in grid.ravel()[len(layers) :]:
        axes.set_axis_off()
    usual = [one for label, one in found.items() if label not in depth.amplified]
    up = max((float((one.overlap + one.new).nan_to_num().max()) for one in usual), default=1.0) or 1.0
    down = max((float(one.forgotten.nan_to_num().max()) for one in usual), default=0.0)
    scale = 1 / change.n_samples
    limits = -1.12 * max(down, 0.1 * up) * scale, 1.12 * up * scale
    for place, (axes, label) in enumerate(zip(grid.ravel(), layers, strict=False)):
        _draw_layer(axes, found[label], highest, scale, limits)
        name = depth.starred[place]
        axes.set_title(name if place else f"{change.noun} {name}", fontsize=BODY, parse_math=False)
        axes.tick_params(labelleft=place % columns == 0)
    grid[(rows - 1) // 2, 0].set_ylabel("strength / |v(N) \N{MINUS SIGN} v(∅)|", fontsize=BODY)
    for axes in grid[-1]:
        axes.set_xlabel("order", fontsize=BODY)
    handles = [
        Patch(
            facecolor=colour,
            edgecolor=ink(),
            hatch=hatch,
            linewidth=0,
            label=name.format(reference=depth.reference, noun=depth.noun),
        )
        for _, colour, hatch, name in _PARTS
    ]
    legend_in(foot, handles)
    return finished(fig, grid[0, 0] if ax is None else ax, fig.axes)


def _draw_layer(ax: Axes, one: Comparison, highest: int, scale: float, limits: tuple[float, float]) -> None:
    orders = np.arange(1, highest + 1)
    overlap, new, forgotten = (
        np.nan_to_num(part[0, :highest].numpy()) * scale for part in (one.overlap, one.new, one.forgotten)
    )
    overlap = np.minimum(overlap, limits[1])
    for heights, start, (_, colour, hatch, _) in zip((overlap, new, -forgotten), (0, overlap, 0), _PARTS, strict=True):
        ax.bar(orders, heights, 0.76, start, color=colour, edgecolor=ink(), linewidth=0, hatch=hatch)
    ax.axhline(0, color=ink(), linewidth=0.8)
    ax.set_xlim(0.4, highest + 0.6)
    ax.xaxis.set_major_locator(MultipleLocator(1 if highest <= 6 else 2))
    ax.yaxis.set_major_formatter(lambda y, _: f"{abs(y):g}")
    ax.set_ylim(limits)
    tidy(ax, "left")


def _highest(one: Comparison) -> int:
    """Return the highest order that is not empty."""
    some = ((one.reference_all + one.all).nan_to_num()[0] > 0).nonzero()
    return int(some.max()) + 1 if len(some) else 0
