"""Figures without pyplot, and the looks that all pictures share.

A picture that is given no axes makes its own ``matplotlib.figure.Figure``, which belongs to no window and to no global
state. Colours come from :mod:`captum_lkn._common.colours`, those of text and background from Matplotlib's settings, so
that a dark style works.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.text import Text
from matplotlib.transforms import ScaledTranslation

from captum_lkn._common.colours import (
    NEGATIVE,
    NEUTRAL,
    ORDERS,
    ORDERS_ON_DARK,
    POSITIVE,
    SERIES,
    SERIES_MARKERS,
    SERIES_ON_DARK,
)
from captum_lkn._common.formats import effect_format
from captum_lkn.interactions.sampled import AnyInteractions
from captum_lkn.plot.fonts import families_for, written

if TYPE_CHECKING:
    from matplotlib.typing import ColorType

__all__ = [
    "BODY",
    "OR_HATCH",
    "SMALL",
    "Picture",
    "canvas",
    "caption",
    "effect_colours",
    "effect_legend",
    "effect_rows",
    "finished",
    "framed",
    "grow",
    "ink",
    "legend_below",
    "legend_in",
    "note",
    "numbers",
    "order_colours",
    "panels",
    "paper",
    "ruled",
    "score_label",
    "series",
    "share_colours",
    "text_on",
    "tidy",
    "whole_percent",
]

BODY = 9.5
"""Size of labels, in points."""

SMALL = 8.5
"""Size of numbers beside marks, in points."""

OR_HATCH = "////"
"""Hatch of OR effects; AND effects are plain."""

_HEAD, _FOOT = 0.46, 0.26  # inches: the title and the legend of several panels
_PIXELS = 80  # of a notebook's picture an inch: nine inches fit the column of a notebook
_RETINA = 2
_MINUS = "\N{MINUS SIGN}"

_Axes: TypeAlias = Any  # an array of axes: Matplotlib's own stubs say Any


class Picture(NamedTuple):
    """A figure and its main axes, ``fig, ax = ...``; a notebook shows it.

    Attributes:
        fig: The figure: ``fig.savefig("found.pdf")`` writes it.
        ax: The axes that were given, or else the main ones.
    """

    fig: Figure
    ax: Axes

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        file = io.BytesIO()
        self.fig.savefig(file, format="png", dpi=_PIXELS * _RETINA)
        return file.getvalue(), {"width": round(self.fig.get_figwidth() * _PIXELS)}


def canvas(ax: Axes | None, width: float, height: float) -> tuple[Figure, Axes]:
    """Return the figure and the axes to draw into.

    Args:
        ax: Axes that the user gave; None makes a new figure.
        width: Of a new figure, in inches.
        height: The same.

    Returns:
        The figure and its axes.
    """
    fig, grid = panels(ax, width, height, keep=True)
    return fig, grid[0, 0]


def panels(
    ax: Axes | None,
    width: float,
    height: float,
    rows: int = 1,
    columns: int = 1,
    *,
    keep: bool = False,
    **grid: Any,
) -> tuple[Figure, _Axes]:
    """Return the figure and several axes to draw into.

    Args:
        ax: Axes that the user gave, whose place is divided; None makes a new figure.
        width: Of a new figure, in inches.
        height: The same.
        rows: Of axes.
        columns: The same.
        keep: Whether given axes are drawn into as they are.
        **grid: Options of Matplotlib's ``GridSpec``, such as ``height_ratios``.

    Returns:
        The figure, and an object array ``[rows, columns]`` of axes.
    """
    if ax is None:
        fig = Figure(figsize=(width, height), layout="constrained")
        spec = fig.add_gridspec(rows, columns, **grid)
    else:
        fig = ax.figure  # type: ignore[assignment]  # of a subfigure: what it offers is enough
        if keep:
            return fig, np.array([[ax]], dtype=object)
        ax.set_axis_off()
        place = ax.get_subplotspec()
        if place is None:  # axes that were placed by hand
            x0, y0, x1, y1 = ax.get_position().extents
            spec = fig.add_gridspec(rows, columns, left=x0, right=x1, bottom=y0, top=y1, **grid)
        else:
            spec = place.subgridspec(rows, columns, **grid)  # type: ignore[assignment]
    found = np.empty((rows, columns), dtype=object)
    for row in range(rows):
        for column in range(columns):
            found[row, column] = fig.add_subplot(spec[row, column])
    return fig, found


def framed(
    ax: Axes | None, width: float, height: float, rows: int, columns: int, title: str, below: str, foot: bool = True
) -> tuple[Figure, _Axes, Axes]:
    """Return several axes under one title, and axes below them for a legend.

    Title and legend have rows of their own, so that their width does not squeeze the panels.

    Args:
        ax: As for :func:`panels`, like all up to ``columns``.
        width: Of a new figure, in inches.
        height: The same, title and legend included.
        rows: Of axes.
        columns: The same.
        title: The title.
        below: A smaller line below it.
        foot: Whether there is a legend.

    Returns:
        The figure, an object array ``[rows, columns]`` of axes, and the axes of the legend.
    """
    bottom = _FOOT if foot else 0.01
    fig, outer = panels(ax, width, height, 3, 1, height_ratios=[_HEAD, height - _HEAD - bottom, bottom])
    head, body, foot_ax = outer.ravel()
    for axes in (head, foot_ax):
        axes.set_axis_off()
    text = head.annotate(title, (0, 1), (2, -2), xycoords="axes fraction", textcoords="offset points", va="top")
    text.set(fontsize=BODY + 1.5, weight="bold", parse_math=False, in_layout=False)
    line = head.annotate(below, (0, 1), (2, -19), xycoords="axes fraction", textcoords="offset points", va="top")
    line.set(fontsize=SMALL, parse_math=False, in_layout=False)
    spec = body.get_subplotspec().subgridspec(rows, columns)
    body.remove()
    found = np.empty((rows, columns), dtype=object)
    for row, column in np.ndindex(rows, columns):
        found[row, column] = fig.add_subplot(spec[row, column])
    return fig, found, foot_ax


def finished(fig: Figure, ax: Axes, drawn: Sequence[Axes] = ()) -> Picture:
    """Return a picture, after text that the default font cannot write has got fonts that can.

    Args:
        fig: The figure.
        ax: The main axes.
        drawn: All axes that were drawn into, where there are several.

    Returns:
        The picture.
    """
    texts = [text for axes in (ax, *drawn) for text in axes.findobj(Text)]
    more = families_for("".join(text.get_text() for text in texts))
    if more:
        for text in texts:
            text.set_fontfamily([*text.get_fontfamily(), *more])
    return Picture(fig, ax)


def grow(fig: Figure, points: float) -> None:
    """Make a figure higher by so many points."""
    fig.set_figheight(fig.get_figheight() + points / 72)


def ink() -> str:
    """Return the colour of text and lines."""
    return str(mpl.rcParams["text.color"])


def order_colours() -> tuple[str, ...]:
    """Return the colours of orders 1, 2, 3 and higher ones on the background of Matplotlib's settings."""
    return ORDERS_ON_DARK if _is_dark() else ORDERS


