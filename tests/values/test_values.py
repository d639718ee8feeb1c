"""Masked evaluation: the table of values against a loop over subsets written apart."""

import re

import pytest
import torch
from forwards import Recording, assert_tables, naive_table, normal, plain

from captum_lkn import AndOrInteraction, ExactShapleyValues, Players, players_from_mask

# ---------------------------------------------------------------- the table

X, Y = normal(3, 4), normal(3, 2, 2, seed=1)
BASELINES = (normal(3, 4, seed=2), normal(3, 2, 2, seed=3))
# Samples of four, three and two players; ids shared by both inputs; background in both.
IDS = (
    torch.tensor([[0, 1, 2, -1], [0, 0, 2, 2], [3, 3, -1, -1]]),
    torch.tensor([[[3, 3], [0, -1]], [[1, -1], [0, 0]], [[0, 0], [-1, 3]]]),
)
SCALE, SHIFT = torch.tensor([[2.0], [-1.0], [0.5]]), normal(3, 4, seed=4)
WEIGHTS = normal(4, seed=5)  # no row a sample: passed on as it is
COLUMNS = [2, 0, 1]


def game(x, y, scale, shift, weights, options):
    """Three outputs a row, that depend on everything a row has."""
    assert options == {"power": 2}
    z = (x + shift) * scale * weights
    left, right = z[:, :2].prod(1), z[:, 2:].tanh().sum(1)
    return torch.stack([left * y.flatten(1).sum(1), right ** options["power"], (y[:, 0, 0] * z[:, 3]).sin()], 1)


def game_tables(inputs=2):
    def value(b):
        further = (SCALE[b : b + 1], SHIFT[b : b + 1], WEIGHTS, {"power": 2})
        fixed = (Y[b : b + 1],) if inputs == 1 else ()
        return lambda *rows: game(*rows, *fixed, *further)[0, COLUMNS[b]]

    return [naive_table(value(b), (X, Y)[:inputs], BASELINES[:inputs], IDS[:inputs], b) for b in range(3)]


EACH_EVAL = pytest.mark.parametrize("perturbations_per_eval", [1, 2, 3, 7, 1000, None])


@EACH_EVAL
def test_tuple_of_inputs_with_further_arguments_by_position(perturbations_per_eval):
    found = plain(game).attribute(
        (X, Y),
        baselines=BASELINES,
        target=COLUMNS,
        additional_forward_args=(SCALE, SHIFT, WEIGHTS, {"power": 2}),
        feature_mask=IDS,
        perturbations_per_eval=perturbations_per_eval,
    )
    assert [one.n_players for one in found] == [4, 3, 2]
    assert_tables(found, game_tables())


@EACH_EVAL
def test_tensor_with_further_arguments_by_keyword(perturbations_per_eval):
    further = {"options": {"power": 2}, "shift": SHIFT, "y": Y, "weights": WEIGHTS, "scale": SCALE}
    found = plain(game).attribute(
        X,
        baselines=BASELINES[0],
        target=COLUMNS,
        additional_forward_args=further,
        feature_mask=IDS[0],
        perturbations_per_eval=perturbations_per_eval,
    )
    assert [one.players for one in found] == [("0", "1", "2"), ("0", "2"), ("3",)]
    assert_tables(found, game_tables(inputs=1))


@EACH_EVAL
def test_mapping_is_passed_by_keyword(perturbations_per_eval):
    forward = Recording(lambda inputs_embeds, **rest: game(inputs_embeds, **rest))
    found = plain(forward).attribute(
        {"options": {"power": 2}, "y": Y, "inputs_embeds": X, "scale": SCALE, "shift": SHIFT, "weights": WEIGHTS},
        baselines={"inputs_embeds": BASELINES[0]},
        target=COLUMNS,
        feature_mask={"inputs_embeds": IDS[0]},
        perturbations_per_eval=perturbations_per_eval,
    )
    assert all(args == () for args, *_ in forward.calls)
    assert_tables(found, game_tables(inputs=1))


def test_players_made_beforehand_give_the_same_table():
    players = players_from_mask((X, Y), BASELINES, IDS)
    further = (SCALE, SHIFT, WEIGHTS, {"power": 2})
    found = plain(game).attribute(players, target=COLUMNS, additional_forward_args=further, perturbations_per_eval=3)
    assert_tables(found, game_tables())


def test_players_of_ones_own():
    owners = (IDS[0].clone().masked_fill(IDS[0] == 3, 0), IDS[1].masked_fill(IDS[1] == 3, 1))
    owners[0][2], owners[1][2] = 0, -1
    players = Players(
        inputs=(X, Y),
        baselines=BASELINES,
        owners=owners,
        labels=(("a", "b", "c"), ("a", "b", "c"), ("a",)),
        names=("x", "y"),
        constants={"scale": SCALE, "shift": SHIFT, "weights": WEIGHTS},
        is_tuple=True,
    )
    found = plain(game).attribute(players, target=COLUMNS, additional_forward_args={"options": {"power": 2}})
    assert [one.players for one in found] == [("a", "b", "c"), ("a", "b", "c"), ("a",)]

    def value(b):
        further = (SCALE[b : b + 1], SHIFT[b : b + 1], WEIGHTS, {"power": 2})
        return lambda *rows: game(*rows, *further)[0, COLUMNS[b]]

    assert_tables(found, [naive_table(value(b), (X, Y), BASELINES, owners, b) for b in range(3)])


