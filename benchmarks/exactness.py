"""Exactness of the decomposition over options, kinds of tables and numbers of players.

    python benchmarks/exactness.py [--players 2 --players 3 ...] [--tables 3] [--quick] [--add] [--out FOLDER]

For each set of options, each kind of table and each number of players it solves some tables, one at a time, and counts
those that are not exact: a certified gap above 1e-8, a value missed beyond kappa, or an effect between 0 and 1e-9 of
the largest one. Where kappa is smaller than that, effects of its size are part of the optimum: there it is an effect
below 1e-3 of kappa. It writes exactness.json and exactness.md to the folder; with --add, what the folder holds of other
numbers of players, from a machine of the same name, stays.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from _results import RESULTS, machine, write
from _tables import perceptron, planted
from torch import Tensor

PROGRAM = {"order_weight": 0.0, "or_weight": 1.0, "ridge": 0.0}
OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "the paper's program": PROGRAM,
    "the paper's program, free ends": {**PROGRAM, "pin_ends": False},
    "free ends": {"pin_ends": False},
    "kappa 1e-7 of the range": {"share": 1e-7},
    "kappa 1e-7, free ends": {"share": 1e-7, "pin_ends": False},
    "kappa 1e-9 of the range": {"share": 1e-9},
    "kappa 1e-3 of the range": {"share": 1e-3},
    "kappa 0.3 of the range": {"share": 0.3},
    "kappa 0.3, free ends": {"share": 0.3, "pin_ends": False},
    "noise = 0": {"noise": 0.0},
    "the paper's program, noise = 0": {**PROGRAM, "noise": 0.0},
    "or_weight = 1": {"or_weight": 1.0},
    "ridge = 1e-4": {"ridge": 1e-4},
    "AND effects alone": {"kind": "and"},
}
SLOW = (  # for dense tables of many players
    "noise = 0",
    "the paper's program, noise = 0",
    "kappa 1e-9 of the range",
    "kappa 1e-7 of the range",
    "kappa 1e-7, free ends",
)
TOLERANCE, REMAINS, OF_KAPPA, MISSED = 1e-8, 1e-9, 1e-3, 1e-9


def main(
    players: Annotated[list[int] | None, typer.Option(help="numbers of players; 2 to 12 by default")] = None,
    tables: Annotated[int, typer.Option(help="tables of each kind and number of players")] = 3,
    quick: Annotated[bool, typer.Option(help="up to five players")] = False,
    add: Annotated[bool, typer.Option(help="keep the results of other numbers of players")] = False,
    out: Annotated[Path, typer.Option(help="the folder for the results")] = RESULTS,
) -> None:
    """Measure, print and write the results."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    sizes = players or list(range(2, 6 if quick else 13))
    cells = _known(out / "exactness.json", sizes) if add else []
    for n in sizes:
        for kind, values in _tables(n, tables).items():
            for name, options in OPTIONS.items():
                cell = _measure(n, kind, name, options, values)
                if cell is not None:
                    cells.append(cell)
                    print(json.dumps(cell), flush=True)
    cells.sort(key=lambda cell: cell["n"])
    text = _markdown(cells)
    write("exactness", "Exactness of the decomposition", {"cells": cells}, text, out)
    typer.echo(text)


def _known(file: Path, sizes: list[int]) -> list[dict[str, Any]]:
    """Return the cells of a file for numbers of players that are not measured now."""
    known = json.loads(file.read_text(encoding="utf-8"))
    if known["machine"] != machine():
        raise typer.BadParameter(f"{file} was measured on another machine, {known['machine']}; leave out --add")
    return [cell for cell in known["cells"] if cell["n"] not in sizes]


