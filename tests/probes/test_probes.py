"""Linear probes: against scikit-learn, by hand, and in all forms that data comes in."""

import contextlib
import math
import tempfile
import warnings

import pytest
import torch
from forwards import normal, record
from hypothesis import given, settings
from hypothesis import strategies as st
from model_state import assert_unchanged, state_of
from sklearn.linear_model import LogisticRegression
from tiny_models import made
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from transformers import (
    BatchEncoding,
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
)

from captum_lkn.models.layers import Layer
from captum_lkn.models.model import Model
from captum_lkn.probes import Accuracy, LinearProbe, LinearProbes, minibatches, newton
from captum_lkn.probes.features import FeatureStore
from captum_lkn.probes.labelled import labelled_batches
from captum_lkn.probes.logistic import held_out_rows
from captum_lkn.probes.minibatches import fit_in_minibatches
from captum_lkn.probes.newton import fit_exactly


def games(rows=240, width=6, columns=3, noise=0.5, seed=0):
    """Features of different scales, away from 0, and classes that they tell but for some noise."""
    pure = normal(rows, width, seed=seed)
    labels = (pure @ normal(width, columns, seed=seed + 1) + noise * normal(rows, columns, seed=seed + 2)).argmax(1)
    return pure * torch.logspace(-1, 1, width) + 3, labels


def net(width=6, columns=3):
    return nn.Sequential(nn.Linear(width, 8), nn.Tanh(), nn.Linear(8, 5), nn.Tanh(), nn.Linear(5, columns)).eval()


def batches(x, labels, size=50):
    return list(zip(x.split(size), labels.split(size), strict=True))


def centred(z):
    return z - z.mean(1, keepdim=True)


NOTHING = torch.zeros(240, dtype=torch.bool)

# ---------------------------------------------------------------- the regression


@pytest.mark.parametrize("penalty", [3.0, 0.1, 0.003])
@pytest.mark.parametrize("columns", [2, 3])
def test_log_odds_are_those_of_scikit_learn(columns, penalty):
    x, labels = games(columns=columns)
    fit = fit_exactly(x, labels, NOTHING, columns, [penalty])
    strength = (2 if columns == 2 else 1) / (len(x) * penalty)
    other = LogisticRegression(C=strength, tol=1e-12, max_iter=100_000, solver="newton-cholesky").fit(x, labels)
    z = x.double() @ fit.weight.T + fit.bias
    wanted = torch.from_numpy(other.decision_function(x.double().numpy()))
    found = z[:, 1] - z[:, 0] if columns == 2 else centred(z)
    torch.testing.assert_close(found, wanted if columns == 2 else centred(wanted), atol=1e-3, rtol=0)


def test_a_sigmoid_a_column_is_that_of_scikit_learn():
    x, labels = games()
    flags = nn.functional.one_hot(labels).double()
    flags[::7, 2] = 1
    fit = fit_exactly(x, flags, NOTHING, 3, [0.05])
    z = x.double() @ fit.weight.T + fit.bias
    for c in range(3):
        other = LogisticRegression(C=1 / (len(x) * 0.05), tol=1e-12, solver="newton-cholesky").fit(x, flags[:, c])
        wanted = torch.from_numpy(other.decision_function(x.double().numpy()))
        torch.testing.assert_close(z[:, c], wanted, atol=1e-3, rtol=0)


@pytest.mark.parametrize("width", [3, 300])
def test_the_gradient_is_zero_where_the_fit_ends(width):
    x, labels = games(width=width, columns=4)
    fit = fit_exactly(x, labels, NOTHING, 4, [10.0])
    p = (x.double() @ fit.weight.T + fit.bias).softmax(1)
    off = (p - nn.functional.one_hot(labels)) / len(x)
    assert off.sum(0).abs().max() < 1e-6
    assert (off.T @ x.double() + 10.0 * fit.weight).abs().max() < 1e-4


@settings(deadline=None, max_examples=4)
@given(exponent=st.integers(-12, 12), shift=st.floats(-50, 50), columns=st.integers(2, 4))
def test_predictions_depend_neither_on_units_nor_on_the_origin(exponent, shift, columns):
    x, labels = games(rows=120, columns=columns, seed=5)
    held = torch.arange(len(x)) % 4 == 0
    x = x.double()
    moved = (x + shift) * 2.0**exponent
    one, other = (fit_exactly(features, labels, held, columns) for features in (x, moved))
    assert other.penalty == pytest.approx(one.penalty * 4.0**exponent)
    z, w = x @ one.weight.T + one.bias, moved @ other.weight.T + other.bias
    torch.testing.assert_close(z, w, atol=1e-3, rtol=1e-3)


def test_the_penalty_is_the_best_of_those_tried_on_the_rows_held_out(monkeypatch):
    monkeypatch.setattr(minibatches, "_LEAST_STEPS", 500)
    x, labels = games(rows=120, width=30, noise=2.0)
    held = torch.arange(120) % 3 == 0
    tried = [10.0, 1.0, 0.1, 0.01, 0.001]

    def missed(penalty):
        fit = fit_exactly(x, labels, held, 3, [penalty])
        z = x[held].double() @ fit.weight.T + fit.bias
        return -float(z.log_softmax(1)[torch.arange(40), labels[held]].mean())

    losses = [missed(penalty) for penalty in tried]
    best = tried[losses.index(min(losses))]
    assert best not in (tried[0], tried[-1])  # else the test would show nothing
    assert fit_exactly(x, labels, held, 3, tried[::-1]).penalty == best
    assert fit_in_minibatches(x, labels, held, 3, tried).penalty == best


