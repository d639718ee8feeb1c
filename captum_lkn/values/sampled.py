"""Values at sampled masks, where 2^n of them are too many."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Final, Protocol, runtime_checkable

import torch
from torch import Tensor

from captum_lkn._common.checks import is_whole
from captum_lkn._common.messages import shape_of
from captum_lkn.models.arguments import Arguments
from captum_lkn.models.model import Model
from captum_lkn.outputs.score import Score
from captum_lkn.players.players import Players
from captum_lkn.sampling.masks import MaskPlan, least_samples, plan_masks
from captum_lkn.values.evaluator import Evaluator
from captum_lkn.values.rows import evaluate_copies, sampled_copies
from captum_lkn.values.sources import Source
from captum_lkn.values.tables import Request, ValueTables, evaluate_each, plain_evaluation, takes_all_masks

__all__ = [
    "SHARED",
    "CountsShared",
    "SampledValues",
    "SharesFirstTokens",
    "check_sampling",
    "draw_plans",
    "ending_full",
    "evaluation_of",
    "sampled_values",
    "sharing_first_tokens",
]

SHARED: Final = {"evaluation": "first tokens shared"}
"""The record, for provenance, of forwards of which at least one computed common first tokens once."""


class CountsShared(Protocol):
    """Counts what was shared.

    Attributes:
        shared: The number of calls whose first tokens were computed once.
    """

    shared: int


@runtime_checkable
class SharesFirstTokens(Protocol):
    """Forward function that computes what the rows of a forward begin with once.

    :class:`captum_lkn.causal.continuation.Continuation` is one.
    """

    def sharing_first_tokens(self) -> AbstractContextManager[CountsShared | None]:
        """Return a context in which it does so; the value is None where it cannot."""


def sharing_first_tokens(evaluator: Evaluator, arguments: Arguments) -> AbstractContextManager[CountsShared | None]:
    """Return a context in which the forwards of sampled masks share their first tokens.

    The value is None where the function cannot do it. Else masks are best in the order of their players.
    """
    function = evaluator.model.forward_func
    if not isinstance(function, SharesFirstTokens) or not takes_all_masks(evaluator, arguments):
        return nullcontext()
    return function.sharing_first_tokens()


def evaluation_of(evaluator: Evaluator, shared: CountsShared | None) -> dict[str, Any]:
    """Return the record, for provenance, of an evaluation without a prefix tree that may have shared first tokens."""
    return dict(SHARED) if shared is not None and shared.shared else plain_evaluation(evaluator)


@dataclass(frozen=True)
class SampledValues(ValueTables):
    """Values at sampled masks of some samples.

    Attributes:
        tables: For each sample its values, float64 ``[L, m]`` on the CPU: a column for each mask of its plan, those to
            fit first, then the uniform ones and those of all sizes to test on.
        plans: The masks of each sample.
    """

    plans: tuple[MaskPlan, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        drawn = [sum(map(len, plan)) for plan in self.plans]
        if [table.shape[-1] for table in self.tables] != drawn:
            raise ValueError(
                f"tables must have a column for each mask of the plans, {drawn}; got {[*map(shape_of, self.tables)]}"
            )


def check_sampling(n_samples: Any, seed: Any, players: Sequence[Players]) -> None:
    """Check the number of masks and the seed.

    Raises:
        TypeError: One is not a whole number.
        ValueError: There are too few masks for the players, and fewer than all 2^n; or the seed is negative.
    """
    for name, given in (("n_samples", n_samples), ("seed", seed)):
        if not is_whole(given):
            raise TypeError(f"{name} must be a whole number; got {given!r}")
    if seed < 0:
        raise ValueError(f"seed must be at least 0; got {seed}")
    n = max(max(one.sizes) for one in players)
    least = least_samples(n)
    if n_samples < least and (n >= 62 or n_samples < 1 << n):
        raise ValueError(
            f"n_samples must be at least {least} for {n} players; got {n_samples}. With fewer than ten for each player "
            "and 100 effects are not told apart. Give more, or let select_players choose fewer players"
        )


def sampled_values(
    model: Model,
    requests: Sequence[Request],
    *,
    score: Score,
    n_samples: int,
    seed: int = 0,
    sources: Sequence[Source] = (Source(),),
    perturbations_per_eval: int | None = None,
    show_progress: bool = False,
    description: str = "masks",
) -> list[SampledValues]:
    """Evaluate a model at sampled masks of each sample.

    Args:
        model: The model.
        requests: The samples, with their targets.
        score: From outputs and targets to values.
        n_samples: The number of masks of each sample, those to test on included.
        seed: The seed of the masks. The masks of a sample do not depend on the samples beside it, and samples with the
            same number of players have the same masks.
        sources: What is read; all of them come from the same forwards.
        perturbations_per_eval: Masks a forward, times the number of samples; None: by a rule.
        show_progress: Whether to show one bar over all masks and samples.
        description: The bar's name.

    Returns:
        The values of each request.

    Raises:
        TypeError: As :func:`captum_lkn.values.tables.value_tables`; `n_samples` or `seed` is not a whole number.
        ValueError: As there, but for the number of players; too few masks for the players.

    Warns:
        UserWarning: As there.
    """
    check_sampling(n_samples, seed, [request.players for request in requests])
    plans = draw_plans((n for request in requests for n in request.players.sizes), n_samples, seed)
    counts = {n: sum(map(len, plan)) for n, plan in plans.items()}
    reading = {"score": score, "sources": sources, "perturbations_per_eval": perturbations_per_eval}
    return evaluate_each(
        model,
        requests,
        lambda evaluator, request, advance: _values(evaluator, request.arguments, plans, advance),
        counts.__getitem__,
        show_progress,
        description,
        **reading,
    )


def draw_plans(sizes: Iterable[int], n_samples: int, seed: int) -> dict[int, MaskPlan]:
    """Return the masks of samples by their numbers of players."""
    return {n: plan_masks(n, n_samples, torch.Generator("cpu").manual_seed(seed)) for n in sorted(set(sizes))}


def _values(
    evaluator: Evaluator, arguments: Arguments, plan_of: Mapping[int, MaskPlan], advance: Callable[[int], object]
) -> SampledValues:
    """Return the values of one evaluator's samples."""
    sizes = evaluator.players.sizes[:1] if evaluator.whole_batch else evaluator.players.sizes
    plans = tuple(plan_of[n] for n in sizes)
    counts = [sum(map(len, plan)) for plan in plans]
    with sharing_first_tokens(evaluator, arguments) as shared:
        flat = evaluate_copies(evaluator, sampled_copies(evaluator, plan_of, shared is not None), advance)
    evaluation = evaluation_of(evaluator, shared)
    tables = [table.T.contiguous() for table in torch.split(flat, counts)]
    evaluator.check_full([ending_full(table) for table in tables])
    return SampledValues(
        tuple(tables),
        evaluator.target,
        evaluator.units(),
        evaluator.forwards,
        evaluator.whole_batch,
        evaluator.dtype,
        evaluator.epsilon,
        evaluator.output_shape,
        tuple(dict(evaluation) for _ in plans),
        plans,
    )


def ending_full(table: Tensor) -> Tensor:
    """Return values with that of the full mask, the second one, at the end."""
    return torch.cat([table[:, :1], table[:, 2:], table[:, 1:2]], 1)
