"""Count how many small changes of the code the tests notice: `python scripts/mutation.py --sample 200 --seed 1`.

The changes are cosmic-ray's, in the packages decomposition, values and knowledge: another operator, number, comparison,
boolean, exception, no decorator, no loop. A sample is drawn at random. Each change is made in a copy of the checkout,
and the fast tests that execute the changed line run until one fails: of the three packages, of attribution and of
baselines, those of the changed package first, the quickest first, as many as take `--seconds` together. A change is
killed if a test fails, or if they take more than `--limit` seconds of processor time; else it survives. Which tests
execute a line is found by a run of all under coverage. It is kept in `--work` until a line of the packages changes; of
the tests, files that have changed are run anew.

A run that is ended goes on where it stopped: outcomes are kept in `--work`, too, for each seed. A change that survived
is tried again when a test has changed. Changes that leave the compiled code as it was, annotations for one, are not
drawn. Other tests than those of the packages may notice more. Needs os.fork: Linux and macOS.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import hashlib
import json
import math
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import cosmic_ray.plugins
import coverage
from cosmic_ray.ast import ast_nodes, get_ast_from_path
from cosmic_ray.mutating import mutate_code

ROOT = Path(__file__).parents[1]
PACKAGES = ("decomposition", "values", "knowledge")
# What executes them: their own tests, those in their docstrings, and those of the classes that are thin over `values`.
PLACES = (
    *(f"tests/{package}" for package in PACKAGES),
    *(f"captum_lkn/{package}" for package in PACKAGES),
    "tests/attribution",
    "tests/baselines",
)
INTERFACE = "tests/test_public_api.py"  # which holds the defaults, that a module sets when it is imported
NOTHING_RAN = 5  # pytest's exit code
FAST = ("-m", "not slow", "-p", "no:cacheprovider", "-p", "no:xdist", "-q")


class Change(NamedTuple):
    """One change: a file, cosmic-ray's operator, which of its places, and the line."""

    package: str
    file: str
    operator: str
    occurrence: int
    line: int


def main() -> None:
    """Draw changes, run tests against each, and write and print what came of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, default=200, help="how many changes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=math.inf, help="after which no other change is tried")
    parser.add_argument("--seconds", type=float, default=20, help="of tests for one change, as they took before")
    parser.add_argument("--limit", type=float, default=60, help="seconds of processor time for one change")
    parser.add_argument(
        "--package", choices=PACKAGES, action="append", help="one package; may be repeated; default all"
    )
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "mutation")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    tests = tests_by_line(given.work)
    tree = given.work / "tree"
    shutil.rmtree(tree, ignore_errors=True)
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".*", "build", "dist", "__pycache__", "tutorials"))
    assert run_in_a_child(list(tests.seconds), tree, 600, "--collect-only") == 0, "the tests moved"
    rng = random.Random(given.seed)
    changes = [change for package in given.package or PACKAGES for change in changes_of(package)]
    rng.shuffle(changes)
    kept, ends, rows = Kept(given.work / f"outcomes-{given.seed}.json"), time.monotonic() + 60 * given.minutes, []
    for change in changes:
        if len(rows) == given.sample or time.monotonic() > ends:
            break
        original = (ROOT / change.file).read_text(encoding="utf-8")
        changed = mutate_code(original, cosmic_ray.plugins.get_operator(change.operator)(), change.occurrence)
        if changed is None or same_code(original, changed):
            continue
        name = hashlib.sha256(f"{change.file} {changed}".encode()).hexdigest()
        row = kept.outcome(name, tests.fingerprint)
        if row is None:
            chosen = chosen_tests(change, tests, given.seconds)
            row = {**change._asdict(), "tests": len(chosen), "fingerprint": tests.fingerprint}
            row |= tried(change, changed, original, chosen, tree, given.limit)
            row["differs"] = differing(original, changed)
            kept.keep(name, row)
            print(f"{len(rows) + 1}: {row['outcome']}: {change.file}:{change.line} {change.operator}", flush=True)
            if row["outcome"] == "survived":
                print(*row["differs"], sep="\n", flush=True)
        rows.append(row)
    print_summary(rows, len(changes))


class Kept:
    """Outcomes in a file, by a name for each change."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def outcome(self, name: str, fingerprint: str) -> dict[str, Any] | None:
        """Return the outcome of a change; None if it is not known, or if other tests may notice it now."""
        row = self.rows.get(name)
        return row if row and (row["outcome"] != "survived" or row["fingerprint"] == fingerprint) else None

    def keep(self, name: str, row: dict[str, Any]) -> None:
        """Write an outcome down at once, so that a run can be ended at any time."""
        self.rows[name] = row
        fresh = self.path.with_suffix(".new")
        fresh.write_text(json.dumps(self.rows, indent=1), encoding="utf-8")
        fresh.replace(self.path)


