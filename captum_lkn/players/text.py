"""Players of a text: its words.

A word is what the tokenizer calls one, with all its sub-tokens, and never reaches over white space. Special
tokens and padding are background: they are there in every masked copy, and so is the attention mask.
"""

from __future__ import annotations

import difflib
import numbers
import re
import string
import unicodedata
from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from captum_lkn._common.messages import count_of, kind_of, some_of
from captum_lkn._common.warn import warn
from captum_lkn.interactions.layout import BACKGROUND
from captum_lkn.players.players import Players, players_from_mask

if TYPE_CHECKING:
    from transformers import BatchEncoding, PreTrainedTokenizerBase

__all__ = ["STOP_WORDS", "Word", "absent_token", "check_tokenizer", "choose_words", "text_players", "words_of"]

STOP_WORDS = frozenset(
    """
    a an the and or of to in on at by for from with as into about is are was were be been being am has have
    had do does did will would can could should may might must i you he she it we they me him her us them my
    your his its our their this that these those there here which who whom whose what
    s ll re ve d m 's 'll 're 've 'd 'm
    """.split()  # noqa: SIM905 - as a list it would be a word a line
)
"""English words that rarely carry a decision, and what tokenizers make of "it's", "we'll" and their like.

Not among them: not, no, never, but, too, and the t of "don't".
"""

_FALLBACKS = ("mask_token", "pad_token", "unk_token", "eos_token")
_NOT_FOR_THE_MODEL = ("special_tokens_mask", "offset_mapping")


def text_players(
    tokenizer: PreTrainedTokenizerBase,
    text: str | tuple[str, str] | Sequence[str | tuple[str, str]],
    *,
    words: Collection[str | int] | Sequence[Collection[str | int]] | None = None,
    stop_words: Iterable[str] | bool | None = None,
    punctuation: bool = True,
    baseline: str | int | None = None,
    removal: bool = False,
    max_length: int | None = None,
    device: torch.device | str | None = None,
) -> Players:
    """Make a player of each word of a text, for a model of Hugging Face or any other that takes token ids.

    The words are the tokenizer's (BERT's takes "don't" for the three words don, ' and t); their labels are
    cut out of the text as it was written. Nothing is truncated.

    Args:
        tokenizer: A tokenizer of `transformers`, or a pipeline that has one. With one that has no word ids (that is
            not "fast"), each token is a player, and a warning says so.
        text: A sentence, a pair of sentences as a tuple, or a list of either, which becomes a padded batch.
        words: Only these words are players; the others stay visible. Words as the text has them, in upper or
            lower case (all their occurrences), or their numbers from 0 among all words of the text; for a
            batch also one list of these a text. Overrides `punctuation`. None: all words.
        stop_words: Words, in upper or lower case, that are not players but stay visible; True for
            :data:`STOP_WORDS`.
        punctuation: Whether marks of punctuation are players; where they are not, they stay visible.
        baseline: The token that replaces the tokens of absent words: an entry of the vocabulary or its id.
            None takes the mask token, else with a warning the padding, unknown or end token.
        removal: Whether absent words are removed instead: the attention mask is 0 at their tokens. The others keep
            their positions. Where a model allows it, removed tokens are not computed at all.
        max_length: The most tokens that a text may have. None takes the tokenizer's `model_max_length`.
        device: Where the tensors go.

    Returns:
        Players whose inputs are ``input_ids`` ``[B, L]`` (with ``removal`` the ``attention_mask``) and whose
        constants are all else that the tokenizer returns for the model, such as ``token_type_ids``.

    Raises:
        TypeError: If something is of the wrong type.
        ValueError: If a text is empty, too long or without a player, a word is unknown or out of range,
            `baseline` is not one token or given beside `removal`, or the tokenizer lacks a token that is needed.

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
    tokenizer = getattr(tokenizer, "tokenizer", tokenizer)  # of a pipeline, or of a processor
    check_tokenizer(tokenizer)
    texts = _as_batch(text)
    if not tokenizer.is_fast:
        warn(
            f"{type(tokenizer).__name__} is not a fast tokenizer and cannot tell words: each token is a player",
        )
    token = _removed(tokenizer, baseline) if removal else absent_token(tokenizer, baseline)
    encoding = _encode(tokenizer, texts, max_length)
    found = [words_of(tokenizer, encoding, i, parts) for i, parts in enumerate(texts)]
    kept = choose_words(found, texts, words, stop_words, punctuation)
    owners = torch.full((len(texts), len(encoding["input_ids"][0])), BACKGROUND)
    for i, chosen in enumerate(kept):
        for number, word in enumerate(chosen):
            owners[i, word.positions] = number
    tensors = {
        name: torch.tensor(rows, device=device) for name, rows in encoding.items() if name not in _NOT_FOR_THE_MODEL
    }
    labels = [[word.label for word in chosen] for chosen in kept]
    players = _removable(tensors, owners, labels) if removal else players_from_mask(tensors, token.id, owners, labels)
    return replace(
        players,
        description={
            "players": "words",
            "texts": [parts[0] if len(parts) == 1 else list(parts) for parts in texts],
            "baseline": token.name,
            "tokenizer": getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__,
        },
    )


class Token(NamedTuple):
    """A token's name and id."""

    name: str
    id: int


