"""The growth of a model's knowledge from layer to layer, and the interactions that stay or are forgotten."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MultipleLocator

from captum_lkn._common.arguments import Count, checked
from captum_lkn._common.colours import NEGATIVE, NEUTRAL, POSITIVE
from captum_lkn.interactions import Interaction
from captum_lkn.knowledge import KnowledgeChange
from captum_lkn.plot.canvas import (
    BODY,
    SMALL,
    Picture,
    caption,
    finished,
    grow,
    ink,
    legend_below,
    numbers,
    order_colours,
    panels,
    paper,
    tidy,
    whole_percent,
)
from captum_lkn.plot.depth import (
    GROUPS,
    Depth,
    depth_of,
    grouped,
    kind_only,
    name_states,
    shade_amplified,
    smooth,
    subject_of,
)
from captum_lkn.plot.fonts import written
from captum_lkn.plot.names import interaction_names

__all__ = ["flow"]

_BAR = 0.6
_DEEPEST = 1.5  # of the height of the box: what is forgotten is cut off below, with its number
_HATCH = "\\\\\\\\"
_THICK = 0.84  # of a row: the largest ribbon


class _Ribbon(NamedTuple):
    name: str
    heights: list[float]  # by layer, in normalisers
    effect: float  # in the units of the score
    peak: str  # the layer where that is; empty: the reference


@checked("ax", "top")
def flow(change: KnowledgeChange, top: Count = 10, *, ax: Axes | None = None) -> Picture:
    """Draw how knowledge grows layer by layer, and which interactions stay or are forgotten.

    The box is all that the reference knows: the strength of its salient interactions. It fills from below with what
    each layer shares with the reference, by order; its filled part is the completeness. What a layer knows and the
    reference does not use hangs below the axis. Beneath, each row is one interaction: above its line where it raises
    the score, below where it lowers it, as thick as it is strong in the layer.

    Effects are divided by the layer's normaliser, as in the comparison. Layers whose normaliser is small are shaded
    and marked with an asterisk, and their strengths are cut off where they would dwarf the others.

    Args:
        change: Layers compared with a reference.
        top: The number of interactions with a row: at least half of them stay.
        ax: Axes whose place is used; None makes a figure.

    Returns:
        The figure and the axes of the box.
    """
    depth = depth_of(change)
    stays, forgotten = _ribbons(change, depth, top)
    rows = len(stays) + len(forgotten) + bool(stays) + bool(forgotten)
    low = 0.36 * max(rows, 1) + 0.1
    fig, grid = panels(ax, max(7.4, 3.2 + 0.52 * len(depth.labels)), 4.5 + low, 2, 1, height_ratios=[3.4, low])
    box, below = grid.ravel()
    more = _draw_box(box, change, depth)
    if ax is None:
        grow(fig, more)
    _draw_ribbons(below, depth, stays, forgotten, change.n_samples > 1)
    for axes in (box, below):
        shade_amplified(axes, depth)
        axes.set_xlim(-0.6, len(depth.labels) - 0.4)
    caption(box, f"How knowledge grows, {change.noun} by {change.noun}", written([subject_of(change)], 100)[0])
    return finished(fig, box if ax is None else ax, [box, below])


# ---------------------------------------------------------------- the box


def _draw_box(ax: Axes, change: KnowledgeChange, depth: Depth) -> float:
    """Draw the box, and return the points that upright names of the states take."""
    shared, lost, whole = _shares(change, depth)
    usual = [sum(one) for one, label in zip(lost, depth.labels, strict=True) if label not in depth.amplified]
    deepest = min(max([1.08 * one for one in usual if math.isfinite(one)] + [0.12]), _DEEPEST)
    _draw_stack(ax, shared, 1.0, [None] * len(GROUPS))
    _draw_stack(ax, lost, -1.0, [_HATCH] * len(GROUPS), deepest)
    ends = len(depth.labels) - 1 + _BAR / 2
    if sum(whole):
        ax.add_patch(
            Rectangle((-_BAR / 2, 0), ends + _BAR / 2, 1, fill=False, edgecolor=ink(), linewidth=1.3, zorder=5)
        )
    ax.axhline(0, color=ink(), linewidth=1.3, zorder=5)
    for place, (part, gone) in enumerate(zip(shared, lost, strict=True)):
        _number_box(ax, place, sum(part), sum(gone), deepest, is_reference=place == len(shared) - 1)
    more = name_states(ax, depth, depth.starred)
    height = 1 + deepest
    ax.set_ylim(-deepest - 0.09 * height, 1 + 0.08 * height)
    ax.yaxis.set_major_locator(MultipleLocator(0.25 if deepest < 0.6 else 0.5))
    ax.yaxis.set_major_formatter(lambda y, _: whole_percent(abs(y)))
    ax.set_ylabel(f"forgotten | shared\n(share of {depth.reference}'s)", fontsize=BODY)
    tidy(ax, "left")
    drawn = [g for g in range(len(GROUPS)) if any(one[g] > 0 for one in (*shared, *lost))]
    handles = [Patch(facecolor=order_colours()[g], label=GROUPS[g]) for g in drawn]
    hatched = Patch(facecolor=NEUTRAL, edgecolor=paper(), hatch=_HATCH, linewidth=0, label="forgotten")
    legend_below(ax, [*handles, *([hatched] if any(map(sum, lost)) else [])], 38 + more, columnspacing=1.0)
    return more


def _shares(change: KnowledgeChange, depth: Depth) -> tuple[list[list[float]], list[list[float]], list[float]]:
    """Return by layer and group of orders what is shared and what forgotten, and the reference's, as shares."""
    shared, lost, whole = [], [], [0.0] * len(GROUPS)
    for label in depth.labels[:-1]:
        one = grouped(kind_only(change[label], None))
        total = float(one.reference_all.sum()) or 1.0
        shared.append((one.overlap[0] / total).tolist())
        lost.append((one.forgotten[0] / total).tolist())
        whole = (one.reference_all[0] / total).tolist()
    return [*shared, whole], [*lost, [0.0] * len(GROUPS)], whole


