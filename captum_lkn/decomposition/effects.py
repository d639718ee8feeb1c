"""Sparse AND and OR effects of sets of players: the one form that results, comparisons and files share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from captum_lkn._common.arguments import checked
from captum_lkn._common.checks import check_plain
from captum_lkn._common.messages import kind_of, shape_of
from captum_lkn.decomposition import lattice

__all__ = ["KINDS", "MAX_DENSE_PLAYERS", "TAU", "Effects", "Kind", "OrderStrength", "check_table"]

Kind: TypeAlias = Literal["and", "or"]
KINDS: Final[tuple[Kind, Kind]] = ("and", "or")

TAU: Final = 0.05
"""The paper's threshold of salience, as a share of the largest absolute effect."""

MAX_DENSE_PLAYERS: Final = 20
"""Up to so many players, effects can be written as tables ``[2^n]``."""

_WORD = 62  # bits of a set in one int64, as lattice.subset_index takes them


class OrderStrength(NamedTuple):
    """Sums of all effects of one kind and order.

    Attributes:
        kind: ``"and"`` or ``"or"``.
        order: The number of players in each set.
        nonzero: The number of effects that are not exactly 0.
        strength: The sum of their absolute values.
        positive: The sum of the positive ones.
        negative: The sum of the negative ones, at most 0.
    """

    kind: Kind
    order: int
    nonzero: int
    strength: float
    positive: float
    negative: float


