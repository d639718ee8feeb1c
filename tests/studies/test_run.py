"""Studies: one file a sample, the same bytes after any interruption, and nothing of another study."""

import errno
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings

import pytest
import torch
from small_studies import SHARING, WIDE, Net, bytes_of, make_layered, make_method, make_samples, make_wide
from tiny_models import BERT, made

import captum_lkn
from captum_lkn import AndOrInteraction, players_from_mask, text_players
from captum_lkn._common import files
from captum_lkn.studies import load_study, merge, run_study
from captum_lkn.studies.folder import Folder, Manifest, read_manifest
from captum_lkn.studies.locks import Locks
from captum_lkn.studies.part_files import read_part, write_part
from captum_lkn.studies.sample_files import sample_path
from captum_lkn.studies.samples import Sample, groups_of, units_of
from captum_lkn.studies.work import Work
from captum_lkn.values.parts import PartValues
from captum_lkn.values.rows import Part

HELPER = pathlib.Path(__file__).parents[1] / "small_studies.py"


def parts_of(one):
    return one.players, one.effects.values.tolist(), one.values.tolist(), one.kappa, one.gap, one.provenance


def empty_folder(path):
    """Return the open folder of a study without samples."""
    settings = dict.fromkeys(["method", "model", "score"], "") | {"layers": {}, "options": {}, "keep": "interactions"}
    return Folder(path, Manifest(settings, (), {}, {}))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Return the folder of a study of layers that ran through."""
    folder = tmp_path_factory.mktemp("undisturbed")
    run_study(make_layered(), make_samples(), folder)
    return folder


def test_results_are_those_of_attribute(tmp_path):
    method, samples = make_method(), make_samples()
    study = run_study(method, samples, tmp_path / "run")
    expected = method.attribute(samples, target="predicted")
    assert list(map(parts_of, study.interactions)) == list(map(parts_of, expected))
    assert study.missing == ()
    assert len(study) == 7
    assert repr(study) == "Study of 7 samples: AndOrInteraction of Net, score log_odds\n  all are stored"


def test_results_of_layers_are_those_of_analyze(undisturbed):
    study = load_study(undisturbed)
    expected = make_layered().analyze(make_samples())
    for label, batch in expected.interactions.items():
        assert list(map(parts_of, study.by_layer[label])) == list(map(parts_of, batch))
    torch.testing.assert_close(study.change["hidden"].completeness, expected["hidden"].completeness, equal_nan=True)


def test_samples_of_one_players_are_cut(tmp_path, sentiment):
    model, tokenizer = sentiment
    both = text_players(tokenizer, ["good film", "not good"])
    method = AndOrInteraction(model)
    study = run_study(method, both, tmp_path / "run")
    for one, other in zip(study.interactions, method.attribute(both, target="predicted"), strict=True):
        assert one.players == other.players
        assert one.provenance["text"] == other.provenance["text"]
        torch.testing.assert_close(one.values, other.values, atol=1e-5, rtol=0)


def test_a_model_that_is_spread_by_a_device_map(tmp_path):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate", reason="device_map is accelerate's, a development extra")
    family = transformers.BertForSequenceClassification
    whole = made(family, transformers.BertConfig, **BERT)
    whole.save_pretrained(tmp_path / "model")
    places = {"bert.embeddings": "cpu", "bert.encoder": "disk", "bert.pooler": "cpu", "classifier": "cpu"}
    spread = family.from_pretrained(tmp_path / "model", device_map=places, offload_folder=tmp_path / "disk").eval()
    assert any(x.is_meta for x in spread.parameters())
    samples = [players_from_mask(torch.tensor([[1, 5, 6, 2]]), 3)]
    run_study(AndOrInteraction(whole), samples, tmp_path / "run")
    before = bytes_of(tmp_path / "run")
    run_study(AndOrInteraction(spread), samples, tmp_path / "run")  # it is the same model
    run_study(AndOrInteraction(spread), samples, tmp_path / "other")
    assert bytes_of(tmp_path / "run") == bytes_of(tmp_path / "other") == before


def test_equal_samples_are_computed_once_and_targets_tell_them_apart(tmp_path):
    one = make_samples(1)[0]
    study = run_study(make_method(), [one, one, one], tmp_path / "run", target=[0, 1, 1])
    assert [found.provenance["target"] for found in study.interactions] == [0, 1, 1]
    assert len(list((tmp_path / "run" / "samples").iterdir())) == 2


def test_sampled_masks(tmp_path):
    study = run_study(make_method(), make_samples(3), tmp_path / "run", n_samples=100, seed=3)
    assert [one.provenance["sampling"]["seed"] for one in study.interactions] == [3] * 3
    run_study(make_method(), make_samples(3), tmp_path / "run", n_samples=100, seed=3)


@pytest.mark.parametrize("stored", [1, 4, 6])
def test_a_run_that_was_stopped_ends_with_the_same_bytes(undisturbed, tmp_path, monkeypatch, stored):
    write, calls = files.write, []

    def stopping(path, *rest, **further):
        calls.append(path)
        if len(calls) > stored + 1:  # behind the manifest
            raise KeyboardInterrupt
        write(path, *rest, **further)

    monkeypatch.setattr(files, "write", stopping)
    with pytest.raises(KeyboardInterrupt):
        run_study(make_layered(), make_samples(), tmp_path)
    monkeypatch.undo()
    assert len(load_study(tmp_path).stored) == stored
    run_study(make_layered(), make_samples(), tmp_path)
    assert bytes_of(tmp_path) == bytes_of(undisturbed)


def test_killed_processes_leave_no_trace(tmp_path, full, one_thread):
    """With --full, the processes are killed at twenty random moments, else at three that are known to be hard."""
    count, states = SHARING, ["0.01", "1", "7.003"]
    if full:
        count = 200
        states = [f"{6 * i + random.random() / 20:.4f}" for i in range(20)]
        print(*states)
    root = pathlib.Path(captum_lkn.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, HELPER, tmp_path / "run", str(count), *states],
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr  # of the process whose companion was killed
    (tmp_path / "run" / "samples" / ".0123.tmp").write_bytes(b"half a file")
    for folder in ("run", "whole"):
        run_study(make_layered(), make_samples(count), tmp_path / folder)
    assert bytes_of(tmp_path / "run") == bytes_of(tmp_path / "whole")
    run_study(make_layered(), make_wide(), tmp_path / "one", **WIDE)
    assert bytes_of(tmp_path / "run, one sample") == bytes_of(tmp_path / "one")


def interrupted(*_):
    raise KeyboardInterrupt


def test_parts_that_were_stored_are_used_by_a_later_run_of_one_process(tmp_path, monkeypatch):
    forwards = []
    model = Net().eval()
    method = AndOrInteraction(model)
    sample = make_wide()
    run_study(method, sample, tmp_path / "whole", **WIDE)
    with monkeypatch.context() as ranks:
        ranks.setenv("RANK", "1")
        ranks.setenv("WORLD_SIZE", "3")
        ranks.setattr(Work, "_finish", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_study(method, sample, tmp_path / "run", **WIDE)
    assert len(load_study(tmp_path / "run").missing) == 1
    first, second, third = sorted((tmp_path / "run" / "samples").iterdir())
    assert first.name.endswith(".0-of-3.safetensors")
    first.unlink()
    second.write_bytes(third.read_bytes())
    model.register_forward_hook(lambda *_: forwards.append(1))
    with pytest.warns(UserWarning, match="it is another part, or of another sample. .*The part is computed again"):
        run_study(AndOrInteraction(model), sample, tmp_path / "run", **WIDE)
    assert 170 < len(forwards) < 200  # two thirds of 256, and checks
    assert bytes_of(tmp_path / "run") == bytes_of(tmp_path / "whole")


@pytest.mark.parametrize(("of", "values"), [(torch.float32, torch.float64), (torch.int64, torch.float16)])
def test_a_part_of_other_types_is_computed_again(of, values, tmp_path):
    folder, key, part = empty_folder(tmp_path), "0" * 64, Part(0, 2)
    found = PartValues(torch.arange(3).to(of), torch.ones(1, 3).to(values), ("",), 1, {})
    write_part(folder, key, part, found)
    with pytest.warns(UserWarning, match=r"its columns are .* \[3\], its values .* \[1, 3\], not int64 and float64"):
        assert read_part(folder, key, part) is None


def test_names_of_parts_are_of_no_more_parts_than_there_are_processes(tmp_path):
    """A stray file's name does not say how much work there is."""
    folder, key = empty_folder(tmp_path), "0" * 64
    for name in ("0-of-2", "1-of-2", "0-of-999999999"):
        (tmp_path / "samples" / f"{key}.{name}.safetensors").touch()
    assert folder.divisions() == {key: 2}
    assert folder.strangers([key]) == [f"{key}.0-of-999999999.safetensors"]


