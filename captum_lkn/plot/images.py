"""Images with the players of an interaction over them."""

from __future__ import annotations

import math
import os
import textwrap
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from captum_lkn._common.arguments import Count, checked
from captum_lkn._common.colours import DIVERGING, colour_of
from captum_lkn._common.messages import kind_of, shape_of
from captum_lkn._common.writing import check_writable, replacing
from captum_lkn.interactions import Interaction, Interactions
from captum_lkn.players.images import interaction_mask, player_map
from captum_lkn.plot.canvas import SMALL, Picture, finished, framed, numbers
from captum_lkn.plot.names import interaction_names, subject

__all__ = ["check_drawing", "displayable", "draw_interactions", "patches"]

_DIMMED = 0.45  # of the brightness, outside an interaction
_DASHES = 40  # along an image, and gaps
_TITLE_WIDTH = 26  # characters over a panel
_COLUMNS = 4

_Pixels: TypeAlias = NDArray[np.float64]
_Mask: TypeAlias = NDArray[np.bool_]


def check_drawing(path: str | os.PathLike[str]) -> None:
    """Check that a figure can be written to a path; callers check before long work.

    Args:
        path: The file to write.

    Raises:
        OSError: The folder does not exist, or the file cannot be written.
        ValueError: The suffix is not that of a format that Matplotlib writes.
    """
    file, formats = Path(path), sorted(Figure().canvas.get_supported_filetypes())
    if file.suffix.lower().lstrip(".") not in formats:
        raise ValueError(f"the file of a figure must end in one of .{', .'.join(formats)}; got {os.fspath(path)!r}")
    check_writable(file)


@checked()
def patches(found: Interactions, image: Tensor, top: Count = 6, *, ax: Axes | None = None) -> Picture:
    """Draw an image with its Shapley values, and with the parts of its strongest interactions.

    Each interaction has a panel: its parts keep their colours inside a closed outline, solid for AND and dashed for OR;
    the rest is darker and grey. Blue raises the score, orange lowers it, and so says the sign of the number.

    Args:
        found: The interactions of one image.
        image: The image that was explained, ``[C, H, W]``: uint8, or floating of any range.
        top: The number of interactions.
        ax: Axes whose place is used; None makes a figure.

    Returns:
        The figure and the axes of the image.

    Raises:
        TypeError: `image` is not a tensor.
        ValueError: `image` does not fit the interactions.
    """
    pixels, owners = displayable(image), player_map(found).cpu()
    if pixels.shape[:2] != owners.shape:
        raise ValueError(
            f"image must be the explained image, of {list(owners.shape)} pixels; got shape {shape_of(image)}"
        )
    shown = found.top(top)
    count = 2 + len(shown)
    rows = math.ceil(count / _COLUMNS)
    columns = math.ceil(count / rows)
    ratio = min(max(owners.shape[0] / owners.shape[1], 0.4), 2.5)
    fig, grid, _ = framed(
        ax,
        2.1 * columns,
        0.6 + rows * (2.0 * ratio + 0.5),
        rows,
        columns,
        "Parts of the image",
        subject(found),
        foot=False,
    )
    every = grid.ravel()
    every[0].imshow(pixels)
    _title(every[0], "the image", f"v(N) = {numbers([found.v_full])[0]}")
    _draw_shapley(every[1], found, pixels, owners)
    grey = pixels.mean(-1, keepdims=True).repeat(3, -1) * _DIMMED
    names = interaction_names(found, shown, 2 * _TITLE_WIDTH)
    texts = numbers([one.effect for one in shown])
    for panel, one, name, text in zip(every[2:], shown, names, texts, strict=False):
        mask = interaction_mask(found, one).cpu().numpy()
        panel.imshow(np.where(mask[..., None], pixels, grey))
        _outline(panel, mask, one)
        _title(panel, name, text)
    for panel in every:
        panel.set_axis_off()
    return finished(fig, every[0] if ax is None else ax, fig.axes)


