"""The command line: ``captum-lkn text`` and ``captum-lkn demo``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from captum_lkn import storage
from captum_lkn.attribution import AndOrInteraction
from captum_lkn.demo import SENTENCES, load_sentiment_bert
from captum_lkn.interactions import InteractionsBatch
from captum_lkn.pretrained import load_classifier
from captum_lkn.terminal import print_text_interactions
from captum_lkn.text import text_players

app = typer.Typer(
    help="Which combinations of words drive a model's decision.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Top = Annotated[int, typer.Option(min=1, help="How many AND and how many OR interactions to print.")]


@app.callback()
def _main() -> None:
    """Which combinations of words drive a model's decision."""


@app.command()
def text(
    model: Annotated[str, typer.Argument(help="A folder, or a name on the Hugging Face hub, of a text classifier.")],
    sentence: Annotated[str, typer.Argument(help="The text to explain.")],
    target: Annotated[str, typer.Option(help="The class: its number, its label, or 'predicted'.")] = "predicted",
    words: Annotated[
        str | None, typer.Option(help="Only these words are players, separated by commas; the others stay visible.")
    ] = None,
    top: Top = 5,
    out: Annotated[Path | None, typer.Option(help="Save the interactions to this .safetensors file.")] = None,
) -> None:
    """Explain a text classifier's decision about one text."""
    console = Console()
    with _errors():
        if out is not None:
            storage.check_target(out)
        chosen = None if words is None else [word.strip() for word in words.split(",") if word.strip()]
        classifier, tokenizer = load_classifier(model)
        found = _explain(classifier, tokenizer, sentence, target, chosen)
        _print(console, classifier, found, sentence, top)
        if out is not None:
            found[0].save(out)
            console.print(f"Saved to {out}", highlight=False)


@app.command()
def demo(top: Top = 5) -> None:
    """Explain what a small sentiment BERT makes of three sentences."""
    console = Console()
    with _errors():
        console.print("Loading MiniLM, a BERT of 6 layers, with the sentiment head that comes with this library.")
        classifier, tokenizer = load_sentiment_bert()
        for sentence in SENTENCES:
            found = _explain(classifier, tokenizer, sentence, "predicted", None)
            _print(console, classifier, found, sentence, top)


def _explain(classifier: Any, tokenizer: Any, sentence: str, target: str, words: list[str] | None) -> InteractionsBatch:
    players = text_players(tokenizer, sentence, words=words)
    chosen = target if target == "predicted" else _class_number(target, classifier.config.id2label)
    found: InteractionsBatch = AndOrInteraction(classifier).attribute(
        players, target=chosen, show_progress=sys.stderr.isatty()
    )
    return found


def _print(console: Console, classifier: Any, found: InteractionsBatch, sentence: str, top: int) -> None:
    label = classifier.config.id2label[found[0].provenance["target"]]
    print_text_interactions(console, found[0], title=sentence, label=label, top=top)


def _class_number(target: str, labels: dict[int, str]) -> int:
    if target.lstrip("-").isdigit():
        return int(target)
    numbers = {label.lower(): number for number, label in labels.items()}
    if target.lower() not in numbers:
        raise ValueError(f"--target {target!r} is none of the classes: give one of {', '.join(labels.values())}")
    return numbers[target.lower()]


@contextmanager
def _errors() -> Iterator[None]:
    """What a user can mend is one line of red, not a traceback."""
    try:
        yield
    except (ValueError, TypeError, OSError, ImportError) as error:
        Console(stderr=True).print(f"[red]error:[/red] {escape(str(error))}", highlight=False)
        raise typer.Exit(1) from error
