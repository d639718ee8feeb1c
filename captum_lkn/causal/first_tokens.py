"""Rows of a forward that begin with the same tokens, which are computed once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor

from captum_lkn._common.memory import out_of_memory
from captum_lkn._common.rounding import agree, precision_in_force
from captum_lkn.causal.prefix_tree import kept_logits
from captum_lkn.models.hugging_face.facts import cache_argument, parameters_of

__all__ = ["FirstTokens", "common_tokens"]

# The keys and values of the first tokens are copied for each row, and there is one forward more.
_MARGIN: Final = 1.25


def common_tokens(ids: Tensor, mask: Tensor, keep: int) -> int:
    """Return the number of first tokens to compute once for all rows; 0 where that saves less than a fifth.

    Args:
        ids: Int64 ``[R, T]``.
        mask: ``[R, T]``, 0 at padding, of which there must be none.
        keep: The number of last tokens whose logits are wanted.

    Example:
        >>> ids = torch.tensor([[5, 6, 7, 1], [5, 6, 8, 1], [5, 6, 7, 2]])
        >>> common_tokens(ids, torch.ones_like(ids), 1), common_tokens(ids[:1], torch.ones_like(ids[:1]), 1)
        (2, 0)
    """
    rows, length = ids.shape
    if not bool(mask.all()):
        return 0
    common = min(int((ids == ids[:1]).all(0).long().cumprod(0).sum()), length - keep)
    return common if _MARGIN * (common + rows * (length - common)) <= rows * length else 0


class FirstTokens:
    """Evaluates prompts, and computes the first tokens that all rows of a forward share once.

    Args:
        model: A causal model of `transformers` whose cache keeps whole prefixes.
        values_of: From logits ``[R, keep, V]`` to the values ``[R, ...]`` that are compared.

    Attributes:
        failed: Whether the model turned out to fail so, or to have other values: then all is evaluated plainly.
    """

    def __init__(self, model: Any, values_of: Callable[[Tensor], Tensor]) -> None:
        self.failed = False
        self._model = model
        self._values_of = values_of
        self._compared = False

    def logits(self, ids: Tensor, mask: Tensor, keep: int, plain: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Return the last logits of prompts, ``[R, keep, V]``.

        Args:
            ids: Int64 ``[R, T]``, padded on the left.
            mask: ``[R, T]``, 0 at padding.
            keep: The number of last positions.
            plain: Evaluates ids and their mask plainly, to the same.
        """
        common = 0 if self.failed else common_tokens(ids, mask, keep)
        if not common:
            return plain(ids, mask)
        try:
            found = self._behind(ids, common, keep)
        except (RuntimeError, IndexError, TypeError, ValueError) as error:
            if out_of_memory(error):
                raise
            self.failed = True
            return plain(ids, mask)
        if not self._compared:
            few = torch.tensor(sorted({0, len(ids) // 3, len(ids) - 1}), device=ids.device)
            alone, together = (
                self._values_of(some).double().cpu() for some in (plain(ids[few], mask[few]), found[few])
            )
            self._compared = True
            self.failed = not agree(alone, together, precision_in_force(self._model.dtype, ids.device).eps)
        return plain(ids, mask) if self.failed else found

    def _behind(self, ids: Tensor, common: int, keep: int) -> Tensor:
        """Return the last logits ``[R, keep, V]`` of prompts whose first tokens are the same."""
        from transformers import DynamicCache

        argument = cache_argument(parameters_of(self._model)) or "past_key_values"
        first = DynamicCache()
        kept_logits(self._model, 1, use_cache=True, **self._arguments(ids[:1, :common], 0), **{argument: first})
        every = DynamicCache()
        for layer, known in enumerate(first.layers):
            every.update(known.keys.expand(len(ids), -1, -1, -1), known.values.expand(len(ids), -1, -1, -1), layer)
        return kept_logits(
            self._model, keep, use_cache=True, **self._arguments(ids[:, common:], common), **{argument: every}
        )

    def _arguments(self, ids: Tensor, start: int) -> dict[str, Tensor]:
        """Return the arguments of tokens behind `start` others."""
        rows, length = ids.shape
        positions = torch.arange(start, start + length, device=ids.device).expand(rows, -1)
        mask = torch.ones(rows, start + length, dtype=torch.int64, device=ids.device)
        return {"input_ids": ids, "attention_mask": mask, "position_ids": positions}
