"""Exchange of sample files between ranks that share no folder, by torch.distributed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, distributed

from captum_lkn._common.writing import replacing
from captum_lkn.studies.folder import Manifest, check_settings

__all__ = ["check_ranks", "gather_files", "rank_and_world", "ranks_with"]


def rank_and_world() -> tuple[int, int]:
    """Return the rank of this process and the number of processes, as torch.distributed's launchers state them."""
    try:
        rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    except (KeyError, ValueError):
        return 0, 1
    return (rank, world) if 0 <= rank < world else (0, 1)


def check_ranks(manifest: Manifest) -> tuple[int, int]:
    """Check that all ranks have the same model, options and samples, and return the rank and the number of ranks.

    Raises:
        ValueError: A rank has another study.
        RuntimeError: Several ranks were started, and there is no process group; or a rank has no GPU, which the
            group's backend needs.
    """
    world = rank_and_world()[1]
    if not (distributed.is_available() and distributed.is_initialized()):
        if world == 1:
            return 0, 1
        raise RuntimeError(
            f"gather=True needs a process group of the {world} ranks. Call "
            "torch.distributed.init_process_group('gloo') before run_study, or give all ranks one folder without gather"
        )
    rank, world = distributed.get_rank(), distributed.get_world_size()
    own = json.dumps(asdict(manifest), sort_keys=True).encode()
    digests = [torch.zeros(32, dtype=torch.uint8, device=_device()) for _ in range(world)]
    distributed.all_gather(digests, _bytes(hashlib.sha256(own).digest()))
    # The settings of the first rank are sent only where they differ, so that each rank can say in what.
    if any(not torch.equal(digest, digests[0]) for digest in digests):
        first = json.loads(_broadcast(own if rank == 0 else b"", 0))
        check_settings(first["settings"], manifest.settings, "rank 0", "Give all ranks the same model and options")
        others = [i for i, digest in enumerate(digests) if not torch.equal(digest, digests[0])]
        raise ValueError(
            f"all ranks must run the same study; ranks {others} have another model, options or samples than rank 0. "
            "Give all ranks the same"
        )
    return rank, world


def gather_files(owners: Iterable[tuple[Path, int]], failed: Mapping[Path, str], rank: int) -> dict[Path, str]:
    """Send files from the ranks that have them to all others, which store them in their folders.

    Args:
        owners: Each file in the folder of this rank, and the rank that sends it, in the same order on all ranks.
        failed: Reasons why this rank has no file to send.
        rank: The rank of this process.

    Returns:
        The reasons of all ranks.
    """
    reasons: dict[Path, str] = {}
    for path, owner in owners:
        content = b""
        if rank == owner:
            content = b"+" + path.read_bytes() if path.exists() else b"-" + failed.get(path, "").encode()
        content = _broadcast(content, owner)
        if content[:1] == b"-":
            reasons[path] = content[1:].decode()
        elif not path.exists():
            with replacing(path) as file:
                file.write_bytes(content[1:])
    return reasons


def ranks_with(has: Sequence[bool], rank: int, world: int) -> list[int | None]:
    """Return for each of some things the first rank that has it; None: no rank.

    Args:
        has: Whether this rank has each.
        rank: The rank of this process.
        world: The number of ranks.
    """
    first = torch.tensor([rank if own else world for own in has], dtype=torch.int64, device=_device())
    distributed.all_reduce(first, distributed.ReduceOp.MIN)
    return [None if one == world else one for one in first.tolist()]


def _broadcast(content: bytes, source: int) -> bytes:
    """Send bytes from a rank to all."""
    size = torch.tensor([len(content)], device=_device())
    distributed.broadcast(size, source)
    sent = _bytes(content.ljust(int(size), b"\0"))
    distributed.broadcast(sent, source)
    return sent.cpu().numpy().tobytes()


def _bytes(content: bytes) -> Tensor:
    return torch.frombuffer(bytearray(content), dtype=torch.uint8).to(_device())


def _device() -> torch.device:
    """Return the device whose tensors the process group sends."""
    backend = str(distributed.get_backend())
    if "gloo" in backend or "mpi" in backend:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise RuntimeError(
            f"rank {distributed.get_rank()} has no GPU, which the process group's backend {backend!r} needs. Start as "
            "many ranks as there are GPUs, or make the group with the backend 'gloo'"
        )
    return torch.device("cuda", torch.cuda.current_device())
