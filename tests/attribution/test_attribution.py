"""Results of attribute, and errors of bad input: before any masked forward."""

import json
import warnings

import numpy as np
import pytest
import torch
from captum.attr import ShapleyValues
from forwards import Recording, normal, plain
from torch import nn

import captum_lkn
from captum_lkn import AndOrInteraction, DecompositionOptions, ExactShapleyValues, InteractionsBatch, Score

X = normal(2, 3)
LINE = normal(2, 3, seed=1)


def three_logits(x):
    """Three outputs a row: two linear, and one with an interaction."""
    return torch.cat([x @ LINE.T.to(x), x.prod(1, keepdim=True)], 1)


def probabilities(x):
    return three_logits(x).softmax(1)


# ---------------------------------------------------------------- bad input

SAYS = [
    # what is given, the error, what it says: the value quoted, and what to do
    ({"target": None}, ValueError, r'one of the 3 values a sample.*; got None.*target=0 to 2.*"predicted"'),
    ({"target": 3}, ValueError, r"target must be 0 to 2, for the output .*; got 3"),
    ({"target": -1}, ValueError, r"target must be 0 to 2.*; got -1. Negative indices"),
    ({"target": True}, TypeError, r"target must have integers.*; got True.*write 1"),
    ({"target": np.bool_(False)}, TypeError, r"False.*bool.*write 0"),
    ({"target": 1.0}, TypeError, r"target must be an int.*; got 1.0, a float"),
    ({"target": "best"}, ValueError, r"target must be an int.*; got 'best'"),
    ({"target": "predict"}, ValueError, r"target must be an int.*; got 'predict'. Did you mean 'predicted'\?"),
    ({"target": [0]}, ValueError, r"target must have one entry a sample, 2.*; got 1"),
    ({"target": torch.tensor([0, 1, 2])}, ValueError, r"target must have one entry a sample, 2.*; got 3"),
    ({"target": [0, 7]}, ValueError, r"target\[1\] must be 0 to 2.*; got 7"),
    ({"target": [0, None]}, TypeError, r"target\[1\] must be an int.*; got None"),
    ({"target": torch.tensor([0.0, 1.0])}, TypeError, r"integers; got a tensor of float32 \[2\].*\.long\(\)"),
    ({"target": (0, 1)}, ValueError, r"target must have 1 index.*; got \(0, 1\).*Give an int"),
    ({"target": slice(0, 1)}, TypeError, r"target must be an int.*; got slice\(0, 1, None\), a slice"),
    ({"feature_mask": torch.zeros(2, 4).long()}, ValueError, r"feature_mask 0 has shape \[2, 4\].*\[2, 3\].*Give"),
    ({"feature_mask": torch.zeros(1, 1, 3).long()}, ValueError, r"feature_mask 0 has shape \[1, 1, 3\].*Give"),
    ({"feature_mask": torch.zeros(2, 3)}, TypeError, r"integers; got float32 \[2, 3\].*Convert it with \.long\(\)"),
    ({"feature_mask": torch.ones(3).bool()}, TypeError, r"integers; got bool \[3\].*Convert it"),
    ({"feature_mask": [0, 0, 1]}, TypeError, r"feature_mask 0 must be a tensor; got a list"),
    ({"feature_mask": torch.tensor([-2, 0, 1])}, ValueError, r"feature_mask 0 must hold ids from 0, or -1.*got -2"),
    ({"feature_mask": torch.full((3,), -1)}, ValueError, r"sample 0 has no player.*all background"),
    ({"feature_mask": (torch.arange(3),) * 2}, ValueError, r"feature_mask must have one entry an input; got 2 for 1"),
    ({"baselines": torch.zeros(2, 4)}, ValueError, r"baseline 0 has shape \[2, 4\].*\[2, 3\].*Give a number"),
    ({"baselines": torch.zeros(3)}, ValueError, r"baseline 0 has shape \[3\].*\[2, 3\].*Give a number"),
    ({"baselines": "mean"}, TypeError, r"baseline 0 must be a tensor or a number; got a str"),
    ({"baselines": 1j}, TypeError, r"baseline 0 must be a tensor or a number; got a complex"),
    ({"baselines": torch.zeros(2, 3).bool()}, TypeError, r"baseline 0 is bool, its input float32.*Give"),
    ({"baselines": (0, 0)}, ValueError, r"baselines must have one entry an input; got 2 for 1"),
    ({"baselines": {"x": 0}}, TypeError, r"baselines is a mapping and inputs is not.*same form"),
    ({"perturbations_per_eval": 0}, ValueError, r"perturbations_per_eval must be at least 1; got 0"),
    ({"perturbations_per_eval": 2.0}, TypeError, r"perturbations_per_eval must be an int or None; got 2.0"),
    ({"perturbations_per_eval": True}, TypeError, r"perturbations_per_eval must be an int or None; got True"),
    ({"player_names": ["a", "b"]}, ValueError, r"one label an id.*got 2 labels for 3 ids \(0, 1, 2\)"),
    ({"player_names": "abc"}, TypeError, r"player_names must be a sequence of labels; got a str"),
    ({"player_names": [["a", "b", "c"]]}, ValueError, r"player_names must have one list a sample; got 1 for 2 samples"),
    ({"n_steps": 25}, TypeError, r"unexpected keyword argument 'n_steps'"),
    ({"inputs": X.tolist()}, TypeError, r"inputs must be a tensor, a tuple of tensors or a mapping; got a list"),
    ({"inputs": (X, X[:1])}, ValueError, r"inputs must have the same first dimension.*\[2, 3\], \[1, 3\]"),
    ({"inputs": ()}, ValueError, r"inputs must have at least one tensor; got an empty tuple"),
    ({"inputs": X[:0]}, ValueError, r"inputs must have at least one sample; got shapes \[0, 3\]"),
    ({"inputs": torch.tensor(1.0)}, ValueError, r"input 0 must have a batch dimension.*Give x\[None\]"),
    ({"inputs": torch.ones(1, 30)}, ValueError, r"n = 30 players.*2\^30 values \(8.59e\+09 bytes\).*feature_mask"),
    ({"inputs": {"labels": torch.ones(1).long()}}, ValueError, r"inputs has the entries \['labels'\], none of which"),
    ({"inputs": {"input_ids": [[1, 2]]}}, TypeError, r"inputs\['input_ids'\].*a list.*return_tensors=\"pt\""),
]


