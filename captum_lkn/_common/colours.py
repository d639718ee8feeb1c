"""Colours of positive and negative effects, the same in figures, pages and terminals.

Blue is positive and orange negative: two of the eight colours of Okabe and Ito ("Color Universal Design", 2008), which
readers with any kind of colour blindness tell apart, unlike red and green. Both can be read on white (contrast 5.2 and
3.9) and on black (4.0 and 5.4). What a colour says is always said by a sign or a side as well.
"""

from __future__ import annotations

__all__ = [
    "DIVERGING",
    "FORGOTTEN",
    "NEGATIVE",
    "NEUTRAL",
    "NEW",
    "ORDERS",
    "ORDERS_ON_DARK",
    "OVERLAP",
    "POSITIVE",
    "SERIES",
    "SERIES_MARKERS",
    "SERIES_ON_DARK",
    "colour_of",
]

POSITIVE = "#0072B2"
"""Colour of positive effects, as Matplotlib, HTML, SVG and Rich take it."""

NEGATIVE = "#D55E00"
"""Colour of negative effects."""

NEUTRAL = "#767676"
"""Colour of an effect of 0."""

DIVERGING = (NEGATIVE, "#FFFFFF", POSITIVE)
"""Colours of a map of values, from the most negative over 0 to the most positive."""

OVERLAP = "#009E73"
"""Colour of knowledge that two layers share; this and the next two are of Okabe and Ito, too."""

NEW = "#F0E442"
"""Colour of knowledge that only the later layer has."""

FORGOTTEN = "#CC79A7"
"""Colour of knowledge that only the earlier layer has."""

ORDERS = ("#12402F", "#218563", "#66BF92", "#BFE3A8")
"""Colours of orders 1, 2, 3 and higher ones: from dark to light, so that they differ in greyscale, too."""

ORDERS_ON_DARK = ("#D8F0C8", "#8FD3AE", "#3FA97C", "#23734F")
"""The same on a dark background: from light to dark, so that low orders stand out."""

SERIES = ("#332288", "#CC9900", "#44AA99", "#AA4499", "#999933", "#882255")
"""Colours of curves and classes, after Tol ("Colour Schemes", 2021): none of them is the colour of a sign."""

SERIES_ON_DARK = ("#99DDFF", "#CC9900", "#44BB99", "#FFAABB", "#BBCC33", "#CC88DD")
"""The same on a dark background, of which indigo could not be told apart."""

SERIES_MARKERS = ("o", "s", "^", "D", "v", "P")
"""Markers that go with them."""


def colour_of(effect: float) -> str:
    """Return the colour of an effect.

    Args:
        effect: A number; NaN counts as 0.

    Returns:
        ``#`` and six hexadecimal digits.

    Example:
        >>> colour_of(2.0) == POSITIVE, colour_of(-2.0) == NEGATIVE, colour_of(0.0) == NEUTRAL
        (True, True, True)
    """
    return POSITIVE if effect > 0 else NEGATIVE if effect < 0 else NEUTRAL
