"""Pictures: read from files, and shown with what was found in them.

The outside of :mod:`captum_lkn.images`: files, Hugging Face image classifiers, the terminal, PNG files.
"""

from __future__ import annotations

import os
import string
import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from rich.console import Console
from rich.markup import escape
from rich.text import Text
from torch import Tensor

from captum_lkn._arguments import kind_of, shape_of
from captum_lkn.images import interaction_mask, player_map
from captum_lkn.interactions import Interactions
from captum_lkn.interactions.rendering import bars, effect_format, joined, printable
from captum_lkn.terminal import print_certificate, probability

if TYPE_CHECKING:
    from PIL import Image

__all__ = [
    "draw_interactions",
    "load_picture",
    "picture_input",
    "print_image_interactions",
    "read_picture",
]

_DEEP = ("I", "F")  # Pillow's modes of 16 and 32 bits
_MAP = (14, 28)  # rows and columns of a map of segments: a character is about twice as high as wide
_DIMMED = 0.15
_TITLE_WIDTH = 30  # characters over a panel


def read_picture(path: str | os.PathLike[str]) -> Image.Image:
    """Read a picture file, upright, in RGB.

    Args:
        path: A file of any format that Pillow reads; of an animation, the first frame.

    Returns:
        The picture.

    Raises:
        ImportError: If Pillow is not installed.
        OSError: If there is no such file, or it is no picture, or damaged.
        ValueError: If its numbers have more than 8 bits.
    """
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise ImportError("reading pictures needs Pillow: pip install pillow") from error
    name = os.fspath(path)
    try:
        with Image.open(name) as picture:
            if picture.mode.startswith(_DEEP):
                raise ValueError(
                    f"the picture {name!r} has numbers of more than 8 bits (mode {picture.mode}), which would be cut "
                    "off, not scaled: convert it to 8 bits first, from its darkest to its lightest"
                )
            return ImageOps.exif_transpose(picture).convert("RGB")
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise OSError(f"the picture {name!r} cannot be read: {error.strerror}") from error
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:  # what Pillow makes of broken files
        raise OSError(f"{name!r} is no picture that can be read, or it is damaged: {error}") from error


def load_picture(path: str | os.PathLike[str], size: int = 224) -> Tensor:
    """Read a picture file as a square: the shorter side scaled to `size`, the middle of the longer one.

    Args:
        path: A picture file.
        size: The side in pixels.

    Returns:
        uint8 ``[3, size, size]``, red, green, blue.

    Raises:
        ImportError: If Pillow is not installed.
        OSError: If the file cannot be read as a picture.
        TypeError: If `size` is no whole number.
        ValueError: If it is below 1.
    """
    if isinstance(size, bool) or not isinstance(size, int):
        raise TypeError(f"size must be a whole number of pixels; got {size!r}")
    if size < 1:
        raise ValueError(f"size must be at least 1 pixel; got {size}")
    picture = read_picture(path)
    from PIL import Image, ImageOps

    square = ImageOps.fit(picture, (size, size), method=Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(square)).permute(2, 0, 1).contiguous()


def picture_input(processor: Any, path: str | os.PathLike[str]) -> Tensor:
    """What a Hugging Face image classifier takes for a picture file.

    Args:
        processor: The model's image processor.
        path: A picture file.

    Returns:
        Floating ``[1, C, H, W]``, for :func:`captum_lkn.images.image_players`.

    Raises:
        ImportError: If Pillow is not installed.
        OSError: If the file cannot be read as a picture.
    """
    pixels: Tensor = processor(images=read_picture(path), return_tensors="pt")["pixel_values"]
    return pixels


def print_image_interactions(console: Console, found: Interactions, *, title: str, label: str, top: int = 5) -> None:
    """Print what drives a decision about a picture: the score, a map of the parts, the strongest interactions.

    Args:
        console: Where to.
        found: The interactions of one image, explained by its log-odds.
        title: The name of the picture.
        label: The name of the class that is explained.
        top: How many AND and how many OR interactions.
    """
    console.print(f"\n[bold]{escape(printable(title))}[/bold]")
    console.print(
        f"[bold]{escape(printable(label))}[/bold] with log-odds {found.v_full:+.2f} "
        f"(probability {probability(found.v_full):.0%}); with all {found.n_players} parts masked {found.v_empty:+.2f} "
        f"({probability(found.v_empty):.0%})",
        highlight=False,
    )
    console.print("What each part adds, on average over all orders in which parts appear (Shapley values):")
    for line in _map_lines(found):
        console.print(line, soft_wrap=True)
    both = [found.top(top, kind=kind) for kind in ("and", "or")]
    lines = iter(bars([*both[0], *both[1]]))  # together, so that the bars have one scale
    meanings = ("AND: all of these parts together (or one part alone)", "OR: any one of these parts")
    for meaning, shown in zip(meanings, both, strict=True):
        console.print(meaning)
        for one in shown:
            console.print(Text(f"  {next(lines)}", style=_colour(one.effect)), soft_wrap=True)
        if not shown:
            console.print("  none")
    print_certificate(console, found, "masked pictures")


