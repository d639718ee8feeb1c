"""The sparse AND-OR interactions of one sample."""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, SupportsIndex

import torch
from torch import Tensor

from captum_lkn._common import files
from captum_lkn._common.formats import effect_format, percent, printable, shortened
from captum_lkn._common.messages import count_of, kind_of, shape_of, some_of
from captum_lkn.decomposition import indices
from captum_lkn.decomposition.lattice import and_inverse, or_inverse, orders, subset_index
from captum_lkn.decomposition.options import DecompositionKind, DecompositionOptions
from captum_lkn.interactions.checks import check_bound, check_players, check_table
from captum_lkn.interactions.frame import to_frame
from captum_lkn.interactions.layout import InputLayout
from captum_lkn.interactions.packing import pack, unpack
from captum_lkn.interactions.ranking import (
    KINDS,
    Interaction,
    Kind,
    OrderStrength,
    by_order,
    count_above,
    largest_effect,
    ranked,
)
from captum_lkn.interactions.rendering import bars, html_table, joined

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Interactions"]

_SCHEMA = "Interactions"
_TAU = 0.05  # the paper's threshold


@dataclass(frozen=True, eq=False, repr=False)
class Interactions:
    """What one sample's 2^n scores decompose into: effects of sets of players, AND and OR.

    Index S of a table is the set of the players whose bits are set: bit i = player i. Up to `kappa`, the
    score with the players T present is the sum of the AND effects of all subsets of T and of the OR effects
    of all sets that meet T (Eq. 3 of Cheng et al., "Layerwise Change of Knowledge in Neural Networks", ICML
    2024).

    Attributes:
        players: n labels.
        and_effects: float64 ``[2^n]`` on the CPU, in the units of the score. Entry 0 is v(empty), or what the
            noise term left of it where the ends are free.
        or_effects: The same; 0 for the empty set and for single players, whose effects are in `and_effects`.
        values: The value table v, from which the effects were extracted.
        kappa: How far the effects may miss a value, in the units of the score; 0: not at all.
        gap: A certified bound on how far the minimised sum is above its optimum, as a share of it; infinite
            where nothing is certified.
        provenance: Where this came from, such as model, layer, score, target; what JSON can hold.
        layout: How players map back to the inputs; None where that is not known.
        options: The options of the decomposition, used by everything that decomposes again. Give those of
            :func:`captum_lkn.decompose`; where none are given, they are its defaults with this `kappa`, for AND effects
            alone if there is no OR effect.

    Raises:
        TypeError: If a part has the wrong type or dtype.
        ValueError: If lengths do not fit, or a number is out of range.

    Example:
        >>> from captum_lkn.decomposition.lattice import and_transform
        >>> v = torch.tensor([0.5, 0.5, 2.0, -1.0], dtype=torch.float64)
        >>> found = Interactions(
        ...     ("not", "good"), and_transform(v), torch.zeros(4, dtype=torch.float64), v, kappa=0.0, gap=0.0
        ... )
        >>> found
        Interactions of 2 players: not, good
          v(empty) = +0.50  ->  v(N) = -1.00
          not & good  -3.00  ##########|
          good        +1.50            |#####
          salient (above 5 % of the largest): 2 effects, against 2^2 = 4 outputs
          outputs reproduced within rounding (kappa 0); at most 0 % above the optimum
        >>> print(found.top(1)[0])
        not & good  -3.00
        >>> found.shapley_values()
        tensor([-1.5000,  0.0000], dtype=torch.float64)
    """

    players: tuple[str, ...]
    and_effects: Tensor
    or_effects: Tensor
    values: Tensor
    kappa: float
    gap: float
    provenance: Mapping[str, files.JSON] = field(default_factory=dict)
    layout: InputLayout | None = None
    options: DecompositionOptions = None  # type: ignore[assignment]  # never None once made

    def __post_init__(self) -> None:
        check_players(self.players)
        for name in ("and_effects", "or_effects", "values"):
            check_table(name, getattr(self, name), len(self.players))
        if bool(self.or_effects[self.orders <= 1].any()):
            raise ValueError(
                "or_effects must be 0 for the empty set and for single players, whose AND and OR effects are "
                "one: call lattice.merge_first_order first"
            )
        # Frozen for the user; here the parts take their final form, which is also that of a loaded file.
        object.__setattr__(self, "kappa", check_bound("kappa", self.kappa))
        object.__setattr__(self, "gap", check_bound("gap", self.gap, or_infinite=True))
        object.__setattr__(self, "provenance", files.to_json(self.provenance, "provenance"))
        object.__setattr__(self, "options", self._checked_options())
        if self.layout is not None and self.layout.n_players > len(self.players):
            raise ValueError(
                f"the layout has {self.layout.n_players} players or more, but {len(self.players)} have labels"
            )

    def _checked_options(self) -> DecompositionOptions:
        given: object = self.options
        if isinstance(given, DecompositionOptions):
            return given
        if given is not None:
            raise TypeError(f"options must be a DecompositionOptions; got {kind_of(given)}")
        kind: DecompositionKind = "and-or" if bool(self.or_effects.any()) else "and"
        return DecompositionOptions(kappa=self.kappa, kind=kind)

    @property
    def n_players(self) -> int:
        """The number n of players."""
        return len(self.players)

    @property
    def orders(self) -> Tensor:
        """The number of players in every set, int64 ``[2^n]``."""
        return orders(self.n_players)

    @property
    def v_empty(self) -> float:
        """The score with all players absent."""
        return float(self.values[0])

    @property
    def v_full(self) -> float:
        """The score of the sample as it is, all players present."""
        return float(self.values[-1])

    @property
    def residual(self) -> float:
        """The largest ``|v(T) - predict(T)|`` over all T."""
        return float((self.values - self._predicted).abs().max())

    @cached_property
    def _predicted(self) -> Tensor:
        """The table that the effects add up to."""
        return and_inverse(self.and_effects) + or_inverse(self.or_effects)

    def top(self, k: SupportsIndex | None = 10, kind: Kind | None = None) -> list[Interaction]:
        """The k strongest interactions.

        Args:
            k: How many at most; None takes all. There are fewer where fewer are not exactly 0.
            kind: ``"and"`` or ``"or"``; None takes both.

        Returns:
            Interactions of nonempty sets, by descending absolute effect; of equally strong ones the lower
            order first, then AND before OR, then the earlier players.

        Raises:
            TypeError: If `k` is no whole number.
            ValueError: If `k` is negative, or there is no such kind.
        """
        if k is not None and (isinstance(k, bool) or not isinstance(k, SupportsIndex)):
            raise TypeError(f"k must be a whole number or None; got {k!r}")
        k = None if k is None else operator.index(k)  # NumPy's integers too
        if k is not None and k < 0:
            raise ValueError(f"k must be at least 0; got {k}")
        if kind is not None and kind not in KINDS:
            raise ValueError(f'kind must be "and", "or" or None; got {kind!r}')
        return ranked(self.players, self.and_effects, self.or_effects, kind=kind, limit=k)

    def salient(self, tau: float = _TAU, relative: bool = True) -> list[Interaction]:
        """The interactions that are stronger than a threshold; the paper's section 3.2.

        Args:
            tau: The threshold.
            relative: Whether `tau` is a share of the largest absolute effect of nonempty sets, AND and OR
                together; else it is in the units of the score.

        Returns:
            Interactions with ``|effect| >`` threshold, sorted as in :meth:`top`.

        Raises:
            ValueError: If `tau` is negative or not a number.
        """
        tau = check_bound("tau", tau, or_infinite=True)
        above = tau * largest_effect(self.and_effects, self.or_effects) if relative else tau
        return ranked(self.players, self.and_effects, self.or_effects, above=above)

    def by_order(self) -> list[OrderStrength]:
        """Number and strength of the effects by kind and order.

        Returns:
            2n rows: AND from order 1 to n, then OR (whose order 1 is empty, being merged into AND).
            ``pandas.DataFrame(found.by_order())`` makes a table of it.
        """
        return by_order(self.and_effects, self.or_effects)

    def predict(self, masks: Tensor) -> Tensor:
        """The scores that the effects add up to; the right-hand side of Eq. 3.

        Args:
            masks: Bool ``[m, n]`` or ``[n]`` in the players' order, True where a player is present.

        Returns:
            float64 ``[m]``, or a scalar for one mask, on the CPU: within `kappa` of the model's own.

        Raises:
            TypeError: If `masks` is not a bool tensor.
            ValueError: If its last dimension is not n.
        """
        if not isinstance(masks, Tensor):
            raise TypeError(f"masks must be a bool tensor; got {kind_of(masks)}: give torch.tensor(masks)")
        if masks.dtype != torch.bool:
            raise TypeError(
                f"masks must be bool, True where a player is present; got {kind_of(masks)}: convert 0 and 1 "
                "with masks.bool(), indices of players with one True at each"
            )
        if masks.dim() not in (1, 2) or masks.shape[-1] != self.n_players:
            raise ValueError(
                f"masks must be [m, {self.n_players}] or [{self.n_players}], one entry a player; got {shape_of(masks)}"
            )
        return self._predicted.take(subset_index(masks.cpu()))  # a copy, for a single mask too

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
        if self.layout is None:
            raise ValueError(
                "these interactions have layout=None, so nothing says which scalars of an input a player "
                "owns: take shapley_values(), one value a player, or give an InputLayout"
            )
        return self.layout.spread(self.shapley_values())

    def to_frame(self) -> pd.DataFrame:
        """All effects of nonempty sets that are not exactly 0, the strongest first.

        Returns:
            A DataFrame with the columns sample (0), kind, players (a tuple of labels), order, effect.

        Raises:
            ImportError: If pandas is not installed.
        """
        return to_frame([self.top(None)])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to one file; see :func:`captum_lkn._common.files.write` for the errors.

        Args:
            path: The file, ending in ``.safetensors``.
        """
        files.write(path, _SCHEMA, *pack([self]))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Interactions:
        """Read what :meth:`save` wrote; see :func:`captum_lkn._common.files.read` for the errors.

        Args:
            path: The file.

        Returns:
            The interactions, bit for bit.
        """
        return cls(**unpack(*files.read(path, _SCHEMA))[0])

    def _salient_count(self) -> int:
        """``len(self.salient())``, without making the list."""
        above = _TAU * largest_effect(self.and_effects, self.or_effects)
        return count_above(self.and_effects, self.or_effects, above)

    def summary(self) -> str:
        """One line: from which score to which, the strongest interaction, how many are salient."""
        first = self.top(1)
        strongest = "no effects"
        if first:
            name = shortened(joined(first[0].kind, first[0].players), 32)
            strongest = f"{name} {effect_format(first[0].effect).format(first[0].effect)}"
        v_empty, v_full = self._ends()
        return f"v {v_empty} -> {v_full}; {strongest}; {self._salient_count()} salient of 2^{self.n_players}"

    def _ends(self) -> tuple[str, str]:
        number = effect_format(max(abs(self.v_empty), abs(self.v_full)))
        return number.format(self.v_empty), number.format(self.v_full)

    def _origin(self) -> str:
        """The parts of the provenance that a reader looks for first."""
        known = {key: self.provenance.get(key) for key in ("model", "layer", "score", "target")}
        return ", ".join(f"{key} {value}" for key, value in known.items() if value is not None)

    def __repr__(self) -> str:
        v_empty, v_full = self._ends()
        n = self.n_players
        salient = count_of(self._salient_count(), "effect")
        top = bars(self.top(5)) or ["no effects: the score does not depend on the players"]
        rounding = 1e-12 * float(self.values.abs().max())
        within = "rounding" if self.residual <= rounding else f"{self.residual:.2g}"
        bound = "nothing certified" if math.isinf(self.gap) else f"at most {percent(self.gap)} above the optimum"
        lines = [
            f"v(empty) = {v_empty}  ->  v(N) = {v_full}",
            *top,
            f"salient (above {percent(_TAU)} of the largest): {salient}, against 2^{n} = {1 << n} outputs",
            f"outputs reproduced within {within} (kappa {self.kappa:.3g}); {bound}",
        ]
        if origin := self._origin():
            lines.insert(0, printable(origin))
        names = some_of([printable(name) for name in self.players])
        return "\n  ".join([f"{type(self).__name__} of {count_of(n, 'player')}: {names}", *lines])

    def _repr_html_(self) -> str:
        found = self.top(10)
        number = effect_format(max((abs(one.effect) for one in found), default=0.0))
        v_empty, v_full = self._ends()
        caption = f"v(empty) = {v_empty}, v(N) = {v_full}; {self._salient_count()} salient of 2^{self.n_players}"
        rows = [
            (one.kind.upper(), joined(one.kind, one.players), str(one.order), number.format(one.effect))
            for one in found
        ]
        return html_table(caption, ("kind", "players", "order", "effect"), rows)
