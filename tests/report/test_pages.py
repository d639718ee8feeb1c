"""Pages as files: what is in them, what is not, and that nothing of a user's text gets out of its place."""

import base64
import hashlib
import html as standard
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import plot_results as results
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from captum_lkn import InteractionsBatch, KnowledgeChange
from captum_lkn._common.html import Html
from captum_lkn.interactions.ranges import EffectRange, EffectRanges
from captum_lkn.report import pages
from captum_lkn.report.explorer import Sample, explorer
from captum_lkn.report.figures import _short_path, figure
from captum_lkn.report.page import check_page, page
from captum_lkn.report.regions import outline

HOSTILE = '</script><script>alert("x")</script>\x00\x1b\ud800\u202e\u2028&"\'<!--'
VOID = {"meta", "input", "br", "img"}


class Reader(HTMLParser):
    """Read a page as a browser does, as far as elements, their ids and their addresses go."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.ids, self.links, self.handlers, self.words = [], [], [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        for key, value in attrs:
            if key == "id":
                self.ids.append(value)
            if key in ("href", "src", "action", "xlink:href"):
                self.links.append(value)
            if key.startswith("on"):
                self.handlers.append(key)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def check(path):
    """Check what holds of every page, and return its text."""
    raw = path.read_bytes()
    text = raw.decode()
    seen = Reader(text)
    assert seen.open == []
    assert len(set(seen.ids)) == len(seen.ids)
    for link in seen.links:
        assert link.startswith("data:image/") or link.removeprefix("#") in seen.ids
    for target in re.findall(r"url\(#([^)]+)\)", text):
        assert target in seen.ids
    assert seen.handlers == []
    assert seen.tags.count("script") == seen.tags.count("style") == 1
    assert not set(seen.tags) & {"iframe", "object", "embed", "link", "base", "form"}
    assert "http://" not in text
    assert "https://" not in text
    script = text.partition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src &#x27;sha256-{digest}&#x27;" in text
    images = sum(map(len, re.findall(r'"data:image/jpeg[^"]*"', text)))
    assert len(raw) - images <= pages.LARGEST
    return text


def large():
    """Return a comparison of 13 layers of three samples with 12 players."""
    generator = np.random.default_rng(0)
    words = [f"word{i}" for i in range(12)]

    def one(scale):
        effects = {}
        for _ in range(60):
            members = tuple(sorted(generator.choice(12, generator.integers(1, 5), replace=False).tolist()))
            kind = "and" if len(members) == 1 or generator.random() < 0.6 else "or"
            effects[kind, members] = float(generator.normal() * scale + 1)
        return results.found_of(words, [(*key, value) for key, value in effects.items()], text=" ".join(words))

    labels = [*(f"model.encoder.layers.{i}" for i in range(12)), "output"]
    return KnowledgeChange({label: InteractionsBatch([one(2.0) for _ in range(3)]) for label in labels})


@pytest.fixture
def without_pictures(monkeypatch):
    """Leave out pictures, which take most of the time."""
    monkeypatch.setattr(pages, "figure", lambda *_: Html("<figure></figure>"))


def test_a_sample_has_words_effects_certificate_and_pictures(tmp_path):
    found, path = results.sentence(), tmp_path / "found.html"
    ranges = EffectRanges((EffectRange(found.top(1)[0], -0.5, 2.5),), 0.001)
    found.report(path, ranges=ranges)
    text = check(path)
    for part in ("not a single good scene", "negative (0)", "log-odds", "not &amp; good", "+2.00", "-0.50", "least"):
        assert part in text
    assert "above the optimum" in text
    assert text.count("<figure>") == len(pages._OF_SAMPLE)
    assert text.count("<tr data-sample") == len(found.effects)


def test_pictures_have_the_same_bytes_every_time():
    drawn = [figure("bars", results.sentence().plot.bars, "Bars.") for _ in range(2)]
    assert drawn[0] == drawn[1]
    assert "var(--positive)" in drawn[0]
    assert "currentColor" in drawn[0]
    assert 'aria-label="Bars."' in drawn[0]


@pytest.mark.usefixtures("without_pictures")
def test_an_image_is_in_the_page_once_with_the_outlines_of_its_parts(tmp_path):
    found = results.quarters()
    found.report(tmp_path / "found.html", image=results.PICTURE)
    text = check(tmp_path / "found.html")
    assert text.count("data:image/") == 1
    assert text.count('href="#image-0"') == len(found.top(6))
    assert 'd="M0 0H6V6H0z"' in text
    InteractionsBatch([found, found]).report(tmp_path / "both.html", images=[results.PICTURE] * 2)
    assert check(tmp_path / "both.html").count("data:image/") == 2
    found.report(tmp_path / "found.html")
    assert "data:image/" not in check(tmp_path / "found.html")


def test_many_layers_and_samples_fit_a_small_page(tmp_path):
    large().report(tmp_path / "large.html")
    text = check(tmp_path / "large.html")
    assert text.count('class="stage"') == 3
    assert 'max="12"' in text
    assert "How knowledge grows" in text


@pytest.mark.usefixtures("without_pictures")
def test_a_large_batch_says_what_it_shows(tmp_path):
    InteractionsBatch(list(results.batch()) * 40).report(tmp_path / "large.html")
    text = check(tmp_path / "large.html")
    assert "240 samples, the first 200" in text
    assert "Those of the first 24 are in this page" in text


@pytest.mark.usefixtures("without_pictures")
@pytest.mark.parametrize("case", ["change", "batch", "title"])
def test_pages_of_many_samples_and_long_texts_keep_to_their_size(case, tmp_path):
    words = [f"{i} {'long label ' * 20}" for i in range(8)]
    sets = [(i, j) for i in range(8) for j in range(i + 1, 8)]
    one = results.found_of(words, [("and", members, 1.0 + place) for place, members in enumerate(sets)])
    many = InteractionsBatch([one] * 24)
    cjk = results.found_of(["日本" * 20] * 6, results.OUTPUT, text="日" * 200)
    made = {
        "change": lambda: KnowledgeChange({f"layer {i}": many for i in range(12)} | {"output": many}),
        "batch": lambda: InteractionsBatch([cjk] * 300),
        "title": lambda: results.found_of(["x" * 200_000, *"bcde"], results.OUTPUT, unit="u" * 9_000),
    }[case]()
    made.report(tmp_path / "large.html")
    text = check(tmp_path / "large.html")
    assert text.count('class="stage"') >= 1
    assert len(text.encode()) < 0.75 * pages.LARGEST  # there is room for pictures
    if case == "change":
        stages = text.count('class="stage"')
        assert 1 < stages < 24
        assert f"Those of the first {stages} are in this page" in text


def test_control_characters_are_escapes_after_the_script_has_read_them():
    one = results.found_of(["a", "b"], [("and", (0, 1), 1.0)], unit="\u202eunit\x1b")
    body = explorer([Sample({"x": one, "y": one})], ["x\u202e", "y"], 5)
    read = [standard.unescape(found) for found in re.findall(r'data-(?:notes|names)="([^"]*)"', body)]
    shown = [text for found in read for text in json.loads(found)]
    assert len(shown) == 4
    assert not [text for text in shown if "\u202e" in text or "\x1b" in text]
    assert any("\\u202eunit" in text for text in shown)


def test_images_and_ranges_of_other_results_are_refused(tmp_path):
    found, path = results.sentence(), tmp_path / "a.html"
    first = found.top(1)[0]
    for other in (first._replace(effect=first.effect + 1), first._replace(members=(97, 98))):
        with pytest.raises(ValueError, match="ranges must be those of these interactions"):
            found.report(path, ranges=EffectRanges((EffectRange(other, -9.0, 9.0),), 0.001))
    with pytest.raises(ValueError, match="players are not parts of an image"):
        found.report(path, image=results.PICTURE)
    many = InteractionsBatch([results.quarters()] * 26)
    with pytest.raises(ValueError, match=r"of \[12, 12\] pixels; got shape \[3, 4, 4\]"):
        many.report(path, images=[*[results.PICTURE] * 25, torch.ones(3, 4, 4)])
    with pytest.raises(ValueError, match="players are not parts of an image"):
        KnowledgeChange({"x": InteractionsBatch([found]), "output": InteractionsBatch([found])}).report(
            path, images=[results.PICTURE]
        )
    assert not path.exists()


@pytest.mark.parametrize("kind", ["sample", "batch", "change"])
def test_hostile_text_stays_text_in_the_whole_page(kind, tmp_path, recwarn):
    about = dict.fromkeys(("text", "explained", "model", "layer", "score", "unit", "target"), HOSTILE)
    effects = [("and", (0,), 1.0), ("and", (0, 1), -2.0), ("or", (0, 1), 0.5)]
    player = HOSTILE.replace("\ud800", "")  # which names of players and layers must not have
    one = results.found_of([player, f"{player}2"], effects, **about)
    batch = InteractionsBatch([one, one])
    change = KnowledgeChange({f"a.{player}": batch, f"b.{player}": batch, "output": batch})
    {"sample": one, "batch": batch, "change": change}[kind].report(tmp_path / "x.html")
    text = check(tmp_path / "x.html")
    assert not set(re.findall(r"[\x00-\x09\x0b-\x1f\x7f\u202e\u2028]", text))
    assert "alert(" in text


@given(st.text(st.characters(codec="utf-8"), max_size=30), st.text(st.characters(), max_size=30))
@settings(max_examples=25)
def test_any_text_stays_text(label, text):
    found = results.found_of(
        [label, "b"], [("and", (0, 1), 1.0)], text=text, explained=label, unit=text, continuation={"text": label}
    )
    body = explorer([Sample({"x": found, "y": found}, notes={"y": text})], [label, text], 5)
    seen = Reader(page(label, text, [(label, text)], [body]).encode().decode())
    plain_found = results.found_of(["a", "b"], [("and", (0, 1), 1.0)], unit="u")
    body = explorer([Sample({"x": plain_found, "y": plain_found})], ["", ""], 5)
    plain = Reader(page("a", "b", [("c", "d")], [body]))
    assert [tag for tag in seen.tags if tag != "p"] == [tag for tag in plain.tags if tag != "p"]
    assert seen.open == []
    assert seen.handlers == []


def test_what_cannot_be_written_is_refused_before_the_work(tmp_path):
    found = results.sentence()
    for path, error, says in (
        (tmp_path / "found.pdf", ValueError, r"must end in .html or .htm; got"),
        (tmp_path / "nowhere" / "found.html", FileNotFoundError, "there is no folder"),
        (tmp_path / "found", ValueError, "must end in"),
    ):
        with pytest.raises(error, match=says):
            found.report(path)
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(IsADirectoryError, match="is a folder"):
        check_page(tmp_path / "folder.html")
    with pytest.raises(TypeError, match=r"image must be a tensor \[C, H, W\]; got a str"):
        results.quarters().report(tmp_path / "a.html", image="photo.png")
    with pytest.raises(ValueError, match=r"of \[12, 12\] pixels; got shape \[3, 4, 4\]"):
        results.quarters().report(tmp_path / "a.html", image=torch.ones(3, 4, 4))
    with pytest.raises(ValueError, match="one for each sample, of which there are 6; got 1"):
        results.batch().report(tmp_path / "a.html", images=torch.ones(1, 3, 4, 4))
    assert not (tmp_path / "a.html").exists()


def test_pictures_that_have_no_room_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "LARGEST", 50_000)
    monkeypatch.setattr(pages, "_OF_SAMPLE", dict.fromkeys(("sentence", "upset", "bars"), ""))
    results.sentence().report(tmp_path / "small.html")
    assert 0 < check(tmp_path / "small.html").count("<figure>") < 3


@pytest.mark.usefixtures("without_pictures")
def test_results_without_effects_or_with_one_player_have_a_page(tmp_path):
    for words, effects in ((["a", "b"], []), (["only"], [("and", (0,), -1.0)])):
        one = results.found_of(words, effects)
        one.report(tmp_path / "one.html")
        InteractionsBatch([one, replace(one)]).report(tmp_path / "two.html")
        for name in ("one.html", "two.html"):
            check(tmp_path / name)


def decoded(path):
    """Return the points of a path of steps, in tenths."""
    at, points = np.zeros(2, int), []
    for _, numbers in re.findall(r"([MlLz])([^MlLz]*)", path):
        step = [round(10 * float(x)) for x in re.findall(r"-?(?:\d+\.\d+|\.\d+|\d+)", numbers)]
        at = at + step
        points.append(tuple(at.tolist()))
    return points


@given(st.lists(st.tuples(*[st.integers(-30, 30)] * 2), min_size=2, max_size=12))
def test_shorter_paths_have_the_same_corners(tenths):
    points = decoded(_short_path("M " + "  L ".join(f"{x / 10} {y / 10}" for x, y in tenths)))
    assert points[0] == tenths[0]
    assert points[-1] == tenths[-1]
    places = iter(tenths)
    assert all(point in places for point in points)  # in this order
    lengths = [sum(np.hypot(*np.subtract(a, b)) for a, b in pairwise(line)) for line in (points, tenths)]
    assert lengths[0] == pytest.approx(lengths[1])  # only points on the way were left out


@given(st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=5))
def test_outlines_enclose_exactly_the_pixels(rows):
    mask = np.array(rows)
    area = 0.0
    for loop in outline(mask).split("z")[:-1]:
        corners, (x, y) = [], (0, 0)
        for command, numbers in re.findall(r"([MHV])([\d ]+)", loop):
            given = [int(number) for number in numbers.split()]
            x, y = given if command == "M" else (given[0], y) if command == "H" else (x, given[0])
            corners.append((x, y))
        around = zip(corners, [*corners[1:], corners[0]], strict=True)
        area += sum(a[0] * b[1] - b[0] * a[1] for a, b in around) / 2
    assert area == mask.sum()
