"""What all tests have in common, those in docstrings and pages included."""

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
