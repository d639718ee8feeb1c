"""Limits, units and messages of a decomposition, each next to where it changes, and the parts of the joint one."""

import warnings
from itertools import pairwise

import pytest
import torch
from solver_problems import batch, batch_of, problem_of, random, written_out

from captum_lkn.decomposition import DecompositionOptions, checks, ranges
from captum_lkn.decomposition.decompose import build_problem
from captum_lkn.decomposition.solvers import admm, dispatch, exact
from captum_lkn.decomposition.solvers.joint import _Joint, _repairs
from captum_lkn.decomposition.solvers.problem import Problem, relative_gap

pytestmark = pytest.mark.usefixtures("one_thread")


# ---------------------------------------------------------------- the problem of a table


def test_tables_are_in_units_of_their_range_and_groups_share_one():
    tables = torch.tensor([[1.0, 3, 1, 5], [0, -2, 0, 1], [7, 7, 7, 7], [0, 0, 0, 8]], dtype=torch.float64)
    kappa = torch.tensor([[0.4], [0.5], [0.1], [1e9]], dtype=torch.float64)
    options = DecompositionOptions(order_weight=0.5, or_weight=3.0, ridge=0.2, pin_ends=False)
    problem, unit = build_problem(tables, kappa, options)
    assert unit.flatten().tolist() == [4.0, 2.0, 1.0, 8.0]
    assert problem.values.tolist() == [[0, 0.5, 0, 1], [0, -1, 0, 0.5], [0] * 4, [0, 0, 0, 1]]
    assert problem.slack[:, 0].tolist() == pytest.approx([0.1, 0.25, 0.1, 1e6])
    assert torch.equal(problem.slack, problem.slack[:, :1].expand(4, 4))
    infinite = float("inf")
    assert problem.weights.tolist() == [[infinite, 1, 1, 1.5], [infinite, infinite, infinite, 4.5]]
    assert (problem.ridge, problem.pinned, problem.n) == (0.2, False, 2)
    pinned, unit = build_problem(tables, kappa, options.replace(pin_ends=True, kind="and"), 2)
    assert unit.flatten().tolist() == [4.0, 8.0, 4.0, 8.0]  # the first and the third are one group
    assert pinned.slack[0].tolist() == pytest.approx([0, 0.1, 0.1, 0])
    assert not pinned.weights[1].isfinite().any()
    assert pinned.ands_only
    assert not problem.ands_only


@pytest.mark.parametrize(("free", "kappa", "constant"), [(True, 0.5, 0.5), (True, 0.49, 0.0), (False, 0.5, 0.0)])
def test_the_middle_of_the_range_is_the_constant_where_it_is_enough(free, kappa, constant):
    values = torch.tensor([[0.0, 1.0, 0.5, 0.25]], dtype=torch.float64)
    problem = Problem(values, torch.full_like(values, kappa), problem_of(2).weights, 0.1, not free)
    assert dispatch._middle(problem).tolist() == [[constant]]


def test_effects_of_rounding_are_taken_out_where_the_rows_do_not_need_them():
    problem = problem_of(3)
    loose = Problem(problem.values, torch.full((8,), 99.0).double(), problem.weights, 0.3, True)
    effects = torch.zeros(2, 2, 8, dtype=torch.float64)  # of two tables, each with a largest effect of its own
    effects[0, 0, 7], effects[1, 1, 7] = 2.0, -1e-3
    for size, stays in ((0.9e-9, False), (1.1e-9, True)):
        effects[0, 1, 3], effects[1, 0, 3] = size * 2, -size * 1e-3
        found = loose.without_rounding(effects)
        assert found[[0, 1], [1, 0], 3].bool().tolist() == [stays, stays]
        assert found[[0, 1], [0, 1], 7].tolist() == [2.0, -1e-3]
    exactly = Problem(problem.values, torch.zeros(8).double(), problem.weights, 0.3, True)
    needed = exactly.repaired(torch.zeros(2, 8).double())
    needed[0, 5] += 1e-10 * float(needed.abs().max())
    assert torch.equal(exactly.without_rounding(needed), needed)


@pytest.mark.parametrize(("n", "steps"), [(14, 20_000), (16, 20_000), (17, 10_000), (18, 5000), (20, 1250)])
def test_steps_of_many_players_are_fewer(n, steps):
    assert dispatch._first_order_steps(n) == steps


