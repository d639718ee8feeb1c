"""Join the folders of a study's parts."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from captum_lkn._common.arguments import checked
from captum_lkn._common.messages import some_of
from captum_lkn._common.rounding import agree
from captum_lkn._common.warn import warn
from captum_lkn.interactions import Interactions
from captum_lkn.studies.folder import Folder, Manifest, check_settings, read_manifest
from captum_lkn.studies.methods import shares_forwards
from captum_lkn.studies.sample_files import check_sample, read_sample, sample_path
from captum_lkn.studies.study import Study, load_study

__all__ = ["merge"]


@checked("folders", "out")
def merge(folders: Iterable[str | os.PathLike[str]], out: str | os.PathLike[str] | None = None) -> Study:
    """Join folders of one study's shares, or of studies that differ in their samples alone.

    Every file is read and verified. The samples are those of the first folder, then those of each next one that are
    new.

    Args:
        folders: The folders.
        out: A new or empty folder, or one in which the same was begun, to which all files are copied. None: files stay
            where they are.

    Returns:
        The whole study; what no folder has is among its ``missing``.

    Raises:
        FileNotFoundError: A folder holds no study.
        ValueError: No folders; studies of other models or options; two folders with different results for one sample,
            by more than rounding, or by any bit where samples share no forwards.

    Warns:
        UserWarning: A file is damaged: it is named, and counts as missing; results that differ by rounding, of which
            those of the first folder are taken.
    """
    paths = [Path(folder) for folder in folders]
    if not paths:
        raise ValueError("folders must be at least one; got none")
    manifests = [read_manifest(path) for path in paths]
    for path, manifest in zip(paths[1:], manifests[1:], strict=True):
        check_settings(manifest.settings, manifests[0].settings, f"the folder {str(path)!r}")
    first = manifests[0]
    keys = list(first.keys)
    for manifest in manifests[1:]:
        keys += [key for key in dict.fromkeys(manifest.keys) if key not in set(keys)]
    players = {key: n for manifest in manifests for key, n in manifest.players.items()}
    whole = Manifest(first.settings, tuple(keys), players, first.accuracies)
    places = _places(paths, whole)
    if out is None:
        return Study(whole.settings, whole.keys, places, whole.accuracies)
    with Folder.open(Path(out), whole, True) as folder:
        for key, place in places.items():
            if not folder.has(key):
                folder.write(key, *read_sample(place, key))
    return load_study(out)


def _places(paths: Sequence[Path], whole: Manifest) -> Mapping[str, Path]:
    """Return by key the folder of a whole file; files of one sample must be equal."""
    found: dict[str, Path] = {}
    damaged: list[str] = []
    rounded: list[str] = []
    may_share = shares_forwards(whole.settings["options"], whole.settings["keep"])
    for key in dict.fromkeys(whole.keys):
        for path in paths:
            place = sample_path(path, key)
            if not place.exists():
                continue
            try:
                check_sample(path, key, whole.settings, whole.players[key])
            except ValueError as error:
                damaged.append(str(error))
                continue
            before = found.setdefault(key, path)
            if before == path or sample_path(before, key).read_bytes() == place.read_bytes():
                continue
            if may_share and _differ_by_rounding(before, path, key):
                rounded.append(key[:12])
            else:
                raise ValueError(
                    f"the folders {str(before)!r} and {str(path)!r} have different results for the sample {key[:12]}, "
                    "such as from different machines. Remove the file from one of them"
                )
    if rounded:
        warn(
            f"the folders have results that differ by rounding, of the samples {some_of(rounded)}: those of the first "
            "folder are taken"
        )
    if damaged:
        warn(f"left out as missing: {some_of(damaged, '; ')}")
    return found


def _differ_by_rounding(first: Path, second: Path, key: str) -> bool:
    """Return whether two results of one sample have the same values up to rounding.

    Short samples share forwards with those of their group in a study, and are rounded with them.
    """
    (one, _), (other, _) = read_sample(first, key), read_sample(second, key)
    if list(one) != list(other):
        return False
    for label, mine in one.items():
        theirs = other[label]
        if not isinstance(mine, Interactions) or not isinstance(theirs, Interactions):
            return False
        if mine.values.shape != theirs.values.shape or mine.provenance.get("target") != theirs.provenance.get("target"):
            return False
        if not agree(mine.values, theirs.values, max(mine.epsilon, theirs.epsilon)):
            return False
    return True
