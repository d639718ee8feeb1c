"""Calling any model: an ``nn.Module``, any callable, a Hugging Face model.

A Hugging Face model is called by keyword, without a cache, and answers with ``.logits``; everything else is called
as Captum calls it, inputs and additional arguments by position. While it is used a model is in evaluation mode,
and afterwards it is as it was found.
"""

from __future__ import annotations

import copy
import difflib
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from captum_lkn._arguments import kind_of
from captum_lkn._warn import warn

__all__ = ["Arguments", "Model"]


@dataclass(frozen=True)
class Arguments:
    """What a forward function gets, for any number of rows.

    Attributes:
        inputs: The masked inputs, each ``[R, ...]``.
        names: Their keywords; None: by position.
        positional: Further arguments by position, behind the inputs.
        keywords: Further arguments by keyword.
    """

    inputs: tuple[Tensor, ...]
    names: tuple[str, ...] | None = None
    positional: tuple[Any, ...] = ()
    keywords: Mapping[str, Any] = field(default_factory=dict)

    def rows(self, samples: Tensor, batch: int) -> Arguments:
        """The same arguments with the rows of the given samples, int64 ``[R]``, for each further tensor.

        As in Captum, the first dimension of a further tensor is the batch; one of another length is passed on.
        """

        def expand(value: Any) -> Any:
            if isinstance(value, Tensor) and value.dim() and len(value) == batch:
                return value[samples.to(value.device)]
            return value

        positional = tuple(expand(value) for value in self.positional)
        return Arguments(self.inputs, self.names, positional, {k: expand(v) for k, v in self.keywords.items()})


