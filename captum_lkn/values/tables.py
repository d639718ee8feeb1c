"""Value tables: the score of every subset of the players."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from captum_lkn._common.checks import check_numbers
from captum_lkn._common.progress import Bar, is_hidden
from captum_lkn.decomposition import lattice
from captum_lkn.models.arguments import Arguments
from captum_lkn.models.model import Model
from captum_lkn.outputs.score import Score
from captum_lkn.outputs.targets import Target, TargetLike
from captum_lkn.players.players import Players
from captum_lkn.values.evaluator import Evaluator
from captum_lkn.values.limits import check_sizes
from captum_lkn.values.rows import all_copies, evaluate_copies
from captum_lkn.values.sources import Source

__all__ = [
    "EvaluatesAllMasks",
    "Request",
    "ValueTables",
    "evaluate_each",
    "plain_evaluation",
    "prompt_mask",
    "takes_all_masks",
    "value_tables",
]

_T = TypeVar("_T")

_PLAIN = {"evaluation": "plain"}
_DROPPED = {"evaluation": "removed tokens dropped"}


@runtime_checkable
class EvaluatesAllMasks(Protocol):
    """Forward function that has a cheaper way to the outputs for all 2^n masks of a sample.

    :class:`captum_lkn.causal.continuation.Continuation` is one: it computes shared prefixes once.
    """

    def all_masks(
        self,
        players: Players,
        sample: int,
        attention_mask: Tensor | None = None,
        *,
        advance: Callable[[int], object] | None = None,
    ) -> tuple[Tensor | None, dict[str, Any]]:
        """Return the outputs for all masks of one sample.

        Args:
            players: The players.
            sample: Which sample.
            attention_mask: ``[1, T]``, of this sample; None for that of the players, if they have one.
            advance: Called with the number of masks that are done, each time that some are.

        Returns:
            The outputs ``[2^n, ...]``, or None where the plain evaluation is better; and a record of the evaluation
            for provenance, with the key ``"evaluation"``.
        """


@dataclass(frozen=True)
class Request:
    """Samples whose value tables are wanted.

    Attributes:
        players: Their players.
        arguments: The unmasked inputs, and all else the forward gets.
        target: Captum's kinds, or ``"predicted"``.
    """

    players: Players
    arguments: Arguments
    target: TargetLike


@dataclass(frozen=True)
class ValueTables:
    """Values of all masks of some samples.

    Attributes:
        tables: For each sample its values, float64 ``[L, 2^n]`` on the CPU: a row a source; bit i of the index =
            player i present. One table for all samples together where the forward gives one value a batch.
        target: What was explained.
        units: The unit of each source's values; empty: not known.
        forwards: How many forwards it took.
        whole_batch: Whether the forward gives one value a batch, as Captum also allows.
        dtype: The dtype of the forwards, float32 where they return integers.
        epsilon: The rounding unit of the forwards: that of their dtype, of autocast or of TF32.
        output_shape: The shape of a sample's output, where the tables are those of all outputs; else None.
        evaluations: For each sample a record for provenance of how its values were computed: ``"evaluation"`` is
            ``"plain"``, ``"removed tokens dropped"``, ``"prefix tree"`` or ``"first tokens shared"``.
    """

    tables: tuple[Tensor, ...]
    target: Target
    units: tuple[str, ...]
    forwards: int
    whole_batch: bool
    dtype: torch.dtype
    epsilon: float
    output_shape: tuple[int, ...] | None
    evaluations: tuple[dict[str, Any], ...]

    def __post_init__(self) -> None:
        if len(self.evaluations) != len(self.tables):
            raise ValueError(f"evaluations must be one a table, {len(self.tables)}; got {len(self.evaluations)}")
        for table in self.tables:
            check_numbers("tables", table, (self.tables[0].shape[0], table.shape[-1]))


def value_tables(
    model: Model,
    requests: Sequence[Request],
    *,
    score: Score,
    sources: Sequence[Source] = (Source(),),
    perturbations_per_eval: int | None = None,
    show_progress: bool = False,
    description: str = "masks",
    every_output: bool = False,
) -> list[ValueTables]:
    """Evaluate a model on all 2^n masked copies of each sample.

    Args:
        model: The model.
        requests: The samples, with their targets.
        score: From outputs and targets to values.
        sources: What is read; all of them come from the same forwards.
        perturbations_per_eval: Masks a forward, times the number of samples, as in Captum. None: by a rule, from the
            size of the inputs.
        show_progress: Whether to show one bar over all masks and samples.
        description: The bar's name.
        every_output: Whether to make a table of each output, where the target is None and there are several.

    Returns:
        The tables of each request.

    Raises:
        TypeError: The score, the forward or a read-out returns something else than a tensor.
        ValueError: Too many players; a target that does not fit; probabilities where the score reads logits; a
            value that is not finite; rows of a batch that influence each other; a table whose v(N) is not what the
            unmasked forward returned; a layer that cannot be read, or a read-out that does not fit the output.

    Warns:
        UserWarning: A model in training mode; half precision; too little memory for the rows of a forward, which
            are halved.

    Example:
        >>> from captum_lkn.players.players import players_from_mask
        >>> from captum_lkn.outputs.scores import resolve_score
        >>> x = torch.tensor([[1.0, 2.0]])
        >>> request = Request(players_from_mask(x), Arguments((x,)), None)
        >>> value_tables(Model(lambda x: x.prod(1)), [request], score=resolve_score("logit"))[0].tables
        (tensor([[0., 0., 0., 2.]], dtype=torch.float64),)
    """
    for request in requests:
        check_sizes(request.players)
    reading = {
        "score": score,
        "sources": sources,
        "perturbations_per_eval": perturbations_per_eval,
        "every_output": every_output,
    }
    return evaluate_each(
        model,
        requests,
        lambda evaluator, request, advance: _tables(evaluator, request.arguments, advance),
        lambda n: 1 << n,
        show_progress,
        description,
        **reading,
    )


def evaluate_each(
    model: Model,
    requests: Sequence[Request],
    evaluate: Callable[[Evaluator, Request, Callable[[int], object]], _T],
    masks_of: Callable[[int], int],
    show_progress: bool,
    description: str,
    **reading: Any,
) -> list[_T]:
    """Evaluate all requests in one session of the model, with one bar over the masks of all.

    Args:
        model: The model.
        requests: The samples, with their targets.
        evaluate: From an evaluator, its request and the function that moves the bar on to a result.
        masks_of: From a number of players to the number of masks of such a sample.
        show_progress: Whether to show the bar.
        description: The bar's name.
        **reading: Further arguments of the evaluators.

    Returns:
        The result of each request.
    """
    total = sum(masks_of(n) for request in requests for n in request.players.sizes)
    found = []
    with ExitStack() as stack:
        stack.enter_context(model.session())
        bar: Any = None
        for request in requests:
            with Evaluator(model, request.players, request.arguments, target=request.target, **reading) as evaluator:
                if evaluator.whole_batch:  # one list of masks, for all samples
                    total -= sum(masks_of(n) for n in request.players.sizes[1:])
                if bar is None:
                    bar = Bar(total=total, desc=description, unit="mask", disable=is_hidden(show_progress))
                    stack.enter_context(bar)
                bar.total = total
                found.append(evaluate(evaluator, request, bar.update))
    return found


def plain_evaluation(evaluator: Evaluator) -> dict[str, Any]:
    """Return the record, for provenance, of an evaluation without a prefix tree."""
    return dict(_DROPPED if evaluator.drops_removed else _PLAIN)


def _tables(evaluator: Evaluator, arguments: Arguments, advance: Callable[[int], object]) -> ValueTables:
    """Return the tables of one evaluator's samples."""
    players = evaluator.players
    sizes = players.sizes[:1] if evaluator.whole_batch else players.sizes
    tables, records = _all_at_once(evaluator, arguments, advance)
    left = [sample for sample in range(len(sizes)) if sample not in tables]
    if left:
        counts = [1 << sizes[sample] for sample in left]
        flat = evaluate_copies(evaluator, all_copies(evaluator, left), advance)
        tables |= {i: table.T.contiguous() for i, table in zip(left, torch.split(flat, counts), strict=True)}
    evaluator.check_full([tables[sample] for sample in range(len(sizes))])
    plain = plain_evaluation(evaluator)
    return ValueTables(
        tuple(tables[sample] for sample in range(len(sizes))),
        evaluator.target,
        evaluator.units(),
        evaluator.forwards,
        evaluator.whole_batch,
        evaluator.dtype,
        evaluator.epsilon,
        evaluator.output_shape,
        tuple(plain | records.get(sample, {}) for sample in range(len(sizes))),
    )


