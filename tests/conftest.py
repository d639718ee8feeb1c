"""Fixtures that several packages use."""

import pytest

from captum_lkn.demo import load_sentiment_bert


@pytest.fixture(scope="session")
def sentiment():
    """Return the demo's BERT and its tokenizer, which no test changes."""
    return load_sentiment_bert()


@pytest.fixture(scope="session")
def full(request):
    """Return whether all data of a test are asked for, by `pytest --full`."""
    return request.config.getoption("--full")
