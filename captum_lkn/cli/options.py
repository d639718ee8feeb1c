"""Values of the command line's options."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import get_args

from captum_lkn._common.messages import some_of
from captum_lkn.cli.errors import about
from captum_lkn.models.layers import Layer, LayerLike, find_layers
from captum_lkn.models.model import Model
from captum_lkn.models.names import block_names
from captum_lkn.players.units import UnitKind
from captum_lkn.probes import LinearProbes
from captum_lkn.report.page import check_page

__all__ = [
    "check_report",
    "check_units",
    "class_of",
    "grid_of",
    "layers_of",
    "layers_with_probes",
    "listed",
    "load_probes",
]


def listed(given: str) -> list[str]:
    """Return the parts of a list with commas.

    Example:
        >>> listed("not, good,")
        ['not', 'good']
    """
    return [part.strip() for part in given.split(",") if part.strip()]


def check_units(given: str) -> None:
    """Check that ``--units`` is a kind of unit.

    Raises:
        ValueError: It is not.
    """
    kinds = get_args(UnitKind)
    if given not in kinds:
        raise ValueError(f"--units must be one of {', '.join(kinds)}; got {given!r}")


def check_report(given: Path | None) -> None:
    """Check that a page can be written to the file of ``--report``.

    Raises:
        ValueError: It cannot.
    """
    if given is not None:
        with about("--report"):
            check_page(given)


def load_probes(layers: str | None, given: Path | None, out: Path | None = None) -> LinearProbes | None:
    """Return the probes of the file of ``--probes``; None where the option is not given.

    Args:
        layers: The value of ``--layers``.
        given: That of ``--probes``.
        out: The file of the result.

    Raises:
        ValueError: The file cannot be read, or would be replaced by the result; or there are layers without probes.
    """
    if given is None and layers is not None:
        raise ValueError(
            f"--layers {layers} needs --probes, the read-outs of the layers. Make them with 'captum-lkn probe'"
        )
    if given is None:
        return None
    with about("--probes"):
        fitted = LinearProbes.load(given)
    if out is not None and out.resolve() == given.resolve():
        raise ValueError(f"--out must be another file than --probes; got {str(out)!r}")
    return fitted


def layers_of(given: str, model: Model) -> list[Layer]:
    """Return the layers of ``--layers``: names, numbers of blocks, ranges such as ``0-5``, or ``all`` blocks.

    Args:
        given: The option's value.
        model: The model, whose blocks ``all`` lists.

    Returns:
        The layers, each once.

    Raises:
        ValueError: A layer is unknown, a range is empty, or the model has no list of blocks.

    Example:
        >>> from torch import nn
        >>> model = Model(nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 2)))
        >>> [layer.label for layer in layers_of("1-2, 0, 2", model)]
        ['1', '2', '0']
    """
    layers = [layer for name in _names(given, model) for layer in find_layers(model, name)]
    return list({layer.label: layer for layer in layers}.values())


def _parts(given: str) -> list[str]:
    if not listed(given):
        raise ValueError(f"--layers must be names or numbers with commas between them; got {given!r}")
    return listed(given)


def _names(given: str, model: Model) -> list[LayerLike]:
    found: list[LayerLike] = []
    for part in _parts(given):
        first, dash, last = (piece.strip() for piece in part.partition("-"))
        if part == "all":
            if model.module is None:
                raise ValueError(f"--layers all needs a module with blocks; {model.name} is a function")
            found += block_names(model.module)
        elif part.removeprefix("-").isdecimal():
            found.append(int(part))
        elif dash and first.isdecimal() and last.isdecimal():
            if int(last) < int(first):
                raise ValueError(f"--layers has the empty range {part!r}. Give the smaller number first")
            if model.module is not None and int(last) >= (count := len(block_names(model.module))):
                raise ValueError(f"--layers has the range {part!r}, but the blocks are 0 to {count - 1}")
            found += range(int(first), int(last) + 1)
        else:
            found.append(part)
    return found


def layers_with_probes(given: str | None, model: Model, probes: LinearProbes, file: Path | None) -> list[Layer]:
    """Return the layers to explain, each with the pooling that its probe was fitted to.

    Args:
        given: The value of ``--layers``; None or ``all``: all layers that have a probe.
        model: The model.
        probes: The probes, whose labels are names of layers as well.
        file: Their file.

    Returns:
        Layers.

    Raises:
        ValueError: A layer is unknown, or has no probe; or the probes are of another model.
    """
    if model.module is not None:
        with about(f"--probes {file}"):
            probes.check(model.module)
    with about("--layers"):
        return _with_probes(given, model, probes)


def _with_probes(given: str | None, model: Model, probes: LinearProbes) -> list[Layer]:
    if given is None or _parts(given) == ["all"]:
        return [probe.layer for probe in probes.values()]
    # A probe's own label first: it may be that of a layer's input, which is not a name of a module.
    named = [[probes[name].layer] if name in probes else layers_of(name, model) for name in _parts(given)]
    layers = [layer for several in named for layer in several]
    if missing := [layer.label for layer in layers if layer.label not in probes]:
        raise ValueError(
            f"--probes has no probe of {some_of(missing)}; it has {some_of(list(probes))}. Leave --layers out for all"
        )
    return [probes[label].layer for label in dict.fromkeys(layer.label for layer in layers)]


def grid_of(given: str) -> tuple[int, int]:
    """Return rows and columns of ``--grid``.

    Raises:
        ValueError: The value is neither a number from 1 nor two of them with an x between.

    Example:
        >>> grid_of("3"), grid_of("4x6")
        ((3, 3), (4, 6))
    """
    rows, cross, columns = given.lower().partition("x")
    if not cross:
        columns = rows
    if not (rows.strip().isdecimal() and columns.strip().isdecimal() and int(rows) and int(columns)):
        raise ValueError(f"--grid must be a number, or rows x columns such as 4x6; got {given!r}")
    return int(rows), int(columns)


def class_of(given: str, labels: Mapping[int, str]) -> int | str:
    """Return the class of ``--target``: a number, or ``"predicted"``.

    Args:
        given: The option's value: a name in upper or lower case, else a number, or ``predicted``. (A result shows the
            class by its name.)
        labels: The names of the model's classes, by their numbers.

    Returns:
        The class.

    Raises:
        ValueError: The model has no such class, or two of that name.

    Example:
        >>> class_of("POSITIVE", {0: "negative", 1: "positive"})
        1
    """
    if given == "predicted":
        return given
    numbers = [number for number, label in labels.items() if given.lower() == label.lower()]
    if not numbers and given.removeprefix("-").isdecimal() and int(given) in labels:
        numbers = [int(given)]
    if len(numbers) != 1:
        wanted = "is the name of several classes" if numbers else "is not a class of the model"
        known = some_of([f"{number} {label}" for number, label in labels.items()])
        raise ValueError(f"--target {given!r} {wanted}. Give one of: {known}")
    return numbers[0]
