"""The number of rows of a forward, from the size of the inputs."""

from types import SimpleNamespace

import pytest
import torch

from captum_lkn.values import limits

CPU = torch.device("cpu")


def rows(monkeypatch, *, scalars=10**6, tokens=10**6, **given):
    """Return the rows of a forward for what a forward function is given of one sample."""
    monkeypatch.setattr(limits, "_SCALARS_CPU", scalars)
    monkeypatch.setattr(limits, "_TOKENS", tokens)
    monkeypatch.setattr(limits, "_ROWS", (2, 500))
    players = SimpleNamespace(inputs=(torch.zeros(1, 1),), decode=lambda one: given)
    return limits.rows_per_forward(SimpleNamespace(device=CPU), players, None)


def test_numbers_and_columns_of_any_kind_count(monkeypatch):
    table, names = torch.zeros(1, 5), ["seven!!"]
    assert rows(monkeypatch, scalars=1200, pixels=table, text=names) == 100
    assert rows(monkeypatch, scalars=1200, pixels=table, parts=torch.zeros(1, 3, 5)) == 60
    assert rows(monkeypatch, tokens=1200, ids=torch.zeros(1, 6, dtype=torch.long)) == 200


@pytest.mark.parametrize(("scalars", "expected"), [(1, 2), (10, 2), (11, 2), (15, 3), (2500, 500), (10**6, 500)])
def test_rows_stay_within_their_range(monkeypatch, scalars, expected):
    assert rows(monkeypatch, scalars=scalars, pixels=torch.zeros(1, 5)) == expected
