"""The value tables of results decomposed again, with other options; no forward is run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from captum_lkn.decomposition.decompose import decompose
from captum_lkn.decomposition.options import DecompositionOptions
from captum_lkn.interactions.sample import Interactions

__all__ = ["decompose_again"]


def decompose_again(samples: Sequence[Interactions], changes: Mapping[str, Any]) -> list[Interactions]:
    """Decompose the tables of samples with other options, those of equal size together.

    Args:
        samples: The samples; refitted ones are refitted again.
        changes: Options that replace those of each sample. Without ``noise`` and ``kappa`` each keeps its own kappa.

    Returns:
        The same samples with other effects.
    """
    keeps_kappa = all(changes.get(name) is None for name in ("noise", "kappa"))
    kept = {"kappa": 0.0} if keeps_kappa else {}  # each sample's own, which may be a share of its range, comes below
    together: dict[tuple[int, DecompositionOptions], list[int]] = {}
    for place, one in enumerate(samples):
        together.setdefault((one.n_players, one.options.replace(**kept, **changes)), []).append(place)
    found: dict[int, Interactions] = {}
    for (_, options), places in together.items():
        kappa = [samples[i].kappa for i in places]
        again = decompose(
            torch.stack([samples[i].values for i in places]),
            kappa=torch.tensor(kappa, dtype=torch.float64, device="cpu") if keeps_kappa else None,
            options=options,
        )
        for row, place in enumerate(places):
            one = samples[place]
            settings = options.replace(kappa=one.kappa) if keeps_kappa else options
            new = replace(
                one,
                effects=again[row].effects,
                kappa=float(again.kappa[row]),
                gap=float(again.gap[row]),
                options=settings,
                provenance=_recorded(one, settings),
                refitted=False,
            )
            found[place] = new.refit() if one.refitted else new
    return [found[place] for place in range(len(samples))]


def _recorded(one: Interactions, options: DecompositionOptions) -> Mapping[str, Any]:
    """Return the provenance with the new options, where it has any."""
    if "decomposition" not in one.provenance:
        return one.provenance
    return {**one.provenance, "decomposition": {k: v for k, v in options.to_dict().items() if v is not None}}
