"""Heads other than classes of a sequence, pipelines and wrappers, and inputs that a model cannot take."""

import collections
import copy
import dataclasses
import re
import warnings

import pytest
import torch
import transformers
from forwards import assert_tables, data_parallel, naive_table, normal, plain, record
from tiny_models import BERT, made
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import BertConfig, PreTrainedTokenizerFast

from captum_lkn import AndOrInteraction, LayerAndOrInteraction, text_players
from captum_lkn.models.arguments import Arguments
from captum_lkn.models.model import Model
from captum_lkn.outputs.heads import SelectOutput, answer_span, read_output

VIT = {**BERT, "image_size": 8, "patch_size": 4, "num_channels": 3}
IDS = torch.tensor([[7, 12, 30, 41], [9, 8, 44, 2]])
WORDS = torch.tensor([[-1, 0, 1, 2]])
ASKED = {"baselines": 3, "feature_mask": WORDS}


def bert(head, **config):
    return made(getattr(transformers, f"BertFor{head}"), BertConfig, **BERT | config)


def tables_by_hand(value):
    """`value` takes one row of ids and the sentence's number."""
    with torch.no_grad():
        absent, words = torch.full_like(IDS, 3), WORDS.expand(2, 4)
        return [naive_table(lambda row, b=b: value(row, b), (IDS,), (absent,), (words,), b) for b in range(2)]


def odds(z, k):
    """The log-odds of class k, through the probability."""
    p = z.double().softmax(-1)[k]
    return (p / (1 - p)).log()


# ---------------------------------------------------------------- outputs a token


def test_classes_of_tokens():
    model = bert("TokenClassification")
    found = plain(model, score="log_odds").attribute(IDS, **ASKED, target=[(2, 1), (0, 2)])
    assert_tables(found, tables_by_hand(lambda row, b: odds(model(row).logits[0, 2 - 2 * b], 1 + b)))


@pytest.mark.parametrize(("side", "at", "tokens"), [("right", 3, "0 to 1"), ("left", 1, "2 to 3")])
def test_a_target_at_padding_is_refused(side, at, tokens):
    """A model's output for padding depends on the longest text of the batch, as the padding does."""
    model = bert("TokenClassification")
    ids, mask = torch.tensor([[5, 6, 7, 8], [9, 10, 0, 0]]), torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    if side == "left":
        ids, mask = ids.flip(1), mask.flip(1)
    method, inputs = plain(model, score="log_odds"), {"input_ids": ids}
    options = {"baselines": 4, "additional_forward_args": {"attention_mask": mask}}
    options["feature_mask"] = torch.where(mask > 0, mask.cumsum(1) - 1, -1)
    with pytest.raises(ValueError, match=f"position {at} for sample 1, which is padding.*its tokens are at {tokens}"):
        method.attribute(inputs, target=(at, 1), **options)
    assert len(method.attribute(inputs, target=[(at, 1), (3 - at, 1)], **options)) == 2


def test_the_word_behind_a_mask():
    model, ids = bert("MaskedLM"), IDS.clone()
    found = plain(model, score="log_odds").attribute(ids, **ASKED, target=(0, 17))  # position 0 is background
    assert_tables(found, tables_by_hand(lambda row, b: odds(model(row).logits[0, 0], 17)))


