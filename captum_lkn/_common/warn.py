"""Warnings that point at the user's line."""

from __future__ import annotations

import sys
import warnings

__all__ = ["warn"]

_OURS = ("captum_lkn", "captum", "torch", "contextlib")


def warn(message: str) -> None:
    """Issue a UserWarning that is attributed to the caller outside this library.

    Decorators of torch and Captum wrap our methods, so that a fixed ``stacklevel`` would point at one of them.

    Args:
        message: The text: what was found, and what the user can do.
    """
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _OURS:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, UserWarning, stacklevel=level)
