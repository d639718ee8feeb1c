"""The suite for a machine with a GPU, rehearsed on the CPU: `scripts/gpu_suite.py` is not to fail by itself there."""

import pathlib
import runpy
import sys

import pytest

SCRIPT = str(pathlib.Path(__file__).parents[1] / "scripts" / "gpu_suite.py")


def rehearse(monkeypatch, *options):
    """Run the script as a command; return its exit code."""
    monkeypatch.setattr(sys, "argv", [SCRIPT, "--device", "cpu", *options])
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(SCRIPT, run_name="__main__")
    return ended.value.code


@pytest.mark.filterwarnings("ignore:out of memory with")
def test_a_part_of_it(monkeypatch, capsys):
    assert rehearse(monkeypatch, "--only", "memory") == 0
    printed = capsys.readouterr().out
    assert "FAILS" not in printed
    assert "1 of 1 hold on the CPU, a rehearsal" in printed


def test_what_was_not_run_is_a_failure(monkeypatch, capsys):
    assert rehearse(monkeypatch, "--minutes", "0", "--only", "families") == 1
    assert "0 of 10 hold" in capsys.readouterr().out


@pytest.mark.full
@pytest.mark.filterwarnings("ignore")
def test_all_of_it(monkeypatch, capsys):
    assert rehearse(monkeypatch) == 0
    assert "23 of 23 hold" in capsys.readouterr().out
