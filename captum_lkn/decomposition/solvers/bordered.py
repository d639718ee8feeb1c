"""Equations on sets of effects and rows that differ a little from those that are factored.

With many rows a factorisation takes far longer than solutions with it (4,096 rows: 0.9 s, and 8 ms). Each effect or
row that has come or gone borders the factored equations by one unknown.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from captum_lkn.decomposition.solvers.problem import adjoint, synthesis

__all__ = ["Factored"]


class Factored:
    """The matrix Z Z' of one table on some rows and effects, factored, for equations ``Z Z' y = r`` on similar sets."""

    def __init__(self, root: Tensor, rows: Tensor, support: Tensor, pinned: bool) -> None:
        """Take the factor.

        Args:
            root: ``[m, m]``, the lower Cholesky factor; m is the number of rows, or that of all sets, of which those
                without a row have one of the identity.
            rows: bool ``[2^n]``.
            support: bool ``[2 * 2^n]``.
            pinned: False: 1 is added to every entry of the matrix.
        """
        self._root, self._rows, self._support = root, rows, support
        self._at = torch.arange(len(rows), device=rows.device) if len(root) == len(rows) else _positions(rows)
        self._shift = 0.0 if pinned else 1.0

    def changes(self, rows: Tensor, support: Tensor) -> int:
        """Return by how many rows and effects other sets differ from those that are factored."""
        return int((rows != self._rows).sum() + (support != self._support).sum())

    def on(self, rows: Tensor, support: Tensor) -> Callable[[Tensor], Tensor]:
        """Return a function that solves the equations on other sets.

        Args:
            rows: bool ``[2^n]``.
            support: bool ``[2 * 2^n]``.

        Returns:
            A function from a right-hand side ``[2^n]``, 0 outside the rows, to the solution, ``[2^n]``.
        """
        toggled, new, gone = (
            _positions(support != self._support),
            _positions(rows & ~self._rows),
            _positions(self._rows & ~rows),
        )
        of_effects = synthesis(_units(toggled, len(support)).view(len(toggled), 2, len(rows)))
        seen = adjoint(_units(new, len(rows))).flatten(1) * self._support
        of_rows = synthesis(seen.view(len(new), 2, len(rows))) + self._shift
        border = torch.cat([of_effects, of_rows, _units(gone, len(rows))])
        effects, others = slice(0, len(toggled)), slice(len(toggled), len(toggled) + len(new))
        corner = border.new_zeros(len(border), len(border))
        # The unknown of an effect that comes is what the dual vector presses it with, and minus that of one that goes.
        corner[effects, effects] = torch.diag(torch.where(self._support[toggled], 1.0, -1.0).to(border))
        corner[effects, others] = of_effects[:, new]
        corner[others, effects] = of_effects[:, new].T
        corner[others, others] = of_rows[:, new]
        border = border * self._rows
        solved = self._solve(border)
        schur = torch.linalg.lu_factor_ex(corner - border @ solved.T)

        def solve(right: Tensor) -> Tensor:
            own = right.new_zeros(len(border))
            own[others] = right[new]
            y = self._solve((right * self._rows).unsqueeze(0)).squeeze(0)
            extra = torch.linalg.lu_solve(schur.LU, schur.pivots, (own - border @ y).unsqueeze(1)).squeeze(1)
            result: Tensor = (y - extra @ solved) * rows
            result[new] = extra[others]
            return result

        return solve

    def _solve(self, right: Tensor) -> Tensor:
        """The solutions of the factored equations ``[k, 2^n]``, for ``right [k, 2^n]``, 0 outside their rows."""
        half = torch.linalg.solve_triangular(self._root, right[:, self._at].T, upper=False)
        y: Tensor = torch.linalg.solve_triangular(self._root.T, half, upper=True)
        return torch.zeros_like(right).index_copy_(1, self._at, y.T.contiguous())


def _positions(chosen: Tensor) -> Tensor:
    return chosen.nonzero().squeeze(-1)


def _units(positions: Tensor, size: int) -> Tensor:
    """Unit vectors ``[k, size]``."""
    result = torch.zeros(len(positions), size, dtype=torch.float64, device=positions.device)
    return result.scatter_(1, positions.unsqueeze(1), 1.0)
