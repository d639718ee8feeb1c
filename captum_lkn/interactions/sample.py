"""The sparse AND-OR interactions of one sample."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, SupportsIndex

import torch
from torch import Tensor

from captum_lkn._common import files
from captum_lkn._common.accessors import Accessor
from captum_lkn._common.messages import kind_of
from captum_lkn.decomposition import indices, lattice
from captum_lkn.decomposition.decompose import Decomposition
from captum_lkn.decomposition.effects import KINDS, TAU, Effects, Kind, OrderStrength, check_table
from captum_lkn.decomposition.options import DecompositionKind, DecompositionOptions
from captum_lkn.interactions.about import WIDTH, About, about_of
from captum_lkn.interactions.checks import check_bound, check_count, check_masks
from captum_lkn.interactions.frame import to_frame
from captum_lkn.interactions.labels import check_players, distinct_labels, player_numbers
from captum_lkn.interactions.layout import InputLayout
from captum_lkn.interactions.packing import pack, unpack
from captum_lkn.interactions.ranking import Interaction, ranked
from captum_lkn.interactions.rendering import SampleReport, sample_html, sample_line, sample_text

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Interactions"]

_SCHEMA = "Interactions"


@dataclass(frozen=True, eq=False, repr=False)
class Interactions:
    """Sparse AND-OR interactions of one sample: effects of sets of players.

    Up to `kappa`, the score with the players T present is v(empty) plus the AND effects of all sets inside T and the OR
    effects of all sets that meet T (Eq. 3 of Cheng et al., "Layerwise Change of Knowledge in Neural Networks", ICML
    2024).

    Attributes:
        players: n labels.
        effects: The effects in their sparse form.
        values: The value table v from which the effects were extracted, float64 ``[2^n]`` on the CPU; bit i of the
            index = player i is present.
        kappa: The largest deviation of the effects from a value, in the units of the score; 0: none.
        gap: A certified bound on how far the minimised sum is above its optimum, as a share of it; infinite
            where nothing is certified.
        provenance: A record for people of model, layer, score, target and the like; what JSON can hold.
        layout: The map from players back to the inputs; None where that is not known.
        epsilon: The relative rounding error of the values: the machine epsilon of the forwards' dtype.
        options: The options of the decomposition, used by everything that decomposes again. Where none are given, they
            are the defaults with this `kappa`, for AND effects alone if there is no OR effect.

    Raises:
        TypeError: If a part has the wrong type or dtype.
        ValueError: If lengths do not fit, or a number is out of range.

    Example:
        >>> import torch
        >>> from captum_lkn.decomposition import decompose
        >>> v = torch.tensor([0.5, 0.5, 2.0, -1.0], dtype=torch.float64)
        >>> found = Interactions.from_decomposition(("not", "good"), v, decompose(v, noise=0.0, kind="and"))
        >>> found
        Interactions of 2 players: not, good
          v(empty) = +0.50  ->  v(N) = -1.00
          not & good  -3.00  ##########|
          good        +1.50            |#####
          salient (above 5 % of the largest): 2 effects, against 2^2 = 4 outputs
          outputs reproduced within rounding (kappa 0); at most 0 % above the optimum
        >>> print(found.top(1)[0])
        not & good  -3.00
        >>> found.effect("not", "good")
        -3.0
        >>> found.shapley_values()
        tensor([-1.5000,  0.0000], dtype=torch.float64)
    """

    players: tuple[str, ...]
    effects: Effects
    values: Tensor
    kappa: float
    gap: float
    provenance: Mapping[str, files.JSON] = field(default_factory=dict)
    layout: InputLayout | None = None
    options: DecompositionOptions = None  # type: ignore[assignment]  # never None once made
    epsilon: float = torch.finfo(torch.float64).eps

    plot = Accessor("captum_lkn.plot.accessors", "INTERACTIONS")
    """Pictures: ``found.plot.waterfall()``; see :mod:`captum_lkn.plot`."""

    def __post_init__(self) -> None:
        check_players(self.players)
        given: object = self.effects
        if not isinstance(given, Effects):
            raise TypeError(f"effects must be Effects; got {kind_of(given)}. Effects.from_tables makes them of tables")
        if given.n != len(self.players):
            raise ValueError(f"effects must be of the players; got n = {given.n} and {len(self.players)} labels")
        check_table("values", self.values, len(self.players))
        # Frozen for the user; here the parts take their final form, which is also that of a loaded file.
        object.__setattr__(self, "kappa", check_bound("kappa", self.kappa))
        object.__setattr__(self, "gap", check_bound("gap", self.gap, or_infinite=True))
        object.__setattr__(self, "epsilon", check_bound("epsilon", self.epsilon))
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
        kind: DecompositionKind = "and-or" if bool(self.effects.is_or.any()) else "and"
        return DecompositionOptions(kappa=self.kappa, kind=kind)

    @property
    def n_players(self) -> int:
        """The number n of players."""
        return len(self.players)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The labels, repeated ones told apart: ``is[1]``, ``is[2]``."""
        return distinct_labels(self.players)

    @property
    def and_effects(self) -> Tensor:
        """The AND effects as a table, float64 ``[2^n]``: bit i of the index = player i; entry 0 is v(empty)."""
        return self.effects.tables()[0]

    @property
    def or_effects(self) -> Tensor:
        """The OR effects as a table; 0 for the empty set and for single players, whose effects are AND effects."""
        return self.effects.tables()[1]

    @property
    def orders(self) -> Tensor:
        """The number of players in every set, int64 ``[2^n]``."""
        return lattice.orders(self.n_players)

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
        return float((self.values - self.effects.reconstruction).abs().max())

    def effect(self, *players: str | SupportsIndex, kind: Kind = "and") -> float:
        """Return the effect of one set of players.

        Args:
            *players: Their labels or numbers, in any order. A label that several players have needs its number:
                ``"is[2]"``, see `labels`.
            kind: ``"and"`` or ``"or"``; of a single player both are the same.

        Returns:
            The effect in the units of the score; 0 where the set has none.

        Raises:
            TypeError: If a player is neither a label nor a number.
            ValueError: If there is no such player or kind, or no player was given.
        """
        if kind not in KINDS:
            raise ValueError(f'kind must be "and" or "or"; got {kind!r}')
        members = player_numbers(players, self.players, self.labels)
        if not members:
            raise ValueError("players must be one or more: give labels or numbers")
        asked = Effects.of(self.n_players, [(kind if len(members) > 1 else "and", members, 1.0)])
        return float(self.effects.at(asked))

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
        limit = check_count(k)
        if kind is None:
            return ranked(self.labels, self.effects, limit)
        if kind not in KINDS:
            raise ValueError(f'kind must be "and", "or" or None; got {kind!r}')
        return ranked(self.labels, self.effects.select(self.effects.is_or == (kind == "or")), limit)

    def salient(self, tau: float = TAU, relative: bool = True) -> list[Interaction]:
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
        chosen = self.effects.salient(tau) if relative else self.effects.above(tau)
        return ranked(self.labels, self.effects.select(chosen))

    def by_order(self) -> list[OrderStrength]:
        """Number and strength of the effects by kind and order.

        Returns:
            2n rows: AND from order 1 to n, then OR (whose order 1 is empty, being merged into AND).
            ``pandas.DataFrame(found.by_order())`` makes a table of it.
        """
        return self.effects.by_order()

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
        check_masks(masks, self.n_players)
        return self.effects.predict(masks.cpu())

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
        """Return all effects of nonempty sets that are not exactly 0, the strongest first.

        Returns:
            A DataFrame with the columns sample (0), explained, text, continuation, kind, players (a tuple of labels,
            repeated ones told apart), members (a tuple of their numbers), order and effect.

        Raises:
            ImportError: If pandas is not installed.
        """
        return to_frame([(self.provenance, self.top(None))])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to one file; see :func:`captum_lkn._common.files.write` for the errors.

        Args:
            path: The file, ending in ``.safetensors``.
        """
        files.write(path, _SCHEMA, *pack([self.parts()]))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Interactions:
        """Read what :meth:`save` wrote; see :func:`captum_lkn._common.files.read` for the errors.

        Args:
            path: The file.

        Returns:
            The interactions, bit for bit.
        """
        return cls(**unpack(*files.read(path, _SCHEMA))[0])

    @classmethod
    def from_decomposition(
        cls,
        players: tuple[str, ...],
        values: Tensor,
        found: Decomposition,
        provenance: Mapping[str, files.JSON] | None = None,
        layout: InputLayout | None = None,
        epsilon: float = torch.finfo(torch.float64).eps,
    ) -> Interactions:
        """Make interactions of a value table and its decomposition.

        Args:
            players: n labels.
            values: The value table, float64 ``[2^n]``.
            found: The decomposition of this table alone.
            provenance: As for the class; the solver's steps are added.
            layout: As for the class.
            epsilon: As for the class.

        Returns:
            The interactions.

        Raises:
            TypeError: As for the class.
            ValueError: As for the class, or if `found` has several tables.
        """
        return cls(
            players,
            found.effects,
            values.detach().cpu(),
            kappa=float(found.kappa),
            gap=float(found.gap),
            provenance={**(provenance or {}), "steps": int(found.steps), "stopped": found.stopped[0]},
            layout=layout,
            options=found.options,
            epsilon=epsilon,
        )

    def parts(self) -> dict[str, Any]:
        """Return the arguments that make this object anew, by name."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @property
    def n_salient(self) -> int:
        """The number of salient interactions, at the paper's threshold."""
        return int(self.effects.salient().sum())

    @property
    def about(self) -> About:
        """Model, class, text and continuation that these interactions are about, as the provenance records them."""
        return about_of(self.provenance)

    def summary(self, width: int = WIDTH) -> str:
        """Return one line: the class, the score without and with all players, the strongest interaction."""
        return sample_line(self._report(1), width)

    def _report(self, rows: int) -> SampleReport:
        return SampleReport(
            about=self.about,
            labels=self.labels,
            v_empty=self.v_empty,
            v_full=self.v_full,
            rows=[(one.kind, one.name, one.order, one.effect) for one in self.top(rows)],
            n_salient=self.n_salient,
            within=0.0 if self.residual <= 1e-12 * float(self.values.abs().max()) else self.residual,
            kappa=self.kappa,
            gap=self.gap,
        )

    def __repr__(self) -> str:
        return sample_text(self._report(5))

    def _repr_html_(self) -> str:
        return sample_html(self._report(10))
