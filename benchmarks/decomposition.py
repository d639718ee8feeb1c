"""Speed and quality of the decomposition against SciPy's HiGHS, in one run on one machine.

    python benchmarks/decomposition.py

Six value tables of a language model with ten players (tests/data). HiGHS solves the linear program of each, with its
default settings; only the call of ``linprog`` is timed. ``decompose`` solves the six tables tiled to a batch of 64.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy.optimize import linprog

from captum_lkn import decompose
from captum_lkn.decomposition.decompose import build_problem
from captum_lkn.decomposition.options import DecompositionOptions
from captum_lkn.decomposition.solvers import highs

TABLES = Path(__file__).parent.parent / "tests" / "data" / "sparse_optima.npz"
SETTINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "default, tolerance 0.02": {"tolerance": 0.02},
    "the paper's linear program": {"order_weight": 0.0, "or_weight": 1.0, "ridge": 0.0},
    "the same, tolerance 0.02": {"order_weight": 0.0, "or_weight": 1.0, "ridge": 0.0, "tolerance": 0.02},
}


def main() -> None:
    """Print the table."""
    warnings.simplefilter("ignore")
    data = np.load(TABLES)
    values = torch.tensor(data["n10_values"])
    optimum = torch.tensor(data["n10_optimum_noise_pinned_ends"])
    programs = [_program(v) for v in values]
    per_table = float(np.mean([_seconds(lambda program=program: linprog(**program))[0] for program in programs]))
    tiled, tiled_optimum = values.repeat(11, 1)[:64], optimum.repeat(11)[:64]
    decompose(values)  # warm up

    table = Table(title=f"n = 10; {torch.get_num_threads()} threads; HiGHS: {per_table:.2f} s a table")
    for heading in (
        "decompose",
        "ms a table",
        "times faster",
        "largest certified gap",
        "plain sum above optimum, mean",
    ):
        table.add_column(heading, justify="left" if heading == "decompose" else "right")
    for name, options in SETTINGS.items():
        seconds, found = _seconds(lambda options=options: decompose(tiled, **options))
        excess = float((found.objective / tiled_optimum - 1).mean())
        table.add_row(
            name,
            f"{seconds / len(tiled) * 1e3:.1f}",
            f"{per_table * len(tiled) / seconds:.0f}",
            f"{float(found.gap.max()):.1e}",
            f"{max(excess, 0.0):.2%}",
        )
    Console().print(table)


def _seconds(run: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = run()
    return time.perf_counter() - start, result


def _program(values: torch.Tensor) -> dict[str, Any]:
    tables = values.unsqueeze(0)
    kappa = 0.04 * (tables[:, -1:] - tables[:, :1]).abs()
    problem, _ = build_problem(tables, kappa, DecompositionOptions(order_weight=0.0, or_weight=1.0, ridge=0.0))
    return highs.program(problem[0])


if __name__ == "__main__":
    main()
