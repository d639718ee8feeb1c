"""Interactions as text for a terminal, and as HTML for a notebook.

The text is ASCII but for the labels, so that it can be printed whatever the terminal's encoding.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from captum_lkn._common.formats import columns, effect_format, printable, shortened

if TYPE_CHECKING:
    from captum_lkn.interactions.ranking import Interaction

__all__ = ["bars", "html_table", "joined"]

_SIGNS = {"and": " & ", "or": " | "}
_NAME_WIDTH = 36
_BAR = 10


def joined(kind: str, players: Iterable[str]) -> str:
    """Players as one name: ``not & good``, ``bad | dull``."""
    return _SIGNS[kind].join(map(printable, players))


def bars(found: Sequence[Interaction]) -> list[str]:
    """A line for each interaction: name, effect, and a bar to the left or to the right of zero."""
    names = [shortened(joined(one.kind, one.players), _NAME_WIDTH) for one in found]
    largest = max((abs(one.effect) for one in found), default=0.0)
    numbers = [effect_format(largest).format(one.effect) for one in found]
    name_width = max(map(columns, names), default=0)
    number_width = max(map(len, numbers), default=0)
    lines = []
    for one, name, number in zip(found, names, numbers, strict=True):
        bar = "#" * round(_BAR * abs(one.effect) / largest)
        sides = (bar, "") if one.effect < 0 else ("", bar)
        padded = name + " " * (name_width - columns(name))
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
