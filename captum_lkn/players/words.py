"""Words: which tokens of an encoded text belong together."""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from transformers import BatchEncoding

__all__ = ["Word", "words_of"]


class Word(NamedTuple):
    """A word, and the positions of its tokens."""

    label: str
    positions: list[int]


def words_of(tokenizer: Any, encoding: BatchEncoding, sample: int, parts: tuple[str, ...]) -> list[Word]:
    """Return the words of one text, in the order of their first tokens."""
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
        # Some tokenizers give the whole sentence one word id, hence the chunk between white space as well. A
        # token that begins with white space, or is nothing else, belongs to the chunk behind it.
        groups.setdefault((part, word, bisect_right(chunk_ends[part], start)), []).append(i)
    words = []
    for (part, _, _), positions in groups.items():
        start, end = min(offsets[i][0] for i in positions), max(offsets[i][1] for i in positions)
        label = parts[part][start:end].strip()
        if label:  # in GPT-2, doubled white space is a token of its own, and no word
            words.append(Word(label, positions))
    return words
