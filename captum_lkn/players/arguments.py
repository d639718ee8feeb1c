"""Check Captum's `inputs`, `baselines`, `feature_mask` and player names, and bring them to one form.

The steps are pure functions; :func:`captum_lkn.players.players.players_from_mask` calls them in order.
"""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from captum_lkn._common.checks import check_plain
from captum_lkn._common.messages import SHOWN, dtype_of, kind_of, shape_of, some_of
from captum_lkn._common.warn import warn
from captum_lkn.interactions.layout import BACKGROUND
from captum_lkn.models.arguments import Fixed

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
    """The masked tensors, their keyword names if they have any, and the inputs that stay the same."""

    tensors: tuple[Tensor, ...]
    names: tuple[str, ...] | None
    constants: dict[str, Any]


def split_inputs(inputs: Any) -> SplitInputs:
    """Separate masked from constant inputs, and check that the former can be masked."""
    if isinstance(inputs, Tensor):
        return SplitInputs(_check_batch((inputs,)), None, {})
    if isinstance(inputs, tuple):
        return SplitInputs(_check_batch(inputs), None, {})
    if not isinstance(inputs, Mapping):
        hint = ". Give torch.from_numpy(inputs)" if isinstance(inputs, np.ndarray) else ""
        raise TypeError(f"inputs must be a tensor, a tuple of tensors or a mapping; got {kind_of(inputs)}{hint}")
    maskable = {name: value for name, value in inputs.items() if value is not None and not isinstance(value, Fixed)}
    names = tuple(name for name in _MASKED_ENTRIES if name in maskable)[:1]
    if not names:
        names = tuple(name for name, x in maskable.items() if isinstance(x, Tensor) and x.is_floating_point())
    if not names:
        raise ValueError(
            f"inputs has the entries {list(inputs)}, none of which can be masked. Give one of "
            f"{', '.join(_MASKED_ENTRIES)}, or a floating tensor"
        )
    if not isinstance(inputs[names[0]], Tensor):
        raise TypeError(
            f"inputs[{names[0]!r}] must be a tensor; got {kind_of(inputs[names[0]])}. Call the tokenizer or "
            'processor with return_tensors="pt"'
        )
    if names == ("input_ids",) and (inputs["input_ids"].is_floating_point() or inputs["input_ids"].dtype == torch.bool):
        raise TypeError(f"inputs['input_ids'] must hold integers; got {kind_of(inputs['input_ids'])}")
    constants = {name: value for name, value in inputs.items() if name not in names}
    return SplitInputs(_check_batch(tuple(inputs[name] for name in names)), names, constants)


def _check_batch(inputs: tuple[Any, ...]) -> tuple[Tensor, ...]:
    if not inputs:
        raise ValueError("inputs must have at least one tensor; got an empty tuple")
    tensors = tuple(_check_input(x, i) for i, x in enumerate(inputs))
    shapes = ", ".join(shape_of(x) for x in tensors)
    if len({len(x) for x in tensors}) > 1:
        raise ValueError(f"inputs must have the same first dimension, the batch; got shapes {shapes}")
    if len(tensors[0]) == 0:
        raise ValueError(f"inputs must have at least one sample; got shapes {shapes}")
    return tensors


def _check_input(x: Any, index: int) -> Tensor:
    if not isinstance(x, Tensor):
        raise TypeError(f"input {index} must be a tensor; got {kind_of(x)}")
    if x.is_complex():
        raise TypeError(f"input {index} must be real; got {kind_of(x)}. Convert it with torch.view_as_real")
    check_plain(f"input {index}", x)
    if x.dim() == 0:
        raise ValueError(f"input {index} must have a batch dimension; got a tensor without dimensions. Give x[None]")
    return x.detach()  # else its autograd history would be dragged into every masked copy


def one_each(what: str, given: Any, tensors: tuple[Tensor, ...], names: tuple[str, ...] | None) -> tuple[Any, ...]:
    """Bring `baselines` or `feature_mask` to one entry an input."""
    if isinstance(given, Mapping):
        if names is None:
            raise TypeError(f"{what} is a mapping and inputs is not. Give both in the same form")
        if set(given) != set(names):
            raise ValueError(f"{what} must have the names of the masked inputs, {list(names)}; got {list(given)}")
        return tuple(given[name] for name in names)
    each = given if isinstance(given, tuple) else (given,)
    if len(each) != len(tensors):
        raise ValueError(f"{what} must have one entry an input; got {len(each)} for {len(tensors)}. Give a tuple")
    return each


