"""Options and settings of all tests, those in docstrings and pages included."""

import os
from collections import defaultdict
from collections.abc import Iterator

import hypothesis
import pytest
import torch

collect_ignore = ["docs/conf.py"]  # `make docs` runs it, with packages that tests do not need

# A test must not fail because the machine is busy.
CALM = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow]}
# The same examples in every run, so that a change is to blame for what fails; `--full` looks for new ones.
hypothesis.settings.register_profile("usual", max_examples=40, derandomize=True, **CALM)
hypothesis.settings.register_profile("full", max_examples=200, **CALM)


@pytest.fixture(autouse=True)
def _same_random_numbers() -> Iterator[None]:
    """Seed torch, so that a test draws the same numbers in every run, in any order and in any process."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def _positive(text: str) -> int:
    """Read a number from 1 on."""
    if (number := int(text)) < 1:
        raise ValueError(f"must be from 1 on; got {number}")
    return number


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--full`, which `make test-full` gives, and `--few`, for many versions in little time."""
    parser.addoption("--full", action="store_true", help="run the tests that are marked full, too")
    parser.addoption(
        "--few", type=_positive, metavar="N", help="run each test function with at most N of its parameter sets"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Let random tests draw more examples where all is asked for."""
    hypothesis.settings.load_profile("full" if config.getoption("--full") else "usual")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests that are marked full, unless they are asked for, and all but a few where few are."""
    left_out = set() if config.getoption("--full") else {item for item in items if item.get_closest_marker("full")}
    if most := config.getoption("--few"):
        functions = defaultdict(list)
        for item in items:
            if item not in left_out:
                functions[item.nodeid.split("[")[0]].append(item)
        for same in functions.values():
            spread = {round(place * (len(same) - 1) / max(most - 1, 1)) for place in range(most)}
            left_out |= {item for place, item in enumerate(same) if place not in spread}
    if left_out:
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = [item for item in items if item not in left_out]


@pytest.hookimpl(optionalhook=True)  # pytest-xdist may be missing
def pytest_xdist_auto_num_workers() -> int:
    """Count the processors that this process may use; xdist would count physical cores where psutil is installed."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
