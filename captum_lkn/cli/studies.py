"""Work of the command ``captum-lkn study``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from rich.console import Console

from captum_lkn._common.messages import count_of
from captum_lkn.attribution import AndOrInteraction, Plan
from captum_lkn.cli.data import as_classes, read_texts
from captum_lkn.cli.errors import about
from captum_lkn.cli.literals import literal
from captum_lkn.cli.options import check_report, check_units, class_of, layers_with_probes, load_probes
from captum_lkn.cli.planning import plan_first
from captum_lkn.cli.terminal import is_interactive
from captum_lkn.knowledge import LayerwiseKnowledge
from captum_lkn.models.hugging_face.facts import class_names
from captum_lkn.models.hugging_face.pretrained import load_classifier
from captum_lkn.models.model import Model
from captum_lkn.players.players import Players
from captum_lkn.players.text import text_players
from captum_lkn.studies import Study, run_study
from captum_lkn.studies.folder import check_folder
from captum_lkn.studies.gathering import rank_and_world
from captum_lkn.values.selection import select_players

__all__ = ["study_texts"]


def study_texts(
    model: str,
    data: str,
    out: Path,
    target: str,
    units: str,
    most: int,
    n_samples: int | None,
    kappa: float | None,
    layers: str | None,
    probes: Path | None,
    text_column: str | None,
    label_column: str | None,
    limit: int | None,
    keep_outputs: bool,
    top: int,
    report: Path | None,
    plan: bool = False,
) -> None:
    """Explain a text classifier's decisions about many texts: ``captum-lkn study``.

    Where a launcher started several ranks, all of them compute, and the first prints and writes the report.
    """
    fitted = load_probes(layers, probes)
    check_units(units)
    if keep_outputs and (probes is not None or n_samples is not None):
        raise ValueError("--keep-outputs is for all masks of the output. Leave --probes and --n-samples out")
    if label_column is not None and target != "predicted":
        raise ValueError(f"give only one of --target and --label-column; got {target} and {label_column}")
    check_report(report)
    with about("--out"):
        check_folder(out)
    with about("DATA"):
        texts, labels = read_texts(data, text=text_column, label=label_column, labelled=label_column is not None)
    first = rank_and_world()[0] == 0
    console = Console(quiet=not first)
    with about("MODEL"):
        classifier, tokenizer = load_classifier(model)
    names = class_names(classifier)
    classes: Any = as_classes(labels, names)[:limit] if labels else class_of(target, names)
    method: Any = AndOrInteraction(classifier, kappa=kappa)
    if fitted is not None:
        chosen = layers_with_probes(layers, Model(classifier), fitted, probes)
        method = LayerwiseKnowledge(classifier, chosen, probes=fitted, kappa=kappa)
    several = [text_players(tokenizer, text, units=cast(Any, units)) for text in texts[:limit]]
    if n_samples is None:
        several = _few_enough(console, classifier, several, most, classes)
    sampling: dict[str, Any] = {} if n_samples is None else {"n_samples": n_samples}

    def make_plan() -> Plan:
        planned: Plan = method.plan(several, target=classes, **sampling)
        return planned

    if (plan and not first) or (first and plan_first(console, plan, several, make_plan, n_samples, can_sample=True)):
        return
    found = run_study(
        method,
        several,
        out,
        target=classes,
        keep="outputs" if keep_outputs else "interactions",
        show_progress=is_interactive(),
        **sampling,
    )
    if not first:
        return
    _print(console, found, top)
    if report is not None:
        result = found.interactions if fitted is None else found.change
        result.report(report)
        console.print(f"Report written to {literal(report)}", highlight=False, soft_wrap=True)


def _few_enough(console: Console, classifier: Any, several: list[Players], most: int, classes: Any) -> list[Players]:
    """Return the players, of longer texts those that matter most."""
    long = [i for i, players in enumerate(several) if players.sizes[0] > most]
    for i in long:
        target = classes[i] if isinstance(classes, list) else classes
        several[i] = select_players(classifier, several[i], most, target=target)
    if long:
        console.print(f"In {count_of(len(long), 'text')} the {most} players that matter most were selected.")
    return several


def _print(console: Console, found: Study, top: int) -> None:
    for part in (found, found.summary(), found.strongest(top)):
        console.print(str(part), markup=False, highlight=False, soft_wrap=True)
