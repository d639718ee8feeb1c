"""The last of a model's blocks, found by running it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from captum_lkn.models.layers import Layer
from captum_lkn.models.reading import remove_hooks

__all__ = ["first_tensor", "last_block"]


def last_block(root: nn.Module, run: Callable[[], Any], rows: int) -> Layer | None:
    """Return the block that is the last to put out tokens: an entry of a list of modules.

    Not the longest list, since some models hold the parts of their blocks in several lists, and some a table for each
    of many features.

    Args:
        root: The model.
        run: Runs it once.
        rows: The number of rows R of this forward.

    Returns:
        Its last call, where it runs several times; None where no list has entries that put out ``[R, T, D]`` or
        ``[T, R, D]``.

    Example:
        >>> blocks = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
        >>> last_block(blocks, lambda: [block(torch.ones(1, 3, 2)) for block in blocks], 1).name
        '1'
    """
    names: dict[nn.Module, str] = {}
    for name, module in root.named_modules():
        if isinstance(module, nn.ModuleList):
            names |= {block: f"{name}.{i}".strip(".") for i, block in enumerate(module)}
    calls: dict[nn.Module, int] = {}
    last: list[nn.Module] = []
    thread = threading.get_ident()  # forwards of other threads do not count

    def after(module: nn.Module, _: Any, output: Any) -> None:
        if threading.get_ident() != thread:
            return
        calls[module] = calls.get(module, 0) + 1
        first = first_tensor(output)
        if first is not None and first.dim() == 3 and rows in first.shape[:2] and first.is_floating_point():
            last[:] = [module]

    handles: list[torch.utils.hooks.RemovableHandle] = []
    try:
        try:
            handles.extend(block.register_forward_hook(after) for block in names)
            run()
        finally:
            remove_hooks(handles)
    finally:
        remove_hooks(handles)  # again, for an interrupt in the first
    if not last:
        return None
    count = calls[last[0]]
    return Layer(names[last[0]], call_index=count - 1 if count > 1 else None)


def first_tensor(output: Any) -> Tensor | None:
    """Return what a block puts out, or the first of several things that it does; None where that is no tensor."""
    first = output[0] if isinstance(output, (tuple, list)) and output else output
    return first if isinstance(first, Tensor) else None
