"""Words or an image with a table of interactions: a row that is pointed at lights up its words or parts.

The page's script needs no data of its own. Each row and each word carries its numbers, one for each layer or
other state, and the script shows those of the one that is chosen. Without the script those of the last are there.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from torch import Tensor

from captum_lkn._common.formats import effect_format, percent, printable, shortened
from captum_lkn._common.html import Html, element, join
from captum_lkn.decomposition.effects import Effects, Kind
from captum_lkn.interactions import Interaction
from captum_lkn.interactions.ranges import EffectRanges
from captum_lkn.interactions.ranking import ranked
from captum_lkn.interactions.sampled import AnyInteractions
from captum_lkn.report.page import section, sortable
from captum_lkn.report.regions import is_image, outline, picture, players_of_pixels

__all__ = ["Sample", "cell", "explorer", "panels"]

_NAME = 64  # columns of an interaction in the table
_WORD = 32
_OPTION = 56
_NOTE = 200
_TEXTS = ("kind", "players", "")
_PANELS = 6
_Key: TypeAlias = tuple[Kind, tuple[int, ...]]  # kind and members of an interaction


@dataclass(frozen=True)
class Sample:
    """A sample of a page.

    Attributes:
        found: Its interactions by state, those of the output or the reference last.
        image: The image, ``[C, H, W]``; None where it is not known.
        ranges: Ranges of its effects; None where they were not computed.
        frequencies: The selection frequency of its interactions, by kind and members.
        notes: By state a sentence about the sample there.
    """

    found: Mapping[str, AnyInteractions]
    image: Tensor | None = None
    ranges: EffectRanges | None = None
    frequencies: Mapping[_Key, float] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def last(self) -> AnyInteractions:
        """The interactions of the output, or of the reference."""
        return list(self.found.values())[-1]


def explorer(samples: Sequence[Sample], names: Sequence[str], count: int, noun: str = "layer") -> Html:
    """Return the part of a page in which interactions are looked at one by one.

    Args:
        samples: The samples, with the same states.
        names: Short names of the states.
        count: The number of interactions of each sample.
        noun: What a state is called.

    Returns:
        A section.
    """
    stages = [_stage(place, sample, hidden=place > 0) for place, sample in enumerate(samples)]
    table = _table(samples, names, count)
    chosen = _choice(samples) if len(samples) > 1 else ""
    controls = element("div", chosen, _slider(names, noun), _kinds(), class_="controls")
    beside = any(is_image(sample.last) for sample in samples)
    bench = element("div", element("div", *stages), table, class_="bench beside" if beside else "bench")
    several = len(names) > 1
    note = (
        "Point at a row, or move through the rows with the arrow keys, to light up its players; choose a player to see "
        f"its rows alone. Players are tinted by their Shapley values{f' at the chosen {noun}' if several else ''}."
    )
    return section("Interactions", controls, bench, note=note)


def panels(found: AnyInteractions, image: Tensor | None, name: str) -> Html:
    """Return the parts of the strongest interactions of an image, each over a copy of the image, for print as well."""
    owners = players_of_pixels(found, image)
    height, width = owners.shape
    whole = f"M0 0H{width}V{height}H0z"
    shown = found.top(_PANELS)
    form = effect_format(max((abs(one.effect) for one in shown), default=0.0))
    made = []
    for one in shown:
        shape = outline(np.isin(owners, one.members))
        sign = "positive" if one.effect > 0 else "negative"
        drawn = [
            element("use", href=f"#{name}") if image is not None else element("path", d=whole, class_="blank"),
            element("path", d=whole + shape, class_="dimmed", fill_rule="evenodd"),
            element("path", d=shape, class_=f"border {sign} {one.kind}"),
        ]
        label = f"{_short(one)} {form.format(one.effect)}"
        svg = element("svg", *drawn, viewBox=f"0 0 {width} {height}", role="img", aria_label=label)
        made.append(element("figure", svg, element("figcaption", label)))
    return element("div", *made, class_="panels")


def cell(text: str) -> Html:
    """Return a cell with a number, by which it sorts; an empty one sorts last."""
    return element("td", text, class_="n")


# ---------------------------------------------------------------- controls


def _choice(samples: Sequence[Sample]) -> Html:
    options = []
    for place, sample in enumerate(samples):
        about = sample.last.about
        label = " \u00b7 ".join(part for part in (str(place), about.explained, about.text) if part)
        options.append(element("option", shortened(label, _OPTION), value=str(place)))
    return element("label", "sample ", element("select", *options, id="sample", autocomplete="off"))


def _slider(names: Sequence[str], noun: str) -> Html:
    if len(names) == 1:
        return Html()
    last = str(len(names) - 1)
    slider = element(
        "input", type="range", id="layer", min="0", max=last, value=last, step="1", autocomplete="off",
        data_names=_json(names), aria_valuetext=names[-1],
    )  # fmt: skip
    name = element("output", names[-1], for_="layer", id="layer-name")
    return element("label", f"{noun} ", slider, name, class_="wide")


def _kinds() -> Html:
    buttons = [
        element("button", text, type="button", class_="kind", data_kind=kind, aria_pressed=str(not kind).lower())
        for kind, text in (("", "all"), ("AND", "AND"), ("OR", "OR"))
    ]
    return element("div", *buttons, role="group", aria_label="kind of interactions", class_="buttons")


# ---------------------------------------------------------------- words and parts


def _stage(place: int, sample: Sample, hidden: bool) -> Html:
    """Return the words of a sample, its image above them, and its scores at each state."""
    found = sample.last
    values = [one.shapley_values().tolist() for one in sample.found.values()]
    limits = [max(map(abs, layer)) or 1.0 for layer in values]
    tints = [[value / limit for value in layer] for layer, limit in zip(values, limits, strict=True)]
    form = effect_format(max(abs(value) for layer in values for value in layer))
    largest, effects = _scale(sample)
    words = []
    for player, label in enumerate(found.labels):
        each = [layer[player] for layer in tints]
        title = f"Shapley value {form.format(values[-1][player])}"
        words.append(
            element(
                "button", shortened(label, _WORD), type="button", class_=f"player {_sign(each[-1])}", dir="auto",
                data_player=str(player), data_tints=_numbers(each), style=_tint(each[-1]), title=title,
                aria_pressed="false",
            )
        )  # fmt: skip
    notes = [
        shortened(" ".join(part for part in (_ends(one), sample.notes.get(layer, "")) if part), _NOTE)
        for layer, one in sample.found.items()
    ]
    return element(
        "div",
        element("p", notes[-1], class_="ends", data_notes=_json(notes), role="status"),
        _image(place, sample, tints) if is_image(found) else "",
        element("p", join(words, " "), class_="players"),
        class_="stage",
        data_sample=str(place),
        data_largest=f"{largest:.4g}",
        data_digits=_digits(effects),
        hidden=hidden,
    )


def _image(place: int, sample: Sample, tints: Sequence[Sequence[float]]) -> Html:
    owners = players_of_pixels(sample.last, sample.image)
    height, width = owners.shape
    whole = element("path", d=f"M0 0H{width}V{height}H0z", class_="blank")
    shown = picture(sample.image, f"image-{place}") if sample.image is not None else whole
    parts = []
    for player, label in enumerate(sample.last.labels):
        each = [layer[player] for layer in tints]
        path = element(
            "path", element("title", shortened(label, _NAME)), d=outline(owners == player),
            class_=f"part {_sign(each[-1])}", data_player=str(player), data_tints=_numbers(each), style=_tint(each[-1]),
        )  # fmt: skip
        parts.append(path)
    label = "the image, its parts tinted by their Shapley values"
    return element("svg", shown, *parts, viewBox=f"0 0 {width} {height}", class_="image", role="img", aria_label=label)


def _ends(found: AnyInteractions) -> str:
    empty, full = found.contents(0).ends
    unit = found.provenance.get("unit")
    return f"v(\u2205) = {empty} \u2192 v(N) = {full}{f' {unit}' if unit else ''}"


def _json(texts: Sequence[str]) -> str:
    """Return texts for the script, which shows them as they are: so control characters are escapes beforehand."""
    return json.dumps(list(map(printable, texts)), ensure_ascii=False)


def _sign(value: float) -> str:
    return "positive" if value > 0 else "negative"


def _tint(share: float) -> str:
    return f"--t:{abs(share):.2f}"


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{value:.3g}" for value in values)


# ---------------------------------------------------------------- the table


def _table(samples: Sequence[Sample], names: Sequence[str], count: int) -> Html:
    header = ["kind", "players", "order", "effect", ""]
    several = len(names) > 1
    if several:
        header.append(f"at {names[-1]}")
    if any(sample.ranges for sample in samples):
        header += ["least", "largest"]
    if any(sample.frequencies for sample in samples):
        header.append("in draws")
    rows = [row for place, sample in enumerate(samples) for row in _rows(place, sample, header, count)]
    unit = samples[0].last.provenance.get("unit")
    left_out = max(len(sample.last.effects) for sample in samples) > count
    caption = f"The {'strongest ' if left_out else ''}effects{f', in {unit}' if unit else ''}"
    return sortable(shortened(caption, _NOTE), header, rows, _TEXTS, filtered="find players ", id_="effects")


def _rows(place: int, sample: Sample, header: Sequence[str], count: int) -> list[Html]:
    shown = _strongest(sample, count)
    layers = [[found.effect(*one.members, kind=one.kind) for one in shown] for found in sample.found.values()]
    largest, form = _scale(sample)
    known = {} if sample.ranges is None else {each.interaction[:2]: (each.low, each.high) for each in sample.ranges}
    made = []
    for number, one in enumerate(shown):
        effects = [layer[number] for layer in layers]
        cells = [
            element("td", one.kind.upper()),
            element("td", _short(one), dir="auto", class_="name"),
            cell(str(one.order)),
            cell(_written(effects[-1], form)),
            element("td", _bar(effects[-1] / largest), class_="bar"),
        ]
        if len(effects) > 1:
            cells.append(cell(_written(effects[-1], form)))
        if "least" in header:
            low, high = known.get(one[:2], (math.nan, math.nan))
            cells += [cell("" if math.isnan(x) else form.format(x)) for x in (low, high)]
        if "in draws" in header:
            share = sample.frequencies.get(one[:2])
            cells.append(cell("" if share is None else percent(share)))
        made.append(
            element(
                "tr", *cells, data_sample=str(place), data_members=" ".join(map(str, one.members)),
                data_effects=_numbers(effects), hidden=place > 0,
            )
        )  # fmt: skip
    return made


def _scale(sample: Sample) -> tuple[float, str]:
    """Return the largest absolute effect at any state, and the format of all effects."""
    largest = max(found.effects.largest for found in sample.found.values()) or 1.0
    return largest, effect_format(largest)


def _strongest(sample: Sample, count: int) -> list[Interaction]:
    """Return the interactions that are the strongest at any state, as a share of its largest effect.

    Half of them at least are the strongest of the last.
    """
    last = sample.last
    shares: dict[_Key, float] = {}
    for found in sample.found.values():
        largest = found.effects.largest or 1.0
        for one in found.top(count):
            shares[one[:2]] = max(shares.get(one[:2], 0.0), abs(one.effect) / largest)
    for one in last.top(count // 2):
        shares[one[:2]] += 1.0
    best = sorted(shares, key=lambda key: -shares[key])[:count]
    best.sort(key=lambda key: (-abs(last.effect(*key[1], kind=key[0])), -shares[key]))
    named = {one[:2]: one for one in ranked(last.labels, Effects.of(last.n_players, [(*key, 1.0) for key in best]))}
    return [named[key] for key in best]


def _bar(share: float) -> Html:
    return element("i", class_=_sign(share), style=f"--w:{100 * abs(share):.3g}%")


def _written(effect: float, form: str) -> str:
    return form.format(effect) if effect else "0"


def _short(one: Interaction) -> str:
    return shortened(one.name, _NAME)


def _digits(form: str) -> str:
    """Return the decimals of a format, for the script; negative where it writes powers of ten."""
    return form.partition(".")[2][0] if form.endswith("f}") else "-1"
