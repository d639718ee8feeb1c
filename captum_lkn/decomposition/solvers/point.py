"""Primal and dual unknowns of an interior point for a batch of tables, over the few effects in play.

Every effect in play is the difference of two nonnegative parts; every row that has slack keeps its distances from both
ends of it. Effects that the dual vector prices above their weight join as it goes, so that the result is an optimum
over all effects although the linear systems only know some.
"""

from __future__ import annotations

import torch
from torch import Tensor

from captum_lkn.decomposition import lattice
from captum_lkn.decomposition.solvers.newton import WHOLE_MAX_PLAYERS, Columns, SampledColumns
from captum_lkn.decomposition.solvers.problem import Problem, adjoint

__all__ = ["LARGE_MIN_PLAYERS", "UNKNOWNS", "Point"]

UNKNOWNS = "primal", "multipliers", "constant", "end_dual"  # the attributes of a point that a step moves

_START = 0.15  # the first barrier, relative to the sum that is minimised
_START_COLD = 1.0  # the same where nothing near the optimum is known
_NEAR = 1.0  # an effect starts in play when the dual vector presses it to this share of its weight
_KEEP = 0.8  # the same for an effect that ADMM left nonzero
# So many effects are in play at the start at least, or a share of the sets where that is less. With the few dozen of a
# very sparse table the dual vector is undetermined near the end, and hundreds join that are not needed: of a network's
# table of 10 players, with 11 effects, 1,455, which took 1.8 s instead of .1.
_LEAST, _LEAST_SHARE = 200, 0.25
_ADMIT = 100  # how many effects may join in a step
_ADMIT_SAMPLED = 10  # the same where only some rows count: a dual vector of few rows presses many effects
_START_SAMPLED = 400  # effects in play at the start there
# From so many players on a factorisation takes so much longer than a solution with it that a step is corrected
# until it goes no further, and where most effects would be in play, all are.
LARGE_MIN_PLAYERS = 11
_MOST = 0.9  # as many effects in play as this share of the rows


