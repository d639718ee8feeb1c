"""Images with the players of an interaction over them."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from captum_lkn._common.colours import DIVERGING, colour_of
from captum_lkn._common.formats import effect_format
from captum_lkn._common.messages import kind_of, shape_of
from captum_lkn.interactions import Interactions
from captum_lkn.interactions.rendering import joined
from captum_lkn.players.images import interaction_mask, player_map

__all__ = ["check_drawing", "draw_interactions"]

_DIMMED = 0.15
_TITLE_WIDTH = 30  # characters over a panel


def check_drawing(path: str | os.PathLike[str]) -> None:
    """Check that a figure can be written to a path; callers check before long work.

    Args:
        path: The file to write.

    Raises:
        FileNotFoundError: The folder does not exist.
        ValueError: The suffix is not that of a format that Matplotlib writes.
    """
    from matplotlib.figure import Figure

    file, formats = Path(path), sorted(Figure().canvas.get_supported_filetypes())
    if file.suffix.lower().lstrip(".") not in formats:
        raise ValueError(f"the file of a figure must end in one of .{', .'.join(formats)}; got {os.fspath(path)!r}")
    if not file.parent.is_dir():
        raise FileNotFoundError(f"cannot draw {file.name!r}: there is no folder {str(file.parent)!r}. Create it first")


def draw_interactions(image: Tensor, found: Interactions, path: str | os.PathLike[str], *, top: int = 4) -> None:
    """Draw an image with its Shapley values and its strongest interactions, into a file.

    Blue parts raise the score of the class, orange ones lower it. An interaction's parts are shown, the rest is dimmed.

    Args:
        image: The image that was explained, ``[C, H, W]``: uint8, or floating of any range.
        found: Its interactions.
        path: The file; its suffix sets the format, such as ``.png``.
        top: Number of interactions.

    Raises:
        OSError: The file cannot be written.
        TypeError: `image` is not a tensor.
        ValueError: `image` does not fit the interactions, or the file's format is unknown.
    """
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure  # without pyplot: no window, no global state

    check_drawing(path)
    pixels, owners = _displayable(image), player_map(found).cpu()
    if pixels.shape[:2] != owners.shape:
        raise ValueError(
            f"image must be the explained image, of {list(owners.shape)} pixels; got shape {shape_of(image)}"
        )
    shapley = found.shapley_values()
    values = torch.cat([shapley, shapley.new_zeros(1)])[owners].numpy()  # index -1, the background, reads the 0
    strongest = found.top(top)
    number = effect_format(max((abs(one.effect) for one in strongest), default=0.0))
    figure = Figure(figsize=(2.4 * (2 + len(strongest)), 2.9), layout="constrained")
    panels = figure.subplots(1, 2 + len(strongest), squeeze=False)[0]
    panels[0].imshow(pixels)
    panels[0].set_title(f"v = {found.v_full:+.2f}", fontsize=9)
    panels[1].imshow(pixels.mean(-1), cmap="gray")
    limit = float(np.abs(values).max()) or 1.0
    heat = panels[1].imshow(
        values, cmap=LinearSegmentedColormap.from_list("effects", DIVERGING), vmin=-limit, vmax=limit, alpha=0.6
    )
    figure.colorbar(heat, ax=panels[1], shrink=0.6)
    panels[1].set_title("Shapley values", fontsize=9)
    for panel, one in zip(panels[2:], strongest, strict=True):
        mask = interaction_mask(found, one).cpu().numpy()
        panel.imshow(np.where(mask[..., None], pixels, 1 - _DIMMED * (1 - pixels)))
        if not mask.all():  # at one half between 0 and 1 lies the border of the parts
            panel.contour(mask, levels=[0.5], colors=colour_of(one.effect), linewidths=1)
        names = textwrap.fill(joined(one.kind, one.players), _TITLE_WIDTH)
        panel.set_title(f"{names}\n{number.format(one.effect)}", fontsize=9, parse_math=False)
    for panel in panels:
        panel.set_axis_off()
    figure.savefig(os.fspath(path), dpi=120)


def _displayable(image: Any) -> np.ndarray[Any, Any]:
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
