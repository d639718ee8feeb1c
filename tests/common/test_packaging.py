"""Facts that are written in several places agree: versions, dependencies, commands of workflows; actions are pinned."""

import pathlib
import re

import pytest

import captum_lkn

yaml = pytest.importorskip("yaml", reason="PyYAML comes with transformers")
ROOT = pathlib.Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")  # Python 3.10 reads no TOML
RECIPE = yaml.safe_load((ROOT / "recipe" / "recipe.yaml").read_text(encoding="utf-8"))
TARGETS = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
CONDA = {"torch": "pytorch", "matplotlib": "matplotlib-base"}  # other names of the same


def test_the_version_is_the_same_everywhere():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert RECIPE["context"]["version"] == captum_lkn.__version__
    assert str(cited["version"]) == captum_lkn.__version__


def test_the_recipe_of_conda_asks_for_what_the_wheel_asks_for():
    (block,) = re.findall(r"^dependencies = \[(.*?)^\]", PROJECT, re.M | re.S)
    wheel = [re.fullmatch(r"([\w-]+)(>=.+)", one).groups() for one in re.findall(r'"(.+?)"', block)]
    conda = RECIPE["requirements"]["run"]
    assert conda[0] == "python >=${{ python_min }}"
    assert conda[1:] == [f"{CONDA.get(name, name)} {bound}" for name, bound in wheel]


@pytest.mark.parametrize("path", WORKFLOWS, ids=[path.stem for path in WORKFLOWS])
def test_workflows_pin_their_actions_and_call_targets_that_exist(path):
    text = path.read_text(encoding="utf-8")
    used = re.findall(r"uses: (\S+)(.*)", text)
    assert used
    for action, comment in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action)
        assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment)
    jobs = yaml.safe_load(text)["jobs"].values()
    targets = set(re.findall(r"run: make ([a-z0-9-]+)", text))
    for job in jobs:
        targets |= set(job.get("strategy", {}).get("matrix", {}).get("target", []))
    assert targets <= TARGETS
    assert all("permissions" in job for job in jobs) or "permissions:\n  contents: read" in text


def test_only_the_jobs_that_attest_and_publish_may_sign():
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8"))["jobs"]
    assert [name for name, job in jobs.items() if "id-token" in job["permissions"]] == ["attest", "publish"]
    assert jobs["publish"]["environment"]["name"] == "pypi"
    assert "password" not in str(jobs)
