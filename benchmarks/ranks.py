"""A study of 200 sentences on two ranks against one, of one thread each, as torchrun starts them.

    python benchmarks/ranks.py [FOLDER]

The demo's BERT, sentences of six words, all 64 masks of each, one folder for all ranks. The study is run by one rank,
by two, and again, alternately. Seconds are those from a barrier behind the loading of the model to the last rank's end;
processor seconds are those of the rank that worked longest, which other programs on the machine change less. The
folders must hold the same bytes. The studies, and a page about them, stay in FOLDER, if it is given, and runs that are
there are not made again. The script writes ranks.json and ranks.md to benchmarks/results.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from _results import machine, write
from torch import distributed

from captum_lkn import AndOrInteraction, text_players
from captum_lkn.demo import load_sentiment_bert
from captum_lkn.studies import load_study, run_study

SENTENCES, ROUNDS, SEED = 200, 2, 0
PARTS = (
    ("a", "the", "this", "one", "some"),
    ("not", "truly", "hardly", "very", "never", "rather", "quite", "too"),
    ("good", "bad", "dull", "moving", "funny", "weak", "clever", "empty", "fresh", "tired"),
    ("film", "plot", "cast", "scene", "story", "script", "ending"),
    ("with", "without", "despite", "for"),
    ("charm", "heart", "jokes", "sense", "fun", "noise", "pain"),
)


def main() -> None:
    """Measure, compare the folders, and write the table."""
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(temporary)
        rows: dict[int, list[list[float]]] = {1: [], 2: []}
        contents = []
        for number in range(ROUNDS):
            for ranks in rows:
                folder = base / f"round {number}, {ranks} ranks"
                rows[ranks].append(_launch(ranks, folder))
                contents.append(_bytes_of(folder))
                print(ranks, *(f"{seconds:.1f}" for seconds in rows[ranks][-1]), flush=True)
        same = all(content == contents[0] for content in contents)
        load_study(folder).interactions.report(base / "study.html")
    lines = [
        f"{machine()}",
        "",
        f"{SENTENCES} sentences of {len(PARTS)} words; the demo's BERT; all 64 masks of each; see benchmarks/ranks.py. "
        f"The folders have {'the same' if same else 'DIFFERENT'} bytes.",
        "",
        "| round | seconds, 1 rank | 2 ranks | ratio | processor seconds, 1 rank | 2 ranks, the longer | ratio |",
        "|---:|---:|---:|---:|---:|---:|---:|",
        *(
            "| " + " | ".join([str(number + 1), *_row(one, two)]) + " |"
            for number, (one, two) in enumerate(zip(rows[1], rows[2], strict=True))
        ),
    ]
    result = {"sentences": SENTENCES, "same_bytes": same, "seconds": rows}
    write("ranks", "A study on two ranks", result, "\n".join(lines) + "\n")


def _row(one: list[float], two: list[float]) -> list[str]:
    return [text for a, b in zip(one, two, strict=True) for text in (f"{a:.1f}", f"{b:.1f}", f"{a / b:.2f}")]


def _launch(ranks: int, folder: Path) -> list[float]:
    """Return the seconds of a study, and the processor seconds of the rank that worked longest."""
    result = folder.with_name(folder.name + ".json")
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={ranks}", "--master-port=29517"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if not result.exists():
        subprocess.run([*command, __file__, "--rank", str(folder)], env=environment, check=True)
    found: list[float] = json.loads(result.read_text())
    return found


def _work(folder: Path) -> None:
    """Run the study as one of the ranks."""
    torch.set_num_threads(1)
    model, tokenizer = load_sentiment_bert()
    draw = random.Random(SEED)
    texts = [" ".join(draw.choice(part) for part in PARTS) for _ in range(SENTENCES)]
    samples = [text_players(tokenizer, text) for text in texts]
    method = AndOrInteraction(model)
    method.attribute(samples[0], target=0)  # what is slow once
    distributed.init_process_group("gloo")
    distributed.barrier()
    start, processor = time.perf_counter(), time.process_time()
    run_study(method, samples, folder)
    taken = torch.tensor([time.perf_counter() - start, time.process_time() - processor])
    distributed.all_reduce(taken, distributed.ReduceOp.MAX)
    if distributed.get_rank() == 0:
        folder.with_name(folder.name + ".json").write_text(json.dumps(taken.tolist()))
    distributed.destroy_process_group()


def _bytes_of(folder: Path) -> dict[str, Any]:
    return {str(each.relative_to(folder)): each.read_bytes() for each in sorted(folder.rglob("*")) if each.is_file()}


if __name__ == "__main__":
    _work(Path(sys.argv[2])) if "--rank" in sys.argv else main()
