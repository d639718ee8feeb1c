"""The linear systems of the interior point, for a batch of tables.

A step needs dx (effects in play), dy (rows, that is subsets T) and one scalar, from::

    (1/D) dx - Z' dy = r              one equation for each effect in play
    Z dx + E dy      = s              one for each row; E = 0 where a row must be met exactly

Two ways to eliminate, neither of which ever forms Z:

* by effects (:class:`Columns`): solve for dx, as many unknowns as effects are in play (some hundreds where the lattice
  has thousands). The scalar product of two columns of Z, weighted by 1/E, counts the weight of the subsets that
  contain some players, avoid others, and leave the rest free: a look-up in a table of all 3^n such patterns,
  which one Kronecker product makes.
* by rows (:func:`all_rows_gram`): solve for dy, 2^n - 1 unknowns: the smaller system where n is small, and what is left
  where all rows must be met exactly.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from captum_lkn.decomposition import lattice
from captum_lkn.decomposition.solvers.problem import Lattice, synthesis

__all__ = ["Columns", "Factor", "SampledColumns", "all_rows_gram"]

_SHIFTS = (1e-14, 1e-13, 1e-12, 1e-11, 1e-10, 1e-8, 1e-6, 1e-4)


class Columns:
    """The effects in play of each table, as positions in flattened effects ``[2 * 2^n]``.

    Attributes:
        positions: int64 ``[B, k]``, ascending; 0, the effect of the empty set, where a table has fewer than k.
        inside: bool ``[B, k]``, False at that padding.
    """

    def __init__(self, in_play: Tensor, n: int) -> None:
        """Build the index.

        Args:
            in_play: bool ``[B, 2 * 2^n]``; never the effect of the empty set.
            n: The number of players.
        """
        self.n = n
        counts = in_play.sum(-1)
        width = int(counts.max()) if len(counts) else 0
        order = in_play.to(torch.uint8).argsort(dim=-1, descending=True, stable=True)[:, :width]
        self.inside = torch.arange(width, device=in_play.device) < counts.unsqueeze(-1)
        self.positions = order * self.inside
        self._index: Tensor | None = None

    def __getitem__(self, keep: Tensor) -> Columns:
        """Those of some tables."""
        result = object.__new__(Columns)
        result.n, result.inside, result.positions = self.n, self.inside[keep], self.positions[keep]
        result._index = None
        return result

    def spread(self, x: Tensor) -> Tensor:
        """Effects in play ``[B, k]``, 0 at the padding, among all: ``[B, 2, 2^n]``."""
        everywhere = x.new_zeros(len(x), 2 << self.n)
        return everywhere.scatter_(1, self.positions, x).view(len(x), 2, -1)

    def synthesis(self, x: Tensor) -> Tensor:
        """Z x for effects in play ``[B, k]``, 0 at the padding: ``[B, 2^n]``."""
        return synthesis(self.spread(x))

    def take(self, effects: Tensor) -> Tensor:
        """The entries in play, ``[B, k]``, of effects ``[B, 2, 2^n]``; 0 at the padding."""
        return effects.flatten(1).gather(1, self.positions) * self.inside

    def gram(self, row_weights: Tensor) -> Tensor:
        """Z' diag(row_weights) Z, ``[B, k, k]``, for ``row_weights [B, 2^n]``; 0 at the padding."""
        index = self._build() if self._index is None else self._index
        patterns = _pattern_sums(row_weights, self.n)
        # A pattern that no subset fits has the last number.
        patterns = torch.cat([patterns, patterns.new_zeros(len(patterns), 1)], dim=1)
        batch, width = self.positions.shape
        result = patterns.flatten().index_select(0, index).view(batch, width, width)
        # A column is a + b * [T fits its pattern]: AND is 0 + fits, OR, "meets", is 1 - fits.
        alone = patterns.flatten().index_select(0, self._own).view(batch, width) * self._b
        total = row_weights.sum(-1, keepdim=True)
        left = torch.stack([self._a, alone + total * self._a], dim=-1)
        right = torch.stack([alone, self._a], dim=-2)
        return torch.baddbmm(result.mul_(self._b.unsqueeze(-1)).mul_(self._b.unsqueeze(-2)), left, right)

    def _build(self) -> Tensor:
        """The patterns of all pairs as numbers in base 3: digit 0 = player absent, 1 = present, 2 = either."""
        size = 1 << self.n
        patterns = 3**self.n
        positions = self.positions.int()
        sets = positions & (size - 1)
        is_or = positions >= size
        contains, avoids = sets * ~is_or, sets * is_or
        ternary = _ternary(self.n, sets.device)
        first = torch.arange(len(sets), dtype=torch.int32, device=sets.device).unsqueeze(-1) * (patterns + 1)
        either = patterns - 1 + first
        self._own = (either - ternary[contains] - 2 * ternary[avoids]).flatten()
        both = contains.unsqueeze(-1) | contains.unsqueeze(-2)
        neither = avoids.unsqueeze(-1) | avoids.unsqueeze(-2)
        index = ternary.index_select(0, neither.flatten()).mul_(-2)
        index = index.sub_(ternary.index_select(0, both.flatten())).view_as(both).add_(either.unsqueeze(-1))
        index = torch.where((both & neither) == 0, index, (first + patterns).unsqueeze(-1))
        inside = self.inside.double()
        self._a, self._b = inside * is_or, inside * (1 - 2 * is_or.double())
        self._index = index.flatten()
        return self._index


