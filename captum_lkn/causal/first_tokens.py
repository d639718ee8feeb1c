"""Rows of a forward that begin with the same tokens, which are computed once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

import torch
from torch import Tensor

from captum_lkn._common.rounding import agree, precision_in_force
from captum_lkn.causal.caches import filled_cache, kept_logits, keys_and_values
from captum_lkn.models.hugging_face.call import HuggingFace
from captum_lkn.models.hugging_face.facts import cache_argument, parameters_of

__all__ = ["FirstTokens", "common_tokens", "sharing", "sharing_of"]

# What computes first tokens once in the innermost context of this thread, and for which forward function.
_SHARING: ContextVar[tuple[object, FirstTokens | None]] = ContextVar("sharing first tokens", default=(None, None))

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
        called: The way in which it is called.
        values_of: From logits ``[R, keep, V]`` to the values ``[R, ...]`` that are compared.

    Attributes:
        shared: The number of calls whose first tokens were computed once.
        failed: Whether the model turned out to fail so, to have other values, or to need more memory than there is:
            then all is evaluated plainly.
    """

    def __init__(self, model: Any, called: HuggingFace, values_of: Callable[[Tensor], Tensor]) -> None:
        self.shared = 0
        self.failed = False
        self._model = model
        self._called = called
        self._values_of = values_of
        self._compared = False

    def logits(self, ids: Tensor, mask: Tensor, keep: int, plain: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Return the last logits of prompts, ``[R, keep, V]``.

        Args:
            ids: Int64 ``[R, T]``, padded on the left.
            mask: ``[R, T]``, 0 at padding.
            keep: The number of last positions.
            plain: Evaluates ids and their mask plainly, to the same.

        Raises:
            ValueError: Ids beyond the vocabulary, or more tokens than positions.
        """
        common = 0 if self.failed else common_tokens(ids, mask, keep)
        if not common:
            return plain(ids, mask)
        self._called.limits.check({"input_ids": ids, "attention_mask": mask})
        try:
            found = self._last_logits(ids, common, keep)
        except (AttributeError, IndexError, MemoryError, RuntimeError, TypeError, ValueError):
            # Memory as well: plain forwards keep no keys and values, so that as many rows may have room in them.
            self.failed = True
        if not (self.failed or self._compared):
            self._compare(ids, mask, found, plain)
        if self.failed:  # outside of `except`, which would keep the tensors of the failed forward
            return plain(ids, mask)
        self.shared += 1
        return found

    def _compare(self, ids: Tensor, mask: Tensor, found: Tensor, plain: Callable[[Tensor, Tensor], Tensor]) -> None:
        """Compare a few rows with their plain evaluation."""
        few = torch.tensor(sorted({0, len(ids) // 3, len(ids) - 1}), device=ids.device)
        alone, together = (self._values_of(some).double().cpu() for some in (plain(ids[few], mask[few]), found[few]))
        self._compared = True
        self.failed = not agree(alone, together, precision_in_force(self._model.dtype, ids.device).eps)

    def _last_logits(self, ids: Tensor, common: int, keep: int) -> Tensor:
        """Return the last logits ``[R, keep, V]`` of prompts whose first tokens are the same."""
        argument = cache_argument(parameters_of(self._model)) or "past_key_values"
        first = filled_cache([])
        kept_logits(self._model, 1, use_cache=True, **self._arguments(ids[:1, :common], 0), **{argument: first})
        rows = (len(ids), -1, -1, -1)
        every = filled_cache([(keys.expand(rows), values.expand(rows)) for keys, values in keys_and_values(first)])
        return kept_logits(
            self._model, keep, use_cache=True, **self._arguments(ids[:, common:], common), **{argument: every}
        )

    def _arguments(self, ids: Tensor, start: int) -> dict[str, Tensor]:
        """Return the arguments of tokens behind `start` others."""
        rows, length = ids.shape
        positions = torch.arange(start, start + length, device=ids.device).expand(rows, -1)
        mask = torch.ones(rows, start + length, dtype=torch.int64, device=ids.device)
        return {"input_ids": ids, "attention_mask": mask, "position_ids": positions}


@contextmanager
def sharing(function: object, shared: FirstTokens | None) -> Iterator[FirstTokens | None]:
    """Let a forward function find what computes its first tokens once; other threads do not see it."""
    before = _SHARING.set((function, shared))
    try:
        yield shared
    finally:
        _SHARING.reset(before)


def sharing_of(function: object) -> FirstTokens | None:
    """Return what computes the first tokens of a forward function once in the present context; None: nothing."""
    owner, shared = _SHARING.get()
    return shared if owner is function else None
