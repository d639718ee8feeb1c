"""A comparison of states under several conventions of the decomposition, side by side.

Several explanations of a table cost about the same, and the weights of the minimised sum decide between them. What a
comparison of states says should not depend on them: here every table is decomposed again with other weights, and the
states are compared each time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import torch
from torch import Tensor

from captum_lkn._common import html
from captum_lkn._common.arguments import checked
from captum_lkn._common.formats import columns
from captum_lkn._common.frames import import_pandas
from captum_lkn._common.messages import some_of
from captum_lkn.decomposition.effects import KINDS
from captum_lkn.interactions.about import WIDTH
from captum_lkn.knowledge.comparison import Comparison
from captum_lkn.knowledge.rendering import prefix_of, shown_label, shown_number

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CONVENTIONS", "Sensitivity"]

CONVENTIONS: Final[Mapping[str, Mapping[str, Any]]] = {
    "the paper's program": {"order_weight": 0.0, "or_weight": 1.0, "ridge": 0.0},
    "order_weight 0": {"order_weight": 0.0},
    "or_weight 1": {"or_weight": 1.0},
    "AND only": {"kind": "and"},
}
"""Options that replace those of the extraction, by the name of the convention."""

_ORDERS: Final = 3


@checked()
@dataclass(frozen=True, eq=False, repr=False)
class Sensitivity(Mapping[str, Mapping[str, Comparison]]):
    """States compared with a reference under several conventions: a mapping from convention to state to comparison.

    Printing it shows the completeness of AND and OR effects by order, a line for each convention.

    Attributes:
        comparisons: By the name of the convention, the first that of the extraction, each state's comparison.
        reference: The label of the reference.
        noun: What a state is called.
    """

    comparisons: Mapping[str, Mapping[str, Comparison]]
    reference: str
    noun: str = "layer"

    def __post_init__(self) -> None:
        found = [
            (list(states), {one.samples.all.shape for one in states.values()}) for states in self.comparisons.values()
        ]
        if not found or not found[0][0]:
            raise ValueError("comparisons must have a convention and a state at least; got none")
        if any(one != found[0] or len(one[1]) > 1 for one in found):
            raise ValueError(
                "comparisons must be of the same states and orders under each convention; got "
                f"{some_of([', '.join(states) for states, _ in found])}"
            )

    def __getitem__(self, convention: str) -> Mapping[str, Comparison]:
        return self.comparisons[convention]

    def __iter__(self) -> Iterator[str]:
        return iter(self.comparisons)

    def __len__(self) -> int:
        return len(self.comparisons)

    @checked()
    def spread(self, name: Literal["completeness", "redundancy"] = "completeness") -> dict[str, Tensor]:
        """Return the difference between the largest and the smallest share over all conventions.

        Args:
            name: The share.

        Returns:
            For each state ``[2, m]``, AND before OR, order 1 to m; conventions in which a share is NaN do not count.
        """
        each = {state: torch.stack([getattr(found[state], name) for found in self.values()]) for state in self._states}
        return {
            state: torch.where(
                shares.isnan().all(0),
                math.nan,
                shares.nan_to_num(-math.inf).amax(0) - shares.nan_to_num(math.inf).amin(0),
            )
            for state, shares in each.items()
        }

    def to_frame(self) -> pd.DataFrame:
        """Return a row for each convention, state, kind and order.

        Returns:
            A DataFrame with the columns convention, state, kind, order, completeness and redundancy.

        Raises:
            ImportError: If pandas is not installed.
        """
        rows = [
            (convention, state, kind, m + 1, float(found.completeness[k, m]), float(found.redundancy[k, m]))
            for convention, states in self.items()
            for state, found in states.items()
            for k, kind in enumerate(KINDS)
            for m in range(found.all.shape[1])
        ]
        names = ["convention", self.noun, "kind", "order", "completeness", "redundancy"]
        return import_pandas().DataFrame(rows, columns=names)

    @property
    def _states(self) -> list[str]:
        return list(next(iter(self.comparisons.values())))

    @property
    def _names(self) -> tuple[list[str], str]:
        """The names of the states without the beginning that they share, and the title."""
        prefix = prefix_of(self._states)
        names = [shown_label(state.removeprefix(prefix)) for state in self._states]
        title = (
            f"completeness under {len(self)} conventions; columns: {self.noun}s{f' of {prefix[:-1]}' if prefix else ''}"
        )
        return names, title

    def __repr__(self) -> str:
        names, title = self._names
        front = max(columns(name) for name in self) + 2
        width = max(4, *map(columns, names))
        fitting = max(1, (WIDTH - front - 10) // (width + 2))
        lines = [title]
        for first in range(0, len(names), fitting):
            some = slice(first, first + fitting)
            head = "  ".join(f"{' ' * (width - columns(name))}{name}" for name in names[some])
            lines.append(f"{'':{front + 8}}{head}")
            lines += [
                f"{kind:8}{convention:{front}}{'  '.join(f'{cell:>{width}}' for cell in cells)}"
                for kind, convention, *cells in self._rows(some)
            ]
        return "\n  ".join(line.rstrip() for line in lines)

    def _repr_html_(self) -> str:
        names, title = self._names
        return html.table(
            [title], ["effects", "convention", *names], self._rows(slice(None)), ["effects", "convention"]
        )

    def _rows(self, some: slice) -> Iterator[list[str]]:
        """Yield for each kind, order and convention its names and a share a state; nothing where no state has one."""
        for k, kind in enumerate(KINDS):
            for order in (*range(1, _ORDERS + 1), None):
                title = f"{kind.upper()} {order}" if order else f"all {kind.upper()}"
                for convention, states in self.items():
                    shares = [_share(states[state], k, order) for state in self._states[some]]
                    if not all(map(math.isnan, shares)):
                        yield [title, convention, *(shown_number(share, ".2f") for share in shares)]
                        title = ""


def _share(found: Comparison, k: int, order: int | None) -> float:
    if order is None:
        return float(found.over_orders().completeness[k, 0])
    return float(found.completeness[k, order - 1]) if order <= found.all.shape[1] else math.nan
