"""Interactions of a model, or of its layers or checkpoints, that other models have as well, and the rest."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from captum_lkn._common.accessors import Accessor
from captum_lkn._common.arguments import checked
from captum_lkn._common.checks import is_number
from captum_lkn._common.frames import import_pandas
from captum_lkn._common.messages import count_of, kind_of
from captum_lkn._common.warn import warn
from captum_lkn.decomposition.effects import TAU, Effects
from captum_lkn.evaluation.bootstrap import CONFIDENCE, RESAMPLES, Resampling, bootstrap, shown_interval
from captum_lkn.evaluation.by_order import KINDS_AND_BOTH, highest_order, sums_by_order
from captum_lkn.evaluation.saved import Saved, check_count, check_numbers, check_parts, listed_interaction
from captum_lkn.evaluation.text import Tabular
from captum_lkn.interactions import Interaction, InteractionsBatch
from captum_lkn.interactions.ranking import ranked
from captum_lkn.knowledge import KnowledgeChange
from captum_lkn.knowledge.checks import check_interactions, check_label
from captum_lkn.knowledge.comparison import Scope, check_salience, thresholds
from captum_lkn.knowledge.sampled import batch_normaliser

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Transfer", "TransferRow", "TransferStrengths", "transferable"]

States: TypeAlias = InteractionsBatch | Mapping[str, InteractionsBatch] | KnowledgeChange
"""One model's interactions, those of several models, layers or checkpoints by label, or a comparison of these."""

_ONE = "model"


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


