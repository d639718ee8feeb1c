"""Attributes of results whose methods are in a package above."""

from __future__ import annotations

import importlib
from types import MethodType
from typing import Any

__all__ = ["Accessor", "Bound", "Delegate"]


class Bound:
    """Functions as methods of one result: each takes the result as its first argument.

    Args:
        functions: The functions by the names that they get here.
        result: The result.

    Example:
        >>> Bound({"size": len}, [1, 2, 3]).size()
        3
    """

    def __init__(self, functions: dict[str, Any], result: Any) -> None:
        self._functions = functions
        self._result = result

    def __getattr__(self, name: str) -> Any:
        functions = self.__dict__.get("_functions", {})  # a copy being unpickled has none yet
        if name not in functions:
            raise AttributeError(f"there is no {name!r} here; there are {', '.join(functions)}")
        return MethodType(functions[name], self._result)

    def __dir__(self) -> list[str]:
        return sorted(self._functions)

    def __repr__(self) -> str:
        return f"methods of {type(self._result).__name__}: {', '.join(self._functions)}"


class Accessor:
    """Descriptor whose methods are found by name, in a module that is imported at their first use.

    A result must not import a package above it, such as the one that draws pictures. It names that package's table of
    functions, as pandas names its plotting backend.

    Args:
        module: The module.
        table: The name of its dict of functions.

    Example:
        >>> class Result:
        ...     plot = Accessor("captum_lkn.plot.accessors", "INTERACTIONS")
        >>> "waterfall" in dir(Result().plot)
        True
    """

    def __init__(self, module: str, table: str) -> None:
        self.module = module
        self.table = table

    def __get__(self, result: Any, owner: type | None = None) -> Any:
        """Return the methods of a result, or of a class this descriptor."""
        if result is None:
            return self
        return Bound(getattr(importlib.import_module(self.module), self.table), result)


class Delegate:
    """Descriptor of one method that is a function of a package above; it takes the result as its first argument.

    Args:
        module: The module of the function, imported at its first use.
        name: The name of the function.

    Example:
        >>> class Result:
        ...     to_networkx = Delegate("captum_lkn.interop", "to_networkx")
        >>> Result.to_networkx.__name__
        'to_networkx'
    """

    def __init__(self, module: str, name: str) -> None:
        self.module = module
        self.name = name

    def __get__(self, result: Any, owner: type | None = None) -> Any:
        """Return the method of a result, or of a class the function."""
        function = getattr(importlib.import_module(self.module), self.name)
        return function if result is None else MethodType(function, result)
