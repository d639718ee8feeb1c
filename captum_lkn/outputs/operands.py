"""Operands of a score: checks of outputs and targets, and the casts that all scores share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from captum_lkn._common.checks import check_plain
from captum_lkn._common.messages import kind_of, shape_of

__all__ = ["check_output", "check_target", "operands", "others", "to_float64"]


def check_output(output: Any) -> None:
    """Check that an output is real numbers ``[B, C]`` with a column at least.

    Raises:
        TypeError: It is not a tensor of real numbers.
        ValueError: It has another shape.
    """
    if not isinstance(output, Tensor):
        raise TypeError(f"output must be a tensor [B, C]; got {kind_of(output)}")
    check_plain("output", output)
    if output.is_complex() or output.dtype == torch.bool:
        raise TypeError(f"output must be real numbers; got {kind_of(output)}")
    if output.dim() != 2 or output.shape[1] == 0:
        raise ValueError(f"output must be [B, C] with a column at least; got {shape_of(output)}")


def check_target(output: Tensor, target: Any, classes: int | None = None) -> None:
    """Check that a target is an index for each row of an output.

    Args:
        output: ``[B, C]``.
        target: Integer ``[B]``.
        classes: The number of classes, if it is not C.

    Raises:
        TypeError: `target` is not an integer tensor.
        ValueError: It has another shape, or is out of range (checked on the CPU only).
    """
    if not isinstance(target, Tensor):
        raise TypeError(f"target must be an integer tensor [B]; got {kind_of(target)}")
    if target.is_floating_point() or target.is_complex() or target.dtype == torch.bool:
        raise TypeError(f"target must be integers; got {kind_of(target)}. Convert it with .long()")
    if target.shape != output.shape[:1]:
        raise ValueError(
            f"target must have one entry a row of the output {shape_of(output)}, [{len(output)}]; got "
            f"{shape_of(target)}"
        )
    count = output.shape[1] if classes is None else classes
    # Only where it costs nothing: on another device it would wait for the forward, once a batch.
    if target.device.type == "cpu" and len(target) and not 0 <= int(target.min()) <= int(target.max()) < count:
        raise ValueError(
            f"target must be {'0' if count == 1 else f'0 to {count - 1}'} for the output {shape_of(output)}; got "
            f"{int(target.min())} to {int(target.max())}"
        )


def to_float64(x: Tensor) -> Tensor:
    """Cast to float64; to float32 on MPS, which has no float64."""
    return x.to(torch.float32 if x.device.type == "mps" else torch.float64)


def others(z: Tensor, index: Tensor) -> Tensor:
    """Set the target's column to -inf, which leaves it out of a maximum or a logsumexp."""
    return z.scatter(1, index, -torch.inf)


def operands(output: Tensor, target: Tensor, classes: int | None = None) -> tuple[Tensor, Tensor]:
    """Return the output in float64, and the target as an index ``[B, 1]`` beside it; see :func:`check_target`."""
    check_target(output, target, classes)
    return to_float64(output), target.to(output.device, torch.int64)[:, None]
