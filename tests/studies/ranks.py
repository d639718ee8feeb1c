"""Work of one rank, which torchrun or accelerate launch starts: a study in one folder, and one gathered from several.

With DIES in the environment, rank 1 is killed behind its first part of a sample, and in its second run behind its first
sample, and its launcher starts all ranks again.
"""

import os
import pathlib
import signal
import sys
import time

import torch
from small_studies import SHARING, WIDE, make_layered, make_method, make_samples, make_wide
from torch import distributed

from captum_lkn.studies import run_study, work
from captum_lkn.studies.folder import Folder


def main(out):
    rank = os.environ["RANK"]
    torch.set_num_threads(1)
    write, write_part = Folder.write, work.write_part

    def die(run):
        here = rank, os.environ.get("TORCHELASTIC_RESTART_COUNT")
        if "DIES" in os.environ and here == ("1", run):
            os.kill(os.getpid(), signal.SIGKILL)

    def write_and_die(self, *arguments):
        write(self, *arguments)
        die("1")

    def write_part_and_die(*arguments):
        write_part(*arguments)
        (out / f"parts {rank}").touch()
        die("0")

    Folder.write, work.write_part = write_and_die, write_part_and_die
    run_study(make_layered(), make_wide(), out / "one shared", **WIDE)
    run_study(make_layered(), make_samples(SHARING), out / "shared")
    # Who joins a group that is never whole leaves an address behind, to which torch's next attempt would connect.
    while "DIES" in os.environ and os.environ["TORCHELASTIC_RESTART_COUNT"] != "2":
        time.sleep(0.1)
    distributed.init_process_group("gloo")
    run_study(make_layered(), make_samples(SHARING), out / rank, gather=True)
    run_study(make_layered(), make_wide(), out / f"one {rank}", gather=True, **WIDE)
    attempts = [
        lambda: run_study(make_method(seed=int(rank)), make_samples(2), out / f"{rank}a", gather=True),
        lambda: run_study(make_method(), make_samples(2 + int(rank)), out / f"{rank}b", gather=True),
        lambda: run_study(make_method(), with_nan(), out / f"{rank}c", gather=True),
        lambda: run_study(make_method(), with_nan(make_wide()), out / f"{rank}d", gather=True, **WIDE),
    ]
    (out / f"errors {rank}").write_text("\n".join(map(error_of, attempts)))
    distributed.destroy_process_group()


def error_of(attempt):
    try:
        attempt()
    except ValueError as error:
        return str(error)
    return ""


def with_nan(samples=None):
    samples = samples or make_samples(3)
    samples[-1].inputs[0][:, -1] = torch.nan
    return samples


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
