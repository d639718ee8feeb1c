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
from captum_lkn.decomposition.solvers import admm, exact, simplex, vertex
from captum_lkn.decomposition.solvers.problem import Problem, relative_gap

DATA = Path(__file__).parent.parent / "data"
PROGRAM = {"order_weight": 0.0, "ridge": 0.0}


def planted(n, seed, terms):
    """A table of whole effects of one to four players: several explanations cost the same."""
    generator = torch.Generator().manual_seed(seed)
    present = lattice.masks(n).bool()
    values = torch.zeros(2**n, dtype=torch.float64)
    for term in range(terms):
        members = torch.randperm(n, generator=generator)[: 1 + term % 4]
        values += present[:, members].all(1) if term % 2 else present[:, members].any(1)
    return values


def columns_in_use(found, rows):
    """The columns of the effects that are not 0, without the constant."""
    ands, ors = found.and_effects[1:].nonzero().flatten() + 1, found.or_effects.nonzero().flatten()
    sets = torch.cat([ands, ors])
    common = rows.unsqueeze(1) & sets
    return torch.where(torch.arange(len(sets)) < len(ands), common == sets, common != 0).double()


@given(st.integers(2, 5), st.integers(0, 1000), st.booleans(), st.sampled_from([0.0, 0.3, 1.0]))
@settings(max_examples=40, deadline=None)
def test_a_program_without_slack_ends_at_an_optimal_vertex_from_anywhere(n, seed, integers, share):
    problem = problem_of(n, seed=seed, kappa=0.0, **PROGRAM)
    if integers:  # ties everywhere
        problem = Problem((3 * problem.values).round() / 3, problem.slack, problem.weights, 0.0, True)
    chosen = torch.rand(2 * 2**n, generator=torch.Generator().manual_seed(seed)) < share
    found = simplex.to_optimal_vertex(program_of(problem), random(2 * 2**n, seed=seed) * chosen, 5 * 2**n)
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
    found = decompose(planted(n, seed, 8), noise=0.0, or_weight=1.0, **PROGRAM)
    support = torch.cat([found.and_effects, found.or_effects])
    support[[0, 2**n]] = 0
    columns = written_out(n)[:, support != 0]
    assert float(found.gap) < 1e-9
    assert int(torch.linalg.matrix_rank(columns)) == columns.shape[1]


@pytest.mark.parametrize("max_pivots", [0, 3, 12])
def test_a_program_that_may_take_few_pivots_says_so_and_meets_all_rows(max_pivots):
    problem = problem_of(5, seed=2, kappa=0.0, **PROGRAM)
    start = random(64, seed=2)
    found = simplex.to_optimal_vertex(program_of(problem), start, max_pivots)
    best = simplex.to_optimal_vertex(program_of(problem), start, 1000)
    assert not found.finished
    assert found.pivots == max_pivots
    assert 12 < best.pivots < 1000
    least = oracles.sparse_optimum(problem.values.tolist(), 0.0, True, 0.0, "and-or")[0]
    effects = found.effects.view(2, -1)
    assert float((problem.values - written_out(5) @ found.effects)[1:].abs().max()) < 1e-12
    assert float(problem.bound(found.dual)) <= least * (1 + 1e-9)
    assert float(problem.penalty(effects)) > least * (1 + 1e-3)


@pytest.mark.parametrize(("seed", "terms", "pin_ends"), [(0, 8, True), (1, 8, False), (2, 40, True), (0, 8, False)])
def test_a_sparse_program_of_many_players_without_slack_ends_at_a_vertex(seed, terms, pin_ends):
    n = 14
    found = decompose(planted(n, seed, terms), noise=0.0, or_weight=1.0, pin_ends=pin_ends, **PROGRAM)
    columns = columns_in_use(found, torch.arange(1, 2**n))
    assert float(found.gap) < 1e-8
    assert float(found.residual.abs().max()) < 1e-12
    assert int(torch.linalg.matrix_rank(columns.T @ columns)) == columns.shape[1]  # exact: whole numbers


def rows_at_slack(found, kappa):
    """The full set, whose value is kept, and the rows that are missed by kappa."""
    at = found.residual.abs() >= kappa - 1e-9
    at[-1] = True
    return at.nonzero().flatten()


@pytest.mark.parametrize(("n", "own", "seed"), [(11, 9, 0), (11, 9, 1), (11, 9, 2), (14, 14, 0), (14, 14, 1)])
def test_a_sparse_program_of_many_players_with_slack_ends_at_a_vertex(n, own, seed):
    kappa = 0.32
    # Where two players have no effect the middle of the optimal face uses all effects.
    values = planted(own, seed, 8).repeat(2 ** (n - own))
    found = decompose(values, kappa=kappa, or_weight=1.0, **PROGRAM)
    columns = columns_in_use(found, rows_at_slack(found, kappa))
    assert float(found.gap) < 1e-9
    assert float(found.residual.abs().max()) < kappa + 1e-11
    assert 0 < columns.shape[1] < 2 * n
    assert int(torch.linalg.matrix_rank(columns)) == columns.shape[1]


