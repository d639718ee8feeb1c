"""How knowledge changes from layer to layer: the result object."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch
from torch import Tensor

from captum_lkn._common import files
from captum_lkn._common.messages import kind_of, some_of
from captum_lkn._common.warn import warn
from captum_lkn.interactions import Interaction, InteractionsBatch
from captum_lkn.interactions.ranking import KINDS, ranked
from captum_lkn.knowledge import rendering
from captum_lkn.knowledge.comparison import (
    TAU,
    Comparison,
    Ratio,
    Scope,
    check_comparison,
    compare,
    normaliser,
    thresholds,
)
from captum_lkn.knowledge.luck import DRAWS, JITTER, Luck, draw_luck, own_comparison, support
from captum_lkn.knowledge.packing import pack_change, unpack_change
from captum_lkn.knowledge.rows import ChangeRow, rows_of, to_frame
from captum_lkn.models.layers import OUTPUT, Layer

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["KnowledgeChange", "TargetSource"]

TargetSource: TypeAlias = Literal["given", "predicted"]

_SCHEMA = "KnowledgeChange"
_OF_ONE_TABLE = ("layer", "pool", "readout", "target", "text", "steps", "stopped")


@dataclass(frozen=True, eq=False, repr=False)
class KnowledgeChange(Mapping[str, Comparison]):
    r"""Layers compared with a target, usually the model's own output: what they know already, and what is forgotten.

    A mapping from the label of each compared layer to its :class:`Comparison`. For each layer, kind (AND, OR) and order
    m, with Omega the salient interactions of that kind and order (section 3.2 of Cheng et al., "Layerwise Change of
    Knowledge in Neural Networks", ICML 2024)::

        shared(S)    = 0 if the signs differ, else sign * min(|I^l(S)|, |I^L(S)|)      (Eq. 6; 0 outside both Omegas)
        overlap      = sum of |shared| over Omega^l and Omega^L
        forgotten    = sum of |I^l - shared| over Omega^l         all^l = sum of |I^l| over Omega^l
        new          = sum of |I^L - shared| over Omega^L         all^L = sum of |I^L| over Omega^L
        completeness = overlap / all^L                            redundancy = forgotten / all^l

    Effects of a layer are divided by its normaliser first, the mean of \|v(N) - v(empty)\| over the samples. Nothing is
    extracted anew when a threshold or another option changes: see :meth:`compare`.

    **How much is luck.** Where it was measured (:meth:`with_luck`), every layer was also compared with itself under
    noise. Completeness cannot be read above the target's ceiling: that much of itself the target finds again.
    Redundancy cannot be read below the layer's floor: that much of itself the layer does not find again.

    Attributes:
        interactions: By layer, the target included, the interactions of all samples.
        layers: The labels of the layers that are compared. Empty takes all but the target.
        against: The label of the target.
        tau: An interaction is salient above this share of the largest absolute effect of its layer.
        scope: ``"dataset"``: the largest over all samples; ``"sample"``: each sample's own.
        printed: Whether sharing is as the paper prints it, not 0 outside the sets that are salient in both; its Eq. 8
            then does not hold.
        ratio: Ratios over several samples: ``"sum"``, of the sums, or ``"mean"``, the mean of the samples' ratios
            (those without a value left out).
        accuracies: By layer the accuracy of its probe, on the training and on the held-out part.
        target_source: Whether the explained classes were ``"given"`` or are the model's own, ``"predicted"``.
        luck: The draws under noise; None where that was not measured.

    Raises:
        TypeError: A part of the wrong type.
        ValueError: Layers that do not fit each other, an unknown label, an option out of range.

    Warns:
        UserWarning: A layer's normaliser is 0, so that its strengths are NaN.

    Example:
        >>> from captum_lkn import Interactions
        >>> from captum_lkn.decomposition import lattice
        >>> def batch(*effects):  # of one sample of two players: not, good, not & good
        ...     ands, ors = torch.tensor([[0.0, *effects], [0.0] * 4], dtype=torch.float64)
        ...     sample = Interactions(("not", "good"), ands, ors, lattice.and_inverse(ands), kappa=0.0, gap=0.0)
        ...     return InteractionsBatch([sample])
        >>> change = KnowledgeChange({"early": batch(1.0, 3.0, 0.0), "output": batch(1.0, 1.0, -3.0)})
        >>> change["early"].completeness  # good is known early; not & good is not
        tensor([[0.5000, 0.0000],
                [   nan,    nan]], dtype=torch.float64)
        >>> change.salient("output")[0][0].players
        ('not', 'good')
    """

    interactions: Mapping[str, InteractionsBatch]
    layers: tuple[str, ...] = ()
    against: str = OUTPUT
    tau: float = TAU
    scope: Scope = "dataset"
    printed: bool = False
    ratio: Ratio = "sum"
    accuracies: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    target_source: TargetSource = "given"
    luck: Luck | None = None

    def __post_init__(self) -> None:
        check_comparison(tau=self.tau, scope=self.scope, printed=self.printed, ratio=self.ratio)
        _check_interactions(self.interactions)
        object.__setattr__(self, "interactions", dict(self.interactions))
        self._known(self.against)
        layers = self.layers or [label for label in self.interactions if label != self.against]
        object.__setattr__(self, "layers", tuple(self._known(label) for label in layers))
        if not self.layers:
            raise ValueError(
                f"there is no layer besides {self.against!r} to compare: give the interactions of one more"
            )
        for label in dict.fromkeys((*self.layers, self.against)):
            if not self.normalisers[label]:
                warn(
                    f"|v(N) - v(empty)| of {label!r} is 0 in all samples, so that its effects cannot be set against "
                    "those of another layer: its strengths are NaN. Choose samples, or a layer, where masking "
                    "changes the score"
                )

    # ------------------------------------------------------------ a mapping, from layer to comparison

    def __getitem__(self, layer: str) -> Comparison:
        return self._comparisons[layer]

    def __iter__(self) -> Iterator[str]:
        return iter(self._comparisons)

    def __len__(self) -> int:
        return len(self._comparisons)

    @cached_property
    def _comparisons(self) -> dict[str, Comparison]:
        target = self._effects(self.against)
        return {
            layer: compare(
                self._effects(layer),
                target,
                units=(self.normalisers[layer], self.normalisers[self.against]),
                tau=self.tau,
                scope=self.scope,
                printed=self.printed,
                ratio=self.ratio,
            )
            for layer in self.layers
        }

    @cached_property
    def normalisers(self) -> dict[str, float]:
        r"""What each layer's effects are divided by: the mean of \|v(N) - v(empty)\| over the samples."""
        return {label: normaliser([one.values for one in batch]) for label, batch in self.interactions.items()}

    @property
    def n_samples(self) -> int:
        """The number of samples."""
        return len(self.interactions[self.against])

    def _effects(self, label: str) -> list[Tensor]:
        return [torch.stack([one.and_effects, one.or_effects]) for one in self.interactions[label]]

    def _known(self, layer: str | Layer) -> str:
        label = layer.label if isinstance(layer, Layer) else layer
        if label not in self.interactions:
            close = difflib.get_close_matches(str(label), self.interactions, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"there is no layer {label!r} here{hint}; there are {some_of(list(self.interactions))}")
        return label

    # ------------------------------------------------------------ other views of the same interactions

    def compare(
        self,
        *,
        tau: float | None = None,
        scope: Scope | None = None,
        printed: bool | None = None,
        ratio: Ratio | None = None,
    ) -> KnowledgeChange:
        """The same interactions, compared in another way; nothing is extracted anew.

        Args:
            tau: The threshold; None leaves this and each other option as it is.
            scope: Over what the largest effect is taken.
            printed: Whether sharing is as the paper prints it.
            ratio: How ratios of several samples are taken together.

        Returns:
            A new object; the interactions and the draws are not copied.

        Raises:
            TypeError: An option of the wrong type.
            ValueError: An option out of range.
        """
        given: dict[str, Any] = {"tau": tau, "scope": scope, "printed": printed, "ratio": ratio}
        return replace(self, **{name: value for name, value in given.items() if value is not None})

    def between(self, layer: str | Layer, target: str | Layer) -> KnowledgeChange:
        """One layer compared with any other as the target: a neighbour, or an earlier one.

        Args:
            layer: The label of a layer; ``"output"`` too.
            target: The label of the layer that it is compared with.

        Returns:
            A comparison of one layer, with the same options.

        Raises:
            ValueError: There is no such layer.
        """
        return replace(self, layers=(self._known(layer),), against=self._known(target))

    def with_luck(
        self,
        *,
        draws: int = DRAWS,
        seed: int = 0,
        value_noise: float | None = None,
        jitter: float = JITTER,
    ) -> KnowledgeChange:
        r"""Measure how much of the comparison is luck, by extracting every table anew under noise; no forward is run.

        Costs ``draws`` times what the extraction cost: with n = 10 about 0.1 s a draw, layer and sample.

        Args:
            draws: How many times.
            seed: Of the noise; torch's own random state is not touched.
            value_noise: Standard deviation of the Gaussian noise on every value, as a share of the sample's
                \|v(N) - v(empty)\|; None: a quarter of its kappa, which is a share of 0.01 by default.
            jitter: Each weight w_S of the minimised sum is multiplied by 1 + jitter * u, u uniform in [-1, 1].

        Returns:
            The same comparison, with the draws.

        Raises:
            TypeError: An option of the wrong type.
            ValueError: An option out of range.

        Warns:
            UserWarning: An extraction did not reach its tolerance.
        """
        luck = draw_luck(self.interactions, draws=draws, seed=seed, value_noise=value_noise, jitter=jitter)
        return replace(self, luck=luck)

    # ------------------------------------------------------------ what is luck

    @cached_property
    def own(self) -> dict[str, Comparison]:
        """Every layer, the target included, compared with its own draws; empty where luck was not measured.

        The completeness of these is how much of itself a layer finds again: the ceiling of others' completeness where
        the layer is the target, and one minus the floor of its own redundancy.
        """
        if self.luck is None:
            return {}
        return {
            label: own_comparison(
                self._effects(label), self.luck.effects[label], tau=self.tau, scope=self.scope, ratio=self.ratio
            )
            for label in dict.fromkeys((*self, self.against))
        }

    def salient(self, layer: str | Layer) -> list[list[Interaction]]:
        """The salient interactions of a layer, with their support where luck was measured.

        Args:
            layer: The label of a layer, the target's too.

        Returns:
            For each sample its interactions, the strongest first, in the units of the score.

        Raises:
            ValueError: There is no such layer.
        """
        label = self._known(layer)
        effects = self._effects(label)
        limits = thresholds(effects, self.tau, self.scope)
        found = [
            ranked(one.players, one.and_effects, one.or_effects, above=above)
            for one, above in zip(self.interactions[label], limits, strict=True)
        ]
        if self.luck is None:
            return found
        shares = support(effects, self.luck.effects[label], tau=self.tau, scope=self.scope)
        return [
            [one._replace(support=float(share[KINDS.index(one.kind), _index(one)])) for one in sample]
            for sample, share in zip(found, shares, strict=True)
        ]

    # ------------------------------------------------------------ tables, text, files

    def rows(self) -> list[ChangeRow]:
        """Everything by layer, kind (AND first) and order, from 1 to the largest number of players."""
        return list(rows_of(self))

    def to_frame(self) -> pd.DataFrame:
        """The rows as a data frame.

        Returns:
            A DataFrame with the columns layer, kind, order, all, overlap, forgotten, new, completeness, redundancy,
            salient; and, where luck was measured, completeness_ceiling and redundancy_floor.

        Raises:
            ImportError: If pandas is not installed.
        """
        return to_frame(self.rows(), with_luck=self.luck is not None)

    @property
    def provenance(self) -> dict[str, Any]:
        """Where this came from: what all samples remember of it alike, the class of each, and how it was compared."""
        samples = self.interactions[self.against]
        shared = {
            name: value
            for name, value in samples[0].provenance.items()
            if name not in _OF_ONE_TABLE and all(one.provenance.get(name) == value for one in samples)
        }
        return {
            **shared,
            "layers": list(self.layers),
            "against": self.against,
            "samples": self.n_samples,
            "targets": [one.provenance.get("target") for one in samples],
            "target_source": self.target_source,
            "comparison": {"tau": self.tau, "scope": self.scope, "printed": self.printed, "ratio": self.ratio},
            "luck": self.luck.settings() if self.luck else None,
        }

    def __str__(self) -> str:
        return rendering.text(self)

    def __repr__(self) -> str:
        return rendering.summary(self)

    def _repr_html_(self) -> str:
        return rendering.html(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to one file, draws included; see :func:`captum_lkn._common.files.write` for the errors.

        Args:
            path: The file, ending in ``.safetensors``.
        """
        files.write(path, _SCHEMA, *pack_change(self))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> KnowledgeChange:
        """Read what :meth:`save` wrote; see :func:`captum_lkn._common.files.read` for the errors.

        Args:
            path: The file.

        Returns:
            The comparison, bit for bit.
        """
        return cls(**unpack_change(*files.read(path, _SCHEMA)))


def _check_interactions(interactions: Any) -> None:
    """All layers have batches, of the same samples and players."""
    if not isinstance(interactions, Mapping):
        raise TypeError(f"interactions must be a mapping from layer to InteractionsBatch; got {kind_of(interactions)}")
    players: dict[str, list[tuple[str, ...]]] = {}
    for label, batch in interactions.items():
        if not isinstance(label, str) or not isinstance(batch, InteractionsBatch):
            raise TypeError(f"interactions must map labels to InteractionsBatch; got {label!r}: {kind_of(batch)}")
        players[label] = [one.players for one in batch]
    for label, found in players.items():
        first = next(iter(players))
        if found != players[first]:
            raise ValueError(
                f"layer {label!r} has {len(found)} samples, {first!r} {len(players[first])}, or their players differ: "
                "compare layers on the same samples, with the same players"
            )


def _index(interaction: Interaction) -> int:
    return sum(1 << member for member in interaction.members)
