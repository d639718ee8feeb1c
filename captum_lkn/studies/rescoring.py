"""Outputs of a study's samples in its files, and their interactions by another score or target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from captum_lkn._common.messages import count_of
from captum_lkn.attribution.outputs import KeptOutputs, interactions_of_outputs
from captum_lkn.interactions import Interactions, InteractionsBatch
from captum_lkn.outputs.score import ScoreLike
from captum_lkn.outputs.targets import TargetLike
from captum_lkn.studies.sample_files import Outputs, kept_outputs_of

__all__ = ["packed", "rescored"]


def packed(kept: KeptOutputs) -> Outputs:
    """Return outputs as a file holds them: what interactions hold as well is left out."""
    return kept.outputs, {"kind": kept.kind, "class_names": list(kept.class_names)}


def rescored(
    found: Sequence[Interactions], outputs: Sequence[Outputs], score: ScoreLike, target: TargetLike, options: Any
) -> InteractionsBatch:
    """Return the interactions of samples by another score, target or decomposition; no forward is run.

    Args:
        found: The interactions that are stored.
        outputs: The outputs of each of these samples.
        score: The score.
        target: One for all samples, or a list with one a sample; None: each sample's own.
        options: Options of the decomposition that replace the stored ones.

    Raises:
        ValueError: Another number of targets; a target or score that does not fit.
    """
    kept = [kept_outputs_of(one, own) for one, own in zip(found, outputs, strict=True)]
    targets: Any = [one.target() for one in kept] if target is None else target
    if hasattr(targets, "tolist"):
        targets = targets.tolist()
    if not isinstance(targets, list):
        targets = [targets] * len(kept)
    if len(targets) != len(kept):
        raise ValueError(
            f"target must be one for all samples, or a list with one for each that is stored; got {len(targets)} for "
            f"{count_of(len(kept), 'sample')}"
        )
    again = interactions_of_outputs(kept, targets, score, found[0].options.replace(**options))
    if target is None:  # the same classes, from the same source
        again = [
            replace(new, provenance={**new.provenance, "predicted": one.provenance.get("predicted") is True})
            for new, one in zip(again, found, strict=True)
        ]
    return InteractionsBatch(again)
