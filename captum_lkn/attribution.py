"""Captum's attribution classes for interactions.

Arguments, their order and their meaning are those of :class:`captum.attr.ShapleyValues`; what comes after them is
keyword-only. The result is interactions, of which attributions are a projection (``found.attributions()``).
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import captum
import torch
from captum.attr import PerturbationAttribution
from captum.log import log_usage
from torch import Tensor

from captum_lkn import indices
from captum_lkn._version import __version__
from captum_lkn.decomposition import (
    NOISE,
    ORDER_WEIGHT,
    RIDGE,
    TOLERANCE,
    Decomposition,
    Kind,
    check_options,
    decompose,
)
from captum_lkn.interactions import InputLayout, Interactions, InteractionsBatch
from captum_lkn.models import Arguments, Model
from captum_lkn.players import Players, players_from_mask
from captum_lkn.scores import Score, resolve_score
from captum_lkn.targets import TargetLike
from captum_lkn.values import ValueTables, value_tables

__all__ = ["AndOrInteraction", "ConvergenceDelta", "ExactShapleyValues"]

Inputs: TypeAlias = Tensor | tuple[Tensor, ...] | Mapping[str, Any] | Players
Baselines: TypeAlias = Tensor | float | tuple[Tensor | float, ...] | Mapping[str, Tensor | float] | None
FeatureMask: TypeAlias = Tensor | tuple[Tensor, ...] | Mapping[str, Tensor] | None
PlayerNames: TypeAlias = Sequence[str] | Sequence[Sequence[str]] | None


class ConvergenceDelta(NamedTuple):
    r"""How exactly interactions reproduce what they explain, for each of B samples.

    Attributes:
        efficiency: ``[B]``, the sum of all effects minus v(N); 0 to rounding unless the ends were left free.
        matching: ``[B]``, the largest \|v(T) - reconstruction\| over all 2^n masks; at most kappa.
    """

    efficiency: Tensor
    matching: Tensor


class _Method(PerturbationAttribution):
    """What the methods share: a model, and the score it is asked for."""

    def __init__(self, forward_func: Callable[..., Any], score: str | Score) -> None:
        PerturbationAttribution.__init__(self, forward_func)
        self._question = _Question(forward_func, score)

    def attribute_future(self, *args: Any, **kwargs: Any) -> None:
        """Not available, as in most of Captum's methods.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError(f"{self.get_name()} has no asynchronous form: call attribute")


