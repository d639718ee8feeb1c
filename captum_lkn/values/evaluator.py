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
from dataclasses import dataclass
from types import TracebackType

import torch
from torch import Tensor, nn

from captum_lkn._common.messages import shape_of
from captum_lkn._common.rounding import no_autocast
from captum_lkn._common.warn import warn
from captum_lkn.models.arguments import Arguments
from captum_lkn.models.layers import OUTPUT, Layer
from captum_lkn.models.model import Model
from captum_lkn.models.reading import LayerReader
from captum_lkn.outputs.operands import to_float64
from captum_lkn.outputs.probabilities import refuse_probabilities
from captum_lkn.outputs.scores import Score
from captum_lkn.outputs.targets import Target, TargetLike, resolve_target
from captum_lkn.players.players import Players
from captum_lkn.probes.lens import LogitLens
from captum_lkn.probes.linear import LinearProbe
from captum_lkn.probes.readouts import Readout, check_readout_output, read_out
from captum_lkn.values.agreement import Agreement, RowsDifferError
from captum_lkn.values.forwards import MaskedForwards
from captum_lkn.values.limits import out_of_memory
from captum_lkn.values.removal import can_drop, first_positions, without_removed

__all__ = ["Evaluator", "Source"]


@dataclass(frozen=True)
class Source:
    """Place that a value is read from: a layer through its read-out, or the model's own output.

    Attributes:
        layer: From :func:`captum_lkn.models.layers.find_layers`; None: the output.
        readout: From the layer's feature ``[R, D]`` to logits ``[R, C]``, column c for output c of the model.
    """

    layer: Layer | None = None
    readout: Readout | None = None

    def read_out(self, feature: Tensor) -> Tensor:
        """Return the read-out's logits for the layer's feature."""
        if self.readout is None:
            raise ValueError(f"{self.label!r} has no read-out")
        return read_out(self.readout, feature, f"layer {self.label!r}")

    @property
    def is_linear(self) -> bool:
        """True if the read-out ends in a linear layer, so that its numbers are logits whatever their size."""
        return isinstance(self.readout, (nn.Linear, LinearProbe, LogitLens))

    @property
    def label(self) -> str:
        """The layer's label, or ``"output"``."""
        return OUTPUT if self.layer is None else self.layer.label


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
        UserWarning: Half precision; less memory than the batch wants.

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
        self._of_layers = [place for place, source in enumerate(self.sources) if source.layer is not None]
        self._first_position: int | None = None  # of the tokens, where removed ones are dropped
        self._unmasked_logits: dict[int, Tensor] = {}  # by source, until the first forward is checked
        self._checked = False
        self._trying = False

    def __enter__(self) -> Evaluator:
        with ExitStack() as stack:
            stack.enter_context(self.model.session())
            layers = [source.layer for source in self.sources if source.layer is not None]
            self._reader = stack.enter_context(LayerReader(self.model, layers))
            self._resolve()
            self.check_finite(*self._forwards.everyone(), self.unmasked)
            self._try_to_drop()
            self._opened = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.__exit__(kind, error, trace)

    @property
    def drops_removed(self) -> bool:
        """True where tokens that are removed by the attention mask are left out of the forwards."""
        return self._first_position is not None

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
    def forwards(self) -> int:
        """The number of forwards that were run so far."""
        return self._forwards.forwards

    @property
    def output_shape(self) -> tuple[int, ...] | None:
        """The shape of a sample's output where the values are all of its outputs; None where they are of a target."""
        return self._shape if self._every_output else None

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

        def evaluate(samples: Tensor, masks: Tensor) -> Tensor:
            return self._values(samples, masks, baselines)

        parts = []
        if not self._checked and len(samples):
            most = 1 if self.whole_batch else min(self.rows, len(samples))
            parts.append(self._first_values(samples[:most], masks[:most], evaluate))
            if advance is not None:
                advance(most)
            samples, masks = samples[most:], masks[most:]
        if self.aligned:
            if len(samples):
                parts.append(self._forwards.run_aligned(samples, masks, evaluate, advance))
        else:
            parts += self._forwards.run(samples, masks, evaluate, advance)
        return torch.cat(parts)

    def outputs(self, samples: Tensor, masks: Tensor) -> Tensor:
        """Return the model's outputs for masked copies, ``[R, ...]``; see :meth:`values`."""

        def output(samples: Tensor, masks: Tensor) -> Tensor:
            self._forwards.forwards += 1
            arguments = self._forwards.copies(samples, masks)
            return self._in_rows(self._reader(arguments, lambda _, feature: feature.new_empty(0))[0], len(samples))

        if self.aligned:
            return self._forwards.run_aligned(samples, masks, output)
        return torch.cat(self._forwards.run(samples, masks, output))

    def score_outputs(self, outputs: Tensor, samples: Tensor) -> Tensor:
        """Return the values ``[R]`` of outputs ``[R, ...]`` of the model, of rows that belong to `samples`."""
        return self._score(*self.target.select(outputs, samples))

    def resolve(self, target: TargetLike, outputs: Tensor) -> Target:
        """Resolve a target on given outputs ``[B, ...]``, in the way that the score reads them."""
        # Without a target there is one output a sample, or the error of a missing target.
        class_dim = None if target is None else self.model.class_dim(outputs, self.players.inputs, self._score)
        resolved = resolve_target(target, outputs, binary=self._score.binary, class_dim=class_dim)
        return resolved.named(self.model.class_names, self._score.noun)

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

    @property
    def epsilon(self) -> float:
        """The rounding unit of the forwards: that of their dtype, of autocast or of TF32."""
        return self._agreement.precision.eps

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the forwards, float32 where they return integers."""
        return self._dtype if self._dtype.is_floating_point else torch.float32

    # ------------------------------------------------------------ the unmasked samples

    def _resolve(self) -> None:
        """Run the unmasked samples, resolve the target on their outputs, and keep their values."""
        samples, full = self._forwards.everyone()
        batch, most = len(samples), self.rows
        parts = self._forwards.run(samples, full, self._read)
        first, several = parts[0][0], min(batch, most, self.rows) > 1
        if several and (first.dim() == 0 or len(first) == 1):
            self._forwards.take_for_whole_batch(self._reader.layers)
            output = first if first.dim() else first[None]
        else:
            # A forward of one row may have dropped its first dimension, as .squeeze() does.
            output = torch.cat([x if x.dim() and (batch > 1 or len(x) == 1) else x[None] for x, _ in parts])
            if len(output) != batch:
                raise ValueError(
                    f"the forward returned {shape_of(output)} for {batch} samples: expected one row a sample, or one "
                    "value for the whole batch"
                )
        self._shape, self._dtype = tuple(output.shape[1:]) or (1,), output.dtype
        self._every_output = self._every_output and self._target is None and math.prod(self._shape) > 1
        labels = [source.label for source in self.sources]
        if self._every_output:
            labels = [f"output {list(index)}" for index in torch.ones(self._shape).nonzero().tolist()]
        self._agreement = Agreement(self.players, labels, self._reader.model.precision(first))
        rows = samples[:1] if self.whole_batch else samples
        if self._every_output:
            self.target = resolve_target(tuple([0] * len(self._shape)), output)
            self.unmasked = _every(output)
            return
        self.target = self.resolve(self._target, output)
        if (self.whole_batch and len(parts) > 1) or (self._of_layers and len(self.target.shape) == 2):
            # The first forwards had too few samples, or layers were read without knowing the explained token.
            self.unmasked = torch.cat(self._forwards.run(rows, full, self._values))
            return
        columns = []
        for place, source in enumerate(self.sources):
            logits, classes = self.target.select(output, rows)
            if source.layer is not None:
                index = self._of_layers.index(place)
                logits = torch.cat([kept[index] for _, kept in parts])
                check_readout_output(logits, batch, self.target.n_outputs, f"layer {source.label!r}")
            self._unmasked_logits[place] = logits
            columns.append(self._score(logits, classes.to(logits.device)))
        self.unmasked = _side_by_side(columns)

    def _read(self, samples: Tensor, masks: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return a forward's output, and the read-outs' logits, before the target is known."""

        def logits(place: int, feature: Tensor) -> Tensor:
            source = self.sources[self._of_layers[place]]
            return check_readout_output(source.read_out(feature), len(feature), None, f"layer {source.label!r}")

        self._forwards.forwards += 1
        return self._reader(self._forwards.copies(samples, masks), logits)

    def _try_to_drop(self) -> None:
        """Leave removed tokens out from now on, if the values are then what they are with them."""
        # A target at a token, or a function of the user's that reads tokens by position, counts on where they are.
        fixed = len(self.target.shape) > 1 or any(map(_reads_positions, self._reader.layers))
        if self.whole_batch or fixed or not can_drop(self._reader.model, self._forwards.arguments):
            return
        samples, masks = self._few()
        plain = torch.cat(self._forwards.run(samples, masks, self._values))
        for position in first_positions(self._reader.model):
            self._first_position = position
            if self._agreement.same(plain, torch.cat(self._forwards.run(samples, masks, self._values))):
                return
        self._first_position = None

    def _few(self) -> tuple[Tensor, Tensor]:
        """Return some masks of the first and of the last sample: all players, every other one, none."""
        every = torch.arange(max(self.players.sizes))
        masks = torch.stack([every >= 0, every % 2 == 0, every < 0])
        chosen = sorted({0, len(self.players) - 1})
        return torch.tensor(chosen).repeat_interleave(len(masks)), masks.repeat(len(chosen), 1)

    # ------------------------------------------------------------ the first forward

    def _first_values(self, samples: Tensor, masks: Tensor, evaluate: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Return the values of the first rows, and check that they mean what they should."""
        self._trying = True
        try:
            values = torch.cat(self._forwards.run(samples, masks, evaluate))
            self._checked = True
            if self.whole_batch:
                return values
            with torch.no_grad():
                self.check_finite(samples, masks, values)
                differs = self._difference_from_single_rows(samples, masks, values, evaluate)
        except _ForwardError as failed:
            return self._align(samples, masks, evaluate, failed.error)
        finally:
            self._trying = False
        self._unmasked_logits = {}
        if differs is None:
            self._agreement.warn_of_low_precision(self.model.name, values, self._noise)
            return values
        if len(self.players) == 1 and min(len(samples), self.rows) > 2:
            with torch.no_grad():
                few = evaluate(*self._few())
            if bool((torch.cat([few == few[:1], values == values[:1]])).all()):
                # One value for the whole batch, repeated in each row.
                self._forwards.take_for_whole_batch(self._reader.layers)
                return torch.cat(self._forwards.run(samples, masks, evaluate))
        if len(self.players) > 1 and (self._forwards.arguments.positional or self._forwards.arguments.keywords):
            return self._align(samples, masks, evaluate, differs)
        raise differs

    def _difference_from_single_rows(
        self, samples: Tensor, masks: Tensor, values: Tensor, evaluate: Callable[[Tensor, Tensor], Tensor]
    ) -> ValueError | None:
        """Compare the first and the last row with the same rows alone, and the last unmasked sample; keep the noise."""
        alone = values.clone()
        for row in sorted({0, len(samples) - 1}):
            if len(self.players) == 1 and not self.drops_removed and bool(masks[row].all()):
                alone[row] = self.unmasked[0]
            else:
                alone[row] = evaluate(samples[row : row + 1], masks[row : row + 1])[0]
        self._noise = (values - alone).abs().amax(0)
        if not self._agreement.same(values, alone):
            return self._agreement.influence(len(samples), self._noise)
        if len(self.players) > 1:
            everyone, full = self._forwards.everyone()
            last = evaluate(everyone[-1:], full[-1:])
            together = torch.cat([values, self.unmasked.to(values), self.unmasked[-1:].to(values)])
            if not self._agreement.same(together, torch.cat([values, self.unmasked.to(values), last])):
                return self._agreement.influence(len(self.players), (last - self.unmasked[-1:].to(last)).abs().amax(0))
        return None

    def _align(
        self,
        samples: Tensor,
        masks: Tensor,
        evaluate: Callable[[Tensor, Tensor], Tensor],
        error: Exception,
    ) -> Tensor:
        """Try forwards of all samples in their order, since others fail; raise the error if these do not help."""
        self._checked, self._trying = False, True
        everyone, full = self._forwards.everyone()
        none, but_first = ~full, full.clone()
        but_first[0] = False
        try:
            with torch.no_grad():
                all_absent, first_absent = evaluate(everyone, none), evaluate(everyone, but_first)
        except _ForwardError:
            raise error from None
        finally:
            self._trying = False
        expected = torch.cat([all_absent[:1], self.unmasked.to(all_absent)[1:]])
        scale = torch.cat([all_absent, self.unmasked.to(all_absent)])
        same = self._agreement.same(torch.cat([scale, expected]), torch.cat([scale, first_absent]))
        if self.whole_batch or not same:
            raise error
        self._forwards.aligned = self._checked = True
        self._noise = torch.zeros_like(all_absent[0])
        reason = f"{type(error).__name__}: {error}" if not isinstance(error, RowsDifferError) else str(error)
        batch = len(self.players)
        warn(
            f"masked copies of any samples in a forward do not work ({reason}). Forwards of the "
            f"{'one sample' if batch == 1 else f'{batch} samples in their order'} do, and are used; they take longer. "
            "If an additional argument has no row for each sample, give captum_lkn.Fixed(argument)"
        )
        return self._forwards.run_aligned(samples, masks, evaluate)

    # ------------------------------------------------------------ forwards

    def _values(self, samples: Tensor, masks: Tensor, baselines: tuple[Tensor, ...] | None = None) -> Tensor:
        """Return the values of masked copies that fit one forward, or one for each number of tokens."""
        arguments = self._forwards.copies(samples, masks, baselines)
        if self._first_position is None:
            return self._forward(arguments, samples)
        places, parts = [], []
        for rows, part in without_removed(arguments, self._first_position):
            places.append(rows)
            parts.append(self._forward(part, samples[rows]))
        values = torch.cat(parts)
        return values[torch.cat(places).argsort().to(values.device)]

    def _forward(self, arguments: Arguments, samples: Tensor) -> Tensor:
        """Run one forward; a read-out is scored inside its hook, so that a number a row is all that is kept."""

        def of_layer(place: int, feature: Tensor) -> Tensor:
            source = self.sources[self._of_layers[place]]
            logits = check_readout_output(
                source.read_out(feature), len(feature), self.target.n_outputs, f"layer {source.label!r}"
            )
            classes = self.target.classes.to(logits.device)[samples.to(logits.device)]
            try:
                return self._scored(self._of_layers[place], logits, classes)
            except ValueError as error:  # what it calls the output is the read-out's
                raise ValueError(f"at layer {source.label!r}, {error}") from error

        def guarded(place: int, feature: Tensor) -> Tensor:
            try:
                return of_layer(place, feature)
            except Exception as error:
                raise _ReadOutError(error) from error

        self._forwards.forwards += 1
        try:
            output, kept = self._reader(arguments, guarded, self._explained(samples))
        except _ReadOutError as failed:
            raise failed.error from failed.error.__cause__
        except Exception as error:
            if not self._trying or (isinstance(error, RuntimeError) and out_of_memory(error)):
                raise
            raise _ForwardError(error) from error
        output = self._in_rows(output, len(samples))
        if not self.whole_batch and not self._checked and len(output) == 1 < len(samples):
            # One sample and an output of one row could be either; several rows tell.
            self._forwards.take_for_whole_batch(self._reader.layers)
            return output.new_empty(len(samples), len(self.sources))
        if self.whole_batch:
            samples = torch.zeros(1, dtype=torch.int64)
        try:
            logits, classes = self.target.select(output, samples)
        except ValueError as error:
            raise (_ForwardError(error) if self._trying else error) from None
        if self._every_output:
            return _every(output)
        layers = iter(kept)
        return _side_by_side(
            [
                self._scored(place, logits, classes) if source.layer is None else next(layers)
                for place, source in enumerate(self.sources)
            ]
        )

    def _in_rows(self, output: Tensor, rows: int) -> Tensor:
        """Return the output with the first dimension that a forward of one row, or of one value, may have dropped."""
        dropped = (rows == 1 or self.whole_batch) and tuple(output.shape) == self._shape != (1,)
        output = output[None] if output.dim() == 0 or dropped else output
        return output[:1] if self.whole_batch else output  # one value may be repeated in each row

    def _explained(self, samples: Tensor) -> Tensor | None:
        """Return the token that the target is at, bool ``[R, T]``, where the output has one a token."""
        if len(self.target.shape) != 2:
            return None
        return self.target.positions.cpu()[samples] == torch.arange(self.target.position_sizes[0])

    def _scored(self, place: int, logits: Tensor, classes: Tensor) -> Tensor:
        """Score the logits of one source; those of the first forward are checked beside the unmasked ones."""
        if not self._checked:
            known = [self._unmasked_logits[place]] if place in self._unmasked_logits else []
            refuse_probabilities(
                self._score, torch.cat([*known, logits.detach()]), linear=self.sources[place].is_linear
            )
        with no_autocast():
            return self._score(logits, classes)


class _ForwardError(Exception):
    """Failure of the model's forward, while it is not known yet which forwards it takes."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class _ReadOutError(_ForwardError):
    """Failure of a read-out or of a score, inside the model's forward."""


def _every(output: Tensor) -> Tensor:
    """Return all outputs of each row as values, ``[R, L]``."""
    return to_float64(output.reshape(len(output), -1))


def _side_by_side(columns: Sequence[Tensor]) -> Tensor:
    """Return columns ``[R]``, which may lie on the devices of several layers, as one tensor ``[R, L]``."""
    return torch.stack([column.to(columns[0].device) for column in columns], dim=1)


def _reads_positions(layer: Layer) -> bool:
    """Return whether a function of the user's reads the layer, which may count on where tokens are."""
    return callable(layer.pool) or layer.select is not None
