"""Interactions as text for a terminal, and as HTML for a notebook: from the same rows of names and numbers.

The text is ASCII but for the labels, so that any terminal can print it.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from captum_lkn._common import html
from captum_lkn._common.formats import columns, effect_format, percent, printable, shortened
from captum_lkn._common.messages import count_of, some_of
from captum_lkn.decomposition.effects import TAU
from captum_lkn.decomposition.refit import Fidelity
from captum_lkn.interactions.about import WIDTH, About

__all__ = [
    "BATCH_TEXTS",
    "NO_EFFECTS",
    "SampleContents",
    "SampleReport",
    "bars",
    "batch_html",
    "batch_rows",
    "certificate_lines",
    "effects_html",
    "ends_line",
    "error_text",
    "fitted_line",
    "joined",
    "players_line",
    "sample_html",
    "sample_line",
    "sample_text",
]

_SIGNS = {"and": " & ", "or": " | "}
_NAME_WIDTH = 36
_CLASS_WIDTH = 24
_LABEL_WIDTH = 24
_BAR = 10
_ROUNDING = 1e-12  # of the two sums whose difference is a gap, in float64
BATCH_TEXTS = ("explained", "text", "strongest")
"""Columns of a table of samples that hold text."""
NO_EFFECTS = "no effects: the score does not depend on the players"


@dataclass(frozen=True)
class SampleContents:
    """Contents of the printed interactions of one sample, whether from all masks or from sampled ones.

    Attributes:
        about: Model, layer, score, class and text.
        labels: The players.
        v_empty: The score without players.
        v_full: The score with all players.
        rows: Kind, name, order and effect of the strongest interactions.
        n_salient: The number of salient interactions.
    """

    about: About
    labels: Sequence[str]
    v_empty: float
    v_full: float
    rows: Sequence[tuple[str, str, int, float]]
    n_salient: int

    @property
    def ends(self) -> tuple[str, str]:
        """The scores without and with all players, in one format."""
        number = effect_format(max(abs(self.v_empty), abs(self.v_full)))
        return number.format(self.v_empty), number.format(self.v_full)


@dataclass(frozen=True)
class SampleReport(SampleContents):
    """Contents of the printed interactions of one sample from all masks.

    Attributes:
        n_above_kappa: The number of salient interactions above kappa.
        within: The largest deviation of the effects from a value; 0 where that is rounding.
        kappa: The deviation that was allowed.
        gap: The certified gap.
        fidelity: The agreement of refitted effects with the values; None where they were not refitted.
    """

    n_above_kappa: int
    within: float
    kappa: float
    gap: float
    fidelity: Fidelity | None = None


def sample_line(report: SampleReport, width: int) -> str:
    """Return the line of a sample in a batch, at most so many columns wide."""
    return fitted_line(report, width, "", f"; {report.n_salient} salient of 2^{len(report.labels)}")


def fitted_line(report: SampleContents, width: int, start: str, end: str) -> str:
    """Return the class, the scores and the strongest interaction between two texts, its name cut to fit the width."""
    explained = f"{shortened(report.about.explained, _CLASS_WIDTH)}; " if report.about.explained else ""
    start = f"{start}{explained}v {report.ends[0]} -> {report.ends[1]}; "
    strongest = "no effects"
    for _, name, _, effect in report.rows[:1]:
        number = effect_format(effect).format(effect)
        room = width - columns(start) - len(number) - 1 - len(end)
        strongest = f"{shortened(name, max(room, 4))} {number}"
    return start + strongest + end


def sample_text(report: SampleReport) -> str:
    """Return the players, what was explained, the strongest interactions and how exact they are."""
    top = bars([(name, effect) for _, name, _, effect in report.rows])
    lines = [
        *textwrap.wrap(players_line(report.labels), WIDTH - 2),
        *report.about.lines(),
        ends_line(report.ends),
        *(top or [NO_EFFECTS]),
        *certificate_lines(report),
    ]
    return "\n  ".join(lines)


def sample_html(report: SampleReport) -> str:
    """Return the same, the strongest interactions as a table with bars."""
    head = html.lines([players_line(report.labels), *report.about.lines(), ends_line(report.ends)])
    return html.element("div", head, effects_html(report), html.lines(certificate_lines(report)))


def effects_html(report: SampleContents, errors: Sequence[str] | None = None) -> str:
    """Return the strongest interactions as a table with bars, and with their errors where these are given."""
    if not report.rows:
        return html.element("p", NO_EFFECTS)
    largest = max(abs(effect) for *_, effect in report.rows)
    number = effect_format(largest)
    rows = [
        (kind.upper(), name, str(order), number.format(effect), *error, html.bar(effect, largest))
        for (kind, name, order, effect), error in zip(
            report.rows, [()] * len(report.rows) if errors is None else [(one,) for one in errors], strict=True
        )
    ]
    header = ("kind", "players", "order", "effect", *(() if errors is None else ("error",)), "")
    return html.table((), header, rows, texts=("kind", "players", ""))


def batch_rows(reports: Sequence[SampleContents]) -> dict[str, list[str]]:
    """Return the columns of a table of samples, a cell for each; columns in which nothing is known are left out."""
    columns: dict[str, list[str]] = {}
    for place, report in enumerate(reports):
        strongest = next(iter(report.rows), None)
        cells = {
            "sample": str(place),
            "explained": f"{report.about.explained}{', predicted' if report.about.predicted else ''}",
            "text": report.about.text,
            "v(empty)": report.ends[0],
            "v(N)": report.ends[1],
            "salient": f"{report.n_salient} of 2^{len(report.labels)}",
            "strongest": strongest[1] if strongest else "no effects",
            "effect": effect_format(strongest[3]).format(strongest[3]) if strongest else "",
        }
        for name, cell in cells.items():
            columns.setdefault(name, []).append(cell)
    return {name: cells for name, cells in columns.items() if any(cells)}


def batch_html(head: Sequence[str], columns: Mapping[str, Sequence[str]]) -> str:
    """Return a table of samples, see :func:`batch_rows`."""
    return html.table(head, list(columns), zip(*columns.values(), strict=True), texts=BATCH_TEXTS)


def players_line(labels: Sequence[str]) -> str:
    """Return the number and the names of the players."""
    names = some_of([shortened(printable(name), _LABEL_WIDTH) for name in labels])
    return f"Interactions of {count_of(len(labels), 'player')}: {names}"


def ends_line(ends: tuple[str, str]) -> str:
    """Return the scores without and with all players."""
    return f"v(empty) = {ends[0]}  ->  v(N) = {ends[1]}"


def _known(gap: float) -> float:
    """Return a gap without the rounding of its two sums, which is not a distance from the optimum."""
    return gap if gap > _ROUNDING else 0.0


def certificate_lines(report: SampleReport) -> list[str]:
    """Return lines on the number of salient effects, the deviation from the values, and what is certified."""
    within = f"{report.within:.2g}" if report.within else "rounding"
    bound = (
        "nothing certified" if math.isinf(report.gap) else f"at most {percent(_known(report.gap))} above the optimum"
    )
    salient = count_of(report.n_salient, "effect")
    if report.n_above_kappa < report.n_salient:
        salient += f", {report.n_above_kappa} above kappa"
    n = len(report.labels)
    count = f"salient (above {percent(TAU)} of the largest): {salient}, against 2^{n} = {1 << n} outputs"
    if report.fidelity is None:
        return [count, f"outputs reproduced within {within} (kappa {report.kappa:.3g}); {bound}"]
    return [
        count,
        f"refitted by least squares: R^2 {report.fidelity.r_squared:.3f}, outputs missed by up to {within}",
        f"(kappa {report.kappa:.3g} does not bound it); nothing certified",
    ]


def joined(kind: str, players: Iterable[str]) -> str:
    """Join players to one name: ``not & good``, ``bad | dull``."""
    return _SIGNS[kind].join(map(printable, players))


def error_text(error: float | None, effect: float) -> str:
    """Return a standard error behind its effect, ``" +- 0.05"``; empty where it is not known.

    Example:
        >>> error_text(0.05, -2.3), error_text(None, 1.0)
        (' +- 0.05', '')
    """
    if error is None or math.isnan(error):
        return ""
    return f" +- {effect_format(effect).format(error).removeprefix('+')}"


def bars(rows: Sequence[tuple[str, float]]) -> list[str]:
    r"""Return a line for each name and effect: both, and a bar to the left or to the right of zero.

    Args:
        rows: Names and effects.

    Returns:
        Lines of one width, of at most 80 columns.

    Example:
        >>> print(*bars([("not & good", -2.0), ("good", 1.0)]), sep="\n")
        not & good  -2.00  ##########|
        good        +1.00            |#####
    """
    names = [shortened(name, _NAME_WIDTH) for name, _ in rows]
    largest = max((abs(effect) for _, effect in rows), default=0.0)
    numbers = [effect_format(largest).format(effect) for _, effect in rows]
    name_width = max(map(columns, names), default=0)
    number_width = max(map(len, numbers), default=0)
    lines = []
    for (_, effect), name, number in zip(rows, names, numbers, strict=True):
        bar = "#" * round(_BAR * abs(effect) / (largest or 1.0))
        sides = (bar, "") if effect < 0 else ("", bar)
        padded = name + " " * (name_width - columns(name))
        lines.append(f"{padded}  {number:>{number_width}}  {sides[0]:>{_BAR}}|{sides[1]}")
    return lines
