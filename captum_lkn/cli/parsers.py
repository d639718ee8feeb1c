"""Parsers of option values that say what they take and what they got, in whatever words typer has for it.

Nothing but typer is imported at module level, see :mod:`captum_lkn.cli.app`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import typer

__all__ = ["number", "path", "text", "whole"]

_LARGEST: Final = 2**63 - 1
"""Larger whole numbers do not fit into the integers of torch."""


def whole(least: int, most: int = _LARGEST) -> dict[str, Any]:
    """Return the settings of an option that is a whole number.

    Args:
        least: The smallest number.
        most: The largest.

    Example:
        >>> whole(1, 20)["metavar"], whole(1)["parser"]("12")
        ('INTEGER (1 to 20)', 12)
    """
    wanted = f"from {least}" if most == _LARGEST else f"{least} to {most}"

    def parse(given: Any) -> int:
        try:
            found = int(given)
        except ValueError:
            found = least - 1
        if not least <= found <= most:
            raise _wrong(f"a whole number, {wanted}", given)
        return found

    return _settings(parse, f"INTEGER ({wanted})")


def number() -> dict[str, Any]:
    """Return the settings of an option that is a finite number of at least 0.

    Example:
        >>> number()["parser"]("2.5")
        2.5
    """

    def parse(given: Any) -> float:
        try:
            found = float(given)
        except ValueError:
            found = math.nan
        if not 0 <= found < math.inf:
            raise _wrong("a finite number from 0", given)
        return found

    return _settings(parse, "NUMBER (from 0)")


def text(metavar: str = "TEXT") -> dict[str, Any]:
    """Return the settings of an option or argument that is a text.

    Args:
        metavar: The word for it in the help.

    Example:
        >>> text()["parser"]("not good")
        'not good'
    """

    def parse(given: Any) -> str:
        if not str(given).strip() or not _is_encodable(given):
            raise _wrong("a text", given)
        return str(given)

    return _settings(parse, metavar)


def path(metavar: str = "PATH") -> dict[str, Any]:
    """Return the settings of an option or argument that is a path.

    Args:
        metavar: The word for it in the help.

    Example:
        >>> path()["parser"]("found.html").name
        'found.html'
    """

    def parse(given: Any) -> Path:
        if not given or not _is_encodable(given):
            raise _wrong("a path", given)
        return Path(given)

    return _settings(parse, metavar)


def _is_encodable(given: Any) -> bool:
    """Return False for a text with half a character, a lone surrogate."""
    try:
        return os.fsencode(given) is not None
    except UnicodeEncodeError:
        return False


def _settings(parse: Callable[[Any], Any], metavar: str) -> dict[str, Any]:
    return {"parser": parse, "metavar": metavar}


def _wrong(wanted: str, given: Any) -> typer.BadParameter:
    return typer.BadParameter(f"must be {wanted}; got {str(given)!r}")
