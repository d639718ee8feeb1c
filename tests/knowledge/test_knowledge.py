import copy
import math

import numpy as np
import pytest
import torch
from forwards import normal
from torch import nn

from captum_lkn import AndOrInteraction, Interactions, InteractionsBatch, Layer, players_from_mask
from captum_lkn.decomposition import Effects, lattice
from captum_lkn.knowledge import KnowledgeChange, LayerwiseKnowledge, compare
from captum_lkn.models.fingerprint import fingerprint
from captum_lkn.probes import LinearProbe, LinearProbes

# ---------------------------------------------------------------- made by hand


def sample(ands, ors=None, players=("not", "good"), **further):
    both = torch.tensor([ands, ors or [0.0] * len(ands)], dtype=torch.float64)
    values = lattice.and_inverse(both[0]) + lattice.or_inverse(both[1])
    return Interactions(players, Effects.from_tables(*both), values, **{"kappa": 0.05, "gap": 0.0} | further)


def random_sample(n, seed, scale=1.0, **further):
    both = scale * normal(2, 2**n, seed=seed).double()
    both[1, 0] = 0.0
    ands, ors = lattice.merge_first_order(*both)
    return sample(ands.tolist(), ors.tolist(), tuple(f"p{i}" for i in range(n)), **further)


def random_batch(seed, scale=1.0, sizes=(3, 2)):
    about = {"target": 1, "explained": "positive (1)", "predicted": True}
    return InteractionsBatch(random_sample(n, seed + i, scale, provenance=about) for i, n in enumerate(sizes))


def random_change(**options):
    return KnowledgeChange(
        {"first": random_batch(0), "second": random_batch(10, 3.0), "output": random_batch(20)}, **options
    )


def two_layers(**options):
    """The early layer has the word ``good`` three times as strong, and lacks ``not & good``."""
    early, output = sample([0.0, 1.0, 3.0, 0.0]), sample([0.0, 1.0, 1.0, -3.0])
    return KnowledgeChange({"early": InteractionsBatch([early]), "output": InteractionsBatch([output])}, **options)


def same_numbers(a, b):
    for one, other in zip(a.rows(), b.rows(), strict=True):
        assert one[:3] == other[:3]
        assert one[3:10] == pytest.approx(other[3:10], nan_ok=True, rel=1e-12)
    return True


def test_a_layer_is_compared_in_units_of_its_own_change():
    found = two_layers()["early"]  # v(N) - v(empty) is 4 early and -1 at the output
    assert found.all[0].tolist() == [1.0, 0.0]
    assert found.reference_all[0].tolist() == [2.0, 3.0]
    assert found.overlap[0].tolist() == [0.25 + 0.75, 0.0]
    assert found.completeness[0].tolist() == [0.5, 0.0]
    assert found.redundancy[0, 0] == 0


def test_the_normaliser_is_that_of_all_samples():
    change = random_change()
    for label, batch in change.interactions.items():
        assert change.normalisers[label] == pytest.approx(sum(abs(x.v_full - x.v_empty) for x in batch) / 2)


def test_it_is_a_mapping_of_the_layers_that_are_compared():
    change = random_change()
    assert list(change) == ["first", "second"]
    assert len(change) == 2
    assert "output" not in change
    assert list(change.interactions) == ["first", "second", "output"]


def test_the_scale_of_a_layer_does_not_matter():
    batches = {"a": random_batch(0), "output": random_batch(20)}
    scaled = InteractionsBatch(
        Interactions(
            x.players, Effects.from_tables(7 * x.and_effects, 7 * x.or_effects), 7 * x.values, kappa=x.kappa, gap=x.gap
        )
        for x in batches["a"]
    )
    assert same_numbers(KnowledgeChange(batches), KnowledgeChange(batches | {"a": scaled}))


def test_every_pair_of_layers_can_be_compared():
    change = random_change()
    pair = change.between("first", "second")
    assert list(pair) == ["first"]
    assert pair.reference == "second"
    effects = {label: [x.effects for x in batch] for label, batch in change.interactions.items()}
    units = change.normalisers["first"], change.normalisers["second"]
    expected = compare(effects["first"], effects["second"], units=units)
    assert torch.equal(pair["first"].overlap, expected.overlap)
    back = change.between("second", "first")["second"]
    torch.testing.assert_close(back.new, expected.forgotten)
    assert same_numbers(change.between("first", "output"), KnowledgeChange(change.interactions, states=("first",)))


