"""Results of studies: other scores without forwards, folders joined, means with intervals."""

import dataclasses
import math
import re
import shutil

import pytest
import torch
from small_studies import Net, bytes_of, make_layered, make_method, make_samples

from captum_lkn import AndOrInteraction, SelectOutput, players_from_mask
from captum_lkn.studies import load_study, merge, run_study
from captum_lkn.studies.identity import identity
from captum_lkn.studies.sample_files import sample_path

FIELDS = ("players", "kappa", "gap", "epsilon", "options")


def assert_same(found, expected, of_forwards=True):
    for one, other in zip(found, expected, strict=True):
        assert [getattr(one, name) for name in FIELDS] == [getattr(other, name) for name in FIELDS]
        torch.testing.assert_close(one.values, other.values, atol=1e-6, rtol=0)
        torch.testing.assert_close(one.effects.reconstruction, other.effects.reconstruction, atol=1e-5, rtol=0)
        torch.testing.assert_close(one.attributions(), other.attributions(), atol=1e-5, rtol=0)
        ignored = () if of_forwards else ("forwards",)
        assert {k: v for k, v in one.provenance.items() if k not in ignored} == {
            k: v for k, v in other.provenance.items() if k not in ignored
        }


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Return a study that kept its outputs, of a model with names of its classes."""
    folder = tmp_path_factory.mktemp("kept")
    method = AndOrInteraction(SelectOutput(Net().eval(), class_names=["a", "b", "c"]))
    return run_study(method, make_samples(), folder, keep="outputs"), method


def test_with_outputs_kept_the_interactions_are_those_of_attribute(kept):
    study, method = kept
    assert_same(study.interactions, method.attribute(make_samples(), target="predicted"), of_forwards=False)


@pytest.mark.parametrize(
    ("score", "target"), [("logit", None), ("margin", 2), (None, [0, 1, 2, 0, 1, 2, 0]), ("prob", "predicted")]
)
def test_other_scores_and_targets_need_no_forward(kept, monkeypatch, score, target):
    study, method = kept
    own = [one.provenance["target"] for one in study.interactions]
    expected = AndOrInteraction(method.forward_func, score=score or "log_odds", noise=0.1).attribute(
        make_samples(), target=own if target is None else target
    )
    monkeypatch.setattr(Net, "forward", None)
    found = load_study(next(iter(study.folders.values()))).rescore(score, target, noise=0.1)
    if target is None:
        expected = [dataclasses.replace(one, provenance={**one.provenance, "predicted": True}) for one in expected]
    assert_same(found, expected, of_forwards=False)


def test_a_single_output_and_its_outputs_are_kept(tmp_path):
    method = AndOrInteraction(lambda x: x.prod(1) + 3, score="logit", noise=0)
    study = run_study(method, make_samples(2), tmp_path / "run", keep="outputs", target=None)
    assert_same(study.interactions, method.attribute(make_samples(2)), of_forwards=False)
    twice = study.rescore(lambda output, target: 2 * output[:, 0])
    torch.testing.assert_close(twice[1].values, 2 * study.interactions[1].values)


def test_outputs_that_were_not_kept_cannot_be_scored(tmp_path):
    study = run_study(make_method(), make_samples(1), tmp_path / "run")
    with pytest.raises(ValueError, match="has no outputs to score"):
        study.rescore("logit")
    with pytest.raises(ValueError, match="keep='outputs' is for all masks of an AndOrInteraction"):
        run_study(make_layered(), make_samples(1), tmp_path / "other", keep="outputs")
    method = AndOrInteraction(torch.nn.Unflatten(1, (1, 2)).eval(), score="logit")
    with pytest.raises(ValueError, match=r"needs a model that returns \[B, C\]"):
        run_study(method, make_samples(1), tmp_path / "third", keep="outputs", target=(0, 0))


def test_folders_of_shares_are_joined(tmp_path):
    whole = run_study(make_layered(), make_samples(), tmp_path / "whole")
    parts = [tmp_path / str(i) for i in range(3)]
    for i, part in enumerate(parts):
        run_study(make_layered(), make_samples(), part, shard=(i, 3))
    assert merge(parts[:2]).missing == load_study(parts[2]).stored
    joined = merge(parts, tmp_path / "joined")
    assert bytes_of(tmp_path / "joined") == bytes_of(tmp_path / "whole")
    assert repr(joined.change) == repr(whole.change) == repr(merge(parts).change)


def test_studies_of_other_samples_are_joined(tmp_path):
    samples = make_samples()
    for name, some in (("a", samples[:4]), ("b", samples[2:])):
        run_study(make_method(), some, tmp_path / name, keep="outputs")
    joined = merge([tmp_path / "a", tmp_path / "b"], tmp_path / "both")
    assert_same(joined.interactions, make_method().attribute(samples, target="predicted"), of_forwards=False)
    assert_same(joined.rescore(), joined.interactions)


def test_other_studies_and_other_results_are_not_joined(tmp_path):
    for name, seed in (("a", 0), ("b", 1)):
        run_study(make_method(seed), make_samples(2), tmp_path / name)
    with pytest.raises(ValueError, match=r"'.*b' holds another study; it has model"):
        merge([tmp_path / "a", tmp_path / "b"])
    shutil.copytree(tmp_path / "a", tmp_path / "c")
    first, second = load_study(tmp_path / "a").keys
    place = sample_path(tmp_path / "c", first)
    place.write_bytes(sample_path(tmp_path / "a", second).read_bytes())
    with pytest.warns(UserWarning, match=f"left out as missing: .*{re.escape(str(place))}"):
        assert merge([tmp_path / "c", tmp_path / "a"]).missing == ()
    with pytest.raises(ValueError, match="folders must be at least one"):
        merge([])
    with pytest.raises(FileNotFoundError):
        merge([tmp_path])


def test_different_results_for_one_sample_are_not_joined(tmp_path, monkeypatch):
    run_study(make_method(), make_samples(1), tmp_path / "a")
    forward = Net.forward
    with monkeypatch.context() as changed:  # another machine, whose rounding differs
        changed.setattr("captum_lkn.studies.identity._Description._of_code", lambda self, module: [])
        run_study(make_method(), make_samples(1), tmp_path / "b")
        for name, factor in (("c", 1.01), ("d", 1 + 1e-6)):
            changed.setattr(Net, "forward", lambda self, x, factor=factor: forward(self, x) * factor)
            run_study(make_method(), make_samples(1), tmp_path / name)
    with pytest.warns(UserWarning, match="differ by rounding, of the samples [0-9a-f]{12}: those of the first"):
        joined = merge([tmp_path / "d", tmp_path / "b"], tmp_path / "both")
    assert bytes_of(tmp_path / "both" / "samples") == bytes_of(tmp_path / "d" / "samples")
    assert joined.missing == ()
    with pytest.raises(ValueError, match="have different results for the sample"):
        merge([tmp_path / "b", tmp_path / "c"])


def test_where_no_forwards_are_shared_results_must_be_equal(tmp_path, monkeypatch):
    forward = Net.forward
    monkeypatch.setattr("captum_lkn.studies.identity._Description._of_code", lambda self, module: [])
    for number, options in enumerate(({"keep": "outputs"}, {"n_samples": 100})):
        for name, factor in (("a", 1.0), ("b", 1 + 1e-6)):
            monkeypatch.setattr(Net, "forward", lambda self, x, factor=factor: forward(self, x) * factor)
            run_study(make_method(), make_samples(3)[2:], tmp_path / f"{name}{number}", target=0, **options)
        with pytest.raises(ValueError, match="have different results for the sample"):
            merge([tmp_path / f"a{number}", tmp_path / f"b{number}"])


def test_strongest_combinations_have_means_and_intervals(tmp_path):
    def negation(x):  # not & good in those samples that have both
        return 2 * x[:, 0] * x[:, 1] + x[:, 2]

    names = ["not", "good", "film"]
    samples = [players_from_mask(torch.tensor([[1.0, scale, 1.0]]), player_names=names) for scale in (1.0, 2.0, 3.0)]
    method = AndOrInteraction(negation, score="logit", noise=0)
    study = run_study(method, samples, tmp_path / "run", target=None)
    found = study.strongest(2)
    assert [(row.players, row.kind, row.samples, row.salient) for row in found.rows] == [
        (("not", "good"), "and", 3, 3),
        (("film",), "and", 3, 3),
    ]
    assert found.rows[0][2:5] == pytest.approx((4, 2, 6), abs=1e-6)
    assert "not & good   +4.00 [+2.00, +6.00]        3        3" in repr(found)
    summary = study.summary()
    assert [(row.layer, row.measure) for row in summary.rows] == [
        ("output", name) for name in ("range", "salient", "order", "or")
    ]
    means = [row.mean for row in summary.rows]
    assert means == pytest.approx([5, 2, (5 / 3 + 9 / 5 + 13 / 7) / 3, 0], abs=1e-6)
    with pytest.raises(ValueError, match="layer must be one of output; got 'hidden'"):
        study.strongest(layer="hidden")
    pytest.importorskip("pandas", reason="pandas is an extra")
    assert found.to_frame().shape == (2, 7)
    assert summary.to_frame().shape == (4, 5)


def test_the_summary_has_a_row_a_layer(tmp_path):
    study = run_study(make_layered(), make_samples(), tmp_path / "run")
    lines = repr(study.summary()).splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["hidden", "output"]
    assert study.strongest(3, layer="hidden").n_samples == 7


def test_one_sample_has_no_intervals(tmp_path):
    study = run_study(make_method(), make_samples(1), tmp_path / "run")
    assert all(math.isnan(row.low) for row in study.strongest().rows)


SCALE = 2.0


def scaled(x):
    return SCALE * x.sum(1)


class Scaled(torch.nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.scale = scale

    def forward(self, x):
        return self.scale * x


def of_scale(scale):
    return lambda x: scale * x.sum(1)


def test_identities_tell_models_and_functions_apart(monkeypatch):
    same = [of_scale(1.0), of_scale(1.0)]
    others = [of_scale(2.0), scaled, Scaled(1.0), Scaled(2.0), Net(0), Net(1), of_scale(Net(0)), of_scale(Net(1))]
    assert len({identity(one, "it") for one in same}) == 1
    assert len({identity(one, "it") for one in (*same, *others)}) == 1 + len(others)
    before = identity(scaled, "it")
    monkeypatch.setitem(scaled.__globals__, "SCALE", 3.0)
    assert identity(scaled, "it") != before


def test_what_cannot_be_read_needs_a_version(tmp_path):
    class Hidden:
        def __call__(self, x):
            return x.sum(1)

    method = AndOrInteraction(Hidden(), score="logit")
    with pytest.raises(ValueError, match=r"the model must be a module.*it has a Hidden\. Give version="):
        run_study(method, make_samples(1), tmp_path / "run", target=None)
    run_study(method, make_samples(1), tmp_path / "run", target=None, version="1")
    with pytest.raises(ValueError, match="holds another study"):
        run_study(method, make_samples(1), tmp_path / "run", target=None, version="2")