def test_small_tables_are_solved_together():
    assert dispatch._batch(problem_of(6)) == 256
    assert dispatch._batch(problem_of(7)) == 64
    assert dispatch._batch(problem_of(10)) == 8
    assert dispatch._batch(problem_of(11)) == 1


# ---------------------------------------------------------------- checks


def said(function, *given):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        function(*given)
    return [str(one.message) for one in caught]


def test_a_kappa_is_small_below_a_tenth_of_the_papers():
    tables = torch.tensor([[0.0, 10.0], [0.0, 5.0], [3.0, 3.0], [0.0, 1.0]], dtype=torch.float64)
    kappa = torch.tensor([0.04, 0.02, 0.0, 0.01], dtype=torch.float64)
    assert said(checks.warn_of_small_kappa, tables, kappa, None) == []
    kappa[1] = 0.0199
    (found,) = said(checks.warn_of_small_kappa, tables, kappa, list("abcd"))
    assert "small against the range of the values in 1 of 4 tables (b)" in found
    assert "such as 0.2 (4 % of the range" in found
    kappa[0] = 0.0
    none, small = said(checks.warn_of_small_kappa, tables, kappa, None)
    assert "kappa is 0 in 1 of 4 tables (table 0), since" in none
    assert "such as 0.4 (" in none
    assert "1 of 4 tables (table 1)" in small


def test_tables_that_stopped_short_are_named_with_the_largest_gap():
    gap, converged = torch.tensor([1e-6, 3e-3, 2e-4]), torch.tensor([True, False, False])
    (found,) = said(checks.warn_of_gap, gap, converged, 1e-5, None)
    assert "tolerance=1e-05 in 2 of 3 tables (table 1, table 2)" in found
    assert "gap is 0.003," in found
    assert said(checks.warn_of_gap, gap, converged | True, 1e-5, None) == []
    (alone,) = said(checks.warn_of_gap, gap[:1], converged[:1] & False, 1e-5, None)
    assert "in 1 of 1 tables; the largest" in alone
    text = checks.too_large_a_gap(gap, ~converged, 0.1, 5, ["x", "y", "z"])
    assert text.startswith("the effects of 2 of 3 tables (y, z) with 5 players may be")
    assert "gap is 0.003, and largest_gap=0.1" in text


@pytest.mark.parametrize(
    ("lowest", "highest", "good"), [(1e-10, 1e10, True), (0.9e-10, 1.0, False), (1.0, 1.1e10, False)]
)
def test_factors_of_weights_have_limits(lowest, highest, good):
    tables, cost = torch.zeros(3, 4).double(), torch.ones(2, 4)
    cost[0, 1], cost[1, 2] = lowest, highest
    if good:
        cost = cost.double()
        assert checks.weight_factors(cost, torch.Size([3]), tables).shape == (2, 4)
        each = cost.expand(3, 2, 4)
        assert checks.weight_factors(each, torch.Size([3]), tables).shape == (3, 2, 4)
        assert checks.weight_factors(cost[0], torch.Size([3]), tables).tolist() == [cost[0].tolist()] * 2
        assert checks.weight_factors(cost[None], torch.Size([3]), tables).shape == (3, 2, 4)
    else:
        with pytest.raises(ValueError, match=r"cost must be from 1e-10 to 1e\+10 everywhere"):
            checks.weight_factors(cost, torch.Size([3]), tables)


def test_kappa_is_of_each_table():
    tables = torch.tensor([[1.0, 0.0, 0.0, 5.0], [0.0, 0.0, 0.0, -2.0]], dtype=torch.float64)
    assert checks.largest_deviation(tables, torch.Size([2]), 0.1, None).flatten().tolist() == pytest.approx([0.4, 0.2])
    assert checks.largest_deviation(tables, torch.Size([2]), 0.1, 0.0).flatten().tolist() == [0.0, 0.0]
    assert checks.largest_deviation(tables, torch.Size([2]), 0.1, [1.0, 2.0]).flatten().tolist() == [1.0, 2.0]


def test_the_price_of_a_joint_decomposition_is_a_share():
    values = torch.zeros(5, 2, 8)
    assert checks.check_joint(0, values, None, "auto") == checks.check_joint(1, values, None, "auto") == 5
    for price in (-1e-9, 1 + 1e-9, True, "0.1"):
        with pytest.raises(ValueError, match="from 0 to 1"):
            checks.check_joint(price, values, None, "auto")


