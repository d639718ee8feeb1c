"""Tensors in what modules return, with the rows of the forward as their first dimension."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from captum_lkn._common.messages import kind_of
from captum_lkn.models.hugging_face.head import has_time_first
from captum_lkn.models.layers import Layer
from captum_lkn.models.model import Model

__all__ = ["puts_time_first", "rows_of"]


def rows_of(layer: Layer, module: nn.Module, model: Model, raw: Any, rows: int) -> tuple[Tensor, Tensor | None]:
    """Take the tensor out of what a module returned, or was given, and bring its rows to the front.

    Args:
        layer: The layer that is read.
        module: Its module.
        model: The model around it.
        raw: What the module returned, or was given.
        rows: The number of rows of the forward.

    Returns:
        The tensor, ``[R, ...]``, and the real tokens, bool ``[R, T]``, of packed sequences and nested tensors; else
        None.

    Raises:
        TypeError: There is no tensor in it, or the layer's `select` returns none.
        ValueError: Its first dimension is not the rows.
    """
    output, real = _tensor_of(layer, raw), None
    if isinstance(output, PackedSequence):
        output, real = _unpacked(output)
    elif layer.select is None and output.dim() == 3 and puts_time_first(module, model):
        output = output.transpose(0, 1)
    if output.is_nested:
        output, real = _padded(output)
    if output.dim() == 0 or len(output) != rows:
        raise ValueError(
            f"layer {layer.label!r} {_verb(layer)} {kind_of(output)} in a forward of {rows} rows: its first dimension "
            "must be the rows; give Layer(..., select=) that brings it there"
        )
    return output, real


def puts_time_first(module: nn.Module, model: Model) -> bool:
    """Return whether a module puts out ``[T, R, D]``: recurrent modules and attention may."""
    if has_time_first(model.forward_func, module):
        return True
    if isinstance(module, (nn.TransformerEncoder, nn.TransformerDecoder)):
        module = module.layers[0]
    return getattr(getattr(module, "self_attn", module), "batch_first", True) is False


def _tensor_of(layer: Layer, raw: Any) -> Tensor | PackedSequence:
    if layer.select is not None:
        tensor = layer.select(raw)
        if not isinstance(tensor, Tensor):
            raise TypeError(f"select of layer {layer.label!r} must return a tensor; it returned {kind_of(tensor)}")
        return tensor
    if isinstance(raw, (Tensor, PackedSequence)):
        return raw
    if isinstance(raw, Mapping):
        raw = [raw[key] for key in ("last_hidden_state", *raw) if key in raw]
    if isinstance(raw, (tuple, list)):
        tensors = [part for part in raw if isinstance(part, (Tensor, PackedSequence))]
        if tensors:
            return tensors[0]
    raise TypeError(
        f"layer {layer.label!r} {_verb(layer)} {kind_of(raw)} without a tensor in it: give Layer(..., select=) that "
        "takes one out of it"
    )


def _padded(output: Tensor) -> tuple[Tensor, Tensor]:
    """Return a nested tensor, in which ``nn.TransformerEncoder`` drops padding, with padding, and the real tokens."""
    lengths = torch.tensor([len(row) for row in output.unbind()], device=output.device)
    padded = output.to_padded_tensor(0.0)
    return padded, torch.arange(padded.shape[1], device=output.device) < lengths[:, None]


def _unpacked(output: PackedSequence) -> tuple[Tensor, Tensor]:
    """Return a packed sequence ``[R, T, D]``, with padding, and the real tokens."""
    padded, lengths = pad_packed_sequence(output, batch_first=True)
    places = torch.arange(padded.shape[1], device=padded.device)
    return padded, places < lengths.to(padded.device)[:, None]


def _verb(layer: Layer) -> str:
    return "takes" if layer.input else "puts out"
