"""Imports stay light: heavy packages come with the call that needs them."""

import json
import pkgutil
import subprocess
import sys

import captum_lkn

NEVER = {"pandas", "transformers", "tokenizers", "scipy", "skimage", "sklearn", "shapiq", "networkx", "datasets"}
TERMINAL = {"rich", "typer"}
OUTSIDE = ("captum_lkn.cli", "captum_lkn.demo")

CODE = """
import importlib, json, sys
import torch, captum.attr  # the second brings matplotlib by itself
before, added = set(sys.modules), {}
for name in sys.argv[1:]:
    importlib.import_module(name)
    added[name] = sorted({module.partition(".")[0] for module in set(sys.modules) - before})
print(json.dumps(added))
"""


def test_no_import_brings_a_heavy_package():
    found = (module.name for module in pkgutil.walk_packages(captum_lkn.__path__, "captum_lkn."))
    found = [name for name in found if name != "captum_lkn.__main__"]
    # first what every user pays, then every module, those that may use the terminal last
    modules = ["captum_lkn", *sorted(found, key=lambda name: (name.startswith(OUTSIDE), name))]
    done = subprocess.run([sys.executable, "-c", CODE, *modules], capture_output=True, text=True, check=True)
    added = json.loads(done.stdout)
    assert list(added) == modules
    for name, packages in added.items():
        unwanted = NEVER if name.startswith(OUTSIDE) else NEVER | TERMINAL
        assert not unwanted & set(packages), f"import {name}"
