"""Interactions as text for a terminal, and as HTML for a notebook.

The text is ASCII but for the labels, so that it can be printed whatever the terminal's encoding.
"""

from __future__ import annotations

import html
import math
import unicodedata
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from captum_lkn.interactions.ranking import Interaction

__all__ = ["bars", "effect_format", "html_table", "joined", "percent", "printable", "shortened"]

_SIGNS = {"and": " & ", "or": " | "}
_NAME_WIDTH = 36
_BAR = 10


def joined(kind: str, players: Iterable[str]) -> str:
    """Players as one name: ``not & good``, ``bad | dull``."""
    return _SIGNS[kind].join(map(printable, players))


def printable(label: str) -> str:
    r"""A label on one line: line ends and control characters, which could steer a terminal, are spelt out.

    Example:
        >>> print(printable("two\nlines"))
        two\nlines
    """
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in label)


def shortened(text: str, width: int) -> str:
    """The text, cut to so many columns."""
    if _columns(text) <= width:
        return text
    while _columns(text) > width - 3:
        text = text[:-1]
    return f"{text}..."


def effect_format(largest: float) -> str:
    """The format of numbers up to this size: three significant digits for the largest.

    Example:
        >>> [effect_format(x).format(x) for x in (-2.314, 51.27, 0.00421, 123456.0, 3e-9)]
        ['-2.31', '+51.3', '+0.00421', '+123456', '+3.00e-09']
    """
    if largest == 0:
        return "{:+.2f}"
    exponent = math.floor(math.log10(abs(largest)))
    return f"{{:+.{max(0, 2 - exponent)}f}}" if -5 <= exponent <= 6 else "{:+.2e}"


def percent(share: float) -> str:
    """A share as a percentage of two digits, such as ``0.031 %``, from 100 % on of whole ones.

    Example:
        >>> percent(0.000312), percent(0.0), percent(1.0), percent(float("inf"))
        ('0.031 %', '0 %', '100 %', 'inf %')
    """
    return f"{100 * share:.{'2g' if share < 0.995 else '0f'}} %"


def bars(found: Sequence[Interaction]) -> list[str]:
    """A line for each interaction: name, effect, and a bar to the left or to the right of zero."""
    names = [shortened(joined(one.kind, one.players), _NAME_WIDTH) for one in found]
    largest = max((abs(one.effect) for one in found), default=0.0)
    numbers = [effect_format(largest).format(one.effect) for one in found]
    name_width = max(map(_columns, names), default=0)
    number_width = max(map(len, numbers), default=0)
    lines = []
    for one, name, number in zip(found, names, numbers, strict=True):
        bar = "#" * round(_BAR * abs(one.effect) / largest)
        sides = (bar, "") if one.effect < 0 else ("", bar)
        padded = name + " " * (name_width - _columns(name))
        lines.append(f"{padded}  {number:>{number_width}}  {sides[0]:>{_BAR}}|{sides[1]}")
    return lines


def html_table(caption: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A small table; what the caption and the cells hold is escaped, the last column is right-aligned."""
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    body = []
    for row in rows:
        *cells, last = [html.escape(printable(cell)) for cell in row]
        tags = "".join(f'<td style="text-align:left">{cell}</td>' for cell in cells)
        body.append(f'<tr>{tags}<td style="text-align:right">{last}</td></tr>')
    return (
        f'<table><caption style="text-align:left">{html.escape(printable(caption))}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
    )


def _columns(text: str) -> int:
    """How many columns of a terminal the text takes: wide letters two, combining marks none."""
    return sum(0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF") for c in text)
