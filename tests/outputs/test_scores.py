import functools
import math
import pickle
import warnings
from decimal import Decimal, localcontext

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from captum_lkn import AndOrInteraction, KnowledgeChange, average_baselines
from captum_lkn.outputs import scores
from captum_lkn.outputs.code import code_of
from captum_lkn.outputs.probabilities import (
    looks_like_labels,
    looks_like_probabilities,
    refuse_probabilities,
    unit_of,
)
from captum_lkn.outputs.score import Score
from captum_lkn.outputs.scores import SCORES, binary_log_odds, log_odds, log_prob, logit, margin, prob, resolve_score

OF_LOGITS = [log_odds, log_prob, prob]
OF_COLUMNS = [score for score in SCORES.values() if not score.binary]


def name_of(score):
    return getattr(score, "name", None)


HALVES = [torch.bfloat16, torch.float16]


def rows(*values):
    return torch.tensor(values, dtype=torch.float64)


def decimal_scores(z, y):
    """Log-odds, log-probability and probability at 300 digits, by their definitions."""
    with localcontext() as context:
        context.prec = 300  # p may lie e^-400 below 1
        p = [Decimal(x).exp() for x in z]
        own, others = p[y], sum(p[:y] + p[y + 1 :], Decimal(0))
        total = own + others
        return float((own / others).ln()), float((own / total).ln()), float(own / total)


@st.composite
def logits(draw, low=-30.0, high=30.0, min_columns=2, max_columns=6):
    z = draw(st.lists(st.floats(low, high), min_size=min_columns, max_size=max_columns))
    y = draw(st.integers(0, len(z) - 1))
    return rows(z), torch.tensor([y])


# ---------------------------------------------------------------- by hand


def test_scores_by_hand():
    # Odds 1 : 2 : 4, so that p = 1/7, 2/7, 4/7.
    z, y = rows(*[[0.0, math.log(2), math.log(4)]] * 3), torch.tensor([0, 1, 2])
    assert log_odds(z, y).tolist() == pytest.approx([math.log(1 / 6), math.log(2 / 5), math.log(4 / 3)])
    assert logit(z, y).tolist() == [0.0, math.log(2), math.log(4)]
    assert log_prob(z, y).tolist() == pytest.approx([math.log(1 / 7), math.log(2 / 7), math.log(4 / 7)])
    assert prob(z, y).tolist() == pytest.approx([1 / 7, 2 / 7, 4 / 7])
    assert margin(z, y).tolist() == pytest.approx([-math.log(4), -math.log(2), math.log(2)])


def test_one_column_is_read_as_it_is():
    z, y = rows([2.0], [-3.0]), torch.tensor([0, 0])
    for score in (log_odds, logit, margin):
        assert score(z, y).tolist() == [2.0, -3.0]
    assert prob(z, y).tolist() == pytest.approx([1 / (1 + math.exp(-2)), 1 / (1 + math.exp(3))])
    assert log_prob(z, y).tolist() == pytest.approx([-math.log1p(math.exp(-2)), -3 - math.log1p(math.exp(-3))])


def test_one_column_tells_two_classes_apart_where_the_user_says_so():
    z = rows([2.0], [-3.0], [2.0], [-3.0])
    assert binary_log_odds(z, torch.tensor([1, 1, 0, 0])).tolist() == [2.0, -3.0, -2.0, 3.0]


def test_a_binary_head_equals_the_softmax_head_that_has_a_column_of_zeros():
    z, y = torch.randn(20, 1, dtype=torch.float64), torch.arange(20) % 2
    two = torch.cat([torch.zeros_like(z), z], dim=1)
    torch.testing.assert_close(binary_log_odds(z, y), log_odds(two, y), rtol=1e-14, atol=0)


# ---------------------------------------------------------------- against other computations


@given(logits(-200, 200))
def test_softmax_scores_equal_their_definitions_at_three_hundred_digits(case):
    z, y = case
    odds, log_p, p = decimal_scores(z[0].tolist(), int(y))
    assert log_odds(z, y).item() == pytest.approx(odds, rel=1e-13, abs=1e-13)
    assert log_prob(z, y).item() == pytest.approx(log_p, rel=1e-12, abs=0)
    assert prob(z, y).item() == pytest.approx(p, rel=1e-12, abs=0)


