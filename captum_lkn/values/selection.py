"""Select the players with the largest effects out of many.

2^n masks are too many for the 40 words of a sentence or the 196 patches of an image. A first pass of 2n + 3 masks ranks
the players, and the first k are the players of the interactions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from captum_lkn._common.arguments import checked
from captum_lkn._common.checks import is_one_of, is_whole
from captum_lkn._common.messages import SHOWN, count_of, kind_of, some_of
from captum_lkn._common.progress import Bar, is_hidden
from captum_lkn._common.warn import warn
from captum_lkn.interactions.labels import distinct_labels
from captum_lkn.interactions.layout import BACKGROUND
from captum_lkn.models.model import Model
from captum_lkn.outputs.score import ScoreLike
from captum_lkn.outputs.scores import resolve_score
from captum_lkn.outputs.targets import Target, TargetLike
from captum_lkn.players.players import Players, compact
from captum_lkn.players.prepare import prepare
from captum_lkn.values.evaluator import Evaluator

__all__ = ["Choice", "Rest", "SelectedPlayers", "select_players"]

Rest = Literal["keep", "mask"]
_RESTS = ("keep", "mask")
_MAX_RANKED = 256


class Choice(NamedTuple):
    """Selection out of the n players of one sample.

    Attributes:
        kept: The numbers, among the n, of the players that were kept; ascending.
        left_out: The labels of the others, in their order; repeated ones of the n with the number of their occurrence.
        strengths: Float64 ``[n]`` on the CPU, in the unit of the score: the numbers that the players were ranked by.
        explained: The share of v(N) - v(empty) that the kept players explain; NaN where v(N) = v(empty). It may be
            negative or above 1.
    """

    kept: tuple[int, ...]
    left_out: tuple[str, ...]
    strengths: Tensor
    explained: float


@dataclass(frozen=True, eq=False)
class SelectedPlayers(Players):
    """Players selected out of a larger number, and a record of the others; made by :func:`select_players`.

    Attributes:
        choices: The selection of each sample.
        rest: The state of the others in all masked copies: ``"keep"``, present; ``"mask"``, absent.
    """

    choices: tuple[Choice, ...] = ()
    rest: Rest = "keep"

    def __repr__(self) -> str:
        lines = [f"  sample {i}: {self._sentence(choice)}" for i, choice in enumerate(self.choices[:SHOWN])]
        return "\n".join([Players.__repr__(self), *lines])

    def _sentence(self, choice: Choice) -> str:
        if not choice.left_out:
            return f"all {count_of(len(choice.kept), 'player')} are kept"
        share = f"{100 * choice.explained:.0f} % of v(N) - v(empty) explained"
        if math.isnan(choice.explained):
            share = "v(N) = v(empty)"
        others = "stay visible" if self.rest == "keep" else "are masked for good"
        return (
            f"{len(choice.kept)} of {len(choice.strengths)} players kept, {share}; "
            f"the others {others}: {some_of(choice.left_out)}"
        )


@checked("most", "show_progress")
def select_players(
    forward_func: Callable[..., Any],
    players: Players,
    k: int = 12,
    *,
    target: TargetLike = "predicted",
    score: ScoreLike = "log_odds",
    rest: Rest = "keep",
    most: int = _MAX_RANKED,
    additional_forward_args: Any = None,
    perturbations_per_eval: int | None = None,
    show_progress: bool = False,
) -> SelectedPlayers:
    r"""Keep the k players with the largest effects, and make the others background.

    Player i is ranked by the mean of two absolute effects, from 2n + 3 masked copies a sample::

        ( |v(N) - v(N \ {i})|  +  |v({i}) - v(empty)| ) / 2

    The first is large for players that are needed (``not`` and ``good``, where only both together count), the second
    for players that are enough (``bad`` or ``dull``, where one has the effect of both). Both are small for players that
    act only in pairs of which there are several: then the explained share is far from 1 (as it also is where v(N) is
    close to v(empty)). The selection is made for each sample by itself; the order of the players stays, and of equally
    strong ones the earlier are kept.

    The interactions are those of the kept players alone, and exact. ``attribute(..., n_samples=4000)`` would say what
    all players do together, from sampled masks, with errors and with an R^2 that says how well it explains them.

    Args:
        forward_func: An ``nn.Module``, any callable, or a Hugging Face model.
        players: Any number of players.
        k: The number of players to keep in each sample; with fewer players all are kept.
        target: Captum's kinds, or ``"predicted"``; resolved on the unmasked samples.
        score: As in :class:`captum_lkn.AndOrInteraction`.
        rest: The state of the others in all masked copies: ``"keep"``, they stay present; ``"mask"``, they are replaced
            by their baselines.
        most: More players than this are refused before any forward: of very many the effect of each by itself is
            small, and k of them explain little.
        additional_forward_args: A tuple (or a single thing) passed on by position behind the inputs, or a mapping, by
            keyword.
        perturbations_per_eval: Masks a forward, times the number of samples; None: by a rule, from the size of the
            inputs.
        show_progress: Whether to show a bar.

    Returns:
        Players, at most k a sample. A label that several of the n have gets the number of its occurrence, also where
        one of them is kept. ``choices`` holds the labels of the others and the explained share, ``(v(N') -
        v(empty')) / (v(N) - v(empty))`` with the kept players N'; ``description["selection"]`` holds the same as JSON.

    Raises:
        TypeError: An argument of the wrong type.
        ValueError: An argument that does not fit; probabilities where the score reads logits; a value that is not
            finite; a forward that does not return one row a masked copy.

    Warns:
        UserWarning: A model in training mode; kept players that explain less than 0 or more than 200 %;
            with ``rest="mask"``, a prediction that changes when the others are masked.

    Example:
        >>> from captum_lkn import players_from_mask
        >>> def either_and_both(x):  # x1 or x2, and x5 and x6
        ...     return torch.maximum(x[:, 1], x[:, 2]) + 2 * x[:, 5] * x[:, 6]
        >>> many = players_from_mask(torch.ones(1, 8))
        >>> select_players(either_and_both, many, k=4, target=None, score="logit")
        Players of 1 sample; masked: float32 [1, 8]
          sample 0, 4 players: 1 | 2 | 5 | 6
          sample 0: 4 of 8 players kept, 100 % of v(N) - v(empty) explained; the others stay visible: 0, 3, 4, 7
    """
    _check(players, k, rest, most)
    model = Model(forward_func)
    _, arguments = prepare(players, None, additional_forward_args, None, None)
    evaluator = Evaluator(
        model,
        players,
        arguments,
        target=target,
        score=resolve_score(score),
        perturbations_per_eval=perturbations_per_eval,
    )
    everyone, (samples, masks) = torch.arange(len(players), device="cpu"), _first_pass(players.sizes)
    total = len(samples) + 2 * len(players)
    with evaluator, Bar(total=total, desc="first pass", unit="mask", disable=is_hidden(show_progress)) as bar:
        evaluator.check_samples_apart()
        bar.update(len(players))
        v_full = evaluator.unmasked[:, 0].double().cpu()
        each = evaluator.values(samples, masks, advance=bar.update).double().cpu()
        evaluator.check_finite(samples, masks, each)
        values = torch.split(each[:, 0], [2 * n + 1 for n in players.sizes])
        strengths = [_strengths(full, own) for full, own in zip(v_full, values, strict=True)]
        kept = [_strongest(own, k) for own in strengths]
        # The part of v(N) - v(empty) that the kept players explain: v(N) less v of the others, or v of the kept ones.
        parts = _padded([own if rest == "mask" else ~own for own in kept])
        v_part = evaluator.values(everyone, parts, advance=bar.update)[:, 0].double().cpu()
        v_empty = torch.stack([x[0] for x in values])
        evaluator.check_finite(everyone, parts, v_part[:, None])
        if rest == "mask" and evaluator.target.predicted:
            others = evaluator.resolve("predicted", evaluator.outputs(everyone, parts), everyone, parts)
            _warn_of_another_prediction(evaluator.target, others)
    part = v_part - v_empty if rest == "mask" else v_full - v_part
    shares = torch.where(v_full == v_empty, math.nan, part / (v_full - v_empty))
    _warn_of_poor_shares(shares, k, max(players.sizes))
    labels = tuple(map(distinct_labels, players.labels))
    choices = tuple(map(_choice, labels, kept, strengths, shares.tolist()))
    return _selected(players, choices, rest)


def _check(players: Any, k: Any, rest: Any, most: int) -> None:
    if not isinstance(players, Players):
        raise TypeError(
            f"players must be Players; got {kind_of(players)}. Make them with text_players or players_from_mask"
        )
    if not is_whole(k):
        raise TypeError(f"k must be an int, the number of players to keep; got {k!r}")
    if k < 1:
        raise ValueError(f"k must be at least 1, the number of players to keep; got {k}")
    if not is_one_of(rest, _RESTS):
        raise ValueError(f'rest must be "keep" (the others stay present) or "mask" (they are absent); got {rest!r}')
    if rest == "mask" and players.background:
        raise ValueError(
            'rest must be "keep" for players with a background, of which no row replaces the others for good'
        )
    n = max(players.sizes)
    if n > most:
        raise ValueError(
            f"sample {players.sizes.index(n)} has {n} players, which would take {2 * n + 3} masked copies, and "
            f"k={k} of so many explain little; at most {most} are ranked. Group them first (feature_mask, phrases or "
            f"sentences), or give most={n}"
        )


def _warn_of_poor_shares(shares: Tensor, k: int, most: int) -> None:
    """Warn where the kept players explain less than nothing, or more than twice v(N) - v(empty)."""
    poor = ((shares < 0) | (shares > 2)).nonzero().flatten().tolist()
    if poor:
        told = [f"{i} ({100 * float(shares[i]):.0f} %)" for i in poor]
        warn(
            f"the {k} kept players do not explain v(N) - v(empty) of sample {some_of(told)}: keep more of them, group "
            "players that act together (feature_mask, phrases or sentences) before the selection, or give attribute "
            f"all {most} players with n_samples={max(4000, 100 * most)}, which samples masks of them"
        )


def _first_pass(sizes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return samples ``[R]`` and masks ``[R, n_max]``: of each sample no player, all but one, one alone."""
    masks = []
    for n in sizes:
        alone = torch.eye(n, dtype=torch.bool, device="cpu")
        masks.append(torch.cat([torch.zeros(1, n, dtype=torch.bool, device="cpu"), ~alone, alone]))
    samples = torch.arange(len(sizes), device="cpu").repeat_interleave(
        torch.tensor([len(own) for own in masks], device="cpu")
    )
    return samples, torch.cat([pad(own, (0, max(sizes) - own.shape[1])) for own in masks])


def _padded(masks: Sequence[Tensor]) -> Tensor:
    """Return one mask ``[n]`` a sample as the rows of ``[B, n_max]``."""
    return pad_sequence(list(masks), batch_first=True)


def _strengths(v_full: Tensor, values: Tensor) -> Tensor:
    v_empty, (without, alone) = values[0], values[1:].chunk(2)
    return ((v_full - without).abs() + (alone - v_empty).abs()) / 2


def _strongest(strengths: Tensor, k: int) -> Tensor:
    """Return a mask of the k strongest, bool ``[n]``."""
    chosen = torch.zeros(len(strengths), dtype=torch.bool, device="cpu")
    chosen[strengths.argsort(descending=True, stable=True)[:k]] = True
    return chosen


def _warn_of_another_prediction(full: Target, part: Target) -> None:
    others = [i for i, same in enumerate((full.classes == part.classes).tolist()) if not same]
    if others:
        warn(
            f"with the left-out players masked the model predicts another class for {some_of(others)} of "
            f"{count_of(len(full.classes), 'sample')}: give the methods target={full.describe()}, the class that the "
            'players were chosen for, and not "predicted"'
        )


def _choice(labels: tuple[str, ...], kept: Tensor, strengths: Tensor, explained: float) -> Choice:
    stays = kept.tolist()
    left_out = tuple(label for label, stay in zip(labels, stays, strict=True) if not stay)
    return Choice(tuple(i for i, stay in enumerate(stays) if stay), left_out, strengths, explained)


def _selected(players: Players, choices: tuple[Choice, ...], rest: Rest) -> SelectedPlayers:
    """Return the kept players; the scalars of the others become background."""
    parts = {field.name: getattr(players, field.name) for field in fields(Players)}
    parts["owners"] = tuple(_renumbered(owner, choices) for owner in players.owners)
    parts["labels"] = tuple(
        # "it[3]" stays the third one of the text, whichever others are kept.
        tuple(distinct_labels(labels)[i] for i in choice.kept)
        for labels, choice in zip(players.labels, choices, strict=True)
    )
    if rest == "mask":
        copies = [players.masked(sample, _row(choice)) for sample, choice in enumerate(choices)]
        parts["inputs"] = tuple(torch.cat(each) for each in zip(*copies, strict=True))
    parts["description"] = {
        **players.description,
        "selection": [
            {
                "kept": len(choice.kept),
                "of": len(choice.strengths),
                "rest": rest,
                "left_out": list(choice.left_out),
                "explained": choice.explained if math.isfinite(choice.explained) else None,
            }
            for choice in choices
        ],
    }
    return SelectedPlayers(**parts, choices=choices, rest=rest)


def _row(choice: Choice) -> Tensor:
    """Return the mask with the kept players alone, ``[1, n]``."""
    mask = torch.zeros(1, len(choice.strengths), dtype=torch.bool, device="cpu")
    mask[0, list(choice.kept)] = True
    return mask


def _renumbered(owner: Tensor, choices: tuple[Choice, ...]) -> Tensor:
    """Return owners numbered among the kept players, -1 for the others."""
    small = compact(owner)
    parts = []
    for choice, own in zip(choices, small.expand(len(choices), *small.shape[1:]), strict=True):
        # The last place is read by the background's -1.
        places = torch.full((len(choice.strengths) + 1,), BACKGROUND, device="cpu")
        places[list(choice.kept)] = torch.arange(len(choice.kept), device="cpu")
        parts.append(places.to(own.device)[own])
    return torch.stack(parts).expand(owner.shape)
