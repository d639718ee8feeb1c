"""From a model and its inputs to the change of knowledge over its layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from captum_lkn._common.arguments import checked
from captum_lkn._common.messages import some_of
from captum_lkn.attribution.base import InputsOrList
from captum_lkn.attribution.layer import LayerAndOrInteraction
from captum_lkn.attribution.plan import Plan
from captum_lkn.decomposition.options import DecompositionKind, DecompositionOptions, given_options
from captum_lkn.knowledge.change import KnowledgeChange
from captum_lkn.models.layers import OUTPUT, Layer, LayerLike, find_layers, has_layer_named_output, is_output
from captum_lkn.models.model import Model
from captum_lkn.outputs.score import ScoreLike
from captum_lkn.outputs.scores import resolve_score
from captum_lkn.outputs.targets import TargetLike
from captum_lkn.players.prepare import Baselines, FeatureMask, PlayerNames
from captum_lkn.probes import LinearProbes
from captum_lkn.probes.readouts import Readout

__all__ = ["LayerwiseKnowledge"]


class LayerwiseKnowledge:
    r"""Comparison of a model's layers with its output.

    Extracts the sparse AND-OR interactions that each layer's read-out and the model's own output encode, in one pass
    over the masked copies of each sample, and compares each layer with the output (Cheng et al., "Layerwise Change of
    Knowledge in Neural Networks", ICML 2024).

    Args:
        forward_func: An ``nn.Module``, any callable, or a Hugging Face model.
        layers: What :class:`captum_lkn.LayerAndOrInteraction` takes for a layer, or a list of these. The output is
            always compared with, and need not be named.
        probes: By layer label a read-out ``readout(feature [R, D]) -> logits [R, C]``, such as
            :class:`captum_lkn.LinearProbes`; or one read-out for all layers, such as the logit lens. None: to be
            fitted by :meth:`fit_probes`.
        score: As in :class:`captum_lkn.AndOrInteraction`, like all that follows.
        noise: How far the effects may miss each value, as a share of \|v(N) - v(empty)\| of sample and layer.
        kappa: The same as an absolute number, for all layers.
        kind: ``"and-or"`` (the default), or ``"and"`` for AND effects alone.
        options: All options of the decomposition (:class:`captum_lkn.DecompositionOptions`); ``noise``, ``kappa`` and
            ``kind`` replace what they say.

    Attributes:
        layers: The layers, as :class:`captum_lkn.Layer`.
        probes: Their read-outs; None until there are some.
        options: The options of the decomposition.

    Raises:
        TypeError: Something that is no layer, read-out or number.
        ValueError: An unknown layer or score, a number out of range.

    Example:
        >>> import torch
        >>> class Net(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.conjunction = torch.nn.Identity()
        ...
        ...     def forward(self, x):  # x0 and x1 first; x2 comes in later
        ...         return self.conjunction((x[:, 0] * x[:, 1])[:, None]) + x[:, 2:]
        >>> study = LayerwiseKnowledge(Net().eval(), "conjunction", probes=lambda f: f, score="logit", noise=0)
        >>> change = study.analyze(torch.ones(1, 3), target=0)
        >>> found = change["conjunction"]
        >>> found.completeness[0]  # of the output's AND interactions, by order; the layer's are twice as strong
        tensor([0., 1., nan], dtype=torch.float64)
        >>> found.redundancy[0]
        tensor([   nan, 0.5000,    nan], dtype=torch.float64)
    """

    @checked("probes")
    def __init__(
        self,
        forward_func: Callable[..., Any],
        layers: LayerLike | Sequence[LayerLike],
        *,
        probes: Mapping[str, Readout] | Readout | None = None,
        score: ScoreLike = "log_odds",
        noise: float | None = None,
        kappa: float | None = None,
        kind: DecompositionKind | None = None,
        options: DecompositionOptions | None = None,
    ) -> None:
        self.forward_func = forward_func
        several = isinstance(layers, Sequence) and not isinstance(layers, str)
        given: list[Any] = list(layers) if several else [layers]  # type: ignore[arg-type]
        model, inner = Model(forward_func), [one for one in given if not is_output(one)]
        if len(inner) < len(given) and has_layer_named_output(model):
            raise ValueError(
                f"layers has {OUTPUT!r}, the model's own output, with which all layers are compared, and {model.name} "
                f"also has a layer of that name. Give Layer({OUTPUT!r}) for the layer, or leave {OUTPUT!r} out"
            )
        if given and not inner:
            raise ValueError(f"layers must have a layer besides {OUTPUT!r}, with which layers are compared anyway")
        self.layers = find_layers(model, inner)
        resolve_score(score)  # what is wrong shows now, not after probes were fitted
        self._score = score
        self.options = given_options(options, {"noise": noise, "kappa": kappa, "kind": kind})
        self.probes = probes
        self._method_of: tuple[Any, LayerAndOrInteraction] | None = None
        if probes is not None:
            _ = self.method  # a read-out that is missing is missed now

    @checked()
    def fit_probes(self, dataloader: Iterable[Any], **options: Any) -> LayerwiseKnowledge:
        """Fit a linear probe for each layer, on unmasked samples, in one pass.

        Args:
            dataloader: Batches of samples with labels, see :meth:`captum_lkn.LinearProbes.fit`.
            **options: The options of that method.

        Returns:
            The same object; the probes are its ``probes``.

        Raises:
            TypeError: As that method, also for an option that it does not have.
            ValueError: As that method.
        """
        self.probes = LinearProbes.fit(self.forward_func, self.layers, dataloader, **options)
        return self

    @checked("seed", "show_progress")
    def analyze(
        self,
        inputs: InputsOrList,
        baselines: Baselines = None,
        target: TargetLike = "predicted",
        additional_forward_args: Any = None,
        feature_mask: FeatureMask = None,
        perturbations_per_eval: int | None = None,
        show_progress: bool = False,
        *,
        player_names: PlayerNames = None,
        n_samples: int | None = None,
        seed: int = 0,
        max_effects: int | None = None,
    ) -> KnowledgeChange:
        """Extract the interactions of all layers and compare each layer with the output.

        Args:
            inputs: As in :meth:`captum_lkn.AndOrInteraction.attribute`, like all up to ``player_names``; also a list of
                :class:`Players`, which are evaluated as one stream.
            baselines: What replaces absent players.
            target: The class that is explained, best the true one: Captum's kinds. For a list of Players one for all
                samples, or a list with one for each sample of them all. The default is the class that the model
                predicts, and the result says so.
            additional_forward_args: What else the forward gets; of a list of Players each.
            feature_mask: Which scalars form a player.
            perturbations_per_eval: Masks a forward.
            show_progress: Whether to show a bar.
            player_names: A label for each player.
            n_samples: As in :meth:`captum_lkn.AndOrInteraction.attribute`, like the next two: the number of masks of
                each sample, where all 2^n are too many. Effects of layers that differ by less than their standard
                errors are not told apart.
            seed: The seed of the masks.
            max_effects: The largest number of effects of each layer.

        Returns:
            The comparison. Its :meth:`KnowledgeChange.compare` changes threshold, scope and ratios, at no cost, and
            :meth:`KnowledgeChange.with_noise_ceiling` measures its noise ceiling, without a forward.

        Raises:
            TypeError: An argument of the wrong type.
            ValueError: There are no read-outs yet; an argument that does not fit; and what
                :meth:`captum_lkn.LayerAndOrInteraction.attribute` raises.

        Warns:
            UserWarning: As that method; a layer whose scores masking does not change.
        """
        method = self.method
        sampling: dict[str, Any] = {"n_samples": n_samples, "seed": seed, "max_effects": max_effects}
        rest = additional_forward_args, feature_mask, perturbations_per_eval, show_progress
        found: Any = method.attribute(inputs, baselines, target, *rest, player_names=player_names, **sampling)
        return KnowledgeChange(
            found,
            accuracies=self.accuracies,
        )

    def plan(
        self,
        inputs: InputsOrList,
        baselines: Baselines = None,
        target: TargetLike = "predicted",
        additional_forward_args: Any = None,
        feature_mask: FeatureMask = None,
        perturbations_per_eval: int | None = None,
        *,
        n_samples: int | None = None,
        seed: int = 0,
        max_effects: int | None = None,
    ) -> Plan:
        """Count the forwards of :meth:`analyze`, and estimate its time; see :meth:`captum_lkn.AndOrInteraction.plan`.

        Args:
            inputs: As in :meth:`analyze`, like all that follows.
            baselines: What replaces absent players.
            target: The class that is explained.
            additional_forward_args: What else the forward gets.
            feature_mask: Which scalars form a player.
            perturbations_per_eval: Masks a forward.
            n_samples: The number of masks of each sample; None: all 2^n masks.
            seed: The seed of the masks.
            max_effects: The largest number of effects of each layer.

        Returns:
            Forwards, tokens, memory and time, and shorter ways where it takes more than a minute.

        Raises:
            TypeError: As :meth:`analyze`.
            ValueError: As :meth:`analyze`, but for the number of players.
        """
        sampling: dict[str, Any] = {"n_samples": n_samples, "seed": seed, "max_effects": max_effects}
        rest = additional_forward_args, feature_mask, perturbations_per_eval
        return self.method.plan(inputs, baselines, target, *rest, **sampling)

    @property
    def method(self) -> LayerAndOrInteraction:
        """The method that reads the layers, and then the model's own output.

        Raises:
            ValueError: There are no read-outs yet.
        """
        if self.probes is None:
            raise ValueError(
                "there are no read-outs of the layers yet: call fit_probes(dataloader), or give "
                "probes=LinearProbes.load(path) or another read-out to LayerwiseKnowledge"
            )
        # Kept, since it knows which weights it has checked: reading them all takes long.
        if self._method_of is None or self._method_of[0] is not self.probes:
            method = LayerAndOrInteraction(
                self.forward_func,
                [*self.layers, OUTPUT],
                probe=self._readouts(),
                score=self._score,
                options=self.options,
            )
            self._method_of = self.probes, method
        return self._method_of[1]

    def _readouts(self) -> Mapping[str, Readout]:
        """Return the read-outs by label, without one of a layer called "output" that is not compared here."""
        own, layer_named_output = [layer.label for layer in self.layers], Layer(OUTPUT).label
        if not isinstance(self.probes, Mapping):
            readout: Any = self.probes
            return dict.fromkeys(own, readout)
        return {label: one for label, one in self.probes.items() if label in own or label != layer_named_output}

    @property
    def accuracies(self) -> dict[str, tuple[float, float]]:
        """The accuracies, on the training and on the held-out part, of those read-outs that know theirs."""
        if not isinstance(self.probes, Mapping):
            return {}
        probes = {layer.label: self.probes[layer.label] for layer in self.layers}
        known = {label: probe.accuracy for label, probe in probes.items() if hasattr(probe, "accuracy")}
        return {
            label: (float(both.train), float(both.held_out))
            for label, both in known.items()
            if all(map(math.isfinite, both))
        }

    def __repr__(self) -> str:
        probes = "no read-outs yet" if self.probes is None else f"read-outs: {type(self.probes).__name__}"
        labels = some_of([layer.label for layer in self.layers])
        return f"LayerwiseKnowledge of {Model(self.forward_func).name}: {labels}; {probes}"
