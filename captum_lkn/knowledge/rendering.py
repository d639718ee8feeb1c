"""A comparison of states as tables for a terminal, and as HTML for a notebook."""

from __future__ import annotations

import math
import textwrap
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Final, NamedTuple

from captum_lkn._common import html
from captum_lkn._common.formats import aligned, columns, printable, shortened
from captum_lkn._common.messages import count_of, some_of
from captum_lkn.decomposition.effects import KINDS, Kind
from captum_lkn.interactions.about import WIDTH, About, shared_lines
from captum_lkn.knowledge.rows import ChangeRow

__all__ = [
    "Printed",
    "Report",
    "notebook",
    "options_line",
    "prefix_of",
    "shown_label",
    "shown_number",
    "summary",
    "tables",
    "text",
]

_ORDERS: Final = 4  # columns of each kind: more do not fit a line
_LABEL_WIDTH: Final = 32
_SAMPLES: Final = 10


@dataclass(frozen=True)
class Report:
    """Contents of a printed comparison.

    Attributes:
        rows: The numbers, a row for each state, kind and order, as a data frame has them.
        reference: The label of the reference.
        noun: What a state is called.
        n_samples: The number of samples.
        draws: The number of noisy draws; 0 where there are none.
        accuracies: By state the accuracy of its probe, on the training and on the held-out part.
        about: The model, score, class and text of each sample.
        tau: The threshold of salience, like all that follows as in ``KnowledgeChange``.
        scope: Over what the largest effect is taken.
        literal_eq6: Whether Eq. 6 is taken literally.
        ratio: How ratios of several samples are taken together.
    """

    rows: Sequence[ChangeRow]
    reference: str
    noun: str
    n_samples: int
    draws: int
    accuracies: Mapping[str, tuple[float, float]]
    about: Sequence[About]
    tau: float
    scope: str
    literal_eq6: bool
    ratio: str

    @property
    def states(self) -> list[str]:
        """The labels of the states that are compared."""
        return list(dict.fromkeys(row.state for row in self.rows))


class Printed:
    """A comparison that prints :meth:`contents`: as a table, in short, and as HTML."""

    @abstractmethod
    def contents(self) -> Report:
        """Return what is printed."""

    def __str__(self) -> str:
        return text(self.contents())

    def __repr__(self) -> str:
        return summary(self.contents())

    def _repr_html_(self) -> str:
        return notebook(self.contents())


class _Table(NamedTuple):
    """A table whose columns are those that stand in front, then AND, then OR."""

    title: str
    header: list[str]
    rows: list[list[str]]
    front: int
    first_or: int


def summary(report: Report) -> str:
    """Return one line."""
    samples = count_of(report.n_samples, "sample")
    states = some_of([printable(state) for state in report.states])
    ceiling = f"; noise ceiling from {count_of(report.draws, 'draw')}" if report.draws else ""
    return f"KnowledgeChange of {samples}: {states} against {printable(report.reference)}{ceiling}"


def text(report: Report) -> str:
    """Return the tables that a reader needs first, at most :data:`captum_lkn.interactions.about.WIDTH` wide."""
    head = textwrap.wrap(summary(report), WIDTH - 2, subsequent_indent="  ", break_on_hyphens=False)
    blocks = ["\n".join([*head, *(f"  {line}" for line in [*_origin(report), *_samples(report)])])]
    for table in tables(report):
        title = textwrap.wrap(table.title, WIDTH - 2, subsequent_indent="  ")
        blocks.append("\n".join([*title, *(f"  {line}" for line in _lines(table))]))
    return "\n\n".join(blocks)


def notebook(report: Report) -> str:
    """Return the same as HTML for a notebook."""
    head = html.lines([summary(report), *_origin(report), *_samples(report)])
    shown = [html.table([one.title], one.header, one.rows, texts=one.header[:1]) for one in tables(report)]
    return html.element("div", head, *shown)


def _lines(table: _Table) -> list[str]:
    """Return the lines of a table: in one piece, or where that is too wide the AND and the OR columns apart."""
    every = range(len(table.header))
    lines = _aligned(table, every)
    if max(map(columns, lines)) <= WIDTH - 2:
        return lines
    front = every[: table.front]
    ands, ors = (
        _aligned(table, [*front, *part]) for part in (every[table.front : table.first_or], every[table.first_or :])
    )
    return [*ands, *ors]


def _aligned(table: _Table, chosen: Iterable[int]) -> list[str]:
    lines = [[line[i] for i in chosen] for line in (table.header, *table.rows)]
    return aligned(lines)


def _origin(report: Report) -> list[str]:
    """Return lines on model, score, classes and options."""
    probes = ["probe: its accuracy on held-out rows"] if report.accuracies else []
    return [*shared_lines(report.about), *textwrap.wrap(options_line(report), WIDTH - 4), *probes]


