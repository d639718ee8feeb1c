"""The class that ``"predicted"`` stands for, which need not be the column with the largest output."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from captum_lkn._common.messages import kind_of
from captum_lkn.models.model import Model
from captum_lkn.outputs.targets import Target, TargetLike
from captum_lkn.values.forwards import MaskedForwards

__all__ = ["as_predicted", "own_prediction"]


def own_prediction(
    model: Model, forwards: MaskedForwards, target: TargetLike, outputs: Tensor, samples: Tensor, masks: Tensor
) -> TargetLike:
    """Return the classes that a model itself predicts, where ``"predicted"`` is asked for and it has a way of its own.

    An estimator with a threshold, or one that counts votes, predicts other classes than that of the largest column.

    Args:
        model: The model.
        forwards: Its masked copies.
        target: As given.
        outputs: The outputs ``[R, ...]`` on which the target is resolved.
        samples: Int64 ``[R]``, the sample of each row.
        masks: Bool ``[R, n_max]``.

    Returns:
        The same target for anything else.

    Raises:
        ValueError: The outputs are several plain values, of which none is predicted.
    """
    if not isinstance(target, str) or target != "predicted":
        return target
    if model.output_kind == "values" and math.prod(outputs.shape[1:]) > 1:
        raise ValueError(
            f"target must be the number of one of the plain values {kind_of(outputs)} that {model.name} returns, a "
            'regression of several; got "predicted", which is the class of a classifier. Give target=0 to '
            f"{outputs.shape[-1] - 1}, or a list with one a sample"
        )
    if not model.predicts_itself:
        return target
    classes = torch.cat(forwards.run(samples, masks, lambda own, some: model.predicted(forwards.copies(own, some))))
    return [int(c) for c in classes.tolist()]


def as_predicted(target: Target, model: Model, outputs: Tensor) -> Target:
    """Return a resolved target of predicted classes; of labels only where each is more likely than not.

    Args:
        target: The target of each sample.
        model: The model.
        outputs: The outputs on which it was resolved.
    """
    if model.output_kind != "labels":
        return replace(target, predicted=True)
    rows, classes = target.select(outputs, torch.arange(len(outputs), device=outputs.device))
    return replace(target, predicted=bool((rows.gather(1, classes[:, None]) > 0).all()))
