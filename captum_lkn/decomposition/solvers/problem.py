"""The sparse AND-OR problem of a batch of value tables, and its dual.

With effects x = (AND effects, OR effects) of the nonempty sets, weights w and a ridge rho::

    min   sum_S w_S |x_S| + rho/2 sum_S x_S^2     s.t.   |v - c - Z x| <= slack,  entry by entry

    Z[T, (S, AND)] = [S subset of T]        Z[T, (S, OR)] = [S meets T]

c is the constant (the empty effect): 0 where the ends are pinned, free and without a price where they are not.
The dual, for which any y with sum 0 gives a lower bound of the minimum, is::

    max   <v, y> - sum_T slack_T |y_T| - sum_S (|Z_S' y| - w_S)_+^2 / (2 rho)

(for rho = 0: subject to |Z_S' y| <= w_S, which scaling y achieves).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from captum_lkn.decomposition import lattice
from captum_lkn.decomposition.kronecker import Block, apply_powers, kronecker, matrix_powers

__all__ = ["Lattice", "Problem", "adjoint", "balanced", "relative_gap", "synthesis"]

_ROUNDING = 1e-9  # effects below this share of the largest may be rounding
_MET = 1e-11  # by how much a row may be missed, in units of the table's range


@dataclass(frozen=True)
class Problem:
    """Tables and what a solution of them costs.

    Effects are tensors ``[..., 2, 2^n]``, AND first, then OR.

    Attributes:
        values: ``[..., 2^n]`` float64, v - v(empty), in units of its largest entry.
        slack: ``[..., 2^n]``, how far the reconstruction may lie from each value; 0 where it must be exact.
        weights: ``[2, 2^n]``, or ``[..., 2, 2^n]`` where each table has its own, the price of one unit of each
            effect; infinite where an effect does not exist: the empty set, OR effects of single players (the same
            function as their AND effect), all OR effects in a decomposition into AND effects.
        ridge: The factor rho of the squares.
        pinned: Whether the values of the empty and of the full set are kept exactly.
    """

    values: Tensor
    slack: Tensor
    weights: Tensor
    ridge: float
    pinned: bool

    @property
    def n(self) -> int:
        """The number of players."""
        return lattice.n_players(self.values)

    def __getitem__(self, index: int | Tensor) -> Problem:
        """One table, or some, of a batch."""
        weights = self.weights if self.weights.dim() == 2 else self.weights[index]
        return Problem(self.values[index], self.slack[index], weights, self.ridge, self.pinned)

    @property
    def ands_only(self) -> bool:
        """True where no OR effect exists."""
        return bool(torch.isinf(self.weights[..., 1, :]).all())

    def penalty(self, effects: Tensor) -> Tensor:
        """The sum that is minimised, ``[...]``."""
        exists = torch.isfinite(self.weights)
        prices = torch.where(exists, self.weights, torch.zeros_like(self.weights))
        # A number times a bool tensor would be float32, and the certificate no better than that.
        squares = self.ridge / 2 * exists.to(effects.dtype) * effects.square()
        return (prices * effects.abs() + squares).sum((-2, -1))

    def excess(self, effects: Tensor, constant: Tensor | float = 0.0) -> Tensor:
        """Return what the effects miss of each value beyond its slack, signed, ``[..., 2^n]``."""
        missed = self.values - constant - synthesis(effects)
        return missed - missed.clamp(-self.slack, self.slack)

    def repaired(self, effects: Tensor, constant: Tensor | float = 0.0) -> Tensor:
        """Effects made feasible by AND and OR effects that add up to what the rows lack, with the least squares."""
        beyond = self.excess(effects, constant)
        beyond = torch.cat([torch.zeros_like(beyond[..., :1]), beyond[..., 1:]], dim=-1)
        if self.ands_only:
            ands, ors = lattice.and_transform(beyond), torch.zeros_like(beyond)
        else:
            by_ands = _cheapest_share(beyond)
            by_ands = by_ands - by_ands[..., :1]  # the empty set has no effect
            ands, ors = lattice.and_transform(by_ands), lattice.or_transform(beyond - by_ands)
            ands, ors = lattice.merge_first_order(ands, ors)
        return effects + torch.stack([ands, ors], dim=-2)

    def without_rounding(self, effects: Tensor, constant: Tensor | float = 0.0) -> Tensor:
        """Effects without those that are rounding, where the values do not need them."""
        largest = effects.abs().flatten(-2).amax(-1)
        clean = effects.masked_fill(effects.abs() < _ROUNDING * largest[..., None, None], 0)
        met = (self.excess(clean, constant).abs() < _MET)[..., 1:].all(-1)
        return torch.where(met[..., None, None], clean, effects)

    def bound(self, dual: Tensor, sums: Tensor | None = None) -> Tensor:
        """A lower bound of the minimum, from any dual vector.

        Args:
            dual: ``[..., 2^n]``; entry 0 is ignored and replaced by what makes the vector sum to 0.
            sums: ``adjoint(balanced(dual))`` where it is known already.

        Returns:
            ``[...]``, nonnegative: the best that a multiple of the vector certifies.
        """
        dual = balanced(dual)
        sums = adjoint(dual) if sums is None else sums
        size = sums.abs().flatten(-2)
        weights = self.weights.flatten(-2)
        gain = (self.values * dual).sum(-1) - (self.slack * dual.abs()).sum(-1)
        # Scaled to feasibility, the vector certifies its gain, with the ridge or without.
        fit = 1 / (size / weights).amax(-1).clamp_min(torch.finfo(dual.dtype).tiny)
        best = (fit * gain).clamp_min(0)
        if self.ridge == 0:
            return best
        # With the ridge, overshooting has a price instead: Newton on a concave function of the factor.
        factor = torch.ones_like(gain)
        for _ in range(3):
            over = (factor.unsqueeze(-1) * size - weights).clamp_min(0)
            best = torch.maximum(best, factor * gain - over.square().sum(-1) / (2 * self.ridge))
            slope = gain - (size * over).sum(-1) / self.ridge
            curvature = (size * (over > 0)).square().sum(-1) / self.ridge
            factor = torch.where(curvature > 0, factor + slope / curvature.clamp_min(1e-300), fit).clamp_min(0)
        return best


@dataclass(frozen=True)
class Lattice:
    """The matrix Z over all subsets of n players, its effects flattened to ``[2 * 2^n]``, as an operator."""

    n: int

    def synthesis(self, effects: Tensor) -> Tensor:
        """``Z x`` for ``x [..., 2 * 2^n]``: ``[..., 2^n]``."""
        return synthesis(effects.view(*effects.shape[:-1], 2, 1 << self.n))

    def adjoint(self, dual: Tensor) -> Tensor:
        """``Z' y`` for ``y [..., 2^n]``: ``[..., 2 * 2^n]``."""
        return adjoint(dual).flatten(-2)

    def entries(self, rows: Tensor, effects: Tensor) -> Tensor:
        """The entries of Z at the given rows and effects, ``[len(rows), len(effects)]`` float64."""
        size = 1 << self.n
        sets = (effects & (size - 1)).int()
        common = rows.int().unsqueeze(1) & sets
        return torch.where(effects < size, common == sets, common != 0).double()


