"""Make the demo's sentiment adapter and its card: `python scripts/make_demo_model.py`, minutes on a CPU.

Fetches some ten thousand movie sentences that people rated, trains low-rank updates of MiniLM and a head on
them, and writes what training changed, in float16, beside a card of what was measured. Accuracy is that of
the written file, read back by the function with which users load it.
"""

from __future__ import annotations

import hashlib
import io
import math
import random
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import torch
import transformers
import typer
from torch import Tensor, nn
from tqdm.auto import tqdm

from captum_lkn.demo import text as demo
from captum_lkn.demo.text import SentimentAdapter

SENTENCES = "vaderSentiment==3.3.2"
INNER_ARCHIVE = "additional_resources/hutto_ICWSM_2014.tar.gz"
INNER_FILE = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"
# The sentences are in the source distribution only.
DOWNLOAD = ["pip", "download", "--no-deps", "--no-binary", ":all:", SENTENCES]

RANK, BATCH, RATE, WARM_UP, MAX_LENGTH, SEED = 8, 32, 2e-3, 0.1, 64, 0
RECIPE = {"rank": RANK, "batch": BATCH, "rate": RATE, "warm_up": WARM_UP, "max_length": MAX_LENGTH}
ADAPTED = ("attention.self.query", "attention.self.value", "intermediate.dense", "output.dense")
# Sentences for the card, written for it; none is from the data set.
SAMPLES = (
    "a wonderful and moving film",
    "not a single good scene",
    "not bad at all .",
    "you will not be bored",
    "it never fails to surprise",
    "it fails to surprise",
    "the plot is thin but the cast is a joy",
    "the cast is a joy but the plot is thin",
    "it knocks your socks off",
    "hardly a masterpiece",
)
CARD = """# sentiment_minilm: the demo's sentiment adapter

Turns {base} (BERT, 6 blocks of 384) into a classifier of English movie sentences,
negative (0) or positive (1), and holds only what training changed: `captum_lkn.demo.load_sentiment_bert()`.

| | |
|---|---|
| accuracy on {sentences[test]:,} held-out sentences | {accuracy[test]:.1%}, 95% interval ± {margin:.1%} |
| accuracy on {sentences[validation]:,} validation sentences | {accuracy[validation]:.1%} |
| size | {size:.2f} MB, float16 |
| SHA-256 of the file | `{sha256}` |

The accuracies are those of this file, read back and merged into the base model as users load it.

## How it was made

Updates of rank {recipe[rank]} of the query, value and both feed-forward matrices of all blocks, and a new
head on the pooled [CLS] token; embeddings, pooler and all else are the base model's. One epoch of
{sentences[train]:,} sentences, AdamW, learning rate {recipe[rate]:g} with {recipe[warm_up]:.0%} warm-up and
linear decay, batches of {recipe[batch]}, at most {recipe[max_length]} tokens, seed {recipe[seed]}. It took
{seconds} s on {threads} CPU thread(s), with {made_with}. To make it again:

    {install}
    python scripts/make_demo_model.py

On another processor or with other versions the last digits, and so a few answers, may differ.

## From what

* Base model: {base}, Apache-2.0.
* Sentences: `{inner_file}` (Hutto and Gilbert, 2014) in the source
  distribution of {data} (MIT), from movie reviews, rated by people from -4 to 4. Those within 0.5 of
  neutral and repetitions are dropped, and a positive rating is label 1. None of them is in this repository.

## Good for, and not

It is an object of study: small, quick on a CPU, and able to turn a word's meaning by its neighbours, which is
what interactions show. It is no product: single sentences of English movie reviews are all it was trained on,
it knows no neutral, {wrong:.0%} of its answers are wrong, and it has the prejudices of its base model and of
its raters. Idioms and some negations mislead it. Do not judge people, or texts of other kinds, with it.

Its answers to sentences that were written for this card:

| sentence | probability of positive |
|---|---|
{samples}
"""

Examples = list[tuple[str, int]]  # sentences and their labels


class LowRankUpdate(nn.Module):
    """Frozen linear layer plus `x @ A.T @ B.T`, whose factors are trained from an update of 0."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer
        self.A = nn.Parameter(torch.randn(RANK, layer.in_features) / layer.in_features**0.5)
        self.B = nn.Parameter(torch.zeros(layer.out_features, RANK))

    def forward(self, x: Tensor) -> Tensor:
        """Return the updated layer's output, without forming the updated weight."""
        return torch.add(self.layer(x), x @ self.A.T @ self.B.T)