@pytest.mark.parametrize("label", ["first", "output"])
def test_a_layer_against_itself_is_complete_and_not_redundant(label):
    found = random_change().between(label, label)[label]
    for share, expected in ((found.completeness, 1.0), (found.redundancy, 0.0)):
        assert (share[~share.isnan()] == expected).all()
        assert not share[0].isnan().any()


def test_options_change_the_comparison_and_not_the_interactions():
    change = random_change()
    options = {"tau": 0.4, "scope": "sample", "literal_eq6": True, "ratio": "mean"}
    other = change.compare(**options)
    assert all(other.interactions[label] is batch for label, batch in change.interactions.items())
    assert same_numbers(other, random_change(**options))
    for name in options:
        assert getattr(change, name) != getattr(other, name)
        one_changed = change.compare(**{name: options[name]})
        numbers = [
            torch.cat([getattr(c["first"], q) for q in ("all", "forgotten", "completeness")])
            for c in (change, one_changed)
        ]
        assert not torch.equal(*(x.nan_to_num(-1) for x in numbers))
    assert same_numbers(other.compare(tau=0.05, scope="dataset", literal_eq6=False, ratio="sum"), change)


def test_rows_and_frame_hold_the_same():
    pytest.importorskip("pandas", reason="pandas is an extra")
    change = random_change()
    frame = change.to_frame()
    assert list(frame.columns) == [
        "layer", "kind", "order", "all", "overlap", "forgotten", "new", "completeness", "redundancy", "salient",
        "salient_mean", "reference_salient_mean",
        "completeness_all_orders", "redundancy_all_orders", "salient_mean_all_orders",
        "reference_salient_mean_all_orders",
    ]  # fmt: skip
    assert len(frame) == 2 * 2 * 3
    assert frame.salient.dtype == "int64"
    row = frame[(frame.layer == "second") & (frame.kind == "or") & (frame.order == 3)].iloc[0]
    assert row.overlap == float(change["second"].overlap[1, 2])
    assert row.salient == int(change["second"].salient[1, 2])
    noisy = change.with_noise_ceiling(draws=1).to_frame()
    assert list(noisy.columns) == [
        *frame.columns,
        "completeness_ceiling", "redundancy_floor",
        "completeness_ceiling_all_orders", "redundancy_floor_all_orders",
    ]  # fmt: skip


def test_the_frame_has_what_is_printed():
    pytest.importorskip("pandas", reason="pandas is an extra")
    change = random_change(accuracies={"first": (0.9, 0.75)}).with_noise_ceiling(draws=2)
    frame = change.to_frame()
    for layer, found in change.items():
        for k, kind in enumerate(("and", "or")):
            rows = frame[(frame.layer == layer) & (frame.kind == kind)]
            together = found.over_orders()
            own, ceiling = change.own[layer].over_orders(), change.own["output"].over_orders()
            for name, expected in (
                ("completeness_all_orders", together.completeness[k, 0]),
                ("redundancy_all_orders", together.redundancy[k, 0]),
                ("salient_mean_all_orders", together.salient[k, 0] / 2),
                ("completeness_ceiling_all_orders", ceiling.completeness[k, 0]),
                ("redundancy_floor_all_orders", 1 - own.completeness[k, 0]),
            ):
                assert rows[name].tolist() == pytest.approx([float(expected)] * 3)
            assert rows.salient_mean.tolist() == pytest.approx((found.salient[k] / 2).tolist())
            assert rows.reference_salient_mean.tolist() == pytest.approx((found.reference_salient[k] / 2).tolist())
    first = frame[frame.layer == "first"]
    assert set(first.probe_train_accuracy) == {0.9}
    assert set(first.probe_held_out_accuracy) == {0.75}
    assert frame[frame.layer == "second"].probe_held_out_accuracy.isna().all()


