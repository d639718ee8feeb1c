"""Exchange with shapiq and networkx, against shapiq's own computer and against loops."""

import itertools
import math
import warnings

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from captum_lkn import AndOrInteraction, Interactions, decompose, players_from_mask, table_players
from captum_lkn.interop import explain_game, from_shapiq, to_networkx, value_function

shapiq = pytest.importorskip("shapiq", reason="shapiq is an extra")

N = 5
GAME = np.random.default_rng(1).normal(size=2**N)
PLACES = 1 << np.arange(N)


def game(coalitions):
    return GAME[coalitions @ PLACES]


def result(**settings):
    return explain_game(game, N, players=list("abcde"), **settings)


def subsets(members):
    return itertools.chain.from_iterable(itertools.combinations(members, k) for k in range(len(members) + 1))


def value(members):
    return GAME[sum(1 << i for i in members)]


def dividend(members):
    return sum((-1) ** (len(members) - len(part)) * value(part) for part in subsets(members))


def by_hand(index, members, order):
    """Return an index of a set by its definition."""
    t, others = len(members), [i for i in range(N) if i not in members]
    larger = [tuple(sorted((*members, *more))) for more in subsets(others)]
    if index == "Moebius":
        return dividend(members)
    if index in ("SII", "SV"):
        return sum(dividend(s) / (len(s) - t + 1) for s in larger)
    if index in ("BII", "BV"):
        return sum(dividend(s) / 2 ** (len(s) - t) for s in larger)
    assert index == "STII"
    return dividend(members) if t < order else sum(dividend(s) / math.comb(len(s), order) for s in larger)


@pytest.mark.parametrize(
    ("index", "order"), [("Moebius", N), ("SII", 2), ("BII", 3), ("STII", 2), ("STII", 3), ("SV", 1), ("BV", 1)]
)
def test_indices_are_those_of_their_definition(index, order):
    found = result().to_shapiq(index, order=order)
    assert (found.index, found.max_order, found.n_players, found.estimated) == (index, order, N, False)
    for size in range(1, order + 1):
        for members in itertools.combinations(range(N), size):
            assert found[members] == pytest.approx(by_hand(index, members, order), abs=1e-10)


@pytest.mark.parametrize("index", ["Moebius", "k-SII", "SII", "STII", "FSII", "FBII", "kADD-SHAP", "SV", "BV"])
def test_indices_are_those_of_the_exact_computer(index):
    order = {"Moebius": N, "SV": 1, "BV": 1}.get(index, 2)
    ours, theirs = result().to_shapiq(index), shapiq.ExactComputer(game, N)(index, order)
    assert (ours.index, ours.min_order, ours.max_order) == (theirs.index, theirs.min_order, theirs.max_order)
    assert ours.baseline_value == pytest.approx(theirs.baseline_value)
    for members, number in theirs.interactions.items():
        assert ours[members] == pytest.approx(number, abs=1e-10)


def test_the_effects_are_written_as_and_effects():
    found = result(kappa=0.3)
    assert any(one.kind == "or" for one in found.top(None))
    values = found.to_shapiq("Moebius", of="effects")
    back = from_shapiq(values, found.players)
    assert_close(back.values, found.effects.reconstruction)
    of_and = result(noise=0, kind="and")
    assert_close(from_shapiq(of_and.to_shapiq("Moebius", of="effects")).effects.values, of_and.effects.values)


@pytest.mark.parametrize("index", ["Moebius", "k-SII", "STII", "FSII", "FBII", "SV"])
def test_values_come_back_as_the_game_that_they_add_up_to(index):
    values = result().to_shapiq(index)
    back = from_shapiq(values)
    for members in subsets(range(N)):
        expected = sum(values[part] for part in subsets(members))
        assert float(back.values[sum(1 << i for i in members)]) == pytest.approx(expected)
    if index == "Moebius":
        assert_close(back.values, torch.from_numpy(GAME))
    assert isinstance(back, Interactions)
    assert "Interactions of 5 players" in repr(back)


def test_from_shapiq_to_a_file(tmp_path):
    back = from_shapiq(result().to_shapiq("FSII"), list("abcde"))
    back.save(tmp_path / "found.safetensors")
    assert repr(Interactions.load(tmp_path / "found.safetensors")) == repr(back)


def test_shapiqs_plots_take_a_result():
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    found = result()
    values, single = found.to_shapiq("k-SII", order=2), found.to_shapiq("SV")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of matplotlib, in shapiq's code
        shapiq.network_plot(interaction_values=values, feature_names=list(found.players), show=False)
        shapiq.upset_plot(values, feature_names=list(found.players), show=False)
        shapiq.sentence_plot(single, list(found.players), show=False)
        for plot in (shapiq.waterfall_plot, shapiq.force_plot):
            plt.figure()  # the waterfall is drawn into the current one
            plot(values, feature_names=np.array(found.players), show=False)
    assert len(plt.get_fignums()) >= 5
    assert all(plt.figure(number).axes for number in plt.get_fignums()[:4])
    plt.close("all")


# ---------------------------------------------------------------- games


def planted(x):
    """Return the values of few interactions of 12 players, which approximators find exactly."""
    return 2 * x[:, 0] * x[:, 1] - 3 * x[:, 2] * x[:, 3] + x[:, 4]


