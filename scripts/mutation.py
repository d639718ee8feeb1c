"""Count how many small changes of the code the tests notice: `python scripts/mutation.py --sample 200`.

The changes are cosmic-ray's, in the packages decomposition, values and knowledge: another operator, number, comparison,
boolean, exception, no decorator, no loop. A sample is drawn at random. Each change is made in a copy of the package. Of
the fast tests of its package that execute the changed line, the forty that take least time run until one fails. A
change is killed if a test fails, or if they take three times as long as before and a minute; else it survives. Which
tests execute a line is found by one run of each package's tests under coverage, which is kept in --work.

Changes that leave the compiled code as it was, annotations for one, are not drawn. Other tests than those of the
package may notice more. Needs os.fork: Linux and macOS.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import cosmic_ray.plugins
import coverage
from cosmic_ray.ast import ast_nodes, get_ast_from_path
from cosmic_ray.mutating import mutate_code

ROOT = Path(__file__).parents[1]
ROOMS = ("decomposition", "values", "knowledge")
MOST_TESTS = 40  # more would find more: what is killed is a lower bound
NOTHING_RAN = 5  # pytest's exit code
FAST = ("-m", "not slow", "-p", "no:cacheprovider", "-q")


class Change(NamedTuple):
    """One change: a file, cosmic-ray's operator, which of its places, and the line."""

    room: str
    file: str
    operator: str
    occurrence: int
    line: int


def main() -> None:
    """Draw changes, run tests against each, and write and print what came of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, default=200, help="how many changes")
    parser.add_argument("--minutes", type=float, default=math.inf, help="after which no other change is tried")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--room", choices=ROOMS, action="append", help="one package; may be repeated; default all")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "mutation")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    rooms = given.room or ROOMS
    tests = {room: tests_by_line(room, given.work) for room in rooms}
    tree = given.work / "tree"
    shutil.rmtree(tree, ignore_errors=True)
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".*", "build", "dist", "__pycache__", "tutorials"))
    for room in rooms:
        assert run_in_a_child(list(tests[room].seconds), tree, 600, "--collect-only") == 0, f"the tests of {room} moved"
    rng = random.Random(given.seed)
    changes = [change for room in rooms for change in changes_of(room)]
    rng.shuffle(changes)
    ends, rows = time.monotonic() + 60 * given.minutes, []
    for change in changes:
        if len(rows) == given.sample or time.monotonic() > ends:
            break
        original = (ROOT / change.file).read_text(encoding="utf-8")
        changed = mutate_code(original, cosmic_ray.plugins.get_operator(change.operator)(), change.occurrence)
        if changed is None or same_code(original, changed):
            continue
        outcome, seconds = outcome_of(change, changed, original, tests[change.room], tree)
        rows.append({**change._asdict(), "outcome": outcome, "seconds": round(seconds, 1)})
        print(f"{len(rows)}: {outcome}: {change.file}:{change.line} {change.operator}", flush=True)
        if outcome == "survived":
            print(*(line for line in differing(original, changed)), sep="\n", flush=True)
        (given.work / "outcomes.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    print_summary(rows, len(changes))


# ---------------------------------------------------------------- which tests execute a line


class Tests(NamedTuple):
    """Tests of a package: of each line of each file, and how long each takes."""

    by_line: dict[str, dict[int, list[str]]]
    seconds: dict[str, float]


def tests_by_line(room: str, work: Path) -> Tests:
    """Run the tests of a package under coverage, unless that was done, and return which tests execute which line."""
    data_file, times = work / f"{room}.coverage", work / f"{room}.xml"
    if not (data_file.exists() and times.exists()):
        command = [sys.executable, "-m", "pytest", f"tests/{room}", f"--junitxml={times}", *FAST]
        command += ["--cov=captum_lkn", "--cov-branch", "--cov-context=test", "--cov-report=term"]
        subprocess.run(command, cwd=ROOT, check=True, env={**os.environ, "COVERAGE_FILE": str(data_file)})
    seconds = {}
    for case in ElementTree.parse(times).iter("testcase"):
        path = case.get("classname", "").replace(".", "/") + ".py"
        name = f"{path}::{case.get('name')}"
        seconds[name] = float(case.get("time", 0))
    data = coverage.CoverageData(str(data_file))
    data.read()
    by_line = {}
    for file in data.measured_files():
        if f"captum_lkn/{room}/" in file:
            contexts = data.contexts_by_lineno(file)
            name = f"captum_lkn/{file.rpartition('captum_lkn/')[2]}"
            by_line[name] = {line: [c.partition("|")[0] for c in found if c] for line, found in contexts.items()}
    return Tests(by_line, seconds)


# ---------------------------------------------------------------- changes


def changes_of(room: str) -> list[Change]:
    """Return all changes of a package."""
    found = []
    for path in sorted((ROOT / "captum_lkn" / room).rglob("*.py")):
        nodes = list(ast_nodes(get_ast_from_path(path)))
        for name in cosmic_ray.plugins.operator_names():
            operator = cosmic_ray.plugins.get_operator(name)
            if operator.arguments():
                continue
            places = [start for node in nodes for start, _ in operator().mutation_positions(node)]
            file = str(path.relative_to(ROOT))
            found += [Change(room, file, name, number, start[0]) for number, start in enumerate(places)]
    return found


def same_code(one: str, other: str) -> bool:
    """Return whether two texts compile to the same code: what differs is an annotation, or nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return compiled(one) == compiled(other)
        except SyntaxError:
            return True


