"""A comparison of layers as tables for a terminal, and as HTML for a notebook."""

from __future__ import annotations

import html as escaping
import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Final, NamedTuple

import torch
from torch import Tensor

from captum_lkn._common.formats import columns, printable, shortened
from captum_lkn._common.messages import count_of, some_of
from captum_lkn.decomposition.effects import KINDS
from captum_lkn.interactions.about import WIDTH, About, shared_lines
from captum_lkn.interactions.rendering import html_table
from captum_lkn.knowledge.comparison import Comparison

__all__ = ["Report", "html", "prefix_of", "shown_label", "shown_number", "summary", "text"]

_ORDERS: Final = 4  # columns of each kind: more do not fit a line
_LABEL_WIDTH: Final = 32
_SAMPLES: Final = 10


@dataclass(frozen=True)
class Report:
    """Contents of a printed comparison.

    Attributes:
        comparisons: Each layer compared with the reference.
        own: Each layer, the reference too, compared with its noisy draws; empty where there are none.
        reference: The label of the reference.
        n_samples: The number of samples.
        draws: The number of noisy draws; 0 where there are none.
        accuracies: By layer the accuracy of its probe, on the training and on the held-out part.
        about: The model, score, class and text of each sample.
        tau: The threshold of salience, like all that follows as in ``KnowledgeChange``.
        scope: Over what the largest effect is taken.
        literal_eq6: Whether Eq. 6 is taken literally.
        ratio: How ratios of several samples are taken together.
    """

    comparisons: Mapping[str, Comparison]
    own: Mapping[str, Comparison]
    reference: str
    n_samples: int
    draws: int
    accuracies: Mapping[str, tuple[float, float]]
    about: Sequence[About]
    tau: float
    scope: str
    literal_eq6: bool
    ratio: str


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
    layers = some_of([printable(layer) for layer in report.comparisons])
    ceiling = f"; noise ceiling from {count_of(report.draws, 'draw')}" if report.draws else ""
    return f"KnowledgeChange of {samples}: {layers} against {printable(report.reference)}{ceiling}"


def text(report: Report) -> str:
    """Return the tables that a reader needs first, at most :data:`captum_lkn.interactions.about.WIDTH` wide."""
    head = textwrap.wrap(summary(report), WIDTH - 2, subsequent_indent="  ", break_on_hyphens=False)
    blocks = ["\n".join([*head, *(f"  {line}" for line in [*_origin(report), *_samples(report)])])]
    for table in _tables(report):
        title = textwrap.wrap(table.title, WIDTH - 2, subsequent_indent="  ")
        blocks.append("\n".join([*title, *(f"  {line}" for line in _lines(table))]))
    return "\n\n".join(blocks)


def html(report: Report) -> str:
    """Return the same as HTML; all that came from elsewhere is escaped."""
    lines = [summary(report), *_origin(report), *_samples(report)]
    head = "".join(f"<p>{escaping.escape(line)}</p>" for line in lines)
    return head + "".join(html_table(table.title, table.header, table.rows) for table in _tables(report))


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
    widths = [max(map(columns, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(
            [
                line[0] + " " * (widths[0] - columns(line[0])),
                *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)),
            ]
        ).rstrip()
        for line in lines
    ]


def _origin(report: Report) -> list[str]:
    """Return lines on model, score, classes and options."""
    ratios = "ratios of sums" if report.ratio == "sum" else "means of the samples' ratios"
    sharing = "; Eq. 6 taken literally" if report.literal_eq6 else ""
    largest = "of the data set" if report.scope == "dataset" else "of each sample"
    options = f"salient: above {report.tau:g} of the largest effect {largest}; {ratios}{sharing}"
    probes = ["probe: its accuracy on held-out rows"] if report.accuracies else []
    return [*shared_lines(report.about), *textwrap.wrap(options, WIDTH - 4), *probes]


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


def _tables(report: Report) -> list[_Table]:
    chosen, hidden = _columns(report)
    prefix = prefix_of(list(report.comparisons))
    front = [prefix or "layer", *(["probe"] if report.accuracies else [])]
    header = [*front, *(name for name, _, _ in chosen)]
    first_or = len(front) + sum(k == 0 for _, k, _ in chosen)

    def row(label: str, found: Tensor, together: Tensor, form: str) -> list[str]:
        """Return the cells of one line; order None stands for all orders of the kind."""
        probe = [_accuracy(report, label)] if report.accuracies else []
        values = [together[k, 0] if order is None else found[k, order - 1] for _, k, order in chosen]
        return [
            shown_label(label.removeprefix(prefix)),
            *probe,
            *(shown_number(float(value), form) for value in values),
        ]

    def share(label: str, comparison: Comparison, name: str) -> list[str]:
        return row(label, getattr(comparison, name), getattr(comparison.over_orders(), name), ".2f")

    def count(label: str, name: str, comparison: Comparison) -> list[str]:
        found = getattr(comparison, name).double() / report.n_samples
        return row(label, found, found.sum(-1, keepdim=True), ".1f")

    def table(title: str, rows: list[list[str]]) -> _Table:
        return _Table(title, header, rows, len(front), first_or)

    reference, beyond = shown_label(report.reference), "; higher orders: to_frame()" if hidden else ""
    complete = [share(layer, found, "completeness") for layer, found in report.comparisons.items()]
    redundant = [share(layer, found, "redundancy") for layer, found in report.comparisons.items()]
    salient = [count(layer, "salient", found) for layer, found in report.comparisons.items()]
    salient.append(count(report.reference, "reference_salient", next(iter(report.comparisons.values()))))
    tables = [
        table(f"completeness: share of the effects of {reference} that a layer has{beyond}", complete),
        table(f"redundancy: share of the effects of a layer that {reference} does not have", redundant),
    ]
    if report.draws:
        ceiling = share(report.reference, report.own[report.reference], "completeness")
        complete.append(["ceiling", *ceiling[1:]])
        floors = [
            row(layer, 1 - own.completeness, 1 - own.over_orders().completeness, ".2f")
            for layer, own in report.own.items()
            if layer in report.comparisons
        ]
        tables.append(table("redundancy floor: share of its effects that a layer does not have under noise", floors))
    tables.append(table("salient interactions of a sample, on average", salient))
    return tables


def _columns(report: Report) -> tuple[list[tuple[str, int, int | None]], bool]:
    """Return columns (title, kind, order) with a salient effect in them; and whether orders are left out."""
    present = torch.stack([found.salient + found.reference_salient for found in report.comparisons.values()]).sum(0) > 0
    chosen: list[tuple[str, int, int | None]] = []
    hidden = False
    for k, kind in enumerate(KINDS):
        orders = (present[k].nonzero().flatten() + 1).tolist()
        hidden |= len(orders) > _ORDERS
        chosen += [(f"{kind.upper()} {order}", k, order) for order in orders[:_ORDERS]]
        chosen += [(f"all {kind.upper()}", k, None)]
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
    """Return a label, cut in front: the end of a dotted name tells layers apart."""
    label = printable(label)
    return label if len(label) <= _LABEL_WIDTH else f"...{label[3 - _LABEL_WIDTH :]}"
