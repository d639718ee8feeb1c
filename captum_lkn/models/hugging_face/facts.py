"""Facts about a Hugging Face model that its class and its configuration state.

Everything else in this library that needs such a fact asks here. Each function takes the model without
``DataParallel`` or ``torch.compile`` around it; an adapter of `peft` may be left on.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Container, Mapping
from typing import Any, Final

from torch import Tensor, nn

from captum_lkn._common.checks import is_whole
from captum_lkn.models.wrappers import without_adapter
from captum_lkn.outputs.score import OutputKind

__all__ = [
    "adds_virtual_tokens",
    "attention_implementation",
    "cache_argument",
    "class_names",
    "closing_tokens",
    "computed_settings",
    "first_position",
    "has_configuration",
    "has_linear_biases",
    "head_sizes",
    "image_shape",
    "is_decoder",
    "is_encoder_decoder",
    "is_hugging_face",
    "model_of_pipeline",
    "number_of_channels",
    "number_of_positions",
    "number_of_token_types",
    "output_kind",
    "padding_token",
    "parameters_of",
    "patch_size",
    "position_ids_of",
    "settings_of",
    "special_tokens",
    "takes_token_ids",
    "token_embedding",
    "unusual_caches",
    "vocabulary_size",
]

_CACHES: Final = ("cache", "past_key_values", "cache_params")  # since transformers 5.24 all are called cache
_ORIGINS: Final = ("_name_or_path", "transformers_version", "torch_dtype", "dtype")

_POSITION_TABLES: Final = ("position_embeddings", "position_embedding", "embed_positions", "wpe")
_OUTPUT_KINDS: Final[Mapping[Any, OutputKind]] = {"multi_label_classification": "labels", "regression": "values"}


def is_hugging_face(model: Any) -> bool:
    """Return whether a model has a ``config`` and a ``main_input_name``, as those of `transformers` and `peft` have.

    Example:
        >>> is_hugging_face(nn.Linear(3, 2))
        False
    """
    return has_configuration(model) and isinstance(getattr(model, "main_input_name", None), str)


def has_configuration(model: Any) -> bool:
    """Return whether a model has a ``config``, whose facts this module reads.

    Example:
        >>> has_configuration(nn.Linear(3, 2))
        False
    """
    return hasattr(model, "config")


def adds_virtual_tokens(model: Any) -> bool:
    """Return whether an adapter of `peft` puts tokens or keys of its own before a text: prompt and prefix tuning."""
    return bool(getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False))


def model_of_pipeline(function: Any) -> Any:
    """Return the model of a pipeline of `transformers`; anything else as it is.

    Example:
        >>> model_of_pipeline(len) is len
        True
    """
    pipelines = sys.modules.get("transformers.pipelines.base")  # without it no pipeline can exist
    return function.model if pipelines is not None and isinstance(function, pipelines.Pipeline) else function


def parameters_of(model: Any) -> Mapping[str, inspect.Parameter]:
    """Return the parameters of a model's forward; an adapter passes its own on, so those of the model inside count."""
    return inspect.signature(without_adapter(model).forward).parameters


def takes_token_ids(model: Any) -> bool:
    """Return whether a model's main input is token ids."""
    return getattr(model, "main_input_name", "") == "input_ids"


def is_encoder_decoder(model: Any) -> bool:
    """Return whether a model has an encoder and a decoder, as T5 and BART have."""
    return bool(getattr(getattr(model, "config", None), "is_encoder_decoder", False))


def is_decoder(model: Any) -> bool:
    """Return whether each token of a model sees only the tokens before it, so that the last token has seen all.

    True for GPT-2, Llama and the like, and for every model with a decoder.

    Example:
        >>> from transformers import BertConfig, BertModel
        >>> is_decoder(BertModel(BertConfig(hidden_size=4, num_attention_heads=1, num_hidden_layers=1)))
        False
    """
    config = model.config
    if getattr(config, "is_encoder_decoder", False) or getattr(config, "is_decoder", False):
        return True
    from transformers.models.auto import modeling_auto as known

    kind = getattr(config, "model_type", "")
    return kind in known.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in known.MODEL_FOR_MASKED_LM_MAPPING_NAMES


