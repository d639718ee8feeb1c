"""What the parts of a result must be; every error quotes what was given."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from captum_lkn._common.messages import kind_of, shape_of

__all__ = ["check_bound", "check_players", "check_table"]


def check_players(players: Any) -> None:
    """Labels are a tuple of at least one string."""
    if not isinstance(players, tuple) or not all(isinstance(name, str) for name in players):
        raise TypeError(f"players must be a tuple of strings, one label a player; got {players!r}")
    if not players:
        raise ValueError("players is empty: interactions are those of at least one player")


def check_table(name: str, table: Any, n: int) -> None:
    """A table is finite, float64, on the CPU, and as long as the players say."""
    if not isinstance(table, Tensor) or table.dtype != torch.float64 or table.device.type != "cpu":
        where = f" on {table.device}" if isinstance(table, Tensor) else ""
        raise TypeError(
            f"{name} must be a float64 tensor on the CPU; got {kind_of(table)}{where}: convert with .double().cpu()"
        )
    if table.shape != (1 << n,):
        raise ValueError(f"{name} must be [2^n] = [{1 << n}] for {n} players; got {shape_of(table)}")
    if not bool(table.isfinite().all()):
        subset = int((~table.isfinite()).nonzero()[0])
        raise ValueError(f"{name} is {float(table[subset])} at index {subset}: all entries must be finite")


def check_bound(name: str, value: Any, or_infinite: bool = False) -> float:
    """A number from 0 to infinity, the latter only where that is allowed, as a float."""
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must be a number; got {value!r}") from error
    if not (0 <= number < math.inf or (or_infinite and number == math.inf)):
        raise ValueError(f"{name} must be at least 0{'' if or_infinite else ' and finite'}; got {number}")
    return number
