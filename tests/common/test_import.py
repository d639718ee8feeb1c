"""Importing the library is cheap: nothing heavy comes with it, and nothing at all before a name is used."""

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import captum_lkn

# Imported where they are used, and not before. The first line of CODE brings matplotlib and Pillow by itself.
HEAVY = {"pandas", "transformers", "tokenizers", "scipy", "skimage", "shapiq", "datasets", "lightgbm", "sklearn"}
OUTSIDE = {"matplotlib", "PIL", "rich", "typer"}
PACKAGES = [package.name for package in pkgutil.iter_modules(captum_lkn.__path__)]

CODE = """
import importlib, pkgutil, sys
import torch, captum.attr, tqdm.auto
import captum_lkn
before = set(sys.modules)
from captum_lkn import *
heavy = lambda: sorted({name.partition(".")[0] for name in set(sys.modules) - before})
print(*heavy())
for package in pkgutil.iter_modules(captum_lkn.__path__, "captum_lkn."):
    if package.ispkg and package.name != "captum_lkn.cli":
        for part in pkgutil.iter_modules(importlib.import_module(package.name).__path__, package.name + "."):
            importlib.import_module(part.name)
print(*heavy())
"""


def _run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return [set(line.split()) for line in done.stdout.splitlines()]


def test_the_import_is_lean():
    names, modules = _run(CODE)
    assert "captum_lkn" in names
    assert not names & (HEAVY | OUTSIDE)
    assert not modules & (HEAVY | OUTSIDE)


def test_the_command_line_can_help_before_torch_is_loaded():
    (loaded,) = _run("import sys, captum_lkn.cli.app; print(*{name.partition('.')[0] for name in sys.modules})")
    assert "typer" in loaded
    assert not loaded & (HEAVY | {"torch", "captum", "numpy"})


def test_the_names_of_the_root_are_where_type_checkers_see_them():
    tree = ast.parse(Path(captum_lkn.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name: node.module for node in block.body for alias in node.names}
    assert seen == captum_lkn._PLACE_OF
    assert sorted([*seen, "__version__"]) == captum_lkn.__all__


@pytest.mark.parametrize("name", captum_lkn.__all__)
def test_each_name_of_the_root_is_there(name):
    assert getattr(captum_lkn, name) is not None
    assert name in dir(captum_lkn)


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_are_attributes_of_the_root(package):
    if package != "__main__":
        assert getattr(captum_lkn, package) is importlib.import_module(f"captum_lkn.{package}")


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'AndOrInteractions'"):
        captum_lkn.AndOrInteractions  # noqa: B018
