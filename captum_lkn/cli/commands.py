"""Work of the commands, which :mod:`captum_lkn.cli.app` declares."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from rich.console import Console
from torch import Tensor

from captum_lkn._common import files
from captum_lkn.attribution import AndOrInteraction
from captum_lkn.baselines import LearnedBaseline
from captum_lkn.cli.data import as_classes, batches, read_texts
from captum_lkn.cli.errors import about
from captum_lkn.cli.literals import literal
from captum_lkn.cli.options import (
    check_report,
    check_units,
    class_of,
    grid_of,
    layers_of,
    layers_with_probes,
    listed,
    load_probes,
)
from captum_lkn.cli.planning import plan_first
from captum_lkn.cli.studies import study_texts
from captum_lkn.cli.terminal import is_interactive, print_change, print_text_interactions
from captum_lkn.cli.terminal_images import print_image_interactions
from captum_lkn.demo import image as vision_demo
from captum_lkn.demo import text as text_demo
from captum_lkn.evaluation import FidelityCurve, Generalization, Sparsity, Stability, Transfer
from captum_lkn.interactions import Interactions, InteractionsBatch, SampledBatch, SampledInteractions
from captum_lkn.knowledge import KnowledgeChange, LayerwiseKnowledge
from captum_lkn.models.hugging_face.facts import class_names
from captum_lkn.models.hugging_face.pretrained import load_classifier, load_image_classifier
from captum_lkn.models.model import Model
from captum_lkn.outputs.heads import SelectOutput
from captum_lkn.players.images import image_players
from captum_lkn.players.players import Players
from captum_lkn.players.regions import model_patch
from captum_lkn.players.text import text_players
from captum_lkn.plot.images import check_drawing, draw_interactions
from captum_lkn.plot.pictures import load_picture, picture_input, read_picture
from captum_lkn.probes import LinearProbes
from captum_lkn.values.selection import select_players

__all__ = ["explain_demo", "explain_image", "explain_text", "fit_probes", "show_file", "study_texts"]

_CELLS = 7  # rows and columns of the default grid
_BASELINES = ("mean", "blur", "zero")
_RESULTS = (
    Interactions,
    InteractionsBatch,
    SampledInteractions,
    SampledBatch,
    KnowledgeChange,
    LinearProbes,
    LearnedBaseline,
    FidelityCurve,
    Generalization,
    Sparsity,
    Stability,
    Transfer,
)


def explain_text(
    model: str,
    sentence: str,
    target: str,
    words: str | None,
    units: str,
    most: int,
    kappa: float | None,
    layers: str | None,
    probes: Path | None,
    top: int,
    out: Path | None,
    report: Path | None = None,
    plan: bool = False,
) -> None:
    """Explain a text classifier's decision about one text: ``captum-lkn text``."""
    _check_out(out, report)
    fitted = load_probes(layers, probes, out)
    check_units(units)
    chosen_words = None if words is None else listed(words)
    if chosen_words == []:
        raise ValueError(f"--words must be words with commas between them; got {words!r}")
    console = Console()
    with about("MODEL"):
        classifier, tokenizer = load_classifier(model)
    chosen = class_of(target, class_names(classifier))
    chosen_layers = None if fitted is None else layers_with_probes(layers, Model(classifier), fitted, probes)
    players = text_players(tokenizer, sentence, words=chosen_words, units=cast(Any, units))
    players = _few_enough(console, classifier, players, most, chosen)
    if fitted is None or chosen_layers is None:
        if _plan_first(console, plan, classifier, players, chosen, kappa):
            return
        found = _explain(classifier, players, chosen, kappa)
        _print_text(console, classifier, found, sentence, top, units)
        _save(console, found[0], out)
        _report(console, found[0], report)
        return
    study = LayerwiseKnowledge(classifier, chosen_layers, probes=fitted, kappa=kappa)
    if plan_first(console, plan, [players], lambda: study.plan(players, target=chosen)):
        return
    change = study.analyze(players, target=chosen, show_progress=is_interactive())
    _print_text(console, classifier, change.interactions[change.reference], sentence, top, units)
    print_change(console, change)
    _save(console, change, out)
    _report(console, change, report)


def explain_image(
    model: str,
    file: Path,
    target: str,
    grid: str | None,
    slic: int | None,
    most: int,
    baseline: str,
    kappa: float | None,
    top: int,
    draw: Path | None,
    out: Path | None,
    report: Path | None = None,
    plan: bool = False,
) -> None:
    """Explain an image classifier's decision about one picture: ``captum-lkn image``."""
    _check_out(out, report)
    if draw is not None:
        with about("--draw"):
            check_drawing(draw)
            if draw.resolve() == file.resolve():
                raise ValueError(f"must be another file than the picture; got {str(draw)!r}")
    if grid is not None and slic is not None:
        raise ValueError(f"give only one of --grid and --slic; got {grid} and {slic}")
    if baseline not in _BASELINES:
        raise ValueError(f"--baseline must be one of {', '.join(_BASELINES)}; got {baseline!r}")
    given = None if grid is None else grid_of(grid)
    with about("FILE"):
        read_picture(file)  # before the model is loaded
    console = Console()
    with about("MODEL"):
        classifier, processor = load_image_classifier(model)
    labels = class_names(classifier)
    chosen = class_of(target, labels)
    pixels = picture_input(processor, file)
    parts: dict[str, Any] = {"segments": "slic", "n_segments": slic}
    if slic is None:
        parts = {"grid": given or _default_cells(pixels, model_patch(classifier))}
    players = image_players({"pixel_values": pixels}, model=classifier, baseline=cast(Any, baseline), **parts)
    players = _few_enough(console, classifier, players, most, chosen)
    if _plan_first(console, plan, classifier, players, chosen, kappa):
        return
    found = _explain(classifier, players, chosen, kappa)[0]
    print_image_interactions(
        console, found, title=file.name, label=labels[int(str(found.provenance["target"]))], top=top
    )
    _save(console, found, out)
    if draw is not None:
        draw_interactions(pixels[0], found, draw)
        console.print(f"Drawn to {literal(draw)}", highlight=False)
    _report(console, found, report, image=pixels[0])


