"""The sparse AND-OR interactions of one sample."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, SupportsIndex

import torch
from torch import Tensor

from captum_lkn._common import files
from captum_lkn._common.accessors import Accessor, Delegate
from captum_lkn._common.arguments import Positive, checked
from captum_lkn._common.messages import kind_of
from captum_lkn.decomposition.decompose import Decomposition
from captum_lkn.decomposition.effects import TAU, Effects, check_table
from captum_lkn.decomposition.options import DecompositionOptions
from captum_lkn.decomposition.ranges import effect_intervals
from captum_lkn.decomposition.refit import Fidelity, fidelity_of, refit_salient
from captum_lkn.interactions.about import WIDTH, About, about_of
from captum_lkn.interactions.checks import (
    check_bound,
    check_count,
    check_masks,
    check_options,
    check_provenance,
)
from captum_lkn.interactions.frame import to_frame
from captum_lkn.interactions.labels import check_players
from captum_lkn.interactions.layout import InputLayout
from captum_lkn.interactions.listing import EffectLists
from captum_lkn.interactions.packing import only, pack, unpack
from captum_lkn.interactions.ranges import EffectRange, EffectRanges
from captum_lkn.interactions.ranking import Interaction, ranked
from captum_lkn.interactions.rendering import SampleReport, sample_html, sample_line, sample_text
from captum_lkn.interactions.table import ValueTable

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Interactions"]

_SCHEMA = "Interactions"
_ROUNDING = 1e-9  # of the numbers that are added: what effects may miss a value by beyond kappa


@checked("layout")
@dataclass(frozen=True, eq=False, repr=False)
class Interactions(ValueTable, EffectLists):
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
        provenance: A record of model, layer, score, target and the like, as JSON; ``"forwards"`` are of its batch.
        layout: The map from players back to the inputs; None where that is not known.
        epsilon: The relative rounding error of the values: the machine epsilon of the forwards' dtype.
        refitted: Whether the effects were fitted anew to the values (:meth:`refit`); `kappa` then does not bound the
            deviation, and nothing is certified.
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
    refitted: bool = False

    plot = Accessor("captum_lkn.plot.accessors", "INTERACTIONS")
    """Pictures as methods, such as ``found.plot.waterfall()``; see :mod:`captum_lkn.plot`."""

    to_shapiq = Delegate("captum_lkn.interop", "to_shapiq")
    """``found.to_shapiq("k-SII", order=2)``; see :func:`captum_lkn.interop.to_shapiq`."""

    to_networkx = Delegate("captum_lkn.interop", "to_networkx")
    """``found.to_networkx()``; see :func:`captum_lkn.interop.to_networkx`."""

    report = Delegate("captum_lkn.report.pages", "report_sample")
    """A page in one file: ``found.report("found.html")``; see :func:`captum_lkn.report.pages.report_sample`."""

    def __post_init__(self) -> None:
        check_players(self.players)
        given: object = self.effects
        if not isinstance(given, Effects):
            raise TypeError(f"effects must be Effects; got {kind_of(given)}. Effects.from_tables makes them of tables")
        if given.n != len(self.players):
            raise ValueError(f"effects must be of the players; got n = {given.n} and {len(self.players)} labels")
        check_table("values", self.values, len(self.players))
        # Frozen for the user; here the parts take their final form, which is also that of a loaded file.
        object.__setattr__(self, "values", self.values.clone())
        object.__setattr__(self, "kappa", check_bound("kappa", self.kappa))
        object.__setattr__(self, "gap", check_bound("gap", self.gap, or_infinite=True))
        object.__setattr__(self, "epsilon", check_bound("epsilon", self.epsilon))
        object.__setattr__(self, "provenance", check_provenance(self.provenance))
        object.__setattr__(self, "options", check_options(self.options, self.kappa, self.effects))
        if not isinstance(self.refitted, bool):
            raise TypeError(f"refitted must be True or False; got {self.refitted!r}")
        if not self.refitted and self._misses:
            raise ValueError(
                f"effects must reproduce every value within kappa = {self.kappa:.3g}, unless they are refitted; got a "
                f"miss of {self.residual:.3g}. Give the table that was decomposed, and its kappa"
            )
        if self.layout is not None and self.layout.n_players > len(self.players):
            raise ValueError(
                f"the layout has {self.layout.n_players} players or more, but {len(self.players)} have labels"
            )

    @property
    def _misses(self) -> bool:
        """True if a value is missed by more than kappa and rounding."""
        largest = self.values.abs().max() + self.effects.values.abs().sum()  # effects may cancel
        return self.residual > self.kappa + _ROUNDING * float(largest)

    @property
    def residual(self) -> float:
        """The largest ``|v(T) - predict(T)|`` over all T."""
        return float((self.values - self.effects.reconstruction).abs().max())

    @checked("above_kappa", "relative")
    def salient(self, tau: float = TAU, relative: bool = True, *, above_kappa: bool = False) -> list[Interaction]:
        """The interactions that are stronger than a threshold; the paper's section 3.2.

        Args:
            tau: The threshold.
            relative: Whether `tau` is a share of the largest absolute effect of nonempty sets, AND and OR
                together; else it is in the units of the score.
            above_kappa: Whether effects up to `kappa`, by which each value may be missed, are left out as well.

        Returns:
            Interactions with ``|effect| >`` threshold, sorted as in :meth:`top`.

        Raises:
            ValueError: If `tau` is negative or not a number.
        """
        return ranked(self.labels, self._salient(tau, relative, above_kappa))

    def _salient(self, tau: float, relative: bool, above_kappa: bool) -> Effects:
        tau = check_bound("tau", tau, or_infinite=True)
        threshold = tau * self.effects.largest if relative else tau
        return self.effects.select(self.effects.above(max(threshold, self._kappa if above_kappa else 0.0)))

    @property
    def _kappa(self) -> float:
        """The bound that an effect above kappa exceeds: many end at kappa, and differ from it by rounding."""
        return self.kappa * (1 + 1e-9)

    @checked("above_kappa", "relative")
    def fidelity(self, tau: float = TAU, relative: bool = True, *, above_kappa: bool = False) -> Fidelity:
        """Return how well the salient effects alone reproduce the values.

        Args:
            tau: As in :meth:`salient`, like the others; 0 takes all effects.
            relative: As there.
            above_kappa: As there.

        Returns:
            Their number, R^2 over all 2^n values, and the largest miss of a value in the units of the score.

        Raises:
            ValueError: As there.
        """
        return fidelity_of(self._salient(tau, relative, above_kappa), self.values)

    @checked("above_kappa", "relative")
    def refit(self, tau: float = TAU, relative: bool = True, *, above_kappa: bool = False) -> Interactions:
        """Fit the salient effects anew to the values, by least squares, and drop the others.

        The decomposition shrinks effects: every value may be missed by `kappa`, and smaller effects cost less. The
        refit keeps the sets and takes the shrinkage away. Its effects are no longer within `kappa` of every value, and
        no certificate holds for them; printing says both.

        Args:
            tau: As in :meth:`salient`, like the others. Effects that fall below the threshold are dropped, and the rest
                is fitted again, until none does.
            relative: As there.
            above_kappa: As there.

        Returns:
            The interactions of these sets, with v(empty) and v(N) exact where they were pinned.

        Raises:
            ValueError: As there.

        Example:
            >>> from captum_lkn.decomposition import decompose
            >>> v = torch.tensor([0.0, -0.1, -0.1, 2.0], dtype=torch.float64)
            >>> found = Interactions.from_decomposition(("not", "good"), v, decompose(v, kappa=0.1))
            >>> [str(one) for one in found.refit().top()], found.refit().fidelity().largest_miss
            (['not & good  +2.00'], 0.1)
        """
        tau = check_bound("tau", tau, or_infinite=True)
        least = self._kappa if above_kappa else 0.0
        pinned = self.options.pin_ends
        effects = refit_salient(self.effects, self.values, tau=tau, relative=relative, least=least, pin_ends=pinned)
        return replace(self, effects=effects, gap=math.inf, refitted=True)

    def effect_ranges(self, k: SupportsIndex | None = 10, slack: float = 0.001) -> EffectRanges:
        """Return the interval that each of the strongest effects takes over all explanations of about the same cost.

        Explanations reproduce every value within `kappa` and cost at most ``1 + slack`` times this one. The cost is
        the sum of ``w_S |I(S)|`` with the order weight alone: a higher price of OR effects and the ridge decide between
        explanations of nearly the same cost, and do not count. A range that contains 0 says that the values do not
        determine the effect. Each end of a range takes two or three solutions that start from the optimum of the table.

        Args:
            k: The number of effects, the strongest ones; None takes all.
            slack: The share of the cost that is added.

        Returns:
            A sequence of ranges, certified: no such explanation lies outside. Printed, those that contain 0 are marked.

        Raises:
            TypeError: If `k` is no whole number.
            ValueError: If `k` is negative, `slack` negative or not finite, or the effects do not reproduce the values
                within `kappa`, as after a refit.
        """
        limit, slack = check_count(k), check_bound("slack", slack)
        if self._misses:
            raise ValueError(
                f"effects must reproduce every value within kappa = {self.kappa:.3g}; got a miss of "
                f"{self.residual:.3g}. Take the ranges of the decomposition, before refit()"
            )
        places = [place for place in self.effects.strongest().tolist() if self.effects.values[place] != 0][:limit]
        options = self.options.replace(kappa=self.kappa)
        intervals = effect_intervals(self.effects, self.values, places, slack=slack, options=options)
        pairs = zip(self.top(limit), intervals, strict=True)
        return EffectRanges(tuple(EffectRange(one, each.low, each.high) for one, each in pairs), slack)

    def predict(self, masks: Tensor) -> Tensor:
        """The scores that the effects add up to; the right-hand side of Eq. 3.

        Args:
            masks: Bool ``[m, n]`` or ``[n]`` in the players' order, True where a player is present.

        Returns:
            float64 ``[m]``, or a scalar for one mask, on the CPU: within `kappa` of the model's own, unless `refitted`.

        Raises:
            TypeError: If `masks` is not a bool tensor.
            ValueError: If its last dimension is not n.
        """
        check_masks(masks, self.n_players)
        return self.effects.predict(masks.cpu())

    @checked("ranges")
    def to_frame(self, ranges: EffectRanges | None = None) -> pd.DataFrame:
        """Return all effects of nonempty sets that are not exactly 0, the strongest first.

        Args:
            ranges: What :meth:`effect_ranges` gave, for two more columns: low and high.

        Returns:
            A DataFrame with the columns sample (0), explained, text, continuation, kind, players (a tuple of labels,
            repeated ones told apart), members (a tuple of their numbers), order, effect and above_kappa (whether its
            absolute value is).

        Raises:
            ImportError: If pandas is not installed.
        """
        return to_frame([(self.provenance, self.kappa, self.top(None))], ranges)

    @checked("path")
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to one file; see :func:`captum_lkn._common.files.write` for the errors.

        Args:
            path: The file, ending in ``.safetensors``.
        """
        files.write(path, _SCHEMA, *pack([self.parts()]))

    @classmethod
    @checked("path")
    def load(cls, path: str | os.PathLike[str]) -> Interactions:
        """Read what :meth:`save` wrote; see :func:`captum_lkn._common.files.load` for the errors.

        Args:
            path: The file.

        Returns:
            The interactions, bit for bit.
        """
        return files.load(path, _SCHEMA, lambda *content: cls(**only(unpack(*content))))

    @classmethod
    @checked()
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
            ValueError: As for the class, or if `found` has several tables, or is the decomposition of another table.
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
    def about(self) -> About:
        """Model, class, text and continuation that these interactions are about, as the provenance records them."""
        return about_of(self.provenance)

    @checked("width")
    def summary(self, width: Positive = WIDTH) -> str:
        """Return one line: the class, the score without and with all players, the strongest interaction."""
        return sample_line(self.contents(1), width)

    @checked()
    def contents(self, rows: int) -> SampleReport:
        """Return what is printed: the strongest interactions, and how exact they are."""
        return SampleReport(
            about=self.about,
            labels=self.labels,
            v_empty=self.v_empty,
            v_full=self.v_full,
            rows=[(one.kind, one.name, one.order, one.effect) for one in self.top(rows)],
            n_salient=self.n_salient,
            n_above_kappa=len(self.salient(above_kappa=True)),
            within=0.0 if self.residual <= 1e-12 * float(self.values.abs().max()) else self.residual,
            kappa=self.kappa,
            gap=self.gap,
            fidelity=self.fidelity() if self.refitted else None,
        )

    def __repr__(self) -> str:
        return sample_text(self.contents(5))

    def _repr_html_(self) -> str:
        return sample_html(self.contents(10))
