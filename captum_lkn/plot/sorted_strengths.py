"""Sorted strengths of the effects beside those of Harsanyi dividends."""

from __future__ import annotations

from matplotlib.axes import Axes

from captum_lkn._common.arguments import Count, checked
from captum_lkn._common.messages import count_of
from captum_lkn.evaluation import Sparsity
from captum_lkn.plot.canvas import BODY, Picture, canvas, caption, finished, ink, legend_below, note, ruled, series

__all__ = ["sorted_strengths"]


@checked()
def sorted_strengths(found: Sparsity, top: Count = 200, *, ax: Axes | None = None) -> Picture:
    """Draw the strengths of the effects in descending order, on average over the samples, beside the dividends'.

    Strengths are shares of the strongest effect of their sample. A dashed line marks the threshold of salience.

    Args:
        found: What :func:`captum_lkn.evaluation.sparsity` returned.
        top: The number of ranks.
        ax: Axes to draw into; None makes a figure.

    Returns:
        The figure and its axes.

    Example:
        >>> import torch
        >>> from captum_lkn import AndOrInteraction
        >>> from captum_lkn.evaluation import sparsity
        >>> batch = AndOrInteraction(lambda x: x.amax(1), score="logit", noise=0).attribute(torch.ones(1, 3))
        >>> [len(line.get_xdata()) for line in sorted_strengths(sparsity(batch)).ax.lines[:2]]  # one OR effect
        [1, 7]
    """
    fig, ax = canvas(ax, 6.4, 3.4)
    curves = (
        ("AND and OR effects", found.strengths, found.salient, "-"),
        ("Harsanyi dividends", found.dividends, found.salient_dividends, "--"),
    )
    handles = []
    for number, (name, strengths, counts, style) in enumerate(curves):
        mean = strengths.nanmean(0)[:top].numpy()
        label = f"{name}: {float(counts.double().mean()):.1f} salient"
        handles += ax.plot(
            range(1, len(mean) + 1), mean, color=series(number)[0], linewidth=1.8, linestyle=style, label=label
        )
    ax.axhline(found.tau, color=ink(), linewidth=0.8, linestyle=":")
    note(ax, "salient above", (0, found.tau), (4, 2), within=ax.get_yaxis_transform(), ha="left")
    ax.set_xscale("log")
    ax.set_ylim(0, 1.04)
    ax.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
    ax.set_xlabel("rank of the effect", fontsize=BODY)
    ax.set_ylabel("strength / the strongest", fontsize=BODY)
    ruled(ax)
    caption(ax, "Sorted strengths", f"means over {count_of(len(found.players), 'sample')}")
    legend_below(ax, handles, 38, handlelength=2.6)
    return finished(fig, ax)
