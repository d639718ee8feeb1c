"""Check that a layer is read at the tokens that the head of the model reads.

The output of the layer is changed at one token after the other. Where the model's output changes, the head reads the
token; where the layer's feature changes, its pooling takes it. Nothing of how the pooling was found is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import Tensor, nn

from captum_lkn._common.messages import some_of
from captum_lkn.attribution.checking import NotCheckedError
from captum_lkn.models.arguments import Arguments
from captum_lkn.models.blocks import first_tensor, last_block
from captum_lkn.models.layers import LayerLike, find_layers, module_of
from captum_lkn.models.model import Model
from captum_lkn.models.reading import LayerReader, remove_hooks
from captum_lkn.models.returned import puts_time_first
from captum_lkn.outputs.targets import Target

__all__ = ["check_reading"]

_MOST: Final = 32  # tokens that are changed, each in a forward


def check_reading(model: Model, arguments: Arguments, target: Target, layer: LayerLike | None) -> None:
    """Check that the pooling of a layer takes the tokens that have an influence on what is explained.

    Args:
        model: The model.
        arguments: The unmasked inputs of B samples, and all else the forward gets.
        target: What is explained.
        layer: A layer behind which tokens are not mixed; None: the last block of a list of blocks.

    Raises:
        NotCheckedError: There is no such layer, it cannot be read, does not put out tokens, or has no influence.
        ValueError: It takes others.
    """
    eager = model.eager
    if eager.module is None:
        raise NotCheckedError("the forward is a function")
    rows = len(arguments.inputs[0])
    samples = torch.arange(rows, device="cpu")
    given = arguments.rows(samples, rows)
    with model.session():
        chosen = last_block(eager.module, lambda: eager(given), rows) if layer is None else layer
        if chosen is None:
            raise NotCheckedError("no list of blocks in it puts out tokens [B, T, D]: name one with layer=")
        found = find_layers(eager, chosen)[0]
        change = _Change(module_of(eager, found), found.call_index or 0, rows, eager)
        with change.hooked(), LayerReader(model, [found]) as reader:
            try:
                plain = _read(reader, given, target, samples)
            except ValueError as refused:
                raise NotCheckedError(str(refused)) from None
            if not change.length:
                raise NotCheckedError(f"layer {found.label!r} does not put out tokens [B, T, D]")
            read, taken = [], []
            for token in change.tokens():
                change.token = token
                output, feature = _read(reader, given, target, samples)
                read.append(_differs(output, plain[0]))
                taken.append(_differs(feature, plain[1]))
    if not bool(torch.stack(read).any()):
        raise NotCheckedError(f"layer {found.label!r} has no influence on the output: name another with layer=")
    for row, (by_head, by_pooling) in enumerate(zip(torch.stack(read, 1), torch.stack(taken, 1), strict=True)):
        if not torch.equal(by_head, by_pooling):
            raise ValueError(
                f"of sample {row}, the head reads {_places(by_head, change)} of layer {found.label!r}, and "
                f"pool={found.describe()['pool']!r} takes {_places(by_pooling, change)}. Choose by Layer(..., pool=); "
                "if tokens are mixed behind this layer, check one behind that, with layer="
            )


def _read(reader: LayerReader, given: Arguments, target: Target, samples: Tensor) -> tuple[Tensor, Tensor]:
    """Return the row of outputs that is explained, and the layer's feature, of each sample."""
    explained = None
    if len(target.shape) == 2:
        explained = target.positions.cpu() == torch.arange(target.position_sizes[0], device="cpu")
    outputs, (feature,) = reader(given, explained=explained)
    output = outputs.tensor if outputs.tensor.shape[:1] == samples.shape else outputs.tensor[None]
    return target.select(output, samples)[0], feature


def _differs(some: Tensor, others: Tensor) -> Tensor:
    """Return in which rows ``[R, ...]`` two results differ by more than the last digits, bool ``[R]``."""
    some, others = some.double().flatten(1), others.double().flatten(1)
    rounding = 1e-9 * others.abs().nan_to_num(0.0, 0.0, 0.0).amax()
    return ~(((some - others).abs() <= rounding) | (some == others) | (some.isnan() & others.isnan())).all(1)


def _places(chosen: Tensor, change: _Change) -> str:
    places = [token for token, is_in in zip(change.tokens(), chosen.tolist(), strict=True) if is_in]
    return f"token {places[0]}" if len(places) == 1 else f"tokens {some_of(places)}" if places else "no token"


class _Change:
    """Hook that changes one token of what a module puts out.

    Args:
        module: The module.
        call: The number of its call in a forward.
        rows: The number of rows of a forward.
        model: The model that it is in.

    Attributes:
        length: The number T of tokens; 0 where it puts out none.
        token: The token that is changed; None: none is.
    """

    def __init__(self, module: nn.Module, call: int, rows: int, model: Model) -> None:
        self.length = 0
        self.token: int | None = None
        self._module, self._call, self._rows, self._model = module, call, rows, model
        self._calls = 0

    def tokens(self) -> list[int]:
        """Return the tokens that are changed, one after the other; of many some, with both ends."""
        count = min(self.length, _MOST)
        return sorted({round(i * (self.length - 1) / max(count - 1, 1)) for i in range(count)})

    @contextmanager
    def hooked(self) -> Iterator[None]:
        """Set the hook, and remove it."""
        handles = []
        try:
            try:
                handles.append(self._model.module.register_forward_pre_hook(self._start))  # type: ignore[union-attr]
                handles.append(self._module.register_forward_hook(self._after))
                yield
            finally:
                remove_hooks(handles)
        finally:
            remove_hooks(handles)  # again, for an interrupt in the first

    def _start(self, _: nn.Module, args: Any) -> None:
        self._calls = 0

    def _after(self, module: nn.Module, _: Any, output: Any) -> Any:
        call, self._calls = self._calls, self._calls + 1
        first = first_tensor(output)
        if call != self._call or first is None or first.dim() != 3 or first.is_nested:
            return None
        time = 0 if puts_time_first(module, self._model) else 1
        if first.shape[1 - time] != self._rows:
            return None
        self.length = first.shape[time]
        if self.token is None:
            return None
        changed = first.clone()
        at = changed.select(time, self.token)
        generator = torch.Generator("cpu").manual_seed(0)
        noise = torch.randn(at.shape[-1], generator=generator, device="cpu").to(at)
        at.add_(noise * first.abs().amax().clamp_min(1.0))
        if first is output:
            return changed
        made = type(output)
        return made._make((changed, *output[1:])) if hasattr(made, "_make") else made((changed, *output[1:]))