def series(number: int) -> tuple[str, str]:
    """Return the colour and the marker of a curve or class, on the background of Matplotlib's settings."""
    colours = SERIES_ON_DARK if _is_dark() else SERIES
    return colours[number % len(colours)], SERIES_MARKERS[number % len(SERIES_MARKERS)]


def effect_colours() -> LinearSegmentedColormap:
    """Return a map from the colour of negative effects over the background to that of positive ones."""
    return LinearSegmentedColormap.from_list("effects", (NEGATIVE, paper(), POSITIVE))


def share_colours() -> LinearSegmentedColormap:
    """Return a map from the background, for a share of 0, through the colours of orders."""
    return LinearSegmentedColormap.from_list("shares", (paper(), *order_colours()[::-1]))


def text_on(colour: ColorType) -> str:
    """Return black or white, whichever can be read better on a colour: by the contrast ratio of WCAG 2.

    Example:
        >>> text_on("#FFFFFF"), text_on("#12402F")
        ('black', 'white')
    """
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(colour)]
    luminance = float(np.dot(linear, (0.2126, 0.7152, 0.0722)))
    return "white" if 1.05 / (luminance + 0.05) > (luminance + 0.05) / 0.05 else "black"


def _is_dark() -> bool:
    return sum(to_rgb(paper())) < 1.5


def paper() -> str:
    """Return the colour behind the marks."""
    return str(mpl.rcParams["axes.facecolor"])


def tidy(ax: Axes, *sides: str) -> None:
    """Hide the frame but for some sides, and set the size of tick labels."""
    for side, spine in ax.spines.items():
        spine.set_visible(side in sides)
        spine.set_color(NEUTRAL)
    ax.tick_params(labelsize=BODY, color=NEUTRAL)
    for name, axis in (("left", ax.yaxis), ("bottom", ax.xaxis)):
        if name not in sides:
            axis.set_tick_params(length=0)


