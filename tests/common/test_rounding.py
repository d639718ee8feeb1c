import subprocess
import sys

import pytest
import torch
from torch import nn

from captum_lkn import AndOrInteraction, SelectOutput
from captum_lkn._common.rounding import agree, precision_in_force
from captum_lkn.models.model import Model

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def products():
    """The setting of float32 matrix products, set back afterwards."""
    before = torch.get_float32_matmul_precision()
    yield torch.set_float32_matmul_precision
    torch.set_float32_matmul_precision(before)


def test_the_setting_of_matrix_products_counts_for_its_device(products):
    expected = {"highest": (2**-23, 2**-23), "high": (2**-23, 2**-10), "medium": (2**-7, 2**-10)}
    for setting, found in expected.items():
        products(setting)
        assert tuple(precision_in_force(torch.float32, device).eps for device in (CPU, GPU)) == found
        assert precision_in_force(torch.float64, GPU).eps == 2**-52
        assert precision_in_force(torch.bfloat16, GPU).eps == 2**-7


def test_convolutions_on_a_gpu_use_tf32_by_default():
    found = precision_in_force(torch.float32, GPU, convolutions=True)
    assert found.name == "TF32"
    assert "allow_tf32 = False" in found.advice


def test_settings_by_name_are_read_and_named():
    """In a process of its own: once they were used, torch's older settings cannot be read any more."""
    if not hasattr(torch.backends.cuda.matmul, "fp32_precision"):
        pytest.skip("this torch has no settings by name")
    code = """
        import torch
        from captum_lkn import AndOrInteraction
        from captum_lkn._common.rounding import precision_in_force
        torch.backends.cuda.matmul.fp32_precision = "tf32"
        print(AndOrInteraction(lambda x: x.sum(1), score="logit").attribute(torch.ones(1, 3))[0].values[-1].item())
        found = precision_in_force(torch.float32, torch.device("cuda"))
        print(found.name, found.advice)
        exec(found.advice.removeprefix("set "))
        print(precision_in_force(torch.float32, torch.device("cuda")).name)
    """
    lines = "\n".join(line.strip() for line in code.splitlines())
    run = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, check=True)
    assert run.stdout.split("\n")[:3] == [
        "3.0",
        'TF32 set torch.backends.cuda.matmul.fp32_precision = "ieee"',
        "torch.float32",
    ]


def test_the_precision_of_a_model_is_that_of_its_parameters():
    """A float64 output of a float32 model is as rough as float32."""
    net = nn.Linear(3, 2).eval()
    doubled = SelectOutput(net, lambda output: output.double())
    assert Model(doubled).precision(torch.zeros(1, 2).double()).eps == 2**-23
    found = AndOrInteraction(doubled).attribute(torch.ones(1, 3), target=0)
    assert found[0].epsilon == 2**-23
    with torch.autocast("cpu", torch.bfloat16), pytest.warns(UserWarning, match="bfloat16"):
        assert AndOrInteraction(doubled).attribute(torch.ones(1, 3), target=0)[0].epsilon == 2**-7


@pytest.mark.parametrize(("off", "same"), [(0.0, True), (1e-6, True), (3e-3, False), (float("nan"), False)])
def test_values_agree_up_to_rounding(off, same):
    values = torch.tensor([0.0, 1.0, 2.0])
    assert agree(values, values + torch.tensor([0.0, 0.0, off]), torch.finfo(torch.float32).eps) is same