def test_a_score_is_not_recognised_by_its_name():
    """A user's function that is called like a named score is applied; several outputs need a target for it."""

    def logit(output, target):
        return output.sum(1) ** 2

    with pytest.raises(ValueError, match="target must select one of the 3 values a sample"):
        ExactShapleyValues(three_logits, score=logit).attribute(X)
    half = Score("half", lambda output, target: output.gather(1, target[:, None])[:, 0] / 2, "values")
    found = ExactShapleyValues(three_logits, score=half).attribute(X)
    each = [ShapleyValues(three_logits).attribute(X, target=c) / 2 for c in range(3)]
    torch.testing.assert_close(found, torch.stack(each, 1), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("given", "error", "says"), SAYS, ids=[f"{n} {value!r}"[:50] for s in SAYS for n, value in s[0].items()]
)
@pytest.mark.parametrize("method", [AndOrInteraction, ExactShapleyValues])
def test_bad_input_is_told_before_any_masked_forward(method, given, error, says):
    if method is ExactShapleyValues and given == {"target": None}:
        return  # all outputs, as in Captum
    if method is ExactShapleyValues and "player_names" in given:
        error, says = TypeError, "unexpected keyword argument 'player_names'"
    forward = Recording(three_logits)
    with pytest.raises(error, match=says):
        method(forward, score="logit").attribute(**({"inputs": X, "target": 0} | given))
    assert not forward.masked_forwards(X)
    assert len(forward.calls) <= 1


