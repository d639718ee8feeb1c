"""Declaration of the commands: their arguments, options and help.

Nothing but typer is imported here at module level. torch and transformers take seconds to load, and come with the
command that needs them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from captum_lkn._common.limits import MAX_PLAYERS
from captum_lkn._version import __version__
from captum_lkn.cli.interrupts import ABORTED, EXIT_CODE, Interrupts
from captum_lkn.cli.parsers import number, path, whole
from captum_lkn.cli.parsers import text as any_text

__all__ = [
    "Kappa",
    "Layers",
    "Limit",
    "Most",
    "Plan",
    "Probes",
    "Report",
    "Target",
    "TextColumn",
    "Top",
    "app",
    "demo",
    "image",
    "probe",
    "show",
    "study",
    "text",
]

app = typer.Typer(
    help="Find the combinations of words or of parts of an image that drive a model's decision, layer by layer.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Top = Annotated[int, typer.Option(**whole(1), help="Number of AND and of OR interactions to print.")]
Target = Annotated[str, typer.Option(**any_text(), help="The class: its name, else its number, or 'predicted'.")]
Most = Annotated[
    int,
    typer.Option(
        **whole(1, MAX_PLAYERS), help="Largest number of players: those that matter most. The others stay visible."
    ),
]
Kappa = Annotated[
    float | None,
    typer.Option(
        **number(),
        help="How far the effects may miss each output, in units of the score; else 4 % of |v(all) - v(none)|.",
    ),
]
_TEXT_MODEL = "A text classifier: a folder, or a name on the Hugging Face hub."
_IMAGE_MODEL = "An image classifier: a folder, or a name on the Hugging Face hub."
_UNITS = "Parts of the text that are players: words, pre-tokens (the tokenizer's words), tokens, characters, sentences."
Report = Annotated[Path | None, typer.Option(**path(), help="Write a page about the result to this .html file.")]
_LAYERS = "names or numbers of blocks, such as 0,3,5 or 0-5; or all"
Layers = Annotated[
    str | None,
    typer.Option(**any_text(), help=f"Layers to explain as well: {_LAYERS} that have probes. Needs --probes."),
]
Probes = Annotated[
    Path | None, typer.Option(**path(), help="Probes of the layers: a file written by 'captum-lkn probe'.")
]
Plan = Annotated[bool, typer.Option("--plan", help="Print forwards, memory and time, by a few forwards, and stop.")]
TextColumn = Annotated[
    str | None, typer.Option(**any_text(), help="Column of the texts; else text, sentence or review.")
]
Limit = Annotated[int | None, typer.Option(**whole(1), help="Use only this many texts, the first.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"captum-lkn {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Find the combinations of words or of parts of an image that drive a model's decision, layer by layer."""


@app.command()
def text(
    model: Annotated[str, typer.Argument(**any_text("MODEL"), help=_TEXT_MODEL)],
    sentence: Annotated[str, typer.Argument(**any_text("SENTENCE"), help="The text to explain.")],
    target: Target = "predicted",
    words: Annotated[
        str | None,
        typer.Option(
            **any_text(),
            help="Only these words are players, separated by commas; the others stay visible.",
        ),
    ] = None,
    units: Annotated[str, typer.Option(**any_text(), help=_UNITS)] = "words",
    most: Most = 12,
    kappa: Kappa = None,
    layers: Layers = None,
    probes: Probes = None,
    top: Top = 5,
    out: Annotated[Path | None, typer.Option(**path(), help="Save the result to this .safetensors file.")] = None,
    report: Report = None,
    plan: Plan = False,
) -> None:
    """Explain a text classifier's decision about one text, and with probes also its layers."""
    _run(
        text, "explain_text", model, sentence, target, words, units, most, kappa, layers, probes, top, out, report, plan
    )


@app.command()
def image(
    model: Annotated[str, typer.Argument(**any_text("MODEL"), help=_IMAGE_MODEL)],
    file: Annotated[Path, typer.Argument(**path("FILE"), help="The picture to explain.")],
    target: Target = "predicted",
    grid: Annotated[
        str | None,
        typer.Option(
            **any_text(),
            help="Rows and columns of players, such as 3 or 4x6; else 7x7, or as many as the model's patches.",
        ),
    ] = None,
    slic: Annotated[
        int | None, typer.Option(**whole(1), help="About this many superpixels as players, instead of a grid.")
    ] = None,
    most: Most = 10,
    baseline: Annotated[
        str, typer.Option(**any_text(), help="Replacement of an absent part: 'mean', 'blur' or 'zero'.")
    ] = "mean",
    kappa: Kappa = None,
    top: Top = 5,
    draw: Annotated[
        Path | None, typer.Option(**path(), help="Draw the result to this file, such as found.png.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            **path(),
            help="Save the interactions to this .safetensors file.",
        ),
    ] = None,
    report: Report = None,
    plan: Plan = False,
) -> None:
    """Explain an image classifier's decision about one picture."""
    _run(image, "explain_image", model, file, target, grid, slic, most, baseline, kappa, top, draw, out, report, plan)


