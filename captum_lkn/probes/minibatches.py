"""Logistic regression by Adam in minibatches, for features that do not fit in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from captum_lkn.probes.logistic import Fit, Scaling, loss, loss_on, strong_first

__all__ = ["fit_in_minibatches"]

_EPOCHS, _LEAST_STEPS, _BATCH, _RATE = 30, 3000, 64, 0.03


def fit_in_minibatches(
    features: Tensor,
    labels: Tensor,
    held: Tensor,
    columns: int,
    penalties: Sequence[float] | None = None,
    *,
    seed: int = 0,
    advance: Callable[[float], object] = float,
) -> Fit:
    """Fit by Adam in minibatches, which reads some hundreds of rows at a time; all penalties at once.

    It makes 30 passes over the rows, or more until there are 3,000 steps, with a learning rate that falls to 0. The
    result is close to the optimum; with weak penalties some distance remains.

    Args:
        features: ``[N, D]``, finite; may be mapped from a file.
        labels: int64 ``[N]``, or float64 ``[N, C]``.
        held: Bool ``[N]``, the rows that are not fitted; may be none if there is one penalty.
        columns: C.
        penalties: The penalties to choose from; None: as in :func:`captum_lkn.probes.newton.fit_exactly`.
        seed: Seed of the order of the rows.
        advance: Called with the share of the work that was done, each time that some was; the shares add up to 1.

    Returns:
        The weights, fitted to the rows that are not held out.
    """
    fitted, rest = (~held).nonzero()[:, 0], held.nonzero()[:, 0]
    scaling = Scaling.of(features, fitted)
    tried = strong_first(penalties, scaling)
    device, width = features.device, features.shape[1]
    costs = torch.tensor(tried, dtype=torch.float64, device=device)[:, None, None] / scaling.scale**2
    weight = torch.zeros(len(tried), columns, width, dtype=torch.float64, device=device, requires_grad=True)
    bias = torch.zeros(len(tried), 1, columns, dtype=torch.float64, device=device, requires_grad=True)
    adam = torch.optim.Adam([weight, bias], lr=_RATE)
    steps = -(-len(fitted) // _BATCH)
    epochs = max(_EPOCHS, -(-_LEAST_STEPS // steps))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, epochs * steps)
    generator = torch.Generator("cpu").manual_seed(seed)
    for _ in range(epochs):
        order = torch.randperm(len(fitted), generator=generator, device="cpu").to(fitted.device)
        for batch in torch.split(fitted[order], _BATCH):
            with torch.enable_grad():
                z = scaling.apply(features[batch]) @ weight.mT + bias
                total = loss(z, labels[batch]).sum() + (costs / 2 * weight.square()).sum()
            adam.zero_grad()
            torch.autograd.backward(total)
            with torch.device("cpu"):  # torch 2.4 makes the count of steps on the default device
                adam.step()
            schedule.step()
        advance(1 / epochs)
    each = zip(weight.detach(), bias.detach()[:, 0], tried, strict=True)
    return min((scaling.undo(*parts) for parts in each), key=lambda fit: loss_on(rest, features, labels, fit))