@pytest.mark.parametrize(("rows", "width"), [(120, 400), (400, 60)])
def test_weak_penalties_of_separable_classes_reach_the_optimum(rows, width):
    x, labels = games(rows=rows, width=width, columns=5)
    nothing = torch.zeros(rows, dtype=torch.bool)
    fit = fit_exactly(x, labels, nothing, 5, [1e-6])
    z = x.double() @ fit.weight.T + fit.bias
    assert (z.argmax(1) == labels).all()
    p = z.softmax(1)
    off = ((p - nn.functional.one_hot(labels)).T @ x.double()) / rows + 1e-6 * fit.weight
    # A bound of the distance: the sum is strongly convex in the weight, with the penalty as its constant.
    assert off.norm() * x.double().norm(dim=1).max() / 1e-6 < 1e-3


def test_weights_and_biases_of_a_softmax_sum_to_zero():
    x, labels = games(columns=4)
    fit = fit_exactly(x, labels, NOTHING, 4, [0.1])
    assert fit.weight.sum(0).abs().max() < 1e-12 < fit.weight.abs().max()
    assert abs(fit.bias.sum() + (fit.weight.sum(0) * x.double().mean(0)).sum()) < 1e-12


def test_features_that_do_not_vary_leave_the_shares_of_the_classes():
    labels = torch.tensor([0, 0, 0, 1])
    fit = fit_exactly(torch.ones(4, 3), labels, torch.zeros(4, dtype=torch.bool), 2, [0.1])
    assert fit.weight.abs().max() == 0
    assert float(fit.bias.diff()) == pytest.approx(math.log(1 / 3), abs=1e-6)


@pytest.mark.parametrize("fit", [fit_exactly, fit_in_minibatches], ids=["newton", "minibatches"])
@pytest.mark.parametrize("penalties", [None, [0.1]])
def test_the_shares_of_the_work_add_up(fit, penalties, monkeypatch):
    monkeypatch.setattr(minibatches, "_LEAST_STEPS", 100)
    x, labels = games()
    shares = []
    fit(x, labels, torch.arange(240) % 4 == 0, 3, penalties, advance=shares.append)
    assert sum(shares) == pytest.approx(1)
    assert min(shares) > 0
    assert len(shares) > 1


@pytest.mark.slow
@pytest.mark.parametrize("columns", [2, 3])
def test_minibatches_come_near_the_optimum(columns, monkeypatch):
    monkeypatch.setattr(minibatches, "_LEAST_STEPS", 1000)
    x, labels = games(rows=2000, columns=columns)
    held = torch.arange(2000) % 5 == 0
    exact, near = (fit(x, labels, held, columns, [0.5]) for fit in (fit_exactly, fit_in_minibatches))
    z, w = (centred(x.double() @ fit.weight.T + fit.bias) for fit in (exact, near))
    assert (z - w).abs().max() < 0.05 * z.abs().max()
    assert (z.argmax(1) == w.argmax(1)).float().mean() > 0.98


def test_a_fit_that_is_cut_short_says_so(monkeypatch):
    monkeypatch.setattr(newton, "_STEPS", 2)
    x, labels = games()
    with pytest.warns(UserWarning, match=r"after 2 steps at the penalty 0\.01: .*\. Give stronger penalties="):
        fit_exactly(x, labels, NOTHING, 3, [0.01])


@pytest.mark.slow
@settings(deadline=None)
@given(
    counts=st.lists(st.integers(1, 30), min_size=1, max_size=5), share=st.floats(0.01, 0.99), seed=st.integers(0, 999)
)
def test_each_class_of_two_rows_is_on_both_sides(counts, share, seed):
    labels = torch.cat([torch.full((count,), c) for c, count in enumerate(counts)])
    held = held_out_rows(labels, share, seed)
    for c, count in enumerate(counts):
        own = int(held[labels == c].sum())
        assert own == (0 if count == 1 else min(max(round(share * count), 1), count - 1))
    assert torch.equal(held, held_out_rows(labels, share, seed))


def test_rows_of_several_labels_go_by_the_rarest():
    flags = torch.zeros(44, 3, dtype=torch.float64)
    flags[:40, 0] = 1
    flags[36:42, 2] = 1  # of six rows, four also have label 0
    for seed in range(20):
        held = held_out_rows(flags, 0.5, seed)
        assert int(held[36:42].sum()) == 3
        assert int(held[:36].sum()) == 18


# ---------------------------------------------------------------- fitting to a model


def test_one_pass_serves_all_layers():
    x, labels = games()
    network = net()
    calls = record(network)
    probes = LinearProbes.fit(network, ["0", "1", network[3], Layer("2", input=True)], batches(x, labels))
    assert len(calls) == 5
    assert list(probes) == ["0", "1", "3", "2 (input)"]
    assert torch.equal(probes["1"].weight, probes["2 (input)"].weight)


def test_accuracies_by_hand():
    x, labels = games()
    network = net()
    probe = LinearProbes.fit(network, "1", batches(x, labels), held_out=0.25, seed=3)["1"]
    feature = network[:2](x).detach()
    held = held_out_rows(labels, 0.25, 3)
    right = (feature.double() @ probe.weight.T + probe.bias).argmax(1) == labels
    assert probe.accuracy == (right[~held].double().mean(), right[held].double().mean())
    assert 0.4 < probe.accuracy.held_out < 1
    assert torch.equal(probe.predict(feature) == labels, right)
    assert probe.kind == "softmax"
    assert probe.weight.dtype == torch.float64


