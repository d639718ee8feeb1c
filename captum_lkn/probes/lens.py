"""Logit lens, the head of a model as a read-out of any of its layers.

The head of a Hugging Face model is found by watching one small forward: what runs behind the last block. What is found
must give the model's own logits from the last block's output, or it is refused.
"""

from __future__ import annotations

import copy
import difflib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, relu, silu

from captum_lkn._common.arguments import checked
from captum_lkn._common.memory import out_of_memory
from captum_lkn._common.messages import kind_of, shape_of, some_of
from captum_lkn.models.arguments import Arguments
from captum_lkn.models.blocks import last_block
from captum_lkn.models.hugging_face.examples import made_up_inputs
from captum_lkn.models.hugging_face.facts import is_encoder_decoder
from captum_lkn.models.layers import Layer, find_layers
from captum_lkn.models.model import Model
from captum_lkn.models.pooling import name_of
from captum_lkn.models.reading import LayerReader, remove_hooks

__all__ = ["LogitLens", "logit_lens"]

_T = TypeVar("_T")
_WAY_OUT = "Name the modules between the last block and the logits with modules=[...]"
# Functions that models apply between their modules.
_FUNCTIONS: tuple[Callable[[Tensor], Tensor], ...] = (relu, gelu, torch.tanh, silu)
_ROUNDING = {torch.float32: 1e-4, torch.float64: 1e-8}  # of a head that runs again, relatively; 0.05 of half precision


class _HeadError(ValueError):
    """Error about a head, which needs no further word of the forward in which it was looked for."""


class _Step(NamedTuple):
    """Part of a head, which takes tokens ``[R, T, D]`` (True), features ``[R, D]`` (False) or either (None)."""

    name: str
    function: Callable[[Tensor], Tensor]
    tokens: bool | None


@dataclass(frozen=True, eq=False)
class LogitLens:
    """Head of a model, applied to the features of any of its layers.

    It shares the model's parameters and none of its hooks, and is in eval mode whatever the model's mode.

    Attributes:
        model: Name of the model's class.
        steps: The parts of the head, in the order in which they are applied.
    """

    model: str
    steps: tuple[_Step, ...]

    def __call__(self, feature: Tensor) -> Tensor:
        """Return the logits of features.

        Args:
            feature: ``[R, D]``; converted to the dtype of the head's first weights.

        Returns:
            ``[R, C]``, in the head's dtype.

        Raises:
            RuntimeError: The feature does not fit the head.
        """
        x = feature.to(self._dtype or feature.dtype)
        for step in self.steps:
            if step.tokens is not None and step.tokens != (x.dim() == 3):
                x = x[:, None] if step.tokens else x[:, 0]
            put_out: Any = step.function(x)
            x = put_out[0] if isinstance(put_out, tuple) else put_out
        return x[:, 0] if x.dim() == 3 else x

    @property
    def _dtype(self) -> torch.dtype | None:
        modules = [step.function for step in self.steps if isinstance(step.function, nn.Module)]
        return next((p.dtype for module in modules for p in module.parameters() if p.is_floating_point()), None)

    def __repr__(self) -> str:
        return f"LogitLens of {self.model}: {' -> '.join(step.name for step in self.steps)}"


@checked("model")
def logit_lens(
    model: Callable[..., Any], modules: Sequence[str | nn.Module | Callable[[Tensor], Tensor]] | None = None
) -> LogitLens:
    """Return the model's own head as a read-out of any layer.

    The head of a Hugging Face model is found by watching one small forward: the modules that run between the last block
    and the logits. The head that was found is applied to the last block's feature, and must give the model's logits.
    A layer must be pooled as the head reads it, which ``pool="auto"`` does.

    Source: nostalgebraist, "interpreting GPT: the logit lens", 2020, here for any head.

    Args:
        model: A Hugging Face model; with `modules` any model.
        modules: The parts that are applied to a feature ``[R, D]``, in order: names of the model's modules, modules, or
            functions. None: found as above.

    Returns:
        A read-out.

    Raises:
        TypeError: An entry of `modules` is of another type.
        ValueError: The head is not found, or computes something between its modules; or a name is unknown.

    Example:
        >>> network = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)).eval()
        >>> lens = logit_lens(network, modules=["1", "2"])
        >>> lens
        LogitLens of Sequential: 1 -> 2
        >>> x = torch.ones(1, 4)
        >>> bool(torch.equal(lens(network[0](x)), network(x)))
        True
    """
    called = Model(model).eager
    if modules is not None:
        return LogitLens(called.name, _given(called, modules))
    if not called.is_hugging_face or called.module is None:
        raise ValueError(f"{called.name} is not a Hugging Face model, whose head could be found. {_WAY_OUT}")
    return _found(called, called.module)


