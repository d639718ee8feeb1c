"""Exact Shapley values, as tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from captum_lkn._common.arguments import checked
from captum_lkn.attribution.base import Method, logged
from captum_lkn.decomposition import indices
from captum_lkn.outputs.score import ScoreLike
from captum_lkn.outputs.targets import TargetLike
from captum_lkn.players.prepare import Baselines, FeatureMask, Inputs, layout_of, prepare
from captum_lkn.values.tables import Request

__all__ = ["ExactShapleyValues"]


class ExactShapleyValues(Method):
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

    def __init__(self, forward_func: Callable[..., Any], *, score: ScoreLike = "logit") -> None:
        super().__init__(forward_func, score)

    @logged
    @torch.no_grad()
    @checked("show_progress")
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
            target: Which output. None, where there are several: each of them, as in Captum, if the score reads the
                target's value by itself, as "logit" does.
            additional_forward_args: What else the forward gets.
            feature_mask: Which scalars form a player.
            perturbations_per_eval: Masks a forward.
            show_progress: Whether to show a bar.

        Returns:
            Tensors of the inputs' shapes, device and tuple form: the Shapley value of its player at every scalar, 0
            on the background. The first dimension is 1 where the forward gives one value a batch. For several outputs
            ``[B, C]`` without a target ``[B, C, ...]``.

        Raises:
            TypeError: An argument of the wrong type.
            ValueError: An argument that does not fit; see :meth:`AndOrInteraction.attribute`.
        """
        players, arguments = prepare(inputs, baselines, additional_forward_args, feature_mask, None, self._tokenizer)
        requests = [Request(players, arguments, target)]
        every = self._score.reads == "values"
        (found,) = self._tables(requests, perturbations_per_eval, show_progress, self.get_name(), every_output=every)
        each = []
        for sample, values in enumerate(_shapley_values(found.tables)):
            layout = layout_of(players, sample)
            spread = [layout.spread(of_output) for of_output in values]
            each.append([part if isinstance(part, tuple) else (part,) for part in spread])
        shape = (len(each), *(found.output_shape or ()))
        parts = [
            torch.stack([of_output[place] for outputs in each for of_output in outputs])
            for place in range(len(players.inputs))
        ]
        attributions = tuple(part.reshape(*shape, *part.shape[1:]) for part in parts)
        return attributions if players.is_tuple else attributions[0]


def _shapley_values(tables: Sequence[Tensor]) -> list[Tensor]:
    """Return the Shapley values ``[L, n]`` of tables ``[L, 2^n]``; tables of one size are taken together."""
    found: dict[int, Tensor] = {}
    for size in sorted({table.shape[1] for table in tables}):
        places = [i for i, table in enumerate(tables) if table.shape[1] == size]
        together = indices.shapley_values(torch.stack([tables[i] for i in places]))
        found |= dict(zip(places, together, strict=True))
    return [found[i] for i in range(len(tables))]
