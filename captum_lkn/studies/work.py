"""Work of one process at a study: units of groups of samples, or parts of the masks of few samples."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from tqdm import tqdm

from captum_lkn._common.formats import shortened
from captum_lkn._common.memory import out_of_memory
from captum_lkn._common.messages import SHOWN, count_of, some_of
from captum_lkn._common.warn import warn
from captum_lkn.attribution.divided import DividedSample
from captum_lkn.studies.folder import Folder
from captum_lkn.studies.gathering import gather_files, ranks_with
from captum_lkn.studies.methods import Keep, StudyMethod, attribute, divided, joined
from captum_lkn.studies.part_files import has_part, part_path, read_part, remove_parts, write_part
from captum_lkn.studies.sample_files import sample_path
from captum_lkn.studies.samples import Sample, Unit
from captum_lkn.values.parts import PartValues
from captum_lkn.values.rows import Part

__all__ = ["Work"]

_T = TypeVar("_T")

_GIVE_UP: Final = 5  # samples that failed, where none succeeded: the fault is not one of samples
_DIVIDED: Final = 1 << 10  # masks from which on a sample is divided: the checks of the model are run for each part
_OF_SAMPLES: Final = (ValueError, RuntimeError, MemoryError)  # RuntimeError where it means that memory has run out


@dataclass
class Work:
    """Samples that are computed by one process, and what became of them.

    Attributes:
        method: The method.
        options: The options of its ``attribute``.
        keep: What is stored.
        folder: The folder, which is open.
        samples: The samples by their keys.
        numbers: Their numbers in the study.
        bar: The bar, over the masks of all samples that the process is to see done.
        failed: The reasons of the samples that could not be explained, by their keys.
        stored: How many this process has stored.
    """

    method: StudyMethod
    options: Mapping[str, Any]
    keep: Keep
    folder: Folder
    samples: Mapping[str, Sample]
    numbers: Mapping[str, int]
    bar: tqdm[Any]
    failed: dict[str, str] = field(default_factory=dict)
    stored: int = 0
    _warned: set[str] = field(default_factory=set)
    _apart: set[Any] = field(default_factory=set)
    _least: int = _GIVE_UP

    def __post_init__(self) -> None:
        self._places = {key: place for place, key in enumerate(self.samples)}
        self._with_parts = frozenset(self.folder.divisions())

    def divisions(self, processes: int, resume: bool) -> dict[str, int]:
        """Return into how many parts samples are divided, by their keys: where there are fewer samples than processes.

        With `resume` a sample of which there are parts in the folder stays divided as it is.
        """
        found = self.folder.divisions() if resume else {}
        parts = {key: found[key] for key in self.samples if key in found}
        count = len(self.samples)
        if count < processes:
            # So many that all processes get equally many.
            wanted = processes // math.gcd(count, processes)
            parts |= {key: wanted for key in self.samples if key not in parts and self._masks(key) >= _DIVIDED}
        return parts

    def run(self, units: Sequence[Unit], give_up: bool = True) -> None:
        """Compute what is missing: first the units that nobody works at, then what the others leave.

        With `give_up`, an error is raised where the first samples fail and none succeeds.
        """
        self._least = min(_GIVE_UP, len(self.samples)) if give_up else len(self.samples) + 1
        self._grow_bar(key for unit in units for group in unit for key in group)
        self._each(units, lambda unit: self._places[unit[0][0]], self._complete)

    def run_parts(self, parts: Mapping[str, int], rank: int) -> None:
        """Compute parts of samples that are divided, and of those whose parts are all there the results.

        As in :meth:`run`, first what nobody works at, beginning with the parts of this rank.
        """
        self._grow_bar(parts)
        tasks = _tasks(parts)
        self._each(_turned(tasks, rank), lambda task: self._lock_of(*task), lambda task: self._complete_part(*task))
        self._each(_turned(list(parts), rank), self._places.__getitem__, lambda key: self._finish(key, parts[key]))

    def run_gathered(self, units: Sequence[Unit], parts: Mapping[str, int], rank: int, world: int) -> None:
        """Compute the share of this rank, which has a folder of its own, and exchange files with all ranks."""
        self.run(units[rank::world], give_up=False)
        holders = {key: place % world for place, unit in enumerate(units) for group in unit for key in group}
        # A rank may have a divided sample that the others lack.
        present = ranks_with([self.folder.has(key) for key in parts], rank, world)
        holders |= {key: holder for key, holder in zip(parts, present, strict=True) if holder is not None}
        missing = {key: count for key, count in parts.items() if key not in holders}
        tasks = _tasks(missing)
        self._grow_bar(missing)
        for task in tasks[rank::world]:
            self._complete_part(*task)
        self._gather_parts(tasks, rank, world)
        for place, (key, count) in enumerate(missing.items()):
            holders[key] = place % world
            if place % world == rank:
                self._finish(key, count)
        self._gather(holders, rank)
        for key in parts:
            remove_parts(self.folder, key)

    def check(self) -> None:
        """Raise an error that names the samples that could not be explained, where there are some."""
        if not self.failed:
            return
        failed = {self.numbers[key]: key for key in self.failed}
        shown = [f"sample {i}{self._text(failed[i])}: {self.failed[failed[i]]}" for i in sorted(failed)[:SHOWN]]
        more = f"; and {len(failed) - SHOWN} more" if len(failed) > SHOWN else ""
        raise ValueError(
            f"{len(failed)} of {count_of(len(self.samples), 'sample')} could not be explained, the others are stored "
            f"in {str(self.folder.path)!r}: {'; '.join(shown)}{more}. load_study reads them; run mended samples in "
            "another folder, and merge the two"
        )

    def _each(self, tasks: Iterable[_T], lock_of: Callable[[_T], int], do: Callable[[_T], None]) -> None:
        """Do tasks: first those that nobody works at, then those that the others leave."""
        later = []
        for task in tasks:
            with self.folder.locks.taken(lock_of(task)) as mine:
                if mine:
                    do(task)
                else:
                    later.append(task)
        for task in later:
            with self.folder.locks.taken(lock_of(task), wait=True):
                do(task)

    def _lock_of(self, key: str, part: Part) -> int:
        """Return the number of a part's lock; those below are of units, by their first sample."""
        return len(self.samples) * (1 + part.number) + self._places[key]

    def _complete(self, unit: Unit) -> None:
        """Compute the samples of a unit that are not stored, together."""
        # Samples that share forwards are rounded together: what is stored is computed again beside the rest of a group.
        groups = [group for group in unit if not all(map(self.folder.has, group))]
        if groups:
            self._compute(groups, {key for group in groups for key in group if not self.folder.has(key)})
        keys = [key for group in unit for key in group]
        for key in self._with_parts.intersection(keys).difference(self.failed):
            remove_parts(self.folder, key)  # of an earlier run that divided the sample
        self.bar.update(sum(map(self._masks, keys)))

    def _compute(self, groups: Unit, missing: Collection[str]) -> None:
        """Compute groups together, and store the samples that are missing."""
        keys = [key for group in groups for key in group]
        several = [[self.samples[key] for key in group] for group in groups]
        try:
            found = self._warning_once(
                keys, lambda: attribute(self.method, several, self.options, self.keep, self._apart)
            )
        except _OF_SAMPLES as error:
            if len(keys) == 1:
                self._fail(keys[0], error)
                return
            _check_of_samples(error)
            if out_of_memory(error):
                warn(f"out of memory with {count_of(len(keys), 'sample')} of the study together: each is tried alone")
            found = None
        if found is None:  # one of them fails, or all: each group by itself, then each sample
            for group in groups if len(groups) > 1 else [[key] for key in keys if key in missing]:
                self._compute([group], missing)
            return
        for key, (results, outputs) in zip(keys, found, strict=True):
            if key in missing:
                self.folder.write(key, results, outputs)
                self.stored += 1

    def _complete_part(self, key: str, part: Part) -> None:
        """Compute a part of a sample that is not stored."""
        if key not in self.failed and not self.folder.has(key) and not has_part(self.folder, key, part):
            sample = self._divided(key)
            try:
                values = self._warning_once([key], lambda: sample.evaluate(part))
            except _OF_SAMPLES as error:
                self._fail(key, error)
                return
            write_part(self.folder, key, part, values)
        self.bar.update(self._masks(key) // part.parts)

    def _finish(self, key: str, count: int) -> None:
        """Compute the results of a sample from its parts, where they are not stored, and remove the parts."""
        if key in self.failed:
            return
        if not self.folder.has(key):
            self._join(key, count)
        if key not in self.failed:
            remove_parts(self.folder, key)
        self.bar.update(self._masks(key) % count)

    def _join(self, key: str, count: int) -> None:
        """Compute the results of a sample from its parts, or at once where these do not fit."""
        sample = self._divided(key)
        try:
            values = [self._part(sample, key, Part(number, count)) for number in range(count)]
            fitting = sample.fits(values)  # not of forwards of other sizes, such as on a CPU and on a GPU
            found = self._warning_once([key], lambda: joined(sample, values)) if fitting else None
        except _OF_SAMPLES as error:
            self._fail(key, error)
            return
        if found is None:
            self._compute([[key]], [key])
            return
        self.folder.write(key, *found)
        self.stored += 1

    def _part(self, sample: DividedSample, key: str, part: Part) -> PartValues:
        """Return the values of a part; they are computed where they are not stored, such as those of a damaged file."""
        stored = read_part(self.folder, key, part)
        return self._warning_once([key], lambda: sample.evaluate(part)) if stored is None else stored

    def _fail(self, key: str, error: Exception) -> None:
        _check_of_samples(error)
        self.failed[key] = self._in_study(str(error) or type(error).__name__, [key])
        if not self.stored and len(self.failed) >= self._least:
            self.check()

    def _gather(self, owners: Mapping[str, int], rank: int) -> None:
        """Exchange files of samples."""
        paths = {sample_path(self.folder.path, key): key for key in owners}
        own = {path: self.failed[key] for path, key in paths.items() if key in self.failed}
        reasons = gather_files([(path, owners[key]) for path, key in paths.items()], own, rank)
        self.failed |= {paths[path]: reason for path, reason in reasons.items()}

    def _gather_parts(self, tasks: Sequence[tuple[str, Part]], rank: int, world: int) -> None:
        """Exchange files of parts; a sample of which a part failed has failed."""
        paths = {part_path(self.folder.path, *task): task[0] for task in tasks}
        own = {path: self.failed[key] for path, key in paths.items() if key in self.failed}
        reasons = gather_files([(path, place % world) for place, path in enumerate(paths)], own, rank)
        for path, reason in reasons.items():
            self.failed.setdefault(paths[path], reason)

    def _divided(self, key: str) -> DividedSample:
        sample = self.samples[key]
        return divided(self.method, sample.players, sample.target, self.options, self.keep)

    def _warning_once(self, keys: Sequence[str], evaluate: Callable[[], _T]) -> _T:
        """Evaluate, and issue each warning once, with the numbers of the samples."""
        with warnings.catch_warnings(record=True) as caught:
            found = evaluate()
        numbers = [self.numbers[key] for key in keys]
        for each in caught:
            message = self._in_study(str(each.message), keys)
            if message not in self._warned:
                self._warned.add(message)
                warn(f"of sample{'' if len(numbers) == 1 else 's'} {some_of(numbers)} of the study: {message}")
        return found

    def _in_study(self, message: str, keys: Sequence[str]) -> str:
        """Return a message on samples that were evaluated together with their numbers in the study."""

        def number(found: re.Match[str]) -> str:
            place = int(found[1])
            return f"sample {self.numbers[keys[place]]}" if place < len(keys) else found[0]

        return re.sub(r"\bsample (\d+)\b", number, message)

    def _text(self, key: str) -> str:
        texts = self.samples[key].players.description.get("texts")
        return f" ({shortened(str(texts[0]), 40)!r})" if texts else ""

    def _masks(self, key: str) -> int:
        """Return the number of masks of a sample."""
        (n,) = self.samples[key].players.sizes
        every = 1 << min(n, 62)
        return every if self.options.get("n_samples") is None else min(int(self.options["n_samples"]), every)

    def _grow_bar(self, keys: Iterable[str]) -> None:
        self.bar.total = (self.bar.total or 0) + sum(map(self._masks, keys))
        self.bar.refresh()


def _tasks(parts: Mapping[str, int]) -> list[tuple[str, Part]]:
    return [(key, Part(number, count)) for key, count in parts.items() for number in range(count)]


def _turned(tasks: Sequence[_T], start: int) -> list[_T]:
    """Return tasks from one on, and then those before it."""
    start %= max(len(tasks), 1)
    return [*tasks[start:], *tasks[:start]]


def _check_of_samples(error: Exception) -> None:
    """Raise an error that is not one of a sample, which others need not have."""
    if not isinstance(error, ValueError) and not out_of_memory(error):
        raise error
