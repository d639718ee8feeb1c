"""Comparison of two states: the interactions that both share, that one has forgotten, that the other has anew.

States are layers, checkpoints or models. In the paper they are layers: l is the state, and L the reference.

Section 3.2 of Cheng et al., "Layerwise Change of Knowledge in Neural Networks", ICML 2024. These are functions of
effects alone. Samples may have different numbers of players; results by order reach up to the largest, and a sample has
nothing in the orders beyond its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, TypeAlias, get_args

import torch
from torch import Tensor

from captum_lkn._common import html
from captum_lkn._common.arguments import checked
from captum_lkn._common.checks import is_number, is_one_of
from captum_lkn._common.formats import aligned
from captum_lkn._common.messages import kind_of
from captum_lkn.decomposition.effects import KINDS, TAU, Effects

__all__ = [
    "Comparison",
    "Ratio",
    "Scope",
    "Strengths",
    "check_comparison",
    "check_salience",
    "compare",
    "normaliser",
    "ratio_of",
    "shared",
    "thresholds",
]

Scope: TypeAlias = Literal["dataset", "sample"]
Ratio: TypeAlias = Literal["sum", "mean"]

# A state's values may differ by the rounding of its forwards alone; this many units of it count as 0.
_ROUNDING: Final = 4
_QUANTITIES: Final = ("all", "overlap", "forgotten", "new", "completeness", "redundancy", "salient")
_EPSILON: Final = torch.finfo(torch.float64).eps


class Strengths(NamedTuple):
    """Strengths of salient interactions, by sample, kind and order: each ``[B, 2, m]``, AND before OR, order 1 to m.

    Attributes:
        all: The sum of the state's absolute effects over its salient sets, all^l.
        reference_all: The same of the reference, all^L.
        overlap: The sum of the shared effects over the sets that are salient in both.
        forgotten: The sum of the state's effects that the reference does not share, over the state's salient sets.
        new: The sum of the reference's effects that the state does not share, over the reference's salient sets.
        salient: The number of salient sets in the state, int64.
        reference_salient: The number of salient sets in the reference, int64.
    """

    all: Tensor
    reference_all: Tensor
    overlap: Tensor
    forgotten: Tensor
    new: Tensor
    salient: Tensor
    reference_salient: Tensor


@checked()
@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """A state compared with a reference: strengths by kind and order, and their ratios.

    Every quantity is a tensor ``[2, m]``: AND in row 0, OR in row 1; order 1 to m in the columns.

    Attributes:
        samples: The strengths of each sample.
        ratio: ``"sum"``: a ratio is one of sums over all samples; ``"mean"``: the mean of the samples' ratios.

    Example:
        >>> one, two = (Effects.of(2, [("and", (0, 1), effect)]) for effect in (1.0, 2.0))
        >>> found = compare([one], [two])
        >>> found
                      AND 2
        all            1.00
        overlap        1.00
        forgotten      0.00
        new            1.00
        completeness   0.50
        redundancy     0.00
        salient           1
        >>> found.completeness  # the reference has the AND of both players twice as strong
        tensor([[   nan, 0.5000],
                [   nan,    nan]], dtype=torch.float64)
        >>> found.redundancy[0, 1]  # the reference has all of the state's
        tensor(0., dtype=torch.float64)
    """

    samples: Strengths
    ratio: Ratio = "sum"

    def __post_init__(self) -> None:
        parts: tuple[object, ...] = self.samples
        shapes = {tuple(part.shape) if isinstance(part, Tensor) else kind_of(part) for part in parts}
        if len(shapes) > 1 or any(isinstance(one, str) or len(one) != 3 or 0 in one for one in shapes):
            said = " and ".join(str(list(one)) if isinstance(one, tuple) else one for one in shapes)
            raise ValueError(f"samples must be tensors of one shape [B, 2, m]; got {said}")
        for name, part in self.samples._asdict().items():
            if bool(part.isinf().any()):  # NaN is what a unit of 0 leaves
                raise ValueError(
                    f"samples must be finite, or NaN where a unit is 0; got {part[part.isinf()][0]} in {name}"
                )

    @property
    def all(self) -> Tensor:
        """all^l, the strength of the state's salient interactions, summed over the samples."""
        return self.samples.all.sum(0)

    @property
    def reference_all(self) -> Tensor:
        """all^L, the strength of the reference's salient interactions, summed over the samples."""
        return self.samples.reference_all.sum(0)

    @property
    def overlap(self) -> Tensor:
        """The strength that both share, summed over the samples."""
        return self.samples.overlap.sum(0)

    @property
    def forgotten(self) -> Tensor:
        """The state's strength that the reference does not share, summed over the samples."""
        return self.samples.forgotten.sum(0)

    @property
    def new(self) -> Tensor:
        """The reference's strength that the state does not share, summed over the samples."""
        return self.samples.new.sum(0)

    @property
    def salient(self) -> Tensor:
        """The number of the state's salient interactions, int64, summed over the samples."""
        return self.samples.salient.sum(0)

    @property
    def reference_salient(self) -> Tensor:
        """The number of the reference's salient interactions, int64, summed over the samples."""
        return self.samples.reference_salient.sum(0)

    @property
    def completeness(self) -> Tensor:
        """The overlap over all^L, the share of the reference that the state has; NaN where the reference has none."""
        return ratio_of(self.samples.overlap, self.samples.reference_all, self.ratio)

    @property
    def redundancy(self) -> Tensor:
        """The forgotten over all^l, the share of the state that the reference lacks; NaN where the state has none."""
        return ratio_of(self.samples.forgotten, self.samples.all, self.ratio)

    def over_orders(self) -> Comparison:
        """Return the same for all orders together: quantities ``[2, 1]``."""
        return Comparison(Strengths(*(part.sum(-1, keepdim=True) for part in self.samples)), self.ratio)

    def _table(self) -> tuple[list[str], list[list[str]]]:
        """Return the names of the kinds and orders with a salient effect, and a row for each quantity."""
        places = [
            (k, m) for k in range(self.all.shape[0]) for m in range(self.all.shape[1])
            if self.salient[k, m] or self.reference_salient[k, m]
        ]  # fmt: skip
        rows = [[name, *(_shown(getattr(self, name)[place]) for place in places)] for name in _QUANTITIES]
        names = [kind.upper() for kind in KINDS] if self.all.shape[0] == len(KINDS) else ["effects"]
        return [f"{names[k]} {m + 1}" for k, m in places], rows

    def __repr__(self) -> str:
        header, rows = self._table()
        if not header:
            return "no salient interactions"
        return "\n".join(aligned([["", *header], *rows]))

    def _repr_html_(self) -> str:
        header, rows = self._table()
        return html.table((), ["", *header], rows, texts=("",)) if header else repr(self)


