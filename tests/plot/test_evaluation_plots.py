"""Pictures of measures over a data set: the data that they draw."""

import matplotlib.figure
import pytest
import torch

from captum_lkn import AndOrInteraction
from captum_lkn.evaluation import fidelity, generalization, sparsity, stability, transferable


def method(function):
    return AndOrInteraction(function, score="logit", noise=0)


@pytest.fixture(scope="module")
def pair():
    x = torch.tensor([[1.0, 1.0, 1.0], [2.0, 1.0, -1.0]])
    functions = (lambda x: x[:, 0] + x[:, 1] * x[:, 2] + x.amax(1), lambda x: x[:, 0] - x[:, 1] * x[:, 2])
    return [method(function).attribute(x) for function in functions]


def test_curves_by_order_have_the_values_and_intervals(pair):
    found = generalization(*pair)
    ax = found.plot.by_order().ax
    names = {container.get_label(): container for container in ax.containers}
    assert list(names) == ["AND", "OR", "both"]
    known = ~found.values[0, :-1].isnan()
    assert names["AND"].lines[0].get_ydata().tolist() == pytest.approx(found.values[0, :-1][known].tolist())
    steady = stability(method(lambda x: x[:, 0] * x[:, 1]), torch.ones(2, 2), target=None, draws=3, sd=0.3)
    ax = steady.plot.by_order().ax
    assert [container.get_label() for container in ax.containers] == ["AND"]  # both together are the same
    assert ax.get_ylim()[0] == 0


def test_the_fidelity_curve_and_the_sorted_strengths_are_means(pair):
    curve = fidelity(pair[0], top=3)
    drawn = curve.plot.curve().ax.lines[0].get_ydata()
    assert drawn.tolist() == pytest.approx(curve.r_squared.mean(0).clamp(0, 1).tolist())
    both = sparsity(pair[0])
    lines = both.plot.strengths(top=2).ax.lines
    assert lines[1].get_ydata().tolist() == pytest.approx(both.dividends.mean(0)[:2].tolist())


def test_bars_of_transfer_stack_to_all_effects(pair):
    found = transferable({"one": pair[0], "two": pair[1]}, pair[1])
    fig = matplotlib.figure.Figure()
    picture = found.plot.strengths(ax=fig.add_subplot())
    panels = [axes for axes in picture.fig.axes if axes.get_title() in ("one", "two")]
    for axes, state in zip(panels, found, strict=True):
        heights = sum(abs(bar.get_height()) for bar in axes.patches)
        parts = found[state]
        whole = (parts.transferable_strength + parts.other_strength).mean(0)[2, -1]
        assert heights == pytest.approx(float(whole))
