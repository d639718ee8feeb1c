"""Read-outs without training: the model's own head, and Captum's concept classifiers."""

import logging

import pytest
import torch
import transformers
from captum.concept import TCAV, Concept
from captum.concept._utils.data_iterator import dataset_to_dataloader
from forwards import normal
from model_state import assert_unchanged, state_of
from sklearn.linear_model import LogisticRegression
from tiny_models import made
from torch import nn

from captum_lkn import LayerAndOrInteraction
from captum_lkn.models.arguments import Arguments
from captum_lkn.models.layers import Layer, find_layers
from captum_lkn.models.model import Model
from captum_lkn.models.reading import LayerReader
from captum_lkn.probes.lens import logit_lens
from captum_lkn.probes.readouts import check_readout_output
from captum_lkn.probes.tcav import LogisticClassifier

SMALL = {"vocab_size": 40, "num_labels": 3, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
ENCODER = SMALL | {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 32,
    "initializer_range": 0.5,
}
IMAGES = ENCODER | {"image_size": 8, "patch_size": 4}
GPT2 = SMALL | {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32, "initializer_range": 0.5}
OPT = ENCODER | {"ffn_dim": 24}
HEADS = {
    # kind: class, configuration, changes, the head that is found
    "bert": ("BertForSequenceClassification", "BertConfig", ENCODER, "bert.pooler -> classifier"),
    "masked": ("BertForMaskedLM", "BertConfig", ENCODER, "cls"),
    "roberta": ("RobertaForSequenceClassification", "RobertaConfig", ENCODER, "classifier"),
    "electra": ("ElectraForSequenceClassification", "ElectraConfig", ENCODER | {"embedding_size": 8}, "classifier"),
    "albert": (
        "AlbertForSequenceClassification",
        "AlbertConfig",
        ENCODER | {"embedding_size": 8},
        "albert.pooler -> albert.pooler_activation -> classifier",
    ),
    "deberta": ("DebertaV2ForSequenceClassification", "DebertaV2Config", ENCODER, "pooler -> classifier"),
    "distilbert": (
        "DistilBertForSequenceClassification",
        "DistilBertConfig",
        SMALL | {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24, "initializer_range": 0.5},
        "pre_classifier -> relu -> classifier",
    ),
    "gpt2": ("GPT2LMHeadModel", "GPT2Config", GPT2, "transformer.ln_f -> lm_head"),
    "gpt2 score": ("GPT2ForSequenceClassification", "GPT2Config", GPT2, "transformer.ln_f -> score"),
    "llama": ("LlamaForCausalLM", "LlamaConfig", ENCODER, "model.norm -> lm_head"),
    "llama score": ("LlamaForSequenceClassification", "LlamaConfig", ENCODER, "model.norm -> score"),
    "neox": ("GPTNeoXForCausalLM", "GPTNeoXConfig", ENCODER, "gpt_neox.final_layer_norm -> {neox}"),
    "opt": (
        "OPTForCausalLM",
        "OPTConfig",
        OPT | {"word_embed_proj_dim": 16},
        "model.decoder.final_layer_norm -> lm_head",
    ),
    "opt projected": (
        "OPTForCausalLM",
        "OPTConfig",
        OPT | {"word_embed_proj_dim": 8, "do_layer_norm_before": False},
        "model.decoder.project_out -> lm_head",
    ),
    "vit": ("ViTForImageClassification", "ViTConfig", IMAGES, "vit.layernorm -> classifier"),
}


def make(kind):
    name, config, changes, _ = HEADS[kind]
    logging.getLogger("transformers").setLevel(logging.ERROR)
    return getattr(transformers, name)(getattr(transformers, config)(**changes)).eval()


def some_arguments(model):
    """Three sentences of different lengths, or images."""
    if model.main_input_name == "pixel_values":
        return Arguments((normal(3, 3, 8, 8),), ("pixel_values",))
    ids = torch.randint(3, 40, (3, 6), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    for row, length in enumerate((6, 4, 2)):
        mask[row, length:] = 0
        ids[row, length:] = 0
    return Arguments((ids,), ("input_ids",), keywords={"attention_mask": mask})


def feature_of(model, layer, arguments):
    wrapped = Model(model)
    with wrapped.session(), LayerReader(wrapped, find_layers(wrapped, layer)) as reader:
        (output, _), (feature,) = reader(arguments)
    return output, feature


def last_block(model):
    lists = [(name, m) for name, m in model.named_modules() if isinstance(m, nn.ModuleList)]
    name, blocks = max(lists, key=lambda pair: sum(p.numel() for p in pair[1].parameters()))
    return f"{name}.{len(blocks) - 1}"


@pytest.mark.parametrize("kind", HEADS)
def test_the_lens_gives_the_models_own_logits_at_its_last_block(kind):
    model = make(kind)
    lens = logit_lens(model)
    arguments = some_arguments(model)
    shared = Layer("albert.encoder.albert_layer_groups.0", call_index=1)
    output, feature = feature_of(model, shared if kind == "albert" else last_block(model), arguments)
    if output.dim() == 3:  # a language model, read where the layer was
        mask = arguments.keywords["attention_mask"]
        place = torch.zeros(3, dtype=torch.int64) if kind == "masked" else mask.sum(1) - 1
        output = output[torch.arange(3), place]
    torch.testing.assert_close(lens(feature), output, atol=1e-5, rtol=1e-4)
    assert output.std() > 1e-3  # else nothing would have been compared
    neox = "embed_out" if hasattr(model, "embed_out") else "lm_head"
    assert repr(lens) == f"LogitLens of {type(model).__name__}: {HEADS[kind][3].format(neox=neox)}"


def test_the_lens_reads_other_blocks_too():
    model = make("bert")
    _, feature = feature_of(model, "bert.encoder.layer.0", some_arguments(model))
    wanted = model.classifier(torch.tanh(model.bert.pooler.dense(feature)))
    torch.testing.assert_close(logit_lens(model)(feature), wanted)


def test_the_lens_leaves_the_model_as_found_and_runs_no_hook_of_it():
    model = make("bert").train()
    seen = []
    model.bert.pooler.dense.register_forward_hook(lambda *_: seen.append(1))
    before, random = state_of(model), torch.get_rng_state()
    with pytest.warns(UserWarning, match="is in training mode"):
        lens = logit_lens(model)
    found = len(seen)
    first = lens(normal(4, 16))
    assert len(seen) == found > 0
    assert torch.equal(first, lens(normal(4, 16)))  # no dropout, though the model is in training mode
    assert_unchanged(before, model)
    assert torch.equal(random, torch.get_rng_state())


def test_the_lens_follows_the_weights_and_the_dtype():
    model = make("llama")
    lens = logit_lens(model)
    with torch.no_grad():
        model.lm_head.weight.mul_(2)
    feature = normal(2, 16)
    torch.testing.assert_close(lens(feature), model.lm_head(model.model.norm(feature)))
    model.to(torch.bfloat16)
    assert logit_lens(model)(feature).dtype == torch.bfloat16


def test_a_layer_of_the_head_may_be_read_at_the_same_time():
    model = make("bert")
    lens = logit_lens(model)
    wrapped = Model(model)
    layers = find_layers(wrapped, ["bert.encoder.layer.1", "bert.pooler.dense"])
    with wrapped.session(), LayerReader(wrapped, layers) as reader:
        (output, _), (logits, _) = reader(some_arguments(model), lambda place, x: x if place else lens(x))
    torch.testing.assert_close(logits, output)


class Tail(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return 10 * torch.tanh(self.head(self.norm(x)))


def test_modules_by_name_as_modules_and_as_functions():
    network, x = Tail().eval(), normal(5, 4)

    def soft_cap(z):
        return 10 * torch.tanh(z)

    lens = logit_lens(network, modules=["norm", network.head, soft_cap])
    assert repr(lens) == "LogitLens of Tail: norm -> Linear -> soft_cap"
    output, feature = feature_of(network, "blocks.1", Arguments((x,)))
    torch.testing.assert_close(lens(feature), output)


@pytest.mark.parametrize(
    ("modules", "error", "message"),
    [
        (["nrom"], ValueError, r"Tail has no module 'nrom', modules\[0\]: did you mean 'norm'\?"),
        (["norm", 3], TypeError, r"modules\[1\] must be a name, a module or a function; got a int"),
        ("norm", TypeError, r"modules must be a list of names, modules or functions; got 'norm'"),
        ([], TypeError, r"modules must be a list of .*; got \[\]"),
        (None, ValueError, r"Tail is not a Hugging Face model, .*\. Name .* with modules=\[\.\.\.\]"),
    ],
)
def test_modules_that_are_none(modules, error, message):
    with pytest.raises(error, match=message):
        logit_lens(Tail(), modules)


def test_a_head_that_computes_between_its_modules_is_refused():
    config = transformers.Gemma2Config(
        **ENCODER, head_dim=8, num_key_value_heads=2, final_logit_softcapping=0.1, tie_word_embeddings=False
    )
    model = transformers.Gemma2ForCausalLM(config).eval()
    message = r"model.norm -> lm_head gives other logits than the model itself \(\[1, 40\].*model\.layers\.1.*modules="
    with pytest.raises(ValueError, match=message):
        logit_lens(model)
    lens = logit_lens(model, ["model.norm", "lm_head", lambda z: 0.1 * torch.tanh(z / 0.1)])
    output, feature = feature_of(model, "model.layers.1", some_arguments(model))
    torch.testing.assert_close(lens(feature)[0], output[0, 5])


def test_models_in_which_no_head_can_be_found():
    bart = transformers.BartConfig(
        **SMALL, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2
    )
    with pytest.raises(ValueError, match=r"BartFor.* has no single list of blocks, after which .*modules="):
        logit_lens(transformers.BartForSequenceClassification(bart).eval())
    resnet = transformers.ResNetConfig(embedding_size=4, hidden_sizes=[4], depths=[1], num_labels=3)
    with pytest.raises(ValueError, match=r"ResNet.* takes pixel_values, of which no example can be made here\. Name"):
        logit_lens(transformers.ResNetForImageClassification(resnet).eval())


@pytest.mark.parametrize(
    ("logits", "error", "message"),
    [
        ([1.0], TypeError, r"read-out of layer 'a' must return logits \[4, 3\]; got a list"),
        (torch.ones(4, 3, dtype=torch.int64), TypeError, r"must return logits \[4, 3\]; got int64 \[4, 3\]"),
        (torch.ones(4), ValueError, r"must return logits \[4, 3\], a row for each .*; got float32 \[4\]"),
        (torch.ones(3, 3), ValueError, r"must return .*; got float32 \[3, 3\]"),
        (torch.ones(4, 2), ValueError, r"must return .*; got float32 \[4, 2\]"),
    ],
)
def test_what_a_readout_must_return(logits, error, message):
    with pytest.raises(error, match=message):
        check_readout_output(logits, 4, 3, "layer 'a'")


def test_a_readout_may_have_any_number_of_columns_where_none_is_asked_for():
    logits = torch.ones(4, 7)
    assert check_readout_output(logits, 4, None, "layer 'a'") is logits


# ---------------------------------------------------------------- Captum's concepts


def activations(rows=60):
    labels = torch.arange(rows) % 3 + 4
    return normal(rows, 5) + labels[:, None] * torch.tensor([1.0, 0, 0, -1, 0]), labels


def test_a_concept_classifier_is_that_of_scikit_learn():
    x, labels = activations()
    classifier = LogisticClassifier([0.05])
    found = classifier.train_and_eval([(x[:30].reshape(30, 1, 5), labels[:30]), (x[30:], labels[30:])], 0.25)
    z = classifier(x)
    assert classifier.classes() == [4, 5, 6]
    assert classifier.weights().shape == (3, 5)
    assert repr(classifier) == "LogisticClassifier of 5 features, classes 4, 5, 6"
    assert found["penalty"] == 0.05
    wrong = (z.argmax(1) + 4 != labels).sum()
    assert round(float(found["accs"]) * 15 + float(found["train_accs"]) * 45) == 60 - int(wrong)
    from captum_lkn.probes.logistic import held_out_rows

    fitted = ~held_out_rows(labels - 4, 0.25, 0)
    other = LogisticRegression(C=1 / (45 * 0.05), tol=1e-12, solver="newton-cholesky").fit(x[fitted], labels[fitted])
    wanted = torch.from_numpy(other.coef_)
    torch.testing.assert_close(classifier.weights().double(), wanted - wanted.mean(0), atol=1e-4, rtol=1e-4)


def test_tcav_with_a_concept_classifier(tmp_path):
    network = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    with torch.no_grad():  # the first unit of the layer is the first input, and speaks for class 1
        network[0].weight.copy_(torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]))
        network[0].bias.fill_(5)
        network[2].weight.copy_(torch.tensor([[0.0, 1, 1], [3, 1, 1]]))

    def concept(number, name, shift):
        rows = [normal(4, seed=10 * number + i) * 0.3 + torch.tensor([shift, 0, 0, 0]) for i in range(20)]
        return Concept(number, name, dataset_to_dataloader(rows))

    high, low = concept(0, "high", 2.0), concept(1, "low", -2.0)
    classifier = LogisticClassifier()
    method = TCAV(network, ["0"], classifier=classifier, save_path=str(tmp_path), test_split_ratio=0.25)
    scores = method.interpret(normal(6, 4), [[high, low]], target=1)["0-1"]["0"]
    assert scores["sign_count"].tolist() == [1.0, 0.0]
    vectors = method.cavs["0-1"]["0"].stats
    assert vectors["accs"] == 1
    direction = vectors["weights"][0] / vectors["weights"][0].norm()
    assert direction[0] > 0.95
    assert list(vectors["classes"]) == [0, 1]


@pytest.mark.parametrize(
    ("data", "share", "message"),
    [
        ([], 0.3, r"dataloader has no batch\. Give the activations of two concepts or more"),
        ([(normal(4, 2), torch.zeros(4))], 0.3, r"labels 0 in 4 rows\. Give two classes or more"),
        ([(normal(4, 2), torch.tensor([0, 0, 0, 1]))], 0.3, r"labels 0, 1 in 3, 1 rows\. .* with two rows or more"),
        ([(normal(4, 2), torch.arange(4) % 2)], 0.0, r"test_split_ratio must be a share between 0 and 1; got 0\.0"),
    ],
)
def test_concepts_that_cannot_be_told(data, share, message):
    with pytest.raises(ValueError, match=message):
        LogisticClassifier().train_and_eval(data, share)


def test_a_classifier_before_it_is_trained():
    with pytest.raises(ValueError, match=r"the classifier is not trained\. Call train_and_eval first"):
        LogisticClassifier().weights()
    with pytest.raises(ValueError, match=r"penalties must be numbers above 0.*got -1"):
        LogisticClassifier([-1])


@pytest.mark.parametrize(("pooling", "holds"), [("cls", True), ("mean", False)])
def test_a_head_that_averages_over_tokens_is_refused(pooling, holds):
    """The mean of one token is the token, so that only several tell."""
    config = {"vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "pad_token_id": 0}
    config |= {"intermediate_size": 16, "max_position_embeddings": 40, "num_labels": 3, "local_attention": 8}
    config |= {"cls_token_id": 1, "bos_token_id": 1, "sep_token_id": 2, "eos_token_id": 2, "initializer_range": 0.5}
    model = made(
        transformers.ModernBertForSequenceClassification,
        transformers.ModernBertConfig,
        classifier_pooling=pooling,
        **config,
    )
    if holds:
        assert "classifier" in repr(logit_lens(model))
    else:
        with pytest.raises(ValueError, match=r"gives other logits than the model itself.*reads several tokens"):
            logit_lens(model)


@pytest.mark.parametrize("readout", ["module", "method", "function"])
def test_a_read_out_on_another_device_than_its_layer(readout):
    """The meta device stands for a second one."""
    network = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)).eval()
    elsewhere = nn.Linear(3, 2, device="meta")
    kinds = {"module": elsewhere, "method": elsewhere.forward, "function": lambda x: elsewhere(x)}
    method = LayerAndOrInteraction(network, "0", probe=kinds[readout])
    place = "another device" if readout == "function" else "meta"
    message = rf"the read-out of layer '0' has weights on {place}, and the layer puts out tensors on cpu: move .* there"
    with pytest.raises(ValueError, match=message):
        method.attribute(torch.ones(1, 4), target=0)
