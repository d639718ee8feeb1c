"""Bars of progress, and the decision whether they are shown."""

from __future__ import annotations

import os
import sys
import threading

from tqdm.auto import tqdm

__all__ = ["Bar", "is_hidden"]


class Bar(tqdm):  # type: ignore[type-arg]  # generic in its annotations alone
    """A bar of tqdm with a lock of this process.

    Processes that were forked from one share tqdm's own lock, which each bar takes, a hidden one too: where one of them
    is killed while it has the lock, the others wait without end.
    """


def _own_lock() -> None:
    Bar.set_lock(threading.RLock())


_own_lock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_own_lock)  # another thread may have had the lock


def is_hidden(wanted: bool) -> bool:
    """Return whether bars are hidden: where they are not wanted, or a process without a console has no stream for them.

    Args:
        wanted: Whether the user wants them.

    Example:
        >>> is_hidden(False)
        True
    """
    return not wanted or sys.stderr is None