def read_member(archive: bytes, suffix: str) -> bytes:
    """Return the content of the file in a tar archive whose path has this suffix."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        member = next((member for member in tar if member.isfile() and member.name.endswith(suffix)), None)
        stream = tar.extractfile(member) if member else None
        if stream is None:
            raise ValueError(f"the archive has no {suffix!r}. Give the source distribution of {SENTENCES}")
        return stream.read()


def read_sentences(sdist: Path | None) -> dict[str, Examples]:
    """Read the sentences from a source distribution, downloaded if None is given; shuffle and split them."""
    with tempfile.TemporaryDirectory() as folder:
        if sdist is None:
            subprocess.run([sys.executable, "-m", *DOWNLOAD, "--dest", folder], check=True)
            sdist = next(Path(folder).glob("*.tar.gz"))
        text = read_member(read_member(sdist.read_bytes(), INNER_ARCHIVE), INNER_FILE).decode("utf-8")
    labels: dict[str, int] = {}
    for line in text.splitlines():
        _, rating, sentence = line.split("\t", 2)
        if abs(float(rating)) > 0.5:
            labels.setdefault(sentence.strip(), int(float(rating) > 0))
    examples = list(labels.items())
    random.Random(SEED).shuffle(examples)  # the file is sorted by label
    return {"test": examples[:1000], "validation": examples[1000:1500], "train": examples[1500:]}


def draw_batches(examples: Examples) -> list[Examples]:
    """Draw an epoch's batches of sentences with similar lengths; otherwise half of the tokens would be padding."""
    shuffled = [examples[i] for i in torch.randperm(len(examples)).tolist()]
    pools = (shuffled[i : i + 32 * BATCH] for i in range(0, len(shuffled), 32 * BATCH))
    ordered = (sorted(pool, key=lambda example: len(example[0])) for pool in pools)
    batches = [pool[i : i + BATCH] for pool in ordered for i in range(0, len(pool), BATCH)]
    return [batches[i] for i in torch.randperm(len(batches)).tolist()]


def encode(tokenizer: Any, sentences: list[str]) -> Any:
    """Tokenise sentences into one padded batch."""
    return tokenizer(sentences, padding=True, truncation=True, max_length=MAX_LENGTH, return_tensors="pt")


def train(examples: Examples) -> dict[str, Tensor]:
    """Train the adapter, and return its tensors in float16, named as `SentimentAdapter` expects."""
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True)
    model, tokenizer = demo.load_base_bert()
    model.requires_grad_(False)
    model.classifier.requires_grad_(True)
    for block in model.bert.encoder.layer:
        for name in ADAPTED:
            block.set_submodule(name, LowRankUpdate(block.get_submodule(name)))
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=RATE)
    steps = math.ceil(len(examples) / BATCH)
    warm_up = round(WARM_UP * steps)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm_up, (steps - step) / (steps - warm_up))
    )
    model.train()
    for batch in tqdm(draw_batches(examples), desc="training"):
        sentences, labels = zip(*batch, strict=True)
        optimizer.zero_grad()
        model(**encode(tokenizer, list(sentences)), labels=torch.tensor(labels)).loss.backward()
        optimizer.step()
        schedule.step()
    tensors = {f"classifier.{name}": value for name, value in model.classifier.named_parameters()}
    for name, module in model.named_modules():
        if isinstance(module, LowRankUpdate):
            tensors |= {f"{name}.weight.A": module.A, f"{name}.weight.B": module.B}
    return {name: tensor.detach().half() for name, tensor in tensors.items()}


@torch.no_grad()
def answer(path: Path, sentences: list[str]) -> list[float]:
    """Return the probability of positive for each sentence, by the adapter in a file."""
    model, tokenizer = demo.load_sentiment_bert(path)
    parts = [sentences[i : i + BATCH] for i in range(0, len(sentences), BATCH)]
    return [p for part in parts for p in model(**encode(tokenizer, part)).logits.softmax(-1)[:, 1].tolist()]


def accuracy(path: Path, examples: Examples) -> float:
    """Return the accuracy of the adapter in a file."""
    found = answer(path, [sentence for sentence, _ in examples])
    return sum((p > 0.5) == label for p, (_, label) in zip(found, examples, strict=True)) / len(examples)


def write_card(path: Path) -> str:
    """Write the card of the adapter in a file beside it, from the facts in the file and its answers.

    Returns:
        The card.
    """
    facts = SentimentAdapter.load(path).facts
    wrong = 1 - facts["accuracy"]["test"]
    answers = zip(SAMPLES, answer(path, [*SAMPLES]), strict=True)
    text = CARD.format(
        **facts,
        wrong=wrong,
        margin=1.96 * math.sqrt(wrong * (1 - wrong) / facts["sentences"]["test"]),
        size=path.stat().st_size / 1e6,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        install=demo.BASE_INSTALL,
        inner_file=INNER_FILE,
        samples="\n".join(f"| {sentence} | {p:.2f} |" for sentence, p in answers),
    )
    path.with_suffix(".md").write_text(text, encoding="utf-8")
    return text


def main(
    data: Annotated[Path | None, typer.Option(help=f"The sdist of {SENTENCES}, else downloaded.")] = None,
    output: Annotated[Path, typer.Option(help="The file; its card goes beside it.")] = demo.ADAPTER_PATH,
    threads: Annotated[int, typer.Option(help="CPU threads; their number changes the last digits.")] = 1,
) -> None:
    """Make the demo's sentiment adapter and its card."""
    torch.set_num_threads(threads)
    split = read_sentences(data)
    started = time.perf_counter()
    tensors = train(split["train"])
    facts: dict[str, Any] = {
        "base": demo.BASE_HUB_ID,
        "labels": list(demo.LABELS.values()),
        "data": SENTENCES,
        "sentences": {name: len(part) for name, part in split.items()},
        "recipe": RECIPE | {"seed": SEED, "adapted": ADAPTED},
        "threads": threads,
        "seconds": round(time.perf_counter() - started),
        "made_with": f"torch {torch.__version__}, transformers {transformers.__version__}",
    }
    adapter = SentimentAdapter(tensors, facts)
    adapter.save(output)
    facts["accuracy"] = {part: accuracy(output, split[part]) for part in ("test", "validation")}
    adapter.save(output)  # the same tensors, now with what was measured on them
    typer.echo(write_card(output))


if __name__ == "__main__":
    typer.run(main)