@app.command()
def probe(
    model: Annotated[str, typer.Argument(**any_text("MODEL"), help=_TEXT_MODEL)],
    data: Annotated[
        str,
        typer.Argument(**any_text("DATA"), help="Texts and labels: a .csv or .jsonl file, or a data set on the hub."),
    ],
    out: Annotated[Path, typer.Option(**path(), help="Save the probes to this .safetensors file.")],
    layers: Annotated[str, typer.Option(**any_text(), help=f"The layers: {_LAYERS}.")],
    text_column: TextColumn = None,
    label_column: Annotated[
        str | None, typer.Option(**any_text(), help="Column of the labels; else label, labels or target.")
    ] = None,
    limit: Limit = None,
    batch_size: Annotated[int, typer.Option(**whole(1), help="Number of texts in a forward.")] = 32,
    max_length: Annotated[
        int | None, typer.Option(**whole(1), help="Number of tokens of a text that are read.")
    ] = None,
    seed: Annotated[int, typer.Option(**whole(0), help="Seed of the choice of held-out texts.")] = 0,
) -> None:
    """Fit linear probes to layers of a text classifier, which read the classes from each layer."""
    _run(probe, "fit_probes", model, data, out, layers, text_column, label_column, limit, batch_size, max_length, seed)


@app.command()
def study(
    model: Annotated[str, typer.Argument(**any_text("MODEL"), help=_TEXT_MODEL)],
    data: Annotated[
        str, typer.Argument(**any_text("DATA"), help="Texts: a .csv or .jsonl file, or a data set on the hub.")
    ],
    out: Annotated[Path, typer.Option(**path(), help="The folder of the study; one that was begun is gone on with.")],
    target: Target = "predicted",
    units: Annotated[str, typer.Option(**any_text(), help=_UNITS)] = "words",
    most: Most = 12,
    n_samples: Annotated[
        int | None,
        typer.Option(**whole(1), help="Masks of each text, sampled, with all words as players; else all masks."),
    ] = None,
    kappa: Kappa = None,
    layers: Layers = None,
    probes: Probes = None,
    text_column: TextColumn = None,
    label_column: Annotated[
        str | None,
        typer.Option(**any_text(), help="Column of the classes to explain, one a text, instead of --target."),
    ] = None,
    limit: Limit = None,
    keep_outputs: Annotated[
        bool, typer.Option("--keep-outputs", help="Store the model's outputs as well, for other scores and classes.")
    ] = False,
    top: Annotated[int, typer.Option(**whole(1), help="Number of combinations over all texts to print.")] = 10,
    report: Report = None,
    plan: Plan = False,
) -> None:
    """Explain a text classifier's decisions about many texts, in a folder; a run that was killed goes on."""
    _run(
        study,
        "study_texts",
        *(model, data, out, target, units, most, n_samples, kappa, layers, probes),
        *(text_column, label_column, limit, keep_outputs, top, report, plan),
    )


@app.command()
def show(
    file: Annotated[Path, typer.Argument(**path("FILE"), help="A .safetensors file that this library saved.")],
    report: Report = None,
) -> None:
    """Print a saved result: interactions, a comparison of layers, probes or a learned baseline."""
    _run(show, "show_file", file, report)


@app.command()
def demo(
    vision: Annotated[bool, typer.Option("--vision", help="Explain a photo instead.")] = False,
    top: Top = 5,
    report: Report = None,
) -> None:
    """Explain a small sentiment BERT on three sentences, layer by layer; with --vision, an image classifier."""
    _run(demo, "explain_demo", vision, top, report)


def _run(declared: Callable[..., None], command: str, *arguments: Any) -> None:
    """Call a function of :mod:`captum_lkn.cli.commands`, with errors in terms of the options that are declared."""
    with Interrupts() as interrupts:
        try:
            with interrupts.imports():
                from captum_lkn.cli.errors import one_line_errors
            with one_line_errors(interrupts, inspect.signature(declared).parameters):
                with interrupts.imports():
                    from captum_lkn.cli import commands

                function: Callable[..., None] = getattr(commands, command)
                function(*arguments)
        except BaseException as error:
            if not interrupts.happened and not isinstance(error, KeyboardInterrupt):
                raise
            typer.echo(ABORTED, err=True)
            raise typer.Exit(EXIT_CODE) from error
