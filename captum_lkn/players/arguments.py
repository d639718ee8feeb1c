"""Captum's `inputs`, `baselines`, `feature_mask` and player names, checked and brought to one form.

Every error quotes what the user gave, what was expected and what to do. The steps are pure functions, put in
order by :func:`captum_lkn.players.players.players_from_mask`.
"""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor

from captum_lkn._common.messages import SHOWN, dtype_of, kind_of, shape_of, some_of
from captum_lkn._common.warn import warn
from captum_lkn.interactions.layout import BACKGROUND

__all__ = [
    "SplitInputs",
    "fill_baseline",
    "fit_mask",
    "ids_by_sample",
    "label_players",
    "number_players",
    "one_each",
    "split_inputs",
    "warn_of_gaps",
]


_MASKED_ENTRIES = ("input_ids", "pixel_values", "inputs_embeds")


class SplitInputs(NamedTuple):
    """What is masked, its keyword names if it has any, and what stays the same."""

    tensors: tuple[Tensor, ...]
    names: tuple[str, ...] | None
    constants: dict[str, Any]


def split_inputs(inputs: Any) -> SplitInputs:
    """Tell what is masked from what is constant, and check that it can be masked."""
    if isinstance(inputs, Tensor):
        return SplitInputs(_check_batch((inputs,)), None, {})
    if isinstance(inputs, tuple):
        return SplitInputs(_check_batch(inputs), None, {})
    if not isinstance(inputs, Mapping):
        raise TypeError(f"inputs must be a tensor, a tuple of tensors or a mapping; got {kind_of(inputs)}")
    names = tuple(name for name in _MASKED_ENTRIES if inputs.get(name) is not None)[:1]
    if not names:
        names = tuple(name for name, x in inputs.items() if isinstance(x, Tensor) and x.is_floating_point())
    if not names:
        raise ValueError(
            f"inputs has the entries {list(inputs)}, none of which can be masked: there must be one of "
            f"{', '.join(_MASKED_ENTRIES)}, or a floating tensor"
        )
    if not isinstance(inputs[names[0]], Tensor):
        raise TypeError(
            f"inputs[{names[0]!r}] must be a tensor; got {kind_of(inputs[names[0]])}: call the tokenizer or "
            'processor with return_tensors="pt"'
        )
    constants = {name: value for name, value in inputs.items() if name not in names}
    return SplitInputs(_check_batch(tuple(inputs[name] for name in names)), names, constants)


def _check_batch(inputs: tuple[Any, ...]) -> tuple[Tensor, ...]:
    if not inputs:
        raise ValueError("inputs is an empty tuple: give at least one tensor")
    tensors = tuple(_check_input(x, i) for i, x in enumerate(inputs))
    shapes = ", ".join(shape_of(x) for x in tensors)
    if len({len(x) for x in tensors}) > 1:
        raise ValueError(f"inputs have shapes {shapes}: the first dimension, the batch, must be the same in all")
    if len(tensors[0]) == 0:
        raise ValueError(f"inputs have shapes {shapes}: the batch is empty; give at least one sample")
    return tensors


def _check_input(x: Any, index: int) -> Tensor:
    if not isinstance(x, Tensor):
        raise TypeError(f"input {index} must be a tensor; got {kind_of(x)}")
    if x.is_complex():
        raise TypeError(f"input {index} is {kind_of(x)}: give real numbers, such as torch.view_as_real makes")
    if x.layout != torch.strided:
        raise TypeError(f"input {index} has layout {x.layout}: give a dense tensor, such as .to_dense() makes")
    if x.dim() == 0:
        raise ValueError(f"input {index} has no dimension: the first one is the batch, so give x[None]")
    return x.detach()  # else its autograd history would be dragged into every masked copy


def one_each(what: str, given: Any, tensors: tuple[Tensor, ...], names: tuple[str, ...] | None) -> tuple[Any, ...]:
    """Bring `baselines` or `feature_mask` to one entry an input."""
    if isinstance(given, Mapping):
        if names is None:
            raise TypeError(f"{what} is a mapping and inputs is not: give it in the form of the inputs")
        if set(given) != set(names):
            raise ValueError(f"{what} has the names {list(given)}, the masked inputs are {list(names)}: give those")
        return tuple(given[name] for name in names)
    each = given if isinstance(given, tuple) else (given,)
    if len(each) != len(tensors):
        raise ValueError(f"{what} has {len(each)} entries for {len(tensors)} inputs: give a tuple with one an input")
    return each


