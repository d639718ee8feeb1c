r"""Tables without slack whose answer is sparse, for any number of players.

Where every value is met exactly, every row binds, and many dual vectors are optimal. The one of least norm presses few
effects to their weight. The proximal method of multipliers finds it: with y_k the last dual vector, it minimises ::

    sum_S w_S |x_S| + rho/2 sum_S x_S^2 + |v + tau y_k - Z x|^2 / (2 tau)

and takes ``(v + tau y_k - Z x) / tau`` for the next y. The optimum is reached after two or three rounds. A linear
program has a proximal term of the effects in place of the ridge.

The sum is minimised by a semismooth Newton method on its dual (Li, Sun and Toh 2018, "A highly efficient semismooth
Newton augmented Lagrangian method for solving Lasso problems"). Its systems have one unknown for each effect that is
not 0, and columns of Z have scalar products in closed form. A step takes one transform and one back.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from captum_lkn.decomposition import lattice
from captum_lkn.decomposition.solvers.problem import Problem, adjoint, synthesis

__all__ = ["Sparse", "column_products", "solve"]

_ROUNDS = 20
_TAU, _LEAST_TAU = 1e-2, 1e-3  # of the first round, and the least one; ten times less in each round
_PROXIMAL, _LEAST_PROXIMAL = 0.1, 0.01  # the same for the curvature of a linear program's proximal term
_NEWTON = 150  # steps of a round
# With more effects than this that are not 0 the table is dense; also with more than a share of all sets.
_MAX_EFFECTS, _MAX_SHARE = 800, 0.2
_MET = 1e-12  # by how much a row may be missed, in units of the table's range
# Rounding must not bring effects into play that are pressed exactly to their weight. So the weights of those that are
# 0 rise by this share in each round, which the certificate loses.
_MARGIN = 1e-10
_ROUNDING = 1e-14  # of what presses an effect, relative to the terms that it is the sum of
_DESCENT = 0.1  # the share of the slope that may be left along a step


@dataclass(frozen=True)
class Sparse:
    """Solution of one table.

    Attributes:
        effects: ``[2, 2^n]``.
        dual: ``[2^n]``.
        steps: Newton steps.
    """

    effects: Tensor
    dual: Tensor
    steps: int


def solve(problem: Problem, dual: Tensor) -> Sparse | None:
    """Solve one table without slack, if few effects are enough.

    Args:
        problem: One table, ``values [2^n]``, ``slack`` of 0.
        dual: ``[2^n]``, a rough approximation.

    Returns:
        The optimum, or None where too many effects come into play.
    """
    weights = problem.weights.flatten()
    most = min(_MAX_EFFECTS, int(_MAX_SHARE * len(dual)))
    y = dual.clone()
    y[0] = 0
    # A feasible dual vector presses few effects to their weight.
    y = y / (_sums(y).abs() / weights).amax().clamp_min(1)
    x, missed = torch.zeros_like(weights), problem.values
    tau, curvature, steps = _TAU, problem.ridge or _PROXIMAL, 0
    for turn in range(_ROUNDS):
        higher = weights * (1 + _MARGIN * turn * (x == 0))
        pressed = _sums(y) + (0.0 if problem.ridge else curvature) * x
        newton = _Newton(problem.n, higher, curvature, tau, x, missed, pressed)
        found = newton.minimise(most)
        steps += newton.steps
        if found is None:
            return None
        missed = problem.values - synthesis(found.view(2, -1))
        missed[0] = 0
        y = y + missed / tau
        # A proximal term of the effects is left out of what presses them: at the optimum it is 0.
        left = 0.0 if problem.ridge else curvature * float((found - x).abs().amax())
        x = found
        if float(missed.abs().amax()) < _MET and left < _MARGIN:
            return Sparse(problem.without_rounding(x.view(2, -1)), y, steps)
        tau = max(tau / 10, _LEAST_TAU)
        curvature = problem.ridge or max(curvature / 10, _LEAST_PROXIMAL)
    return None


def _sums(dual: Tensor) -> Tensor:
    """Z' y, in one dimension."""
    return adjoint(dual).flatten()


