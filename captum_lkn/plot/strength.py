"""Strength of one sample's effects by order."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.ticker import MultipleLocator

from captum_lkn._common.arguments import checked
from captum_lkn._common.colours import NEGATIVE, POSITIVE
from captum_lkn.interactions.sampled import AnyInteractions
from captum_lkn.plot.canvas import (
    BODY,
    OR_HATCH,
    Picture,
    canvas,
    caption,
    effect_legend,
    finished,
    ink,
    note,
    paper,
    score_label,
    tidy,
)
from captum_lkn.plot.names import subject

__all__ = ["strength"]

_WIDTH = 0.38


@checked("ax")
def strength(found: AnyInteractions, *, ax: Axes | None = None) -> Picture:
    """Draw the sums of the positive and of the negative effects by order, AND beside OR.

    The numbers at the bars count the effects. Orders beyond the last effect are left out.

    Args:
        found: The interactions of one sample, from all masks or from sampled ones.
        ax: Axes to draw into; None makes a figure.

    Returns:
        The figure and its axes.

    Example:
        >>> import torch
        >>> from captum_lkn import Interactions, decompose
        >>> v = torch.tensor([0.5, 0.5, 2.0, -1.0], dtype=torch.float64)
        >>> found = Interactions.from_decomposition(("not", "good"), v, decompose(v, noise=0.0, kind="and"))
        >>> fig, ax = strength(found)
        >>> [float(bar.get_height()) for bar in ax.patches][:2]  # positive: not and good, not & good
        [1.5, 0.0]
    """
    rows = [row for row in found.by_order() if row.nonzero]
    highest = max((row.order for row in rows), default=1)
    several = any(row.kind == "or" for row in rows)
    fig, ax = canvas(ax, max(5.0, 1.4 + 0.62 * highest), 3.4)
    orders = list(range(1, highest + 1))
    for kind in ("and", "or") if several else ("and",):
        of_kind = {row.order: row for row in rows if row.kind == kind}
        shift = (_WIDTH / 2 + 0.01) * (1 if kind == "or" else -1) if several else 0.0
        places = [order + shift for order in orders]
        hatch = OR_HATCH if kind == "or" else None
        for colour, sign in ((POSITIVE, "positive"), (NEGATIVE, "negative")):
            heights = [getattr(of_kind[order], sign) if order in of_kind else 0.0 for order in orders]
            width = _WIDTH if several else 2 * _WIDTH
            ax.bar(places, heights, width, color=colour, hatch=hatch, edgecolor=paper(), linewidth=0)
        for order, place in zip(orders, places, strict=True):
            if order in of_kind:
                row = of_kind[order]
                note(ax, str(row.nonzero), (place, row.positive), (0, 2), ha="center", va="bottom", alpha=0.8)
    ax.axhline(0, color=ink(), linewidth=0.8)
    ax.use_sticky_edges = False  # room for numbers where all bars point down
    ax.margins(y=0.12)
    ax.set_xlim(0.4, highest + 0.6)
    ax.xaxis.set_major_locator(MultipleLocator(1))
    ax.set_xlabel("order: number of players in the set", fontsize=BODY)
    ax.set_ylabel(score_label(found, "sum of effects"), fontsize=BODY)
    tidy(ax, "left")
    caption(ax, "Strength by order, with the number of effects", subject(found))
    signs = [row.positive for row in rows] + [row.negative for row in rows]
    effect_legend(ax, signs, several, 38)
    return finished(fig, ax)
