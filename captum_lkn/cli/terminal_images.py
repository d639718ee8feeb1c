"""Interactions of an image, printed on a terminal."""

from __future__ import annotations

import string
from typing import Any

import torch
from rich.console import Console
from rich.text import Text
from torch import Tensor

from captum_lkn._common.colours import colour_of
from captum_lkn._common.formats import effect_format, printable
from captum_lkn.cli.literals import literal
from captum_lkn.cli.terminal import ends, print_certificate, print_interactions
from captum_lkn.interactions import Interactions
from captum_lkn.players.images import player_map

__all__ = ["print_image_interactions"]

_MAP = (14, 28)  # rows and columns of a map of segments: a character is about twice as high as wide


def print_image_interactions(console: Console, found: Interactions, *, title: str, label: str, top: int = 5) -> None:
    """Print the score of a decision about a picture, a map of its parts, and the strongest interactions.

    Args:
        console: The terminal.
        found: The interactions of one image; its provenance names the unit of the score.
        title: The name of the picture.
        label: The name of the class that is explained.
        top: Number of AND and of OR interactions.
    """
    console.print(f"\n[bold]{literal(title)}[/bold]")
    console.print(f"[bold]{literal(label)}[/bold] with {ends(found, 'parts')}", highlight=False)
    console.print("Contribution of each part, averaged over all orders in which parts appear (Shapley values):")
    for line in _map_lines(found):
        console.print(line, soft_wrap=True)
    print_interactions(console, found, "part", top)
    print_certificate(console, found, "masked pictures")


def _map_lines(found: Interactions) -> list[Text]:
    """Return the lines of a grid of Shapley values; for segments, a map of letters and the value of each letter."""
    values = found.shapley_values().tolist()
    number = effect_format(max(map(abs, values)))
    texts = [Text(number.format(value), style=colour_of(value)) for value in values]
    owners = player_map(found).cpu()
    grid: Any = found.provenance.get("grid")
    if grid:
        width = max(map(len, texts))
        texts = [Text(" " * (width - len(text))).append_text(text) for text in texts]
        texts.append(Text(" " * (width - 1) + "."))  # the background's number, -1, reads the last entry
        cells = owners[grid["rows"][:-1]][:, grid["columns"][:-1]].tolist()
        return [Text("  ") + Text("  ").join(texts[i] for i in row) for row in cells]
    letters = string.ascii_letters[: len(values)] + "."
    rows, columns = (_centres(size, count) for size, count in zip(owners.shape, _MAP, strict=True))
    lines = [Text("  " + "".join(letters[i] for i in row)) for row in owners[rows][:, columns].tolist()]
    names = zip(letters, map(printable, found.players), texts, strict=False)
    return lines + [Text(f"  {letter}  {name}  ").append_text(text) for letter, name, text in names]


def _centres(size: int, count: int) -> Tensor:
    """Return the middles of `count` equal parts of `size` pixels."""
    return (torch.arange(count, device="cpu") * 2 + 1) * size // (2 * count)
