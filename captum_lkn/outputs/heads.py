"""Outputs of heads: from what a model returns to the tensor of outputs that is explained.

===========================  ==================  =================================================================
head                         output              target
===========================  ==================  =================================================================
sequences, images            ``[B, C]``          the class
tokens                       ``[B, T, C]``       ``(position, class)``
masked or next words         ``[B, T, V]``       ``(position, token id)``
answers in a text            ``[B, 2, T]``       ``(0, first position)`` or ``(1, last position)``
:func:`answer_span`          ``[B, 1]``          None: the span is chosen with the function
:class:`SelectOutput`        the user's choice   as its shape requires
===========================  ==================  =================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from captum_lkn._common.arguments import checked
from captum_lkn._common.checks import check_plain, is_whole
from captum_lkn._common.messages import kind_of, some_of

__all__ = ["Outputs", "SelectOutput", "answer_span", "read_output"]


class Outputs(NamedTuple):
    """Outputs of a forward.

    Attributes:
        tensor: ``[B, ...]``.
        class_dim: The dimension of `tensor` that holds the classes, where the form of what was returned tells it.
    """

    tensor: Tensor
    class_dim: int | None = None


def read_output(output: Any) -> Outputs:
    """Return the outputs in what a forward returned.

    Args:
        output: A tensor, or a NumPy array of numbers; a Python number, which is one value for the whole batch;
            something with ``logits``; or something with ``start_logits`` and ``end_logits``, each ``[B, T]``.

    Returns:
        The tensor; of start and end ``[B, 2, T]``, in which the positions are the classes.

    Raises:
        TypeError: `output` is none of these.

    Example:
        >>> found = read_output({"start_logits": torch.zeros(1, 5), "end_logits": torch.ones(1, 5)})
        >>> found.tensor.shape, found.class_dim
        (torch.Size([1, 2, 5]), -1)
    """
    if isinstance(output, Tensor):
        return Outputs(output)
    if isinstance(output, (int, float)) and not isinstance(output, bool):
        return Outputs(torch.tensor(output, dtype=torch.float64, device="cpu"))
    if isinstance(output, np.ndarray) and output.dtype.kind in "fiu":
        return Outputs(torch.tensor(output, device="cpu"))
    logits = _entry(output, "logits")
    if isinstance(logits, Tensor):
        return Outputs(logits)
    ends = (_entry(output, "start_logits"), _entry(output, "end_logits"))
    if all(isinstance(end, Tensor) for end in ends):
        return Outputs(torch.stack(ends, dim=-2), class_dim=-1)  # from the end: [T] where a forward dropped the batch
    names = [name for name, _ in _named_parts(output)]
    entries = f" with {some_of(names)}" if names else ""
    raise TypeError(
        f"the forward must return a tensor or something with .logits; got {kind_of(output)}{entries}. "
        f"{_way_out(output)}"
    )


def _way_out(output: Any) -> str:
    """Return advice for an output that is not a tensor; its functions can be used as they are written."""
    if _entry(output, "last_hidden_state") is not None:
        return (
            "The model has no head. Load the checkpoint with its head, for example by "
            "AutoModelForSequenceClassification; or say which tensor is explained: "
            "SelectOutput(model, lambda output: output.last_hidden_state[:, 0])"
        )
    if isinstance(output, np.ndarray):
        return f"It holds {output.dtype}. Return numbers"
    ways = dict(_ways_to_tensors(output))
    if not ways:
        return "Return a tensor [B, ...], with a row for each row of the inputs"
    # A loss is one number for all rows and often comes first: it would be explained without a word.
    way = next((way for way, tensor in ways.items() if tensor.dim() > 0), next(iter(ways)))
    shapes = [f"{way} of {list(tensor.shape)}" for way, tensor in ways.items()]
    held = f"It holds {some_of(shapes)}. " if len(ways) > 1 else ""
    return f"{held}Say which tensor is explained: SelectOutput(model, lambda output: {way})"


def _ways_to_tensors(output: Any) -> Iterator[tuple[str, Tensor]]:
    """Yield an output's tensors with the expressions by which they are read."""
    if isinstance(output, (tuple, list)) and not hasattr(output, "_fields"):
        yield from ((f"output[{i}]", part) for i, part in enumerate(output) if isinstance(part, Tensor))
    by_key = isinstance(output, Mapping)
    for name, part in _named_parts(output):
        if isinstance(part, Tensor):
            yield f"output[{name!r}]" if by_key else f"output.{name}", part


def _named_parts(output: Any) -> list[tuple[Any, Any]]:
    """Return the entries of a mapping, or the fields of a dataclass, a named tuple or another simple object."""
    if isinstance(output, Mapping):
        return list(output.items())
    if hasattr(output, "_fields"):
        return [(name, getattr(output, name)) for name in output._fields]
    return [] if isinstance(output, type) else list(getattr(output, "__dict__", {}).items())


def _entry(output: Any, name: str) -> Any:
    return output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)


