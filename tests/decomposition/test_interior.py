"""The steps of the interior point against the conditions that they solve, and how many it takes."""

import oracles
import pytest
import torch
from solver_problems import batch, written_out

from captum_lkn.decomposition.solvers import admm, interior
from captum_lkn.decomposition.solvers import point as solvers_point
from captum_lkn.decomposition.solvers.narrow import without_slack
from captum_lkn.decomposition.solvers.point import Point
from captum_lkn.decomposition.solvers.problem import relative_gap

# How the linear systems are set up: pinned ends or a free constant, rows met exactly or with slack, by rows or effects.
FORMS = {
    "rows": ({"pin_ends": True}, False, True),
    "rows exactly": ({"kappa": 0.0}, True, True),
    "effects": ({"pin_ends": True}, False, False),
    "effects, free ends": ({"pin_ends": False}, False, False),
    "effects, free ends, program": ({"pin_ends": False, "ridge": 0.0}, False, False),
    "rows exactly, program": ({"kappa": 0.0, "ridge": 0.0}, True, True),
}


pytestmark = pytest.mark.usefixtures("one_thread")


EACH_FORM = pytest.mark.parametrize("form", FORMS)


def start(form, n, count, warm_up=20, *, cold=False):
    """Return the point from which ADMM's first steps lead on, or one far from it, and its problem."""
    given, exact, by_rows = FORMS[form]
    problem = batch(n, count, **given)
    warm = next(admm.iterate(problem, warm_up, torch.float64))
    posed = without_slack(problem) if exact else problem
    return Point(posed, warm.effects, warm.dual, exact=exact, by_rows=by_rows, cold=cold), posed


def stationarity(point, problem):
    """Return the residuals of the dual conditions at the effects in play, ``[B, 2, k]``, and the dual vector."""
    n = problem.n
    z = written_out(n)
    dual = torch.zeros_like(problem.values)
    of_rows = point.multipliers[..., point.width :]
    first = 1 if problem.pinned else 0
    if point.exact:
        dual[:, 1:] = point.end_dual
    else:
        dual[:, first : 2**n - first] = of_rows[:, 1] - of_rows[:, 0]
        if problem.pinned:
            dual[:, -1] = point.end_dual[:, 0]
    parts = point.primal[..., : point.width]
    x = parts[:, 0] - parts[:, 1]
    prices = problem.weights.flatten()[point.columns.positions]
    slope = (dual @ z).gather(1, point.columns.positions) - problem.ridge * x
    signed = torch.stack([slope, -slope], dim=1)
    left = prices.unsqueeze(1) - signed - point.multipliers[..., : point.width]
    return left.masked_fill(~point.columns.inside.unsqueeze(1), 0), dual, x


@EACH_FORM
def test_a_cold_start_is_feasible_and_leads_to_the_optimum(form):
    point, problem = start(form, 4, 3, warm_up=1, cold=True)
    point.refresh()
    assert not point.dual.any()
    assert float((point.missed.abs() - problem.slack)[:, 1:].max()) < 1e-12
    assert float(point.products.min()) > 0.2 * float(point.barrier.min())
    steps = 0
    while float(point.distance().max()) > 1e-9:
        point.refresh()
        point.admit()
        interior.advance(point)
        point.refresh()
        steps += 1
        assert steps < 25


@EACH_FORM
def test_a_whole_step_meets_all_conditions_that_are_linear(form, monkeypatch):
    n, count = 4, 3
    point, problem = start(form, n, count)
    for _ in range(2):
        point.refresh()
        point.admit()
        interior.advance(point)
    point.refresh()
    directions = []

    def whole(point, step, share):
        directions.append(step)
        return (torch.ones(count, dtype=torch.float64),) * 2

    monkeypatch.setattr(interior, "_lengths", whole)
    monkeypatch.setattr(interior, "_within_reach", lambda point, step, length: length)
    before_primal, before_multipliers = point.primal.clone(), point.multipliers.clone()
    interior.advance(point)
    left, dual, x = stationarity(point, problem)
    assert float(left.abs().max()) < 1e-9
    if not problem.pinned:
        assert float(dual.sum(-1).abs().max()) < 1e-9
    made = (point.columns.spread(x * point.columns.inside).flatten(1) @ written_out(n).T) + point.constant[:, None]
    missed = problem.values - made
    if point.exact:
        assert float(missed[:, 1:].abs().max()) < 1e-9
    else:
        distances = point.primal[..., point.width :]
        rows = slice(1, -1) if problem.pinned else slice(None)
        torch.testing.assert_close(missed[:, rows], (distances[:, 0] - distances[:, 1]) / 2, rtol=0, atol=1e-9)
        torch.testing.assert_close(distances.sum(1), 2 * problem.slack[:, rows], rtol=0, atol=1e-9)
        if problem.pinned:
            assert float(missed[:, -1].abs().max()) < 1e-9
    # The products go to the barrier, to first order; the corrector takes the second order of the probe into account.
    probe, step = directions
    count = 2 * (point.columns.inside.sum(-1) + problem.slack[:, point.rows].shape[1])
    mu = (before_primal * before_multipliers * inside(point)).sum((-2, -1)) / count
    after = ((before_primal + probe.primal) * (before_multipliers + probe.multipliers) * inside(point)).sum((-2, -1))
    barrier = mu * (after / count / mu).pow(3).clamp(0, 1)
    torch.testing.assert_close(point.barrier, barrier)
    product = before_primal * before_multipliers
    first = product + before_multipliers * probe.primal + before_primal * probe.multipliers
    assert float((first * inside(point)).abs().max()) < 1e-9
    change = before_multipliers * step.primal + before_primal * step.multipliers
    wanted = barrier[:, None, None] - product - probe.primal * probe.multipliers
    torch.testing.assert_close(change * inside(point), wanted * inside(point), rtol=1e-6, atol=1e-9)


