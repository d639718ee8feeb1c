"""Labelled data in the forms that users have them, as a model's arguments and labels.

======================================  ==========================================================================
a batch, one entry of a DataLoader      what the model gets
======================================  ==========================================================================
a mapping with ``labels`` or ``label``  its other entries, by keyword
``(x, labels)``                         x: a tensor, a tuple (by position), a mapping (by keyword)
``(x, ..., labels)``                    all but the last, by position
======================================  ==========================================================================

A tokenised data set is taken as well: a sequence of single examples, mappings with ``input_ids`` and a label, such
as a ``datasets.Dataset``. They are put into batches and padded here.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from captum_lkn._common.messages import count_of, kind_of, shape_of, some_of
from captum_lkn.models.model import Arguments, Model

__all__ = ["as_labels", "check_classes", "count_batches", "labelled_batches"]

_LABELS = ("labels", "label")
_FORMS = (
    "give a mapping with labels, such as a BatchEncoding, or a pair (x, labels); DataLoader(dataset, batch_size=32) "
    "makes batches of a data set of pairs"
)


def labelled_batches(model: Model, dataloader: Iterable[Any], batch_size: int) -> Iterator[tuple[Arguments, Tensor]]:
    """Arguments and labels of each batch.

    Args:
        model: What will get the arguments.
        dataloader: Batches, or a tokenised data set; see the top of this module. It is gone through once.
        batch_size: How many examples of a tokenised data set form a batch.

    Returns:
        An iterator over the arguments of a forward, and labels as they were given.

    Raises:
        TypeError: A batch has none of these forms.
        ValueError: A batch has no labels, or no inputs.

    Example:
        >>> pairs = [(torch.zeros(2, 3), torch.tensor([0, 1]))]
        >>> for arguments, labels in labelled_batches(Model(torch.nn.Linear(3, 2)), pairs, 32):
        ...     arguments.inputs[0].shape, labels
        (torch.Size([2, 3]), tensor([0, 1]))
    """
    if isinstance(dataloader, (Mapping, Tensor, str)) or not isinstance(dataloader, Iterable):
        raise TypeError(f"dataloader must be batches, such as a DataLoader; got {kind_of(dataloader)}: {_FORMS}")
    return _arguments(_padded(model, dataloader, batch_size) if _is_tokenised(dataloader) else dataloader)


def count_batches(dataloader: Any, batch_size: int) -> int | None:
    """How many batches there will be, if that can be told.

    Args:
        dataloader: As in :func:`labelled_batches`.
        batch_size: The same.

    Returns:
        Their number, or None.
    """
    try:
        length = len(dataloader)
    except TypeError:
        return None
    return -(-length // batch_size) if _is_tokenised(dataloader) else length


def as_labels(labels: Tensor, output: Tensor) -> Tensor:
    """The labels of a batch as classes, or as 0 and 1 in each column.

    Args:
        labels: Integers ``[B]``, the class of each row; or ``[B, C]`` of 0 and 1, also ``[B]`` for C = 1.
        output: ``[B, C]`` or ``[B]``, the model's output: column c of a probe is column c of it.

    Returns:
        int64 ``[B]``, classes of a softmax; or float64 ``[B, C]``, for a sigmoid in each column.

    Raises:
        ValueError: They do not fit the output, are out of range, missing (-100), or no classes at all.

    Example:
        >>> as_labels(torch.tensor([2, 0]), torch.zeros(2, 3))
        tensor([2, 0])
        >>> as_labels(torch.tensor([1, 0]), torch.zeros(2, 1))
        tensor([[1.],
                [0.]], dtype=torch.float64)
    """
    if output.dim() not in (1, 2):
        raise ValueError(
            f"the model's output is {kind_of(output)}: probes need one row of outputs a sample, [B, C]; wrap the "
            "model in a module that returns such rows"
        )
    columns = output.shape[1] if output.dim() == 2 else 1
    if labels.dim() == 0 or len(labels) != len(output):
        raise ValueError(
            f"labels are {kind_of(labels)}, and the model's output {shape_of(output)}: give one label a row"
        )
    whole = not labels.is_floating_point()
    labels = labels.detach().cpu()
    if whole and labels.dim() == 2 and labels.shape[1] == 1 < columns:
        labels = labels[:, 0]
    if whole and bool((labels < 0).any()):
        raise ValueError(
            f"labels has {int(labels.min())}, which marks a missing label: leave rows without a label out of the data"
        )
    if not whole or labels.dim() > 1 or columns == 1:
        return _as_flags(labels, columns).double()
    if int(labels.max()) >= columns:
        raise ValueError(
            f"labels has {int(labels.max())}, and the model's output has {columns} columns: give classes 0 to "
            f"{columns - 1}, in the order of the columns"
        )
    return labels.long()


def check_classes(labels: Tensor, columns: int, where: str) -> None:
    """Check that each class has a row, and each column of 0s and 1s both of them.

    Args:
        labels: From :func:`as_labels`.
        columns: How many the model's output has.
        where: Where they are, for the message.

    Raises:
        ValueError: One has none.
    """
    if labels.dim() == 1:
        missing = sorted(set(range(columns)) - set(labels.tolist()))
        wanted = f"no row of class {some_of(missing)}, of the {columns} that the model's output has"
    else:
        missing = [c for c, share in enumerate(labels.mean(0).tolist()) if share in (0.0, 1.0)]
        wanted = f"only one value in column {some_of(missing)}, of 0 and 1"
    if missing:
        raise ValueError(
            f"there is {wanted}, {where}: give data that has all, or another model whose output has no more columns"
        )


def _arguments(batches: Iterable[Any]) -> Iterator[tuple[Arguments, Tensor]]:
    for batch in batches:
        x, labels = _parted(batch)
        tensors = x if isinstance(x, Mapping) else dict(enumerate(x if isinstance(x, tuple) else (x,)))
        named = {name: value for name, value in tensors.items() if isinstance(value, Tensor)}
        if not named or (named.keys() != tensors.keys() and not isinstance(x, Mapping)):
            raise TypeError(f"the inputs of a batch are {some_of([kind_of(v) for v in tensors.values()])}: {_FORMS}")
        if isinstance(x, Mapping):
            others = {name: value for name, value in x.items() if name not in named}
            yield Arguments(tuple(named.values()), tuple(map(str, named)), keywords=others), labels
        else:
            yield Arguments(tuple(named.values())), labels


def _as_flags(labels: Tensor, columns: int) -> Tensor:
    flags = labels[:, None] if labels.dim() == 1 and columns == 1 else labels
    if flags.shape[1:] != (columns,):
        raise ValueError(
            f"labels are {kind_of(labels)}, and the model's output has {count_of(columns, 'column')}: give each row "
            f"its class, integers [B], or 0 and 1 for each column, [B, {columns}]"
        )
    odd = flags[(flags != 0) & (flags != 1)]
    if len(odd):
        raise ValueError(
            f"labels has {float(odd[0]):g}, which is neither 0 nor 1: a probe tells classes, and a regression has "
            "none. Cut its values into classes, or read layers by a function of your own, readout(feature) -> [R, 1]"
        )
    return flags


def _parted(batch: Any) -> tuple[Any, Tensor]:
    """Inputs and labels of one batch."""
    if isinstance(batch, Mapping):
        names = [name for name in _LABELS if name in batch]
        if len(names) != 1:
            has = " and ".join(names) if names else f"only {some_of(list(batch))}"
            raise ValueError(f"a batch has {has}: give its labels as labels or label, one of the two")
        x = {name: value for name, value in batch.items() if name != names[0]}
        if listed := [name for name, value in x.items() if isinstance(value, (list, str))]:
            raise TypeError(
                f"entry {listed[0]!r} of a batch is {kind_of(x[listed[0]])}: give tensors, and leave out what the "
                "model does not take, such as with dataset.set_format('torch', columns=[...])"
            )
        return x, _as_tensor(batch[names[0]])
    if not isinstance(batch, (tuple, list)) or len(batch) < 2:
        raise TypeError(f"a batch is {kind_of(batch)}: {_FORMS}")
    *inputs, labels = batch
    first = inputs[0] if len(inputs) == 1 else inputs
    return tuple(first) if isinstance(first, list) else first, _as_tensor(labels)


def _as_tensor(labels: Any) -> Tensor:
    try:
        tensor = torch.as_tensor(labels)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"labels are {kind_of(labels)}, of which no tensor can be made ({error}): {_FORMS}") from error
    if tensor.dim() == 0:
        raise TypeError(f"a batch has the single label {tensor.item()}, as an example has: {_FORMS}")
    return tensor


def _is_tokenised(dataloader: Any) -> bool:
    """Whether these are single examples with token ids, not batches."""
    if not (hasattr(dataloader, "__getitem__") and hasattr(dataloader, "__len__")) or len(dataloader) == 0:
        return False
    first = dataloader[0]
    ids = first.get("input_ids") if isinstance(first, Mapping) else None
    return ids is not None and len(ids) > 0 and torch.as_tensor(ids[0]).dim() == 0


def _padded(model: Model, examples: Any, batch_size: int) -> Iterator[dict[str, Any]]:
    """Batches of tokenised examples; where one is shorter the attention mask is 0."""
    function: Any = model.forward_func
    pad = getattr(getattr(function, "config", None), "pad_token_id", None)
    taken = set(inspect.signature(function.forward).parameters) if model.is_hugging_face else None
    for start in range(0, len(examples), batch_size):
        rows = [examples[i] for i in range(start, min(start + batch_size, len(examples)))]
        length = len(rows[0]["input_ids"])
        names = [
            name
            for name, value in rows[0].items()
            if (taken is None or name in taken)
            and isinstance(value, (Sequence, Tensor))
            and not isinstance(value, str)
            and name not in _LABELS
            and len(value) == length
        ]
        batch = {
            name: _stacked([row[name] for row in rows], (pad or 0) if name == "input_ids" else 0) for name in names
        }
        if "attention_mask" not in batch and (taken is None or "attention_mask" in taken):
            batch["attention_mask"] = _stacked([[1] * len(row["input_ids"]) for row in rows], 0)
        label = next((name for name in _LABELS if name in rows[0]), None)
        if label is None:
            raise ValueError(f"an example has only {some_of(list(rows[0]))}: give its label as label or labels")
        yield batch | {label: torch.as_tensor([row[label] for row in rows])}


def _stacked(rows: list[Any], pad: int) -> Tensor:
    longest = max(map(len, rows))
    return torch.tensor(
        [[*(row.tolist() if isinstance(row, Tensor) else row), *[pad] * (longest - len(row))] for row in rows]
    )
