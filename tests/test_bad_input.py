"""A wrong argument is refused at once, by name, with what was given: see `bad_input.py`."""

import collections
import contextlib
import io

import matplotlib.pyplot as plt
import pytest
from bad_calls import calls
from bad_input import outcome, rows

LEAST = 1000
SHARE = 12  # one of so many rows is tried; `--full` tries all


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("bad-input"))  # a text is a path: some calls write there
        yield calls()


def test_every_wrong_argument_is_refused_by_name(table, full):
    every = rows(table)
    tried = every if full else [row for place, row in enumerate(every) if place % SHARE == 0]
    assert len(tried) >= LEAST
    wrong = []
    for row in tried:
        with contextlib.redirect_stderr(io.StringIO()):
            came = outcome(row, table)
        plt.close("all")
        if came.startswith("unclear") or (came == "works" and row.must):
            wrong.append((row.call, row.argument, row.value, came))
    assert not wrong, "\n".join(map(str, wrong))


def test_the_calls_work_without_a_wrong_argument(table):
    quick = {name: call for name, call in table.items() if "report" not in name and "shapiq" not in name}
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        for function, good in quick.values():
            function(**good)
            plt.close("all")
    assert collections.Counter(name.partition(".")[0] for name in table).total() > 100
