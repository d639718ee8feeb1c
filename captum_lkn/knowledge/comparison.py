"""Two layers compared: what of one's interactions the other shares.

Section 3.2 of Cheng et al., "Layerwise Change of Knowledge in Neural Networks", ICML 2024. These are functions of
effects alone: of each sample one float64 tensor ``[2, 2^n]``, AND effects first, then OR. Samples may have different
numbers of players; results by order reach up to the largest, and a sample has nothing in the orders beyond its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, TypeAlias, get_args

import torch
from torch import Tensor

from captum_lkn._common.messages import kind_of
from captum_lkn.decomposition import lattice

__all__ = [
    "TAU",
    "Comparison",
    "Ratio",
    "Scope",
    "Strengths",
    "check_comparison",
    "compare",
    "normaliser",
    "ratio_of",
    "salient_sets",
    "shared",
    "thresholds",
]

Scope: TypeAlias = Literal["dataset", "sample"]
Ratio: TypeAlias = Literal["sum", "mean"]

TAU: Final = 0.05
"""The paper's threshold, as a share of the largest absolute effect."""

# A layer's values may differ by the rounding of its forwards alone; this many times their size is nothing.
_ROUNDING: Final = 4 * torch.finfo(torch.float32).eps


class Strengths(NamedTuple):
    """Strengths of salient interactions, by sample, kind and order: each ``[B, 2, m]``, AND before OR, order 1 to m.

    Attributes:
        all: Sum of the layer's absolute effects over its salient sets, all^l.
        target_all: The same of the target, all^L.
        overlap: Sum of what both share over the sets that are salient in both.
        forgotten: Sum of what the layer has and the target does not share, over the layer's salient sets.
        new: Sum of what the target has and the layer does not share, over the target's salient sets.
        salient: How many sets are salient in the layer, int64.
        target_salient: How many are in the target, int64.
    """

    all: Tensor
    target_all: Tensor
    overlap: Tensor
    forgotten: Tensor
    new: Tensor
    salient: Tensor
    target_salient: Tensor


@dataclass(frozen=True, eq=False)
class Comparison:
    """A layer against a target: strengths by kind and order, and what they amount to.

    Every quantity is a tensor ``[2, m]``: AND in row 0, OR in row 1; order 1 to m in the columns.

    Attributes:
        samples: The strengths of each sample.
        ratio: ``"sum"``: a ratio is one of sums over all samples; ``"mean"``: the mean of the samples' ratios.

    Example:
        >>> half = torch.tensor([[0.0, 0.0, 0.0, 1.0], [0.0] * 4], dtype=torch.float64)
        >>> found = compare([half], [2 * half])
        >>> found.completeness  # the target has the AND of both players twice as strong
        tensor([[   nan, 0.5000],
                [   nan,    nan]], dtype=torch.float64)
        >>> found.redundancy[0, 1]  # and nothing of the layer was forgotten
        tensor(0., dtype=torch.float64)
    """

    samples: Strengths
    ratio: Ratio = "sum"

    @property
    def all(self) -> Tensor:
        """all^l, the strength of the layer's salient interactions, summed over the samples."""
        return self.samples.all.sum(0)

    @property
    def target_all(self) -> Tensor:
        """all^L, the strength of the target's salient interactions, summed over the samples."""
        return self.samples.target_all.sum(0)

    @property
    def overlap(self) -> Tensor:
        """The strength that both share, summed over the samples."""
        return self.samples.overlap.sum(0)

    @property
    def forgotten(self) -> Tensor:
        """The layer's strength that the target does not share, summed over the samples."""
        return self.samples.forgotten.sum(0)

    @property
    def new(self) -> Tensor:
        """The target's strength that the layer does not share, summed over the samples."""
        return self.samples.new.sum(0)

    @property
    def salient(self) -> Tensor:
        """The number of the layer's salient interactions, int64, summed over the samples."""
        return self.samples.salient.sum(0)

    @property
    def target_salient(self) -> Tensor:
        """The number of the target's salient interactions, int64, summed over the samples."""
        return self.samples.target_salient.sum(0)

    @property
    def completeness(self) -> Tensor:
        """The overlap over all^L: how much of the target's knowledge the layer has; NaN where the target has none."""
        return ratio_of(self.samples.overlap, self.samples.target_all, self.ratio)

    @property
    def redundancy(self) -> Tensor:
        """The forgotten over all^l: how much of the layer's knowledge the target lacks; NaN where it has none."""
        return ratio_of(self.samples.forgotten, self.samples.all, self.ratio)

    def over_orders(self) -> Comparison:
        """The same for all orders together: quantities ``[2, 1]``."""
        return Comparison(Strengths(*(part.sum(-1, keepdim=True) for part in self.samples)), self.ratio)


