"""Small tables as the solvers of the decomposition get them, and their matrix written out."""

import oracles
import torch

from captum_lkn.decomposition.solvers.crossover import Program
from captum_lkn.decomposition.solvers.problem import Lattice, Problem


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def written_out(n):
    """Z with all columns, ``[2^n, 2 * 2^n]``: the AND effects of all sets, then the OR effects."""
    everything = [(s, is_or) for is_or in (False, True) for s in range(2**n)]
    return torch.tensor(oracles.synthesis_matrix(n, everything), dtype=torch.float64)


def problem_of(n, seed=0, *, kappa=0.04, pin_ends=True, order_weight=0.1, ridge=0.3, kind="and-or"):
    """A random table as the solvers get it: 0 at the empty set, 1 the largest entry."""
    v = random(2**n, seed=seed)
    v = v - v[0]
    v = v / v.abs().max()
    weights = torch.full((2, 2**n), torch.inf, dtype=torch.float64)
    for s, is_or in oracles.effects_of(n, kind):
        weights[int(is_or), s] = 1 + order_weight * (oracles.size(s) - 1)
    slack = torch.tensor(oracles.slack_of(v.tolist(), kappa, pin_ends), dtype=torch.float64)
    return Problem(v, slack, weights, ridge, pin_ends)


def batch(n, count, **given):
    problems = [problem_of(n, seed=seed, **given) for seed in range(count)]
    first, values = problems[0], torch.stack([one.values for one in problems])
    return Problem(values, torch.stack([one.slack for one in problems]), first.weights, first.ridge, first.pinned)


def batch_of(problem):
    """A batch of one table."""
    return Problem(problem.values[None], problem.slack[None], problem.weights, problem.ridge, problem.pinned)


def program_of(problem):
    live = torch.ones(2**problem.n, dtype=torch.bool)
    live[0] = not problem.pinned
    design, weights = Lattice(problem.n), problem.weights.flatten()
    return Program(design, problem.values, problem.slack, weights, problem.ridge, not problem.pinned, live)
