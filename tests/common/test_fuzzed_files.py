"""Saved results and studies whose content is wrong, though their checksum is right; see ``tests/fuzzed_files.py``."""

import collections
import json
import warnings

import pytest
import torch
from fuzzed_files import CLASSES, KINDS, MEASURES, loaded, mutated, outcome, place_of, save_all, use
from fuzzed_studies import STUDIES, copied, save_studies

from captum_lkn import Interactions
from captum_lkn._common import files
from captum_lkn.studies import load_study

EACH = dict.fromkeys(CLASSES, 1600) | {"KnowledgeChange": 400}  # comparisons take five times as long
EACH |= {kind.__name__: 100 for kind in MEASURES}  # which make their intervals and data frames anew
EACH |= dict.fromkeys(STUDIES, 100)  # of which all files are read


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return save_all(tmp_path_factory.mktemp("saved")) | save_studies(tmp_path_factory.mktemp("studies"))


@pytest.mark.parametrize("name", CLASSES)
def test_what_is_loaded_as_it_was_saved_can_be_used_and_saved_again(saved, name, tmp_path):
    result = CLASSES[name].load(saved[name])
    use(result)
    result.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == saved[name].read_bytes()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", KINDS)
def test_wrong_content_is_refused_when_it_is_loaded_or_does_no_harm(saved, name, tmp_path):
    place = place_of(saved[name], name, tmp_path)
    blobs = mutated(saved[name], EACH[name], seed=1)
    counts = collections.Counter(outcome(blob, name, place) for blob in blobs)
    assert set(counts) == {"refused", "used"}
    assert counts["refused"] > EACH[name] / 10


@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.filterwarnings("ignore")
def test_files_of_a_study_that_are_as_they_were_saved_can_be_used(saved, name, tmp_path):
    use(loaded(copied(saved[name], tmp_path / "study"), name))


def in_study(saved, name, change, tmp_path):
    """Change a file of a study in a copy of its folder; return the file and the folder."""
    path, folder = copied(saved[name], tmp_path / "study"), tmp_path / "study"
    kind = files.kind_in(path)
    tensors, metadata = files.read(path, kind)
    change(tensors, metadata)
    files.write(path, kind, tensors, metadata)
    return path, folder


def of_outputs(**changes):
    return lambda tensors, metadata: metadata["outputs"].update(changes)


def numbers_of_outputs(number):
    return lambda tensors, metadata: tensors["outputs"][0].fill_(number)


def provenance(place, **changes):
    return lambda tensors, metadata: metadata["samples"][place]["provenance"].update(changes)


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        (
            "StudySample",
            lambda tensors, metadata: metadata.update(labels=["hidden", "hidden"]),
            "labels must be differ",
        ),
        ("StudySample", lambda tensors, metadata: metadata.update(labels=["hidden", 3]), "labels must be different"),
        ("StudySample", provenance(1, target=2), "of one sample; the target is 1 of 'hidden', 2 of 'output'"),
        (
            "StudySample",
            lambda tensors, metadata: metadata["samples"][0].update(players=["a", "b", "c"]),
            "the players",
        ),
        ("StudySample, outputs", of_outputs(kind="x"), "kind must be one of"),
        ("StudySample, outputs", of_outputs(class_names=[1]), "class_names must be"),
        ("StudySample, outputs", numbers_of_outputs(float("inf")), "outputs must be finite; got 3 of 24 that are not"),
        (
            "StudySample, outputs",
            lambda tensors, _: tensors.update(outputs=torch.ones(4, 3)),
            r"\[2\^n, C\] of n = 3 pl",
        ),
        ("StudySample, outputs", lambda tensors, _: tensors.update(outputs=tensors["outputs"].long()), "floating"),
        ("StudySample, outputs", provenance(0, target=3), r"target\[0\] must be 0 to 2"),
        ("StudySample, outputs", provenance(0, target=None), "target must select one of the 3"),
    ],
)
def test_a_samples_file_whose_parts_do_not_fit_is_refused(saved, name, change, said, tmp_path):
    path, folder = in_study(saved, name, change, tmp_path)
    with pytest.raises(ValueError, match=said) as caught:
        load_study(folder).sample(1)
    assert path.name in str(caught.value)


def test_samples_of_a_study_with_other_layers_are_named(saved, tmp_path):
    path, folder = in_study(saved, "StudySample", lambda _, metadata: metadata.update(labels=["a", "output"]), tmp_path)
    said = r"of sample 1 has the layers a, output, and that of sample 0 has hidden, output\. Remove the wrong one"
    with pytest.raises(ValueError, match=said) as caught:
        load_study(folder).by_layer  # noqa: B018
    assert repr(str(path)) in str(caught.value)


