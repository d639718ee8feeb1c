from pathlib import Path

import numpy as np
import oracles
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from solver_problems import problem_of, program_of, random, written_out

from captum_lkn import decompose
from captum_lkn.decomposition import lattice
from captum_lkn.decomposition.solvers import simplex
from captum_lkn.decomposition.solvers.problem import Problem, relative_gap

DATA = Path(__file__).parent.parent / "data"
PROGRAM = {"order_weight": 0.0, "ridge": 0.0}


@given(st.integers(2, 5), st.integers(0, 1000), st.booleans(), st.sampled_from([0.0, 0.3, 1.0]))
@settings(max_examples=40, deadline=None)
def test_a_program_without_slack_ends_at_an_optimal_vertex_from_anywhere(n, seed, integers, share):
    problem = problem_of(n, seed=seed, kappa=0.0, **PROGRAM)
    if integers:  # ties everywhere
        problem = Problem((3 * problem.values).round() / 3, problem.slack, problem.weights, 0.0, True)
    chosen = torch.rand(2 * 2**n, generator=torch.Generator().manual_seed(seed)) < share
    found = simplex.to_optimal_vertex(program_of(problem), random(2 * 2**n, seed=seed) * chosen)
    effects = found.effects.view(2, -1)
    assert found.finished
    least = oracles.sparse_optimum(problem.values.tolist(), 0.0, True, 0.0, "and-or")[0]
    assert problem.excess(effects)[1:].abs().max() < 1e-13
    assert float(relative_gap(problem.penalty(effects), problem.bound(found.dual))) < 1e-12
    assert float(problem.penalty(effects)) == pytest.approx(least, rel=1e-9, abs=1e-12)
    columns = written_out(n)[1:, found.effects != 0]
    assert int(torch.linalg.matrix_rank(columns)) == columns.shape[1]


def test_a_program_of_a_network_without_slack_ends_at_a_vertex():
    values = torch.tensor(np.load(DATA / "hard_tables.npz")["relu_mlp_wine"][0])
    found = decompose(values, noise=0.0, or_weight=1.0, **PROGRAM)
    support = torch.cat([found.and_effects, found.or_effects.index_fill(0, torch.tensor(0), 0)])
    support[0] = 0
    assert float(found.gap) < 1e-12
    assert int((support != 0).sum()) <= len(values) - 1
    assert support[support != 0].abs().min() > 1e-9 * support.abs().max()


@pytest.mark.parametrize("seed", range(3))
def test_a_sparse_program_without_slack_ends_at_a_vertex(seed):
    n = 9
    generator = torch.Generator().manual_seed(seed)
    present = lattice.masks(n).bool()
    values = torch.zeros(2**n, dtype=torch.float64)
    for term in range(8):  # whole effects: several explanations cost the same
        members = torch.randperm(n, generator=generator)[: 1 + term % 4]
        values += present[:, members].all(1) if term % 2 else present[:, members].any(1)
    found = decompose(values, noise=0.0, or_weight=1.0, **PROGRAM)
    support = torch.cat([found.and_effects, found.or_effects])
    support[[0, 2**n]] = 0
    columns = written_out(n)[:, support != 0]
    assert float(found.gap) < 1e-9
    assert int(torch.linalg.matrix_rank(columns)) == columns.shape[1]
