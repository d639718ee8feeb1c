"""A comparison of layers as rows: one for each layer, kind and order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from captum_lkn.decomposition.effects import KINDS, Kind
from captum_lkn.knowledge.comparison import Comparison

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ChangeRow", "rows_of", "to_frame"]

_COMPARED = ("all", "overlap", "forgotten", "new", "completeness", "redundancy", "salient")
_NOISE = ("completeness_ceiling", "redundancy_floor")


class ChangeRow(NamedTuple):
    """One layer, kind and order.

    Attributes:
        layer: The layer's label.
        kind: ``"and"`` or ``"or"``.
        order: The number of players in each set.
        all: The strength of the layer's salient interactions, summed over the samples, in units of its normaliser.
        overlap: The part of it that the reference shares.
        forgotten: The part of it that the reference does not share.
        new: The part of the reference's strength that the layer does not share.
        completeness: overlap as a share of the reference's strength; NaN where that is 0.
        redundancy: forgotten as a share of the layer's strength; NaN where that is 0.
        salient: The number of the layer's salient interactions, summed over the samples.
        completeness_ceiling: The share of itself that the reference finds again under noise; None where that was not
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


def rows_of(
    comparisons: Mapping[str, Comparison], own: Mapping[str, Comparison], reference: str
) -> Iterator[ChangeRow]:
    """Yield a row for each layer, kind (AND first) and order.

    Args:
        comparisons: Each layer compared with the reference.
        own: Each layer, the reference too, compared with its own noisy draws; empty where there are none.
        reference: The label of the reference.
    """
    ceiling = own[reference].completeness if own else None
    for layer, found in comparisons.items():
        floor = 1 - own[layer].completeness if own else None
        numbers = {name: getattr(found, name).tolist() for name in _COMPARED}
        for k, kind in enumerate(KINDS):
            for place in range(found.all.shape[1]):
                compared = (numbers[name][k][place] for name in _COMPARED)
                bounds = (None if bound is None else float(bound[k, place]) for bound in (ceiling, floor))
                yield ChangeRow(layer, kind, place + 1, *compared, *bounds)


def to_frame(rows: Sequence[ChangeRow], with_noise_ceiling: bool) -> pd.DataFrame:
    """Return rows as a data frame.

    Args:
        rows: The rows.
        with_noise_ceiling: Whether the columns of the noise ceiling are wanted.

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
    return frame if with_noise_ceiling else frame.drop(columns=list(_NOISE))