class Word(NamedTuple):
    """A word, and the positions of its tokens."""

    label: str
    positions: list[int]


def check_tokenizer(tokenizer: Any) -> None:
    """Refuse what is no tokenizer of `transformers`."""
    if not all(hasattr(tokenizer, name) for name in ("__call__", "is_fast", "special_tokens_map")):
        raise TypeError(
            "tokenizer must be a tokenizer of transformers, as AutoTokenizer.from_pretrained gives; got "
            f"{kind_of(tokenizer)}"
        )


def _as_batch(text: Any) -> list[tuple[str, ...]]:
    """Bring a text, a pair or a list of either to a list of 1-tuples or of pairs."""
    if not isinstance(text, (str, tuple, list)):
        raise TypeError(f"text must be a str, a pair (str, str) or a list of these; got {kind_of(text)}")
    batch = text if isinstance(text, list) else [text]
    if not batch:
        raise ValueError("text is an empty list: give at least one sentence")
    for i, item in enumerate(batch):
        parts = (item,) if isinstance(item, str) else item
        if not isinstance(parts, tuple) or not all(isinstance(part, str) for part in parts):
            raise TypeError(f"text {i} must be a str or a pair (str, str); got {item!r}")
        if (isinstance(item, tuple) and len(item) != 2) or isinstance(item, str) != isinstance(batch[0], str):
            raise ValueError(
                f"text {i} is {item!r}: a tuple is a pair of sentences, and all texts must be pairs or none; "
                "give several sentences as a list"
            )
        if not all(part.strip() for part in parts):
            raise ValueError(f"text {i} is {item!r}: there is no word in it")
    return [(item,) if isinstance(item, str) else item for item in batch]


def absent_token(tokenizer: Any, baseline: Any) -> Token:
    """The token that stands for an absent word: the one that is given, else the first of the fallbacks there is."""
    if baseline is None:
        return _default_absent_token(tokenizer)
    if isinstance(baseline, str):
        pieces = [baseline] if baseline in tokenizer.get_vocab() else tokenizer.tokenize(baseline)
        unknown = tokenizer.special_tokens_map.get("unk_token")
        if len(pieces) != 1 or (pieces[0] == unknown != baseline):
            raise ValueError(f"baseline {baseline!r} is not one token but {pieces}: give an entry of the vocabulary")
        return Token(pieces[0], tokenizer.convert_tokens_to_ids(pieces[0]))
    if isinstance(baseline, bool) or not isinstance(baseline, numbers.Integral):
        raise TypeError(f"baseline must be a token or its id; got {kind_of(baseline)}")
    token_id = int(baseline)
    if not 0 <= token_id < len(tokenizer):
        raise ValueError(f"baseline {baseline} is not a token id: give one from 0 to {len(tokenizer) - 1}")
    return Token(tokenizer.convert_ids_to_tokens(token_id), token_id)


