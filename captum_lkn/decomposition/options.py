"""Options of a decomposition, checked once and stored in every result."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, get_args

import torch
from torch import Tensor

from captum_lkn._common.checks import is_number, is_one_of, is_whole

__all__ = [
    "LARGEST_GAP",
    "LARGEST_WEIGHT",
    "NOISE",
    "ORDER_WEIGHT",
    "OR_WEIGHT",
    "RIDGE",
    "TOLERANCE",
    "DecompositionKind",
    "DecompositionOptions",
    "given_options",
    "n_possible",
]

DecompositionKind: TypeAlias = Literal["and-or", "and"]

NOISE: Final = 0.04
"""The paper's kappa as a share of |v(N) - v(empty)|."""

# These decide between explanations of nearly the same cost. Two equal effects i, j cost the same as "i and j" with
# "i or j", but for the order weight, which prefers the single players. Where i and j have opposite signs, "i and j"
# with one of them costs the same as a mixture with "i or j": the price on OR takes the end with fewer effects, AND
# effects. The ridge makes the answer unique, and is small, since it spreads over more effects; below twice the order
# weight it keeps additive models additive. All three were chosen on planted games (benchmarks/planted.py, the table in
# docs/method.md).
ORDER_WEIGHT: Final = 0.15
RIDGE: Final = 0.1
OR_WEIGHT: Final = 1.1

TOLERANCE: Final = 1e-5

LARGEST_GAP: Final = 0.1
"""Effects whose sum may be more than this share above the least one are not handed over."""

LARGEST_WEIGHT: Final = 1e10
"""Weights beyond this, or factors of weights below its inverse, are lost in the rounding of float64."""


@dataclass(frozen=True)
class DecompositionOptions:
    r"""Options of the sparse AND-OR decomposition of a value table.

    With them, :func:`captum_lkn.decompose` minimises ::

        sum over nonempty S of  w_S (|I_and(S)| + or_weight |I_or(S)|)
                                + ridge / 2 * (I_and(S)^2 + I_or(S)^2) / max |v - v(empty)|

    with ``w_S = 1 + order_weight (|S| - 1)``, over effects that reproduce every value within kappa (Eq. 5 of Cheng et
    al., "Layerwise Change of Knowledge in Neural Networks", ICML 2024, plus the order weight and the ridge, which
    make the minimiser unique; ``order_weight=0, or_weight=1, ridge=0`` is the paper's problem).

    Attributes:
        noise: kappa as a share of \|v(N) - v(empty)\| of each table. 0: every value is reproduced exactly.
        kappa: kappa itself, in the units of the values. It replaces ``noise``; None: ``noise`` decides.
        pin_ends: Whether v(empty) and v(N) are reproduced exactly, so that all effects add up to v(N). The paper
            leaves them free.
        order_weight: The additional weight of a set for each player beyond the first.
        or_weight: The factor of the weights of OR effects. Above 1, ties and near ties go to AND effects, which
            are then fewer.
        ridge: The weight of the squares. Any positive value makes the minimiser unique.
        tolerance: The certified relative gap to stop at. Above 1e-3 the effects are a preview, since they converge
            later than the sum.
        max_steps: The largest number of first-order steps for a table of more than 13 players whose answer is dense.
            None: 20,000, from 17 players on half as many for each further one. Smaller tables need no limit.
        largest_gap: A certified gap above this (and above ``tolerance``) is an error instead of a result. A large
            number, such as 1e9, takes any result.
        kind: ``"and-or"``, or ``"and"`` for AND effects alone (Harsanyi dividends where kappa is 0).

    Raises:
        TypeError: An option is not a number, or ``pin_ends`` is not a bool.
        ValueError: An option is out of range, or ``kind`` is unknown.

    Example:
        >>> options = DecompositionOptions(noise=0.02)
        >>> options.kind, options.kappa
        ('and-or', None)
        >>> options.replace(kappa=0.1).kappa
        0.1
    """

    noise: float = NOISE
    kappa: float | None = None
    pin_ends: bool = True
    order_weight: float = ORDER_WEIGHT
    or_weight: float = OR_WEIGHT
    ridge: float = RIDGE
    tolerance: float = TOLERANCE
    max_steps: int | None = None
    largest_gap: float = LARGEST_GAP
    kind: DecompositionKind = "and-or"

    def __post_init__(self) -> None:
        for name in ("noise", "kappa", "order_weight", "or_weight", "ridge", "tolerance", "largest_gap"):
            given = getattr(self, name)
            if name == "kappa" and given is None:
                continue
            # Frozen for the user; here the numbers take their final type, which is also that of a loaded file.
            object.__setattr__(self, name, _number(name, given, positive=name in ("or_weight", "tolerance")))
        if self.max_steps is not None:
            object.__setattr__(self, "max_steps", _whole("max_steps", self.max_steps))
        if not isinstance(self.pin_ends, bool):
            raise TypeError(f"pin_ends must be True or False; got {self.pin_ends!r}")
        if not is_one_of(self.kind, get_args(DecompositionKind)):
            raise ValueError(f"kind must be 'and-or' or 'and'; got {self.kind!r}")

    def replace(self, **changes: Any) -> DecompositionOptions:
        """Return options with some of them changed.

        Args:
            **changes: Options by name. One that is None stays as it is. ``noise`` without ``kappa`` also drops a kappa
                that was set before, since that would replace it.

        Returns:
            New options.

        Raises:
            TypeError: There is no such option, or as for the class.
            ValueError: As for the class.

        Example:
            >>> DecompositionOptions(kappa=0.1).replace(noise=0.0).kappa is None
            True
        """
        given = {name: value for name, value in changes.items() if value is not None}
        if "noise" in given and "kappa" not in given:
            given["kappa"] = None
        return dataclasses.replace(self, **given)

    def to_dict(self) -> dict[str, Any]:
        """Return the options by name, as JSON can hold them; ``DecompositionOptions(**them)`` makes them anew."""
        return dataclasses.asdict(self)


