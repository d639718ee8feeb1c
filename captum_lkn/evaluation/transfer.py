"""Results of :func:`captum_lkn.evaluation.transferable`: interactions that other models have as well, and the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from captum_lkn._common.accessors import Accessor
from captum_lkn._common.arguments import checked
from captum_lkn._common.checks import check_numbers, is_number
from captum_lkn._common.frames import import_pandas
from captum_lkn._common.messages import count_of, some_of
from captum_lkn.evaluation.bootstrap import bootstrap, shown_interval
from captum_lkn.evaluation.by_order import KINDS_AND_BOTH
from captum_lkn.evaluation.saved import Saved, check_count, check_parts, listed_interaction
from captum_lkn.evaluation.text import Tabular
from captum_lkn.interactions import Interaction
from captum_lkn.knowledge.checks import check_label, check_noun

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ONE", "Transfer", "TransferRow", "TransferStrengths", "check_share"]

ONE = "model"  # the label of a state that is given without one


class TransferStrengths(NamedTuple):
    r"""Salient interactions of one state, by sample, kind and order: each ``[B, 3, m + 1]``.

    Rows AND, OR, both; columns order 1 to m, then all orders together. Strengths are in units of the state's mean
    \|v(N) - v(empty)\|.

    Attributes:
        transferable: The number of those that transfer.
        other: The number of those that do not.
        transferable_positive: The sum of the positive effects that transfer.
        transferable_negative: The sum of the negative effects that transfer, at most 0.
        other_positive: The sum of the positive effects that do not.
        other_negative: The sum of the negative effects that do not, at most 0.
    """

    transferable: Tensor
    other: Tensor
    transferable_positive: Tensor
    transferable_negative: Tensor
    other_positive: Tensor
    other_negative: Tensor

    @property
    def transferable_strength(self) -> Tensor:
        """The sum of the absolute effects that transfer."""
        return self.transferable_positive - self.transferable_negative

    @property
    def other_strength(self) -> Tensor:
        """The sum of the absolute effects that do not transfer."""
        return self.other_positive - self.other_negative


class TransferRow(NamedTuple):
    """One state, kind and order; numbers and strengths are means over the samples.

    Attributes:
        state: The label of the model, layer or checkpoint.
        kind: ``"and"``, ``"or"``, or ``"both"`` together.
        order: The number of players in each set; None: all orders together.
        share: The share of the strength that transfers, over all samples; NaN where there is none.
        low: The lower end of its interval.
        high: The upper end.
        transferable: The number of salient interactions that transfer.
        other: The number of those that do not.
        transferable_positive: The sum of the positive effects that transfer.
        transferable_negative: The sum of the negative ones.
        other_positive: The sum of the positive effects that do not.
        other_negative: The sum of the negative ones.
    """

    state: str
    kind: str
    order: int | None
    share: float
    low: float
    high: float
    transferable: float
    other: float
    transferable_positive: float
    transferable_negative: float
    other_positive: float
    other_negative: float


@checked()
@dataclass(frozen=True, eq=False, repr=False)
class Transfer(Tabular, Saved, Mapping[str, TransferStrengths]):
    """Salient interactions that held-out models have as well, and the rest.

    Made by :func:`captum_lkn.evaluation.transferable`.

    A mapping from the label of each state to its strengths.

    Attributes:
        strengths: By state the numbers and strengths.
        sums: By state the sums of the absolute effects that transfer, and of all salient ones, in units of the score:
            float64 ``[2, B, 3, m + 1]``. Shares are of these, so that they are known where the unit of the strengths is
            0.
        shares: By state, for each sample, the salient interactions with the share of held-out models that have them,
            the strongest first.
        held_out: The number of held-out models.
        at_least: The share of held-out models that makes an interaction transferable.
        noun: What a state is called.
        resampling: The settings of the bootstrap.
    """

    strengths: Mapping[str, TransferStrengths]
    sums: Mapping[str, Tensor]
    shares: Mapping[str, tuple[tuple[tuple[Interaction, float], ...], ...]]
    held_out: int
    at_least: float = 1.0
    noun: str = ONE

    _text_columns = 2  # order and state
    plot = Accessor("captum_lkn.plot.accessors", "TRANSFER")
    """Pictures as methods, such as ``found.plot.strengths()``; see :mod:`captum_lkn.plot`."""

    def __getitem__(self, state: str) -> TransferStrengths:
        return self.strengths[state]

    def __iter__(self) -> Iterator[str]:
        return iter(self.strengths)

    def __len__(self) -> int:
        return len(self.strengths)

    @checked()
    def interactions(self, state: str, *, transferable: bool = True) -> list[list[Interaction]]:
        """List the salient interactions of a state that transfer, or the others.

        Args:
            state: Its label.
            transferable: Whether those that transfer are listed, or the others.

        Returns:
            For each sample its interactions, the strongest first.

        Raises:
            ValueError: There is no such state.
        """
        label = check_label(state, self.shares, self.noun)
        return [
            [one for one, share in sample if (share >= self.at_least) == transferable] for sample in self.shares[label]
        ]

    def rows(self) -> list[TransferRow]:
        """Return a row for each state, kind and order, then one for all orders of the kind."""
        found = []
        for state, parts in self.strengths.items():
            transfer, whole = self.sums[state]
            share = torch.stack(bootstrap(transfer, whole, self.resampling), -1).tolist()
            means = torch.stack([part.double().mean(0) for part in parts], -1).tolist()
            highest = whole.shape[-1] - 1
            found += [
                TransferRow(state, kind, m + 1 if m < highest else None, *share[k][m], *means[k][m])
                for k, kind in enumerate(KINDS_AND_BOTH)
                for m in range(highest + 1)
            ]
        return found

    def to_frame(self) -> pd.DataFrame:
        """Return the rows as a data frame.

        Returns:
            A DataFrame with the columns of :class:`captum_lkn.evaluation.TransferRow`, the first one named after
            `noun`; the order is a nullable integer.

        Raises:
            ImportError: If pandas is not installed.
        """
        frame = import_pandas().DataFrame(self.rows(), columns=TransferRow._fields)
        return frame.astype({"order": "Int64"}).rename(columns={"state": self.noun})

    def _pack(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors = {
            "strengths": torch.stack([torch.stack(tuple(parts)) for parts in self.strengths.values()]),
            "sums": torch.stack(tuple(self.sums.values())),
        }
        _, rest = super()._pack()
        listed = [
            [[[one.kind, one.members, one.players, one.effect, share] for one, share in sample] for sample in samples]
            for samples in self.shares.values()
        ]
        return tensors, rest | {"strengths": list(self.strengths), "sums": None, "shares": listed}

    @classmethod
    def _unpack(cls, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> dict[str, Any]:
        known = {each.name for each in fields(cls)} - {"resampling"}
        check_parts(set(tensors), {"strengths", "sums"})
        check_parts(set(metadata), known)
        labels = metadata["strengths"]
        if len(set(labels)) < len(labels):
            raise ValueError(f"each state must have a label of its own; got {labels!r}")
        shares = [
            tuple(tuple(listed_interaction(*one) for one in sample) for sample in state) for state in metadata["shares"]
        ]
        return {
            **metadata,
            "strengths": {
                label: TransferStrengths(*parts.unbind())
                for label, parts in zip(labels, tensors["strengths"], strict=True)
            },
            "sums": dict(zip(labels, tensors["sums"], strict=True)),
            "shares": dict(zip(labels, shares, strict=True)),
        }

    def _check(self) -> None:
        check_count("held_out", self.held_out, 1)
        check_share("at_least", self.at_least)
        check_noun(self.noun)
        if not self.strengths:
            raise ValueError("strengths must be of at least one state; got none")
        labels = list(self.strengths)
        for name, states in (("sums", self.sums), ("shares", self.shares)):
            if list(states) != labels:
                raise ValueError(f"{name} must be of the states {some_of(labels)}; got {some_of(list(states))}")
        first = next(iter(self.strengths.values()))[0]
        check_numbers("strengths", first, (None, len(KINDS_AND_BOTH), None), nan=True)
        for label in labels:
            for part in self.strengths[label]:
                check_numbers("strengths", part, tuple(first.shape), nan=True)
            check_numbers("sums", self.sums[label], (2, *first.shape))
            if len(self.shares[label]) != len(first):
                raise ValueError(f"shares must be of {len(first)} samples in each state")

    def _caption(self) -> list[str]:
        count = len(next(iter(self.shares.values())))
        samples, intervals = count_of(count, "sample"), self.resampling.stated(count)
        models = count_of(self.held_out, "held-out model")
        return [
            f"Share of the strength of salient interactions that transfer: salient with the same sign in at least "
            f"{100 * self.at_least:g} % of {models}; {samples}, {intervals}; in "
            "brackets the numbers of a sample"
        ]

    def _table(self) -> tuple[list[str], list[list[str]]]:
        every = {(row.state, row.order): row for row in self.rows() if row.kind == "both"}
        known = {m for (_, m), row in every.items() if row.transferable + row.other}
        orders = [m for m in dict.fromkeys(m for _, m in every) if m in known]
        rows = []
        for m in orders:
            for state in self:
                row = every[state, m]
                counts = f"({row.transferable:.1f} of {row.transferable + row.other:.1f})"
                rows.append([str(m or "all"), state, shown_interval([row.share, row.low, row.high]), counts])
        return ["order", self.noun, "share", "number"], rows


def check_share(name: str, value: Any) -> None:
    """Raise unless a share of the held-out models is a number above 0 and at most 1."""
    if not is_number(value) or not 0 < value <= 1:
        raise ValueError(f"{name} must be a share of the held-out models, above 0 and at most 1; got {value!r}")