# ---------------------------------------------------------------- which tests execute a line


class Tests(NamedTuple):
    """Fast tests of the packages: those of each line of each file, how long each takes, and what they were made of."""

    by_line: dict[str, dict[int, list[str]]]
    seconds: dict[str, float]
    fingerprint: str


def tests_by_line(work: Path) -> Tests:
    """Run the test files of the packages under coverage that were not run yet, and return which execute which line."""
    kept = work / "tests.json"
    shared = digest(path for package in PACKAGES for path in (ROOT / "captum_lkn" / package).rglob("*.py"))
    known = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    known = known if known.get("shared") == shared else {"shared": shared, "files": {}}
    files = {str(path.relative_to(ROOT)): digest([path]) for path in test_files()}
    known["files"] = {file: had for file, had in known["files"].items() if had["digest"] == files.get(file)}
    fresh = [file for file in files if file not in known["files"]]
    if fresh:
        known["files"] |= covered_by(fresh, work)
        for file in fresh:
            known["files"].setdefault(file, {"seconds": {}, "lines": {}})["digest"] = files[file]
        kept.write_text(json.dumps(known), encoding="utf-8")
    by_line: dict[str, dict[int, list[str]]] = {}
    seconds: dict[str, float] = {}
    for had in known["files"].values():
        seconds |= had["seconds"]
        names = list(had["seconds"])
        for file, lines in had["lines"].items():
            for line, places in lines.items():
                by_line.setdefault(file, {}).setdefault(int(line), []).extend(names[place] for place in places)
    return Tests(by_line, seconds, digest([*(ROOT / "captum_lkn").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]))


def test_files() -> list[Path]:
    """Return the files with tests of the packages, and those whose docstrings are tests."""
    found: list[Path] = []
    for place in PLACES:
        found += sorted((ROOT / place).rglob("test_*.py" if place.startswith("tests/") else "*.py"))
    return found


def covered_by(files: list[str], work: Path) -> dict[str, dict[str, Any]]:
    """Run test files under coverage: of each the seconds of its tests, and by file and line those that execute it."""
    data_file, times = work / "fresh.coverage", work / "fresh.xml"
    command = [sys.executable, "-m", "pytest", *files, f"--junitxml={times}", *FAST]
    command += ["--cov=captum_lkn", "--cov-branch", "--cov-context=test", "--cov-report="]
    subprocess.run(command, cwd=ROOT, check=True, env={**os.environ, "COVERAGE_FILE": str(data_file)})
    found: dict[str, dict[str, Any]] = {}
    for case in ElementTree.parse(times).iter("testcase"):
        file = case.get("classname", "").replace(".", "/") + ".py"
        own = found.setdefault(file, {"seconds": {}, "lines": {}})
        own["seconds"][f"{file}::{case.get('name')}"] = float(case.get("time", 0))
    place_of = {name: place for own in found.values() for place, name in enumerate(own["seconds"])}
    data = coverage.CoverageData(str(data_file))
    data.read()
    for measured in data.measured_files():
        name = f"captum_lkn/{measured.rpartition('captum_lkn/')[2]}"
        if name.split("/")[1] not in PACKAGES:
            continue
        for line, contexts in data.contexts_by_lineno(measured).items():
            for own in found.values():
                own["lines"].setdefault(name, {})[line] = []
            for test in {context.partition("|")[0] for context in contexts if context}:
                if test in place_of:
                    found[test.partition("::")[0]]["lines"][name][line].append(place_of[test])
    return found


