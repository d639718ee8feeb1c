"""A picture for each claim, drawn from the files of results alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from benchmarks.paper.claims import CLAIMS, EXCEPTED
from benchmarks.paper.statistics import Orders
from benchmarks.paper.store import Store
from benchmarks.paper.verdicts import VERDICTS, verdicts
from captum_lkn._common.colours import NEGATIVE, NEUTRAL, OVERLAP, POSITIVE

__all__ = ["FIGURES", "draw_all"]

_BLUE, _ORANGE, _GREY, _GREEN = POSITIVE, NEGATIVE, NEUTRAL, OVERLAP
_GROUPS = {"low": _BLUE, "high": _ORANGE}
_WIDE, _TALL, _COLUMNS = 2.5, 2.1, 4


def draw_all(store: Store) -> None:
    """Draw and write all figures of which there are results."""
    folder = store.results / "figures"
    folder.mkdir(exist_ok=True)
    for name, draw in FIGURES.items():
        figure = draw(store)
        if figure is not None:
            figure.savefig(folder / f"{name}.png", dpi=110)


def _grid(
    panels: Mapping[str, Any],
    draw: Callable[[Axes, Any], None],
    title: str,
    x: str,
    y: str,
    legend_columns: int = 4,
) -> Figure | None:
    """Draw a panel for each task, with one title and one legend."""
    if not panels:
        return None
    columns = min(_COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(max(7.5, _WIDE * columns), _TALL * rows + 1.0), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    legend: dict[str, Any] = {}
    for place, (ax, (name, data)) in enumerate(zip(axes.flat, panels.items(), strict=False)):
        draw(ax, data)
        ax.set_title(name.replace(".", "\nand "), fontsize=8.5)
        ax.tick_params(labelsize=7.5)
        ax.spines[["top", "right"]].set_visible(False)
        if place % columns == 0:
            ax.set_ylabel(y, fontsize=8.5)
        if place + columns >= len(panels):
            ax.set_xlabel(x, fontsize=8.5)
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            legend.setdefault(label, handle)
    for ax in axes.flat[len(panels) :]:
        ax.set_axis_off()
    figure.suptitle(title, fontsize=10.5)
    if legend:
        figure.legend(
            legend.values(),
            legend.keys(),
            loc="outside lower center",
            ncols=legend_columns,
            frameon=False,
            fontsize=8.5,
        )
    return figure


def _band(ax: Axes, x: Sequence[Any], ends: Sequence[Sequence[float | None]], colour: str, label: str) -> None:
    """Draw means with their intervals."""
    numbers = np.array([[math.nan if one is None else one for one in row] for row in ends], dtype=float)
    ax.fill_between(x, numbers[:, 1], numbers[:, 2], color=colour, alpha=0.18, linewidth=0)
    ax.plot(x, numbers[:, 0], color=colour, marker="o", markersize=3, linewidth=1.4, label=label)


def _depth(ax: Axes, layers: Sequence[str]) -> None:
    short = [layer.rpartition(".")[2] for layer in layers]
    long = max(map(len, short)) > 2
    ax.set_xticks(range(len(layers)), short, rotation=40 if long else 0, ha="right" if long else "center")


def _sparsity(store: Store) -> Figure | None:
    def draw(ax: Axes, data: dict[str, Any]) -> None:
        for name, colour in (("effects", _BLUE), ("dividends", _GREY)):
            label = "AND and OR effects" if name == "effects" else "Harsanyi dividends"
            ax.plot(range(1, len(data["curves"][name]) + 1), data["curves"][name], color=colour, label=label)
        ax.axhline(0.05, color="black", linewidth=0.7, linestyle=":")
        count = data["salient"]["default"]["salient"]["value"]
        ax.text(
            0.97, 0.9, f"{count:.1f} salient of {data['possible']:.0f}", transform=ax.transAxes, ha="right", fontsize=8
        )

    title = "C1: strengths in descending order, as a share of the largest; dotted: the threshold"
    return _grid(store.all("sparsity"), draw, title, "rank", "strength")


def _strengths(store: Store) -> Figure | None:
    def draw(ax: Axes, data: dict[str, Any]) -> None:
        states = np.array(data["strengths_by_order"], dtype=float)
        shown = Orders(states.shape[1]).shown
        for place, row in enumerate(states):
            shade = 0.25 + 0.75 * place / (len(states) - 1)
            label = {0: "first layer", len(states) - 1: "output"}.get(place)
            ax.plot(
                range(1, shown.stop + 1), row[shown], color=_BLUE, alpha=shade, marker="o", markersize=3, label=label
            )
        ax.set_xticks(range(1, shown.stop + 1))
        ax.set_ylim(bottom=0)

    title = "C2 and C3: strength of salient interactions by order, in units of |v(N) - v(empty)|; darker is deeper"
    return _grid(store.all("layers"), draw, title, "order", "strength")


def _over_layers(quantity: str, title: str) -> Callable[[Store], Figure | None]:
    def draw(ax: Axes, data: dict[str, Any]) -> None:
        layers = data["layers"]
        for group, colour in _GROUPS.items():
            _band(ax, range(len(layers)), data[quantity][group], colour, f"{group} orders")
            if quantity == "completeness" and data["ceiling"][group] is not None:
                ax.axhline(data["ceiling"][group], color=colour, linewidth=0.8, linestyle="--")
        _band(ax, range(len(layers)), data[quantity]["shown"], _GREY, "all shown orders")
        _depth(ax, layers)
        ax.set_ylim(-0.03, 1.05)

    return lambda store: _grid(store.all("layers"), draw, title, "layer", quantity)


def _iou(store: Store) -> Figure | None:
    def draw(ax: Axes, data: dict[str, Any]) -> None:
        for name, colour in (("default", _BLUE), ("the paper's program", _ORANGE), ("refit", _GREEN)):
            rows = data["by_order"][name][:-1]
            shown = Orders(len(rows)).shown
            _band(ax, range(1, shown.stop + 1), rows[shown], colour, name)
        ceiling = [math.nan if one[0] is None else one[0] for one in data["ceiling"][shown]]
        ax.plot(range(1, shown.stop + 1), ceiling, "--", color=_GREY, linewidth=1, label="noise ceiling")
        ax.set_xticks(range(1, shown.stop + 1))
        ax.set_ylim(-0.03, 1.03)

    title = "C6: intersection over union of the salient interactions of two networks"
    return _grid(store.all("pair"), draw, title, "order", "IoU")


def _by_order(key: str, title: str, label: str) -> Callable[[Store], Figure | None]:
    def draw(ax: Axes, data: dict[str, Any]) -> None:
        rows = data[key][:-1]
        shown = Orders(len(rows)).shown
        _band(ax, range(1, shown.stop + 1), rows[shown], _BLUE, "AND and OR")
        ax.set_xticks(range(1, shown.stop + 1))
        ax.set_ylim(bottom=0)

    return lambda store: _grid(store.all("stability"), draw, title, "order", label)


def _kappa(store: Store) -> Figure | None:
    def draw(ax: Axes, data: dict[str, Any]) -> None:
        for name, style in (("kappa 0.03", ":"), ("kappa 0.04", "-"), ("kappa 0.05", "--")):
            for quantity, colour in (("completeness", _BLUE), ("redundancy", _ORANGE)):
                curve = [math.nan if one is None else one for one in data["kappa"][name][quantity]]
                ax.plot(range(len(curve)), curve, style, color=colour, label=f"{quantity}, {name[6:]}")
        ax.set_xticks(range(len(curve)))
        ax.set_ylim(-0.03, 1.05)

    title = "C8: completeness and redundancy with kappa of 0.03, 0.04 and 0.05 of |v(N) - v(empty)|"
    return _grid(store.all("claims"), draw, title, "layer", "share", legend_columns=3)


def _controls(store: Store) -> Figure | None:
    names = {"trained": (_BLUE, "-"), "random labels": (_ORANGE, "-"), "untrained, its own output": (_GREY, "-"),
             "untrained, the trained output": (_GREY, "--"), "neighbours": (_GREEN, "-"),
             "logit lens": (_BLUE, ":")}  # fmt: skip

    def draw(ax: Axes, data: dict[str, Any]) -> None:
        for name, (colour, style) in names.items():
            if name in data:
                curve = [math.nan if one[0] is None else one[0] for one in data[name]]
                ax.plot(range(len(curve)), curve, style, color=colour, marker="o", markersize=2.5, label=name)
        ax.axhline(data["ceiling"], color=_BLUE, linewidth=0.8, linestyle="--")
        ax.set_xticks(range(len(data["trained"])))
        ax.set_ylim(-0.03, 1.05)

    title = "Controls: completeness over the shown orders; dashed: the noise ceiling"
    return _grid(store.all("controls"), draw, title, "layer", "completeness", legend_columns=3)


def _verdicts(store: Store) -> Figure | None:
    """Draw the verdict of each claim on each task and pair under the default reading."""
    found = verdicts(store)
    rows = sorted({name for tasks in found.values() for name in tasks})
    if not rows:
        return None
    marks = np.full((len(rows), len(CLAIMS)), np.nan)
    for column, claim in enumerate(CLAIMS):
        for name, views in found[claim].items():
            verdict = views["default"]
            if verdict in VERDICTS[:3]:
                marks[rows.index(name), column] = VERDICTS.index(verdict)
    figure = Figure(figsize=(7.5, 0.3 * len(rows) + 1.2), layout="constrained")
    ax = figure.subplots()
    ax.pcolormesh(marks, cmap=ListedColormap([_BLUE, "#F0E442", _ORANGE]), vmin=0, vmax=2, edgecolors="white")
    ax.set_xticks(np.arange(len(CLAIMS)) + 0.5, list(CLAIMS))
    ax.set_yticks(np.arange(len(rows)) + 0.5, [name.replace(".", " and ") for name in rows], fontsize=8)
    ax.invert_yaxis()
    ax.xaxis.tick_top()
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    for row, name in enumerate(rows):
        for column, claim in enumerate(CLAIMS):
            if not math.isnan(marks[row, column]):
                colour = "black" if marks[row, column] == 1 else "white"
                text = VERDICTS[int(marks[row, column])] + ("*" if name in EXCEPTED.get(claim, ()) else "")
                ax.text(column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=6.5, color=colour)
    return figure


FIGURES: dict[str, Callable[[Store], Figure | None]] = {
    "verdicts": _verdicts,
    "c1_sparsity": _sparsity,
    "c2_strength": _strengths,
    "c4_completeness": _over_layers("completeness", "C4: completeness by layer; dashed: the noise ceilings"),
    "c5_redundancy": _over_layers("redundancy", "C5: redundancy by layer"),
    "c6_iou": _iou,
    "c7_stability": _by_order("by_order", "C7: stability of salient interactions, noise on the inputs", "|mean| / sd"),
    "c8_kappa": _kappa,
    "c9_input_noise": _by_order("input_noise", "C9: size of the noise relative to that of a set", "relative size"),
    "controls": _controls,
}
