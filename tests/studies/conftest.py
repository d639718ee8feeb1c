"""Fixtures of the tests of studies."""

import pytest
import torch


@pytest.fixture
def one_thread():
    """Compute with one thread, as the processes do whose bytes are compared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
