"""Read-outs: from a layer's feature to logits.

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
    """Check what a read-out returned.

    Args:
        logits: That.
        rows: How many rows its feature had.
        columns: How many columns the model's output has; None: any number.
        where: What to call the layer in an error.

    Returns:
        The same logits.

    Raises:
        TypeError: They are no floating tensor.
        ValueError: They are not ``[R, C]``.

    Example:
        >>> import torch
        >>> check_readout_output(torch.zeros(4, 2), 4, 2, "layer 'block'").shape
        torch.Size([4, 2])
    """
    wanted = f"[{rows}, {'C' if columns is None else columns}]"
    if not isinstance(logits, Tensor) or not logits.is_floating_point():
        raise TypeError(f"the read-out of {where} returned {kind_of(logits)}: it must return logits {wanted}")
    if logits.dim() != 2 or len(logits) != rows or columns not in (None, logits.shape[1]):
        raise ValueError(
            f"the read-out of {where} returned {kind_of(logits)}: it must return logits {wanted}, a row for each row "
            "of the feature and a column for each column of the model's output"
        )
    return logits
