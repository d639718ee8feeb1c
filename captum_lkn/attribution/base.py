"""What the attribution classes share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from captum.attr import PerturbationAttribution
from torch import Tensor

from captum_lkn.attribution.question import Question
from captum_lkn.decomposition.decompose import Decomposition, decompose
from captum_lkn.decomposition.options import DecompositionKind, DecompositionOptions, given_options
from captum_lkn.interactions import Interactions, InteractionsBatch
from captum_lkn.outputs.scores import ScoreLike
from captum_lkn.players.players import Players
from captum_lkn.players.prepare import layout_of
from captum_lkn.values.tables import ValueTables

__all__ = ["ConvergenceDelta", "InteractionMethod", "Method"]


class ConvergenceDelta(NamedTuple):
    r"""How exactly interactions reproduce what they explain, for each of B samples.

    Attributes:
        efficiency: ``[B]``, the sum of all effects minus v(N); 0 to rounding unless the ends were left free.
        matching: ``[B]``, the largest \|v(T) - reconstruction\| over all 2^n masks; at most kappa.
    """

    efficiency: Tensor
    matching: Tensor


class Method(PerturbationAttribution):
    """A model, and the score it is asked for."""

    def __init__(self, forward_func: Callable[..., Any], score: ScoreLike) -> None:
        PerturbationAttribution.__init__(self, forward_func)
        self._question = Question(forward_func, score)

    def attribute_future(self, *args: Any, **kwargs: Any) -> None:
        """Not available, as in most of Captum's methods.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError(f"{self.get_name()} has no asynchronous form: call attribute")


class InteractionMethod(Method):
    """A method whose results are interactions, and the options of their decomposition."""

    def __init__(
        self,
        forward_func: Callable[..., Any],
        *,
        score: ScoreLike = "log_odds",
        noise: float | None = None,
        kappa: float | None = None,
        kind: DecompositionKind | None = None,
        options: DecompositionOptions | None = None,
    ) -> None:
        super().__init__(forward_func, score)
        # Before any forward is spent on them.
        self.options = given_options(options, {"noise": noise, "kappa": kappa, "kind": kind})

    def has_convergence_delta(self) -> bool:
        """True: see :meth:`compute_convergence_delta`."""
        return True

    def compute_convergence_delta(self, attributions: InteractionsBatch, *args: Any) -> ConvergenceDelta:
        """How exactly the interactions reproduce the values that they explain.

        Args:
            attributions: What :meth:`attribute` returned.
            *args: Captum's start and end points; not needed, the values are kept with the interactions.

        Returns:
            Two float64 tensors ``[B]``.

        Raises:
            TypeError: ``attributions`` is no :class:`InteractionsBatch`.
        """
        if not isinstance(attributions, InteractionsBatch):
            raise TypeError(
                f"attributions must be the InteractionsBatch that attribute returned; got {type(attributions).__name__}"
            )
        sums = torch.stack([x.and_effects.sum() + x.or_effects.sum() - x.v_full for x in attributions])
        return ConvergenceDelta(sums, torch.tensor([x.residual for x in attributions], dtype=torch.float64))

    def _batches(self, players: Players, found: ValueTables, origins: list[dict[str, Any]]) -> list[InteractionsBatch]:
        """The interactions of all tables: one batch a source, each with what is to be remembered of it."""
        decompositions = _decompose_each(found.tables, self.options)
        labels = players.labels[:1] if found.whole_batch else players.labels
        provenance = self._question.provenance(players, found, self.options.to_dict())
        return [
            InteractionsBatch(
                Interactions(
                    players=labels[i],
                    and_effects=of_sample[place].and_effects,
                    or_effects=of_sample[place].or_effects,
                    values=tables[place],
                    kappa=float(of_sample[place].kappa),
                    gap=float(of_sample[place].gap),
                    options=self.options,
                    provenance=provenance(i)
                    | origin
                    | {"steps": int(of_sample[place].steps), "stopped": of_sample[place].stopped[0]},
                    layout=layout_of(players, i),
                )
                for i, (tables, of_sample) in enumerate(zip(found.tables, decompositions, strict=True))
            )
            for place, origin in enumerate(origins)
        ]


def _decompose_each(tables: tuple[Tensor, ...], options: DecompositionOptions) -> list[list[Decomposition]]:
    """For each sample's tables ``[L, 2^n]`` L decompositions; tables of one size are solved together."""
    results: dict[int, list[Decomposition]] = {}
    for size in sorted({table.shape[-1] for table in tables}):
        places = [i for i, table in enumerate(tables) if table.shape[-1] == size]
        together = decompose(torch.cat([tables[i] for i in places]), options=options)
        each = iter(together[row] for row in range(sum(len(tables[i]) for i in places)))
        results |= {place: [next(each) for _ in tables[place]] for place in places}
    return [results[i] for i in range(len(tables))]
