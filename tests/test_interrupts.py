"""Ctrl-C at any line of this library leaves models, process and files as found; see `faults.py` for the calls."""

import functools
import gc
import linecache
import random
import sys
import warnings
from pathlib import Path

import pytest
from faults import WORK, Found

import captum_lkn

FOLDER = captum_lkn.__path__[0]


@functools.cache
def opens_a_block(file, line):
    """A tracer sees the line of a `with` once more before the exit, where no Ctrl-C can come: a lock would stay."""
    return linecache.getline(file, line).lstrip().startswith("with ")


class Lines:
    """A tracer that notes each line of the library that runs, and raises KeyboardInterrupt at the chosen one.

    Args:
        chosen: The code, the line in it, and the number of its run; None: no interrupt.
    """

    def __init__(self, chosen=None):
        self.chosen, self.runs, self.seen = chosen, 0, {}

    def calls(self, frame, event, arg):
        code = frame.f_code
        if not code.co_filename.startswith(FOLDER) or code.co_name == "_forget":
            return None  # Python drops what a finaliser raises, Ctrl-C too
        if self.chosen is not None and code is not self.chosen[0]:
            return None
        return self.in_frame

    def in_frame(self, frame, event, arg):
        if event == "line" and not opens_a_block(frame.f_code.co_filename, frame.f_lineno):
            place = frame.f_code, frame.f_lineno
            if self.chosen is None:
                self.seen[place] = self.seen.get(place, 0) + 1
            elif place == self.chosen[:2]:
                self.runs += 1
                if self.runs == self.chosen[2]:
                    sys.settrace(None)
                    raise KeyboardInterrupt
        return self.in_frame


def traced(lines, work, folder):
    """Run a call under a tracer, and return whether the interrupt came."""
    outer = sys.gettrace()
    folder.mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sys.settrace(lines.calls)
        try:
            work(folder)
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(outer)
    return False


# Here something is changed and restored: each line is interrupted, and a sample of the lines elsewhere.
CHANGES = ("models/session.py", "models/reading.py", "studies/locks.py", "hugging_face/pretrained.py")
SAMPLE = 4
QUICK = ("LayerAndOrInteraction", "learn_baseline", "LinearProbes.fit", "run_study", "logit_lens", "load_classifier")


@pytest.fixture(scope="module")
def plan(tmp_path_factory, full):
    """Return for each call the places to interrupt: each line at one call that runs it, first and last time."""
    folder = tmp_path_factory.mktemp("plan")
    planned, known = {}, set()
    for name in WORK if full else QUICK:
        work = WORK[name]
        traced(Lines((None, 0, 0)), work, folder / f"{name} first")  # what is made once, and what is imported late
        lines = Lines()
        traced(lines, work, folder / name)
        new = {(code.co_filename, line): (code, line, runs) for (code, line), runs in lines.seen.items()}
        new = {place: own for place, own in new.items() if place not in known}
        known |= set(new)
        chosen = list(new.values())
        if not full:
            inside = [own for own in chosen if own[0].co_filename.endswith(CHANGES)]
            chosen = [*inside, *random.Random(0).sample(chosen, min(SAMPLE, len(chosen)))]
        ends = {(code, line, run) for code, line, runs in chosen for run in ((1, runs) if full else (runs,))}
        planned[name] = sorted(ends, key=lambda place: (place[0].co_filename, *place[1:]))
    return planned


@pytest.fixture
def quick_collection():
    """Spare the garbage collection all that was there before, which takes a quarter of a second each time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.full) for name in WORK]
)
def test_an_interrupt_at_any_line_leaves_nothing(name, plan, tmp_path, quick_collection):
    wrong = []
    for number, chosen in enumerate(plan[name]):
        before = Found(tmp_path)
        came = traced(Lines(chosen), WORK[name], tmp_path / str(number))
        if not came:  # how often a line runs may depend on the order of a set
            came = traced(Lines((*chosen[:2], 1)), WORK[name], tmp_path / f"{number} first")
        gc.collect()
        try:
            assert came, "no interrupt"
            before.check(files=False)
            for each in tmp_path.rglob("*"):
                assert each.suffix != ".tmp", each
        except AssertionError as changed:
            code, line, run = chosen
            wrong.append((str(Path(code.co_filename).relative_to(FOLDER)), line, run, str(changed)[:300]))
    assert not wrong, (len(wrong), wrong)