@given(logits(-8, 8))
def test_log_odds_is_log_p_less_log_of_one_minus_p(case):
    z, y = case
    p = z.softmax(1)[0, int(y)]
    assert log_odds(z, y).item() == pytest.approx(float(p.log() - (-p).log1p()), abs=1e-8)
    assert log_prob(z, y).item() == pytest.approx(float(z.log_softmax(1)[0, int(y)]), abs=1e-13)


@given(logits(), st.floats(-1000, 1000))
def test_a_shift_of_all_logits_changes_the_logit_only(case, shift):
    z, y = case
    for score in (log_odds, log_prob, prob):
        same = score(z + shift, y)
        torch.testing.assert_close(same, score(z, y), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(margin(z + shift, y), margin(z, y), rtol=0, atol=1e-9)
    torch.testing.assert_close(logit(z + shift, y), logit(z, y) + shift, rtol=0, atol=1e-9)


@given(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4))
def test_log_odds_of_two_classes_is_the_difference(first, second):
    z = rows([first, second])
    assert log_odds(z, torch.tensor([1])).item() == second - first
    assert margin(z, torch.tensor([1])).item() == second - first


@given(logits())
def test_log_odds_lies_below_the_margin_by_at_most_log_of_the_other_classes(case):
    z, y = case
    gap = (margin(z, y) - log_odds(z, y)).item()
    assert -1e-12 <= gap <= math.log(z.shape[1] - 1) + 1e-12


@given(logits(), st.randoms(use_true_random=False))
def test_the_order_of_the_classes_does_not_matter(case, random):
    z, y = case
    order = list(range(z.shape[1]))
    random.shuffle(order)
    moved, place = z[:, order], torch.tensor([order.index(int(y))])
    for score in (log_odds, log_prob, prob):
        torch.testing.assert_close(score(moved, place), score(z, y))
    assert margin(moved, place) == margin(z, y)


# ---------------------------------------------------------------- saturation, infinities, dtypes


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_saturated_logits_give_exact_values(dtype):
    z = torch.tensor([[1e4, -1e4, -1e4], [-1e4, 1e4, -1e4], [1e4, 1e4, -1e4]], dtype=dtype)
    big = z[0, 0].item()  # 9984 in bfloat16
    y = torch.tensor([0, 0, 0])
    assert log_odds(z, y).tolist() == [2 * big - math.log(2), -2 * big, 0.0]
    assert log_prob(z, y).tolist() == [0.0, -2 * big, -math.log(2)]
    assert prob(z, y).tolist() == [1.0, 0.0, 0.5]
    assert margin(z, y).tolist() == [2 * big, -2 * big, 0.0]
    assert binary_log_odds(z[:, :1], y).tolist() == [-big, big, -big]


def test_a_confident_network_still_has_a_log_probability():
    z, y = rows([50.0, 0.0]), torch.tensor([0])
    assert log_prob(z, y).item() == pytest.approx(-math.exp(-50), rel=1e-12)
    assert z.log_softmax(1)[0, 0] == 0  # which is why it is not used


def test_classes_masked_by_minus_infinity_do_not_count():
    inf = math.inf
    z, y = rows([1.0, 3.0, -inf], [1e4, -1e4, -inf]), torch.tensor([0, 0])
    for score in (log_odds, log_prob, prob, margin):
        torch.testing.assert_close(score(z, y), score(z[:, :2], y), rtol=0, atol=0)


def test_a_certain_class_has_infinite_log_odds_and_no_nan():
    inf = math.inf
    z, y = rows([1.0, -inf], [-inf, 1.0]), torch.tensor([0, 0])
    assert log_odds(z, y).tolist() == [inf, -inf]
    assert margin(z, y).tolist() == [inf, -inf]
    assert log_prob(z, y).tolist() == [0.0, -inf]
    assert prob(z, y).tolist() == [1.0, 0.0]


