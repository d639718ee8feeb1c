"""Masked evaluation: the score of every subset of the players, as a table.

All samples and masks form one stream of rows, cut into forwards; a forward gives a value for the output and for
each layer that is read. Whatever could make the result wrong is looked for before the work starts: a table that is
too large, half precision, probabilities in place of logits, rows that influence each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from captum_lkn._common.messages import shape_of
from captum_lkn._common.rounding import agree
from captum_lkn._common.warn import warn
from captum_lkn.decomposition import lattice
from captum_lkn.models.layers import OUTPUT, Layer, LayerReader
from captum_lkn.models.model import Arguments, Model
from captum_lkn.outputs.probabilities import refuse_probabilities
from captum_lkn.outputs.scores import Score
from captum_lkn.outputs.targets import Target, TargetLike, resolve_target
from captum_lkn.players.players import Players
from captum_lkn.probes.readouts import Readout, check_readout_output
from captum_lkn.values.masked import copies
from captum_lkn.values.removal import can_drop, first_positions, without_removed
from captum_lkn.values.rows import (
    MAX_PLAYERS,
    Piece,
    check_sizes,
    check_whole_batch,
    count,
    cut,
    out_of_memory,
    rows_per_forward,
    samples_of,
)

__all__ = ["MAX_PLAYERS", "Source", "ValueTables", "value_tables"]

_PLAIN = "plain"


@dataclass(frozen=True)
class Source:
    """Where a value comes from: a layer through its read-out, or the model's own output.

    Attributes:
        layer: From :func:`captum_lkn.models.layers.find_layers`; None: the output.
        readout: From the layer's feature ``[R, D]`` to logits ``[R, C]``, column c for output c of the model.
    """

    layer: Layer | None = None
    readout: Readout | None = None

    def read_out(self, feature: Tensor) -> Tensor:
        """What the read-out makes of the layer's feature."""
        if self.readout is None:
            raise ValueError(f"{self.label!r} has no read-out")
        return self.readout(feature)

    @property
    def label(self) -> str:
        """The layer's label, or ``"output"``."""
        return OUTPUT if self.layer is None else self.layer.label


@dataclass(frozen=True)
class ValueTables:
    """What masked evaluation gives.

    Attributes:
        tables: For each sample its values, float64 ``[L, 2^n]`` on the CPU: a row a source; bit i of the index =
            player i present. One table for all samples together where the forward gives one value a batch.
        target: What was explained.
        forwards: How many forwards it took.
        whole_batch: Whether the forward gives one value a batch, as Captum also allows.
        evaluations: For each sample how its masked copies were computed, for provenance: ``"evaluation"`` is
            ``"plain"``, ``"removed tokens dropped"`` or ``"prefix tree"``.
    """

    tables: tuple[Tensor, ...]
    target: Target
    forwards: int
    whole_batch: bool
    evaluations: tuple[dict[str, Any], ...]


