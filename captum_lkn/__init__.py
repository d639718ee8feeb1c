"""Sparse AND-OR interactions of any PyTorch model, layer by layer, the Captum way.

* methods: :class:`AndOrInteraction`, which combinations of players drive an output; :class:`LayerAndOrInteraction`, the
  same at layers; :class:`ExactShapleyValues`, tensors, from 2^n forwards; :class:`LayerwiseKnowledge`, layers compared
* players: :func:`text_players`, :func:`image_players`, :func:`prompt_players`, :func:`players_from_mask` (Captum's
  arguments); :func:`select_players` where there are too many
* read-outs of layers: :class:`LinearProbes`, :func:`logit_lens`, any function
* models: :class:`Head` and :func:`answer_span` say what of an output is explained; :class:`Continuation`, of a causal
  language model
* baselines: :func:`embedding_players`, :func:`mean_embedding`, :func:`average_over`, :func:`learn_baseline`,
  :func:`compare_baselines`
* results: :class:`Interactions`, :class:`InteractionsBatch`, :class:`KnowledgeChange`
* tables from elsewhere: :func:`decompose`, :mod:`captum_lkn.decomposition.lattice`
"""

from captum_lkn._version import __version__
from captum_lkn.attribution import AndOrInteraction, ConvergenceDelta, ExactShapleyValues, LayerAndOrInteraction
from captum_lkn.baselines import (
    BaselineComparison,
    LearnedBaseline,
    average_over,
    compare_baselines,
    embedding_players,
    learn_baseline,
    mean_embedding,
)
from captum_lkn.causal.continuation import Continuation
from captum_lkn.decomposition.decompose import Decomposition, decompose
from captum_lkn.interactions import InputLayout, Interaction, Interactions, InteractionsBatch
from captum_lkn.knowledge import Comparison, KnowledgeChange, LayerwiseKnowledge
from captum_lkn.models.layers import Layer
from captum_lkn.outputs.heads import Head, answer_span
from captum_lkn.players.images import image_players
from captum_lkn.players.players import Players, players_from_mask
from captum_lkn.players.prompts import prompt_players
from captum_lkn.players.text import text_players
from captum_lkn.probes import LinearProbe, LinearProbes
from captum_lkn.probes.lens import logit_lens
from captum_lkn.values.selection import select_players

__all__ = [
    "AndOrInteraction",
    "BaselineComparison",
    "Comparison",
    "Continuation",
    "ConvergenceDelta",
    "Decomposition",
    "ExactShapleyValues",
    "Head",
    "InputLayout",
    "Interaction",
    "Interactions",
    "InteractionsBatch",
    "KnowledgeChange",
    "Layer",
    "LayerAndOrInteraction",
    "LayerwiseKnowledge",
    "LearnedBaseline",
    "LinearProbe",
    "LinearProbes",
    "Players",
    "__version__",
    "answer_span",
    "average_over",
    "compare_baselines",
    "decompose",
    "embedding_players",
    "image_players",
    "learn_baseline",
    "logit_lens",
    "mean_embedding",
    "players_from_mask",
    "prompt_players",
    "select_players",
    "text_players",
]
