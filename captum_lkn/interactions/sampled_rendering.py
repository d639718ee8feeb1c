"""Interactions from sampled masks as text for a terminal, and as HTML for a notebook."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from captum_lkn._common import html
from captum_lkn._common.formats import columns, effect_format, percent
from captum_lkn._common.messages import count_of
from captum_lkn.decomposition.effects import TAU
from captum_lkn.interactions.about import WIDTH
from captum_lkn.interactions.rendering import (
    NO_EFFECTS,
    SampleContents,
    bars,
    effects_html,
    ends_line,
    error_text,
    fitted_line,
    players_line,
)

__all__ = ["SampledReport", "count_lines", "r_squared_lines", "sampled_html", "sampled_line", "sampled_text"]


@dataclass(frozen=True)
class SampledReport(SampleContents):
    """Contents of the printed interactions of one sample from sampled masks.

    Attributes:
        errors: The standard error of each row.
        n_effects: The number of effects.
        r_squared: R^2 of uniform masks and of all sizes.
        deviation: The root mean square of what is missed at the masks that were used to fit.
        masks: The numbers of masks: to fit, to test uniform ones, to test all sizes.
    """

    errors: Sequence[float | None]
    n_effects: int
    r_squared: tuple[float, float]
    deviation: float
    masks: tuple[int, int, int]


def r_squared_lines(report: SampledReport) -> list[str]:
    """Return how well the effects reproduce masks that they were not fitted to."""
    uniform, sizes = (f"{one:.3f}" for one in report.r_squared)
    fitted, *tests = report.masks
    if not any(tests):
        return [f"R^2 {uniform} over all 2^{len(report.labels)} masks, {sizes} with all sizes alike"]
    return [
        f"R^2 {uniform} at {tests[0]} fresh uniform masks, {sizes} at {tests[1]} of all sizes",
        f"({fitted:,} masks were used to fit)",
    ]


def sampled_line(report: SampledReport, width: int) -> str:
    """Return the line of a sample in a batch, at most so many columns wide."""
    worst = min((one for one in report.r_squared if not math.isnan(one)), default=math.nan)
    return fitted_line(report, width, f"R^2 {worst:.3f}; ", f"; {report.n_salient} salient")


def sampled_text(report: SampledReport) -> str:
    """Return R^2, the players, what was explained, and the strongest interactions with their errors."""
    drawn = bars([(name, effect) for _, name, _, effect in report.rows])
    largest = max((abs(effect) for *_, effect in report.rows), default=0.0)
    width = max(map(columns, drawn), default=0)
    top = [
        f"{line}{' ' * (width - columns(line))}{error_text(error, largest)}".rstrip()
        for line, error in zip(drawn, report.errors, strict=True)
    ]
    lines = [
        *r_squared_lines(report),
        *textwrap.wrap(players_line(report.labels), WIDTH - 2),
        *report.about.lines(),
        ends_line(report.ends),
        *(top or [NO_EFFECTS]),
        *count_lines(report),
    ]
    return "\n  ".join(lines)


def sampled_html(report: SampledReport) -> str:
    """Return the same, the strongest interactions as a table with bars."""
    largest = max((abs(effect) for *_, effect in report.rows), default=0.0)
    lines = [*r_squared_lines(report), players_line(report.labels), *report.about.lines(), ends_line(report.ends)]
    errors = [error_text(error, largest).removeprefix(" ") for error in report.errors]
    return html.element("div", html.lines(lines), effects_html(report, errors), html.lines(count_lines(report)))


def count_lines(report: SampledReport) -> list[str]:
    """Return the numbers of effects, and what they miss."""
    missed = effect_format(max(abs(report.v_empty), abs(report.v_full))).format(report.deviation).removeprefix("+")
    return [
        f"{count_of(report.n_effects, 'effect')}, {report.n_salient} salient (above {percent(TAU)} of the largest); "
        f"values missed by {missed} (RMS)"
    ]
