"""Sparse AND-OR decomposition of value tables, with a certificate.

Every table of 2^n values can be written as AND plus OR effects in endlessly many ways::

    v(T) = v(empty) + sum over S subset of T of I_and(S) + sum over S that meet T of I_or(S) + delta(T)

:func:`decompose` finds the way with the smallest effects (Eq. 5 of Cheng et al., "Layerwise Change of Knowledge
in Neural Networks", ICML 2024), and says how far from the smallest it can be at most.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, Literal

import torch
from torch import Tensor

from captum_lkn._common.messages import kind_of, shape_of
from captum_lkn._common.warn import warn
from captum_lkn.decomposition import lattice
from captum_lkn.decomposition.solvers import dispatch, highs
from captum_lkn.decomposition.solvers.problem import Problem, relative_gap

__all__ = [
    "NOISE",
    "ORDER_WEIGHT",
    "RIDGE",
    "TOLERANCE",
    "Decomposition",
    "Kind",
    "Solver",
    "check_options",
    "decompose",
    "pose",
]

Kind = Literal["and-or", "and"]
Solver = Literal["auto", "highs"]

NOISE: Final = 0.04
# Two equal effects i, j cost the same as "i and j" with "i or j", but for these two: the order weight speaks for the
# single players, the ridge for spreading over more effects. A ridge below twice the order weight keeps additive models
# additive. Measured on tables of image and language models, n = 6 to 10: the plain sum is 0.12 % above its optimum on
# average, the salient effects stay as few, and jitter of up to 1e-6 of the range moves the effects by less than 0.1 %
# of their L1 norm.
ORDER_WEIGHT: Final = 0.15
RIDGE: Final = 0.25
TOLERANCE: Final = 1e-5


@dataclass(frozen=True, eq=False)
class Decomposition:
    """Sparse AND-OR effects of value tables, and how good they are.

    Leading dimensions ``[...]`` are those of the tables. All tensors are float64 and on the tables' device (on
    the CPU where that has no float64).

    Attributes:
        and_effects: ``[..., 2^n]``; entry 0 is v(empty) (less delta(empty) where the ends are free). First-order
            effects are here.
        or_effects: ``[..., 2^n]``; 0 at the empty set and at single players.
        objective: ``[...]``, the plain sum of the absolute effects of all nonempty sets (Eq. 5).
        gap: ``[...]``, a certified bound of (sum - optimum) / optimum for the sum that was minimised, order
            weights and ridge included; 0 where the optimum is 0.
        residual: ``[..., 2^n]``, delta: the values minus what the effects add up to.
        kappa: ``[...]``, the largest deviation allowed.
        steps: ``[...]`` int64, steps of the solver.
        converged: ``[...]`` bool, whether ``gap`` reached the tolerance.
        stopped: For each table, in the order of the flattened batch, why the solver stopped: ``"converged"``,
            ``"stalled"`` (no better gap in double precision) or ``"steps"`` (the largest number of steps).
    """

    and_effects: Tensor
    or_effects: Tensor
    objective: Tensor
    gap: Tensor
    residual: Tensor
    kappa: Tensor
    steps: Tensor
    converged: Tensor
    stopped: tuple[str, ...] = field(repr=False)

    def __getitem__(self, index: int) -> Decomposition:
        """The decomposition of one entry of the first batch dimension."""
        per_entry = len(self.stopped) // self.gap.shape[0]
        own = self.stopped[index * per_entry : (index + 1) * per_entry]
        tensors = {f.name: getattr(self, f.name)[index] for f in fields(self) if f.name != "stopped"}
        return Decomposition(**tensors, stopped=own)

    def reconstruct(self) -> Tensor:
        """The values that the effects add up to, ``[..., 2^n]``; the tables less ``residual``."""
        return lattice.and_inverse(self.and_effects) + lattice.or_inverse(self.or_effects)


def decompose(
    values: Tensor,
    *,
    noise: float = NOISE,
    kappa: float | Tensor | None = None,
    pin_ends: bool = True,
    order_weight: float = ORDER_WEIGHT,
    ridge: float = RIDGE,
    tolerance: float = TOLERANCE,
    kind: Kind = "and-or",
    cost: Tensor | None = None,
    solver: Solver = "auto",
) -> Decomposition:
    r"""Decompose value tables into sparse AND and OR effects.

    Minimises, for each table by itself, ::

        sum over nonempty S of  w_S |I(S)| + ridge / 2 * I(S)^2 / max |v - v(empty)|,   w_S = 1 + order_weight (|S| - 1)

    over AND and OR effects that reproduce every value within kappa. The defaults make the answer unique;
    ``order_weight=0, ridge=0`` is the paper's linear program, whose answer is not. ``cost`` multiplies the w_S.

    Args:
        values: ``[..., 2^n]``, floating; bit i of the index = player i is present.
        noise: kappa as a share of \|v(N) - v(empty)\| of each table. 0: every value is reproduced exactly.
        kappa: The largest deviation itself, one number or ``[...]``; replaces ``noise``.
        pin_ends: Whether v(empty) and v(N) are reproduced exactly, so that all effects add up to v(N). The paper
            leaves them free.
        order_weight: How much more each further player of a set costs.
        ridge: Weight of the squares. Any positive value makes the minimum unique.
        tolerance: The certified relative gap to stop at. Above 1e-3 the effects are a preview: they lag behind
            the sum. Below, they are at the optimum to many digits in nearly all tables.
        kind: ``"and-or"``, or ``"and"`` for AND effects alone (Harsanyi dividends where ``noise`` is 0).
        cost: What broadcasts to ``[..., 2, 2^n]`` (``[2^n]`` for all tables and both kinds, ``[2, 2^n]`` for AND and
            OR apart, more for each table its own): positive factors of the weights w_S. None: 1. With factors near
            1, it shows how much of an answer hangs on the weights.
        solver: ``"auto"``: ADMM, then an interior point (up to 13 players). ``"highs"``: the explicit linear
            program through SciPy, at most 10 players, without the ridge; an independent check.

    Returns:
        The effects with their certificate. A table's result does not depend on the other tables.

    Raises:
        TypeError: ``values`` or ``cost`` is no floating tensor.
        ValueError: its last dimension is no power of two, it holds NaN or infinite values, or an option is out
            of range, or ``cost`` does not fit.

    Warns:
        UserWarning: v(N) = v(empty), so that kappa is 0; kappa is tiny against the range of a table; the
            tolerance was not reached.

    Example:
        >>> table = torch.tensor([0.0, 1.0, 1.0, 1.0], dtype=torch.float64)  # "either of two players will do"
        >>> found = decompose(table, noise=0.0)
        >>> [round(effect, 6) for effect in found.or_effects.tolist()]
        [0.0, 0.0, 0.0, 1.0]
        >>> bool(found.gap <= 1e-5)
        True
    """
    n = lattice.n_players(values)
    check_options(noise=noise, order_weight=order_weight, ridge=ridge, tolerance=tolerance, kind=kind)
    _check_solver(solver, n)
    tables, device = _as_double(values)
    batch = tables.shape[:-1]
    tables = tables.reshape(-1, 1 << n)
    limit = _kappa(tables, batch, noise, kappa)
    factors = None if cost is None else _factors(cost, batch, tables)
    _warn_of_small_kappa(tables, limit, asked=kappa is not None or noise > 0)

    start = tables[:, :1]
    problem, unit = pose(tables, limit, pin_ends=pin_ends, order_weight=order_weight, ridge=ridge, kind=kind)
    if factors is not None:
        problem = replace(problem, weights=problem.weights * factors)
    with torch.no_grad():
        found = dispatch.solve(problem, tolerance, solver)
    effects = found.effects * unit.unsqueeze(-1)
    ands, ors = effects[:, 0].clone(), effects[:, 1].clone()
    ands[:, 0] = (start + found.constant * unit).squeeze(-1)
    residual = tables - lattice.and_inverse(ands) - lattice.or_inverse(ors)
    gap = relative_gap(problem.penalty(found.effects), found.bound)
    converged = gap <= tolerance
    _warn_of_gap(gap, converged, tolerance)

    def batched(result: Tensor) -> Tensor:
        return result.reshape(batch + result.shape[1:]).to(device)

    return Decomposition(
        and_effects=batched(ands),
        or_effects=batched(ors),
        objective=batched((ands.abs() + ors.abs())[:, 1:].sum(-1)),
        gap=batched(gap),
        residual=batched(residual),
        kappa=batched(limit.squeeze(-1)),
        steps=batched(found.steps),
        converged=batched(converged),
        stopped=tuple(found.stopped),
    )


def pose(
    tables: Tensor, kappa: Tensor, *, pin_ends: bool, order_weight: float, ridge: float, kind: Kind
) -> tuple[Problem, Tensor]:
    r"""The optimisation problem of tables, in units of their ranges.

    Args:
        tables: ``[K, 2^n]`` float64.
        kappa: ``[K, 1]``, the largest deviation.
        pin_ends: As in :func:`decompose`, like what follows.
        order_weight: How much more each further player costs.
        ridge: Weight of the squares.
        kind: AND and OR effects, or AND alone.

    Returns:
        The problem, and the units ``[K, 1]``: max \|v - v(empty)\| of each table, 1 where that is 0.
    """
    n = lattice.n_players(tables)
    distances = tables - tables[:, :1]
    scale = distances.abs().amax(-1, keepdim=True)
    unit = torch.where(scale > 0, scale, torch.ones_like(scale))
    weights = _weights(n, order_weight, kind).to(tables.device)
    return Problem(distances / unit, _slack(kappa / unit, n, pin_ends), weights, float(ridge), pin_ends), unit


def _weights(n: int, order_weight: float, kind: Kind) -> Tensor:
    order = lattice.orders(n)
    weights = (1 + order_weight * (order.double() - 1)).repeat(2, 1)
    weights[:, 0] = torch.inf  # the constant
    weights[1, order == 1] = torch.inf  # the same function of T as the AND effect
    if kind == "and":
        weights[1] = torch.inf
    return weights


def _factors(cost: Tensor, batch: torch.Size, tables: Tensor) -> Tensor:
    """The checked factors of the weights: one set of them ``[2, 2^n]`` for all tables, or ``[K, 2, 2^n]``."""
    if not isinstance(cost, Tensor) or not cost.is_floating_point():
        raise TypeError(f"cost must be a floating tensor, factors of the weights; got {kind_of(cost)}")
    if not bool(((cost > 0) & cost.isfinite()).all()):
        raise ValueError("cost must be positive and finite everywhere: a factor of 1 leaves a weight as it is")
    full = (*batch, 2, tables.shape[-1])
    factors = cost.detach().to(tables)
    try:
        return factors.expand(full[-2:]) if factors.dim() <= 2 else factors.expand(full).reshape(-1, *full[-2:])
    except RuntimeError as error:
        raise ValueError(
            f"cost of shape {shape_of(cost)} does not broadcast to {list(full)}: give [2^n], [2, 2^n], or for each "
            "table its own"
        ) from error


def _slack(kappa: Tensor, n: int, pin_ends: bool) -> Tensor:
    slack = kappa.repeat(1, 1 << n)
    if pin_ends:
        slack[:, 0] = 0
        slack[:, -1] = 0
    return slack


def _kappa(tables: Tensor, batch: torch.Size, noise: float, kappa: float | Tensor | None) -> Tensor:
    """The largest deviation of each table, ``[K, 1]``."""
    if kappa is None:
        return noise * (tables[:, -1:] - tables[:, :1]).abs()
    try:
        given = torch.as_tensor(kappa, dtype=tables.dtype, device=tables.device).detach()
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"kappa must be a number >= 0, or a tensor of one for each table, got {kappa!r}") from None
    if not bool((given >= 0).all()) or not bool(given.isfinite().all()):
        raise ValueError(f"kappa is the largest deviation allowed, a finite number >= 0, got {kappa!r}")
    try:
        return given.expand(batch).reshape(-1, 1).clone()
    except RuntimeError as error:
        raise ValueError(
            f"kappa of shape {tuple(given.shape)} does not fit tables of shape {tuple(batch)} + [2^n]: give one "
            "number, or one for each table"
        ) from error


def _as_double(values: Tensor) -> tuple[Tensor, torch.device]:
    if not values.is_floating_point():
        raise TypeError(f"values have a floating dtype, got {values.dtype}: convert them, e.g. values.double()")
    if not bool(values.isfinite().all()):
        where = (~values.isfinite()).nonzero()[0].tolist()
        raise ValueError(
            f"values must be finite, but values{where} is {float(values[tuple(where)])}: look for what the model "
            "returned for that subset (bit i of the last index = player i is present)"
        )
    # Not every device has float64 (Apple's has not); there the work is done on the CPU.
    device = torch.device("cpu") if values.device.type == "mps" else values.device
    tables = values.detach().to(device).double()
    if not bool((tables.amax(-1) - tables.amin(-1)).isfinite().all()):
        raise ValueError("the values of a table lie further apart than float64 can tell: divide them by a constant")
    return tables, device


def check_options(*, kind: str, tolerance: float, kappa: Any = None, **options: float) -> None:
    """Check the options of :func:`decompose` that need no table.

    Args:
        kind: ``"and-or"`` or ``"and"``.
        tolerance: A positive number.
        kappa: None or a nonnegative number.
        **options: Further nonnegative numbers, by name.

    Raises:
        TypeError: Something that should be a number is none.
        ValueError: A number is out of range, or ``kind`` unknown.
    """
    numbers = options | {"tolerance": tolerance} | ({} if kappa is None else {"kappa": kappa})
    for name, number in numbers.items():
        try:
            value = float(number)
        except (TypeError, ValueError):
            raise TypeError(f"{name} must be a number >= 0, got {number!r}") from None
        if not math.isfinite(value) or value < 0:
            raise ValueError(f"{name} is a finite number >= 0, got {number!r}")
    if tolerance == 0:
        raise ValueError("tolerance=0 asks for more than rounding allows: give a positive gap, e.g. 1e-6")
    if kind not in ("and-or", "and"):
        raise ValueError(f"kind is 'and-or' or 'and', got {kind!r}")


def _check_solver(solver: str, n: int) -> None:
    if solver not in ("auto", "highs"):
        raise ValueError(f"solver is 'auto' or 'highs', got {solver!r}")
    if solver == "highs" and n > highs.MAX_PLAYERS:
        raise ValueError(
            f"solver='highs' writes the program out and takes at most {highs.MAX_PLAYERS} players, got n = {n}: "
            "use solver='auto', whose certificate holds for any n"
        )


def _warn_of_small_kappa(tables: Tensor, kappa: Tensor, asked: bool) -> None:
    if not asked or not len(tables):
        return
    spread = tables.amax(-1) - tables.amin(-1)
    limit = kappa.squeeze(-1)
    none = limit == 0
    small = (limit < NOISE * spread / 10) & ~none
    if none.any():
        warn(
            f"kappa is 0 in {int(none.sum())} of {len(tables)} tables, e.g. because v(N) = v(empty): every value "
            "is reproduced exactly, and noise counts as interactions. Give an absolute kappa= to allow for it",
        )
    if small.any():
        worst = int((limit / spread.clamp_min(1e-300)).masked_fill(~small, torch.inf).argmin())
        warn(
            f"kappa is small against the range of the values in {int(small.sum())} of {len(tables)} tables (below "
            f"a tenth of {NOISE:g} times the range; e.g. kappa {float(limit[worst]):.3g}, range "
            f"{float(spread[worst]):.3g}), so that noise may count as interactions. Give an absolute kappa=",
        )


def _warn_of_gap(gap: Tensor, converged: Tensor, tolerance: float) -> None:
    if bool(converged.all()):
        return
    warn(
        f"{int((~converged).sum())} of {len(gap)} decompositions stopped short of tolerance={tolerance:g}; the "
        f"largest certified gap is {float(gap.max()):.2g}. See `gap` and `stopped` of the result",
    )
