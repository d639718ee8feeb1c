"""Dense tables of many players: ADMM alone, up to a gap.

The dual vector comes near its optimum ten times sooner than the effects, which are nearly feasible and, made feasible,
cost too much. They swing around the optimum; so their mean since the last certificate is tried as well as the last of
them. Steps are in single precision, three times as fast, until its rounding keeps them from coming nearer.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm.auto import tqdm

from captum_lkn.decomposition.solvers import admm
from captum_lkn.decomposition.solvers.problem import Problem, relative_gap

__all__ = ["Nearly", "solve"]

_BETWEEN = 20  # steps between two iterates that the mean is taken of
_CHECK_EVERY = 200  # steps between two certificates
# More than the warm-up takes: of three random perceptrons of 14 players, two come to 1e-3 in half as many steps.
_RELAXATION = 1.9
_SINGLE = 3e-3  # the gap down to which steps in single precision serve; with 14 players they end at 1e-3
_PATIENCE, _PROGRESS = 2000, 0.9  # after so many steps that leave more than this share of the gap they serve no more


@dataclass
class Nearly:
    """Solution of one table, as good as it is.

    Attributes:
        effects: ``[1, 2, 2^n]``, feasible.
        constant: ``[1, 1]``, the empty effect.
        bound: ``[1]``, the lower bound of the minimum.
        dual: ``[1, 2^n]``, the dual vector of the bound.
        gap: The relative gap.
        steps: The number of steps.
    """

    effects: Tensor
    constant: Tensor
    bound: Tensor
    dual: Tensor
    gap: float
    steps: int = 0

    def measure(self, problem: Problem) -> None:
        """Compute the gap."""
        self.gap = float(relative_gap(problem.penalty(self.effects), self.bound))

    def offer(self, problem: Problem, effects: Tensor, constant: Tensor, dual: Tensor) -> None:
        """Take effects that cost less once they are feasible, and a dual vector that certifies more."""
        constant = constant.clamp(-problem.slack[:, :1], problem.slack[:, :1])
        effects = problem.repaired(effects, constant)
        if bool(problem.penalty(effects) < problem.penalty(self.effects)):
            self.effects, self.constant = effects, constant
        bound = problem.bound(dual)
        if bool(bound > self.bound):
            self.bound, self.dual = bound, dual


def solve(problem: Problem, best: Nearly, tolerance: float, max_steps: int, bar: tqdm[None]) -> None:
    """Improve the solution of one table until its gap is small enough.

    Args:
        problem: One table, ``values [1, 2^n]``.
        best: What is known; it is changed in place.
        tolerance: The relative gap to stop at.
        max_steps: The largest number of steps.
        bar: Shows the gap.
    """
    moved = None
    for dtype in (torch.float32, torch.float64):
        moved = _steps(problem, best, tolerance, max_steps, dtype, moved, bar)
        if best.gap <= tolerance:
            break


def _steps(
    problem: Problem,
    best: Nearly,
    tolerance: float,
    max_steps: int,
    dtype: torch.dtype,
    moved: Tensor | None,
    bar: tqdm[None],
) -> Tensor | None:
    """Take steps in one precision from where others ended, until they end; the state that they lead to."""
    every = min(_BETWEEN, max_steps)
    if best.steps + every > max_steps:
        return moved
    enough = tolerance if dtype == torch.float64 else max(tolerance, _SINGLE)
    nearest, when = best.gap, best.steps
    sums: list[Tensor] | None = None
    count = 0
    for now in admm.iterate(problem, every, dtype, relaxation=_RELAXATION, start=moved):
        best.steps += every
        last = now.effects, now.constant, now.dual
        sums = [a + b for a, b in zip(sums, last, strict=True)] if sums else list(last)
        count += 1
        ends = best.steps + every > max_steps
        if not ends and count * every < _CHECK_EVERY:
            continue
        best.offer(problem, *last)
        best.offer(problem, *(each / count for each in sums))
        sums, count = None, 0
        best.measure(problem)
        bar.set_postfix_str(f"gap {best.gap:.1e}")
        if not best.gap > _PROGRESS * nearest:
            nearest, when = best.gap, best.steps
        slow = dtype == torch.float32 and best.steps - when >= _PATIENCE
        if ends or slow or best.gap <= enough:
            return now.moved.clone()
    return None  # not reached: the iterates have no end