@pytest.mark.slow
def test_a_vertex_is_kept_where_effects_of_the_interior_point_have_a_smaller_gap():
    n, kappa = 12, 0.32
    values = planted(9, 0, 8).repeat(8)
    problem = problem_of(n, kappa=0.0, **PROGRAM)
    unit = float(values.abs().max())
    slack = torch.full_like(values, kappa / unit).index_fill(0, torch.tensor([0, 2**n - 1]), 0)
    problem = Problem(values / unit, slack, problem.weights, 0.0, True)[None]
    warm = next(admm.iterate(problem, 400, torch.float32))  # so few that the crossovers do not end
    solution = exact.solve(problem, warm.effects, warm.dual, 1e-6)[0]
    assert solution.gap <= 1e-9
    assert 0 < int((solution.effects != 0).sum()) < 2 * n


@pytest.mark.parametrize("kind", ["and-or", "and"])
@pytest.mark.parametrize("pin_ends", [True, False])
def test_a_program_at_the_edge_of_no_effects_has_none(kind, pin_ends):
    values = torch.tensor([0.0, 0.1 * 3, 0.3, 0.0], dtype=torch.float64)  # .1 * 3 is .3 but for rounding
    kappa = 0.3 if pin_ends else 0.15
    found = decompose(values, kappa=kappa, pin_ends=pin_ends, or_weight=1.0, kind=kind, **PROGRAM)
    assert not found.and_effects[1:].any()
    assert not found.or_effects.any()
    assert float(found.and_effects[0]) == pytest.approx(0.0 if pin_ends else 0.15, abs=1e-12)
    assert float(found.gap) == 0


@pytest.mark.parametrize("has_constant", [True, False])
def test_no_effects_are_a_vertex(has_constant):
    problem = problem_of(3, kappa=5.0, pin_ends=not has_constant, **PROGRAM)
    problem.values[-1] = 0
    program = program_of(problem)
    effects, constant = vertex.to_vertex(program, torch.zeros(16, dtype=torch.float64), 0.0)
    assert not effects.any()
    assert constant == 0


@pytest.mark.parametrize("n", [2, 3, 4, 5])
@pytest.mark.parametrize("share", [1e-13, 4e-13])
def test_a_kappa_that_misses_half_the_range_by_rounding_needs_no_effects(n, share):
    for seed in range(4):
        values = random(2**n, seed=seed)
        half = float(values.max() - values.min()) / 2
        found = decompose(values, kappa=half * (1 - share), pin_ends=False)
        assert float(found.gap) == 0
        assert not found.and_effects[1:].any()
        assert not found.or_effects.any()
        assert float(found.residual.abs().max()) <= half * (1 + 1e-12)


def inside_the_optimal_face(values, kappa, pin_ends):
    """The mean of optima of a paper's program, flattened effects and the constant.

    HiGHS ends at another optimum when the players have other numbers.
    """
    n = oracles.n_of(values)
    generator = np.random.default_rng(0)
    optima = []
    for _ in range(6):
        order = generator.permutation(n)
        moved = [sum((t >> i & 1) << int(order[i]) for i in range(n)) for t in range(2**n)]
        _, ands, ors = oracles.sparse_optimum([values[moved.index(t)] for t in range(2**n)], kappa, pin_ends)
        optima.append([*(ands[moved[s]] for s in range(2**n)), *(ors[moved[s]] for s in range(2**n))])
    mean = torch.tensor(optima, dtype=torch.float64).mean(0)
    constant = float(mean[0])
    mean[0] = 0
    return mean, constant


@pytest.mark.parametrize(
    ("kappa", "pin_ends"),
    [(0.3, True), (0.3, False), (0.04, True), (0.04, False), (1e-3, True), (1e-3, False), (0.0, True)],
)
def test_a_mean_of_optima_is_moved_to_a_vertex_of_the_same_cost(kappa, pin_ends):
    n, moved = 4, 0
    for seed in range(4):
        problem = problem_of(n, seed=seed, kappa=kappa, pin_ends=pin_ends, **PROGRAM)
        values = (3 * problem.values).round() / 3  # whole numbers: many optima
        values[0] = 0
        problem = Problem(values, problem.slack, problem.weights, 0.0, pin_ends)
        inside, constant = inside_the_optimal_face(values.tolist(), kappa, pin_ends)
        least = oracles.sparse_optimum(values.tolist(), kappa, pin_ends)[0]
        found = vertex.to_vertex(program_of(problem), inside, constant)
        assert found is not None
        x, free = found
        assert float(problem.penalty(x.view(2, -1))) == pytest.approx(least, rel=1e-9, abs=1e-12)
        reached = written_out(n) @ x + free
        missed = (values - reached).abs()[0 if not pin_ends else 1 :]
        assert bool((missed <= problem.slack[0 if not pin_ends else 1 :] + 1e-12).all())
        bound = (values - reached).abs() >= problem.slack - 1e-9
        bound[0] &= not pin_ends
        columns = written_out(n)[bound][:, x != 0]
        if not pin_ends:
            columns = torch.cat([columns, torch.ones(len(columns), 1, dtype=torch.float64)], dim=1)
        assert int(torch.linalg.matrix_rank(columns)) == columns.shape[1]
        moved += int((inside.abs() > 1e-9).sum() > (x != 0).sum())
    assert moved  # the means were no vertices