def test_layers_keep_their_order_in_a_frame():
    pytest.importorskip("pandas", reason="pandas is an extra")
    one = InteractionsBatch([random_sample(2, 0)])
    layers = [f"layer.{i}" for i in range(12)]
    frame = KnowledgeChange({**dict.fromkeys(layers, one), "output": one}).to_frame()
    assert list(frame.layer.cat.categories) == layers
    assert frame.layer.cat.ordered
    pivot = frame.pivot_table(index="layer", columns="order", values="completeness", observed=True)
    assert list(pivot.index) == layers


def test_salient_interactions_are_those_that_were_counted():
    change = random_change(tau=0.3)
    for label in ("second", "output"):
        found = change.salient(label)
        largest = max(abs(one.top(1)[0].effect) for one in change.interactions[label])
        for sample_found, one in zip(found, change.interactions[label], strict=True):
            assert sample_found == [x for x in one.top(None) if abs(x.effect) > 0.3 * largest]
    assert sum(map(len, change.salient("second"))) == int(change["second"].salient.sum())
    assert sum(map(len, change.salient("output"))) == int(change["second"].reference_salient.sum())
    assert change.salient("output")[0][0].selection_frequency is None


def cancelling(times):
    """A sample whose effects add up to `times` times |v(N) - v(empty)|, which is 1."""
    return InteractionsBatch([sample([0.0, (times + 1) / 2, (1 - times) / 2, 0.0])])


def test_a_layer_that_changes_little_as_a_whole_is_warned_of():
    others = {"before": cancelling(2.0), "after": cancelling(4.0), "output": cancelling(3.0)}
    says = r"'between' add up to 12\.0 times .* other layers to 3\.0 times .* redundancy of AND effects is at least 75%"
    with pytest.warns(UserWarning, match=says):
        change = KnowledgeChange({"between": cancelling(12.0), **others})
    assert float(change["between"].over_orders().redundancy[0, 0]) >= 0.75
    change.compare(tau=0.2).with_noise_ceiling(draws=1)  # warnings are errors here: it was said
    KnowledgeChange({"between": cancelling(8.0), **others})
    with pytest.warns(UserWarning, match=r"effects of 'output' .* completeness seems low"):
        KnowledgeChange({"before": cancelling(2.0), "output": cancelling(12.0)})


def test_the_bound_that_is_warned_of_holds_for_the_kind_it_names():
    """OR effects that cancel say nothing of the AND effects, nor of the mean of the samples' ratios."""
    layer = InteractionsBatch([sample([0.0, 1, 0, 0, 0, 0, 0, 0], [0.0, 0, 0, 10, 0, 0, -10, 0], tuple("abc"))])
    output = InteractionsBatch([sample([0.0, 1, 0, 0, 0, 0, 0, 0], players=tuple("abc"))])
    with pytest.warns(UserWarning, match="this division alone the redundancy of OR effects is at least 100%") as seen:
        change = KnowledgeChange({"layer": layer, "output": output})
    assert change["layer"].over_orders().redundancy[:, 0].tolist() == [0.0, 1.0]
    assert "AND" not in str(seen[0].message)
    with pytest.warns(UserWarning, match="by this division alone redundancy seems high"):
        KnowledgeChange({"layer": layer, "output": output}, ratio="mean")


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        ({"target": 0}, {"target": 1}, "sample 0 has the target 0 at 'a' and 1 at 'b'"),
        ({"score": "prob"}, {"score": "log_odds"}, "the score prob at 'a' and log_odds at 'b'"),
        ({"text": "good"}, {"text": "bad"}, "the text good at 'a' and bad at 'b'"),
        ({"decomposition": {"kind": "and"}}, {"decomposition": {"kind": "and-or"}}, "the kind and at 'a' and and-or"),
    ],
)
def test_answers_to_different_questions_are_not_compared(one, other, said):
    a, b = (InteractionsBatch([sample([0.0, 1, 2, 3], provenance=about)]) for about in (one, other))
    with pytest.raises(ValueError, match=said):
        KnowledgeChange({"a": a, "b": b}, reference="b")
    KnowledgeChange({"a": a, "b": InteractionsBatch([sample([0.0, 1, 2, 3])])}, reference="b")  # it is not recorded


