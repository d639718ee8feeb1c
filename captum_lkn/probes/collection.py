"""Linear probes of several layers, and their file."""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, get_args

from torch import Tensor, nn

from captum_lkn._common import files
from captum_lkn._common.arguments import checked
from captum_lkn._common.formats import aligned, printable, shortened
from captum_lkn._common.messages import count_of, kind_of, some_of
from captum_lkn._common.warn import warn
from captum_lkn.models.layers import Layer, LayerLike
from captum_lkn.models.pooling import LAMBDA, Named, RememberedFunction, name_of
from captum_lkn.probes.fitting import fit_probes
from captum_lkn.probes.linear import Accuracy, LinearProbe, check_weights

__all__ = ["MEMORY_LIMIT", "LinearProbes"]

MEMORY_LIMIT = 2 * 2**30
"""Default limit of the memory for features, 2 GiB; fitting one layer may take as much again."""

_SCHEMA = "LinearProbes"
_LABEL_WIDTH = 32  # of a table of 80 columns


class LinearProbes(Mapping[str, LinearProbe]):
    """Linear probes by the labels of their layers, an immutable mapping.

    Args:
        probes: One probe for each layer.

    Raises:
        TypeError: An entry is not a :class:`LinearProbe`.
        ValueError: There is none, or two have the same layer.

    Example:
        >>> import torch
        >>> network = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2)).eval()
        >>> x = torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
        >>> batches = [(x, (x[:, 0] > 0).long())]
        >>> probes = LinearProbes.fit(network, ["0", "1"], batches)
        >>> list(probes)
        ['0', '1']
        >>> probes["1"](torch.zeros(1, 8)).shape
        torch.Size([1, 2])
    """

    def __init__(self, probes: Iterable[LinearProbe]) -> None:
        if isinstance(probes, Tensor) or not isinstance(probes, Iterable):
            raise TypeError(f"probes must be LinearProbe objects, such as probes.values(); got {kind_of(probes)}")
        given = list(probes)
        for probe in given:
            if not isinstance(probe, LinearProbe):
                raise TypeError(
                    f"probes must be LinearProbe objects, such as probes.values(); got {kind_of(probe)} among them"
                )
        labels = [probe.layer.label for probe in given]
        if not given or len(set(labels)) < len(labels):
            raise ValueError(f"probes must be one for each layer; got probes of the layers {some_of(labels) or 'none'}")
        self._probes = dict(zip(labels, given, strict=True))

    @classmethod
    @checked("seed", "show_progress")
    def fit(
        cls,
        model: Callable[..., Any],
        layers: LayerLike | Sequence[LayerLike],
        dataloader: Iterable[Any],
        *,
        held_out: float = 0.2,
        penalties: Sequence[float] | None = None,
        seed: int = 0,
        batch_size: int = 32,
        memory_limit: int = MEMORY_LIMIT,
        show_progress: bool = False,
    ) -> LinearProbes:
        """Fit a probe to each layer, with one pass of the model over the data for all layers.

        A part of the rows is held out, and the rest is fitted with several penalties. The penalty with the smallest
        loss on the held-out rows is kept. The weights are not fitted again on all rows, so that the held-out accuracy
        belongs to the weights that are used.

        Args:
            model: An ``nn.Module``, any callable, or a Hugging Face model.
            layers: Names, modules, numbers of blocks or :class:`captum_lkn.models.layers.Layer` objects.
            dataloader: Labelled batches, each a mapping with ``labels`` or a pair ``(x, labels)``; or a tokenised data
                set; see :mod:`captum_lkn.probes.labelled`. Labels are classes, integers ``[B]``, for a softmax over
                the columns of the model's output; or 0 and 1, ``[B, C]``, for a sigmoid in each column (as floats, if
                each row has a single 1).
            held_out: The share of the rows of each class that is held out.
            penalties: The penalties to choose from. None: seven, from 10 to 1e-5 times the mean variance of a feature.
                A single penalty is used as it is; rows are held out all the same.
            seed: Seed of the choice of held-out rows, and of the order of minibatches.
            batch_size: Number of examples in a batch of a tokenised data set; other data come in batches.
            memory_limit: Limit in bytes. If the features of all layers, 4 bytes a number, exceed it, they are kept in
                temporary files. If the features of one layer exceed it while they are fitted, 24 bytes a number, that
                layer is fitted in minibatches by Adam, which comes close to the optimum only.
            show_progress: Whether to show progress bars.

        Returns:
            The probes, in the order of `layers`.

        Raises:
            TypeError: A batch or an argument has the wrong type.
            ValueError: There is no batch, labels do not fit the model's output, a class has no row, a feature is not
                finite, or an argument is out of range.

        Warns:
            UserWarning: The model is in training mode; a fit did not reach its optimum; memory has run out, so that
                batches are halved, or a layer is fitted in minibatches.
        """
        return cls(
            fit_probes(
                model,
                layers,
                dataloader,
                held_out=held_out,
                penalties=penalties,
                seed=seed,
                batch_size=batch_size,
                memory_limit=memory_limit,
                show_progress=show_progress,
            )
        )

    @checked()
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all probes to one file; :func:`captum_lkn._common.files.write` lists the errors.

        Args:
            path: The file, ending in ``.safetensors``.

        Warns:
            UserWarning: A layer is read by a lambda, of which the file cannot hold a name.
        """
        for label, probe in self.items():
            if any(callable(part) and name_of(part) == LAMBDA for part in (probe.layer.pool, probe.layer.select)):
                warn(
                    f"layer {label!r} is read by a lambda, which has no name: probes that are loaded from the file "
                    "will not be accepted for it. Give a function with a name, made by def"
                )
        tensors: dict[str, Tensor] = {}
        entries = []
        for place, probe in enumerate(self.values()):
            tensors |= {f"{place}.weight": probe.weight, f"{place}.bias": probe.bias}
            figures = {"penalty": probe.penalty, "train": probe.accuracy.train, "held_out": probe.accuracy.held_out}
            entries.append(
                {
                    "layer": probe.layer.describe(),
                    "kind": probe.kind,
                    "fingerprint": probe.fingerprint,
                    "model": probe.model,
                    "classes": probe.classes,
                    # A probe that was not fitted here has NaN, which JSON lacks.
                    **{name: value if math.isfinite(value) else None for name, value in figures.items()},
                }
            )
        files.write(path, _SCHEMA, tensors, {"probes": entries})

    @classmethod
    @checked("path", "strict")
    def load(cls, path: str | os.PathLike[str], *, strict: bool = True) -> LinearProbes:
        """Read probes that :meth:`save` wrote; :func:`captum_lkn._common.files.load` lists the errors.

        Of a function that pools or selects a layer's output, the file holds the name only. The name is compared with
        that of the layer that is read; a lambda has none, and is refused.

        Args:
            path: The file.
            strict: Whether the probes refuse a model with other weights than they were fitted to.

        Returns:
            The probes, bit for bit as they were saved.
        """
        return files.load(path, _SCHEMA, lambda *content: cls(_unpacked(*content, strict=strict)))

    @checked("module")
    def check(self, module: nn.Module) -> None:
        """Check that a model has the weights that the probes were fitted to.

        Args:
            module: The model.

        Raises:
            ValueError: The model has other weights.
        """
        check_weights(module, self.values())

    def __getitem__(self, label: str) -> LinearProbe:
        if label not in self._probes:
            near = difflib.get_close_matches(str(label), self._probes, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {some_of(list(self._probes))}"
            raise KeyError(f"there is no probe of a layer {label!r}: {hint}")
        return self._probes[label]

    def __iter__(self) -> Iterator[str]:
        return iter(self._probes)

    def __len__(self) -> int:
        return len(self._probes)

    def __contains__(self, label: object) -> bool:
        return label in self._probes

    def __repr__(self) -> str:
        head = ("layer", "features", "penalty", "train", "held out")
        rows = [
            (
                shortened(printable(label), _LABEL_WIDTH),
                str(p.weight.shape[1]),
                f"{p.penalty:.2g}",
                f"{p.accuracy.train:.3f}",
                f"{p.accuracy.held_out:.3f}",
            )
            for label, p in self.items()
        ]
        first = next(iter(self.values()))
        title = f"LinearProbes of {count_of(len(self), 'layer')}, {count_of(len(first.bias), 'column')} ({first.kind})"
        return "\n  ".join([f"{title}; accuracy:", *aligned([head, *rows])])


def _unpacked(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any], *, strict: bool) -> Iterator[LinearProbe]:
    """Yield the probes of a file; without their fingerprints where they need not be of one model."""
    for place, entry in enumerate(metadata["probes"]):
        yield LinearProbe(
            layer=_remembered(entry["layer"]),
            weight=tensors[f"{place}.weight"],
            bias=tensors[f"{place}.bias"],
            kind=entry["kind"],
            penalty=_number(entry["penalty"]),
            accuracy=Accuracy(_number(entry["train"]), _number(entry["held_out"])),
            fingerprint=entry["fingerprint"] if strict else "",
            model=entry["model"],
            classes=tuple(entry["classes"]),
        )


def _remembered(description: Mapping[str, Any]) -> Layer:
    functions = {
        name: RememberedFunction(description[name].removesuffix("()"))
        for name in ("pool", "select")
        if description[name] not in (None, *get_args(Named))
    }
    return Layer(**{**description, **functions})


def _number(value: float | None) -> float:
    return math.nan if value is None else value
