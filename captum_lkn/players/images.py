"""Players of an image: cells of a grid, patches, segments.

A player owns its pixels in all colour channels. The replacement of an absent patch is a choice that the result depends
on: a colour, a blurred copy, or another image.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from captum_lkn._common.arguments import Positive, checked, shown
from captum_lkn._common.checks import check_plain, is_number, is_one_of
from captum_lkn._common.messages import kind_of, shape_of
from captum_lkn._common.warn import warn
from captum_lkn.interactions.layout import BACKGROUND
from captum_lkn.models.hugging_face.facts import has_configuration, number_of_channels
from captum_lkn.models.model import Model
from captum_lkn.players.arguments import fill_baseline, ids_by_sample, label_players, number_players
from captum_lkn.players.players import Players
from captum_lkn.players.regions import (
    Regions,
    grid_regions,
    model_patch,
    patch_regions,
    segment_regions,
    slic_regions,
)

if TYPE_CHECKING:
    import numpy as np

    from captum_lkn.interactions import Interaction, Interactions, SampledInteractions

__all__ = ["gaussian_blur", "image_players", "interaction_mask", "player_map"]

_PIXELS = "pixel_values"
_CHANNELS = (1, 3, 4)
_LARGEST_SIGMA = 1e6
_SIGMA_SHARE = 16  # the default blur's standard deviation is this fraction of the longer side


@checked("model", "n_segments")
def image_players(
    image: Tensor | Mapping[str, Any],
    *,
    grid: int | tuple[int, int] | None = None,
    patch_size: int | tuple[int, int] | Literal["model"] | None = None,
    segments: Tensor | np.ndarray | Literal["slic"] | None = None,
    n_segments: Positive = 12,
    model: Any = None,
    baseline: float | Tensor | Literal["zero", "mean", "blur"] = "zero",
    sigma: float | None = None,
    foreground: Collection[str | int | tuple[int, int]] | Tensor | np.ndarray | None = None,
    background: Literal["keep", "mask"] = "keep",
    player_names: Sequence[str] | Sequence[Sequence[str]] | None = None,
) -> Players:
    """Make players of the parts of an image.

    One of `grid`, `patch_size` and `segments` defines the parts; without any, they are the patches of `model`.
    There may be more of them than the 20 that can be evaluated: choose from them with `foreground`. The cells of
    ``grid=(2, 3)`` and their labels, rows and columns counted from 0::

        +------+------+------+
        | r0c0 | r0c1 | r0c2 |
        +------+------+------+
        | r1c0 | r1c1 | r1c2 |
        +------+------+------+

    Args:
        image: The input of the model, already resized and normalised: floating ``[C, H, W]`` or ``[B, C, H, W]``, or
            a mapping that has ``pixel_values`` (as an image processor returns), whose other entries become
            constants.
        grid: (rows, columns), or one number for both. If the image does not divide evenly, the cells differ by
            one pixel, or by one patch of `model`: the lines lie between its patches.
        patch_size: (height, width) of a patch in pixels, or one number for both; ``"model"``: that of
            ``model.config``. If it does not divide the image, the last row and column are smaller.
        segments: A map of whole numbers ``[H, W]``, or one a sample ``[B, H, W]``; -1 is background. ``"slic"``:
            superpixels by scikit-image, for each image its own.
        n_segments: About how many superpixels.
        model: A Hugging Face model whose ``config.patch_size`` no player may cut; segments may. Its number of channels
            tells ``[C, H, W]`` from ``[H, W, C]``.
        baseline: The replacement of absent parts: ``"zero"`` (0 in the model's input space: the mean colour of
            the training set if the image was normalised by it, black if it was only scaled to 0 to 1);
            ``"mean"``, each image's own mean colour; ``"blur"``, the image through :func:`gaussian_blur`; a number;
            a tensor: one value a channel ``[C]`` such as a data set's mean, an image ``[C, H, W]``, or one a sample
            ``[B, C, H, W]``.
        sigma: The blur's standard deviation in pixels; None: a sixteenth of the longer side.
        foreground: The parts that are players: their labels, (row, column) pairs of a grid, ids of segments; or a bool
            mask ``[H, W]`` or ``[B, H, W]``, of which they have at least a pixel. None: all.
        background: Whether parts that are not players are visible in all masked copies (``"keep"``), or in none
            (``"mask"``): then the baseline replaces them in the explained image, too.
        player_names: Labels in place of ``r0c0`` or ``s0``: one a player, row by row or in ascending order of id, or
            one such list a sample.

    Returns:
        Players whose one input is the image ``[B, C, H, W]``.

    Raises:
        ImportError: If ``segments="slic"`` and scikit-image is not installed.
        TypeError: If something is of the wrong type.
        ValueError: If something does not fit the image, the parts are not defined, a patch would cut the model's, a
            sample has no player, a region is unknown, or the channels are last.

    Warns:
        UserWarning: The channels may be last, and `model` does not tell.

    Example:
        >>> image = torch.arange(16.0).reshape(1, 4, 4)
        >>> players = image_players(image, grid=2)
        >>> players
        Players of 1 sample; masked: float32 [1, 1, 4, 4]
          sample 0, 4 players: r0c0 | r0c1 | r1c0 | r1c1
        >>> (copy,) = players.masked(0, torch.tensor([[True, False, False, True]]))
        >>> copy[0, 0]
        tensor([[ 0.,  1.,  0.,  0.],
                [ 4.,  5.,  0.,  0.],
                [ 0.,  0., 10., 11.],
                [ 0.,  0., 14., 15.]])
    """
    if not is_one_of(background, ("keep", "mask")):
        raise ValueError(f'background must be "keep" or "mask"; got {background!r}')
    if model is not None and not (callable(model) or has_configuration(model)):
        raise TypeError(f"model must be a model or None; got {shown(model)}")
    x, constants = _split(image)
    _check_channels(x, model)
    regions = _regions(x, grid, patch_size, segments, n_segments, model)
    if foreground is not None:
        regions = regions.restricted(foreground, len(x))
    filled, told = _fill(baseline, sigma, x)
    mask = _feature_mask(regions)
    inputs = torch.where(mask == BACKGROUND, filled, x) if background == "mask" else x
    ids, known = ids_by_sample((mask,), batch=len(x))
    names = [regions.names[i] for i in known.tolist()] if player_names is None else player_names
    return Players(
        inputs=(inputs,),
        baselines=(filled,),
        owners=(number_players(mask, ids).expand(x.shape),),
        labels=label_players(ids, known, names),
        names=(_PIXELS,) if isinstance(image, Mapping) else None,
        constants=constants,
        description={
            **regions.description,
            "baseline": told,
            **({"background": "masked"} if background == "mask" else {}),
        },
    )


@checked("images")
def gaussian_blur(images: Tensor, sigma: float) -> Tensor:
    """Filter images with a Gaussian, cut off at four standard deviations; outside, the border's colour continues.

    Args:
        images: Floating ``[B, C, H, W]``.
        sigma: The standard deviation, in pixels.

    Returns:
        The same shape, dtype and device; equal to ``scipy.ndimage.gaussian_filter(..., mode="nearest")``.

    Raises:
        TypeError: If `sigma` is not a number.
        ValueError: If it is not positive and finite.

    Example:
        >>> gaussian_blur(torch.tensor([[[[0.0, 0.0, 1.0, 0.0, 0.0]]]]), sigma=0.5).round(decimals=2)
        tensor([[[[0.0000, 0.1100, 0.7900, 0.1100, 0.0000]]]])
    """
    if not is_number(sigma):
        raise TypeError(f"sigma must be a number of pixels; got {sigma!r}")
    if not 0 < sigma <= _LARGEST_SIGMA:
        raise ValueError(f"sigma must be above 0 and finite, at most {_LARGEST_SIGMA:g} pixels; got {sigma}")
    radius = int(4 * float(sigma) + 0.5)
    weights = torch.exp(
        -0.5 * (torch.arange(-radius, radius + 1, dtype=torch.float64, device="cpu") / float(sigma)).square()
    )
    dtype = torch.promote_types(images.dtype, torch.float32)  # half precision would lose the tails
    kernel = (weights / weights.sum()).to(images.device, dtype)
    planes = images.to(dtype).flatten(0, 1)[:, None]
    planes = functional.pad(planes, (radius,) * 4, mode="replicate")
    planes = functional.conv2d(functional.conv2d(planes, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))
    return planes.reshape(images.shape).to(images.dtype)


@checked()
def player_map(found: Interactions | SampledInteractions) -> Tensor:
    """Return the player of each pixel.

    Args:
        found: The interactions of one image.

    Returns:
        int64 ``[H, W]``, -1 on the background.

    Raises:
        ValueError: If `found` has no layout, or not that of one image ``[C, H, W]`` with the same players in all
            channels.

    Example:
        >>> from captum_lkn import AndOrInteraction
        >>> players = image_players(torch.ones(3, 2, 4), grid=(1, 2))
        >>> found = AndOrInteraction(lambda x: x[..., :2].sum((1, 2, 3)), score="logit").attribute(players)
        >>> player_map(found[0])
        tensor([[0, 0, 1, 1],
                [0, 0, 1, 1]])
    """
    owners = () if found.layout is None else found.layout.owners
    if len(owners) != 1 or owners[0].dim() != 3:
        shapes = ", ".join(map(shape_of, owners)) or "an unknown shape"
        raise ValueError(f"found must be of one image [C, H, W]; got interactions of {shapes}. See image_players")
    if bool((owners[0] != owners[0][:1]).any()):
        raise ValueError("found must have the same players in all channels; these differ between channels")
    return owners[0][0]


@checked()
def interaction_mask(found: Interactions, interaction: Interaction | Collection[int]) -> Tensor:
    """Return the pixels of an interaction: the union of its players.

    Args:
        found: The interactions of one image.
        interaction: One of them, or the numbers of players.

    Returns:
        Bool ``[H, W]``, on the device of the image.

    Raises:
        ValueError: If a player is unknown, or `found` is not of one image, see :func:`player_map`.

    Example:
        >>> from captum_lkn import AndOrInteraction
        >>> players = image_players(torch.ones(3, 2, 4), grid=(1, 2))
        >>> found = AndOrInteraction(lambda x: x[..., :2].sum((1, 2, 3)), score="logit").attribute(players)
        >>> interaction_mask(found[0], found[0].top(1)[0])
        tensor([[ True,  True, False, False],
                [ True,  True, False, False]])
    """
    members = list(getattr(interaction, "members", interaction))
    wrong = [i for i in members if not 0 <= i < found.n_players]
    if wrong:
        raise ValueError(f"interaction must hold numbers of players, 0 to {found.n_players - 1}; got {wrong[0]}")
    owners = player_map(found)
    return torch.isin(owners, torch.tensor(members, dtype=torch.int64, device=owners.device))


def _split(image: Any) -> tuple[Tensor, dict[str, Any]]:
    """Separate the images, ``[B, C, H, W]``, from the other inputs of the model."""
    constants: dict[str, Any] = {}
    if isinstance(image, Mapping):
        if _PIXELS not in image:
            raise ValueError(f"image must have the entry {_PIXELS}, as image processors return it; got {list(image)}")
        constants = {name: value for name, value in image.items() if name != _PIXELS}
        image = image[_PIXELS]
    if not isinstance(image, Tensor):
        raise TypeError(
            f"image must be a tensor [C, H, W] or [B, C, H, W], as the model takes it; got {kind_of(image)}. Call the "
            'model\'s image processor with return_tensors="pt"'
        )
    if not image.is_floating_point():
        raise TypeError(
            f"image must be floating, normalised as the model takes it; got {kind_of(image)}. These are raw pixels: "
            "call the model's image processor"
        )
    if image.dim() not in (3, 4) or 0 in image.shape:
        raise ValueError(f"image must be [C, H, W] or [B, C, H, W], and not empty; got shape {shape_of(image)}")
    x = image.detach()
    return (x if x.dim() == 4 else x[None]), constants


def _check_channels(x: Tensor, model: Any) -> None:
    """Refuse images ``[B, H, W, C]`` where the model's number of channels is known, and warn where they may be such."""
    channels = number_of_channels(Model(model).inner if callable(model) else model)
    if channels is None and x.shape[-1] in _CHANNELS and x.shape[1] not in _CHANNELS:
        warn(
            f"image is taken for [B, C, H, W] and has the shape {shape_of(x)}, as if its channels were last. If they "
            "are, give image.movedim(-1, -3); if not, give model=, of whose configuration the number of channels is "
            "taken"
        )
    if channels is not None and x.shape[-1] == channels != x.shape[1]:
        raise ValueError(
            f"image must be [B, C, H, W] with {channels} channels; got {shape_of(x)}, with the channels last. Give "
            "image.movedim(-1, -3)"
        )