def test_probes_of_a_model_are_those_of_its_features():
    x, labels = games()
    network = net()
    probe = LinearProbes.fit(network, "3", batches(x, labels), seed=7, penalties=[0.02])["3"]
    fitted = ~held_out_rows(labels, 0.2, 7)
    feature = network[:4](x).detach().double().numpy()
    other = LogisticRegression(C=1 / (int(fitted.sum()) * 0.02), tol=1e-12, solver="newton-cholesky")
    wanted = torch.from_numpy(other.fit(feature[fitted], labels[fitted]).decision_function(feature))
    torch.testing.assert_close(centred(probe(torch.from_numpy(feature))), centred(wanted), atol=1e-3, rtol=0)


def test_one_column_and_several_labels():
    x, labels = games()
    one = LinearProbes.fit(net(columns=1), "1", batches(x, (labels > 0).long()))["1"]
    assert (one.kind, one.weight.shape[0]) == ("sigmoid", 1)
    as_floats = LinearProbes.fit(net(columns=1), "1", batches(x, (labels > 0).float()))["1"]
    assert as_floats.kind == "sigmoid"
    flags = torch.stack([labels > 0, labels < 2], 1)
    network = net(columns=2)
    several = LinearProbes.fit(network, "1", batches(x, flags.float()))["1"]
    feature = network[:2](x).detach()
    assert several.predict(feature).shape == (240, 2)
    held = held_out_rows(flags.double(), 0.2, 0)
    right = (several.predict(feature) == flags).double()
    assert several.accuracy == (right[~held].mean(), right[held].mean())


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool])
def test_one_hot_integers_are_refused_and_floats_are_labels(dtype):
    x, labels = games()
    one_hot = nn.functional.one_hot(labels, 3)
    with pytest.raises(ValueError, match=r"integers \[B, 3\] with a single 1 in each row.*argmax\(1\).*\.float\(\)"):
        LinearProbes.fit(net(columns=3), "1", batches(x, one_hot.to(dtype)))
    assert LinearProbes.fit(net(columns=3), "1", batches(x, one_hot.float()), penalties=[1.0])["1"].kind == "sigmoid"
    one_hot[0, :2] = 1  # a row with two labels, though all other batches look like classes
    assert LinearProbes.fit(net(columns=3), "1", batches(x, one_hot.to(dtype)), penalties=[1.0])["1"].kind == "sigmoid"


@pytest.mark.slow
def test_features_beyond_the_limit_go_to_files_and_are_fitted_all_the_same():
    x, labels = games()
    network = net()
    sizes = 24 * 240 * 8  # what the largest layer takes while it is fitted
    in_memory = LinearProbes.fit(network, ["0", "3"], batches(x, labels))
    wide = [f"{i}" for i in (0, 1, 2, 3)]
    spilled = LinearProbes.fit(network, [*wide, Layer("0", input=True)], batches(x, labels), memory_limit=sizes)
    for label, probe in in_memory.items():
        assert torch.equal(probe.weight, spilled[label].weight)


@pytest.mark.slow
def test_features_that_do_not_fit_are_fitted_in_minibatches(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(minibatches, "_LEAST_STEPS", 1000)
    x, labels = games(rows=1000)
    network = net()
    exact = LinearProbes.fit(network, ["0", "3"], batches(x, labels), penalties=[0.1])
    seen = []
    network.register_forward_hook(lambda *_: seen.append(len(list(tmp_path.glob("*/*")))))
    near = LinearProbes.fit(network, ["0", "3"], batches(x, labels), penalties=[0.1], memory_limit=0)
    assert seen[0] == 0  # before the first batch
    assert seen[-1] == 2  # a file a layer
    assert not list(tmp_path.iterdir())
    assert not torch.equal(exact["0"].weight, near["0"].weight)
    for label in exact:
        feature = network[: int(label) + 1](x).detach()
        z, w = centred(exact[label](feature)), centred(near[label](feature))
        assert (z - w).abs().max() < 0.1 * z.abs().max()


def test_files_are_gone_after_an_exception(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    seen = []

    def stop(*_):
        seen.append(list(tmp_path.glob("*/*")))
        if len(seen) == 4:
            raise KeyboardInterrupt

    network = net()
    network.register_forward_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        LinearProbes.fit(network, "0", batches(*games()), memory_limit=0)
    assert seen[-1]
    assert not list(tmp_path.iterdir())


@settings(deadline=None, max_examples=20)
@given(rows=st.lists(st.integers(1, 4), min_size=1, max_size=5), limit=st.integers(0, 200))
def test_the_store_gives_back_what_it_got(rows, limit):
    parts = [[normal(count, width, seed=count) for width in (3, 1)] for count in rows]
    with FeatureStore(2, limit=limit) as store:
        for part in parts:
            store.append(part)
        for found, wanted in zip(store.tensors(), zip(*parts, strict=True), strict=True):
            assert torch.equal(found, torch.cat(wanted))


def test_the_same_call_gives_the_same_bits_and_another_seed_others():
    x, labels = games()
    network = net()
    fits = [LinearProbes.fit(network, "1", batches(x, labels), seed=seed)["1"].weight for seed in (0, 0, 1)]
    assert torch.equal(fits[0], fits[1])
    assert not torch.equal(fits[0], fits[2])


class Stopping(nn.Module):
    """Draws random numbers, and stops at the third forward if it is told to."""

    def __init__(self, error=None):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
        self.head = nn.Linear(4, 3)
        self.body[0].requires_grad_(False)
        self.error, self.calls = error, []

    def forward(self, x):
        torch.rand(3)
        self.calls.append(len(x))
        if self.error is not None and len(self.calls) == 3:
            raise self.error("stop")
        return self.head(self.body(x))


@pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt])
def test_the_model_and_the_random_state_are_left_as_found(error):
    x, labels = games()
    network = Stopping(error).train()
    before, random = state_of(network), torch.get_rng_state()
    loader = DataLoader(TensorDataset(x, labels), batch_size=60, shuffle=True)
    stopping = contextlib.nullcontext() if error is None else pytest.raises(error, match="stop")
    with pytest.warns(UserWarning, match="Stopping is in training mode"), stopping:
        LinearProbes.fit(network, ["body.0", "body"], loader)
    assert_unchanged(before, network)
    assert torch.equal(random, torch.get_rng_state())


