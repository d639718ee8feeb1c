"""Evaluate masked inputs and score the outputs.

:class:`Evaluator` takes explicit masks. All 2^n of them (:mod:`captum_lkn.values.tables`), the few that rank players
(:mod:`captum_lkn.values.selection`) and those whose gradients are wanted (:mod:`captum_lkn.baselines`) go through it.
So the checks stand in one place: the target fits, the outputs are logits where logits are read, rows do not influence
each other, and the forward gives the same answer twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from types import TracebackType

import torch
from torch import Tensor

from captum_lkn.models.arguments import Arguments
from captum_lkn.models.layers import Layer
from captum_lkn.models.model import Model
from captum_lkn.models.reading import LayerReader
from captum_lkn.outputs.heads import Outputs
from captum_lkn.outputs.probabilities import refuse_numbers_of_classes
from captum_lkn.outputs.score import Score
from captum_lkn.outputs.targets import Target, TargetLike, resolve_target
from captum_lkn.players.players import Players
from captum_lkn.values.agreement import Agreement
from captum_lkn.values.first_forward import FirstForward, check_stored, few_masks
from captum_lkn.values.forwards import MaskedForwards
from captum_lkn.values.positions import check_positions
from captum_lkn.values.prediction import as_predicted, own_prediction
from captum_lkn.values.removal import can_drop, first_positions
from captum_lkn.values.scoring import ScoredForwards, side_by_side
from captum_lkn.values.sources import Source
from captum_lkn.values.unmasked import run_unmasked
from captum_lkn.values.work import BLOCK

__all__ = ["Evaluator"]


class Evaluator:
    """Scores of masked copies of some samples, for the model's output and for layers.

    Used as a context manager. On entering, the model's session and the hooks of the layers are opened, one forward of
    the unmasked samples is run and the target is resolved on it. The first forward that :meth:`values` runs is checked
    against single rows, and for probabilities.

    Args:
        model: The model.
        players: The players of B samples.
        arguments: The unmasked inputs, and all else the forward gets.
        target: Captum's kinds, or ``"predicted"``; see :func:`captum_lkn.outputs.targets.resolve_target`.
        score: From outputs and targets to values; brought to the kind of the model's outputs.
        sources: L places to read; all of them are read in the same forwards.
        perturbations_per_eval: Masks a forward, times the number of samples, as in Captum. None: by a rule, from the
            size of the inputs.
        every_output: Whether to take all outputs for values where `target` is None and there are several.

    Attributes:
        target: The target of each sample.
        unmasked: ``[B, L]``, the values of the unmasked samples; ``[1, L]`` where the forward gives one value a batch.
        whole_batch: Whether the forward gives one value a batch, as Captum also allows. Then a mask is for all samples,
            and takes a forward of its own.
        drops_removed: True where tokens that are removed by the attention mask are left out of the forwards.
        rows: The most rows of a forward; smaller once memory has run out.
        forwards: How many forwards were run so far.

    Raises:
        TypeError: The score, the forward or a read-out returns something else than a tensor.
        ValueError: A target that does not fit, a forward that does not return one row a sample or one value a batch, or
            what :class:`captum_lkn.models.layers.LayerReader` raises.

    Warns:
        UserWarning: Half precision; too little memory for the rows of a forward, which are halved.

    Example:
        >>> from captum_lkn.players.players import players_from_mask
        >>> from captum_lkn.outputs.scores import resolve_score
        >>> x = torch.tensor([[1.0, 2.0]])
        >>> with Evaluator(
        ...     Model(lambda x: x.prod(1)),
        ...     players_from_mask(x),
        ...     Arguments((x,)),
        ...     target=None,
        ...     score=resolve_score("logit"),
        ... ) as evaluator:
        ...     evaluator.values(torch.tensor([0, 0]), torch.tensor([[True, True], [True, False]]))
        tensor([[2.],
                [0.]], dtype=torch.float64)
    """

    target: Target
    unmasked: Tensor

    def __init__(
        self,
        model: Model,
        players: Players,
        arguments: Arguments,
        *,
        target: TargetLike,
        score: Score,
        sources: Sequence[Source] = (Source(),),
        perturbations_per_eval: int | None = None,
        every_output: bool = False,
    ) -> None:
        self.model = model
        self.players = players
        self.sources = tuple(sources)
        self._forwards = MaskedForwards(model, players, arguments, perturbations_per_eval)
        self._target = target
        self._score = model.score_for_model(score)
        self._every_output = every_output

    def __enter__(self) -> Evaluator:
        with ExitStack() as stack:
            stack.enter_context(self.model.session())
            layers = [source.layer for source in self.sources if source.layer is not None]
            reader = stack.enter_context(LayerReader(self.model, layers))
            self._scored = ScoredForwards(self._forwards, reader, self.sources, self._score)
            self._resolve()
            self.check_finite(*self._forwards.everyone(), self.unmasked)
            self._try_to_drop()
            self._opened = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.__exit__(kind, error, trace)
        if kind is None:
            self.units()  # the outputs of few masks have not been looked at yet

    @property
    def drops_removed(self) -> bool:
        """True where tokens that are removed by the attention mask are left out of the forwards."""
        return self._scored.first_position is not None

    @property
    def whole_batch(self) -> bool:
        """True where the forward gives one value for the whole batch."""
        return self._forwards.whole_batch

    @property
    def aligned(self) -> bool:
        """True where each forward has all samples in their order, so that their rows are best evaluated together."""
        return self._forwards.aligned

    @property
    def rows(self) -> int:
        """The most rows of a forward; smaller once memory has run out."""
        return self._forwards.rows

    @property
    def planned_rows(self) -> int:
        """The most rows of a forward before memory ran out."""
        return self._forwards.planned_rows

    @property
    def forwards(self) -> int:
        """The number of forwards that were run so far."""
        return self._forwards.forwards

    @property
    def masked_forwards(self) -> MaskedForwards:
        """The forwards, with their kind and their counts."""
        return self._forwards

    @property
    def output_shape(self) -> tuple[int, ...] | None:
        """The shape of a sample's output where the values are all of its outputs; None where they are of a target."""
        return self._scored.shape if self._scored.every_output else None

    def values(
        self,
        samples: Tensor,
        masks: Tensor,
        baselines: tuple[Tensor, ...] | None = None,
        *,
        advance: Callable[[int], object] | None = None,
    ) -> Tensor:
        """Return the values of masked copies.

        Differentiable with respect to `baselines` where gradients are enabled.

        Args:
            samples: Int64 ``[R]`` on the CPU, the sample of each row, from 0; not read where the forward gives one
                value a batch.
            masks: Bool ``[R, n_max]`` on the CPU, True where a player is present. Columns beyond a sample's own number
                of players are not read.
            baselines: Tensors that replace those of the players, one an input.
            advance: Called with the number of rows that are done, after each forward.

        Returns:
            ``[R, L]``, a column a source, on the device of the outputs; float64 where that has it.

        Raises:
            ValueError: A value of the first forward is not finite; its rows influence each other; probabilities where
                the score reads logits; a read-out that does not fit the output.

        Warns:
            UserWarning: Low precision, with the noise that was measured; forwards that only take the batch as given.
        """
        evaluate = partial(self._scored.values, baselines=baselines)
        averages = bool(self.players.background) and baselines is None
        parts = []
        if not self._scored.checked and len(samples):
            most = 1 if self.whole_batch else min(self.rows, len(samples))
            first = self._first_values(samples[:most], masks[:most], evaluate)
            if not averages:  # else they are checked, and are those under the first row of the background alone
                parts.append(first)
                samples, masks = samples[most:], masks[most:]
                if advance is not None:
                    advance(most)
        if averages:
            parts += self._averaged(samples, masks, advance)
        elif not self.aligned:
            parts += self._forwards.run(samples, masks, evaluate, advance)
        elif len(samples):
            parts.append(self._forwards.run_aligned(samples, masks, evaluate, advance))
        return torch.cat(parts)

    def _averaged(self, samples: Tensor, masks: Tensor, advance: Callable[[int], object] | None = None) -> list[Tensor]:
        """Return the values of masked copies, each the mean over the rows of the background."""
        if self.whole_batch or self.aligned:
            raise ValueError(
                "the forward must take any rows side by side where values are averaged over a background; this one "
                "takes the whole batch alone. Give one baseline, or a forward that returns one row a sample"
            )
        count, parts = len(self.players.background[0]), []

        def evaluate(rows: Tensor, masks: Tensor) -> Tensor:
            return self._scored.values(rows // count, masks, draws=rows % count)

        block = max(1, BLOCK // count)
        for own, some in zip(torch.split(samples, block), torch.split(masks, block), strict=True):
            rows = (own[:, None] * count + torch.arange(count, device="cpu")).flatten()
            values = torch.cat(self._forwards.run(rows, some.repeat_interleave(count, 0), evaluate))
            parts.append(values.reshape(len(own), count, -1).mean(1))
            if advance is not None:
                advance(len(own))
        return parts

    def outputs(self, samples: Tensor, masks: Tensor) -> Tensor:
        """Return the model's outputs for masked copies, ``[R, ...]``; see :meth:`values`."""
        if self.aligned:
            return self._forwards.run_aligned(samples, masks, self._scored.outputs)
        return torch.cat(self._forwards.run(samples, masks, self._scored.outputs))

    def score_outputs(self, outputs: Tensor, samples: Tensor) -> Tensor:
        """Return the values ``[R]`` of outputs ``[R, ...]`` of the model, of rows that belong to `samples`."""
        return self._score(*self.target.select(outputs, samples))

    def resolve(self, target: TargetLike, outputs: Tensor, samples: Tensor, masks: Tensor) -> Target:
        """Resolve a target on the outputs ``[R, ...]`` of masked copies, in the way that the score reads them."""
        chosen = own_prediction(self.model, self._forwards, target, outputs, samples, masks)
        # Without a target there is one output a sample, or the error of a missing target.
        form = Outputs(outputs, self._stated_class_dim)
        class_dim = None if target is None else self.model.class_dim(form, self.players.inputs, self._score)
        names = self.model.class_names
        resolved = resolve_target(chosen, outputs, binary=self._score.binary, class_dim=class_dim, class_names=names)
        resolved = as_predicted(resolved, self.model, outputs) if isinstance(target, str) else resolved
        return resolved.named(names, self._score.noun)

    def check_samples_apart(self) -> None:
        """Check that the forward gives each of several samples a value of its own.

        Raises:
            ValueError: It gives one value for the whole batch.
        """
        if self.whole_batch and len(self.players) > 1:
            raise ValueError(
                f"the forward gives one value for the whole batch of {len(self.players)} samples, and a value of each "
                "sample is needed: use a forward that returns one row a sample, or give one sample at a time"
            )

    def check_finite(self, samples: Tensor, masks: Tensor, values: Tensor) -> None:
        """Check that values ``[R, L]`` are finite; see :meth:`captum_lkn.values.agreement.Agreement.check_finite`."""
        self._agreement.check_finite(torch.zeros_like(samples) if self.whole_batch else samples, masks, values)

    def check_full(self, tables: Sequence[Tensor]) -> None:
        """Check that v(N) of each table is that of the unmasked sample.

        Args:
            tables: For each sample its values, ``[L, 2^n]``.

        Raises:
            ValueError: The two differ by more than rounding.
        """
        self._agreement.check_full(tables, self.unmasked)
        if self.rows == 1 and not self.whole_batch and all(bool((table == table[:, :1]).all()) for table in tables):
            check_stored(self._scored, self._agreement, tables[0][:, 0])

    def units(self) -> tuple[str, ...]:
        """Return the unit of each source's values; see :meth:`captum_lkn.values.scoring.ScoredForwards.units`."""
        return self._scored.units()

    @property
    def epsilon(self) -> float:
        """The rounding unit of the forwards: that of their dtype, of autocast or of TF32."""
        return self._agreement.precision.eps

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the forwards, float32 where they return integers."""
        return self._dtype if self._dtype.is_floating_point else torch.float32

    def _first_values(self, samples: Tensor, masks: Tensor, evaluate: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Return the values of the first rows, and check that they mean what they should."""
        first = FirstForward(self._scored, self._agreement, self.unmasked, evaluate)
        values = first.values(samples, masks)
        noise = values.new_zeros(values.shape[1]) if first.noise is None else first.noise
        self._agreement.warn_of_low_precision(self.model.name, torch.cat([values, self.unmasked.to(values)]), noise)
        return values

    # ------------------------------------------------------------ the unmasked samples

    def _resolve(self) -> None:
        """Run the unmasked samples, resolve the target on their outputs, and keep their values."""
        scored, (samples, full) = self._scored, self._forwards.everyone()
        found = run_unmasked(scored)
        output = found.output
        refuse_numbers_of_classes(self._score, output)
        self._stated_class_dim = found.class_dim
        scored.shape, self._dtype = tuple(output.shape[1:]) or (1,), output.dtype
        scored.every_output = self._every_output and self._target is None and math.prod(scored.shape) > 1
        labels = [source.label for source in self.sources]
        if scored.every_output:
            labels = [f"output {list(index)}" for index in torch.ones(scored.shape, device="cpu").nonzero().tolist()]
        model = scored.reader.model
        self._agreement = Agreement(self.players, labels, model.precision(output, found.dtypes), model.advice)
        if scored.every_output:
            self.target = scored.target = resolve_target(tuple([0] * len(scored.shape)), output)
            self.unmasked = scored.every(output)
            return
        self.target = scored.target = self.resolve(self._target, output, samples, full)
        self.model.check_class_names(self.target)
        check_positions(self.model, self._forwards.arguments, self.target)
        if self.target.n_outputs > 1:
            self.model.warn_of_selected_columns(self._score)
        rows = samples[:1] if self.whole_batch else samples
        if (self.whole_batch and len(found.of_layers) > 1) or (scored.of_layers and len(self.target.shape) == 2):
            # The first forwards had too few samples, or layers were read without knowing the explained token.
            self.unmasked = torch.cat(self._forwards.run(rows, full, scored.values))
            return
        of_layers = [torch.cat(logits) for logits in zip(*found.of_layers, strict=True)]
        self.unmasked = self._unmasked_values(output, of_layers, rows)

    def _unmasked_values(self, output: Tensor, of_layers: Sequence[Tensor], rows: Tensor) -> Tensor:
        """Return the values of the unmasked samples; their logits are kept for the check of the first forward."""
        columns, layers = [], iter(of_layers)
        for place, source in enumerate(self.sources):
            logits, classes = self.target.select(output, rows)
            if source.layer is not None:
                logits = source.checked(next(layers), len(rows), self.target.n_outputs)
            self._scored.seen[place] = [logits]
            columns.append(self._score(logits, classes.to(logits.device)))
        return side_by_side(columns)

    def _try_to_drop(self) -> None:
        """Leave removed tokens out from now on, if the values are then what they are with them."""
        scored = self._scored
        # A target at a token, or a function of the user's that reads tokens by position, counts on where they are.
        fixed = len(self.target.shape) > 1 or any(map(_reads_positions, scored.reader.layers))
        if self.whole_batch or fixed or not can_drop(scored.reader.model, self._forwards.arguments):
            return
        samples, masks = few_masks(self.players)
        plain = torch.cat(self._forwards.run(samples, masks, scored.values))
        for position in first_positions(scored.reader.model):
            scored.first_position = position
            if self._agreement.same(plain, torch.cat(self._forwards.run(samples, masks, scored.values))):
                return
        scored.first_position = None


def _reads_positions(layer: Layer) -> bool:
    """Return whether a function of the user's reads the layer, which may count on where tokens are."""
    return callable(layer.pool) or layer.select is not None
