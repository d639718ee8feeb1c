"""Brute force, straight from the definitions: plain Python over subsets, sharing no code with the package.

A table is a list of 2^n floats; bit i of an index = player i is present.
"""

from itertools import permutations
from math import factorial


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