@pytest.mark.parametrize("target", [np.int64(1), np.int32(1), np.array([1, 1]), np.array(1), torch.tensor([1, 1])])
def test_integers_of_numpy_and_torch_are_targets(target):
    found = ExactShapleyValues(three_logits).attribute(X, target=target)
    torch.testing.assert_close(found, X * LINE[1])


@pytest.mark.parametrize(
    ("settings", "error", "says"),
    [
        ({"score": "logodds"}, ValueError, r"got 'logodds'\. Did you mean 'log_odds'"),
        ({"score": "entropy"}, ValueError, r"score must be one of log_odds, logit.*got 'entropy'"),
        ({"score": 3}, TypeError, r"score must be one of log_odds.*got a int"),
        ({"noise": -0.1}, ValueError, r"noise must be a finite number >= 0; got -0.1"),
        ({"noise": float("nan")}, ValueError, r"noise must be a finite number >= 0; got nan"),
        ({"kappa": -1.0}, ValueError, r"kappa must be a finite number >= 0; got -1.0"),
        ({"kind": "xor"}, ValueError, r"kind must be 'and-or' or 'and'; got 'xor'"),
        ({"options": {"noise": 0.1}}, TypeError, r"options must be a DecompositionOptions; got dict.*noise=0.02"),
        ({"nois": 0.1}, TypeError, r"unexpected keyword argument 'nois'"),
    ],
)
def test_bad_settings_are_told_at_once(settings, error, says):
    with pytest.raises(error, match=says):
        AndOrInteraction(three_logits, **settings)


@pytest.mark.parametrize("score", ["log_odds", "log_prob", "prob"])
def test_probabilities_are_refused_where_logits_are_read(score):
    with pytest.raises(ValueError, match=rf'score="{score}" reads logits.*probabilities already.*score="logit"'):
        AndOrInteraction(probabilities, score=score).attribute(X, target=0)


@pytest.mark.parametrize(
    "score",
    ["logit", "margin", lambda output, target: captum_lkn.outputs.scores.log_odds(output, target)],
    ids=["logit", "margin", "callable"],
)
def test_probabilities_are_welcome_where_they_are_asked_for(score):
    assert len(AndOrInteraction(probabilities, score=score, noise=0).attribute(X, target=0)) == 2


@pytest.mark.parametrize(
    ("score", "error", "says"),
    [
        (lambda output, target: output, ValueError, r"score <lambda> returned float32 \[\d+, 3\]; expected.*one a row"),
        (lambda output, target: output[:, 0].tolist(), TypeError, r"score <lambda> returned a list; expected real"),
        (lambda output, target: output.sum(), ValueError, r"returned float32 \[\]; expected.*keep the rows apart"),
    ],
)
def test_a_score_that_returns_something_else_is_told_before_the_work(score, error, says):
    forward = Recording(three_logits)
    with pytest.raises(error, match=says):
        AndOrInteraction(forward, score=score).attribute(X, target=0)
    assert len(forward.calls) <= 2


# ---------------------------------------------------------------- warnings, and right results all the same


def test_equal_ends_are_told():
    with pytest.warns(UserWarning, match=r"kappa is 0 in 1 of 2 tables.*v\(N\) = v\(empty\).*absolute kappa="):
        found = AndOrInteraction(lambda x: x[:, 0] * (1 - x[:, 1])).attribute(torch.tensor([[1.0, 1.0], [1.0, 3.0]]))
    assert found[0].kappa == 0
    assert found[0].residual < 1e-9
    torch.testing.assert_close(found.attributions(), torch.tensor([[0.5, -0.5], [-0.5, -1.5]]))


def test_a_tiny_kappa_is_told():
    with pytest.warns(UserWarning, match=r"kappa is small against the range.*absolute kappa="):
        found = AndOrInteraction(lambda x: x[:, 0] * (10.1 - 10 * x[:, 1])).attribute(torch.ones(1, 2))
    assert found[0].residual <= found[0].kappa + 1e-9


