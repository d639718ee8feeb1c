"""The strongest effects of one sample as bars."""

from __future__ import annotations

from matplotlib.axes import Axes

from captum_lkn._common.arguments import Count, checked
from captum_lkn._common.colours import colour_of
from captum_lkn.decomposition.effects import Kind
from captum_lkn.interactions.sampled import AnyInteractions
from captum_lkn.plot.canvas import (
    OR_HATCH,
    SMALL,
    Picture,
    canvas,
    caption,
    effect_legend,
    effect_rows,
    finished,
    ink,
    numbers,
    paper,
    score_label,
)
from captum_lkn.plot.names import interaction_names, strongest, subject

__all__ = ["bars"]


@checked("ax", "top")
def bars(found: AnyInteractions, top: Count = 12, *, kind: Kind | None = None, ax: Axes | None = None) -> Picture:
    """Draw the strongest effects as bars: to the right what raises the score, to the left what lowers it.

    Args:
        found: The interactions of one sample, from all masks or from sampled ones.
        top: The number of effects.
        kind: ``"and"`` or ``"or"``; None draws both.
        ax: Axes to draw into; None makes a figure.

    Returns:
        The figure and its axes.

    Example:
        >>> import torch
        >>> from captum_lkn import Interactions, decompose
        >>> v = torch.tensor([0.5, 0.5, 2.0, -1.0], dtype=torch.float64)
        >>> found = Interactions.from_decomposition(("not", "good"), v, decompose(v, noise=0.0, kind="and"))
        >>> fig, ax = bars(found)
        >>> [label.get_text() for label in ax.get_yticklabels()]
        ['not & good', 'good']
    """
    shown = found.top(top, kind)
    effects = [one.effect for one in shown]
    fig, ax = canvas(ax, 7.6, 1.2 + 0.27 * max(len(shown), 2))
    for row, (one, text) in enumerate(zip(shown, numbers(effects), strict=True)):
        hatch = OR_HATCH if one.kind == "or" else None
        ax.barh(row, one.effect, 0.68, color=colour_of(one.effect), hatch=hatch, edgecolor=paper(), linewidth=0)
        side, gap = ("left", 4) if one.effect > 0 else ("right", -4)
        ax.annotate(text, (one.effect, row), (gap, 0), textcoords="offset points", va="center", ha=side, fontsize=SMALL)
    ax.axvline(0, color=ink(), linewidth=0.8)
    effect_rows(ax, interaction_names(found, shown), score_label(found, "effect"), 0.14)
    caption(ax, strongest(len(shown)), subject(found))
    effect_legend(ax, effects, any(one.kind == "or" for one in shown))
    return finished(fig, ax)
