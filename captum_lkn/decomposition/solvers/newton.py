"""The linear systems of the interior point, for a batch of tables.

Gram matrices are symmetric, and all functions here return their lower triangle: the numbers above the diagonal are
undefined, and nobody may read them. The factorisation does not.

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

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from captum_lkn.decomposition import lattice
from captum_lkn.decomposition.solvers.problem import Lattice, adjoint, synthesis

__all__ = [
    "WHOLE_MAX_PLAYERS",
    "WRITTEN_OUT_MAX_ROWS",
    "Columns",
    "Factor",
    "Factors",
    "SampledColumns",
    "all_rows_gram",
    "chosen_positions",
    "chosen_rows_gram",
    "reached_and_missed",
]

# Up to here all effects are in play, so that the systems of all tables have one size and are factored together.
# Beyond, each table has a system of its own on a processor.
WHOLE_MAX_PLAYERS = 6

# With more rows than this, scalar products are looked up instead of made from Z: of 2,000 rows in a tenth of the time.
WRITTEN_OUT_MAX_ROWS = 512

_PAIRS_MAX_PLAYERS = 10  # up to here the indices of all pairs of rows are kept: 16 MB
# Up to here the sums over patterns are made by additions, for all tables at once. Beyond, products of matrices are
# faster; they round the sums of a table by its place in memory, and are made table by table.
_ADDED_MAX_PLAYERS = 8
_BLOCK = 256  # rows of a gram matrix that are made at a time
_LINE = 8  # numbers in a line of the processor's cache
_SHIFTS = (1e-14, 1e-13, 1e-12, 1e-11, 1e-10, 1e-8, 1e-6, 1e-4)


class Columns:
    """The effects in play of each table, as positions in flattened effects ``[2 * 2^n]``: AND effects, then OR effects.

    Attributes:
        positions: int64 ``[B, k]``, ascending; the effect of the empty set where a table has fewer than others.
        inside: bool ``[B, k]``, False at that padding.
        ands: The number of columns for AND effects, padding included.
        padded: Whether there is any padding.
    """

    def __init__(self, in_play: Tensor, n: int) -> None:
        """Build the index.

        Args:
            in_play: bool ``[B, 2 * 2^n]``; never the effects of the empty set.
            n: The number of players.
        """
        self.n = n
        ands, ors = in_play.view(len(in_play), 2, -1).unbind(1)
        (and_sets, and_there), (or_sets, or_there) = chosen_positions(ands), chosen_positions(ors)
        self.ands = and_sets.shape[1]
        self.positions = torch.cat([and_sets, or_sets + (1 << n)], dim=1)
        self.inside = torch.cat([and_there, or_there], dim=1)
        self.padded = not bool(self.inside.all())
        self._index: Tensor | None = None
        self._apart: list[tuple[Tensor, Columns]] | None = None

    def __getitem__(self, keep: Tensor) -> Columns:
        """Those of some tables."""
        result = object.__new__(Columns)
        result.n, result.ands, result.padded, result._index = self.n, self.ands, self.padded, None
        result.inside, result.positions = self.inside[keep], self.positions[keep]
        result._apart = None if self._apart is None else [self._apart[table] for table in keep.tolist()]
        return result

    def apart(self) -> list[tuple[Tensor, Columns]]:
        """Return for each table which of the columns are its own, ``[k of the table]``, and these without padding."""
        if self._apart is None:
            self._apart = []
            for positions, inside in zip(self.positions, self.inside, strict=True):
                where = inside.nonzero().squeeze(-1)
                own = object.__new__(Columns)
                own.n, own.ands, own.padded = self.n, int(inside[: self.ands].sum()), False
                own._index = own._apart = None
                own.positions, own.inside = positions[where].unsqueeze(0), inside[where].unsqueeze(0)
                self._apart.append((where, own))
        return self._apart

    def take_over(self, old: Columns) -> None:
        """Keep the look-ups of tables that no column has joined."""
        if old._apart is None:
            return
        apart = self.apart()
        for table, (_, known) in enumerate(old._apart):
            where, own = apart[table]
            if own.positions.shape == known.positions.shape:
                apart[table] = where, known

    def total(self, x: Tensor) -> Tensor:
        """The sum of ``x [B, k]``, 0 at the padding, for each table, ``[B]``.

        It is a sum over all effects: where the padding lies does not change its last digits.
        """
        return self.spread(x).sum((-2, -1))

    def spread(self, x: Tensor) -> Tensor:
        """Effects in play ``[B, k]``, 0 at the padding, among all: ``[B, 2, 2^n]``."""
        everywhere = x.new_zeros(len(x), 2 << self.n)
        return everywhere.scatter_(1, self.positions, x).view(len(x), 2, -1)

    def synthesis(self, x: Tensor) -> Tensor:
        """Z x for effects in play ``[B, k]``, 0 at the padding: ``[B, 2^n]``."""
        return synthesis(self.spread(x))

    def take(self, effects: Tensor) -> Tensor:
        """The entries in play, ``[B, k]``, of effects ``[B, 2, 2^n]``; 0 at the padding."""
        return self.only_inside(effects.flatten(1).gather(1, self.positions))

    def only_inside(self, x: Tensor) -> Tensor:
        """``x [B, k]`` with 0 at the padding."""
        return x.masked_fill(~self.inside, 0) if self.padded else x

    def gram(self, row_weights: Tensor) -> Tensor:
        """The lower triangle of Z' diag(row_weights) Z, ``[B, k, k]``, for ``row_weights [B, 2^n]``; 0 at the padding.

        What is above the diagonal is undefined.
        """
        return self.gram_of(reached_and_missed(row_weights))

    def gram_of(self, sums: Tensor) -> Tensor:
        """The same from :func:`reached_and_missed`.

        Two AND effects reach the sets that contain both. What two OR effects reach is what each reaches, less what
        that of the union reaches; and an OR effect misses, of the sets that contain an AND effect's, those that avoid
        its own: sums over 2^n sets, and over 3^n patterns.
        """
        if self._index is None:
            self._index = self._build()
        batch, width = self.positions.shape
        result = sums.flatten().index_select(0, self._index).view(batch, width, width)
        alone = sums.gather(1, self.positions)
        alone[:, self.ands :].neg_()
        of_ors = result[:, self.ands :]
        of_ors.add_(alone.unsqueeze(-2))
        of_ors[..., self.ands :].add_(alone[:, self.ands :].unsqueeze(-1))
        if self.padded:
            result.mul_(self.inside.unsqueeze(-1)).mul_(self.inside.unsqueeze(-2))
        return result

    def _build(self) -> Tensor:
        """Return where the sums for all pairs of columns lie.

        A pattern is a number in base 3: its digit of a player is 0 where it is absent, 1 where it is present, 2 where
        it may be either.
        """
        size, patterns = 1 << self.n, 3**self.n
        batch, width = self.positions.shape
        sets = self.positions.int() & (size - 1)
        ands, ors = slice(0, self.ands), slice(self.ands, width)
        contains, avoids = sets[:, ands], sets[:, ors]
        ternary = _ternary(self.n, sets.device)
        index = sets.unsqueeze(-1) | sets.unsqueeze(-2)
        index[:, ors, ors] += size
        fits = (2 * size + patterns - 1 - 2 * ternary[avoids]).unsqueeze(-1) - ternary[contains].unsqueeze(-2)
        impossible = (avoids.unsqueeze(-1) & contains.unsqueeze(-2)) != 0
        index[:, ors, ands] = fits.masked_fill_(impossible, 2 * size + patterns)
        first = torch.arange(batch, dtype=torch.int32, device=sets.device) * (2 * size + patterns + 1)
        return index.add_(first.view(-1, 1, 1)).flatten()


class SampledColumns(Columns):
    """The effects in play of one table on some of its rows, written out."""

    def __init__(self, in_play: Tensor, n: int, sample: Tensor) -> None:
        super().__init__(in_play, n)
        self.matrix = Lattice(n).entries(sample, self.positions[0])

    def total(self, x: Tensor) -> Tensor:
        """The sum of ``x [1, k]``, ``[1]``; without padding, and among up to 2^21 effects."""
        return x.sum(-1)

    def synthesis(self, x: Tensor) -> Tensor:
        """Z x on the sampled rows, ``[1, rows]``."""
        return x @ self.matrix.T

    def adjoint(self, dual: Tensor) -> Tensor:
        """Z' y at the effects in play, ``[1, k]``, for ``y [1, rows]``."""
        return dual @ self.matrix

    def gram(self, row_weights: Tensor) -> Tensor:
        """The lower triangle of Z' diag(row_weights) Z, ``[1, k, k]``, for ``row_weights [1, rows]``.

        What is above the diagonal is undefined.
        """
        return (self.matrix.T @ (row_weights.T * self.matrix)).unsqueeze(0)