def fill_baseline(baseline: Any, x: Tensor, index: int) -> Tensor:
    """Bring one baseline to the shape, dtype and device of its input."""
    if isinstance(baseline, Tensor):
        check_plain(f"baseline {index}", baseline)
        for_all_samples = baseline.dim() == x.dim() and len(baseline) == 1 and _broadcasts(baseline, x)
        if baseline.dim() and baseline.shape != x.shape and not for_all_samples:
            raise ValueError(
                f"baseline {index} has shape {shape_of(baseline)}, its input {shape_of(x)}. Give a number, a "
                f"tensor of the input's shape, or one of {[1, *x.shape[1:]]} for all samples"
            )
        given = baseline.detach()
    elif isinstance(baseline, bool):
        given = torch.tensor(baseline, device="cpu")
    elif isinstance(baseline, numbers.Integral):  # NumPy's integers too
        try:
            given = torch.tensor(int(baseline), device="cpu")
        except (RuntimeError, ValueError, OverflowError):  # which one depends on the version of torch
            raise ValueError(f"baseline {index} is {baseline}, which no integer dtype holds. Give a float") from None
    elif isinstance(baseline, numbers.Real):
        given = torch.tensor(float(baseline), dtype=torch.float64, device="cpu")
    else:
        raise TypeError(f"baseline {index} must be a tensor or a number; got {kind_of(baseline)}")
    if given.is_complex() or (given.dtype == torch.bool and x.dtype != torch.bool):
        raise TypeError(
            f"baseline {index} is {dtype_of(given)}, its input {dtype_of(x)}. Give the input's dtype, or a number"
        )
    if x.is_floating_point() and bool(given.isinf().any()) and not bool(x.isinf().any()):
        raise ValueError(f"baseline {index} must be finite, as its input is; got {_told(baseline)}")
    cast = given.to(x.dtype)
    if x.is_floating_point():
        lost = bool((given.isfinite() & ~cast.isfinite()).any())
    else:
        lost = not torch.equal(cast.to(given.dtype), given)
    if lost:
        raise ValueError(
            f"baseline {index}, {_told(baseline)}, is not a value of its input's dtype, {dtype_of(x)}. Round it, or "
            "give one within the range of that dtype"
        )
    return cast.to(x.device).expand(x.shape)


def _told(baseline: Any) -> Any:
    """Return a baseline as a message quotes it: one number by its value."""
    return kind_of(baseline) if isinstance(baseline, Tensor) and baseline.dim() else baseline


def fit_mask(mask: Any, tensors: tuple[Tensor, ...], index: int) -> Tensor:
    """Bring one mask to int64, to its input's device and number of dimensions; None is Captum's default."""
    x = tensors[index]
    if mask is None:
        return _every_scalar(x, start=sum(before[0].numel() for before in tensors[:index]))
    if not isinstance(mask, Tensor):
        raise TypeError(f"feature_mask {index} must be a tensor; got {kind_of(mask)}")
    check_plain(f"feature_mask {index}", mask)
    if mask.is_floating_point() or mask.is_complex() or mask.dtype == torch.bool:
        raise TypeError(f"feature_mask {index} must hold integers; got {kind_of(mask)}. Convert it with .long()")
    if not _broadcasts(mask, x):
        raise ValueError(
            f"feature_mask {index} has shape {shape_of(mask)}, its input {shape_of(x)}. Give the input's "
            "shape, or one that broadcasts to it"
        )
    ids = mask.to(x.device, torch.int64)
    if ids.numel() and int(ids.min()) < BACKGROUND:
        raise ValueError(
            f"feature_mask {index} must hold ids from 0, or {BACKGROUND} for background, which is never masked; got "
            f"{int(ids.min())}"
        )
    return ids.reshape((1,) * (x.dim() - ids.dim()) + ids.shape)


