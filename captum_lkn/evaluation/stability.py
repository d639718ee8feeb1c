"""Interactions under noise on the inputs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor

from captum_lkn._common.accessors import Accessor
from captum_lkn._common.arguments import checked
from captum_lkn._common.checks import check_numbers, check_plain, is_number, is_whole
from captum_lkn._common.messages import kind_of
from captum_lkn._common.progress import Bar, is_hidden
from captum_lkn._common.warn import warn
from captum_lkn.attribution.base import InputsOrList
from captum_lkn.decomposition.effects import TAU, Effects
from captum_lkn.evaluation.bootstrap import CONFIDENCE, RESAMPLES, Resampling, bootstrap
from captum_lkn.evaluation.by_order import ByOrder, chosen, highest_order, sums_by_order
from captum_lkn.evaluation.saved import check_count
from captum_lkn.interactions import InteractionsBatch
from captum_lkn.interactions.about import targets_of
from captum_lkn.knowledge.comparison import Scope, check_salience, thresholds
from captum_lkn.outputs.targets import TargetLike
from captum_lkn.players.players import Players
from captum_lkn.players.prepare import Baselines, FeatureMask, PlayerNames, prepare

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["DRAWS", "NOISE_SD", "Stability", "stability"]

DRAWS: Final = 20
NOISE_SD: Final = 0.02
"""The paper's standard deviation of the noise on an image."""

_LARGEST_SD: Final = 1e30  # more overflows float32
_ROUNDING: Final = 1e-12
_SCALARS: Final = 1 << 25  # of noisy inputs in one call: 128 MiB of float32


