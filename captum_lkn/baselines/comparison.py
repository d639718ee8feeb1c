"""Compare the interactions under several baselines."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from captum_lkn._common import html
from captum_lkn._common.arguments import checked
from captum_lkn._common.checks import is_whole
from captum_lkn._common.frames import import_pandas
from captum_lkn._common.messages import count_of, kind_of, some_of
from captum_lkn.baselines.samples import check_same_sample
from captum_lkn.decomposition.effects import TAU
from captum_lkn.interactions import Interaction, Interactions, InteractionsBatch
from captum_lkn.interactions.checks import check_bound
from captum_lkn.outputs.targets import TargetLike
from captum_lkn.players.players import Players

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["BaselineAgreement", "BaselineComparison", "compare_baselines"]

_LEGEND = "(salient, top: Jaccard index; signs: share of equal ones; ranks: correlation of the effects)"
_Key: TypeAlias = tuple[str, tuple[int, ...]]  # kind and members of an interaction


class BaselineAgreement(NamedTuple):
    """Agreement of the interactions under two baselines: means over the samples for which each measure is defined.

    Attributes:
        first: The name of one baseline.
        second: That of the other.
        salient_jaccard: Of the sets of salient interactions: those in both, of those in either.
        top_jaccard: The same of the k strongest.
        equal_signs: The share of interactions salient under both whose effects have the same sign.
        rank_correlation: Spearman's, of the effects (with their signs) of the interactions salient under either.
    """

    first: str
    second: str
    salient_jaccard: float
    top_jaccard: float
    equal_signs: float
    rank_correlation: float


@checked()
@dataclass(frozen=True, eq=False, repr=False)
class BaselineComparison:
    """Interactions under several baselines, and their agreement; made by :func:`compare_baselines`.

    Attributes:
        interactions: The interactions found under each baseline, by its name.
        agreements: One row a pair of baselines, in the order in which they were given.
        k: How many of the strongest were compared.
        tau: From which share of the largest effect an interaction is salient.
    """

    interactions: Mapping[str, InteractionsBatch]
    agreements: tuple[BaselineAgreement, ...]
    k: int
    tau: float

    def __post_init__(self) -> None:
        check_bound("tau", self.tau)
        if self.k < 1:
            raise ValueError(f"k must be at least 1; got {self.k}")
        if not self.interactions:
            raise ValueError("interactions must be of at least one baseline; got none")
        if unknown := {name for one in self.agreements for name in one[:2]} - set(self.interactions):
            raise ValueError(
                f"agreements must be of pairs of baselines with interactions; got {some_of(sorted(map(str, unknown)))}"
            )

    def to_frame(self) -> pd.DataFrame:
        """The agreements.

        Returns:
            A DataFrame with one row a pair and the columns of :class:`BaselineAgreement`.

        Raises:
            ImportError: If pandas is not installed.
        """
        return import_pandas().DataFrame(self.agreements, columns=BaselineAgreement._fields)

    def _tables(self) -> tuple[list[tuple[str, str, str]], list[tuple[str, ...]]]:
        """Return a row for each baseline (its name, reach and number of salient effects) and for each pair."""
        each = [
            (
                name,
                f"{sum(abs(one.v_full - one.v_empty) for one in batch) / len(batch):.2f}",
                f"{sum(len(one.salient(self.tau)) for one in batch) / len(batch):.1f}",
            )
            for name, batch in self.interactions.items()
        ]
        pairs = [(f"{one.first} - {one.second}", *(f"{x:.2f}" for x in one[2:])) for one in self.agreements]
        return each, pairs

    @property
    def _title(self) -> str:
        samples = count_of(len(next(iter(self.interactions.values()))), "sample")
        return f"{samples} under {len(self.interactions)} baselines; means:"

    def __repr__(self) -> str:
        each, pairs = self._tables()
        width = max(len(row[0]) for row in (*each, *pairs))
        lines = [self._title, f"{'':{width}}  |v(N) - v(empty)|   salient"]
        lines += [f"{name:{width}}  {reach:>17}  {salient:>8}" for name, reach, salient in each]
        lines.append(f"{'':{width}}   salient  {f'top {self.k}':>8}     signs     ranks")
        lines += [f"{name:{width}}  " + "  ".join(f"{number:>8}" for number in row) for name, *row in pairs]
        return "\n  ".join([*lines, _LEGEND])

    def _repr_html_(self) -> str:
        each, pairs = self._tables()
        first = html.table([self._title], ("baseline", "|v(N) - v(empty)|", "salient"), each, texts=("baseline",))
        second = html.table((), ("pair", "salient", f"top {self.k}", "signs", "ranks"), pairs, texts=("pair",))
        return html.element("div", first, second, _LEGEND)


def compare_baselines(
    method: Any,
    baselines: Mapping[str, Players | tuple[Any, Any]],
    target: TargetLike = "predicted",
    *,
    k: int = 10,
    tau: float = TAU,
    **attribute_args: Any,
) -> BaselineComparison:
    """Compute the interactions under several baselines, and measure how far the strongest ones agree.

    Args:
        method: An :class:`captum_lkn.AndOrInteraction`, or anything whose ``attribute`` returns an
            :class:`captum_lkn.InteractionsBatch`.
        baselines: By name, :class:`captum_lkn.Players` of the same samples, or ``(inputs, baselines)`` as ``attribute``
            takes them.
        target: As in ``attribute``; the default is the class that the model predicts for the unmasked samples.
        k: How many of the strongest interactions of each sample are compared.
        tau: From which share of the largest effect an interaction is salient.
        **attribute_args: Further arguments of ``attribute`` by keyword, the same for all baselines.

    Returns:
        The comparison: print it, or take ``to_frame()``.

    Raises:
        TypeError: An argument of the wrong type.
        ValueError: Fewer than two baselines, or players that differ between them.

    Example:
        >>> from captum_lkn import AndOrInteraction
        >>> method = AndOrInteraction(lambda x: x.prod(1) + x[:, 0], score="logit", noise=0)
        >>> x = torch.tensor([[2.0, 3.0]])
        >>> print(compare_baselines(method, {"zero": (x, 0.0), "half": (x, 0.5)}, k=2))
        1 sample under 2 baselines; means:
                       |v(N) - v(empty)|   salient
          zero                      8.00       2.0
          half                      7.25       3.0
                        salient     top 2     signs     ranks
          zero - half      0.67      1.00      1.00      1.00
          (salient, top: Jaccard index; signs: share of equal ones; ranks: correlation of the effects)
    """
    _check(method, baselines, k)
    found: dict[str, InteractionsBatch] = {}
    for name, given in baselines.items():
        positional = (given,) if isinstance(given, Players) else tuple(given)
        batch = method.attribute(*positional, target=target, **attribute_args)
        if not isinstance(batch, InteractionsBatch):
            raise TypeError(
                f"method.attribute returned {kind_of(batch)}: give a method that returns an InteractionsBatch, such as "
                "AndOrInteraction, or LayerAndOrInteraction with one layer"
            )
        found[name] = batch
        first, reference = next(iter(found.items()))
        if [one.players for one in batch] != [one.players for one in reference]:
            raise ValueError(
                f"baseline {name!r} has other players than {first!r}: compare baselines of the same samples and players"
            )
        for place, (one, other) in enumerate(zip(reference, batch, strict=True)):
            check_same_sample(place, one, other, (repr(first), repr(name)))
    pairs = tuple(_agreement(a, b, found[a], found[b], k, tau) for a, b in combinations(found, 2))
    return BaselineComparison(found, pairs, k, tau)


def _check(method: Any, baselines: Any, k: Any) -> None:
    if not callable(getattr(method, "attribute", None)):
        raise TypeError(f"method must have attribute, such as AndOrInteraction(model); got {kind_of(method)}")
    if not isinstance(baselines, Mapping):
        raise TypeError(f"baselines must be a mapping of names to Players or (inputs, baselines); got {baselines!r}")
    if len(baselines) < 2:
        raise ValueError(f"baselines has {some_of(list(baselines)) or 'no entry'}: give at least two to compare")
    for name, given in baselines.items():
        if not isinstance(name, str):
            raise TypeError(f"baselines has the name {name!r}: give str")
        if not isinstance(given, Players) and not (isinstance(given, tuple) and len(given) == 2):
            raise TypeError(f"baselines[{name!r}] must be Players or (inputs, baselines); got {kind_of(given)}")
    if not is_whole(k) or k < 1:
        raise ValueError(f"k must be a whole number, at least 1; got {k!r}")


def _agreement(
    first: str, second: str, a: Sequence[Interactions], b: Sequence[Interactions], k: int, tau: float
) -> BaselineAgreement:
    each = [_of_sample(x, y, k, tau) for x, y in zip(a, b, strict=True)]
    return BaselineAgreement(first, second, *map(_mean, zip(*each, strict=True)))


def _of_sample(a: Interactions, b: Interactions, k: int, tau: float) -> tuple[float, float, float, float]:
    salient = _effects(a.salient(tau)), _effects(b.salient(tau))
    both, either = salient[0].keys() & salient[1].keys(), salient[0].keys() | salient[1].keys()
    signs = [salient[0][key] * salient[1][key] > 0 for key in both]
    everything = _effects(a.top(None)), _effects(b.top(None))
    effects = torch.tensor(
        [[all_.get(key, 0.0) for key in sorted(either)] for all_ in everything], dtype=torch.float64, device="cpu"
    )
    return (
        _jaccard(salient[0].keys(), salient[1].keys()),
        _jaccard(_effects(a.top(k)).keys(), _effects(b.top(k)).keys()),
        sum(signs) / len(signs) if signs else math.nan,
        _rank_correlation(*effects),
    )


def _effects(found: Sequence[Interaction]) -> dict[_Key, float]:
    return {(one.kind, one.members): one.effect for one in found}


def _jaccard(a: Any, b: Any) -> float:
    return len(a & b) / len(a | b) if a | b else math.nan


def _rank_correlation(x: Tensor, y: Tensor) -> float:
    """Return Spearman's correlation, equal values with their mean rank; NaN where one side has one rank only."""
    ranks = torch.stack([_ranks(x), _ranks(y)])
    centred = ranks - ranks.mean(1, keepdim=True)
    scale = centred.square().sum(1).prod().sqrt()
    return float(centred.prod(0).sum() / scale) if scale > 0 else math.nan


def _ranks(x: Tensor) -> Tensor:
    return ((x[:, None] > x).sum(1) + (x[:, None] >= x).sum(1)).double() / 2


def _mean(numbers: Sequence[float]) -> float:
    """Return the mean without NaN; NaN where all are."""
    known = [number for number in numbers if not math.isnan(number)]
    return sum(known) / len(known) if known else math.nan