@pytest.mark.filterwarnings("ignore:the salient effects")
def test_weights_that_changed_after_the_first_analysis_are_noticed():
    net = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)).eval()
    probe = {"0": LinearProbe(Layer("0"), torch.eye(2, 3), torch.zeros(2), fingerprint=fingerprint(net))}
    study = LayerwiseKnowledge(net, ["0"], probes=probe, score="logit", noise=0)
    study.analyze(torch.ones(1, 4), target=0)
    with torch.no_grad():
        net[0].weight.add_(1.0)
    with pytest.raises(ValueError, match=r"was fitted to .* with weights of SHA-256"):
        study.analyze(torch.ones(1, 4), target=0)


def test_a_sample_whose_ends_are_equal_gets_noise_as_well():
    """A share of |v(N) - v(empty)| = 0 would be no noise, and a ceiling of 1."""
    still = InteractionsBatch([sample([0.0, 4.0, 0.0, -4.0]), sample([0.0, 4.0, 0.0, 0.0])])
    change = KnowledgeChange({"a": still, "b": still}, reference="b").with_noise_ceiling(draws=3)
    for draws in change.noise_ceiling.effects["a"]:
        assert len({tuple(draw.at(draws[0]).tolist()) for draw in draws}) == 3


def test_ceilings_are_measured_for_what_is_compared():
    change = random_change().between("first", "second").with_noise_ceiling(draws=1)
    assert set(change.noise_ceiling.effects) == {"first", "second"}
    assert change.between("first", "output").noise_ceiling is None
    assert change.between("second", "first").noise_ceiling is change.noise_ceiling
    assert change.salient("output")[0][0].selection_frequency is None


def test_a_ceiling_of_some_layers_comes_back(tmp_path):
    change = random_change().between("second", "first").with_noise_ceiling(draws=2)
    change.save(tmp_path / "change.safetensors")
    back = KnowledgeChange.load(tmp_path / "change.safetensors")
    assert set(back.interactions) == {"first", "second", "output"}
    for label, samples in change.noise_ceiling.effects.items():
        for draws, again in zip(samples, back.noise_ceiling.effects[label], strict=True):
            assert all(a.values.equal(b.values) for a, b in zip(draws, again, strict=True))
    assert back.rows() == change.rows() or same_numbers(back, change)


def test_numbers_of_numpy_are_numbers_and_texts_are_not(tmp_path):
    change = two_layers().compare(tau=np.float32(0.1)).with_noise_ceiling(draws=np.int64(1), jitter=np.float32(0))
    change.save(tmp_path / "change.safetensors")
    for wrong in ("0.1", True, None):
        with pytest.raises(TypeError, match="tau must be a number"):
            two_layers(tau=wrong)


def test_a_layer_that_does_not_change_is_nan_and_said_so():
    constant = InteractionsBatch([sample([2.0, 0.0, 0.0, 0.0])])
    moving = InteractionsBatch([sample([0.0, 1.0, 0.0, 1.0])])
    with pytest.warns(UserWarning, match=r"\|v\(N\) - v\(empty\)\| of 'still' is 0 in all samples"):
        change = KnowledgeChange({"still": constant, "moving": moving, "output": moving})
    assert change["still"].completeness.isnan().all()
    assert change["moving"].completeness[0].tolist() == [1.0, 1.0]
    assert "-" in str(change)


# ---------------------------------------------------------------- noise ceiling


def test_the_ceiling_and_the_floor_are_those_of_the_own_comparisons():
    change = random_change().with_noise_ceiling(draws=3, seed=1)
    ceiling = change.own["output"].completeness
    for row in change.rows():
        k, place = ("and", "or").index(row.kind), row.order - 1
        assert row.completeness_ceiling == pytest.approx(float(ceiling[k, place]), nan_ok=True)
        own = float(change.own[row.state].completeness[k, place])
        assert row.redundancy_floor == pytest.approx(1 - own, nan_ok=True)
        assert math.isnan(own) or 0 <= own <= 1


def test_without_noise_the_ceiling_is_one_and_the_floor_zero():
    # Effects that are the extraction of their own tables, so that the draws find them again.
    found = AndOrInteraction(curved, score="logit").attribute(normal(2, 3, seed=3))
    change = KnowledgeChange({"same": found, "output": found}).with_noise_ceiling(draws=2, value_noise=0.0, jitter=0.0)
    for row in change.rows():
        assert math.isnan(row.completeness_ceiling) or row.completeness_ceiling == pytest.approx(1)
        assert math.isnan(row.redundancy_floor) or row.redundancy_floor == pytest.approx(0, abs=1e-9)
    found = [one for sample_found in change.salient("same") for one in sample_found]
    assert found
    assert {one.selection_frequency for one in found} == {1.0}


