"""Notebooks keep the outputs of a whole run, and nothing of the machine that ran them. `make tutorials` runs them."""

import json
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "tutorials"
NOTEBOOKS = {path.name: path for path in sorted(FOLDER.glob("*.ipynb"))}
LARGEST = 400_000  # bytes
OF_A_MACHINE = re.compile(
    r"(?<![\w/:<])/(?:home|root|tmp|usr|opt|work|Users|private)/|site-packages|[A-Z]:\\|0x[0-9a-f]{6,}"
)


@pytest.fixture(params=NOTEBOOKS)
def notebook(request):
    return json.loads(NOTEBOOKS[request.param].read_text(encoding="utf-8"))


def sources(notebook, kind):
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == kind]


def outputs(notebook):
    return [output for cell in notebook["cells"] for output in cell.get("outputs", [])]


def texts(notebook):
    """Return what the outputs show, pictures aside."""
    for output in outputs(notebook):
        yield "".join(output.get("text", ""))
        yield from ("".join(shown) for kind, shown in output.get("data", {}).items() if not kind.startswith("image/"))


def test_cells_were_executed_in_order_from_a_clean_kernel(notebook):
    counts = [cell["execution_count"] for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert counts == list(range(1, len(counts) + 1))


def test_no_cell_failed_or_warned(notebook):
    assert {output["output_type"] for output in outputs(notebook)} <= {"stream", "display_data", "execute_result"}
    assert [output["text"] for output in outputs(notebook) if output.get("name") == "stderr"] == []


def test_there_are_pictures(notebook):
    assert sum("image/png" in output.get("data", {}) for output in outputs(notebook)) >= 2


def test_outputs_name_no_path_and_no_address_in_memory(notebook):
    assert [found for text in texts(notebook) for found in OF_A_MACHINE.findall(text)] == []


def test_ids_of_cells_are_unique_and_short(notebook):
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)
    assert [one for one in ids if not re.fullmatch(r"\d-\d\d", one)] == []


def test_metadata_is_the_same_on_every_machine(notebook):
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    assert [cell["id"] for cell in notebook["cells"] if cell["metadata"]] == []


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_is_small(name):
    assert NOTEBOOKS[name].stat().st_size < LARGEST


def test_relative_links_lead_to_files(notebook):
    links = [link for source in sources(notebook, "markdown") for link in re.findall(r"\]\(([^)#:]+)", source)]
    assert [link for link in links if not (FOLDER / link).exists()] == []


def test_the_table_has_every_notebook_by_its_title():
    rows = re.findall(r"^\| \[([^\]]+)\]\(([^)]+)\)", (FOLDER / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert [name for _, name in rows] == list(NOTEBOOKS)
    for title, name in rows:
        first = sources(json.loads(NOTEBOOKS[name].read_text(encoding="utf-8")), "markdown")[0]
        assert first.startswith(f"# {title}"), name
