"""Ranges of the strongest effects, as they are printed and as columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, SupportsIndex, overload

from captum_lkn._common import html
from captum_lkn._common.arguments import checked, shown
from captum_lkn._common.checks import is_number
from captum_lkn._common.formats import columns, effect_format, percent, shortened
from captum_lkn.interactions.ranking import Interaction

__all__ = ["EffectRange", "EffectRanges"]

_NAME_WIDTH = 36
_MARKED = "* may be 0 or of the other sign: a convention decides, not the values"


class EffectRange(NamedTuple):
    """An interaction and the interval of its effect over explanations of about the same cost.

    Attributes:
        interaction: The interaction as it was found.
        low: The least effect, in the units of the score; certified: no such explanation has a smaller one.
        high: The largest effect, certified likewise.
    """

    interaction: Interaction
    low: float
    high: float

    @property
    def contains_zero(self) -> bool:
        """True where the effect may be absent or have the other sign, so that the values do not determine it."""
        return self.low <= 0 <= self.high

    def __str__(self) -> str:
        low, high = (effect_format(end).format(end) for end in (self.low, self.high))
        return f"{self.interaction}  [{low}, {high}]{' *' if self.contains_zero else ''}"


@checked()
@dataclass(frozen=True, repr=False)
class EffectRanges(Sequence[EffectRange]):
    """Ranges of the strongest effects of one sample.

    Attributes:
        ranges: One for each, the strongest effect first.
        slack: The share by which an explanation may cost more than the one that was found.
    """

    ranges: tuple[EffectRange, ...]
    slack: float

    def __post_init__(self) -> None:
        for one in self.ranges:
            found: object = one.interaction
            if not isinstance(found, Interaction) or not all(map(is_number, one[1:])) or not one.low <= one.high:
                raise ValueError(f"ranges must be of an interaction, from low to high; got {shown(one)}")
        if self.slack < 0:
            raise ValueError(f"slack must not be negative; got {self.slack}")

    @overload
    def __getitem__(self, index: SupportsIndex) -> EffectRange: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[EffectRange, ...]: ...

    def __getitem__(self, index: SupportsIndex | slice) -> EffectRange | tuple[EffectRange, ...]:
        return self.ranges[index]

    def __len__(self) -> int:
        return len(self.ranges)

    @property
    def _rows(self) -> list[tuple[str, list[str], str]]:
        """The name of each interaction, its effect and both ends in one format, and its mark."""
        largest = max((max(abs(one.low), abs(one.high)) for one in self.ranges), default=0.0)
        number = effect_format(largest)
        return [
            (
                one.interaction.name,
                [number.format(x) for x in (one.interaction.effect, one.low, one.high)],
                "*" if one.contains_zero else "",
            )
            for one in self.ranges
        ]

    @property
    def _title(self) -> str:
        return f"Effects over all explanations that cost at most {percent(self.slack)} more"

    @property
    def _note(self) -> list[str]:
        """The meaning of the mark, where there is one."""
        return [_MARKED] if any(one.contains_zero for one in self.ranges) else []

    def __repr__(self) -> str:
        rows = [(shortened(name, _NAME_WIDTH), cells, mark) for name, cells, mark in self._rows]
        width = max((columns(name) for name, _, _ in rows), default=0)
        wide = max((len(cell) for _, cells, _ in rows for cell in cells), default=0)
        lines = [self._title]
        for name, (effect, low, high), mark in rows:
            line = f"{name}{' ' * (width - columns(name))}  {effect:>{wide}}  [{low:>{wide}}, {high:>{wide}}]  {mark}"
            lines.append(line.rstrip())
        return "\n  ".join([*lines, *self._note])

    def _repr_html_(self) -> str:
        rows = [(name, *cells, mark) for name, cells, mark in self._rows]
        shown = html.table([self._title], ("players", "effect", "least", "largest", ""), rows, texts=("players", ""))
        return html.element("div", shown, html.lines(self._note))
