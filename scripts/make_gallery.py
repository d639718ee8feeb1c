"""Draw the pictures of docs/gallery.md by running its examples: `python scripts/make_gallery.py`.

The figure that a block leaves in `fig` is written to the image that follows it. Look at the images before you commit
them.
"""

import doctest
import io
import pathlib
import re
import sys
import warnings
from typing import Any

from PIL import Image

DOCS = pathlib.Path(__file__).parents[1] / "docs"
DPI = 110
COLOURS = 128


def main(wanted: set[str]) -> None:
    """Run the page, and write its images, or those that are wanted."""
    warnings.simplefilter("ignore")
    names: dict[str, Any] = {}
    page = (DOCS / "gallery.md").read_text(encoding="utf-8")
    start = 0
    for image in re.finditer(r"!\[[^\]]*\]\((images/[a-z_]+\.png)\)", page):
        for example in doctest.DocTestParser().get_examples(page[start : image.start()]):
            exec(example.source, names)
        start = image.end()
        path = DOCS / image[1]
        if wanted and path.stem not in wanted:
            continue
        file = io.BytesIO()
        names["fig"].savefig(file, format="png", dpi=DPI)
        path.parent.mkdir(exist_ok=True)
        drawn = Image.open(file).convert("RGB").quantize(COLOURS)
        drawn.save(path, optimize=True)
        print(f"{path.relative_to(DOCS)}: {drawn.width} x {drawn.height}, {path.stat().st_size // 1024} kB")


if __name__ == "__main__":
    main(set(sys.argv[1:]))
