"""Sparse AND-OR interactions of any PyTorch model, layer by layer, the Captum way.

* methods: :class:`AndOrInteraction`, which combinations of players drive an output; :class:`LayerAndOrInteraction`, the
  same at layers; :class:`ExactShapleyValues`, tensors, from 2^n forwards; :class:`LayerwiseKnowledge`, layers compared;
  :func:`compare_models`, checkpoints or models compared
* players: :func:`text_players`, :func:`image_players`, :func:`prompt_players`, :func:`table_players`,
  :func:`players_from_mask` (Captum's arguments), :func:`interpretable_players` (its inputs); :func:`select_players`
  where there are too many
* read-outs of layers: :class:`LinearProbes`, :func:`logit_lens`, any function
* models: :class:`SelectOutput` and :func:`answer_span` select the output that is explained; :class:`Continuation`,
  of a causal language model
* scores: a name, any callable, or a :class:`Score`, which says what it reads and its unit
* baselines: :func:`players_as_embeddings`, :func:`mean_embedding`, :func:`average_baselines`, :func:`learn_baseline`,
  :func:`compare_baselines`
* results: :class:`Interactions`, :class:`InteractionsBatch`, :class:`KnowledgeChange`
* tables from elsewhere: :func:`decompose`, :class:`DecompositionOptions`, :mod:`captum_lkn.decomposition.lattice`
"""

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

from captum_lkn._version import __version__

if TYPE_CHECKING:
    from captum_lkn.attribution import (
        AndOrInteraction,
        ExactShapleyValues,
        LayerAndOrInteraction,
        check_model,
        check_players,
        check_score,
    )
    from captum_lkn.baselines import (
        average_baselines,
        compare_baselines,
        learn_baseline,
        mean_embedding,
        players_as_embeddings,
    )
    from captum_lkn.causal.continuation import Continuation
    from captum_lkn.decomposition import DecompositionOptions, decompose
    from captum_lkn.interactions import Interactions, InteractionsBatch, SampledBatch, SampledInteractions
    from captum_lkn.knowledge import KnowledgeChange, LayerwiseKnowledge, compare_models
    from captum_lkn.models.arguments import Fixed
    from captum_lkn.models.features import FeatureModel
    from captum_lkn.models.layers import Layer
    from captum_lkn.outputs.heads import SelectOutput, answer_span
    from captum_lkn.outputs.score import Score
    from captum_lkn.players.images import image_players
    from captum_lkn.players.interpretable import interpretable_players
    from captum_lkn.players.players import Players, players_from_mask
    from captum_lkn.players.prompts import prompt_players
    from captum_lkn.players.tables import table_players
    from captum_lkn.players.text import text_players
    from captum_lkn.probes import LinearProbe, LinearProbes
    from captum_lkn.probes.lens import logit_lens
    from captum_lkn.values.selection import select_players

__all__ = [
    "AndOrInteraction",
    "Continuation",
    "DecompositionOptions",
    "ExactShapleyValues",
    "FeatureModel",
    "Fixed",
    "Interactions",
    "InteractionsBatch",
    "KnowledgeChange",
    "Layer",
    "LayerAndOrInteraction",
    "LayerwiseKnowledge",
    "LinearProbe",
    "LinearProbes",
    "Players",
    "SampledBatch",
    "SampledInteractions",
    "Score",
    "SelectOutput",
    "__version__",
    "answer_span",
    "average_baselines",
    "check_model",
    "check_players",
    "check_score",
    "compare_baselines",
    "compare_models",
    "decompose",
    "image_players",
    "interpretable_players",
    "learn_baseline",
    "logit_lens",
    "mean_embedding",
    "players_as_embeddings",
    "players_from_mask",
    "prompt_players",
    "select_players",
    "table_players",
    "text_players",
]

# A name is imported when it is first used (PEP 562): so the command line answers --help without loading torch.
_NAMES = {
    "attribution": (
        "AndOrInteraction",
        "ExactShapleyValues",
        "LayerAndOrInteraction",
        "check_model",
        "check_players",
        "check_score",
    ),
    "baselines": (
        "average_baselines",
        "compare_baselines",
        "players_as_embeddings",
        "learn_baseline",
        "mean_embedding",
    ),
    "causal.continuation": ("Continuation",),
    "decomposition": ("DecompositionOptions", "decompose"),
    "interactions": ("Interactions", "InteractionsBatch", "SampledBatch", "SampledInteractions"),
    "knowledge": ("KnowledgeChange", "LayerwiseKnowledge", "compare_models"),
    "models.arguments": ("Fixed",),
    "models.features": ("FeatureModel",),
    "models.layers": ("Layer",),
    "outputs.heads": ("SelectOutput", "answer_span"),
    "outputs.score": ("Score",),
    "players.images": ("image_players",),
    "players.interpretable": ("interpretable_players",),
    "players.players": ("Players", "players_from_mask"),
    "players.prompts": ("prompt_players",),
    "players.tables": ("table_players",),
    "players.text": ("text_players",),
    "probes": ("LinearProbe", "LinearProbes"),
    "probes.lens": ("logit_lens",),
    "values.selection": ("select_players",),
}
_PLACE_OF = {name: f"{__name__}.{package}" for package, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _PLACE_OF:
        value = getattr(importlib.import_module(_PLACE_OF[name]), name)
        globals()[name] = value
        return value
    # A submodule is an attribute once it was imported; so `captum_lkn.decomposition.lattice` works at once.
    if not name.startswith("_") and importlib.util.find_spec(f"{__name__}.{name}"):
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
