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

from captum_lkn._common.warn import warn

__all__ = [
    "GRID",
    "Fit",
    "accuracy",
    "check_penalties",
    "fit_exactly",
    "fit_in_minibatches",
    "held_out_rows",
    "logits",
    "loss",
]

GRID = (10.0, 1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
"""Default penalties, in units of the mean variance of a feature, so that the units of features do not matter."""

_CHUNK = 1 << 22  # numbers that are converted to float64 at once
_TOLERANCE, _TOO_STEEP = 1e-7, 1e-5  # of the gradient, where the curvature is about 1
_STEPS = 1000
_PATIENCE = 2  # penalties in a row that are worse than the best: the path ends
_EPOCHS, _LEAST_STEPS, _BATCH, _RATE = 30, 3000, 64, 0.03


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
    if isinstance(penalties, str) or not isinstance(penalties, Sequence) or not penalties:
        raise TypeError(f"penalties must be a list of numbers, such as [0.01]; got {penalties!r}")
    for penalty in penalties:
        if isinstance(penalty, bool) or not isinstance(penalty, (int, float)) or not 0 < penalty < math.inf:
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
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(labels), generator=generator)
    held = torch.zeros(len(labels), dtype=torch.bool)
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
    rows = torch.arange(len(features)) if rows is None else rows
    return torch.cat([chunk @ weight.T + bias for chunk in _chunks(features, rows)])


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


def fit_exactly(
    features: Tensor, labels: Tensor, held: Tensor, columns: int, penalties: Sequence[float] | None = None
) -> Fit:
    """Fit by L-BFGS in float64, all rows at once, to the optimum; choose the penalty by the loss of held out rows.

    Penalties go from strong to weak, each started at the optimum of the one before; the path ends where two in a row
    are worse than the best.

    Args:
        features: ``[N, D]``, finite.
        labels: int64 ``[N]``, or float64 ``[N, C]``.
        held: Bool ``[N]``, the rows that are not fitted; may be none where there is one penalty.
        columns: C.
        penalties: What to choose from; None: :data:`GRID` times the mean variance of a feature.

    Returns:
        The weights, fitted to the rows that are not held out.

    Warns:
        UserWarning: The optimum was not reached.

    Example:
        >>> features = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
        >>> labels, none = torch.tensor([0, 0, 1, 1]), torch.zeros(4, dtype=torch.bool)
        >>> fit = fit_exactly(features, labels, none, 2, [0.1])
        >>> round(float(-fit.bias.diff() / fit.weight.diff(dim=0)), 4)  # where both classes are equally likely
        1.5
    """
    fitted, rest = _both_sides(held)
    frame = _Frame.of(features, fitted)
    x = torch.cat([frame.into(chunk) for chunk in _chunks(features, fitted)])
    axes, variances = _principal_axes(x)
    x = x @ axes
    weight, bias = x.new_zeros(columns, x.shape[1]), x.new_zeros(columns)
    found: list[tuple[float, Fit, float]] = []
    for penalty in _strong_first(penalties, frame):
        weight, bias, gradient = _minimise(x, variances, labels[fitted], weight, bias, penalty / frame.scale**2)
        fit = frame.out_of(weight @ axes.T, bias, penalty)
        found.append((_loss_on(rest, features, labels, fit), fit, gradient))
        losses = [entry[0] for entry in found]
        if len(losses) - 1 - losses.index(min(losses)) >= _PATIENCE:
            break
    _, best, gradient = min(found, key=lambda entry: entry[0])
    if gradient > _TOO_STEEP:
        warn(
            f"a probe stopped after {_STEPS} steps with a gradient of {gradient:.1g}, short of its optimum at the "
            f"penalty {best.penalty:.3g}: give stronger penalties="
        )
    return best


