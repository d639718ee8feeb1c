"""Units of a text: words, tokens, characters or other spans, and the tokens that each owns.

A unit is a span of characters of the text as it was written, so all tokenizers find the same words. A token belongs to
the unit whose characters it covers. It cannot be divided: units that share a token are one.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np
from torch import Tensor

from captum_lkn._common.checks import is_whole
from captum_lkn._common.messages import kind_of
from captum_lkn._common.warn import warn

if TYPE_CHECKING:
    from transformers import BatchEncoding

__all__ = ["Region", "Span", "Unit", "UnitKind", "Units", "checked_units", "spans_of", "units_of"]

Span: TypeAlias = tuple[int, int]
"""First character, and the one behind the last."""

UnitKind: TypeAlias = Literal["words", "pre-tokens", "tokens", "characters", "sentences"]
Units: TypeAlias = UnitKind | Sequence[Any]

_KINDS = ("words", "pre-tokens", "tokens", "characters", "sentences")
_NO_WIDTH = "\u200b\u2060\ufeff"
_DIRECTIONS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # of writing: not seen
_MARKS_OF_SPACE = frozenset("▁Ġ")  # a space as SentencePiece and byte-level tokenizers write it

# A reader's words, after the default word boundaries of Unicode (UAX #29): an apostrophe between letters and a point or
# comma between digits do not divide, other punctuation does. Scripts without spaces are cut into characters here, which
# the tokens then put together.
_PATTERNS = {
    "words": r"""
        (?P<unspaced>(?=[\p{Han}\p{Hiragana}\p{Katakana}\p{LB=SA}\u30fc])\X)
      | [\p{L}\p{N}_--[\p{Han}\p{Hiragana}\p{Katakana}\p{LB=SA}\u30fc]]
        (?: [\p{L}\p{N}\p{M}\p{Cf}_--[\u200b\u2060\ufeff\p{Han}\p{Hiragana}\p{Katakana}\p{LB=SA}\u30fc]]
          | (?<=\p{L}\p{M}*)['\u2019](?=\p{L}) | (?<=\p{N})[.,](?=\p{N}) )*
      | (?![\s\u200b\u2060\ufeff\p{Bidi_Control}])(?P<sign>\X)(?P=sign)*
    """,
    "characters": r"(?![\s\u200b\u2060\ufeff\p{Bidi_Control}])\X",
    "sentences": r"""
        (?s:\S.*?) (?: [.!?…]+["'\u201d\u2019\u00bb)\]]*(?=\s|$)
          | [\u3002\uff01\uff1f\uff61]+["'\u201d\u2019\u300d\u300f\uff09]* | (?=\s*\n) | \s*$ )
    """,
}


class Unit(NamedTuple):
    """A part of a text, and the positions of its tokens."""

    label: str
    positions: list[int]


class Region(NamedTuple):
    """A part of a text in which units are looked for."""

    part: int
    start: int
    end: int


class _Token(NamedTuple):
    """A token, and the characters that it covers, without white space around them."""

    position: int
    part: int
    word: int | None
    start: int
    end: int
    has_break: bool = False

    @property
    def is_space(self) -> bool:
        return self.end <= self.start


def spans_of(kind: str, text: str) -> list[Span]:
    """Find the words, characters or sentences of a text.

    Args:
        kind: ``"words"``, ``"characters"`` or ``"sentences"``.
        text: The text.

    Returns:
        Their spans, in order; white space belongs to none, nor do marks of the direction of writing around them.

    Example:
        >>> [text[a:b] for text in ["It isn't 3.5!!"] for a, b in spans_of("words", text)]
        ['It', "isn't", '3.5', '!!']
    """
    found = [(match.start(), match.end()) for match in _pattern(kind).finditer(text)]
    return [span for span in (_trimmed(text, *span) for span in found) if span[0] < span[1]]


@functools.cache
def _pattern(kind: str) -> Any:
    import regex  # Unicode's properties and grapheme clusters, which re does not know

    return regex.compile(_PATTERNS[kind], flags=regex.VERSION1 | regex.VERBOSE)


def units_of(
    tokenizer: Any,
    encoding: BatchEncoding,
    sample: int,
    parts: Sequence[str],
    units: str | Sequence[tuple[int, Span]],
    regions: Sequence[Region] | None = None,
) -> list[Unit]:
    """Find the units of one encoded text, and their tokens.

    Special tokens belong to no unit. Neither does white space, unless it is a space that the tokenizer
    counts to the word behind it; line breaks stay where they are.

    Args:
        tokenizer: A tokenizer of `transformers`.
        encoding: Texts with the mask of special tokens and, of a fast tokenizer, offsets.
        sample: The number of the text.
        parts: The text, or both texts of a pair.
        units: A kind, or pairs of a region and a span in it, as :func:`checked_units` returns them. A span is extended
            to the end of its last token.
        regions: The parts of the text in which units are looked for. None: all of it.

    Returns:
        The units that own a token, in the order of the text.

    Raises:
        ValueError: If a given span has no token, two share one, or the tokenizer returns no offsets, which all but
            tokens need.
    """
    ids = encoding["input_ids"][sample]
    names = tokenizer.convert_ids_to_tokens(ids)
    if not tokenizer.is_fast:
        if units not in ("words", "tokens"):
            raise ValueError(f'{type(tokenizer).__name__} returns no offsets. Give a fast tokenizer, or units="tokens"')
        return [Unit(names[i], [i]) for i, special in enumerate(encoding["special_tokens_mask"][sample]) if not special]
    tokens = _tokens(tokenizer, encoding, sample, parts)
    found = []
    for number, (part, start, end) in enumerate(regions or [Region(i, 0, len(x)) for i, x in enumerate(parts)]):
        text, inside = parts[part], [t for t in tokens if t.part == part and start <= t.start and t.end <= end]
        if units == "tokens":
            found += _each_token(names, inside, text)
            continue
        if units == "pre-tokens":
            spans = _pre_tokens(inside, text)
        elif isinstance(units, str):
            spans = [(start + a, start + b) for a, b in spans_of(units, text[start:end])]
        else:
            spans = [(start + a, start + b) for region, (a, b) in units if region == number]
            _check_tokens_of(spans, inside, names, text)
        found += _owned(spans, inside, text)
    _warn_of_unknown(found, units, ids, tokenizer)
    return found


def _warn_of_unknown(found: Sequence[Unit], units: Any, ids: Sequence[int], tokenizer: Any) -> None:
    """Warn of unknown tokens that cover several words or characters, which are one player therefore."""
    unknown = getattr(tokenizer, "unk_token_id", None)
    for unit in found if isinstance(units, str) and units in _PATTERNS else ():
        if any(ids[position] == unknown for position in unit.positions) and len(spans_of(units, unit.label)) > 1:
            warn(f"the tokenizer has one unknown token for {unit.label!r}, which is one player therefore")


def _check_tokens_of(spans: Sequence[Span], tokens: list[_Token], names: Sequence[str], text: str) -> None:
    """Check that each given span has a token of its own."""
    owners: dict[int, Span] = {}
    for span in spans:
        own = [token.position for token in tokens if token.start < span[1] and span[0] < token.end]
        if not own:
            raise ValueError(f"units must hold spans that have a token; {span}, {text[slice(*span)]!r}, has none")
        shared = [position for position in own if position in owners]
        if shared:
            raise ValueError(
                f"units {owners[shared[0]]} and {span} share the token {names[shared[0]]!r}, which cannot be divided. "
                "Join them, or divide the text between tokens"
            )
        owners |= dict.fromkeys(own, span)


def _tokens(tokenizer: Any, encoding: BatchEncoding, sample: int, parts: Sequence[str]) -> list[_Token]:
    """Read the tokens of one text that are not special, with the characters that they cover."""
    ids, special = encoding["input_ids"][sample], encoding["special_tokens_mask"][sample]
    offsets, names = encoding["offset_mapping"][sample], tokenizer.convert_ids_to_tokens(ids)
    special_ids = set(tokenizer.all_special_ids)
    tokens: list[_Token] = []
    for i, (part, word) in enumerate(zip(encoding.sequence_ids(sample), encoding.word_ids(sample), strict=True)):
        if part is None or word is None or special[i]:
            continue
        start, end = offsets[i]
        covered = parts[part][start:end]
        if ids[i] in special_ids and covered.strip() == names[i]:
            continue  # written into the text, such as [SEP]; an unknown word's token reads otherwise
        # Some tokenizers put a space of their own before a text, and give it the offsets of the first character.
        own_space = set(names[i]) <= _MARKS_OF_SPACE and not set(covered.strip()) <= _MARKS_OF_SPACE
        first, last = (start, start) if own_space else _trimmed(parts[part], start, end)
        tokens.append(_Token(i, part, word, first, last, len(f"{covered}.".splitlines()) > 1))
    return _with_marks(tokens, parts)


def _trimmed(text: str, start: int, end: int) -> Span:
    """Return a span without white space and marks of direction around it; spaces of no width count."""
    while start < end and _is_space(text[start]):
        start += 1
    while end > start and _is_space(text[end - 1]):
        end -= 1
    return start, end


def _is_space(letter: str) -> bool:
    return letter.isspace() or letter in _NO_WIDTH or letter in _DIRECTIONS


def _with_marks(tokens: list[_Token], parts: Sequence[str]) -> list[_Token]:
    """Extend tokens over what follows inside a character and has no token: accents that a normalizer strips."""
    covered = {(t.part, at) for t in tokens for at in range(t.start, t.end)}
    ends = [{end for _, end in spans_of("characters", part)} for part in parts]
    extended = []
    for token in tokens:
        end = token.end
        while not token.is_space and end not in ends[token.part] and end < len(parts[token.part]):
            if (token.part, end) in covered:
                break
            end += 1
        extended.append(token._replace(end=end))
    return extended


def _each_token(names: Sequence[str], tokens: list[_Token], text: str) -> list[Unit]:
    """Make a unit of each token; those that share a character are named as in the vocabulary."""
    visible = [token for token in tokens if not token.is_space]
    shared = {token.position for a, b in pairwise(visible) if b.start < a.end for token in (a, b)}
    return [Unit(names[t.position] if t.position in shared else text[t.start : t.end], [t.position]) for t in visible]


def _pre_tokens(tokens: list[_Token], text: str) -> list[Span]:
    """Find the words of the tokenizer; they never reach over white space, though some call a whole text one word."""
    spans: list[Span] = []
    before: _Token | None = None
    for token in (token for token in tokens if not token.is_space):
        if before is not None and before.word == token.word and not any(map(_is_space, text[before.end : token.start])):
            spans[-1] = (spans[-1][0], max(spans[-1][1], token.end))
        else:
            spans.append((token.start, token.end))
        before = token
    return spans


def _owned(spans: Sequence[Span], tokens: list[_Token], text: str) -> list[Unit]:
    """Give spans their tokens; spans that share a token become one, and a span without a token is left out."""
    groups: list[Span] = []
    owner: dict[int, int] = {}
    left = deque(spans)
    for token in sorted((t for t in tokens if not t.is_space), key=lambda t: (t.start, t.position)):
        start, end = token.start, token.end
        met = False
        while left and left[0][0] < end:
            span = left.popleft()
            if token.start < span[1]:
                met, start, end = True, min(start, span[0]), max(end, span[1])
        if groups and start < groups[-1][1]:
            groups[-1] = (groups[-1][0], max(groups[-1][1], end))
        elif met:
            groups.append((start, end))
        else:
            continue
        owner[token.position] = len(groups) - 1
    for space, following in reversed(list(pairwise(tokens))):
        if space.is_space and not space.has_break and following.position in owner and space.word == following.word:
            owner[space.position] = owner[following.position]
    members: list[list[int]] = [[] for _ in groups]
    for position, group in sorted(owner.items()):
        members[group].append(position)
    return [Unit(text[slice(*span)], positions) for span, positions in zip(groups, members, strict=True)]


def checked_units(units: Any, texts: Sequence[tuple[str, ...]]) -> str | list[list[tuple[int, Span]]]:
    """Check a kind of unit, or bring given spans to one list a text.

    Args:
        units: A kind; or spans, of one text a list of pairs, of several parts or texts a list of such lists.
        texts: The texts, each with its parts.

    Returns:
        The kind, or for each text pairs of a part and a span, in order.

    Raises:
        TypeError: If `units` is something else.
        ValueError: If a kind is unknown, or spans do not fit the texts or overlap.
    """
    if isinstance(units, str):
        if units not in _KINDS:
            raise ValueError(f"units must be one of {', '.join(_KINDS)}, or spans of characters; got {units!r}")
        return units
    if not isinstance(units, Collection) or isinstance(units, Mapping | Tensor | np.ndarray):
        raise TypeError(f"units must be one of {', '.join(_KINDS)}, or spans of characters; got {kind_of(units)}")
    return [_checked_spans(own, parts) for own, parts in zip(_by_text(list(units), texts), texts, strict=True)]


def _by_text(units: list[Any], texts: Sequence[tuple[str, ...]]) -> list[list[list[Any]]]:
    """Bring spans to one list a text of one list a part."""
    depth, inner = 0, units
    while inner and isinstance(inner, (list, tuple)):
        depth, inner = depth + 1, inner[0]
    parts = len(texts[0])
    if depth == 2 and len(texts) == parts == 1:
        return [[units]]
    if depth == 3 and len(texts) == 1 and len(units) == parts:
        return [[list(own) for own in units]]
    if depth == 3 and parts == 1 and len(units) == len(texts):
        return [[list(own)] for own in units]
    if depth == 4 and len(units) == len(texts) and all(len(own) == parts for own in units):
        return [[list(part) for part in own] for own in units]
    wanted = "a list of pairs (start, end)" if len(texts) == parts == 1 else "one list of pairs (start, end) a text"
    raise ValueError(f"units must be {wanted}{' and part' * (parts > 1)}; got {units!r}")


def _checked_spans(by_part: list[list[Any]], parts: tuple[str, ...]) -> list[tuple[int, Span]]:
    found: list[tuple[int, Span]] = []
    for part, (spans, text) in enumerate(zip(by_part, parts, strict=True)):
        own: list[Span] = []
        for span in spans:
            is_pair = isinstance(span, (tuple, list)) and len(span) == 2
            if not is_pair or not all(map(is_whole, span)):
                raise TypeError(f"units must hold pairs (start, end) of ints; got {span!r}")
            start, end = int(span[0]), int(span[1])
            if not 0 <= start < end <= len(text):
                raise ValueError(f"units must hold spans from 0 to {len(text)}, the length of the text; got {span}")
            own.append((start, end))
        own.sort()
        for before, after in pairwise(own):
            if after[0] < before[1]:
                raise ValueError(f"units must hold spans that do not overlap; got {before} and {after}")
        found += [(part, span) for span in own]
    return found
