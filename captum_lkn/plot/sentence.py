"""A sentence with its interactions: AND above the words, OR below them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch, PathPatch
from matplotlib.path import Path

from captum_lkn._common.arguments import Count, checked
from captum_lkn._common.colours import colour_of
from captum_lkn.interactions import Interaction
from captum_lkn.interactions.sampled import AnyInteractions
from captum_lkn.plot.canvas import (
    SMALL,
    Picture,
    canvas,
    caption,
    effect_colours,
    finished,
    ink,
    numbers,
    paper,
    text_on,
)
from captum_lkn.plot.fonts import text_width
from captum_lkn.plot.names import player_names, subject

__all__ = ["sentence"]

_WORD = 13.0  # points
_LEAST_WORD = 8.5
_WIDEST = 9.0  # inches; longer sentences get smaller words first, then wider figures
_LEAST = 5.2  # inches; shorter ones get wider gaps
_GUTTER = 58.0  # points at the left, for what the sides mean
_GAP = 10.0  # points between words
_PAD = 4.0  # points around a word
_STEP = 17.0  # points from one arc to the next
_ROUND = 6.0
_CONTRAST = 0.55  # a word on more of the colour is not readable


@checked("ax", "top")
def sentence(found: AnyInteractions, top: Count = 10, *, ax: Axes | None = None) -> Picture:
    """Draw the players as a line of words, with the strongest interactions as arcs that join their words.

    Arcs of AND effects are above the words, those of OR effects below; the width of an arc is its absolute effect,
    colour and number give the sign, and a negative arc is dashed. A word's background is its Shapley value.

    Args:
        found: The interactions of one sample, from all masks or from sampled ones.
        top: The number of arcs; effects of single words have none.
        ax: Axes to draw into, which should be wide; None makes a figure.

    Returns:
        The figure and its axes, whose unit is a point.

    Example:
        >>> import torch
        >>> from captum_lkn import Interactions, decompose
        >>> v = torch.tensor([0.5, 0.5, 2.0, -1.0], dtype=torch.float64)
        >>> found = Interactions.from_decomposition(("not", "good"), v, decompose(v, noise=0.0, kind="and"))
        >>> fig, ax = sentence(found)
        >>> [text.get_text() for text in ax.texts][1:3]
        ['not', 'good']
    """
    words = player_names(found, 16)
    arcs = [one for one in found.top(None) if one.order > 1][:top]
    size, lefts, widths = _lay_out(words)
    above, below = ([one for one in arcs if one.kind == kind] for kind in ("and", "or"))
    largest = max((abs(one.effect) for one in arcs), default=1.0)
    texts = dict(zip(map(id, arcs), numbers([one.effect for one in arcs]), strict=True))
    word_height = size + 2 * _PAD
    extents = []
    placed = []
    for group, side in ((above, 1), (below, -1)):
        levels = _levels(group, lefts, widths)
        extents.append(word_height / 2 + 8 + _STEP * (max(levels, default=-1) + 1) + 6)
        placed.append((group, side, levels))
    total = lefts[-1] + widths[-1]
    fig, ax = canvas(ax, max(6.0, (total + _GUTTER + 20) / 72), (sum(extents) + 78) / 72)
    for group, side, levels in placed:
        slots = _slots(group, lefts, widths)
        for i, (one, level) in enumerate(zip(group, levels, strict=True)):
            higher = [slot for other, of_other in zip(levels, slots, strict=True) if other > level for slot in of_other]
            _draw_arc(ax, one, slots[i], side, word_height / 2 + 1, level, largest)
            place = _free_place(slots[i], higher, text_width(texts[id(one)], SMALL) / 2 + 2)
            _write_number(ax, texts[id(one)], place, side * _height(word_height / 2 + 1, level))
    tints = _tints(found)
    for word, left, width, tint in zip(words, lefts, widths, tints, strict=True):
        box = FancyBboxPatch(
            (left, -word_height / 2), width, word_height, boxstyle="round,pad=0,rounding_size=4", facecolor=tint
        )
        box.set(edgecolor=ink(), linewidth=0.5, zorder=3)
        ax.add_patch(box)
        label = ax.text(left + width / 2, 0, word, fontsize=size, ha="center", va="center_baseline", parse_math=False)
        label.set(color=text_on(tint), zorder=4)
    ax.set_xlim(-_GUTTER, max(total + 6, 72 * _LEAST))
    ax.set_ylim(-extents[1], extents[0])
    ax.set_axis_off()
    for side, name, meaning, group in ((1, "AND", "all present", above), (-1, "OR", "at least one", below)):
        if group:
            place = side * (word_height / 2 + 22)
            ax.text(-_GUTTER, place, f"{name}\n{meaning}", fontsize=SMALL - 0.5, va="center", linespacing=1.3)
    caption(ax, "Words, and what they do together", f"{subject(found)}; tint: Shapley value")
    return finished(fig, ax)


def _lay_out(words: Sequence[str]) -> tuple[float, list[float], list[float]]:
    """Return the size of the words, and of each the left end and the width of its box, in points."""
    ones = [text_width(word, 1.0) for word in words]
    fixed = len(words) * (2 * _PAD + _GAP)
    size = min(_WORD, max(_LEAST_WORD, (72 * _WIDEST - fixed) / max(sum(ones), 1e-9)))
    widths = [max(one * size, size) + 2 * _PAD for one in ones]
    spare = (72 * _LEAST - sum(widths)) / max(len(words) - 1, 1)
    gap = min(max(_GAP, spare), 5 * _GAP)
    lefts = [sum(widths[:i]) + i * gap for i in range(len(words))]
    return size, lefts, widths


def _levels(arcs: Sequence[Interaction], lefts: Sequence[float], widths: Sequence[float]) -> list[int]:
    """Return the height of each arc, so that none crosses another's line or number: short ones are the lowest."""
    taken: list[list[tuple[float, float]]] = []
    levels = [0] * len(arcs)
    for place in sorted(range(len(arcs)), key=lambda i: arcs[i].members[-1] - arcs[i].members[0]):
        first, last = arcs[place].members[0], arcs[place].members[-1]
        start, end = lefts[first], lefts[last] + widths[last]
        middle = (start + end) / 2
        start, end = min(start, middle - 22), max(end, middle + 22)
        level = 0
        while level < len(taken) and any(start < b and a < end for a, b in taken[level]):
            level += 1
        if level == len(taken):
            taken.append([])
        taken[level].append((start, end))
        levels[place] = level
    return levels