def reached_and_missed(row_weights: Tensor) -> Tensor:
    """The sums that the entries of gram matrices consist of, ``[B, 2 * 2^n + 3^n + 1]``.

    What each AND effect reaches, minus what each OR effect reaches, minus the weight of the sets that fit each pattern,
    and a 0. The sums of a table do not depend on the others.
    """
    batch, size = row_weights.shape
    reached = adjoint(row_weights)
    reached[:, 1].neg_()
    patterns = _pattern_sums(-row_weights, size.bit_length() - 1)
    return torch.cat([reached.flatten(1), patterns, row_weights.new_zeros(batch, 1)], 1)


class Factor:
    """Cholesky factors of symmetric positive definite matrices ``[B, m, m]``.

    Of a matrix the lower triangle is read; what is above the diagonal may be anything, also NaN. The matrices may be
    overwritten.
    """

    def __init__(self, matrix: Tensor, *, to_lines: bool = False) -> None:
        """Factor the matrices.

        Args:
            matrix: ``[B, m, m]``.
            to_lines: Whether to widen the matrices by rows of the identity until each begins at a line of the cache,
                so that a table's digits do not depend on the others. MKL rounds by the place in memory: of 360 tables
                of a network, 104 had other last digits in a batch than alone.
        """
        self._more = -matrix.shape[-1] % _LINE if to_lines else 0
        if self._more:
            matrix = torch.nn.functional.pad(matrix, (0, self._more, 0, self._more))
            matrix.diagonal(dim1=-2, dim2=-1)[:, -self._more :] = 1
        self._factor, failed = torch.linalg.cholesky_ex(matrix)
        # Near the optimum a matrix is singular to working precision: the least shift of its diagonal that helps, as a
        # share of each entry. If no shift helps, the factorisation failed; the caller stops for lack of progress.
        for shift in _SHIFTS:
            again = failed.nonzero().squeeze(-1)
            if not len(again):
                break
            shifted = matrix[again]
            shifted.diagonal(dim1=-2, dim2=-1).mul_(1 + shift)
            self._factor[again], failed[again] = torch.linalg.cholesky_ex(shifted)

    def solve(self, right: Tensor) -> Tensor:
        """The solutions ``[B, m]`` for right-hand sides ``[B, m]``."""
        wide = torch.nn.functional.pad(right, (0, self._more)) if self._more else right
        half = torch.linalg.solve_triangular(self._factor, wide.unsqueeze(-1), upper=False)
        solution: Tensor = torch.linalg.solve_triangular(self._factor.mT, half, upper=True)
        return solution.squeeze(-1)[:, : right.shape[-1]]


