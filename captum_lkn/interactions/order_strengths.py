"""Strengths of effects by kind and order, as a list that prints as a table."""

from __future__ import annotations

from captum_lkn._common import html
from captum_lkn._common.formats import aligned, effect_format
from captum_lkn.decomposition.effects import OrderStrength

__all__ = ["OrderStrengths"]

_HEADER = ("kind", "order", "nonzero", "strength", "positive", "negative")


class OrderStrengths(list[OrderStrength]):
    """A list of rows, one for each kind and order; printed, those without an effect are left out.

    Example:
        >>> rows = OrderStrengths([OrderStrength("and", 1, 2, 3.5, 3.0, -0.5), OrderStrength("or", 1, 0, 0, 0, 0)])
        >>> rows
        kind  order  nonzero  strength  positive  negative
        AND       1        2      3.50      3.00     -0.50
        >>> rows[0].strength
        3.5
    """

    def _cells(self) -> list[tuple[str, ...]]:
        number = effect_format(max((row.strength for row in self), default=0.0))
        return [
            (
                row.kind.upper(),
                str(row.order),
                str(row.nonzero),
                *(number.format(x).removeprefix("+") for x in (row.strength, row.positive, row.negative)),
            )
            for row in self
            if row.nonzero
        ]

    def __repr__(self) -> str:
        return "\n".join(aligned([_HEADER, *self._cells()]))

    def _repr_html_(self) -> str:
        return html.table((), _HEADER, self._cells(), texts=("kind",))
