"""Files of the benchmarks: JSON and Markdown, with the machine named."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any

import torch

__all__ = ["RESULTS", "machine", "write"]

RESULTS = Path(__file__).parent / "results"


def machine() -> str:
    """Name the processor, its cores and the versions."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    processor = names[0] if names else platform.processor() or platform.machine()
    return f"{processor}, {os.cpu_count()} cores; torch {torch.__version__}, Python {platform.python_version()}"


def write(name: str, title: str, result: dict[str, Any], text: str, folder: Path = RESULTS) -> None:
    """Write ``name.json``, which names the machine, and ``name.md``, with the title that the site needs to link it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps({"machine": machine(), **result}), encoding="utf-8")
    (folder / f"{name}.md").write_text(f"# {title}\n\n{text}", encoding="utf-8")
    print(f"wrote {folder / name}.json and {name}.md")