def options_line(report: Report) -> str:
    """Return the options of the comparison in words."""
    ratios = "ratios of sums" if report.ratio == "sum" else "means of the samples' ratios"
    sharing = "; Eq. 6 taken literally" if report.literal_eq6 else ""
    largest = "of the data set" if report.scope == "dataset" else "of each sample"
    return f"salient: above {report.tau:g} of the largest effect {largest}; {ratios}{sharing}"


def _samples(report: Report) -> list[str]:
    """Return a line for each of the first samples, if these have texts."""
    if not any(one.text for one in report.about):
        return []
    width = max(columns(one.explained) for one in report.about)
    lines = [
        shortened(f"{b}  {one.explained}{' ' * (width - columns(one.explained))}  {one.text}", WIDTH - 2)
        for b, one in enumerate(report.about[:_SAMPLES])
    ]
    more = len(report.about) - _SAMPLES
    return [*lines, f"... and {more} more"] if more > 0 else lines


def tables(report: Report) -> list[_Table]:
    """Return the tables of completeness, redundancy and numbers of interactions."""
    chosen, hidden = _columns(report)
    states, noun = report.states, report.noun
    prefix = prefix_of(states)
    front = [prefix or noun, *(["probe"] if report.accuracies else [])]
    header = [*front, *(name for name, _, _ in chosen)]
    first_or = len(front) + sum(kind == "and" for _, kind, _ in chosen)
    known = {(row.state, row.kind, row.order): row for row in report.rows}

    def line(label: str, name: str, form: str = ".2f", of: str | None = None) -> list[str]:
        """Return the cells of a state, or of another label with the numbers ``of`` a state; None: of all orders."""
        probe = [_accuracy(report, label)] if report.accuracies else []
        numbers = [
            getattr(known[of or label, kind, order or 1], name if order else f"{name}_all_orders")
            for _, kind, order in chosen
        ]
        return [shown_label(label.removeprefix(prefix)), *probe, *(shown_number(float(x), form) for x in numbers)]

    def table(title: str, rows: list[list[str]]) -> _Table:
        return _Table(title, header, rows, len(front), first_or)

    reference, beyond = shown_label(report.reference), "; higher orders: to_frame()" if hidden else ""
    complete = [line(state, "completeness") for state in states]
    if report.draws:
        ceiling = line(report.reference, "completeness_ceiling", of=states[0])
        complete.append(["ceiling", *ceiling[1:]])
    tables = [
        table(f"completeness: share of the effects of {reference} that a {noun} has{beyond}", complete),
        table(
            f"redundancy: share of the effects of a {noun} that {reference} does not have",
            [line(state, "redundancy") for state in states],
        ),
    ]
    if report.draws:
        floors = [line(state, "redundancy_floor") for state in states]
        tables.append(table(f"redundancy floor: share of its effects that a {noun} does not have under noise", floors))
    salient = [line(state, "salient_mean", ".1f") for state in states]
    salient.append(line(report.reference, "reference_salient_mean", ".1f", of=states[0]))
    tables.append(table("salient interactions of a sample, on average", salient))
    return tables


def _columns(report: Report) -> tuple[list[tuple[str, Kind, int | None]], bool]:
    """Return columns (title, kind, order) with a salient effect in them; and whether orders are left out."""
    present = {(row.kind, row.order) for row in report.rows if row.salient or row.reference_salient_mean}
    chosen: list[tuple[str, Kind, int | None]] = []
    hidden = False
    for kind in KINDS:
        orders = sorted(order for of, order in present if of == kind)
        hidden |= len(orders) > _ORDERS
        chosen += [(f"{kind.upper()} {order}", kind, order) for order in orders[:_ORDERS]]
        chosen += [(f"all {kind.upper()}", kind, None)]
    return chosen, hidden


def prefix_of(labels: list[str]) -> str:
    """Return the dotted beginning that all labels share: it is shown once, above them."""
    parts = [label.split(".")[:-1] for label in labels]
    shared = takewhile(lambda names: len(set(names)) == 1, zip(*parts, strict=False))
    return "".join(f"{names[0]}." for names in shared) if len(labels) > 1 else ""


def _accuracy(report: Report, label: str) -> str:
    """Return a probe's accuracy on held-out rows, or where that is not known on training rows."""
    train, held_out = report.accuracies.get(label, (math.nan, math.nan))
    known = train if math.isnan(held_out) else held_out
    return "" if math.isnan(known) else f"{known:.2f}"


def shown_number(value: float, form: str) -> str:
    """Return a number in a format; ``-`` for NaN."""
    return "-" if math.isnan(value) else format(value, form)


def shown_label(label: str) -> str:
    """Return a label, cut in front: the end of a dotted name tells states apart."""
    label = printable(label)
    return label if len(label) <= _LABEL_WIDTH else f"...{label[3 - _LABEL_WIDTH :]}"
