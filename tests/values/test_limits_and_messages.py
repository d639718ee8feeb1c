"""Limits and messages of masked evaluation, each next to where it changes."""

import math
import warnings
from types import SimpleNamespace

import pytest
import torch
from forwards import Recording, normal

from captum_lkn import players_from_mask
from captum_lkn._common.rounding import Precision
from captum_lkn.models.arguments import Arguments
from captum_lkn.models.model import Model
from captum_lkn.models.trimming import Trimmed
from captum_lkn.outputs.scores import resolve_score
from captum_lkn.outputs.targets import Target
from captum_lkn.values import limits, positions, prediction, selection
from captum_lkn.values.agreement import Agreement, RowsDifferError, present_players
from captum_lkn.values.evaluator import Evaluator
from captum_lkn.values.first_forward import FirstForward

SCORE = resolve_score("logit")
FLOAT = Precision("torch.float32", torch.finfo(torch.float32).eps)


# ---------------------------------------------------------------- rows of a forward


@pytest.mark.parametrize(
    ("shape", "dtype", "device", "rows"),
    [
        ((1000,), torch.float32, "cpu", 524),
        ((1000,), torch.float32, "cuda", 2048),
        ((10_000,), torch.float32, "cuda", 419),
        ((3, 224, 224), torch.float32, "cpu", 4),
        ((3, 224, 224), torch.float32, "cuda", 27),
        ((256,), torch.float32, "cpu", 2048),
        ((257,), torch.float32, "cpu", 2040),
        ((4,), torch.int64, "cpu", 2048),
        ((5,), torch.int64, "cuda", 1638),
        ((128,), torch.int64, "cpu", 64),
        ((5000,), torch.int64, "cpu", 4),
    ],
)
def test_the_default_rows_of_a_forward(shape, dtype, device, rows):
    players = SimpleNamespace(inputs=(torch.zeros(2, *shape, dtype=dtype),), decode=None)
    assert limits.rows_per_forward(SimpleNamespace(device=torch.device(device)), players, None) == rows
    own = SimpleNamespace(device=None)
    if device == "cpu":  # a model without parameters is where its inputs are
        assert limits.rows_per_forward(own, players, None) == rows


def test_the_sizes_of_several_inputs_add_up():
    inputs = (torch.zeros(2, 3, 4), torch.zeros(2, 5), torch.zeros(2, 6, dtype=torch.int64))
    assert limits._sizes(SimpleNamespace(inputs=inputs, decode=None)) == (6, 17)
    mixed = {"pixels": torch.zeros(1, 3), "names": ["seven!!"], "more": [[1, 2]], "ids": torch.zeros(1, 2).long()}
    assert limits._sizes(SimpleNamespace(inputs=inputs, decode=lambda one: mixed)) == (2, 3 + 7 + 2)


def test_rows_that_are_asked_for_are_for_each_sample():
    players = players_from_mask(torch.zeros(3, 2))
    assert limits.rows_per_forward(Model(lambda x: x), players, 5) == 15


def test_too_many_players_are_told_with_what_they_would_take():
    with pytest.raises(ValueError, match=r"sample 1 has n = 30 players: .* 2\^30 values \(8\.59e\+09 bytes\).*=4000,"):
        limits.check_sizes(SimpleNamespace(sizes=(3, 30)))
    with pytest.raises(ValueError, match=r"n = 999 .*\(4\.29e\+301 bytes\).*n_samples=99900"):
        limits.check_sizes(SimpleNamespace(sizes=(999,)))
    with pytest.raises(ValueError, match=r"n = 1000 .*\(8 \* 2\^1000 bytes\)"):
        limits.check_sizes(SimpleNamespace(sizes=(1000,)))
    limits.check_sizes(SimpleNamespace(sizes=(limits.MAX_PLAYERS,)))
    with pytest.raises(ValueError, match="at most n ="):
        limits.check_sizes(SimpleNamespace(sizes=(limits.MAX_PLAYERS + 1,)))


