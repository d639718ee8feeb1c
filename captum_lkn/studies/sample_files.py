"""Files of samples in the folder of a study: the results of one sample, and the outputs where they are kept.

A sample's file is named by its key. It is written in one step, as all files are.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeAlias

from torch import Tensor

from captum_lkn._common import files
from captum_lkn._common.messages import count_of, some_of
from captum_lkn.attribution.outputs import KeptOutputs
from captum_lkn.interactions import Interactions, SampledInteractions
from captum_lkn.interactions.about import other_sample
from captum_lkn.interactions.packing import pack, pack_sampled, unpack, unpack_sampled
from captum_lkn.knowledge import LayerwiseKnowledge
from captum_lkn.models.layers import OUTPUT

__all__ = [
    "SAMPLES",
    "Outputs",
    "Results",
    "check_sample",
    "kept_outputs_of",
    "read_sample",
    "sample_path",
    "write_sample",
]

SAMPLES: Final = "samples"
"""The name of the folder of these files, in that of the study."""

Results: TypeAlias = dict[str, Interactions | SampledInteractions]
"""Interactions by layer."""

Outputs: TypeAlias = tuple[Tensor, Mapping[str, Any]]
"""Outputs of a model, and JSON on them."""

_KIND: Final = "StudySample"


def sample_path(folder: Path, key: str) -> Path:
    """Return the file of a sample."""
    return folder / SAMPLES / f"{key}{files.SUFFIX}"


def write_sample(folder: Path, key: str, results: Results, outputs: Outputs | None = None) -> None:
    """Write the results of a sample, in one step.

    Args:
        folder: The folder of the study.
        key: The key of the sample.
        results: By layer.
        outputs: The model's outputs, and JSON on them; None where they are not kept.

    Raises:
        OSError: They cannot be written, such as on a full disk.
    """
    each = [one.parts() for one in results.values()]
    sampled = isinstance(next(iter(results.values())), SampledInteractions)
    tensors, metadata = (pack_sampled if sampled else pack)(each)
    more: dict[str, Any] = {"key": key, "labels": list(results), "sampled": sampled}
    if outputs is not None:
        tensors, more["outputs"] = {**tensors, "outputs": outputs[0]}, outputs[1]
    files.write(sample_path(folder, key), _KIND, tensors, {**metadata, **more})


def check_sample(folder: Path, key: str, settings: Mapping[str, Any], players: int) -> None:
    """Check that the file of a sample holds what the readers of its study take.

    Args:
        folder: The folder of the study.
        key: The key of the sample.
        settings: The settings of the study.
        players: The number of players of the sample.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: It is damaged, of another sample, or not of this study.
    """

    def check(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
        results, outputs = _made(tensors, metadata, key)
        _check_results(results, settings, players)
        wanted = settings["keep"] == "outputs"
        if wanted != (outputs is not None):
            has, keeps = ("no outputs", "outputs") if wanted else ("outputs", "none")
            raise ValueError(f"it has {has}, and the study keeps {keeps}")

    files.load(sample_path(folder, key), _KIND, check)


def read_sample(folder: Path, key: str) -> tuple[Results, Outputs | None]:
    """Read the results of a sample, and the outputs where they were kept.

    Raises:
        FileNotFoundError: They are not there.
        ValueError: The file is damaged, or of another sample.
    """
    return files.load(sample_path(folder, key), _KIND, partial(_made, key=key))


def kept_outputs_of(one: Interactions | SampledInteractions, outputs: Outputs) -> KeptOutputs:
    """Return outputs with what the interactions of their sample hold as well.

    Raises:
        TypeError: A part of the outputs is of the wrong type.
        ValueError: They do not fit each other or the interactions.
    """
    tensor, about = outputs
    names = tuple(about["class_names"])
    kept = KeptOutputs(tensor, about["kind"], names, one.players, one.layout, one.provenance, one.epsilon)
    kept.target()
    return kept


def _made(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any], key: str) -> tuple[Results, Outputs | None]:
    """Return the results and the outputs of a sample, made of the content of its file."""
    if metadata["key"] != key:
        raise ValueError(f"it is of another sample or study, {metadata['key'][:12]}")
    each: list[Interactions | SampledInteractions]
    if metadata["sampled"]:
        each = [SampledInteractions(**arguments) for arguments in unpack_sampled(tensors, metadata)]
    else:
        each = [Interactions(**arguments) for arguments in unpack(tensors, metadata)]
    results = dict(zip(metadata["labels"], each, strict=True))
    if not results or len(results) < len(each) or not all(isinstance(label, str) for label in results):
        raise ValueError(f"labels must be different texts, one or more; got {metadata['labels']!r}")
    _check_one_sample(results)
    if "outputs" not in metadata:
        return results, None
    outputs = tensors["outputs"], metadata["outputs"]
    kept_outputs_of(next(iter(results.values())), outputs)
    return results, outputs


def _check_results(results: Results, settings: Mapping[str, Any], players: int) -> None:
    """Check that the results of a sample are of the layers, the masks and the number of players of its study."""
    labels, layers = list(results), list(settings["layers"])
    read = [label for label in labels if label != OUTPUT]
    if read != layers or (settings["method"] == LayerwiseKnowledge.__name__ and labels[-1] != OUTPUT):
        raise ValueError(f"it has the layers {some_of(labels)}, and the study reads {some_of(layers or [OUTPUT])}")
    first = results[labels[0]]
    if len(first.players) != players:
        raise ValueError(f"it has {count_of(len(first.players), 'player')}, and the sample has {players}")
    sampled = settings["options"].get("n_samples") is not None
    if isinstance(first, SampledInteractions) != sampled:
        has, takes = ("all masks", "samples of them") if sampled else ("sampled masks", "all")
        raise ValueError(f"it is of {has}, and the study takes {takes}")


def _check_one_sample(results: Results) -> None:
    """Check that the results of all layers are about one sample and one question."""
    label, first = next(iter(results.items()))
    for other, one in islice(results.items(), 1, None):
        if differing := other_sample(first, one):
            name, mine, theirs = differing
            raise ValueError(
                f"the results must be of one sample; the {name} is {mine} of {label!r}, {theirs} of {other!r}"
            )
