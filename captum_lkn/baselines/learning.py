"""Learn a baseline: the vector under which a few samples have the least interaction.

Interactions that a baseline adds by itself are then not attributed to the samples (Ren et al., "Can We Faithfully
Represent Absence States to Compute Shapley Values on a DNN?", ICLR 2023).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from captum_lkn._common import files
from captum_lkn._common.arguments import checked
from captum_lkn._common.checks import is_floating, is_number, is_whole
from captum_lkn._common.messages import kind_of, shape_of
from captum_lkn._common.progress import Bar, is_hidden
from captum_lkn.baselines.gradients import broadcast, settle, strength_gradient
from captum_lkn.models.arguments import fresh
from captum_lkn.models.model import Model
from captum_lkn.outputs.score import ScoreLike
from captum_lkn.outputs.scores import resolve_score
from captum_lkn.outputs.targets import TargetLike
from captum_lkn.players.players import Players
from captum_lkn.players.prepare import prepare
from captum_lkn.values.evaluator import Evaluator

__all__ = ["MAX_LEARNED", "LearnedBaseline", "learn_baseline"]

MAX_LEARNED = 10
"""More players than this are refused: every step takes a forward and a backward pass of all 2^n masks."""

_LARGEST_RATE = 1e30  # more overflows float32
_SCHEMA = "LearnedBaseline"


@checked()
@dataclass(frozen=True, eq=False)
class LearnedBaseline:
    """Baseline vector and the record of its training; made by :func:`learn_baseline`.

    Attributes:
        vector: The values that replace absent scalars, float32 at least; broadcasts to the inputs of one sample.
        history: The strength at the start and after each step: the mean over the samples of the sum of all
            ``|I(S)|``, S nonempty. `vector` is that of the smallest.
        reach: At the same steps, the mean over the samples of ``|v(N) - v(empty)|``, a lower bound of the strength.
        provenance: A record of model, score, target and settings, as JSON can hold it.

    Raises:
        TypeError: The provenance is no mapping.
        ValueError: The vector is not floating or not finite, or the steps are no numbers, none, or not the same.
    """

    vector: Tensor
    history: tuple[float, ...]
    reach: tuple[float, ...]
    provenance: Mapping[str, files.JSON] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not is_floating(self.vector) or not bool(self.vector.isfinite().all()):
            raise ValueError(f"vector must be a finite floating tensor; got {kind_of(self.vector)}")
        for name in ("history", "reach"):
            steps = getattr(self, name)
            if not isinstance(steps, tuple) or not steps or not all(is_number(one) and one >= 0 for one in steps):
                raise ValueError(f"{name} must be a tuple of numbers of at least 0, one at each step; got {steps!r}")
        if len(self.history) != len(self.reach):
            raise ValueError(
                f"history and reach must be of the same steps; got {len(self.history)} and {len(self.reach)} numbers"
            )
        if not isinstance(self.provenance, Mapping):
            raise TypeError(f"provenance must be a mapping of names and values; got {kind_of(self.provenance)}")

    @property
    def best(self) -> int:
        """The step after which the strength was smallest; 0 is the start."""
        return self.history.index(min(self.history))

    @property
    def fell(self) -> float:
        """The share by which the strength fell, from 0 to 1."""
        return 1 - self.history[self.best] / self.history[0] if self.history[0] else 0.0

    def apply(self, players: Players) -> Players:
        """Return the same players with this baseline.

        Args:
            players: Of one floating input, whose samples the vector broadcasts to.

        Returns:
            The players.

        Raises:
            TypeError: If their input is of another kind.
            ValueError: If the vector does not broadcast to it.
        """
        x = _only_input(players)
        return replace(
            players,
            baselines=(broadcast(self.vector, x),),
            description={**players.description, "baseline": f"learned {shape_of(self.vector)}"},
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to one file; see :func:`captum_lkn._common.files.write` for the errors.

        Args:
            path: The file, ending in ``.safetensors``.
        """
        numbers_ = {
            name: torch.tensor(getattr(self, name), dtype=torch.float64, device="cpu") for name in ("history", "reach")
        }
        files.write(path, _SCHEMA, {"vector": self.vector, **numbers_}, self.provenance)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> LearnedBaseline:
        """Read what :meth:`save` wrote; see :func:`captum_lkn._common.files.load` for the errors.

        Args:
            path: The file.

        Returns:
            The baseline, bit for bit, its vector on the CPU.
        """

        def make(tensors: Mapping[str, Tensor], provenance: Mapping[str, Any]) -> LearnedBaseline:
            history, reach = (tuple(tensors[name].tolist()) for name in ("history", "reach"))
            return cls(tensors["vector"], history, reach, provenance)

        return files.load(path, _SCHEMA, make)

    def __repr__(self) -> str:
        i = self.best
        return (
            f"LearnedBaseline {shape_of(self.vector)}: strength {self.history[0]:.3g} -> {self.history[i]:.3g} "
            f"(-{self.fell:.0%}) in step {i} of {len(self.history) - 1}; "
            f"|v(N) - v(empty)| {self.reach[0]:.3g} -> {self.reach[i]:.3g}"
        )


