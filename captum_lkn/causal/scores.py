"""Log-odds of continuations, from logits and from features."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["continuation_log_odds", "lens_of_continuation"]

_ROWS = 64  # rows whose logits are in float64 at a time


def continuation_log_odds(logits: Tensor, continuation: Tensor) -> Tensor:
    """Return the log-odds of a whole continuation, log p/(1-p), from the logits at each of its positions.

    The log-odds z of one token are its logit minus the logsumexp of all others, never log(p/(1-p)) of a rounded p. Two
    events with log-odds a and b, the second given the first, are both true with log-odds -logsumexp(-a, -b, -a-b),
    since 1/p - 1 = (1 + e^-a)(1 + e^-b) - 1.

    Args:
        logits: ``[R, c, V]``, those that predict each of the c tokens.
        continuation: Int64 ``[c]``.

    Returns:
        Float64 ``[R]`` (float32 on MPS).

    Example:
        >>> continuation_log_odds(torch.zeros(1, 2, 4), torch.tensor([0, 3])).exp()  # p = 1/16
        tensor([0.0667], dtype=torch.float64)
    """
    return torch.cat([_log_odds(part, continuation.to(logits.device)) for part in torch.split(logits, _ROWS)])


def lens_of_continuation(head: Callable[[Tensor], Tensor], continuation: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the read-out that gives the log-odds of a continuation from the features that predict it.

    Args:
        head: From features ``[R, D]`` to logits ``[R, V]``.
        continuation: Int64 ``[c]``.

    Returns:
        A function from ``[R, c * D]`` to ``[R, 1]``.
    """
    count = len(continuation)

    def lens(feature: Tensor) -> Tensor:
        parts = []
        for rows in torch.split(feature, _ROWS):
            logits = head(rows.reshape(len(rows) * count, -1))
            parts.append(continuation_log_odds(logits.reshape(len(rows), count, -1), continuation))
        return torch.cat(parts)[:, None]

    return lens


def _log_odds(logits: Tensor, continuation: Tensor) -> Tensor:
    wide = logits.to(torch.float32 if logits.device.type == "mps" else torch.float64)
    index = continuation.expand(len(wide), -1)[..., None]
    others = wide.scatter(2, index, -torch.inf).logsumexp(2)
    each = (wide.gather(2, index).squeeze(2) - others).unbind(1)
    return functools.reduce(lambda a, b: -torch.stack([-a, -b, -a - b]).logsumexp(0), each)
