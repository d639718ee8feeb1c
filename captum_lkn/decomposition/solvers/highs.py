"""The decomposition as an explicit linear program for HiGHS: slow, independent, exact.

It shares nothing with the other solvers but the statement of the problem: Z is written out entry by entry.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from captum_lkn.decomposition.solvers.problem import Problem

__all__ = ["MAX_PLAYERS", "program", "solve"]

MAX_PLAYERS = 10


def solve(problem: Problem) -> tuple[Tensor, float, Tensor, int]:
    """The optimum of one table, its ridge left out.

    Args:
        problem: One table, ``values [2^n]``.

    Returns:
        Effects ``[2, 2^n]``, the constant, a dual vector ``[2^n]`` and the number of iterations.

    Raises:
        ImportError: SciPy is not installed.
        RuntimeError: HiGHS reports no optimum.
    """
    try:
        from scipy.optimize import linprog
    except ImportError as error:
        raise ImportError("solver='highs' needs SciPy: pip install 'captum-lkn[highs]'") from error

    found = linprog(**program(problem))
    if found.status != 0:
        raise RuntimeError(f"HiGHS found no optimum: {found.message}")
    ands, ors = _existing(problem)
    x = found.x[: len(ands) + len(ors)] - found.x[len(ands) + len(ors) : 2 * (len(ands) + len(ors))]
    effects = np.zeros((2, len(problem.values)))
    effects[0, ands] = x[: len(ands)]
    effects[1, ors] = x[len(ands) :]
    as_tensor = problem.values.new_tensor
    return as_tensor(effects), float(found.x[-1]), as_tensor(found.eqlin.marginals), int(found.nit)


def program(problem: Problem) -> dict[str, Any]:
    """The arguments of ``scipy.optimize.linprog``.

    The unknowns are the positive parts of the effects, their negative parts, the deviations, and the constant.
    """
    from scipy import sparse

    values, slack = problem.values.cpu().numpy(), problem.slack.cpu().numpy()
    weights = problem.weights.cpu().numpy()
    sets = np.arange(len(values))
    ands, ors = _existing(problem)
    contains = (sets[:, None] & ands) == ands
    meets = (sets[:, None] & ors) != 0
    z = sparse.csc_matrix(np.hstack([contains, meets]).astype(float))
    prices = np.concatenate([weights[0, ands], weights[1, ors]])
    columns = sparse.hstack([z, -z, sparse.identity(len(sets)), np.ones((len(sets), 1))], format="csc")
    parts = [(0.0, None)] * (2 * len(prices))
    constant = (0.0, 0.0) if problem.pinned else (None, None)
    return {
        "c": np.concatenate([prices, prices, np.zeros(len(sets) + 1)]),
        "A_eq": columns,
        "b_eq": values,
        "bounds": [*parts, *zip(-slack, slack, strict=True), constant],
    }


def _existing(problem: Problem) -> tuple[Any, Any]:
    """The sets that have an AND effect, and those that have an OR effect."""
    ands, ors = (np.flatnonzero(np.isfinite(w)) for w in problem.weights.cpu().numpy())
    return ands, ors
