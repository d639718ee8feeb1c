"""Means over the samples of a study, with intervals by the bootstrap."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple

import torch

from captum_lkn._common.arguments import Count, checked, shown
from captum_lkn._common.checks import is_number, is_whole
from captum_lkn._common.frames import import_pandas
from captum_lkn._common.messages import count_of
from captum_lkn.evaluation.bootstrap import Resampling, bootstrap, shown_interval
from captum_lkn.evaluation.text import Tabular
from captum_lkn.interactions.combinations import combinations

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "CombinationRow",
    "StrongestCombinations",
    "StudySummary",
    "SummaryRow",
    "strongest_combinations",
    "summarised",
]


class CombinationRow(NamedTuple):
    """One combination of players over the samples that have them.

    Attributes:
        players: The players.
        kind: ``"and"`` or ``"or"``.
        mean: The mean effect over the samples that have all these players.
        low: The lower end of its interval; NaN where fewer than two samples have them.
        high: The upper end.
        samples: The number of samples that have them.
        salient: The number of these where the effect is salient.
    """

    players: tuple[str, ...]
    kind: str
    mean: float
    low: float
    high: float
    samples: int
    salient: int


@checked()
@dataclass(frozen=True, eq=False, repr=False)
class StrongestCombinations(Tabular):
    """The strongest combinations of players over a data set; made by :meth:`Study.strongest`.

    Attributes:
        rows: A row a combination, by descending sum of absolute effects over all samples.
        n_samples: The number of samples.
        resampling: The settings of the bootstrap.
    """

    rows: tuple[CombinationRow, ...]
    n_samples: Count
    resampling: Resampling = field(default_factory=Resampling)

    def __post_init__(self) -> None:
        self.resampling.check()
        for row in self.rows:
            _check_interval(row, row.players, row.mean, row.low, row.high)
            counts: tuple[object, ...] = row.salient, row.samples
            if row.kind not in ("and", "or") or not all(map(is_whole, counts)):
                raise ValueError(f"rows must have a kind and whole numbers of samples; got {shown(row)}")
            if not 0 <= row.salient <= row.samples <= self.n_samples:
                raise ValueError(f"rows must be of at most n_samples = {self.n_samples} samples; got {shown(row)}")

    def to_frame(self) -> pd.DataFrame:
        """Return the rows as a data frame, with the columns of :class:`CombinationRow`.

        Raises:
            ImportError: If pandas is not installed.
        """
        return import_pandas().DataFrame(self.rows, columns=CombinationRow._fields)

    def _caption(self) -> list[str]:
        return [
            f"Strongest combinations over {count_of(self.n_samples, 'sample')}; mean effects over the samples that "
            f"have the players, {self.resampling.stated(self.n_samples)}"
        ]

    def _table(self) -> tuple[list[str], list[list[str]]]:
        signs = {"and": " & ", "or": " | "}
        return ["combination", "effect", "samples", "salient"], [
            [
                signs[row.kind].join(row.players),
                shown_interval((row.mean, row.low, row.high), "+.2f"),
                str(row.samples),
                str(row.salient),
            ]
            for row in self.rows
        ]


def strongest_combinations(batch: Any, top: int, least_order: int, resampling: Resampling) -> StrongestCombinations:
    """Return the strongest combinations over the samples of a batch, with intervals of their mean effects."""
    found = combinations(batch, top, least_order)
    effects = torch.full((len(batch), len(found)), math.nan, dtype=torch.float64, device="cpu")
    for column, one in enumerate(found):
        effects[list(one.samples), column] = torch.tensor(one.effects, dtype=torch.float64, device="cpu")
    ends = torch.stack(bootstrap(effects, None, resampling), 1).tolist() if found else []
    rows = [
        CombinationRow(one.players, one.kind, mean, low, high, len(one.samples), one.salient)
        for one, (mean, low, high) in zip(found, ends, strict=True)
    ]
    return StrongestCombinations(tuple(rows), len(batch), resampling)


class SummaryRow(NamedTuple):
    """Mean of one measure over the samples, at one layer.

    Attributes:
        layer: The layer's label, or ``"output"``.
        measure: ``"range"``, v(N) - v(empty) in absolute value; ``"salient"``, the number of salient effects;
            ``"order"``, the mean order of effects, weighted by their strength; ``"or"``, the share of OR effects in
            the strength.
        mean: The mean over the samples.
        low: The lower end of its interval; NaN of a single sample.
        high: The upper end.
    """

    layer: str
    measure: str
    mean: float
    low: float
    high: float


_MEASURES: Final = ("range", "salient", "order", "or")


def _check_interval(row: object, names: object, *numbers: object) -> None:
    """Check that a row has texts, and a mean with an interval around it, or one that is not known."""
    texts = isinstance(names, tuple) and names and all(isinstance(name, str) for name in names)
    if not texts or not all(map(is_number, numbers)) or any(map(math.isinf, numbers)):  # type: ignore[arg-type]
        raise ValueError(f"rows must have names and finite numbers; got {shown(row)}")
    _, low, high = numbers
    if low > high:  # type: ignore[operator]
        raise ValueError(f"rows must have an interval from low to high; got {shown(row)}")


@checked()
@dataclass(frozen=True, eq=False, repr=False)
class StudySummary(Tabular):
    """Means over the samples of a study, by layer; made by :meth:`Study.summary`.

    Attributes:
        rows: A row for each layer and measure.
        n_samples: The number of samples.
        resampling: The settings of the bootstrap.
    """

    rows: tuple[SummaryRow, ...]
    n_samples: Count
    resampling: Resampling = field(default_factory=Resampling)

    def __post_init__(self) -> None:
        self.resampling.check()
        for row in self.rows:
            _check_interval(row, (row.layer,), row.mean, row.low, row.high)
        layers = dict.fromkeys(row.layer for row in self.rows)
        if [row[:2] for row in self.rows] != [(layer, measure) for layer in layers for measure in _MEASURES]:
            raise ValueError(f"rows must have the measures {', '.join(_MEASURES)} of each layer, in this order")

    _text_columns: ClassVar[int] = 1

    def to_frame(self) -> pd.DataFrame:
        """Return the rows as a data frame, with the columns of :class:`SummaryRow`.

        Raises:
            ImportError: If pandas is not installed.
        """
        return import_pandas().DataFrame(self.rows, columns=SummaryRow._fields)

    def _caption(self) -> list[str]:
        count = self.n_samples
        return [f"Summary of {count_of(count, 'sample')}; means over samples, {self.resampling.stated(count)}"]

    def _table(self) -> tuple[list[str], list[list[str]]]:
        cells: dict[str, list[str]] = {}
        for row in self.rows:
            cells.setdefault(row.layer, []).append(shown_interval((row.mean, row.low, row.high)))
        return ["layer", "range", "salient", "mean order", "share of OR"], [[name, *own] for name, own in cells.items()]


def summarised(by_layer: Mapping[str, Any], resampling: Resampling) -> StudySummary:
    """Return means over the samples of each layer's batch, with intervals."""
    rows: list[SummaryRow] = []
    count = 0
    for label, batch in by_layer.items():
        count = len(batch)
        measures = torch.tensor([_measures(one) for one in batch], dtype=torch.float64, device="cpu")
        ends = torch.stack(bootstrap(measures, None, resampling), 1).tolist()
        rows += [SummaryRow(label, name, *three) for name, three in zip(_MEASURES, ends, strict=True)]
    return StudySummary(tuple(rows), count, resampling)


def _measures(one: Any) -> tuple[float, float, float, float]:
    strengths = one.effects.values.abs()
    total = float(strengths.sum())
    order = float((strengths * one.effects.orders).sum()) / total if total else math.nan
    share = float(strengths[one.effects.is_or].sum()) / total if total else math.nan
    return abs(one.v_full - one.v_empty), float(one.n_salient), order, share
