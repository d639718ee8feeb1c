"""The first stage: ADMM for all tables of a batch at once.

The unknowns are the two halves of the value table, p = v_and and r = v_or. Each has two copies: its effects
(AND p, OR r), on which the soft threshold acts, and itself, on which the slab |v - p - r| <= slack acts. The
normal matrices are Kronecker products plus a multiple of the identity, hence diagonal in the singular vectors
of the 2 x 2 blocks: one step is eight Kronecker products and some elementwise work, whatever the values.

The penalty is fixed. Measured on tables of language models and of image models (values in units of their
range), 60 to 100 with a share of 0.1 for the slab brings the dual bound within 1 % in 200 steps; balancing the
residuals, the usual rule, drives the penalty to 1 to 3 and needs ten times the steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from captum_lkn.decomposition.kronecker import Block, kronecker
from captum_lkn.decomposition.solvers.problem import Problem

__all__ = ["Iterate", "iterate"]

_PENALTY = 80.0
_SLAB_SHARE = 0.1
_RELAXATION = 1.7


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


def iterate(problem: Problem, every: int, dtype: torch.dtype) -> Iterator[Iterate]:
    """ADMM without end: an iterate after each ``every`` steps.

    Args:
        problem: A batch of K tables.
        every: Steps between two iterates.
        dtype: The precision of the steps; what is yielded is in the problem's.

    Yields:
        The current iterate; the caller decides when it is good enough.
    """
    values = problem.values.to(dtype)
    slack = problem.slack.to(dtype)
    weights = problem.weights.to(dtype).clone()
    weights[..., 0] = 0  # the empty effects are the constant: they have no price here
    halves = _spectral(problem.n, dtype, values.device)
    threshold = weights / _PENALTY
    shrink = 1 / (1 + problem.ridge / _PENALTY * (weights > 0).to(dtype))

    # Along dimension -2: the AND half and the OR half, whose tables are kept in the order of the complements.
    tables = torch.stack([values, values.flip(-1)], dim=-2) / 2
    effects = halves.effects_of(tables)
    push_effects = torch.zeros_like(effects)
    push_tables = torch.zeros_like(tables)
    threshold_below = -threshold
    while True:
        for _ in range(every):
            new_effects, new_tables = halves.solve(effects - push_effects, tables - push_tables)
            moved = torch.lerp(effects, new_effects, _RELAXATION).add_(push_effects)
            effects = (moved - moved.clamp(threshold_below, threshold)).mul_(shrink)
            push_effects = moved.sub_(effects)
            moved = torch.lerp(tables, new_tables, _RELAXATION).add_(push_tables)
            missed = values - moved[..., 0, :] - moved[..., 1, :].flip(-1)
            missed = (missed - missed.clamp(-slack, slack)).div_(2)
            push_tables = torch.stack([missed, missed.flip(-1)], dim=-2).neg_()
            tables = moved - push_tables
        # The scaled multipliers of both copies estimate the dual vector.
        dual = -_SLAB_SHARE * _PENALTY * push_tables[..., 0, :]
        ands, ors = effects.unbind(-2)
        both = torch.stack([ands, -ors], dim=-2)
        both[..., 0] = 0
        constant = (tables[..., 0, :1] + tables[..., 1, -1:]).clone()
        yield Iterate(*((t.to(problem.values.dtype)) for t in (both, constant, dual)))


_BLOCK: Block = ((1, 0), (-1, 1))


@dataclass(frozen=True)
class _Spectral:
    """The Kronecker power K of the Moebius block, by its singular vectors: K = U diag(s) Q'.

    It serves both halves: the OR transform is minus that of the table in the order of the complements.
    """

    left: Block
    left_t: Block
    right: Block
    right_t: Block
    singular: Tensor
    damped: Tensor
    share: Tensor

    def effects_of(self, table: Tensor) -> Tensor:
        """K applied to a table."""
        return kronecker(table, _BLOCK)

    def solve(self, effects: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
        """The t that minimises ``|K t - effects|^2 + share |t - table|^2``, as (K t, t)."""
        inner = kronecker(effects, self.left_t).mul_(self.damped)
        inner.addcmul_(kronecker(table, self.right_t), self.share)
        return kronecker(self.singular * inner, self.left), kronecker(inner, self.right)


@lru_cache(maxsize=64)
def _spectral(n: int, dtype: torch.dtype, device: torch.device) -> _Spectral:
    left, singular, right_t = torch.linalg.svd(torch.tensor(_BLOCK, dtype=torch.float64, device="cpu"))
    powers = torch.ones(1, dtype=torch.float64, device="cpu")
    for _ in range(n):
        powers = torch.kron(powers, singular)
    inverse = 1 / (powers.square() + _SLAB_SHARE)
    diagonals = (d.to(device, dtype) for d in (powers, powers * inverse, _SLAB_SHARE * inverse))
    return _Spectral(_as_block(left), _as_block(left.T), _as_block(right_t.T), _as_block(right_t), *diagonals)


def _as_block(matrix: Tensor) -> Block:
    (a, b), (c, d) = matrix.tolist()
    return (a, b), (c, d)
