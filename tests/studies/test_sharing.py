"""Short samples of a study share forwards, in groups that depend on the samples alone."""

import shutil

import pytest
import torch
from small_studies import Net, bytes_of, make_layered, make_method

from captum_lkn import AndOrInteraction, players_from_mask, text_players
from captum_lkn.decomposition.decompose import decompose
from captum_lkn.players.players import Players
from captum_lkn.studies import load_study, merge, run_study
from captum_lkn.studies.sample_files import sample_path
from captum_lkn.studies.sharing import form_of, joined_players, rows_of_each


def alike(count=129, n=3, nan=None):
    x = torch.randn(count, n, generator=torch.Generator().manual_seed(5))
    if nan is not None:
        x[nan] = torch.nan
    return [players_from_mask(row[None]) for row in x]


@pytest.fixture
def rows(monkeypatch):
    """Return the rows of each forward."""
    found, forward = [], Net.forward

    def counting(self, x):
        found.append(len(x))
        return forward(self, x)

    with monkeypatch.context() as changed:
        changed.setattr("captum_lkn.studies.identity._Description._of_code", lambda self, module: [])
        changed.setattr(Net, "forward", counting)
        yield found


@pytest.mark.parametrize("make", [make_method, make_layered])
def test_samples_of_one_form_share_forwards_and_have_their_own_results(make, rows, tmp_path):
    samples = [*alike(3, 5), *alike()]
    study = run_study(make(), samples, tmp_path / "run")
    shared = len(rows)
    rows.clear()
    method = getattr(make(), "method", make())
    expected = method.attribute(samples, target="predicted")
    assert shared < len(rows) / 2
    for label, batch in study.by_layer.items():
        for mine, own in zip(batch, expected[label] if isinstance(expected, dict) else expected, strict=True):
            torch.testing.assert_close(mine.values, own.values, rtol=1e-5, atol=1e-6)
            assert (mine.players, mine.provenance["target"]) == (own.players, own.provenance["target"])


def test_the_rows_of_a_forward_are_as_many_as_were_given(rows, tmp_path):
    for given, most in ((16, 16), (9, 8), (4, 4)):
        rows.clear()
        run_study(make_method(), alike(), tmp_path / str(given), perturbations_per_eval=given)
        assert max(rows) == most


def test_a_part_of_a_group_is_completed_with_the_same_bytes(tmp_path, monkeypatch):
    samples = alike()
    study = run_study(make_method(), samples, tmp_path / "whole")
    expected = bytes_of(tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "part")
    for number in (0, 3, 4, 12):
        sample_path(tmp_path / "part", study.keys[number]).unlink()
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "3")
    run_study(make_method(), samples, tmp_path / "part")
    assert bytes_of(tmp_path / "part") == expected
    folders = [tmp_path / f"share {i}" for i in range(2)]
    for i, folder in enumerate(folders):
        assert 0 < len(run_study(make_method(), samples, folder, shard=(i, 2)).stored) < len(samples)
    merge(folders, tmp_path / "joined")
    assert bytes_of(tmp_path / "joined") == expected


def test_a_sample_that_fails_leaves_its_group_to_be_computed_one_by_one(tmp_path):
    samples, whole = alike(nan=2), {}
    for again in (False, True):
        with pytest.raises(ValueError, match=r"1 of 129 samples could not be explained.*sample 2: .* nan"):
            run_study(make_method(), samples, tmp_path / "run", target=0)
        found = load_study(tmp_path / "run")
        assert found.missing == (2,)
        assert not again or bytes_of(tmp_path / "run") == whole
        whole = bytes_of(tmp_path / "run")
        sample_path(tmp_path / "run", found.keys[5]).unlink()


def product(seen, x):
    seen.append(len(x))
    return x.prod()


def product_of_one(seen, x):
    seen.append(len(x))
    if len(x) != 1:
        raise RuntimeError("one row at a time")
    return x.prod(1)


