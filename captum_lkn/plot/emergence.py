"""Layers at which the combinations of chosen words appear."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from matplotlib.axes import Axes

from captum_lkn._common.arguments import checked
from captum_lkn._common.messages import count_of
from captum_lkn.interactions import Interactions
from captum_lkn.knowledge import KnowledgeChange
from captum_lkn.plot.canvas import (
    BODY,
    Picture,
    canvas,
    caption,
    finished,
    grow,
    legend_below,
    ruled,
    score_label,
    series,
)
from captum_lkn.plot.depth import depth_of, name_states
from captum_lkn.plot.fonts import written

__all__ = ["emergence"]


_Words: TypeAlias = str | tuple[str, ...]


class _Curve(NamedTuple):
    combined: np.ndarray  # [samples, layers]
    alone: np.ndarray
    samples: int
    words: tuple[str, ...]


@checked()
def emergence(change: KnowledgeChange, *words: _Words, alone: bool = False, ax: Axes | None = None) -> Picture:
    """Draw the strength of the combinations of chosen words at every layer, to see where a model learns them.

    The strength of a word's combinations is the sum of the absolute effects of all interactions of two or more players
    with this word among them, in the units of the score. The curve is the mean over the samples that have the word,
    the band reaches from the least to the largest of them.

    Args:
        change: Layers compared with a reference.
        *words: Labels of players, in any case; or tuples of labels, whose combinations have all of them. A word that a
            sample has several times is taken at all its places; ``"John[2]"``, as printed, is one of them.
        alone: Whether to draw, dotted, the absolute effect of each single word by itself, too.
        ax: Axes to draw into; None makes a figure.

    Returns:
        The figure and its axes.

    Raises:
        ValueError: No word was given, or no sample has it.
    """
    if not words:
        raise ValueError('words must be one or more labels of players: emergence("not", ("not", "good"))')
    depth = depth_of(change)
    curves = [_curve(change, (word,) if isinstance(word, str) else word, depth.labels) for word in words]
    is_own = ax is None
    fig, ax = canvas(ax, max(6.0, 1.6 + 0.5 * len(depth.labels)), 3.6)
    places = np.arange(len(depth.labels))
    names = written([word if isinstance(word, str) else " … ".join(word) for word in words], 24)
    handles = []
    for number, (curve, name) in enumerate(zip(curves, names, strict=True)):
        colour, marker = series(number)
        look: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 6}
        label = f"{name} ({count_of(curve.samples, 'sample')})"
        handles += ax.plot(places, curve.combined.mean(0), linewidth=2, label=label, **look)
        if curve.samples > 1:
            low, high = curve.combined.min(0), curve.combined.max(0)
            ax.fill_between(places, low, high, color=colour, alpha=0.1, linewidth=0)
        if alone and len(curve.words) == 1:
            look |= {"linestyle": ":", "markersize": 4, "markerfacecolor": "none"}
            handles += ax.plot(places, curve.alone.mean(0), linewidth=1.3, label=f"{name}, alone", **look)
    more = name_states(ax, depth, depth.names)
    if is_own:
        grow(fig, more)
    ax.set_ylabel(score_label(change.interactions[change.reference][0], "strength"), fontsize=BODY)
    ax.set_ylim(0, None)
    ruled(ax)
    legend_below(ax, handles, 40 + more, ncols=3)
    band = "; bands: all of them" if any(curve.samples > 1 for curve in curves) else ""
    caption(ax, "Where combinations emerge", f"sum of |effects| of interactions with the word, mean over samples{band}")
    return finished(fig, ax)


def _curve(change: KnowledgeChange, words: tuple[str, ...], layers: Sequence[str]) -> _Curve:
    samples = change.interactions[change.reference]
    having = [b for b, one in enumerate(samples) if all(_numbers(one, word) for word in words)]
    if not having:
        known = {label for one in samples for label in (*one.players, *one.labels)}
        missing = next((word for word in words if not any(_numbers(one, word) for one in samples)), words)
        close = difflib.get_close_matches(str(missing), known, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"words must be labels of players of one sample; no sample has {missing!r}{hint}")
    found = [[_strengths(change.interactions[label][b], words) for label in layers] for b in having]
    both = np.array(found)
    return _Curve(both[:, :, 0], both[:, :, 1], len(having), words)


def _strengths(found: Interactions, words: tuple[str, ...]) -> tuple[float, float]:
    """Return the strength of the combinations of words, and that of the words by themselves."""
    effects = found.effects
    has = effects.orders > 0
    for word in words:
        has &= effects.members[:, _numbers(found, word)].any(1)
    strength = effects.values.abs()
    single = effects.orders == 1
    return float(strength[has & ~single].sum()), float(strength[has & single].sum())


def _numbers(found: Interactions, word: str) -> list[int]:
    """Return the players that a word names: those of this label, or else the one that is printed so."""
    wanted = word.strip().casefold()
    for labels in (found.players, found.labels):
        numbers = [i for i, label in enumerate(labels) if label.strip().casefold() == wanted]
        if numbers:
            return numbers
    return []
