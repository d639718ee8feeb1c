"""A comparison of layers as rows: one for each layer, kind and order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from captum_lkn.interactions.ranking import KINDS, Kind

if TYPE_CHECKING:
    import pandas as pd

    from captum_lkn.knowledge.change import KnowledgeChange

__all__ = ["ChangeRow", "rows_of", "to_frame"]

_COMPARED = ("all", "overlap", "forgotten", "new", "completeness", "redundancy", "salient")
_LUCK = ("completeness_ceiling", "redundancy_floor")


class ChangeRow(NamedTuple):
    """One layer, kind and order.

    Attributes:
        layer: The layer's label.
        kind: ``"and"`` or ``"or"``.
        order: The number of players in each set.
        all: Strength of the layer's salient interactions, summed over the samples, in units of its normaliser.
        overlap: What of it the target shares.
        forgotten: What of it the target does not share.
        new: What of the target's strength the layer does not share.
        completeness: overlap as a share of the target's strength; NaN where that is 0.
        redundancy: forgotten as a share of the layer's strength; NaN where that is 0.
        salient: The number of the layer's salient interactions, summed over the samples.
        completeness_ceiling: The share of itself that the target finds again under noise; None where that was not
            measured.
        redundancy_floor: The share of itself that the layer does not find again; None likewise.
    """

    layer: str
    kind: Kind
    order: int
    all: float
    overlap: float
    forgotten: float
    new: float
    completeness: float
    redundancy: float
    salient: int
    completeness_ceiling: float | None
    redundancy_floor: float | None


def rows_of(change: KnowledgeChange) -> Iterator[ChangeRow]:
    """Everything by layer, kind (AND first) and order."""
    ceiling = change.own[change.against].completeness if change.luck else None
    for layer, found in change.items():
        floor = 1 - change.own[layer].completeness if change.luck else None
        numbers = {name: getattr(found, name).tolist() for name in _COMPARED}
        for k, kind in enumerate(KINDS):
            for place in range(found.all.shape[1]):
                compared = (numbers[name][k][place] for name in _COMPARED)
                luck = (None if bound is None else float(bound[k, place]) for bound in (ceiling, floor))
                yield ChangeRow(layer, kind, place + 1, *compared, *luck)


def to_frame(rows: Sequence[ChangeRow], with_luck: bool) -> pd.DataFrame:
    """Rows as a data frame.

    Args:
        rows: The rows.
        with_luck: Whether the columns on luck are wanted.

    Returns:
        A frame with the fields of the rows for columns.

    Raises:
        ImportError: If pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError("to_frame needs pandas: pip install 'captum-lkn[frame]'") from error
    frame = pd.DataFrame(rows, columns=ChangeRow._fields)
    return frame if with_luck else frame.drop(columns=list(_LUCK))