def _shown(number: Tensor) -> str:
    if not number.is_floating_point():
        return str(int(number))
    return "-" if number.isnan() else f"{float(number):.2f}"


@checked("reference", "state", "units")
def compare(
    state: Sequence[Effects],
    reference: Sequence[Effects],
    *,
    units: tuple[float, float] = (1.0, 1.0),
    tau: float = TAU,
    scope: Scope = "dataset",
    literal_eq6: bool = False,
    ratio: Ratio = "sum",
) -> Comparison:
    """Compare the effects of a state with those of a reference, sample by sample.

    Args:
        state: The effects of each sample.
        reference: The same of the reference, for the same samples.
        units: What the state's and the reference's effects are divided by, see :func:`normaliser`; 0 gives NaN.
        tau: The threshold of salience, see :func:`thresholds`.
        scope: Over what the largest effect is taken.
        literal_eq6: Whether to take the paper's Eq. 6 literally. Then a state shares with the reference also effects
            that are salient in one of them alone, and Eq. 8 (all^l = overlap + forgotten, all^L = overlap + new) does
            not hold. By default nothing is shared outside the sets that are salient in both, and it does.
        ratio: How ratios of several samples are taken together.

    Returns:
        The comparison.

    Raises:
        TypeError: Something is not of its type.
        ValueError: The samples do not fit, or an option is out of range.
    """
    check_comparison(tau=tau, scope=scope, literal_eq6=literal_eq6, ratio=ratio)
    players = [[one.n for one in side] for side in (state, reference)]
    if players[0] != players[1]:
        raise ValueError(
            f"state and reference must be of the same samples and players; got samples of {players[0]} and "
            f"{players[1]} players"
        )
    if not state:
        raise ValueError("state must have the effects of at least one sample; got none")
    limits = thresholds(state, tau, scope), thresholds(reference, tau, scope)
    highest = max(players[0])
    each = [
        _strengths(a, b, units, (limit_a, limit_b), literal_eq6, highest)
        for a, b, limit_a, limit_b in zip(state, reference, *limits, strict=True)
    ]
    return Comparison(Strengths(*map(torch.stack, zip(*each, strict=True))), ratio)


def normaliser(values: Sequence[Tensor], epsilon: float = _EPSILON) -> float:
    """Return the divisor of a state's effects: the mean of ``|v(N) - v(empty)|`` over samples (the paper's footnote 8).

    Args:
        values: The value table ``[2^n]`` of each sample.
        epsilon: The relative rounding error of the values, that of float64 by default.

    Returns:
        A number; 0 also where the differences are no larger than rounding.
    """
    mean = float(torch.stack([(table[-1] - table[0]).abs() for table in values]).mean())
    return mean if mean > _ROUNDING * epsilon * max(float(table.abs().max()) for table in values) else 0.0


