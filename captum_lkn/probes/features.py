"""Features of labelled data: one pass of a model for all layers.

Features are kept in float32, in memory or, beyond a limit, in temporary files that are mapped into memory.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final

import torch
from torch import Tensor

from captum_lkn._common.memory import out_of_memory
from captum_lkn._common.messages import kind_of
from captum_lkn._common.progress import Bar, is_hidden
from captum_lkn._common.warn import warn
from captum_lkn.models.arguments import Arguments
from captum_lkn.models.layers import Layer
from captum_lkn.models.model import Model
from captum_lkn.models.reading import LayerReader
from captum_lkn.models.trimming import without_padding
from captum_lkn.probes.labelled import as_labels, refuse_one_hot

__all__ = ["FeatureStore", "read_features"]

_PADDED: Final = 0.01  # the share of the largest feature by which padding may change one: half precision stays below


class FeatureStore:
    """Rows of features of several layers, a context manager that removes its temporary files at the end.

    Args:
        layers: Number of layers.
        limit: Bytes that may be kept in memory. Beyond it all features go to files, in the folder that :mod:`tempfile`
            uses (the environment's ``TMPDIR``).

    Example:
        >>> with FeatureStore(2, limit=0) as store:
        ...     store.append([torch.ones(3, 4), torch.zeros(3, 1)])
        ...     store.append([torch.ones(1, 4), torch.zeros(1, 1)])
        ...     [list(features.shape) for features in store.tensors()]
        [[4, 4], [4, 1]]
    """

    def __init__(self, layers: int, limit: int) -> None:
        self._parts: list[list[Tensor]] = [[] for _ in range(layers)]
        self._widths = [0] * layers
        self._limit = limit
        self._size = 0
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._files: list[BinaryIO] = []

    def __enter__(self) -> FeatureStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._files:
            file.close()
        if self._folder is not None:
            self._folder.cleanup()

    def append(self, features: Sequence[Tensor]) -> None:
        """Append rows of features.

        Args:
            features: For each layer float32 ``[R, D]`` on the CPU.
        """
        for place, rows in enumerate(features):
            self._parts[place].append(rows)
            self._widths[place] = rows.shape[1]
            self._size += rows.numel() * rows.element_size()
        if self._size > self._limit:
            self._spill()

    def tensors(self) -> list[Tensor]:
        """Return the features, float32 ``[N, D]`` for each layer; they are valid inside the ``with`` only."""
        if not self._files:
            joined = []
            while self._parts:  # one layer at a time, so that only one is in memory twice
                joined.append(torch.cat(self._parts.pop(0)))
            return joined
        mapped = []
        for file, width in zip(self._files, self._widths, strict=True):
            file.flush()
            count = Path(file.name).stat().st_size // 4
            mapped.append(
                torch.from_file(file.name, shared=False, size=count, dtype=torch.float32, device="cpu").reshape(
                    -1, width
                )
            )
        return mapped

    def _spill(self) -> None:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="captum-lkn-", ignore_cleanup_errors=True)
            self._files = [open(Path(self._folder.name, str(i)), "wb") for i in range(len(self._parts))]  # noqa: SIM115
        for parts, file in zip(self._parts, self._files, strict=True):
            for rows in parts:
                file.write(rows.contiguous().numpy().data)
            parts.clear()


def read_features(
    model: Model,
    layers: Sequence[Layer],
    batches: Iterable[tuple[Arguments, Tensor]],
    store: FeatureStore,
    *,
    total: int | None = None,
    show_progress: bool = False,
) -> tuple[Tensor, int]:
    """Run a model over labelled data once, and store the features of its layers.

    Args:
        model: The model; it is left as found.
        layers: From :func:`captum_lkn.models.layers.find_layers`.
        batches: Arguments and labels, from :func:`captum_lkn.probes.labelled.labelled_batches`.
        store: Receives the features.
        total: Number of batches, for the progress bar.
        show_progress: Whether to show a progress bar.

    Returns:
        The labels, int64 ``[N]`` or float64 ``[N, C]``; and the number C of columns of the model's output.

    Raises:
        ValueError: There is no batch; labels do not fit the output, or may be classes as well as labels by themselves
            (one-hot integers); a feature is not finite.

    Warns:
        UserWarning: Token ids are padded, there is no attention mask, and features depend on the padding; too little
            memory for a batch, which is halved.
    """
    labels: list[Tensor] = []
    compared = False
    columns, whole = 0, model.output_kind != "labels"  # a model that states its labels leaves nothing open

    def keep(place: int, feature: Tensor) -> Tensor:
        kept = feature.detach().to("cpu", torch.float32)
        if not bool(kept.isfinite().all()):
            raise ValueError(
                f"layer {layers[place].label!r} has features that are not finite ({kind_of(feature)}), in row "
                f"{sum(map(len, labels)) + forwards.start + int((~kept.isfinite()).any(1).nonzero()[0])} of the data: "
                "probes need finite features. Call .float() on a model of half precision, or leave the row out"
            )
        # A copy, because a model may reuse the memory of its output, and rows may be a view of all tokens.
        return kept.clone()

    # Batches are drawn inside the session too, which restores the random state that a shuffling loader changes.
    with model.session(), LayerReader(model, layers) as reader:
        forwards = _Forwards(reader, keep)
        bar = Bar(batches, total=total, desc=f"Features of {len(layers)} layers", disable=is_hidden(show_progress))
        for arguments, given in bar:
            output, features = forwards(arguments)
            own = as_labels(given, output)
            if labels and own.dim() != labels[0].dim():
                raise ValueError(
                    f"labels must be of one kind in all batches; got {kind_of(own)} after {kind_of(labels[0])}"
                )
            labels.append(own)
            whole = whole and not given.is_floating_point()
            columns = output.shape[1] if output.dim() > 1 else 1
            store.append(features)
            compared = compared or _compare_without_padding(model, reader, arguments, features)
    if not labels:
        raise ValueError("dataloader has no batch. Give labelled data; a generator is empty after its first use")
    joined = torch.cat(labels)
    if whole:
        refuse_one_hot(joined)
    return joined, columns


class _Forwards:
    """Forwards of batches, in halves of them where memory runs out.

    Args:
        reader: Reads the layers.
        keep: From a layer's place and its feature to what is kept of it.

    Attributes:
        start: The number of rows of the batch that were in forwards before the one that runs.
    """

    def __init__(self, reader: LayerReader, keep: Callable[[int, Tensor], Tensor]) -> None:
        self._reader, self._keep = reader, keep
        self.start = 0
        self._most: int | None = None  # rows of a forward; None: all of a batch

    def __call__(self, arguments: Arguments) -> tuple[Tensor, list[Tensor]]:
        """Return the output and the features of a batch."""
        batch, self.start = len(arguments.inputs[0]), 0
        outputs: list[Tensor] = []
        features: list[tuple[Tensor, ...]] = []
        while self.start < batch or not outputs:
            start = self.start
            stop = batch if self._most is None else min(start + self._most, batch)
            try:
                output, kept = self._reader(_some_rows(arguments, start, stop, batch), self._keep)
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error) or stop - start == 1:
                    raise
            else:
                outputs.append(output.tensor)
                features.append(kept)
                self.start = stop
                continue
            self._most = (stop - start) // 2
            warn(
                f"out of memory with {stop - start} rows of data in a forward: going on with {self._most}. Give "
                "smaller batches"
            )
            torch.cuda.empty_cache()
        if len(outputs) == 1:
            return outputs[0], list(features[0])
        return torch.cat(outputs), [torch.cat(parts) for parts in zip(*features, strict=True)]


def _some_rows(arguments: Arguments, start: int, stop: int, batch: int) -> Arguments:
    """Return the arguments of some rows of a batch."""
    if stop - start == batch:
        return arguments
    inputs = tuple(x[start:stop] if x.dim() and len(x) == batch else x for x in arguments.inputs)
    return replace(arguments, inputs=inputs).rows(torch.arange(start, stop, device="cpu"), batch)


def _compare_without_padding(
    model: Model, reader: LayerReader, arguments: Arguments, features: Sequence[Tensor]
) -> bool:
    """Compare a padded row with itself alone where no attention mask marks padding; return whether there was one.

    Args:
        model: The model.
        reader: Reads the layers.
        arguments: The arguments of a batch.
        features: For each layer float32 ``[R, D]`` on the CPU.
    """
    group = next(without_padding(model, arguments, len(features[0]), 1), None)
    if group is None or group.is_marked:
        return False
    _, alone = reader(group.arguments, lambda _, feature: feature.detach().to("cpu", torch.float32).clone())
    for layer, padded, own in zip(reader.layers, features, alone, strict=True):
        row = padded[group.samples[0]]
        if row.shape == own[0].shape and float((row - own[0]).abs().max()) > _PADDED * float(own.abs().max()):
            warn(
                f"{model.name} got no attention_mask, and takes the padding tokens for words: the features of layer "
                f"{layer.label!r} depend on the longest text of a batch. Give batches with attention_mask, such as all "
                "that the tokenizer returns"
            )
            break
    return True
