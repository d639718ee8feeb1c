"""Images as players: what each owns, what replaces it, and the way back to pixels."""

import json
import sys
import types
import warnings

import captum.attr
import numpy as np
import pytest
import scipy.ndimage
import torch
from forwards import data_parallel, normal
from hypothesis import given
from hypothesis import strategies as st

from captum_lkn import AndOrInteraction, ExactShapleyValues, Interactions
from captum_lkn.outputs.heads import SelectOutput
from captum_lkn.players.images import gaussian_blur, image_players, interaction_mask, player_map


def owners(players, sample=0):
    """The map of the players, the same in all channels."""
    owner = players.owners[0][sample]
    assert (owner == owner[:1]).all()
    return owner[0].tolist()


def picture(*shape, seed=0):
    return normal(*(shape or (1, 3, 4, 4)), seed=seed)


def with_patch(size, **more):
    return types.SimpleNamespace(config=types.SimpleNamespace(patch_size=size, **more))


def fails(error, match, image=None, **settings):
    with pytest.raises(error, match=match):
        image_players(picture() if image is None else image, **settings)


# ---------------------------------------------------------------- grids and patches


def test_a_grid_owns_all_channels_and_is_numbered_row_by_row():
    players = image_players(picture(2, 3, 4, 6), grid=(2, 3))
    assert players.labels == (("r0c0", "r0c1", "r0c2", "r1c0", "r1c1", "r1c2"),) * 2
    for sample in (0, 1):
        assert owners(players, sample) == [[0, 0, 1, 1, 2, 2]] * 2 + [[3, 3, 4, 4, 5, 5]] * 2
    assert players.owners[0].shape == (2, 3, 4, 6)
    assert players.owners[0].untyped_storage().nbytes() == 4 * 6 * 8  # one map for all channels and samples
    assert (players.names, players.is_tuple, dict(players.constants)) == (None, False, {})


def test_one_image_is_a_batch_of_one():
    image = picture(1, 4, 4)
    players = image_players(image, grid=2)
    assert torch.equal(players.inputs[0], image[None])
    assert players.sizes == (4,)


def test_a_grid_that_does_not_divide_the_image_differs_by_one_pixel():
    assert owners(image_players(picture(1, 1, 5), grid=(1, 3))) == [[0, 0, 1, 1, 2]]


@given(st.integers(1, 24), st.integers(1, 24))
def test_grid_cells_are_as_equal_as_pixels_allow(width, columns):
    if columns > width:
        fails(ValueError, r"grid has 1 x .* the image only 1 x .* pixels", picture(1, 1, width), grid=(1, columns))
        return
    (row,) = owners(image_players(picture(1, 1, width), grid=(1, columns)))
    sizes = np.bincount(row, minlength=columns)
    assert row == sorted(row)
    assert len(sizes) == columns
    assert sizes.max() - sizes.min() <= 1


def test_patches_of_a_size_are_smaller_at_the_right_and_lower_border():
    players = image_players(picture(1, 3, 5), patch_size=2)
    assert owners(players) == [[0, 0, 1, 1, 2], [0, 0, 1, 1, 2], [3, 3, 4, 4, 5]]
    assert players.labels[0][-1] == "r1c2"
    assert owners(image_players(picture(1, 3, 4), patch_size=(3, 2))) == [[0, 0, 1, 1]] * 3


def test_the_patches_of_a_model_are_the_default():
    image = picture(1, 4, 8)
    expected = [[0, 0, 0, 0, 1, 1, 1, 1]] * 2 + [[2, 2, 2, 2, 3, 3, 3, 3]] * 2
    for settings_ in ({}, {"patch_size": "model"}):
        assert owners(image_players(image, model=with_patch((2, 4)), **settings_)) == expected
    assert image_players(image, model=with_patch([4, 4])).sizes == (2,)
    clip = types.SimpleNamespace(config=types.SimpleNamespace(vision_config=types.SimpleNamespace(patch_size=4)))
    assert image_players(image, model=clip).sizes == (2,)