def _slots(arcs: Sequence[Interaction], lefts: Sequence[float], widths: Sequence[float]) -> list[list[float]]:
    """Return where each arc meets its words: arcs at one word are side by side."""
    slots = [[0.0] * one.order for one in arcs]
    for player, (left, width) in enumerate(zip(lefts, widths, strict=True)):
        here = [i for i, one in enumerate(arcs) if player in one.members]
        here.sort(key=lambda i: sum(arcs[i].members) / arcs[i].order)  # arcs to the left leave at the left
        for rank, i in enumerate(here, start=1):
            slots[i][arcs[i].members.index(player)] = left + width * rank / (len(here) + 1)
    return slots


def _draw_arc(
    ax: Axes, one: Interaction, slots: Sequence[float], side: int, start: float, level: int, largest: float
) -> None:
    top = _height(start, level)
    left, right = min(slots), max(slots)
    bend = min(_ROUND, (right - left) / 2)
    points = [(left, start), (left, top - bend), (left, top), (left + bend, top)]
    points += [(right - bend, top), (right, top), (right, top - bend), (right, start)]
    codes = [Path.MOVETO, Path.LINETO, Path.CURVE3, Path.CURVE3, Path.LINETO, Path.CURVE3, Path.CURVE3, Path.LINETO]
    for slot in slots:
        if slot not in (left, right):
            points += [(slot, start), (slot, top)]
            codes += [Path.MOVETO, Path.LINETO]
    path = Path(np.array(points) * [1, side], codes)
    width = 0.8 + 3.2 * abs(one.effect) / largest
    line = "-" if one.effect > 0 else (0, (3, 1))
    colour = colour_of(one.effect)
    ax.add_patch(PathPatch(path, fill=False, edgecolor=colour, linewidth=width, linestyle=line, zorder=1))


def _height(start: float, level: int) -> float:
    return start + 7 + _STEP * (level + 0.5)


def _free_place(slots: Sequence[float], higher: Sequence[float], half: float) -> float:
    """Return the place on an arc for its number, as near to its middle as it covers no line down to a word.

    Args:
        slots: Where the arc meets its words.
        higher: Where higher arcs cross it.
        half: Half of the number's width.

    Returns:
        The place; the middle where there is no other.
    """
    left, right = min(slots), max(slots)
    middle = (left + right) / 2
    steps = np.arange(0, max((right - left) / 2 - half, 0), 2.0)
    for place in np.stack([middle - steps, middle + steps], 1).ravel().tolist():
        if all(abs(place - line) > half for line in (*slots, *higher)):
            return float(place)
    return middle


def _write_number(ax: Axes, text: str, x: float, y: float) -> None:
    label = ax.text(x, y, text, fontsize=SMALL - 0.5, ha="center", va="center", zorder=5)
    label.set_bbox({"facecolor": paper(), "edgecolor": "none", "pad": 0.8})


def _tints(found: AnyInteractions) -> list[tuple[float, float, float, float]]:
    values = found.shapley_values().numpy()
    limit = float(np.abs(values).max()) or 1.0
    colours = effect_colours()
    return [colours(0.5 + 0.5 * _CONTRAST * value / limit) for value in values]
