"""From several models, such as checkpoints of a training run, to their comparison."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple, TypeAlias

from torch import nn

from captum_lkn._common.arguments import checked
from captum_lkn._common.messages import kind_of, some_of
from captum_lkn._common.progress import Bar, is_hidden
from captum_lkn.attribution.and_or import AndOrInteraction
from captum_lkn.attribution.base import InputsOrList
from captum_lkn.decomposition.options import DecompositionKind, DecompositionOptions, given_options
from captum_lkn.interactions.about import targets_of
from captum_lkn.interactions.batch import AnyBatch
from captum_lkn.knowledge.change import KnowledgeChange
from captum_lkn.knowledge.checks import check_label, check_noun
from captum_lkn.models.estimators import is_estimator
from captum_lkn.models.model import Model
from captum_lkn.outputs.score import ScoreLike
from captum_lkn.outputs.scores import resolve_score
from captum_lkn.outputs.targets import TargetLike
from captum_lkn.players.players import Players
from captum_lkn.players.prepare import Baselines, FeatureMask, PlayerNames

__all__ = ["ModelOrLoader", "compare_models"]

ModelOrLoader: TypeAlias = Any
"""A model, or a function without arguments that returns one, or a context manager that gives one."""


class _State(NamedTuple):
    """Results of one model that are kept after the model itself is released."""

    batch: AnyBatch
    class_names: tuple[str, ...]


@checked("reference", "show_progress")
def compare_models(
    models: Mapping[str, ModelOrLoader],
    inputs: InputsOrList | Mapping[str, InputsOrList],
    baselines: Baselines = None,
    target: TargetLike = "predicted",
    additional_forward_args: Any = None,
    feature_mask: FeatureMask = None,
    perturbations_per_eval: int | None = None,
    show_progress: bool = False,
    *,
    reference: str,
    noun: str = "model",
    player_names: PlayerNames = None,
    n_samples: int | None = None,
    seed: int = 0,
    max_effects: int | None = None,
    score: ScoreLike = "log_odds",
    noise: float | None = None,
    kappa: float | None = None,
    kind: DecompositionKind | None = None,
    options: DecompositionOptions | None = None,
) -> KnowledgeChange:
    r"""Extract the interactions of several models on the same samples and compare each model with one of them.

    The models may be checkpoints of a training run, a model before and after fine-tuning, with and without an adapter,
    quantised or pruned, or different architectures for one task. The measures, the noise ceiling and the pictures are
    those of layers, :class:`captum_lkn.KnowledgeChange`; what is read is the models' output.

    Models are evaluated one after the other, the reference first. A value of ``models`` is a model, or a *loader*: a
    function that takes no arguments, or whose arguments all have a default other than None. It is called when its model
    is needed, and the model is released before the next one is loaded, so that one model at a time is in memory. A
    loader that returns a context manager (``contextlib.contextmanager``) gives the model on entry and undoes on exit
    what it changed, such as an adapter that it switched off.

    Args:
        models: By name the models (modules, functions or estimators) or their loaders.
        inputs: As in :meth:`captum_lkn.AndOrInteraction.attribute`, like all up to ``show_progress``. Models whose
            tokenizers differ need players of their own: a mapping with the names of the models to ``Players`` (or lists
            of them) with the same labels.
        baselines: What replaces absent players.
        target: The class that is explained, the same for all models, best the true one. The default is the class that
            the reference predicts.
        additional_forward_args: What else the forward gets.
        feature_mask: Which scalars form a player.
        perturbations_per_eval: Masks a forward.
        show_progress: Whether to show a bar over the models, and one over the masks of each.
        reference: The name of the model that the others are compared with.
        noun: What a model is called in texts and pictures, such as ``"checkpoint"``.
        player_names: A label for each player.
        n_samples: As in :meth:`captum_lkn.AndOrInteraction.attribute`, like the next two: the number of masks of each
            sample, the same for all models, where all 2^n are too many.
        seed: The seed of the masks.
        max_effects: The largest number of effects of each model.
        score: As in :class:`captum_lkn.AndOrInteraction`, like all that follows.
        noise: How far the effects may miss each value, as a share of \|v(N) - v(empty)\| of sample and model.
        kappa: The same as an absolute number, for all models.
        kind: ``"and-or"`` (the default), or ``"and"`` for AND effects alone.
        options: All options of the decomposition; ``noise``, ``kappa`` and ``kind`` replace what they say.

    Returns:
        The comparison, in the order of ``models``. It holds no model.

    Raises:
        TypeError: A value is neither a model nor a loader of one.
        ValueError: Fewer than two models; an unknown reference; players that differ between the models; the explained
            class has its name at another output of another model; and what the method raises.

    Warns:
        UserWarning: As :class:`captum_lkn.KnowledgeChange` and the method.

    Example:
        >>> import torch
        >>> def base(x):
        ...     return x[:, 0] + x[:, 1]
        >>> def tuned(x):  # the product was learned, and the first column is used less
        ...     return 0.5 * x[:, 0] + x[:, 1] + 0.5 * x[:, 0] * x[:, 1]
        >>> x = torch.ones(1, 2)
        >>> models = {"base": base, "tuned": tuned}
        >>> change = compare_models(models, x, target=None, reference="tuned", score="logit", noise=0)
        >>> change["base"].completeness[0]  # of the tuned model's AND interactions, by order
        tensor([1., 0.], dtype=torch.float64)
        >>> change["base"].redundancy[0, 0]  # half of the effect of the first column
        tensor(0.2500, dtype=torch.float64)
    """
    _check_models(models, reference)
    check_noun(noun)
    resolve_score(score)
    method_of = partial(
        AndOrInteraction, score=score, options=given_options(options, {"noise": noise, "kappa": kappa, "kind": kind})
    )
    own_inputs = _has_players_of_each(inputs, models)
    sampling: dict[str, Any] = {"n_samples": n_samples, "seed": seed, "max_effects": max_effects}
    found: dict[str, _State] = {}
    order = sorted(models, key=lambda name: name != reference)  # stable: the reference first, then as given
    for name in Bar(order, desc=f"{noun}s", disable=is_hidden(show_progress)):
        given: Any = inputs[name] if own_inputs else inputs  # type: ignore[index]
        rest = additional_forward_args, feature_mask, perturbations_per_eval, show_progress
        with _named(name, models[name]), _loaded(name, models[name]) as model:
            batch = method_of(model).attribute(given, baselines, target, *rest, player_names=player_names, **sampling)
            found[name] = _State(batch, Model(model).class_names)
        del model  # before the next one is loaded
        if name == reference and isinstance(target, str):
            target = targets_of(one.provenance for one in batch)
    _check_classes(found, reference)
    return KnowledgeChange({name: found[name].batch for name in models}, reference=reference, noun=noun)


@contextmanager
def _named(name: str, given: Any) -> Iterator[None]:
    """Name the model in an error that comes of it: its own message cannot know it."""
    try:
        yield
    except Exception as error:
        called = ", which was called without arguments, as a loader" if _is_loader(given) else ""
        note = f"This is of models[{name!r}]{called}."
        if hasattr(error, "add_note"):
            error.add_note(note)
        else:  # Python 3.10
            error.args = (f"{error}\n{note}",)
        raise


@contextmanager
def _loaded(name: str, given: Any) -> Iterator[Any]:
    """Give a model, loaded if need be, and let go of it afterwards."""
    if not _is_loader(given):
        yield given
        return
    with ExitStack() as stack:
        loaded = given()
        if isinstance(loaded, AbstractContextManager):
            loaded = stack.enter_context(loaded)
        if not _is_model(loaded):
            raise TypeError(
                f"models[{name!r}] takes no arguments, so that it must return a model; got {kind_of(loaded)}. Return "
                "the model"
            )
        yield loaded
        del loaded


def _is_model(given: Any) -> bool:
    return callable(given) or is_estimator(given)


def _is_loader(given: Any) -> bool:
    """Return True for a function that takes no arguments, or whose arguments are all bound; a module never is one.

    ``lambda step=step: load(step)`` binds its argument; a default of None, as in ``forward(self, x=None)``, binds none.
    """
    if isinstance(given, nn.Module) or is_estimator(given):
        return False
    try:
        parameters = inspect.signature(given).parameters.values()
    except (TypeError, ValueError):  # of some built-in functions no signature is known
        return False
    unbound = (inspect.Parameter.empty,) if isinstance(given, type) else (inspect.Parameter.empty, None)
    own = given.keywords if isinstance(given, partial) else {}
    return all(one.name in own or one.default not in unbound for one in parameters)  # *args has no default: a model


def _has_players_of_each(inputs: Any, models: Mapping[str, Any]) -> bool:
    """Return whether the inputs are a mapping of players by model; one of tensors by keyword is input for all."""
    if not isinstance(inputs, Mapping) or not any(isinstance(one, Players | list) for one in inputs.values()):
        return False
    if set(inputs) != set(models):
        raise ValueError(
            f"inputs must have Players for each model, {some_of(list(models))}; got {some_of(list(inputs)) or 'none'}"
        )
    return True


def _check_models(models: Any, reference: Any) -> None:
    if not isinstance(models, Mapping):
        raise TypeError(f"models must be a mapping from names to models or loaders; got {kind_of(models)}")
    for name, given in models.items():
        if not isinstance(name, str) or not _is_model(given):
            raise TypeError(f"models must map str to a model or a function that loads one; got {name!r}: {given!r}")
    if len(models) < 2:
        raise ValueError(
            f"models must be at least two; got {some_of(list(models)) or 'none'}. Give one to compare with"
        )
    check_label(reference, models, "model")


def _check_classes(found: Mapping[str, _State], reference: str) -> None:
    """Check that no other model has the explained classes in another order."""
    names = found[reference].class_names
    targets = targets_of(one.provenance for one in found[reference].batch)
    explained = sorted({one for one in targets if isinstance(one, int) and one < len(names)})
    for label, state in found.items():
        for column in explained:
            name = names[column]
            place = state.class_names.index(name) if name in state.class_names else column
            if place != column:
                raise ValueError(
                    f"models must have their classes in one order; {name!r} is output {column} of {reference!r} and "
                    f"output {place} of {label!r}. Reorder the outputs of one with a function"
                )
