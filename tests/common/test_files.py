import enum
import hashlib
import json
import math
import os
import stat
import warnings

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from captum_lkn._common import files
from captum_lkn.decomposition import Effects
from captum_lkn.decomposition.lattice import and_transform
from captum_lkn.interactions import InputLayout, Interactions, InteractionsBatch

CPU = torch.device("cpu")
DTYPES = (
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int8,
    torch.uint8,
    torch.bool,
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "it.safetensors"


def bits(tensor):
    return tensor.contiguous().reshape(-1).view(torch.uint8).tolist()


def same(a, b):
    """Bit for bit, also where a value is NaN or -0.0."""
    return a.dtype == b.dtype and a.shape == b.shape and bits(a) == bits(b)


def make(n=3, seed=0, **further):
    v = torch.randn(2**n, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    players = tuple(f"word {i}" for i in range(n))
    arguments = {"kappa": 0.1, "gap": 1e-4} | further
    return Interactions(players, Effects.from_tables(and_transform(v), torch.zeros_like(v)), v, **arguments)


def same_interactions(a, b):
    return (
        all(same(getattr(a, name), getattr(b, name)) for name in ("and_effects", "or_effects", "values"))
        and (a.players, a.kappa, a.gap, a.provenance) == (b.players, b.kappa, b.gap, b.provenance)
        and same_layouts(a.layout, b.layout)
    )


def same_layouts(a, b):
    if a is None or b is None:
        return a is b
    return (a.is_tuple, a.dtypes, a.device) == (b.is_tuple, b.dtypes, b.device) and all(map(same, a.owners, b.owners))


# ---------------------------------------------------------------- what goes in comes out


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3)])
def test_tensors_come_back_bit_for_bit(path, dtype, shape):
    tensor = (torch.randn(shape) * 3).to(dtype)
    files.write(path, "Thing", {"x": tensor}, {})
    tensors, metadata = files.read(path, "Thing")
    assert same(tensors["x"], tensor)
    assert metadata == {}


def test_special_numbers_come_back_bit_for_bit(path):
    x = torch.tensor([math.nan, math.inf, -math.inf, -0.0, 5e-324], dtype=torch.float64)
    files.write(path, "Thing", {"x": x}, {})
    assert same(files.read(path, "Thing")[0]["x"], x)


def test_views_are_written_as_what_they_show(path):
    base = torch.arange(12.0).reshape(3, 4)
    views = {
        "t": base.T,
        "row": base[1],
        "again": base[1],
        "wide": base[:1].expand(5, 4),
        "step": base[:, ::2],
    }
    views["grad"] = base.clone().requires_grad_()
    files.write(path, "Thing", views, {})
    tensors, _ = files.read(path, "Thing")
    assert all(same(tensors[name], view.detach()) for name, view in views.items())
    tensors["row"] += 1  # memory of its own
    assert same(tensors["again"], base[1])


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), json_values, max_size=4))
def test_metadata_come_back_exactly(tmp_path_factory, metadata):
    path = tmp_path_factory.mktemp("json") / "it.safetensors"
    files.write(path, "Thing", {}, metadata)
    _, back = files.read(path, "Thing")
    assert back == metadata
    assert json.dumps(back) == json.dumps(metadata)  # the order of keys, 1 and 1.0 and True told apart


def test_lone_surrogates_come_back(path):
    files.write(path, "Thing", {}, {"label": "\ud83d"})
    assert files.read(path, "Thing")[1] == {"label": "\ud83d"}


def test_tuples_become_lists(path):
    files.write(path, "Thing", {}, {"shape": (2, (3,))})
    assert files.read(path, "Thing")[1] == {"shape": [2, [3]]}


def test_subclasses_become_what_they_are_in_json():
    class Score(str, enum.Enum):  # as before Python 3.11
        LOGIT = "logit"

    plain = files.to_json({"score": Score.LOGIT, "noise": np.float64(0.5), "steps": enum.IntEnum("N", "A").A}, "")
    assert plain == {"score": "logit", "noise": 0.5, "steps": 1}
    assert [type(value) for value in plain.values()] == [str, float, int]


