"""What is asked of a model, and what a result remembers of it."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import InitVar, dataclass
from typing import Any

import captum
import torch

from captum_lkn._version import __version__
from captum_lkn.models.layers import OUTPUT
from captum_lkn.models.model import Arguments, Model
from captum_lkn.outputs.scores import Score, ScoreLike, resolve_score
from captum_lkn.outputs.targets import TargetLike
from captum_lkn.players.players import Players
from captum_lkn.values.tables import Source, ValueTables, value_tables

__all__ = ["Question"]

_OF_SAMPLES = {"texts": "text", "selection": "selection"}
"""What players describe sample by sample, and what it is called in the provenance of one."""


@dataclass
class Question:
    """A model and the score it is asked for."""

    forward_func: Callable[..., Any]
    given_score: InitVar[ScoreLike]

    def __post_init__(self, given_score: ScoreLike) -> None:
        self.model = Model(self.forward_func)
        self.score: Score = self.model.score_for_model(resolve_score(given_score))

    def ask(
        self,
        players: Players,
        arguments: Arguments,
        target: TargetLike,
        perturbations_per_eval: int | None,
        show_progress: bool,
        description: str,
        sources: Sequence[Source] = (Source(),),
    ) -> ValueTables:
        """The value tables of the players; see :func:`captum_lkn.values.tables.value_tables`."""
        with self.model.session():
            return value_tables(
                self.model,
                players,
                arguments,
                target=target,
                score=self.score,
                sources=sources,
                perturbations_per_eval=perturbations_per_eval,
                show_progress=show_progress,
                description=description,
            )

    def provenance(
        self, players: Players, found: ValueTables, settings: Mapping[str, Any]
    ) -> Callable[[int], dict[str, Any]]:
        """What a sample's result should remember: what was asked of which model, with what settings."""
        shared = {
            "model": self.model.name,
            "layer": OUTPUT,
            "score": self.score.name,
            "unit": self.score.unit,
            **{key: value for key, value in players.description.items() if key not in _OF_SAMPLES},
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
        own = {name: players.description[key] for key, name in _OF_SAMPLES.items() if key in players.description}

        def of_sample(i: int) -> dict[str, Any]:
            each = {name: values[i] for name, values in own.items()}
            return shared | found.evaluations[i] | {"target": targets[i]} | each

        return of_sample