class Factors:
    """Factors of a batch of tables whose systems differ in size, each by itself.

    Padding to the widest would cost more than a batch saves, and a table's digits would depend on the others.
    """

    def __init__(self, parts: Sequence[tuple[int, Tensor | slice, Factor]]) -> None:
        """Take, for some of the tables, which of the unknowns are its own, and the factor."""
        self._parts = parts

    def keep(self, tables: list[bool]) -> None:
        """Solve from here on for some tables alone."""
        self._parts = [part for part in self._parts if tables[part[0]]]

    def solve(self, right: Tensor) -> Tensor:
        """The solutions ``[B, m]`` for right-hand sides ``[B, m]``; 0 for a table that has no factor."""
        result = torch.zeros_like(right)
        for table, own, factor in self._parts:
            result[table, own] = factor.solve(right[table, own].unsqueeze(0))[0]
        return result


def all_rows_gram(column_weights: Tensor, n: int) -> Tensor:
    """The lower triangle of Z diag(column_weights) Z' for the nonempty rows; what is above the diagonal is undefined.

    A set lies in both T and T' when it lies in their intersection, and it meets both unless it avoids one.

    Args:
        column_weights: ``[B, 2, 2^n]``.
        n: The number of players.

    Returns:
        ``[B, 2^n - 1, 2^n - 1]``.
    """
    if n > _PAIRS_MAX_PLAYERS:
        rows = torch.arange(1, 1 << n, device=column_weights.device)
        return chosen_rows_gram(column_weights, rows.expand(len(column_weights), -1))
    below = lattice.and_inverse(column_weights)
    both, either = _pairs(n, column_weights.device)
    ands, avoided = below[:, 0], below[:, 1].flip(-1)
    missing = avoided[:, 1:] - column_weights[:, 1].sum(-1, keepdim=True) / 2
    # gather with one index for all rows: three times as fast as index_select.
    result = ands.gather(1, both.expand(len(ands), -1)).add_(avoided.gather(1, either.expand(len(ands), -1)))
    result = result.view(len(ands), -1, (1 << n) - 1)
    return result.sub_(missing.unsqueeze(-1)).sub_(missing.unsqueeze(-2))


