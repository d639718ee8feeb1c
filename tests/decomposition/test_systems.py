"""The linear systems of the interior point and of guessed sets, against their matrices written out."""

import pytest
import torch
from solver_problems import batch_of, problem_of, program_of, random, written_out

from captum_lkn.decomposition.solvers import exact, generation, guess, interior, newton
from captum_lkn.decomposition.solvers.crossover import cross_over
from captum_lkn.decomposition.solvers.newton import (
    Columns,
    Factor,
    Factors,
    SampledColumns,
    all_rows_gram,
    chosen_rows_gram,
)


def in_play(n, positions):
    """The mask of :class:`Columns` for some positions of each table."""
    result = torch.zeros(len(positions), 2 * 2**n, dtype=torch.bool)
    for row, chosen in enumerate(positions):
        result[row, chosen] = True
    return result


@pytest.mark.parametrize("n", range(1, 8))
@pytest.mark.parametrize("share", [0.2, 1.0], ids=["some effects", "all effects"])
def test_the_gram_matrix_of_effects_in_play_is_that_of_the_matrix_written_out(n, share):
    generator = torch.Generator().manual_seed(n)
    chosen = torch.rand(3, 2 * 2**n, generator=generator) < share
    chosen[:, 0] = chosen[:, 2**n] = False  # the empty set
    chosen[:, 1] = True
    columns, weights, z = Columns(chosen, n), random(3, 2**n, seed=n), written_out(n)
    gram = columns.gram(weights).tril()
    for row in range(3):
        mine, count = z[:, chosen[row]], int(chosen[row].sum())
        expected = mine.T @ (weights[row].unsqueeze(1) * mine)
        there = columns.inside[row]
        assert int(there.sum()) == count
        mine = gram[row]
        torch.testing.assert_close(mine[there][:, there], expected.tril(), rtol=0, atol=1e-11)
        assert not mine[~there].any()
        assert not mine[:, ~there].any()


def test_effects_in_play_are_columns_of_the_matrix():
    positions = [[1, 3, 7], [8 + 3, 8 + 5], [1, 2, 8 + 7]]
    columns, z = Columns(in_play(3, positions), 3), written_out(3)
    x = random(*columns.positions.shape) * columns.inside  # tables have different numbers of AND and OR effects
    assert columns.inside.sum(-1).tolist() == [3, 2, 3]
    assert torch.equal(columns.take(columns.spread(x)), x)
    for row, chosen in enumerate(positions):
        there = columns.inside[row]
        assert columns.positions[row, there].tolist() == chosen
        torch.testing.assert_close(columns.synthesis(x)[row], z[:, chosen] @ x[row, there], rtol=0, atol=1e-14)
    kept = columns[torch.tensor([2])]
    torch.testing.assert_close(kept.synthesis(x[2:]), columns.synthesis(x)[2:], rtol=0, atol=0)


def test_columns_of_each_table_apart_are_its_own_and_keep_their_look_ups():
    """Also after one effect has joined in one table, and after a table has left."""
    positions = [[1, 3, 7], [8 + 3, 8 + 5], [1, 2, 8 + 7]]
    z, weights, x = written_out(3), random(3, 8, seed=1).abs(), random(3, 6, seed=2)
    before = Columns(in_play(3, positions), 3)
    for _, own in before.apart():
        own.gram(weights[:1])
    positions[1].append(8 + 6)
    joined = Columns(in_play(3, positions), 3)
    joined.take_over(before)
    assert [own is old for (_, own), (_, old) in zip(joined.apart(), before.apart(), strict=True)] == [
        True,
        False,
        True,
    ]
    for columns, tables in ((joined, [0, 1, 2]), (joined[torch.tensor([2, 1])], [2, 1])):
        factors = []
        for row, (where, own) in enumerate(columns.apart()):
            table = tables[row]
            assert own.positions[0].tolist() == columns.positions[row, where].tolist() == positions[table]
            gram, mine = own.gram(weights[table : table + 1])[0].tril(), z[:, positions[table]]
            torch.testing.assert_close(gram, (mine.T @ (weights[table].unsqueeze(1) * mine)).tril(), rtol=0, atol=1e-12)
            factors.append((row, where, Factor(torch.eye(len(where)).double().unsqueeze(0) * (row + 2))))
        right = x[: len(tables), : columns.positions.shape[1]]
        found = Factors(factors)
        torch.testing.assert_close(
            found.solve(right) * torch.arange(2.0, 2 + len(tables)).unsqueeze(1), right * columns.inside
        )
        found.keep([row == 1 for row in range(len(tables))])
        assert found.solve(right).any(-1).nonzero().flatten().tolist() == [1]


