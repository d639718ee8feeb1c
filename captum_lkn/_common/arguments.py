"""Check the arguments of public functions against their annotations, before any work is done.

One place says that ``"0.1"`` is not a number, that ``True`` is not one, that ``"False"`` is not a flag, that a NaN is
not a setting, and that a tensor must hold data. Ranges, shapes and what belongs together are checked where they are
known: in the functions themselves.
"""

from __future__ import annotations

import builtins
import functools
import inspect
import math
import operator
import os
import types
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Annotated, Any, Final, Literal, SupportsIndex, TypeAlias, TypeVar, Union, get_args, get_origin

import numpy
import torch
from torch import Tensor

from captum_lkn._common.checks import check_plain, check_text, is_number, is_whole
from captum_lkn._common.messages import kind_of

__all__ = ["Count", "Positive", "checked", "shown"]

_Decorated = TypeVar("_Decorated", bound=Callable[..., Any])

Count: TypeAlias = Annotated[int, 0]
"""A whole number from 0."""

Positive: TypeAlias = Annotated[int, 1]
"""A whole number from 1."""

_LARGEST: Final = 2**63
"""Whole numbers from this on do not fit into the integers of torch and NumPy."""

_LONGEST: Final = 80
"""Number of characters of a value that a message quotes."""


def checked(*names: str) -> Callable[[_Decorated], _Decorated]:
    """Check arguments of a function, or of a class's constructor, against their annotations at each call.

    Checked are flags, numbers, texts, choices, tensors, mappings, sequences, callables and instances of classes.
    Whatever else an annotation names, such as a type variable or a class that is imported for type checkers alone,
    takes anything. A default is never checked.

    Args:
        names: The arguments that are checked; without any, all. The function itself checks the others.

    Returns:
        The decorator of a function, a method or a class.

    Raises:
        TypeError: At a call: an argument is not of the annotated type.
        ValueError: At a call: a number is NaN, infinite or too large, or a choice is not one of those possible.

    Example:
        >>> @checked()
        ... def wait(seconds: float, quietly: bool = False) -> None: ...
        >>> wait("0.1")
        Traceback (most recent call last):
        TypeError: seconds must be a number; got '0.1'
    """

    def decorate(function: _Decorated) -> _Decorated:
        if isinstance(function, type):
            function.__init__ = decorate(function.__init__)  # type: ignore[misc]
            return function
        check = _Check(function, names)

        def call(*args: Any, **kwargs: Any) -> Any:
            check(args, kwargs)
            return function(*args, **kwargs)

        # A doctest is found if the globals of its function are those of the module.
        local = types.FunctionType(call.__code__, function.__globals__, function.__name__, None, call.__closure__)
        return functools.wraps(function)(local)  # type: ignore[return-value]

    return decorate


def shown(value: Any) -> str:
    """Return a value as a message quotes it: a tensor by its dtype and shape, a long one shortened.

    Example:
        >>> import torch
        >>> shown("a"), shown([None]), shown(torch.ones(2))
        ("'a'", '[None]', 'a float32 tensor [2]')
    """
    if isinstance(value, Tensor):
        return "a {} tensor {}".format(*kind_of(value).split(" ", 1))
    try:
        text = repr(value)
    except Exception:
        return kind_of(value)
    return text if len(text) <= _LONGEST and "\n" not in text else kind_of(value)


class _Check:
    """The check of one function; its annotations are read at the first call, when all of the module's names exist."""

    def __init__(self, function: Callable[..., Any], only: Sequence[str]) -> None:
        self.function = function
        self.only = only

    @functools.cached_property
    def signature(self) -> inspect.Signature:
        return inspect.signature(self.function)

    @functools.cached_property
    def hints(self) -> dict[str, Any]:
        names = _Names(self.function.__globals__)
        return {
            name: _evaluated(parameter.annotation, names)
            for name, parameter in self.signature.parameters.items()
            if parameter.annotation is not parameter.empty
            and (not self.only or name in self.only)
            and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        }

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        try:
            given = self.signature.bind(*args, **kwargs).arguments
        except TypeError:
            return  # Python's own error comes with the call
        parameters = self.signature.parameters
        for name, value in given.items():
            if name in self.hints and value is not parameters[name].default:
                _check_one(name, value, self.hints[name])


