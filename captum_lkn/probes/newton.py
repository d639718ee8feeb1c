"""Logistic regression to its optimum, by a truncated Newton method.

Each step solves the Newton equations by conjugate gradients, as far as the distance to the optimum is worth (Nash,
"A survey of truncated-Newton methods", J. Comput. Appl. Math. 2000). Products with the Hessian need no second
derivatives: with P the probabilities ``[N, C]`` and ``Z = x @ V.T``, the product with V is
``(P * (Z - sum_c P * Z)).T @ x / N + penalty * V``; for sigmoids the first factor is ``P * (1 - P) * Z``.

Features are rotated to their principal axes, where the diagonal of the Hessian is a good preconditioner: on 1,118 rows
of 1,024 features and 10 classes the seven penalties take 1,190 products there, and 1,980 without the rotation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from captum_lkn._common.warn import warn
from captum_lkn.probes.logistic import Fit, Scaling, chunks, loss, loss_on, probabilities, strong_first

__all__ = ["fit_exactly"]

_STEPS = 50  # of Newton's method, for one penalty
_CG_STEPS = 1000
# A step that changes no logit of a fitted row by more than this is the last one. The error that is left is smaller
# than the step by one or two orders of magnitude.
_COARSE, _FINE = 0.1, 1e-4
_PATIENCE = 2  # consecutive penalties that are worse than the best, after which no weaker one is tried
_SQUARED = 256  # columns that are squared at once
_SMALLEST = 1e-6  # part of a step, at which the sum falls by less than its rounding
_NEGLIGIBLE = 1e-14  # variance along an axis, relative to the largest, that is rounding


def fit_exactly(
    features: Tensor,
    labels: Tensor,
    held: Tensor,
    columns: int,
    penalties: Sequence[float] | None = None,
    *,
    advance: Callable[[float], object] = float,
) -> Fit:
    """Fit in float64 to the optimum; choose the penalty by the loss of held-out rows.

    Penalties are tried from strong to weak, each from the optimum of the one before, with a tolerance that is enough to
    choose among them; the best is then fitted to the optimum. No weaker ones are tried after two that are worse.

    Args:
        features: ``[N, D]``, finite.
        labels: int64 ``[N]``, or float64 ``[N, C]``.
        held: Bool ``[N]``, the rows that are not fitted; may be none if there is one penalty.
        columns: C.
        penalties: The penalties to choose from; None: :data:`captum_lkn.probes.logistic.GRID` times the mean variance
            of a feature.
        advance: Called with the share of the work that was done, each time that some was; the shares add up to 1.

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
    fitted, rest = (~held).nonzero()[:, 0], held.nonzero()[:, 0]
    scaling = Scaling.of(features, fitted)
    axes = _Axes.of(torch.cat([scaling.apply(chunk) for chunk in chunks(features, fitted)]))
    tried = strong_first(penalties, scaling)
    share = 1 / (len(tried) + 1)
    point = _Point(axes.rows.new_zeros(columns, axes.rows.shape[1]), axes.rows.new_zeros(columns))
    found: list[tuple[float, _Point, float]] = []
    for penalty in tried:
        problem = _Problem(axes.rows, labels[fitted], penalty / scaling.scale**2)
        point, _ = problem.solve(point, _COARSE if len(tried) > 1 else _FINE)
        found.append((loss_on(rest, features, labels, axes.fit(point, scaling, penalty)), point, penalty))
        advance(share)
        losses = [entry[0] for entry in found]
        if len(losses) - 1 - losses.index(min(losses)) >= _PATIENCE:
            break
    _, point, penalty = min(found, key=lambda entry: entry[0])
    problem = _Problem(axes.rows, labels[fitted], penalty / scaling.scale**2)
    point, change = problem.solve(point, _FINE)
    advance(1 - share * len(found))
    if change > 10 * _FINE:
        warn(
            f"a probe stopped short of its optimum after {_STEPS} steps at the penalty {penalty:.3g}: the last step "
            f"changed its logits by {change:.1g}. Give stronger penalties="
        )
    return axes.fit(point, scaling, penalty)


class _Point(NamedTuple):
    """Weight ``[C, K]`` along the principal axes, and bias ``[C]``; also a direction from one point to another."""

    weight: Tensor
    bias: Tensor

    def plus(self, step: float, direction: _Point) -> _Point:
        return _Point(self.weight + step * direction.weight, self.bias + step * direction.bias)

    def dot(self, other: _Point) -> float:
        return float((self.weight * other.weight).sum() + (self.bias * other.bias).sum())

    def over(self, other: _Point) -> _Point:
        return _Point(self.weight / other.weight, self.bias / other.bias)


