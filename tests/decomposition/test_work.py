"""The work of the solvers in steps, which no load of the machine changes, and the equations that the steps solve.

The numbers are those that were measured; 5 % more are for machines that round differently.
"""

from types import SimpleNamespace

import pytest
import torch
from solver_problems import batch, batch_of, problem_of, program_of, random, written_out

from captum_lkn import decompose
from captum_lkn.decomposition import lattice
from captum_lkn.decomposition.solvers import admm, equality, exact, generation, guess, highs, interior, vertex
from captum_lkn.decomposition.solvers.crossover import cross_over
from captum_lkn.decomposition.solvers.equations import Equations
from captum_lkn.decomposition.solvers.guess import _solve, solve_guessed
from captum_lkn.decomposition.solvers.narrow import narrow, without_slack
from captum_lkn.decomposition.solvers.point import Point
from captum_lkn.decomposition.solvers.problem import Problem, adjoint, relative_gap, synthesis

PROGRAM = {"ridge": 0.0}
FREE = {"pin_ends": False}
EXACT = {"kappa": 0.0}
TIGHT = {"kappa": 1e-7}


pytestmark = pytest.mark.usefixtures("one_thread")


def planted(n, seed, count=6, **given):
    """A table of few effects, met exactly where no kappa is given."""
    problem = problem_of(n, seed=seed, **{"kappa": 0.0, **given})
    generator = torch.Generator().manual_seed(seed)
    effects = torch.zeros(2, 2**n, dtype=torch.float64)
    effects[0, torch.randint(1, 2**n, (count,), generator=generator)] = random(count, seed=seed)
    sets = torch.randint(1, 2**n, (count,), generator=generator)
    sets = sets[(sets & (sets - 1)) != 0]
    effects[1, sets] = random(len(sets), seed=seed + 1)
    values = synthesis(effects)
    return Problem(values / values.abs().max(), problem.slack, problem.weights, problem.ridge, problem.pinned)


def gap_of(problem, found):
    assert float(problem.excess(found.effects.view(2, -1), found.constant)[1:].abs().max()) < 1e-10
    return float(relative_gap(problem.penalty(found.effects.view(2, -1)), problem.bound(found.dual)))


def test_few_steps_solve_sparse_tables_without_slack():
    for given, most in (({}, 52), (PROGRAM, 59)):
        steps = 0
        for seed in range(4):
            problem = planted(7, seed, **given)
            rough = next(admm.iterate(batch_of(problem), 50, torch.float32))
            found = equality.solve(problem, rough.dual[0])
            assert gap_of(problem, SimpleNamespace(**vars(found), constant=0.0)) < 1e-9
            steps += found.steps
        assert steps <= 1.05 * most


def test_dense_tables_without_slack_are_not_taken_for_sparse_ones():
    problem = problem_of(7, kappa=0.0)
    rough = next(admm.iterate(batch_of(problem), 50, torch.float32))
    assert equality.solve(problem, rough.dual[0]) is None


@pytest.mark.parametrize(
    ("given", "most"), [({}, 154), (PROGRAM, 177), (FREE, 178), (EXACT, 91)], ids=["slack", "program", "free", "exact"]
)
def test_few_pivots_lead_from_wrong_sets_to_the_optimum(given, most):
    pivots = 0
    for seed in range(6):
        problem = problem_of(3, seed=seed, **given)
        generator = torch.Generator().manual_seed(seed)
        effects = random(16, seed=seed) * (torch.rand(16, generator=generator) < 0.3)
        dual = random(8, seed=seed + 1) * (torch.rand(8, generator=generator) < 0.3)
        found = cross_over(program_of(problem), effects, 0.0, dual, 2000)
        assert found.finished
        assert gap_of(problem, found) < 1e-9
        pivots += found.pivots
    assert pivots <= 1.05 * most


@pytest.mark.parametrize("kappa", [0.04, 0.3])
@pytest.mark.parametrize("n", [3, 4])
@pytest.mark.parametrize("pin_ends", [True, False])
def test_from_the_right_sets_no_pivot_is_needed(n, kappa, pin_ends):
    problem = batch(n, 4, kappa=kappa, pin_ends=pin_ends)
    warm = next(admm.iterate(problem, 200, torch.float64))
    for place, best in enumerate(exact.solve(problem, warm.effects, warm.dual, 1e-6)):
        for constant in (best.constant, 0.0):
            found = cross_over(program_of(problem[place]), best.effects.flatten(), constant, best.dual, 500)
            assert found.finished
            assert found.pivots == 0
            assert found.constant == pytest.approx(best.constant, abs=1e-9)
            torch.testing.assert_close(found.effects, best.effects.flatten(), rtol=0, atol=1e-9)


