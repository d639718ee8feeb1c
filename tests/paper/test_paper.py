"""The reproduction of the paper: a run of seconds, its rules, and the page that its results make."""

import json
import math
import re

import pytest
import torch

from benchmarks.paper import claims, data, page, statistics, verdicts
from benchmarks.paper.__main__ import main
from benchmarks.paper.run import run
from benchmarks.paper.settings import SIZES, VIEWS
from benchmarks.paper.statistics import Orders
from benchmarks.paper.store import Store, rounded
from captum_lkn import KnowledgeChange

pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install scikit-learn")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Return the store of a whole run of the tiny size, of one network for a table."""
    folder = tmp_path_factory.mktemp("paper")
    arguments = ["--size", "tiny", "--results", str(folder / "results"), "--work", str(folder / "work")]
    main(arguments)
    return Store(SIZES["tiny"], folder / "results", folder / "work")


def test_a_run_measures_every_claim_draws_its_figures_and_is_resumed(tiny):
    store = tiny
    found = verdicts.verdicts(store)
    assert {claim for claim, tasks in found.items() if tasks} == set(claims.CLAIMS)
    assert set(found["C4"]["wine-mlp7"]) == set(VIEWS)
    assert {one for tasks in found.values() for views in tasks.values() for one in views.values()} <= set(
        verdicts.VERDICTS
    )
    assert len(list((store.results / "figures").glob("*.png"))) == 10
    times = {path: path.stat().st_mtime_ns for path in store.results.glob("*.json")}
    lost = store.path("sparsity.wine-mlp7")
    before = json.loads(lost.read_text())["data"]
    lost.unlink()
    run(store)
    assert {path: path.stat().st_mtime_ns for path in times if path != lost} == {
        path: time for path, time in times.items() if path != lost
    }
    assert json.loads(lost.read_text())["data"] == before


def test_curves_are_those_of_the_comparison(tiny):
    store = tiny
    change = KnowledgeChange.load(store.work / "wine-mlp7.safetensors")
    once = statistics.resampled(change.n_samples, 5)[:1]
    for ratio in ("sum", "mean"):
        curves = statistics.curves_of(change.compare(ratio=ratio), kind=0)
        for order in range(4):
            for name in ("completeness", "redundancy"):
                found = getattr(curves, name)(once, slice(order, order + 1))[0]
                expected = [float(getattr(one, name)[0, order]) for one in change.compare(ratio=ratio).values()]
                pairs = zip(found.tolist(), expected, strict=True)
                assert all(math.isnan(one) or one == pytest.approx(other) for one, other in pairs)


def test_groups_of_orders():
    assert [(Orders(n).low, Orders(n).high) for n in (8, 10, 12)] == [
        (slice(0, 2), slice(2, 4)),
        (slice(0, 3), slice(3, 6)),
        (slice(0, 4), slice(4, 8)),
    ]


def test_an_estimate_is_of_all_samples_with_the_interval_of_the_resamples():
    counts = statistics.resampled(50, 400)
    numbers = torch.linspace(0.0, 1.0, 50)
    found = statistics.estimate(statistics.mean_over(numbers, counts))
    assert found.value == pytest.approx(0.5)
    assert 0.4 < found.low < 0.45 < 0.55 < found.high < 0.6
    assert found.p == pytest.approx(1 / 401)
    assert all(map(math.isnan, statistics.estimate(torch.full((5,), math.nan))))
    of_two = torch.cat([numbers[:2], torch.full((48,), math.nan)])  # two samples tell nothing about others
    assert bool(statistics.mean_over(of_two, counts).isnan().all())
    whole = of_two.double().nan_to_num()[None]
    assert bool(statistics.share_of(whole, whole, counts).isnan().all())


@pytest.mark.parametrize(
    ("lows", "expected"),
    [((1, 2), "reproduced"), ((1, -1), "in part"), ((-1, 0), "not"), ((None, 1), "reproduced"), ((), "untested")],
)
def test_a_verdict_follows_from_the_lower_ends(lows, expected):
    assert claims.verdict([{"low": low} for low in lows]) == expected


@pytest.mark.parametrize(
    ("each", "expected"),
    [
        (["reproduced", "untested"], "reproduced"),
        (["reproduced", "not"], "in part"),
        (["not", "not"], "not"),
        (["in part"], "in part"),
        (["untested"], "untested"),
    ],
)
def test_a_verdict_over_tasks(each, expected):
    assert claims.overall(each) == expected


def test_claims_on_orders_compare_low_with_high_ones():
    falls = torch.tensor([[4.0, 3.0, 1.0, 1.0, 9.0, 9.0, 9.0, 9.0]]).expand(6, -1)
    counts = statistics.resampled(6, 20)
    (number,) = claims.sample_conditions("C7", falls, 8, counts).values()
    assert number[:3] == (2.5, 2.5, 2.5)
    (flat,) = claims.sample_conditions("C9", torch.full((6, 8), 0.3), 8, counts).values()
    assert flat.low == pytest.approx(claims.FLAT)
    (steep,) = claims.sample_conditions("C9", falls, 8, counts).values()
    assert steep.low < 0


def test_settings_decide_whether_results_are_kept(tmp_path):
    calls = []
    for name in ("tiny", "tiny", "small"):
        store = Store(SIZES[name], tmp_path)
        store.results = store.work = tmp_path
        store.step("one", lambda: calls.append(name) or {"x": float("nan")})  # noqa: B023 - called at once
    assert calls == ["tiny", "small"]
    assert rounded({"a": torch.tensor([0.123456789, math.inf])}) == {"a": [0.12346, None]}


def test_data_that_are_not_there_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr(data, "FOLDER", tmp_path)
    monkeypatch.setattr(data, "_DEBIAN", tmp_path / "none")
    for name in ("mnist", "fashion", "movies", "census", "commercials", "sst2"):
        with pytest.raises(data.Missing, match="CAPTUM_LKN_DATA"):
            data.DATA[name]()


def test_tables_of_users_are_read(monkeypatch, tmp_path):
    monkeypatch.setattr(data, "FOLDER", tmp_path)
    row = "39, {}, 77516, Bachelors, 13, {}, Sales, Wife, White, Male, {}, 0, 40, Cuba, {}"
    rows = [row.format(*one) for one in [("Private", "Single", 0, "<=50K"), ("State", "Married", 9, ">50K")] * 4]
    (tmp_path / "adult.data").write_text("\n".join(rows))
    census = data.DATA["census"]()
    assert len(census.columns) == 10
    assert census.train.shape[1] == 16  # six numbers, and a column for each of ten categories
    (tmp_path / "commercials").mkdir()
    (tmp_path / "commercials" / "bbc.txt").write_text("\n".join(f"{s} 1:0.5 12:{i}" for i, s in enumerate([1, -1] * 4)))
    assert data.DATA["commercials"]().train.shape == (6, 12)


def test_the_page_is_what_the_results_say():
    """Every number of docs/reproduction.md comes from benchmarks/paper/results/small."""
    text = page.PAGE.read_text(encoding="utf-8")
    assert text == page.render(Store(SIZES["small"]))
    for image in re.findall(r"\]\(([^)]+\.png)\)", text):
        assert (page.PAGE.parent / image).exists(), image
