"""Fixtures that several packages use, and files that are left out where an extra that they need is missing."""

import ast
import importlib.util
import pathlib

import pytest
import torch

from captum_lkn.demo import load_sentiment_bert


@pytest.fixture(scope="session")
def sentiment():
    """Return the demo's BERT and its tokenizer, which no test changes."""
    return load_sentiment_bert()


@pytest.fixture(scope="session")
def full(request):
    """Return whether all data of a test are asked for, by `pytest --full`."""
    return request.config.getoption("--full")


@pytest.fixture
def one_thread():
    """Compute with one thread, as the library does for few players, and processes whose bytes are compared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# Extras of the library, and packages that tests compare with: `make test-core` runs without any of them.
EXTRAS = ("pandas", "scipy", "skimage", "networkx", "shapiq", "sklearn")
MISSING = {name for name in EXTRAS if importlib.util.find_spec(name) is None}


def pytest_ignore_collect(collection_path):
    """Leave out a file that imports a missing extra at its head, or a helper that does."""
    return True if collection_path.suffix == ".py" and MISSING & imported_by(collection_path) else None


def pytest_report_header():
    """Say what is left out."""
    return f"left out are the tests that need {', '.join(sorted(MISSING))}" if MISSING else None


def imported_by(path):
    """Return the packages that a test file and its helpers import at module level."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) else []
        for name in names:
            helper = pathlib.Path(__file__).with_name(f"{name}.py")
            found |= imported_by(helper) if helper.exists() else {name.partition(".")[0]}
    return found