@pytest.mark.parametrize("options", [{}, {"shard": (0, 1)}])
def test_parts_of_an_earlier_run_go_with_their_sample(options, tmp_path):
    sample = make_samples(1)
    study = run_study(make_method(), sample, tmp_path / "whole")
    run_study(make_method(), sample, tmp_path / "run", shard=(1, 2))  # there is no second sample
    found = PartValues(torch.tensor([0]), torch.zeros(1, 1).double(), ("logit",), 1, {})
    write_part(Folder(tmp_path / "run", read_manifest(tmp_path / "run")), study.keys[0], Part(0, 3), found)
    run_study(make_method(), sample, tmp_path / "run", **options)
    assert bytes_of(tmp_path / "run") == bytes_of(tmp_path / "whole")


def test_parts_that_do_not_fit_are_left_out(tmp_path, monkeypatch):
    run_study(make_method(), make_wide(), tmp_path / "whole", **WIDE)
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    rows = Part.rows  # the second part has forwards of another size, as on another device
    monkeypatch.setattr(Part, "rows", lambda part, total, size: rows(part, total, size * 7 if part.number else size))
    run_study(make_method(), make_wide(), tmp_path / "run", **WIDE)
    assert bytes_of(tmp_path / "run") == bytes_of(tmp_path / "whole")


