"""Scores: from a row of outputs to the one number that is explained.

==================== ================================= =============== ========= =========== =============
name                 C >= 2 columns                    one column z    plain     reads       unit
                                                                       values
==================== ================================= =============== ========= =========== =============
``log_odds``         z_y - logsumexp of the others     +z              z_y       classes     log-odds
``logit``            z_y, what Captum explains         +z              z_y       values      logit
``log_prob``         log softmax(z)_y                  log sigmoid(z)  refused   classes     nats
``prob``             softmax(z)_y                      sigmoid(z)      refused   classes     probability
``margin``           z_y - the largest of the others   +z              as it is  row         logit
``binary_log_odds``  refused                           +z for target   refused   binary      log-odds
                                                       1, -z for 0
==================== ================================= =============== ========= =========== =============

A single column z is a label by itself, true or not. Its log-odds are z, and scores of classes get it as two logits, 0
and z. Plain values are those of a regression, where a Hugging Face model states that it is one. ``binary_log_odds``
takes one column as the logit that tells two classes apart.

A user's own score is any callable ``score(output [B, C], target int64 [B]) -> [B]``; :class:`Score` says in addition
what it reads and its unit. Named scores cast the output to float64 first (float32 on MPS, which has no float64), so
that the outputs of a half-precision model are not rounded again; a callable gets the output as the model returned it.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from captum_lkn._common.messages import kind_of
from captum_lkn.outputs.operands import operands, others
from captum_lkn.outputs.score import Score, ScoreLike, target_column

__all__ = [
    "SCORES",
    "binary_log_odds",
    "log_odds",
    "log_prob",
    "logit",
    "margin",
    "prob",
    "resolve_score",
]


def resolve_score(score: ScoreLike) -> Score:
    """Return the score of a name or of a callable.

    Args:
        score: A name out of ``SCORES``, a :class:`Score`, or a callable ``score(output [B, C], target [B]) -> [B]``.

    Returns:
        The score. A ``functools.partial`` of a :class:`Score` keeps the name, what it reads and the unit; the name of
        any other callable is its ``__name__`` or its class's.

    Raises:
        TypeError: If `score` is neither a str nor callable.
        ValueError: If no score has that name.

    Example:
        >>> resolve_score("margin").unit, resolve_score(lambda output, target: output.amax(1)).name
        ('logit', '<lambda>')
    """
    if isinstance(score, Score):
        return score
    if isinstance(score, str):
        if score in SCORES:
            return SCORES[score]
        near = difflib.get_close_matches(score, SCORES)
        hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise ValueError(
            f"score must be one of {', '.join(SCORES)}, or a callable score(output [B, C], target [B]) -> [B]; "
            f"got {score!r}.{hint}"
        )
    if not callable(score):
        raise TypeError(
            f"score must be one of {', '.join(SCORES)}, or a callable score(output [B, C], target [B]) -> [B]; "
            f"got {kind_of(score)}"
        )
    inner: Any = score
    while isinstance(inner, functools.partial):
        inner = inner.func
    if isinstance(inner, Score):
        return replace(inner, function=score)
    return Score(str(getattr(inner, "__name__", type(inner).__name__)), score)


# ---------------------------------------------------------------- named scores


def _log_odds(output: Tensor, target: Tensor) -> Tensor:
    """Return the log-odds of the target class, ``log p/(1-p)``.

    Computed as ``z_y - logsumexp(z_others)``, never through p, which rounds to 0 or 1 for confident predictions:
    logits of 1e4 still give exact values. Classes masked by -inf do not count; where all others are, it is +inf.

    Source: Cheng et al., "Layerwise Change of Knowledge in Neural Networks", ICML 2024, footnote 3.

    Args:
        output: Logits ``[B, C]``. Log-probabilities are logits.
        target: Integer ``[B]``, the class of each row.

    Returns:
        Float64 ``[B]`` (float32 on MPS).

    Raises:
        TypeError: If `output` is not a real tensor or `target` not an integer tensor.
        ValueError: If the shapes do not fit, or a target is out of range (checked on CPU only, since elsewhere it
            would cost a synchronisation).

    Example:
        >>> log_odds(torch.tensor([[1e4, -1e4], [2.0, 5.0]]), torch.tensor([0, 1]))
        tensor([2.0000e+04, 3.0000e+00], dtype=torch.float64)
    """
    z, index = operands(output, target)
    return z.gather(1, index).squeeze(1) - others(z, index).logsumexp(1)


def _log_prob(output: Tensor, target: Tensor) -> Tensor:
    """Return the log-probability of the target class under a softmax; of one column, under a sigmoid.

    Args:
        output: Logits ``[B, C]``.
        target: Integer ``[B]``, the class of each row.

    Returns:
        Float64 ``[B]`` (float32 on MPS).

    Raises:
        TypeError: As ``log_odds``.
        ValueError: As ``log_odds``.

    Example:
        >>> log_prob(torch.tensor([[0.0, 0.0]]), torch.tensor([1]))
        tensor([-0.6931], dtype=torch.float64)
    """
    # log p = -log(1 + exp(-log-odds)): log_softmax, and exact also where 1 - p is too small for it to see.
    return logsigmoid(_log_odds(output, target))


def _prob(output: Tensor, target: Tensor) -> Tensor:
    """Return the probability of the target class under a softmax; of one column, under a sigmoid.

    Args:
        output: Logits ``[B, C]``.
        target: Integer ``[B]``, the class of each row.

    Returns:
        Float64 ``[B]`` (float32 on MPS).

    Raises:
        TypeError: As ``log_odds``.
        ValueError: As ``log_odds``.

    Example:
        >>> prob(torch.tensor([[1.0, 1.0, 1.0, 1.0]]), torch.tensor([2]))
        tensor([0.2500], dtype=torch.float64)
    """
    # Not torch.sigmoid, whose last bit depends on the row's place in the batch.
    return (1 + (-_log_odds(output, target)).exp()).reciprocal()


def _margin(output: Tensor, target: Tensor) -> Tensor:
    """Return the target's column minus the largest other column; of one column, the column itself.

    Args:
        output: ``[B, C]``.
        target: Integer ``[B]``, the class of each row.

    Returns:
        Float64 ``[B]`` (float32 on MPS); negative where another class is predicted.

    Raises:
        TypeError: As ``log_odds``.
        ValueError: As ``log_odds``.

    Example:
        >>> margin(torch.tensor([[1.0, 4.0, 3.0]]), torch.tensor([2]))
        tensor([-1.], dtype=torch.float64)
    """
    z, index = operands(output, target)
    own = z.gather(1, index).squeeze(1)
    return own if z.shape[1] == 1 else own - others(z, index).amax(1)


def _binary_log_odds(output: Tensor, target: Tensor) -> Tensor:
    """Return the log-odds of class 1 or 0 of a head with one column, as for ``BCEWithLogitsLoss``.

    The column must be a logit. A column of probabilities cannot be told from one of logits.

    Args:
        output: Logits ``[B, 1]``.
        target: Integer ``[B]``: 1 for +z, 0 for -z.

    Returns:
        Float64 ``[B]`` (float32 on MPS).

    Raises:
        TypeError: As ``log_odds``.
        ValueError: If there are several columns, or as ``log_odds``.

    Example:
        >>> binary_log_odds(torch.tensor([[3.0], [3.0]]), torch.tensor([1, 0]))
        tensor([ 3., -3.], dtype=torch.float64)
    """
    z, index = operands(output, target, classes=2)
    if z.shape[1] != 1:
        raise ValueError(
            f'score="binary_log_odds" needs an output with one column; got {kind_of(output)}. Use score="log_odds"'
        )
    return torch.where(index == 1, z, -z).squeeze(1)


log_odds: Final = Score("log_odds", _log_odds, "classes", "log-odds", in_output_units=True)
logit: Final = Score("logit", target_column, "values", "logit", in_output_units=True)
log_prob: Final = Score("log_prob", _log_prob, "classes", "nats")
prob: Final = Score("prob", _prob, "classes", "probability")
margin: Final = Score("margin", _margin, "row", "logit", in_output_units=True)
binary_log_odds: Final = Score("binary_log_odds", _binary_log_odds, "binary", "log-odds")

SCORES: Final[Mapping[str, Score]] = MappingProxyType(
    {score.name: score for score in (log_odds, logit, log_prob, prob, margin, binary_log_odds)}
)
"""The named scores."""
