"""Files of parts of a sample's masks, in the folder of a study, where processes share a sample.

A part's file is named by the key of its sample and its number, such as ``<key>.0-of-2.safetensors``. It is written in
one step, as all files are, and removed once the sample's own file is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from captum_lkn._common import files
from captum_lkn._common.messages import kind_of
from captum_lkn._common.warn import warn
from captum_lkn.studies.folder import Folder, explained_errors
from captum_lkn.studies.sample_files import sample_path
from captum_lkn.values.parts import PartValues
from captum_lkn.values.rows import Part

__all__ = ["has_part", "part_path", "read_part", "remove_parts", "write_part"]

_KIND: Final = "StudyPart"


def part_path(folder: Path, key: str, part: Part) -> Path:
    """Return the file of a part of a sample."""
    return sample_path(folder, f"{key}.{part.number}-of-{part.parts}")


def write_part(folder: Folder, key: str, part: Part, values: PartValues) -> None:
    """Store a part of a sample's values, in one step.

    Raises:
        OSError: They cannot be written, such as on a full disk.
    """
    place = part_path(folder.path, key, part)
    metadata: dict[str, Any] = {
        "key": key,
        "part": list(part),
        "units": list(values.units),
        "forwards": values.forwards,
        "evaluation": values.evaluation,
    }
    with explained_errors(place):
        files.write(place, _KIND, {"columns": values.columns, "values": values.values}, metadata)


def read_part(folder: Folder, key: str, part: Part) -> PartValues | None:
    """Return a part of a sample's values; None where it is not there.

    Warns:
        UserWarning: It is damaged or another part; it is named, and will be computed again.
    """

    def make(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> PartValues:
        if (metadata["key"], metadata["part"]) != (key, list(part)):
            raise ValueError("it is another part, or of another sample")
        columns, values = tensors["columns"], tensors["values"]
        if columns.dim() != 1 or values.dim() != 2 or values.shape[1] != len(columns):
            raise ValueError("its values do not belong to its columns")
        if columns.dtype != torch.int64 or values.dtype != torch.float64:
            raise ValueError(f"its columns are {kind_of(columns)}, its values {kind_of(values)}, not int64 and float64")
        units = tuple(map(str, metadata["units"]))
        return PartValues(columns, values, units, int(metadata["forwards"]), dict(metadata["evaluation"]))

    try:
        return files.load(part_path(folder.path, key, part), _KIND, make)
    except FileNotFoundError:
        return None
    except ValueError as error:
        warn(f"{error}. The part is computed again")
        return None


def has_part(folder: Folder, key: str, part: Part) -> bool:
    """Return whether a part's file is there and whole; see :func:`read_part`."""
    return read_part(folder, key, part) is not None


def remove_parts(folder: Folder, key: str) -> None:
    """Remove all parts of a sample, of any division."""
    for each in sample_path(folder.path, key).parent.glob(f"{key}.*-of-*{files.SUFFIX}"):
        with suppress(OSError):  # another process removes them as well
            each.unlink()
