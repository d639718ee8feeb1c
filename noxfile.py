#!/usr/bin/env -S uv run --script
# /// script
# dependencies = ["nox"]
# ///
"""Run the suite with every supported Python: `nox -s "test(3.12)"`. The Makefile does the work."""

import nox

nox.needs_version = ">=2024.4.15"
nox.options.default_venv_backend = "none"

VERSIONS = ["3.10", "3.11", "3.12", "3.13", "3.14"]


@nox.session
@nox.parametrize("version", VERSIONS, ids=VERSIONS)
def test(session: nox.Session, version: str) -> None:
    """Run `make test` with one version of Python, in `.venv-<version>`."""
    session.run("make", "test", f"PYTHON=python{version}", f"VENV=.venv-{version}", *session.posargs, external=True)


@nox.session
def lint(session: nox.Session) -> None:
    """Run `make lint`."""
    session.run("make", "lint", *session.posargs, external=True)


if __name__ == "__main__":
    nox.main()