def test_a_wrapped_model_has_its_own_patches():
    model = torch.nn.Identity()
    model.config = with_patch(4).config
    for wrapped in (data_parallel(model), torch.compile(model, backend="eager"), SelectOutput(model)):
        assert image_players(picture(1, 8, 8), model=wrapped).sizes == (4,)


def test_grid_lines_lie_between_the_patches_of_the_model():
    (row, *_) = owners(image_players(picture(1, 2, 10), grid=(1, 3), model=with_patch(2)))
    assert row == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]  # without the model, the lines would be at 4 and 7
    assert image_players(picture(1, 2, 10), grid=(1, 3)).description["grid"]["columns"] == [0, 4, 7, 10]
    fails(ValueError, "grid has 1 x 6 cells, the image only 1 x 5 patches of the model, 2 x 2", picture(1, 2, 10),
          grid=(1, 6), model=with_patch(2))  # fmt: skip


def test_a_patch_that_would_cut_the_patches_of_the_model_is_refused():
    image = picture(1, 12, 12)
    assert image_players(image, patch_size=8, model=with_patch(4)).sizes == (4,)
    fails(ValueError, r"patch_size 6 x 6 cuts through .* 4 x 4 pixels. Give multiples \(4 x 4, 8 x 8, 12 x 12\)",
          image, patch_size=6, model=with_patch(4))  # fmt: skip


# ---------------------------------------------------------------- segments


def test_a_map_of_segments_keeps_its_ids_as_labels():
    segments = np.array([[7, 7, -1], [0, 7, 3]])
    players = image_players(picture(3, 2, 3), segments=segments)
    assert owners(players) == [[2, 2, -1], [0, 2, 1]]
    assert players.labels == (("s0", "s3", "s7"),)


def test_a_map_of_segments_for_each_sample():
    segments = torch.tensor([[[0, 1]], [[4, 4]]], dtype=torch.int32)
    players = image_players(picture(2, 3, 1, 2), segments=segments)
    assert players.labels == (("s0", "s1"), ("s4",))
    assert [owners(players, i) for i in (0, 1)] == [[[0, 1]], [[0, 0]]]


def test_slic_segments_keep_to_the_edges_of_each_image():
    image = torch.zeros(2, 3, 16, 16)
    image[0, :, :, 6:] = 5.0
    image[1, :, 11:] = 5.0
    players = image_players(image, segments="slic", n_segments=4)
    for sample, size in enumerate(players.sizes):
        owner = torch.tensor(owners(players, sample))
        assert 2 <= size <= 6
        assert players.labels[sample] == tuple(f"s{i}" for i in range(size))
        for player in range(size):
            assert len(image[sample, 0][owner == player].unique()) == 1
    assert players.description["players"] == "SLIC segments"


def test_slic_without_scikit_image_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.segmentation", None)
    fails(ImportError, r"pip install \"captum-lkn\[image\]\"", segments="slic")


# ---------------------------------------------------------------- foreground and background


@pytest.mark.parametrize(
    "foreground",
    [
        ["r0c1", "r1c0"],
        {(1, 0), (0, 1)},
        ["r1c0", (0, 1)],
        torch.tensor([[0, 0, 0, 1], [0] * 4, [1, 1, 0, 0], [0] * 4]) > 0,
    ],
)
def test_only_the_foreground_is_players(foreground):
    players = image_players(picture(), grid=2, foreground=foreground)
    assert players.labels == (("r0c1", "r1c0"),)
    assert owners(players) == [[-1, -1, 0, 0]] * 2 + [[1, 1, -1, -1]] * 2


def test_segments_are_chosen_by_id_or_label():
    segments = torch.tensor([[5, 2, 9]])
    for foreground in ([9, 5], ["s9", "s5"], np.array([[True, False, True]])):
        assert image_players(picture(1, 1, 3), segments=segments, foreground=foreground).labels == (("s5", "s9"),)


