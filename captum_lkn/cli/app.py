"""The command line: ``captum-lkn text``, ``image``, ``probe`` and ``demo``."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from rich.console import Console
from rich.markup import escape
from torch import Tensor

from captum_lkn._common import files
from captum_lkn.attribution import AndOrInteraction
from captum_lkn.cli.data import as_classes, batches, read_texts
from captum_lkn.cli.terminal import print_change, print_text_interactions
from captum_lkn.cli.terminal_images import print_image_interactions
from captum_lkn.demo import image as vision_demo
from captum_lkn.demo import text as shipped
from captum_lkn.interactions import InteractionsBatch
from captum_lkn.knowledge import KnowledgeChange, LayerwiseKnowledge
from captum_lkn.models.hugging_face.pretrained import load_classifier, load_image_classifier
from captum_lkn.models.layers import LayerLike, find_layers
from captum_lkn.models.model import Model
from captum_lkn.players.images import image_players
from captum_lkn.players.players import Players
from captum_lkn.players.regions import model_patch
from captum_lkn.players.text import text_players
from captum_lkn.plot.images import draw_interactions
from captum_lkn.plot.pictures import picture_input
from captum_lkn.probes import LinearProbes
from captum_lkn.values.selection import select_players

__all__ = ["Most", "Target", "Top", "app", "demo", "image", "probe", "text"]

app = typer.Typer(
    help="Which combinations of words or of parts of an image drive a model's decision, layer by layer.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Top = Annotated[int, typer.Option(min=1, help="How many AND and how many OR interactions to print.")]
Target = Annotated[str, typer.Option(help="The class: its number, its label, or 'predicted'.")]
Most = Annotated[int, typer.Option(min=1, help="At most so many players: those that matter most; the others stay.")]


@app.callback()
def _main() -> None:
    """Which combinations of words or of parts of an image drive a model's decision, layer by layer."""


@app.command()
def text(
    model: Annotated[str, typer.Argument(help="A folder, or a name on the Hugging Face hub, of a text classifier.")],
    sentence: Annotated[str, typer.Argument(help="The text to explain.")],
    target: Target = "predicted",
    words: Annotated[
        str | None, typer.Option(help="Only these words are players, separated by commas; the others stay visible.")
    ] = None,
    most: Most = 12,
    layers: Annotated[
        str | None, typer.Option(help="Also explain these layers: names or numbers of blocks, separated by commas.")
    ] = None,
    probes: Annotated[
        Path | None, typer.Option(help="The probes of the layers, a file that 'captum-lkn probe' wrote.")
    ] = None,
    top: Top = 5,
    out: Annotated[Path | None, typer.Option(help="Save the result to this .safetensors file.")] = None,
) -> None:
    """Explain a text classifier's decision about one text, and what its layers know of it."""
    console = Console()
    with _told():
        _check_out(out)
        if layers is not None and probes is None:
            raise ValueError("--layers needs --probes, which say what the layers know: make them by 'captum-lkn probe'")
        read = None if probes is None else LinearProbes.load(probes)
        chosen = None if words is None else _listed(words)
        classifier, tokenizer = load_classifier(model)
        players = text_players(tokenizer, sentence, words=chosen)
        asked = _class(target, classifier.config.id2label)
        players = _few_enough(console, classifier, players, most, asked)
        result: KnowledgeChange | InteractionsBatch
        if read is None:
            result = found = _explain(classifier, players, asked)
        else:
            named = _as_fitted(classifier, read, layers)
            result = LayerwiseKnowledge(classifier, named, probes=read).analyze(
                players, target=asked, show_progress=sys.stderr.isatty()
            )
            found = result.interactions[result.against]
        _print_text(console, classifier, found, sentence, top)
        if isinstance(result, KnowledgeChange):
            print_change(console, result)
        _save(console, result if isinstance(result, KnowledgeChange) else result[0], out)


