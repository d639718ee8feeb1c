"""Pictures of each kind of result, by the names that they have on it: ``found.plot.waterfall()``."""

from __future__ import annotations

from typing import Any

from captum_lkn.plot.bars import bars
from captum_lkn.plot.beeswarm import beeswarm
from captum_lkn.plot.by_order import by_order
from captum_lkn.plot.class_bars import class_bars
from captum_lkn.plot.completeness import completeness
from captum_lkn.plot.emergence import emergence
from captum_lkn.plot.fidelity import fidelity
from captum_lkn.plot.fidelity_curve import fidelity_curve
from captum_lkn.plot.flow import flow
from captum_lkn.plot.heatmap import heatmap
from captum_lkn.plot.images import patches
from captum_lkn.plot.matrix import matrix
from captum_lkn.plot.network import network
from captum_lkn.plot.ranking import ranking
from captum_lkn.plot.sentence import sentence
from captum_lkn.plot.sorted_strengths import sorted_strengths
from captum_lkn.plot.stacked import stacked
from captum_lkn.plot.strength import strength
from captum_lkn.plot.summary import summary
from captum_lkn.plot.transfer import transfer
from captum_lkn.plot.upset import upset
from captum_lkn.plot.waterfall import waterfall

__all__ = ["BY_ORDER", "CHANGE", "FIDELITY", "INTERACTIONS", "INTERACTIONS_BATCH", "SAMPLED", "SPARSITY", "TRANSFER"]

SAMPLED: dict[str, Any] = {
    "bars": bars,
    "network": network,
    "patches": patches,
    "ranking": ranking,
    "sentence": sentence,
    "strength": strength,
    "upset": upset,
    "waterfall": waterfall,
}
"""Pictures of ``SampledInteractions``."""

INTERACTIONS: dict[str, Any] = SAMPLED | {"fidelity": fidelity}
"""Pictures of ``Interactions``, whose fidelity is that at all 2^n values."""

INTERACTIONS_BATCH: dict[str, Any] = {
    "bars": class_bars,
    "beeswarm": beeswarm,
    "summary": summary,
}
"""Pictures of ``InteractionsBatch`` and ``SampledBatch``."""

CHANGE: dict[str, Any] = {
    "completeness": completeness,
    "emergence": emergence,
    "heatmap": heatmap,
    "matrix": matrix,
    "stacked": stacked,
    "flow": flow,
}
"""Pictures of ``KnowledgeChange``."""

BY_ORDER: dict[str, Any] = {"by_order": by_order}
"""Pictures of ``Generalization`` and ``Stability``."""

FIDELITY: dict[str, Any] = {"curve": fidelity_curve}
"""Pictures of ``FidelityCurve``."""

SPARSITY: dict[str, Any] = {"strengths": sorted_strengths}
"""Pictures of ``Sparsity``."""

TRANSFER: dict[str, Any] = {"strengths": transfer}
"""Pictures of ``Transfer``."""