def fit_probes(
    model: str,
    data: str,
    out: Path,
    layers: str,
    text_column: str | None,
    label_column: str | None,
    limit: int | None,
    batch_size: int,
    max_length: int | None,
    seed: int,
) -> None:
    """Fit linear probes to layers of a text classifier: ``captum-lkn probe``."""
    _check_out(out)
    with about("DATA"):
        texts, labels = read_texts(data, text=text_column, label=label_column)
    console = Console()
    with about("MODEL"):
        classifier, tokenizer = load_classifier(model)
    classes = as_classes(labels, class_names(classifier))[:limit]  # all of them: a few may be read in two ways
    loader = batches(tokenizer, texts[:limit], classes, batch_size, max_length)
    with about("--layers"):
        chosen = layers_of(layers, Model(classifier))
    fitted = LinearProbes.fit(classifier, chosen, loader, seed=seed, show_progress=is_interactive())
    console.print(str(fitted), markup=False, highlight=False)
    _save(console, fitted, out)


def show_file(file: Path, report: Path | None = None) -> None:
    """Print a saved result: ``captum-lkn show``."""
    _check_out(None, report)
    kinds = {kind.__name__: kind for kind in _RESULTS}
    with about("FILE"):
        kind = files.kind_in(file)
        if kind not in kinds:
            raise ValueError(
                f"the file {str(file)!r} holds {kind}, which cannot be shown; it must be {', '.join(kinds)}"
            )
        result: Any = kinds[kind].load(file)
    if report is not None and not hasattr(result, "report"):
        raise ValueError(f"--report is of interactions or of a comparison of layers; {str(file)!r} holds {kind}")
    console = Console()
    console.print(str(result), markup=False, highlight=False, soft_wrap=True)
    _report(console, result, report)


def explain_demo(vision: bool, top: int, report: Path | None = None) -> None:
    """Explain the demo's sentences, or with `vision` its photo: ``captum-lkn demo``."""
    _check_out(None, report)
    console = Console()
    (_show_vision if vision else _show_text)(console, top, report)


def _show_text(console: Console, top: int, report: Path | None) -> None:
    console.print("Loading MiniLM, a BERT of 6 blocks, with the sentiment head that comes with this library.")
    classifier, tokenizer = text_demo.load_sentiment_bert()
    study = LayerwiseKnowledge(classifier, text_demo.LAYERS, probes=text_demo.load_sentiment_probes())
    players = [text_players(tokenizer, sentence) for sentence in text_demo.SENTENCES]
    change = study.analyze(players, show_progress=is_interactive())
    for i, sentence in enumerate(text_demo.SENTENCES):
        _print_text(console, classifier, change.interactions[change.reference][i : i + 1], sentence, top)
    print_change(console, change)
    _report(console, change, report)


def _show_vision(console: Console, top: int, report: Path | None) -> None:
    console.print("Loading EfficientNet-Lite0, trained on ImageNet.")
    network, classes = vision_demo.load_efficientnet_lite()
    named = SelectOutput(network, class_names=classes)
    found = _explain(named, vision_demo.espresso_players(), "predicted")[0]
    label = classes[int(str(found.provenance["target"]))]
    print_image_interactions(console, found, title=vision_demo.PICTURE_PATH.name, label=label, top=top)
    _report(console, found, report, image=load_picture(vision_demo.PICTURE_PATH))


def _few_enough(console: Console, classifier: Any, players: Players, most: int, target: int | str) -> Players:
    if max(players.sizes) <= most:
        return players
    selected = select_players(classifier, players, most, target=target, show_progress=is_interactive())
    console.print(str(selected).splitlines()[-1].strip(), markup=False, highlight=False)
    return selected


def _plan_first(
    console: Console, wanted: bool, classifier: Any, players: Players, target: int | str, kappa: float | None
) -> bool:
    method = AndOrInteraction(classifier, kappa=kappa)
    return plan_first(console, wanted, [players], lambda: method.plan(players, target=target))


def _explain(classifier: Any, players: Players, target: int | str, kappa: float | None = None) -> InteractionsBatch:
    found: InteractionsBatch = AndOrInteraction(classifier, kappa=kappa).attribute(
        players, target=target, show_progress=is_interactive()
    )
    return found


def _print_text(
    console: Console, classifier: Any, found: InteractionsBatch, sentence: str, top: int, units: str = "words"
) -> None:
    label = class_names(classifier)[int(str(found[0].provenance["target"]))]
    print_text_interactions(console, found[0], title=sentence, label=label, units=units, top=top)


def _save(console: Console, result: Any, out: Path | None) -> None:
    if out is not None:
        result.save(out)
        console.print(f"Saved to {literal(out)}", highlight=False)


def _report(console: Console, result: Any, report: Path | None, **options: Any) -> None:
    if report is not None:
        result.report(report, **options)
        console.print(f"Report written to {literal(report)}", highlight=False, soft_wrap=True)


def _check_out(out: Path | None, report: Path | None = None) -> None:
    if out is not None:
        with about("--out"):
            files.check_target(out)
    check_report(report)


def _default_cells(pixels: Tensor, patch: tuple[int, int] | None) -> tuple[int, int]:
    rows, columns = (side // own for side, own in zip(pixels.shape[-2:], patch or (1, 1), strict=True))
    return min(_CELLS, rows), min(_CELLS, columns)