def test_equal_content_makes_equal_files(tmp_path):
    content = {"b": torch.ones(3), "a": torch.zeros(2, 2)}, {"z": 1, "a": [1.5, None]}
    for name in ("one", "two"):
        files.write(tmp_path / f"{name}.safetensors", "Thing", *content)
    assert (tmp_path / "one.safetensors").read_bytes() == (tmp_path / "two.safetensors").read_bytes()


def test_any_safetensors_reader_opens_the_files(path):
    files.write(path, "Thing", {"x": torch.ones(3)}, {"made": "by hand"})
    with safetensors.safe_open(str(path), framework="np") as file:
        assert file.get_tensor("x").tolist() == [1.0, 1.0, 1.0]
        assert json.loads(file.metadata()["captum_lkn"])["metadata"] == {"made": "by hand"}


def test_the_checksum_is_what_its_definition_says(path):
    x = torch.tensor([[1.0, 2.0]])
    files.write(path, "Thing", {"y": torch.tensor(True), "x": x}, {"b": 1, "a": "é"})
    with safetensors.safe_open(str(path), framework="np") as file:
        document = json.loads(file.metadata()["captum_lkn"])
    head = (
        f'{{"metadata":{{"a":"\\u00e9","b":1}},"package_version":"{document["package_version"]}",'
        '"schema":"Thing","schema_version":1}\n'
    )
    content = head.encode() + b'["x","float32",[1,2]]\n' + np.float32([1, 2]).tobytes()
    content += b'["y","bool",[]]\n\x01'
    assert document["sha256"] == hashlib.sha256(content).hexdigest()


# ---------------------------------------------------------------- writing


@pytest.mark.parametrize("name", ["it.pt", "it", "it.safetensors.bak", ".safetensors"])
def test_another_suffix_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match=r"must end in \.safetensors; got .*"):
        files.write(tmp_path / name, "Thing", {}, {})
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no folder '.*nowhere'\. Create it first"):
        files.write(tmp_path / "nowhere" / "it.safetensors", "Thing", {}, {})


@pytest.mark.parametrize(
    ("metadata", "error", "message"),
    [
        ({"x": [1.0, math.nan]}, ValueError, r"metadata\['x'\]\[1\] must be finite, .* no nan\. Give None"),
        ({"x": -math.inf}, ValueError, r"metadata\['x'\] must be finite, .* no -inf"),
        ({"x": {"y": torch.ones(2)}}, TypeError, r"metadata\['x'\]\['y'\] must be numbers.*; got float32 \[2\]"),
        ({"x": np.int64(3)}, TypeError, "got a int64"),
        ({"x": {3: 4}}, TypeError, r"metadata\['x'\] must have strings as keys.*the key 3"),
        ({"x": {1, 2}}, TypeError, "got a set"),
    ],
)
def test_what_json_cannot_hold_is_refused(path, metadata, error, message):
    with pytest.raises(error, match=message):
        files.write(path, "Thing", {}, metadata)
    assert not path.exists()


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (np.ones(2), "tensor 'x' must be a torch.Tensor; got a ndarray"),
        (torch.eye(2).to_sparse(), r"must be dense; got the layout torch\.sparse_coo"),
    ],
)
def test_what_is_no_dense_tensor_is_refused(path, tensor, message):
    with pytest.raises(TypeError, match=message):
        files.write(path, "Thing", {"x": tensor}, {})


