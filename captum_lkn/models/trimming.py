"""Compare a padded sample with itself without its padding: some models read padding in spite of the attention mask.

ConvBERT's convolutions, FNet's Fourier transform and the landmarks of Nyströmformer do, and most encoders of texts
where no mask is given. A sample's value then depends on the longest text of its batch. There is no list of such models:
each padded sample is evaluated once without its padding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from captum_lkn.models.arguments import Arguments
from captum_lkn.models.hugging_face.padding import text_without_mask
from captum_lkn.models.model import Model
from captum_lkn.models.padding import attention_mask

__all__ = ["Trimmed", "without_padding"]

_OF_DECODER = "decoder"


@dataclass(frozen=True)
class Trimmed:
    """Samples with the same padding, without it.

    Attributes:
        samples: Their numbers, G of them.
        kept: The tokens that are left, of T with padding.
        length: The number T.
        arguments: The arguments of their unmasked forward.
        is_marked: Whether an attention mask marks the padding; otherwise token ids alone do.
    """

    samples: tuple[int, ...]
    kept: slice
    length: int
    arguments: Arguments
    is_marked: bool = True

    def widened(self, output: Tensor, shape: tuple[int, ...]) -> Tensor | None:
        """Return an output in the shape that it has with padding, minus infinity there; None where it cannot be.

        Args:
            output: Of the trimmed samples, ``[G, ...]``.
            shape: That of the sample's output with padding.

        Example:
            >>> one = Trimmed((0,), slice(1, 3), 4, Arguments(()))
            >>> one.widened(torch.tensor([[5.0, 6.0]]), (4,))
            tensor([[-inf, 5., 6., -inf]])
        """
        own, cut = tuple(output.shape[1:]), (self.kept.stop - self.kept.start, self.length)
        if len(own) != len(shape) or any(a != b and (a, b) != cut for a, b in zip(own, shape, strict=True)):
            return None
        whole = output.new_full((len(output), *shape), -torch.inf)
        places = (slice(None) if a == b else self.kept for a, b in zip(own, shape, strict=True))
        index = (slice(None), *places)
        whole[index] = output
        return whole


def without_padding(model: Model, arguments: Arguments, batch: int, rows: int) -> Iterator[Trimmed]:
    """Yield all samples that are padded, without their padding.

    Args:
        model: The model, which knows the names of positional arguments.
        arguments: The unmasked inputs of all samples, and all else the forward gets.
        batch: The number of samples B.
        rows: The most samples of a group.
    """
    positional, keywords = model.arranged(arguments)
    real = attention_mask(model.forward_func, positional, keywords, batch)
    given = keywords.get("attention_mask")
    is_marked = real is not None
    if real is None and model.is_hugging_face:
        real = given = text_without_mask(model.inner, keywords)
    if real is None or not isinstance(given, Tensor) or given.dim() != 2 or len(real) != batch:
        return
    length = real.shape[1]
    numbers = torch.arange(length, device=real.device)
    first = torch.where(real, numbers, length).amin(1).tolist()
    last = torch.where(real, numbers, -1).amax(1).tolist()
    groups: dict[tuple[int, int], list[int]] = {}
    for sample, ends in enumerate(zip(first, last, strict=True)):
        if ends != (0, length - 1) and ends[0] <= ends[1]:
            groups.setdefault(ends, []).append(sample)
    for (start, end), samples in groups.items():
        for place in range(0, len(samples), rows):
            some = samples[place : place + rows]
            trimmed = _trimmed(arguments, some, slice(start, end + 1), length, batch)
            yield Trimmed(tuple(some), slice(start, end + 1), length, trimmed, is_marked)


def _trimmed(arguments: Arguments, samples: Sequence[int], kept: slice, length: int, batch: int) -> Arguments:
    """Return the arguments of some samples with only the tokens that are kept."""
    padded = (len(samples), length)

    def trim(value: Any) -> Any:
        whole = isinstance(value, Tensor) and value.dim() > 1 and value.shape[:2] in (padded, (1, length))
        return value[:, kept] if whole else value

    index = torch.tensor(samples, device="cpu")
    own = replace(arguments, inputs=tuple(x[index.to(x.device)] for x in arguments.inputs)).rows(index, batch)
    return Arguments(
        tuple(map(trim, own.inputs)),
        own.names,
        tuple(map(trim, own.positional)),
        {name: value if name.startswith(_OF_DECODER) else trim(value) for name, value in own.keywords.items()},
        None if own.unmasked is None else tuple(map(trim, own.unmasked)),
    )