def test_a_sample_without_its_outputs_is_named(saved, tmp_path):
    path, folder = in_study(saved, "StudySample, outputs", lambda _, metadata: metadata.pop("outputs"), tmp_path)
    with pytest.raises(ValueError, match="of sample 1 has no outputs") as caught:
        load_study(folder).rescore()
    assert repr(str(path)) in str(caught.value)


def test_a_class_whose_source_is_not_recorded_counts_as_given(saved, tmp_path):
    def change(_, metadata):
        del metadata["samples"][0]["provenance"]["predicted"]

    _, folder = in_study(saved, "StudySample, outputs", change, tmp_path)
    assert [one.provenance["predicted"] for one in load_study(folder).rescore("logit")] == [False, False]


@pytest.mark.parametrize("key", ["../other", "a" * 5000, "A" * 64, "a" * 64 + "\n"])
def test_keys_of_a_manifest_that_are_no_names_of_files_are_refused(saved, key, tmp_path):
    def change(_, metadata):
        metadata["keys"][1] = key
        metadata["players"] = dict.fromkeys(metadata["keys"], 3)

    _, folder = in_study(saved, "StudyManifest", change, tmp_path)
    with pytest.raises(ValueError, match=r"study\.safetensors.*keys must be of 64 hexadecimal digits"):
        load_study(folder)


@pytest.mark.parametrize(
    ("place", "number", "said"),
    [("kappa", 1e-3, "within kappa = 0.001"), ("effects.constant", 9.0, "got a miss"), ("values", 50.0, "got a miss")],
)
def test_effects_that_do_not_give_the_values_are_refused(saved, tmp_path, place, number, said):
    tensors, metadata = files.read(saved["Interactions"], "Interactions")
    tensors[place].reshape(-1)[0] = number
    files.write(tmp_path / "it.safetensors", "Interactions", tensors, metadata)
    with pytest.raises(ValueError, match=said):
        Interactions.load(tmp_path / "it.safetensors")


def test_a_number_of_draws_that_would_fill_the_memory_is_refused(saved, tmp_path):
    tensors, metadata = files.read(saved["KnowledgeChange"], "KnowledgeChange")
    metadata["noise_ceiling"]["draws"] = 10**15
    files.write(tmp_path / "it.safetensors", "KnowledgeChange", tensors, metadata)
    with pytest.raises(ValueError, match=r"it\.safetensors.*holds 12 draws, not 1000000000000000 of 2 samples in 3"):
        CLASSES["KnowledgeChange"].load(tmp_path / "it.safetensors")


def blob(header):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(16)


def entry(**changes):
    right = {"schema": "Interactions", "schema_version": 1, "package_version": "0", "metadata": {}, "sha256": "0" * 64}
    return {"__metadata__": {"captum_lkn": json.dumps(right | changes)}}


TENSOR = {"dtype": "F64", "shape": [2], "data_offsets": [0, 16]}
DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        DEEP.encode(),
        {"__metadata__": None},
        {"__metadata__": 3},
        {"__metadata__": {}},
        {"__metadata__": {"captum_lkn": DEEP}},
        {"__metadata__": {"captum_lkn": "NaN"}},
        {"__metadata__": {"captum_lkn": "[]"}},
        {"__metadata__": {"captum_lkn": 3}},
        entry(schema=3),
        entry(schema_version="1"),
        entry(schema_version=True),
        entry(schema_version=2**70),
        entry(metadata=[]),
        entry(sha256=None),
        entry() | {"x": TENSOR | {"shape": [2**64 - 1]}},
        entry() | {"x": TENSOR | {"shape": [2**32, 2**32]}},
        entry() | {"x": TENSOR | {"shape": [-2]}},
        entry() | {"x": TENSOR | {"shape": None}},
        entry() | {"x": TENSOR | {"dtype": "F63"}},
        entry() | {"x": TENSOR | {"data_offsets": [0, 2**63]}},
        entry() | {"x": TENSOR | {"data_offsets": [16, 0]}},
        entry() | {"x": None},
    ],
    ids=range(26),
)
@pytest.mark.parametrize("read", [Interactions.load, files.kind_in])
def test_crafted_headers_are_refused_by_name(tmp_path, header, read):
    path = tmp_path / "it.safetensors"
    path.write_bytes(blob(header))
    if read is files.kind_in and header == entry(schema_version=2**70):
        return  # of a newer schema, the kind can be told
    with pytest.raises(ValueError, match=r"it\.safetensors"):
        read(path)


def test_tensors_of_any_dtype_are_compared_with_the_checksum(tmp_path):
    path = tmp_path / "it.safetensors"
    files.write(path, "Interactions", {"values": torch.zeros(2, dtype=torch.bfloat16)}, {})
    with pytest.raises(ValueError, match=r"it\.safetensors.*does not hold what Interactions is made of"):
        Interactions.load(path)