@dataclass(frozen=True, eq=False, repr=False)
class Transfer(Tabular, Saved, Mapping[str, TransferStrengths]):
    """Salient interactions that held-out models have as well, and the rest; made by :func:`transferable`.

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
    noun: str = _ONE

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
        if not labels or len(set(labels)) < len(labels):
            raise ValueError(f"each state must have a label of its own; got {labels!r}")
        check_numbers("strengths", tensors["strengths"], (len(labels), 6, None, 3, None), nan=True)
        check_numbers("sums", tensors["sums"], (len(labels), 2, *tensors["strengths"].shape[2:]))
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
        _check_share("at_least", self.at_least)
        texts: list[Any] = [self.noun, *self.strengths]
        if not all(isinstance(text, str) for text in texts):
            raise TypeError(f"noun and labels must be strings; got {texts}")
        samples = len(next(iter(self.strengths.values())).other)
        if any(len(of_state) != samples for of_state in self.shares.values()):
            raise ValueError(f"shares must be of {samples} samples in each state")

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


def transferable(
    found: States,
    held_out: States,
    *,
    at_least: float = 1.0,
    tau: float = TAU,
    scope: Scope = "dataset",
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Transfer:
    r"""Split the salient interactions of a model into those that held-out models have as well, and the rest.

    A salient interaction *transfers* if it is salient, with the same sign, in a share of the held-out models: models
    for the same task that were trained on other data, from another start, or with another architecture. What is learned
    from the task transfers; what a model made up from its own training samples does not. The strengths by order show
    which orders generalise, and the signs whether the rest cancels. Given several states, such as the checkpoints of a
    training run or the layers of a network, the same is done for each.

    Args:
        found: The interactions of a model; those of several layers, checkpoints or models by label; or a comparison
            (:class:`captum_lkn.KnowledgeChange`), whose states are taken, the reference included.
        held_out: The interactions of the held-out models: of one, or of several by label. Samples, players, score and
            classes must be the same.
        at_least: The share of held-out models in which an interaction must be salient; 1: in all.
        tau: The threshold of salience.
        scope: Over what the largest effect is taken: ``"dataset"`` or ``"sample"``.
        confidence: The probability of the interval, by the bootstrap over samples.
        resamples: The number of its resamples.
        seed: Their seed.

    Returns:
        Numbers and strengths by state, kind and order: print it, or take ``to_frame()``.

    Raises:
        TypeError: Something is not of its type.
        ValueError: The interactions answer different questions, or an option is out of range.

    Warns:
        UserWarning: The mean \|v(N) - v(empty)\| of a state is 0, so that its strengths are NaN; numbers and shares
            are known.

    Example:
        >>> from captum_lkn import AndOrInteraction
        >>> def of(function):
        ...     return AndOrInteraction(function, score="logit", noise=0).attribute(torch.ones(1, 3))
        >>> overfitted = of(lambda x: 2 * x[:, 0] + x[:, 1] - x[:, 0] * x[:, 1] * x[:, 2])
        >>> held_out = {"a": of(lambda x: x[:, 0] + x[:, 1]), "b": of(lambda x: x[:, 0] - x[:, 1])}
        >>> split = transferable(overfitted, held_out)
        >>> split.interactions("model")[0][0].players, split["model"].other[0, 2].tolist()
        (('0',), [1.0, 0.0, 1.0, 2.0])
        >>> split
        Share of the strength of salient interactions that transfer: salient with the
          same sign in at least 100 % of 2 held-out models; 1 sample, no intervals; in
          brackets the numbers of a sample
          order  model  share        number
          1      model   0.67  (1.0 of 2.0)
          3      model   0.00  (0.0 of 1.0)
          all    model   0.50  (1.0 of 3.0)
    """
    check_salience(tau, scope)
    resampling = Resampling(confidence, resamples, seed).check()
    _check_share("at_least", at_least)
    states, others = _states("found", found), _states("held_out", held_out)
    check_interactions(
        {f"found {label}": batch for label, batch in states.items()}
        | {f"held out {label}": batch for label, batch in others.items()}
    )
    known = [_salient(batch, tau, scope) for batch in others.values()]
    strengths, sums, shares = {}, {}, {}
    for label, batch in states.items():
        own = _salient(batch, tau, scope)
        each = [_shares(one, [of[place] for of in known]) for place, one in enumerate(own)]
        highest = highest_order(batch)
        parts = [_strengths(one, share >= at_least, highest) for one, share in zip(own, each, strict=True)]
        counts, raw = (torch.stack(part, 1) for part in zip(*parts, strict=True))
        strengths[label] = TransferStrengths(*counts, *(raw / _unit(label, batch)))
        transfer, other = raw[0] - raw[1], raw[2] - raw[3]
        sums[label] = torch.stack([transfer, transfer + other])
        shares[label] = tuple(
            tuple(_listed(sample.labels, one, share)) for sample, one, share in zip(batch, own, each, strict=True)
        )
    noun = found.noun if isinstance(found, KnowledgeChange) else _ONE
    return Transfer(strengths, sums, shares, len(others), float(at_least), noun, resampling=resampling)


def _states(name: str, given: Any) -> dict[str, InteractionsBatch]:
    """Return batches by label."""
    if isinstance(given, InteractionsBatch):
        return {_ONE: given}
    if isinstance(given, KnowledgeChange):
        return {label: given.interactions[label] for label in dict.fromkeys((*given.states, given.reference))}
    if not isinstance(given, Mapping) or not given:
        raise TypeError(
            f"{name} must be an InteractionsBatch, a mapping from labels to such, or a KnowledgeChange; got "
            f"{kind_of(given)}"
        )
    return dict(given)


def _salient(batch: InteractionsBatch, tau: float, scope: Scope) -> list[Effects]:
    effects = [one.effects for one in batch]
    return [one.select(one.above(limit)) for one, limit in zip(effects, thresholds(effects, tau, scope), strict=True)]


def _shares(own: Effects, others: list[Effects]) -> Tensor:
    """Return for each effect the share of others that have it with the same sign, ``[k]``."""
    return torch.stack([other.at(own).sign() == own.values.sign() for other in others]).double().mean(0)


def _unit(label: str, batch: InteractionsBatch) -> float:
    """Return the mean |v(N) - v(empty)|; NaN, with a warning, where it is 0."""
    unit = batch_normaliser(batch)
    if not unit:
        warn(
            f"|v(N) - v(empty)| of {label!r} is 0 in all samples, so that its strengths, which are in units of it, are "
            "NaN; numbers and shares are known. Choose samples where masking changes the score"
        )
    return unit or math.nan


def _strengths(own: Effects, transfers: Tensor, highest: int) -> tuple[Tensor, Tensor]:
    """Return the parts of :class:`TransferStrengths` for one sample: its numbers, and its sums in the score's unit."""
    effects = own.values
    both = (transfers.double(), (~transfers).double())
    counts = [sums_by_order(own, part, highest) for part in both]
    sums = [
        sums_by_order(own, signed * part, highest)
        for part in both
        for signed in (effects.clamp(min=0), effects.clamp(max=0))
    ]
    return torch.stack(counts), torch.stack(sums)


def _check_share(name: str, value: Any) -> None:
    if not is_number(value) or not 0 < value <= 1:
        raise ValueError(f"{name} must be a share of the held-out models, above 0 and at most 1; got {value!r}")


def _listed(labels: tuple[str, ...], own: Effects, shares: Tensor) -> list[tuple[Interaction, float]]:
    """Return the interactions with their shares, the strongest first."""
    order = own.strongest()
    return list(zip(ranked(labels, own), shares[order].tolist(), strict=True))
