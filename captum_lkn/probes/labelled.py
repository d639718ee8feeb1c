"""Labelled data in its usual forms, as a model's arguments and labels.

======================================  ==========================================================================
a batch, one entry of a DataLoader      arguments of the model
======================================  ==========================================================================
a mapping with ``labels`` or ``label``  its other entries, by keyword
``(x, labels)``                         x: a tensor, a tuple (by position), a mapping (by keyword)
``(x, ..., labels)``                    all but the last, by position
======================================  ==========================================================================

A tokenised data set is accepted as well: a sequence of single examples, mappings with ``input_ids`` and a label, such
as a ``datasets.Dataset``. Its examples are padded and put into batches here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from captum_lkn._common.messages import kind_of, shape_of, some_of
from captum_lkn.models.arguments import Arguments
from captum_lkn.models.hugging_face.facts import padding_token
from captum_lkn.models.model import Model

__all__ = ["as_labels", "check_classes", "count_batches", "labelled_batches", "refuse_one_hot"]

_LABELS = ("labels", "label")
_FORMS = (
    "Give a mapping with labels, such as a BatchEncoding, or a pair (x, labels); DataLoader(dataset, batch_size=32) "
    "makes batches of a data set of pairs"
)


def labelled_batches(model: Model, dataloader: Iterable[Any], batch_size: int) -> Iterator[tuple[Arguments, Tensor]]:
    """Yield the arguments and labels of each batch.

    Args:
        model: The model that the arguments are for.
        dataloader: Batches, or a tokenised data set; see the top of this module. It is iterated once.
        batch_size: Number of examples in a batch of a tokenised data set.

    Returns:
        An iterator over pairs: the arguments of a forward, and the labels as they were given.

    Raises:
        TypeError: A batch has another form.
        ValueError: A batch has no labels, or no inputs.

    Example:
        >>> pairs = [(torch.zeros(2, 3), torch.tensor([0, 1]))]
        >>> for arguments, labels in labelled_batches(Model(torch.nn.Linear(3, 2)), pairs, 32):
        ...     arguments.inputs[0].shape, labels
        (torch.Size([2, 3]), tensor([0, 1]))
    """
    if isinstance(dataloader, (Mapping, Tensor, str)) or not isinstance(dataloader, Iterable):
        raise TypeError(f"dataloader must be batches, such as a DataLoader; got {kind_of(dataloader)}. {_FORMS}")
    return _arguments(_padded(model, dataloader, batch_size) if _is_tokenised(dataloader) else dataloader)


def count_batches(dataloader: Any, batch_size: int) -> int | None:
    """Return the number of batches, if the data has a length.

    Args:
        dataloader: As in :func:`labelled_batches`.
        batch_size: As in :func:`labelled_batches`.

    Returns:
        The number of batches, or None.
    """
    try:
        length = len(dataloader)
    except TypeError:
        return None
    return -(-length // batch_size) if _is_tokenised(dataloader) else length


def as_labels(labels: Tensor, output: Tensor) -> Tensor:
    """Convert the labels of a batch to classes, or to 0 and 1 in each column.

    Args:
        labels: Integers ``[B]``, the class of each row; or ``[B, C]`` of 0 and 1, also ``[B]`` for C = 1.
        output: ``[B, C]`` or ``[B]``, the model's output; column c of a probe stands for column c of it.

    Returns:
        int64 ``[B]``, classes of a softmax; or float64 ``[B, C]``, for a sigmoid in each column.

    Raises:
        ValueError: The labels do not fit the output, are out of range, missing (-100), or not classes.

    Example:
        >>> as_labels(torch.tensor([2, 0]), torch.zeros(2, 3))
        tensor([2, 0])
        >>> as_labels(torch.tensor([1, 0]), torch.zeros(2, 1))
        tensor([[1.],
                [0.]], dtype=torch.float64)
    """
    if output.dim() not in (1, 2):
        raise ValueError(
            f"the model's output must be one row for each sample, [B, C]; got {kind_of(output)}. Wrap the model in a "
            "module that returns such rows"
        )
    columns = output.shape[1] if output.dim() == 2 else 1
    if labels.dim() == 0 or len(labels) != len(output):
        raise ValueError(
            f"labels must be one for each row of the model's output, which is {shape_of(output)}; got {kind_of(labels)}"
        )
    whole = not labels.is_floating_point()
    labels = labels.detach().cpu()
    if whole and labels.dim() == 2 and labels.shape[1] == 1 < columns:
        labels = labels[:, 0]
    if whole and bool((labels < 0).any()):
        raise ValueError(
            f"labels must be 0 or larger; got {int(labels.min())}, which marks a missing label. Leave out the rows "
            "without a label"
        )
    if not whole or labels.dim() > 1 or columns == 1:
        return _as_flags(labels, columns).double()
    if int(labels.max()) >= columns:
        raise ValueError(
            f"labels must be classes from 0 to {columns - 1}, the columns of the model's output; "
            f"got {int(labels.max())}"
        )
    return labels.long()


def refuse_one_hot(labels: Tensor) -> None:
    """Refuse labels of all rows that are given as integers and have a single 1 in each row.

    They are classes, one-hot, or labels of which each row happens to have one: the kinds of probe differ.

    Args:
        labels: From :func:`as_labels`, for integers.

    Raises:
        ValueError: Each row has a single 1.

    Example:
        >>> refuse_one_hot(torch.tensor([[1, 0, 1], [0, 1, 0]]))
    """
    if labels.dim() == 2 and labels.shape[1] > 1 and bool((labels.sum(1) == 1).all()):
        raise ValueError(
            f"labels are integers [B, {labels.shape[1]}] with a single 1 in each row: classes, or labels each true or "
            "not by itself. Give classes as labels.argmax(1), and labels by themselves as labels.float()"
        )


def check_classes(labels: Tensor, columns: int, where: str) -> None:
    """Check that each class has a row, and that each column has both 0 and 1.

    Args:
        labels: From :func:`as_labels`.
        columns: Number of columns of the model's output.
        where: The place of the labels, for the message.

    Raises:
        ValueError: A class has no row, or a column has one value only.
    """
    if labels.dim() == 1:
        missing = sorted(set(range(columns)) - set(labels.tolist()))
        wanted = f"no row of class {some_of(missing)}, of the {columns} that the model's output has"
    else:
        missing = [c for c, share in enumerate(labels.mean(0).tolist()) if share in (0.0, 1.0)]
        wanted = f"only one value in column {some_of(missing)}, of 0 and 1"
    if missing:
        raise ValueError(
            f"there is {wanted}, {where}. Give data that has all classes, or a model whose output has no other columns"
        )


def _arguments(batches: Iterable[Any]) -> Iterator[tuple[Arguments, Tensor]]:
    for batch in batches:
        x, labels = _parted(batch)
        tensors = x if isinstance(x, Mapping) else dict(enumerate(x if isinstance(x, tuple) else (x,)))
        named = {name: value for name, value in tensors.items() if isinstance(value, Tensor)}
        if not named or (named.keys() != tensors.keys() and not isinstance(x, Mapping)):
            got = some_of([kind_of(value) for value in tensors.values()])
            raise TypeError(f"the inputs of a batch must be tensors; got {got}. {_FORMS}")
        if isinstance(x, Mapping):
            others = {name: value for name, value in x.items() if name not in named}
            yield Arguments(tuple(named.values()), tuple(map(str, named)), keywords=others), labels
        else:
            yield Arguments(tuple(named.values())), labels


def _as_flags(labels: Tensor, columns: int) -> Tensor:
    flags = labels[:, None] if labels.dim() == 1 and columns == 1 else labels
    if flags.shape[1:] != (columns,):
        raise ValueError(
            f"labels must be classes, integers [B], or 0 and 1 for each column of the model's output, [B, {columns}]; "
            f"got {kind_of(labels)}"
        )
    odd = flags[(flags != 0) & (flags != 1)]
    if len(odd):
        raise ValueError(
            f"labels must be classes, or 0 and 1; got {float(odd[0]):g}. For a regression, divide its values into "
            "classes, or read layers by your own function, readout(feature) -> [R, 1]"
        )
    return flags


def _parted(batch: Any) -> tuple[Any, Tensor]:
    """Separate the inputs and the labels of one batch."""
    if isinstance(batch, Mapping):
        names = [name for name in _LABELS if name in batch]
        if len(names) != 1:
            has = " and ".join(names) if names else f"only {some_of(list(batch))}"
            raise ValueError(f"a batch must have its labels as labels or label; it has {has}")
        x = {name: value for name, value in batch.items() if name != names[0]}
        if listed := [name for name, value in x.items() if isinstance(value, (list, str))]:
            raise TypeError(
                f"entry {listed[0]!r} of a batch must be a tensor; got {kind_of(x[listed[0]])}. Leave out entries that "
                "the model does not take, such as with dataset.set_format('torch', columns=[...])"
            )
        return x, _as_tensor(batch[names[0]])
    if not isinstance(batch, (tuple, list)) or len(batch) < 2:
        raise TypeError(f"a batch must be a mapping or a pair; got {kind_of(batch)}. {_FORMS}")
    *inputs, labels = batch
    first = inputs[0] if len(inputs) == 1 else inputs
    return tuple(first) if isinstance(first, list) else first, _as_tensor(labels)


def _as_tensor(labels: Any) -> Tensor:
    try:
        tensor = labels if isinstance(labels, Tensor) else torch.as_tensor(labels, device="cpu")
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"labels must be a tensor; got {kind_of(labels)} ({error}). {_FORMS}") from error
    if tensor.dim() == 0:
        raise TypeError(f"labels must be one for each row of a batch; got the single label {tensor.item()}. {_FORMS}")
    return tensor


def _is_tokenised(dataloader: Any) -> bool:
    """Return whether the data are single examples with token ids, not batches."""
    if not (hasattr(dataloader, "__getitem__") and hasattr(dataloader, "__len__")) or len(dataloader) == 0:
        return False
    first = dataloader[0]
    ids = first.get("input_ids") if isinstance(first, Mapping) else None
    return ids is not None and len(ids) > 0 and torch.as_tensor(ids[0], device="cpu").dim() == 0


def _padded(model: Model, examples: Any, batch_size: int) -> Iterator[dict[str, Any]]:
    """Yield batches of tokenised examples, padded, with an attention mask that is 0 at the padding."""
    pad = padding_token(model.inner)
    taken = set(model.parameters) if model.is_hugging_face else None
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
            raise ValueError(f"an example must have its label as label or labels; it has {some_of(list(rows[0]))}")
        yield batch | {label: torch.as_tensor([row[label] for row in rows], device="cpu")}


def _stacked(rows: list[Any], pad: int) -> Tensor:
    longest = max(map(len, rows))
    return torch.tensor(
        [[*(row.tolist() if isinstance(row, Tensor) else row), *[pad] * (longest - len(row))] for row in rows],
        device="cpu",
    )
