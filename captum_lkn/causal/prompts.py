"""Prompts as a causal language model reads them: checked, padded on the left, and the logits behind them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn

from captum_lkn._common.messages import kind_of, shape_of
from captum_lkn.causal.caches import kept_logits
from captum_lkn.models.hugging_face.call import HuggingFace
from captum_lkn.models.hugging_face.facts import (
    adds_virtual_tokens,
    first_position,
    is_encoder_decoder,
    is_hugging_face,
    vocabulary_size,
)
from captum_lkn.models.model import Model
from captum_lkn.players.players import Players

__all__ = [
    "causal_model",
    "check_causal",
    "check_others",
    "checked_prompts",
    "left_padded",
    "next_logits",
    "padding_counts",
    "predicted_ids",
    "prompt_of",
    "visible_ids",
]


_PROBE: Final = 4  # tokens of the text by which a model is checked
_ROUNDING: Final = 100  # units of rounding, by which logits of the same prompt may differ

# What tokenizers may return beside token ids and their mask.
_FROM_TOKENIZERS: Final = (
    "token_type_ids",
    "special_tokens_mask",
    "offset_mapping",
    "overflowing_tokens",
    "overflow_to_sample_mapping",
    "num_truncated_tokens",
    "length",
)


def causal_model(model: Any) -> Any:
    """Return the model inside its wrappers: each length of a prompt would be compiled anew.

    Raises:
        TypeError: It is not a model of `transformers`.
        ValueError: It is an encoder-decoder, or does not generate.
    """
    model = Model(model).inner if callable(model) else model
    if not isinstance(model, nn.Module) or not is_hugging_face(model):
        raise TypeError(f"model must be a causal language model of transformers; got {kind_of(model)}")
    can_generate = getattr(model, "can_generate", lambda: True)
    if is_encoder_decoder(model) or not can_generate():
        raise ValueError(
            f"{type(model).__name__} is not a causal language model. Load one with AutoModelForCausalLM.from_pretrained"
        )
    return model


def check_causal(model: Any, called: HuggingFace) -> None:
    """Check that another last token leaves the logits before it as they are.

    The check runs in evaluation mode, since dropout changes all logits.

    Args:
        model: A language model of `transformers`.
        called: The way in which it is called.

    Raises:
        ValueError: The model is not causal, or has no weights.

    Warns:
        UserWarning: The model is in training mode.
    """
    whole, size = Model(model), vocabulary_size(model)
    with whole.session():
        ids = torch.arange(_PROBE, device=whole.device or "cpu").expand(2, -1) % size
        ids = torch.cat([ids[:, :-1], (ids[:, -1:] + torch.tensor([[0], [1]], device="cpu").to(ids)) % size], 1)
        before, after = next_logits(model, called, ids, torch.ones_like(ids), 2)[:, 0].double()
    change = float((before - after).abs().max())
    if change > _ROUNDING * torch.finfo(model.dtype).eps * float(before.abs().max()):
        raise ValueError(
            f"{whole.name} is not causal: another last token changes the logits before it by {change:.3g}. Load a "
            "causal language model; one of BERT's kind needs is_decoder=True"
        )


def padding_counts(model: Any, called: HuggingFace) -> bool:
    """Return whether a prompt has other logits behind padding, or with positions from 0.

    RWKV reads padding, since it takes no attention mask. RoBERTa as a decoder derives positions from token ids.

    Args:
        model: A causal model of `transformers`.
        called: The way in which it is called.
    """
    if adds_virtual_tokens(model) or first_position(model) != 0:
        return True
    whole, size = Model(model), vocabulary_size(model)
    with whole.session():
        ids = torch.arange(_PROBE + 1, device=whole.device or "cpu")[None] % size
        mask = (torch.arange(_PROBE + 1, device=ids.device) > 0).long()[None]
        padded = next_logits(model, called, ids, mask, 1).double()
        alone = next_logits(model, called, ids[:, 1:], mask[:, 1:], 1, alone=True).double()
    return float((padded - alone).abs().max()) > _ROUNDING * torch.finfo(model.dtype).eps * float(alone.abs().max())


def check_others(called: HuggingFace, others: Mapping[str, Any]) -> None:
    """Check that a prompt's further arguments change nothing, so that they can be left out.

    Those are outputs of a tokenizer that the model does not take, and the token types 0 of a model with a table for
    them, which are its default. (GPT-2 adds the embedding of a word for token type 0.)

    Args:
        called: A causal model of `transformers`.
        others: The arguments, by keyword.

    Raises:
        TypeError: There is another one.
    """
    for name, value in others.items():
        is_default = (
            name == "token_type_ids"
            and isinstance(value, Tensor)
            and not bool(value.any())
            and called.limits.token_types is not None
        )
        if value is None or is_default or (name in _FROM_TOKENIZERS and name not in called.parameters):
            continue
        raise TypeError(
            f"a continuation of {called.name} takes input_ids and attention_mask; got {name} too: leave it "
            "out of the inputs and of additional_forward_args"
        )


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


def next_logits(
    model: Any, called: HuggingFace, ids: Tensor, mask: Tensor, keep: int, *, alone: bool = False
) -> Tensor:
    """Return the last logits of left-padded prompts.

    Args:
        model: A causal model of `transformers`.
        called: The way in which it is called.
        ids: Int64 ``[R, T]``.
        mask: ``[R, T]``, 0 at padding.
        keep: The number of last positions.
        alone: Whether the model gets prompts without padding and numbers their tokens itself, which takes a forward for
            each length; see :func:`padding_counts`.

    Returns:
        ``[R, keep, V]``.

    Raises:
        ValueError: Ids beyond the vocabulary, or more tokens than positions.
    """
    options: dict[str, Any] = {"input_ids": ids, "attention_mask": mask}
    called.limits.check(options)
    if "use_cache" in called.parameters:
        options["use_cache"] = False
    if alone:
        return _without_padding(model, ids, mask, keep, options)
    if "position_ids" in called.parameters:
        options["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)
    return kept_logits(model, keep, **options)


def predicted_ids(model: Any, prompt: Tensor, count: int) -> list[int]:
    """Return the most likely next tokens after a prompt ``[t]`` without padding, one after the other."""
    called, found = HuggingFace(model), list[int]()
    ids = prompt[None].to(model.device)
    with Model(model).session():
        for _ in range(count):
            found.append(int(next_logits(model, called, ids, torch.ones_like(ids), 1, alone=True).argmax()))
            ids = torch.nn.functional.pad(ids, (0, 1), value=found[-1])
    return found


def _without_padding(model: Any, ids: Tensor, mask: Tensor, keep: int, options: dict[str, Any]) -> Tensor:
    """Return the last logits of left-padded prompts, those of one length in one forward."""
    lengths = mask.sum(1)
    places, parts = [], []
    for length in sorted(set(lengths.tolist())):
        rows = (lengths == length).nonzero()[:, 0]
        own = options | {"input_ids": ids[rows, -length:], "attention_mask": mask[rows, -length:]}
        parts.append(kept_logits(model, keep, **own))
        places.append(rows)
    return torch.cat(parts)[torch.cat(places).argsort()]


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
