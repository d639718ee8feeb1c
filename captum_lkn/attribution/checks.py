"""Check a model, a score or players of one's own, as scikit-learn's ``check_estimator`` checks an estimator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from captum_lkn._common.rounding import agree
from captum_lkn.models.arguments import Arguments
from captum_lkn.models.fingerprint import fingerprint
from captum_lkn.models.hugging_face.facts import padding_token
from captum_lkn.models.model import Model
from captum_lkn.outputs.score import ScoreLike
from captum_lkn.outputs.scores import resolve_score
from captum_lkn.outputs.targets import TargetLike
from captum_lkn.players.players import Players
from captum_lkn.players.prepare import Baselines, FeatureMask, Inputs, prepare
from captum_lkn.values.evaluator import Evaluator

__all__ = ["Check", "check_model", "check_players", "check_score"]

_MASKS = 16  # random masks a sample


class Check(NamedTuple):
    """One checked property.

    Attributes:
        name: The property.
        holds: Whether it holds; None where it could not be checked.
        detail: The reason where it does not hold or was not checked, else empty.
    """

    name: str
    holds: bool | None
    detail: str = ""

    def __str__(self) -> str:
        mark = {True: "ok", False: "FAILS", None: "not checked"}[self.holds]
        return f"{mark:12}{self.name}{f': {self.detail}' if self.detail else ''}"


class _NotCheckedError(Exception):
    """Reason why a property could not be checked."""


def check_model(
    forward_func: Callable[..., Any],
    example: Inputs,
    *,
    baselines: Baselines = None,
    target: TargetLike = "predicted",
    additional_forward_args: Any = None,
    feature_mask: FeatureMask = None,
    score: ScoreLike = "log_odds",
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
        ok          a sample has the same values without the others
        not checked padding of the batch does not change a sample: give token ids with an attention mask
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
            _compare(one.unmasked, other.unmasked, one.epsilon)

    def masked() -> None:
        samples, masks = _masks(players)
        with evaluator() as one:
            values = one.values(samples, masks)
            one.check_finite(samples, masks, values)
            if one.aligned:
                raise ValueError("it only takes the batch as it was given: wrap arguments that are not rows in Fixed")

    def alone() -> None:
        if len(players) < 2:
            raise _NotCheckedError("give an example of at least two samples")
        with evaluator() as one:
            together, targets, epsilon = one.unmasked, one.target.describe(), one.epsilon
        wanted: Any
        for sample, wanted in enumerate(targets):
            place = torch.tensor([sample], device="cpu")
            rows = arguments.rows(place, len(players))
            own = _sample(players, sample)
            only = tuple(wanted) if isinstance(wanted, list) else wanted
            with evaluator(own, replace(rows, inputs=own.inputs, unmasked=None), only) as one:
                _compare(together[[sample]], one.unmasked, epsilon, together)

    def padded() -> None:
        longer = _padded(players, arguments, model)
        with evaluator() as one:
            together, targets, epsilon = one.unmasked, one.target, one.epsilon
        wanted: Any = [tuple(t) if isinstance(t, list) else t for t in targets.describe()]
        with evaluator(*longer, wanted) as one:
            _compare(together, one.unmasked, epsilon)

    def left() -> None:
        if before is None:
            raise _NotCheckedError("the forward is a function")
        if _state(model) != before:
            raise ValueError("its parameters, buffers, hooks or training flags changed during the checks")

    return _run(
        [
            ("the unmasked forward gives one row a sample, and the target fits", unmasked),
            ("the same inputs give the same values again", again),
            ("masked copies give the same values together and alone, and finite ones", masked),
            ("a sample has the same values without the others", alone),
            ("padding of the batch does not change a sample", padded),
            ("the model is left as it was", left),
        ],
        verbose,
    )


def check_score(score: ScoreLike, columns: int = 3, *, verbose: bool = True) -> tuple[Check, ...]:
    """Check that a score gives each row a finite number of its own, of the outputs that it says it reads.

    Args:
        score: As in :class:`captum_lkn.AndOrInteraction`.
        columns: The number of outputs C that it reads. One column is tried as well: a label by itself, or the only
            output of a model.
        verbose: Whether to print a line for each property.

    Returns:
        The properties, with the reason for each that does not hold.

    Raises:
        TypeError: `score` is neither a name nor a callable.
        ValueError: No score has that name.

    Example:
        >>> checks = check_score(lambda output, target: output.amax(1) - output.mean())
        ok          one real number a row
        FAILS       a row has the same score without the others: the values differ by up to 1.02
        ok          the same rows give the same scores again
        ok          outputs and targets are not written to
        ok          large outputs have finite scores
        ok          one column is scored by its value
    """
    found = resolve_score(score)
    generator = torch.Generator("cpu").manual_seed(0)
    output = torch.randn(6, columns, generator=generator, device="cpu")
    target = torch.arange(6, device="cpu") % (2 if found.binary else columns)

    def shape() -> None:
        found(output, target)

    def rows() -> None:
        each = torch.cat([found(output[i : i + 1], target[i : i + 1]) for i in range(len(output))])
        _compare(found(output, target), each, 0.0)

    def again() -> None:
        _compare(found(output, target), found(output, target), 0.0)

    def untouched() -> None:
        before = output.clone(), target.clone()
        found(output, target)
        if not (torch.equal(output, before[0]) and torch.equal(target, before[1])):
            raise ValueError("it writes to its arguments")

    def finite() -> None:
        values = found(1e4 * output, target)
        if not bool(values.isfinite().all()):
            raise ValueError(f"outputs of size 1e4 give {float(values[~values.isfinite()][0])}")

    def shifted() -> None:
        _compare(found(output, target), found(output + 3, target), torch.finfo(output.dtype).eps)

    def one_column() -> None:
        needed = found.reads == "classes"  # which labels are given to, each by itself
        try:
            values = found(output[:, :1], torch.zeros_like(target))
        except Exception as error:
            if needed:
                raise
            raise _NotCheckedError(f"it does not take one ({error})") from None
        if bool((values == values[0]).all()):
            reason = f"any output [B, 1] scores {float(values[0]):.3g}"
            raise ValueError(reason) if needed else _NotCheckedError(f"{reason}: not for models with one output")

    checks = [
        ("one real number a row", shape),
        ("a row has the same score without the others", rows),
        ("the same rows give the same scores again", again),
        ("outputs and targets are not written to", untouched),
        ("large outputs have finite scores", finite),
        ("one column is scored by its value", one_column),
    ]
    if found.reads == "classes":
        checks.append(("the same shift of all logits changes nothing", shifted))
    return _run(checks, verbose)


def check_players(players: Players, *, verbose: bool = True) -> tuple[Check, ...]:
    """Check that masked copies of players are what their masks say.

    Args:
        players: Any players, such as a new kind of them.
        verbose: Whether to print a line for each property.

    Returns:
        The properties, with the reason for each that does not hold.

    Raises:
        TypeError: `players` is not a :class:`captum_lkn.Players`.

    Example:
        >>> from captum_lkn import players_from_mask
        >>> checks = check_players(players_from_mask(torch.ones(1, 3)))
        ok          all players present give the inputs
        ok          no player present changes all that players own, and only that
        ok          each player owns a part of the inputs
        ok          a player alone changes its own part
        ok          labels tell the players of a sample apart
    """
    if not isinstance(players, Players):
        raise TypeError(f"players must be Players; got a {type(players).__name__}")

    def copies(sample: int, mask: Tensor) -> tuple[Tensor, ...]:
        return players.masked(sample, mask[None])

    def full() -> None:
        for sample, n in enumerate(players.sizes):
            _equal(
                copies(sample, torch.ones(n, dtype=torch.bool, device="cpu")),
                tuple(x[[sample]] for x in players.inputs),
                sample,
            )

    def empty() -> None:
        for sample, n in enumerate(players.sizes):
            expected = tuple(
                torch.where(owner[[sample]] >= 0, baseline[[sample]], x[[sample]])
                for x, baseline, owner in zip(players.inputs, players.baselines, players.owners, strict=True)
            )
            _equal(copies(sample, torch.zeros(n, dtype=torch.bool, device="cpu")), expected, sample)

    def owning() -> None:
        for sample, labels in enumerate(players.labels):
            owned = {i for owner in players.owners for i in owner[sample].flatten().tolist()}
            for player, label in enumerate(labels):
                if player not in owned:
                    raise ValueError(f"player {player} of sample {sample}, {label!r}, owns nothing")

    def each() -> None:
        for sample, n in enumerate(players.sizes):
            for player in range(n):
                mask = torch.arange(n, device="cpu") != player
                for copy, x, owner in zip(copies(sample, mask), players.inputs, players.owners, strict=True):
                    other = owner[sample] != player
                    if not torch.equal(copy[0][other], x[sample][other]):
                        raise ValueError(f"without player {player} of sample {sample} more than its part changes")

    def labelled() -> None:
        for sample, labels in enumerate(players.labels):
            twice = sorted({label for label in labels if labels.count(label) > 1})
            if twice:
                raise ValueError(f"sample {sample} has {twice[0]!r} more than once")

    return _run(
        [
            ("all players present give the inputs", full),
            ("no player present changes all that players own, and only that", empty),
            ("each player owns a part of the inputs", owning),
            ("a player alone changes its own part", each),
            ("labels tell the players of a sample apart", labelled),
        ],
        verbose,
    )


def _run(checks: Sequence[tuple[str, Callable[[], None]]], verbose: bool) -> tuple[Check, ...]:
    """Run checks, and return which hold; an error of any kind is the reason of one that does not."""
    found = []
    for name, check in checks:
        try:
            check()
            result = Check(name, True)
        except _NotCheckedError as reason:
            result = Check(name, None, str(reason))
        except Exception as error:  # of the user's own code, which is what is checked
            result = Check(name, False, str(error) or type(error).__name__)
        found.append(result)
        if verbose:
            print(result)
    return tuple(found)


def _compare(some: Tensor, others: Tensor, eps: float, scale: Tensor | None = None) -> None:
    """Check that two computations of values agree, up to rounding against the range of all values in `scale`."""
    base = some if scale is None else scale
    if not agree(torch.cat([base, some]), torch.cat([base, others.to(some)]), eps):
        raise ValueError(f"the values differ by up to {float((some - others.to(some)).abs().max()):.3g}")


def _equal(some: tuple[Tensor, ...], others: tuple[Tensor, ...], sample: int) -> None:
    for a, b in zip(some, others, strict=True):
        if not torch.equal(a, b):
            raise ValueError(f"they do not for sample {sample}")


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
        raise _NotCheckedError("give token ids with an attention mask")
    left = bool((mask[:, 0] == 0).any())

    def longer(x: Tensor, value: int) -> Tensor:
        more = x.new_full((len(x), 3), value)
        return torch.cat([more, x] if left else [x, more], dim=1)

    ids, same = players.inputs[0], players.inputs[0].shape
    keywords = {
        name: longer(x, 0) if isinstance(x, Tensor) and x.shape == same else x for name, x in arguments.keywords.items()
    }
    if "position_ids" in keywords:
        raise _NotCheckedError("it has position_ids of its own")
    wide = Players(
        (longer(ids, int(pad)),),
        (longer(players.baselines[0], int(pad)),),
        (longer(players.owners[0], -1),),
        players.labels,
        players.names,
    )
    return wide, Arguments(wide.inputs, wide.names, arguments.positional, keywords)


def _state(model: Model) -> tuple[Any, ...]:
    """Return what a call must leave as it was: weights, flags, and the number of hooks."""
    modules = [] if model.module is None else list(model.module.modules())
    return (
        None if model.module is None else fingerprint(model.module),
        [module.training for module in modules],
        [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in modules],
    )
