"""Calling any model: an ``nn.Module``, any callable, a Hugging Face model.

A Hugging Face model is called by keyword, see :mod:`captum_lkn.models.hugging_face`. Everything else is called as
Captum calls it, inputs and additional arguments by position.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from captum_lkn._common.messages import kind_of, some_of
from captum_lkn._common.rounding import Precision, precision_in_force
from captum_lkn._common.warn import warn
from captum_lkn.models.arguments import Arguments
from captum_lkn.models.dtypes import dtypes_told
from captum_lkn.models.estimators import Estimator, is_estimator, numbers_of
from captum_lkn.models.hugging_face.call import HuggingFace
from captum_lkn.models.hugging_face.facts import is_hugging_face, model_of_pipeline
from captum_lkn.models.placement import all_at, called_at
from captum_lkn.models.session import as_written, evaluation
from captum_lkn.models.wrappers import is_compiled, unwrapped
from captum_lkn.outputs.dimensions import check_class_dim, find_class_dim, is_map
from captum_lkn.outputs.heads import Outputs, SelectOutput
from captum_lkn.outputs.score import OutputKind, Score
from captum_lkn.outputs.targets import Target

__all__ = ["Model"]


class Model:
    """A forward function that can be called in one way, whatever it is.

    Args:
        forward_func: An ``nn.Module`` or any callable; a :class:`~captum_lkn.outputs.heads.SelectOutput`, which selects
            the output; a pipeline of `transformers`, for its model; or an estimator with scikit-learn's methods, see
            :class:`captum_lkn.models.estimators.Estimator`. A model with a ``config`` and a
            ``main_input_name``, also inside ``DataParallel`` or ``torch.compile``, is a Hugging Face model.

    Attributes:
        forward_func: The function that is called.
        module: The ``nn.Module`` that it is or belongs to, with its wrappers; None for a plain function.

    Raises:
        TypeError: ``forward_func`` cannot be called.

    Example:
        >>> model = Model(nn.Linear(3, 2).eval())
        >>> with model.session():
        ...     model(Arguments((torch.zeros(5, 3),))).tensor.shape
        torch.Size([5, 2])
    """

    def __init__(self, forward_func: Callable[..., Any]) -> None:
        forward_func = Estimator(forward_func) if is_estimator(forward_func) else forward_func
        if not callable(forward_func):
            raise TypeError(
                f"forward_func must be an nn.Module, a function or an estimator; got {kind_of(forward_func)}"
            )
        if isinstance(forward_func, type):
            raise TypeError(
                f"forward_func must be an nn.Module or a function; got the class {forward_func.__name__}: make a model "
                f"of it, {forward_func.__name__}(...)"
            )
        head = forward_func if isinstance(forward_func, SelectOutput) else SelectOutput(forward_func)
        self._selected = head
        self.forward_func: Any = model_of_pipeline(head.model)
        self.module = _module_of(self.forward_func)
        inner = unwrapped(self.forward_func)
        self._hugging_face = HuggingFace(inner) if is_hugging_face(inner) else None
        self._estimator = inner if isinstance(inner, Estimator) else None
        self._home: torch.device | None = None
        self._compiled_parts = False  # only the eager model minds them

    @property
    def is_hugging_face(self) -> bool:
        """True if it is called by keyword, as a model of `transformers`."""
        return self._hugging_face is not None

    @property
    def parameters(self) -> Mapping[str, inspect.Parameter]:
        """The parameters of a Hugging Face model's forward; of anything else nothing is known."""
        return {} if self._hugging_face is None else self._hugging_face.parameters

    @property
    def output_kind(self) -> OutputKind:
        """The columns of the output: classes, unless a Hugging Face model states that its logits are labels or values.

        The statement, ``config.problem_type``, is about the logits; another output that is selected is not meant.
        """
        if self._estimator is not None and self._reads_head:
            return self._estimator.kind
        return "classes" if self._hugging_face is None or not self._reads_head else self._hugging_face.output_kind

    def score_for_model(self, score: Score) -> Score:
        """Return a score for this model's outputs; see :meth:`captum_lkn.outputs.score.Score.for_outputs`."""
        return score.for_outputs(self.output_kind)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes: those of ``SelectOutput``, or of a Hugging Face model or an estimator.

        Empty where there are none, and where another output of a model is read than its names are of.
        """
        if self._selected.class_names:
            return tuple(self._selected.class_names)
        if self._estimator is not None and self._reads_head:
            return self._estimator.class_names
        return () if self._hugging_face is None or not self._reads_head else self._hugging_face.class_names

    def check_class_names(self, target: Target) -> None:
        """Check that the names that ``SelectOutput`` states are those of all classes that a target is one of.

        Raises:
            ValueError: There are more or fewer.
        """
        stated = self._selected.class_names
        if stated and not target.names:
            raise ValueError(
                f"class_names must have one name a class, {2 if target.binary else target.n_outputs}; got {len(stated)}"
            )

    @property
    def class_counts(self) -> tuple[int, ...]:
        """The numbers of columns that the head may have, as far as the model states them; empty: it states none."""
        if self._estimator is not None and self._reads_head:
            return (len(self._estimator.class_names),) if self._estimator.class_names else ()
        return () if self._hugging_face is None or not self._reads_head else self._hugging_face.class_counts

    def class_dim(self, outputs: Outputs, inputs: Sequence[Tensor], score: Score) -> int:
        """Return the dimension of an output that holds the classes, from 1.

        Args:
            outputs: The outputs ``[B, ...]``, and the dimension where the forward or the user states it.
            inputs: The inputs that the players own, ``[B, ...]``.
            score: The score that reads the output.

        Raises:
            ValueError: The dimension that :class:`~captum_lkn.outputs.heads.SelectOutput` states is not there, or see
                :func:`captum_lkn.outputs.dimensions.find_class_dim`.

        Warns:
            UserWarning: See :func:`captum_lkn.outputs.dimensions.find_class_dim`.
        """
        output, stated = outputs
        if stated is not None:
            return check_class_dim(stated, output)
        if self._hugging_face is None:
            return find_class_dim(output, inputs, score)
        if self._reads_head and output.dim() == 3 and not is_map(output, inputs):
            return 2  # the logits of tokens
        return find_class_dim(output, inputs, score, self._hugging_face.class_counts)

    def warn_of_selected_columns(self, score: Score) -> None:
        """Warn where selected columns are compared as classes, and the model's logits are stated not to be classes.

        Args:
            score: The score, brought to the model's outputs.

        Warns:
            UserWarning: See above.
        """
        stated: OutputKind = "classes" if self._hugging_face is None else self._hugging_face.output_kind
        if stated != "classes" and not self._reads_head and score.reads == "classes":
            warn(
                f"config.problem_type says that the logits of {self.name} are {stated}, and SelectOutput selects "
                f"another output, whose columns score={score.name!r} takes for classes, of which one is true. If they "
                "are labels or values by themselves, give score='logit'"
            )

    @property
    def returns_logits(self) -> bool:
        """True if the output is what a Hugging Face model calls its logits, or an estimator's, whatever their size."""
        return (self.is_hugging_face or self._estimator is not None) and self._reads_head

    @property
    def advice(self) -> str:
        """A remedy for outputs that are not finite, for a message; empty: none is known."""
        return "" if self._estimator is None else self._estimator.advice

    @property
    def predicts_itself(self) -> bool:
        """True if it is an estimator that says which class it predicts, see :meth:`predicted`."""
        return self._estimator is not None and self._reads_head and bool(self._estimator.class_names)

    def predicted(self, arguments: Arguments) -> Tensor:
        """Return the classes that an estimator predicts, int64 ``[R]``, by their columns."""
        positional, _ = self.arranged(arguments)
        return self.inner.predicted(positional[0])  # type: ignore[no-any-return]

    @property
    def _reads_head(self) -> bool:
        """True if the output is the logits that the model returns by name."""
        return self._selected.read is None

    @property
    def name(self) -> str:
        """The class of a module without its wrappers, or of an estimator; the name of a function."""
        if self._estimator is not None:
            return self._estimator.name
        if self.module is not None:
            return type(unwrapped(self.module)).__name__
        return str(getattr(self.forward_func, "__name__", type(self.forward_func).__name__))

    @property
    def inner(self) -> Any:
        """The function that is called, without ``DataParallel`` or ``torch.compile`` around it."""
        return unwrapped(self.forward_func)

    @property
    def eager(self) -> Model:
        """The same model without wrappers, in which hooks are called.

        ``torch.compile`` ignores hooks that are set after it, ``DataParallel`` calls them in copies of the module.
        """
        plain = copy.copy(self)
        if self.module is self.forward_func:
            plain.forward_func = plain.module = self.inner
        # Parts may be compiled by themselves, and .compile() leaves no wrapper.
        # So may the function be that calls them.
        parts = [] if plain.module is None else plain.module.modules()
        of_function = hasattr(self.forward_func, "_torchdynamo_orig_callable")
        plain._compiled_parts = of_function or any(map(is_compiled, parts))
        return plain

    @contextmanager
    def session(self) -> Iterator[None]:
        """Evaluate in evaluation mode and without gradients; see :func:`captum_lkn.models.session.evaluation`.

        Raises:
            ValueError: The model has no weights.

        Warns:
            UserWarning: The model is in training mode.
        """
        self._check_weights()
        self._home = self.device
        with evaluation(self.module, self.name):
            yield

    def __call__(self, arguments: Arguments) -> Outputs:
        """Call the forward function.

        Args:
            arguments: Its arguments.

        Returns:
            Its outputs, as a tensor.

        Raises:
            TypeError: It returned something that holds no tensor of outputs, or the arguments do not fit.
            ValueError: A Hugging Face model has no weights for such inputs, see
                :class:`captum_lkn.models.hugging_face.limits.Limits`.
        """
        return self.call_arranged(arguments, *self.arranged(arguments))

    def call_arranged(self, arguments: Arguments, positional: tuple[Any, ...], keywords: dict[str, Any]) -> Outputs:
        """Call the forward function with what :meth:`arranged` returned for the same arguments."""
        stance = as_written() if self._compiled_parts else nullcontext()
        with stance, dtypes_told(self.module, self.name, arguments.inputs):
            if self._hugging_face is None:
                try:
                    returned = called_at(self._home, self.forward_func, arguments.inputs, positional, keywords)
                except TypeError as error:
                    if arguments.names is None or "unexpected keyword argument" not in str(error):
                        raise
                    raise TypeError(
                        f"the entries of a mapping go by keyword, and {self.name} does not take them ({error}). "
                        "If it takes one mapping, give a function: lambda **inputs: model(inputs)"
                    ) from error
            else:
                self._hugging_face.limits.check(keywords)
                unmasked = all_at(self._home, _unmasked(arguments))
                returned = self._hugging_face.forward(self.forward_func, all_at(self._home, keywords), unmasked)
        return self._selected.outputs(returned)

    def token_places(self, arguments: Arguments, keywords: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return places in a text at which the head of a Hugging Face model may read.

        Args:
            arguments: The arguments as given.
            keywords: The same by keyword, from :meth:`arranged`.

        Returns:
            By name bool ``[R, T]``, one token in each row; see
            :func:`captum_lkn.models.hugging_face.head.token_places`. Empty for anything else.
        """
        if self._hugging_face is None:
            return {}
        return self._hugging_face.token_places(keywords, _unmasked(arguments))

    def arranged(self, arguments: Arguments) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments by position and by keyword; a Hugging Face model gets all of them by keyword.

        Args:
            arguments: The arguments as given.

        Returns:
            Positional arguments and keyword arguments.

        Raises:
            TypeError: The arguments do not fit the forward function.
        """
        keywords = {**arguments.keywords, **arguments.named_inputs()}
        given = () if arguments.names is not None else self._inputs(arguments)
        if isinstance(given, Mapping):
            keywords, given = {**keywords, **given}, ()
        positional = (*given, *arguments.positional)
        if self._hugging_face is None:
            return positional, keywords
        return (), self._hugging_face.by_keyword(positional, keywords)

    def _inputs(self, arguments: Arguments) -> tuple[Any, ...] | Mapping[str, Any]:
        """Return the inputs without names; a module takes the numbers of a table as a tensor of its dtype."""
        given = arguments.decoded
        if arguments.decode is None or self.module is None or isinstance(given, Mapping):
            return given
        dtype = next((p.dtype for p in self.module.parameters() if p.is_floating_point()), None)
        is_table = [hasattr(x, "__array__") and not isinstance(x, Tensor) for x in given]
        return tuple(numbers_of(x).to(dtype=dtype) if table else x for x, table in zip(given, is_table, strict=True))

    def _check_weights(self) -> None:
        """Refuse a model without weights, unless hooks of `accelerate` bring them when they are needed."""
        named = () if self.module is None else (*self.module.named_parameters(), *self.module.named_buffers())
        lazy = [name for name, tensor in named if nn.parameter.is_lazy(tensor)]
        if lazy:
            raise ValueError(
                f"{self.name} has weights that are not initialised yet ({some_of(lazy)}), and would get random ones: "
                "call it once on an input, and train it or load its weights"
            )
        for module in () if self.module is None else self.module.modules():
            if any(p.is_meta for p in module.parameters(recurse=False)) and not hasattr(module, "_hf_hook"):
                raise ValueError(
                    f"{self.name} has parameters on the meta device, which holds no data: load its weights"
                )

    @property
    def device(self) -> torch.device | None:
        """The device of the module, if it lies on one to which inputs can be moved."""
        devices = set() if self.module is None else {p.device for p in self.module.parameters()}
        return devices.pop() if len(devices) == 1 and torch.device("meta") not in devices else None

    def precision(self, output: Tensor, products: Iterable[torch.dtype] = ()) -> Precision:
        """Return the precision of the values: that of output, parameters, autocast or TF32, whichever is coarsest.

        Args:
            output: An output of the model.
            products: The dtypes of its matrix products, where they were watched.
        """
        # A function may hold its model, as a Continuation does, and return another dtype than that computes in.
        holder = self.forward_func if self.module is None else self
        module = getattr(holder, "module", None)
        parts = list(module.modules()) if isinstance(module, nn.Module) else []
        of_parts = (p.dtype for part in parts for p in part.parameters(recurse=False))
        dtypes = [dtype for dtype in (output.dtype, *of_parts) if dtype.is_floating_point and dtype.itemsize > 1]
        coarsest = max(dtypes, key=lambda dtype: torch.finfo(dtype).eps, default=torch.float32)
        convolutions = any(isinstance(part, _ConvNd) for part in parts)
        stated = precision_in_force(coarsest, output.device, convolutions=convolutions)
        lowest = max(products, key=lambda dtype: torch.finfo(dtype).eps, default=coarsest)
        if lowest.itemsize == 1 or torch.finfo(lowest).eps <= max(stated.eps, torch.finfo(torch.float32).eps):
            return stated
        advice = "let the forward compute in float32, without torch.autocast or .half() in it"
        return Precision(f"{lowest} inside the forward", torch.finfo(lowest).eps, True, advice)


def _module_of(function: Any) -> nn.Module | None:
    """Return the module that a function is, or whose method it is."""
    while isinstance(function, functools.partial):
        function = function.func
    owner = getattr(function, "__self__", None)
    return next((m for m in (function, owner) if isinstance(m, nn.Module)), None)


def _unmasked(arguments: Arguments) -> dict[str, Tensor]:
    """Return a Hugging Face model's token ids and attention mask without a mask, as far as they are known."""
    named = zip(arguments.names or ("input_ids",), arguments.unmasked or (), strict=False)
    return {name: x for name, x in named if not x.is_floating_point()}