# ---------------------------------------------------------------- ADMM


@pytest.mark.parametrize(
    ("given", "largest"),
    [
        ({}, 0.0105),
        ({"pin_ends": False}, 0.01031),
        ({"kappa": 0.0}, 0.03493),
        ({"ridge": 0.0}, 0.06307),
        ({"kind": "and"}, 0.09645),
    ],
)
def test_two_hundred_steps_of_admm_come_near(given, largest):
    problem = batch(5, 4, **given)
    now = next(admm.iterate(problem, 200, torch.float64))
    assert not now.effects[..., 0].any()
    constant = now.constant.clamp(-problem.slack[:, :1], problem.slack[:, :1])
    if problem.pinned:
        assert float(now.constant.abs().max()) < 1e-9
    gap = relative_gap(problem.penalty(problem.repaired(now.effects, constant)), problem.bound(now.dual))
    assert float(gap.mean()) <= 1.02 * largest


# ---------------------------------------------------------------- several tables jointly


def joint_problem(tables=3, n=3, price=0.3, **given):
    return _Joint(batch(n, 2 * tables, **given), tables, price)


def owl(sizes, weight, price):
    """The price of one set's effects in several tables."""
    return weight * (max(sizes) + price * (sum(sizes) - max(sizes)))


@pytest.mark.parametrize("price", [0.0, 0.3, 1.0])
def test_the_joint_sum_is_what_it_stands_for(price):
    joint = joint_problem(price=price)
    effects = random(6, 2, 8, seed=5)
    found = joint.penalty(effects)
    for group in range(2):
        own = effects[group::2]
        total = 0.0
        for half in range(2):
            for s in range(8):
                sizes = own[:, half, s].abs().tolist()
                weight = float(joint.problem.weights[half, s])
                if weight < 1e9:
                    total += owl(sizes, weight, price) + 0.3 / 2 * sum(x * x for x in sizes)
        assert float(found[group]) == pytest.approx(total)


@pytest.mark.parametrize("price", [0.0, 0.3, 1.0])
def test_the_proximal_operator_meets_its_conditions(price):
    joint = joint_problem(price=price)
    x, weights = 2 * random(3, 2, 2, 8, seed=6), 0.5 + random(2, 8, seed=7).abs()
    near = joint.near(x, weights)
    rest = x - near  # within the ball of the dual norm, and aligned with the result (Moreau)
    for group in range(2):
        for half in range(2):
            for s in range(8):
                left = sorted((abs(t) for t in rest[:, group, half, s].tolist()), reverse=True)
                weight = float(weights[half, s])
                sums = [sum(left[: k + 1]) / (1 + k * price) for k in range(3)]
                assert max(sums) <= weight * (1 + 1e-9)
                product = float((near[:, group, half, s] * rest[:, group, half, s]).sum())
                assert product == pytest.approx(owl(near[:, group, half, s].abs().tolist(), weight, price), abs=1e-9)
    shrunk = joint.shrink(x.view(6, 2, 8), torch.empty(6, 2, 8).double(), 40.0)
    expected = joint.near(x, joint._weights / 40.0) / (1 + 0.3 / 40.0)
    torch.testing.assert_close(shrunk[..., 1:], expected.view(6, 2, 8)[..., 1:])
    assert torch.equal(shrunk[..., 0], x.view(6, 2, 8)[..., 0])


@pytest.mark.parametrize("ridge", [0.0, 0.3])
@pytest.mark.parametrize("price", [0.0, 0.3, 1.0])
def test_the_joint_bound_is_the_best_of_the_multiples_of_a_dual_vector(price, ridge):
    joint = joint_problem(price=price, ridge=ridge)
    problem = joint.problem
    dual = problem.values + 0.2 * random(6, 8, seed=8)
    found = joint.bound(dual)
    dual = torch.cat([-dual[:, 1:].sum(1, keepdim=True), dual[:, 1:]], 1)
    sums = (dual @ written_out(3)).view(3, 2, 2, 8) * torch.isfinite(problem.weights)
    gain = ((problem.values * dual).sum(1) - (problem.slack * dual.abs()).sum(1)).view(3, 2).sum(0)
    factors = torch.linspace(0, 2, 1601, dtype=torch.float64)
    for group in range(2):
        own = sums[:, group]
        if ridge:
            over = torch.stack([joint.near(factor * own[:, None], joint._weights).square().sum() for factor in factors])
            best = float((factors * gain[group] - over / (2 * ridge)).max())
        else:
            largest = own.abs().sort(0, descending=True).values
            norms = torch.stack([largest[: k + 1].sum(0) / (1 + k * price) for k in range(3)]).amax(0)
            best = float(gain[group] / (norms / problem.weights).max())
        assert best > 0
        assert float(found[group]) == pytest.approx(best, rel=2e-3 if ridge else 1e-9)


