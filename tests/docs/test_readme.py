"""The README's lines are pasted as they stand: without prompts, in one session, in an empty folder."""

import contextlib
import io
import pathlib
import re

README = pathlib.Path(__file__).parents[2] / "README.md"
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n^```text\n(.*?)^```)?", re.DOTALL | re.MULTILINE)
GAP = re.compile(r"at most \S+ % above")  # rounding, another one on each machine


def test_the_lines_of_the_readme_run_and_print_what_it_shows(tmp_path, monkeypatch):
    blocks = BLOCK.findall(README.read_text(encoding="utf-8"))
    assert any(shown for _, shown in blocks)
    monkeypatch.chdir(tmp_path)
    names = {}
    for source, shown in blocks:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(source, str(README), "exec"), names)
        if shown:
            assert GAP.sub("", printed.getvalue()) == GAP.sub("", shown)
    assert {path.name for path in tmp_path.iterdir()} == set(re.findall(r'savefig\("([^"]+)"\)', blocks[0][0]))
