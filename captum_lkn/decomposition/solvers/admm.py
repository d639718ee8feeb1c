"""The first stage: ADMM for all tables of a batch at once.

The unknowns are the two halves of the value table, p = v_and and r = v_or. Each has two copies: its effects
(AND p, OR r), on which the soft threshold acts, and itself, on which the slab |v - p - r| <= slack acts. The
normal matrices are Kronecker products plus a multiple of the identity, hence diagonal in the singular vectors
of the 2 x 2 blocks: one step is two Kronecker products of all four and some elementwise work, whatever the values.

The penalty is fixed. Measured on tables of language models and of image models (values in units of their
range), 60 to 100 with a share of 0.1 for the slab brings the dual bound within 1 % in 200 steps; balancing the
residuals, the usual rule, drives the penalty to 1 to 3 and needs ten times the steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import torch
from torch import Tensor

from captum_lkn._common.rounding import precision_in_force
from captum_lkn.decomposition.kronecker import Block, apply_powers, kronecker, matrix_powers
from captum_lkn.decomposition.solvers.problem import Problem

__all__ = ["Iterate", "iterate"]

_PENALTY = 80.0
_SLAB_SHARE = 0.1
_RELAXATION = 1.7

Shrink: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""From effects and a tensor of their shape to that tensor, which holds the effects shrunk."""


@dataclass(frozen=True)
class Iterate:
    """State of ADMM after a step.

    Attributes:
        effects: ``[K, 2, 2^n]``, sparse and nearly feasible; 0 at the empty set.
        constant: ``[K, 1]``, the empty effect; 0 where the ends are pinned.
        dual: ``[K, 2^n]``.
    """

    effects: Tensor
    constant: Tensor
    dual: Tensor


def iterate(
    problem: Problem,
    every: int,
    dtype: torch.dtype,
    *,
    penalty: float = _PENALTY,
    shrink: Shrink | None = None,
) -> Iterator[Iterate]:
    """ADMM without end: an iterate after each ``every`` steps.

    Args:
        problem: A batch of K tables.
        every: Steps between two iterates.
        dtype: The precision of the steps; what is yielded is in the problem's.
        penalty: The penalty of ADMM.
        shrink: The proximal operator of the sum that is minimised, divided by the penalty: from effects
            ``[K, 2, 2^n]``, in which those of OR have the other sign, to a tensor of this shape, which it returns.
            None: that of the problem, a soft threshold.

    Yields:
        The current iterate; the caller decides when it is good enough.
    """
    if precision_in_force(dtype, problem.values.device).reduced:
        dtype = torch.float64
    values, slack = problem.values.to(dtype), problem.slack.to(dtype)
    shrink = shrink or _soft_threshold(problem, penalty, dtype)
    halves = _spectral(problem.n, dtype, values.device)

    # [copy, table, half, 2^n]: effects and tables, of the AND half and of the OR half. The tables are in the order of
    # the complements, against what their half is transformed in; so the OR table is in the order of the values.
    halved = torch.stack([values.flip(-1), values], dim=-2) / 2
    state = torch.stack([kronecker(halved.flip(-1), _BLOCK), halved])
    pushed = torch.zeros_like(state)
    while True:
        for _ in range(every):
            moved = torch.lerp(state, halves.solve(state - pushed), _RELAXATION).add_(pushed)
            effects, tables = moved.unbind()
            shrunk = shrink(effects, state[0])
            torch.sub(effects, shrunk, out=pushed[0])
            ands, ors = tables.unbind(-2)
            missed = values - ors - ands.flip(-1)
            missed = (missed - missed.clamp(-slack, slack)).mul_(-0.5)
            pushed[1, :, 0] = missed.flip(-1)
            pushed[1, :, 1] = missed
            torch.sub(tables, pushed[1], out=state[1])
        # The scaled multipliers of both copies estimate the dual vector.
        effects, tables = state
        dual = -_SLAB_SHARE * penalty * pushed[1, :, 1]
        both = torch.stack([effects[:, 0], -effects[:, 1]], dim=-2)
        both[..., 0] = 0
        constant = tables[:, 0, -1:] + tables[:, 1, :1]
        yield Iterate(*((t.to(problem.values.dtype)) for t in (both, constant, dual)))


def _soft_threshold(problem: Problem, penalty: float, dtype: torch.dtype) -> Shrink:
    weights = problem.weights.to(dtype).clone()
    weights[..., 0] = 0  # the empty effects are the constant: they have no price here
    above = weights / penalty
    below = -above
    factor = 1 / (1 + problem.ridge / penalty * (weights > 0).to(dtype))

    def shrink(effects: Tensor, out: Tensor) -> Tensor:
        return torch.sub(effects, effects.clamp(below, above), out=out).mul_(factor)

    return shrink


_BLOCK: Block = ((1, 0), (-1, 1))


@dataclass(frozen=True)
class _Spectral:
    """The least-squares step of both halves, in the singular vectors of the Kronecker power K = U diag(s) Q'.

    It serves both: the OR transform is minus that of the table in the order of the complements. The right singular
    vectors are the left ones in that order, up to signs, since K' is K with rows and columns in that order. So tables
    in the order of the complements need the same products as effects: two for all.
    """

    left: tuple[Tensor, ...]
    left_t: tuple[Tensor, ...]
    gather: Tensor  # [2, 1, 1, 2^n], what effects and tables contribute
    spread: Tensor  # [2, 1, 1, 2^n], what they get

    def solve(self, state: Tensor) -> Tensor:
        """The t that minimises ``|K t - effects|^2 + share |t - table|^2``: K t, and t in the order of the complements.

        Args:
            state: ``[2, table, half, 2^n]``, the effects, and the tables in the order of the complements.

        Returns:
            ``[2, table, half, 2^n]``.
        """
        size = state.shape[-1]
        inside = apply_powers(state.view(-1, size), self.left_t).view(state.shape).mul_(self.gather)
        both = (inside[0] + inside[1]) * self.spread
        return apply_powers(both.view(-1, size), self.left).view(state.shape)


@lru_cache(maxsize=64)
def _spectral(n: int, dtype: torch.dtype, device: torch.device) -> _Spectral:
    left, values, right_t = torch.linalg.svd(torch.tensor(_BLOCK, dtype=torch.float64, device="cpu"))
    signs = (right_t.T * left.flip(0)).sum(0).round()
    singular, flipped = torch.ones(2, 1, dtype=torch.float64, device="cpu")
    for _ in range(n):
        singular, flipped = torch.kron(singular, values), torch.kron(flipped, signs)
    inverse = 1 / (singular.square() + _SLAB_SHARE)
    gather = torch.stack([singular * inverse, _SLAB_SHARE * inverse * flipped])
    spread = torch.stack([singular, flipped])
    shape = (2, 1, 1, 1 << n)
    return _Spectral(
        matrix_powers(_as_block(left), n, dtype, device),
        matrix_powers(_as_block(left.T), n, dtype, device),
        gather.view(shape).to(device, dtype),
        spread.view(shape).to(device, dtype),
    )


def _as_block(matrix: Tensor) -> Block:
    (a, b), (c, d) = matrix.tolist()
    return (a, b), (c, d)
