"""Files of every kind that the library writes, as a release wrote them, with what they must hold.

    python tests/golden_files.py

writes those of this version to ``tests/data/golden/<version>``, for a release. `expected.json` beside them describes
the objects in memory before they were saved; those of studies, which never are in memory whole, as they were read then.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import shutil
import types
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from fuzzed_files import CLASSES, results
from small_studies import make_layered, make_method, make_samples

import captum_lkn
from captum_lkn._common.files import SUFFIX
from captum_lkn._version import __version__
from captum_lkn.demo.text import SentimentAdapter
from captum_lkn.models.layers import Layer
from captum_lkn.studies import run_study
from captum_lkn.studies.folder import read_manifest
from captum_lkn.studies.part_files import read_part, write_part
from captum_lkn.studies.sample_files import read_sample
from captum_lkn.values.parts import PartValues
from captum_lkn.values.rows import Part

GOLDEN = Path(__file__).parent / "data" / "golden"
KINDS = CLASSES | {"SentimentAdapter": SentimentAdapter}
KEY = "0123456789abcdef" * 4
PART = Part(0, 2)


def described(value):
    """Return all that an object holds, in types of JSON; a tensor by dtype, shape and numbers."""
    if isinstance(value, torch.Tensor):
        return [str(value.dtype), list(value.shape), value.reshape(-1).tolist()]
    if isinstance(value, Layer):
        return described(value.describe())
    if dataclasses.is_dataclass(value):
        return {field.name: described(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): described(one) for key, one in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [described(one) for one in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def in_study(folder):
    """Return what is in a study's folder: its manifest, and results and outputs by sample."""
    manifest = read_manifest(folder)
    return manifest, {key: read_sample(folder, key) for key in dict.fromkeys(manifest.keys)}


def part_of(folder):
    """Return the part of a sample that is in a study's folder."""
    return read_part(types.SimpleNamespace(path=folder), KEY, PART)


def load(folder, name):
    """Read a file, or the files of a study."""
    if name in KINDS:
        return KINDS[name].load(folder / f"{name}{SUFFIX}")
    return part_of(folder / name) if name == "part" else in_study(folder / name)


def writers():
    """Return the names of all classes of the library that save themselves in a file, and can be loaded."""
    found = set()
    root = Path(captum_lkn.__file__).parent
    for file in root.rglob("*.py"):
        if "files.write(" in file.read_text(encoding="utf-8"):
            module = importlib.import_module(".".join(file.relative_to(root.parent).with_suffix("").parts))
            for base in vars(module).values():
                found |= {kind.__name__ for kind in _leaves(base) if hasattr(kind, "save") and hasattr(kind, "load")}
    return found


def _leaves(kind):
    """Return the classes of the library that are a class, or inherit from it, and from which none inherits."""
    if not inspect.isclass(kind) or not kind.__module__.startswith("captum_lkn"):
        return []
    return [leaf for each in kind.__subclasses__() for leaf in _leaves(each)] or [kind]


def objects():
    """Return an object of each kind of file; by name."""
    adapter = SentimentAdapter({"head.A": torch.ones(2, 1)}, {"accuracy": 0.75, "base": "none"})
    values = torch.tensor([[0.5, -1.25]], dtype=torch.float64)
    part = PartValues(torch.tensor([0, 3]), values, ("log-odds",), 2, {"evaluation": "masks"})
    return results() | {"SentimentAdapter": adapter, "part": part}


def methods():
    """Return the methods and options of studies, by the names of their folders."""
    return {
        "layers": (make_layered(), {}),
        "outputs": (make_method(), {"keep": "outputs"}),
        "sampled": (make_method(), {"n_samples": 16}),
    }


def write(folder):
    """Write a file of every kind, and what they hold."""
    (folder / "part" / "samples").mkdir(parents=True)
    made = objects()
    for name, one in made.items():
        if name in KINDS:
            one.save(folder / f"{name}{SUFFIX}")
    write_part(types.SimpleNamespace(path=folder / "part"), KEY, PART, made["part"])
    for name, (method, options) in methods().items():
        run_study(method, make_samples(2), folder / name, target=1, **options)
        (folder / name / "lock").unlink()
        made[name] = in_study(folder / name)
    text = ",\n".join(f"{json.dumps(name)}: {json.dumps(described(one))}" for name, one in made.items())
    (folder / "expected.json").write_text(f"{{\n{text}\n}}\n", encoding="utf-8", newline="\n")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    shutil.rmtree(GOLDEN / __version__, ignore_errors=True)
    write(GOLDEN / __version__)
