"""Scores: from a row of logits to the one number that is explained.

==================== ================================= ======================================
name                 C >= 2 columns                    one column z
==================== ================================= ======================================
``log_odds``         z_y - logsumexp of the others     +z
``logit``            z_y, what Captum explains         +z
``log_prob``         log softmax(z)_y                  log sigmoid(z)
``prob``             softmax(z)_y                      sigmoid(z)
``margin``           z_y - the largest of the others   +z
``binary_log_odds``  refused                           +z for target 1, -z for target 0
==================== ================================= ======================================

A single column is read as it is: the log-odds of a label of its own, or the value of a regression. Only who
asks for ``binary_log_odds`` says that it tells two classes apart.

A score of one's own is any callable ``score(output [B, C], target int64 [B]) -> [B]``. Named scores cast the
output to float64 first (float32 on MPS, which has no float64), so that a half-precision model loses nothing
more here; a callable gets the output as the model returned it.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from captum_lkn._common.messages import count_of, kind_of, shape_of

__all__ = [
    "SCORES",
    "Score",
    "apply_score",
    "binary_log_odds",
    "log_odds",
    "log_prob",
    "logit",
    "looks_like_probabilities",
    "margin",
    "prob",
    "reads_classes",
    "refuse_probabilities",
    "resolve_score",
]

Score: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""``score(output [B, C], target int64 [B]) -> [B]``: one number a row."""

_SUM_TOLERANCE: Final = 1e-4


def log_odds(output: Tensor, target: Tensor, *, check: bool = True) -> Tensor:
    """The log-odds of the target class, ``log p/(1-p)``.

    Computed as ``z_y - logsumexp(z_others)``, never through p, which is 0 or 1 where a network is sure:
    logits of 1e4 still give exact values. Classes masked by -inf do not count; where all others are, it is
    +inf.

    Source: Cheng et al., "Layerwise Change of Knowledge in Neural Networks", ICML 2024, footnote 3.

    Args:
        output: Logits ``[B, C]``. With C = 1 the log-odds is the column itself. Log-probabilities are logits.
        target: Integer ``[B]``, the class of each row.
        check: Whether to refuse an output that is probabilities already; see :func:`refuse_probabilities`.

    Returns:
        Float64 ``[B]`` (float32 on MPS).

    Raises:
        TypeError: If `output` is not a real tensor or `target` not an integer tensor.
        ValueError: If the shapes do not fit, a target is out of range (told on CPU only, since elsewhere it
            would cost a synchronisation), or the output is probabilities.

    Example:
        >>> log_odds(torch.tensor([[1e4, -1e4], [2.0, 5.0]]), torch.tensor([0, 1]))
        tensor([2.0000e+04, 3.0000e+00], dtype=torch.float64)
    """
    z, index = _operands(output, target)
    if check:
        refuse_probabilities(log_odds, output)
    own = z.gather(1, index).squeeze(1)
    return own if z.shape[1] == 1 else own - _others(z, index).logsumexp(1)


def logit(output: Tensor, target: Tensor) -> Tensor:
    """The target's column of the output, as it is: what Captum's methods explain.

    Args:
        output: ``[B, C]``: logits, probabilities, regression values, whatever is to be explained.
        target: Integer ``[B]``, the column of each row.

    Returns:
        Float64 ``[B]`` (float32 on MPS).

    Raises:
        TypeError: As :func:`log_odds`.
        ValueError: As :func:`log_odds`, but probabilities are welcome.

    Example:
        >>> logit(torch.tensor([[0.5, 3.0]]), torch.tensor([1]))
        tensor([3.], dtype=torch.float64)
    """
    z, index = _operands(output, target)
    return z.gather(1, index).squeeze(1)


def log_prob(output: Tensor, target: Tensor, *, check: bool = True) -> Tensor:
    """The log-probability of the target class under a softmax; under a sigmoid where there is one column.

    Args:
        output: Logits ``[B, C]``.
        target: Integer ``[B]``, the class of each row.
        check: Whether to refuse an output that is probabilities already; see :func:`refuse_probabilities`.

    Returns:
        Float64 ``[B]`` (float32 on MPS).

    Raises:
        TypeError: As :func:`log_odds`.
        ValueError: As :func:`log_odds`.

    Example:
        >>> log_prob(torch.tensor([[0.0, 0.0]]), torch.tensor([1]))
        tensor([-0.6931], dtype=torch.float64)
    """
    if check:
        refuse_probabilities(log_prob, output)
    # log p = -log(1 + exp(-log-odds)): log_softmax, and exact also where 1 - p is too small for it to see.
    return logsigmoid(log_odds(output, target, check=False))


def prob(output: Tensor, target: Tensor, *, check: bool = True) -> Tensor:
    """The probability of the target class under a softmax; under a sigmoid where there is one column.

    Args:
        output: Logits ``[B, C]``.
        target: Integer ``[B]``, the class of each row.
        check: Whether to refuse an output that is probabilities already; see :func:`refuse_probabilities`.

    Returns:
        Float64 ``[B]`` (float32 on MPS).

    Raises:
        TypeError: As :func:`log_odds`.
        ValueError: As :func:`log_odds`.

    Example:
        >>> prob(torch.tensor([[1.0, 1.0, 1.0, 1.0]]), torch.tensor([2]))
        tensor([0.2500], dtype=torch.float64)
    """
    if check:
        refuse_probabilities(prob, output)
    # Not torch.sigmoid, whose last bit depends on where in the batch a row stands.
    return (1 + (-log_odds(output, target, check=False)).exp()).reciprocal()


