"""The page docs/reproduction.md, from its template and the files of results: no number is written by hand.

The template holds ``{{ name argument ... }}``; each name is a function here. Names of steps and keys are divided by
white space, with ``~`` for a space in a key; a key that is a number is a place in a list.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.paper.claims import CLAIMS, EXCEPTED, verdict
from benchmarks.paper.settings import IOU_ONLY, TASKS, VIEWS
from benchmarks.paper.store import ROOT, Store
from benchmarks.paper.verdicts import conditions, overall_verdicts, verdicts

__all__ = ["PAGE", "TEMPLATE", "render", "write"]

TEMPLATE = ROOT / "reproduction.template"
PAGE = ROOT.parents[1] / "docs" / "reproduction.md"
_ABSENT = "-"


def write(store: Store, page: Path = PAGE) -> None:
    """Write the page."""
    page.write_text(render(store), encoding="utf-8")


def render(store: Store, template: str | None = None) -> str:
    """Return the page as it follows from the results of a run."""
    text = TEMPLATE.read_text(encoding="utf-8") if template is None else template

    def filled(match: re.Match[str]) -> str:
        name, *arguments = match[1].split()
        return _PARTS[name](store, *arguments)

    return re.sub(r"\{\{ (.*?) \}\}", filled, text)


# ---------------------------------------------------------------- parts


def _number(store: Store, step: str, *keys: str) -> str:
    """Return a number of a step; the last key is its format."""
    *path, form = keys
    found = store.read(step)
    for key in (one.replace("~", " ") for one in path):
        found = found[int(key)] if isinstance(found, list) else found[key]
    return _shown(found, form)


def _verdict_table(store: Store) -> str:
    """Return a row for each claim: verdicts over tasks, by convention, and the number of tasks."""
    both, each = overall_verdicts(store), verdicts(store)
    rows = []
    for claim, text in CLAIMS.items():
        by_view = both[claim]
        counted = [views["default"] for name, views in each[claim].items() if name not in EXCEPTED.get(claim, ())]
        tally = ", ".join(
            f"{counted.count(one)} {word}"
            for one, word in (("reproduced", "yes"), ("in part", "in part"), ("not", "not"))
            if one in counted
        )
        others = [by_view.get(name, _ABSENT) for name in ("the paper's program", "refit")]
        rows.append([claim, text, f"**{by_view.get('default', 'untested')}**", tally or _ABSENT, *others])
    return _table(["", "claim", "verdict", "tasks or pairs", "the paper's program", "refit"], rows)


def _evidence(store: Store) -> str:
    """Return on how many tasks each condition holds, is undecided, or is contradicted, under the default reading."""
    rows = []
    for claim in CLAIMS:
        found = conditions(store, claim)
        counted = [views["default"] for name, views in found.items() if name not in EXCEPTED.get(claim, ())]
        for text in dict.fromkeys(text for numbers in counted for text in numbers):
            ends = [(one["low"], one["high"]) for numbers in counted if (one := numbers[text])["low"] is not None]
            above, below = sum(low > 0 for low, _ in ends), sum(high < 0 for _, high in ends)
            rows.append([claim, text, str(above), str(len(ends) - above - below), str(below)])
    return _table(["", "condition", "above 0", "undecided", "below 0"], rows)


def _accuracies(store: Store) -> str:
    """Return the accuracy of each network of the pairs."""
    found = {
        name: accuracy
        for pair, one in store.all("pair").items()
        for name, accuracy in zip(pair.split("."), one["accuracies"], strict=True)
    }
    return ", ".join(f"{name} {accuracy:.2f}" for name, accuracy in found.items())


def _readings(store: Store) -> str:
    """Return for each reading the number of tasks on which each claim is reproduced, of those tested."""
    each, rows = verdicts(store), []
    for view in VIEWS:
        cells = []
        for claim in CLAIMS:
            tasks = [views[view] for views in each[claim].values() if views.get(view, "untested") != "untested"]
            cells.append(f"{tasks.count('reproduced')} of {len(tasks)}" if tasks else _ABSENT)
        rows.append([view, *cells])
    return _table(["reading", *CLAIMS], rows)


def _changed(store: Store) -> str:
    """Return a sentence on the claims whose verdict over tasks depends on the reading."""
    found = []
    for claim, views in overall_verdicts(store).items():
        default = views.get("default", "untested")
        others: dict[str, list[str]] = {}
        for view, one in views.items():
            if one != default and one != "untested":
                others.setdefault(one, []).append(view)
        for one, names in others.items():
            found.append(f"* **{claim}** is {_said(default)} by default, and {_said(one)} under: {', '.join(names)}.")
    return "\n".join(found) or "No verdict over tasks depends on the reading."


def _said(one: str) -> str:
    return {"in part": "reproduced in part", "not": "not reproduced"}.get(one, one)


def _conditions(store: Store, claim: str) -> str:
    """Return a row for each task, with the numbers that decide the claim under the default reading."""
    found = conditions(store, claim)
    texts = list(dict.fromkeys(text for views in found.values() for text in views["default"]))
    rows = []
    for name, views in found.items():
        numbers = views["default"]
        cells = [_interval(numbers[text]) if text in numbers else _ABSENT for text in texts]
        said = verdict(numbers.values()) + (" (excepted)" if name in EXCEPTED.get(claim, ()) else "")
        rows.append([name.replace(".", " and "), *cells, said])
    return _table(["", *texts, "verdict"], rows)


def _networks(store: Store) -> str:
    """Return a row for each network: size, samples, and accuracy on the test set, of its probes as well."""
    rows, layers = [], store.all("layers")
    for name, one in store.all("network").items():
        probes = [_shown(accuracy, ".2f") for accuracy in layers.get(name, {}).get("probes", {}).values()]
        cells = [f"{one['parameters']:,}", str(one["samples"]), str(one["players"]), _shown(one["accuracy"], ".3f")]
        rows.append([name, *cells, " ".join(probes) or _ABSENT])
    return _table(["", "parameters", "samples", "players", "accuracy", "of the probes, by depth"], sorted(rows))


def _salient(store: Store) -> str:
    """Return the numbers of salient interactions under the readings that change them."""
    results = store.all("sparsity")
    views = list(dict.fromkeys(view for one in results.values() for view in one["salient"]))
    rows = [
        [name, f"{one['possible']:.0f}", *(_shown(one["salient"][view]["salient"]["value"], ".1f") for view in views),
         _shown(one["salient"]["default"]["dividends"]["value"], ".1f"),
         _shown(one["salient"]["default"]["r_squared"]["value"], ".3f")]
        for name, one in results.items()
    ]  # fmt: skip
    return _table(["", "possible", *views, "dividends", "R² of the salient"], rows)


def _control_table(store: Store) -> str:
    """Return the mean completeness over layers of each control."""
    names = ("trained", "logit lens", "random labels", "untrained, its own output", "untrained, the trained output",
             "neighbours")  # fmt: skip
    rows = []
    for task, one in store.all("controls").items():
        means = [_mean(row[0] for row in one[name]) if name in one else None for name in names]
        rows.append([task, *(_shown(mean, ".2f") for mean in means), _shown(one["ceiling"], ".2f")])
    return _table(["", *names, "ceiling"], rows)


def _control_range(store: Store, name: str) -> str:
    """Return the least and the largest mean completeness of a control over the tasks."""
    key = name.replace("~", " ")
    means = [_mean(row[0] for row in one[key]) for one in store.all("controls").values() if key in one]
    known = [mean for mean in means if mean is not None]
    return f"{min(known):.2f} to {max(known):.2f}"


def _noise_table(store: Store) -> str:
    """Return the shares of new and forgotten strength that are above noise, at the first and the last layer."""
    rows = []
    for task, one in store.all("controls").items():
        above = one["above noise"]
        cells = [_shown(above[what][place], ".2f") for what in ("new", "forgotten") for place in (0, -1)]
        rows.append([task, *cells])
    return _table(["", "new, first layer", "last", "forgotten, first layer", "last"], rows)


def _joint_table(store: Store) -> str:
    """Return completeness and redundancy, means over layers, of joint and independent extraction."""
    rows = []
    for task, one in store.all("joint").items():
        cells = []
        for name in ("independent", "joint"):
            part = one[name]
            cells += [_shown(_mean(part[what]), ".2f") for what in ("completeness", "redundancy")]
            cells.append(_shown(part["salient"], ".1f"))
        rows.append([task, *cells, _shown(one["gap"], ".1e")])
    header = [
        f"{what}, {name}" for name in ("independent", "joint") for what in ("completeness", "redundancy", "salient")
    ]
    return _table(["", *header, "gap, joint"], rows)


def _overfitting(store: Store) -> str:
    rows = [
        [
            name,
            *(_shown(one[key], ".2f") for key in ("train", "test", "low share", "high share", "transferable", "other")),
        ]
        for name, one in store.read("practice.overfitting")["rows"].items()
    ]
    header = [
        "",
        "accuracy, training",
        "test",
        "transfers, low orders",
        "high orders",
        "strength that transfers",
        "rest",
    ]
    return _table(header, rows)


def _rounding(store: Store) -> str:
    rows = [
        [name, _shown(one["accuracy"], ".3f"), *(_ends(one[group]) for group in ("low", "high", "shown"))]
        for name, one in store.read("practice.rounding")["rows"].items()
    ]
    return _table(["", "accuracy", "completeness, low orders", "high orders", "all shown"], rows)


def _decision(store: Store) -> str:
    one = store.read("practice.decision")
    rows = [
        [name.rpartition(".")[2], _shown(share, ".2f"), *(_shown(score, "+.1f") for score in one["scores"][name])]
        for name, share in one["completeness"].items()
    ]
    return _table(["block", "completeness", "v(empty)", "v(N)"], rows)


def _missing(store: Store) -> str:
    return "\n".join(f"* {text}" for text in store.read("missing"))


def _unfinished(store: Store) -> str:
    """Return the tasks whose data are there, and that have not all of their results."""
    missing = " ".join(store.read("missing")).lower().replace("-", "").replace(" ", "")
    there = [name for name, spec in TASKS.items() if spec.data not in missing]
    whole = set.intersection(
        *(set(store.all(kind)) for kind in ("claims", "sparsity", "stability", "controls", "joint"))
    )
    done = whole | {name for name in store.all("network") if TASKS[name].network in IOU_ONLY}
    left = [f"*{name}*" for name in there if name not in done]
    if not left:
        return "All tasks whose data were there are in this page."
    return f"Not run to the end for this page, though their data are there (`make paper` goes on): {', '.join(left)}."


def _minutes(store: Store, name: str) -> str:
    return f"{store.total(name) / 60:.0f}"


# ---------------------------------------------------------------- forms


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    lines[0] = [cell.replace("|", "\\|") for cell in header]
    return "\n".join(f"| {' | '.join(line)} |".replace("|  |", "| |", 1) for line in lines)


def _interval(one: dict[str, Any]) -> str:
    return _ends([one["value"], one["low"], one["high"]])


def _ends(numbers: Sequence[float | None]) -> str:
    value, low, high = (_shown(one, ".2f") for one in numbers)
    return value if value == _ABSENT else f"{value} [{low}, {high}]"


def _shown(number: Any, form: str) -> str:
    if number is None:
        return _ABSENT
    if isinstance(number, list):
        return ", ".join(f"*{one}*" for one in number)
    return str(number) if isinstance(number, str) else f"{number:{form}}"


def _mean(numbers: Iterable[float | None]) -> float | None:
    known = [one for one in numbers if one is not None]
    return sum(known) / len(known) if known else None


_PARTS: dict[str, Callable[..., str]] = {
    "number": _number,
    "verdicts": _verdict_table,
    "evidence": _evidence,
    "accuracies": _accuracies,
    "readings": _readings,
    "changed": _changed,
    "conditions": _conditions,
    "networks": _networks,
    "salient": _salient,
    "controls": _control_table,
    "control_range": _control_range,
    "above_noise": _noise_table,
    "joint": _joint_table,
    "overfitting": _overfitting,
    "rounding": _rounding,
    "decision": _decision,
    "missing": _missing,
    "unfinished": _unfinished,
    "minutes": _minutes,
}
