"""Data that pictures draw, labels in any script, and that no global state changes."""

import pickle
import warnings
from itertools import pairwise

import matplotlib as mpl
import numpy as np
import plot_results as results
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from captum_lkn import Interactions, InteractionsBatch, decompose
from captum_lkn.plot import fonts
from captum_lkn.plot.accessors import CHANGE, INTERACTIONS, INTERACTIONS_BATCH
from captum_lkn.plot.canvas import Picture
from captum_lkn.plot.combinations import combinations
from captum_lkn.plot.names import interaction_names

EFFECTS = {
    "one player": (["only"], [("and", (0,), -1.5)]),
    "no effects": (["a", "b"], []),
    "all negative": (["not", "$x^2$", "%s"], [("and", (0,), -1.5), ("or", (0, 1), -0.5), ("and", (0, 1, 2), -0.1)]),
    "tiny": (["a", "b"], [("and", (0,), 1e-12), ("and", (0, 1), -3e-9)]),
    "huge": (["a", "b"], [("and", (0,), 1e15), ("or", (0, 1), -3e14)]),
    "scripts": (
        ["שלום", "مرحبا", "Ω", "<b>&", "x" * 300, "\\n\n"],
        [("and", (0, 1), 1.0), ("or", (1, 2, 3, 4, 5), -0.5)],
    ),
    "many": ([f"column_{i}" for i in range(14)], [("and", tuple(range(0, i)), 1.0 / i) for i in range(1, 14)]),
}
OF_PLAYERS = [name for name in INTERACTIONS if name != "patches"]  # which needs an image
FOUND = {name: results.found_of(*parts) for name, parts in EFFECTS.items()}


