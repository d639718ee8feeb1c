"""Sparse AND-OR decomposition of value tables: tensors in, effects out."""

from captum_lkn.decomposition.decompose import Decomposition, LargeGapError, decompose
from captum_lkn.decomposition.effects import Effects
from captum_lkn.decomposition.options import DecompositionOptions

__all__ = ["Decomposition", "DecompositionOptions", "Effects", "LargeGapError", "decompose"]
