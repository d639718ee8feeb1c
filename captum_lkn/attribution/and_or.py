"""Interactions of a model's output."""

from __future__ import annotations

from typing import Any, overload

import torch

from captum_lkn._common.arguments import checked
from captum_lkn.attribution.base import InputsOrList, InteractionMethod, logged
from captum_lkn.attribution.plan import Plan
from captum_lkn.attribution.sampling import sampling_of
from captum_lkn.interactions import InteractionsBatch, SampledBatch
from captum_lkn.outputs.targets import TargetLike
from captum_lkn.players.prepare import Baselines, FeatureMask, PlayerNames

__all__ = ["AndOrInteraction"]


class AndOrInteraction(InteractionMethod):
    r"""Sparse AND-OR interactions between the players of an input.

    Evaluates the model on all 2^n masked copies of each sample and decomposes the 2^n values of each into AND and
    OR effects (Cheng et al., "Layerwise Change of Knowledge in Neural Networks", ICML 2024, Eq. 1 to 5).

    Args:
        forward_func: An ``nn.Module``, any callable, or a Hugging Face model (called by keyword, ``.logits`` read).
        score: What of the output is explained: ``"log_odds"`` (the paper's; reads logits), ``"logit"`` (what Captum
            explains: the output as it is), ``"log_prob"``, ``"prob"``, ``"margin"``, ``"binary_log_odds"``, or a
            callable ``score(output [B, C], target [B]) -> [B]``.
        noise: How far the effects may miss each value, as a share of \|v(N) - v(empty)\| of the sample; 0.04 by
            default.
        kappa: The same as an absolute number; replaces ``noise``.
        kind: ``"and-or"`` (the default), or ``"and"`` for AND effects alone.
        options: All options of the decomposition (:class:`captum_lkn.DecompositionOptions`); ``noise``, ``kappa`` and
            ``kind`` replace what they say.

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

        With many players, masks are sampled:

        >>> many = AndOrInteraction(either_and_both, score="logit").attribute(torch.ones(1, 40), n_samples=1000)
        >>> many[0].r_squared
        (1.0, 1.0)
        >>> [(one.name, round(one.effect, 3)) for one in many[0].top()]
        [('2 & 3', 2.0), ('0 | 1', 1.0)]
    """

    @overload
    def attribute(
        self,
        inputs: InputsOrList,
        baselines: Baselines = ...,
        target: TargetLike = ...,
        additional_forward_args: Any = ...,
        feature_mask: FeatureMask = ...,
        perturbations_per_eval: int | None = ...,
        show_progress: bool = ...,
        *,
        player_names: PlayerNames = ...,
        n_samples: None = ...,
        seed: int = ...,
        max_effects: int | None = ...,
    ) -> InteractionsBatch: ...

    @overload
    def attribute(
        self,
        inputs: InputsOrList,
        baselines: Baselines = ...,
        target: TargetLike = ...,
        additional_forward_args: Any = ...,
        feature_mask: FeatureMask = ...,
        perturbations_per_eval: int | None = ...,
        show_progress: bool = ...,
        *,
        player_names: PlayerNames = ...,
        n_samples: int,
        seed: int = ...,
        max_effects: int | None = ...,
    ) -> SampledBatch: ...

    @logged
    @torch.no_grad()
    @checked("seed", "show_progress")
    def attribute(
        self,
        inputs: InputsOrList,
        baselines: Baselines = None,
        target: TargetLike = None,
        additional_forward_args: Any = None,
        feature_mask: FeatureMask = None,
        perturbations_per_eval: int | None = None,
        show_progress: bool = False,
        *,
        player_names: PlayerNames = None,
        n_samples: int | None = None,
        seed: int = 0,
        max_effects: int | None = None,
    ) -> InteractionsBatch | SampledBatch:
        """Find the interactions of each sample.

        Args:
            inputs: A tensor ``[B, ...]``, a tuple of them, a mapping (such as a ``BatchEncoding``: called by keyword),
                :class:`Players`, which bring their own baselines and feature mask, or a list of Players.
            baselines: What replaces absent players: Captum's kinds; None for 0.
            target: Which output, Captum's kinds, or ``"predicted"``. None where there is one value a sample. For a list
                of Players one for all samples, or a list with one for each sample of them all.
            additional_forward_args: A tuple (or a single thing) passed on by position behind the inputs, or a
                mapping, by keyword. Tensors whose first dimension is B go row by row with their samples.
            feature_mask: Which scalars form a player: integers, Captum's kinds; -1 is background, never masked. None:
                every scalar is a player.
            perturbations_per_eval: Masks a forward; None: by a rule, from the size of the inputs.
            show_progress: Whether to show a bar.
            player_names: A label for each player, in ascending order of its id; or one such list a sample.
            n_samples: The number of masks of each sample, where all 2^n are too many: a tenth of them tests the effects
                that are fitted to the others. None: all 2^n masks, of up to 20 players.
            seed: The seed of the masks.
            max_effects: The largest number of effects that are fitted to `n_samples` masks. None: one for ten masks.

        Returns:
            One :class:`Interactions` a sample; a single one where the forward gives one value a batch. With `n_samples`
            one :class:`SampledInteractions` a sample.

        Raises:
            TypeError: An argument of the wrong type.
            ValueError: An argument that does not fit; too many players; a value that is not finite; rows of a batch
                that influence each other.

        Warns:
            UserWarning: A model in training mode, half precision, v(N) = v(empty), a tiny kappa, a gap above the
                tolerance; with `n_samples`, an R^2 at fresh masks below .9.
        """
        sampling = sampling_of(n_samples, seed, max_effects)
        requests = self._requests(inputs, baselines, target, additional_forward_args, feature_mask, player_names)
        if sampling is None:
            return self._batches(requests, perturbations_per_eval, show_progress)[0]
        return self._sampled_batches(requests, sampling, perturbations_per_eval, show_progress)[0]

    @torch.no_grad()
    def plan(
        self,
        inputs: InputsOrList,
        baselines: Baselines = None,
        target: TargetLike = None,
        additional_forward_args: Any = None,
        feature_mask: FeatureMask = None,
        perturbations_per_eval: int | None = None,
        *,
        n_samples: int | None = None,
        seed: int = 0,
        max_effects: int | None = None,
    ) -> Plan:
        """Count the forwards of :meth:`attribute`, and estimate its time by trying a few of them.

        Args:
            inputs: As in :meth:`attribute`, like all that follows. Of a list of more than three Players those with the
                most and the fewest masks and one between are tried.
            baselines: What replaces absent players.
            target: Which output.
            additional_forward_args: What else the forward gets.
            feature_mask: Which scalars form a player.
            perturbations_per_eval: Masks a forward.
            n_samples: The number of masks of each sample. None: all 2^n masks; of more than 20 players the plan is of
                sampled ones, and says so.
            seed: The seed of the masks.
            max_effects: The largest number of effects.

        Returns:
            Forwards, tokens, memory and time, and shorter ways where it takes more than a minute.

        Raises:
            TypeError: As :meth:`attribute`.
            ValueError: As :meth:`attribute`, but for the number of players.

        Example:
            >>> plan = AndOrInteraction(lambda x: x.prod(1), score="logit").plan(torch.ones(1, 10))
            >>> plan.masks, plan.forwards
            (1024, 4)
        """
        requests = self._requests(inputs, baselines, target, additional_forward_args, feature_mask, None)
        return self._plan(requests, sampling_of(n_samples, seed, max_effects), perturbations_per_eval)
