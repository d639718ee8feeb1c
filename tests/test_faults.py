"""An exception in any code of the user reaches the user as it is, and leaves everything as found; see `faults.py`."""

import warnings

import pytest
import torch
from faults import KINDS, REACHED, WORK, Found, X, numbers
from forwards import normal

from captum_lkn import (
    AndOrInteraction,
    LayerwiseKnowledge,
    LinearProbes,
    learn_baseline,
    players_from_mask,
    select_players,
)
from captum_lkn.studies import load_study, run_study

SHARE = 41  # one of so many faults is tried; `--full` tries all


def run(work, folder):
    """Run a call, and return its numbers, and what it told: its warnings, and its result where that is a text."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = work(folder)
    told = [result] if isinstance(result, str) else []
    return numbers(result), told + [str(one.message) for one in caught]


@pytest.fixture(scope="module", params=WORK)
def call(request, tmp_path_factory):
    """Return the name of a call, the call, its result and how often it reaches each place of the user's code."""
    work = WORK[request.param]
    run(work, tmp_path_factory.mktemp("first"))  # what is made once, and what is imported late
    REACHED.disarm()
    result, _ = run(work, tmp_path_factory.mktemp("expected"))
    return request.param, work, result, dict(REACHED.counts)


def faults(counts):
    """Yield each place, its number and each kind of exception."""
    for point, count in counts.items():
        for number in range(1, count + 1):
            for kind in KINDS:
                yield point, number, kind


def test_a_fault_anywhere_reaches_the_user_and_leaves_nothing(call, tmp_path, full):
    name, work, expected, counts = call
    wrong = []
    for place, (point, number, kind) in enumerate(faults(counts)):
        if not full and place % SHARE:
            continue
        folder = tmp_path / str(place)
        folder.mkdir()
        before = Found(folder)
        error = KINDS[kind](f"put in at {point} {number}")
        REACHED.arm(point, number, error)
        came = None
        try:
            came = run(work, folder)
        except BaseException as raised:
            came = raised
        REACHED.disarm()
        try:
            before.check(files=name != "run_study")
            check_outcome(name, came, error, expected)
        except AssertionError as changed:
            wrong.append((name, point, number, kind, str(changed)[:300]))
    assert not wrong, (len(wrong), wrong)


# Where what failed is done in another way that gives the same result, without a warning.
OTHER_WAYS = {
    "run_study": "samples that fail together are tried alone",
    "check_model": "its own checks of values are without warnings",
    "logit_lens": "a head that cannot be watched with gradients is read as usual",
    "Continuation": "the plain evaluation, whose reason is in the provenance",
    "BERT": "no comparison without padding, which a model of one length cannot run",
    "GPT-2": "the same",
}


def check_outcome(name, came, error, expected):
    """Check that the error came, or that the call went on without what failed, said so, and has the same result."""
    if isinstance(came, BaseException):
        assert came is error or is_explained(came, error), repr(came)
        return
    result, told = came
    assert len(result) == len(expected)
    for one, other in zip(result, expected, strict=True):
        torch.testing.assert_close(one.double(), other.double(), atol=1e-5, rtol=1e-5)
    assert name in OTHER_WAYS or any(str(error) in one or "out of memory" in one for one in told), "silent"


def is_explained(came, error):
    """Return whether an error says more about another one: where it was, or what it means for the user.

    `StopIteration` cannot leave a generator, such as a loader or the recomputation of torch: Python raises
    `RuntimeError` of it.
    """
    causes = [came]
    while causes[-1].__cause__ is not None:
        assert causes[-1].__cause__ not in causes, "an error is its own cause"
        causes.append(causes[-1].__cause__)
    if error not in causes:
        return False
    if isinstance(error, StopIteration) and str(came) == "generator raised StopIteration":
        return True
    return isinstance(came, ValueError) and isinstance(error, ValueError | RuntimeError) and str(error) in str(came)