def test_the_selection_frequency_is_the_share_of_draws_and_is_printed():
    change = random_change().with_noise_ceiling(draws=4, value_noise=0.2)
    shares = {
        one.selection_frequency for label in change.interactions for found in change.salient(label) for one in found
    }
    assert shares <= {0.0, 0.25, 0.5, 0.75, 1.0}
    assert len(shares) > 2
    first = change.salient("output")[0][0]
    assert str(first).endswith(f"(in {100 * first.selection_frequency:.0f} % of draws)")


def test_draws_stay_when_options_change_and_serve_every_pair():
    change = random_change().with_noise_ceiling(draws=2)
    other = change.compare(tau=0.3)
    assert other.noise_ceiling is change.noise_ceiling
    assert other.own["output"].all.sum() < change.own["output"].all.sum()
    pair = change.between("first", "second")
    assert set(pair.own) == {"first", "second"}
    assert random_change().own == {}


# ---------------------------------------------------------------- text and files


def test_the_table_says_what_a_reader_needs():
    change = random_change(accuracies={"first": (0.9, 0.75)}).with_noise_ceiling(draws=2)
    text = str(change)
    for part in (
        "first",
        "second",
        "output",
        "0.75",
        "accuracy on held-out rows",
        "ceiling",
        "redundancy floor",
        "explained: positive (1), which the model predicts",
        "AND 1",
        "OR 3",
    ):
        assert part in text
    assert "OR 1" not in text  # nothing can be there
    assert max(map(len, text.splitlines())) <= 80
    assert repr(change) == "KnowledgeChange of 2 samples: first, second against output; noise ceiling from 2 draws"
    assert f"{float(change['first'].completeness[0, 0]):.2f}" in text
    assert "explained" not in str(two_layers())  # made by hand: nobody knows
    assert "ceiling" not in str(two_layers())


def test_the_means_of_salient_counts_are_those_of_the_samples():
    lines = str(two_layers()).partition("salient interactions of a sample")[2].splitlines()
    assert lines[1].split() == ["layer", "AND", "1", "AND", "2", "all", "AND", "all", "OR"]
    assert lines[2].split() == ["early", "2.0", "0.0", "2.0", "0.0"]
    assert lines[3].split() == ["output", "2.0", "1.0", "3.0", "0.0"]


def test_higher_orders_are_left_to_the_frame():
    many = InteractionsBatch([random_sample(7, 0)])
    text = str(KnowledgeChange({"a": many, "output": many}))
    assert "higher orders: to_frame()" in " ".join(text.split())
    assert "AND 4" in text
    assert "AND 5" not in text


def test_what_all_labels_begin_with_is_shown_once():
    one = InteractionsBatch([random_sample(3, 0)])
    text = str(KnowledgeChange({"encoder.block.0": one, "encoder.block.10.mlp": one, "output": one}))
    table = text.partition("completeness:")[2].splitlines()
    assert [line.split()[0] for line in table[1:4]] == ["encoder.block.", "0", "10.mlp"]
    assert max(map(len, text.splitlines())) <= 80


def test_long_labels_keep_their_end():
    label = "a_wrapper.of_a_wrapper.model.encoder.layers.11"
    text = str(KnowledgeChange({label: random_batch(0), "output": random_batch(1)}))
    assert text.count(f"\n  ...{label[-29:]} ") == 6  # AND and OR apart, which together are too wide
    assert max(map(len, text.splitlines())) <= 80


def test_html_is_escaped():
    change = KnowledgeChange({"<script>": random_batch(0), "output": random_batch(1)})
    assert "<script>" not in change._repr_html_()
    assert "&lt;script&gt;" in change._repr_html_()
    assert change._repr_html_().count("<table>") == 3


