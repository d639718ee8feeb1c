"""Settings and keyword arguments of the methods of a study, and their results by layer."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias, get_args

import torch

from captum_lkn._common import files
from captum_lkn._common.checks import is_one_of
from captum_lkn._common.memory import out_of_memory
from captum_lkn._common.messages import kind_of, some_of
from captum_lkn._version import __version__
from captum_lkn.attribution import AndOrInteraction, LayerAndOrInteraction
from captum_lkn.attribution.divided import DividedSample
from captum_lkn.attribution.outputs import evaluate_outputs, interactions_of_outputs
from captum_lkn.attribution.together import Evaluated, Together
from captum_lkn.knowledge import LayerwiseKnowledge
from captum_lkn.models.layers import OUTPUT
from captum_lkn.models.model import Model
from captum_lkn.players.players import Players
from captum_lkn.studies.identity import identity
from captum_lkn.studies.rescoring import packed
from captum_lkn.studies.sample_files import Outputs, Results
from captum_lkn.studies.samples import Sample
from captum_lkn.studies.sharing import form_of, joined_players, rows_of_each
from captum_lkn.values.limits import check_perturbations
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
    method: StudyMethod, groups: Sequence[Sequence[Sample]], options: Mapping[str, Any], keep: Keep, apart: set[Any]
) -> list[tuple[Results, Outputs | None]]:
    """Return the results of the samples of all groups, one after the other, and what is kept.

    Args:
        method: The method.
        groups: Samples that share forwards; the tables of all groups are decomposed together.
        options: The options of its ``attribute``.
        keep: What is kept.
        apart: Forms and sizes of groups that work one by one alone, which the call adds to.
    """
    several = [sample for group in groups for sample in group]
    players, targets = [one.players for one in several], [one.target for one in several]
    if keep == "outputs" and isinstance(method, AndOrInteraction):
        kept = evaluate_outputs(method, players, **options)
        interactions = interactions_of_outputs(kept, targets, method.score, method.options)
        return [({OUTPUT: found}, packed(one)) for found, one in zip(interactions, kept, strict=True)]
    inner: Any = _inner(method)
    if options.get("n_samples") is None:
        rest = {name: value for name, value in options.items() if name != "perturbations_per_eval"}
        together, rows = Together(inner, **rest), options.get("perturbations_per_eval")
        evaluated = [one for group in groups for one in _evaluated(together, inner, group, rows, apart)]
        found: Any = together.explain(evaluated)
    else:
        found = inner.attribute(players, target=_as_given(targets), **options)
    if not isinstance(found, Mapping):
        sources = getattr(inner, "sources", ())
        found = {sources[0].label if sources else OUTPUT: found}
    return [({label: batch[i] for label, batch in found.items()}, None) for i in range(len(several))]


def shares_forwards(options: Mapping[str, Any], keep: Keep) -> bool:
    """Return whether samples of one form share forwards, so that they are rounded together."""
    return keep == "interactions" and options.get("n_samples") is None


def _evaluated(
    together: Together, inner: Any, group: Sequence[Sample], rows: int | None, apart: set[Any]
) -> list[Evaluated]:
    """Return the values of a group: of one batch, or of each sample where the model takes no such batch."""
    kind = form_of(group[0].players), len(group)
    fails = False
    if len(group) > 1 and kind not in apart:
        batch = joined_players([one.players for one in group])
        own = rows_of_each(batch, rows, Model(inner.forward_func).device)
        try:
            found = together.evaluate(batch, _as_given([one.target for one in group]), own)
            if not found.tables.whole_batch:
                return [found]
        except Exception as error:  # whatever a model raises that takes one row at a time
            if out_of_memory(error):
                raise
        fails = True
    alone = [together.evaluate(one.players, one.target, rows) for one in group]
    if fails:  # of the batch, as none of the samples fails; the next such groups would fail as well
        apart.add(kind)
    return alone


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
        TypeError: It is another method, or has no such option; perturbations_per_eval is not a whole number.
        ValueError: It has no read-outs yet; `keep` is unknown, or not of this method; perturbations_per_eval is below
            1.
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
    check_perturbations(options.get("perturbations_per_eval"))


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