def test_a_divided_sample_that_fails_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")

    def undefined(x):  # where the last player is there, and few others: in the second part alone
        return (x.sum(1) + 0.7).log()

    players = players_from_mask(torch.tensor([[1.0] * 9 + [-5.5]]))
    with pytest.raises(ValueError, match=r"1 of 1 sample could not be explained.*nan with the players \{9\} present"):
        run_study(AndOrInteraction(undefined, score="logit"), players, tmp_path, target=None, **WIDE)


def test_a_lock_is_waited_for_until_its_process_is_killed(tmp_path):
    ready, told = os.pipe()
    other = os.fork()
    if other == 0:
        locks = Locks(tmp_path / "lock")
        locks.opened()
        locks.alone()
        locks.take(0)
        os.write(told, b".")
        time.sleep(60)
        os._exit(1)
    assert os.read(ready, 1) == b"."
    locks = Locks(tmp_path / "lock")
    assert (locks.alone(), locks.take(0), locks.take(1)) == (False, False, True)
    os.kill(other, signal.SIGKILL)
    assert locks.take(0, wait=True)
    os.waitpid(other, 0)
    locks.close()


def test_two_threads_are_refused_one_folder(tmp_path):
    locks = Locks(tmp_path / "lock")
    with pytest.raises(RuntimeError, match="another thread of this process is at work"):
        run_study(make_method(), make_samples(1), tmp_path)
    locks.close()
    run_study(make_method(), make_samples(1), tmp_path)


def test_without_locks_each_process_computes_everything(tmp_path, monkeypatch):
    monkeypatch.setattr(captum_lkn.studies.locks, "_fcntl", None)
    with pytest.warns(UserWarning, match="has no locks of files"):
        study = run_study(make_method(), make_samples(3), tmp_path)
    assert study.missing == ()


@pytest.mark.parametrize("harm", ["cut", "flipped", "another's", "missing"])
def test_files_that_are_damaged_or_of_another_sample_are_computed_again(undisturbed, tmp_path, harm):
    for name, content in bytes_of(undisturbed).items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    first, second = (sample_path(tmp_path, key) for key in load_study(tmp_path).keys[:2])
    content = bytearray(first.read_bytes())
    content[-1] ^= 1
    changed = {"cut": content[:100], "flipped": content, "another's": second.read_bytes(), "missing": b""}
    if harm == "missing":
        first.unlink()
        run_study(make_layered(), make_samples(), tmp_path)
    else:
        first.write_bytes(changed[harm])
        with pytest.raises(ValueError, match=re.escape(str(first))):
            load_study(tmp_path).sample(0)
        with pytest.warns(UserWarning, match=f"{re.escape(str(first))}.*The sample is computed again"):
            run_study(make_layered(), make_samples(), tmp_path)
    assert bytes_of(tmp_path) == bytes_of(undisturbed)


