"""Names of interactions, results and layers, as pictures show them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from captum_lkn._common.formats import columns, shortened
from captum_lkn.interactions import Interaction
from captum_lkn.interactions.sampled import AnyInteractions
from captum_lkn.plot.canvas import numbers
from captum_lkn.plot.fonts import written

__all__ = ["interaction_names", "layer_names", "named", "player_names", "strongest", "subject"]

_SIGNS = {"and": " & ", "or": " | "}
_NAME = 38  # columns of an interaction's name
_LEAST = 5  # of a player in one: fewer cannot be recognised
_CUT = "\N{HORIZONTAL ELLIPSIS}"
_PLAYER = 24  # of a column of a table with its value, such as "concave points = 0.1996"


def player_names(found: AnyInteractions, width: int = _PLAYER) -> list[str]:
    """Return the labels of the players as they can be drawn, repeated ones told apart."""
    return written(found.labels, width)


def interaction_names(found: AnyInteractions, several: Sequence[Interaction], width: int = _NAME) -> list[str]:
    """Return the names of interactions, such as ``not & good``; of long ones all players are still hinted at.

    Players are shortened together rather than cut off at the end, so that each of up to five can be recognised.
    """
    labels = player_names(found)
    return [named(one.kind, [labels[i] for i in one.members], width, labels) for one in several]


def strongest(count: int, of: str = "effect") -> str:
    """Return the title of a picture of so many effects.

    Example:
        >>> strongest(3), strongest(1), strongest(0)
        ('The 3 strongest effects', 'The strongest effect', 'No effects')
    """
    if count < 2:
        return f"The strongest {of}" if count else f"No {of}s"
    return f"The {count} strongest {of}s"


def subject(found: AnyInteractions) -> str:
    """Return the class or continuation and the scores without and with all players."""
    empty, full = numbers([found.v_empty, found.v_full])
    unit = found.provenance.get("unit")
    question = f"{found.about.question}: " if found.about.question else ""
    return written([f"{question}v(∅) = {empty} → v(N) = {full}{f' {unit}' if unit else ''}"], 90)[0]


def layer_names(labels: Sequence[str]) -> tuple[list[str], str]:
    """Return short names of layers, and the dotted beginning that all but single names share.

    Example:
        >>> layer_names(["bert.layer.0", "bert.layer.1", "output"])
        (['0', '1', 'output'], 'bert.layer')
    """
    dotted = [label.split(".") for label in labels if "." in label]
    shared = takewhile(lambda parts: len(set(parts)) == 1, zip(*(parts[:-1] for parts in dotted), strict=False))
    prefix = "".join(f"{parts[0]}." for parts in shared) if len(dotted) > 1 else ""
    names = written([label.removeprefix(prefix) for label in labels], 16)
    return names, written([prefix.rstrip(".")], 40)[0]


def named(kind: str, players: Sequence[str], width: int, labels: Sequence[str]) -> str:
    """Return players as one name of at most so many columns, of which each can be recognised as long as they are few.

    Args:
        kind: ``"and"`` or ``"or"``.
        players: The players, as they can be drawn.
        width: The largest number of columns.
        labels: All players, which shortened ones are told apart from.

    Returns:
        The name.
    """
    sign = _SIGNS[kind]
    name = sign.join(players)
    if columns(name) <= width:
        return name
    longest = max(map(columns, players))
    for each in range(longest - 1, _LEAST - 1, -1):  # the longest players are shortened first
        short = sign.join(_abridged(player, each, labels) for player in players)
        if columns(short) <= width:
            return short
    more = f"{_CUT} ({len(players)})"
    return shortened(name, width - len(more) + 1, _CUT).removesuffix(_CUT) + more


def _abridged(label: str, width: int, labels: Sequence[str]) -> str:
    """Return a label cut at its end, or in its middle where others begin alike: ``fe…_13``."""
    short = shortened(label, width, _CUT)
    head = short.removesuffix(_CUT)
    if short == label or sum(other.startswith(head) for other in labels) == 1 or len(head) < 2:
        return short
    return f"{head[: len(head) // 2]}{_CUT}{label[len(head) // 2 - len(head) :]}"
