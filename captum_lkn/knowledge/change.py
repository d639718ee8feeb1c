"""The result of comparing states of a model: its layers, its checkpoints, or several models."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from captum_lkn._common import files
from captum_lkn._common.accessors import Accessor, Delegate
from captum_lkn._common.arguments import checked
from captum_lkn._common.messages import some_of
from captum_lkn.decomposition.effects import TAU, Effects
from captum_lkn.interactions import Interaction
from captum_lkn.interactions.batch import AnyBatch
from captum_lkn.knowledge.checks import (
    check_accuracies,
    check_draws,
    check_interactions,
    check_label,
    check_noun,
    warn_of_normalisers,
)
from captum_lkn.knowledge.comparison import Comparison, Ratio, Scope, check_comparison, compare
from captum_lkn.knowledge.noise_ceiling import DRAWS, JITTER, NoiseCeiling, measure_noise_ceiling, own_comparison
from captum_lkn.knowledge.packing import pack_change, unpack_change
from captum_lkn.knowledge.provenance import shared_about, shared_provenance
from captum_lkn.knowledge.rendering import Printed, Report
from captum_lkn.knowledge.rows import ChangeRow, rows_of, to_frame
from captum_lkn.knowledge.salience import salient_interactions
from captum_lkn.knowledge.sampled import batch_normaliser, with_tables
from captum_lkn.knowledge.sensitivity import CONVENTIONS, Sensitivity
from captum_lkn.models.layers import OUTPUT, Layer

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["KnowledgeChange"]

_SCHEMA = "KnowledgeChange"


@checked("noise_ceiling", "reference", "states")
@dataclass(frozen=True, eq=False, repr=False)
class KnowledgeChange(Printed, Mapping[str, Comparison]):
    r"""States compared with a reference: layers with the model's output, checkpoints or models with one of them.

    A mapping from the label of each compared state to its :class:`Comparison`. For each state l (a layer in the paper),
    kind (AND, OR) and order m, with L the reference and Omega the salient interactions of that kind and order (section
    3.2 of Cheng et al., "Layerwise Change of Knowledge in Neural Networks", ICML 2024)::

        shared(S)    = 0 if the signs differ, else sign * min(|I^l(S)|, |I^L(S)|)      (Eq. 6; 0 outside both Omegas)
        overlap      = sum of |shared| over Omega^l and Omega^L
        forgotten    = sum of |I^l - shared| over Omega^l         all^l = sum of |I^l| over Omega^l
        new          = sum of |I^L - shared| over Omega^L         all^L = sum of |I^L| over Omega^L
        completeness = overlap / all^L                            redundancy = forgotten / all^l

    Effects of a state are divided by its normaliser first, the mean of \|v(N) - v(empty)\| over the samples. Nothing is
    extracted anew when a threshold or another option changes: see :meth:`compare`.

    **Noise ceiling.** Where it was measured (:meth:`with_noise_ceiling`), every state was also compared with itself
    under noise. Completeness cannot be read above the reference's ceiling, the share of itself that the reference finds
    again. Redundancy cannot be read below the state's floor, the share of itself that the state does not find again.

    Attributes:
        interactions: By state, the reference included, the interactions of all samples: :class:`InteractionsBatch`, or
            :class:`SampledBatch` for all of them.
        states: The labels of the states that are compared. Empty takes all but the reference.
        reference: The label of the state that they are compared with.
        tau: An interaction is salient above this share of the largest absolute effect of its state.
        scope: ``"dataset"``: the largest over all samples; ``"sample"``: each sample's own.
        literal_eq6: Whether the paper's Eq. 6 is taken literally, so that sharing is not 0 outside the sets that are
            salient in both; its Eq. 8 then does not hold.
        ratio: Ratios over several samples: ``"sum"``, of the sums, or ``"mean"``, the mean of the samples' ratios
            (those without a value left out).
        accuracies: By state the accuracy of its probe, on the training and on the held-out part.
        noise_ceiling: The draws under noise; None where that was not measured.
        noun: What a state is called in texts and pictures: ``"layer"``, ``"checkpoint"``, ``"model"``.

    Raises:
        TypeError: A part of the wrong type.
        ValueError: States that do not fit each other, an unknown label, an option out of range.

    Warns:
        UserWarning: A state's normaliser is 0, so that its strengths are NaN.

    Example:
        >>> from captum_lkn import Interactions, InteractionsBatch
        >>> def batch(*effects):  # of one sample of two players: not, good, not & good
        ...     sets = ((0,), (1,), (0, 1))
        ...     ands = Effects.of(2, [("and", members, effect) for members, effect in zip(sets, effects)])
        ...     return InteractionsBatch([Interactions(("not", "good"), ands, ands.reconstruction, kappa=0.0, gap=0.0)])
        >>> change = KnowledgeChange({"early": batch(1.0, 3.0, 0.0), "output": batch(1.0, 1.0, -3.0)})
        >>> change["early"].completeness  # good is known early; not & good is not
        tensor([[0.5000, 0.0000],
                [   nan,    nan]], dtype=torch.float64)
        >>> change.salient("output")[0][0].players
        ('not', 'good')
    """

    interactions: Mapping[str, Any]
    states: tuple[str, ...] = ()
    reference: str = OUTPUT
    tau: float = TAU
    scope: Scope = "dataset"
    literal_eq6: bool = False
    ratio: Ratio = "sum"
    accuracies: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    noise_ceiling: NoiseCeiling | None = None
    noun: str = "layer"

    plot = Accessor("captum_lkn.plot.accessors", "CHANGE")
    """Pictures as methods, such as ``change.plot.flow()``; see :mod:`captum_lkn.plot`."""

    report = Delegate("captum_lkn.report.pages", "report_change")
    """A page in one file: ``change.report("change.html")``; see :func:`captum_lkn.report.pages.report_change`."""

    def __post_init__(self) -> None:
        check_comparison(**self._options)
        object.__setattr__(self, "tau", float(self.tau))  # a NumPy number cannot be saved
        check_noun(self.noun)
        check_interactions(self.interactions)
        object.__setattr__(self, "interactions", dict(self.interactions))
        self._known(self.reference)
        states = self.states or [label for label in self.interactions if label != self.reference]
        object.__setattr__(self, "states", tuple(self._known(label) for label in states))
        if not self.states:
            raise ValueError(f"there is no {self.noun} besides {self.reference!r} to compare: give one more")
        check_accuracies(self.accuracies)
        if self.noise_ceiling is not None:
            check_draws(self.noise_ceiling.effects, self.interactions, self._labels)
        units = {label: self.normalisers[label] for label in self._labels}
        warn_of_normalisers(units, self.interactions, self.reference, noun=self.noun, **self._options)

    # ------------------------------------------------------------ a mapping, from state to comparison

    def __getitem__(self, state: str) -> Comparison:
        if state not in self._comparisons:
            raise KeyError(f"{state!r} is not compared here; there are {some_of(list(self._comparisons))}")
        return self._comparisons[state]

    def __iter__(self) -> Iterator[str]:
        return iter(self._comparisons)

    def __len__(self) -> int:
        return len(self._comparisons)

    @cached_property
    def _comparisons(self) -> dict[str, Comparison]:
        units, reference = self.normalisers, self._effects(self.reference)
        return {
            state: compare(
                self._effects(state), reference, units=(units[state], units[self.reference]), **self._options
            )
            for state in self.states
        }

    @cached_property
    def normalisers(self) -> dict[str, float]:
        r"""Divisor of each state's effects, the mean of \|v(N) - v(empty)\| over the samples."""
        return {label: batch_normaliser(batch) for label, batch in self.interactions.items()}

    @property
    def n_samples(self) -> int:
        """The number of samples."""
        return len(self.interactions[self.reference])

    @property
    def _options(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("tau", "scope", "literal_eq6", "ratio")}

    @property
    def _labels(self) -> tuple[str, ...]:
        """The compared states and the reference, each once."""
        return tuple(dict.fromkeys((*self.states, self.reference)))

    @property
    def _batches(self) -> list[AnyBatch]:
        """The samples of the reference, then those of the states."""
        return [self.interactions[label] for label in dict.fromkeys((self.reference, *self.states))]

    def _effects(self, label: str) -> list[Effects]:
        return [one.effects for one in self.interactions[label]]

    def _known(self, state: str | Layer) -> str:
        return check_label(state.label if isinstance(state, Layer) else state, self.interactions, self.noun)

    # ------------------------------------------------------------ other views of the same interactions

    def compare(
        self,
        *,
        tau: float | None = None,
        scope: Scope | None = None,
        literal_eq6: bool | None = None,
        ratio: Ratio | None = None,
    ) -> KnowledgeChange:
        """Compare the same interactions in another way; nothing is extracted anew.

        Args:
            tau: The threshold; None leaves this and each other option as it is.
            scope: Over what the largest effect is taken.
            literal_eq6: Whether the paper's Eq. 6 is taken literally.
            ratio: How ratios of several samples are taken together.

        Returns:
            A new object; the interactions and the draws are not copied.

        Raises:
            TypeError: An option of the wrong type.
            ValueError: An option out of range.
        """
        given = {"tau": tau, "scope": scope, "literal_eq6": literal_eq6, "ratio": ratio}
        return self._with(**{name: value for name, value in given.items() if value is not None})

    @checked("reference", "state")
    def between(self, state: str | Layer, reference: str | Layer) -> KnowledgeChange:
        """Compare one state with any other as the reference: a neighbour, or an earlier one.

        Args:
            state: The label of a state, the reference's too; of a layer also the layer.
            reference: The label of the state that it is compared with.

        Returns:
            A comparison of one state, with the same options. It has the noise ceiling where that was measured for both.

        Raises:
            ValueError: There is no such state.
        """
        labels, drawn = (self._known(state), self._known(reference)), self.noise_ceiling
        kept = drawn if drawn and set(labels) <= set(drawn.effects) else None
        return replace(self, states=labels[:1], reference=labels[1], noise_ceiling=kept)

    @checked("draws", "seed")
    def with_noise_ceiling(
        self, *, draws: int = DRAWS, seed: int = 0, value_noise: float | None = None, jitter: float = JITTER
    ) -> KnowledgeChange:
        r"""Measure the noise ceiling by decomposing every table anew under noise; no forward is run.

        Costs ``draws`` times what the extraction cost: with n = 10 about 0.1 s a draw, state and sample.

        Args:
            draws: The number of draws.
            seed: The seed of the noise; torch's own random state is not touched.
            value_noise: Standard deviation of the Gaussian noise on every value, as a share of the sample's
                \|v(N) - v(empty)\|, or of a quarter of the largest \|v(T) - v(empty)\| where that is more. None: a
                quarter of the noise that the decomposition allows, which is 0.01 by default, and 0.01 where it allows
                none.
            jitter: Each weight w_S of the minimised sum is multiplied by 1 + jitter * u, u uniform in [-1, 1].

        Returns:
            The same comparison, with the draws.

        Raises:
            TypeError: An option of the wrong type.
            ValueError: An option out of range.

        Warns:
            UserWarning: An extraction did not reach its tolerance.
        """
        compared = with_tables({label: self.interactions[label] for label in self._labels}, "the noise ceiling")
        drawn = measure_noise_ceiling(compared, draws=draws, seed=seed, value_noise=value_noise, jitter=jitter)
        return self._with(noise_ceiling=drawn)

    @checked("conventions")
    def sensitivity(self, conventions: Mapping[str, Mapping[str, Any]] = CONVENTIONS) -> Sensitivity:
        """Compare the states under other conventions of the decomposition as well; no forward is run.

        Weights decide between explanations that cost about the same. Read as findings what holds under all of them.

        Args:
            conventions: By name the options (:class:`captum_lkn.DecompositionOptions`) that replace those of the
                extraction; by default the paper's program, no order weight, no price on OR, and AND effects alone.

        Returns:
            The comparisons side by side, the first with the options of the extraction.

        Raises:
            TypeError: An option that does not exist, or of the wrong type.
            ValueError: An option out of range.
        """
        found: dict[str, Mapping[str, Comparison]] = {"as extracted": dict(self)}
        compared = with_tables({label: self.interactions[label] for label in self._labels}, "sensitivity")
        for name, changes in conventions.items():
            again = {label: compared[label].decompose(**changes) for label in self._labels}
            found[name] = dict(self._with(interactions=again))
        return Sensitivity(found, self.reference, self.noun)

    def _with(self, **changes: Any) -> KnowledgeChange:
        """Return the same states with other options, without the warnings that were given when this one was made.

        It sets the attributes itself: suppressing warnings would suppress those of other threads as well.
        """
        parts = {each.name: getattr(self, each.name) for each in fields(self)} | changes
        check_comparison(**{name: parts[name] for name in self._options})
        new = object.__new__(type(self))
        for name, value in parts.items():
            object.__setattr__(new, name, float(value) if name == "tau" else value)
        return new

    # ------------------------------------------------------------ noise

    @cached_property
    def own(self) -> dict[str, Comparison]:
        """Every state, the reference included, compared with its own draws; empty where there are none.

        The completeness of these is the share of itself that a state finds again: the ceiling of others' completeness
        where the state is the reference, and one minus the floor of its own redundancy.
        """
        if self.noise_ceiling is None:
            return {}
        drawn = self.noise_ceiling.effects
        return {
            label: own_comparison(self._effects(label), drawn[label], tau=self.tau, scope=self.scope, ratio=self.ratio)
            for label in self._labels
        }

    @checked("state")
    def salient(self, state: str | Layer) -> list[list[Interaction]]:
        """List the salient interactions of a state, with their selection frequency where draws were taken.

        Args:
            state: The label of a state, the reference's too; of a layer also the layer.

        Returns:
            For each sample its interactions, the strongest first, in the units of the score.

        Raises:
            ValueError: There is no such state.
        """
        label, ceiling = self._known(state), self.noise_ceiling
        drawn = ceiling.effects.get(label) if ceiling else None
        return salient_interactions(self.interactions[label], drawn, tau=self.tau, scope=self.scope)

    # ------------------------------------------------------------ tables, text, files

    def rows(self) -> list[ChangeRow]:
        """Return a row for each state, kind (AND first) and order, from 1 to the largest number of players."""
        return list(rows_of(self, self.own, self.reference, self.n_samples))

    def to_frame(self) -> pd.DataFrame:
        """Return the rows as a data frame.

        Returns:
            A DataFrame with the columns of :class:`captum_lkn.knowledge.ChangeRow`. Its first column is named
            after `noun`, such as layer, and is an ordered categorical, in the order of the states. Columns of the noise
            ceiling and of the probes are there where these are known.

        Raises:
            ImportError: If pandas is not installed.
        """
        return to_frame(self.rows(), self.accuracies, self.noun)

    @property
    def provenance(self) -> dict[str, Any]:
        """The provenance that all samples and states share, the class of each, and the options of the comparison."""
        return {
            **shared_provenance(self._batches),
            "states": list(self.states),
            "reference": self.reference,
            "comparison": self._options,
            "noise_ceiling": self.noise_ceiling and self.noise_ceiling.settings(),
        }

    def contents(self) -> Report:
        """Return what is printed: the rows, and what they are about."""
        return Report(
            rows=self.rows(),
            reference=self.reference,
            noun=self.noun,
            n_samples=self.n_samples,
            draws=self.noise_ceiling.draws if self.noise_ceiling else 0,
            accuracies=self.accuracies,
            about=shared_about(self._batches),
            **self._options,
        )

    @checked()
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to one file, draws included; see :func:`captum_lkn._common.files.write` for the errors.

        Args:
            path: The file, ending in ``.safetensors``.
        """
        files.write(path, _SCHEMA, *pack_change({each.name: getattr(self, each.name) for each in fields(self)}))

    @classmethod
    @checked()
    def load(cls, path: str | os.PathLike[str]) -> KnowledgeChange:
        """Read what :meth:`save` wrote; see :func:`captum_lkn._common.files.load` for the errors.

        Args:
            path: The file.

        Returns:
            The comparison, bit for bit.
        """
        return files.load(path, _SCHEMA, lambda *content: cls(**unpack_change(*content)))
