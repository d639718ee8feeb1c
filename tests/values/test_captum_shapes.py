"""Forwards as Captum's users write them: arguments without rows, dropped dimensions, one output for a batch."""

import warnings

import captum.attr
import pytest
import torch
from forwards import Recording, assert_tables, naive_table, normal, plain
from torch import nn
from transformers import T5Config, T5ForConditionalGeneration

from captum_lkn import (
    AndOrInteraction,
    ExactShapleyValues,
    Fixed,
    LayerAndOrInteraction,
    players_from_mask,
    select_players,
)

X = normal(2, 4)
KEYS, VALUES = normal(2, 4, seed=1), 2 * normal(2, 3, seed=2)
ALIGNED = r"masked copies of any samples in a forward do not work.*captum_lkn\.Fixed\(argument\)"


def attend(queries, keys, values):
    return (queries @ keys.T).softmax(1) @ values


def theirs(forward, x, **options):
    with torch.no_grad():
        return captum.attr.ShapleyValues(forward).attribute(x, **options).double()


def assert_close(found, expected):
    torch.testing.assert_close(found.double(), expected.double(), atol=1e-5, rtol=1e-5)


# ---------------------------------------------------------------- arguments that are not rows


@pytest.mark.parametrize("perturbations_per_eval", [1, 3, None])
def test_tensors_of_the_batchs_length_that_are_not_rows(perturbations_per_eval):
    options = {"target": 1, "perturbations_per_eval": perturbations_per_eval}
    with pytest.warns(UserWarning, match=ALIGNED):
        found = ExactShapleyValues(attend).attribute(X, additional_forward_args=(KEYS, VALUES), **options)
    assert_close(found, theirs(attend, X, target=1, additional_forward_args=(KEYS, VALUES)))


@pytest.mark.parametrize("perturbations_per_eval", [1, 3, None])
@pytest.mark.parametrize("by_keyword", [False, True])
def test_fixed_arguments_are_passed_on_in_large_forwards(perturbations_per_eval, by_keyword, recwarn):
    fixed = (Fixed(KEYS), Fixed(VALUES))
    forward = Recording(attend)
    found = ExactShapleyValues(forward).attribute(
        X,
        target=1,
        additional_forward_args={"keys": fixed[0], "values": fixed[1]} if by_keyword else fixed,
        perturbations_per_eval=perturbations_per_eval,
    )
    assert_close(found, theirs(attend, X, target=1, additional_forward_args=(KEYS, VALUES)))
    assert not recwarn.list
    assert max(forward.rows) == 2 * min(16, perturbations_per_eval or 16)


@pytest.mark.parametrize("perturbations_per_eval", [1, None])
def test_a_list_with_one_entry_a_sample(perturbations_per_eval):
    def by_name(x, names):
        return torch.stack([row.sum() * len(name) for row, name in zip(x, names, strict=False)])

    with pytest.warns(UserWarning, match=ALIGNED):
        found = ExactShapleyValues(by_name).attribute(
            X, additional_forward_args=(["a", "bb"],), perturbations_per_eval=perturbations_per_eval
        )
    assert_close(found, X * torch.tensor([[1.0], [2.0]]))


def test_a_temperature_of_one_sample():
    linear = nn.Linear(4, 2).requires_grad_(False)

    def cooled(x, temperature):
        return linear(x) / temperature

    options = {"target": 1, "additional_forward_args": (torch.tensor([0.5]),)}
    with pytest.warns(UserWarning, match=r"RuntimeError: The size of tensor.*Forwards of 1 sample in their order do"):
        found = ExactShapleyValues(cooled).attribute(X[:1], **options)
    assert_close(found, theirs(cooled, X[:1], **options))
    fixed = ExactShapleyValues(cooled).attribute(X[:1], target=1, additional_forward_args=Fixed(torch.tensor([0.5])))
    assert_close(fixed, found)


