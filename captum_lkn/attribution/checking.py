"""Properties that are checked on a user's own code, and the list of those that hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from captum_lkn._common.rounding import agree

__all__ = ["Check", "NotCheckedError", "check_same", "run_checks"]


class Check(NamedTuple):
    """One checked property.

    Attributes:
        name: The property.
        holds: Whether it holds; None where it could not be checked.
        detail: The reason where it does not hold or was not checked, else empty.
    """

    name: str
    holds: bool | None
    detail: str = ""

    def __str__(self) -> str:
        mark = {True: "ok", False: "FAILS", None: "not checked"}[self.holds]
        return f"{mark:12}{self.name}{f': {self.detail}' if self.detail else ''}"


class NotCheckedError(Exception):
    """Reason why a property could not be checked."""


def run_checks(checks: Sequence[tuple[str, Callable[[], None]]], verbose: bool) -> tuple[Check, ...]:
    """Run checks, and return which hold; an error of any kind is the reason of one that does not.

    A check that ends in the error of one before it, such as that of a target that does not fit, is not checked.

    Args:
        checks: A name for each property, and a function that raises where it does not hold.
        verbose: Whether to print a line for each property.

    Returns:
        The properties, in their order.
    """
    found: list[Check] = []
    for name, check in checks:
        try:
            check()
            result = Check(name, True)
        except NotCheckedError as reason:
            result = Check(name, None, str(reason))
        except Exception as error:  # of the user's own code, which is what is checked
            told = str(error) or type(error).__name__
            again = any(one.holds is False and one.detail == told for one in found)
            result = Check(name, None, "the same error") if again else Check(name, False, told)
        found.append(result)
        if verbose:
            print(result)
    return tuple(found)


def check_same(some: Tensor, others: Tensor, eps: float, scale: Tensor | None = None) -> None:
    """Check that two computations of values agree, up to rounding.

    Args:
        some: The values.
        others: The same in another way.
        eps: The rounding unit.
        scale: Values whose range is the scale of rounding; None: `some`.

    Raises:
        ValueError: They differ.
    """
    base = some if scale is None else scale
    if not agree(torch.cat([base, some]), torch.cat([base, others.to(some)]), eps):
        raise ValueError(f"the values differ by up to {float((some - others.to(some)).abs().max()):.3g}")