def test_the_next_word():
    config = {"vocab_size": 50, "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 8, "initializer_range": 0.5}
    model = made(transformers.GPT2LMHeadModel, transformers.GPT2Config, **config)
    found = plain(model, score="log_odds").attribute(IDS, **ASKED, target=(3, 17))
    assert_tables(found, tables_by_hand(lambda row, b: odds(model(row).logits[0, 3], 17)))


# ---------------------------------------------------------------- answers in a text


@pytest.mark.parametrize(("end", "name"), [(0, "start_logits"), (1, "end_logits")])
def test_start_and_end_of_an_answer(end, name):
    model = bert("QuestionAnswering", num_labels=2)
    found = plain(model, score="log_odds").attribute(IDS, **ASKED, target=(end, 2))
    assert_tables(found, tables_by_hand(lambda row, b: odds(getattr(model(row), name)[0], 2)))


def test_an_answer_is_scored_over_positions_however_the_model_is_given():
    model = bert("QuestionAnswering", num_labels=2)

    def stacked(output):
        return torch.stack([output.start_logits, output.end_logits], 1)

    forwards = [
        lambda ids: model(input_ids=ids),
        lambda ids: {name: model(input_ids=ids)[name] for name in ("start_logits", "end_logits")},
        SelectOutput(model, lambda output: output),
        SelectOutput(model, stacked, class_dim=-1),
        SelectOutput(lambda ids: model(ids), stacked, class_dim=2),
    ]
    expected = tables_by_hand(lambda row, b: odds(model(row).end_logits[0], 2))
    for forward in forwards:
        found = plain(forward, score="log_odds").attribute(IDS, **ASKED, target=(1, 2))
        assert_tables(found, expected)
    for forward in (SelectOutput(model, stacked), lambda ids: stacked(model(ids))):
        with pytest.raises(
            ValueError, match=r"may be \[B, classes, positions\] or .*class_dim=-1 where classes come last"
        ):
            plain(forward, score="log_odds").attribute(IDS, **ASKED, target=(1, 2))


@pytest.mark.parametrize("score", ["logit", "log_odds"])
def test_an_answer_as_a_whole(score):
    model = bert("QuestionAnswering", num_labels=2)

    def value(row, b):
        output = model(row)
        p = output.start_logits[0].double().softmax(0)[1] * output.end_logits[0].double().softmax(0)[2]
        return (p / (1 - p)).log()

    found = plain(answer_span(model, 1, 2), score=score).attribute(IDS, **ASKED)
    assert_tables(found, tables_by_hand(value))
    assert found[0].provenance["model"] == "BertForQuestionAnswering"


def test_a_sure_answer_keeps_its_digits():
    logits = torch.tensor([[60.0, 0.0, 0.0]], dtype=torch.float64)
    value = answer_span(lambda x: {"start_logits": x, "end_logits": x}, 0, 0)(logits)
    # 1 - p is about 4 e^-60, far below the spacing of numbers at 1
    torch.testing.assert_close(value, torch.tensor([[60 - torch.tensor(4.0, dtype=torch.float64).log()]]))


@pytest.mark.parametrize(
    ("start", "end", "error", "said"),
    [
        (2, 1, ValueError, r"must be positions with 0 <= start <= end; got 2 and 1"),
        (-1, 1, ValueError, r"got -1 and 1"),
        (True, 1, TypeError, r"start must be an int.*got True"),
        (0, 1.0, TypeError, r"end must be an int.*got 1\.0"),
    ],
)
def test_positions_that_are_not_an_answer(start, end, error, said):
    with pytest.raises(error, match=said):
        answer_span(lambda x: x, start, end)


def test_an_answer_beyond_the_text_and_a_model_without_answers():
    with pytest.raises(ValueError, match=r"end must be a position of the text, 0 to 3; got 4"):
        plain(answer_span(bert("QuestionAnswering", num_labels=2), 1, 4)).attribute(IDS, **ASKED)
    with pytest.raises(TypeError, match=r"must return start_logits and end_logits.*got float32 \[2, 3\]"):
        plain(answer_span(bert("SequenceClassification"), 1, 2)).attribute(IDS, **ASKED)


# ---------------------------------------------------------------- what is read of an output


def test_select_output_keeps_the_model_visible():
    model = bert("SequenceClassification").bert.train()
    head = SelectOutput(model, lambda output: output.pooler_output)
    with pytest.warns(UserWarning, match="BertModel is in training mode"):
        found = plain(head).attribute({"input_ids": IDS}, **ASKED, target=5)
    assert model.training
    model.eval()
    assert_tables(found, tables_by_hand(lambda row, b: model(row).pooler_output[0, 5]))
    assert torch.equal(head(IDS), model(IDS).pooler_output)


def test_a_layer_under_select_output():
    model, readout = bert("SequenceClassification").bert, nn.Linear(16, 16)
    head = SelectOutput(model, lambda output: output.pooler_output)
    found = LayerAndOrInteraction(head, 0, probe=readout, score="logit", kind="and", noise=0).attribute(
        IDS, **ASKED, target=1
    )
    tables = tables_by_hand(lambda row, b: readout(model(row, output_hidden_states=True).hidden_states[1][:, 0])[0, 1])
    assert_tables(found, tables)


@pytest.mark.parametrize(
    ("model", "read", "said"),
    [
        (3, None, "model must be an nn.Module or a function"),
        (len, "logits", "read must be None or a function.*'logits'"),
    ],
)
def test_select_output_of_things_that_cannot_be_called(model, read, said):
    with pytest.raises(TypeError, match=said):
        SelectOutput(model, read)


def test_class_names_of_a_plain_module():
    net = torch.nn.Linear(2, 3).eval()
    named = AndOrInteraction(SelectOutput(net, class_names=["cat", "dog", "owl"]))
    assert named.attribute(torch.ones(1, 2), target=2)[0].about.explained.startswith("owl (2)")
    with pytest.raises(ValueError, match="class_names must have one name a class, 3; got 2"):
        AndOrInteraction(SelectOutput(net, class_names=["cat", "dog"])).attribute(torch.ones(1, 2), target=2)
    with pytest.raises(TypeError, match="class_names must be a sequence of texts; got 'cat'"):
        SelectOutput(net, class_names="cat")


def test_select_output_that_reads_no_tensor():
    with pytest.raises(TypeError, match=r"must return a tensor or something with \.logits; got a list"):
        plain(SelectOutput(lambda x: x, lambda output: [output])).attribute(torch.ones(1, 2))


@dataclasses.dataclass
class Answer:
    loss: float
    scores: torch.Tensor


class Scores:
    def __init__(self, scores):
        self.scores = scores


@pytest.mark.parametrize(
    ("wrap", "way"),
    [
        (lambda x: (None, x), "output[1]"),
        (lambda x: [x, None], "output[0]"),
        (lambda x: (x.mean(), x), "output[1]"),  # a loss comes first
        (lambda x: {"loss": 1.0, "scores": x}, "output['scores']"),
        (lambda x: {3: x}, "output[3]"),
        (lambda x: Answer(1.0, x), "output.scores"),
        (lambda x: collections.namedtuple("Scores", "loss scores")(None, x), "output.scores"),
        (lambda x: Scores(x), "output.scores"),
    ],
    ids=["tuple", "list", "loss", "dict", "numbers", "dataclass", "named tuple", "object"],
)
def test_the_advice_for_an_output_that_is_not_a_tensor_can_be_followed(wrap, way):
    x = torch.tensor([[1.0, 2.0], [3.0, 5.0]])
    with pytest.raises(TypeError, match=re.escape(f"SelectOutput(model, lambda output: {way})") + "$") as caught:
        plain(wrap).attribute(x, target=1)
    advice = str(caught.value).rpartition("SelectOutput(model, ")[2].removesuffix(")")
    found = plain(SelectOutput(wrap, eval(advice))).attribute(x, target=1)
    assert [one.v_full for one in found] == [2.0, 5.0]


@pytest.mark.parametrize("output", [None, "cat", True, [1.0], {}], ids=str)
def test_the_advice_for_an_output_without_a_tensor(output):
    with pytest.raises(TypeError, match=r"Return a tensor \[B, \.\.\.\], with a row for each row of the inputs$"):
        read_output(output)


@pytest.mark.parametrize(
    ("class_dim", "error", "said"),
    [(0, ValueError, "behind the batch, such as 1 or -1; got 0"), (1.0, TypeError, "an int or None.*got 1.0")],
)
def test_a_dimension_of_classes_that_does_not_exist(class_dim, error, said):
    with pytest.raises(error, match=said):
        SelectOutput(len, class_dim=class_dim)


def test_the_advice_for_a_model_without_a_head():
    model = bert("SequenceClassification").bert
    with pytest.raises(
        TypeError, match=r"AutoModelForSequenceClassification.*SelectOutput\(model, lambda output"
    ) as caught:
        plain(model).attribute(IDS, **ASKED, target=0)
    advice = str(caught.value).rpartition("SelectOutput(model, ")[2].removesuffix(")")
    found = plain(SelectOutput(model, eval(advice))).attribute(IDS, **ASKED, target=0)
    assert_tables(found, tables_by_hand(lambda row, b: model(row).last_hidden_state[0, 0, 0]))


# ---------------------------------------------------------------- pipelines and wrappers

SENTENCE = "not a good film"


@pytest.fixture(scope="module")
def tokenizer():
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[MASK]", *SENTENCE.split()])}
    tiny = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tiny.pre_tokenizer = pre_tokenizers.Whitespace()
    names = {"mask_token": "[MASK]", "unk_token": "[UNK]", "pad_token": "[PAD]"}
    return PreTrainedTokenizerFast(tokenizer_object=tiny, **names)


@pytest.mark.parametrize("task", ["text-classification", "token-classification"])
def test_a_pipeline_is_taken_for_its_model(tokenizer, task):
    model = bert("SequenceClassification" if task == "text-classification" else "TokenClassification")
    pipeline = transformers.pipeline(task, model=model, tokenizer=tokenizer, device="cpu")
    target = 1 if task == "text-classification" else (2, 1)
    players = text_players(pipeline.tokenizer, SENTENCE)
    found, expected = (plain(one).attribute(players, target=target) for one in (pipeline, model))
    assert_tables(found, [one.values for one in expected])
    assert found[0].provenance["model"] == type(model).__name__


def test_a_pipeline_of_images():
    model = made(transformers.ViTForImageClassification, transformers.ViTConfig, **VIT)
    size = {"height": 8, "width": 8}
    processor = transformers.ViTImageProcessorPil if hasattr(transformers, "ViTImageProcessorPil") else None
    processor = (processor or transformers.ViTImageProcessor)(size=size)
    pipeline = transformers.pipeline("image-classification", model=model, image_processor=processor, device="cpu")
    pixels = normal(1, 3, 8, 8)
    quarters = torch.tensor([[0, 1], [2, 3]]).repeat_interleave(4, 0).repeat_interleave(4, 1)
    found, expected = (plain(one).attribute(pixels, 0, 1, feature_mask=quarters) for one in (pipeline, model))
    assert_tables(found, [expected[0].values])


def compiled(model):
    return torch.compile(model, backend="eager")


def compiled_in_place(model):
    model.compile(backend="eager")
    return model


def compiled_in_part(model):
    model.bert.encoder.layer[0] = torch.compile(model.bert.encoder.layer[0], backend="eager")
    return model


def adapted(model):
    peft = pytest.importorskip("peft", reason="peft is an extra of its own: pip install peft")
    return peft.get_peft_model(model, peft.LoraConfig(task_type="SEQ_CLS", target_modules=["query"])).eval()


WRAPPERS = {
    "DataParallel": data_parallel,
    "compile": compiled,
    "compile in place": compiled_in_place,
    "compile in part": compiled_in_part,
    "peft": adapted,
    "pipeline": lambda model: transformers.pipeline(
        "text-classification",
        model=model,
        tokenizer=PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE())),
        device="cpu",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("wrap", WRAPPERS)
def test_wrapped_models(wrap):
    """The output, a block that `hidden_states` shows, and that nothing is left behind."""
    inner, readout = bert("SequenceClassification", num_hidden_layers=1), nn.Linear(16, 3)
    untouched = copy.deepcopy(inner)
    attention = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of peft and torch about themselves
        model = WRAPPERS[wrap](inner).eval() if wrap != "pipeline" else WRAPPERS[wrap](inner)
        found = plain(model).attribute({"input_ids": IDS, "attention_mask": attention}, **ASKED, target=1)
        name = next(n for n, m in Model(model).module.named_modules() if n.endswith("encoder.layer.0"))
        method = LayerAndOrInteraction(model, name, probe=readout, score="logit", kind="and", noise=0)
        at_block = method.attribute(IDS, **ASKED, target=1, additional_forward_args={"attention_mask": attention})
    if wrap != "peft":  # whose class is an adapter's
        assert Model(model).name == "BertForSequenceClassification"

    def forward(row, b):
        return untouched(row, attention_mask=attention[b : b + 1], output_hidden_states=True)

    assert_tables(found, tables_by_hand(lambda row, b: forward(row, b).logits[0, 1]))
    assert_tables(at_block, tables_by_hand(lambda row, b: readout(forward(row, b).hidden_states[1][:, 0])[0, 1]))
    assert not any(module._forward_hooks for module in inner.modules())


@pytest.mark.slow
def test_a_compiled_model_stays_compiled_where_no_layer_is_read():
    graphs = []

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    model = torch.compile(nn.Sequential(nn.Linear(3, 2)).eval(), backend=backend)
    plain(model).attribute(normal(1, 3), target=0)
    assert graphs
    before = len(graphs)
    method = LayerAndOrInteraction(model, "0", probe=nn.Linear(2, 2), score="logit", kind="and", noise=0)
    method.attribute(normal(1, 3), target=0)
    assert len(graphs) == before  # read eagerly


def test_arguments_of_an_adapted_model_are_those_of_the_model_inside():
    inner = made(
        transformers.GPT2ForSequenceClassification,
        transformers.GPT2Config,
        **{"vocab_size": 50, "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 8, "pad_token_id": 0},
    )
    peft = pytest.importorskip("peft", reason="peft is an extra of its own: pip install peft")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of peft, about the layers of GPT-2
        model = peft.get_peft_model(inner, peft.LoraConfig(task_type="SEQ_CLS", target_modules=["c_attn"])).eval()
    calls = record(inner)
    plain(model).attribute(IDS, **ASKED, target=0)
    assert all(kwargs["use_cache"] is False for _, kwargs in calls)
    with pytest.raises(TypeError, match=r"second positional argument .* is (past_key_values|cache), its cache"):
        plain(model).attribute(IDS, **ASKED, target=0, additional_forward_args=torch.ones_like(IDS))


# ---------------------------------------------------------------- what a model cannot take


def refused(model, inputs, match, **asked):
    calls = record(model)
    with pytest.raises(ValueError, match=match):
        plain(model).attribute(inputs, **asked)
    return calls


@pytest.mark.parametrize(("token", "given"), [(50, "7 to 50"), (-1, "-1 to 41")])
def test_token_ids_of_another_tokenizer(token, given):
    ids = IDS[:1].clone()
    ids[0, 1] = token
    said = rf"input_ids must be from 0 to 49, the tokens of BertForSequenceClassification; got {given}.*checkpoint"
    assert not refused(bert("SequenceClassification"), ids, said, **ASKED, target=0)


def test_an_absent_token_of_another_tokenizer():
    asked = {"baselines": 99, "feature_mask": WORDS, "target": 0}
    said = r"input_ids must be from 0 to 49.*got \d+ to 99.*or the baseline"
    calls = refused(bert("SequenceClassification"), IDS, said, **asked)
    assert len(calls) == 1  # on the sentences as they are


LIMITS = {
    "bert": ("BertForSequenceClassification", "BertConfig", {}, 32),
    "roberta": ("RobertaForSequenceClassification", "RobertaConfig", {}, 30),  # counts from behind its padding, 1
    "bart": (
        "BartForSequenceClassification",
        "BartConfig",
        {
            "d_model": 16,
            "encoder_layers": 1,
            "decoder_layers": 1,
            "encoder_attention_heads": 2,
            "decoder_attention_heads": 2,
        },
        32,
    ),
    "gpt2": ("GPT2ForSequenceClassification", "GPT2Config", {"n_positions": 32, "n_embd": 16, "n_head": 2}, 32),
}


@pytest.mark.parametrize("family", LIMITS)
def test_more_tokens_than_positions(family):
    model_class, config_class, config, limit = LIMITS[family]
    config = {**BERT, **config, "pad_token_id": 1, "eos_token_id": 2}
    model = made(getattr(transformers, model_class), getattr(transformers, config_class), **config)
    ids = torch.full((1, limit + 1), 4)
    ids[0, -2:] = torch.tensor([5, 2])
    words = torch.full((1, limit + 1), -1)
    words[0, :2] = torch.tensor([0, 1])
    said = rf"the input has {limit + 1} tokens, and {model_class} has {limit} positions: shorten"
    assert not refused(model, ids, said, baselines=3, feature_mask=words, target=0)
    found = plain(model).attribute(ids[:, 1:], 3, 0, feature_mask=words[:, :-1])  # as many as there are
    assert len(found) == 1


def test_rotary_positions_have_no_limit():
    config = {**BERT, "num_key_value_heads": 1, "pad_token_id": 0}
    model = made(transformers.LlamaForSequenceClassification, transformers.LlamaConfig, **config)
    words = torch.full((1, 40), -1)
    words[0, 0] = 0
    assert len(plain(model).attribute(torch.full((1, 40), 4), 3, 0, feature_mask=words)) == 1


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((1, 1, 8, 8), r"pixel_values is \[1, 1, 8, 8\], and ViT\w+ takes images of 3 channels: give \[B, 3, height"),
        ((1, 8, 8, 3), r"takes images of 3 channels"),
        ((1, 3, 12, 8), r"pixel_values is \[1, 3, 12, 8\], and ViT\w+ was made for images of \[8, 8\].*interpolate"),
    ],
)
def test_images_of_another_form(shape, said):
    model = made(transformers.ViTForImageClassification, transformers.ViTConfig, **VIT)
    calls = refused(model, normal(*shape), said, target=0, feature_mask=torch.zeros(1, 1, 1, 1).long())
    assert len(calls) == (shape[1:] == (3, 12, 8))


