"""The sparse AND-OR interactions of one sample, fitted to sampled masks."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor

from captum_lkn._common import files
from captum_lkn._common.accessors import Accessor, Delegate
from captum_lkn._common.arguments import Positive, checked
from captum_lkn._common.checks import is_number
from captum_lkn._common.messages import kind_of, shape_of
from captum_lkn.decomposition.effects import TAU, Effects
from captum_lkn.decomposition.options import DecompositionOptions
from captum_lkn.interactions.about import WIDTH, About, about_of
from captum_lkn.interactions.checks import check_bound, check_finite, check_masks, check_options, check_provenance
from captum_lkn.interactions.frame import to_frame
from captum_lkn.interactions.labels import check_players
from captum_lkn.interactions.layout import InputLayout, spread_over
from captum_lkn.interactions.listing import EffectLists
from captum_lkn.interactions.packing import only, pack_sampled, unpack_sampled
from captum_lkn.interactions.ranking import Interaction, ranked
from captum_lkn.interactions.sample import Interactions
from captum_lkn.interactions.sampled_rendering import SampledReport, sampled_html, sampled_line, sampled_text
from captum_lkn.sampling.fit import SampledFit
from captum_lkn.sampling.players import banzhaf_weights, jackknife_errors, pair_weights, shapley_weights

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["AnyInteractions", "SampledInteractions"]

_SCHEMA = "SampledInteractions"


@checked("layout", "masks", "refits")
@dataclass(frozen=True, eq=False, repr=False)
class SampledInteractions(EffectLists):
    """Sparse AND-OR interactions of one sample with any number of players, fitted to values at sampled masks.

    They explain the score as well as `r_squared` says, which is measured at masks that were not used to fit. The
    standard errors come of refits without parts of the masks. They show how much the effects of these sets depend on
    which masks were drawn, and not what sets were missed.

    Attributes:
        players: n labels.
        effects: The effects in their sparse form.
        refits: Float64 ``[F, k]``, the effects refitted without one of F parts of the masks; see `errors`. There
            are none, and no errors, where all 2^n masks were evaluated.
        r_squared: R^2 at masks that were not used to fit: uniform ones, each player present with probability 1/2, and
            such of all sizes, whose number of players is uniform. Where all 2^n masks were evaluated: over these.
        v_empty: The score with all players absent.
        v_full: The score of the sample as it is, all players present.
        deviation: The root mean square of what the effects miss at the masks that were used to fit.
        masks: The numbers of masks: to fit, to test uniform ones, to test all sizes.
        provenance: As in :class:`Interactions`, like the next three.
        layout: The map from players back to the inputs; None where that is not known.
        options: The options that the fit shares with the decomposition of all 2^n values.
        epsilon: The relative rounding error of the values.

    Raises:
        TypeError: If a part has the wrong type or dtype.
        ValueError: If lengths do not fit, or a number is out of range.

    Example:
        >>> effects = Effects.of(40, [("and", (3, 7), -3.0), ("and", (7,), 1.5)], constant=0.5)
        >>> found = SampledInteractions(
        ...     tuple(f"word {i}" for i in range(40)), effects, effects.values.expand(10, 2), (0.99, 0.98), 0.5, -1.0
        ... )
        >>> print(found.top(1)[0])
        word 3 & word 7  -3.00 +- 0.00
        >>> found.shapley_values()[[3, 7]]
        tensor([-1.5000,  0.0000], dtype=torch.float64)
    """

    players: tuple[str, ...]
    effects: Effects
    refits: Tensor
    r_squared: tuple[float, float]
    v_empty: float
    v_full: float
    deviation: float = 0.0
    masks: tuple[int, int, int] = (0, 0, 0)
    provenance: Mapping[str, files.JSON] = field(default_factory=dict)
    layout: InputLayout | None = None
    options: DecompositionOptions = None  # type: ignore[assignment]  # never None once made
    epsilon: float = torch.finfo(torch.float64).eps

    plot = Accessor("captum_lkn.plot.accessors", "SAMPLED")
    """Pictures as methods, such as ``found.plot.waterfall()``; see :mod:`captum_lkn.plot`."""

    report = Delegate("captum_lkn.report.pages", "report_sample")
    """A page in one file: ``found.report("found.html")``; see :func:`captum_lkn.report.pages.report_sample`."""

    to_shapiq = Delegate("captum_lkn.interop", "to_shapiq")
    """``found.to_shapiq("k-SII")``; see :func:`captum_lkn.interop.to_shapiq`."""

    to_networkx = Delegate("captum_lkn.interop", "to_networkx")
    """``found.to_networkx()``; see :func:`captum_lkn.interop.to_networkx`."""

    def __post_init__(self) -> None:
        check_players(self.players)
        given: object = self.effects
        if not isinstance(given, Effects):
            raise TypeError(f"effects must be Effects; got {kind_of(given)}. Effects.of makes them of triples")
        if given.n != len(self.players):
            raise ValueError(f"effects must be of the players; got n = {given.n} and {len(self.players)} labels")
        if self.refits.dim() != 2 or self.refits.shape[1] != len(given) or self.refits.dtype != torch.float64:
            raise ValueError(f"refits must be float64 [F, {len(given)}], one a fold; got {shape_of(self.refits)}")
        if not bool(self.refits.isfinite().all()):
            raise ValueError("refits must be finite; got NaN or an infinite one")
        object.__setattr__(self, "refits", self.refits.clone())
        for name in ("v_empty", "v_full"):
            object.__setattr__(self, name, check_finite(name, getattr(self, name)))
        for name, length in (("r_squared", 2), ("masks", 3)):
            numbers = getattr(self, name)
            if not isinstance(numbers, tuple) or len(numbers) != length or not all(map(is_number, numbers)):
                raise TypeError(f"{name} must be a tuple of {length} numbers; got {numbers!r}")
        object.__setattr__(self, "deviation", check_bound("deviation", self.deviation))
        object.__setattr__(self, "epsilon", check_bound("epsilon", self.epsilon))
        object.__setattr__(self, "provenance", check_provenance(self.provenance))
        object.__setattr__(self, "options", check_options(self.options, 0.0, self.effects))
        if self.layout is not None and self.layout.n_players > len(self.players):
            raise ValueError(
                f"the layout has {self.layout.n_players} players or more, but {len(self.players)} have labels"
            )

    @classmethod
    @checked()
    def from_fit(
        cls,
        players: tuple[str, ...],
        found: SampledFit,
        ends: tuple[float, float],
        masks: tuple[int, int, int],
        options: DecompositionOptions,
        provenance: Mapping[str, files.JSON] | None = None,
        layout: InputLayout | None = None,
        epsilon: float = torch.finfo(torch.float64).eps,
    ) -> SampledInteractions:
        """Make interactions of a fit.

        Args:
            players: n labels.
            found: The fit.
            ends: v(empty) and v(N).
            masks: As for the class, like all that follow.
            options: As there.
            provenance: As there.
            layout: As there.
            epsilon: As there.

        Returns:
            The interactions.
        """
        own = found.effects, found.refits, found.r_squared, *ends, found.deviation, masks
        return cls(players, *own, provenance or {}, layout, options, epsilon)

    @property
    def n_players(self) -> int:
        """The number n of players."""
        return len(self.players)

    @cached_property
    def errors(self) -> Tensor:
        """The standard errors of the effects, float64 ``[k]``: the jackknife over F parts of the masks."""
        return jackknife_errors(self.refits)

    def _listed(self, chosen: Tensor, limit: int | None = None) -> list[Interaction]:
        errors: list[float] = self.errors[chosen].tolist()
        return ranked(self.labels, self.effects.select(chosen), limit, errors=errors)

    @checked("relative")
    def salient(self, tau: float = TAU, relative: bool = True) -> list[Interaction]:
        """The interactions that are stronger than a threshold; the paper's section 3.2.

        Args:
            tau: The threshold.
            relative: Whether `tau` is a share of the largest absolute effect; else it is in the units of the score.

        Returns:
            Interactions with ``|effect| >`` threshold, sorted as in :meth:`top`.

        Raises:
            ValueError: If `tau` is negative or not a number.
        """
        tau = check_bound("tau", tau, or_infinite=True)
        return self._listed(self.effects.above(tau * self.effects.largest if relative else tau))

    def predict(self, masks: Tensor) -> Tensor:
        """The scores that the effects add up to; the right-hand side of Eq. 3.

        Args:
            masks: Bool ``[m, n]`` or ``[n]`` in the players' order, True where a player is present.

        Returns:
            float64 ``[m]``, or a scalar for one mask, on the CPU.

        Raises:
            TypeError: If `masks` is not a bool tensor.
            ValueError: If its last dimension is not n.
        """
        check_masks(masks, self.n_players)
        return self.effects.predict(masks.cpu())

    def shapley_values(self) -> Tensor:
        r"""The players' Shapley values, as the effects give them: \|S\| players share the effect of S equally.

        Returns:
            float64 ``[n]``; they add up to ``v_full - v_empty`` where the ends are pinned.
        """
        return shapley_weights(self.effects) @ self.effects.values

    def shapley_errors(self) -> Tensor:
        """The standard errors of the Shapley values, float64 ``[n]``, from the refits."""
        return jackknife_errors(self.refits @ shapley_weights(self.effects).T)

    def banzhaf_values(self) -> Tensor:
        """The players' Banzhaf values, as the effects give them.

        Returns:
            float64 ``[n]``.
        """
        return banzhaf_weights(self.effects) @ self.effects.values

    def banzhaf_errors(self) -> Tensor:
        """The standard errors of the Banzhaf values, float64 ``[n]``, from the refits."""
        return jackknife_errors(self.refits @ banzhaf_weights(self.effects).T)

    @checked()
    def interaction_index(self, order: int = 2) -> dict[tuple[int, ...], float]:
        """The Shapley interaction index of players and of pairs, as the effects give it.

        Args:
            order: 1 or 2.

        Returns:
            The Shapley value of every player, and the index of every pair that lies in a set with an effect; the index
            of other pairs is 0.

        Raises:
            ValueError: If `order` is something else.
        """
        if order not in (1, 2):
            raise ValueError(f"order must be 1 or 2 for sampled masks; got {order}")
        found: dict[tuple[int, ...], float] = {(i,): value for i, value in enumerate(self.shapley_values().tolist())}
        if order == 2:
            pairs, weights = pair_weights(self.effects)
            values = (weights @ self.effects.values).tolist()
            found |= {(i, j): value for (i, j), value in zip(pairs.tolist(), values, strict=True)}
        return found

    def attributions(self) -> Tensor | tuple[Tensor, ...]:
        """The Shapley value of its player at every scalar of the input, 0 at the background.

        Returns:
            Tensors in the shapes of the sample's inputs, without a batch dimension; a tuple where the inputs were one.

        Raises:
            ValueError: If there is no layout.
        """
        return spread_over(self.layout, self.shapley_values())

    def to_frame(self) -> pd.DataFrame:
        """Return all effects of nonempty sets, the strongest first.

        Returns:
            A DataFrame with the columns sample (0), explained, text, continuation, kind, players (a tuple of labels,
            repeated ones told apart), members (a tuple of their numbers), order, effect and error.

        Raises:
            ImportError: If pandas is not installed.
        """
        return to_frame([(self.provenance, None, self.top(None))])

    @checked()
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to one file; see :func:`captum_lkn._common.files.write` for the errors.

        Args:
            path: The file, ending in ``.safetensors``.
        """
        files.write(path, _SCHEMA, *pack_sampled([self.parts()]))

    @classmethod
    @checked()
    def load(cls, path: str | os.PathLike[str]) -> SampledInteractions:
        """Read what :meth:`save` wrote; see :func:`captum_lkn._common.files.load` for the errors.

        Args:
            path: The file.

        Returns:
            The interactions, bit for bit.
        """
        return files.load(path, _SCHEMA, lambda *content: cls(**only(unpack_sampled(*content))))

    def parts(self) -> dict[str, Any]:
        """Return the arguments that make this object anew, by name."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @property
    def about(self) -> About:
        """Model, class, text and continuation that these interactions are about, as the provenance records them."""
        return about_of(self.provenance)

    @property
    def worst_r_squared(self) -> float:
        """The smaller R^2 of both kinds of masks; NaN where neither is known."""
        return min((one for one in self.r_squared if not math.isnan(one)), default=math.nan)

    @checked("width")
    def summary(self, width: Positive = WIDTH) -> str:
        """Return one line: R^2, the class, the score without and with all players, the strongest interaction."""
        return sampled_line(self.contents(1), width)

    @checked()
    def contents(self, rows: int) -> SampledReport:
        """Return what is printed: R^2, the strongest interactions with their errors."""
        listed = self.top(rows)
        return SampledReport(
            about=self.about,
            labels=self.labels,
            v_empty=self.v_empty,
            v_full=self.v_full,
            rows=[(one.kind, one.name, one.order, one.effect) for one in listed],
            errors=[one.error for one in listed],
            n_effects=len(self.effects),
            n_salient=self.n_salient,
            r_squared=self.r_squared,
            deviation=self.deviation,
            masks=self.masks,
        )

    def __repr__(self) -> str:
        return sampled_text(self.contents(5))

    def _repr_html_(self) -> str:
        return sampled_html(self.contents(10))


AnyInteractions: TypeAlias = Interactions | SampledInteractions
"""The interactions of one sample, from all masks or from sampled ones."""
