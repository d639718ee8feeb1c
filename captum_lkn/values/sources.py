"""Sources: the places of a model that values are read from."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from captum_lkn.models.layers import OUTPUT, Layer
from captum_lkn.probes.lens import LogitLens
from captum_lkn.probes.linear import LinearProbe
from captum_lkn.probes.readouts import Readout, check_readout_output, read_out

__all__ = ["Source"]


@dataclass(frozen=True)
class Source:
    """Place that a value is read from: a layer through its read-out, or the model's own output.

    Attributes:
        layer: From :func:`captum_lkn.models.layers.find_layers`; None: the output.
        readout: From the layer's feature ``[R, D]`` to logits ``[R, C]``, column c for output c of the model.
    """

    layer: Layer | None = None
    readout: Readout | None = None

    def logits(self, feature: Tensor, columns: int | None = None) -> Tensor:
        """Return the read-out's logits ``[R, C]`` for the layer's feature ``[R, D]``.

        Args:
            feature: The pooled output of the layer.
            columns: The number C of the model's outputs, which the read-out must have too; None: not known yet.

        Raises:
            TypeError: The read-out returns something else than a tensor.
            ValueError: There is no read-out, or its logits have another shape.
        """
        if self.readout is None:
            raise ValueError(f"{self.label!r} has no read-out")
        return self.checked(read_out(self.readout, feature, f"layer {self.label!r}"), len(feature), columns)

    def checked(self, logits: Tensor, rows: int, columns: int | None = None) -> Tensor:
        """Return the read-out's logits, whose shape must be ``[rows, columns]``; see :meth:`logits`."""
        return check_readout_output(logits, rows, columns, f"layer {self.label!r}")

    @property
    def is_linear(self) -> bool:
        """True if the read-out ends in a linear layer, so that its numbers are logits whatever their size."""
        return isinstance(self.readout, (nn.Linear, LinearProbe, LogitLens))

    @property
    def label(self) -> str:
        """The layer's label, or ``"output"``."""
        return OUTPUT if self.layer is None else self.layer.label
