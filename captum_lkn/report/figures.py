"""Pictures as SVG inside a page: small, the same bytes every time, and in the page's own colours.

Matplotlib draws with stand-ins for the colours of text and background. In the page they become CSS variables, as do
those of signs and orders, so that one picture fits a light and a dark page. Letters stay letters: they are smaller than
outlines, can be selected and searched, and are written in the page's font.
"""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from typing import Any, Final

import matplotlib as mpl

from captum_lkn._common import colours
from captum_lkn._common.html import Html, element
from captum_lkn.plot.canvas import Picture

__all__ = ["figure"]

# Colours that no picture uses: what is black or white on purpose, such as a number on a tint, stays so.
_INK, _PAPER = "#010203", "#fdfefc"
_STYLE: Final[dict[str, Any]] = {
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.facecolor": _PAPER,
    "figure.facecolor": _PAPER,
    "savefig.facecolor": _PAPER,
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans"],
    "svg.fonttype": "none",
    "svg.image_inline": True,
    "path.simplify": True,
}
_VARIABLES: Final = {
    _INK: "currentColor",
    _PAPER: "var(--paper)",
    colours.POSITIVE: "var(--positive)",
    colours.NEGATIVE: "var(--negative)",
    colours.NEUTRAL: "var(--neutral)",
    **{colour: f"var(--order-{place})" for place, colour in enumerate(colours.ORDERS, start=1)},
    **{colour: f"var(--series-{place})" for place, colour in enumerate(colours.SERIES, start=1)},
}
_SVG, _LINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}href"
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}\b")
_REFERENCE = re.compile(r"(?<=#)[\w-]+")
_NUMBER = re.compile(r"-?\d+\.\d+")
_STEP = re.compile(r"([MLQCz])([^MLQCz]*)")
_LEVEL = re.compile(r"rotate\(-?0(\.0+)?[ )]")
# What browsers assume anyhow, or the page's style says once for all pictures.
_USUAL = ("stroke-linejoin: miter", "stroke-linecap: butt", "stroke-opacity: 1", "fill-opacity: 1", "font-weight: 400")
_DROPPED = ("metadata", "style")


def figure(name: str, draw: Callable[[], Picture], caption: str) -> Html:
    """Return a picture as a ``figure`` element.

    Args:
        name: A name that no other picture of the page has, of letters and digits: the ids of its parts begin with it.
        draw: Draws the picture; it is called under the settings that the page needs.
        caption: A sentence below the picture, which also describes it to those who do not see it.

    Returns:
        The HTML.
    """
    settings: Any = {**_STYLE, "svg.hashsalt": name}  # Matplotlib's stubs know each name; ours are plain
    with mpl.rc_context(settings):
        picture = draw()
        file = io.BytesIO()
        picture.fig.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = _inlined(file.getvalue(), name, caption)
    return element("figure", element("div", svg, class_="picture", tabindex="0"), element("figcaption", caption))


def _inlined(document: bytes, name: str, caption: str) -> Html:
    """Return Matplotlib's document as an element of a page."""
    root = ET.fromstring(document)
    width = float(root.get("width", "0").removesuffix("pt"))
    used = {found for node in root.iter() for value in node.attrib.values() for found in _references(value)}
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.removeprefix(_SVG) in _DROPPED:
                parent.remove(child)
    for node in root.iter():
        node.tag = node.tag.removeprefix(_SVG)
        node.attrib = {
            key: value for key, value in (_attribute(*item, name, used) for item in node.attrib.items()) if value
        }
        if not (node.text or "").strip():
            node.text = None
        node.tail = None
    _unwrap(root)
    root.attrib = {
        "viewBox": root.get("viewBox", ""),
        "role": "img",
        "aria-label": caption,
        "style": f"width:{width * 4 / 3:.0f}px",
    }
    return Html(ET.tostring(root, encoding="unicode", short_empty_elements=True).replace(" />", "/>"))


def _references(value: str) -> list[str]:
    return _REFERENCE.findall(value) if value.startswith("#") or "url(" in value else []


def _attribute(key: str, value: str, name: str, used: set[str]) -> tuple[str, str]:
    """Return an attribute as the page has it; without a value if it is left out."""
    if key == "id":
        return key, f"{name}-{value}" if value in used else ""
    if key == _LINK:
        return "href", value if value.startswith("data:") else _REFERENCE.sub(lambda m: f"{name}-{m[0]}", value)
    if "url(" in value:
        value = re.sub(r"url\(#", f"url(#{name}-", value)
    if key == "transform" and _LEVEL.match(value):
        return key, ""
    if key == "d":
        return key, _short_path(value)
    if key == "style":
        parts = [part for part in value.split("; ") if part not in _USUAL and not part.startswith("font-family: ")]
        value = ";".join(_font(part) if part.startswith("font: ") else part for part in parts).replace(": ", ":")
    if key in ("style", "fill", "stroke"):
        value = _COLOUR.sub(lambda m: _VARIABLES.get(m[0].lower(), _VARIABLES.get(m[0].upper(), m[0])), value)
    return key, _NUMBER.sub(_rounded, value)


def _font(declared: str) -> str:
    """Return size and weight of a font without its family, which is the page's."""
    size = re.search(r"[\d.]+px", declared)
    weight = ";font-weight:bold" if re.search(r"\b(bold|[6-9]00)\b", declared) else ""
    return f"font-size:{size[0] if size else '10px'}{weight}"


def _short_path(path: str) -> str:
    """Return the same path with steps instead of places, to a tenth of a point, without points on a straight line."""
    steps = [(kind, [round(10 * float(x)) for x in numbers.split()]) for kind, numbers in _STEP.findall(path)]
    written, at, start = [], (0, 0), (0, 0)
    for place, (kind, numbers) in enumerate(steps):
        if kind == "z":
            written.append("z")
            at = start
            continue
        end = (numbers[-2], numbers[-1])
        following = steps[place + 1] if place + 1 < len(steps) else ("", [])
        if kind == "L" and following[0] == "L" and _between(at, end, (following[1][0], following[1][1])):
            continue
        tenths = [number - at[i % 2] for i, number in enumerate(numbers)]
        texts = map(_tenth, tenths)
        line = "".join(text if i == 0 or text.startswith("-") else f" {text}" for i, text in enumerate(texts))
        written.append(f"{kind.lower()}{line}")
        at = end
        if kind == "M":
            start = end
    return re.sub(r"^m", "M", "".join(written))


def _between(one: tuple[int, int], middle: tuple[int, int], other: tuple[int, int]) -> bool:
    """Return whether a point is on the way from one point straight to another."""
    (ax, ay), (bx, by) = (middle[0] - one[0], middle[1] - one[1]), (other[0] - middle[0], other[1] - middle[1])
    return ax * by == ay * bx and ax * bx >= 0 and ay * by >= 0


def _tenth(number: int) -> str:
    text = f"{abs(number) // 10}.{abs(number) % 10}".removesuffix(".0")
    text = text[1:] if text.startswith("0.") else text
    return f"-{text}" if number < 0 and text != "0" else text


def _rounded(number: re.Match[str]) -> str:
    text = f"{float(number[0]):.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _unwrap(node: ET.Element) -> None:
    """Replace groups that say nothing by what they hold."""
    content: list[ET.Element] = []
    for child in list(node):
        _unwrap(child)
        if child.tag == "g" and not child.attrib:
            content += list(child)
        elif child.tag != "defs" or len(child):
            content.append(child)
    node[:] = content
