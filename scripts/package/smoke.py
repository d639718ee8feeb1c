"""Use an installed library as a stranger would, with every connection refused: `python scripts/package/smoke.py`.

`make package` runs it from a folder outside of the checkout, with the Python of an environment that has the wheel and
what it depends on and nothing else. `tests/common/test_no_network.py` runs it in the checkout.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

ASKED_FOR: list[str] = []
NETWORK = (
    "socket.connect",
    "socket.sendto",
    "socket.sendmsg",
    "socket.getaddrinfo",
    "socket.gethostby",
    "urllib.Request",
)


def refuse(event: str, details: tuple[Any, ...]) -> None:
    """Record and refuse a connection or a look-up of a name; sockets of the machine itself are files."""
    if not event.startswith(NETWORK):
        return
    if details and isinstance(details[0], socket.socket) and details[0].family == getattr(socket, "AF_UNIX", None):
        return
    ASKED_FOR.append(f"{event} {details!r}")
    raise OSError(f"no connection is allowed here: {event} {details!r}")


def import_everything() -> None:
    """Import every module of the library."""
    import captum_lkn

    for module in pkgutil.walk_packages(captum_lkn.__path__, "captum_lkn."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def analyse(folder: Path) -> None:
    """Explain a small network and its layers; save, load, draw and report."""
    import torch
    from torch import nn

    from captum_lkn import AndOrInteraction, InteractionsBatch, LayerwiseKnowledge, LinearProbes

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 2)).eval()
    x = torch.randn(2, 5)
    with torch.no_grad():
        model[4].weight *= 5  # logits of both signs

    found = AndOrInteraction(model).attribute(x, target=0)
    sums, explained = found.attributions().sum(1), torch.stack([one.values[-1] - one.values[0] for one in found])
    assert torch.allclose(sums.double(), explained, atol=1e-5), f"{sums} must add up to v(N) - v(empty), {explained}"
    found.save(folder / "found.safetensors")
    loaded = InteractionsBatch.load(folder / "found.safetensors")
    assert all(torch.equal(one.values, other.values) for one, other in zip(found, loaded, strict=True))
    found[0].plot.waterfall()[0].savefig(folder / "waterfall.png")
    found.report(folder / "found.html")
    assert "<style>" in (folder / "found.html").read_text(encoding="utf-8"), "the wheel must hold page.css"

    data = [(torch.randn(60, 5), torch.arange(60) % 2)]
    probes = LinearProbes.fit(model, ["1", "3"], data, penalties=[0.01])
    change = LayerwiseKnowledge(model, ["1", "3"], probes=probes).analyze(x[:1], target=0)
    change.report(folder / "change.html")


def use_the_command_line(folder: Path) -> None:
    """Print a saved result by the command."""
    from typer.testing import CliRunner

    from captum_lkn.cli.app import app

    shown = CliRunner().invoke(app, ["show", str(folder / "found.safetensors")])
    assert shown.exit_code == 0, shown.output
    assert "InteractionsBatch of 2 samples" in shown.output, shown.output
    print(shown.output, end="")


def main(demo: bool) -> None:
    """Run all of it, and say with which versions."""
    sys.addaudithook(refuse)
    import_everything()
    with tempfile.TemporaryDirectory() as name:
        analyse(Path(name))
        use_the_command_line(Path(name))
    if demo:
        from captum_lkn.demo import load_sentiment_bert

        load_sentiment_bert()
    assert not ASKED_FOR, f"connections were asked for: {ASKED_FOR}"
    import captum_lkn

    names = ["captum-lkn", "torch", "captum", "transformers", "numpy"]
    print(*(f"{name} {importlib.metadata.version(name)}" for name in names), sep=", ")
    print(f"smoke test passed, no connection asked for, from {Path(captum_lkn.__file__).parent}")


if __name__ == "__main__":
    main(demo="--demo" in sys.argv)
