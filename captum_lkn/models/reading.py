"""Reading layers while a model runs.

A layer's output becomes a row of numbers a sample, its *feature*, by pooling. :class:`LayerReader` hands the features
of a forward to a function while they exist, and keeps what that returns instead of the features.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType, TracebackType
from typing import Any, Final

import torch
from torch import Tensor, nn

from captum_lkn._common.messages import shape_of
from captum_lkn.models.arguments import Arguments, fresh
from captum_lkn.models.channels import Layout, layout_modules
from captum_lkn.models.head_reading import HeadReading, Tokens
from captum_lkn.models.hugging_face.padding import mask_of_tower, tower_of
from captum_lkn.models.layers import Layer, module_of
from captum_lkn.models.model import Model
from captum_lkn.models.padding import PaddingMasks, argument_names, attention_mask, masked_modules
from captum_lkn.models.pooling import Part, pooled
from captum_lkn.models.returned import rows_of
from captum_lkn.models.unnamed_padding import UnnamedPadding
from captum_lkn.models.wrappers import unwrapped
from captum_lkn.outputs.heads import Outputs

__all__ = ["LayerReader", "remove_hooks"]

_COUNTED: Final = ("mean", "rest", "last", "flatten")  # of real tokens
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


class LayerReader:
    """Reads layers while a model runs; its hooks are there inside ``with`` and gone behind it.

    Args:
        model: The model that runs, inside its ``session()``.
        layers: From :func:`captum_lkn.models.layers.find_layers`; without any it is a plain call of the model.

    Raises:
        ValueError: There are layers, and the model runs on several devices at once.

    Example:
        >>> from captum_lkn.models.layers import find_layers
        >>> network = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)).eval()
        >>> model = Model(network)
        >>> with model.session(), LayerReader(model, find_layers(model, "0")) as reader:
        ...     output, (feature,) = reader(Arguments((torch.ones(5, 4),)))
        >>> output.tensor.shape, feature.shape
        (torch.Size([5, 2]), torch.Size([5, 3]))
    """

    def __init__(self, model: Model, layers: Sequence[Layer]) -> None:
        self.layers = tuple(layers)
        if self.layers and isinstance(model.module, nn.DataParallel) and len(model.module.device_ids) > 1:
            raise ValueError(
                f"{model.name} runs on {len(model.module.device_ids)} devices at once, where a layer has no one "
                "output: give the model inside it, model.module"
            )
        if self.layers and isinstance(unwrapped(model.module), torch.jit.ScriptModule):
            raise ValueError(
                f"{model.name} is a scripted module, which takes no hooks, so that its layers cannot be read: give the "
                "module that it was made of"
            )
        self.model = model.eager if self.layers else model
        self._modules = [module_of(self.model, layer) for layer in self.layers]
        self._towers = [tower_of(self.model.forward_func, module) for module in self._modules]
        # The module also of a function that is bound to a model, such as a continuation's.
        self._head = HeadReading(self.model.module, self.model.name, self.layers)
        self._layout_modules = layout_modules(self.model.module) if self.layers else ()
        self._masked_modules = masked_modules(self.model.module) if self.layers else ()
        self._padding = UnnamedPadding(self._run_plainly)
        self.record: Callable[[Arguments], object] = lambda _: None  # called before each further forward
        self._hooked = self._hooks()
        self._forward: _Forward | None = None  # the one that runs

    def __enter__(self) -> LayerReader:
        self._hooked.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hooked.__exit__(kind, error, trace)

    @contextmanager
    def _hooks(self) -> Iterator[None]:
        """Set the hooks, and remove them whatever happens."""
        handles: list[torch.utils.hooks.RemovableHandle] = []
        # For an interrupt between the opening and the block that closes it: then the reader is collected.
        collected = weakref.finalize(self, remove_hooks, handles)
        collected.atexit = False
        try:
            try:
                if self.layers and self.model.module is not None:
                    seen = _weakly(self._see_arguments)
                    handles.append(self.model.module.register_forward_pre_hook(seen, with_kwargs=True))
                handles.extend(
                    m.register_forward_pre_hook(_weakly(self._see_mask), with_kwargs=True) for m in self._masked_modules
                )
                handles.extend(m.register_forward_hook(self._see_layout) for m in self._layout_modules)
                for place, (layer, module) in enumerate(zip(self.layers, self._modules, strict=True)):
                    handles.append(self._hook(place, layer, module))
                yield
            finally:
                remove_hooks(handles)
        finally:
            remove_hooks(handles)  # again, for an interrupt in the first
            collected.detach()

    def __call__(
        self,
        arguments: Arguments,
        use: Callable[[int, Tensor], Tensor] | None = None,
        explained: Tensor | None = None,
    ) -> tuple[Outputs, tuple[Tensor, ...]]:
        """Run one forward.

        Args:
            arguments: The model's arguments, R rows.
            use: A function from a layer's place and its feature ``[R, D]`` to what is kept of it. None keeps the
                feature.
            explained: Bool ``[R, T]``, the token whose output is explained; see
                :func:`captum_lkn.models.pooling.pooled`.

        Returns:
            The model's outputs, and one kept thing a layer, which shares no memory with the model's tensors.

        Raises:
            TypeError: A layer puts out no tensor.
            ValueError: A layer does not run in this forward, or runs several times and has no ``call_index``; its
                output has not R rows, or cannot be pooled as asked.
        """
        arranged = self.model.arranged(arguments)
        forward = _Forward(len(self.layers), len(arguments.inputs[0]), use or (lambda _, feature: feature))
        if self.layers:
            forward.see(self.model.forward_func, *arranged)
            forward.given = arguments
            forward.explained = explained
            forward.places = self.model.token_places(arguments, arranged[1])
        self._forward = forward
        try:
            outputs = self.model.call_arranged(arguments, *arranged)
        finally:
            self._forward = None
        if forward.waiting:
            for length in {tokens.length for tokens in forward.waiting if tokens.real is None}:
                if forward.mask is None:
                    self._padding.settle(arguments, length)
            self._find_head(forward, arguments, outputs.tensor)
            for tokens in forward.waiting:
                self._keep(forward, tokens)
        for layer, calls in zip(self.layers, forward.calls, strict=True):
            _check_calls(layer, calls)
        return outputs, tuple(kept for kept in forward.kept if kept is not None)

    @property
    def _running(self) -> _Forward | None:
        """The forward of this reader that runs in this thread; None in any other forward of the model."""
        forward = self._forward
        return forward if forward is not None and forward.thread == threading.get_ident() else None

    # Another thread may call a hook that was removed meanwhile, and then leaves out its keyword arguments.

    def _see_arguments(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any] = _NOTHING) -> None:
        """Take the mask that a function around the model hands to it, which is the one that its layers see."""
        forward = self._running
        if forward is not None:
            forward.see(module, args, kwargs)

    def _see_mask(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any] = _NOTHING) -> None:
        """Take the padding mask of a module of torch."""
        forward = self._running
        if forward is not None:
            forward.masks.see(module, args, kwargs)

    def _see_layout(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """Take where the channels are."""
        forward = self._running
        if forward is not None:
            forward.layout.see(module, output)

    def _hook(self, place: int, layer: Layer, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
        read = _weakly(self._read)

        def before(_: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any] = _NOTHING) -> None:
            read(place, layer, module, (*args, *kwargs.values()))

        def after(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            read(place, layer, module, output)

        if layer.input:
            return module.register_forward_pre_hook(before, with_kwargs=True)
        return module.register_forward_hook(after)

    def _read(self, place: int, layer: Layer, module: nn.Module, raw: Any) -> None:
        forward = self._running
        if forward is None:
            return
        call, forward.calls[place] = forward.calls[place], forward.calls[place] + 1
        if call != (layer.call_index or 0):
            return
        output, real = rows_of(layer, module, self.model, raw, forward.rows)
        second = output.dim() == 3 and layer.select is None and forward.layout.is_second(output)
        tokens = Tokens(place, output, second, real, is_packed=real is not None)
        if output.dim() == 3 and not callable(layer.pool) and not forward.is_explained(tokens):
            mask_may_come = real is None and (bool(self._masked_modules) or self._padding_is_open(forward, tokens))
            if mask_may_come or self._head.is_wanted(tokens):  # both are known at the end of this forward
                forward.waiting.append(tokens._replace(output=output.clone()))
                return
        self._keep(forward, tokens)

    def _find_head(self, forward: _Forward, arguments: Arguments, output: Tensor) -> None:
        """Find what the head takes of the tokens that wait for it, by a forward of its own."""
        wanted = [
            tokens._replace(real=self._mask_of(forward, tokens) if tokens.real is None else tokens.real)
            for tokens in forward.waiting
            # A head with an output for each token takes none before others.
            if self._head.is_wanted(tokens) and (output.dim() != 3 or output.shape[1] != tokens.length)
        ]
        self._head.find(lambda: self._run_plainly(arguments), forward.rows, wanted, forward.places)

    def _run_plainly(self, arguments: Arguments) -> Tensor:
        self.record(arguments)
        return self.model(fresh(arguments)).tensor

    def _keep(self, forward: _Forward, tokens: Tokens) -> None:
        """Pool a layer's output ``[R, ...]``, and keep what the user of the feature makes of it."""
        place, output, second, real, _ = tokens
        layer, where = self.layers[place], f"layer {self.layers[place].label!r}"
        parts = self._head.of(tokens, forward.places)
        if real is None and output.dim() == 3 and not callable(layer.pool):
            real = self._real_tokens(forward, tokens, parts if layer.pool == "auto" else (layer.pool,))
        feature = pooled(
            output,
            layer.pool,
            parts,
            real,
            explained=forward.explained,
            places=forward.places,
            channels_second=second,
            where=where,
        )
        # A clone, since a feature may be a view: neither may its user write into the network, nor the layers behind,
        # which may work in place, into what is kept.
        forward.kept[place] = forward.use(place, feature.clone())

    def _padding_is_open(self, forward: _Forward, tokens: Tokens) -> bool:
        """Return whether it is still to be found out what marks the padding of a layer's tokens."""
        counts = self.layers[tokens.place].pool != "cls" and forward.mask is None
        return counts and self._padding.is_open(forward.given, tokens.length)

    def _mask_of(self, forward: _Forward, tokens: Tokens) -> Tensor | None:
        """Return which tokens of a layer's output are real; None where no padding is known."""
        place, output, second = tokens[:3]
        module, where = self._modules[place], f"layer {self.layers[place].label!r}"
        each = output.transpose(1, 2) if second else output
        own = forward.masks.around(module, each)
        if own is not None:
            return own
        if forward.mask is not None or forward.keywords:
            mask = mask_of_tower(self._towers[place], self.model.forward_func, forward.keywords, forward.mask)
            if mask is not None or forward.mask is not None:
                return mask
        beside = forward.masks.beside(each, where)
        return self._padding.real(forward.given, tokens.length, where) if beside is None else beside

    def _real_tokens(self, forward: _Forward, tokens: Tokens, parts: Sequence[Part]) -> Tensor | None:
        """Return which tokens of a layer's output are real; None: all."""
        mask = self._mask_of(forward, tokens)
        is_open = mask is None and forward.mask is None and not forward.is_explained(tokens)
        counts = is_open and any(part in _COUNTED for part in parts)
        names = argument_names(self.model.forward_func) if counts else []
        unknown = self._padding.unknown(forward.given, tokens.length, names) if counts else None
        if unknown is not None:
            where = f"layer {self.layers[tokens.place].label!r}"
            raise ValueError(
                f"{where} puts out {shape_of(tokens.output)}, and {unknown!r} does not tell which of its tokens are "
                "padding: those that it may mark have an influence on the output, or the others have none. Give an "
                "attention_mask, 1 at real tokens, or a function as pool"
            )
        return mask


