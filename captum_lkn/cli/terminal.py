"""Interactions of a text, printed on a terminal."""

from __future__ import annotations

import math
import sys

from rich.console import Console
from rich.text import Text

from captum_lkn._common.colours import colour_of
from captum_lkn.cli.literals import literal
from captum_lkn.interactions import Interactions
from captum_lkn.interactions.rendering import bars
from captum_lkn.knowledge import KnowledgeChange

__all__ = [
    "ends",
    "explained",
    "is_interactive",
    "print_certificate",
    "print_change",
    "print_interactions",
    "print_text_interactions",
    "unit_of",
]


def is_interactive() -> bool:
    """Return whether progress is seen: False without a stream for errors, or where it is closed or not a terminal."""
    try:
        return sys.stderr is not None and sys.stderr.isatty()
    except ValueError:  # closed
        return False


def print_text_interactions(
    console: Console, found: Interactions, *, title: str, label: str, units: str = "words", top: int = 5
) -> None:
    """Print the score of a decision, its strongest interactions, and the quality of the explanation.

    Args:
        console: The terminal.
        found: The interactions of one text; its provenance names the unit of the score.
        title: The text.
        label: The name of the class, or of the value, that is explained.
        units: The parts of the text that are players, such as ``"sentences"``.
        top: Number of AND and of OR interactions.
    """
    console.print(f'\n[bold]"{literal(title)}"[/bold]')
    console.print(f"[bold]{literal(label)}[/bold] with {ends(found, units)}", highlight=False)
    print_interactions(console, found, units.removesuffix("s"), top)
    print_certificate(console, found, "masked texts" if units == "sentences" else "masked sentences")


def print_interactions(console: Console, found: Interactions, part: str, top: int) -> None:
    """Print the strongest AND and OR interactions, with bars to the left of zero or to the right.

    Args:
        console: The terminal.
        found: The interactions of one sample.
        part: The name of one player, such as ``"word"``.
        top: Number of AND and of OR interactions.
    """
    both = [found.top(top, kind=kind) for kind in ("and", "or")]
    # Together, so that both kinds have one scale.
    lines = iter(bars([(one.name, one.effect) for one in [*both[0], *both[1]]]))
    headings = (f"AND: all of these {part}s together (or one {part} alone)", f"OR: any one of these {part}s")
    for heading, shown in zip(headings, both, strict=True):
        console.print(heading)
        for one in shown:
            console.print(Text(f"  {next(lines)}", style=colour_of(one.effect)), soft_wrap=True)
        if not shown:
            console.print("  none")


def unit_of(found: Interactions) -> str:
    """Return the unit of the score that interactions explain; empty: none is known."""
    return str(found.provenance.get("unit", ""))


def ends(found: Interactions, parts: str) -> str:
    """Return the values with all players present and with none, and of log-odds their probabilities.

    Args:
        found: The interactions of one sample.
        parts: The name of the players, such as ``"words"``.
    """
    unit, full, empty = unit_of(found), "", ""
    if unit == "log-odds":
        full = f" (probability {_probability(found.v_full):.0%})"
        empty = f" ({_probability(found.v_empty):.0%})"
    return (
        f"{unit or 'value'} {found.v_full:+.2f}{full}; with all {found.n_players} {parts} masked "
        f"{found.v_empty:+.2f}{empty}"
    )


def print_certificate(console: Console, found: Interactions, copies: str) -> None:
    """Print how well the interactions reproduce all outputs, and how close they are to the smallest sum.

    Args:
        console: The terminal.
        found: The interactions of one sample.
        copies: The name of the masked copies, such as ``"masked sentences"``.
    """
    salient = found.salient()
    threshold = min((abs(one.effect) for one in salient), default=0.0)
    nonzero = len(found.effects)
    unit = f" {unit_of(found)}".rstrip()
    console.print(
        f"All {nonzero} nonzero effects give back the outputs for all 2^{found.n_players} = {len(found.values)} "
        f"{copies} within {found.residual:.2g}{unit} (allowed: {found.kappa:.2g}); the {len(salient)} salient ones "
        f"(above 5 % of the largest) explain {explained(found, threshold):.1%} of their variance. "
        f"Certified: within {max(found.gap, 1e-9):.0e} of the smallest possible sum.",
        highlight=False,
    )


def explained(found: Interactions, threshold: float = 0.0) -> float:
    """Return the share of the variance of all 2^n outputs that the larger effects reproduce.

    Args:
        found: The interactions of one sample.
        threshold: Effects smaller than this count as 0.

    Returns:
        R², at most 1; 1 where the outputs do not vary.

    Example:
        >>> from captum_lkn.decomposition import Effects
        >>> import torch
        >>> table = torch.tensor([0.0, 1.0, 1.0, 1.0], dtype=torch.float64)
        >>> either = Effects.of(2, [("or", (0, 1), 1.0)])
        >>> explained(Interactions(("a", "b"), either, table, kappa=0.0, gap=0.0))
        1.0
    """
    kept = found.effects.select(found.effects.values.abs() >= threshold).reconstruction
    total = (found.values - found.values.mean()).square().sum()
    return float(1 - (found.values - kept).square().sum() / total) if total > 0 else 1.0


def _probability(log_odds: float) -> float:
    """Return the probability of a class with these log-odds."""
    return 1 / (1 + math.exp(-max(-700.0, log_odds)))


def print_change(console: Console, change: KnowledgeChange) -> None:
    """Print the comparison of layers with the output: completeness and redundancy by layer, kind and order.

    Args:
        console: The terminal; its width does not matter.
        change: The layers compared with the output.
    """
    console.print("\n[bold]From layer to layer[/bold]")
    console.print(
        "completeness: the share of the output's interactions that a layer has; redundancy: the share of a layer's "
        "interactions that the output does not have. By order, the number of words of an interaction.",
        highlight=False,
    )
    console.print(f"\n{change}", markup=False, highlight=False, soft_wrap=True)