def test_a_foreground_mask_for_each_sample():
    masks = torch.tensor([[[True, False, False, False]], [[False, True, False, True]]])
    players = image_players(picture(2, 1, 1, 4), grid=(1, 2), foreground=masks)
    assert players.labels == (("r0c0",), ("r0c0", "r0c1"))
    assert [owners(players, i) for i in (0, 1)] == [[[0, 0, -1, -1]], [[0, 0, 1, 1]]]


def test_the_background_stays_or_is_masked_too():
    image = torch.tensor([[[1.0, 2.0, 3.0, 4.0]]])
    absent = torch.tensor([[False], [True]])
    kept = image_players(image, grid=(1, 2), foreground=["r0c0"], baseline=9)
    assert kept.masked(0, absent)[0].flatten(1).tolist() == [[9, 9, 3, 4], [1, 2, 3, 4]]
    gone = image_players(image, grid=(1, 2), foreground=["r0c0"], baseline=9, background="mask")
    assert gone.masked(0, absent)[0].flatten(1).tolist() == [[9, 9, 9, 9], [1, 2, 9, 9]]
    assert (gone.description["background"], "background" in kept.description) == ("masked", False)
    assert image.flatten().tolist() == [1, 2, 3, 4]


def test_names_of_choice():
    assert image_players(picture(), grid=2, player_names=list("abcd")).labels == (tuple("abcd"),)
    assert image_players(picture(), grid=2, foreground=["r1c1"], player_names=["x"]).labels == (("x",),)


# ---------------------------------------------------------------- what takes an absent part's place


def baseline_of(image, baseline, **more):
    return image_players(image, grid=1, baseline=baseline, **more).baselines[0]


def test_constant_baselines():
    image = picture(2, 3, 4, 5)
    assert torch.equal(baseline_of(image, "zero"), torch.zeros_like(image))
    assert torch.equal(image_players(image, grid=1).baselines[0], torch.zeros_like(image))
    assert torch.equal(baseline_of(image, 0.5), torch.full_like(image, 0.5))
    assert torch.equal(baseline_of(image, torch.tensor(2)), torch.full_like(image, 2))
    colour = baseline_of(image, torch.tensor([1.0, 2.0, 3.0]))
    assert [colour[:, c].unique().tolist() for c in range(3)] == [[1], [2], [3]]


def test_the_mean_is_each_image_its_own():
    image = picture(2, 3, 4, 5)
    filled = baseline_of(image, "mean")
    for sample in range(2):
        for channel in range(3):
            mean = image[sample, channel].numpy().mean()
            assert filled[sample, channel].numpy() == pytest.approx(np.full((4, 5), mean), abs=1e-6)


def test_images_as_baselines():
    image, other = picture(2, 3, 4, 5), picture(2, 3, 4, 5, seed=1)
    assert torch.equal(baseline_of(image, other), other)
    assert torch.equal(baseline_of(image, other[0]), other[[0, 0]])
    assert torch.equal(baseline_of(image, other[:1]), other[[0, 0]])


@pytest.mark.parametrize("sigma", [0.4, 1.3, 6.0])
def test_blur_equals_scipy(sigma):
    image = picture(2, 3, 7, 9)
    expected = scipy.ndimage.gaussian_filter(image.double().numpy(), sigma, mode="nearest", axes=(2, 3))
    assert gaussian_blur(image.double(), sigma).numpy() == pytest.approx(expected, abs=1e-12)
    assert baseline_of(image, "blur", sigma=sigma).numpy() == pytest.approx(expected, abs=1e-5)
    half = gaussian_blur(image.half(), sigma)
    assert half.dtype == torch.float16
    assert half.float().numpy() == pytest.approx(expected, abs=5e-3)


def test_the_default_blur_grows_with_the_image():
    image = picture(1, 8, 32)
    assert torch.equal(baseline_of(image, "blur"), baseline_of(image, "blur", sigma=2))
    assert image_players(image, grid=1, baseline="blur").description["baseline"] == "blur, sigma 2"


# ---------------------------------------------------------------- mappings, provenance, imports