@pytest.mark.parametrize("score", OF_COLUMNS, ids=name_of)
@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, *HALVES])
def test_the_output_is_cast_before_the_score_is_computed(score, dtype):
    z, y = (torch.randn(9, 4) * 5).to(dtype), torch.arange(9) % 4
    found = score(z, y)
    assert found.dtype == torch.float64
    assert torch.equal(found, score(z.double(), y))


@pytest.mark.parametrize("score", OF_COLUMNS, ids=name_of)
def test_a_row_does_not_depend_on_its_batch_mates(score):
    z, y = torch.randn(201, 3) * 4, torch.arange(201) % 3  # no multiple of what a vector unit takes at once
    alone = torch.cat([score(z[i : i + 1], y[i : i + 1]) for i in range(len(z))])
    assert torch.equal(score(z, y), alone)


@pytest.mark.parametrize("score", OF_COLUMNS, ids=name_of)
def test_scores_are_pure(score):
    z, y = torch.randn(3, 4), torch.tensor([0, 1, 2], dtype=torch.int32)
    before = z.clone(), y.clone()
    score(z, y)
    assert torch.equal(z, before[0])
    assert torch.equal(y, before[1])


@pytest.mark.parametrize("score", OF_COLUMNS, ids=name_of)
def test_scores_are_differentiable(score):
    z = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: score(z, torch.tensor([0, 1, 2, 0, 1])), z)


@pytest.mark.parametrize("score", OF_COLUMNS, ids=name_of)
def test_no_rows_give_no_scores(score):
    assert score(torch.empty(0, 3), torch.empty(0, dtype=torch.int64)).shape == (0,)


# ---------------------------------------------------------------- probabilities


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, *HALVES])
@pytest.mark.parametrize("columns", [2, 7, 1000])
def test_probabilities_are_recognised_in_every_dtype(dtype, columns):
    generator = torch.Generator().manual_seed(columns)
    z = torch.randn(50, columns, generator=generator) * 4
    assert looks_like_probabilities(z.softmax(1).to(dtype))
    assert not looks_like_probabilities(z.to(dtype))
    assert not looks_like_probabilities(z.sigmoid().to(dtype))


@pytest.mark.parametrize(
    "output",
    [
        rows([0.3, 0.7], [1.0, 2.0]),  # one row of logits among probabilities
        rows([0.3, 0.7], [1.5, -0.5]),  # sums to 1, not nonnegative
        rows([0.3, 0.701]),
        rows([math.nan, 1.0]),
        rows([1.0], [1.0]),
        torch.empty(0, 2),
    ],
)
def test_logits_are_not_taken_for_probabilities(output):
    assert not looks_like_probabilities(output)


@pytest.mark.parametrize(
    "output",
    [
        rows([0.3, 0.7], [1.0, 2.0]),
        rows([0.3, -0.1]),
        rows([math.nan, 1.0]),
        rows([1.0], [1.0]),
        torch.empty(0, 2),
        rows([0, 1]).long(),
    ],
)
def test_logits_are_not_taken_for_labels(output):
    assert not looks_like_labels(output)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, *HALVES])
def test_labels_are_recognised_in_every_dtype(dtype):
    z = torch.randn(50, 7, generator=torch.Generator().manual_seed(0)) * 20
    assert looks_like_labels(z.sigmoid().to(dtype))
    assert not looks_like_labels(z.to(dtype))


@pytest.mark.parametrize("score", OF_LOGITS, ids=name_of)
def test_a_score_of_logits_refuses_probabilities_with_advice(score):
    p = torch.randn(4, 3).softmax(1)
    with pytest.raises(ValueError, match=rf'score="{score.name}" reads logits.*float32 \[4, 3\].*4 rows') as error:
        refuse_probabilities(score, p)
    for advice in ("final softmax", 'score="logit"', "log(p) - log1p(-p)", f"target: {score.name}(output, target)"):
        assert advice in str(error.value)
    refuse_probabilities(score, p.log())