def test_one_value_for_the_whole_batch_goes_with_one_mask_for_all():
    same, other = (
        players_from_mask(torch.zeros(2, 3)),
        players_from_mask(torch.zeros(2, 3), None, torch.tensor([[0, 1, 2], [0, 0, 1]])),
    )
    for given in (None, 1):
        limits.check_whole_batch(same, given, [])
    with pytest.raises(ValueError, match="perturbations_per_eval=1; got 2"):
        limits.check_whole_batch(same, 2, [])
    with pytest.raises(ValueError, match="got samples with 3, 2 players"):
        limits.check_whole_batch(other, None, [])
    with pytest.raises(ValueError, match="layer 'a' is read row by row"):
        limits.check_whole_batch(same, None, [SimpleNamespace(label="a")])


# ---------------------------------------------------------------- agreement


def agreement_of(players=3, precision=FLOAT, labels=("output",), **given):
    return Agreement(players_from_mask(torch.zeros(2, players)), labels, precision, **given)


def test_the_players_of_a_mask_are_told():
    labels = [f"p{i}" for i in range(10)]

    def mask(*absent):
        return torch.tensor([i not in absent for i in range(10)])

    assert present_players(labels, mask()) == "all players present"
    assert present_players(labels, mask(3)) == "all players present but {p3}"
    some = present_players(labels, mask(0, 1))  # eight of ten are listed
    assert some == "the players {p2, p3, p4, p5, p6, p7, p8, p9} present (mask 1020 of 1024)"
    assert present_players(labels[:8], mask()[:8]).startswith(
        "the players {p0, p1, p2, p3, p4, p5, p6, p7} present (mask 255"
    )
    many = [f"p{i}" for i in range(19)]
    there = torch.arange(19) < 9  # ten are absent
    assert present_players(many, there) == (
        "the players {p0, p1, p2, p3, p4, p5, p6, p7, and 1 more} present (mask 511 of 524288)"
    )
    assert "mask" not in present_players([f"p{i}" for i in range(40)], torch.arange(40) == 2)


def test_a_value_that_is_not_finite_is_told_with_its_place():
    values = torch.tensor([[1.0, 2.0], [0.0, math.nan]])
    samples, masks = torch.tensor([0, 1]), torch.tensor([[True, True, True], [True, False, True]])
    for label, where in (("output", ""), ("output [1]", " at output [1]"), ("block", " at layer 'block'")):
        found = agreement_of(labels=("a", label))
        with pytest.raises(ValueError) as error:  # noqa: PT011
            found.check_finite(samples, masks, values)
        assert str(error.value).startswith(f"the value of sample 1{where} is nan with the players {{0, 2}} present")
    agreement_of(labels=("a", "b")).check_finite(samples, masks, values.nan_to_num())


def test_a_full_value_that_differs_is_told_with_its_size():
    tables = [torch.tensor([[0.0, 1.0], [0.0, 2.0]]), torch.tensor([[0.0, 5.0], [0.0, 7.0]])]
    unmasked = torch.tensor([[1.0, 2.0], [5.0, 7.25]])
    found = agreement_of(labels=("early", "output"))
    with pytest.raises(ValueError, match=r"v\(N\) of sample 1 at 'output' is 7 in its table, and 7\.25 in the forward"):
        found.check_full(tables, unmasked)
    unmasked[1, 1] = 7.0 + 1e-6  # rounding
    found.check_full(tables, unmasked)


