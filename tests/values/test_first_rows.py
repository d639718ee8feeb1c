"""Facts of the first forwards: kinds of outputs and of forwards, probabilities, counts, and when a run ends early."""

import warnings

import pytest
import torch
from forwards import Recording, normal
from torch import nn

from captum_lkn import players_from_mask
from captum_lkn.models.arguments import Arguments
from captum_lkn.models.layers import find_layers
from captum_lkn.models.model import Model
from captum_lkn.outputs.scores import resolve_score
from captum_lkn.sampling.masks import least_samples
from captum_lkn.values import tables
from captum_lkn.values.evaluator import Evaluator
from captum_lkn.values.parts import Reading, evaluate_part, join_parts, parts_fit
from captum_lkn.values.rows import Part
from captum_lkn.values.sampled import check_sampling, sampled_values
from captum_lkn.values.sources import Source
from captum_lkn.values.tables import Request, prompt_mask, value_tables

SCORE = resolve_score("logit")


def evaluator_of(forward, x, target=None, score=SCORE, **given):
    players = players_from_mask(x)
    return Evaluator(Model(forward), players, Arguments(players.inputs), target=target, score=score, **given)


def request_of(x, target=None, keywords=None):
    players = players_from_mask(x)
    return Request(players, Arguments(players.inputs, keywords=keywords or {}), target)


def every_mask(n):
    return (torch.arange(1 << n)[:, None] >> torch.arange(n) & 1).bool()


# ---------------------------------------------------------------- outputs


@pytest.mark.parametrize(
    ("forward", "whole", "unmasked"),
    [
        (lambda x: x.sum(1), False, [4.0, 4.0, 4.0]),
        (lambda x: x.sum(1, keepdim=True), False, [4.0, 4.0, 4.0]),
        (lambda x: x.sum(), True, [12.0]),
        (lambda x: x.sum().reshape(1), True, [12.0]),
        (lambda x: x.sum().reshape(1, 1), True, [12.0]),
        (lambda x: x.sum(1).squeeze(), False, [4.0, 4.0, 4.0]),
    ],
)
@pytest.mark.parametrize("rows", [1, None])
def test_one_value_a_sample_or_one_for_the_batch(forward, whole, unmasked, rows):
    with evaluator_of(forward, torch.ones(3, 4), perturbations_per_eval=rows) as evaluator:
        values = evaluator.values(torch.tensor([0, 2, 1]), every_mask(4)[[15, 3, 0]])
        assert evaluator.whole_batch == whole
        assert evaluator.unmasked.flatten().tolist() == unmasked
        assert values.flatten().tolist() == ([12, 6, 0] if whole else [4, 2, 0])
        if whole:
            with pytest.raises(ValueError, match="whole batch of 3 samples"):
                evaluator.check_samples_apart()
        else:
            evaluator.check_samples_apart()


def test_one_sample_whose_output_has_one_value_is_told_by_several_rows():
    for forward, whole in ((lambda x: x.sum().reshape(1), True), (lambda x: x.sum(1), False)):
        recorded = Recording(forward)
        with evaluator_of(recorded, torch.ones(1, 3)) as evaluator:
            values = evaluator.values(torch.zeros(8).long(), every_mask(3))
            assert evaluator.whole_batch == whole
            evaluator.check_samples_apart()  # one sample is not several
        assert values.flatten().tolist() == [0, 1, 1, 2, 1, 2, 2, 3]
        assert evaluator.forwards == len(recorded.rows)


def test_all_outputs_are_a_value_each():
    def forward(x):
        return torch.stack([x.sum(1), x.prod(1), x[:, 0]], 1).reshape(len(x), 3, 1).expand(-1, 3, 2)

    with evaluator_of(forward, torch.full((2, 3), 2.0), every_output=True) as evaluator:
        assert evaluator.output_shape == (3, 2)
        assert evaluator.unmasked.tolist() == [[6, 6, 8, 8, 2, 2]] * 2
        found = evaluator.values(torch.tensor([1, 0]), every_mask(3)[[7, 1]])
        assert found.tolist() == [[6, 6, 8, 8, 2, 2], [2, 2, 0, 0, 2, 2]]
    with evaluator_of(forward, torch.ones(2, 3), target=(1, 0), every_output=True) as evaluator:
        assert evaluator.output_shape is None
    with evaluator_of(lambda x: x.sum(1), torch.ones(2, 3), every_output=True) as evaluator:
        assert evaluator.output_shape is None


def test_outputs_of_whole_numbers_count_as_float32():
    with evaluator_of(lambda x: x.sum(1).long(), torch.ones(2, 3)) as evaluator:
        assert evaluator.dtype == torch.float32
    with evaluator_of(lambda x: x.sum(1).double(), torch.ones(2, 3)) as evaluator:
        assert evaluator.dtype == torch.float64
        assert evaluator.epsilon <= torch.finfo(torch.float32).eps