@checked("constant", "n")
@dataclass(frozen=True, eq=False)
class Effects:
    """Sparse AND and OR effects of sets of n players; immutable.

    The value of the players T is ``constant`` plus the AND effects of all sets inside T plus the OR effects of all sets
    that meet T (Eq. 3 of Cheng et al., "Layerwise Change of Knowledge in Neural Networks", ICML 2024). Effects are kept
    in a fixed order: AND before OR, then by the sets' bits, player 0 the lowest.

    Attributes:
        n: The number of players; any number, such as 200.
        constant: The effect of the empty set.
        members: bool ``[k, n]`` on the CPU: entry (j, i) says whether player i is in the j-th set.
        is_or: bool ``[k]``: whether an effect is an OR effect.
        values: float64 ``[k]``: the effects, in the units of the values.

    Raises:
        TypeError: A part has another type or dtype.
        ValueError: Shapes do not fit, an effect is not finite, a set is empty or appears twice with one kind, or an OR
            effect belongs to a single player.

    Example:
        >>> effects = Effects.of(3, [("and", (0, 2), -3.0), ("or", (0, 1), 1.0)], constant=0.5)
        >>> len(effects), effects.largest
        (2, 3.0)
        >>> effects.predict(torch.tensor([[True, False, False], [True, True, True]])).tolist()
        [1.5, -1.5]
        >>> effects.tables()[1].tolist()
        [0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0]
    """

    n: int
    constant: float
    members: Tensor
    is_or: Tensor
    values: Tensor

    def __post_init__(self) -> None:
        for name, dtype in (("members", torch.bool), ("is_or", torch.bool), ("values", torch.float64)):
            given = getattr(self, name)
            if not isinstance(given, Tensor) or given.dtype != dtype or given.device.type != "cpu":
                wanted = str(dtype).removeprefix("torch.")
                raise TypeError(f"{name} must be a {wanted} tensor on the CPU; got {kind_of(given)}")
            check_plain(name, given)
        if self.values.dim() != 1 or self.members.shape != (len(self), self.n) or self.is_or.shape != (len(self),):
            raise ValueError(
                f"members must be [k, n] = [k, {self.n}], is_or and values [k]; got {shape_of(self.members)}, "
                f"{shape_of(self.is_or)} and {shape_of(self.values)}"
            )
        if not bool(self.values.isfinite().all()):
            raise ValueError("values must be finite; got NaN or an infinite one")
        if bool((self.orders < 1 + self.is_or.long()).any()):
            raise ValueError(
                "members must have a player in each set, and two where is_or is True, since AND and OR effects of a "
                "single player are the same function: call lattice.merge_first_order first"
            )
        object.__setattr__(self, "constant", float(self.constant))
        unique, places = _unique(self._keys)
        if len(unique) < len(self):
            raise ValueError("each set must appear once with each kind; got one twice")
        if not bool((places[1:] > places[:-1]).all()):
            order = places.argsort()
            for name in ("members", "is_or", "values"):
                object.__setattr__(self, name, getattr(self, name)[order])
            del self.__dict__["_keys"], self.__dict__["orders"]  # cached in the order before

    @classmethod
    def of(cls, n: int, effects: Iterable[tuple[str, Sequence[int], float]], constant: float = 0.0) -> Effects:
        """Make effects from triples.

        Args:
            n: The number of players.
            effects: ``(kind, numbers of the players, effect)`` each; those that are exactly 0 are left out.
            constant: The effect of the empty set.

        Returns:
            The effects.

        Raises:
            ValueError: As for the class; an unknown kind; a player's number out of range, or given twice.
        """
        kept = [one for one in effects if one[2] != 0]
        members = torch.zeros(len(kept), n, dtype=torch.bool, device="cpu")
        for row, (kind, players, _) in enumerate(kept):
            if kind not in KINDS or not all(0 <= i < n for i in players) or len(set(players)) < len(players):
                raise ValueError(
                    f"kind must be 'and' or 'or', players numbers from 0 to {n - 1}, each once; got {kind!r}, "
                    f"{players!r}"
                )
            members[row, list(players)] = True
        is_or = torch.tensor([kind == "or" for kind, *_ in kept], dtype=torch.bool, device="cpu")
        return cls(
            n, constant, members, is_or, torch.tensor([one[2] for one in kept], dtype=torch.float64, device="cpu")
        )

    @classmethod
    def from_tables(cls, and_effects: Tensor, or_effects: Tensor) -> Effects:
        """Make effects from tables, the inverse of :meth:`tables`.

        Args:
            and_effects: float64 ``[2^n]`` on the CPU, bit i of the index = player i; entry 0 is the constant.
            or_effects: The same; 0 for the empty set and for single players.

        Returns:
            The effects that are not exactly 0.

        Raises:
            TypeError: Something is not a float64 tensor on the CPU.
            ValueError: The tables do not fit each other, or an entry is not finite or has to be 0.
        """
        check_table("and_effects", and_effects)
        n = lattice.n_players(and_effects)
        check_table("or_effects", or_effects, n)
        if bool(or_effects[0] != 0):
            raise ValueError("or_effects must be 0 for the empty set, whose effect is in and_effects")
        both = torch.stack([and_effects, or_effects])
        is_or, sets = (both != 0).nonzero(as_tuple=True)
        inside = sets > 0
        is_or, sets = is_or[inside], sets[inside]
        return cls(n, float(and_effects[0]), lattice.members(sets, n), is_or.bool(), both[is_or, sets])

    def __len__(self) -> int:
        return len(self.values)

    # ------------------------------------------------------------ derived: sizes, salience, sums

    @cached_property
    def orders(self) -> Tensor:
        """The number of players in each set, int64 ``[k]``."""
        return self.members.sum(1)

    @property
    def largest(self) -> float:
        """The largest absolute effect; 0 where there is none."""
        return float(self.values.abs().max()) if len(self) else 0.0

    def above(self, threshold: float) -> Tensor:
        """Return bool ``[k]``: the effects whose absolute value is greater than a threshold."""
        return self.values.abs() > threshold

    def salient(self, tau: float = TAU, largest: float | None = None) -> Tensor:
        """Find the salient effects, those above a share of the largest one (section 3.2 of the paper).

        Args:
            tau: The share.
            largest: The largest absolute effect; None: of these effects.

        Returns:
            bool ``[k]``.
        """
        return self.above(tau * (self.largest if largest is None else largest))

    def sum_by_order(self, numbers: Tensor, highest: int | None = None) -> Tensor:
        """Sum numbers ``[k]``, one an effect, by kind and order.

        Args:
            numbers: ``[k]`` of any dtype.
            highest: The highest order of the result; None: n.

        Returns:
            ``[2, highest]`` of the same dtype: AND in row 0, OR in row 1, order 1 in column 0.
        """
        columns = (self.n if highest is None else highest) + 1
        sums = numbers.new_zeros(2 * columns).index_add_(0, self.is_or.long() * columns + self.orders, numbers)
        return sums.reshape(2, columns)[:, 1:]

    def by_order(self) -> list[OrderStrength]:
        """Sum up the effects of each kind and order: AND from order 1 to n, then OR."""
        count = self.sum_by_order((self.values != 0).long()).tolist()
        positive = self.sum_by_order(self.values.clamp(min=0)).tolist()
        negative = self.sum_by_order(self.values.clamp(max=0)).tolist()
        return [
            OrderStrength(kind, m + 1, count[k][m], positive[k][m] - negative[k][m], positive[k][m], negative[k][m])
            for k, kind in enumerate(KINDS)
            for m in range(self.n)
        ]

    def strongest(self) -> Tensor:
        """Rank the effects: int64 ``[k]``, by descending absolute value.

        Of equally strong ones the lower order comes first, then AND before OR, then the earlier players; so the ranking
        depends on nothing but the effects.
        """
        place = self.orders.argsort(stable=True)
        return place[self.values[place].abs().argsort(descending=True, stable=True)]

    def select(self, chosen: Tensor) -> Effects:
        """Return the effects that ``chosen``, bool ``[k]``, holds, with the same constant."""
        return Effects(self.n, self.constant, self.members[chosen], self.is_or[chosen], self.values[chosen])

    def at(self, other: Effects) -> Tensor:
        """Look up the sets of other effects here.

        Args:
            other: Effects of as many players.

        Returns:
            float64 ``[len(other)]``: the effect that each of its sets, with its kind, has here; 0 where it has none.

        Raises:
            ValueError: They have another number of players.
        """
        if other.n != self.n:
            raise ValueError(f"other must have as many players, n = {self.n}; got n = {other.n}")
        _, places = _unique(torch.cat([self._keys, other._keys]))
        found = self.values.new_zeros(len(places))
        found[places[: len(self)]] = self.values
        return found[places[len(self) :]]

    # ------------------------------------------------------------ reconstruction

    def tables(self) -> tuple[Tensor, Tensor]:
        """Write the effects as tables.

        Returns:
            AND and OR effects, float64 ``[2^n]`` each, bit i of the index = player i; entry 0 of the AND effects is the
            constant.

        Raises:
            ValueError: There are more than 20 players.
        """
        if self.n > MAX_DENSE_PLAYERS:
            raise ValueError(
                f"tables of 2^n entries must have at most {MAX_DENSE_PLAYERS} players; got n = {self.n}. Read the "
                "sparse effects"
            )
        both = self.values.new_zeros(2, 1 << self.n)
        both[0, 0] = self.constant
        both[self.is_or.long(), lattice.subset_index(self.members)] = self.values
        return both[0], both[1]

    @property
    def reconstruction(self) -> Tensor:
        """The table float64 ``[2^n]`` that the effects add up to, up to 20 players; a copy."""
        return self._reconstruction.clone()

    @cached_property
    def _reconstruction(self) -> Tensor:
        return lattice.reconstruct(*self.tables())

    def predict(self, masks: Tensor) -> Tensor:
        """Return the values that the effects add up to.

        Args:
            masks: bool ``[m, n]`` or ``[n]`` on the CPU, True where a player is present.

        Returns:
            float64 ``[m]``, or a scalar for one mask.

        Raises:
            ValueError: The last dimension of the masks is not n.
        """
        if masks.dim() == 0 or masks.shape[-1] != self.n:
            raise ValueError(f"masks must be [m, n] or [n] with n = {self.n}; got {shape_of(masks)}")
        if self.n <= MAX_DENSE_PLAYERS:
            return self._reconstruction.take(lattice.subset_index(masks))  # a copy, for a single mask too
        present = masks.to(torch.float64) @ self.members.T.to(torch.float64)  # how many members are present
        needed = torch.where(self.is_or, 1, self.orders)
        return self.constant + (present >= needed).to(torch.float64) @ self.values

    @cached_property
    def _keys(self) -> Tensor:
        """One row of int64 words a set and kind, in the order of the effects; the highest word first."""
        bits = torch.cat([self.members, self.is_or.unsqueeze(1)], dim=1)
        words = [lattice.subset_index(part) for part in torch.split(bits, _WORD, dim=1)]
        return torch.stack(words[::-1], dim=1)


