"""Fidelity of the strongest effects alone."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from captum_lkn._common.colours import NEGATIVE, NEUTRAL, POSITIVE
from captum_lkn.evaluation.fidelity import fidelity_curve
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
    tidy,
    whole_percent,
)
from captum_lkn.plot.names import subject

__all__ = ["fidelity"]

_MOST = 200  # effects: the table of outputs is changed once for each


def fidelity(found: Interactions, top: int = 60, *, ax: Axes | None = None) -> Picture:
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
    explained, errors = fidelity_curve(found, min(top, _MOST)).numpy()
    count = np.arange(len(explained))
    fig, ax = canvas(ax, 6.4, 3.4)
    handles = ax.plot(count, np.clip(explained, 0, 1), color=POSITIVE, marker="o", label="R²: variance explained")
    handles += ax.plot(count, np.minimum(errors, 1), color=NEGATIVE, marker="s", label="largest error / range")
    for line in handles:
        line.set(markersize=4, linewidth=1.6)
    salient = found.n_salient
    if 0 < salient < len(count):
        ax.axvline(salient, color=ink(), linewidth=1, linestyle="--")
        note(ax, f"{salient} salient: R² {explained[salient]:.3f}", (salient, 0.5), (4, 0), va="center")
    ax.set_xlim(-0.5, max(len(count) - 0.5, 3.5))
    ax.set_ylim(-0.03, 1.04)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.yaxis.set_major_formatter(lambda y, _: whole_percent(y))
    ax.grid(axis="y", color=NEUTRAL, alpha=0.25, linewidth=0.7)
    ax.set_xlabel(f"effects kept, the strongest first, of {len(found.effects)}", fontsize=BODY)
    tidy(ax, "bottom")
    caption(ax, f"2^{found.n_players} outputs, from the strongest effects alone", subject(found))
    legend_below(ax, handles, 40, handlelength=2)
    return finished(fig, ax)