def fill_baseline(baseline: Any, x: Tensor, index: int) -> Tensor:
    """Bring one baseline to the shape, dtype and device of its input."""
    if isinstance(baseline, Tensor):
        for_all_samples = baseline.dim() == x.dim() and len(baseline) == 1 and _broadcasts(baseline, x)
        if baseline.dim() and baseline.shape != x.shape and not for_all_samples:
            raise ValueError(
                f"baseline {index} has shape {shape_of(baseline)}, its input {shape_of(x)}: give a number, a "
                f"tensor of the input's shape, or one of {[1, *x.shape[1:]]} for all samples"
            )
        given = baseline.detach()
    elif isinstance(baseline, numbers.Integral):  # NumPy's integers too, and bool
        try:
            given = torch.tensor(baseline if isinstance(baseline, bool) else int(baseline))
        except (RuntimeError, ValueError, OverflowError):  # which one depends on the version of torch
            raise ValueError(f"baseline {index} is {baseline}, which no integer dtype holds: give a float") from None
    elif isinstance(baseline, numbers.Real):
        given = torch.tensor(float(baseline), dtype=torch.float64)
    else:
        raise TypeError(f"baseline {index} must be a tensor or a number; got {kind_of(baseline)}")
    if given.is_complex() or (given.dtype == torch.bool and x.dtype != torch.bool):
        raise TypeError(
            f"baseline {index} is {dtype_of(given)}, its input {dtype_of(x)}: give the input's dtype, or a number"
        )
    cast = given.to(x.dtype)
    if x.is_floating_point():
        lost = bool((given.isfinite() & ~cast.isfinite()).any())
    else:
        lost = not torch.equal(cast.to(given.dtype), given)
    if lost:
        shown = baseline if given.dim() == 0 else kind_of(given)
        raise ValueError(
            f"baseline {index}, {shown}, is no value of its input's dtype, {dtype_of(x)}: round it, or give "
            "one within the range of that dtype"
        )
    return cast.to(x.device).expand(x.shape)


def fit_mask(mask: Any, tensors: tuple[Tensor, ...], index: int) -> Tensor:
    """Bring one mask to int64, to its input's device and number of dimensions; None is Captum's default."""
    x = tensors[index]
    if mask is None:
        return _every_scalar(x, start=sum(before[0].numel() for before in tensors[:index]))
    if not isinstance(mask, Tensor):
        raise TypeError(f"feature_mask {index} must be a tensor; got {kind_of(mask)}")
    if mask.is_floating_point() or mask.is_complex() or mask.dtype == torch.bool:
        raise TypeError(f"feature_mask {index} must hold integers; got {kind_of(mask)}: convert it with .long()")
    if not _broadcasts(mask, x):
        raise ValueError(
            f"feature_mask {index} has shape {shape_of(mask)}, its input {shape_of(x)}: give the input's "
            "shape, or one that broadcasts to it"
        )
    ids = mask.to(x.device, torch.int64)
    if ids.numel() and int(ids.min()) < BACKGROUND:
        raise ValueError(
            f"feature_mask {index} holds {int(ids.min())}: give ids from 0, or {BACKGROUND} for background, "
            "which is never masked"
        )
    return ids.reshape((1,) * (x.dim() - ids.dim()) + ids.shape)


def _every_scalar(x: Tensor, start: int) -> Tensor:
    """A player for each scalar of a sample, ``[1, ...]``, numbered from `start`."""
    return torch.arange(start, start + x[0].numel(), device=x.device).reshape(1, *x.shape[1:])


