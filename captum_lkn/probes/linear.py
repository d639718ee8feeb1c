"""Linear probe of one layer."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from captum_lkn._common.arguments import checked
from captum_lkn._common.checks import check_plain, check_text, is_floating, is_number, is_one_of
from captum_lkn._common.formats import shortened
from captum_lkn._common.messages import count_of, kind_of, shape_of, some_of
from captum_lkn.models.fingerprint import fingerprint
from captum_lkn.models.layers import Layer
from captum_lkn.models.pooling import is_same_function

__all__ = ["Accuracy", "LinearProbe", "check_weights"]


class Accuracy(NamedTuple):
    """Share of the rows that a probe classifies correctly; with a sigmoid, share of the labels.

    Attributes:
        train: On the rows that the weights were fitted to.
        held_out: On the rows that only the penalty was chosen on.
    """

    train: float
    held_out: float


_UNKNOWN = Accuracy(math.nan, math.nan)
_LABEL_WIDTH = 56  # of 80 columns
_Kind: TypeAlias = Literal["softmax", "sigmoid"]
_FUNCTIONS = ("name", "pool", "select")  # the fields of a layer that may be functions, or modules without a name


@checked("accuracy", "bias", "classes", "layer", "weight")
@dataclass(frozen=True, eq=False)
class LinearProbe:
    """Linear classifier of one layer's features, a read-out.

    Attributes:
        layer: The layer, and the pooling of its output.
        weight: Float64 ``[C, D]``, on the CPU.
        bias: Float64 ``[C]``.
        kind: ``"softmax"`` over the columns, or ``"sigmoid"`` in each column.
        penalty: The penalty of the fit, see :mod:`captum_lkn.probes.logistic`.
        accuracy: Accuracy on the rows of the fit, and on held-out rows.
        fingerprint: SHA-256 of the model's weights; empty if it is not known or not to be checked.
        model: Name of the model's class.
        classes: Names of the columns, if the model's configuration has them; else empty.

    Raises:
        TypeError: Weight or bias is not a real floating tensor, penalty or accuracy no number, a name no string.
        ValueError: The shapes of weight and bias do not fit, a number in them is not finite, or the kind is unknown.

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
    kind: _Kind = "softmax"
    penalty: float = math.nan
    accuracy: Accuracy = _UNKNOWN
    fingerprint: str = ""
    model: str = ""
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("weight", "bias"):
            value = getattr(self, name)
            if not isinstance(value, Tensor) or not value.is_floating_point():
                raise TypeError(f"{name} must be a floating tensor; got {kind_of(value)}")
            if not bool(value.isfinite().all()):
                raise ValueError(f"{name} must be finite; it has NaN or infinity")
            with torch.inference_mode(False):  # an ordinary tensor, also from one that inference mode made
                object.__setattr__(self, name, value.detach().to("cpu", torch.float64, copy=True))
        if self.weight.dim() != 2 or self.bias.shape != self.weight.shape[:1]:
            raise ValueError(
                f"weight must be [C, D] and bias [C]; got {shape_of(self.weight)} and {shape_of(self.bias)}"
            )
        if not is_one_of(self.kind, get_args(_Kind)):
            raise ValueError(f"kind must be one of {some_of(get_args(_Kind))}; got {self.kind!r}")
        self._check_record()

    def _check_record(self) -> None:
        """Check what is known of the fit: NaN and an empty text stand for what is not."""
        if not is_number(self.penalty) or not all(map(is_number, self.accuracy)):
            raise TypeError(
                f"penalty and both accuracies must be numbers, NaN where they are not known; got {self.penalty!r} and "
                f"{self.accuracy!r}"
            )
        if self.penalty < 0 or math.isinf(self.penalty):
            raise ValueError(f"penalty must be at least 0 and finite, NaN where it is not known; got {self.penalty}")
        if not all(math.isnan(share) or 0 <= share <= 1 for share in self.accuracy):
            raise ValueError(f"accuracy must be shares from 0 to 1, NaN where they are not known; got {self.accuracy}")
        for name in ("fingerprint", "model"):
            if not isinstance(getattr(self, name), str):
                raise TypeError(f"{name} must be a string; got {getattr(self, name)!r}")
            check_text(name, getattr(self, name))
        if self.classes and len(self.classes) != len(self.bias):
            raise ValueError(
                f"classes must be one name a column, {len(self.bias)}, or empty; got {some_of(list(self.classes))}"
            )

    def __call__(self, feature: Tensor) -> Tensor:
        """Return the logits of features.

        Args:
            feature: ``[R, D]`` of any floating dtype, on any device.

        Returns:
            ``[R, C]``, float64 (float32 on MPS), on the feature's device.

        Raises:
            TypeError: `feature` is not a floating tensor.
            ValueError: `feature` is not ``[R, D]``.
        """
        if not is_floating(feature):
            raise TypeError(f"the probe of layer {self.layer.label!r} takes floating features; got {kind_of(feature)}")
        check_plain("features", feature)
        width = self.weight.shape[1]
        if feature.dim() != 2 or feature.shape[1] != width:
            raise ValueError(
                f"the probe of layer {self.layer.label!r} takes features [R, {width}]; got {kind_of(feature)}. It "
                "was fitted to another layer, another pooling or another input size"
            )
        wide = torch.float32 if feature.device.type == "mps" else torch.float64
        return linear(feature.to(wide), self.weight.to(feature.device, wide), self.bias.to(feature.device, wide))

    def predict(self, features: Tensor) -> Tensor:
        """Return the classes of features.

        Args:
            features: ``[R, D]``.

        Returns:
            int64 ``[R]``, the class of each row; of a sigmoid int64 ``[R, C]``, 0 or 1 in each column.
        """
        z = self(features)
        return z.argmax(1) if self.kind == "softmax" else (z > 0).long()

    @checked("layer", "module")
    def check(self, layer: Layer, module: nn.Module | None = None) -> None:
        """Check that a layer is the one that the probe was fitted to.

        Args:
            layer: A layer from :func:`captum_lkn.models.layers.find_layers`. Its functions must be the very ones of the
                fit; after :meth:`captum_lkn.probes.LinearProbes.load`, functions of their names.
            module: The model; None: its weights are not compared.

        Raises:
            ValueError: The probe was fitted to another layer, pooling, model or checkpoint.
        """
        own, other = self.layer.describe(), layer.describe()
        different = [f"{key} {own[key]!r}, not {other[key]!r}" for key in own if own[key] != other[key]]
        if different:
            raise ValueError(
                f"the probe of layer {self.layer.label!r} was fitted to a layer with {', '.join(different)}. Read the "
                "layer as it was fitted, or fit a new probe"
            )
        for key in _FUNCTIONS:
            fitted, read = getattr(self.layer, key), getattr(layer, key)
            if callable(fitted) and not is_same_function(fitted, read):
                other_one = "another module" if key == "name" else f"another function for its {key}"
                raise ValueError(
                    f"the probe of layer {self.layer.label!r} was fitted to a layer with {other_one}, also called "
                    f"{own[key]!r}. Read the layer as it was fitted, such as probe.layer, or fit a new probe"
                )
        if module is not None and self.fingerprint:
            check_weights(module, [self])

    def __repr__(self) -> str:
        columns, width = self.weight.shape
        return (
            f"LinearProbe of layer {shortened(repr(self.layer.label), _LABEL_WIDTH)}\n"
            f"  {count_of(width, 'feature')} -> {count_of(columns, 'column')}, {self.kind}, "
            f"penalty {self.penalty:.3g}\n"
            f"  accuracy {self.accuracy.train:.3f} train, {self.accuracy.held_out:.3f} held out"
        )


def check_weights(module: nn.Module, probes: Iterable[LinearProbe]) -> None:
    """Check that a model has the weights that probes were fitted to; probes without a fingerprint are not checked.

    Args:
        module: The model.
        probes: The probes.

    Raises:
        ValueError: The model has other weights.
    """
    known = [probe for probe in probes if probe.fingerprint]
    found = fingerprint(module) if known else ""
    for probe in known:
        if probe.fingerprint != found:
            raise ValueError(
                f"the probe of layer {probe.layer.label!r} was fitted to a {probe.model} with weights of SHA-256 "
                f"{probe.fingerprint[:12]}..., and this {type(module).__name__} has {found[:12]}.... Load the "
                "checkpoint (and dtype) that it was fitted to, fit new probes, or load the probes with strict=False"
            )
