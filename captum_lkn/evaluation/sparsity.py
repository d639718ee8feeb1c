"""Sorted strengths of the effects, and the number of salient ones, against Harsanyi dividends."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from captum_lkn._common.accessors import Accessor
from captum_lkn._common.arguments import checked
from captum_lkn._common.checks import check_numbers
from captum_lkn._common.frames import import_pandas
from captum_lkn._common.messages import count_of, kind_of
from captum_lkn.decomposition import lattice
from captum_lkn.decomposition.effects import TAU, Effects
from captum_lkn.decomposition.options import n_possible
from captum_lkn.evaluation.bootstrap import CONFIDENCE, RESAMPLES, Resampling, bootstrap, shown_interval
from captum_lkn.evaluation.saved import Saved
from captum_lkn.evaluation.text import Tabular
from captum_lkn.interactions import InteractionsBatch
from captum_lkn.knowledge.comparison import Scope, check_salience, thresholds

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Sparsity", "sparsity"]

_ROWS = ("AND and OR effects", "Harsanyi dividends")


@checked()
@dataclass(frozen=True, eq=False, repr=False)
class Sparsity(Tabular, Saved):
    """Sparsity of interactions, and of the Harsanyi dividends of the same outputs; made by :func:`sparsity`.

    Attributes:
        strengths: float64 ``[B, K]``: the absolute effects of each sample in descending order, as a share of the
            largest one; 0 where there are no more.
        dividends: The same of the Harsanyi dividends, float64 ``[B, 2^m - 1]``; NaN beyond the number of sets of a
            sample with fewer players.
        salient: int64 ``[B]``: the number of salient effects.
        salient_dividends: int64 ``[B]``: the number of salient dividends, at the same share of their own largest one.
        players: int64 ``[B]``: the number of players.
        possible: int64 ``[B]``: the number of effects that there can be: of ``kind="and"`` those of AND alone.
        tau: The threshold of salience.
        scope: Over what the largest effect is taken.
        resampling: The settings of the bootstrap.
    """

    strengths: Tensor
    dividends: Tensor
    salient: Tensor
    salient_dividends: Tensor
    players: Tensor
    possible: Tensor
    tau: float = TAU
    scope: Scope = "dataset"

    plot = Accessor("captum_lkn.plot.accessors", "SPARSITY")
    """Pictures as methods, such as ``found.plot.strengths()``; see :mod:`captum_lkn.plot`."""

    def to_frame(self) -> pd.DataFrame:
        """Return a row for each rank.

        Returns:
            A DataFrame with the columns rank (1 to K), strength and dividend: means over the samples.

        Raises:
            ImportError: If pandas is not installed.
        """
        strengths, dividends = self.strengths.nanmean(0).tolist(), self.dividends.nanmean(0).tolist()
        count = max(len(strengths), len(dividends))
        columns = {
            name: [*numbers, *[math.nan] * (count - len(numbers))]
            for name, numbers in (("strength", strengths), ("dividend", dividends))
        }
        return import_pandas().DataFrame({"rank": range(1, count + 1), **columns})

    def _check(self) -> None:
        check_salience(self.tau, self.scope)
        check_numbers("strengths", self.strengths, (None, None))
        count = len(self.strengths)
        check_numbers("dividends", self.dividends, (count, None), nan=True)
        for name in ("salient", "salient_dividends", "players", "possible"):
            numbers = getattr(self, name)
            check_numbers(name, numbers, (count,), torch.int64)
            if int(numbers.min()) < 0:
                raise ValueError(f"{name} must not be negative; got {int(numbers.min())}")

    def _caption(self) -> list[str]:
        sizes = sorted(set(self.players.tolist()))
        players = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
        largest = "of the data set" if self.scope == "dataset" else "of each sample"
        return [
            f"Sparsity over {count_of(len(self.players), 'sample')} of {players} players; salient: above {self.tau:g} "
            f"of the largest {largest}; means, {self.resampling.stated(len(self.players))}"
        ]

    def _table(self) -> tuple[list[str], list[list[str]]]:
        possible = self.possible, 2.0**self.players - 1
        rows = []
        for name, counts, all_, strengths in zip(
            _ROWS, (self.salient, self.salient_dividends), possible, (self.strengths, self.dividends), strict=True
        ):
            each = bootstrap(counts.double(), None, self.resampling)
            share = float(strengths[:, :10].nansum() / strengths.nansum())
            of_all = f"{float(all_.double().mean()):.0f}"
            rows.append([name, shown_interval(each, form=".1f"), of_all, "-" if math.isnan(share) else f"{share:.2f}"])
        return ["", "salient", "of", "ten strongest"], rows


def sparsity(
    found: InteractionsBatch,
    *,
    tau: float = TAU,
    scope: Scope = "dataset",
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Sparsity:
    """Count the salient effects and sort the strengths, beside the Harsanyi dividends of the same outputs.

    Harsanyi dividends are the AND effects alone that reproduce all outputs exactly. A sparse explanation has few
    salient effects, and its strengths fall off faster.

    Args:
        found: The interactions of several samples, up to 20 players.
        tau: The threshold of salience.
        scope: Over what the largest effect is taken: ``"dataset"`` or ``"sample"``.
        confidence: The probability of the interval, by the bootstrap over samples.
        resamples: The number of its resamples.
        seed: Their seed.

    Returns:
        Counts and strengths: print it, or take ``to_frame()``. Printed, the last column is the share of the strength
        that the ten strongest effects have.

    Raises:
        TypeError: Something is not of its type.
        ValueError: An option is out of range.

    Example:
        >>> from captum_lkn import AndOrInteraction
        >>> def any_of_four(x):
        ...     return x.amax(1)
        >>> sparsity(AndOrInteraction(any_of_four, score="logit", noise=0).attribute(torch.ones(1, 4)))
        Sparsity over 1 sample of 4 players; salient: above 0.05 of the largest of the
          data set; means, no intervals
                              salient  of  ten strongest
          AND and OR effects      1.0  26           1.00
          Harsanyi dividends     15.0  15           0.67
    """
    if not isinstance(found, InteractionsBatch):
        raise TypeError(f"found must be an InteractionsBatch; got {kind_of(found)}")
    check_salience(tau, scope)
    resampling = Resampling(confidence, resamples, seed).check()
    effects = [one.effects for one in found]
    dividends = [_dividends(one.values) for one in found]
    longest = max(max(map(len, effects)), 1)
    return Sparsity(
        _stacked([_sorted(one, longest) for one in effects]),
        _stacked([_sorted(one, (1 << one.n) - 1) for one in dividends]),
        _salient(effects, tau, scope),
        _salient(dividends, tau, scope),
        torch.tensor([one.n_players for one in found], device="cpu"),
        torch.tensor([n_possible(one.n_players, one.options.kind) for one in found], device="cpu"),
        tau=float(tau),
        scope=scope,
        resampling=resampling,
    )


def _dividends(values: Tensor) -> Effects:
    """Return the Harsanyi dividends of a table as AND effects."""
    return Effects.from_tables(lattice.and_transform(values), torch.zeros_like(values))


def _sorted(effects: Effects, count: int) -> Tensor:
    strengths = effects.values.abs().sort(descending=True).values / (effects.largest or 1.0)
    return torch.nn.functional.pad(strengths, (0, count - len(strengths)))


def _salient(effects: Sequence[Effects], tau: float, scope: Scope) -> Tensor:
    limits = thresholds(effects, tau, scope)
    counts = [int(one.above(limit).sum()) for one, limit in zip(effects, limits, strict=True)]
    return torch.tensor(counts, device="cpu")


def _stacked(rows: Sequence[Tensor]) -> Tensor:
    """Stack rows; shorter ones end with NaN."""
    longest = max(map(len, rows))
    return torch.stack([torch.nn.functional.pad(row, (0, longest - len(row)), value=math.nan) for row in rows])
