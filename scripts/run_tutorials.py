"""Execute the notebooks of tutorials/ into themselves, from a clean kernel each: `python scripts/run_tutorials.py`.

Names of notebooks, or beginnings of them, choose some: `python scripts/run_tutorials.py 1 3`. A cell that raises or
warns fails; its notebook stays as it was. Look at the pictures before you commit them.
"""

from __future__ import annotations

import base64
import io
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import nbformat
import typer
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from PIL import Image

FOLDER = Path(__file__).parents[1] / "tutorials"
SECONDS = 300  # for a cell
COLOURS = 96  # of a picture: a third of the bytes, without a difference that one sees
SETTINGS = {
    "OMP_NUM_THREADS": "1",  # two kernels of one thread take less time than one of two: little of the work is parallel
    "HF_HUB_OFFLINE": "1",
    "TQDM_DISABLE": "1",
    "PYTHONWARNINGS": "ignore:IProgress not found",  # tqdm's, where there are no widgets to draw its bars with
}
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def main(
    names: Annotated[list[str] | None, typer.Argument(help="notebooks, or how they begin; default all")] = None,
) -> None:
    """Execute the notebooks, two at a time."""
    paths = [path for path in sorted(FOLDER.glob("*.ipynb")) if not names or path.name.startswith(tuple(names))]
    if not paths:
        raise SystemExit(f"names must begin as notebooks of tutorials/ do; got {', '.join(names or ['no notebooks'])}")
    os.environ |= SETTINGS
    with ThreadPoolExecutor(2) as pool:
        failures = list(filter(None, pool.map(execute, paths)))
    for failure in failures:
        print(failure)
    raise SystemExit(bool(failures))


def execute(path: Path) -> str:
    """Execute a notebook and write it back; return the failure, or an empty text."""
    started = time.perf_counter()
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(notebook, timeout=SECONDS, resources={"metadata": {"path": str(FOLDER)}})
    client.coalesce_streams = True  # the same prints are one output however fast the machine is
    client.extra_arguments = ["--log-level=ERROR"]  # the kernel warns that it listens on this machine
    try:
        client.execute()
    except CellExecutionError as error:
        return f"{path.name}: {error}"
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({})
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr":
                return f"{path.name}: cell {cell.id} must not warn; it wrote {output['text']}"
            if "image/png" in output.get("data", {}):
                output["data"]["image/png"] = smaller(output["data"]["image/png"])
    nbformat.validate(notebook)
    text = nbformat.writes(notebook).rstrip("\n") + "\n"
    path.write_text(text, encoding="utf-8", newline="\n")
    print(f"{path.name}: {time.perf_counter() - started:.0f} s, {len(text) // 1024} kB", flush=True)
    return ""


def smaller(picture: Any) -> str:
    """Return a PNG, in base64, with fewer colours."""
    file = io.BytesIO()
    drawn = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB")
    drawn.quantize(COLOURS).save(file, format="png", optimize=True)
    return base64.b64encode(file.getvalue()).decode("ascii")


if __name__ == "__main__":
    typer.run(main)