def test_a_crossover_stops_at_the_pivots_that_it_may_take():
    problem = problem_of(4)
    found = cross_over(program_of(problem), torch.zeros(32).double(), 0.0, torch.zeros(16).double(), 3)
    assert not found.finished
    assert found.pivots == 3


@pytest.mark.parametrize(
    ("given", "n", "count", "most"),
    [
        ({}, 4, 6, 25),
        ({}, 6, 3, 14),
        (PROGRAM, 4, 6, 24),
        (PROGRAM, 7, 1, 11),
        (FREE, 4, 6, 25),
        (FREE, 6, 3, 16),
        (EXACT, 6, 3, 20),
        ({**EXACT, **PROGRAM}, 6, 3, 48),  # pivots of the simplex method among them, a tenth of a step each
        (TIGHT, 6, 3, 20),
        ({**TIGHT, **PROGRAM}, 7, 1, 27),
    ],
)
def test_few_steps_lead_to_the_optimum(given, n, count, most):
    problem = batch(n, count, **given)
    warm = next(admm.iterate(problem, 200, torch.float32))
    found = exact.solve(problem, warm.effects, warm.dual, 1e-5)
    for place, one in enumerate(found):
        assert gap_of(problem[place], one) < 1e-9
        assert one.gap < 1e-9
        assert not one.out_of_steps
        assert one.bound == pytest.approx(float(problem[place].penalty(one.effects)), rel=1e-9)
    assert sum(one.steps for one in found) <= max(1.05 * most, most + 1)


@pytest.mark.parametrize(("given", "most"), [({}, 49), (FREE, 40)], ids=["pinned", "free"])
def test_few_steps_solve_sparse_tables_with_slack(given, most):
    steps = 0
    for seed in range(3):
        problem = planted(7, seed, kappa=0.04, **given)
        rough = next(admm.iterate(batch_of(problem), 50, torch.float32))
        found = generation.solve(problem, rough.effects[0], rough.dual[0])
        assert gap_of(problem, found) < 1e-9
        steps += found.steps
    assert steps <= 1.05 * most


# ---------------------------------------------------------------- equations


def test_rows_of_the_first_small_problem(monkeypatch):
    monkeypatch.setattr(generation, "_ROWS", 3)
    problem = problem_of(7, pin_ends=False)
    dual = torch.zeros(128, dtype=torch.float64)
    dual[[15, 23, 29, 39]] = torch.tensor([-0.4, 0.1, 0.3, 0.2], dtype=torch.float64)
    chosen = set(generation._first_rows(problem, dual).nonzero().flatten().tolist())
    order = {s: s.bit_count() for s in range(128)}
    always = {s for s in range(128) if order[s] <= 2 or order[s] >= 6} | {15, 29, 39}
    assert always <= chosen
    assert len(chosen - always) <= 3  # by chance
    assert chosen == set(generation._first_rows(problem, dual).nonzero().flatten().tolist())


def test_the_largest_entries_are_among_the_chosen_ones(monkeypatch):
    monkeypatch.setattr(generation, "_ROWS", 2)
    size = torch.tensor([5.0, 1.0, 4.0, 3.0])
    assert generation._largest(size, torch.tensor([True, True, False, True])).tolist() == [True, False, False, False]
    assert generation._largest(size, torch.tensor([True] * 4)).tolist() == [True, False, True, False]


def test_rounding_of_the_dividends_is_no_effect_where_the_rows_do_not_need_it():
    # Additive but for rounding: a third of the dividends of larger sets would be some 1e-16.
    n, shares = 5, torch.tensor([0.1, 0.2, 0.3, -0.7, 0.9], dtype=torch.float64)
    values = torch.stack([shares[[i for i in range(n) if s >> i & 1]].sum() for s in range(2**n)])
    problem = Problem(values, torch.zeros_like(values), problem_of(n).weights, 0.1, True)
    for effects in generation.free_solutions(problem):
        assert effects.nonzero().tolist() == [[0, 1 << i] for i in range(n)]
    # What rows need stays, however small.
    one = torch.zeros_like(values)
    one[-1], one[3] = 1.0, 5e-11
    small = Problem(one, torch.zeros_like(one), problem_of(n).weights, 0.1, True)
    ands, _ = generation.free_solutions(small)
    assert float(ands[0, 3]) == 0.0  # below 1e-10, in units of the range
    one[3] = 2e-10
    ands, _ = generation.free_solutions(Problem(one, torch.zeros_like(one), small.weights, 0.1, True))
    assert float(ands[0, 3]) == pytest.approx(2e-10)


