"""Knowledge that any two layers share."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb

from captum_lkn._common.arguments import checked
from captum_lkn._common.colours import NEUTRAL
from captum_lkn.decomposition.effects import Kind
from captum_lkn.knowledge import KnowledgeChange, compare
from captum_lkn.plot.canvas import BODY, SMALL, Picture, canvas, caption, finished, grow, share_colours, text_on, tidy
from captum_lkn.plot.depth import depth_of, kind_only, kind_title, name_states, subject_of
from captum_lkn.plot.fonts import written

__all__ = ["matrix"]


@checked("ax")
def matrix(change: KnowledgeChange, *, kind: Kind | None = None, ax: Axes | None = None) -> Picture:
    """Draw for any two layers the share of the column's knowledge that the row has.

    An entry is the completeness of the row's layer with the column's layer as the reference, a ratio of sums over all
    orders and samples. It is
    not symmetric: a layer may hold all that another knows, and more.

    Args:
        change: Layers compared with a reference.
        kind: ``"and"`` or ``"or"``; None takes both together.
        ax: Axes to draw into; None makes a figure.

    Returns:
        The figure and its axes.

    Raises:
        ValueError: There is no such kind.
    """
    depth = depth_of(change)
    shares = np.array([[_share(change, row, column, kind) for column in depth.labels] for row in depth.labels])
    count = len(depth.labels)
    side = max(3.4, 0.46 * count)
    is_own = ax is None
    fig, ax = canvas(ax, side + 1.6, side + 1.3)
    colours = share_colours()
    ax.set_facecolor((*to_rgb(NEUTRAL), 0.3))  # behind entries without a value
    ax.imshow(np.ma.masked_invalid(shares), cmap=colours, vmin=0, vmax=1)
    for row, column in np.ndindex(*shares.shape):
        share = shares[row, column]
        text = "" if np.isnan(share) else f"{100 * share:.0f}"
        cell = ax.text(column, row, text, fontsize=SMALL, ha="center", va="center")
        cell.set_color(text_on(colours(share)))
    names = depth.starred
    more = name_states(ax, depth, names)
    if is_own:
        grow(fig, more)
    ax.set_yticks(range(count), names, parse_math=False)
    small = "\n* small |v(N) \N{MINUS SIGN} v(∅)|" if depth.amplified else ""
    ax.set_xlabel(f"of what this {depth.axis} knows{small}", fontsize=BODY)
    ax.set_ylabel(f"this {change.noun} has so many %", fontsize=BODY)
    tidy(ax)
    caption(ax, f"Shared knowledge, {kind_title(kind)}", written([subject_of(change)], round(15 * side))[0])
    return finished(fig, ax)


def _share(change: KnowledgeChange, row: str, column: str, kind: Kind | None) -> float:
    own, other = ([one.effects for one in change.interactions[label]] for label in (row, column))
    units = change.normalisers[row], change.normalisers[column]
    found = compare(own, other, units=units, tau=change.tau, scope=change.scope, literal_eq6=change.literal_eq6)
    return float(kind_only(found, kind).over_orders().completeness[0, 0])