def _removed(tokenizer: Any, baseline: Any) -> Token:
    if baseline is not None:
        raise ValueError(f"removal=True leaves no token in place of an absent word; got baseline={baseline!r} too")
    if "attention_mask" not in tokenizer.model_input_names:
        raise ValueError(
            f"{type(tokenizer).__name__} makes no attention mask, by which words could be removed: replace them by a "
            "token, with baseline="
        )
    return Token("removed", 0)


def _removable(tensors: dict[str, torch.Tensor], owners: torch.Tensor, labels: list[list[str]]) -> Players:
    """Players whose absence is a 0 in the attention mask."""
    constants = dict(tensors)
    mask = constants.pop("attention_mask")
    players = players_from_mask((mask,), 0, owners, labels)
    return replace(players, names=("attention_mask",), constants=constants, is_tuple=False)


def _default_absent_token(tokenizer: Any) -> Token:
    # `tokenizer.mask_token` may log an error where there is none; the map holds what there is.
    present = tokenizer.special_tokens_map
    role = next((role for role in _FALLBACKS if present.get(role)), None)
    if role is None:
        raise ValueError(
            f"the tokenizer has none of {', '.join(_FALLBACKS)} to replace absent words: name a token with baseline="
        )
    name = str(present[role])
    if role != "mask_token":
        warn(
            f"the tokenizer has no mask token: absent words are replaced by its {role}, {name!r}; name "
            "another with baseline=",
        )
    return Token(name, tokenizer.convert_tokens_to_ids(name))


def _encode(tokenizer: Any, texts: list[tuple[str, ...]], max_length: int | None) -> BatchEncoding:
    """Tokenise without truncation, into lists; refuse what is too long or cannot be padded."""
    if isinstance(max_length, bool) or not isinstance(max_length, (int, type(None))):
        raise TypeError(f"max_length must be an int, a number of tokens; got {max_length!r}")
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
                f"text {i} has {length} tokens, the limit is {limit}: shorten it, or raise max_length= if "
                "the model takes more"
            )
    if len({len(row) for row in rows}) > 1:
        raise ValueError(
            f"the texts have {lengths} tokens and the tokenizer has no padding token to make them equal: set "
            "one, such as tokenizer.pad_token = tokenizer.eos_token with the model's config.pad_token_id, or "
            "give the texts one at a time"
        )
    return encoding


def words_of(tokenizer: Any, encoding: BatchEncoding, sample: int, parts: tuple[str, ...]) -> list[Word]:
    """The words of one text, in the order of their first tokens."""
    ids, special = encoding["input_ids"][sample], encoding["special_tokens_mask"][sample]
    tokens = tokenizer.convert_ids_to_tokens(ids)
    if not tokenizer.is_fast:
        return [Word(token, [i]) for i, token in enumerate(tokens) if not special[i]]
    special_ids = set(tokenizer.all_special_ids)
    offsets = encoding["offset_mapping"][sample]
    chunk_ends = [[chunk.end() for chunk in re.finditer(r"\S+", part)] for part in parts]
    groups: dict[tuple[int, int, int], list[int]] = {}
    places = zip(encoding.sequence_ids(sample), encoding.word_ids(sample), strict=True)
    for i, (part, word) in enumerate(places):
        if part is None or word is None or special[i]:
            continue
        start, end = offsets[i]
        if ids[i] in special_ids and parts[part][start:end].strip() == tokens[i]:
            continue  # written into the text, such as [SEP]; an unknown word's token reads otherwise
        # Some tokenizers call the whole sentence one word, hence the chunk between white space as well. A
        # token that begins with white space, or is nothing else, belongs to the chunk behind it.
        groups.setdefault((part, word, bisect_right(chunk_ends[part], start)), []).append(i)
    words = []
    for (part, _, _), positions in groups.items():
        start, end = min(offsets[i][0] for i in positions), max(offsets[i][1] for i in positions)
        label = parts[part][start:end].strip()
        if label:  # in GPT-2, doubled white space is a token of its own, and no word
            words.append(Word(label, positions))
    return words


