"""The demo's sentiment model: what it answers, that a damaged file is refused, and that its card is true."""

import importlib.util
import json
import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

from captum_lkn import demo

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
def sentiment():
    return demo.load_sentiment_bert()


@pytest.fixture
def adapter_bytes():
    return demo.ADAPTER_PATH.read_bytes()


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
def test_updates_are_added_to_the_base_weights(sentiment):
    base, _ = demo.load_base_bert()
    tensors, _ = demo.read_adapter(demo.ADAPTER_PATH)
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


@needs_base_model
def test_loading_prints_nothing():
    # a process of its own, whose terminal nobody else has captured
    code = "from captum_lkn import demo; demo.load_sentiment_bert()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_import_brings_no_transformers():
    code = "import sys, captum_lkn.demo; sys.exit('transformers' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


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


def test_adapter_is_small_float16_and_described():
    assert demo.ADAPTER_PATH.stat().st_size <= 1_000_000
    tensors, metadata = demo.read_adapter(demo.ADAPTER_PATH)
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values())
    assert metadata["base"] == demo.BASE_HUB_ID
    assert metadata["labels"] == ["negative", "positive"]
    ranks = {tensor.shape[0] for name, tensor in tensors.items() if name.endswith(".A")}
    assert ranks == {metadata["recipe"]["rank"]}


def test_card_states_what_the_metadata_states():
    _, metadata = demo.read_adapter(demo.ADAPTER_PATH)
    card = demo.ADAPTER_PATH.with_suffix(".md").read_text(encoding="utf-8")
    accuracy = metadata["accuracy"]["test"]
    assert accuracy >= 0.83
    assert f"| accuracy on 1,000 held-out sentences | {accuracy:.1%}" in card
    assert metadata["sha256"] in card
    for fact in ("Apache-2.0", "MIT", metadata["base"], metadata["data"], "scripts/make_demo_model.py"):
        assert fact in card


@pytest.mark.parametrize("position", [-1, -1000, 0, 9, 100])
def test_a_flipped_byte_is_refused(tmp_path, adapter_bytes, position):
    damaged = bytearray(adapter_bytes)
    damaged[position] ^= 0xFF
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match=r"damaged\.safetensors.*damaged.*make_demo_model"):
        demo.load_sentiment_bert(path)


@pytest.mark.parametrize("length", [0, 5, 2000, -1])
def test_a_truncated_file_is_refused(tmp_path, adapter_bytes, length):
    path = tmp_path / "short.safetensors"
    path.write_bytes(adapter_bytes[:length])
    with pytest.raises(ValueError, match=r"short\.safetensors.*is damaged or no adapter"):
        demo.load_sentiment_bert(path)


def test_another_safetensors_file_is_refused(tmp_path):
    path = tmp_path / "other.safetensors"
    safetensors.torch.save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match="no adapter of captum-lkn"):
        demo.read_adapter(path)


def test_a_later_schema_is_refused(tmp_path):
    path = tmp_path / "later.safetensors"
    facts = {demo.METADATA_KEY: json.dumps({"schema": 99, "sha256": ""})}
    safetensors.torch.save_file({"weight": torch.zeros(2)}, path, facts)
    with pytest.raises(ValueError, match="schema 99, this version reads 1: update captum-lkn"):
        demo.read_adapter(path)


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
        demo.merge_adapter(model, tensors)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_merge_adds_the_product_and_replaces_the_rest():
    model = torch.nn.Linear(3, 2)
    weight = model.weight.detach().clone()
    a, b = torch.randn(1, 3).half(), torch.randn(2, 1).half()
    demo.merge_adapter(model, {"weight.A": a, "weight.B": b, "bias": torch.tensor([1.0, 2.0]).half()})
    torch.testing.assert_close(model.weight.detach(), weight + b.float() @ a.float())
    assert model.bias.tolist() == [1.0, 2.0]


def test_the_digest_is_that_of_the_bytes_after_the_header():
    plain = safetensors.torch.save({"x": torch.arange(3.0)})
    described = safetensors.torch.save({"x": torch.arange(3.0)}, {"note": "a longer header"})
    assert demo.payload_digest(plain) == demo.payload_digest(described)
    assert demo.payload_digest(plain) != demo.payload_digest(safetensors.torch.save({"x": torch.ones(3)}))


def test_adapter_lies_in_the_package():
    assert demo.ADAPTER_PATH.parent == Path(demo.__file__).parent / "assets"
