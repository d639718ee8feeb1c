"""Masked copies of samples that differ from each other, and the masks that each of them stands for.

A player whose inputs equal its baselines does not change a copy: a black pixel, a count of 0 in a table.
Masks that differ in such players alone give one copy, which is evaluated once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from captum_lkn.players.players import Players, compact
from captum_lkn.sampling.masks import MaskPlan

__all__ = ["Copies", "copies_of_all", "copies_of_sampled", "unchanged_players"]


@dataclass(frozen=True)
class Copies:
    """Masked copies of some samples, one sample after the other, each different one once.

    Attributes:
        total: The number of copies.
        take: From a range of copies to their samples, int64 ``[R]``, and masks, bool ``[R, n]``.
        places: Int64 ``[M]``, the copy of each mask of all samples; None where each mask has its own.
    """

    total: int
    take: Callable[[range], tuple[Tensor, Tensor]]
    places: Tensor | None

    @property
    def masks(self) -> int:
        """The number of masks."""
        return self.total if self.places is None else len(self.places)

    def spread(self, values: Tensor) -> Tensor:
        """Return the values ``[M, L]`` of all masks from those of the copies, ``[total, L]``."""
        return values if self.places is None else values[self.places]

    def masks_in(self, rows: range) -> Tensor:
        """Return the numbers of the masks whose copies are in a range, int64."""
        if self.places is None:
            return torch.arange(rows.start, rows.stop, device="cpu")
        return ((self.places >= rows.start) & (self.places < rows.stop)).nonzero()[:, 0]


def unchanged_players(players: Players, alike: bool = False) -> Tensor:
    """Return which players leave a sample as it is when they are absent, bool ``[B, n_max]``.

    Args:
        players: The players.
        alike: Whether all samples have one mask: then a player counts if it changes none of them.

    Example:
        >>> from captum_lkn.players.players import players_from_mask
        >>> unchanged_players(players_from_mask(torch.tensor([[3.0, 0.0, 2.0], [0.0, 0.0, 1.0]])))
        tensor([[False,  True, False],
                [ True,  True, False]])
    """
    columns = max(players.sizes)
    changed = torch.zeros(len(players), columns + 1, dtype=torch.bool, device="cpu")
    for x, baselines, owner in zip(
        players.inputs, players.background or players.baselines, players.owners, strict=True
    ):
        changed |= _changed(x, baselines, compact(owner), columns, bool(players.background))
    unchanged = ~changed[:, :columns]
    return unchanged.all(0).expand_as(unchanged) if alike else unchanged


def _changed(x: Tensor, baselines: Tensor, owner: Tensor, columns: int, is_background: bool) -> Tensor:
    """Return which players own a scalar of an input that their absence changes, bool ``[B, columns + 1]``.

    The last column is that of the scalars that are always there. A background ``[K, ...]`` serves all samples.
    """
    differs = _differ(x, baselines[:1] if is_background else baselines)
    if is_background:  # what is not constant there differs from one of its samples whatever the input is
        differs |= _differ(baselines, baselines[:1]).any(0)
    one = [axis for axis in range(1, x.dim()) if owner.shape[axis] == 1]
    if one:
        differs = differs.any(one, keepdim=True)
    own = owner.cpu().reshape(len(owner), -1)
    own = own.where(own >= 0, columns).expand(len(x), -1)
    counts = torch.zeros(len(x), columns + 1, dtype=torch.int32, device="cpu")
    return counts.scatter_add_(1, own, differs.reshape(len(x), -1).int().cpu()) > 0


def _differ(x: Tensor, baseline: Tensor) -> Tensor:
    """Return which scalars differ; 0 and -0 do, and NaN does not differ from NaN."""
    differs = x != baseline
    if not x.is_floating_point():
        return differs
    return (differs | (x.signbit() != baseline.signbit())) & ~(x.isnan() & baseline.isnan())


def copies_of_all(players: Players, left: Sequence[int], alike: bool = False) -> Copies:
    """Return the copies of all masks of some samples, each sample's in the order of the subsets.

    Args:
        players: The players.
        left: The samples.
        alike: See :func:`unchanged_players`.

    Example:
        >>> from captum_lkn.players.players import players_from_mask
        >>> copies = copies_of_all(players_from_mask(torch.tensor([[3.0, 0.0]])), [0])
        >>> copies.take(range(2))[1].tolist(), copies.places.tolist()
        ([[False, False], [True, False]], [0, 1, 0, 1])
    """
    sizes = [players.sizes[sample] for sample in left]
    columns = max(sizes)
    unchanged = unchanged_players(players, alike)[list(left), :columns]
    is_player = torch.arange(columns, device="cpu") < torch.tensor(sizes, device="cpu")[:, None]
    counted = is_player & ~unchanged
    # The bit of each player in the number of a copy; that of the others is never set.
    bits = torch.where(counted, counted.cumsum(1) - 1, 62)
    counts = 1 << counted.sum(1)
    ends, chosen = counts.cumsum(0), torch.tensor(left, device="cpu")

    def take(rows: range) -> tuple[Tensor, Tensor]:
        index = torch.arange(rows.start, rows.stop, device="cpu")
        place = torch.searchsorted(ends, index, right=True)
        own = index - ends[place] + counts[place]
        return chosen[place], (own[:, None] >> bits[place] & 1).bool()

    total = int(ends[-1])
    if total == sum(1 << n for n in sizes):
        return Copies(total, take, None)
    places = [
        _numbers(n, own[:n]) + start
        for n, own, start in zip(sizes, torch.where(counted, bits, -1), (ends - counts).tolist(), strict=True)
    ]
    return Copies(total, take, torch.cat(places))


def _numbers(n: int, bits: Tensor) -> Tensor:
    """Return the number of the copy of each of the 2^n masks; `bits` has the bit of each player in it, or -1."""
    subsets = torch.arange(1 << n, device="cpu")
    found = torch.zeros_like(subsets)
    for player, bit in enumerate(bits.tolist()):
        if bit >= 0:
            found |= (subsets >> player & 1) << bit
    return found


def copies_of_sampled(
    players: Players, plan_of: Mapping[int, MaskPlan], alike: bool = False, in_order: bool = False
) -> Copies:
    """Return the copies of sampled masks of all samples.

    Args:
        players: The players.
        plan_of: The masks by the number of players.
        alike: See :func:`unchanged_players`.
        in_order: Whether masks that agree in the first players stand beside each other, whose inputs begin alike; else
            they are in the order in which they were drawn.
    """
    sizes = players.sizes[:1] if alike else players.sizes
    unchanged = unchanged_players(players, alike)
    masks, samples, places, total = [], [], [], 0
    for sample, n in enumerate(sizes):
        own = torch.cat(plan_of[n])
        kept, place = own, torch.arange(len(own), device="cpu")
        if bool(unchanged[sample, :n].any()):
            first, place = _first_of_each(own | unchanged[sample, :n])
            kept = own[first]
        if in_order:
            order = torch.from_numpy(np.lexsort(kept[:, _by_first_place(players, sample)].numpy().T[::-1]))
            kept, place = kept[order], order.argsort()[place]
        places.append(total + place)
        masks.append(pad(kept, (0, max(sizes) - n)))
        samples.append(torch.full((len(kept),), sample, device="cpu"))
        total += len(kept)
    every, of = torch.cat(masks), torch.cat(samples)

    def take(rows: range) -> tuple[Tensor, Tensor]:
        return of[rows.start : rows.stop], every[rows.start : rows.stop]

    joined = torch.cat(places)
    return Copies(total, take, joined if in_order or total < len(joined) else None)


def _by_first_place(players: Players, sample: int) -> list[int]:
    """Return the players of a sample by the place of their first scalar in its first input."""
    owners = players.owners[0][sample].flatten().tolist()
    return sorted(range(players.sizes[sample]), key=lambda i: owners.index(i) if i in owners else len(owners))


def _first_of_each(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first place of each different row, in their order, and for each row the number of its like."""
    _, like = torch.unique(rows, dim=0, return_inverse=True)
    index = torch.arange(len(rows), device="cpu")
    first = torch.full((int(like.max()) + 1,), len(rows), device="cpu").scatter_reduce(0, like, index, "amin")
    order = first.argsort()
    number = torch.empty_like(order)
    number[order] = torch.arange(len(order), device="cpu")
    return first[order], number[like]
