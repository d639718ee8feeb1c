"""Picture files, read as the inputs of models."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from captum_lkn._common.checks import is_whole

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["load_picture", "picture_input", "read_picture"]

_DEEP = ("I", "F")  # Pillow's modes of 16 and 32 bits


def read_picture(path: str | os.PathLike[str]) -> Image.Image:
    """Read a picture file, upright, in RGB.

    Args:
        path: A file of any format that Pillow reads; of an animation, the first frame.

    Returns:
        The picture.

    Raises:
        ImportError: Pillow is not installed.
        OSError: The file does not exist, is not a picture, or is damaged.
        ValueError: Its numbers have more than 8 bits.
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
                    f"the picture {name!r} has numbers of more than 8 bits (mode {picture.mode}), which would be "
                    "clipped, not scaled. Convert it to 8 bits first, from its darkest to its lightest value"
                )
            return ImageOps.exif_transpose(picture).convert("RGB")
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise OSError(f"the picture {name!r} cannot be read: {error.strerror}") from error
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:  # raised by Pillow for broken files
        raise OSError(f"{name!r} is not a picture that can be read, or is damaged: {error}") from error


def load_picture(path: str | os.PathLike[str], size: int = 224) -> Tensor:
    """Read a picture file as a square: the shorter side scaled to `size`, the middle of the longer one.

    Args:
        path: A picture file.
        size: The side in pixels.

    Returns:
        uint8 ``[3, size, size]``, red, green, blue.

    Raises:
        ImportError: Pillow is not installed.
        OSError: The file cannot be read as a picture.
        TypeError: `size` is not a whole number.
        ValueError: `size` is below 1.
    """
    if not is_whole(size):
        raise TypeError(f"size must be a whole number of pixels; got {size!r}")
    if size < 1:
        raise ValueError(f"size must be at least 1 pixel; got {size}")
    picture = read_picture(path)
    from PIL import Image, ImageOps

    square = ImageOps.fit(picture, (size, size), method=Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(square)).permute(2, 0, 1).contiguous()


def picture_input(processor: Any, path: str | os.PathLike[str]) -> Tensor:
    """Return the input of a Hugging Face image classifier for a picture file.

    Args:
        processor: The model's image processor.
        path: A picture file.

    Returns:
        Floating ``[1, C, H, W]``, for :func:`captum_lkn.players.images.image_players`.

    Raises:
        ImportError: Pillow is not installed.
        OSError: The file cannot be read as a picture.
    """
    pixels: Tensor = processor(images=read_picture(path), return_tensors="pt")["pixel_values"]
    return pixels