@checked()
@dataclass(frozen=True, eq=False, repr=False)
class Stability(ByOrder):
    """Stability of interactions under noise on the inputs, by kind and order; made by :func:`stability`.

    Attributes:
        input_noise: The relative size of the noise on the players of a set, as `samples`: float64 ``[B, 3, m + 1]``.
        sd: The standard deviation of the noise.
        draws: The number of draws.
        tau: The threshold of salience, on the clean inputs.
        scope: Over what the largest effect is taken.
    """

    input_noise: Tensor
    sd: float = NOISE_SD
    draws: int = DRAWS
    tau: float = TAU
    scope: Scope = "dataset"

    plot = Accessor("captum_lkn.plot.accessors", "BY_ORDER")
    """Pictures as methods, such as ``found.plot.by_order()``; see :mod:`captum_lkn.plot`."""

    def input_noise_by_order(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the mean of the relative input noise over the samples, and both ends of its interval.

        Returns:
            ``[3, m + 1]`` each, with the rows and columns of ``values``.
        """
        return bootstrap(self.input_noise, None, self.resampling)

    def to_frame(self) -> pd.DataFrame:
        """Return the rows as a data frame.

        Returns:
            A DataFrame with the columns of :class:`captum_lkn.evaluation.OrderRow`, and ``input_noise``, the mean of
            the relative input noise.

        Raises:
            ImportError: If pandas is not installed.
        """
        return super().to_frame().assign(input_noise=self.input_noise_by_order()[0].flatten().tolist())

    @property
    def _form(self) -> str:
        return ".1f"

    def _check(self) -> None:
        super()._check()
        check_salience(self.tau, self.scope)
        check_count("draws", self.draws, 2)
        check_numbers("input_noise", self.input_noise, tuple(self.samples.shape), nan=True)
        if not is_number(self.sd) or not 0 < self.sd < math.inf:
            raise ValueError(f"sd must be a positive number; got {self.sd!r}")

    def _title(self) -> str:
        return f"Stability of the salient interactions: |mean| / sd over {self.draws} draws of noise, sd {self.sd:g}"

    def _table(self) -> tuple[list[str], list[list[str]]]:
        header, rows = super()._table()
        noise = self.input_noise_by_order()[0][2].tolist()
        shown = [noise[-1 if row[0] == "all" else int(row[0]) - 1] for row in rows]
        return [*header, "input noise"], [[*row, f"{one:.3f}"] for row, one in zip(rows, shown, strict=True)]


@checked("draws", "seed", "show_progress")
def stability(
    method: Any,
    inputs: InputsOrList,
    baselines: Baselines = None,
    target: TargetLike = "predicted",
    additional_forward_args: Any = None,
    feature_mask: FeatureMask = None,
    perturbations_per_eval: int | None = None,
    show_progress: bool = False,
    *,
    player_names: PlayerNames = None,
    sd: float = NOISE_SD,
    draws: int = DRAWS,
    tau: float = TAU,
    scope: Scope = "dataset",
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Stability:
    r"""Measure how steady the salient interactions are under noise on the inputs, by kind and order.

    For order m, with Omega the salient interactions of the clean sample x (Eq. 10 of Cheng et al., "Layerwise Change of
    Knowledge in Neural Networks", ICML 2024)::

        stability^m = mean over S in Omega^m of |mean_e I(S|x + e)| / sd_e I(S|x + e),  e ~ N(0, sd^2),  mean over x

    The interactions of each noisy sample are extracted anew. Thresholds, sets and explained classes are those of the
    clean samples. The standard deviation has the divisor draws - 1; an effect that does not vary at all has no finite
    ratio and is left out, as is a sample without a salient interaction of the order.

    The relative size of the noise on the players of a set, \|\|e_S\|\| / \|\|x_S\|\|, is reported beside it: where it
    is flat over the orders, they differ by the network and not by the noise that reaches them.

    Args:
        method: An :class:`captum_lkn.AndOrInteraction`, or a :class:`captum_lkn.LayerAndOrInteraction` of one layer.
        inputs: As in its ``attribute``, like all up to ``player_names``; with a floating tensor. Of a text take
            :func:`captum_lkn.players_as_embeddings`. All scalars of the floating inputs get noise, those of no
            player as well; baselines get none.
        baselines: What replaces absent players.
        target: The class that is explained. The default is the one that is predicted for the clean sample.
        additional_forward_args: What else the forward gets.
        feature_mask: Which scalars form a player.
        perturbations_per_eval: Masks a forward.
        show_progress: Whether to show a bar over the draws.
        player_names: A label for each player.
        sd: The standard deviation of the noise, in the units of the inputs. The default is the paper's, of images.
        draws: The number of draws, at least 2.
        tau: The threshold of salience.
        scope: Over what the largest effect is taken: ``"dataset"`` or ``"sample"``.
        confidence: The probability of the interval, by the bootstrap over samples.
        resamples: The number of its resamples.
        seed: The seed of noise and resamples; torch's own random state is not touched.

    Returns:
        The stability by kind and order: print it, or take ``to_frame()``.

    Raises:
        TypeError: Something is not of its type; there is no floating input.
        ValueError: An option is out of range, or an argument does not fit; the noise is below the spacing of most of
            the players' scalars in their dtype, which would round it away.

    Warns:
        UserWarning: It is below the spacing of some of them.

    Example:
        >>> from captum_lkn import AndOrInteraction
        >>> method = AndOrInteraction(lambda x: x[:, 0] + x[:, 1] * x[:, 2], score="logit", noise=0)
        >>> found = stability(method, torch.ones(1, 3), target=None, sd=0.1)
        >>> one, two = found.values[0, :2].tolist()  # of 1 + e, and of (1 + e) (1 + e'), which varies more
        >>> 5 < two < one < 20
        True
        >>> found.input_noise_by_order()[0][0, :2].round(decimals=1)
        tensor([0.1000, 0.1000], dtype=torch.float64)
    """
    check_salience(tau, scope)
    resampling = Resampling(confidence, resamples, seed).check()
    _check(method, target, sd, draws)
    sd = float(sd)
    several: list[Any] = list(inputs) if isinstance(inputs, list) else [inputs]
    given = baselines, additional_forward_args, feature_mask, player_names
    tokenizer = getattr(method, "_tokenizer", None)
    players = [prepare(one, *given, tokenizer)[0] for one in several]
    names = [_floating(one) for one in players]
    for each, places in zip(players, names, strict=True):
        _check_spacing(each, places, sd)

    def extract(of: list[Players], chosen_target: TargetLike) -> InteractionsBatch:
        arguments: dict[str, Any] = {"additional_forward_args": additional_forward_args}
        batch = method.attribute(of, target=chosen_target, perturbations_per_eval=perturbations_per_eval, **arguments)
        if not isinstance(batch, InteractionsBatch):
            raise TypeError(f"method.attribute must return an InteractionsBatch; got {kind_of(batch)}. Give one layer")
        return batch

    clean = extract(players, target)
    if len(clean) != sum(map(len, players)):
        raise ValueError("inputs must give one value a sample; got one a batch. Give a model whose rows are samples")
    targets: Any = targets_of(one.provenance for one in clean) if _is_one_each(target) else target
    limits = thresholds([one.effects for one in clean], tau, scope)
    salient = [chosen(one.effects, limit, None) for one, limit in zip(clean, limits, strict=True)]
    generator = torch.Generator("cpu").manual_seed(seed)
    drawn: list[list[Tensor]] = [[] for _ in salient]
    noise: list[list[Tensor]] = [[] for _ in salient]
    together = max(1, _SCALARS // sum(x.numel() for one in players for x in one.inputs))  # draws in one call
    with Bar(total=draws, desc="draws of noise", disable=is_hidden(show_progress)) as bar:
        for first in range(0, draws, together):
            count = min(together, draws - first)
            noisy = [
                [_with_noise(one, places, sd, generator) for one, places in zip(players, names, strict=True)]
                for _ in range(count)
            ]
            of_all = targets * count if isinstance(targets, list) else targets
            found = extract([one for copies in noisy for one in copies], of_all)
            for place, one in enumerate(found):
                sample = place % len(clean)
                drawn[sample].append(one.effects.at(salient[sample]))
            for copies in noisy:
                for sample, size in enumerate(_relative_noise(players, copies, names, salient)):
                    noise[sample].append(size)
            bar.update(count)
    highest = highest_order(clean)
    return Stability(
        torch.stack([_mean(one, _ratios(of), highest) for one, of in zip(salient, drawn, strict=True)]),
        torch.stack([_mean(one, torch.stack(of).mean(0), highest) for one, of in zip(salient, noise, strict=True)]),
        sd=float(sd),
        draws=int(draws),
        tau=float(tau),
        scope=scope,
        resampling=resampling,
    )


def _is_one_each(target: Any) -> bool:
    """Return whether a target is one for each sample: a list, or an array of several."""
    return isinstance(target, str | list) or len(getattr(target, "shape", ())) > 0


def _check(method: Any, target: Any, sd: Any, draws: Any) -> None:
    if not callable(getattr(method, "attribute", None)):
        raise TypeError(f"method must have attribute, such as AndOrInteraction(model); got {kind_of(method)}")
    if isinstance(target, Tensor):
        check_plain("target", target)
    if not is_number(sd) or not 0 < sd <= _LARGEST_SD:
        raise ValueError(f"sd must be a positive number of at most {_LARGEST_SD:g}; got {sd!r}")
    if not is_whole(draws) or draws < 2:
        raise ValueError(f"draws must be a whole number, at least 2; got {draws!r}")


def _floating(players: Players) -> list[int]:
    """Return the places of the inputs that can get noise."""
    places = [place for place, x in enumerate(players.inputs) if x.is_floating_point()]
    if not places and players.decode is not None:
        raise TypeError(
            "inputs must be a tensor to get noise; got a table or a template, from which the model's rows are made. "
            "Give numbers as a tensor"
        )
    if not places:
        raise TypeError(
            f"inputs must be floating to get noise; got {', '.join(map(kind_of, players.inputs))}. Of a text give "
            "players_as_embeddings(model, players)"
        )
    return places


def _check_spacing(players: Players, places: Sequence[int], sd: float) -> None:
    """Refuse noise that the dtype would round away, or warn where it does so for few scalars."""
    for place in places:
        x = players.inputs[place].detach()
        own = x[players.owners[place] >= 0].double()
        if not own.numel():
            continue
        spacing = torch.finfo(x.dtype).eps * torch.exp2(torch.frexp(own).exponent.double() - 1)
        lost = float((spacing > sd).double().mean())
        text = (
            f"sd must be above the spacing of the inputs in {x.dtype}, or the noise is rounded away; got {sd:g}, below "
            f"that of {lost:.0%} of the scalars (up to {float(spacing.max()):g}). Give inputs of a dtype of more bits, "
            "or a larger sd"
        )
        if lost > 0.5:
            raise ValueError(text)
        if lost:
            warn(text)


def _with_noise(players: Players, places: Sequence[int], sd: float, generator: torch.Generator) -> Players:
    """Return the same players with noise on their floating inputs; the baselines stay."""
    inputs = list(players.inputs)
    for place in places:
        x = inputs[place]
        inputs[place] = x + sd * torch.randn(x.shape, generator=generator, device="cpu").to(x)
    return replace(players, inputs=tuple(inputs))


def _relative_noise(
    players: Sequence[Players], noisy: Sequence[Players], names: Sequence[Sequence[int]], salient: Sequence[Effects]
) -> list[Tensor]:
    """Return for each sample and salient set the size of the noise on its players relative to theirs, ``[k]``."""
    found: list[Tensor] = []
    for one, other, places in zip(players, noisy, names, strict=True):
        for sample in range(len(one)):
            effects = salient[len(found)]
            squares = torch.zeros(2, effects.n, dtype=torch.float64, device="cpu")
            for place in places:
                owner, x, y = one.owners[place][sample], one.inputs[place][sample], other.inputs[place][sample]
                own = (owner >= 0).cpu()
                for row, part in enumerate((y - x, x)):
                    squares[row].index_add_(0, owner.cpu()[own], part.detach().cpu().double().square()[own])
            sums = squares @ effects.members.T.double()
            found.append((sums[0] / sums[1]).sqrt())
    return found


def _ratios(drawn: Sequence[Tensor]) -> Tensor:
    """Return |mean| / sd of each effect over the draws; NaN where it does not vary."""
    every = torch.stack(list(drawn))
    mean, deviation = every.mean(0).abs(), every.std(0)
    return torch.where(deviation > _ROUNDING * mean, mean / deviation, math.nan)


def _mean(effects: Effects, numbers: Tensor, highest: int) -> Tensor:
    """Return the mean of numbers, one an effect, by kind and order, without those that are not finite."""
    known = numbers.isfinite()
    sums = sums_by_order(effects, torch.where(known, numbers, 0.0), highest)
    return sums / sums_by_order(effects, known.double(), highest)
