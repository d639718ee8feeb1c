"""Dry run of a method: its work is counted, and its time estimated by a few forwards and one decomposition."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import torch
from torch import Tensor

from captum_lkn._common import html
from captum_lkn._common.arguments import Count, Positive, checked
from captum_lkn._common.formats import percent
from captum_lkn._common.limits import MAX_PLAYERS
from captum_lkn._common.messages import count_of
from captum_lkn.attribution.sampling import Sampling
from captum_lkn.decomposition import lattice
from captum_lkn.decomposition.decompose import decompose
from captum_lkn.decomposition.options import DecompositionOptions
from captum_lkn.models.model import Model
from captum_lkn.outputs.score import Score
from captum_lkn.sampling.fit import fit_sampled
from captum_lkn.sampling.masks import plan_masks
from captum_lkn.values.plans import EvaluationPlan, plan_values
from captum_lkn.values.sources import Source
from captum_lkn.values.tables import Request

__all__ = ["Plan", "plan_of"]

_LONG: Final = 60.0  # seconds from which on shorter ways are named
_FEWER: Final = 12  # players that are decomposed in a moment
_TRIED: Final = 10  # players of the table that is tried; each further player takes twice as long
_TOGETHER: Final = 4  # tables of it
_SAVED: Final = {
    "prefix tree": "without the prefix tree",
    "removed tokens dropped": "if removed words were computed",
}
_BATCHES: Final = 4  # a quarter of the masks is tried; with four times as many a fit took 2.2 and 3.5 times as long


@checked()
@dataclass(frozen=True, eq=False, repr=False)
class Plan:
    """Work, memory and time of a call of ``attribute`` or ``analyze``; made by their methods ``plan``.

    Attributes:
        samples: The number of samples.
        players: The smallest and the largest number of players of a sample.
        layers: The number of places that are read, the output among them.
        n_samples: The sampled masks of each sample; None: all 2^n.
        masks: The number of masked copies.
        forwards: The number of forwards, those of the checks and of the unmasked samples included.
        rows: The most masked copies of a forward.
        tokens: The tokens of all forwards; None where the inputs are not tokens.
        plain_tokens: The tokens without a prefix tree, and with removed words computed.
        evaluation: ``"plain"``, ``"removed tokens dropped"`` or ``"prefix tree"``; that of most samples.
        memory: Bytes that a forward takes at its peak besides the model, as far as single operations show them.
        table_memory: Bytes of the values.
        forward_seconds: Seconds of the forwards.
        solver_seconds: Seconds of the decomposition, or of the fits to sampled masks.
        tried: The number of samples whose forwards were tried. The others are taken to be alike, so that counts are
            exact where all were tried.
        advice: Shorter ways, a sentence each.
    """

    samples: Positive
    players: tuple[int, int]
    layers: Positive
    n_samples: Positive | None
    masks: Count
    forwards: Count
    rows: Count
    tokens: Count | None
    plain_tokens: Count | None
    evaluation: str
    memory: Count
    table_memory: Count
    forward_seconds: float
    solver_seconds: float
    tried: Count
    advice: tuple[str, ...]

    def __post_init__(self) -> None:
        if not 1 <= self.players[0] <= self.players[1]:
            raise ValueError(f"players must be the smallest number and the largest, from 1 on; got {self.players}")
        for name in ("forward_seconds", "solver_seconds"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative; got {getattr(self, name)}")

    @property
    def seconds(self) -> float:
        """Seconds of forwards and solver."""
        return self.forward_seconds + self.solver_seconds

    @property
    def solver_share(self) -> float:
        """The share of the solver in the time."""
        return self.solver_seconds / self.seconds if self.seconds else 0.0

    def _caption(self) -> str:
        low, high = self.players
        players = count_of(high, "player") if low == high else f"{low} to {high} players"
        layers = f", {self.layers} places of the model" if self.layers > 1 else ""
        return f"Plan of {count_of(self.samples, 'sample')}, {players}{layers}"

    def _table(self) -> list[list[str]]:
        kind = "all"
        if self.n_samples is not None:  # short samples have fewer in all
            most = "" if self.masks == self.samples * self.n_samples else "at most "
            kind = f"{most}{self.n_samples} sampled of each sample"
        rows = [
            ["masks", f"{self.masks:,}, {kind}"],
            ["forwards", f"{self.forwards:,}, of up to {count_of(self.rows, 'row')}"],
        ]
        if self.tokens is not None and self.plain_tokens is not None:
            saved = f"; {self.plain_tokens:,} {_SAVED[self.evaluation]}" if self.evaluation in _SAVED else ""
            rows.append(["tokens", f"{self.tokens:,}{saved}"])
        rows += [
            ["memory", f"{_bytes(self.memory)} a forward, {_bytes(self.table_memory)} of values"],
            ["time", f"{_time(self.seconds)}, {percent(self.solver_share)} of it for the solver"],
            ["tried", f"forwards of {self.tried} of {count_of(self.samples, 'sample')}"],
        ]
        return rows

    def __repr__(self) -> str:
        lines = [f"{name:10}{text}" for name, text in self._table()]
        return "\n  ".join([self._caption(), *lines, *self.advice])

    def _repr_html_(self) -> str:
        table = html.table([self._caption()], ["", "about"], self._table(), texts=["", "about"])
        return html.join([table, html.lines(self.advice)])


def plan_of(
    model: Model,
    requests: Sequence[Request],
    score: Score,
    options: DecompositionOptions,
    sampling: Sampling | None,
    perturbations_per_eval: int | None,
    sources: Sequence[Source] = (Source(),),
) -> Plan:
    """Plan a call of ``attribute``.

    Args:
        model: The model.
        requests: The samples, with their targets.
        score: From outputs and targets to values.
        options: The options of the decomposition.
        sampling: The masks to sample; None: all 2^n. Where these are too many, the plan is of sampled masks, and says
            so.
        perturbations_per_eval: Masks a forward, times the number of samples; None: by a rule.
        sources: What is read.

    Returns:
        The plan.
    """
    sizes = [n for request in requests for n in request.players.sizes]
    advice = []
    if sampling is None and max(sizes) > MAX_PLAYERS:
        sampling = Sampling(max(4000, 100 * max(sizes)), 0, None)
        advice.append(
            f"{max(sizes)} players are too many for all masks, at most {MAX_PLAYERS} are. This is the plan with "
            f"n_samples={sampling.n_samples}; or let select_players choose fewer players"
        )
    found = plan_values(
        model,
        requests,
        score=score,
        n_samples=None if sampling is None else sampling.n_samples,
        seed=0 if sampling is None else sampling.seed,
        sources=sources,
        perturbations_per_eval=perturbations_per_eval,
    )
    per_table = _solver_seconds(sizes, options, sampling)
    plan = Plan(
        len(sizes),
        (min(sizes), max(sizes)),
        len(sources),
        None if sampling is None else sampling.n_samples,
        found.masks,
        found.work.forwards,
        found.rows,
        found.work.tokens if found.has_tokens else None,
        found.work.plain_tokens if found.has_tokens else None,
        _evaluation(found, len(sizes)),
        found.memory,
        8 * found.masks * len(sources),
        found.seconds,
        len(sources) * per_table,
        found.tried,
        (),
    )
    return replace(plan, advice=(*advice, *_advice(plan, found, sizes, model, requests)))


def _evaluation(found: EvaluationPlan, samples: int) -> str:
    if 2 * found.shared > samples:
        return "prefix tree"
    return "removed tokens dropped" if found.dropped else "plain"


def _advice(
    plan: Plan, found: EvaluationPlan, sizes: Sequence[int], model: Model, requests: Sequence[Request]
) -> list[str]:
    """Return shorter ways, as sentences."""
    advice = []
    if found.whole_batch:
        advice.append("The forward gives one value for the whole batch, so that each mask takes a forward of its own")
    if found.reasons:
        advice.append(f"Prefixes of prompts are not shared: {'; '.join(found.reasons)}")
    if plan.seconds < _LONG:
        return advice
    if plan.n_samples is None and max(sizes) > _FEWER:
        share = sum(1 << min(n, _FEWER) for n in sizes) / sum(1 << n for n in sizes)
        advice.append(
            f"Fewer players: select_players(model, players, {_FEWER}) takes about {_time(share * plan.seconds)}; each "
            "player less halves the time"
        )
        masks = max(4000, 100 * max(sizes))
        share = sum(min(1 << n, masks) for n in sizes) / sum(1 << n for n in sizes)
        if share < 1:
            advice.append(f"Sampled masks: n_samples={masks} takes {percent(share)} of the forwards")
    names = {name for request in requests for name in request.players.names or ()}
    if "input_ids" in names and "position_ids" in model.parameters and not found.shared and not found.reasons:
        advice.append(
            "Removal: text_players(..., removal=True) leaves absent words out instead of masking them, with about half "
            "of their tokens. It is another question: the words are gone"
        )
    return advice


def _solver_seconds(sizes: Sequence[int], options: DecompositionOptions, sampling: Sampling | None) -> float:
    """Return about how many seconds the decomposition takes for one place, by one of made-up values."""
    generator = torch.Generator("cpu").manual_seed(0)
    options = replace(options, kappa=None)  # is in units of the real values
    if sampling is None:
        largest = max(sizes)
        n = min(largest, _TRIED)
        masks = lattice.members(torch.arange(1 << n, device="cpu"), n)
        tables = torch.stack([_planted(masks, generator) for _ in range(min(_TOGETHER, len(sizes)))])
        start = time.perf_counter()
        _quietly(decompose, tables, options=options)
        per_table = (time.perf_counter() - start) / len(tables)
        return sum(per_table * 2.0 ** (own - n) for own in sizes)
    n = max(sizes)
    count = max(sampling.n_samples // _BATCHES, min(sampling.n_samples, 10 * n + 100))
    plan = plan_masks(n, count, generator)
    counts = [len(masks) for masks in plan]
    fitted, uniform, all_sizes = torch.split(_planted(torch.cat(plan), generator), counts)
    start = time.perf_counter()
    _quietly(fit_sampled, plan, (fitted, uniform, all_sizes), options, max_effects=sampling.max_effects)
    seconds = time.perf_counter() - start
    return sum(seconds * (min(sampling.n_samples, 2.0 ** min(own, 60)) / sum(counts)) for own in sizes)


def _quietly(solve: Callable[..., object], *arguments: Any, **options: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of values that nobody asked about
        solve(*arguments, **options)


def _planted(masks: Tensor, generator: torch.Generator) -> Tensor:
    """Return the values of effects of up to three players, with noise, which a network's values are like."""
    n = masks.shape[1]
    values = torch.zeros(len(masks), dtype=torch.float64, device="cpu")
    for i in range(4 * n):
        some = torch.randperm(n, generator=generator, device="cpu")[: 1 + i % 3]
        effect = torch.randn(1, generator=generator, dtype=torch.float64, device="cpu").abs() / len(some)
        values += (effect if i % 4 else -effect) * masks[:, some].all(1)
    noise = torch.randn(len(masks), generator=generator, dtype=torch.float64, device="cpu")
    return values + 0.05 * values.std() * noise


def _bytes(size: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def _time(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.2g} s"
    if seconds < 6000:
        return f"{seconds / 60:.2g} minutes"
    hours = seconds / 3600
    return f"{hours:.2g} hours" if hours < 48 else f"{hours / 24:.0f} days"
