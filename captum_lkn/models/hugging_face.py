"""What is particular to Hugging Face models: how they are called, and what they cannot take.

A model of `transformers` is called by keyword, since positions mean something else from model to model, and without
a cache. Inputs that it has no weights for are refused before they reach it: on a GPU they would end the process.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import itertools
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from captum_lkn._common.messages import kind_of, shape_of
from captum_lkn.outputs.scores import OutputKind

__all__ = ["HuggingFace", "is_decoder", "is_hugging_face", "of_pipeline"]

_POSITION_TABLES = ("position_embeddings", "position_embedding", "embed_positions", "wpe")
_CACHES = ("past_key_values", "cache_params")
_ATTENDS_BOTH_WAYS = ("xlnet",)  # as a classifier, though its language model predicts next words


def is_hugging_face(model: Any) -> bool:
    """Whether a model has a ``config`` and a ``main_input_name``, as those of `transformers` and of `peft` do.

    Example:
        >>> is_hugging_face(nn.Linear(3, 2))
        False
    """
    return hasattr(model, "config") and isinstance(getattr(model, "main_input_name", None), str)


def of_pipeline(function: Any) -> Any:
    """The model of a pipeline of `transformers`; anything else as it is.

    Example:
        >>> of_pipeline(len) is len
        True
    """
    pipelines = sys.modules.get("transformers.pipelines.base")  # there is no pipeline without it
    return function.model if pipelines is not None and isinstance(function, pipelines.Pipeline) else function


def is_decoder(config: Any) -> bool:
    """Whether a model's tokens see only what stands before them, so that the last token has seen all.

    Args:
        config: A model's ``config``.

    Returns:
        True for GPT-2, Llama and their like, and for what has a decoder.

    Example:
        >>> from transformers import BertConfig, GPT2Config
        >>> is_decoder(GPT2Config()), is_decoder(BertConfig())
        (True, False)
    """
    if getattr(config, "is_encoder_decoder", False) or getattr(config, "is_decoder", False):
        return True
    from transformers.models.auto import modeling_auto as known

    kind = getattr(config, "model_type", "")
    return kind in known.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in known.MODEL_FOR_MASKED_LM_MAPPING_NAMES


class HuggingFace:
    """How one Hugging Face model is called.

    Args:
        model: The model, without ``DataParallel`` or ``torch.compile`` around it; possibly with an adapter of `peft`.

    Attributes:
        name: The model's class.
        model: The model inside its adapter, if it has one.
        parameters: What its forward takes.
    """

    def __init__(self, model: Any) -> None:
        self.name = type(model).__name__
        # An adapter's forward takes **kwargs: what it passes on to says which arguments there are.
        self.model = model.get_base_model() if hasattr(model, "get_base_model") else model
        self.parameters: Mapping[str, inspect.Parameter] = inspect.signature(self.model.forward).parameters

    @property
    def output_kind(self) -> OutputKind:
        """The columns of the output, by ``config.problem_type``: classes, labels by themselves, or plain values."""
        kinds: dict[Any, OutputKind] = {"multi_label_classification": "labels", "regression": "values"}
        return kinds.get(getattr(self.model.config, "problem_type", None), "classes")

    def by_keyword(self, positional: tuple[Any, ...], keywords: Mapping[str, Any]) -> dict[str, Any]:
        """All arguments of a forward by keyword, without a cache.

        Args:
            positional: The main input, and what follows it in the model's own order.
            keywords: All others.

        Returns:
            What the forward gets.

        Raises:
            TypeError: The arguments do not fit the model's forward.
        """
        keywords = dict(keywords)
        names = [name for name, p in self.parameters.items() if p.kind is p.POSITIONAL_OR_KEYWORD]
        for name in keywords.keys() - self.parameters.keys():
            close = difflib.get_close_matches(name, names, n=1, cutoff=0.85)
            if close:  # which the model's **kwargs would swallow
                raise TypeError(f"{self.name} has no argument {name!r}: did you mean {close[0]!r}?")
        if positional:
            main = self._main_input(positional[0])
            if main in keywords:
                raise TypeError(f"additional_forward_args has {main}, which the inputs are: leave it out")
            keywords[main] = positional[0]
        if len(positional) > max(1, len(names)):
            raise TypeError(
                f"{self.name} takes {len(names)} arguments by position, and would get {len(positional)}: give "
                'additional_forward_args as a mapping, such as {"attention_mask": mask}'
            )
        for name, value in zip(names[1:], positional[1:], strict=False):
            if isinstance(value, Tensor) and name in _CACHES:
                raise TypeError(
                    f"the second positional argument of {self.name} is {name}, its cache, and it would get "
                    f'{kind_of(value)}: give additional_forward_args={{"attention_mask": mask}}, by keyword'
                )
            if name in keywords:
                raise TypeError(f"{self.name} would get {name} twice, by position and by keyword: leave one out")
            keywords[name] = value
        config = self.model.config
        if "use_cache" in self.parameters and getattr(config, "use_cache", False):
            keywords.setdefault("use_cache", False)
        if getattr(config, "return_dict", True) is False:
            keywords.setdefault("return_dict", True)
        return keywords

    def _main_input(self, x: Tensor) -> str:
        embeds = x.is_floating_point() and self.model.main_input_name == "input_ids"
        return "inputs_embeds" if embeds else str(self.model.main_input_name)

    def check(self, keywords: Mapping[str, Any]) -> None:
        """Refuse what the model has no weights for.

        Args:
            keywords: What the forward gets.

        Raises:
            ValueError: Token ids beyond the vocabulary, more tokens than positions, a row whose attention mask shows
                no token, images with other channels.
        """
        ids, embeds = keywords.get("input_ids"), keywords.get("inputs_embeds")
        if isinstance(ids, Tensor) and not ids.is_floating_point() and ids.numel():
            self._check_ids(ids)
        tokens = ids if isinstance(ids, Tensor) else embeds
        if isinstance(tokens, Tensor) and tokens.dim() > 1 and keywords.get("position_ids") is None:
            self._check_length(tokens.shape[1])
        mask = keywords.get("attention_mask")
        if isinstance(mask, Tensor) and mask.dim() == 2 and not bool((mask != 0).any(1).all()):
            raise ValueError(
                "the attention mask of a masked copy shows no token, and nothing is left to read: keep one word at "
                "least as background, such as by words=, or replace absent words by a token, with baseline="
            )
        pixels = keywords.get("pixel_values")
        if isinstance(pixels, Tensor) and pixels.dim() == 4:
            self._check_channels(pixels)

    def _check_ids(self, ids: Tensor) -> None:
        size = getattr(self._embedding, "num_embeddings", None)
        if size is None:
            return
        low, high = (int(end) for end in torch.aminmax(ids))
        if low < 0 or high >= size:
            raise ValueError(
                f"input_ids runs from {low} to {high}, and {self.name} knows the {size} tokens 0 to {size - 1}: the "
                "tokenizer, or the baseline, belongs to another model. Load model and tokenizer from one checkpoint"
            )

    def _check_length(self, length: int) -> None:
        limit = self._positions
        if limit is not None and length > limit:
            raise ValueError(
                f"the input has {length} tokens, and {self.name} has {limit} positions: shorten the text, for "
                "nothing is truncated here"
            )

    def _check_channels(self, pixels: Tensor) -> None:
        config = getattr(self.model.config, "vision_config", self.model.config)
        channels = getattr(config, "num_channels", None)
        if isinstance(channels, int) and pixels.shape[1] != channels:
            raise ValueError(
                f"pixel_values is {shape_of(pixels)}, and {self.name} takes images of {channels} channels: give "
                f"[B, {channels}, height, width], as the model's image processor does"
            )

    @functools.cached_property
    def _embedding(self) -> Any:
        """The table of token embeddings, where there is one."""
        try:
            return self.model.get_input_embeddings()
        except (AttributeError, NotImplementedError):  # a model of several towers, or none of transformers' own
            return None

    @functools.cached_property
    def _positions(self) -> int | None:
        """How many tokens there are positions for: the table of positions beside that of tokens, if there is one."""
        weight = getattr(self._embedding, "weight", None)
        if weight is None or not isinstance(self.model, nn.Module):
            return None
        for parent in self.model.modules():
            if not any(getattr(child, "weight", None) is weight for child in parent.children()):
                continue
            for table in (getattr(parent, name, None) for name in _POSITION_TABLES):
                if isinstance(table, nn.Embedding):
                    # RoBERTa counts from behind the padding's index, Bart from 2.
                    first = getattr(table, "offset", 0 if table.padding_idx is None else table.padding_idx + 1)
                    return int(table.num_embeddings - first)
        return None

    def refusal(self, error: ValueError, keywords: Mapping[str, Any]) -> ValueError | None:
        """What to say of an image that the model itself refused: its size, most of the time.

        Args:
            error: What the forward raised.
            keywords: What the forward got.

        Returns:
            An error with the way out; None where the image is not the cause.
        """
        pixels = keywords.get("pixel_values")
        config = getattr(self.model.config, "vision_config", self.model.config)
        size = getattr(config, "image_size", None)
        if not isinstance(pixels, Tensor) or size is None:
            return None
        wanted = [size, size] if isinstance(size, int) else list(size)
        if list(pixels.shape[-2:]) == wanted:
            return None
        interpolate = (
            ', or give additional_forward_args={"interpolate_pos_encoding": True}'
            if "interpolate_pos_encoding" in self.parameters
            else ""
        )
        return ValueError(
            f"pixel_values is {shape_of(pixels)}, and {self.name} was made for images of {wanted}: resize them, as "
            f"the model's image processor does{interpolate} (the model says: {error})"
        )

    @contextmanager
    def reading_kept(self, keywords: Mapping[str, Any], unmasked: Mapping[str, Tensor]) -> Iterator[Mapping[str, Any]]:
        """Let a classifier of GPT-2's kind read at the same token in all masked copies.

        It reads at the last token that is not the padding token. Where that token also stands for absent words, as it
        does with tokenizers that have no mask token, the place would move with the masks. So what lies behind the place
        at which the unmasked text is read, which has no influence on it, is filled with an id that occurs nowhere else,
        and that id is the padding token inside the ``with``. Where tokens are removed by the attention mask, the place
        is the last one that is left, since the vector of a removed one tells of it. A model without a padding token
        reads at the last token.

        Args:
            keywords: What the forward gets.
            unmasked: By keyword, what is masked, as it is without a mask; a row for each of the forward's.

        Yields:
            What the forward gets instead.
        """
        if not self._reads_at_last_token():
            yield keywords
            return
        config = self.model.config
        pad, ids = config.pad_token_id, keywords.get("input_ids")
        inside = 0 if pad is None else pad  # of embeddings the last one is read, whatever the padding token is
        if isinstance(ids, Tensor):
            text = unmasked.get("input_ids", ids)
            real = torch.ones_like(text, dtype=torch.bool) if pad is None else text != pad
            if "attention_mask" in unmasked:
                real &= keywords["attention_mask"] != 0
            if pad is None or not torch.equal(ids != pad, real):
                places = torch.arange(ids.shape[1], device=ids.device)
                behind = places > (places * real).amax(1, keepdim=True)
                used = set(ids[~behind].tolist())
                inside = next(i for i in itertools.count() if i not in used)
                keywords = {**keywords, "input_ids": ids.masked_fill(behind, inside)}
        try:
            config.pad_token_id = inside
            yield keywords
        finally:
            config.pad_token_id = pad

    def _reads_at_last_token(self) -> bool:
        config = self.model.config
        return (
            type(self.model).__name__.endswith("ForSequenceClassification")
            and not getattr(config, "is_encoder_decoder", False)
            and getattr(config, "model_type", "") not in _ATTENDS_BOTH_WAYS
            and is_decoder(config)
        )