def test_a_state_of_one_sample():
    rnn, out = nn.LSTM(1, 3, batch_first=True).requires_grad_(False), nn.Linear(3, 2).requires_grad_(False)

    def forward(x, h, c):
        return out(rnn(x[..., None], (h, c))[0][:, -1])

    options = {"target": 1, "additional_forward_args": (torch.zeros(1, 1, 3), torch.zeros(1, 1, 3))}
    with pytest.warns(UserWarning, match=ALIGNED):
        found = ExactShapleyValues(forward).attribute(X[:1], **options)
    assert_close(found, theirs(forward, X[:1], **options))


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_a_model_of_a_fixed_batch(batch):
    x = normal(3, 4, seed=3)[:batch]

    class Exported(nn.Module):
        def forward(self, x):
            if len(x) != batch:
                raise RuntimeError(f"expected input at *args[0].shape[0] to be equal to {batch}, but got {len(x)}")
            return x.prod(1)

    mask = torch.tensor([[0, 1, 2, 3], [0, 0, 1, 1], [0, 1, 1, 0]])[:batch]  # of several sizes
    with pytest.warns(UserWarning, match=ALIGNED):
        found = plain(Exported().eval()).attribute(x, feature_mask=mask)
    assert_tables(
        found, [naive_table(lambda row: row.prod(1), (x,), (torch.zeros_like(x),), (mask,), b) for b in range(batch)]
    )


def test_a_forward_that_fails_in_any_case_raises_its_own_error():
    def broken(x):
        if bool((x == 0).any()):
            raise IndexError("nothing to read")
        return x.sum(1)

    with pytest.raises(IndexError, match="nothing to read"):
        plain(broken).attribute(X)


def test_rows_that_influence_each_other_are_refused_in_their_order_too():
    def centred(x, scale):
        return (x - x.mean(0)).square().sum(1) * scale

    with pytest.raises(ValueError, match="rows of a batch influence each other"):
        plain(centred).attribute(normal(3, 4), additional_forward_args=torch.ones(3))


# ---------------------------------------------------------------- dropped dimensions


class Squeezed(nn.Module):
    def __init__(self, outputs):
        super().__init__()
        self.first, self.last = nn.Linear(4, 6), nn.Linear(6, outputs)
        self.requires_grad_(False)

    def forward(self, x):
        return self.last(self.first(x).tanh()).squeeze()


@pytest.mark.filterwarnings("ignore:the 2 kept players do not explain")
@pytest.mark.parametrize("batch", [1, 2, 3])
@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("perturbations_per_eval", [1, 5, None])
def test_a_forward_that_ends_in_squeeze(batch, outputs, perturbations_per_eval):
    net, x = Squeezed(outputs).eval(), normal(3, 4, seed=4)[:batch]
    target = None if outputs == 1 else 2
    options = {"target": target, "perturbations_per_eval": perturbations_per_eval}
    everyone = torch.arange(4).expand(batch, 4)

    def value(row):
        return net.last(net.first(row).tanh())[0, target or 0]

    expected = [naive_table(value, (x,), (torch.zeros_like(x),), (everyone,), b) for b in range(batch)]
    assert_tables(plain(net).attribute(x, **options), expected)
    method = LayerAndOrInteraction(net, "first", probe=lambda f: net.last(f.tanh()), score="logit", kind="and", noise=0)
    assert_tables(method.attribute(x, **options), expected)
    assert select_players(net, players_from_mask(x), k=2, target=target, score="logit").sizes == (2,) * batch


# ---------------------------------------------------------------- one output for all


