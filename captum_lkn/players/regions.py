"""Regions of an image: pixels that are present or absent together.

A grid, patches of a size, a map of segments, or superpixels: each becomes a map of numbers, one a pixel, and a name
for each number. :mod:`captum_lkn.players.images` makes players of them.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from captum_lkn._common.checks import as_plain, is_whole
from captum_lkn._common.messages import kind_of, shape_of, some_of
from captum_lkn.interactions.layout import BACKGROUND
from captum_lkn.models.hugging_face.facts import patch_size
from captum_lkn.models.model import Model

__all__ = ["Regions", "grid_regions", "model_patch", "patch_regions", "segment_regions", "slic_regions"]

_COMPACTNESS = 10.0  # of SLIC: skimage's own default, for colours in Lab


@dataclass(frozen=True, eq=False)
class Regions:
    """The region of each pixel.

    Attributes:
        ids: int64 ``[S, H, W]``, S = 1 for all samples alike or one a sample; -1 if the pixel is in no region.
        names: The name of each region, by its id.
        description: Their origin, for provenance; JSON can hold it.
    """

    ids: Tensor
    names: Mapping[int, str]
    description: Mapping[str, Any]

    def restricted(self, foreground: Any, batch: int) -> Regions:
        """Keep only the regions that are named, or that a mask touches; the others become -1.

        Args:
            foreground: Names, ids or (row, column) pairs; or a bool mask ``[H, W]``, or one a sample.
            batch: The number of samples.

        Returns:
            Regions with the same ids.

        Raises:
            TypeError: If `foreground` is something else.
            ValueError: If a region is unknown, or a mask has another shape.
        """
        if isinstance(foreground, (Tensor, np.ndarray)):
            masks = self._masks(as_plain("foreground", foreground), batch)
            samples = max(len(self.ids), len(masks))
            both = zip(self.ids.expand(samples, -1, -1), masks.expand(samples, -1, -1), strict=True)
            return replace(self, ids=torch.stack([_only(ids, torch.unique(ids[mask])) for ids, mask in both]))
        if not isinstance(foreground, Collection) or isinstance(foreground, (str, Mapping)):
            raise TypeError(f"foreground must be a list of regions or a bool mask [H, W]; got {foreground!r}")
        chosen = torch.tensor([self._id(one) for one in foreground], dtype=torch.int64, device=self.ids.device)
        return replace(self, ids=_only(self.ids, chosen))

    def _masks(self, mask: Tensor, batch: int) -> Tensor:
        height, width = self.ids.shape[1:]
        if mask.dtype != torch.bool:
            raise TypeError(f"a foreground mask must be bool; got {kind_of(mask)}")
        if mask.shape not in ((height, width), (batch, height, width)):
            raise ValueError(
                f"the foreground mask must be {[height, width]}, or one a sample, {[batch, height, width]}; got "
                f"{shape_of(mask)}"
            )
        return mask.to(self.ids.device).reshape(-1, height, width)

    def _id(self, one: Any) -> int:
        if isinstance(one, tuple) and len(one) == 2 and all(is_whole(part) for part in one):
            name = f"r{one[0]}c{one[1]}"
        else:
            name = f"s{one}" if is_whole(one) else one
        if not isinstance(name, str):
            raise TypeError(f"foreground must hold names like 'r0c1', pairs (row, column), or segment ids; got {one!r}")
        known = {name: number for number, name in self.names.items()}
        if name not in known:
            close = difflib.get_close_matches(name, known, n=3)
            hint = f"Did you mean {' or '.join(map(repr, close))}? " if close else ""
            raise ValueError(
                f"foreground has {one!r}, which is not a region of the image. {hint}They are {some_of(list(known))}"
            )
        return known[name]


def grid_regions(
    height: int, width: int, grid: int | tuple[int, int], unit: tuple[int, int] = (1, 1), device: Any = "cpu"
) -> Regions:
    """Divide an image into rows and columns, as equal as whole units allow.

    Args:
        height: The height of the image, in pixels.
        width: Its width.
        grid: (rows, columns), or one number for both.
        unit: The height and width in pixels of the unit that must not be cut: a model's patch, or a pixel.
        device: The device of the ids.

    Returns:
        Regions ``r0c0``, ``r0c1`` and so on, row by row.

    Raises:
        TypeError: If `grid` is not a whole number, or a pair of them.
        ValueError: If it is below 1, or the image has fewer units.

    Example:
        >>> grid_regions(5, 4, (2, 2)).ids[0]
        tensor([[0, 0, 1, 1],
                [0, 0, 1, 1],
                [0, 0, 1, 1],
                [2, 2, 3, 3],
                [2, 2, 3, 3]])
    """
    rows, columns = _pair("grid", grid)
    units = -(-height // unit[0]), -(-width // unit[1])
    if rows > units[0] or columns > units[1]:
        what = "pixels" if unit == (1, 1) else f"patches of the model, {unit[0]} x {unit[1]} pixels each"
        raise ValueError(
            f"grid has {rows} x {columns} cells, the image only {units[0]} x {units[1]} {what}. Give a coarser grid"
        )
    return _cells(
        [min(height, unit[0] * -(-i * units[0] // rows)) for i in range(rows + 1)],
        [min(width, unit[1] * -(-i * units[1] // columns)) for i in range(columns + 1)],
        device,
    )


def patch_regions(
    height: int, width: int, patch_size: int | tuple[int, int], unit: tuple[int, int] = (1, 1), device: Any = "cpu"
) -> Regions:
    """Divide an image into patches; if their size does not divide it, the last row and column are smaller.

    Args:
        height: The height of the image, in pixels.
        width: Its width.
        patch_size: (height, width) of a patch in pixels, or one number for both.
        unit: The height and width in pixels of the unit that must not be cut.
        device: The device of the ids.

    Returns:
        Regions ``r0c0``, ``r0c1`` and so on, row by row.

    Raises:
        TypeError: If `patch_size` is not a whole number, or a pair of them.
        ValueError: If it is below 1, larger than the image, or not a multiple of `unit`.

    Example:
        >>> patch_regions(3, 4, 2).ids[0]
        tensor([[0, 0, 1, 1],
                [0, 0, 1, 1],
                [2, 2, 3, 3]])
    """
    h, w = _pair("patch_size", patch_size)
    if h > height or w > width:
        raise ValueError(
            f"patch_size {h} x {w} is larger than the image, {height} x {width} pixels. Give a smaller one"
        )
    if h % unit[0] or w % unit[1]:
        fits = [f"{unit[0] * k} x {unit[1] * k}" for k in range(1, min(height // unit[0], width // unit[1]) + 1)]
        raise ValueError(
            f"patch_size {h} x {w} cuts through the model's own patches of {unit[0]} x {unit[1]} pixels. Give "
            f"multiples ({some_of(fits)}), or leave model= out to mask parts of them"
        )
    return _cells([*range(0, height, h), height], [*range(0, width, w), width], device)


def segment_regions(height: int, width: int, batch: int, segments: Any, device: Any = "cpu") -> Regions:
    """Make regions of a given map of segments.

    Args:
        height: The height of the image, in pixels.
        width: Its width.
        batch: The number of samples.
        segments: Whole numbers, ``[H, W]`` or one map a sample, ``[B, H, W]``; -1 is background.
        device: The device of the ids.

    Returns:
        Regions ``s0``, ``s1`` and so on, named after the ids of the map, which may have gaps.

    Raises:
        TypeError: If the map is neither a tensor nor an array, or not of whole numbers.
        ValueError: If it has another shape than the image, or ids below -1.
    """
    if not isinstance(segments, (Tensor, np.ndarray)):
        raise TypeError(f'segments must be a map of whole numbers [H, W], or "slic"; got {segments!r}')
    ids = as_plain("segments", segments)
    if ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
        raise TypeError(f"segments must hold whole numbers; got {kind_of(ids)}. Convert the map with .long()")
    if ids.shape not in ((height, width), (batch, height, width)):
        raise ValueError(
            f"segments must be a map {[height, width]}, or one a sample, {[batch, height, width]}; got {shape_of(ids)}"
        )
    if int(ids.min()) < BACKGROUND:
        raise ValueError(f"segments must hold ids from 0, or {BACKGROUND} for background; got {int(ids.min())}")
    return _segments(ids.to(device, torch.int64).reshape(-1, height, width), {"players": "segments"})


def slic_regions(images: Tensor, n_segments: int) -> Regions:
    """Divide each image into superpixels by scikit-image's SLIC.

    Args:
        images: Floating ``[B, C, H, W]``, in any range: SLIC scales each image to 0 to 1 itself.
        n_segments: About how many segments an image gets; SLIC makes a few more or fewer.

    Returns:
        Regions ``s0``, ``s1`` and so on, from the top left.

    Raises:
        ImportError: If scikit-image is not installed.
        ValueError: If the images hold a value that is not finite.
    """
    try:
        from skimage.segmentation import slic
    except ImportError as error:
        raise ImportError(
            'segments="slic" needs scikit-image. Run pip install "captum-lkn[image]", or give a map of '
            "segments, or grid="
        ) from error
    if not bool(images.isfinite().all()):
        raise ValueError("the image holds a value that is not finite, which SLIC cannot segment. Give grid= instead")
    maps = [
        torch.from_numpy(slic(pixels, n_segments=n_segments, compactness=_COMPACTNESS, start_label=0, channel_axis=-1))
        for pixels in images.detach().permute(0, 2, 3, 1).cpu().double().numpy()
    ]
    found = torch.stack(maps).to(images.device, torch.int64)
    return _segments(found, {"players": "SLIC segments", "n_segments": int(n_segments)})


def model_patch(model: Any) -> tuple[int, int] | None:
    """Return the height and width of the patches of a Hugging Face vision model, or None if its config has none."""
    return patch_size(Model(model).inner if callable(model) else model)


def _cells(rows: list[int], columns: list[int], device: Any) -> Regions:
    """Make the cells between lines that are given by their pixels, the image's borders among them."""
    row = torch.arange(len(rows) - 1, device="cpu").repeat_interleave(torch.tensor(rows, device="cpu").diff())
    column = torch.arange(len(columns) - 1, device="cpu").repeat_interleave(torch.tensor(columns, device="cpu").diff())
    height, width = len(rows) - 1, len(columns) - 1
    return Regions(
        (row[:, None] * width + column)[None].to(device),
        {r * width + c: f"r{r}c{c}" for r in range(height) for c in range(width)},
        {"players": f"patches, {height} x {width}", "grid": {"rows": rows, "columns": columns}},
    )


def _segments(ids: Tensor, description: Mapping[str, Any]) -> Regions:
    return Regions(ids, {i: f"s{i}" for i in torch.unique(ids).tolist() if i != BACKGROUND}, description)


def _only(ids: Tensor, chosen: Tensor) -> Tensor:
    return ids.masked_fill(~torch.isin(ids, chosen), BACKGROUND)


def _pair(what: str, given: Any) -> tuple[int, int]:
    pair = (given, given) if is_whole(given) else given
    if not isinstance(pair, (tuple, list)) or len(pair) != 2 or not all(is_whole(part) for part in pair):
        raise TypeError(f"{what} must be a whole number, or two for height and width; got {given!r}")
    if min(pair) < 1:
        raise ValueError(f"{what} must be at least 1; got {given}")
    return int(pair[0]), int(pair[1])
