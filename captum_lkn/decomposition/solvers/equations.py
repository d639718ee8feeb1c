"""The linear equations of the crossover: factored once, bordered as effects and rows enter and leave."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from captum_lkn.decomposition.solvers.newton import WRITTEN_OUT_MAX_ROWS, chosen_rows_gram
from captum_lkn.decomposition.solvers.problem import Lattice

__all__ = ["CONSTANT_PROXIMAL", "Design", "Equations", "Program"]

CONSTANT_PROXIMAL = 1e-6  # the proximal weight of the constant
_BORDERS = 40  # so many changes of the sets border a factor before the equations are factored again


class Design(Protocol):
    """The matrix Z, rows by effects, as an operator."""

    def synthesis(self, effects: Tensor) -> Tensor:
        """``Z x`` for ``x [..., effects]``: ``[..., rows]``."""
        ...

    def adjoint(self, dual: Tensor) -> Tensor:
        """``Z' y`` for ``y [..., rows]``: ``[..., effects]``."""
        ...

    def entries(self, rows: Tensor, effects: Tensor) -> Tensor:
        """The entries of Z at the given rows and effects, ``[len(rows), len(effects)]`` float64."""
        ...


@dataclass(frozen=True)
class Program:
    """One table's problem with its effects in one dimension.

    Attributes:
        design: The matrix Z.
        values: ``[rows]``.
        slack: ``[rows]``; 0 where a row must be met exactly.
        weights: ``[effects]``; infinite where an effect does not exist.
        ridge: The factor of the squares.
        has_constant: Whether a constant without a price is added to every row.
        live: bool ``[rows]``, False for a row that does not count.
    """

    design: Design
    values: Tensor
    slack: Tensor
    weights: Tensor
    ridge: float
    has_constant: bool
    live: Tensor


class _Path(Protocol):
    """The state of the crossover that the equations read; see ``crossover``."""

    program: Program
    sign: Tensor
    side: Tensor
    equal: Tensor
    x: Tensor
    y: Tensor
    centre_x: Tensor
    centre_y: Tensor
    centre_constant: Tensor
    balance: Tensor
    weights: tuple[Tensor, Tensor]
    slack: tuple[Tensor, Tensor]
    values: tuple[Tensor, Tensor]
    proximal: float
    curvature: float
    row_proximal: float