def test_images_of_another_size_that_are_meant():
    model = made(transformers.ViTForImageClassification, transformers.ViTConfig, **VIT)
    pixels, halves = normal(1, 3, 16, 16), torch.tensor([0, 1]).repeat_interleave(8)
    further = {"interpolate_pos_encoding": True}
    found = plain(model).attribute(pixels, 0, 1, feature_mask=halves, additional_forward_args=further)
    with torch.no_grad():
        table = naive_table(
            lambda x: model(x, interpolate_pos_encoding=True).logits[0, 1],
            (pixels,),
            (torch.zeros_like(pixels),),
            (halves.expand_as(pixels),),
            0,
        )
    assert_tables(found, [table])


def test_an_error_of_the_model_itself_arrives_as_it_is():
    model = made(transformers.ViTForImageClassification, transformers.ViTConfig, **VIT)

    def stop(*_):
        raise ValueError("of its own")

    model.register_forward_pre_hook(stop)
    with pytest.raises(ValueError, match=r"^of its own$"):
        plain(model).attribute(normal(1, 3, 8, 8), target=0, feature_mask=torch.zeros(1, 1, 1, 1).long())


def test_a_model_without_weights():
    with torch.device("meta"):
        model = bert("SequenceClassification")
    said = "BertForSequenceClassification has parameters on the meta device.*load its weights"
    with pytest.raises(ValueError, match=said):
        AndOrInteraction(model).attribute(IDS, **ASKED, target=0)


def test_unmasked_inputs_follow_the_samples_to_their_rows():
    arguments = Arguments((IDS,), unmasked=(IDS,)).rows(torch.tensor([1, 0, 1]), 2)
    assert torch.equal(arguments.unmasked[0], IDS[[1, 0, 1]])


@pytest.mark.parametrize("form", ["mapping", "tuple"])
def test_logits_of_start_and_end_are_read_by_name(form):
    start, end = normal(2, 4), normal(2, 4, seed=1)
    output = {"start_logits": start, "end_logits": end}
    if form == "tuple":
        output = collections.namedtuple("Answer", output)(**output)
    found = read_output(output)
    assert torch.equal(found.tensor, torch.stack([start, end], 1))
    assert found.class_dim == -1
    one = {"start_logits": start[0], "end_logits": end[0]}  # of a forward that dropped the batch
    assert torch.equal(read_output(one).tensor, torch.stack([start[0], end[0]]))