@pytest.mark.parametrize("draws", [0, 2])
def test_what_is_saved_comes_back_bit_for_bit(tmp_path, draws):
    change = random_change(tau=0.1, scope="sample", ratio="mean", accuracies={"first": (0.5, 0.25)})
    change = change.with_noise_ceiling(draws=draws, seed=5) if draws else change
    change = change.between("first", "second")
    change.save(tmp_path / "change.safetensors")
    back = KnowledgeChange.load(tmp_path / "change.safetensors")
    for name in ("states", "noun", "reference", "tau", "scope", "literal_eq6", "ratio", "accuracies"):
        assert getattr(back, name) == getattr(change, name)
    assert list(back.interactions) == list(change.interactions)
    for label, batch in change.interactions.items():
        for one, other in zip(batch, back.interactions[label], strict=True):
            assert one.players == other.players
            assert one.provenance == other.provenance
            for part in ("and_effects", "or_effects", "values"):
                assert torch.equal(getattr(one, part), getattr(other, part))
    assert str(back) == str(change)
    assert (back.noise_ceiling is None) == (draws == 0)
    if draws:
        assert back.noise_ceiling.settings() == {"draws": 2, "seed": 5, "value_noise": None, "jitter": 1e-3}
        for label, drawn in change.noise_ceiling.effects.items():
            for draws_, others in zip(drawn, back.noise_ceiling.effects[label], strict=True):
                for x, y in zip(draws_, others, strict=True):
                    assert x.constant == y.constant
                    assert all(
                        torch.equal(getattr(x, part), getattr(y, part)) for part in ("members", "is_or", "values")
                    )


def test_provenance_holds_what_the_samples_share():
    provenance = random_change().provenance
    assert provenance["targets"] == [1, 1]
    assert provenance["states"] == ["first", "second"]
    assert provenance["comparison"] == {"tau": 0.05, "scope": "dataset", "literal_eq6": False, "ratio": "sum"}


# ---------------------------------------------------------------- what does not fit


def test_unknown_layers_are_answered_with_close_ones():
    change = random_change()
    for wrong in (lambda: change.between("frist", "output"), lambda: change.salient("frist")):
        with pytest.raises(ValueError, match="there is no layer 'frist' here; did you mean 'first'"):
            wrong()
    with pytest.raises(ValueError, match="there is no layer 'last' here"):
        KnowledgeChange(change.interactions, reference="last")
    with pytest.raises(KeyError):
        change["frist"]


def test_a_layer_object_names_a_layer():
    assert list(random_change().between(Layer("first"), Layer("second"))) == ["first"]


def test_other_samples_players_and_types_are_refused():
    with pytest.raises(ValueError, match="interactions must be of the same samples"):
        KnowledgeChange({"a": random_batch(0), "output": random_batch(1, sizes=(3,))})
    with pytest.raises(ValueError, match="sample 0 has the players p0, p1 at 'a' and p0, p1, p2 at 'output'"):
        KnowledgeChange({"a": random_batch(0, sizes=(2, 3)), "output": random_batch(1)})
    with pytest.raises(TypeError, match="must map labels to InteractionsBatch; got 'output': a list"):
        KnowledgeChange({"a": random_batch(0), "output": []})
    with pytest.raises(TypeError, match="interactions must be a mapping"):
        KnowledgeChange([random_batch(0)])
    with pytest.raises(ValueError, match="there is no layer besides 'output'"):
        KnowledgeChange({"output": random_batch(0)})
    with pytest.raises(ValueError, match="tau must be a share"):
        random_change().compare(tau=3)


# ---------------------------------------------------------------- from a model


def curved(x):
    return (x[:, 0] * x[:, 1] + torch.relu(x.sum(1)))[:, None]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Linear(4, 5), nn.Linear(5, 5), nn.Linear(5, 3)
        for i, parameter in enumerate(self.parameters()):
            parameter.data = normal(*parameter.shape, seed=i)

    def forward(self, x):
        return self.head(torch.relu(self.second(torch.relu(self.first(x)))))


PROBES = {"first": lambda f: f @ normal(5, 3, seed=40), "second": lambda f: f @ normal(5, 3, seed=41)}
X = normal(3, 4, seed=50)


@pytest.fixture(scope="module")
def net():
    return Net().eval()


@pytest.fixture(scope="module")
def study(net):
    return LayerwiseKnowledge(net, ["first", "second"], probes=PROBES, kappa=0.2)


