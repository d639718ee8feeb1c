"""Run masked copies of some samples through a model, as many in a forward as fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from captum_lkn._common.memory import out_of_memory
from captum_lkn._common.warn import warn
from captum_lkn.models.arguments import Arguments
from captum_lkn.models.layers import Layer
from captum_lkn.models.model import Model
from captum_lkn.players.players import Players
from captum_lkn.values.limits import check_whole_batch, rows_per_forward

__all__ = ["MaskedForwards"]

T = TypeVar("T")


class MaskedForwards:
    """Masked copies of B samples, cut into forwards.

    There are three kinds of forwards. By default any rows of any samples stand side by side. Where the model gives one
    value for the whole batch (``whole_batch``), a forward has all samples under one mask. Where it only takes the batch
    that it was given (``aligned``), a forward has all samples in their order, each under a mask of its own: so Captum
    calls it, and arguments that are not rows mean what they meant.

    Attributes:
        rows: The most rows of a forward; smaller once memory has run out.
        planned_rows: The most rows of a forward before that.
        whole_batch: Whether the model gives one value for all rows of a forward.
        aligned: Whether a forward has all samples in their order.
        forwards: How many forwards were run so far.
        tokens: How many tokens they had; 0 where the inputs are not tokens.
    """

    def __init__(
        self, model: Model, players: Players, arguments: Arguments, perturbations_per_eval: int | None = None
    ) -> None:
        self.players = players
        self.arguments = replace(arguments, unmasked=players.inputs)
        self.rows = self.planned_rows = rows_per_forward(model, players, perturbations_per_eval)
        self.whole_batch = False
        self.aligned = False
        self.forwards = self.tokens = 0
        self._perturbations_per_eval = perturbations_per_eval
        self._columns = max(players.sizes)

    def everyone(self, present: bool = True) -> tuple[Tensor, Tensor]:
        """Return a row for each sample, with all players present or none."""
        batch = len(self.players)
        return torch.arange(batch, device="cpu"), torch.full((batch, self._columns), present, device="cpu")

    def copies(
        self,
        samples: Tensor,
        masks: Tensor,
        baselines: tuple[Tensor, ...] | None = None,
        draws: Tensor | None = None,
    ) -> Arguments:
        """Return the arguments of one forward: a row a mask, or all samples under one mask."""
        if self.whole_batch:
            samples, masks = torch.arange(len(self.players), device="cpu"), masks.expand(len(self.players), -1)
        inputs = self.players.masked_rows(samples, masks, baselines, draws)
        return replace(self.arguments, inputs=inputs).rows(samples, len(self.players))

    def record(self, arguments: Arguments) -> None:
        """Count one forward with these arguments, and its tokens."""
        self.forwards += 1
        if self.has_tokens:
            self.tokens += arguments.inputs[0].numel()

    @property
    def has_tokens(self) -> bool:
        """True where the inputs are tokens: integers ``[B, T]`` that the model gets as they are."""
        first = self.players.inputs[0]
        return self.players.decode is None and first.dim() == 2 and not first.is_floating_point()

    def take_for_whole_batch(self, layers: Sequence[Layer]) -> None:
        """Go on with one mask a forward, since the model gives one value for all of its rows."""
        check_whole_batch(self.players, self._perturbations_per_eval, layers)
        self.whole_batch = True

    def run(
        self,
        samples: Tensor,
        masks: Tensor,
        evaluate: Callable[[Tensor, Tensor], T],
        advance: Callable[[int], object] | None = None,
    ) -> list[T]:
        """Evaluate rows in forwards of at most ``rows`` of them, half as many where memory runs out.

        With gradients the error is raised instead: what earlier forwards keep for them is what takes the memory, and
        the caller begins anew after :meth:`halve`.

        Args:
            samples: Int64 ``[R]``, the sample of each row.
            masks: Bool ``[R, n_max]``.
            evaluate: From the samples and masks of one forward to its result.
            advance: Called with the number of rows that are done, after each forward.

        Returns:
            The results of the forwards.
        """
        results: list[T] = []
        start = 0
        while start < len(samples):
            alone = self.whole_batch
            stop = min(start + (1 if alone else self.rows), len(samples))
            try:
                result = evaluate(samples[start:stop], masks[start:stop])
            except (RuntimeError, MemoryError) as error:
                if not self.may_halve(error, stop - start) or torch.is_grad_enabled():
                    raise
            else:
                if alone == self.whole_batch:
                    results.append(result)
                    if advance is not None:
                        advance(stop - start)
                    start = stop
                continue  # one value for the whole batch: once more, mask by mask
            self.halve(stop - start)
        return results

    def may_halve(self, error: BaseException, rows: int) -> bool:
        """Return whether fewer rows may help against an error of a forward of so many: memory has run out."""
        return out_of_memory(error) and rows > 1 and not self.whole_batch

    def halve(self, rows: int) -> None:
        """Go on with half as many rows in a forward as had no room."""
        self.rows = rows // 2
        warn(
            f"out of memory with {rows} masked copies in a forward: going on with {self.rows}. Give "
            "perturbations_per_eval to choose their number"
        )
        torch.cuda.empty_cache()  # nothing happens where there is no GPU

    def run_aligned(
        self,
        samples: Tensor,
        masks: Tensor,
        evaluate: Callable[[Tensor, Tensor], Tensor],
        advance: Callable[[int], object] | None = None,
    ) -> Tensor:
        """Evaluate rows in forwards of all samples in their order; see :meth:`run`.

        Args:
            samples: Int64 ``[R]``, in any order and any number of each.
            masks: Bool ``[R, n_max]``.
            evaluate: From the samples and masks of one forward to a result for each row.
            advance: Called with the number of rows that are done, after each forward.

        Returns:
            The results ``[R, ...]``.
        """
        parts, places = [], []
        for rows in _one_of_each_sample(samples):
            everyone, given = self.everyone()
            given[samples[rows]] = masks[rows]  # samples that have no row left are unmasked
            parts.append(evaluate(everyone, given)[samples[rows]])
            places.append(rows)
            if advance is not None:
                advance(len(rows))
        result = torch.cat(parts)
        return result[torch.cat(places).argsort().to(result.device)]


def _one_of_each_sample(samples: Tensor) -> tuple[Tensor, ...]:
    """Return rows in groups, each with at most one row of a sample, in few groups."""
    order = samples.argsort(stable=True)
    of_sample = samples[order]
    rank = torch.empty_like(samples)
    rank[order] = torch.arange(len(samples), device="cpu") - torch.searchsorted(of_sample, of_sample)
    return torch.split(rank.argsort(stable=True), rank.bincount().tolist())
