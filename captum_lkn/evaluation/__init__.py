"""Measures of interactions over a data set: do they generalise, are they stable, faithful and sparse.

==================  =============================================================================
``generalization``  interactions that two models or layers have in common, by order
``stability``       interactions under noise on the inputs, by order
``held_out``        interactions that other models have as well, and the rest
``transfer``        its results
``fidelity``        outputs reproduced by all effects, and by the strongest alone
``sparsity``        sorted strengths, and the number of salient effects
``by_order``        the form that the first two have: a number for each kind and order
``bootstrap``       intervals over samples
==================  =============================================================================
"""

from captum_lkn.evaluation.by_order import ByOrder, OrderRow
from captum_lkn.evaluation.fidelity import FidelityCurve, fidelity
from captum_lkn.evaluation.generalization import Generalization, generalization
from captum_lkn.evaluation.held_out import transferable
from captum_lkn.evaluation.sparsity import Sparsity, sparsity
from captum_lkn.evaluation.stability import Stability, stability
from captum_lkn.evaluation.transfer import Transfer, TransferRow

__all__ = [
    "ByOrder",
    "FidelityCurve",
    "Generalization",
    "OrderRow",
    "Sparsity",
    "Stability",
    "Transfer",
    "TransferRow",
    "fidelity",
    "generalization",
    "sparsity",
    "stability",
    "transferable",
]
