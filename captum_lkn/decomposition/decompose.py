"""Sparse AND-OR decomposition of value tables, with a certificate.

Every table of 2^n values can be written as AND plus OR effects in many ways::

    v(T) = v(empty) + sum over S subset of T of I_and(S) + sum over S that meet T of I_or(S) + delta(T)

:func:`decompose` finds the one with the smallest effects (Eq. 5 of Cheng et al., "Layerwise Change of Knowledge
in Neural Networks", ICML 2024), and certifies how far from the smallest it can be.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, Literal, SupportsIndex

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from captum_lkn._common.arguments import checked
from captum_lkn._common.checks import check_numbers
from captum_lkn._common.messages import kind_of, shape_of, some_of
from captum_lkn._common.progress import Bar, is_hidden
from captum_lkn._common.rounding import no_autocast
from captum_lkn.decomposition import lattice
from captum_lkn.decomposition.checks import (
    as_double,
    check_joint,
    check_solver,
    largest_deviation,
    too_large_a_gap,
    warn_of_gap,
    warn_of_small_kappa,
    weight_factors,
)
from captum_lkn.decomposition.effects import Effects
from captum_lkn.decomposition.options import DecompositionKind, DecompositionOptions, given_options
from captum_lkn.decomposition.solvers import dispatch
from captum_lkn.decomposition.solvers.joint import JOINT_TOLERANCE, JointFound, solve_jointly
from captum_lkn.decomposition.solvers.problem import Problem, relative_gap

__all__ = ["Decomposition", "LargeGapError", "Solver", "build_problem", "decompose"]

Solver = Literal["auto", "highs"]

_BAR_DELAY: Final = 1.0  # in seconds: what is done by then needs no bar

_LOOSE: Final = 1e6
"""A slack of so many ranges binds nothing; a larger one would drown the values in rounding."""


@checked()
@dataclass(frozen=True, eq=False)
class Decomposition:
    """Sparse AND-OR effects of value tables, with their certificate.

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
        options: The options of the decomposition; where each table was given its own kappa, that is in ``kappa``, and
            in the options of the decomposition of one of them.
        kappa_of_each: Whether each table was given its own kappa.
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
    options: DecompositionOptions = field(repr=False)
    kappa_of_each: bool = field(default=False, repr=False)

    def __post_init__(self) -> None:
        batch, size = tuple(self.gap.shape), self.and_effects.shape[-1:]
        for name in ("and_effects", "or_effects", "residual"):
            check_numbers(name, getattr(self, name), (*batch, *size))
        for name in ("objective", "kappa"):
            check_numbers(name, getattr(self, name), batch)
        check_numbers("steps", self.steps, batch, torch.int64)
        check_numbers("converged", self.converged, batch, torch.bool)
        if self.gap.dtype != torch.float64 or bool(self.gap.isnan().any()):
            raise ValueError(f"gap must be float64, without NaN; got {kind_of(self.gap)}")
        if len(self.stopped) != self.gap.numel() or not set(self.stopped) <= {"converged", "stalled", "steps"}:
            raise ValueError(
                f'stopped must be "converged", "stalled" or "steps" of each table, {self.gap.numel()}; got '
                f"{some_of(self.stopped)}"
            )

    def __getitem__(self, index: SupportsIndex) -> Decomposition:
        """The decomposition of one entry of the first batch dimension; negative ones count from the end."""
        entries = self.gap.shape[0] if self.gap.dim() else 0
        if isinstance(index, bool):
            raise TypeError(f"index must be a whole number; got {index!r}")
        place = operator.index(index)
        if not -entries <= place < entries:
            raise IndexError(f"index must be from {-entries} to {entries - 1}; got {place}")
        per_entry = len(self.stopped) // entries
        first = place % entries * per_entry
        tensors = {f.name: getattr(self, f.name)[place] for f in fields(self) if f.type == "Tensor"}
        options, of_each = self.options, self.kappa_of_each
        if of_each and not tensors["kappa"].dim():
            options, of_each = options.replace(kappa=float(tensors["kappa"])), False
        stopped = self.stopped[first : first + per_entry]
        return Decomposition(**tensors, stopped=stopped, options=options, kappa_of_each=of_each)

    def reconstruct(self) -> Tensor:
        """Return the values that the effects add up to, ``[..., 2^n]``; the tables less ``residual``."""
        return lattice.reconstruct(self.and_effects, self.or_effects)

    @property
    def effects(self) -> Effects:
        """The effects of one table in their sparse form.

        Raises:
            ValueError: There are several tables.
        """
        if self.gap.dim():
            raise ValueError(
                f"effects are those of one table; this decomposition has {shape_of(self.gap)} of them. Take "
                "found[i].effects"
            )
        return Effects.from_tables(self.and_effects.cpu(), self.or_effects.cpu())