def test_every_layer_is_its_read_out_and_the_last_is_the_output(net, study):
    change = study.analyze(X, target=[0, 2, 1])
    functions = {
        "first": lambda x: PROBES["first"](net.first(x)),
        "second": lambda x: PROBES["second"](net.second(torch.relu(net.first(x)))),
        "output": net,
    }
    assert list(change.interactions) == [*functions]
    for label, function in functions.items():
        expected = AndOrInteraction(function, kappa=0.2).attribute(X, target=[0, 2, 1])
        for one, other in zip(change.interactions[label], expected, strict=True):
            torch.testing.assert_close(one.values, other.values, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(one.and_effects, other.and_effects, atol=1e-3, rtol=1e-3)
    assert change.provenance["targets"] == [0, 2, 1]
    assert "explained: the classes given (class 0: 1, class 2: 1, class 1: 1)" in str(change)


def test_without_a_target_the_prediction_is_explained_and_said(net, study):
    predicted = net(X).argmax(1).tolist()
    for given in ({}, {"target": "predicted"}):
        change = study.analyze(X, **given)
        assert change.provenance["targets"] == predicted
        assert "which the model predicts" in str(change) or "the classes that the model predicts" in str(change)
    assert same_numbers(change, study.analyze(X, target=predicted))


class NetWithOutputLayer(nn.Module):
    """x -> 2x, at a layer called output, -> 2x + 1."""

    def __init__(self):
        super().__init__()
        self.output = nn.Identity()

    def forward(self, x):
        return self.output(2 * x) + 1


@pytest.mark.parametrize("probes", [lambda f: f, {"output (layer)": lambda f: f}], ids=["one for all", "by label"])
def test_a_layer_called_output_is_compared_with_the_models_output(probes):
    net, x = NetWithOutputLayer().eval(), torch.tensor([[3.0, 5.0]])
    settings = {"score": "logit", "kind": "and", "noise": 0}
    change = LayerwiseKnowledge(net, Layer("output"), probes=probes, **settings).analyze(x, target=1)
    assert list(change) == ["output (layer)"]
    assert {label: one[0].v_full for label, one in change.interactions.items()} == {"output (layer)": 10, "output": 11}
    with pytest.raises(
        ValueError, match=r"also has a layer of that name. Give Layer\('output'\) for the layer, or leave"
    ):
        LayerwiseKnowledge(net, ["output"], probes=probes, **settings)


def test_a_single_output_is_not_predicted():
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 1)).eval()
    change = LayerwiseKnowledge(net, "1", probes=lambda f: f[:, :1], score="logit", noise=0).analyze(X)
    assert "predict" not in str(change)
    assert "explained: output" in str(change)


def test_a_list_of_players_is_one_data_set(study):
    apart = [players_from_mask(X[:1], baselines=0.5), players_from_mask(X[1:], baselines=0.5)]
    together = study.analyze(X, 0.5, [0, 2, 1])
    for target in ([0, 2, 1], torch.tensor([0, 2, 1])):
        assert same_numbers(study.analyze(apart, target=target), together)
    assert same_numbers(study.analyze(apart, target=torch.tensor([1])), study.analyze(X, 0.5, 1))
    with pytest.raises(ValueError, match="target has length 2 for 3 samples in 2 Players"):
        study.analyze(apart, target=[0, 1])
    with pytest.raises(TypeError, match=r"inputs\[1\] is float32 \[3, 4\]: a list must hold Players"):
        study.analyze([apart[0], X], target=0)
    with pytest.raises(ValueError, match="inputs is an empty list"):
        study.analyze([], target=0)


def test_samples_may_have_different_players(study):
    mask = torch.tensor([[0, 1, 2, 3], [0, 0, 1, 1], [0, 1, 2, -1]])
    change = study.analyze(X, feature_mask=mask, target=1, player_names=list("abcd"))
    assert [one.n_players for one in change.interactions["first"]] == [4, 2, 3]
    assert change["first"].all.shape == (2, 4)