@pytest.mark.parametrize(("marked", "apart"), [(True, 1.0), (False, 1.0), (True, 0.0)])
def test_values_with_and_without_padding(marked, apart):
    group = Trimmed((4, 6), slice(1, 4), 5, Arguments(()), marked)
    values = torch.tensor([[0.0, 0.0], [1.0, 2.0]])
    padded = torch.tensor([[0.5, 1.0], [0.5, 1.5]])
    trimmed = padded + torch.tensor([[0.0, 0.1], [0.25, 0.0]]) * apart
    found = agreement_of(labels=("early", "output"))
    if not apart:
        assert found.same_without_padding(group, values, padded, trimmed, "Net")
        return
    said = r"sample 6 at 'early' is 0\.5 with 2 tokens of padding, and 0\.75 without: Net "
    if marked:
        with pytest.raises(ValueError, match=f"{said}reads padding"):
            found.same_without_padding(group, values, padded, trimmed, "Net")
    else:
        with pytest.warns(UserWarning, match=f"{said}got no attention_mask"):
            assert not found.same_without_padding(group, values, padded, trimmed, "Net")


def test_rows_that_differ_are_told_by_how_much():
    found = agreement_of()
    several, one = found.influence(7, torch.tensor([0.1, 0.25])), found.influence(1, torch.tensor([0.5]))
    assert "rows of a batch influence each other" in several.found
    assert "7 rows evaluated together and alone differ by up to 0.25, more than the rounding of torch.float32" in str(
        several
    )
    assert one.found.startswith(
        "the forward is random, or keeps a state between calls: one row evaluated twice differs"
    )
    again = RowsDifferError(*several.__reduce__()[1])
    assert str(again) == str(several)


@pytest.mark.parametrize(
    ("apart", "told"), [([0.0, 0.0], "0.5 %"), ([0.02, 0.0], "1 %"), ([0.0, 0.01], "1 %"), ([0.0, 0.1], "10 %")]
)
def test_low_precision_is_told_with_its_share_of_the_range(apart, told):
    values = torch.tensor([[1.0, 0.0], [3.0, 1.0], [2.0, 0.5]])  # ranges 2 and 1; rounding 2^-8 * 3 and 2^-8
    low = Precision("torch.bfloat16", 2.0**-8 * 2 * 0.8533, True, "use float32")
    with pytest.warns(UserWarning, match=f"at least {told} of their range.*use float32"):
        agreement_of(precision=low).warn_of_low_precision("Net", values, torch.tensor(apart))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        agreement_of().warn_of_low_precision("Net", values, torch.tensor(apart))
    constant = torch.ones(3, 1)  # no range, no share
    with pytest.warns(UserWarning, match="at least 0 % of"):
        agreement_of(precision=low).warn_of_low_precision("Net", constant, torch.tensor([1.0]))


# ---------------------------------------------------------------- the first forward


def looked_at(rows, samples=1):
    """The row numbers that are evaluated alone, and those that are together, after a first forward of so many rows."""
    players = players_from_mask(torch.ones(samples, 12))
    forward = Recording(lambda x: x.sum(1) + x[:, 0] * x[:, 1])
    arguments, together = Arguments(players.inputs), {"perturbations_per_eval": 4096}
    with Evaluator(Model(forward), players, arguments, target=None, score=SCORE, **together) as evaluator:
        seen = []

        def evaluate(own, masks):
            seen.append(masks.long() @ (1 << torch.arange(12)))
            return evaluator._scored.values(own, masks)

        first = FirstForward(evaluator._scored, evaluator._agreement, evaluator.unmasked, evaluate)
        masks = (torch.arange(rows)[:, None] >> torch.arange(12) & 1).bool()
        values = first.values(torch.zeros(rows, dtype=torch.long), masks)
    assert first.noise.tolist() == [0.0]
    assert values.shape == (rows, 1)
    return [own.tolist() for own in seen[1:]]


def test_the_first_forward_is_compared_with_its_first_and_last_row_and_some_between():
    assert looked_at(1) == [[0]]
    assert looked_at(31) == [[0], [30]]
    assert looked_at(32) == [[0], [31], [6, 12, 19, 25]]
    assert looked_at(100) == [[0], [99], [20, 40, 60, 80]]
    assert looked_at(4096) == [[0], [819, 1638, 2457, 3276]]  # the last row is unmasked, and known


