"""Check of a forward function before a method keeps it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

__all__ = ["check_forward"]


def check_forward(function: Any) -> None:
    """Check that a module has a forward: a list of modules has none, though its layers can be named.

    Args:
        function: A module or any function.

    Raises:
        TypeError: It is a module without a forward.
    """
    if isinstance(function, torch.jit.ScriptModule):
        missing = not hasattr(function, "forward")
    else:
        none = getattr(nn.Module, "forward", None)
        own = "forward" in vars(function) if isinstance(function, nn.Module) else True
        missing = not own and getattr(type(function), "forward", none) is none
    if missing:
        raise TypeError(
            f"forward_func must have a forward; got a {type(function).__name__} without. A list of modules runs "
            "nothing: make a Sequential of it, or give the module that calls its parts"
        )
