"""A comparison of layers as tables for a terminal, and as HTML for a notebook."""

from __future__ import annotations

import html as escaping
import math
from itertools import takewhile
from typing import TYPE_CHECKING, Final, NamedTuple

import torch
from torch import Tensor

from captum_lkn._common.formats import printable
from captum_lkn._common.messages import count_of, some_of
from captum_lkn.interactions.ranking import KINDS
from captum_lkn.interactions.rendering import html_table
from captum_lkn.knowledge.comparison import Comparison

if TYPE_CHECKING:
    from captum_lkn.knowledge.change import KnowledgeChange

__all__ = ["html", "summary", "text"]

_ORDERS: Final = 4  # columns of each kind: more do not fit a line
_LABEL_WIDTH: Final = 32


class _Table(NamedTuple):
    title: str
    header: list[str]
    rows: list[list[str]]


def summary(change: KnowledgeChange) -> str:
    """One line."""
    samples, layers = count_of(change.n_samples, "sample"), some_of([printable(layer) for layer in change])
    luck = f"; luck from {count_of(change.luck.draws, 'draw')}" if change.luck else ""
    return f"KnowledgeChange of {samples}: {layers} against {printable(change.against)}{luck}"


def text(change: KnowledgeChange) -> str:
    """Everything that a person wants to see first."""
    blocks = ["\n".join([summary(change), *(f"  {line}" for line in _origin(change))])]
    for table in _tables(change):
        lines = [table.header, *table.rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        cells = [
            "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))])
            for line in lines
        ]
        blocks.append("\n".join([table.title, *(f"  {cell}".rstrip() for cell in cells)]))
    return "\n\n".join(blocks)


def html(change: KnowledgeChange) -> str:
    """The same as HTML; all that came from elsewhere is escaped."""
    head = "".join(f"<p>{escaping.escape(line)}</p>" for line in [summary(change), *_origin(change)])
    return head + "".join(html_table(table.title, table.header, table.rows) for table in _tables(change))


def _origin(change: KnowledgeChange) -> list[str]:
    known = {name: change.provenance.get(name) for name in ("model", "score")}
    parts = [f"{name} {printable(str(value))}" for name, value in known.items() if value is not None]
    predicted = "the classes that the model predicts" if change.target_source == "predicted" else "the classes given"
    ratios = "ratios of sums" if change.ratio == "sum" else "means of the samples' ratios"
    sharing = "; shared as printed in Eq. 6" if change.printed else ""
    largest = "of the data set" if change.scope == "dataset" else "of each sample"
    probes = ["probe: its accuracy on rows held out"] if change.accuracies else []
    return [
        ", ".join([*parts, f"explained: {predicted}"]),
        f"salient: above {change.tau:g} of the largest effect {largest}; {ratios}{sharing}",
        *probes,
    ]


def _tables(change: KnowledgeChange) -> list[_Table]:
    columns, hidden = _columns(change)
    prefix = _prefix(list(change))
    header = [prefix or "layer", *(["probe"] if change.accuracies else []), *(name for name, _, _ in columns)]

    def row(label: str, found: Tensor, together: Tensor, form: str) -> list[str]:
        """Cells of one line; order None stands for all orders of the kind."""
        probe = [_accuracy(change, label)] if change.accuracies else []
        values = [together[k, 0] if order is None else found[k, order - 1] for _, k, order in columns]
        return [_shown(label.removeprefix(prefix)), *probe, *(_number(float(value), form) for value in values)]

    def share(label: str, comparison: Comparison, name: str) -> list[str]:
        return row(label, getattr(comparison, name), getattr(comparison.over_orders(), name), ".2f")

    def count(label: str, name: str, comparison: Comparison) -> list[str]:
        found = getattr(comparison, name).double() / change.n_samples
        return row(label, found, found.sum(-1, keepdim=True), ".1f")

    against, beyond = _shown(change.against), "; higher orders: to_frame()" if hidden else ""
    complete = [share(layer, found, "completeness") for layer, found in change.items()]
    redundant = [share(layer, found, "redundancy") for layer, found in change.items()]
    salient = [count(layer, "salient", found) for layer, found in change.items()]
    salient.append(count(change.against, "target_salient", next(iter(change.values()))))
    tables = [
        _Table(f"completeness: the share of what {against} knows that a layer has{beyond}", header, complete),
        _Table(f"redundancy: the share of what a layer knows that {against} has not", header, redundant),
    ]
    if change.luck:
        ceiling = share(change.against, change.own[change.against], "completeness")
        complete.append(["ceiling", *ceiling[1:]])
        floors = [
            row(layer, 1 - own.completeness, 1 - own.over_orders().completeness, ".2f")
            for layer, own in change.own.items()
            if layer in change
        ]
        title = "redundancy floor: the share of what a layer knows that it does not find again itself, under noise"
        tables.append(_Table(title, header, floors))
    tables.append(_Table("salient interactions of a sample, on average", header, salient))
    return tables


def _columns(change: KnowledgeChange) -> tuple[list[tuple[str, int, int | None]], bool]:
    """Columns as (title, kind, order), those alone in which something is salient; and whether orders are left out."""
    present = torch.stack([found.salient + found.target_salient for found in change.values()]).sum(0) > 0
    columns: list[tuple[str, int, int | None]] = []
    hidden = False
    for k, kind in enumerate(KINDS):
        orders = (present[k].nonzero().flatten() + 1).tolist()
        hidden |= len(orders) > _ORDERS
        columns += [(f"{kind.upper()} {order}", k, order) for order in orders[:_ORDERS]]
        columns += [(f"all {kind.upper()}", k, None)]
    return columns, hidden


def _prefix(labels: list[str]) -> str:
    """The dotted beginning that all labels share: it is shown once, above them."""
    parts = [label.split(".")[:-1] for label in labels]
    shared = takewhile(lambda names: len(set(names)) == 1, zip(*parts, strict=False))
    return "".join(f"{names[0]}." for names in shared) if len(labels) > 1 else ""


def _accuracy(change: KnowledgeChange, label: str) -> str:
    """A probe's accuracy on what it was not fitted to, or where that is not known on what it was fitted to."""
    train, held_out = change.accuracies.get(label, (math.nan, math.nan))
    known = train if math.isnan(held_out) else held_out
    return "" if math.isnan(known) else f"{known:.2f}"


def _number(value: float, form: str) -> str:
    return "-" if math.isnan(value) else format(value, form)


def _shown(label: str) -> str:
    """A label, cut in front: the end of a dotted name tells layers apart."""
    label = printable(label)
    return label if len(label) <= _LABEL_WIDTH else f"...{label[3 - _LABEL_WIDTH :]}"