def thresholds(effects: Sequence[Effects], tau: float, scope: Scope) -> list[float]:
    """Return the absolute effect that a salient interaction of each sample exceeds.

    Args:
        effects: The effects of each sample.
        tau: A share of the largest absolute effect of nonempty sets, AND and OR together.
        scope: ``"dataset"``: the largest over all samples (the paper's appendix M.4). ``"sample"``: each sample's own
            (the paper's footnote 7).

    Returns:
        One number a sample.
    """
    largest = [one.largest for one in effects]
    return [tau * (max(largest) if scope == "dataset" else own) for own in largest]


def shared(state: Tensor, reference: Tensor) -> Tensor:
    """Return the shared part of two effects: 0 where signs differ, else the smaller one, with its sign (Eq. 6).

    Args:
        state: Effects of any shape.
        reference: Effects of that shape.

    Returns:
        A tensor of that shape.

    Example:
        >>> shared(torch.tensor([2.0, -3.0, 1.0]), torch.tensor([0.5, -4.0, -1.0]))
        tensor([ 0.5000, -3.0000,  0.0000])
    """
    smaller = state.sign() * torch.minimum(state.abs(), reference.abs())
    return torch.where(state.sign() == reference.sign(), smaller, torch.zeros_like(state))


def ratio_of(part: Tensor, whole: Tensor, ratio: Ratio) -> Tensor:
    """Return shares over samples.

    Args:
        part: ``[B, ...]``.
        whole: ``[B, ...]``.
        ratio: ``"sum"``: the sum of the parts over the sum of the wholes. ``"mean"``: the mean of part / whole over the
            samples whose whole is not 0.

    Returns:
        ``[...]``; NaN where the wholes are all 0.
    """
    return part.sum(0) / whole.sum(0) if ratio == "sum" else (part / whole).nanmean(0)


def check_comparison(*, tau: float, scope: str, literal_eq6: bool, ratio: str) -> None:
    """Check the options of a comparison.

    Args:
        tau: A number from 0 to 1.
        scope: ``"dataset"`` or ``"sample"``.
        literal_eq6: A bool.
        ratio: ``"sum"`` or ``"mean"``.

    Raises:
        TypeError: ``tau`` is not a number, or ``literal_eq6`` not a bool.
        ValueError: An option is out of range or unknown.
    """
    check_salience(tau, scope)
    _check_choice("ratio", ratio, get_args(Ratio))
    if not isinstance(literal_eq6, bool):
        raise TypeError(f"literal_eq6 must be True or False; got {kind_of(literal_eq6)}")


def check_salience(tau: float, scope: str) -> None:
    """Check what makes an interaction salient.

    Args:
        tau: A number from 0 to 1.
        scope: ``"dataset"`` or ``"sample"``.

    Raises:
        TypeError: ``tau`` is not a number.
        ValueError: ``tau`` is out of range, or ``scope`` unknown.
    """
    if not is_number(tau):
        raise TypeError(f"tau must be a number from 0 to 1; got {tau!r}")
    if not 0 <= tau <= 1:
        raise ValueError(f"tau must be a share of the largest effect, from 0 to 1; got {tau!r}")
    _check_choice("scope", scope, get_args(Scope))


def _check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if not is_one_of(value, known):
        raise ValueError(f"{name} must be {known[0]!r} or {known[1]!r}; got {value!r}")


def _strengths(
    state: Effects,
    reference: Effects,
    units: tuple[float, float],
    limits: tuple[float, float],
    literal_eq6: bool,
    highest: int,
) -> Strengths:
    """Compute the strengths of one sample, each ``[2, highest]``."""
    whole, common, forgotten = _side(state, reference, units, limits, literal_eq6)
    reference_whole, _, new = _side(reference, state, units[::-1], limits[::-1], literal_eq6)
    return Strengths(
        all=state.sum_by_order(whole, highest) + _unknown(units[0]),
        reference_all=reference.sum_by_order(reference_whole, highest) + _unknown(units[1]),
        overlap=state.sum_by_order(common, highest) + _unknown(*units),
        forgotten=state.sum_by_order(forgotten, highest) + _unknown(*units),
        new=reference.sum_by_order(new, highest) + _unknown(*units),
        salient=state.sum_by_order(state.above(limits[0]).long(), highest),
        reference_salient=reference.sum_by_order(reference.above(limits[1]).long(), highest),
    )


def _side(
    own: Effects, other: Effects, units: Sequence[float], limits: Sequence[float], literal_eq6: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the strength of one side's salient sets, its shared part, and its other part, each ``[k]``."""
    theirs = other.at(own)
    salient = own.above(limits[0])
    both = salient & (theirs.abs() > limits[1])
    mine = own.values / (units[0] or 1.0)
    common = shared(mine, theirs / (units[1] or 1.0))
    kept = common if literal_eq6 else common * both
    return mine.abs() * salient, common.abs() * both, (mine - kept).abs() * salient


def _unknown(*units: float) -> float:
    """Return what makes a strength NaN if a unit that it depends on is 0."""
    return 0.0 if all(units) else math.nan
