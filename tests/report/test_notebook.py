"""Small forms of results in a notebook: their contents, and that nothing of a user's gets into them unescaped."""

import html as standard
import io
import re
from html.parser import HTMLParser

import plot_results as results
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_hex
from rich.console import Console

from captum_lkn import AndOrInteraction, compare_baselines, players_from_mask
from captum_lkn._common import html
from captum_lkn._common.colours import colour_of
from captum_lkn.cli.terminal import print_interactions
from captum_lkn.interactions.by_layer import LayerInteractions
from captum_lkn.interactions.ranges import EffectRange, EffectRanges

CHANGE = results.change()
BASELINES = compare_baselines(
    AndOrInteraction(lambda x: x.prod(1), score="logit", noise=0),
    {"zero": (torch.ones(1, 2), 0.0), "half": (torch.ones(1, 2), 0.5)},
)
RANGES = EffectRanges((EffectRange(results.sentence().top(1)[0], -0.5, 2.5),), 0.001)
FORMS = {
    "sample": (results.sentence(), ["not &amp; good", "+2.00", "negative (0)", "single good scene", "optimum"]),
    "batch": (results.batch(), ["6 samples", "a dull film", "positive (1), predicted", "of 2^3"]),
    "layers": (LayerInteractions(CHANGE.interactions), ["5 layers", "encoder.0"]),
    "change": (CHANGE, ["completeness", "encoder.0", "AND 2"]),
    "one layer": (CHANGE["encoder.0"], ["AND 2", "redundancy"]),
    "sensitivity": (CHANGE.sensitivity({"AND only": {"kind": "and"}}), ["AND only", "as extracted"]),
    "baselines": (BASELINES, ["zero - half", "top 10"]),
    "players": (players_from_mask(torch.ones(2, 3), player_names=["a", "<b>", "c"]), ["&lt;b&gt;", "2 samples"]),
    "orders": (results.sentence().by_order(), ["nonzero", "AND", "OR"]),
    "ranges": (RANGES, ["-0.50", "+2.50", "a convention decides"]),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_results_show_their_numbers_at_the_right_and_no_tensors(name):
    result, wanted = FORMS[name]
    shown = result._repr_html_()
    for part in wanted:
        assert part in shown
    assert "tensor(" not in shown + repr(result)
    numbers = re.findall(r'<td style="text-align:(\w+)">[+-]?\d+\.\d+</td>', shown)
    assert set(numbers) <= {"right"}


def test_bars_point_to_the_side_of_their_sign():
    left, right = html.bar(-1.0, 2.0), html.bar(2.0, 2.0)
    assert "margin-left:28px;width:28px" in left
    assert "margin-left:56px;width:56px" in right
    assert "width:0px" in html.bar(float("nan"), 1.0)
    assert "width:0px" in html.bar(0.0, 0.0)


def test_a_sign_has_one_colour_in_terminals_pages_and_pictures():
    """Blue and orange, which readers with any kind of colour blindness tell apart."""
    found, colours = results.sentence(), {1: (0, 114, 178), -1: (213, 94, 0)}
    assert [f"background:{colour_of(sign)}" in html.bar(float(sign), 1.0) for sign in colours] == [True, True]
    console = Console(file=io.StringIO(), force_terminal=True, color_system="truecolor", width=80)
    print_interactions(console, found, "word", 9)
    lines = [line for line in console.file.getvalue().splitlines() if "\x1b[38;2;" in line]
    assert len(lines) == sum(len(found.top(9, kind=kind)) for kind in ("and", "or"))
    for line in lines:
        sign = 1 if "+" in line else -1
        assert "\x1b[38;2;{};{};{}m".format(*colours[sign]) in line
    _, ax = found.plot.bars(4)
    for drawn in ax.patches:
        assert colour_of(drawn.get_width()) == to_hex(drawn.get_facecolor()).upper()


class Collector(HTMLParser):
    """Gather what a browser takes for elements, for attributes and for text."""

    def __init__(self):
        super().__init__()
        self.tags, self.text, self.attributes = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text.append(data)


HOSTILE = st.one_of(
    st.text(st.characters(), max_size=20),
    st.sampled_from(["</script><script>alert(1)</script>", '" onload="x', "<!--", "]]>", "\u202egnp", "\ud800"]),
)  # fmt: skip


@given(HOSTILE, HOSTILE)
def test_any_text_stays_text(text, value):
    made = html.element("p", text, title=value)
    made.encode()  # no half of a surrogate pair is left
    seen = Collector()
    seen.feed(made)
    seen.close()
    assert seen.tags == ["p"]
    assert "".join(seen.text) == standard.unescape(html.escaped(text))
    assert dict(seen.attributes) == {"title": standard.unescape(html.escaped(value))}
