"""Kronecker products of 2 x 2 blocks, one a player, applied to tables ``[..., 2^n]``."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import Final

import torch
from torch import Tensor

from captum_lkn._common.messages import kind_of
from captum_lkn._common.rounding import no_autocast, precision_in_force

__all__ = ["Block", "apply_powers", "check_floating", "kronecker", "matrix_powers", "n_players"]

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
    if table.is_nested:
        raise TypeError(f"table must be a tensor [..., 2^n]; got {kind_of(table)}")
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
    powers = matrix_powers(block, n, table.dtype, table.device)
    return apply_powers(table.reshape(-1, 1 << n), powers).reshape(table.shape)


def apply_powers(table: Tensor, powers: tuple[Tensor, ...]) -> Tensor:
    """Apply a Kronecker product of matrices to tables ``[rows, 2^n]``, without a check: a solver's steps consist of it.

    Args:
        table: ``[rows, 2^n]``, contiguous.
        powers: The matrices of :func:`matrix_powers`.

    Returns:
        ``[rows, 2^n]``.

    Example:
        >>> zeta = matrix_powers(((1, 0), (1, 1)), 2, torch.float32, torch.device("cpu"))
        >>> apply_powers(torch.tensor([[0.0, 1.0, 2.0, 3.0]]), zeta)
        tensor([[0., 1., 2., 6.]])
    """
    first, *others = powers
    done = len(first)
    result = table.view(-1, done) @ first
    for power in others:  # index = (higher bits, these, lower bits): a product with the middle one
        result = result.view(-1, len(power), done)
        result = torch.bmm(power.expand(len(result), -1, -1), result)
        done *= len(power)
    return result.view(table.shape)


@lru_cache(maxsize=256)
def matrix_powers(block: Block, n: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, ...]:
    """Return the matrices whose Kronecker product is the n-th power of a block; that of the lowest bits first.

    The first is transposed, since it is applied from the right. It is so in memory, too: for products with a transposed
    view the library takes another algorithm where there are few rows, and bits would depend on how many there are.

    Example:
        >>> [len(power) for power in matrix_powers(((1, 0), (1, 1)), 10, torch.float32, torch.device("cpu"))]
        [32, 32]
    """
    groups = max(1, -(-n // _GROUP))
    ends = [group * n // groups for group in range(groups + 1)]  # of nearly the same size
    first, *others = (_power(block, high - low, dtype, device) for low, high in pairwise(ends))
    with torch.inference_mode(False):  # as for the powers
        return first.T.contiguous(), *others


@lru_cache(maxsize=256)
def _power(block: Block, size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the Kronecker power of a 2 x 2 block; its later factors are the lower bits, as in an index."""
    with torch.inference_mode(False):  # what is kept must serve autograd too, whoever asked first
        base = torch.tensor(block, dtype=dtype, device=device)
        result = torch.ones(1, 1, dtype=dtype, device=device)
        for _ in range(size):
            result = torch.kron(result, base)
        return result
