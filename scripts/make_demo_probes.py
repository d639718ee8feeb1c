"""Make the probes of the demo's sentiment BERT and their card: `python scripts/make_demo_probes.py`, minutes on a CPU.

The probes are fitted to the training sentences of the adapter, and scored on its test sentences.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import torch
import transformers
import typer
from make_demo_model import BATCH, SENTENCES, Examples, encode, read_sentences

from captum_lkn import LinearProbes
from captum_lkn.demo import text as demo
from captum_lkn.models.arguments import Arguments
from captum_lkn.models.layers import find_layers
from captum_lkn.models.model import Model
from captum_lkn.models.reading import LayerReader

SEED = 0
CARD = """# sentiment_minilm_probes: linear probes of the demo's sentiment BERT

One linear classifier a block of the model that `captum_lkn.demo.load_sentiment_bert()` loads, on the [CLS] token
that the block puts out: what it alone could tell of a sentence's sentiment. `captum_lkn.demo.load_sentiment_probes()`.

| layer | penalty | accuracy, fitted | accuracy, held out to choose the penalty | accuracy, {test:,} test sentences |
|---|---|---|---|---|
{rows}
| the model itself | | | | {output:.1%} |

The test sentences were seen by neither the model nor the probes. The model was trained on the others, so that on those
accuracies are higher.

## How they were made

`LinearProbes.fit` on the {train:,} sentences (of {data}) that the adapter was trained on, padded batches of
{batch}, seed {seed}: multinomial logistic regression with an L2 penalty, chosen on a fifth of the sentences. It took
{seconds:.0f} s on {threads} CPU thread(s), with {made_with}. To make them again:
`python scripts/make_demo_probes.py`.

They belong to these weights alone: the file holds a fingerprint of the model, and another checkpoint is refused. Size
{size:.3f} MB, SHA-256 `{sha256}`.
None of the sentences is in this repository. What the model is good for, and what not, is on
[its card](sentiment_minilm.md).
"""


def batches(tokenizer: Any, examples: Examples) -> Iterator[Any]:
    """Yield labelled batches of sentences with similar lengths; otherwise half of the tokens would be padding."""
    ordered = sorted(examples, key=lambda example: len(example[0]))
    for start in range(0, len(ordered), BATCH):
        sentences, labels = zip(*ordered[start : start + BATCH], strict=True)
        yield encode(tokenizer, list(sentences)) | {"labels": torch.tensor(labels)}


def score(probes: LinearProbes, batched: Iterator[Any], classifier: Any) -> dict[str, float]:
    """Return the accuracy of each probe, and of the model's own output."""
    model, hits, count = Model(classifier), dict.fromkeys([*probes, "output"], 0), 0
    with model.session(), LayerReader(model, find_layers(model, list(probes))) as reader:
        for batch in batched:
            labels = batch.pop("labels")
            inputs = Arguments((batch.pop("input_ids"),), ("input_ids",), (), batch)
            output, features = reader(inputs)
            answers = [probes[label].predict(feature) for label, feature in zip(probes, features, strict=True)]
            for label, answer in zip(hits, [*answers, output.argmax(1)], strict=True):
                hits[label] += int((answer == labels).sum())
            count += len(labels)
    return {label: found / count for label, found in hits.items()}


def main(
    data: Annotated[Path | None, typer.Option(help=f"The sdist of {SENTENCES}, else downloaded.")] = None,
    output: Annotated[Path, typer.Option(help="The file; its card goes beside it.")] = demo.PROBES_PATH,
    threads: Annotated[int, typer.Option(help="CPU threads; their number changes the last digits.")] = 1,
) -> None:
    """Make the demo's probes and their card."""
    torch.set_num_threads(threads)
    split = read_sentences(data)
    model, tokenizer = demo.load_sentiment_bert()
    started = time.perf_counter()
    probes = LinearProbes.fit(
        model, demo.LAYERS, list(batches(tokenizer, split["train"])), seed=SEED, show_progress=True
    )
    seconds = time.perf_counter() - started
    probes.save(output)
    found = score(LinearProbes.load(output), batches(tokenizer, split["test"]), model)
    rows = [
        f"| `{label}` | {probe.penalty:.3g} | {probe.accuracy.train:.1%} | {probe.accuracy.held_out:.1%} "
        f"| {found[label]:.1%} |"
        for label, probe in probes.items()
    ]
    card = CARD.format(
        rows="\n".join(rows),
        output=found["output"],
        test=len(split["test"]),
        train=len(split["train"]),
        data=SENTENCES,
        batch=BATCH,
        seed=SEED,
        seconds=seconds,
        threads=threads,
        made_with=f"torch {torch.__version__}, transformers {transformers.__version__}",
        size=output.stat().st_size / 1e6,
        sha256=hashlib.sha256(output.read_bytes()).hexdigest(),
    )
    output.with_suffix(".md").write_text(card, encoding="utf-8")
    typer.echo(card)


if __name__ == "__main__":
    typer.run(main)
