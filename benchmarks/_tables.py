"""Value tables that the benchmarks draw: random networks, and sums of planted effects."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["masks", "perceptron", "planted"]


def masks(n: int) -> Tensor:
    """Return all subsets of n players, float64 ``[2^n, n]``: 1 where a player is present."""
    return (torch.arange(1 << n).unsqueeze(1) >> torch.arange(n) & 1).double()


def perceptron(n: int, generator: torch.Generator) -> Tensor:
    """Return the table ``[2^n]`` of a random ReLU network of two hidden layers, on inputs of +-1."""

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    hidden = torch.relu((2 * masks(n) - 1) @ draw(n, 64) / n**0.5 + 0.3 * draw(64))
    return torch.relu(hidden @ draw(64, 64) / 32**0.5 + 0.1 * draw(64)) @ draw(64) / 8


def planted(n: int, terms: int, generator: torch.Generator, *, whole: bool = False) -> Tensor:
    """Return the table ``[2^n]`` of AND and OR effects of up to four players; whole sizes leave many ties."""
    present, table = masks(n).bool(), torch.zeros(1 << n, dtype=torch.float64)
    for term in range(terms):
        members = torch.randperm(n, generator=generator)[: 1 + term % 4]
        active = present[:, members].all(1) if term % 2 else present[:, members].any(1)
        if whole:
            table += active * torch.randint(-3, 4, (1,), generator=generator)
        else:
            table += active * torch.randn((), generator=generator, dtype=torch.float64)
    return table
