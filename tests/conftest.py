"""Fixtures that several rooms use."""

import pytest
import torch

from captum_lkn.demo import load_sentiment_bert


@pytest.fixture(autouse=True)
def _same_random_numbers():
    """Seed torch, so that the layers a test draws at random are the same in every run and in any order."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture(scope="session")
def sentiment():
    """Return the demo's BERT and its tokenizer, which no test changes."""
    return load_sentiment_bert()