@pytest.mark.parametrize("nodes", [1, 4])
def test_one_row_for_all_nodes_of_a_graph(nodes):
    a, b = nn.Linear(3, 5).requires_grad_(False), nn.Linear(5, 2).requires_grad_(False)
    edges = torch.tensor([list(range(nodes)), [*range(1, nodes), 0]])
    x = normal(4, 3, seed=5)[:nodes]

    def network(x, edges):
        h = a(x)
        return b(h.index_add(0, edges[1], h[edges[0]]).relu().sum(0, keepdim=True))

    options = {"target": 1, "additional_forward_args": edges}
    found = ExactShapleyValues(network).attribute(x, **options)
    assert_close(found, theirs(network, x, **options))
    interactions = AndOrInteraction(network, score="logit").attribute(x, **options)
    assert len(interactions) == 1
    assert_close(interactions.attributions(), found)


def test_one_value_repeated_in_each_row():
    def total(x):
        return x.prod().expand(len(x))

    assert_close(ExactShapleyValues(total).attribute(X[:1]), theirs(total, X[:1]))
    with pytest.warns(UserWarning, match="the same value in each of the 2 rows.*one value for the whole batch"):
        found = ExactShapleyValues(total).attribute(X)
    assert_close(found.expand(2, 4), theirs(total, X))  # Captum repeats it


# ---------------------------------------------------------------- forwards that take something else


def test_a_forward_that_takes_one_mapping():
    def forward(batch):
        return batch["a"].sum(1) * batch["b"].prod(1)

    with pytest.raises(
        TypeError, match=r"by keyword, and forward does not take them.*lambda \*\*inputs: model\(inputs\)"
    ):
        ExactShapleyValues(forward).attribute({"a": X, "b": X})
    found = ExactShapleyValues(lambda **inputs: forward(inputs)).attribute({"a": X, "b": X + 1})
    expected = ExactShapleyValues(lambda a, b: forward({"a": a, "b": b})).attribute((X, X + 1))
    assert torch.equal(found[0], expected[0])


def test_numpy_arrays_of_more_dimensions_name_the_way():
    with pytest.raises(TypeError, match=r"got a ndarray\. Give torch\.from_numpy\(inputs\)"):
        ExactShapleyValues(lambda x: x.sum(1)).attribute(X.numpy()[None])


def test_a_forward_may_return_a_numpy_array_of_numbers():
    assert_close(ExactShapleyValues(lambda x: x.sum(1).numpy()).attribute(X), X)
    with pytest.raises(TypeError, match=r"got a ndarray.* It holds object\. Return numbers"):
        ExactShapleyValues(lambda x: x.sum(1).numpy().astype(object)).attribute(X)


def test_an_encoder_decoder_without_decoder_inputs():
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    model = T5ForConditionalGeneration(T5Config(vocab_size=50, **sizes)).eval()
    example = {"input_ids": torch.tensor([[3, 4, 5]])}
    with pytest.raises(ValueError, match=r"T5ForConditionalGeneration has a decoder.*Give decoder_input_ids"):
        ExactShapleyValues(model).attribute(example, target=(0, 1))
    found = ExactShapleyValues(model).attribute(example | {"decoder_input_ids": torch.tensor([[0]])}, target=(0, 1))
    assert bool(found.any())


@pytest.mark.parametrize("shape", [(3,), (2, 3)])
@pytest.mark.parametrize("inputs", [1, 2])
def test_all_outputs_without_a_target(shape, inputs):
    weights = normal(4, 6, seed=6)[:, : torch.Size(shape).numel()]

    def forward(x, y=0.0):
        return ((x + y).tanh() @ weights).square().reshape(-1, *shape)

    # Captum goes through all orders of the players: five have 120, eight would have 40,320.
    given, mask = X, None
    if inputs > 1:
        given, mask = (X, normal(2, 4, seed=7)), (torch.tensor([[0, 1, 1, 2]]), torch.tensor([[3, 3, 2, 4]]))
    found = ExactShapleyValues(forward).attribute(given, feature_mask=mask)
    expected = captum.attr.ShapleyValues(forward).attribute(given, feature_mask=mask)
    for ours, others in zip(found if inputs > 1 else [found], expected if inputs > 1 else [expected], strict=True):
        assert ours.shape == (2, *shape, 4)
        torch.testing.assert_close(ours, others, atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="target"):
        AndOrInteraction(forward, score="logit").attribute(given)


