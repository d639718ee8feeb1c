"""Noise ceiling of a comparison: the same tables decomposed again under noise.

A little noise on the values moves small effects, some into and some out of the salient sets. Two states with equal
values would therefore not agree entirely. Here every table is decomposed several times more, with Gaussian noise on its
values and jittered weights. The share of itself that a state finds again bounds what another state can share with it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from captum_lkn._common.arguments import checked
from captum_lkn._common.checks import is_number, is_whole
from captum_lkn.decomposition.decompose import decompose
from captum_lkn.decomposition.effects import Effects
from captum_lkn.decomposition.options import NOISE, DecompositionOptions
from captum_lkn.decomposition.refit import refit_salient
from captum_lkn.interactions import Interactions, InteractionsBatch
from captum_lkn.knowledge.comparison import Comparison, Ratio, Scope, Strengths, compare

__all__ = [
    "DRAWS",
    "JITTER",
    "NoiseCeiling",
    "check_noise_ceiling",
    "measure_noise_ceiling",
    "own_comparison",
]

DRAWS: Final = 5
JITTER: Final = 1e-3
_NOISE_IN_KAPPA: Final = 0.25
# Where masking everybody changes next to nothing, a share of that change would be no noise at all.
_SHARE_OF_SPREAD: Final = 0.25


@checked()
@dataclass(frozen=True, eq=False)
class NoiseCeiling:
    r"""Decompositions of the same tables under noise.

    Attributes:
        effects: For each state and sample the effects of all draws.
        seed: The seed of noise and jitter.
        value_noise: The standard deviation of the noise as a share of \|v(N) - v(empty)\|; None: that of
            :func:`measure_noise_ceiling`.
        jitter: The largest relative change of a weight.
    """

    effects: Mapping[str, tuple[tuple[Effects, ...], ...]]
    seed: int
    value_noise: float | None
    jitter: float

    def __post_init__(self) -> None:
        if not self.effects or not all(self.effects.values()):
            raise ValueError("effects must be of at least one state and sample; got none")
        counts = {len(drawn) for samples in self.effects.values() for drawn in samples}
        if len(counts) > 1:
            raise ValueError(f"effects must have as many draws of each state and sample; got {sorted(counts)}")
        check_noise_ceiling(**self.settings())

    @property
    def draws(self) -> int:
        """The number of draws."""
        return len(next(iter(self.effects.values()))[0])

    def settings(self) -> dict[str, Any]:
        """Return the settings of the draws, as JSON can hold them."""
        return {"draws": self.draws, "seed": self.seed, "value_noise": self.value_noise, "jitter": self.jitter}


def measure_noise_ceiling(
    interactions: Mapping[str, InteractionsBatch],
    *,
    draws: int = DRAWS,
    seed: int = 0,
    value_noise: float | None = None,
    jitter: float = JITTER,
) -> NoiseCeiling:
    r"""Decompose every table again, several times, with noise on its values and jitter on its weights.

    All tables of a state that have the same size are decomposed in one call. A state's draws do not depend on which
    other states there are. torch's own random state is not touched.

    Args:
        interactions: The states' interactions, with their value tables. The options of the decomposition are each
            sample's own, its kappa included.
        draws: The number of draws.
        seed: The seed of noise and jitter.
        value_noise: The standard deviation of the noise on each value, as a share of the sample's
            \|v(N) - v(empty)\|, or of a quarter of the largest \|v(T) - v(empty)\| where that is more, so that tables
            whose ends are equal get noise as well. None: a quarter of the options' ``noise``, which is 0.01 by default
            and where ``noise`` is 0; a quarter of kappa where the options state kappa itself.
        jitter: Each weight w_S is multiplied by 1 + jitter * u, u uniform in [-1, 1].

    Returns:
        The draws.

    Raises:
        TypeError: An option of the wrong type.
        ValueError: An option out of range.
    """
    check_noise_ceiling(draws=draws, seed=seed, value_noise=value_noise, jitter=jitter)
    effects = {
        state: _draw_state(batch, int(draws), torch.Generator("cpu").manual_seed(int(seed)), value_noise, jitter)
        for state, batch in interactions.items()
    }
    return NoiseCeiling(effects, int(seed), None if value_noise is None else float(value_noise), float(jitter))


def own_comparison(
    effects: Sequence[Effects], drawn: Sequence[Sequence[Effects]], *, tau: float, scope: Scope, ratio: Ratio
) -> Comparison:
    """Compare a state with itself: each draw with the effects without noise, strengths averaged over the draws.

    Args:
        effects: The effects of each sample.
        drawn: The effects of each sample in all draws.
        tau: As in :func:`captum_lkn.knowledge.compare`, like all that follows.
        scope: Over what the largest effect is taken; each draw has its own largest.
        ratio: How ratios of several samples are taken together.

    Returns:
        A comparison whose completeness, between 0 and 1, is the share of itself that the state finds again.
    """
    found = [compare(draw, effects, tau=tau, scope=scope).samples for draw in zip(*drawn, strict=True)]
    return Comparison(Strengths(*(torch.stack(parts).double().mean(0) for parts in zip(*found, strict=True))), ratio)


def check_noise_ceiling(*, draws: int, seed: int, value_noise: float | None, jitter: float) -> None:
    """Check the options of :func:`measure_noise_ceiling`.

    Args:
        draws: A whole number of at least 1.
        seed: A whole number.
        value_noise: None or a number of at least 0.
        jitter: A number from 0 to less than 1.

    Raises:
        TypeError: Something is of another type.
        ValueError: Something is out of range.
    """
    for name, count in (("draws", draws), ("seed", seed)):
        if not is_whole(count):
            raise TypeError(f"{name} must be a whole number; got {count!r}")
    if draws < 1:
        raise ValueError(f"draws must be at least 1; got {draws}")
    if not 0 <= seed < 1 << 63:
        raise ValueError(f"seed must be from 0 to 2^63 - 1; got {seed}")
    for name, number in (("value_noise", 0.0 if value_noise is None else value_noise), ("jitter", jitter)):
        if not is_number(number):
            raise TypeError(f"{name} must be a number; got {number!r}")
        if not 0 <= number < math.inf:
            raise ValueError(f"{name} must be at least 0 and finite; got {number}")
    if jitter >= 1:
        raise ValueError(f"jitter must be a share of each weight below 1, so that weights stay positive; got {jitter}")


def _draw_state(
    batch: InteractionsBatch, draws: int, generator: torch.Generator, value_noise: float | None, jitter: float
) -> tuple[tuple[Effects, ...], ...]:
    # In the samples' order, so that the first samples' draws do not depend on the later ones.
    noisy = [_noisy(one, draws, generator, value_noise, jitter) for one in batch]
    together: dict[tuple[int, DecompositionOptions], list[int]] = {}
    for place, one in enumerate(batch):
        # Each sample knows its own kappa, which may be a share of its range.
        together.setdefault((one.n_players, one.options.replace(kappa=0.0)), []).append(place)
    found: dict[int, tuple[Effects, ...]] = {}
    for (_, options), places in together.items():
        drawn = decompose(
            torch.stack([noisy[i][0] for i in places]),
            cost=torch.stack([noisy[i][1] for i in places]),
            kappa=torch.tensor([[batch[i].kappa] for i in places], dtype=torch.float64, device="cpu"),
            options=options,
            names=[f"draw {draw} of sample {i}" for i in places for draw in range(draws)],
        )
        for row, place in enumerate(places):
            each = [drawn[row][draw].effects for draw in range(draws)]
            if batch[place].refitted:
                pairs = zip(each, noisy[place][0], strict=True)
                each = [refit_salient(one, table, pin_ends=options.pin_ends) for one, table in pairs]
            found[place] = tuple(each)
    return tuple(found[i] for i in range(len(batch)))


def _noisy(
    one: Interactions, draws: int, generator: torch.Generator, value_noise: float | None, jitter: float
) -> tuple[Tensor, Tensor]:
    """Return noisy value tables ``[draws, 2^n]`` and factors of the weights ``[draws, 2, 2^n]``."""
    deviation, size = _deviation(one, value_noise), len(one.values)
    noise = torch.randn(draws, size, generator=generator, dtype=torch.float64, device="cpu")
    uniform = torch.rand(draws, 2, size, generator=generator, dtype=torch.float64, device="cpu")
    return one.values + deviation * noise, 1 + jitter * (2 * uniform - 1)


def _deviation(one: Interactions, value_noise: float | None) -> float:
    """Return the standard deviation of the noise on a sample's values."""
    share = value_noise
    if share is None:
        if one.options.kappa:
            return _NOISE_IN_KAPPA * one.kappa
        share = _NOISE_IN_KAPPA * (one.options.noise or NOISE)
    spread = float((one.values - one.v_empty).abs().max())
    return share * max(abs(one.v_full - one.v_empty), _SHARE_OF_SPREAD * spread)