def output_kind(model: Any) -> OutputKind:
    """Return the kind of the output's columns, by ``config.problem_type``: classes, labels or plain values."""
    return _OUTPUT_KINDS.get(getattr(model.config, "problem_type", None), "classes")


def class_names(model: Any) -> dict[int, str]:
    """Return the names of the output's columns, by their numbers; empty where the model has none."""
    names = getattr(getattr(model, "config", None), "id2label", None) or {}
    return {int(column): str(name) for column, name in names.items()}


def head_sizes(model: Any) -> tuple[int, ...]:
    """Return the numbers of columns that heads of a model have: of its classes, and of its vocabulary."""
    config = getattr(model, "config", None)
    sizes: list[Any] = [getattr(config, name, None) for name in ("num_labels", "vocab_size")]
    return tuple(int(size) for size in sizes if is_whole(size))


def padding_token(model: Any) -> int | None:
    """Return the id of the padding token; None where the model has none."""
    token = getattr(getattr(model, "config", None), "pad_token_id", None)
    return None if token is None else int(token)


def closing_tokens(model: Any) -> set[int]:
    """Return the ids of the end tokens; empty where the model has none."""
    config: Any = getattr(model, "config", None)
    config = config.get_text_config() if hasattr(config, "get_text_config") else config  # of several towers
    end = getattr(config, "eos_token_id", None)
    return {int(token) for token in (end if isinstance(end, (list, tuple)) else [end]) if token is not None}


def settings_of(model: Any) -> str:
    """Return the configuration of a model as text; that of None where it has none."""
    return repr(getattr(model, "config", None))


def computed_settings(model: Any) -> dict[str, Any]:
    """Return the entries of a configuration that say what a model computes, not where it came from."""
    config: Any = getattr(model, "config", None)
    settings = config.to_dict() if callable(getattr(config, "to_dict", None)) else {}
    return {key: value for key, value in settings.items() if key not in _ORIGINS}


def special_tokens(model: Any) -> set[int]:
    """Return the ids of the tokens with which a text begins or ends; empty where the model has none."""
    config: Any = getattr(model, "config", None)
    named: list[Any] = [getattr(config, f"{name}_token_id", None) for name in ("bos", "cls", "sep")]
    return closing_tokens(model) | {int(token) for token in named if is_whole(token)}


def image_shape(model: Any) -> tuple[int, int, int] | None:
    """Return channels, height and width of the images that a vision model was made for; None where it has no size."""
    config = getattr(model, "config", None)
    config = config if hasattr(config, "image_size") else getattr(config, "vision_config", None)
    size: Any = getattr(config, "image_size", None)
    channels: Any = getattr(config, "num_channels", None)
    if not is_whole(channels) or not (is_whole(size) or (isinstance(size, (tuple, list)) and len(size) == 2)):
        return None
    height, width = (size, size) if is_whole(size) else size
    return int(channels), int(height), int(width)


def number_of_channels(model: Any) -> int | None:
    """Return the number of channels of the images that a vision model takes; None where it states none."""
    config = getattr(model, "config", None)
    for part in (getattr(config, "vision_config", None), config):
        channels: Any = getattr(part, "num_channels", None)
        if is_whole(channels):
            return int(channels)
    return None


def patch_size(model: Any) -> tuple[int, int] | None:
    """Return the height and width of the patches that a vision model cuts images into; None where it has none."""
    config = getattr(model, "config", None)
    for part in (config, getattr(config, "vision_config", None)):
        size: Any = getattr(part, "patch_size", None)
        if is_whole(size):
            return int(size), int(size)
        if isinstance(size, (tuple, list)) and len(size) == 2:
            return int(size[0]), int(size[1])
    return None


