"""Data that pictures of a change draw."""

import math
import warnings
from itertools import pairwise

import matplotlib.style
import numpy as np
import plot_results as results
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from captum_lkn import InteractionsBatch, KnowledgeChange
from captum_lkn.plot.accessors import CHANGE

ARGUMENTS = {"emergence": ("not",)}


def of_layers(**layers):
    return KnowledgeChange({label: InteractionsBatch(samples) for label, samples in layers.items()})


def constant():
    return results.found_of(["not", "good"], [("and", (0,), 1.0), ("and", (1,), -1.0)])


CASES = {
    "one player": lambda: of_layers(a=[results.found_of(["not"], [("and", (0,), 1.0)])],
                                    output=[results.found_of(["not"], [("and", (0,), -2.0)])]),
    "a layer without effects": lambda: of_layers(
        **{"block.0": [results.found_of(["not", "b"], [("and", (0,), 1e-9)])],
           "block.1": [results.found_of(["not", "b"], [("and", (0, 1), -1.0), ("or", (0, 1), -1.0)])],
           "output": [results.found_of(["not", "b"], [("and", (0, 1), -1.0)])]}),
    "a normaliser of 0": lambda: of_layers(a=[constant()], output=[results.found_of(["not", "good"],
                                                                                [("and", (0, 1), 1.0)])]),
    "no effects": lambda: of_layers(a=[results.found_of(["not"], [])], output=[results.found_of(["not"], [])]),
    "thirteen layers": lambda: of_layers(
        **{f"block.{i}": [results.found_of(["not", "x" * 99], [("and", (0, 1), 1.0 + i)])] for i in range(12)},
        output=[results.found_of(["not", "x" * 99], [("and", (0, 1), 1.0)])]),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGE)
