"""Calling a model: how it is called, and that it is left as it was found."""

import collections
import functools
import warnings

import pytest
import torch
from captum.attr import ShapleyValues
from forwards import Recording, data_parallel, normal, plain
from model_state import assert_unchanged, state_of
from torch import nn

from captum_lkn import AndOrInteraction, ExactShapleyValues, LayerAndOrInteraction
from captum_lkn.models.arguments import Arguments
from captum_lkn.models.model import Model

X = normal(2, 3)


class Net(nn.Module):
    """Dropout, batch norm, a frozen layer; may fail, or draw random numbers, after some forwards."""

    def __init__(self, fail_at=None, error=RuntimeError, draw=False):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5))
        self.head = nn.Sequential(nn.Linear(8, 2), nn.Dropout(0.5))
        self.head[0].requires_grad_(False)
        self.fail_at, self.error, self.draw, self.calls = fail_at, error, draw, 0

    def forward(self, x):
        self.calls += 1
        if self.fail_at is not None and self.calls >= self.fail_at:  # another attempt fails, too
            raise self.error("stop")
        if self.draw:
            torch.rand(3)
        return self.head(self.body(x))


def modes(kind, net):
    """Put a net into one of several training modes; whether any part of it is in training mode."""
    net.eval()
    if kind == "training":
        net.train()
    elif kind == "mixed":
        net.body[1].train()
        net.head.train()
        net.head[1].eval()
    return kind != "eval"


METHODS = pytest.mark.parametrize("method", [plain, ExactShapleyValues])
KINDS = pytest.mark.parametrize("kind", ["eval", "training", "mixed"])


def expect_warning(in_training):
    if in_training:
        return pytest.warns(UserWarning, match=r"Net is in training mode: it is evaluated in eval mode.*\.eval\(\)")
    return warnings.catch_warnings()


@METHODS
@KINDS
@pytest.mark.parametrize("draw", [False, True])
def test_model_and_random_state_are_left_as_found(method, kind, draw):
    net = Net(draw=draw)
    in_training = modes(kind, net)
    before, random = state_of(net), torch.get_rng_state()
    with expect_warning(in_training):
        method(net).attribute(X, target=1)
    assert_unchanged(before, net)
    assert torch.equal(random, torch.get_rng_state())
    assert torch.is_grad_enabled()


@METHODS
@KINDS
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("fail_at", [1, 2, 4])
def test_model_and_random_state_are_left_as_found_by_an_exception(method, kind, error, fail_at):
    net = Net(fail_at, error, draw=True)
    in_training = modes(kind, net)
    before, random = state_of(net), torch.get_rng_state()
    with expect_warning(in_training), pytest.raises(error, match="stop"):
        method(net).attribute(X, target=1, perturbations_per_eval=2)
    assert_unchanged(before, net)
    assert torch.equal(random, torch.get_rng_state())
    assert torch.is_grad_enabled()


def test_model_is_left_as_found_by_a_wrong_target():
    net = Net().train()
    before = state_of(net)
    with expect_warning(True), pytest.raises(ValueError, match=r"target must be .*; got 2"):
        plain(net).attribute(X, target=2)
    assert_unchanged(before, net)


@KINDS
def test_a_model_in_training_mode_gives_the_results_of_eval_mode(kind):
    net = Net()
    expected = ExactShapleyValues(net.eval()).attribute(X, target=0)
    with expect_warning(modes(kind, net)):
        found = ExactShapleyValues(net).attribute(X, target=0)
    assert torch.equal(found, expected)
    torch.testing.assert_close(found, ShapleyValues(net.eval()).attribute(X, target=0))


def test_the_warning_points_at_the_users_line():
    with pytest.warns(UserWarning, match="training mode") as caught:
        ExactShapleyValues(nn.Linear(3, 2).train()).attribute(X, target=0)
    assert [one.filename for one in caught] == [__file__]


