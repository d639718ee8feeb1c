"""Steps of a run: each writes one file of results, and is not run again while its settings stay the same."""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.paper.settings import Size

__all__ = ["ROOT", "Store", "rounded"]

ROOT = Path(__file__).parent
_DIGITS = 5


class Store:
    """The files of a run.

    Args:
        size: Its size.
        results: The folder of results, which are kept; that of the size is in it.
        work: The folder of weights and interactions, which are large.
    """

    def __init__(self, size: Size, results: Path = ROOT / "results", work: Path = ROOT / "work") -> None:
        self.size = size
        self.results = results / size.name
        key = hashlib.sha256(json.dumps(size.key(), sort_keys=True).encode()).hexdigest()[:8]
        self.work = work / f"{size.name}-{key}"  # weights of other settings are not taken for these
        for folder in (self.results, self.work):
            folder.mkdir(parents=True, exist_ok=True)

    def step(self, name: str, make: Callable[[], Any]) -> Any:
        """Return the results of a step, from its file where there is one with the same settings."""
        known = self.read(name)
        if known is not None:
            return known
        start, processor = time.time(), time.process_time()
        data = rounded(make())
        seconds, processor = time.time() - start, time.process_time() - processor
        spent = {"seconds": round(seconds, 1), "processor_seconds": round(processor, 1)}
        content = {"settings": self.size.key(), **spent, "threads": torch.get_num_threads()}
        temporary = self.path(name).with_suffix(".part")
        temporary.write_text(json.dumps({**content, "data": data}, indent=None) + "\n", encoding="utf-8")
        os.replace(temporary, self.path(name))
        print(f"{name}: {seconds:.1f} s, {processor:.1f} s of a processor", flush=True)
        return data

    def read(self, name: str) -> Any | None:
        """Return the results of a step, or None if there are none with these settings."""
        content = self.file(name)
        return content["data"] if content and content["settings"] == self.size.key() else None

    def file(self, name: str) -> dict[str, Any] | None:
        """Return the whole file of a step: settings, seconds, threads and data."""
        path = self.path(name)
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def path(self, name: str) -> Path:
        """Return the file of a step."""
        return self.results / f"{name}.json"

    def all(self, kind: str) -> dict[str, Any]:
        """Return the results of all steps ``kind.*`` by the rest of their names."""
        names = [path.stem.removeprefix(f"{kind}.") for path in sorted(self.results.glob(f"{kind}.*.json"))]
        found = {name: self.read(f"{kind}.{name}") for name in names}
        return {name: data for name, data in found.items() if data is not None}

    def total(self, name: str = "seconds") -> float:
        """Return the time of all steps, or their ``processor_seconds``."""
        return sum(json.loads(path.read_text(encoding="utf-8"))[name] for path in self.results.glob("*.json"))


def rounded(data: Any) -> Any:
    """Return data as JSON holds them: tensors as lists, numbers of a few digits, None for NaN."""
    if isinstance(data, torch.Tensor):
        return rounded(data.tolist())
    if isinstance(data, float):
        return float(f"{data:.{_DIGITS}g}") if math.isfinite(data) else None
    if isinstance(data, dict):
        return {str(name): rounded(value) for name, value in data.items()}
    return [rounded(one) for one in data] if isinstance(data, list | tuple) else data
