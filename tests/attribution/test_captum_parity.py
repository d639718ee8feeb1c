"""The same numbers as Captum's own exact Shapley values, on the models that Captum tests its methods with."""

import inspect

import pytest
import torch
from captum.attr import FeatureAblation, NoiseTunnel, PerturbationAttribution, ShapleyValues
from captum.metrics import infidelity, infidelity_perturb_func_decorator, sensitivity_max
from torch import Tensor, nn

from captum_lkn import AndOrInteraction, ExactShapleyValues

captum_models = pytest.importorskip(
    "captum.testing.helpers.basic_models", reason="captum 0.8 ships no models of its tests"
)
X = torch.tensor([[20.0, 50.0, 30.0]])
PAIR = torch.tensor([[20.0, 50.0, 30.0], [10.0, -40.0, 20.0]])
THREE = (torch.tensor([[23.0, 100.0, 0.0]]), torch.tensor([[20.0, 50.0, 30.0]]), torch.tensor([[0.0, 100.0, 10.0]]))
THREE_MASKS = (torch.tensor([[1, 1, 1]]), torch.tensor([[0, 1, 2]]), torch.tensor([[0, 2, 2]]))  # ids are shared
IMAGE = torch.arange(16.0).reshape(1, 1, 4, 4)
QUARTERS = torch.tensor([[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]])
BOOLS = torch.tensor([[True, False, True], [False, True, True]])
TOKENS = torch.tensor([[1, 7], [4, 9], [2, 2]])


