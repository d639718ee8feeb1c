"""The linear systems of the interior point.

A step needs dx (effects in play), dy (rows, that is subsets T) and one scalar, from::

    (1/D) dx - Z' dy = r              one equation for each effect in play
    Z dx + E dy      = s              one for each row; E = 0 where a row must be met exactly

Two ways to eliminate, neither of which ever forms Z:

* by effects (:class:`Columns`): solve for dx, as many unknowns as effects are in play (some hundreds where the lattice
  has thousands). The scalar product of two columns of Z, weighted by 1/E, counts the weight of the subsets that
  contain some players, avoid others, and leave the rest free: a look-up in a table of all 3^n such patterns,
  which one Kronecker product makes.
* by rows (:func:`all_rows_gram`): solve for dy, 2^n - 1 unknowns: what is left where all rows must be met exactly.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from captum_lkn.decomposition import lattice
from captum_lkn.decomposition.solvers.problem import synthesis

__all__ = ["Columns", "Factor", "all_rows_gram"]

_SHIFTS = (1e-14, 1e-13, 1e-12, 1e-11, 1e-10, 1e-8, 1e-6, 1e-4)


class Columns:
    """The effects in play, as positions in flattened effects ``[2 * 2^n]``, ascending (AND before OR)."""

    def __init__(self, positions: Tensor, n: int) -> None:
        self.positions = positions
        self.n = n
        size = 1 << n
        split = int((positions < size).sum())
        self.ands, self.ors = positions[:split], positions[split:] - size
        # Pattern of a subset query, base 3: digit 0 = player absent, 1 = present, 2 = either.
        ternary = _ternary(n, positions.device)
        either = 3**n - 1
        self._contains = either - ternary[self.ands]
        self._avoids = either - 2 * ternary[self.ors]
        self._contains_both = either - ternary[self.ands.unsqueeze(1) | self.ands]
        self._avoids_both = either - 2 * ternary[self.ors.unsqueeze(1) | self.ors]
        # Where the two sets overlap no subset does both; the pattern is then meaningless, and masked.
        self._overlap = (self.ors.unsqueeze(1) & self.ands) != 0
        mixed = either - 2 * ternary[self.ors].unsqueeze(1) - ternary[self.ands]
        self._avoids_contains = mixed.masked_fill(self._overlap, 0)

    def __len__(self) -> int:
        return len(self.positions)

    def spread(self, x: Tensor) -> Tensor:
        """The effects in play, ``[k]``, among all: ``[2, 2^n]``."""
        everywhere = x.new_zeros(2 << self.n)
        everywhere[self.positions] = x
        return everywhere.view(2, -1)

    def synthesis(self, x: Tensor) -> Tensor:
        """Z x for the effects in play: ``[2^n]``."""
        return synthesis(self.spread(x))

    def take(self, effects: Tensor) -> Tensor:
        """The entries in play, ``[k]``, of effects ``[2, 2^n]``."""
        return effects.flatten()[self.positions]

    def gram(self, row_weights: Tensor) -> Tensor:
        """Z' diag(row_weights) Z, ``[k, k]``, for ``row_weights [2^n]``; only its lower triangle is filled."""
        patterns = _pattern_sums(row_weights, self.n)
        split = len(self.ands)
        result = row_weights.new_empty(len(self), len(self))
        result[:split, :split] = patterns[self._contains_both]
        # "Meets" is one minus "avoids".
        avoids = patterns[self._avoids]
        meets = patterns[self._avoids_both].sub_(avoids)
        result[split:, split:] = meets.sub_(avoids.unsqueeze(1)).add_(patterns[-1])
        avoids_contains = patterns[self._avoids_contains].masked_fill_(self._overlap, 0)
        torch.sub(patterns[self._contains], avoids_contains, out=result[split:, :split])
        return result

    def dense(self, rows: Tensor) -> Tensor:
        """The given rows of Z, ``[len(rows), k]``, as numbers."""
        rows = rows.unsqueeze(1)
        return torch.cat([(rows & self.ands) == self.ands, (rows & self.ors) != 0], dim=1).double()


class Factor:
    """A Cholesky factor of a symmetric positive definite matrix, scaled to a unit diagonal first.

    The matrix is given by its lower triangle, and is overwritten.
    """

    def __init__(self, matrix: Tensor) -> None:
        self._scale = matrix.diagonal().rsqrt().unsqueeze(-1)
        scaled = matrix.mul_(self._scale).mul_(self._scale.T)
        self._factor, failed = torch.linalg.cholesky_ex(scaled)
        # Near the optimum the matrix is singular to working precision: the least shift that helps. Where none
        # does the numbers have ended, and the caller sees no progress.
        for shift in _SHIFTS:
            if not int(failed):
                break
            shifted = scaled + shift * torch.eye(len(scaled), dtype=scaled.dtype, device=scaled.device)
            self._factor, failed = torch.linalg.cholesky_ex(shifted)

    def solve(self, right: Tensor) -> Tensor:
        """The solution ``[m]`` for a right-hand side ``[m]``."""
        # Two triangular solves: cholesky_solve copies the factor each time.
        half = torch.linalg.solve_triangular(self._factor, self._scale * right.unsqueeze(-1), upper=False)
        solution: Tensor = torch.linalg.solve_triangular(self._factor.mT, half, upper=True)
        return (self._scale * solution).squeeze(-1)


def all_rows_gram(column_weights: Tensor, n: int) -> Tensor:
    """Z diag(column_weights) Z' for the nonempty rows, ``[2^n - 1, 2^n - 1]``, from ``column_weights [2, 2^n]``.

    A set lies in both T and T' when it lies in their intersection, and it meets both unless it avoids one.
    """
    below = lattice.and_inverse(column_weights)
    sets = torch.arange(1, 1 << n, device=column_weights.device)
    both = sets.unsqueeze(1) & sets
    ands, avoided = below[0], below[1].flip(-1)
    either = sets.unsqueeze(1) | sets
    return ands[both] + column_weights[1].sum() - avoided[sets].unsqueeze(1) - avoided[sets] + avoided[either]


def _pattern_sums(row_weights: Tensor, n: int) -> Tensor:
    """The weight of the subsets that fit each of the 3^n patterns, ``[3^n]``."""
    result = row_weights
    done = 1
    for low in range(0, n, 5):
        size = min(5, n - low)
        power = _pattern_block(size, row_weights.device)
        result = (power @ result.reshape(-1, 1 << size, done)).reshape(-1)
        done *= 3**size
    return result


@lru_cache(maxsize=32)
def _pattern_block(size: int, device: torch.device) -> Tensor:
    base = torch.tensor([[1, 0], [0, 1], [1, 1]], dtype=torch.float64, device=device)
    power = base
    for _ in range(size - 1):
        power = torch.kron(power, base)
    return power


@lru_cache(maxsize=32)
def _ternary(n: int, device: torch.device) -> Tensor:
    """Each subset's members as digits 1 of a number in base 3, ``[2^n]`` int64."""
    result = torch.zeros(1, dtype=torch.int64, device=device)
    for player in range(n):
        result = torch.cat([result, result + 3**player])
    return result
