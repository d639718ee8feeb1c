"""Baselines, the values that replace absent players: made, learned, averaged over, compared.

:mod:`~captum_lkn.baselines.embeddings` replaces token ids by embeddings, so that any vector can be a baseline;
:mod:`~captum_lkn.baselines.learning` learns such a vector; :mod:`~captum_lkn.baselines.averaging` averages over several
baselines; :mod:`~captum_lkn.baselines.comparison` measures how much the interactions depend on them.
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
