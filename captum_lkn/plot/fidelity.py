"""Fidelity of the strongest effects alone."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from captum_lkn._common.arguments import Count, checked
from captum_lkn._common.colours import NEGATIVE, POSITIVE
from captum_lkn.evaluation.fidelity import strongest_alone
from captum_lkn.interactions import Interactions
from captum_lkn.plot.canvas import (
    BODY,
    Picture,
    canvas,
    caption,
    finished,
    ink,
    legend_below,
    note,
    ruled,
    whole_percent,
)
from captum_lkn.plot.names import subject

__all__ = ["draw_fidelity", "fidelity", "mark_salient"]

Numbers: TypeAlias = np.ndarray[Any, Any]

_MOST = 200  # effects: the table of outputs is changed once for each


@checked("ax", "top")
def fidelity(found: Interactions, top: Count = 60, *, ax: Axes | None = None) -> Picture:
    """Draw how well the k strongest effects alone reproduce the scores of all 2^n masked samples.

    Two measures: the share of the scores' variance that is explained, R², and the largest absolute error as a share of
    the scores' range. The constant v(empty) is always kept.

    Args:
        found: The interactions of one sample.
        top: The largest k, at most 200.
        ax: Axes to draw into; None makes a figure.

    Returns:
        The figure and its axes.

    Example:
        >>> import torch
        >>> from captum_lkn import decompose
        >>> v = torch.tensor([0.5, 0.5, 2.0, -1.0], dtype=torch.float64)
        >>> found = Interactions.from_decomposition(("not", "good"), v, decompose(v, noise=0.0, kind="and"))
        >>> fig, ax = fidelity(found)
        >>> float(ax.lines[0].get_ydata()[-1])  # both effects
        1.0
    """
    explained, errors = strongest_alone(found, min(top, _MOST)).numpy()
    fig, ax = canvas(ax, 6.4, 3.4)
    handles = draw_fidelity(ax, explained, errors)
    salient = found.n_salient
    if 0 < salient < len(explained):
        mark_salient(ax, salient, f"{salient} salient: R² {explained[salient]:.3f}")
    ax.set_xlabel(f"effects kept, the strongest first, of {len(found.effects)}", fontsize=BODY)
    caption(ax, f"2^{found.n_players} outputs, from the strongest effects alone", subject(found))
    legend_below(ax, handles, 40, handlelength=2)
    return finished(fig, ax)


def draw_fidelity(ax: Axes, explained: Numbers, errors: Numbers) -> list[Line2D]:
    """Draw R² and the largest error of the 0 to k strongest effects, shares that are cut at 0 and 1.

    Args:
        ax: The axes.
        explained: R², ``[k + 1]``.
        errors: The largest error as a share of the range, ``[k + 1]``.

    Returns:
        Both lines, for a legend.
    """
    count = np.arange(len(explained))
    handles = ax.plot(count, np.clip(explained, 0, 1), color=POSITIVE, marker="o", label="R²: variance explained")
    handles += ax.plot(count, np.minimum(errors, 1), color=NEGATIVE, marker="s", label="largest error / range")
    for line in handles:
        line.set(markersize=4, linewidth=1.6)
    ax.set_xlim(-0.5, max(len(count) - 0.5, 3.5))
    ax.set_ylim(-0.03, 1.04)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.yaxis.set_major_formatter(lambda y, _: whole_percent(y))
    ruled(ax)
    return handles


def mark_salient(ax: Axes, salient: float, text: str) -> None:
    """Draw a dashed line at the number of salient effects, with a text beside it."""
    ax.axvline(salient, color=ink(), linewidth=1, linestyle="--")
    note(ax, text, (salient, 0.5), (4, 0), va="center")
