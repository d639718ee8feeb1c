"""Calling any model: an ``nn.Module``, any callable, a Hugging Face model.

A Hugging Face model is called by keyword, see :mod:`captum_lkn.models.hugging_face`; everything else is called as
Captum calls it, inputs and additional arguments by position. While it is used a model is in evaluation mode, and
afterwards it is as it was found.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from captum_lkn._common.messages import kind_of
from captum_lkn._common.warn import warn
from captum_lkn.models.hugging_face import HuggingFace, is_hugging_face, of_pipeline
from captum_lkn.outputs.heads import SelectOutput
from captum_lkn.outputs.scores import OutputKind, Score

__all__ = ["Arguments", "Model"]


@dataclass(frozen=True)
class Arguments:
    """What a forward function gets, for any number of rows.

    Attributes:
        inputs: The masked inputs, each ``[R, ...]``.
        names: Their keywords; None: by position.
        positional: Further arguments by position, behind the inputs.
        keywords: Further arguments by keyword.
        unmasked: What the inputs are without a mask, for models whose reading depends on it; after :meth:`rows` a
            row for each of theirs. None: not known.
    """

    inputs: tuple[Tensor, ...]
    names: tuple[str, ...] | None = None
    positional: tuple[Any, ...] = ()
    keywords: Mapping[str, Any] = field(default_factory=dict)
    unmasked: tuple[Tensor, ...] | None = None

    def rows(self, samples: Tensor, batch: int) -> Arguments:
        """The same arguments with the rows of the given samples, int64 ``[R]``, for each further tensor.

        As in Captum, the first dimension of a further tensor is the batch; one of another length is passed on.
        """

        def expand(value: Any) -> Any:
            if isinstance(value, Tensor) and value.dim() and len(value) == batch:
                return value[samples.to(value.device)]
            return value

        return Arguments(
            self.inputs,
            self.names,
            tuple(expand(value) for value in self.positional),
            {name: expand(value) for name, value in self.keywords.items()},
            None if self.unmasked is None else tuple(x[samples.to(x.device)] for x in self.unmasked),
        )


class Model:
    """A forward function that can be called in one way, whatever it is.

    Args:
        forward_func: An ``nn.Module`` or any callable; a :class:`~captum_lkn.outputs.heads.SelectOutput`, which selects
            the output; or a pipeline of `transformers`, for its model. What has a ``config`` and a ``main_input_name``,
            also inside ``DataParallel`` or ``torch.compile``, is taken for a Hugging Face model.

    Attributes:
        forward_func: What is called.
        module: The ``nn.Module`` that it is or belongs to, with the wrappers that it has; None: a function.

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
        head = forward_func if isinstance(forward_func, SelectOutput) else SelectOutput(forward_func)
        self._outputs = head.outputs
        self.forward_func: Any = of_pipeline(head.model)
        function: Any = self.forward_func
        while isinstance(function, functools.partial):
            function = function.func
        owner = getattr(function, "__self__", None)
        self.module = next((m for m in (function, owner) if isinstance(m, nn.Module)), None)
        inner = _unwrapped(self.forward_func)
        self._hugging_face = HuggingFace(inner) if is_hugging_face(inner) else None
        self._home: torch.device | None = None
        self._compiled_parts = False  # only the eager model minds them

    @property
    def is_hugging_face(self) -> bool:
        """Whether it is called by keyword, as a model of `transformers`."""
        return self._hugging_face is not None

    @property
    def parameters(self) -> Mapping[str, inspect.Parameter]:
        """What the forward of a Hugging Face model takes; of anything else nothing is known."""
        return {} if self._hugging_face is None else self._hugging_face.parameters

    @property
    def output_kind(self) -> OutputKind:
        """The columns of the output: classes, unless a Hugging Face model says that they are labels or values."""
        return "classes" if self._hugging_face is None else self._hugging_face.output_kind

    def score_for_model(self, score: Score) -> Score:
        """Return a score for this model's outputs; see :meth:`captum_lkn.outputs.scores.Score.for_outputs`."""
        return score.for_outputs(self.output_kind)

    @property
    def name(self) -> str:
        """The class of a module, without ``DataParallel`` or ``torch.compile`` around it; the name of a function."""
        if self.module is not None:
            return type(_unwrapped(self.module)).__name__
        return str(getattr(self.forward_func, "__name__", type(self.forward_func).__name__))

    @property
    def eager(self) -> Model:
        """The same model without wrappers, in which hooks are called.

        ``torch.compile`` ignores hooks that are set after it, ``DataParallel`` calls them in copies of the module.
        """
        plain = copy.copy(self)
        if self.module is self.forward_func:
            plain.forward_func = plain.module = _unwrapped(self.forward_func)
        # Parts may be compiled by themselves, and .compile() leaves no wrapper.
        # So may the function be that calls them.
        parts = [] if plain.module is None else plain.module.modules()
        of_function = hasattr(self.forward_func, "_torchdynamo_orig_callable")
        plain._compiled_parts = of_function or any(map(_is_compiled, parts))
        return plain

    @contextmanager
    def session(self) -> Iterator[None]:
        """Evaluation mode, no gradients; mode and random state are restored behind it, whatever happens.

        Raises:
            ValueError: The model has no weights.

        Warns:
            UserWarning: The model is in training mode.
        """
        self._check_weights()
        flags = {} if self.module is None else {m: m.training for m in self.module.modules()}
        if any(flags.values()):
            warn(
                f"{self.name} is in training mode: it is evaluated in eval mode, and set back afterwards. Call "
                ".eval() on it to say so yourself",
            )
        self._home = self.device
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
            ValueError: A Hugging Face model has no weights for such inputs, see
                :meth:`captum_lkn.models.hugging_face.HuggingFace.check`.
        """
        positional, keywords = self.arranged(arguments)
        with _uncompiled() if self._compiled_parts else nullcontext():
            if self._hugging_face is not None:
                return self._outputs(self._call_hugging_face(self._hugging_face, keywords, _unmasked(arguments)))
            positional = tuple(self._at_home(value) for value in positional)
            return self._outputs(self.forward_func(*positional, **{k: self._at_home(v) for k, v in keywords.items()}))

    def _call_hugging_face(self, called: HuggingFace, keywords: dict[str, Any], unmasked: Mapping[str, Tensor]) -> Any:
        called.check(keywords)
        given, unmasked = ({name: self._at_home(value) for name, value in x.items()} for x in (keywords, unmasked))
        with called.reading_kept(given, unmasked) as kept:
            try:
                return self.forward_func(**kept)
            except ValueError as error:
                raise called.refusal(error, keywords) or error from error

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
        positional: tuple[Any, ...] = (*arguments.inputs, *arguments.positional)
        if arguments.names is not None:
            positional, keywords = (), keywords | self._named(arguments)
        if self._hugging_face is None:
            return positional, keywords
        return (), self._hugging_face.by_keyword(positional, keywords)

    def _named(self, arguments: Arguments) -> dict[str, Any]:
        """Inputs that go by keyword."""
        names = arguments.names or ()
        if arguments.positional:
            raise TypeError(
                f"the inputs go by keyword ({', '.join(names)}), so additional_forward_args must be a "
                f'mapping such as {{"attention_mask": mask}}; got {kind_of(arguments.positional[0])} by position'
            )
        masked = dict(zip(names, arguments.inputs, strict=True))
        twice = sorted(masked.keys() & arguments.keywords.keys())
        if twice:
            raise TypeError(f"additional_forward_args has {', '.join(twice)}, which the inputs have too: leave it out")
        return masked

    def _check_weights(self) -> None:
        """Refuse a model without weights, unless hooks of `accelerate` bring them when they are needed."""
        for module in () if self.module is None else self.module.modules():
            if any(p.is_meta for p in module.parameters(recurse=False)) and not hasattr(module, "_hf_hook"):
                raise ValueError(
                    f"{self.name} lies on the meta device, where parameters have no numbers: load its weights"
                )

    @property
    def device(self) -> torch.device | None:
        """Where the module lies, if it lies in one place that inputs can be moved to."""
        devices = set() if self.module is None else {p.device for p in self.module.parameters()}
        return devices.pop() if len(devices) == 1 and torch.device("meta") not in devices else None

    def _at_home(self, value: Any) -> Any:
        return value.to(self._home) if self._home is not None and isinstance(value, Tensor) else value

    def half_precision(self, output: Tensor) -> torch.dtype | None:
        """The dtype that coarsens the values: that of the output or of the parameters, if it is half."""
        dtypes = [output.dtype, *(() if self.module is None else (p.dtype for p in self.module.parameters()))]
        return next((d for d in dtypes if d in (torch.float16, torch.bfloat16)), None)


def _unmasked(arguments: Arguments) -> dict[str, Tensor]:
    """What a Hugging Face model's masked token ids and attention mask are without a mask, as far as it is known."""
    named = zip(arguments.names or ("input_ids",), arguments.unmasked or (), strict=False)
    return {name: x for name, x in named if not x.is_floating_point()}


def _unwrapped(module: Any) -> Any:
    """The module inside ``DataParallel`` and ``torch.compile``."""
    while True:
        if isinstance(module, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            module = module.module
        elif isinstance(module, nn.Module) and isinstance(getattr(module, "_orig_mod", None), nn.Module):
            module = module._orig_mod
        else:
            return module


def _is_compiled(module: nn.Module) -> bool:
    return getattr(module, "_compiled_call_impl", None) is not None or "_orig_mod" in module._modules


def _uncompiled() -> AbstractContextManager[Any]:
    """What is compiled runs as it was written; before torch 2.6 there is no such switch."""
    stance = getattr(torch.compiler, "set_stance", None)
    return nullcontext() if stance is None else stance("force_eager")