def stripes(*shape, count=3):
    """A feature mask of `count` players, one after the other along the scalars."""
    size = torch.Size(shape).numel()
    return (torch.arange(size) * count // size).reshape(1, *shape)


def model(name, *args, **kwargs):
    return lambda: getattr(captum_models, name)(*args, **kwargs)


CASES = {
    # name: (model, inputs, arguments)
    "multi-layer": (model("BasicModel_MultiLayer"), X, {"target": 0}),
    "multi-layer, in place": (model("BasicModel_MultiLayer", inplace=True), PAIR, {"target": 1}),
    "multi-layer, several modules": (model("BasicModel_MultiLayer", multi_input_module=True), PAIR, {"target": 1}),
    "target: list": (model("BasicModel_MultiLayer"), PAIR, {"target": [1, 0]}),
    "target: tensor": (model("BasicModel_MultiLayer"), PAIR, {"target": torch.tensor([0, 1])}),
    "target: one-element tensor": (model("BasicModel_MultiLayer"), PAIR, {"target": torch.tensor(1)}),
    "target: tuple of one": (model("BasicModel_MultiLayer"), PAIR, {"target": (1,)}),
    "target: tuple": (
        model("BasicModel_MultiLayer"),
        PAIR,
        {"target": (1, 0, 1), "additional_forward_args": (None, True)},
    ),
    "target: list of tuples": (
        model("BasicModel_MultiLayer"),
        PAIR,
        {"target": [(1, 0, 1), (0, 1, 1)], "additional_forward_args": (None, True)},
    ),
    "mask": (model("BasicModel_MultiLayer"), PAIR, {"target": 0, "feature_mask": torch.tensor([[0, 0, 1]])}),
    "mask without batch": (
        model("BasicModel_MultiLayer"),
        PAIR,
        {"target": 0, "feature_mask": torch.tensor([1, 0, 1])},
    ),
    "mask a sample": (
        model("BasicModel_MultiLayer"),
        PAIR,
        {"target": 0, "feature_mask": torch.tensor([[1, 1, 0], [0, 2, 1]])},
    ),
    "baselines: int": (model("BasicModel_MultiLayer"), PAIR, {"target": 0, "baselines": 3}),
    "baselines: float": (model("BasicModel_MultiLayer"), PAIR, {"target": 0, "baselines": -1.5}),
    "baselines: tensor": (model("BasicModel_MultiLayer"), PAIR, {"target": 0, "baselines": PAIR.flip(0) / 7}),
    "baselines: one row": (
        model("BasicModel_MultiLayer"),
        PAIR,
        {"target": 0, "baselines": torch.tensor([[1.0, 2.0, 3.0]])},
    ),
    "further tensor": (model("BasicModel_MultiLayer"), PAIR, {"target": 0, "additional_forward_args": PAIR / 3}),
    "three inputs": (
        model("BasicModel_MultiLayer_MultiInput"),
        THREE,
        {"target": 0, "additional_forward_args": (1,), "feature_mask": THREE_MASKS},
    ),
    "three inputs, baselines of all kinds": (
        model("BasicModel_MultiLayer_MultiInput"),
        THREE,
        {
            "target": 1,
            "additional_forward_args": (3,),
            "feature_mask": THREE_MASKS,
            "baselines": (2, 1.5, torch.tensor([[1.0, 2.0, 3.0]])),
        },
    ),
    "three inputs and a tensor": (
        model("BasicModel_MultiLayer_TrueMultiInput"),
        THREE,
        {"target": 0, "additional_forward_args": (X / 2,), "feature_mask": THREE_MASKS},
    ),
    "two inputs, a player a scalar": (model("BasicModel6_MultiTensor"), (X[:, :2] / 40, X[:, 1:] / 60), {}),
    "tuple of one": (model("BasicModel_MultiLayer"), (X,), {"target": 0}),
    "arguments: int and tensor": (
        model("BasicModel4_MultiArgs"),
        (PAIR[:, :2], PAIR[:, 1:]),
        {"additional_forward_args": (torch.tensor([[2.0], [5.0]]), 1)},
    ),
    "arguments: a list": (
        model("BasicModel5_MultiArgs"),
        (PAIR[:, :2], PAIR[:, 1:]),
        {"additional_forward_args": ([3, -2], 1)},
    ),
    "arguments: sparse": (
        model("BasicModelWithSparseInputs"),
        PAIR,
        {"additional_forward_args": (torch.tensor([1, 7, 2, 4, 5, 3, 6]),)},
    ),
    "convolution": (model("BasicModel_ConvNet_One_Conv"), IMAGE, {"target": 0, "feature_mask": QUARTERS}),
    "convolution and a tensor": (
        model("BasicModel_ConvNet_One_Conv", inplace=True),
        torch.cat([IMAGE, IMAGE.flip(3)]),
        {"target": [0, 1], "feature_mask": QUARTERS, "additional_forward_args": torch.cat([IMAGE, 2 * IMAGE])},
    ),
    "convolution, a mask a sample": (
        model("BasicModel_ConvNet_One_Conv"),
        torch.cat([IMAGE, IMAGE.flip(3)]),
        {"target": 1, "feature_mask": torch.stack([QUARTERS, QUARTERS // 2])[:, None]},
    ),
    "convolution, dilated": (
        model("BasicModel_ConvNetWithPaddingDilation"),
        torch.linspace(-1, 1, 72).reshape(2, 1, 6, 6),
        {"target": 5, "feature_mask": stripes(1, 6, 6)},
    ),
    "probabilities": (
        model("BasicModel_ConvNet"),
        torch.linspace(-1, 1, 200).reshape(2, 1, 10, 10),
        {"target": [3, 0], "feature_mask": stripes(1, 10, 10)},
    ),
    "one dimension": (
        model("BasicModel_ConvNet_MaxPool1d"),
        torch.linspace(-1, 2, 10).reshape(1, 1, 10),
        {"target": 2, "feature_mask": stripes(1, 10), "baselines": 0.5},
    ),
    "three dimensions": (
        model("BasicModel_ConvNet_MaxPool3d"),
        torch.linspace(-1, 2, 1000).reshape(1, 1, 10, 10, 10),
        {"target": 2, "feature_mask": stripes(1, 10, 10, 10)},
    ),
    "sequence": (
        model("Conv1dSeqModel"),
        torch.linspace(-1, 2, 8000).reshape(2, 4, 1000),
        {"target": (1, 0), "feature_mask": stripes(4, 1000)},
    ),
    "bools": (model("BasicModelBoolInput"), BOOLS, {"target": 0, "additional_forward_args": (None, 2.0)}),
    "bools, true where absent": (model("BasicModelBoolInput"), BOOLS, {"target": 0, "baselines": True}),
    "tokens": (
        model("BasicEmbeddingModel", nested_second_embedding=True),
        (TOKENS, TOKENS + 3),
        {"target": 0, "baselines": (0, 5), "additional_forward_args": TOKENS + 9},
    ),
    "token vectors": (model("TextModule", 20, 4), TOKENS, {"target": (1, 2), "baselines": 3}),
    "reused modules": (model("BasicModelWithReusedModules"), PAIR / 20, {"target": 1}),
    "linear": (model("BasicLinearModel"), (PAIR, torch.arange(8.0).reshape(2, 4)), {"target": 0, "n": 3}),
    "linear layers": (model("BasicLinearModel_Multilayer", 3, 4, 2), PAIR, {"target": 0}),
    "linear and ReLU": (model("BasicLinearReLULinear", 3), PAIR, {"target": 0}),
    "max pool": (model("LinearMaxPoolLinearModel"), torch.tensor([[1.0, 5.0, 2.0, -3.0]]), {"target": 0}),
    "two layers": (model("ReLULinearModel"), (PAIR, PAIR.flip(1)), {"target": 0, "n": 3}),
    "dropout at rest": (model("SimpleLRPModel", inplace=True), PAIR, {"target": 0}),
    "inputs [B]": (model("BasicModel2"), (torch.tensor([3.0, 9.0]), torch.tensor([1.0, -2.0])), {}),
    "no target needed": (lambda: lambda x: x.prod(1), PAIR, {}),
    "float64": (lambda: nn.Linear(3, 2).double(), PAIR.double(), {"target": 0}),
}


def build(case):
    make, inputs, arguments = CASES[case]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        made = make()
    arguments = dict(arguments)
    if count := arguments.pop("n", None):  # a few players where each scalar one would take Captum too long
        arguments["feature_mask"] = tuple(stripes(x.shape[1], count=count) for x in inputs)
    return made.eval() if isinstance(made, nn.Module) else made, inputs, arguments


def assert_same(ours, captums, inputs):
    assert type(ours) is type(captums) is type(inputs)
    if not isinstance(inputs, tuple):
        ours, captums, inputs = (ours,), (captums,), (inputs,)
    assert len(ours) == len(captums)
    for a, b, x in zip(ours, captums, inputs, strict=True):
        assert a.shape == b.shape
        assert a.device == x.device
        assert a.dtype == (x.dtype if x.is_floating_point() else torch.get_default_dtype())
        assert not a.requires_grad
        torch.testing.assert_close(a.double(), b.double(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_equals_captum(case):
    forward, inputs, arguments = build(case)
    scalar = case == "arguments: sparse"  # one value for the batch
    captums = ShapleyValues(forward).attribute(inputs, **arguments)
    if not scalar:
        for x, attribution in zip(
            inputs if isinstance(inputs, tuple) else (inputs,),
            captums if isinstance(captums, tuple) else (captums,),
            strict=True,
        ):
            assert attribution.shape == x.shape
    assert_same(ExactShapleyValues(forward).attribute(inputs, **arguments), captums, inputs)
    found = AndOrInteraction(forward, score="logit", kind="and", noise=0).attribute(inputs, **arguments)  # no solver
    assert_same(found.attributions(), captums, inputs)


@pytest.mark.parametrize("perturbations_per_eval", [1, 2, 3, 100, None])
@pytest.mark.parametrize(
    "case", ["target: list", "mask a sample", "three inputs", "convolution and a tensor", "arguments: int and tensor"]
)
def test_equals_captum_whatever_the_masks_a_forward(case, perturbations_per_eval):
    forward, inputs, arguments = build(case)
    captums = ShapleyValues(forward).attribute(
        inputs, **arguments, perturbations_per_eval=1 if perturbations_per_eval is None else perturbations_per_eval
    )
    ours = ExactShapleyValues(forward).attribute(inputs, **arguments, perturbations_per_eval=perturbations_per_eval)
    assert_same(ours, captums, inputs)


# ---------------------------------------------------------------- one value for a batch


def summed(convert):
    net = captum_models.BasicModel_MultiLayer().eval()
    return lambda x: convert(net(x)[:, 0].sum())


@pytest.mark.parametrize(
    "convert",
    [
        pytest.param(lambda z: z, id="tensor []"),
        pytest.param(lambda z: z.reshape(1), id="tensor [1]"),
        pytest.param(lambda z: z.double(), id="float64"),
        pytest.param(lambda z: z.item(), id="float"),
        pytest.param(lambda z: int(z.item()), id="int"),
    ],
)
@pytest.mark.parametrize("mask", [None, torch.tensor([[0, 0, 1]])], ids=["scalars", "mask"])
@pytest.mark.parametrize("perturbations_per_eval", [1, None])
def test_one_value_for_a_batch_equals_captum(convert, mask, perturbations_per_eval):
    forward = summed(convert)
    captums = ShapleyValues(forward).attribute(PAIR, feature_mask=mask)
    assert captums.shape == (1, 3)
    ours = ExactShapleyValues(forward).attribute(PAIR, feature_mask=mask, perturbations_per_eval=perturbations_per_eval)
    torch.testing.assert_close(ours, captums, atol=1e-5, rtol=1e-5)
    found = AndOrInteraction(forward, score="logit", noise=0).attribute(PAIR, feature_mask=mask)
    assert len(found) == 1
    torch.testing.assert_close(found.attributions(), captums, atol=1e-5, rtol=1e-5)


def test_one_value_for_a_batch_refuses_what_captum_refuses():
    masks = torch.tensor([[0, 0, 1], [0, 1, 1]])
    with pytest.raises(ValueError, match=r"must be the same in all samples.*first dimension is 1"):
        ExactShapleyValues(summed(float)).attribute(PAIR, feature_mask=masks)
    with pytest.raises(ValueError, match=r"use perturbations_per_eval=1; got 2"):
        ExactShapleyValues(summed(float)).attribute(PAIR, perturbations_per_eval=2)


def test_one_value_of_shape_1_for_one_sample_equals_captum():
    forward = summed(lambda z: z.reshape(1))
    ours = ExactShapleyValues(forward).attribute(X)
    torch.testing.assert_close(ours, ShapleyValues(forward).attribute(X), atol=1e-5, rtol=1e-5)


# ---------------------------------------------------------------- Captum's machinery


@pytest.mark.parametrize("captums", [ShapleyValues, FeatureAblation])
@pytest.mark.parametrize("ours", [AndOrInteraction, ExactShapleyValues])
def test_arguments_come_in_captums_order(captums, ours):
    theirs = [p.name for p in inspect.signature(captums.attribute).parameters.values() if p.kind is not p.VAR_KEYWORD]
    mine = inspect.signature(ours.attribute).parameters.values()
    assert [p.name for p in mine if p.kind is p.POSITIONAL_OR_KEYWORD][: len(theirs)] == theirs
    assert [p.name for p in mine if p.kind is p.POSITIONAL_OR_KEYWORD] == theirs[: len(mine)]
    own = ["player_names", "n_samples", "seed", "max_effects"] if ours is AndOrInteraction else []
    assert [p.name for p in mine if p.kind is p.KEYWORD_ONLY] == own


@pytest.mark.parametrize("ours", [AndOrInteraction, ExactShapleyValues])
def test_is_a_perturbation_attribution(ours):
    method = ours(captum_models.BasicModel_MultiLayer().eval(), score="logit")
    assert isinstance(method, PerturbationAttribution)
    assert method.get_name() == ("And Or Interaction" if ours is AndOrInteraction else "Exact Shapley Values")
    assert not method.multiplies_by_inputs or ShapleyValues(method.forward_func).multiplies_by_inputs
    with pytest.raises(NotImplementedError, match="call attribute"):
        method.attribute_future(X, target=0)
    with torch.enable_grad():
        bare = method.attribute.__wrapped__(method, X, target=0)  # as NoiseTunnel and TCAV call it
    result = bare.attributions() if ours is AndOrInteraction else bare
    assert not result.requires_grad


def test_convergence_delta_of_interactions():
    method = AndOrInteraction(captum_models.BasicModel_MultiLayer().eval(), score="logit", noise=0.04)
    assert method.has_convergence_delta()
    found = method.attribute(PAIR.abs(), target=1)
    delta = method.compute_convergence_delta(found, torch.zeros_like(PAIR), PAIR)  # Captum's start and end points
    assert delta.efficiency.shape == delta.matching.shape == (2,)
    assert delta.efficiency.dtype == delta.matching.dtype == torch.float64
    assert bool((delta.efficiency.abs() < 1e-9).all())
    assert bool((delta.matching <= torch.tensor([one.kappa for one in found]) + 1e-9).all())
    with pytest.raises(TypeError, match=r"must be the InteractionsBatch that attribute returned; got Tensor"):
        method.compute_convergence_delta(PAIR)


def test_exact_shapley_values_have_no_convergence_delta_as_captums():
    ours, captums = ExactShapleyValues(nn.Identity()), ShapleyValues(nn.Identity())
    assert ours.has_convergence_delta() == captums.has_convergence_delta()


@pytest.mark.parametrize("kind", ["smoothgrad", "smoothgrad_sq", "vargrad"])
@pytest.mark.parametrize("samples_batch", [None, 2])
def test_noise_tunnel_runs_on_exact_shapley_values(kind, samples_batch):
    net = captum_models.BasicModel_MultiLayer().eval()

    def tunnel(method):
        torch.manual_seed(3)
        return NoiseTunnel(method).attribute(
            PAIR,
            nt_type=kind,
            nt_samples=5,
            nt_samples_batch_size=samples_batch,
            stdevs=2.0,
            target=[0, 1],
            baselines=1.0,
            feature_mask=torch.tensor([[0, 1, 1]]),
        )

    # A variance is a small difference of large squares, which float32 rounds.
    torch.testing.assert_close(tunnel(ExactShapleyValues(net)), tunnel(ShapleyValues(net)), atol=1e-5, rtol=1e-3)


def test_noise_tunnel_runs_on_tuples():
    net = captum_models.BasicModel_MultiLayer_MultiInput().eval()
    smooth = NoiseTunnel(ExactShapleyValues(net)).attribute(
        THREE, nt_samples=3, stdevs=0.1, target=0, additional_forward_args=(1,), feature_mask=THREE_MASKS
    )
    assert [a.shape for a in smooth] == [x.shape for x in THREE]


def test_infidelity_of_exact_shapley_values_of_a_linear_model_is_0():
    net = nn.Linear(3, 2).eval()
    attributions = ExactShapleyValues(net).attribute(PAIR / 20, target=1)

    @infidelity_perturb_func_decorator(multiply_by_inputs=True)
    def perturb(x):
        return x - torch.randn_like(x)

    torch.manual_seed(0)
    score = infidelity(net, perturb, PAIR / 20, attributions, target=1, n_perturb_samples=6)
    torch.testing.assert_close(score, torch.zeros(2), atol=1e-8, rtol=0)


@pytest.mark.parametrize("batch", [None, 4])
def test_sensitivity_equals_that_of_captums_shapley_values(batch):
    net = captum_models.BasicModel_MultiLayer().eval()

    def sensitivity(method) -> Tensor:
        torch.manual_seed(5)
        return sensitivity_max(
            method.attribute, PAIR, target=1, n_perturb_samples=4, perturb_radius=5.0, max_examples_per_batch=batch
        )

    ours = sensitivity(ExactShapleyValues(net))
    assert ours.shape == (2,)
    assert bool((ours > 0).all())
    torch.testing.assert_close(ours, sensitivity(ShapleyValues(net)), atol=1e-5, rtol=1e-4)