def digest(paths: Iterable[Path]) -> str:
    """Return a short digest of files."""
    found = hashlib.sha256()
    for path in sorted(paths):
        found.update(path.read_bytes())
    return found.hexdigest()[:12]


def chosen_tests(change: Change, tests: Tests, seconds: float) -> list[str]:
    """Return tests that execute a line: those of its package first, the quickest first, as many as `seconds` allow."""
    lines = tests.by_line.get(change.file, {})
    found = lines.get(change.line, [])
    if not found and change.line not in lines:  # the inner line of an expression, as a rule
        above = [line for line in lines if line <= change.line and lines[line]]
        found = lines[max(above)] if above else []
    imported = [] if found else [INTERFACE]
    if not found:  # a line of the module itself, which runs when it is imported
        found = [test for of_line in lines.values() for test in of_line]
    times = {test: tests.seconds.get(test, 1.0) for test in found}
    chosen, taken = [], 0.0
    for test in sorted(times, key=lambda test: (f"/{change.package}/" not in test, times[test], test)):
        taken += times[test]
        if chosen and taken > seconds:
            break
        chosen.append(test)
    return imported + chosen


# ---------------------------------------------------------------- changes


def changes_of(package: str) -> list[Change]:
    """Return all changes of a package."""
    found = []
    for path in sorted((ROOT / "captum_lkn" / package).rglob("*.py")):
        nodes = list(ast_nodes(get_ast_from_path(path)))
        for name in cosmic_ray.plugins.operator_names():
            operator = cosmic_ray.plugins.get_operator(name)
            if operator.arguments():
                continue
            places = [start for node in nodes for start, _ in operator().mutation_positions(node)]
            file = str(path.relative_to(ROOT))
            found += [Change(package, file, name, number, start[0]) for number, start in enumerate(places)]
    return found


def same_code(one: str, other: str) -> bool:
    """Return whether two texts compile to the same code: what differs is an annotation, or nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return compiled(one) == compiled(other)
        except SyntaxError:
            return True


def compiled(text: str) -> str:
    """Return the code of a text without annotations, which are never evaluated, and line numbers."""
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


def tried(change: Change, changed: str, original: str, tests: list[str], tree: Path, limit: float) -> dict[str, Any]:
    """Return whether tests notice a change, and the seconds that took."""
    if not tests:
        return {"outcome": "survived", "seconds": 0.0}
    target, started = tree / change.file, time.monotonic()
    target.write_text(changed, encoding="utf-8")
    try:
        code = run_in_a_child(tests, tree, limit)
    finally:
        target.write_text(original, encoding="utf-8")
    outcome = "survived" if code in (0, NOTHING_RAN) else "killed"
    return {"outcome": outcome, "seconds": round(time.monotonic() - started, 1)}


def run_in_a_child(names: list[str], tree: Path, limit: float, *options: str) -> int:
    """Return pytest's exit code, or -1 where it took more than `limit` seconds of processor time, or six times that."""
    child, started = os.fork(), time.monotonic()
    if not child:
        resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(limit), math.ceil(limit)))
        run_tests(names, tree, *options)
    while time.monotonic() - started < 6 * limit:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
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
    for package in (*PACKAGES, None):
        counts = Counter(row["outcome"] for row in rows if package in (None, row["package"]))
        n, killed = sum(counts.values()), counts["killed"]
        if n:
            p, z = killed / n, 1.96
            middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
            low, high = ((middle + sign * half) / (1 + z * z / n) for sign in (-1, 1))
            print(f"{package or 'all'}: {killed} of {n} killed, {p:.0%} (95 % interval {low:.0%} to {high:.0%})")
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
