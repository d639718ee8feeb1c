"""Identities of models, functions and samples: SHA-256 digests that change when results may change."""

from __future__ import annotations

import dataclasses
import enum
import functools
import hashlib
import json
import os
import types
from collections.abc import Callable, Mapping, Set
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from captum_lkn._common.messages import kind_of
from captum_lkn.causal.continuation import Continuation
from captum_lkn.models.fingerprint import fingerprint
from captum_lkn.models.hugging_face.facts import computed_settings
from captum_lkn.models.wrappers import unwrapped

__all__ = ["identity"]

# Functions of these are known by their names, and the versions of the first two are in a study's settings.
_LIBRARIES: Final = ("captum_lkn", "torch", "captum", "numpy", "transformers", "math", "builtins", "_operator")

_PLAIN: Final = bool | int | float | str
_OF_MODULES: Final = frozenset(vars(nn.Module()))  # such as training, which is off while a study runs


def identity(thing: Any, where: str, version: str | None = None) -> str:
    """Return a digest of a model, a function, players or anything that they are made of.

    Modules count by their weights, their class and its ``repr``, with the config where there is one; functions by
    their code, and by what they close over and read of their module. Functions of this library and of torch count by
    name.

    Args:
        thing: The object.
        where: Its name in an error.
        version: A text that stands for all that cannot be read, such as an estimator. None: that is refused.

    Returns:
        64 hexadecimal digits.

    Raises:
        ValueError: Something cannot be read, and there is no version.

    Example:
        >>> first, second = (lambda x: x.sum(1)), (lambda x: x.prod(1))
        >>> identity(first, "the model") == identity(lambda x: x.sum(1), "the model")
        True
        >>> identity(first, "the model") == identity(second, "the model")
        False
    """
    described = [version, _Description(where, version is not None).of(thing)]
    return _sha256(json.dumps(described, sort_keys=True, separators=(",", ":")).encode())


def _sha256(content: bytes | memoryview) -> str:
    return hashlib.sha256(content).hexdigest()


class _Description:
    """Describes objects in JSON; `opaque` allows objects that cannot be read, which count by their type."""

    def __init__(self, where: str, opaque: bool) -> None:
        self._where = where
        self._opaque = opaque
        self._open: set[int] = set()  # objects that are being described, since functions may refer to themselves

    def of(self, thing: Any) -> Any:
        if thing is Ellipsis:
            return ["..."]
        if thing is None or (isinstance(thing, bool | int | str) and not isinstance(thing, enum.Enum)):
            return thing
        if isinstance(thing, float | complex | torch.dtype | torch.device | range | slice | os.PathLike | enum.Enum):
            return [type(thing).__name__, str(thing) if not isinstance(thing, float) else thing.hex()]
        if isinstance(thing, bytes):
            return ["bytes", thing.hex()]
        if isinstance(thing, Tensor) and not isinstance(thing, nn.Parameter) and thing.layout != torch.strided:
            return ["sparse", self.of(thing.to_dense())]
        if isinstance(thing, Tensor):
            plain = thing.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
            return ["tensor", str(thing.dtype), list(thing.shape), _sha256(plain)]
        if isinstance(thing, np.ndarray | np.generic) and thing.dtype.kind != "O":
            return ["array", str(thing.dtype), list(thing.shape), _sha256(np.ascontiguousarray(thing).tobytes())]
        if id(thing) in self._open:
            return ["itself", type(thing).__name__]
        self._open.add(id(thing))
        try:
            return self._of_parts(thing)
        finally:
            self._open.discard(id(thing))

    def _of_parts(self, thing: Any) -> Any:
        if isinstance(thing, nn.Module):
            return self._of_module(unwrapped(thing))
        if isinstance(thing, Continuation):
            return ["continuation", self.of(thing.module), self.of(thing.tokens), thing.share_prefixes]
        if isinstance(thing, Mapping):
            return ["mapping", sorted(([str(key), self.of(value)] for key, value in thing.items()), key=str)]
        if isinstance(thing, tuple | list):
            return [type(thing).__name__, [self.of(one) for one in thing]]
        if isinstance(thing, Set):
            return ["set", sorted((self.of(one) for one in thing), key=str)]
        if isinstance(thing, functools.partial):
            return ["partial", self.of(thing.func), self.of(thing.args), self.of(thing.keywords)]
        if isinstance(thing, types.MethodType):
            return ["method", thing.__func__.__qualname__, self.of(thing.__self__)]
        if isinstance(thing, types.ModuleType):
            return ["package", thing.__name__]
        if isinstance(thing, types.CodeType):
            return [thing.co_code.hex(), [self.of(one) for one in thing.co_consts], list(thing.co_names)]
        if isinstance(thing, types.FunctionType):
            return self._of_function(thing)
        if isinstance(thing, type | types.BuiltinFunctionType | types.MethodDescriptorType) or callable(
            getattr(thing, "__wrapped__", None)
        ):
            return ["named", getattr(thing, "__module__", None), getattr(thing, "__qualname__", str(thing))]
        name = f"{type(thing).__module__}.{type(thing).__qualname__}"
        if name.startswith("pandas.") and hasattr(thing, "to_csv"):
            return [name, str(thing.dtypes), _sha256(thing.to_csv().encode())]
        if dataclasses.is_dataclass(thing):
            return [name, [[one.name, self.of(getattr(thing, one.name))] for one in dataclasses.fields(thing)]]
        if self._opaque:
            return ["opaque", name]
        raise ValueError(
            f"{self._where} must be a module, or a function of what can be read, to tell studies apart; it has "
            f"{kind_of(thing)}. Give version=, a text that you change whenever it changes"
        )

    def _of_module(self, module: nn.Module) -> Any:
        own = [[name, *self._of_code(part)] for name, part in module.named_modules() if not _is_of_library(type(part))]
        shown = _sha256(repr(module).encode())
        return [
            "module",
            type(module).__qualname__,
            fingerprint(module),
            shown,
            self.of(computed_settings(module)),
            own,
        ]

    def _of_code(self, module: nn.Module) -> list[Any]:
        """Describe what weights and ``repr`` do not show of a user's own module: its forward, its numbers."""
        forward = type(module).forward
        kept = {
            name: value
            for name, value in vars(module).items()
            if name not in _OF_MODULES and isinstance(value, _PLAIN | types.FunctionType | functools.partial)
        }
        return [self.of(getattr(forward, "__code__", None)), self.of(kept)]

    def _of_function(self, function: Callable[..., Any]) -> Any:
        parts: Any = function
        library = _is_of_library(parts)
        if library and "<" not in parts.__qualname__:
            return ["named", parts.__module__, parts.__qualname__]
        read = (
            {} if library else {name: parts.__globals__[name] for name in _names(parts.__code__) & {*parts.__globals__}}
        )
        closed = [cell.cell_contents for cell in parts.__closure__ or ()]
        return ["function", *map(self.of, (parts.__code__, parts.__defaults__, parts.__kwdefaults__, closed, read))]


def _is_of_library(thing: Any) -> bool:
    return str(thing.__module__).partition(".")[0] in _LIBRARIES


def _names(code: types.CodeType) -> set[str]:
    """Return the names that a function and the functions inside it read."""
    inner = [one for one in code.co_consts if isinstance(one, types.CodeType)]
    return set(code.co_names).union(*map(_names, inner))