def vocabulary_size(model: Any) -> int:
    """Return the number of tokens of a language model."""
    config = model.config.get_text_config()
    size = getattr(config, "vocab_size", None)
    if size is None:  # CANINE hashes characters
        raise ValueError(f"{type(model).__name__} has no vocabulary: its configuration has no vocab_size")
    return int(size)


def attention_implementation(model: Any) -> str | None:
    """Return the name of the implementation of attention, such as ``"sdpa"``; None where the model states none."""
    name = getattr(getattr(model, "config", None), "_attn_implementation", None)
    return None if name is None else str(name)


def has_linear_biases(model: Any) -> bool:
    """Return whether positions enter as linear biases of the attention (ALiBi), which follow the attention mask."""
    return bool(getattr(getattr(model, "config", None), "alibi", False))


def cache_argument(parameters: Container[str]) -> str | None:
    """Return the name of the argument of a forward that takes a cache; None where there is none.

    Example:
        >>> cache_argument(["input_ids", "past_key_values"]), cache_argument(["pixel_values"])
        ('past_key_values', None)
    """
    return next((name for name in _CACHES if name in parameters), None)


def unusual_caches(model: Any) -> list[str]:
    """Return the kinds of cache of a causal model's layers that do not keep keys and values of a whole prefix.

    Sliding windows and recurrent states are such.
    """
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    kinds = {type(layer) for layer in DynamicCache(config=model.config).layers} - {DynamicLayer}
    return sorted(kind.__name__ for kind in kinds)


def token_embedding(model: Any) -> Any:
    """Return the table of token embeddings; None where there is none."""
    find = getattr(model, "get_input_embeddings", None)
    try:
        return find() if callable(find) else None
    except (AttributeError, NotImplementedError):  # a model of several towers, or none of transformers' own
        return None


def number_of_positions(model: Any) -> int | None:
    """Return how many tokens there are positions for; None where positions need no table.

    The table of positions is looked for beside the table of token embeddings.
    """
    weight = getattr(token_embedding(model), "weight", None)
    if weight is None or not isinstance(model, nn.Module):
        return None
    for parent in model.modules():
        if not any(getattr(child, "weight", None) is weight for child in parent.children()):
            continue
        for table in (getattr(parent, name, None) for name in _POSITION_TABLES):
            if isinstance(table, nn.Embedding):
                # RoBERTa's positions begin behind the padding's index, Bart's at 2.
                first = getattr(table, "offset", 0 if table.padding_idx is None else table.padding_idx + 1)
                return int(table.num_embeddings - first)
    return None


def number_of_token_types(model: Any) -> int | None:
    """Return the size of the table of token types, such as first and second text; None where there is none."""
    if not isinstance(model, nn.Module):
        return None
    for name, module in model.named_modules():
        if name.endswith("token_type_embeddings") and isinstance(module, nn.Embedding):
            return int(module.num_embeddings)
    return None


def first_position(model: Any) -> int:
    """Return the position of a text's first token: 0, or one behind the padding's index (RoBERTa)."""
    base = getattr(without_adapter(model), "base_model", None)
    padding = getattr(getattr(base, "embeddings", None), "padding_idx", None)
    return 0 if padding is None else int(padding) + 1


def position_ids_of(ids: Tensor, padding: int) -> Tensor:
    """Return the positions that RoBERTa and its kind derive from token ids: padding has none and is not counted.

    Args:
        ids: Token ids ``[R, T]``.
        padding: The id of the padding token.

    Returns:
        int64 ``[R, T]``.

    Example:
        >>> import torch
        >>> position_ids_of(torch.tensor([[5, 6, 1]]), 1)
        tensor([[2, 3, 1]])
    """
    real = (ids != padding).long()
    return real.cumsum(1) * real + padding
