"""Tables of results as text for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from captum_lkn._common.formats import columns, printable
from captum_lkn.interactions.about import WIDTH

__all__ = ["text_table"]


def text_table(caption: Sequence[str], header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table, the first column aligned at the left and the others at the right, below a caption.

    Example:
        >>> print(text_table(["Words"], ["word", "effect"], [["not", "+1.0"], ["good", "-12.5"]]))
        Words
          word  effect
          not     +1.0
          good   -12.5
    """
    lines = [[printable(cell) for cell in line] for line in (header, *rows)]
    widths = [max(map(columns, column)) for column in zip(*lines, strict=True)]
    padded = [
        "  ".join(
            (cell + " " * (width - columns(cell))) if place == 0 else " " * (width - columns(cell)) + cell
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]
    head = [line for text in caption for line in textwrap.wrap(text, WIDTH - 2)]
    return "\n  ".join(line.rstrip() for line in [*head, *padded])