def value_tables(
    model: Model,
    players: Players,
    arguments: Arguments,
    *,
    target: TargetLike,
    score: Score,
    sources: Sequence[Source] = (Source(),),
    perturbations_per_eval: int | None = None,
    show_progress: bool = False,
    description: str = "masks",
) -> ValueTables:
    """Evaluate a model on all 2^n masked copies of each sample.

    Args:
        model: What to evaluate, inside its ``session()``.
        players: Who can be absent.
        arguments: The unmasked inputs, and all else the forward gets.
        target: Captum's kinds, or ``"predicted"``; see :func:`captum_lkn.outputs.targets.resolve_target`.
        score: From logits and targets to values; see :mod:`captum_lkn.outputs.scores`.
        sources: Which values are wanted: all of them come from the same forwards.
        perturbations_per_eval: Masks a forward, for all samples together this times their number of rows, as
            in Captum. None: by a rule, from the size of the inputs.
        show_progress: Whether to show a bar over all masks and samples.
        description: What the bar is called.

    Returns:
        The tables.

    Raises:
        TypeError: The score, the forward or a read-out returns something else than a tensor.
        ValueError: Too many players; a target that does not fit; probabilities where the score reads logits; a
            value that is not finite; rows of a batch that influence each other; a layer that cannot be read, or a
            read-out that does not fit the output.

    Warns:
        UserWarning: Half precision; less memory than the batch wants (it is halved).

    Example:
        >>> from captum_lkn.players.players import players_from_mask
        >>> from captum_lkn.outputs.scores import logit
        >>> x = torch.tensor([[1.0, 2.0]])
        >>> model = Model(lambda x: x.prod(1))
        >>> value_tables(model, players_from_mask(x), Arguments((x,)), target=None, score=logit).tables
        (tensor([[0., 0., 0., 2.]], dtype=torch.float64),)
    """
    check_sizes(players)
    rows = rows_per_forward(model, players, perturbations_per_eval)
    with LayerReader(model, [source.layer for source in sources if source.layer is not None]) as reader:
        evaluation = _Evaluation(reader, players, arguments, score, sources, rows)
        evaluation.resolve(target)
        evaluation.check_first_rows()
        if evaluation.whole_batch:
            check_whole_batch(players, perturbations_per_eval, reader.layers)
        sizes = players.sizes[:1] if evaluation.whole_batch else players.sizes
        tables = [torch.empty(len(sources), 1 << n, dtype=torch.float64) for n in sizes]
        with tqdm(total=sum(1 << n for n in sizes), desc=description, unit="mask", disable=not show_progress) as bar:
            how = [evaluation.all_at_once(sample, table, bar.update) for sample, table in enumerate(tables)]
            left = [(sample, 0, 1 << n) for sample, n in enumerate(sizes) if how[sample]["evaluation"] == _PLAIN]
            for pieces in evaluation.stream(left):
                values = evaluation.values(pieces)
                done = 0
                for sample, start, stop in pieces:
                    part = values[done : done + stop - start]
                    tables[sample][:, start:stop] = part.T
                    evaluation.check_finite(part, sample, start)
                    done += stop - start
                bar.update(done)
    if evaluation.first_position is not None:
        how = [{"evaluation": "removed tokens dropped"}] * len(tables)
    return ValueTables(tuple(tables), evaluation.target, evaluation.forwards, evaluation.whole_batch, tuple(how))


