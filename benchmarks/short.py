"""A study of short sentences, which share forwards, against attribute, which evaluates each by itself.

    python benchmarks/short.py [SENTENCES]

The demo's BERT, different sentences of four to eight words, all masks of each, one thread. In rounds of 200 sentences
both ways take turns. Seconds are those of the processor. The script writes short.json and short.md to
benchmarks/results.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
import warnings

import torch
from _results import machine, write

from captum_lkn import AndOrInteraction, text_players
from captum_lkn.demo import load_sentiment_bert
from captum_lkn.studies import run_study

SENTENCES, ROUND, SEED = 1000, 200, 0
PARTS = (
    ("a", "the", "this", "one", "some", "that"),
    ("not", "truly", "hardly", "very", "never", "rather", "quite", "too"),
    ("good", "bad", "dull", "moving", "funny", "weak", "clever", "empty", "fresh", "tired"),
    ("film", "plot", "cast", "scene", "story", "script", "ending", "comedy"),
    ("with", "without", "despite", "for"),
    ("charm", "heart", "jokes", "sense", "fun", "noise", "pain"),
    ("and", "or"),
    ("love", "wit", "pace", "style"),
)


def main() -> None:
    """Measure both ways in turn, and write the table."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    count = int(sys.argv[1]) if len(sys.argv) > 1 else SENTENCES
    model, tokenizer = load_sentiment_bert()
    method, forwards = AndOrInteraction(model), [0]
    samples = [text_players(tokenizer, text) for text in _texts(count)]
    method.attribute(samples[0], target=0)  # what is slow once

    def count_one(*_: object) -> None:
        forwards[0] += 1

    rows, largest = [], 0.0
    with tempfile.TemporaryDirectory() as folder:
        for number in range(0, count, ROUND):
            own, row = samples[number : number + ROUND], []
            for together in (False, True):
                handle = model.register_forward_pre_hook(count_one)
                forwards[0], start = 0, time.process_time()
                if together:
                    found = run_study(method, own, f"{folder}/{number}")
                else:
                    alone = method.attribute(own, target="predicted")
                row += [time.process_time() - start, forwards[0]]
                handle.remove()
            differences = [(a.values - b.values).abs().max() for a, b in zip(found.interactions, alone, strict=True)]
            largest = max(largest, float(max(differences)))
            rows.append(row)
            print(*row, f"{largest:.2g}", flush=True)
    totals = [sum(column) for column in zip(*rows, strict=True)]
    lines = [
        f"{machine()}",
        "",
        f"{count} sentences of four to eight words; the demo's BERT; all masks of each; see benchmarks/short.py. "
        f"Values differ by at most {largest:.1g}.",
        "",
        "| sentences | processor seconds, one by one | in a study | ratio | forwards, one by one | in a study |",
        "|---:|---:|---:|---:|---:|---:|",
        *(_line(min(ROUND, count - ROUND * number), row) for number, row in enumerate(rows)),
        _line(count, totals),
    ]
    result = {"sentences": count, "rounds": rows, "largest_difference": largest}
    write("short", "Short sentences that share forwards", result, "\n".join(lines) + "\n")


def _line(count: int, row: list[float]) -> str:
    alone, forwards, together, fewer = row
    return f"| {count} | {alone:.1f} | {together:.1f} | {alone / together:.2f} | {forwards:,.0f} | {fewer:,.0f} |"


def _texts(count: int) -> list[str]:
    draw, found = random.Random(SEED), dict[str, None]()
    while len(found) < count:
        words = draw.randint(4, len(PARTS))
        found[" ".join(draw.choice(part) for part in PARTS[:words])] = None
    return list(found)


if __name__ == "__main__":
    main()