class AndOrInteraction(_Method):
    r"""Sparse AND-OR interactions between the players of an input.

    Evaluates the model on all 2^n masked copies of each sample and decomposes the 2^n values of each into AND and
    OR effects (Cheng et al., "Layerwise Change of Knowledge in Neural Networks", ICML 2024, Eq. 1 to 5).

    Args:
        forward_func: An ``nn.Module``, any callable, or a Hugging Face model (called by keyword, ``.logits`` read).
        score: What of the output is explained: ``"log_odds"`` (the paper's; reads logits), ``"logit"`` (what Captum
            explains: the output as it is), ``"log_prob"``, ``"prob"``, ``"margin"``, ``"binary_log_odds"``, or a
            callable ``score(output [B, C], target [B]) -> [B]``.
        noise: How far the effects may miss each value, as a share of \|v(N) - v(empty)\| of the sample.
        kappa: The same as an absolute number; replaces ``noise``.
        pin_ends: Whether v(empty) and v(N) are met exactly.
        order_weight: How much more each further player of a set costs.
        ridge: Weight of the squares that make the answer unique.
        tolerance: The certified relative gap of the decomposition to stop at.
        kind: ``"and-or"``, or ``"and"`` for AND effects alone.

    Raises:
        TypeError: ``forward_func`` cannot be called.
        ValueError: an unknown score.

    Example:
        >>> def either_and_both(x):  # x0 or x1, and x2 and x3
        ...     return torch.maximum(x[:, 0], x[:, 1]) + 2 * x[:, 2] * x[:, 3]
        >>> found = AndOrInteraction(either_and_both, score="logit", noise=0).attribute(torch.ones(1, 4))
        >>> for interaction in found[0].top(2):
        ...     print(interaction)
        2 & 3  +2.00
        0 | 1  +1.00
        >>> found.attributions()
        tensor([[0.5000, 0.5000, 1.0000, 1.0000]])
    """

    def __init__(
        self,
        forward_func: Callable[..., Any],
        *,
        score: str | Score = "log_odds",
        noise: float = NOISE,
        kappa: float | None = None,
        pin_ends: bool = True,
        order_weight: float = ORDER_WEIGHT,
        ridge: float = RIDGE,
        tolerance: float = TOLERANCE,
        kind: Kind = "and-or",
    ) -> None:
        super().__init__(forward_func, score)
        # Before any forward is spent on them.
        check_options(noise=noise, order_weight=order_weight, ridge=ridge, tolerance=tolerance, kappa=kappa, kind=kind)
        self._settings: dict[str, Any] = {
            "noise": float(noise),
            "kappa": None if kappa is None else float(kappa),
            "pin_ends": bool(pin_ends),
            "order_weight": float(order_weight),
            "ridge": float(ridge),
            "tolerance": float(tolerance),
            "kind": kind,
        }

    @log_usage(part_of_slo=True)  # type: ignore[untyped-decorator]
    @torch.no_grad()
    def attribute(
        self,
        inputs: Inputs,
        baselines: Baselines = None,
        target: TargetLike = None,
        additional_forward_args: Any = None,
        feature_mask: FeatureMask = None,
        perturbations_per_eval: int | None = None,
        show_progress: bool = False,
        *,
        player_names: PlayerNames = None,
    ) -> InteractionsBatch:
        """Find the interactions of each sample.

        Args:
            inputs: A tensor ``[B, ...]``, a tuple of them, a mapping (such as a ``BatchEncoding``: called by keyword),
                or :class:`Players`, which bring their own baselines and feature mask.
            baselines: What replaces absent players: Captum's kinds; None for 0.
            target: Which output, Captum's kinds, or ``"predicted"``. None where there is one value a sample.
            additional_forward_args: A tuple (or a single thing) passed on by position behind the inputs, or a
                mapping, by keyword. Tensors whose first dimension is B go row by row with their samples.
            feature_mask: Which scalars form a player: integers, Captum's kinds; -1 is background, never masked. None:
                every scalar is a player.
            perturbations_per_eval: Masks a forward; None: by a rule, from the size of the inputs.
            show_progress: Whether to show a bar.
            player_names: A label for each player, in ascending order of its id; or one such list a sample.

        Returns:
            One :class:`Interactions` a sample; a single one where the forward gives one value a batch.

        Raises:
            TypeError: An argument of the wrong type.
            ValueError: An argument that does not fit; too many players; a value that is not finite; rows of a batch
                that influence each other.

        Warns:
            UserWarning: A model in training mode, half precision, v(N) = v(empty), a tiny kappa, a gap above the
                tolerance.
        """
        players, asked = _prepare(inputs, baselines, additional_forward_args, feature_mask, player_names)
        found = self._question.ask(players, asked, target, perturbations_per_eval, show_progress, "AND-OR interactions")
        decompositions = _decompose_each(found.tables, self._settings)
        labels = players.labels[:1] if found.whole_batch else players.labels
        provenance = self._question.provenance(players, found, self._settings)
        return InteractionsBatch(
            Interactions(
                players=labels[i],
                and_effects=part.and_effects,
                or_effects=part.or_effects,
                values=table,
                kappa=float(part.kappa),
                gap=float(part.gap),
                provenance=provenance(i) | {"steps": int(part.steps), "stopped": part.stopped[0]},
                layout=_layout(players, i),
            )
            for i, (table, part) in enumerate(zip(found.tables, decompositions, strict=True))
        )

    def has_convergence_delta(self) -> bool:
        """True: see :meth:`compute_convergence_delta`."""
        return True

    def compute_convergence_delta(self, attributions: InteractionsBatch, *args: Any) -> ConvergenceDelta:
        """How exactly the interactions reproduce the values that they explain.

        Args:
            attributions: What :meth:`attribute` returned.
            *args: Captum's start and end points; not needed, the values are kept with the interactions.

        Returns:
            Two float64 tensors ``[B]``.

        Raises:
            TypeError: ``attributions`` is no :class:`InteractionsBatch`.
        """
        if not isinstance(attributions, InteractionsBatch):
            raise TypeError(
                f"attributions must be the InteractionsBatch that attribute returned; got {type(attributions).__name__}"
            )
        sums = torch.stack([x.and_effects.sum() + x.or_effects.sum() - x.v_full for x in attributions])
        return ConvergenceDelta(sums, torch.tensor([x.residual for x in attributions], dtype=torch.float64))


