"""Targets: the number of a model's output that is explained, for each sample.

Captum's kinds of target, and ``"predicted"``. A target is resolved once, on the output of the unmasked samples, and
then selects from the output of any number of masked copies.

=======================  =========================================================================
output                   target
=======================  =========================================================================
``[B]``, ``[B, 1]``      None, or any of the next row that is 0
``[B, C]``               an int for all samples; a list of B ints, or an integer tensor ``[B]``
``[B, d1, ..., dk]``     a tuple of k ints in the order of the dimensions, for all samples, or a list
                         of B such tuples; last dimensions of size 1 may be left out
=======================  =========================================================================

One dimension holds the classes: the last one of ``[B, T, C]``, the second one of ``[B, C, H, W]``; see
:mod:`captum_lkn.outputs.dimensions`. The other indices are a position.
"""

from __future__ import annotations

import difflib
import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from captum_lkn._common.arguments import checked
from captum_lkn._common.checks import check_numbers, check_plain
from captum_lkn._common.messages import dtype_of, kind_of, shape_of

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
"""Targets that :func:`resolve_target` accepts."""

_PREDICTED = "predicted"
_KINDS = 'an int, a tuple of ints, a list of either with one a sample, an integer tensor, "predicted" or None'


@checked()
@dataclass(frozen=True, eq=False)
class Target:
    """Explained number of the output, for each of B samples; made by :func:`resolve_target`.

    Attributes:
        indices: Int64 ``[B, k]``, an index for each dimension of the output behind the batch, as Captum orders them;
            the class is 0 or 1 for a binary head of one column.
        shape: The output's shape without the batch, k numbers; ``(1,)`` where the output is ``[B]``.
        class_dim: The place of the classes in `shape`, from 0.
        predicted: True if the classes are the model's own predictions.
        binary: True if the one column tells two classes apart.
        names: The names of the classes; empty: not known.
        noun: The word for a class that has no name, such as ``"label"``.

    Example:
        >>> target = resolve_target([2, 0], torch.zeros(2, 3))
        >>> masked_copies = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]])
        >>> target.select(masked_copies, samples=torch.tensor([0, 0, 1]))[1]
        tensor([2, 2, 0])
    """

    indices: Tensor
    shape: tuple[int, ...]
    class_dim: int
    predicted: bool = False
    binary: bool = False
    names: tuple[str, ...] = ()
    noun: str = "class"

    def __post_init__(self) -> None:
        if not self.shape or min(self.shape) < 1:
            raise ValueError(f"shape must be sizes from 1 on; got {self.shape}")
        if not 0 <= self.class_dim < len(self.shape):
            raise ValueError(f"class_dim must be a place in shape, from 0; got {self.class_dim} for {self.shape}")
        if self.binary and self.n_outputs != 1:
            raise ValueError(f"binary must be of one column; got a shape with {self.n_outputs}")
        check_numbers("indices", self.indices, (None, len(self.shape)), torch.int64)
        sizes = [self.n_classes if dim == self.class_dim else size for dim, size in enumerate(self.shape)]
        largest = self.indices.amax(0).tolist()
        if int(self.indices.min()) < 0 or any(index >= size for index, size in zip(largest, sizes, strict=True)):
            raise ValueError(f"indices must be from 0 and below {sizes}; got {int(self.indices.min())} to {largest}")
        if self.names and len(self.names) != self.n_classes:
            raise ValueError(f"names must be those of {self.n_classes} classes, or none; got {len(self.names)}")

    @property
    def n_classes(self) -> int:
        """The number of classes: two of a binary head of one column."""
        return 2 if self.binary else self.n_outputs

    @property
    def classes(self) -> Tensor:
        """Int64 ``[B]``: the index in the dimension of the classes."""
        return self.indices[:, self.class_dim]

    @property
    def positions(self) -> Tensor:
        """Int64 ``[B, k - 1]``: the other indices, none of them where the output is ``[B, C]`` or ``[B]``."""
        return torch.cat([self.indices[:, : self.class_dim], self.indices[:, self.class_dim + 1 :]], 1)

    @property
    def position_sizes(self) -> tuple[int, ...]:
        """The output's shape without the batch and the classes, k - 1 numbers."""
        return self.shape[: self.class_dim] + self.shape[self.class_dim + 1 :]

    @property
    def n_outputs(self) -> int:
        """The number of columns C that a class is chosen from."""
        return self.shape[self.class_dim]

    @checked()
    def select(self, output: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Return the row of C outputs, and the class in it, of each masked copy.

        Args:
            output: ``[R, *shape]``, or ``[R]`` where there is one output: a forward of R masked copies.
            samples: Int64 ``[R]``: the sample, from 0, that each row is a copy of.

        Returns:
            The outputs at the target's position, ``[R, C]`` in the output's dtype, and the classes, int64 ``[R]``;
            both on the output's device.

        Raises:
            ValueError: If the output has not R rows, or not the shape it had when the target was resolved.
        """
        shape = tuple(output.shape[1:]) or (1,)
        if output.dim() == 0 or shape != self.shape or output.shape[:1] != samples.shape:
            raise ValueError(
                f"the forward of {samples.numel()} masked copies must return one row a copy, each of the shape "
                f"{list(self.shape)} that a sample's output has; got {kind_of(output)}"
            )
        samples = samples.to(output.device)
        classes = self.classes.to(output.device)[samples]
        if len(self.shape) == 1:
            return output.reshape(-1, *self.shape), classes
        positions = self.positions.to(output.device)[samples]
        index = (torch.arange(len(output), device=output.device), *positions.unbind(1))
        return output.movedim(1 + self.class_dim, -1)[index], classes

    @checked()
    def named(self, names: Sequence[str], noun: str = "class") -> Target:
        """Return the same target with the names of its classes.

        Args:
            names: One a class; another number of names belongs to something else, and is not used.
            noun: The word for a class that has no name.
        """
        return replace(self, names=tuple(names) if len(names) == self.n_classes else (), noun=noun)

    def describe(self) -> list[int] | list[list[int]]:
        """Return the target of each sample, in numbers that JSON can hold.

        Returns:
            The classes; where the output has further dimensions, for each sample all indices, as Captum orders them.

        Example:
            >>> resolve_target((1, 0), torch.zeros(2, 4, 3)).describe()
            [[1, 0], [1, 0]]
        """
        indices: list[int] | list[list[int]] = (self.classes if len(self.shape) == 1 else self.indices).tolist()
        return indices

    def texts(self) -> list[str]:
        """Return the target of each sample for people: the class by name and index, and the position.

        Example:
            >>> output = torch.zeros(1, 2)
            >>> resolve_target(1, output).named(["negative", "positive"]).texts(), resolve_target(1, output).texts()
            (['positive (1)'], ['class 1'])
            >>> resolve_target((2, 4, 5), torch.zeros(1, 3, 8, 8), class_dim=1).texts()
            ['class 2 at (4, 5)']
        """
        return [
            self._text(c) + _position_text(position)
            for c, position in zip(self.classes.tolist(), self.positions.tolist(), strict=True)
        ]

    def _text(self, index: int) -> str:
        name = self.names[index] if index < len(self.names) else ""
        if self.n_outputs == 1 and not self.binary:
            return name or "output"
        return f"{name} ({index})" if name else f"{self.noun} {index}"


def _position_text(position: Sequence[int]) -> str:
    if not position:
        return ""
    return f" at position {position[0]}" if len(position) == 1 else f" at ({', '.join(map(str, position))})"


@checked("binary", "class_dim", "class_names")
def resolve_target(
    target: TargetLike,
    output: Tensor,
    *,
    binary: bool = False,
    class_dim: int | None = None,
    class_names: Sequence[str] = (),
) -> Target:
    """Check a target against a model's output, and bring it to one form.

    Stricter than Captum where Captum guesses: negative indices, bools and slices are refused, and so is an index too
    few, with which Captum would explain several outputs at once. An output ``[B]`` counts as ``[B, 1]``.

    Args:
        target: The output that is explained. None where there is one a sample. For ``[B, C]``, an int (Python's,
            NumPy's, or a tensor or array with one element) for all samples, or a list of B ints or an integer tensor
            or array ``[B]``, one a sample. For further dimensions, a tuple of ints in the order of the dimensions, for
            all samples, or a list of B tuples. ``"predicted"``: for ``[B, C]``, or a single position, the column with
            the largest output, the first of equals.
        output: ``[B]``, ``[B, C]`` or ``[B, d1, ..., dk]``: the output of the unmasked samples.
        binary: True if a single column tells two classes apart, as ``score="binary_log_odds"`` says. Then the class is
            1 or 0, None means 1, and ``"predicted"`` is 1 where the column is positive.
        class_dim: The dimension of the classes in `output`, such as 1 for ``[B, C, H, W]``; None: the last one.
        class_names: The names of the classes, for the error of a target that is a name; empty: not known.

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
        raise TypeError(f"output must be a tensor [B, ...]; got {kind_of(output)}")
    check_plain("output", output)
    if output.dim() == 0 or 0 in output.shape:
        raise ValueError(f"output must be a tensor [B, ...] with at least one value; got {kind_of(output)}")
    shape = tuple(output.shape[1:]) or (1,)
    place = len(shape) - 1 if class_dim is None else class_dim % (len(shape) + 1) - 1
    binary = binary and shape[place] == 1
    sizes = tuple(2 if binary and dim == place else size for dim, size in enumerate(shape))
    if isinstance(target, str):
        indices = _predicted(target, output, binary, place, class_names)
    elif target is None:
        if math.prod(shape) > 1:
            raise ValueError(_missing(output, shape))
        indices = [tuple(int(binary and dim == place) for dim in range(len(shape)))] * len(output)
    else:
        indices = _given(target, output, sizes, place)
    resolved = torch.tensor(indices, dtype=torch.int64, device=output.device)
    return Target(resolved, shape, place, predicted=isinstance(target, str), binary=binary)


def _missing(output: Tensor, shape: tuple[int, ...]) -> str:
    start = (
        f"target must select one of the {math.prod(shape)} values a sample of the output {kind_of(output)}; got None. "
    )
    if len(shape) > 1:
        return start + f"Give target={_example(len(shape))}, an index for each dimension behind the batch"
    return start + f'Give target=0 to {shape[0] - 1}, a list with one a sample, or target="predicted"'


def _predicted(
    target: str, output: Tensor, binary: bool, place: int, class_names: Sequence[str]
) -> list[tuple[int, ...]]:
    if target != _PREDICTED:
        raise ValueError(f"target must be {_KINDS}; got {target!r}{_meant(target, class_names)}")
    shape = tuple(output.shape[1:]) or (1,)
    if math.prod(shape) > shape[place]:
        raise ValueError(
            f'target must be indices for an output with positions, {kind_of(output)}; got "predicted". Give '
            f"target={_example(output.dim() - 1)}, an index for each dimension behind the batch, or a list of such "
            "tuples, one a sample"
        )
    columns = output.reshape(len(output), -1)
    classes = (columns[:, 0] > 0).long() if binary else columns.argmax(1)
    return [tuple(c if dim == place else 0 for dim in range(len(shape))) for c in classes.tolist()]


def _meant(target: str, class_names: Sequence[str]) -> str:
    """Return what an error says of the nearest name."""
    places = {name.lower(): place for place, name in reversed(list(enumerate(class_names)))}
    near = difflib.get_close_matches(target.lower(), [_PREDICTED, *places], n=1)
    if not near:
        return ""
    if near[0] == _PREDICTED:
        return f". Did you mean {_PREDICTED!r}?"
    place = places[near[0]]
    return f". The class {class_names[place]!r} is target={place}"


def _given(target: Any, output: Tensor, sizes: tuple[int, ...], place: int) -> list[tuple[int, ...]]:
    """Return one tuple of indices a sample."""
    if isinstance(target, Tensor | np.ndarray):
        if isinstance(target, Tensor):
            check_plain("target", target)
        target = _unpacked("target", target)
    if not isinstance(target, list):
        return [_indices("target", target, output, sizes, place)] * len(output)
    if len(target) != len(output):
        raise ValueError(
            f"target must have one entry a sample, {len(output)}, or be {'an int' if len(sizes) == 1 else 'a tuple'} "
            f"for all of them; got {len(target)}"
        )
    return [_indices(f"target[{i}]", entry, output, sizes, place) for i, entry in enumerate(target)]


def _unpacked(name: str, array: Tensor | np.ndarray[Any, Any]) -> int | list[int]:
    """Return an int of one element, which is for all samples as in Captum, and a list of more."""
    if isinstance(array, Tensor):
        kind = f"a tensor of {kind_of(array)}"
        integers = not (array.is_floating_point() or array.is_complex() or array.dtype == torch.bool)
        way_out = "" if dtype_of(array) == "bool" else ". Convert it with .long()"
    else:
        kind = f"a NumPy array of {array.dtype} {list(array.shape)}"
        integers = array.dtype.kind in "iu"
        way_out = "" if array.dtype.kind == "b" else ". Convert it with .astype(int)"
    if not integers:
        raise TypeError(f"{name} must be the indices of outputs, integers; got {kind}{way_out}")
    values = array.reshape(-1).tolist()
    if len(values) == 1:
        return int(values[0])
    if array.ndim != 1:
        raise ValueError(
            f"{name} must have one dimension, an index a sample; got {kind}. For outputs with further dimensions give "
            "a list of tuples"
        )
    return values


def _indices(name: str, entry: Any, output: Tensor, sizes: tuple[int, ...], place: int) -> tuple[int, ...]:
    """Check one target: as many indices as the output has dimensions behind the batch, each in range."""
    given = entry if isinstance(entry, tuple) else (entry,)
    indices = tuple(_index(name, entry, i) for i in given)
    if len(indices) < len(sizes) and set(sizes[len(indices) :]) == {1}:
        indices += (0,) * (len(sizes) - len(indices))  # as in Captum: one value is left
    if len(indices) != len(sizes):
        way_out = (
            "Give an int, or a list of ints, one a sample"
            if len(sizes) == 1
            else f"Give a tuple such as {_example(len(sizes))}, or a list of such tuples, one a sample"
        )
        raise ValueError(
            f"{name} must have {len(sizes)} {'index' if len(sizes) == 1 else 'indices'}, one for each dimension of the "
            f"output {shape_of(output)} behind the batch; got {entry!r}. {way_out}"
        )
    for dim, (i, size) in enumerate(zip(indices, sizes, strict=True)):
        if not 0 <= i < size:
            raise ValueError(_out_of_range(name, entry, dim, output, sizes, place))
    return indices


def _out_of_range(name: str, entry: Any, dim: int, output: Tensor, sizes: tuple[int, ...], place: int) -> str:
    size = sizes[dim]
    allowed = "0" if size == 1 else f"0 to {size - 1}"
    where = f" in place {dim}" if len(sizes) > 1 else ""
    index = entry[dim] if isinstance(entry, tuple) else entry
    hint = ""
    if index < 0:
        hint = ". Negative indices do not count from the end here"
    elif dim == place and size == 1:
        hint = '. If the column tells two classes apart, score="binary_log_odds" takes 0 and 1'
    return f"{name} must be {allowed}{where}, for the output {shape_of(output)}; got {entry!r}{hint}"


def _index(name: str, entry: Any, index: Any) -> int:
    if isinstance(index, (Tensor, np.ndarray)) and math.prod(index.shape) == 1:
        index = _unpacked(name, index)
    if isinstance(index, (bool, np.bool_)):
        raise TypeError(f"{name} must have integers for indices; got {entry!r}. For a bool write {int(index)}")
    if not isinstance(index, numbers.Integral):
        inside = f", with {kind_of(index)} in it" if isinstance(entry, tuple) else f", {kind_of(index)}"
        raise TypeError(f"{name} must be {_KINDS}; got {entry!r}{inside}")
    return int(index)


def _example(count: int) -> str:
    return str((0,) * count)
