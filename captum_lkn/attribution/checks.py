"""Check a model of one's own, as scikit-learn's ``check_estimator`` checks an estimator."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from captum_lkn._common.arguments import checked
from captum_lkn.attribution.checking import Check, NotCheckedError, check_same, run_checks
from captum_lkn.attribution.reading_check import check_reading
from captum_lkn.models.arguments import Arguments
from captum_lkn.models.fingerprint import fingerprint
from captum_lkn.models.hugging_face.facts import padding_token, settings_of
from captum_lkn.models.layers import LayerLike
from captum_lkn.models.model import Model
from captum_lkn.outputs.score import Score, ScoreLike
from captum_lkn.outputs.scores import resolve_score
from captum_lkn.outputs.targets import Target, TargetLike
from captum_lkn.players.players import Players
from captum_lkn.players.prepare import Baselines, FeatureMask, Inputs, prepare
from captum_lkn.values.evaluator import Evaluator

__all__ = ["check_model"]

_MASKS = 16  # random masks a sample


@checked("example", "layer", "target", "verbose")
def check_model(
    forward_func: Callable[..., Any],
    example: Inputs,
    *,
    baselines: Baselines = None,
    target: TargetLike = "predicted",
    additional_forward_args: Any = None,
    feature_mask: FeatureMask = None,
    score: ScoreLike = "log_odds",
    layer: LayerLike | None = None,
    verbose: bool = True,
) -> tuple[Check, ...]:
    """Check that masked evaluation of a model gives the values of the model that was called.

    Args:
        forward_func: As in :class:`captum_lkn.AndOrInteraction`.
        example: Inputs of at least two different samples, better of different lengths, padded.
        baselines: As in :meth:`captum_lkn.AndOrInteraction.attribute`, like the next three.
        target: The output that is explained.
        additional_forward_args: Further arguments of the forward.
        feature_mask: The player of each scalar.
        score: As in :class:`captum_lkn.AndOrInteraction`.
        layer: The layer whose pooling is compared with what the head reads: one behind which tokens are not mixed.
            None: the last block of a list of blocks.
        verbose: Whether to print a line for each property.

    Returns:
        The properties, with the reason for each that does not hold.

    Raises:
        TypeError: An argument of the wrong type.
        ValueError: An argument that does not fit.

    Example:
        >>> checks = check_model(lambda x: x.sum(1), torch.ones(2, 3), target=None, score="logit")
        ok          the unmasked forward gives one row a sample, and the target fits
        ok          the same inputs give the same values again
        ok          masked copies give the same values together and alone, and finite ones
        ok          the score reads the target's place in the output
        ok          a sample has the same values without the others
        not checked padding of the batch does not change a sample: give token ids with an attention mask
        not checked layers are read where the head reads: the forward is a function
        not checked the model is left as it was: the forward is a function
        >>> all(check.holds is not False for check in checks)
        True
    """
    model, found = Model(forward_func), resolve_score(score)
    tokenizer = getattr(model.forward_func, "tokenizer", None)
    players, arguments = prepare(example, baselines, additional_forward_args, feature_mask, None, tokenizer)
    before = None if model.module is None else _state(model)

    def evaluator(some: Players = players, given: Arguments = arguments, wanted: TargetLike = target) -> Evaluator:
        return Evaluator(model, some, given, target=wanted, score=found)

    def unmasked() -> None:
        with evaluator() as one:
            if one.whole_batch:
                raise ValueError("it gives one value for the whole batch: masks cannot share a forward")

    def again() -> None:
        with evaluator() as one, evaluator() as other:
            check_same(one.unmasked, other.unmasked, one.epsilon)

    def masked() -> None:
        samples, masks = _masks(players)
        with evaluator() as one:
            values = one.values(samples, masks)
            one.check_finite(samples, masks, values)
            if one.aligned:
                raise ValueError("it only takes the batch as it was given: wrap arguments that are not rows in Fixed")

    def scored() -> None:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            with evaluator() as one:
                values, where, epsilon = one.unmasked, one.target, one.epsilon
        if one.whole_batch:
            raise NotCheckedError("it gives one value for the whole batch")
        _check_place(model, one.model.score_for_model(found), arguments, where, values, epsilon)
        doubts = [str(warning.message) for warning in told if f"score={found.name!r}" in str(warning.message)]
        doubts += [str(warning.message) for warning in told if f'score="{found.name}"' in str(warning.message)]
        if doubts:
            raise ValueError(doubts[0])

    def reading() -> None:
        if before is None:
            raise NotCheckedError("the forward is a function")
        with evaluator() as one:
            where = one.target
        check_reading(model, arguments, where, layer)

    def alone() -> None:
        if len(players) < 2:
            raise NotCheckedError("give an example of at least two samples")
        with evaluator() as one:
            together, targets, epsilon = one.unmasked, one.target.describe(), one.epsilon
        wanted: Any
        for sample, wanted in enumerate(targets):
            place = torch.tensor([sample], device="cpu")
            rows = arguments.rows(place, len(players))
            own = _sample(players, sample)
            only = tuple(wanted) if isinstance(wanted, list) else wanted
            with evaluator(own, replace(rows, inputs=own.inputs, unmasked=None), only) as one:
                check_same(together[[sample]], one.unmasked, epsilon, together)

    def padded() -> None:
        longer = _padded(players, arguments, model)
        with evaluator() as one:
            together, targets, epsilon = one.unmasked, one.target, one.epsilon
        on_left = bool((longer[1].keywords["attention_mask"][:, 0] == 0).all())
        added = longer[0].inputs[0].shape[1] - players.inputs[0].shape[1]
        wanted: Any = _moved(targets, players.inputs[0].shape[1], added * on_left)
        with evaluator(*longer, wanted) as one:
            check_same(together, one.unmasked, epsilon)

    def left() -> None:
        if before is None:
            raise NotCheckedError("the forward is a function")
        if _state(model) != before:
            raise ValueError("its parameters, buffers, flags, hooks or configuration, or the random state, changed")

    return run_checks(
        [
            ("the unmasked forward gives one row a sample, and the target fits", unmasked),
            ("the same inputs give the same values again", again),
            ("masked copies give the same values together and alone, and finite ones", masked),
            ("the score reads the target's place in the output", scored),
            ("a sample has the same values without the others", alone),
            ("padding of the batch does not change a sample", padded),
            ("layers are read where the head reads", reading),
            ("the model is left as it was", left),
        ],
        verbose,
    )


def _check_place(
    model: Model, score: Score, arguments: Arguments, target: Target, values: Tensor, epsilon: float
) -> None:
    """Check values ``[B, 1]`` against the score of rows that are taken out of the output by hand.

    Raises:
        ValueError: The values are others; or the columns are not as many as the model states that it has classes.
    """
    samples = torch.arange(len(values), device="cpu")
    with model.session():
        output, stated = model(arguments.rows(samples, len(samples)))
    counts = model.class_counts
    if score.compares_classes and stated is None and counts and target.n_outputs not in counts:
        raise ValueError(
            f"it compares {target.n_outputs} columns, and the model states {' or '.join(map(str, counts))}: say which "
            "dimension of the output holds the classes, SelectOutput(model, class_dim=...)"
        )
    output = output.reshape(len(samples), *target.shape)
    by_hand = []
    for sample, place in enumerate(target.indices.tolist()):
        row: tuple[Any, ...] = tuple(slice(None) if i == target.class_dim else at for i, at in enumerate(place))
        column = torch.tensor([place[target.class_dim]], device=output.device)
        by_hand.append(score(output[sample][row][None], column))
    check_same(values[:, 0], torch.cat(by_hand), epsilon)


def _masks(players: Players) -> tuple[Tensor, Tensor]:
    """Return random masks of each sample, with all players and with none among them."""
    columns, generator = max(players.sizes), torch.Generator("cpu").manual_seed(0)
    masks = torch.rand(len(players), _MASKS, columns, generator=generator, device="cpu") < 0.5
    masks[:, 0], masks[:, -1] = False, True
    return torch.arange(len(players), device="cpu").repeat_interleave(_MASKS), masks.flatten(0, 1)


def _sample(players: Players, sample: int) -> Players:
    """Return the players of one sample."""
    one = slice(sample, sample + 1)
    return Players(
        tuple(x[one] for x in players.inputs),
        tuple(x[one] for x in players.baselines),
        tuple(x[one] for x in players.owners),
        players.labels[one],
        players.names,
        background=players.background,
        decode=players.decode,
    )


def _padded(players: Players, arguments: Arguments, model: Model) -> tuple[Players, Arguments]:
    """Return the same samples with three more tokens of padding, as beside a longer text."""
    mask = arguments.keywords.get("attention_mask")
    pad = padding_token(model.inner)
    if players.names != ("input_ids",) or not isinstance(mask, Tensor) or mask.dim() != 2 or pad is None:
        raise NotCheckedError("give token ids with an attention mask")
    left = bool((mask[:, 0] == 0).any())

    def longer(x: Tensor, value: int) -> Tensor:
        more = x.new_full((len(x), 3), value)
        return torch.cat([more, x] if left else [x, more], dim=1)

    ids, same = players.inputs[0], players.inputs[0].shape
    keywords = {
        name: longer(x, 0) if isinstance(x, Tensor) and x.shape == same else x for name, x in arguments.keywords.items()
    }
    if "position_ids" in keywords:
        raise NotCheckedError("it has position_ids of its own")
    wide = Players(
        (longer(ids, int(pad)),),
        (longer(players.baselines[0], int(pad)),),
        (longer(players.owners[0], -1),),
        players.labels,
        players.names,
    )
    return wide, Arguments(wide.inputs, wide.names, arguments.positional, keywords)


def _moved(target: Target, length: int, by: int) -> list[Any]:
    """Return the target of each sample, where positions in a text of some length are larger by a number."""
    places = [dim for dim, size in enumerate(target.shape) if size == length and len(target.shape) > 1]
    if by and len(places) > 1:
        raise NotCheckedError(f"two dimensions of the output have the length of the text, {length}")
    moved = [[i + by * (dim in places) for dim, i in enumerate(own)] for own in target.indices.tolist()]
    return [tuple(own) if len(own) > 1 else own[0] for own in moved]


def _state(model: Model) -> tuple[Any, ...]:
    """Return what a call must leave as it was: weights, flags, settings, the number of hooks, the random state."""
    modules = [] if model.module is None else list(model.module.modules())
    return (
        None if model.module is None else fingerprint(model.module),
        [getattr(module, "training", None) for module in modules],
        [p.requires_grad for module in modules for p in module.parameters(recurse=False)],
        settings_of(model.inner),
        torch.get_rng_state().tolist(),
        [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in modules],
    )