def test_rows_in_the_middle_of_a_large_forward_are_compared():
    def drops(x):  # as a model of limited capacity does
        kept = torch.ones(len(x))
        if len(x) > 20:
            kept[len(x) * 3 // 5] = 0.5
        return x.sum(1) * kept

    players = players_from_mask(torch.ones(1, 12))
    with Evaluator(Model(drops), players, Arguments(players.inputs), target=None, score=SCORE) as evaluator:
        masks = (torch.arange(1, 101)[:, None] >> torch.arange(12) & 1).bool()
        with pytest.raises(ValueError, match="100 rows evaluated together and alone differ by up to"):
            evaluator.values(torch.zeros(100, dtype=torch.long), masks)


# ---------------------------------------------------------------- positions and predictions


def position_target(place, shape=(4, 3)):
    return Target(torch.tensor([[place, 1]]), shape, 1)


def test_a_target_at_padding_is_refused_where_the_mask_is_of_the_outputs_tokens(monkeypatch):
    model = SimpleNamespace(is_hugging_face=True, inner=None, forward_func=None, arranged=lambda arguments: ((), {}))
    monkeypatch.setattr(positions, "attention_mask", lambda *_: torch.tensor([[0, 1, 1, 0]]))
    for place in (1, 2):
        positions.check_positions(model, Arguments(()), position_target(place))
    for place in (0, 3):
        with pytest.raises(ValueError, match=f"got position {place} for sample 0, .* its tokens are at 1 to 2"):
            positions.check_positions(model, Arguments(()), position_target(place))
    others = [
        (model, position_target(0, (5, 3))),  # of other tokens
        (model, Target(torch.tensor([[0]]), (3,), 0)),
        (model, Target(torch.tensor([[0, 0, 1]]), (4, 2, 3), 2)),
        (SimpleNamespace(**{**vars(model), "is_hugging_face": False}), position_target(0)),
        (
            SimpleNamespace(
                **{**vars(model), "inner": SimpleNamespace(config=SimpleNamespace(is_encoder_decoder=True))}
            ),
            position_target(0),
        ),
    ]
    for other, target in others:
        positions.check_positions(other, Arguments(()), target)
    monkeypatch.setattr(positions, "attention_mask", lambda *_: None)
    positions.check_positions(model, Arguments(()), position_target(0))


def test_plain_values_have_no_prediction():
    model = SimpleNamespace(output_kind="values", name="Net", predicts_itself=False)
    rest = torch.zeros(2).long(), torch.ones(2, 1).bool()
    with pytest.raises(ValueError, match=r"Give target=0 to 2, or a list"):
        prediction.own_prediction(model, None, "predicted", torch.zeros(2, 3), *rest)
    assert prediction.own_prediction(model, None, "predicted", torch.zeros(2, 1), *rest) == "predicted"
    assert prediction.own_prediction(model, None, 1, torch.zeros(2, 3), *rest) == 1
    assert prediction.own_prediction(model, None, "other", torch.zeros(2, 3), *rest) == "other"
    itself = SimpleNamespace(output_kind="logits", predicts_itself=True, predicted=lambda inputs: inputs.long() % 3)
    forwards = SimpleNamespace(copies=lambda own, some: own + 4, run=lambda own, some, f: [f(own, some), f(own, some)])
    assert prediction.own_prediction(itself, forwards, "predicted", torch.zeros(2, 3), *rest) == [1, 1, 1, 1]


@pytest.mark.parametrize(("logit", "predicted"), [(-0.1, False), (0.0, False), (0.1, True)])
def test_a_label_is_predicted_where_it_is_more_likely_than_not(logit, predicted):
    target = Target(torch.tensor([[1], [0]]), (2,), 0)
    outputs = torch.tensor([[5.0, logit], [2.0, -5.0]])
    found = prediction.as_predicted(target, SimpleNamespace(output_kind="labels"), outputs)
    assert found.predicted is predicted
    assert prediction.as_predicted(target, SimpleNamespace(output_kind="logits"), outputs).predicted


# ---------------------------------------------------------------- selection


def test_strengths_are_means_of_both_effects_and_the_first_of_equal_ones_stay():
    full, values = torch.tensor(10.0), torch.tensor([1.0, 4.0, 12.0, 3.0, 0.0])
    assert selection._strengths(full, values).tolist() == [(6 + 2) / 2, (2 + 1) / 2]
    kept = selection._strongest(torch.tensor([1.0, 3.0, 1.0, 2.0, 1.0]), 3)
    assert kept.tolist() == [True, True, False, True, False]


def test_the_first_pass_is_none_all_but_one_and_one_alone():
    samples, masks = selection._first_pass((2, 3))
    assert samples.tolist() == [0] * 5 + [1] * 7
    first = [[0, 0, 0], [0, 1, 0], [1, 0, 0], [1, 0, 0], [0, 1, 0]]
    second = [[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert masks.long().tolist() == first + second


@pytest.mark.parametrize(
    ("shares", "told"),
    [
        ([0.0, 2.0, math.nan], None),
        ([-0.01, 1.0, 2.01], r"sample 0 \(-1 %\), 2 \(201 %\).*all 7 players with n_samples=4000"),
    ],
)
def test_shares_below_nothing_and_above_twice_are_told(shares, told):
    shares = torch.tensor(shares)
    if told is None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            selection._warn_of_poor_shares(shares, 3, 7)
        return
    with pytest.warns(UserWarning, match=f"the 3 kept players.*{told}"):
        selection._warn_of_poor_shares(shares, 3, 7)
    with pytest.warns(UserWarning, match="n_samples=5000"):
        selection._warn_of_poor_shares(shares, 3, 50)


def test_as_many_players_as_may_be_ranked():
    players = players_from_mask(torch.ones(1, 5))
    selection._check(players, 1, "keep", 5)
    with pytest.raises(ValueError, match=r"sample 0 has 5 players, which would take 13 masked copies, .* give most=5"):
        selection._check(players, 1, "keep", 4)


def test_a_choice_is_told_in_a_sentence():
    choice = selection.Choice((0, 2), ("b",), torch.zeros(3), 0.756)
    shown = object.__new__(selection.SelectedPlayers)
    for rest, told in (("keep", "stay visible"), ("mask", "are masked for good")):
        object.__setattr__(shown, "rest", rest)
        said = shown._sentence(choice)
        assert said == f"2 of 3 players kept, 76 % of v(N) - v(empty) explained; the others {told}: b"
    assert "v(N) = v(empty)" in shown._sentence(choice._replace(explained=math.nan))
    assert shown._sentence(choice._replace(kept=(0, 1, 2), left_out=())) == "all 3 players are kept"


def test_values_at_masks_that_are_given_in_any_order():
    x = 1 + normal(2, 3).abs()
    players = players_from_mask(x)
    forward = Recording(lambda x: torch.stack([x.prod(1), x.sum(1)], 1))
    with Evaluator(
        Model(forward), players, Arguments(players.inputs), target=[1, 0], score=SCORE, perturbations_per_eval=2
    ) as evaluator:
        samples, masks = (
            torch.tensor([1, 0, 1, 0, 1]),
            torch.tensor([[1, 1, 1], [1, 0, 1], [1, 1, 0], [1, 1, 1], [0, 0, 0]]).bool(),
        )
        steps = []
        found = evaluator.values(samples, masks, advance=steps.append)
        again = evaluator.values(samples, masks)
        outputs = evaluator.outputs(samples, masks)
    copies = x[samples] * masks
    expected = torch.where(samples == 0, copies.sum(1), copies.prod(1))
    torch.testing.assert_close(found[:, 0], expected.to(found))
    torch.testing.assert_close(again, found)
    torch.testing.assert_close(evaluator.score_outputs(outputs, samples).double(), found[:, 0].double())
    assert steps == [4, 1]
    assert max(forward.rows) == 4
