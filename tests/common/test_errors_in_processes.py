"""Errors cross from one process to another whole: a pool of processes pickles what a worker raises."""

import pickle

import pytest
import torch

from captum_lkn import decompose
from captum_lkn.decomposition import LargeGapError
from captum_lkn.values.agreement import RowsDifferError


@pytest.mark.parametrize(
    "error",
    [
        RowsDifferError("rows have other values together than alone", "Give perturbations_per_eval=1"),
        LargeGapError("a gap of 12 %", decompose(torch.tensor([0.0, 1.0, 1.0, 2.0], dtype=torch.float64))),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_is_the_same_in_another_process(error):
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is type(error)
    assert str(back) == str(error)
    assert set(vars(back)) == set(vars(error))


def test_the_decomposition_comes_along():
    error = LargeGapError("a gap", decompose(torch.tensor([0.0, 1.0, 1.0, 2.0], dtype=torch.float64)))
    back = pickle.loads(pickle.dumps(error))
    assert torch.equal(back.decomposition.and_effects, error.decomposition.and_effects)
