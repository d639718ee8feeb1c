"""Pictures held against reference images, which a person has looked at.

After a wanted change run `python tests/plot/test_pictures.py`, look at what it wrote to `tests/plot/references`, and
commit that. The comparison blurs both, so that another build of FreeType passes, but a bar of another length does not.
With another version of Matplotlib than that of the references it is coarser.
"""

import io
import pathlib
import sys

import matplotlib
import matplotlib.style
import numpy as np
import pytest
from PIL import Image, ImageFilter

sys.path[:0] = [str(folder) for folder in pathlib.Path(__file__).parents[1:3]]

import plot_results as results  # noqa: E402

REFERENCES = pathlib.Path(__file__).parent / "references"
DPI = 50
MADE_WITH = "3.11"  # Matplotlib
# Radius of the blur in pixels, and the largest root mean square difference of 255. One bar at half its length gives
# 7.0, one bar of another colour 8.2, bars without their legend 24; the palette of the references gives up to 2.0.
SAME_VERSION = 2, 4
# Other versions set text and margins differently, by a pixel or two: 3.9 gives 2.5 to 10.3 with this blur, so that
# only another layout fails. The data drawn are tested in the other files, in any version.
OTHER_VERSION = 6, 12

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


def difference(one, other, blur):
    """Return the root mean square difference of two images after a blur."""
    blurred = [np.asarray(image.filter(ImageFilter.GaussianBlur(blur)), dtype=float) for image in (one, other)]
    return float(np.sqrt(((blurred[0] - blurred[1]) ** 2).mean()))


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_look_as_they_did(name, tmp_path):
    reference = Image.open(REFERENCES / f"{name}.png").convert("RGB")
    image = drawn(name)
    assert np.allclose(image.size, reference.size, rtol=0.03)
    blur, tolerance = SAME_VERSION if matplotlib.__version__.startswith(f"{MADE_WITH}.") else OTHER_VERSION
    found = difference(image.resize(reference.size), reference, blur)
    image.save(tmp_path / f"{name}.png")
    assert found < tolerance, f"{found:.1f}: compare {tmp_path / name}.png with {REFERENCES / name}.png"


def test_references_are_small():
    files = list(REFERENCES.glob("*.png"))
    assert {file.stem for file in files} == set(PICTURES)
    assert sum(file.stat().st_size for file in files) < 1_000_000


if __name__ == "__main__":
    REFERENCES.mkdir(exist_ok=True)
    for wanted in sys.argv[1:] or PICTURES:
        drawn(wanted).quantize(96).save(REFERENCES / f"{wanted}.png", optimize=True)