def _draw_stack(
    ax: Axes, layers: Sequence[Sequence[float]], side: float, hatches: Sequence[str | None], deepest: float = math.inf
) -> None:
    """Draw bars at the layers and paler bands between them, the lowest order next to the axis."""
    edges = np.zeros((len(GROUPS) + 1, len(layers)))
    edges[1:] = np.nan_to_num(np.cumsum(np.array(layers), axis=1).T)
    edges = side * np.minimum(edges, deepest)
    places = np.arange(len(layers))
    for group, hatch in enumerate(hatches):
        inner, outer = edges[group], edges[group + 1]
        x, one = smooth(inner)
        _, other = smooth(outer)
        ax.fill_between(x, one, other, color=order_colours()[group], alpha=0.35, linewidth=0)
        colour = order_colours()[group]
        ax.bar(places, outer - inner, _BAR, inner, color=colour, edgecolor=paper(), linewidth=0, hatch=hatch)


def _number_box(ax: Axes, place: int, shared: float, lost: float, deepest: float, is_reference: bool) -> None:
    def write(y: float, text: str, side: str) -> None:
        gap = 3 if side == "bottom" else -3
        label = ax.annotate(
            text, (place, y), (0, gap), textcoords="offset points", ha="center", va=side, fontsize=SMALL, zorder=6
        )
        label.set_bbox({"facecolor": paper(), "edgecolor": "none", "pad": 0.5, "alpha": 0.75})

    if is_reference:
        write(1, "all", "bottom")
    elif math.isnan(shared):
        write(0, "no value", "bottom")
    else:
        near_the_frame = 0.85 < shared < 1
        write(1 if near_the_frame else shared, whole_percent(shared), "bottom")
        if lost > 0:
            cut = "↓" if lost > deepest else ""
            write(-min(lost, deepest), f"{cut}{whole_percent(lost)}", "top")


# ---------------------------------------------------------------- the ribbons


