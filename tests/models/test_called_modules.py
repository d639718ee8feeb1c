"""Modules that a function, a read-out or a list of modules calls: evaluated in eval mode, and left as they were."""

import threading
import warnings

import pytest
import torch
from forwards import normal
from torch import nn

from captum_lkn import AndOrInteraction, LayerAndOrInteraction
from captum_lkn._common.rounding import precision_in_force
from captum_lkn.models.model import Model
from captum_lkn.models.products import WatchedProducts

X = normal(3, 4)


class Callable:
    def __init__(self, net):
        self.held = {"net": net}

    def __call__(self, x):
        return self.held["net"](x)


class Unregistered(nn.Module):
    """Its parts are in a list, where torch does not see them; its attribute `eval` is no method."""

    def __init__(self, net):
        super().__init__()
        self.parts = [net]
        self.__dict__["eval"] = False

    def forward(self, x):
        return self.parts[0](x)


def batch_statistics():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))
    net(normal(8, 4, seed=1))
    return net


@pytest.mark.parametrize(
    "around", [lambda net: lambda x: net(x), Callable, Unregistered], ids=["lambda", "object", "list"]
)
def test_a_model_in_training_mode_inside_something_else(around):
    net = batch_statistics()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    forward = around(net)
    if isinstance(forward, nn.Module):
        forward.training = False
    with pytest.warns(UserWarning, match="calls .*, which is in training mode: it is evaluated in eval mode"):
        found = AndOrInteraction(forward, score="logit").attribute(X, target=1)
    assert all(module.training for module in net.modules())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    expected = net.eval()(X)[:, 1].detach().double()
    torch.testing.assert_close(torch.tensor([one.v_full for one in found], dtype=torch.float64), expected)


def test_a_probe_in_training_mode_learns_nothing_from_what_it_reads():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)).eval()
    probe = nn.Sequential(nn.BatchNorm1d(8), nn.Linear(8, 2))
    with pytest.warns(UserWarning, match="calls BatchNorm1d, which is in training mode"):
        (found, *_) = LayerAndOrInteraction(net, "0", probe=probe, score="logit").attribute(X, target=0)
    assert probe.training
    assert probe[0].num_batches_tracked == 0
    assert found.v_full == pytest.approx(float(probe.eval()(net[0](X))[0, 0].detach()), abs=1e-6)


class DropsPaths(nn.Module):
    def forward(self, x):
        return nn.functional.dropout(x, 0.5, self.training)


def test_a_module_that_reads_the_flag_alone():
    part = DropsPaths()
    with pytest.warns(UserWarning, match="calls DropsPaths, which is in training mode"):
        found = AndOrInteraction(lambda x: part(x), score="logit").attribute(X, target=1)
    assert part.training
    assert [one.v_full for one in found] == pytest.approx(X[:, 1].tolist())


def test_modules_without_modes_are_no_reason_for_a_warning():
    linear = nn.Linear(4, 2)
    AndOrInteraction(lambda x: linear(x), score="logit").attribute(X, target=0)
    assert linear.training


def test_modules_that_other_threads_call_stay_in_training_mode():
    net, other, modes = nn.Linear(4, 2).eval(), nn.Dropout(), []

    def forward(x):
        thread = threading.Thread(target=lambda: (other(x), modes.append(other.training)))
        thread.start()
        thread.join()
        return net(x)

    AndOrInteraction(forward, score="logit").attribute(X[:1], target=0)
    assert all(modes)


# ---------------------------------------------------------------- precision


@pytest.mark.parametrize("double", [False, True])
def test_autocast_inside_a_function_is_seen(double):
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)).eval()

    def forward(x):
        with torch.autocast("cpu", torch.bfloat16):
            output = net(x)
        return output.double() if double else output.float()

    with pytest.warns(UserWarning, match=r"computes in torch.bfloat16 inside the forward.*without torch.autocast"):
        found = AndOrInteraction(forward, score="logit", noise=0.1).attribute(X, target=1)
    assert found[0].epsilon == torch.finfo(torch.bfloat16).eps


def test_values_of_half_precision_that_are_no_products_say_nothing():
    net = nn.Linear(4, 2).eval()
    output = net(X)
    with WatchedProducts() as watched:
        net(X) + torch.ones(2, dtype=torch.bfloat16)
    exact = precision_in_force(torch.float32, output.device)
    assert Model(net).precision(output, watched.dtypes) == exact


@pytest.mark.parametrize("kind", ["whole batch", "in order"])
def test_half_precision_is_told_whatever_the_forwards(kind):
    net = nn.Linear(4, 1).bfloat16().eval()
    x = X.bfloat16()
    forwards = {
        "whole batch": (lambda x: net(x).sum(), ()),
        "in order": (
            lambda x, factors: net(x) * torch.tensor([len(one) for one in factors])[:, None].bfloat16(),
            ([[1]] * 3,),
        ),
    }
    forward, further = forwards[kind]
    given = x[:1] if kind == "whole batch" else x
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        AndOrInteraction(forward, score="logit", noise=0.1).attribute(given, additional_forward_args=further)
    assert any("computes in torch.bfloat16" in str(one.message) for one in told)


# ---------------------------------------------------------------- what has no forward


class Exported(nn.Module):
    @torch.jit.export
    def run(self, x: torch.Tensor):
        return x


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
@pytest.mark.parametrize(
    "make", [lambda: nn.ModuleList([nn.Linear(2, 2)]), nn.Module, lambda: torch.jit.script(Exported())]
)
def test_a_module_without_a_forward_is_refused_at_once(make):
    with pytest.raises(TypeError, match=r"forward_func must have a forward; got a .* without"):
        AndOrInteraction(make())
