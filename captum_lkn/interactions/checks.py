"""Checks of numbers, masks and counts that users give to results; every error quotes what was given."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from captum_lkn._common import files
from captum_lkn._common.checks import is_number, is_whole
from captum_lkn._common.messages import kind_of, shape_of
from captum_lkn.decomposition.effects import Effects
from captum_lkn.decomposition.options import DecompositionKind, DecompositionOptions

__all__ = ["check_bound", "check_count", "check_finite", "check_masks", "check_options", "check_provenance"]


def check_bound(name: str, value: Any, or_infinite: bool = False) -> float:
    """Return a number from 0 to infinity, the latter only where that is allowed, as a float."""
    # A tensor of one number serves as well; a string or a bool is a mistake, though float() takes them.
    if not is_number(value) and not (isinstance(value, Tensor) and value.numel() == 1 and value.dtype != torch.bool):
        raise TypeError(f"{name} must be a number; got {value!r}")
    number = float(value)
    if not (0 <= number < math.inf or (or_infinite and number == math.inf)):
        raise ValueError(f"{name} must be at least 0{'' if or_infinite else ' and finite'}; got {number}")
    return number


def check_finite(name: str, value: Any) -> float:
    """Return a finite number as a float."""
    if not is_number(value):
        raise TypeError(f"{name} must be a number; got {value!r}")
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite; got {value}")
    return float(value)


def check_provenance(provenance: Any) -> dict[str, files.JSON]:
    """Return a record of names and values as JSON can hold it."""
    if not isinstance(provenance, Mapping):
        raise TypeError(f"provenance must be a mapping of names and values; got {kind_of(provenance)}")
    record: dict[str, files.JSON] = files.to_json(provenance, "provenance")
    return record


def check_count(k: Any) -> int | None:
    """Return a number of interactions, a whole number of at least 0 or None, as an int."""
    if k is None:
        return None
    if not is_whole(k):
        raise TypeError(f"k must be a whole number or None; got {k!r}")
    number = operator.index(k)  # NumPy's integers too
    if number < 0:
        raise ValueError(f"k must be at least 0; got {number}")
    return number


def check_masks(masks: Any, n: int) -> None:
    """Check that masks are bool ``[m, n]`` or ``[n]``."""
    if not isinstance(masks, Tensor):
        raise TypeError(f"masks must be a bool tensor; got {kind_of(masks)}: give torch.tensor(masks)")
    if masks.dtype != torch.bool:
        raise TypeError(
            f"masks must be bool, True where a player is present; got {kind_of(masks)}: convert 0 and 1 "
            "with masks.bool(), indices of players with one True at each"
        )
    if masks.dim() not in (1, 2) or masks.shape[-1] != n:
        raise ValueError(f"masks must be [m, {n}] or [{n}], one entry a player; got {shape_of(masks)}")


def check_options(options: Any, kappa: float, effects: Effects) -> DecompositionOptions:
    """Return the options of a decomposition; None becomes the defaults with this kappa."""
    if isinstance(options, DecompositionOptions):
        if options.kind == "and" and bool(effects.is_or.any()):
            raise ValueError('options must be those of the effects; got kind="and" and an OR effect')
        return options
    if options is not None:
        raise TypeError(f"options must be a DecompositionOptions; got {kind_of(options)}")
    kind: DecompositionKind = "and-or" if bool(effects.is_or.any()) else "and"
    return DecompositionOptions(kappa=kappa, kind=kind)
