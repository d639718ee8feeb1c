"""Baselines: what replaces absent players, and what depends on it.

:mod:`~captum_lkn.baselines.embeddings` puts vectors where a token id cannot say "nothing is here",
:mod:`~captum_lkn.baselines.learning` finds such a vector, :mod:`~captum_lkn.baselines.averaging` averages over
several baselines, and :mod:`~captum_lkn.baselines.comparison` says how far the answer changes with them.
"""

from captum_lkn.baselines.averaging import average_baselines
from captum_lkn.baselines.comparison import BaselineAgreement, BaselineComparison, compare_baselines
from captum_lkn.baselines.embeddings import mean_embedding, players_as_embeddings
from captum_lkn.baselines.learning import LearnedBaseline, learn_baseline

__all__ = [
    "BaselineAgreement",
    "BaselineComparison",
    "LearnedBaseline",
    "average_baselines",
    "compare_baselines",
    "learn_baseline",
    "mean_embedding",
    "players_as_embeddings",
]
