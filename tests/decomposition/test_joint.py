"""Joint decomposition of several tables against an explicit linear program."""

import numpy as np
import pytest
import torch
from scipy import sparse
from scipy.optimize import linprog

from captum_lkn import DecompositionOptions, decompose

N, TABLES = 3, 3


@pytest.fixture(scope="module")
def tables():
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(1, 1, 1 << N, generator=generator, dtype=torch.float64)
    found = first + 0.4 * torch.randn(TABLES, 1, 1 << N, generator=generator, dtype=torch.float64)
    found[..., -1] = found[..., 0] + torch.tensor([[1.5], [2.0], [2.5]])  # kappa is a share of this
    return found


def price_of(ands, ors, alpha, options):
    """Return the sum that is minimised, from effects [K, 2^n] of one group, without the ridge."""
    order = torch.tensor([s.bit_count() for s in range(1 << N)])
    weights = 1 + options.order_weight * (order - 1.0)
    total = 0.0
    for effects, factor in ((ands, 1.0), (ors, options.or_weight)):
        size = effects[:, 1:].abs()
        norm = size.amax(0) + alpha * (size.sum(0) - size.amax(0))
        total += float((factor * weights[1:] * norm).sum())
    return total


def least(group, alpha, options):
    """Return the optimum of the linear program, written out by the definition."""
    sets = np.arange(1, 1 << N)
    wide = np.array([s for s in sets if int(s).bit_count() > 1])
    masks = np.arange(1 << N)
    design = np.hstack([(masks[:, None] & sets) == sets, (masks[:, None] & wide) != 0]).astype(float)
    order = np.array([int(s).bit_count() for s in (*sets, *wide)])
    weights = (1 + options.order_weight * (order - 1.0)) * np.repeat([1, options.or_weight], [len(sets), len(wide)])
    effects, rows, bounds = len(weights), [], []
    for place, table in enumerate(group.numpy()):
        slack = np.full(len(table), options.noise * abs(table[-1] - table[0]))
        constant = np.ones((len(table), 1))
        if options.pin_ends:
            slack[[0, -1]] = 0
            constant[:] = 0
        block = [sparse.csr_matrix((len(table), 2 * effects + 1))] * TABLES
        block[place] = sparse.csr_matrix(np.hstack([design, -design, constant]))
        block = sparse.hstack([*block, sparse.csr_matrix((len(table), effects))])
        shifted = table - table[0]
        rows += [block, -block]
        bounds += [shifted + slack, slack - shifted]
    below = sparse.hstack([sparse.identity(effects), sparse.identity(effects), sparse.csr_matrix((effects, 1))])
    rows.append(
        sparse.hstack([sparse.block_diag([below] * TABLES), sparse.vstack([-sparse.identity(effects)] * TABLES)])
    )
    bounds.append(np.zeros(TABLES * effects))
    cost = np.concatenate([*[alpha * weights, alpha * weights, [0.0]] * TABLES, (1 - alpha) * weights])
    free = [*[(0, None)] * (2 * effects), (None, None)] * TABLES + [(0, None)] * effects
    return linprog(cost, A_ub=sparse.vstack(rows).tocsr(), b_ub=np.concatenate(bounds), bounds=free).fun


@pytest.mark.parametrize(("alpha", "pin_ends"), [(0.0, True), (0.1, False), (0.5, True)])
def test_the_sum_is_the_least_one_of_the_linear_program_within_the_certified_gap(tables, alpha, pin_ends):
    options = DecompositionOptions(ridge=0.0, pin_ends=pin_ends)
    found = decompose(tables, options=options, tolerance=1e-2, joint=alpha)
    assert bool(found.converged.all())
    assert bool((found.residual.abs() <= found.kappa[..., None] + 1e-12).all())
    torch.testing.assert_close(found.reconstruct() + found.residual, tables)
    optimum = least(tables[:, 0], alpha, options)
    reached = price_of(found.and_effects[:, 0], found.or_effects[:, 0], alpha, options)
    assert optimum * (1 - 1e-9) <= reached <= optimum * (1 + float(found.gap[0, 0]) + 1e-9)


def test_a_price_of_one_is_the_independent_decomposition(tables):
    same = tables / (tables - tables[..., :1]).abs().amax(-1, keepdim=True)  # the ridge is in units of the range
    alone, jointly = decompose(same), decompose(same, joint=1.0, tolerance=1e-5)
    for name in ("and_effects", "or_effects"):
        torch.testing.assert_close(getattr(jointly, name), getattr(alone, name), atol=0.03, rtol=0)


def test_equal_tables_get_equal_effects_and_each_group_its_own(tables):
    equal = torch.cat([tables[:1].repeat(2, 1, 1), tables[:2]], 1)
    found = decompose(equal, joint=0.1, tolerance=1e-4)
    torch.testing.assert_close(found.and_effects[0, 0], found.and_effects[1, 0], atol=1e-9, rtol=0)
    one = decompose(equal[:, 1], joint=0.1, tolerance=1e-4)
    torch.testing.assert_close(one.and_effects, found.and_effects[:, 1], atol=1e-9, rtol=0)


def test_tables_share_more_of_their_effects_the_less_it_costs(tables):
    def spread(joint):
        found = decompose(tables, joint=joint)
        effects = torch.cat([found.and_effects, found.or_effects], -1)
        return float((effects - effects.mean(0)).abs().sum())

    assert spread(0.0) < spread(1.0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"joint": -0.1}, "from 0 to 1; got -0.1"),
        ({"joint": True}, "from 0 to 1; got True"),
        ({"joint": 0.1, "cost": torch.ones(1 << N)}, "got cost"),
        ({"joint": 0.1, "solver": "highs"}, "got solver='highs'"),
    ],
)
def test_what_does_not_go_with_it_is_refused(tables, arguments, said):
    with pytest.raises(ValueError, match=said):
        decompose(tables, **arguments)


def test_one_table_is_refused(tables):
    with pytest.raises(ValueError, match=r"values \[K, \.\.\., 2\^n\]; got \[8\]"):
        decompose(tables[0, 0], joint=0.1)


def test_steps_are_counted_until_the_limit_for_the_groups_that_are_not_done(tables):
    both = torch.cat([tables, torch.zeros_like(tables)], 1)  # the second group has nothing to explain
    with pytest.warns(UserWarning, match=r"3 of 6 tables \(table 0, table 2, table 4\)"):
        found = decompose(both, joint=0.1, max_steps=7, tolerance=1e-9, kappa=0.1, largest_gap=1e9)
    assert found.steps.tolist() == [[7, 0]] * TABLES
