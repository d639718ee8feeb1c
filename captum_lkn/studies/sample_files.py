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
from captum_lkn._common.messages import some_of
from captum_lkn.attribution.outputs import KeptOutputs
from captum_lkn.interactions import Interactions, SampledInteractions
from captum_lkn.interactions.about import other_question
from captum_lkn.interactions.packing import pack, pack_sampled, unpack, unpack_sampled

__all__ = ["Outputs", "Results", "check_sample", "kept_outputs_of", "read_sample", "sample_path", "write_sample"]

Results: TypeAlias = dict[str, Interactions | SampledInteractions]
"""Interactions by layer."""

Outputs: TypeAlias = tuple[Tensor, Mapping[str, Any]]
"""Outputs of a model, and JSON on them."""

_KIND: Final = "StudySample"


def sample_path(folder: Path, key: str) -> Path:
    """Return the file of a sample."""
    return folder / "samples" / f"{key}{files.SUFFIX}"


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


def check_sample(folder: Path, key: str) -> None:
    """Check that the file of a sample is whole, and of this sample.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: It is damaged, or of another sample.
    """
    files.load(sample_path(folder, key), _KIND, partial(_check_key, key=key))


def read_sample(folder: Path, key: str) -> tuple[Results, Outputs | None]:
    """Read the results of a sample, and the outputs where they were kept.

    Raises:
        FileNotFoundError: They are not there.
        ValueError: The file is damaged, or of another sample.
    """

    def make(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> tuple[Results, Outputs | None]:
        _check_key(tensors, metadata, key)
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

    return files.load(sample_path(folder, key), _KIND, make)


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


def _check_key(_: Mapping[str, Tensor], metadata: Mapping[str, Any], key: str) -> None:
    if metadata["key"] != key:
        raise ValueError(f"it is of another sample or study, {metadata['key'][:12]}")


def _check_one_sample(results: Results) -> None:
    """Check that the results of all layers are about one sample and one question."""
    label, first = next(iter(results.items()))
    for other, one in islice(results.items(), 1, None):
        differing = other_question(first.provenance, one.provenance)
        if one.players != first.players:
            differing = "players", some_of(first.players), some_of(one.players)
        if differing:
            name, mine, theirs = differing
            raise ValueError(
                f"the results must be of one sample; the {name} is {mine} of {label!r}, {theirs} of {other!r}"
            )
