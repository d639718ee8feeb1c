"""Change of knowledge over the states of a model: its layers, checkpoints of its training, other models.

=================  ===============================================================================
``analyzer``       ``LayerwiseKnowledge``: from a model and inputs to the comparison of its layers
``states``         ``compare_models``: from several models, or checkpoints, to their comparison
``change``         ``KnowledgeChange``: the result
``comparison``     two states compared, as functions of their effects
``noise_ceiling``  the same tables decomposed again under noise
``sensitivity``    the same tables decomposed again under other conventions
``rows``           the result as rows, and as a data frame
``rendering``      the result as text and HTML
``packing``        the result as tensors and JSON, for a file
=================  ===============================================================================
"""

from captum_lkn.knowledge.analyzer import LayerwiseKnowledge
from captum_lkn.knowledge.change import KnowledgeChange
from captum_lkn.knowledge.comparison import Comparison, compare
from captum_lkn.knowledge.noise_ceiling import NoiseCeiling
from captum_lkn.knowledge.rows import ChangeRow
from captum_lkn.knowledge.sensitivity import Sensitivity
from captum_lkn.knowledge.states import compare_models

__all__ = [
    "ChangeRow",
    "Comparison",
    "KnowledgeChange",
    "LayerwiseKnowledge",
    "NoiseCeiling",
    "Sensitivity",
    "compare",
    "compare_models",
]
