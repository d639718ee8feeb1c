"""The choice among the words of a text: which are players, and which stay visible in every masked copy."""

from __future__ import annotations

import difflib
import string
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from torch import Tensor

from captum_lkn._common.arguments import shown
from captum_lkn._common.checks import check_flag, is_whole
from captum_lkn._common.messages import count_of, some_of
from captum_lkn.players.units import Unit

__all__ = ["STOP_WORDS", "choose_words"]

_CLITICS = {
    "'s": "he she it that what who here there where how let",
    "'re": "you we they who what",
    "'m": "i",
    "'ll": "i you he she it we they that who there",
    "'d": "i you he she it we they who there",
    "'ve": "i you we they who could would should might",
}
STOP_WORDS = frozenset(
    """
    a an the and or of to in on at by for from with as into about is are was were be been being am has have
    had do does did will would can could should may might must i you he she it we they me him her us them my
    your his its our their this that these those there here which who whom whose what
    s ll re ve d m 's 'll 're 've 'd 'm
    """.split()  # noqa: SIM905 - as a list it would be a word a line
) | {word + clitic for clitic, words in _CLITICS.items() for word in words.split()}
"""English words that rarely decide an output, with "it's", "we'll" and the parts into which tokenizers cut these.

Not among them: not, no, never, but, too, the t of "don't", and words with n't.
"""


def choose_words(
    found: list[list[Unit]], texts: list[tuple[str, ...]], words: Any, stop_words: Any, punctuation: bool
) -> list[list[Unit]]:
    """Return the words of each text that are players.

    Args:
        found: All words of each text.
        texts: The texts, as 1-tuples or pairs, for errors.
        words: Names or numbers of the words that are players; see :func:`~captum_lkn.players.text.text_players`.
        stop_words: Words that are not.
        punctuation: Whether punctuation is.

    Returns:
        The chosen words of each text, at least one.

    Raises:
        TypeError: If `words` or `stop_words` are not lists of words.
        ValueError: If a word is unknown or out of range, or a text has no player.
    """
    check_flag("punctuation", punctuation)
    for text, parts in zip(found, texts, strict=True):
        if not text:
            raise ValueError(f"the text {' / '.join(parts)!r} has no word in it, only white space or special tokens")
    if words is None:
        stops = _casefolded(stop_words)
        kept = [[word for word in text if not _is_background(word.label, stops, punctuation)] for text in found]
    elif stop_words:
        raise ValueError("words= already names the players. Leave out stop_words=")
    else:
        kept = _chosen(found, words)
    for text, chosen, parts in zip(found, kept, texts, strict=True):
        if not chosen:
            labels = [word.label for word in text]
            raise ValueError(
                f"the text {' / '.join(parts)!r} has no player: its {count_of(len(labels), 'word')} "
                f"({some_of(labels)}) are all background. Choose from them with words=, or leave stop_words= "
                "out and punctuation=True"
            )
    return kept


def _casefolded(stop_words: Any) -> frozenset[str]:
    if stop_words is None or isinstance(stop_words, bool):
        return STOP_WORDS if stop_words else frozenset()
    if isinstance(stop_words, str | Tensor) or not isinstance(stop_words, Iterable):
        raise TypeError(f"stop_words must be a list of words or True; got {shown(stop_words)}")
    listed = list(stop_words)
    for word in listed:
        if not isinstance(word, str):
            raise TypeError(f"stop_words must hold words as str; got {word!r}")
    return frozenset(map(_folded, listed))


def _is_background(label: str, stops: frozenset[str], punctuation: bool) -> bool:
    return bool(_names(label) & stops) or (not punctuation and _is_punctuation(label))


def _is_punctuation(label: str) -> bool:
    """Return whether a word is punctuation, Unicode's or signs of ASCII; not so emoji, which can decide an output."""
    return all(c in string.punctuation or unicodedata.category(c).startswith("P") for c in label)


def _chosen(found: list[list[Unit]], words: Any) -> list[list[Unit]]:
    """Return the words of each text that `words` names, by label or by number."""
    if not _is_list(words):
        raise TypeError(f"words must be a list of words or of their numbers; got {shown(words)}")
    if any(_is_list(word) for word in words):
        if len(words) != len(found):
            raise ValueError(f"words must have one list a text; got {len(words)} lists for {len(found)} texts")
        return [_chosen([text], own)[0] for text, own in zip(found, words, strict=True)]
    names = {_known(word, found) for word in words if isinstance(word, str)}
    places = {_place(word, found) for word in words if not isinstance(word, str)}
    return [[word for i, word in enumerate(text) if i in places or _names(word.label) & names] for text in found]


def _is_list(words: Any) -> bool:
    return isinstance(words, Collection) and not isinstance(words, str | Mapping | Tensor)


def _known(name: str, found: list[list[Unit]]) -> str:
    labels = list(dict.fromkeys(word.label for text in found for word in text))
    names = {folded: label for label in labels for folded in _names(label)}
    if _folded(name) not in names:
        close = [names[match] for match in difflib.get_close_matches(_folded(name), names, n=3)]
        hint = f"Did you mean {' or '.join(map(repr, close))}? " if close else ""
        raise ValueError(f"words has {name!r}, which is not a word of the text. {hint}Its words are {some_of(labels)}")
    return _folded(name)


def _names(label: str) -> set[str]:
    """Return the names by which a word is known: it, and it without the punctuation that shares a token with it."""
    inner = [i for i, c in enumerate(label) if not _is_punctuation(c)]
    return {_folded(label)} | ({_folded(label[inner[0] : inner[-1] + 1])} if inner else set())


def _folded(name: str) -> str:
    """Bring typed and written forms of a name together: case, accents composed or not, the typographic apostrophe."""
    return unicodedata.normalize("NFC", name.casefold()).replace("\u2019", "'")


def _place(number: Any, found: list[list[Unit]]) -> int:
    if not is_whole(number):
        raise TypeError(f"words must hold words as str, or their numbers as int; got {number!r}")
    place = int(number)
    for text in found:
        if not 0 <= place < len(text):
            raise ValueError(
                f"words has number {place}; the text has {count_of(len(text), 'word')}. Give numbers from 0 "
                f"to {len(text) - 1}"
            )
    return place
