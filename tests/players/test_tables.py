"""Tables: estimators as models, columns as players, a background whose rows are averaged over."""

import itertools
import warnings

import numpy as np
import pytest
import torch
from forwards import plain
from torch import nn
from torch.testing import assert_close

from captum_lkn import (
    AndOrInteraction,
    ExactShapleyValues,
    LayerAndOrInteraction,
    check_model,
    players_from_mask,
    select_players,
    table_players,
)

pd = pytest.importorskip("pandas")
pytest.importorskip("sklearn")

from sklearn.cluster import KMeans  # noqa: E402
from sklearn.compose import make_column_transformer  # noqa: E402
from sklearn.ensemble import (  # noqa: E402
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier  # noqa: E402
from sklearn.model_selection import FixedThresholdClassifier, TunedThresholdClassifierCV  # noqa: E402
from sklearn.multiclass import OneVsRestClassifier  # noqa: E402
from sklearn.multioutput import MultiOutputClassifier  # noqa: E402
from sklearn.naive_bayes import GaussianNB  # noqa: E402
from sklearn.neural_network import MLPClassifier  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import OneHotEncoder, StandardScaler  # noqa: E402
from sklearn.svm import SVC, LinearSVC  # noqa: E402

NOISE = np.random.default_rng(0)
MIXED = pd.DataFrame(
    {
        "age": NOISE.integers(18, 80, 60),
        "job": NOISE.choice(["nurse", "clerk", "cook"], 60),
        "pay": NOISE.normal(30, 5, 60).round(1),
        "sex": pd.Categorical(NOISE.choice(["f", "m"], 60)),
    }
)
LABELS = np.where(MIXED["pay"] + 10 * (MIXED["job"] == "cook") + NOISE.normal(0, 3, 60) > 33, "rich", "poor")
NUMBERS = MIXED[["age", "pay"]].assign(more=NOISE.normal(size=60)).astype("float64")
THREE = np.digitize(NUMBERS["pay"], [27, 33])


def expectation(rows, sample, background, value):
    """Return the table of the mean of `value` over a background, by plain loops: entry of the columns with a bit."""
    n = rows.shape[1]
    table = []
    for bits in range(2**n):
        copies = background.copy()
        for i in range(n):
            if bits >> i & 1:
                name = rows.columns[i]
                copies[name] = pd.Series([rows[name].iloc[sample]] * len(copies), copies.index, rows[name].dtype)
        table.append(np.mean(value(copies)))
    return torch.tensor(table, dtype=torch.float64)


def log_odds(p):
    return np.log(p) - np.log1p(-p)


def tables(method, *arguments, **keywords):
    return [one.values for one in method.attribute(*arguments, **keywords)]


def linear_on_mixed():
    encoder = make_column_transformer((OneHotEncoder(), ["job", "sex"]), remainder="passthrough")
    return make_pipeline(encoder, LogisticRegression(max_iter=5000)).fit(MIXED, LABELS)


# ---------------------------------------------------------------- values against loops over the background


def test_a_pipeline_of_mixed_columns_has_the_mean_log_odds_over_the_background():
    model, rows, background = linear_on_mixed(), MIXED.iloc[[0, 7]], MIXED.iloc[20:31]
    found = AndOrInteraction(model).attribute(rows, background, target=1)
    for sample in range(2):
        by_hand = expectation(rows, sample, background, lambda x: log_odds(model.predict_proba(x)[:, 1]))
        assert_close(found[sample].values, by_hand)
    assert found[0].provenance["explained"] == "rich (1)"
    assert found[0].players == tuple(f"{k} = {v}" for k, v in MIXED.iloc[0].items())


CLASSIFIERS = [
    GaussianNB(),
    MLPClassifier(8, max_iter=300, random_state=0),
    HistGradientBoostingClassifier(max_iter=10, min_samples_leaf=5),
    RandomForestClassifier(10, random_state=0),
    SVC(),  # decision_function alone
    RidgeClassifier(),
]


@pytest.mark.parametrize("model", CLASSIFIERS, ids=lambda model: type(model).__name__)
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_estimators_give_the_numbers_of_their_own_method(model, classes):
    model = model.fit(NUMBERS, THREE if classes == 3 else THREE > 0)
    rows, background = NUMBERS.iloc[[3]], NUMBERS.iloc[10:17]
    if hasattr(model, "predict_proba"):
        (found,) = tables(AndOrInteraction(model, score="prob"), rows, background, target=1)
        assert_close(found, expectation(rows, 0, background, lambda x: model.predict_proba(x)[:, 1]))
        (raw,) = tables(AndOrInteraction(model.predict_proba, score="logit"), rows, background, target=1)
        assert_close(raw, found)
        return
    (found,) = tables(AndOrInteraction(model, score="logit", kappa=0.1), rows, background, target=1)
    column = (lambda z: z) if classes == 2 else lambda z: z[:, 1]
    assert_close(found, expectation(rows, 0, background, lambda x: column(model.decision_function(x))))


@pytest.mark.parametrize(
    "model", [LinearRegression(), HistGradientBoostingRegressor(max_iter=10), RandomForestRegressor(5)]
)
@pytest.mark.parametrize("score", ["log_odds", "logit"])
def test_a_regression_is_its_value(model, score):
    model = model.fit(NUMBERS, NUMBERS["pay"] * NUMBERS["more"])
    rows, background = NUMBERS.iloc[[3]], NUMBERS.iloc[10:17]
    found = AndOrInteraction(model, score=score).attribute(rows, background)[0]
    assert_close(found.values, expectation(rows, 0, background, model.predict))
    assert (found.provenance["unit"], found.provenance["explained"]) == ("", "output")
    with pytest.raises(ValueError, match="the model returns plain values"):
        AndOrInteraction(model, score="prob")


def test_values_are_those_of_shapiq_on_the_same_background():
    shapiq = pytest.importorskip("shapiq")
    model = HistGradientBoostingClassifier(max_iter=20, min_samples_leaf=5).fit(NUMBERS.to_numpy(), THREE)
    x, background = NUMBERS.to_numpy()[[3]], NUMBERS.to_numpy()[10:35]
    found = AndOrInteraction(model.predict_proba, score="logit").attribute(x, background, target=2)[0]
    imputer = shapiq.MarginalImputer(
        lambda rows: model.predict_proba(rows)[:, 2], background, x=x[0], sample_size=25, normalize=False
    )
    masks = np.array(list(itertools.product([False, True], repeat=3)))[:, ::-1]
    assert_close(found.values, torch.from_numpy(imputer.value_function(masks)))
    explainer = shapiq.TabularExplainer(
        model.predict_proba, background, class_index=2, index="SV", max_order=1, sample_size=25
    )
    theirs = explainer.explain(x[0], budget=8)
    assert_close(found.shapley_values(), torch.tensor([theirs[(i,)] for i in range(3)], dtype=torch.float64))


def test_every_method_averages_over_the_background():
    model = HistGradientBoostingRegressor(max_iter=10).fit(NUMBERS, NUMBERS["pay"] * NUMBERS["more"])
    players = table_players(NUMBERS.iloc[[3, 4]], NUMBERS.iloc[10:17])
    found = AndOrInteraction(model).attribute(players)
    assert_close(
        ExactShapleyValues(model).attribute(players)[1].double(), found[1].shapley_values(), atol=1e-5, rtol=1e-5
    )
    chosen = select_players(model, players, 2, target=None)
    part = AndOrInteraction(model).attribute(chosen)[0]
    kept = list(chosen.choices[0].kept)
    stays = 7 - sum(1 << i for i in kept)  # the third player is present in every copy
    at = [stays + sum((bits >> place & 1) << i for place, i in enumerate(kept)) for bits in range(4)]
    assert_close(part.values, found[0].values[at])
    assert all(check.holds is not False for check in check_model(model, players, target=None, verbose=False))
    with pytest.raises(ValueError, match='rest must be "keep" for players with a background'):
        select_players(model, players, 2, target=None, rest="mask")


def test_a_layer_of_a_network_averages_over_the_background():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).eval()
    probe = nn.Linear(4, 2).eval()
    rows, background = NUMBERS.iloc[[3]] / 10, NUMBERS.iloc[10:17] / 10
    method = LayerAndOrInteraction(network, ["1", "output"], probe={"1": probe}, score="logit")
    found = method.attribute(table_players(rows, background), target=1)  # float32, the module's own dtype

    def read(rows, parts):
        with torch.no_grad():
            return parts(torch.tensor(rows.to_numpy(), dtype=torch.float32)).numpy()[:, 1]

    for layer, parts in (("1", lambda x: probe(network[:2](x))), ("output", network)):
        by_hand = expectation(rows, 0, background, lambda copies, parts=parts: read(copies, parts))
        assert_close(found[layer][0].values, by_hand, atol=1e-5, rtol=1e-5)


