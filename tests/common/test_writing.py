"""Files are written whole or not at all: by two processes at once, on a full disk, and when something fails midway."""

import contextlib
import errno
import multiprocessing
import os
import signal

import pytest
import torch

from captum_lkn import AndOrInteraction, image_players
from captum_lkn._common.writing import replacing
from captum_lkn.interactions import Interactions
from captum_lkn.plot.images import draw_interactions

IMAGE = torch.arange(48.0).reshape(1, 3, 4, 4) / 48


def explained(scale):
    players = image_players(IMAGE, grid=2, baseline="zero")
    return AndOrInteraction(lambda x: scale * x.sum((1, 2, 3))[:, None], score="logit").attribute(players, target=0)[0]


@pytest.fixture(scope="module")
def found():
    return explained(1.0)


WRITERS = {
    "result": ("found.safetensors", lambda found, path: found.save(path)),
    "page": ("found.html", lambda found, path: found.report(path)),
    "picture": ("found.png", lambda found, path: draw_interactions(IMAGE[0], found, path)),
}


@contextlib.contextmanager
def small_files():
    """Let no file of this process grow beyond 100 bytes, as a disk that is full after so many."""
    import resource  # not on Windows

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@contextlib.contextmanager
def full_disk():
    """Refuse the last blocks when they are sent to the disk, as some file systems do."""

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", full)
        yield


LIMITS = {
    small_files: (errno.EFBIG, "file too large{kept}. Raise the limit of a file's size (ulimit -f), or give"),
    full_disk: (errno.ENOSPC, "no space left on device{kept}. Make room, or give another folder"),
}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no limit of a file's size")
@pytest.mark.parametrize(
    ("kind", "limit", "old"),
    [
        ("result", small_files, None),
        ("result", small_files, b"old"),
        ("result", full_disk, b"old"),
        ("page", full_disk, b"old"),
        ("picture", small_files, b"old"),
    ],
)
def test_without_room_the_file_is_named_and_the_old_one_kept(found, tmp_path, kind, limit, old):
    name, write = WRITERS[kind]
    number, said = LIMITS[limit]
    path = tmp_path / name
    if old is not None:
        path.write_bytes(old)
    with pytest.raises(OSError, match="cannot write") as caught, limit():
        write(found, path)
    kept = ". The file that was there is kept" if old else ""
    assert str(caught.value).startswith(f"cannot write {str(path)!r}: {said.format(kept=kept)}")
    assert caught.value.errno == number
    assert [each.read_bytes() for each in tmp_path.iterdir()] == ([] if old is None else [old])


def write_half(path, error):
    with replacing(path) as file:
        file.write_text("half")
        raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError(), OSError("of the writer"), ValueError("it")])
def test_what_fails_midway_comes_as_it_is(tmp_path, error):
    path = tmp_path / "it.txt"
    path.write_text("old")
    with pytest.raises(type(error)) as caught:
        write_half(path, error)
    assert caught.value is error
    assert [each.read_text() for each in tmp_path.iterdir()] == ["old"]


def test_an_error_about_another_file_of_the_writer_comes_as_it_is(tmp_path):
    with pytest.raises(FileNotFoundError) as caught, replacing(tmp_path / "it.txt"):
        (tmp_path / "font.ttf").read_bytes()
    assert caught.value.filename in (tmp_path / "font.ttf", str(tmp_path / "font.ttf"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="on Windows links need rights that tests may lack")
@pytest.mark.parametrize("writer", sorted(WRITERS))
@pytest.mark.parametrize(
    ("there", "said"),
    [("missing", "cannot write {}: there is no folder {}."), ("folder", "cannot write to {}, which is a folder.")],
)
def test_of_a_link_the_path_that_was_given_is_named_and_what_it_leads_to(found, tmp_path, writer, there, said):
    name, write = WRITERS[writer]
    target = tmp_path / "elsewhere" / name
    if there == "folder":
        target.mkdir(parents=True)
    (tmp_path / name).symlink_to(target)
    with pytest.raises(OSError, match="cannot write") as caught:
        write(found, tmp_path / name)
    paths = [repr(str(path)) for path in (tmp_path / name, target.parent)]
    assert str(caught.value).startswith(said.format(*paths))


def write_often(path, scale, start):
    torch.set_num_threads(1)
    found = explained(scale)
    start.wait(60)
    for _ in range(50):
        found.save(path)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="processes are forked, to be quick")
def test_two_processes_that_write_one_file_leave_one_of_both_whole(tmp_path):
    path = tmp_path / "found.safetensors"
    whole = set()
    for scale in (1.0, 2.0):
        explained(scale).save(path)
        whole.add(path.read_bytes())
    assert len(whole) == 2
    context = multiprocessing.get_context("fork")
    start = context.Barrier(3)
    writers = [context.Process(target=write_often, args=(path, scale, start)) for scale in (1.0, 2.0)]
    for writer in writers:
        writer.start()
    start.wait(60)
    seen = set()
    while any(writer.is_alive() for writer in writers):
        seen.add(path.read_bytes())
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert seen | {path.read_bytes()} <= whole
    assert list(tmp_path.iterdir()) == [path]
    assert Interactions.load(path).v_full in {explained(scale).v_full for scale in (1.0, 2.0)}