def inside(point):
    """True where an entry is no padding, ``[B, 1, k + m]``."""
    rows = point.primal.shape[-1] - point.width
    return torch.nn.functional.pad(point.columns.inside, (0, rows), value=True).unsqueeze(1)


@EACH_FORM
def test_a_step_stops_short_of_the_nearest_bound(form):
    point, _ = start(form, 4, 3)
    point.refresh()
    point.admit()
    for _ in range(3):
        before = point.primal, point.multipliers
        interior.advance(point)
        for old, new in zip(before, (point.primal, point.multipliers), strict=True):
            shares = torch.where(inside(point), new / old, torch.ones_like(new))
            assert float(shares.min()) >= 0.005 - 1e-9
            # Each table takes the whole step, or goes as far as it may.
            assert (shares.flatten(1).amin(-1) <= 0.005 + 1e-9).any() or bool((shares > 0).all())
        point.refresh()


# Steps of all tables until the products are 1e-6 of the sum: those that were measured, and 5 % for other machines.
@pytest.mark.parametrize(
    ("form", "n", "count", "steps"),
    [
        ("rows", 6, 8, 78),
        ("rows exactly", 6, 8, 72),
        ("rows exactly, program", 6, 8, 82),
        ("effects", 7, 4, 74),
        ("effects, free ends", 6, 8, 116),
        ("effects, free ends, program", 7, 4, 84),
    ],
)
def test_few_steps_lead_near_the_optimum(form, n, count, steps):
    taken, point, problem = run(form, n, count)
    assert taken <= 1.05 * steps
    constant = point.constant[:, None].clamp(-problem.slack[:, :1], problem.slack[:, :1])
    effects = problem.repaired(point.columns.spread(point.x), constant)
    gap = relative_gap(problem.penalty(effects), problem.bound(point.dual))
    assert int((gap < 1e-3).sum()) >= 3 * count // 4  # some with free ends come no nearer


@pytest.mark.parametrize(("form", "n", "count", "steps"), [("effects", 7, 4, 64), ("rows exactly", 6, 8, 67)])
def test_correctors_of_large_tables_save_steps(form, n, count, steps, monkeypatch):
    monkeypatch.setattr(solvers_point, "LARGE_MIN_PLAYERS", n)
    monkeypatch.setattr(solvers_point, "_MOST", 2.0)
    taken, point, problem = run(form, n, count)
    assert taken <= 1.05 * steps
    gap = relative_gap(problem.penalty(problem.repaired(point.columns.spread(point.x))), problem.bound(point.dual))
    assert bool((gap < 1e-3).all())


@pytest.mark.parametrize("kappa", [0.05, 1e-3])
def test_large_tables_with_most_effects_in_play_are_eliminated_by_rows(kappa, monkeypatch):
    monkeypatch.setattr(solvers_point, "LARGE_MIN_PLAYERS", 6)
    monkeypatch.setattr(solvers_point, "_MOST", 0.2)
    problem = batch(6, 1, kappa=kappa, ridge=0.0, order_weight=0.0)
    warm = next(admm.iterate(problem, 20, torch.float64))
    point = Point(problem, warm.effects, warm.dual, exact=False, by_rows=False)
    assert point.columns.positions.shape[1] == 2 * 63 - 6
    for _ in range(40):
        point.refresh()
        if float(point.distance()) < 1e-9:
            break
        point.admit()
        interior.advance(point)
    least = oracles.sparse_optimum(problem.values[0].tolist(), kappa, problem.pinned, 0.0, "and-or")[0]
    reached = float(problem.penalty(problem.repaired(point.columns.spread(point.x))))
    assert abs(reached - least) < 1e-7 * least
    assert abs(float(problem.bound(point.dual)) - least) < 1e-7 * least


def run(form, n, count):
    point, problem = start(form, n, count)
    taken = 0
    for _ in range(40):
        point.refresh()
        far = point.distance() > 1e-6
        if not bool(far.any()):
            break
        taken += int(far.sum())
        point.admit()
        interior.advance(point)
    return taken, point, problem


@pytest.mark.parametrize("form", ["rows", "effects", "effects, free ends"])
def test_each_table_is_corrected_whatever_others_need(form, monkeypatch):
    monkeypatch.setattr(interior, "_SHORT", 0.5)
    corrected, where = [], interior._Step.where

    def chosen(self, tables, other):
        corrected.append(int(tables.sum()))
        return where(self, tables, other)

    monkeypatch.setattr(interior._Step, "where", chosen)
    given, exact, by_rows = FORMS[form]
    if by_rows:
        monkeypatch.setattr(interior, "_WIDE", 1)  # no step by rows is corrected because it is short
    problem = batch(5, 6, **given)
    warm = next(admm.iterate(problem, 5, torch.float64))
    together = steps_of(problem, warm.effects, warm.dual, exact, by_rows)
    assert any(0 < number < 6 for number in corrected)
    for i in range(6):
        alone = steps_of(problem[[i]], warm.effects[[i]], warm.dual[[i]], exact, by_rows)
        for name in ("primal", "multipliers", "constant", "end_dual"):
            assert torch.equal(getattr(alone, name)[0], getattr(together, name)[i]), name


def steps_of(problem, effects, dual, exact, by_rows, number=8):
    point = Point(problem, effects, dual, exact=exact, by_rows=by_rows)
    for _ in range(number):
        point.refresh()
        point.admit()
        interior.advance(point)
    return point
