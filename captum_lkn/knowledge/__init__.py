"""How the knowledge of a model changes from layer to layer.

==============  =================================================================================
``analyzer``    ``LayerwiseKnowledge``: from a model and inputs to the comparison of its layers
``change``      ``KnowledgeChange``: the result
``comparison``  two layers compared, as functions of their effects
``luck``        how much of a comparison is luck: extractions under noise
``rows``        the result as rows, and as a data frame
``rendering``   the result as text and HTML
``packing``     the result as tensors and JSON, for a file
==============  =================================================================================
"""

from captum_lkn.knowledge.analyzer import LayerwiseKnowledge
from captum_lkn.knowledge.change import KnowledgeChange
from captum_lkn.knowledge.comparison import Comparison, compare
from captum_lkn.knowledge.luck import Luck
from captum_lkn.knowledge.rows import ChangeRow

__all__ = ["ChangeRow", "Comparison", "KnowledgeChange", "LayerwiseKnowledge", "Luck", "compare"]