def test_a_model_that_does_not_look_at_the_players_is_told():
    # in print: no kappa would change it, so that there is nothing to warn of
    found = AndOrInteraction(lambda x: torch.ones(len(x))).attribute(X)
    assert "no effects: the score does not depend on the players" in repr(found[0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("half", ["model", "output"])
def test_half_precision_is_told(dtype, half):
    net, x = nn.Linear(3, 2).eval(), X
    if half == "model":
        net, x = net.to(dtype), X.to(dtype)
        forward = net
    else:
        forward = lambda x: net(x).to(dtype)  # noqa: E731 - as under autocast
    with pytest.warns(UserWarning, match=rf"computes in {dtype}.*\.float\(\) on the model"):
        found = ExactShapleyValues(forward).attribute(x, target=0)
    assert found.dtype == torch.float32  # a half-precision sum of values would overflow or round
    torch.testing.assert_close(found.float(), X * net.weight[0].float().detach(), atol=0.05, rtol=0.05)


def test_nothing_is_said_where_all_is_well(capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        AndOrInteraction(lambda x: x.prod(1)).attribute(X.abs())
    assert capfd.readouterr() == ("", "")


# ---------------------------------------------------------------- results


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"noise": 0},
        {"kappa": 0.3},
        {"kind": "and"},
        {"options": DecompositionOptions(order_weight=0, or_weight=1, ridge=0)},
    ],
)
def test_effects_reproduce_what_the_model_says(settings):
    x = normal(3, 5, seed=2).abs() + 0.2
    forward = lambda x: x[:, 0] * x[:, 1] + torch.maximum(x[:, 2], x[:, 3]) * 2 - x[:, 4]  # noqa: E731
    found = AndOrInteraction(forward, **settings).attribute(x)
    masks = torch.tensor([[s >> i & 1 for i in range(5)] for s in range(32)]).bool()
    for row, one in zip(x, found, strict=True):
        outputs = forward(torch.where(masks, row, 0.0)).double()
        error = (one.predict(masks) - outputs).abs()
        assert float(error.max()) <= one.kappa + 1e-6
        assert error[0] < 1e-6  # the ends are pinned
        assert error[-1] < 1e-6
        assert one.v_full == pytest.approx(float(forward(row[None])), abs=1e-6)
        assert one.kappa == pytest.approx(
            settings.get("kappa", settings.get("noise", 0.04) * abs(one.v_full - one.v_empty)), abs=1e-9
        )
        assert one.gap <= 1e-3


def test_free_ends():
    found = AndOrInteraction(lambda x: x.prod(1), kappa=0.1, options=DecompositionOptions(pin_ends=False)).attribute(
        torch.ones(1, 3)
    )[0]
    assert 0 < abs(found.predict(torch.ones(3).bool()).item() - 1) <= 0.1 + 1e-9


def test_provenance_can_be_written_as_json_and_is_right():
    net = nn.Linear(3, 2).eval()
    mask = torch.tensor([[0, 1, 1]])
    found = AndOrInteraction(net, score="logit", noise=0.02).attribute(
        X, baselines=0.5, target=[1, 0], feature_mask=mask, player_names=["age", "sex"]
    )
    for one, target in zip(found, [1, 0], strict=True):
        origin = json.loads(json.dumps(one.provenance))
        assert one.players == ("age", "sex")
        assert origin["target"] == target
        assert (origin["model"], origin["layer"], origin["score"]) == ("Linear", "output", "logit")
        assert (origin["players"], origin["baseline"]) == ("feature_mask", "0.5")
        assert origin["decomposition"]["noise"] == 0.02
        assert "kappa" not in origin["decomposition"]
        assert origin["forwards"] >= 1
        assert set(origin["versions"]) == {"captum_lkn", "torch", "captum", "python"}
        assert origin["versions"]["captum_lkn"] == captum_lkn.__version__
        assert origin["stopped"] == "converged"