class ExactShapleyValues(_Method):
    """Exact Shapley values, as tensors, from 2^n forwards.

    The drop-in for :class:`captum.attr.ShapleyValues`, which takes n * n! of them: the same arguments and result.
    For NoiseTunnel, ``captum.metrics`` and whatever else takes tensors only.

    Args:
        forward_func: An ``nn.Module``, any callable, or a Hugging Face model.
        score: As in :class:`AndOrInteraction`; the default explains what Captum explains.

    Raises:
        TypeError: ``forward_func`` cannot be called.
        ValueError: an unknown score.

    Example:
        >>> ExactShapleyValues(lambda x: x.prod(1)).attribute(torch.tensor([[2.0, 3.0]]))
        tensor([[3., 3.]])
    """

    def __init__(self, forward_func: Callable[..., Any], *, score: str | Score = "logit") -> None:
        super().__init__(forward_func, score)

    @log_usage(part_of_slo=True)  # type: ignore[untyped-decorator]
    @torch.no_grad()
    def attribute(
        self,
        inputs: Inputs,
        baselines: Baselines = None,
        target: TargetLike = None,
        additional_forward_args: Any = None,
        feature_mask: FeatureMask = None,
        perturbations_per_eval: int | None = None,
        show_progress: bool = False,
    ) -> Tensor | tuple[Tensor, ...]:
        """Attribute the score to the players.

        Args:
            inputs: As in :meth:`AndOrInteraction.attribute`, like all that follows.
            baselines: What replaces absent players.
            target: Which output.
            additional_forward_args: What else the forward gets.
            feature_mask: Which scalars form a player.
            perturbations_per_eval: Masks a forward.
            show_progress: Whether to show a bar.

        Returns:
            Tensors of the inputs' shapes, device and tuple form: the Shapley value of its player at every scalar, 0
            on the background. The first dimension is 1 where the forward gives one value a batch.

        Raises:
            TypeError: An argument of the wrong type.
            ValueError: An argument that does not fit; see :meth:`AndOrInteraction.attribute`.
        """
        players, asked = _prepare(inputs, baselines, additional_forward_args, feature_mask, None)
        found = self._question.ask(players, asked, target, perturbations_per_eval, show_progress, self.get_name())
        spread = [_layout(players, i).spread(indices.shapley_values(table)) for i, table in enumerate(found.tables)]
        if players.is_tuple:
            return tuple(torch.stack(parts) for parts in zip(*spread, strict=True))
        return torch.stack([part for part in spread if isinstance(part, Tensor)])


@dataclass
class _Question:
    """A model and the score it is asked for."""

    forward_func: Callable[..., Any]
    score: str | Score

    def __post_init__(self) -> None:
        self.model = Model(self.forward_func)
        self.score_name, self.score_function = resolve_score(self.score)

    def ask(
        self,
        players: Players,
        arguments: Arguments,
        target: TargetLike,
        perturbations_per_eval: int | None,
        show_progress: bool,
        description: str,
    ) -> ValueTables:
        """The value tables of the players."""
        with self.model.session():
            return value_tables(
                self.model,
                players,
                arguments,
                target=target,
                score=self.score_function,
                perturbations_per_eval=perturbations_per_eval,
                show_progress=show_progress,
                description=description,
            )

    def provenance(
        self, players: Players, found: ValueTables, settings: Mapping[str, Any]
    ) -> Callable[[int], dict[str, Any]]:
        """What each sample's result should remember: what was asked of which model, with what settings."""
        shared = {
            "model": self.model.name,
            "layer": "output",
            "score": self.score_name,
            **{key: value for key, value in players.description.items() if key != "texts"},
            "decomposition": {key: value for key, value in settings.items() if value is not None},
            "forwards": found.forwards,
            "versions": {
                "captum_lkn": __version__,
                "torch": str(torch.__version__),
                "captum": captum.__version__,
                "python": platform.python_version(),
            },
        }
        targets = found.target.describe()
        texts = players.description.get("texts")

        def of_sample(i: int) -> dict[str, Any]:
            return shared | {"target": targets[i]} | ({} if texts is None else {"text": texts[i]})

        return of_sample


def _prepare(
    inputs: Inputs, baselines: Baselines, additional: Any, feature_mask: FeatureMask, player_names: PlayerNames
) -> tuple[Players, Arguments]:
    """Players, and the arguments of an unmasked forward."""
    if isinstance(inputs, Players):
        given = {"baselines": baselines, "feature_mask": feature_mask, "player_names": player_names}
        extra = [name for name, value in given.items() if value is not None]
        if extra:
            raise ValueError(
                f"inputs are Players, which bring their own {', '.join(given)}; leave out {', '.join(extra)}"
            )
        players = inputs
    else:
        players = players_from_mask(inputs, baselines, feature_mask, player_names)
    keywords, positional = dict(players.constants), ()
    if isinstance(additional, Mapping):
        keywords |= additional
    elif additional is not None:
        positional = additional if isinstance(additional, tuple) else (additional,)
    return players, Arguments(players.inputs, players.names, positional, keywords)


def _layout(players: Players, sample: int) -> InputLayout:
    dtypes = tuple(x.dtype if x.is_floating_point() else torch.get_default_dtype() for x in players.inputs)
    owners = tuple(owner[sample] for owner in players.owners)
    return InputLayout(owners, players.is_tuple, dtypes, players.inputs[0].device)


def _decompose_each(tables: tuple[Tensor, ...], settings: Mapping[str, Any]) -> list[Decomposition]:
    """One decomposition a table; tables of one size are solved together."""
    results: dict[int, Decomposition] = {}
    for size in sorted({len(table) for table in tables}):
        places = [i for i, table in enumerate(tables) if len(table) == size]
        together = decompose(torch.stack([tables[i] for i in places]), **settings)
        results |= {place: together[row] for row, place in enumerate(places)}
    return [results[i] for i in range(len(tables))]
