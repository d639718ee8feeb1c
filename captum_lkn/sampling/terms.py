"""Terms: sets of players with a kind, and the functions of a mask that they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, TypeAlias

import torch
from torch import Tensor

from captum_lkn.decomposition.effects import Effects
from captum_lkn.decomposition.options import DecompositionOptions

__all__ = ["Masks", "Term", "activity", "members_of", "price", "terms_of"]

Term: TypeAlias = tuple[tuple[int, ...], bool]
"""The numbers of a set's players, ascending, and whether it is an OR term. A term of one player is an AND term."""

_BLOCK: Final = 1 << 26  # numbers that are held at once


class Masks(NamedTuple):
    """Masks as numbers, and their complements.

    Attributes:
        present: Float ``[m, n]``, 1 where a player is present.
        absent: Float ``[m, n]``, 1 where it is not.
    """

    present: Tensor
    absent: Tensor

    @classmethod
    def of(cls, masks: Tensor, dtype: torch.dtype = torch.float32) -> Masks:
        """Make them of bool ``[m, n]``."""
        present = masks.to(dtype)
        return cls(present, 1 - present)

    def side(self, is_or: bool) -> Tensor:
        """Return what a term multiplies: an AND term counts where all are present, an OR term unless all are absent."""
        return self.absent if is_or else self.present


def members_of(terms: Sequence[Term], n: int) -> tuple[Tensor, Tensor]:
    """Return the sets as bool ``[k, n]``, and whether each is an OR term, bool ``[k]``."""
    members = torch.zeros(len(terms), n, dtype=torch.bool, device="cpu")
    rows = [row for row, (players, _) in enumerate(terms) for _ in players]
    members[rows, [player for players, _ in terms for player in players]] = True
    return members, torch.tensor([is_or for _, is_or in terms], dtype=torch.bool, device="cpu")


def terms_of(effects: Effects) -> list[Term]:
    """Return the sets of effects with their kinds.

    Example:
        >>> terms_of(Effects.of(3, [("or", (0, 2), 1.0)]))
        [((0, 2), True)]
    """
    sets = [tuple(row.nonzero().flatten().tolist()) for row in effects.members]
    return list(zip(sets, effects.is_or.tolist(), strict=True))


def activity(masks: Masks, terms: Sequence[Term]) -> Tensor:
    """Return where each term counts: 1 or 0, ``[k, m]`` of the masks' dtype.

    Example:
        >>> masks = Masks.of(torch.tensor([[True, False], [True, True]]))
        >>> activity(masks, [((0, 1), False), ((0, 1), True)])
        tensor([[0., 1.],
                [1., 1.]])
    """
    m, n = masks.present.shape
    result = masks.present.new_empty(len(terms), m)
    members, is_or = members_of(terms, n)
    needed = torch.where(is_or, 1, members.sum(1)).to(result.dtype)
    step = max(1, _BLOCK // max(m, 1))
    for start in range(0, len(terms), step):
        part = slice(start, start + step)
        present = members[part].to(result.dtype) @ masks.present.T
        result[part] = (present >= needed[part, None]).to(result.dtype)
    return result


def price(order: int, is_or: bool, options: DecompositionOptions) -> float:
    """Return the weight of a term, as in :class:`captum_lkn.decomposition.DecompositionOptions`."""
    return (1 + options.order_weight * (order - 1)) * (options.or_weight if is_or else 1.0)
