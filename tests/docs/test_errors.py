"""Every message of docs/errors.md is raised here, and is the one that the page quotes.

The page's headings name the cases; the line behind `>` is the message, with `…` for what was given.
"""

import pathlib
import re
import warnings
from unittest import mock

import pytest
import torch
import transformers
from forwards import normal
from tiny_models import BERT, made, tiny_causal
from tiny_tokenizers import Letters, chat_like, gpt2_like, word_level
from torch import nn

import captum_lkn as lkn
from captum_lkn.decomposition.solvers import exact, run

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "errors.md"
ENTRIES = dict(re.findall(r"^### (.+)\n+> (.+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
CASES = {}


def case(function):
    """Add a function that raises, or warns with, the message of the heading that its name spells."""
    CASES[function.__name__.lower().replace("_", " ")] = function
    return function


def bert(**config):
    return made(transformers.BertForSequenceClassification, transformers.BertConfig, **(BERT | config))


def linear(width=3, columns=2):
    return nn.Linear(width, columns).eval()


X = normal(2, 3)
EASY = {"target": 0}


# ---------------------------------------------------------------- players


@case
def too_many_players():
    lkn.AndOrInteraction(linear(30)).attribute(normal(1, 30), **EASY)


@case
def no_player():
    lkn.players_from_mask(X, feature_mask=torch.tensor([[-1, -1, -1]]))


@case
def ids_with_gaps():
    lkn.players_from_mask(X, feature_mask=torch.tensor([[0, 2, 2]]))


@case
def a_baseline_that_the_dtype_cannot_hold():
    lkn.players_from_mask(torch.ones(1, 3, dtype=torch.long), baselines=0.5)


@case
def a_slow_tokenizer():
    lkn.text_players(Letters(), "a b")


@case
def no_mask_token():
    lkn.text_players(gpt2_like(), "a good scene")


@case
def a_baseline_of_several_tokens():
    lkn.text_players(word_level(), "not good", baseline="a film")


@case
def a_text_that_is_too_long():
    lkn.text_players(word_level(), "not a good scene", max_length=4)


@case
def a_chat_template_that_rewrites():
    tokenizer = chat_like()
    tokenizer.chat_template = tokenizer.chat_template.replace("m['content']", "m['content'] | upper")
    lkn.prompt_players(tokenizer, [{"role": "user", "content": "not a good user"}], baseline="^")


@case
def channels_last():
    lkn.image_players(torch.rand(8, 8, 3), grid=2, model=vit())


def vit():
    config = {"image_size": 8, "patch_size": 4, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    return made(transformers.ViTForImageClassification, transformers.ViTConfig, **config)


@case
def a_patch_that_cuts_tokens():
    lkn.image_players(torch.rand(3, 8, 8), patch_size=3, model=vit())


# ---------------------------------------------------------------- targets, scores, outputs


@case
def several_outputs_and_no_target():
    lkn.AndOrInteraction(linear()).attribute(X)


@case
def probabilities():
    lkn.AndOrInteraction(nn.Sequential(linear(), nn.Softmax(1)).eval()).attribute(X, **EASY)


@case
def a_column_like_a_sigmoid():
    lkn.AndOrInteraction(nn.Sequential(linear(columns=1), nn.Sigmoid()).eval(), kappa=0.01).attribute(normal(40, 3))


@case
def a_regression_and_a_score_of_logits():
    lkn.AndOrInteraction(bert(num_labels=1, problem_type="regression"), score="prob")


@case
def classes_that_could_be_in_two_dimensions():
    dense = nn.Sequential(nn.Linear(3, 24), nn.Unflatten(1, (4, 6))).eval()
    lkn.AndOrInteraction(dense, kappa=0.01).attribute(X, target=(1, 2))


@case
def a_map_without_classes():
    lkn.AndOrInteraction(lambda x: x.mean(1), kappa=0.01).attribute(
        normal(1, 3, 2, 2), target=(0, 1), feature_mask=torch.tensor([0, 1])
    )


@case
def a_model_without_a_head():
    model = made(transformers.BertModel, transformers.BertConfig, **BERT)
    lkn.AndOrInteraction(model).attribute({"input_ids": torch.tensor([[3, 4, 5]])}, **EASY)


@case
def an_output_in_a_container():
    lkn.AndOrInteraction(lambda x: (x, x)).attribute(X, **EASY)


@case
def a_value_that_is_not_finite():
    lkn.AndOrInteraction(lambda x: x.log(), score="logit").attribute(torch.ones(1, 3), **EASY)


# ---------------------------------------------------------------- calling the model


@case
def a_model_in_training_mode():
    lkn.ExactShapleyValues(nn.Linear(3, 2)).attribute(X, **EASY)


@case
def half_precision():
    lkn.ExactShapleyValues(linear().bfloat16()).attribute(X.bfloat16(), **EASY)


@case
def out_of_memory():
    def small(x):
        if len(x) > 4:
            raise torch.cuda.OutOfMemoryError("out of memory")
        return x.sum(1)

    lkn.ExactShapleyValues(small).attribute(X)


@case
def rows_that_influence_each_other():
    lkn.ExactShapleyValues(lambda x: (x - x.mean(0)).sum(1)).attribute(X)


@case
def padding_that_counts():
    ids = torch.tensor([[5, 6, 0], [7, 8, 9]])
    mean = lkn.SelectOutput(lambda input_ids, attention_mask: input_ids.float().mean(1))
    given = {"input_ids": ids, "attention_mask": (ids != 0).long()}
    lkn.AndOrInteraction(mean, score="logit").attribute(given, feature_mask=torch.tensor([[0, 1, -1]]))


@case
def padding_without_a_mask():
    ids = torch.tensor([[5, 6, 0], [7, 8, 9]])
    lkn.AndOrInteraction(bert()).attribute(ids, 3, **EASY, feature_mask=torch.tensor([[0, 1, -1]]))


@case
def one_value_for_the_whole_batch():
    lkn.ExactShapleyValues(lambda x: x.sum()).attribute(X, perturbations_per_eval=4)


@case
def arguments_by_position():
    batch = {"input_ids": torch.tensor([[3, 4, 5]])}
    lkn.AndOrInteraction(bert()).attribute(batch, additional_forward_args=torch.ones(1, 3), **EASY)


@case
def an_argument_that_is_a_cache():
    ids, mask = torch.tensor([[3, 4, 5]]), torch.ones(1, 3)
    lkn.AndOrInteraction(tiny_causal("gpt2")).attribute(ids, additional_forward_args=(mask,), target=(2, 5))


@case
def ids_beyond_the_vocabulary():
    lkn.AndOrInteraction(bert()).attribute(torch.tensor([[3, 4, 500]]), **EASY)


@case
def more_tokens_than_positions():
    mask = torch.tensor([[0] * 20 + [1] * 20])
    lkn.AndOrInteraction(bert()).attribute(torch.ones(1, 40, dtype=torch.long), feature_mask=mask, **EASY)


# ---------------------------------------------------------------- the decomposition


@case
def kappa_is_0():
    lkn.decompose(torch.tensor([0.0, 1.0, 2.0, 0.0]))


@case
def a_small_kappa():
    lkn.decompose(torch.tensor([0.0, 1.0, 2.0, 0.01]))


def out_of_steps(**options):
    """Decompose a table with one step of each solver: a real table that needs more takes too long here."""
    with mock.patch.multiple(run, _MAX_STEPS=1, PIVOTS=0), mock.patch.object(exact, "PIVOTS", 0):
        lkn.decompose(torch.randn(64, generator=torch.Generator().manual_seed(0)), kappa=0.1, **options)


@case
def a_decomposition_that_stopped_short():
    out_of_steps(largest_gap=1e9)


@case
def a_gap_that_is_too_large():
    out_of_steps()


# ---------------------------------------------------------------- layers and probes


NETWORK = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).eval()


@case
def an_unknown_layer():
    lkn.LayerAndOrInteraction(bert(), "encoder.layer.1", probe=linear(16, 3))


@case
def a_layer_without_a_read_out():
    lkn.LayerAndOrInteraction(NETWORK, "1").attribute(X, **EASY)


@case
def a_layer_that_did_not_run():
    network = nn.Module()
    network.used, network.unused = nn.Linear(3, 2), nn.Linear(3, 2)
    network.forward = network.used.forward
    lkn.LayerAndOrInteraction(network.eval(), "unused", probe=linear(2)).attribute(X, **EASY)


@case
def a_layer_that_runs_several_times():
    network = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    network.forward = lambda x: network[0](network[1](network[0](x)))
    lkn.LayerAndOrInteraction(network.eval(), "0", probe=linear()).attribute(X, **EASY)


@case
def a_layer_whose_first_dimension_is_not_the_batch():
    network = nn.Sequential(nn.Flatten(0), nn.Unflatten(0, (-1, 3)), nn.Linear(3, 2)).eval()
    lkn.LayerAndOrInteraction(network, "0", probe=linear()).attribute(X, **EASY)


@case
def a_lens_that_does_not_fit():
    config = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config |= {"num_key_value_heads": 1, "head_dim": 8, "vocab_size": 40, "final_logit_softcapping": 0.1}
    lkn.logit_lens(made(transformers.Gemma2ForCausalLM, transformers.Gemma2Config, **config))


def labelled(labels):
    return [{"x": normal(len(labels), 3), "labels": torch.tensor(labels)}]


class Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.last(self.first(x))


@case
def missing_labels():
    lkn.LinearProbes.fit(Named().eval(), ["first"], labelled([0, 1, -100, 1]))


@case
def no_row_to_hold_out():
    lkn.LinearProbes.fit(Named().eval(), ["first"], labelled([0, 1]))


@case
def probes_of_other_weights():
    probes = lkn.LinearProbes.fit(Named().eval(), ["first"], labelled([0, 1] * 10))
    lkn.LayerAndOrInteraction(Named().eval(), "first", probe=probes).attribute(X, **EASY)


@case
def a_layer_that_masking_does_not_change():
    class Still(nn.Module):
        def __init__(self):
            super().__init__()
            self.still, self.last = nn.Identity(), nn.Linear(3, 2)

        def forward(self, x):
            return self.last(x) + self.still(torch.ones(len(x), 3)).sum(1, keepdim=True)

    study = lkn.LayerwiseKnowledge(Still().eval(), ["still"], probes=linear(), kappa=0.01)
    study.analyze(X, target=0)


@case
def no_read_outs_yet():
    lkn.LayerwiseKnowledge(NETWORK, ["0"]).analyze(X, target=0)


# ---------------------------------------------------------------- baselines


@case
def embeddings_that_give_another_answer():
    model = made(
        transformers.GPT2ForSequenceClassification, transformers.GPT2Config,
        n_embd=16, n_layer=1, n_head=2, vocab_size=50, pad_token_id=0, initializer_range=0.5,
    )  # fmt: skip
    ids = torch.tensor([[3, 4, 5, 0, 0], [3, 4, 5, 6, 7]])
    players = lkn.players_from_mask({"input_ids": ids, "attention_mask": (ids > 0).long()}, baselines=1)
    lkn.players_as_embeddings(model, players)


@case
def a_model_without_gradients():
    lkn.learn_baseline(torch.no_grad()(linear().forward), lkn.players_from_mask(X), steps=1, **EASY)


@case
def averages_of_different_questions():
    method = lkn.AndOrInteraction(linear(), kappa=0.01)
    lkn.average_baselines([method.attribute(X, target=0), method.attribute(X, target=1)])


# ---------------------------------------------------------------- causal language models


@case
def a_model_that_is_not_causal():
    lkn.Continuation(bert(), [3])


@case
def a_continuation_that_joins_its_prompt():
    tokenizer = chat_like()
    says = lkn.Continuation(tiny_causal("gpt2", vocab_size=len(tokenizer)), "ood", tokenizer)
    lkn.AndOrInteraction(says, kappa=0.01).attribute(lkn.prompt_players(tokenizer, "is it a g", baseline="a"))


@case
def a_prompt_without_a_token():
    model = tiny_causal("gpt2")
    lkn.Continuation(model, [3])(torch.tensor([[4, 5]]), torch.zeros(1, 2))


# ---------------------------------------------------------------- results and files


@case
def no_way_back_to_the_inputs():
    zero = torch.zeros(2, dtype=torch.float64)
    effects = lkn.decomposition.Effects.from_tables(zero, zero)
    lkn.Interactions(("a",), effects, zero, kappa=0.0, gap=0.0).attributions()


@case
def a_file_that_changed(tmp_path):
    path = tmp_path / "found.safetensors"
    lkn.AndOrInteraction(linear(), kappa=0.01).attribute(X, target=0).save(path)
    content = bytearray(path.read_bytes())
    content[-8] ^= 1
    path.write_bytes(content)
    lkn.InteractionsBatch.load(path)


@case
def a_file_of_something_else(tmp_path):
    from safetensors.torch import save_file

    save_file({"weight": torch.ones(2)}, tmp_path / "model.safetensors")
    lkn.Interactions.load(tmp_path / "model.safetensors")


# ---------------------------------------------------------------- the test


def key(heading):
    return heading.lower().replace("-", " ")


def message_of(function, tmp_path):
    """Return what a case raises, or all that it warns of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            function(*[tmp_path] * function.__code__.co_argcount)
        except (ValueError, TypeError, RuntimeError) as error:
            return [str(error)]
    return [str(warning.message) for warning in caught if issubclass(warning.category, UserWarning)]


def test_the_page_and_the_cases_are_the_same():
    assert [key(name) for name in ENTRIES] == list(CASES)  # in one order, too


@pytest.mark.parametrize("name", ENTRIES)
def test_the_message_is_the_one_on_the_page(name, tmp_path):
    pattern = ".*".join(map(re.escape, ENTRIES[name].split("…")))
    messages = message_of(CASES[key(name)], tmp_path)
    assert any(re.match(pattern, message, re.DOTALL) for message in messages), messages