def given_options(options: Any, changes: Mapping[str, Any]) -> DecompositionOptions:
    """Return the options of a call that takes ``options=`` as well as some of them as keywords.

    Args:
        options: None for the defaults, or :class:`DecompositionOptions`.
        changes: The keywords, which replace what ``options`` says; None for those that were not given.

    Returns:
        The options.

    Raises:
        TypeError: ``options`` is something else, or as for :class:`DecompositionOptions`.
        ValueError: As for :class:`DecompositionOptions`.
    """
    if options is not None and not isinstance(options, DecompositionOptions):
        raise TypeError(
            f"options must be a DecompositionOptions; got {type(options).__name__}. Give single options as keywords, "
            "such as noise=0.02"
        )
    return (options or DecompositionOptions()).replace(**changes)


def _whole(name: str, given: Any) -> int:
    """Return a whole number of at least 1."""
    problem = f"{name} must be None or a whole number >= 1; got {given!r}"
    if not is_whole(given):
        raise TypeError(problem)
    if given < 1:
        raise ValueError(problem)
    return int(given)


def _number(name: str, given: Any, positive: bool) -> float:
    """Return a finite number of at least 0, or above 0, as a float."""
    wanted = f"a finite number {'above 0' if positive else '>= 0'}"
    # A tensor of one number serves as well; a string or a bool is a mistake, though float() takes them.
    if not is_number(given) and not (isinstance(given, Tensor) and given.numel() == 1 and given.dtype != torch.bool):
        raise TypeError(f"{name} must be {wanted}; got {given!r}")
    number = float(given)
    if name in ("order_weight", "or_weight", "ridge") and LARGEST_WEIGHT < number < math.inf:
        raise ValueError(f"{name} must be at most {LARGEST_WEIGHT:g}; got {given!r}")
    if name == "or_weight" and 0 < number < 1 / LARGEST_WEIGHT:
        raise ValueError(f"{name} must be at least {1 / LARGEST_WEIGHT:g}; got {given!r}")
    if not math.isfinite(number) or number < 0 or (positive and number == 0):
        hint = ". The least useful gap is about 1e-9, e.g. tolerance=1e-6" if name == "tolerance" else ""
        raise ValueError(f"{name} must be {wanted}; got {given!r}{hint}")
    return number


def n_possible(n: int, kind: DecompositionKind) -> int:
    """Return the number of effects that there can be; an OR effect of one player is its AND effect.

    Args:
        n: The number of players.
        kind: Of which kinds the effects are.

    Example:
        >>> n_possible(3, "and-or"), n_possible(3, "and")
        (11, 7)
    """
    sets = (1 << n) - 1
    return sets if kind == "and" else 2 * sets - n