@pytest.mark.parametrize("pin_ends", [True, False])
@pytest.mark.parametrize("n", [4, 7], ids=["small", "large"])
def test_the_solution_on_guessed_sets_meets_their_equations(n, pin_ends):
    problems = batch(n, 2, pin_ends=pin_ends)
    size = 2**n
    sign, side = torch.zeros(2, 2 * size, dtype=torch.float64), torch.zeros(2, size, dtype=torch.float64)
    for table, count in enumerate((3, 5)):
        for place, s in enumerate(range(3, 3 + 2 * count)):
            sign[table, s if place % 2 else size + s] = 1.0 if place % 3 else -1.0
        sign[table, size:][[1, 2, 4, 8]] = 0
        for place in range(count - 1):
            side[table, 2 + 3 * place] = 1.0 if place % 2 else -1.0
    equal = torch.zeros(2, size, dtype=torch.bool)
    if pin_ends:
        equal[:, -1] = True
    weights = problems.weights.flatten().expand(2, -1)
    found = _solve(problems, weights, equal, sign, side, random(2, size), None)
    for table in range(2):
        assert_solved(problems[table], equal[table], sign[table], side[table], *(t[table] for t in found[:4]))


def assert_solved(problem, equal, sign, side, x, constant, y, exactly):
    """Check the solution of one table on given sets against the matrix written out."""
    assert bool(exactly)
    z = written_out(problem.n)
    support, rows = sign != 0, (side != 0) | equal
    assert not x[~support].any()
    assert not y[~rows].any()
    missed = problem.values - constant - z @ x
    torch.testing.assert_close(missed[rows], (side * problem.slack)[rows], rtol=0, atol=1e-11)
    slope = z.T @ y - problem.ridge * x - (sign * problem.weights.flatten()).nan_to_num()
    assert float(slope[support].abs().max()) < 1e-9
    if problem.pinned:
        assert float(constant) == 0
    else:
        assert abs(float(y.sum())) < 1e-10


@pytest.mark.parametrize("pin_ends", [True, False])
@pytest.mark.parametrize("every", [True, False], ids=["all rows", "some rows"])
def test_sets_that_differ_little_from_factored_ones_border_their_equations(pin_ends, every, monkeypatch):
    monkeypatch.setattr(guess, "_LARGE", 0)
    n, size = 7, 128
    problem = batch(n, 1, pin_ends=pin_ends)
    weights = problem.weights.flatten().unsqueeze(0)
    equal = torch.zeros(1, size, dtype=torch.bool)
    equal[:, 1 if every else size - 1 :] = every or pin_ends
    sign, side = torch.zeros(1, 2 * size, dtype=torch.float64), torch.zeros(1, size, dtype=torch.float64)
    for place, s in enumerate(range(3, size if every else 40)):
        sign[0, s if place % 2 else size + s] = 1.0 if place % 3 else -1.0
    if every:
        sign[0, 1:size] = 1.0  # so that all rows can be met
    sign[0, size + (1 << torch.arange(n))] = 0
    side[0, 2:40:3] = torch.where(equal[0, 2:40:3], 0.0, 1.0)
    *_, factored = _solve(problem, weights, equal, sign, side, random(1, size), None)
    assert factored is not None
    sign, side = sign.clone(), side.clone()
    for position in (50, size + 70, size + 73, 5, size + 6):
        sign[0, position] = 1.0 - sign[0, position].abs()
    if not every:
        side[0, [2, 11]] = 0
        side[0, [60, 61]] = -1.0
    monkeypatch.setattr(torch.linalg, "cholesky_ex", None)  # nothing is factored anew
    found = _solve(problem, weights, equal, sign, side, random(1, size, seed=1), factored)
    assert_solved(problem[0], equal[0], sign[0], side[0], *(t[0] for t in found[:4]))