def margin(output: Tensor, target: Tensor) -> Tensor:
    """How far the target's column is above the largest other one; with one column, the column itself.

    Args:
        output: ``[B, C]``.
        target: Integer ``[B]``, the class of each row.

    Returns:
        Float64 ``[B]`` (float32 on MPS); negative where another class is predicted.

    Raises:
        TypeError: As :func:`log_odds`.
        ValueError: As :func:`log_odds`, but probabilities are welcome.

    Example:
        >>> margin(torch.tensor([[1.0, 4.0, 3.0]]), torch.tensor([2]))
        tensor([-1.], dtype=torch.float64)
    """
    z, index = _operands(output, target)
    own = z.gather(1, index).squeeze(1)
    return own if z.shape[1] == 1 else own - _others(z, index).amax(1)


def binary_log_odds(output: Tensor, target: Tensor) -> Tensor:
    """The log-odds of class 1 or 0 of a head whose one column tells them apart, as for ``BCEWithLogitsLoss``.

    The column must be a logit. Where it is a probability already, it cannot be told from one.

    Args:
        output: Logits ``[B, 1]``.
        target: Integer ``[B]``: 1 for +z, 0 for -z.

    Returns:
        Float64 ``[B]`` (float32 on MPS).

    Raises:
        TypeError: As :func:`log_odds`.
        ValueError: If there are several columns, or as :func:`log_odds`.

    Example:
        >>> binary_log_odds(torch.tensor([[3.0], [3.0]]), torch.tensor([1, 0]))
        tensor([ 3., -3.], dtype=torch.float64)
    """
    z, index = _operands(output, target, classes=2)
    if z.shape[1] != 1:
        raise ValueError(
            f'score="binary_log_odds" is for a head with one column; the output is {kind_of(output)}: use '
            'score="log_odds"'
        )
    return torch.where(index == 1, z, -z).squeeze(1)


SCORES: Final[Mapping[str, Score]] = MappingProxyType(
    {score.__name__: score for score in (log_odds, logit, log_prob, prob, margin, binary_log_odds)}
)
"""The named scores."""

_OF_LOGITS: Final = (log_odds, log_prob, prob)  # those that would take the softmax of a softmax


def reads_classes(score: Score) -> bool:
    """Whether a score reads logits as a distribution over classes: :func:`log_odds`, :func:`log_prob`, :func:`prob`."""
    return any(score is known for known in _OF_LOGITS)


def resolve_score(score: str | Score) -> tuple[str, Score]:
    """Find a score by name, or take a callable for one.

    Args:
        score: A name out of ``SCORES``, or a callable ``score(output [B, C], target [B]) -> [B]``.

    Returns:
        A name for provenance (of a callable, its ``__name__`` or its class's), and the score.

    Raises:
        TypeError: If `score` is neither a str nor callable.
        ValueError: If no score has that name.

    Example:
        >>> resolve_score("margin")[0], resolve_score(lambda output, target: output.amax(1))[0]
        ('margin', '<lambda>')
    """
    if isinstance(score, str):
        if score in SCORES:
            return score, SCORES[score]
        near = difflib.get_close_matches(score, SCORES)
        hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise ValueError(
            f"score {score!r} is not known{hint}; give one of {', '.join(SCORES)}, or a callable "
            "score(output [B, C], target [B]) -> [B]"
        )
    if not callable(score):
        raise TypeError(
            f"score must be one of {', '.join(SCORES)}, or a callable score(output [B, C], target [B]) -> "
            f"[B]; got {kind_of(score)}"
        )
    return _name_of(score), score


def looks_like_probabilities(output: Tensor) -> bool:
    """Whether every row is nonnegative and sums to 1, within 1e-4 or the rounding of the output's dtype.

    Every row must: the more rows there are, the less is it chance. One column never does, since a sigmoid's
    output cannot be told from a logit.

    Args:
        output: ``[B, C]``.

    Returns:
        False also where there are no rows, one column, or a NaN.

    Raises:
        TypeError: If `output` is not a real tensor.
        ValueError: If `output` is not ``[B, C]``.

    Example:
        >>> z = torch.tensor([[1.0, 2.0], [3.0, 0.0]])
        >>> looks_like_probabilities(z), looks_like_probabilities(z.softmax(1))
        (False, True)
    """
    _check_output(output)
    if len(output) == 0 or output.shape[1] < 2:
        return False
    # Rounding changes each p by at most eps/2 of itself, hence their sum by eps/2: 4e-3 for bfloat16.
    rounding = torch.finfo(output.dtype).eps if output.is_floating_point() else 0.0
    p = _wide(output)
    sums_to_one = (p.sum(1) - 1).abs() <= max(_SUM_TOLERANCE, rounding)
    return bool(sums_to_one.all() & (p >= 0).all())


