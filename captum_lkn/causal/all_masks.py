"""Results and plans of the evaluation of all masked copies of a prompt, or of a part of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

from captum_lkn.players.players import Players

__all__ = ["AllMasks", "MasksPlan", "PartOfMasks", "not_a_prompt", "plainly"]


class AllMasks(NamedTuple):
    """The result of :meth:`Continuation.all_masks`.

    Attributes:
        outputs: ``[2^n, 1]``, float64 on the CPU: the output for every subset; None if the plain evaluation is
            needed.
        evaluation: The method, for provenance: ``"evaluation"``, which is ``"prefix tree"`` or ``"plain"``; the number
            of ``"tokens"``; beside a tree's the ``"plain_tokens"`` it saves, else the ``"reason"``.
    """

    outputs: Tensor | None
    evaluation: dict[str, Any]


class PartOfMasks(NamedTuple):
    """The result of :meth:`Continuation.part_of_masks`.

    Attributes:
        subsets: Int64 ``[m]``, bit i = player i is present; None if the plain evaluation is needed.
        outputs: ``[m, 1]``, float64 on the CPU: the output for each; None likewise.
        evaluation: As in :class:`AllMasks`.
    """

    subsets: Tensor | None
    outputs: Tensor | None
    evaluation: dict[str, Any]


class MasksPlan(NamedTuple):
    """The result of :meth:`Continuation.plan_masks`.

    Attributes:
        forwards: The number of forwards; 0 where the plain evaluation is needed.
        tokens: The number of their tokens, without those of the few subsets that are compared; 0 likewise.
        plain_tokens: The number of tokens of the plain evaluation; 0 where it is not known.
        reason: The reason of the plain evaluation; empty with a prefix tree.
        begin: Evaluates the first leaves, compares some, and returns their number; 0 if they fail or differ.
    """

    forwards: int
    tokens: int
    plain_tokens: int
    reason: str
    begin: Callable[[], int]


def plainly(reason: str, tokens: int | None = None) -> AllMasks:
    """Return that the plain evaluation is needed, and why; `tokens` is the number of its tokens, if known."""
    counted = {} if tokens is None else {"tokens": tokens}
    return AllMasks(None, {"evaluation": "plain", "reason": reason} | counted)


def not_a_prompt(players: Players) -> str | None:
    """Return the reason if more than token ids is masked."""
    if len(players.inputs) != 1 or (players.names or ("input_ids",)) != ("input_ids",):
        return "more is masked than input_ids"
    return None if players.inputs[0].dim() == 2 else "its input_ids are not [B, T]"
