"""Kronecker products of 2 x 2 blocks, one a player, applied to tables ``[..., 2^n]``."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import torch
from torch import Tensor

from captum_lkn._common.rounding import no_autocast, precision_in_force

__all__ = ["Block", "check_floating", "kronecker", "n_players"]

Block = tuple[tuple[float, float], tuple[float, float]]

# Up to six players make one matrix, 64 x 64: large enough for a product to pay, small enough to stay O(n 2^n).
_GROUP: Final = 6


def n_players(table: Tensor) -> int:
    """Return the n of a table ``[..., 2^n]``.

    Args:
        table: Any tensor whose last dimension runs over all subsets.

    Returns:
        The number of players, at least 0.

    Raises:
        TypeError: ``table`` is not a tensor.
        ValueError: The last dimension is not a power of two.

    Example:
        >>> n_players(torch.zeros(3, 1024))
        10
    """
    if not isinstance(table, Tensor):
        raise TypeError(f"table must be a tensor [..., 2^n]; got {type(table).__name__}. Give torch.as_tensor(table)")
    size = table.shape[-1] if table.dim() else 0
    if size < 1 or size & (size - 1):
        raise ValueError(
            f"the last dimension of a table must be a power of two, one value for every subset (bit i = player i); "
            f"got {size} in the shape {list(table.shape)}"
        )
    return int(size).bit_length() - 1


def check_floating(table: Tensor) -> None:
    """Check that a table is floating."""
    if not table.is_floating_point():
        raise TypeError(f"a table must have a floating dtype; got {table.dtype}. Convert it with table.double()")


def kronecker(table: Tensor, block: Block) -> Tensor:
    """Apply the n-fold Kronecker product of a 2 x 2 block to the last dimension.

    It is computed in the table's dtype, in float64 where a GPU would compute float32 products in TF32.
    """
    n = n_players(table)
    check_floating(table)
    device = table.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        with no_autocast():
            return kronecker(table, block)
    # A solver calls this a thousand times a table: on a CPU nothing is looked up.
    if device == "cuda" and precision_in_force(table.dtype, table.device).reduced:
        return kronecker(table.double(), block).to(table.dtype)
    result = table
    groups = -(-n // _GROUP)
    for group in range(groups):  # of nearly the same size
        low = group * n // groups
        size = (group + 1) * n // groups - low
        matrix = _power(block, size, table.dtype, table.device)
        # Index = (higher bits, this group, lower bits): a product with the middle one.
        if low == 0:
            result = (result.reshape(-1, 1 << size) @ matrix.T).reshape(table.shape)
        else:
            result = (matrix @ result.reshape(-1, 1 << size, 1 << low)).reshape(table.shape)
    return result if n else result.clone()


@lru_cache(maxsize=256)
def _power(block: Block, size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the Kronecker power of a 2 x 2 block; its later factors are the lower bits, as in an index."""
    with torch.inference_mode(False):  # what is kept must serve autograd too, whoever asked first
        base = torch.tensor(block, dtype=dtype, device=device)
        result = base
        for _ in range(size - 1):
            result = torch.kron(result, base)
        return result
