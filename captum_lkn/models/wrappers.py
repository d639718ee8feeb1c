"""Modules that only wrap another module, defined in this one place.

``DataParallel``, ``DistributedDataParallel`` and ``torch.compile`` call the module inside them and add a part to the
names of its layers. An adapter of `peft` is called itself; only facts are read from the model inside it.
"""

from __future__ import annotations

from typing import Any, Final

from torch import nn

__all__ = ["is_compiled", "is_wrapper", "plain_name", "unwrapped", "without_adapter"]

_COMPILED: Final = "_orig_mod"
_PARALLEL: Final = (nn.DataParallel, nn.parallel.DistributedDataParallel)
_NAME_PARTS: Final = ("module", _COMPILED)  # what the wrappers call the module inside them


def is_wrapper(module: Any) -> bool:
    """Return whether a module only wraps another one."""
    return isinstance(module, _PARALLEL) or (isinstance(module, nn.Module) and _COMPILED in module._modules)


def unwrapped(module: Any) -> Any:
    """Return the module inside all wrappers; anything else as it is.

    Example:
        >>> network = nn.Linear(2, 1)
        >>> unwrapped(nn.DataParallel(network)) is network
        True
    """
    while is_wrapper(module):
        module = next(module.children())
    return module


def without_adapter(model: Any) -> Any:
    """Return the model inside an adapter of `peft`; any other model as it is."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def plain_name(name: str) -> str:
    """Return a dotted name without the parts that wrappers add.

    Example:
        >>> plain_name("module._orig_mod.encoder.0")
        'encoder.0'
    """
    return ".".join(part for part in name.split(".") if part not in _NAME_PARTS)


def is_compiled(module: nn.Module) -> bool:
    """Return whether a module is compiled, as a whole or in place by ``module.compile()``."""
    return getattr(module, "_compiled_call_impl", None) is not None or _COMPILED in module._modules