@pytest.mark.parametrize(
    "score", [*OF_LOGITS, *(score.for_outputs("labels") for score in OF_LOGITS)], ids=lambda s: f"{s.name} {s.reads}"
)
def test_a_score_of_logits_refuses_probabilities_of_labels(score):
    p = torch.linspace(0.05, 1, 12).reshape(4, 3)
    with pytest.raises(ValueError, match=rf'score="{score.name}" reads logits.*4 rows, all within 0 and 1.*sigmoid'):
        refuse_probabilities(score, p)
    with pytest.warns(UserWarning, match=r"takes the output float32 \[3, 3\] for logits.*9 different numbers"):
        refuse_probabilities(score, p[:3])  # so few may be logits, within 0 and 1 by chance
    refuse_probabilities(score, torch.cat([p, torch.tensor([[0.2, 0.9, -0.1]])]))
    refuse_probabilities(score, p, linear=True)
    refuse_probabilities(score, p.log() - (-p).log1p())


ONE_LABEL = torch.linspace(0.05, 1, 12)[:, None]


@pytest.mark.parametrize("score", [log_prob, prob, binary_log_odds], ids=name_of)
def test_one_column_as_behind_a_sigmoid_is_refused_where_only_a_logit_makes_sense(score):
    said = (
        rf'score="{score.name}" reads logits.*\[12, 1\] is probabilities.*within 0 and 1.*final sigmoid.*score="logit"'
    )
    with pytest.raises(ValueError, match=said):
        refuse_probabilities(score, ONE_LABEL)


@pytest.mark.parametrize(
    ("score", "output"),
    [
        (log_odds, ONE_LABEL),  # of a regression it is the value
        *((score, ONE_LABEL[1:]) for score in (log_odds, prob, binary_log_odds)),
        *((score, ONE_LABEL[:2]) for score in (log_odds, prob, binary_log_odds)),  # one player: perhaps by chance
        *((score, ONE_LABEL[:1]) for score in (log_odds, prob, binary_log_odds)),
    ],
    ids=lambda x: x.name if isinstance(x, Score) else str(len(x)),
)
def test_one_column_within_0_and_1_that_may_be_right_is_read_with_a_warning(score, output):
    with pytest.warns(UserWarning, match=rf'score="{score.name}" takes the one column .*, 1\] for a logit'):
        refuse_probabilities(score, output)


@pytest.mark.parametrize("score", [*OF_LOGITS, binary_log_odds], ids=name_of)
def test_one_column_of_logits_or_of_levels_is_read(score):
    p = ONE_LABEL
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for other in (p - 1, p.round(), torch.cat([p, p.new_tensor([[1.5]])]), p.new_empty(0, 1), p[[0, 11]]):
            refuse_probabilities(score, other)
        refuse_probabilities(score, p, linear=True)
    refuse_probabilities(logit, p)
    refuse_probabilities(log_odds.for_outputs("values"), p)


@pytest.mark.parametrize(
    "output", [torch.tensor([[0.2, 0.8]]), torch.tensor([[0.9, 0.8]]), ONE_LABEL], ids=["softmax", "sigmoid", "one"]
)
def test_probabilities_as_they_are_have_not_the_unit_of_logits(output):
    assert unit_of(logit, output) == unit_of(margin, output) == ""
    assert unit_of(logit, 3 * output) == "logit"
    own = Score("own", lambda output, target: output[:, 0].log(), "values", "nats")
    assert unit_of(own, output) == "nats"


def test_numbers_of_a_linear_layer_are_logits():
    assert unit_of(logit, ONE_LABEL, linear=True) == "logit"


def test_the_advice_for_probabilities_works():
    z = torch.randn(6, 3, dtype=torch.float64)
    y = torch.arange(6) % 3
    p = z.softmax(1)

    def of_probabilities(output, target):
        p = output.gather(1, target[:, None]).squeeze(1)
        return torch.log(p) - torch.log1p(-p)

    own = resolve_score(of_probabilities)
    refuse_probabilities(own, p)
    torch.testing.assert_close(own(p, y), log_odds(z, y))
    torch.testing.assert_close(logit(p, y), prob(z, y))
    forced = resolve_score(lambda output, target: log_odds(output, target))
    refuse_probabilities(forced, p)
    assert torch.equal(forced(p, y), log_odds(p, y))


