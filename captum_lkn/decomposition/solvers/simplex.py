r"""Linear programs whose rows must all be met: from an approximate optimum to an optimal vertex.

Without slack and ridge the problem is ``min sum_j w_j |x_j|`` under ``Z x = v``. A basis is a set of as many
independent columns of Z as there are rows; the effects on it are the one solution of linear equations, and all others
are 0: a vertex. No sign is forbidden, so that every basis is feasible. The simplex method therefore needs no first
phase, and may start at any basis, best at one of the columns that an approximate optimum uses most. What that optimum
has on other columns is then moved to 0 one by one (the push phase of a crossover, Megiddo 1991). A column that the
dual vector presses beyond its weight enters as far as the cost falls, past effects that change their sign on the way
(Barrodale and Roberts 1973), and the effect that is 0 at the end of the way leaves.

Where an effect of the basis is 0, steps could have no length and go in circles. So the values are perturbed, and the
perturbation is removed at the end: the dual vector of an optimal basis does not depend on the values.
"""

from __future__ import annotations

import torch
from torch import Tensor

from captum_lkn.decomposition.solvers.crossover import Exact
from captum_lkn.decomposition.solvers.equations import Program

__all__ = ["independent_rows", "to_optimal_vertex"]

_PRESSED = 1e-10  # by which share beyond its weight a column may be pressed at the end
_UNSURE = 1e-8  # below this it may be the rounding of an inverse that was updated
_UNUSED = 1e-7  # effects below this share of the largest do not count when the first basis is chosen
_PERTURBATIONS = (1e-6, 1e-8, 0.0)  # of the effects of the basis, relative to the largest
_SMALL = 1e-9  # entries of a direction below this share of its largest are rounding
_ZERO = 1e-10  # effects below this share of the largest are 0 where the rows do not need them
_TIE = 1e-12  # effects that are 0 at the end of a step but for this, relative to the largest
_MET = 1e-11  # by how much a row may be missed, in units of the table's range
_UPDATES = 100  # of the inverse before it is computed anew


def to_optimal_vertex(program: Program, effects: Tensor, max_pivots: int) -> Exact:
    """Solve a linear program from an approximate optimum.

    Args:
        program: The problem, with slack and ridge 0 and without a constant.
        effects: ``[effects]``, roughly optimal; need not be feasible.
        max_pivots: Stop after so many. What was reached then meets all rows, and the dual vector says how good it is.

    Returns:
        Effects and dual vector of a vertex, which is optimal if ``finished``.
    """
    basis = _Basis(program, effects)
    if not basis.push(max_pivots):
        return basis.result(False)
    finished = False
    for perturbation in _PERTURBATIONS:
        basis.perturb(perturbation)
        within = basis.minimise(max_pivots)
        basis.perturb(0.0)
        finished = within and basis.entering() is None
        if finished or not within:
            break
    return basis.result(finished)


def independent_rows(matrix: Tensor) -> Tensor:
    """Return the indices of as many independent rows as there are columns, those with large entries first.

    Args:
        matrix: ``[rows, columns]``, with independent columns.

    Returns:
        The rows that partial pivoting chooses.
    """
    _, pivots, _ = torch.linalg.lu_factor_ex(matrix)
    chosen = list(range(len(matrix)))
    for i, pivot in enumerate(pivots.tolist()):
        chosen[i], chosen[pivot - 1] = chosen[pivot - 1], chosen[i]
    return torch.tensor(chosen[: matrix.shape[1]], dtype=torch.int64, device=matrix.device)


