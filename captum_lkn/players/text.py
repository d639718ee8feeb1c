"""Players of a text: its words, or other units of it.

Special tokens, padding and white space are background: they are there in every masked copy, and so is the attention
mask.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from captum_lkn._common.arguments import checked
from captum_lkn._common.checks import check_flag, check_text, is_whole
from captum_lkn._common.messages import kind_of
from captum_lkn._common.warn import warn
from captum_lkn.interactions.layout import BACKGROUND
from captum_lkn.players.choice import choose_words
from captum_lkn.players.players import Players, players_from_mask
from captum_lkn.players.tokens import Token, absent_token, name_of, tokenizer_of
from captum_lkn.players.units import Unit, Units, checked_units, units_of

if TYPE_CHECKING:
    from transformers import BatchEncoding, PreTrainedTokenizerBase

__all__ = ["owners_of", "text_players", "warn_of_slow"]

_NOT_FOR_THE_MODEL = ("special_tokens_mask", "offset_mapping")


@checked("device")
def text_players(
    tokenizer: PreTrainedTokenizerBase,
    text: str | tuple[str, str] | Sequence[str | tuple[str, str]],
    *,
    units: Units = "words",
    words: Collection[str | int] | Sequence[Collection[str | int]] | None = None,
    stop_words: Iterable[str] | bool | None = None,
    punctuation: bool = True,
    baseline: str | int | None = None,
    removal: bool = False,
    max_length: int | None = None,
    device: torch.device | str = "cpu",
) -> Players:
    """Make a player of each word of a text, for a model of Hugging Face or any other that takes token ids.

    The words are those of the text as it was written, not the tokenizer's: "isn't" is one, punctuation is apart from
    the words beside it, and labels are cut out of the text. A token that covers several words makes them one player.
    Scripts that do not divide words by spaces, such as Chinese or Thai, have a player for each of their tokens.
    Nothing is truncated.

    Args:
        tokenizer: A tokenizer of `transformers`, or a pipeline that has one. With one that returns no offsets (that is
            not "fast"), each token is a player, and a warning says so.
        text: A sentence, a pair of sentences as a tuple, or a list of either, which becomes a padded batch.
        units: The parts that are players: ``"words"``; ``"pre-tokens"``, the words of the tokenizer (of BERT's, "isn't"
            is three: isn, ' and t); ``"tokens"``; ``"characters"``, as far as tokens divide them; ``"sentences"``,
            which end at a mark of punctuation before white space or at a line break; or spans of characters, pairs
            ``(start, end)`` in a list, for a batch or pair one list a text. What is in no span is background.
        words: Only these words (or other units) are players; the others stay visible. Words as the text has them, in
            upper or lower case (all their occurrences), or their numbers from 0 among all words of the text; for a
            batch also one list of these a text. Overrides `punctuation`. None: all words.
        stop_words: Words, in upper or lower case, that are not players but stay visible; True for
            :data:`~captum_lkn.players.choice.STOP_WORDS`.
        punctuation: Whether punctuation is a player; where it is not, it stays visible.
        baseline: The token that replaces the tokens of absent words: an entry of the vocabulary or its id.
            None takes the mask token, else with a warning the padding, unknown or end token.
        removal: Whether absent words are removed instead: the attention mask is 0 at their tokens. The others keep
            their positions. If the model allows it, removed tokens are not computed at all.
        max_length: The most tokens that a text may have. None takes the tokenizer's `model_max_length`.
        device: The device of the tensors; the model's inputs are moved to its own.

    Returns:
        Players whose inputs are ``input_ids`` ``[B, L]`` (with ``removal`` the ``attention_mask``) and whose
        constants are all else that the tokenizer returns for the model, such as ``token_type_ids``.

    Raises:
        TypeError: If something is of the wrong type.
        ValueError: If a text is empty, too long or without a player, a word is unknown or out of range, spans do not
            fit the text or share a token, `baseline` is not one token or given beside `removal`, or the tokenizer lacks
            a token that is needed.

    Example:
        >>> from tokenizers import Tokenizer, models, pre_tokenizers
        >>> from transformers import PreTrainedTokenizerFast
        >>> vocabulary = {"[MASK]": 0, "[UNK]": 1, "not": 2, "a": 3, "good": 4, "scene": 5}
        >>> tiny = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
        >>> tiny.pre_tokenizer = pre_tokenizers.Whitespace()
        >>> tokenizer = PreTrainedTokenizerFast(tokenizer_object=tiny, mask_token="[MASK]", unk_token="[UNK]")
        >>> players = text_players(tokenizer, "not a good scene", stop_words=True)
        >>> players.labels
        (('not', 'good', 'scene'),)
        >>> players.masked(0, torch.tensor([[True, False, True]]))
        (tensor([[2, 3, 0, 5]]),)
    """
    tokenizer = tokenizer_of(tokenizer)
    texts = _as_batch(text)
    checked = checked_units(units, texts)
    warn_of_slow(tokenizer, units)
    check_flag("removal", removal)
    token = _removed(tokenizer, baseline) if removal else absent_token(tokenizer, baseline)
    encoding = _encode(tokenizer, texts, max_length)
    found = [
        units_of(tokenizer, encoding, i, parts, checked if isinstance(checked, str) else checked[i])
        for i, parts in enumerate(texts)
    ]
    kept = choose_words(found, texts, words, stop_words, punctuation)
    owners = owners_of(kept, len(encoding["input_ids"][0]))
    tensors = {
        name: torch.tensor(rows, device=device) for name, rows in encoding.items() if name not in _NOT_FOR_THE_MODEL
    }
    labels = [[word.label for word in chosen] for chosen in kept]
    players = _removable(tensors, owners, labels) if removal else players_from_mask(tensors, token.id, owners, labels)
    return replace(
        players,
        description={
            "players": checked if isinstance(checked, str) else "spans",
            "texts": [parts[0] if len(parts) == 1 else list(parts) for parts in texts],
            "baseline": token.name,
            "tokenizer": name_of(tokenizer),
        },
    )


def owners_of(kept: Sequence[Sequence[Unit]], length: int) -> torch.Tensor:
    """Return the player of each token, int64 ``[B, length]``, of the units that are players."""
    owners = torch.full((len(kept), length), BACKGROUND, device="cpu")
    for i, chosen in enumerate(kept):
        for number, unit in enumerate(chosen):
            owners[i, unit.positions] = number
    return owners


def warn_of_slow(tokenizer: Any, units: Any) -> None:
    """Warn that a tokenizer cannot tell words."""
    if isinstance(units, str) and units == "words" and not tokenizer.is_fast:
        warn(f"{type(tokenizer).__name__} is not a fast tokenizer and cannot tell words: each token is a player")


def _as_batch(text: Any) -> list[tuple[str, ...]]:
    """Bring a text, a pair or a list of either to a list of 1-tuples or of pairs."""
    if not isinstance(text, (str, tuple, list)):
        raise TypeError(f"text must be a str, a pair (str, str) or a list of these; got {kind_of(text)}")
    batch = text if isinstance(text, list) else [text]
    if not batch:
        raise ValueError("text is an empty list. Give at least one sentence")
    for i, item in enumerate(batch):
        parts = (item,) if isinstance(item, str) else item
        if not isinstance(parts, tuple) or not all(isinstance(part, str) for part in parts):
            raise TypeError(f"text {i} must be a str or a pair (str, str); got {item!r}")
        if (isinstance(item, tuple) and len(item) != 2) or isinstance(item, str) != isinstance(batch[0], str):
            raise ValueError(
                f"text {i} is {item!r}: a tuple is a pair of sentences, and all texts must be pairs or none. "
                "Give several sentences as a list"
            )
        for part in parts:
            check_text(f"text {i}", part)
        if not all(part.strip() for part in parts):
            raise ValueError(f"text {i} must have a word in it; got {item!r}")
    return [(item,) if isinstance(item, str) else item for item in batch]


def _removed(tokenizer: Any, baseline: Any) -> Token:
    if baseline is not None:
        raise ValueError(
            f"removal=True replaces absent words by nothing; got baseline={baseline!r} too. Give only one of them"
        )
    if "attention_mask" not in tokenizer.model_input_names:
        raise ValueError(
            f"{type(tokenizer).__name__} returns no attention mask, which removal needs. Give a token, with baseline="
        )
    return Token("removed", 0)


def _removable(tensors: dict[str, torch.Tensor], owners: torch.Tensor, labels: list[list[str]]) -> Players:
    """Make players whose absence is a 0 in the attention mask."""
    constants = dict(tensors)
    mask = constants.pop("attention_mask")
    players = players_from_mask((mask,), 0, owners, labels)
    return replace(players, names=("attention_mask",), constants=constants, is_tuple=False)


def _encode(tokenizer: Any, texts: list[tuple[str, ...]], max_length: int | None) -> BatchEncoding:
    """Tokenise without truncation, into lists; refuse what is too long or cannot be padded."""
    if max_length is not None and not is_whole(max_length):
        raise TypeError(f"max_length must be a number of tokens, an int; got {max_length!r}")
    limit = tokenizer.model_max_length if max_length is None else max_length
    encoding = tokenizer(
        *([list(part) for part in zip(*texts, strict=True)]),
        truncation=False,
        padding=len(texts) > 1 and "pad_token" in tokenizer.special_tokens_map,
        return_special_tokens_mask=True,
        **({"return_offsets_mapping": True} if tokenizer.is_fast else {}),
    )
    rows = encoding["input_ids"]
    lengths = [sum(row) for row in encoding.get("attention_mask", [])] or [len(row) for row in rows]
    for i, length in enumerate(lengths):
        if length > limit:
            raise ValueError(
                f"text {i} has {length} tokens, the limit is {limit}. Shorten it, or raise max_length= if the "
                "model takes more"
            )
    if len({len(row) for row in rows}) > 1:
        raise ValueError(
            f"the texts have {lengths} tokens and the tokenizer has no padding token to make them equal. Set "
            "one, such as tokenizer.pad_token = tokenizer.eos_token with the model's config.pad_token_id, or "
            "give the texts one at a time"
        )
    return encoding
