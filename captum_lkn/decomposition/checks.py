"""Checks of the arguments of :func:`captum_lkn.decompose`, and warnings on its tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from captum_lkn._common.checks import check_plain, is_floating, is_number, is_one_of
from captum_lkn._common.messages import kind_of, shape_of, some_of
from captum_lkn._common.warn import warn
from captum_lkn.decomposition.options import LARGEST_WEIGHT, NOISE
from captum_lkn.decomposition.solvers import highs

__all__ = [
    "as_double",
    "check_joint",
    "check_solver",
    "largest_deviation",
    "too_large_a_gap",
    "warn_of_gap",
    "warn_of_small_kappa",
    "weight_factors",
]

_SMALL = NOISE / 10
"""A kappa below this share of a table's range is small: a tenth of the paper's, were v(N) - v(empty) the range."""


def as_double(values: Tensor) -> tuple[Tensor, torch.device]:
    """Return finite tables in float64 and the device of the result."""
    if not values.is_floating_point():
        raise TypeError(f"values must have a floating dtype; got {values.dtype}. Convert them with values.double()")
    if not bool(values.isfinite().all()):
        where = (~values.isfinite()).nonzero()[0].tolist()
        raise ValueError(
            f"values must be finite; got {float(values[tuple(where)])} at {where}. Bit i of the last index = player i "
            "is present: look for what the model returned for that subset"
        )
    # Not every device has float64 (Apple's has not); there the work is done on the CPU.
    device = torch.device("cpu") if values.device.type == "mps" else values.device
    tables = values.detach().to(device).double()
    if not bool((tables.amax(-1) - tables.amin(-1)).isfinite().all()):
        raise ValueError("values of a table must differ by less than the largest float64: divide them by a constant")
    return tables, device


def largest_deviation(
    tables: Tensor, batch: torch.Size, noise: float, kappa: float | Tensor | Sequence[float] | None
) -> Tensor:
    """Return kappa for each table, ``[K, 1]``."""
    if isinstance(kappa, Tensor):
        check_plain("kappa", kappa)
    if kappa is None:
        return noise * (tables[:, -1:] - tables[:, :1]).abs()
    problem = f"kappa must be a finite number >= 0, or a tensor of one for each table; got {kappa!r}"
    try:
        given = torch.as_tensor(kappa, dtype=tables.dtype, device=tables.device).detach()
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(problem) from None
    if not bool((given >= 0).all()) or not bool(given.isfinite().all()):
        raise ValueError(problem)
    try:
        return given.expand(batch).reshape(-1, 1).clone()
    except RuntimeError as error:
        raise ValueError(
            f"kappa must be one number, or one for each of the tables {list(batch)}; got {shape_of(given)}"
        ) from error


def weight_factors(cost: Tensor, batch: torch.Size, tables: Tensor) -> Tensor:
    """Return factors of the weights: ``[2, 2^n]`` for all tables, or ``[K, 2, 2^n]``."""
    if not is_floating(cost):
        raise TypeError(f"cost must be a floating tensor, factors of the weights; got {kind_of(cost)}")
    check_plain("cost", cost)
    if not bool(((cost >= 1 / LARGEST_WEIGHT) & (cost <= LARGEST_WEIGHT)).all()):
        raise ValueError(
            f"cost must be from {1 / LARGEST_WEIGHT:g} to {LARGEST_WEIGHT:g} everywhere; got {float(cost.min()):g} to "
            f"{float(cost.max()):g}. A factor of 1 leaves a weight as it is"
        )
    full = (*batch, 2, tables.shape[-1])
    factors = cost.detach().to(tables)
    try:
        return factors.expand(full[-2:]) if factors.dim() <= 2 else factors.expand(full).reshape(-1, *full[-2:])
    except RuntimeError as error:
        raise ValueError(
            f"cost must be [2^n], [2, 2^n], or for each table its own, so that it broadcasts to {list(full)}; got "
            f"{shape_of(cost)}"
        ) from error


def check_solver(solver: str, n: int) -> None:
    """Check the name of the solver, and that it can solve tables of n players."""
    if not is_one_of(solver, ("auto", "highs")):
        raise ValueError(f"solver must be 'auto' or 'highs'; got {solver!r}")
    if solver == "highs" and n > highs.MAX_PLAYERS:
        raise ValueError(
            f"solver='highs' writes the program out and takes at most {highs.MAX_PLAYERS} players; got n = {n}. Use "
            "solver='auto', whose certificate holds for any n"
        )


def check_joint(price: Any, values: Tensor, cost: Tensor | None, solver: str) -> int:
    """Check the price of a joint decomposition and what it goes with; return the number of tables of a group."""
    if not is_number(price) or not 0 <= price <= 1:
        raise ValueError(f"joint must be the price of an effect in each further table, from 0 to 1; got {price!r}")
    if values.dim() < 2:
        raise ValueError(
            f"joint needs several tables, values [K, ..., 2^n]; got {shape_of(values)}. Stack them with torch.stack"
        )
    if cost is not None or solver != "auto":
        raise ValueError(
            "joint takes the weights of the options and the solver 'auto' alone; got "
            f"{'cost' if cost is not None else f'solver={solver!r}'}. Leave it out"
        )
    return len(values)


def warn_of_small_kappa(tables: Tensor, kappa: Tensor, names: Sequence[str] | None) -> None:
    """Warn of tables ``[K, 2^n]`` whose kappa ``[K]`` is 0 or small, and name them.

    A constant table needs no warning: it has no effects whatever kappa is.
    """
    spread = tables.amax(-1) - tables.amin(-1)
    none = (kappa == 0) & (spread > 0)
    small = (kappa < _SMALL * spread) & ~none
    for found, text in (
        (none, "kappa is 0 in {}, since v(N) = v(empty): every value is reproduced exactly, and noise counts as"),
        (small, "kappa is small against the range of the values in {}: noise may count as"),
    ):
        if bool(found.any()):
            first = int(found.nonzero()[0])
            example = NOISE * float(spread[first])
            warn(
                f"{text.format(_named(found, names))} interactions. Give an absolute kappa=, such as {example:.2g} "
                f"({100 * NOISE:g} % of the range of the first of them)"
            )


def warn_of_gap(gap: Tensor, converged: Tensor, tolerance: float, names: Sequence[str] | None) -> None:
    """Warn of tables whose certified gap ``[K]`` did not reach the tolerance, and name them."""
    if not bool(converged.all()):
        warn(
            f"the decomposition stopped short of tolerance={tolerance:g} in {_named(~converged, names)}; the largest "
            f"certified gap is {float(gap.max()):.2g}, which holds. See `gap` and `stopped` of the result"
        )


def too_large_a_gap(gap: Tensor, far: Tensor, limit: float, n: int, names: Sequence[str] | None) -> str:
    """Return the message on tables whose certified gap ``[K]`` is too large for their effects to mean anything."""
    return (
        f"the effects of {_named(far, names)} with {n} players may be far from the sparsest: their certified gap is "
        f"{float(gap.max()):.2g}, and largest_gap={limit:g}. Too many interactions count. Take a kappa= or noise= "
        "above the noise of the values, fewer players (select_players), values at some masks (n_samples= of "
        "attribute), or more steps (max_steps=). The error's "
        "`decomposition` is what was found; largest_gap=1e9 returns it without an error"
    )


def _named(chosen: Tensor, names: Sequence[str] | None) -> str:
    """Return the number and the names of the chosen tables ``[K]``."""
    places = chosen.nonzero().flatten().tolist()
    listed = some_of([names[i] if names else f"table {i}" for i in places])
    return f"{len(places)} of {len(chosen)} tables" + (f" ({listed})" if names or len(chosen) > 1 else "")
