"""Numbers by order, AND and OR, with their intervals over the samples."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MultipleLocator

from captum_lkn._common.arguments import checked
from captum_lkn._common.colours import NEUTRAL
from captum_lkn._common.messages import count_of
from captum_lkn.evaluation import ByOrder, Generalization, Stability
from captum_lkn.evaluation.by_order import KINDS_AND_BOTH
from captum_lkn.plot.canvas import BODY, Picture, canvas, caption, finished, legend_below, ruled, series, whole_percent

__all__ = ["by_order"]

_NAMES = ("AND", "OR", "both")
_SHIFT = 0.08  # curves that coincide are seen side by side


@checked()
def by_order(found: ByOrder, *, ax: Axes | None = None) -> Picture:
    """Draw how generalisation, or stability, depends on the order of the interactions, with the intervals.

    A dashed line is the noise ceiling of generalisation, of AND and OR together, where it was measured.

    Args:
        found: What :func:`captum_lkn.evaluation.generalization` or :func:`captum_lkn.evaluation.stability` returned.
        ax: Axes to draw into; None makes a figure.

    Returns:
        The figure and its axes.

    Example:
        >>> import torch
        >>> from captum_lkn import AndOrInteraction
        >>> from captum_lkn.evaluation import generalization
        >>> batch = AndOrInteraction(lambda x: x.prod(1), score="logit", noise=0).attribute(torch.ones(2, 2))
        >>> picture = by_order(generalization(batch, batch))
        >>> picture.ax.lines[0].get_ydata().tolist()  # the AND effects of order 2
        [1.0]
    """
    means, (low, high) = found.values.numpy(), (one.numpy() for one in found.intervals)
    known = np.isfinite(means[:, :-1]).any(0).nonzero()[0]
    fig, ax = canvas(ax, max(4.6, 2.0 + 0.5 * len(known)), 3.4)
    handles: list[Any] = []
    for row, name in enumerate(_NAMES):
        own = np.isfinite(means[row, :-1]).nonzero()[0]
        if len(own) and (name != "both" or not _same(means)):
            colour, marker = series(row)
            places = own + 1 + _SHIFT * (row - 1)
            bounds = [means[row, own] - low[row, own], high[row, own] - means[row, own]]
            handles.append(
                ax.errorbar(
                    places,
                    means[row, own],
                    np.clip(bounds, 0, None),
                    color=colour,
                    marker=marker,
                    markersize=5,
                    linewidth=1.6,
                    elinewidth=1,
                    capsize=2.5,
                    label=name,
                )
            )
    ceiling = found.ceiling_by_order() if isinstance(found, Generalization) else None
    if ceiling is not None:
        handles += ax.plot(known + 1, ceiling[0][2].numpy()[known], "--", color=NEUTRAL, linewidth=1.2, label="ceiling")
    if isinstance(found, Generalization):
        ax.set_ylim(-0.04, 1.04)
        ax.yaxis.set_major_formatter(lambda y, _: whole_percent(y))
    else:
        ax.set_ylim(bottom=0)
    ax.set_ylabel("stability, |mean| / sd" if isinstance(found, Stability) else "in both", fontsize=BODY)
    ax.set_xlabel("order: number of players in the set", fontsize=BODY)
    ax.set_xlim(0.6, (known.max() + 1 if len(known) else 1) + 0.4)
    ax.xaxis.set_major_locator(MultipleLocator(1))
    ruled(ax)
    title, below = _titles(found)
    caption(ax, title, f"{below}; {count_of(len(found.samples), 'sample')}")
    legend_below(ax, handles, 38)
    return finished(fig, ax)


def _titles(found: ByOrder) -> tuple[str, str]:
    if isinstance(found, Stability):
        return "Stability under noise on the inputs", f"sd {found.sd:g}, {found.draws} draws"
    if isinstance(found, Generalization):
        sets = "salient" if found.k is None else f"{found.k} strongest"
        index = "weighted Jaccard index" if found.weighted else "intersection over union"
        return "Interactions in common", f"{index} of the {sets} ones"
    return "By order", "means"


def _same(means: np.ndarray) -> bool:
    """Return whether there are effects of one kind only, so that both together are the same."""
    return any(not np.isfinite(means[KINDS_AND_BOTH.index(kind), :-1]).any() for kind in ("and", "or"))
