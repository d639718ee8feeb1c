"""Fingerprints, which tell checkpoints of a model apart."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from captum_lkn._common.messages import kind_of
from captum_lkn.models.wrappers import plain_name

__all__ = ["fingerprint", "weight_versions"]


def fingerprint(module: nn.Module) -> str:
    """Return a SHA-256 over names, shapes and bytes of all parameters and buffers, also of those that are not saved.

    Sparse and quantised tensors count with all their parts, packed ones too, and weights that `accelerate` keeps in
    memory or on disk as if they were in the module.

    Args:
        module: Any module; wrappers such as ``torch.compile``'s change nothing.

    Returns:
        64 hexadecimal digits.

    Raises:
        TypeError: The module keeps weights in a form that cannot be read.

    Example:
        >>> network = nn.Linear(2, 2)
        >>> before = fingerprint(network)
        >>> with torch.no_grad():
        ...     _ = network.bias.add_(1)
        >>> fingerprint(network) == before
        False
    """
    digest = hashlib.sha256()
    for name, value in sorted(_stored(module).items()):
        for tensor in _parts(plain_name(name), value):
            digest.update(f"{plain_name(name)} {tensor.dtype} {list(tensor.shape)}\n".encode())
            digest.update(_bytes(tensor))
    return digest.hexdigest()


def weight_versions(module: nn.Module) -> list[tuple[Any, ...]]:
    """Return for each parameter and buffer where it is stored, and how often it was changed in place.

    It reads no weights. As long as it stays the same, so does the fingerprint, unless weights were changed behind
    autograd's back, through ``.data``.

    Args:
        module: Any module.

    Example:
        >>> network = nn.Linear(2, 2)
        >>> before = weight_versions(network)
        >>> with torch.no_grad():
        ...     _ = network.bias.add_(1)
        >>> weight_versions(network) == before
        False
    """
    return [_version(tensor) for tensor in (*module.parameters(), *module.buffers())]


def _version(tensor: Tensor) -> tuple[Any, ...]:
    changes = 0 if tensor.is_inference() else tensor._version  # tensors made in inference mode do not count changes
    place = tensor.data_ptr() if tensor.layout is torch.strided and not nn.parameter.is_lazy(tensor) else 0
    return id(tensor), place, tensor.dtype, tensor.device, changes


def _stored(module: nn.Module) -> dict[str, Any]:
    """Return everything that a module stores, by name: its state, and its parameters and buffers that are not in it."""
    own = dict(module.named_parameters(remove_duplicate=False)) | dict(module.named_buffers(remove_duplicate=False))
    return {**own, **module.state_dict(), **_offloaded(module)}


def _offloaded(module: nn.Module) -> dict[str, Tensor]:
    """Return by name the weights that hooks of `accelerate` bring from memory or disk when a layer runs."""
    found = {}
    for path, part in module.named_modules():
        hook = getattr(part, "_hf_hook", None)
        for one in getattr(hook, "hooks", [hook]):  # of several in one the parts
            kept = getattr(one, "weights_map", None)
            if kept is None:
                continue
            inner = bool(getattr(one, "place_submodules", False))
            for name, value in (*part.named_parameters(recurse=inner), *part.named_buffers(recurse=inner)):
                if value.is_meta:
                    found[f"{path}.{name}" if path else name] = kept[name]
    return found


def _parts(name: str, value: Any) -> Iterator[Tensor]:
    """Yield the dense tensors that make up an entry of a module's state."""
    if isinstance(value, Tensor):
        yield from _dense(name, value.detach())
    elif isinstance(value, dict):
        for key in sorted(value, key=str):
            yield _text(str(key))
            yield from _parts(name, value[key])
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _parts(name, part)
    elif isinstance(value, torch.ScriptObject):  # packed weights
        yield from _parts(name, _unpacked(name, value))
    elif value is None or isinstance(value, (str, int, float, bool, torch.dtype, torch.device, torch.Size)):
        yield _text(repr(value))
    else:
        raise TypeError(
            f"the module keeps {name!r} as {kind_of(value)}, which cannot be read, so that its checkpoints cannot be "
            "told apart: give a model whose state_dict() holds tensors"
        )


def _unpacked(name: str, value: Any) -> Any:
    try:
        return value.__getstate__()
    except (AttributeError, RuntimeError) as error:
        raise TypeError(
            f"the module keeps {name!r} as {kind_of(value)}, which cannot be read ({error}): give a model whose "
            "state_dict() holds tensors"
        ) from error


def _dense(name: str, value: Tensor) -> Iterator[Tensor]:
    if nn.parameter.is_lazy(value):
        yield _text("uninitialised")
    elif value.is_quantized:
        yield value.int_repr()
        per_channel = value.qscheme() in (torch.per_channel_affine, torch.per_channel_affine_float_qparams)
        yield _text(str(value.qscheme()))
        if per_channel:
            yield from (value.q_per_channel_scales(), value.q_per_channel_zero_points())
        else:
            yield torch.tensor([value.q_scale(), value.q_zero_point()], dtype=torch.float64, device="cpu")
    elif value.layout is torch.strided and not value.is_nested:
        yield value
    elif value.layout is torch.sparse_coo:
        whole = value.coalesce()
        yield from (torch.tensor(value.shape, device="cpu"), whole.indices(), whole.values())
    elif value.layout in (torch.sparse_csr, torch.sparse_bsr):
        yield from (torch.tensor(value.shape, device="cpu"), value.crow_indices(), value.col_indices(), value.values())
    elif value.layout in (torch.sparse_csc, torch.sparse_bsc):
        yield from (torch.tensor(value.shape, device="cpu"), value.ccol_indices(), value.row_indices(), value.values())
    else:
        raise TypeError(
            f"the module keeps {name!r} with the layout {value.layout}, which cannot be read: give a model of dense "
            "or sparse tensors"
        )


def _text(text: str) -> Tensor:
    return torch.tensor(list(text.encode()), dtype=torch.uint8, device="cpu")


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
