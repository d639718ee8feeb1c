"""Layers: the modules whose outputs are read, and how each becomes a row of numbers a sample.

:mod:`captum_lkn.models.reading` reads them while a model runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from torch import Tensor, nn

from captum_lkn._common.checks import check_flag, is_whole
from captum_lkn._common.messages import kind_of, some_of
from captum_lkn.models.model import Model
from captum_lkn.models.names import find_module, modules
from captum_lkn.models.pooling import Pool, check_pool, name_of

__all__ = ["OUTPUT", "Layer", "LayerLike", "find_layers", "has_layer_named_output", "is_output", "module_of"]

OUTPUT: Final = "output"
"""The model's own output, where it stands among layers."""


@dataclass(frozen=True)
class Layer:
    """A layer, and how it is read. The name alone is enough for most.

    Attributes:
        name: Its dotted name in the model; or the module itself; or its number, where the model has one list of
            blocks.
        pool: The pooling that makes a row of numbers a sample of its output, see :mod:`captum_lkn.models.pooling`.
        call_index: The number of the call that is read, from 0, where it is called several times in a forward. None
            means that it is called once.
        input: True to read its input instead of its output.
        select: A function from what the layer puts out (or takes, a tuple of its arguments) to the tensor that is
            read. None takes a tensor as it is, the first tensor of a tuple, the ``last_hidden_state`` of a
            ``ModelOutput``.

    Raises:
        TypeError: A value of another type.
        ValueError: An unknown pooling, a negative ``call_index``.

    Example:
        >>> Layer("encoder.layer.3", pool="mean", call_index=1).label
        'encoder.layer.3[1]'
    """

    name: str | int | nn.Module
    pool: Pool = "auto"
    call_index: int | None = None
    input: bool = False
    select: Callable[[Any], Tensor] | None = None

    def __post_init__(self) -> None:
        if is_whole(self.name):  # also NumPy's, which JSON does not hold
            object.__setattr__(self, "name", int(self.name))  # type: ignore[arg-type]
        elif not isinstance(self.name, (str, nn.Module)):
            raise TypeError(f"a layer must be a dotted name, a module or a number; got {kind_of(self.name)}")
        check_flag("input", self.input)
        check_pool(self.pool)
        if self.select is not None and not callable(self.select):
            raise TypeError(f"select must be a function from a layer's output to a tensor; got {self.select!r}")
        if self.call_index is not None:
            if not is_whole(self.call_index):
                raise TypeError(f"call_index must be an int; got {self.call_index!r}")
            object.__setattr__(self, "call_index", int(self.call_index))
            if self.call_index < 0:
                raise ValueError(
                    f"call_index must be 0 or more, the number of a call in a forward; got {self.call_index}"
                )

    @property
    def label(self) -> str:
        """The name of the layer in results, with its ``[call_index]``, and ``(input)`` where that is read.

        A layer that is called ``output`` is ``"output (layer)"``, since ``"output"`` is the model's own output.
        """
        name = type(self.name).__name__ if isinstance(self.name, nn.Module) else str(self.name)
        call = "" if self.call_index is None else f"[{self.call_index}]"
        label = f"{name}{call}{' (input)' if self.input else ''}"
        return f"{OUTPUT} (layer)" if label == OUTPUT else label

    def describe(self) -> dict[str, Any]:
        """Return the settings as values that JSON can hold; functions by their names, with brackets behind."""
        return {
            "name": type(self.name).__name__ if isinstance(self.name, nn.Module) else self.name,
            "pool": self.pool if isinstance(self.pool, str) else f"{name_of(self.pool)}()",
            "call_index": self.call_index,
            "input": self.input,
            "select": None if self.select is None else f"{name_of(self.select)}()",
        }


LayerLike: TypeAlias = str | int | nn.Module | Layer
"""Anything that names a layer."""


def find_layers(model: Model, layers: LayerLike | Sequence[LayerLike], *, input: bool = False) -> tuple[Layer, ...]:
    """Return the given layers by their full names.

    Args:
        model: The model that has them.
        layers: One or several; the prefixes of wrappers (``module.``, ``_orig_mod.``) do not matter.
        input: True to read all of them at their inputs.

    Returns:
        The layers. One given as a module that the model does not contain keeps the module for a name.

    Raises:
        TypeError: An entry names no layer.
        ValueError: No layer is given, one is unknown, or two have the same label.

    Example:
        >>> network = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> [layer.label for layer in find_layers(Model(network), [0, network[1]])]
        ['0', '1']
    """
    several = isinstance(layers, Sequence) and not isinstance(layers, str)
    given: list[Any] = list(layers) if several else [layers]  # type: ignore[arg-type]
    if not given:
        raise ValueError("layers is empty: give at least one name")
    found = tuple(_found(model, layer, input) for layer in given)
    labels = [layer.label for layer in found]
    if twice := sorted({label for label in labels if labels.count(label) > 1}):
        raise ValueError(
            f"layers has {some_of(twice)} more than once: give each once, tell calls apart by call_index; modules of a "
            "function have no names, so give the model itself as forward_func"
        )
    return found


def is_output(layer: Any) -> bool:
    """Return whether something that names a layer is the str ``"output"``, the model's own output."""
    return isinstance(layer, str) and layer == OUTPUT


def has_layer_named_output(model: Model) -> bool:
    """Return whether a model has a module that is called ``output``, so that the name alone is ambiguous.

    Example:
        >>> has_layer_named_output(Model(nn.Linear(3, 2)))
        False
    """
    try:
        return model.module is not None and bool(find_module(model.module, OUTPUT))
    except ValueError:
        return False


def module_of(model: Model, layer: Layer) -> nn.Module:
    """Return the module of a layer.

    Args:
        model: The model that has it.
        layer: From :func:`find_layers`.

    Returns:
        The module.

    Raises:
        ValueError: The model is a function, which has no names, or has no such module.
    """
    if isinstance(layer.name, nn.Module):
        return layer.name
    return find_module(_root(model, layer), layer.name)[1]


def _found(model: Model, given: Any, input: bool) -> Layer:
    layer = given if isinstance(given, Layer) else Layer(given)
    layer = replace(layer, input=layer.input or input)
    if not isinstance(layer.name, nn.Module):
        return replace(layer, name=find_module(_root(model, layer), layer.name)[0])
    known = () if model.module is None else modules(model.module)
    name = next((name for name, module in known if module is layer.name), None)
    return layer if name is None else replace(layer, name=name)


def _root(model: Model, layer: Layer) -> nn.Module:
    if model.module is None:
        raise ValueError(
            f"{model.name} is a function, in which the layer {layer.name!r} cannot be looked up: give the layer as a "
            "module, or the model itself as forward_func"
        )
    return model.module