class _Basis:
    """A basis with the inverse of its columns, its effects with their signs, and the dual vector that they lead to.

    Positions are those of the flattened effects. ``sign`` is that of an effect, and where the effect is 0 the side of
    0 from which its cost is counted.
    """

    def __init__(self, program: Program, effects: Tensor) -> None:
        self.program = program
        self.rows = program.live.nonzero().squeeze(-1)
        self.exists = torch.isfinite(program.weights)
        self.weights = torch.where(self.exists, program.weights, torch.ones_like(program.weights))
        start = torch.where(self.exists, effects, torch.zeros_like(effects))
        start = start.masked_fill(start.abs() < _UNUSED * start.abs().amax(), 0)
        self.columns = self._first_columns(start)
        self.others = start.clone()  # effects that are not of the basis
        self.others[self.columns] = 0
        self.values = program.values
        self.pivots = 0
        self.noise = torch.Generator(device=effects.device).manual_seed(0)
        self.sign = torch.ones_like(self.columns, dtype=effects.dtype)
        self.factor()

    def _first_columns(self, start: Tensor) -> Tensor:
        """Return independent columns, those with large effects first.

        Partial pivoting of the scaled columns chooses them. The AND columns of all sets are a basis by themselves, so
        that with them there are always enough.
        """
        candidates = start != 0
        candidates[self.rows] = True
        candidates &= self.exists
        positions = candidates.nonzero().squeeze(-1)
        scale = start[positions].abs() / start.abs().amax().clamp_min(1e-300)
        scaled = self.program.design.entries(self.rows, positions).T * (scale + _UNUSED).unsqueeze(1)
        return positions[independent_rows(scaled)]

    def factor(self) -> None:
        """Compute the inverse of the basis, its effects and the dual vector anew, to rounding."""
        self.inverse = torch.linalg.inv_ex(self.program.design.entries(self.rows, self.columns))[0]
        self.updates = 0
        self.x = torch.zeros_like(self.sign)
        for _ in range(3):
            missed = self.values - self.program.design.synthesis(self._spread())
            self.x = self.x + self.inverse @ missed[self.rows]
        self._price()

    def _spread(self) -> Tensor:
        everywhere = self.others.clone()
        everywhere[self.columns] = self.x
        return everywhere

    def _price(self) -> None:
        """Compute signs and dual vector; an effect that is 0 keeps its sign."""
        zero = self.x.abs() <= _TIE * self.x.abs().amax()
        self.sign = torch.where(zero, self.sign, self.x.sign())
        cost = self.weights[self.columns] * self.sign
        self.y = torch.zeros_like(self.values)
        self.sums = torch.zeros_like(self.weights)
        for _ in range(2 if not self.updates else 1):
            self.y[self.rows] += (cost - self.sums[self.columns]) @ self.inverse
            self.sums = self.program.design.adjoint(self.y)

    def perturb(self, size: float) -> None:
        """Move the values so that no effect of the basis is 0; by a size of 0, back to the problem's."""
        self.values = self.program.values
        self.factor()
        if size:
            random = torch.rand(self.x.shape, generator=self.noise, dtype=self.x.dtype, device=self.x.device)
            self.x += size * self.x.abs().amax() * self.sign * (0.5 + random)
            self.values = self.program.design.synthesis(self._spread())

    def push(self, max_pivots: int) -> bool:
        """Move the effects that are not of the basis to 0, or into it in place of another; False if some are left."""
        for column in self.others.nonzero().squeeze(-1).tolist():
            if self.pivots >= max_pivots:
                return False
            own = float(self.others[column])
            towards = 1.0 if own > 0 else -1.0
            # By how much the cost falls as the effect shrinks; an optimal one may as well shrink.
            falls = float(self.weights[column] - towards * self.sums[column])
            self._step(column, -towards if falls >= -_UNSURE else towards, abs(falls), own)
        return True

    def entering(self) -> int | None:
        """Return the column that is pressed most beyond its weight."""
        pressed = self.sums.abs() / self.weights
        pressed[~self.exists] = 0
        pressed[self.columns] = 0
        most = int(pressed.argmax())
        return most if float(pressed[most]) > 1 + _PRESSED else None

    def minimise(self, max_pivots: int) -> bool:
        """Pivot until no column is pressed beyond its weight; return whether that was reached."""
        while self.pivots < max_pivots:
            column = self.entering()
            if column is None:
                return True
            pressed = float(self.sums[column])
            if self.updates and abs(pressed) < self.weights[column] * (1 + _UNSURE):
                self.factor()
                continue
            self._step(column, 1.0 if pressed > 0 else -1.0, abs(pressed) - float(self.weights[column]), 0.0)
        return self.entering() is None

    def _step(self, column: int, direction: float, falls: float, own: float) -> None:
        """Move an effect that is not of the basis as far as the cost falls.

        Args:
            column: Its position.
            direction: 1 or -1.
            falls: By how much the cost falls for each unit at first.
            own: Its present size.
        """
        self.pivots += 1
        position = self.columns.new_tensor([column])
        rates = self.inverse @ self.program.design.entries(self.rows, position).squeeze(-1)
        moves = -direction * rates  # of the effects of the basis
        towards = (moves * self.sign < 0) & (rates.abs() > _SMALL * rates.abs().amax())
        # Until each reaches 0, and by how much the cost then rises more for each unit.
        lengths = torch.where(towards, (-self.x / moves).clamp_min(0), torch.inf)
        rises = 2 * self.weights[self.columns] * rates.abs()
        lengths = torch.cat([lengths, lengths.new_tensor([abs(own) if own * direction < 0 else torch.inf])])
        rises = torch.cat([rises, 2 * self.weights[position]])
        order = lengths.argsort()
        slopes = rises[order].cumsum(0) - falls
        last = int(order[int((slopes >= -_PRESSED).to(torch.uint8).argmax())])
        length = float(lengths[last])
        self.sign = torch.where(lengths[:-1] < length, -self.sign, self.sign)
        self.x = self.x + length * moves
        self.others[column] = 0.0
        if last < len(self.x):
            # Of effects that reach 0 together the one that moves most leaves: dividing by it is safest.
            tie = towards & (self.x.abs() <= _TIE * self.x.abs().amax())
            tie[last] = True
            leaving = int(torch.where(tie, rates.abs(), -1.0).argmax())
            self.x[leaving], self.sign[leaving] = own + direction * length, direction
            self._exchange(leaving, column, rates)
        if self.updates >= _UPDATES:
            self.factor()
        else:
            self._price()

    def _exchange(self, leaving: int, column: int, rates: Tensor) -> None:
        row = self.inverse[leaving] / rates[leaving]
        change = rates.clone()
        change[leaving] -= 1
        self.inverse.addr_(change, row, alpha=-1)
        self.columns[leaving] = column
        self.updates += 1

    def result(self, finished: bool) -> Exact:
        """Return the vertex, without effects that are rounding."""
        everywhere = self._spread()
        clean = everywhere.masked_fill(everywhere.abs() < _ZERO * everywhere.abs().amax(), 0)
        missed = self.program.values - self.program.design.synthesis(clean)
        met = bool((missed[self.rows].abs() < _MET).all())
        return Exact(clean if met else everywhere, 0.0, self.y, self.pivots, finished)
