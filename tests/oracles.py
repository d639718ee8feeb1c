"""Brute force, straight from the definitions: plain Python over subsets, sharing no code with the package.

A table is a list of 2^n floats; bit i of an index = player i is present. The optimisation problems of the sparse
decomposition are written out entry by entry for SciPy's general solvers.
"""

from itertools import permutations
from math import factorial

import numpy as np
from scipy.optimize import linprog


def subsets(of):
    """All subsets of a set, itself and the empty one included."""
    return [s for s in range(of + 1) if s & ~of == 0]


def size(s):
    return bin(s).count("1")


def n_of(table):
    n = size(len(table) - 1)
    assert len(table) == 2**n
    return n


def and_effects(v):
    """Eq. 1: sum over T in S of (-1)^(|S| - |T|) v(T)."""
    return [sum((-1) ** (size(s) - size(t)) * v[t] for t in subsets(s)) for s in range(len(v))]


def or_effects(v):
    """Eq. 2: minus the sum over T in S of (-1)^(|S| - |T|) v(N \\ T), S nonempty; 0 for the empty set."""
    everyone = len(v) - 1
    effects = [-sum((-1) ** (size(s) - size(t)) * v[everyone & ~t] for t in subsets(s)) for s in range(len(v))]
    return [0.0, *effects[1:]]


def and_or_effects(v, gamma):
    """Effects of the split v/2 + gamma, v/2 - gamma; first order and the empty set merged into AND."""
    ands = and_effects([x / 2 + g for x, g in zip(v, gamma, strict=True)])
    ors = or_effects([x / 2 - g for x, g in zip(v, gamma, strict=True)])
    ands[0] = v[0]
    for s in range(len(v)):
        if size(s) == 1:
            ands[s], ors[s] = ands[s] + ors[s], 0.0
    return ands, ors


def reconstruct(ands, ors, t):
    """Eq. 3 at T: the AND effects of the sets inside T, and the OR effects of the sets that meet it."""
    return sum(ands[s] for s in range(len(ands)) if s & ~t == 0) + sum(ors[s] for s in range(len(ors)) if s & t)


def shapley_values(v):
    """The mean over all orders of arrival of what a player adds when it comes."""
    n = n_of(v)
    total = [0.0] * n
    for arrival in permutations(range(n)):
        present = 0
        for i in arrival:
            total[i] += v[present | 1 << i] - v[present]
            present |= 1 << i
    return [x / factorial(n) for x in total]


def banzhaf_values(v):
    """The mean over all sets of the others of what a player adds."""
    n = n_of(v)
    return [sum(v[t | 1 << i] - v[t] for t in range(len(v)) if not t >> i & 1) / 2 ** (n - 1) for i in range(n)]


def discrete_derivative(v, s, t):
    """The derivative with respect to the players S at T, which has none of them."""
    return sum((-1) ** (size(s) - size(part)) * v[t | part] for part in subsets(s))


def shapley_interaction_index(v, s):
    """The index of one nonempty set: its derivatives at all sets of the others, in Shapley's weights."""
    n, k = n_of(v), size(s)
    return sum(
        factorial(n - size(t) - k) * factorial(size(t)) / factorial(n - k + 1) * discrete_derivative(v, s, t)
        for t in subsets(len(v) - 1 & ~s)
    )


def or_inverse(o):
    """The table of OR effects, their entry 0 the constant: o[0] plus the effects of the sets that meet each T."""
    return [o[0] + sum(o[s] for s in range(1, len(o)) if s & t) for t in range(len(o))]


def superset_sums(v):
    """The sum over the supersets of each set."""
    return [sum(v[t] for t in range(len(v)) if s & ~t == 0) for s in range(len(v))]


def effects_of(n, kind="and-or"):
    """The effects that exist, as (set, is OR): AND of all nonempty sets, OR of those of two players and more."""
    nonempty = range(1, 2**n)
    return [(s, False) for s in nonempty] + [(s, True) for s in nonempty if size(s) > 1 and kind == "and-or"]


def synthesis_matrix(n, effects):
    """Z as rows of floats: entry (T, (S, is OR)) is 1 where the effect of S reaches T."""
    return [[float(s & t != 0) if is_or else float(s & ~t == 0) for s, is_or in effects] for t in range(2**n)]


def slack_of(v, kappa, pin_ends):
    """Return the largest miss that each value may have."""
    last = len(v) - 1
    return [0.0 if pin_ends and t in (0, last) else kappa for t in range(len(v))]


def sparse_optimum(v, kappa, pin_ends=True, order_weight=0.0, kind="and-or", or_weight=1.0):
    """The minimum of the weighted sum of absolute effects that reproduce v within kappa, as a linear program.

    Returns the minimum and the two vectors of effects, the constant in front of the AND effects.
    """
    n = n_of(v)
    effects = effects_of(n, kind)
    z = np.array(synthesis_matrix(n, effects))
    prices = [(or_weight if is_or else 1) * (1 + order_weight * (size(s) - 1)) for s, is_or in effects]
    # v - slack <= constant + Z (plus - minus) <= v + slack
    constant = np.ones((2**n, 1))
    reach = np.hstack([z, -z, constant])
    slack = np.array(slack_of(v, kappa, pin_ends))
    tight, loose = slack == 0, slack > 0
    found = linprog(
        [*prices, *prices, 0.0],
        A_eq=reach[tight] if tight.any() else None,
        b_eq=np.array(v)[tight] if tight.any() else None,
        A_ub=np.vstack([reach[loose], -reach[loose]]) if loose.any() else None,
        b_ub=np.concatenate([(v + slack)[loose], (slack - v)[loose]]) if loose.any() else None,
        bounds=[(0, None)] * (2 * len(effects)) + [(None, None)],
        method="highs",
    )
    assert found.status == 0, found.message
    x = found.x[: len(effects)] - found.x[len(effects) : -1]
    ands, ors = [0.0] * 2**n, [0.0] * 2**n
    ands[0] = found.x[-1]
    for (s, is_or), amount in zip(effects, x, strict=True):
        (ors if is_or else ands)[s] = amount
    return found.fun, ands, ors