def test_provenance_of_predictions_and_of_a_score_of_ones_own():
    def spread(output, target):
        return output.amax(1) - output.gather(1, target[:, None])[:, 0]

    origins = [
        one.provenance for one in AndOrInteraction(three_logits, score=spread, noise=0).attribute(X, target="predicted")
    ]
    assert [origin["target"] for origin in origins] == three_logits(X).argmax(1).tolist()
    assert {origin["score"] for origin in origins} == {"spread"}


def test_a_score_of_ones_own():
    found = plain(three_logits, score=lambda z, y: z.square().sum(1) + y).attribute(X, target=[2, 0])
    assert found[0].v_full == pytest.approx(float(three_logits(X)[0].square().sum()) + 2, abs=1e-5)
    assert found[1].v_empty == 0


@pytest.mark.parametrize("settings", [{"noise": np.float32(0.04)}, {"kappa": torch.tensor(0.1)}])
def test_settings_in_other_kinds_of_numbers(settings):
    options = AndOrInteraction(lambda x: x.prod(1), **settings).attribute(X)[0].options
    for name, value in settings.items():
        assert type(getattr(options, name)) is float
        assert getattr(options, name) == pytest.approx(float(value))


@pytest.mark.parametrize("inputs", ["tensor", "tuple", "mapping"])
def test_what_is_saved_comes_back(inputs, tmp_path):
    given = {"tensor": X, "tuple": (X, X), "mapping": {"x": X}}[inputs]
    mask = {"tensor": None, "tuple": (torch.arange(3), torch.tensor([0, -1, 1])), "mapping": None}[inputs]
    found = AndOrInteraction(lambda x, y=1: (x * y).prod(1), noise=0).attribute(given, feature_mask=mask)
    found.save(tmp_path / "found.safetensors")
    loaded = InteractionsBatch.load(tmp_path / "found.safetensors")
    for a, b in zip(found, loaded, strict=True):
        assert a.players == b.players
        assert a.provenance == b.provenance
        assert (a.kappa, a.gap) == (b.kappa, b.gap)
        for name in ("and_effects", "or_effects", "values"):
            assert torch.equal(getattr(a, name), getattr(b, name))
    before, after = found.attributions(), loaded.attributions()
    assert type(before) is type(after)
    for a, b in zip(before, after, strict=True):
        assert torch.equal(a, b)


def test_effects_by_hand():
    def forward(x):  # 3 x0 x1, and 2 as soon as one of x2 and x3 is there
        return 3 * x[:, 0] * x[:, 1] + 2 * torch.maximum(x[:, 2], x[:, 3])

    found = AndOrInteraction(forward, noise=0).attribute(torch.ones(1, 4), player_names=list("abcd"))[0]
    first, second = found.top(2)
    assert (first.kind, first.players, round(first.effect, 3)) == ("and", ("a", "b"), 3.0)
    assert (second.kind, second.players, round(second.effect, 3)) == ("or", ("c", "d"), 2.0)
    assert found.shapley_values().tolist() == pytest.approx([1.5, 1.5, 1, 1])


def test_binary_log_odds_where_the_batch_has_one_value():
    rows = ExactShapleyValues(lambda x: x.sum(1), score="binary_log_odds").attribute(X[:1])
    batch = ExactShapleyValues(lambda x: x.sum(), score="binary_log_odds").attribute(X[:1])
    torch.testing.assert_close(batch, rows)


@pytest.mark.parametrize("target", [77, "nonsense", True, [0, 1, 2]])
def test_a_wrong_target_is_told_where_the_batch_has_one_value(target):
    with pytest.raises((TypeError, ValueError), match="target"):
        ExactShapleyValues(lambda x: x.sum()).attribute(X, target=target)


def test_captums_users_find_their_way():
    """The example of captum.attr.ShapleyValues, with the one name changed."""
    arguments = {"inputs": torch.ones(2, 4, 4), "target": 1}
    arguments["feature_mask"] = torch.tensor([[[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]])
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 3), nn.Tanh(), nn.Linear(3, 3)).eval()
    torch.testing.assert_close(
        ExactShapleyValues(net).attribute(**arguments), ShapleyValues(net).attribute(**arguments), atol=1e-5, rtol=1e-5
    )
