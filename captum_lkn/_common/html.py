"""HTML whose text is always escaped, shared by notebooks and reports.

Elements are made by :func:`element`. What is not :class:`Html` is text that came from elsewhere: it is escaped, and
characters that could steer or reorder it are shown as escapes. No other function of this library escapes.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from captum_lkn._common.colours import colour_of
from captum_lkn._common.formats import printable

__all__ = ["Html", "bar", "element", "escaped", "join", "lines", "table"]

_VOID = ("br", "col", "img", "input", "meta")  # elements without content or end
_BAR = 56  # pixels of the longest bar, to each side


class Html(str):
    """Text that is HTML already, and is not escaped again."""

    __slots__ = ()


def escaped(text: str) -> Html:
    r"""Return text as HTML; quotes are escaped as well, and control characters shown.

    Example:
        >>> print(escaped('<b> & "x"\n'))
        &lt;b&gt; &amp; &quot;x&quot;\n
    """
    return text if isinstance(text, Html) else Html(html.escape(printable(text)))


def join(parts: Iterable[str], separator: str = "") -> Html:
    """Join pieces of HTML, and of text, which is escaped."""
    return Html(separator.join(map(escaped, parts)))


def element(name: str, /, *content: str, **attributes: str | bool | None) -> Html:
    """Return an element.

    Args:
        name: The name of the element.
        *content: HTML, or text, which is escaped.
        **attributes: Its attributes: a trailing underscore is dropped, others become hyphens. True stands for an
            attribute without a value; those that are None or False are left out.

    Returns:
        The HTML.

    Example:
        >>> print(element("td", "a < b", class_="wide", data_row="1", hidden=False))
        <td class="wide" data-row="1">a &lt; b</td>
    """
    written = [
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{escaped(str(value))}"')
        for key, value in attributes.items()
        if value or value == ""
    ]
    start = f"<{name}{''.join(written)}>"
    return Html(start if name in _VOID else f"{start}{join(content)}</{name}>")


def lines(texts: Iterable[str]) -> Html:
    """Return texts one below the other."""
    return join(map(escaped, texts), "<br>")


def table(caption: Sequence[str], header: Sequence[str], rows: Iterable[Sequence[str]], texts: Sequence[str]) -> Html:
    """Return a small table for a notebook, whose style is in its elements.

    Args:
        caption: Lines above the table.
        header: Names of the columns.
        rows: Cells.
        texts: The names of the columns that are aligned at the left; numbers are aligned at the right.

    Returns:
        The table.

    Example:
        >>> "&lt;b&gt;" in table(["Words"], ["word", "effect"], [["<b>", "+1.0"]], texts=["word"])
        True
    """
    sides = ["left" if name in texts else "right" for name in header]

    def cells(tag: str, row: Sequence[str]) -> Html:
        both = zip(row, sides, strict=True)
        return element("tr", *(element(tag, cell, style=f"text-align:{side}") for cell, side in both))

    above = element("caption", lines(caption), style="text-align:left") if caption else Html()
    body = element("tbody", *(cells("td", row) for row in rows))
    return element("table", above, element("thead", cells("th", header)), body)


def bar(effect: float, largest: float) -> Html:
    """Return a bar to the left or to the right of zero, as the last cell of a table for a notebook.

    Args:
        effect: A number; NaN has no bar.
        largest: The largest absolute number of the table, whose bar is the longest.

    Returns:
        The bar.
    """
    share = abs(effect) / largest if largest else 0.0
    width = round(_BAR * share) if share == share else 0
    place = f"margin-left:{_BAR - width if effect < 0 else _BAR}px;width:{width}px;background:{colour_of(effect)}"
    inner = element("div", style=f"height:0.8em;{place}")
    return element("div", inner, style=f"width:{2 * _BAR}px;text-align:left")
