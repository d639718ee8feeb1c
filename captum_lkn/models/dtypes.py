"""Error for inputs of another dtype than a model's parameters."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from torch import Tensor, nn

from captum_lkn._common.messages import some_of

__all__ = ["dtypes_told"]

_OF_DTYPES: Final = re.compile("d?type|Float|Double|Half", re.IGNORECASE)  # in torch's errors


@contextmanager
def dtypes_told(module: nn.Module | None, name: str, inputs: Sequence[Tensor]) -> Iterator[None]:
    """Name the dtypes of inputs and parameters in torch's error for two that differ.

    Args:
        module: The model; None for a function.
        name: Its name.
        inputs: Its inputs.

    Raises:
        RuntimeError: As raised inside, with what can be done.

    Example:
        >>> import torch
        >>> with dtypes_told(nn.Linear(1, 1).double(), "Linear", [torch.ones(1, 1)]):
        ...     raise RuntimeError("mat1 and mat2 must have the same dtype")
        Traceback (most recent call last):
        RuntimeError: Linear has float64 parameters and inputs of float32 (mat1 and mat2 must have the same dtype). ...
    """
    try:
        yield
    except RuntimeError as error:
        parameters = [] if module is None else [p.dtype for p in module.parameters() if p.is_floating_point()]
        given = [x.dtype for x in inputs if x.is_floating_point()]
        if not parameters or not set(given) - set(parameters) or not _OF_DTYPES.search(str(error)):
            raise
        own, others = (
            sorted({str(dtype).removeprefix("torch.") for dtype in dtypes}) for dtypes in (parameters, given)
        )
        raise RuntimeError(
            f"{name} has {some_of(own)} parameters and inputs of {some_of(others)} ({error}). Convert one of both: "
            f"inputs.to({parameters[0]}), or the model, model.to({given[0]})"
        ) from error