def _given(model: Model, modules: Any) -> tuple[_Step, ...]:
    if isinstance(modules, str) or not isinstance(modules, Sequence) or not modules:
        raise TypeError(f"modules must be a list of names, modules or functions; got {modules!r}")
    return tuple(_given_step(model, part, i) for i, part in enumerate(modules))


def _given_step(model: Model, part: Any, place: int) -> _Step:
    if isinstance(part, str):
        names = {} if model.module is None else dict(model.module.named_modules())
        if part not in names:
            near = difflib.get_close_matches(part, names, n=3, cutoff=0.5)
            hint = f"did you mean {some_of([repr(name) for name in near])}?" if near else "give the module itself"
            raise ValueError(f"{model.name} has no module {part!r}, modules[{place}]: {hint}")
        return _Step(part, _unhooked(names[part]), None)
    if isinstance(part, nn.Module):
        return _Step(type(part).__name__, _unhooked(part), None)
    if callable(part):
        return _Step(name_of(part), part, None)
    raise TypeError(f"modules[{place}] must be a name, a module or a function; got {kind_of(part)}")


def _unhooked(module: nn.Module) -> nn.Module:
    """Return a copy of a module with the same parameters, in eval mode and without hooks.

    The lens runs inside a hook of the model; hooks of other layers on parts of the head must not run there.
    """
    shared = [*module.parameters(), *module.buffers()]
    twin = copy.deepcopy(module, {id(tensor): tensor for tensor in shared}).eval()
    for part in twin.modules():
        for hooks in (part._forward_hooks, part._forward_pre_hooks):
            hooks.clear()
    return twin


class _Run(NamedTuple):
    """Call of a module after the last block."""

    name: str
    module: nn.Module
    taken: Tensor
    output: Tensor


def _found(model: Model, root: nn.Module) -> LogitLens:
    """Find the head of a Hugging Face model by watching it run, and check it."""
    longest = _longest_list(model, root)
    one, several = _examples(model)
    with model.session():
        found = _tried(model, one, lambda: last_block(root, lambda: model(one), len(one.inputs[0])))
        name = longest if found is None else str(found.name)
        outputs, runs = _tried(model, one, lambda: _watch(model, root, root.get_submodule(name), one))
        steps = tuple(_chain(outputs[-1], runs))
        if not steps:
            raise ValueError(f"no module of {model.name} takes what its last block {name!r} puts out. {_WAY_OUT}")
        lens = LogitLens(model.name, steps)
        last = Layer(name, call_index=len(outputs) - 1)  # one block may run again and again
        for arguments in (one, several):
            _check(lens, model, last, arguments)
    return lens


def _examples(model: Model) -> tuple[Arguments, Arguments]:
    """Return made-up inputs, one token or image and a batch."""
    function: Any = model.forward_func
    try:
        made_up = made_up_inputs(function)
    except ValueError as error:
        raise ValueError(f"of the inputs of {model.name} no example can be made here ({error}). {_WAY_OUT}") from error
    if made_up is None:
        raise ValueError(
            f"{model.name} takes {function.main_input_name}, of which no example can be made here. {_WAY_OUT}"
        )
    return made_up


def _tried(model: Model, arguments: Arguments, run: Callable[[], _T]) -> _T:
    """Return what a forward on made-up inputs gives; its errors name the model, since the user gave no inputs."""
    try:
        return run()
    except _HeadError:
        raise
    except (IndexError, RuntimeError, TypeError, ValueError) as error:
        if out_of_memory(error):
            raise
        raise ValueError(
            f"the head of {model.name} is looked for on made-up inputs {shape_of(arguments.inputs[0])}, which it does "
            f"not take ({type(error).__name__}: {error}). {_WAY_OUT}"
        ) from error


