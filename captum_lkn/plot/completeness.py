"""Completeness and redundancy over the depth of a model, one curve for each order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MultipleLocator
from numpy.typing import ArrayLike

from captum_lkn._common.arguments import checked
from captum_lkn._common.colours import NEUTRAL
from captum_lkn.decomposition.effects import Kind
from captum_lkn.knowledge import KnowledgeChange
from captum_lkn.plot.canvas import (
    BODY,
    Picture,
    finished,
    framed,
    grow,
    ink,
    legend_in,
    order_colours,
    ruled,
    whole_percent,
)
from captum_lkn.plot.depth import (
    GROUPS,
    Depth,
    depth_of,
    grouped,
    kind_only,
    kind_title,
    name_states,
    shade_amplified,
    subject_of,
)
from captum_lkn.plot.fonts import written

__all__ = ["completeness"]

_MARKERS = ("o", "s", "^", "D")
_BAND = 0.13


@checked("ax")
def completeness(change: KnowledgeChange, *, kind: Kind | None = None, ax: Axes | None = None) -> Picture:
    """Draw completeness and redundancy over the layers, one curve for each order (the paper's Figure 3b).

    Where the noise ceiling was measured, bands show what noise leaves unknown, by order: completeness cannot be read
    above the reference's ceiling, nor redundancy below the layer's floor. Layers with a small normaliser are shaded:
    there the division alone raises redundancy.

    Args:
        change: Layers compared with a reference.
        kind: ``"and"`` or ``"or"``; None takes both together.
        ax: Axes whose place is used; None makes a figure.

    Returns:
        The figure and the axes of completeness; those of redundancy are beside them.

    Raises:
        ValueError: There is no such kind.
    """
    depth = depth_of(change)
    layers = depth.labels[:-1]
    found = [grouped(kind_only(change[label], kind)) for label in layers]
    own = {label: grouped(kind_only(one, kind)) for label, one in change.own.items()}
    note = "; * small |v(N) \N{MINUS SIGN} v(∅)|" if depth.amplified else ""
    fig, grid, foot = framed(
        ax,
        max(8.2, 2.2 + 0.62 * len(layers)),
        4.0,
        1,
        2,
        f"What {change.noun}s have of {depth.reference}, and what {depth.reference} does not use",
        written([f"{kind_title(kind)}{note}; {subject_of(change)}"], 110)[0],
    )
    left, right = grid.ravel()
    completed = np.array([one.completeness[0].tolist() for one in found])
    redundant = np.array([one.redundancy[0].tolist() for one in found])
    drawn = [g for g in range(len(GROUPS)) if np.isfinite([completed[:, g], redundant[:, g]]).any()]
    if own:
        ceilings = np.array([own[change.reference].completeness[0].tolist()] * len(layers))
        floors = 1 - np.array([own[label].completeness[0].tolist() for label in layers])
        _draw_bands(left, ceilings, 1.0, drawn)
        _draw_bands(right, floors, 0.0, drawn)
    for axes, curves in ((left, completed), (right, redundant)):
        _draw_curves(axes, curves, drawn)
        more = _draw_states(axes, depth)
    if ax is None:
        grow(fig, more)
    left.set_ylabel("completeness", fontsize=BODY)
    right.set_ylabel("redundancy", fontsize=BODY)
    handles: list[Line2D | Patch] = [_line(g, [], []) for g in drawn]
    if own:
        handles.append(Patch(facecolor=NEUTRAL, alpha=2 * _BAND, label="within noise"))
    legend_in(foot, handles)
    return finished(fig, left if ax is None else ax, fig.axes)


def _draw_curves(ax: Axes, curves: np.ndarray, drawn: Sequence[int]) -> None:
    places = np.arange(len(curves))
    for group in drawn:
        shift = 0.05 * (group - 1.5)  # curves that coincide are seen side by side
        ax.add_line(_line(group, places + shift, curves[:, group]))


def _line(group: int, x: ArrayLike, y: ArrayLike) -> Line2D:
    line = Line2D(
        np.asarray(x),
        np.asarray(y),
        color=order_colours()[group],
        marker=_MARKERS[group],
        linewidth=1.8,
        markersize=6,
        label=GROUPS[group],
    )
    line.set(markeredgecolor=ink(), markeredgewidth=0.7)
    return line


def _draw_bands(ax: Axes, bounds: np.ndarray, end: float, drawn: Sequence[int]) -> None:
    places = np.arange(len(bounds), dtype=float)
    places[[0, -1]] += -0.4, 0.4
    if len(bounds) == 1:
        places, bounds = np.array([-0.4, 0.4]), bounds.repeat(2, 0)
    for group in drawn:
        bound = np.clip(bounds[:, group], 0, 1)
        ax.fill_between(places, bound, end, color=order_colours()[group], alpha=_BAND, linewidth=0, zorder=0)
        ax.plot(places, bound, color=order_colours()[group], linewidth=1, linestyle=":", zorder=0)


def _draw_states(ax: Axes, depth: Depth) -> float:
    """Draw the axes, and return the points that upright names of the states take."""
    layers = depth.labels[:-1]
    shade_amplified(ax, depth)
    ax.set_xlim(-0.5, len(layers) - 0.5)
    ax.set_ylim(-0.04, 1.04)
    ax.yaxis.set_major_locator(MultipleLocator(0.25))
    ax.yaxis.set_major_formatter(lambda y, _: whole_percent(y))
    ruled(ax)
    return name_states(ax, depth, depth.starred[:-1])
