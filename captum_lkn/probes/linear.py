"""A linear probe: a layer's feature in, logits out."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from captum_lkn._common.messages import kind_of
from captum_lkn.models.layers import Layer, fingerprint

__all__ = ["Accuracy", "LinearProbe", "check_weights"]


class Accuracy(NamedTuple):
    """The share of rows that a probe tells right; of labels, where each column has one of its own.

    Attributes:
        train: Of the rows that the weights were fitted to.
        held_out: Of the rows that only the penalty was chosen on.
    """

    train: float
    held_out: float


_UNKNOWN = Accuracy(math.nan, math.nan)


@dataclass(frozen=True, eq=False)
class LinearProbe:
    """A linear classifier of one layer's feature: a read-out.

    Attributes:
        layer: Where the feature comes from, and how it is pooled.
        weight: Float64 ``[C, D]``, on the CPU.
        bias: Float64 ``[C]``.
        kind: ``"softmax"`` over the columns, or ``"sigmoid"`` in each.
        penalty: What the weights were fitted with, see :mod:`captum_lkn.probes.logistic`.
        accuracy: On the rows it was fitted to, and on rows held out.
        fingerprint: SHA-256 of the model's weights; empty where it is not known, or shall not matter.
        model: The class of the model.
        classes: What the columns are called, where the model's configuration says it; else empty.

    Raises:
        ValueError: The shapes of weight and bias do not fit.

    Example:
        >>> probe = LinearProbe(Layer("0"), torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([0.5, 0.0]))
        >>> probe(torch.tensor([[1.0, 1.0]]))
        tensor([[1.5000, 2.0000]], dtype=torch.float64)
        >>> probe.predict(torch.tensor([[1.0, 1.0], [1.0, 0.0]]))
        tensor([1, 0])
    """

    layer: Layer
    weight: Tensor
    bias: Tensor
    kind: Literal["softmax", "sigmoid"] = "softmax"
    penalty: float = math.nan
    accuracy: Accuracy = _UNKNOWN
    fingerprint: str = ""
    model: str = ""
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.weight.dim() != 2 or self.bias.shape != self.weight.shape[:1]:
            raise ValueError(
                f"weight is {kind_of(self.weight)} and bias {kind_of(self.bias)}: give weight [C, D] and bias [C]"
            )
        for name in ("weight", "bias"):
            object.__setattr__(self, name, getattr(self, name).detach().to("cpu", torch.float64))

    def __call__(self, feature: Tensor) -> Tensor:
        """The logits of features.

        Args:
            feature: ``[R, D]`` of any floating dtype, on any device.

        Returns:
            ``[R, C]``, float64 (float32 on MPS), on the feature's device.

        Raises:
            TypeError: It is no floating tensor.
            ValueError: It is not ``[R, D]``.
        """
        if not isinstance(feature, Tensor) or not feature.is_floating_point():
            raise TypeError(f"the probe of layer {self.layer.label!r} takes floating features; got {kind_of(feature)}")
        width = self.weight.shape[1]
        if feature.dim() != 2 or feature.shape[1] != width:
            raise ValueError(
                f"the probe of layer {self.layer.label!r} takes features [R, {width}]; got {kind_of(feature)}: was it "
                "fitted to another layer, another pooling or another input size?"
            )
        wide = torch.float32 if feature.device.type == "mps" else torch.float64
        return linear(feature.to(wide), self.weight.to(feature.device, wide), self.bias.to(feature.device, wide))

    def predict(self, features: Tensor) -> Tensor:
        """The classes of features.

        Args:
            features: ``[R, D]``.

        Returns:
            int64 ``[R]``, the class of each row; of a sigmoid int64 ``[R, C]``, 0 or 1 in each column.
        """
        z = self(features)
        return z.argmax(1) if self.kind == "softmax" else (z > 0).long()

    def check(self, layer: Layer, module: nn.Module | None = None) -> None:
        """Check that the probe is used where it was fitted.

        Args:
            layer: The layer that is read, from :func:`captum_lkn.models.layers.find_layers`. Functions are compared by
                name.
            module: The model; None: its weights are not compared.

        Raises:
            ValueError: It was fitted to another layer, pooling, model or checkpoint.
        """
        own, other = self.layer.describe(), layer.describe()
        different = [f"{key} {own[key]!r}, not {other[key]!r}" for key in own if own[key] != other[key]]
        if different:
            raise ValueError(
                f"the probe of layer {self.layer.label!r} was fitted to a layer with {', '.join(different)}: read the "
                "layer as it was fitted, or fit a probe anew"
            )
        if module is not None and self.fingerprint:
            check_weights(module, [self])

    def __repr__(self) -> str:
        columns, width = self.weight.shape
        return (
            f"LinearProbe of layer {self.layer.label!r}: {width} -> {columns} ({self.kind}), penalty "
            f"{self.penalty:.3g}, accuracy {self.accuracy.train:.3f} train, {self.accuracy.held_out:.3f} held out"
        )


def check_weights(module: nn.Module, probes: Iterable[LinearProbe]) -> None:
    """Check that a model is the one that probes were fitted to; those that know no fingerprint take any.

    Args:
        module: The model.
        probes: Any number.

    Raises:
        ValueError: It has other weights.
    """
    known = [probe for probe in probes if probe.fingerprint]
    found = fingerprint(module) if known else ""
    for probe in known:
        if probe.fingerprint != found:
            raise ValueError(
                f"the probe of layer {probe.layer.label!r} was fitted to a {probe.model} with weights of SHA-256 "
                f"{probe.fingerprint[:12]}..., and this {type(module).__name__} has {found[:12]}...: load the "
                "checkpoint (and dtype) that it was fitted to, fit anew, or load the probes with strict=False"
            )
