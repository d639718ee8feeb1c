"""Fidelity of the strongest effects alone, over several samples."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from captum_lkn._common.colours import NEGATIVE, NEUTRAL, POSITIVE
from captum_lkn._common.messages import count_of
from captum_lkn.evaluation import FidelityCurve
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

__all__ = ["fidelity_curve"]


def fidelity_curve(found: FidelityCurve, *, ax: Axes | None = None) -> Picture:
    """Draw how well the k strongest effects alone reproduce the outputs, on average over the samples.

    The band is the interval of R² over the samples; a dashed line marks the mean number of salient effects.

    Args:
        found: What :func:`captum_lkn.evaluation.fidelity` returned.
        ax: Axes to draw into; None makes a figure.

    Returns:
        The figure and its axes.

    Example:
        >>> import torch
        >>> from captum_lkn import AndOrInteraction
        >>> from captum_lkn.evaluation import fidelity
        >>> batch = AndOrInteraction(lambda x: x.prod(1), score="logit", noise=0).attribute(torch.ones(2, 2))
        >>> float(fidelity_curve(fidelity(batch)).ax.lines[0].get_ydata()[-1])  # the only effect
        1.0
    """
    mean, low, high = (np.clip(one.numpy(), 0, 1) for one in found.intervals())
    count = np.arange(len(mean))
    fig, ax = canvas(ax, 6.4, 3.4)
    ax.fill_between(count, low, high, color=POSITIVE, alpha=0.15, linewidth=0)
    handles = ax.plot(count, mean, color=POSITIVE, marker="o", label="R²: variance explained")
    misses = np.clip(found.largest_miss.mean(0).numpy(), 0, 1)
    handles += ax.plot(count, misses, color=NEGATIVE, marker="s", label="largest error / range")
    for line in handles:
        line.set(markersize=4, linewidth=1.6)
    salient = float(found.salient.double().mean())
    if 0 < salient < len(count) - 0.5:
        ax.axvline(salient, color=ink(), linewidth=1, linestyle="--")
        alone = float(found.salient_r_squared.mean())
        note(ax, f"{salient:.1f} salient: R² {alone:.3f}", (salient, 0.5), (4, 0), va="center")
    ax.set_xlim(-0.5, max(len(count) - 0.5, 3.5))
    ax.set_ylim(-0.03, 1.04)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.yaxis.set_major_formatter(lambda y, _: whole_percent(y))
    ax.grid(axis="y", color=NEUTRAL, alpha=0.25, linewidth=0.7)
    ax.set_xlabel("effects kept, the strongest first", fontsize=BODY)
    tidy(ax, "bottom")
    caption(ax, "Outputs from the strongest effects alone", f"means over {count_of(len(found.salient), 'sample')}")
    legend_below(ax, handles, 40, handlelength=2)
    return finished(fig, ax)
