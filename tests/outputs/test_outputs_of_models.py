"""Outputs as models return them: with positions, of labels, of any shape that Captum takes."""

import functools
import math

import pytest
import torch
import transformers
from captum.attr import ShapleyValues
from forwards import assert_tables, naive_table, plain
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import BERT, made
from torch import nn

from captum_lkn import AndOrInteraction, ExactShapleyValues, Layer, LayerAndOrInteraction, Score, SelectOutput
from captum_lkn.outputs.scores import binary_log_odds, log_odds, log_prob
from captum_lkn.outputs.targets import resolve_target

HALVES = torch.tensor([[0, 0, 1, 1]] * 4)


@pytest.fixture(autouse=True)
def _same_numbers():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def odds(z, k):
    """The log-odds of class k, through the probability."""
    p = z.double().softmax(-1)[k]
    return float((p / (1 - p)).log())


def table_of(value, x, players, baseline=0.0):
    with torch.no_grad():
        absent = torch.full_like(x, baseline)
        return naive_table(value, (x,), (absent,), (players.expand(x.shape),), 0)


# ---------------------------------------------------------------- classes of pixels and frames


def test_pixels_are_scored_over_their_classes():
    net, x = nn.Conv2d(1, 3, 3, padding=1).eval(), torch.randn(1, 1, 4, 4)
    found = plain(net, score="log_odds").attribute(x, target=(1, 2, 3), feature_mask=HALVES)
    assert_tables(found, [table_of(lambda row: odds(net(row)[0, :, 2, 3], 1), x, HALVES)])
    assert found[0].provenance["target"] == [1, 2, 3]
    assert found[0].provenance["explained"] == "class 1 at (2, 3)"


@pytest.mark.parametrize("score", ["log_odds", "log_prob", "prob", "margin"])
def test_frames_are_scored_over_their_classes(score):
    net, x = nn.Conv1d(2, 3, 3, padding=1).eval(), torch.randn(1, 2, 5)
    players = torch.tensor([0, 0, 1, 1, 2])

    def value(row):
        z = net(row)[0, :, 4].double()
        p = z.softmax(0)
        return {
            "log_odds": odds(z, 2),
            "log_prob": float(p[2].log()),
            "prob": float(p[2]),
            "margin": float(z[2] - z[:2].max()),
        }[score]

    expected = [table_of(value, x, players)]
    stated = plain(SelectOutput(net, class_dim=1), score=score).attribute(x, target=[(2, 4)], feature_mask=players)
    assert_tables(stated, expected)
    with pytest.warns(UserWarning, match=r"takes the second dimension of the output float32 \[1, 3, 5\] for them, 3"):
        assert_tables(plain(net, score=score).attribute(x, target=[(2, 4)], feature_mask=players), expected)


