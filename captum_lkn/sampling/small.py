"""Add many small effects where they predict what the selected ones leave.

A network's values have no noise: beyond the effects that can be told apart one by one lie hundreds of small ones, which
together explain a third of the rest. They are found by boosting: again and again, the term that correlates best with
the residual moves by a share of its least-squares effect, and the selected effects are fitted anew (componentwise L2
boosting; Buehlmann and Yu, "Boosting with the L2 loss", 2003). It ends where masks that are kept aside are predicted
best. Values with noise get no small effects, because they predict nothing there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

import torch
from torch import Tensor

from captum_lkn.decomposition.options import DecompositionOptions
from captum_lkn.sampling.candidates import LEAST_COUNT, extensions, relatives, scan
from captum_lkn.sampling.refit import Products, inverse_of, least_squares
from captum_lkn.sampling.terms import Masks, Term, activity, price

__all__ = ["boost", "count_steps", "fit_with_small", "small_terms"]

_SHARE: Final = 0.3  # of the least-squares effect that a step takes; .1 predicts no better in three times the steps
_MOST_STEPS: Final = 4000
_PATIENCE: Final = 400  # steps without a better prediction, after which no better one is expected
_MOST_TERMS: Final = 4000
_MOST_NUMBERS: Final = 1 << 26  # of their columns, in float32: 256 MB
_AT_ONCE: Final = 32  # rows of products that are made together
_GROWN: Final = 160  # candidates of each order and kind that are selected terms with one player more
_GIVEN_UP: Final = 0.05  # share of the improvement that is given up, for a tenth fewer effects and .0005 of R^2
_KEPT: Final = 0.97  # of the sum of squares of the small effects: two thirds of them, and .0003 of R^2
_SURE: Final = 3.0  # standard errors by which small effects must improve the prediction


class _Dictionary(NamedTuple):
    """Candidates, without what the selected terms explain of them.

    Attributes:
        terms: The candidates.
        columns: Float32 ``[k, m]``, orthogonal to the columns of the selected terms.
        residual: Float32 ``[m]``, the values without what the selected terms explain.
        explained: Float64 ``[s + 1, k + 1]``, what they explain of the candidates and of the values, last.
    """

    terms: list[Term]
    columns: Tensor
    residual: Tensor
    explained: Tensor

    def boosted(self, options: DecompositionOptions, steps: int) -> tuple[Tensor, Tensor]:
        """Return what :func:`boost` does."""
        squares, towards = self.columns.square().sum(1), self.columns @ self.residual
        return boost(_Rows(self.columns), squares, towards, _prices(self.terms, options), steps)


def boost(
    row: Callable[[int, Tensor], Tensor], squares: Tensor, towards: Tensor, prices: Tensor, steps: int
) -> tuple[Tensor, Tensor]:
    """Move small effects step by step, each time that of the term which correlates best with the residual.

    Args:
        row: Returns the products of the column at a place with all; it is given the scores of all as well.
        squares: Float ``[k]``, the sums of squares of the columns.
        towards: Float ``[k]``, the products of the columns with the residual.
        prices: Float ``[k]``, which divide the correlations.
        steps: The number of steps.

    Returns:
        The places of the terms that moved, int64 ``[steps]``, and by how much.
    """
    usable, enough = squares >= LEAST_COUNT, squares.clamp(min=LEAST_COUNT)
    scale = torch.where(usable, enough.rsqrt() / prices, 0.0)
    shares = torch.where(usable, _SHARE / enough, 0.0)
    places: list[int] = []
    moves = towards.new_zeros(steps if len(towards) else 0)
    for step in range(len(moves)):
        scores = (towards * scale).abs()
        place = int(scores.argmax())
        moves[step] = shares[place] * towards[place]
        towards = towards - moves[step] * row(place, scores)
        places.append(place)
    return torch.tensor(places, dtype=torch.int64, device="cpu"), moves


class _Rows:
    """Rows of the products of columns, made when they are asked for, with those that will soon be."""

    def __init__(self, columns: Tensor) -> None:
        self._columns, self._rows = columns, dict[int, Tensor]()

    def __call__(self, place: int, scores: Tensor) -> Tensor:
        if place not in self._rows:
            best = scores.topk(min(2 * _AT_ONCE, len(scores))).indices.tolist()
            new = [place, *(one for one in best if one not in self._rows and one != place)][:_AT_ONCE]
            self._rows |= zip(new, self._columns[new] @ self._columns.T, strict=True)
        return self._rows[place]


def small_terms(
    masks: Masks, values: Tensor, terms: Sequence[Term], options: DecompositionOptions, *, enough: float, steps: int
) -> list[Term]:
    """Return the terms that take part in the small effects.

    Args:
        masks: The masks.
        values: Float64 ``[m]``.
        terms: The selected terms.
        options: The weights and kinds of terms.
        enough: There are none if the selected terms miss no value by more than this.
        steps: The number of steps, from :func:`count_steps`.

    Returns:
        The terms, without the selected ones.
    """
    found = _dictionary(masks, values, terms, options)
    if float(found.residual.abs().max()) <= enough:
        return []
    places, moves = found.boosted(options, steps)
    effects = moves.new_zeros(len(found.terms)).index_add_(0, places, moves)
    squares, order = (effects.square() * found.columns.square().sum(1)).sort(descending=True)
    kept = order[: int((squares.cumsum(0) < _KEPT * squares.sum()).sum()) + 1]
    return [found.terms[place] for place in kept.sort().values.tolist()]


def count_steps(
    masks: Masks, values: Tensor, aside: Tensor, terms: Sequence[Term], options: DecompositionOptions, *, enough: float
) -> int:
    """Count the steps after which masks that are kept aside are predicted best.

    Args:
        masks: The masks.
        values: Float64 ``[m]``.
        aside: Bool ``[m]``, the masks to predict; the selected terms were found at the others.
        terms: The selected terms.
        options: The weights and kinds of terms.
        enough: As for :func:`small_terms`.

    Returns:
        The number of steps; 0 if the prediction does not improve by more than three standard errors.
    """
    used, rest = (Masks(*(side[rows] for side in masks)) for rows in (~aside, aside))
    found = _dictionary(used, values[~aside], terms, options)
    if float(found.residual.abs().max()) <= enough:
        return 0
    places, moves = found.boosted(options, _MOST_STEPS)
    ones = values.new_ones(1, int(aside.sum()))
    selected = torch.cat([ones, activity(rest, terms).double()])
    columns = activity(rest, found.terms) - (found.explained[:, :-1].T @ selected).float()
    left = (values[aside] - found.explained[:, -1] @ selected).float()
    now, missed, best = left, [float(left.square().sum())], 0
    for step, (place, move) in enumerate(zip(places.tolist(), moves.tolist(), strict=True), start=1):
        now = now - move * columns[place]
        missed.append(float(now.square().sum()))
        best = step if missed[step] < missed[best] else best
        if step - best > _PATIENCE:
            break
    least = missed[best] + _GIVEN_UP * (missed[0] - missed[best])
    steps = next(step for step, one in enumerate(missed) if one <= least)
    effects = moves.new_zeros(len(columns)).index_add_(0, places[:steps], moves[:steps])
    better = left.square() - (left - effects @ columns).square()
    sure = float(better.mean()) > _SURE * float(better.std()) * len(better) ** -0.5
    return steps if sure else 0


def fit_with_small(
    known: Products, small: Sequence[Term], options: DecompositionOptions, steps: int, ends: tuple[float, float] | None
) -> Tensor:
    """Return the constant and the effects, float64 ``[k + 1]``: small ones by boosting, the others by least squares.

    Args:
        known: The products of all terms, the small ones last.
        small: These.
        options: The weights of terms.
        steps: The number of steps.
        ends: v(empty) and v(N), which are then reproduced exactly; None: they are fitted like the others.
    """
    count = len(known.gram) - len(small)
    first = torch.arange(count, device="cpu")
    gram, cross = known.gram[count:, count:], known.gram[count:, :count]
    explained = inverse_of(known.gram[:count, :count])
    left = known.towards[count:] - cross @ explained @ known.towards[:count]
    gram = gram - cross @ explained @ cross.T
    places, moves = boost(lambda place, _: gram[place], gram.diagonal(), left, _prices(small, options), steps)
    effects = torch.zeros_like(left).index_add_(0, places, moves)
    own = known[first]
    own = replace(own, towards=own.towards - effects @ cross)
    others = None if ends is None else (ends[0], ends[1] - float(effects.sum()))
    return torch.cat([least_squares(own, others), effects])


def _dictionary(masks: Masks, values: Tensor, terms: Sequence[Term], options: DecompositionOptions) -> _Dictionary:
    """Return the candidates that correlate best with what selected terms leave of values."""
    selected = torch.cat([masks.present.new_ones(1, len(values)), activity(masks, terms)])
    inverse = inverse_of(selected.double() @ selected.T.double())
    explained = inverse @ (selected.double() @ values)
    residual = (values - explained @ selected.double()).float()
    n = masks.present.shape[1]
    near = [*relatives(terms, options), *extensions(masks, residual, terms, options, _GROWN)]
    wanted = dict.fromkeys([*(((i,), False) for i in range(n)), *near, *scan(masks, residual, options)])
    selected_terms = set(terms)
    every = [term for term in wanted if term not in selected_terms]
    columns = activity(masks, every)
    of_columns = inverse @ (selected @ columns.T).double()
    columns -= of_columns.float().T @ selected
    sums, squares = columns @ residual, columns.square().sum(1)
    scores = sums.abs() / squares.clamp(min=LEAST_COUNT).sqrt() / _prices(every, options)
    scores = torch.where(squares >= LEAST_COUNT, scores, 0.0)
    kept = scores.topk(min(len(every), _MOST_TERMS, _MOST_NUMBERS // len(values))).indices.sort().values
    return _Dictionary(
        [every[place] for place in kept.tolist()],
        columns[kept],
        residual,
        torch.cat([of_columns[:, kept], explained[:, None]], 1),
    )


def _prices(terms: Sequence[Term], options: DecompositionOptions) -> Tensor:
    return torch.tensor([price(len(players), is_or, options) for players, is_or in terms], device="cpu")