# ---------------------------------------------------------------- kinds of tables


def game(x):
    return x[:, 0] * x[:, 1] + x[:, 2]


def test_arrays_and_tensors_reach_the_function_as_they_are():
    array = NUMBERS.to_numpy()
    seen = []

    def function(x):
        seen.append(type(x))
        return game(x)

    method = AndOrInteraction(function, score="logit", kappa=1.0)
    (of_array,) = tables(method, array[:1], array[10:17])
    assert set(seen) == {np.ndarray}
    seen.clear()
    players = table_players(torch.from_numpy(array[:1]), torch.from_numpy(array[10:17]))
    (of_tensor,) = tables(method, players)
    assert set(seen) == {torch.Tensor}
    assert torch.equal(of_array, of_tensor)
    assert_close(of_array, expectation(NUMBERS, 0, NUMBERS.iloc[10:17], lambda x: game(x.to_numpy())))
    assert players.labels[0][1] == f"x1 = {array[0, 1]:g}"
    (of_mean,) = tables(method, array[:1], array[10:17].mean(0))  # one row
    assert_close(of_mean[0], torch.tensor(game(array[10:17].mean(0)[None])[0]))


def test_a_data_frame_keeps_its_dtypes_and_one_series_is_one_row():
    seen = []

    def function(x):
        seen.append(dict(x.dtypes))
        return x["pay"].to_numpy()

    ExactShapleyValues(function).attribute(MIXED.iloc[:1], MIXED.iloc[9:12])
    assert all(dtypes == dict(MIXED.dtypes) for dtypes in seen)
    players = table_players(MIXED.iloc[:1], MIXED.iloc[9])
    assert players.background == ()
    (copy,) = players.decode(players.masked(0, torch.zeros(1, 4, dtype=torch.bool)))
    pd.testing.assert_frame_equal(copy, MIXED.iloc[[9]].reset_index(drop=True))


