"""The suite with every supported Python: `nox -s 'test(3.12)'`. The Makefile does the work, in an environment each."""

import nox

VERSIONS = ["3.10", "3.11", "3.12", "3.13"]


@nox.session(venv_backend="none")
@nox.parametrize("version", VERSIONS, ids=VERSIONS)
def test(session: nox.Session, version: str) -> None:
    """Run `make test` with one version of Python, in `.venv-<version>`."""
    session.run("make", "test", f"PYTHON=python{version}", f"VENV=.venv-{version}", *session.posargs, external=True)


@nox.session(venv_backend="none")
def lint(session: nox.Session) -> None:
    """Run `make lint`."""
    session.run("make", "lint", *session.posargs, external=True)
