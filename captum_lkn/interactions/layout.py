"""Way back from the players of one sample to its inputs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from captum_lkn._common.arguments import checked
from captum_lkn._common.checks import is_tensor_of
from captum_lkn._common.messages import kind_of, shape_of

__all__ = ["BACKGROUND", "InputLayout", "spread_over"]

BACKGROUND = -1
"""The id, in a feature mask and in ``Players.owners``, of scalars that are never masked."""


@checked()
@dataclass(frozen=True, eq=False)
class InputLayout:
    """Owner of each scalar of one sample's inputs, and the form of attributions to them.

    Attributes:
        owners: One int64 tensor an input, of its shape without the batch dimension: the player that owns each
            scalar, or -1 where it is background. May be expanded views.
        is_tuple: Whether attributions go back as a tuple.
        dtypes: The floating dtype of the attributions to each input.
        device: Where they lie.

    Raises:
        TypeError: If owners are not int64, or a dtype is not floating.
        ValueError: If the counts do not fit.

    Example:
        >>> layout = InputLayout((torch.tensor([0, 0, -1, 1]),), False, (torch.float32,), torch.device("cpu"))
        >>> layout.spread(torch.tensor([0.5, -1.0], dtype=torch.float64))
        tensor([ 0.5000,  0.5000,  0.0000, -1.0000])
    """

    owners: tuple[Tensor, ...]
    is_tuple: bool
    dtypes: tuple[torch.dtype, ...]
    device: torch.device

    def __post_init__(self) -> None:
        if not self.owners or len(self.owners) != len(self.dtypes):
            raise ValueError(f"{len(self.owners)} owners and {len(self.dtypes)} dtypes: give one of each an input")
        if len(self.owners) > 1 and not self.is_tuple:
            raise ValueError(f"{len(self.owners)} inputs can only go back as a tuple: give is_tuple=True")
        for owner, dtype in zip(self.owners, self.dtypes, strict=True):
            if not is_tensor_of(owner, torch.int64):
                raise TypeError(f"owners must be int64 tensors; got {kind_of(owner)}")
            if not dtype.is_floating_point:
                raise TypeError(f"attributions have a floating dtype; got {dtype}")
            if owner.numel() and int(owner.min()) < BACKGROUND:
                raise ValueError(f"owners must be -1 or a player's number; got {int(owner.min())}")

    @property
    def n_players(self) -> int:
        """The least number of players that the owners allow, which is the largest owner plus one."""
        return max((int(owner.max()) for owner in self.owners if owner.numel()), default=BACKGROUND) + 1

    def spread(self, values: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Write each player's value to every scalar that it owns, and 0 to the background.

        Args:
            values: Floating ``[n]``, one value a player.

        Returns:
            One tensor an input, of its shape without the batch dimension, in ``dtypes`` on ``device``; a
            tuple of them where the inputs were one.

        Raises:
            ValueError: If `values` is not ``[n]``, or n is too small for the owners.
        """
        if values.dim() != 1 or len(values) < self.n_players:
            raise ValueError(
                f"values must be [n], one a player, with at least {self.n_players} players; got {shape_of(values)}"
            )
        padded = torch.cat([values, values.new_zeros(1)])  # the background's index, -1, reads the last entry
        # The dtype first: not every device has float64.
        spread = tuple(
            padded.to(dtype).to(owner.device)[owner].to(self.device)
            for owner, dtype in zip(self.owners, self.dtypes, strict=True)
        )
        return spread if self.is_tuple else spread[0]


def spread_over(layout: InputLayout | None, values: Tensor) -> Tensor | tuple[Tensor, ...]:
    """Write each player's value to every scalar that it owns; see :meth:`InputLayout.spread`.

    Raises:
        ValueError: There is no layout.
    """
    if layout is None:
        raise ValueError(
            "these interactions have layout=None, so nothing says which scalars of an input a player owns: take "
            "shapley_values(), one value a player, or give an InputLayout"
        )
    return layout.spread(values)