RUNS = {
    "layers": (make_layered, {}),
    "output": (make_method, {}),
    "outputs": (make_method, {"keep": "outputs"}),
    "sampled": (make_method, {"n_samples": 8}),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return the folders of studies that ran through."""
    folders = {name: tmp_path_factory.mktemp(name) for name in RUNS}
    for name, (method, options) in RUNS.items():
        run_study(method(), make_samples(2), folders[name], **options)
    return folders


def spoil(**changes):
    return lambda tensors, metadata: metadata.update(changes)


def outputs_times(factor):
    return lambda tensors, _: tensors["outputs"].mul_(factor)


@pytest.mark.parametrize(
    ("run", "change", "said"),
    [
        ("layers", spoil(labels=["hidden", "hidden"]), "labels must be different texts"),
        ("layers", spoil(labels=["hidden", 3]), "labels must be different texts"),
        ("layers", spoil(labels=["hidden"]), "argument"),
        ("layers", spoil(labels=["other", "output"]), "it has the layers other, output, and the study reads hidden"),
        ("layers", spoil(labels=["output", "hidden"]), "it has the layers output, hidden, and the study reads hidden"),
        ("output", spoil(labels=["hidden"]), "it has the layers hidden, and the study reads output"),
        ("output", spoil(samples=[]), ""),
        ("outputs", lambda _, metadata: metadata.pop("outputs"), "it has no outputs, and the study keeps outputs"),
        ("outputs", lambda tensors, _: tensors.pop("outputs"), "there is no 'outputs'"),
        ("outputs", outputs_times(float("nan")), "outputs must be finite"),
        ("outputs", spoil(outputs={"kind": "x", "class_names": []}), "kind must be one of"),
        (
            "outputs",
            lambda tensors, _: tensors.update(outputs=tensors["outputs"][1:]),
            r"outputs must be .*\[2\^n, C\]",
        ),
    ],
)
def test_a_file_that_readers_would_refuse_is_computed_again(finished, tmp_path, run, change, said):
    path = changed_file(finished[run], tmp_path, run, change)
    assert_computed_again(path, run, said, finished[run])


@pytest.mark.parametrize(
    ("run", "of", "number", "said"),
    [
        ("output", "output", 1, "it has 3 players, and the sample has 2"),
        ("output", "outputs", 0, "it has outputs, and the study keeps none"),
        ("output", "sampled", 0, "it is of sampled masks, and the study takes all"),
        ("sampled", "output", 0, "it is of all masks, and the study takes samples of them"),
    ],
)
def test_results_under_the_key_of_another_sample_or_study_are_computed_again(finished, tmp_path, run, of, number, said):
    other = files.read(sample_path(finished[of], load_study(finished[of]).keys[number]), "StudySample")

    def change(tensors, metadata):
        key = metadata["key"]
        for own, others in zip((tensors, metadata), other, strict=True):
            own.clear()
            own.update(others)
        metadata["key"] = key

    path = changed_file(finished[run], tmp_path, run, change)
    assert_computed_again(path, run, said, finished[run])


def changed_file(folder, place, run, change):
    """Change the content of the first sample's file in a copy of a study, and give it a right checksum."""
    shutil.copytree(folder, place / run)
    path = sample_path(place / run, load_study(place / run).keys[0])
    tensors, metadata = files.read(path, "StudySample")
    change(tensors, metadata)
    files.write(path, "StudySample", tensors, metadata)
    return path


def assert_computed_again(path, run, said, whole):
    """Check that merge and a run name the file, and that the run ends with the bytes of one that was not disturbed."""
    method, options = RUNS[run]
    folder = path.parent.parent
    with pytest.warns(UserWarning, match=f"left out as missing: .*{re.escape(str(path))}.*{said}"):
        assert merge([folder]).missing == (0,)
    with pytest.warns(UserWarning, match=f"{re.escape(str(path))}.*{said}.*The sample is computed again"):
        run_study(method(), make_samples(2), folder, **options)
    assert bytes_of(folder) == bytes_of(whole)


def test_a_damaged_manifest_is_written_anew(undisturbed, tmp_path):
    run_study(make_layered(), make_samples(), tmp_path)
    (tmp_path / "study.safetensors").write_bytes(b"{}")
    with pytest.warns(UserWarning, match="It is written anew"):
        run_study(make_layered(), make_samples(), tmp_path)
    assert bytes_of(tmp_path) == bytes_of(undisturbed)


@pytest.mark.parametrize("kind", ["Study", "StudySample"])
def test_content_that_does_not_fit_is_refused_by_the_name_of_its_file(tmp_path, kind):
    study = run_study(make_method(), make_samples(2), tmp_path)
    path = tmp_path / "study.safetensors" if kind == "Study" else sample_path(tmp_path, study.keys[0])
    tensors, metadata = files.read(path, kind)
    del metadata["keys" if kind == "Study" else "samples"]
    files.write(path, kind, tensors, metadata)  # with a right checksum
    with pytest.raises(ValueError, match=f"{re.escape(str(path))}.*does not hold what {kind} is made of"):
        load_study(tmp_path).sample(0)


def test_foreign_files_are_named_and_left_alone(tmp_path):
    run_study(make_method(), make_samples(2), tmp_path)
    (tmp_path / "samples" / "notes.txt").write_text("mine")
    with pytest.warns(UserWarning, match=r"not of this study, which are left alone: notes\.txt"):
        run_study(make_method(), make_samples(2), tmp_path)
    assert (tmp_path / "samples" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        (make_method(seed=1), {}, "holds another study; it has model Net [0-9a-f]+.*, not Net"),
        (make_method(score="logit"), {}, "it has score log_odds .*, not logit"),
        (make_method(noise=0.1), {}, "it has decomposition"),
        (make_method(), {"perturbations_per_eval": 2}, "it has options"),
        (make_layered(), {}, "it has method AndOrInteraction, not LayerwiseKnowledge"),
        (make_method(), {"target": 0}, "holds a study of other samples"),
        (make_method(), {"resume": False}, "holds this study already"),
    ],
)
def test_the_folder_of_another_study_is_refused(tmp_path, method, options, message):
    run_study(make_method(), make_samples(2), tmp_path)
    before = bytes_of(tmp_path)
    with pytest.raises((ValueError, FileExistsError), match=message):
        run_study(method, make_samples(2), tmp_path, **options)
    assert bytes_of(tmp_path) == before


