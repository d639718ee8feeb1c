"""Players of a prompt: words of a text or of a chat's messages, or the features of a Captum ``InterpretableInput``.

A chat's template is background: its tokens are there in every masked copy. Whoever wants only some words as players
says which; what is not a player stays visible.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

from captum_lkn._common.arguments import checked
from captum_lkn._common.checks import check_text, is_whole
from captum_lkn.players.chats import rendered_chat
from captum_lkn.players.choice import choose_words
from captum_lkn.players.interpretable import template_players, token_players
from captum_lkn.players.players import Players, players_from_mask
from captum_lkn.players.text import owners_of, warn_of_slow
from captum_lkn.players.tokens import absent_token, name_of, prompt_slice, tokenizer_of
from captum_lkn.players.units import Region, Span, Units, checked_units, units_of

if TYPE_CHECKING:
    from captum.attr import InterpretableInput
    from transformers import PreTrainedTokenizerBase

__all__ = ["prompt_players"]

Messages: TypeAlias = Sequence[Mapping[str, str]]


@checked("chat_template", "device", "prompt", "roles")
def prompt_players(
    tokenizer: PreTrainedTokenizerBase,
    prompt: str | Messages | InterpretableInput,
    *,
    units: Units = "words",
    words: Collection[str | int] | None = None,
    stop_words: Iterable[str] | bool | None = None,
    punctuation: bool = True,
    baseline: str | int | None = None,
    roles: Collection[str] = ("user",),
    chat_template: str | None = None,
    max_length: int | None = None,
    device: torch.device | str = "cpu",
) -> Players:
    """Make players of a prompt for a causal language model.

    Tokenizers of causal models have no mask token: name with `baseline` the token that replaces absent words. An end
    token that the tokenizer adds behind a text is left out, since the text is to be continued. An opening token is
    there once, also if the text begins with it.

    Args:
        tokenizer: The model's tokenizer, or a pipeline that has one.
        prompt: The text that the model continues. A str: its words are players, as in
            :func:`~captum_lkn.players.text.text_players`. A list of messages ``{"role": ..., "content": ...}``: the
            words of the messages of the given `roles`; the template ends where the assistant answers. Captum's
            ``TextTokenInput``: its tokens, but for its `skip_tokens`. Captum's ``TextTemplateInput``: its values,
            which its baselines replace, word for word; where a baseline is shorter, the text closes up.
        units: The parts that are players, as in `text_players`; of a chat, spans are given in the messages of the given
            `roles`, for several messages one list each.
        words: Only these words are players; by name, or by number among the words of the given `roles`.
        stop_words: Words that are not players; True for :data:`~captum_lkn.players.choice.STOP_WORDS`.
        punctuation: Whether punctuation is a player.
        baseline: The token that replaces those of absent words. None: the mask token, else with a warning another.
        roles: The roles whose messages can be masked.
        chat_template: For a tokenizer without one, or in place of its own.
        max_length: The most tokens that the prompt may have. None: the tokenizer's `model_max_length`.
        device: The device of the tensors; the model's inputs are moved to its own.

    Returns:
        Players of one prompt; what is masked is ``input_ids``, of a ``TextTemplateInput`` also ``attention_mask``.

    Raises:
        TypeError: If something is of the wrong type.
        ValueError: As `text_players`; if the tokenizer has no chat template, no message has one of the roles, the
            template changes a message, or the values of a ``TextTemplateInput`` and the text around them share tokens.

    Example:
        >>> from captum.attr import TextTemplateInput
        >>> from tokenizers import Tokenizer, models, pre_tokenizers
        >>> from transformers import PreTrainedTokenizerFast
        >>> vocabulary = {"[UNK]": 0, "a": 1, "good": 2, "bad": 3, "film": 4, "is": 5}
        >>> tiny = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
        >>> tiny.pre_tokenizer = pre_tokenizers.Whitespace()
        >>> tokenizer = PreTrainedTokenizerFast(tokenizer_object=tiny, unk_token="[UNK]")
        >>> template = TextTemplateInput("a {} film is {}", ["good", "good"], ["", "bad"])
        >>> prompt_players(tokenizer, template).masked(0, torch.tensor([[False, True], [True, False]]))
        (tensor([[1, 0, 4, 5, 2],
                [1, 2, 4, 5, 3]]), tensor([[1, 0, 1, 1, 1],
                [1, 1, 1, 1, 1]]))
    """
    from captum.attr import InterpretableInput, TextTemplateInput, TextTokenInput

    tokenizer = tokenizer_of(tokenizer)
    choice: dict[str, Any] = {"words": words, "stop_words": stop_words, "punctuation": punctuation}
    if isinstance(prompt, InterpretableInput):
        defaults = {"units": "words", "words": None, "stop_words": None, "punctuation": True, "baseline": None}
        given = choice | {"units": units, "baseline": baseline}
        same = {name: type(given[name]) is type(value) and given[name] == value for name, value in defaults.items()}
        extra = [name for name in defaults if not same[name]]
        if extra:
            raise ValueError(f"a {type(prompt).__name__} defines its own features. Leave out {', '.join(extra)}")
        if isinstance(prompt, TextTokenInput):
            return token_players(prompt, device)
        if isinstance(prompt, TextTemplateInput):
            return template_players(tokenizer, prompt, device)
        raise TypeError(f"of Captum's inputs, prompt can be a TextTokenInput or a TextTemplateInput; got {prompt!r}")
    contents: tuple[str, ...]
    if isinstance(prompt, str):
        if not prompt.strip():
            raise ValueError(f"prompt must have a word in it; got {prompt!r}")
        check_text("prompt", prompt)
        text, regions, contents = prompt, [Region(0, 0, len(prompt))], (prompt,)
    else:
        text, regions, contents = rendered_chat(tokenizer, prompt, roles, chat_template)
        if not tokenizer.is_fast:
            raise ValueError(f"{type(tokenizer).__name__} returns no offsets, which chats need. Give a fast tokenizer")
    warn_of_slow(tokenizer, units)
    checked = checked_units(units, [contents])
    encoding = tokenizer(
        [text],
        add_special_tokens=isinstance(prompt, str),  # a chat's template writes its own
        return_special_tokens_mask=True,
        **({"return_offsets_mapping": True} if tokenizer.is_fast else {}),
    )
    prompted = prompt_slice(tokenizer, encoding)
    ids = torch.tensor(encoding["input_ids"], device=device)[:, prompted]
    _check_length(ids.shape[1], tokenizer.model_max_length if max_length is None else max_length)
    parts = checked if isinstance(checked, str) else _in_regions(checked[0], text, regions, contents)
    kept = choose_words([units_of(tokenizer, encoding, 0, (text,), parts, regions)], [contents], **choice)
    token = absent_token(tokenizer, baseline)
    players = players_from_mask(
        {"input_ids": ids, "attention_mask": torch.ones_like(ids)},  # no token_type_ids: GPT-2 would add an embedding
        token.id,
        owners_of(kept, len(encoding["input_ids"][0]))[:, prompted],
        [[unit.label for unit in kept[0]]],
    )
    return replace(
        players,
        description={
            "players": checked if isinstance(checked, str) else "spans",
            "texts": [text],
            "baseline": token.name,
            "tokenizer": name_of(tokenizer),
        },
    )


def _in_regions(
    spans: Sequence[tuple[int, Span]], text: str, regions: Sequence[Region], contents: Sequence[str]
) -> list[tuple[int, Span]]:
    """Move spans of messages as they were given to the messages as the template shows them, perhaps stripped."""
    skipped = [given.find(text[start:end]) for given, (_, start, end) in zip(contents, regions, strict=True)]
    return [(number, (max(a - skipped[number], 0), max(b - skipped[number], 0))) for number, (a, b) in spans]


def _check_length(length: int, limit: Any) -> None:
    if not is_whole(limit):
        raise TypeError(f"max_length must be a number of tokens, an int; got {limit!r}")
    if length > limit:
        raise ValueError(f"the prompt has {length} tokens, the limit is {limit}. Shorten it, or raise max_length=")
