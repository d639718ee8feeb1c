import sys

import oracles
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from solver_problems import batch_of, problem_of, program_of, random, written_out
from tqdm.auto import tqdm

from captum_lkn.decomposition import lattice
from captum_lkn.decomposition.solvers import admm, exact, first_order, generation, guess, highs, vertex
from captum_lkn.decomposition.solvers.crossover import cross_over
from captum_lkn.decomposition.solvers.guess import solve_guessed
from captum_lkn.decomposition.solvers.problem import (
    Lattice,
    Problem,
    _cheapest_share,
    adjoint,
    balanced,
    relative_gap,
    synthesis,
)

pytestmark = pytest.mark.filterwarnings("error")

PROGRAM = {"order_weight": 0.0, "ridge": 0.0}


def optimum(problem, kappa=0.04, order_weight=0.0, kind="and-or"):
    return oracles.sparse_optimum(problem.values.tolist(), kappa, problem.pinned, order_weight, kind)[0]


# The operators of the problem


@pytest.mark.parametrize("n", range(7))
def test_synthesis_and_its_adjoint_are_the_matrix_written_out(n):
    z, x, y = written_out(n), random(2, 2**n, seed=1), random(2**n, seed=2)
    torch.testing.assert_close(synthesis(x), z @ x.flatten(), rtol=0, atol=1e-12)
    torch.testing.assert_close(adjoint(y), (z.T @ y).view(2, -1), rtol=0, atol=1e-12)


@given(st.integers(0, 8), st.integers(0, 1000))
def test_synthesis_and_adjoint_are_adjoint(n, seed):
    x, y = random(3, 2, 2**n, seed=seed), random(3, 2**n, seed=seed + 1)
    left, right = (synthesis(x) * y).sum(-1), (x * adjoint(y)).sum((-2, -1))
    torch.testing.assert_close(left, right, rtol=1e-11, atol=1e-11)


def test_a_balanced_vector_sums_to_zero_and_differs_at_the_empty_set_only():
    y = random(4, 16)
    assert torch.equal(balanced(y)[:, 1:], y[:, 1:])
    assert balanced(y).sum(-1).abs().max() < 1e-14


def test_the_penalty_is_the_sum_it_stands_for():
    problem, x = problem_of(3, order_weight=0.5, ridge=0.3), random(2, 8)
    expected = sum(
        (1 + 0.5 * (oracles.size(s) - 1)) * abs(float(x[int(is_or), s])) + 0.3 / 2 * float(x[int(is_or), s]) ** 2
        for s, is_or in oracles.effects_of(3)
    )
    assert float(problem.penalty(x)) == pytest.approx(expected)


@pytest.mark.parametrize("pin_ends", [True, False])
def test_the_excess_is_what_lies_beyond_the_slack(pin_ends):
    problem, x = problem_of(4, pin_ends=pin_ends), random(2, 16) / 10
    constant = 0.0 if pin_ends else 0.01
    missed = (problem.values - constant - written_out(4) @ x.flatten()).tolist()
    expected = [m - min(max(m, -s), s) for m, s in zip(missed, problem.slack.tolist(), strict=True)]
    assert problem.excess(x, constant).tolist() == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize("kind", ["and-or", "and"])
@pytest.mark.parametrize("n", [2, 3, 6])
def test_repaired_effects_are_feasible_and_use_only_effects_that_exist(n, kind):
    problem = problem_of(n, kind=kind)
    exists = torch.isfinite(problem.weights)
    repaired = problem.repaired(random(2, 2**n) / 10 * exists)
    assert problem.excess(repaired)[1:].abs().max() < 1e-13
    assert not repaired[~exists].any()


def test_effects_that_are_feasible_need_no_repair():
    problem = problem_of(4)
    once = problem.repaired(torch.zeros(2, 16, dtype=torch.float64))
    torch.testing.assert_close(problem.repaired(once), once, rtol=0, atol=1e-14)


def test_tables_are_taken_out_of_a_batch():
    values, slack = random(3, 8), random(3, 8).abs()
    batch = Problem(values, slack, problem_of(3).weights, 0.3, True)
    one, some = batch[1], batch[1:]
    assert torch.equal(one.values, values[1])
    assert torch.equal(one.slack, slack[1])
    assert some.values.shape == (2, 8)
    assert (one.n, one.ridge, one.pinned) == (3, 0.3, True)


