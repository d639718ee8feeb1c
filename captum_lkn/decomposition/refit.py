"""Least-squares refit of effects whose sets stay as they are, and how well effects reproduce a table.

The sparse decomposition shrinks effects: each value may be missed by kappa, and smaller effects cost less. A refit
keeps the sets that were found and chooses their effects anew, so that they reproduce the values best. It is the second
stage of the relaxed lasso (Meinshausen, "Relaxed Lasso", Computational Statistics & Data Analysis 52, 2007).
"""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor

from captum_lkn.decomposition import lattice
from captum_lkn.decomposition.effects import TAU, Effects, check_table
from captum_lkn.decomposition.solvers.problem import adjoint

__all__ = ["Fidelity", "fidelity_of", "refit_effects", "refit_salient"]

_DEPENDENT: Final = 1e-11
"""Directions of the support whose squared length is below this share of the largest change no value."""


class Fidelity(NamedTuple):
    """Agreement of a table with what some effects add up to.

    Attributes:
        effects: The number of the effects.
        r_squared: 1 minus the sum of the squared misses over that of the squared deviations from the mean value; 1 for
            a constant table that is reproduced.
        largest_miss: The largest absolute difference of a value, in the units of the values.
    """

    effects: int
    r_squared: float
    largest_miss: float


def refit_effects(effects: Effects, values: Tensor, *, pin_ends: bool = True) -> Effects:
    """Choose the effects of given sets anew, by least squares over all values.

    Args:
        effects: The sets to keep, up to 20 players.
        values: The table, float64 ``[2^n]`` on the CPU.
        pin_ends: Whether the values of the empty and of the full set are reproduced exactly (the latter where there is
            an effect). Else the constant is fitted as well.

    Returns:
        Effects of the same sets. Where sets depend on each other, as i, j, "i and j" and "i or j" do, many effects
        reproduce the values equally well; these are the ones nearest to those given.

    Raises:
        TypeError: ``values`` is not a float64 tensor on the CPU.
        ValueError: Its shape does not fit, or an entry is not finite.

    Example:
        >>> shrunk = Effects.of(2, [("and", (0, 1), 1.8)])
        >>> refit_effects(shrunk, torch.tensor([0.0, 0.1, 0.0, 2.0], dtype=torch.float64)).values.tolist()
        [2.0]
    """
    check_table("values", values, effects.n)
    n, start = effects.n, float(values[0]) if pin_ends else effects.constant
    missed = values - start - (effects.reconstruction - effects.constant)
    if len(effects) == 0:
        return Effects(n, start if pin_ends else float(values.mean()), effects.members, effects.is_or, effects.values)
    # All in shares of the 2^n subsets, so that large n does not overflow the tolerance.
    overlap = missed.new_ones(len(effects) + 1, len(effects) + 1)
    overlap[1:, 1:] = _overlaps(effects)
    overlap[0, 1:] = overlap[1:, 0] = overlap.diagonal()[1:]
    towards = torch.cat([missed.sum().reshape(1), adjoint(missed)[_places(effects)]]) / len(values)
    if pin_ends:
        overlap, towards = overlap[1:, 1:], towards[1:]
        # Every nonempty set counts at N: the changes add up to what N lacks.
        total = missed[-1].clone()
        shift = total / len(effects)
        free = _sum_free(len(effects))
        change = shift + free @ _least_squares(free.T @ overlap @ free, free.T @ (towards - overlap.sum(1) * shift))
        constant = start
    else:
        moved = _least_squares(overlap, towards)
        change, constant = moved[1:], start + float(moved[0])
    return Effects(n, constant, effects.members, effects.is_or, effects.values + change)


def refit_salient(
    effects: Effects,
    values: Tensor,
    *,
    tau: float = TAU,
    relative: bool = True,
    least: float = 0.0,
    pin_ends: bool = True,
) -> Effects:
    """Refit the salient effects, drop those that are not salient any more, and so on until none is dropped.

    Args:
        effects: The effects, up to 20 players.
        values: The table, float64 ``[2^n]`` on the CPU.
        tau: The threshold of salience.
        relative: Whether it is a share of the largest absolute effect.
        least: Absolute effects up to this one are not salient either.
        pin_ends: As in :func:`refit_effects`.

    Returns:
        The refitted effects.
    """
    fitted = False
    while True:
        salient = effects.above(max(tau * effects.largest if relative else tau, least))
        if fitted and bool(salient.all()):
            return effects
        effects, fitted = refit_effects(effects.select(salient), values, pin_ends=pin_ends), True


def fidelity_of(effects: Effects, values: Tensor) -> Fidelity:
    """Compare a table with what effects add up to.

    Args:
        effects: The effects, up to 20 players.
        values: The table, float64 ``[2^n]`` on the CPU.

    Returns:
        The agreement.

    Example:
        >>> fidelity_of(Effects.of(1, [("and", (0,), 1.0)]), torch.tensor([0.0, 2.0], dtype=torch.float64))
        Fidelity(effects=1, r_squared=0.5, largest_miss=1.0)
    """
    missed = values - effects.reconstruction
    squares, spread = float(missed.square().sum()), float((values - values.mean()).square().sum())
    share = 1.0 if squares == 0 else 1 - squares / spread if spread else float("-inf")
    return Fidelity(len(effects), share, float(missed.abs().max()))


def _places(effects: Effects) -> tuple[Tensor, Tensor]:
    return effects.is_or.long(), lattice.subset_index(effects.members)


def _overlaps(effects: Effects) -> Tensor:
    """Return the share of subsets at which two effects are both active, ``[k, k]``."""
    members = effects.members.double()
    common = members @ members.T
    orders = effects.orders.double()
    union = 0.5 ** (orders.unsqueeze(0) + orders.unsqueeze(1) - common)  # all members of both present
    own = 0.5**orders
    ors = effects.is_or
    # An OR effect is inactive where all its members are absent; an AND effect that shares one with it rules this out.
    one_or = own.unsqueeze(1) - torch.where(common == 0, union, torch.zeros_like(union))  # row AND, column OR
    both_or = 1 - own.unsqueeze(0) - own.unsqueeze(1) + union
    rows, columns = ors.unsqueeze(1), ors.unsqueeze(0)
    return torch.where(rows, torch.where(columns, both_or, one_or.T), torch.where(columns, one_or, union))


def _sum_free(k: int) -> Tensor:
    """Return an orthonormal basis of the changes that add up to 0, ``[k, k - 1]``."""
    complete, _ = torch.linalg.qr(torch.ones(k, 1, dtype=torch.float64, device="cpu"), mode="complete")
    basis: Tensor = complete[:, 1:]
    return basis


def _least_squares(gram: Tensor, right: Tensor) -> Tensor:
    """Solve normal equations; the shortest solution where they are singular."""
    if not len(gram):
        return right
    solution: Tensor = torch.linalg.pinv(gram, rtol=_DEPENDENT, hermitian=True) @ right
    return solution
