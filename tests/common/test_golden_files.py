"""Files that a release wrote load in this version, and hold what they held; see ``tests/golden_files.py``."""

import json
import re

import pytest
from golden_files import GOLDEN, KINDS, described, load, writers

from captum_lkn import Interactions, KnowledgeChange, LinearProbes
from captum_lkn.studies import load_study

RELEASES = sorted(path.name for path in GOLDEN.iterdir())


@pytest.fixture(scope="module", params=RELEASES)
def release(request):
    folder = GOLDEN / request.param
    return folder, json.loads((folder / "expected.json").read_text(encoding="utf-8"))


def differences(expected, found, place=""):
    """Yield the places where something differs; a later version may hold more."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for key in expected:
            yield from differences(expected[key], found[key], f"{place}.{key}") if key in found else [f"{place}.{key}"]
    elif isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        for i, (one, other) in enumerate(zip(expected, found, strict=True)):
            yield from differences(one, other, f"{place}[{i}]")
    elif repr(expected) != repr(found):  # bit for bit, also NaN, -0.0, and 1 for 1.0
        yield f"{place}: {expected!r} became {found!r}"


@pytest.mark.filterwarnings("error")
def test_every_file_of_a_release_loads_and_holds_what_it_held(release):
    folder, expected = release
    wrong = [
        f"{name}{place}"
        for name, held in expected.items()
        for place in differences(held, described(load(folder, name)))
    ]
    assert not wrong, wrong
    assert set(expected) >= set(KINDS) | {"part", "layers", "outputs", "sampled"}


def test_some_numbers_of_the_first_release_as_they_were_printed():
    folder = GOLDEN / "0.1.0"
    found = Interactions.load(folder / "Interactions.safetensors")
    assert str(found.top(1)[0]) == "2  +0.260"
    assert [round(number, 4) for number in found.shapley_values().tolist()] == [-0.0699, -0.0874, 0.2923]
    assert list(LinearProbes.load(folder / "LinearProbes.safetensors")) == ["0", "1"]
    change = KnowledgeChange.load(folder / "KnowledgeChange.safetensors")
    assert (change.states, change.reference, change.noise_ceiling.draws) == (("0", "1"), "output", 2)


def test_studies_of_a_release_can_be_used(release):
    folder, _ = release
    study = load_study(folder / "layers")
    assert study.missing == ()
    assert study.change.reference == "output"


def released(changelog):
    """Return the versions that a changelog says are out; a heading in another form is an error."""
    headings = re.findall(r"^## (.*)", changelog, re.MULTILINE)
    versions = [re.match(r"\[(?:Unreleased|v?(\d[^\]]*))\]", heading) for heading in headings]
    assert all(versions), headings
    return {match[1] for match in versions if match[1]}


def test_every_kind_of_file_and_every_release_is_there():
    assert writers() == set(KINDS)
    changelog = (GOLDEN.parents[2] / "CHANGELOG.md").read_text(encoding="utf-8")
    assert released(changelog) <= set(RELEASES), "run python tests/golden_files.py for a release"


def test_the_releases_of_a_changelog_are_found():
    headings = ["## [Unreleased] 100.0", "### Added", "## [99.1] - 2030-02-01", "text", "## [v99.0.1rc1] - 2030-01-01"]
    assert released("\n\n".join(headings)) == {"99.1", "99.0.1rc1"}
    with pytest.raises(AssertionError, match="98"):
        released("## 98.0 - 2029-01-01")