# The certificate


@pytest.mark.parametrize("kappa", [0.0, 0.04, 0.3])
@pytest.mark.parametrize("pin_ends", [True, False])
@pytest.mark.parametrize("kind", ["and-or", "and"])
@pytest.mark.parametrize("n", [2, 3, 5])
def test_no_vector_certifies_more_than_the_optimum_of_the_linear_program(n, kind, pin_ends, kappa):
    problem = problem_of(n, seed=n, kappa=kappa, pin_ends=pin_ends, kind=kind, **PROGRAM)
    limit = optimum(problem, kappa, kind=kind)
    for seed in range(30):
        dual = random(2**n, seed=seed)
        # Random vectors certify little; those near what prices the values certify more.
        for vector in (dual, dual.abs() * problem.values.sign(), problem.values + 0.1 * dual):
            bound = float(problem.bound(vector))
            assert 0 <= bound <= limit + 1e-9


@pytest.mark.parametrize("pin_ends", [True, False])
@pytest.mark.parametrize("n", [2, 4, 6])
def test_the_dual_vector_of_the_linear_program_certifies_its_optimum(n, pin_ends):
    problem = problem_of(n, pin_ends=pin_ends, **PROGRAM)
    effects, constant, dual, _ = highs.solve(problem)
    assert float(problem.penalty(effects)) == pytest.approx(optimum(problem))
    assert float(problem.bound(dual)) == pytest.approx(optimum(problem))
    assert problem.excess(effects, constant).abs().max() < 1e-7


@pytest.mark.slow
@given(st.integers(1, 5), st.integers(0, 1000), st.sampled_from([1e-3, 0.3, 30.0]), st.sampled_from([0.01, 1.0, 100.0]))
def test_with_a_ridge_no_vector_certifies_more_than_what_is_reached(n, seed, ridge, size):
    problem = problem_of(n, seed=seed, ridge=ridge)
    effects, _, dual, _ = highs.solve(problem)
    reached = float(problem.penalty(problem.repaired(effects)))
    for vector in (size * random(2**n, seed=seed), size * dual, dual + random(2**n, seed=seed) / size):
        assert 0 <= float(problem.bound(vector)) <= reached * (1 + 1e-12)


def test_the_bound_of_a_program_ignores_the_length_of_the_vector_and_its_entry_at_the_empty_set():
    problem, dual = problem_of(4, **PROGRAM), highs.solve(problem_of(4, **PROGRAM))[2]
    changed = 7 * dual
    changed[0] = 123.0
    assert float(problem.bound(changed)) == pytest.approx(float(problem.bound(dual)), rel=1e-12)


@pytest.mark.parametrize("ridge", [0.0, 0.3])
def test_a_vector_of_zeros_certifies_nothing(ridge):
    assert float(problem_of(4, ridge=ridge).bound(torch.zeros(16, dtype=torch.float64))) == 0


def test_the_bound_takes_sums_that_are_known_already():
    problem, dual = problem_of(4), random(16)
    assert torch.equal(problem.bound(dual, adjoint(balanced(dual))), problem.bound(dual))


def test_a_gap_is_relative_to_the_bound_and_zero_where_nothing_was_needed():
    penalty, bound = torch.tensor([3.0, 2.0, 0.0, 1.0]), torch.tensor([2.0, 2.0, 0.0, 1.0 + 1e-6])
    assert relative_gap(penalty, bound).tolist() == [0.5, 0.0, 0.0, 0.0]


@pytest.mark.parametrize("n", range(1, 6))
def test_entries_of_the_lattice_are_those_of_the_matrix_written_out(n):
    everything = torch.arange(2**n), torch.arange(2 * 2**n)
    assert torch.equal(Lattice(n).entries(*everything), written_out(n))


# The solvers


