"""Plan of a masked evaluation: its forwards are counted, and a few of them are tried."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from captum_lkn.models.model import Model
from captum_lkn.models.session import as_written
from captum_lkn.outputs.score import Score
from captum_lkn.players.players import Players
from captum_lkn.sampling.masks import MaskPlan
from captum_lkn.values.copies import Copies
from captum_lkn.values.evaluator import Evaluator
from captum_lkn.values.forwards import MaskedForwards
from captum_lkn.values.limits import check_sizes
from captum_lkn.values.memory import WatchedMemory
from captum_lkn.values.rows import all_copies, rows_of, sampled_copies
from captum_lkn.values.sampled import check_sampling, draw_plans, sharing_first_tokens
from captum_lkn.values.sources import Source
from captum_lkn.values.tables import Request, prompt_mask, takes_all_masks
from captum_lkn.values.work import Work, work_of

__all__ = ["EvaluationPlan", "PlansAllMasks", "plan_values"]

_TRIED: Final = 3  # requests: that with the most masks, that with the fewest, and one between


@runtime_checkable
class PlansAllMasks(Protocol):
    """Forward function with a cheaper way to all 2^n masks, which can count what that takes.

    :class:`captum_lkn.causal.continuation.Continuation` is one.
    """

    def plan_masks(self, players: Players, sample: int, attention_mask: Tensor | None = None) -> Any:
        """Return counts, and a function that begins; see :class:`captum_lkn.causal.all_masks.MasksPlan`."""


@dataclass(frozen=True)
class EvaluationPlan:
    """Work of a masked evaluation.

    Attributes:
        work: Its forwards and tokens, those of the checks and of the unmasked samples included.
        has_tokens: Whether the inputs are tokens.
        masks: The number of masked copies.
        rows: The most rows of a forward.
        memory: Bytes that a forward takes at its peak, besides the model.
        seconds: Seconds of all forwards.
        tried: The number of samples whose forwards were tried; those of the others are taken to be alike.
        dropped: Whether removed tokens are left out.
        shared: The number of samples that are evaluated by a prefix tree.
        reasons: Reasons why prompts are not.
        whole_batch: Whether the forward gives one value for the whole batch.
    """

    work: Work
    has_tokens: bool
    masks: int
    rows: int
    memory: int
    seconds: float
    tried: int
    dropped: bool
    shared: int
    reasons: tuple[str, ...]
    whole_batch: bool


class _Trial(NamedTuple):
    """Findings of the first forwards of one request.

    Attributes:
        forwards: Their kind.
        dropped: Whether removed tokens are left out.
        prefixes: Whether the forward function may share prefixes.
        in_order: Whether sampled masks are in the order of their players, so that first tokens are shared.
        opening: The work until the first masked forward was checked.
        averaged: Whether values are averaged over a background, so that the first forward was a check and no more.
        opened: Its seconds.
        per_row: Seconds of each further masked copy.
        per_leaf: Seconds of each copy in a prefix tree; 0 without one.
        memory: Bytes of a forward.
    """

    forwards: MaskedForwards
    dropped: bool
    prefixes: bool
    in_order: bool
    opening: Work
    averaged: bool
    opened: float
    per_row: float
    per_leaf: float
    memory: int


class _Part(NamedTuple):
    """Work of one request."""

    work: Work
    masks: int
    seconds: float
    shared: int
    reasons: tuple[str, ...]


def plan_values(
    model: Model,
    requests: Sequence[Request],
    *,
    score: Score,
    n_samples: int | None = None,
    seed: int = 0,
    sources: Sequence[Source] = (Source(),),
    perturbations_per_eval: int | None = None,
) -> EvaluationPlan:
    """Count the forwards of a masked evaluation, and try a few of them.

    The counts are those of :func:`captum_lkn.values.tables.value_tables`, or with `n_samples` of
    :func:`captum_lkn.values.sampled.sampled_values`. Of many requests three are tried.

    Args:
        model: The model.
        requests: The samples, with their targets.
        score: From outputs and targets to values.
        n_samples: The number of masks of each sample; None: all 2^n.
        seed: The seed of the masks.
        sources: What is read.
        perturbations_per_eval: Masks a forward, times the number of samples; None: by a rule.

    Returns:
        The plan.

    Raises:
        TypeError: As those functions.
        ValueError: As those functions.
    """
    plans: dict[int, MaskPlan] = {}
    if n_samples is not None:
        check_sampling(n_samples, seed, [request.players for request in requests])
        plans = draw_plans((n for request in requests for n in request.players.sizes), n_samples, seed)
    else:
        for request in requests:
            check_sizes(request.players)
    reading = {"score": score, "sources": sources, "perturbations_per_eval": perturbations_per_eval}
    planner = _Planner(model, plans, reading)
    order = sorted(range(len(requests)), key=lambda i: -sum(map(planner.masks_of, requests[i].players.sizes)))
    places = sorted({0, len(order) // 2, len(order) - 1}) if len(order) > _TRIED else range(len(order))
    tried = {place: planner.trial(requests[order[place]]) for place in places}
    parts = [
        planner.part(requests[number], tried[min(tried, key=lambda other: abs(other - place))], place in tried)
        for place, number in enumerate(order)
    ]
    work = Work()
    for part in parts:
        work = work.plus(part.work)
    largest = max(tried.values(), key=lambda trial: trial.memory)
    whole_batch = largest.forwards.whole_batch
    return EvaluationPlan(
        work,
        largest.forwards.has_tokens,
        sum(part.masks for part in parts),
        1 if whole_batch else max(trial.forwards.rows for trial in tried.values()),
        largest.memory,
        sum(part.seconds for part in parts),
        sum(len(requests[order[place]].players) for place in places),
        largest.dropped,
        sum(part.shared for part in parts),
        tuple(dict.fromkeys(reason for part in parts for reason in part.reasons)),
        whole_batch,
    )


class _Planner:
    """Plans requests one by one.

    Args:
        model: The model.
        plans: The sampled masks by the number of players; empty: all 2^n.
        reading: Further arguments of the evaluators.
    """

    def __init__(self, model: Model, plans: Mapping[int, MaskPlan], reading: Mapping[str, Any]) -> None:
        self.model = model
        self.plans = plans
        self.reading = reading

    def masks_of(self, n: int) -> int:
        """Return the number of masks of a sample with n players."""
        return sum(map(len, self.plans[n])) if self.plans else 1 << n

    def trial(self, request: Request) -> _Trial:
        """Run the first forwards of a request, and some more."""
        players, arguments = request.players, request.arguments
        start, first, per_leaf = time.perf_counter(), 0, 0.0
        with (
            self.model.session(),
            Evaluator(self.model, players, arguments, target=request.target, **self.reading) as evaluator,
            sharing_first_tokens(evaluator, arguments) if self.plans else nullcontext() as sharing,
        ):
            in_order = sharing is not None
            forwards = evaluator.masked_forwards
            prefixes = not self.plans and takes_all_masks(evaluator, arguments)
            shared, _ = self._shared(request) if prefixes else ({}, ())
            if shared:
                begun = time.perf_counter()
                if not next(iter(shared.values())).begin():  # a run would find that out as well
                    prefixes, shared = False, {}
                start += time.perf_counter() - begun
            for samples, masks in self._rows(forwards, shared, in_order):
                first = _first(forwards, samples)
                evaluator.values(samples[:first], masks[:first])
                break
            opening = Work(forwards.forwards, forwards.tokens, forwards.tokens)
            if first and players.background:  # the first forward was a check, and its rows were averaged behind it
                again = work_of(forwards, evaluator.drops_removed, samples[:first], masks[:first])
                opening = Work(*(some - more for some, more in zip(opening, again, strict=True)))
            opened = time.perf_counter() - start
            if shared:
                begin = next(iter(shared.values())).begin
                start = time.perf_counter()
                leaves = begin()
                per_leaf = (time.perf_counter() - start) / leaves
            chosen = self._some_rows(forwards, in_order)
            with as_written(), WatchedMemory() as watched:
                evaluator.values(*chosen)
            start = time.perf_counter()
            evaluator.values(*chosen).cpu()
            per_row = (time.perf_counter() - start) / len(chosen[0])
            drops = evaluator.drops_removed
        return _Trial(
            forwards,
            drops,
            prefixes,
            in_order,
            opening,
            bool(players.background),
            opened,
            per_row,
            per_leaf,
            watched.peak,
        )

    def part(self, request: Request, trial: _Trial, own: bool) -> _Part:
        """Count the work of a request.

        Args:
            request: The request.
            trial: Its own trial, or that of another request, whose forwards are taken to be alike.
            own: Whether it is its own.
        """
        forwards = trial.forwards
        if not own:
            rows = self.reading["perturbations_per_eval"]
            forwards = MaskedForwards(self.model, request.players, request.arguments, rows)
            forwards.whole_batch, forwards.aligned = trial.forwards.whole_batch, trial.forwards.aligned
        shared, reasons = self._shared(request) if trial.prefixes else ({}, ())
        work, rows, seconds = trial.opening, 0, trial.opened
        opened = trial.averaged
        for samples, masks in self._rows(forwards, shared, trial.in_order):
            if not opened:
                first = _first(forwards, samples)
                samples, masks, opened = samples[first:], masks[first:], True
            work = work.plus(work_of(forwards, trial.dropped, samples, masks))
            rows += len(samples)
        longer = _width(request.players) / max(_width(trial.forwards.players), 1)
        seconds += rows * trial.per_row * longer
        for sample, plan in shared.items():
            work = work.plus(Work(plan.forwards, plan.tokens, plan.plain_tokens))
            seconds += self.masks_of(request.players.sizes[sample]) * trial.per_leaf * longer
        sizes = request.players.sizes[:1] if forwards.whole_batch else request.players.sizes
        return _Part(work, sum(map(self.masks_of, sizes)), seconds, len(shared), reasons)

    def _rows(
        self, forwards: MaskedForwards, shared: Mapping[int, Any], in_order: bool
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the masked copies of samples that do not share prefixes, as they are evaluated together."""
        copies = self._copies(forwards, shared, in_order)
        if copies is not None:
            yield from rows_of(forwards, copies)

    def _copies(self, forwards: MaskedForwards, shared: Mapping[int, Any], in_order: bool) -> Copies | None:
        """Return the masked copies of samples that do not share prefixes; None where all share them."""
        if self.plans:
            return sampled_copies(forwards, self.plans, in_order)
        samples = range(1 if forwards.whole_batch else len(forwards.players))
        left = [sample for sample in samples if sample not in shared]
        return all_copies(forwards, left) if left else None

    def _shared(self, request: Request) -> tuple[dict[int, Any], tuple[str, ...]]:
        """Return the plans of the samples that share prefixes, and the reasons of the others."""
        function = self.model.forward_func
        if not isinstance(function, PlansAllMasks):
            return {}, ()
        plans = {
            sample: function.plan_masks(request.players, sample, prompt_mask(request.arguments, sample))
            for sample in range(len(request.players))
        }
        shared = {sample: plan for sample, plan in plans.items() if not plan.reason}
        return shared, tuple(dict.fromkeys(plan.reason for plan in plans.values() if plan.reason))

    def _some_rows(self, forwards: MaskedForwards, in_order: bool = False) -> tuple[Tensor, Tensor]:
        """Return as many masked copies as a forward has: from all over the masks, or those of one if in order."""
        copies = self._copies(forwards, {}, in_order)
        assert copies is not None  # nothing is shared here: for type checkers
        if in_order:
            start = forwards.rows * (copies.total // forwards.rows // 3)
            return copies.take(range(start, min(start + forwards.rows, copies.total)))
        apart = max(1, copies.total // (2 if forwards.whole_batch else forwards.rows))
        start, parts = 0, []
        for samples, masks in rows_of(forwards, copies):
            first = -start % apart
            parts.append((samples[first::apart], masks[first::apart]))
            start += len(samples)
        samples, masks = map(torch.cat, zip(*parts, strict=True))
        most = 2 if forwards.whole_batch else forwards.rows
        return samples[:most], masks[:most]


def _first(forwards: MaskedForwards, samples: Tensor) -> int:
    """Return the number of masked copies of the first forward."""
    return 1 if forwards.whole_batch else min(forwards.rows, len(samples))


def _width(players: Players) -> int:
    """Return the number of scalars or tokens of a sample."""
    return sum(x[0].numel() for x in players.inputs)