@pytest.mark.parametrize("case", CASES)
def test_any_change_is_drawn(case, name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of normalisers of 0
        change = CASES[case]()
        warnings.simplefilter("error")
        fig, _ = CHANGE[name](change, *ARGUMENTS.get(name, ()))
        fig.set_layout_engine("none")  # the layout takes most of the time
        fig.draw_without_rendering()


@pytest.mark.parametrize("name", CHANGE)
def test_given_axes_are_drawn_into(name):
    fig = Figure(figsize=(10, 8))
    first, second = fig.subplots(2)
    found_fig, ax = CHANGE[name](results.change(), *ARGUMENTS.get(name, ()), ax=second)
    assert found_fig is fig
    assert ax is second
    assert not first.has_data()


def test_the_box_of_the_flow_is_filled_by_what_is_shared():
    change = results.change()
    fig, ax = change.plot.flow()
    bars = [bar for bar in ax.patches if math.isclose(bar.get_width(), 0.6)]
    for place, layer in enumerate(change):
        one = change[layer]
        here = [bar for bar in bars if math.isclose(bar.get_x() + 0.3, place)]
        up = sum(bar.get_height() for bar in here if bar.get_height() > 0)
        down = -sum(bar.get_height() for bar in here if bar.get_height() < 0)
        whole = float(one.reference_all.sum())
        assert up == pytest.approx(float(one.overlap.sum()) / whole)
        assert down == pytest.approx(min(float(one.forgotten.sum()) / whole, 1.5))
    texts = [text.get_text() for text in fig.axes[1].texts]
    assert {"stays in the output", "is forgotten"} <= set(texts)
    names = [label.get_text() for label in fig.axes[1].get_yticklabels()]
    assert names[:2] == ["not", "not & good"]
    assert "a & good" in names


def test_a_layer_of_a_small_normaliser_is_marked_and_does_not_dwarf_the_others():
    small = results.found_of(["not", "b"], [("and", (0,), 5.0), ("and", (1,), -5.0), ("and", (0, 1), 0.1)])
    usual = results.found_of(["not", "b"], [("and", (0, 1), 1.0), ("and", (0,), 0.5)])
    with pytest.warns(UserWarning, match="the salient effects of 'a' add up to"):
        change = of_layers(a=[small], b=[usual], c=[usual], output=[usual])
    fig, ax = change.plot.flow()
    assert [label.get_text() for label in ax.get_xticklabels()] == ["a*", "b", "c", "output"]
    assert ax.get_ylim()[0] > -0.4
    assert any(text.get_text().startswith("↓") for text in ax.texts)
    assert "small there" in fig.axes[1].get_xlabel()


def test_a_heatmap_has_the_effects_at_every_layer():
    change = results.change()
    fig, ax = change.plot.heatmap(3)
    shown = np.asarray(ax.images[0].get_array())
    found = {label: batch[0] for label, batch in change.interactions.items()}
    top = found["output"].top(3)
    expected = [[found[label].effect(*one.members, kind=one.kind) for label in found] for one in top]
    assert shown == pytest.approx(np.array(expected))
    curve = fig.axes[0].lines[0].get_ydata()
    assert list(curve) == pytest.approx([one.v_full for one in found.values()])
    _, ax = change.plot.heatmap(2, layer="encoder.0")
    assert [label.get_text() for label in ax.get_yticklabels()] == ["not", "good"]
    with pytest.raises(ValueError, match="there is no layer 'encoder9' here"):
        change.plot.heatmap(layer="encoder9")
    with pytest.raises(ValueError, match="sample must be from 0 to 0; got 1"):
        change.plot.heatmap(sample=1)


def test_curves_are_completeness_and_redundancy_by_order():
    change = results.change(ceiling=True)
    fig, ax = change.plot.completeness(kind="and")
    curves = {line.get_label(): line.get_ydata() for line in ax.lines if line.get_marker() == "o"}
    assert curves["order 1"] == pytest.approx([float(one.completeness[0, 0]) for one in change.values()])
    right = next(axes for axes in fig.axes if axes.get_ylabel() == "redundancy")
    curves = {line.get_label(): line.get_ydata() for line in right.lines if line.get_marker() == "s"}
    assert curves["order 2"] == pytest.approx([float(one.redundancy[0, 1]) for one in change.values()])
    ceilings = [line.get_ydata()[0] for line in ax.lines if line.get_linestyle() == ":"]
    assert ceilings[0] == pytest.approx(float(change.own["output"].completeness[0, 0]))
    _, bare = results.change().plot.completeness()
    assert not any(line.get_linestyle() == ":" for line in bare.lines)
    with pytest.raises(ValueError, match=r'kind must be "and", "or" or None; got \'xor\''):
        change.plot.completeness(kind="xor")


def test_stacked_bars_are_overlap_new_and_forgotten():
    change = results.change()
    fig, ax = change.plot.stacked()
    first = next(iter(change.values()))
    heights = np.array([bar.get_height() for bar in ax.patches]).reshape(3, -1)
    count = heights.shape[1]
    for row, part in zip(heights, (first.overlap, first.new, -first.forgotten), strict=True):
        assert row == pytest.approx(part.sum(0)[:count].numpy())
    titles = [axes.get_title() for axes in fig.axes if axes.patches]
    assert titles == ["layer 0", "1", "2", "3"]


def test_the_matrix_has_the_completeness_of_any_two_layers():
    change = results.change()
    _, ax = change.plot.matrix()
    shares = np.asarray(ax.images[0].get_array())
    assert np.diag(shares) == pytest.approx(1)
    one = change["encoder.1"]
    assert shares[1, 4] == pytest.approx(float(one.overlap.sum() / one.reference_all.sum()))
    assert shares[4, 1] == pytest.approx(float(one.overlap.sum() / one.all.sum()))


def test_emergence_is_the_strength_of_the_combinations_with_a_word():
    samples = [
        results.found_of(["Not", "good"], [("and", (0,), 9.0), ("and", (0, 1), -2.0), ("or", (0, 1), 1.0)]),
        results.found_of(["a", "dull", "film"], [("and", (0, 1), 5.0)]),
        results.found_of(["not", "dull", "not"], [("and", (0, 1), 1.0), ("or", (1, 2), 1.0), ("and", (0, 2), 2.0)]),
    ]
    change = of_layers(a=samples, output=samples)
    _, ax = change.plot.emergence("not", ("not", "good"), "dull", alone=True)
    curves = {line.get_label(): line.get_ydata().tolist() for line in ax.lines}
    assert curves["not (2 samples)"] == [3.5, 3.5]
    assert curves["not, alone"] == [4.5, 4.5]
    assert curves["not … good (1 sample)"] == [3.0, 3.0]
    assert curves["dull (2 samples)"] == [3.5, 3.5]
    _, ax = change.plot.emergence("not[2]", "NOT[1]")  # one place of a repeated word
    assert [line.get_ydata()[0] for line in ax.lines] == [3.0, 3.0]
    with pytest.raises(ValueError, match=r"no sample has 'goood'; did you mean 'good'\?"):
        change.plot.emergence("goood")
    with pytest.raises(ValueError, match="words must be one or more labels"):
        change.plot.emergence()


def test_another_reference_than_the_output_is_named():
    change = results.change().between("encoder.0", "encoder.3")
    fig, ax = change.plot.flow()
    assert ax.get_ylabel().endswith("(share of 3's)")
    assert "stays in 3" in {text.get_text() for text in fig.axes[1].texts}


def test_orders_stand_out_on_a_dark_background():
    with matplotlib.style.context("dark_background"):
        _, ax = results.change().plot.completeness()
        assert sum(to_rgb(next(line for line in ax.lines if line.get_label() == "order 1").get_color())) > 2
        assert all(text.get_color() == "white" for text in results.sentence().plot.waterfall().ax.texts)


@pytest.mark.parametrize("name", ["flow", "heatmap", "completeness", "matrix", "emergence"])
def test_long_names_of_layers_do_not_overlap(name):
    batch = results.change().interactions["output"]
    change = of_layers(**{f"blocks.{i}.attention_out": batch for i in range(6)}, output=batch)
    fig, _ = getattr(change.plot, name)(*ARGUMENTS.get(name, ()))
    fig.draw_without_rendering()
    for axes in fig.axes:
        boxes = [label.get_window_extent() for label in axes.get_xticklabels() if "attention" in label.get_text()]
        assert not any(one.overlaps(other) for one, other in pairwise(boxes))
        legend = axes.get_legend()
        assert legend is None or not any(legend.get_window_extent().overlaps(box) for box in boxes)