def optimality_violation(
    v, ands, ors, kappa, ridge, pin_ends=True, order_weight=0.0, kind="and-or", or_weight=1.0, zero=1e-9
):
    """Return the distance of effects from the conditions of Karush, Kuhn and Tucker; 0 means that they are the minimum.

    The minimised sum is that of the absolute effects, weighted by order and kind, and of ridge / 2 times their
    squares over the range max |v - v(empty)|. The conditions ask for a multiplier of every value, positive only
    where the reconstruction is too low by all that is allowed, negative only where it is too high; a linear
    program finds the multipliers that violate the equations of the effects least. No solver's numbers are used but the
    effects themselves.
    """
    n = n_of(v)
    effects = effects_of(n, kind)
    z = np.array(synthesis_matrix(n, effects))
    prices = np.array([(or_weight if is_or else 1) * (1 + order_weight * (size(s) - 1)) for s, is_or in effects])
    x = np.array([(ors if is_or else ands)[s] for s, is_or in effects])
    values, slack = np.array(v), np.array(slack_of(v, kappa, pin_ends))
    scale = max(abs(a - v[0]) for a in v)
    missed = values - ands[0] - z @ x
    infeasible = max(0.0, (np.abs(missed) - slack).max()) / scale
    # Free multipliers where the value is kept exactly; else by the wall at which the reconstruction lies.
    bounds = [
        (None, None) if s == 0 else (0, None) if m > s - zero * scale else (None, 0) if m < zero * scale - s else (0, 0)
        for m, s in zip(missed, slack, strict=True)
    ]
    # For each effect: Z' y = price * sign + ridge * x where it is not 0, |Z' y| <= price where it is. Loosened by t.
    nonzero = np.abs(x) > zero * scale
    centre = np.where(nonzero, prices * np.sign(x) + ridge * x / scale, 0.0)
    width = np.where(nonzero, 0.0, prices)
    ones = np.ones((len(effects), 1))
    found = linprog(
        [0.0] * len(values) + [1.0],
        A_ub=np.vstack([np.hstack([z.T, -ones]), np.hstack([-z.T, -ones])]),
        b_ub=np.concatenate([centre + width, width - centre]),
        A_eq=[[1.0] * len(values) + [0.0]],  # the constant has no price
        b_eq=[0.0],
        bounds=[*bounds, (0, None)],
        method="highs",
    )
    assert found.status == 0, found.message
    return max(infeasible, found.fun)


def effect_range(v, kappa, budget, effect, order_weight=0.0, pin_ends=True, kind="and-or"):
    """The least and the largest value of an effect ``(set, is OR)`` over all explanations within a budget."""
    n = n_of(v)
    effects = effects_of(n, kind)
    z = np.array(synthesis_matrix(n, effects))
    reach = np.hstack([z, -z, np.ones((2**n, 1))])
    prices = np.array([1 + order_weight * (size(s) - 1) for s, _ in effects])
    slack = np.array(slack_of(v, kappa, pin_ends))
    tight, loose = slack == 0, slack > 0
    goal = np.array([float(one == effect) for one in effects])
    ends = []
    for sign in (1, -1):
        found = linprog(
            np.concatenate([sign * goal, -sign * goal, [0.0]]),
            A_eq=reach[tight] if tight.any() else None,
            b_eq=np.array(v)[tight] if tight.any() else None,
            A_ub=np.vstack([reach[loose], -reach[loose], [*prices, *prices, 0.0]]),
            b_ub=np.concatenate([(v + slack)[loose], (slack - v)[loose], [budget]]),
            bounds=[(0, None)] * (2 * len(effects)) + [(None, None)],
            method="highs",
        )
        assert found.status == 0, found.message
        ends.append(sign * found.fun)
    return ends


def least_squares(v, effects, start, pin_ends=True):
    """The amounts of effects ``(set, is OR)`` that reproduce v best, nearest to `start`; and the constant.

    With pinned ends the constant is v(empty) and the amounts add up to v(N) - v(empty).
    """
    v, start = np.array(v), np.array(start)
    z = np.array(synthesis_matrix(n_of(v), effects))
    if not pin_ends:
        design = np.hstack([np.ones((len(v), 1)), z])
        before = np.concatenate([[v[0]], start])
        found = before + np.linalg.lstsq(design, v - design @ before, rcond=1e-9)[0]
        return found[1:], found[0]
    # An orthonormal basis of the changes that add up to 0 turns the constraint into fewer unknowns.
    free = np.linalg.svd(np.ones((1, len(effects))))[2][1:].T
    base = start + (v[-1] - v[0] - start.sum()) / len(effects)
    steps = np.linalg.lstsq(z @ free, v - v[0] - z @ base, rcond=1e-9)[0]
    return base + free @ steps, v[0]