def choose_words(
    found: list[list[Word]], texts: list[tuple[str, ...]], words: Any, stop_words: Any, punctuation: bool
) -> list[list[Word]]:
    """The words of each text that are players; the options are those of :func:`text_players`."""
    for text, parts in zip(found, texts, strict=True):
        if not text:
            raise ValueError(f"the text {' / '.join(parts)!r} has no word in it, only white space or special tokens")
    if words is None:
        stops = _casefolded(stop_words)
        kept = [[word for word in text if not _is_background(word.label, stops, punctuation)] for text in found]
    elif stop_words:
        raise ValueError("words= already says which words are players: give it without stop_words=")
    else:
        kept = _chosen(found, words)
    for text, chosen, parts in zip(found, kept, texts, strict=True):
        if not chosen:
            labels = [word.label for word in text]
            raise ValueError(
                f"the text {' / '.join(parts)!r} has no player: its {count_of(len(labels), 'word')} "
                f"({some_of(labels)}) are all background; choose from them with words=, or leave stop_words= "
                "out and punctuation=True"
            )
    return kept


def _casefolded(stop_words: Any) -> frozenset[str]:
    if stop_words is None or isinstance(stop_words, bool):
        return STOP_WORDS if stop_words else frozenset()
    if isinstance(stop_words, str) or not isinstance(stop_words, Iterable):
        raise TypeError(f"stop_words must be words or True; got {stop_words!r}: give a list of str")
    listed = list(stop_words)
    for word in listed:
        if not isinstance(word, str):
            raise TypeError(f"stop_words holds {word!r}: give words as str")
    return frozenset(word.casefold() for word in listed)


def _is_background(label: str, stops: frozenset[str], punctuation: bool) -> bool:
    return label.casefold() in stops or (not punctuation and _is_punctuation(label))


def _is_punctuation(label: str) -> bool:
    """Unicode's punctuation, and what ASCII has of signs; no emoji, which carry a decision as words do."""
    return all(c in string.punctuation or unicodedata.category(c).startswith("P") for c in label)


def _chosen(found: list[list[Word]], words: Any) -> list[list[Word]]:
    """The words of each text that `words` names, by label or by number."""
    if not _is_list(words):
        raise TypeError(f"words must be a list of words or of their numbers; got {words!r}")
    if any(_is_list(word) for word in words):
        if len(words) != len(found):
            raise ValueError(f"words has {len(words)} entries for {len(found)} texts: give one list a text")
        return [_chosen([text], own)[0] for text, own in zip(found, words, strict=True)]
    names = {_known(word, found) for word in words if isinstance(word, str)}
    places = {_place(word, found) for word in words if not isinstance(word, str)}
    return [[word for i, word in enumerate(text) if i in places or word.label.casefold() in names] for text in found]


def _is_list(words: Any) -> bool:
    return isinstance(words, Collection) and not isinstance(words, (str, Mapping))


def _known(name: str, found: list[list[Word]]) -> str:
    labels = list(dict.fromkeys(word.label for text in found for word in text))
    folded = {label.casefold(): label for label in labels}
    if name.casefold() not in folded:
        close = [folded[match] for match in difflib.get_close_matches(name.casefold(), folded, n=3)]
        hint = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
        raise ValueError(f"words has {name!r}, which is no word of the text: {hint}Its words are {some_of(labels)}")
    return name.casefold()


def _place(number: Any, found: list[list[Word]]) -> int:
    if isinstance(number, bool) or not isinstance(number, numbers.Integral):
        raise TypeError(f"words holds {number!r}: give words as str, or their numbers from 0 as int")
    place = int(number)
    for text in found:
        if not 0 <= place < len(text):
            raise ValueError(
                f"words has number {place}; the text has {count_of(len(text), 'word')}: give numbers from 0 "
                f"to {len(text) - 1}"
            )
    return place
