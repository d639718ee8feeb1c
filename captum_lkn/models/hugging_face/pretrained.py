"""Loading Hugging Face models without noise on the terminal."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["load_classifier", "load_image_classifier", "quiet_transformers"]


def load_classifier(source: str | os.PathLike[str]) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a sequence classifier and its tokenizer, from a folder or from the hub.

    Args:
        source: The folder, or the model's name on the hub.

    Returns:
        The model, in eval mode, and its tokenizer.

    Raises:
        OSError: There is no such folder, and no such model on the hub.
        ValueError: The checkpoint has no head that classifies sequences.
    """
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    return _load(AutoModelForSequenceClassification, AutoTokenizer, source, "sequences")


def load_image_classifier(source: str | os.PathLike[str]) -> tuple[PreTrainedModel, Any]:
    """Load a Hugging Face image classifier and its image processor, from a folder or from the hub.

    Args:
        source: The folder, or the model's name on the hub.

    Returns:
        The model, in eval mode, and the processor. torchvision is not needed.

    Raises:
        OSError: There is no such folder, and no such model on the hub.
        ValueError: The checkpoint has no head that classifies images.
    """
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    return _load(AutoModelForImageClassification, AutoImageProcessor, source, "images")


def _load(model_class: Any, processor_class: Any, source: str | os.PathLike[str], what: str) -> tuple[Any, Any]:
    name = os.fspath(source)
    _check_folder(name)
    with quiet_transformers(), torch.random.fork_rng(devices=[]):  # a head that is lacking is drawn at random
        try:
            model, report = model_class.from_pretrained(source, output_loading_info=True)
            processor = processor_class.from_pretrained(source)
        except OSError as error:
            raise OSError(f"{name!r} cannot be loaded: {_first_line(error)}") from error
        except ValueError as error:  # the message of transformers lists all models that fit, over forty lines
            said = _first_line(error)
            known = "" if "configuration class" in said else f" ({said})"
            raise ValueError(f"{name!r} {_content(source, what)}{known}") from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise ValueError(
            f"{name!r} has no trained classification head: its checkpoint lacks {', '.join(missing[:3])}. "
            f"Give a model that was fine-tuned to classify {what}"
        )
    return model.eval(), processor


def _check_folder(name: str) -> None:
    """Check that a folder exists, if the name must be one: a name on the hub has one slash, between two words."""
    if not Path(name).is_dir() and (name.startswith((".", "/", "~")) or "\\" in name or name.count("/") > 1):
        raise FileNotFoundError(f"there is no folder {name!r} of a model")


def _content(source: str | os.PathLike[str], what: str) -> str:
    """Return the reason why a checkpoint cannot be loaded, as a part of a sentence."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(source)
    except (OSError, ValueError) as error:
        return f"has no configuration of a model: {_first_line(error)}"
    content = " or ".join(config.architectures or [config.model_type])
    return f"has a {content}, which cannot be loaded to classify {what}"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep logs, warnings and bars of transformers and its hub client off the terminal, then restore them."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
    from transformers.utils import logging as transformers_logging

    loggers = [logging.getLogger(name) for name in ("transformers", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    loading_bars = transformers_logging.is_progress_bar_enabled()
    hub_bars = not are_progress_bars_disabled()

    def restore() -> None:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if loading_bars:
            transformers_logging.enable_progress_bar()
        # the switch of transformers turns the hub's as well, which may have stood otherwise
        (enable_progress_bars if hub_bars else disable_progress_bars)()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            try:
                for logger in loggers:
                    logger.setLevel(logging.ERROR)
                transformers_logging.disable_progress_bar()
                yield
            finally:
                restore()
        finally:
            restore()  # again, for an interrupt in the first
