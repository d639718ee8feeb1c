"""Ten thousand saved results whose content is wrong, though their checksum is right; see ``tests/fuzzed_files.py``."""

import collections
import json
import warnings

import pytest
import torch
from fuzzed_files import CLASSES, MEASURES, mutated, outcome, save_all, use

from captum_lkn import Interactions
from captum_lkn._common import files

EACH = dict.fromkeys(CLASSES, 1600) | {"KnowledgeChange": 400}  # comparisons take five times as long
EACH |= {kind.__name__: 100 for kind in MEASURES}  # which make their intervals and data frames anew


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return save_all(tmp_path_factory.mktemp("saved"))


@pytest.mark.parametrize("name", CLASSES)
def test_what_is_loaded_as_it_was_saved_can_be_used_and_saved_again(saved, name, tmp_path):
    result = CLASSES[name].load(saved[name])
    use(result)
    result.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == saved[name].read_bytes()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CLASSES)
def test_wrong_content_is_refused_when_it_is_loaded_or_does_no_harm(saved, name, tmp_path):
    blobs = mutated(saved[name], EACH[name], seed=1)
    counts = collections.Counter(outcome(blob, name, tmp_path / "it.safetensors") for blob in blobs)
    assert set(counts) == {"refused", "used"}
    assert counts["refused"] > EACH[name] / 10


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
