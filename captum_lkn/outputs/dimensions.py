"""Dimensions of an output with positions: the one that holds the classes.

A model returns classes last, ``[B, T, C]``, or second, ``[B, C, T]`` and ``[B, C, H, W]``. The logit of one output is
the same number either way; a score that compares classes must know.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal

from torch import Tensor

from captum_lkn._common.messages import kind_of, shape_of
from captum_lkn._common.warn import warn
from captum_lkn.outputs.score import Score

__all__ = ["check_class_dim", "find_class_dim", "is_map"]

_WAY_OUT = (
    "Say which dimension holds the classes: SelectOutput(model, class_dim=1), or class_dim=-1 where classes come last; "
    'or explain the number itself, with score="logit"'
)
_ENDS = 2  # start and end of an answer, before the positions


def check_class_dim(class_dim: int, output: Tensor) -> int:
    """Return a dimension of classes that the user gave, counted from 0.

    Args:
        class_dim: 1 or more, or negative, counted from the end.
        output: ``[B, d1, ..., dk]``.

    Raises:
        ValueError: The output has no such dimension behind the batch.
    """
    count = output.dim()
    place = class_dim + count if class_dim < 0 else class_dim
    if not 1 <= place < max(count, 2):
        raise ValueError(
            f"class_dim must be a dimension behind the batch of the output {shape_of(output)}, 1 to {count - 1} or -1 "
            f"to {1 - count}; got {class_dim}"
        )
    return place


def is_map(output: Tensor, inputs: Sequence[Tensor]) -> bool:
    """Return whether an output is a map of an image: a number a pixel, and no dimension of classes.

    Args:
        output: ``[B, ...]``.
        inputs: The inputs, ``[B, ...]``; those with a height and a width count, ``[B, C, H, W]`` or ``[B, H, W, C]``.

    Example:
        >>> import torch
        >>> is_map(torch.zeros(1, 8, 9), [torch.zeros(1, 3, 8, 9)])
        True
    """
    sizes = tuple(output.shape[1:])
    k = len(sizes)
    return k > 1 and any(sizes in (tuple(x.shape[2:])[-k:], tuple(x.shape[1:-1])) for x in inputs if x.dim() > 3)


def find_class_dim(output: Tensor, inputs: Sequence[Tensor], score: Score, counts: Collection[int] = ()) -> int:
    """Return the dimension of an output that holds the classes.

    One dimension behind the batch is it. Of several, it is the second or the last of the output: the one whose size is
    a number of classes that the model states, or else the one that leaves positions of the size of the inputs' own,
    such as ``[B, C, H, W]`` for images ``[B, 3, H, W]`` or ``[B, T, C]`` for token ids ``[B, T]``.

    Args:
        output: ``[B]``, ``[B, C]`` or ``[B, d1, ..., dk]``.
        inputs: The inputs, ``[B, ...]``. The columns of a table, floating ``[B, F]``, are not positions.
        score: The score that reads the output.
        counts: Numbers of classes that the model states, such as the sizes of its head and of its vocabulary.

    Returns:
        The dimension, from 1.

    Raises:
        ValueError: The score compares classes, and the output is a map, see :func:`is_map`; or it has two dimensions
            behind the batch of which both or none fit, or which may be those of start and end, ``[B, 2, T]``, or of
            tasks.

    Warns:
        UserWarning: The score compares classes, and the dimension is likely but not sure: of signals ``[B, C, T]`` and
            embeddings ``[B, T, D]``, whose dimensions are not told apart; of images with the channels last; and of
            more than two dimensions of which both or none fit, where it is the second, as for
            ``torch.nn.CrossEntropyLoss``.

    Example:
        >>> import torch
        >>> from captum_lkn.outputs.scores import log_odds
        >>> find_class_dim(torch.zeros(1, 5, 8, 8), [torch.zeros(1, 3, 8, 8)], log_odds)
        1
        >>> find_class_dim(torch.zeros(1, 8, 5), [torch.zeros(1, 8, dtype=torch.int64)], log_odds)
        2
    """
    shape, last = tuple(output.shape[1:]), output.dim() - 1
    if last < 2:
        return 1
    stated = [shape[0] in counts and (last > 2 or shape[0] > _ENDS), shape[-1] in counts]
    if stated[0] != stated[1]:
        return 1 if stated[0] else last
    if score.compares_classes and is_map(output, inputs):
        raise ValueError(
            f'score="{score.name}" compares classes, and the output {kind_of(output)} has the height and width of the '
            'image, and no dimension of classes. Explain the number of a pixel itself, with score="logit"; or, if one '
            "dimension holds classes all the same, say which: SelectOutput(model, class_dim=1), or class_dim=-1 where "
            "they come last"
        )
    fits = [_fits(positions, inputs) for positions in (shape[1:], shape[:-1])]
    one_fits = bool(fits[0]) != bool(fits[1])
    second = bool(fits[0]) if one_fits else last > 2
    # [B, K, T] of token ids [B, T] may hold classes of tokens, but also start and end, or tasks.
    unclear = last == 2 and (not one_fits or fits[0] == "sure")
    matters = score.compares_classes and set(shape) != {1}
    if matters and unclear:
        raise ValueError(
            f'score="{score.name}" compares classes, and the output {kind_of(output)} may be [B, classes, positions] '
            f"or [B, positions, classes]. {_WAY_OUT}"
        )
    one_position = second and set(shape[1:]) == {1}
    if matters and not one_position and not (one_fits and "sure" in fits):
        warn(
            f'score="{score.name}" compares classes, and takes the {"second" if second else "last"} dimension of the '
            f"output {kind_of(output)} for them, {shape[0 if second else -1]} classes. {_WAY_OUT}"
        )
    return 1 if second else last


def _fits(sizes: tuple[int, ...], inputs: Sequence[Tensor]) -> Literal["sure", "likely", ""]:
    """Return whether these are sizes of positions of an input: surely, likely or not."""
    k = len(sizes)
    if k == 1:
        if any(x.dim() == 2 and not x.is_floating_point() and sizes == tuple(x.shape[1:]) for x in inputs):
            return "sure"  # token ids
        return "likely" if any(x.dim() == 3 and sizes[0] in x.shape[1:] for x in inputs) else ""
    if any(sizes == tuple(x.shape[1:])[-k:] for x in inputs):
        return "sure"
    return "likely" if any(sizes == tuple(x.shape[1 : 1 + k]) for x in inputs) else ""
