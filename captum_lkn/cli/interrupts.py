"""Ctrl-C of a command, which ends it with one line at any time."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

__all__ = ["ABORTED", "EXIT_CODE", "Interrupts"]

ABORTED = "Aborted."
EXIT_CODE = 130  # 128 + SIGINT, as shells expect


class Interrupts:
    """Handler of SIGINT, installed inside ``with``; outside the main thread it does nothing.

    Packages turn an interrupted import into other errors, such as NumPy's "cannot load module more than once per
    process", or ignore it. While they are imported there is nothing to clean up, so the process ends at once.

    Attributes:
        happened: Whether there was an interrupt.
    """

    def __init__(self) -> None:
        self.happened = False
        self._importing = False
        self._before: Any = None

    def __enter__(self) -> Interrupts:
        try:
            self._before = signal.signal(signal.SIGINT, self._handle)
        except ValueError:  # not the main thread, which alone gets signals
            self._before = None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    @contextmanager
    def imports(self) -> Iterator[None]:
        """End the process at once on Ctrl-C, for as long as packages are imported."""
        self._importing = True
        try:
            yield
        finally:
            self._importing = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.happened = True
        if self._importing:
            os.write(2, f"{ABORTED}\n".encode())
            os._exit(EXIT_CODE)
        raise KeyboardInterrupt