def test_other_folders_are_refused(tmp_path):
    (tmp_path / "photo.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"must be a new or empty folder.*photo\.png"):
        run_study(make_method(), make_samples(1), tmp_path)
    with pytest.raises(OSError, match=r"out must be a folder that can be made; got .*photo\.png', which is a file"):
        run_study(make_method(), make_samples(1), tmp_path / "photo.png")
    with pytest.raises(FileNotFoundError):
        load_study(tmp_path)


def test_a_full_disk_loses_nothing(tmp_path, monkeypatch):
    write, calls = os.fsync, []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) > 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device.*What was stored before is kept") as caught:
        run_study(make_layered(), make_samples(), tmp_path)
    assert caught.value.errno == errno.ENOSPC
    monkeypatch.undo()
    assert len(load_study(tmp_path).stored) == 2
    assert not list(tmp_path.rglob("*.tmp"))


def test_samples_that_fail_are_named_and_the_others_stored(tmp_path):
    samples = make_samples(4)
    samples[2] = players_from_mask(torch.tensor([[1.0, float("nan"), 2.0]]))
    with pytest.raises(ValueError, match=r"1 of 4 samples could not be explained.*sample 2: .*nan") as caught:
        run_study(make_method(), samples, tmp_path / "run")
    assert "sample 1" not in str(caught.value)
    study = load_study(tmp_path / "run")
    assert study.missing == (2,)
    assert [len(one.players) for one in study.interactions] == [2, 3, 5]
    assert repr(study).endswith("missing: samples 2")
    with pytest.raises(FileNotFoundError, match="sample 2 is not stored"):
        study.sample(2)


def test_a_fault_of_all_samples_ends_the_run_early(tmp_path):
    seen = []

    class Counting(torch.nn.Module):
        def forward(self, x):
            seen.append(len(x))
            return x * torch.nan

    with pytest.raises(ValueError, match="5 of 30 samples could not be explained"):
        run_study(AndOrInteraction(Counting().eval()), make_samples(30), tmp_path / "run", target=0)
    assert len(seen) < 30


