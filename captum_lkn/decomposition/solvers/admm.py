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
from captum_lkn.decomposition.kronecker import Block, kronecker, matrix_powers
from captum_lkn.decomposition.solvers.problem import Problem

__all__ = ["Iterate", "iterate"]

_PENALTY = 80.0
_SHARE = 0.1  # the penalty of the tables' copies as a share of it
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
        moved: What other steps can go on from; the next step changes it.
    """

    effects: Tensor
    constant: Tensor
    dual: Tensor
    moved: Tensor


def iterate(
    problem: Problem,
    every: int,
    dtype: torch.dtype,
    *,
    penalty: float = _PENALTY,
    relaxation: float = _RELAXATION,
    share: float = _SHARE,
    shrink: Shrink | None = None,
    start: Tensor | None = None,
) -> Iterator[Iterate]:
    """ADMM without end: an iterate after each ``every`` steps.

    Args:
        problem: A batch of K tables.
        every: Steps between two iterates.
        dtype: The precision of the steps; what is yielded is in the problem's.
        penalty: The penalty of ADMM.
        relaxation: By how much a step goes beyond the solution of the equations, below 2.
        share: The penalty of the tables' copies as a share of it.
        shrink: The proximal operator of the sum that is minimised, divided by the penalty: from effects
            ``[K, 2, 2^n]``, in which those of OR have the other sign, to a tensor of this shape, which it returns.
            None: that of the problem, a soft threshold.
        start: The ``moved`` of an iterate, from which to go on; None: the table halved.

    Yields:
        The current iterate; the caller decides when it is good enough.
    """
    if precision_in_force(dtype, problem.values.device).reduced:
        dtype = torch.float64
    values, slack = problem.values.to(dtype), problem.slack.to(dtype)
    below = -slack
    shrink = shrink or _soft_threshold(problem, penalty, dtype)

    # [copy, table, half, 2^n]: effects and tables, of the AND half and of the OR half. The tables are in the order of
    # the complements, against what their half is transformed in; so the OR table is in the order of the values.
    halved = torch.stack([values.flip(-1), values], dim=-2) / 2
    state = torch.stack([kronecker(halved.flip(-1), _BLOCK), halved])
    # ``moved`` is the state with its multipliers added, ``reflected`` the state with them taken off. For one table, an
    # operation takes as long as it takes to start: views and most tensors are made once.
    moved = state.clone() if start is None else start.to(dtype, copy=True)
    reflected = state.clone()
    solve, solved = _spectral(problem.n, share, dtype, values.device).prepared(reflected)
    effects, tables = moved.unbind()
    (shrunk, (ands, ors)), (moved_ands, moved_ors) = (state[0], state[1].unbind(-2)), tables.unbind(-2)
    missed, within = torch.empty_like(values), torch.empty_like(values)

    def settle() -> None:
        """Compute the state that ``moved`` leads to, and ``reflected``."""
        shrink(effects, shrunk)
        torch.sub(values, moved_ors, out=missed).sub_(moved_ands.flip(-1))
        torch.clamp(missed, below, slack, out=within)
        missed.sub_(within)
        torch.add(moved_ands, missed.flip(-1), alpha=0.5, out=ands)
        torch.add(moved_ors, missed, alpha=0.5, out=ors)
        torch.lerp(moved, state, 2.0, out=reflected)

    if start is not None:
        settle()
    while True:
        for _ in range(every):
            solve()
            moved.add_(solved, alpha=relaxation).sub_(state, alpha=relaxation)
            settle()
        # The scaled multipliers of both copies estimate the dual vector.
        dual = share * penalty * (ors - moved_ors)
        both = torch.stack([shrunk[:, 0], -shrunk[:, 1]], dim=-2)
        both[..., 0] = 0
        constant = ands[:, -1:] + ors[:, :1]
        effects_, constant, dual = (t.to(problem.values.dtype) for t in (both, constant, dual))
        yield Iterate(effects_, constant, dual, moved)


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

    def prepared(self, state: Tensor) -> tuple[Callable[[], None], Tensor]:
        """A function that minimises ``|K t - effects|^2 + share |t - table|^2`` over t, and where it puts the result.

        Args:
            state: ``[2, table, half, 2^n]``, the effects, and the tables in the order of the complements, which the
                function will read.

        Returns:
            The function, and ``[2, table, half, 2^n]``, which it fills: K t, and t in the order of the complements.
        """
        inwards, inside = _prepared_product(state, self.left_t)
        outwards, result = _prepared_product(inside, self.left)
        of_effects, of_tables = inside.unbind()
        both = torch.empty_like(of_effects)

        def solve() -> None:
            inwards()
            inside.mul_(self.gather)
            torch.add(of_effects, of_tables, out=both)
            torch.mul(both, self.spread, out=inside)
            outwards()

        return solve, result


def _prepared_product(tables: Tensor, powers: tuple[Tensor, ...]) -> tuple[Callable[[], None], Tensor]:
    """:func:`apply_powers` for tables that change in place: a function, and the tensor that it fills."""
    first, *others = powers
    width = len(first)
    source = tables.view(-1, width)
    result = torch.empty_like(source)
    first_product = source, first, result
    products = []
    for power in others:
        width *= len(power)
        source = result.view(-1, len(power), width // len(power))
        result = torch.empty_like(source)
        products.append((power.expand(len(source), -1, -1), source, result))

    def apply() -> None:
        left, right, out = first_product
        torch.mm(left, right, out=out)
        for left, right, out in products:
            torch.bmm(left, right, out=out)

    return apply, result.view(tables.shape)


@lru_cache(maxsize=64)
def _spectral(n: int, share: float, dtype: torch.dtype, device: torch.device) -> _Spectral:
    left, values, right_t = torch.linalg.svd(torch.tensor(_BLOCK, dtype=torch.float64, device="cpu"))
    signs = (right_t.T * left.flip(0)).sum(0).round()
    singular, flipped = torch.ones(2, 1, dtype=torch.float64, device="cpu")
    for _ in range(n):
        singular, flipped = torch.kron(singular, values), torch.kron(flipped, signs)
    inverse = 1 / (singular.square() + share)
    gather = torch.stack([singular * inverse, share * inverse * flipped])
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
