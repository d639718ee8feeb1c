"""Checks between a forward and its table: memory, values that are not finite, rows that influence each other."""

import warnings

import pytest
import torch
from forwards import Recording, assert_tables, normal, plain

from captum_lkn import ExactShapleyValues

X = normal(3, 4)

# ---------------------------------------------------------------- memory


class Small:
    """A forward function with memory for a few rows."""

    def __init__(self, most, error=torch.cuda.OutOfMemoryError, write=False):
        self.most, self.error, self.write, self.rows = most, error, write, []

    def __call__(self, x):
        self.rows.append(len(x))
        if self.write:
            x.mul_(2)
        if len(x) > self.most:
            raise self.error("CUDA out of memory. Tried to allocate 2 GiB")
        return x[:, 0] * x.sum(1)


@pytest.mark.parametrize("error", [torch.cuda.OutOfMemoryError, RuntimeError])
@pytest.mark.parametrize("perturbations_per_eval", [8, 13, None])
def test_out_of_memory_halves_the_batch(error, perturbations_per_eval):
    forward = Small(6, error)
    with pytest.warns(
        UserWarning, match=r"out of memory with \d+ masked copies.*going on with.*perturbations_per_eval"
    ):
        found = plain(forward).attribute(X, perturbations_per_eval=perturbations_per_eval)
    expected = plain(lambda x: x[:, 0] * x.sum(1)).attribute(X)
    assert_tables(found, [one.values for one in expected])


def test_out_of_memory_with_one_row_is_the_users_to_solve():
    with pytest.raises(torch.cuda.OutOfMemoryError, match="out of memory"):
        plain(Small(0)).attribute(X[:1])


def test_another_error_is_not_taken_for_a_lack_of_memory():
    def broken(x):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        plain(broken).attribute(X)


@pytest.mark.parametrize("most", [1, 2, 5])
def test_out_of_memory_is_survived_from_the_first_forward_on(most):
    with pytest.warns(UserWarning, match="out of memory"):
        found = plain(Small(most)).attribute(X)
    expected = plain(lambda x: x[:, 0] * x.sum(1)).attribute(X)
    assert_tables(found, [one.values for one in expected])


def test_out_of_memory_is_met_once():
    forward = Small(6)
    with pytest.warns(UserWarning, match="out of memory") as caught:
        plain(forward).attribute(torch.ones(1, 6), perturbations_per_eval=8)
    assert sum(rows > 6 for rows in forward.rows) == len(caught) == 1


def test_out_of_memory_in_a_model_that_works_in_place():
    with pytest.warns(UserWarning, match="out of memory"):
        found = plain(Small(6, write=True)).attribute(X)
    expected = plain(lambda x: 2 * x[:, 0] * (2 * x).sum(1)).attribute(X)
    assert_tables(found, [one.values for one in expected])


def test_out_of_memory_where_the_batch_has_one_value():
    calls = []

    def forward(x):
        calls.append(x)
        if len(calls) == 3:
            raise torch.cuda.OutOfMemoryError("out of memory")
        return x.sum()

    with pytest.raises(torch.cuda.OutOfMemoryError):  # a batch that has one value cannot be halved
        ExactShapleyValues(forward).attribute(X)
    assert len(calls) == 3


# ---------------------------------------------------------------- values that are not finite


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("perturbations_per_eval", [1, 3, None])
def test_a_value_that_is_not_finite_is_named(bad, perturbations_per_eval):
    def forward(x):  # of the third sample, without "b" and with "a" and "c"
        hit = (x[:, 0] == X[2, 0]) & (x[:, 1] == 0) & (x[:, 2] == X[2, 2])
        return torch.where(hit, bad, x.sum(1))

    message = rf"sample 2 is {bad} with the players {{a, c}} present \(mask 5 of 16\).*baseline"
    with pytest.raises(ValueError, match=message):
        plain(forward).attribute(X, player_names=["a", "b", "c", "d"], perturbations_per_eval=perturbations_per_eval)


def test_a_value_that_is_not_finite_is_named_where_the_batch_has_one_value():
    with pytest.raises(ValueError, match=r"is nan with the players \{0, 1, 3\} present \(mask 11 of 16\)"):
        plain(lambda x: x.sum() + (torch.nan if x[0, 2] == 0 and x[0, 0] and x[0, 1] and x[0, 3] else 0)).attribute(X)


