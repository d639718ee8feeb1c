"""Padding that no argument called ``attention_mask`` marks, found by its lack of influence on the output.

A model may be told of padding by lengths, by a mask of any name and meaning, or by a token id that it looks for itself.
There is no list of names: what may be padding is replaced or cut off, and where the output stays the same while it does
not for other tokens, it is padding.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import torch
from torch import Tensor

from captum_lkn._common.memory import out_of_memory
from captum_lkn.models.arguments import Arguments

__all__ = ["UnnamedPadding"]

_TELLING: Final = re.compile("mask|pad|valid|(^|_)len")  # names of arguments that speak of padding
_WHOLE: Final = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
_ROUNDINGS: Final = 50  # of the output's dtype, which are no influence
_SHARE: Final = 1e-3  # nor is this share of the control's: sums of other lengths are rounded otherwise


@dataclass(frozen=True)
class _Candidate:
    """Something that may mark padding.

    Attributes:
        input: The place of the input with the tokens.
        argument: The keyword or the place of a further argument; None: the input's own token ids.
        value: The value of padding in it; None: it holds lengths.
        left: Whether padding of this token id is on the left; None for further arguments.
    """

    input: int
    argument: str | int | None
    value: float | None
    left: bool | None = None


class UnnamedPadding:
    """Search for padding in the arguments of a model's forwards.

    Args:
        run: From arguments to the model's output ``[R, ...]``.
    """

    def __init__(self, run: Callable[[Arguments], Tensor]) -> None:
        self._run = run
        self._verdicts: dict[_Candidate, bool] = {}

    def is_open(self, arguments: Arguments, length: int) -> bool:
        """Return whether :meth:`settle` has something to find out about these arguments.

        Args:
            arguments: The arguments of a forward.
            length: The number T of tokens.
        """
        return any(candidate not in self._verdicts for candidate in _candidates(arguments, length))

    def settle(self, arguments: Arguments, length: int) -> None:
        """Find out what marks padding, by a few forwards; see :meth:`is_open` for the arguments."""
        found: set[int] = set()
        for candidate in list(_candidates(arguments, length)):
            if candidate.input in found:
                continue
            if candidate not in self._verdicts:
                try:
                    with torch.no_grad():
                        self._verdicts[candidate] = self._marks_padding(candidate, arguments, length)
                except (IndexError, RuntimeError, TypeError, ValueError) as error:  # of the user's forward
                    if out_of_memory(error):
                        raise
                    self._verdicts[candidate] = False
            if self._verdicts[candidate]:
                found.add(candidate.input)

    def real(self, arguments: Arguments, length: int, where: str) -> Tensor | None:
        """Return which tokens are real, bool ``[R, T]``; None where no padding is known.

        Args:
            arguments: The arguments of a forward.
            length: The number T of tokens.
            where: The layer's name in errors.

        Raises:
            ValueError: Inputs of one length have different padding.
        """
        found: dict[int, Tensor] = {}
        for candidate in _candidates(arguments, length):
            if self._verdicts.get(candidate):
                found.setdefault(candidate.input, ~_padding(candidate, arguments, length))
        masks = list(found.values())
        if any(not torch.equal(mask, masks[0]) for mask in masks):
            raise ValueError(
                f"{where} puts out {length} tokens, as several inputs have, whose padding differs: which of its tokens "
                "are padding is not known; give a function as pool"
            )
        return masks[0] if masks else None

    def unknown(self, arguments: Arguments, length: int, names: Sequence[str]) -> str | None:
        """Return the name of an argument that should mark padding, and does not by what :meth:`settle` found.

        Args:
            arguments: The arguments of a forward.
            length: The number T of tokens.
            names: The names of the forward's arguments by position.
        """
        asked = list(_candidates(arguments, length))
        known = {candidate.argument for candidate in asked if self._verdicts.get(candidate)}
        behind = names[len(arguments.inputs) :]
        for candidate in asked:
            name = candidate.argument
            if isinstance(name, int):
                name = behind[name] if name < len(behind) else None
            if candidate.argument not in known and name is not None and _TELLING.search(name):
                return name
        return None

    def _marks_padding(self, candidate: _Candidate, arguments: Arguments, length: int) -> bool:
        """Return whether the tokens that a candidate marks have no influence on the output, and others have."""
        padding = _padding(candidate, arguments, length)
        if candidate.argument is None:
            return self._may_be_cut_off(candidate, padding, arguments)
        first = torch.zeros_like(padding).scatter_(1, (~padding).to(torch.uint8).argmax(1, keepdim=True), True)

        plain = self._run(arguments)
        without = self._run(_replaced(arguments, candidate.input, padding))
        control = self._run(_replaced(arguments, candidate.input, ~padding & ~first))
        if plain.dim() != 3 or plain.shape[:2] != padding.shape:
            return _has_none(plain, without, control)
        # Of a model with an output for each token, one token's own output tells of the others' influence.
        real, first = (~padding).to(plain.device), first.to(plain.device)
        return _has_none(plain[real], without[real], control[real]) and _difference(plain[first], control[first]) > 0

    def _may_be_cut_off(self, candidate: _Candidate, padding: Tensor, arguments: Arguments) -> bool:
        """Return whether the tokens at an end have no influence, and the one before them has."""
        row = int(padding.sum(1).argmax())
        count, length = int(padding[row].sum()), padding.shape[1]
        if count + 1 >= length:
            return False
        one = arguments.rows(torch.tensor([row], device="cpu"), len(padding))
        one = replace(one, inputs=tuple(x[[row]] for x in arguments.inputs))

        def kept(number: int) -> slice:
            return slice(number, length) if candidate.left else slice(0, length - number)

        def output(number: int) -> Tensor:
            """Return the output without some tokens, at those that are left without the control too."""
            found = self._run(_cut(one, kept(number), length))
            if found.dim() != 3 or found.shape[1] != length - number:
                return found.flatten()
            left = length - count - 1
            return (found[:, -left:] if candidate.left else found[:, :left]).flatten()

        return _has_none(output(0), output(count), output(count + 1))


def _candidates(arguments: Arguments, length: int) -> Iterator[_Candidate]:
    """Yield what may mark padding of inputs with T tokens, further arguments first."""
    further: dict[str | int, Any] = dict(enumerate(arguments.positional)) | dict(arguments.keywords)
    for place, x in enumerate(arguments.inputs):
        if x.dim() < 2 or x.shape[1] != length or length < 2 or x.is_nested:
            continue
        for name, value in further.items():
            if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_nested:
                continue
            if value.shape == x.shape[:2]:
                low, high = (value.amin(), value.amax()) if value.dtype != torch.bool else (value.all(), value.any())
                if bool(low != high) and bool(((value == low) | (value == high)).all()):
                    yield _Candidate(place, name, float(low))
                    yield _Candidate(place, name, float(high))
            elif value.shape in ((len(x),), (len(x), 1)) and value.dtype in _WHOLE and _are_lengths(value, length):
                yield _Candidate(place, name, None)
        if x.dim() == 2 and not x.is_floating_point():
            for left in (False, True):
                yield from _ends(arguments, place, left)


def _are_lengths(value: Tensor, length: int) -> bool:
    return bool((value >= 1).all() & (value <= length).all() & (value < length).any())


def _ends(arguments: Arguments, place: int, left: bool) -> Iterator[_Candidate]:
    """Yield the token ids that may be padding at one end of an input's rows."""
    text = _text(arguments, place)
    for token in sorted(set(text[:, 0 if left else -1].tolist())):
        candidate = _Candidate(place, None, float(token), left)
        counts = _padding(candidate, arguments, text.shape[1]).sum(1)
        most = int(counts.max())
        if most < text.shape[1] and (most > 1 if len(text) == 1 else bool((counts != counts[0]).any())):
            yield candidate


