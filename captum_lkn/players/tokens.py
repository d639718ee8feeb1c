"""Tokenizers: checks, their names, and the token that replaces absent words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from captum_lkn._common.checks import check_text, is_whole
from captum_lkn._common.messages import kind_of
from captum_lkn._common.warn import warn

__all__ = ["Token", "absent_token", "closing_ids", "name_of", "prompt_slice", "tokenizer_of"]

_CLOSING = ("eos_token", "sep_token", "cls_token")
_FALLBACKS = ("mask_token", "pad_token", "unk_token", "eos_token")


class Token(NamedTuple):
    """A token's name and id."""

    name: str
    id: int


def tokenizer_of(tokenizer: Any) -> Any:
    """Return the tokenizer itself, or that of a pipeline or processor.

    Raises:
        TypeError: If it is not a tokenizer of `transformers`.
    """
    tokenizer = getattr(tokenizer, "tokenizer", tokenizer)
    if not all(hasattr(tokenizer, name) for name in ("__call__", "is_fast", "special_tokens_map")):
        raise TypeError(
            "tokenizer must be a tokenizer of transformers, as AutoTokenizer.from_pretrained gives; got "
            f"{kind_of(tokenizer)}"
        )
    return tokenizer


def prompt_slice(tokenizer: Any, encoding: Mapping[str, Any]) -> slice:
    """Find the tokens of a text that is to be continued: its opening tokens once, and no end token behind it.

    Args:
        tokenizer: A tokenizer of `transformers`.
        encoding: One text with its special tokens, and their mask.

    Returns:
        Their positions. Tokens that are written into the text, such as the end of a message, are kept; where the text
        begins with the opening tokens that the tokenizer adds, those are there once.
    """
    ids, added = encoding["input_ids"][0], encoding["special_tokens_mask"][0]
    opening = next((i for i, special in enumerate(added) if not special), 0)
    first = opening if ids[opening : 2 * opening] == ids[:opening] else 0
    closing, last = closing_ids(tokenizer), len(ids)
    while last > first and added[last - 1] and ids[last - 1] in closing:
        last -= 1
    return slice(first, last)


def closing_ids(tokenizer: Any) -> set[int]:
    """Return the ids of the tokens that some tokenizers add behind a text."""
    present = tokenizer.special_tokens_map
    return {tokenizer.convert_tokens_to_ids(str(present[role])) for role in _CLOSING if present.get(role)}


def name_of(tokenizer: Any) -> str:
    """Return the name under which a tokenizer was loaded, else its class."""
    return getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__


def absent_token(tokenizer: Any, baseline: Any) -> Token:
    """Return the token that replaces absent words: the given one, else the first fallback that exists."""
    if baseline is None:
        return _default_absent_token(tokenizer)
    if isinstance(baseline, str):
        check_text("baseline", baseline)
        pieces = [baseline] if baseline in tokenizer.get_vocab() else tokenizer.tokenize(baseline)
        unknown = tokenizer.special_tokens_map.get("unk_token")
        if len(pieces) != 1 or (pieces[0] == unknown != baseline):
            raise ValueError(f"baseline {baseline!r} is not one token but {pieces}. Give an entry of the vocabulary")
        return Token(pieces[0], tokenizer.convert_tokens_to_ids(pieces[0]))
    if not is_whole(baseline):
        raise TypeError(f"baseline must be a token or its id; got {kind_of(baseline)}")
    token_id = int(baseline)
    if not 0 <= token_id < len(tokenizer):
        raise ValueError(f"baseline {baseline} is not a token id. Give one from 0 to {len(tokenizer) - 1}")
    return Token(tokenizer.convert_ids_to_tokens(token_id), token_id)


def _default_absent_token(tokenizer: Any) -> Token:
    # `tokenizer.mask_token` may log an error where there is none; the map holds what there is.
    present = tokenizer.special_tokens_map
    role = next((role for role in _FALLBACKS if present.get(role)), None)
    if role is None:
        raise ValueError(
            f"the tokenizer has none of {', '.join(_FALLBACKS)} to replace absent words. Name a token with baseline="
        )
    name = str(present[role])
    if role != "mask_token":
        warn(
            f"the tokenizer has no mask token: absent words are replaced by its {role}, {name!r}. Name "
            "another with baseline=",
        )
    return Token(name, tokenizer.convert_tokens_to_ids(name))