def test_a_sum_over_the_effects_in_play_does_not_depend_on_the_padding():
    chosen = torch.rand(3, 2 * 2**8, generator=torch.Generator().manual_seed(0)) < torch.tensor([[0.1], [0.3], [0.6]])
    chosen[:, [0, 2**8]] = False  # the empty set
    together = Columns(chosen, 8)
    x = random(*together.positions.shape) * together.inside
    torch.testing.assert_close(together.total(x), x.sum(-1))
    for row, (where, own) in enumerate(together.apart()):
        assert torch.equal(own.total(x[row, where].unsqueeze(0))[0], together.total(x)[row])


@pytest.mark.parametrize("n", range(1, 8))
def test_the_gram_matrix_of_the_rows_is_that_of_the_matrix_written_out(n):
    weights = random(2, 2, 2**n).abs()
    weights[..., 0] = 0  # the empty set has no effect
    z = written_out(n)
    for row in range(2):
        expected = (z @ (weights[row].view(-1, 1) * z.T))[1:, 1:]
        torch.testing.assert_close(all_rows_gram(weights, n)[row].tril(), expected.tril(), rtol=0, atol=1e-11)


@pytest.mark.parametrize("n", [1, 4, 6])
def test_the_gram_matrix_of_some_rows_is_made_block_by_block(n, monkeypatch):
    monkeypatch.setattr(newton, "_BLOCK", 5)
    monkeypatch.setattr(newton, "_PAIRS_MAX_PLAYERS", 0)
    weights = random(2, 2, 2**n).abs()
    weights[..., 0] = 0  # the empty set has no effect
    z = written_out(n)
    rows = torch.stack([torch.randperm(2**n, generator=torch.Generator().manual_seed(seed)) for seed in range(2)])
    rows = rows[:, : 2**n * 2 // 3]
    some, every = chosen_rows_gram(weights, rows), all_rows_gram(weights, n)
    for table in range(2):
        expected = z @ (weights[table].view(-1, 1) * z.T)
        mine = expected[rows[table]][:, rows[table]]
        torch.testing.assert_close(some[table].tril(), mine.tril(), rtol=0, atol=1e-11)
        torch.testing.assert_close(every[table].tril(), expected[1:, 1:].tril(), rtol=0, atol=1e-11)


def test_some_rows_press_effects_as_the_matrix_says():
    rows, z = torch.tensor([0, 3, 5, 7]), written_out(3)
    columns = SampledColumns(in_play(3, [[1, 3, 8 + 5]]), 3, rows)
    dual = random(1, 4)
    torch.testing.assert_close(columns.adjoint(dual), dual @ z[rows][:, [1, 3, 8 + 5]])


@pytest.mark.parametrize("rows", [[1, 2, 5], [0, 3, 4, 6, 7]])
def test_the_gram_matrix_of_effects_on_some_rows_is_that_of_the_matrix_written_out(rows):
    positions, weights = [1, 3, 7, 8 + 3, 8 + 5], random(1, len(rows)).abs()
    mine = written_out(3)[rows][:, positions]
    gram = SampledColumns(in_play(3, [positions]), 3, torch.tensor(rows)).gram(weights)
    torch.testing.assert_close(gram[0].tril(), (mine.T @ (weights.T * mine)).tril(), rtol=0, atol=1e-12)


GRAMS = [
    (newton, "chosen_rows_gram"),
    (guess, "chosen_rows_gram"),
    (interior, "all_rows_gram"),
    (guess, "all_rows_gram"),
    (Columns, "gram"),
    (SampledColumns, "gram"),
    (guess._Few, "gram"),
    (guess._Many, "gram"),
    (guess._All, "gram"),
]


def above_spoilt(gram):
    """Put NaN above the diagonals of matrices, in place."""
    return gram.masked_fill_(torch.ones_like(gram, dtype=torch.bool).triu(1), torch.nan)


def solutions():
    """Return what all solvers that factor a gram matrix find."""
    found = []
    with pytest.MonkeyPatch.context() as patch:
        for pairs in (newton._PAIRS_MAX_PLAYERS, 0):  # 0: the systems of all rows are made block by block
            patch.setattr(newton, "_PAIRS_MAX_PLAYERS", pairs)
            for given in ({}, {"pin_ends": False}, {"kappa": 0.0}, {"ridge": 0.0}):
                for n in (3, 5):
                    found += solved(problem_of(n, **given))
        for many in (0, 512):  # 0: the rows are many at once
            patch.setattr(guess, "_SMALL", 0)
            patch.setattr(guess, "WRITTEN_OUT_MAX_ROWS", many)
            found += solved(problem_of(5)) + solved(problem_of(5, pin_ends=False))
    return found


def solved(problem):
    size = 1 << problem.n
    nothing = torch.zeros(2, size, dtype=torch.float64)
    (best,) = exact.solve(batch_of(problem), nothing[None], nothing[:1], 1e-6)
    few = generation.solve(problem, nothing, nothing[0]).effects if bool(problem.slack.any()) else nothing
    dual = cross_over(program_of(problem), best.effects.flatten(), best.constant, nothing[0], 2000).dual
    guessed = guess.solve_guessed(batch_of(problem), best.effects[None], dual[None]) if problem.ridge else None
    return [best.effects, few, *([] if guessed is None else [guessed.effects, guessed.dual])]


def test_no_solver_reads_a_gram_matrix_above_its_diagonal(monkeypatch):
    expected, called = solutions(), set()

    def spoiling(place, made):
        def spoilt(*given):
            called.add(place)
            return above_spoilt(made(*given))

        return spoilt

    for owner, name in GRAMS:
        monkeypatch.setattr(owner, name, spoiling((owner, name), getattr(owner, name)))
    found = solutions()
    assert called == set(GRAMS)
    assert all(one.isfinite().all() for one in expected)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("size", [1, 5, 16, 140])
def test_a_factor_reads_the_lower_triangle_only(size):
    """The second matrix is singular: it is shifted."""
    regular, singular = random(size, size), random(size, -(-size // 2), seed=1)
    matrix = torch.stack([regular @ regular.T + torch.eye(size), singular @ singular.T])
    right = random(2, size, seed=2)
    expected = Factor(matrix.clone()).solve(right)
    assert expected.isfinite().all()
    assert torch.equal(Factor(above_spoilt(matrix)).solve(right), expected)


@pytest.mark.parametrize("size", [1, 5, 40])
def test_a_factor_solves_badly_scaled_systems(size):
    root, scale = random(2, size, size), torch.logspace(-6, 6, size, dtype=torch.float64)
    matrix = scale.unsqueeze(1) * (root @ root.mT + torch.eye(size)) * scale
    right = random(2, size, seed=1)
    solution = Factor(matrix.clone()).solve(right)
    product = (matrix @ solution.unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(product / scale, right / scale, rtol=0, atol=1e-7)


def test_a_factor_of_a_singular_matrix_solves_what_can_be_solved_and_leaves_the_others_alone():
    root, regular = random(8, 3), random(8, 8, seed=2)
    matrix = torch.stack([root @ root.T, regular @ regular.T + torch.eye(8)])
    right = torch.stack([root @ random(3, seed=1), random(8, seed=3)])
    solution = Factor(matrix.clone()).solve(right)
    assert solution.isfinite().all()
    product = (matrix @ solution.unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(product[0], right[0], rtol=0, atol=1e-6)
    torch.testing.assert_close(product[1], right[1], rtol=0, atol=1e-12)
