"""The lattice of subsets of n players, as tensors ``[..., 2^n]``.

Entry ``T`` of a table belongs to the subset whose members are the set bits of ``T``: **bit i = player i is
present**. Index 0 is the empty set, index ``2^n - 1`` the set N of all players.

The transforms are Kronecker products of n equal 2 x 2 blocks, one a player. They are applied in groups of
at most six players, each group one matrix product: O(n 2^n) work, no matrix over all subsets, no Python loop
over subsets. Leading dimensions are a batch, and every function accepts any floating dtype and any device, is
differentiable, and leaves its argument as it was.

==================  ==============================================================================
``and_transform``   table v -> AND effects (Harsanyi dividends, Moebius transform); Eq. 1
``and_inverse``     AND effects -> table: the sum over the subsets of each T (zeta transform)
``or_transform``    table v -> OR effects; Eq. 2
``or_inverse``      OR effects -> table: the sum over the sets that meet each T
``reconstruct``     AND and OR effects -> table; Eq. 3
``superset_sums``   the adjoint of ``and_inverse``: the sum over the supersets of each S
==================  ==============================================================================

Source of the equations: Cheng et al., "Layerwise Change of Knowledge in Neural Networks", ICML 2024.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from captum_lkn._common.arguments import checked
from captum_lkn._common.messages import kind_of, shape_of
from captum_lkn.decomposition.kronecker import Block, check_floating, kronecker, n_players

__all__ = [
    "and_inverse",
    "and_transform",
    "masks",
    "members",
    "merge_first_order",
    "n_players",
    "or_inverse",
    "or_transform",
    "orders",
    "reconstruct",
    "subset_index",
    "superset_sums",
]

# Rows: player absent, present in the result; columns: absent, present in the argument.
_MOEBIUS: Final[Block] = ((1, 0), (-1, 1))
_ZETA: Final[Block] = ((1, 0), (1, 1))
_UP: Final[Block] = ((1, 1), (0, 1))
_OR: Final[Block] = ((0, 1), (1, -1))

_MAX_BITS: Final = 62
"""Players of a subset whose index fits an int64."""


@checked("device", "n")
def orders(n: int, *, device: torch.device | str = "cpu") -> Tensor:
    r"""Return the number of players in every subset.

    Args:
        n: The number of players.
        device: Where the result lies; default: the CPU.

    Returns:
        int64 ``[2^n]``: entry S is the order \|S\|.

    Raises:
        ValueError: n is negative.

    Example:
        >>> orders(3).tolist()
        [0, 1, 1, 2, 1, 2, 2, 3]
    """
    _check_players(n)
    # Doubling: the upper half of a lattice is the lower half with one player more.
    result = torch.zeros(1, dtype=torch.int64, device=device)
    for _ in range(n):
        result = torch.cat([result, result + 1])
    return result


@checked("device", "n")
def masks(n: int, *, device: torch.device | str = "cpu") -> Tensor:
    """Return every subset as a row of booleans.

    Args:
        n: The number of players.
        device: Where the result lies; default: the CPU.

    Returns:
        bool ``[2^n, n]``: entry (T, i) says whether player i is present in T.

    Example:
        >>> masks(2).int().tolist()
        [[0, 0], [1, 0], [0, 1], [1, 1]]
    """
    _check_players(n)
    return members(torch.arange(1 << n, device=device), n)


@checked("n", "subsets")
def members(subsets: Tensor, n: int) -> Tensor:
    """Return the players of the given subsets.

    Args:
        subsets: int64 ``[...]``, indices of subsets.
        n: The number of players.

    Returns:
        bool ``[..., n]``: entry (.., i) says whether player i is present.

    Example:
        >>> members(torch.tensor([5]), 3).int().tolist()
        [[1, 0, 1]]
    """
    _check_players(n)
    if subsets.is_floating_point() or subsets.is_complex():
        raise TypeError(f"subsets must be whole numbers, indices of subsets; got {kind_of(subsets)}")
    bits = torch.arange(n, device=subsets.device)
    return (subsets.unsqueeze(-1) >> bits & 1).bool()


@checked("masks")
def subset_index(masks: Tensor) -> Tensor:
    """Return the index of each subset that is given as a row of booleans; the inverse of :func:`members`.

    Args:
        masks: bool ``[..., n]``, at most 62 players.

    Returns:
        int64 ``[...]``.

    Raises:
        TypeError: The masks are not bool.
        ValueError: There are more players than an index has bits.

    Example:
        >>> subset_index(torch.tensor([[True, False, True]])).tolist()
        [5]
    """
    if masks.dtype != torch.bool:
        raise TypeError(f"masks must be bool, True where a player is present; got {masks.dtype}")
    if masks.shape[-1] > _MAX_BITS:
        raise ValueError(f"masks must have at most {_MAX_BITS} players, as an index has bits; got {masks.shape[-1]}")
    bits = torch.arange(masks.shape[-1], device=masks.device)
    return (masks.long() << bits).sum(-1)


def and_transform(table: Tensor) -> Tensor:
    """Return the AND effects (Harsanyi dividends) of a table; Eq. 1.

    ``I(S) = sum over T subset of S of (-1)^(|S| - |T|) v(T)``; entry 0 is v(empty).

    Args:
        table: ``[..., 2^n]``, floating.

    Returns:
        ``[..., 2^n]`` of the same dtype and device.

    Raises:
        TypeError: The argument is not a floating tensor.
        ValueError: Its last dimension is not a power of two.

    Example:
        >>> and_transform(torch.tensor([1.0, 3.0, 2.0, 9.0])).tolist()  # v(empty), v(0), v(1), v(both)
        [1.0, 2.0, 1.0, 5.0]
    """
    # A constant has no effect but that of the empty set; taken off, it leaves more digits to the others.
    constant = _checked(table)[..., :1]
    return torch.cat([constant, kronecker(table - constant, _MOEBIUS)[..., 1:]], dim=-1)


@checked("effects")
def and_inverse(effects: Tensor) -> Tensor:
    """Return the table that AND effects add up to: ``v(T) = sum over S subset of T of I(S)``.

    Args:
        effects: ``[..., 2^n]``, floating.

    Returns:
        ``[..., 2^n]`` of the same dtype and device.

    Raises:
        TypeError: The argument is not a floating tensor.
        ValueError: Its last dimension is not a power of two.

    Example:
        >>> and_inverse(torch.tensor([1.0, 2.0, 1.0, 5.0])).tolist()
        [1.0, 3.0, 2.0, 9.0]
    """
    return kronecker(_without_constant(effects), _ZETA) + effects[..., :1]


def or_transform(table: Tensor) -> Tensor:
    r"""Return the OR effects of a table; Eq. 2.

    ``I(S) = - sum over T subset of S of (-1)^(|S| - |T|) v(N \ T)`` for nonempty S. Entry 0 is v(empty), so
    that :func:`or_inverse` gives the table back.

    Args:
        table: ``[..., 2^n]``, floating.

    Returns:
        ``[..., 2^n]`` of the same dtype and device.

    Raises:
        TypeError: The argument is not a floating tensor.
        ValueError: Its last dimension is not a power of two.

    Example:
        >>> or_transform(torch.tensor([0.0, 1.0, 1.0, 1.0])).tolist()  # "at least one of the two"
        [0.0, 0.0, 0.0, 1.0]
    """
    # v(N) is in every sum and cancels; taken off, it leaves more digits.
    effects = 0 - kronecker(_checked(table) - table[..., -1:], _OR)  # not a negation, which would turn zeros into -0.0
    return torch.cat([table[..., :1], effects[..., 1:]], dim=-1)


@checked("effects")
def or_inverse(effects: Tensor) -> Tensor:
    """Return the table that OR effects add up to: ``v(T) = o[0] + sum over S that meet T of o[S]``.

    Args:
        effects: ``[..., 2^n]``, floating.

    Returns:
        ``[..., 2^n]`` of the same dtype and device.

    Raises:
        TypeError: The argument is not a floating tensor.
        ValueError: Its last dimension is not a power of two.

    Example:
        >>> or_inverse(torch.tensor([0.0, 0.0, 0.0, 1.0])).tolist()
        [0.0, 1.0, 1.0, 1.0]
    """
    # The sets that miss T are the subsets of its complement, and the complement reverses the index.
    others = _without_constant(effects)
    return others.sum(-1, keepdim=True) - kronecker(others, _ZETA).flip(-1) + effects[..., :1]


@checked("and_effects", "or_effects")
def reconstruct(and_effects: Tensor, or_effects: Tensor) -> Tensor:
    """Return the table that AND and OR effects add up to; Eq. 3.

    Args:
        and_effects: ``[..., 2^n]``, floating; entry 0 is the constant.
        or_effects: The same; entry 0 is 0.

    Returns:
        ``[..., 2^n]`` of the same dtype and device.

    Raises:
        TypeError: An argument is not a floating tensor.
        ValueError: The last dimension is not a power of two.

    Example:
        >>> reconstruct(torch.tensor([0.5, 2.0, 0.0, 0.0]), torch.tensor([0.0, 0.0, 0.0, 1.0])).tolist()
        [0.5, 3.5, 1.5, 3.5]
    """
    _check_same_shape(and_effects, or_effects)
    # Both constants are added last, since they may be far larger than the rest.
    constant = and_effects[..., :1] + or_effects[..., :1]
    return and_inverse(_without_constant(and_effects)) + or_inverse(_without_constant(or_effects)) + constant


def superset_sums(table: Tensor) -> Tensor:
    """Return the sum of a table over the supersets of each subset; the adjoint of :func:`and_inverse`.

    Args:
        table: ``[..., 2^n]``, floating.

    Returns:
        ``[..., 2^n]`` of the same dtype and device.

    Raises:
        TypeError: The argument is not a floating tensor.
        ValueError: Its last dimension is not a power of two.

    Example:
        >>> superset_sums(torch.tensor([1.0, 2.0, 3.0, 4.0])).tolist()
        [10.0, 6.0, 7.0, 4.0]
    """
    return kronecker(table, _UP)


@checked("and_effects", "or_effects")
def merge_first_order(and_effects: Tensor, or_effects: Tensor) -> tuple[Tensor, Tensor]:
    """Add the OR effects of single players to their AND effects, and set them to 0.

    For one player, AND and OR are the same function of T, so that only their sum has a meaning (paper, M.4).

    Args:
        and_effects: ``[..., 2^n]``.
        or_effects: ``[..., 2^n]``.

    Returns:
        Both anew, the same shapes.

    Example:
        >>> a, o = merge_first_order(torch.tensor([0.0, 1.0]), torch.tensor([0.0, 2.0]))
        >>> a.tolist(), o.tolist()
        ([0.0, 3.0], [0.0, 0.0])
    """
    _check_same_shape(and_effects, or_effects)
    single = orders(n_players(and_effects), device=and_effects.device) == 1
    zero = torch.zeros((), dtype=and_effects.dtype, device=and_effects.device)
    return torch.where(single, and_effects + or_effects, and_effects), torch.where(single, zero, or_effects)


def _without_constant(effects: Tensor) -> Tensor:
    """Return effects with 0 for the empty set."""
    return torch.cat([torch.zeros_like(_checked(effects)[..., :1]), effects[..., 1:]], dim=-1)


def _checked(table: Tensor) -> Tensor:
    """Return a table, which is floating and has 2^n values."""
    n_players(table)
    check_floating(table)
    return table


def _check_same_shape(and_effects: Tensor, or_effects: Tensor) -> None:
    if and_effects.shape != or_effects.shape:
        raise ValueError(
            f"or_effects must have the shape of and_effects, {shape_of(and_effects)}; got {shape_of(or_effects)}"
        )


def _check_players(n: int) -> None:
    if not 0 <= n <= _MAX_BITS:
        raise ValueError(f"n must be a number of players, at least 0 and at most {_MAX_BITS}; got {n}")
