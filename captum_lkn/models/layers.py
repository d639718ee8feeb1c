"""Layers: naming them, and reading them while a model runs.

A layer is a submodule at which a model's forward is read. What it puts out is brought to one row of numbers a
sample, its *feature*, by pooling; :class:`LayerReader` hands the features of one forward to whoever has a use for
them while they exist, and keeps what that makes of them, not the features.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from captum_lkn._common.messages import kind_of, some_of
from captum_lkn.models.model import Arguments, Model
from captum_lkn.models.names import find_module, modules, plain_name
from captum_lkn.models.pooling import Pool, check_pool, name_of, pooled, token_read_by_head

__all__ = ["OUTPUT", "Layer", "LayerLike", "LayerReader", "find_layers", "fingerprint"]

OUTPUT = "output"
"""The model's own output, where it stands among layers."""


@dataclass(frozen=True)
class Layer:
    """A layer, and how it is read; the name alone is enough for most.

    Attributes:
        name: Its dotted name in the model; or the module itself; or its number, where the model has one list of
            blocks.
        pool: How its output becomes a row of numbers a sample, see :mod:`captum_lkn.models.pooling`.
        call_index: Which of its calls in a forward, from 0. None: it is called once.
        input: Whether its input is read instead of its output.
        select: From what the layer puts out (or takes, a tuple of its arguments) to the tensor that is read. None
            takes a tensor as it is, the first tensor of a tuple, the ``last_hidden_state`` of a ``ModelOutput``.

    Raises:
        TypeError: Something is of another type.
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
        if isinstance(self.name, bool) or not isinstance(self.name, (str, int, nn.Module)):
            raise TypeError(f"a layer is a dotted name, a module or a number; got {kind_of(self.name)}")
        check_pool(self.pool)
        if self.select is not None and not callable(self.select):
            raise TypeError(f"select must be a function from a layer's output to a tensor; got {self.select!r}")
        if self.call_index is not None:
            if isinstance(self.call_index, bool) or not isinstance(self.call_index, int):
                raise TypeError(f"call_index must be an int; got {self.call_index!r}")
            if self.call_index < 0:
                raise ValueError(f"call_index counts a layer's calls in a forward from 0; got {self.call_index}")

    @property
    def label(self) -> str:
        """What it is called in results: its name, its ``[call_index]``, and ``(input)`` where that is read."""
        name = type(self.name).__name__ if isinstance(self.name, nn.Module) else str(self.name)
        call = "" if self.call_index is None else f"[{self.call_index}]"
        return f"{name}{call}{' (input)' if self.input else ''}"

    def describe(self) -> dict[str, Any]:
        """What it is, in what JSON can hold; functions by their names, with brackets behind."""
        return {
            "name": type(self.name).__name__ if isinstance(self.name, nn.Module) else self.name,
            "pool": self.pool if isinstance(self.pool, str) else f"{name_of(self.pool)}()",
            "call_index": self.call_index,
            "input": self.input,
            "select": None if self.select is None else f"{name_of(self.select)}()",
        }


LayerLike: TypeAlias = str | int | nn.Module | Layer
"""What names a layer."""


def find_layers(model: Model, layers: LayerLike | Sequence[LayerLike], *, input: bool = False) -> tuple[Layer, ...]:
    """The layers that are meant, by their full names.

    Args:
        model: Where they are.
        layers: One or several; the prefixes of wrappers (``module.``, ``_orig_mod.``) do not matter.
        input: Whether all of them are read at their inputs.

    Returns:
        The layers. One given as a module that the model does not contain keeps the module for a name.

    Raises:
        TypeError: Something names no layer.
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