def compare(
    layer: Sequence[Tensor],
    target: Sequence[Tensor],
    *,
    units: tuple[float, float] = (1.0, 1.0),
    tau: float = TAU,
    scope: Scope = "dataset",
    printed: bool = False,
    ratio: Ratio = "sum",
) -> Comparison:
    """Compare the effects of a layer with those of a target, sample by sample.

    Args:
        layer: Of each sample the effects ``[2, 2^n]``, float64, first order merged into AND.
        target: The same of the target, for the same samples.
        units: What the layer's and the target's effects are divided by, see :func:`normaliser`; 0 gives NaN.
        tau: What is salient, see :func:`thresholds`.
        scope: Over what the largest effect is taken.
        printed: The paper's Eq. 6 as it is printed. There a layer shares with the target also what is salient in one of
            them alone, and Eq. 8 (all^l = overlap + forgotten, all^L = overlap + new) does not hold. By default
            nothing is shared outside the sets that are salient in both, and it does.
        ratio: How ratios of several samples are taken together.

    Returns:
        The comparison.

    Raises:
        TypeError: Something is no tensor or number.
        ValueError: The samples do not fit, or an option is out of range.
    """
    check_comparison(tau=tau, scope=scope, printed=printed, ratio=ratio)
    if len(layer) != len(target) or any(a.shape != b.shape for a, b in zip(layer, target, strict=False)):
        raise ValueError(
            f"the layer has effects {[list(a.shape) for a in layer]}, the target {[list(b.shape) for b in target]}: "
            "give those of the same samples and players"
        )
    chosen = salient_sets(layer, tau, scope), salient_sets(target, tau, scope)
    highest = max(lattice.n_players(effects) for effects in layer)
    each = [
        _strengths(_divided(a, units[0]), _divided(b, units[1]), in_layer, in_target, printed, highest)
        for a, b, in_layer, in_target in zip(layer, target, *chosen, strict=True)
    ]
    return Comparison(Strengths(*map(torch.stack, zip(*each, strict=True))), ratio)


def normaliser(values: Sequence[Tensor]) -> float:
    """What makes layers comparable: the mean of ``|v(N) - v(empty)|`` over the samples (the paper's footnote 8).

    Args:
        values: The value table ``[2^n]`` of each sample.

    Returns:
        A number; 0 also where the differences are no larger than the rounding of float32 forwards.
    """
    mean = float(torch.stack([(table[-1] - table[0]).abs() for table in values]).mean())
    return mean if mean > _ROUNDING * max(float(table.abs().max()) for table in values) else 0.0


def thresholds(effects: Sequence[Tensor], tau: float, scope: Scope) -> list[float]:
    """The absolute effect that a salient interaction of each sample exceeds.

    Args:
        effects: Of each sample ``[2, 2^n]``.
        tau: A share of the largest absolute effect of nonempty sets, AND and OR together.
        scope: ``"dataset"``: the largest over all samples (the paper's appendix M.4). ``"sample"``: each sample's own
            (the paper's footnote 7).

    Returns:
        One number a sample.
    """
    largest = [float(one[:, 1:].abs().max()) for one in effects]
    return [tau * (max(largest) if scope == "dataset" else own) for own in largest]