@pytest.mark.slow
@pytest.mark.parametrize("pin_ends", [True, False])
@pytest.mark.parametrize("kappa", [0.0, 0.04])
@pytest.mark.parametrize("ridge", [0.0, 0.3])
def test_admm_closes_the_gap_from_nothing(ridge, kappa, pin_ends):
    problem = problem_of(4, ridge=ridge, kappa=kappa, pin_ends=pin_ends)
    batch = Problem(problem.values[None], problem.slack[None], problem.weights, ridge, pin_ends)
    now = next(admm.iterate(batch, 1000, torch.float64))
    constant = now.constant.clamp(-problem.slack[0], problem.slack[0])
    assert not now.effects[..., 0].any()
    gap = relative_gap(batch.penalty(batch.repaired(now.effects, constant)), batch.bound(now.dual))
    assert float(gap) < (1e-3 if ridge else 0.03)  # a program, being flat, takes first-order steps longer


@pytest.mark.parametrize("pin_ends", [True, False])
@pytest.mark.parametrize("kappa", [0.0, 0.04])
@pytest.mark.parametrize("ridge", [0.0, 0.3])
def test_the_interior_point_needs_no_warm_start(ridge, kappa, pin_ends):
    problem = problem_of(4, ridge=ridge, kappa=kappa, pin_ends=pin_ends)
    nothing = torch.zeros(1, 2, 16, dtype=torch.float64)
    (found,) = exact.solve(batch_of(problem), nothing, nothing[:, 0], 1e-6)
    assert not found.out_of_steps
    assert problem.excess(found.effects, found.constant)[1:].abs().max() < 1e-10
    assert float(found.gap) <= 1e-9
    if ridge == 0:
        assert float(problem.penalty(found.effects)) == pytest.approx(optimum(problem, kappa, 0.1), rel=1e-9)


@pytest.mark.parametrize("pin_ends", [True, False])
@pytest.mark.parametrize("kind", ["and", "and-or"])
def test_the_interior_point_ends_soon_where_the_effects_it_starts_with_cannot_meet_the_rows(kind, pin_ends):
    problem = problem_of(7, kappa=1e-4, pin_ends=pin_ends, kind=kind)
    nothing = torch.zeros(1, 2, 128, dtype=torch.float64)
    (found,) = exact.solve(batch_of(problem), nothing, nothing[:, 0], 1e-6)  # with single players
    assert found.steps < 40  # of interior point and crossover
    assert float(found.gap) <= 1e-9


