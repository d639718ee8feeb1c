"""A fault anywhere in a command is one line and an exit code, and each file is the old one or the new one, whole."""

import errno
import os
import signal
import warnings

import pytest
import torch
from cli_files import run, save_picture, save_text_model, save_vision_model
from matplotlib.figure import Figure
from torch.nn.modules.module import register_module_forward_pre_hook

from captum_lkn import Interactions
from captum_lkn.studies.locks import Locks

KINDS = {
    "RuntimeError": RuntimeError,
    "ValueError": ValueError,
    "TypeError": TypeError,
    "KeyError": KeyError,
    "StopIteration": StopIteration,
    "MemoryError": MemoryError,
    "OutOfMemoryError": torch.cuda.OutOfMemoryError,
    "no room": lambda text: OSError(errno.ENOSPC, text),
    "Ctrl-C": None,
}
SHARE = 41  # one of so many faults is tried; `--full` tries all


class Faults:
    """Counts the forwards of a model and the steps of writing, and lets one of them fail."""

    def __init__(self, patch):
        self.arm(None, None)
        patch.setattr(os, "fsync", self.reporting(os.fsync, "fsync"))
        patch.setattr(os, "replace", self.reporting(os.replace, "replace"))
        patch.setattr(Figure, "savefig", self.reporting(Figure.savefig, "figure"))

    def arm(self, place, kind):
        self.place, self.kind, self.counts = place, kind, {}

    def reach(self, point):
        self.counts[point] = self.counts.get(point, 0) + 1
        if (point, self.counts[point]) == self.place:
            if self.kind == "Ctrl-C":
                signal.raise_signal(signal.SIGINT)
            raise KINDS[self.kind](f"put in at {point}")

    def reporting(self, function, point):
        def reported(*args, **kwargs):
            self.reach(point)
            return function(*args, **kwargs)

        return reported

    def forward(self, module, _):
        if hasattr(module, "config") and hasattr(module, "num_labels"):
            self.reach("forward")


@pytest.fixture(scope="module")
def faults():
    with pytest.MonkeyPatch.context() as patch:
        found = Faults(patch)
        handle = register_module_forward_pre_hook(found.forward)
        yield found
        handle.remove()


@pytest.fixture(scope="module")
def calls(tmp_path_factory):
    """Return two calls that write everything they can, by name, with what stays before each option of a file."""
    root = tmp_path_factory.mktemp("calls")
    for name in ("model", "vision"):
        (root / name).mkdir()
    picture = save_picture(root / "a.png")
    return {
        "text": ["text", save_text_model(root / "model"), "not good", "--top", 1, "--out", "--report"],
        "image": ["image", save_vision_model(root / "vision"), picture, "--most", 2, "--out", "--draw"],
    }


NAMES = {"--out": "found.safetensors", "--report": "found.html", "--draw": "found.png"}


def call(arguments, folder):
    """Run a command that writes its files into a folder where there are others already; return its outcome."""
    warnings.onceregistry.clear()  # each call is as in a process of its own
    given, paths = [], []
    for each in arguments:
        given.append(each)
        if each in NAMES:
            paths.append(folder / NAMES[each])
            paths[-1].write_bytes(b"old")
            given.append(paths[-1])
    return run(*given), {path: path.read_bytes() for path in paths}


def is_whole(path, content):
    """Return whether a file is the one that was there, or a new one with its end."""
    if content == b"old":
        return True
    if path.suffix == ".safetensors":
        return Interactions.load(path).n_players == 2
    return content.rstrip().endswith({".html": b"</html>", ".png": b"IEND\xaeB`\x82"}[path.suffix])


@pytest.mark.parametrize("name", ["text", "image"])
def test_a_fault_is_one_line_and_leaves_whole_files(name, calls, faults, tmp_path, full):
    (tmp_path / "expected").mkdir()
    faults.arm(None, None)
    done, files = call(calls[name], tmp_path / "expected")
    assert done.exit_code == 0, done.output
    assert b"old" not in files.values()
    notes = done.output.count("note:")
    places = [(point, k) for point, count in faults.counts.items() for k in range(1, count + 1)]
    assert {"forward", "fsync", "replace", "figure"} <= set(faults.counts)
    wrong = []
    for number, (place, kind) in enumerate((place, kind) for place in places for kind in KINDS):
        if not full and number % SHARE:
            continue
        folder = tmp_path / str(number)
        folder.mkdir()
        faults.arm(place, kind)
        done, files = call(calls[name], folder)
        if set(folder.iterdir()) != set(files) or not all(map(is_whole, files, files.values())):
            wrong.append((place, kind, [each.name for each in folder.iterdir()]))
        if not is_clear(done, kind, place[0], notes) or (done.exit_code == 0) > (b"old" not in files.values()):
            wrong.append((place, kind, done.exit_code, done.output[-400:]))
    assert not wrong, "\n".join(map(str, wrong))
    assert number > 100


def is_clear(done, kind, point, notes):
    """Return whether a command said in one line what happened, or went on and noted it, beside the usual notes."""
    last = done.output.strip().splitlines()[-1]
    if "Traceback" in done.output:
        return False
    if kind == "Ctrl-C":
        return done.exit_code == 130 and last == "Aborted."
    if done.exit_code == 0:
        return done.output.count("note:") > notes
    said = f"put in at {point}" in last or "generator raised StopIteration" in last
    return done.exit_code == 1 and last.startswith("error: ") and said and done.output.count("error:") == 1


def test_where_an_error_was_can_be_seen(calls, faults, tmp_path, monkeypatch):
    faults.arm(("forward", 1), "KeyError")
    done, _ = call(calls["text"], tmp_path)
    last = done.output.strip().splitlines()[-1]
    assert last == "error: KeyError: 'put in at forward'. To see where, set CAPTUM_LKN_TRACEBACK=1"
    monkeypatch.setenv("CAPTUM_LKN_TRACEBACK", "1")
    faults.arm(("forward", 1), "KeyError")
    done, _ = call(calls["text"], tmp_path)
    assert isinstance(done.exception, KeyError)


def test_an_error_that_the_library_raised_is_told_as_it_is(calls, tmp_path):
    texts = tmp_path / "films.csv"
    texts.write_text("text\nnot good film\n")
    (tmp_path / "run").mkdir()
    locks = Locks(tmp_path / "run" / "lock")
    done = run("study", calls["text"][1], texts, "--out", tmp_path / "run")
    locks.close()
    assert done.exit_code == 1
    last = done.output.strip().splitlines()[-1]
    assert last.startswith("error: another thread of this process is at work in the folder")
    assert "RuntimeError" not in last