def test_options_reach_the_comparison_and_the_draws(study):
    options = {"tau": 0.2, "scope": "sample", "literal_eq6": True, "ratio": "mean"}
    draws = {"draws": 2, "seed": 9, "value_noise": 0.01, "jitter": 0.0}
    change = study.analyze(X, target=0).with_noise_ceiling(**draws).compare(**options)
    assert {name: getattr(change, name) for name in options} == options
    assert change.noise_ceiling.settings() == draws
    again = study.analyze(X, target=0).compare(**options).with_noise_ceiling(**draws)
    assert str(again) == str(change)


def test_options_of_the_extraction_are_those_of_the_method(net):
    change = LayerwiseKnowledge(net, "first", probes=PROBES, kind="and", noise=0.1, score="logit").analyze(X, target=0)
    assert not any(one.or_effects.any() for batch in change.interactions.values() for one in batch)
    assert change.provenance["decomposition"]["noise"] == 0.1
    assert change.provenance["score"] == "logit"


@pytest.mark.filterwarnings("ignore:the salient effects of .output.")  # true of this random network
def test_one_read_out_serves_all_layers_and_the_output_need_not_be_named(net):
    study = LayerwiseKnowledge(net, ["first", net.second, "output"], probes=lambda f: f[:, :3])
    assert [layer.label for layer in study.layers] == ["first", "second"]
    assert list(study.analyze(X[:1], target=0)) == ["first", "second"]
    assert repr(study) == "LayerwiseKnowledge of Net: first, second; read-outs: function"


@pytest.mark.filterwarnings("ignore:the salient effects of .output.")  # true of this random network
def test_probes_are_fitted_and_their_accuracies_kept(net):
    x = normal(90, 4, seed=60)
    loader = [(x, torch.arange(90) % 3)]
    study = LayerwiseKnowledge(net, ["first", "second"], noise=0)
    assert study.fit_probes(loader, seed=1, penalties=[0.1]) is study
    expected = LinearProbes.fit(net, ["first", "second"], loader, seed=1, penalties=[0.1])
    assert all(torch.equal(study.probes[label].weight, probe.weight) for label, probe in expected.items())
    change = study.analyze(X[:2], target=0)
    assert change.accuracies == {label: tuple(probe.accuracy) for label, probe in expected.items()}
    (row,) = (line for line in str(change).split("redundancy:")[0].splitlines() if line.startswith("  second "))
    assert row.split()[1] == f"{expected['second'].accuracy.held_out:.2f}"
    assert same_numbers(
        LayerwiseKnowledge(net, ["first", "second"], probes=expected, noise=0).analyze(X[:2], target=0), change
    )
    with pytest.raises(TypeError, match="penalty"):
        study.fit_probes(loader, penalty=1.0)


@pytest.mark.filterwarnings("ignore:the salient effects of .output.")  # true of this random network
def test_probes_made_by_hand_have_no_accuracy(net, tmp_path):
    probe = LinearProbe(Layer("first"), normal(3, 5, seed=40), torch.zeros(3))
    change = LayerwiseKnowledge(net, "first", probes=LinearProbes([probe]), noise=0).analyze(X[:1], target=0)
    assert change.accuracies == {}
    change.save(tmp_path / "change.safetensors")


def test_the_model_is_left_as_found(net):
    model = copy.deepcopy(net)
    before, state = copy.deepcopy(model.state_dict()), torch.random.get_rng_state()
    LayerwiseKnowledge(model, ["first", "second"], probes=PROBES, noise=0).analyze(X[:1], target=0).with_noise_ceiling(
        draws=1
    )
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
    assert torch.equal(torch.random.get_rng_state(), state)


def test_wrong_settings_are_said_before_any_forward(net):
    with pytest.raises(ValueError, match="no read-outs of the layers yet: call fit_probes"):
        LayerwiseKnowledge(net, "first").analyze(X, target=0)
    with pytest.raises(ValueError, match="no read-out for layer 'second'"):
        LayerwiseKnowledge(net, "second", probes={"first": PROBES["first"]})
    with pytest.raises(ValueError, match="has no layer 'frist'"):
        LayerwiseKnowledge(net, "frist")
    with pytest.raises(ValueError, match="noise must be a finite number"):
        LayerwiseKnowledge(net, "first", noise=-1)
    with pytest.raises(ValueError, match="score"):
        LayerwiseKnowledge(net, "first", score="log_odd")
