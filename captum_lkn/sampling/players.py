"""Values of players and of pairs from effects, and errors from refits."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from captum_lkn.decomposition.effects import Effects

__all__ = ["banzhaf_weights", "jackknife_errors", "pair_weights", "shapley_weights"]


def shapley_weights(effects: Effects) -> Tensor:
    r"""Return the share of each effect that is its players' Shapley value, ``[n, k]``: 1 / \|S\| to each member.

    It holds for OR effects as well, whose game is the dual of that of the AND effect.

    Example:
        >>> effects = Effects.of(3, [("and", (0, 1), 3.0), ("or", (1, 2), 1.0)])
        >>> (shapley_weights(effects) @ effects.values).tolist()
        [1.5, 2.0, 0.5]
    """
    return effects.members.T.double() / effects.orders.double()


def banzhaf_weights(effects: Effects) -> Tensor:
    r"""Return the share of each effect that is its players' Banzhaf value, ``[n, k]``: 2^-(\|S\| - 1) to each member.

    A player completes an AND effect where the others are all present, and an OR effect where they are all absent.

    Example:
        >>> effects = Effects.of(3, [("and", (0, 1), 3.0), ("or", (0, 1, 2), 4.0)])
        >>> (banzhaf_weights(effects) @ effects.values).tolist()
        [2.5, 2.5, 1.0]
    """
    return effects.members.T.double() * 0.5 ** (effects.orders.double() - 1)


def pair_weights(effects: Effects) -> tuple[Tensor, Tensor]:
    r"""Return the pairs that lie in a set, and the share of effects that is their Shapley interaction index.

    For an AND effect 1 / (\|S\| - 1), for an OR effect the negative of it, since each of two makes the other needless.

    Returns:
        Int64 ``[p, 2]``, the pairs in ascending order; float64 ``[p, k]``.

    Example:
        >>> effects = Effects.of(3, [("and", (0, 1, 2), 2.0), ("or", (0, 1), 1.0)])
        >>> pairs, weights = pair_weights(effects)
        >>> pairs.tolist(), (weights @ effects.values).tolist()
        ([[0, 1], [0, 2], [1, 2]], [0.0, 1.0, 1.0])
    """
    members = effects.members
    together = (members.T.double() @ members.double()).triu(1) > 0
    pairs = together.nonzero()
    both = members[:, pairs[:, 0]] & members[:, pairs[:, 1]]
    signs = torch.where(effects.is_or, -1.0, 1.0).double()
    shares = signs / (effects.orders.double() - 1).clamp(min=1)
    return pairs, both.T.double() * shares


def jackknife_errors(refits: Tensor) -> Tensor:
    """Return standard errors from numbers ``[F, ...]`` that were each computed without one of F parts; NaN for none.

    The delete-a-group jackknife (Kott, "The delete-a-group jackknife", Journal of Official Statistics 17, 2001).

    Example:
        >>> jackknife_errors(torch.tensor([[1.0], [3.0]]))
        tensor([1.])
    """
    parts = len(refits)
    if parts < 2:
        return torch.full(refits.shape[1:], math.nan, dtype=refits.dtype, device="cpu")
    spread: Tensor = (refits - refits.mean(0)).square().sum(0)
    return (spread * ((parts - 1) / parts)).sqrt()
