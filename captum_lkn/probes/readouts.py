"""Read-outs, functions from a layer's features to logits.

A read-out is any function ``readout(feature [R, D]) -> logits [R, C]``, whose column c stands for column c of the
model's output. A :class:`captum_lkn.probes.LinearProbe` is a trained one;
:func:`captum_lkn.probes.lens.logit_lens` makes one of the model's own head, without training.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from torch import Tensor

from captum_lkn._common.messages import kind_of

__all__ = ["Readout", "check_readout_output"]

Readout: TypeAlias = Callable[[Tensor], Tensor]
"""``readout(feature [R, D]) -> logits [R, C]``."""


def check_readout_output(logits: Any, rows: int, columns: int | None, where: str) -> Tensor:
    """Check the result of a read-out.

    Args:
        logits: The result.
        rows: Number of rows of the feature.
        columns: Number of columns of the model's output; None: any number.
        where: The name of the layer in an error.

    Returns:
        The same logits.

    Raises:
        TypeError: The result is not a floating tensor.
        ValueError: The result is not ``[R, C]``.

    Example:
        >>> import torch
        >>> check_readout_output(torch.zeros(4, 2), 4, 2, "layer 'block'").shape
        torch.Size([4, 2])
    """
    wanted = f"[{rows}, {'C' if columns is None else columns}]"
    if not isinstance(logits, Tensor) or not logits.is_floating_point():
        raise TypeError(f"the read-out of {where} must return logits {wanted}; got {kind_of(logits)}")
    if logits.dim() != 2 or len(logits) != rows or columns not in (None, logits.shape[1]):
        raise ValueError(
            f"the read-out of {where} must return logits {wanted}, a row for each row of the feature and a column for "
            f"each column of the model's output; got {kind_of(logits)}"
        )
    return logits