@pytest.mark.parametrize("score", [logit, margin, lambda output, target: output[:, 0]], ids=name_of)
def test_other_scores_take_probabilities(score):
    p = torch.randn(4, 3).softmax(1)
    resolved = resolve_score(score)
    refuse_probabilities(resolved, p)
    assert resolved(p, torch.tensor([0, 1, 2, 0])).shape == (4,)


@pytest.mark.parametrize("score", OF_LOGITS, ids=name_of)
def test_log_probabilities_are_logits(score):
    z, y = torch.randn(5, 3, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1])
    torch.testing.assert_close(score(z.log_softmax(1), y), score(z, y))


# ---------------------------------------------------------------- finding a score, and calling one


def test_every_score_is_found_by_name():
    assert list(SCORES) == ["log_odds", "logit", "log_prob", "prob", "margin", "binary_log_odds"]
    for name, score in SCORES.items():
        assert resolve_score(name) is score
        assert resolve_score(score) is score
        assert score.name == name
        assert getattr(scores, name) is score
    with pytest.raises(TypeError):
        SCORES["mine"] = logit


def test_every_score_says_what_it_reads_and_its_unit():
    assert {score.name: (score.reads, score.unit) for score in SCORES.values()} == {
        "log_odds": ("classes", "log-odds"),
        "logit": ("values", "logit"),
        "log_prob": ("classes", "nats"),
        "prob": ("classes", "probability"),
        "margin": ("row", "logit"),
        "binary_log_odds": ("binary", "log-odds"),
    }


class First:
    def __call__(self, output, target):
        return output[:, 0]


@pytest.mark.parametrize(
    ("score", "name"),
    [
        (First(), "First"),
        (torch.nn.Flatten(0), "Flatten"),
        (lambda output, target: output[:, 0], "<lambda>"),
        (functools.partial(lambda output, target, at: output[:, at], at=0), "<lambda>"),
    ],
    ids=["object", "module", "lambda", "partial"],
)
def test_a_callable_is_wrapped_and_has_a_name(score, name):
    assert resolve_score(score) == Score(name, score, reads="row", unit="")


@pytest.mark.parametrize("score", SCORES.values(), ids=name_of)
@pytest.mark.parametrize("depth", [1, 2])
def test_a_partial_of_a_named_score_stays_that_score(score, depth):
    partial = score
    for _ in range(depth):
        partial = functools.partial(partial)
    found = resolve_score(partial)
    assert (found.name, found.reads, found.unit) == (score.name, score.reads, score.unit)
    z, y = torch.randn(4, 1 if score.binary else 3), torch.tensor([0, 1, 0, 1])
    assert torch.equal(found(z, y), score(z, y))
    alone = torch.cat([found.for_outputs("labels")(z[i : i + 1], y[i : i + 1]) for i in range(4)])
    assert torch.equal(score.for_outputs("labels")(z, y), alone)


@pytest.mark.parametrize("score", SCORES.values(), ids=name_of)
def test_scores_are_pickled_and_compared(score):
    values = [score.for_outputs("values")] if score.in_output_units else []
    for one in (score, score.for_outputs("labels"), *values):
        again = pickle.loads(pickle.dumps(one))
        z, y = torch.randn(4, 1 if score.binary else 3), torch.tensor([0, 1, 0, 1])
        assert (again.name, again.reads, again.unit) == (one.name, one.reads, one.unit)
        assert torch.equal(again(z, y), one(z, y))
    assert pickle.loads(pickle.dumps(score)) == score