def chosen_rows_gram(column_weights: Tensor, rows: Tensor) -> Tensor:
    """The lower triangle of Z diag(column_weights) Z' for some rows; what is above the diagonal is undefined.

    Args:
        column_weights: ``[B, 2, 2^n]``.
        rows: int64 ``[B, m]``, the sets of the rows.

    Returns:
        ``[B, m, m]``.
    """
    below = lattice.and_inverse(column_weights)
    ands, avoided = below[:, 0], below[:, 1].flip(-1)
    missing = avoided.gather(1, rows) - column_weights[:, 1].sum(-1, keepdim=True) / 2
    batch, width = rows.shape
    result = ands.new_zeros(batch, width, width)
    # Block by block, so that the indices take no memory.
    for start in range(0, width, _BLOCK):
        end = min(start + _BLOCK, width)
        these, others = rows[:, start:end].unsqueeze(2), rows[:, :end].unsqueeze(1)
        sums = ands.gather(1, (these & others).flatten(1)).add_(avoided.gather(1, (these | others).flatten(1)))
        sums = sums.view(batch, end - start, end).sub_(missing[:, start:end].unsqueeze(2))
        result[:, start:end, :end] = sums.sub_(missing[:, :end].unsqueeze(1))
    return result


def _pattern_sums(row_weights: Tensor, n: int) -> Tensor:
    """The weight of the subsets that fit each of the 3^n patterns, ``[B, 3^n]``."""
    result = row_weights
    batch, done = len(row_weights), 1
    if n <= _ADDED_MAX_PLAYERS:
        for _ in range(n):
            absent, present = result.reshape(batch, -1, 2, done).unbind(2)
            result, done = torch.stack([absent, present, absent + present], 2), 3 * done
        return result.reshape(batch, -1)
    if batch > 1 and row_weights.device.type == "cpu":
        return torch.cat([_pattern_sums(one, n) for one in row_weights.split_with_sizes([1] * batch)])
    for low in range(0, n, 5):
        size = min(5, n - low)
        power = _pattern_block(size, row_weights.device)
        result = result.reshape(-1, 1 << size) @ power.T if low == 0 else power @ result.reshape(-1, 1 << size, done)
        done *= 3**size
    return result.reshape(batch, -1)


def chosen_positions(chosen: Tensor) -> tuple[Tensor, Tensor]:
    """The chosen positions of each table, ascending, ``[B, k]``, 0 at the padding, and whether there is one."""
    if len(chosen) == 1:
        positions = chosen.nonzero()[:, 1].unsqueeze(0)
        return positions, torch.ones_like(positions, dtype=torch.bool)
    counts = chosen.sum(-1)
    width = int(counts.max()) if len(counts) else 0
    there = torch.arange(width, device=chosen.device) < counts.unsqueeze(-1)
    # Both masks hold the same number of True in each row, in the same order.
    positions = torch.zeros_like(there, dtype=torch.int64)
    return positions.masked_scatter_(there, chosen.nonzero()[:, 1]), there


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
    """Intersections and unions of all pairs of nonempty sets, ``[(2^n - 1)^2]`` each."""
    sets = torch.arange(1, 1 << n, device=device)
    return (sets.unsqueeze(1) & sets).flatten(), (sets.unsqueeze(1) | sets).flatten()