class _Evaluation:
    """A model, the players it is asked about, and how what it says becomes values."""

    def __init__(
        self,
        reader: LayerReader,
        players: Players,
        arguments: Arguments,
        score: Score,
        sources: Sequence[Source],
        rows: int,
    ) -> None:
        self.reader = reader
        self.players = players
        self.arguments = arguments
        self.score = reader.model.score_for_model(score)
        self.sources = sources
        self.rows = rows  # at most so many in a forward; fewer once memory has run out
        self.forwards = 0
        self.target: Target  # known once resolved
        self.whole_batch = False  # whether the forward gives one value for all of its rows
        self.first_position: int | None = None  # of the tokens, where removed ones are dropped
        self._of_layers = [source for source in sources if source.layer is not None]  # in the reader's order

    def resolve(self, target: TargetLike) -> None:
        """Learn the target from the samples as they are, and whether the forward gives one value for all of them."""
        batch = len(self.players)
        unmasked = [((1 << n) - 1) for n in self.players.sizes]
        pieces = [(sample, full, full + 1) for sample, full in enumerate(unmasked)]
        parts = [self._in_parts(part, self._output) for part in cut(pieces, lambda: self.rows)]
        self._warn_of_half_precision(parts[0])
        self._dtype = parts[0].dtype
        if parts[0].dim() == 0 or (parts[0].numel() == 1 and min(batch, self.rows) > 1):
            self.whole_batch = True
            self.target = resolve_target(target, parts[0].reshape(1, 1), binary=self.score.binary)
            return
        first = torch.cat(parts)
        if len(first) != batch:
            raise ValueError(
                f"the forward returned {shape_of(first)} for {batch} samples: expected one row a sample, or one value "
                "for the whole batch"
            )
        self.target = resolve_target(target, first, binary=self.score.binary)

    def _warn_of_half_precision(self, output: Tensor) -> None:
        model = self.reader.model
        dtype = model.half_precision(output)
        if dtype is not None:
            warn(
                f"{model.name} computes in {dtype}, whose rounding grows by 2^(n/2) through the transform and "
                "can drown the interactions (on a BERT bfloat16 moved the effects by 12 to 21 %, float16 by 2 to 6): "
                "call .float() on the model"
            )

    def check_first_rows(self) -> None:
        """Evaluate a few masks together and alone: the answers must be finite and agree.

        They must also be logits, if the score reads logits.
        """
        if self.whole_batch:
            return
        pieces = self._few()[: self.rows]
        together = self._in_parts(pieces, lambda part: self._values(part, first=True))
        if self.whole_batch:
            return
        for place, (sample, subset, _) in enumerate(pieces):
            self.check_finite(together[place : place + 1], sample, subset)
        one_for_all = len(self.target.shape) == 1 and not any(map(_knows_positions, self.reader.layers))
        if one_for_all and can_drop(self.reader.model, self.arguments):
            self._try_to_drop(pieces, together)
        if len(pieces) == 1:
            return  # one row at a time: no row can influence another
        alone = torch.cat([self.values([piece]) for piece in pieces])
        if not agree(together, alone, self._dtype):
            difference = (together - alone).abs().max()
            raise ValueError(
                f"rows of a batch influence each other, or the forward is random: {len(pieces)} masks evaluated "
                f"together and alone differ by up to {float(difference):.3g}. Masked evaluation needs "
                "independent rows: use a forward without batch statistics or noise, or give one sample at a time with "
                "perturbations_per_eval=1"
            )

    def _try_to_drop(self, pieces: list[Piece], plain: Tensor) -> None:
        """Leave removed tokens out from now on, if the model then answers as it does with them."""
        for position in first_positions(self.reader.model):
            self.first_position = position
            if agree(plain, self.values(pieces), self._dtype):
                return
        self.first_position = None

    def _few(self) -> list[Piece]:
        """Some subsets of the first and of the last sample, all players present first."""
        sizes = {sample: 1 << self.players.sizes[sample] for sample in (0, len(self.players) - 1)}
        subsets = {sample: sorted({0, size // 3, size - 1}, reverse=True) for sample, size in sizes.items()}
        return [(sample, subset, subset + 1) for sample, some in subsets.items() for subset in some]

    def all_at_once(self, sample: int, table: Tensor, advance: Callable[[int], object]) -> dict[str, Any]:
        """Fill a sample's table by a forward function that knows a cheaper way to all masks, if it is one.

        Such a function has ``all_masks``, as :class:`captum_lkn.causal.continuation.Continuation` has.

        Returns:
            How it came about; ``{"evaluation": "plain"}``, and perhaps a reason, where the table is still empty.
        """
        cheaper = getattr(self.reader.model.forward_func, "all_masks", None)
        if cheaper is None or self._of_layers or self.whole_batch or self.arguments.positional:
            return {"evaluation": _PLAIN}
        mask = self.arguments.keywords.get("attention_mask")
        own = mask[[sample if len(mask) > 1 else 0]] if isinstance(mask, Tensor) else None
        outputs, how = cheaper(self.players, sample, own, advance=advance)
        if outputs is not None:
            samples = torch.full((len(outputs),), sample)
            table[:] = self._scored(*self.target.select(outputs, samples), first=False).cpu().double()
            self.check_finite(table.T, sample, 0)
        return dict(how)

    def stream(self, left: list[Piece]) -> Iterator[list[Piece]]:
        """These subsets, as many at a time as fit a forward."""
        return cut(left, lambda: 1 if self.whole_batch else self.rows)

    def values(self, pieces: list[Piece]) -> Tensor:
        """The values of the given subsets, one column a source, float64 ``[R, L]`` on the CPU."""
        return self._in_parts(pieces, self._values)

    def _in_parts(self, pieces: list[Piece], evaluate: Callable[[list[Piece]], Tensor]) -> Tensor:
        """Evaluate, in halves where memory runs out; what was learnt about memory is kept."""
        number = count(pieces)
        try:
            return evaluate(pieces)
        except RuntimeError as error:
            if not out_of_memory(error) or number == 1 or self.whole_batch:
                raise
        if number // 2 < self.rows:
            self.rows = number // 2
            warn(
                f"out of memory with {number} masked copies in a forward: going on with {self.rows}. Give "
                "perturbations_per_eval to choose their number"
            )
        torch.cuda.empty_cache()  # nothing happens where there is no GPU
        return torch.cat([self._in_parts(part, evaluate) for part in cut(pieces, lambda: number // 2)])

    def _output(self, pieces: list[Piece]) -> Tensor:
        """What the model puts out for the given subsets; the layers are not needed."""
        self.forwards += 1
        return self.reader(self._copies(pieces), lambda _, feature: feature.new_empty(0))[0]

    def _values(self, pieces: list[Piece], first: bool = False) -> Tensor:
        samples, arguments = samples_of(pieces), self._copies(pieces)
        if self.first_position is None:
            return self._forward(arguments, samples, first)
        values = torch.empty(len(samples), len(self.sources), dtype=torch.float64)
        for rows, part in without_removed(arguments, self.first_position):
            values[rows] = self._forward(part, samples[rows], first)
        return values

    def _forward(self, arguments: Arguments, samples: Tensor, first: bool) -> Tensor:
        """One forward; a layer's read-out is scored inside its hook, so that a number a row is all that is kept."""

        def of_layer(place: int, feature: Tensor) -> Tensor:
            source = self._of_layers[place]
            logits = check_readout_output(
                source.read_out(feature), len(feature), self.target.n_outputs, f"layer {source.label!r}"
            )
            classes = self.target.classes.to(logits.device)[samples.to(logits.device)]
            try:
                return self._scored(logits, classes, first)
            except ValueError as error:  # what it calls the output is the read-out's
                raise ValueError(f"at layer {source.label!r}, {error}") from error

        self.forwards += 1
        output, kept = self.reader(arguments, of_layer, self._explained(samples))
        if first and output.numel() == 1 < len(samples):
            # One sample and an output [1] could be either; several rows tell.
            self.whole_batch = True
            return output.new_empty(1, len(self.sources))
        layers = iter(kept)
        columns = [next(layers) if s.layer is not None else self._own(output, samples, first) for s in self.sources]
        return torch.stack([column.cpu().double() for column in columns], dim=1)

    def _explained(self, samples: Tensor) -> Tensor | None:
        """Bool ``[R, T]``, the token that the target is at, where the output ``[R, T, C]`` may have one a token."""
        if len(self.target.shape) != 2:
            return None
        return self.target.positions.cpu()[samples] == torch.arange(self.target.shape[0])

    def _own(self, output: Tensor, samples: Tensor, first: bool) -> Tensor:
        """The values of the model's own output."""
        if self.whole_batch:
            output, samples = output.reshape(1, 1), samples[:1]
        return self._scored(*self.target.select(output, samples), first)

    def _scored(self, logits: Tensor, classes: Tensor, first: bool) -> Tensor:
        if first:
            refuse_probabilities(self.score, logits)
        return self.score(logits, classes)

    def _copies(self, pieces: list[Piece]) -> Arguments:
        """What a forward gets: the given subsets, or the first one for all samples alike."""
        if self.whole_batch:
            (_, start, stop) = pieces[0]
            pieces = [(sample, start, stop) for sample in range(len(self.players))]
        batch = [
            (sample, lattice.members(torch.arange(start, stop), self.players.sizes[sample]))
            for sample, start, stop in pieces
        ]
        return copies(self.players, self.arguments, batch)

    def check_finite(self, values: Tensor, sample: int, start: int) -> None:
        """Check values ``[M, L]``, of a sample's subsets from ``start`` on."""
        if bool(values.isfinite().all()):
            return
        at, column = (~values.isfinite()).nonzero()[0].tolist()
        n = self.players.sizes[sample]
        present = lattice.members(torch.tensor(start + at), n)
        names = [label for label, there in zip(self.players.labels[sample], present.tolist(), strict=True) if there]
        source = self.sources[column]
        where = "" if source.layer is None else f" at layer {source.label!r}"
        raise ValueError(
            f"the value of sample {sample}{where} is {float(values[at, column])} with the players "
            f"{{{', '.join(names)}}} present (mask {start + at} of {1 << n}): look at what the model "
            "returns for this masked input, and at the baseline"
        )


def _knows_positions(layer: Layer) -> bool:
    """Whether a function of the user's may count on where tokens are."""
    return callable(layer.pool) or layer.select is not None
