"""Joint extraction of several layers (Chen et al., ICLR 2024, Eq. 6) as an explicit linear program, for few players.

    min  sum_S w_S (max_i |I^i(S)| + alpha (sum_i |I^i(S)| - max_i |I^i(S)|)),   each table within its kappa

An effect that several layers have costs little more than in one, so that layers agree where they can. alpha = 1 is
independent extraction. The library's solvers do not have this sum; HiGHS takes a second for 6 players and 7 layers.
"""

from __future__ import annotations

import torch
from torch import Tensor

from captum_lkn import DecompositionOptions
from captum_lkn.decomposition import lattice
from captum_lkn.decomposition.effects import Effects

__all__ = ["extract_jointly", "sub_table"]


def sub_table(values: Tensor, players: int) -> Tensor:
    """Return the table of the first players, the others present."""
    return values[-(1 << players) :] if len(values) > 1 << players else values


def extract_jointly(tables: Tensor, units: Tensor, alpha: float, options: DecompositionOptions) -> list[Effects]:
    """Extract the effects of all tables at once, with the default order and OR weights and without the ridge.

    Args:
        tables: ``[K, 2^n]`` float64.
        units: ``[K]``, which makes the tables comparable.
        alpha: The price of an effect in each further table.
        options: Of the decomposition: kappa, weights, and pinned ends.

    Returns:
        The effects of each table, in units of the score.
    """
    import numpy as np
    from scipy import sparse
    from scipy.optimize import linprog

    count, size = tables.shape
    n = size.bit_length() - 1
    subsets = torch.arange(size)
    own, others = subsets[1:], subsets[(lattice.orders(n) >= 2)]
    ands = ((subsets[:, None] & own) == own).double().numpy()
    ors = ((subsets[:, None] & others) != 0).double().numpy()
    design = np.hstack([ands, ors])  # of [2^n, E] effects
    order = torch.cat([lattice.orders(n)[own], lattice.orders(n)[others]]).double()
    weight = 1 + options.order_weight * (order - 1)
    weight[len(own) :] *= options.or_weight
    effects = len(weight)
    scaled = ((tables - tables[:, :1]) / units[:, None]).numpy()
    kappa = options.noise * np.abs(scaled[:, -1])
    slack = np.repeat(kappa[:, None], size, 1)
    slack[:, [0, -1]] = 0 if options.pin_ends else slack[:, [0, -1]]
    signed = np.hstack([design, -design])
    fit = sparse.block_diag([sparse.csr_matrix(signed)] * count)
    fit = sparse.hstack([fit, sparse.csr_matrix((count * size, effects))])
    each = sparse.hstack([sparse.identity(effects)] * 2)
    caps = sparse.hstack([sparse.block_diag([each] * count), sparse.vstack([-sparse.identity(effects)] * count)])
    cost = np.concatenate([np.tile(alpha * weight.numpy(), 2 * count), (1 - alpha) * weight.numpy()])
    above, below = (scaled + slack).ravel(), (slack - scaled).ravel()
    found = linprog(
        cost,
        A_ub=sparse.vstack([fit, -fit, caps]).tocsr(),
        b_ub=np.concatenate([above, below, np.zeros(count * effects)]),
        method="highs",
    )
    parts = torch.from_numpy(found.x[: 2 * effects * count]).reshape(count, 2, effects)
    values = (parts[:, 0] - parts[:, 1]) * units[:, None]
    result = []
    for table, one in zip(tables, values, strict=True):
        dense = torch.zeros(2, size, dtype=torch.float64)
        dense[0, own], dense[1, others] = one[: len(own)], one[len(own) :]
        dense[0, 0] = table[0]
        result.append(Effects.from_tables(dense[0], dense[1]))
    return result