def test_a_bound_method_is_as_good_as_its_module():
    net = Net().train()
    with expect_warning(True):
        found = ExactShapleyValues(net.forward).attribute(X, target=0)
    assert net.training
    assert torch.equal(found, ExactShapleyValues(net.eval()).attribute(X, target=0))


def test_a_partial_is_as_good_as_its_module():
    net = Net().train()
    with expect_warning(True):
        found = ExactShapleyValues(functools.partial(net)).attribute(X, target=0)
    assert torch.equal(found, ExactShapleyValues(net.eval()).attribute(X, target=0))


# ---------------------------------------------------------------- no gradients


@METHODS
def test_inputs_that_require_gradients_are_left_alone(method):
    x = X.clone().requires_grad_()
    further = torch.ones(2, 3, requires_grad=True)
    found = method(lambda x, y: (x * y).prod(1)).attribute(x, additional_forward_args=further)
    result = found if isinstance(found, torch.Tensor) else found.attributions()
    assert not result.requires_grad
    assert x.requires_grad
    assert further.requires_grad
    assert x.grad is None


def test_forwards_keep_no_graph():
    seen = []

    def forward(x):
        seen.append((torch.is_grad_enabled(), torch.is_inference_mode_enabled()))
        return x.prod(1)

    ExactShapleyValues(forward).attribute(X.clone().requires_grad_())
    assert set(seen) == {(False, False)}


def test_a_forward_that_needs_gradients_of_its_own():
    def slope(x):
        with torch.enable_grad():
            y = x.clone().requires_grad_()
            return torch.autograd.grad(y.pow(3).sum(), y)[0].sum(1)

    torch.testing.assert_close(ExactShapleyValues(slope).attribute(X), 3 * X**2, atol=1e-5, rtol=1e-5)


def test_inside_inference_mode():
    expected = ExactShapleyValues(lambda x: x.prod(1)).attribute(X)
    with torch.inference_mode():
        found = AndOrInteraction(lambda x: x.prod(1)).attribute(X)
    torch.testing.assert_close(found.attributions(), expected)


# ---------------------------------------------------------------- how it is called

Options = collections.namedtuple("Options", "scale shift")


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.line = nn.Linear(3, 2)
        self.seen = []

    def forward(self, x, further, flag=None):
        self.seen.append((further, flag))
        return self.line(x) * (2.0 if flag else 1.0)


