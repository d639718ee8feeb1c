"""Run a study: the interactions of many samples, in a folder, by any number of processes."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tqdm import tqdm

from captum_lkn._common.arguments import checked
from captum_lkn._common.checks import check_flag, is_whole
from captum_lkn._common.formats import shortened
from captum_lkn._common.messages import SHOWN, count_of, some_of
from captum_lkn._common.warn import warn
from captum_lkn.knowledge import LayerwiseKnowledge
from captum_lkn.outputs.targets import TargetLike
from captum_lkn.players.players import Players
from captum_lkn.studies.folder import Folder, Manifest, Outputs, Results
from captum_lkn.studies.gathering import check_ranks, gather_files, rank_and_world
from captum_lkn.studies.methods import Keep, StudyMethod, attribute, check_options, settings_of
from captum_lkn.studies.samples import Sample, groups_of, samples_of
from captum_lkn.studies.study import Study, load_study

__all__ = ["run_study"]

_GIVE_UP: Final = 5  # samples that failed, where none succeeded: the fault is not one of samples


@checked("out", "show_progress", "target", "version")
def run_study(
    method: StudyMethod,
    samples: Players | Iterable[Players],
    out: str | os.PathLike[str],
    resume: bool = True,
    *,
    target: TargetLike = "predicted",
    keep: Keep = "interactions",
    shard: tuple[int, int] | None = None,
    version: str | None = None,
    gather: bool = False,
    show_progress: bool = False,
    **options: Any,
) -> Study:
    """Find the interactions of many samples, and store each in a file of its own as soon as it is known.

    A run that was killed goes on where it was, and ends with the same bytes as one that was not: files are written in
    one step, a sample's numbers do not depend on the samples beside it, and files that are damaged are computed again.

    Several processes may run the same study in the same folder, on hosts that share it as well. Each takes the next
    samples that nobody works at, and returns when all are done. A process that dies leaves its samples to the others.
    Where ``torchrun`` or ``accelerate launch`` started them (``RANK`` and ``WORLD_SIZE``), each begins at its own
    share, and the first shows the bar. Ranks that share no folder exchange their files with `gather`.

    Args:
        method: An :class:`captum_lkn.AndOrInteraction`, :class:`captum_lkn.LayerAndOrInteraction` or
            :class:`captum_lkn.LayerwiseKnowledge`.
        samples: Players, each of one sample or of several.
        out: The folder: a new or empty one, or one in which this study was begun.
        resume: Whether to go on with a study that was begun. False: that is refused.
        target: The class that is explained, as in ``attribute``: one for all samples, or a list with one a sample.
        keep: ``"outputs"`` stores the model's outputs as well, for :meth:`Study.rescore`, of an ``AndOrInteraction``
            and models that return ``[B, C]``.
        shard: (i, k): compute only the i-th of k shares, from 0, for hosts that share no folder; :func:`merge` joins
            them. None: everything.
        version: A text that stands for what of the model, the score or the read-outs cannot be told by its weights or
            code; change it whenever that changes. Needed only where there is such a thing.
        gather: Whether the ranks of a process group of ``torch.distributed`` share no folder: each computes its own
            samples in its own folder, and then all files are sent to all ranks, so that each has the whole study. If a
            rank dies, the others wait for it as long as the group's timeout says; what was stored is kept.
        show_progress: Whether to show one bar over the masks of all samples, with the time left.
        **options: Further options of the method's ``attribute``, such as ``perturbations_per_eval`` or ``n_samples``.

    Returns:
        The study, whose samples are read from the folder when they are asked for.

    Raises:
        TypeError: An argument of the wrong type, an option that the method does not have.
        ValueError: The folder holds another study; an argument out of range; or samples that could not be explained,
            such as those with values that are not finite: all others are stored before.
        FileExistsError: The study was begun, and `resume` is False.
        OSError: The folder cannot be written to, or is full; what was stored is kept.
        RuntimeError: Another thread of this process is at work in the folder; with `gather` there is no process group,
            or a rank has no GPU, which the group's backend needs.

    Warns:
        UserWarning: What ``attribute`` warns of; files that are damaged or not of this study.

    Example:
        >>> import tempfile, torch
        >>> from captum_lkn import AndOrInteraction, players_from_mask
        >>> def either(x):
        ...     return x.amax(1)
        >>> samples = [players_from_mask(torch.tensor([row])) for row in ([1.0, 1.0], [2.0, 1.0, 2.0])]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     study = run_study(AndOrInteraction(either, score="logit", noise=0), samples, folder, target=None)
        ...     print(*study.interactions[1].top(1))
        0 | 2  +1.00
    """
    check_flag("resume", resume)
    check_flag("gather", gather)
    check_options(method, options, keep)
    settings = settings_of(method, options, keep, version)
    single = samples_of(samples, target, settings, version)
    numbers: dict[str, int] = {}
    for number, sample in enumerate(single):
        numbers.setdefault(sample.key, number)  # equal samples are computed once
    sizes = {key: single[number].players.sizes[0] for key, number in numbers.items()}
    accuracies = method.accuracies if isinstance(method, LayerwiseKnowledge) else {}
    manifest = Manifest(settings, tuple(sample.key for sample in single), sizes, accuracies)
    groups = groups_of(sizes, options.get("n_samples") is None)
    rank, world = rank_and_world()
    if gather:
        if shard is not None:
            raise ValueError(f"shard must be None with gather=True, where ranks have shares; got {shard!r}")
        rank, world = check_ranks(manifest)
        shard = rank, world
    order = _order(len(groups), shard)
    with (
        Folder.open(Path(out), manifest, resume) as folder,
        tqdm(
            total=sum(_cost(sizes[key]) for group in order for key in groups[group]),
            desc="samples' masks",
            unit="mask",
            disable=not (show_progress and rank == 0),
        ) as bar,
    ):
        if strangers := folder.strangers(list(sizes)):
            warn(f"{folder.path} has files that are not of this study, which are left alone: {some_of(strangers)}")
        work = _Work(method, options, keep, folder, [single[i] for i in numbers.values()], numbers, bar.update)
        work.run([(group, groups[group]) for group in order], give_up=not gather)
        if gather and world > 1:
            owners = [(key, group % world) for group, keys in enumerate(groups) for key in keys]
            own = {single[number].key: reason for number, reason in work.failed.items()}
            reasons = gather_files(folder.path, owners, own, rank)
            work.failed = {numbers[key]: reason for key, reason in reasons.items()}
    work.check(len(numbers))
    return load_study(out)


@dataclass
class _Work:
    """Samples that are computed by one process, and what became of them."""

    method: StudyMethod
    options: Mapping[str, Any]
    keep: Keep
    folder: Folder
    samples: Sequence[Sample]
    numbers: Mapping[str, int]
    advance: Callable[[int], object]
    failed: dict[int, str] = field(default_factory=dict)
    stored: int = 0
    _warned: set[str] = field(default_factory=set)
    _least: int = _GIVE_UP
    _of: dict[str, Sample] = field(init=False)

    def __post_init__(self) -> None:
        self._of = {sample.key: sample for sample in self.samples}

    def run(self, groups: Sequence[tuple[int, Sequence[str]]], give_up: bool = True) -> None:
        """Compute what is missing: first the groups that nobody works at, then what the others leave.

        With `give_up`, an error is raised where the first samples fail and none succeeds.
        """
        later = []
        self._least = min(_GIVE_UP, len(self.samples)) if give_up else len(self.samples) + 1
        for group, keys in groups:
            with self.folder.locks.taken(group) as mine:
                if mine:
                    self._complete(keys)
                else:
                    later.append((group, keys))
        for group, keys in later:
            with self.folder.locks.taken(group, wait=True):
                self._complete(keys)

    def check(self, total: int) -> None:
        """Raise an error that names the samples that could not be explained, where there are some."""
        if not self.failed:
            return
        shown = [f"sample {i}{self._text(i)}: {self.failed[i]}" for i in sorted(self.failed)[:SHOWN]]
        more = f"; and {len(self.failed) - SHOWN} more" if len(self.failed) > SHOWN else ""
        raise ValueError(
            f"{len(self.failed)} of {count_of(total, 'sample')} could not be explained, the others are stored in "
            f"{str(self.folder.path)!r}: {'; '.join(shown)}{more}. load_study reads them; run mended samples in "
            "another folder, and merge the two"
        )

    def _text(self, number: int) -> str:
        sample = next(sample for sample in self.samples if self.numbers[sample.key] == number)
        texts = sample.players.description.get("texts")
        return f" ({shortened(str(texts[0]), 40)!r})" if texts else ""

    def _complete(self, keys: Sequence[str]) -> None:
        """Compute the samples of a group that are not stored, together."""
        missing = [key for key in keys if not self.folder.has(key)]
        if missing:
            self._compute(missing)
        self.advance(sum(_cost(self._of[key].players.sizes[0]) for key in keys))

    def _compute(self, keys: Sequence[str]) -> None:
        several = [self._of[key] for key in keys]
        numbers = [self.numbers[key] for key in keys]
        try:
            found = self._attribute(several, numbers)
        except ValueError as error:
            if len(keys) > 1:  # one of them, or all: the numbers of the others are the same without it
                for key in keys:
                    self._compute([key])
                return
            self.failed[numbers[0]] = str(error)
            if not self.stored and len(self.failed) >= self._least:
                self.check(len(self.samples))
            return
        for key, (results, outputs) in zip(keys, found, strict=True):
            self.folder.write(key, results, outputs)
            self.stored += 1

    def _attribute(self, several: Sequence[Sample], numbers: Sequence[int]) -> list[tuple[Results, Outputs | None]]:
        """Return results and what is kept, and issue each warning once, with the numbers of the samples."""
        with warnings.catch_warnings(record=True) as caught:
            players, targets = [one.players for one in several], [one.target for one in several]
            found = attribute(self.method, players, targets, self.options, self.keep)
        for each in caught:
            if str(each.message) not in self._warned:
                self._warned.add(str(each.message))
                warn(f"of sample{'' if len(numbers) == 1 else 's'} {some_of(numbers)} of the study: {each.message}")
        return found


def _cost(n: int) -> int:
    return 1 << min(n, 20)


def _order(groups: int, shard: Any) -> list[int]:
    """Return the numbers of the groups in the order of this process: its own share first."""
    if shard is not None:
        fits = isinstance(shard, tuple) and len(shard) == 2 and all(map(is_whole, shard))
        if not fits or not 0 <= shard[0] < shard[1]:
            raise ValueError(f"shard must be (i, k), the i-th of k shares from 0; got {shard!r}")
        return list(range(shard[0], groups, shard[1]))
    rank, world = rank_and_world()
    return sorted(range(groups), key=lambda group: ((group - rank) % world, group))