class SampledColumns(Columns):
    """The effects in play of one table on some of its rows, written out."""

    def __init__(self, in_play: Tensor, n: int, sample: Tensor) -> None:
        super().__init__(in_play, n)
        self.matrix = Lattice(n).entries(sample, self.positions[0])

    def synthesis(self, x: Tensor) -> Tensor:
        """Z x on the sampled rows, ``[1, rows]``."""
        return x @ self.matrix.T

    def gram(self, row_weights: Tensor) -> Tensor:
        """Z' diag(row_weights) Z, ``[1, k, k]``, for ``row_weights [1, rows]``."""
        return (self.matrix.T @ (row_weights.T * self.matrix)).unsqueeze(0)


class Factor:
    """Cholesky factors of symmetric positive definite matrices ``[B, m, m]``, scaled to a unit diagonal first.

    The matrices are overwritten.
    """

    def __init__(self, matrix: Tensor) -> None:
        self._scale = matrix.diagonal(dim1=-2, dim2=-1).clamp_min(1e-300).rsqrt().unsqueeze(-1)
        scaled = matrix.mul_(self._scale).mul_(self._scale.mT)
        self._factor, failed = torch.linalg.cholesky_ex(scaled)
        # Near the optimum a matrix is singular to working precision: the least shift that helps. If no shift helps,
        # the factorisation failed; the caller stops for lack of progress.
        for shift in _SHIFTS:
            again = failed.nonzero().squeeze(-1)
            if not len(again):
                break
            shifted = scaled[again]
            shifted.diagonal(dim1=-2, dim2=-1).add_(shift)
            self._factor[again], failed[again] = torch.linalg.cholesky_ex(shifted)

    def solve(self, right: Tensor) -> Tensor:
        """The solutions ``[B, m]`` for right-hand sides ``[B, m]``."""
        half = torch.linalg.solve_triangular(self._factor, self._scale * right.unsqueeze(-1), upper=False)
        solution: Tensor = torch.linalg.solve_triangular(self._factor.mT, half, upper=True)
        return (self._scale * solution).squeeze(-1)


def all_rows_gram(column_weights: Tensor, n: int) -> Tensor:
    """Z diag(column_weights) Z' for the nonempty rows, ``[B, 2^n - 1, 2^n - 1]``, from ``column_weights [B, 2, 2^n]``.

    A set lies in both T and T' when it lies in their intersection, and it meets both unless it avoids one.
    """
    below = lattice.and_inverse(column_weights)
    both, either = _pairs(n, column_weights.device)
    ands, avoided = below[:, 0], below[:, 1].flip(-1)
    missing = avoided[:, 1:] - column_weights[:, 1].sum(-1, keepdim=True) / 2
    result = ands[:, both].add_(avoided[:, either])
    return result.sub_(missing.unsqueeze(-1)).sub_(missing.unsqueeze(-2))


def _pattern_sums(row_weights: Tensor, n: int) -> Tensor:
    """The weight of the subsets that fit each of the 3^n patterns, ``[B, 3^n]``."""
    result = row_weights
    batch, done = len(row_weights), 1
    for low in range(0, n, 5):
        size = min(5, n - low)
        power = _pattern_block(size, row_weights.device)
        result = (power @ result.reshape(-1, 1 << size, done)).reshape(batch, -1)
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
    """Each subset's members as digits 1 of a number in base 3, ``[2^n]`` int32."""
    result = torch.zeros(1, dtype=torch.int32, device=device)
    for player in range(n):
        result = torch.cat([result, result + 3**player])
    return result


@lru_cache(maxsize=8)
def _pairs(n: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Intersections and unions of all pairs of nonempty sets, ``[2^n - 1, 2^n - 1]``."""
    sets = torch.arange(1, 1 << n, device=device)
    return sets.unsqueeze(1) & sets, sets.unsqueeze(1) | sets
