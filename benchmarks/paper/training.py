"""One training loop for all networks; a killed run continues after its last epoch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["accuracy", "batches_of", "logits", "train"]

_DECAY = 1e-2
_WARM_UP = 0.1


def logits(model: Any, x: Any) -> Tensor:
    """Return the logits of a batch on the model's device: of a tensor, or of a mapping of a tokenizer."""
    device = next(model.parameters()).device
    if not isinstance(x, Mapping):
        return model(x.to(device))
    found: Tensor = model(**{name: part.to(device) for name, part in x.items()}).logits
    return found


def batches_of(x: Tensor, y: Tensor, size: int, seed: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches in order, or shuffled by a seed."""
    order = torch.arange(len(y))
    if seed is not None:
        order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
    for rows in order.split(size):
        yield x[rows], y[rows]


def train(
    model: nn.Module,
    batches: Callable[[int], Iterator[tuple[Any, Tensor]]],
    epochs: int,
    rate: float,
    path: Path,
    *,
    keep: tuple[int, ...] = (),
    device: str = "cpu",
) -> nn.Module:
    """Train a model with AdamW, a warm-up and a linear decay; weights and optimiser are written after each epoch.

    Args:
        model: The model; it is trained in place.
        batches: The batches of an epoch, by its number.
        epochs: The number of epochs.
        rate: The largest learning rate.
        path: The file; if it is there, training continues from it.
        keep: Epochs whose weights are kept beside it, ``NAME.epoch-3.pt``.
        device: Where to train.

    Returns:
        The model in eval mode, on that device.
    """
    steps = sum(1 for _ in batches(0)) * epochs
    model.to(device).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=_DECAY)

    def factor(step: int) -> float:
        done = step / max(steps, 1)
        return min(1.0, done / _WARM_UP) if done < _WARM_UP else max(0.0, (1 - done) / (1 - _WARM_UP))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
    state: dict[str, Any] = {"epoch": 0}
    if path.exists():
        state = torch.load(path, weights_only=True)
        model.load_state_dict(state["model"])
        if state["epoch"] < epochs:
            optimiser.load_state_dict(state["optimiser"])
            schedule.load_state_dict(state["schedule"])
    for epoch in range(state["epoch"], epochs):
        torch.manual_seed(epoch)  # of dropout
        for x, y in batches(epoch):
            loss = nn.functional.cross_entropy(logits(model, x), y.to(device))
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            schedule.step()
        kept = {"model": model.state_dict(), "epoch": epoch + 1}
        if epoch + 1 in keep:
            torch.save(copy.deepcopy(kept), path.with_name(f"{path.stem}.epoch-{epoch + 1}.pt"))
        part = path.with_suffix(".part")
        torch.save({**kept, "optimiser": optimiser.state_dict(), "schedule": schedule.state_dict()}, part)
        part.replace(path)
    return model.eval()


@torch.no_grad()
def accuracy(model: nn.Module, batches: Iterator[tuple[Any, Tensor]]) -> float:
    """Return the share of right answers."""
    found = [(logits(model, x).argmax(1).cpu() == y).float() for x, y in batches]
    return float(torch.cat(found).mean())
