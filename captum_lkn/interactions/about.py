"""Model, class, text and continuation that a result is about, as its provenance records them for people."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from captum_lkn._common.formats import printable, shortened
from captum_lkn._common.messages import some_of

__all__ = ["WIDTH", "About", "about_of", "class_line", "other_question", "other_sample", "shared_lines", "targets_of"]

WIDTH = 80
"""Columns of a terminal that printed results fit."""

_ORIGIN = ("model", "layer", "score")
_CODE = "score_code"
_QUESTION = ("score", "target", "text", "continuation")


class Result(Protocol):
    """Interactions of all masks or of sampled ones, as far as they are read here."""

    @property
    def players(self) -> Sequence[str]:
        """The names of the players."""

    @property
    def provenance(self) -> Mapping[str, Any]:
        """The record of model and question."""


@dataclass(frozen=True)
class About:
    """The question that one sample's interactions answer; empty where it is not recorded.

    Attributes:
        origin: Names and values of model, layer and score.
        explained: The explained class by name and index, such as ``"positive (1)"``.
        predicted: True if it is the class that the model predicts.
        text: The text that was explained.
        continuation: The continuation of a prompt, with its token ids.
    """

    origin: tuple[tuple[str, str], ...] = ()
    explained: str = ""
    predicted: bool = False
    text: str = ""
    continuation: str = ""

    @property
    def question(self) -> str:
        """The continuation where there is one, else the explained class: a few words for a title."""
        return self.continuation or self.explained

    def lines(self) -> list[str]:
        """Return lines for a terminal, with an indent of two columns at most 80 wide."""
        lines = []
        if self.origin:
            lines += textwrap.wrap(", ".join(f"{name} {value}" for name, value in self.origin), WIDTH - 4)
        if self.explained and not self.continuation:
            lines.append(f"explained: {self.explained}{', which the model predicts' if self.predicted else ''}")
        for name, value in (("text", self.text), ("continuation", self.continuation)):
            if value:
                lines.append(f"{name}: {value}")
        return [shortened(line, WIDTH - 2) for line in lines]


def about_of(provenance: Mapping[str, Any]) -> About:
    """Read from the provenance of a sample what its interactions are about."""
    known = tuple((name, printable(str(provenance[name]))) for name in _ORIGIN if provenance.get(name) is not None)
    explained = provenance.get("explained")
    if explained is None and provenance.get("target") is not None:
        explained = f"target {provenance['target']}"
    return About(
        known,
        printable(str(explained or "")),
        provenance.get("predicted") is True,
        printable(str(provenance.get("text") or "")),
        _continuation_text(provenance.get("continuation")),
    )


def other_question(first: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[str, Any, Any] | None:
    """Compare the questions of two results of one sample.

    Args:
        first: The provenance of one.
        other: The provenance of the other.

    Returns:
        The first thing in which they differ, of score, target, text, continuation, kind of effects and, of scores of
        one name, their code, with both values; None where both answer one question, as far as that is recorded in both.

    Example:
        >>> other_question({"score": "prob", "target": 0}, {"score": "prob", "target": 1})
        ('target', 0, 1)
    """
    for name in (*_QUESTION, "kind"):
        mine, theirs = _recorded(first, name), _recorded(other, name)
        if mine is not None and theirs is not None and mine != theirs:
            return name, mine, theirs
    mine, theirs = (str(one.get(_CODE, "")) for one in (first, other))
    # Those of two versions of Python are not comparable.
    if mine != theirs and mine.partition(",")[0] == theirs.partition(",")[0]:
        return "code of the score", f"{first.get('score')} ({mine})", f"{other.get('score')} ({theirs})"
    return None


def other_sample(first: Result, other: Result) -> tuple[str, Any, Any] | None:
    """Compare what two results are about: their players, then their questions as in :func:`other_question`."""
    if first.players != other.players:
        return "players", some_of(first.players), some_of(other.players)
    return other_question(first.provenance, other.provenance)


def targets_of(provenances: Iterable[Mapping[str, Any]]) -> list[Any]:
    """Return the classes that were explained as a target of ``attribute``, to explain the same ones elsewhere.

    Example:
        >>> targets_of([{"target": 1}, {"target": [0, 2]}])
        [1, (0, 2)]
    """
    targets = [provenance.get("target") for provenance in provenances]
    return [tuple(one) if isinstance(one, list) else one for one in targets]


def _recorded(provenance: Mapping[str, Any], name: str) -> Any:
    if name == "kind":
        settings = provenance.get("decomposition")
        return settings.get("kind") if isinstance(settings, Mapping) else None
    return provenance.get(name)


def shared_lines(several: Sequence[About]) -> list[str]:
    """Return lines on what several samples have in common, and on their classes."""
    origin = tuple(part for part in several[0].origin if all(part in one.origin for one in several))
    continuations = {one.continuation for one in several}
    common = About(origin, continuation=continuations.pop() if len(continuations) == 1 else "").lines()
    classes = class_line(several)
    return [*common[:1], *textwrap.wrap(classes, WIDTH - 4), *common[1:]] if classes else common


def class_line(several: Iterable[About]) -> str:
    """Return which classes were explained over several samples; empty where that is not recorded."""
    every = [one for one in several if one.explained]
    if not every:
        return ""
    predicted = sum(one.predicted for one in every)
    names = dict.fromkeys(one.explained for one in every)
    if len(names) == 1:
        source = {0: "", len(every): ", which the model predicts"}.get(predicted, "")
        return f"explained: {next(iter(names))}{source}"
    counted = ", ".join(f"{name}: {sum(one.explained == name for one in every)}" for name in names)
    source = {0: "the classes given", len(every): "the classes that the model predicts"}.get(
        predicted, f"the classes given, or predicted in {predicted} of {len(every)} samples"
    )
    return f"explained: {source} ({counted})"


def _continuation_text(found: Any) -> str:
    if not isinstance(found, Mapping):
        return ""
    ids = ", ".join(map(str, found.get("ids", ())))
    text = found.get("text")
    return f"tokens {ids}" if text is None else f"{printable(repr(text))} (tokens {ids})"
