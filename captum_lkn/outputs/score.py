"""Score objects: a function of a row of outputs, and what displays and checks need to know of it.

The named ones are in :mod:`captum_lkn.outputs.scores`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor

from captum_lkn._common.arguments import checked
from captum_lkn._common.checks import is_one_of
from captum_lkn._common.messages import kind_of, shape_of
from captum_lkn.outputs.operands import check_output, check_target, operands, to_float64

__all__ = ["OutputKind", "Reads", "Score", "ScoreLike", "target_column"]

OutputKind: TypeAlias = Literal["classes", "labels", "values"]
"""The columns of an output: classes of which one is true, labels each true or not by itself, or plain values."""

Reads: TypeAlias = Literal["classes", "labels", "binary", "values", "row"]
"""The columns that a score reads: logits of classes, the logit of a label by itself, the one logit of two classes, the
target's value by itself, or the row in a way of its own."""


@dataclass(frozen=True)
class Score:
    """Score of a row of outputs: a function, and what displays and checks need to know of it.

    Attributes:
        name: For display and provenance.
        function: ``function(output [B, C], target int64 [B]) -> [B]``.
        reads: ``"classes"``: logits of two or more classes, of which one is true (probabilities are refused); the same
            shift of all logits must not change the score, since a label by itself is given as two logits, 0 and its
            own. ``"labels"``: the logit of the target, a label by itself. ``"binary"``: one column, the logit of class
            1 against class 0. ``"values"``: the target's value by itself, whatever it is. ``"row"``: the row in a way
            of its own.
        unit: The unit of the score, such as ``"log-odds"``; empty: not known.
        in_output_units: True if the score is an output, or a difference of outputs, so that it has their unit. Such a
            score of classes takes the plain value of a regression as it is, which other scores of classes refuse; and
            it has no unit where the outputs turn out to be no logits.

    Raises:
        TypeError: `name` or `unit` is not a str, `function` cannot be called, or `in_output_units` is not a bool.
        ValueError: `reads` is none of the five.

    Example:
        >>> from captum_lkn.outputs.scores import log_prob
        >>> bits = Score("bits", lambda output, target: log_prob(output, target) / 0.6931471805599453, "classes", "bit")
        >>> bits(torch.zeros(1, 2), torch.tensor([0]))
        tensor([-1.], dtype=torch.float64)
    """

    name: str
    function: Callable[[Tensor, Tensor], Tensor]
    reads: Reads = "row"
    unit: str = ""
    in_output_units: bool = False

    def __post_init__(self) -> None:
        for field in ("name", "unit"):
            if not isinstance(getattr(self, field), str):
                raise TypeError(f"{field} must be a str; got {kind_of(getattr(self, field))}")
        if not callable(self.function):
            raise TypeError(
                f"function must be a callable (output [B, C], target [B]) -> [B]; got {kind_of(self.function)}"
            )
        if not isinstance(self.in_output_units, bool):
            raise TypeError(f"in_output_units must be True or False; got {kind_of(self.in_output_units)}")
        if not is_one_of(self.reads, get_args(Reads)):
            raise ValueError(f"reads must be one of {', '.join(map(repr, get_args(Reads)))}; got {self.reads!r}")

    @property
    def binary(self) -> bool:
        """True where one column tells two classes apart, so that targets are 0 and 1."""
        return self.reads == "binary"

    @property
    def reads_logits(self) -> bool:
        """True where the outputs must be logits, so that probabilities and plain values give a wrong number."""
        return self.reads in ("classes", "labels", "binary")

    @property
    def noun(self) -> str:
        """The word for a column of the output, as the score takes it."""
        return {"classes": "class", "binary": "class", "labels": "label"}.get(self.reads, "output")

    @property
    def compares_classes(self) -> bool:
        """True where other columns than the target's count, so that the dimension of the classes matters."""
        return self.reads in ("classes", "row")

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        """Score each row, and check what the function returns.

        Args:
            output: ``[B, C]``; the function gets it as it is, but the one column z of ``[B, 1]`` as the logits 0 and z
                of two classes, if it reads classes. Probabilities are not looked for here: see
                :func:`captum_lkn.outputs.probabilities.refuse_probabilities`.
            target: Integer ``[B]``: the class, label or column of each row.

        Returns:
            Float64 ``[B]`` (float32 on MPS), on the device that the function left it on.

        Raises:
            TypeError: If `output` is not a real tensor, the target of a label is not of integers, or the function
                returns something else than a tensor of real numbers.
            ValueError: If `output` is not ``[B, C]``, the target of a label is out of range, or the function returns
                another shape than ``[B]``.

        Example:
            >>> Score("largest", lambda output, target: output.amax(1))(torch.tensor([[1, 4]]), torch.tensor([0]))
            tensor([4.], dtype=torch.float64)
        """
        check_output(output)
        one_label = self.reads == "classes" and output.shape[1] == 1
        values: Any = _of_label(self.function, output, target) if one_label else self.function(output, target)
        wanted = f"expected real numbers, [{len(output)}], one a row of the output {shape_of(output)}"
        if not isinstance(values, Tensor):
            raise TypeError(f"score {self.name} returned {kind_of(values)}; {wanted}, as a tensor")
        if values.is_complex() or values.dtype == torch.bool:
            raise TypeError(f"score {self.name} returned {kind_of(values)}; {wanted}: convert them")
        if values.shape != (len(output),):
            squeezed = values.shape == (len(output), 1)
            way_out = "take .squeeze(1)" if squeezed else "reduce each row to one number, and keep the rows apart"
            raise ValueError(f"score {self.name} returned {kind_of(values)}; {wanted}: {way_out}")
        return to_float64(values)

    @checked()
    def for_outputs(self, kind: OutputKind) -> Score:
        """Return this score for the columns that a model returns.

        Args:
            kind: The columns of the model's output.

        Returns:
            For labels, a score of classes reads the target's column by itself: the log-odds of a label is its logit,
            whatever the other labels are. For plain values, a score in their unit has no unit of its own, and one of
            classes is the value, and is called so. Everything else is this score itself.

        Raises:
            ValueError: The score reads logits, and the columns are plain values.

        Example:
            >>> from captum_lkn.outputs.scores import log_odds
            >>> alone = log_odds.for_outputs("labels")
            >>> alone.reads, alone(torch.tensor([[3.0, 5.0]]), torch.tensor([0])).item()
            ('labels', 3.0)
        """
        if kind == "labels" and self.reads == "classes":
            return replace(self, function=functools.partial(_of_label, self.function), reads="labels")
        if kind != "values":
            return self
        if self.reads_logits and not self.in_output_units:
            raise ValueError(
                f'score="{self.name}" reads logits, and the model returns plain values: it is a '
                'regression. Give score="logit", which explains the value itself'
            )
        if self.reads == "classes":
            return replace(self, name="value", function=target_column, reads="values", unit="")
        return self.of_other_outputs()

    def of_other_outputs(self) -> Score:
        """Return this score for outputs that are not logits: without a unit, if its unit is that of the outputs.

        Example:
            >>> from captum_lkn.outputs.scores import log_prob, logit
            >>> logit.of_other_outputs().unit, log_prob.of_other_outputs().unit
            ('', 'nats')
        """
        return replace(self, unit="") if self.in_output_units else self


