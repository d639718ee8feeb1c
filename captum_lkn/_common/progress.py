"""Decision whether bars of progress are shown."""

from __future__ import annotations

import sys

__all__ = ["is_hidden"]


def is_hidden(wanted: bool) -> bool:
    """Return whether bars are hidden: where they are not wanted, or a process without a console has no stream for them.

    Args:
        wanted: Whether the user wants them.

    Example:
        >>> is_hidden(False)
        True
    """
    return not wanted or sys.stderr is None
