"""What all tests have in common, those in docstrings and pages included."""

import os
from collections.abc import Iterator

import hypothesis
import pytest
import torch

# A test must not fail because the machine is busy.
hypothesis.settings.register_profile("no clock", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("no clock")


@pytest.fixture(autouse=True)
def _same_random_numbers() -> Iterator[None]:
    """Seed torch, so that a test draws the same numbers in every run, in any order and in any process."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.hookimpl(optionalhook=True)  # pytest-xdist may be missing
def pytest_xdist_auto_num_workers() -> int:
    """Count the processors that this process may use; xdist would count physical cores where psutil is installed."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
