"""Texts that are rendered around values, such as chat templates: where each value lies in the text."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

__all__ = ["Frame"]

_MARK = "\ue000{}\ue001"  # private characters of Unicode, rendered in place of a value to find where it goes


class Frame(NamedTuple):
    """A text around values: the pieces between the values, and the order of the values in it."""

    pieces: list[str]
    order: list[int]

    @classmethod
    def of(cls, render: Callable[..., str], count: int) -> Frame:
        """Find the frame of a function of `count` values by rendering marks in their place."""
        marks = [_MARK.format(i) for i in range(count)]
        text = render(*marks)
        odd = [i for i, mark in enumerate(marks) if text.count(mark) != 1]
        if odd:
            raise ValueError(
                f"the template must show each part once; got part {odd[0]} {text.count(marks[odd[0]])} times"
            )
        order = sorted(range(count), key=lambda i: text.index(marks[i]))
        pieces = []
        for i in order:
            before, text = text.split(marks[i])
            pieces.append(before)
        return cls([*pieces, text], order)

    def parts(self, values: Sequence[str]) -> list[str]:
        """Return pieces and values by turns, in the order of the text."""
        return [*itertools.chain(*zip(self.pieces, (values[i] for i in self.order), strict=False)), self.pieces[-1]]
