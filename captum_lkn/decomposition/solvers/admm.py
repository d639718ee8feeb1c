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

from captum_lkn.decomposition import lattice
from captum_lkn.decomposition.lattice import Block
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
    blocks = [_spectral(block, problem.n, dtype, values.device) for block in (_AND_BLOCK, _OR_BLOCK)]
    threshold = weights / _PENALTY
    shrink = 1 + problem.ridge / _PENALTY * (weights > 0).to(dtype)

    # Along dimension -2: the AND and the OR half.
    tables = torch.stack([values, values], dim=-2) / 2
    effects = torch.stack([b.effects_of(t) for b, t in zip(blocks, tables.unbind(-2), strict=True)], dim=-2)
    push_effects = torch.zeros_like(effects)
    push_tables = torch.zeros_like(tables)
    while True:
        for _ in range(every):
            wanted = effects - push_effects, tables - push_tables
            solved = [b.solve(e, t) for b, e, t in zip(blocks, *(w.unbind(-2) for w in wanted), strict=True)]
            new_effects = torch.stack([s[0] for s in solved], dim=-2)
            new_tables = torch.stack([s[1] for s in solved], dim=-2)
            moved = torch.lerp(effects, new_effects, _RELAXATION) + push_effects
            effects = (moved - moved.clamp(-threshold, threshold)) / shrink
            push_effects = moved - effects
            moved = torch.lerp(tables, new_tables, _RELAXATION) + push_tables
            missed = values - moved.sum(-2)
            missed = missed - missed.clamp(-slack, slack)
            tables = moved + missed.unsqueeze(-2) / 2
            push_tables = moved - tables
        # The scaled multipliers of both copies estimate the dual vector; the block OR is minus the OR transform.
        signs = torch.tensor([[1.0], [-1.0]], dtype=dtype, device=values.device)
        dual = -_SLAB_SHARE * _PENALTY * push_tables.mean(-2)
        nonempty = torch.cat([torch.zeros_like(effects[..., :1]), effects[..., 1:]], dim=-1)
        constant = tables.sum(-2)[..., :1]
        yield Iterate(*((t.to(problem.values.dtype)) for t in (signs * nonempty, constant, dual)))


_AND_BLOCK: Block = ((1, 0), (-1, 1))
_OR_BLOCK: Block = ((0, 1), (1, -1))


@dataclass(frozen=True)
class _Spectral:
    """The Kronecker power K of a 2 x 2 block, by its singular vectors: K = U diag(s) Q'."""

    left: Block
    left_t: Block
    right: Block
    right_t: Block
    singular: Tensor

    def effects_of(self, table: Tensor) -> Tensor:
        """K applied to a table."""
        return lattice.kronecker(self.singular * lattice.kronecker(table, self.right_t), self.left)

    def solve(self, effects: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
        """The t that minimises ``|K t - effects|^2 + share |t - table|^2``, as (K t, t)."""
        inner = self.singular * lattice.kronecker(effects, self.left_t)
        inner = inner + _SLAB_SHARE * lattice.kronecker(table, self.right_t)
        inner = inner / (self.singular.square() + _SLAB_SHARE)
        return lattice.kronecker(self.singular * inner, self.left), lattice.kronecker(inner, self.right)


@lru_cache(maxsize=64)
def _spectral(block: Block, n: int, dtype: torch.dtype, device: torch.device) -> _Spectral:
    left, singular, right_t = torch.linalg.svd(torch.tensor(block, dtype=torch.float64, device="cpu"))
    powers = torch.ones(1, dtype=torch.float64, device="cpu")
    for _ in range(n):
        powers = torch.kron(powers, singular)
    return _Spectral(
        _as_block(left), _as_block(left.T), _as_block(right_t.T), _as_block(right_t), powers.to(device, dtype)
    )


def _as_block(matrix: Tensor) -> Block:
    (a, b), (c, d) = matrix.tolist()
    return (a, b), (c, d)