@pytest.mark.parametrize(
    "further",
    [
        None,
        "text",
        3,
        2.5,
        [1, 2, 3],
        {"a": [1]},
        object(),
        pytest.param(
            Options(2, 3),
        ),
        pytest.param(
            collections.OrderedDict(a=1),
        ),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("by", ["position", "keyword"])
def test_what_is_no_tensor_is_passed_on_as_it_is(further, by):
    net = Scaled().eval()
    additional = (further, True) if by == "position" else {"further": further, "flag": True}
    ExactShapleyValues(net).attribute(X, target=0, additional_forward_args=additional)
    assert all(seen == further and type(seen) is type(further) and flag is True for seen, flag in net.seen)


def test_a_further_argument_need_not_be_in_a_tuple():
    net = Scaled().eval()
    ExactShapleyValues(net).attribute(X, target=0, additional_forward_args="alone")
    assert {further for further, _ in net.seen} == {"alone"}


def test_further_tensors_go_with_their_samples():
    forward = Recording(lambda x, own, all_alike, number: x.sum(1) * own[:, 0] + all_alike.sum() + number)
    own, all_alike = torch.tensor([[5.0], [7.0]]), torch.arange(3.0)
    found = ExactShapleyValues(forward).attribute(X, additional_forward_args=(own, all_alike, torch.tensor(2.0)))
    torch.testing.assert_close(found, X * own, atol=1e-5, rtol=1e-5)
    for (x, rows, same, number), _, _ in forward.calls:
        assert len(rows) == len(x)
        assert same is all_alike
        assert number.dim() == 0


def test_arguments_follow_the_samples_to_their_rows():
    arguments = Arguments((X,), positional=(torch.tensor([10, 20]), torch.arange(3)), keywords={"k": X})
    rows = arguments.rows(torch.tensor([1, 1, 0]), 2)
    assert rows.positional[0].tolist() == [20, 20, 10]
    assert rows.positional[1].tolist() == [0, 1, 2]
    assert torch.equal(rows.keywords["k"], X[[1, 1, 0]])


@pytest.mark.parametrize(
    ("forward", "name"),
    [
        (nn.Linear(3, 2), "Linear"),
        (nn.Linear(3, 2).forward, "Linear"),
        (Recording(None), "Recording"),
        (normal, "normal"),
    ],
)
def test_name(forward, name):
    assert Model(forward).name == name


@pytest.mark.parametrize("forward", ["bert-base", None, [nn.Linear(3, 2)], X])
def test_what_cannot_be_called_is_refused(forward):
    for method in (AndOrInteraction, ExactShapleyValues):
        with pytest.raises(
            TypeError, match=r"forward_func must be an nn.Module, a function or an estimator; got (a |float32)"
        ):
            method(forward)


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (lambda x: (x, x), "a tuple"),
        (lambda x: [x], "a list"),
        (lambda x: None, "a NoneType"),
        (lambda x: "cat", "a str"),
        (lambda x: True, "a bool"),
        (lambda x: x.numpy() > 0, "a ndarray"),
        (lambda x: {"hidden": x, "pooled": x}, "a dict with hidden, pooled"),
    ],
    ids=["tuple", "list", "None", "str", "bool", "ndarray", "dict"],
)
def test_an_output_that_holds_no_tensor_is_refused(output, said):
    forward = Recording(output)
    with pytest.raises(TypeError, match=rf"the forward must return a tensor or .*\.logits; got {said}\. "):
        AndOrInteraction(forward).attribute(X)
    assert not forward.masked_forwards(X)


@pytest.mark.parametrize("wrap", [lambda z: {"logits": z, "loss": None}, lambda z: Options(z, 0)])
def test_logits_are_read_by_name(wrap):
    if isinstance(wrap(X), Options):
        logits = collections.namedtuple("Output", "loss logits")
        found = ExactShapleyValues(lambda x: logits(None, x)).attribute(X, target=1)
    else:
        found = ExactShapleyValues(lambda x: wrap(x)).attribute(X, target=1)
    assert torch.equal(found, X * torch.tensor([0.0, 1.0, 0.0]))


def test_an_output_of_another_number_of_rows_is_refused():
    with pytest.raises(ValueError, match=r"the forward returned \[4, 3\] for 2 samples"):
        AndOrInteraction(lambda x: torch.cat([x, x])).attribute(X, target=0)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("inside", [False, True])
def test_a_frozen_module_has_no_mode(inside):
    net = nn.Sequential(nn.Linear(3, 2)).eval().requires_grad_(False)
    frozen = torch.jit.freeze(torch.jit.script(net))
    found = ExactShapleyValues((lambda x: frozen(x)) if inside else frozen).attribute(X, target=0)
    torch.testing.assert_close(found, X * net[0].weight[0])
    with pytest.raises(ValueError, match="has no layer '0': it has no parts"):
        LayerAndOrInteraction(frozen, "0", probe=lambda f: f).attribute(X, target=0)


def test_a_scripted_and_a_compiled_model():
    net = nn.Sequential(nn.Linear(3, 2), nn.Dropout()).train()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.script(net)
        compiled = torch.compile(net, backend="eager")
        for other in (scripted, compiled):
            found = ExactShapleyValues(other).attribute(X, target=0)
            torch.testing.assert_close(found, X * net[0].weight[0].detach(), atol=1e-5, rtol=1e-5)
            assert other.training
    assert net.training
    assert net[1].training


# ---------------------------------------------------------------- modes that are no modes


