"""A small job, and surroundings in which it must give the same: modes of torch and NumPy, streams, threads.

As a script it does the job and writes the digest of its files and texts to the file that is named:

    python tests/surroundings.py FILE [fork]
"""

import contextlib
import hashlib
import io
import os
import sys
import tempfile
import threading
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import captum_lkn as lkn


def _network():
    """Return a network with fixed weights, in float32 on the CPU whatever the defaults are."""
    generator = torch.Generator("cpu").manual_seed(0)
    net = nn.Sequential(
        nn.Linear(4, 5, device="cpu", dtype=torch.float32),
        nn.Tanh(),
        nn.Linear(5, 2, device="cpu", dtype=torch.float32),
    )
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, device="cpu", dtype=torch.float32))
    return net.eval()


NET = _network()
X = torch.randn(2, 4, generator=torch.Generator("cpu").manual_seed(1), device="cpu", dtype=torch.float32)


def job(net=NET, show_progress=False, page=False):
    """Attribute the output and a layer, compare them, print, save, load; return all of it by name."""
    method = lkn.AndOrInteraction(net)
    found = method.attribute(X, target=0, show_progress=show_progress)
    change = lkn.LayerwiseKnowledge(net, ["1"], probes=NET[2]).analyze(X, target="predicted")
    probes = lkn.LinearProbes.fit(
        net, ["0"], [(X.repeat(10, 1), torch.tensor([0, 1] * 10, device="cpu"))], penalties=[0.1]
    )
    sampled = method.attribute(X[:1].repeat(1, 1), target=1, n_samples=16)
    parts = {
        "values": torch.stack([one.values for one in found]),
        "attributions": found.attributions(),
        "layer": torch.stack([one.values for one in change.interactions["1"]]),
        "probe": next(iter(probes.values())).weight,
    }
    with tempfile.TemporaryDirectory() as folder:
        for name, result in {"found": found, "change": change, "probes": probes, "sampled": sampled}.items():
            path = Path(folder, f"{name}.safetensors")
            result.save(path)
            parts[f"{name}.safetensors"] = path.read_bytes()
            parts[f"{name} in print"] = str(type(result).load(path))
        if page:  # the pictures take longer than all the rest
            found.report(Path(folder, "page.html"))
            parts["page.html"] = Path(folder, "page.html").read_bytes()
        parts["show"] = _shown(Path(folder, "change.safetensors"))
    return parts


def _shown(path):
    """Return what the command line shows of a file."""
    from typer.testing import CliRunner

    from captum_lkn.cli.app import app

    done = CliRunner().invoke(app, ["show", str(path)])
    if done.exit_code:
        raise RuntimeError(done.output) from done.exception
    return done.output


def digest(parts):
    """Return one digest of all parts."""
    found = hashlib.sha256()
    for name in sorted(parts):
        part = parts[name]
        if isinstance(part, torch.Tensor):
            part = part.numpy().tobytes()
        found.update(part if isinstance(part, bytes) else part.encode())
    return found.hexdigest()


def state():
    """Return the surroundings as the job finds and must leave them."""
    return {
        "device": torch.empty(0).device.type,
        "dtype": torch.get_default_dtype(),
        "gradients": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "autocast": (torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "threads": torch.get_num_threads(),
        "anomalies": torch.is_anomaly_enabled(),
        "modes": (torch._C._len_torch_function_stack(), torch._C._len_torch_dispatch_stack()),
        "random state": torch.get_rng_state().tolist(),
        "NumPy": (np.geterr(), np.random.get_state()[1].tolist()),  # noqa: NPY002 - it is only read
        "warnings": list(warnings.filters),
        "streams": (sys.stdin, sys.stdout, sys.stderr),
        "model": [(len(one._forward_hooks), len(one._forward_pre_hooks), one.training) for one in NET.modules()],
        "gradients of the model": [each.requires_grad for each in NET.parameters()],
        "folder": os.getcwd(),
        "environment": dict(os.environ),
    }


class _Functions(TorchFunctionMode):
    def __torch_function__(self, function, types, args=(), kwargs=None):
        return function(*args, **(kwargs or {}))


class _Dispatch(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return function(*args, **(kwargs or {}))


@contextlib.contextmanager
def _set(change, back):
    change()
    try:
        yield
    finally:
        back()


def _dtype(dtype):
    return _set(lambda: torch.set_default_dtype(dtype), lambda: torch.set_default_dtype(torch.float32))


@contextlib.contextmanager
def _tensor_type():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.set_default_tensor_type(torch.DoubleTensor)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextlib.contextmanager
def _warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@contextlib.contextmanager
def _streams(make):
    kept = sys.stdin, sys.stdout, sys.stderr
    sys.stdin, sys.stdout, sys.stderr = make(), make(), make()
    try:
        yield
    finally:
        sys.stdin, sys.stdout, sys.stderr = kept


def _closed():
    stream = io.StringIO()
    stream.close()
    return stream


def _ascii():
    return io.TextIOWrapper(io.BytesIO(), encoding="ascii")


SURROUNDINGS = {
    "a default device": lambda: _set(lambda: torch.set_default_device("meta"), lambda: torch.set_default_device(None)),
    "a device as a context": lambda: torch.device("meta"),
    "float64": lambda: _dtype(torch.float64),
    "float16": lambda: _dtype(torch.float16),
    "bfloat16": lambda: _dtype(torch.bfloat16),
    "a default type of tensors": _tensor_type,
    "inference mode": torch.inference_mode,
    "no gradients": torch.no_grad,
    "gradients": torch.enable_grad,
    "autocast without use": lambda: torch.autocast("cpu", enabled=False),
    "deterministic algorithms": lambda: _set(
        lambda: torch.use_deterministic_algorithms(True), lambda: torch.use_deterministic_algorithms(False)
    ),
    "anomalies": lambda: torch.autograd.set_detect_anomaly(True),
    "warnings as errors": _warnings,
    "NumPy's errors": lambda: np.errstate(all="raise"),
    "a mode of functions": _Functions,
    "a mode of dispatch": _Dispatch,
    "no streams": lambda: _streams(lambda: None),
    "closed streams": lambda: _streams(_closed),
    "ASCII streams": lambda: _streams(_ascii),
}


def in_thread(function):
    """Return what a function returns in another thread, with everything that it raises."""
    found = []

    def run():
        try:
            found.append(function())
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if isinstance(found[0], BaseException):
        raise found[0]
    return found[0]


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[2:] == ["fork"] and os.fork():
        sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
    Path(sys.argv[1]).write_text(digest(job(page=True)))
