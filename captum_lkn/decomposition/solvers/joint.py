r"""Tables that are decomposed together, so that they share effects where they can.

For K tables of one scale, with weights w and a price alpha from 0 to 1 (Eq. 6 of Chen et al., "Defining and Extracting
Generalizable Interaction Primitives from DNNs", ICLR 2024)::

    min   sum_S w_S (max_k |x^k_S| + alpha (sum_k |x^k_S| - max_k |x^k_S|)) + rho/2 sum_k,S (x^k_S)^2

each table within its own slack. alpha = 1 is the independent problem. An effect that several tables have in equal
strength costs little more than in one.

The price of a set is an ordered weighted L1 norm of its K effects, with the weights (1, alpha, ..., alpha) for the
largest, the second and so on (Zeng and Figueiredo, 2014). Two facts about such norms are all that is needed:

* the proximal operator is a soft threshold by alpha, then one level that cuts the largest;
* the dual norm is the largest of (sum of the k largest) / (1 + (k - 1) alpha).

The first makes ADMM's step; by Moreau's identity it is also the dual of the sum with the ridge, so that any dual vector
certifies a bound, as for one table.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor
from tqdm.auto import tqdm

from captum_lkn.decomposition import lattice
from captum_lkn.decomposition.solvers import admm
from captum_lkn.decomposition.solvers.problem import Problem, adjoint, balanced, relative_gap

__all__ = ["JOINT_TOLERANCE", "JointFound", "solve_jointly"]

JOINT_TOLERANCE: Final = 1e-3
"""The relative gap to stop at, unless one is given: ADMM alone is slow beyond it."""

_STEPS: Final = 20_000
_CHECK_EVERY: Final = 200
# Shared effects have a fraction of their weight in each table, so that less than the penalty of single tables does.
# Seven states of a network, 8 players, gap after 3,200 steps: .4 % with a penalty of 20, .2 % with 40, .6 % with 80.
_PENALTY: Final = 40.0
_HALVINGS: Final = 16  # of the interval in which the best multiple of a dual vector lies
_PRICELESS: Final = 1e30  # the weight of effects that do not exist; infinite ones times 0 would be NaN


@dataclass(frozen=True)
class JointFound:
    """Solutions of K tables in each of G groups.

    Attributes:
        effects: ``[K * G, 2, 2^n]``, feasible.
        constant: ``[K * G, 1]``, the empty effects.
        gap: ``[K * G]``, certified: by how much the sum of a table's group can be above its least one.
        steps: ``[K * G]`` int64.
        out_of_steps: ``[K * G]`` bool, whether the number of steps ended the search.
    """

    effects: Tensor
    constant: Tensor
    gap: Tensor
    steps: Tensor
    out_of_steps: Tensor


def solve_jointly(
    problem: Problem, tables: int, price: float, tolerance: float, max_steps: int | None, bar: tqdm[Any]
) -> JointFound:
    """Solve groups of tables, each group jointly.

    Args:
        problem: ``values [K * G, 2^n]``, the first table of each group first; the tables of a group in one unit, and
            with the same weights.
        tables: K.
        price: alpha.
        tolerance: The relative gap to stop at.
        max_steps: The largest number of steps; None: 20,000.
        bar: Counts the tables that are solved.

    Returns:
        The solutions, in the problem's unit.
    """
    joint = _Joint(problem, tables, price)
    limit = max_steps or _STEPS
    every = min(_CHECK_EVERY, limit)
    nothing = problem.values.new_zeros(len(problem.values), 2, problem.values.shape[-1])
    effects, constant = problem.repaired(nothing), problem.values.new_zeros(len(nothing), 1)
    bound = torch.zeros_like(joint.penalty(effects))
    gap = relative_gap(joint.penalty(effects), bound)
    steps = torch.zeros_like(bound, dtype=torch.int64)
    shrink = partial(joint.shrink, penalty=_PENALTY)
    for now in admm.iterate(problem, every, torch.float64, penalty=_PENALTY, shrink=shrink):
        open_ = gap > tolerance
        offset = now.constant.clamp(-problem.slack[:, :1], problem.slack[:, :1])
        for feasible in _repairs(problem, now.effects, offset):
            better = (open_ & (joint.penalty(feasible) < joint.penalty(effects))).repeat(tables)
            effects = torch.where(better.view(-1, 1, 1), feasible, effects)
            constant = torch.where(better.unsqueeze(-1), offset, constant)
        bound = torch.where(open_, torch.maximum(bound, joint.bound(now.dual)), bound)
        steps += every * open_
        gap = relative_gap(joint.penalty(effects), bound)
        bar.update(tables * int((open_ & (gap <= tolerance)).sum()))
        bar.set_postfix_str(f"gap {float(gap.max()):.1e}")
        if bool((gap <= tolerance).all()) or int(steps.max()) + every > limit:
            break
    bar.update(tables * int((gap > tolerance).sum()))
    return JointFound(effects, constant, *(of_groups.repeat(tables) for of_groups in (gap, steps, gap > tolerance)))


def _repairs(problem: Problem, effects: Tensor, constant: Tensor) -> tuple[Tensor, Tensor]:
    """Effects made feasible, by AND and OR effects, and by AND effects alone: few, where few rows lack something."""
    beyond = problem.excess(effects, constant)
    beyond[..., 0] = 0
    ands = torch.stack([lattice.and_transform(beyond), torch.zeros_like(beyond)], dim=-2)
    return problem.repaired(effects, constant), effects + ands


@dataclass(frozen=True)
class _Joint:
    """The sum that is minimised for each group, its proximal operator and its dual."""

    problem: Problem
    tables: int
    price: float

    def _grouped(self, effects: Tensor) -> Tensor:
        """Effects ``[K * G, 2, 2^n]`` as ``[K, G, 2, 2^n]``."""
        return effects.view(self.tables, -1, *effects.shape[1:])

    @property
    def _weights(self) -> Tensor:
        return self.problem.weights.masked_fill(self.problem.weights.isinf(), _PRICELESS)

    def penalty(self, effects: Tensor) -> Tensor:
        """The sum, ``[G]``."""
        size = self._grouped(effects).abs()
        size = torch.where(torch.isfinite(self.problem.weights), size, torch.zeros_like(size))
        norm = self.price * size.sum(0) + (1 - self.price) * size.amax(0)
        return (self._weights * norm).sum((-2, -1)) + self.problem.ridge / 2 * size.square().sum((0, -2, -1))

    def near(self, effects: Tensor, weights: Tensor) -> Tensor:
        """The proximal operator of the weighted norm, for ``[K, G, 2, 2^n]``."""
        size = (effects.abs() - self.price * weights).clamp_min(0)
        sums = size.sort(0, descending=True).values.cumsum(0)
        counts = torch.arange(1, self.tables + 1, dtype=size.dtype, device=size.device).view(-1, 1, 1, 1)
        level = ((sums - (1 - self.price) * weights) / counts).amax(0).clamp_min(0)
        return torch.copysign(torch.minimum(size, level), effects)

    def shrink(self, effects: Tensor, out: Tensor, penalty: float) -> Tensor:
        """ADMM's step towards the sum, on ``[K * G, 2, 2^n]``; the empty effects have no price."""
        shrunk = self.near(self._grouped(effects), self._weights / penalty) / (1 + self.problem.ridge / penalty)
        out.copy_(shrunk.view_as(effects))
        out[..., 0] = effects[..., 0]
        return out

    def bound(self, dual: Tensor) -> Tensor:
        """A lower bound of each group's sum, from a dual vector ``[K * G, 2^n]``."""
        problem, dual = self.problem, balanced(dual)
        gains = (problem.values * dual).sum(-1) - (problem.slack * dual.abs()).sum(-1)
        gain = gains.view(self.tables, -1).sum(0)
        sums = self._grouped(adjoint(dual))
        sums = torch.where(torch.isfinite(problem.weights), sums, torch.zeros_like(sums))
        prices = 1 + self.price * torch.arange(self.tables, dtype=gain.dtype, device=gain.device)
        norm = (sums.abs().sort(0, descending=True).values.cumsum(0) / prices.view(-1, 1, 1, 1)).amax(0)
        fit = 1 / (norm / self._weights).flatten(1).amax(-1).clamp_min(torch.finfo(dual.dtype).tiny)
        best = (fit * gain).clamp_min(0)
        if problem.ridge == 0:
            return best
        # With the ridge, overshooting has a price instead, and the bound is a concave function of the factor.
        low, high = torch.zeros_like(gain), torch.full_like(gain, 2.0)
        for _ in range(_HALVINGS):
            factor = (low + high) / 2
            over = self.near(factor.view(-1, 1, 1) * sums, self._weights)
            best = torch.maximum(best, factor * gain - over.square().sum((0, -2, -1)) / (2 * problem.ridge))
            rising = gain * problem.ridge > (sums * over).sum((0, -2, -1))
            low, high = torch.where(rising, factor, low), torch.where(rising, high, factor)
        return best
