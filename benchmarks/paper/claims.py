"""The paper's claims as conditions on measured numbers; the rules were written before any network was run.

Each condition is a number with an interval over samples, and holds where the lower end of its 95 % interval is above 0.
A claim is **reproduced** on a task where all of its conditions hold, reproduced **in part** where some do, and **not**
where none does; conditions without a value (no interaction of that order) do not count. Over tasks a claim is
reproduced where it is on each task on which the paper makes it, not where it is on none, and else in part.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.paper.statistics import Curves, Estimate, Orders, estimate, mean_over

__all__ = ["CLAIMS", "EXCEPTED", "LAYER_CLAIMS", "holds", "kappa_conditions", "layer_conditions", "overall",
           "sample_conditions", "sparsity_conditions", "verdict"]  # fmt: skip

SPARSE = 0.05  # the paper: 22 of 2 * 2^10 are 1 %, 46 of 2 * 2^12 0.6 %; smaller n have fewer to be sparse among
EXPLAINED = 0.9
SAME = 0.05  # a change of completeness or redundancy by less is "almost the same"
FLAT = math.log(1.25)

CLAIMS = {
    "C1": "interactions are sparse",
    "C2": "low orders are stronger, in all layers",
    "C3": "probes of early layers hold fewer high-order interactions",
    "C4": "completeness rises from early layers on; high orders come late and never get complete",
    "C5": "redundancy rises, then falls with depth",
    "C6": "the IoU of two networks falls with order",
    "C7": "stability falls with order",
    "C8": "kappa of 0.03 or 0.05 gives almost the same",
    "C9": "the relative size of the input noise is flat over orders",
}

EXCEPTED = {"C5": ("cifar10-mlp7", "cifar10-vgg11", "census-mlp7", "commercials-mlp7", "cancer-mlp7", "wine-mlp7")}
"""Tasks for which the paper itself does not make a claim: of C5 tabular networks, and two on CIFAR-10."""

Statistic = Callable[[Curves, Orders, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Condition:
    """A number that must be above 0.

    Attributes:
        text: What it is.
        statistic: From curves, orders, counts ``[R, B]`` and the ceiling of high orders ``[R]`` to ``[R]``, or
            ``[R, K]``, of which the smallest counts.
    """

    text: str
    statistic: Statistic


def _low_share(curves: Curves, orders: Orders, counts: Tensor, _: Tensor) -> Tensor:
    return curves.share(counts, orders.low, orders.shown) - 0.5


def _inner(curves: Curves, orders: Orders, counts: Tensor, end: int) -> Tensor:
    found = curves.redundancy(counts, orders.shown)
    return found[:, 1:-1].mean(1) - found[:, end]


def _high_strength(curves: Curves, orders: Orders, counts: Tensor, _: Tensor) -> Tensor:
    found = curves.strength(counts, orders.high)
    return found[:, -1] - found[:, 0]


def _high_share(curves: Curves, orders: Orders, counts: Tensor, _: Tensor) -> Tensor:
    found = curves.share(counts, orders.high, orders.shown)
    return found[:, -1] - found[:, 0]


def _rise(curves: Curves, orders: Orders, counts: Tensor, _: Tensor) -> Tensor:
    found = curves.completeness(counts, orders.shown)
    return found[:, -1] - found[:, 0]


def _late(curves: Curves, orders: Orders, counts: Tensor, _: Tensor) -> Tensor:
    return (curves.completeness(counts, orders.low) - curves.completeness(counts, orders.high)).nanmean(1)


def _incomplete(curves: Curves, orders: Orders, counts: Tensor, ceiling: Tensor) -> Tensor:
    return ceiling - curves.completeness(counts, orders.high)[:, -1]


LAYER_CLAIMS: dict[str, tuple[Condition, ...]] = {
    "C2": (
        Condition("share of low orders at the output, less 0.5", lambda *x: _low_share(*x)[:, -1]),
        Condition("the same at the state where it is least", _low_share),
    ),
    "C3": (
        Condition("strength of high orders, output less first layer", _high_strength),
        Condition("share of high orders, output less first layer", _high_share),
    ),
    "C4": (
        Condition("completeness, last layer less first", _rise),
        Condition("completeness of low less high orders, mean over layers", _late),
        Condition("noise ceiling less completeness of high orders at the last layer", _incomplete),
    ),
    "C5": (
        Condition("redundancy, inner layers less first", lambda c, o, n, _: _inner(c, o, n, 0)),
        Condition("redundancy, inner layers less last", lambda c, o, n, _: _inner(c, o, n, -1)),
    ),
}
"""Claims on layers, C2 to C5, for one task and one reading."""


def layer_conditions(curves: Curves, players: int, counts: Tensor, ceiling: Tensor) -> dict[str, dict[str, Estimate]]:
    """Return the numbers of claims C2 to C5."""
    orders = Orders(players)
    return {
        claim: {one.text: _least(one.statistic(curves, orders, counts, ceiling)) for one in conditions}
        for claim, conditions in LAYER_CLAIMS.items()
    }


def sparsity_conditions(
    salient: Tensor, possible: Tensor, dividends: Tensor, explained: Tensor, counts: Tensor
) -> dict[str, Estimate]:
    """Return the numbers of claim C1, from those of each sample.

    Args:
        salient: The number of salient interactions ``[B]``.
        possible: The number of effects that there can be.
        dividends: The number of salient Harsanyi dividends.
        explained: R^2 of the salient interactions alone.
        counts: The resamples.
    """
    numbers = {
        f"{100 * SPARSE:.0f} % less the salient share": SPARSE - salient / possible,
        f"R² of the salient alone, less {EXPLAINED:g}": explained - EXPLAINED,
        "salient dividends less salient interactions": (dividends - salient).double(),
    }
    return {text: estimate(mean_over(of.double(), counts)) for text, of in numbers.items()}


def kappa_conditions(given: Curves, others: Mapping[str, Curves], players: int, counts: Tensor) -> dict[str, Estimate]:
    """Return the numbers of claim C8: what completeness and redundancy change on average over layers and orders."""
    orders, found = Orders(players), {}
    for quantity in ("completeness", "redundancy"):
        changes = [
            (getattr(other, quantity)(counts, group) - getattr(given, quantity)(counts, group)).abs()
            for other in others.values()
            for group in (orders.low, orders.high)
        ]
        found[f"{SAME:g} less the mean change of {quantity}"] = estimate(SAME - torch.cat(changes, 1).nanmean(1))
    return found


def sample_conditions(claim: str, by_order: Tensor, players: int, counts: Tensor) -> dict[str, Estimate]:
    """Return the numbers of claims C6, C7 and C9, from those of each sample by order, ``[B, m]``.

    Args:
        claim: The claim.
        by_order: IoU, stability, or relative size of the noise; NaN where a sample has none.
        players: The number of players.
        counts: The resamples.
    """
    orders = Orders(players)
    low, high = (by_order[:, group].nanmean(1) for group in (orders.low, orders.high))
    if claim == "C9":
        ratio = mean_over((high / low).log(), counts)
        return {"log 1.25 less |log ratio of high to low orders|": estimate(FLAT - ratio.abs())}
    what = {"C6": "IoU", "C7": "stability"}[claim]
    return {f"{what} of low less high orders": estimate(mean_over(low - high, counts))}


def _least(found: Tensor) -> Estimate:
    """Return the estimate of a statistic, or the one with the least lower end of several."""
    if found.dim() == 1:
        return estimate(found)
    several = [estimate(one) for one in found.unbind(1)]
    known = [one for one in several if not math.isnan(one.value)]
    return min(known, key=lambda one: one.low) if known else several[0]


def holds(condition: Mapping[str, Any]) -> bool | None:
    """Return whether a condition holds; None where it has no value."""
    return None if condition["low"] is None else condition["low"] > 0


def verdict(conditions: Iterable[Mapping[str, Any]]) -> str:
    """Return the verdict on one task: reproduced, in part, not, or untested."""
    return _together([held for one in conditions if (held := holds(one)) is not None])


def overall(verdicts: Sequence[str]) -> str:
    """Return the verdict over tasks."""
    tested = [one for one in verdicts if one != "untested"]
    if tested and "in part" in tested:
        return "in part"
    return _together([one == "reproduced" for one in tested])


def _together(held: Sequence[bool]) -> str:
    if not held:
        return "untested"
    return "reproduced" if all(held) else "in part" if any(held) else "not"