# Rows: player absent, present in T; columns: absent, present in S: S lies in T.
_ZETA: Block = ((1, 0), (1, 1))


def synthesis(effects: Tensor) -> Tensor:
    """Z x: the table ``[..., 2^n]`` that effects ``[..., 2, 2^n]`` add up to, without the constant."""
    # An OR effect is missed by the sets whose complement contains its own.
    below = _subset_sums(effects)
    reached = below[..., 0, :] + effects[..., 1, :].sum(-1, keepdim=True)
    return reached.sub_(below[..., 1, :].flip(-1))


def adjoint(dual: Tensor) -> Tensor:
    """Z' y: for each effect ``[..., 2, 2^n]``, the sum of a vector ``[..., 2^n]`` over the sets it reaches."""
    # Sums over supersets are sums over subsets in the order of the complements.
    sums = _subset_sums(torch.stack([dual.flip(-1), dual], dim=-2)).flip(-1)
    torch.sub(dual.sum(-1, keepdim=True), sums[..., 1, :], out=sums[..., 1, :])
    return sums


def _subset_sums(table: Tensor) -> Tensor:
    """Sums over the subsets of each set, of tables ``[..., 2^n]``; :func:`lattice.and_inverse` without its checks."""
    size = table.shape[-1]
    powers = matrix_powers(_ZETA, size.bit_length() - 1, table.dtype, table.device)
    return apply_powers(table.reshape(-1, size), powers).view(table.shape)


def _cheapest_share(table: Tensor) -> Tensor:
    """Return the share of tables ``[..., 2^n]`` for which AND effects stand, OR effects for the rest, at least squares.

    Half for each, which is next to it, costs three times as much with 13 players, and more with more.
    """
    n = lattice.n_players(table)
    inwards, outwards, share = _modes(n, table.device)
    return kronecker(kronecker(table, inwards) * share, outwards)


@lru_cache(maxsize=32)
def _modes(n: int, device: torch.device) -> tuple[Block, Block, Tensor]:
    """Return the blocks into and out of the modes of both sums of squares, and the share of AND effects in each mode.

    The squares of the AND effects of a table t, and of its OR effects, sum to ``t' K t`` with the Kronecker powers of
    two blocks. The eigenvectors of one block relative to the other make both diagonal, the latter 1. So a mode of
    which AND effects cost d is shared as 1 to d.
    """
    ands, ors = torch.tensor([[[2, -1], [-1, 1]], [[1, -1], [-1, 2]]], dtype=torch.float64, device="cpu")
    root = torch.linalg.inv(torch.linalg.cholesky(ors))
    costs, vectors = torch.linalg.eigh(root @ ands @ root.T)
    outwards = root.T @ vectors
    of_modes = torch.ones(1, dtype=torch.float64, device="cpu")
    for _ in range(n):
        of_modes = torch.kron(of_modes, costs)
    blocks = [((a, b), (c, d)) for (a, b), (c, d) in (torch.linalg.inv(outwards).tolist(), outwards.tolist())]
    return blocks[0], blocks[1], (1 / (1 + of_modes)).to(device)


def balanced(dual: Tensor) -> Tensor:
    """The vector with its imbalance put on the empty set, so that it sums to 0."""
    rest = dual[..., 1:]
    return torch.cat([-rest.sum(-1, keepdim=True), rest], dim=-1)


def relative_gap(penalty: Tensor, bound: Tensor) -> Tensor:
    """Return how far a sum can lie above its minimum, relative to it; 0 where the minimum is 0 and reached."""
    tiny = torch.finfo(penalty.dtype).tiny
    gap = (penalty - bound).clamp_min(0) / bound.clamp_min(tiny)
    return torch.where(penalty <= tiny, torch.zeros_like(gap), gap)