class Equations:
    """The optimality conditions on given sets, factored once and bordered as the sets change.

    With S the support, A the active rows, c the curvature (ridge and proximal term) and d the proximal weight of the
    rows, the effects are ``x_S = (Z_AS' y_A - b_S) / c``, so that the rows need ``(Z_AS Z_AS' / c + d) y_A = r``. That
    matrix is factored. An effect or a row that enters or leaves adds one unknown at the border, with a column of its
    own; the Schur complement of the border is small and is solved anew each time. The unknowns are deviations from
    the centre, which are small, so that the proximal weight does not magnify rounding. All right-hand sides are
    ``[2, ...]``: at the start of the line, and their slope along it.
    """

    def __init__(self, path: _Path) -> None:
        self.path = path
        self.factor()

    def factor(self) -> None:
        """Factor the equations on the path's present sets."""
        path = self.path
        self.matrix = self.root = path.x.new_zeros(0, 0)  # the old ones make room
        self.rows = ((path.side != 0) | path.equal).nonzero().squeeze(-1)
        self.effects = (path.sign != 0).nonzero().squeeze(-1)
        # The signs and sides that the factored equations hold.
        self.base_sign, self.base_side = path.sign.clone(), path.side.clone()
        self.matrix = z = path.program.design.entries(self.rows, self.effects)
        self.by_rows = len(self.rows) <= len(self.effects)
        gram = self._rows_gram() if self.by_rows else z.T @ z
        gram.diagonal().add_(path.row_proximal * path.curvature)
        self.root, failed = torch.linalg.cholesky_ex(gram)
        shift = 1e-15 * float(gram.diagonal().amax()) if len(gram) else 0.0
        while int(failed):  # the proximal term makes the matrix regular, but rounding may undo that
            gram.diagonal().add_(shift)
            self.root, failed = torch.linalg.cholesky_ex(gram)
            shift *= 10
        self.rebase()

    def _rows_gram(self) -> Tensor:
        """Z Z' on the factored sets, at least its lower triangle."""
        design = self.path.program.design
        if not isinstance(design, Lattice) or len(self.rows) <= WRITTEN_OUT_MAX_ROWS:
            return self.matrix @ self.matrix.T
        chosen = self.matrix.new_zeros(2 << design.n).index_fill_(0, self.effects, 1.0)
        return chosen_rows_gram(chosen.view(1, 2, -1), self.rows.unsqueeze(0)).squeeze(0)

    def rebase(self) -> None:
        """Solve the factored equations for the path's present data, on the sets that were factored."""
        path, z = self.path, self.matrix
        self.offset = self._offset(self.effects)
        centre = path.centre_y[self.rows]
        target = self._target(self.rows) + self.offset @ z.T / path.curvature
        target[0] -= z @ (z.T @ centre) / path.curvature + path.row_proximal * centre + path.centre_constant
        self.base = self.solve(target.T)
        self.border: list[tuple[str, int]] = []
        self.columns, self.solved = z.new_zeros(len(self.rows), 0), z.new_zeros(len(self.rows), 0)
        self.corner, self.right = z.new_zeros(0, 0), z.new_zeros(0, 2)
        if path.program.has_constant:
            balance = torch.stack([path.balance, -path.balance])
            self._append("constant", 0, z.new_ones(len(self.rows)), -CONSTANT_PROXIMAL, balance)

    @property
    def current(self) -> bool:
        """True where the factored sets are the path's."""
        path = self.path
        return bool((self.base_sign == path.sign).all() & (self.base_side == path.side).all())

    def _offset(self, effects: Tensor) -> Tensor:
        """B of the given effects, ``[2, k]``."""
        path = self.path
        offset = path.sign[effects] * torch.stack([weights[effects] for weights in path.weights])
        offset[0] -= path.proximal * path.centre_x[effects]
        return offset

    def _target(self, rows: Tensor) -> Tensor:
        """R of the given rows without what the effects contribute, ``[2, k]``."""
        path = self.path
        at_slack = path.side[rows] * torch.stack([slack[rows] for slack in path.slack])
        target = torch.stack([values[rows] for values in path.values]) - at_slack
        target[0] += path.row_proximal * path.centre_y[rows]
        return target

    def solve(self, right: Tensor) -> Tensor:
        """The solution ``[rows, k]`` of the factored equations for ``right [rows, k]``, refined once."""
        c, d, z = self.path.curvature, self.path.row_proximal, self.matrix
        solution = self._solve_once(right)
        return solution + self._solve_once(right - z @ (z.T @ solution) / c - d * solution)

    def _solve_once(self, right: Tensor) -> Tensor:
        c, d, z = self.path.curvature, self.path.row_proximal, self.matrix
        if self.by_rows:  # the factor is that of c times the matrix
            return c * torch.cholesky_solve(right, self.root)
        return (right - z @ torch.cholesky_solve(z.T @ right, self.root)) / d

    def toggle_effect(self, position: int) -> None:
        """An effect has entered or left the support."""
        path = self.path
        sign = float(path.sign[position])
        known = ("in", position), ("out", position)
        if sign == 0:
            if not self._remove(known[0]):
                self._append_effect(known[1], path.curvature, self.base_sign[position])
        elif float(self.base_sign[position]) != sign or not self._remove(known[1]):
            self._append_effect(known[0], -path.curvature, path.sign[position])

    def _append_effect(self, key: tuple[str, int], corner: float, sign: Tensor) -> None:
        path = self.path
        one = torch.tensor([key[1]], device=self.matrix.device)
        column = path.program.design.entries(self.rows, one).squeeze(-1)
        right = sign * torch.stack([weights[key[1]] for weights in path.weights])
        right[0] -= path.proximal * path.centre_x[key[1]]
        self._append(*key, column, corner, right)

    def toggle_row(self, row: int) -> None:
        """A row has entered or left the active ones."""
        path = self.path
        side = float(path.side[row])
        if side == 0:
            if not self._remove(("active", row)):
                column = (self.rows == row).to(self.matrix.dtype)
                self._append("idle", row, column, 0.0, self.right.new_zeros(2))
        elif float(self.base_side[row]) != side or not self._remove(("idle", row)):
            one = torch.tensor([row], device=self.matrix.device)
            entries = path.program.design.entries(one, self.effects).squeeze(0)
            corner = float(entries @ entries) / path.curvature + path.row_proximal
            right = self._target(one).squeeze(-1) + self.offset @ entries / path.curvature
            right[0] -= path.centre_constant
            self._append("active", row, self.matrix @ entries / path.curvature, corner, right)

    def _remove(self, key: tuple[str, int]) -> bool:
        if key not in self.border:
            return False
        index = self.border.index(key)
        keep = [i for i in range(len(self.border)) if i != index]
        del self.border[index]
        self.columns, self.solved, self.right = self.columns[:, keep], self.solved[:, keep], self.right[keep]
        self.corner = self.corner[keep][:, keep]
        return True

    def _append(self, kind: str, index: int, column: Tensor, corner: float, right: Tensor) -> None:
        if len(self.border) >= _BORDERS:
            self.factor()
            return
        path = self.path
        right = right.clone()
        right[0] -= column @ path.centre_y[self.rows]
        coupling = self._coupling(kind, index)
        solved = self.solve(column.unsqueeze(-1))
        row = coupling - self.columns.T @ solved.squeeze(-1)
        own = corner - float(column @ solved.squeeze(-1))
        size = len(self.border)
        schur = self.corner.new_empty(size + 1, size + 1)
        schur[:size, :size], schur[size, :size], schur[:size, size], schur[size, size] = self.corner, row, row, own
        self.corner = schur
        self.border.append((kind, index))
        self.columns = torch.cat([self.columns, column.unsqueeze(-1)], dim=1)
        self.solved = torch.cat([self.solved, solved], dim=1)
        self.right = torch.cat([self.right, right.unsqueeze(0)])

    def _coupling(self, kind: str, index: int) -> Tensor:
        """The entries between a new unknown of the border and those that are there."""
        result = self.matrix.new_zeros(len(self.border))
        device, path = self.matrix.device, self.path
        others = [i for kind_, i in self.border if kind_ in ("in", "out")]
        where = [n for n, (kind_, _) in enumerate(self.border) if kind_ in ("in", "out")]
        rows = [i for kind_, i in self.border if kind_ == "active"]
        where_rows = [n for n, (kind_, _) in enumerate(self.border) if kind_ == "active"]
        one = torch.tensor([index], device=device)
        design = path.program.design
        if kind == "active":
            if others:
                result[where] = design.entries(one, torch.tensor(others, device=device)).squeeze(0)
            if rows:
                mine = design.entries(one, self.effects).squeeze(0)
                theirs = design.entries(torch.tensor(rows, device=device), self.effects)
                result[where_rows] = theirs @ mine / path.curvature
            for n, (kind_, _) in enumerate(self.border):
                if kind_ == "constant":
                    result[n] = 1
        elif kind in ("in", "out") and rows:
            result[where_rows] = design.entries(torch.tensor(rows, device=device), one).squeeze(-1)
        return result

    def solution(self) -> tuple[Tensor, Tensor, Tensor]:
        """Dual vector ``[2, rows]``, effects ``[2, effects]`` and constant ``[2]`` on the present sets."""
        path, program = self.path, self.path.program
        deviation = self.base
        constant = self.right.new_zeros(2)
        y = path.y.new_zeros(2, len(path.y))
        if self.border:
            extra, singular = torch.linalg.solve_ex(self.corner, self.right - self.columns.T @ self.base)
            if int(singular):
                extra = torch.full_like(extra, torch.nan)  # the path ends here
            deviation = self.base - self.solved @ extra
        y[:, self.rows] = deviation.T
        y[0, self.rows] += path.centre_y[self.rows]
        for n, (kind, index) in enumerate(self.border):
            if kind == "idle":
                y[:, index] = 0
            elif kind == "constant":
                constant = extra[n].clone()
        for n, (kind, index) in enumerate(self.border):
            if kind == "active":
                y[:, index] = extra[n]
        constant[0] += path.centre_constant
        support = (path.sign != 0).nonzero().squeeze(-1)
        x = path.x.new_zeros(2, len(path.x))
        x[:, support] = (program.design.adjoint(y)[:, support] - self._offset(support)) / path.curvature
        return y, x, constant
