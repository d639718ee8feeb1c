"""Captum's attribution classes for interactions.

Arguments, their order and their meaning are those of :class:`captum.attr.ShapleyValues`; what comes after them is
keyword-only. The results are interactions; ``found.attributions()`` projects them onto the inputs.
"""

from captum_lkn.attribution.and_or import AndOrInteraction
from captum_lkn.attribution.base import ConvergenceDelta
from captum_lkn.attribution.checking import Check
from captum_lkn.attribution.checks import check_model
from captum_lkn.attribution.layer import LayerAndOrInteraction
from captum_lkn.attribution.part_checks import check_players, check_score
from captum_lkn.attribution.plan import Plan
from captum_lkn.attribution.shapley import ExactShapleyValues

__all__ = [
    "AndOrInteraction",
    "Check",
    "ConvergenceDelta",
    "ExactShapleyValues",
    "LayerAndOrInteraction",
    "Plan",
    "check_model",
    "check_players",
    "check_score",
]
