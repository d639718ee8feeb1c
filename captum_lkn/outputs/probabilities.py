"""Probabilities where a score reads logits: recognised and refused."""

from __future__ import annotations

from typing import Final, Literal

import torch
from torch import Tensor

from captum_lkn._common.messages import count_of, kind_of
from captum_lkn._common.warn import warn
from captum_lkn.outputs.operands import check_output, to_float64
from captum_lkn.outputs.score import Score

__all__ = [
    "looks_like_labels",
    "looks_like_probabilities",
    "refuse_numbers_of_classes",
    "refuse_probabilities",
    "unit_of",
]

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


def refuse_probabilities(score: Score, output: Tensor, *, linear: bool = False) -> None:
    """Raise an error if `score` reads logits and `output` is probabilities, of classes or of labels.

    To be called once, on many rows: if each row was checked alone, over thousands of masked copies, some rows of logits
    would be refused by chance. Rows that sum to 1 are refused however few they are. Columns that are all within 0 and 1
    are refused if there are at least 12 different numbers, and warned of if there are fewer. One column may also be a
    regression's, which a score in the unit of the outputs explains as it is: then there is a warning. A score that
    reads values is never refused.

    Args:
        score: The score that is about to be applied.
        output: ``[B, C]``, as the score would get it.
        linear: True if a linear layer put them out. Such numbers may be within 0 and 1, and are still logits: those of
            an untrained layer often are.

    Raises:
        TypeError: If `output` is not a real tensor.
        ValueError: If the output is probabilities, with the ways out.

    Warns:
        UserWarning: One column, which a regression may put out, or fewer than 12 numbers lie within 0 and 1, as behind
            a sigmoid.

    Example:
        >>> from captum_lkn.outputs.scores import logit
        >>> refuse_probabilities(logit, torch.tensor([[0.2, 0.8]]))
    """
    last_step = _last_step(output, linear)
    if not score.reads_logits or not last_step:
        return
    different = len(set(output.flatten().tolist()))
    few = last_step == "sigmoid" and different < _ENOUGH
    if output.shape[1] == 1 and (few or score.in_output_units):
        warn(
            f'score="{score.name}" takes the one column of the output {kind_of(output)} for a logit, and it lies '
            'within 0 and 1, as behind a sigmoid. If it is a probability, return the logit; score="logit" explains '
            "the number as it is"
        )
        return
    if few:
        numbers = count_of(different, "different number")
        warn(
            f'score="{score.name}" takes the output {kind_of(output)} for logits, and all of its {numbers} lie within '
            '0 and 1, as behind a sigmoid. If they are probabilities, return the logits; score="logit" explains the '
            "number as it is"
        )
        return
    seen = "all nonnegative with the sum 1" if last_step == "softmax" else "all within 0 and 1"
    ways_out = [f"return logits (leave out the final {last_step})"]
    ways_out.append('or explain the probability as it is, with score="logit"')
    if score.binary:
        insist = 'If they are logits all the same, those of class 1 are explained with score="logit"'
    else:
        ways_out.append(
            "or give its log-odds as a callable, log(p) - log1p(-p) with p = output.gather(1, target[:, None])"
            ".squeeze(1)"
        )
        insist = (
            f"If they are logits all the same, give a callable: lambda output, target: {score.name}(output, target)"
        )
    raise ValueError(
        f'score="{score.name}" reads logits, and the output {kind_of(output)} is probabilities already: '
        f"{count_of(len(output), 'row')}, {seen}. Either {'; '.join(ways_out)}. {insist}"
    )


def refuse_numbers_of_classes(score: Score, output: Tensor) -> None:
    """Raise an error if `score` reads logits and `output` holds whole numbers, as behind an argmax.

    Args:
        score: The score that is about to be applied.
        output: ``[B, ...]``.

    Raises:
        ValueError: See above, with the ways out.

    Example:
        >>> from captum_lkn.outputs.scores import log_odds
        >>> refuse_numbers_of_classes(log_odds, torch.tensor([[0.2, 0.8]]))
    """
    if score.reads_logits and not output.is_floating_point():
        raise ValueError(
            f'score="{score.name}" reads logits, and the output {kind_of(output)} is whole numbers, as the numbers of '
            "the classes behind an argmax. Return the logits; if they are values to be explained as they are, give "
            'score="logit"'
        )


def unit_of(score: Score, output: Tensor, *, linear: bool = False) -> str:
    """Return the unit of a score of an output: none where the score has the outputs' unit, and they are not logits.

    Args:
        score: The score.
        output: ``[B, C]``, many rows as the score gets them.
        linear: True if a linear layer put them out.

    Example:
        >>> from captum_lkn.outputs.scores import logit
        >>> unit_of(logit, torch.tensor([[0.2, 0.8]])), unit_of(logit, torch.tensor([[2.0, 8.0]]))
        ('', 'logit')
    """
    if score.reads_logits or not _last_step(output, linear):
        return score.unit
    return score.of_other_outputs().unit


def _last_step(output: Tensor, linear: bool) -> Literal["softmax", "sigmoid", ""]:
    """Return the step behind which these outputs seem to lie; empty: they may be logits or values."""
    if looks_like_probabilities(output):
        return "softmax"
    if linear:
        return ""
    return "sigmoid" if looks_like_labels(output) or _looks_like_one_label(output) else ""


def _looks_like_one_label(output: Tensor) -> bool:
    """Return True if one column lies within 0 and 1, with several values in between or with all of them there.

    Games of 0, 1 and few levels between them are values.
    """
    if len(output) == 0 or output.shape[1] != 1 or not output.is_floating_point():
        return False
    if not bool(((output >= 0) & (output <= 1)).all()):
        return False
    inside = (output > 0) & (output < 1)
    return bool(inside.all()) or len(set(output[inside].tolist())) >= _SEVERAL
