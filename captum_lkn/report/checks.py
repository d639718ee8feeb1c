"""Checks that images and ranges which are given with a result are of that result."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from captum_lkn._common.messages import kind_of, shape_of
from captum_lkn.interactions.batch import AnyBatch
from captum_lkn.interactions.ranges import EffectRanges
from captum_lkn.interactions.sampled import AnyInteractions
from captum_lkn.report.regions import is_image, players_of_pixels

__all__ = ["check_ranges", "images_of"]


def images_of(
    found: Sequence[AnyInteractions] | AnyBatch, images: Tensor | Sequence[Tensor] | None
) -> list[Tensor | None]:
    """Return the image of each sample, None where there are none.

    Raises:
        TypeError: An image is not a tensor.
        ValueError: There are not as many images as samples, or one does not fit its sample.
    """
    if images is None:
        return [None] * len(found)
    if len(images) != len(found):
        raise ValueError(f"images must be one for each sample, of which there are {len(found)}; got {len(images)}")
    return [_checked(one, image) for one, image in zip(found, images, strict=True)]


def _checked(found: AnyInteractions, image: object) -> Tensor:
    if not isinstance(image, Tensor):
        raise TypeError(f"image must be a tensor [C, H, W]; got {kind_of(image)}")
    if not is_image(found):
        raise ValueError(
            f"image must be None for a sample whose players are not parts of an image; got {shape_of(image)}. "
            "Leave it out"
        )
    players_of_pixels(found, image)
    return image


def check_ranges(found: AnyInteractions, ranges: EffectRanges | None) -> None:
    """Check that ranges are those of a sample.

    Raises:
        ValueError: One is of an interaction that the sample does not have with this effect.
    """
    for one in ranges or ():
        members, effect = one.interaction.members, one.interaction.effect
        own = found.effect(*members, kind=one.interaction.kind) if max(members) < found.n_players else math.nan
        if not math.isclose(own, effect, rel_tol=1e-6, abs_tol=1e-9 * found.effects.largest):
            raise ValueError(
                f"ranges must be those of these interactions; got one of {one.interaction.name!r} with the effect "
                f"{effect:.6g}, which is {own:.6g} here. Give what effect_ranges() of the same sample returned"
            )
