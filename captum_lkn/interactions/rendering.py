"""Interactions as text for a terminal, and as HTML for a notebook: from rows of names and numbers.

The text is ASCII but for the labels, so that any terminal can print it.
"""

from __future__ import annotations

import html
import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from captum_lkn._common.formats import columns, effect_format, percent, printable, shortened
from captum_lkn._common.messages import count_of, some_of
from captum_lkn.decomposition.effects import TAU
from captum_lkn.decomposition.refit import Fidelity
from captum_lkn.interactions.about import WIDTH, About

__all__ = ["SampleReport", "bars", "html_table", "joined", "sample_html", "sample_line", "sample_text"]

_SIGNS = {"and": " & ", "or": " | "}
_NAME_WIDTH = 36
_CLASS_WIDTH = 24
_LABEL_WIDTH = 24
_BAR = 10


@dataclass(frozen=True)
class SampleReport:
    """Contents of the printed interactions of one sample.

    Attributes:
        about: Model, layer, score, class and text.
        labels: The players.
        v_empty: The score without players.
        v_full: The score with all players.
        rows: Kind, name, order and effect of the strongest interactions.
        n_salient: The number of salient interactions.
        n_above_kappa: The number of those above kappa.
        within: The largest deviation of the effects from a value; 0 where that is rounding.
        kappa: The deviation that was allowed.
        gap: The certified gap.
        fidelity: The agreement of refitted effects with the values; None where they were not refitted.
    """

    about: About
    labels: Sequence[str]
    v_empty: float
    v_full: float
    rows: Sequence[tuple[str, str, int, float]]
    n_salient: int
    n_above_kappa: int
    within: float
    kappa: float
    gap: float
    fidelity: Fidelity | None = None

    @property
    def ends(self) -> tuple[str, str]:
        """The scores without and with all players, in one format."""
        number = effect_format(max(abs(self.v_empty), abs(self.v_full)))
        return number.format(self.v_empty), number.format(self.v_full)


def sample_line(report: SampleReport, width: int) -> str:
    """Return the line of a sample in a batch, at most so many columns wide."""
    explained = f"{shortened(report.about.explained, _CLASS_WIDTH)}; " if report.about.explained else ""
    start = f"{explained}v {report.ends[0]} -> {report.ends[1]}; "
    end = f"; {report.n_salient} salient of 2^{len(report.labels)}"
    strongest = "no effects"
    for _, name, _, effect in report.rows[:1]:
        number = effect_format(effect).format(effect)
        room = width - columns(start) - len(number) - 1 - len(end)
        strongest = f"{shortened(name, max(room, 4))} {number}"
    return start + strongest + end


def sample_text(report: SampleReport) -> str:
    """Return the players, what was explained, the strongest interactions and how exact they are."""
    n = len(report.labels)
    top = bars([(name, effect) for _, name, _, effect in report.rows])
    within = f"{report.within:.2g}" if report.within else "rounding"
    bound = "nothing certified" if math.isinf(report.gap) else f"at most {percent(report.gap)} above the optimum"
    salient = count_of(report.n_salient, "effect")
    if report.n_above_kappa < report.n_salient:
        salient += f", {report.n_above_kappa} above kappa"
    names = some_of([shortened(printable(name), _LABEL_WIDTH) for name in report.labels])
    lines = [
        *textwrap.wrap(f"Interactions of {count_of(n, 'player')}: {names}", WIDTH - 2),
        *report.about.lines(),
        f"v(empty) = {report.ends[0]}  ->  v(N) = {report.ends[1]}",
        *(top or ["no effects: the score does not depend on the players"]),
        f"salient (above {percent(TAU)} of the largest): {salient}, against 2^{n} = {1 << n} outputs",
        f"outputs reproduced within {within} (kappa {report.kappa:.3g}); {bound}",
    ]
    if report.fidelity is not None:
        lines[-1:] = [
            f"refitted by least squares: R^2 {report.fidelity.r_squared:.3f}, outputs missed by up to {within}",
            f"(kappa {report.kappa:.3g} does not bound it); nothing certified",
        ]
    return "\n  ".join(lines)


def sample_html(report: SampleReport) -> str:
    """Return the strongest interactions as a table."""
    number = effect_format(max((abs(effect) for *_, effect in report.rows), default=0.0))
    ends, salient = report.ends, f"{report.n_salient} salient of 2^{len(report.labels)}"
    fit = [f"refitted by least squares: R^2 {report.fidelity.r_squared:.3f}"] if report.fidelity else []
    caption = "\n".join([*report.about.lines(), f"v(empty) = {ends[0]}, v(N) = {ends[1]}; {salient}", *fit])
    rows = [(kind.upper(), name, str(order), number.format(effect)) for kind, name, order, effect in report.rows]
    return html_table(caption, ("kind", "players", "order", "effect"), rows)


def joined(kind: str, players: Iterable[str]) -> str:
    """Join players to one name: ``not & good``, ``bad | dull``."""
    return _SIGNS[kind].join(map(printable, players))


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


def html_table(caption: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a small table; text of the caption and of the cells is escaped, the last column is right-aligned.

    Lines of the caption stay lines.
    """
    lines = "<br>".join(html.escape(printable(line)) for line in caption.split("\n"))
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    body = []
    for row in rows:
        *cells, last = [html.escape(printable(cell)) for cell in row]
        tags = "".join(f'<td style="text-align:left">{cell}</td>' for cell in cells)
        body.append(f'<tr>{tags}<td style="text-align:right">{last}</td></tr>')
    return (
        f'<table><caption style="text-align:left">{lines}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
    )