class _Forward:
    """The state of one forward."""

    def __init__(self, layers: int, rows: int, use: Callable[[int, Tensor], Tensor]) -> None:
        self.thread = threading.get_ident()
        self.calls = [0] * layers
        self.kept: list[Tensor | None] = [None] * layers
        self.waiting: list[Tokens] = []  # outputs that are pooled behind this forward
        self.rows = rows
        self.use = use
        self.mask: Tensor | None = None  # an attention mask
        self.masks = PaddingMasks()  # those of torch's own modules
        self.given = Arguments(())
        self.keywords: Mapping[str, Any] = {}
        self.explained: Tensor | None = None
        self.places: Mapping[str, Tensor] = {}
        self.layout = Layout()

    def see(self, function: Any, positional: Sequence[Any], keywords: Mapping[str, Any]) -> None:
        """Take what the arguments of the model, or of a function around it, tell of padding."""
        mask = attention_mask(function, positional, keywords, self.rows)
        self.mask = self.mask if mask is None else mask
        self.keywords = keywords

    def is_explained(self, tokens: Tokens) -> bool:
        """Return whether the token whose output is explained is known."""
        return self.explained is not None and self.explained.shape == (self.rows, tokens.length)


def _weakly(method: Callable[..., None]) -> Callable[..., None]:
    """Return a function that calls a method while its object lives, and does not keep the object alive.

    A reader that its hooks kept alive would not be collected, and its hooks would stay, after an interrupt between its
    opening and the block that closes it.
    """
    weak = weakref.WeakMethod(method)

    def call(*args: Any, **keywords: Any) -> None:
        alive = weak()
        if alive is not None:
            alive(*args, **keywords)

    return call


def remove_hooks(handles: Sequence[torch.utils.hooks.RemovableHandle]) -> None:
    """Remove hooks, those that were removed before too."""
    for handle in handles:
        handle.remove()


def _check_calls(layer: Layer, calls: int) -> None:
    if calls == 0:
        raise ValueError(
            f"layer {layer.label!r} did not run in the forward: name one that does. A list of modules does not run "
            "itself, and what runs inside a compiled function is not seen"
        )
    if layer.call_index is None and calls > 1:
        raise ValueError(
            f"layer {layer.label!r} runs {calls} times in a forward: choose one run, "
            f"Layer(..., call_index=0 to {calls - 1})"
        )
    if layer.call_index is not None and layer.call_index >= calls:
        raise ValueError(
            f"layer {layer.label!r} has call_index={layer.call_index}, and runs {calls} times in a forward: give "
            f"0 to {calls - 1}"
        )