def _tables(n: int, count: int) -> dict[str, Tensor]:
    """Tables of each kind, ``[k, 2^n]``; fewer from 11 players on, where one takes seconds."""
    count = count if n <= 10 else max(1, count // 3)
    generator = torch.Generator().manual_seed(1000 + n)
    networks = torch.stack([perceptron(n, generator) for _ in range(count)])
    perturbation = 1e-15 * torch.randn(networks.shape, generator=generator, dtype=torch.float64)
    return {
        "perceptrons": networks,
        "the same, changed by 1e-15": networks * (1 + perturbation),
        "random": torch.randn(count, 1 << n, generator=generator, dtype=torch.float64),
        "integers": torch.randint(-3, 4, (count, 1 << n), generator=generator).double(),
        "few effects": torch.stack([planted(n, 8, generator, whole=True) for _ in range(count)]),
    }


def _measure(n: int, kind: str, name: str, options: dict[str, Any], values: Tensor) -> dict[str, Any] | None:
    from captum_lkn import decompose
    from captum_lkn.decomposition import LargeGapError

    if n > 10 and name in SLOW and kind != "few effects":
        values = values[:1]
    if n > 11 and name in SLOW and kind != "few effects":
        return None  # a minute and more for each table; benchmarks/decomposition.py has some of them
    given = dict(options)
    share = given.pop("share", None)
    gaps, remains, missed, seconds, nonzero, least = [], [], [], [], [], []
    for table in values:
        spread = float(table.max() - table.min())
        limit = {} if share is None else {"kappa": share * spread}
        start = time.process_time()
        try:
            found = decompose(table, largest_gap=1e300, **given, **limit)
        except LargeGapError as error:  # no bound at all
            found = error.decomposition
        seconds.append(time.process_time() - start)
        effects = torch.cat([found.and_effects[1:], found.or_effects[1:]]).abs()
        effects = effects[effects > 0]
        gaps.append(float(found.gap))
        remains.append(float(effects.min() / effects.max()) if len(effects) else 1.0)
        missed.append(float((found.residual.abs().max() - found.kappa).clamp_min(0)) / spread if spread else 0.0)
        nonzero.append(len(effects))
        of_largest = float(found.kappa) / float(effects.max()) if len(effects) else 0.0
        least.append(min(REMAINS, OF_KAPPA * of_largest) if of_largest > 0 else REMAINS)
    measured = zip(gaps, remains, least, missed, strict=True)
    inexact = [g > TOLERANCE or r < at_least or m > MISSED for g, r, at_least, m in measured]
    return {
        "n": n,
        "tables": kind,
        "options": name,
        "number": len(values),
        "inexact": sum(inexact),
        "largest_gap": max(gaps),
        "smallest_effect": min(remains),
        "missed": max(missed),
        "median_seconds": float(np.median(seconds)),
        "largest_seconds": max(seconds),
        "nonzero": float(np.mean(nonzero)),
    }


def _by_players(cells: list[dict[str, Any]], entry: Callable[[list[dict[str, Any]]], str]) -> list[str]:
    """A table of options by players; an entry is empty where nothing was run."""
    sizes = sorted({cell["n"] for cell in cells})
    lines = ["| options | " + " | ".join(f"n = {n}" for n in sizes) + " |", "|---|" + "---:|" * len(sizes)]
    for name in OPTIONS:
        found = [[c for c in cells if c["options"] == name and c["n"] == n] for n in sizes]
        lines.append(f"| {name} | " + " | ".join(entry(here) if here else "" for here in found) + " |")
    return lines


def _gap(here: list[dict[str, Any]]) -> str:
    bad = sum(c["inexact"] for c in here)
    return f"{max(c['largest_gap'] for c in here):.0e}" + (f" ({bad})" if bad else "")


def _times(here: list[dict[str, Any]]) -> str:
    ratio = max(c["largest_seconds"] / c["median_seconds"] for c in here)
    return f"{1e3 * np.median([c['median_seconds'] for c in here]):.1f}, {ratio:.1f}"


def _markdown(cells: list[dict[str, Any]]) -> str:
    """A table of options by players: inexact of all tables, and the largest gap."""
    total, wrong = sum(c["number"] for c in cells), sum(c["inexact"] for c in cells)
    lines = [
        f"Machine: {machine()}; one thread, processor times.",
        "",
        f"Decompositions that are not exact: {wrong} of {total}. Not exact: a gap above {TOLERANCE:g}, a value missed "
        f"by {MISSED:g} of the range beyond kappa, or an effect between 0 and {REMAINS:g} of the largest "
        f"(and {OF_KAPPA:g} of kappa, where that is less).",
        "",
        "Largest gap, with the number of decompositions that are not exact where there are any:",
        "",
        *_by_players(cells, _gap),
        "",
        "Median time of a table in ms, and the slowest in medians of its options, kind and number of players:",
        "",
        *_by_players(cells, _times),
    ]
    bad = sorted((c for c in cells if c["inexact"]), key=lambda c: -c["largest_gap"])
    if bad:
        lines += ["", "| not exact | n | tables | number | largest gap | smallest effect | missed |"]
        lines += ["|---|" + "---:|" * 6]
        lines += [
            f"| {c['options']} | {c['n']} | {c['tables']} | {c['inexact']} of {c['number']} | {c['largest_gap']:.0e} | "
            f"{c['smallest_effect']:.0e} | {c['missed']:.0e} |"
            for c in bad
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    typer.run(main)
