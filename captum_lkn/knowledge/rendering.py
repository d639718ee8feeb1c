"""A comparison of layers as tables for a terminal, and as HTML for a notebook."""

from __future__ import annotations

import html as escaping
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from captum_lkn._common.formats import printable
from captum_lkn._common.messages import count_of, some_of
from captum_lkn.decomposition.effects import KINDS
from captum_lkn.interactions.rendering import html_table
from captum_lkn.knowledge.comparison import Comparison

__all__ = ["Report", "html", "summary", "text"]

_ORDERS: Final = 4  # columns of each kind: more do not fit a line
_LABEL_WIDTH: Final = 32


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
        provenance: The provenance of the samples.
        target_source: Whether the classes were ``"given"`` or are those that the model predicts, ``"predicted"``.
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
    provenance: Mapping[str, Any]
    target_source: str
    tau: float
    scope: str
    literal_eq6: bool
    ratio: str


class _Table(NamedTuple):
    title: str
    header: list[str]
    rows: list[list[str]]


def summary(report: Report) -> str:
    """Return one line."""
    samples = count_of(report.n_samples, "sample")
    layers = some_of([printable(layer) for layer in report.comparisons])
    ceiling = f"; noise ceiling from {count_of(report.draws, 'draw')}" if report.draws else ""
    return f"KnowledgeChange of {samples}: {layers} against {printable(report.reference)}{ceiling}"


def text(report: Report) -> str:
    """Return the tables that a reader needs first."""
    blocks = ["\n".join([summary(report), *(f"  {line}" for line in _origin(report))])]
    for table in _tables(report):
        lines = [table.header, *table.rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        cells = [
            "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))])
            for line in lines
        ]
        blocks.append("\n".join([table.title, *(f"  {cell}".rstrip() for cell in cells)]))
    return "\n\n".join(blocks)


def html(report: Report) -> str:
    """Return the same as HTML; all that came from elsewhere is escaped."""
    head = "".join(f"<p>{escaping.escape(line)}</p>" for line in [summary(report), *_origin(report)])
    return head + "".join(html_table(table.title, table.header, table.rows) for table in _tables(report))


def _origin(report: Report) -> list[str]:
    """Return lines on model, score and options."""
    known = {name: report.provenance.get(name) for name in ("model", "score")}
    parts = [f"{name} {printable(str(value))}" for name, value in known.items() if value is not None]
    predicted = "the classes that the model predicts" if report.target_source == "predicted" else "the classes given"
    ratios = "ratios of sums" if report.ratio == "sum" else "means of the samples' ratios"
    sharing = "; Eq. 6 taken literally" if report.literal_eq6 else ""
    largest = "of the data set" if report.scope == "dataset" else "of each sample"
    probes = ["probe: its accuracy on rows held out"] if report.accuracies else []
    return [
        ", ".join([*parts, f"explained: {predicted}"]),
        f"salient: above {report.tau:g} of the largest effect {largest}; {ratios}{sharing}",
        *probes,
    ]


def _tables(report: Report) -> list[_Table]:
    columns, hidden = _columns(report)
    prefix = _prefix(list(report.comparisons))
    header = [prefix or "layer", *(["probe"] if report.accuracies else []), *(name for name, _, _ in columns)]

    def row(label: str, found: Tensor, together: Tensor, form: str) -> list[str]:
        """Return the cells of one line; order None stands for all orders of the kind."""
        probe = [_accuracy(report, label)] if report.accuracies else []
        values = [together[k, 0] if order is None else found[k, order - 1] for _, k, order in columns]
        return [_shown(label.removeprefix(prefix)), *probe, *(_number(float(value), form) for value in values)]

    def share(label: str, comparison: Comparison, name: str) -> list[str]:
        return row(label, getattr(comparison, name), getattr(comparison.over_orders(), name), ".2f")

    def count(label: str, name: str, comparison: Comparison) -> list[str]:
        found = getattr(comparison, name).double() / report.n_samples
        return row(label, found, found.sum(-1, keepdim=True), ".1f")

    reference, beyond = _shown(report.reference), "; higher orders: to_frame()" if hidden else ""
    complete = [share(layer, found, "completeness") for layer, found in report.comparisons.items()]
    redundant = [share(layer, found, "redundancy") for layer, found in report.comparisons.items()]
    salient = [count(layer, "salient", found) for layer, found in report.comparisons.items()]
    salient.append(count(report.reference, "reference_salient", next(iter(report.comparisons.values()))))
    tables = [
        _Table(f"completeness: the share of what {reference} knows that a layer has{beyond}", header, complete),
        _Table(f"redundancy: the share of what a layer knows that {reference} has not", header, redundant),
    ]
    if report.draws:
        ceiling = share(report.reference, report.own[report.reference], "completeness")
        complete.append(["ceiling", *ceiling[1:]])
        floors = [
            row(layer, 1 - own.completeness, 1 - own.over_orders().completeness, ".2f")
            for layer, own in report.own.items()
            if layer in report.comparisons
        ]
        title = "redundancy floor: the share of what a layer knows that it does not find again itself, under noise"
        tables.append(_Table(title, header, floors))
    tables.append(_Table("salient interactions of a sample, on average", header, salient))
    return tables


def _columns(report: Report) -> tuple[list[tuple[str, int, int | None]], bool]:
    """Return columns (title, kind, order) with a salient effect in them; and whether orders are left out."""
    present = torch.stack([found.salient + found.reference_salient for found in report.comparisons.values()]).sum(0) > 0
    columns: list[tuple[str, int, int | None]] = []
    hidden = False
    for k, kind in enumerate(KINDS):
        orders = (present[k].nonzero().flatten() + 1).tolist()
        hidden |= len(orders) > _ORDERS
        columns += [(f"{kind.upper()} {order}", k, order) for order in orders[:_ORDERS]]
        columns += [(f"all {kind.upper()}", k, None)]
    return columns, hidden


def _prefix(labels: list[str]) -> str:
    """Return the dotted beginning that all labels share: it is shown once, above them."""
    parts = [label.split(".")[:-1] for label in labels]
    shared = takewhile(lambda names: len(set(names)) == 1, zip(*parts, strict=False))
    return "".join(f"{names[0]}." for names in shared) if len(labels) > 1 else ""


def _accuracy(report: Report, label: str) -> str:
    """Return a probe's accuracy on held-out rows, or where that is not known on training rows."""
    train, held_out = report.accuracies.get(label, (math.nan, math.nan))
    known = train if math.isnan(held_out) else held_out
    return "" if math.isnan(known) else f"{known:.2f}"


def _number(value: float, form: str) -> str:
    return "-" if math.isnan(value) else format(value, form)


def _shown(label: str) -> str:
    """Return a label, cut in front: the end of a dotted name tells layers apart."""
    label = printable(label)
    return label if len(label) <= _LABEL_WIDTH else f"...{label[3 - _LABEL_WIDTH :]}"