class _Names(dict[str, Any]):
    """The names of a module; one that only type checkers import stands for anything."""

    def __missing__(self, name: str) -> Any:
        return getattr(builtins, name, Any)


def _evaluated(annotation: Any, names: Mapping[str, Any]) -> Any:
    """Return an annotation as an object; what cannot be evaluated, such as a part of a missing name, is Any."""
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, {}, names)  # the text stands in this library
    except (TypeError, AttributeError):
        return Any


def _check_one(name: str, value: Any, hint: Any) -> None:
    if _fits(value, hint):
        if hint is not Any:
            _check_inside(name, value, _takes_paths(get_args(hint)))
    elif is_number(value) and _fits(0.0, hint):
        raise ValueError(f"{name} must be finite{_or_none(hint)}; got {shown(value)}")
    elif is_whole(value) and -_LARGEST <= value < _LARGEST and _fits(1, hint):
        raise ValueError(f"{name} must be {_described(hint)}; got {value}")
    elif is_whole(value) and _fits(1, hint):
        raise ValueError(f"{name} must be from -2^63 to 2^63 - 1{_or_none(hint)}; got {value}")
    elif isinstance(value, str) and _fits(value, _loosened(hint)):
        raise ValueError(f"{name} must be {_described(hint)}; got {value!r}")
    else:
        advice = f". Give torch.as_tensor({name})" if _is_array_for(value, hint) else ""
        raise TypeError(f"{name} must be {_described(hint)}; got {shown(value)}{advice}")


def _or_none(hint: Any) -> str:
    return " or None" if _fits(None, hint) else ""


def _check_inside(name: str, value: Any, is_path: bool) -> None:
    """Check that tensors hold data, in a form that all operations of torch take, and texts what UTF-8 can hold."""
    if isinstance(value, Tensor):
        check_plain(name, value)
    elif isinstance(value, str) and not is_path:
        check_text(name, value)
    elif type(value) in (tuple, list):
        for one in value:
            _check_inside(name, one, is_path)


def _is_array_for(value: Any, hint: Any) -> bool:
    return hint is Tensor and isinstance(value, list | tuple | numpy.ndarray)


def _fits(value: Any, hint: Any) -> bool:
    """Return whether a value is one that an annotation names; what is not known fits."""
    if hint is Any:
        return True
    if hint is None or hint is types.NoneType:
        return value is None
    if hint is bool:
        return isinstance(value, bool | numpy.bool_)
    if hint is int:
        return is_whole(value) and -_LARGEST <= value < _LARGEST
    if hint is float:
        return _is_finite(value)
    if hint is SupportsIndex:
        return not isinstance(value, bool) and _is_index(value)
    if isinstance(hint, type) and not get_args(hint):
        return getattr(hint, "_is_protocol", False) or isinstance(value, hint)
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _fits(value, parts[0]) and value >= parts[1]
    if origin in (Union, types.UnionType):
        if torch.device in parts and isinstance(value, torch.device | str):
            return _is_device(value)
        if isinstance(value, str) and _takes_paths(parts):
            return _is_path(value)
        return any(_fits(value, part) for part in parts)
    if origin is Literal:
        return isinstance(value, str | int) and value in parts
    if origin is Callable:
        return callable(value)
    if isinstance(origin, type):
        return _fits_container(value, origin, parts)
    return True


