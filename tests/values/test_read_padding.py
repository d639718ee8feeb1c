"""A sample's values do not depend on its padding: models that read it are refused, others are evaluated as alone."""

import pytest
import torch
import transformers
from forwards import plain
from tiny_models import made

from captum_lkn import AndOrInteraction

TABLE = torch.tensor([[0.5, -1.0], [2.0, 0.3], [0.7, 1.1], [-0.4, 0.9], [1.3, -0.2], [0.1, 0.6]])
TEXTS = [[1, 2, 3], [4, 5, 1, 2, 3]]


def batch(left):
    """Both texts in one batch; 0 is padding."""
    rows = [[0] * (5 - len(text)) * left + text + [0] * (5 - len(text)) * (not left) for text in TEXTS]
    ids = torch.tensor(rows)
    return ids, (ids != 0).long()


def owners(ids):
    """The first three tokens of each text."""
    real = ids != 0
    numbers = real.cumsum(1) - 1
    return torch.where(real & (numbers < 3), numbers, -1)


def masked_mean(input_ids, attention_mask):
    weight = attention_mask[..., None].float()
    return (TABLE[input_ids].square() * weight).sum(1).tanh() / weight.sum(1)


def tokens(input_ids, attention_mask):
    context = masked_mean(input_ids, attention_mask)
    return TABLE[input_ids] * context[:, None]


def classes_second(input_ids, attention_mask):
    return tokens(input_ids, attention_mask).transpose(1, 2)


def plain_mean(input_ids, attention_mask):
    return TABLE[input_ids].square().mean(1).tanh()


def one_number(input_ids, attention_mask):
    return plain_mean(input_ids, attention_mask)[:, 0]


def shifted_by_length(input_ids, attention_mask):
    return tokens(input_ids, attention_mask) / input_ids.shape[1]


def found(forward, ids, mask, target):
    return plain(forward).attribute({"input_ids": ids, "attention_mask": mask}, 5, target, feature_mask=owners(ids))


@pytest.mark.parametrize("left", [False, True], ids=["right", "left"])
@pytest.mark.parametrize(
    ("forward", "target"),
    [(masked_mean, lambda place: 1), (tokens, lambda place: (place, 1)), (classes_second, lambda place: (1, place))],
    ids=["classes", "tokens", "classes second"],
)
def test_a_sample_beside_a_longer_one_has_the_values_that_it_has_alone(forward, target, left):
    ids, mask = batch(left)
    together = found(forward, ids, mask, [target(2 + 2 * left), target(4)])
    for text, one, place in zip(TEXTS, together, (2, 4), strict=True):
        alone = torch.tensor([text])
        (expected,) = found(forward, alone, torch.ones_like(alone), target(place))
        torch.testing.assert_close(one.values, expected.values, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("left", [False, True], ids=["right", "left"])
@pytest.mark.parametrize(
    ("forward", "target"),
    [(plain_mean, 1), (one_number, None), (shifted_by_length, (2, 1))],
    ids=["mean", "one number", "length"],
)
def test_a_model_that_reads_padding_is_refused(forward, target, left):
    ids, mask = batch(left)
    with pytest.raises(ValueError, match=r"value of sample 0 at 'output' is .* with 2 tokens of padding.*Give one"):
        found(forward, ids, mask, target)
    (alone,) = found(forward, ids[1:], mask[1:], target)
    assert float(alone.v_full) == pytest.approx(float(forward(ids[1:], mask[1:])[0][target]))


def test_a_model_of_a_fixed_length_is_not_compared_with_a_shorter_one():
    weight = torch.arange(5.0)

    def fixed(input_ids, attention_mask):
        return (TABLE[input_ids][..., 0] * attention_mask * weight).sum(1)

    ids, mask = batch(False)
    values = found(fixed, ids, mask, None)[0].values
    assert float(values[7]) == pytest.approx(float((TABLE[[1, 2, 3], 0] * weight[:3]).sum()))


def test_the_outputs_of_padding_are_not_compared():
    ids, mask = batch(False)
    (first, _) = found(tokens, ids, mask, (4, 0))
    assert float(first.v_full) == pytest.approx(float(tokens(ids, mask)[0, 4, 0]))


def test_every_padded_sample_is_compared():
    """Only the one with the least padding reads it."""
    ids = torch.tensor([[1, 2, 0, 0, 0, 0], [1, 2, 3, 4, 0, 0], [1, 2, 3, 4, 5, 1], [4, 3, 2, 1, 0, 0]])
    mask = (ids != 0).long()

    def forward(input_ids, attention_mask):
        reads = (input_ids[:, :1] == 4) * (1 - attention_mask)
        return (TABLE[input_ids][..., 0] * (attention_mask + reads)).sum(1)

    with pytest.raises(ValueError, match=r"value of sample 3 at 'output' is .* with 2 tokens of padding"):
        found(forward, ids, mask, None)
    assert len(found(forward, ids[:3], mask[:3], None)) == 3


def test_padding_behind_the_last_word_of_a_decoder_has_no_influence():
    sizes = {"vocab_size": 20, "n_positions": 8, "n_embd": 8, "n_layer": 1, "n_head": 2, "pad_token_id": 0}
    model = made(
        transformers.GPT2ForSequenceClassification, transformers.GPT2Config, **sizes, bos_token_id=1, eos_token_id=1
    )
    ids, mask = batch(False)
    method = AndOrInteraction(model, noise=0)
    without = method.attribute({"input_ids": ids}, 5, 1, feature_mask=owners(ids))
    with_mask = method.attribute({"input_ids": ids, "attention_mask": mask}, 5, 1, feature_mask=owners(ids))
    torch.testing.assert_close(without[0].values, with_mask[0].values, atol=1e-5, rtol=1e-5)