def exported(net):
    batch = torch.export.Dim("batch", min=1, max=64)
    return torch.export.export(net, (X,), dynamic_shapes=({0: batch},)).module()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "wrap",
    [data_parallel, lambda net: torch.ao.quantization.quantize_dynamic(net, {nn.Linear}), exported],
    ids=["DataParallel", "quantised", "exported"],
)
def test_no_warning_where_nothing_is_in_training_mode(wrap):
    wrapped = wrap(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).eval())
    before = [module.training for module in wrapped.modules()]
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        plain(wrapped).attribute(X[:1], target=1, perturbations_per_eval=1)  # quantisation looks at all rows
    assert [module.training for module in wrapped.modules()] == before


# ---------------------------------------------------------------- devices

ELSEWHERE = torch.device("meta")  # stands for a GPU, also on a machine without one


def placed(x, *further, needs_lengths=False):
    """The devices that a forward sees where the model lies elsewhere."""
    seen = []

    def forward(x, *further):
        seen.append([x.device.type, *(one.device.type for one in further)])
        if needs_lengths and further[0].device.type != "cpu":
            raise RuntimeError("'lengths' argument should be a 1D CPU int64 tensor, but got 1D meta Long tensor")
        return torch.zeros(len(x), 2)  # outputs must hold data

    model = Model(forward)
    model._home = ELSEWHERE
    model(Arguments((x,), positional=further))
    return seen[-1]


def test_tensors_go_to_the_model_unless_the_user_placed_them():
    lengths, weights = torch.tensor([3, 2]), torch.ones(2, 3)
    assert placed(X, lengths, weights) == ["meta", "meta", "meta"]
    assert placed(X.to(ELSEWHERE), lengths, weights) == ["meta", "cpu", "cpu"]
    assert placed(X, lengths, weights, needs_lengths=True) == ["meta", "cpu", "meta"]


def test_a_recurrent_network_with_lengths():
    class Packed(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.cell = nn.Embedding(9, 4), nn.GRU(4, 3, batch_first=True)

        def forward(self, ids, lengths):
            packed = nn.utils.rnn.pack_padded_sequence(self.words(ids), lengths, batch_first=True, enforce_sorted=False)
            return self.cell(packed)[1][0]

    ids, lengths = torch.tensor([[3, 5, 7], [4, 6, 0]]), torch.tensor([3, 2])
    net, own = Packed().eval(), torch.tensor([[0, 1, 2], [0, 1, -1]])
    found = plain(net).attribute(ids, 1, 0, lengths, feature_mask=own)
    alone = plain(net).attribute(ids[1:, :2], 1, 0, lengths[1:], feature_mask=own[1:, :2])
    torch.testing.assert_close(found[1].values, alone[0].values, atol=1e-6, rtol=1e-5)


def test_a_class_in_the_place_of_a_model_is_refused():
    with pytest.raises(TypeError, match=r"forward_func must be .*got the class Linear: make a model of it"):
        Model(nn.Linear)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_layers_of_a_scripted_module_are_refused():
    scripted = torch.jit.script(nn.Sequential(nn.Linear(3, 2)).eval())
    with pytest.raises(ValueError, match=r"is a scripted module.*give the module that it was made of"):
        LayerAndOrInteraction(scripted, "0", probe=lambda f: f).attribute(X, target=0)


@pytest.mark.parametrize("module", [nn.Linear(3, 2), nn.Conv1d(3, 2, 1)])
def test_inputs_of_another_dtype_than_the_parameters_are_named(module):
    x = torch.ones(2, 3, 3)[:, 0] if isinstance(module, nn.Linear) else torch.ones(2, 3, 3)
    message = r"(Linear|Conv1d) has float64 parameters and inputs of float32 \(.*inputs\.to\(torch\.float64\)"
    with pytest.raises(RuntimeError, match=message):
        plain(module.double().eval()).attribute(x, target=0 if x.dim() == 2 else (0, 0))
    with pytest.raises(RuntimeError, match=r"^(addmm: )?mat1 and mat2 shapes"):  # another error stays as it is
        plain(nn.Linear(4, 2).eval()).attribute(torch.ones(2, 3), target=0)
