"""Pictures held against reference images, which a person has looked at.

After a wanted change run `python tests/plot/test_pictures.py`, look at what it wrote to `tests/plot/references`, and
commit that. The comparison blurs both, so that another version of a font or of FreeType passes, but a bar, an arc or a
label at another place does not.
"""

import io
import pathlib
import sys

import matplotlib.style
import numpy as np
import pytest
from PIL import Image, ImageFilter

sys.path[:0] = [str(folder) for folder in pathlib.Path(__file__).parents[1:3]]

import plot_results as results  # noqa: E402

REFERENCES = pathlib.Path(__file__).parent / "references"
DPI = 50
BLUR = 2  # pixels
TOLERANCE = 6  # of 255, root mean square; another font for all text gives 4, bars without their legend 9

PICTURES = {
    "waterfall": lambda: results.sentence().plot.waterfall(),
    "bars": lambda: results.sentence().plot.bars(),
    "upset": lambda: results.sentence().plot.upset(),
    "sentence": lambda: results.sentence().plot.sentence(),
    "strength": lambda: results.sentence().plot.strength(),
    "ranking": lambda: results.sentence().plot.ranking(),
    "fidelity": lambda: results.sentence().plot.fidelity(),
    "network": lambda: results.sentence().plot.network(),
    "patches": lambda: results.quarters().plot.patches(results.PICTURE),
    "summary": lambda: results.batch().plot.summary(),
    "beeswarm": lambda: results.batch().plot.beeswarm(),
    "class_bars": lambda: results.batch().plot.bars(),
    "flow": lambda: results.change().plot.flow(),
    "heatmap": lambda: results.change().plot.heatmap(),
    "completeness": lambda: results.change(ceiling=True).plot.completeness(),
    "stacked": lambda: results.change().plot.stacked(),
    "matrix": lambda: results.change().plot.matrix(),
    "emergence": lambda: results.change().plot.emergence("not", ("not", "good"), alone=True),
}


def drawn(name):
    """Return a picture as Pillow's image, in Matplotlib's default style."""
    file = io.BytesIO()
    with matplotlib.style.context("default"):
        PICTURES[name]().fig.savefig(file, format="png", dpi=DPI)
    return Image.open(file).convert("RGB")


def difference(one, other):
    """Return the root mean square difference of two images after a blur."""
    blurred = [np.asarray(image.filter(ImageFilter.GaussianBlur(BLUR)), dtype=float) for image in (one, other)]
    return float(np.sqrt(((blurred[0] - blurred[1]) ** 2).mean()))


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_look_as_they_did(name, tmp_path):
    reference = Image.open(REFERENCES / f"{name}.png").convert("RGB")
    image = drawn(name)
    assert np.allclose(image.size, reference.size, rtol=0.03)
    found = difference(image.resize(reference.size), reference)
    image.save(tmp_path / f"{name}.png")
    assert found < TOLERANCE, f"{found:.1f}: compare {tmp_path / name}.png with {REFERENCES / name}.png"


def test_references_are_small():
    files = list(REFERENCES.glob("*.png"))
    assert {file.stem for file in files} == set(PICTURES)
    assert sum(file.stat().st_size for file in files) < 1_000_000


if __name__ == "__main__":
    REFERENCES.mkdir(exist_ok=True)
    for wanted in sys.argv[1:] or PICTURES:
        drawn(wanted).quantize(48).save(REFERENCES / f"{wanted}.png", optimize=True)