def test_a_failed_write_leaves_the_old_file_and_nothing_else(path, monkeypatch):
    files.write(path, "Thing", {"x": torch.ones(1)}, {})

    def interrupted(source, target):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            files.write(path, "Thing", {"x": torch.zeros(1)}, {})
    assert files.read(path, "Thing")[0]["x"].item() == 1.0
    assert list(path.parent.iterdir()) == [path]
    files.write(path, "Thing", {"x": torch.zeros(1)}, {})
    assert files.read(path, "Thing")[0]["x"].item() == 0.0
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_permissions_follow_the_umask(path):
    old = os.umask(0o027)
    try:
        files.write(path, "Thing", {}, {})
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
@pytest.mark.parametrize("mode", [0o600, 0o664])
def test_a_file_that_is_replaced_keeps_its_permissions(path, mode):
    files.write(path, "Thing", {}, {"x": 1})
    path.chmod(mode)
    files.write(path, "Thing", {}, {"x": 2})
    assert files.read(path, "Thing") == ({}, {"x": 2})
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_read_only_file_is_kept_and_named(path, monkeypatch):
    files.write(path, "Thing", {}, {"x": 1})
    # As it is for all but root, who may write to every file.
    monkeypatch.setattr(os, "access", lambda given, mode: mode != os.W_OK or given != path)
    with pytest.raises(
        PermissionError, match=r"cannot write '.*it\.safetensors', which is read-only\. Give another name"
    ):
        files.write(path, "Thing", {}, {"x": 2})
    assert files.read(path, "Thing") == ({}, {"x": 1})


def test_a_symbolic_link_stays_a_link(path, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    target = tmp_path / "elsewhere" / "real.safetensors"
    try:
        path.symlink_to(target)
    except OSError as error:
        pytest.skip(f"no symbolic links here: {error}")
    for x in (1, 2):  # the first write creates the target of a link that leads nowhere
        files.write(path, "Thing", {}, {"x": x})
        assert path.is_symlink()
        assert not target.is_symlink()
        assert files.read(target, "Thing") == files.read(path, "Thing") == ({}, {"x": x})
    assert list(target.parent.iterdir()) == [target]


def test_a_folder_in_the_files_place_is_named(path):
    path.mkdir()
    with pytest.raises(IsADirectoryError, match="which is a folder"):
        files.write(path, "Thing", {}, {})


def test_the_kind_of_a_file_can_be_read(path):
    files.write(path, "Thing", {}, {}, version=3)
    assert files.kind_in(path) == "Thing"


def test_writing_leaves_the_random_state_alone(path):
    before = torch.random.get_rng_state()
    files.write(path, "Thing", {"x": torch.ones(1)}, {})
    assert torch.equal(torch.random.get_rng_state(), before)


# ---------------------------------------------------------------- reading


def test_a_missing_file_is_not_found(path):
    with pytest.raises(FileNotFoundError, match=r"it\.safetensors"):
        files.read(path, "Thing")


@pytest.mark.parametrize("content", [b"", b"\x80\x04pickle", b"\xff" * 64])
def test_what_is_no_safetensors_file_is_refused(path, content):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"\({len(content)} bytes\) is not a safetensors file, or is damaged"):
        files.read(path, "Thing")


def test_a_foreign_safetensors_file_is_named(path):
    for metadata in (None, {"format": "pt"}, {"captum_lkn": "[]"}, {"captum_lkn": '{"schema": 1}'}):
        safetensors.torch.save_file({"weight": torch.ones(2)}, path, metadata=metadata)
        with pytest.raises(ValueError, match=r"not a result of captum-lkn \(its tensors: weight\).*load_file"):
            files.read(path, "Thing")


@pytest.mark.parametrize(
    "text", ["[" * 200_000, '{"schema": "Thing", "metadata": {"kappa": NaN}}', '{"a": Infinity}', "{"]
)
def test_a_header_that_is_not_json_is_damaged(path, text):
    safetensors.torch.save_file({"weight": torch.ones(2)}, path, metadata={"captum_lkn": text})
    with pytest.raises(ValueError, match=r"it\.safetensors' has a damaged header"):
        files.read(path, "Thing")


def test_every_damaged_byte_is_noticed(path):
    files.write(path, "Thing", {"x": torch.arange(4.0), "y": torch.ones(1)}, {"kappa": 0.25, "label": "good"})
    whole = path.read_bytes()
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"it\.safetensors"):
            files.read(path, "Thing")


def test_every_truncation_is_noticed(path):
    files.write(path, "Thing", {"x": torch.arange(4.0)}, {"label": "good"})
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"it\.safetensors"):
            files.read(path, "Thing")


