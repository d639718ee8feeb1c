"""Results of this package as tables, for a terminal and for a notebook."""

from __future__ import annotations

import textwrap
from abc import ABC, abstractmethod
from typing import ClassVar

from captum_lkn._common import html
from captum_lkn._common.formats import aligned, printable
from captum_lkn.interactions.about import WIDTH

__all__ = ["Tabular"]


class Tabular(ABC):
    """A result that shows itself as one table below a caption."""

    _text_columns: ClassVar[int] = 1
    """The number of columns, from the left, that hold text: in a notebook the others are aligned at the right."""

    @abstractmethod
    def _caption(self) -> list[str]:
        """Return the sentences above the table."""

    @abstractmethod
    def _table(self) -> tuple[list[str], list[list[str]]]:
        """Return the header and the rows."""

    def __repr__(self) -> str:
        header, rows = self._table()
        head = [line for text in self._caption() for line in textwrap.wrap(text, WIDTH - 2)]
        lines = aligned([[printable(cell) for cell in line] for line in (header, *rows)])
        return "\n  ".join([*(line.rstrip() for line in head), *lines])

    def _repr_html_(self) -> str:
        header, rows = self._table()
        return html.table(self._caption(), header, rows, texts=header[: self._text_columns])
