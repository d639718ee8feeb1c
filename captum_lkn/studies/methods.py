"""Settings and keyword arguments of the methods of a study, and their results by layer."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias, get_args

import torch

from captum_lkn._common import files
from captum_lkn._common.checks import is_one_of
from captum_lkn._common.messages import kind_of, some_of
from captum_lkn._version import __version__
from captum_lkn.attribution import AndOrInteraction, LayerAndOrInteraction
from captum_lkn.attribution.divided import DividedSample
from captum_lkn.attribution.outputs import evaluate_outputs, interactions_of_outputs
from captum_lkn.knowledge import LayerwiseKnowledge
from captum_lkn.models.layers import OUTPUT
from captum_lkn.models.model import Model
from captum_lkn.players.players import Players
from captum_lkn.studies.identity import identity
from captum_lkn.studies.rescoring import packed
from captum_lkn.studies.sample_files import Outputs, Results
from captum_lkn.studies.sharing import joined_players, rows_of_each
from captum_lkn.values.parts import PartValues

__all__ = ["Keep", "StudyMethod", "attribute", "check_options", "divided", "joined", "settings_of", "shares_forwards"]

Keep: TypeAlias = Literal["interactions", "outputs"]
"""Content of a sample's file in a study: its interactions, or the model's outputs as well."""

StudyMethod: TypeAlias = AndOrInteraction | LayerAndOrInteraction | LayerwiseKnowledge
"""Methods that a study can run."""

# Arguments of attribute that samples bring, or that a study has itself.
_OWN: Final = (
    *("self", "inputs", "baselines", "target", "additional_forward_args", "feature_mask", "show_progress"),
    "player_names",
)


def attribute(
    method: StudyMethod, several: Sequence[Players], targets: Sequence[Any], options: Mapping[str, Any], keep: Keep
) -> list[tuple[Results, Outputs | None]]:
    """Return the results of each sample, and what is kept; see :func:`shares_forwards`."""
    if keep == "outputs" and isinstance(method, AndOrInteraction):
        kept = evaluate_outputs(method, several, **options)
        interactions = interactions_of_outputs(kept, targets, method.score, method.options)
        return [({OUTPUT: found}, packed(one)) for found, one in zip(interactions, kept, strict=True)]
    found = _found(_inner(method), several, targets, options)
    if isinstance(found, Mapping):
        return [({label: batch[i] for label, batch in found.items()}, None) for i in range(len(several))]
    sources = getattr(_inner(method), "sources", ())
    label = sources[0].label if sources else OUTPUT
    return [({label: one}, None) for one in found]


def shares_forwards(several: Sequence[Players], options: Mapping[str, Any], keep: Keep) -> bool:
    """Return whether samples share forwards, so that they are rounded together."""
    rows = options.get("perturbations_per_eval")
    whole = keep == "interactions" and options.get("n_samples") is None
    return whole and joined_players(several, rows) is not None


def _found(inner: Any, several: Sequence[Players], targets: Sequence[Any], options: Mapping[str, Any]) -> Any:
    """Return the interactions of samples, which share forwards where they can."""
    if shares_forwards(several, options, "interactions"):
        rows = options.get("perturbations_per_eval")
        batch = joined_players(several, rows)
        assert batch is not None  # they share forwards: for type checkers
        own = rows_of_each(batch, rows, Model(inner.forward_func).device)
        found = inner.attribute(batch, target=_as_given(targets), **{**options, "perturbations_per_eval": own})
        first = next(iter(found.values())) if isinstance(found, Mapping) else found
        if len(first) == len(several):  # else the forward gives one value for the whole batch
            return found
    return inner.attribute(list(several), target=_as_given(targets), **options)


def divided(method: StudyMethod, sample: Players, target: Any, options: Mapping[str, Any], keep: Keep) -> DividedSample:
    """Return one sample whose masks are divided among processes."""
    return DividedSample(_inner(method), sample, target, keeps_outputs=keep == "outputs", **options)


def joined(sample: DividedSample, parts: Sequence[PartValues]) -> tuple[Results, Outputs | None]:
    """Return the results of a divided sample, and what is kept."""
    results, kept = sample.explain(parts)
    return results, None if kept is None else packed(kept)


def check_options(method: Any, options: Mapping[str, Any], keep: Any) -> None:
    """Check that the method is one of those that a study can run, and takes the options.

    Raises:
        TypeError: It is another method, or has no such option.
        ValueError: It has no read-outs yet; or `keep` is unknown, or not of this method.
    """
    if not is_one_of(keep, get_args(Keep)):
        raise ValueError(f"keep must be one of {', '.join(map(repr, get_args(Keep)))}; got {keep!r}")
    if not isinstance(method, StudyMethod):
        raise TypeError(
            f"method must be an AndOrInteraction, a LayerAndOrInteraction or a LayerwiseKnowledge; got "
            f"{kind_of(method)}"
        )
    if keep == "outputs" and (not isinstance(method, AndOrInteraction) or {*options} - {"perturbations_per_eval"}):
        raise ValueError(
            "keep='outputs' is for all masks of an AndOrInteraction, with no option besides perturbations_per_eval. "
            "Leave keep out"
        )
    known = [name for name in inspect.signature(_inner(method).attribute).parameters if name not in _OWN]
    if strangers := [name for name in options if name not in known]:
        raise TypeError(
            f"run_study got {some_of(strangers)}; the options of {type(method).__name__} are {', '.join(known)}"
        )


def settings_of(method: StudyMethod, options: Mapping[str, Any], keep: str, version: str | None) -> dict[str, Any]:
    """Return by name what results depend on besides the samples, as JSON holds it.

    Raises:
        ValueError: The model, the score or a read-out cannot be read, and there is no version.
    """
    inner = _inner(method)
    model = Model(inner.forward_func)
    layers = {
        source.label: identity([source.layer, source.readout], f"the read-out of {source.label!r}", version)
        for source in getattr(inner, "sources", ())
        if source.layer is not None
    }
    # A pipeline counts as its model; a SelectOutput with what it selects.
    read = model.forward_func if type(inner.forward_func).__module__.startswith("transformers") else inner.forward_func
    settings = {
        "method": type(method).__name__,
        "model": f"{model.name} {identity(read, 'the model', version)}",
        "score": f"{inner.score.name} {identity(inner.score, 'score', version)}",
        "layers": layers,
        "decomposition": inner.options.to_dict(),
        "options": dict(options),
        "keep": keep,
        "version": version,
        "captum_lkn": __version__,
        "torch": str(torch.__version__),
    }
    return files.to_json(settings, "options")  # type: ignore[no-any-return]


def _inner(method: StudyMethod) -> AndOrInteraction | LayerAndOrInteraction:
    return method.method if isinstance(method, LayerwiseKnowledge) else method


def _as_given(targets: Sequence[Any]) -> Any:
    """Return the targets as attribute takes them: one for all where they are equal, else one a sample."""
    first = targets[0]
    alike = isinstance(first, str) or first is None
    return first if alike and all(one == first for one in targets) else list(targets)