class _Axes(NamedTuple):
    """Rows ``[N, K]`` along their principal axes, and the way back to their features.

    A rotation changes neither the problem nor the squares of the weights, and the optimum has no weight along axes
    without variance, which are left out.

    Attributes:
        rows: The coordinates of the rows.
        left: The axes ``[K, D]``; or ``[K, N]``, the first factor of the axes.
        right: None; or ``[N, D]``, the second factor. The product is not formed where D is large.
    """

    rows: Tensor
    left: Tensor
    right: Tensor | None

    @classmethod
    def of(cls, x: Tensor) -> _Axes:
        """Rotate centred rows ``[N, D]``, by the smaller one of their two Gram matrices."""
        if x.shape[1] <= len(x):
            variances, vectors = torch.linalg.eigh(x.T @ x)
            axes = vectors[:, _kept(variances)].T
            return cls(x @ axes.T, axes, None)
        variances, vectors = torch.linalg.eigh(x @ x.T)
        kept = _kept(variances)
        vectors, sizes = vectors[:, kept], variances[kept].sqrt()
        return cls(vectors * sizes, (vectors / sizes).T, x)

    def fit(self, point: _Point, scaling: Scaling, penalty: float) -> Fit:
        """Return a point as the fit of the features themselves."""
        weight = point.weight @ self.left
        return scaling.undo(weight if self.right is None else weight @ self.right, point.bias, penalty)


def _kept(variances: Tensor) -> Tensor:
    return variances > _NEGLIGIBLE * len(variances) * variances[-1].clamp_min(torch.finfo(variances.dtype).tiny)


class _Problem(NamedTuple):
    """Sum that is minimised; see :mod:`captum_lkn.probes.logistic`."""

    x: Tensor
    labels: Tensor
    penalty: float

    def solve(self, point: _Point, tolerance: float) -> tuple[_Point, float]:
        """Return the optimum, from a start, and the largest change of a logit by the last step.

        A step is the last one if it changes no logit by more than the tolerance. Logits of a softmax are compared
        relative to their mean, which changes no probability.
        """
        z = self.logits(point)
        value, change = self.value(z, point), math.inf
        for _ in range(_STEPS):
            gradient, p = self.gradient(z, point)
            direction, dz = self.newton(gradient, p)
            size, change = 1.0, float(self.centred(dz).abs().max())
            slope = gradient.dot(direction)
            while change > tolerance and size > _SMALLEST:
                if self.value(z + size * dz, point.plus(size, direction)) <= value + 1e-4 * size * slope:
                    break
                size /= 2
            z, point = z + size * dz, point.plus(size, direction)
            value = self.value(z, point)
            if change <= tolerance or size <= _SMALLEST:
                break
        if self.labels.dim() == 1:  # one constant for all columns changes no probability
            point = _Point(point.weight - point.weight.mean(0), point.bias - point.bias.mean())
        return point, change

    def logits(self, point: _Point) -> Tensor:
        return self.x @ point.weight.T + point.bias

    def centred(self, z: Tensor) -> Tensor:
        return z - z.mean(1, keepdim=True) if self.labels.dim() == 1 else z

    def value(self, z: Tensor, point: _Point) -> float:
        return float(loss(z, self.labels) + self.penalty / 2 * point.weight.square().sum())

    def gradient(self, z: Tensor, point: _Point) -> tuple[_Point, Tensor]:
        """Return the gradient at a point with these logits, and the probabilities there."""
        p = probabilities(z, self.labels)
        error = p.clone()
        if self.labels.dim() == 1:
            error[torch.arange(len(p), device=p.device), self.labels] -= 1
        else:
            error -= self.labels
        return self.back(error, point), p

    def back(self, by_row: Tensor, point: _Point) -> _Point:
        """Return the sum over rows of a derivative by the logits, plus that of the penalty."""
        return _Point((by_row.T @ self.x) / len(self.x) + self.penalty * point.weight, by_row.sum(0) / len(self.x))

    def newton(self, gradient: _Point, p: Tensor) -> tuple[_Point, Tensor]:
        """Return the Newton step by conjugate gradients, and the change of the logits by it."""
        variance = p * (1 - p)
        parts = torch.split(self.x, _SQUARED, dim=1)  # the squares of all numbers would take as much memory again
        squares = torch.cat([variance.T @ part.square() for part in parts], dim=1)
        diagonal = _Point(squares / len(self.x) + self.penalty, variance.mean(0).clamp_min(1e-12))
        step = _Point(torch.zeros_like(gradient.weight), torch.zeros_like(gradient.bias))
        dz = torch.zeros_like(p)
        residual = _Point(-gradient.weight, -gradient.bias)
        search = residual.over(diagonal)
        size = first = residual.dot(search)
        # Far from the optimum a rough step is enough; near it a precise one makes the convergence superlinear.
        enough = first * min(0.25, math.sqrt(first))
        for _ in range(_CG_STEPS):
            if size <= enough:
                break
            z = self.logits(search)
            weighted = p * z
            by_row = variance * z if self.labels.dim() == 2 else weighted - p * weighted.sum(1, keepdim=True)
            product = self.back(by_row, search)
            along = size / search.dot(product)
            step, dz = step.plus(along, search), dz + along * z
            residual = residual.plus(-along, product)
            scaled = residual.over(diagonal)
            before, size = size, residual.dot(scaled)
            search = scaled.plus(size / before, search)
        return step, dz
