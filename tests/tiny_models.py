"""Models of the right form with random weights."""

import torch
import transformers

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


_SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 29}
_GROUPED = _SIZES | {"intermediate_size": 24, "num_key_value_heads": 2}
CAUSAL = {
    "llama": ("LlamaForCausalLM", "LlamaConfig", _GROUPED),
    "gpt2": ("GPT2LMHeadModel", "GPT2Config", {"n_embd": 16, "n_layer": 2, "n_head": 4, "vocab_size": 29}),
    "neox": ("GPTNeoXForCausalLM", "GPTNeoXConfig", _SIZES | {"intermediate_size": 24}),
    "qwen2": ("Qwen2ForCausalLM", "Qwen2Config", _GROUPED),
    "mistral": ("MistralForCausalLM", "MistralConfig", _GROUPED),
    "bloom": ("BloomForCausalLM", "BloomConfig", {"hidden_size": 16, "n_layer": 1, "n_head": 2, "vocab_size": 29}),
}


def tiny_causal(family, **config):
    """A causal language model of a family, with 29 tokens unless `config` says otherwise."""
    model_class, config_class, sizes = CAUSAL[family]
    return made(getattr(transformers, model_class), getattr(transformers, config_class), **(sizes | config))
