"""Run a study: the interactions of many samples, in a folder, by any number of processes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from captum_lkn._common.arguments import checked
from captum_lkn._common.checks import check_flag, is_whole
from captum_lkn._common.messages import some_of
from captum_lkn._common.progress import Bar, is_hidden
from captum_lkn._common.warn import warn
from captum_lkn.knowledge import LayerwiseKnowledge
from captum_lkn.outputs.targets import TargetLike
from captum_lkn.players.players import Players
from captum_lkn.studies.folder import Folder, Manifest
from captum_lkn.studies.gathering import check_ranks, rank_and_world
from captum_lkn.studies.methods import Keep, StudyMethod, check_options, settings_of, shares_forwards
from captum_lkn.studies.samples import Unit, groups_of, samples_of, units_of
from captum_lkn.studies.study import Study, load_study
from captum_lkn.studies.work import Work
from captum_lkn.values.sampled import check_sampling

__all__ = ["run_study"]


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
    one step, short samples share forwards in groups that depend on the samples alone, and files that are damaged are
    computed again.

    Several processes may run the same study in the same folder, on hosts that share it as well. Each takes the next
    samples that nobody works at, and returns when all are done. A process that dies leaves its samples to the others.
    Where ``torchrun`` or ``accelerate launch`` started them (``RANK`` and ``WORLD_SIZE``), each begins at its own
    share, and the first shows the bar. Where there are more of them than samples, the masks of samples are divided: the
    values of each part are a file in the folder until the sample is known. Ranks that share no folder exchange their
    files with `gather`.

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
            such as those with values that are not finite, or for which memory does not suffice with one masked copy
            in a forward: all others are stored before.
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
    if options.get("n_samples") is not None:  # an error of all samples, before any forward
        check_sampling(options["n_samples"], options.get("seed", 0), [one.players for one in single])
    numbers: dict[str, int] = {}
    for number, sample in enumerate(single):
        numbers.setdefault(sample.key, number)  # equal samples are computed once
    sizes = {key: single[number].players.sizes[0] for key, number in numbers.items()}
    accuracies = method.accuracies if isinstance(method, LayerwiseKnowledge) else {}
    manifest = Manifest(settings, tuple(sample.key for sample in single), sizes, accuracies)
    rank, world = rank_and_world()
    if gather:
        if shard is not None:
            raise ValueError(f"shard must be None with gather=True, where ranks have shares; got {shard!r}")
        rank, world = check_ranks(manifest)
    share = _share(shard) if shard is not None else (rank, world)
    several = {key: single[number] for key, number in numbers.items()}
    with Folder.open(Path(out), manifest, resume) as folder:
        if strangers := folder.strangers(list(sizes)):
            warn(f"{folder.path} has files that are not of this study, which are left alone: {some_of(strangers)}")
        with Bar(desc="samples' masks", unit="mask", disable=is_hidden(show_progress and rank == 0)) as bar:
            work = Work(method, options, keep, folder, several, numbers, bar)
            parts = {} if shard is not None else work.divisions(world, resume=not gather)
            every = groups_of(several, shares_forwards(options, keep), options.get("perturbations_per_eval"))
            groups = [group for group in every if group[0] not in parts]
            is_sampled = options.get("n_samples") is not None  # nothing is decomposed together
            units = [[group] for group in groups] if is_sampled else units_of(groups, sizes, share[1])
            if gather and world > 1:
                work.run_gathered(units, parts, rank, world)
            elif shard is not None:
                work.run(units[share[0] :: share[1]])
            else:
                work.run(_from_own_share(units, share))
                work.run_parts(parts, rank)
    work.check()
    return load_study(out)


def _share(shard: Any) -> tuple[int, int]:
    fits = isinstance(shard, tuple) and len(shard) == 2 and all(map(is_whole, shard))
    if not fits or not 0 <= shard[0] < shard[1]:
        raise ValueError(f"shard must be (i, k), the i-th of k shares from 0; got {shard!r}")
    return int(shard[0]), int(shard[1])


def _from_own_share(units: Sequence[Unit], share: tuple[int, int]) -> list[Unit]:
    """Return the units in the order of this process: its own share first, then that of the next one."""
    rank, world = share
    return [unit for i in range(world) for unit in units[(rank + i) % world :: world]]