def salient_sets(effects: Sequence[Tensor], tau: float, scope: Scope) -> list[Tensor]:
    """Omega: which interactions of each sample are salient.

    Args:
        effects: Of each sample ``[2, 2^n]``.
        tau: As in :func:`thresholds`.
        scope: As there.

    Returns:
        Bool ``[2, 2^n]`` for each sample; never the empty set.
    """
    chosen = [one.abs() > above for one, above in zip(effects, thresholds(effects, tau, scope), strict=True)]
    for one in chosen:
        one[:, 0] = False
    return chosen


def shared(layer: Tensor, target: Tensor) -> Tensor:
    """What two effects share: 0 where their signs differ, else the smaller one, with its sign (Eq. 6).

    Args:
        layer: Effects of any shape.
        target: Effects of that shape.

    Returns:
        A tensor of that shape.

    Example:
        >>> shared(torch.tensor([2.0, -3.0, 1.0]), torch.tensor([0.5, -4.0, -1.0]))
        tensor([ 0.5000, -3.0000,  0.0000])
    """
    apart = ((layer >= 0) & (target <= 0)) | ((layer <= 0) & (target >= 0))  # False where one is NaN, which stays
    smaller = torch.minimum(layer.abs(), target.abs())
    return torch.where(apart, torch.zeros_like(smaller), layer.sign() * smaller)


def ratio_of(part: Tensor, whole: Tensor, ratio: Ratio) -> Tensor:
    """Shares over samples.

    Args:
        part: ``[B, ...]``.
        whole: ``[B, ...]``.
        ratio: ``"sum"``: sum of the parts over sum of the wholes. ``"mean"``: the mean of part / whole over the samples
            whose whole is not 0.

    Returns:
        ``[...]``; NaN where the wholes are all 0.
    """
    return part.sum(0) / whole.sum(0) if ratio == "sum" else (part / whole).nanmean(0)


def check_comparison(*, tau: float, scope: str, printed: bool, ratio: str) -> None:
    """Check the options of a comparison.

    Args:
        tau: A number from 0 to 1.
        scope: ``"dataset"`` or ``"sample"``.
        printed: A bool.
        ratio: ``"sum"`` or ``"mean"``.

    Raises:
        TypeError: ``tau`` is no number, or ``printed`` no bool.
        ValueError: Something is out of range or unknown.
    """
    try:
        share = float(tau)
    except (TypeError, ValueError):
        raise TypeError(f"tau must be a number from 0 to 1; got {tau!r}") from None
    if not 0 <= share <= 1:
        raise ValueError(f"tau is a share of the largest effect, from 0 to 1; got {tau!r}")
    for name, value, known in (("scope", scope, get_args(Scope)), ("ratio", ratio, get_args(Ratio))):
        if value not in known:
            raise ValueError(f"{name} must be {known[0]!r} or {known[1]!r}; got {value!r}")
    if not isinstance(printed, bool):
        raise TypeError(f"printed must be True or False; got {kind_of(printed)}")


def _divided(effects: Tensor, unit: float) -> Tensor:
    return effects / unit if unit else torch.full_like(effects, torch.nan)


def _strengths(
    layer: Tensor, target: Tensor, in_layer: Tensor, in_target: Tensor, printed: bool, highest: int
) -> Strengths:
    """The strengths of one sample, each ``[2, highest]``."""
    both = in_layer & in_target
    common = shared(layer, target)
    kept = common if printed else torch.where(both, common, torch.zeros_like(common))
    return Strengths(
        all=_by_order(layer.abs() * in_layer, highest),
        target_all=_by_order(target.abs() * in_target, highest),
        overlap=_by_order(common.abs() * both, highest),
        forgotten=_by_order((layer - kept).abs() * in_layer, highest),
        new=_by_order((target - kept).abs() * in_target, highest),
        salient=_by_order(in_layer.long(), highest),
        target_salient=_by_order(in_target.long(), highest),
    )


def _by_order(effects: Tensor, highest: int) -> Tensor:
    """Sums of ``[2, 2^n]`` over the sets of each order from 1 to ``highest``."""
    order = lattice.orders(lattice.n_players(effects))
    return effects.new_zeros(2, highest + 1).index_add_(1, order, effects)[:, 1:]
