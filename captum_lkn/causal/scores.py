"""Tokens of continuations, and their log-odds."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from captum_lkn._common.messages import kind_of

__all__ = ["ROWS", "continuation_ids", "continuation_log_odds", "left_padded"]

_ANCHORS = ("\n", ".", ":", "?", ")", "1", "a")
ROWS = 64  # rows whose logits are in float64 at a time


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
    return torch.cat([_log_odds(part, continuation.to(logits.device)) for part in torch.split(logits, ROWS)])


def _log_odds(logits: Tensor, continuation: Tensor) -> Tensor:
    wide = logits.to(torch.float32 if logits.device.type == "mps" else torch.float64)
    index = continuation.expand(len(wide), -1)[..., None]
    others = wide.scatter(2, index, -torch.inf).logsumexp(2)
    each = (wide.gather(2, index).squeeze(2) - others).unbind(1)
    return functools.reduce(lambda a, b: -torch.stack([-a, -b, -a - b]).logsumexp(0), each)


def continuation_ids(model: Any, continuation: Any, tokenizer: Any) -> Tensor:
    """Convert a text or token ids to int64 ``[c]``, and check them against a model's vocabulary."""
    if isinstance(continuation, str):
        if tokenizer is None:
            raise TypeError(f"continuation is a text, {continuation!r}, which needs a tokenizer. Give it, or token ids")
        ids = torch.tensor(_tokenise_inside(tokenizer, continuation), dtype=torch.int64)
    elif isinstance(continuation, (Sequence, Tensor)):
        ids = torch.as_tensor(continuation).cpu()
    else:
        raise TypeError(f"continuation must be a text or token ids; got {kind_of(continuation)}")
    if ids.dim() != 1 or len(ids) == 0:
        raise ValueError(f"continuation must be one sequence of at least one token; got {continuation!r}")
    if ids.is_floating_point() or ids.dtype == torch.bool:
        raise TypeError(f"continuation must be a text or token ids; got {continuation!r}")
    size = model.config.get_text_config().vocab_size
    if not 0 <= int(ids.min()) <= int(ids.max()) < size:
        raise ValueError(f"continuation must hold ids of the vocabulary, 0 to {size - 1}; got {ids.tolist()}")
    return ids.long()


def _tokenise_inside(tokenizer: Any, text: str) -> list[int]:
    """Return the tokens of a text behind others: some tokenizers begin every text with a space of their own.

    The text is tokenised behind an anchor of its own tokens. A line break is best, since no word continues it; a
    tokenizer that does not know it would join it with unknown characters behind it.
    """
    for anchor in _ANCHORS:
        before = _plain_ids(tokenizer, anchor)
        both = _plain_ids(tokenizer, anchor + text)
        unknown = getattr(tokenizer, "unk_token_id", None)
        if both[: len(before)] == before and unknown not in before:
            return both[len(before) :]
    return _plain_ids(tokenizer, text)


def _plain_ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def left_padded(ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Move the padding of prompts to the left."""
    if bool(mask.all()):
        return ids, mask
    order = mask.argsort(dim=1, stable=True)[:, -int(mask.sum(1).max()) :]
    return ids.gather(1, order), mask.gather(1, order)
