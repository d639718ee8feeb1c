"""The masks that a method may be asked to sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from captum_lkn._common.checks import is_whole
from captum_lkn._common.messages import some_of
from captum_lkn._common.warn import warn
from captum_lkn.interactions import SampledInteractions

__all__ = ["Sampling", "sampling_of", "warn_of_poor_fits"]

POOR: Final = 0.9
"""Effects whose R^2 is below this are warned of."""


class Sampling(NamedTuple):
    """Masks to sample, and effects to fit to them.

    Attributes:
        n_samples: The number of masks of each sample.
        seed: The seed of the masks.
        max_effects: The largest number of effects; None: one for ten masks.
    """

    n_samples: int
    seed: int
    max_effects: int | None


def sampling_of(n_samples: Any, seed: Any, max_effects: Any) -> Sampling | None:
    """Return the sampling that is asked for; None where all 2^n masks are.

    Raises:
        TypeError: Something is not a whole number.
        ValueError: Something is out of range, or given without `n_samples`.
    """
    if n_samples is None:
        if max_effects is not None:
            raise ValueError(
                f"max_effects must be None without n_samples; got {max_effects!r}. Give n_samples as well, or take the "
                "strongest effects of all masks by top()"
            )
        return None
    if max_effects is not None:
        if not is_whole(max_effects):
            raise TypeError(f"max_effects must be None or a whole number; got {max_effects!r}")
        if max_effects < 1:
            raise ValueError(f"max_effects must be at least 1; got {max_effects}")
    return Sampling(n_samples, seed, max_effects)


def warn_of_poor_fits(found: Sequence[SampledInteractions], layer: str) -> None:
    """Warn of samples whose effects do not reproduce the values at fresh masks."""
    poor = [place for place, one in enumerate(found) if one.worst_r_squared < POOR]
    if poor:
        where = f" at {layer}" if layer else ""
        worst = min(found[place].worst_r_squared for place in poor)
        warn(
            f"R^2 at fresh masks is below {POOR} for sample {some_of(poor)}{where} (as low as {worst:.2f}): the "
            "effects explain the score in part. Give a larger n_samples, a larger max_effects where you gave one, or "
            "group players that act together (feature_mask, phrases or sentences)"
        )
