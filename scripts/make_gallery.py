"""Draw the pictures of the gallery, of docs/states.md and of the README: `python scripts/make_gallery.py`.

Their examples are run. The figure that a block leaves in `fig` is written to the image that follows it, that of the
README's block to `readme.png`. Look at the images before you commit them.
"""

import doctest
import io
import os
import pathlib
import re
import sys
import tempfile
import warnings
from typing import Any

from PIL import Image

DOCS = pathlib.Path(__file__).parents[1] / "docs"
PAGES = ("gallery.md", "states.md")
DPI = 110
COLOURS = 128


def main(wanted: set[str]) -> None:
    """Run the pages, and write their images, or those that are wanted."""
    warnings.simplefilter("ignore")
    if not wanted or "readme" in wanted:
        draw_readme()
    for page in PAGES:
        draw_page(DOCS / page, wanted)


def draw_readme() -> None:
    """Run the README's lines, which write a file, in a folder of their own."""
    (source, *_) = re.findall(
        r"```python\n(.*?)```", (DOCS.parent / "README.md").read_text(encoding="utf-8"), re.DOTALL
    )
    names: dict[str, Any] = {}
    home = pathlib.Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        exec(source, names)
        os.chdir(home)
    write(names["fig"], DOCS / "images" / "readme.png")


def draw_page(path: pathlib.Path, wanted: set[str]) -> None:
    """Run a page's examples up to each image, if one of them is wanted."""
    names: dict[str, Any] = {}
    page = path.read_text(encoding="utf-8")
    images = list(re.finditer(r"!\[[^\]]*\]\((images/[a-z_]+\.png)\)", page))
    if wanted and not wanted & {pathlib.Path(image[1]).stem for image in images}:
        return
    start = 0
    for image in images:
        for source in code_of(page[start : image.start()]):
            exec(source, names)
        start = image.end()
        path = DOCS / image[1]
        if not wanted or path.stem in wanted:
            write(names["fig"], path)


def code_of(text: str) -> list[str]:
    """Return the examples of a part of a page: lines with prompts, or whole blocks without."""
    plain = re.findall(r"```python\n((?!>>>).*?)```", text, re.DOTALL)
    return [example.source for example in doctest.DocTestParser().get_examples(text)] or plain


def write(fig: Any, path: pathlib.Path) -> None:
    """Write a figure in few colours."""
    file = io.BytesIO()
    fig.savefig(file, format="png", dpi=DPI)
    path.parent.mkdir(exist_ok=True)
    drawn = Image.open(file).convert("RGB").quantize(COLOURS)
    drawn.save(path, optimize=True)
    print(f"{path.relative_to(DOCS)}: {drawn.width} x {drawn.height}, {path.stat().st_size // 1024} kB")


if __name__ == "__main__":
    main(set(sys.argv[1:]))
