"""Masked evaluation: the score of every subset of the players, as a table.

All samples and masks form one stream of rows, cut into forwards. Whatever could make the result wrong is looked
for before the work starts: a table that is too large, half precision, probabilities in place of logits, rows that
influence each other.
"""

from __future__ import annotations

from collections.abc import Iterator
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
        target: What was explained; None where the forward gives one value a batch.
        forwards: How many forwards it took.
        whole_batch: Whether the forward gives one value a batch, as Captum also allows.
    """

    tables: tuple[Tensor, ...]
    target: Target | None
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
    rows = _rows_per_forward(players, perturbations_per_eval)
    evaluation = _Evaluation(model, players, arguments, score)
    whole = evaluation.resolve(target, rows)
    if whole:
        return _whole_batch_table(evaluation, perturbations_per_eval, show_progress, description)
    evaluation.check_first_rows(rows)
    tables = [torch.empty(1 << n, dtype=torch.float64) for n in players.sizes]
    with tqdm(total=sum(map(len, tables)), desc=description, unit="mask", disable=not show_progress) as bar:
        for pieces in _pieces(players.sizes, rows):
            values = evaluation.values(pieces)
            done = 0
            for sample, start, stop in pieces:
                part = values[done : done + stop - start]
                tables[sample][start:stop] = part
                _check_finite(part, players, sample, start)
                done += stop - start
            bar.update(done)
    return ValueTables(tuple(tables), evaluation.target, evaluation.forwards, whole_batch=False)


_Piece = tuple[int, int, int]  # a sample, and a range of its subsets


class _Evaluation:
    """A model, the players it is asked about, and how its outputs become values."""

    def __init__(self, model: Model, players: Players, arguments: Arguments, score: Score) -> None:
        self.model = model
        self.players = players
        self.arguments = arguments
        self.score = score
        self.target: Target | None = None
        self.forwards = 0

    def resolve(self, target: TargetLike, rows: int) -> bool:
        """Learn the target from the unmasked samples; whether the forward gives one value for all of them."""
        batch = len(self.players)
        parts = [
            self._forward(tuple(x[part] for x in self.players.inputs), part)
            for part in torch.split(torch.arange(batch), rows)
        ]
        whole = parts[0].dim() == 0 or (parts[0].numel() == 1 and min(batch, rows) > 1)
        if not whole:
            _check_rows(parts[0], min(batch, rows))
        first = parts[0] if whole else torch.cat(parts)
        dtype = self.model.half_precision(first)
        if dtype is not None:
            warn(
                f"{self.model.name} computes in {dtype}, whose rounding grows by 2^(n/2) through the transform and "
                "can drown the interactions: call .float() on the model",
            )
        if whole:
            return True
        self.target = resolve_target(target, first, binary=self.score is binary_log_odds)
        return False

    def check_first_rows(self, rows: int) -> None:
        """Evaluate a few masks together and alone: the answers must agree, and be logits if the score says so."""
        pieces = self._few()[:rows]
        inputs, samples = self._masked(pieces)
        output, classes = self._selected(self._forward(inputs, samples), samples)
        refuse_probabilities(self.score, output)
        together = apply_score(self.score, output, classes)
        if len(pieces) == 1:
            return  # one row at a time: no row can influence another
        alone = torch.cat([self.values([piece]) for piece in pieces]).to(together)
        finite = together.isfinite() & alone.isfinite()
        # Kernels for other shapes round differently: a few hundred units of the output's precision are no influence.
        tolerance = max(1e-6, 1000 * torch.finfo(output.dtype if output.is_floating_point() else torch.float32).eps)
        size = torch.cat([together[finite].abs(), output.detach().abs().flatten().to(together)])
        allowed = tolerance * max(1.0, float(size[size.isfinite()].amax()) if size.isfinite().any() else 0.0)
        difference = (together - alone).abs()[finite]
        if difference.numel() and float(difference.max()) > allowed:
            raise ValueError(
                f"rows of a batch influence each other, or the forward is random: {len(pieces)} masks evaluated "
                f"together and alone differ by up to {float(difference.max()):.3g}. Masked evaluation needs "
                "independent rows: use a forward without batch statistics or noise, or give one sample at a time with "
                "perturbations_per_eval=1"
            )

    def _few(self) -> list[_Piece]:
        """Some subsets of the first and of the last sample, all players present first."""
        return [
            (sample, subset, subset + 1)
            for sample in sorted({0, len(self.players) - 1})
            for subset in sorted({0, (1 << self.players.sizes[sample]) // 3, (1 << self.players.sizes[sample]) - 1})[
                ::-1
            ]
        ]

    def values(self, pieces: list[_Piece]) -> Tensor:
        """The values of the given subsets, float64 on the CPU; in halves where memory runs out."""
        inputs, samples = self._masked(pieces)
        return self._values(inputs, samples)

    def _values(self, inputs: tuple[Tensor, ...], samples: Tensor) -> Tensor:
        try:
            output, classes = self._selected(self._forward(inputs, samples), samples)
            return apply_score(self.score, output, classes).cpu().double()
        except RuntimeError as error:
            if not _out_of_memory(error) or len(samples) == 1:
                raise
        half = len(samples) // 2
        warn(
            f"out of memory with {len(samples)} masked copies in a forward: going on with {half}. Give "
            f"perturbations_per_eval to choose their number",
        )
        torch.cuda.empty_cache()  # nothing happens where there is no GPU
        parts = [slice(None, half), slice(half, None)]
        return torch.cat([self._values(tuple(x[part] for x in inputs), samples[part]) for part in parts])

    def _masked(self, pieces: list[_Piece]) -> tuple[tuple[Tensor, ...], Tensor]:
        copies = [
            self.players.masked(sample, lattice.members(torch.arange(start, stop), self.players.sizes[sample]))
            for sample, start, stop in pieces
        ]
        samples = torch.cat([torch.full((stop - start,), sample) for sample, start, stop in pieces])
        return tuple(torch.cat(parts) for parts in zip(*copies, strict=True)), samples

    def _forward(self, inputs: tuple[Tensor, ...], samples: Tensor) -> Tensor:
        self.forwards += 1
        given = Arguments(inputs, self.arguments.names, self.arguments.positional, self.arguments.keywords)
        return self.model(given.rows(samples, len(self.players)))

    def _selected(self, output: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
        if self.target is None:
            return output.reshape(1, 1), torch.zeros(1, dtype=torch.int64, device=output.device)
        return self.target.select(output, samples)


def _whole_batch_table(
    evaluation: _Evaluation, perturbations_per_eval: int | None, show_progress: bool, description: str
) -> ValueTables:
    """One value for the batch as a whole: every mask takes a forward of its own, with all samples masked alike."""
    players = evaluation.players
    same = all(bool((owner == owner[:1]).all()) for owner in players.owners)
    if not same:
        raise ValueError(
            "the forward gives one value for the whole batch, so the players must be the same in all samples: give "
            f"a feature_mask whose first dimension is 1; got samples with {some_of(players.sizes)} players"
        )
    if perturbations_per_eval not in (None, 1):
        raise ValueError(
            "the forward gives one value for the whole batch, so masks cannot share a forward: use "
            f"perturbations_per_eval=1; got {perturbations_per_eval}"
        )
    subsets = range(1 << players.sizes[0])
    values = torch.empty(len(subsets), dtype=torch.float64)
    for subset in tqdm(subsets, desc=description, unit="mask", disable=not show_progress):
        values[subset] = evaluation.values([(sample, subset, subset + 1) for sample in range(len(players))])[0]
        _check_finite(values[subset : subset + 1], players, 0, subset)
    return ValueTables((values,), None, evaluation.forwards, whole_batch=True)


def _pieces(sizes: tuple[int, ...], rows: int) -> Iterator[list[_Piece]]:
    """Cut the stream of all samples' subsets into lists of at most ``rows``."""
    pieces: list[_Piece] = []
    room = rows
    for sample, n in enumerate(sizes):
        start = 0
        while start < 1 << n:
            stop = min(1 << n, start + room)
            pieces.append((sample, start, stop))
            room -= stop - start
            start = stop
            if not room:
                yield pieces
                pieces, room = [], rows
    if pieces:
        yield pieces


def _rows_per_forward(players: Players, perturbations_per_eval: int | None) -> int:
    if perturbations_per_eval is None:
        tokens = sum(x[0].numel() for x in players.inputs if not x.is_floating_point())
        scalars = sum(x[0].numel() for x in players.inputs if x.is_floating_point())
        rows = min(_TOKENS // max(tokens, 1), _SCALARS // max(scalars, 1))
        return min(max(rows, _ROWS[0]), _ROWS[1])
    if isinstance(perturbations_per_eval, bool) or not isinstance(perturbations_per_eval, int):
        raise TypeError(f"perturbations_per_eval must be an int or None; got {perturbations_per_eval!r}")
    if perturbations_per_eval < 1:
        raise ValueError(f"perturbations_per_eval must be at least 1; got {perturbations_per_eval}")
    return perturbations_per_eval * len(players)


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


def _check_rows(output: Tensor, rows: int) -> None:
    if output.dim() and len(output) != rows:
        raise ValueError(
            f"the forward returned {shape_of(output)} for {rows} samples: expected one row a sample, or one value for "
            "the whole batch"
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