def fit_in_minibatches(
    features: Tensor,
    labels: Tensor,
    held: Tensor,
    columns: int,
    penalties: Sequence[float] | None = None,
    *,
    seed: int = 0,
) -> Fit:
    """Fit by Adam in minibatches, which reads some hundreds of rows at a time; all penalties in one go.

    For features that do not fit in memory: 30 passes over the rows, more where that makes less than 3,000 steps, with a
    rate that falls to 0. It ends near the optimum, with weak penalties on its way there.

    Args:
        features: ``[N, D]``, finite; may be mapped from a file.
        labels: int64 ``[N]``, or float64 ``[N, C]``.
        held: Bool ``[N]``, the rows that are not fitted; may be none where there is one penalty.
        columns: C.
        penalties: What to choose from; None: as in :func:`fit_exactly`.
        seed: Of the order of the rows.

    Returns:
        The weights, as of :func:`fit_exactly`.
    """
    fitted, rest = _both_sides(held)
    frame = _Frame.of(features, fitted)
    tried = _strong_first(penalties, frame)
    costs = torch.tensor(tried, dtype=torch.float64)[:, None, None] / frame.scale**2
    weight = torch.zeros(len(tried), columns, features.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(len(tried), 1, columns, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([weight, bias], lr=_RATE)
    steps = -(-len(fitted) // _BATCH)
    epochs = max(_EPOCHS, -(-_LEAST_STEPS // steps))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, epochs * steps)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for batch in torch.split(fitted[torch.randperm(len(fitted), generator=generator)], _BATCH):
            with torch.enable_grad():
                z = frame.into(features[batch]) @ weight.mT + bias
                total = loss(z, labels[batch]).sum() + (costs / 2 * weight.square()).sum()
            adam.zero_grad()
            torch.autograd.backward(total)
            adam.step()
            schedule.step()
    each = zip(weight.detach(), bias.detach()[:, 0], tried, strict=True)
    return min((frame.out_of(*parts) for parts in each), key=lambda fit: _loss_on(rest, features, labels, fit))


class _Frame(NamedTuple):
    """Coordinates in which features have mean 0 and a mean variance of 1: there the optimum is found, not stated.

    The bias has no penalty and takes up the mean, and one scale for all features goes into the penalty, so that the
    problem is the same one.
    """

    mean: Tensor
    scale: float

    @classmethod
    def of(cls, features: Tensor, rows: Tensor) -> _Frame:
        mean = sum((chunk.sum(0) for chunk in _chunks(features, rows)), torch.zeros(())) / len(rows)
        squares = sum(float((chunk - mean).square().sum()) for chunk in _chunks(features, rows))
        return cls(mean, (squares / (len(rows) * features.shape[1])) ** 0.5 or 1.0)

    def into(self, features: Tensor) -> Tensor:
        return (features.double() - self.mean) / self.scale

    def out_of(self, weight: Tensor, bias: Tensor, penalty: float) -> Fit:
        weight = weight / self.scale
        return Fit(weight, bias - weight @ self.mean, penalty)


def _strong_first(penalties: Sequence[float] | None, frame: _Frame) -> list[float]:
    return sorted(penalties or [x * frame.scale**2 for x in GRID], reverse=True)


def _both_sides(held: Tensor) -> tuple[Tensor, Tensor]:
    return torch.nonzero(~held)[:, 0], torch.nonzero(held)[:, 0]


def _loss_on(rows: Tensor, features: Tensor, labels: Tensor, fit: Fit) -> float:
    return float(loss(logits(features, fit.weight, fit.bias, rows), labels[rows])) if len(rows) else 0.0


def _principal_axes(x: Tensor) -> tuple[Tensor, Tensor]:
    """Axes ``[D, min(N, D)]`` of the rows ``[N, D]`` along which they do not correlate, and the variances there.

    A rotation changes neither the problem nor the square of the weights, and what is perpendicular to all rows gets no
    weight. But along these axes L-BFGS knows the curvature beforehand: some twenty steps where it took thousands.
    """
    basis = torch.linalg.qr(x.T).Q if x.shape[1] > len(x) else torch.eye(x.shape[1], dtype=x.dtype)
    inside = x @ basis
    variances, rotation = torch.linalg.eigh(inside.T @ inside / len(x))
    return basis @ rotation, variances.clamp_min(0)


def _minimise(
    x: Tensor, variances: Tensor, labels: Tensor, weight: Tensor, bias: Tensor, penalty: float
) -> tuple[Tensor, Tensor, float]:
    """The optimum, from a start; and how steep it still is there, which at the optimum is 0."""
    z = x @ weight.T + bias
    p = z.softmax(1) if labels.dim() == 1 else z.sigmoid()
    curvature = (float((p * (1 - p)).mean()) * variances + penalty).sqrt()
    free = (weight * curvature).requires_grad_()
    bias = bias.clone().requires_grad_()
    solver = torch.optim.LBFGS(
        [free, bias],
        max_iter=_STEPS,
        max_eval=4 * _STEPS,
        tolerance_grad=_TOLERANCE,
        tolerance_change=_TOLERANCE**2,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def objective() -> Tensor:
        solver.zero_grad()
        with torch.enable_grad():
            weight = free / curvature
            value = loss(x @ weight.T + bias, labels) + penalty / 2 * weight.square().sum()
        torch.autograd.backward(value)
        return value

    solver.step(objective)  # type: ignore[no-untyped-call]
    objective()
    gradient = max(float(part.grad.abs().max()) for part in (free, bias) if part.grad is not None)
    return free.detach() / curvature, bias.detach(), gradient


def _chunks(features: Tensor, rows: Tensor) -> Iterator[Tensor]:
    """The given rows in float64, as many at a time as memory bears."""
    for part in torch.split(rows, max(1, _CHUNK // max(1, features.shape[1]))):
        yield features[part].double()


def _rarest(labels: Tensor) -> Tensor:
    """For each row of 0s and 1s the rarest label that it has; -1 where it has none."""
    counts = labels.sum(0)
    rarest = torch.where(labels > 0, counts, torch.inf).argmin(1)
    return torch.where(labels.any(1), rarest, -1)