@pytest.mark.parametrize("pin_ends", [True, False])
@pytest.mark.parametrize("kappa", [1e-9, 1e-7, 3e-6, 1e-5])
@pytest.mark.parametrize("kind", ["smooth", "random", "whole"])
def test_a_program_with_little_slack_has_exact_zeros(kind, kappa, pin_ends):
    n = 4 if kind == "smooth" else 5
    generator = torch.Generator().manual_seed(n)
    if kind == "smooth":
        sums = lattice.masks(n).double() @ torch.randn(n, 1, generator=generator, dtype=torch.float64)
        further = lattice.masks(n).double() @ torch.rand(n, 1, generator=generator, dtype=torch.float64)
        values = (sums.tanh() + further.sin()).squeeze(1)
    elif kind == "random":
        values = torch.randn(2**n, generator=generator, dtype=torch.float64)
    else:
        values = torch.randint(-3, 4, (2**n,), generator=generator).double()
    kappa = kappa * float(values.max() - values.min())
    found = decompose(values, kappa=kappa, pin_ends=pin_ends, or_weight=1.0, **PROGRAM)
    effects = torch.cat([found.and_effects[1:], found.or_effects]).abs()
    assert float(found.gap) < 1e-8
    assert float(found.objective) == pytest.approx(
        oracles.sparse_optimum(values.tolist(), kappa, pin_ends)[0], rel=1e-7
    )
    assert float(effects[effects > 0].min()) > min(1e-9 * float(effects.max()), 1e-3 * kappa)


@pytest.mark.parametrize(
    ("n", "seed", "ridge", "kappa", "pin_ends"),
    [
        # The rounding of the dual vector over the ridge is that of the effects: rounds moved them by 1e-10 for ever.
        (5, 0, 1e-5, 0.0, True),
        (5, 5, 1e-5, 1e-6, True),
        (4, 4, 1e-7, 1e-3, False),
        (4, 4, 1e-7, 0.0, True),
        # Rows depend on each other: at the end of the rounds the dual vector was known to 1e-5 only.
        (4, 4, 1e-5, 1e-6, False),
        (5, 5, 1e-5, 1e-7, False),
    ],
)
def test_a_small_ridge_leaves_exact_zeros(n, seed, ridge, kappa, pin_ends):
    whole = torch.randint(0, 2, (2**n,), generator=torch.Generator().manual_seed(seed)).double()
    for order_weight in (0.0, 0.15):
        given = {"order_weight": order_weight, "ridge": ridge, "kappa": kappa, "pin_ends": pin_ends}
        found = decompose(whole, or_weight=1.0, **given)
        effects = torch.cat([found.and_effects[1:], found.or_effects]).abs()
        assert float(found.gap) < 1e-8
        assert float(effects[effects > 0].min()) > min(1e-9 * float(effects.max()), 1e-3 * (kappa or 1.0))
        ands, ors = found.and_effects.tolist(), found.or_effects.tolist()
        least, *_ = oracles.sparse_optimum(whole.tolist(), kappa, pin_ends, order_weight)
        prices = 1 + order_weight * (lattice.orders(n).double() - 1)
        assert float((prices * (found.and_effects.abs() + found.or_effects.abs()))[1:].sum()) >= least * (1 - 1e-9)
        assert oracles.optimality_violation(whole.tolist(), ands, ors, kappa, ridge, pin_ends, order_weight) < 1e-7


@pytest.mark.parametrize(("n", "seed"), [(4, 1), (5, 2), (6, 0)])
@pytest.mark.parametrize("share", [1e-7, 1e-9])
def test_a_program_with_tiny_kappa_and_few_different_values_ends_at_a_vertex(n, seed, share):
    total = (lattice.masks(n) * random(n, seed=seed)).sum(1)
    values = (torch.round(4 * total) / 4).clamp(-1, 1)
    found = decompose(values, kappa=share * float(values.max() - values.min()), or_weight=1.0, **PROGRAM)
    assert float(found.gap) < 1e-9
    assert float(found.residual.abs().max()) <= float(found.kappa) + 1e-14
    nonzero = columns_in_use(found, torch.arange(1, 2**n))
    assert int(torch.linalg.matrix_rank(nonzero)) == nonzero.shape[1]
