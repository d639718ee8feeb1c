"""Change of a model's knowledge from layer to layer.

=================  ===============================================================================
``analyzer``       ``LayerwiseKnowledge``: from a model and inputs to the comparison of its layers
``change``         ``KnowledgeChange``: the result
``comparison``     two layers compared, as functions of their effects
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

__all__ = ["ChangeRow", "Comparison", "KnowledgeChange", "LayerwiseKnowledge", "NoiseCeiling", "Sensitivity", "compare"]