class LargeGapError(RuntimeError):
    """Error of a decomposition that may be far from the sparsest one, so that its effects mean little.

    Attributes:
        decomposition: What was found: feasible effects with their gap. The values are ``reconstruct()`` plus
            ``residual``.
    """

    def __init__(self, message: str, decomposition: Decomposition) -> None:
        super().__init__(message)
        self.decomposition = decomposition

    def __reduce__(self) -> tuple[type[LargeGapError], tuple[str, Decomposition]]:
        """Make it anew in another process; an exception's own way knows the message alone."""
        return type(self), (str(self), self.decomposition)


@no_autocast()
@checked("names", "show_progress", "values")
def decompose(
    values: Tensor,
    *,
    options: DecompositionOptions | None = None,
    noise: float | None = None,
    kappa: float | Tensor | None = None,
    pin_ends: bool | None = None,
    order_weight: float | None = None,
    or_weight: float | None = None,
    ridge: float | None = None,
    tolerance: float | None = None,
    max_steps: int | None = None,
    largest_gap: float | None = None,
    kind: DecompositionKind | None = None,
    cost: Tensor | None = None,
    joint: float | None = None,
    solver: Solver = "auto",
    names: Sequence[str] | None = None,
    show_progress: bool = False,
) -> Decomposition:
    r"""Decompose value tables into sparse AND and OR effects.

    Minimises, for each table by itself, the sum that :class:`captum_lkn.decomposition.DecompositionOptions` states,
    over AND and OR effects that reproduce every value within kappa. The defaults make the answer unique;
    ``order_weight=0, or_weight=1, ridge=0`` is the paper's linear program, whose answer is not.

    Args:
        values: ``[..., 2^n]``, floating; bit i of the index = player i is present.
        options: All options at once; None for the defaults. Each of the following keywords replaces one of them.
        noise: kappa as a share of \|v(N) - v(empty)\| of each table; 0.04 by default.
        kappa: The largest deviation itself, one number or ``[...]``; replaces ``noise``.
        pin_ends: Whether v(empty) and v(N) are reproduced exactly; True by default.
        order_weight: The additional weight of a set for each player beyond the first; 0.15 by default.
        or_weight: The factor of the weights of OR effects; 1.1 by default.
        ridge: The weight of the squares; 0.1 by default.
        tolerance: The certified relative gap to stop at; 1e-5 by default, 1e-3 of a joint decomposition.
        max_steps: The largest number of first-order steps, for dense tables of more than 13 players; 20,000 by default,
            and fewer from 17 players on.
        largest_gap: The certified gap above which the result is an error; 0.1 by default.
        kind: ``"and-or"`` (the default), or ``"and"`` for AND effects alone.
        cost: A tensor that broadcasts to ``[..., 2, 2^n]`` (``[2^n]`` for all tables and both kinds, ``[2, 2^n]`` for
            AND and OR apart, more for each table its own): positive factors of the weights. None: 1. With factors near
            1 it shows how sensitive the answer is to the weights.
        joint: The price alpha of an effect in each further table, from 0 to 1, of a joint decomposition of the tables
            ``values[0], ..., values[K - 1]``, each of which may be a batch; None: each table by itself. See below.
        solver: ``"auto"``: ADMM, an interior point and an active-set method, or a semismooth Newton method where few
            effects meet the values exactly; beyond 13 players ADMM alone where many effects are needed. ``"highs"``:
            the explicit linear program through SciPy, at most 10 players, without the ridge; an independent check.
        names: A name for each table, in the order of the flattened batch, for warnings; None: its number.
        show_progress: Whether to show a bar of the tables, with the gap of one that takes long.

    With `joint` the K tables of a group, such as those of the layers of a network, are decomposed together, so that
    they share effects where they can (Eq. 6 of Chen et al., "Defining and Extracting Generalizable Interaction
    Primitives from DNNs", ICLR 2024). Minimised is ::

        sum over S of  w_S (max_k |I^k(S)| + alpha (sum_k |I^k(S)| - max_k |I^k(S)|)),   alpha = 0.1 in that paper

    for AND and OR effects, with order weight, OR weight and ridge as ever (the ridge in units of the largest range of
    the group), and each table within its own kappa. The tables must be of one scale: divide each by its mean
    \|v(N) - v(empty)\|. The gap is that of the group's sum. A price of 1 separates the tables.

    Returns:
        The effects with their certificate. A table's result does not depend on the other tables, except on those that
        it is decomposed jointly with; on a GPU its last digits may, since systems of one batch get one size there.

    Raises:
        TypeError: ``values`` or ``cost`` is not a floating tensor, or an option has the wrong type.
        ValueError: The last dimension of ``values`` is not a power of two, it holds NaN or infinite values, an option
            is out of range, or ``cost`` does not fit.
        LargeGapError: The certified gap of a table is above ``largest_gap``, which happens to dense tables of many
            players. The error holds the result.

    Warns:
        UserWarning: ``noise`` makes a kappa of 0, since v(N) = v(empty), or a small one against the range of a table;
            the tolerance was not reached. The warning names the tables.

    Example:
        >>> table = torch.tensor([0.0, 1.0, 1.0, 1.0], dtype=torch.float64)  # "either of two players will do"
        >>> found = decompose(table, noise=0.0)
        >>> [round(effect, 6) for effect in found.or_effects.tolist()]
        [0.0, 0.0, 0.0, 1.0]
        >>> bool(found.gap <= 1e-5)
        True
    """
    n = lattice.n_players(values)
    # One for each table is more than options can hold.
    given: Any = kappa
    several = isinstance(given, list | tuple | np.ndarray) or (isinstance(given, Tensor) and given.dim() > 0)
    per_table = given if several else None
    keywords = {
        "noise": noise,
        "kappa": None if per_table is not None else kappa,
        "pin_ends": pin_ends,
        "order_weight": order_weight,
        "or_weight": or_weight,
        "ridge": ridge,
        "tolerance": tolerance,
        "max_steps": max_steps,
        "largest_gap": largest_gap,
        "kind": kind,
    }
    settings = given_options(options, keywords)
    check_solver(solver, n)
    together = 1
    if joint is not None:
        together = check_joint(joint, values, cost, solver)
        if options is None and tolerance is None:
            settings = settings.replace(tolerance=JOINT_TOLERANCE)
    tables, device = as_double(values)
    batch = tables.shape[:-1]
    tables = tables.reshape(-1, 1 << n)
    if names is not None and len(names) != len(tables):
        raise ValueError(f"names must be one a table, {len(tables)}; got {len(names)}")
    limit = largest_deviation(tables, batch, settings.noise, settings.kappa if per_table is None else per_table)
    factors = None if cost is None else weight_factors(cost, batch, tables)
    if per_table is None and settings.kappa is None and settings.noise > 0:  # an absolute kappa was chosen
        warn_of_small_kappa(tables, limit.squeeze(-1), names)

    start = tables[:, :1]
    problem, unit = build_problem(tables, limit, settings, together)
    if factors is not None:
        problem = replace(problem, weights=problem.weights * factors)
    with torch.no_grad(), _bar(len(tables), show_progress) as bar:
        found: dispatch.Found | JointFound
        if joint is None:
            found = dispatch.solve(problem, settings.tolerance, settings.max_steps, solver, bar)
            gap = relative_gap(problem.penalty(found.effects), found.bound)
        else:
            found = solve_jointly(problem, together, float(joint), settings.tolerance, settings.max_steps, bar)
            gap = found.gap
    effects = found.effects * unit.unsqueeze(-1)
    ands, ors = effects[:, 0].clone(), effects[:, 1].clone()
    ands[:, 0] = (start + found.constant * unit).squeeze(-1)
    residual = tables - lattice.reconstruct(ands, ors)
    converged = gap <= settings.tolerance

    def batched(result: Tensor) -> Tensor:
        return result.reshape(batch + result.shape[1:]).to(device)

    result = Decomposition(
        and_effects=batched(ands),
        or_effects=batched(ors),
        objective=batched((ands.abs() + ors.abs())[:, 1:].sum(-1)),
        gap=batched(gap),
        residual=batched(residual),
        kappa=batched(limit.squeeze(-1)),
        steps=batched(found.steps),
        converged=batched(converged),
        stopped=tuple(
            "converged" if done else "steps" if limit_reached else "stalled"
            for done, limit_reached in zip(converged.tolist(), found.out_of_steps.tolist(), strict=True)
        ),
        options=settings if per_table is None or batch else settings.replace(kappa=float(limit)),
        kappa_of_each=per_table is not None and bool(batch),
    )
    far = gap > max(settings.largest_gap, settings.tolerance)
    if solver == "auto" and bool(far.any()):
        raise LargeGapError(too_large_a_gap(gap, far, settings.largest_gap, n, names), result)
    warn_of_gap(gap, converged, settings.tolerance, names)
    return result