def test_inputs_that_are_integers_are_masked_as_integers():
    tokens = torch.tensor([[5, 6, 7], [8, 9, 1]])
    table = normal(12, seed=6)
    found = plain(lambda ids: table[ids].prod(1)).attribute(tokens, baselines=2)
    everyone = torch.arange(3).expand(2, 3)
    expected = [
        naive_table(lambda ids: table[ids].prod(1), (tokens,), (torch.full_like(tokens, 2),), (everyone,), b)
        for b in range(2)
    ]
    assert_tables(found, expected)


def test_nothing_of_what_was_given_is_written_to():
    def careless(x, y):
        x += 1
        y *= 2
        return (x * y).sum(1)

    x, y = X.clone(), SHIFT.clone()
    found = plain(careless).attribute(x, additional_forward_args=y)
    assert torch.equal(x, X)
    assert torch.equal(y, SHIFT)
    everyone = torch.arange(4).expand(3, 4)
    expected = [
        naive_table(lambda row, b=b: ((row + 1) * 2 * SHIFT[b]).sum(1), (X,), (torch.zeros(3, 4),), (everyone,), b)
        for b in range(3)
    ]
    assert_tables(found, expected)


def test_a_table_does_not_depend_on_its_batch_mates_nor_on_the_run():
    net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2)).double().eval()
    method = AndOrInteraction(net, noise=0.02, kappa=0.01)
    together = method.attribute(X.double(), target=1)
    again = method.attribute(X.double(), target=1)
    for b, one in enumerate(together):
        assert torch.equal(one.values, again[b].values)
        assert torch.equal(one.and_effects, again[b].and_effects)
        alone = method.attribute(X[b : b + 1].double(), target=1)[0]
        torch.testing.assert_close(one.values, alone.values, atol=1e-12, rtol=1e-12)


# ---------------------------------------------------------------- forwards


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("perturbations_per_eval", [1, 2, 5, 64])
def test_no_forward_has_more_rows_than_asked_for(batch, perturbations_per_eval):
    forward = Recording(lambda x: x.prod(1))
    found = plain(forward).attribute(X[:batch], perturbations_per_eval=perturbations_per_eval)
    most = perturbations_per_eval * batch
    assert max(forward.rows) <= most
    needed = -(-batch * 16 // most)
    assert needed <= len(forward.rows) <= needed + 10  # the samples as they are, and a few masks twice
    assert found[0].provenance["forwards"] == len(forward.rows)


def test_by_default_few_large_forwards():
    forward = Recording(lambda x: x.sum(1))
    ExactShapleyValues(forward).attribute(torch.ones(1, 13))
    assert len(forward.rows) < 20
    assert max(forward.rows) <= 1 << 13


def test_by_default_large_inputs_come_in_small_batches():
    forward = Recording(lambda x: x.flatten(1).sum(1))
    quarters = (torch.arange(1 << 20) >> 18).reshape(1, 1 << 20)
    ExactShapleyValues(forward).attribute(torch.ones(1, 1 << 20), feature_mask=quarters)
    assert max(forward.rows) <= 8


def test_one_value_for_a_batch_takes_a_forward_a_mask():
    forward = Recording(lambda x: (x.sum() ** 2).item())
    found = plain(forward).attribute(X)
    assert set(forward.rows) == {3}
    assert 16 <= len(forward.rows) <= 18
    naive = [(X * torch.tensor([s >> i & 1 for i in range(4)])).sum().item() ** 2 for s in range(16)]
    torch.testing.assert_close(found[0].values, torch.tensor(naive, dtype=torch.float64), atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("method", [plain, ExactShapleyValues])
@pytest.mark.parametrize("forward", [lambda x: x.sum(1), lambda x: x.sum()], ids=["rows", "batch"])
def test_progress_is_one_bar_over_all_masks(method, forward, capsys):
    method(forward).attribute(X, show_progress=True)
    shown = capsys.readouterr().err
    total = 3 * 16 if forward(X).dim() else 16
    assert len(set(re.findall(r"^[^:\r\n]+(?=:)", shown.replace("\r", "\n"), re.MULTILINE))) == 1
    assert shown.replace("\r", "\n").count(f" {total}/{total} ") == 1
    method(forward).attribute(X)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("target", "sign"), [(0, -1.0), (1, 1.0), (None, 1.0)])
def test_one_sample_with_an_output_of_one_value_keeps_its_target(target, sign):
    """The target must be read before ``[1]`` is known to be a row or a batch."""
    found = ExactShapleyValues(lambda x: x.sum().reshape(1), score="binary_log_odds").attribute(X[:1], target=target)
    torch.testing.assert_close(found, sign * X[:1])