def fingerprint(module: nn.Module) -> str:
    """What tells checkpoints apart: a SHA-256 over names, shapes and bytes of all parameters and buffers.

    Args:
        module: Any module; wrappers such as ``torch.compile``'s change nothing.

    Returns:
        64 hexadecimal digits.

    Example:
        >>> network = nn.Linear(2, 2)
        >>> before = fingerprint(network)
        >>> with torch.no_grad():
        ...     _ = network.bias.add_(1)
        >>> fingerprint(network) == before
        False
    """
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        if not isinstance(value, Tensor):
            continue  # extra state
        digest.update(f"{plain_name(name)} {value.dtype} {list(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


class LayerReader:
    """Reads layers while a model runs; its hooks are there inside ``with`` and gone behind it.

    Args:
        model: What runs, inside its ``session()``.
        layers: From :func:`find_layers`; none at all leaves a plain call of the model.

    Raises:
        ValueError: There are layers, and the model runs on several devices at once.

    Example:
        >>> network = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)).eval()
        >>> model = Model(network)
        >>> with model.session(), LayerReader(model, find_layers(model, "0")) as reader:
        ...     output, (feature,) = reader(Arguments((torch.ones(5, 4),)))
        >>> output.shape, feature.shape
        (torch.Size([5, 2]), torch.Size([5, 3]))
    """

    def __init__(self, model: Model, layers: Sequence[Layer]) -> None:
        self.layers = tuple(layers)
        if self.layers and isinstance(model.module, nn.DataParallel) and len(model.module.device_ids) > 1:
            raise ValueError(
                f"{model.name} runs on {len(model.module.device_ids)} devices at once, where a layer has no one "
                "output: give the model inside it, model.module"
            )
        self.model = model.eager if self.layers else model
        self._modules = [_module(self.model, layer) for layer in self.layers]
        self._tokens = token_read_by_head(self.model) if self.layers else "mean"
        self._hooks = ExitStack()
        self._forward: _Forward | None = None  # the one that runs

    def __enter__(self) -> LayerReader:
        with ExitStack() as hooks:  # taken back if one cannot be set
            if self.layers and self.model.module is not None:
                hooks.callback(self.model.module.register_forward_pre_hook(self._see_mask, with_kwargs=True).remove)
            for place, (layer, module) in enumerate(zip(self.layers, self._modules, strict=True)):
                hooks.callback(self._hook(place, layer, module).remove)
            self._hooks = hooks.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hooks.close()

    def __call__(
        self,
        arguments: Arguments,
        use: Callable[[int, Tensor], Tensor] | None = None,
        explained: Tensor | None = None,
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Run one forward.

        Args:
            arguments: What the model gets, R rows.
            use: From a layer's place and its feature ``[R, D]`` to what is kept of it. None keeps the feature.
            explained: Bool ``[R, T]``, the token whose output is explained; see
                :func:`captum_lkn.models.pooling.pooled`.

        Returns:
            The model's output, and what was kept, one thing a layer; it shares no memory with the model's tensors.

        Raises:
            TypeError: A layer puts out no tensor.
            ValueError: A layer does not run in this forward, or runs several times and no ``call_index`` says which
                is meant; its output has not R rows, or cannot be pooled as asked.
        """
        rows = len(arguments.inputs[0])
        mask = _attention_mask(self.model.forward_func, *self.model.arranged(arguments), rows) if self.layers else None
        forward = _Forward(len(self.layers), rows, mask, explained, use or (lambda _, feature: feature))
        self._forward = forward
        try:
            output = self.model(arguments)
        finally:
            self._forward = None
        for layer, calls in zip(self.layers, forward.calls, strict=True):
            _check_calls(layer, calls)
        return output, tuple(kept for kept in forward.kept if kept is not None)

    def _see_mask(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """What a function around the model makes of the inputs is what its layers see."""
        if self._forward is not None:
            mask = _attention_mask(module, args, kwargs, self._forward.rows)
            self._forward.mask = self._forward.mask if mask is None else mask

    def _hook(self, place: int, layer: Layer, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self._read(place, layer, module, (*args, *kwargs.values()))

        def after(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            self._read(place, layer, module, output)

        if layer.input:
            return module.register_forward_pre_hook(before, with_kwargs=True)
        return module.register_forward_hook(after)

    def _read(self, place: int, layer: Layer, module: nn.Module, raw: Any) -> None:
        forward = self._forward
        if forward is None:
            return  # a forward that is not ours
        call, forward.calls[place] = forward.calls[place], forward.calls[place] + 1
        if call != (layer.call_index or 0):
            return
        output, mask = _tensor_of(layer, raw), forward.mask
        if layer.select is None and output.dim() == 3 and _time_first(module, self.model):
            output = output.transpose(0, 1)
        if output.is_nested:
            output, mask = _padded(output)
        if output.dim() == 0 or len(output) != forward.rows:
            raise ValueError(
                f"layer {layer.label!r} {_verb(layer)} {kind_of(output)} in a forward of {forward.rows} rows: its "
                "first dimension must be the rows; give Layer(..., select=) that brings it there"
            )
        where = f"layer {layer.label!r}"
        feature = pooled(output, layer.pool, self._tokens, mask, explained=forward.explained, where=where)
        # A clone, since a feature may be a view: neither may its user write into the network, nor the layers behind,
        # which may work in place, into what is kept.
        forward.kept[place] = forward.use(place, feature.clone())


class _Forward:
    """What one forward collects."""

    def __init__(
        self,
        layers: int,
        rows: int,
        mask: Tensor | None,
        explained: Tensor | None,
        use: Callable[[int, Tensor], Tensor],
    ) -> None:
        self.calls = [0] * layers
        self.kept: list[Tensor | None] = [None] * layers
        self.rows = rows
        self.mask = mask
        self.explained = explained
        self.use = use


def _check_calls(layer: Layer, calls: int) -> None:
    if calls == 0:
        raise ValueError(
            f"layer {layer.label!r} did not run in the forward: name one that does. A list of modules does not run "
            "itself, and what runs inside a compiled function is not seen"
        )
    if layer.call_index is None and calls > 1:
        raise ValueError(
            f"layer {layer.label!r} runs {calls} times in a forward: say which run is meant, "
            f"Layer(..., call_index=0 to {calls - 1})"
        )
    if layer.call_index is not None and layer.call_index >= calls:
        raise ValueError(
            f"layer {layer.label!r} has call_index={layer.call_index}, and runs {calls} times in a forward: give "
            f"0 to {calls - 1}"
        )


def _tensor_of(layer: Layer, raw: Any) -> Tensor:
    if layer.select is not None:
        tensor = layer.select(raw)
        if not isinstance(tensor, Tensor):
            raise TypeError(f"select of layer {layer.label!r} returned {kind_of(tensor)}: it must return a tensor")
        return tensor
    if isinstance(raw, Tensor):
        return raw
    if isinstance(raw, Mapping):
        raw = [raw[key] for key in ("last_hidden_state", *raw) if key in raw]
    if isinstance(raw, (tuple, list)):
        tensors = [part for part in raw if isinstance(part, Tensor)]
        if tensors:
            return tensors[0]
    raise TypeError(
        f"layer {layer.label!r} {_verb(layer)} {kind_of(raw)} without a tensor in it: say "
        "with Layer(..., select=) how to get one"
    )


def _verb(layer: Layer) -> str:
    return "takes" if layer.input else "puts out"


def _time_first(module: nn.Module, model: Model) -> bool:
    """Whether a module puts out ``[T, R, D]``: recurrent modules and attention may, and all inside XLNet do."""
    function: Any = model.forward_func
    if getattr(getattr(function, "config", None), "model_type", "") == "xlnet":
        base = function.base_model
        return module is not base and any(module is inner for inner in base.modules())
    if isinstance(module, (nn.TransformerEncoder, nn.TransformerDecoder)):
        module = module.layers[0]
    return getattr(getattr(module, "self_attn", module), "batch_first", True) is False


def _padded(output: Tensor) -> tuple[Tensor, Tensor]:
    """``nn.TransformerEncoder`` drops padding by a nested tensor: the same with padding, and where it is not."""
    lengths = torch.tensor([len(row) for row in output.unbind()], device=output.device)
    padded = output.to_padded_tensor(0.0)
    return padded, torch.arange(padded.shape[1], device=output.device) < lengths[:, None]


def _attention_mask(
    function: Any, positional: tuple[Any, ...], keywords: Mapping[str, Any], rows: int
) -> Tensor | None:
    """Which tokens are real, ``[R, T]``, where a forward takes an ``attention_mask``, by keyword or by position."""
    mask = (dict(zip(_argument_names(function), positional, strict=False)) | dict(keywords)).get("attention_mask")
    if not isinstance(mask, Tensor) or mask.dim() != 2:
        return None
    return mask.expand(rows, -1) if len(mask) == 1 else mask


def _argument_names(function: Any) -> list[str]:
    try:
        return list(inspect.signature(function.forward if isinstance(function, nn.Module) else function).parameters)
    except ValueError:  # a builtin has none that are known
        return []


def _found(model: Model, given: Any, input: bool) -> Layer:
    layer = given if isinstance(given, Layer) else Layer(given)
    layer = replace(layer, input=layer.input or input)
    if model.module is None:
        if isinstance(layer.name, nn.Module):
            return layer
        raise ValueError(
            f"{model.name} is a function, in which the layer {layer.name!r} cannot be looked up: give the layer as a "
            "module, or the model itself as forward_func"
        )
    if not isinstance(layer.name, nn.Module):
        return replace(layer, name=find_module(model.module, layer.name)[0])
    name = next((name for name, module in modules(model.module) if module is layer.name), None)
    return layer if name is None else replace(layer, name=name)


def _module(model: Model, layer: Layer) -> nn.Module:
    if isinstance(layer.name, nn.Module):
        return layer.name
    assert model.module is not None  # find_layers has looked the name up in it
    return find_module(model.module, layer.name)[1]
