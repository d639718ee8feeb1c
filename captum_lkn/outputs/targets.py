"""Targets: which number of a model's output is explained, for each sample.

Captum's kinds of target, and ``"predicted"``. A target is resolved once, with the output on the samples as
they are, and then selects from the output on any number of masked copies.

=======================  =========================================================================
output                   target
=======================  =========================================================================
``[B]``, ``[B, 1]``      None, or any of the next row that is 0
``[B, C]``               an int for all samples; a list of B ints, or an integer tensor ``[B]``
``[B, d1, ..., C]``      a tuple of as many ints as there are dimensions behind the batch, for all
                         samples, or a list of B such tuples; the last int is the class
=======================  =========================================================================
"""

from __future__ import annotations

import difflib
import math
import numbers
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from captum_lkn._common.messages import count_of, dtype_of, kind_of, shape_of

__all__ = ["Target", "TargetLike", "resolve_target"]

TargetLike: TypeAlias = (
    int
    | np.integer[Any]
    | tuple[int, ...]
    | list[int]
    | list[tuple[int, ...]]
    | Tensor
    | np.ndarray[Any, Any]
    | str
    | None
)
"""What :func:`resolve_target` accepts."""

_PREDICTED = "predicted"
_KINDS = 'an int, a tuple of ints, a list of either with one a sample, an integer tensor, "predicted" or None'


