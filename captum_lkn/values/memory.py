"""Memory that a forward takes at its peak, on any device."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["WatchedMemory"]


class WatchedMemory(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Context in which the bytes of tensors that operations make are counted, as long as they live.

    What an operation allocates and frees within itself is not seen.

    Attributes:
        peak: The most bytes at a time.

    Example:
        >>> import torch
        >>> x = torch.zeros(1000)
        >>> with WatchedMemory() as watched:
        ...     y = ((x + 1) * 2)[:10]
        >>> watched.peak
        8000
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = self._now = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operation, and count what it made."""
        result = func(*args, **(kwargs or {}))
        given = {storage._cdata for storage in _storages((args, kwargs))}
        for storage in _storages(result):
            place, size = storage._cdata, storage.nbytes()
            if place not in given | self._known:
                self._known.add(place)
                self._now += size
                weakref.finalize(storage, self._forget, place, size)
        self.peak = max(self.peak, self._now)
        return result

    def _forget(self, place: int, size: int) -> None:
        self._known.discard(place)
        self._now -= size


def _storages(values: Any) -> Iterator[Any]:
    for each in tree_leaves(values):
        if isinstance(each, Tensor):
            with suppress(NotImplementedError, RuntimeError):  # sparse tensors have none
                yield each.untyped_storage()