def test_the_pixels_of_a_map_are_numbers_without_classes():
    net = nn.Conv2d(1, 1, 3, padding=1).eval()
    for width in (4, 6):
        x, players = torch.randn(1, 1, 4, width), torch.tensor([0, 1]).repeat_interleave(width // 2)
        with pytest.raises(ValueError, match=r'no dimension of classes.*score="logit"'):
            AndOrInteraction(lambda x: net(x).squeeze(1)).attribute(x, target=(1, 2), feature_mask=players)
        found = plain(lambda x: net(x).squeeze(1)).attribute(x, target=(1, 2), feature_mask=players)
        assert_tables(found, [table_of(lambda row: net(row)[0, 0, 1, 2], x, players)])


def test_logits_of_pixels_of_a_model_of_transformers_are_numbers_without_classes():
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {"vocab_size": 30, "max_position_embeddings": 8, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    model = made(
        transformers.CLIPSegForImageSegmentation,
        transformers.CLIPSegConfig,
        text_config=sizes | text,
        vision_config=sizes | {"image_size": 8, "patch_size": 4},
        projection_dim=16,
        reduce_dim=8,
        extract_layers=[0, 1],
        decoder_num_attention_heads=2,
        decoder_intermediate_size=8,
    )
    x, prompt = torch.randn(1, 3, 8, 8), {"input_ids": torch.tensor([[1, 5, 2]])}
    asked = {"target": (1, 2), "feature_mask": torch.tensor([0, 1]).repeat_interleave(4)}
    with pytest.raises(ValueError, match=r'no dimension of classes.*score="logit"'):
        AndOrInteraction(model).attribute(x, additional_forward_args=prompt, **asked)
    found = plain(model).attribute(x, additional_forward_args=prompt, **asked)
    value = model(pixel_values=x, **prompt).logits[0, 1, 2]
    assert found[0].v_full == pytest.approx(float(value.detach()), rel=1e-5)


def test_classes_of_several_tasks_are_asked_for():
    net, x, players = nn.Linear(4, 8).eval(), torch.randn(1, 4), torch.arange(4)

    def forward(x):
        return net(x).reshape(-1, 2, 4)  # as many classes as columns

    with pytest.raises(ValueError, match=r"may be .*class_dim=-1 where classes come last"):
        plain(forward, score="log_odds").attribute(x, target=(0, 3))
    found = plain(SelectOutput(forward, class_dim=-1), score="log_odds").attribute(x, target=(0, 3))
    assert_tables(found, [table_of(lambda row: odds(net(row)[0, :4], 3), x, players)])


def test_labels_of_segformer_are_scored_over_its_classes():
    sizes = {
        "num_encoder_blocks": 2,
        "depths": [1, 1],
        "sr_ratios": [2, 1],
        "hidden_sizes": [8, 16],
        "patch_sizes": [7, 3],
        "strides": [4, 2],
        "num_attention_heads": [1, 2],
        "mlp_ratios": [2, 2],
        "decoder_hidden_size": 8,
        "initializer_range": 0.5,
    }
    names = {0: "sky", 1: "road", 2: "tree", 3: "car", 4: "person"}
    model = made(
        transformers.SegformerForSemanticSegmentation,
        transformers.SegformerConfig,
        num_labels=5,
        id2label=names,
        **sizes,
    )
    x = torch.randn(1, 3, 32, 32)
    players = torch.tensor([0, 1]).repeat_interleave(16).expand(32, 32)
    expected = [table_of(lambda row: odds(model(row).logits[0, :, 4, 5], 3), x, players)]
    last = SelectOutput(model, lambda output: output.logits.movedim(1, -1))  # the number of labels tells
    for forward, target in ((model, (3, 4, 5)), (last, (4, 5, 3))):
        found = plain(forward, score="log_odds").attribute(x, target=target, feature_mask=players)
        assert_tables(found, expected)
    named = plain(model).attribute(x, target=(3, 4, 5), feature_mask=players)[0].provenance
    assert (named["target"], named["explained"]) == ([3, 4, 5], "car (3) at (4, 5)")


@pytest.mark.parametrize("dim", [1, -1])
def test_the_dimension_of_the_classes_can_be_stated(dim):
    net, x = nn.Conv1d(2, 4, 3, stride=2, padding=1).eval(), torch.randn(1, 2, 8)  # [1, 4, 4]: either way
    players = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    with pytest.raises(ValueError, match=r"may be \[B, classes, positions\] or .*SelectOutput\(model, class_dim=1\)"):
        plain(net, score="log_odds").attribute(x, target=(3, 2), feature_mask=players)

    def value(row):
        z = net(row)[0]
        return odds(z[:, 2], 3) if dim == 1 else odds(z[3], 2)

    found = plain(SelectOutput(net, class_dim=dim), score="log_odds").attribute(x, target=(3, 2), feature_mask=players)
    assert_tables(found, [table_of(value, x, players)])
    logits = plain(net).attribute(x, target=(3, 2), feature_mask=players)  # the same number, whichever they are
    assert_tables(logits, [table_of(lambda row: net(row)[0, 3, 2], x, players)])


def test_images_of_another_size_than_their_labels_are_read_with_a_warning():
    net, x = nn.Conv2d(1, 3, 2, stride=2).eval(), torch.randn(1, 1, 4, 4)
    with pytest.warns(UserWarning, match=r"second dimension of the output float32 \[1, 3, 2, 2\] for them, 3 classes"):
        found = plain(net, score="log_odds").attribute(x, target=(1, 0, 1), feature_mask=HALVES)
    assert_tables(found, [table_of(lambda row: odds(net(row)[0, :, 0, 1], 1), x, HALVES)])


def test_a_layer_of_a_model_with_classes_of_frames():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Conv1d(1, 4, 1), nn.Conv1d(4, 3, 1)

        def forward(self, x):
            return self.last(self.first(x).tanh())

    net, readout, x = Net().eval(), nn.Linear(4, 3), torch.randn(1, 1, 5)
    players = torch.tensor([0, 0, 1, 1, 2])
    layers = [Layer("first", pool=lambda output: output[..., 4]), "output"]
    forward = SelectOutput(net, class_dim=1)
    method = LayerAndOrInteraction(forward, layers, probe=readout, score="log_odds", kind="and", noise=0)
    found = method.attribute(x, target=(2, 4), feature_mask=players)
    values = {
        "first": lambda row: odds(readout(net.first(row)[..., 4])[0], 2),
        "output": lambda row: odds(net(row)[0, :, 4], 2),
    }
    for name, value in values.items():
        assert_tables(found[name], [table_of(value, x, players)])


# ---------------------------------------------------------------- labels, each by itself


def test_a_partial_of_a_named_score_reads_labels_like_the_score():
    config = BERT | {"num_labels": 3, "problem_type": "multi_label_classification"}
    model = made(transformers.BertForSequenceClassification, transformers.BertConfig, **config)
    ids, words = torch.tensor([[7, 12, 30, 41]]), torch.tensor([[-1, 0, 1, 2]])
    tables = [table_of(lambda row: model(row).logits[0, 1], ids, words, baseline=3)]
    for score in ("log_odds", log_odds, functools.partial(log_odds), functools.partial(functools.partial(log_odds))):
        found = plain(model, score=score).attribute(ids, 3, 1, feature_mask=words)
        assert_tables(found, tables)
        assert found[0].provenance["score"] == "log_odds"
        assert found[0].provenance["unit"] == "log-odds"
        assert found[0].provenance["explained"] == "label 1"


class TwoHeads(transformers.BertForSequenceClassification):
    """A head of three topics beside the one that the configuration describes."""

    def __init__(self, config):
        super().__init__(config)
        self.topic = nn.Linear(config.hidden_size, 3)

    def forward(self, input_ids=None, **others):
        pooled = self.bert(input_ids).pooler_output
        return {"logits": self.classifier(pooled), "topic": self.topic(pooled)}


@pytest.mark.parametrize("problem", ["regression", "multi_label_classification"])
def test_what_a_model_states_of_its_logits_does_not_hold_for_another_output(problem):
    model = made(TwoHeads, transformers.BertConfig, **BERT | {"problem_type": problem})
    ids, words = torch.tensor([[7, 12, 30, 41]]), torch.tensor([[-1, 0, 1, 2]])
    table = table_of(lambda row: odds(model(row)["topic"][0], 1), ids, words, baseline=3)
    with pytest.warns(UserWarning, match="another output, whose columns score='log_odds' takes for classes"):
        found = plain(SelectOutput(model, lambda output: output["topic"]), score="log_odds").attribute(
            ids, 3, 1, feature_mask=words
        )
    assert_tables(found, [table])


def test_a_partial_of_the_binary_score_takes_class_1():
    net = nn.Linear(2, 1).eval()
    for target, sign in ((1, 1), (0, -1)):
        binary = plain(net, score=functools.partial(binary_log_odds)).attribute(torch.ones(1, 2), target=target)
        assert binary[0].v_full == pytest.approx(sign * float(net(torch.ones(1, 2)).detach()), rel=1e-6)
        assert binary[0].provenance["explained"] == f"class {target}"


def bits_of(output, target):
    return output.log_softmax(1).gather(1, target[:, None]).squeeze(1) / math.log(2)


def test_a_score_of_ones_own_reads_a_label_by_itself():
    bits = Score("bits", bits_of, "classes", "bits")
    config = BERT | {"num_labels": 3, "problem_type": "multi_label_classification"}
    model = made(transformers.BertForSequenceClassification, transformers.BertConfig, **config)
    ids, words = torch.tensor([[7, 12, 30, 41]]), torch.tensor([[-1, 0, 1, 2]])
    found = plain(model, score=bits).attribute(ids, 3, 1, feature_mask=words)
    assert_tables(found, [table_of(lambda row: model(row).logits[0, 1].sigmoid().log2(), ids, words, baseline=3)])
    net, x = nn.Linear(2, 1).eval(), torch.ones(1, 2)  # one column
    found = plain(net, score=bits).attribute(x)
    assert_tables(found, [table_of(lambda row: net(row)[0, 0].sigmoid().log2(), x, torch.arange(2))])


@pytest.mark.parametrize("score", ["prob", "log_prob", "binary_log_odds"])
def test_a_regression_is_its_value_and_has_no_probability(score):
    config = BERT | {"num_labels": 1, "problem_type": "regression"}
    model = made(transformers.BertForSequenceClassification, transformers.BertConfig, **config)
    with pytest.raises(ValueError, match=rf'score="{score}" reads logits, and the model returns plain values'):
        AndOrInteraction(model, score=score)
    ids, words = torch.tensor([[7, 12, 30]]), torch.tensor([[-1, 0, 1]])
    for other in ("log_odds", "logit", "margin"):
        found = plain(model, score=other).attribute(ids, 3, feature_mask=words)
        assert_tables(found, [table_of(lambda row: model(row).logits[0, 0], ids, words, baseline=3)])
        assert found[0].provenance["unit"] == ""


@pytest.mark.parametrize("rows", [None, 1])
@pytest.mark.parametrize("score", ["binary_log_odds", "prob"])
def test_a_sigmoid_of_one_column_is_refused_where_only_a_logit_makes_sense(score, rows):
    net, x = nn.Sequential(nn.Linear(4, 1), nn.Sigmoid()).eval(), torch.randn(1, 4)
    with pytest.raises(ValueError, match=rf'score="{score}" reads logits.*is probabilities already'):
        plain(net, score=score).attribute(x, target="predicted", perturbations_per_eval=rows)
    found = plain(net).attribute(x, target=0)
    assert_tables(found, [table_of(lambda row: net(row)[0, 0], x, torch.arange(4))])
    assert found[0].provenance["unit"] == ""


@pytest.mark.parametrize("score", ["log_odds", "binary_log_odds"])
def test_one_player_is_enough_for_a_warning_of_a_sigmoid(score):
    net, x = nn.Sequential(nn.Linear(3, 1), nn.Sigmoid()).eval(), torch.randn(1, 3)
    with pytest.warns(UserWarning, match="takes the one column of the output .* for a logit"):
        plain(net, score=score).attribute(x, target="predicted", feature_mask=torch.zeros(1, 3).long())


@pytest.mark.parametrize("rows", [None, 1])
def test_logits_are_not_refused_for_the_first_of_them(rows):
    def forward(x):  # within 0 and 1 but for one mask
        return torch.stack([x[:, 0] / 2, 3 * x[:, 0] * (1 - x[:, 1]) * x[:, 2]], 1)

    found = plain(forward, score="log_odds").attribute(torch.ones(1, 3), target=1, perturbations_per_eval=rows)
    assert_tables(found, [torch.tensor([0, -0.5, 0, -0.5, 0, 2.5, 0, -0.5], dtype=torch.float64)])


def test_the_unit_of_each_layer_is_that_of_its_own_read_out():
    net, x = nn.Sequential(nn.Linear(3, 2), nn.Softmax(1)).eval(), torch.randn(1, 3)
    probes = {"0": nn.Linear(2, 2)}
    method = LayerAndOrInteraction(net, ["0", "output"], probe=probes, score="logit", kind="and", noise=0)
    found = method.attribute(x, target=1)
    assert [found[name][0].provenance["unit"] for name in ("0", "output")] == ["logit", ""]
    assert plain(net, score="margin").attribute(x, target=1)[0].provenance["unit"] == ""
    assert plain(net[0]).attribute(x, target=1)[0].provenance["unit"] == "logit"


def test_a_sigmoid_of_several_labels_is_refused_where_logits_are_read():
    net, x = nn.Sequential(nn.Linear(4, 3), nn.Sigmoid()).eval(), torch.randn(1, 4)
    with pytest.raises(ValueError, match=r'score="log_odds" reads logits.*all within 0 and 1.*final sigmoid'):
        AndOrInteraction(net).attribute(x, target=1)

    def of_probabilities(output, target):
        p = output.gather(1, target[:, None]).squeeze(1)
        return torch.log(p) - torch.log1p(-p)

    found = plain(net, score=of_probabilities).attribute(x, target=1)
    p = float(net(x)[0, 1].detach())
    assert found[0].v_full == pytest.approx(math.log(p / (1 - p)), rel=1e-5)
    assert plain(net).attribute(x, target=1)[0].v_full == pytest.approx(p)


def test_names_of_classes_come_from_the_configuration():
    config = BERT | {"id2label": {0: "negative", 1: "neutral", 2: "positive"}}
    model = made(transformers.BertForSequenceClassification, transformers.BertConfig, **config)
    ids = torch.tensor([[7, 12, 30], [9, 8, 44]])
    words = torch.tensor([[-1, 0, 1]])
    found = plain(model).attribute(ids, 3, [2, 0], feature_mask=words)
    assert [one.provenance["explained"] for one in found] == ["positive (2)", "negative (0)"]
    # Another output than the head's has other columns, though as many.
    other = SelectOutput(model, lambda output: output.logits.flip(1))
    assert plain(other).attribute(ids, 3, 2, feature_mask=words)[0].provenance["explained"] == "output 2"
    plain_numbers = made(transformers.BertForSequenceClassification, transformers.BertConfig, **BERT)
    assert plain(plain_numbers).attribute(ids, 3, 2, feature_mask=words)[0].provenance["explained"] == "output 2"


# ---------------------------------------------------------------- any shape that Captum takes


@given(st.lists(st.integers(1, 4), min_size=1, max_size=3), st.integers(2, 5), st.integers(0, 2**31), st.data())
def test_the_log_probability_of_dense_classes_is_the_cross_entropy(positions, count, seed, data):
    output = torch.randn(2, count, *positions, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    entries = [tuple(data.draw(st.integers(0, size - 1)) for size in (count, *positions)) for _ in range(2)]
    target = resolve_target(entries, output, class_dim=1)
    found = log_prob(*target.select(output, torch.arange(2)))
    for sample, (c, *position) in enumerate(entries):
        classes = torch.full((2, *positions), c)
        entropy = nn.functional.cross_entropy(output, classes, reduction="none")
        torch.testing.assert_close(found[sample], -entropy[(sample, *position)])


@st.composite
def shapes_and_targets(draw):
    """The shape of a sample's output, and a target of one of Captum's kinds."""
    batch = draw(st.integers(1, 3))
    shape = draw(st.lists(st.integers(1, 3), max_size=3))
    entries = [tuple(draw(st.integers(0, size - 1)) for size in shape) for _ in range(batch)]
    kinds = []
    if math.prod(shape) == 1:
        kinds.append(None)
    if shape:
        # Captum takes an index for each dimension, or leaves out last ones of size 1.
        kept = max((i + 1 for i, size in enumerate(shape) if size > 1), default=1)
        kinds += [entries[0], entries, entries[0][: draw(st.integers(kept, len(shape)))]]
    if len(shape) == 1:
        kinds += [entries[0][0], [c for (c,) in entries], torch.tensor([c for (c,) in entries])]
    return batch, tuple(shape), draw(st.sampled_from(kinds))


@given(shapes_and_targets())
def test_shapley_values_of_outputs_of_any_shape_are_captums(case):
    batch, shape, target = case
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, 3, generator=generator)
    weight = torch.randn(3, math.prod(shape), generator=generator)

    def forward(x):
        return (x @ weight).tanh().reshape(len(x), *shape)

    expected = ShapleyValues(forward).attribute(x, target=target)
    found = ExactShapleyValues(forward).attribute(x, target=target)
    torch.testing.assert_close(found, expected.reshape(found.shape), atol=1e-5, rtol=1e-5)
