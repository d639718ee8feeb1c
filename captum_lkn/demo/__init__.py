"""Models, sentences and photo of the demo."""

from captum_lkn.demo.text import LAYERS, SENTENCES, load_sentiment_bert, load_sentiment_probes

__all__ = ["LAYERS", "SENTENCES", "load_sentiment_bert", "load_sentiment_probes"]
