"""Nothing is asked of the network by an import, an analysis, a report, the command line or the demo's model."""

import subprocess
import sys
from pathlib import Path

import pytest

SMOKE = Path(__file__).parents[2] / "scripts" / "package" / "smoke.py"


@pytest.mark.slow
def test_no_connection_is_asked_for():
    done = subprocess.run([sys.executable, SMOKE, "--demo"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "no connection asked for" in done.stdout


ASKS = """
import runpy, socket, sys
smoke = runpy.run_path(sys.argv[1])
sys.addaudithook(smoke["refuse"])
for ask in (
    lambda: socket.create_connection(("127.0.0.1", 9)),
    lambda: socket.getaddrinfo("localhost", 80),
    lambda: socket.socket(type=socket.SOCK_DGRAM).sendto(b"", ("127.0.0.1", 9)),
):
    try:
        ask()
    except OSError as error:
        print(error)
print(len(smoke["ASKED_FOR"]))
"""


def test_a_connection_would_be_noticed():
    done = subprocess.run([sys.executable, "-c", ASKS, SMOKE], capture_output=True, text=True, check=True)
    assert done.stdout.count("no connection is allowed here") == 3
    assert done.stdout.splitlines()[-1] == "3"