@pytest.mark.parametrize("n", [4, 7])
def test_a_guess_with_rows_that_contradict_each_other_or_without_effects_is_no_guess(n):
    problem = batch(n, 3)
    effects, dual = torch.zeros(3, 2, 2**n).double(), torch.zeros(3, 2**n).double()
    effects[:2, 0, 3] = 1.0
    dual[[0, 2]] = torch.tensor([0.0, 1.0, 1.0, 0.0, 1.0]).double().repeat(2**n)[: 2**n]
    for tables in ([0, 1, 2], [0], [2]):
        found = solve_guessed(problem[torch.tensor(tables)], effects[tables], dual[tables])
        assert [rounds > 0 for rounds in found.rounds.tolist()] == [table < 2 for table in tables]
        for place, table in enumerate(tables):
            assert table == 1 or not bool(found.optimal[place])


def test_of_rows_that_depend_on_each_other_the_nearest_dual_vector_is_found():
    """Two of the players do nothing, so that more rows than effects are active."""
    problem = problem_of(4)
    values = torch.tensor([0.0, 0.6, -0.4, 1.0]).double().repeat(4)
    problem = batch_of(Problem(values, problem.slack, problem.weights, problem.ridge, problem.pinned))
    warm = next(admm.iterate(problem, 200, torch.float64))
    best = exact.solve(problem, warm.effects, warm.dual, 1e-6)[0]
    near = best.dual * (1 + 1e-2 * random(16))
    rows, support = near != 0, best.effects.flatten() != 0
    assert int(rows.sum()) > int(support.sum())
    found = solve_guessed(problem, best.effects[None], near[None])
    assert bool(found.optimal)
    assert found.rounds.tolist() == [1]
    torch.testing.assert_close(found.effects[0], best.effects, rtol=0, atol=1e-12)
    assert gap_of(problem[0], SimpleNamespace(effects=found.effects[0], constant=0.0, dual=found.dual[0])) < 1e-12
    # A change that no effect in play notices would lead away from the given vector for nothing. The square of a row's
    # change counts as often as effects reach the row.
    z = written_out(4)[rows][:, support]
    change = (found.dual[0] - near)[rows] * z.sum(1)
    assert float(change.abs().max()) > 1e-3
    torch.testing.assert_close(z @ (torch.linalg.pinv(z, rtol=1e-10) @ change), change, rtol=0, atol=1e-5)


def test_wrong_sets_of_a_large_table_are_mended_with_one_factor(monkeypatch):
    random_one = batch(11, 1)
    values = torch.relu(lattice.masks(11) * random(11, seed=5) @ random(11, 6, seed=6)) @ random(6, seed=7)
    values = (values - values[0])[None] / (values - values[0]).abs().max()
    problem = Problem(values, random_one.slack, random_one.weights, random_one.ridge, True)
    now = next(admm.iterate(problem, 300, torch.float64))
    best = exact.solve(problem, now.effects, now.dual, 1e-9)[0]
    sums, effects = adjoint(best.dual).flatten(), best.effects.flatten().clone()
    pressed = (sums.abs() / problem.weights.flatten()).masked_fill(effects != 0, 0)
    wrong = pressed.argsort(descending=True)[:5]  # the next to come into play
    effects[wrong] = 1e-3 * sums[wrong].sign()
    factored, whole = [], torch.linalg.cholesky_ex
    monkeypatch.setattr(torch.linalg, "cholesky_ex", lambda a, **other: factored.append(len(a)) or whole(a, **other))
    found = solve_guessed(problem, effects.view(1, 2, -1), best.dual[None])
    assert bool(found.optimal)
    assert int(found.rounds) > 1
    assert len(factored) == 1
    torch.testing.assert_close(found.effects[0], best.effects, rtol=0, atol=1e-9)


@pytest.mark.parametrize("pin_ends", [True, False])
def test_sets_without_a_row_are_no_guess(pin_ends):
    problem = batch(4, 2, pin_ends=pin_ends)
    effects = torch.zeros(2, 2, 16, dtype=torch.float64)
    effects[:, 0, 3] = 1
    assert not bool(solve_guessed(problem, effects, torch.zeros(2, 16, dtype=torch.float64)).optimal.any())


