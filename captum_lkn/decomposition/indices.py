"""Exact Shapley values, Banzhaf values and Shapley interaction indices of a value table.

Functions of tensors ``[..., 2^n]`` (bit i of the index = player i is present) and of nothing else; leading
dimensions are a batch. They describe the table itself, whatever effects were extracted from it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from captum_lkn._common.arguments import checked
from captum_lkn.decomposition.kronecker import check_floating
from captum_lkn.decomposition.lattice import and_transform, n_players, orders, superset_sums

__all__ = ["banzhaf_values", "shapley_interaction_index", "shapley_values"]


@checked("values")
def shapley_values(values: Tensor) -> Tensor:
    """Compute the Shapley value of every player.

    ``phi(i) = sum over T without i of |T|! (n - |T| - 1)! / n! * (v(T + i) - v(T))``. They add up to
    ``v(N) - v(empty)``. Source: Shapley, "A value for n-person games", 1953. The sum is taken as it is
    written, over weights that are positive and add up to 1, since that loses no digits.

    Args:
        values: ``[..., 2^n]``, floating.

    Returns:
        ``[..., n]`` of the same dtype and device.

    Raises:
        TypeError: If `values` is not a floating tensor.
        ValueError: If the last dimension is not a power of two.

    Example:
        >>> shapley_values(torch.tensor([0.0, 1.0, 2.0, 7.0])).tolist()
        [3.0, 4.0]
    """
    n = _check(values)
    by_size = [1 / (n * math.comb(n - 1, size)) for size in range(n)]
    return _mean_marginals(_wide(values), by_size).to(values.dtype)


@checked("values")
def banzhaf_values(values: Tensor) -> Tensor:
    """Compute the Banzhaf value of every player: the plain mean of ``v(T + i) - v(T)`` over all T without i.

    Source: Banzhaf, "Weighted voting doesn't work", 1965. They need not add up to ``v(N) - v(empty)``.

    Args:
        values: ``[..., 2^n]``, floating.

    Returns:
        ``[..., n]`` of the same dtype and device.

    Raises:
        TypeError: If `values` is not a floating tensor.
        ValueError: If the last dimension is not a power of two.

    Example:
        >>> banzhaf_values(torch.tensor([0.0, 1.0, 2.0, 7.0])).tolist()
        [3.0, 4.0]
    """
    n = _check(values)
    return _mean_marginals(_wide(values), [0.5 ** (n - 1)] * n).to(values.dtype)


@checked("order", "values")
def shapley_interaction_index(values: Tensor, order: int = 2) -> Tensor:
    """Compute the Shapley interaction index of every set of at most `order` players.

    ``SII(T) = sum over S that contain T of m(S) / (|S| - |T| + 1)`` with m the Moebius transform of the
    table. Of a single player it is the Shapley value. Source: Grabisch and Roubens, "An axiomatic approach to
    the concept of interaction among players in cooperative games", 1999.

    Args:
        values: ``[..., 2^n]``, floating.
        order: How many players a set has at most; at least 1, and n or more means all sets.

    Returns:
        ``[..., 2^n]`` of the same dtype and device: entry T is SII(T), and 0 where T is empty or has more
        than `order` players.

    Raises:
        TypeError: If `values` is not a floating tensor.
        ValueError: If the last dimension is not a power of two, or `order` is less than 1.

    Example:
        >>> shapley_interaction_index(torch.tensor([0.0, 1.0, 2.0, 7.0])).tolist()
        [0.0, 3.0, 4.0, 4.0]
    """
    if order < 1:
        raise ValueError(f"order must be the largest number of players in a set, at least 1; got {order}")
    _check(values)
    # A constant has no interactions; taken off, it leaves more digits to what has.
    wide = _wide(values)
    dividends = and_transform(wide - wide[..., :1])
    size = orders(n_players(values), device=values.device)
    result = torch.zeros_like(dividends)
    for t in range(1, min(order, n_players(values)) + 1):
        # Sets smaller than t contain no set of t players: the clamp only keeps their divisor from being 0.
        sums = superset_sums(dividends / (size - t + 1).clamp(min=1))
        result = torch.where(size == t, sums, result)
    return result.to(values.dtype)


def _check(values: Tensor) -> int:
    """Return the number of players of floating tables: of integers, weights below 1 would become 0."""
    n = n_players(values)
    check_floating(values)
    return n


def _wide(values: Tensor) -> Tensor:
    """Return tables in float64: the weights of many players lie below the smallest number of half precision."""
    return values.float() if values.device.type == "mps" else values.double()  # Apple's devices have no float64


def _mean_marginals(values: Tensor, by_size: list[float]) -> Tensor:
    """Return for every player the sum of ``by_size[|T|] * (v(T + i) - v(T))`` over all T without it."""
    n = n_players(values)
    if n == 0:
        return values[..., :0]
    # Without bit i, the sets without player i are the lattice of the other n - 1, whichever i is.
    rest = orders(n - 1, device=values.device)
    weights = torch.tensor(by_size, dtype=values.dtype, device=values.device)[rest]
    sums = []
    for i in range(n):
        # Higher bits, player absent or present, lower bits.
        pairs = values.reshape(*values.shape[:-1], 1 << (n - 1 - i), 2, 1 << i)
        marginals = (pairs[..., 1, :] - pairs[..., 0, :]).flatten(-2)
        sums.append((marginals * weights).sum(-1))
    return torch.stack(sums, dim=-1)