@given(
    st.integers(2, 4),
    st.integers(0, 1000),
    st.sampled_from([0.01, 0.04, 0.3]),
    st.booleans(),
    st.sampled_from([0.05, 0.3]),
    st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_the_crossover_finds_the_optimum_from_anywhere(n, seed, kappa, pin_ends, ridge, integers):
    problem = problem_of(n, seed=seed, kappa=kappa, pin_ends=pin_ends, ridge=ridge)
    if integers:  # ties everywhere
        values = (3 * problem.values).round() / 3
        problem = Problem(values, problem.slack, problem.weights, ridge, pin_ends)
    generator = torch.Generator().manual_seed(seed)
    x = random(2 * 2**n, seed=seed) * (torch.rand(2 * 2**n, generator=generator) < 0.3)
    y = random(2**n, seed=seed + 1) * (torch.rand(2**n, generator=generator) < 0.3)
    found = cross_over(program_of(problem), x, 0.0, y, 2000)
    effects = found.effects.view(2, -1)
    assert found.finished
    assert problem.excess(effects, found.constant)[1:].abs().max() < 1e-11
    gap = relative_gap(problem.penalty(effects), problem.bound(found.dual))
    assert float(gap) < 1e-10
    nonzero = effects[effects != 0].abs()
    assert not len(nonzero) or float(nonzero.min()) > 1e-9 * float(nonzero.max())


@pytest.mark.parametrize("seed", range(3))
def test_the_crossover_of_a_linear_program_ends_at_its_optimum_from_anywhere(seed):
    problem = problem_of(3, seed=seed, ridge=0.0)
    x, y = random(16, seed=seed) * (random(16, seed=seed + 10) > 0.5), random(8, seed=seed + 20)
    found = cross_over(program_of(problem), x, 0.0, y, 2000)
    effects = found.effects.view(2, -1)
    assert found.finished
    assert problem.excess(effects, found.constant)[1:].abs().max() < 1e-10
    assert float(relative_gap(problem.penalty(effects), problem.bound(found.dual))) < 1e-9


def test_a_support_beyond_the_limit_is_not_moved_to_a_vertex(monkeypatch):
    problem = problem_of(3, ridge=0.0)
    x = problem.repaired(torch.zeros(2, 8, dtype=torch.float64)).flatten()
    assert bool((x < 0).any() & (x > 0).any())
    monkeypatch.setattr(vertex, "_MAX_COLUMNS", int((x != 0).sum()))
    assert vertex.to_vertex(program_of(problem), x, 0.0) is not None
    monkeypatch.setattr(vertex, "_MAX_COLUMNS", int((x != 0).sum()) - 1)
    assert vertex.to_vertex(program_of(problem), x, 0.0) is None


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_the_bound_is_nearly_the_best_that_a_multiple_of_the_dual_vector_certifies(seed, scale):
    problem = problem_of(3, seed=seed)
    nothing = torch.zeros(1, 2, 8, dtype=torch.float64)
    (best,) = exact.solve(batch_of(problem), nothing, nothing[:, 0], 1e-6)
    dual = cross_over(program_of(problem), best.effects.flatten(), 0.0, random(8) * 0, 2000).dual
    bent = balanced(scale * (dual + 0.1 * dual.abs().max() * random(8, seed=seed + 50)))
    sums = (written_out(3).T @ bent).abs()
    factors = torch.linspace(0, 8, 4001, dtype=torch.float64)
    over = (factors[:, None] * sums - problem.weights.flatten()).clamp_min(0).square().sum(-1) / (2 * problem.ridge)
    gain = (problem.values * bent).sum() - (problem.slack * bent.abs()).sum()
    most = float((factors * gain - over).max())
    assert most > 0
    assert 0.99 * most <= float(problem.bound(bent)) <= most * (1 + 1e-5)


@pytest.mark.parametrize("many", [0, 512], ids=["many rows", "few rows"])
@pytest.mark.parametrize("pin_ends", [True, False])
def test_solving_on_the_right_sets_is_the_optimum_and_mends_a_wrong_guess(pin_ends, many, monkeypatch):
    monkeypatch.setattr(guess, "_SMALL", 0)
    monkeypatch.setattr(guess, "WRITTEN_OUT_MAX_ROWS", many)
    problem = problem_of(5, pin_ends=pin_ends)
    nothing = torch.zeros(1, 2, 32, dtype=torch.float64)
    (best,) = exact.solve(batch_of(problem), nothing, nothing[:, 0], 1e-6)
    dual = cross_over(program_of(problem), best.effects.flatten(), best.constant, random(32) * 0, 2000).dual
    wrong = best.effects.clone()
    wrong.view(-1)[int(wrong.abs().argmax())] = 0
    both = torch.stack([best.effects, wrong]), torch.stack([dual, dual])
    found = solve_guessed(Problem(problem.values.repeat(2, 1), problem.slack.repeat(2, 1), *rest(problem)), *both)
    assert bool(found.optimal[0])
    for row in found.optimal.nonzero().flatten().tolist():
        torch.testing.assert_close(found.effects[row], best.effects, rtol=0, atol=1e-10)
        torch.testing.assert_close(float(found.constant[row]), best.constant, rtol=0, atol=1e-10)


def rest(problem):
    return problem.weights, problem.ridge, problem.pinned


@pytest.mark.parametrize("pin_ends", [True, False])
def test_few_rows_and_effects_lead_to_the_optimum_of_all(pin_ends):
    problem = problem_of(5, pin_ends=pin_ends)
    nothing = torch.zeros(2, 32, dtype=torch.float64)
    found = generation.solve(problem, nothing, nothing[0])
    assert float(relative_gap(problem.penalty(found.effects), problem.bound(found.dual))) < 1e-10
    assert problem.excess(found.effects, found.constant)[1:].abs().max() < 1e-9


@pytest.mark.parametrize("n", [2, 3, 6])
def test_the_shapley_coefficients_certify_an_additive_game(n):
    values = lattice.masks(n).double() @ random(n)
    values = values / values.abs().max()
    weights = problem_of(n, order_weight=0.15).weights
    problem = Problem(values, torch.zeros_like(values), weights, 0.25, True)
    ands, ors = generation.free_solutions(problem)
    assert problem.excess(ands).abs().max() < 1e-12
    assert problem.excess(ors)[1:].abs().max() < 1e-12
    bound = problem.bound(generation.shapley_dual(problem, ands))
    assert float(relative_gap(problem.penalty(ands), bound)) < 1e-12


@pytest.mark.parametrize("kind", ["and-or", "and"])
@pytest.mark.parametrize("pin_ends", [True, False])
def test_highs_solves_the_program_that_is_written_out_elsewhere(pin_ends, kind):
    problem = problem_of(5, pin_ends=pin_ends, kind=kind, ridge=0.0)
    effects, constant, _, steps = highs.solve(problem)
    assert float(problem.penalty(effects)) == pytest.approx(optimum(problem, order_weight=0.1, kind=kind))
    assert problem.excess(effects, constant).abs().max() < 1e-7
    assert not effects[~torch.isfinite(problem.weights)].any()
    assert steps > 0


def test_without_scipy_highs_says_what_to_install(monkeypatch):
    for module in ("scipy", "scipy.optimize"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"captum-lkn\[highs\]"):
        highs.solve(problem_of(2))


# The first-order method for many players


@pytest.mark.parametrize("n", [1, 3, 6])
def test_what_rows_lack_is_shared_between_and_and_or_at_least_squares(n):
    table = random(2, 2**n, seed=n)
    ands, ors = torch.ones(1, 1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    for _ in range(n):
        ands = torch.kron(ands, torch.tensor([[1.0, 0.0], [-1.0, 1.0]], dtype=torch.float64))
        ors = torch.kron(ors, torch.tensor([[0.0, 1.0], [1.0, -1.0]], dtype=torch.float64))
    share = _cheapest_share(table)
    # |ands p|^2 + |ors (t - p)|^2 has its minimum where its slope is 0.
    slope = share @ (ands.T @ ands) - (table - share) @ (ors.T @ ors)
    torch.testing.assert_close(slope, torch.zeros_like(slope), rtol=0, atol=1e-9)


def test_admm_goes_on_from_an_iterate():
    problem = batch_of(problem_of(5))
    steps = admm.iterate(problem, 20, torch.float64)
    half = next(steps).moved.clone()
    whole = next(steps)
    other = next(admm.iterate(problem, 20, torch.float64, start=half))
    torch.testing.assert_close(other.effects, whole.effects, rtol=0, atol=1e-13)
    torch.testing.assert_close(other.dual, whole.dual, rtol=0, atol=1e-11)


@pytest.mark.parametrize("pin_ends", [True, False])
@pytest.mark.parametrize("tolerance", [1e-2, 1e-4])
def test_admm_alone_comes_within_a_gap_of_the_linear_program(pin_ends, tolerance):
    problem = problem_of(5, pin_ends=pin_ends, **PROGRAM)
    batch, least = batch_of(problem), optimum(problem)
    nothing, zero = batch.values.new_zeros(1, 2, 32), batch.values.new_zeros(1, 1)
    best = first_order.Nearly(batch.repaired(nothing), zero, zero[0], nothing[:, 0], gap=float("inf"))
    with tqdm(disable=True) as bar:
        first_order.solve(batch, best, tolerance, 20_000, bar)
    assert best.gap <= tolerance
    assert best.steps < 20_000
    assert best.steps % 20 == 0
    assert float(batch.excess(best.effects, best.constant)[:, 1:].abs().max()) < 1e-10
    reached = float(batch.penalty(best.effects))
    assert least * (1 - 1e-9) <= reached <= least * (1 + tolerance)
    assert float(best.bound) <= least * (1 + 1e-9)


def test_admm_alone_takes_no_more_steps_than_it_may():
    batch = batch_of(problem_of(6))
    for most, taken in ((7, 7), (50, 40), (330, 320)):
        nothing, zero = batch.values.new_zeros(1, 2, 64), batch.values.new_zeros(1, 1)
        best = first_order.Nearly(batch.repaired(nothing), zero, zero[0], nothing[:, 0], gap=float("inf"))
        with tqdm(disable=True) as bar:
            first_order.solve(batch, best, 1e-12, most, bar)
        assert best.steps == taken
        assert best.gap > 1e-12
