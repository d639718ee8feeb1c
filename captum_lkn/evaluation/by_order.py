"""Numbers by kind and order, with intervals over the samples: the form of several results."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final, NamedTuple

import torch
from torch import Tensor

from captum_lkn._common.checks import check_numbers
from captum_lkn._common.frames import import_pandas
from captum_lkn._common.messages import count_of
from captum_lkn._common.warn import warn
from captum_lkn.decomposition.effects import Effects
from captum_lkn.evaluation.bootstrap import bootstrap, shown_interval
from captum_lkn.evaluation.saved import Saved
from captum_lkn.evaluation.text import Tabular
from captum_lkn.interactions import Interactions, InteractionsBatch
from captum_lkn.knowledge.sampled import batch_normaliser

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["KINDS_AND_BOTH", "ByOrder", "OrderRow", "chosen", "highest_order", "sums_by_order", "unit_of"]

KINDS_AND_BOTH: Final = ("and", "or", "both")


class OrderRow(NamedTuple):
    """One kind and order.

    Attributes:
        kind: ``"and"``, ``"or"``, or ``"both"`` together.
        order: The number of players in each set; None: all orders together.
        value: The mean over the samples; NaN where no sample has a value.
        low: The lower end of its interval.
        high: The upper end.
        samples: The number of samples that have a value.
    """

    kind: str
    order: int | None
    value: float
    low: float
    high: float
    samples: int


@dataclass(frozen=True, eq=False, repr=False)
class ByOrder(Tabular, Saved):
    """A number for each kind and order, the mean over the samples, with an interval by the bootstrap over samples.

    Attributes:
        samples: float64 ``[B, 3, m + 1]``: the number of each sample; rows AND, OR, both; columns order 1 to m, then
            all orders together. NaN where a sample has none.
        resampling: The settings of the bootstrap.
    """

    samples: Tensor

    @cached_property
    def _estimates(self) -> tuple[Tensor, Tensor, Tensor]:
        return bootstrap(self.samples, None, self.resampling)

    @property
    def values(self) -> Tensor:
        """The means over the samples, float64 ``[3, m + 1]``."""
        return self._estimates[0]

    @property
    def intervals(self) -> tuple[Tensor, Tensor]:
        """Both ends of the intervals, float64 ``[3, m + 1]`` each."""
        return self._estimates[1:]

    def rows(self) -> list[OrderRow]:
        """Return a row for each kind and order, then one for all orders of the kind."""
        found = torch.stack(self._estimates, -1).tolist()
        counts = (~self.samples.isnan()).sum(0).tolist()
        highest = self.samples.shape[-1] - 1
        return [
            OrderRow._make([kind, m + 1 if m < highest else None, *found[k][m], counts[k][m]])
            for k, kind in enumerate(KINDS_AND_BOTH)
            for m in range(highest + 1)
        ]

    def to_frame(self) -> pd.DataFrame:
        """Return the rows as a data frame.

        Returns:
            A DataFrame with the columns of :class:`captum_lkn.evaluation.OrderRow`; the order is a nullable integer.

        Raises:
            ImportError: If pandas is not installed.
        """
        frame = import_pandas().DataFrame(self.rows(), columns=OrderRow._fields)
        return frame.astype({"order": "Int64"})

    @property
    def _form(self) -> str:
        """The format of a number."""
        return ".2f"

    def _check(self) -> None:
        check_numbers("samples", self.samples, (None, len(KINDS_AND_BOTH), None), nan=True)

    @abstractmethod
    def _title(self) -> str:
        """Return the first sentence above the table."""

    def _table(self) -> tuple[list[str], list[list[str]]]:
        """Return header and rows: orders that have a value, and all orders."""
        every = {(row.kind, row.order): row for row in self.rows()}
        orders = [m for m in dict.fromkeys(row.order for row in every.values()) if every["both", m].samples]
        cells = [
            [str(m or "all"), *(shown_interval(every[kind, m][2:5], self._form) for kind in KINDS_AND_BOTH)]
            for m in orders
        ]
        return ["order", "AND", "OR", "both"], cells

    def _caption(self) -> list[str]:
        count = len(self.samples)
        return [self._title(), f"means over {count_of(count, 'sample')}, {self.resampling.stated(count)}"]


def chosen(effects: Effects, threshold: float, k: int | None) -> Effects:
    """Return the effects above a threshold, or the k strongest where k is given; none that is exactly 0."""
    if k is None:
        return effects.select(effects.above(threshold))
    mask = torch.zeros(len(effects), dtype=torch.bool, device="cpu")
    mask[effects.strongest()[:k]] = True
    return effects.select(mask & (effects.values != 0))


def sums_by_order(effects: Effects, numbers: Tensor, highest: int) -> Tensor:
    """Sum numbers, one an effect, by kind and order, for both kinds together, and for all orders together.

    Returns:
        ``[3, highest + 1]``, rows AND, OR, both; the last column is that of all orders.
    """
    sums = effects.sum_by_order(numbers, highest)
    sums = torch.cat([sums, sums.sum(0, keepdim=True)])
    return torch.cat([sums, sums.sum(1, keepdim=True)], 1)


def highest_order(several: Sequence[Interactions]) -> int:
    """Return the largest number of players of several samples."""
    return max(one.n_players for one in several)


def unit_of(name: str, batch: InteractionsBatch, consequence: str) -> float:
    """Return the mean |v(N) - v(empty)| of a batch, in which its effects are compared.

    Args:
        name: The batch's name, for the warning.
        batch: The interactions.
        consequence: The end of the warning: what is NaN, and what to do.

    Returns:
        The unit; NaN where it is 0.

    Warns:
        UserWarning: It is 0.
    """
    unit = batch_normaliser(batch)
    if not unit:
        warn(f"|v(N) - v(empty)| of {name} is 0 in all samples, so that {consequence}")
    return unit or math.nan
