"""One sample whose masks are divided among processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from captum_lkn.attribution.and_or import AndOrInteraction
from captum_lkn.attribution.base import InteractionMethod
from captum_lkn.attribution.outputs import KeptOutputs, interactions_of_outputs, kept_outputs, reading_of_outputs
from captum_lkn.attribution.sampling import sampling_of
from captum_lkn.interactions import Interactions, SampledInteractions
from captum_lkn.models.model import Model
from captum_lkn.outputs.targets import TargetLike
from captum_lkn.players.players import Players
from captum_lkn.values.parts import PartValues, Reading, evaluate_part, join_parts, parts_fit
from captum_lkn.values.rows import Part
from captum_lkn.values.sampled import SampledValues

__all__ = ["DividedSample"]


class DividedSample:
    """One sample of a method, in parts that any process can evaluate.

    Args:
        method: The method.
        players: The players of one sample.
        target: The class that is explained.
        keeps_outputs: Whether all outputs are evaluated and kept, of an :class:`AndOrInteraction`.
        perturbations_per_eval: Options of ``attribute``, like all that follow.
        attribute_to_layer_input: Whether layers are read at their inputs.
        n_samples: The number of masks; None: all 2^n.
        seed: The seed of the masks.
        max_effects: The largest number of effects.

    Raises:
        TypeError: As ``attribute``.
        ValueError: As ``attribute``; several samples.

    Example:
        >>> from captum_lkn.players.players import players_from_mask
        >>> method = AndOrInteraction(lambda x: x.amax(1), score="logit", noise=0)
        >>> sample = DividedSample(method, players_from_mask(torch.ones(1, 2)), None)
        >>> parts = [sample.evaluate(Part(number, 2)) for number in (0, 1)]
        >>> results, _ = sample.explain(parts)
        >>> print(results["output"].top(1)[0])
        0 | 1  +1.00
    """

    def __init__(
        self,
        method: InteractionMethod,
        players: Players,
        target: TargetLike,
        *,
        keeps_outputs: bool = False,
        perturbations_per_eval: int | None = None,
        attribute_to_layer_input: bool = False,
        n_samples: int | None = None,
        seed: int = 0,
        max_effects: int | None = None,
    ) -> None:
        if len(players) != 1:
            raise ValueError(f"players must be of one sample; got {len(players)}. Divide one at a time")
        self._method, self._target = method, target
        self._sampling = sampling_of(n_samples, seed, max_effects)
        self._outputs_of = method if keeps_outputs and isinstance(method, AndOrInteraction) else None
        wanted = target if self._outputs_of is None else None
        (self._request,) = method._requests([players], None, wanted, None, None, None)
        self._sources, self._origins = method._read(attribute_to_layer_input)
        evaluation: dict[str, Any] = {
            "score": method.score,
            "sources": self._sources,
            "perturbations_per_eval": perturbations_per_eval,
        }
        model = Model(method.forward_func)
        if self._outputs_of is not None:
            evaluation = reading_of_outputs(model, perturbations_per_eval)
        self._reading = Reading(model, evaluation, n_samples, seed)

    @torch.no_grad()
    def evaluate(self, part: Part) -> PartValues:
        """Evaluate a part of the masks; see :func:`captum_lkn.values.parts.evaluate_part`."""
        return evaluate_part(self._reading, self._request, part)

    def fits(self, parts: Sequence[PartValues]) -> bool:
        """Return whether parts are those of one whole; see :func:`captum_lkn.values.parts.parts_fit`."""
        return parts_fit(self._reading, self._request, parts)

    @torch.no_grad()
    def explain(
        self, parts: Sequence[PartValues]
    ) -> tuple[dict[str, Interactions | SampledInteractions], KeptOutputs | None]:
        """Return the results by layer as ``attribute`` gives them, and the outputs where they are kept.

        Args:
            parts: All parts, which fit.
        """
        found = join_parts(self._reading, self._request, parts)
        if self._outputs_of is not None:
            kept = kept_outputs(self._outputs_of, self._reading.model, self._request.players, found)
            method = self._outputs_of
            (one,) = interactions_of_outputs([kept], [self._target], method.score, method.options)
            return {self._sources[0].label: one}, kept
        batches: list[Any] = []
        if self._sampling is None:
            batches += self._method._explained([self._request], [found], origins=self._origins)
        else:
            assert isinstance(found, SampledValues)  # the reading has the same n_samples: for type checkers
            batches += self._method._fitted([self._request], [found], self._sampling, origins=self._origins)
        return {source.label: batch[0] for source, batch in zip(self._sources, batches, strict=True)}, None