@app.command()
def image(
    model: Annotated[str, typer.Argument(help="A folder, or a name on the Hugging Face hub, of an image classifier.")],
    file: Annotated[Path, typer.Argument(help="The picture to explain.")],
    target: Target = "predicted",
    grid: Annotated[
        str | None,
        typer.Option(help="Rows x columns of players; else 7x7, or fewer where the model has fewer patches."),
    ] = None,
    slic: Annotated[int | None, typer.Option(help="About so many superpixels are the players, in place of a grid.")] = (
        None
    ),
    most: Most = 10,
    baseline: Annotated[str, typer.Option(help="What replaces an absent part: 'mean', 'blur' or 'zero'.")] = "mean",
    top: Top = 5,
    draw: Annotated[Path | None, typer.Option(help="Draw the result into this file, such as found.png.")] = None,
    out: Annotated[Path | None, typer.Option(help="Save the interactions to this .safetensors file.")] = None,
) -> None:
    """Explain an image classifier's decision about one picture."""
    console = Console()
    with _told():
        _check_out(out)
        if draw is not None and not draw.parent.is_dir():
            raise FileNotFoundError(
                f"cannot draw {draw.name!r}: there is no folder {str(draw.parent)!r}; make it first"
            )
        given = None if grid is None else _cells(grid)
        classifier, processor = load_image_classifier(model)
        pixels = picture_input(processor, file)
        cells = given or _default_cells(pixels, model_patch(classifier))
        parts: dict[str, Any] = {"grid": cells} if slic is None else {"segments": "slic", "n_segments": slic}
        players = image_players({"pixel_values": pixels}, model=classifier, baseline=cast(Any, baseline), **parts)
        labels = classifier.config.id2label
        asked = _class(target, labels)
        players = _few_enough(console, classifier, players, most, asked)
        found = _explain(classifier, players, asked)[0]
        label = labels[found.provenance["target"]]
        print_image_interactions(console, found, title=file.name, label=label, top=top)
        _save(console, found, out)
        if draw is not None:
            draw_interactions(pixels[0], found, draw)
            console.print(f"Drawn to {draw}", highlight=False)


@app.command()
def probe(
    model: Annotated[str, typer.Argument(help="A folder, or a name on the Hugging Face hub, of a text classifier.")],
    data: Annotated[str, typer.Argument(help="A .csv or .jsonl file of texts and labels, or a data set on the hub.")],
    out: Annotated[Path, typer.Option(help="Save the probes to this .safetensors file.")],
    layers: Annotated[str, typer.Option(help="The layers: names or numbers of blocks, separated by commas.")],
    text_column: Annotated[str | None, typer.Option(help="The column of the texts; else text, sentence, review.")] = (
        None
    ),
    label_column: Annotated[str | None, typer.Option(help="The column of the labels; else label, labels, target.")] = (
        None
    ),
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many texts.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Texts in a forward.")] = 32,
    max_length: Annotated[int | None, typer.Option(min=1, help="Tokens of a text that are read.")] = None,
    seed: Annotated[int, typer.Option(help="Of the texts that are held out.")] = 0,
) -> None:
    """Fit linear probes to layers of a text classifier: what each layer knows of its task."""
    console = Console()
    with _told():
        _check_out(out)
        texts, labels = read_texts(data, text=text_column, label=label_column)
        classifier, tokenizer = load_classifier(model)
        classes = as_classes(labels[:limit], classifier.config.label2id)
        loader = batches(tokenizer, texts[:limit], classes, batch_size, max_length)
        fitted = LinearProbes.fit(classifier, _layers(layers), loader, seed=seed, show_progress=sys.stderr.isatty())
        console.print(str(fitted), markup=False, highlight=False)
        fitted.save(out)
        console.print(f"Saved to {out}", highlight=False)


@app.command()
def demo(
    vision: Annotated[bool, typer.Option("--vision", help="Explain a photo instead.")] = False, top: Top = 5
) -> None:
    """Explain what a small sentiment BERT makes of three sentences, layer by layer; or, with --vision, a photo."""
    console = Console()
    with _told():
        (_show_vision if vision else _show_text)(console, top)


