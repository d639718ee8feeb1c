"""Errors and warnings of the library as single lines on a terminal, in terms of the command's options."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape

from captum_lkn.cli.interrupts import Interrupts

__all__ = ["in_options", "one_line_errors"]

# Arguments of Python that messages of the library name, and the options that set them.
_OPTIONS = {
    "words": "--words",
    "units": "--units",
    "target": "--target",
    "layers": "--layers",
    "probes": "--probes",
    "grid": "--grid",
    "segments": "--slic",
    "n_segments": "--slic",
    "patch_size": "--grid",
    "baseline": "--baseline",
    "baselines": "--baseline",
    "text": "--text-column",
    "label": "--label-column",
    "batch_size": "--batch-size",
    "max_length": "--max-length",
    "seed": "--seed",
}
_CALL = re.compile(rf"\b({'|'.join(_OPTIONS)})=(?=[\s,.;:)]|$)")
_SUBJECT = re.compile(rf"^({'|'.join(_OPTIONS)}) (?=must |has |is |holds )")


def in_options(message: str) -> str:
    """Return a message of the library with the command's options in place of arguments of Python, on one line.

    Example:
        >>> in_options("words has 'excellent', which is not in the text.  Leave words= out")
        "--words has 'excellent', which is not in the text. Leave --words out"
    """
    message = " ".join(message.split())
    message = _SUBJECT.sub(lambda found: f"{_OPTIONS[found[1]]} ", message)
    return _CALL.sub(lambda found: _OPTIONS[found[1]], message)


@contextmanager
def one_line_errors(interrupts: Interrupts) -> Iterator[None]:
    """Print errors that a user can correct, and warnings of the library, as one line each, without a traceback.

    Args:
        interrupts: Errors after an interrupt are not printed.

    Raises:
        typer.Exit: With code 1, after such an error was printed.
    """
    console = Console(stderr=True)

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        console.print(f"[yellow]note:[/yellow] {escape(in_options(str(message)))}", highlight=False, soft_wrap=True)

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("once", UserWarning)
            warnings.showwarning = show
            yield
    except (ValueError, TypeError, OSError, ImportError) as error:
        if interrupts.happened:
            raise
        console.print(f"[red]error:[/red] {escape(in_options(str(error)))}", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error