@pytest.mark.parametrize("form", ["data frame", "array", "tensor"])
def test_the_mean_of_a_table_is_a_background_of_its_own_precision(form):
    rows = pd.DataFrame({"age": [20, 31, 40, 52], "flag": [False, False, False, True]})
    if form == "data frame":
        forward, given, mean = lambda x: (x["age"] + 100.0 * x["flag"]).to_numpy(), rows, rows.mean()
    else:
        forward, given = lambda x: x[:, 0] + 100.0 * x[:, 1], rows.to_numpy(dtype=np.int64)
        mean = given.mean(0)
    if form == "tensor":
        given, mean = torch.tensor(given), torch.tensor(mean)
    players = table_players(given[3:], mean)
    found = AndOrInteraction(forward, score="logit").attribute(players, target=None)[0]
    assert found.v_empty == pytest.approx(35.75 + 25)
    assert found.v_full == 152


def test_a_series_may_leave_a_cell_empty_and_a_category_as_it_is():
    series = MIXED.iloc[1].copy()
    series["age"] = np.nan
    players = table_players(MIXED.iloc[:1], series)
    absent = players.decode(players.masked(0, torch.zeros(1, 4, dtype=torch.bool)))[0]
    assert absent["sex"].dtype == MIXED["sex"].dtype
    assert np.isnan(absent["age"][0])
    assert absent[["job", "pay", "sex"]].iloc[0].tolist() == series[["job", "pay", "sex"]].tolist()
    with pytest.raises(ValueError, match="age are missing"):
        table_players(MIXED.iloc[:1], series.drop("age"))


