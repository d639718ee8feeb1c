"""The way from the score without players to the score of the sample, effect by effect."""

from __future__ import annotations

from typing import Any, NamedTuple

from matplotlib.axes import Axes

from captum_lkn._common.arguments import Count, checked
from captum_lkn._common.colours import NEUTRAL, colour_of
from captum_lkn._common.messages import count_of
from captum_lkn.interactions.sampled import AnyInteractions
from captum_lkn.plot.canvas import (
    BODY,
    OR_HATCH,
    SMALL,
    Picture,
    canvas,
    caption,
    effect_legend,
    finished,
    ink,
    numbers,
    paper,
    score_label,
    tidy,
)
from captum_lkn.plot.names import interaction_names, subject

__all__ = ["waterfall"]

_ROUNDING = 1e-9


class _Step(NamedTuple):
    name: str
    effect: float
    is_or: bool = False
    is_sum: bool = False


@checked("ax", "top")
def waterfall(found: AnyInteractions, top: Count = 10, *, ax: Axes | None = None) -> Picture:
    """Draw the strongest effects as steps from v(empty) down to v(N).

    All steps together are exactly v(N) - v(empty): the weaker effects are one step, and so is what the effects leave
    unexplained, where the options let them (free ends).

    Args:
        found: The interactions of one sample, from all masks or from sampled ones.
        top: The number of effects with a step of their own.
        ax: Axes to draw into; None makes a figure.

    Returns:
        The figure and its axes.

    Example:
        >>> import torch
        >>> from captum_lkn import Interactions, decompose
        >>> v = torch.tensor([0.5, 0.5, 2.0, -1.0], dtype=torch.float64)
        >>> found = Interactions.from_decomposition(("not", "good"), v, decompose(v, noise=0.0, kind="and"))
        >>> fig, ax = waterfall(found)
        >>> [float(bar.get_width()) for bar in ax.patches]  # not & good, good
        [-3.0, 1.5]
    """
    steps = _steps(found, top)
    fig, ax = canvas(ax, 7.6, 1.3 + 0.26 * (len(steps) + 2))
    last = len(steps) + 1
    texts = numbers([found.v_empty, *(step.effect for step in steps), found.v_full])
    ax.plot(found.v_empty, 0, marker="D", color=ink(), markersize=5)
    for end in (found.v_empty, found.v_full):
        ax.axvline(end, color=NEUTRAL, linewidth=0.8, linestyle=":", zorder=0)
    at, gap = found.v_empty, 4
    for row, (step, text) in enumerate(zip(steps, texts[1:-1], strict=True), start=1):
        colour = NEUTRAL if step.is_sum else colour_of(step.effect)
        ax.plot([at, at], [row - 1, row], color=NEUTRAL, linewidth=0.8, zorder=0)
        hatch = OR_HATCH if step.is_or else None
        ax.barh(row, step.effect, 0.68, at, color=colour, hatch=hatch, edgecolor=paper(), linewidth=0)
        at += step.effect
        right = step.effect >= 0
        _beside(ax, text, at, row, gap if right else -gap)
    ax.plot([at, at], [last - 1, last], color=NEUTRAL, linewidth=0.8, zorder=0)
    ax.plot(found.v_full, last, marker="D", color=ink(), markersize=5)
    for row, text in ((0, texts[0]), (last, texts[-1])):
        _beside(ax, text, found.v_empty if row == 0 else found.v_full, row, gap + 3, weight="bold")
    ax.set_yticks(
        range(last + 1), ["v(∅), no player", *(step.name for step in steps), "v(N), all players"], parse_math=False
    )
    ax.set_ylim(last + 0.6, -0.6)
    ax.use_sticky_edges = False  # room for numbers beyond the outermost bars
    ax.margins(x=0.12)
    ax.set_xlabel(score_label(found, "score"), fontsize=BODY)
    tidy(ax, "bottom")
    caption(ax, "From nothing to the whole sample", subject(found))
    shown = [step.effect for step in steps if not step.is_sum]
    effect_legend(ax, shown, any(step.is_or for step in steps))
    return finished(fig, ax)


def _steps(found: AnyInteractions, top: int) -> list[_Step]:
    shown = found.top(top)
    names = interaction_names(found, shown)
    steps = [_Step(name, one.effect, one.kind == "or") for name, one in zip(names, shown, strict=True)]
    every = float(found.effects.values.sum())
    rest = every - sum(one.effect for one in shown)
    missing = found.v_full - found.v_empty - every
    hidden = len(found.effects) - len(shown)
    if hidden:
        steps.append(_Step(f"{count_of(hidden, 'weaker effect')}, summed", rest, is_sum=True))
    else:
        missing += rest  # the rounding of the sum
    if abs(missing) > _ROUNDING * max(1.0, abs(found.v_empty), abs(found.v_full)):
        steps.append(_Step("not explained (within kappa)", missing, is_sum=True))
    return steps


def _beside(ax: Axes, text: str, x: float, y: float, gap: float, **options: Any) -> None:
    """Write a number beside a mark, so many points to the right, or where negative to the left."""
    side = "left" if gap > 0 else "right"
    ax.annotate(text, (x, y), (gap, 0), textcoords="offset points", va="center", ha=side, fontsize=SMALL, **options)