@checked("perturbations_per_eval", "shape", "show_progress", "steps")
def learn_baseline(
    forward_func: Callable[..., Any],
    players: Players,
    *,
    target: TargetLike = "predicted",
    score: ScoreLike = "log_odds",
    steps: int = 50,
    learning_rate: float = 0.05,
    shape: Sequence[int] | None = None,
    additional_forward_args: Any = None,
    perturbations_per_eval: int | None = None,
    show_progress: bool = False,
) -> LearnedBaseline:
    r"""Learn the baseline under which a few samples have the least interaction.

    Minimises by Adam, over the vector b that replaces absent scalars, the mean over the samples of::

        sum over S nonempty of |I(S)|,   I(S) = sum over T subset of S of (-1)^(|S| - |T|) v(x_T),   x_T absent at b

    These are the AND effects of the whole value (Harsanyi dividends), without noise. The start is the mean of the
    players' present baselines; nothing is random. The objective has two degenerate minima; check for both. With samples
    of one class alone, the vector can imitate that class until there is nothing to explain: ``reach`` falls too. And a
    vector under which the output is constant leaves one interaction, that of all players: look at ``by_order()`` under
    the new baseline before you use it.

    Args:
        forward_func: An ``nn.Module``, any callable, or a Hugging Face model; differentiable.
        players: Of one floating input: embeddings
            (:func:`~captum_lkn.baselines.embeddings.players_as_embeddings`), images, columns. At most 10 players a
            sample.
        target: Captum's kinds, or ``"predicted"``; resolved on the unmasked samples.
        score: As in :class:`captum_lkn.AndOrInteraction`.
        steps: The number of steps of Adam. Each takes a forward and a backward pass of all masks of all samples.
        learning_rate: Length of a step, in standard deviations of the inputs.
        shape: The vector's, which broadcasts to one sample. None: ``[D]`` for embeddings ``[B, T, D]``, a colour
            ``[C, 1, 1]`` for images ``[B, C, H, W]``, one number a column for ``[B, F]``.
        additional_forward_args: A tuple (or a single thing) passed on by position behind the inputs, or a mapping, by
            keyword.
        perturbations_per_eval: Masks a forward, times the number of samples; None: by a rule. Where a sample's masks
            take several, they are computed once more for their gradients, which keeps memory small.
        show_progress: Whether to show a bar.

    Returns:
        The vector with the smallest strength of all steps, and the history.

    Raises:
        TypeError: An argument of the wrong type; players of token ids.
        ValueError: An argument that does not fit; too many players; probabilities where the score reads logits; one
            value for a batch of several samples; values that are not finite or have no gradient.

    Warns:
        UserWarning: A model in training mode; too little memory for the masks of a forward, which are halved.

    Example:
        >>> from captum_lkn import players_from_mask
        >>> x = torch.tensor([[0.0], [1.0], [5.0]])  # |x - b| is smallest at the median
        >>> found = learn_baseline(lambda x: x[:, 0], players_from_mask(x), target=None, score="logit", steps=100)
        >>> found.vector.round(decimals=1)
        tensor([1.])
    """
    _only_input(players)
    _check(players, steps, learning_rate)
    model = Model(forward_func)
    chosen = model.score_for_model(resolve_score(score))
    if model.module is not None and any(weight.is_inference() for weight in model.module.parameters()):
        raise ValueError(
            f"{model.name} has weights that were made in torch.inference_mode(), through which there are no gradients: "
            "make it or load its weights outside"
        )
    # What is made in inference mode has no gradients, and those of the vector are wanted.
    with torch.inference_mode(False):
        players = _without_inference(players)
        _, arguments = prepare(players, None, additional_forward_args, None, None)
        x = players.inputs[0]
        vector = _start(players.baselines[0], x, shape).requires_grad_()
        spread = float(x.float().std()) if x.numel() > 1 else 0.0
        optimizer = torch.optim.Adam([vector], lr=float(learning_rate) * (spread or 1.0))
        evaluator = Evaluator(
            model,
            players,
            fresh(arguments),
            target=target,
            score=chosen,
            perturbations_per_eval=perturbations_per_eval,
        )
        history: list[float] = []
        reach: list[float] = []
        best = vector.detach().clone()
        with evaluator, Bar(total=steps, desc="baseline", unit="step", disable=is_hidden(show_progress)) as bar:
            evaluator.check_samples_apart()
            settle(evaluator, vector)
            for step in range(steps + 1):
                vector.grad, strength, distance = strength_gradient(evaluator, vector)
                history.append(strength)
                reach.append(distance)
                if history[-1] == min(history):
                    best = vector.detach().clone()
                if step < steps:
                    optimizer.step()
                    bar.update()
    return LearnedBaseline(
        best,
        tuple(history),
        tuple(reach),
        {
            "model": model.name,
            "score": chosen.name,
            "target": evaluator.target.describe(),
            "samples": len(players),
            "steps": int(steps),
            "learning_rate": float(learning_rate),
            "start": players.description.get("baseline"),
        },
    )


