"""The same numbers, files and texts under any surroundings, which are as before afterwards; see ``surroundings.py``."""

import os
import shlex
import subprocess
import sys

import pytest
import torch
from surroundings import NET, SURROUNDINGS, X, digest, in_thread, job, state

from captum_lkn import AndOrInteraction

HERE = os.path.dirname(os.path.abspath(__file__))


@pytest.fixture(scope="module")
def plain():
    return job()


def differing(plain, found):
    return [
        name
        for name, part in plain.items()
        if not (torch.equal(part, found[name]) if isinstance(part, torch.Tensor) else part == found[name])
    ]


@pytest.mark.parametrize("name", SURROUNDINGS)
def test_the_same_under_other_surroundings(plain, name):
    with SURROUNDINGS[name]():
        before = state()
        found = job(show_progress=True)
        after = state()
    assert differing(plain, found) == []
    assert [key for key in before if before[key] != after[key]] == []


@pytest.mark.filterwarnings("ignore:.*computes in torch.bfloat16 autocast")
def test_autocast_rounds_the_forwards_and_nothing_else(plain):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        before = state()
        found = job()
        assert before == state()
    for name in ("values", "attributions"):
        assert found[name].dtype == plain[name].dtype
        torch.testing.assert_close(found[name], plain[name], atol=0.05, rtol=0.05)  # bfloat16 has 8 bits


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "made", [torch.jit.script, lambda net: torch.jit.freeze(torch.jit.script(net))], ids=["scripted", "frozen"]
)
def test_modules_of_torchscript(plain, made):
    found = AndOrInteraction(made(NET)).attribute(X, target=0)
    assert torch.equal(torch.stack([one.values for one in found]), plain["values"])


def test_another_thread(plain):
    assert differing(plain, in_thread(job)) == []


def test_more_threads(plain):
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        assert differing(plain, job()) == []
    finally:
        torch.set_num_threads(threads)


PLACES = {
    "TZ": "Asia/Kathmandu",
    "PYTHONHASHSEED": "7",
    "LC_ALL": "C",
    "PYTHONIOENCODING": "ascii",
    "PYTHONUTF8": "0",
    "HOME": "/nonexistent",
    "HF_HOME": "/nonexistent/hub",
}
CLOSED = "<&- >&- 2>&-"


@pytest.mark.skipif(os.name != "posix", reason="a shell closes the streams of the process, and it forks")
@pytest.mark.parametrize(
    ("option", "more"),
    [
        ("", ["fork"]),
        pytest.param("-O", [], marks=pytest.mark.full),  # Python compiles every package anew
        pytest.param("-OO", [], marks=pytest.mark.full),
    ],
    ids=["forked", "without asserts", "without docstrings"],
)
def test_a_process_with_closed_streams_no_home_and_another_locale(plain, option, more, tmp_path):
    out = tmp_path / "digest"
    command = [sys.executable, *filter(None, [option]), os.path.join(HERE, "surroundings.py"), str(out), *more]
    paths = {"PYTHONPATH": os.pathsep.join([os.path.dirname(HERE), HERE])}
    done = subprocess.run(
        ["sh", "-c", f"{shlex.join(command)} {CLOSED}"], env=os.environ | paths | PLACES, timeout=300, check=False
    )
    assert done.returncode == 0
    assert out.read_text() == digest(plain | job(page=True))