def test_a_mapping_masks_the_pixels_and_keeps_the_rest():
    ids = torch.tensor([[1, 2]])
    players = image_players({"input_ids": ids, "pixel_values": picture()}, grid=2)
    assert players.names == ("pixel_values",)
    assert set(players.constants) == {"input_ids"}
    assert players.inputs[0].shape == (1, 3, 4, 4)


def test_description_goes_into_json():
    assert json.loads(json.dumps(image_players(picture(), grid=2, baseline="mean").description)) == {
        "players": "patches, 2 x 2",
        "grid": {"rows": [0, 2, 4], "columns": [0, 2, 4]},
        "baseline": "mean of the image",
    }
    segments = torch.zeros(4, 4, dtype=torch.int64)
    told = image_players(picture(), segments=segments, baseline=torch.zeros(3)).description
    assert told == {"players": "segments", "baseline": "float32 [3]"}


def test_the_autograd_history_stays_behind():
    image = picture().requires_grad_()
    assert not image_players(image * 2, grid=2).inputs[0].requires_grad


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("error", "match", "image"),
    [
        (TypeError, "image must be a tensor .* got a ndarray. Call the model's image processor", np.zeros((3, 4, 4))),
        (TypeError, r"floating.* got uint8 \[3, 4, 4\]. These are raw pixels", torch.zeros(3, 4, 4, dtype=torch.uint8)),
        (ValueError, r"must be \[C, H, W\] or .* got shape \[4, 4\]", torch.zeros(4, 4)),
        (ValueError, r"not empty; got shape \[0, 3, 4, 4\]", torch.zeros(0, 3, 4, 4)),
        (ValueError, r"must have the entry pixel_values.*got \['pixels'\]", {"pixels": torch.zeros(1, 3, 4, 4)}),
    ],
)
def test_wrong_images(error, match, image):
    fails(error, match, image, grid=2)


@pytest.mark.parametrize(
    "config", [{"num_channels": 3}, {"vision_config": types.SimpleNamespace(num_channels=3)}], ids=str
)
def test_channels_last_are_refused_where_the_model_says_how_many_there_are(config):
    model = types.SimpleNamespace(config=types.SimpleNamespace(**config))
    for image in (torch.zeros(1, 8, 8, 3), torch.zeros(2, 64, 3)):
        fails(
            ValueError, r"with 3 channels; got .*, 3\], with the channels last. .*movedim", image, grid=2, model=model
        )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image_players(torch.zeros(3, 8, 3), grid=(2, 1), model=model)
        two = types.SimpleNamespace(config=types.SimpleNamespace(num_channels=2))
        image_players(torch.zeros(2, 64, 3), grid=(2, 1), model=two)


def test_a_width_of_three_is_only_warned_of_without_a_model():
    strips = normal(2, 64, 3)  # two channels of a narrow picture
    with pytest.warns(UserWarning, match=r"has the shape \[1, 2, 64, 3\], as if its channels were last.*give model="):
        players = image_players(strips, grid=(2, 1))
    (copy,) = players.masked(0, torch.tensor([[True, False]]))
    assert torch.equal(copy[0], torch.cat([strips[:, :32], torch.zeros(2, 32, 3)], 1))


MAP = torch.zeros(4, 4, dtype=torch.int64)