def _ribbons(change: KnowledgeChange, depth: Depth, top: int) -> tuple[list[_Ribbon], list[_Ribbon]]:
    """Return the strongest interactions of the reference, and the strongest that it does not have."""
    salient = {label: change.salient(label) for label in depth.labels}
    stays: dict[tuple[int, str, tuple[int, ...]], tuple[float, Interaction]] = {}
    others = dict(stays)
    for label in (depth.labels[-1], *depth.labels[:-1]):
        unit = change.normalisers[label]
        if label in depth.amplified or not unit:
            continue
        for sample, found in enumerate(salient[label]):
            for one in found:
                key = sample, one.kind, one.members
                group = stays if label == depth.labels[-1] else others
                strength = abs(one.effect) / unit
                if (group is stays or key not in stays) and strength > group.get(key, (0.0, one))[0]:
                    group[key] = strength, one
    wanted = min(len(others), top // 2)
    return (
        [_ribbon(change, depth, *entry, peak=False) for entry in _strongest(stays, top - wanted)],
        [_ribbon(change, depth, *entry, peak=True) for entry in _strongest(others, wanted)],
    )


def _strongest(
    group: dict[tuple[int, str, tuple[int, ...]], tuple[float, Interaction]], count: int
) -> list[tuple[int, Interaction]]:
    ranked = sorted(group.items(), key=lambda item: -item[1][0])[:count]
    return [(key[0], one) for key, (_, one) in ranked]


def _ribbon(change: KnowledgeChange, depth: Depth, sample: int, one: Interaction, *, peak: bool) -> _Ribbon:
    effects = [change.interactions[label][sample].effect(*one.members, kind=one.kind) for label in depth.labels]
    units = [change.normalisers[label] for label in depth.labels]
    heights = [effect / unit if unit else 0.0 for effect, unit in zip(effects, units, strict=True)]
    found = change.interactions[change.reference][sample]
    name = interaction_names(found, [one], 28)[0]
    name = f"{name} ({sample})" if change.n_samples > 1 else name
    usual = [i for i, label in enumerate(depth.labels) if label not in depth.amplified]
    best = max(usual, key=lambda i: abs(heights[i]))
    return _Ribbon(name, heights, effects[best if peak else -1], depth.names[best] if peak else "")


def _draw_ribbons(
    ax: Axes, depth: Depth, stays: Sequence[_Ribbon], forgotten: Sequence[_Ribbon], several: bool
) -> None:
    usual = [i for i, label in enumerate(depth.labels) if label not in depth.amplified]
    every = [*stays, *forgotten]
    texts = iter(numbers([one.effect for one in every]))
    spans = [_span([one.heights[i] for i in usual]) for one in every]
    unit = max((up - down for down, up in spans), default=0.0) or 1.0
    row, ticks, names = 0, [], []
    for title, group in ((f"stays in {depth.reference}", stays), ("is forgotten", forgotten)):
        if group:
            ax.text(-0.58, row + 0.1, title, fontsize=BODY, weight="bold", va="center")
            row += 1
        for one in group:
            _draw_ribbon(ax, row, one, unit, usual)
            at = f" at {one.peak}" if one.peak else ""
            label = ax.annotate(
                f"{next(texts)}{at}", (len(depth.labels) - 0.6, row), (3, 0), textcoords="offset points"
            )
            label.set(fontsize=SMALL, va="center", annotation_clip=False, parse_math=False)
            ticks.append(row)
            names.append(one.name)
            row += 1
    ax.set_yticks(ticks, names, parse_math=False)
    ax.set_xticks([])
    ax.set_ylim(row - 0.4, -0.5)
    tidy(ax)
    notes = [f"effects in units of each {depth.noun}'s mean |v(N) \N{MINUS SIGN} v(∅)|"]
    if depth.amplified:
        notes.append("* small there: strengths are cut off")
    if several:
        notes.append("(sample)")
    ax.set_xlabel("; ".join(notes), fontsize=SMALL)


def _draw_ribbon(ax: Axes, row: float, one: _Ribbon, unit: float, usual: Sequence[int]) -> None:
    """Draw a ribbon whose line lies so that the ribbon fills its row."""
    down, up = _span([one.heights[i] for i in usual])
    heights = np.clip(np.nan_to_num(one.heights), down, up) * _THICK / unit
    line = row + (up + down) / 2 * _THICK / unit  # the axis points down: what raises the score lies above the line
    x, y = smooth(heights.tolist())
    ax.plot(x[[0, -1]], [line, line], color=NEUTRAL, linewidth=0.6, zorder=0)
    for colour, chosen in ((POSITIVE, y.clip(min=0)), (NEGATIVE, y.clip(max=0))):
        ax.fill_between(x, line - chosen, line, color=colour, linewidth=0)


def _span(heights: Sequence[float]) -> tuple[float, float]:
    """Return the least and the largest of numbers and 0."""
    return min(0.0, *heights), max(0.0, *heights)
