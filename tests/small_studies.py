"""A small study, and the bytes of its folder."""

import os
import pathlib
import signal
import sys
import time

import torch

from captum_lkn import AndOrInteraction, LayerwiseKnowledge, players_from_mask
from captum_lkn.studies import run_study


class Net(torch.nn.Module):
    """A model whose inputs may be of any length."""

    def __init__(self, seed=0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.first = torch.nn.Parameter(torch.randn(4, generator=generator))
        self.second = torch.nn.Parameter(torch.randn(4, 3, generator=generator))
        self.hidden = torch.nn.Identity()

    def forward(self, x):
        return self.hidden(torch.tanh(x[..., None] * self.first).prod(1) + x.amax(1, True)) @ self.second


def make_samples(count=7):
    generator = torch.Generator().manual_seed(1)
    return [players_from_mask(torch.randn(1, 2 + i % 4, generator=generator)) for i in range(count)]


def make_method(seed=0, **options):
    return AndOrInteraction(Net(seed).eval(), **options)


def make_layered(seed=0):
    probe = torch.nn.Linear(4, 3)
    with torch.no_grad():
        probe.weight.copy_(torch.arange(12.0).reshape(3, 4).sin())
        probe.bias.zero_()
    return LayerwiseKnowledge(Net(seed).eval(), "hidden", probes=probe, kappa=0.05)


def make_wide():
    """Return one sample with so many masks that ranks divide them."""
    return [players_from_mask(torch.randn(1, 10, generator=torch.Generator().manual_seed(2)))]


SHARING = 36  # samples of make_samples, where those of one form share forwards two by two
WIDE = {"perturbations_per_eval": 4}


def bytes_of(folder):
    return {str(each.relative_to(folder)): each.read_bytes() for each in sorted(folder.rglob("*")) if each.is_file()}


def fork(folder, count, rank=0, world=1):
    """Start a process that runs the study of layers, without the seconds that imports take."""
    child = os.fork()
    if child == 0:
        os.environ.update(RANK=str(rank), WORLD_SIZE=str(world))
        if count == 1:
            run_study(make_layered(), make_wide(), folder, **WIDE)
        else:
            run_study(make_layered(), make_samples(count), folder)
        os._exit(0)
    return child


def stored(folder):
    """Return the number of files of samples or of parts of them."""
    return len(list(pathlib.Path(folder).glob("samples/*.safetensors")))


def kill_parts(folder, states):
    """Kill one of two ranks that share one sample, so many seconds after it began, each time; return how it ended."""
    for state in states:
        first, second = fork(folder, 1, 0, 2), fork(folder, 1, 1, 2)
        time.sleep(state % 1)
        os.kill(first, signal.SIGKILL)
        os.waitpid(first, 0)
        if state < states[-1]:
            os.kill(second, signal.SIGKILL)
        ended = os.waitstatus_to_exitcode(os.waitpid(second, 0)[1])
        print(state, ended, sorted(each.name[64:] for each in pathlib.Path(folder).glob("samples/*")), flush=True)
    return ended


def kill(folder, count, states):
    """Kill the study with SIGKILL once so many samples are stored, each time; then kill one of two that run together.

    Where a state has a point, such as 3.02, the kill comes that many seconds later.
    """
    run_study(make_layered(), make_samples(2), f"{folder} to import what the first run needs")
    for state in states:
        child = fork(folder, count)
        while stored(folder) < int(state):
            time.sleep(0.0005)
        time.sleep(state % 1)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        print(state, stored(folder), flush=True)
    first, second = fork(folder, count, 0, 2), fork(folder, count, 1, 2)
    while stored(folder) <= state + 1:
        time.sleep(0.0005)
    os.kill(first, signal.SIGKILL)
    os.waitpid(first, 0)
    ended = os.waitstatus_to_exitcode(os.waitpid(second, 0)[1])
    return ended or kill_parts(f"{folder}, one sample", states)


if __name__ == "__main__":  # in a process of its own, where torch has no threads that a fork would lose
    torch.set_num_threads(1)
    sys.exit(kill(sys.argv[1], int(sys.argv[2]), list(map(float, sys.argv[3:]))))
