"""Number formats and labels for terminals, shared by all packages."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence

__all__ = ["aligned", "columns", "effect_format", "percent", "printable", "shortened"]

_ESCAPED = ("Cc", "Cs", "Zl", "Zp")  # control characters, halves of surrogate pairs, ends of lines and paragraphs
_REORDERING = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_WITHOUT_WIDTH = ("Mn", "Me", "Cf")  # marks on the letter before, and characters that only join or format


def printable(label: str) -> str:
    r"""Return a label on one line, with characters escaped that could steer a terminal or reorder its text.

    Joiners and spaces of all scripts are kept, since words are spelled with them.

    Example:
        >>> print(printable("two\nlines"))
        two\nlines
    """
    return "".join(ascii(c)[1:-1] if unicodedata.category(c) in _ESCAPED or c in _REORDERING else c for c in label)


def columns(text: str) -> int:
    """Return the number of terminal columns of a text: wide letters take two, combining marks and joiners none.

    Example:
        >>> columns("abc"), columns("日本")
        (3, 4)
    """
    return sum(map(_width, text))


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    r"""Return rows of cells as lines, the first column aligned at the left and the others at the right.

    Example:
        >>> print("\n".join(aligned([["word", "effect"], ["not", "+1.0"], ["good", "-12.5"]])))
        word  effect
        not     +1.0
        good   -12.5
    """
    widths = [max(map(columns, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        first, *rest = (" " * (width - columns(cell)) for cell, width in zip(row, widths, strict=True))
        others = (space + cell for space, cell in zip(rest, row[1:], strict=True))
        lines.append("  ".join([row[0] + first, *others]).rstrip())
    return lines


def shortened(text: str, width: int, mark: str = "...") -> str:
    """Return the text, cut to at most `width` columns, at whose end is a mark if it was cut.

    Example:
        >>> shortened("a long label", 8), shortened("short", 8)
        ('a lon...', 'short')
    """
    taken, kept = 0, 0
    for place, character in enumerate(text, start=1):
        taken += _width(character)
        if taken <= width - len(mark):
            kept = place
        if taken > width:
            return f"{text[:kept]}{mark}"
    return text


def effect_format(largest: float) -> str:
    """Return the format of effects up to this size: three significant digits for the largest.

    Example:
        >>> [effect_format(x).format(x) for x in (-2.314, 51.27, 0.00421, 0.9999, 123456.0, 3e-9)]
        ['-2.31', '+51.3', '+0.00421', '+1.00', '+123456', '+3.00e-09']
    """
    if largest == 0:
        return "{:+.2f}"
    exponent = math.floor(math.log10(float(f"{abs(largest):.2e}")))  # of the rounded number: 0.9999 is printed as 1.00
    return f"{{:+.{max(0, 2 - exponent)}f}}" if -5 <= exponent <= 6 else "{:+.2e}"


def percent(share: float) -> str:
    """Return a share as a percentage of two digits, such as ``0.031 %``; from 100 % on without decimals.

    Example:
        >>> percent(0.000312), percent(0.0), percent(1.0), percent(float("inf"))
        ('0.031 %', '0 %', '100 %', 'inf %')
    """
    return f"{100 * share:.{'2g' if share < 0.995 else '0f'}} %"


def _width(character: str) -> int:
    if unicodedata.category(character) in _WITHOUT_WIDTH:
        return 0
    return 1 + (unicodedata.east_asian_width(character) in "WF")