ScoreLike: TypeAlias = str | Score | Callable[[Tensor, Tensor], Tensor]
"""A name out of ``SCORES``, a :class:`Score`, or a callable ``score(output [B, C], target [B]) -> [B]``."""


def target_column(output: Tensor, target: Tensor) -> Tensor:
    """Return the target's column of the output as it is: what Captum's methods explain.

    Args:
        output: ``[B, C]``: logits, probabilities, regression values, whatever is to be explained.
        target: Integer ``[B]``, the column of each row.

    Returns:
        Float64 ``[B]`` (float32 on MPS).

    Raises:
        TypeError: As ``log_odds``.
        ValueError: As ``log_odds``.

    Example:
        >>> target_column(torch.tensor([[0.5, 3.0]]), torch.tensor([1]))
        tensor([3.], dtype=torch.float64)
    """
    z, index = operands(output, target)
    return z.gather(1, index).squeeze(1)


def _of_label(function: Callable[[Tensor, Tensor], Tensor], output: Tensor, target: Tensor) -> Tensor:
    """Apply a score function of classes to the target's logit z by itself: to two classes with the logits 0 and z."""
    check_target(output, target)
    target = target.to(output.device, torch.int64)
    z = output.gather(1, target[:, None])
    return function(torch.cat([torch.zeros_like(z), z], 1), torch.ones_like(target))
