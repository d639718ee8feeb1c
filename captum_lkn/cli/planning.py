"""Plans of runs, which are printed on request and before long runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from rich.console import Console

from captum_lkn.attribution import Plan
from captum_lkn.players.players import Players

__all__ = ["plan_first"]

_MANY: Final = 1 << 14  # masks from which on a plan is made, which takes a few forwards and a decomposition
_LONG: Final = 60.0  # seconds from which on it is printed


def plan_first(
    console: Console, wanted: bool, several: Sequence[Players], n_samples: int | None, make: Callable[[], Plan]
) -> bool:
    """Print the plan of a run if it is wanted, or if the run is long.

    Args:
        console: The terminal.
        wanted: Whether the user wants the plan alone.
        several: The samples.
        n_samples: The number of sampled masks; None: all.
        make: Makes the plan.

    Returns:
        Whether to stop there.
    """
    masks = sum((1 << n if n_samples is None else n_samples) for players in several for n in players.sizes)
    if not wanted and masks < _MANY:
        return False
    plan = make()
    if wanted or plan.seconds >= _LONG:
        console.print(str(plan), markup=False, highlight=False, soft_wrap=True)
    return wanted
