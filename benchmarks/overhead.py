"""An analysis of the demo's BERT, 6 layers and the output, against its bare forwards.

    python benchmarks/overhead.py

The bare forwards are those of the analysis: the inputs that the network got are kept, and given to it again, without
hooks, read-outs, scores and checks. Each of ROUNDS rounds runs the bare forwards, the analysis, and the decomposition
of its tables, one behind the other; ratios are the medians of the rounds. Sentences of eight and ten words, with all
256 and 1,024 masks, one at a time and four together. The script writes overhead.json and overhead.md to
benchmarks/results.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from _results import machine, write
from torch import nn

from captum_lkn import LayerwiseKnowledge, Players, decompose, text_players
from captum_lkn.demo import LAYERS, load_sentiment_bert, load_sentiment_probes

ROUNDS = 5
SENTENCES = {
    8: (
        "the acting was good but hardly very moving",
        "a film that never tries to be clever",
        "not one scene in it feels quite true",
        "the jokes are old and the plot thin",
    ),
    10: (
        "the story is not new but the cast is excellent",
        "a slow start that turns into a rather good film",
        "never have so many good ideas led to so little",
        "too long by half and yet it does not bore",
    ),
}


def main() -> None:
    """Measure each number of words and of sentences, and write the table."""
    torch.set_num_threads(1)
    model, tokenizer = load_sentiment_bert()
    analyzer = LayerwiseKnowledge(model, LAYERS, probes=load_sentiment_probes())
    rows = []
    for words, sentences in SENTENCES.items():
        for count in (1, len(sentences)):
            players = text_players(tokenizer, list(sentences[:count]))
            rows.append({"words": words, "sentences": count, **measured(model, analyzer, players)})
            print(rows[-1], flush=True)
    write("overhead", "Cost of an analysis, over that of its forwards", {"rows": rows}, page(rows))


def measured(model: nn.Module, analyzer: LayerwiseKnowledge, players: Players) -> dict[str, float]:
    """Return milliseconds of the bare forwards, and what the values and the whole analysis take, as multiples."""
    inputs = inputs_of_forwards(model, lambda: analyzer.analyze(players, target="predicted"))
    change = analyzer.analyze(players, target="predicted")
    tables = torch.stack([one.values for batch in change.interactions.values() for one in batch])

    @torch.no_grad()
    def bare() -> None:
        for arguments, named in inputs:
            model(*arguments, **named)

    rounds = [
        (
            processor_seconds(bare),
            processor_seconds(lambda: analyzer.analyze(players, target="predicted")),
            processor_seconds(lambda: decompose(tables)),
        )
        for _ in range(ROUNDS)
    ]
    return {
        "bare_ms": 1e3 * statistics.median(forwards for forwards, _, _ in rounds),
        "values": statistics.median((whole - solver) / forwards for forwards, whole, solver in rounds),
        "whole": statistics.median(whole / forwards for forwards, whole, _ in rounds),
    }


def inputs_of_forwards(model: nn.Module, run: Callable[[], object]) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """Run something, and return what the network was given, forward by forward."""
    kept: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    hook = model.register_forward_pre_hook(lambda _, args, kwargs: kept.append((args, dict(kwargs))), with_kwargs=True)
    try:
        run()
    finally:
        hook.remove()
    return kept


def processor_seconds(run: Callable[[], object]) -> float:
    """Return the processor time of one run, which other programs on the machine change less than the clock's."""
    begin = time.process_time()
    run()
    return time.process_time() - begin


def page(rows: list[dict[str, Any]]) -> str:
    """Make the text of the page."""
    lines = [
        f"Machine: {machine()}; one thread, processor times, medians of {ROUNDS} rounds.",
        "",
        "The demo's BERT (MiniLM, 6 layers of 384), its 6 probes and the output, all masks. The bare forwards are the",
        "analysis's own, given to the network again without hooks, read-outs, scores and checks. Values: all but the",
        "decomposition. Made by `python benchmarks/overhead.py`.",
        "",
        "| words | sentences | masks | bare forwards, ms | values | whole |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {row['words']} | {row['sentences']} | {row['sentences'] << row['words']:,} | {row['bare_ms']:.0f} "
        f"| {row['values']:.2f} x | {row['whole']:.2f} x |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
