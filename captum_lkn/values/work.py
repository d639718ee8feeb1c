"""Forwards and tokens that masked evaluation takes, counted without running them."""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor

from captum_lkn.values.forwards import MaskedForwards

__all__ = ["BLOCK", "Work", "work_of"]

BLOCK: Final = 1 << 18
"""Rows that are laid out at once where values are averaged over a background."""


class Work(NamedTuple):
    """Work of masked evaluation.

    Attributes:
        forwards: The number of forwards.
        tokens: The number of their tokens, 0 where the inputs are not tokens.
        plain_tokens: The number of tokens if all copies were evaluated whole.
    """

    forwards: int = 0
    tokens: int = 0
    plain_tokens: int = 0

    def plus(self, other: Work) -> Work:
        """Return the sum of both."""
        return Work(*(some + more for some, more in zip(self, other, strict=True)))


def work_of(forwards: MaskedForwards, drops: bool, samples: Tensor, masks: Tensor) -> Work:
    """Count the work of masked copies that are evaluated in one call.

    Args:
        forwards: The forwards, whose kind is known.
        drops: Whether removed tokens are left out.
        samples: Int64 ``[R]``.
        masks: Bool ``[R, n_max]``.

    Returns:
        The work; without the checks of the first forward.
    """
    if not len(samples):
        return Work()
    players = forwards.players
    width = players.inputs[0].shape[1] if forwards.has_tokens else 0
    if forwards.whole_batch or forwards.aligned:
        several = len(samples) if forwards.whole_batch else int(samples.bincount().max())
        tokens = several * len(players) * width
        return Work(several, tokens, tokens)
    draws = len(players.background[0]) if players.background else 1
    block = max(1, BLOCK // draws) if draws > 1 else len(samples)
    plain = len(samples) * draws * width
    if not drops:
        pieces = [len(part) * draws for part in torch.split(samples, block)]
        return Work(sum(-(-piece // forwards.rows) for piece in pieces), plain, plain)
    lengths = _lengths(forwards, samples, masks)
    count = sum(len(set(part.tolist())) for part in torch.split(lengths, forwards.rows))
    return Work(count, int(lengths.sum()), plain)


def _lengths(forwards: MaskedForwards, samples: Tensor, masks: Tensor) -> Tensor:
    """Return the number of tokens of each copy, int64 ``[R]``, whose attention mask is masked."""
    n, batch = masks.shape[1], len(forwards.players)
    alone = torch.cat([torch.zeros(1, n, dtype=torch.bool, device="cpu"), torch.eye(n, device="cpu").bool()])
    everyone = torch.arange(batch, device="cpu").repeat_interleave(n + 1)
    kept = forwards.copies(everyone, alone.repeat(batch, 1)).inputs[0].cpu().sum(1).reshape(batch, n + 1)
    own = kept[:, 1:] - kept[:, :1]
    return kept[samples, 0] + (masks * own[samples]).sum(1)