def takes_all_masks(evaluator: Evaluator, arguments: Arguments) -> bool:
    """Return whether a function that is :class:`EvaluatesAllMasks` may be used for the samples of an evaluator."""
    reads_output = all(source.layer is None for source in evaluator.sources)
    whole = evaluator.whole_batch or bool(evaluator.output_shape)
    return reads_output and not (evaluator.players.background or whole or arguments.positional)


def prompt_mask(arguments: Arguments, sample: int) -> Tensor | None:
    """Return the attention mask of a sample, ``[1, T]``, where the arguments have one."""
    mask = arguments.keywords.get("attention_mask")
    return mask[[sample if len(mask) > 1 else 0]] if isinstance(mask, Tensor) else None


def _all_at_once(
    evaluator: Evaluator, arguments: Arguments, advance: Callable[[int], object]
) -> tuple[dict[int, Tensor], dict[int, dict[str, Any]]]:
    """Return the tables that the forward function has a cheaper way to, and a record of each attempt."""
    function, tables, records = evaluator.model.forward_func, {}, {}
    if not isinstance(function, EvaluatesAllMasks) or not takes_all_masks(evaluator, arguments):
        return {}, {}
    for sample, n in enumerate(evaluator.players.sizes):
        mask = prompt_mask(arguments, sample)
        outputs, records[sample] = function.all_masks(evaluator.players, sample, mask, advance=advance)
        if outputs is None:
            continue
        samples = torch.full((1 << n,), sample, device="cpu")
        values = evaluator.score_outputs(outputs, samples).cpu().double()[:, None]
        evaluator.check_finite(samples, lattice.members(torch.arange(1 << n, device="cpu"), n), values)
        tables[sample] = values.T.repeat(len(evaluator.sources), 1)
    return tables, records