@checked("class_names")
@dataclass(frozen=True)
class SelectOutput:
    """Model with a function that selects the explained tensor from its output; accepted wherever a model is.

    A function around the model would hide its layers, mode, device and keywords; this does not.

    Attributes:
        model: An ``nn.Module``, any callable, or a Hugging Face model.
        read: From what the model returns to the outputs, a tensor ``[B, ...]``. None: the tensor that it returns, or
            its logits by name.
        class_dim: The dimension of the output that holds the classes: 1 for ``[B, C, H, W]``, -1 for ``[B, T, C]``.
            None: found, see :func:`captum_lkn.outputs.dimensions.find_class_dim`.
        class_names: The names of the classes, in their order, which texts and pictures then show. Empty: those that the
            model has.

    Raises:
        TypeError: `model` or `read` cannot be called, `class_dim` is not an int, or `class_names` are not strings.
        ValueError: `class_dim` is 0, the batch.

    Example:
        >>> SelectOutput(torch.nn.Linear(2, 3), lambda output: output[:, :1])(torch.zeros(5, 2)).shape
        torch.Size([5, 1])
        >>> from captum_lkn import AndOrInteraction
        >>> named = SelectOutput(lambda x: x, class_names=["cat", "dog"])
        >>> AndOrInteraction(named, noise=0).attribute(3 * torch.eye(2), target="predicted")[1].about.explained
        'dog (1)'
    """

    model: Callable[..., Any]
    read: Callable[[Any], Tensor] | None = None
    class_dim: int | None = None
    class_names: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not callable(self.model):
            raise TypeError(f"model must be an nn.Module or a function; got {kind_of(self.model)}")
        if self.read is not None and not callable(self.read):
            raise TypeError(
                f"read must be None or a function from what the model returns to a tensor; got {self.read!r}"
            )
        given = self.class_dim
        if given is not None and not is_whole(given):
            raise TypeError(f"class_dim must be an int or None, a dimension of the output; got {given!r}")
        if given == 0:
            raise ValueError("class_dim must be a dimension behind the batch, such as 1 or -1; got 0")
        names: Any = self.class_names
        if isinstance(names, str) or not all(isinstance(name, str) for name in names):
            raise TypeError(f"class_names must be a list of strings, one a class; got {names!r}")
        object.__setattr__(self, "class_names", tuple(names))

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        """Call the model, and return the outputs that are explained."""
        return self.outputs(self.model(*args, **kwargs)).tensor

    @checked()
    def outputs(self, returned: Any) -> Outputs:
        """Return the outputs that are explained.

        Args:
            returned: What the model returned.

        Returns:
            The outputs, with `class_dim` where it is given.

        Raises:
            TypeError: `read` returns no tensor, or one that is sparse, nested or quantised.
        """
        found = read_output(returned if self.read is None else self.read(returned))
        check_plain("the output of the forward", found.tensor)
        return found if self.class_dim is None else found._replace(class_dim=self.class_dim)


def answer_span(model: Callable[..., Any], start: int, end: int) -> SelectOutput:
    """Return a model of extractive question answering whose output is the log-odds of one answer.

    The probability of an answer is p(start) p(end), each of them a softmax over all positions, as in training. The
    log-odds of start or end alone need no wrapper: give the model itself, with target ``(0, start)`` or ``(1, end)``.

    Args:
        model: It returns ``start_logits`` and ``end_logits``, each ``[B, T]``.
        start: The position of the answer's first token.
        end: The position of its last token.

    Returns:
        The model to give to a method; its output is ``[B, 1]``, so that every named score but ``"log_prob"`` and
        ``"prob"`` is the log-odds, and no target is needed.

    Raises:
        TypeError: The model cannot be called, or a position is not an int.
        ValueError: A position is negative, or the end comes before the start.

    Example:
        >>> def model(x):
        ...     return {"start_logits": x, "end_logits": x}
        >>> answer_span(model, 0, 1)(torch.zeros(1, 2))  # p = 1/4
        tensor([[-1.0986]])
    """
    for name, position in (("start", start), ("end", end)):
        if not is_whole(position):
            raise TypeError(f"{name} must be an int, the position of a token; got {position!r}")
    if not 0 <= start <= end:
        raise ValueError(f"start and end must be positions with 0 <= start <= end; got {start} and {end}")

    def read(output: Any) -> Tensor:
        ends = read_output(output).tensor
        if ends.dim() != 3 or ends.shape[1] != 2:
            raise TypeError(f"model must return start_logits and end_logits for answer_span; got {kind_of(ends)}")
        if end >= ends.shape[2]:
            raise ValueError(f"end must be a position of the text, 0 to {ends.shape[2] - 1}; got {end}")
        chosen = torch.tensor([start, end], device=ends.device).reshape(1, 2, 1).expand(len(ends), 2, 1)
        log_p = ends.log_softmax(2).gather(2, chosen).squeeze(2)
        others = ends.scatter(2, chosen, -torch.inf).logsumexp(2) - ends.logsumexp(2)
        # 1 - p(start) p(end) = (1 - p(start)) + p(start) (1 - p(end)): nothing cancels where both are near 1
        log_not = torch.logaddexp(others[:, 0], log_p[:, 0] + others[:, 1])
        return (log_p.sum(1) - log_not)[:, None]

    return SelectOutput(model, read)
