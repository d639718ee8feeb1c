"""A wrong call ends with one message that names the option, before the model works; see ``wrong_calls.py``."""

import os
import re

import pytest
from cli_files import files_for, run
from torch.nn.modules.module import register_module_forward_pre_hook
from wrong_calls import wrong_calls


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("cli")
        patch.chdir(root)
        names = files_for(root)
        real = os.access  # root may write to what is read-only

        def access(path, mode, **kwargs):
            return not str(path).startswith(names["locked"]) and real(path, mode, **kwargs)

        patch.setattr(os, "access", access)
        yield names


@pytest.fixture
def forwards():
    """The modules that were called."""
    called = []
    handle = register_module_forward_pre_hook(lambda module, _: called.append(type(module).__name__))
    yield called
    handle.remove()


def plain(text):
    """Return a text without frames, line ends and spaces, in ASCII."""
    return re.sub(r"[│╭╮╰╯─\s]", "", text).encode("ascii", "backslashreplace").decode().replace("\\\\", "\\").lower()


def test_a_wrong_call_is_refused_by_the_options_name_before_any_forward(names, forwards, full):
    wrong = []
    rows = wrong_calls()
    assert len(rows) > 300
    for arguments, option, given in rows if full else rows[::2]:
        forwards.clear()
        done = run(*(part.format(**names) for part in arguments))
        said = plain(done.output)
        refused = done.exit_code in (1, 2) and isinstance(done.exception, SystemExit)
        given = given.format(**names)
        quoted = plain(given) or plain(repr(given))  # an empty text is its quotes
        named = plain(option) in said and quoted in said
        if not refused or not named or forwards or "traceback" in said:
            wrong.append(f"{arguments}: exit {done.exit_code}, {len(forwards)} forwards: {done.output[-300:]!r}")
    assert not wrong, "\n".join(wrong)


def test_the_calls_work_without_what_is_wrong(names):
    for call in (
        ["text", "{model}", "not good film"],
        ["show", "{result}"],
        ["image", "{vision}", "{picture}", "--most", "4"],
    ):
        done = run(*(part.format(**names) for part in call))
        assert done.exit_code == 0, done.output
