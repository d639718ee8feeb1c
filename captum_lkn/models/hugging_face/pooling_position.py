"""Classifiers of GPT-2's kind read at the same token in all masked copies of a text.

Such a classifier reads at the last token that is not the padding token. Where the padding token also stands for absent
words, as it does with tokenizers that have no mask token, the position would move with the masks.
"""

from __future__ import annotations

import copy
import functools
import itertools
import types
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from captum_lkn.models.hugging_face.facts import padding_token
from captum_lkn.models.hugging_face.head import last_token

__all__ = ["fixed_pooling_position", "with_padding_token"]


def fixed_pooling_position(
    model: Any, keywords: Mapping[str, Any], unmasked: Mapping[str, Tensor]
) -> tuple[Mapping[str, Any], int | None]:
    """Return arguments, and a padding token, with which a classifier reads at the position of the unmasked text.

    The tokens behind that position have no influence on it. They are filled with an id that occurs nowhere else, and
    that id is the padding token of this forward. Where tokens are removed by the attention mask, the position is the
    last one that is left, since the vector of a removed token depends on it. A model without a padding token reads at
    the last token.

    Args:
        model: The classifier, without wrappers; see :func:`captum_lkn.models.hugging_face.head.pools_at_last_token`.
        keywords: The arguments of a forward.
        unmasked: By keyword, the masked inputs as they are without a mask; one row for each of the forward's.

    Returns:
        The arguments, and the padding token that the model must have in this forward.
    """
    pad, ids = padding_token(model), keywords.get("input_ids")
    if not isinstance(ids, Tensor):
        return keywords, 0 if pad is None else pad  # of embeddings the last one is read, whatever the token is
    read = last_token(model, keywords, unmasked)
    places = torch.arange(ids.shape[1], device=ids.device)
    if pad is not None and torch.equal((places * (ids != pad)).amax(1), read):
        return keywords, pad
    behind = places > read[:, None]
    used = set(ids[~behind].tolist())
    free = next(i for i in itertools.count() if i not in used)
    return {**keywords, "input_ids": ids.masked_fill(behind, free)}, free


def with_padding_token(outer: Any, model: Any, token: int | None) -> Any:
    """Return a model whose configuration has another padding token, without a change to the model itself.

    The modules between `outer` and `model` are copied, and share everything that they hold with the originals. So
    another thread that uses the model at the same time sees no change. Compilation is left out.

    Args:
        outer: The model that is called.
        model: The model inside its wrappers and adapters, whose configuration counts.
        token: The padding token.

    Returns:
        The copy; `outer` itself where the model has that token already.

    Raises:
        ValueError: The model's forward was replaced by a function that cannot be called for a copy.
    """
    if padding_token(model) == token:
        return outer
    config = copy.copy(model.config)
    config.pad_token_id = token
    twin = _shallow_copy(model)
    twin.__dict__["config"] = config
    return _replaced(outer, model, twin)


def _replaced(outer: Any, model: Any, twin: Any) -> Any:
    """Copy the modules around a model, so that they hold its copy."""
    if outer is model:
        return twin
    name, child = next((name, child) for name, child in outer.named_children() if _holds(child, model))
    inner = _replaced(child, model, twin)
    if name == "_orig_mod":  # compiled code has the original's configuration
        return inner
    copied = _shallow_copy(outer)
    copied.__dict__["_modules"] = {**outer._modules, name: inner}
    return copied


def _holds(module: nn.Module, model: Any) -> bool:
    return any(inner is model for inner in module.modules())


def _shallow_copy(module: nn.Module) -> Any:
    """Copy a module, and bind to the copy what was bound to the module, such as a forward that `accelerate` set."""
    twin = object.__new__(type(module))
    twin.__dict__.update({name: _rebound(value, module, twin) for name, value in vars(module).copy().items()})
    twin.__dict__["_compiled_call_impl"] = None
    forward = vars(module).get("forward")
    if forward is not None and twin.__dict__["forward"] is forward:
        raise ValueError(
            f"the forward of {type(module).__name__} was replaced by {forward!r}, so that its padding token cannot be "
            "chosen for one forward: give the model with its own forward, or replace absent words by a token that is "
            "not the padding token, with baseline="
        )
    return twin


def _rebound(value: Any, module: nn.Module, twin: Any) -> Any:
    if isinstance(value, types.MethodType) and value.__self__ is module:
        return types.MethodType(value.__func__, twin)
    if isinstance(value, functools.partial) and value.args and value.args[0] is module:
        return functools.partial(value.func, twin, *value.args[1:], **value.keywords)
    return value
