"""Heads: from what a model returns to the tensor of outputs that is explained.

===========================  ==================  =================================================================
head                         output              target
===========================  ==================  =================================================================
sequences, images            ``[B, C]``          the class
tokens                       ``[B, T, C]``       ``(position, class)``
masked or next words         ``[B, T, V]``       ``(position, token id)``
answers in a text            ``[B, 2, T]``       ``(0, first position)`` or ``(1, last position)``
:func:`answer_span`          ``[B, 1]``          None: it is chosen with the span
:class:`Head`                what it reads       what fits that
===========================  ==================  =================================================================
"""

from __future__ import annotations

import numbers
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from captum_lkn._common.messages import kind_of

__all__ = ["Head", "answer_span", "read_output"]


def read_output(output: Any) -> Tensor:
    """The tensor of outputs in what a forward returned.

    Args:
        output: A tensor; a Python number, which is one value for the whole batch; something with ``logits``; or
            something with ``start_logits`` and ``end_logits``, each ``[B, T]``.

    Returns:
        The tensor; of start and end ``[B, 2, T]``.

    Raises:
        TypeError: There is none of these.

    Example:
        >>> read_output({"start_logits": torch.zeros(1, 5), "end_logits": torch.ones(1, 5)}).shape
        torch.Size([1, 2, 5])
    """
    if isinstance(output, Tensor):
        return output
    if isinstance(output, (int, float)) and not isinstance(output, bool):
        return torch.tensor(output, dtype=torch.float64)
    logits = _entry(output, "logits")
    if isinstance(logits, Tensor):
        return logits
    ends = (_entry(output, "start_logits"), _entry(output, "end_logits"))
    if all(isinstance(end, Tensor) for end in ends):
        return torch.stack(ends, dim=1)
    entries = f" with {', '.join(map(str, output))}" if isinstance(output, Mapping) else ""
    way_out = "say which tensor is explained, Head(model, lambda output: output[0])"
    if _entry(output, "last_hidden_state") is not None:
        way_out = (
            "it has no head. Load the checkpoint with its head, such as by AutoModelForSequenceClassification; or "
            "say which tensor is explained, Head(model, lambda output: output.last_hidden_state[:, 0])"
        )
    raise TypeError(
        f"the forward returned {kind_of(output)}{entries}, neither a tensor nor something with .logits: {way_out}"
    )


def _entry(output: Any, name: str) -> Any:
    return output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)


@dataclass(frozen=True)
class Head:
    """A model, and which tensor of what it returns is explained; taken wherever a model is.

    Unlike a function around the model it leaves the model in sight: its layers, its mode, its device, its keywords.

    Attributes:
        model: An ``nn.Module``, any callable, or a Hugging Face model.
        read: From what the model returns to the outputs, a tensor ``[B, ...]``.

    Raises:
        TypeError: One of them cannot be called.

    Example:
        >>> Head(torch.nn.Linear(2, 3), lambda output: output[:, :1])(torch.zeros(5, 2)).shape
        torch.Size([5, 1])
    """

    model: Callable[..., Any]
    read: Callable[[Any], Tensor] = read_output

    def __post_init__(self) -> None:
        if not callable(self.model):
            raise TypeError(f"model must be an nn.Module or a function; got {kind_of(self.model)}")
        if not callable(self.read):
            raise TypeError(f"read must be a function from what the model returns to a tensor; got {self.read!r}")

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        """The outputs that are explained, as the model alone is called."""
        return self.outputs(self.model(*args, **kwargs))

    def outputs(self, returned: Any) -> Tensor:
        """The outputs in what the model returned.

        Args:
            returned: By the model.

        Returns:
            ``[B, ...]``.

        Raises:
            TypeError: ``read`` finds no tensor there.
        """
        return read_output(self.read(returned))


def answer_span(model: Callable[..., Any], start: int, end: int) -> Head:
    """A model that answers questions out of a text, read as the log-odds of one answer.

    The probability of an answer is p(start) p(end), over all positions, each of them a softmax as in training. The
    log-odds of start or end alone need no wrapper: give the model itself, with target ``(0, start)`` or ``(1, end)``.

    Args:
        model: It returns ``start_logits`` and ``end_logits``, each ``[B, T]``.
        start: The position of the answer's first token.
        end: The position of its last token.

    Returns:
        What is given in the model's place; its output is ``[B, 1]``, so that every named score but ``"log_prob"``
        and ``"prob"`` is the log-odds, and no target is needed.

    Raises:
        TypeError: The model cannot be called, or a position is no int.
        ValueError: A position is negative, or the end comes before the start.

    Example:
        >>> def model(x):
        ...     return {"start_logits": x, "end_logits": x}
        >>> answer_span(model, 0, 1)(torch.zeros(1, 2))  # p = 1/4
        tensor([[-1.0986]])
    """
    for name, position in (("start", start), ("end", end)):
        if isinstance(position, bool) or not isinstance(position, numbers.Integral):
            raise TypeError(f"{name} must be an int, the position of a token; got {position!r}")
    if not 0 <= start <= end:
        raise ValueError(f"the answer runs from token {start} to {end}: give 0 <= start <= end")

    def read(output: Any) -> Tensor:
        ends = read_output(output)
        if ends.dim() != 3 or ends.shape[1] != 2:
            raise TypeError(f"answer_span needs start_logits and end_logits; the model's output is {kind_of(ends)}")
        if end >= ends.shape[2]:
            raise ValueError(f"the answer runs from token {start} to {end}; there are {ends.shape[2]}, from 0")
        chosen = torch.tensor([start, end], device=ends.device).reshape(1, 2, 1).expand(len(ends), 2, 1)
        log_p = ends.log_softmax(2).gather(2, chosen).squeeze(2)
        others = ends.scatter(2, chosen, -torch.inf).logsumexp(2) - ends.logsumexp(2)
        # 1 - p(start) p(end) = (1 - p(start)) + p(start) (1 - p(end)): nothing cancels where both are near 1
        log_not = torch.logaddexp(others[:, 0], log_p[:, 0] + others[:, 1])
        return (log_p.sum(1) - log_not)[:, None]

    return Head(model, read)