@pytest.mark.parametrize("limit", [2**30, 0])
@pytest.mark.parametrize("default", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_the_default_dtype_does_not_matter(default, limit, monkeypatch):
    monkeypatch.setattr(minibatches, "_LEAST_STEPS", 200)
    x, labels = games()
    network = net()
    wanted = LinearProbes.fit(network, "0", batches(x, labels), memory_limit=limit, penalties=[0.01])["0"]
    before = torch.get_default_dtype()
    torch.set_default_dtype(default)
    try:
        found = LinearProbes.fit(network, "0", batches(x, labels), memory_limit=limit, penalties=[0.01])["0"]
    finally:
        torch.set_default_dtype(before)
    assert torch.equal(found.weight, wanted.weight)
    assert torch.equal(found.bias, wanted.bias)
    assert found.accuracy == wanted.accuracy


@pytest.mark.parametrize("limit", [2**30, 0])
def test_the_default_device_does_not_matter(limit, monkeypatch):
    monkeypatch.setattr(minibatches, "_LEAST_STEPS", 200)
    x, labels = games()
    network, options = net(), {"memory_limit": limit, "penalties": [0.01]}
    wanted = LinearProbes.fit(network, "0", batches(x, labels), **options)["0"]
    before = torch.get_default_device()
    torch.set_default_device("meta")  # as a GPU where everything that the user gives is on the CPU
    try:
        found = LinearProbes.fit(network, "0", batches(x, labels), **options)["0"]
    finally:
        torch.set_default_device(before)
    assert torch.equal(found.weight, wanted.weight)


@pytest.mark.parametrize("limit", [2**30, 0])
@pytest.mark.parametrize(
    "mode",
    [torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu", torch.bfloat16)],
    ids=["no_grad", "inference_mode", "autocast"],
)
def test_probes_are_ordinary_tensors_whatever_mode_they_are_fitted_in(mode, limit, monkeypatch):
    monkeypatch.setattr(minibatches, "_LEAST_STEPS", 200)
    x, labels = games()
    network = nn.Sequential(nn.Identity(), nn.Linear(6, 3)).eval()  # no product of matrices before the layer
    options = {"memory_limit": limit, "penalties": [0.01]}
    wanted = LinearProbes.fit(network, "0", batches(x, labels), **options)["0"]
    with mode():
        found = LinearProbes.fit(network, "0", batches(x.clone(), labels.clone()), **options)["0"]
    assert torch.equal(found.weight, wanted.weight)
    feature = x[:2].clone().requires_grad_()
    found(feature).sum().backward()
    torch.testing.assert_close(feature.grad[0].double(), found.weight.sum(0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"kind": "relu"}, ValueError, "kind must be one of softmax, sigmoid; got 'relu'"),
        ({"weight": torch.full((2, 3), math.nan)}, ValueError, "weight must be finite"),
        ({"bias": torch.tensor([0.0, math.inf])}, ValueError, "bias must be finite"),
        ({"weight": torch.full((2, 3), 1j)}, TypeError, "weight must be a floating tensor; got complex64"),
        ({"bias": [0.0, 0.0]}, TypeError, r"bias must be a tensor; got \[0.0, 0.0\]. Give torch.as_tensor"),
    ],
)
def test_probes_that_cannot_be_right_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        LinearProbe(**{"layer": Layer("0"), "weight": torch.ones(2, 3), "bias": torch.zeros(2), **arguments})


def test_prints_fit_eighty_columns():
    label = "a.very.long.name" * 10
    probe = LinearProbe(Layer(label), torch.ones(2, 123456), torch.zeros(2), penalty=1e-12)
    for printed in (repr(probe), repr(LinearProbes([probe]))):
        assert max(map(len, printed.splitlines())) <= 80


def test_progress(capsys):
    x, labels = games()
    LinearProbes.fit(net(), ["0", "1"], batches(x, labels), show_progress=True)
    shown = capsys.readouterr().err
    assert "Features of 2 layers: 100%" in shown
    assert "5/5" in shown
    assert "Probes: 100%" in shown
    assert "2.0/2 layers" in shown
    assert "Probes:  50%" in shown
    assert shown.count("Probes:") > 3  # also while one layer is fitted
    LinearProbes.fit(net(), ["0", "1"], batches(x, labels))
    assert not capsys.readouterr().err


# ---------------------------------------------------------------- the forms of data