class Model:
    """A forward function that can be called in one way, whatever it is.

    Args:
        forward_func: An ``nn.Module`` or any callable. One that has a ``config`` and a ``main_input_name`` is
            taken for a Hugging Face model.

    Raises:
        TypeError: ``forward_func`` cannot be called.

    Example:
        >>> model = Model(nn.Linear(3, 2).eval())
        >>> with model.session():
        ...     model(Arguments((torch.zeros(5, 3),))).shape
        torch.Size([5, 2])
    """

    def __init__(self, forward_func: Callable[..., Any]) -> None:
        if not callable(forward_func):
            raise TypeError(f"forward_func must be an nn.Module or a function; got {kind_of(forward_func)}")
        self.forward_func = forward_func
        function: Any = forward_func
        while isinstance(function, functools.partial):
            function = function.func
        owner = getattr(function, "__self__", None)
        self.module = next((m for m in (function, owner) if isinstance(m, nn.Module)), None)
        self._home: torch.device | None = None
        self.is_hugging_face = hasattr(forward_func, "config") and isinstance(
            getattr(forward_func, "main_input_name", None), str
        )

    @property
    def name(self) -> str:
        """The class of a module, the name of a function."""
        if self.module is not None:
            return type(self.module).__name__
        return str(getattr(self.forward_func, "__name__", type(self.forward_func).__name__))

    @property
    def eager(self) -> Model:
        """The same model, not compiled: ``torch.compile`` ignores hooks that are set after it."""
        original = getattr(self.forward_func, "_orig_mod", None)
        if not isinstance(original, nn.Module):
            return self
        plain = copy.copy(self)
        plain.forward_func = plain.module = original
        return plain

    @contextmanager
    def session(self) -> Iterator[None]:
        """Evaluation mode, no gradients; mode and random state are restored behind it, whatever happens."""
        flags = {} if self.module is None else {m: m.training for m in self.module.modules()}
        if any(flags.values()):
            warn(
                f"{self.name} is in training mode: it is evaluated in eval mode, and set back afterwards. Call "
                ".eval() on it to say so yourself",
            )
        self._home = self._device()
        devices = range(torch.cuda.device_count() if torch.cuda.is_initialized() else 0)  # type: ignore[no-untyped-call]
        try:
            for module in flags:
                module.training = False
            with torch.no_grad(), torch.random.fork_rng(devices=devices):
                yield
        finally:
            for module, training in flags.items():
                module.training = training

    def __call__(self, arguments: Arguments) -> Tensor:
        """Call the forward function.

        Args:
            arguments: What it gets.

        Returns:
            Its output, as a tensor.

        Raises:
            TypeError: It returned something that holds no tensor of outputs, or the arguments do not fit.
        """
        positional, keywords = self.arranged(arguments)
        positional = tuple(self._at_home(value) for value in positional)
        return _read(self.forward_func(*positional, **{k: self._at_home(v) for k, v in keywords.items()}))

    def arranged(self, arguments: Arguments) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What the forward function gets by position and by keyword: a Hugging Face model gets all by keyword.

        Args:
            arguments: What was given.

        Returns:
            Positional arguments and keyword arguments.

        Raises:
            TypeError: The arguments do not fit the forward function.
        """
        keywords = dict(arguments.keywords)
        if arguments.names is None:
            positional = (*arguments.inputs, *arguments.positional)
            return ((), self._by_keyword(positional, keywords)) if self.is_hugging_face else (positional, keywords)
        if arguments.positional:
            raise TypeError(
                f"the inputs go by keyword ({', '.join(arguments.names)}), so additional_forward_args must be a "
                f'mapping such as {{"attention_mask": mask}}; got {kind_of(arguments.positional[0])} by position'
            )
        masked = dict(zip(arguments.names, arguments.inputs, strict=True))
        twice = sorted(masked.keys() & keywords.keys())
        if twice:
            raise TypeError(f"additional_forward_args has {', '.join(twice)}, which the inputs have too: leave it out")
        return ((), self._by_keyword((), keywords | masked)) if self.is_hugging_face else ((), keywords | masked)

    def _by_keyword(self, positional: tuple[Any, ...], keywords: dict[str, Any]) -> dict[str, Any]:
        """A Hugging Face model's arguments: positions mean something else from model to model."""
        model: Any = self.forward_func
        parameters = self._parameters
        names = [name for name, p in parameters.items() if p.kind is p.POSITIONAL_OR_KEYWORD]
        for name in keywords.keys() - parameters.keys():
            close = difflib.get_close_matches(name, names, n=1, cutoff=0.85)
            if close:  # which the model's **kwargs would swallow
                raise TypeError(f"{self.name} has no argument {name!r}: did you mean {close[0]!r}?")
        if positional:
            embeds = positional[0].is_floating_point() and model.main_input_name == "input_ids"
            main = "inputs_embeds" if embeds else model.main_input_name
            if main in keywords:
                raise TypeError(f"additional_forward_args has {main}, which the inputs are: leave it out")
            keywords[main] = positional[0]
        if len(positional) > max(1, len(names)):
            raise TypeError(
                f"{self.name} takes {len(names)} arguments by position, and would get {len(positional)}: give "
                'additional_forward_args as a mapping, such as {"attention_mask": mask}'
            )
        for name, value in zip(names[1:], positional[1:], strict=False):
            if isinstance(value, Tensor) and name in ("past_key_values", "cache_params"):
                raise TypeError(
                    f"the second positional argument of {self.name} is {name}, its cache, and it would get "
                    f'{kind_of(value)}: give additional_forward_args={{"attention_mask": mask}}, by keyword'
                )
            if name in keywords:
                raise TypeError(f"{self.name} would get {name} twice, by position and by keyword: leave one out")
            keywords[name] = value
        config = model.config
        if "use_cache" in parameters and getattr(config, "use_cache", False):
            keywords.setdefault("use_cache", False)
        if getattr(config, "return_dict", True) is False:
            keywords.setdefault("return_dict", True)
        return keywords

    @functools.cached_property
    def _parameters(self) -> Mapping[str, inspect.Parameter]:
        """What a Hugging Face model's forward takes."""
        return inspect.signature(self.forward_func.forward).parameters  # type: ignore[attr-defined]

    def _device(self) -> torch.device | None:
        """Where the module lies, if it lies in one place that inputs can be moved to."""
        devices = set() if self.module is None else {p.device for p in self.module.parameters()}
        return devices.pop() if len(devices) == 1 and torch.device("meta") not in devices else None

    def _at_home(self, value: Any) -> Any:
        return value.to(self._home) if self._home is not None and isinstance(value, Tensor) else value

    def half_precision(self, output: Tensor) -> torch.dtype | None:
        """The dtype that coarsens the values: that of the output or of the parameters, if it is half."""
        dtypes = [output.dtype, *(() if self.module is None else (p.dtype for p in self.module.parameters()))]
        return next((d for d in dtypes if d in (torch.float16, torch.bfloat16)), None)


def _read(output: Any) -> Tensor:
    """The tensor of outputs in what a forward returned; a Python number is one value for the whole batch."""
    if isinstance(output, Tensor):
        return output
    if isinstance(output, (int, float)) and not isinstance(output, bool):
        return torch.tensor(output, dtype=torch.float64)
    logits = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    if isinstance(logits, Tensor):
        return logits
    entries = f" with {', '.join(map(str, output))}" if isinstance(output, Mapping) else ""
    raise TypeError(
        f"the forward returned {kind_of(output)}{entries}, neither a tensor nor something with .logits: wrap it in a "
        "function that returns the tensor to explain, e.g. lambda *args, **kwargs: model(*args, **kwargs)[0]"
    )