def _only_input(players: Any) -> Tensor:
    if not isinstance(players, Players):
        raise TypeError(f"players must be Players; got {kind_of(players)}. Make them with players_from_mask")
    x = players.inputs[0]
    if len(players.inputs) != 1 or not x.is_floating_point():
        kinds = ", ".join(map(kind_of, players.inputs))
        raise TypeError(
            f"players must have one floating input, whose baseline can be a vector; got {kinds}. For token ids, make "
            "players of embeddings first: players_as_embeddings(model, players)"
        )
    if players.background or players.decode is not None:
        raise TypeError(
            "players must be of a tensor with one baseline, which is learned; got a table with a background. Make them "
            "of the tensor: players_from_mask(rows)"
        )
    return x


def _check(players: Players, steps: Any, learning_rate: Any) -> None:
    if not is_whole(steps) or steps < 1:
        raise ValueError(f"steps must be an int, at least 1; got {steps!r}")
    if not is_number(learning_rate) or not 0 < learning_rate <= _LARGEST_RATE:
        raise ValueError(
            f"learning_rate must be a positive number of at most {_LARGEST_RATE:g}, in standard deviations of the "
            f"inputs; got {learning_rate!r}"
        )
    n = max(players.sizes)
    if n > MAX_LEARNED:
        raise ValueError(
            f"sample {players.sizes.index(n)} has n = {n} players, and each step would take 2^{n} masked copies of it "
            f"forward and backward; at most n = {MAX_LEARNED}: choose fewer, as select_players(model, players, k=8) "
            "does, or shorter samples"
        )


def _start(baseline: Tensor, x: Tensor, shape: Sequence[int] | None) -> Tensor:
    """Return the mean of the present baselines in the shape of the vector, in float32 at least.

    Steps of Adam round to nothing in bfloat16, and its denominator does in float16.
    """
    if shape is None:
        shape = {3: x.shape[-1:], 4: (x.shape[1], 1, 1)}.get(x.dim(), x.shape[1:])
    wanted, own = tuple(shape), x.shape[1:]
    padded = (1,) * (len(own) - len(wanted)) + wanted
    if len(wanted) > len(own) or any(a not in (1, b) for a, b in zip(padded, own, strict=True)):
        raise ValueError(f"shape {list(wanted)} does not broadcast to one sample of {shape_of(x)}: give such a one")
    over = [0, *(i + 1 for i, a in enumerate(padded) if a == 1)]
    exact = torch.promote_types(baseline.dtype, torch.float32)
    return baseline.detach().to(exact).mean(over, keepdim=True).reshape(wanted)


def _without_inference(players: Players) -> Players:
    """Return the same players, without tensors of inference mode, which cannot be kept for gradients."""
    return replace(
        players,
        inputs=tuple(x.clone() if x.is_inference() else x for x in players.inputs),
        baselines=tuple(x.clone() if x.is_inference() else x for x in players.baselines),
    )
