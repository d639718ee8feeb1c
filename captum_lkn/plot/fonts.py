"""Labels in any script: fonts that can write them, and what is drawn where no font can.

Matplotlib warns once for each letter and each drawing that a font lacks a glyph. Here another installed font is looked
for; letters that none has are drawn as a box, and one warning says so.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import cache

from matplotlib import font_manager
from matplotlib.font_manager import FontProperties
from matplotlib.ft2font import FT2Font
from matplotlib.textpath import TextToPath

from captum_lkn._common.formats import printable, shortened
from captum_lkn._common.messages import some_of
from captum_lkn._common.warn import warn

__all__ = ["families_for", "text_width", "written"]

_BOX = "\u25a1"
# Parts of the names of fonts with many scripts or symbols: others are not opened, which takes long where hundreds are
# installed. Fonts of coloured bitmaps cannot be scaled.
_BROAD = (
    "noto", "cjk", "source han", "wenquanyi", "droid sans fallback", "unicode", "unifont", "symbol", "emoji", "gothic",
    "mincho", "ming", "song", "hei", "kai", "pingfang", "hiragino", "malgun", "nanum", "apple sd", "meiryo", "ipa",
    "takao", "nirmala", "lohit", "mangal", "thai", "tahoma", "leelawadee", "freesans", "freeserif", "dejavu",
)  # fmt: skip
_BITMAPS = ("color", "colour")


def written(labels: Sequence[str], width: int = 24) -> list[str]:
    """Return labels as they can be drawn: on one line, shortened, letters that no font has as a box.

    Args:
        labels: What users wrote.
        width: The largest number of columns; wide letters take two.

    Returns:
        A text for each label.

    Warns:
        UserWarning: No installed font has some letters.
    """
    short = [shortened(printable(label), width, "\N{HORIZONTAL ELLIPSIS}") for label in labels]
    lacking = {letter for letter in _missing("".join(short)) if not _other(letter)}
    unseen = {letter for letter in lacking if unicodedata.category(letter) in ("Mn", "Me", "Cf")}
    boxes = sorted(lacking - unseen)
    if boxes:
        warn(
            f"no installed font has {some_of(boxes)}: boxes are drawn instead. Install one that does, such as Noto "
            "Sans CJK, or add its name to matplotlib.rcParams['font.sans-serif']"
        )
    table = dict.fromkeys(map(ord, boxes), _BOX) | dict.fromkeys(map(ord, unseen))
    return [text.translate(table) for text in short]


def families_for(text: str) -> list[str]:
    """Return the fonts that are needed besides the default one to write a text."""
    return list(dict.fromkeys(family for letter in _missing(text) if (family := _other(letter))))


def text_width(text: str, size: float) -> float:
    """Return the width of a text in points."""
    families = [*FontProperties().get_family(), *families_for(text)]
    font = FontProperties(family=families, size=size)
    return float(TextToPath().get_text_width_height_descent(text, font, ismath=False)[0])


def _missing(text: str) -> list[str]:
    """Return the letters of a text that the default font does not have."""
    return sorted(set(text) - _letters(font_manager.findfont(FontProperties())))


@cache
def _letters(path: str) -> frozenset[str]:
    return frozenset(map(chr, FT2Font(path).get_charmap())) | {"\n"}


@cache
def _other(letter: str) -> str | None:
    """Return the name of an installed font that has a letter; None where there is none."""
    for font in font_manager.fontManager.ttflist:
        name = font.name.lower()
        broad = any(part in name for part in _BROAD) and not any(part in name for part in _BITMAPS)
        if broad and font.style == "normal" and letter in _letters_or_none(str(font.fname)):
            return str(font.name)
    return None


@cache
def _letters_or_none(path: str) -> frozenset[str]:
    try:
        return _letters(path)
    except (OSError, RuntimeError):  # a font that was removed, or that FreeType cannot read
        return frozenset()
