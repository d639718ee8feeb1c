"""Check a score or players of one's own, as scikit-learn's ``check_estimator`` checks an estimator."""

from __future__ import annotations

import torch
from torch import Tensor

from captum_lkn._common.arguments import checked
from captum_lkn.attribution.checking import Check, NotCheckedError, check_same, run_checks
from captum_lkn.outputs.score import ScoreLike
from captum_lkn.outputs.scores import resolve_score
from captum_lkn.players.players import Players

__all__ = ["check_players", "check_score"]


@checked("columns", "verbose")
def check_score(score: ScoreLike, columns: int | None = None, *, verbose: bool = True) -> tuple[Check, ...]:
    """Check that a score gives each row a finite number of its own, of the outputs that it says it reads.

    Args:
        score: As in :class:`captum_lkn.AndOrInteraction`.
        columns: The number of outputs C that it reads. None: 1 where one column tells two classes apart, else 3. One
            column is tried as well: a label by itself, or the only output of a model.
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
    if columns is not None and columns < 1:
        raise ValueError(f"columns must be at least 1 or None; got {columns}")
    columns = (1 if found.binary else 3) if columns is None else columns
    generator = torch.Generator("cpu").manual_seed(0)
    output = torch.randn(6, columns, generator=generator, device="cpu")
    target = torch.arange(6, device="cpu") % (2 if found.binary else columns)

    def shape() -> None:
        found(output, target)

    def rows() -> None:
        each = torch.cat([found(output[i : i + 1], target[i : i + 1]) for i in range(len(output))])
        check_same(found(output, target), each, 0.0)

    def again() -> None:
        check_same(found(output, target), found(output, target), 0.0)

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
        check_same(found(output, target), found(output + 3, target), torch.finfo(output.dtype).eps)

    def one_column() -> None:
        needed = found.reads == "classes"  # which labels are given to, each by itself
        try:
            values = found(output[:, :1], torch.zeros_like(target))
        except Exception as error:
            if needed:
                raise
            raise NotCheckedError(f"it does not take one ({error})") from None
        if bool((values == values[0]).all()):
            reason = f"any output [B, 1] scores {float(values[0]):.3g}"
            raise ValueError(reason) if needed else NotCheckedError(f"{reason}: not for models with one output")

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
    return run_checks(checks, verbose)


@checked("verbose")
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

    return run_checks(
        [
            ("all players present give the inputs", full),
            ("no player present changes all that players own, and only that", empty),
            ("each player owns a part of the inputs", owning),
            ("a player alone changes its own part", each),
            ("labels tell the players of a sample apart", labelled),
        ],
        verbose,
    )


def _equal(some: tuple[Tensor, ...], others: tuple[Tensor, ...], sample: int) -> None:
    for a, b in zip(some, others, strict=True):
        if not torch.equal(a, b):
            raise ValueError(f"they do not for sample {sample}")
