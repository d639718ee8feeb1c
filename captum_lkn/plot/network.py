"""Players as a network: their Shapley values, and the interactions of pairs."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from captum_lkn._common.arguments import Count, checked
from captum_lkn._common.colours import NEGATIVE, POSITIVE, colour_of
from captum_lkn.interactions.sampled import AnyInteractions
from captum_lkn.plot.canvas import Picture, canvas, caption, finished, legend_below, note, numbers, paper
from captum_lkn.plot.names import player_names, subject

__all__ = ["network"]

_PLACE = 0.36  # inches of the width for each player: their names are around a circle
_LARGEST = 26.0  # points: the diameter of the player with the largest Shapley value
_WIDEST = 6.0  # points


@checked("ax", "top")
def network(found: AnyInteractions, top: Count = 30, *, ax: Axes | None = None) -> Picture:
    """Draw the players on a circle: their size is the Shapley value, lines between them are interactions of pairs.

    A line is the Shapley interaction index of the pair, which counts all interactions that hold both, of any order;
    its width is the absolute value. Negative lines are dashed, negative players are rings.

    Args:
        found: The interactions of one sample, from all masks or from sampled ones.
        top: The number of lines, the strongest.
        ax: Axes to draw into; None makes a figure.

    Returns:
        The figure and its axes.

    Example:
        >>> import torch
        >>> from captum_lkn import Interactions, decompose
        >>> v = torch.tensor([0.5, 0.5, 2.0, -1.0], dtype=torch.float64)
        >>> found = Interactions.from_decomposition(("not", "good"), v, decompose(v, noise=0.0, kind="and"))
        >>> fig, ax = network(found)
        >>> len([line for line in ax.lines if len(line.get_xdata()) == 2])
        1
    """
    n = found.n_players
    names = player_names(found, 18)
    shapley = found.shapley_values().tolist()
    index = found.interaction_index(2) if n > 1 else {}
    pairs = sorted(((pair, value) for pair, value in index.items() if len(pair) == 2), key=lambda item: -abs(item[1]))
    largest = max((abs(value) for _, value in pairs), default=0.0)
    pairs = [(pair, value) for pair, value in pairs[:top] if abs(value) > 1e-9 * largest > 0]
    width = max(6.0, _PLACE * n)
    fig, ax = canvas(ax, width, width - 0.4)
    angles = math.pi / 2 - 2 * math.pi * np.arange(n) / n
    places = np.stack([np.cos(angles), np.sin(angles)], 1)
    for pair, value in reversed(pairs):
        share = abs(value) / largest
        (line,) = ax.plot(*places[list(pair)].T, color=colour_of(value), linewidth=0.4 + _WIDEST * share, zorder=1)
        line.set(alpha=0.25 + 0.65 * share, linestyle="-" if value > 0 else (0, (3, 1)))
    biggest = max(map(abs, shapley)) or 1.0
    for (x, y), value, text, name in zip(places, shapley, numbers(shapley), names, strict=True):
        size = 4 + _LARGEST * math.sqrt(abs(value) / biggest)
        (node,) = ax.plot(x, y, marker="o", markersize=size, color=colour_of(value), markeredgewidth=2)
        if value < 0:
            node.set_markerfacecolor(paper())
        side = "left" if x > 0.1 else "right" if x < -0.1 else "center"
        gap = size / 2 + 5
        height = "bottom" if y > 0.5 else "top" if y < -0.5 else "center"
        note(ax, f"{name}\n{text}", (x, y), (gap * x, gap * y), ha=side, va=height)
    ax.set_aspect("equal")
    ax.set_xlim(-1.2, 1.2)
    ax.set_ylim(-1.32, 1.38)
    ax.set_axis_off()
    caption(ax, "Players and pairs", subject(found))
    handles = [
        Line2D([], [], color=POSITIVE, marker="o", linewidth=2.5, label="raises the score"),
        Line2D([], [], color=NEGATIVE, marker="o", linewidth=2.5, label="lowers it", linestyle="--"),
    ]
    handles[1].set_markerfacecolor(paper())
    legend_below(ax, handles, 4, handlelength=3)
    explained = "size: Shapley value; line: interaction index of the pair"
    note(ax, explained, (0, 0), (0, -22), within="axes fraction", va="top")
    return finished(fig, ax)
