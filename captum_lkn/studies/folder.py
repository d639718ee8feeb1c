"""The folder of a study: a manifest, one file a sample, and the locks.

==========================  ==========================================================================================
``study.safetensors``       the manifest: settings, and the key and the number of players of each sample
``samples/<key>...``        the results of one sample, for all layers that were read; while ranks share a sample, the
                            values of its parts
``lock``                    an empty file, on which processes lock what they work at
==========================  ==========================================================================================
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from torch import Tensor

from captum_lkn._common import files
from captum_lkn._common.arguments import checked, shown
from captum_lkn._common.formats import shortened
from captum_lkn._common.messages import count_of, some_of
from captum_lkn._common.warn import warn
from captum_lkn.studies.locks import Locks
from captum_lkn.studies.sample_files import SAMPLES, Outputs, Results, check_sample, sample_path, write_sample

__all__ = [
    "Folder",
    "Manifest",
    "check_folder",
    "check_settings",
    "check_study",
    "explained_errors",
    "read_manifest",
]

_MANIFEST: Final = "study.safetensors"
_LOCK: Final = "lock"
_KIND: Final = "Study"
_SETTINGS: Final[Mapping[str, type]] = {
    "method": str,
    "model": str,
    "score": str,
    "layers": dict,
    "options": dict,
    "keep": str,
}
_DIGITS: Final = "[0-9a-f]{64}"
_KEY: Final = re.compile(_DIGITS)  # no other text becomes a part of a path
# The name of a sample's file, or of that of one of its parts.
_NAME: Final = re.compile(rf"({_DIGITS})(?:\.\d{{1,5}}-of-(\d{{1,5}}))?{re.escape(files.SUFFIX)}")


@checked()
@dataclass(frozen=True)
class Manifest:
    """Settings and samples of a study.

    Attributes:
        settings: By name what results depend on besides the samples: the method, digests of model, score and read-outs,
            layers, options, versions.
        keys: The key of each sample, in the order in which they were given. Equal samples have one key.
        players: By key the number of players.
        accuracies: By layer the accuracy of its probe, on the training and on the held-out part.
    """

    settings: Mapping[str, Any]
    keys: tuple[str, ...]
    players: Mapping[str, int]
    accuracies: Mapping[str, tuple[float, float]]

    def __post_init__(self) -> None:
        check_study(self.settings, self.accuracies)
        if strangers := [key for key in self.keys if not _KEY.fullmatch(key)]:
            raise ValueError(f"keys must be of 64 hexadecimal digits; got {shown(strangers[0])}")
        if set(self.players) != set(self.keys) or min(self.players.values(), default=1) < 1:
            raise ValueError("players must have a number from 1 on for each key")


def check_study(settings: Mapping[str, Any], accuracies: Mapping[str, tuple[float, float]]) -> None:
    """Check the settings of a study, and the accuracies of its probes.

    Raises:
        ValueError: A setting is missing or of another type; an accuracy is not between 0 and 1.
    """
    for name, kind in _SETTINGS.items():
        if not isinstance(settings.get(name), kind):
            raise ValueError(f"settings must have {name!r}, a {kind.__name__}; got {shown(settings.get(name))}")
    for label, both in accuracies.items():
        if not all(0 <= one <= 1 for one in both):
            raise ValueError(f"accuracies must be from 0 to 1; got {both} of {label!r}")


class Folder:
    """An open folder of a study, at which other processes may be at work as well.

    Args:
        path: The folder, which is made where it is missing.
        manifest: The manifest of the study.

    Raises:
        OSError: It cannot be made or written to.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path, self.manifest = path, manifest
        try:
            (path / SAMPLES).mkdir(parents=True, exist_ok=True)
            self.locks = Locks(path / _LOCK)
        except OSError as error:
            raise type(error)(
                error.errno, f"out must be a folder that can be made and written to ({error.strerror})", str(path)
            ) from error

    @classmethod
    @contextmanager
    def open(cls, path: Path, manifest: Manifest, resume: bool) -> Iterator[Folder]:
        """Open a folder for a study: an empty one, or one that holds this very study.

        Raises:
            FileExistsError: It holds the study, and `resume` is False.
            ValueError: It holds another study, or other files.
            OSError: It cannot be written to.
        """
        check_folder(path)
        folder = cls(path, manifest)
        try:
            folder._claim(resume)
            folder.locks.opened()
            yield folder
        finally:
            if folder.locks.alone():
                folder._clean()
            folder.locks.close()

    def _claim(self, resume: bool) -> None:
        """Write the manifest where there is none, and check that it is of this study."""
        if self.locks.alone():
            self._clean()
        place = self.path / _MANIFEST
        found = None
        try:
            found = read_manifest(self.path)
        except FileNotFoundError:
            pass
        except ValueError as error:
            warn(f"{error}. It is written anew, and each sample's file is checked against it")
        if found is None:
            with explained_errors(place):
                files.write(place, _KIND, {}, asdict(self.manifest))
            return
        _check_same(found, self.manifest, self.path)
        if not resume:
            raise FileExistsError(
                f"the folder {str(self.path)!r} holds this study already. Give resume=True to go on, or another folder"
            )

    def _clean(self) -> None:
        """Remove what processes that were killed had begun to write; nobody else is there."""
        for each in (*self.path.glob(".*.tmp"), *(self.path / SAMPLES).glob(".*.tmp")):
            with suppress(OSError):
                each.unlink()

    def has(self, key: str) -> bool:
        """Return whether a sample's file is there and holds what the readers of the study take.

        Warns:
            UserWarning: It is damaged, of another sample or not of this study; it is named, and will be computed again.
        """
        try:
            check_sample(self.path, key, self.manifest.settings, self.manifest.players[key])
        except FileNotFoundError:
            return False
        except ValueError as error:
            warn(f"{error}. The sample is computed again")
            return False
        return True

    def write(self, key: str, results: Results, outputs: Outputs | None = None) -> None:
        """Store the results of a sample, in one step.

        Args:
            key: The key of the sample.
            results: By layer.
            outputs: The model's outputs, and JSON on them; None where they are not kept.

        Raises:
            OSError: They cannot be written, such as on a full disk.
        """
        with explained_errors(sample_path(self.path, key)):
            write_sample(self.path, key, results, outputs)

    def strangers(self, keys: Sequence[str]) -> list[str]:
        """Return the names of files that are not of the study's samples."""
        own = set(keys)
        names = [each.name for each in (self.path / SAMPLES).iterdir()]
        found = {name: _NAME.fullmatch(name) for name in names if not _is_unfinished(name)}
        return sorted(name for name, match in found.items() if match is None or match[1] not in own)

    def divisions(self) -> dict[str, int]:
        """Return into how many parts samples are divided that have parts in the folder, by their keys."""
        names = (_NAME.fullmatch(each.name) for each in (self.path / SAMPLES).iterdir())
        found = Counter((name[1], int(name[2])) for name in names if name is not None and name[2] is not None)
        return {key: parts for (key, parts), _ in reversed(found.most_common()) if parts > 0}


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a folder.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It is damaged.
    """

    def make(_: Mapping[str, Tensor], found: Mapping[str, Any]) -> Manifest:
        accuracies = {label: (both[0], both[1]) for label, both in found["accuracies"].items()}
        return Manifest(found["settings"], tuple(found["keys"]), found["players"], accuracies)

    return files.load(folder / _MANIFEST, _KIND, make)


def _is_unfinished(name: str) -> bool:
    """Return whether a file is one that a process is writing, or was."""
    return name.startswith(".") and name.endswith(".tmp")


def check_folder(path: Path) -> None:
    """Check that a study can be kept in a folder; callers check before long work.

    Args:
        path: The folder, which is made where it is missing.

    Raises:
        NotADirectoryError: It is a file, or lies in one.
        OSError: It cannot be made or written to.
        ValueError: It is used for something else.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise OSError(f"out must be a folder that can be made; got {str(path)!r}: {error.strerror}") from error
    nearest = next(each for each in (path, *path.absolute().parents) if os.path.exists(each))
    if not os.path.isdir(nearest):
        inside = "which" if nearest == path else f"and {str(nearest)!r}"
        raise NotADirectoryError(f"out must be a folder that can be made; got {str(path)!r}, {inside} is a file")
    if not os.access(nearest, os.W_OK):
        raise PermissionError(f"out must be a folder that can be written to; got {str(path)!r}, which is read-only")
    if not os.path.isdir(path) or (path / _MANIFEST).exists():
        return
    own = {_MANIFEST, SAMPLES, _LOCK}
    others = sorted(each.name for each in path.iterdir() if each.name not in own and not each.name.endswith(".tmp"))
    if others:
        raise ValueError(
            f"the folder {str(path)!r} must be a new or empty folder, or one of this study; it has "
            f"{some_of(others)}. Give another folder"
        )


