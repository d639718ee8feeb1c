"""Fingerprints, which tell checkpoints of a model apart."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn

from captum_lkn.models.wrappers import plain_name

__all__ = ["fingerprint"]


def fingerprint(module: nn.Module) -> str:
    """Return a SHA-256 over names, shapes and bytes of all parameters and buffers.

    Args:
        module: Any module; wrappers such as ``torch.compile``'s change nothing.

    Returns:
        64 hexadecimal digits.

    Example:
        >>> network = nn.Linear(2, 2)
        >>> before = fingerprint(network)
        >>> with torch.no_grad():
        ...     _ = network.bias.add_(1)
        >>> fingerprint(network) == before
        False
    """
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        if not isinstance(value, Tensor):
            continue  # extra state
        digest.update(f"{plain_name(name)} {value.dtype} {list(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