@pytest.mark.parametrize(
    ("name", "kind", "reads", "unit", "value"),
    [
        ("log_odds", "classes", "classes", "log-odds", -2.0),
        ("log_odds", "labels", "labels", "log-odds", 1.0),
        ("log_odds", "values", "values", "", 1.0),
        ("log_prob", "labels", "labels", "nats", -math.log1p(math.exp(-1))),
        ("prob", "labels", "labels", "probability", 1 / (1 + math.exp(-1))),
        ("logit", "labels", "values", "logit", 1.0),
        ("logit", "values", "values", "", 1.0),
        ("margin", "labels", "row", "logit", -2.0),
        ("margin", "values", "row", "", -2.0),
    ],
)
def test_a_score_for_what_a_model_returns(name, kind, reads, unit, value):
    found = SCORES[name].for_outputs(kind)
    called = "value" if (name, kind) == ("log_odds", "values") else name
    assert (found.name, found.reads, found.unit) == (called, reads, unit)
    assert found(rows([1.0, 3.0]), torch.tensor([0])).item() == pytest.approx(value)


@pytest.mark.parametrize(
    "score",
    [log_prob, prob, binary_log_odds, functools.partial(prob), Score("own", prob.function, "classes")],
    ids=["log_prob", "prob", "binary_log_odds", "partial", "own"],
)
def test_a_regression_has_no_probability(score):
    said = r'reads logits, and the model returns plain values: .* a regression\. Give score="logit"'
    with pytest.raises(ValueError, match=said):
        resolve_score(score).for_outputs("values")


def bits_of(output, target):
    return output.log_softmax(1).gather(1, target[:, None]).squeeze(1) / math.log(2)


BITS = Score("bits", bits_of, "classes", "bits")


def test_a_score_of_classes_of_ones_own_is_the_same_of_a_label_as_of_two_classes():
    z = torch.randn(8, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = torch.arange(8) % 3
    own = z[torch.arange(8), y]
    expected = own.sigmoid().log2()
    torch.testing.assert_close(BITS.for_outputs("labels")(z, y), expected)
    torch.testing.assert_close(BITS(own[:, None], torch.zeros(8, dtype=torch.int64)), expected)
    partial = resolve_score(functools.partial(BITS))
    torch.testing.assert_close(partial(own[:, None], torch.zeros(8, dtype=torch.int64)), expected)
    torch.testing.assert_close(BITS(z, y), z.log_softmax(1)[torch.arange(8), y] / math.log(2))


@pytest.mark.parametrize("score", [*OF_LOGITS, BITS], ids=name_of)
@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        (torch.tensor([0, 5]), ValueError, r"target must be 0 to 1 for the output \[2, 2\]; got 0 to 5"),
        (torch.tensor([-1, 0]), ValueError, "got -1 to 0"),
        (torch.tensor([0.0, 1.0]), TypeError, r"target must be integers; got float32 \[2\]. Convert it"),
        (torch.tensor([0]), ValueError, r"one entry a row of the output \[2, 2\], \[2\]; got \[1\]"),
        (1, TypeError, r"target must be an integer tensor \[B\]; got a int"),
    ],
)
def test_targets_of_labels_are_checked(score, target, error, message):
    with pytest.raises(error, match=message):
        score.for_outputs("labels")(torch.ones(2, 2), target)


def test_a_score_of_ones_own_keeps_its_unit():
    celsius = Score("temperature", lambda output, target: output[:, 0], "values", "degrees")
    assert celsius.for_outputs("values") is celsius


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((3, len), TypeError, "name must be a str; got a int"),
        (("mine", len, "values", None), TypeError, "unit must be a str; got a NoneType"),
        (("mine", len, "values", "", 1), TypeError, "in_output_units must be True or False; got a int"),
        (("mine", "log_odds"), TypeError, r"function must be a callable \(output.*got a str"),
        (
            ("mine", len, "logits"),
            ValueError,
            "reads must be one of 'classes', 'labels', 'binary', 'values', 'row'; got",
        ),
    ],
)
def test_a_score_that_cannot_be_made(arguments, error, message):
    with pytest.raises(error, match=message):
        Score(*arguments)


