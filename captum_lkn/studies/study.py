"""Results of a study, read from its folder when they are asked for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from captum_lkn._common.arguments import checked
from captum_lkn._common.messages import count_of, some_of
from captum_lkn.evaluation.bootstrap import CONFIDENCE, RESAMPLES, Resampling
from captum_lkn.interactions import InteractionsBatch, SampledBatch
from captum_lkn.interactions.by_layer import LayerInteractions
from captum_lkn.knowledge import KnowledgeChange
from captum_lkn.models.layers import OUTPUT
from captum_lkn.outputs.score import ScoreLike
from captum_lkn.outputs.targets import TargetLike
from captum_lkn.studies.folder import Manifest, check_study, read_manifest
from captum_lkn.studies.rescoring import rescored
from captum_lkn.studies.sample_files import Results, read_sample, sample_path
from captum_lkn.studies.summary import StrongestCombinations, StudySummary, strongest_combinations, summarised

__all__ = ["Study", "load_study"]


@checked()
@dataclass(frozen=True, eq=False, repr=False)
class Study:
    """Results of many samples; made by :func:`run_study`, :func:`load_study` and :func:`merge`.

    Attributes:
        settings: What the results depend on besides the samples: the method, digests of model, score and read-outs,
            layers, options, versions.
        keys: The key of each sample, in the order in which they were given; equal samples have one key.
        folders: By key the folder that holds the sample's file; those that are missing are left out.
        accuracies: By layer the accuracy of its probe, on the training and on the held-out part.
    """

    settings: Mapping[str, Any]
    keys: tuple[str, ...]
    folders: Mapping[str, Path]
    accuracies: Mapping[str, tuple[float, float]]

    def __post_init__(self) -> None:
        check_study(self.settings, self.accuracies)
        if strangers := set(self.folders) - set(self.keys):
            raise ValueError(f"folders must be of the study's keys; got {min(strangers)!r}")

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def missing(self) -> tuple[int, ...]:
        """The numbers of the samples that are not stored."""
        return tuple(i for i, key in enumerate(self.keys) if key not in self.folders)

    @property
    def stored(self) -> tuple[int, ...]:
        """The numbers of the samples that are stored: those of the results, in their order."""
        return tuple(i for i, key in enumerate(self.keys) if key in self.folders)

    @checked()
    def sample(self, number: int) -> Results:
        """Return the results of one sample by layer; ``"output"`` is the model's own output.

        Args:
            number: Its number, from 0, among all samples.

        Raises:
            IndexError: There is no such sample.
            FileNotFoundError: It is not stored.
            ValueError: Its file is damaged or of another sample.
        """
        if not 0 <= number < len(self):
            raise IndexError(f"there is no sample {number} in a study of {count_of(len(self), 'sample')}")
        key = self.keys[number]
        if key not in self.folders:
            raise FileNotFoundError(f"sample {number} is not stored. Run the study to its end")
        return read_sample(self.folders[key], key)[0]

    @cached_property
    def by_layer(self) -> Mapping[str, InteractionsBatch | SampledBatch]:
        """The interactions of all samples that are stored, by layer.

        Raises:
            ValueError: No sample is stored; a file is damaged or of another sample.
        """
        found = [self.sample(number) for number in self.stored]
        if not found:
            raise ValueError("no sample of the study is stored. Run the study")
        for number, one in zip(self.stored, found, strict=True):
            if list(one) != list(found[0]):
                raise ValueError(
                    f"{self._file(number)} has the layers {some_of(list(one))}, and that of sample {self.stored[0]} "
                    f"has {some_of(list(found[0]))}. Remove the wrong one, and run the study again"
                )
        columns: dict[str, Any] = {label: [one[label] for one in found] for label in found[0]}
        batch = InteractionsBatch if self.settings["options"].get("n_samples") is None else SampledBatch
        return LayerInteractions({label: batch(column) for label, column in columns.items()})

    @property
    def interactions(self) -> Any:
        """The interactions of the output, or of the only layer that was read: a batch of all samples that are stored.

        Raises:
            ValueError: As :attr:`by_layer`; several layers, and the output is not among them.
        """
        layers = self.by_layer
        if OUTPUT in layers:
            return layers[OUTPUT]
        if len(layers) > 1:
            raise ValueError(f"the study read the layers {some_of(list(layers))}. Take by_layer")
        return next(iter(layers.values()))

    @cached_property
    def change(self) -> KnowledgeChange:
        """The comparison of the layers with the output, over all samples that are stored.

        Raises:
            ValueError: As :attr:`by_layer`; there are no layers besides the output.
        """
        return KnowledgeChange(dict(self.by_layer), accuracies=self.accuracies)

    @checked()
    def rescore(self, score: ScoreLike | None = None, target: TargetLike = None, **options: Any) -> InteractionsBatch:
        """Score the stored outputs in another way and decompose the values; no forward is run.

        The study must have been run with ``keep="outputs"``.

        Args:
            score: The score, as in :class:`captum_lkn.AndOrInteraction`. None: the study's, where that has a name.
            target: The class: one for all samples, or a list with one for each sample that is stored. None: the class
                that was explained.
            **options: Options of :class:`captum_lkn.DecompositionOptions` that replace the study's.

        Returns:
            The interactions of all samples that are stored.

        Raises:
            ValueError: The outputs were not kept; no sample is stored; a target or score that does not fit; an option
                out of range.
        """
        if self.settings["keep"] != "outputs":
            raise ValueError("the study has no outputs to score. Run it with keep='outputs', in another folder")
        found = [read_sample(self.folders[key], key) for key in self.keys if key in self.folders]
        if not found:
            raise ValueError("no sample of the study is stored. Run the study")
        interactions: list[Any] = [next(iter(results.values())) for results, _ in found]
        kept = [outputs for _, outputs in found if outputs is not None]
        if len(kept) < len(found):
            number = next(number for number, (_, own) in zip(self.stored, found, strict=True) if own is None)
            raise ValueError(f"{self._file(number)} has no outputs. Run the study again")
        named = str(self.settings["score"]).rpartition(" ")[0]
        return rescored(interactions, kept, named if score is None else score, target, options)

    @checked()
    def strongest(
        self,
        top: int = 10,
        *,
        least_order: int = 1,
        layer: str | None = None,
        confidence: float = CONFIDENCE,
        resamples: int = RESAMPLES,
        seed: int = 0,
    ) -> StrongestCombinations:
        """Return the strongest combinations of players over all samples that are stored, with intervals.

        Args:
            top: The number of combinations.
            least_order: The least number of players in one.
            layer: The label of a layer; None: the output, or the only layer.
            confidence: The probability of the intervals, by the bootstrap over samples.
            resamples: The number of its resamples.
            seed: Their seed.

        Returns:
            Combinations by descending sum of absolute effects: print it, or take ``to_frame()``.

        Raises:
            TypeError: A setting of the wrong type.
            ValueError: No such layer; a setting out of range.
        """
        batch = self.interactions if layer is None else self.by_layer.get(layer)
        if batch is None:
            raise ValueError(f"layer must be one of {some_of(list(self.by_layer))}; got {layer!r}")
        return strongest_combinations(batch, top, least_order, Resampling(confidence, resamples, seed).check())

    @checked()
    def summary(self, *, confidence: float = CONFIDENCE, resamples: int = RESAMPLES, seed: int = 0) -> StudySummary:
        """Return means over all samples that are stored, by layer, with intervals.

        Args:
            confidence: The probability of the intervals, by the bootstrap over samples.
            resamples: The number of its resamples.
            seed: Their seed.

        Returns:
            A row a layer: print it, or take ``to_frame()``.

        Raises:
            TypeError: A setting of the wrong type.
            ValueError: A setting out of range.
        """
        return summarised(self.by_layer, Resampling(confidence, resamples, seed).check())

    def _file(self, number: int) -> str:
        """Return the name of a stored sample's file for messages."""
        key = self.keys[number]
        return f"the file {str(sample_path(self.folders[key], key))!r} of sample {number}"

    def __repr__(self) -> str:
        settings = self.settings
        model, score = (str(settings[name]).rpartition(" ")[0] for name in ("model", "score"))
        layers = [*settings["layers"]]
        lines = [f"Study of {count_of(len(self), 'sample')}: {settings['method']} of {model}, score {score}"]
        if layers:
            lines.append(f"layers: {some_of(layers)}")
        state = "all are stored" if not self.missing else f"missing: samples {some_of(self.missing)}"
        return "\n  ".join([*lines, state])


@checked("folder")
def load_study(folder: str | os.PathLike[str]) -> Study:
    """Return the results in the folder of a study, also while it runs and after it was killed.

    Args:
        folder: The folder that :func:`run_study` was given.

    Returns:
        The study; files are read when their samples are asked for.

    Raises:
        FileNotFoundError: The folder holds no study.
        ValueError: Its manifest is damaged.
    """
    path = Path(folder)
    return of_manifest(read_manifest(path), path)


def of_manifest(manifest: Manifest, path: Path) -> Study:
    """Return the study in a folder whose manifest was read."""
    folders = {key: path for key in dict.fromkeys(manifest.keys) if sample_path(path, key).exists()}
    return Study(manifest.settings, manifest.keys, folders, manifest.accuracies)