def compiled(text: str) -> Any:
    """Return the code of a text without docstrings, annotations, which are never evaluated, and line numbers."""
    import ast

    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.returns = None
        if isinstance(node, ast.arg):
            node.annotation = None
        if isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(None)
    return ast.dump(tree)


def differing(one: str, other: str) -> list[str]:
    """Return the lines that a change changed."""
    pairs = zip(one.splitlines(), other.splitlines(), strict=False)
    return [f"    - {before.strip()}\n    + {after.strip()}" for before, after in pairs if before != after][:2]


# ---------------------------------------------------------------- running


def outcome_of(change: Change, changed: str, original: str, tests: Tests, tree: Path) -> tuple[str, float]:
    """Return whether the tests notice a change, and the seconds that took."""
    at_import = change.line not in tests.by_line.get(change.file, {})
    chosen = tests.by_line.get(change.file, {}).get(change.line, [])
    if not chosen:  # a module's own line, which runs when it is imported, or the inner line of an expression, or none
        lines = tests.by_line.get(change.file, {})
        above = [line for line in lines if line <= change.line and lines[line]]
        chosen = lines[max(above)] if at_import and above else [test for found in lines.values() for test in found]
    names = {test: tests.seconds.get(test, 1.0) for test in chosen}
    if not names:
        return "survived", 0.0
    order = sorted(names, key=names.__getitem__)[:MOST_TESTS]
    limit = 60 + 3 * sum(names[test] for test in order)
    target, started = tree / change.file, time.monotonic()
    target.write_text(changed, encoding="utf-8")
    try:
        code = run_in_a_child(order, tree, limit)
    finally:
        target.write_text(original, encoding="utf-8")
    return ("survived" if code in (0, NOTHING_RAN) else "killed"), time.monotonic() - started


def run_in_a_child(names: list[str], tree: Path, limit: float, *options: str) -> int:
    """Return pytest's exit code, or -1 where the time was over."""
    child, started = os.fork(), time.monotonic()
    if not child:
        run_tests(names, tree, *options)
    while time.monotonic() - started < limit:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.1)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return -1


def run_tests(names: list[str], tree: Path, *options: str) -> None:
    """Run tests in this process, a child that has imported what is slow to import, and end it."""
    import pytest

    os.chdir(tree)
    sys.path[:0] = [str(tree)]
    sys.dont_write_bytecode = True
    code = 1
    with open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing), contextlib.redirect_stderr(nothing):
        try:
            code = int(pytest.main(["-x", *FAST, "--rootdir", str(tree), *options, *names]))
        finally:
            os._exit(code)


def print_summary(rows: list[dict[str, Any]], whole: int) -> None:
    """Print the share of changes that were killed, in all and by package, with its 95 % interval (Wilson)."""
    for room in (*ROOMS, None):
        counts = Counter(row["outcome"] for row in rows if room in (None, row["room"]))
        n, killed = sum(counts.values()), counts["killed"]
        if n:
            p, z = killed / n, 1.96
            middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
            low, high = ((middle + sign * half) / (1 + z * z / n) for sign in (-1, 1))
            print(f"{room or 'all'}: {killed} of {n} killed, {p:.0%} (95 % interval {low:.0%} to {high:.0%})")
    print(f"drawn from {whole} changes, annotations included")


if __name__ == "__main__":
    # what takes seconds to import and is not of the library: once, and not in each child
    import captum.attr
    import hypothesis
    import scipy.optimize
    import torch
    import transformers

    torch.set_num_threads(1)
    assert not any(name.startswith("captum_lkn") for name in sys.modules)
    _ = captum, hypothesis, scipy, transformers
    main()