def _every_scalar(x: Tensor, start: int) -> Tensor:
    """Number the scalars of a sample, ``[1, ...]``, from `start`: each is a player."""
    return torch.arange(start, start + x[0].numel(), device=x.device).reshape(1, *x.shape[1:])


def ids_by_sample(masks: tuple[Tensor, ...], batch: int) -> tuple[list[Tensor], Tensor]:
    """Return the ids that each sample has, and those that any sample has, ascending.

    If one mask serves all samples, they share one tensor: with one player a scalar it may be long.
    """
    rows = range(1 if all(len(mask) == 1 for mask in masks) else batch)
    ids = [_ids([mask[i if len(mask) > 1 else 0] for mask in masks]) for i in rows]
    for i, used in enumerate(ids):
        if len(used) == 0:
            raise ValueError(
                f"sample {i} has no player: its feature_mask is all background, {BACKGROUND}. Give it ids from 0"
            )
    return ids * (batch // len(ids)), torch.unique(torch.cat(ids))


def _ids(masks: list[Tensor]) -> Tensor:
    used: Tensor = torch.unique(torch.cat([torch.unique(mask).cpu() for mask in masks]))
    return used[used != BACKGROUND]


def number_players(mask: Tensor, ids: list[Tensor]) -> Tensor:
    """Replace ids by their places among the sample's ids: ``[1, ...]`` if all samples have the same ids."""
    if all(used is ids[0] or torch.equal(used, ids[0]) for used in ids):
        return _places(mask, ids[0])
    return torch.stack([_places(mask[i if len(mask) > 1 else 0], used) for i, used in enumerate(ids)])


def _places(mask: Tensor, ids: Tensor) -> Tensor:
    return torch.searchsorted(ids.to(mask.device), mask.contiguous()).masked_fill(mask == BACKGROUND, BACKGROUND)


def warn_of_gaps(known: Tensor) -> None:
    """Warn of ids below the largest one that no sample has, without counting through a gap of a billion."""
    missing = int(known[-1]) + 1 - len(known)
    if missing:
        starts = torch.cat([known.new_zeros(1), known[:-1] + 1])
        holes = (range(a, b) for a, b in zip(starts.tolist(), known.tolist(), strict=True) if b > a)
        first = [i for hole in islice(holes, SHOWN) for i in islice(hole, SHOWN)][:SHOWN]
        more = f" and {missing - len(first)} more" if missing > len(first) else ""
        warn(
            f"feature_mask has no {', '.join(map(str, first))}{more}. The players are renumbered from 0 in "
            "ascending order of id; without player_names, their labels are the ids",
        )


def label_players(
    ids: list[Tensor], known: Tensor, player_names: Sequence[str] | Sequence[Sequence[str]] | None
) -> tuple[tuple[str, ...], ...]:
    """Return one label a player, for each sample."""
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
            f"player_names must have one label an id, in ascending order of id; got {len(names)} labels for "
            f"{len(known)} ids ({some_of(known.tolist())})"
        )
    # Samples that have all players share one tuple: with one player a scalar there may be very many.
    return tuple(
        names if len(used) == len(known) else tuple(names[i] for i in torch.searchsorted(known, used).tolist())
        for used in ids
    )


def _labels_by_sample(ids: list[Tensor], player_names: Sequence[Any]) -> tuple[tuple[str, ...], ...]:
    if len(player_names) != len(ids):
        raise ValueError(f"player_names must have one list a sample; got {len(player_names)} for {len(ids)} samples")
    for i, (names, used) in enumerate(zip(player_names, ids, strict=True)):
        is_sequence = isinstance(names, Sequence) and not isinstance(names, str)
        if not is_sequence or not all(isinstance(name, str) for name in names):
            raise TypeError(f"player_names[{i}] must be a sequence of str; got {names!r}. Give each sample its labels")
        if len(names) != len(used):
            raise ValueError(f"player_names[{i}] must have one label a player; got {len(names)} for {len(used)}")
    return tuple(tuple(names) for names in player_names)


def _broadcasts(small: Tensor, x: Tensor) -> bool:
    """Return whether `small` broadcasts to the shape of `x`, without making it larger."""
    sizes = zip(reversed(small.shape), reversed(x.shape), strict=False)
    return small.dim() <= x.dim() and all(a in (1, b) for a, b in sizes)
