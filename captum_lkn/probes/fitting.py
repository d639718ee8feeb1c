"""Fitting of probes: one pass over the data, then a logistic regression for each layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor
from tqdm.auto import tqdm

from captum_lkn._common.checks import is_number, is_whole
from captum_lkn._common.memory import out_of_memory
from captum_lkn._common.messages import count_of
from captum_lkn._common.progress import Bar, is_hidden
from captum_lkn._common.warn import warn
from captum_lkn.models.fingerprint import fingerprint
from captum_lkn.models.hugging_face.facts import class_names
from captum_lkn.models.layers import Layer, LayerLike, find_layers
from captum_lkn.models.model import Model
from captum_lkn.probes.features import FeatureStore, read_features
from captum_lkn.probes.labelled import check_classes, count_batches, labelled_batches
from captum_lkn.probes.linear import Accuracy, LinearProbe
from captum_lkn.probes.logistic import accuracy, check_penalties, held_out_rows, logits
from captum_lkn.probes.minibatches import fit_in_minibatches
from captum_lkn.probes.newton import fit_exactly

__all__ = ["fit_probes"]

_BYTES_A_NUMBER = 24  # of a layer's features while they are fitted: two copies in float64, and what the solver needs


def fit_probes(
    model: Callable[..., Any],
    layers: LayerLike | Sequence[LayerLike],
    dataloader: Iterable[Any],
    *,
    held_out: float,
    penalties: Sequence[float] | None,
    seed: int,
    batch_size: int,
    memory_limit: int,
    show_progress: bool,
) -> list[LinearProbe]:
    """Fit a probe to each layer; see :meth:`captum_lkn.probes.LinearProbes.fit` for the arguments and errors.

    Returns:
        One probe for each layer.
    """
    _check_options(held_out, seed, batch_size, memory_limit)
    check_penalties(penalties)
    called = Model(model)
    found = find_layers(called, layers)
    # Probes are ordinary tensors and take part in gradients, also where a caller has torch.inference_mode on.
    with torch.inference_mode(False), FeatureStore(len(found), memory_limit) as store:
        labels, columns = read_features(
            called,
            found,
            labelled_batches(called, dataloader, batch_size),
            store,
            total=count_batches(dataloader, batch_size),
            show_progress=show_progress,
        )
        check_classes(labels, columns, "in the data")
        held = held_out_rows(labels, held_out, seed)
        check_classes(labels[~held], columns, f"in the rows that are fitted (held_out={held_out}, seed={seed})")
        if not bool(held.any()):
            raise ValueError(f"no row can be held out of {count_of(len(labels), 'row')}. Give several rows of a class")
        with _bar(len(found), show_progress) as bar:
            probes = [
                _fit(layer, features, labels, held, columns, penalties, seed, memory_limit, bar.update)
                for layer, features in zip(found, store.tensors(), strict=True)
            ]
    weights = "" if called.module is None else fingerprint(called.module)
    names = class_names(called.inner)
    classes = tuple(names[column] for column in range(columns)) if set(names) == set(range(columns)) else ()
    return [replace(probe, fingerprint=weights, model=called.name, classes=classes) for probe in probes]


def _bar(layers: int, shown: bool) -> tqdm[Any]:
    """Return a progress bar that counts layers and parts of a layer, whose fit may take minutes."""
    form = "{l_bar}{bar}| {n:.1f}/{total} layers [{elapsed}<{remaining}]"
    return Bar(total=layers, desc="Probes", bar_format=form, mininterval=0, disable=is_hidden(shown))


def _fit(
    layer: Layer,
    features: Tensor,
    labels: Tensor,
    held: Tensor,
    columns: int,
    penalties: Sequence[float] | None,
    seed: int,
    memory_limit: int,
    advance: Callable[[float], object],
) -> LinearProbe:
    fit = None
    if _BYTES_A_NUMBER * features.numel() <= memory_limit:
        try:
            fit = fit_exactly(features, labels, held, columns, penalties, advance=advance)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            warn(
                f"out of memory with all features of layer {layer.label!r}: fitting it in minibatches, which comes "
                "close to the optimum only. Give a smaller memory_limit to choose that"
            )
    if fit is None:
        fit = fit_in_minibatches(features, labels, held, columns, penalties, seed=seed, advance=advance)
    sides = (logits(features, fit.weight, fit.bias, side.nonzero()[:, 0]) for side in (~held, held))
    train, unseen = (accuracy(z, labels[side]) for z, side in zip(sides, (~held, held), strict=True))
    kind: Literal["softmax", "sigmoid"] = "softmax" if labels.dim() == 1 else "sigmoid"
    return LinearProbe(layer, fit.weight, fit.bias, kind, float(fit.penalty), Accuracy(train, unseen))


def _check_options(held_out: Any, seed: Any, batch_size: Any, memory_limit: Any) -> None:
    if not is_number(held_out) or not 0 < held_out < 1:
        raise ValueError(f"held_out must be a share between 0 and 1, such as 0.2; got {held_out!r}")
    for name, value, least in (("seed", seed, 0), ("batch_size", batch_size, 1), ("memory_limit", memory_limit, 0)):
        if not is_whole(value) or value < least:
            raise ValueError(f"{name} must be a whole number from {least}; got {value!r}")