def _regions(x: Tensor, grid: Any, patch_size: Any, segments: Any, n_segments: int, model: Any) -> Regions:
    given = {"grid": grid, "patch_size": patch_size, "segments": segments}
    names = [name for name, value in given.items() if value is not None]
    if len(names) > 1:
        raise ValueError(f"give only one of {', '.join(given)}; got {' and '.join(names)}")
    height, width = x.shape[-2:]
    own = model_patch(model)
    unit = own or (1, 1)
    if segments is not None:
        if isinstance(segments, str) and segments == "slic":
            return slic_regions(x, n_segments)
        return segment_regions(height, width, len(x), segments, x.device)
    if grid is not None:
        return grid_regions(height, width, grid, unit, x.device)
    if patch_size is None or (isinstance(patch_size, str) and patch_size == "model"):
        if own is None:
            known = "no model= is given" if model is None else f"{type(model).__name__} has no config.patch_size"
            raise ValueError(
                f"the parts of the image are not defined, and {known}. Give grid=, patch_size= (in pixels) or segments="
            )
        patch_size = own
    return patch_regions(height, width, patch_size, unit, x.device)


def _fill(baseline: Any, sigma: float | None, x: Tensor) -> tuple[Tensor, str]:
    """Return the baseline in the images' shape, and its description for provenance."""
    if sigma is not None and not (isinstance(baseline, str) and baseline == "blur"):
        given = repr(baseline) if isinstance(baseline, str) else kind_of(baseline)
        raise ValueError(f'sigma needs baseline="blur", its standard deviation; got baseline {given}. Leave out sigma')
    if isinstance(baseline, str):
        if baseline == "zero":
            return torch.zeros((), dtype=x.dtype, device=x.device).expand(x.shape), "zero"
        if baseline == "mean":
            return x.mean((2, 3), keepdim=True).expand(x.shape), "mean of the image"
        if baseline == "blur":
            width = max(x.shape[-2:]) / _SIGMA_SHARE if sigma is None else sigma
            return gaussian_blur(x, width), f"blur, sigma {width:g}"
        raise ValueError(f'baseline must be "zero", "mean", "blur", a number or a tensor; got {baseline!r}')
    if isinstance(baseline, Tensor):
        check_plain("baseline", baseline)
        return fill_baseline(_as_image(baseline, x), x, 0), kind_of(baseline)
    return fill_baseline(baseline, x, 0), f"{baseline}"


def _as_image(baseline: Tensor, x: Tensor) -> Tensor:
    """Bring a baseline for each channel, pixel or sample to the dimensions of the images."""
    channels, *_ = image = tuple(x.shape[1:])
    broadcast: dict[tuple[int, ...], tuple[int, ...]] = {
        (): (),
        (channels,): (1, channels, 1, 1),
        image: (1, *image),
        (1, *image): (1, *image),
        tuple(x.shape): tuple(x.shape),
    }
    if tuple(baseline.shape) not in broadcast:
        raise ValueError(
            f"baseline must be one value a channel, {[channels]}, an image, {list(image)}, or one a sample, "
            f"{list(x.shape)}; got shape {shape_of(baseline)}"
        )
    return baseline.reshape(broadcast[tuple(baseline.shape)])


def _feature_mask(regions: Regions) -> Tensor:
    """Return the regions as a feature mask, ``[1, 1, H, W]`` or ``[B, 1, H, W]``."""
    for sample, ids in enumerate(regions.ids):
        if bool((ids == BACKGROUND).all()):
            where = f"sample {sample}" if len(regions.ids) > 1 else "the image"
            raise ValueError(f"{where} has no player: all of it is background. Name other parts with foreground=")
    return regions.ids[:, None]
