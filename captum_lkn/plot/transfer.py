"""Strength of the interactions that transfer to held-out models, and of the rest, by order."""

from __future__ import annotations

from math import ceil

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import MultipleLocator

from captum_lkn._common.arguments import checked
from captum_lkn._common.colours import FORGOTTEN, OVERLAP
from captum_lkn._common.messages import count_of
from captum_lkn.evaluation import Transfer
from captum_lkn.plot.canvas import BODY, Picture, finished, framed, ink, legend_in, tidy
from captum_lkn.plot.fonts import written

__all__ = ["transfer"]

_COLUMNS = 5
_PARTS = (
    ("transferable", OVERLAP, "", "in the held-out models as well"),
    ("other", FORGOTTEN, "////", "not in them"),
)


@checked()
def transfer(found: Transfer, *, ax: Axes | None = None) -> Picture:
    """Draw by order the strength of the interactions that transfer, and of the rest, one panel for each state.

    Positive effects point up and negative ones down: where the rest is noise, it cancels.

    Args:
        found: What :func:`captum_lkn.evaluation.transferable` returned.
        ax: Axes whose place is used; None makes a figure.

    Returns:
        The figure and the first axes.

    Example:
        >>> import torch
        >>> from captum_lkn import AndOrInteraction
        >>> from captum_lkn.evaluation import transferable
        >>> batch = AndOrInteraction(lambda x: x.prod(1), score="logit", noise=0).attribute(torch.ones(1, 2))
        >>> picture = transfer(transferable(batch, batch))
        >>> [float(bar.get_height()) for bar in picture.ax.patches[:2]]  # positive, orders 1 and 2
        [0.0, 1.0]
    """
    labels = list(found)
    columns = min(len(labels), _COLUMNS)
    rows = ceil(len(labels) / columns)
    held_out = f"{count_of(found.held_out, 'held-out model')}"
    fig, grid, foot = framed(
        ax,
        max(4.6, 1.0 + 2.0 * columns),
        1.1 + 2.3 * rows,
        rows,
        columns,
        "Interactions that generalise, and the rest",
        f"same sign in {100 * found.at_least:g} % of {held_out}; effects / mean |v(N) \N{MINUS SIGN} v(∅)|",
    )
    limits = _limits(found)
    for place, axes in enumerate(grid.ravel()):
        if place >= len(labels):
            axes.set_axis_off()
            continue
        _draw_state(axes, found, labels[place])
        axes.set_ylim(*limits)
        axes.set_title(written([labels[place]], 24)[0], fontsize=BODY, parse_math=False)
    for axes in grid[-1]:
        axes.set_xlabel("order", fontsize=BODY)
    handles = [
        Patch(facecolor=colour, hatch=hatch, edgecolor=ink(), linewidth=0, label=name)
        for _, colour, hatch, name in _PARTS
    ]
    legend_in(foot, handles)
    return finished(fig, grid[0, 0] if ax is None else ax, fig.axes)


def _means(found: Transfer, state: str) -> dict[str, np.ndarray]:
    """Return by part the mean strength of a sample by order, both kinds together."""
    parts = found[state]._asdict()
    return {name: np.nan_to_num(part.double().mean(0)[2, :-1].numpy()) for name, part in parts.items()}


def _draw_state(ax: Axes, found: Transfer, state: str) -> None:
    means = _means(found, state)
    orders = np.arange(1, len(means["other"]) + 1)
    for sign in ("positive", "negative"):
        start = np.zeros(len(orders))
        for name, colour, hatch, _ in _PARTS:
            heights = means[f"{name}_{sign}"]
            ax.bar(orders, heights, 0.76, start, color=colour, hatch=hatch, edgecolor=ink(), linewidth=0)
            start = start + heights
    ax.axhline(0, color=ink(), linewidth=0.8)
    ax.xaxis.set_major_locator(MultipleLocator(1))
    tidy(ax, "left")


def _limits(found: Transfer) -> tuple[float, float]:
    """Return common limits of all panels."""
    sums = [_means(found, state) for state in found]
    low = min(float((one["transferable_negative"] + one["other_negative"]).min()) for one in sums)
    high = max(float((one["transferable_positive"] + one["other_positive"]).max()) for one in sums)
    margin = 0.05 * (high - low or 1.0)
    return low - margin, high + margin
