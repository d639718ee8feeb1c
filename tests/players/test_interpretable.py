"""Captum's interpretable inputs in the place of inputs, against Captum's own methods."""

import PIL.Image
import pytest
import torch
from captum.attr import (
    InterpretableInput,
    LLMAttribution,
    ShapleyValues,
    TextTemplateInput,
    TextTokenInput,
)
from tiny_models import tiny_causal
from tiny_tokenizers import chat_like
from torch import nn
from torch.testing import assert_close

from captum_lkn import AndOrInteraction, Continuation, ExactShapleyValues, prompt_players, select_players
from captum_lkn.players.interpretable import interpretable_players

pytest.importorskip("captum", minversion="0.9", reason="captum 0.8 has no ImageMaskInput")
from captum.attr import ImageMaskInput

torch.manual_seed(0)
IMAGE = PIL.Image.fromarray(torch.randint(0, 256, (4, 6, 3), dtype=torch.uint8).numpy())
HALVES = torch.tensor([[7] * 3 + [9] * 3] * 4)
NETWORK = nn.Sequential(nn.Flatten(), nn.Linear(72, 3)).eval()


def pixels(image):
    return torch.tensor(list(image.tobytes()), dtype=torch.float32).reshape(1, 4, 6, 3) / 255


def by_captum(given, forward, target):
    """Return the table of an input by Captum's own transformation, one mask after the other."""
    n = given.n_itp_features
    masks = torch.tensor([[bits >> i & 1 for i in range(n)] for bits in range(2**n)], dtype=torch.float32)
    with torch.no_grad():
        return torch.cat([forward(given.to_model_input(mask[None]))[:, target] for mask in masks]).double()


@pytest.mark.parametrize(
    "parts",
    [{"mask": HALVES}, {"mask_list": [HALVES == 7, torch.arange(6).expand(4, 6) % 2 == 0, HALVES == 9]}, {}],
    ids=["mask", "overlapping masks", "whole image"],
)
def test_an_image_mask_input_has_the_values_of_its_masked_images(parts):
    given = ImageMaskInput(IMAGE, **parts, baseline=(255, 0, 128), processor_fn=pixels)
    found = AndOrInteraction(NETWORK, score="logit", kappa=0.01).attribute(given, target=1)[0]
    assert_close(found.values, by_captum(given, NETWORK, 1), atol=1e-5, rtol=1e-5)
    assert found.players == tuple(given.values)
    attributions = ExactShapleyValues(NETWORK).attribute(given, target=1)
    assert given.format_pixel_attr(attributions).shape == (1, 4, 6)


def test_a_processor_that_returns_a_mapping_is_called_by_keyword():
    given = ImageMaskInput(IMAGE, HALVES, processor_fn=lambda image: {"x": pixels(image), "scale": torch.ones(1, 1)})

    def forward(x, scale, power):
        assert len(x) == len(scale)
        return NETWORK(x) * scale**power

    method = AndOrInteraction(forward, score="logit", kappa=0.01)
    found = method.attribute(given, target=2, additional_forward_args={"power": 2})[0]
    assert_close(found.values, by_captum(given, lambda x: NETWORK(x["x"]), 2), atol=1e-5, rtol=1e-5)


def test_images_go_to_a_function_as_a_list():
    given = ImageMaskInput(IMAGE, HALVES)
    seen = []

    def forward(images):
        seen.append(type(images))
        return torch.cat([NETWORK(pixels(image)) for image in images])

    found = AndOrInteraction(forward, score="logit", kappa=0.01).attribute(given, target=0)[0]
    assert_close(found.values, by_captum(given, lambda image: NETWORK(pixels(image)), 0), atol=1e-5, rtol=1e-5)
    assert set(seen) == {list}
    chosen = select_players(forward, interpretable_players(given), 1, target=0)
    assert chosen.sizes == (1,)


def words(texts):
    """Score texts without a tokenizer."""
    return torch.tensor([[len(text) * 0.1 + 2.0 * ("not good" in text), 0.0] for text in texts])


def test_a_template_without_a_tokenizer_goes_to_a_function_as_texts():
    given = TextTemplateInput("a {x} {y} film", {"x": "not", "y": "good"}, {"x": "", "y": "bad"})
    found = AndOrInteraction(words, score="logit", noise=0).attribute(given, target=0)[0]
    assert_close(found.values, by_captum(given, lambda text: words([text]), 0))
    assert found.effect("not", "good") == pytest.approx(2.0)


@pytest.mark.parametrize("kind", ["tokens", "template"])
def test_a_language_model_takes_captums_inputs_as_llm_attribution_does(kind):
    tokenizer = chat_like()
    model = tiny_causal("llama", vocab_size=len(tokenizer))
    given = (
        TextTokenInput("a good user", tokenizer, baselines="^", skip_tokens=["a"])
        if kind == "tokens"
        else TextTemplateInput("a {} user {}", ["good", "is"], ["bad", "not"])
    )
    says = Continuation(model, " user", tokenizer)
    method = AndOrInteraction(says, score="log_prob", kappa=0.01)
    found = method.attribute(given)[0]
    assert_close(found.values, method.attribute(prompt_players(tokenizer, given))[0].values)
    theirs = LLMAttribution(ShapleyValues(model), tokenizer).attribute(given, target=" user")
    assert_close(found.shapley_values(), theirs.seq_attr.flatten().double(), atol=1e-4, rtol=1e-4)


class Own(InterpretableInput):
    """Input of the user's own: the columns of a row, absent at another row."""

    n_itp_features = 2
    values = ()

    def to_tensor(self):
        return torch.ones(1, 2)

    def to_model_input(self, perturbed_tensor=None):
        present = torch.ones(1, 2) if perturbed_tensor is None else perturbed_tensor
        return present * torch.tensor([[2.0, 3.0]])


def test_an_input_of_the_users_own():
    found = AndOrInteraction(lambda x: x.prod(1), score="logit", noise=0).attribute(Own())[0]
    assert (found.players, found.effect(0, 1)) == (("0", "1"), 6.0)
    with pytest.raises(
        ValueError, match=r"inputs are an input of kind Own, .* their own baselines.* Leave out baselines"
    ):
        AndOrInteraction(len).attribute(Own(), 0)
    with pytest.raises(TypeError, match="given must be an InterpretableInput of Captum; got a str"):
        interpretable_players("text")