def _padding(candidate: _Candidate, arguments: Arguments, length: int) -> Tensor:
    """Return the tokens that a candidate marks, bool ``[R, T]``."""
    x = arguments.inputs[candidate.input]
    if candidate.argument is None:
        same = _text(arguments, candidate.input).eq(candidate.value or 0.0).to(torch.uint8)
        return same.cummin(1)[0].bool() if candidate.left else same.flip(1).cummin(1)[0].flip(1).bool()
    name = candidate.argument
    given: Tensor = arguments.positional[name] if isinstance(name, int) else arguments.keywords[name]
    value = given.to(x.device)
    if candidate.value is not None:
        return value.eq(candidate.value)
    return torch.arange(length, device=x.device) >= value.reshape(-1, 1)


def _text(arguments: Arguments, place: int) -> Tensor:
    """Return token ids without a mask: padding tokens that stand for absent words are not padding."""
    return arguments.inputs[place] if arguments.unmasked is None else arguments.unmasked[place]


def _replaced(arguments: Arguments, place: int, chosen: Tensor) -> Arguments:
    """Return arguments with other tokens at the chosen places of an input."""
    x = arguments.inputs[place]
    other = x + 1 if x.is_floating_point() else torch.where(x == x.amax(), x.amin(), x.amax())
    where = chosen.reshape(*chosen.shape, *(1,) * (x.dim() - 2))
    inputs = list(arguments.inputs)
    inputs[place] = torch.where(where, other, x)
    return replace(arguments, inputs=tuple(inputs))


def _cut(arguments: Arguments, kept: slice, length: int) -> Arguments:
    """Return the arguments of one row with only some of its T tokens."""

    def cut(value: Any) -> Any:
        whole = isinstance(value, Tensor) and value.dim() > 1 and value.shape[:2] == (1, length)
        return value[:, kept] if whole else value

    return Arguments(
        tuple(map(cut, arguments.inputs)),
        arguments.names,
        tuple(map(cut, arguments.positional)),
        {name: cut(value) for name, value in arguments.keywords.items()},
        None if arguments.unmasked is None else tuple(map(cut, arguments.unmasked)),
    )


def _has_none(plain: Tensor, without: Tensor, control: Tensor) -> bool:
    """Return whether a change of tokens has no influence on outputs ``[K]``, and that of the control has."""
    rounding = _ROUNDINGS * (torch.finfo(plain.dtype).eps if plain.is_floating_point() else 0.0)
    least = rounding * float(plain.double().abs().nan_to_num(0.0, 0.0, 0.0).amax())
    by_control = _difference(plain, control)
    return by_control > least and _difference(plain, without) <= max(least, _SHARE * by_control)


def _difference(some: Tensor, others: Tensor) -> float:
    """Return the largest difference between two outputs; infinities, which mark padding in some, are equal."""
    if some.shape != others.shape:
        return math.inf
    apart = (some.double() - others.double()).abs()
    equal = (some == others) | (some.isnan() & others.isnan())
    return float(apart.masked_fill(equal, 0.0).nan_to_num(math.inf).amax())
