"""Place of the channels of a layer's output ``[R, ?, ?]``: last, as of tokens, or second, as of convolutions."""

from __future__ import annotations

from typing import Final

from torch import Tensor, nn

__all__ = ["Layout", "layout_modules"]

_CONVOLUTIONS: Final = (nn.Conv1d, nn.ConvTranspose1d)
_SECOND: Final = (*_CONVOLUTIONS, nn.BatchNorm1d, nn.InstanceNorm1d, nn.GroupNorm)
_LAST: Final = (nn.Linear, nn.Embedding, nn.LayerNorm, nn.MultiheadAttention, nn.RNNBase)
_SIZES: Final = ("out_channels", "num_features", "num_channels", "out_features", "embedding_dim")


def layout_modules(root: nn.Module | None) -> tuple[nn.Module, ...]:
    """Return the modules whose outputs tell where channels are; none in a model that has no such convolution."""
    modules = () if root is None else tuple(root.modules())
    if not any(isinstance(module, _CONVOLUTIONS) for module in modules):
        return ()
    return tuple(module for module in modules if isinstance(module, (*_SECOND, *_LAST)))


class Layout:
    """The place of the channels, by the module with weights that ran last."""

    def __init__(self) -> None:
        self._size: int | None = None
        self._second = False

    def see(self, module: nn.Module, output: object) -> None:
        """Note the output of a module."""
        if isinstance(module, (*_SECOND, *_LAST)) and isinstance(output, Tensor) and output.dim() == 3:
            self._second = isinstance(module, _SECOND)
            self._size = next((int(getattr(module, name)) for name in _SIZES if hasattr(module, name)), None)
            if isinstance(module, nn.LayerNorm):
                self._size = int(module.normalized_shape[-1])

    def is_second(self, output: Tensor) -> bool:
        """Return whether the channels of ``[R, ?, ?]`` are second: the dimension that has their number, if only one.

        A layer may transpose what its last module put out.
        """
        here = [place for place in (1, 2) if output.shape[place] == self._size]
        return self._second if len(here) != 1 else here == [1]
