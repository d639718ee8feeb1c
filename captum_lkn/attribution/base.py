"""Base classes of the attribution methods."""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar, cast, runtime_checkable

import captum
import numpy as np
import torch
from captum.attr import PerturbationAttribution
from captum.log import log_usage
from torch import Tensor

from captum_lkn._common.arguments import checked
from captum_lkn._common.messages import count_of, kind_of
from captum_lkn._common.progress import Bar, is_hidden
from captum_lkn._version import __version__
from captum_lkn.attribution.forwards import check_forward
from captum_lkn.attribution.plan import Plan, plan_of
from captum_lkn.attribution.sampling import Sampling, warn_of_poor_fits
from captum_lkn.decomposition.decompose import Decomposition, decompose
from captum_lkn.decomposition.options import DecompositionKind, DecompositionOptions, given_options
from captum_lkn.interactions import Interactions, InteractionsBatch, SampledBatch, SampledInteractions
from captum_lkn.models.layers import OUTPUT
from captum_lkn.models.model import Model
from captum_lkn.outputs.code import code_of
from captum_lkn.outputs.score import Score, ScoreLike
from captum_lkn.outputs.scores import resolve_score
from captum_lkn.outputs.targets import TargetLike
from captum_lkn.players.players import Players
from captum_lkn.players.prepare import Baselines, FeatureMask, Inputs, PlayerNames, layout_of, prepare
from captum_lkn.sampling.fit import fit_sampled
from captum_lkn.sampling.terms import Term
from captum_lkn.values.sampled import SampledValues, sampled_values
from captum_lkn.values.sources import Source
from captum_lkn.values.tables import Request, ValueTables, value_tables

__all__ = [
    "OF_SAMPLES",
    "ConvergenceDelta",
    "DescribesPrompts",
    "InputsOrList",
    "InteractionMethod",
    "Method",
    "logged",
]

_DESCRIPTION = "AND-OR interactions"
_Function = TypeVar("_Function", bound=Callable[..., Any])

InputsOrList: TypeAlias = Inputs | list[Players]
"""Inputs as Captum's methods take them, :class:`Players`, or a list of these."""

OF_SAMPLES = {"texts": "text", "selection": "selection"}
"""Keys of a description that hold an entry a sample, and the key of one entry in the provenance of its sample."""


def logged(function: _Function) -> _Function:
    """Log each call, as Captum's methods do, and keep the function's type, which Captum's decorator does not."""
    return cast("_Function", log_usage(part_of_slo=True)(function))


@runtime_checkable
class DescribesPrompts(Protocol):
    """Forward function that adds to the provenance of a result, such as a ``Continuation``."""

    def describe_prompt(self, players: Players, sample: int) -> dict[str, Any]:
        """Return entries for the provenance of one sample."""


class ConvergenceDelta(NamedTuple):
    r"""Largest errors of the interactions of B samples against the values that they explain.

    Attributes:
        efficiency: ``[B]``, the sum of all effects minus v(N); 0 to rounding unless the ends were left free.
        matching: ``[B]``, the largest \|v(T) - reconstruction\| over all 2^n masks; at most kappa.
    """

    efficiency: Tensor
    matching: Tensor