@pytest.mark.parametrize(("pin_ends", "optimal", "rounds"), [(True, 13, 34), (False, 13, 36)])
def test_a_guess_is_mended_in_few_rounds(pin_ends, optimal, rounds):
    problem = batch(5, 16, pin_ends=pin_ends)
    now = next(admm.iterate(problem, 100, torch.float64))
    point = Point(problem, now.effects, now.dual, exact=False, by_rows=pin_ends)
    for _ in range(3):
        point.refresh()
        point.admit()
        interior.advance(point)
    point.refresh()
    found = solve_guessed(problem, *point.guess())
    assert int(found.optimal.sum()) >= optimal - 1
    assert int(found.rounds.sum()) <= rounds + 2
    for row in found.optimal.nonzero().flatten().tolist():
        one = SimpleNamespace(effects=found.effects[row], constant=found.constant[row], dual=found.dual[row])
        assert gap_of(problem[row], one) < 1e-9


def path_of(problem, generator, row_proximal=1e-3):
    """A state of the crossover with random sets and data, as its equations read it."""
    program = program_of(problem)
    size = 2**problem.n

    def some(count):
        return torch.randn(count, generator=generator, dtype=torch.float64)

    exists = torch.isfinite(program.weights)
    sign = torch.where(exists & (some(2 * size) > 0.5), some(2 * size).sign(), torch.zeros(2 * size).double())
    equal = (program.slack == 0) & program.live
    side = torch.where(program.live & ~equal & (some(size) > 0.5), some(size).sign(), torch.zeros(size).double())
    finite = torch.where(exists, program.weights, torch.ones(2 * size).double())
    return SimpleNamespace(
        program=program,
        sign=sign,
        side=side,
        equal=equal,
        x=torch.zeros(2 * size).double(),
        y=torch.zeros(size).double(),
        centre_x=some(2 * size) * (sign != 0),
        centre_y=some(size) * program.live,
        centre_constant=some(1)[0] if program.has_constant else torch.zeros(()).double(),
        balance=some(1)[0],
        weights=(finite, some(2 * size)),
        slack=(program.slack, some(size)),
        values=(program.values, some(size)),
        proximal=0.02,
        curvature=problem.ridge + 0.02,
        row_proximal=row_proximal,
    )


def assert_equations(path, y, x, constant):
    """Check the optimality conditions at both ends of the line, with Z written out."""
    z = written_out(path.program.values.numel().bit_length() - 1)
    active, support = (path.side != 0) | path.equal, path.sign != 0
    for end in (0, 1):
        centre = 1.0 - end
        assert not y[end][~active].any()
        assert not x[end][~support].any()
        slope = z.T @ y[end] - path.sign * path.weights[end] + path.proximal * centre * path.centre_x
        torch.testing.assert_close((path.curvature * x[end])[support], slope[support], rtol=1e-7, atol=1e-7)
        left = path.values[end] - path.side * path.slack[end] - z @ x[end] - constant[end]
        left = left - path.row_proximal * (y[end] - centre * path.centre_y)
        assert float(left[active].abs().max()) < 1e-6
        if path.program.has_constant:
            balance = path.balance if end == 0 else -path.balance
            torch.testing.assert_close(
                y[end].sum() - 1e-6 * (constant[end] - centre * path.centre_constant), balance, rtol=1e-6, atol=1e-6
            )


@pytest.mark.parametrize("given", [{}, FREE, PROGRAM, {**EXACT, "order_weight": 0.0}], ids=["", "free", "lp", "exact"])
def test_the_equations_hold_while_effects_and_rows_come_and_go(given):
    generator = torch.Generator().manual_seed(3)
    path = path_of(problem_of(3, **given), generator)
    equations = Equations(path)
    assert equations.current
    assert_equations(path, *equations.solution())
    effects = torch.isfinite(path.program.weights).nonzero().flatten().tolist()
    rows = (path.program.live & ~path.equal).nonzero().flatten().tolist()
    for step in range(45):  # past the number of changes after which they are factored anew
        pick = int(torch.randint(0, 1 << 20, (1,), generator=generator))
        if step % 2 and rows:
            row = rows[pick % len(rows)]
            path.side[row] = 0.0 if path.side[row] != 0 else (1.0 if pick % 3 else -1.0)
            equations.toggle_row(row)
        else:
            effect = effects[pick % len(effects)]
            path.sign[effect] = 0.0 if path.sign[effect] != 0 else (1.0 if pick % 3 else -1.0)
            equations.toggle_effect(effect)
        if step % 4 == 3:
            assert_equations(path, *equations.solution())
    assert not equations.current
    again = Equations(path)
    for mine, fresh in zip(equations.solution(), again.solution(), strict=True):
        torch.testing.assert_close(mine, fresh, rtol=1e-6, atol=1e-6)


