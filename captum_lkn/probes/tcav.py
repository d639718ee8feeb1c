"""Classifier for Captum's TCAV by the logistic regression of this library.

Captum's ``Classifier`` has weights but no bias, and a read-out needs both. :class:`LogisticClassifier` has both, so
that a trained concept classifier is a read-out as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from captum.concept import Classifier
from torch import Tensor
from torch.nn.functional import linear

from captum_lkn._common.messages import some_of
from captum_lkn.probes.logistic import Fit, accuracy, check_penalties, held_out_rows, logits
from captum_lkn.probes.newton import fit_exactly

__all__ = ["LogisticClassifier"]


class LogisticClassifier(Classifier):  # type: ignore[misc]  # captum ships no types
    """Concept classifier for :class:`captum.concept.TCAV`: multinomial logistic regression, fitted to its optimum.

    Captum's default is one pass of stochastic gradient descent, with concept vectors that change from run to run. Here
    the same activations give the same vectors, and the penalty is chosen on held-out rows instead of being constant.

    Args:
        penalties: The penalties to choose from; None: as in :meth:`captum_lkn.probes.LinearProbes.fit`.
        seed: Seed of the choice of held-out rows.

    Raises:
        TypeError: `penalties` is not a list.
        ValueError: A penalty is not above 0.

    Example:
        >>> from captum.concept import TCAV
        >>> network = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))
        >>> method = TCAV(network, ["0"], classifier=LogisticClassifier(), test_split_ratio=0.25)
        >>> method.classifier
        LogisticClassifier, not trained
    """

    def __init__(self, penalties: Sequence[float] | None = None, *, seed: int = 0) -> None:
        check_penalties(penalties)
        self.penalties = penalties
        self.seed = seed
        self._fit: Fit | None = None
        self._classes: list[int] = []

    def train_and_eval(
        self, dataloader: Iterable[tuple[Tensor, Tensor]], test_split_ratio: float = 0.33
    ) -> dict[str, Any]:
        """Fit the classifier.

        Args:
            dataloader: Pairs of activations ``[B, ...]`` and labels ``[B]``, integers.
            test_split_ratio: The share of the rows of each class on which the penalty is chosen and accuracy measured.

        Returns:
            ``accs``: the accuracy on these rows, a tensor; ``train_accs``: on the others; ``penalty``.

        Raises:
            ValueError: There is no batch, there are fewer than two classes, a class has a single row, or the share is
                not between 0 and 1.
        """
        if not 0 < test_split_ratio < 1:
            raise ValueError(f"test_split_ratio must be a share between 0 and 1; got {test_split_ratio!r}")
        batches = [(x.detach().flatten(1).cpu().float(), y.detach().cpu().long()) for x, y in dataloader]
        if not batches:
            raise ValueError("dataloader has no batch. Give the activations of two concepts or more")
        features, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
        known, own, counts = torch.unique(labels.flatten(), return_inverse=True, return_counts=True)
        if len(known) < 2 or int(counts.min()) < 2:
            raise ValueError(
                f"dataloader has the labels {some_of(known.tolist())} in {some_of(counts.tolist())} rows. Give two "
                "classes or more, with two rows or more each"
            )
        held = held_out_rows(own, test_split_ratio, self.seed)
        with torch.inference_mode(False):
            self._fit = fit_exactly(features.clone(), own.clone(), held.clone(), len(known), self.penalties)
        self._classes = known.tolist()
        z = logits(features, self._fit.weight, self._fit.bias)
        return {
            "accs": torch.tensor(accuracy(z[held], own[held]), dtype=torch.float32, device="cpu"),
            "train_accs": torch.tensor(accuracy(z[~held], own[~held]), dtype=torch.float32, device="cpu"),
            "penalty": self._fit.penalty,
        }

    def weights(self) -> Tensor:
        """Return the concept activation vectors, float32 ``[C, F]``, one row for each class of :meth:`classes`."""
        return self._trained().weight.float()

    def classes(self) -> list[int]:
        """Return the labels of the classes, ascending."""
        self._trained()
        return list(self._classes)

    def __call__(self, feature: Tensor) -> Tensor:
        """Return the logits of activations, with columns in the order of :meth:`classes`.

        Args:
            feature: ``[R, F]`` of any floating dtype, on any device.

        Returns:
            ``[R, C]``, float64 (float32 on MPS).
        """
        fit = self._trained()
        wide = torch.float32 if feature.device.type == "mps" else torch.float64
        return linear(feature.to(wide), fit.weight.to(feature.device, wide), fit.bias.to(feature.device, wide))

    def _trained(self) -> Fit:
        if self._fit is None:
            raise ValueError("the classifier is not trained. Call train_and_eval first, or let TCAV do it")
        return self._fit

    def __repr__(self) -> str:
        if self._fit is None:
            return f"{type(self).__name__}, not trained"
        return f"{type(self).__name__} of {self._fit.weight.shape[1]} features, classes {some_of(self._classes)}"