class Words(nn.Module):
    """Takes token ids, a mask and a weight, in the ways that a model may get them."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(20, 6)
        self.head = nn.Linear(6, 2)

    def forward(self, input_ids, attention_mask, weight=None):
        own = torch.ones(len(input_ids)) if weight is None else weight
        hidden = self.embedding(input_ids) * attention_mask[..., None] * own[:, None, None]
        return self.head(hidden.mean(1))


def words(rows=60):
    ids = torch.randint(1, 20, (rows, 5), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    return ids, mask, (ids.sum(1) > 50).long()


def test_all_forms_of_batches_give_the_same_probe():
    ids, mask, labels = words()
    parts = [(ids[i : i + 20], mask[i : i + 20], labels[i : i + 20]) for i in (0, 20, 40)]
    forms = {
        "labels": [{"input_ids": i, "attention_mask": m, "labels": y} for i, m, y in parts],
        "label": [{"label": y, "input_ids": i, "attention_mask": m} for i, m, y in parts],
        "encoding": [BatchEncoding({"input_ids": i, "attention_mask": m, "labels": y}) for i, m, y in parts],
        "pair of a tuple": [((i, m), y) for i, m, y in parts],
        "pair of a list": [[[i, m], y] for i, m, y in parts],
        "pair of a mapping": [({"input_ids": i, "attention_mask": m}, y) for i, m, y in parts],
        "several": DataLoader(TensorDataset(ids, mask, labels), batch_size=20),
        "a constant": [{"input_ids": i, "attention_mask": m, "weight": None, "labels": y} for i, m, y in parts],
        "a generator": (part for part in [((i, m), y.tolist()) for i, m, y in parts]),
    }
    network = Words().eval()
    found = {name: LinearProbes.fit(network, "head", form)["head"].weight for name, form in forms.items()}
    for weight in found.values():
        assert torch.equal(weight, found["labels"])


def test_pairs_of_tensors():
    x, labels = games()
    one = LinearProbes.fit(net(), "0", [(x, labels)], penalties=[0.1])["0"]
    network = net()
    calls = record(network)
    LinearProbes.fit(network, "0", [(x, labels)])
    assert torch.equal(calls[0][0][0], x)
    assert one.weight.shape == (3, 8)


def bert(**changes):
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    config = BertConfig(vocab_size=40, max_position_embeddings=32, pad_token_id=3, **sizes, **changes)
    return BertForSequenceClassification(config).eval()


def tokenised(rows=40):
    """Sentences of different lengths, as a tokenised data set holds them."""
    draw = torch.Generator().manual_seed(1)
    examples = []
    for i in range(rows):
        length = 3 + int(torch.randint(0, 6, (1,), generator=draw))
        ids = torch.randint(4, 40, (length,), generator=draw).tolist()
        examples.append({"text": "said", "idx": i, "input_ids": ids, "special_tokens_mask": [0] * length})
        examples[-1] |= {"token_type_ids": [0] * length, "attention_mask": [1] * length, "label": int(ids[0] > 20)}
    return examples


@pytest.mark.parametrize("pool", ["cls", "mean", "last"])
def test_padding_never_counts(pool):
    examples, model = tokenised(), bert()
    layer = Layer("bert.encoder.layer.1", pool=pool)
    single = [{"input_ids": torch.tensor([e["input_ids"]]), "labels": torch.tensor([e["label"]])} for e in examples]
    alone = LinearProbes.fit(model, layer, single, penalties=[0.1])["bert.encoder.layer.1"]
    calls = record(model)
    padded = LinearProbes.fit(model, layer, examples, penalties=[0.1], batch_size=16)["bert.encoder.layer.1"]
    assert [len(kwargs["input_ids"]) for _, kwargs in calls] == [16, 16, 8]
    torch.testing.assert_close(alone.weight, padded.weight, atol=1e-4, rtol=1e-4)
    for _, kwargs in calls:
        assert set(kwargs) >= {"input_ids", "attention_mask", "token_type_ids"}
        assert not set(kwargs) & {"text", "idx", "special_tokens_mask", "label", "labels"}
        assert torch.equal(kwargs["input_ids"] == 3, kwargs["attention_mask"] == 0)
        assert bool((kwargs["attention_mask"] == 0).any())


def test_padding_without_a_mask_is_warned_of_where_it_counts(recwarn):
    ids, labels = torch.tensor([[7, 12, 30, 41], [9, 8, 0, 0]]).repeat(8, 1), torch.arange(16) % 2
    settings = {"vocab_size": 50, "num_labels": 2, "pad_token_id": 0, "hidden_size": 16, "num_hidden_layers": 2}
    settings |= {"num_attention_heads": 2, "intermediate_size": 16, "initializer_range": 0.5}
    decoder = made(LlamaForSequenceClassification, LlamaConfig, **settings)
    LinearProbes.fit(decoder, 0, [(ids, labels)], penalties=[0.1])  # words do not see what is behind them
    encoder = made(BertForSequenceClassification, BertConfig, **settings)
    LinearProbes.fit(encoder, 0, [({"input_ids": ids, "attention_mask": (ids != 0).long()}, labels)], penalties=[0.1])
    assert not recwarn.list
    message = r"got no attention_mask.*the features of layer 'bert.encoder.layer.0' depend on the longest text"
    with pytest.warns(UserWarning, match=message) as caught:
        LinearProbes.fit(encoder, 0, [(ids, labels), (ids, labels)], penalties=[0.1])
    assert len(caught) == 1


def test_a_data_set_of_hugging_face_and_examples_without_a_mask():
    datasets = pytest.importorskip("datasets", reason="datasets is not installed: pip install datasets")
    examples, model = tokenised(), bert()
    wanted = LinearProbes.fit(model, 0, examples, penalties=[0.1])
    short = [{k: v for k, v in e.items() if k != "attention_mask"} for e in examples]
    tensors = [{**e, "input_ids": torch.tensor(e["input_ids"])} for e in short]
    for form in (datasets.Dataset.from_list(examples), short, tensors):
        found = LinearProbes.fit(model, 0, form, penalties=[0.1])
        assert list(found) == ["bert.encoder.layer.0"]
        assert torch.equal(found["bert.encoder.layer.0"].weight, wanted["bert.encoder.layer.0"].weight)


def test_a_loader_is_gone_through_once():
    class Loader:
        passes = 0

        def __iter__(self):
            self.passes += 1
            return iter(batches(*games()))

    loader = Loader()
    LinearProbes.fit(net(), ["0", "1"], loader)
    assert loader.passes == 1


# ---------------------------------------------------------------- what does not go


def fit(data, network=None, layers="0", **options):
    return LinearProbes.fit(network or net(), layers, data, **options)


X, Y = games()


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ([], ValueError, r"dataloader has no batch.*a generator is empty after its first use"),
        (5, TypeError, r"dataloader must be batches, such as a DataLoader; got a int"),
        ({"input_ids": X, "labels": Y}, TypeError, r"dataloader must be batches, .* got a dict"),
        (X, TypeError, r"dataloader must be batches, .* got float32 \[240, 6\]"),
        ([X], TypeError, r"a batch must be .*; got float32 \[240, 6\]\. Give a mapping with labels"),
        ([(X,)], TypeError, r"a batch must be .*; got a tuple\. Give"),
        ([{"x": X}], ValueError, r"a batch must have its labels as labels or label; it has only x"),
        (
            [{"x": X, "label": Y, "labels": Y}],
            ValueError,
            r"its labels as labels or label; it has labels and label",
        ),
        ([{"x": X, "text": ["a"], "label": Y}], TypeError, r"entry 'text' of a batch must be a tensor; got a list"),
        ([{"n": 3, "label": Y}], TypeError, r"the inputs of a batch must be tensors; got a int\. Give"),
        ([((X, None), Y)], TypeError, r"the inputs of a batch must be tensors; got float32 \[240, 6\], a NoneType"),
        (
            TensorDataset(X, Y),
            TypeError,
            r"must be batches, .*; got a TensorDataset\. .*DataLoader\(dataset",
        ),
        (list(zip(X, Y, strict=True)), TypeError, r"got the single label \d\. .*DataLoader"),
        ([(X, ["good", "bad"])], TypeError, r"labels must be a tensor; got a list \("),
        (
            [(X, Y[:7])],
            ValueError,
            r"labels must be one for each row of .*is \[240, 3\]; got int64 \[7\]",
        ),
        ([(X, Y + 1)], ValueError, r"labels must be classes from 0 to 2, .*; got 3"),
        ([(X, Y.where(Y > 0, -100))], ValueError, r"got -100, which marks a missing label\. Leave"),
        ([(X, Y.where(Y != 1, 2))], ValueError, r"there is no row of class 1, of the 3 that .* has, in the data"),
        ([(X, Y.float())], ValueError, r"labels must be classes, .*\[B, 3\]; got float32 \[240\]"),
        (
            [(X, X[:, :3])],
            ValueError,
            r"got [-\d.]+\. For a regression, .*readout",
        ),
        ([(X, torch.ones(240, 3))], ValueError, r"there is only one value in column 0, 1, 2, of 0 and 1, in the data"),
        (
            [(X[:120], Y[:120]), (X[120:], nn.functional.one_hot(Y[120:]))],
            ValueError,
            r"labels must be of one kind.* after int64 \[",
        ),
        (
            [(X[[0, 1, 2]], torch.arange(3))],
            ValueError,
            r"no row can be held out of 3 rows\. Give several rows of a class",
        ),
    ],
)
def test_data_that_do_not_fit(data, error, message):
    with pytest.raises(error, match=message):
        fit(data)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"held_out": 0}, ValueError, r"held_out must be a share between 0 and 1, .* got 0"),
        ({"held_out": 1.0}, ValueError, r"held_out must be a share between 0 and 1, .* got 1\.0"),
        ({"penalties": 0.1}, TypeError, r"penalties must be a list of numbers, such as \[0\.01\]; got 0\.1"),
        ({"penalties": []}, TypeError, r"penalties must be a list of numbers, .*; got \[\]"),
        ({"penalties": [1, 0.0]}, ValueError, r"penalties must be numbers above 0, .*; got 0\.0"),
        ({"penalties": [math.nan]}, ValueError, r"penalties must be numbers above 0, .*; got nan"),
        ({"seed": -1}, ValueError, r"seed must be a whole number from 0; got -1"),
        ({"batch_size": 0}, ValueError, r"batch_size must be a whole number from 1; got 0"),
        ({"memory_limit": 1e9}, ValueError, r"memory_limit must be a whole number from 0; got 1000000000\.0"),
        ({"layers": "9"}, ValueError, r"Sequential has no layer '9'"),
        ({"layers": []}, ValueError, r"layers is empty"),
    ],
)
def test_options_that_do_not_fit(options, error, message):
    network = net()
    calls = record(network)
    with pytest.raises(error, match=message):
        fit([(X, Y)], network, **options)
    assert not calls


def test_a_regression_head_is_refused_with_the_way_out():
    with pytest.raises(ValueError, match=r"divide its values into classes, or read layers"):
        fit([(X, X[:, 0])], net(columns=1))


def test_an_output_of_tokens_is_refused():
    with pytest.raises(ValueError, match=r"the model's output must be one row for .*; got float32 \[4, 60, 3\]"):
        fit([(X.reshape(4, 60, 6), torch.arange(4))], layers=Layer("0", pool="mean"))


def test_features_that_are_not_finite_name_the_layer_and_the_row():
    x = X.clone()
    x[130, 2] = torch.inf
    with pytest.raises(ValueError, match=r"layer '0' has features that are not finite .*, in row 130 of the data"):
        fit(batches(x, Y), layers=["0", "2"])


def test_a_column_that_only_rows_held_out_have_is_refused():
    flags = torch.zeros(40, 3)
    flags[:20, 0] = flags[20:, 2] = 1
    flags[1:, 1] = 1  # of which the one row without it may be held out
    seed = next(seed for seed in range(99) if held_out_rows(flags.double(), 0.2, seed)[0])
    with pytest.raises(ValueError, match=rf"only one value in column 1, .* in the rows that are .*seed={seed}\)"):
        fit([(X[:40], flags)], seed=seed)


def test_a_list_of_examples_needs_labels():
    examples = [{k: v for k, v in e.items() if k != "label"} for e in tokenised(4)]
    with pytest.raises(ValueError, match=r"an example must have its label .*; it has text, idx, input_ids"):
        LinearProbes.fit(bert(), 0, examples)


def test_arguments_of_a_function_without_a_module():
    network = net()
    probes = LinearProbes.fit(lambda x: network(x), network[1], [(X, Y)])
    (probe,) = probes.values()
    assert probe.fingerprint == ""
    assert torch.equal(probe.weight, LinearProbes.fit(network, "1", [(X, Y)])["1"].weight)


# ---------------------------------------------------------------- the probe


def hand_made(**changes):
    parts = {"layer": Layer("0"), "weight": normal(2, 3), "bias": normal(2, seed=1)}
    return LinearProbe(**{**parts, **changes})


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_probe_computes_in_float64_whatever_it_gets(dtype):
    probe, feature = hand_made(), normal(4, 3).to(dtype)
    wanted = feature.double() @ probe.weight.T + probe.bias
    assert probe(feature).dtype == torch.float64
    torch.testing.assert_close(probe(feature), wanted)


def test_a_row_does_not_depend_on_its_batch():
    probe = hand_made(weight=normal(2, 300), bias=normal(2))
    feature = normal(64, 300)
    alone = torch.cat([probe(row[None]) for row in feature])
    torch.testing.assert_close(alone, probe(feature), atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("feature", "error", "message"),
    [
        (
            normal(4, 2),
            ValueError,
            r"probe of layer '0' takes features \[R, 3\]; got float32 \[4, 2\]\. It was fitted to another",
        ),
        (normal(3), ValueError, r"probe of layer '0' takes features \[R, 3\]; got float32 \[3\]"),
        (torch.ones(4, 3, dtype=torch.int64), TypeError, r"takes floating features; got int64 \[4, 3\]"),
        ([1.0], TypeError, r"takes floating features; got a list"),
    ],
)
def test_a_feature_that_does_not_fit(feature, error, message):
    with pytest.raises(error, match=message):
        hand_made()(feature)


def test_weight_and_bias_must_fit():
    with pytest.raises(ValueError, match=r"weight must be \[C, D\] and bias \[C\]; got \[2, 3\] and \[3\]"):
        hand_made(bias=normal(3))


def test_a_mapping_of_probes():
    probes = LinearProbes([hand_made(), hand_made(layer=Layer("1", call_index=2))])
    assert dict(probes) == {"0": probes["0"], "1[2]": probes["1[2]"]}
    assert probes.get("7") is None
    assert "0" in probes
    with pytest.raises(KeyError, match=r"no probe of a layer '1\[0\]': did you mean '1\[2\]'\?"):
        probes["1[0]"]
    for wrong in ([], [hand_made(), hand_made()]):
        with pytest.raises(
            ValueError, match=r"probes must be one for each layer; got probes of the layers (none|0, 0)"
        ):
            LinearProbes(wrong)
    with pytest.raises(TypeError, match=r"probes must be LinearProbe objects, such as probes\.values\(\); got a str"):
        LinearProbes(probes)


def test_what_a_person_reads():
    probe = hand_made(accuracy=Accuracy(0.9, 0.85), penalty=0.0123)
    assert repr(probe) == (
        "LinearProbe of layer '0'\n  3 features -> 2 columns, softmax, penalty 0.0123\n"
        "  accuracy 0.900 train, 0.850 held out"
    )
    assert repr(LinearProbes([probe, hand_made(layer=Layer("body.1"))])).split("\n") == [
        "LinearProbes of 2 layers, 2 columns (softmax); accuracy:",
        "  layer   features  penalty  train  held out",
        "  0              3    0.012  0.900     0.850",
        "  body.1         3      nan    nan       nan",
    ]


# ---------------------------------------------------------------- files, and where a probe may be used


def my_pool(output):
    return output.flatten(1)


def my_select(output):
    return output


def test_a_file_gives_back_every_bit(tmp_path):
    network = net()
    layers = ["0", Layer("1", pool="flatten", call_index=0), Layer("2", pool=my_pool, input=True, select=my_select)]
    layers[2] = Layer("3", pool=my_pool, select=my_select)
    probes = LinearProbes.fit(network, layers, [(X, Y)])
    probes.save(tmp_path / "probes.safetensors")
    found = LinearProbes.load(tmp_path / "probes.safetensors")
    assert list(found) == list(probes)
    for label, probe in probes.items():
        other = found[label]
        assert torch.equal(probe.weight, other.weight)
        assert torch.equal(probe.bias, other.bias)
        assert other.layer.describe() == probe.layer.describe()
        for name in ("kind", "penalty", "accuracy", "fingerprint", "model", "classes"):
            assert getattr(probe, name) == getattr(other, name)
        other.check(probe.layer, network)
    assert found["0"].layer == Layer("0")
    with pytest.raises(ValueError, match=r"read by the function 'my_pool', and the file holds its name only"):
        found["3"].layer.pool(X)
    found.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "probes.safetensors").read_bytes()


def test_a_file_knows_the_names_of_the_classes(tmp_path):
    model = bert(id2label={0: "bad", 1: "good"})
    LinearProbes.fit(model, 0, tokenised(), penalties=[0.1]).save(tmp_path / "probes.safetensors")
    (probe,) = LinearProbes.load(tmp_path / "probes.safetensors").values()
    assert probe.classes == ("bad", "good")
    assert probe.model == "BertForSequenceClassification"


def test_probes_made_by_hand_go_into_a_file(tmp_path):
    LinearProbes([hand_made()]).save(tmp_path / "probes.safetensors")
    found = LinearProbes.load(tmp_path / "probes.safetensors")["0"]
    assert math.isnan(found.penalty)
    assert all(map(math.isnan, found.accuracy))
    assert torch.equal(found.weight, hand_made().weight)


def test_another_checkpoint_is_refused_unless_told(tmp_path):
    network = net()
    probes = LinearProbes.fit(network, ["0", "1"], [(X, Y)])
    probes.save(tmp_path / "probes.safetensors")
    loaded = LinearProbes.load(tmp_path / "probes.safetensors")
    loaded.check(network)
    with torch.no_grad():
        network[4].bias[0] += 1e-3
    message = r"the probe of layer '0' was fitted to a Sequential with weights of SHA-256 .*, and this Sequential has"
    for check in (loaded.check, probes.check, lambda module: loaded["0"].check(Layer("0"), module)):
        with pytest.raises(ValueError, match=message):
            check(network)
    loaded["0"].check(Layer("0"))
    relaxed = LinearProbes.load(tmp_path / "probes.safetensors", strict=False)
    relaxed.check(network)
    relaxed["0"].check(Layer("0"), network)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (Layer("1"), r"name '0', not '1'"),
        (Layer("0", pool="mean"), r"pool 'auto', not 'mean'"),
        (Layer("0", pool=my_pool), r"pool 'auto', not 'my_pool\(\)'"),
        (Layer("0", input=True), r"input False, not True"),
        (Layer("0", call_index=1, select=my_select), r"call_index None, not 1, select None, not 'my_select\(\)'"),
    ],
)
def test_another_layer_is_refused(layer, message):
    with pytest.raises(ValueError, match=rf"the probe of layer '0' was fitted to a layer with {message}\. Read the"):
        hand_made().check(layer)


class Reader:
    """Its bound method is another object at each use."""

    def places(self, output):
        return output


def test_a_function_is_compared_as_an_object_and_by_name_out_of_a_file(tmp_path):
    def pool(output):
        return output

    def another():
        def pool(output):
            return -output

        return pool

    reader = Reader()
    hand_made(layer=Layer("0", pool=pool)).check(Layer("0", pool=pool))
    hand_made(layer=Layer("0", pool=reader.places)).check(Layer("0", pool=reader.places))
    for fitted, read in ((pool, another()), (lambda h: h, lambda h: -h), (reader.places, Reader().places)):
        for key in ("pool", "select"):
            with pytest.raises(ValueError, match=f"fitted to a layer with another function for its {key}, also called"):
                hand_made(layer=Layer("0", **{key: fitted})).check(Layer("0", **{key: read}))
    one = nn.Linear(2, 3)
    hand_made(layer=Layer(one)).check(Layer(one))
    with pytest.raises(ValueError, match="fitted to a layer with another module, also called 'Linear'"):
        hand_made(layer=Layer(one)).check(Layer(nn.Linear(2, 3)))

    LinearProbes([hand_made(layer=Layer("0", pool=pool))]).save(tmp_path / "named.safetensors")
    loaded = LinearProbes.load(tmp_path / "named.safetensors")["0"]
    loaded.check(Layer("0", pool=another()))  # of the function there is only its name
    unnamed = Layer("0", pool=lambda h: h)
    with pytest.warns(UserWarning, match=r"layer '0' is read by a lambda, which has no name.*made by def"):
        LinearProbes([hand_made(layer=unnamed)]).save(tmp_path / "unnamed.safetensors")
    loaded = LinearProbes.load(tmp_path / "unnamed.safetensors")["0"]
    loaded.check(loaded.layer)
    with pytest.raises(ValueError, match="another function for its pool"):
        loaded.check(unnamed)


def test_no_warning_comes_with_a_fit():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LinearProbes.fit(net(), ["0", "3"], [(X, Y)])


def test_labels_may_be_numpy_and_batches_know_their_number():
    wrapped = Model(net())
    ((arguments, labels),) = labelled_batches(wrapped, [(X, Y.numpy())], 32)
    assert torch.equal(labels, Y)
    assert arguments.names is None
