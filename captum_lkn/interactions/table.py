"""Quantities of a value table itself, whatever its effects are."""

from __future__ import annotations

from torch import Tensor

from captum_lkn._common.arguments import checked
from captum_lkn.decomposition import indices, lattice
from captum_lkn.interactions.layout import InputLayout, spread_over

__all__ = ["ValueTable"]


class ValueTable:
    """Part of a result that depends on its value table alone.

    Attributes:
        players: n labels.
        values: The value table, float64 ``[2^n]``; bit i of the index = player i is present.
        layout: The map from players back to the inputs; None where that is not known.
    """

    players: tuple[str, ...]
    values: Tensor
    layout: InputLayout | None

    @property
    def n_players(self) -> int:
        """The number n of players."""
        return len(self.players)

    @property
    def orders(self) -> Tensor:
        """The number of players in every set, int64 ``[2^n]``."""
        return lattice.orders(self.n_players, device="cpu")

    @property
    def v_empty(self) -> float:
        """The score with all players absent."""
        return float(self.values[0])

    @property
    def v_full(self) -> float:
        """The score of the sample as it is, all players present."""
        return float(self.values[-1])

    def shapley_values(self) -> Tensor:
        """The players' Shapley values, exactly, of the value table itself.

        Returns:
            float64 ``[n]``; they add up to ``v_full - v_empty``, whatever `kappa`.
        """
        return indices.shapley_values(self.values)

    def banzhaf_values(self) -> Tensor:
        """The players' Banzhaf values, exactly, of the value table itself.

        Returns:
            float64 ``[n]``.
        """
        return indices.banzhaf_values(self.values)

    @checked("order")
    def interaction_index(self, order: int = 2) -> dict[tuple[int, ...], float]:
        """The Shapley interaction index, exactly, of the value table itself.

        Args:
            order: How many players a set has at most; n or more means all sets.

        Returns:
            The index of every set of 1 to `order` players, by its players' ascending numbers; single players,
            whose index is the Shapley value, first.

        Raises:
            ValueError: If `order` is less than 1.
        """
        index = indices.shapley_interaction_index(self.values, order)
        chosen = (self.orders[1:] <= order).nonzero().flatten() + 1
        chosen = chosen[self.orders[chosen].argsort(stable=True)]
        bits = range(self.n_players)
        return {
            tuple(i for i in bits if subset >> i & 1): value
            for subset, value in zip(chosen.tolist(), index[chosen].tolist(), strict=True)
        }

    def attributions(self) -> Tensor | tuple[Tensor, ...]:
        """The Shapley value of its player at every scalar of the input, 0 at the background.

        Returns:
            Tensors in the shapes of the sample's inputs, without a batch dimension; a tuple where the inputs
            were one.

        Raises:
            ValueError: If there is no layout.
        """
        return spread_over(self.layout, self.shapley_values())