def _fits_container(value: Any, origin: type, parts: tuple[Any, ...]) -> bool:
    """Return whether a value is a mapping, or holds elements that fit; a list serves for a tuple."""
    if issubclass(origin, Mapping):
        return isinstance(value, Mapping) and (
            type(value) is not dict or all(_fits(k, parts[0]) and _fits(v, parts[1]) for k, v in value.items())
        )
    if origin is numpy.ndarray or not issubclass(origin, Iterable):
        return isinstance(value, origin)
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        return False
    if issubclass(origin, Sequence) and isinstance(value, Mapping | Set):
        return False
    if isinstance(value, Tensor):  # its rows are tensors
        return origin is Iterable and Any in parts
    if not isinstance(value, list | tuple | Mapping | Set | numpy.ndarray):
        return True  # it may be read only once
    if len(parts) == 1 or parts[1:] == (...,):
        return all(_fits(one, parts[0]) for one in value)
    return len(value) == len(parts) and all(map(_fits, value, parts))


def _is_path(value: Any) -> bool:
    try:
        return os.fsencode(value) is not None
    except (TypeError, UnicodeEncodeError):
        return False


def _takes_paths(parts: tuple[Any, ...]) -> bool:
    return any(get_origin(part) is os.PathLike for part in parts)


def _is_device(value: Any) -> bool:
    """Return whether tensors with data can be made on a device of this name."""
    try:
        return torch.empty(1, device=value).device.type != "meta"
    except (RuntimeError, AssertionError, NotImplementedError, TypeError):
        return False


def _is_finite(value: Any) -> bool:
    if isinstance(value, Tensor):  # one number
        return value.numel() == 1 and not value.is_complex()
    try:
        return is_number(value) and math.isfinite(value)
    except OverflowError:
        return False


def _is_index(value: Any) -> bool:
    try:
        return -_LARGEST <= operator.index(value) < _LARGEST
    except Exception:  # a tensor of several numbers, or without data
        return False


def _loosened(hint: Any) -> Any:
    """Return an annotation with any text in the place of a choice."""
    if get_origin(hint) is Literal:
        return str
    if get_origin(hint) in (Union, types.UnionType):
        return Union[tuple(map(_loosened, get_args(hint)))]  # noqa: UP007 - of parts that are known at run time alone
    return hint


_DESCRIPTIONS: Final[dict[Any, str]] = {
    None: "None",
    types.NoneType: "None",
    bool: "True or False",
    int: "a whole number",
    SupportsIndex: "a whole number",
    float: "a number",
    str: "text",
    Tensor: "a tensor",
}


def _described(hint: Any) -> str:
    """Return an annotation in words."""
    if hint in _DESCRIPTIONS:
        return _DESCRIPTIONS[hint]
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return f"{_described(parts[0])} from {parts[1]}"
    if origin in (Union, types.UnionType):
        if torch.device in parts:
            return "a device of this machine"
        if _takes_paths(parts):
            return "a path" + (" or None" if types.NoneType in parts else "")
        return " or ".join(dict.fromkeys(map(_described, parts)))
    if origin is Literal:
        return f"{'one of ' if len(parts) > 2 else ''}{(', ' if len(parts) > 2 else ' or ').join(map(repr, parts))}"
    if origin is Callable:
        return "a function"
    if isinstance(origin, type):
        return _described_container(origin, parts)
    if isinstance(hint, type):
        return (
            "a path"
            if hint.__name__ == "PathLike"
            else f"{'an' if hint.__name__[0] in 'AEIO' else 'a'} {hint.__name__}"
        )
    return "another type"


def _described_container(origin: type, parts: tuple[Any, ...]) -> str:
    if issubclass(origin, Mapping):
        return "a mapping"
    if not issubclass(origin, Iterable):
        return f"a {origin.__name__}"
    kind = {"tuple": "a tuple", "list": "a list"}.get(origin.__name__, "a sequence")
    if len(parts) == 1 or parts[1:] == (...,):
        return f"{kind} of {_PLURALS.get(parts[0], 'values')}"
    return f"{kind} of {' and '.join(map(_described, parts))}"


_PLURALS: Final[dict[Any, str]] = {str: "texts", int: "whole numbers", float: "numbers", Tensor: "tensors"}
