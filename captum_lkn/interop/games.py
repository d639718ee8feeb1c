"""Cooperative games: a model's masked copies as one, and the interactions of any other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from captum_lkn._common.arguments import Positive, checked
from captum_lkn._common.checks import is_whole
from captum_lkn._common.messages import kind_of
from captum_lkn.attribution import AndOrInteraction
from captum_lkn.decomposition.options import DecompositionKind, DecompositionOptions
from captum_lkn.interactions import Interactions
from captum_lkn.interactions.labels import distinct_labels
from captum_lkn.models.model import Model
from captum_lkn.outputs.score import Score, ScoreLike, target_column
from captum_lkn.outputs.scores import resolve_score
from captum_lkn.outputs.targets import TargetLike
from captum_lkn.players.players import Players
from captum_lkn.players.prepare import prepare
from captum_lkn.values.evaluator import Evaluator

__all__ = ["ValueFunction", "explain_game", "value_function"]

Coalitions: TypeAlias = np.ndarray[Any, Any]


class ValueFunction:
    """Game of one sample: from coalitions to the scores of its masked copies; made by :func:`value_function`.

    Each call opens the model and checks its first forward, which takes a few rows more. Inside ``with`` it is opened
    once, for approximators that call it often.

    Attributes:
        n_players: The number n of players.
        player_names: Their labels, repeated ones told apart.
    """

    def __init__(self, evaluator: Callable[[], Evaluator], players: Players, sample: int) -> None:
        self._evaluator = evaluator
        self._sample = sample
        self._open: Evaluator | None = None
        self._stack = ExitStack()
        self.player_names = list(distinct_labels(players.labels[sample]))
        self.n_players = len(self.player_names)

    def __call__(self, coalitions: Coalitions | Tensor) -> np.ndarray[Any, Any]:
        """Return the values of coalitions.

        Args:
            coalitions: Bool ``[m, n]``, True where a player is present.

        Returns:
            float64 ``[m]``.

        Raises:
            TypeError: `coalitions` is not of bools.
            ValueError: Its shape does not fit; a value is not finite; and what the evaluation of a model raises.
        """
        masks = torch.tensor(np.asarray(coalitions).copy(), device="cpu")
        if masks.dtype != torch.bool:
            raise TypeError(f"coalitions must be an array of bools, True where a player is present; got {masks.dtype}")
        if masks.dim() != 2 or masks.shape[1] != self.n_players:
            raise ValueError(f"coalitions must be [m, {self.n_players}]; got {list(masks.shape)}")
        if self._open is not None:
            return self._values(self._open, masks)
        with self._evaluator() as evaluator:
            return self._values(evaluator, masks)

    def __enter__(self) -> ValueFunction:
        self._open = self._stack.enter_context(self._evaluator())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open = None
        self._stack.__exit__(kind, error, trace)

    def _values(self, evaluator: Evaluator, masks: Tensor) -> np.ndarray[Any, Any]:
        if not len(masks):
            return np.zeros(0)
        evaluator.check_samples_apart()
        wide = masks.new_zeros(len(masks), max(evaluator.players.sizes))
        wide[:, : self.n_players] = masks
        samples = torch.full((len(masks),), self._sample, device="cpu")
        with torch.no_grad():
            values = evaluator.values(samples, wide).double().cpu()
        evaluator.check_finite(samples, wide, values)
        found: np.ndarray[Any, Any] = values[:, 0].numpy()
        return found


@checked("perturbations_per_eval", "target")
def value_function(
    forward_func: Callable[..., Any],
    players: Players,
    sample: int = 0,
    *,
    target: TargetLike = "predicted",
    score: ScoreLike = "log_odds",
    additional_forward_args: Any = None,
    perturbations_per_eval: Positive | None = None,
) -> ValueFunction:
    """Return the game of one sample, for the approximators of shapiq or anything that takes a function of coalitions.

    Args:
        forward_func: As in :class:`captum_lkn.AndOrInteraction`.
        players: The players; any number of them.
        sample: The number of the sample, from 0.
        target: Captum's kinds, or ``"predicted"``.
        score: As in :class:`captum_lkn.AndOrInteraction`.
        additional_forward_args: What else the forward gets.
        perturbations_per_eval: Masks a forward, times the number of samples; None: by a rule.

    Returns:
        The function.

    Raises:
        TypeError: An argument of the wrong type.
        ValueError: An argument that does not fit.

    Example:
        >>> from captum_lkn import players_from_mask
        >>> players = players_from_mask(torch.tensor([[2.0, 3.0, 5.0]]))
        >>> game = value_function(lambda x: x[:, 0] * x[:, 1] + x[:, 2], players, target=None, score="logit")
        >>> game(np.array([[True, True, False], [False, True, True]]))
        array([6., 5.])
    """
    if not isinstance(players, Players):
        raise TypeError(f"players must be Players; got {kind_of(players)}. Make them with text_players, for example")
    if not is_whole(sample) or not 0 <= sample < len(players):
        raise ValueError(f"sample must be a number from 0 to {len(players) - 1}; got {sample!r}")
    model, resolved = Model(forward_func), resolve_score(score)
    _, arguments = prepare(players, None, additional_forward_args, None, None)

    def evaluator() -> Evaluator:
        return Evaluator(
            model, players, arguments, target=target, score=resolved, perturbations_per_eval=perturbations_per_eval
        )

    return ValueFunction(evaluator, players, int(sample))


@checked("n_players", "players", "show_progress")
def explain_game(
    game: Callable[[Coalitions], Any],
    n_players: int | None = None,
    *,
    players: Sequence[str] | None = None,
    noise: float | None = None,
    kappa: float | None = None,
    kind: DecompositionKind | None = None,
    options: DecompositionOptions | None = None,
    show_progress: bool = False,
) -> Interactions:
    """Find the AND-OR interactions of any game.

    Args:
        game: A function from coalitions, bool ``[m, n]``, to values ``[m]``, such as a ``shapiq.Game``. It is called
            for all 2^n coalitions. A ``shapiq.Game`` that is normalised gives values without v(empty).
        n_players: The number of players, at most 20. None: the game's own ``n_players``.
        players: A label a player. None: the names that a ``shapiq.Game`` has, or the numbers.
        noise: As in :class:`captum_lkn.AndOrInteraction`, like the next three.
        kappa: The same as an absolute number.
        kind: ``"and-or"`` or ``"and"``.
        options: All options of the decomposition.
        show_progress: Whether to show a bar.

    Returns:
        The interactions.

    Raises:
        TypeError: The game cannot be called.
        ValueError: The number of players is not known; too many; a value that is not finite.

    Example:
        >>> def either(coalitions):
        ...     return 2.0 * coalitions[:, :2].any(1) + coalitions[:, 2]
        >>> found = explain_game(either, 3, noise=0)
        >>> [str(one) for one in found.top()]
        ['0 | 1  +2.00', '2  +1.00']
    """
    if not callable(game):
        raise TypeError(f"game must be a function of coalitions; got {kind_of(game)}")
    n: Any = getattr(game, "n_players", None) if n_players is None else n_players
    if not is_whole(n) or n < 1:
        raise ValueError(f"n_players must be the number of players, at least 1; got {n!r}")
    known = getattr(game, "player_names", None) or list(getattr(game, "player_name_lookup", None) or ())
    labels = [str(name) for name in ((known or range(n)) if players is None else players)]

    def forward(present: Tensor) -> np.ndarray[Any, Any]:
        return np.asarray(game(present.numpy().astype(bool)), dtype=np.float64)

    forward.__name__ = getattr(game, "__name__", type(game).__name__)
    value = Score("value", target_column, "values")
    method = AndOrInteraction(forward, score=value, noise=noise, kappa=kappa, kind=kind, options=options)
    present = torch.ones(1, n, dtype=torch.float64, device="cpu")
    found: Interactions = method.attribute(present, show_progress=show_progress, player_names=labels)[0]
    return found
