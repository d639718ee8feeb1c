"""Probabilities where a score reads logits: recognised and refused."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from captum_lkn._common.messages import count_of, kind_of
from captum_lkn._common.warn import warn
from captum_lkn.outputs.operands import check_output, to_float64
from captum_lkn.outputs.scores import Score

__all__ = ["looks_like_labels", "looks_like_probabilities", "refuse_probabilities"]

_SUM_TOLERANCE: Final = 1e-4
_SEVERAL: Final = 4  # games of 0 and 1, or of a few levels, are values
_ENOUGH: Final = 12  # fewer numbers may be small logits, all within 0 and 1 by chance


def looks_like_probabilities(output: Tensor) -> bool:
    """Return True if every row is nonnegative and sums to 1, within 1e-4 or the rounding of the output's dtype.

    The more rows there are, the less likely it is that logits do so by chance. One column is never taken for
    probabilities, since the output of a sigmoid cannot be told from a logit.

    Args:
        output: ``[B, C]``.

    Returns:
        False also if there are no rows, one column, or a NaN.

    Raises:
        TypeError: If `output` is not a real tensor.
        ValueError: If `output` is not ``[B, C]``.

    Example:
        >>> z = torch.tensor([[1.0, 2.0], [3.0, 0.0]])
        >>> looks_like_probabilities(z), looks_like_probabilities(z.softmax(1))
        (False, True)
    """
    check_output(output)
    if len(output) == 0 or output.shape[1] < 2:
        return False
    # Rounding changes each p by at most eps/2 of itself, hence their sum by eps/2: 4e-3 for bfloat16.
    rounding = torch.finfo(output.dtype).eps if output.is_floating_point() else 0.0
    p = to_float64(output)
    sums_to_one = (p.sum(1) - 1).abs() <= max(_SUM_TOLERANCE, rounding)
    return bool(sums_to_one.all() & (p >= 0).all())


def looks_like_labels(output: Tensor) -> bool:
    """Return True if every number is within 0 and 1, as the probabilities of several labels are.

    Args:
        output: ``[B, C]``.

    Returns:
        False also if there are no rows, one column, integers, or a NaN.

    Raises:
        TypeError: If `output` is not a real tensor.
        ValueError: If `output` is not ``[B, C]``.

    Example:
        >>> z = torch.tensor([[1.0, 2.0], [3.0, -1.0]])
        >>> looks_like_labels(z), looks_like_labels(z.sigmoid())
        (False, True)
    """
    check_output(output)
    if len(output) == 0 or output.shape[1] < 2 or not output.is_floating_point():
        return False
    return bool(((output >= 0) & (output <= 1)).all())


def _looks_like_one_label(output: Tensor) -> bool:
    """Return True if one column lies within 0 and 1, and takes several values in between."""
    if output.shape[1] != 1 or not output.is_floating_point() or not bool(((output >= 0) & (output <= 1)).all()):
        return False
    return len(set(output[(output > 0) & (output < 1)].tolist())) >= _SEVERAL


def _different(output: Tensor) -> int:
    """Return how many different numbers an output holds."""
    return len(set(output.flatten().tolist()))


def refuse_probabilities(score: Score, output: Tensor, *, linear: bool = False) -> None:
    """Raise an error if `score` reads logits and `output` is probabilities, of classes or of labels.

    To be called once, on a forward with many rows: if each row was checked alone, over thousands of masked copies,
    some rows of logits would be refused by chance. Rows that sum to 1 are refused however few they are. Several columns
    that are all within 0 and 1 are refused if there are at least 12 different numbers, and warned of if there are
    fewer. A score that reads values is never refused, nor is one column: that may be a regression's.

    Args:
        score: The score that is about to be applied.
        output: ``[B, C]``, as the score would get it.
        linear: True if a linear layer put them out. Such numbers may be within 0 and 1, and are still logits: those of
            an untrained layer often are.

    Raises:
        TypeError: If `output` is not a real tensor.
        ValueError: If the output is probabilities, with the ways out.

    Warns:
        UserWarning: One column, or fewer than 12 numbers of several, lie within 0 and 1, as behind a sigmoid.

    Example:
        >>> from captum_lkn.outputs.scores import logit
        >>> refuse_probabilities(logit, torch.tensor([[0.2, 0.8]]))
    """
    if score.reads not in ("classes", "labels"):
        return
    if looks_like_probabilities(output):
        seen, last_step = "all nonnegative with the sum 1", "softmax"
    elif not linear and looks_like_labels(output) and _different(output) >= _ENOUGH:
        seen, last_step = "all within 0 and 1", "sigmoid"
    else:
        if not linear and looks_like_labels(output):
            warn(
                f'score="{score.name}" takes the output {kind_of(output)} for logits, and all of its '
                f"{count_of(_different(output), 'different number')} lie within 0 and 1, as behind a sigmoid. If they "
                "are probabilities, return the logits"
            )
        if not linear and _looks_like_one_label(output):
            warn(
                f'score="{score.name}" takes the one column of the output {kind_of(output)} for a logit, and it lies '
                'within 0 and 1, as behind a sigmoid. If it is a probability, return the logit; score="logit" explains '
                "the number as it is"
            )
        return
    raise ValueError(
        f'score="{score.name}" reads logits, and the output {kind_of(output)} is probabilities already: '
        f"{count_of(len(output), 'row')}, {seen}. Either return logits (leave out the final {last_step}); or explain "
        'the probability as it is, with score="logit"; or give its log-odds as a callable, log(p) - log1p(-p) with '
        "p = output.gather(1, target[:, None]).squeeze(1). If they are logits all the same, give a callable: "
        f"lambda output, target: {score.name}(output, target)"
    )
