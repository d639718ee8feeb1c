"""The frame of a page: its head, style and script, and tables that sort and filter.

A browser is told to load nothing: no address is allowed, images come as data, and the only script that runs is the one
whose hash is in the policy. So even text that escaped its quotes could not run.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from captum_lkn._common.colours import (
    NEGATIVE,
    NEUTRAL,
    ORDERS,
    ORDERS_ON_DARK,
    POSITIVE,
    SERIES,
    SERIES_ON_DARK,
)
from captum_lkn._common.formats import shortened
from captum_lkn._common.html import Html, element
from captum_lkn._common.writing import check_writable, replacing
from captum_lkn._version import __version__

__all__ = ["SUFFIXES", "check_page", "facts", "page", "section", "sortable", "write_page"]

SUFFIXES = (".html", ".htm")
"""Endings of a report's file."""

_TITLE = 160  # columns of the largest heading; a longer text is shown below it
_FULL = 2000  # columns of that text
_FACT = 400  # columns of what is known about the whole


def check_page(path: str | os.PathLike[str]) -> None:
    """Check that a report can be written to a path; callers check before long work.

    Args:
        path: The file to write.

    Raises:
        FileNotFoundError: The folder does not exist.
        IsADirectoryError: The path is a folder.
        OSError: It may not be written to, or its name is too long.
        ValueError: The file does not end in ``.html`` or ``.htm``.
    """
    file = Path(path)
    if file.suffix.lower() not in SUFFIXES:
        raise ValueError(f"the file of a report must end in {' or '.join(SUFFIXES)}; got {str(file)!r}")
    check_writable(file)


def write_page(path: str | os.PathLike[str], html: Html) -> None:
    """Write a page as UTF-8, with the same bytes on every system, whole or not at all."""
    check_page(path)
    with replacing(path) as file:
        file.write_bytes(html.encode())


def page(kind: str, title: str, known: Sequence[tuple[str, str]], sections: Sequence[str]) -> Html:
    """Return a page.

    Args:
        kind: The kind of result, in a word or two.
        title: The heading: the text of a sample, or the number of samples.
        known: Names and values of what is known about the whole.
        sections: What follows, as HTML.

    Returns:
        The whole document.
    """
    script, style = _asset("page.js"), _variables() + _asset("page.css")
    heading = shortened(title, _TITLE)
    full = element("p", shortened(title, _FULL), class_="full", dir="auto") if heading != title else ""
    head = [
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_policy(script)),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", f"{shortened(title, 60)} - captum-lkn"),
        element("style", Html(style)),
    ]
    header = element(
        "header", element("p", kind, class_="kind"), element("h1", heading, dir="auto"), full, facts(known)
    )
    footer = element(
        "footer",
        f"Written by captum-lkn {__version__}. This page is one file: it loads nothing and sends nothing.",
    )
    body = element("body", header, element("main", *sections), footer, element("script", Html(script)))
    document = element("html", element("head", *head), body, lang="en")
    return Html(f"<!DOCTYPE html>\n{document}\n")


def section(title: str, *content: str, note: str = "") -> Html:
    """Return a part of a page under a heading, with a sentence that says how to read it."""
    below = element("p", note, class_="note") if note else ""
    return element("section", element("h2", title), below, *content)


def facts(known: Sequence[tuple[str, str]]) -> Html:
    """Return names and values side by side."""
    pairs = [
        element("div", element("dt", name), element("dd", shortened(value, _FACT), dir="auto")) for name, value in known
    ]
    return element("dl", *pairs, class_="facts")


def sortable(
    caption: str, header: Sequence[str], rows: Sequence[str], texts: Sequence[str], *, filtered: str = "", id_: str = ""
) -> Html:
    """Return a table whose columns sort, with a field that filters its rows.

    Args:
        caption: What the table shows.
        header: The names of the columns; a click on one sorts.
        rows: Rows, as HTML; cells of numbers begin with the number.
        texts: The names of the columns that hold text; the others are numbers.
        filtered: The label of the field that filters; empty: there is none.
        id_: The id of the table, for the script.

    Returns:
        The table.
    """
    sides = [None if name in texts else "n" for name in header]
    heads = [
        element("th", element("button", name, type="button"), scope="col", aria_sort="none", class_=side)
        for name, side in zip(header, sides, strict=True)
    ]
    table = element(
        "table",
        element("caption", caption),
        element("thead", element("tr", *heads)),
        element("tbody", *rows),
        class_="sortable",
        id=id_ or None,
    )
    field = element("label", filtered, element("input", type="search", class_="filter")) if filtered else ""
    count = element("p", class_="count", role="status") if filtered else ""
    above = element("div", field, count, class_="above") if filtered else ""
    return element("div", above, element("div", table, class_="scroll"), class_="listing")


def _asset(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _policy(script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    allowed = ["style-src 'unsafe-inline'", "img-src data:", f"script-src 'sha256-{digest}'"]
    return "; ".join(["default-src 'none'", *allowed, "base-uri 'none'", "form-action 'none'"])


def _variables() -> str:
    """Return the colours of signs, orders and series on a light and on a dark page, as CSS variables."""

    def declared(positive: str, negative: str, neutral: str, **several: Sequence[str]) -> str:
        named = {"positive": positive, "negative": negative, "neutral": neutral}
        for name, colours in several.items():
            named |= {f"{name}-{place}": colour for place, colour in enumerate(colours, start=1)}
        return "".join(f"--{name}:{colour};" for name, colour in named.items())

    light = declared(POSITIVE, NEGATIVE, NEUTRAL, order=ORDERS, series=SERIES)
    lighter = _LIGHTER_POSITIVE, _LIGHTER_NEGATIVE, _LIGHTER_NEUTRAL
    dark = declared(*lighter, order=ORDERS_ON_DARK, series=SERIES_ON_DARK)
    return f":root{{{light}}}@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}\n"


# The same hues, light enough for small marks on a dark page (contrast 7.6, 7.1 and 6.5 on #16181d).
_LIGHTER_POSITIVE, _LIGHTER_NEGATIVE, _LIGHTER_NEUTRAL = "#56A9E0", "#F08A3C", "#9A9A9A"