def test_columns_choose_and_group():
    grouped = table_players(MIXED.iloc[:1], MIXED.iloc[9:12], columns={"person": ["age", "sex"], "pay": "pay"})
    assert grouped.labels == (("person", f"pay = {MIXED['pay'][0]:g}"),)
    (copy,) = grouped.decode(grouped.masked(0, torch.tensor([[False, True]])))
    expected = MIXED.iloc[[0]].assign(age=MIXED["age"][9], sex=MIXED["sex"].iloc[[9]].array)
    pd.testing.assert_frame_equal(copy, expected)  # the job is in no player and stays
    assert table_players(MIXED.iloc[:2], MIXED.iloc[9:12], columns=["pay", 0], show_values=False).labels == (
        ("pay", "age"),
        ("pay", "age"),
    )


def test_the_rows_of_a_background_may_be_those_of_any_input():
    x, rows = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 1.0], [3.0, 3.0]])
    players = players_from_mask(x)
    averaged = type(players)(
        **{name: getattr(players, name) for name in ("inputs", "baselines", "owners", "labels")}, background=(rows,)
    )
    (found,) = tables(AndOrInteraction(lambda x: x.prod(1), score="logit"), averaged)
    assert_close(found, torch.tensor([4.5, 2.0, 3.0, 2.0], dtype=torch.float64))
    with pytest.raises(TypeError, match="must have one baseline"):
        averaged.captum_arguments()
    with pytest.raises(ValueError, match="must take any rows side by side"):
        AndOrInteraction(lambda x: x.prod(), score="logit").attribute(table_players(torch.cat([x, x + 1]), rows))