def test_all_outputs_are_checked_as_one_is():
    with pytest.raises(ValueError, match="rows of a batch influence each other"):
        ExactShapleyValues(lambda x: x - x.mean(0)).attribute(X)
    with pytest.raises(ValueError, match=r"sample 0 at output \[1\] is -inf with the players \{\} present"):
        ExactShapleyValues(lambda x: torch.stack([x[:, 0], x[:, 1].abs().log()], 1)).attribute(X)


# ---------------------------------------------------------------- precision


def test_values_and_decomposition_inside_autocast():
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)).requires_grad_(False).eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with pytest.warns(UserWarning, match=r"bfloat16 autocast.*noise of at least \d.*leave torch.autocast"):
            found = AndOrInteraction(net, noise=0).attribute(X, target=1)
        inside = found.attributions()
    for one in found:
        assert one.values.dtype == torch.float64
        assert float(one.residual) < 1e-9
    assert torch.equal(inside, found.attributions())
    plainly = AndOrInteraction(net, noise=0).attribute(X, target=1)
    for low, high in zip(found, plainly, strict=True):
        torch.testing.assert_close(low.values, high.values, atol=0.05, rtol=0.05)


def test_the_noise_that_was_measured_is_told():
    def noisy_by_row(x):  # as kernels of other batch sizes are
        return (x.sum(1) * (1 + 2**-9 * (len(x) > 1))).half()

    with pytest.warns(UserWarning, match=r"torch\.float16: the values have a noise of at least 0\.\d+ % of"):
        plain(noisy_by_row).attribute(X.half())


def test_a_double_model_is_held_to_doubles():
    def shaky(x):
        return 1e7 + x.sum(1) * (1 + 1e-2 * (len(x) > 1))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match="more than the rounding of torch"):
            plain(shaky).attribute(X.double())
        assert plain(lambda x: 1e7 + x.sum(1)).attribute(X.double())[0].v_empty == 1e7


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_attributions_to_half_inputs_hold_the_outputs(dtype):
    x = torch.tensor([[1.0, 2.0, 3.0, 4.0]], dtype=dtype)

    def price(x):
        return 30_000 * x.float().sum(1)

    for found in (ExactShapleyValues(price).attribute(x), plain(price).attribute(x).attributions()):
        assert torch.equal(found, torch.tensor([[30_000.0, 60_000.0, 90_000.0, 120_000.0]]))


@pytest.mark.parametrize("x", [torch.ones(2, 3), torch.tensor([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])], ids=["same", "sum"])
def test_equal_rows_of_two_samples_are_not_one_value(x):
    found = ExactShapleyValues(lambda x: x.sum(1)).attribute(x)
    torch.testing.assert_close(found, x)


def test_a_constant_forward_has_a_row_for_each_sample():
    assert torch.equal(ExactShapleyValues(lambda x: torch.ones(len(x))).attribute(torch.ones(2, 3)), torch.zeros(2, 3))


def test_an_output_for_each_node_of_a_graph_says_the_way_out():
    x, edges = torch.randn(3, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([[0, 1, 2], [1, 2, 0]])

    def nodes(x, edges):
        return x.index_add(0, edges[1], x[edges[0]]).prod(1)

    with pytest.raises(ValueError, match=r"a sample's value depends on the others. Give one sample.*x\[None\]"):
        ExactShapleyValues(nodes).attribute(x, additional_forward_args=edges)
    one = ExactShapleyValues(lambda x: nodes(x[0], edges)[None, 1])
    found = one.attribute(x[None], feature_mask=torch.arange(3)[None, :, None])
    assert float(found[0, :, 0].sum()) == pytest.approx(float(nodes(x, edges)[1]), abs=1e-6)
