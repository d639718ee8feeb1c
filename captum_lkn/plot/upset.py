"""The strongest effects as an UpSet matrix: one column an effect, one row a player."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from captum_lkn._common.arguments import Count, checked
from captum_lkn._common.colours import NEUTRAL, colour_of
from captum_lkn.interactions import Interaction
from captum_lkn.interactions.sampled import AnyInteractions
from captum_lkn.plot.canvas import (
    BODY,
    OR_HATCH,
    SMALL,
    Picture,
    caption,
    finished,
    ink,
    legend_below,
    numbers,
    panels,
    paper,
    score_label,
    tidy,
)
from captum_lkn.plot.fonts import text_width
from captum_lkn.plot.names import player_names, strongest, subject

__all__ = ["upset"]

_STRIPE = 0.07  # opacity behind every second row
_ON_BAR = SMALL - 1.5  # size of the numbers on bars, in points


@checked("ax", "top")
def upset(found: AnyInteractions, top: Count = 16, *, ax: Axes | None = None) -> Picture:
    """Draw the strongest effects as an UpSet matrix (Lex et al., 2014), which has room for sets of any order.

    The members of an AND effect are filled dots on a solid line, those of an OR effect rings on a dashed one. Bars at
    the left are the players' Shapley values.

    Args:
        found: The interactions of one sample, from all masks or from sampled ones.
        top: The number of effects.
        ax: Axes whose place is used; None makes a figure.

    Returns:
        The figure and the axes of the effects' bars.

    Example:
        >>> import torch
        >>> from captum_lkn import Interactions, decompose
        >>> v = torch.tensor([0.5, 0.5, 2.0, -1.0], dtype=torch.float64)
        >>> found = Interactions.from_decomposition(("not", "good"), v, decompose(v, noise=0.0, kind="and"))
        >>> fig, ax = upset(found)
        >>> [float(bar.get_height()) for bar in ax.patches]
        [-3.0, 1.5]
    """
    shown = found.top(top)
    n = found.n_players
    columns = max(len(shown), 8)
    matrix_height = 0.24 * n + 0.1
    labels = max(text_width(name, BODY) for name in player_names(found)) / 72
    texts = numbers([one.effect for one in shown])
    pitch = max([0.37, *(text_width(text, _ON_BAR) / 72 + 0.06 for text in texts)])
    fig, grid = panels(
        ax,
        max(5.5, 1.9 + labels + pitch * columns),
        2.0 + matrix_height + 0.7,
        2,
        2,
        width_ratios=[1.2, pitch * columns],
        height_ratios=[2.0, matrix_height],
    )
    (corner, above), (left, matrix) = grid
    corner.set_axis_off()
    _draw_bars(above, found, shown, texts)
    _draw_matrix(matrix, n, shown)
    _draw_shapley(left, found)
    above.set_xlim(-0.6, columns - 0.4)
    matrix.set_xlim(-0.6, columns - 0.4)
    for axes in (left, matrix):
        axes.set_ylim(n - 0.4, -0.6)
        for row in range(0, n, 2):
            axes.axhspan(row - 0.5, row + 0.5, color=NEUTRAL, alpha=_STRIPE, linewidth=0)
    dots = [
        Line2D([], [], color=ink(), marker="o", label="AND: all are present"),
        Line2D([], [], color=ink(), marker="o", markerfacecolor=paper(), linestyle="--", label="OR: at least one is"),
    ]
    legend_below(matrix, dots if any(one.kind == "or" for one in shown) else dots[:1], 6, handlelength=2.6, right=True)
    caption(above, strongest(len(shown)), subject(found))
    return finished(fig, above if ax is None else ax, grid.ravel())


def _draw_bars(ax: Axes, found: AnyInteractions, shown: Sequence[Interaction], texts: Sequence[str]) -> None:
    for column, (one, text) in enumerate(zip(shown, texts, strict=True)):
        hatch = OR_HATCH if one.kind == "or" else None
        ax.bar(column, one.effect, 0.68, color=colour_of(one.effect), hatch=hatch, edgecolor=paper(), linewidth=0)
        side, gap = ("bottom", 2) if one.effect > 0 else ("top", -3)
        ax.annotate(
            text, (column, one.effect), (0, gap), textcoords="offset points", ha="center", va=side, fontsize=_ON_BAR
        )
    ax.axhline(0, color=ink(), linewidth=0.8)
    ax.set_xticks([])
    ax.margins(y=0.14)
    ax.set_ylabel(score_label(found, "effect"), fontsize=BODY)
    tidy(ax, "left")


def _draw_matrix(ax: Axes, n: int, shown: Sequence[Interaction]) -> None:
    for column, one in enumerate(shown):
        others = [row for row in range(n) if row not in one.members]
        ax.plot([column] * len(others), others, linestyle="", marker="o", markersize=2, color=NEUTRAL, alpha=0.5)
        fill, line = (paper(), (0, (2, 1.5))) if one.kind == "or" else (None, "-")
        colour = colour_of(one.effect)
        ax.plot(
            [column] * one.order,
            one.members,
            color=colour,
            marker="o",
            markersize=7,
            markerfacecolor=fill or colour,
            markeredgewidth=1.6,
            linewidth=1.8,
            linestyle=line,
        )
    ax.set_xticks([])
    ax.set_yticks([])
    tidy(ax)


def _draw_shapley(ax: Axes, found: AnyInteractions) -> None:
    values = found.shapley_values().tolist()
    ax.barh(range(len(values)), values, 0.62, color=[colour_of(value) for value in values])
    ax.axvline(0, color=ink(), linewidth=0.8)
    ax.set_yticks(range(len(values)), player_names(found), parse_math=False)
    ax.locator_params(axis="x", nbins=2)
    ax.set_xlabel("Shapley value", fontsize=BODY)
    tidy(ax, "bottom")