# ---------------------------------------------------------------- little memory


class Small(torch.nn.Module):
    """A network that has memory for a few rows; with `backward`, only the gradients of many have no room."""

    def __init__(self, most=None, error=None, backward=False):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.body, self.head = torch.nn.Linear(3, 4), torch.nn.Linear(4, 2)
        self.most, self.error, self.backward = most, error, backward
        self.eval()

    def forward(self, x):
        if self.most is not None and len(x) > self.most:
            if not self.backward:
                raise self.error
            if x.requires_grad:
                x.register_hook(self.fail)
        return self.head(self.body(x).tanh())

    def fail(self, _):
        raise self.error


LACK = [
    MemoryError(),
    torch.cuda.OutOfMemoryError("CUDA out of memory"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory"),
]
DATA = [(normal(24, 3), torch.arange(24) % 2)]
MANY = {
    "select_players": lambda net, _: select_players(net, players_from_mask(X), k=2, target=1).choices[1].strengths,
    "learn_baseline": lambda net, _: learn_baseline(net, players_from_mask(X), target=1, steps=2).vector,
    "LinearProbes.fit": lambda net, _: LinearProbes.fit(net, ["body"], DATA, penalties=[1.0])["body"].weight,
    "attribute": lambda net, _: AndOrInteraction(net).attribute(X, target=1)[1].values,
    "sampled masks": lambda net, _: AndOrInteraction(net).attribute(X, target=1, n_samples=20)[1].effects.values,
    "analyze": lambda net, _: LayerwiseKnowledge(net, ["body"], probes=net.head).analyze(X, target=1).interactions[
        "body"
    ][1].values,
    "run_study": lambda net, folder: run_study(
        AndOrInteraction(net), players_from_mask(X), folder, target=1, version="1"
    ).interactions[1].values,
}  # fmt: skip


@pytest.mark.parametrize("error", LACK, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("name", MANY)
@pytest.mark.filterwarnings("ignore:out of memory with")
def test_little_memory_takes_smaller_batches_and_changes_nothing(name, error, tmp_path):
    expected = MANY[name](Small(), tmp_path / "expected")
    for most in (1, 3):
        found = MANY[name](Small(most, error), tmp_path / str(most))
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("error", LACK, ids=lambda error: type(error).__name__)
def test_gradients_without_room_are_those_of_fewer_masks(error):
    expected = MANY["learn_baseline"](Small(), None)
    with pytest.warns(UserWarning, match="out of memory with 8 masked copies in a forward: going on with 4"):
        found = MANY["learn_baseline"](Small(4, error, backward=True), None)
    torch.testing.assert_close(found, expected)


def test_a_layer_without_room_for_an_exact_fit_is_fitted_in_minibatches(monkeypatch):
    def no_room(*_, **__):
        raise MemoryError

    expected = MANY["LinearProbes.fit"](Small(), None)
    monkeypatch.setattr("captum_lkn.probes.fitting.fit_exactly", no_room)
    monkeypatch.setattr("captum_lkn.probes.minibatches._LEAST_STEPS", 600)
    with pytest.warns(UserWarning, match="out of memory with all features of layer 'body'"):
        found = MANY["LinearProbes.fit"](Small(), None)
    torch.testing.assert_close(found, expected, atol=1e-2, rtol=1e-2)


def test_a_study_goes_on_without_the_samples_that_have_no_room(tmp_path):
    class Wide(Small):
        def forward(self, x):
            if x.shape[1] == 4:
                raise MemoryError("no room")
            return x.sum(1, keepdim=True) * torch.ones(2)

    samples = [players_from_mask(normal(1, n)) for n in (2, 4, 3)]
    with pytest.raises(ValueError, match=r"1 of 3 samples could not be explained.*sample 1: no room"):
        run_study(AndOrInteraction(Wide()), samples, tmp_path, target=1, version="1")
    assert load_study(tmp_path).missing == (1,)
