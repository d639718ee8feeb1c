"""Errors and warnings of the library as single lines on a terminal, in terms of the command's options."""

from __future__ import annotations

import os
import re
import traceback
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any, Final

import typer
from rich.console import Console

from captum_lkn._common.memory import out_of_memory
from captum_lkn.cli.interrupts import Interrupts
from captum_lkn.cli.literals import literal

__all__ = ["about", "in_options", "one_line_errors"]

# Arguments of Python that messages of the library name, and the parameters of commands whose options set them.
_PARAMETERS: Final = {
    "words": "words",
    "units": "units",
    "target": "target",
    "layer": "layers",
    "layers": "layers",
    "kappa": "kappa",
    "probes": "probes",
    "grid": "grid",
    "segments": "slic",
    "n_segments": "slic",
    "baseline": "baseline",
    "baselines": "baseline",
    "k": "most",
    "text": "text_column",
    "label": "label_column",
    "batch_size": "batch_size",
    "max_length": "max_length",
    "seed": "seed",
    "out": "out",
    "n_samples": "n_samples",
}
_TRACEBACK: Final = "CAPTUM_LKN_TRACEBACK"
_SENTENCE: Final = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
_CODE: Final = re.compile(r"(?:^|[\s(`])[a-z_]+=(?!=)|[a-zA-Z_]\w*\((?!e?s\))")
"""Python: a keyword argument, or a call."""


def in_options(message: str, parameters: Collection[str]) -> str:
    """Return a message of the library in terms of a command's options, on one line.

    Arguments of Python become options where the command has one. Other advice in Python is left out.

    Args:
        message: What is wrong, and behind a colon or in further sentences what can be done, with ``, or`` between
            alternatives.
        parameters: The names of the command's parameters.

    Example:
        >>> in_options("words has 'excellent', which is not in the text.  Leave words= out", ["words"])
        "--words has 'excellent', which is not in the text. Leave --words out"
        >>> in_options("the text is too long. Shorten it, or raise max_length=", ["words"])
        'the text is too long. Shorten it'
    """
    options = {name: f"--{own.replace('_', '-')}" for name, own in _PARAMETERS.items() if own in parameters}
    message = " ".join(message.split())
    if options:
        names = "|".join(options)
        message = re.sub(rf"^({names}) (?=must |has |is |holds )", lambda found: f"{options[found[1]]} ", message)
        message = re.sub(rf"\b({names})=(?=[\s,.;:)]|$)", lambda found: options[found[1]], message)
        message = re.sub(rf"\b({names})=(?=\d)", lambda found: f"{options[found[1]]} ", message)
    first, *others = _SENTENCE.split(message)
    found, colon, advice = first.partition(": ")
    kept = _without_code(advice)
    sentences = [f"{found}{colon}{kept}" if kept else found, *filter(None, map(_without_code, others))]
    text = " ".join(one if one.endswith((".", "!", "?")) else f"{one}." for one in sentences)
    return text if message.endswith(".") else text.removesuffix(".")


def _without_code(advice: str) -> str:
    """Return advice without its alternatives that are Python; empty if all are."""
    kept = [one for one in advice.split(", or ") if not _CODE.search(one)]
    text = ", or ".join(kept)
    return text[:1].upper() + text[1:] if advice[:1].isupper() else text


class _OptionError(ValueError):
    """An error about one option, which is named before it."""

    def __init__(self, option: str, message: str) -> None:
        super().__init__(message)
        self.option = option


@contextmanager
def about(option: str) -> Iterator[None]:
    """Name an option, or an argument in capitals, before errors of the library that do not.

    Args:
        option: The option, such as ``--out``.

    Raises:
        ValueError: As inside, with the option's name.
    """
    try:
        yield
    except (ValueError, TypeError, OSError, ImportError) as error:
        message = f"{error.strerror}: {error.filename!r}" if isinstance(error, OSError) and error.filename else error
        raise _OptionError(option, str(message)) from error


@contextmanager
def one_line_errors(interrupts: Interrupts, parameters: Collection[str]) -> Iterator[None]:
    """Print errors, and warnings of the library, as one line each, without a traceback.

    An error that no check of the library raised is named by its class. Where the environment sets
    ``CAPTUM_LKN_TRACEBACK``, it comes with its traceback.

    Args:
        interrupts: Errors after an interrupt are not printed.
        parameters: The names of the running command's parameters.

    Raises:
        typer.Exit: With code 1, after such an error was printed.
    """
    console = Console(stderr=True)

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        console.print(
            f"[yellow]note:[/yellow] {literal(in_options(str(message), parameters))}", highlight=False, soft_wrap=True
        )

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("once", UserWarning)
            warnings.showwarning = show
            yield
    except (typer.Exit, typer.Abort):
        raise
    except Exception as error:
        expected = isinstance(error, (ValueError, TypeError, OSError, ImportError)) or _is_own(error)
        if interrupts.happened or (not expected and os.environ.get(_TRACEBACK)):
            raise
        message = in_options(str(error), parameters) if expected else _unexpected(error)
        if isinstance(error, _OptionError) and not message.startswith(error.option):
            message = f"{error.option}: {message}"
        console.print(f"[red]error:[/red] {literal(message)}", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error


def _is_own(error: Exception) -> bool:
    """Return whether the library itself raised a ``RuntimeError``, whose message then says what to do."""
    if not isinstance(error, RuntimeError):
        return False
    *_, (frame, _line) = traceback.walk_tb(error.__traceback__)
    return str(frame.f_globals.get("__name__")).startswith("captum_lkn.")


def _unexpected(error: Exception) -> str:
    """Return a line about an error that no check raised, such as one of the model."""
    said = ": ".join(filter(None, (type(error).__name__, " ".join(str(error).split()))))
    if out_of_memory(error):
        return f"memory does not suffice ({said}). Give a shorter input, or a machine with more memory"
    return f"{said}. To see where, set {_TRACEBACK}=1"
