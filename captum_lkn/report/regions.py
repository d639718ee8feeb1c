"""An image in a page, with the outlines of its parts over it."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from captum_lkn._common.html import Html, element
from captum_lkn._common.messages import shape_of
from captum_lkn.interactions.sampled import AnyInteractions
from captum_lkn.players.images import player_map
from captum_lkn.plot.images import displayable

__all__ = ["is_image", "outline", "picture", "players_of_pixels"]

_SHARP = 96  # pixels: smaller images are written without loss
_QUALITY = 88


def is_image(found: AnyInteractions) -> bool:
    """Return whether the players of a sample are parts of one image."""
    owners = () if found.layout is None else found.layout.owners
    return len(owners) == 1 and owners[0].dim() == 3 and bool((owners[0] == owners[0][:1]).all())


def players_of_pixels(found: AnyInteractions, image: Tensor | None) -> NDArray[np.int64]:
    """Return the player of each pixel, int64 ``[H, W]``.

    Raises:
        ValueError: `image` has another size.
    """
    owners: NDArray[np.int64] = player_map(found).cpu().numpy()
    if image is not None and tuple(image.shape[-2:]) != owners.shape:
        raise ValueError(
            f"image must be the explained image, of {list(owners.shape)} pixels; got shape {shape_of(image)}"
        )
    return owners


def picture(image: Tensor, name: str) -> Html:
    """Return an image as the content of an ``svg`` element, which other pictures of the page use by its id.

    Args:
        image: ``[C, H, W]``: uint8, or floating of any range.
        name: The id.

    Returns:
        The element ``image``.
    """
    from PIL import Image

    pixels = displayable(image)
    height, width = pixels.shape[:2]
    made, file = Image.fromarray(np.round(255 * pixels).astype(np.uint8)), io.BytesIO()
    sharp = max(height, width) <= _SHARP
    made.save(file, format="PNG" if sharp else "JPEG", **({} if sharp else {"quality": _QUALITY}))
    kind = "png" if sharp else "jpeg"
    data = f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
    return element("image", id=name, href=data, width=str(width), height=str(height), class_="sharp" if sharp else None)


def outline(mask: NDArray[np.bool_]) -> str:
    """Return the closed outlines of the pixels of a mask, as the ``d`` of an SVG path.

    Args:
        mask: Bool ``[H, W]``.

    Returns:
        Lines along the edges of pixels, with the corners alone.

    Example:
        >>> outline(np.array([[True, True], [False, False]]))
        'M0 0H2V1H0z'
    """
    padded = np.pad(mask, 1).astype(np.int8)
    after: dict[tuple[int, int], list[tuple[int, int]]] = {}  # directed edges, with the mask at their right
    for row, column in np.argwhere(np.diff(padded, axis=0)[:, 1:-1]).tolist():
        left, right = (column, row), (column + 1, row)
        start, end = (left, right) if padded[row + 1, column + 1] else (right, left)
        after.setdefault(start, []).append(end)
    for row, column in np.argwhere(np.diff(padded, axis=1)[1:-1]).tolist():
        top, bottom = (column, row), (column, row + 1)
        start, end = (bottom, top) if padded[row + 1, column + 1] else (top, bottom)
        after.setdefault(start, []).append(end)
    paths = []
    for first in sorted(after):
        while after[first]:
            paths.append(_loop(after, first))
    return "".join(paths)


def _loop(after: dict[tuple[int, int], list[tuple[int, int]]], first: tuple[int, int]) -> str:
    """Follow the edges from a corner back to it, and remove them."""
    corners, at, last = [first], first, (0, 0)
    while True:
        end = after[at].pop()
        step = (end[0] - at[0], end[1] - at[1])
        if step == last:
            corners.pop()
        if end == first:
            break
        corners.append(end)
        at, last = end, step
    (x, y), *others = corners
    text = f"M{x} {y}"
    for one in others:
        text += f"H{one[0]}" if one[1] == y else f"V{one[1]}"
        x, y = one
    return f"{text}z"
