"""Compare a padded sample with itself without its padding: some models read padding in spite of the attention mask.

ConvBERT's convolutions, FNet's Fourier transform and the landmarks of Nyströmformer do. A sample's value then depends
on the longest text of its batch. There is no list of such models: the sample is evaluated once without its padding.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from captum_lkn.models.arguments import Arguments
from captum_lkn.models.model import Model
from captum_lkn.models.padding import attention_mask

__all__ = ["Trimmed", "without_padding"]

_OF_DECODER = "decoder"


@dataclass(frozen=True)
class Trimmed:
    """One sample without its padding.

    Attributes:
        sample: Its number.
        kept: The tokens that are left, of T with padding.
        length: The number T.
        arguments: The arguments of its unmasked forward.
    """

    sample: int
    kept: slice
    length: int
    arguments: Arguments

    def widened(self, output: Tensor, shape: tuple[int, ...]) -> Tensor | None:
        """Return an output in the shape that it has with padding, minus infinity there; None where it cannot be.

        Args:
            output: Of the trimmed sample, ``[1, ...]``.
            shape: That of the sample's output with padding.

        Example:
            >>> one = Trimmed(0, slice(1, 3), 4, Arguments(()))
            >>> one.widened(torch.tensor([[5.0, 6.0]]), (4,))
            tensor([[-inf, 5., 6., -inf]])
        """
        own, cut = tuple(output.shape[1:]), (self.kept.stop - self.kept.start, self.length)
        if len(own) != len(shape) or any(a != b and (a, b) != cut for a, b in zip(own, shape, strict=True)):
            return None
        whole = output.new_full((1, *shape), -torch.inf)
        places = (slice(None) if a == b else self.kept for a, b in zip(own, shape, strict=True))
        index = (slice(None), *places)
        whole[index] = output
        return whole


def without_padding(model: Model, arguments: Arguments, batch: int) -> Trimmed | None:
    """Return the sample with the most padding, without it.

    Args:
        model: The model, which knows the names of positional arguments.
        arguments: The unmasked inputs of all samples, and all else the forward gets.
        batch: The number of samples B.

    Returns:
        None where no attention mask ``[B, T]`` is known, or no sample is padded.
    """
    positional, keywords = model.arranged(arguments)
    real = attention_mask(model.forward_func, positional, keywords, batch)
    given = keywords.get("attention_mask")
    if real is None or not isinstance(given, Tensor) or given.dim() != 2 or len(real) != batch:
        return None
    length = real.shape[1]
    numbers = torch.arange(length, device=real.device)
    first = torch.where(real, numbers, length).amin(1)
    last = torch.where(real, numbers, -1).amax(1)
    tokens = torch.where(last >= first, last - first + 1, length)
    sample = int(tokens.argmin())
    if int(tokens[sample]) == length:
        return None
    kept = slice(int(first[sample]), int(last[sample]) + 1)

    def trim(value: Any) -> Any:
        whole = isinstance(value, Tensor) and value.dim() > 1 and value.shape[:2] == (1, length)
        return value[:, kept] if whole else value

    own = replace(arguments, inputs=tuple(x[[sample]] for x in arguments.inputs))
    own = own.rows(torch.tensor([sample], device="cpu"), batch)
    trimmed = Arguments(
        tuple(map(trim, own.inputs)),
        own.names,
        tuple(map(trim, own.positional)),
        {name: value if name.startswith(_OF_DECODER) else trim(value) for name, value in own.keywords.items()},
        None if own.unmasked is None else tuple(map(trim, own.unmasked)),
    )
    return Trimmed(sample, kept, length, trimmed)