def check_table(name: str, table: Any, n: int | None = None) -> None:
    """Check that a table is finite, float64, on the CPU, and ``[2^n]``.

    Args:
        name: What to call it in an error.
        table: The table.
        n: The number of players; None: any.

    Raises:
        TypeError: It is something else.
        ValueError: Its shape does not fit, or an entry is not finite.
    """
    if not isinstance(table, Tensor) or table.dtype != torch.float64 or table.device.type != "cpu":
        where = f" on {table.device}" if isinstance(table, Tensor) else ""
        raise TypeError(
            f"{name} must be a float64 tensor on the CPU; got {kind_of(table)}{where}: convert with .double().cpu()"
        )
    check_plain(name, table)
    size = lattice.n_players(table) if n is None else n
    if table.shape != (1 << size,):
        raise ValueError(f"{name} must be [2^n] = [{1 << size}] for {size} players; got {shape_of(table)}")
    if not bool(table.isfinite().all()):
        subset = int((~table.isfinite()).nonzero()[0])
        raise ValueError(f"{name} must be finite; got {float(table[subset])} at index {subset}")


def _unique(keys: Tensor) -> tuple[Tensor, Tensor]:
    """Return the different rows in ascending order, and the place of each row among them."""
    if keys.shape[1] == 1:  # up to 61 players; much faster
        unique, places = torch.unique(keys[:, 0], return_inverse=True)
    else:
        unique, places = torch.unique(keys, dim=0, return_inverse=True)
    return unique, places
