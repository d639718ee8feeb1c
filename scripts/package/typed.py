"""Consumer of the library whose types mypy --strict and pyright check: they must see them through `py.typed`.

`make package` checks it against the installed wheel. Nothing runs it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from typing_extensions import assert_type

import captum_lkn
from captum_lkn import (
    AndOrInteraction,
    DecompositionOptions,
    ExactShapleyValues,
    Interactions,
    InteractionsBatch,
    KnowledgeChange,
    LayerAndOrInteraction,
    LayerwiseKnowledge,
    LinearProbes,
    Players,
    SampledBatch,
    decompose,
    players_from_mask,
)
from captum_lkn.decomposition.effects import Effects
from captum_lkn.interactions import Interaction
from captum_lkn.interactions.by_layer import LayerInteractions

assert_type(captum_lkn.__version__, str)
model: nn.Module = nn.Sequential(nn.Linear(4, 2))
x = torch.zeros(1, 4)

players = players_from_mask(x)
assert_type(players, Players)

found = AndOrInteraction(model, noise=0.04).attribute(players, target=0)
assert_type(found, InteractionsBatch)
assert_type(found[0], Interactions)
assert_type(found[0].top(3), list[Interaction])
assert_type(AndOrInteraction(model).attribute(x, target=0, n_samples=100), SampledBatch)
assert_type(InteractionsBatch.load("found.safetensors"), InteractionsBatch)
assert_type(ExactShapleyValues(model).attribute(x, target=0), Tensor | tuple[Tensor, ...])
at_layer = LayerAndOrInteraction(model, "0", probe=nn.Identity()).attribute(x, target=0)
assert_type(at_layer, InteractionsBatch | SampledBatch | LayerInteractions)

probes = LinearProbes.fit(model, ["0"], [(x, torch.zeros(1, dtype=torch.long))])
assert_type(probes, LinearProbes)
change = LayerwiseKnowledge(model, ["0"], probes=probes).analyze(players, target=0)
assert_type(change, KnowledgeChange)

assert_type(decompose(torch.zeros(16), options=DecompositionOptions()).effects, Effects)