def test_what_is_masked_leaves_no_trace():
    x = torch.tensor([[1.0, torch.nan, 2.0]])
    with pytest.raises(ValueError, match=r"is nan with the players \{0, 1, 2\} present"):
        plain(lambda x: x.sum(1)).attribute(x)
    found = plain(lambda x: x.nan_to_num(7).sum(1)).attribute(x)
    assert found[0].v_empty == 0
    assert found[0].v_full == 10


# ---------------------------------------------------------------- rows that influence each other


def centred(x):
    return (x - x.mean(0)).pow(2).sum(1)


def normalised(x):
    return torch.nn.functional.batch_norm(x[:, None], None, None, training=True).tanh().flatten(1).sum(1)


def noisy(x):
    return x.sum(1) + 0.1 * torch.randn(len(x))


INFLUENCE = r"rows of a batch influence each other, or the forward is random.*differ by up to"


@pytest.mark.parametrize("forward", [centred, normalised, noisy])
@pytest.mark.parametrize("batch", [1, 3])
def test_rows_that_influence_each_other_are_detected_in_the_first_forward(forward, batch):
    recorded = Recording(forward)
    with pytest.raises(ValueError, match=INFLUENCE):
        plain(recorded).attribute(X[:batch], perturbations_per_eval=4)
    assert len(recorded.rows) <= 5  # the samples, the first masks, two of them alone, a few others


def test_a_score_that_looks_across_rows_is_detected():
    with pytest.raises(ValueError, match=INFLUENCE):
        plain(lambda x: x, score=lambda z, y: z[:, 0] - z[:, 0].mean()).attribute(X, target=0)


def test_one_row_a_forward_has_nobody_to_influence():
    found = plain(centred).attribute(X[:1], perturbations_per_eval=1)
    assert not found[0].values.any()


@pytest.mark.parametrize("perturbations_per_eval", [1, 5, None])
@pytest.mark.parametrize("batch", [1, 3])
def test_a_forward_that_is_random_is_detected(batch, perturbations_per_eval):
    with pytest.raises(ValueError, match="the forward is random"):
        plain(noisy).attribute(X[:batch], perturbations_per_eval=perturbations_per_eval)


@pytest.mark.parametrize("batch", [1, 3])
def test_a_state_that_changes_late_is_detected(batch):
    calls = []

    def stateful(x):  # as a cache that is full
        calls.append(len(x))
        return x.sum(1) + (len(calls) > 7)

    with pytest.raises(ValueError, match=r"v\(N\) of sample \d at 'output' is .* in its table, and .* unmasked"):
        plain(stateful).attribute(X[:batch], perturbations_per_eval=2)


def test_one_random_value_for_the_whole_batch_is_detected():
    with pytest.raises(ValueError, match=r"v\(N\) of sample 0 .*the forward is random"):
        plain(lambda x: x.sum() + 0.1 * torch.randn(())).attribute(X)


@pytest.mark.parametrize(
    "forward",
    [
        pytest.param(lambda x: 1e-5 * centred(x)[:, None], id="small outputs"),
        pytest.param(lambda x: torch.stack([centred(x), torch.full((len(x),), -1e9)], 1), id="a class ruled out"),
        pytest.param(lambda x: (5 + centred(x))[:, None].bfloat16(), id="bfloat16"),
        pytest.param(lambda x: (5 + centred(x))[:, None].half(), id="float16"),
    ],
)
def test_rows_that_influence_each_other_are_detected_at_any_scale(forward):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match=INFLUENCE):
            plain(forward).attribute(X, target=0)


def test_nothing_is_advised_that_leads_to_a_wrong_number():
    with pytest.raises(ValueError, match=INFLUENCE) as caught:
        plain(centred).attribute(X, perturbations_per_eval=1)
    assert "perturbations_per_eval" not in str(caught.value)


# ---------------------------------------------------------------- sizes


@pytest.mark.parametrize(
    ("players", "quoted"), [(21, r"2\^21 values \(1.68e\+07 bytes\)"), (5000, r"2\^5000 values \(8 \* 2\^5000 bytes\)")]
)
def test_too_many_players_are_refused_before_any_forward(players, quoted):
    forward = Recording(lambda x: x.sum(1))
    with pytest.raises(ValueError, match=rf"n = {players} players.*{quoted}.*at most n = 20.*feature_mask.*words"):
        plain(forward).attribute(torch.ones(1, players))
    assert not forward.calls


def test_too_many_players_of_one_sample_are_told_by_its_number():
    masks = torch.stack([torch.zeros(30).long(), torch.arange(30)])
    with pytest.raises(ValueError, match=r"sample 1 has n = 30 players"):
        plain(lambda x: x.sum(1)).attribute(torch.ones(2, 30), feature_mask=masks)