@pytest.mark.parametrize(("given", "meant"), [("logodds", "log_odds"), ("Logit", "logit"), ("log-prob", "log_prob")])
def test_an_unknown_score_is_answered_with_close_names(given, meant):
    with pytest.raises(ValueError, match=rf"score must be one of .*; got '{given}'\. Did you mean .*'{meant}'.*\?$"):
        resolve_score(given)


def test_a_score_that_resembles_none_is_answered_with_the_list():
    with pytest.raises(ValueError, match=r"score must be one of log_odds, logit, .*or a callable.*; got 'zzz'\.$"):
        resolve_score("zzz")


@pytest.mark.parametrize(("score", "kind"), [(None, "a NoneType"), (3, "a int"), (torch.ones(2), r"float32 \[2\]")])
def test_what_is_neither_a_name_nor_callable_is_refused(score, kind):
    with pytest.raises(TypeError, match=f"score must be one of log_odds, .*or a callable.*got {kind}"):
        resolve_score(score)


def test_a_callable_gets_the_output_as_it_is_and_its_result_becomes_float64():
    seen = {}

    def score(output, target):
        seen.update(output=output, target=target)
        return output.argmax(1)

    z, y = torch.randn(3, 2, dtype=torch.bfloat16), torch.tensor([0, 1, 0])
    found = resolve_score(score)(z, y)
    assert seen["output"] is z
    assert seen["target"] is y
    assert found.dtype == torch.float64
    assert found.tolist() == z.argmax(1).tolist()


def test_a_callable_may_be_unhashable():
    class Unhashable(First):
        __hash__ = None

    assert resolve_score(Unhashable())(rows([1.0, 2.0]), torch.tensor([0])).tolist() == [1.0]


@pytest.mark.parametrize(
    ("returned", "error", "message"),
    [
        (1.5, TypeError, r"returned a float; expected real numbers, \[2\].*as a tensor"),
        (None, TypeError, r"returned a NoneType; expected"),
        (torch.ones(2, dtype=torch.bool), TypeError, r"returned bool \[2\].*convert them"),
        (torch.ones(2, dtype=torch.complex64), TypeError, r"returned complex64 \[2\].*convert them"),
        (
            torch.ones(2, 3),
            ValueError,
            r"returned float32 \[2, 3\].*one a row of the output \[2, 3\]: reduce",
        ),
        (torch.ones(2, 1), ValueError, r"returned float32 \[2, 1\].*take .squeeze\(1\)"),
        (
            torch.tensor(1.0),
            ValueError,
            r"returned float32 \[\].*expected real numbers, \[2\].*reduce each row",
        ),
        (torch.ones(3), ValueError, r"returned float32 \[3\]"),
    ],
)
def test_what_a_callable_returns_is_checked(returned, error, message):
    def mine(output, target):
        return returned

    with pytest.raises(error, match=f"score mine {message}"):
        resolve_score(mine)(torch.zeros(2, 3), torch.tensor([0, 0]))


def test_an_error_inside_a_callable_arrives_as_it_is():
    def mine(output, target):
        raise KeyError("weights")

    with pytest.raises(KeyError, match="weights"):
        resolve_score(mine)(torch.zeros(2, 3), torch.tensor([0, 0]))


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize("score", OF_COLUMNS, ids=name_of)
@pytest.mark.parametrize(
    ("output", "target", "error", "message"),
    [
        ([[1.0, 2.0]], torch.tensor([0]), TypeError, r"output must be a tensor \[B, C\]; got a list"),
        (
            torch.ones(1, 2) > 0,
            torch.tensor([0]),
            TypeError,
            r"output must be real numbers; got bool \[1, 2\]",
        ),
        (torch.ones(1, 2) * 1j, torch.tensor([0]), TypeError, "output must be real numbers; got complex64"),
        (torch.ones(2), torch.tensor([0, 0]), ValueError, r"output must be \[B, C\].*got \[2\]"),
        (torch.ones(2, 0), torch.tensor([0, 0]), ValueError, r"with a column at least; got \[2, 0\]"),
        (torch.ones(1, 2), 0, TypeError, r"target must be an integer tensor \[B\]; got a int"),
        (
            torch.ones(1, 2),
            torch.tensor([0.0]),
            TypeError,
            r"target must be integers; got float32 \[1\]. .*long",
        ),
        (torch.ones(1, 2), torch.tensor([True]), TypeError, r"target must be integers; got bool \[1\]"),
        (
            torch.ones(2, 2),
            torch.tensor([0]),
            ValueError,
            r"target must have one entry a row of the output \[2, 2\], \[2\]; got \[1\]",
        ),
        (
            torch.ones(2, 2),
            torch.tensor([0, 2]),
            ValueError,
            r"target must be 0 to 1 for the output .*; got 0 to 2",
        ),
        (torch.ones(2, 2), torch.tensor([-1, 1]), ValueError, r"got -1 to 1"),
        (torch.ones(1, 1), torch.tensor([1]), ValueError, r"target must be 0 for the output \[1, 1\]; got 1 to 1$"),
    ],
)
def test_operands_that_do_not_fit_are_refused(score, output, target, error, message):
    with pytest.raises(error, match=message):
        score(output, target)


