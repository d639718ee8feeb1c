"""A comparison of states as rows: one for each state, kind and order."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from captum_lkn._common.frames import import_pandas
from captum_lkn.decomposition.effects import KINDS, Kind
from captum_lkn.knowledge.comparison import Comparison

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ChangeRow", "rows_of", "to_frame"]

_COMPARED = ("all", "overlap", "forgotten", "new", "completeness", "redundancy")
_CEILING = (
    "completeness_ceiling",
    "redundancy_floor",
    "completeness_ceiling_all_orders",
    "redundancy_floor_all_orders",
)
_PROBES = ("probe_train_accuracy", "probe_held_out_accuracy")


class ChangeRow(NamedTuple):
    """One state (such as a layer), kind and order.

    Attributes:
        state: The state's label.
        kind: ``"and"`` or ``"or"``.
        order: The number of players in each set.
        all: The strength of the state's salient interactions, summed over the samples, in units of its normaliser.
        overlap: The part of it that the reference shares.
        forgotten: The part of it that the reference does not share.
        new: The part of the reference's strength that the state does not share.
        completeness: overlap as a share of the reference's strength; NaN where that is 0.
        redundancy: forgotten as a share of the state's strength; NaN where that is 0.
        salient: The number of the state's salient interactions, summed over the samples.
        salient_mean: The same for a sample, on average.
        reference_salient_mean: The number of the reference's salient interactions for a sample, on average.
        completeness_all_orders: The completeness over all orders of this kind; the same in all rows of state and kind,
            like all that follows with this ending.
        redundancy_all_orders: The redundancy over all orders.
        salient_mean_all_orders: The number of salient interactions of all orders for a sample, on average.
        reference_salient_mean_all_orders: The same number of the reference.
        completeness_ceiling: The share of itself that the reference finds again under noise; None where that was not
            measured.
        redundancy_floor: The share of itself that the state does not find again; None likewise.
        completeness_ceiling_all_orders: The ceiling over all orders; None likewise.
        redundancy_floor_all_orders: The floor over all orders; None likewise.
    """

    state: str
    kind: Kind
    order: int
    all: float
    overlap: float
    forgotten: float
    new: float
    completeness: float
    redundancy: float
    salient: int
    salient_mean: float
    reference_salient_mean: float
    completeness_all_orders: float
    redundancy_all_orders: float
    salient_mean_all_orders: float
    reference_salient_mean_all_orders: float
    completeness_ceiling: float | None
    redundancy_floor: float | None
    completeness_ceiling_all_orders: float | None
    redundancy_floor_all_orders: float | None


def rows_of(
    comparisons: Mapping[str, Comparison], own: Mapping[str, Comparison], reference: str, n_samples: int
) -> Iterator[ChangeRow]:
    """Yield a row for each state, kind (AND first) and order.

    Args:
        comparisons: Each state compared with the reference.
        own: Each state, the reference too, compared with its own noisy draws; empty where there are none.
        reference: The label of the reference.
        n_samples: The number of samples.
    """
    own_together = {state: found.over_orders() for state, found in own.items()}
    for state, found in comparisons.items():
        together = found.over_orders()
        for k, kind in enumerate(KINDS):
            for place in range(found.all.shape[1]):
                salient, of_reference = (int(counts[k, place]) for counts in (found.salient, found.reference_salient))
                ceiling, floor = _bounds(own, reference, state, k, place)
                ceiling_all, floor_all = _bounds(own_together, reference, state, k, 0)
                yield ChangeRow(
                    state=state,
                    kind=kind,
                    order=place + 1,
                    **{name: float(getattr(found, name)[k, place]) for name in _COMPARED},
                    salient=salient,
                    salient_mean=salient / n_samples,
                    reference_salient_mean=of_reference / n_samples,
                    completeness_all_orders=float(together.completeness[k, 0]),
                    redundancy_all_orders=float(together.redundancy[k, 0]),
                    salient_mean_all_orders=int(together.salient[k, 0]) / n_samples,
                    reference_salient_mean_all_orders=int(together.reference_salient[k, 0]) / n_samples,
                    completeness_ceiling=ceiling,
                    redundancy_floor=floor,
                    completeness_ceiling_all_orders=ceiling_all,
                    redundancy_floor_all_orders=floor_all,
                )


def to_frame(
    rows: Sequence[ChangeRow], accuracies: Mapping[str, tuple[float, float]], noun: str = "layer"
) -> pd.DataFrame:
    """Return rows as a data frame.

    Args:
        rows: The rows.
        accuracies: By state the accuracy of its probe, on the training and on the held-out part.
        noun: The name of the first column, that of the states.

    Returns:
        A frame with the fields of the rows for columns, without those that no row has, and with the accuracies of the
        probes if there are any. The states are an ordered categorical, in their own order.

    Raises:
        ImportError: If pandas is not installed.
    """
    pandas = import_pandas()
    frame = pandas.DataFrame(rows, columns=ChangeRow._fields)
    if all(row.completeness_ceiling is None for row in rows):
        frame = frame.drop(columns=list(_CEILING))
    if accuracies:
        for k, name in enumerate(_PROBES):
            frame[name] = [accuracies.get(row.state, (math.nan, math.nan))[k] for row in rows]
    states = list(dict.fromkeys(row.state for row in rows))
    frame["state"] = pandas.Categorical(frame["state"], categories=states, ordered=True)
    return frame.rename(columns={"state": noun})


def _bounds(
    own: Mapping[str, Comparison], reference: str, state: str, k: int, place: int
) -> tuple[float, float] | tuple[None, None]:
    """Return ceiling and floor of one kind and order, from comparisons with noisy draws; None where there are none."""
    if not own:
        return None, None
    return float(own[reference].completeness[k, place]), 1 - float(own[state].completeness[k, place])