@pytest.mark.parametrize(
    ("error", "match", "settings"),
    [
        (ValueError, "the parts of the image are not defined, and no model= is given. Give grid=", {}),
        (ValueError, "not defined, and Linear has no config.patch_size", {"model": torch.nn.Linear(1, 1)}),
        (ValueError, "not defined, and no model= is given", {"patch_size": "model"}),
        (ValueError, "only one of grid, .*got grid and segments", {"grid": 2, "segments": "slic"}),
        (TypeError, "grid must be a whole number, or two .* got 2.0", {"grid": 2.0}),
        (TypeError, "grid must be a whole number.* got True", {"grid": True}),
        (TypeError, r"patch_size must be .* got \(2, 2, 2\)", {"patch_size": (2, 2, 2)}),
        (TypeError, "patch_size must be .* got 'large'", {"patch_size": "large"}),
        (ValueError, "grid must be at least 1; got 0", {"grid": 0}),
        (ValueError, "grid has 5 x 5 cells, the image only 4 x 4 pixels", {"grid": 5}),
        (ValueError, "patch_size 5 x 5 is larger than the image, 4 x 4 pixels", {"patch_size": 5}),
        (TypeError, "segments must be a map .* got 'felzenszwalb'", {"segments": "felzenszwalb"}),
        (TypeError, "segments must hold whole numbers; got float32", {"segments": torch.zeros(4, 4)}),
        (ValueError, r"segments must be a map \[4, 4\].*got \[2, 4\]", {"segments": MAP[:2]}),
        (ValueError, "segments must hold ids from 0, or -1.*got -2", {"segments": MAP - 2}),
        (ValueError, "the image has no player", {"segments": MAP - 1}),
        (TypeError, "n_segments must be a whole number from 1; got 2.5", {"segments": "slic", "n_segments": 2.5}),
        (ValueError, "n_segments must be a whole number from 1; got 0", {"segments": "slic", "n_segments": 0}),
        (ValueError, "the image has no player", {"grid": 2, "foreground": []}),
        (ValueError, "'r0c4', which is not a region of the image. Did you mean", {"grid": 2, "foreground": ["r0c4"]}),
        (ValueError, r"foreground has \(2, 0\), which is not a region", {"grid": 2, "foreground": [(2, 0)]}),
        (TypeError, "foreground must hold names like .*got 1.5", {"grid": 2, "foreground": [1.5]}),
        (TypeError, "foreground must be a list of regions or .* got 'r0c0'", {"grid": 2, "foreground": "r0c0"}),
        (TypeError, "a foreground mask must be bool.* got int64", {"grid": 2, "foreground": MAP}),
        (ValueError, r"foreground mask must be \[4, 4\].*got \[2, 4\]", {"grid": 2, "foreground": MAP[:2] > 0}),
        (ValueError, 'background must be "keep" or "mask"; got \'blur\'', {"grid": 2, "background": "blur"}),
        (ValueError, "baseline must be \"zero\", .* got 'black'", {"grid": 2, "baseline": "black"}),
        (ValueError, r"one value a channel, \[3\].*got shape \[2\]", {"grid": 2, "baseline": torch.ones(2)}),
        (TypeError, "baseline 0 must be a tensor or a number; got a list", {"grid": 2, "baseline": [0, 0, 0]}),
        (ValueError, 'sigma needs baseline="blur"', {"grid": 2, "sigma": 2}),
        (ValueError, "sigma must be above 0 and finite", {"grid": 2, "baseline": "blur", "sigma": 0}),
        (TypeError, "sigma must be a number of pixels; got 'wide'", {"grid": 2, "baseline": "blur", "sigma": "wide"}),
        (ValueError, "got 3 labels for 4 ids", {"grid": 2, "player_names": list("abc")}),
    ],
)  # fmt: skip
def test_wrong_settings(error, match, settings):
    fails(error, match, **settings)


def test_slic_refuses_what_is_not_finite():
    fails(ValueError, "a value that is not finite, which SLIC cannot segment", picture() / 0, segments="slic")


# ---------------------------------------------------------------- the way back to pixels


def by_quarter(x):
    """A score of a 4 x 4 image: its quarters' sums, two of them multiplied."""
    sums = x.sum(1).unfold(1, 2, 2).unfold(2, 2, 2).sum((-1, -2)).flatten(1)
    return sums[:, 0] * sums[:, 3] + sums[:, 1]


