"""Draw masks of n players, of which 2^n are too many.

Two distributions are drawn from. *Uniform*: each player is present with probability 1/2, so that almost all masks have
about n/2 players. *All sizes*: the number of players is uniform from 1 to n - 1, then which they are. The first shows
how players act among many others, the second also how they act alone and how they are missed. Masks to fit are half of
each, and hold the empty and the full one. No mask is drawn twice.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from captum_lkn.decomposition import lattice
from captum_lkn.decomposition.effects import MAX_DENSE_PLAYERS

__all__ = ["MaskPlan", "draw_masks", "least_samples", "plan_masks"]

_ROUNDS: Final = 40  # of draws before it is given up to find more masks that differ
_TEST_SHARE: Final = 20  # one in so many masks tests uniform masks, and as many test all sizes
_LEAST_TEST: Final = 50
_MOST_TEST: Final = 500  # R^2 of 500 masks is known to about 0.001 where it is .98


class MaskPlan(NamedTuple):
    """Masks of one sample, all of them different.

    Attributes:
        fit: Bool ``[m, n]``, to fit; the first has no player, the second has all.
        uniform: Bool ``[h, n]``, to test on: each player is present with probability 1/2.
        all_sizes: Bool ``[h, n]``, to test on: the number of players is uniform from 1 to n - 1.
    """

    fit: Tensor
    uniform: Tensor
    all_sizes: Tensor


def least_samples(n: int) -> int:
    """Return the smallest number of masks that makes sense for n players: ten for each effect of one player, and 100.

    Example:
        >>> least_samples(21)
        310
    """
    return 10 * n + 100


def plan_masks(n: int, n_samples: int, generator: torch.Generator) -> MaskPlan:
    """Draw masks to fit and to test on.

    Args:
        n: The number of players.
        n_samples: The number of masks of all three kinds together, at least :func:`least_samples`.
        generator: On the CPU.

    Returns:
        A tenth of the masks to test on, 100 to 1,000, half of them uniform, half of all sizes; the rest to fit. Where
        there are no more than `n_samples`, all 2^n are to fit.

    Example:
        >>> plan = plan_masks(30, 1000, torch.Generator().manual_seed(0))
        >>> [len(masks) for masks in plan], plan.fit[:2].sum(1).tolist()
        ([900, 50, 50], [0, 30])
    """
    if n <= MAX_DENSE_PLAYERS and 1 << n <= n_samples:
        every = lattice.members(torch.arange(1 << n, device="cpu"), n)
        none = torch.zeros(0, n, dtype=torch.bool, device="cpu")
        return MaskPlan(torch.cat([every[:1], every[-1:], every[1:-1]]), none, none)
    tests = min(max(n_samples // _TEST_SHARE, _LEAST_TEST), _MOST_TEST)
    ends = torch.stack([torch.zeros(n, dtype=torch.bool, device="cpu"), torch.ones(n, dtype=torch.bool, device="cpu")])
    taken = set(_keys(ends))
    # Those to test on are drawn first: fitting would take all masks of few players.
    uniform = draw_masks(n, tests, generator, taken)
    all_sizes = draw_masks(n, tests, generator, taken, all_sizes=True)
    left = n_samples - 2 * tests - 2
    sizes = draw_masks(n, left // 2, generator, taken, all_sizes=True)
    rest = draw_masks(n, left - len(sizes), generator, taken)
    return MaskPlan(torch.cat([ends, sizes, rest]), uniform, all_sizes)


def draw_masks(n: int, count: int, generator: torch.Generator, taken: set[bytes], *, all_sizes: bool = False) -> Tensor:
    """Draw masks that differ from each other and from those that are taken.

    Args:
        n: The number of players.
        count: The number of masks.
        generator: On the CPU.
        taken: The masks that were drawn before, as bytes; the new ones are added.
        all_sizes: Whether the number of players is uniform from 1 to n - 1; else each player is present with
            probability 1/2.

    Returns:
        Bool ``[count, n]``; fewer where no others were found.
    """
    found: list[Tensor] = []
    for _ in range(_ROUNDS):
        missing = count - len(found)
        if missing <= 0:
            break
        drawn = _draw(n, missing, generator, all_sizes)
        for row, key in zip(drawn, _keys(drawn), strict=True):
            if key not in taken:
                taken.add(key)
                found.append(row)
    return torch.stack(found) if found else torch.zeros(0, n, dtype=torch.bool, device="cpu")


def _draw(n: int, count: int, generator: torch.Generator, all_sizes: bool) -> Tensor:
    numbers = torch.rand(count, n, generator=generator, device="cpu")
    if not all_sizes:
        return numbers < 0.5
    sizes = torch.randint(1, max(n, 2), (count, 1), generator=generator, device="cpu")
    return numbers.argsort(1).argsort(1) < sizes


def _keys(masks: Tensor) -> list[bytes]:
    """Return each mask as bytes."""
    return [row.tobytes() for row in np.packbits(masks.numpy(), axis=1)]