@pytest.mark.parametrize("forward", [product, product_of_one])
@pytest.mark.filterwarnings("ignore:.*masked copies of any samples in a forward do not work")
def test_a_forward_that_takes_no_batch_is_run_for_each_sample(forward, tmp_path):
    seen, samples = [], alike(130, 3)
    method = AndOrInteraction(lambda x: forward(seen, x), score="logit", kind="and", noise=0)
    alone = method.attribute(samples, target=None)
    forwards = len(seen)
    found = run_study(method, samples, tmp_path / "run", target=None, version="1").interactions
    # Groups of eight fail once, and the last one, which is smaller: no more than one sample takes.
    assert forwards < len(seen) - forwards <= forwards + 2 * forwards // len(samples)
    for one, own, players in zip(found, alone, samples, strict=True):
        assert one.v_full == pytest.approx(float(players.inputs[0].prod()), rel=1e-5)
        assert torch.equal(one.values, own.values)


def test_a_forward_that_fails_alone_as_well_ends_the_run(tmp_path):
    def broken(x):
        raise RuntimeError("a weight is missing")

    with pytest.raises(RuntimeError, match="a weight is missing"):
        run_study(AndOrInteraction(broken), alike(40), tmp_path / "run", target=0, version="1")


def test_a_sample_that_fails_leaves_other_groups_as_they_are(tmp_path):
    run_study(make_method(), alike(), tmp_path / "whole")
    expected = bytes_of(tmp_path / "whole")
    with pytest.raises(ValueError, match="1 of 129 samples"):
        run_study(make_method(), alike(nan=2), tmp_path / "run", target="predicted")
    same = [name for name, content in bytes_of(tmp_path / "run").items() if expected.get(name) == content]
    assert len(same) >= 129 - 8


def test_tables_of_unlike_forms_are_decomposed_together_and_give_the_same_bytes(tmp_path, monkeypatch):
    calls = []

    def counting(tables, **rest):
        calls.append(len(tables))
        return decompose(tables, **rest)

    values = torch.randn(64, 67, generator=torch.Generator().manual_seed(6))
    samples = []
    for extra in range(64):  # a form each: so many features are background
        owners = torch.tensor([[0, 1, 2, *([-1] * extra)]])
        samples.append(players_from_mask(values[extra : extra + 1, : 3 + extra], 0.0, owners))
    monkeypatch.setattr("captum_lkn.attribution.base.decompose", counting)
    run_study(make_method(), samples, tmp_path / "run")
    assert calls == [32, 32]
    for rank in range(16):
        run_study(make_method(), samples, tmp_path / "shares", shard=(rank, 16))
    assert calls[2:] == [4] * 16
    assert bytes_of(tmp_path / "run") == bytes_of(tmp_path / "shares")


def test_what_differs_in_form_shares_nothing(sentiment):
    _, tokenizer = sentiment
    texts = [text_players(tokenizer, text) for text in ("not a good film", "a very dull film")]
    assert form_of(texts[0]) == form_of(texts[1]) is not None
    both = joined_players(texts)
    assert both.labels == (texts[0].labels[0], texts[1].labels[0])
    assert both.description["texts"] == ["not a good film", "a very dull film"]
    assert both.constants["attention_mask"].shape == both.inputs[0].shape
    (ids,) = both.inputs
    assert rows_of_each(both, None, torch.device("cpu")) == 2048 // ids.shape[1] // 2
    assert rows_of_each(both, None, torch.device("cuda")) is None
    assert rows_of_each(both, 9, None) == 4
    assert form_of(texts[0]) != form_of(text_players(tokenizer, "a dull film"))
    floats = players_from_mask(torch.ones(1, 3))
    assert form_of(floats) != form_of(players_from_mask(torch.ones(1, 3), 1.0))  # its description differs
    assert form_of(players_from_mask(torch.ones(1, 10))) is None
    assert form_of(players_from_mask({"x": torch.ones(1, 3), "power": 2})) is None
    averaged = Players(floats.inputs, floats.baselines, floats.owners, floats.labels, background=(torch.zeros(2, 3),))
    assert form_of(averaged) is None
