"""Masked evaluation: the score of every subset of the players, as a table.

All samples and masks form one stream of rows, cut into forwards. Whatever could make the result wrong is looked
for before the work starts: a table that is too large, half precision, probabilities in place of logits, rows that
influence each other.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm.auto import tqdm

from captum_lkn import lattice
from captum_lkn._arguments import shape_of, some_of
from captum_lkn._warn import warn
from captum_lkn.models import Arguments, Model
from captum_lkn.players import Players
from captum_lkn.scores import Score, apply_score, binary_log_odds, refuse_probabilities
from captum_lkn.targets import Target, TargetLike, resolve_target

__all__ = ["MAX_PLAYERS", "ValueTables", "value_tables"]

MAX_PLAYERS = 20
"""More players than this are refused: a table of them has over a million entries, each one forward."""

# Rows of a forward where the user does not say: about this many scalars of floating input, or tokens.
_SCALARS = 1 << 22
_TOKENS = 1 << 13
_ROWS = (8, 2048)


@dataclass(frozen=True)
class ValueTables:
    """What masked evaluation gives.

    Attributes:
        tables: For each sample its values, float64 ``[2^n]`` on the CPU; bit i of the index = player i present.
            One table for all samples together where the forward gives one value a batch.
        target: What was explained.
        forwards: How many forwards it took.
        whole_batch: Whether the forward gives one value a batch, as Captum also allows.
    """

    tables: tuple[Tensor, ...]
    target: Target
    forwards: int
    whole_batch: bool


def value_tables(
    model: Model,
    players: Players,
    arguments: Arguments,
    *,
    target: TargetLike,
    score: Score,
    perturbations_per_eval: int | None = None,
    show_progress: bool = False,
    description: str = "masks",
) -> ValueTables:
    """Evaluate a model on all 2^n masked copies of each sample.

    Args:
        model: What to evaluate, inside its ``session()``.
        players: Who can be absent.
        arguments: The unmasked inputs, and all else the forward gets.
        target: Captum's kinds, or ``"predicted"``; see :func:`captum_lkn.targets.resolve_target`.
        score: From outputs and targets to values; see :mod:`captum_lkn.scores`.
        perturbations_per_eval: Masks a forward, for all samples together this times their number of rows, as
            in Captum. None: by a rule, from the size of the inputs.
        show_progress: Whether to show a bar over all masks and samples.
        description: What the bar is called.

    Returns:
        The tables.

    Raises:
        TypeError: The score or the forward returns something else than a tensor.
        ValueError: Too many players; a target that does not fit; probabilities where the score reads logits; a
            value that is not finite; rows of a batch that influence each other.

    Warns:
        UserWarning: Half precision; less memory than the batch wants (it is halved).

    Example:
        >>> from captum_lkn.players import players_from_mask
        >>> from captum_lkn.scores import logit
        >>> x = torch.tensor([[1.0, 2.0]])
        >>> model = Model(lambda x: x.prod(1))
        >>> value_tables(model, players_from_mask(x), Arguments((x,)), target=None, score=logit).tables
        (tensor([0., 0., 0., 2.], dtype=torch.float64),)
    """
    _check_sizes(players)
    evaluation = _Evaluation(model, players, arguments, score, _rows_per_forward(players, perturbations_per_eval))
    evaluation.resolve(target)
    evaluation.check_first_rows()
    if evaluation.whole_batch:
        _check_whole_batch(players, perturbations_per_eval)
    sizes = players.sizes[:1] if evaluation.whole_batch else players.sizes
    tables = [torch.empty(1 << n, dtype=torch.float64) for n in sizes]
    with tqdm(total=sum(map(len, tables)), desc=description, unit="mask", disable=not show_progress) as bar:
        for pieces in evaluation.stream(sizes):
            values = evaluation.values(pieces)
            done = 0
            for sample, start, stop in pieces:
                part = values[done : done + stop - start]
                tables[sample][start:stop] = part
                _check_finite(part, players, sample, start)
                done += stop - start
            bar.update(done)
    return ValueTables(tuple(tables), evaluation.target, evaluation.forwards, evaluation.whole_batch)


_Piece = tuple[int, int, int]  # a sample, and a range of its subsets


class _Evaluation:
    """A model, the players it is asked about, and how its outputs become values."""

    def __init__(self, model: Model, players: Players, arguments: Arguments, score: Score, rows: int) -> None:
        self.model = model
        self.players = players
        self.arguments = arguments
        self.score = score
        self.rows = rows  # at most so many in a forward; fewer once memory has run out
        self.forwards = 0
        self.target: Target  # known once resolved
        self.whole_batch = False  # whether the forward gives one value for all of its rows

    def resolve(self, target: TargetLike) -> None:
        """Learn the target from the samples as they are, and whether the forward gives one value for all of them."""
        batch = len(self.players)
        unmasked = [((1 << n) - 1) for n in self.players.sizes]
        pieces = [(sample, full, full + 1) for sample, full in enumerate(unmasked)]
        parts = [self._in_parts(part, self._output) for part in _cut(pieces, lambda: self.rows)]
        self._warn_of_half_precision(parts[0])
        binary = self.score is binary_log_odds
        if parts[0].dim() == 0 or (parts[0].numel() == 1 and min(batch, self.rows) > 1):
            self.whole_batch = True
            self.target = resolve_target(target, parts[0].reshape(1, 1), binary=binary)
            return
        first = torch.cat(parts)
        if len(first) != batch:
            raise ValueError(
                f"the forward returned {shape_of(first)} for {batch} samples: expected one row a sample, or one value "
                "for the whole batch"
            )
        self.target = resolve_target(target, first, binary=binary)

    def _warn_of_half_precision(self, output: Tensor) -> None:
        dtype = self.model.half_precision(output)
        if dtype is not None:
            warn(
                f"{self.model.name} computes in {dtype}, whose rounding grows by 2^(n/2) through the transform and "
                "can drown the interactions: call .float() on the model"
            )

    def check_first_rows(self) -> None:
        """Evaluate a few masks together and alone: the answers must be finite and agree.

        They must also be logits, if the score reads logits.
        """
        if self.whole_batch:
            return
        pieces = self._few()[: self.rows]
        output = self._in_parts(pieces, self._output)
        if len(pieces) > 1 and output.numel() == 1:
            # One sample and an output [1] could be either; several rows tell.
            self.whole_batch = True
            return
        rows, classes = self.target.select(output, _samples(pieces))
        refuse_probabilities(self.score, rows)
        together = apply_score(self.score, rows, classes).cpu().double()
        for place, (sample, subset, _) in enumerate(pieces):
            _check_finite(together[place : place + 1], self.players, sample, subset)
        if len(pieces) == 1:
            return  # one row at a time: no row can influence another
        alone = torch.cat([self.values([piece]) for piece in pieces])
        # Kernels for other shapes round differently, by some units of the last place of the values.
        eps = torch.finfo(output.dtype if output.is_floating_point() else torch.float32).eps
        allowed = 1e-3 * (together.max() - together.min()) + min(100 * eps, 0.02) * together.abs().max()
        difference = float((together - alone).abs().max())
        if not difference <= float(allowed):
            raise ValueError(
                f"rows of a batch influence each other, or the forward is random: {len(pieces)} masks evaluated "
                f"together and alone differ by up to {difference:.3g}. Masked evaluation needs independent "
                "rows: use a forward without batch statistics or noise, or give one sample at a time with "
                "perturbations_per_eval=1"
            )

    def _few(self) -> list[_Piece]:
        """Some subsets of the first and of the last sample, all players present first."""
        sizes = {sample: 1 << self.players.sizes[sample] for sample in (0, len(self.players) - 1)}
        subsets = {sample: sorted({0, size // 3, size - 1}, reverse=True) for sample, size in sizes.items()}
        return [(sample, subset, subset + 1) for sample, some in subsets.items() for subset in some]

    def stream(self, sizes: tuple[int, ...]) -> Iterator[list[_Piece]]:
        """All subsets of all samples, as many at a time as fit a forward."""
        everything = [(sample, 0, 1 << n) for sample, n in enumerate(sizes)]
        return _cut(everything, lambda: 1 if self.whole_batch else self.rows)

    def values(self, pieces: list[_Piece]) -> Tensor:
        """The values of the given subsets, float64 on the CPU."""
        return self._in_parts(pieces, self._values)

    def _in_parts(self, pieces: list[_Piece], evaluate: Callable[[list[_Piece]], Tensor]) -> Tensor:
        """Evaluate, in halves where memory runs out; what was learnt about memory is kept."""
        count = _count(pieces)
        try:
            return evaluate(pieces)
        except RuntimeError as error:
            if not _out_of_memory(error) or count == 1 or self.whole_batch:
                raise
        if count // 2 < self.rows:
            self.rows = count // 2
            warn(
                f"out of memory with {count} masked copies in a forward: going on with {self.rows}. Give "
                "perturbations_per_eval to choose their number"
            )
        torch.cuda.empty_cache()  # nothing happens where there is no GPU
        return torch.cat([self._in_parts(part, evaluate) for part in _cut(pieces, lambda: count // 2)])

    def _values(self, pieces: list[_Piece]) -> Tensor:
        samples, output = _samples(pieces), self._output(pieces)
        if self.whole_batch:
            output, samples = output.reshape(1, 1), samples[:1]
        return apply_score(self.score, *self.target.select(output, samples)).cpu().double()

    def _output(self, pieces: list[_Piece]) -> Tensor:
        """One forward: of the given subsets, or of the first one for all samples alike."""
        if self.whole_batch:
            (_, start, stop) = pieces[0]
            pieces = [(sample, start, stop) for sample in range(len(self.players))]
        copies = [
            self.players.masked(sample, lattice.members(torch.arange(start, stop), self.players.sizes[sample]))
            for sample, start, stop in pieces
        ]
        inputs = tuple(torch.cat(parts) for parts in zip(*copies, strict=True))
        given = Arguments(inputs, self.arguments.names, self.arguments.positional, self.arguments.keywords)
        self.forwards += 1
        return self.model(given.rows(_samples(pieces), len(self.players)))


def _check_whole_batch(players: Players, perturbations_per_eval: int | None) -> None:
    """One value for the batch as a whole: every mask takes a forward of its own, with all samples masked alike."""
    if not all(bool((owner == owner[:1]).all()) for owner in players.owners):
        raise ValueError(
            "the forward gives one value for the whole batch, so the players must be the same in all samples: give "
            f"a feature_mask whose first dimension is 1; got samples with {some_of(players.sizes)} players"
        )
    if perturbations_per_eval not in (None, 1):
        raise ValueError(
            "the forward gives one value for the whole batch, so masks cannot share a forward: use "
            f"perturbations_per_eval=1; got {perturbations_per_eval}"
        )


def _count(pieces: list[_Piece]) -> int:
    return sum(stop - start for _, start, stop in pieces)


def _cut(pieces: list[_Piece], rows: Callable[[], int]) -> Iterator[list[_Piece]]:
    """The same subsets in parts of at most so many; how many is asked anew for each part."""
    part: list[_Piece] = []
    room = rows()
    for sample, begin, stop in pieces:
        start = begin
        while start < stop:
            end = min(stop, start + room)
            part.append((sample, start, end))
            room -= end - start
            start = end
            if not room:
                yield part
                part, room = [], rows()
    if part:
        yield part


def _samples(pieces: list[_Piece]) -> Tensor:
    """Which sample each row belongs to."""
    return torch.cat([torch.full((stop - start,), sample) for sample, start, stop in pieces])


def _rows_per_forward(players: Players, perturbations_per_eval: int | None) -> int:
    if perturbations_per_eval is None:
        tokens = sum(x[0].numel() for x in players.inputs if not x.is_floating_point())
        scalars = sum(x[0].numel() for x in players.inputs if x.is_floating_point())
        rows = min(_TOKENS // max(tokens, 1), _SCALARS // max(scalars, 1))
        return min(max(rows, _ROWS[0]), _ROWS[1])
    if isinstance(perturbations_per_eval, bool) or not isinstance(perturbations_per_eval, numbers.Integral):
        raise TypeError(f"perturbations_per_eval must be an int or None; got {perturbations_per_eval!r}")
    if perturbations_per_eval < 1:
        raise ValueError(f"perturbations_per_eval must be at least 1; got {perturbations_per_eval}")
    return int(perturbations_per_eval) * len(players)


def _check_sizes(players: Players) -> None:
    n = max(players.sizes)
    if n <= MAX_PLAYERS:
        return
    bytes_needed = f"{8 * 2**n:.3g} bytes" if n < 1000 else f"8 * 2^{n} bytes"
    raise ValueError(
        f"sample {players.sizes.index(n)} has n = {n} players: its table would hold 2^{n} values ({bytes_needed}), "
        f"each one forward; at most n = {MAX_PLAYERS} are evaluated. Group scalars by feature_mask, or choose fewer "
        "words or patches as players and leave the others as background (id -1)"
    )


def _check_finite(values: Tensor, players: Players, sample: int, start: int) -> None:
    if bool(values.isfinite().all()):
        return
    at = int((~values.isfinite()).nonzero()[0])
    present = lattice.members(torch.tensor(start + at), players.sizes[sample])
    names = [label for label, there in zip(players.labels[sample], present.tolist(), strict=True) if there]
    raise ValueError(
        f"the value of sample {sample} is {float(values[at])} with the players "
        f"{{{', '.join(names)}}} present (mask {start + at} of {1 << players.sizes[sample]}): look at what the model "
        "returns for this masked input, and at the baseline"
    )


def _out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.cuda.OutOfMemoryError) or any(
        text in str(error).lower() for text in ("out of memory", "can't allocate memory", "not enough memory")
    )
