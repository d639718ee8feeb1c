"""Leave tokens out of the forwards that the attention mask removes.

Where absent words are removed by the attention mask, half of the tokens of the 2^n masked copies on average have no
influence on the others. Encoders that take ``position_ids`` give the same answer without them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from captum_lkn.models.arguments import Arguments
from captum_lkn.models.hugging_face.facts import first_position
from captum_lkn.models.hugging_face.padding import text_starts
from captum_lkn.models.model import Model

__all__ = ["can_drop", "first_positions", "without_removed"]

_MASK = "attention_mask"


def can_drop(model: Model, arguments: Arguments) -> bool:
    """Return whether to try it: for a Hugging Face model that takes positions, and whose attention mask is masked."""
    if not model.is_hugging_face or arguments.names != (_MASK,) or arguments.positional:
        return False
    return "input_ids" in arguments.keywords and "position_ids" in model.parameters


def first_positions(model: Model) -> list[int]:
    """Return possible positions of a model's first token: 0, or the one after that of padding (RoBERTa)."""
    return list(dict.fromkeys([first_position(model.inner), 0]))


def without_removed(arguments: Arguments, first_position: int) -> Iterator[tuple[Tensor, Arguments]]:
    """Leave out the tokens whose attention mask is 0, and group the rows by their number of tokens.

    Args:
        arguments: Masked copies, whose masked input is the attention mask ``[R, T]``.
        first_position: The position of the first token.

    Yields:
        The indices of a group's rows, int64 ``[G]``, and their arguments.

    Example:
        >>> masks = torch.tensor([[1, 0, 1], [1, 1, 1], [1, 1, 0]])
        >>> ids = torch.tensor([[5, 6, 7]] * 3)
        >>> for rows, group in without_removed(Arguments((masks,), ("attention_mask",), (), {"input_ids": ids}), 0):
        ...     print(rows.tolist(), group.keywords["input_ids"].tolist(), group.keywords["position_ids"].tolist())
        [0, 2] [[5, 7], [5, 6]] [[0, 2], [0, 1]]
        [1] [[5, 6, 7]] [[0, 1, 2]]
    """
    (mask,) = arguments.inputs
    lengths = mask.sum(1)
    # A text that is padded on the left begins at its first token, present or not.
    starts = text_starts(mask if arguments.unmasked is None else arguments.unmasked[0].to(mask.device))
    for length in sorted(set(lengths.tolist())):
        rows = (lengths == length).nonzero().flatten()
        kept = mask[rows].nonzero()[:, 1].reshape(len(rows), length)

        def gathered(value: Any, rows: Tensor = rows, kept: Tensor = kept) -> Any:
            if not isinstance(value, Tensor) or value.dim() == 0 or len(value) != len(mask):
                return value
            own = value[rows.to(value.device)]
            return own.gather(1, kept.to(value.device)) if value.shape == mask.shape else own

        keywords = {name: gathered(value) for name, value in arguments.keywords.items()}
        keywords["position_ids"] = kept + first_position - starts[rows, None]
        yield rows, replace(arguments, inputs=(torch.ones_like(kept),), keywords=keywords)
