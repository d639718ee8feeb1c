"""Read-outs, functions from a layer's features to logits.

A read-out is any function ``readout(feature [R, D]) -> logits [R, C]``, whose column c stands for column c of the
model's output. A :class:`captum_lkn.probes.LinearProbe` is a trained one;
:func:`captum_lkn.probes.lens.logit_lens` makes one of the model's own head, without training.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

from torch import Tensor, nn

from captum_lkn._common.messages import kind_of

__all__ = ["Readout", "check_readout_output", "read_out"]

Readout: TypeAlias = Callable[[Tensor], Tensor]
"""``readout(feature [R, D]) -> logits [R, C]``."""


_OTHER_DEVICE: Final = ("on the same device", "not on the expected device", "two devices")  # in torch's errors


def read_out(readout: Readout, feature: Tensor, where: str) -> Tensor:
    """Apply a read-out to a layer's feature.

    Args:
        readout: The read-out.
        feature: ``[R, D]``.
        where: The name of the layer in an error.

    Returns:
        The result, unchecked.

    Raises:
        ValueError: The read-out has its weights on another device than the feature.
    """
    module = readout if isinstance(readout, nn.Module) else getattr(readout, "__self__", None)
    weights = [*module.parameters(), *module.buffers()] if isinstance(module, nn.Module) else []
    places = {str(weight.device) for weight in weights}
    if places and str(feature.device) not in places:
        raise _elsewhere(", ".join(sorted(places)), feature, where)
    try:
        return readout(feature)
    except RuntimeError as error:
        if not any(text in str(error) for text in _OTHER_DEVICE):
            raise
        raise _elsewhere("another device", feature, where) from error


def _elsewhere(places: str, feature: Tensor, where: str) -> ValueError:
    return ValueError(
        f"the read-out of {where} has weights on {places}, and the layer puts out tensors on {feature.device}: move "
        f"the read-out there, .to({str(feature.device)!r})"
    )


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