class Point:
    """Primal and dual unknowns of a batch of tables; ``interior`` improves them.

    ``primal [B, 2, k + m]`` holds the positive and the negative part of each of the k effects in play, then the
    distances of each of the m rows with slack from its lower and its upper end. ``multipliers``, of the same shape,
    holds what each of them is priced with, so that the dual vector at a row with slack is the difference of its two.
    All entries stay positive, and the product of each with its multiplier goes to 0.
    """

    def __init__(
        self,
        problem: Problem,
        effects: Tensor,
        dual: Tensor,
        *,
        exact: bool,
        by_rows: bool,
        sample: Tensor | None = None,
        cold: bool = False,
    ) -> None:
        """Start near an approximate optimum, or far from it in the middle of the feasible points.

        Args:
            problem: ``values [B, 2^n]``.
            effects: ``[B, 2, 2^n]``, roughly optimal; need not be feasible.
            dual: ``[B, 2^n]``, roughly optimal.
            exact: Whether every row is to be met exactly, whatever its slack.
            by_rows: Whether to solve for rows instead of effects; with slack only where the ends are pinned.
            sample: For one table, the only rows that count, ascending, with both ends; None: all.
            cold: Whether all AND effects take part, which can meet the rows, from a dual vector of 0. This takes more
                steps than a start near the optimum, but leads there from anywhere.
        """
        self.n, self.sample, self.exact, self.by_rows = problem.n, sample, exact, by_rows
        if sample is not None:
            values, slack = problem.values[:, sample], problem.slack[:, sample]
            problem, dual = Problem(values, slack, problem.weights, problem.ridge, problem.pinned), dual[:, sample]
        self.problem = problem
        self.large = self.n >= LARGE_MIN_PLAYERS
        size = dual.shape[-1]
        # Rows with slack, and rows that must be met exactly: all nonempty ones, the full set, or none.
        self.rows = slice(1, 1) if exact else slice(1, size - 1) if problem.pinned else slice(0, size)
        self.ends = slice(1, size) if exact else slice(size - 1, size) if problem.pinned else slice(0, 0)
        self.slack = problem.slack[:, self.rows]
        self.weights = problem.weights.expand(len(dual), 2, 1 << self.n).flatten(1)
        self.constant = problem.values.new_zeros(len(dual))
        self.end_dual = dual[:, self.ends].clone()
        self.signs = dual.new_tensor([[1.0], [-1.0]])
        self.length = problem.values.new_ones(len(dual))  # of the last step, the longer of primal and dual
        self.next_sums: Tensor | None = None  # the sums of the dual vector after the step, where they are known
        self.aimed = torch.zeros_like(self.weights)  # the sums of the dual vector that the last step aimed at
        if cold:
            self._start_cold(effects, self._pressed_enough(effects.flatten(1), self.adjoint(dual).flatten(1)))
        else:
            self._start(effects.flatten(1), dual)

    def _start(self, effects: Tensor, dual: Tensor) -> None:
        sums = self.adjoint(dual).flatten(1)
        self._choose(self._pressed_enough(effects, sums))
        x = self.columns.take(effects)
        total = self.columns.total(self.prices * x.abs())
        self.barrier = _START * total.clamp_min(1e-3) / self.count
        self._set(self._centre(x, self.prices, self.columns.take(sums), self.barrier), dual[:, self.rows])

    def _start_cold(self, effects: Tensor, in_play: Tensor) -> None:
        ands = torch.zeros_like(self.weights, dtype=torch.bool)
        ands[:, 1 : ands.shape[1] // 2] = True
        self._choose(in_play | ands)
        x = self.columns.spread(self.columns.take(effects))
        missed = self.problem.excess(x)
        missed[:, 0] = 0
        x[:, 0] += lattice.and_transform(missed)
        x = self.columns.take(x)
        total = self.columns.total(self.prices * x.abs())
        self.barrier = _START_COLD * total.clamp_min(1e-3) / self.count
        # A dual vector of 0 presses no effect, so that each multiplier is the weight.
        both = (self.barrier.unsqueeze(-1) / self.prices).unsqueeze(1) + (self.signs * x.unsqueeze(1)).clamp_min(0)
        self.end_dual = torch.zeros_like(self.end_dual)
        self._set((both, self.prices.unsqueeze(1).expand_as(both)), torch.zeros_like(self.slack))

    def _pressed_enough(self, effects: Tensor, sums: Tensor) -> Tensor:
        """Return the effects that start in play, bool ``[B, 2 * 2^n]``."""
        pressed = sums.abs() / self.weights
        exists = torch.isfinite(self.weights)
        if self.by_rows or self.n <= WHOLE_MAX_PLAYERS:
            in_play = exists
        else:
            in_play = exists & ((pressed > _NEAR) | (effects != 0) & (pressed > _KEEP))
            if self.sample is None:
                number = min(_LEAST, 1 + int(_LEAST_SHARE * (1 << self.n)))
                in_play |= exists & (pressed > 0) & _strongest(pressed.masked_fill(~exists, 0), number)
            else:
                least = pressed.topk(min(_START_SAMPLED, pressed.shape[1])).values[:, -1:]
                in_play &= pressed > least
            in_play[:, : in_play.shape[1] // 2] |= lattice.orders(self.n, device=sums.device) == 1
            if self.sample is None and self.problem.pinned and self.large:
                in_play |= exists & (in_play.sum(-1, keepdim=True) > _MOST * self.problem.values.shape[-1])
        return in_play

    def _set(self, of_effects: tuple[Tensor, Tensor], y: Tensor) -> None:
        """Take parts and multipliers, and put the rows where the barrier alone would put them for a dual vector."""
        parts, multipliers = of_effects
        mu, slack = self.barrier.unsqueeze(-1), self.slack
        root = (mu * mu + (y * slack).square()).sqrt()
        offset = y * slack.square() / (mu + root)
        distances = torch.stack([slack + offset, slack - offset], dim=1).maximum(slack.unsqueeze(1) * 1e-3)
        self.primal = torch.cat([parts, distances], dim=-1)
        self.multipliers = torch.cat([multipliers, mu.unsqueeze(-1) / distances], dim=-1)

    def _choose(self, in_play: Tensor) -> None:
        """Take the given effects into play."""
        columns = Columns(in_play, self.n) if self.sample is None else SampledColumns(in_play, self.n, self.sample)
        self.columns, self.width = columns, columns.positions.shape[1]
        # Padding has the weight 1, so that nothing is divided by 0 or infinite.
        self.prices = self.weights.gather(1, columns.positions).masked_fill(~columns.inside, 1.0)
        self.in_play = columns.inside.sum(-1)  # [B]
        self.count = 2 * (self.in_play + self.slack.shape[1])

    def adjoint(self, dual: Tensor) -> Tensor:
        """Z' y for ``y [B, rows]``: ``[B, 2, 2^n]``."""
        if self.sample is None:
            return adjoint(dual)
        everywhere = dual.new_zeros(len(dual), 1 << self.n)
        everywhere[:, self.sample] = dual
        return adjoint(everywhere)

    def pressing(self, dual: Tensor) -> Tensor:
        """Z' y at the effects in play, ``[B, k]``."""
        if isinstance(self.columns, SampledColumns):
            return self.columns.adjoint(dual)
        return self.columns.take(self.adjoint(dual))

    def _centre(self, x: Tensor, weights: Tensor, sums: Tensor, barrier: Tensor) -> tuple[Tensor, Tensor]:
        """Parts and multipliers near the path for effects x whose columns the dual vector presses with ``sums``."""
        slope = weights.unsqueeze(1) + self.signs * (self.problem.ridge * x - sums).unsqueeze(1)
        part = (self.signs * x.unsqueeze(1)).clamp_min(0)
        mu = barrier.view(-1, 1, 1)
        price = slope.maximum((mu / part.clamp_min(1e-12)).minimum(mu.sqrt()))
        return part.maximum(mu / price), price

    def __len__(self) -> int:
        return len(self.end_dual)

    @property
    def together(self) -> bool:
        """True where the systems of all tables are factored together: where they have one size, or on a GPU."""
        alone = len(self) == 1 and not self.columns.padded
        return alone or self.n <= WHOLE_MAX_PLAYERS or self.dual.device.type != "cpu"

    def keep(self, tables: Tensor) -> None:
        """Go on with some of the tables, an index tensor, alone."""
        self.problem = self.problem[tables]
        self.columns = self.columns[tables]
        for name in (*UNKNOWNS, "slack", "weights", "prices", "in_play", "count", "barrier", "aimed", "length"):
            setattr(self, name, getattr(self, name)[tables])

    def refresh(self) -> None:
        """Compute the effects, the dual vector, its sums, and what each row misses, at this point."""
        self.dual = self.dual_of(self.multipliers, self.end_dual)
        # Of the nonempty sets, for which the entry of the empty set is nothing.
        self.sums = self.adjoint(self.dual) if self.next_sums is None else self.next_sums
        self.next_sums = None
        self._measure()

    def dual_of(self, multipliers: Tensor, end_dual: Tensor) -> Tensor:
        """Return the dual vector ``[B, 2^n]`` of multipliers, or its change for their change."""
        of_rows = multipliers[..., self.width :]
        dual = torch.zeros_like(self.problem.values)
        dual[:, self.rows] = of_rows[:, 1] - of_rows[:, 0]
        dual[:, self.ends] = end_dual
        return dual

    def _measure(self) -> None:
        parts = self.primal[..., : self.width]
        self.x = self.columns.only_inside(parts[:, 0] - parts[:, 1])
        self.missed = self.problem.values - self.constant.unsqueeze(-1) - self.columns.synthesis(self.x)
        self.missed[:, : self.rows.start] = 0
        self.products = self.only_inside(self.primal * self.multipliers)

    def only_inside(self, entries: Tensor) -> Tensor:
        """Entries ``[B, 2, k + m]`` with 0 at the padding of the columns."""
        if not self.columns.padded:
            return entries
        there = torch.nn.functional.pad(self.columns.inside, (0, self.slack.shape[1]), value=True)
        return entries * there.unsqueeze(1)

    def distance(self) -> Tensor:
        """The complementarity products against the sum that is minimised, ``[B]``."""
        total = self.columns.total(self.prices * self.x.abs())
        return self.total(self.products) / total.clamp_min(1e-300)

    def total(self, entries: Tensor) -> Tensor:
        """The sum of entries ``[B, 2, k + m]``, 0 at the padding, for each table, ``[B]``."""
        both = entries.sum(1)
        return self.columns.total(both[:, : self.width]) + both[:, self.width :].sum(-1)

    def guess(self) -> tuple[Tensor, Tensor]:
        """Effects ``[B, 2, 2^n]`` and dual vectors ``[B, 2^n]``, 0 where the multipliers say so.

        An effect and its multiplier, a distance and its own, are compared in units of what is usual for each: the
        largest effects against weights, the slack against the largest entries of the dual vector.
        """
        tiny = torch.finfo(self.dual.dtype).tiny
        total = self.columns.total
        per_price = total(self.x.square()) / total(self.prices * self.x.abs()).clamp_min(tiny)
        parts, prices = self.primal[..., : self.width], self.multipliers[..., : self.width]
        support = (parts > per_price.view(-1, 1, 1) * prices).any(1)
        dual = self.dual.clone()
        if not self.exact:
            y = dual[:, self.rows]
            per_slack = y.square().sum(-1) / (self.slack * y.abs()).sum(-1).clamp_min(tiny)
            distances, pressures = self.primal[..., self.width :], self.multipliers[..., self.width :]
            dual[:, self.rows] = y * (pressures > per_slack.view(-1, 1, 1) * distances).any(1)
        return self.columns.spread(self.x * support), dual

    def admit(self) -> None:
        """Take effects into play that the dual vector, or the one that was aimed at, presses beyond their weight."""
        if self.by_rows:
            return
        pressed = self.sums.flatten(1).abs().maximum(self.aimed.abs()) / self.weights
        pressed.scatter_(1, self.columns.positions, 0.0)
        pressed[:, 0] = 0
        new = pressed > 1
        if not bool(new.any()):
            return
        limit = _ADMIT if self.sample is None else _ADMIT_SAMPLED
        new &= _strongest(pressed, limit)
        old, width = self.columns, self.width
        was = torch.zeros_like(new).scatter_(1, old.positions, old.inside)
        self._choose(was | new)
        self.columns.take_over(old)
        nothing = torch.zeros_like(self.prices)
        start = self._centre(nothing, self.prices, self.columns.take(self.sums), self.barrier)
        before = old.positions.unsqueeze(1).expand(-1, 2, -1)
        after = self.columns.positions.unsqueeze(1).expand(-1, 2, -1)
        padding = ~self.columns.inside.unsqueeze(1)
        for name, new_entries in zip(("primal", "multipliers"), start, strict=True):
            known = getattr(self, name)
            everywhere = known.new_zeros(len(known), 2, pressed.shape[1])
            everywhere.scatter_(2, after, new_entries).scatter_(2, before, known[..., :width])
            entries = everywhere.gather(2, after).masked_fill(padding, 1.0)
            setattr(self, name, torch.cat([entries, known[..., width:]], dim=-1))
        self._measure()


def _strongest(pressed: Tensor, number: int) -> Tensor:
    """Return the effects of each table that are pressed most, bool ``[B, effects]``; no more, where some are alike."""
    strongest = pressed.topk(min(number, pressed.shape[1]), dim=1).indices
    return torch.zeros_like(pressed, dtype=torch.bool).scatter_(1, strongest, True)