def ids_by_sample(masks: tuple[Tensor, ...], batch: int) -> tuple[list[Tensor], Tensor]:
    """The ids that each sample has, and those that any sample has, ascending.

    Where one mask serves all samples, they share one tensor: with a player a scalar it may be long.
    """
    rows = range(1 if all(len(mask) == 1 for mask in masks) else batch)
    ids = [_ids([mask[i if len(mask) > 1 else 0] for mask in masks]) for i in rows]
    for i, used in enumerate(ids):
        if len(used) == 0:
            raise ValueError(f"sample {i} has no player: its feature_mask is all background, {BACKGROUND}")
    return ids * (batch // len(ids)), torch.unique(torch.cat(ids))


def _ids(masks: list[Tensor]) -> Tensor:
    used: Tensor = torch.unique(torch.cat([torch.unique(mask).cpu() for mask in masks]))
    return used[used != BACKGROUND]


def number_players(mask: Tensor, ids: list[Tensor]) -> Tensor:
    """Replace ids by their places among the sample's ids: ``[1, ...]`` where that suits all samples."""
    if all(used is ids[0] or torch.equal(used, ids[0]) for used in ids):
        return _places(mask, ids[0])
    return torch.stack([_places(mask[i if len(mask) > 1 else 0], used) for i, used in enumerate(ids)])


def _places(mask: Tensor, ids: Tensor) -> Tensor:
    return torch.searchsorted(ids.to(mask.device), mask.contiguous()).masked_fill(mask == BACKGROUND, BACKGROUND)


def warn_of_gaps(known: Tensor) -> None:
    """Say which ids below the largest one no sample has, without counting through a gap of a billion."""
    missing = int(known[-1]) + 1 - len(known)
    if missing:
        starts = torch.cat([known.new_zeros(1), known[:-1] + 1])
        holes = (range(a, b) for a, b in zip(starts.tolist(), known.tolist(), strict=True) if b > a)
        first = [i for hole in islice(holes, SHOWN) for i in islice(hole, SHOWN)][:SHOWN]
        more = f" and {missing - len(first)} more" if missing > len(first) else ""
        warn(
            f"feature_mask has no {', '.join(map(str, first))}{more}: the players are renumbered from 0 in "
            "ascending order of id; without player_names, the ids stay their labels",
        )


def label_players(
    ids: list[Tensor], known: Tensor, player_names: Sequence[str] | Sequence[Sequence[str]] | None
) -> tuple[tuple[str, ...], ...]:
    """One label a player, for each sample."""
    if player_names is None:
        names = tuple(map(str, known.tolist()))
    elif isinstance(player_names, str) or not isinstance(player_names, Sequence):
        raise TypeError(f"player_names must be a sequence of labels; got {kind_of(player_names)}")
    elif all(isinstance(name, str) for name in player_names):
        names = tuple(player_names)  # type: ignore[arg-type]
    else:
        return _labels_by_sample(ids, player_names)
    if len(names) != len(known):
        raise ValueError(
            f"player_names has {len(names)} labels for {len(known)} ids ({some_of(known.tolist())}): give "
            "one an id, in ascending order of id"
        )
    # Samples that have all players share one tuple: with a player a scalar there may be very many.
    return tuple(
        names if len(used) == len(known) else tuple(names[i] for i in torch.searchsorted(known, used).tolist())
        for used in ids
    )


def _labels_by_sample(ids: list[Tensor], player_names: Sequence[Any]) -> tuple[tuple[str, ...], ...]:
    if len(player_names) != len(ids):
        raise ValueError(f"player_names has entries for {len(player_names)} samples, inputs has {len(ids)}")
    for i, (names, used) in enumerate(zip(player_names, ids, strict=True)):
        is_sequence = isinstance(names, Sequence) and not isinstance(names, str)
        if not is_sequence or not all(isinstance(name, str) for name in names):
            raise TypeError(f"player_names[{i}] must be a sequence of str; got {names!r}: give each sample its labels")
        if len(names) != len(used):
            raise ValueError(f"player_names[{i}] has {len(names)} labels; sample {i} has {len(used)} players")
    return tuple(tuple(names) for names in player_names)


def _broadcasts(small: Tensor, x: Tensor) -> bool:
    """Whether `small` broadcasts to the shape of `x`, without making it larger."""
    sizes = zip(reversed(small.shape), reversed(x.shape), strict=False)
    return small.dim() <= x.dim() and all(a in (1, b) for a, b in sizes)
