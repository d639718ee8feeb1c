"""How much of a comparison is luck: the same tables extracted again under noise.

An extraction follows its values and its prices wherever they lead: a little noise on the values moves small effects,
some in and some out of the salient sets. Two layers that know the same would therefore not agree entirely. Here every
table is extracted several times more, with Gaussian noise on its values and slightly other weights. How much of itself
a layer finds again, is what can be asked of another one.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from captum_lkn.decomposition.decompose import decompose
from captum_lkn.decomposition.options import DecompositionOptions
from captum_lkn.interactions import InteractionsBatch
from captum_lkn.knowledge.comparison import Comparison, Ratio, Scope, Strengths, compare, salient_sets

__all__ = ["DRAWS", "JITTER", "Luck", "check_luck", "draw_luck", "own_comparison", "support"]

DRAWS: Final = 5
JITTER: Final = 1e-3
_NOISE_IN_KAPPA: Final = 0.25


@dataclass(frozen=True, eq=False)
class Luck:
    r"""Extractions of the same tables under noise.

    Attributes:
        effects: For each layer and sample the effects of all draws, float64 ``[draws, 2, 2^n]``.
        seed: Of the noise and of the jitter.
        value_noise: The standard deviation of the noise as a share of \|v(N) - v(empty)\|; None: a quarter of kappa.
        jitter: By how much a weight was changed at most, as a share of it.
    """

    effects: Mapping[str, tuple[Tensor, ...]]
    seed: int
    value_noise: float | None
    jitter: float

    @property
    def draws(self) -> int:
        """How many draws there were."""
        return len(next(iter(self.effects.values()))[0])

    def settings(self) -> dict[str, Any]:
        """How they were drawn, in what JSON can hold."""
        return {"draws": self.draws, "seed": self.seed, "value_noise": self.value_noise, "jitter": self.jitter}


def draw_luck(
    interactions: Mapping[str, InteractionsBatch],
    *,
    draws: int = DRAWS,
    seed: int = 0,
    value_noise: float | None = None,
    jitter: float = JITTER,
) -> Luck:
    r"""Extract every table again, several times, with noise on its values and jitter on its weights.

    All tables of a layer that have the same size are decomposed in one call. A layer's draws do not depend on which
    other layers there are. torch's own random state is not touched.

    Args:
        interactions: The layers' interactions, with their value tables. The options of the extraction are each
            sample's own, its kappa included.
        draws: How often.
        seed: Of the noise and of the jitter.
        value_noise: Standard deviation of the noise on each value, as a share of the sample's \|v(N) - v(empty)\|.
            None: a quarter of its kappa.
        jitter: Each weight w_S is multiplied by 1 + jitter * u, u uniform in [-1, 1].

    Returns:
        The draws.

    Raises:
        TypeError: An option of the wrong type.
        ValueError: An option out of range.
    """
    check_luck(draws=draws, seed=seed, value_noise=value_noise, jitter=jitter)
    effects = {
        layer: _draw_layer(batch, draws, torch.Generator().manual_seed(seed), value_noise, jitter)
        for layer, batch in interactions.items()
    }
    return Luck(effects, seed, value_noise, jitter)


def own_comparison(
    effects: Sequence[Tensor], drawn: Sequence[Tensor], *, tau: float, scope: Scope, ratio: Ratio
) -> Comparison:
    """A layer compared with itself: each draw against the effects without noise, strengths averaged over the draws.

    Args:
        effects: Of each sample ``[2, 2^n]``.
        drawn: Of each sample ``[draws, 2, 2^n]``.
        tau: As in :func:`captum_lkn.knowledge.comparison.compare`, like what follows.
        scope: Over what the largest effect is taken; each draw has its own largest.
        ratio: How samples are taken together.

    Returns:
        A comparison whose completeness, between 0 and 1, is the share of itself that the layer finds again.
    """
    found = [compare(draw, effects, tau=tau, scope=scope).samples for draw in zip(*drawn, strict=True)]
    return Comparison(Strengths(*(torch.stack(parts).double().mean(0) for parts in zip(*found, strict=True))), ratio)


def support(effects: Sequence[Tensor], drawn: Sequence[Tensor], *, tau: float, scope: Scope) -> list[Tensor]:
    """The share of draws in which each interaction is salient with the sign that it has.

    Args:
        effects: Of each sample ``[2, 2^n]``.
        drawn: Of each sample ``[draws, 2, 2^n]``.
        tau: What is salient, in each draw.
        scope: Over what the largest effect is taken.

    Returns:
        float64 ``[2, 2^n]`` for each sample.
    """
    by_draw = [salient_sets(draw, tau, scope) for draw in zip(*drawn, strict=True)]
    return [
        (torch.stack(chosen) & (draws.sign() == one.sign())).double().mean(0)
        for one, draws, chosen in zip(effects, drawn, zip(*by_draw, strict=True), strict=True)
    ]


def check_luck(*, draws: int, seed: int, value_noise: float | None, jitter: float) -> None:
    """Check the options of :func:`draw_luck`.

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
        if isinstance(count, bool) or not isinstance(count, int):
            raise TypeError(f"{name} must be a whole number; got {count!r}")
    if draws < 1:
        raise ValueError(f"draws must be at least 1; got {draws}: leave luck out with ceiling=False")
    if not 0 <= seed < 1 << 63:
        raise ValueError(f"seed must be from 0 to 2^63 - 1; got {seed}")
    for name, number in (("value_noise", 0.0 if value_noise is None else value_noise), ("jitter", jitter)):
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            raise TypeError(f"{name} must be a number; got {number!r}")
        if not 0 <= number < math.inf:
            raise ValueError(f"{name} must be at least 0 and finite; got {number}")
    if jitter >= 1:
        raise ValueError(f"jitter is a share of each weight, which must stay positive: give less than 1; got {jitter}")


def _draw_layer(
    batch: InteractionsBatch, draws: int, generator: torch.Generator, value_noise: float | None, jitter: float
) -> tuple[Tensor, ...]:
    tables, costs = [], []
    for one in batch:  # in the samples' order, so that the first samples' draws do not depend on the later ones
        deviation = _NOISE_IN_KAPPA * one.kappa if value_noise is None else value_noise * abs(one.v_full - one.v_empty)
        size = len(one.values)
        noise = torch.randn(draws, size, generator=generator, dtype=torch.float64)
        uniform = torch.rand(draws, 2, size, generator=generator, dtype=torch.float64)
        tables.append(one.values + deviation * noise)
        costs.append(1 + jitter * (2 * uniform - 1))
    together: dict[tuple[int, DecompositionOptions], list[int]] = {}
    for place, one in enumerate(batch):
        # Each sample knows its own kappa, which may be a share of its range.
        together.setdefault((len(one.values), one.options.replace(kappa=0.0)), []).append(place)
    found: dict[int, Tensor] = {}
    for (_, options), places in together.items():
        with warnings.catch_warnings():
            # Of the tables themselves it was said when they were extracted.
            warnings.filterwarnings("ignore", message="kappa is ")
            drawn = decompose(
                torch.stack([tables[i] for i in places]),
                cost=torch.stack([costs[i] for i in places]),
                kappa=torch.tensor([[batch[i].kappa] for i in places], dtype=torch.float64),
                options=options,
            )
        effects = torch.stack([drawn.and_effects, drawn.or_effects], dim=-2).cpu()
        found |= {place: effects[row].clone() for row, place in enumerate(places)}
    return tuple(found[i] for i in range(len(batch)))
