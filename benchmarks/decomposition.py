"""Speed and exactness of the decomposition, against HiGHS and against another checkout, in one run on one machine.

    python benchmarks/decomposition.py [--before CHECKOUT] [--tables FILE.npz ...] [--quick] [--out FOLDER]

The tables are those of tests/data, those of the files given, and networks drawn here (HELD_OUT), on which nothing was
tuned. Another checkout, such as ``git worktree add ../before COMMIT``, solves the same tables in a process of its own;
the ratio of the times is printed. Times are processor times of one thread. The script writes decomposition.json and
decomposition.md to the folder.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from _results import RESULTS, machine, write
from _tables import masks, perceptron, planted
from scipy.optimize import linprog
from torch import Tensor

DATA = Path(__file__).parent.parent / "tests" / "data"
HELD_OUT = 20261126  # the seed of the networks drawn here
COLUMNS = (
    "tables",
    "number",
    "n",
    "ms",
    "ms, batch",
    "slowest / median",
    "largest gap",
    "converged",
    "nonzero",
    "before, ms",
)


def main(
    before: Annotated[Path | None, typer.Option(help="another checkout, to compare with")] = None,
    tables: Annotated[list[Path] | None, typer.Option(help="more tables: npz files of arrays [k, 2^n]")] = None,
    quick: Annotated[bool, typer.Option(help="four tables of each kind")] = False,
    out: Annotated[Path, typer.Option(help="the folder for the results")] = RESULTS,
    solve: Annotated[Path | None, typer.Option(hidden=True)] = None,
) -> None:
    """Measure, print and write the results."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    if solve is not None:  # the other checkout's process
        typer.echo(json.dumps({name: _measure(v) for name, v in np.load(solve).items()}))
        return
    sets = {name: v[:4] if quick else v for name, v in _tables(tables or []).items()}
    results = {name: _measure(v) for name, v in sets.items()}
    if before is not None:
        for name, measured in _elsewhere(before, sets).items():
            results[name]["before"] = measured
    report = {
        "highs_seconds_a_table": _highs(np.load(DATA / "sparse_optima.npz")["n10_values"][: 1 if quick else 3]),
        "tables": results,
    }
    text = _markdown(report)
    write("decomposition", "Speed of the decomposition", report, text, out)
    typer.echo(text)


def _tables(files: list[Path]) -> dict[str, np.ndarray[Any, Any]]:
    sets = {}
    for file in (DATA / "sparse_optima.npz", DATA / "hard_tables.npz", *files):
        for name, values in np.load(file).items():
            if values.ndim == 2 and "optimum" not in name:
                sets[f"{file.stem}: {name}"] = values
    generator = torch.Generator().manual_seed(HELD_OUT)
    for n, count in ((6, 1000), (8, 10), (10, 10)):
        sets[f"held out, ReLU perceptrons of {n}"] = torch.stack(
            [perceptron(n, generator) for _ in range(count)]
        ).numpy()
    sets["held out, CNNs of 10"] = torch.stack([_cnn(10, generator) for _ in range(10)]).numpy()
    for n in (14, 16):
        sets[f"held out, 50 planted effects of {n}"] = planted(n, 50, generator).unsqueeze(0).numpy()
    return sets


def _cnn(n: int, generator: torch.Generator) -> Tensor:
    """A random convolutional network on a picture of 8 x 8 pixels, whose players are random groups of pixels."""
    group = torch.randint(0, n, (64,), generator=generator)
    picture = torch.rand(64, generator=generator, dtype=torch.float64)
    maps = (masks(n)[:, group] * picture).view(-1, 1, 8, 8)
    for inside, outside in ((1, 8), (8, 16)):
        kernel = torch.randn(outside, inside, 3, 3, generator=generator, dtype=torch.float64) / (3 * inside**0.5)
        maps = torch.relu(torch.nn.functional.conv2d(maps, kernel, padding=1))
    return maps.mean((-2, -1)) @ torch.randn(16, generator=generator, dtype=torch.float64)


def _measure(values: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Solve the tables one by one (at most 60 of them), and as one batch."""
    from captum_lkn import decompose

    v = torch.tensor(values)
    decompose(v[:1])
    seconds = [_seconds(lambda one=one: decompose(one))[0] for one in v[:60]]
    together, found = _seconds(lambda: decompose(v))
    effects = torch.stack([found.and_effects, found.or_effects], 1)[..., 1:]
    return {
        "number": len(v),
        "n": int(np.log2(v.shape[-1])),
        "ms": 1e3 * float(np.mean(seconds)),
        "ms_in_a_batch": 1e3 * together / len(v),
        "slowest_to_median": float(np.max(seconds) / np.median(seconds)),
        "largest_gap": float(found.gap.max()),
        "converged": int(found.converged.sum()),
        "nonzero": float((effects != 0).sum((1, 2)).double().mean()),
    }


def _seconds(run: Any) -> tuple[float, Any]:
    start = time.process_time()
    result = run()
    return time.process_time() - start, result


def _elsewhere(checkout: Path, sets: dict[str, Any]) -> dict[str, Any]:
    """The same measures by another checkout's library; without the tables that are too large for an older one."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tables.npz"
        np.savez(file, **{name: v for name, v in sets.items() if v.shape[-1] <= 1 << 12})
        command = [sys.executable, str(Path(__file__).resolve()), "--solve", str(file)]
        environment = {**os.environ, "PYTHONPATH": str(checkout.resolve()), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


def _highs(values: np.ndarray[Any, Any]) -> float:
    """Seconds of HiGHS for the linear program of a table."""
    from captum_lkn.decomposition.decompose import build_problem
    from captum_lkn.decomposition.options import DecompositionOptions
    from captum_lkn.decomposition.solvers import highs

    v = torch.tensor(values)
    kappa = 0.04 * (v[:, -1:] - v[:, :1]).abs()
    problem, _ = build_problem(v, kappa, DecompositionOptions(order_weight=0.0, ridge=0.0))
    programs = [highs.program(problem[i]) for i in range(len(v))]
    return float(np.mean([_seconds(lambda program=program: linprog(**program))[0] for program in programs]))


def _markdown(report: dict[str, Any]) -> str:
    lines = [
        f"Machine: {machine()}; one thread, processor times. HiGHS, n = 10: "
        f"{report['highs_seconds_a_table']:.2f} s a table.",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|---|" + "---:|" * (len(COLUMNS) - 1),
    ]
    for name, m in report["tables"].items():
        old = m.get("before")
        compared = f"{old['ms']:.0f} ({old['ms'] / m['ms']:.1f} x), gap {old['largest_gap']:.0e}" if old else ""
        lines.append(
            f"| {name} | {m['number']} | {m['n']} | {m['ms']:.1f} | {m['ms_in_a_batch']:.2f} | "
            f"{m['slowest_to_median']:.1f} | {m['largest_gap']:.0e} | {m['converged']} | {m['nonzero']:.0f} | "
            f"{compared} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    typer.run(main)