def draw_interactions(image: Tensor, found: Interactions, path: str | os.PathLike[str], *, top: int = 4) -> None:
    """Draw an image with its Shapley values and its strongest interactions, into a file.

    Red parts speak for the class, blue ones against it; an interaction's parts are shown, the rest is dimmed.

    Args:
        image: The image that was explained, ``[C, H, W]``: uint8, or floating of any range.
        found: Its interactions.
        path: The file; its ending says in which format, such as ``.png``.
        top: How many interactions.

    Raises:
        OSError: If the file cannot be written.
        TypeError: If `image` is no tensor.
        ValueError: If `image` does not fit the interactions, or the file's format is unknown.
    """
    from matplotlib.figure import Figure  # without pyplot: no window, no global state

    pixels, owners = _displayable(image), player_map(found).cpu()
    if pixels.shape[:2] != owners.shape:
        raise ValueError(
            f"the image has shape {shape_of(image)}, what was explained {list(owners.shape)}: give the image itself"
        )
    shapley = found.shapley_values()
    values = torch.cat([shapley, shapley.new_zeros(1)])[owners].numpy()  # -1, the background, reads the 0
    strongest = found.top(top)
    number = effect_format(max((abs(one.effect) for one in strongest), default=0.0))
    figure = Figure(figsize=(2.4 * (2 + len(strongest)), 2.9), layout="constrained")
    panels = figure.subplots(1, 2 + len(strongest), squeeze=False)[0]
    panels[0].imshow(pixels)
    panels[0].set_title(f"v = {found.v_full:+.2f}", fontsize=9)
    panels[1].imshow(pixels.mean(-1), cmap="gray")
    limit = float(np.abs(values).max()) or 1.0
    heat = panels[1].imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit, alpha=0.6)
    figure.colorbar(heat, ax=panels[1], shrink=0.6)
    panels[1].set_title("Shapley values", fontsize=9)
    for panel, one in zip(panels[2:], strongest, strict=True):
        mask = interaction_mask(found, one).cpu().numpy()
        panel.imshow(np.where(mask[..., None], pixels, 1 - _DIMMED * (1 - pixels)))
        if not mask.all():  # at one half between 0 and 1 lies the border of the parts
            panel.contour(mask, levels=[0.5], colors="tab:red" if one.effect > 0 else "tab:blue", linewidths=1)
        names = textwrap.fill(joined(one.kind, one.players), _TITLE_WIDTH)
        panel.set_title(f"{names}\n{number.format(one.effect)}", fontsize=9, parse_math=False)
    for panel in panels:
        panel.set_axis_off()
    figure.savefig(os.fspath(path), dpi=120)


def _displayable(image: Any) -> np.ndarray[Any, Any]:
    """``[H, W, 3]`` from 0 to 1; normalised values are stretched over the whole range."""
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


def _map_lines(found: Interactions) -> list[Text]:
    """A grid with its Shapley values; of segments, a map of letters, and the values of what they stand for."""
    values = found.shapley_values().tolist()
    number = effect_format(max(map(abs, values)))
    texts = [Text(number.format(value), style=_colour(value)) for value in values]
    owners = player_map(found).cpu()
    grid: Any = found.provenance.get("grid")
    if grid:
        width = max(map(len, texts))
        texts = [Text(" " * (width - len(text))).append_text(text) for text in texts]
        texts.append(Text(" " * (width - 1) + "."))  # the background's number, -1, reads the last entry
        cells = owners[grid["rows"][:-1]][:, grid["columns"][:-1]].tolist()
        return [Text("  ") + Text("  ").join(texts[i] for i in row) for row in cells]
    letters = string.ascii_letters[: len(values)] + "."
    rows, columns = (_centres(size, count) for size, count in zip(owners.shape, _MAP, strict=True))
    lines = [Text("  " + "".join(letters[i] for i in row)) for row in owners[rows][:, columns].tolist()]
    names = zip(letters, map(printable, found.players), texts, strict=False)
    return lines + [Text(f"  {letter}  {name}  ").append_text(text) for letter, name, text in names]


def _centres(size: int, count: int) -> Tensor:
    """The middles of `count` equal parts of `size` pixels."""
    return (torch.arange(count) * 2 + 1) * size // (2 * count)


def _colour(effect: float) -> str:
    return "green" if effect > 0 else "red" if effect < 0 else ""
