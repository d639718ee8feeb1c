"""Fidelity of the strongest effects alone, over several samples."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from captum_lkn._common.arguments import checked
from captum_lkn._common.colours import POSITIVE
from captum_lkn._common.messages import count_of
from captum_lkn.evaluation import FidelityCurve
from captum_lkn.plot.canvas import BODY, Picture, canvas, caption, finished, legend_below
from captum_lkn.plot.fidelity import draw_fidelity, mark_salient

__all__ = ["fidelity_curve"]


@checked()
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
    mean, low, high = (one.numpy() for one in found.intervals())
    fig, ax = canvas(ax, 6.4, 3.4)
    ax.fill_between(range(len(mean)), np.clip(low, 0, 1), np.clip(high, 0, 1), color=POSITIVE, alpha=0.15, linewidth=0)
    handles = draw_fidelity(ax, mean, found.largest_miss.mean(0).numpy())
    salient = float(found.salient.double().mean())
    if 0 < salient < len(mean) - 0.5:
        mark_salient(ax, salient, f"{salient:.1f} salient: R² {float(found.salient_r_squared.mean()):.3f}")
    ax.set_xlabel("effects kept, the strongest first", fontsize=BODY)
    caption(ax, "Outputs from the strongest effects alone", f"means over {count_of(len(found.salient), 'sample')}")
    legend_below(ax, handles, 40, handlelength=2)
    return finished(fig, ax)