def _check(lens: LogitLens, model: Model, last: Layer, arguments: Arguments) -> None:
    """Check that the lens gives the model's own logits from the output of the last block.

    A model with logits for each token is compared at the last token of each row.
    """
    real = arguments.keywords.get("attention_mask")
    at = None  # the last token of each row
    if real is not None:
        at = torch.arange(real.shape[1], device=real.device) == real.cumsum(1).argmax(1)[:, None]
    with LayerReader(model, find_layers(model, last)) as reader:
        (output, _), (feature,) = _tried(model, arguments, lambda: reader(arguments))
        if output.dim() == 3 and at is not None:
            (output, _), (feature,) = _tried(model, arguments, lambda: reader(arguments, explained=at))
    expected = output[at.to(output.device)] if output.dim() == 3 and at is not None else output
    try:
        found = lens(feature)
    except (IndexError, RuntimeError, TypeError, ValueError) as error:  # whatever does not fit the parts of a head
        raise ValueError(f"{lens} cannot be applied to the output of {last.name!r} ({error}). {_WAY_OUT}") from error
    if found.shape != expected.shape or not _close(found, expected):
        raise ValueError(
            f"{lens} gives other logits than the model itself ({shape_of(found)} for {shape_of(expected)}, of the last "
            f"block {last.name!r}), because the head computes something between these modules, or reads several tokens."
            f" {_WAY_OUT}, functions among them, and give Layer(..., pool=) the pooling of the head"
        )


def _longest_list(model: Model, root: nn.Module) -> str:
    """Return the name of the last block of the outermost list of blocks with the most parameters."""
    lists: dict[str, nn.ModuleList] = {}
    for name, module in root.named_modules():
        if isinstance(module, nn.ModuleList) and not any(name.startswith(f"{outer}.") for outer in lists):
            lists[name] = module
    if is_encoder_decoder(model.forward_func) or not any(map(len, lists.values())):
        raise ValueError(f"{model.name} has no single list of blocks, after which its head could be found. {_WAY_OUT}")
    name = max(lists, key=lambda key: sum(p.numel() for p in lists[key].parameters()))
    return f"{name}.{len(lists[name]) - 1}"


def _watch(model: Model, root: nn.Module, block: nn.Module, arguments: Arguments) -> tuple[list[Tensor], list[_Run]]:
    """Return the block's outputs, one for each call, and the outermost modules that ran after the last call."""
    runs: list[_Run] = []
    outputs: list[Tensor] = []
    open_runs: list[nn.Module] = []

    thread = threading.get_ident()  # forwards of other threads are not watched

    def before(module: nn.Module, *_: Any) -> None:
        if outputs and threading.get_ident() == thread:
            open_runs.append(module)

    def after(name: str) -> Callable[..., None]:
        def watch(module: nn.Module, args: tuple[Any, ...], kwargs: Any, output: Any = None) -> None:
            if threading.get_ident() != thread:
                return  # where a hook was removed meanwhile, the keyword arguments are left out
            tensor = _first_tensor((output,))
            if module is block and tensor is not None:
                outputs.append(tensor)
                runs.clear()
                open_runs.clear()
            elif open_runs and open_runs.pop() is module and not open_runs:
                taken = _first_tensor((*args, *kwargs.values()))
                if taken is not None and tensor is not None:
                    runs.append(_Run(name, module, taken, tensor))

        return watch

    handles: list[torch.utils.hooks.RemovableHandle] = []
    try:
        try:
            for name, module in root.named_modules():
                handles.append(module.register_forward_pre_hook(before))
                handles.append(module.register_forward_hook(after(name), with_kwargs=True))
            model(arguments)
        finally:
            remove_hooks(handles)
    finally:
        remove_hooks(handles)  # again, for an interrupt in the first
    if not outputs:
        raise _HeadError(f"the last block of {model.name} did not run, after which its head could be found. {_WAY_OUT}")
    return outputs, runs


def _chain(value: Tensor, runs: Sequence[_Run]) -> Iterator[_Step]:
    """Yield the steps from a value on: each takes the output of the one before, or a function of it."""
    for run in runs:
        if isinstance(run.module, nn.Dropout):
            continue  # without effect in eval mode
        if not _is_of(run.taken, value):
            between = next((function for function in _FUNCTIONS if _is_of(run.taken, function(value))), None)
            if between is None:
                continue  # a side branch
            yield _Step(name_of(between), between, None)
        yield _Step(run.name, _unhooked(run.module), run.taken.dim() == 3)
        value = run.output


def _is_of(taken: Tensor, value: Tensor) -> bool:
    """Return True where a module's input is this value, or one of its tokens."""
    views = [value] if value.dim() < 3 else [value, value[:, 0], value[:, -1]]
    return any(view.numel() == taken.numel() and torch.equal(view.flatten(), taken.flatten()) for view in views)


def _first_tensor(things: Sequence[Any]) -> Tensor | None:
    for thing in things:
        if isinstance(thing, Tensor):
            return thing
        if isinstance(thing, (tuple, list)) and thing and isinstance(thing[0], Tensor):
            return thing[0]
    return None


def _close(found: Tensor, expected: Tensor) -> bool:
    rounding = _ROUNDING.get(expected.dtype, 0.05)
    return float((found - expected).abs().max()) <= rounding * float(expected.abs().max())