class Method(PerturbationAttribution):
    """A model, a score, and the evaluation of all masked copies."""

    def __init__(self, forward_func: Callable[..., Any], score: ScoreLike) -> None:
        PerturbationAttribution.__init__(self, forward_func)
        check_forward(forward_func)
        self._model = Model(forward_func)
        self._score = self._model.score_for_model(resolve_score(score))

    @property
    def score(self) -> Score:
        """The score, as it reads the columns of the model's output."""
        return self._score

    @checked()
    def attribute_future(self, *args: Any, **kwargs: Any) -> None:
        """Raise an error: there is no asynchronous form, as in most of Captum's methods.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError(f"{self.get_name()} has no asynchronous form: call attribute")

    @property
    def _tokenizer(self) -> Any:
        """The tokenizer that the forward function has, as a ``Continuation`` may."""
        return getattr(self._model.forward_func, "tokenizer", None)

    def _tables(
        self,
        requests: Sequence[Request],
        perturbations_per_eval: int | None,
        show_progress: bool,
        description: str,
        sources: Sequence[Source] = (Source(),),
        every_output: bool = False,
    ) -> list[ValueTables]:
        return value_tables(
            self._model,
            requests,
            score=self._score,
            sources=sources,
            perturbations_per_eval=perturbations_per_eval,
            show_progress=show_progress,
            description=description,
            every_output=every_output,
        )


class InteractionMethod(Method):
    """Method that returns interactions."""

    def __init__(
        self,
        forward_func: Callable[..., Any],
        *,
        score: ScoreLike = "log_odds",
        noise: float | None = None,
        kappa: float | None = None,
        kind: DecompositionKind | None = None,
        options: DecompositionOptions | None = None,
    ) -> None:
        super().__init__(forward_func, score)
        # Before any forward is spent on them.
        self.options = given_options(options, {"noise": noise, "kappa": kappa, "kind": kind})

    def has_convergence_delta(self) -> bool:
        """Return True: see :meth:`compute_convergence_delta`."""
        return True

    def compute_convergence_delta(self, attributions: InteractionsBatch, *args: Any) -> ConvergenceDelta:
        """Compute how closely the interactions reproduce the values that they explain.

        Args:
            attributions: The result of :meth:`attribute`.
            *args: Captum's start and end points; not needed, the values are kept with the interactions.

        Returns:
            Two float64 tensors ``[B]``.

        Raises:
            TypeError: ``attributions`` is not an :class:`InteractionsBatch`.
        """
        if not isinstance(attributions, InteractionsBatch):
            raise TypeError(
                f"attributions must be the InteractionsBatch that attribute returned; got {type(attributions).__name__}"
            )
        sums = torch.stack([x.effects.values.sum() + x.effects.constant - x.v_full for x in attributions])
        return ConvergenceDelta(
            sums, torch.tensor([x.residual for x in attributions], dtype=torch.float64, device="cpu")
        )

    def _read(self, attribute_to_layer_input: bool = False) -> tuple[Sequence[Source], Sequence[dict[str, Any]]]:
        """Return what is read of the model, and the entries of each source in the provenance."""
        return (Source(),), ({},)

    def _batches(
        self,
        requests: Sequence[Request],
        perturbations_per_eval: int | None,
        show_progress: bool,
        sources: Sequence[Source] = (Source(),),
        origins: Sequence[dict[str, Any]] = ({},),
    ) -> list[InteractionsBatch]:
        """Return one batch a source, with the entries of its origin in the provenance."""
        found = self._tables(requests, perturbations_per_eval, show_progress, _DESCRIPTION, sources)
        return self._explained(requests, found, show_progress, origins)

    def _explained(
        self,
        requests: Sequence[Request],
        found: Sequence[ValueTables],
        show_progress: bool = False,
        origins: Sequence[dict[str, Any]] = ({},),
    ) -> list[InteractionsBatch]:
        """Return one batch a source from the values of all masks; see :meth:`_batches`."""
        tables = [table for one in found for table in one.tables]
        decompositions = iter(
            _decompose_each(tables, self.options, [str(origin.get("layer", "")) for origin in origins], show_progress)
        )
        columns: list[list[Interactions]] = [[] for _ in origins]
        for request, one in zip(requests, found, strict=True):
            provenance = self._provenance(request.players, one)
            for sample, table in enumerate(one.tables):
                for place, part in enumerate(next(decompositions)):
                    columns[place].append(
                        Interactions.from_decomposition(
                            request.players.labels[sample],
                            table[place],
                            part,
                            provenance(sample) | {"unit": one.units[place]} | origins[place],
                            layout_of(request.players, sample),
                            one.epsilon,
                        )
                    )
        return list(map(InteractionsBatch, columns))

    def _sampled_batches(
        self,
        requests: Sequence[Request],
        sampling: Sampling,
        perturbations_per_eval: int | None,
        show_progress: bool,
        sources: Sequence[Source] = (Source(),),
        origins: Sequence[dict[str, Any]] = ({},),
    ) -> list[SampledBatch]:
        """Return one batch a source, fitted to sampled masks; see :meth:`_batches`."""
        found = sampled_values(
            self._model,
            requests,
            score=self._score,
            n_samples=sampling.n_samples,
            seed=sampling.seed,
            sources=sources,
            perturbations_per_eval=perturbations_per_eval,
            show_progress=show_progress,
            description=_DESCRIPTION,
        )
        return self._fitted(requests, found, sampling, show_progress, origins)

    def _fitted(
        self,
        requests: Sequence[Request],
        found: Sequence[SampledValues],
        sampling: Sampling,
        show_progress: bool = False,
        origins: Sequence[dict[str, Any]] = ({},),
    ) -> list[SampledBatch]:
        """Return one batch a source from values at sampled masks; see :meth:`_batches`."""
        columns: list[list[SampledInteractions]] = [[] for _ in origins]
        total = len(origins) * sum(len(one.tables) for one in found)
        with Bar(total=total, desc="fits", unit="fit", disable=is_hidden(show_progress)) as bar:
            for request, one in zip(requests, found, strict=True):
                provenance = self._provenance(request.players, one)
                for sample, (table, plan) in enumerate(zip(one.tables, one.plans, strict=True)):
                    counts = [len(plan.fit), len(plan.uniform), len(plan.all_sizes)]
                    start: list[Term] = []
                    # From the last source to the first, so that equal functions of the masks get equal sets.
                    for place in reversed(range(len(origins))):
                        fitted, uniform, all_sizes = torch.split(table[place], counts)
                        fit = fit_sampled(
                            plan,
                            (fitted, uniform, all_sizes),
                            self.options,
                            max_effects=sampling.max_effects,
                            start=start,
                        )
                        start = fit.selected
                        record = {"unit": one.units[place], "sampling": sampling._asdict()}
                        columns[place].append(
                            SampledInteractions.from_fit(
                                request.players.labels[sample],
                                fit,
                                (float(fitted[0]), float(fitted[1])),
                                (counts[0], counts[1], counts[2]),
                                self.options,
                                provenance(sample) | record | origins[place],
                                layout_of(request.players, sample),
                                one.epsilon,
                            )
                        )
                        bar.update()
        for own, origin in zip(columns, origins, strict=True):
            warn_of_poor_fits(own, str(origin.get("layer", "")))
        return list(map(SampledBatch, columns))

    def _plan(
        self,
        requests: Sequence[Request],
        sampling: Sampling | None,
        perturbations_per_eval: int | None,
        sources: Sequence[Source] = (Source(),),
    ) -> Plan:
        return plan_of(self._model, requests, self._score, self.options, sampling, perturbations_per_eval, sources)

    def _requests(
        self,
        inputs: InputsOrList,
        baselines: Baselines,
        target: TargetLike,
        additional_forward_args: Any,
        feature_mask: FeatureMask,
        player_names: PlayerNames,
    ) -> list[Request]:
        """Return the samples with their players, arguments and targets: one request for each Players of a list."""
        given = (baselines, additional_forward_args, feature_mask, player_names)
        if isinstance(inputs, list) and (not inputs or any(isinstance(one, Players) for one in inputs)):
            targets = _targets(target, inputs)
            return [Request(*prepare(one, *given), own) for one, own in zip(inputs, targets, strict=True)]
        return [Request(*prepare(inputs, *given, self._tokenizer), target)]  # type: ignore[arg-type]

    def _provenance(self, players: Players, found: ValueTables) -> Callable[[int], dict[str, Any]]:
        """Return a function from a sample to the record of its model, score, target, players and options."""
        shared = {
            "model": self._model.name,
            "layer": OUTPUT,
            "score": self._score.name,
            **({"score_code": code} if (code := code_of(self._score.function)) else {}),
            **{key: value for key, value in players.description.items() if key not in OF_SAMPLES},
            "decomposition": {key: value for key, value in self.options.to_dict().items() if value is not None},
            "forwards": found.forwards,
            "versions": {
                "captum_lkn": __version__,
                "torch": str(torch.__version__),
                "captum": captum.__version__,
                "python": platform.python_version(),
            },
        }
        targets, texts = found.target.describe(), found.target.texts()
        # A single output is not chosen by a prediction, unless its sign tells two classes apart.
        predicted = found.target.predicted and (found.target.n_outputs > 1 or self._score.binary)
        function = self._model.forward_func
        own = {name: players.description[key] for key, name in OF_SAMPLES.items() if key in players.description}

        def of_sample(i: int) -> dict[str, Any]:
            each = {name: values[i] for name, values in own.items()}
            explained = {"target": targets[i], "explained": texts[i], "predicted": predicted}
            prompt = function.describe_prompt(players, i) if isinstance(function, DescribesPrompts) else {}
            return shared | found.evaluations[i] | explained | each | prompt

        return of_sample


def _targets(target: Any, inputs: Sequence[Any]) -> list[TargetLike]:
    """Return the target of each Players of a list: one for all goes to each, a list with one a sample is cut."""
    if not inputs:
        raise ValueError("inputs is an empty list: give at least one Players")
    for i, players in enumerate(inputs):
        if not isinstance(players, Players):
            raise TypeError(f"inputs is a list, in which inputs[{i}] is {kind_of(players)}: a list must hold Players")
    is_array = isinstance(target, (Tensor, np.ndarray)) and math.prod(target.shape) > 1  # one element is for all
    targets = target.tolist() if is_array else target
    if not isinstance(targets, list):
        return [target] * len(inputs)
    sizes = [len(players) for players in inputs]
    if len(targets) != sum(sizes):
        raise ValueError(
            f"target has length {len(targets)} for {count_of(sum(sizes), 'sample')} in {len(sizes)} Players: give one "
            "for all, or one a sample"
        )
    return [targets[end - size : end] for size, end in zip(sizes, accumulate(sizes), strict=True)]


def _decompose_each(
    tables: Sequence[Tensor], options: DecompositionOptions, layers: Sequence[str], show_progress: bool
) -> list[list[Decomposition]]:
    """Return L decompositions for each sample's tables ``[L, 2^n]``; tables of one size are solved together.

    Warnings name the samples, and the L layers where these have labels.
    """
    results: dict[int, list[Decomposition]] = {}
    for size in sorted({table.shape[-1] for table in tables}):
        places = [i for i, table in enumerate(tables) if table.shape[-1] == size]
        names = [f"sample {i}{f' at {layer}' if layer else ''}" for i in places for layer in layers]
        stacked = torch.cat([tables[i] for i in places])
        together = decompose(stacked, options=options, names=names, show_progress=show_progress)
        each = iter(together[row] for row in range(sum(len(tables[i]) for i in places)))
        results |= {place: [next(each) for _ in tables[place]] for place in places}
    return [results[i] for i in range(len(tables))]
