"""Plans of runs, which are printed on request and before long runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from rich.console import Console

from captum_lkn.attribution import Plan
from captum_lkn.players.players import Players

__all__ = ["plan_first"]

_MANY: Final = 1 << 14  # masks from which on a plan is made, which takes a few forwards and a decomposition
_LONG: Final = 60.0  # seconds from which on it is printed
_PYTHON: Final = re.compile(r"\w=\w|\w\(\w")


def plan_first(
    console: Console,
    wanted: bool,
    several: Sequence[Players],
    make: Callable[[], Plan],
    n_samples: int | None = None,
    can_sample: bool = False,
) -> bool:
    """Print the plan of a run if it is wanted, or if the run is long.

    Args:
        console: The terminal.
        wanted: Whether the user wants the plan alone.
        several: The samples.
        make: Makes the plan.
        n_samples: The number of sampled masks; None: all.
        can_sample: Whether the command has the option ``--n-samples``.

    Returns:
        Whether to stop there.
    """
    masks = sum((1 << n if n_samples is None else n_samples) for players in several for n in players.sizes)
    if not wanted and masks < _MANY:
        return False
    plan = make()
    if wanted or plan.seconds >= _LONG:
        own = filter(None, (_in_options(line, can_sample) for line in plan.advice))
        console.print(str(replace(plan, advice=tuple(own))), markup=False, highlight=False, soft_wrap=True)
    return wanted


def _in_options(advice: str, can_sample: bool) -> str:
    """Return a shorter way in terms of the command's options; empty if it has none for it."""
    text = re.sub(r"select_players\(model, players, (\d+)\)", r"--most \1", advice)
    text = re.sub(r"n_samples=(\d+)", r"--n-samples \1", text) if can_sample else text
    return "" if _PYTHON.search(text) else text