def _bar(tables: int, shown: bool) -> tqdm[Any]:
    """Return the bar of a call, which counts tables."""
    return Bar(total=tables, desc="Decomposition", unit="table", delay=_BAR_DELAY, disable=is_hidden(shown))


def build_problem(
    tables: Tensor, kappa: Tensor, options: DecompositionOptions, together: int = 1
) -> tuple[Problem, Tensor]:
    r"""Build the optimisation problem of tables, in units of their ranges.

    Args:
        tables: ``[K, 2^n]`` float64.
        kappa: ``[K, 1]``, the largest deviation.
        options: All others.
        together: The number of tables of a group that share a unit: of as many groups, the first tables come first.

    Returns:
        The problem, and the units ``[K, 1]``: max \|v - v(empty)\| of each table or group, 1 where that is 0.
    """
    n = lattice.n_players(tables)
    distances = tables - tables[:, :1]
    scale = distances.abs().amax(-1).view(together, -1).amax(0).repeat(together).unsqueeze(-1)
    unit = torch.where(scale > 0, scale, torch.ones_like(scale))
    slack = (kappa / unit).clamp(max=_LOOSE).repeat(1, 1 << n)
    if options.pin_ends:
        slack[:, 0] = 0
        slack[:, -1] = 0
    weights = _weights(n, options).to(tables.device)
    return Problem(distances / unit, slack, weights, options.ridge, options.pin_ends), unit


def _weights(n: int, options: DecompositionOptions) -> Tensor:
    """Return the weight of each effect, ``[2, 2^n]``; infinite where there is none."""
    order = lattice.orders(n)
    weights = (1 + options.order_weight * (order.double() - 1)).repeat(2, 1)
    weights[1] *= options.or_weight
    weights[:, 0] = torch.inf  # the constant
    weights[1, order == 1] = torch.inf  # the same function of T as the AND effect
    if options.kind == "and":
        weights[1] = torch.inf
    return weights
