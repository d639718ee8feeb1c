"""Tensors among the arguments of a forward, moved to the device of the model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor

__all__ = ["all_at", "called_at"]

_LENGTHS_ON_CPU: Final = "'lengths' argument should be a 1D CPU"  # in torch's error


def called_at(
    home: torch.device | None,
    function: Callable[..., Any],
    inputs: Iterable[Tensor],
    positional: Sequence[Any],
    keywords: Mapping[str, Any],
) -> Any:
    """Call a forward function with its tensors on the model's device.

    Where the inputs lie there already, the user has placed all tensors: the lengths that ``pack_padded_sequence``
    needs stay on the CPU.

    Args:
        home: The model's device; None: its tensors stay where they are.
        function: The forward function.
        inputs: The masked inputs among the arguments.
        positional: The arguments by position.
        keywords: Those by keyword.

    Returns:
        What the function returns.
    """
    if all(x.device == home for x in inputs):
        return function(*positional, **keywords)
    try:
        return function(*(_at(home, value) for value in positional), **all_at(home, keywords))
    except RuntimeError as error:
        if _LENGTHS_ON_CPU not in str(error):
            raise
    return function(
        *(value if _may_be_lengths(value) else _at(home, value) for value in positional),
        **{name: value if _may_be_lengths(value) else _at(home, value) for name, value in keywords.items()},
    )


def all_at(home: torch.device | None, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments with their tensors on a device; None leaves them where they are."""
    return {name: _at(home, value) for name, value in values.items()}


def _at(home: torch.device | None, value: Any) -> Any:
    return value.to(home) if home is not None and isinstance(value, Tensor) else value


def _may_be_lengths(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dim() == 1 and not value.is_floating_point()
