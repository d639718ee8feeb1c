"""Samples that are evaluated one after the other, and decomposed together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from captum_lkn._common.arguments import checked
from captum_lkn.attribution.base import InteractionMethod
from captum_lkn.attribution.sampling import sampling_of
from captum_lkn.interactions import Interactions
from captum_lkn.outputs.targets import TargetLike
from captum_lkn.players.players import Players
from captum_lkn.values.tables import Request, ValueTables

__all__ = ["Evaluated", "Together"]


class Evaluated(NamedTuple):
    """Values of all masks of a batch, and what they were evaluated for."""

    request: Request
    tables: ValueTables


class Together:
    """A method whose forwards and whose decomposition are steps of their own.

    Args:
        method: The method.
        attribute_to_layer_input: Options of ``attribute``, like all that follow.
        n_samples: None: all 2^n masks, and nothing else.
        seed: The seed of sampled masks.
        max_effects: None, as there are no sampled masks.

    Raises:
        ValueError: As ``attribute``.

    Example:
        >>> from captum_lkn import AndOrInteraction, players_from_mask
        >>> method = Together(AndOrInteraction(lambda x: x.amax(1), score="logit", noise=0))
        >>> batches = [method.evaluate(players_from_mask(x), None, None) for x in torch.eye(2).split(1)]
        >>> [one.v_full for one in method.explain(batches)["output"]]
        [1.0, 1.0]
    """

    def __init__(
        self,
        method: InteractionMethod,
        *,
        attribute_to_layer_input: bool = False,
        n_samples: None = None,
        seed: int = 0,
        max_effects: int | None = None,
    ) -> None:
        sampling_of(n_samples, seed, max_effects)
        self._method = method
        self._sources, self._origins = method._read(attribute_to_layer_input)

    @torch.no_grad()
    @checked()
    def evaluate(self, players: Players, target: TargetLike, perturbations_per_eval: int | None) -> Evaluated:
        """Evaluate all masks of a batch; the arguments are those of ``attribute``."""
        (request,) = self._method._requests([players], None, target, None, None, None)
        (tables,) = self._method._tables([request], perturbations_per_eval, False, "", self._sources)
        return Evaluated(request, tables)

    @torch.no_grad()
    def explain(self, several: Sequence[Evaluated]) -> dict[str, list[Interactions]]:
        """Return by layer the interactions of the samples of all batches, as ``attribute`` gives them."""
        requests, tables = [one.request for one in several], [one.tables for one in several]
        batches = self._method._explained(requests, tables, origins=self._origins)
        return {source.label: list(batch) for source, batch in zip(self._sources, batches, strict=True)}
