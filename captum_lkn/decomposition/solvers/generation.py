"""Tables with slack and a sparse answer, for many players: the exact method on few effects and rows, more as needed.

The optimum of a table with few interactions needs few of the 2 * 2^n effects, and few of the 2^n rows bind. The problem
is solved exactly with the effects and rows known so far. One transform then prices all effects, another looks at all
rows; the most violated of both join, and the next solve starts from the last solution (column generation of Dantzig and
Wolfe, cutting planes of Kelley). With each row joins the AND effect of its set, so that the small problem is always
feasible. It ends when nothing is violated: the optimum over all effects and rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from captum_lkn.decomposition import lattice
from captum_lkn.decomposition.solvers import interior
from captum_lkn.decomposition.solvers.crossover import Program, cross_over
from captum_lkn.decomposition.solvers.point import Point
from captum_lkn.decomposition.solvers.problem import Lattice, Problem, adjoint, balanced, synthesis

__all__ = ["Generated", "free_solutions", "shapley_dual", "solve"]

_ROWS = 1500  # rows in the first small problem, and how many join at most in a round
_ROUNDS = 20
_STEPS = 150  # of the interior point in a round
_NEAR = 1e-10  # the distance at which the sets are right; at 1e-6 the crossover took hundreds of pivots instead of none
_VIOLATED = 1e-10
_ROUNDING = 1e-10  # of transforms of a table, in units of its range
_MAX_EFFECTS = 1000  # with more effects than this in the small problem the table is dense
_PIVOTS = 1000


@dataclass(frozen=True)
class Generated:
    """Solution of one table.

    Attributes:
        effects: ``[2, 2^n]``.
        constant: The empty effect; 0 where the ends are pinned.
        dual: ``[2^n]``.
        steps: Interior-point steps and pivots of all rounds.
    """

    effects: Tensor
    constant: float
    dual: Tensor
    steps: int


class _Part:
    """Some rows and effects of a matrix Z, written out."""

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix

    def synthesis(self, effects: Tensor) -> Tensor:
        return effects @ self.matrix.T

    def adjoint(self, dual: Tensor) -> Tensor:
        return dual @ self.matrix

    def entries(self, rows: Tensor, effects: Tensor) -> Tensor:
        return self.matrix[rows][:, effects]


def solve(problem: Problem, effects: Tensor, dual: Tensor) -> Generated:
    """Solve one table, if few effects and rows are enough.

    Args:
        problem: One table, ``values [2^n]``.
        effects: ``[2, 2^n]``, a rough approximation.
        dual: ``[2^n]``, a rough approximation.

    Returns:
        The optimum, or the state in which the small problem became too large.
    """
    live = torch.ones_like(problem.slack, dtype=torch.bool)
    live[0] = not problem.pinned
    rows = _first_rows(problem, dual)
    # A feasible dual vector presses few effects to their weight.
    y = dual / _pressed(problem, dual).amax().clamp_min(1)
    x, constant, steps = effects, 0.0, 0
    for _ in range(_ROUNDS):
        at_rows = rows.nonzero().squeeze(-1)
        point, taken = _near_optimum(problem, x, y, at_rows)
        steps += taken
        guessed, guessed_dual = point.guess()
        at_columns = point.columns.positions[0]
        if len(at_columns) > _MAX_EFFECTS:
            return Generated(guessed[0], float(point.constant[0]), _on_rows(guessed_dual[0], at_rows, dual), steps)
        part = Program(
            _Part(Lattice(problem.n).entries(at_rows, at_columns)),
            problem.values[at_rows],
            problem.slack[at_rows],
            problem.weights.flatten()[at_columns],
            problem.ridge,
            not problem.pinned,
            live[at_rows],
        )
        found = cross_over(part, guessed.flatten()[at_columns], float(point.constant[0]), guessed_dual[0], _PIVOTS)
        steps += found.pivots
        x, y, constant = torch.zeros_like(effects), _on_rows(found.dual, at_rows, dual), found.constant
        x.view(-1)[at_columns] = found.effects
        pressed = _pressed(problem, y).masked_fill(x != 0, 0)
        beyond = (problem.values - constant - synthesis(x)).abs() - problem.slack
        beyond[~live] = 0
        violated = beyond > _VIOLATED
        if not found.finished:
            break
        if not bool(violated.any()) and float(pressed.amax()) < 1 + _VIOLATED:
            return Generated(x, constant, y, steps)
        rows |= _largest(beyond, violated)
    return Generated(x, constant, y, steps)


def _on_rows(entries: Tensor, rows: Tensor, like: Tensor) -> Tensor:
    """The entries at some rows of a vector that is 0 elsewhere."""
    everywhere = torch.zeros_like(like)
    everywhere[rows] = entries
    return everywhere


def _pressed(problem: Problem, dual: Tensor) -> Tensor:
    """Return the pressure of the dual vector on each effect as a share of its weight, ``[2, 2^n]``."""
    return (adjoint(balanced(dual)) / problem.weights).abs()


def free_solutions(problem: Problem) -> list[Tensor]:
    """Effects that reproduce every value and cost no search: AND alone, and OR alone; ``[..., 2, 2^n]`` each.

    Args:
        problem: ``values [..., 2^n]``.

    Returns:
        The dividends, and the OR effects with the single players merged, where OR effects exist.
    """
    ands, ors = lattice.and_transform(problem.values), lattice.or_transform(problem.values)
    nothing = torch.zeros_like(ands)
    ors[..., 0] = 0
    found = [torch.stack([ands, nothing], dim=-2)]
    if not problem.ands_only:
        found.append(torch.stack(lattice.merge_first_order(nothing, ors), dim=-2))
    # Rounding is no effect, where the rows do not need it.
    for i, effects in enumerate(found):
        clean = effects.masked_fill(effects.abs() < _ROUNDING, 0)
        if float(problem.excess(clean)[..., 1:].abs().amax()) < _ROUNDING:
            found[i] = clean
    return found


def shapley_dual(problem: Problem, effects: Tensor) -> Tensor:
    r"""A dual vector that certifies additive games: the signed sum of the Shapley values' coefficients, ``[..., 2^n]``.

    The Shapley value of a player is linear in the table. It is 1 / \|S\| for an AND or OR effect of 1 with the player
    in S, so that the sum over signed players presses no effect beyond 1, and each single player to its weight.

    Args:
        problem: ``values [..., 2^n]``.
        effects: ``[..., 2, 2^n]``, whose single players give signs and sizes.

    Returns:
        The vector.
    """
    n, values = problem.n, problem.values
    singles = 1 << torch.arange(n, device=values.device)
    x = effects[..., 0, singles]
    price = problem.weights[..., 0, singles] * x.sign() + problem.ridge * x
    present = price @ lattice.masks(n, device=values.device).to(price).T
    absent = price.sum(-1, keepdim=True) - present
    sizes = range(n + 1)
    with_it = [math.exp(math.lgamma(t) + math.lgamma(n - t + 1) - math.lgamma(n + 1)) if t else 0.0 for t in sizes]
    without = [math.exp(math.lgamma(t + 1) + math.lgamma(n - t) - math.lgamma(n + 1)) if t < n else 0.0 for t in sizes]
    order = lattice.orders(n, device=values.device)
    return present * values.new_tensor(with_it)[order] - absent * values.new_tensor(without)[order]


def _first_rows(problem: Problem, dual: Tensor) -> Tensor:
    """Both ends, the rows that the dual vector names, small and large sets, and some by chance."""
    size, device = len(dual), dual.device
    rows = _largest(dual.abs(), dual != 0)
    order = lattice.orders(problem.n, device=device)
    rows |= (order <= 2) | (order >= problem.n - 1)
    chance = torch.randperm(size, generator=torch.Generator("cpu").manual_seed(0), device="cpu")[:_ROWS]
    rows[chance.to(device)] = True
    return rows


def _near_optimum(problem: Problem, effects: Tensor, dual: Tensor, rows: Tensor) -> tuple[Point, int]:
    """The interior point on some rows, near the optimum; and its steps."""
    one = Problem(problem.values[None], problem.slack[None], problem.weights, problem.ridge, problem.pinned)
    point = Point(one, effects[None], dual[None], exact=False, by_rows=False, sample=rows)
    steps = 0
    while True:
        point.refresh()
        far = float(point.distance())
        if far <= _NEAR or steps >= _STEPS or point.columns.positions.shape[1] > _MAX_EFFECTS:
            return point, steps
        point.admit()
        interior.advance(point)
        steps += 1


def _largest(size: Tensor, chosen: Tensor) -> Tensor:
    """The largest of the chosen entries."""
    joining = torch.zeros_like(chosen)
    joining[size.topk(min(_ROWS, len(size))).indices] = True
    return joining & chosen
