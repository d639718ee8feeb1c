"""Models, inputs and tables of `gpu_suite.py`, the same on every device: weights and data are random, with a seed."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import Tensor, nn

SIZES = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 40,
    "initializer_range": 0.5,  # outputs that depend on the inputs, though nothing was trained
}
GPT = {"vocab_size": 60, "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 40, "initializer_range": 0.5}
DISTIL = {"vocab_size": 60, "dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 32, "initializer_range": 0.5}
XLNET = {"vocab_size": 60, "d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 32, "initializer_range": 0.5}
VISION = {key: SIZES[key] for key in SIZES if key not in ("vocab_size", "max_position_embeddings")}
VISION |= {"image_size": 8, "patch_size": 4, "num_channels": 3}
RESNET = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
GROUPED = SIZES | {"num_key_value_heads": 1, "pad_token_id": 0}

FAMILIES: dict[str, tuple[str, dict[str, Any], str]] = {
    "Bert": ("SequenceClassification", SIZES, "bert.encoder.layer.0"),
    "DistilBert": ("SequenceClassification", DISTIL, "distilbert.transformer.layer.0"),
    "Roberta": ("SequenceClassification", SIZES, "roberta.encoder.layer.0"),
    "Electra": ("SequenceClassification", SIZES, "electra.encoder.layer.0"),
    "XLNet": ("SequenceClassification", XLNET, "transformer.layer.0"),
    "GPT2": ("SequenceClassification", GPT | {"pad_token_id": 0}, "transformer.h.0"),
    "Llama": ("SequenceClassification", GROUPED, "model.layers.0"),
    "Qwen2": ("SequenceClassification", GROUPED, "model.layers.0"),
    "ViT": ("ImageClassification", VISION, ""),
    "ResNet": ("ImageClassification", RESNET, "resnet.encoder.stages.0"),
}


def made(family: str, device: torch.device, **settings: Any) -> nn.Module:
    """Return a model of `transformers` with random weights, the same on every device."""
    head, config, _ = FAMILIES[family]
    torch.manual_seed(0)
    described = getattr(transformers, f"{family}Config")(**(config | {"num_labels": 3} | settings))
    return getattr(transformers, f"{family}For{head}")(described).eval().to(device)


def inputs_of(family: str, device: torch.device) -> dict[str, Any]:
    """Return the arguments of an analysis of two samples with four players."""
    if FAMILIES[family][0] == "ImageClassification":
        pixels = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
        quarters = torch.tensor([[0, 1], [2, 3]]).repeat_interleave(4, 0).repeat_interleave(4, 1)
        return {"inputs": pixels.to(device), "baselines": 0.5, "feature_mask": quarters.to(device), "target": 1}
    ids = torch.tensor([[7, 12, 30, 41, 5], [9, 8, 44, 17, 6]], device=device)
    words = torch.tensor([[-1, 0, 1, 2, 3]], device=device).expand(2, -1)
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    return {"inputs": given, "baselines": 3, "feature_mask": words, "target": 1}


def network(device: torch.device, inner: int = 256) -> nn.Module:
    """Return a network of eight columns, the same on every device."""
    torch.manual_seed(0)
    layers = [nn.Linear(8, inner), nn.Tanh(), nn.Linear(inner, inner), nn.Tanh(), nn.Linear(inner, 3)]
    net = nn.Sequential(*layers).eval()
    with torch.no_grad():
        net[4].weight *= 5
    return net.to(device)


def columns(device: torch.device, batch: int = 2) -> Tensor:
    """Return samples of eight columns."""
    return torch.randn(batch, 8, generator=torch.Generator().manual_seed(2)).to(device)


def planted(n: int, batch: int) -> Tensor:
    """Return tables of a few AND effects with noise ``[batch, 2^n]``."""
    generator = torch.Generator().manual_seed(n)
    masks = torch.arange(2**n)
    tables = 0.05 * torch.randn(batch, 2**n, generator=generator, dtype=torch.float64)
    for _ in range(12):
        subset = int(torch.randint(1, 2**n, (), generator=generator))
        tables += torch.randn(batch, 1, generator=generator, dtype=torch.float64) * ((masks & subset) == subset)
    return tables
