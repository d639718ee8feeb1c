"""Classifiers of sentences: the demo's MiniLM, and narrow networks of the shapes of the paper's, trained from scratch.

In the full size the shapes are those of the checkpoints, whose weights come from the hub and are fine-tuned.
"""

from __future__ import annotations

from typing import Any

import torch

from captum_lkn.demo import load_sentiment_bert

__all__ = ["LAYERS", "build_text", "tokenizer_for"]

LAYERS = {
    "minilm": [f"bert.encoder.layer.{block}" for block in range(6)],
    "distilbert": [*(f"distilbert.transformer.layer.{block}" for block in (0, 2, 3, 4)), "pre_classifier"],
    "bert": [*(f"bert.encoder.layer.{block}" for block in (1, 5, 7, 9)), "bert.pooler"],
    "xlnet": [f"transformer.layer.{block}" for block in (1, 5, 7, 9)],
}
_HUB = {"distilbert": "distilbert-base-uncased", "bert": "bert-base-uncased", "xlnet": "xlnet-base-cased"}
_FULL = 768


def tokenizer_for(name: str, width: float) -> Any:
    """Return the tokenizer of a network: small ones use that of MiniLM."""
    if width < 1 or name == "minilm":
        return load_sentiment_bert()[1]
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(_HUB[name])


def build_text(name: str, tokenizer: Any, width: float, seed: int, *, random: bool = False) -> Any:
    """Make a classifier of two classes.

    Args:
        name: A name in :data:`LAYERS`.
        tokenizer: Its tokenizer.
        width: The share of the full width of 768; at 1 the weights come from the hub.
        seed: The seed of random weights.
        random: Whether the weights are random at any width.

    Returns:
        The model in eval mode.
    """
    import transformers as hf

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if name == "minilm":
            model = load_sentiment_bert()[0]
            return hf.BertForSequenceClassification(model.config).eval() if random else model
        if width >= 1 and not random:
            return hf.AutoModelForSequenceClassification.from_pretrained(_HUB[name], num_labels=2).eval()
        return _narrow(hf, name, len(tokenizer), max(16, 16 * int(_FULL * width / 32))).eval()


def _narrow(hf: Any, name: str, vocabulary: int, width: int) -> Any:
    heads = 4
    if name == "distilbert":
        config = hf.DistilBertConfig(vocab_size=vocabulary, dim=width, n_layers=6, n_heads=heads, hidden_dim=4 * width)
        return hf.DistilBertForSequenceClassification(config)
    if name == "bert":
        config = hf.BertConfig(
            vocab_size=vocabulary, hidden_size=width, num_hidden_layers=12, num_attention_heads=heads,
            intermediate_size=4 * width,
        )  # fmt: skip
        return hf.BertForSequenceClassification(config)
    config = hf.XLNetConfig(
        vocab_size=vocabulary, d_model=width, n_layer=12, n_head=heads, d_inner=4 * width, summary_type="first"
    )
    return hf.XLNetForSequenceClassification(config)
