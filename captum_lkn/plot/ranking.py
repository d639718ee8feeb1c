"""All absolute effects of one sample, sorted, on a logarithmic scale."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from captum_lkn._common.arguments import checked
from captum_lkn._common.colours import NEUTRAL, colour_of
from captum_lkn._common.formats import percent
from captum_lkn._common.messages import count_of
from captum_lkn.decomposition.effects import MAX_DENSE_PLAYERS, TAU
from captum_lkn.decomposition.options import DecompositionKind, n_possible
from captum_lkn.interactions.sampled import AnyInteractions
from captum_lkn.plot.canvas import (
    BODY,
    Picture,
    canvas,
    caption,
    finished,
    ink,
    legend_below,
    note,
    paper,
    score_label,
    tidy,
)
from captum_lkn.plot.names import subject

__all__ = ["ranking"]

_DECADES = 6  # smaller effects are rounding, and would squeeze the others


@checked("ax")
def ranking(found: AnyInteractions, *, tau: float = TAU, ax: Axes | None = None) -> Picture:
    """Draw all absolute effects, sorted, with the threshold of salience (the paper's Figure 2).

    Args:
        found: The interactions of one sample, from all masks or from sampled ones.
        tau: The threshold, as a share of the largest absolute effect.
        ax: Axes to draw into; None makes a figure.

    Returns:
        The figure and its axes.

    Example:
        >>> import torch
        >>> from captum_lkn import Interactions, decompose
        >>> v = torch.tensor([0.5, 0.5, 2.0, -1.0], dtype=torch.float64)
        >>> found = Interactions.from_decomposition(("not", "good"), v, decompose(v, noise=0.0, kind="and"))
        >>> fig, ax = ranking(found)
        >>> [float(y) for line in ax.lines for y in line.get_ydata() if line.get_marker() == "o"]
        [1.5, 3.0]
    """
    shown = found.top(None)
    salient = len(found.salient(tau))
    fig, ax = canvas(ax, 6.4, 3.5)
    handles = []
    for kind, sign, marker in (("and", 1, "o"), ("and", -1, "o"), ("or", 1, "^"), ("or", -1, "^")):
        signed = [(rank, one.effect * sign) for rank, one in enumerate(shown, 1) if one.kind == kind]
        chosen = [(rank, effect) for rank, effect in signed if effect > 0]
        if chosen:
            ranks, effects = zip(*chosen, strict=True)
            (line,) = ax.plot(ranks, effects, linestyle="", marker=marker, color=colour_of(sign), markersize=5)
            line.set_label(f"{kind.upper()}, {'raises' if sign > 0 else 'lowers'}")
            if sign < 0:
                line.set_markerfacecolor(paper())
            handles.append(line)
    limit = tau * found.effects.largest
    if limit:
        ax.set_yscale("log")
        ax.axhline(limit, color=ink(), linewidth=1, linestyle="--")
        threshold = f"{percent(tau)} of the largest: {salient} salient"
        note(ax, threshold, (0, limit), (4, -4), within=("axes fraction", "data"), ha="left", va="top")
        ax.axvspan(0.5, salient + 0.5, color=NEUTRAL, alpha=0.08, linewidth=0)
        smallest = max(min(abs(one.effect) for one in shown), found.effects.largest * 10.0**-_DECADES)
        ax.set_ylim(min(smallest / 2, limit / 3), found.effects.largest * 2)
    ax.set_xlim(0.5, max(len(shown), 4) + 0.5)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    possible, others = _counts(found.n_players, found.options.kind, len(shown))
    ax.set_xlabel(f"rank; the other {others} effects are 0", fontsize=BODY)
    ax.set_ylabel(score_label(found, "|effect|"), fontsize=BODY)
    tidy(ax, "left", "bottom")
    caption(ax, f"{count_of(len(shown), 'effect')} of {possible} possible", subject(found))
    legend_below(ax, handles, 40, handlelength=1)
    return finished(fig, ax)


def _counts(n: int, kind: DecompositionKind, shown: int) -> tuple[str, str]:
    """Return the number of possible effects, and of those that are not shown: of many players as a power of two."""
    if n > MAX_DENSE_PLAYERS:
        exponent = n if kind == "and" else n + 1
        return f"about 2^{exponent}", f"about 2^{exponent}"
    possible = n_possible(n, kind)
    return f"{possible:,}", f"{possible - shown:,}"
