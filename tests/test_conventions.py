"""Conventions that no linter checks: the language of docstrings, the size of files, what a module exports."""

import ast
import pathlib
import re

import pytest

import captum_lkn

ROOT = pathlib.Path(captum_lkn.__file__).parent
FILES = sorted(path for path in ROOT.rglob("*.py") if path.name != "__main__.py")
IDS = [str(path.relative_to(ROOT)) for path in FILES]
RIDDLES = {"What", "How", "Which", "Where", "Whether", "Of", "Who", "When", "Why"}
MOST_LINES = 420  # the aim is 400: a file that is longer wants splitting
FACTORIES = re.compile(
    r"torch\.(arange|as_tensor|asarray|empty|eye|full|linspace|logspace|ones|rand|randint|randn|randperm|scalar_tensor"
    r"|tensor|tril_indices|triu_indices|zeros)"
)


def docstrings(path):
    """Return each docstring of a file with the name of what it documents."""
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, kinds) and (text := ast.get_docstring(node)):
            yield getattr(node, "name", "the module"), text


FOLDERS = [ROOT, *(ROOT.parent / name for name in ("benchmarks", "docs", "scripts", "tests", "tutorials"))]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_docstrings_begin_with_a_verb_or_a_noun(folder):
    """A first sentence that is a question in disguise says nothing to who does not know the answer yet."""
    found = [(path.name, *one) for path in sorted(folder.rglob("*.py")) for one in docstrings(path)]
    assert [(file, name, text.splitlines()[0]) for file, name, text in found if text.split()[0] in RIDDLES] == []


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_files_stay_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_every_module_says_what_it_exports(path):
    body = ast.parse(path.read_text(encoding="utf-8")).body
    targets = [t for node in body if isinstance(node, ast.Assign) for t in node.targets]
    targets += [node.target for node in body if isinstance(node, ast.AnnAssign)]
    only_a_docstring = len(body) == 1
    assert only_a_docstring or "__all__" in {t.id for t in targets if isinstance(t, ast.Name)}


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_every_tensor_says_its_device(path):
    """The default device may be another one than that of the user's inputs."""
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    made = [c for c in calls if FACTORIES.fullmatch(ast.unparse(c.func))]
    assert [ast.unparse(c) for c in made if "device" not in {keyword.arg for keyword in c.keywords}] == []


TESTS = sorted(path for path in pathlib.Path(__file__).parent.rglob("*.py") if path.name != "forwards.py")


@pytest.mark.parametrize("path", TESTS, ids=[path.stem for path in TESTS])
def test_no_test_moves_a_model_to_a_gpu_by_itself(path):
    """Both would, on a machine that has one, while the test's inputs stay: `forwards.data_parallel` does not."""
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    moving = re.compile(r"(torch\.)?nn\.DataParallel|transformers\.pipeline")
    named = [c for c in calls if moving.fullmatch(ast.unparse(c.func))]
    assert [ast.unparse(c) for c in named if "device" not in {keyword.arg for keyword in c.keywords}] == []