# ---------------------------------------------------------------- probabilities


@pytest.mark.parametrize(("rows", "told"), [(62, 0), (63, 1)])
def test_probabilities_are_told_by_sixty_four_rows(rows, told):
    """Rows within 0 and 1 whose sums differ from 1 are odds of single classes; that is seen with the unmasked row."""

    def forward(x):
        return torch.stack([x.mean(1) / 2, 0.4 + x[:, 0] / 3], 1)

    evaluator = evaluator_of(forward, torch.ones(1, 6), target=0, score=resolve_score("log_odds"))
    evaluator.__enter__()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        evaluator._scored.checked = True  # no rows are evaluated alone
        evaluator.values(torch.zeros(rows).long(), every_mask(6)[:rows])
        assert len(caught) == told
        evaluator.__exit__(None, None, None)
    assert ["all of its" in str(one.message) for one in caught] == [True]


def test_rows_that_sum_to_one_are_refused_at_once():
    recorded = Recording(lambda x: torch.softmax(torch.stack([x.sum(1), x[:, 0] - 1], 1), 1))
    evaluator = evaluator_of(recorded, torch.ones(1, 3), target=0, score=resolve_score("log_odds"))
    with evaluator, pytest.raises(ValueError, match="probabilit"):
        evaluator.values(torch.zeros(3).long(), every_mask(3)[:3])
    assert len(recorded.rows) == 2


def test_a_layers_probabilities_are_told_with_its_name():
    network = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)).eval()
    model = Model(network)
    (layer,) = find_layers(model, "0")
    players = players_from_mask(normal(1, 3))
    sources = [Source(), Source(layer, lambda feature: feature[:, :2].softmax(1))]
    odds = resolve_score("log_odds")
    evaluator = Evaluator(model, players, Arguments(players.inputs), target=0, score=odds, sources=sources)
    with evaluator, pytest.raises(ValueError, match="at layer '0', "):
        evaluator.values(torch.zeros(8).long(), every_mask(3))


# ---------------------------------------------------------------- forwards in their order


def test_forwards_of_all_samples_in_their_order_are_used_where_no_others_work():
    x, bias = 1 + normal(3, 4).abs(), normal(3)

    def forward(x, extra):
        if len(x) != 3:
            raise RuntimeError("three rows alone")
        return x.prod(1) + bias * x[:, 0]

    players = players_from_mask(x)
    arguments = Arguments(players.inputs, positional=(torch.zeros(2),))
    evaluator = Evaluator(Model(forward), players, arguments, target=None, score=SCORE)
    samples, masks = torch.tensor([2, 0, 2, 1, 2]), every_mask(4)[[15, 7, 3, 1, 0]]
    with evaluator:
        with pytest.warns(UserWarning, match="Forwards of 3 samples in their order do"):
            found = evaluator.values(samples, masks)
        assert evaluator.aligned
        steps = []
        again = evaluator.values(samples, masks, advance=steps.append)
        outputs = evaluator.outputs(samples, masks)
    copies = x[samples] * masks
    expected = copies.prod(1) + bias[samples] * copies[:, 0]
    for values in (found[:, 0], again[:, 0], outputs):
        torch.testing.assert_close(values.float(), expected)
    assert sorted(steps) == [1, 1, 3]


# ---------------------------------------------------------------- tables


def test_the_bar_has_the_masks_of_all_samples(monkeypatch):
    totals, steps = [], []

    class Bar:
        def __init__(self, total, **_):
            self.total = total

        def __enter__(self):
            return self

        def __exit__(self, *_):
            totals.append(self.total)

        def update(self, n):
            steps.append(n)

    monkeypatch.setattr(tables, "Bar", Bar)
    requests = [request_of(torch.ones(2, 3)), request_of(torch.ones(1, 4))]
    found = value_tables(Model(lambda x: x.sum(1)), requests, score=SCORE, perturbations_per_eval=4)
    assert (totals, sum(steps)) == ([2 * 8 + 16], 32)
    assert [table.shape for one in found for table in one.tables] == [(1, 8), (1, 8), (1, 16)]
    totals.clear(), steps.clear()
    value_tables(Model(lambda x: x.sum()), requests, score=SCORE)
    assert (totals, sum(steps)) == ([8 + 16], 24)


def test_the_attention_mask_of_a_sample():
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    assert prompt_mask(request_of(torch.ones(2, 3), keywords={"attention_mask": mask}).arguments, 1).tolist() == [
        [1, 0, 0]
    ]
    one = request_of(torch.ones(2, 3), keywords={"attention_mask": mask[:1]}).arguments
    assert prompt_mask(one, 1).tolist() == [[1, 1, 0]]
    assert prompt_mask(request_of(torch.ones(2, 3)).arguments, 0) is None


