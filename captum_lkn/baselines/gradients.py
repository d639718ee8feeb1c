"""Strength of the interactions of samples as a function of their baseline, and its gradient.

The values of all masks are one graph. Where a sample's masks take several forwards, each is computed once more for its
gradient, which keeps memory small; where memory runs out all the same, half as many masks have a forward.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from captum_lkn._common.messages import dtype_of, shape_of
from captum_lkn.decomposition import lattice
from captum_lkn.values.evaluator import Evaluator

__all__ = ["broadcast", "settle", "strength_gradient"]


def settle(evaluator: Evaluator, vector: Tensor) -> None:
    """Find out without gradients which forwards the model takes, and how many rows memory holds.

    What fails then must not be a part of a forward that is recomputed.

    Args:
        evaluator: An open evaluator.
        vector: The baseline.
    """
    players = evaluator.players
    masks = lattice.members(torch.arange(1 << players.sizes[0], device="cpu"), max(players.sizes))[: evaluator.rows]
    with torch.no_grad():
        _values(evaluator, vector, 0, masks)


def strength_gradient(evaluator: Evaluator, vector: Tensor) -> tuple[Tensor, float, float]:
    """Return the gradient of the strength, the strength itself, and the reach; means over the samples.

    Args:
        evaluator: An open evaluator, after :func:`settle`.
        vector: The baseline, which requires a gradient.

    Raises:
        ValueError: The values have no gradient, or it or they are not finite.
    """
    gradient, strength, reach = torch.zeros_like(vector), 0.0, 0.0
    samples = len(evaluator.players)
    for sample in range(samples):
        part, own, distance = _gradient_of(evaluator, vector, sample)
        gradient += part / samples
        strength += own / samples
        reach += distance / samples
    return gradient, strength, reach


def _gradient_of(evaluator: Evaluator, vector: Tensor, sample: int) -> tuple[Tensor, float, float]:
    """Return the same for one sample, with half as many masks in a forward each time that memory runs out."""
    masks, forwards = 1 << evaluator.players.sizes[sample], evaluator.masked_forwards
    while True:
        rows = min(evaluator.rows, masks)
        try:
            return _gradient_at_once(evaluator, vector, sample)
        except (RuntimeError, MemoryError) as error:
            if not forwards.may_halve(error, rows):
                raise
        forwards.halve(rows)  # behind the error, which keeps what was computed


def _gradient_at_once(evaluator: Evaluator, vector: Tensor, sample: int) -> tuple[Tensor, float, float]:
    """Return gradient, strength and reach of one sample, with as many masks in a forward as there may be now."""
    with torch.enable_grad():
        values = _table(evaluator, vector, sample)
        strength = lattice.and_transform(values)[1:].abs().sum()
    if not values.requires_grad:
        raise ValueError(
            "the model's values have no gradient with respect to its inputs: give a differentiable forward, "
            "without torch.no_grad() and .detach() in it"
        )
    if not bool(strength.isfinite()):
        raise ValueError(
            f"the values of sample {sample} are not all finite: look at what the model returns for it under its "
            "baseline, or give a smaller learning_rate="
        )
    (gradient,) = torch.autograd.grad(strength, vector)
    if not bool(gradient.isfinite().all()):
        raise ValueError(
            f"the gradient of the values of sample {sample} is not finite in {dtype_of(evaluator.players.inputs[0])}: "
            "call .float() on model and inputs"
        )
    return gradient, float(strength), float((values[-1] - values[0]).abs())


def _table(evaluator: Evaluator, vector: Tensor, sample: int) -> Tensor:
    """Return all values of one sample, float64 ``[2^n]`` on the CPU, as a function of the baseline."""
    n, columns = evaluator.players.sizes[sample], max(evaluator.players.sizes)
    masks = torch.split(lattice.members(torch.arange(1 << n, device="cpu"), columns), evaluator.rows)
    if len(masks) == 1:
        return _values(evaluator, vector, sample, masks[0])
    # Activations are kept for one part at a time, and recomputed when its gradient is wanted.
    return torch.cat([checkpoint(_values, evaluator, vector, sample, own, use_reentrant=False) for own in masks])


def _values(evaluator: Evaluator, vector: Tensor, sample: int, masks: Tensor) -> Tensor:
    """Return values of one sample, float64 ``[R]`` on the CPU, as a function of the baseline."""
    baseline = broadcast(vector, evaluator.players.inputs[0])
    samples = torch.full((len(masks),), sample, device="cpu")
    return evaluator.values(samples, masks, (baseline,))[:, 0].cpu().double()


def broadcast(vector: Tensor, x: Tensor) -> Tensor:
    """Return a baseline in the shape, the dtype and on the device of the inputs.

    Raises:
        ValueError: It does not broadcast to them.
    """
    try:
        return vector.to(x).expand(x.shape)
    except RuntimeError as error:
        raise ValueError(f"the baseline {shape_of(vector)} does not broadcast to inputs {shape_of(x)}") from error
