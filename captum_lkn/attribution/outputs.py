"""Outputs of all masked copies, kept so that they can be scored again without a forward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import torch
from torch import Tensor

from captum_lkn._common.arguments import checked
from captum_lkn._common.checks import is_floating
from captum_lkn._common.messages import kind_of
from captum_lkn.attribution.and_or import AndOrInteraction
from captum_lkn.decomposition.lattice import members
from captum_lkn.decomposition.options import DecompositionOptions
from captum_lkn.interactions import InputLayout, Interactions
from captum_lkn.interactions.about import targets_of
from captum_lkn.interactions.labels import distinct_labels
from captum_lkn.models.model import Model
from captum_lkn.outputs.heads import SelectOutput
from captum_lkn.outputs.score import OutputKind, ScoreLike
from captum_lkn.outputs.scores import resolve_score
from captum_lkn.outputs.targets import resolve_target
from captum_lkn.players.players import Players
from captum_lkn.players.prepare import layout_of, prepare
from captum_lkn.values.agreement import present_players
from captum_lkn.values.tables import Request, ValueTables, value_tables

__all__ = ["KeptOutputs", "evaluate_outputs", "interactions_of_outputs", "kept_outputs", "reading_of_outputs"]

_OF_SCORE: Final = ("score", "target", "explained", "predicted", "unit", "decomposition", "steps", "stopped")
"""Entries of the provenance that another score or target changes."""


@checked()
@dataclass(frozen=True)
class KeptOutputs:
    """Outputs of one sample's masked copies, and what a score needs to know of them.

    Attributes:
        outputs: ``[2^n, C]``, in the dtype of the forwards.
        kind: The columns: classes, labels or values.
        class_names: Their names; empty: not known.
        players: The labels of the players.
        layout: The way back to the inputs.
        provenance: The record of model, players and evaluation.
        epsilon: The rounding unit of the forwards.

    Raises:
        TypeError: A part of the wrong type.
        ValueError: Outputs that are not finite, or not of 2^n masks.
    """

    outputs: Tensor
    kind: OutputKind
    class_names: tuple[str, ...]
    players: tuple[str, ...]
    layout: InputLayout | None
    provenance: Mapping[str, Any]
    epsilon: float

    def __post_init__(self) -> None:
        shape = self.outputs.shape
        if len(shape) != 2 or shape[0] != 1 << len(self.players) or not shape[1] or not is_floating(self.outputs):
            raise ValueError(
                f"outputs must be floating numbers [2^n, C] of n = {len(self.players)} players; got "
                f"{kind_of(self.outputs)}"
            )
        if not self.outputs.isfinite().all():
            raise ValueError(self._not_finite())

    def _not_finite(self) -> str:
        """Return the message on outputs that are not finite: how many they are, and where the first one is."""
        wrong = (~self.outputs.isfinite()).nonzero()
        mask, column = wrong[0].tolist()
        name = f" ({self.class_names[column]!r})" if column < len(self.class_names) else ""
        labels = distinct_labels(self.players)
        there = present_players(labels, members(wrong[0, 0].cpu(), len(labels)))
        return (
            f"outputs must be finite; got {len(wrong)} of {self.outputs.numel()} that are not, the first "
            f"{float(self.outputs[mask, column])} in output {column}{name} with {there}. Evaluate the outputs again"
        )

    def target(self) -> Any:
        """Return the class that was explained, as a target of ``attribute``.

        Raises:
            TypeError: The provenance holds something else.
            ValueError: The outputs have no such class.
        """
        (target,) = targets_of([self.provenance])
        resolve_target(target if target is None else [target], self.outputs[:1], binary=True)
        return target


def evaluate_outputs(
    method: AndOrInteraction, several: Sequence[Players], perturbations_per_eval: int | None = None
) -> list[KeptOutputs]:
    """Evaluate all masked copies of samples, and keep the model's outputs.

    Args:
        method: The method whose model is evaluated.
        several: The players of one sample each.
        perturbations_per_eval: Masks a forward.

    Returns:
        The outputs of each sample.

    Raises:
        ValueError: The model returns something else than ``[B, C]`` or ``[B]``; and what
            :meth:`AndOrInteraction.attribute` raises.
    """
    model = Model(method.forward_func)
    requests = [Request(*prepare(players, None, None, None, None), None) for players in several]
    with torch.no_grad():
        tables = value_tables(model, requests, **reading_of_outputs(model, perturbations_per_eval))
    return [kept_outputs(method, model, request.players, one) for request, one in zip(requests, tables, strict=True)]


def reading_of_outputs(model: Model, perturbations_per_eval: int | None) -> dict[str, Any]:
    """Return the arguments with which all outputs of a model are evaluated."""
    score = model.score_for_model(resolve_score("logit"))
    return {"score": score, "perturbations_per_eval": perturbations_per_eval, "every_output": True}


def kept_outputs(method: AndOrInteraction, model: Model, players: Players, found: ValueTables) -> KeptOutputs:
    """Return the outputs of one sample as they are kept.

    Raises:
        ValueError: The model returns something else than ``[B, C]`` or ``[B]``.
    """
    if found.output_shape is not None and len(found.output_shape) > 1:
        raise ValueError(
            f"keep='outputs' needs a model that returns [B, C]; it returned {['B', *found.output_shape]}. Select the "
            "outputs with SelectOutput(model, read), or leave keep out"
        )
    return KeptOutputs(
        found.tables[0].T.to(found.dtype).contiguous(),
        model.output_kind,
        model.class_names,
        players.labels[0],
        layout_of(players, 0),
        method._provenance(players, found)(0),
        found.epsilon,
    )


def interactions_of_outputs(
    several: Sequence[KeptOutputs], targets: Sequence[Any], score: ScoreLike, options: DecompositionOptions
) -> list[Interactions]:
    """Score the outputs of samples and decompose the values; no forward is run.

    Args:
        several: The outputs of each sample.
        targets: The class of each sample, or ``"predicted"`` for each.
        score: The score.
        options: The options of the decomposition.

    Returns:
        The interactions of each sample.

    Raises:
        ValueError: A target or a score that does not fit the outputs.
    """
    found: dict[int, Interactions] = {}
    for n, columns in sorted({(len(one.players), one.outputs.shape[1]) for one in several}):
        places = [i for i, one in enumerate(several) if (len(one.players), one.outputs.shape[1]) == (n, columns)]
        alike = [several[i] for i in places]
        own = [targets[i] for i in places]
        again = _attribute(alike, own[0] if own[0] in ("predicted", None) else own, score, options)
        found |= dict(zip(places, map(_restored, again, alike), strict=True))
    return [found[i] for i in range(len(several))]


def _attribute(
    alike: Sequence[KeptOutputs], target: Any, score: ScoreLike, options: DecompositionOptions
) -> Sequence[Interactions]:
    """Return interactions by a forward that looks the outputs up, of samples with equally many players."""
    table, n = torch.stack([one.outputs for one in alike]), len(alike[0].players)
    bits = 1 << torch.arange(n, device="cpu")
    kept = resolve_score(score).for_outputs(alike[0].kind)

    def look_up(masks: Tensor, samples: Tensor) -> Tensor:
        return table[samples, (masks.long() * bits).sum(1)]

    wanted = 2 if kept.binary and table.shape[2] == 1 else table.shape[2]
    names = alike[0].class_names if len(alike[0].class_names) == wanted else ()
    method = AndOrInteraction(SelectOutput(look_up, class_names=names), score=kept, options=options)
    everyone = torch.ones(len(alike), n, device="cpu")
    numbers: Any = torch.arange(len(alike), device="cpu")
    return method.attribute(everyone, target=target, additional_forward_args=numbers)


def _restored(new: Interactions, kept: KeptOutputs) -> Interactions:
    """Return interactions with the players, the layout and the origin of the sample that the outputs are of."""
    changed = {name: new.provenance[name] for name in _OF_SCORE if name in new.provenance}
    return replace(
        new,
        players=kept.players,
        layout=kept.layout,
        provenance={**kept.provenance, **changed},
        epsilon=kept.epsilon,
    )
