"""Fit terms to values by least squares, drop those that explain little, and refit without parts of the masks.

All of it happens on sums of products of columns, which are taken once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from captum_lkn.decomposition.options import DecompositionOptions
from captum_lkn.sampling.terms import Masks, Term, activity, price

__all__ = ["ROUNDING", "Products", "eliminate", "independent", "inverse_of", "least_squares", "products"]

ROUNDING: Final = 1e-12
"""The share of the squared values that is not told from what terms leave of them."""

_DEPENDENT: Final = 1e-9  # the share of a column's square outside the others, of one that depends on them


@dataclass(frozen=True)
class Products:
    """Sums over masks of products of the columns of terms, the constant first, and of the values.

    Attributes:
        gram: Float64 ``[k + 1, k + 1]``.
        towards: Float64 ``[k + 1]``, the products with the values.
        squares: The sum of the squared values.
        count: The number of masks.
    """

    gram: Tensor
    towards: Tensor
    squares: float
    count: int

    def __sub__(self, other: Products) -> Products:
        return Products(
            self.gram - other.gram,
            self.towards - other.towards,
            self.squares - other.squares,
            self.count - other.count,
        )

    def __getitem__(self, kept: Tensor) -> Products:
        """The products of some terms; `kept` has the place of the constant, 0, as well."""
        return Products(self.gram[kept][:, kept], self.towards[kept], self.squares, self.count)


def products(masks: Masks, terms: Sequence[Term], values: Tensor) -> Products:
    """Return the products of terms and of values, float64 ``[m]``, over masks in float64."""
    ones = masks.present.new_ones(1, len(values))
    columns = torch.cat([ones, activity(masks, terms)])
    return Products(columns @ columns.T, columns @ values, float(values.square().sum()), len(values))


def least_squares(known: Products, ends: tuple[float, float] | None) -> Tensor:
    """Return the constant and the effects, float64 ``[k + 1]``, that miss the values least.

    Args:
        known: The products.
        ends: v(empty) and v(N), which are then reproduced exactly, since every term counts at N and none at the empty
            mask. None: they are fitted like the others.

    Returns:
        The solution, the shortest one where terms depend on each other.
    """
    if ends is None:
        return _solve(known.gram, known.towards)
    k = len(known.gram) - 1
    if k == 0:
        return known.towards.new_tensor([ends[0]])
    start = known.towards.new_full((k + 1,), (ends[1] - ends[0]) / k)
    start[0] = ends[0]
    free = torch.linalg.qr(known.gram.new_ones(k, 1), mode="complete")[0][:, 1:]
    towards = (known.towards - known.gram @ start)[1:]
    start[1:] += free @ _solve(free.T @ known.gram[1:, 1:] @ free, free.T @ towards)
    return start


def eliminate(
    known: Products, terms: Sequence[Term], options: DecompositionOptions, *, least: float, most: int
) -> list[int]:
    """Drop terms one by one, each time that without which the values are missed least.

    Args:
        known: Their products.
        terms: k terms.
        options: Their weights divide the t-values.
        least: Terms are dropped while one has a squared t-value of at most this.
        most: And while there are more than so many.

    Returns:
        The places of those that stay, ascending.
    """
    kept = list(range(len(terms)))
    prices = known.towards.new_tensor([1.0, *(price(len(players), is_or, options) for players, is_or in terms)])
    inverse = inverse_of(known.gram)
    solution = inverse @ known.towards
    missed = max(known.squares - float(solution @ known.towards), ROUNDING * known.squares)
    while kept:
        places = torch.tensor(kept, device="cpu") + 1
        losses = solution[places].square() / inverse.diagonal()[places].clamp(min=1e-300)
        weighted = losses / prices[places].square()
        worst = int(weighted.argmin())
        noise = missed / max(known.count - len(kept) - 1, 1)
        if len(kept) <= most and float(losses[worst]) > least * noise:
            break
        place = int(places[worst])
        column, corner = inverse[:, place].clone(), float(inverse[place, place])
        missed += float(losses[worst])
        solution = solution - column * (float(solution[place]) / corner)
        inverse = inverse - torch.outer(column, column) / corner
        del kept[worst]
    return kept


def independent(gram: Tensor) -> Tensor:
    """Return the places of the columns that do not depend on those before them, from their products.

    Example:
        >>> columns = torch.tensor([[1.0, 0.0], [2.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
        >>> independent(columns @ columns.T)
        tensor([0, 2])
    """
    left = gram.clone()
    squares = gram.diagonal()
    kept = []
    for place in range(len(gram)):
        if float(left[place, place]) > _DEPENDENT * float(squares[place]):
            kept.append(place)
            left -= torch.outer(left[place], left[place]) / left[place, place]
    return torch.tensor(kept, device="cpu")


def inverse_of(gram: Tensor) -> Tensor:
    """Return the pseudo-inverse of products of columns."""
    inverse: Tensor = torch.linalg.pinv(gram, hermitian=True)
    return inverse


def _solve(gram: Tensor, towards: Tensor) -> Tensor:
    scale = gram.diagonal().clamp(min=1e-300).rsqrt()
    solution: Tensor = torch.linalg.lstsq(
        gram * scale[:, None] * scale, (towards * scale)[:, None], driver="gelsd", rcond=1e-11
    ).solution[:, 0]
    return solution * scale
