"""Files of a study with wrong content and a right checksum: its manifest, samples, parts of one; see `fuzzed_files`.

A file lies in the folder of a whole study. What comes out is refused by an error that names the file, or is used: all
that a study offers, joining it with the study as it was, and going on with it.
"""

from __future__ import annotations

import functools
import shutil
import types
import warnings
from pathlib import Path

import torch
from small_studies import make_layered, make_method, make_samples

from captum_lkn import LayerwiseKnowledge, LinearProbes
from captum_lkn.studies import load_study, merge, run_study
from captum_lkn.studies.folder import Folder, check_folder, read_manifest
from captum_lkn.studies.methods import divided, joined
from captum_lkn.studies.part_files import part_path, read_part, write_part
from captum_lkn.studies.sample_files import read_sample, sample_path
from captum_lkn.values.rows import Part

SAMPLES = 2
PARTS = (Part(0, 2), Part(1, 2))


def layered():
    """Return a method that reads a layer by a probe whose accuracy is known."""
    net = make_layered().method.forward_func
    inputs = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    probes = LinearProbes.fit(net, ["hidden"], [(inputs, torch.arange(40) % 3)], penalties=[1.0])
    return LayerwiseKnowledge(net, "hidden", probes=probes)


METHODS = {
    "layers": lambda: (layered(), {}),
    "outputs": lambda: (make_method(), {"keep": "outputs"}),
    "sampled": lambda: (make_method(), {"n_samples": 16}),
}
STUDIES = {
    "StudyManifest": ("layers", "manifest"),
    "StudyManifest, outputs": ("outputs", "manifest"),
    "StudySample": ("layers", "sample"),
    "StudySample, outputs": ("outputs", "sample"),
    "StudySample, sampled": ("sampled", "sample"),
    "StudyPart": ("outputs", "part"),
}


@functools.cache
def sample_in_parts():
    """Return a sample whose masks are divided."""
    return divided(make_method(), make_samples(SAMPLES)[-1], 1, {"perturbations_per_eval": 4}, "outputs")


def save_studies(folder: Path) -> dict[str, Path]:
    """Save a study for each kind of file, and return the file by the name of the kind."""
    found = {}
    for name, (method, file) in STUDIES.items():
        place = folder / name
        made, options = METHODS[method]()
        run_study(made, make_samples(SAMPLES), place, target=1, **options)
        key = read_manifest(place).keys[-1]
        if file == "part":
            for part in PARTS:
                write_part(types.SimpleNamespace(path=place), key, part, sample_in_parts().evaluate(part))
            found[name] = part_path(place, key, PARTS[1])
        else:
            found[name] = sample_path(place, key) if file == "sample" else place / "study.safetensors"
    return found


def copied(path: Path, folder: Path) -> Path:
    """Copy the study that a file is of into a new folder, and return the file there."""
    source = _study(path)
    shutil.copytree(source, folder)
    return folder / path.relative_to(source)


def _study(path: Path) -> Path:
    return path.parent.parent if path.parent.name == "samples" else path.parent


class Opened:
    """Content of a study's folder that is read when one of its files is loaded."""

    def __init__(self, path: Path, name: str) -> None:
        self.folder, self.file = _study(path), STUDIES[name][1]
        self.study = self.part = None
        if self.file == "part":
            self.part = self._read_part()
            return
        self.study = load_study(self.folder)
        if self.file == "sample":
            read_sample(self.folder, path.name.partition(".")[0])

    def _read_part(self):
        """Read the part as a study that goes on does: it warns of a wrong one, and computes it anew."""
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                return read_part(types.SimpleNamespace(path=self.folder), read_manifest(self.folder).keys[-1], PARTS[1])
            except UserWarning as warning:
                raise ValueError(str(warning)) from None


def use(opened: Opened) -> None:
    """Do with a study what users do; an error must name the file or the folder."""
    if opened.part is not None:
        sample = sample_in_parts()
        parts = [sample.evaluate(PARTS[0]), opened.part]
        if sample.fits(parts):
            _named(lambda: joined(sample, parts), "v(N)")
        return
    study, folder = opened.study, str(opened.folder)
    str(study)
    for number in study.stored:
        _named(functools.partial(study.sample, number), folder)
    for work in (lambda: str(study.by_layer), lambda: study.interactions, study.summary, study.strongest):
        _named(work, folder, "Run the study", "Take by_layer")
    _named(lambda: str(study.change), folder, "Run the study", "there is no layer besides")
    _named(study.rescore, folder, "Run the study", "keep='outputs'", "score must be one of")
    _named(lambda: len(merge([opened.folder, opened.folder])), folder)
    check_folder(opened.folder)
    manifest = read_manifest(opened.folder)
    with Folder.open(opened.folder, manifest, True) as again:
        for key in manifest.keys:
            again.has(key)
        again.strangers(manifest.keys)


def _named(work, *names: str) -> None:
    """Allow a ValueError that says one of these."""
    try:
        work()
    except ValueError as error:
        if not any(name in str(error) for name in names):
            raise
