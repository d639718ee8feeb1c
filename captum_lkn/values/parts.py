"""Parts of one sample's masks, evaluated apart and put together.

Each part has the forwards that the whole has, so that the values are those of one evaluation, bit for bit on equal
machines: rows side by side are cut where the whole cuts them, and subtrees of a prefix tree stay together. The forwards
of the unmasked sample and of the checks are run for each part anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from captum_lkn.decomposition import lattice
from captum_lkn.models.model import Model
from captum_lkn.players.players import Players
from captum_lkn.sampling.masks import MaskPlan
from captum_lkn.values.evaluator import Evaluator
from captum_lkn.values.limits import check_sizes
from captum_lkn.values.rows import Part, all_copies, evaluate_rows, rows_of, sampled_copies
from captum_lkn.values.sampled import (
    SHARED,
    SampledValues,
    check_sampling,
    draw_plans,
    ending_full,
    evaluation_of,
    sharing_first_tokens,
)
from captum_lkn.values.tables import Request, ValueTables, prompt_mask, takes_all_masks
from captum_lkn.values.work import work_of

__all__ = ["EvaluatesPartsOfMasks", "PartValues", "Reading", "evaluate_part", "join_parts", "parts_fit"]


_NONE: Final[tuple[None, Tensor, dict[str, Any]]] = None, torch.zeros(0, device="cpu"), {}


class Reading(NamedTuple):
    """Places of a model that are read, and the masks.

    Attributes:
        model: The model.
        evaluation: Further arguments of :class:`captum_lkn.values.evaluator.Evaluator`.
        n_samples: The number of sampled masks; None: all 2^n.
        seed: Their seed.
    """

    model: Model
    evaluation: dict[str, Any]
    n_samples: int | None = None
    seed: int = 0

    def open(self, request: Request) -> Evaluator:
        """Return the evaluator of one sample, which is to be entered.

        Raises:
            ValueError: Too many players; too few masks.
        """
        if self.n_samples is None:
            check_sizes(request.players)
        else:
            check_sampling(self.n_samples, self.seed, [request.players])
        return Evaluator(self.model, request.players, request.arguments, target=request.target, **self.evaluation)

    def plans(self, n: int) -> dict[int, MaskPlan]:
        """Return the sampled masks by the number of players; empty: all 2^n."""
        return {} if self.n_samples is None else draw_plans([n], self.n_samples, self.seed)


@dataclass(frozen=True)
class PartValues:
    """Values of a part of one sample's masks.

    Attributes:
        columns: Int64 ``[R]``, the columns of the sample's table that they are.
        values: Float64 ``[L, R]``, a row a source.
        units: The unit of each source's values; empty: not known.
        forwards: The number of forwards that the part adds to those of the whole: of the first part those of the
            unmasked sample and of the checks as well.
        evaluation: A record of the evaluation, for provenance.
    """

    columns: Tensor
    values: Tensor
    units: tuple[str, ...]
    forwards: int
    evaluation: dict[str, Any]


def evaluate_part(reading: Reading, request: Request, part: Part) -> PartValues:
    """Evaluate a part of one sample's masks.

    Args:
        reading: The model, and what is read.
        request: One sample, with its target.
        part: The part.

    Returns:
        Its values; none where there are more parts than forwards.

    Raises:
        TypeError: As :func:`captum_lkn.values.tables.value_tables`.
        ValueError: As that function.

    Example:
        >>> from captum_lkn.models.arguments import Arguments
        >>> from captum_lkn.outputs.scores import resolve_score
        >>> from captum_lkn.players.players import players_from_mask
        >>> x = torch.ones(1, 7)
        >>> options = {"score": resolve_score("logit"), "perturbations_per_eval": 64}
        >>> reading = Reading(Model(lambda x: x.prod(1)), options)
        >>> request = Request(players_from_mask(x), Arguments((x,)), None)
        >>> parts = [evaluate_part(reading, request, Part(number, 2)) for number in (0, 1)]
        >>> [one.columns.tolist()[0] for one in parts], join_parts(reading, request, parts).tables[0][0, -2:].tolist()
        ([0, 64], [0.0, 1.0])
    """
    (n,) = request.players.sizes
    plans = reading.plans(n)
    with (
        reading.open(request) as evaluator,
        sharing_first_tokens(evaluator, request.arguments) if plans else nullcontext() as shared,
    ):
        columns, values, record = _NONE if plans else _subtrees(evaluator, request, part)
        forwards = 0
        if columns is None:
            copies = sampled_copies(evaluator, plans, shared is not None) if plans else all_copies(evaluator, [0])
            rows = part.rows(copies.total, evaluator.planned_rows)
            columns = copies.masks_in(rows)
            # They are counted once the first forward has told of which kind they are.
            blocks = list(rows_of(evaluator, copies, part))
            values = evaluate_rows(evaluator, blocks, len(rows))
            if copies.places is not None:
                values = values[copies.places[columns] - rows.start]
            kind = evaluator.masked_forwards, evaluator.drops_removed
            forwards = sum(work_of(*kind, *block).forwards for block in blocks)
        return PartValues(
            columns,
            values.T.contiguous(),
            evaluator.units(),
            evaluator.forwards if part.number == 0 else forwards,
            evaluation_of(evaluator, shared) | record,
        )


def parts_fit(reading: Reading, request: Request, parts: Sequence[PartValues]) -> bool:
    """Return whether parts have each value once, and were evaluated in the same way.

    They do not fit where their processes run forwards of other sizes, such as on other devices.
    """
    (n,) = request.players.sizes
    plans = reading.plans(n)
    total = sum(map(len, plans[n])) if plans else 1 << n
    columns = torch.cat([part.columns for part in parts])
    whole = len(columns) == total and bool((columns.sort().values == torch.arange(total, device="cpu")).all())
    filled = [part for part in parts if len(part.columns)]
    # Not each part of those that share first tokens has any in common.
    kinds = [part.evaluation for part in filled if part.evaluation != SHARED]
    return whole and all(one.units == filled[0].units for one in filled) and all(one == kinds[0] for one in kinds)


def join_parts(reading: Reading, request: Request, parts: Sequence[PartValues]) -> ValueTables:
    """Put the parts of one sample's masks together; the unmasked sample is evaluated once more, for its target.

    Args:
        reading: The model, and what is read.
        request: The sample, with its target.
        parts: All parts, which fit: see :func:`parts_fit`.

    Returns:
        The values as one evaluation gives them.

    Raises:
        ValueError: v(N) is not what the unmasked forward returns; and what :func:`evaluate_part` raises.
    """
    (n,) = request.players.sizes
    plans = reading.plans(n)
    table = torch.empty_like(torch.cat([one.values for one in parts], 1))
    for one in parts:
        table[:, one.columns] = one.values
    evaluations = [part.evaluation for part in parts]
    with reading.open(request) as evaluator:
        evaluator.check_full([ending_full(table) if plans else table])
        found = (
            (table,),
            evaluator.target,
            parts[0].units,
            sum(part.forwards for part in parts),
            evaluator.whole_batch,
            evaluator.dtype,
            evaluator.epsilon,
            evaluator.output_shape,
            (dict(next((one for one in evaluations if one == SHARED), evaluations[0])),),
        )
        return SampledValues(*found, (plans[n],)) if plans else ValueTables(*found)


@runtime_checkable
class EvaluatesPartsOfMasks(Protocol):
    """Forward function that has a cheaper way to the outputs for a part of all masks of a sample.

    :class:`captum_lkn.causal.continuation.Continuation` is one.
    """

    def part_of_masks(
        self, players: Players, sample: int, attention_mask: Tensor | None = None, *, part: tuple[int, int] = (0, 1)
    ) -> tuple[Tensor | None, Tensor | None, dict[str, Any]]:
        """Return subsets and outputs, or None, and a record; see :class:`captum_lkn.causal.all_masks.PartOfMasks`."""


def _subtrees(evaluator: Evaluator, request: Request, part: Part) -> tuple[Tensor | None, Tensor, dict[str, Any]]:
    """Return columns and values ``[R, L]`` of a part in a cheaper way, and a record; columns None: there is none."""
    function = evaluator.model.forward_func
    if not isinstance(function, EvaluatesPartsOfMasks) or not takes_all_masks(evaluator, request.arguments):
        return _NONE
    mask = prompt_mask(request.arguments, 0)
    subsets, outputs, record = function.part_of_masks(request.players, 0, mask, part=(part.number, part.parts))
    if subsets is None or outputs is None:
        return None, _NONE[1], record
    samples = torch.zeros(len(subsets), dtype=torch.int64, device="cpu")
    values = evaluator.score_outputs(outputs, samples).cpu().double()[:, None]
    evaluator.check_finite(samples, lattice.members(subsets, request.players.sizes[0]), values)
    return subsets, values.repeat(1, len(evaluator.sources)), record
