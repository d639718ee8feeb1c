"""Checks of what users give. They take anything, so that a type checker does not call them redundant."""

from __future__ import annotations

import numbers
from collections.abc import Collection
from typing import Any

import numpy
import torch
from torch import Tensor

from captum_lkn._common.messages import dtype_of, kind_of

__all__ = [
    "as_plain",
    "check_flag",
    "check_numbers",
    "check_plain",
    "check_text",
    "is_floating",
    "is_number",
    "is_one_of",
    "is_tensor_of",
    "is_whole",
]


def is_whole(value: Any) -> bool:
    """Return True for an int of Python or NumPy, and False for a bool.

    Example:
        >>> is_whole(3), is_whole(True), is_whole(3.0)
        (True, False, False)
    """
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Return True for a real number of Python or NumPy, and False for a bool.

    Example:
        >>> is_number(3.5), is_number(True), is_number("3.5")
        (True, False, False)
    """
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def is_one_of(value: Any, choices: Collection[str]) -> bool:
    """Return True for a text that is one of several; what compares element by element, such as an array, is none.

    Example:
        >>> is_one_of("and", ("and", "or")), is_one_of(numpy.array(["and", "or"]), ("and", "or"))
        (True, False)
    """
    return isinstance(value, str) and value in choices


def is_floating(value: Any) -> bool:
    """Return True for a tensor of a floating dtype.

    Example:
        >>> is_floating(torch.ones(2)), is_floating(torch.ones(2, dtype=torch.int64)), is_floating(1.0)
        (True, False, False)
    """
    return isinstance(value, Tensor) and value.is_floating_point()


def is_tensor_of(value: Any, dtype: torch.dtype) -> bool:
    """Return True for a tensor of this dtype.

    Example:
        >>> is_tensor_of(torch.ones(2, dtype=torch.bool), torch.bool), is_tensor_of([True], torch.bool)
        (True, False)
    """
    return isinstance(value, Tensor) and value.dtype == dtype


def check_flag(name: str, value: Any) -> None:
    """Check that an argument is True or False: any text, ``"False"`` too, would count as True.

    Args:
        name: The name of the argument, for the message.
        value: Its value.

    Raises:
        TypeError: It is something else.

    Example:
        >>> check_flag("removal", "False")
        Traceback (most recent call last):
        TypeError: removal must be True or False; got 'False'
    """
    if not isinstance(value, (bool, numpy.bool_)):
        raise TypeError(f"{name} must be True or False; got {value!r}")


def check_text(name: str, value: str) -> None:
    r"""Check that UTF-8 can hold a text: a lone surrogate, half of a character, fails in tokenizers and files.

    Args:
        name: The name of the argument, for the message.
        value: The text.

    Raises:
        ValueError: It has a lone surrogate.

    Example:
        >>> check_text("text", "\ud800")
        Traceback (most recent call last):
        ValueError: text must not have lone surrogates; got '\ud800'
    """
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name} must not have lone surrogates; got {value!r}") from None


def check_plain(name: str, tensor: Tensor) -> None:
    """Check that a tensor is dense, not quantised, of a dtype with arithmetic, and holds data.

    Args:
        name: The name of the argument, for the message.
        tensor: The tensor.

    Raises:
        TypeError: It is sparse, nested, quantised, float8, or on the meta device.

    Example:
        >>> check_plain("inputs", torch.ones(2))
        >>> check_plain("inputs", torch.eye(2).to_sparse())
        Traceback (most recent call last):
        TypeError: inputs must be dense; got layout torch.sparse_coo. Convert it with .to_dense()
    """
    if tensor.is_nested:
        raise TypeError(f"{name} must be dense; got a nested tensor. Convert it with .to_padded_tensor(0.0)")
    if tensor.layout != torch.strided:
        raise TypeError(f"{name} must be dense; got layout {tensor.layout}. Convert it with .to_dense()")
    if tensor.is_quantized:
        raise TypeError(f"{name} must not be quantised; got {tensor.dtype}. Convert it with .dequantize()")
    if tensor.is_floating_point() and tensor.itemsize < 2:
        raise TypeError(f"{name} must be of a dtype with arithmetic; got {dtype_of(tensor)}. Convert it with .float()")
    if tensor.is_meta:
        raise TypeError(f"{name} must hold data; got a tensor on the meta device, which holds none")


def check_numbers(
    name: str, tensor: Any, shape: tuple[int | None, ...], dtype: torch.dtype = torch.float64, *, nan: bool = False
) -> None:
    """Check a tensor of a result.

    Args:
        name: The name of the argument, for the message.
        tensor: The tensor.
        shape: Its shape; None stands for any size from 1 on.
        dtype: Its dtype.
        nan: Whether it may hold NaN, for what is not known.

    Raises:
        TypeError: It is not a dense tensor of this dtype.
        ValueError: It has another shape, or a number is not finite.

    Example:
        >>> check_numbers("gap", torch.zeros(2, dtype=torch.float64), (None,))
        >>> check_numbers("gap", torch.zeros(2, dtype=torch.float64), (3,))
        Traceback (most recent call last):
        ValueError: gap must have the shape [3]; got [2]
    """
    if not is_tensor_of(tensor, dtype):
        raise TypeError(f"{name} must be a {dtype} tensor; got {kind_of(tensor)}")
    check_plain(name, tensor)
    sizes = tuple(tensor.shape)
    if len(sizes) != len(shape) or not all(
        size == wanted if wanted is not None else size for size, wanted in zip(sizes, shape, strict=True)
    ):
        free = ", None being any size from 1 on" if None in shape else ""
        raise ValueError(f"{name} must have the shape {list(shape)}{free}; got {list(sizes)}")
    wrong = tensor.isinf() if nan else ~tensor.isfinite()
    if bool(wrong.any()):
        raise ValueError(f"{name} must be finite; got {float(tensor[wrong][0])}")


def as_plain(name: str, value: Any) -> Tensor:
    """Return a tensor or an array of NumPy as a tensor on the CPU, once it is known to hold numbers.

    Args:
        name: The name of the argument, for the message.
        value: A tensor, or an array.

    Raises:
        TypeError: It holds objects, or no data; see :func:`check_plain`.

    Example:
        >>> as_plain("segments", numpy.array([0, 1]))
        tensor([0, 1])
        >>> as_plain("segments", numpy.array([None]))
        Traceback (most recent call last):
        TypeError: segments must hold numbers; got an array of object
    """
    if isinstance(value, Tensor):
        check_plain(name, value)
    elif value.dtype.kind not in "biufc":
        raise TypeError(f"{name} must hold numbers; got an array of {value.dtype}")
    return torch.as_tensor(value, device="cpu")