def refuse_probabilities(score: Score, output: Tensor) -> None:
    """Raise if `score` reads logits and `output` is probabilities already.

    Meant to be called once, on a forward with many rows: asked of each row alone, over thousands of masked
    copies, honest logits would now and then be refused by chance. A score of one's own is never refused.

    Args:
        score: The score that is about to be applied.
        output: ``[B, C]``, as the score would get it.

    Raises:
        TypeError: If `output` is not a real tensor.
        ValueError: If the output is probabilities, with the ways out.

    Example:
        >>> refuse_probabilities(logit, torch.tensor([[0.2, 0.8]]))
    """
    if not reads_classes(score) or not looks_like_probabilities(output):
        return
    name = _name_of(score)
    raise ValueError(
        f'score="{name}" reads logits, and the output {kind_of(output)} is probabilities already: '
        f"{count_of(len(output), 'row')}, all nonnegative with the sum 1. Either return logits (leave out "
        'the final softmax); or explain the probability as it is, with score="logit"; or give its log-odds '
        "as a callable, log(p) - log1p(-p) with p = output.gather(1, target[:, None]).squeeze(1). Should "
        f"they be logits all the same, give functools.partial({name}, check=False)"
    )


def apply_score(score: Score, output: Tensor, target: Tensor) -> Tensor:
    """Call a score, and check what it returns.

    Probabilities are not looked for here: see :func:`refuse_probabilities`.

    Args:
        score: A score, of one's own or out of ``SCORES``.
        output: ``[B, C]``, given to the score as it is.
        target: Integer ``[B]``.

    Returns:
        Float64 ``[B]`` (float32 on MPS), on the device that the score left it on.

    Raises:
        TypeError: If the score returns something else than a tensor of real numbers.
        ValueError: If the score returns another shape than ``[B]``.

    Example:
        >>> apply_score(lambda output, target: output.amax(1), torch.tensor([[1, 4]]), torch.tensor([0]))
        tensor([4.], dtype=torch.float64)
    """
    _check_output(output)
    values: Any = score(output, target, check=False) if reads_classes(score) else score(output, target)  # type: ignore[call-arg]
    wanted = f"expected real numbers, [{len(output)}], one a row of the output {shape_of(output)}"
    if not isinstance(values, Tensor):
        raise TypeError(f"score {_name_of(score)} returned {kind_of(values)}; {wanted}, as a tensor")
    if values.is_complex() or values.dtype == torch.bool:
        raise TypeError(f"score {_name_of(score)} returned {kind_of(values)}; {wanted}: convert them")
    if values.shape != (len(output),):
        squeezed = values.shape == (len(output), 1)
        way_out = "take .squeeze(1)" if squeezed else "reduce each row to one number, and keep the rows apart"
        raise ValueError(f"score {_name_of(score)} returned {kind_of(values)}; {wanted}: {way_out}")
    return _wide(values)


def _operands(output: Tensor, target: Tensor, classes: int | None = None) -> tuple[Tensor, Tensor]:
    """The output in float64, and the target as an index ``[B, 1]`` beside it."""
    _check_output(output)
    if not isinstance(target, Tensor):
        raise TypeError(f"target must be an integer tensor [B]; got {kind_of(target)}")
    if target.is_floating_point() or target.is_complex() or target.dtype == torch.bool:
        raise TypeError(f"target must be integers; got {kind_of(target)}: convert it with .long()")
    if target.shape != output.shape[:1]:
        raise ValueError(
            f"target has shape {shape_of(target)}, the output {shape_of(output)}: give one target a row, "
            f"[{len(output)}]"
        )
    count = output.shape[1] if classes is None else classes
    # Only where it costs nothing: on another device it would wait for the forward, once a batch.
    if target.device.type == "cpu" and len(target) and not 0 <= int(target.min()) <= int(target.max()) < count:
        raise ValueError(
            f"target runs from {int(target.min())} to {int(target.max())}: for the output {shape_of(output)} "
            f"give {'0' if count == 1 else f'0 to {count - 1}'}"
        )
    return _wide(output), target.to(output.device, torch.int64)[:, None]


def _check_output(output: Any) -> None:
    if not isinstance(output, Tensor):
        raise TypeError(f"output must be a tensor [B, C]; got {kind_of(output)}")
    if output.is_complex() or output.dtype == torch.bool:
        raise TypeError(f"output must be real numbers; got {kind_of(output)}")
    if output.dim() != 2 or output.shape[1] == 0:
        raise ValueError(f"output must be [B, C] with a column at least; got {shape_of(output)}")


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.float32 if x.device.type == "mps" else torch.float64)


def _others(z: Tensor, index: Tensor) -> Tensor:
    """The rows without the target's column, which -inf takes out of a maximum or a logsumexp."""
    return z.scatter(1, index, -torch.inf)


def _name_of(score: Any) -> str:
    while isinstance(score, functools.partial):
        score = score.func
    return str(getattr(score, "__name__", type(score).__name__))
