"""Sparse AND-OR interactions of any PyTorch model, layer by layer, the Captum way.

==========================  =========================================================================
:class:`AndOrInteraction`   which combinations of players drive an output; a Captum attribution class
:class:`LayerAndOrInteraction` the same at a layer, or at several from one pass
:class:`ExactShapleyValues` exact Shapley values as tensors, from 2^n forwards
:func:`text_players`        the words of a sentence as players
:func:`players_from_mask`   players from Captum's inputs, baselines and feature mask
:class:`Interactions`       what comes out for one sample; :class:`InteractionsBatch` for many
:func:`decompose`           the decomposition itself, for value tables from elsewhere
:mod:`captum_lkn.lattice`   the transforms
==========================  =========================================================================
"""

from captum_lkn._version import __version__
from captum_lkn.attribution import AndOrInteraction, ConvergenceDelta, ExactShapleyValues, LayerAndOrInteraction
from captum_lkn.decomposition import Decomposition, decompose
from captum_lkn.interactions import InputLayout, Interaction, Interactions, InteractionsBatch
from captum_lkn.layers import Layer
from captum_lkn.players import Players, players_from_mask
from captum_lkn.text import text_players

__all__ = [
    "AndOrInteraction",
    "ConvergenceDelta",
    "Decomposition",
    "ExactShapleyValues",
    "InputLayout",
    "Interaction",
    "Interactions",
    "InteractionsBatch",
    "Layer",
    "LayerAndOrInteraction",
    "Players",
    "__version__",
    "decompose",
    "players_from_mask",
    "text_players",
]
