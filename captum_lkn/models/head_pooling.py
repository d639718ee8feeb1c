"""Pooling of a model's head, found by watching one forward.

A head takes one vector of each row of tokens ``[R, T, D]``: the first token, the last one, a mean, several of these
side by side. All of them are weighted sums over the tokens. So the gradient of what a module of the head takes, with
respect to the tokens, is the weights; anything else (attention, a maximum) has another gradient and is not told.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any, Final, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from captum_lkn._common.memory import out_of_memory
from captum_lkn.models.channels import Layout
from captum_lkn.models.pooling import Part

__all__ = ["Weights", "named_parts", "watched_weights"]

_MOST_PARTS: Final = 4
_TOLERANCE: Final = 100  # roundings of the dtype

Weights: TypeAlias = Mapping[int, Tensor | None]
"""By the number T of tokens, the weights ``[R, K, T]`` of the K parts of what a head takes; None: all tokens."""


def watched_weights(root: nn.Module, run: Callable[[], Any], rows: int) -> dict[int, Tensor | None]:
    """Run a model once, and return the weights with which its head takes tokens.

    Every module's output is cut off from what is before it, so that the gradients are those of the few operations
    between two modules.

    Args:
        root: The model.
        run: Calls it, in evaluation mode, and returns its output.
        rows: R, the number of rows of this forward.

    Returns:
        Weights by number of tokens; where several heads take that many, those of the last. Empty where nothing is told.
    """
    watch = _Watch(rows)
    try:
        with ExitStack() as hooks, torch.inference_mode(False), torch.enable_grad():
            for module in root.modules():
                hooks.callback(module.register_forward_pre_hook(watch.before, with_kwargs=True).remove)
                hooks.callback(module.register_forward_hook(watch.after).remove)
            return watch.found(run())
    except Exception as error:  # some models cannot run with gradients; then nothing is told
        if out_of_memory(error):
            raise
        return {}


class _Taken(NamedTuple):
    """A vector that is taken of T tokens: its weights ``[R, K, T]`` (None: all tokens), and its copy behind a cut."""

    tokens: Tensor
    length: int
    weights: Tensor | None
    own: Tensor


class _Watch:
    """Hooks of one forward.

    Args:
        rows: The number of rows.
    """

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._layout = Layout()
        self._thread = threading.get_ident()
        self._tokens: Tensor | None = None  # the last ones that a module put out
        self._second = False  # whether their channels are second
        self._taken: list[_Taken] = []

    def before(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None = None) -> Any:
        """Look at the first argument of a module."""
        taken = self._look_at(args[0]) if args and threading.get_ident() == self._thread else None
        return None if taken is None else ((taken, *args[1:]), dict(kwargs or {}))

    def after(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        """Cut what a module puts out off from what is before it, unless the module may be the pooling itself."""
        if threading.get_ident() != self._thread:
            return None
        if type(output) is tuple and output and isinstance(output[0], Tensor):  # of a recurrent module, a block
            first = self.after(module, args, output[0])
            return None if first is None else (first, *output[1:])
        if not isinstance(output, Tensor) or output.is_nested or not output.is_floating_point():
            return None
        self._layout.see(module, output)
        if self._is_row(output):
            return self._look_at(output)
        has_weights = next(module.parameters(), None) is not None
        is_kept = bool(args) and isinstance(args[0], Tensor) and args[0].shape == output.shape
        if not (has_weights or is_kept or (output.dim() == 3 and 1 not in output.shape[1:])):
            return None
        cut = output.detach()
        if output.dim() != 3:
            return cut
        self._tokens, self._second = cut.requires_grad_(), self._layout.is_second(cut)
        return cut.clone()  # what follows may work in place

    def found(self, output: Any) -> dict[int, Tensor | None]:
        """Return the weights by the number of tokens, of what was taken last and has an influence on the output."""
        before = len(self._taken)
        self._look_at(output)  # a function around the model may pool
        found: dict[int, Tensor | None] = {}
        owners: dict[int, Tensor] = {}
        for place in reversed(range(len(self._taken))):
            tokens, length, weights, own = self._taken[place]
            if owners.get(length, tokens) is not tokens or (place < before and not _depends_on(output, own)):
                continue
            known = found.get(length)
            if length not in found:
                found[length] = weights
            elif weights is not None and known is not None:
                found[length] = _together(weights, known)
            owners[length] = tokens
        return found

    def _is_row(self, x: Any) -> bool:
        """Return whether something is one vector a row, ``[R, P]`` or ``[R, 1, P]``."""
        if not isinstance(x, Tensor) or x.is_nested or not x.is_floating_point():
            return False
        return x.dim() in (2, 3) and len(x) == self._rows and (x.dim() == 2 or x.shape[1] == 1)

    def _look_at(self, taken: Any) -> Tensor | None:
        """Note a vector that is taken of tokens, and return it cut off from them; None for anything else."""
        tokens = self._tokens
        if tokens is None or not self._is_row(taken):
            return None
        row = taken.flatten(1)
        if len(tokens) == self._rows and row.shape[1] == tokens[0].numel() and torch.equal(tokens.flatten(1), row):
            length, weights = tokens.shape[2 if self._second else 1], None
        else:
            turns = [tokens.dim() and len(tokens) == self._rows, tokens.shape[1] == self._rows]
            each = (
                _weights(tokens, row, time_first=bool(turn), second=self._second)
                for turn, fits in enumerate(turns)
                if fits
            )
            weights = next((w for w in each if w is not None), None)
            if weights is None:
                return None
            length = weights.shape[2]
        own: Tensor = taken.detach().requires_grad_()
        self._taken.append(_Taken(tokens, length, weights, own))
        return own.clone()


def _depends_on(output: Any, taken: Tensor) -> bool:
    """Return whether an output depends on a leaf; also where nothing is known of the output."""
    if not isinstance(output, Tensor) or not output.requires_grad:
        return True
    return _gradient(output, taken, torch.ones_like(output)) is not None  # it may be 0, where a function is saturated


def _gradient(of: Tensor, by: Tensor, direction: Tensor) -> Tensor | None:
    gradients: Any = torch.autograd.grad(of, by, direction, retain_graph=True, allow_unused=True)
    gradient: Tensor | None = gradients[0]
    return gradient


def _weights(tokens: Tensor, taken: Tensor, *, time_first: bool, second: bool) -> Tensor | None:
    """Return the weights ``[R, K, T]`` of the tokens in ``[R, K * D]``, each with the sum 1; None if it is no such sum.

    Args:
        tokens: A leaf, ``[R, T, D]``.
        taken: ``[R, K * D]``.
        time_first: Whether the tokens are ``[T, R, D]``.
        second: Whether they are ``[R, D, T]``.
    """

    def turned(x: Tensor) -> Tensor:
        return x.transpose(0, 1) if time_first else x.transpose(1, 2) if second else x

    width = turned(tokens).shape[2]
    parts, rest = divmod(taken.shape[1], width)
    if rest or not 0 < parts <= _MOST_PARTS or width < 2:
        return None
    scale = torch.linspace(1, 2, width, dtype=taken.dtype, device=taken.device)
    found = []
    for part in range(parts):
        direction = torch.zeros_like(taken)
        direction[:, part * width : (part + 1) * width] = scale
        gradient = _gradient(taken, tokens, direction) if taken.requires_grad else None
        if gradient is None:  # the last state of a recurrent module stands beside its outputs
            same = (turned(tokens.detach()) == taken.detach()[:, None]).all(2) if parts == 1 else None
            return None if same is None or not bool((same.sum(1) == 1).all()) else same[:, None].to(taken.dtype)
        each = turned(gradient) / scale
        weight = each.mean(2)
        limit = _TOLERANCE * torch.finfo(taken.dtype).eps * weight.abs().amax()
        total = weight.sum(1, keepdim=True)
        if bool(((each - weight[..., None]).abs() > limit).any()) or bool((total.abs() <= limit).any()):
            return None
        found.append((weight / total).detach())
    return torch.stack(found, 1)


def _together(some: Tensor, others: Tensor) -> Tensor:
    """Join the weights of two parts of a head that take the same tokens; a part that is there already is left out."""
    new = [w for w in some.unbind(1) if not any(torch.allclose(w, known, atol=1e-3) for known in others.unbind(1))]
    return torch.cat([torch.stack(new, 1), others], 1) if new else others


def named_parts(
    weights: Tensor, default: str, real: Tensor | None, places: Mapping[str, Tensor]
) -> tuple[Part, ...] | None:
    """Return the poolings that have given weights.

    Args:
        weights: ``[R, K, T]``.
        default: The pooling that is preferred where several have these weights; then known places come.
        real: Bool ``[R, T]``, the real tokens; None: all.
        places: Known places by name, each bool ``[R, T]``, with one token in each row.

    Returns:
        K of them: a name, or fixed weights ``[T]`` where all rows have the same. None where nothing is told.
    """
    is_known = real is None or real.shape == weights[:, 0].shape  # otherwise the model added tokens of its own
    own = torch.ones_like(weights[:, 0], dtype=torch.bool)
    own = real.to(weights.device) if real is not None and is_known else own
    index = torch.arange(own.shape[1], device=own.device)
    choices = {name: at.to(weights.device) for name, at in places.items() if at.shape == own.shape} | {
        "cls": (index == 0).expand_as(own),
        "last": index == (index * own).amax(1, keepdim=True),
        "very last": (index == own.shape[1] - 1).expand_as(own),
        "mean": own,
        "rest": own & (index > 0),
    }
    ordered = ({default: choices[default]} if default in choices else {}) | choices
    parts: list[Part] = []
    for weight in weights.unbind(1):
        wanted = weight.abs() > 1e-3 * weight.abs().amax(1, keepdim=True)
        even = torch.allclose(weight * wanted.sum(1, keepdim=True), wanted.to(weight), atol=1e-2)
        name = next((name for name, at in ordered.items() if even and torch.equal(at, wanted)), None)
        if name is not None:
            parts.append(name)
        elif is_known and bool(own.all()) and torch.allclose(weight, weight[:1].expand_as(weight), atol=1e-3):
            parts.append(weight[0])
        else:
            return None
    return tuple(parts)
