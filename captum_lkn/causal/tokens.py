"""Tokens of continuations: as they follow a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from captum_lkn._common.messages import kind_of
from captum_lkn._common.warn import warn
from captum_lkn.models.hugging_face.facts import model_of_pipeline, vocabulary_size
from captum_lkn.players.tokens import closing_ids, tokenizer_of

__all__ = ["continuation_ids", "other_tokens", "rewritten", "tokenizer_for", "warn_of_joint"]

_ANCHORS = ("\n", ".", ":", "?", ")", "1", "a")  # texts that a continuation is tokenised behind, until one serves


def tokenizer_for(model: Any, tokenizer: Any) -> Any:
    """Return the given tokenizer, or that of a pipeline in the model's place, or None."""
    if tokenizer is not None:
        return tokenizer_of(tokenizer)
    return None if model_of_pipeline(model) is model else model.tokenizer


def continuation_ids(model: Any, continuation: Any, tokenizer: Any) -> Tensor:
    """Convert a text or token ids to int64 ``[c]``, and check them against a model's vocabulary.

    Args:
        model: A causal model of `transformers`.
        continuation: A text, or token ids.
        tokenizer: The model's tokenizer; needed for a text.

    Returns:
        The token ids, on the CPU.

    Raises:
        TypeError: Something else than a text or ids, or a text without a tokenizer.
        ValueError: No token, or one that is not in the vocabulary.

    Warns:
        UserWarning: The text has characters that the tokenizer does not know.
    """
    if isinstance(continuation, str):
        if tokenizer is None:
            raise TypeError(f"continuation is a text, {continuation!r}, which needs a tokenizer. Give it, or token ids")
        ids = torch.tensor(_tokenise_inside(tokenizer, continuation), dtype=torch.int64, device="cpu")
        _warn_of_unknown(tokenizer, continuation, ids.tolist())
    elif isinstance(continuation, (Sequence, Tensor)):
        ids = torch.as_tensor(continuation, device="cpu").cpu()
    else:
        raise TypeError(f"continuation must be a text or token ids; got {kind_of(continuation)}")
    if ids.dim() != 1 or len(ids) == 0:
        raise ValueError(f"continuation must be one sequence of at least one token; got {continuation!r}")
    if ids.is_floating_point() or ids.dtype == torch.bool:
        raise TypeError(f"continuation must be a text or token ids; got {continuation!r}")
    size = vocabulary_size(model)
    if not 0 <= int(ids.min()) <= int(ids.max()) < size:
        raise ValueError(f"continuation must hold ids of the vocabulary, 0 to {size - 1}; got {ids.tolist()}")
    return ids.long()


def _warn_of_unknown(tokenizer: Any, text: str, ids: Sequence[int]) -> None:
    """Warn of characters that a tokenizer does not know, for all of which it has one token."""
    unknown = getattr(tokenizer, "unk_token_id", None)
    if unknown in ids and str(tokenizer.unk_token) not in text:
        warn(
            f"the tokenizer does not know all characters of the continuation {text!r}: their token "
            f"{tokenizer.unk_token!r} is scored, which stands for others as well"
        )


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


def rewritten(tokenizer: Any, prompt: Sequence[int], continuation: Sequence[int], text: str | None) -> list[int] | None:
    """Tokenise a prompt and its continuation as one text, and compare with their own tokens.

    Args:
        tokenizer: The model's tokenizer.
        prompt: Token ids, without padding.
        continuation: Token ids.
        text: The continuation as it was given; None for ids.

    Returns:
        The ids of the whole text if they differ from those of prompt and continuation; None if they do not, or if the
        prompt cannot be recovered from its ids.
    """
    special = set(tokenizer.all_special_ids)
    opening = next((i for i, token in enumerate(prompt) if token not in special), 0)
    before = _written(tokenizer, prompt[opening:])  # without opening tokens, since some put a space behind them
    if _plain_ids(tokenizer, before) != list(prompt[opening:]):
        return None
    both = [*prompt, *continuation]
    text = before + text if text is not None else _written(tokenizer, both[opening:])
    whole = [*prompt[:opening], *_plain_ids(tokenizer, text)]
    return None if whole == both else whole


def other_tokens(
    tokenizer: Any, prompt: Sequence[int], continuation: Sequence[int], text: str | None
) -> tuple[str, str] | None:
    """Return how prompt and continuation end, as tokens from the first that differs, and how they would as one text.

    Args:
        tokenizer: The model's tokenizer.
        prompt: Token ids, without padding.
        continuation: Token ids.
        text: The continuation as it was given; None for ids.

    Returns:
        Both ends, for an error or a warning; None where they are equal, or where that is not known.
    """
    whole = rewritten(tokenizer, prompt, continuation, text)
    if whole is None:
        return None
    own = [*prompt, *continuation]
    same = next((i for i, (a, b) in enumerate(zip(own, whole, strict=False)) if a != b), len(whole))
    scored, written = (" | ".join(tokenizer.convert_ids_to_tokens(each[same:])) for each in (own, whole))
    return scored, written


def warn_of_joint(
    tokenizer: Any, sample: int, prompt: Sequence[int], continuation: Sequence[int], text: str | None
) -> None:
    """Warn where a prompt and its continuation are not the tokens of one text.

    Args:
        tokenizer: The model's tokenizer.
        sample: The number of the prompt, for the warnings.
        prompt: Token ids, without padding.
        continuation: Token ids.
        text: The continuation as it was given; None for ids.

    Warns:
        UserWarning: The prompt ends in an end token, or the tokenizer would write both as one text with other tokens.
    """
    if prompt and prompt[-1] in closing_ids(tokenizer):
        (end,) = tokenizer.convert_ids_to_tokens(prompt[-1:])
        warn(
            f"the prompt {sample} ends in the token {end!r}, behind which the continuation is scored. To leave it "
            "out, make the players with prompt_players"
        )
    other = other_tokens(tokenizer, prompt, continuation, text)
    if other is not None:
        shown = str(tokenizer.decode(continuation)) if text is None else text
        warn(
            f"the prompt {sample} and its continuation {shown!r} end in the tokens {other[0]}, which are scored; "
            f"written as one text, they would end in {other[1]}. Mind the space before a word"
        )


def _written(tokenizer: Any, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))