def test_approximators_run_on_a_model():
    players = players_from_mask(torch.ones(1, 12))
    with value_function(planted, players, target=None, score="logit") as function:
        kernel = shapiq.KernelSHAPIQ(n=12, max_order=2, index="k-SII", random_state=0).approximate(600, function)
        fitted = shapiq.RegressionFSII(n=12, max_order=2, random_state=0).approximate(600, function)
    for found in (kernel, fitted):
        assert found[(0, 1)] == pytest.approx(2, abs=0.05)
        assert found[(2, 3)] == pytest.approx(-3, abs=0.05)
    again = value_function(planted, players, target=None, score="logit")  # opened for each call
    alone = shapiq.KernelSHAPIQ(n=12, max_order=2, index="k-SII", random_state=0).approximate(600, again)
    assert alone[(0, 1)] == pytest.approx(kernel[(0, 1)], abs=1e-6)


def test_a_value_function_gives_the_values_of_the_table():
    x = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    players = players_from_mask(x, feature_mask=torch.tensor([[0, 1, 1], [0, 1, 2]]))
    network = torch.nn.Linear(3, 2).eval()
    found = AndOrInteraction(network, kappa=0.1).attribute(players, target=1)
    for sample, n in enumerate((2, 3)):
        function = value_function(network, players, sample, target=1)
        masks = np.array(list(itertools.product([False, True], repeat=n)))[:, ::-1]
        assert_close(torch.from_numpy(function(masks)), found[sample].values, atol=1e-5, rtol=1e-5)
        assert (function.n_players, function(masks[:0]).shape) == (n, (0,))
    with pytest.raises(TypeError, match=r"coalitions must be an array of bools.*got torch\.int64"):
        function(masks.astype(int))
    with pytest.raises(ValueError, match=r"coalitions must be \[m, 3\]; got \[8, 2\]"):
        function(masks[:, :2])
    with pytest.raises(ValueError, match="sample must be a number from 0 to 1; got 2"):
        value_function(network, players, 2)
    with pytest.raises(TypeError, match="players must be Players; got float32"):
        value_function(network, x)


def test_a_value_function_averages_over_a_background():
    rows, background = np.array([[1.0, 2.0]]), np.array([[0.0, 1.0], [3.0, 3.0]])
    function = value_function(lambda x: x.prod(1), table_players(rows, background), target=None, score="logit")
    assert function(np.array([[False, False], [True, False]])).tolist() == [4.5, 2.0]


def test_any_game_of_shapiq_is_explained():
    class Either(shapiq.Game):
        def value_function(self, coalitions):
            return 2.0 * coalitions[:, :2].any(1) + coalitions[:, 2] + 5

    either = Either(n_players=3, normalize=True, normalization_value=5.0, player_names=["a", "b", "c"])
    found = explain_game(either, noise=0)
    assert [str(one) for one in found.top()] == ["a | b  +2.00", "c  +1.00"]
    assert (found.v_empty, found.provenance["model"]) == (0.0, "Either")
    assert_close(result(noise=0.1).and_effects, decompose(torch.from_numpy(GAME), noise=0.1).and_effects)
    with pytest.raises(ValueError, match="n_players must be the number of players, at least 1; got None"):
        explain_game(game)
    with pytest.raises(TypeError, match="game must be a function of coalitions; got a int"):
        explain_game(3, 2)
    with pytest.raises(ValueError, match="at most n = 20 are evaluated"):
        explain_game(game, 21)


# ---------------------------------------------------------------- networkx


def test_a_graph_holds_the_interactions():
    found = result(kappa=0.3)
    graph = to_networkx(found, found.top(None))
    assert [graph.nodes[label]["number"] for label in "abcde"] == list(range(N))
    assert [graph.nodes[label]["shapley"] for label in "abcde"] == found.shapley_values().tolist()
    for one in found.top(None):
        if one.order == 1:
            assert graph.nodes[one.players[0]]["effect"] == one.effect
        elif one.order == 2:
            assert graph.edges[(*one.players, one.kind)]["effect"] == one.effect
        else:
            assert set(graph[one.name]) == set(one.players)
            assert (graph.nodes[one.name]["kind"], graph.nodes[one.name]["bipartite"]) == (one.kind, 1)
    salient = {one.name for one in found.salient() if one.order > 2}
    assert {name for name, kind in found.to_networkx().nodes(data="bipartite") if kind} == salient


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("k-SI",), ValueError, "index must be one that shapiq computes for order 2; got 'k-SI'"),
        (("SII", 6), ValueError, "order must be from 1 to 5, the number of players; got 6"),
        (("SII", 2.0), TypeError, "order must be a whole number or None; got 2.0"),
    ],
)
def test_indices_that_there_are_not(arguments, error, message):
    with pytest.raises(error, match=message):
        result().to_shapiq(*arguments)


def test_values_that_are_no_game():
    with pytest.raises(ValueError, match=r"of an index whose values add up to a game, .*; got SII"):
        from_shapiq(result().to_shapiq("SII"))
    with pytest.raises(ValueError, match="players must have one label a player, 5; got 1"):
        from_shapiq(result().to_shapiq("SV"), ["a"])
    with pytest.raises(TypeError, match="values must be shapiq's InteractionValues; got a dict"):
        from_shapiq({})
    with pytest.raises(ValueError, match='of must be "values" or "effects"; got "both"'.replace('"both"', "'both'")):
        result().to_shapiq(of="both")


def test_labels_with_an_ampersand_are_no_sets():
    def game(coalitions):
        a, ab, bc, c, d = coalitions.T
        return 3.0 * (a & bc & d) + 5.0 * (ab & c & d) + 7.0 * ab

    found = explain_game(game, 5, players=["a", "a & b", "b & c", "c", "d"], noise=0)
    graph = found.to_networkx()
    assert [graph.nodes[label]["effect"] for label in found.labels] == pytest.approx([0, 7, 0, 0, 0])
    sets = sorted(round(effect) for name, effect in graph.nodes(data="effect") if name not in found.labels)
    assert sets == [3, 5]
