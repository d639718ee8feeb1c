"""Studies of several ranks, as launchers start them: one folder for all, or one each and an exchange of files."""

import os
import pathlib
import socket
import subprocess
import sys

import pytest
import torch
from small_studies import SHARING, WIDE, bytes_of, make_layered, make_method, make_samples, make_wide
from torch import distributed

import captum_lkn
from captum_lkn.studies import gathering, run_study

HERE = pathlib.Path(__file__).parent
TORCHRUN = "torch.distributed.run", "--nproc-per-node=2"
ACCELERATE = (
    "accelerate.commands.launch",
    "--multi_gpu",
    "--num_processes=2",
    "--num_machines=1",
    "--mixed_precision=no",
)


def launch(out, launcher, *options, **environment):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # The launcher starts processes for GPUs with torchrun; the ranks use none.
    ports = f"--master_port={port}" if launcher is TORCHRUN else f"--main_process_port={port}"
    paths = os.pathsep.join(map(str, (pathlib.Path(captum_lkn.__file__).parents[1], HERE.parent)))
    return subprocess.run(
        [sys.executable, "-m", *launcher, ports, *options, HERE / "ranks.py", out],
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("launcher", "options", "environment"),
    [
        (TORCHRUN, (), {}),
        pytest.param(TORCHRUN, ("--max-restarts=2",), {"DIES": "1"}, marks=pytest.mark.full),
        pytest.param(ACCELERATE, (), {}, marks=pytest.mark.full),
    ],
    ids=["torchrun", "killed", "accelerate"],
)
def test_two_ranks_store_what_one_process_stores(tmp_path, launcher, options, environment, one_thread):
    done = launch(tmp_path, launcher, *options, **environment)
    assert done.returncode == 0, done.stderr
    assert ("exitcode: -9" in done.stderr) == bool(environment)
    run_study(make_layered(), make_samples(SHARING), tmp_path / "alone")
    expected = bytes_of(tmp_path / "alone")
    for folder in ("shared", "0", "1"):
        assert bytes_of(tmp_path / folder) == expected
    run_study(make_layered(), make_wide(), tmp_path / "one alone", **WIDE)
    expected = bytes_of(tmp_path / "one alone")
    for folder in ("one shared", "one 0", "one 1"):
        assert bytes_of(tmp_path / folder) == expected
    assert (tmp_path / "parts 0").exists()  # each rank had masks of the one sample
    assert (tmp_path / "parts 1").exists()
    errors = [(tmp_path / f"errors {rank}").read_text().split("\n") for rank in (0, 1)]
    assert errors[0][0].startswith("all ranks must run the same study; ranks [1] have another model, options or ")
    assert errors[1][0].startswith("rank 0 holds another study; it has model Net ")
    assert all("all ranks must run the same study" in each[1] for each in errors)
    assert all("1 of 3 samples could not be explained" in each[2] and "nan" in each[2] for each in errors)
    assert all("1 of 1 sample could not be explained" in each[3] and "nan" in each[3] for each in errors)


def test_gathering_needs_a_process_group(tmp_path, monkeypatch):
    run_study(make_method(), make_samples(2), tmp_path / "alone", gather=True)  # of one process there is nothing to do
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RuntimeError, match="gather=True needs a process group of the 2 ranks"):
        run_study(make_method(), make_samples(2), tmp_path / "run", gather=True)
    with pytest.raises(ValueError, match="shard must be None with gather=True"):
        run_study(make_method(), make_samples(2), tmp_path / "run", gather=True, shard=(0, 2))


def test_a_rank_without_a_gpu_is_named(monkeypatch):
    monkeypatch.setattr(distributed, "get_backend", lambda: "nccl")
    monkeypatch.setattr(distributed, "get_rank", lambda: 3)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RuntimeError, match="rank 3 has no GPU, which the process group's backend 'nccl' needs"):
        gathering._device()
