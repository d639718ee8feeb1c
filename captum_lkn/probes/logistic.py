"""Logistic regression: linear classifiers of features, and the held-out rows that choose their penalty.

This sum is minimised over a weight ``[C, D]`` and a bias ``[C]``, with logits ``z = W f + b``::

    mean over rows of the loss(z, label)  +  penalty / 2 * sum of squares of W

The loss is the cross-entropy of a softmax over the columns for labels int64 ``[N]``, and the sum over columns of that
of a sigmoid for labels float64 ``[N, C]`` of 0 and 1. The bias has no penalty, and features are not standardised. In
scikit-learn's terms, with N rows that are fitted, the same weights come from

=====================================  ==========================================
softmax over three columns or more     ``LogisticRegression(C=1 / (N * penalty))``
sigmoid, for each column               ``LogisticRegression(C=1 / (N * penalty))``
softmax over two columns               ``LogisticRegression(C=2 / (N * penalty))``
=====================================  ==========================================

With two columns the optimum has ``w_1 = -w_0 = w / 2``, whose squares add up to half the square of scikit-learn's
single column ``w``. So two columns need twice the penalty for equal log-odds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from captum_lkn._common.checks import is_number

__all__ = [
    "GRID",
    "Fit",
    "Scaling",
    "accuracy",
    "check_penalties",
    "chunks",
    "held_out_rows",
    "logits",
    "loss",
    "loss_on",
    "probabilities",
    "strong_first",
]

GRID = (10.0, 1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
"""Default penalties, in units of the mean variance of a feature, so that the units of features do not matter."""

_CHUNK = 1 << 22  # numbers that are converted to float64 at once


class Fit(NamedTuple):
    """Linear classifier and the penalty of its fit."""

    weight: Tensor
    bias: Tensor
    penalty: float


def check_penalties(penalties: Any) -> None:
    """Check the penalties that a user gave.

    Args:
        penalties: A list of numbers, or None.

    Raises:
        TypeError: `penalties` is not a list.
        ValueError: A penalty is not a number above 0.
    """
    if penalties is None:
        return
    if isinstance(penalties, str | bytes) or not isinstance(penalties, Sequence) or not penalties:
        raise TypeError(f"penalties must be a list of numbers, such as [0.01]; got {penalties!r}")
    for penalty in penalties:
        if not is_number(penalty) or not 0 < penalty < math.inf:
            raise ValueError(
                f"penalties must be numbers above 0, since separable classes have no optimum without a penalty; got "
                f"{penalty!r}"
            )


def held_out_rows(labels: Tensor, share: float, seed: int) -> Tensor:
    """Draw the held-out rows from each class, so that a class of two rows or more has rows on both sides.

    A row with several labels counts for its rarest label.

    Args:
        labels: int64 ``[N]``, or float64 ``[N, C]`` of 0 and 1.
        share: The share of the rows that is held out, between 0 and 1.
        seed: Seed of the generator that draws the rows.

    Returns:
        Bool ``[N]``, true at held-out rows.

    Example:
        >>> held_out_rows(torch.tensor([0, 0, 0, 0, 1, 1, 2]), 0.25, seed=0).sum()
        tensor(2)
    """
    strata = labels if labels.dim() == 1 else _rarest(labels)
    generator = torch.Generator("cpu").manual_seed(seed)
    order = torch.randperm(len(labels), generator=generator, device="cpu")
    held = torch.zeros(len(labels), dtype=torch.bool, device="cpu")
    for stratum in sorted(set(strata.tolist())):
        rows = order[strata[order] == stratum]
        held[rows[: min(max(round(share * len(rows)), 1), len(rows) - 1)]] = True
    return held


def logits(features: Tensor, weight: Tensor, bias: Tensor, rows: Tensor | None = None) -> Tensor:
    """Return ``features @ weight.T + bias`` in float64, computed in chunks of rows.

    Args:
        features: ``[N, D]``.
        weight: Float64 ``[C, D]``.
        bias: Float64 ``[C]``.
        rows: int64 ``[R]``, the rows to take; None: all.

    Returns:
        Float64 ``[R, C]``.
    """
    rows = torch.arange(len(features), device=features.device) if rows is None else rows
    return torch.cat([chunk @ weight.T + bias for chunk in chunks(features, rows)])


def loss(z: Tensor, labels: Tensor) -> Tensor:
    """Return the mean loss of rows, see the top of this module.

    Args:
        z: Logits ``[..., N, C]``.
        labels: int64 ``[N]``, or float64 ``[N, C]``.

    Returns:
        ``[...]``.

    Example:
        >>> loss(torch.zeros(3, 2), torch.tensor([0, 1, 1]))  # log 2
        tensor(0.6931)
    """
    if labels.dim() == 1:
        index = labels[:, None].expand(*z.shape[:-1], 1)
        return -z.log_softmax(-1).gather(-1, index)[..., 0].mean(-1)
    return binary_cross_entropy_with_logits(z, labels.expand_as(z), reduction="none").sum(-1).mean(-1)


def accuracy(z: Tensor, labels: Tensor) -> float:
    """Return the share of rows whose largest logit is that of the label; for 0 and 1 labels, of correct signs.

    Args:
        z: Logits ``[N, C]``.
        labels: int64 ``[N]``, or float64 ``[N, C]``.

    Returns:
        Between 0 and 1.
    """
    right = z.argmax(1) == labels if labels.dim() == 1 else (z > 0) == (labels > 0)
    return float(right.double().mean())


def probabilities(z: Tensor, labels: Tensor) -> Tensor:
    """Return the probabilities of logits: by a softmax for classes, by sigmoids for labels of 0 and 1.

    Args:
        z: Logits ``[..., N, C]``.
        labels: int64 ``[N]``, or float64 ``[N, C]``.
    """
    return z.softmax(-1) if labels.dim() == 1 else z.sigmoid()


def loss_on(rows: Tensor, features: Tensor, labels: Tensor, fit: Fit) -> float:
    """Return the mean loss of a fit on some rows; 0 if there are none."""
    return float(loss(logits(features, fit.weight, fit.bias, rows), labels[rows])) if len(rows) else 0.0


class Scaling(NamedTuple):
    """Centre and scale of features, for the optimiser only; penalties stay in the units of the features.

    The bias has no penalty and takes up the centre, and one scale for all features goes into the penalty, so that the
    problem stays the same. Scaled features have mean 0 and a mean variance of 1.

    Attributes:
        mean: Float64 ``[D]``.
        scale: Root of the mean variance of the features; 1 if that is 0.
    """

    mean: Tensor
    scale: float

    @classmethod
    def of(cls, features: Tensor, rows: Tensor) -> Scaling:
        """Return the centre and scale of some rows of features ``[N, D]``."""
        total = features.new_zeros(features.shape[1], dtype=torch.float64)
        mean = sum((chunk.sum(0) for chunk in chunks(features, rows)), total) / len(rows)
        squares = sum(float((chunk - mean).square().sum()) for chunk in chunks(features, rows))
        return cls(mean, (squares / (len(rows) * features.shape[1])) ** 0.5 or 1.0)

    def apply(self, features: Tensor) -> Tensor:
        """Return features centred and scaled, in float64."""
        return (features.double() - self.mean) / self.scale

    def undo(self, weight: Tensor, bias: Tensor, penalty: float) -> Fit:
        """Return a fit of scaled features as one of the features themselves."""
        weight = weight / self.scale
        return Fit(weight, bias - weight @ self.mean, penalty)


def strong_first(penalties: Sequence[float] | None, scaling: Scaling) -> list[float]:
    """Return penalties in descending order; None: :data:`GRID` times the mean variance of a feature."""
    return sorted(penalties or [x * scaling.scale**2 for x in GRID], reverse=True)


def chunks(features: Tensor, rows: Tensor) -> Iterator[Tensor]:
    """Yield the given rows in float64, in parts of a limited size."""
    for part in torch.split(rows, max(1, _CHUNK // max(1, features.shape[1]))):
        yield features[part].double()


def _rarest(labels: Tensor) -> Tensor:
    """Return for each row of 0s and 1s its rarest label; -1 if it has none."""
    counts = labels.sum(0)
    rarest = torch.where(labels > 0, counts, torch.inf).argmin(1)
    return torch.where(labels.any(1), rarest, -1)
