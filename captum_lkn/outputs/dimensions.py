"""Dimensions of an output with positions: the one that holds the classes.

A model returns classes last, ``[B, T, C]``, or second, ``[B, C, T]`` and ``[B, C, H, W]``. The logit of one output is
the same number either way; a score that compares classes must know.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from torch import Tensor

from captum_lkn._common.messages import kind_of, shape_of
from captum_lkn._common.warn import warn
from captum_lkn.outputs.scores import Score

__all__ = ["check_class_dim", "find_class_dim"]

_WAY_OUT = "SelectOutput(model, class_dim=1), or class_dim=-1 where classes come last"


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


def find_class_dim(output: Tensor, inputs: Sequence[Tensor], score: Score, counts: Collection[int] = ()) -> int:
    """Return the dimension of an output that holds the classes.

    One dimension behind the batch is it. Of several, it is the second or the last of the output: the one whose size is
    a number of classes that the model states, or else the one that leaves positions of the size of the inputs' own,
    such as ``[B, C, H, W]`` for images ``[B, 3, H, W]`` or ``[B, T, C]`` for token ids ``[B, T]``.

    Args:
        output: ``[B]``, ``[B, C]`` or ``[B, d1, ..., dk]``.
        inputs: The inputs, ``[B, ...]``.
        score: The score that reads the output.
        counts: Numbers of classes that the model states, such as the sizes of its head and of its vocabulary.

    Returns:
        The dimension, from 1.

    Raises:
        ValueError: The score compares classes, the output has two dimensions behind the batch, and both or none of
            them fit.

    Warns:
        UserWarning: The score compares classes, and the dimension is likely but not sure: of more than two dimensions
            the second one, as for ``torch.nn.CrossEntropyLoss``, where both or none fit.

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
    fits = [shape[0] in counts, shape[-1] in counts]
    clear = [True, True]
    if fits[0] == fits[1]:
        fits = [_fits_positions(sizes, inputs) for sizes in (shape[1:], shape[:-1])]
        clear = [_fits_last_dimensions(sizes, inputs) for sizes in (shape[1:], shape[:-1])]
    if fits[0] == fits[1] and last == 2 and score.compares_classes:
        raise ValueError(
            f'score="{score.name}" compares classes, and the output {kind_of(output)} may be [B, classes, positions] '
            f"or [B, positions, classes]. Say which dimension holds the classes: {_WAY_OUT}"
        )
    place = 0 if fits[0] or (fits[0] == fits[1] and last > 2) else 1
    if score.compares_classes and not (fits[0] != fits[1] and clear[place]) and set(shape[1:]) != {1}:
        warn(
            f'score="{score.name}" compares classes, and takes the {("second", "last")[place]} dimension of the output '
            f"{kind_of(output)} for them, {shape[-place]} classes. Say which dimension holds the classes: {_WAY_OUT}"
        )
    return (1, last)[place]


def _fits_positions(sizes: tuple[int, ...], inputs: Sequence[Tensor]) -> bool:
    """Return whether these are sizes of positions of an input: its first or its last dimensions behind the batch."""
    k = len(sizes)
    return _fits_last_dimensions(sizes, inputs) or any(sizes == tuple(x.shape[1 : 1 + k]) for x in inputs)


def _fits_last_dimensions(sizes: tuple[int, ...], inputs: Sequence[Tensor]) -> bool:
    """Return whether these are the last dimensions of an input, which are positions of images and of token ids.

    The first dimension of a sample may as well be the channels of a signal.
    """
    return any(sizes == tuple(x.shape[1:][-len(sizes) :]) for x in inputs)