def draw_interactions(image: Tensor, found: Interactions, path: str | os.PathLike[str], *, top: Count = 6) -> Picture:
    """Draw an image with its interactions, as :func:`patches` does, into a file.

    Args:
        image: The image that was explained, ``[C, H, W]``.
        found: Its interactions.
        path: The file; its suffix sets the format, such as ``.png``.
        top: Number of interactions.

    Returns:
        The figure and the axes of the image.

    Raises:
        OSError: The file cannot be written.
        TypeError: `image` is not a tensor.
        ValueError: `image` does not fit the interactions, or the file's format is unknown.
    """
    check_drawing(path)
    picture = patches(found, image, top)
    with replacing(path) as file:
        picture.fig.savefig(file, dpi=120, format=Path(path).suffix.lower().lstrip("."))
    return picture


def _draw_shapley(ax: Axes, found: Interactions, pixels: _Pixels, owners: Tensor) -> None:
    shapley = found.shapley_values()
    values = torch.cat([shapley, shapley.new_zeros(1)])[owners].numpy()  # index -1, the background, reads the 0
    limit = float(np.abs(values).max()) or 1.0
    colours = LinearSegmentedColormap.from_list("effects", DIVERGING)
    ax.imshow(pixels.mean(-1), cmap="gray")
    heat = ax.imshow(values, cmap=colours, vmin=-limit, vmax=limit, alpha=0.7)
    bar = ax.inset_axes((0.0, -0.08, 1.0, 0.05))
    ticks = ax.figure.colorbar(heat, cax=bar, orientation="horizontal", ticks=[-limit, 0, limit])
    low, high = numbers([-limit, limit])
    ticks.ax.set_xticklabels([low, "0", high], fontsize=SMALL - 1.5)
    ticks.ax.tick_params(length=0, pad=1)
    _title(ax, "Shapley values", "")


def _outline(ax: Axes, mask: _Mask, one: Interaction) -> None:
    """Draw the border of a mask along the edges of pixels, also where it is the border of the image: it is closed."""
    padded = np.pad(mask, 1).astype(int)
    lines: list[list[tuple[float, float]]] = []
    for row, column in np.argwhere(np.diff(padded, axis=0)).tolist():  # an edge above the pixel (row, column - 1)
        lines.append([(column - 1.5, row - 0.5), (column - 0.5, row - 0.5)])
    for row, column in np.argwhere(np.diff(padded, axis=1)).tolist():
        lines.append([(column - 0.5, row - 1.5), (column - 0.5, row - 0.5)])
    dashed = one.kind == "or"
    for colour, width in (("white", 3.6), (colour_of(one.effect), 2.0)):
        broken = dashed and colour != "white"
        segments = _every_other(lines, max(mask.shape)) if broken else lines
        border = LineCollection(segments, colors=colour, linewidths=width, capstyle="butt" if broken else "projecting")
        border.set_clip_on(False)  # of the border of the image, half of the width lies outside
        ax.add_collection(border)


def _every_other(lines: list[list[tuple[float, float]]], side: int) -> list[list[tuple[float, float]]]:
    """Return parts of the edges of pixels that make a dashed line, of some forty dashes along an image of this side."""
    parts, step = math.ceil(_DASHES / side), max(1, side // _DASHES)
    dashes = []
    for (x0, y0), (x1, y1) in lines:
        for part in range(parts):
            if (int(parts * (x0 + y0) + part) // step) % 2 == 0:
                cuts = [(x0 + (x1 - x0) * cut / parts, y0 + (y1 - y0) * cut / parts) for cut in (part, part + 1)]
                dashes.append(cuts)
    return dashes


def _title(ax: Axes, first: str, second: str) -> None:
    name = textwrap.fill(first, _TITLE_WIDTH)
    ax.set_title(f"{name}\n{second}" if second else name, fontsize=SMALL + 0.5, parse_math=False)


def displayable(image: Any) -> _Pixels:
    """Return ``[H, W, 3]`` from 0 to 1; floating values are scaled to the whole range."""
    if not isinstance(image, Tensor):
        raise TypeError(f"image must be a tensor [C, H, W]; got {kind_of(image)}")
    if image.dim() != 3:
        raise ValueError(f"image must be [C, H, W], one image; got shape {shape_of(image)}")
    x = image.detach().cpu().double()
    if image.is_floating_point():
        low, high = float(x.min()), float(x.max())
        x = (x - low) / max(high - low, 1e-12)
    else:
        x = x / 255
    colours = x if len(x) == 3 else x.mean(0, keepdim=True).expand(3, -1, -1)
    return colours.permute(1, 2, 0).numpy()