def test_repairs_are_feasible_and_the_second_one_is_by_and_effects_alone():
    problem = batch(3, 2)
    effects = 0.1 * random(2, 2, 8) * torch.isfinite(problem.weights)
    both, ands = _repairs(problem, effects, torch.zeros(2, 1).double())
    for found in (both, ands):
        assert float(problem.excess(found)[:, 1:].abs().max()) < 1e-12
    assert torch.equal(ands[:, 1], effects[:, 1])
    assert not torch.equal(both[:, 1], effects[:, 1])


# ---------------------------------------------------------------- programs with ties, ranges


def test_a_program_with_ties_and_without_slack_ends_at_a_vertex():
    values = torch.tensor([0.0, 1, 1, 0, 1, 0, 0, 1], dtype=torch.float64)  # parity
    like = problem_of(3, kappa=0.0, ridge=0.0, order_weight=0.0)
    problem = batch_of(Problem(values, like.slack, like.weights, 0.0, True))
    nothing = torch.zeros(1, 2, 8).double()
    (found,) = exact.solve(problem, nothing, nothing[:, 0], 1e-5)
    assert found.gap < 1e-9
    assert float(problem.excess(found.effects[None])[:, 1:].abs().max()) < 1e-11
    columns = written_out(3)[1:, found.effects.flatten() != 0]
    assert int(torch.linalg.matrix_rank(columns)) == columns.shape[1]


@pytest.mark.parametrize("level", [0.5, 2.0])
@pytest.mark.parametrize("slope", [-3.0, -1.5, -0.5, 0.0, 0.5, 1.5, 3.0])
@pytest.mark.parametrize("weight", [1.0, 2.0])
def test_the_furthest_point_within_the_budget(level, slope, weight):
    found = ranges._end(level, slope, weight, 1.0)
    points = torch.linspace(-50, 50, 1_000_001, dtype=torch.float64)
    within = points[level - slope * points + weight * points.abs() <= 1.0]
    if not len(within):
        assert found == float("-inf")
    elif float(within[-1]) == 50.0:
        assert found == float("inf")
    else:
        assert found == pytest.approx(float(within[-1]), abs=2e-4)


def test_chords_between_explanations_bound_an_end_from_inside():
    side = ranges._Side(0, 1.0, [(0.0, 1.0)], 2.0, 9.0)
    side.add(3.0, 4.0)  # on the chord the cost is 2 at 1
    assert (side.inner, side.outer) == (pytest.approx(1.0), 9.0)
    side.add(2.0, 2.0)
    assert side.inner == 2.0
    side.add(4.0, 9.0)  # from (2, 2) nothing is left of the budget
    assert side.inner == 2.0
    side.add(2.5, 1.5)
    assert side.inner == pytest.approx(2.5 + 0.5 * 0.5 / 2.5)
    late = ranges._Side(0, 1.0, [(0.0, 1.0)], 2.0, 0.5)
    late.add(1.0, 1.0)
    assert late.outer == 1.0


def test_the_next_point_is_near_then_where_the_tangent_ends_then_between():
    search = object.__new__(ranges._Search)
    search.weights, search.budget = [4.0], 8.0
    side = ranges._Side(0, 1.0, [(0.0, 1.0)], 8.0, 3.0, 1.0)
    assert [search._next(side, turn) for turn in range(7)] == [2.0, 3.0, 3.0, 2.0, 3.0, 3.0, 2.0]
    side.inner = 0.0
    assert search._next(side, 0) == pytest.approx(0.02)
    side.outer = 0.01
    assert search._next(side, 0) == 0.01
    assert all(a <= b for a, b in pairwise([side.inner, side.outer]))
