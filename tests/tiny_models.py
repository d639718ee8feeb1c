"""Models of the right form with random weights."""

import torch

BERT = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 32,
    "num_labels": 3,
    "initializer_range": 0.5,  # outputs that depend on the inputs, though nothing was trained
}


def made(model_class, config_class, **config):
    """A model of `transformers`, the same in every run."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return model_class(config_class(**config)).eval()