def test_a_damaged_table_says_that_it_is_damaged(path):
    files.write(path, "Thing", {"x": torch.arange(4.0)}, {})
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"is damaged: its content has SHA-256 .* its header states"):
        files.read(path, "Thing")


def test_a_newer_schema_asks_for_an_update(path):
    files.write(path, "Thing", {}, {}, version=3)
    with pytest.raises(ValueError, match=r"with version 3 of the schema Thing.*reads up to 1\. Update"):
        files.read(path, "Thing")
    assert files.read(path, "Thing", version=4) == ({}, {})


# ---------------------------------------------------------------- results


def layout(players=3):
    image = torch.arange(players).reshape(1, players, 1).expand(2, players, 4)
    owners = (image, torch.tensor([-1, 0, players - 1]))
    return InputLayout(owners, True, (torch.float16, torch.float64), CPU)


@pytest.mark.parametrize(
    "found",
    [
        make(),
        make(1, kappa=0.0, gap=math.inf),
        make(3, layout=layout()),
        make(2, provenance={"model": "Bert", "score": None, "solver": {"ridge": 0.1, "steps": [3, 4]}}),
    ],
    ids=["plain", "one player, no certificate", "layout", "provenance"],
)
def test_interactions_come_back_bit_for_bit(path, found):
    found.save(path)
    back = Interactions.load(path)
    assert same_interactions(back, found)
    assert repr(back) == repr(found)
    back.save(path.with_name("again.safetensors"))
    assert path.with_name("again.safetensors").read_bytes() == path.read_bytes()


def test_any_label_comes_back(path):
    labels = ("", "two\nlines", "é 好 \N{GRINNING FACE}")
    plain = make()
    found = Interactions(labels, plain.effects, plain.values, kappa=0.0, gap=0.0)
    found.save(path)
    assert Interactions.load(path).players == labels


def test_a_batch_comes_back_bit_for_bit(path):
    batch = InteractionsBatch(
        [make(2, 1), make(3, 2, layout=layout()), make(3, 3, layout=layout()), make(4, 4, layout=layout(4))]
    )
    batch.save(str(path))
    back = InteractionsBatch.load(path)
    assert len(back) == 4
    assert all(map(same_interactions, back, batch))
    assert torch.equal(back[1:3].attributions()[0], batch[1:3].attributions()[0])


def test_a_layout_that_samples_share_is_stored_once(tmp_path):
    owners = torch.arange(9).repeat_interleave(25).reshape(1, 15, 15).expand(3, 15, 15)
    sizes = []
    for count in (1, 20):
        path = tmp_path / f"{count}.safetensors"
        InteractionsBatch(
            make(9, layout=InputLayout((owners.clone(),), False, (torch.float32,), CPU)) for _ in range(count)
        ).save(path)
        sizes.append(path.stat().st_size)
    tables = 19 * 3 * 8 * 2**9
    assert sizes[1] - sizes[0] < tables + 19 * 300
    assert sizes[0] < 3 * 8 * 2**9 + owners.numel() + 2000


def test_samples_of_a_loaded_batch_share_no_memory(path):
    InteractionsBatch([make(2, 1), make(2, 2)]).save(path)
    first = InteractionsBatch.load(path)[0]
    assert first.values.untyped_storage().nbytes() == 4 * 8


def test_the_wrong_class_names_the_right_one(path):
    make().save(path)
    with pytest.raises(ValueError, match=r"holds Interactions, not InteractionsBatch\. Load .* Interactions\.load"):
        InteractionsBatch.load(path)
    InteractionsBatch([make()]).save(path)
    with pytest.raises(ValueError, match=r"not Interactions\. Load it with InteractionsBatch\.load"):
        Interactions.load(path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the device")
def test_a_device_that_is_missing_becomes_the_cpu_with_a_warning(path):
    away = InputLayout((torch.arange(3),), False, (torch.float32,), torch.device("cuda", 0))
    make(layout=away).save(path)
    with pytest.warns(UserWarning, match="this machine does not have the device cuda:0") as caught:
        back = Interactions.load(path)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert back.attributions().device == CPU