class Shortcut:
    """A forward function with a way of its own to all masks of some samples."""

    def __init__(self):
        self.asked = []

    def __call__(self, x, attention_mask=None):
        return torch.stack([x.sum(1), x.prod(1)], 1)

    def all_masks(self, players, sample, attention_mask=None, *, advance=None):
        self.asked.append((sample, attention_mask))
        if sample == 1:
            return None, {"evaluation": "plain", "why": "second"}
        n = players.sizes[sample]
        advance(1 << n)
        return self(every_mask(n) * players.inputs[0][sample]), {"evaluation": "shortcut"}


def test_a_way_to_all_masks_is_taken_where_it_may_be():
    function, mask = Shortcut(), torch.ones(3, 2)
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    request = request_of(x, target=[0, 1, 1], keywords={"attention_mask": mask})
    (found,) = value_tables(Model(function), [request], score=SCORE)
    assert [table.flatten().tolist() for table in found.tables] == [[0, 1, 2, 3], [0, 0, 0, 12], [0, 0, 0, 30]]
    assert [one["evaluation"] for one in found.evaluations] == ["shortcut", "plain", "shortcut"]
    assert [sample for sample, _ in function.asked] == [0, 1, 2]
    assert all(mask.shape == (1, 2) for _, mask in function.asked)
    function.asked.clear()
    value_tables(Model(function), [request_of(x)], score=SCORE, every_output=True)
    assert function.asked == []


def test_two_sources_of_a_shortcut_have_equal_tables():
    request = request_of(torch.tensor([[1.0, 2.0]]), target=0)
    (found,) = value_tables(Model(Shortcut()), [request], score=SCORE, sources=[Source(), Source()])
    assert found.tables[0].tolist() == [[0, 1, 2, 3]] * 2


@pytest.mark.parametrize(("n", "most"), [(8, 180), (9, 190)])
def test_as_few_masks_as_make_sense(n, most):
    players = [players_from_mask(torch.ones(1, 3)), players_from_mask(torch.ones(1, n))]
    assert least_samples(n) == most
    check_sampling(most, 0, players)
    with pytest.raises(ValueError, match=f"at least {most} for {n} players; got {most - 1}"):
        check_sampling(most - 1, 0, players)
    check_sampling(8, 0, players[:1])  # all of them
    with pytest.raises(ValueError, match="at least 130 for 3 players; got 7"):
        check_sampling(7, 0, players[:1])
    with pytest.raises(ValueError, match="seed must be at least 0; got -1"):
        check_sampling(most, -1, players)


# ---------------------------------------------------------------- parts


@pytest.mark.parametrize("unchanged", [[], [0, 4]])
@pytest.mark.parametrize("n_samples", [None, 200])
def test_parts_are_the_whole_whatever_their_number(n_samples, unchanged):
    x = 1 + normal(1, 9).abs()
    x[:, unchanged] = 0  # as their baselines are: a quarter of the copies differ

    def forward(x):
        return x.prod(1) + x[:, 0] * x[:, 1]

    request = request_of(x)
    reading = Reading(Model(forward), {"score": SCORE, "perturbations_per_eval": 30}, n_samples, 3)
    if n_samples is None:
        (whole,) = value_tables(Model(forward), [request], score=SCORE, perturbations_per_eval=30)
    else:
        (whole,) = sampled_values(
            Model(forward), [request], score=SCORE, n_samples=n_samples, seed=3, perturbations_per_eval=30
        )
    for number in (1, 3, 8):
        parts = [evaluate_part(reading, request, Part(i, number)) for i in range(number)]
        assert parts_fit(reading, request, parts)
        joined = join_parts(reading, request, parts[::-1] if n_samples is None else parts)
        assert torch.equal(joined.tables[0], whole.tables[0])
        if n_samples is not None:
            assert joined.forwards == whole.forwards
        assert (joined.whole_batch, joined.dtype, joined.epsilon) == (False, torch.float32, whole.epsilon)
        if number > 1:
            assert not parts_fit(reading, request, parts[1:])
            assert not parts_fit(reading, request, [parts[0], parts[0], *parts[2:]])


def test_one_value_for_the_batch_that_is_repeated_is_found_and_said():
    def forward(x):
        return x.sum().expand(len(x))

    evaluator = evaluator_of(forward, 1 + normal(3, 2).abs())
    with pytest.warns(UserWarning, match="same value in each of the 3 rows"), evaluator:
        assert evaluator.whole_batch
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with evaluator_of(lambda x: x.sum(1), torch.ones(3, 2)) as evaluator:  # rows of equal samples are equal
            assert not evaluator.whole_batch
