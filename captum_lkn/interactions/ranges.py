"""Ranges of the strongest effects, as they are printed and as columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, SupportsIndex, overload

from captum_lkn._common.formats import columns, effect_format, percent, shortened
from captum_lkn.interactions.ranking import Interaction

__all__ = ["EffectRange", "EffectRanges"]

_NAME_WIDTH = 36


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


@dataclass(frozen=True, repr=False)
class EffectRanges(Sequence[EffectRange]):
    """Ranges of the strongest effects of one sample.

    Attributes:
        ranges: One for each, the strongest effect first.
        slack: The share by which an explanation may cost more than the one that was found.
    """

    ranges: tuple[EffectRange, ...]
    slack: float

    @overload
    def __getitem__(self, index: SupportsIndex) -> EffectRange: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[EffectRange, ...]: ...

    def __getitem__(self, index: SupportsIndex | slice) -> EffectRange | tuple[EffectRange, ...]:
        return self.ranges[index]

    def __len__(self) -> int:
        return len(self.ranges)

    def __repr__(self) -> str:
        names = [shortened(one.interaction.name, _NAME_WIDTH) for one in self.ranges]
        largest = max((max(abs(one.low), abs(one.high)) for one in self.ranges), default=0.0)
        number = effect_format(largest)
        width = max(map(columns, names), default=0)
        cells = [[number.format(x) for x in (one.interaction.effect, one.low, one.high)] for one in self.ranges]
        wide = max((len(cell) for row in cells for cell in row), default=0)
        lines = [f"Effects over all explanations that cost at most {percent(self.slack)} more"]
        for name, (effect, low, high), one in zip(names, cells, self.ranges, strict=True):
            mark = "  *" if one.contains_zero else ""
            lines.append(
                f"{name}{' ' * (width - columns(name))}  {effect:>{wide}}  [{low:>{wide}}, {high:>{wide}}]{mark}"
            )
        if any(one.contains_zero for one in self.ranges):
            lines.append("* may be 0 or of the other sign: a convention decides, not the values")
        return "\n  ".join(lines)