def test_a_network_takes_columns_of_any_numbers():
    table = MIXED[["age", "pay"]].assign(old=MIXED["age"] > 40, score=pd.array([1, 2] * 30, dtype="Int64"))
    network = nn.Linear(4, 2).eval()
    (found,) = tables(AndOrInteraction(network, score="logit"), table.iloc[[3]], table.iloc[[10]], target=1)
    rows = torch.tensor(table.iloc[[3, 10]].to_numpy(float), dtype=torch.float32)
    expected = network(rows)[:, 1].detach().double()
    torch.testing.assert_close(found[[-1, 0]], expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(TypeError, match=r"an nn\.Module takes columns of numbers; got job, sex of the dtypes"):
        AndOrInteraction(network).attribute(MIXED.iloc[[3]], MIXED.iloc[[10]], target=1)


@pytest.mark.parametrize("cells", [["a", 1], ["a", "b"], [1, None]])
def test_an_array_of_objects_or_text_is_refused_by_name(cells):
    array = np.array([cells], dtype=None if cells == ["a", "b"] else object)
    with pytest.raises(TypeError, match=r"rows must be an array of numbers; got an array .*Give text and categories"):
        table_players(array, array)


# ---------------------------------------------------------------- boosters, where they are installed


@pytest.mark.parametrize("package", ["lightgbm", "xgboost"])
def test_boosters(package):
    module = pytest.importorskip(package, reason=f"{package} is not installed, and nothing here depends on it")
    rows, background = NUMBERS.iloc[[3]], NUMBERS.iloc[10:17]
    options = {"n_estimators": 5, "min_child_samples": 2} if package == "lightgbm" else {"n_estimators": 5}
    make, booster = (
        (module.LGBMClassifier, "booster_") if package == "lightgbm" else (module.XGBClassifier, "get_booster")
    )
    model = make(**options, verbosity=0 if package == "xgboost" else -1).fit(NUMBERS, THREE > 0)
    (found,) = tables(AndOrInteraction(model), rows, background, target=1)
    assert_close(
        found, expectation(rows, 0, background, lambda x: log_odds(model.predict_proba(x)[:, 1])), atol=1e-4, rtol=1e-4
    )
    native = getattr(model, booster)
    native = native() if callable(native) else native
    (plain,) = tables(AndOrInteraction(native), rows, background)
    assert_close(plain, expectation(rows, 0, background, lambda x: model.predict_proba(x)[:, 1]), atol=1e-6, rtol=1e-6)


# ---------------------------------------------------------------- errors


def test_a_probability_of_0_says_the_way_out():
    forest = RandomForestClassifier(5, random_state=0).fit(NUMBERS, THREE)
    with pytest.raises(ValueError, match="probability 0 or 1 here, whose log-odds are infinite: give score='prob'"):
        AndOrInteraction(forest).attribute(NUMBERS.iloc[:2], NUMBERS.iloc[10:17], target=0)


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (MultiOutputClassifier(GaussianNB()).fit(NUMBERS, np.c_[THREE, THREE]), "must return an array of numb"),
        (OneVsRestClassifier(GaussianNB()).fit(NUMBERS, np.c_[THREE > 0, THREE > 0]), "must add up to 1 in each row"),
        (OneVsRestClassifier(LinearSVC()).fit(NUMBERS, np.c_[THREE > 0, THREE > 1]), "the classes.* of several labels"),
        (SVC(decision_function_shape="ovo").fit(NUMBERS, THREE), "the classes.* of pairs"),
        (make_pipeline(StandardScaler(), SVC(decision_function_shape="ovo")).fit(NUMBERS, THREE), "of pairs"),
        (KMeans(2, n_init=1, random_state=0).fit(NUMBERS), "predict returns int32, as of labels"),
    ],
    ids=[
        "several outputs",
        "several labels",
        "several labels' numbers",
        "pairs of classes",
        "pairs in a pipeline",
        "clusters",
    ],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_what_an_estimator_returns_is_checked(estimator, message):
    with pytest.raises((TypeError, ValueError), match=message):
        AndOrInteraction(estimator).attribute(NUMBERS.iloc[:1], NUMBERS.iloc[10:17], target=0)


def test_the_class_that_an_estimator_predicts_is_its_own():
    """A threshold, or the votes of pairs, may choose another class than that of the largest column."""
    wanted = THREE > 1
    strict = FixedThresholdClassifier(LogisticRegression(), threshold=0.1).fit(NUMBERS, wanted)
    tuned = TunedThresholdClassifierCV(LogisticRegression(), scoring="recall").fit(NUMBERS, wanted)
    names = np.array(["c", "a", "b"])[THREE]
    for model in (strict, tuned, SVC().fit(NUMBERS, names), RidgeClassifier().fit(NUMBERS, names)):
        rows = NUMBERS.iloc[:25]
        found = plain(model).attribute(rows, NUMBERS.iloc[30:32], target="predicted")
        own = model.predict(rows)
        assert [one.provenance["explained"].split(" (")[0] for one in found] == list(map(str, own))
        assert [one.provenance["target"] for one in found] == [list(model.classes_).index(label) for label in own]
        assert all(one.about.predicted for one in found)
    chances = strict.predict_proba(NUMBERS.iloc[:25])
    assert (chances.argmax(1) != strict.predict(NUMBERS.iloc[:25])).any()  # else nothing was told apart
    strange = type("Strange", (), {"predict": lambda self, x: ["d"] * len(x), "classes_": ["a", "b"]})
    strange.predict_proba = lambda self, x: np.full((len(x), 2), 0.5)
    with pytest.raises(ValueError, match=r"Strange\.predict must return one of its classes_, a, b; got 'd'"):
        plain(strange()).attribute(NUMBERS.iloc[:2], NUMBERS.iloc[3:5], target="predicted")


