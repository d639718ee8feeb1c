"""Locks on parts of a study's folder, which the operating system releases when a process ends, however it ends."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from captum_lkn._common.warn import warn

_fcntl: Any
try:
    import fcntl as _fcntl
except ImportError:  # not on Windows
    _fcntl = None

__all__ = ["Locks"]

_OPENING: Final = 0
_PRESENCE: Final = 1
_FIRST: Final = 2
_OPEN: Final[set[tuple[int, str]]] = set()  # the folders that this process has open: its locks do not bar itself
_OPENING_ONE = threading.Lock()


class Locks:
    """Record locks on the bytes of one file: one for opening the folder, one for being there, one a group of samples.

    They save work and no more: files are written whole, and equal samples give equal files, so that a file system
    without locks costs time where several processes run, and nothing else.

    Args:
        path: The file, which is made where it is missing.

    Raises:
        OSError: It cannot be made.
        RuntimeError: This process has the folder open already.
    """

    def __init__(self, path: Path) -> None:
        self._own = os.getpid(), os.path.realpath(path)
        with _OPENING_ONE:
            if self._own in _OPEN:
                raise RuntimeError(
                    f"another thread of this process is at work in the folder {str(path.parent)!r}. Wait for it, or "
                    "start processes"
                )
            # Before anything is opened: an interrupt may come at any line, and then the locks are collected.
            self._files: list[int] = []
            self._collected = weakref.finalize(self, _release, self._own, self._files)
            _OPEN.add(self._own)
        self._files.append(os.open(path, os.O_RDWR | os.O_CREAT, 0o666))
        self.work = _fcntl is not None and self._try(_OPENING, wait=True)
        if not self.work:
            warn(
                f"the folder {str(path.parent)!r} has no locks of files: several processes would each compute all "
                "samples. Run one, or give each a shard="
            )

    def close(self) -> None:
        """Release all locks."""
        _release(self._own, self._files)
        self._collected.detach()  # behind it, for an interrupt in it

    @property
    def _file(self) -> int:
        return self._files[0]

    def opened(self) -> None:
        """Let the next process open the folder."""
        self.release(_OPENING - _FIRST)

    def alone(self) -> bool:
        """Return whether no other process is at work in the folder, and be there from now on."""
        if not self.work:
            return False
        alone = self._try(_PRESENCE)
        with suppress(OSError):
            _fcntl.lockf(self._file, _fcntl.LOCK_SH, 1, _PRESENCE)
        return alone

    def take(self, group: int, *, wait: bool = False) -> bool:
        """Return whether this process now has a group; True without locks."""
        return not self.work or self._try(_FIRST + group, wait=wait)

    def release(self, group: int) -> None:
        """Give a group back."""
        if self.work:
            _fcntl.lockf(self._file, _fcntl.LOCK_UN, 1, _FIRST + group)

    @contextmanager
    def taken(self, group: int, *, wait: bool = False) -> Iterator[bool]:
        """Take a group for a while; the value is whether this process has it."""
        has = self.take(group, wait=wait)
        try:
            yield has
        finally:
            if has:
                self.release(group)

    def _try(self, byte: int, *, wait: bool = False) -> bool:
        try:
            _fcntl.lockf(self._file, _fcntl.LOCK_EX | (0 if wait else _fcntl.LOCK_NB), 1, byte)
        except OSError:
            return False
        return True


def _release(own: tuple[int, str], files: list[int]) -> None:
    """Close the file, which releases all locks on it, and let this process open the folder again."""
    while files:
        os.close(files.pop())
    _OPEN.discard(own)