@pytest.mark.parametrize("name", OF_PLAYERS)
@pytest.mark.parametrize("case", FOUND)
def test_any_result_is_drawn(case, name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fig, _ = INTERACTIONS[name](FOUND[case])
        fig.set_layout_engine("none")  # the layout takes most of the time
        fig.draw_without_rendering()


# ---------------------------------------------------------------- the data


def test_the_steps_of_a_waterfall_lead_from_nothing_to_the_whole():
    found = results.sentence()
    _, ax = found.plot.waterfall(5)
    steps = [(bar.get_x(), bar.get_width()) for bar in ax.patches]
    assert steps[0][0] == found.v_empty
    assert [width for _, width in steps[:5]] == pytest.approx([one.effect for one in found.top(5)])
    ends = [x + width for x, width in steps]
    assert [x for x, _ in steps[1:]] == pytest.approx(ends[:-1])
    assert ends[-1] == pytest.approx(found.v_full, abs=1e-12)
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names[0].startswith("v(∅)")
    assert names[-2:] == ["9 weaker effects, summed", "v(N), all players"]


def test_a_waterfall_names_what_the_effects_do_not_explain():
    whole = results.sentence()
    values = whole.values.clone()
    values[-1] += 0.25
    found = Interactions(whole.players, whole.effects, values, kappa=0.25, gap=0.0)
    _, ax = found.plot.waterfall(3)
    assert sum(bar.get_width() for bar in ax.patches) == pytest.approx(found.v_full - found.v_empty, abs=1e-12)
    assert ax.get_yticklabels()[-2].get_text() == "not explained (within kappa)"
    assert ax.patches[-1].get_width() == pytest.approx(0.25)


def test_bars_are_the_strongest_effects_and_or_is_hatched():
    found = results.sentence()
    _, ax = found.plot.bars(4)
    assert [bar.get_width() for bar in ax.patches] == pytest.approx([2.2, 2.0, -1.1, -1.0])
    assert [bool(bar.get_hatch()) for bar in ax.patches] == [False, False, False, True]
    _, ax = found.plot.bars(4, kind="or")
    assert [label.get_text() for label in ax.get_yticklabels()] == ["not | good", "not | single", "a | single | scene"]


@pytest.mark.parametrize("scale", [0.001, 1.0, 1e15])
def test_numbers_of_an_upset_matrix_do_not_overlap(scale):
    players = [f"column_{i}" for i in range(9)]
    fig, _ = results.found_of(players, [("and", (i,), scale * (12.9 - i / 100)) for i in range(9)]).plot.upset()
    fig.draw_without_rendering()
    for axes in fig.axes:
        for texts in (axes.texts, [label for label in axes.get_xticklabels() if label.get_text()]):
            boxes = [text.get_window_extent() for text in texts]
            assert not any(one.overlaps(other) for one, other in pairwise(boxes))


def test_an_upset_matrix_has_the_members_of_each_effect():
    found = results.sentence()
    fig, ax = found.plot.upset(6)
    matrix = fig.axes[3]
    marked = [line for line in matrix.lines if line.get_markersize() > 5]
    assert [tuple(line.get_ydata()) for line in marked] == [one.members for one in found.top(6)]
    assert [line.get_markerfacecolor() == line.get_color() for line in marked] == [
        one.kind == "and" for one in found.top(6)
    ]
    bars = [patch for patch in fig.axes[2].patches if isinstance(patch, Rectangle)]  # not an old matplotlib's spans
    shapley = [bar.get_width() for bar in bars if bar.get_height() < 0.7]
    assert shapley == pytest.approx(found.shapley_values().tolist())
    assert [bar.get_height() for bar in ax.patches] == pytest.approx([one.effect for one in found.top(6)])


def test_arcs_of_and_are_above_the_words_and_of_or_below():
    _, ax = results.sentence().plot.sentence()
    texts = {text.get_text(): text.get_position() for text in ax.texts}
    assert texts["+2.00"][1] > texts["not"][1] == 0 > texts["\N{MINUS SIGN}1.00"][1]
    assert texts["not"][0] < texts["+2.00"][0] < texts["good"][0]


def test_strengths_add_up_to_all_effects():
    found = results.sentence()
    _, ax = found.plot.strength()
    assert sum(bar.get_height() for bar in ax.patches) == pytest.approx(float(found.effects.values.sum()))
    hatched = sum(bar.get_height() for bar in ax.patches if bar.get_hatch())
    assert hatched == pytest.approx(sum(one.effect for one in found.top(None, "or")))


def test_all_effects_are_ranked_and_the_threshold_splits_the_salient_ones():
    found = results.sentence()
    _, ax = found.plot.ranking()
    points = sorted((x, y) for line in ax.lines if line.get_marker() in "o^" for x, y in line.get_xydata().tolist())
    assert [y for _, y in points] == pytest.approx([abs(one.effect) for one in found.top(None)])
    (threshold,) = {line.get_ydata()[0] for line in ax.lines if line.get_linestyle() == "--"}
    assert sum(y > threshold for _, y in points) == found.n_salient
    assert ax.get_yscale() == "log"
    assert ax.get_xlabel().endswith(f"the other {2 * 31 - 5 - 14} effects are 0")


def test_without_or_effects_only_those_of_and_are_counted():
    values = torch.tensor([0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 3.0], dtype=torch.float64)
    ands = Interactions.from_decomposition(("a", "b", "c"), values, decompose(values, noise=0.0, kind="and"))
    _, ax = ands.plot.ranking()  # a and a & b & c, of the seven sets that are not empty
    assert ax.get_xlabel().endswith("the other 5 effects are 0")


def test_fidelity_is_that_of_the_first_effects():
    found = results.sentence()
    _, ax = found.plot.fidelity()
    explained, errors = (line.get_ydata() for line in ax.lines[:2])
    first = results.found_of(results.WORDS, results.OUTPUT[:3])
    left = found.values - first.values
    spread = found.values - found.values.mean()
    assert explained[3] == pytest.approx(1 - float(left.square().sum() / spread.square().sum()))
    assert errors[3] == pytest.approx(float(left.abs().max() / (found.values.max() - found.values.min())))
    assert explained[-1] == pytest.approx(1)
    assert len(explained) == len(found.effects) + 1


def test_a_network_has_the_interaction_index_of_pairs():
    found = results.found_of(["a", "b", "c"], [("and", (0, 1), 2.0), ("or", (1, 2), 1.0)])
    _, ax = found.plot.network()
    lines = {line.get_linestyle(): line for line in ax.lines if len(line.get_xdata()) == 2}
    assert len(lines) == 2
    assert lines["-"].get_linewidth() > lines["--"].get_linewidth()  # an OR of two lowers the score of both together


def test_patches_keep_the_colours_of_the_parts_and_close_their_outlines():
    found = results.quarters()
    fig, _ = found.plot.patches(results.PICTURE, 2)
    one, two = fig.axes[-2:]
    whole = np.asarray(fig.axes[2].images[0].get_array())
    shown = np.asarray(one.images[0].get_array())
    assert (shown[:6, :6] == whole[:6, :6]).all()
    assert shown[6:].max() <= 0.45
    for axes, corners in ((one, 1), (two, 2)):
        ends = [tuple(point) for part in axes.collections[0].get_segments() for point in part.tolist()]
        assert len(ends) == 2 * 24 * corners
        assert all(ends.count(end) % 2 == 0 for end in ends)  # closed: each corner has as many edges out as in
    with pytest.raises(ValueError, match="image must be the explained image"):
        found.plot.patches(results.PICTURE[:, :5])


# ---------------------------------------------------------------- batches


def test_combinations_are_found_by_their_words():
    made = {one.name: one for one in combinations(results.batch(), 20)}
    both = made["not & good"]
    assert both.samples == (0, 1)
    assert both.effects == (2.5, 1.5)
    assert both.mean == 2.0
    assert both.salient == 2
    assert made["good"].samples == (0, 1, 2, 5)
    assert made["good"].effects == (-1.5, -1.0, -2.0, -2.3)  # twice in the last sample: the sum
    assert made["good | good"].samples == (5,)
    assert [one.name for one in combinations(results.batch(), 2, least_order=2)] == ["not & good", "not & dull"]


def test_a_summary_has_mean_and_spread():
    _, ax = results.batch().plot.summary(1)
    low_high, middle, mean = (line.get_xdata() for line in ax.lines[:3])
    assert list(low_high) == [-2.3, -1.0]
    assert list(middle) == pytest.approx(list(np.quantile([-1.5, -1.0, -2.0, -2.3], (0.25, 0.75))))
    assert mean[0] == pytest.approx(-1.7)
    assert any("4 of 4" in text.get_text() for text in ax.texts)


def test_a_beeswarm_has_a_mark_for_each_sample_and_bars_their_means():
    batch = results.batch()
    _, ax = batch.plot.beeswarm(1)
    marks = {line.get_label(): line.get_xdata() for line in ax.lines if line.get_linestyle() == "None"}
    assert sorted(np.concatenate(list(marks.values()))) == pytest.approx([-2.3, -2.0, -1.5, -1.0])
    assert sorted(marks) == ["negative (0)", "positive (1)"]
    _, ax = batch.plot.bars(1)
    assert [bar.get_width() for bar in ax.patches] == pytest.approx([np.mean([-1.5, -2.0]), np.mean([-1.0, -2.3])])


@pytest.mark.parametrize("name", INTERACTIONS_BATCH)
def test_any_batch_is_drawn(name):
    scripts = [results.found_of(*EFFECTS["scripts"], explained=f"class {i}" * (i > 0)) for i in range(9)]
    for batch in (InteractionsBatch([FOUND["no effects"]]), InteractionsBatch(scripts)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            fig, _ = INTERACTIONS_BATCH[name](batch)
            fig.set_layout_engine("none")
            fig.draw_without_rendering()
    fig = Figure()
    ax = fig.subplots()
    assert INTERACTIONS_BATCH[name](batch, ax=ax) == (fig, ax)


# ---------------------------------------------------------------- names and fonts


def test_letters_that_no_font_has_become_boxes_with_one_warning(monkeypatch):
    monkeypatch.setattr(fonts, "_other", lambda letter: None)
    with pytest.warns(UserWarning, match="no installed font has 日, 本: ") as caught:
        assert fonts.written(["a日", "本b", "c", "e\u302a"]) == ["a□", "□b", "c", "e"]
    assert len(caught) == 1


def test_a_font_that_has_the_letters_is_added(monkeypatch):
    monkeypatch.setattr(fonts, "_other", lambda letter: "Some CJK")
    found = results.found_of(["日", "a"], [("and", (0, 1), 1.0)])
    _, ax = found.plot.bars()
    assert ax.get_yticklabels()[0].get_text() == "日 & a"
    assert ax.get_yticklabels()[0].get_fontfamily()[-1] == "Some CJK"


def test_labels_are_not_read_as_mathematics():
    found = results.found_of(["$x", "y$"], [("and", (0, 1), 1.0)])
    _, ax = found.plot.bars()
    assert ax.get_yticklabels()[0].get_text() == "$x & y$"
    assert not ax.get_yticklabels()[0].get_parse_math()


def test_shortened_names_still_tell_players_apart():
    found = results.found_of([f"feature_{i}" for i in range(12)], [("and", tuple(range(8, 12)), 1.0)])
    assert interaction_names(found, found.top(1), 38) == ["fea…e_8 & fea…e_9 & fea…_10 & fea…_11"]
    assert interaction_names(found, found.top(1), 20) == ["feature_8 & fea… (4)"]


def test_widths_grow_with_the_text():
    assert 0 < fonts.text_width("i", 10) < fonts.text_width("wide", 10) < fonts.text_width("wide", 20)
    assert fonts.families_for("plain") == []


# ---------------------------------------------------------------- figures


def test_a_picture_is_a_figure_and_axes_that_a_notebook_shows():
    picture = results.sentence().plot.waterfall()
    fig, ax = picture
    assert isinstance(picture, Picture)
    assert isinstance(fig, Figure)
    assert ax in fig.axes
    png, size = picture._repr_png_()
    assert png.startswith(b"\x89PNG")
    assert 300 < size["width"] < 1000


@pytest.mark.parametrize("name", OF_PLAYERS)
def test_given_axes_are_drawn_into(name):
    fig = Figure(figsize=(10, 8))
    first, second = fig.subplots(2)
    found_fig, ax = INTERACTIONS[name](results.sentence(), ax=second)
    assert found_fig is fig
    assert ax is second
    assert not first.has_data()
    by_hand = Figure().add_axes((0.2, 0.2, 0.6, 0.6))
    assert INTERACTIONS[name](results.sentence(), ax=by_hand).ax is by_hand


def test_no_global_state_changes():
    import matplotlib.pyplot as plt

    before = plt.get_fignums(), mpl.get_backend(), dict(mpl.rcParams)
    for name in OF_PLAYERS:
        INTERACTIONS[name](results.sentence())
    for draw in INTERACTIONS_BATCH.values():
        draw(results.batch())
    assert (plt.get_fignums(), mpl.get_backend(), dict(mpl.rcParams)) == before


def test_results_list_their_pictures():
    found = results.sentence()
    assert dir(found.plot) == sorted(INTERACTIONS)
    assert dir(results.batch().plot) == sorted(INTERACTIONS_BATCH)
    assert dir(results.change().plot) == sorted(CHANGE)
    assert "waterfall" in repr(found.plot)
    with pytest.raises(AttributeError, match=r"there is no 'waterfal' here; there are .*waterfall"):
        found.plot.waterfal()
    assert pickle.loads(pickle.dumps(found)).plot.bars()
