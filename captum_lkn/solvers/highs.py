"""The decomposition as an explicit linear program for HiGHS: slow, independent, exact.

It shares nothing with the other solvers but the statement of the problem: Z is written out entry by entry.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from captum_lkn.solvers.problem import Problem

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
        from scipy import sparse
        from scipy.optimize import linprog
    except ImportError as error:
        raise ImportError("solver='highs' needs SciPy: pip install 'captum-lkn[highs]'") from error

    values, slack = problem.values.cpu().numpy(), problem.slack.cpu().numpy()
    weights = problem.weights.cpu().numpy()
    sets = np.arange(len(values))
    ands, ors = (np.flatnonzero(np.isfinite(w)) for w in weights)
    contains = (sets[:, None] & ands) == ands
    meets = (sets[:, None] & ors) != 0
    z = sparse.csc_matrix(np.hstack([contains, meets]).astype(float))
    prices = np.concatenate([weights[0, ands], weights[1, ors]])
    # Unknowns: positive parts, negative parts, deviations, the constant.
    columns = sparse.hstack([z, -z, sparse.identity(len(sets)), np.ones((len(sets), 1))], format="csc")
    cost = np.concatenate([prices, prices, np.zeros(len(sets) + 1)])
    parts = [(0.0, None)] * (2 * len(prices))
    constant = (0.0, 0.0) if problem.pinned else (None, None)
    bounds = [*parts, *zip(-slack, slack, strict=True), constant]
    found = linprog(cost, A_eq=columns, b_eq=values, bounds=bounds)
    if found.status != 0:
        raise RuntimeError(f"HiGHS found no optimum: {found.message}")
    x = found.x[: len(prices)] - found.x[len(prices) : 2 * len(prices)]
    effects = np.zeros((2, len(sets)))
    effects[0, ands] = x[: len(ands)]
    effects[1, ors] = x[len(ands) :]
    as_tensor = problem.values.new_tensor
    return as_tensor(effects), float(found.x[-1]), as_tensor(found.eqlin.marginals), int(found.nit)