def _show_text(console: Console, top: int) -> None:
    console.print("Loading MiniLM, a BERT of 6 blocks, with the sentiment head that comes with this library.")
    classifier, tokenizer = shipped.load_sentiment_bert()
    study = LayerwiseKnowledge(classifier, shipped.LAYERS, probes=shipped.load_sentiment_probes())
    players = [text_players(tokenizer, sentence) for sentence in shipped.SENTENCES]
    change = study.analyze(players, show_progress=sys.stderr.isatty())
    for i, sentence in enumerate(shipped.SENTENCES):
        _print_text(console, classifier, change.interactions[change.against][i : i + 1], sentence, top)
    print_change(console, change)


def _show_vision(console: Console, top: int) -> None:
    console.print("Loading EfficientNet-Lite0, trained on ImageNet.")
    network, classes = vision_demo.load_efficientnet_lite()
    found = _explain(network, vision_demo.espresso_players(), "predicted")[0]
    label = classes[int(str(found.provenance["target"]))]
    print_image_interactions(console, found, title=vision_demo.PICTURE_PATH.name, label=label, top=top)


def _few_enough(console: Console, classifier: Any, players: Players, most: int, target: int | str) -> Players:
    if max(players.sizes) <= most:
        return players
    selected = select_players(classifier, players, most, target=target, show_progress=sys.stderr.isatty())
    console.print(str(selected).splitlines()[-1].strip(), markup=False, highlight=False)
    return selected


def _explain(classifier: Any, players: Players, target: int | str) -> InteractionsBatch:
    found: InteractionsBatch = AndOrInteraction(classifier).attribute(
        players, target=target, show_progress=sys.stderr.isatty()
    )
    return found


def _print_text(console: Console, classifier: Any, found: InteractionsBatch, sentence: str, top: int) -> None:
    label = classifier.config.id2label[found[0].provenance["target"]]
    print_text_interactions(console, found[0], title=sentence, label=label, top=top)


def _save(console: Console, result: Any, out: Path | None) -> None:
    if out is not None:
        result.save(out)
        console.print(f"Saved to {out}", highlight=False)


def _check_out(out: Path | None) -> None:
    if out is not None:
        files.check_target(out)


def _listed(given: str) -> list[str]:
    return [part.strip() for part in given.split(",") if part.strip()]


def _layers(given: str) -> list[LayerLike]:
    return [int(name) if name.isdigit() else name for name in _listed(given)]


def _as_fitted(model: Any, probes: LinearProbes, given: str | None) -> list[LayerLike]:
    """The layers that are meant, by their probes' labels too, with the pooling of their probes; None: all of these."""
    if given is None:
        return [probe.layer for probe in probes.values()]
    named = [probes[str(name)].layer if name in probes else name for name in _layers(given)]
    return [probes[layer.label].layer if layer.label in probes else layer for layer in find_layers(Model(model), named)]


def _cells(grid: str) -> tuple[int, int]:
    rows, _, columns = grid.lower().partition("x")
    if not (rows.strip().isdigit() and columns.strip().isdigit()):
        raise ValueError(f"--grid {grid!r} is not rows x columns: give such as 7x7")
    return int(rows), int(columns)


def _default_cells(pixels: Tensor, patch: tuple[int, int] | None) -> tuple[int, int]:
    rows, columns = (side // own for side, own in zip(pixels.shape[-2:], patch or (1, 1), strict=True))
    return min(7, rows), min(7, columns)


def _class(target: str, labels: dict[int, str]) -> int | str:
    if target == "predicted" or target.lstrip("-").isdigit():
        return target if target == "predicted" else int(target)
    numbers = {label.lower(): number for number, label in labels.items()}
    if target.lower() not in numbers:
        raise ValueError(f"--target {target!r} is none of the classes: give one of {', '.join(labels.values())}")
    return numbers[target.lower()]


@contextmanager
def _told() -> Iterator[None]:
    """What a user can mend is one line of red, not a traceback; what the library warns of, a line of yellow."""
    console = Console(stderr=True)

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        console.print(f"[yellow]note:[/yellow] {escape(str(message))}", highlight=False)

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("once", UserWarning)
            warnings.showwarning = show
            yield
    except (ValueError, TypeError, OSError, ImportError) as error:
        console.print(f"[red]error:[/red] {escape(str(error))}", highlight=False)
        raise typer.Exit(1) from error
