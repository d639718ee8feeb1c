"""The meaning of ``pool="auto"`` for tokens: what the model's head takes of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from captum_lkn._common.warn import warn
from captum_lkn.models.head_pooling import named_parts, watched_weights
from captum_lkn.models.hugging_face.head import token_read_by_head
from captum_lkn.models.layers import Layer
from captum_lkn.models.pooling import Part
from captum_lkn.models.wrappers import unwrapped

__all__ = ["HeadReading", "Tokens"]


class Tokens(NamedTuple):
    """The output of a layer, for which the head's pooling is wanted.

    Attributes:
        place: The layer's number.
        output: ``[R, T, D]``, or ``[R, D, T]`` where channels are second.
        channels_second: Whether they are.
        real: Bool ``[R, T]``; None: all are real, as far as is known yet.
        is_packed: Whether padding was dropped on the way, so that T is that of the longest text.
    """

    place: int
    output: Tensor
    channels_second: bool
    real: Tensor | None
    is_packed: bool = False

    @property
    def length(self) -> int:
        """The number T of tokens."""
        return int(self.output.shape[2 if self.channels_second else 1])


class HeadReading:
    """Pooling of each layer's tokens under ``"auto"``, which is that of the model's head.

    Args:
        root: The model with its layers, without wrappers that call copies of them; None for a function.
        name: Its name, for the warning.
        layers: The layers that are read.
    """

    def __init__(self, root: nn.Module | None, name: str, layers: Sequence[Layer]) -> None:
        self._root = root
        self._name = name
        self._layers = layers
        self._default = token_read_by_head(unwrapped(root))
        self._parts: list[tuple[Part, ...] | None] = [None] * len(layers)

    def is_wanted(self, tokens: Tokens) -> bool:
        """Return whether the pooling of a layer's tokens is still to be found."""
        if self._root is None or self._layers[tokens.place].pool != "auto" or tokens.length < 2:
            return False
        parts = self._parts[tokens.place]
        return parts is None or any(isinstance(part, Tensor) and len(part) != tokens.length for part in parts)

    def of(self, tokens: Tokens, places: Mapping[str, Tensor]) -> tuple[Part, ...]:
        """Return what is taken of a layer's tokens, side by side; see :func:`captum_lkn.models.pooling.pooled`.

        Args:
            tokens: The layer's output.
            places: Known places of this forward.
        """
        known = self._parts[tokens.place]
        if known is None:
            return () if tokens.channels_second else (self._without_watching(places),)
        return known

    def find(self, run: Callable[[], Any], rows: int, wanted: Sequence[Tokens], places: Mapping[str, Tensor]) -> None:
        """Watch one forward, and keep what its head takes.

        Args:
            run: Calls the model.
            rows: The number of rows of this forward.
            wanted: Outputs of layers in the same forward.
            places: Known places of this forward.

        Warns:
            UserWarning: The forward does not tell what the head takes.
        """
        if self._root is None or not wanted:
            return
        weights, default = watched_weights(self._root, run, rows), self._without_watching(places)
        untold = []
        for tokens in wanted:
            parts: tuple[Part, ...] | None
            if tokens.length in weights:
                own = weights[tokens.length]
                parts = ("flatten",) if own is None else named_parts(own, default, tokens.real, places)
            else:
                others = {None if own is None else named_parts(own, default, None, {}) for own in weights.values()}
                parts = others.pop() if len(others) == 1 else None
                # A mean is a mean of any number of tokens; other places may be those of other tokens.
                parts = parts if parts == ("mean",) or tokens.is_packed else None
            if parts is None:
                untold += [] if tokens.channels_second else [self._layers[tokens.place].label]
                parts = () if tokens.channels_second else (default,)
            self._parts[tokens.place] = parts
        if untold:
            warn(
                f"the forward does not tell what the head of {self._name} takes of the tokens of layer {untold[0]!r}, "
                f"so that pool='auto' takes {_PHRASES.get(default, default)}: choose by Layer(..., pool=)"
            )

    def _without_watching(self, places: Mapping[str, Tensor]) -> str:
        return "text end" if "text end" in places else self._default


_PHRASES = {
    "cls": "the first token",
    "last": "the last token",
    "text end": "the last token",
    "mean": "the mean over them",
}
