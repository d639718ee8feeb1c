"""Labels of players: checked, told apart, and looked up."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Sequence
from typing import Any, SupportsIndex

from captum_lkn._common.checks import check_text, is_whole
from captum_lkn._common.messages import some_of

__all__ = ["check_players", "distinct_labels", "player_numbers"]


def check_players(players: Any) -> None:
    """Check that labels are a tuple of at least one string."""
    if not isinstance(players, tuple) or not all(isinstance(name, str) for name in players):
        raise TypeError(f"players must be a tuple of strings, one label a player; got {players!r}")
    if not players:
        raise ValueError("players must have at least one label; got an empty tuple")
    for name in players:
        check_text("players", name)


def distinct_labels(players: Sequence[str]) -> tuple[str, ...]:
    """Return labels that differ: a repeated one gets the number of its occurrence.

    Example:
        >>> distinct_labels(["it", "is", "what", "it", "is"])
        ('it[1]', 'is[1]', 'what', 'it[2]', 'is[2]')
    """
    repeated = {name for name, count in Counter(players).items() if count > 1}
    taken = set(players) - repeated
    numbers = dict.fromkeys(repeated, 0)
    labels = []
    for name in players:
        label = name
        while name in repeated and (label == name or label in taken):
            numbers[name] += 1
            label = f"{name}[{numbers[name]}]"
        taken.add(label)
        labels.append(label)
    return tuple(labels)


def player_numbers(given: Sequence[str | SupportsIndex], players: Sequence[str], labels: Sequence[str]) -> list[int]:
    """Find players by their labels or numbers.

    Args:
        given: Labels or numbers.
        players: The labels as they were given to the result.
        labels: The labels, repeated ones told apart.

    Returns:
        Their numbers.

    Raises:
        TypeError: Something else was given.
        ValueError: There is no such player, several have that label, or one was given twice.
    """
    numbers = []
    for one in given:
        if isinstance(one, str):
            found = [i for i, label in enumerate(labels) if label == one] or [
                i for i, name in enumerate(players) if name == one
            ]
            if len(found) > 1:
                raise ValueError(f"{one!r} is the label of several players: give one of {[labels[i] for i in found]}")
            if not found:
                raise ValueError(f"there is no player {one!r}; there are {some_of(list(labels))}")
            numbers += found
        elif is_whole(one):
            number = operator.index(one)
            if not 0 <= number < len(players):
                raise ValueError(f"a player's number must be from 0 to {len(players) - 1}; got {number}")
            numbers.append(number)
        else:
            raise TypeError(f"players must be labels or numbers; got {one!r}")
    if len(set(numbers)) < len(numbers):
        raise ValueError(f"each player must be given once; got {list(given)}")
    return numbers
