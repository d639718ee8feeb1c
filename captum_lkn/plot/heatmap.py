"""The strongest interactions of one sample at every layer, as a map."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from captum_lkn._common.arguments import Count, checked
from captum_lkn._common.colours import NEUTRAL
from captum_lkn.interactions import Interactions
from captum_lkn.knowledge import KnowledgeChange
from captum_lkn.models.layers import OUTPUT, Layer
from captum_lkn.plot.canvas import (
    BODY,
    SMALL,
    Picture,
    caption,
    effect_colours,
    finished,
    grow,
    ink,
    legend_below,
    numbers,
    panels,
    score_label,
    text_on,
    tidy,
)
from captum_lkn.plot.depth import check_sample, depth_of, name_states, subject_of
from captum_lkn.plot.fonts import written
from captum_lkn.plot.names import interaction_names

__all__ = ["heatmap"]


@checked("ax", "layer", "top")
def heatmap(
    change: KnowledgeChange,
    top: Count = 14,
    *,
    layer: str | Layer | None = None,
    sample: int = 0,
    ax: Axes | None = None,
) -> Picture:
    """Draw the effects of the strongest interactions at every layer, with v(N) and v(empty) above.

    Effects are in the units of the score, as each layer's read-out gives them: nothing is divided by a normaliser.

    Args:
        change: Layers compared with a reference.
        top: The number of interactions.
        layer: The layer whose strongest interactions are shown; None takes the reference.
        sample: The number of the sample.
        ax: Axes whose place is used; None makes a figure.

    Returns:
        The figure and the axes of the map.

    Raises:
        ValueError: There is no such layer or sample.
    """
    depth = depth_of(change)
    found = check_sample(change, sample)
    label = layer.label if isinstance(layer, Layer) else change.reference if layer is None else layer
    if label not in found:
        raise ValueError(f"there is no {change.noun} {label!r} here; there are {', '.join(found)}")
    shown = found[label].top(top)
    effects = np.array(
        [[found[name].effect(*one.members, kind=one.kind) for name in depth.labels] for one in shown]
    ).reshape(len(shown), len(depth.labels))
    rows, columns = max(len(shown), 1), len(depth.labels)
    fig, grid = panels(ax, max(6.4, 2.9 + 0.5 * columns), 3.0 + 0.27 * rows, 2, 1, height_ratios=[1.25, 0.27 * rows])
    curve, cells = grid.ravel()
    limit = float(np.abs(effects).max(initial=0.0)) or 1.0
    colours = effect_colours()
    if shown:
        cells.imshow(effects, cmap=colours, vmin=-limit, vmax=limit, aspect="auto")
    cells.set_xlim(-0.5, columns - 0.5)
    texts = numbers(effects.ravel().tolist())
    for place, text in enumerate(texts):
        row, column = divmod(place, columns)
        is_zero = effects[row, column] == 0
        cell = cells.text(column, row, "0" if is_zero else text, fontsize=SMALL - 1, ha="center", va="center")
        tint = colours(0.5 + 0.5 * effects[row, column] / limit)
        cell.set(color=text_on(tint), alpha=0.35 if is_zero else 1)
    cells.set_yticks(range(len(shown)), interaction_names(found[label], shown, 30), parse_math=False)
    more = name_states(cells, depth, depth.names)
    if ax is None:
        grow(fig, more)
    cells.set_xlabel(f"{depth.axis}; numbers: {score_label(found[label], 'effect')}", fontsize=BODY)
    if label in depth.labels[:-1]:
        place = depth.labels.index(label)
        cells.axvline(place - 0.5, color=ink(), linewidth=1.2)
        cells.axvline(place + 0.5, color=ink(), linewidth=1.2)
    elif columns > 1:
        cells.axvline(columns - 1.5, color=ink(), linewidth=1.2)
    tidy(cells)
    _draw_ends(curve, [found[name] for name in depth.labels])
    curve.set_xlim(cells.get_xlim())
    whose = "the output" if label == OUTPUT else label
    below = f"the strongest of {whose}; {subject_of(change, sample)}"
    caption(curve, f"Interactions, {change.noun} by {change.noun}", written([below], round(12 * fig.get_figwidth()))[0])
    return finished(fig, cells if ax is None else ax, [curve, cells])


def _draw_ends(ax: Axes, found: Sequence[Interactions]) -> None:
    places = range(len(found))
    (full,) = ax.plot(places, [one.v_full for one in found], color=ink(), marker="o", label="v(N), all players")
    (empty,) = ax.plot(
        places, [one.v_empty for one in found], color=NEUTRAL, marker="s", linestyle="--", label="v(∅), no player"
    )
    for line in (full, empty):
        line.set(markersize=4.5, linewidth=1.4)
    ax.axhline(0, color=NEUTRAL, linewidth=0.6)
    ax.margins(y=0.15)
    ax.set_xticks([])
    ax.set_ylabel(score_label(found[-1], "score").replace(" (", "\n("), fontsize=BODY)
    tidy(ax, "left")
    legend_below(ax, [full, empty], 3, handlelength=2.6)
