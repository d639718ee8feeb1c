"""Evaluate masked inputs and score the outputs.

:class:`Evaluator` takes explicit masks. All 2^n of them (:mod:`captum_lkn.values.tables`), the few that rank players
(:mod:`captum_lkn.values.selection`) and those whose gradients are wanted (:mod:`captum_lkn.baselines`) go through it.
So the checks stand in one place: the target fits, the outputs are logits where logits are read, rows do not influence
each other, and the forward gives the same answer twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TypeVar

import torch
from torch import Tensor, nn

from captum_lkn._common.messages import SHOWN, shape_of, some_of
from captum_lkn._common.rounding import agree
from captum_lkn._common.warn import warn
from captum_lkn.models.arguments import Arguments
from captum_lkn.models.layers import OUTPUT, Layer
from captum_lkn.models.model import Model
from captum_lkn.models.reading import LayerReader
from captum_lkn.outputs.probabilities import refuse_probabilities
from captum_lkn.outputs.scores import Score
from captum_lkn.outputs.targets import Target, TargetLike, resolve_target
from captum_lkn.players.players import Players
from captum_lkn.probes.lens import LogitLens
from captum_lkn.probes.linear import LinearProbe
from captum_lkn.probes.readouts import Readout, check_readout_output
from captum_lkn.values.limits import MAX_PLAYERS, check_whole_batch, out_of_memory, rows_per_forward
from captum_lkn.values.removal import can_drop, first_positions, without_removed

__all__ = ["Evaluator", "Source"]

T = TypeVar("T")


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
        return self.readout(feature)

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
    ) -> None:
        self.model = model
        self.players = players
        self.sources = tuple(sources)
        self.rows = rows_per_forward(model, players, perturbations_per_eval)
        self.forwards = 0
        self.whole_batch = False
        self._perturbations_per_eval = perturbations_per_eval
        self._arguments = replace(arguments, unmasked=players.inputs)
        self._target = target
        self._score = model.score_for_model(score)
        self._of_layers = [place for place, source in enumerate(self.sources) if source.layer is not None]
        self._columns = max(players.sizes)
        self._first_position: int | None = None  # of the tokens, where removed ones are dropped
        self._unmasked_logits: dict[int, Tensor] = {}  # by source, until the first forward is checked
        self._checked = False

    def __enter__(self) -> Evaluator:
        with ExitStack() as stack:
            stack.enter_context(self.model.session())
            layers = [source.layer for source in self.sources if source.layer is not None]
            self._reader = stack.enter_context(LayerReader(self.model, layers))
            self._resolve()
            self.check_finite(*self._unmasked_rows(), self.unmasked)
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
        """
        return torch.cat(self._in_forwards(samples, masks, lambda s, m: self._checked_values(s, m, baselines), advance))

    def outputs(self, samples: Tensor, masks: Tensor) -> Tensor:
        """Return the model's outputs for masked copies, ``[R, ...]``; see :meth:`values`."""

        def output(samples: Tensor, masks: Tensor) -> Tensor:
            self.forwards += 1
            output = self._reader(self._copies(samples, masks), lambda _, feature: feature.new_empty(0))[0]
            return output.reshape(1, 1) if self.whole_batch else output

        return torch.cat(self._in_forwards(samples, masks, output))

    def score_outputs(self, outputs: Tensor, samples: Tensor) -> Tensor:
        """Return the values ``[R]`` of outputs ``[R, ...]`` of the model, of rows that belong to `samples`."""
        return self._score(*self.target.select(outputs, samples))

    def resolve(self, target: TargetLike, outputs: Tensor) -> Target:
        """Resolve a target on given outputs ``[B, ...]``, in the way that the score reads them."""
        class_dim = self.model.class_dim(outputs, self.players.inputs, self._score)
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
        """Check that values ``[R, L]`` are finite.

        Raises:
            ValueError: One is not; the message names its sample, its layer and the players that were present.
        """
        if bool(values.isfinite().all()):
            return
        row, column = (~values.isfinite()).nonzero()[0].tolist()
        sample, source = 0 if self.whole_batch else int(samples[row]), self.sources[column]
        where = "" if source.layer is None else f" at layer {source.label!r}"
        labels = self.players.labels[sample]
        raise ValueError(
            f"the value of sample {sample}{where} is {float(values[row, column])} with "
            f"{_present(labels, masks[row, : len(labels)])}: look at what the model returns for this masked input, and "
            "at the baseline"
        )

    def check_full(self, tables: Sequence[Tensor]) -> None:
        """Check that v(N) of each table is what the model returned for the unmasked sample.

        Args:
            tables: For each sample its values, ``[L, 2^n]``.

        Raises:
            ValueError: The two differ by more than rounding.
        """
        full = torch.stack([table[:, -1] for table in tables])
        same = (full == self.unmasked.to(full)).all(1)
        for sample in (~same).nonzero().flatten().tolist():  # few, unless forwards of other sizes round differently
            self._check_full(sample, tables[sample])

    def _check_full(self, sample: int, table: Tensor) -> None:
        again = table.clone()
        again[:, -1] = self.unmasked[sample].to(table)
        if agree(table.T, again.T, self._dtype):
            return
        apart = (table[:, -1] - again[:, -1]).abs()
        place = int(apart.nan_to_num(torch.inf).argmax())
        raise ValueError(
            f"v(N) of sample {sample} at {self.sources[place].label!r} is {float(table[place, -1]):.6g} in its table, "
            f"and {float(again[place, -1]):.6g} in the forward of the unmasked inputs: the forward is random, keeps a "
            "state between calls, or its rows influence each other. Masked evaluation needs a forward that answers "
            "each row by itself and always the same: use one without noise, state or batch statistics"
        )

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the forwards, float32 where they return integers."""
        return self._dtype if self._dtype.is_floating_point else torch.float32

    # ------------------------------------------------------------ the unmasked samples

    def _resolve(self) -> None:
        """Run the unmasked samples, resolve the target on their outputs, and keep their values."""
        samples, full = self._unmasked_rows()
        batch, most = len(samples), self.rows
        parts = self._in_forwards(samples, full, self._read)
        first = parts[0][0]
        self._dtype = first.dtype
        self._warn_of_half_precision(first)
        if first.dim() == 0 or (first.numel() == 1 and min(batch, most, self.rows) > 1):
            self._take_for_whole_batch()
            output = first.reshape(1, 1)
        else:
            output = torch.cat([part for part, _ in parts])
            if len(output) != batch:
                raise ValueError(
                    f"the forward returned {shape_of(output)} for {batch} samples: expected one row a sample, or one "
                    "value for the whole batch"
                )
        self.target = self.resolve(self._target, output)
        if (self.whole_batch and len(parts) > 1) or (self._of_layers and len(self.target.shape) == 2):
            # The first forwards had too few samples, or layers were read without knowing the explained token.
            self.unmasked = torch.cat(
                self._in_forwards(samples[:1] if self.whole_batch else samples, full, self._values)
            )
            return
        rows = samples[:1] if self.whole_batch else samples
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

    def _unmasked_rows(self) -> tuple[Tensor, Tensor]:
        batch = len(self.players)
        return torch.arange(batch), torch.ones(batch, self._columns, dtype=torch.bool)

    def _read(self, samples: Tensor, masks: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return a forward's output, and the read-outs' logits, before the target is known."""

        def logits(place: int, feature: Tensor) -> Tensor:
            source = self.sources[self._of_layers[place]]
            return check_readout_output(source.read_out(feature), len(feature), None, f"layer {source.label!r}")

        self.forwards += 1
        return self._reader(self._copies(samples, masks), logits)

    def _warn_of_half_precision(self, output: Tensor) -> None:
        model = self._reader.model
        dtype = model.half_precision(output)
        if dtype is not None:
            warn(
                f"{model.name} computes in {dtype}, whose rounding grows by 2^(n/2) through the transform and "
                "can drown the interactions (on a BERT bfloat16 moved the effects by 12 to 21 %, float16 by 2 to 6): "
                "call .float() on the model"
            )

    def _take_for_whole_batch(self) -> None:
        check_whole_batch(self.players, self._perturbations_per_eval, self._reader.layers)
        self.whole_batch = True

    def _try_to_drop(self) -> None:
        """Leave removed tokens out from now on, if the model then answers as it does with them."""
        # A target at a token, or a function of the user's that reads tokens by position, counts on where they are.
        fixed = len(self.target.shape) > 1 or any(map(_reads_positions, self._reader.layers))
        if self.whole_batch or fixed or not can_drop(self._reader.model, self._arguments):
            return
        samples, masks = self._few()
        plain = torch.cat(self._in_forwards(samples, masks, self._values))
        for position in first_positions(self._reader.model):
            self._first_position = position
            if agree(plain, torch.cat(self._in_forwards(samples, masks, self._values)), self._dtype):
                return
        self._first_position = None

    def _few(self) -> tuple[Tensor, Tensor]:
        """Return some masks of the first and of the last sample: all players, every other one, none."""
        every = torch.arange(self._columns)
        masks = torch.stack([every >= 0, every % 2 == 0, every < 0])
        chosen = sorted({0, len(self.players) - 1})
        return torch.tensor(chosen).repeat_interleave(len(masks)), masks.repeat(len(chosen), 1)

    # ------------------------------------------------------------ masked copies

    def _in_forwards(
        self,
        samples: Tensor,
        masks: Tensor,
        evaluate: Callable[[Tensor, Tensor], T],
        advance: Callable[[int], object] | None = None,
    ) -> list[T]:
        """Evaluate rows in forwards of at most ``rows`` of them, half as many where memory runs out."""
        results: list[T] = []
        start = 0
        while start < len(samples):
            alone = self.whole_batch
            stop = min(start + (1 if alone else self.rows), len(samples))
            try:
                result = evaluate(samples[start:stop], masks[start:stop])
            except RuntimeError as error:
                if not out_of_memory(error) or stop - start == 1 or alone:
                    raise
            else:
                if alone == self.whole_batch:
                    results.append(result)
                    if advance is not None:
                        advance(stop - start)
                    start = stop
                continue  # one value for the whole batch: once more, mask by mask
            self.rows = (stop - start) // 2
            warn(
                f"out of memory with {stop - start} masked copies in a forward: going on with {self.rows}. Give "
                "perturbations_per_eval to choose their number"
            )
            torch.cuda.empty_cache()  # nothing happens where there is no GPU
        return results

    def _checked_values(self, samples: Tensor, masks: Tensor, baselines: tuple[Tensor, ...] | None) -> Tensor:
        """Return the values of one forward; the first one is checked."""
        values = self._values(samples, masks, baselines)
        if not self._checked and not self.whole_batch:
            self._checked, self._unmasked_logits = True, {}
            with torch.no_grad():
                self.check_finite(samples, masks, values)
                self._check_rows(samples, masks, values, baselines)
        return values

    def _check_rows(self, samples: Tensor, masks: Tensor, values: Tensor, baselines: tuple[Tensor, ...] | None) -> None:
        """Check that the first and the last row of a forward have the same values alone."""
        alone = values.clone()
        for row in sorted({0, len(samples) - 1}):
            one = slice(row, row + 1)
            if len(self.players) == 1 and not self.drops_removed and bool(masks[row].all()):
                alone[row] = self.unmasked[0]
            else:
                alone[row] = self._values(samples[one], masks[one], baselines)[0]
        if agree(values, alone, self._dtype):
            return
        raise ValueError(
            f"rows of a batch influence each other, or the forward is random: {len(samples)} masks evaluated together "
            f"and alone differ by up to {float((values - alone).abs().max()):.3g}. Masked evaluation needs "
            "independent rows: use a forward without batch statistics or noise, or give one sample at a time with "
            "perturbations_per_eval=1"
        )

    def _values(self, samples: Tensor, masks: Tensor, baselines: tuple[Tensor, ...] | None = None) -> Tensor:
        """Return the values of masked copies that fit one forward, or one for each number of tokens."""
        arguments = self._copies(samples, masks, baselines)
        if self._first_position is None:
            return self._forward(arguments, samples)
        places, parts = [], []
        for rows, part in without_removed(arguments, self._first_position):
            places.append(rows)
            parts.append(self._forward(part, samples[rows]))
        values = torch.cat(parts)
        return values[torch.cat(places).argsort().to(values.device)]

    def _copies(self, samples: Tensor, masks: Tensor, baselines: tuple[Tensor, ...] | None = None) -> Arguments:
        """Return the arguments of one forward: a row a mask, or all samples under one mask."""
        if self.whole_batch:
            samples, masks = torch.arange(len(self.players)), masks.expand(len(self.players), -1)
        inputs = self.players.masked_rows(samples, masks, baselines)
        return replace(self._arguments, inputs=inputs).rows(samples, len(self.players))

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

        self.forwards += 1
        output, kept = self._reader(arguments, of_layer, self._explained(samples))
        if not self.whole_batch and not self._checked and output.numel() == 1 < len(samples):
            # One sample and an output [1] could be either; several rows tell.
            self._take_for_whole_batch()
            return output.new_empty(len(samples), len(self.sources))
        if self.whole_batch:
            output, samples = output.reshape(1, 1), torch.zeros(1, dtype=torch.int64)
        layers = iter(kept)
        return _side_by_side(
            [
                self._scored(place, *self.target.select(output, samples)) if source.layer is None else next(layers)
                for place, source in enumerate(self.sources)
            ]
        )

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
        return self._score(logits, classes)


def _side_by_side(columns: Sequence[Tensor]) -> Tensor:
    """Return columns ``[R]``, which may lie on the devices of several layers, as one tensor ``[R, L]``."""
    return torch.stack([column.to(columns[0].device) for column in columns], dim=1)


def _reads_positions(layer: Layer) -> bool:
    """Return whether a function of the user's reads the layer, which may count on where tokens are."""
    return callable(layer.pool) or layer.select is not None


def _present(labels: Sequence[str], mask: Tensor) -> str:
    """Return, for a message, the players that a mask shows."""
    there = [label for label, present in zip(labels, mask.tolist(), strict=True) if present]
    absent = [label for label, present in zip(labels, mask.tolist(), strict=True) if not present]
    if len(absent) < len(there) > SHOWN:
        return f"all players present but {{{some_of(absent)}}}"
    place = ""
    if len(labels) <= MAX_PLAYERS:
        index = sum(1 << i for i, present in enumerate(mask.tolist()) if present)
        place = f" (mask {index} of {1 << len(labels)})"
    return f"the players {{{some_of(there)}}} present{place}"