@dataclass(frozen=True, eq=False)
class Target:
    """What is explained of the output, for each of B samples; made by :func:`resolve_target`.

    Attributes:
        positions: Int64 ``[B, output dimensions - 2]``: the indices between batch and class, none of them
            where the output is ``[B, C]`` or ``[B]``.
        classes: Int64 ``[B]``: the index in the last dimension; 0 or 1 for a binary head of one column.
        shape: The output's shape without the batch; ``(1,)`` where the output is ``[B]``.
        predicted: Whether the classes are the model's own predictions.

    Example:
        >>> target = resolve_target([2, 0], torch.zeros(2, 3))
        >>> masked_copies = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]])
        >>> target.select(masked_copies, samples=torch.tensor([0, 0, 1]))[1]
        tensor([2, 2, 0])
    """

    positions: Tensor
    classes: Tensor
    shape: tuple[int, ...]
    predicted: bool = False

    @property
    def n_outputs(self) -> int:
        """The number of columns C that a class is chosen from."""
        return self.shape[-1]

    def select(self, output: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
        """The row of C outputs, and the class in it, of each masked copy.

        Args:
            output: ``[R, *shape]``, or ``[R]`` where there is one output: a forward of R masked copies.
            samples: Int64 ``[R]``: which sample, from 0, each row is a copy of.

        Returns:
            The outputs at the target's position, ``[R, C]`` in the output's dtype, and the classes, int64
            ``[R]``; both on the output's device.

        Raises:
            ValueError: If the output has not R rows, or not the shape it had when the target was resolved.
        """
        shape = tuple(output.shape[1:]) or (1,)
        if output.dim() == 0 or shape != self.shape or output.shape[:1] != samples.shape:
            raise ValueError(
                f"the forward of {samples.numel()} masked copies returned {kind_of(output)}, a sample's own "
                f"output has the shape {list(self.shape)}: the model must return one row a copy, all of one "
                "shape"
            )
        samples = samples.to(output.device)
        classes = self.classes.to(output.device)[samples]
        if len(self.shape) == 1:
            return output.reshape(-1, *self.shape), classes
        positions = self.positions.to(output.device)[samples]
        rows = torch.arange(len(output), device=output.device)
        index = (rows, *positions.unbind(1))
        return output[index], classes

    def describe(self) -> list[int] | list[list[int]]:
        """The target of each sample, in numbers that JSON can hold.

        Returns:
            The classes; where the output has further dimensions, for each sample its position and class.

        Example:
            >>> resolve_target((1, 0), torch.zeros(2, 4, 3)).describe()
            [[1, 0], [1, 0]]
        """
        indices: list[int] | list[list[int]] = (
            self.classes if len(self.shape) == 1 else torch.cat([self.positions, self.classes[:, None]], 1)
        ).tolist()
        return indices


def resolve_target(target: TargetLike, output: Tensor, *, binary: bool = False) -> Target:
    """Check a target against a model's output, and bring it to one form.

    Stricter than Captum where Captum guesses: negative indices, bools and slices are refused, and so is an
    index too few, with which Captum would explain several outputs at once. An output ``[B]`` counts as
    ``[B, 1]``.

    Args:
        target: Which output. None where there is one a sample. For ``[B, C]``, an int (Python's, NumPy's, or
            a tensor or array with one element) for all samples, or a list of B ints or an integer tensor or
            array ``[B]``, one a sample. For further dimensions, a tuple of ints, the last one the class, for
            all samples, or a list of B tuples. ``"predicted"``: for ``[B, C]`` the column with the largest
            output, the first of equals.
        output: ``[B]``, ``[B, C]`` or ``[B, d1, ..., C]``: the output on the samples as they are, unmasked.
        binary: Whether a single column tells two classes apart, as ``score="binary_log_odds"`` says. Then the
            class is 1 or 0, None means 1, and ``"predicted"`` is 1 where the column is positive.

    Returns:
        The target of each sample, on the output's device.

    Raises:
        TypeError: If the target, or one in a list, is not of the kinds above: a bool, a float, a slice.
        ValueError: If it is missing, out of range, for another number of samples or dimensions, or unknown.

    Example:
        >>> output = torch.tensor([[0.1, 2.0, 0.3], [1.5, 0.2, 0.4]])
        >>> resolve_target("predicted", output).describe()
        [1, 0]
        >>> resolve_target(2, output).describe()
        [2, 2]
    """
    if not isinstance(output, Tensor):
        raise TypeError(f"the output must be a tensor [B, ...]; got {kind_of(output)}")
    if output.dim() == 0 or 0 in output.shape:
        raise ValueError(f"the output must be a tensor [B, ...] with at least one value; got {kind_of(output)}")
    shape = tuple(output.shape[1:]) or (1,)
    binary = binary and shape[-1] == 1
    if isinstance(target, str):
        indices = _predicted(target, output, binary)
    elif target is None:
        if math.prod(shape) > 1:
            raise ValueError(_missing(output, shape))
        indices = [(*(0,) * (len(shape) - 1), int(binary))] * len(output)
    else:
        indices = _given(target, output, (*shape[:-1], 2 if binary else shape[-1]))
    resolved = torch.tensor(indices, dtype=torch.int64, device=output.device)
    return Target(resolved[:, :-1], resolved[:, -1], shape, predicted=isinstance(target, str))


def _missing(output: Tensor, shape: tuple[int, ...]) -> str:
    start = f"target is None, and the output {kind_of(output)} has {math.prod(shape)} values a sample: give "
    if len(shape) > 1:
        return start + f"target={_example(len(shape))}, an index for each dimension behind the batch"
    return start + f'target=0 to {shape[0] - 1}, a list with one a sample, or target="predicted"'


def _predicted(target: str, output: Tensor, binary: bool) -> list[tuple[int, ...]]:
    if target != _PREDICTED:
        near = difflib.get_close_matches(target.lower(), [_PREDICTED])
        hint = f"; did you mean {_PREDICTED!r}?" if near else ""
        raise ValueError(f"target {target!r} is not known{hint}; give {_KINDS}")
    if output.dim() > 2:
        raise ValueError(
            f'target="predicted" needs one row of outputs a sample; the output is {kind_of(output)}: give '
            f"target={_example(output.dim() - 1)}, an index for each dimension behind the batch, or a list "
            "of such tuples, one a sample"
        )
    columns = output.reshape(len(output), -1)
    classes = (columns[:, 0] > 0).long() if binary else columns.argmax(1)
    return [(c,) for c in classes.tolist()]


def _given(target: Any, output: Tensor, sizes: tuple[int, ...]) -> list[tuple[int, ...]]:
    """One tuple of indices a sample."""
    if isinstance(target, (Tensor, np.ndarray)):
        target = _unpacked("target", target)
    if not isinstance(target, list):
        return [_indices("target", target, output, sizes)] * len(output)
    if len(target) != len(output):
        raise ValueError(
            f"target has length {len(target)} for {count_of(len(output), 'sample')}: give one a sample, or "
            f"{'an int' if len(sizes) == 1 else 'a tuple'} for all of them"
        )
    return [_indices(f"target[{i}]", entry, output, sizes) for i, entry in enumerate(target)]


def _unpacked(name: str, array: Tensor | np.ndarray[Any, Any]) -> int | list[int]:
    """An int from one element, which is for all samples as in Captum, and a list from more."""
    if isinstance(array, Tensor):
        kind = f"a tensor of {kind_of(array)}"
        integers = not (array.is_floating_point() or array.is_complex() or array.dtype == torch.bool)
        way_out = "" if dtype_of(array) == "bool" else ", such as .long() makes"
    else:
        kind = f"a NumPy array of {array.dtype} {list(array.shape)}"
        integers = array.dtype.kind in "iu"
        way_out = "" if array.dtype.kind == "b" else ", such as .astype(int) makes"
    if not integers:
        raise TypeError(f"{name} is {kind}: give the indices of outputs, as integers{way_out}")
    values = array.reshape(-1).tolist()
    if len(values) == 1:
        return int(values[0])
    if array.ndim != 1:
        raise ValueError(
            f"{name} is {kind}: give one dimension, an index a sample; for outputs with further dimensions, "
            "a list of tuples"
        )
    return values


def _indices(name: str, entry: Any, output: Tensor, sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Check one target: as many indices as the output has dimensions behind the batch, each in range."""
    given = entry if isinstance(entry, tuple) else (entry,)
    indices = tuple(_index(name, entry, i) for i in given)
    if len(indices) != len(sizes):
        count = f"{len(indices)} {'index' if len(indices) == 1 else 'indices'}"
        way_out = (
            "give an int, or a list of ints, one a sample"
            if len(sizes) == 1
            else f"give a tuple such as {_example(len(sizes))}, or a list of such tuples, one a sample"
        )
        raise ValueError(
            f"{name} is {entry!r}, {count}; the output {shape_of(output)} takes {len(sizes)}, one for each "
            f"dimension behind the batch: {way_out}"
        )
    for dim, (i, size) in enumerate(zip(indices, sizes, strict=True)):
        if not 0 <= i < size:
            raise ValueError(_out_of_range(name, entry, i, dim, sizes, output))
    return indices


def _out_of_range(name: str, entry: Any, index: int, dim: int, sizes: tuple[int, ...], output: Tensor) -> str:
    size, is_class = sizes[dim], dim == len(sizes) - 1
    columns = output.shape[-1] if output.dim() > 1 else 1
    if not is_class:
        what = f"{count_of(size, 'position')} in dimension {dim + 1}"
    elif size == columns:
        what = f"{count_of(size, 'output')} to choose from"
    else:
        what = f"one column for {size} classes"
    hint = ""
    if index < 0:
        hint = "; negative indices do not count from the end here"
    elif is_class and size == 1:
        hint = '; if the column tells two classes apart, score="binary_log_odds" takes 0 and 1'
    allowed = "0" if size == 1 else f"0 to {size - 1}"
    return f"{name} is {entry!r}, out of range: the output {shape_of(output)} has {what}: give {allowed}{hint}"


def _index(name: str, entry: Any, index: Any) -> int:
    if isinstance(index, (Tensor, np.ndarray)) and math.prod(index.shape) == 1:
        index = _unpacked(name, index)
    if isinstance(index, (bool, np.bool_)):
        raise TypeError(f"{name} is {entry!r}, with a bool for an index: write {int(index)} for that output")
    if not isinstance(index, numbers.Integral):
        inside = f", with {kind_of(index)} in it" if isinstance(entry, tuple) else f", {kind_of(index)}"
        raise TypeError(f"{name} is {entry!r}{inside}: give {_KINDS}")
    return int(index)


def _example(count: int) -> str:
    return str((0,) * count)