def ruled(ax: Axes) -> None:
    """Draw pale lines at the numbers of the vertical axis, and hide the frame but for the bottom."""
    ax.grid(axis="y", color=NEUTRAL, alpha=0.25, linewidth=0.7)
    tidy(ax, "bottom")


def effect_rows(ax: Axes, names: Sequence[str], label: str, margin: float) -> None:
    """Name the rows, the first at the top, and the axis of their effects."""
    ax.set_yticks(range(len(names)), names, parse_math=False)
    ax.set_ylim(max(len(names), 1) - 0.4, -0.6)
    ax.margins(x=margin)
    ax.set_xlabel(label, fontsize=BODY)
    tidy(ax, "bottom")


def numbers(values: Sequence[float], signed: bool = True) -> list[str]:
    """Write numbers in one format, three significant digits for the largest, with the sign of minus.

    Example:
        >>> numbers([-1.25, 10.0])
        ['−1.2', '+10.0']
    """
    form = effect_format(max((abs(value) for value in values), default=0.0))
    texts = [form.format(value if value else 0.0).replace("-", _MINUS) for value in values]
    return texts if signed else [text.removeprefix("+") for text in texts]


def whole_percent(share: float) -> str:
    """Return a share as a percentage without decimals, such as ``42 %``."""
    return f"{100 * share:.0f} %"


def score_label(found: AnyInteractions, name: str) -> str:
    """Return the label of an axis: a name, and the unit of the score where that is known."""
    unit = found.provenance.get("unit")
    return f"{name} ({written([str(unit)])[0]})" if unit else name


def caption(ax: Axes, title: str, below: str = "") -> None:
    """Write a title at the left, and a smaller line below it."""
    ax.set_title(f"{title}\n" if below else title, loc="left", fontsize=BODY + 1.5, weight="bold", parse_math=False)
    if below:
        ax.annotate(
            below,
            (0, 1),
            (0, 4),
            xycoords="axes fraction",
            textcoords="offset points",
            fontsize=SMALL,
            va="bottom",
            parse_math=False,
        )


def legend_below(ax: Axes, handles: Sequence[Any], points: float = 32, *, right: bool = False, **options: Any) -> None:
    """Put a legend in one line below the axes, where it covers no mark.

    Args:
        ax: The axes.
        handles: Entries of the legend, with their labels.
        points: The distance from the axes, with room for tick labels and the axis label.
        right: Whether the line ends at the right end of the axes; else it begins at their left.
        **options: Of Matplotlib's legend.
    """
    below = ax.transAxes + ScaledTranslation(0, -points / 72, ax.figure.dpi_scale_trans)
    look = {"frameon": False, "fontsize": SMALL, "ncols": len(handles), "borderaxespad": 0.0, "handlelength": 1.6}
    side = (
        {"loc": "upper right", "bbox_to_anchor": (1, 0)} if right else {"loc": "upper left", "bbox_to_anchor": (0, 0)}
    )
    ax.legend(handles=list(handles), bbox_transform=below, **(side | look | options))


def legend_in(foot: Axes, handles: Sequence[Any]) -> None:
    """Put a legend in one line into axes of its own, see :func:`framed`."""
    legend = foot.legend(handles=list(handles), frameon=False, fontsize=SMALL, ncols=len(handles), loc="center left")
    legend.set_in_layout(False)


def note(
    ax: Axes, text: str, at: tuple[float, float], gap: tuple[float, float], *, within: Any = "data", **look: Any
) -> Text:
    """Write a small text at a place of the axes, so many points to the right of it and above it.

    Args:
        ax: The axes.
        text: The text.
        at: The place.
        gap: Points to the right and up.
        within: The coordinates of the place, as Matplotlib's ``xycoords``.
        **look: Properties of the text.

    Returns:
        The text.
    """
    label = ax.annotate(text, at, gap, xycoords=within, textcoords="offset points", fontsize=SMALL, parse_math=False)
    label.set(**look)
    return label


def effect_legend(ax: Axes, effects: Sequence[float], has_or: bool, points: float = 32) -> None:
    """Explain the colours of the signs and the hatch of OR, as far as they appear, below the axes."""
    handles = []
    if any(effect > 0 for effect in effects):
        handles.append(Patch(facecolor=POSITIVE, label="raises the score"))
    if any(effect < 0 for effect in effects):
        handles.append(Patch(facecolor=NEGATIVE, label="lowers it"))
    if has_or:
        handles.append(Patch(facecolor=NEUTRAL, edgecolor=paper(), hatch=OR_HATCH, linewidth=0, label="OR effect"))
    if handles:
        legend_below(ax, handles, points)
