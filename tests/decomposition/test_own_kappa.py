import pytest
import torch
from forwards import normal

from captum_lkn import Interactions
from captum_lkn.decomposition import decompose, lattice


def test_options_of_a_table_have_its_own_kappa():
    tables = normal(2, 3, 8, seed=1).double()
    kappa = torch.tensor([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]], dtype=torch.float64)
    found = decompose(tables, kappa=kappa)
    assert found.options.kappa is None  # there are six
    assert found[1][2].options.kappa == 0.6
    assert decompose(tables[0, 0], kappa=kappa[0, :1].squeeze()).options.kappa == 0.1
    one = Interactions.from_decomposition(("a", "b", "c"), tables[0, 1], found[0][1])
    assert one.options.kappa == one.kappa == 0.2
    again = decompose(one.values, options=one.options)
    torch.testing.assert_close(again.and_effects, found[0][1].and_effects)


def test_a_shared_kappa_stays_a_share():
    found = decompose(normal(2, 8, seed=1).double(), noise=0.1)
    assert found[0].options.kappa is None
    assert found[0].options.noise == 0.1


def test_converged_is_said_of_the_gap_alone():
    pytest.importorskip("scipy", reason="SciPy is an extra")
    # HiGHS leaves the ridge out, so that its answer is not the optimum with it.
    with pytest.warns(UserWarning, match="without its ridge"), pytest.warns(UserWarning, match="stopped"):
        found = decompose(normal(8, seed=1).double(), solver="highs")
    assert not found.converged
    assert found.stopped == ("stalled",)


def test_transforms_compute_in_the_dtype_of_the_table_under_autocast():
    table = torch.tensor([1.001, 2.003, 3.007, 4.013])
    alone = lattice.and_transform(table)
    with torch.autocast("cpu", torch.bfloat16):
        under = lattice.and_transform(table)
    assert torch.equal(under, alone)
    torch.testing.assert_close(alone, torch.tensor([1.001, 1.002, 2.006, 0.004]), atol=1e-6, rtol=0)