def column_products(n: int, first: Tensor, second: Tensor) -> Tensor:
    """The scalar products of columns of Z, ``[len(first), len(second)]``.

    Of all sets, a share of 2^-k contains k players, and as many avoid them. An OR effect reaches the sets that do not
    avoid its own.
    """
    size = 1 << n
    sets, others = (first & (size - 1)).unsqueeze(1), second & (size - 1)
    kind, other = (first >= size).double().unsqueeze(1), (second >= size).double()
    sign, other_sign = 1 - 2 * kind, 1 - 2 * other
    share = 0.5 ** lattice.orders(n, device=first.device).double()
    both = share[sets | others] * ((kind == other) | ((sets & others) == 0))
    return size * (
        kind * other + kind * other_sign * share[others] + other * sign * share[sets] + sign * other_sign * both
    )


class _Newton:
    """Newton steps of one round.

    The dual vector is ``y_k + (a m - Z h) / tau``, with m what the last effects x_k miss. It is optimal where a is 1
    and the effects that it leads to are ``x_k + h``. It starts at y_k.
    """

    def __init__(
        self, n: int, weights: Tensor, curvature: float, tau: float, known: Tensor, missed: Tensor, pressed: Tensor
    ) -> None:
        self.n, self.weights, self.curvature, self.tau, self.known = n, weights, curvature, tau, known
        self.of_missed, self.square = _sums(missed), float(missed.square().sum())
        self.pressed, self.steps = pressed, 0

    def effects(self, of_h: Tensor, at: Tensor | slice = slice(None)) -> Tensor:
        """The effects that the dual vector leads to, from ``Z' (Z h - a m)``."""
        pressed = self.pressed[at] - of_h / self.tau
        weights = self.weights[at]
        return (pressed - pressed.clamp(-weights, weights)) / self.curvature

    def minimise(self, most: int) -> Tensor | None:
        """The effects at the minimum; None where more than ``most`` are not 0, or rounding prevents the steps."""
        h, a = torch.zeros_like(self.known), 0.0
        of_h = torch.zeros_like(h)
        x = self.effects(of_h)
        for self.steps in range(1, _NEWTON + 1):
            active = x != 0
            on = active.nonzero().squeeze(-1)
            if len(on) > most:
                return None
            wanted = x - self.known - h
            idle = (~active & (wanted != 0)).nonzero().squeeze(-1)
            c = self.curvature * self.tau
            system = column_products(self.n, on, on)
            right = c * wanted[on] - column_products(self.n, on, idle) @ wanted[idle] + (1 - a) * self.of_missed[on]
            system.diagonal().add_(c)
            root, failed = torch.linalg.cholesky_ex(system)
            if int(failed):
                return None
            move = torch.zeros_like(h)
            move[on] = torch.cholesky_solve(right.unsqueeze(1), root).squeeze(1)
            move[idle] = wanted[idle]
            of_move = _sums(synthesis(move.view(2, -1))) - (1 - a) * self.of_missed
            length = self._length(h, a, of_h, move, of_move)
            h, a, of_h = h + length * move, a + length * (1 - a), of_h + length * of_move
            before, x = x, self.effects(of_h)
            if length == 1.0:
                # A whole step to a point with the same signs has solved linear equations: what is left is rounding.
                left = float((x - self.known - h).abs().amax()) * self.curvature
                if bool((x.sign() == before.sign()).all()) or left < _ROUNDING * (
                    1 + float(of_h.abs().amax()) / self.tau
                ):
                    # Not x, which is h with the rounding of the dual vector magnified.
                    return torch.where(x == 0, x, self.known + h)
        return None

    def _length(self, h: Tensor, a: float, of_h: Tensor, move: Tensor, of_move: Tensor) -> float:
        """Return the length of a step: where the slope is nearly 0."""
        # An effect that is 0 at both ends of the step is 0 between them; one that was not 0 before and is now, moves.
        at = (h != 0) | (move != 0) | (self.effects(of_h) != 0) | (self.effects(of_h + of_move) != 0)
        at = at.nonzero().squeeze(-1)
        h, of_h, move, of_move, known = h[at], of_h[at], move[at], of_move[at], self.known[at]
        rest = (1 - a) * (float(self.of_missed[at] @ move) - (1 - a) * self.square)

        def slope(t: float) -> float:
            missing = h + t * move + known - self.effects(of_h + t * of_move, at)
            return float(of_move @ missing) + (1 - t) * rest

        low, at_low, high, at_high = 0.0, slope(0.0), 1.0, slope(1.0)
        enough, length = _DESCENT * abs(at_low), 1.0
        while at_high > enough:
            length = low + min(max(at_low / (at_low - at_high), 0.1), 0.9) * (high - low)
            now = slope(length)
            if abs(now) <= enough or high - low < 1e-12:
                break
            low, at_low, high, at_high = (low, at_low, length, now) if now > 0 else (length, now, high, at_high)
        return length