def test_shares_of_hosts_without_a_common_folder(tmp_path):
    parts = [run_study(make_method(), make_samples(), tmp_path / str(i), shard=(i, 2)) for i in range(2)]
    assert sorted(parts[0].stored + parts[1].stored) == list(range(7))
    assert parts[0].missing == parts[1].stored


def test_ranks_begin_at_their_own_share(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    study = run_study(make_method(), make_samples(), tmp_path / "run")
    assert study.missing == ()  # of the other rank, which is not there, as well


def test_groups_are_of_one_size_and_bounded():
    sizes = {f"{n}-{i}": n for n, count in ((3, 61), (12, 5), (4, 9), (5, 3)) for i in range(count)}
    samples = {key: Sample(key, players_from_mask(torch.ones(1, n)), 0) for key, n in sizes.items()}
    groups = groups_of(samples, True)
    assert [len(group) for group in groups] == [1] * 5 + [3] + [4, 4, 1] + [4] * 15 + [1]
    assert sorted(key for group in groups for key in group) == sorted(sizes)
    assert all(len({sizes[key] for key in group}) == 1 for group in groups)
    for processes, expected in ((1, [1] * 5 + [3, 9] + [32, 29]), (3, [1] * 5 + [3, 4, 4, 1] + [20, 20, 21])):
        units = units_of(groups, sizes, processes)
        assert [sum(map(len, unit)) for unit in units] == expected
        assert [group for unit in units for group in unit] == groups
    assert sorted(map(len, groups_of(samples, True, rows=3))) == [1] * (len(samples) - 3) + [3]
    assert all(len(group) == 1 for group in groups_of(samples, False))
    several = {str(i): Sample(str(i), players, 0) for i, players in enumerate(make_samples(SHARING))}
    assert [len(group) for group in groups_of(several, True)] == [2, 2, 2, 2, 1] * 4  # of the tests that kill a study


def test_warnings_name_the_samples_of_the_study(tmp_path):
    flat = [players_from_mask(torch.zeros(1, 2)), *make_samples(1)]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run_study(make_method(), flat, tmp_path / "run", target=0)
    found = [str(each.message) for each in caught]
    assert any(re.match(r"of samples? [01].* of the study: ", message) for message in found)


def test_numbers_in_messages_are_those_of_the_study(tmp_path):
    samples = [*make_samples(2), *(players_from_mask(torch.full((1, 2), x)) for x in (3.0, torch.nan))]
    with pytest.raises(ValueError, match=r"sample 3: the value of sample 3 is nan"):
        run_study(make_method(), samples, tmp_path / "run")


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((make_method, make_samples(1)), {}, TypeError, "method must be an AndOrInteraction"),
        ((make_method(), 3), {}, TypeError, "samples must be Players"),
        ((make_method(), [3]), {}, TypeError, "samples must be Players; got a int in place 0"),
        ((make_method(), []), {}, ValueError, "samples must be at least one"),
        ((make_method(), make_samples(2)), {"target": [1]}, ValueError, "got 1 for 2 samples"),
        ((make_method(), make_samples(2)), {"masks": 3}, TypeError, "run_study got masks; the options of"),
        ((make_method(), make_wide()), {"n_samples": 100}, ValueError, "n_samples must be at least 200 for 10 players"),
        *(
            (
                (make_method(), make_samples(40)),
                {"perturbations_per_eval": given},
                TypeError,
                rf"perturbations_per_eval must be an int or None; got {re.escape(repr(given))}$",
            )
            for given in ("8", [8], 8.0, 16.5)
        ),
        (
            (make_method(), make_samples(2)),
            {"perturbations_per_eval": 0},
            ValueError,
            "^perturbations_per_eval must be at least 1; got 0",
        ),
        ((make_method(), make_samples(2)), {"keep": "all"}, ValueError, "keep must be one of"),
        ((make_method(), make_samples(2)), {"shard": (2, 2)}, ValueError, r"shard must be \(i, k\)"),
    ],
)
def test_bad_arguments(tmp_path, arguments, options, error, message):
    with pytest.raises(error, match=message):
        run_study(*arguments, tmp_path / "run", **options)
    assert not (tmp_path / "run").exists() or not list((tmp_path / "run").rglob("*.safetensors"))