def test_interactions_go_back_to_pixels():
    players = image_players(torch.ones(2, 1, 4, 4), grid=2)
    found = AndOrInteraction(by_quarter, score="logit", noise=0).attribute(players)
    strongest, second = found[0].top(2)
    assert (strongest.players, second.players) == (("r0c0", "r1c1"), ("r0c1",))
    assert interaction_mask(found[0], strongest).int().tolist() == [[1, 1, 0, 0]] * 2 + [[0, 0, 1, 1]] * 2
    assert interaction_mask(found[0], [1]).int().tolist() == [[0, 0, 1, 1]] * 2 + [[0] * 4] * 2
    assert not interaction_mask(found[0], ()).any()
    assert player_map(found[0]).tolist() == owners(players)
    shapley = found.attributions()
    assert shapley.shape == (2, 1, 4, 4)
    # 4 * 4 is shared by the first and the last quarter, 4 belongs to the second
    assert shapley[1, 0, ::2, ::2].tolist() == pytest.approx(np.array([[8.0, 4.0], [0.0, 8.0]]))


def test_the_background_has_no_attribution():
    players = image_players(torch.ones(1, 4, 4), grid=2, foreground=["r0c0"])
    found = AndOrInteraction(by_quarter, score="logit", noise=0).attribute(players)
    assert found.attributions()[0, 0].tolist() == [[16.0, 16.0, 0, 0]] * 2 + [[0.0] * 4] * 2
    assert player_map(found[0]).tolist() == [[0, 0, -1, -1]] * 2 + [[-1] * 4] * 2


def test_the_way_back_survives_a_file(tmp_path):
    found = AndOrInteraction(by_quarter, score="logit", noise=0).attribute(image_players(picture(1, 4, 4), grid=2))[0]
    found.save(tmp_path / "found.safetensors")
    loaded = Interactions.load(tmp_path / "found.safetensors")
    assert torch.equal(interaction_mask(loaded, [0, 2]), interaction_mask(found, [0, 2]))
    assert loaded.provenance["grid"] == {"rows": [0, 2, 4], "columns": [0, 2, 4]}


def test_what_is_no_image_has_no_pixels():
    found = AndOrInteraction(lambda x: x.sum(1), score="logit").attribute(torch.ones(1, 3))[0]
    with pytest.raises(ValueError, match=r"of one image \[C, H, W\]; got interactions of \[3\]"):
        player_map(found)
    with pytest.raises(ValueError, match="numbers of players, 0 to 2; got 3"):
        interaction_mask(found, [3])
    two = AndOrInteraction(lambda x: x.sum((1, 2, 3)), score="logit").attribute(
        torch.ones(1, 2, 1, 1), feature_mask=torch.tensor([[[[0]], [[1]]]])
    )
    with pytest.raises(ValueError, match="differ between channels"):
        player_map(two[0])


# ---------------------------------------------------------------- a vision transformer


@pytest.fixture(scope="module")
def vit():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        image_size=8, patch_size=4, num_channels=3, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, num_labels=3, initializer_range=0.5,
    )  # fmt: skip
    return transformers.ViTForImageClassification(config).eval()


@pytest.mark.parametrize("as_mapping", [False, True])
def test_a_vision_transformer_agrees_with_captum(vit, as_mapping):
    image, target = picture(2, 3, 8, 8, seed=3), torch.tensor([2, 0])
    baseline = torch.tensor([0.1, -0.2, 0.3])
    players = image_players({"pixel_values": image} if as_mapping else image, model=vit, baseline=baseline)
    assert players.labels == (("r0c0", "r0c1", "r1c0", "r1c1"),) * 2
    found = AndOrInteraction(vit, score="logit", noise=0).attribute(players, target=target)
    quarters = torch.tensor([[0, 1], [2, 3]]).repeat_interleave(4, 0).repeat_interleave(4, 1)
    expected = captum.attr.ShapleyValues(lambda x: vit(pixel_values=x).logits).attribute(
        image,
        baselines=baseline.view(1, 3, 1, 1).expand(2, 3, 8, 8),
        target=target,
        feature_mask=quarters.repeat(1, 3, 1, 1),
    )
    torch.testing.assert_close(found.attributions(), expected, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(
        ExactShapleyValues(vit).attribute(players, target=target), expected, atol=2e-5, rtol=1e-4
    )
    assert found[1].provenance["grid"] == {"rows": [0, 4, 8], "columns": [0, 4, 8]}
    assert found[1].provenance["baseline"] == "float32 [3]"
