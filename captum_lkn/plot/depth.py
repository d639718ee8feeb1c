"""Layers in their order, and strengths by order of interactions: what pictures of a change share."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from matplotlib.axes import Axes
from numpy.typing import NDArray
from torch import Tensor

from captum_lkn._common.checks import is_one_of, is_whole
from captum_lkn._common.colours import NEUTRAL
from captum_lkn.decomposition.effects import KINDS, Kind
from captum_lkn.interactions import Interactions
from captum_lkn.knowledge import KnowledgeChange
from captum_lkn.knowledge.checks import amplified_states
from captum_lkn.knowledge.comparison import Comparison, Strengths
from captum_lkn.models.layers import OUTPUT
from captum_lkn.plot.canvas import BODY
from captum_lkn.plot.fonts import text_width
from captum_lkn.plot.names import layer_names

__all__ = [
    "GROUPS",
    "Depth",
    "check_sample",
    "depth_of",
    "grouped",
    "kind_only",
    "kind_title",
    "name_states",
    "shade_amplified",
    "smooth",
    "subject_of",
]

GROUPS = ("order 1", "order 2", "order 3", "order 4 and higher")
"""Names of the groups of orders that pictures tell apart."""

_PLATEAU = 0.3  # of the way to the next layer that a smooth line stays level
_POINTS = 24
_APART = 3.0  # points between names side by side
_Line: TypeAlias = NDArray[np.float64]


class Depth(NamedTuple):
    """States, such as layers, from the earliest to the reference.

    Attributes:
        labels: Their labels, the reference's at the end.
        names: Short names.
        prefix: The dotted beginning of the labels that the names leave out.
        amplified: Those whose normaliser is small, so that dividing by it dwarfs the other layers.
        noun: What a state is called.
    """

    labels: tuple[str, ...]
    names: tuple[str, ...]
    prefix: str
    amplified: frozenset[str]
    noun: str = "layer"

    @property
    def starred(self) -> list[str]:
        """The names, with an asterisk after those of amplified layers."""
        both = zip(self.names, self.labels, strict=True)
        return [f"{name}*" if label in self.amplified else name for name, label in both]

    @property
    def reference(self) -> str:
        """The reference in a sentence: ``the output``, or the short name of another layer."""
        return "the output" if self.labels[-1] == OUTPUT else self.names[-1]

    @property
    def axis(self) -> str:
        """The label of an axis of states."""
        return f"{self.noun} ({self.prefix})" if self.prefix else self.noun


def depth_of(change: KnowledgeChange) -> Depth:
    """Return the layers of a change, the reference at the end."""
    labels = (*(label for label in change.states if label != change.reference), change.reference)
    names, prefix = layer_names(labels)
    normalisers = {label: change.normalisers[label] for label in labels}
    amplified = amplified_states(normalisers, change.interactions, change.tau, change.scope)
    return Depth(labels, tuple(names), prefix, frozenset(amplified - {change.reference}), change.noun)


def kind_only(comparison: Comparison, kind: Kind | None) -> Comparison:
    """Return a comparison of one kind, or of both together: quantities ``[1, m]``.

    Args:
        comparison: Quantities ``[2, m]``.
        kind: ``"and"`` or ``"or"``; None takes both.

    Returns:
        The comparison.

    Raises:
        ValueError: There is no such kind.
    """
    if kind is not None and not is_one_of(kind, KINDS):
        raise ValueError(f'kind must be "and", "or" or None; got {kind!r}')
    rows = slice(None) if kind is None else slice(KINDS.index(kind), KINDS.index(kind) + 1)
    return Comparison(Strengths(*(part[:, rows].sum(1, keepdim=True) for part in comparison.samples)), comparison.ratio)


def kind_title(kind: Kind | None) -> str:
    """Return a name of the effects of a kind, or of both."""
    return f"{kind.upper()} effects" if kind else "AND and OR effects"


def grouped(comparison: Comparison) -> Comparison:
    """Return a comparison by groups of orders: quantities ``[..., 4]``."""
    return Comparison(Strengths(*map(_by_group, comparison.samples)), comparison.ratio)


def name_states(ax: Axes, depth: Depth, names: Sequence[str]) -> float:
    """Name the states below the axis, upright where names side by side would overlap.

    Args:
        ax: The axes.
        depth: The states.
        names: Their names, from the left.

    Returns:
        The points that the names take beyond a line, for a legend below them.
    """
    longest = max((text_width(name, BODY) for name in names), default=0.0)
    place = 72 * ax.bbox.width / ax.figure.dpi / max(len(names), 1)  # of a name, in points
    upright = longest > place - _APART
    ax.set_xticks(range(len(names)), names, parse_math=False, rotation=90 if upright else 0)
    ax.set_xlabel(depth.axis, fontsize=BODY)
    return longest - BODY if upright else 0.0


def shade_amplified(ax: Axes, depth: Depth) -> None:
    """Shade the states whose normaliser is small."""
    for place, label in enumerate(depth.labels):
        if label in depth.amplified:
            ax.axvspan(place - 0.5, place + 0.5, color=NEUTRAL, alpha=0.13, linewidth=0, zorder=-1)


def smooth(values: Sequence[float]) -> tuple[_Line, _Line]:
    """Return a line through values at 0, 1, 2, ... that is level at each and bends between them.

    Returns:
        x and y. Between two layers nothing was measured: the line only leads the eye.
    """
    t = np.linspace(0, 1, _POINTS)
    bend = np.clip((t - _PLATEAU) / (1 - 2 * _PLATEAU), 0, 1)
    bend = bend * bend * (3 - 2 * bend)
    xs, ys = [np.array([-_PLATEAU])], [np.array([values[0]])]
    for place, (one, other) in enumerate(pairwise(values)):
        xs.append(place + t)
        ys.append(one + (other - one) * bend)
    xs.append(np.array([len(values) - 1 + _PLATEAU]))
    ys.append(np.array([values[-1]]))
    return np.concatenate(xs), np.concatenate(ys)


def check_sample(change: KnowledgeChange, sample: int) -> dict[str, Interactions]:
    """Return by layer the interactions of one sample.

    Raises:
        ValueError: There is no such sample.
    """
    if not is_whole(sample) or not 0 <= sample < change.n_samples:
        raise ValueError(f"sample must be from 0 to {change.n_samples - 1}; got {sample!r}")
    return {label: batch[sample] for label, batch in change.interactions.items()}


def subject_of(change: KnowledgeChange, sample: int | None = None) -> str:
    """Return the class or continuation and the text of a sample, or the number of the samples."""
    if sample is None and change.n_samples > 1:
        return f"{change.n_samples} samples"
    about = change.interactions[change.reference][sample or 0].about
    text = f"“{about.text}”" if about.text else ""
    return ", ".join(part for part in (about.question, text) if part)


def _by_group(strengths: Tensor) -> Tensor:
    last = len(GROUPS) - 1
    padded = torch.nn.functional.pad(strengths, (0, max(0, len(GROUPS) - strengths.shape[-1])))
    return torch.cat([padded[..., :last], padded[..., last:].sum(-1, keepdim=True)], -1)
