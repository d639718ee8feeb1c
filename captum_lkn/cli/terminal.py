"""Interactions of a text, printed for a person at a terminal."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from captum_lkn._common.colours import colour_of
from captum_lkn.decomposition import lattice
from captum_lkn.interactions import Interaction, Interactions
from captum_lkn.interactions.ranking import count_above, largest_effect
from captum_lkn.interactions.rendering import joined
from captum_lkn.knowledge import KnowledgeChange

__all__ = ["ends", "explained", "print_certificate", "print_change", "print_text_interactions", "unit_of"]

_BAR = 16


def print_text_interactions(console: Console, found: Interactions, *, title: str, label: str, top: int = 5) -> None:
    """Print what drives a decision: the score, the strongest interactions, and how well they tell the whole story.

    Args:
        console: Where to.
        found: The interactions of one text; its provenance names the unit of the score.
        title: The text.
        label: The name of the class, or of the value, that is explained.
        top: How many AND and how many OR interactions.
    """
    console.print(f'\n[bold]"{escape(title)}"[/bold]')
    console.print(f"[bold]{escape(label)}[/bold] with {ends(found, 'words')}", highlight=False)
    strongest = largest_effect(found.and_effects, found.or_effects)
    kinds = (("and", "all of these words together (or one word alone)"), ("or", "any one of these words"))
    for kind, meaning in kinds:
        _print_kind(console, found.top(top, kind=kind), f"{kind.upper()}: {meaning}", strongest)  # type: ignore[arg-type]
    print_certificate(console, found, "masked sentences")


def unit_of(found: Interactions) -> str:
    """Return the unit of the score that interactions explain; empty: none is known."""
    return str(found.provenance.get("unit", ""))


def ends(found: Interactions, parts: str) -> str:
    """Return the values with all players present and with none, and of log-odds their probabilities.

    Args:
        found: The interactions of one sample.
        parts: What the players are called.
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
    """Print how well interactions tell the whole story.

    Args:
        console: Where to.
        found: The interactions of one sample.
        copies: What the masked copies are called.
    """
    salient = found.salient()
    threshold = min((abs(one.effect) for one in salient), default=0.0)
    nonzero = count_above(found.and_effects, found.or_effects, 0.0)
    unit = f" {unit_of(found)}".rstrip()
    console.print(
        f"All {nonzero} nonzero effects give back the outputs for all 2^{found.n_players} = {len(found.values)} "
        f"{copies} within {found.residual:.2g}{unit} (allowed: {found.kappa:.2g}); the {len(salient)} salient ones "
        f"(above 5 % of the largest) explain {explained(found, threshold):.1%} of their variance. "
        f"Certified: within {max(found.gap, 1e-9):.0e} of the smallest possible sum.",
        highlight=False,
    )


def explained(found: Interactions, threshold: float = 0.0) -> float:
    """The share of the variance of all 2^n outputs that the effects of at least a size reproduce.

    Args:
        found: The interactions of one sample.
        threshold: Effects smaller than this count as 0.

    Returns:
        R², at most 1; 1 where the outputs do not vary.

    Example:
        >>> table = torch.tensor([0.0, 1.0, 1.0, 1.0], dtype=torch.float64)
        >>> zero = torch.zeros_like(table)
        >>> either = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=torch.float64)
        >>> explained(Interactions(("a", "b"), zero, either, table, kappa=0.0, gap=0.0))
        1.0
    """
    kept = lattice.and_inverse(_large(found.and_effects, threshold))
    kept = kept + lattice.or_inverse(_large(found.or_effects, threshold))
    total = (found.values - found.values.mean()).square().sum()
    return float(1 - (found.values - kept).square().sum() / total) if total > 0 else 1.0


def _large(effects: Tensor, threshold: float) -> Tensor:
    keep = effects.abs() >= threshold
    keep[0] = True  # the empty effect is where all masked sentences start from
    return torch.where(keep, effects, torch.zeros_like(effects))


def _print_kind(console: Console, found: Sequence[Interaction], heading: str, strongest: float) -> None:
    table = Table(title=heading, title_justify="left", title_style="", box=None, show_header=False, pad_edge=False)
    table.add_column(min_width=34)
    table.add_column(justify="right")
    table.add_column()
    for one in found:
        bar = "#" * round(_BAR * abs(one.effect) / strongest)
        colour = colour_of(one.effect)
        table.add_row("  " + escape(joined(one.kind, one.players)), f"{one.effect:+.2f}", f"[{colour}]{bar}[/{colour}]")
    if not found:
        table.add_row("  none", "", "")
    console.print(table)


def _probability(log_odds: float) -> float:
    """The probability of a class with these log-odds."""
    return float(torch.sigmoid(torch.tensor(log_odds)))


def print_change(console: Console, change: KnowledgeChange) -> None:
    """Print what layers know of a decision: completeness and redundancy by layer, kind and order.

    Args:
        console: Where to; its width does not matter.
        change: The layers compared with the output.
    """
    console.print("\n[bold]From layer to layer[/bold]")
    console.print(
        "completeness: how much of what the output uses a layer knows already; redundancy: how much of what a layer "
        "knows is forgotten on the way to the output. By order, the number of words of an interaction.",
        highlight=False,
    )
    console.print(f"\n{change}", markup=False, highlight=False, soft_wrap=True)
