"""Samples of a study: one by one, with their keys, in groups that share forwards and in units of work."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import groupby
from typing import Any, Final, TypeAlias

import numpy as np
from torch import Tensor

from captum_lkn._common.messages import count_of, kind_of
from captum_lkn.attribution.base import OF_SAMPLES
from captum_lkn.players.players import Players
from captum_lkn.studies.identity import identity
from captum_lkn.studies.sharing import form_of

__all__ = ["Sample", "Unit", "groups_of", "samples_of", "units_of"]

_MASKS: Final = 1 << 12  # of a unit, which is the most that a kill costs
_SAMPLES: Final = 32  # of a unit
# Samples of a group. The checks of a model take a fifth of the time of one short sentence, a fortieth of that of eight.
_SHARED: Final = 8
_GROUPS: Final = 16  # at least, where there are as many samples, for the processes that share them

Unit: TypeAlias = Sequence[Sequence[str]]
"""Keys of samples that are decomposed together, in groups that share forwards."""


@dataclass(frozen=True)
class Sample:
    """One sample of a study.

    Attributes:
        key: The digest of settings, players and target, and the name of its file.
        players: Its players.
        target: Its target.
    """

    key: str
    players: Players
    target: Any


def samples_of(given: Any, target: Any, settings: Mapping[str, Any], version: str | None) -> list[Sample]:
    """Return the samples one by one, with their targets and keys.

    Args:
        given: Players, or an iterable of them, each of one sample or of several.
        target: One for all samples, or a list with one a sample.
        settings: The settings of the study, which JSON can hold.
        version: As in :func:`captum_lkn.studies.identity.identity`.

    Raises:
        TypeError: Something else than Players.
        ValueError: No samples, or another number of targets.
    """
    if isinstance(given, Tensor) or not isinstance(given, Players | Iterable):
        raise TypeError(f"samples must be Players, or a list of them; got {kind_of(given)}. Make them by text_players")
    several = [given] if isinstance(given, Players) else list(given)
    for i, players in enumerate(several):
        if not isinstance(players, Players):
            raise TypeError(f"samples must be Players; got {kind_of(players)} in place {i}. Make them by text_players")
    single = [one for players in several for one in _split(players)]
    if not single:
        raise ValueError("samples must be at least one; got none. Give Players")
    targets = _targets(target, len(single))
    return [
        Sample(identity([dict(settings), _content(players), own], f"sample {i}", version), players, own)
        for i, (players, own) in enumerate(zip(single, targets, strict=True))
    ]


def groups_of(samples: Mapping[str, Sample], shared: bool, rows: int | None = None) -> list[list[str]]:
    """Return the keys in groups that share forwards, those with most masks first.

    They depend on the samples and options alone, because samples that share forwards are rounded together: a run that
    goes on, on any number of processes, has the groups of one that was not stopped.

    Args:
        samples: The samples by their keys.
        shared: False for groups of one.
        rows: The rows of a forward that the user gave; None: by a rule.
    """
    by_form: dict[Any, list[str]] = {}
    for key, sample in samples.items():
        form = form_of(sample.players) if shared else None
        by_form.setdefault((sample.players.sizes[0], form or key), []).append(key)
    found = []
    for (n, _), keys in sorted(by_form.items(), key=lambda item: -item[0][0]):  # stable: in the order of the study
        most = max(1, min(_SHARED, _MASKS >> n, len(samples) // _GROUPS))
        for start in range(0, len(keys), most):
            group = keys[start : start + most]
            found += [group] if rows is None or rows >= len(group) else [[key] for key in group]
    return found


def units_of(groups: Sequence[list[str]], sizes: Mapping[str, int], processes: int = 1) -> list[Unit]:
    """Return groups in units of work, whose tables are decomposed together; a table's numbers do not depend on them.

    Args:
        groups: The groups, in the order of their sizes.
        sizes: The number of players of each sample, by its key.
        processes: The number of processes, each of which is to have a unit of each size if there are so many samples.
    """
    found: list[Unit] = []
    for n, equal in groupby(groups, key=lambda group: sizes[group[0]]):
        several = list(equal)
        most = max(1, min(_SAMPLES, _MASKS >> n, -(-sum(map(len, several)) // processes)))
        unit: list[list[str]] = []
        for group in several:
            if unit and sum(map(len, unit)) + len(group) > most:
                found.append(unit)
                unit = []
            unit.append(group)
        found.append(unit)
    return found


def _targets(target: Any, count: int) -> list[Any]:
    is_array = isinstance(target, Tensor | np.ndarray) and math.prod(target.shape) > 1  # one element is for all
    targets = target.tolist() if is_array else target
    if not isinstance(targets, list):
        return [target] * count
    if len(targets) != count:
        raise ValueError(
            f"target must be one for all samples, or a list with one a sample; got {len(targets)} for "
            f"{count_of(count, 'sample')}"
        )
    return targets


def _content(players: Players) -> dict[str, Any]:
    return {each.name: getattr(players, each.name) for each in fields(players)}


def _split(players: Players) -> list[Players]:
    """Return the players of each sample; what has a row for each sample is cut, as a forward does it."""
    if len(players) == 1:
        return [players]
    return [_one(players, i) for i in range(len(players))]


def _one(players: Players, i: int) -> Players:
    def row(x: Any) -> Any:
        return x[i : i + 1] if isinstance(x, Tensor) and x.dim() and len(x) == len(players) else x

    def rows(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return tuple(x[i : i + 1] for x in tensors)

    return Players(
        rows(players.inputs),
        rows(players.baselines),
        rows(players.owners),
        players.labels[i : i + 1],
        players.names,
        {name: row(value) for name, value in players.constants.items()},
        players.is_tuple,
        {name: value[i : i + 1] if name in OF_SAMPLES else value for name, value in players.description.items()},
        players.background,
        players.decode,
    )
