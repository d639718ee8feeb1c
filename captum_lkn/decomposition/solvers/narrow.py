"""Tables with little slack: from the optimum without slack to the one with it.

Slack of 1e-9 of a table's range is lost in the rounding of steps that move values of its whole range. But the optimum
differs from that without slack by a few slacks only. An effect that keeps its sign may therefore be replaced by a
smaller one of the same sign with the same slope of its cost. The table of these smaller effects has so little range
that its slack is large.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from captum_lkn.decomposition.solvers.problem import Problem, synthesis

__all__ = ["Narrow", "narrow", "without_slack"]

# Effects that differ by less than rounding, in units of the slack: 0 where the rows do not need them.
_ROUNDING = 1e-4
_MET = 1e-12  # by how much a row may be missed, in units of the table's range


@dataclass(frozen=True)
class Narrow:
    """Tables with smaller effects, and the way back.

    Attributes:
        problem: The problem of one table, ``values [1, 2^n]``, in units of its own range.
        effects: ``[1, 2, 2^n]``, the optimum without slack, in the same units.
    """

    problem: Problem
    effects: Tensor
    _wide: Problem
    _effects: Tensor
    _unit: float

    def widened(self, effects: Tensor, constant: float) -> tuple[Tensor, float] | None:
        """Effects ``[1, 2, 2^n]`` and constant of the wide table; None where a smaller effect lost its sign."""
        own = (effects - self.effects) * self._unit
        smaller = self.effects * self._unit != self._effects
        if bool((smaller & (effects * self._effects <= 0)).any()):
            return None
        free = constant * self._unit
        result = torch.where(smaller, self._effects + own, effects * self._unit)
        rounding = _ROUNDING * self._wide.slack.amax()
        clean = result.masked_fill(result.abs() < rounding, 0)
        met = bool((self._wide.excess(clean, free).abs() < _MET)[..., 1:].all())
        return clean if met else result, free


def narrow(problem: Problem, effects: Tensor, reach: float, least_ridge: float) -> Narrow:
    """One table with its effects no larger than ``reach`` times the slack.

    With s the sign of an effect x, the cost of moving it by d is, up to a constant and as long as it keeps its sign,
    ``s (w + rho |x|) d + rho/2 d^2``. A smaller effect has the same cost with another weight.

    Args:
        problem: One table, ``values [1, 2^n]``.
        effects: ``[1, 2, 2^n]``, the optimum without slack.
        reach: By how many slacks an effect may move.
        least_ridge: The least ridge. The table's own would be 1e-6 and less, too small to tell ties apart. A linear
            program needs one, too: it keeps ties near the optimum without slack, where effects keep their signs. That
            is an optimum of the program as well, and its certificate is off by about the ridge divided by `reach`.

    Returns:
        The narrow table.
    """
    longest = reach * float(problem.slack.amax())
    shortened = effects.clamp(-longest, longest)
    values = problem.values - synthesis(effects - shortened)
    unit = float(values.abs().amax()) or 1.0
    ridge = max(problem.ridge * unit, least_ridge)
    weights = problem.weights + problem.ridge * effects.abs() - ridge / unit * shortened.abs()
    small = Problem(values / unit, problem.slack / unit, weights, ridge, problem.pinned)
    return Narrow(small, shortened / unit, problem, effects, unit)


def without_slack(problem: Problem) -> Problem:
    """The same tables, each value to be met exactly."""
    return Problem(problem.values, torch.zeros_like(problem.slack), problem.weights, problem.ridge, True)
