"""Interactions of several layers, by the layers' labels."""

from __future__ import annotations

from captum_lkn._common import html
from captum_lkn._common.formats import columns, printable, shortened
from captum_lkn._common.messages import count_of
from captum_lkn.interactions.about import WIDTH
from captum_lkn.interactions.batch import AnyBatch
from captum_lkn.interactions.rendering import BATCH_TEXTS, batch_rows

__all__ = ["LayerInteractions"]

_LABEL = 32


class LayerInteractions(dict[str, AnyBatch]):
    """A dict from the label of each layer to its :class:`InteractionsBatch`, that prints as a table.

    Example:
        >>> import torch
        >>> from captum_lkn import Interactions, InteractionsBatch
        >>> from captum_lkn.decomposition import Effects
        >>> effects = Effects.of(2, [("and", (0, 1), -3.0)])
        >>> found = Interactions(("not", "good"), effects, effects.reconstruction, kappa=0.0, gap=0.0)
        >>> LayerInteractions({"block.0": InteractionsBatch([found]), "output": InteractionsBatch([found])})
        Interactions of 2 layers, 1 sample each
          block.0  v +0.00 -> -3.00; not & good -3.00; 1 salient of 2^2
          output   v +0.00 -> -3.00; not & good -3.00; 1 salient of 2^2
    """

    def _title(self) -> str:
        samples = len(next(iter(self.values()), ()))
        more = "" if samples == 1 else ", of which the first is shown"
        return f"Interactions of {count_of(len(self), 'layer')}, {count_of(samples, 'sample')} each{more}"

    def __repr__(self) -> str:
        names = [shortened(printable(label), _LABEL) for label in self]
        width = max(map(columns, names), default=0)
        summaries = [batch[0].summary(WIDTH - width - 4) for batch in self.values()]
        rows = [f"{name}{' ' * (width - columns(name))}  {text}" for name, text in zip(names, summaries, strict=True)]
        return "\n  ".join([self._title(), *rows])

    def _repr_html_(self) -> str:
        found = batch_rows([batch[0].contents(1) for batch in self.values()])
        found["sample"] = list(self)
        header = ["layer" if name == "sample" else name for name in found]
        return html.table([self._title()], header, zip(*found.values(), strict=True), texts=("layer", *BATCH_TEXTS))
