"""Time, memory and certified gap of the decomposition with 10 to 20 players.

    python benchmarks/large.py [--only ROW ...] [--quick] [--out FOLDER]

Each row is a kind of table, solved one at a time in a process of its own, so that the peak of memory is the row's. The
tables are drawn here: sums of AND and OR effects of up to four players with Gaussian noise on every value (its standard
deviation as a share of the range of the values), and random ReLU perceptrons, whose answers are dense. Times are
processor times of one thread. The script writes large.json and large.md to the folder; with --only, the other rows
stay as they are there. Each row names the machine that it was measured on.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
import typer
from _results import RESULTS, machine, write
from _tables import perceptron, planted


class Row(NamedTuple):
    """One kind of table and how it is decomposed."""

    n: int
    number: int
    terms: int  # planted effects; 0: a random perceptron
    value_noise: float = 0.0
    options: tuple[tuple[str, float], ...] = ()

    @property
    def name(self) -> str:
        """The row's name."""
        kind = f"{self.terms} planted effects" if self.terms else "random perceptrons"
        noise = f", {100 * self.value_noise:g} % noise" if self.value_noise else ""
        options = "".join(f", {key}={value:g}" for key, value in self.options)
        return f"{kind}, n = {self.n}{noise}{options}"


EXACT = (("noise", 0.0),)
PROGRAM = (("order_weight", 0.0), ("or_weight", 1.0), ("ridge", 0.0))
ROWS = (
    *(Row(n, 5, 0, options=options) for n in (10, 11) for options in ((), EXACT, (*PROGRAM, *EXACT))),
    Row(12, 13, 0),
    Row(12, 2, 0, options=EXACT),
    Row(12, 2, 0, options=(("kappa", 1e-9),)),
    Row(13, 1, 0),
    Row(14, 2, 0, options=(("tolerance", 1e-3),)),
    Row(16, 2, 0, options=(("tolerance", 1e-2),)),
    Row(14, 5, 50),
    *(Row(n, 2, 50) for n in (16, 18, 20)),
    Row(16, 2, 20, 0.01),
    *(Row(n, 1, 20, noise) for n, noise in ((16, 0.03), (18, 0.01), (20, 0.01))),
)
COLUMNS = ("tables", "number", "s a table", "slowest, s", "peak of memory, MB", "largest gap", "nonzero", "error")


def main(
    only: Annotated[list[str] | None, typer.Option(help="rows to measure, by their names")] = None,
    quick: Annotated[bool, typer.Option(help="rows of up to 12 players, one table each")] = False,
    out: Annotated[Path, typer.Option(help="the folder for the results")] = RESULTS,
    measure: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Measure, print and write the results."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    if measure is not None:  # a process of its own
        typer.echo(json.dumps(_measure(ROWS[measure], 1 if quick else ROWS[measure].number)))
        return
    file = out / "large.json"
    rows = json.loads(file.read_text())["rows"] if only and file.exists() else {}
    for index, row in enumerate(ROWS):
        if (only and row.name not in only) or (quick and row.n > 12):
            continue
        command = [sys.executable, __file__, "--measure", str(index), *(["--quick"] if quick else [])]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
        rows[row.name] = json.loads(done.stdout.splitlines()[-1])
        print(row.name, rows[row.name], flush=True)
        ordered = {each.name: rows[each.name] for each in ROWS if each.name in rows}
        write("large", "Decomposition with 10 to 20 players", {"rows": ordered}, _markdown(ordered), out)


def _measure(row: Row, number: int) -> dict[str, Any]:
    from captum_lkn import decompose
    from captum_lkn.decomposition import LargeGapError

    generator = torch.Generator().manual_seed(1000 + row.n)
    seconds, gaps, nonzero, errors = [], [], [], 0
    for _ in range(number):
        values = planted(row.n, row.terms, generator) if row.terms else perceptron(row.n, generator)
        spread = float(values.max() - values.min())
        values += row.value_noise * spread * torch.randn(len(values), generator=generator, dtype=torch.float64)
        start = time.process_time()
        try:
            found = decompose(values, **dict(row.options))
        except LargeGapError as error:
            found, errors = error.decomposition, errors + 1
        seconds.append(time.process_time() - start)
        gaps.append(float(found.gap))
        nonzero.append(int((found.and_effects[1:] != 0).sum() + (found.or_effects[1:] != 0).sum()))
    return {
        "number": number,
        "seconds": float(np.mean(seconds)),
        "slowest": max(seconds),
        "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "largest_gap": max(gaps),
        "gaps": gaps,
        "nonzero": float(np.mean(nonzero)),
        "errors": errors,
        "machine": machine(),
    }


def _markdown(rows: dict[str, dict[str, Any]]) -> str:
    lines = [
        "One thread, processor times. Memory is the whole process's, of which about 260 MB are Python's and torch's. "
        "An error: the gap stayed above 10 %.",
    ]
    for where in dict.fromkeys(m["machine"] for m in rows.values()):
        lines += ["", f"Machine: {where}.", "", "| " + " | ".join(COLUMNS) + " |"]
        lines.append("|---|" + "---:|" * (len(COLUMNS) - 1))
        lines += [
            f"| {name} | {m['number']} | {m['seconds']:.2f} | {m['slowest']:.2f} | {m['megabytes']:.0f} | "
            f"{m['largest_gap']:.0e} | {m['nonzero']:.0f} | {m['errors'] or ''} |"
            for name, m in rows.items()
            if m["machine"] == where
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    typer.run(main)