# ---------------------------------------------------------------- vertices, small tables inside large ones


@pytest.mark.parametrize("pin_ends", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_a_mixture_of_optima_is_moved_to_a_vertex(seed, pin_ends):
    n = 3
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(-3, 4, (2**n,), generator=generator).double()
    values = (values - values[0]) / (values - values[0]).abs().max()
    like = problem_of(n, kappa=0.0, pin_ends=pin_ends, order_weight=0.0, ridge=0.0)
    problem = Problem(values, like.slack, *rest(like))
    found = []
    for turn in range(6):  # small changes of the weights lead to other optima
        factors = 1 + 1e-7 * torch.rand(2, 2**n, generator=torch.Generator().manual_seed(turn), dtype=torch.float64)
        near = Problem(values, problem.slack, problem.weights * factors, 0.0, pin_ends)
        found.append(near.repaired(highs.solve(near)[0]))
    mixture = torch.stack(found).mean(0)
    moved = vertex.to_vertex(program_of(problem), mixture.flatten(), 0.0)
    assert moved is not None
    effects, constant = moved
    assert float(problem.excess(effects.view(2, -1), constant)[1:].abs().max()) < 1e-11
    assert float(problem.penalty(effects.view(2, -1))) <= float(problem.penalty(mixture)) + 1e-12
    columns = written_out(n)[1:, effects != 0]
    assert int(torch.linalg.matrix_rank(columns)) == columns.shape[1]
    assert int((effects != 0).sum()) <= int((mixture.flatten() != 0).sum())


def rest(problem):
    return problem.weights, problem.ridge, problem.pinned


def test_a_narrow_table_costs_what_the_wide_one_does_nearby():
    problem = problem_of(4, kappa=1e-7, ridge=0.3)
    (best,) = exact.solve(without_slack(batch_of(problem)), *(t[None] for t in zeros(4)), 1e-6)
    table = narrow(batch_of(problem), best.effects[None], 100.0, 1e-9)
    unit = table._unit
    assert float(table.problem.values.abs().max()) == pytest.approx(1.0)
    assert float(table.problem.slack.max()) * unit == pytest.approx(float(problem.slack.max()))
    inside = best.effects.abs() > 1e-3
    generator = torch.Generator().manual_seed(0)
    change = 1e-9 * torch.randn(1, 2, 16, generator=generator, dtype=torch.float64) * inside
    own = table.effects + change / unit
    wide, _ = table.widened(own, 0.0)
    torch.testing.assert_close(wide, best.effects[None] + change, rtol=0, atol=1e-12)
    cheap = float(table.problem.penalty(own) - table.problem.penalty(table.effects)) * unit
    dear = float(problem.penalty(wide[0]) - problem.penalty(best.effects))
    assert cheap == pytest.approx(dear, rel=1e-4)
    # An effect that loses its sign does not stand for the larger one.
    turned = table.effects.clone()
    turned.view(-1)[int(best.effects.abs().argmax())] *= -1
    assert table.widened(turned, 0.0) is None


def zeros(n):
    return torch.zeros(2, 2**n, dtype=torch.float64), torch.zeros(2**n, dtype=torch.float64)


def test_few_steps_lead_whole_effects_to_a_vertex(monkeypatch):
    steps, exchanged = [], vertex._exchanged

    def counted(moves, *given):
        steps.append(moves.shape[1])
        return exchanged(moves, *given)

    monkeypatch.setattr(vertex, "_exchanged", counted)
    n = 7
    generator = torch.Generator().manual_seed(0)
    present, values = lattice.masks(n).bool(), torch.zeros(2**n, dtype=torch.float64)
    for term in range(8):  # whole effects: many explanations cost the same
        members = torch.randperm(n, generator=generator)[: 1 + term % 4]
        values += present[:, members].all(1) if term % 2 else present[:, members].any(1)
    found = decompose(values, order_weight=0.0, or_weight=1.0, ridge=0.0)
    assert float(found.gap) < 1e-12
    assert max(steps) > 200  # so many columns depend on the others
    assert len(steps) <= 1.05 * 37  # one for each row and effect that is in the way
