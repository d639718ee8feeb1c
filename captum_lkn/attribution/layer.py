"""Interactions of layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from captum.attr import LayerAttribution

from captum_lkn._common.arguments import checked
from captum_lkn._common.checks import check_flag
from captum_lkn._common.messages import kind_of, some_of
from captum_lkn.attribution.base import ConvergenceDelta, InputsOrList, InteractionMethod, logged
from captum_lkn.attribution.plan import Plan
from captum_lkn.attribution.sampling import sampling_of
from captum_lkn.decomposition.options import DecompositionKind, DecompositionOptions
from captum_lkn.interactions import InteractionsBatch, SampledBatch
from captum_lkn.interactions.batch import AnyBatch
from captum_lkn.interactions.by_layer import LayerInteractions
from captum_lkn.models.fingerprint import weight_versions
from captum_lkn.models.layers import OUTPUT, Layer, LayerLike, find_layers, has_layer_named_output, is_output
from captum_lkn.models.pooling import name_of
from captum_lkn.outputs.score import ScoreLike
from captum_lkn.outputs.targets import TargetLike
from captum_lkn.players.prepare import Baselines, FeatureMask, PlayerNames
from captum_lkn.probes.linear import LinearProbe, check_weights
from captum_lkn.probes.readouts import Readout
from captum_lkn.values.sources import Source

__all__ = ["LayerAndOrInteraction"]

_PROBE_KINDS = {"classes": "softmax", "labels": "sigmoid"}
"""The kind of probe whose columns are what a score reads."""


class LayerAndOrInteraction(LayerAttribution, InteractionMethod):
    r"""Sparse AND-OR interactions between the players of an input, read from a layer.

    A layer has no classes: a *read-out*, such as a linear probe, turns its features into logits of them (section 3.2.2
    of Cheng et al., ICML 2024). Where Captum's layer methods attribute the model's output to a layer's units, this
    one attributes a layer's read-out to the input's players. All layers are read in the same forwards, and the
    read-outs are applied inside the hooks: a number a masked copy is all that is kept of a layer.

    Args:
        forward_func: As in :class:`AndOrInteraction`.
        layer: A layer's dotted name, the module itself, the number of a block where the model has one list of them,
            or a :class:`Layer`; or a list of these. ``"output"`` is the model's own output; a layer of that name is
            ``Layer("output")``, and ``"output (layer)"`` in results.
        device_ids: Captum's; only one device is supported.
        probe: ``readout(feature [R, D]) -> logits [R, C]``, column c for output c of the model: a linear probe, the
            logit lens, any callable. For a list of layers a mapping from their labels to such, or one for all.
            ``"output"`` takes none.
        score: As in :class:`AndOrInteraction`, like all that follows; applied to the read-out's logits.
        noise: How far the effects may miss each value, as a share of \|v(N) - v(empty)\| of sample and layer.
        kappa: The same as an absolute number.
        kind: ``"and-or"`` (the default), or ``"and"`` for AND effects alone.
        options: All options of the decomposition (:class:`captum_lkn.DecompositionOptions`); ``noise``, ``kappa`` and
            ``kind`` replace what they say.

    Raises:
        TypeError: A layer or a read-out is something else.
        ValueError: An unknown layer (the message has close matches), a layer without a read-out, a probe that was
            trained on another layer, another model or another kind of labels than the score reads, a read-out of the
            model's own output, several devices.

    Example:
        >>> class Net(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.conjunction = torch.nn.Identity()
        ...
        ...     def forward(self, x):  # x0 and x1 first; x2 comes in later
        ...         return self.conjunction((x[:, 0] * x[:, 1])[:, None]) + x[:, 2:]
        >>> method = LayerAndOrInteraction(
        ...     Net().eval(), ["conjunction", "output"], probe={"conjunction": lambda f: 2 * f}, score="logit", noise=0
        ... )
        >>> for layer, found in method.attribute(torch.ones(1, 3)).items():
        ...     print(layer, *found[0].top(), sep="; ")
        conjunction; 0 & 1  +2.00
        output; 2  +1.00; 0 & 1  +1.00
    """

    @checked("device_ids")
    def __init__(
        self,
        forward_func: Callable[..., Any],
        layer: LayerLike | Sequence[LayerLike],
        device_ids: list[int] | None = None,
        *,
        probe: Readout | Mapping[str, Readout] | None = None,
        score: ScoreLike = "log_odds",
        noise: float | None = None,
        kappa: float | None = None,
        kind: DecompositionKind | None = None,
        options: DecompositionOptions | None = None,
    ) -> None:
        InteractionMethod.__init__(
            self,
            forward_func,
            score=score,
            noise=noise,
            kappa=kappa,
            kind=kind,
            options=options,
        )
        LayerAttribution.__init__(self, forward_func, layer, device_ids)
        if device_ids is not None and len(device_ids) > 1:
            raise ValueError(f"device_ids has {len(device_ids)} devices: layers are read on one; give the inner model")
        self._several = isinstance(layer, Sequence) and not isinstance(layer, str)
        given: list[Any] = list(layer) if isinstance(layer, Sequence) and not isinstance(layer, str) else [layer]
        inner = [one for one in given if not is_output(one)]
        layers = iter(find_layers(self._model, inner) if inner or not given else ())
        self._layers = [None if is_output(one) else next(layers) for one in given]
        labels = [OUTPUT if layer is None else layer.label for layer in self._layers]
        if labels.count(OUTPUT) > 1:
            raise ValueError(f"layer has {OUTPUT!r}, the model's own output, more than once: give it once")
        self._probe = probe
        if OUTPUT in labels:
            self._check_output(labels)
        for found in self._layers:  # what is missing is missed now; but there may be read-outs of the inputs alone
            if found is not None and not self._has(replace(found, input=True)):
                self._readout(found)
        self._checked: list[tuple[Any, ...]] | None = None
        self._check_weights()

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
        attribute_to_layer_input: bool = False,
        *,
        player_names: PlayerNames = None,
        n_samples: int | None = None,
        seed: int = 0,
        max_effects: int | None = None,
    ) -> InteractionsBatch | SampledBatch | LayerInteractions:
        """Find the interactions of each sample at each layer.

        Args:
            inputs: As in :meth:`AndOrInteraction.attribute`, like all up to ``show_progress``.
            baselines: What replaces absent players.
            target: Which output of the model, and thus which column of the read-outs.
            additional_forward_args: What else the forward gets.
            feature_mask: Which scalars form a player.
            perturbations_per_eval: Masks a forward.
            show_progress: Whether to show a bar.
            attribute_to_layer_input: Whether the layers are read at their inputs, as in Captum.
            player_names: A label for each player.
            n_samples: As in :meth:`AndOrInteraction.attribute`, like the next two. All layers are read at the same
                masks, and the effects of one begin with the sets of the one before it, from the last to the first.
            seed: The seed of the masks.
            max_effects: The largest number of effects of each layer.

        Returns:
            One :class:`Interactions` a sample, with `n_samples` one :class:`SampledInteractions`; for a list of layers
            a dict of these, by the layers' labels.

        Raises:
            TypeError: An argument of the wrong type; a layer that puts out no tensor.
            ValueError: An argument that does not fit; a layer that does not run, or runs several times and has no
                ``call_index``; a read-out with another number of columns than the model has outputs; and what
                :meth:`AndOrInteraction.attribute` raises.

        Warns:
            UserWarning: As :meth:`AndOrInteraction.attribute`.
        """
        sources, origins = self._read(attribute_to_layer_input)
        sampling = sampling_of(n_samples, seed, max_effects)
        requests = self._requests(inputs, baselines, target, additional_forward_args, feature_mask, player_names)
        rest = perturbations_per_eval, show_progress, sources, origins
        batches: list[AnyBatch] = []
        if sampling is None:
            batches += self._batches(requests, *rest)
        else:
            batches += self._sampled_batches(requests, sampling, *rest)
        if not self._several:
            return batches[0]
        return LayerInteractions({source.label: batch for source, batch in zip(sources, batches, strict=True)})

    @torch.no_grad()
    def plan(
        self,
        inputs: InputsOrList,
        baselines: Baselines = None,
        target: TargetLike = None,
        additional_forward_args: Any = None,
        feature_mask: FeatureMask = None,
        perturbations_per_eval: int | None = None,
        attribute_to_layer_input: bool = False,
        *,
        n_samples: int | None = None,
        seed: int = 0,
        max_effects: int | None = None,
    ) -> Plan:
        """Count the forwards of :meth:`attribute`, and estimate its time; see :meth:`AndOrInteraction.plan`.

        Args:
            inputs: As in :meth:`attribute`, like all that follows.
            baselines: What replaces absent players.
            target: Which output of the model.
            additional_forward_args: What else the forward gets.
            feature_mask: Which scalars form a player.
            perturbations_per_eval: Masks a forward.
            attribute_to_layer_input: Whether the layers are read at their inputs.
            n_samples: The number of masks of each sample; None: all 2^n masks.
            seed: The seed of the masks.
            max_effects: The largest number of effects of each layer.

        Returns:
            Forwards, tokens, memory and time, and shorter ways where it takes more than a minute.

        Raises:
            TypeError: As :meth:`attribute`.
            ValueError: As :meth:`attribute`, but for the number of players.
        """
        sources, _ = self._read(attribute_to_layer_input)
        sampling = sampling_of(n_samples, seed, max_effects)
        requests = self._requests(inputs, baselines, target, additional_forward_args, feature_mask, None)
        return self._plan(requests, sampling, perturbations_per_eval, sources)

    @property
    def sources(self) -> tuple[Source, ...]:
        """The layers with their read-outs, in order; the model's own output has neither."""
        return tuple(self._sources(False))

    def compute_convergence_delta(  # type: ignore[override]
        self, attributions: InteractionsBatch | Mapping[str, InteractionsBatch], *args: Any
    ) -> ConvergenceDelta | dict[str, ConvergenceDelta]:
        """Compute how closely the interactions reproduce the values that they explain.

        Args:
            attributions: The result of :meth:`attribute`.
            *args: Captum's start and end points; not needed.

        Returns:
            As :meth:`AndOrInteraction.compute_convergence_delta`; for a dict of layers a dict of these.

        Raises:
            TypeError: ``attributions`` is something else.
        """
        delta = super().compute_convergence_delta
        if isinstance(attributions, Mapping):
            return {label: delta(batch, *args) for label, batch in attributions.items()}
        return delta(attributions, *args)

    def _read(self, attribute_to_layer_input: bool = False) -> tuple[Sequence[Source], Sequence[dict[str, Any]]]:
        check_flag("attribute_to_layer_input", attribute_to_layer_input)
        self._check_weights()
        sources = self._sources(attribute_to_layer_input)
        return sources, [_origin(source) for source in sources]

    def _check_weights(self) -> None:
        """Check that linear probes were fitted to this very model, whose weights are read when they have changed."""
        module = self._model.module
        readouts = self._probe.values() if isinstance(self._probe, Mapping) else [self._probe]
        probes = [readout for readout in readouts if isinstance(readout, LinearProbe)]
        if module is None or not probes:
            return
        versions = weight_versions(module)
        if versions != self._checked:
            check_weights(module, probes)
            self._checked = versions

    def _check_kind(self, probe: LinearProbe) -> None:
        """Check that a probe was fitted to the kind of columns that the score reads."""
        wanted = _PROBE_KINDS.get(self._score.reads)
        if wanted is not None and len(probe.bias) > 1 and probe.kind != wanted:
            meant = {"softmax": "classes, one of which is true", "sigmoid": "labels, each true or not by itself"}
            raise ValueError(
                f"the columns of the probe of layer {probe.layer.label!r} are {meant[probe.kind]} "
                f"(kind={probe.kind!r}), and score={self._score.name!r} takes those of "
                f"{self._model.name} for {meant[wanted]}: fit the probe to such, or give score='logit'; of a "
                "Hugging Face model config.problem_type says what its columns are"
            )

    def _check_output(self, labels: Sequence[str]) -> None:
        """Check that no read-out is meant for what is read without one, the model's own output."""
        label, ambiguous = Layer(OUTPUT).label, has_layer_named_output(self._model)
        if isinstance(self._probe, Mapping):
            given = OUTPUT in self._probe or (ambiguous and label in self._probe and label not in labels)
        else:
            given = self._probe is not None and (ambiguous or not self._several)  # of a list one for all the others
        if given and ambiguous:
            raise ValueError(
                f"layer has {OUTPUT!r}, the model's own output, which takes no read-out, and {self._model.name} also "
                f"has a layer of that name. For the layer give layer=Layer({OUTPUT!r}), whose label is {label!r}; for "
                "the model's own output give a mapping without a read-out for it"
            )
        if given:
            raise ValueError(
                f"probe has a read-out for {OUTPUT!r}, the model's own output, which is scored as it is. Leave it out"
            )

    def _has(self, layer: Layer) -> bool:
        return isinstance(self._probe, Mapping) and layer.label in self._probe

    def _sources(self, input: bool) -> list[Source]:
        layers = [layer and replace(layer, input=layer.input or input) for layer in self._layers]
        return [Source() if layer is None else Source(layer, self._readout(layer)) for layer in layers]

    def _readout(self, layer: Layer) -> Readout:
        readout: Any = self._probe
        if isinstance(readout, Mapping):
            if not self._has(layer):
                raise ValueError(
                    f"probe has no read-out for layer {layer.label!r}, it has {some_of(list(readout)) or 'none'}: fit "
                    "one, or give a callable"
                )
            readout = readout[layer.label]
        if readout is None:
            raise ValueError(
                f"layer {layer.label!r} has no classes of its own: give probe=, such as "
                "LinearProbes.fit(...), logit_lens(model), or a function from features [R, D] to logits [R, C]"
            )
        if not callable(readout):
            raise TypeError(f"the read-out of layer {layer.label!r} must be callable; got {kind_of(readout)}")
        if isinstance(readout, LinearProbe):
            readout.check(layer)
            self._check_kind(readout)
        return readout  # type: ignore[no-any-return]


def _origin(source: Source) -> dict[str, Any]:
    """Return the provenance of the layer that a result was read at."""
    if source.layer is None or source.readout is None:
        return {"layer": OUTPUT}
    return {"layer": source.label, "pool": source.layer.describe()["pool"], "readout": name_of(source.readout)}