def _check_same(found: Manifest, wanted: Manifest, path: Path) -> None:
    """Refuse the folder of another study, and say in what it differs."""
    check_settings(found.settings, wanted.settings, f"the folder {str(path)!r}")
    if found.keys != wanted.keys:
        more = len(set(wanted.keys) - set(found.keys))
        raise ValueError(
            f"the folder {str(path)!r} holds a study of other samples, {len(found.keys)} of them; of the "
            f"{count_of(len(wanted.keys), 'sample')} given it lacks {more}, or their order differs. Give another "
            "folder; captum_lkn.studies.merge joins folders"
        )


def check_settings(
    found: Mapping[str, Any],
    wanted: Mapping[str, Any],
    where: str,
    advice: str = "Give another folder, or the same model and options",
) -> None:
    """Refuse a folder whose study has other settings, and say which.

    Raises:
        ValueError: They differ.
    """
    names = dict.fromkeys((*found, *wanted))
    others = [name for name in names if found.get(name) != wanted.get(name)]
    if others:
        each = [f"{name} {_short(found, name)}, not {_short(wanted, name)}" for name in others]
        raise ValueError(f"{where} holds another study; it has {some_of(each, '; ')}. {advice}")


def _short(settings: Mapping[str, Any], name: str) -> str:
    return shortened(str(settings.get(name)), 48)


@contextmanager
def explained_errors(place: Path) -> Iterator[None]:
    """Say of an error of the file system that nothing is lost."""
    try:
        yield
    except OSError as error:
        name = os.fspath(place)
        reason = os.strerror(error.errno) if error.errno else error
        raise type(error)(
            error.errno,
            f"the study cannot be stored ({reason}). What was stored before is kept: make room, or "
            "make the folder writable, and run again",
            name,
        ) from error