def test_none_of_several_plain_values_is_predicted():
    model = LinearRegression().fit(NUMBERS, NUMBERS.iloc[:, :2])
    rows, background = NUMBERS.iloc[:2], NUMBERS.iloc[3:5]
    with pytest.raises(ValueError, match=r"of the plain values float64 \[2, 2\] that LinearRegression.* target=0 to 1"):
        plain(model).attribute(rows, background, target="predicted")
    (found, _) = plain(model).attribute(rows, background, target=1)
    assert not found.about.predicted


def test_other_estimators():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        outliers = IsolationForest(n_estimators=5, random_state=0).fit(NUMBERS.to_numpy())
        rows, background = NUMBERS.iloc[[3]], NUMBERS.iloc[10:17]
        (found,) = tables(AndOrInteraction(outliers), rows.to_numpy(), background.to_numpy())
        assert_close(found, expectation(rows, 0, background, lambda x: outliers.decision_function(x.to_numpy())))
    labels = type("Labels", (), {"predict": lambda self, x: x, "classes_": np.array([0, 1])})()
    with pytest.raises(TypeError, match="has predict alone, whose labels are not numbers"):
        AndOrInteraction(labels)
    with pytest.raises(TypeError, match=r"must be an nn\.Module, a function or an estimator; got a dict"):
        AndOrInteraction({})


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((MIXED, None), TypeError, "background must be a data frame, as the rows are"),
        ((MIXED, MIXED[["age"]]), ValueError, "job, pay, sex are missing"),
        ((MIXED.iloc[:0], MIXED), ValueError, "at least one row each; got 0 and 60"),
        ((MIXED, MIXED.assign(sex=MIXED["sex"].cat.add_categories("d"))), ValueError, "same categories"),
        ((pd.DataFrame([[1, 2]], columns=["a", "a"]),) * 2, ValueError, "columns of different names; got a, a"),
        ((np.ones((1, 2)), np.ones((3, 4))), TypeError, r"got an array float64 \[3, 4\]"),
        ((np.ones((1, 2)), MIXED), TypeError, "got a DataFrame"),
        ((np.ones(2), np.ones(2)), TypeError, r"an array or a tensor \[B, F\]; got an array float64 \[2\]"),
    ],
)
def test_tables_that_do_not_fit(arguments, error, message):
    with pytest.raises(error, match=message):
        table_players(*arguments)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"columns": ["rank"]}, ValueError, "columns has 'rank', which is not a column; there are age, job"),
        ({"columns": []}, ValueError, "got none"),
        ({"columns": ["age", "age"]}, ValueError, "each column once; got age twice"),
        ({"columns": "age"}, TypeError, "columns must be a list of columns"),
        ({"names": ["a"]}, TypeError, "names must be None for a data frame"),
    ],
)
def test_options_that_do_not_fit(options, error, message):
    with pytest.raises(error, match=message):
        table_players(MIXED.iloc[:1], MIXED, **options)


def test_a_table_without_a_background_is_refused():
    with pytest.raises(TypeError, match="baselines must be a background for a DataFrame"):
        AndOrInteraction(LinearSVC().fit(NUMBERS, THREE)).attribute(NUMBERS.iloc[:1])
    with pytest.raises(ValueError, match="feature_mask must be None for a table"):
        AndOrInteraction(len).attribute(NUMBERS.iloc[:1], NUMBERS, feature_mask=torch.zeros(3, dtype=torch.int64))