def test_a_binary_head_has_one_column_and_two_classes():
    with pytest.raises(ValueError, match=r'needs an output with one column; got float32 \[1, 2\].*"log_odds"'):
        binary_log_odds(torch.ones(1, 2), torch.tensor([0]))
    with pytest.raises(ValueError, match=r"target must be 0 to 1 for the output \[1, 1\]; got 2 to 2"):
        binary_log_odds(torch.ones(1, 1), torch.tensor([2]))


@pytest.mark.parametrize(
    "check", [looks_like_probabilities, lambda output: refuse_probabilities(prob, output)], ids=["look", "refuse"]
)
def test_probabilities_are_looked_for_in_rows(check):
    with pytest.raises(ValueError, match=r"output must be \[B, C\]"):
        check(torch.ones(3))
    with pytest.raises(TypeError, match="output must be a tensor"):
        check([[0.5, 0.5]])


def test_functions_of_one_name_are_told_apart_by_their_code():
    def column(k):
        return lambda z, y: z[:, k]

    def named(z, y, scale=1.0):
        return scale * z[:, 0]

    first = named

    def named(z, y, scale=2.0):
        return scale * z[:, 0]

    weights = torch.ones(3), torch.tensor([1.0, 1.0, 2.0])
    weighted = [lambda z, y, w=w: z @ w for w in weights]
    several = [
        *(column(k) for k in (0, 1)),
        *(first, named, *weighted),
        functools.partial(named, scale=3.0),
        (lambda z, y: z[:, 0] ** 2),
        (lambda z, y: z[:, 0] ** 3),
        type("Own", (), {"__call__": lambda self, z, y: z[:, 0]})(),
    ]
    assert len({code_of(function) for function in several}) == len(several)
    assert code_of(column(1)) == code_of(column(1))
    assert code_of(functools.partial(named, scale=3.0)) == code_of(functools.partial(named, scale=3.0))
    for score in SCORES.values():
        assert code_of(score) == code_of(score.for_outputs("labels").function) == ""
    assert code_of(Score("own", several[0])) == code_of(several[0]) != ""


def test_results_of_two_scores_of_one_name_are_not_compared():
    x, forward = torch.tensor([[1.0, 2.0]]), lambda x: torch.stack([x[:, 0], x.prod(1)], 1)

    def found(score):
        return AndOrInteraction(forward, score=score, noise=0, kind="and").attribute(x, target=0)

    first, again, other = (found(score) for score in [lambda z, y: z[:, 0], lambda z, y: z[:, 0], lambda z, y: z[:, 1]])
    assert len(average_baselines([first, again])) == 1
    with pytest.raises(ValueError, match=r"the code of the score <lambda> \(Python 3\..*Only the baselines may differ"):
        average_baselines([first, other])
    with pytest.raises(ValueError, match=r"has the code of the score <lambda> .* at 'a' and <lambda> .* at 'b'"):
        KnowledgeChange({"a": first, "b": other}, reference="b")
    assert "score_code" not in found("logit")[0].provenance
