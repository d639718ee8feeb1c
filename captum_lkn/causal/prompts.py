"""Prompts as a causal language model reads them: checked, padded on the left, and the logits behind them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from captum_lkn._common.messages import kind_of, shape_of
from captum_lkn.causal.prefix_tree import kept_logits
from captum_lkn.models.hugging_face.call import HuggingFace
from captum_lkn.models.hugging_face.facts import adds_virtual_tokens
from captum_lkn.players.players import Players

__all__ = ["checked_prompts", "left_padded", "next_logits", "prompt_of", "visible_ids"]


def visible_ids(players: Players, sample: int) -> list[int] | None:
    """Return the token ids of one prompt without padding; None if the players are not of token ids."""
    inputs = dict(zip(players.names or ("input_ids", "attention_mask"), players.inputs, strict=False))
    ids, mask = inputs.get("input_ids"), inputs.get("attention_mask", players.constants.get("attention_mask"))
    if ids is None or ids.dim() != 2 or ids.is_floating_point():
        return None
    return ids[sample][mask[sample].bool()].tolist() if isinstance(mask, Tensor) else ids[sample].tolist()


def checked_prompts(input_ids: Any, attention_mask: Any) -> tuple[Tensor, Tensor]:
    """Check ids ``[R, T]`` and bring the mask beside them to integers."""
    if not isinstance(input_ids, Tensor) or input_ids.is_floating_point() or input_ids.dtype == torch.bool:
        raise TypeError(f"input_ids must be a tensor of token ids; got {kind_of(input_ids)}")
    mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask.to(input_ids)
    if input_ids.dim() != 2 or mask.shape != input_ids.shape:
        raise ValueError(
            f"input_ids must be [R, T], and attention_mask like it; got {shape_of(input_ids)} and {shape_of(mask)}"
        )
    if not bool(mask.any(1).all()):
        row = int((~mask.any(1)).nonzero()[0])
        raise ValueError(f"prompt {row} must have at least one token; got none. Keep one as background")
    return input_ids, (mask != 0).long()


def next_logits(model: Any, ids: Tensor, mask: Tensor, keep: int) -> Tensor:
    """Return the last logits of left-padded prompts.

    Args:
        model: A causal model of `transformers`.
        ids: Int64 ``[R, T]``.
        mask: ``[R, T]``, 0 at padding.
        keep: The number of last positions.

    Returns:
        ``[R, keep, V]``.

    Raises:
        ValueError: Ids beyond the vocabulary, or more tokens than positions.
    """
    called = HuggingFace(model)
    options: dict[str, Any] = {"input_ids": ids, "attention_mask": mask}
    called.limits.check(options)
    if "use_cache" in called.parameters:
        options["use_cache"] = False
    if adds_virtual_tokens(model):  # it places all tokens itself, also those of padding
        return _without_padding(model, ids, mask, keep, options)
    if "position_ids" in called.parameters:
        options["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)
    return kept_logits(model, keep, **options)


def _without_padding(model: Any, ids: Tensor, mask: Tensor, keep: int, options: dict[str, Any]) -> Tensor:
    """Return the last logits of left-padded prompts, those of one length in one forward."""
    lengths = mask.sum(1)
    logits = None
    for length in sorted(set(lengths.tolist())):
        rows = lengths == length
        own = options | {"input_ids": ids[rows, -length:], "attention_mask": mask[rows, -length:]}
        part = kept_logits(model, keep, **own)
        logits = part.new_empty(len(ids), *part.shape[1:]) if logits is None else logits
        logits[rows] = part
    assert logits is not None  # there is at least one row
    return logits


def prompt_of(players: Players, sample: int, attention_mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return one prompt on the CPU, ``[T]``, and its mask of tokens, bool ``[T]``."""
    own = slice(sample, sample + 1)
    if attention_mask is None and "attention_mask" in players.constants:
        attention_mask = players.constants["attention_mask"][own]
    ids, mask = checked_prompts(players.inputs[0][own].cpu(), None if attention_mask is None else attention_mask.cpu())
    return ids[0], mask[0].bool()


def left_padded(ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Move the padding of prompts to the left."""
    if bool(mask.all()):
        return ids, mask
    order = mask.argsort(dim=1, stable=True)[:, -int(mask.sum(1).max()) :]
    return ids.gather(1, order), mask.gather(1, order)
